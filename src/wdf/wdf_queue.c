/* SPDX-License-Identifier: MIT */
/*
 * Queues: what waits, what is delivered when, and how a queue comes to rest.
 *
 * Delivery. A thread that inserts a request or gives one up calls deliver(), which presents requests as long as the queue has room: fewer than
 * `limit` held, and fewer than `limit` callbacks under way, so that a callback that completes its request is not entered again below
 * itself. A thread that may not run the callbacks (wrong level, or it holds their lock) leaves it to a work item.
 */
#include "wdf/wdf_queue.h"

static void deliver(struct wdf_queue *queue);

/* ---- coming to rest -------------------------------------------------------------------------- */

/* Noted and not just looked at later: another thread may have the next request before this one tells. */
void
wdf_queue_note_rest_locked(struct wdf_queue *queue)
{
	if (queue->held_count != 0)
		return;
	queue->stop.due = true;
	if (IsListEmpty(&queue->waiting))
		queue->drain.due = true;
}

/* device->lock held. Callbacks of stop and drain that are due; they are taken. */
static unsigned
take_due_locked(struct wdf_queue *queue, struct wdf_queue_waiter due[2])
{
	unsigned count = 0;

	if (queue->stop.due && queue->stop.call != NULL) {
		due[count++] = queue->stop;
		queue->stop.call = NULL;
	}
	if (queue->drain.due && queue->drain.call != NULL) {
		due[count++] = queue->drain;
		queue->drain.call = NULL;
	}
	return count;
}

/* Tell who waits for the queue to come to rest. */
void
wdf_queue_settle(struct wdf_queue *queue)
{
	struct wdf_queue_waiter due[2];
	unsigned count;

	pthread_mutex_lock(&queue->device->lock);
	count = take_due_locked(queue, due);
	pthread_cond_broadcast(&queue->device->changed);
	pthread_mutex_unlock(&queue->device->lock);
	for (unsigned i = 0; i < count; i++)
		due[i].call((WDFQUEUE)(void *)queue, due[i].context);
}

void
wdf_queue_use_locked(struct wdf_queue *queue)
{
	queue->users++;
	wdf_object_ref(&queue->object);
}

static void
unuse(struct wdf_queue *queue)
{
	pthread_mutex_lock(&queue->device->lock);
	queue->users--;
	pthread_cond_broadcast(&queue->device->changed);
	pthread_mutex_unlock(&queue->device->lock);
	wdf_object_unref(&queue->object);
}

/* ---- cancelling what waits ------------------------------------------------------------------- */

static void
end_cancelled(struct wdf_queue *queue, struct wdf_request *request)
{
	struct wdf_sync *sync = wdf_sync_unless_mine(queue->object.sync);

	if (request->seen && queue->config.EvtIoCanceledOnQueue != NULL) {
		wdf_sync_acquire(sync);
		queue->config.EvtIoCanceledOnQueue((WDFQUEUE)(void *)queue, (WDFREQUEST)(void *)request);
		wdf_sync_release(sync);
	} else {
		wdf_request_finish(request, STATUS_CANCELLED);
	}
}

/* A waiting request that cannot be cancelled by others any more. */
static void
leave_waiting_locked(struct wdf_queue *queue, struct wdf_request *request)
{
	RemoveEntryList(&request->link);
	InitializeListHead(&request->link);
	request->state = WDF_REQUEST_HELD;
	InsertTailList(&queue->held, &request->link);
	queue->held_count++;
}

static VOID
cancel_waiting(PDEVICE_OBJECT object, PIRP irp)
{
	struct wdf_request *request = irp->Tail.Overlay.DriverContext[0];
	struct wdf_queue *queue;

	UNREFERENCED_PARAMETER(object);
	IoReleaseCancelSpinLock(irp->CancelIrql);
	/* Who takes requests off the list leaves one alone whose cancel routine was called. */
	pthread_mutex_lock(&request->device->lock);
	queue = request->queue;
	wdf_queue_use_locked(queue);
	leave_waiting_locked(queue, request);
	pthread_mutex_unlock(&request->device->lock);
	end_cancelled(queue, request);
	unuse(queue);
}

struct wdf_request *
wdf_queue_take_locked(struct wdf_queue *queue, PFILE_OBJECT file)
{
	for (LIST_ENTRY *e = queue->waiting.Flink; e != &queue->waiting; e = e->Flink) {
		struct wdf_request *request = CONTAINING_RECORD(e, struct wdf_request, link);

		if (file != NULL && IoGetCurrentIrpStackLocation(request->irp)->FileObject != file)
			continue;
		if (IoSetCancelRoutine(request->irp, NULL) == NULL)
			continue;
		leave_waiting_locked(queue, request);
		return request;
	}
	return NULL;
}

void
wdf_queue_cancel_waiting(struct wdf_queue *queue, PFILE_OBJECT file)
{
	struct wdf_request *request;

	do {
		pthread_mutex_lock(&queue->device->lock);
		request = wdf_queue_take_locked(queue, file);
		pthread_mutex_unlock(&queue->device->lock);
		if (request != NULL)
			end_cancelled(queue, request);
	} while (request != NULL);
}

/* ---- delivery -------------------------------------------------------------------------------- */

static bool
runs_locked(const struct wdf_queue *queue)
{
	return queue->started && (!queue->power_managed || queue->device->in_d0);
}

struct wdf_queue_waiter
wdf_queue_ready_locked(const struct wdf_queue *queue)
{
	const struct wdf_queue_waiter nobody = { 0 };

	return runs_locked(queue) && !IsListEmpty(&queue->waiting) ? queue->ready : nobody;
}

static bool
is_empty_transfer(const struct wdf_request *request)
{
	const UCHAR major = wdf_request_major(request);

	return (major == IRP_MJ_READ || major == IRP_MJ_WRITE) &&
	       IoGetCurrentIrpStackLocation(request->irp)->Parameters.Read.Length == 0;
}

static void
call_driver(struct wdf_queue *queue, struct wdf_request *request)
{
	const IO_STACK_LOCATION *location = IoGetCurrentIrpStackLocation(request->irp);
	const WDF_IO_QUEUE_CONFIG *config = &queue->config;
	const WDFQUEUE handle = (WDFQUEUE)(void *)queue;
	const WDFREQUEST own = (WDFREQUEST)(void *)request;
	const ULONG in = location->Parameters.DeviceIoControl.InputBufferLength;
	const ULONG out = location->Parameters.DeviceIoControl.OutputBufferLength;
	const ULONG code = location->Parameters.DeviceIoControl.IoControlCode;

	if (location->MajorFunction == IRP_MJ_READ && config->EvtIoRead != NULL)
		config->EvtIoRead(handle, own, location->Parameters.Read.Length);
	else if (location->MajorFunction == IRP_MJ_WRITE && config->EvtIoWrite != NULL)
		config->EvtIoWrite(handle, own, location->Parameters.Write.Length);
	else if (location->MajorFunction == IRP_MJ_DEVICE_CONTROL && config->EvtIoDeviceControl != NULL)
		config->EvtIoDeviceControl(handle, own, out, in, code);
	else if (location->MajorFunction == IRP_MJ_INTERNAL_DEVICE_CONTROL &&
		 config->EvtIoInternalDeviceControl != NULL)
		config->EvtIoInternalDeviceControl(handle, own, out, in, code);
	else if (config->EvtIoDefault != NULL)
		config->EvtIoDefault(handle, own);
	else
		wdf_request_finish(request, STATUS_INVALID_DEVICE_REQUEST);
}

static void
present(struct wdf_queue *queue, struct wdf_request *request)
{
	KIRQL irql;

	if (!queue->config.AllowZeroLengthRequests && is_empty_transfer(request)) {
		wdf_request_finish(request, STATUS_SUCCESS);
		return;
	}
	wdf_sync_acquire(queue->object.sync);
	irql = KeGetCurrentIrql();
	call_driver(queue, request);
	if (KeGetCurrentIrql() != irql)
		nt_irql_leave(irql, irql, "a queue's callback");
	wdf_sync_release(queue->object.sync);
}

static VOID
deliver_by_work(PVOID parameter)
{
	struct wdf_queue *queue = parameter;

	pthread_mutex_lock(&queue->device->lock);
	queue->work_queued = false;
	pthread_mutex_unlock(&queue->device->lock);
	deliver(queue);
	unuse(queue);
}

/* True: a work item will deliver. */
static bool
left_to_work(struct wdf_queue *queue)
{
	bool queue_it;

	if (!wdf_sync_is_mine(queue->object.sync) &&
	    (queue->object.level != WdfExecutionLevelPassive || KeGetCurrentIrql() == PASSIVE_LEVEL))
		return false;
	pthread_mutex_lock(&queue->device->lock);
	queue_it = !queue->work_queued;
	queue->work_queued = true;
	if (queue_it)
		wdf_queue_use_locked(queue);
	pthread_mutex_unlock(&queue->device->lock);
	if (queue_it)
		ExQueueWorkItem(&queue->work, DelayedWorkQueue);
	return true;
}

/* Manual queues have a limit of 0. */
static bool
has_room_locked(const struct wdf_queue *queue)
{
	return runs_locked(queue) && queue->held_count < queue->limit && queue->in_callback < queue->limit &&
	       !IsListEmpty(&queue->waiting);
}

static void
deliver(struct wdf_queue *queue)
{
	struct wdf_device *device = queue->device;
	struct wdf_request *request;
	bool room;

	for (;;) {
		pthread_mutex_lock(&device->lock);
		room = has_room_locked(queue);
		pthread_mutex_unlock(&device->lock);
		if (!room || left_to_work(queue))
			return;
		pthread_mutex_lock(&device->lock);
		request = has_room_locked(queue) ? wdf_queue_take_locked(queue, NULL) : NULL;
		if (request != NULL)
			queue->in_callback++;
		pthread_mutex_unlock(&device->lock);
		if (request == NULL)
			return;
		present(queue, request);
		pthread_mutex_lock(&device->lock);
		queue->in_callback--;
		pthread_cond_broadcast(&device->changed);
		pthread_mutex_unlock(&device->lock);
	}
}

static void
leave_held_locked(struct wdf_request *request)
{
	struct wdf_queue *queue = request->queue;

	RemoveEntryList(&request->link);
	InitializeListHead(&request->link);
	request->acknowledged = request->told = false;
	if (queue == NULL)
		return;
	queue->held_count--;
	wdf_queue_use_locked(queue);
}

void
wdf_queue_release_locked(struct wdf_request *request)
{
	leave_held_locked(request);
	if (request->queue != NULL)
		wdf_queue_note_rest_locked(request->queue);
}

void
wdf_queue_leave(struct wdf_queue *queue)
{
	if (queue == NULL)
		return;
	/* Before the driver is called again, which may take as long as it likes. */
	wdf_queue_settle(queue);
	deliver(queue);
	unuse(queue);
}

NTSTATUS
wdf_queue_insert(struct wdf_queue *queue, struct wdf_request *request, bool head)
{
	struct wdf_device *device = queue->device;
	struct wdf_queue *old = request->queue, *forget = NULL;
	struct wdf_queue_waiter ready = { 0 };
	bool cancelled = false, was_empty;

	pthread_mutex_lock(&device->lock);
	if (!queue->accepts && !head) {
		pthread_mutex_unlock(&device->lock);
		return STATUS_WDF_BUSY;
	}
	wdf_queue_use_locked(queue);
	if (request->state == WDF_REQUEST_HELD && old != NULL) {
		leave_held_locked(request);
		request->seen = true;
	} else {
		old = NULL;
	}
	if (request->queue != queue) {
		wdf_object_ref(&queue->object);
		forget = request->queue;
		request->queue = queue;
	}
	was_empty = IsListEmpty(&queue->waiting);
	request->state = WDF_REQUEST_WAITING;
	if (head)
		InsertHeadList(&queue->waiting, &request->link);
	else
		InsertTailList(&queue->waiting, &request->link);
	if (was_empty)
		ready = wdf_queue_ready_locked(queue);
	/* Not before: a request that is put back keeps its queue from being drained. */
	if (old != NULL)
		wdf_queue_note_rest_locked(old);
	request->irp->Tail.Overlay.DriverContext[0] = request;
	(void)IoSetCancelRoutine(request->irp, cancel_waiting);
	/* Cancelled or purged before there was a routine: nobody else will do it. */
	if ((queue->purging || __atomic_load_n(&request->irp->Cancel, __ATOMIC_SEQ_CST)) &&
	    IoSetCancelRoutine(request->irp, NULL) != NULL) {
		cancelled = true;
		leave_waiting_locked(queue, request);
	}
	pthread_mutex_unlock(&device->lock);
	if (cancelled)
		end_cancelled(queue, request);
	else if (ready.call != NULL)
		ready.call((WDFQUEUE)(void *)queue, ready.context);
	wdf_queue_leave(queue);
	wdf_queue_leave(old);
	if (forget != NULL)
		wdf_object_unref(&forget->object);
	return STATUS_SUCCESS;
}

struct wdf_queue *
wdf_queue_for(struct wdf_device *device, UCHAR major)
{
	struct wdf_queue *queue = NULL;

	pthread_mutex_lock(&device->lock);
	if (!device->gone && major < WDF_REQUEST_KINDS)
		queue = device->by_type[major] != NULL ? device->by_type[major] : device->default_queue;
	if (queue != NULL)
		wdf_object_ref(&queue->object);
	pthread_mutex_unlock(&device->lock);
	return queue;
}

/* ---- life ------------------------------------------------------------------------------------ */

static bool
queue_may_delete(const struct wdf_object *object)
{
	const struct wdf_queue *queue = (const struct wdf_queue *)(const void *)object;

	return !queue->config.DefaultQueue;
}

static void
queue_begin(struct wdf_object *object)
{
	struct wdf_queue *queue = (struct wdf_queue *)(void *)object;
	struct wdf_device *device = queue->device;

	wdf_queue_purge(queue);
	wdf_queue_await_rest(queue, true);
	pthread_mutex_lock(&device->lock);
	RemoveEntryList(&queue->link);
	InitializeListHead(&queue->link);
	if (device->default_queue == queue)
		device->default_queue = NULL;
	for (unsigned i = 0; i < WDF_REQUEST_KINDS; i++) {
		if (device->by_type[i] == queue)
			device->by_type[i] = NULL;
	}
	pthread_mutex_unlock(&device->lock);
}

static const struct wdf_ops queue_ops = {
	.type = WDF_TYPE_QUEUE,
	.may_delete = queue_may_delete,
	.begin = queue_begin,
};

static NTSTATUS
check_config(const WDF_IO_QUEUE_CONFIG *config)
{
	if (config->Size != sizeof(*config))
		return STATUS_INFO_LENGTH_MISMATCH;
	if (config->DispatchType <= WdfIoQueueDispatchInvalid || config->DispatchType >= WdfIoQueueDispatchMax)
		return STATUS_INVALID_PARAMETER;
	if (config->DispatchType == WdfIoQueueDispatchParallel &&
	    config->Settings.Parallel.NumberOfPresentedRequests == 0)
		return STATUS_INVALID_PARAMETER;
	if (config->DispatchType == WdfIoQueueDispatchManual)
		return config->EvtIoDefault == NULL && config->EvtIoRead == NULL && config->EvtIoWrite == NULL &&
				       config->EvtIoDeviceControl == NULL &&
				       config->EvtIoInternalDeviceControl == NULL ?
			       STATUS_SUCCESS :
			       STATUS_INVALID_PARAMETER;
	return config->EvtIoDefault != NULL || config->EvtIoRead != NULL || config->EvtIoWrite != NULL ||
			       config->EvtIoDeviceControl != NULL || config->EvtIoInternalDeviceControl != NULL ?
		       STATUS_SUCCESS :
		       STATUS_WDF_NO_CALLBACK;
}

static void
set_scope(struct wdf_queue *queue)
{
	struct wdf_object *object = &queue->object;
	struct wdf_device *device = queue->device;

	wdf_sync_init(&queue->sync, object->level == WdfExecutionLevelPassive);
	switch (object->scope) {
	case WdfSynchronizationScopeDevice:
		object->sync = &device->sync;
		break;
	case WdfSynchronizationScopeQueue:
		object->sync = &queue->sync;
		break;
	default:
		object->sync = NULL;
		break;
	}
}

NTSTATUS
WdfIoQueueCreate(WDFDEVICE Device, PWDF_IO_QUEUE_CONFIG Config, PWDF_OBJECT_ATTRIBUTES QueueAttributes,
		 WDFQUEUE *Queue)
{
	struct wdf_device *device = WDF_HANDLE(device, DEVICE, Device);
	struct wdf_object *parent;
	struct wdf_queue *queue;
	NTSTATUS status;
	bool taken;

	if (Queue != NULL)
		*Queue = NULL;
	if (device == NULL || Config == NULL || (Queue == NULL && !Config->DefaultQueue))
		return STATUS_INVALID_PARAMETER;
	status = check_config(Config);
	if (status == STATUS_SUCCESS)
		status = wdf_attributes_check(QueueAttributes, WDF_PARENT_ALLOWED | WDF_SCOPE_ALLOWED);
	if (status != STATUS_SUCCESS)
		return status;
	parent = wdf_attributes_parent(QueueAttributes, &device->object);
	if (wdf_object_above(parent, WDF_TYPE_DEVICE) != &device->object)
		return STATUS_INVALID_PARAMETER;
	queue = wdf_object_new(sizeof(*queue), &queue_ops, parent, QueueAttributes);
	if (queue == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	queue->device = device;
	queue->config = *Config;
	queue->power_managed = Config->PowerManaged == WdfTrue ||
			       (Config->PowerManaged != WdfFalse && device->config.pdo != NULL &&
				!device->config.filter);
	queue->limit = Config->DispatchType == WdfIoQueueDispatchSequential ? 1 :
		       Config->DispatchType == WdfIoQueueDispatchParallel ?
			       Config->Settings.Parallel.NumberOfPresentedRequests :
			       0;
	queue->accepts = queue->started = true;
	InitializeListHead(&queue->waiting);
	InitializeListHead(&queue->held);
	InitializeListHead(&queue->link);
	ExInitializeWorkItem(&queue->work, deliver_by_work, queue);
	set_scope(queue);
	pthread_mutex_lock(&device->lock);
	taken = Config->DefaultQueue && device->default_queue != NULL;
	if (!taken) {
		InsertTailList(&device->queues, &queue->link);
		if (Config->DefaultQueue)
			device->default_queue = queue;
	}
	pthread_mutex_unlock(&device->lock);
	if (taken) {
		wdf_object_delete(&queue->object);
		return STATUS_UNSUCCESSFUL;
	}
	if (Queue != NULL)
		*Queue = (WDFQUEUE)(void *)queue;
	return STATUS_SUCCESS;
}

WDFDEVICE
WdfIoQueueGetDevice(WDFQUEUE Queue)
{
	struct wdf_queue *queue = WDF_HANDLE(queue, QUEUE, Queue);

	return queue != NULL ? (WDFDEVICE)(void *)queue->device : NULL;
}

NTSTATUS
WdfDeviceConfigureRequestDispatching(WDFDEVICE Device, WDFQUEUE Queue, WDF_REQUEST_TYPE RequestType)
{
	struct wdf_device *device = WDF_HANDLE(device, DEVICE, Device);
	struct wdf_queue *queue = WDF_HANDLE(queue, QUEUE, Queue);
	NTSTATUS status = STATUS_SUCCESS;

	if (device == NULL || queue == NULL)
		return STATUS_INVALID_HANDLE;
	if (queue->device != device ||
	    (RequestType != WdfRequestTypeRead && RequestType != WdfRequestTypeWrite &&
	     RequestType != WdfRequestTypeDeviceControl && RequestType != WdfRequestTypeDeviceControlInternal))
		return STATUS_INVALID_DEVICE_REQUEST;
	pthread_mutex_lock(&device->lock);
	if (device->by_type[RequestType] != NULL)
		status = STATUS_WDF_BUSY;
	else
		device->by_type[RequestType] = queue;
	pthread_mutex_unlock(&device->lock);
	return status;
}

/* ---- taking ----------------------------------------------------------------------------------- */

static NTSTATUS
retrieve(struct wdf_queue *queue, PFILE_OBJECT file, WDFREQUEST *out)
{
	struct wdf_device *device = queue->device;
	struct wdf_request *request = NULL;
	bool runs;

	pthread_mutex_lock(&device->lock);
	runs = runs_locked(queue);
	if (runs)
		request = wdf_queue_take_locked(queue, file);
	pthread_mutex_unlock(&device->lock);
	if (!runs)
		return STATUS_WDF_PAUSED;
	if (request == NULL)
		return STATUS_NO_MORE_ENTRIES;
	request->retrieved = true;
	*out = (WDFREQUEST)(void *)request;
	return STATUS_SUCCESS;
}

NTSTATUS
WdfIoQueueRetrieveNextRequest(WDFQUEUE Queue, WDFREQUEST *OutRequest)
{
	struct wdf_queue *queue = WDF_HANDLE(queue, QUEUE, Queue);

	*OutRequest = NULL;
	return queue != NULL ? retrieve(queue, NULL, OutRequest) : STATUS_INVALID_HANDLE;
}

NTSTATUS
WdfIoQueueRetrieveRequestByFileObject(WDFQUEUE Queue, WDFFILEOBJECT FileObject, WDFREQUEST *OutRequest)
{
	struct wdf_queue *queue = WDF_HANDLE(queue, QUEUE, Queue);
	struct wdf_file *file = WDF_HANDLE(file, FILE, FileObject);

	*OutRequest = NULL;
	return queue != NULL && file != NULL ? retrieve(queue, file->wdm, OutRequest) : STATUS_INVALID_HANDLE;
}

NTSTATUS
WdfIoQueueReadyNotify(WDFQUEUE Queue, PFN_WDF_IO_QUEUE_STATE QueueReady, WDFCONTEXT Context)
{
	struct wdf_queue *queue = WDF_HANDLE(queue, QUEUE, Queue);
	struct wdf_queue_waiter ready = { 0 };
	NTSTATUS status = STATUS_SUCCESS;

	if (queue == NULL)
		return STATUS_INVALID_HANDLE;
	if (queue->config.DispatchType != WdfIoQueueDispatchManual)
		return STATUS_INVALID_DEVICE_REQUEST;
	pthread_mutex_lock(&queue->device->lock);
	if (QueueReady != NULL && queue->ready.call != NULL)
		status = STATUS_INVALID_DEVICE_REQUEST;
	else
		queue->ready = (struct wdf_queue_waiter){ .call = QueueReady, .context = Context };
	if (status == STATUS_SUCCESS)
		ready = wdf_queue_ready_locked(queue);
	pthread_mutex_unlock(&queue->device->lock);
	if (ready.call != NULL)
		ready.call(Queue, ready.context);
	return status;
}
