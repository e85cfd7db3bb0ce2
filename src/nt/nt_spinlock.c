/* SPDX-License-Identifier: MIT */
/*
 * Spin locks. They sleep when the owner keeps them: the owner may have lost its CPU, which cannot
 * happen to the real ones. Like events they never touch the memory after the step that releases
 * them.
 *
 * A lock is two words: the owner's thread id with a flag for sleepers, and how many times the
 * owner acquired it once more by mistake. The second word belongs to the owner.
 */
#include <stdbool.h>
#include <stdint.h>

#include "nt/nt_deadline.h"
#include "nt/nt_misuse.h"
#include "nt/nt_spinlock.h"
#include "nt/nt_thread.h"
#include "wdm.h"

#define LOCK_SLEEPERS UINT32_C(0x80000000)
#define LOCK_SPINS 64

struct lock_words {
	uint32_t owner; /* atomic */
	uint32_t recursion;
};
NT_STATIC_ASSERT(sizeof(struct lock_words) == sizeof(KSPIN_LOCK), "a spin lock is pointer sized");

static struct lock_words *
lock_words(PKSPIN_LOCK lock)
{
	return (struct lock_words *)(void *)lock;
}

static bool
lock_try(struct lock_words *lock, uint32_t value)
{
	uint32_t expected = 0;

	/* Acquire: pairs with the release in lock_release(). */
	return __atomic_compare_exchange_n(&lock->owner, &expected, value, false, __ATOMIC_ACQUIRE,
	                                   __ATOMIC_RELAXED);
}

static void
lock_sleep(struct lock_words *lock, uint32_t self)
{
	const struct nt_deadline never = { .kind = NT_DEADLINE_INFINITE };

	/* Whoever slept cannot know whether others still do, so it keeps the flag. */
	while (!lock_try(lock, self | LOCK_SLEEPERS)) {
		uint32_t owner = __atomic_load_n(&lock->owner, __ATOMIC_RELAXED);

		if (owner == 0)
			continue;
		if ((owner & LOCK_SLEEPERS) == 0 &&
		    !__atomic_compare_exchange_n(&lock->owner, &owner, owner | LOCK_SLEEPERS, false,
		                                 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			continue;
		nt_futex_wait(&lock->owner, owner | LOCK_SLEEPERS, &never);
	}
}

static void
lock_acquire(struct lock_words *lock)
{
	const uint32_t self = nt_thread_id();

	if ((__atomic_load_n(&lock->owner, __ATOMIC_RELAXED) & ~LOCK_SLEEPERS) == self) {
		nt_misuse("KeAcquireSpinLock: lock %p is acquired again by the thread that holds "
		          "it, which never ends on Windows; release it first",
		          (void *)lock);
		lock->recursion++;
		return;
	}
	for (int spins = 0; spins < LOCK_SPINS; spins++) {
		if (lock_try(lock, self))
			return;
		YieldProcessor();
	}
	lock_sleep(lock, self);
}

static void
lock_release(struct lock_words *lock)
{
	const uint32_t owner = __atomic_load_n(&lock->owner, __ATOMIC_RELAXED) & ~LOCK_SLEEPERS;

	if (owner == 0) {
		nt_misuse("KeReleaseSpinLock: nobody holds lock %p; release it once for each time "
		          "that it was acquired",
		          (void *)lock);
		return;
	}
	if (owner != nt_thread_id()) {
		nt_misuse(
		    "KeReleaseSpinLock: lock %p is released by another thread than its owner; "
		    "release it where it was acquired",
		    (void *)lock);
	} else if (lock->recursion != 0) {
		lock->recursion--;
		return;
	}
	/* Release: pairs with the acquire in lock_try(). */
	if ((__atomic_exchange_n(&lock->owner, 0, __ATOMIC_RELEASE) & LOCK_SLEEPERS) != 0)
		nt_futex_wake(&lock->owner, 1);
}

void
nt_spin_lock(PKSPIN_LOCK lock)
{
	lock_acquire(lock_words(lock));
}

void
nt_spin_unlock(PKSPIN_LOCK lock)
{
	lock_release(lock_words(lock));
}

static void
check_dispatch(const char *what)
{
	if (KeGetCurrentIrql() < DISPATCH_LEVEL)
		nt_misuse("%s below DISPATCH_LEVEL; use the form that raises the level", what);
}

VOID
KeInitializeSpinLock(PKSPIN_LOCK lock)
{
	struct lock_words *words = lock_words(lock);

	words->recursion = 0;
	__atomic_store_n(&words->owner, 0, __ATOMIC_RELEASE);
}

KIRQL
KeAcquireSpinLockRaiseToDpc(PKSPIN_LOCK lock)
{
	const KIRQL before = KeGetCurrentIrql();

	if (nt_irql_check_at_most(DISPATCH_LEVEL, "KeAcquireSpinLock"))
		KfRaiseIrql(DISPATCH_LEVEL);
	lock_acquire(lock_words(lock));
	return before;
}

VOID
KeReleaseSpinLock(PKSPIN_LOCK lock, KIRQL old)
{
	check_dispatch("KeReleaseSpinLock");
	lock_release(lock_words(lock));
	KeLowerIrql(old);
}

VOID
KeAcquireSpinLockAtDpcLevel(PKSPIN_LOCK lock)
{
	check_dispatch("KeAcquireSpinLockAtDpcLevel");
	lock_acquire(lock_words(lock));
}

VOID
KeReleaseSpinLockFromDpcLevel(PKSPIN_LOCK lock)
{
	check_dispatch("KeReleaseSpinLockFromDpcLevel");
	lock_release(lock_words(lock));
}

BOOLEAN
KeTryToAcquireSpinLockAtDpcLevel(PKSPIN_LOCK lock)
{
	check_dispatch("KeTryToAcquireSpinLockAtDpcLevel");
	return lock_try(lock_words(lock), nt_thread_id());
}

BOOLEAN
KeTestSpinLock(PKSPIN_LOCK lock)
{
	return __atomic_load_n(&lock_words(lock)->owner, __ATOMIC_RELAXED) == 0;
}

KIRQL
KeAcquireSpinLockForDpc(PKSPIN_LOCK lock)
{
	if (KeGetCurrentIrql() < DISPATCH_LEVEL)
		return KeAcquireSpinLockRaiseToDpc(lock);
	lock_acquire(lock_words(lock));
	return KeGetCurrentIrql();
}

VOID
KeReleaseSpinLockForDpc(PKSPIN_LOCK lock, KIRQL old)
{
	KeReleaseSpinLock(lock, old);
}

/* ---- queued spin locks ----------------------------------------------------------------------- */

/*
 * The queue is the kernel's, of those that sleep on the lock. The handle only remembers what to
 * undo, so a lock may be taken in both ways.
 */
static void
queue_handle_init(PKLOCK_QUEUE_HANDLE handle, PKSPIN_LOCK lock, KIRQL old)
{
	handle->LockQueue.Next = NULL;
	handle->LockQueue.Lock = lock;
	handle->OldIrql = old;
}

VOID
KeAcquireInStackQueuedSpinLock(PKSPIN_LOCK lock, PKLOCK_QUEUE_HANDLE handle)
{
	queue_handle_init(handle, lock, KeAcquireSpinLockRaiseToDpc(lock));
}

VOID
KeReleaseInStackQueuedSpinLock(PKLOCK_QUEUE_HANDLE handle)
{
	KeReleaseSpinLock(handle->LockQueue.Lock, handle->OldIrql);
}

VOID
KeAcquireInStackQueuedSpinLockAtDpcLevel(PKSPIN_LOCK lock, PKLOCK_QUEUE_HANDLE handle)
{
	KeAcquireSpinLockAtDpcLevel(lock);
	queue_handle_init(handle, lock, KeGetCurrentIrql());
}

VOID
KeReleaseInStackQueuedSpinLockFromDpcLevel(PKLOCK_QUEUE_HANDLE handle)
{
	KeReleaseSpinLockFromDpcLevel(handle->LockQueue.Lock);
}

VOID
KeAcquireInStackQueuedSpinLockForDpc(PKSPIN_LOCK lock, PKLOCK_QUEUE_HANDLE handle)
{
	queue_handle_init(handle, lock, KeAcquireSpinLockForDpc(lock));
}

VOID
KeReleaseInStackQueuedSpinLockForDpc(PKLOCK_QUEUE_HANDLE handle)
{
	KeReleaseSpinLockForDpc(handle->LockQueue.Lock, handle->OldIrql);
}
