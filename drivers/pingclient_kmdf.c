/* SPDX-License-Identifier: MIT */
/*
 * The ping client as a KMDF driver: \DosDevices\PingClientKmdf0 and so on, one for each echo offer, with the IOCTLs of ping.h.
 * Requests come at PASSIVE_LEVEL, because they wait, and as they arrive, because a run may last.
 */
#include "ping.h"

#include <ntstrsafe.h>
#include <wdf.h>

#define PING_NAME_UNITS 64

typedef struct _PING_CONTEXT {
	PPING Ping;
} PING_CONTEXT, *PPING_CONTEXT;
WDF_DECLARE_CONTEXT_TYPE_WITH_NAME(PING_CONTEXT, PingGetContext)

static LONG volatile PingDevices;

DRIVER_INITIALIZE DriverEntry;
static EVT_WDF_DRIVER_DEVICE_ADD PingEvtDeviceAdd;
static EVT_WDF_DEVICE_PREPARE_HARDWARE PingEvtPrepareHardware;
static EVT_WDF_DEVICE_RELEASE_HARDWARE PingEvtReleaseHardware;
static EVT_WDF_DEVICE_SELF_MANAGED_IO_SUSPEND PingEvtSelfManagedIoSuspend;
static EVT_WDF_IO_QUEUE_IO_DEVICE_CONTROL PingEvtIoDeviceControl;

static NTSTATUS
PingEvtPrepareHardware(WDFDEVICE Device, WDFCMRESLIST ResourcesRaw, WDFCMRESLIST ResourcesTranslated)
{
	KMCL_CLIENT_INTERFACE_V1 kmcl;
	NTSTATUS status;

	UNREFERENCED_PARAMETER(ResourcesRaw);
	UNREFERENCED_PARAMETER(ResourcesTranslated);
	status = WdfFdoQueryForInterface(Device, &KMCL_CLIENT_INTERFACE_TYPE, (PINTERFACE)&kmcl,
	                                 sizeof(kmcl), KMCL_CLIENT_INTERFACE_VERSION_V1, NULL);
	if (!NT_SUCCESS(status))
		return status;
	return PingOpen(WdfDeviceWdmGetPhysicalDevice(Device), &kmcl, &PingGetContext(Device)->Ping);
}

/* Before the queue stops: a run that waits for answers ends, and with it the request. */
static NTSTATUS
PingEvtSelfManagedIoSuspend(WDFDEVICE Device)
{
	PingDisconnect(PingGetContext(Device)->Ping);
	return STATUS_SUCCESS;
}

static NTSTATUS
PingEvtReleaseHardware(WDFDEVICE Device, WDFCMRESLIST ResourcesTranslated)
{
	PPING_CONTEXT context = PingGetContext(Device);

	UNREFERENCED_PARAMETER(ResourcesTranslated);
	/* It is called after a PrepareHardware that failed, too. */
	if (context->Ping != NULL)
		PingClose(context->Ping);
	context->Ping = NULL;
	return STATUS_SUCCESS;
}

static VOID
PingEvtIoDeviceControl(WDFQUEUE Queue, WDFREQUEST Request, size_t OutputBufferLength,
                       size_t InputBufferLength, ULONG IoControlCode)
{
	PPING ping = PingGetContext(WdfIoQueueGetDevice(Queue))->Ping;
	ULONG_PTR information = 0;
	PVOID buffer = NULL;
	NTSTATUS status = STATUS_SUCCESS;

	/* Buffered: input and output are one memory. */
	if (OutputBufferLength != 0)
		status = WdfRequestRetrieveOutputBuffer(Request, 1, &buffer, NULL);
	if (NT_SUCCESS(status))
		status = PingControl(ping, IoControlCode, buffer, InputBufferLength,
		                     OutputBufferLength, &information);
	WdfRequestCompleteWithInformation(Request, status, information);
}

static NTSTATUS
PingCreateQueue(WDFDEVICE Device)
{
	WDF_OBJECT_ATTRIBUTES attributes;
	WDF_IO_QUEUE_CONFIG config;

	WDF_IO_QUEUE_CONFIG_INIT_DEFAULT_QUEUE(&config, WdfIoQueueDispatchParallel);
	config.EvtIoDeviceControl = PingEvtIoDeviceControl;
	WDF_OBJECT_ATTRIBUTES_INIT(&attributes);
	attributes.ExecutionLevel = WdfExecutionLevelPassive;
	return WdfIoQueueCreate(Device, &config, &attributes, NULL);
}

static NTSTATUS
PingMakeName(PUNICODE_STRING Name, PWCHAR Buffer, PCWSTR Directory, LONG Number)
{
	Name->Buffer = Buffer;
	Name->Length = 0;
	Name->MaximumLength = PING_NAME_UNITS * sizeof(WCHAR);
	return RtlUnicodeStringPrintf(Name, L"%ws\\PingClientKmdf%d", Directory, Number);
}

static NTSTATUS
PingEvtDeviceAdd(WDFDRIVER Driver, PWDFDEVICE_INIT DeviceInit)
{
	LONG number = InterlockedIncrement(&PingDevices) - 1;
	WDF_PNPPOWER_EVENT_CALLBACKS callbacks;
	WDF_OBJECT_ATTRIBUTES attributes;
	WCHAR buffer[PING_NAME_UNITS];
	UNICODE_STRING name;
	WDFDEVICE device;
	NTSTATUS status;

	UNREFERENCED_PARAMETER(Driver);
	WDF_PNPPOWER_EVENT_CALLBACKS_INIT(&callbacks);
	callbacks.EvtDevicePrepareHardware = PingEvtPrepareHardware;
	callbacks.EvtDeviceReleaseHardware = PingEvtReleaseHardware;
	callbacks.EvtDeviceSelfManagedIoSuspend = PingEvtSelfManagedIoSuspend;
	WdfDeviceInitSetPnpPowerEventCallbacks(DeviceInit, &callbacks);
	status = PingMakeName(&name, buffer, L"\\Device", number);
	if (NT_SUCCESS(status))
		status = WdfDeviceInitAssignName(DeviceInit, &name);
	if (!NT_SUCCESS(status))
		return status;
	WDF_OBJECT_ATTRIBUTES_INIT_CONTEXT_TYPE(&attributes, PING_CONTEXT);
	status = WdfDeviceCreate(&DeviceInit, &attributes, &device);
	if (NT_SUCCESS(status))
		status = PingMakeName(&name, buffer, L"\\DosDevices", number);
	if (NT_SUCCESS(status))
		status = WdfDeviceCreateSymbolicLink(device, &name);
	if (NT_SUCCESS(status))
		status = PingCreateQueue(device);
	return status;
}

NTSTATUS
DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
	WDF_DRIVER_CONFIG config;

	WDF_DRIVER_CONFIG_INIT(&config, PingEvtDeviceAdd);
	return WdfDriverCreate(DriverObject, RegistryPath, WDF_NO_OBJECT_ATTRIBUTES, &config,
	                       WDF_NO_HANDLE);
}
