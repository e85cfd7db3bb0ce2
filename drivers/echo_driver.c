/* SPDX-License-Identifier: MIT */
/*
 * The echo server as a driver: one offer on each bus that it gets a device for. Parameters: Instance ("{...}"), the offer's instance
 * GUID; otherwise the driver's own.
 */
#include "echo.h"

#include <kmcl_bus_interface.h>

#include "function.h"

typedef struct _ECHO_DEVICE {
	FUNCTION_DEVICE Function; /* first */
	VMBCHANNEL Channel;
} ECHO_DEVICE, *PECHO_DEVICE;

static const GUID EchoInstance = {
	0x9a41c7e2, 0x3b05, 0x4d18, { 0xa7, 0x5e, 0x60, 0x92, 0xf4, 0x0b, 0x1d, 0x38 }
};

static NTSTATUS
EchoDeviceStart(PFUNCTION_DEVICE Device)
{
	PECHO_DEVICE echo = CONTAINING_RECORD(Device, ECHO_DEVICE, Function);
	KMCL_BUS_INTERFACE bus;
	GUID instance = EchoInstance;
	NTSTATUS status;
	HANDLE vmbus;

	status = FunctionReadGuid(L"Instance", &instance);
	if (!NT_SUCCESS(status) && status != STATUS_OBJECT_NAME_NOT_FOUND)
		return status;
	status = FunctionQueryInterface(Device, &KMCL_BUS_INTERFACE_TYPE, (PINTERFACE)&bus, sizeof(bus),
	                                KMCL_BUS_INTERFACE_VERSION);
	if (!NT_SUCCESS(status))
		return status;
	status = bus.OpenBus(bus.Context, &vmbus);
	if (NT_SUCCESS(status)) {
		status = EchoStart(vmbus, instance, &echo->Channel);
		ZwClose(vmbus);
	}
	bus.InterfaceDereference(bus.Context);
	return status;
}

static VOID
EchoDeviceStop(PFUNCTION_DEVICE Device)
{
	EchoStop(CONTAINING_RECORD(Device, ECHO_DEVICE, Function)->Channel);
}

static const FUNCTION_DRIVER EchoDriver = {
	L"Echo", sizeof(ECHO_DEVICE), EchoDeviceStart, EchoDeviceStop, NULL, NULL,
};

DRIVER_INITIALIZE DriverEntry;

NTSTATUS
DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
	return FunctionDriverEntry(DriverObject, RegistryPath, &EchoDriver);
}
