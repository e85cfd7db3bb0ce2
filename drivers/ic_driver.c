/* SPDX-License-Identifier: MIT */
/*
 * What the drivers of the integration components and of the keyboard share: a component on each bus that they get a device for.
 * Parameter of all: Instance ("{...}"), the offer's instance GUID; otherwise Hyper-V's own.
 */
#include "ic_driver.h"

#include <kmcl_bus_interface.h>

typedef struct _IC_DEVICE {
	FUNCTION_DEVICE Function; /* first */
	EX_RUNDOWN_REF Rundown;   /* held while the component is called */
	VOID *Component;
} IC_DEVICE, *PIC_DEVICE;

NTSTATUS
ic_driver_number(PCWSTR name, UINT32 *number)
{
	ULONG value = *number;
	NTSTATUS status = FunctionReadNumber(name, &value);

	*number = value;
	return status == STATUS_OBJECT_NAME_NOT_FOUND ? STATUS_SUCCESS : status;
}

NTSTATUS
ic_control_answer(struct ic_control *control, const VOID *answer, ULONG bytes)
{
	if (control->out_room < bytes)
		return STATUS_BUFFER_TOO_SMALL;
	RtlCopyMemory(control->buffer, answer, bytes);
	control->out_bytes = bytes;
	return STATUS_SUCCESS;
}

static NTSTATUS
IcDeviceStart(PFUNCTION_DEVICE Device)
{
	PIC_DEVICE device = CONTAINING_RECORD(Device, IC_DEVICE, Function);
	struct ic_options options;
	KMCL_BUS_INTERFACE bus;
	NTSTATUS status;
	GUID instance;

	RtlZeroMemory(&options, sizeof(options));
	status = FunctionReadGuid(L"Instance", &instance);
	if (NT_SUCCESS(status))
		options.instance = &instance;
	else if (status != STATUS_OBJECT_NAME_NOT_FOUND)
		return status;
	status = FunctionQueryInterface(Device, &KMCL_BUS_INTERFACE_TYPE, (PINTERFACE)&bus, sizeof(bus),
	                                KMCL_BUS_INTERFACE_VERSION);
	if (!NT_SUCCESS(status))
		return status;
	status = bus.OpenBus(bus.Context, &options.bus);
	if (NT_SUCCESS(status)) {
		ExInitializeRundownProtection(&device->Rundown);
		status = ic_driver.create(&options, &device->Component);
		ZwClose(options.bus);
	}
	bus.InterfaceDereference(bus.Context);
	return status;
}

static VOID
IcDeviceStop(PFUNCTION_DEVICE Device)
{
	PIC_DEVICE device = CONTAINING_RECORD(Device, IC_DEVICE, Function);

	/* Those that wait for an answer do not hold it, and are let go by the component's end. */
	ExWaitForRundownProtectionRelease(&device->Rundown);
	ic_driver.destroy(device->Component);
}

static NTSTATUS
IcDeviceControl(PFUNCTION_DEVICE Device, PIRP Irp, PIO_STACK_LOCATION Stack, PULONG_PTR Information)
{
	PIC_DEVICE device = CONTAINING_RECORD(Device, IC_DEVICE, Function);
	struct ic_control control;
	NTSTATUS status;

	RtlZeroMemory(&control, sizeof(control));
	KeInitializeEvent(&control.done, NotificationEvent, FALSE);
	control.code = Stack->Parameters.DeviceIoControl.IoControlCode;
	control.buffer = (UINT8 *)Irp->AssociatedIrp.SystemBuffer;
	control.in_bytes = Stack->Parameters.DeviceIoControl.InputBufferLength;
	control.out_room = Stack->Parameters.DeviceIoControl.OutputBufferLength;
	if (!ExAcquireRundownProtection(&device->Rundown))
		return STATUS_DEVICE_NOT_READY;
	status = ic_driver.control(device->Component, &control);
	ExReleaseRundownProtection(&device->Rundown);
	if (status == STATUS_PENDING) {
		KeWaitForSingleObject(&control.done, Executive, KernelMode, FALSE, NULL);
		status = control.status;
	}
	*Information = control.out_bytes;
	return status;
}

static FUNCTION_DRIVER IcFunctionDriver = {
	NULL, sizeof(IC_DEVICE), IcDeviceStart, IcDeviceStop, NULL, IcDeviceControl,
};

DRIVER_INITIALIZE DriverEntry;

NTSTATUS
DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
	IcFunctionDriver.Name = ic_driver.name;
	return FunctionDriverEntry(DriverObject, RegistryPath, &IcFunctionDriver);
}
