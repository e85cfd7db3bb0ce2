/* SPDX-License-Identifier: MIT */
/*
 * Queues and requests.
 *
 * A request is waiting in a queue (its IRP can be cancelled), or the driver's (it is in the `held` list of the queue it came from; or in none, if it is a
 * create request or in EvtIoInCallerContext), or on its way out. The thread that makes room delivers what comes next.
 */
#ifndef WDF_QUEUE_H
#define WDF_QUEUE_H

#include "wdf/wdf_device.h"

enum wdf_request_state {
	WDF_REQUEST_WAITING,
	WDF_REQUEST_HELD,
	WDF_REQUEST_SENT,               /* below, and expected back */
	WDF_REQUEST_DONE,
};

struct wdf_queue_waiter {
	PFN_WDF_IO_QUEUE_STATE call;
	WDFCONTEXT context;
	bool due;                       /* what it waits for has been so, if only for a moment */
};

struct wdf_queue {
	struct wdf_object object;
	struct wdf_device *device;
	LIST_ENTRY link;                /* device->queues */
	WDF_IO_QUEUE_CONFIG config;
	struct wdf_sync sync;           /* synchronization scope Queue */
	bool power_managed;
	WORK_QUEUE_ITEM work;           /* delivers where the caller may not */
	/* device->lock: */
	LIST_ENTRY waiting, held;       /* struct wdf_request */
	uint32_t held_count;
	uint32_t limit;                 /* of requests held and callbacks under way */
	uint32_t in_callback;
	uint32_t users;                 /* threads that will still touch the queue */
	bool accepts, started, work_queued;
	bool purging;                   /* until a start: what could be cancelled is, whenever it comes to that */
	struct wdf_queue_waiter ready, stop, drain;
};

struct wdf_request {
	struct wdf_object object;
	struct wdf_device *device;      /* referenced */
	PIRP irp;
	ULONG_PTR information;
	PMDL mdl;                       /* made for a buffered request */
	struct wdf_memory *input, *output;
	WDF_REQUEST_COMPLETION_PARAMS result;   /* of the driver below */
	PFN_WDF_REQUEST_COMPLETION_ROUTINE completion;
	WDFCONTEXT completion_context;
	struct wdf_target *target;
	bool formatted;
	bool retrieved;                 /* by WdfIoQueueRetrieveNextRequest */
	/* device->lock: */
	LIST_ENTRY link;
	struct wdf_queue *queue;        /* referenced; NULL: none yet */
	enum wdf_request_state state;
	PFN_WDF_REQUEST_CANCEL cancel;  /* set while cancelable */
	bool seen;                      /* by the driver, before it got into the queue */
	bool told;                      /* EvtIoStop was or is being called for it */
	bool acknowledged;              /* WdfRequestStopAcknowledge: does not hold up power-down */
};

struct wdf_memory {
	struct wdf_object object;
	PVOID buffer;
	size_t bytes;
	ULONG tag;                      /* 0: not from the pool */
	bool preallocated, read_only;
};

/* ---- queues (wdf_queue.c) -------------------------------------------------------------------- */

/*
 * Put a request that nobody has into a queue. STATUS_WDF_BUSY: it accepts none, and the request is still the caller's.
 * `head`: before the others, also if it accepts none; a queue that is being purged cancels it.
 */
NTSTATUS wdf_queue_insert(struct wdf_queue *queue, struct wdf_request *request, bool head);
/* Which queue requests of this kind go to; referenced, NULL: none. */
struct wdf_queue *wdf_queue_for(struct wdf_device *device, UCHAR major);
/* If the driver has nothing of the queue, who waits for that is due; wdf_queue_settle tells it. device->lock held. */
void wdf_queue_note_rest_locked(struct wdf_queue *queue);
/* The driver gave a request up; device->lock held. The caller uses the queue until wdf_queue_leave. */
void wdf_queue_release_locked(struct wdf_request *request);
/* Who waited for the release is told, and what it made room for is delivered. */
void wdf_queue_leave(struct wdf_queue *queue);
/* The next waiting request of a file (NULL: of any), held now. device->lock held. */
struct wdf_request *wdf_queue_take_locked(struct wdf_queue *queue, PFILE_OBJECT file);
void wdf_queue_cancel_waiting(struct wdf_queue *queue, PFILE_OBJECT file);
/* The caller will still touch the queue, until wdf_queue_leave. device->lock held. */
void wdf_queue_use_locked(struct wdf_queue *queue);
/* Whom to tell, without the lock, that the queue has something to take; nobody while it does not run. device->lock held. */
struct wdf_queue_waiter wdf_queue_ready_locked(const struct wdf_queue *queue);
/* Tell who waits for the queue to come to rest. */
void wdf_queue_settle(struct wdf_queue *queue);
/* Accept no more; cancel what waits and what the driver made cancelable, or makes cancelable or puts back from now on. */
void wdf_queue_purge(struct wdf_queue *queue);
/* Until the driver has no request of it (but for acknowledged ones, unless `all`) and no thread is in it. */
void wdf_queue_await_rest(struct wdf_queue *queue, bool all);
/* Power: deliver from power-managed queues. */
void wdf_queues_power_up(struct wdf_device *device);
/* Stop and empty the queues (power-managed ones only, or all), and wait until the driver has nothing. */
void wdf_queues_purge(struct wdf_device *device, bool all);
/* Cancel what waits and belongs to a file. */
void wdf_queues_cancel_file(struct wdf_device *device, PFILE_OBJECT file);

/* ---- requests (wdf_request.c) ---------------------------------------------------------------- */

/* For an IRP; marks it pending. NULL without memory. */
struct wdf_request *wdf_request_new(struct wdf_device *device, PIRP irp);
/* Complete it, whoever has it. Not under a lock. */
void wdf_request_finish(struct wdf_request *request, NTSTATUS status);
/* The handle names a request that the driver has. NULL, and misuse, if not. */
struct wdf_request *wdf_request_held(WDFREQUEST handle, const char *function);
static inline UCHAR
wdf_request_major(const struct wdf_request *request)
{
	return IoGetCurrentIrpStackLocation(request->irp)->MajorFunction;
}
/* device->lock held: the request can no longer be cancelled by the I/O manager. False: that is happening. */
bool wdf_request_uncancel_locked(struct wdf_request *request);
/* Free what buffers took. */
void wdf_buffers_free(struct wdf_request *request);
/* Memory around a buffer that stays somebody else's. */
struct wdf_memory *wdf_memory_around(struct wdf_object *parent, PVOID buffer, size_t bytes, bool read_only);

#endif
