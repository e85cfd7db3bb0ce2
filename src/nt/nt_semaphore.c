/* SPDX-License-Identifier: MIT */
/*
 * Semaphores: the state is the count.
 */
#include "nt/nt_dispatch.h"
#include "nt/nt_misuse.h"
#include "nt/nt_thread.h"

static bool
semaphore_check(const KSEMAPHORE *semaphore, const char *what)
{
	return nt_object_check(semaphore, NT_OBJECT_SEMAPHORE, NT_OBJECT_SEMAPHORE, what);
}

VOID
KeInitializeSemaphore(PRKSEMAPHORE semaphore, LONG count, LONG limit)
{
	if (limit <= 0 || count < 0 || count > limit) {
		nt_misuse("KeInitializeSemaphore with count %d and limit %d; the limit is above 0, "
		          "and the count between 0 and it",
		          count, limit);
		count = 0;
		limit = 0;
	}
	semaphore->Limit = limit;
	nt_object_init(&semaphore->Header, NT_OBJECT_SEMAPHORE, sizeof(*semaphore), count);
}

LONG
KeReleaseSemaphore(PRKSEMAPHORE semaphore, KPRIORITY increment, LONG adjustment, BOOLEAN wait)
{
	struct nt_wake_list wake;
	bool fits;
	LONG count, limit;

	UNREFERENCED_PARAMETER(increment);
	nt_irql_check_at_most(DISPATCH_LEVEL, "KeReleaseSemaphore");
	if (wait)
		nt_misuse("KeReleaseSemaphore with Wait TRUE is not supported; pass FALSE and wait "
		          "in a call of its own");
	if (!semaphore_check(semaphore, "KeReleaseSemaphore"))
		return 0;
	nt_dispatch_lock(&wake);
	count = nt_object_state_locked(&semaphore->Header);
	limit = semaphore->Limit;
	fits = adjustment > 0 && adjustment <= limit - count;
	if (fits) {
		nt_object_set_state_locked(&semaphore->Header, count + adjustment);
		nt_object_signal_locked(&semaphore->Header, &wake);
	}
	nt_dispatch_unlock(&wake);
	if (!fits)
		nt_misuse(
		    "KeReleaseSemaphore: %p is released by %d at count %d with limit %d, which "
		    "raises an exception on Windows; the count stays, release within the limit",
		    (void *)semaphore, adjustment, count, limit);
	return count;
}

LONG
KeReadStateSemaphore(PRKSEMAPHORE semaphore)
{
	struct nt_wake_list wake;
	LONG count;

	if (!semaphore_check(semaphore, "KeReadStateSemaphore"))
		return 0;
	nt_dispatch_lock(&wake);
	count = nt_object_state_locked(&semaphore->Header);
	nt_dispatch_unlock(&wake);
	return count;
}
