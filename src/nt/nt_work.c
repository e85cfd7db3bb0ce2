/* SPDX-License-Identifier: MIT */
/*
 * Work items: routines that run once, at PASSIVE_LEVEL, on threads of a pool that grows whenever
 * nobody is free to take the next item. So an item may wait for another one, as drivers do.
 * Threads that stay idle end.
 *
 * What is queued is a private copy: the driver's item may be in memory that a peer can write, and
 * is the driver's again as soon as its routine is entered.
 */
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "nt/nt_misuse.h"
#include "nt/nt_thread.h"
#include "wdm.h"

#define WORK_THREADS_MAX 512u
#define WORK_IDLE_SECONDS 5

/* No memory or no thread for work that cannot be refused. */
#define WORK_BUG_CHECK 0x000000E4u

struct work_entry {
	struct work_entry *next;
	void (*run)(const struct work_entry *entry);
	void *item;             /* the driver's */
	PWORKER_THREAD_ROUTINE routine;
	PIO_WORKITEM_ROUTINE io_routine;
	PIO_WORKITEM_ROUTINE_EX io_routine_ex;
	void *context;
};

struct _IO_WORKITEM {
	PVOID device;
	uint32_t queued;        /* atomic */
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct work_entry *first, **last;
	uint32_t pending;       /* queued, not taken */
	uint32_t threads;
	uint32_t available;     /* idle, or on the way to look for work */
} work;

static void
work_init(void)
{
	pthread_condattr_t attributes;

	pthread_mutex_init(&work.lock, NULL);
	work.first = NULL;
	work.last = &work.first;
	work.pending = 0;
	work.threads = 0;
	work.available = 0;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&work.wake, &attributes);
	pthread_condattr_destroy(&attributes);
}

/* A forked child has no worker threads; what its parent queued is the parent's to run. */
static void
work_create(void)
{
	work_init();
	(void)pthread_atfork(NULL, NULL, work_init);
}

/* Sleep until there is work. False when there was none for so long that the thread may end. */
static bool
work_await_locked(void)
{
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += WORK_IDLE_SECONDS;
	while (work.first == NULL) {
		if (pthread_cond_timedwait(&work.wake, &work.lock, &end) != 0)
			break;
	}
	return work.first != NULL;
}

static void
work_entry_run(struct work_entry *entry)
{
	const struct work_entry copy = *entry;

	free(entry);
	nt_irql_enter(PASSIVE_LEVEL);
	copy.run(&copy);
	nt_irql_leave(PASSIVE_LEVEL, PASSIVE_LEVEL, "a work item's routine");
}

static void *
work_thread(void *unused)
{
	pthread_mutex_lock(&work.lock);
	while (work_await_locked()) {
		struct work_entry *entry = work.first;

		work.first = entry->next;
		if (work.first == NULL)
			work.last = &work.first;
		work.pending--;
		work.available--;
		pthread_mutex_unlock(&work.lock);

		work_entry_run(entry);

		pthread_mutex_lock(&work.lock);
		work.available++;
	}
	work.available--;
	work.threads--;
	pthread_mutex_unlock(&work.lock);
	return unused;
}

static bool
work_thread_start(void)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;
	int error;

	/* Signals are for the program's own threads. */
	sigfillset(&all);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&thread, &attributes, work_thread, NULL);
	if (error == 0)
		pthread_setname_np(thread, "kmcl-work");
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return error == 0;
}

static void
work_queue(const struct work_entry *what)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct work_entry *entry = malloc(sizeof(*entry));
	bool has_worker;

	pthread_once(&once, work_create);
	if (entry == NULL)
		KeBugCheckEx(WORK_BUG_CHECK, sizeof(*entry), 0, 0, 0);
	*entry = *what;
	entry->next = NULL;

	pthread_mutex_lock(&work.lock);
	*work.last = entry;
	work.last = &entry->next;
	work.pending++;
	if (work.pending > work.available && work.threads < WORK_THREADS_MAX &&
	    work_thread_start()) {
		work.threads++;
		work.available++;
	}
	has_worker = work.threads != 0;
	pthread_cond_signal(&work.wake);
	pthread_mutex_unlock(&work.lock);
	if (!has_worker)
		KeBugCheckEx(WORK_BUG_CHECK, 0, 0, 0, 0);
}

/* ---- executive work items -------------------------------------------------------------------- */

static void
ex_item_run(const struct work_entry *entry)
{
	PWORK_QUEUE_ITEM item = entry->item;

	/* Release: from here the driver may queue the item again. */
	__atomic_store_n(&item->List.Flink, NULL, __ATOMIC_RELEASE);
	entry->routine(entry->context);
}

VOID
ExQueueWorkItem(PWORK_QUEUE_ITEM item, WORK_QUEUE_TYPE queue)
{
	PLIST_ENTRY not_queued = NULL;

	UNREFERENCED_PARAMETER(queue);
	nt_irql_check_at_most(DISPATCH_LEVEL, "ExQueueWorkItem");
	if (!__atomic_compare_exchange_n(&item->List.Flink, &not_queued, &item->List, 0,
					 __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
		nt_misuse("work item %p queued while it is queued", (void *)item);
		return;
	}
	work_queue(&(struct work_entry){
		.run = ex_item_run,
		.item = item,
		.routine = item->WorkerRoutine,
		.context = item->Parameter,
	});
}

/* ---- work items of devices ------------------------------------------------------------------- */

static void
io_item_run(const struct work_entry *entry)
{
	PIO_WORKITEM item = entry->item;
	PVOID device = item->device;

	/* Release: from here the driver may queue or free the item. */
	__atomic_store_n(&item->queued, 0, __ATOMIC_RELEASE);
	if (entry->io_routine_ex != NULL)
		entry->io_routine_ex(device, entry->context, item);
	else
		entry->io_routine((PDEVICE_OBJECT)device, entry->context);
}

static void
io_item_queue(PIO_WORKITEM item, PIO_WORKITEM_ROUTINE routine, PIO_WORKITEM_ROUTINE_EX routine_ex,
              PVOID context)
{
	nt_irql_check_at_most(DISPATCH_LEVEL, "IoQueueWorkItem");
	if (__atomic_exchange_n(&item->queued, 1, __ATOMIC_ACQ_REL) != 0) {
		nt_misuse("work item %p queued while it is queued", (void *)item);
		return;
	}
	work_queue(&(struct work_entry){
		.run = io_item_run,
		.item = item,
		.io_routine = routine,
		.io_routine_ex = routine_ex,
		.context = context,
	});
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
}

static bool
io_item_is_idle(PIO_WORKITEM item, const char *what)
{
	if (__atomic_load_n(&item->queued, __ATOMIC_ACQUIRE) == 0)
		return true;
	nt_misuse("%s: work item %p is queued", what, (void *)item);
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
