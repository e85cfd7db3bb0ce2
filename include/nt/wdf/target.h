/* SPDX-License-Identifier: MIT */
/* I/O targets: where a driver sends requests of its own, or passes requests on. */
#ifndef NT_WDF_TARGET_H
#define NT_WDF_TARGET_H

#include "device.h"
#include "memory.h"

NT_EXTERN_C_BEGIN

typedef enum _WDF_IO_TARGET_OPEN_TYPE {
	WdfIoTargetOpenUndefined = 0,
	WdfIoTargetOpenUseExistingDevice = 1,
	WdfIoTargetOpenByName = 2,
	WdfIoTargetOpenReopen = 3
} WDF_IO_TARGET_OPEN_TYPE;

typedef struct _WDF_IO_TARGET_OPEN_PARAMS {
	ULONG Size;
	WDF_IO_TARGET_OPEN_TYPE Type;
	PDEVICE_OBJECT TargetDeviceObject;
	PFILE_OBJECT TargetFileObject;
	UNICODE_STRING TargetDeviceName;
	ULONG DesiredAccess;
	ULONG ShareAccess;
} WDF_IO_TARGET_OPEN_PARAMS, *PWDF_IO_TARGET_OPEN_PARAMS;

FORCEINLINE VOID
WDF_IO_TARGET_OPEN_PARAMS_INIT_OPEN_BY_NAME(PWDF_IO_TARGET_OPEN_PARAMS Params,
					    PCUNICODE_STRING TargetDeviceName, ULONG DesiredAccess)
{
	RtlZeroMemory(Params, sizeof(*Params));
	Params->Size = (ULONG)sizeof(*Params);
	Params->Type = WdfIoTargetOpenByName;
	Params->TargetDeviceName = *TargetDeviceName;
	Params->DesiredAccess = DesiredAccess;
}

FORCEINLINE VOID
WDF_IO_TARGET_OPEN_PARAMS_INIT_EXISTING_DEVICE(PWDF_IO_TARGET_OPEN_PARAMS Params,
					       PDEVICE_OBJECT DeviceObject)
{
	RtlZeroMemory(Params, sizeof(*Params));
	Params->Size = (ULONG)sizeof(*Params);
	Params->Type = WdfIoTargetOpenUseExistingDevice;
	Params->TargetDeviceObject = DeviceObject;
}

/* A target beside the default one (WdfDeviceGetIoTarget); default parent: Device. */
NTKERNELAPI NTSTATUS WdfIoTargetCreate(WDFDEVICE Device, PWDF_OBJECT_ATTRIBUTES IoTargetAttributes,
				       WDFIOTARGET *IoTarget);
/* STATUS_INVALID_DEVICE_STATE: open already; by name: what IoGetDeviceObjectPointer returns. */
NTKERNELAPI NTSTATUS WdfIoTargetOpen(WDFIOTARGET IoTarget, PWDF_IO_TARGET_OPEN_PARAMS OpenParams);
/* Nothing can be sent from here on; waits for the requests that were. Deleting the target does the same. */
NTKERNELAPI VOID WdfIoTargetClose(WDFIOTARGET IoTarget);
NTKERNELAPI WDFDEVICE WdfIoTargetGetDevice(WDFIOTARGET IoTarget);
NTKERNELAPI PDEVICE_OBJECT WdfIoTargetWdmGetTargetDeviceObject(WDFIOTARGET IoTarget);
/* As WdfFdoQueryForInterface, to this target. STATUS_INVALID_DEVICE_STATE: not open. */
NTKERNELAPI NTSTATUS WdfIoTargetQueryForInterface(WDFIOTARGET IoTarget, LPCGUID InterfaceType,
						  PINTERFACE Interface, USHORT Size, USHORT Version,
						  PVOID InterfaceSpecificData);

typedef enum _WDF_REQUEST_SEND_OPTIONS_FLAGS {
	WDF_REQUEST_SEND_OPTION_TIMEOUT = 0x1,
	WDF_REQUEST_SEND_OPTION_SYNCHRONOUS = 0x2,
	WDF_REQUEST_SEND_OPTION_IGNORE_TARGET_STATE = 0x4,
	WDF_REQUEST_SEND_OPTION_SEND_AND_FORGET = 0x8
} WDF_REQUEST_SEND_OPTIONS_FLAGS;

typedef struct _WDF_REQUEST_SEND_OPTIONS {
	ULONG Size;
	ULONG Flags;
	LONGLONG Timeout;
} WDF_REQUEST_SEND_OPTIONS, *PWDF_REQUEST_SEND_OPTIONS;

FORCEINLINE VOID
WDF_REQUEST_SEND_OPTIONS_INIT(PWDF_REQUEST_SEND_OPTIONS Options, ULONG Flags)
{
	RtlZeroMemory(Options, sizeof(*Options));
	Options->Size = (ULONG)sizeof(*Options);
	Options->Flags = Flags;
}

/* In 100 ns; negative is relative. */
#define WDF_REL_TIMEOUT_IN_MS(ms) (-(LONGLONG)(ms) * 10000)
#define WDF_REL_TIMEOUT_IN_SEC(seconds) WDF_REL_TIMEOUT_IN_MS((LONGLONG)(seconds) * 1000)
FORCEINLINE VOID
WDF_REQUEST_SEND_OPTIONS_SET_TIMEOUT(PWDF_REQUEST_SEND_OPTIONS Options, LONGLONG Timeout)
{
	Options->Flags |= WDF_REQUEST_SEND_OPTION_TIMEOUT;
	Options->Timeout = Timeout;
}

/*
 * A device control of the driver's own, sent and waited for (PASSIVE). RequestOptions with a
 * timeout cancels the request when it is over: STATUS_IO_TIMEOUT. Request must be NULL.
 * BytesReturned may be NULL.
 */
NTKERNELAPI NTSTATUS WdfIoTargetSendIoctlSynchronously(
	WDFIOTARGET IoTarget, WDFREQUEST Request, ULONG IoctlCode,
	PWDF_MEMORY_DESCRIPTOR InputBuffer, PWDF_MEMORY_DESCRIPTOR OutputBuffer,
	PWDF_REQUEST_SEND_OPTIONS RequestOptions, PULONG_PTR BytesReturned);

NT_EXTERN_C_END

#endif
