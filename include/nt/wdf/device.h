/* SPDX-License-Identifier: MIT */
/*
 * Devices. A function device sits on the bus's device and follows it; a control device stands alone.
 *
 * Order of a function device's callbacks, all at PASSIVE_LEVEL and one at a time: start:
 * PrepareHardware, D0Entry, D0EntryPostInterruptsEnabled, SelfManagedIoInit; then power-managed
 * queues deliver. End: SurpriseRemoval if the bus withdrew it, SelfManagedIoSuspend, queues stop,
 * D0ExitPreInterruptsDisabled, D0Exit, ReleaseHardware, SelfManagedIoFlush, SelfManagedIoCleanup,
 * deletion. A callback that fails during start undoes what was done, and the device is removed.
 */
#ifndef NT_WDF_DEVICE_H
#define NT_WDF_DEVICE_H

#include "driver.h"

NT_EXTERN_C_BEGIN

typedef enum _WDF_POWER_DEVICE_STATE {
	WdfPowerDeviceInvalid = 0,
	WdfPowerDeviceD0,
	WdfPowerDeviceD1,
	WdfPowerDeviceD2,
	WdfPowerDeviceD3,
	WdfPowerDeviceD3Final,          /* off, and not back */
	WdfPowerDevicePrepareForHibernation,
	WdfPowerDeviceMaximum
} WDF_POWER_DEVICE_STATE, *PWDF_POWER_DEVICE_STATE;

typedef enum _WDF_DEVICE_IO_TYPE {
	WdfDeviceIoUndefined = 0,
	WdfDeviceIoNeither,
	WdfDeviceIoBuffered,
	WdfDeviceIoDirect,
	WdfDeviceIoBufferedOrDirect,
	WdfDeviceIoMaximum
} WDF_DEVICE_IO_TYPE, *PWDF_DEVICE_IO_TYPE;

typedef NTSTATUS EVT_WDF_DEVICE_PREPARE_HARDWARE(WDFDEVICE Device, WDFCMRESLIST ResourcesRaw,
						 WDFCMRESLIST ResourcesTranslated);
typedef EVT_WDF_DEVICE_PREPARE_HARDWARE *PFN_WDF_DEVICE_PREPARE_HARDWARE;
typedef NTSTATUS EVT_WDF_DEVICE_RELEASE_HARDWARE(WDFDEVICE Device,
						 WDFCMRESLIST ResourcesTranslated);
typedef EVT_WDF_DEVICE_RELEASE_HARDWARE *PFN_WDF_DEVICE_RELEASE_HARDWARE;
typedef NTSTATUS EVT_WDF_DEVICE_D0_ENTRY(WDFDEVICE Device, WDF_POWER_DEVICE_STATE PreviousState);
typedef EVT_WDF_DEVICE_D0_ENTRY *PFN_WDF_DEVICE_D0_ENTRY;
typedef NTSTATUS EVT_WDF_DEVICE_D0_ENTRY_POST_INTERRUPTS_ENABLED(
	WDFDEVICE Device, WDF_POWER_DEVICE_STATE PreviousState);
typedef EVT_WDF_DEVICE_D0_ENTRY_POST_INTERRUPTS_ENABLED
	*PFN_WDF_DEVICE_D0_ENTRY_POST_INTERRUPTS_ENABLED;
typedef NTSTATUS EVT_WDF_DEVICE_D0_EXIT(WDFDEVICE Device, WDF_POWER_DEVICE_STATE TargetState);
typedef EVT_WDF_DEVICE_D0_EXIT *PFN_WDF_DEVICE_D0_EXIT;
typedef NTSTATUS EVT_WDF_DEVICE_D0_EXIT_PRE_INTERRUPTS_DISABLED(WDFDEVICE Device,
								WDF_POWER_DEVICE_STATE TargetState);
typedef EVT_WDF_DEVICE_D0_EXIT_PRE_INTERRUPTS_DISABLED
	*PFN_WDF_DEVICE_D0_EXIT_PRE_INTERRUPTS_DISABLED;
typedef NTSTATUS EVT_WDF_DEVICE_SELF_MANAGED_IO_INIT(WDFDEVICE Device);
typedef EVT_WDF_DEVICE_SELF_MANAGED_IO_INIT *PFN_WDF_DEVICE_SELF_MANAGED_IO_INIT;
typedef NTSTATUS EVT_WDF_DEVICE_SELF_MANAGED_IO_SUSPEND(WDFDEVICE Device);
typedef EVT_WDF_DEVICE_SELF_MANAGED_IO_SUSPEND *PFN_WDF_DEVICE_SELF_MANAGED_IO_SUSPEND;
typedef NTSTATUS EVT_WDF_DEVICE_SELF_MANAGED_IO_RESTART(WDFDEVICE Device);
typedef EVT_WDF_DEVICE_SELF_MANAGED_IO_RESTART *PFN_WDF_DEVICE_SELF_MANAGED_IO_RESTART;
typedef VOID EVT_WDF_DEVICE_SELF_MANAGED_IO_FLUSH(WDFDEVICE Device);
typedef EVT_WDF_DEVICE_SELF_MANAGED_IO_FLUSH *PFN_WDF_DEVICE_SELF_MANAGED_IO_FLUSH;
typedef VOID EVT_WDF_DEVICE_SELF_MANAGED_IO_CLEANUP(WDFDEVICE Device);
typedef EVT_WDF_DEVICE_SELF_MANAGED_IO_CLEANUP *PFN_WDF_DEVICE_SELF_MANAGED_IO_CLEANUP;
typedef VOID EVT_WDF_DEVICE_SURPRISE_REMOVAL(WDFDEVICE Device);
typedef EVT_WDF_DEVICE_SURPRISE_REMOVAL *PFN_WDF_DEVICE_SURPRISE_REMOVAL;
/* Asked before an orderly removal. A failure status makes it one by surprise. */
typedef NTSTATUS EVT_WDF_DEVICE_QUERY_REMOVE(WDFDEVICE Device);
typedef EVT_WDF_DEVICE_QUERY_REMOVE *PFN_WDF_DEVICE_QUERY_REMOVE;
typedef NTSTATUS EVT_WDF_DEVICE_QUERY_STOP(WDFDEVICE Device);
typedef EVT_WDF_DEVICE_QUERY_STOP *PFN_WDF_DEVICE_QUERY_STOP;

/* All optional. Restart and QueryStop are never called: a device is started once. */
typedef struct _WDF_PNPPOWER_EVENT_CALLBACKS {
	ULONG Size;
	PFN_WDF_DEVICE_D0_ENTRY EvtDeviceD0Entry;
	PFN_WDF_DEVICE_D0_ENTRY_POST_INTERRUPTS_ENABLED EvtDeviceD0EntryPostInterruptsEnabled;
	PFN_WDF_DEVICE_D0_EXIT EvtDeviceD0Exit;
	PFN_WDF_DEVICE_D0_EXIT_PRE_INTERRUPTS_DISABLED EvtDeviceD0ExitPreInterruptsDisabled;
	PFN_WDF_DEVICE_PREPARE_HARDWARE EvtDevicePrepareHardware;
	PFN_WDF_DEVICE_RELEASE_HARDWARE EvtDeviceReleaseHardware;
	PFN_WDF_DEVICE_SELF_MANAGED_IO_CLEANUP EvtDeviceSelfManagedIoCleanup;
	PFN_WDF_DEVICE_SELF_MANAGED_IO_FLUSH EvtDeviceSelfManagedIoFlush;
	PFN_WDF_DEVICE_SELF_MANAGED_IO_INIT EvtDeviceSelfManagedIoInit;
	PFN_WDF_DEVICE_SELF_MANAGED_IO_SUSPEND EvtDeviceSelfManagedIoSuspend;
	PFN_WDF_DEVICE_SELF_MANAGED_IO_RESTART EvtDeviceSelfManagedIoRestart;
	PFN_WDF_DEVICE_SURPRISE_REMOVAL EvtDeviceSurpriseRemoval;
	PFN_WDF_DEVICE_QUERY_REMOVE EvtDeviceQueryRemove;
	PFN_WDF_DEVICE_QUERY_STOP EvtDeviceQueryStop;
} WDF_PNPPOWER_EVENT_CALLBACKS, *PWDF_PNPPOWER_EVENT_CALLBACKS;

FORCEINLINE VOID
WDF_PNPPOWER_EVENT_CALLBACKS_INIT(PWDF_PNPPOWER_EVENT_CALLBACKS Callbacks)
{
	RtlZeroMemory(Callbacks, sizeof(*Callbacks));
	Callbacks->Size = (ULONG)sizeof(*Callbacks);
}

/* ---- files ----------------------------------------------------------------------------------- */

/* Somebody opens the device: complete Request with the result, or keep it for later. */
typedef VOID EVT_WDF_DEVICE_FILE_CREATE(WDFDEVICE Device, WDFREQUEST Request,
					WDFFILEOBJECT FileObject);
typedef EVT_WDF_DEVICE_FILE_CREATE *PFN_WDF_DEVICE_FILE_CREATE;
/* The last handle is closed; requests of the file may still be there. */
typedef VOID EVT_WDF_FILE_CLEANUP(WDFFILEOBJECT FileObject);
typedef EVT_WDF_FILE_CLEANUP *PFN_WDF_FILE_CLEANUP;
/* No request of the file is left. */
typedef VOID EVT_WDF_FILE_CLOSE(WDFFILEOBJECT FileObject);
typedef EVT_WDF_FILE_CLOSE *PFN_WDF_FILE_CLOSE;

typedef enum _WDF_FILEOBJECT_CLASS {
	WdfFileObjectInvalid = 0,
	WdfFileObjectNotRequired,
	WdfFileObjectWdfCanUseFsContext,
	WdfFileObjectWdfCanUseFsContext2,
	WdfFileObjectWdfCannotUseFsContexts
} WDF_FILEOBJECT_CLASS, *PWDF_FILEOBJECT_CLASS;

typedef struct _WDF_FILEOBJECT_CONFIG {
	ULONG Size;
	PFN_WDF_DEVICE_FILE_CREATE EvtDeviceFileCreate;
	PFN_WDF_FILE_CLOSE EvtFileClose;
	PFN_WDF_FILE_CLEANUP EvtFileCleanup;
	WDF_TRI_STATE AutoForwardCleanupClose;
	WDF_FILEOBJECT_CLASS FileObjectClass;
} WDF_FILEOBJECT_CONFIG, *PWDF_FILEOBJECT_CONFIG;

FORCEINLINE VOID
WDF_FILEOBJECT_CONFIG_INIT(PWDF_FILEOBJECT_CONFIG Config,
			   PFN_WDF_DEVICE_FILE_CREATE EvtDeviceFileCreate,
			   PFN_WDF_FILE_CLOSE EvtFileClose, PFN_WDF_FILE_CLEANUP EvtFileCleanup)
{
	RtlZeroMemory(Config, sizeof(*Config));
	Config->Size = (ULONG)sizeof(*Config);
	Config->EvtDeviceFileCreate = EvtDeviceFileCreate;
	Config->EvtFileClose = EvtFileClose;
	Config->EvtFileCleanup = EvtFileCleanup;
	Config->AutoForwardCleanupClose = WdfUseDefault;
	Config->FileObjectClass = WdfFileObjectWdfCannotUseFsContexts;
}

NTKERNELAPI WDFDEVICE WdfFileObjectGetDevice(WDFFILEOBJECT FileObject);
NTKERNELAPI PFILE_OBJECT WdfFileObjectWdmGetFileObject(WDFFILEOBJECT FileObject);
/* What follows the device's name; empty if nothing does. */
NTKERNELAPI PUNICODE_STRING WdfFileObjectGetFileName(WDFFILEOBJECT FileObject);

/* ---- before creation ------------------------------------------------------------------------- */

/* A DeviceInit that WdfDeviceCreate consumed is misuse from then on. */
NTKERNELAPI VOID WdfDeviceInitSetPnpPowerEventCallbacks(PWDFDEVICE_INIT DeviceInit,
							PWDF_PNPPOWER_EVENT_CALLBACKS Callbacks);
NTKERNELAPI VOID WdfDeviceInitSetFileObjectConfig(PWDFDEVICE_INIT DeviceInit,
						  PWDF_FILEOBJECT_CONFIG FileObjectConfig,
						  PWDF_OBJECT_ATTRIBUTES FileObjectAttributes);
/* Contexts and callbacks of the requests that queues of the device get. ParentObject must be NULL. */
NTKERNELAPI VOID WdfDeviceInitSetRequestAttributes(PWDFDEVICE_INIT DeviceInit,
						   PWDF_OBJECT_ATTRIBUTES RequestAttributes);
/*
 * Buffers of read and write requests. Device controls follow their control code. Default: Buffered.
 */
NTKERNELAPI VOID WdfDeviceInitSetIoType(PWDFDEVICE_INIT DeviceInit, WDF_DEVICE_IO_TYPE IoType);
NTKERNELAPI VOID WdfDeviceInitSetDeviceType(PWDFDEVICE_INIT DeviceInit, DEVICE_TYPE DeviceType);
NTKERNELAPI VOID WdfDeviceInitSetCharacteristics(PWDFDEVICE_INIT DeviceInit,
						 ULONG DeviceCharacteristics,
						 BOOLEAN OrInValues);
/* Only one file at a time; the next opener gets STATUS_ACCESS_DENIED. */
NTKERNELAPI VOID WdfDeviceInitSetExclusive(PWDFDEVICE_INIT DeviceInit, BOOLEAN IsExclusive);
/* "\Device\Name". NULL: no name. STATUS_OBJECT_NAME_INVALID. */
NTKERNELAPI NTSTATUS WdfDeviceInitAssignName(PWDFDEVICE_INIT DeviceInit,
					     PCUNICODE_STRING DeviceName);
/*
 * Kept and checked for form ("D:P(...)"), not enforced: the socket of `kmcl run` decides who may open devices.
 * STATUS_INVALID_PARAMETER.
 */
NTKERNELAPI NTSTATUS WdfDeviceInitAssignSDDLString(PWDFDEVICE_INIT DeviceInit,
						   PCUNICODE_STRING SDDLString);
/* A filter: requests without a callback go to the next lower device. */
NTKERNELAPI VOID WdfFdoInitSetFilter(PWDFDEVICE_INIT DeviceInit);
NTKERNELAPI PDEVICE_OBJECT WdfFdoInitWdmGetPhysicalDevice(PWDFDEVICE_INIT DeviceInit);
/*
 * Control devices: allocate, configure, WdfDeviceCreate, queues, WdfControlFinishInitializing. NULL
 * without memory.
 */
NTKERNELAPI PWDFDEVICE_INIT WdfControlDeviceInitAllocate(WDFDRIVER Driver,
							 PCUNICODE_STRING SDDLString);
/* Of a DeviceInit that no device was made from. */
NTKERNELAPI VOID WdfDeviceInitFree(PWDFDEVICE_INIT DeviceInit);

/*
 * Called in the requester's context before a queue sees the request: complete it or pass it to
 * WdfDeviceEnqueueRequest.
 */
typedef VOID EVT_WDF_IO_IN_CALLER_CONTEXT(WDFDEVICE Device, WDFREQUEST Request);
typedef EVT_WDF_IO_IN_CALLER_CONTEXT *PFN_WDF_IO_IN_CALLER_CONTEXT;
NTKERNELAPI VOID WdfDeviceInitSetIoInCallerContextCallback(
	PWDFDEVICE_INIT DeviceInit, PFN_WDF_IO_IN_CALLER_CONTEXT EvtIoInCallerContext);
NTKERNELAPI NTSTATUS WdfDeviceEnqueueRequest(WDFDEVICE Device, WDFREQUEST Request);

typedef enum _WDF_DEVICE_SHUTDOWN_FLAGS {
	WdfDeviceShutdown = 0x01,
	WdfDeviceLastChanceShutdown = 0x02
} WDF_DEVICE_SHUTDOWN_FLAGS;
typedef VOID EVT_WDF_DEVICE_SHUTDOWN_NOTIFICATION(WDFDEVICE Device);
typedef EVT_WDF_DEVICE_SHUTDOWN_NOTIFICATION *PFN_WDF_DEVICE_SHUTDOWN_NOTIFICATION;
/* Called once, before the driver is unloaded because the process ends. */
NTKERNELAPI VOID WdfControlDeviceInitSetShutdownNotification(
	PWDFDEVICE_INIT DeviceInit, PFN_WDF_DEVICE_SHUTDOWN_NOTIFICATION Notification, UCHAR Flags);

/* ---- devices --------------------------------------------------------------------------------- */

/*
 * Make the device and, for a function device, attach it. Success sets *DeviceInit to NULL. A
 * failure leaves it to the caller (a control device's DeviceInit goes with WdfDeviceInitFree).
 * STATUS_OBJECT_NAME_COLLISION: the name is taken.
 */
NTKERNELAPI NTSTATUS WdfDeviceCreate(PWDFDEVICE_INIT *DeviceInit,
				     PWDF_OBJECT_ATTRIBUTES DeviceAttributes, WDFDEVICE *Device);
/* A control device accepts requests from here on. */
NTKERNELAPI VOID WdfControlFinishInitializing(WDFDEVICE Device);
/*
 * "\DosDevices\Name" or "\??\Name"; goes with the device. STATUS_OBJECT_NAME_COLLISION,
 * STATUS_INVALID_DEVICE_REQUEST: the device has no name.
 */
NTKERNELAPI NTSTATUS WdfDeviceCreateSymbolicLink(WDFDEVICE Device,
						 PCUNICODE_STRING SymbolicLinkName);
/*
 * Enabled when the device starts, disabled when it goes. Function devices only:
 * STATUS_INVALID_DEVICE_REQUEST.
 */
NTKERNELAPI NTSTATUS WdfDeviceCreateDeviceInterface(WDFDEVICE Device, const GUID *InterfaceClassGUID,
						    PCUNICODE_STRING ReferenceString);
NTKERNELAPI VOID WdfDeviceSetDeviceInterfaceState(WDFDEVICE Device, const GUID *InterfaceClassGUID,
						  PCUNICODE_STRING ReferenceString,
						  BOOLEAN IsInterfaceEnabled);
NTKERNELAPI WDFDRIVER WdfDeviceGetDriver(WDFDEVICE Device);
NTKERNELAPI PDEVICE_OBJECT WdfDeviceWdmGetDeviceObject(WDFDEVICE Device);
/* The next lower device; NULL for a control device. */
NTKERNELAPI PDEVICE_OBJECT WdfDeviceWdmGetAttachedDevice(WDFDEVICE Device);
/* The bus's device at the bottom; NULL for a control device. */
NTKERNELAPI PDEVICE_OBJECT WdfDeviceWdmGetPhysicalDevice(WDFDEVICE Device);
NTKERNELAPI WDFDEVICE WdfWdmDeviceGetWdfDeviceHandle(PDEVICE_OBJECT DeviceObject);
/* What sends to the next lower device. Belongs to the device. */
NTKERNELAPI WDFIOTARGET WdfDeviceGetIoTarget(WDFDEVICE Device);
NTKERNELAPI WDFQUEUE WdfDeviceGetDefaultQueue(WDFDEVICE Device);

typedef enum _WDF_DEVICE_FAILED_ACTION {
	WdfDeviceFailedUndefined = 0,
	WdfDeviceFailedAttemptRestart,
	WdfDeviceFailedNoRestart
} WDF_DEVICE_FAILED_ACTION;
/* The device is removed as if its bus had withdrawn it; it is not tried again. */
NTKERNELAPI VOID WdfDeviceSetFailed(WDFDEVICE Device, WDF_DEVICE_FAILED_ACTION FailedAction);

/* VMBus devices have no such resources: 0. */
NTKERNELAPI ULONG WdfCmResourceListGetCount(WDFCMRESLIST List);

/*
 * The interface query (IFQ-1): IRP_MN_QUERY_INTERFACE to the next lower device. For
 * KMCL_CLIENT_INTERFACE_TYPE and KMCL_SERVER_INTERFACE_TYPE the statuses are those of
 * KmclQueryInterface; InterfaceSpecificData is ignored. STATUS_NOT_SUPPORTED: nobody below knows
 * the type.
 */
NTKERNELAPI NTSTATUS WdfFdoQueryForInterface(WDFDEVICE Fdo, LPCGUID InterfaceType,
					     PINTERFACE Interface, USHORT Size, USHORT Version,
					     PVOID InterfaceSpecificData);

NT_EXTERN_C_END

#endif
