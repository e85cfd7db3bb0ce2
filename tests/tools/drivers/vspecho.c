/* SPDX-License-Identifier: MIT */
/* An echo server, written as for Windows but for where it learns the bus: a KMDF driver with a control device. */
#include <ntddk.h>
#include <wdf.h>
#include <vmbuskernelmodeclientlibapi.h>
#include <kmcl_bus_interface.h>
#include <initguid.h>
#include "vspecho.h"

#define VSPECHO_TAG 'ohcE'

typedef struct _DEVICE_CONTEXT {
	KMCL_SERVER_INTERFACE_V1 Kmcl;
	VMBCHANNEL Channel;
	volatile LONG Packets;
	PULONG Scratch;
} DEVICE_CONTEXT, *PDEVICE_CONTEXT;
WDF_DECLARE_CONTEXT_TYPE_WITH_NAME(DEVICE_CONTEXT, DeviceGetContext)

DRIVER_INITIALIZE DriverEntry;
EVT_WDF_DRIVER_DEVICE_ADD EchoEvtDeviceAdd;
EVT_WDF_DRIVER_UNLOAD EchoEvtUnload;
EVT_WDF_DEVICE_D0_ENTRY EchoEvtD0Entry;
EVT_WDF_DEVICE_D0_EXIT EchoEvtD0Exit;
EVT_WDF_OBJECT_CONTEXT_CLEANUP EchoEvtDeviceCleanup;
EVT_WDF_IO_QUEUE_IO_DEVICE_CONTROL EchoEvtIoDeviceControl;
EVT_VMB_CHANNEL_PROCESS_PACKET EchoProcessPacket;

_Use_decl_annotations_ VOID
EchoProcessPacket(VMBCHANNEL Channel, VMBPACKETCOMPLETION Packet, PVOID Buffer, UINT32 BufferLength, UINT32 Flags)
{
	PDEVICE_CONTEXT context = (PDEVICE_CONTEXT)VmbChannelGetPointer(Channel);

	UNREFERENCED_PARAMETER(Flags);
	InterlockedIncrement(&context->Packets);
	context->Kmcl.VmbChannelPacketComplete(Packet, Buffer, BufferLength);
}

static NTSTATUS
EchoOpenBus(WDFDEVICE Device, PHANDLE VmbusHandle)
{
	KMCL_BUS_INTERFACE bus;
	NTSTATUS status;

	status = WdfFdoQueryForInterface(Device, &KMCL_BUS_INTERFACE_TYPE, (PINTERFACE)&bus, sizeof(bus),
	                                 KMCL_BUS_INTERFACE_VERSION, NULL);
	if (!NT_SUCCESS(status))
		return status;
	status = bus.OpenBus(bus.Context, VmbusHandle);
	bus.InterfaceDereference(bus.Context);
	return status;
}

_Use_decl_annotations_ NTSTATUS
EchoEvtD0Entry(WDFDEVICE Device, WDF_POWER_DEVICE_STATE PreviousState)
{
	PDEVICE_CONTEXT context = DeviceGetContext(Device);
	HANDLE bus = NULL;
	NTSTATUS status;

	DbgPrint("vspecho: D0Entry from %d\n", PreviousState);
	status = EchoOpenBus(Device, &bus);
	if (!NT_SUCCESS(status))
		return status;
	status = WdfFdoQueryForInterface(Device, &KMCL_SERVER_INTERFACE_TYPE, (PINTERFACE)&context->Kmcl,
	                                 sizeof(context->Kmcl), KMCL_SERVER_INTERFACE_VERSION_V1, NULL);
	if (NT_SUCCESS(status))
		status = context->Kmcl.VmbChannelAllocate(WdfDeviceWdmGetDeviceObject(Device), TRUE,
		                                          &context->Channel);
	if (NT_SUCCESS(status))
		status = context->Kmcl.VmbServerChannelInitSetVmbusHandle(context->Channel, bus);
	if (NT_SUCCESS(status))
		status = context->Kmcl.VmbServerChannelInitSetTargetInterfaceId(context->Channel, VSPECHO_TYPE,
		                                                                VSPECHO_INSTANCE);
	if (NT_SUCCESS(status))
		status = context->Kmcl.VmbChannelInitSetProcessPacketCallbacks(context->Channel,
		                                                               EchoProcessPacket, NULL);
	if (NT_SUCCESS(status)) {
		context->Kmcl.VmbChannelSetPointer(context->Channel, context);
		status = context->Kmcl.VmbChannelEnable(context->Channel);
	}
	if (NT_SUCCESS(status))
		context->Kmcl.VmbChannelStart(context->Channel);
	ZwClose(bus);
	return status;
}

_Use_decl_annotations_ NTSTATUS
EchoEvtD0Exit(WDFDEVICE Device, WDF_POWER_DEVICE_STATE TargetState)
{
	PDEVICE_CONTEXT context = DeviceGetContext(Device);

	DbgPrint("vspecho: D0Exit to %d\n", TargetState);
	if (context->Channel != NULL) {
		context->Kmcl.VmbChannelDisable(context->Channel);
		context->Kmcl.VmbChannelCleanup(context->Channel);
	}
	context->Channel = NULL;
	if (context->Kmcl.InterfaceDereference != NULL)
		context->Kmcl.InterfaceDereference(context->Kmcl.Context);
	return STATUS_SUCCESS;
}

_Use_decl_annotations_ VOID
EchoEvtIoDeviceControl(WDFQUEUE Queue, WDFREQUEST Request, size_t OutputBufferLength, size_t InputBufferLength,
                       ULONG IoControlCode)
{
	PDEVICE_CONTEXT context = DeviceGetContext(WdfIoQueueGetDevice(Queue));
	NTSTATUS status;
	PULONG count;

	UNREFERENCED_PARAMETER(OutputBufferLength);
	UNREFERENCED_PARAMETER(InputBufferLength);
	if (IoControlCode != IOCTL_VSPECHO_COUNT) {
		WdfRequestComplete(Request, STATUS_INVALID_DEVICE_REQUEST);
		return;
	}
	status = WdfRequestRetrieveOutputBuffer(Request, sizeof(*count), (PVOID *)&count, NULL);
	if (NT_SUCCESS(status))
		*count = (ULONG)InterlockedCompareExchange(&context->Packets, 0, 0);
	WdfRequestCompleteWithInformation(Request, status, NT_SUCCESS(status) ? sizeof(*count) : 0);
}

_Use_decl_annotations_ VOID
EchoEvtDeviceCleanup(WDFOBJECT Object)
{
	PDEVICE_CONTEXT context = DeviceGetContext((WDFDEVICE)Object);

	DbgPrint("vspecho: device cleanup\n");
	if (context->Scratch != NULL)
		ExFreePoolWithTag(context->Scratch, VSPECHO_TAG);
}

_Use_decl_annotations_ NTSTATUS
EchoEvtDeviceAdd(WDFDRIVER Driver, PWDFDEVICE_INIT DeviceInit)
{
	DECLARE_CONST_UNICODE_STRING(name, L"\\Device\\VspEcho");
	DECLARE_CONST_UNICODE_STRING(link, L"\\DosDevices\\VspEcho");
	WDF_PNPPOWER_EVENT_CALLBACKS power;
	WDF_OBJECT_ATTRIBUTES attributes;
	WDF_IO_QUEUE_CONFIG queue;
	WDFDEVICE device;
	NTSTATUS status;

	UNREFERENCED_PARAMETER(Driver);
	PAGED_CODE();
	WDF_PNPPOWER_EVENT_CALLBACKS_INIT(&power);
	power.EvtDeviceD0Entry = EchoEvtD0Entry;
	power.EvtDeviceD0Exit = EchoEvtD0Exit;
	WdfDeviceInitSetPnpPowerEventCallbacks(DeviceInit, &power);
	status = WdfDeviceInitAssignName(DeviceInit, &name);
	if (!NT_SUCCESS(status))
		return status;
	WDF_OBJECT_ATTRIBUTES_INIT_CONTEXT_TYPE(&attributes, DEVICE_CONTEXT);
	attributes.EvtCleanupCallback = EchoEvtDeviceCleanup;
	status = WdfDeviceCreate(&DeviceInit, &attributes, &device);
	if (!NT_SUCCESS(status))
		return status;
	DeviceGetContext(device)->Scratch = (PULONG)ExAllocatePool2(POOL_FLAG_NON_PAGED, 64, VSPECHO_TAG);
	status = WdfDeviceCreateSymbolicLink(device, &link);
	if (!NT_SUCCESS(status))
		return status;
	WDF_IO_QUEUE_CONFIG_INIT_DEFAULT_QUEUE(&queue, WdfIoQueueDispatchParallel);
	queue.EvtIoDeviceControl = EchoEvtIoDeviceControl;
	return WdfIoQueueCreate(device, &queue, WDF_NO_OBJECT_ATTRIBUTES, WDF_NO_HANDLE);
}

_Use_decl_annotations_ VOID
EchoEvtUnload(WDFDRIVER Driver)
{
	DbgPrint("vspecho: unload %S\n", WdfDriverGetRegistryPath(Driver));
}

_Use_decl_annotations_ NTSTATUS
DriverEntry(PDRIVER_OBJECT DriverObject, PUNICODE_STRING RegistryPath)
{
	WDF_DRIVER_CONFIG config;

	WDF_DRIVER_CONFIG_INIT(&config, EchoEvtDeviceAdd);
	config.EvtDriverUnload = EchoEvtUnload;
	config.DriverPoolTag = VSPECHO_TAG;
	return WdfDriverCreate(DriverObject, RegistryPath, WDF_NO_OBJECT_ATTRIBUTES, &config, WDF_NO_HANDLE);
}
