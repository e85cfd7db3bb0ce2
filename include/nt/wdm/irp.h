/* SPDX-License-Identifier: MIT */
/*
 * I/O request packets. One thread has an IRP at a time: the one whose driver holds it. Misuse that
 * is noticed: completing twice or with STATUS_PENDING, completing with a cancel routine set, more
 * drivers than stack locations.
 *
 * DISPATCH_LEVEL at most unless it says otherwise.
 */
#ifndef NT_WDM_IRP_H
#define NT_WDM_IRP_H

#include "../ntdef.h"
#include "interlocked.h"
#include "io.h"
#include "ke.h"

NT_EXTERN_C_BEGIN

typedef struct _IO_STATUS_BLOCK {
	__extension__ union {
		NTSTATUS Status;
		PVOID Pointer;
	};
	ULONG_PTR Information;
} IO_STATUS_BLOCK, *PIO_STATUS_BLOCK;

typedef NTSTATUS IO_COMPLETION_ROUTINE(PDEVICE_OBJECT device, PIRP irp, PVOID context);
typedef IO_COMPLETION_ROUTINE *PIO_COMPLETION_ROUTINE;

/* What a completion routine returns. */
typedef enum _IO_COMPLETION_ROUTINE_RESULT {
	ContinueCompletion = STATUS_SUCCESS,
	StopCompletion = STATUS_MORE_PROCESSING_REQUIRED
} IO_COMPLETION_ROUTINE_RESULT;
#define STATUS_CONTINUE_COMPLETION STATUS_SUCCESS

/* ---- plug and play --------------------------------------------------------------------------- */

#define IRP_MN_START_DEVICE 0x00
#define IRP_MN_QUERY_REMOVE_DEVICE 0x01
#define IRP_MN_REMOVE_DEVICE 0x02
#define IRP_MN_CANCEL_REMOVE_DEVICE 0x03
#define IRP_MN_STOP_DEVICE 0x04
#define IRP_MN_QUERY_STOP_DEVICE 0x05
#define IRP_MN_CANCEL_STOP_DEVICE 0x06
#define IRP_MN_QUERY_DEVICE_RELATIONS 0x07
#define IRP_MN_QUERY_INTERFACE 0x08
#define IRP_MN_QUERY_CAPABILITIES 0x09
#define IRP_MN_QUERY_RESOURCES 0x0A
#define IRP_MN_QUERY_RESOURCE_REQUIREMENTS 0x0B
#define IRP_MN_QUERY_DEVICE_TEXT 0x0C
#define IRP_MN_FILTER_RESOURCE_REQUIREMENTS 0x0D
#define IRP_MN_READ_CONFIG 0x0F
#define IRP_MN_WRITE_CONFIG 0x10
#define IRP_MN_EJECT 0x11
#define IRP_MN_SET_LOCK 0x12
#define IRP_MN_QUERY_ID 0x13
#define IRP_MN_QUERY_PNP_DEVICE_STATE 0x14
#define IRP_MN_QUERY_BUS_INFORMATION 0x15
#define IRP_MN_DEVICE_USAGE_NOTIFICATION 0x16
#define IRP_MN_SURPRISE_REMOVAL 0x17
#define IRP_MN_DEVICE_ENUMERATED 0x19
#define IRP_MN_WAIT_WAKE 0x00
#define IRP_MN_POWER_SEQUENCE 0x01
#define IRP_MN_SET_POWER 0x02
#define IRP_MN_QUERY_POWER 0x03

#define PNP_DEVICE_DISABLED 0x00000001
#define PNP_DEVICE_DONT_DISPLAY_IN_UI 0x00000002
#define PNP_DEVICE_FAILED 0x00000004
#define PNP_DEVICE_REMOVED 0x00000008
typedef ULONG PNP_DEVICE_STATE, *PPNP_DEVICE_STATE;

typedef enum _BUS_QUERY_ID_TYPE {
	BusQueryDeviceID = 0,
	BusQueryHardwareIDs = 1,
	BusQueryCompatibleIDs = 2,
	BusQueryInstanceID = 3,
	BusQueryDeviceSerialNumber = 4,
	BusQueryContainerID = 5
} BUS_QUERY_ID_TYPE, *PBUS_QUERY_ID_TYPE;

struct _CM_RESOURCE_LIST;
struct _DEVICE_CAPABILITIES;
struct _IO_SECURITY_CONTEXT;

/* ---- the packet ------------------------------------------------------------------------------ */

#define SL_PENDING_RETURNED 0x01
#define SL_INVOKE_ON_CANCEL 0x20
#define SL_INVOKE_ON_SUCCESS 0x40
#define SL_INVOKE_ON_ERROR 0x80

#define NT_POINTER_ALIGNMENT DECLSPEC_ALIGN(8)

typedef struct _IO_STACK_LOCATION {
	UCHAR MajorFunction;
	UCHAR MinorFunction;
	UCHAR Flags;
	UCHAR Control;
	union {
		struct {
			struct _IO_SECURITY_CONTEXT *SecurityContext;
			ULONG Options;
			NT_POINTER_ALIGNMENT USHORT FileAttributes;
			USHORT ShareAccess;
			NT_POINTER_ALIGNMENT ULONG EaLength;
		} Create;
		struct {
			ULONG Length;
			NT_POINTER_ALIGNMENT ULONG Key;
			ULONG Flags;
			LARGE_INTEGER ByteOffset;
		} Read;
		struct {
			ULONG Length;
			NT_POINTER_ALIGNMENT ULONG Key;
			ULONG Flags;
			LARGE_INTEGER ByteOffset;
		} Write;
		struct {
			ULONG OutputBufferLength;
			NT_POINTER_ALIGNMENT ULONG InputBufferLength;
			NT_POINTER_ALIGNMENT ULONG IoControlCode;
			PVOID Type3InputBuffer;
		} DeviceIoControl;
		struct {
			DEVICE_RELATION_TYPE Type;
		} QueryDeviceRelations;
		struct {
			CONST GUID *InterfaceType;
			USHORT Size;
			USHORT Version;
			PINTERFACE Interface;
			PVOID InterfaceSpecificData;
		} QueryInterface;
		struct {
			struct _DEVICE_CAPABILITIES *Capabilities;
		} DeviceCapabilities;
		struct {
			BUS_QUERY_ID_TYPE IdType;
		} QueryId;
		struct {
			struct _CM_RESOURCE_LIST *AllocatedResources;
			struct _CM_RESOURCE_LIST *AllocatedResourcesTranslated;
		} StartDevice;
		struct {
			PVOID Argument1;
			PVOID Argument2;
			PVOID Argument3;
			PVOID Argument4;
		} Others;
	} Parameters;
	PDEVICE_OBJECT DeviceObject;
	PFILE_OBJECT FileObject;
	PIO_COMPLETION_ROUTINE CompletionRoutine;
	PVOID Context;
} IO_STACK_LOCATION, *PIO_STACK_LOCATION;
NT_STATIC_ASSERT(sizeof(IO_STACK_LOCATION) == 72, "IO_STACK_LOCATION");

#define IRP_NOCACHE 0x00000001
#define IRP_SYNCHRONOUS_API 0x00000004
#define IRP_BUFFERED_IO 0x00000010
#define IRP_DEALLOCATE_BUFFER 0x00000020
#define IRP_INPUT_OPERATION 0x00000040
#define IRP_CREATE_OPERATION 0x00000080
#define IRP_READ_OPERATION 0x00000100
#define IRP_WRITE_OPERATION 0x00000200
#define IRP_CLOSE_OPERATION 0x00000400

struct _IRP {
	CSHORT Type;
	USHORT Size;
	PMDL MdlAddress;
	ULONG Flags;
	union {
		PIRP MasterIrp;
		volatile LONG IrpCount;
		PVOID SystemBuffer;
	} AssociatedIrp;
	LIST_ENTRY ThreadListEntry;
	IO_STATUS_BLOCK IoStatus;
	KPROCESSOR_MODE RequestorMode;
	BOOLEAN PendingReturned;
	CHAR StackCount;
	CHAR CurrentLocation;
	BOOLEAN Cancel;
	KIRQL CancelIrql;
	CCHAR ApcEnvironment;
	UCHAR AllocationFlags;
	PIO_STATUS_BLOCK UserIosb;
	PKEVENT UserEvent;
	union {
		struct {
			PVOID UserApcRoutine;
			PVOID UserApcContext;
		} AsynchronousParameters;
		LARGE_INTEGER AllocationSize;
	} Overlay;
	PDRIVER_CANCEL CancelRoutine;
	PVOID UserBuffer;
	union {
		struct {
			PVOID DriverContext[4]; /* of the driver that holds the IRP */
			PETHREAD Thread;
			PCHAR AuxiliaryBuffer;
			LIST_ENTRY ListEntry;   /* of the driver that holds the IRP */
			__extension__ union {
				PIO_STACK_LOCATION CurrentStackLocation;
				ULONG PacketType;
			};
			PFILE_OBJECT OriginalFileObject;
		} Overlay;
		PVOID CompletionKey;
	} Tail;
};
NT_STATIC_ASSERT(offsetof(IRP, Tail) == 120, "IRP");

/* ---- making and freeing ---------------------------------------------------------------------- */

/* NULL without memory or for a stack size below 1. */
NTKERNELAPI PIRP IoAllocateIrp(CCHAR stack_size, BOOLEAN charge_quota);
NTKERNELAPI VOID IoFreeIrp(PIRP irp);
/* For memory of the driver's own, IoSizeOfIrp(n) bytes. */
#define IoSizeOfIrp(stack_size) \
	((USHORT)(sizeof(IRP) + (size_t)(stack_size) * sizeof(IO_STACK_LOCATION)))
NTKERNELAPI VOID IoInitializeIrp(PIRP irp, USHORT packet_bytes, CCHAR stack_size);
/* As new, with this status. */
NTKERNELAPI VOID IoReuseIrp(PIRP irp, NTSTATUS status);

/*
 * A device control to `device`, buffers described as the control code's method says. The I/O
 * manager frees the IRP when it completes, writes *io_status and then sets `event`. PASSIVE. NULL
 * without memory.
 */
NTKERNELAPI PIRP IoBuildDeviceIoControlRequest(ULONG code, PDEVICE_OBJECT device, PVOID input,
					       ULONG input_bytes, PVOID output, ULONG output_bytes,
					       BOOLEAN internal, PKEVENT event,
					       PIO_STATUS_BLOCK io_status);
/*
 * The same for IRP_MJ_READ, _WRITE, _FLUSH_BUFFERS, _SHUTDOWN and _PNP; buffers as DO_BUFFERED_IO
 * and DO_DIRECT_IO of the device say.
 */
NTKERNELAPI PIRP IoBuildSynchronousFsdRequest(ULONG major, PDEVICE_OBJECT device, PVOID buffer,
					      ULONG bytes, PLARGE_INTEGER offset, PKEVENT event,
					      PIO_STATUS_BLOCK io_status);

/* ---- the stack ------------------------------------------------------------------------------- */

FORCEINLINE PIO_STACK_LOCATION
IoGetCurrentIrpStackLocation(PIRP irp)
{
	return irp->Tail.Overlay.CurrentStackLocation;
}

FORCEINLINE PIO_STACK_LOCATION
IoGetNextIrpStackLocation(PIRP irp)
{
	return irp->Tail.Overlay.CurrentStackLocation - 1;
}

FORCEINLINE VOID
IoSkipCurrentIrpStackLocation(PIRP irp)
{
	irp->CurrentLocation++;
	irp->Tail.Overlay.CurrentStackLocation++;
}

FORCEINLINE VOID
IoSetNextIrpStackLocation(PIRP irp)
{
	irp->CurrentLocation--;
	irp->Tail.Overlay.CurrentStackLocation--;
}

/* All but the completion routine. */
FORCEINLINE VOID
IoCopyCurrentIrpStackLocationToNext(PIRP irp)
{
	PIO_STACK_LOCATION next = IoGetNextIrpStackLocation(irp);

	memcpy(next, IoGetCurrentIrpStackLocation(irp),
	       offsetof(IO_STACK_LOCATION, CompletionRoutine));
	next->Control = 0;
}

FORCEINLINE VOID
IoSetCompletionRoutine(PIRP irp, PIO_COMPLETION_ROUTINE routine, PVOID context,
		       BOOLEAN on_success, BOOLEAN on_error, BOOLEAN on_cancel)
{
	PIO_STACK_LOCATION next = IoGetNextIrpStackLocation(irp);

	next->CompletionRoutine = routine;
	next->Context = context;
	next->Control = (UCHAR)((on_success ? SL_INVOKE_ON_SUCCESS : 0) |
				(on_error ? SL_INVOKE_ON_ERROR : 0) |
				(on_cancel ? SL_INVOKE_ON_CANCEL : 0));
}

/* The same, and `device` stays until the routine has returned. STATUS_INSUFFICIENT_RESOURCES. */
NTKERNELAPI NTSTATUS IoSetCompletionRoutineEx(PDEVICE_OBJECT device, PIRP irp,
					      PIO_COMPLETION_ROUTINE routine, PVOID context,
					      BOOLEAN on_success, BOOLEAN on_error,
					      BOOLEAN on_cancel);

FORCEINLINE VOID
IoMarkIrpPending(PIRP irp)
{
	IoGetCurrentIrpStackLocation(irp)->Control |= SL_PENDING_RETURNED;
}

/* ---- sending and completing ------------------------------------------------------------------ */

/*
 * The next stack location goes to `device`, whose dispatch routine's status is returned. The IRP is
 * not the caller's any more.
 */
NTKERNELAPI NTSTATUS IofCallDriver(PDEVICE_OBJECT device, PIRP irp);
#define IoCallDriver(device, irp) IofCallDriver(device, irp)
#define PoCallDriver(device, irp) IofCallDriver(device, irp)
#define PoStartNextPowerIrp(irp) ((void)(irp))
/* IoStatus is set. Completion routines of the drivers above run inside this call. */
NTKERNELAPI VOID IofCompleteRequest(PIRP irp, CCHAR boost);
#define IoCompleteRequest(irp, boost) IofCompleteRequest(irp, boost)
/*
 * Send to the lower device with the same parameters and wait; the caller completes it then. FALSE:
 * no stack location left. PASSIVE.
 */
NTKERNELAPI BOOLEAN IoForwardIrpSynchronously(PDEVICE_OBJECT device, PIRP irp);

/* ---- cancellation ---------------------------------------------------------------------------- */

/* The previous routine; NULL where it has been or is about to be called. */
FORCEINLINE PDRIVER_CANCEL
IoSetCancelRoutine(PIRP irp, PDRIVER_CANCEL routine)
{
	return __atomic_exchange_n(&irp->CancelRoutine, routine, __ATOMIC_SEQ_CST);
}

/* TRUE: a cancel routine was called. The IRP must not be completed and freed during the call. */
NTKERNELAPI BOOLEAN IoCancelIrp(PIRP irp);
/* A cancel routine is entered with this lock held and releases it with the IRP's CancelIrql. */
NTKERNELAPI VOID IoAcquireCancelSpinLock(PKIRQL irql);
NTKERNELAPI VOID IoReleaseCancelSpinLock(KIRQL irql);

NT_EXTERN_C_END

#endif
