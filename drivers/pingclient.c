/* SPDX-License-Identifier: MIT */
/*
 * The ping client as a WDM driver: \DosDevices\PingClient0 and so on, one for each echo offer, with the IOCTLs of ping.h. The
 * library's interface comes from the bus, by IRP_MN_QUERY_INTERFACE.
 */
#include "ping.h"

#include "function.h"

typedef struct _PING_DEVICE {
	FUNCTION_DEVICE Function; /* first */
	PPING Ping;
} PING_DEVICE, *PPING_DEVICE;

static NTSTATUS
PingDeviceStart(PFUNCTION_DEVICE Device)
{
	PPING_DEVICE device = CONTAINING_RECORD(Device, PING_DEVICE, Function);
	KMCL_CLIENT_INTERFACE_V1 kmcl;
	NTSTATUS status;

	status = FunctionQueryInterface(Device, &KMCL_CLIENT_INTERFACE_TYPE, (PINTERFACE)&kmcl,
	                                sizeof(kmcl), KMCL_CLIENT_INTERFACE_VERSION_V1);
	if (!NT_SUCCESS(status))
		return status;
	return PingOpen(Device->Pdo, &kmcl, &device->Ping);
}

static VOID
PingDeviceStop(PFUNCTION_DEVICE Device)
{
	PingDisconnect(CONTAINING_RECORD(Device, PING_DEVICE, Function)->Ping);
}

static VOID
PingDeviceRelease(PFUNCTION_DEVICE Device)
{
	PingClose(CONTAINING_RECORD(Device, PING_DEVICE, Function)->Ping);
}

static NTSTATUS
PingDeviceControl(PFUNCTION_DEVICE Device, PIRP Irp, PIO_STACK_LOCATION Stack,
                  PULONG_PTR Information)
{
	/* An unknown code may be of another method than buffered; PingControl looks at no buffer then. */
	return PingControl(CONTAINING_RECORD(Device, PING_DEVICE, Function)->Ping,
	                   Stack->Parameters.DeviceIoControl.IoControlCode,
	                   Irp->AssociatedIrp.SystemBuffer,
	                   Stack->Parameters.DeviceIoControl.InputBufferLength,
	                   Stack->Parameters.DeviceIoControl.OutputBufferLength, Information);
}

static const FUNCTION_DRIVER PingDriver = {
	L"PingClient",     sizeof(PING_DEVICE), PingDeviceStart,
	PingDeviceStop,    PingDeviceRelease,   PingDeviceControl,
};

DRIVER_INITIALIZE DriverEntry;

NTSTATUS
DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
	return FunctionDriverEntry(DriverObject, RegistryPath, &PingDriver);
}
