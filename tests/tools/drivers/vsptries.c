/* SPDX-License-Identifier: MIT */
/* A server driver with a control device that does to the system what it is asked to: for the tests of --sandbox. */
#include <ntddk.h>
#include <wdf.h>
#include <initguid.h>
#include "vsptries.h"

#define IOCTL_TRY CTL_CODE(FILE_DEVICE_UNKNOWN, 0x900, METHOD_BUFFERED, FILE_ANY_ACCESS)

DRIVER_INITIALIZE DriverEntry;
EVT_WDF_DRIVER_DEVICE_ADD TriesEvtDeviceAdd;
EVT_WDF_IO_QUEUE_IO_DEVICE_CONTROL TriesEvtIoDeviceControl;

/* The input is the name of what to try, the output what came of it. */
_Use_decl_annotations_ VOID
TriesEvtIoDeviceControl(WDFQUEUE Queue, WDFREQUEST Request, size_t OutputBufferLength, size_t InputBufferLength,
                        ULONG IoControlCode)
{
	char name[TRY_BYTES] = "";
	PVOID input, output;
	NTSTATUS status = STATUS_INVALID_DEVICE_REQUEST;
	size_t length;

	UNREFERENCED_PARAMETER(Queue);
	UNREFERENCED_PARAMETER(OutputBufferLength);
	if (IoControlCode == IOCTL_TRY && InputBufferLength < sizeof(name))
		status = WdfRequestRetrieveInputBuffer(Request, 1, &input, NULL);
	if (NT_SUCCESS(status)) {
		RtlCopyMemory(name, input, InputBufferLength);
		status = WdfRequestRetrieveOutputBuffer(Request, TRY_BYTES, &output, &length);
	}
	if (!NT_SUCCESS(status)) {
		WdfRequestComplete(Request, status);
		return;
	}
	WdfRequestCompleteWithInformation(Request, STATUS_SUCCESS, TryIt(name, output));
}

_Use_decl_annotations_ NTSTATUS
TriesEvtDeviceAdd(WDFDRIVER Driver, PWDFDEVICE_INIT DeviceInit)
{
	DECLARE_CONST_UNICODE_STRING(name, L"\\Device\\VspTries");
	DECLARE_CONST_UNICODE_STRING(link, L"\\DosDevices\\VspTries");
	WDF_IO_QUEUE_CONFIG queue;
	WDFDEVICE device;
	NTSTATUS status;

	UNREFERENCED_PARAMETER(Driver);
	status = WdfDeviceInitAssignName(DeviceInit, &name);
	if (NT_SUCCESS(status))
		status = WdfDeviceCreate(&DeviceInit, WDF_NO_OBJECT_ATTRIBUTES, &device);
	if (NT_SUCCESS(status))
		status = WdfDeviceCreateSymbolicLink(device, &link);
	if (!NT_SUCCESS(status))
		return status;
	WDF_IO_QUEUE_CONFIG_INIT_DEFAULT_QUEUE(&queue, WdfIoQueueDispatchParallel);
	queue.EvtIoDeviceControl = TriesEvtIoDeviceControl;
	return WdfIoQueueCreate(device, &queue, WDF_NO_OBJECT_ATTRIBUTES, WDF_NO_HANDLE);
}

_Use_decl_annotations_ NTSTATUS
DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
	WDF_DRIVER_CONFIG config;

	WDF_DRIVER_CONFIG_INIT(&config, TriesEvtDeviceAdd);
	return WdfDriverCreate(DriverObject, RegistryPath, WDF_NO_OBJECT_ATTRIBUTES, &config, WDF_NO_HANDLE);
}
