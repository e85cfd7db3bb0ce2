/* SPDX-License-Identifier: MIT */
/* Its client, a KMDF driver that gets KMCL through an interface query and is opened through a device interface. */
#include <ntddk.h>
#include <wdf.h>
#include <vmbuskernelmodeclientlibapi.h>
#include <initguid.h>
#include "vspecho.h"

#define OPEN_SECONDS 10

typedef struct _DEVICE_CONTEXT {
	KMCL_CLIENT_INTERFACE_V1 Kmcl;
	VMBCHANNEL Channel;
	KEVENT Opened;
	WDFQUEUE Waiting;
	WDFWAITLOCK Lock;
} DEVICE_CONTEXT, *PDEVICE_CONTEXT;
WDF_DECLARE_CONTEXT_TYPE_WITH_NAME(DEVICE_CONTEXT, DeviceGetContext)

DRIVER_INITIALIZE DriverEntry;
EVT_WDF_DRIVER_DEVICE_ADD ClientEvtDeviceAdd;
EVT_WDF_DEVICE_PREPARE_HARDWARE ClientEvtPrepareHardware;
EVT_WDF_DEVICE_RELEASE_HARDWARE ClientEvtReleaseHardware;
EVT_WDF_DEVICE_SURPRISE_REMOVAL ClientEvtSurpriseRemoval;
EVT_WDF_OBJECT_CONTEXT_CLEANUP ClientEvtDeviceCleanup;
EVT_WDF_OBJECT_CONTEXT_CLEANUP ClientEvtDriverCleanup;
EVT_WDF_IO_QUEUE_IO_DEVICE_CONTROL ClientEvtIoDeviceControl;
EVT_WDF_IO_QUEUE_IO_CANCELED_ON_QUEUE ClientEvtIoCanceledOnQueue;
EVT_VMB_CHANNEL_STARTED ClientChannelStarted;

_Use_decl_annotations_ VOID
ClientChannelStarted(VMBCHANNEL Channel)
{
	WDFDEVICE device = (WDFDEVICE)VmbChannelGetPointer(Channel);

	KeSetEvent(&DeviceGetContext(device)->Opened, IO_NO_INCREMENT, FALSE);
}

_Use_decl_annotations_ NTSTATUS
ClientEvtPrepareHardware(WDFDEVICE Device, WDFCMRESLIST ResourcesRaw, WDFCMRESLIST ResourcesTranslated)
{
	PDEVICE_CONTEXT context = DeviceGetContext(Device);
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS states;
	NTSTATUS status;

	UNREFERENCED_PARAMETER(ResourcesRaw);
	DbgPrint("vscecho: PrepareHardware, %u resources\n", WdfCmResourceListGetCount(ResourcesTranslated));
	status = WdfFdoQueryForInterface(Device, &KMCL_CLIENT_INTERFACE_TYPE, (PINTERFACE)&context->Kmcl,
	                                 sizeof(context->Kmcl), KMCL_CLIENT_INTERFACE_VERSION_V1, NULL);
	if (!NT_SUCCESS(status))
		return status;
	/* No target: the channel is the one that this device stands for. */
	status = context->Kmcl.VmbChannelAllocate(WdfDeviceWdmGetDeviceObject(Device), FALSE, &context->Channel);
	if (!NT_SUCCESS(status))
		return status;
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&states);
	states.EvtChannelStarted = ClientChannelStarted;
	context->Kmcl.VmbChannelInitSetStateChangeCallbacks(context->Channel, &states);
	context->Kmcl.VmbChannelSetPointer(context->Channel, Device);
	status = context->Kmcl.VmbChannelEnable(context->Channel);
	if (NT_SUCCESS(status))
		context->Kmcl.VmbChannelStart(context->Channel);
	return status;
}

_Use_decl_annotations_ NTSTATUS
ClientEvtReleaseHardware(WDFDEVICE Device, WDFCMRESLIST ResourcesTranslated)
{
	PDEVICE_CONTEXT context = DeviceGetContext(Device);

	UNREFERENCED_PARAMETER(ResourcesTranslated);
	DbgPrint("vscecho: ReleaseHardware\n");
	if (context->Channel != NULL) {
		context->Kmcl.VmbChannelDisable(context->Channel);
		context->Kmcl.VmbChannelCleanup(context->Channel);
		context->Channel = NULL;
	}
	if (context->Kmcl.InterfaceDereference != NULL)
		context->Kmcl.InterfaceDereference(context->Kmcl.Context);
	return STATUS_SUCCESS;
}

_Use_decl_annotations_ VOID
ClientEvtSurpriseRemoval(WDFDEVICE Device)
{
	UNREFERENCED_PARAMETER(Device);
	DbgPrint("vscecho: SurpriseRemoval\n");
}

_Use_decl_annotations_ VOID
ClientEvtDeviceCleanup(WDFOBJECT Object)
{
	UNREFERENCED_PARAMETER(Object);
	DbgPrint("vscecho: device cleanup\n");
}

static NTSTATUS
ClientSend(PDEVICE_CONTEXT Context, WDFREQUEST Request, size_t InputLength, size_t OutputLength, PULONG_PTR Returned)
{
	LARGE_INTEGER timeout;
	UINT32 answered = (UINT32)OutputLength;
	PVOID input, output;
	NTSTATUS status;

	timeout.QuadPart = -10 * 1000 * 1000 * (LONGLONG)OPEN_SECONDS;
	if (KeWaitForSingleObject(&Context->Opened, Executive, KernelMode, FALSE, &timeout) != STATUS_SUCCESS)
		return STATUS_DEVICE_NOT_CONNECTED;
	status = WdfRequestRetrieveInputBuffer(Request, 1, &input, NULL);
	if (NT_SUCCESS(status))
		status = WdfRequestRetrieveOutputBuffer(Request, InputLength, &output, NULL);
	if (!NT_SUCCESS(status))
		return status;
	WdfWaitLockAcquire(Context->Lock, NULL);
	status = Context->Kmcl.VmbChannelSendSynchronousRequest(
	        Context->Channel, input, (UINT32)InputLength, NULL, VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION,
	        output, &answered, NULL);
	WdfWaitLockRelease(Context->Lock);
	/* The answer is padded to 8 bytes. */
	*Returned = NT_SUCCESS(status) ? min(answered, InputLength) : 0;
	return status;
}

static NTSTATUS
ClientReverse(WDFREQUEST Request, PULONG_PTR Returned)
{
	PUCHAR input, output;
	NTSTATUS status;
	size_t length;
	PMDL mdl;

	status = WdfRequestRetrieveInputBuffer(Request, 1, (PVOID *)&input, &length);
	if (NT_SUCCESS(status))
		status = WdfRequestRetrieveOutputWdmMdl(Request, &mdl);
	if (!NT_SUCCESS(status))
		return status;
	if (MmGetMdlByteCount(mdl) < length)
		return STATUS_BUFFER_TOO_SMALL;
	output = (PUCHAR)MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
	if (output == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	for (size_t i = 0; i < length; i++)
		output[i] = input[length - 1 - i];
	*Returned = length;
	return STATUS_SUCCESS;
}

_Use_decl_annotations_ VOID
ClientEvtIoDeviceControl(WDFQUEUE Queue, WDFREQUEST Request, size_t OutputBufferLength, size_t InputBufferLength,
                         ULONG IoControlCode)
{
	PDEVICE_CONTEXT context = DeviceGetContext(WdfIoQueueGetDevice(Queue));
	NTSTATUS status = STATUS_INVALID_DEVICE_REQUEST;
	ULONG_PTR returned = 0;

	switch (IoControlCode) {
	case IOCTL_VSCECHO_SEND:
		status = ClientSend(context, Request, InputBufferLength, OutputBufferLength, &returned);
		break;
	case IOCTL_VSCECHO_REVERSE:
		status = ClientReverse(Request, &returned);
		break;
	case IOCTL_VSCECHO_WAIT:
		status = WdfRequestForwardToIoQueue(Request, context->Waiting);
		if (NT_SUCCESS(status)) {
			DbgPrint("vscecho: a request waits\n");
			return;
		}
		break;
	}
	WdfRequestCompleteWithInformation(Request, status, returned);
}

_Use_decl_annotations_ VOID
ClientEvtIoCanceledOnQueue(WDFQUEUE Queue, WDFREQUEST Request)
{
	UNREFERENCED_PARAMETER(Queue);
	WdfRequestComplete(Request, STATUS_CANCELLED);
	DbgPrint("vscecho: the request is cancelled\n");
}

_Use_decl_annotations_ NTSTATUS
ClientEvtDeviceAdd(WDFDRIVER Driver, PWDFDEVICE_INIT DeviceInit)
{
	WDF_PNPPOWER_EVENT_CALLBACKS power;
	WDF_OBJECT_ATTRIBUTES attributes;
	WDF_IO_QUEUE_CONFIG queue;
	PDEVICE_CONTEXT context;
	WDFDEVICE device;
	NTSTATUS status;

	UNREFERENCED_PARAMETER(Driver);
	WDF_PNPPOWER_EVENT_CALLBACKS_INIT(&power);
	power.EvtDevicePrepareHardware = ClientEvtPrepareHardware;
	power.EvtDeviceReleaseHardware = ClientEvtReleaseHardware;
	power.EvtDeviceSurpriseRemoval = ClientEvtSurpriseRemoval;
	WdfDeviceInitSetPnpPowerEventCallbacks(DeviceInit, &power);
	WDF_OBJECT_ATTRIBUTES_INIT_CONTEXT_TYPE(&attributes, DEVICE_CONTEXT);
	attributes.EvtCleanupCallback = ClientEvtDeviceCleanup;
	attributes.ExecutionLevel = WdfExecutionLevelPassive;
	status = WdfDeviceCreate(&DeviceInit, &attributes, &device);
	if (!NT_SUCCESS(status))
		return status;
	context = DeviceGetContext(device);
	KeInitializeEvent(&context->Opened, NotificationEvent, FALSE);
	WDF_OBJECT_ATTRIBUTES_INIT(&attributes);
	attributes.ParentObject = device;
	status = WdfWaitLockCreate(&attributes, &context->Lock);
	if (!NT_SUCCESS(status))
		return status;
	status = WdfDeviceCreateDeviceInterface(device, &GUID_DEVINTERFACE_VSCECHO, NULL);
	if (!NT_SUCCESS(status))
		return status;
	WDF_IO_QUEUE_CONFIG_INIT(&queue, WdfIoQueueDispatchManual);
	queue.EvtIoCanceledOnQueue = ClientEvtIoCanceledOnQueue;
	status = WdfIoQueueCreate(device, &queue, WDF_NO_OBJECT_ATTRIBUTES, &context->Waiting);
	if (!NT_SUCCESS(status))
		return status;
	WDF_IO_QUEUE_CONFIG_INIT_DEFAULT_QUEUE(&queue, WdfIoQueueDispatchSequential);
	queue.EvtIoDeviceControl = ClientEvtIoDeviceControl;
	return WdfIoQueueCreate(device, &queue, WDF_NO_OBJECT_ATTRIBUTES, WDF_NO_HANDLE);
}

_Use_decl_annotations_ VOID
ClientEvtDriverCleanup(WDFOBJECT Object)
{
	UNREFERENCED_PARAMETER(Object);
	DbgPrint("vscecho: driver cleanup\n");
}

_Use_decl_annotations_ NTSTATUS
DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
	WDF_OBJECT_ATTRIBUTES attributes;
	WDF_DRIVER_CONFIG config;

	WDF_OBJECT_ATTRIBUTES_INIT(&attributes);
	attributes.EvtCleanupCallback = ClientEvtDriverCleanup;
	WDF_DRIVER_CONFIG_INIT(&config, ClientEvtDeviceAdd);
	return WdfDriverCreate(DriverObject, RegistryPath, &attributes, &config, WDF_NO_HANDLE);
}
