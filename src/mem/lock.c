/* SPDX-License-Identifier: MIT */
/* Waiting for a lock that is taken, and waking who waits. */
#include "mem/lock.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

void
vmb_lock_wait(struct vmb_lock *lock)
{
	/*
	 * Who has slept cannot know whether others still do, so it takes the lock as one that is awaited; the worst of it is a
	 * wake-up of nobody. Any return of the kernel's, also an interrupted one, is a reason to try again.
	 */
	while (__atomic_exchange_n(&lock->state, VMB_LOCK_AWAITED, __ATOMIC_ACQUIRE) != VMB_LOCK_FREE)
		(void)syscall(SYS_futex, &lock->state, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, VMB_LOCK_AWAITED,
		              NULL, NULL, 0);
}

void
vmb_lock_wake(struct vmb_lock *lock)
{
	(void)syscall(SYS_futex, &lock->state, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL, NULL, 0);
}
