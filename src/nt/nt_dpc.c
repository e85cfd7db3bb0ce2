/* SPDX-License-Identifier: MIT */
/*
 * DPCs. Each processor has two queues, for ordinary and for threaded DPCs, and each queue a thread
 * that exists from its first DPC until it has been idle for a while. One lock protects all queues;
 * it may be taken inside the dispatcher lock, because an expiring timer queues its DPC before
 * anybody can see that it has expired.
 *
 * When the process ends, what is running may finish and nothing more is started: the driver's
 * memory is about to be taken down.
 */
#include "nt/nt_dpc.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "nt/nt_dispatch.h"
#include "nt/nt_misuse.h"
#include "nt/nt_os_thread.h"
#include "nt/nt_processor.h"
#include "nt/nt_thread.h"
#include "wdm.h"

/* As on Windows. */
#define DPC_TYPE 19
#define DPC_TYPE_THREADED 26

#define DPC_IDLE_SECONDS 5
#define DPC_EXIT_SECONDS 2

struct dpc_queue {
	LIST_ENTRY entries;
	pthread_cond_t wake;
	uint32_t processor;
	bool is_ready; /* the fields above are set */
	bool has_thread;
	bool wants_thread;      /* has none: it could not be started */
	bool is_running;        /* a routine */
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t stopped; /* a routine has returned, when `stopping` */
	bool stopping;
	bool watches_exit;
	uint32_t wanted;                /* threads; atomic, changed under the lock */
	struct dpc_queue queues[2][NT_PROCESSORS_MAX];   /* [is threaded][processor] */
} dpcs = { .lock = PTHREAD_MUTEX_INITIALIZER, .stopped = PTHREAD_COND_INITIALIZER };

/* Of a dispatch thread. */
static _Thread_local struct dpc_queue *own_queue;

/* ---- queues ---------------------------------------------------------------------------------- */

static bool
queue_is_threaded(const struct dpc_queue *queue)
{
	return queue >= dpcs.queues[1];
}

static void
queue_prepare_locked(struct dpc_queue *queue, uint32_t processor)
{
	pthread_condattr_t attributes;

	if (queue->is_ready)
		return;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&queue->wake, &attributes);
	pthread_condattr_destroy(&attributes);
	InitializeListHead(&queue->entries);
	queue->processor = processor;
	queue->is_ready = true;
}

/* Sleep until there is work. False when there was none for so long that the thread may end. */
static bool
queue_await_locked(struct dpc_queue *queue)
{
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += DPC_IDLE_SECONDS;
	while (IsListEmpty(&queue->entries) || dpcs.stopping) {
		if (pthread_cond_timedwait(&queue->wake, &dpcs.lock, &end) != 0)
			break;
	}
	return !IsListEmpty(&queue->entries) && !dpcs.stopping;
}

static void
dpc_unqueue_locked(PRKDPC dpc)
{
	RemoveEntryList(&dpc->DpcListEntry);
	dpc->DpcData = NULL;
}

static void
queue_run_first_locked(struct dpc_queue *queue)
{
	const KIRQL level = queue_is_threaded(queue) ? PASSIVE_LEVEL : DISPATCH_LEVEL;
	PRKDPC dpc = CONTAINING_RECORD(queue->entries.Flink, KDPC, DpcListEntry);
	const KDPC copy = *dpc;

	/* From here the object is the driver's; only its address is used. */
	dpc_unqueue_locked(dpc);
	queue->is_running = true;
	pthread_mutex_unlock(&dpcs.lock);

	nt_irql_enter(level);
	copy.DeferredRoutine(dpc, copy.DeferredContext, copy.SystemArgument1, copy.SystemArgument2);
	nt_irql_leave(level, PASSIVE_LEVEL, "a DPC's routine");
	nt_thread_check_regions("a DPC's routine");

	pthread_mutex_lock(&dpcs.lock);
	queue->is_running = false;
	if (dpcs.stopping)
		pthread_cond_broadcast(&dpcs.stopped);
}

static void *
queue_thread(void *context)
{
	struct dpc_queue *queue = context;

	nt_os_thread_name(queue_is_threaded(queue) ? "kmcl-dpc-passive" : "kmcl-dpc");
	nt_processor_bind(queue->processor);
	own_queue = queue;
	pthread_mutex_lock(&dpcs.lock);
	while (queue_await_locked(queue))
		queue_run_first_locked(queue);
	queue->has_thread = false;
	pthread_mutex_unlock(&dpcs.lock);
	return NULL;
}

/* ---- the end --------------------------------------------------------------------------------- */

static bool
is_running_elsewhere_locked(void)
{
	for (uint32_t threaded = 0; threaded < 2; threaded++) {
		for (uint32_t i = 0; i < NT_PROCESSORS_MAX; i++) {
			const struct dpc_queue *queue = &dpcs.queues[threaded][i];

			/* The exit may be called by a DPC. */
			if (queue->is_running && queue != own_queue)
				return true;
		}
	}
	return false;
}

static void
dpcs_stop(void)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += DPC_EXIT_SECONDS;
	pthread_mutex_lock(&dpcs.lock);
	dpcs.stopping = true;
	while (is_running_elsewhere_locked()) {
		/* One that waits for the thread that ends the process would never return. */
		if (pthread_cond_timedwait(&dpcs.stopped, &dpcs.lock, &end) != 0)
			break;
	}
	pthread_mutex_unlock(&dpcs.lock);
}

static void
queue_start_locked(struct dpc_queue *queue)
{
	const bool wanted = queue->wants_thread;

	queue->has_thread = nt_os_thread_start(queue_thread, queue);
	queue->wants_thread = !queue->has_thread;
	if (queue->wants_thread != wanted)
		__atomic_fetch_add(&dpcs.wanted, wanted ? UINT32_MAX : 1, __ATOMIC_RELAXED);
}

void
nt_dpc_start_wanted(void)
{
	/* Relaxed: what this thread queued it sees, and others look after theirs. */
	while (__atomic_load_n(&dpcs.wanted, __ATOMIC_RELAXED) != 0) {
		nt_os_thread_await_resources();
		pthread_mutex_lock(&dpcs.lock);
		for (uint32_t i = 0; i < 2 * NT_PROCESSORS_MAX; i++) {
			struct dpc_queue *queue =
			        &dpcs.queues[i / NT_PROCESSORS_MAX][i % NT_PROCESSORS_MAX];

			if (queue->wants_thread)
				queue_start_locked(queue);
		}
		pthread_mutex_unlock(&dpcs.lock);
	}
}

static void
queue_insert_locked(struct dpc_queue *queue, PRKDPC dpc)
{
	if (dpc->Importance == HighImportance)
		InsertHeadList(&queue->entries, &dpc->DpcListEntry);
	else
		InsertTailList(&queue->entries, &dpc->DpcListEntry);
	dpc->DpcData = queue;
	if (!dpcs.watches_exit)
		dpcs.watches_exit = atexit(dpcs_stop) == 0;
	if (queue->has_thread)
		pthread_cond_signal(&queue->wake);
	else
		queue_start_locked(queue);
}

/* ---- fork ------------------------------------------------------------------------------------ */

void
nt_dpc_fork_prepare(void)
{
	pthread_mutex_lock(&dpcs.lock);
}

void
nt_dpc_fork_parent(void)
{
	pthread_mutex_unlock(&dpcs.lock);
}

void
nt_dpc_fork_child(void)
{
	for (uint32_t threaded = 0; threaded < 2; threaded++) {
		for (uint32_t i = 0; i < NT_PROCESSORS_MAX; i++) {
			struct dpc_queue *queue = &dpcs.queues[threaded][i];

			if (!queue->is_ready)
				continue;
			while (!IsListEmpty(&queue->entries))
				dpc_unqueue_locked(
				    CONTAINING_RECORD(queue->entries.Flink, KDPC, DpcListEntry));
			/* Made anew: its sleepers are not there. */
			queue->is_ready = false;
			queue->has_thread = false;
			queue->wants_thread = false;
			queue->is_running = false;
		}
	}
	dpcs.wanted = 0;
	pthread_mutex_unlock(&dpcs.lock);
}

/* ---- memory ---------------------------------------------------------------------------------- */

static const KDPC *
queue_find_locked(const struct dpc_queue *queue, uintptr_t memory, size_t bytes)
{
	if (!queue->is_ready)
		return NULL;
	for (PLIST_ENTRY link = queue->entries.Flink; link != &queue->entries; link = link->Flink) {
		const KDPC *dpc = CONTAINING_RECORD(link, KDPC, DpcListEntry);

		if ((uintptr_t)dpc - memory < bytes)
			return dpc;
	}
	return NULL;
}

void
nt_dpc_check_freed(const void *memory, size_t bytes)
{
	const KDPC *dpc = NULL;

	pthread_mutex_lock(&dpcs.lock);
	for (uint32_t i = 0; i < 2 * NT_PROCESSORS_MAX && dpc == NULL; i++)
		dpc = queue_find_locked(&dpcs.queues[i / NT_PROCESSORS_MAX][i % NT_PROCESSORS_MAX],
		                        (uintptr_t)memory, bytes);
	pthread_mutex_unlock(&dpcs.lock);
	if (dpc != NULL)
		nt_misuse("ExFreePool of %p while DPC %p is queued in it; call KeRemoveQueueDpc or "
		          "KeFlushQueuedDpcs first",
		          memory, (const void *)dpc);
}

/* ---- for drivers ----------------------------------------------------------------------------- */

static bool
dpc_check(const KDPC *dpc, const char *what)
{
	if (dpc != NULL && (dpc->Type == DPC_TYPE || dpc->Type == DPC_TYPE_THREADED))
		return true;
	nt_misuse(
	    "%s: %p is not an initialised DPC; call KeInitializeDpc first, and keep the memory "
	    "while it is queued",
	    what, (const void *)dpc);
	return false;
}

static void
dpc_init(PRKDPC dpc, UCHAR type, PKDEFERRED_ROUTINE routine, PVOID context)
{
	*dpc = (KDPC){
		.Type = type,
		.Importance = MediumImportance,
		.DeferredRoutine = routine,
		.DeferredContext = context,
	};
}

VOID
KeInitializeDpc(PRKDPC dpc, PKDEFERRED_ROUTINE routine, PVOID context)
{
	dpc_init(dpc, DPC_TYPE, routine, context);
}

VOID
KeInitializeThreadedDpc(PRKDPC dpc, PKDEFERRED_ROUTINE routine, PVOID context)
{
	dpc_init(dpc, DPC_TYPE_THREADED, routine, context);
}

VOID
KeSetImportanceDpc(PRKDPC dpc, KDPC_IMPORTANCE importance)
{
	if (!dpc_check(dpc, "KeSetImportanceDpc"))
		return;
	pthread_mutex_lock(&dpcs.lock);
	dpc->Importance = (UCHAR)importance;
	pthread_mutex_unlock(&dpcs.lock);
}

/* Number is 0 for "where it was queued", else the processor's number plus one. */
static NTSTATUS
dpc_target(PRKDPC dpc, ULONG processor)
{
	if (processor >= nt_processor_count())
		return STATUS_INVALID_PARAMETER;
	pthread_mutex_lock(&dpcs.lock);
	dpc->Number = (USHORT)(processor + 1);
	pthread_mutex_unlock(&dpcs.lock);
	return STATUS_SUCCESS;
}

VOID
KeSetTargetProcessorDpc(PRKDPC dpc, CCHAR number)
{
	if (!dpc_check(dpc, "KeSetTargetProcessorDpc"))
		return;
	if (dpc_target(dpc, (UCHAR)number) != STATUS_SUCCESS)
		nt_misuse("KeSetTargetProcessorDpc: there is no processor %d; see "
		          "KeQueryActiveProcessorCount",
		          number);
}

NTSTATUS
KeSetTargetProcessorDpcEx(PKDPC dpc, PPROCESSOR_NUMBER number)
{
	if (!dpc_check(dpc, "KeSetTargetProcessorDpcEx"))
		return STATUS_INVALID_PARAMETER;
	return dpc_target(dpc, KeGetProcessorIndexFromNumber(number));
}

bool
nt_dpc_insert(PRKDPC dpc, PVOID argument1, PVOID argument2)
{
	struct dpc_queue *queue;
	uint32_t processor;
	bool queued;

	if (!dpc_check(dpc, "KeInsertQueueDpc"))
		return false;
	nt_dispatch_prepare();
	pthread_mutex_lock(&dpcs.lock);
	queued = dpc->DpcData != NULL;
	if (!queued) {
		processor = dpc->Number != 0 ? dpc->Number - 1u : KeGetCurrentProcessorNumber();
		queue = &dpcs.queues[dpc->Type == DPC_TYPE_THREADED][processor];
		queue_prepare_locked(queue, processor);
		dpc->SystemArgument1 = argument1;
		dpc->SystemArgument2 = argument2;
		queue_insert_locked(queue, dpc);
	}
	pthread_mutex_unlock(&dpcs.lock);
	return !queued;
}

BOOLEAN
KeInsertQueueDpc(PRKDPC dpc, PVOID argument1, PVOID argument2)
{
	const bool inserted = nt_dpc_insert(dpc, argument1, argument2);

	nt_dpc_start_wanted();
	return inserted;
}

BOOLEAN
KeRemoveQueueDpc(PRKDPC dpc)
{
	bool queued;

	if (!dpc_check(dpc, "KeRemoveQueueDpc"))
		return FALSE;
	pthread_mutex_lock(&dpcs.lock);
	queued = dpc->DpcData != NULL;
	if (queued)
		dpc_unqueue_locked(dpc);
	pthread_mutex_unlock(&dpcs.lock);
	return queued;
}

/* ---- flush ----------------------------------------------------------------------------------- */

static VOID
flush_mark(PRKDPC dpc, PVOID passed, PVOID unused1, PVOID unused2)
{
	UNREFERENCED_PARAMETER(dpc);
	UNREFERENCED_PARAMETER(unused1);
	UNREFERENCED_PARAMETER(unused2);
	KeSetEvent(passed, IO_NO_INCREMENT, FALSE);
}

/* A mark behind what is queued is reached when all that has run. */
static void
queue_flush(struct dpc_queue *queue)
{
	KEVENT passed;
	KDPC mark;
	bool busy;

	KeInitializeEvent(&passed, NotificationEvent, FALSE);
	KeInitializeDpc(&mark, flush_mark, &passed);
	pthread_mutex_lock(&dpcs.lock);
	busy = queue->is_ready && !dpcs.stopping && queue != own_queue &&
	       (queue->is_running || !IsListEmpty(&queue->entries));
	if (busy)
		queue_insert_locked(queue, &mark);
	pthread_mutex_unlock(&dpcs.lock);
	nt_dpc_start_wanted();
	if (busy)
		KeWaitForSingleObject(&passed, Executive, KernelMode, FALSE, NULL);
}

VOID
KeFlushQueuedDpcs(VOID)
{
	if (!nt_irql_check_at_most(PASSIVE_LEVEL, "KeFlushQueuedDpcs"))
		return;
	for (uint32_t threaded = 0; threaded < 2; threaded++) {
		for (uint32_t i = 0; i < nt_processor_count(); i++)
			queue_flush(&dpcs.queues[threaded][i]);
	}
}
