/* SPDX-License-Identifier: MIT */
/*
 * Work items: routines that run once, at PASSIVE_LEVEL, on threads of a pool that grows whenever
 * nobody is free to take the next item. So an item may wait for another one, as drivers do.
 * Threads that stay idle end.
 *
 * Queueing cannot fail, so it needs no memory: items are linked through their own List. An item is
 * the driver's again as soon as its routine is entered; from then on only a copy of it is used.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "nt/nt_misuse.h"
#include "nt/nt_os_thread.h"
#include "nt/nt_thread.h"
#include "nt/nt_work.h"
#include "wdm.h"

#define WORK_THREADS_MAX 512u
#define WORK_IDLE_SECONDS 5

struct _IO_WORKITEM {
	WORK_QUEUE_ITEM item;
	PVOID device;
	PIO_WORKITEM_ROUTINE routine;
	PIO_WORKITEM_ROUTINE_EX routine_ex;
	void *context;
	uint32_t queued;        /* atomic; ends later than that of `item` */
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	pthread_cond_t idle;
	LIST_ENTRY entries;     /* through WORK_QUEUE_ITEM.List, whose Flink is NULL outside */
	uint32_t pending;       /* queued, not taken */
	uint32_t threads;
	uint32_t available;     /* idle, or on the way to look for work */
} work;

static pthread_once_t work_once = PTHREAD_ONCE_INIT;

static void
work_init(void)
{
	pthread_condattr_t attributes;

	pthread_mutex_init(&work.lock, NULL);
	InitializeListHead(&work.entries);
	work.pending = 0;
	work.threads = 0;
	work.available = 0;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&work.wake, &attributes);
	pthread_cond_init(&work.idle, &attributes);
	pthread_condattr_destroy(&attributes);
}

static PWORK_QUEUE_ITEM
work_take_locked(void)
{
	PLIST_ENTRY link = RemoveHeadList(&work.entries);

	link->Flink = NULL;
	work.pending--;
	return CONTAINING_RECORD(link, WORK_QUEUE_ITEM, List);
}

static void
fork_prepare(void)
{
	pthread_mutex_lock(&work.lock);
}

static void
fork_parent(void)
{
	pthread_mutex_unlock(&work.lock);
}

/* A forked child has no worker threads; what its parent queued is the parent's to run. */
static void
fork_child(void)
{
	while (!IsListEmpty(&work.entries))
		(void)work_take_locked();
	work_init();
}

static void
work_create(void)
{
	work_init();
	(void)pthread_atfork(fork_prepare, fork_parent, fork_child);
}

/* Sleep until there is work. False when there was none for so long that the thread may end. */
static bool
work_await_locked(void)
{
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += WORK_IDLE_SECONDS;
	while (IsListEmpty(&work.entries)) {
		if (pthread_cond_timedwait(&work.wake, &work.lock, &end) != 0)
			break;
	}
	return !IsListEmpty(&work.entries);
}

static void *
work_thread(void *unused)
{
	nt_os_thread_name("kmcl-work");
	pthread_mutex_lock(&work.lock);
	while (work_await_locked()) {
		const WORK_QUEUE_ITEM copy = *work_take_locked();

		work.available--;
		pthread_mutex_unlock(&work.lock);

		nt_irql_enter(PASSIVE_LEVEL);
		copy.WorkerRoutine(copy.Parameter);
		nt_irql_leave(PASSIVE_LEVEL, PASSIVE_LEVEL, "a work item's routine");
		nt_thread_check_regions("a work item's routine");

		pthread_mutex_lock(&work.lock);
		work.available++;
		pthread_cond_broadcast(&work.idle);
	}
	work.available--;
	work.threads--;
	pthread_mutex_unlock(&work.lock);
	return unused;
}

bool
nt_work_await_idle(unsigned milliseconds)
{
	struct timespec end;
	bool idle;

	pthread_once(&work_once, work_create);
	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += milliseconds / 1000;
	end.tv_nsec += (long)(milliseconds % 1000) * 1000000;
	if (end.tv_nsec >= 1000000000) {
		end.tv_sec++;
		end.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&work.lock);
	/* Threads that are just being started count as available and find nothing. */
	while ((work.pending != 0 || work.available != work.threads) &&
	       pthread_cond_timedwait(&work.idle, &work.lock, &end) == 0)
		continue;
	idle = work.pending == 0 && work.available == work.threads;
	pthread_mutex_unlock(&work.lock);
	return idle;
}

/* False: the item waits for a thread that could not be started. */
static bool
work_has_threads_locked(void)
{
	while (work.pending > work.available && work.threads < WORK_THREADS_MAX) {
		if (!nt_os_thread_start(work_thread, NULL))
			return false;
		work.threads++;
		work.available++;
	}
	return true;
}

/* False: it is queued already. Returns when somebody will run it. */
static bool
work_queue(PWORK_QUEUE_ITEM item)
{
	pthread_once(&work_once, work_create);
	pthread_mutex_lock(&work.lock);
	if (item->List.Flink != NULL) {
		pthread_mutex_unlock(&work.lock);
		return false;
	}
	InsertTailList(&work.entries, &item->List);
	work.pending++;
	pthread_cond_signal(&work.wake);
	while (!work_has_threads_locked()) {
		pthread_mutex_unlock(&work.lock);
		nt_os_thread_await_resources();
		pthread_mutex_lock(&work.lock);
	}
	pthread_mutex_unlock(&work.lock);
	return true;
}

void
nt_work_check_freed(const void *memory, size_t bytes)
{
	const WORK_QUEUE_ITEM *found = NULL;

	pthread_once(&work_once, work_create);
	pthread_mutex_lock(&work.lock);
	for (PLIST_ENTRY link = work.entries.Flink; link != &work.entries; link = link->Flink) {
		const WORK_QUEUE_ITEM *item = CONTAINING_RECORD(link, WORK_QUEUE_ITEM, List);

		if ((uintptr_t)item - (uintptr_t)memory < bytes)
			found = item;
	}
	pthread_mutex_unlock(&work.lock);
	if (found != NULL)
		nt_misuse("ExFreePool of %p while work item %p is queued in it; wait until its routine has "
			  "run",
			  memory, (const void *)found);
}

/* ---- executive work items -------------------------------------------------------------------- */

VOID
ExQueueWorkItem(PWORK_QUEUE_ITEM item, WORK_QUEUE_TYPE queue)
{
	UNREFERENCED_PARAMETER(queue);
	nt_irql_check_at_most(DISPATCH_LEVEL, "ExQueueWorkItem");
	if (!work_queue(item))
		nt_misuse("ExQueueWorkItem: item %p is queued already; queue it again from its "
			  "routine, or use another item",
			  (void *)item);
}

/* ---- work items of devices ------------------------------------------------------------------- */

static VOID
io_item_run(PVOID parameter)
{
	PIO_WORKITEM item = parameter;
	const struct _IO_WORKITEM copy = *item;

	/* Release: from here the driver may queue or free the item. */
	__atomic_store_n(&item->queued, 0, __ATOMIC_RELEASE);
	if (copy.routine_ex != NULL)
		copy.routine_ex(copy.device, copy.context, item);
	else
		copy.routine((PDEVICE_OBJECT)copy.device, copy.context);
}

static void
io_item_queue(PIO_WORKITEM item, PIO_WORKITEM_ROUTINE routine, PIO_WORKITEM_ROUTINE_EX routine_ex,
              PVOID context)
{
	nt_irql_check_at_most(DISPATCH_LEVEL, "IoQueueWorkItem");
	if (__atomic_exchange_n(&item->queued, 1, __ATOMIC_ACQ_REL) != 0) {
		nt_misuse("IoQueueWorkItem: item %p is queued already; queue it again from its "
			  "routine, or use another item",
			  (void *)item);
		return;
	}
	item->routine = routine;
	item->routine_ex = routine_ex;
	item->context = context;
	(void)work_queue(&item->item);
}

VOID
IoQueueWorkItem(PIO_WORKITEM item, PIO_WORKITEM_ROUTINE routine, WORK_QUEUE_TYPE queue,
		PVOID context)
{
	UNREFERENCED_PARAMETER(queue);
	io_item_queue(item, routine, NULL, context);
}

VOID
IoQueueWorkItemEx(PIO_WORKITEM item, PIO_WORKITEM_ROUTINE_EX routine, WORK_QUEUE_TYPE queue,
                  PVOID context)
{
	UNREFERENCED_PARAMETER(queue);
	io_item_queue(item, NULL, routine, context);
}

ULONG
IoSizeofWorkItem(VOID)
{
	return (ULONG)sizeof(struct _IO_WORKITEM);
}

VOID
IoInitializeWorkItem(PVOID object, PIO_WORKITEM item)
{
	*item = (struct _IO_WORKITEM){ .device = object };
	ExInitializeWorkItem(&item->item, io_item_run, item);
}

static bool
io_item_is_idle(PIO_WORKITEM item, const char *what)
{
	if (__atomic_load_n(&item->queued, __ATOMIC_ACQUIRE) == 0)
		return true;
	nt_misuse("%s: work item %p is queued; wait until its routine has run", what, (void *)item);
	return false;
}

VOID
IoUninitializeWorkItem(PIO_WORKITEM item)
{
	(void)io_item_is_idle(item, "IoUninitializeWorkItem");
}

PIO_WORKITEM
IoAllocateWorkItem(PDEVICE_OBJECT device)
{
	PIO_WORKITEM item = malloc(sizeof(*item));

	if (item != NULL)
		IoInitializeWorkItem(device, item);
	return item;
}

VOID
IoFreeWorkItem(PIO_WORKITEM item)
{
	if (item != NULL && io_item_is_idle(item, "IoFreeWorkItem"))
		free(item);
}
