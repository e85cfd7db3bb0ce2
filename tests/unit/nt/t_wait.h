/* SPDX-License-Identifier: MIT */
/*
 * Threads that wait for objects, and knowing when they do.
 */
#ifndef T_WAIT_H
#define T_WAIT_H

#include "t_nt.h"

#include "nt/nt_dispatch.h"

/* How many wait blocks are in the object's list. Not for a thread alone at an event. */
static inline uint32_t
t_listed(PVOID object)
{
	PDISPATCHER_HEADER header = object;
	struct nt_wake_list wake;
	uint32_t count = 0;

	nt_dispatch_lock(&wake);
	for (PLIST_ENTRY e = header->WaitListHead.Flink; e != &header->WaitListHead; e = e->Flink)
		count++;
	nt_dispatch_unlock(&wake);
	return count;
}

static inline void
t_await_listed(PVOID object, uint32_t count)
{
	while (t_listed(object) != count)
		sched_yield();
}

static inline NTSTATUS
t_wait_for(PVOID object, int64_t timeout)
{
	LARGE_INTEGER value = { .QuadPart = timeout };

	return KeWaitForSingleObject(object, Executive, KernelMode, FALSE, &value);
}

static inline NTSTATUS
t_wait_forever_for(PVOID object)
{
	return KeWaitForSingleObject(object, Executive, KernelMode, FALSE, NULL);
}

static inline NTSTATUS
t_wait_many(ULONG count, PVOID objects[], WAIT_TYPE type, int64_t timeout)
{
	LARGE_INTEGER value = { .QuadPart = timeout };
	KWAIT_BLOCK blocks[MAXIMUM_WAIT_OBJECTS];

	return KeWaitForMultipleObjects(count, objects, type, Executive, KernelMode, FALSE, &value,
	                                blocks);
}

/* A thread in one wait without a limit. */
struct t_sleeper {
	PVOID *objects;
	ULONG count;
	WAIT_TYPE type;
	NTSTATUS status;
	pthread_t thread;
};

static inline void *
t_sleep_in_wait(void *context)
{
	struct t_sleeper *sleeper = context;
	KWAIT_BLOCK blocks[MAXIMUM_WAIT_OBJECTS];

	sleeper->status =
	    sleeper->count == 1
		? t_wait_forever_for(sleeper->objects[0])
		: KeWaitForMultipleObjects(sleeper->count, sleeper->objects, sleeper->type,
	                                   Executive, KernelMode, FALSE, NULL, blocks);
	/* A mutex does not outlive its test in the hands of this thread. */
	for (ULONG i = 0; i < sleeper->count; i++) {
		PKMUTEX mutex = sleeper->objects[i];

		if (mutex->Header.Type == NT_OBJECT_MUTANT &&
		    mutex->OwnerThread == KeGetCurrentThread())
			KeReleaseMutex(mutex, FALSE);
	}
	return NULL;
}

static inline void
t_sleeper_start(struct t_sleeper *sleeper, PVOID *objects, ULONG count, WAIT_TYPE type)
{
	*sleeper = (struct t_sleeper){ objects, count, type, STATUS_PENDING, 0 };
	sleeper->thread = t_thread(t_sleep_in_wait, sleeper);
}

static inline NTSTATUS
t_sleeper_end(struct t_sleeper *sleeper)
{
	t_join(sleeper->thread);
	return sleeper->status;
}

#endif
