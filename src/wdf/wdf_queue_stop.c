/* SPDX-License-Identifier: MIT */
/*
 * How queues come to rest: at the driver's wish (stop, drain, purge) and when the device leaves D0 or goes.
 */
#include <time.h>

#include "nt/nt_dbg.h"
#include "wdf/wdf_queue.h"

#define REPORT_SECONDS 5

/* ---- purging --------------------------------------------------------------------------------- */

/* A request that the driver made cancelable, and whose cancellation is ours now; referenced. */
static struct wdf_request *
take_cancelable_locked(struct wdf_queue *queue, PFN_WDF_REQUEST_CANCEL *cancel)
{
	for (LIST_ENTRY *e = queue->held.Flink; e != &queue->held; e = e->Flink) {
		struct wdf_request *request = CONTAINING_RECORD(e, struct wdf_request, link);

		if (request->cancel == NULL || IoSetCancelRoutine(request->irp, NULL) == NULL)
			continue;
		*cancel = request->cancel;
		request->cancel = NULL;
		__atomic_store_n(&request->irp->Cancel, TRUE, __ATOMIC_SEQ_CST);
		wdf_object_ref(&request->object);
		return request;
	}
	return NULL;
}

static void
cancel_held(struct wdf_queue *queue)
{
	struct wdf_sync *sync = wdf_sync_unless_mine(queue->object.sync);
	PFN_WDF_REQUEST_CANCEL cancel = NULL;
	struct wdf_request *request;

	do {
		pthread_mutex_lock(&queue->device->lock);
		request = take_cancelable_locked(queue, &cancel);
		pthread_mutex_unlock(&queue->device->lock);
		if (request == NULL)
			break;
		wdf_sync_acquire(sync);
		cancel((WDFREQUEST)(void *)request);
		wdf_sync_release(sync);
		wdf_object_unref(&request->object);
	} while (true);
}

/* A request that the driver has and was not told of; referenced, told now. */
static struct wdf_request *
take_untold(struct wdf_queue *queue)
{
	struct wdf_request *untold = NULL;

	pthread_mutex_lock(&queue->device->lock);
	for (LIST_ENTRY *e = queue->held.Flink; e != &queue->held && untold == NULL; e = e->Flink) {
		struct wdf_request *request = CONTAINING_RECORD(e, struct wdf_request, link);

		if (request->state == WDF_REQUEST_HELD && !request->told)
			untold = request;
	}
	if (untold != NULL) {
		untold->told = true;
		wdf_object_ref(&untold->object);
	}
	pthread_mutex_unlock(&queue->device->lock);
	return untold;
}

/* EvtIoStop for what the driver still has. It may complete them meanwhile, so the list is looked at anew for each. */
static void
stop_held(struct wdf_queue *queue)
{
	struct wdf_request *request;

	if (queue->config.EvtIoStop == NULL)
		return;
	/* What a power-down told of, a removal tells of again. */
	pthread_mutex_lock(&queue->device->lock);
	for (LIST_ENTRY *e = queue->held.Flink; e != &queue->held; e = e->Flink)
		CONTAINING_RECORD(e, struct wdf_request, link)->told = false;
	pthread_mutex_unlock(&queue->device->lock);
	while ((request = take_untold(queue)) != NULL) {
		queue->config.EvtIoStop((WDFQUEUE)(void *)queue, (WDFREQUEST)(void *)request,
					WdfRequestStopActionPurge);
		wdf_object_unref(&request->object);
	}
}

static uint32_t
acknowledged_locked(const struct wdf_queue *queue)
{
	uint32_t count = 0;

	for (LIST_ENTRY *e = queue->held.Flink; e != &queue->held; e = e->Flink)
		count += CONTAINING_RECORD(e, struct wdf_request, link)->acknowledged;
	return count;
}

/* Until the driver has no request of the queue and no thread is in it. Long waits are reported, not ended. */
void
wdf_queue_await_rest(struct wdf_queue *queue, bool all)
{
	struct wdf_device *device = queue->device;
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += REPORT_SECONDS;
	pthread_mutex_lock(&device->lock);
	while (queue->held_count > (all ? 0 : acknowledged_locked(queue)) || queue->in_callback != 0 ||
	       (all && queue->users != 0) || !IsListEmpty(&queue->waiting)) {
		if (pthread_cond_timedwait(&device->changed, &device->lock, &until) == 0)
			continue;
		until.tv_sec += REPORT_SECONDS;
		nt_dbg_printf("kmcl: the driver holds %u requests of queue %p; its device cannot stop before they "
			      "are completed\n", queue->held_count, (void *)queue);
	}
	pthread_mutex_unlock(&device->lock);
}

void
wdf_queue_purge(struct wdf_queue *queue)
{
	pthread_mutex_lock(&queue->device->lock);
	queue->accepts = false;
	queue->purging = true;
	pthread_mutex_unlock(&queue->device->lock);
	wdf_queue_cancel_waiting(queue, NULL);
	cancel_held(queue);
}

/* The n-th queue, referenced. */
static struct wdf_queue *
queue_at(struct wdf_device *device, unsigned n)
{
	struct wdf_queue *queue = NULL;
	LIST_ENTRY *e;

	pthread_mutex_lock(&device->lock);
	for (e = device->queues.Flink; e != &device->queues && n != 0; e = e->Flink)
		n--;
	if (e != &device->queues) {
		queue = CONTAINING_RECORD(e, struct wdf_queue, link);
		wdf_object_ref(&queue->object);
	}
	pthread_mutex_unlock(&device->lock);
	return queue;
}

void
wdf_queues_purge(struct wdf_device *device, bool all)
{
	struct wdf_queue *queue;

	pthread_mutex_lock(&device->lock);
	device->in_d0 = false;
	device->gone = device->gone || all;
	pthread_mutex_unlock(&device->lock);
	for (unsigned n = 0; (queue = queue_at(device, n)) != NULL; n++) {
		if (all || queue->power_managed) {
			wdf_queue_purge(queue);
			stop_held(queue);
			wdf_queue_await_rest(queue, all);
		}
		wdf_object_unref(&queue->object);
	}
	if (!all)
		return;
	/* Requests that are in no queue: creates, and those in EvtIoInCallerContext. */
	pthread_mutex_lock(&device->lock);
	while (device->requests != 0)
		pthread_cond_wait(&device->changed, &device->lock);
	pthread_mutex_unlock(&device->lock);
}

/* The queue may run again: what came while it did not is delivered, or announced. */
static void
resume(struct wdf_queue *queue)
{
	struct wdf_queue_waiter ready;

	pthread_mutex_lock(&queue->device->lock);
	ready = wdf_queue_ready_locked(queue);
	wdf_queue_use_locked(queue);
	pthread_mutex_unlock(&queue->device->lock);
	if (ready.call != NULL)
		ready.call((WDFQUEUE)(void *)queue, ready.context);
	wdf_queue_leave(queue);
}

void
wdf_queues_power_up(struct wdf_device *device)
{
	struct wdf_queue *queue;

	pthread_mutex_lock(&device->lock);
	device->in_d0 = true;
	pthread_mutex_unlock(&device->lock);
	for (unsigned n = 0; (queue = queue_at(device, n)) != NULL; n++) {
		if (queue->power_managed)
			resume(queue);
		wdf_object_unref(&queue->object);
	}
}

void
wdf_queues_cancel_file(struct wdf_device *device, PFILE_OBJECT file)
{
	struct wdf_queue *queue;

	for (unsigned n = 0; (queue = queue_at(device, n)) != NULL; n++) {
		wdf_queue_cancel_waiting(queue, file);
		wdf_queue_settle(queue);
		wdf_object_unref(&queue->object);
	}
}

/* ---- for drivers ----------------------------------------------------------------------------- */

VOID
WdfIoQueueStart(WDFQUEUE Queue)
{
	struct wdf_queue *queue = WDF_HANDLE(queue, QUEUE, Queue);

	if (queue == NULL)
		return;
	pthread_mutex_lock(&queue->device->lock);
	queue->accepts = queue->started = true;
	queue->purging = false;
	pthread_mutex_unlock(&queue->device->lock);
	resume(queue);
}

enum rest {
	REST_STOP,
	REST_DRAIN,
	REST_PURGE,
};

/* False: nothing was done, and `done` will not be called. */
static bool
come_to_rest(WDFQUEUE handle, enum rest how, PFN_WDF_IO_QUEUE_STATE done, WDFCONTEXT context,
	     const char *function)
{
	struct wdf_queue *queue = (struct wdf_queue *)(void *)wdf_check(handle, WDF_TYPE_QUEUE, function);
	struct wdf_queue_waiter *waiter;
	bool busy;

	if (queue == NULL)
		return false;
	waiter = how == REST_STOP ? &queue->stop : &queue->drain;
	pthread_mutex_lock(&queue->device->lock);
	busy = done != NULL && waiter->call != NULL;
	if (!busy && how == REST_STOP)
		queue->started = false;
	else if (!busy)
		queue->accepts = false;
	/* Who does not want to know must not take the place of another thread that waits. */
	if (!busy && done != NULL) {
		*waiter = (struct wdf_queue_waiter){ .call = done, .context = context };
		wdf_queue_note_rest_locked(queue);
	}
	pthread_mutex_unlock(&queue->device->lock);
	if (busy) {
		nt_misuse("%s: the last call for queue %p is not done yet; wait for its callback", function, (void *)handle);
		return false;
	}
	if (how == REST_PURGE)
		wdf_queue_purge(queue);
	wdf_queue_settle(queue);
	return true;
}

static VOID
wake(WDFQUEUE queue, WDFCONTEXT context)
{
	UNREFERENCED_PARAMETER(queue);
	KeSetEvent(context, IO_NO_INCREMENT, FALSE);
}

static void
come_to_rest_now(WDFQUEUE handle, enum rest how, const char *function)
{
	KEVENT done;

	if (!nt_irql_check_at_most(PASSIVE_LEVEL, function))
		return;
	KeInitializeEvent(&done, NotificationEvent, FALSE);
	if (come_to_rest(handle, how, wake, &done, function))
		KeWaitForSingleObject(&done, Executive, KernelMode, FALSE, NULL);
}

VOID
WdfIoQueueStop(WDFQUEUE Queue, PFN_WDF_IO_QUEUE_STATE StopComplete, WDFCONTEXT Context)
{
	(void)come_to_rest(Queue, REST_STOP, StopComplete, Context, __func__);
}

VOID
WdfIoQueueStopSynchronously(WDFQUEUE Queue)
{
	come_to_rest_now(Queue, REST_STOP, __func__);
}

VOID
WdfIoQueueDrain(WDFQUEUE Queue, PFN_WDF_IO_QUEUE_STATE DrainComplete, WDFCONTEXT Context)
{
	(void)come_to_rest(Queue, REST_DRAIN, DrainComplete, Context, __func__);
}

VOID
WdfIoQueueDrainSynchronously(WDFQUEUE Queue)
{
	come_to_rest_now(Queue, REST_DRAIN, __func__);
}

VOID
WdfIoQueuePurge(WDFQUEUE Queue, PFN_WDF_IO_QUEUE_STATE PurgeComplete, WDFCONTEXT Context)
{
	(void)come_to_rest(Queue, REST_PURGE, PurgeComplete, Context, __func__);
}

VOID
WdfIoQueuePurgeSynchronously(WDFQUEUE Queue)
{
	come_to_rest_now(Queue, REST_PURGE, __func__);
}
