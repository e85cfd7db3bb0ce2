/* SPDX-License-Identifier: MIT */
/* I/O targets: the device below, and devices that a driver opens. */
#include "wdf/wdf_queue.h"

NTSTATUS
wdf_query_interface(PDEVICE_OBJECT target, LPCGUID type, PINTERFACE interface, USHORT size, USHORT version,
		    PVOID data)
{
	const IO_STACK_LOCATION location = {
		.MajorFunction = IRP_MJ_PNP,
		.MinorFunction = IRP_MN_QUERY_INTERFACE,
		.Parameters.QueryInterface = {
			.InterfaceType = type,
			.Size = size,
			.Version = version,
			.Interface = interface,
			.InterfaceSpecificData = data,
		},
	};

	if (!nt_irql_check_at_most(PASSIVE_LEVEL, "QueryForInterface"))
		return STATUS_INVALID_DEVICE_STATE;
	return nt_irp_send(target, &location, STATUS_NOT_SUPPORTED, NULL);
}

/* ---- life ------------------------------------------------------------------------------------ */

static bool
target_may_delete(const struct wdf_object *object)
{
	return !((const struct wdf_target *)(const void *)object)->is_default;
}

/* No sender begins any more; those that began are waited for. */
static void
target_close(struct wdf_target *target)
{
	struct wdf_device *device = target->device;
	PDEVICE_OBJECT wdm = NULL;
	PFILE_OBJECT file = NULL;

	pthread_mutex_lock(&device->lock);
	if (!target->is_default) {
		wdm = target->wdm;
		file = target->file;
		target->wdm = NULL;
		target->file = NULL;
	}
	while (target->sent != 0)
		pthread_cond_wait(&device->changed, &device->lock);
	pthread_mutex_unlock(&device->lock);
	if (file != NULL)
		ObDereferenceObject(file);
	else if (wdm != NULL)
		ObDereferenceObject(wdm);
}

static void
target_cleanup(struct wdf_object *object)
{
	target_close((struct wdf_target *)(void *)object);
}

static const struct wdf_ops target_ops = {
	.type = WDF_TYPE_TARGET,
	.may_delete = target_may_delete,
	.cleanup = target_cleanup,
};

struct wdf_target *
wdf_target_new_default(struct wdf_device *device)
{
	struct wdf_target *target = wdf_object_new(sizeof(*target), &target_ops, &device->object, NULL);

	if (target == NULL)
		return NULL;
	target->device = device;
	target->is_default = true;
	target->wdm = device->lower;
	return target;
}

NTSTATUS
WdfIoTargetCreate(WDFDEVICE Device, PWDF_OBJECT_ATTRIBUTES IoTargetAttributes, WDFIOTARGET *IoTarget)
{
	struct wdf_device *device = WDF_HANDLE(device, DEVICE, Device);
	NTSTATUS status = wdf_attributes_check(IoTargetAttributes, WDF_PARENT_ALLOWED);
	struct wdf_target *target;

	if (device == NULL || IoTarget == NULL)
		return STATUS_INVALID_PARAMETER;
	*IoTarget = NULL;
	if (status != STATUS_SUCCESS)
		return status;
	target = wdf_object_new(sizeof(*target), &target_ops,
				wdf_attributes_parent(IoTargetAttributes, &device->object), IoTargetAttributes);
	if (target == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	target->device = device;
	*IoTarget = (WDFIOTARGET)(void *)target;
	return STATUS_SUCCESS;
}

/* False: it is open. */
static bool
set_open(struct wdf_target *target, PDEVICE_OBJECT wdm, PFILE_OBJECT file)
{
	bool was_closed;

	pthread_mutex_lock(&target->device->lock);
	was_closed = target->wdm == NULL;
	if (was_closed) {
		target->wdm = wdm;
		target->file = file;
	}
	pthread_mutex_unlock(&target->device->lock);
	return was_closed;
}

NTSTATUS
WdfIoTargetOpen(WDFIOTARGET IoTarget, PWDF_IO_TARGET_OPEN_PARAMS OpenParams)
{
	struct wdf_target *target = WDF_HANDLE(target, TARGET, IoTarget);
	PDEVICE_OBJECT wdm = NULL;
	PFILE_OBJECT file = NULL;
	NTSTATUS status;

	if (target == NULL)
		return STATUS_INVALID_HANDLE;
	if (OpenParams == NULL)
		return STATUS_INVALID_PARAMETER;
	if (OpenParams->Size != sizeof(*OpenParams))
		return STATUS_INFO_LENGTH_MISMATCH;
	if (WdfIoTargetWdmGetTargetDeviceObject(IoTarget) != NULL)
		return STATUS_INVALID_DEVICE_STATE;
	switch (OpenParams->Type) {
	case WdfIoTargetOpenByName:
		status = IoGetDeviceObjectPointer(&OpenParams->TargetDeviceName, OpenParams->DesiredAccess, &file,
						  &wdm);
		if (status != STATUS_SUCCESS)
			return status;
		break;
	case WdfIoTargetOpenUseExistingDevice:
		wdm = OpenParams->TargetDeviceObject;
		if (wdm == NULL)
			return STATUS_INVALID_PARAMETER;
		ObReferenceObject(wdm);
		break;
	default:
		return STATUS_INVALID_PARAMETER;
	}
	if (set_open(target, wdm, file))
		return STATUS_SUCCESS;
	/* Another thread was faster. */
	if (file != NULL)
		ObDereferenceObject(file);
	else
		ObDereferenceObject(wdm);
	return STATUS_INVALID_DEVICE_STATE;
}

VOID
WdfIoTargetClose(WDFIOTARGET IoTarget)
{
	struct wdf_target *target = WDF_HANDLE(target, TARGET, IoTarget);

	if (target != NULL)
		target_close(target);
}

/* ---- use ------------------------------------------------------------------------------------- */

PDEVICE_OBJECT
wdf_target_begin(struct wdf_target *target)
{
	PDEVICE_OBJECT wdm;

	pthread_mutex_lock(&target->device->lock);
	wdm = target->wdm;
	target->sent += wdm != NULL;
	pthread_mutex_unlock(&target->device->lock);
	return wdm;
}

void
wdf_target_end(struct wdf_target *target)
{
	struct wdf_device *device = target->device;

	pthread_mutex_lock(&device->lock);
	target->sent--;
	pthread_cond_broadcast(&device->changed);
	pthread_mutex_unlock(&device->lock);
}

WDFDEVICE
WdfIoTargetGetDevice(WDFIOTARGET IoTarget)
{
	struct wdf_target *target = WDF_HANDLE(target, TARGET, IoTarget);

	return target != NULL ? (WDFDEVICE)(void *)target->device : NULL;
}

PDEVICE_OBJECT
WdfIoTargetWdmGetTargetDeviceObject(WDFIOTARGET IoTarget)
{
	struct wdf_target *target = WDF_HANDLE(target, TARGET, IoTarget);
	PDEVICE_OBJECT wdm;

	if (target == NULL)
		return NULL;
	pthread_mutex_lock(&target->device->lock);
	wdm = target->wdm;
	pthread_mutex_unlock(&target->device->lock);
	return wdm;
}

NTSTATUS
WdfIoTargetQueryForInterface(WDFIOTARGET IoTarget, LPCGUID InterfaceType, PINTERFACE Interface, USHORT Size,
			     USHORT Version, PVOID InterfaceSpecificData)
{
	struct wdf_target *target = WDF_HANDLE(target, TARGET, IoTarget);
	PDEVICE_OBJECT wdm;
	NTSTATUS status;

	if (target == NULL)
		return STATUS_INVALID_HANDLE;
	wdm = wdf_target_begin(target);
	if (wdm == NULL)
		return STATUS_INVALID_DEVICE_STATE;
	status = wdf_query_interface(wdm, InterfaceType, Interface, Size, Version, InterfaceSpecificData);
	wdf_target_end(target);
	return status;
}

/* STATUS_INVALID_PARAMETER for what describes no memory. */
static NTSTATUS
resolve(const WDF_MEMORY_DESCRIPTOR *descriptor, PVOID *address, ULONG *bytes)
{
	size_t length;

	*address = NULL;
	*bytes = 0;
	if (descriptor == NULL)
		return STATUS_SUCCESS;
	switch (descriptor->Type) {
	case WdfMemoryDescriptorTypeBuffer:
		*address = descriptor->u.BufferType.Buffer;
		*bytes = descriptor->u.BufferType.Length;
		return STATUS_SUCCESS;
	case WdfMemoryDescriptorTypeMdl:
		*address = MmGetSystemAddressForMdlSafe(descriptor->u.MdlType.Mdl, NormalPagePriority);
		*bytes = descriptor->u.MdlType.BufferLength;
		return *address != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
	case WdfMemoryDescriptorTypeHandle:
		*address = WdfMemoryGetBuffer(descriptor->u.HandleType.Memory, &length);
		if (*address != NULL && descriptor->u.HandleType.Offsets != NULL) {
			const WDFMEMORY_OFFSET *part = descriptor->u.HandleType.Offsets;

			if (part->BufferOffset > length || part->BufferLength > length - part->BufferOffset)
				return STATUS_INVALID_PARAMETER;
			*address = (char *)*address + part->BufferOffset;
			length = part->BufferLength != 0 ? part->BufferLength : length - part->BufferOffset;
		}
		*bytes = (ULONG)length;
		return *address != NULL ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
	default:
		return STATUS_INVALID_PARAMETER;
	}
}

static NTSTATUS
stop_here(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
	UNREFERENCED_PARAMETER(device);
	UNREFERENCED_PARAMETER(irp);
	KeSetEvent(context, IO_NO_INCREMENT, FALSE);
	return STATUS_MORE_PROCESSING_REQUIRED;
}

/* The IRP stays ours until it cannot be cancelled any more. */
static NTSTATUS
send_and_wait(PDEVICE_OBJECT target, PIRP irp, const LARGE_INTEGER *timeout, ULONG_PTR *information)
{
	IO_STATUS_BLOCK result = { .Status = STATUS_UNSUCCESSFUL };
	bool timed_out;
	KEVENT done;

	KeInitializeEvent(&done, NotificationEvent, FALSE);
	irp->UserIosb = &result;
	IoSetCompletionRoutine(irp, stop_here, &done, TRUE, TRUE, TRUE);
	(void)IofCallDriver(target, irp);
	timed_out = KeWaitForSingleObject(&done, Executive, KernelMode, FALSE,
					  (PLARGE_INTEGER)(uintptr_t)timeout) == STATUS_TIMEOUT;
	if (timed_out) {
		(void)IoCancelIrp(irp);
		KeWaitForSingleObject(&done, Executive, KernelMode, FALSE, NULL);
	}
	nt_irp_finish(irp);
	*information = result.Information;
	return timed_out && result.Status == STATUS_CANCELLED ? STATUS_IO_TIMEOUT : result.Status;
}

NTSTATUS
WdfIoTargetSendIoctlSynchronously(WDFIOTARGET IoTarget, WDFREQUEST Request, ULONG IoctlCode,
				  PWDF_MEMORY_DESCRIPTOR InputBuffer, PWDF_MEMORY_DESCRIPTOR OutputBuffer,
				  PWDF_REQUEST_SEND_OPTIONS RequestOptions, PULONG_PTR BytesReturned)
{
	struct wdf_target *target = WDF_HANDLE(target, TARGET, IoTarget);
	const bool bounded = RequestOptions != NULL &&
			     (RequestOptions->Flags & WDF_REQUEST_SEND_OPTION_TIMEOUT) != 0;
	const LARGE_INTEGER timeout = { .QuadPart = bounded ? RequestOptions->Timeout : 0 };
	ULONG input_bytes, output_bytes;
	ULONG_PTR information = 0;
	PVOID input, output;
	PDEVICE_OBJECT wdm;
	NTSTATUS status;
	PIRP irp = NULL;

	if (target == NULL)
		return STATUS_INVALID_HANDLE;
	if (Request != NULL || !nt_irql_check_at_most(PASSIVE_LEVEL, __func__))
		return STATUS_INVALID_PARAMETER;
	wdm = wdf_target_begin(target);
	if (wdm == NULL)
		return STATUS_INVALID_DEVICE_STATE;
	status = resolve(InputBuffer, &input, &input_bytes);
	if (status == STATUS_SUCCESS)
		status = resolve(OutputBuffer, &output, &output_bytes);
	if (status == STATUS_SUCCESS) {
		irp = IoBuildDeviceIoControlRequest(IoctlCode, wdm, input, input_bytes, output, output_bytes, FALSE,
						    NULL, NULL);
		status = STATUS_INSUFFICIENT_RESOURCES;
	}
	if (irp != NULL) {
		status = send_and_wait(wdm, irp, bounded ? &timeout : NULL, &information);
		if (BytesReturned != NULL)
			*BytesReturned = information;
	}
	wdf_target_end(target);
	return status;
}
