/* SPDX-License-Identifier: MIT */
/*
 * Requests: from an IRP to its completion, cancellation by the driver's callback, and passing on.
 *
 * While a request is cancelable there are two who may end it, the driver and the I/O manager's cancellation. Who takes the IRP's cancel
 * routine away decides: unmarking gives the request back to the driver, cancellation calls EvtRequestCancel.
 */
#include "wdf/wdf_queue.h"

#include <string.h>

/* ---- life ------------------------------------------------------------------------------------ */

static void
request_destroy(struct wdf_object *object)
{
	struct wdf_request *request = (struct wdf_request *)(void *)object;

	if (request->queue != NULL)
		wdf_object_unref(&request->queue->object);
	wdf_object_unref(&request->device->object);
}

static const struct wdf_ops request_ops = { .type = WDF_TYPE_REQUEST, .destroy = request_destroy };

struct wdf_request *
wdf_request_new(struct wdf_device *device, PIRP irp)
{
	const struct WDFDEVICE_INIT *config = &device->config;
	/* No parent: requests come and go on any thread, and the device waits for them before it goes. */
	struct wdf_request *request =
		wdf_object_new(sizeof(*request), &request_ops, NULL,
			       config->has_request_attributes ? &config->request_attributes : NULL);

	if (request == NULL)
		return NULL;
	wdf_object_ref(&device->object);
	request->device = device;
	request->irp = irp;
	request->state = WDF_REQUEST_HELD;
	InitializeListHead(&request->link);
	IoMarkIrpPending(irp);
	pthread_mutex_lock(&device->lock);
	device->requests++;
	pthread_mutex_unlock(&device->lock);
	return request;
}

struct wdf_request *
wdf_request_held(WDFREQUEST handle, const char *function)
{
	struct wdf_request *request = (struct wdf_request *)(void *)wdf_check(handle, WDF_TYPE_REQUEST, function);
	enum wdf_request_state state;

	if (request == NULL)
		return NULL;
	pthread_mutex_lock(&request->device->lock);
	state = request->state;
	pthread_mutex_unlock(&request->device->lock);
	if (state == WDF_REQUEST_HELD)
		return request;
	nt_misuse("%s: request %p %s; leave it alone from then on", function, (void *)handle,
		  state == WDF_REQUEST_DONE    ? "is completed already" :
		  state == WDF_REQUEST_WAITING ? "is in a queue, not the driver's" :
						 "is with the driver below");
	return NULL;
}

/* The request leaves the driver; what stays of it is freed after `irp` went its way. */
static struct wdf_queue *
leave_driver(struct wdf_request *request)
{
	struct wdf_queue *queue;

	pthread_mutex_lock(&request->device->lock);
	request->state = WDF_REQUEST_DONE;
	queue = request->queue;
	wdf_queue_release_locked(request);
	pthread_mutex_unlock(&request->device->lock);
	/* The driver's cleanup callbacks may still look at the IRP. */
	wdf_object_cleanup(&request->object);
	wdf_buffers_free(request);
	return queue;
}

static void
forget(struct wdf_request *request, struct wdf_queue *queue)
{
	struct wdf_device *device = request->device;

	wdf_queue_leave(queue);
	wdf_object_ref(&device->object);
	wdf_object_delete(&request->object);
	pthread_mutex_lock(&device->lock);
	device->requests--;
	pthread_cond_broadcast(&device->changed);
	pthread_mutex_unlock(&device->lock);
	wdf_object_unref(&device->object);
}

void
wdf_request_finish(struct wdf_request *request, NTSTATUS status)
{
	struct wdf_queue *queue = leave_driver(request);
	const PIRP irp = request->irp;

	if (wdf_request_major(request) == IRP_MJ_CREATE)
		wdf_file_created(request->device, IoGetCurrentIrpStackLocation(irp)->FileObject, status);
	irp->IoStatus.Status = status;
	irp->IoStatus.Information = request->information;
	IoCompleteRequest(irp, IO_NO_INCREMENT);
	forget(request, queue);
}

/* ---- completion ------------------------------------------------------------------------------ */

/* Bytes that may be reported. */
static ULONG_PTR
most_information(const struct wdf_request *request)
{
	const IO_STACK_LOCATION *location = IoGetCurrentIrpStackLocation(request->irp);

	switch (location->MajorFunction) {
	case IRP_MJ_READ:
	case IRP_MJ_WRITE:
		return location->Parameters.Read.Length;
	case IRP_MJ_DEVICE_CONTROL:
	case IRP_MJ_INTERNAL_DEVICE_CONTROL:
		/* Only a buffered control's number is a number of bytes to copy. */
		if (METHOD_FROM_CTL_CODE(location->Parameters.DeviceIoControl.IoControlCode) == METHOD_BUFFERED)
			return location->Parameters.DeviceIoControl.OutputBufferLength;
		return MAXULONG_PTR;
	default:
		return MAXULONG_PTR;
	}
}

bool
wdf_request_uncancel_locked(struct wdf_request *request)
{
	if (request->cancel == NULL)
		return true;
	if (IoSetCancelRoutine(request->irp, NULL) == NULL)
		return false;
	request->cancel = NULL;
	return true;
}

/* False: EvtRequestCancel is about to run and owns the request. */
static bool
may_end(struct wdf_request *request, const char *function)
{
	bool cancelable, ours;

	pthread_mutex_lock(&request->device->lock);
	cancelable = request->cancel != NULL;
	ours = wdf_request_uncancel_locked(request);
	pthread_mutex_unlock(&request->device->lock);
	if (cancelable)
		nt_misuse("%s: request %p is cancelable; WdfRequestUnmarkCancelable comes first", function,
			  (void *)request);
	return ours;
}

static void
complete(WDFREQUEST handle, NTSTATUS status, const ULONG_PTR *information, const char *function)
{
	struct wdf_request *request = wdf_request_held(handle, function);

	if (request == NULL || !may_end(request, function))
		return;
	if (status == STATUS_PENDING) {
		nt_misuse("%s: request %p completed with STATUS_PENDING; complete it with what came of it", function, (void *)handle);
		status = STATUS_UNSUCCESSFUL;
	}
	if (information != NULL)
		request->information = *information;
	if (NT_SUCCESS(status) && request->information > most_information(request)) {
		nt_misuse("%s: request %p completed with %zu bytes, its buffer has %zu; report what was written", function, (void *)handle,
			  (size_t)request->information, (size_t)most_information(request));
		request->information = most_information(request);
	}
	wdf_request_finish(request, status);
}

VOID
WdfRequestComplete(WDFREQUEST Request, NTSTATUS Status)
{
	complete(Request, Status, NULL, __func__);
}

VOID
WdfRequestCompleteWithInformation(WDFREQUEST Request, NTSTATUS Status, ULONG_PTR Information)
{
	complete(Request, Status, &Information, __func__);
}

VOID
WdfRequestCompleteWithPriorityBoost(WDFREQUEST Request, NTSTATUS Status, CCHAR PriorityBoost)
{
	UNREFERENCED_PARAMETER(PriorityBoost);
	complete(Request, Status, NULL, __func__);
}

VOID
WdfRequestSetInformation(WDFREQUEST Request, ULONG_PTR Information)
{
	struct wdf_request *request = wdf_request_held(Request, __func__);

	if (request != NULL)
		request->information = Information;
}

ULONG_PTR
WdfRequestGetInformation(WDFREQUEST Request)
{
	struct wdf_request *request = wdf_request_held(Request, __func__);

	return request != NULL ? request->information : 0;
}

/* ---- what it asks for ------------------------------------------------------------------------ */

VOID
WdfRequestGetParameters(WDFREQUEST Request, PWDF_REQUEST_PARAMETERS Parameters)
{
	struct wdf_request *request = wdf_request_held(Request, __func__);
	const IO_STACK_LOCATION *location;

	if (request == NULL)
		return;
	if (Parameters->Size != sizeof(*Parameters)) {
		nt_misuse("%s: the structure has Size %u; was it initialized?", __func__, Parameters->Size);
		return;
	}
	location = IoGetCurrentIrpStackLocation(request->irp);
	Parameters->MinorFunction = location->MinorFunction;
	Parameters->Type = (WDF_REQUEST_TYPE)location->MajorFunction;
	switch (location->MajorFunction) {
	case IRP_MJ_CREATE:
		Parameters->Parameters.Create.SecurityContext = location->Parameters.Create.SecurityContext;
		Parameters->Parameters.Create.Options = location->Parameters.Create.Options;
		Parameters->Parameters.Create.FileAttributes = location->Parameters.Create.FileAttributes;
		Parameters->Parameters.Create.ShareAccess = location->Parameters.Create.ShareAccess;
		Parameters->Parameters.Create.EaLength = location->Parameters.Create.EaLength;
		break;
	case IRP_MJ_READ:
	case IRP_MJ_WRITE:
		Parameters->Parameters.Read.Length = location->Parameters.Read.Length;
		Parameters->Parameters.Read.Key = location->Parameters.Read.Key;
		Parameters->Parameters.Read.DeviceOffset = location->Parameters.Read.ByteOffset.QuadPart;
		break;
	default:
		Parameters->Parameters.DeviceIoControl.OutputBufferLength =
			location->Parameters.DeviceIoControl.OutputBufferLength;
		Parameters->Parameters.DeviceIoControl.InputBufferLength =
			location->Parameters.DeviceIoControl.InputBufferLength;
		Parameters->Parameters.DeviceIoControl.IoControlCode =
			location->Parameters.DeviceIoControl.IoControlCode;
		Parameters->Parameters.DeviceIoControl.Type3InputBuffer =
			location->Parameters.DeviceIoControl.Type3InputBuffer;
		break;
	}
}

WDFQUEUE
WdfRequestGetIoQueue(WDFREQUEST Request)
{
	struct wdf_request *request = WDF_HANDLE(request, REQUEST, Request);
	struct wdf_queue *queue;

	if (request == NULL)
		return NULL;
	pthread_mutex_lock(&request->device->lock);
	queue = request->queue;
	pthread_mutex_unlock(&request->device->lock);
	return (WDFQUEUE)(void *)queue;
}

WDFFILEOBJECT
WdfRequestGetFileObject(WDFREQUEST Request)
{
	struct wdf_request *request = wdf_request_held(Request, __func__);

	if (request == NULL)
		return NULL;
	return (WDFFILEOBJECT)(void *)wdf_file_of(request->device,
						  IoGetCurrentIrpStackLocation(request->irp)->FileObject);
}

KPROCESSOR_MODE
WdfRequestGetRequestorMode(WDFREQUEST Request)
{
	struct wdf_request *request = wdf_request_held(Request, __func__);

	return request != NULL ? request->irp->RequestorMode : (KPROCESSOR_MODE)KernelMode;
}

PIRP
WdfRequestWdmGetIrp(WDFREQUEST Request)
{
	struct wdf_request *request = wdf_request_held(Request, __func__);

	return request != NULL ? request->irp : NULL;
}

/* ---- cancellation ---------------------------------------------------------------------------- */

static void
call_cancel(struct wdf_request *request, PFN_WDF_REQUEST_CANCEL cancel)
{
	struct wdf_queue *queue = (struct wdf_queue *)(void *)WdfRequestGetIoQueue((WDFREQUEST)(void *)request);
	/* Inside MarkCancelable the driver may be in its own callback, which has the lock. */
	struct wdf_sync *sync = wdf_sync_unless_mine(queue != NULL ? queue->object.sync : NULL);

	wdf_sync_acquire(sync);
	cancel((WDFREQUEST)(void *)request);
	wdf_sync_release(sync);
}

static VOID
cancel_held(PDEVICE_OBJECT object, PIRP irp)
{
	struct wdf_request *request = irp->Tail.Overlay.DriverContext[0];
	struct wdf_queue *queue;
	PFN_WDF_REQUEST_CANCEL cancel;

	UNREFERENCED_PARAMETER(object);
	IoReleaseCancelSpinLock(irp->CancelIrql);
	pthread_mutex_lock(&request->device->lock);
	cancel = request->cancel;
	request->cancel = NULL;
	queue = request->queue;
	/* Neither goes before the callback has returned. */
	wdf_object_ref(&request->object);
	if (queue != NULL)
		wdf_queue_use_locked(queue);
	pthread_mutex_unlock(&request->device->lock);
	call_cancel(request, cancel);
	wdf_object_unref(&request->object);
	wdf_queue_leave(queue);
}

/* True: it or all of its queue is cancelled already, and nobody else will say so. */
static bool
mark(struct wdf_request *request, PFN_WDF_REQUEST_CANCEL cancel)
{
	bool cancelled = false;

	pthread_mutex_lock(&request->device->lock);
	if (request->queue != NULL && request->queue->purging)
		__atomic_store_n(&request->irp->Cancel, TRUE, __ATOMIC_SEQ_CST);
	request->cancel = cancel;
	request->irp->Tail.Overlay.DriverContext[0] = request;
	(void)IoSetCancelRoutine(request->irp, cancel_held);
	if (__atomic_load_n(&request->irp->Cancel, __ATOMIC_SEQ_CST) &&
	    IoSetCancelRoutine(request->irp, NULL) != NULL) {
		request->cancel = NULL;
		cancelled = true;
	}
	pthread_mutex_unlock(&request->device->lock);
	return cancelled;
}

static struct wdf_request *
to_mark(WDFREQUEST handle, const char *function)
{
	struct wdf_request *request = wdf_request_held(handle, function);

	if (request == NULL || request->cancel == NULL)
		return request;
	nt_misuse("%s: request %p is cancelable already; mark it once", function, (void *)handle);
	return NULL;
}

VOID
WdfRequestMarkCancelable(WDFREQUEST Request, PFN_WDF_REQUEST_CANCEL EvtRequestCancel)
{
	struct wdf_request *request = to_mark(Request, __func__);

	if (request == NULL || !mark(request, EvtRequestCancel))
		return;
	wdf_object_ref(&request->object);
	call_cancel(request, EvtRequestCancel);
	wdf_object_unref(&request->object);
}

NTSTATUS
WdfRequestMarkCancelableEx(WDFREQUEST Request, PFN_WDF_REQUEST_CANCEL EvtRequestCancel)
{
	struct wdf_request *request = to_mark(Request, __func__);

	if (request == NULL)
		return STATUS_INVALID_DEVICE_REQUEST;
	return mark(request, EvtRequestCancel) ? STATUS_CANCELLED : STATUS_SUCCESS;
}

NTSTATUS
WdfRequestUnmarkCancelable(WDFREQUEST Request)
{
	struct wdf_request *request = WDF_HANDLE(request, REQUEST, Request);
	NTSTATUS status = STATUS_CANCELLED;

	if (request == NULL)
		return STATUS_INVALID_HANDLE;
	pthread_mutex_lock(&request->device->lock);
	if (request->cancel != NULL && wdf_request_uncancel_locked(request))
		status = STATUS_SUCCESS;
	else if (!__atomic_load_n(&request->irp->Cancel, __ATOMIC_RELAXED))
		status = STATUS_INVALID_PARAMETER;
	pthread_mutex_unlock(&request->device->lock);
	if (status == STATUS_INVALID_PARAMETER)
		nt_misuse("%s: request %p is not cancelable; unmark only what is marked", __func__, (void *)Request);
	return status;
}

BOOLEAN
WdfRequestIsCanceled(WDFREQUEST Request)
{
	struct wdf_request *request = wdf_request_held(Request, __func__);

	return request != NULL && __atomic_load_n(&request->irp->Cancel, __ATOMIC_ACQUIRE);
}

/* ---- passing on ------------------------------------------------------------------------------ */

NTSTATUS
WdfRequestForwardToIoQueue(WDFREQUEST Request, WDFQUEUE DestinationQueue)
{
	struct wdf_request *request = wdf_request_held(Request, __func__);
	struct wdf_queue *queue = WDF_HANDLE(queue, QUEUE, DestinationQueue);

	if (request == NULL || queue == NULL)
		return STATUS_INVALID_HANDLE;
	if (queue->device != request->device || queue == request->queue)
		return STATUS_INVALID_DEVICE_REQUEST;
	if (!may_end(request, __func__))
		return STATUS_INVALID_DEVICE_REQUEST;
	return wdf_queue_insert(queue, request, false);
}

NTSTATUS
WdfRequestRequeue(WDFREQUEST Request)
{
	struct wdf_request *request = wdf_request_held(Request, __func__);

	if (request == NULL)
		return STATUS_INVALID_HANDLE;
	if (request->queue == NULL || !request->retrieved ||
	    request->queue->config.DispatchType != WdfIoQueueDispatchManual)
		return STATUS_INVALID_DEVICE_REQUEST;
	if (!may_end(request, __func__))
		return STATUS_INVALID_DEVICE_REQUEST;
	return wdf_queue_insert(request->queue, request, true);
}

VOID
WdfRequestStopAcknowledge(WDFREQUEST Request, BOOLEAN Requeue)
{
	struct wdf_request *request = wdf_request_held(Request, __func__);

	if (request == NULL)
		return;
	if (Requeue) {
		/* The queue is being emptied: there it would only be cancelled. */
		if (may_end(request, __func__))
			wdf_request_finish(request, STATUS_CANCELLED);
		return;
	}
	pthread_mutex_lock(&request->device->lock);
	request->acknowledged = true;
	pthread_cond_broadcast(&request->device->changed);
	pthread_mutex_unlock(&request->device->lock);
}

NTSTATUS
WdfDeviceEnqueueRequest(WDFDEVICE Device, WDFREQUEST Request)
{
	struct wdf_device *device = WDF_HANDLE(device, DEVICE, Device);
	struct wdf_request *request = wdf_request_held(Request, __func__);
	struct wdf_queue *queue;
	NTSTATUS status;

	if (device == NULL || request == NULL)
		return STATUS_INVALID_HANDLE;
	if (request->device != device || request->queue != NULL)
		return STATUS_INVALID_DEVICE_REQUEST;
	queue = wdf_queue_for(device, wdf_request_major(request));
	if (queue == NULL)
		return STATUS_INVALID_DEVICE_REQUEST;
	status = wdf_queue_insert(queue, request, false);
	wdf_object_unref(&queue->object);
	return status;
}

/* ---- to the driver below --------------------------------------------------------------------- */

VOID
WdfRequestSetCompletionRoutine(WDFREQUEST Request, PFN_WDF_REQUEST_COMPLETION_ROUTINE CompletionRoutine,
			       WDFCONTEXT CompletionContext)
{
	struct wdf_request *request = wdf_request_held(Request, __func__);

	if (request == NULL)
		return;
	request->completion = CompletionRoutine;
	request->completion_context = CompletionContext;
}

VOID
WdfRequestFormatRequestUsingCurrentType(WDFREQUEST Request)
{
	struct wdf_request *request = wdf_request_held(Request, __func__);

	if (request == NULL)
		return;
	IoCopyCurrentIrpStackLocationToNext(request->irp);
	request->formatted = true;
}

NTSTATUS
WdfRequestGetStatus(WDFREQUEST Request)
{
	struct wdf_request *request = wdf_request_held(Request, __func__);

	return request != NULL ? request->result.IoStatus.Status : STATUS_INVALID_HANDLE;
}

VOID
WdfRequestGetCompletionParams(WDFREQUEST Request, PWDF_REQUEST_COMPLETION_PARAMS Params)
{
	struct wdf_request *request = wdf_request_held(Request, __func__);

	if (request != NULL)
		*Params = request->result;
}

static void
note_result(struct wdf_request *request)
{
	request->result.Size = (ULONG)sizeof(request->result);
	request->result.Type = (WDF_REQUEST_TYPE)wdf_request_major(request);
	request->result.IoStatus = request->irp->IoStatus;
	request->information = request->irp->IoStatus.Information;
}

static void
set_state(struct wdf_request *request, enum wdf_request_state state)
{
	pthread_mutex_lock(&request->device->lock);
	request->state = state;
	pthread_cond_broadcast(&request->device->changed);
	pthread_mutex_unlock(&request->device->lock);
}

static NTSTATUS
came_back(PDEVICE_OBJECT object, PIRP irp, PVOID context)
{
	struct wdf_request *request = context;
	struct wdf_target *target = request->target;

	UNREFERENCED_PARAMETER(object);
	UNREFERENCED_PARAMETER(irp);
	note_result(request);
	wdf_object_ref(&request->object);
	/* The routine may close the target, or have another thread do it. */
	wdf_object_ref(&target->object);
	set_state(request, WDF_REQUEST_HELD);
	wdf_target_end(target);
	if (request->completion != NULL)
		request->completion((WDFREQUEST)(void *)request, (WDFIOTARGET)(void *)target, &request->result,
				    request->completion_context);
	wdf_object_unref(&target->object);
	wdf_object_unref(&request->object);
	return STATUS_MORE_PROCESSING_REQUIRED;
}

static NTSTATUS
wake(PDEVICE_OBJECT object, PIRP irp, PVOID context)
{
	UNREFERENCED_PARAMETER(object);
	UNREFERENCED_PARAMETER(irp);
	KeSetEvent(context, IO_NO_INCREMENT, FALSE);
	return STATUS_MORE_PROCESSING_REQUIRED;
}

static void
send_and_wait(struct wdf_request *request, PDEVICE_OBJECT below, const WDF_REQUEST_SEND_OPTIONS *options)
{
	LARGE_INTEGER timeout = { .QuadPart = options->Timeout };
	const bool bounded = (options->Flags & WDF_REQUEST_SEND_OPTION_TIMEOUT) != 0;
	KEVENT done;

	KeInitializeEvent(&done, NotificationEvent, FALSE);
	IoSetCompletionRoutine(request->irp, wake, &done, TRUE, TRUE, TRUE);
	set_state(request, WDF_REQUEST_SENT);
	(void)IofCallDriver(below, request->irp);
	if (KeWaitForSingleObject(&done, Executive, KernelMode, FALSE, bounded ? &timeout : NULL) ==
	    STATUS_TIMEOUT) {
		(void)IoCancelIrp(request->irp);
		KeWaitForSingleObject(&done, Executive, KernelMode, FALSE, NULL);
	}
	note_result(request);
	set_state(request, WDF_REQUEST_HELD);
	wdf_target_end(request->target);
}

static void
send_and_forget(struct wdf_request *request, PDEVICE_OBJECT below)
{
	struct wdf_queue *queue = leave_driver(request);

	IoSkipCurrentIrpStackLocation(request->irp);
	(void)IofCallDriver(below, request->irp);
	wdf_target_end(request->target);
	forget(request, queue);
}

/* To the device of request->target, which is in use until it comes back. False: it is not sent, and the use is the caller's. */
static bool
send_below(struct wdf_request *request, PDEVICE_OBJECT below, const WDF_REQUEST_SEND_OPTIONS *options)
{
	const ULONG flags = options != NULL ? options->Flags : 0;

	request->result.IoStatus.Status = STATUS_INVALID_DEVICE_STATE;
	if (request->irp->CurrentLocation <= 1)
		return false;
	request->result.IoStatus.Status = STATUS_WDF_REQUEST_INVALID_STATE;
	if (!may_end(request, "WdfRequestSend"))
		return false;
	if ((flags & WDF_REQUEST_SEND_OPTION_SEND_AND_FORGET) != 0) {
		send_and_forget(request, below);
		return true;
	}
	if (!request->formatted)
		return false;
	request->formatted = false;
	if ((flags & WDF_REQUEST_SEND_OPTION_SYNCHRONOUS) != 0) {
		send_and_wait(request, below, options);
		return true;
	}
	IoSetCompletionRoutine(request->irp, came_back, request, TRUE, TRUE, TRUE);
	set_state(request, WDF_REQUEST_SENT);
	(void)IofCallDriver(below, request->irp);
	return true;
}

BOOLEAN
WdfRequestSend(WDFREQUEST Request, WDFIOTARGET Target, PWDF_REQUEST_SEND_OPTIONS Options)
{
	struct wdf_request *request = wdf_request_held(Request, __func__);
	struct wdf_target *target = WDF_HANDLE(target, TARGET, Target);
	PDEVICE_OBJECT below;

	if (request == NULL || target == NULL)
		return FALSE;
	request->result.IoStatus.Status = STATUS_INVALID_DEVICE_STATE;
	below = wdf_target_begin(target);
	if (below == NULL)
		return FALSE;
	request->target = target;
	if (send_below(request, below, Options))
		return TRUE;
	wdf_target_end(target);
	return FALSE;
}
