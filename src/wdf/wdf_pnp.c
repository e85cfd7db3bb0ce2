/* SPDX-License-Identifier: MIT */
/*
 * Every IRP of a framework device, and the life of a function device from start to removal (device.h has the order of callbacks). PnP requests of a
 * device come one at a time.
 */
#include "wdf/wdf_queue.h"

NTSTATUS
wdf_complete(PIRP irp, NTSTATUS status, ULONG_PTR information)
{
	irp->IoStatus.Status = status;
	irp->IoStatus.Information = information;
	IoCompleteRequest(irp, IO_NO_INCREMENT);
	return status;
}

NTSTATUS
wdf_pass_down(struct wdf_device *device, PIRP irp)
{
	IoSkipCurrentIrpStackLocation(irp);
	return IofCallDriver(device->lower, irp);
}

/* ---- start and stop -------------------------------------------------------------------------- */

static void
self_managed_end(struct wdf_device *device)
{
	const WDF_PNPPOWER_EVENT_CALLBACKS *call = &device->config.pnp;
	const WDFDEVICE handle = (WDFDEVICE)(void *)device;

	if (!device->self_managed)
		return;
	device->self_managed = false;
	if (call->EvtDeviceSelfManagedIoFlush != NULL)
		call->EvtDeviceSelfManagedIoFlush(handle);
	if (call->EvtDeviceSelfManagedIoCleanup != NULL)
		call->EvtDeviceSelfManagedIoCleanup(handle);
}

static void
leave_d0(struct wdf_device *device, bool suspend)
{
	const WDF_PNPPOWER_EVENT_CALLBACKS *call = &device->config.pnp;
	const WDFDEVICE handle = (WDFDEVICE)(void *)device;

	if (suspend && call->EvtDeviceSelfManagedIoSuspend != NULL)
		(void)call->EvtDeviceSelfManagedIoSuspend(handle);
	wdf_queues_purge(device, false);
	if (call->EvtDeviceD0ExitPreInterruptsDisabled != NULL)
		(void)call->EvtDeviceD0ExitPreInterruptsDisabled(handle, WdfPowerDeviceD3Final);
	if (call->EvtDeviceD0Exit != NULL)
		(void)call->EvtDeviceD0Exit(handle, WdfPowerDeviceD3Final);
}

static void
release_hardware(struct wdf_device *device)
{
	if (device->config.pnp.EvtDeviceReleaseHardware != NULL)
		(void)device->config.pnp.EvtDeviceReleaseHardware(
			(WDFDEVICE)(void *)device, (WDFCMRESLIST)(void *)device->resources);
}

static void
stop(struct wdf_device *device)
{
	if (!device->started)
		return;
	device->started = false;
	wdf_interfaces_disable(device);
	leave_d0(device, true);
	release_hardware(device);
}

/* A callback that fails is undone by its counterpart, as are those before it. */
static NTSTATUS
start(struct wdf_device *device)
{
	const WDF_PNPPOWER_EVENT_CALLBACKS *call = &device->config.pnp;
	const WDFDEVICE handle = (WDFDEVICE)(void *)device;
	const WDFCMRESLIST resources = (WDFCMRESLIST)(void *)device->resources;
	NTSTATUS status = STATUS_SUCCESS;

	if (call->EvtDevicePrepareHardware != NULL)
		status = call->EvtDevicePrepareHardware(handle, resources, resources);
	if (!NT_SUCCESS(status))
		goto release;
	if (call->EvtDeviceD0Entry != NULL)
		status = call->EvtDeviceD0Entry(handle, WdfPowerDeviceD3Final);
	if (NT_SUCCESS(status) && call->EvtDeviceD0EntryPostInterruptsEnabled != NULL)
		status = call->EvtDeviceD0EntryPostInterruptsEnabled(handle, WdfPowerDeviceD3Final);
	if (!NT_SUCCESS(status))
		goto leave;
	device->self_managed = true;
	if (call->EvtDeviceSelfManagedIoInit != NULL)
		status = call->EvtDeviceSelfManagedIoInit(handle);
	if (!NT_SUCCESS(status))
		goto leave;
	device->started = true;
	wdf_queues_power_up(device);
	status = wdf_interfaces_enable(device);
	if (NT_SUCCESS(status))
		return STATUS_SUCCESS;
	stop(device);
	self_managed_end(device);
	return status;

leave:
	leave_d0(device, false);
release:
	release_hardware(device);
	self_managed_end(device);
	return status;
}

/* ---- PnP requests ---------------------------------------------------------------------------- */

static NTSTATUS
pnp_start(struct wdf_device *device, PIRP irp)
{
	NTSTATUS status;

	if (!IoForwardIrpSynchronously(device->lower, irp))
		return wdf_complete(irp, STATUS_INVALID_DEVICE_STATE, 0);
	status = irp->IoStatus.Status;
	if (NT_SUCCESS(status))
		status = start(device);
	return wdf_complete(irp, status, 0);
}

static NTSTATUS
pnp_remove(struct wdf_device *device, PIRP irp)
{
	NTSTATUS status;

	stop(device);
	wdf_queues_purge(device, true);
	self_managed_end(device);
	irp->IoStatus.Status = STATUS_SUCCESS;
	status = wdf_pass_down(device, irp);
	wdf_object_delete(&device->object);
	return status;
}

static NTSTATUS
pnp_surprise(struct wdf_device *device, PIRP irp)
{
	if (device->config.pnp.EvtDeviceSurpriseRemoval != NULL)
		device->config.pnp.EvtDeviceSurpriseRemoval((WDFDEVICE)(void *)device);
	stop(device);
	irp->IoStatus.Status = STATUS_SUCCESS;
	return wdf_pass_down(device, irp);
}

static NTSTATUS
pnp_query_remove(struct wdf_device *device, PIRP irp)
{
	NTSTATUS status = STATUS_SUCCESS;

	if (device->config.pnp.EvtDeviceQueryRemove != NULL)
		status = device->config.pnp.EvtDeviceQueryRemove((WDFDEVICE)(void *)device);
	if (!NT_SUCCESS(status))
		return wdf_complete(irp, status, 0);
	irp->IoStatus.Status = STATUS_SUCCESS;
	return wdf_pass_down(device, irp);
}

NTSTATUS
wdf_pnp(struct wdf_device *device, PIRP irp)
{
	switch (IoGetCurrentIrpStackLocation(irp)->MinorFunction) {
	case IRP_MN_START_DEVICE:
		return pnp_start(device, irp);
	case IRP_MN_QUERY_REMOVE_DEVICE:
		return pnp_query_remove(device, irp);
	case IRP_MN_SURPRISE_REMOVAL:
		return pnp_surprise(device, irp);
	case IRP_MN_REMOVE_DEVICE:
		return pnp_remove(device, irp);
	case IRP_MN_QUERY_PNP_DEVICE_STATE:
		if (__atomic_load_n(&device->failed, __ATOMIC_RELAXED)) {
			irp->IoStatus.Status = STATUS_SUCCESS;
			irp->IoStatus.Information |= PNP_DEVICE_FAILED;
		}
		return wdf_pass_down(device, irp);
	default:
		return wdf_pass_down(device, irp);
	}
}

/* ---- everything ------------------------------------------------------------------------------ */

static NTSTATUS
to_queue(struct wdf_device *device, PIRP irp, UCHAR major)
{
	struct wdf_queue *queue = wdf_queue_for(device, major);
	struct wdf_request *request;

	if (queue == NULL && device->config.filter)
		return wdf_pass_down(device, irp);
	if (queue == NULL)
		return wdf_complete(irp, STATUS_INVALID_DEVICE_REQUEST, 0);
	request = wdf_request_new(device, irp);
	if (request == NULL) {
		wdf_object_unref(&queue->object);
		return wdf_complete(irp, STATUS_INSUFFICIENT_RESOURCES, 0);
	}
	if (device->config.in_caller_context != NULL)
		device->config.in_caller_context((WDFDEVICE)(void *)device, (WDFREQUEST)(void *)request);
	else if (wdf_queue_insert(queue, request, false) != STATUS_SUCCESS)
		wdf_request_finish(request, STATUS_INVALID_DEVICE_STATE);
	wdf_object_unref(&queue->object);
	return STATUS_PENDING;
}

NTSTATUS
wdf_dispatch(PDEVICE_OBJECT object, PIRP irp)
{
	struct wdf_device *device = wdf_device_of(object);
	const UCHAR major = IoGetCurrentIrpStackLocation(irp)->MajorFunction;

	switch (major) {
	case IRP_MJ_CREATE:
		return wdf_file_create(device, irp);
	case IRP_MJ_CLEANUP:
		return wdf_file_cleanup(device, irp);
	case IRP_MJ_CLOSE:
		return wdf_file_close(device, irp);
	case IRP_MJ_READ:
	case IRP_MJ_WRITE:
	case IRP_MJ_DEVICE_CONTROL:
	case IRP_MJ_INTERNAL_DEVICE_CONTROL:
		return to_queue(device, irp, major);
	case IRP_MJ_SHUTDOWN:
		if (device->config.shutdown != NULL)
			device->config.shutdown((WDFDEVICE)(void *)device);
		return wdf_complete(irp, STATUS_SUCCESS, 0);
	case IRP_MJ_PNP:
		if (device->lower != NULL)
			return wdf_pnp(device, irp);
		break;
	case IRP_MJ_POWER:
	case IRP_MJ_SYSTEM_CONTROL:
		if (device->lower != NULL)
			return wdf_pass_down(device, irp);
		break;
	default:
		if (device->config.filter)
			return wdf_pass_down(device, irp);
		break;
	}
	return wdf_complete(irp, STATUS_INVALID_DEVICE_REQUEST, 0);
}
