/* SPDX-License-Identifier: MIT */
/*
 * Mutexes: objects with an owner that may acquire them again. The mutexes that a thread owns are in
 * a list, so that its end can be told from a release.
 */
#include "nt/nt_mutex.h"

#include "nt/nt_misuse.h"
#include "nt/nt_thread.h"

#define MUTEX_FREE 1

static bool
mutex_check(const KMUTANT *mutex, const char *what)
{
	return nt_object_check(mutex, NT_OBJECT_MUTANT, NT_OBJECT_MUTANT, what);
}

VOID
KeInitializeMutex(PRKMUTEX mutex, ULONG level)
{
	UNREFERENCED_PARAMETER(level);
	InitializeListHead(&mutex->MutantListEntry);
	mutex->OwnerThread = NULL;
	mutex->Abandoned = FALSE;
	mutex->ApcDisable = 1;
	nt_object_init(&mutex->Header, NT_OBJECT_MUTANT, sizeof(*mutex), MUTEX_FREE);
}

bool
nt_mutex_take_locked(PRKMUTEX mutex, struct _KTHREAD *thread, bool *abandoned)
{
	const LONG state = nt_object_state_locked(&mutex->Header);

	nt_object_set_state_locked(&mutex->Header, state - 1);
	if (state != MUTEX_FREE)
		return false;
	mutex->OwnerThread = thread;
	InsertTailList(&thread->mutexes, &mutex->MutantListEntry);
	if (mutex->Abandoned) {
		mutex->Abandoned = FALSE;
		*abandoned = true;
	}
	return mutex->ApcDisable != 0;
}

static void
mutex_free_locked(PRKMUTEX mutex, struct nt_wake_list *wake)
{
	RemoveEntryList(&mutex->MutantListEntry);
	mutex->OwnerThread = NULL;
	nt_object_set_state_locked(&mutex->Header, MUTEX_FREE);
	nt_object_signal_locked(&mutex->Header, wake);
}

LONG
KeReleaseMutex(PRKMUTEX mutex, BOOLEAN wait)
{
	struct nt_wake_list wake;
	bool is_owner, leaves_region;
	LONG state;

	nt_irql_check_at_most(DISPATCH_LEVEL, "KeReleaseMutex");
	if (wait)
		nt_misuse(
		    "KeReleaseMutex with Wait TRUE is not supported; pass FALSE and wait in a "
		    "call of its own");
	if (!mutex_check(mutex, "KeReleaseMutex"))
		return MUTEX_FREE;
	nt_dispatch_lock(&wake);
	state = nt_object_state_locked(&mutex->Header);
	is_owner = state < MUTEX_FREE && mutex->OwnerThread == nt_thread_self();
	leaves_region = is_owner && state + 1 == MUTEX_FREE && mutex->ApcDisable != 0;
	if (is_owner && state + 1 == MUTEX_FREE)
		mutex_free_locked(mutex, &wake);
	else if (is_owner)
		nt_object_set_state_locked(&mutex->Header, state + 1);
	nt_dispatch_unlock(&wake);
	if (!is_owner)
		nt_misuse("KeReleaseMutex: mutex %p is released by a thread that does not own it; "
		          "it stays as it is, release it where it was acquired",
		          (void *)mutex);
	if (leaves_region)
		nt_thread_leave_region("KeReleaseMutex");
	return state;
}

LONG
KeReadStateMutex(PRKMUTEX mutex)
{
	struct nt_wake_list wake;
	LONG state;

	if (!mutex_check(mutex, "KeReadStateMutex"))
		return 0;
	nt_dispatch_lock(&wake);
	state = nt_object_state_locked(&mutex->Header);
	nt_dispatch_unlock(&wake);
	return state;
}

void
nt_mutex_abandon(struct _KTHREAD *thread)
{
	struct nt_wake_list wake;
	PVOID last = NULL;

	nt_dispatch_lock(&wake);
	while (!IsListEmpty(&thread->mutexes)) {
		PRKMUTEX mutex = CONTAINING_RECORD(thread->mutexes.Flink, KMUTEX, MutantListEntry);

		mutex->Abandoned = TRUE;
		mutex_free_locked(mutex, &wake);
		last = mutex;
	}
	nt_dispatch_unlock(&wake);
	if (last != NULL)
		nt_misuse("KeReleaseMutex: thread %u ends and owns mutex %p; release it before the "
		          "thread ends",
		          thread->id, last);
}
