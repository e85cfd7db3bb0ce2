/* SPDX-License-Identifier: MIT */
/*
 * Waiting for objects. See nt_dispatch.h for the rules.
 *
 * A thread that has to wait links one block per object into their lists. Whoever signals an object
 * takes what the first satisfied waiter waits for on its behalf, unlinks all its blocks, and
 * remembers the waiter; when the lock is free again it is told so through its word, which is the
 * last that anybody touches of it. A thread whose time is up and that finds itself let go already
 * waits for that word, so that the memory of block and object stays as long as it is needed.
 */
#include "nt/nt_dispatch.h"

#include <pthread.h>

#include "nt/nt_dpc.h"
#include "nt/nt_event.h"
#include "nt/nt_misuse.h"
#include "nt/nt_mutex.h"
#include "nt/nt_thread.h"
#include "nt/nt_timer.h"

struct nt_wait_block {
	LIST_ENTRY link;
	struct nt_waiter *waiter;
	PDISPATCHER_HEADER object;
};

enum waiter_word {
	WAITER_AWAKE = 0,
	WAITER_ASLEEP,
	WAITER_RELEASED,
};

struct nt_waiter {
	uint32_t word; /* enum waiter_word; atomic */
	uint32_t count;
	struct nt_wait_block *blocks;
	struct nt_waiter *next;  /* in a wake list */
	struct _KTHREAD *thread; /* when there is a mutex among the objects */
	uint32_t regions;        /* critical regions that the thread enters on return */
	bool all;
	bool abandoned;
	bool satisfied; /* of the dispatcher lock, as all but `word` */
	uint32_t index; /* of the object that satisfied a wait for any */
};

static pthread_mutex_t dispatch = PTHREAD_MUTEX_INITIALIZER;

/* ---- objects --------------------------------------------------------------------------------- */

void
nt_object_init(PDISPATCHER_HEADER header, enum nt_object_type type, size_t bytes, LONG state)
{
	header->Type = (UCHAR)type;
	header->Signalling = 0;
	/* As Windows does it: the structure's length in 32-bit words. */
	header->Size = (UCHAR)(bytes / sizeof(LONG));
	header->Reserved = 0;
	InitializeListHead(&header->WaitListHead);
	__atomic_store_n(&header->SignalState, state, __ATOMIC_RELEASE);
}

static size_t
object_bytes(UCHAR type)
{
	switch ((enum nt_object_type)type) {
	case NT_OBJECT_NOTIFICATION_EVENT:
	case NT_OBJECT_SYNCHRONIZATION_EVENT:
		return sizeof(KEVENT);
	case NT_OBJECT_MUTANT:
		return sizeof(KMUTEX);
	case NT_OBJECT_SEMAPHORE:
		return sizeof(KSEMAPHORE);
	case NT_OBJECT_THREAD:
		return sizeof(struct _KTHREAD);
	case NT_OBJECT_NOTIFICATION_TIMER:
	case NT_OBJECT_SYNCHRONIZATION_TIMER:
		return sizeof(KTIMER);
	}
	return 0;
}

static bool
object_is_valid(const DISPATCHER_HEADER *header)
{
	size_t bytes;

	if (header == NULL)
		return false;
	bytes = object_bytes(header->Type);
	return bytes != 0 && header->Size == bytes / sizeof(LONG);
}

static const char *
object_kind(enum nt_object_type type)
{
	switch (type) {
	case NT_OBJECT_NOTIFICATION_EVENT:
	case NT_OBJECT_SYNCHRONIZATION_EVENT:
		return "event";
	case NT_OBJECT_MUTANT:
		return "mutex";
	case NT_OBJECT_SEMAPHORE:
		return "semaphore";
	case NT_OBJECT_THREAD:
		return "thread";
	case NT_OBJECT_NOTIFICATION_TIMER:
	case NT_OBJECT_SYNCHRONIZATION_TIMER:
		break;
	}
	return "timer";
}

bool
nt_object_check(const void *object, enum nt_object_type type, enum nt_object_type or_type,
                const char *what)
{
	const DISPATCHER_HEADER *header = object;

	if (object_is_valid(header) && (header->Type == type || header->Type == or_type))
		return true;
	nt_misuse("%s: %p is not an initialised %s; initialise it first, and keep the memory while "
	          "it is in use",
	          what, object, object_kind(type));
	return false;
}

static bool
object_is_event(const DISPATCHER_HEADER *header)
{
	return header->Type <= NT_OBJECT_SYNCHRONIZATION_EVENT;
}

LONG
nt_object_state_locked(const DISPATCHER_HEADER *header)
{
	return __atomic_load_n(&header->SignalState, __ATOMIC_RELAXED);
}

void
nt_object_set_state_locked(PDISPATCHER_HEADER header, LONG state)
{
	__atomic_store_n(&header->SignalState, state, __ATOMIC_RELAXED);
}

/* For whoever comes first. */
static bool
object_is_signalled_locked(const DISPATCHER_HEADER *header)
{
	if (object_is_event(header))
		return nt_event_is_signalled_locked((const KEVENT *)header);
	return nt_object_state_locked(header) > 0;
}

static bool
object_lets_go_locked(const DISPATCHER_HEADER *header, const struct nt_waiter *waiter)
{
	return object_is_signalled_locked(header) ||
	       (header->Type == NT_OBJECT_MUTANT &&
	        ((const KMUTANT *)header)->OwnerThread == waiter->thread);
}

static void
object_take_locked(PDISPATCHER_HEADER header, struct nt_waiter *waiter)
{
	switch ((enum nt_object_type)header->Type) {
	case NT_OBJECT_NOTIFICATION_EVENT:
	case NT_OBJECT_NOTIFICATION_TIMER:
	case NT_OBJECT_THREAD:
		break;
	case NT_OBJECT_SYNCHRONIZATION_EVENT:
		nt_event_consume_locked((PRKEVENT)header);
		break;
	case NT_OBJECT_MUTANT:
		if (nt_mutex_take_locked((PRKMUTEX)header, waiter->thread, &waiter->abandoned))
			waiter->regions++;
		break;
	case NT_OBJECT_SEMAPHORE:
		nt_object_set_state_locked(header, nt_object_state_locked(header) - 1);
		break;
	case NT_OBJECT_SYNCHRONIZATION_TIMER:
		nt_object_set_state_locked(header, 0);
		break;
	}
}

/* ---- the lock -------------------------------------------------------------------------------- */

static void
fork_prepare(void)
{
	pthread_mutex_lock(&dispatch);
	nt_dpc_fork_prepare();
}

static void
fork_parent(void)
{
	nt_dpc_fork_parent();
	pthread_mutex_unlock(&dispatch);
}

static void
fork_child(void)
{
	nt_timer_fork_child();
	nt_dpc_fork_child();
	pthread_mutex_unlock(&dispatch);
}

static void
watch_fork(void)
{
	(void)pthread_atfork(fork_prepare, fork_parent, fork_child);
}

void
nt_dispatch_prepare(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, watch_fork);
}

void
nt_dispatch_lock(struct nt_wake_list *wake)
{
	nt_dispatch_prepare();
	wake->first = NULL;
	wake->last = &wake->first;
	pthread_mutex_lock(&dispatch);
}

void
nt_dispatch_unlock(struct nt_wake_list *wake)
{
	struct nt_waiter *waiter = wake->first;

	pthread_mutex_unlock(&dispatch);
	while (waiter != NULL) {
		struct nt_waiter *next = waiter->next;
		uint32_t *word = &waiter->word;

		/* Release: pairs with the acquires of the waiter; its frame may go from here. */
		if (__atomic_exchange_n(word, WAITER_RELEASED, __ATOMIC_ACQ_REL) == WAITER_ASLEEP)
			nt_futex_wake(word, 1);
		waiter = next;
	}
}

/* ---- letting go ------------------------------------------------------------------------------ */

static void
waiter_link_locked(struct nt_waiter *waiter)
{
	for (uint32_t i = 0; i < waiter->count; i++) {
		struct nt_wait_block *block = &waiter->blocks[i];

		block->waiter = waiter;
		InsertTailList(&block->object->WaitListHead, &block->link);
		if (object_is_event(block->object))
			nt_event_enlist_locked((PRKEVENT)block->object);
	}
}

static void
waiter_unlink_locked(struct nt_waiter *waiter)
{
	for (uint32_t i = 0; i < waiter->count; i++) {
		struct nt_wait_block *block = &waiter->blocks[i];

		if (RemoveEntryList(&block->link) && object_is_event(block->object))
			nt_event_unlist_locked((PRKEVENT)block->object);
	}
}

static bool
waiter_take_any_locked(struct nt_waiter *waiter)
{
	for (uint32_t i = 0; i < waiter->count; i++) {
		if (object_lets_go_locked(waiter->blocks[i].object, waiter)) {
			object_take_locked(waiter->blocks[i].object, waiter);
			waiter->index = i;
			return true;
		}
	}
	return false;
}

static bool
waiter_take_all_locked(struct nt_waiter *waiter)
{
	for (uint32_t i = 0; i < waiter->count; i++) {
		if (!object_lets_go_locked(waiter->blocks[i].object, waiter))
			return false;
	}
	for (uint32_t i = 0; i < waiter->count; i++)
		object_take_locked(waiter->blocks[i].object, waiter);
	return true;
}

/* True when the waiter got what it waits for; it is in no list then. */
static bool
waiter_satisfy_locked(struct nt_waiter *waiter)
{
	waiter->satisfied =
	    waiter->all ? waiter_take_all_locked(waiter) : waiter_take_any_locked(waiter);
	if (waiter->satisfied)
		waiter_unlink_locked(waiter);
	return waiter->satisfied;
}

void
nt_object_signal_locked(PDISPATCHER_HEADER header, struct nt_wake_list *wake)
{
	PLIST_ENTRY link = header->WaitListHead.Flink;

	while (link != &header->WaitListHead && object_is_signalled_locked(header)) {
		struct nt_waiter *waiter =
		    CONTAINING_RECORD(link, struct nt_wait_block, link)->waiter;

		link = link->Flink;
		if (!waiter_satisfy_locked(waiter))
			continue;
		waiter->next = NULL;
		*wake->last = waiter;
		wake->last = &waiter->next;
		/* The next block may have been the same waiter's. */
		link = header->WaitListHead.Flink;
	}
}

/* ---- waiting --------------------------------------------------------------------------------- */

/* False when the time is up. */
static bool
waiter_sleep(struct nt_waiter *waiter, const struct nt_deadline *deadline)
{
	uint32_t awake = WAITER_AWAKE;

	/* Acquire, here and below: pairs with nt_dispatch_unlock(). */
	(void)__atomic_compare_exchange_n(&waiter->word, &awake, WAITER_ASLEEP, false,
	                                  __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE);
	while (__atomic_load_n(&waiter->word, __ATOMIC_ACQUIRE) != WAITER_RELEASED) {
		if (!nt_futex_wait(&waiter->word, WAITER_ASLEEP, deadline))
			return false;
	}
	return true;
}

static NTSTATUS
waiter_status(const struct nt_waiter *waiter)
{
	const NTSTATUS base = waiter->abandoned ? STATUS_ABANDONED_WAIT_0 : STATUS_WAIT_0;

	return waiter->all ? base : base + (NTSTATUS)waiter->index;
}

static NTSTATUS
waiter_wait(struct nt_waiter *waiter, const struct nt_deadline *deadline)
{
	const struct nt_deadline never = { .kind = NT_DEADLINE_INFINITE };
	struct nt_wake_list wake;
	bool satisfied;

	nt_dispatch_lock(&wake);
	waiter_link_locked(waiter);
	satisfied = waiter_satisfy_locked(waiter);
	if (!satisfied && nt_deadline_is_zero(deadline))
		waiter_unlink_locked(waiter);
	nt_dispatch_unlock(&wake);
	if (!satisfied && nt_deadline_is_zero(deadline))
		return STATUS_TIMEOUT;

	if (!satisfied && !waiter_sleep(waiter, deadline)) {
		nt_dispatch_lock(&wake);
		satisfied = waiter->satisfied;
		if (!satisfied)
			waiter_unlink_locked(waiter);
		nt_dispatch_unlock(&wake);
		if (!satisfied)
			return STATUS_TIMEOUT;
		/* Let go at the last moment, by somebody who still has to say so. */
		waiter_sleep(waiter, &never);
	}
	nt_thread_enter_regions(waiter->regions);
	return waiter_status(waiter);
}

static NTSTATUS
wait_for_one(PDISPATCHER_HEADER object, const struct nt_deadline *deadline)
{
	struct nt_wait_block block = { .object = object };
	struct nt_waiter waiter = { .count = 1, .blocks = &block };

	if (object->Type == NT_OBJECT_MUTANT)
		waiter.thread = nt_thread_self();
	return waiter_wait(&waiter, deadline);
}

NTSTATUS
KeWaitForSingleObject(PVOID object, KWAIT_REASON reason, KPROCESSOR_MODE mode, BOOLEAN alertable,
                      PLARGE_INTEGER timeout)
{
	const struct nt_deadline deadline = nt_deadline_from_timeout(timeout);

	UNREFERENCED_PARAMETER(reason);
	UNREFERENCED_PARAMETER(mode);
	UNREFERENCED_PARAMETER(alertable);
	nt_irql_check_at_most(nt_deadline_is_zero(&deadline) ? DISPATCH_LEVEL : APC_LEVEL,
	                      "KeWaitForSingleObject");
	if (nt_object_is_event(object)) {
		const NTSTATUS status = nt_event_wait(object, &deadline);

		if (status != STATUS_PENDING)
			return status;
	}
	if (!object_is_valid(object)) {
		nt_misuse("KeWaitForSingleObject: %p is not an initialised object; pass an event, "
		          "mutex, semaphore, timer or thread",
		          object);
		return STATUS_INVALID_PARAMETER;
	}
	return wait_for_one(object, &deadline);
}

/* ---- several objects ------------------------------------------------------------------------- */

static bool
objects_are_valid(ULONG count, PVOID const *objects, WAIT_TYPE type)
{
	if (count == 0 || count > MAXIMUM_WAIT_OBJECTS) {
		nt_misuse("KeWaitForMultipleObjects for %u objects; wait for 1 to %u", count,
		          MAXIMUM_WAIT_OBJECTS);
		return false;
	}
	for (ULONG i = 0; i < count; i++) {
		if (!object_is_valid(objects[i])) {
			nt_misuse("KeWaitForMultipleObjects: %p is not an initialised object; pass "
			          "events, mutexes, semaphores, timers and threads",
			          objects[i]);
			return false;
		}
		for (ULONG j = 0; type == WaitAll && j < i; j++) {
			if (objects[j] == objects[i]) {
				nt_misuse("KeWaitForMultipleObjects for all, with %p twice; name "
				          "each object once",
				          objects[i]);
				return false;
			}
		}
	}
	return true;
}

NTSTATUS
KeWaitForMultipleObjects(ULONG count, PVOID objects[], WAIT_TYPE type, KWAIT_REASON reason,
                         KPROCESSOR_MODE mode, BOOLEAN alertable, PLARGE_INTEGER timeout,
                         PKWAIT_BLOCK blocks)
{
	const struct nt_deadline deadline = nt_deadline_from_timeout(timeout);
	struct nt_wait_block own_blocks[MAXIMUM_WAIT_OBJECTS];
	struct nt_waiter waiter = { .count = count, .blocks = own_blocks, .all = type == WaitAll };

	UNREFERENCED_PARAMETER(reason);
	UNREFERENCED_PARAMETER(mode);
	UNREFERENCED_PARAMETER(alertable);
	nt_irql_check_at_most(nt_deadline_is_zero(&deadline) ? DISPATCH_LEVEL : APC_LEVEL,
	                      "KeWaitForMultipleObjects");
	if (!objects_are_valid(count, objects, type))
		return STATUS_INVALID_PARAMETER;
	if (count > THREAD_WAIT_OBJECTS && blocks == NULL)
		nt_misuse("KeWaitForMultipleObjects for %u objects without wait blocks; for more "
		          "than %u pass an array of as many",
		          count, THREAD_WAIT_OBJECTS);
	for (uint32_t i = 0; i < count; i++) {
		own_blocks[i].object = objects[i];
		if (own_blocks[i].object->Type == NT_OBJECT_MUTANT)
			waiter.thread = nt_thread_self();
	}
	return waiter_wait(&waiter, &deadline);
}
