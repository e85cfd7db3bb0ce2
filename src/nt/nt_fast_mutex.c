/* SPDX-License-Identifier: MIT */
/*
 * Fast mutexes and guarded mutexes: a count, and a synchronization event that hands the mutex to
 * one waiter.
 *
 * Count is 1 when free, 0 when held, and one less for each waiter. OldIrql belongs to the owner:
 * its low byte is the level to return to, the rest counts acquisitions that should not have been.
 */
#include <stdbool.h>
#include <stdint.h>

#include "nt/nt_misuse.h"
#include "nt/nt_thread.h"
#include "wdm.h"

#define MUTEX_IRQL_MASK UINT32_C(0xFF)
#define MUTEX_RECURSION UINT32_C(0x100)

static PKTHREAD
mutex_owner(PFAST_MUTEX mutex)
{
	return __atomic_load_n(&mutex->Owner, __ATOMIC_RELAXED);
}

static void
mutex_own(PFAST_MUTEX mutex, KIRQL before)
{
	__atomic_store_n(&mutex->Owner, KeGetCurrentThread(), __ATOMIC_RELAXED);
	mutex->OldIrql = before;
}

VOID
ExInitializeFastMutex(PFAST_MUTEX mutex)
{
	mutex->Owner = NULL;
	mutex->Contention = 0;
	mutex->OldIrql = PASSIVE_LEVEL;
	KeInitializeEvent(&mutex->Event, SynchronizationEvent, FALSE);
	__atomic_store_n(&mutex->Count, 1, __ATOMIC_RELEASE);
}

static void
mutex_acquire(PFAST_MUTEX mutex, KIRQL before)
{
	if (mutex_owner(mutex) == KeGetCurrentThread()) {
		nt_misuse("ExAcquireFastMutex: mutex %p is acquired again by the thread that "
			  "holds it, which never ends on Windows; release it first",
			  (void *)mutex);
		mutex->OldIrql += MUTEX_RECURSION;
		return;
	}
	/* Acquire: pairs with the release in mutex_release(). */
	if (__atomic_sub_fetch(&mutex->Count, 1, __ATOMIC_ACQUIRE) != 0) {
		__atomic_fetch_add(&mutex->Contention, 1, __ATOMIC_RELAXED);
		KeWaitForSingleObject(&mutex->Event, Executive, KernelMode, FALSE, NULL);
	}
	mutex_own(mutex, before);
}

static bool
mutex_try(PFAST_MUTEX mutex, KIRQL before)
{
	LONG expected = 1;

	if (!__atomic_compare_exchange_n(&mutex->Count, &expected, 0, 0, __ATOMIC_ACQUIRE,
					 __ATOMIC_RELAXED))
		return false;
	mutex_own(mutex, before);
	return true;
}

/* The level to go back to, or -1 if the mutex is not to be left. */
static int
mutex_release(PFAST_MUTEX mutex)
{
	KIRQL before;

	if (mutex_owner(mutex) == NULL) {
		nt_misuse("ExReleaseFastMutex: nobody holds mutex %p; release it once for each "
			  "time that it was acquired",
			  (void *)mutex);
		return -1;
	}
	if (mutex_owner(mutex) != KeGetCurrentThread()) {
		nt_misuse("ExReleaseFastMutex: mutex %p is released by another thread than its "
			  "owner; release it where it was acquired",
			  (void *)mutex);
	} else if (mutex->OldIrql >= MUTEX_RECURSION) {
		mutex->OldIrql -= MUTEX_RECURSION;
		return -1;
	}
	before = (KIRQL)(mutex->OldIrql & MUTEX_IRQL_MASK);
	__atomic_store_n(&mutex->Owner, NULL, __ATOMIC_RELAXED);
	/*
	 * A waiter keeps the mutex alive until the event is set; without one this is the last
	 * access.
	 */
	if (__atomic_add_fetch(&mutex->Count, 1, __ATOMIC_RELEASE) <= 0)
		KeSetEvent(&mutex->Event, EVENT_INCREMENT, FALSE);
	return before;
}

VOID
ExAcquireFastMutex(PFAST_MUTEX mutex)
{
	const KIRQL before = KeGetCurrentIrql();

	if (nt_irql_check_at_most(APC_LEVEL, "ExAcquireFastMutex"))
		KfRaiseIrql(APC_LEVEL);
	mutex_acquire(mutex, before);
}

BOOLEAN
ExTryToAcquireFastMutex(PFAST_MUTEX mutex)
{
	const KIRQL before = KeGetCurrentIrql();

	if (!nt_irql_check_at_most(APC_LEVEL, "ExTryToAcquireFastMutex") ||
	    !mutex_try(mutex, before))
		return FALSE;
	KfRaiseIrql(APC_LEVEL);
	return TRUE;
}

VOID
ExReleaseFastMutex(PFAST_MUTEX mutex)
{
	const int before = mutex_release(mutex);

	if (before >= 0 && before <= KeGetCurrentIrql())
		KeLowerIrql((KIRQL)before);
}

VOID
ExAcquireFastMutexUnsafe(PFAST_MUTEX mutex)
{
	nt_irql_check_at_most(APC_LEVEL, "ExAcquireFastMutexUnsafe");
	mutex_acquire(mutex, KeGetCurrentIrql());
}

VOID
ExReleaseFastMutexUnsafe(PFAST_MUTEX mutex)
{
	(void)mutex_release(mutex);
}

/* ---- guarded mutexes ------------------------------------------------------------------------- */

VOID
KeInitializeGuardedMutex(PKGUARDED_MUTEX mutex)
{
	ExInitializeFastMutex(mutex);
}

VOID
KeAcquireGuardedMutex(PKGUARDED_MUTEX mutex)
{
	KeEnterGuardedRegion();
	mutex_acquire(mutex, KeGetCurrentIrql());
}

BOOLEAN
KeTryToAcquireGuardedMutex(PKGUARDED_MUTEX mutex)
{
	KeEnterGuardedRegion();
	if (mutex_try(mutex, KeGetCurrentIrql()))
		return TRUE;
	KeLeaveGuardedRegion();
	return FALSE;
}

VOID
KeReleaseGuardedMutex(PKGUARDED_MUTEX mutex)
{
	(void)mutex_release(mutex);
	KeLeaveGuardedRegion();
}

VOID
KeAcquireGuardedMutexUnsafe(PKGUARDED_MUTEX mutex)
{
	nt_irql_check_at_most(APC_LEVEL, "KeAcquireGuardedMutexUnsafe");
	if (!KeAreAllApcsDisabled())
		nt_misuse("KeAcquireGuardedMutexUnsafe outside of a guarded region; call "
			  "KeEnterGuardedRegion first, or KeAcquireGuardedMutex");
	mutex_acquire(mutex, KeGetCurrentIrql());
}

VOID
KeReleaseGuardedMutexUnsafe(PKGUARDED_MUTEX mutex)
{
	(void)mutex_release(mutex);
}
