/* SPDX-License-Identifier: MIT */
/*
 * A lock whose taking and giving back are one inlined instruction each as long as nobody waits: a transaction takes three, and
 * pthread_mutex's calls were a tenth of its instructions. Whoever waits sleeps in the kernel. All zero is a free lock. Not
 * recursive; given back by the thread that took it. Memory that holds it may go as soon as its last owner could know that
 * nobody else will take it: giving back does not look at it again, at most its address is woken up.
 */
#ifndef MEM_LOCK_H
#define MEM_LOCK_H

#include <stdbool.h>
#include <stdint.h>

#if defined(__has_feature)
#if __has_feature(thread_sanitizer) && !defined(__SANITIZE_THREAD__)
#define __SANITIZE_THREAD__ 1
#endif
#endif
#ifdef __SANITIZE_THREAD__
/* It sees the orders of locks then, as it does of pthread's. */
#include <sanitizer/tsan_interface.h>
#define VMB_LOCK_SAYS(call) call
#else
#define VMB_LOCK_SAYS(call) ((void)0)
#endif

enum vmb_lock_state {
	VMB_LOCK_FREE,
	VMB_LOCK_TAKEN,
	VMB_LOCK_AWAITED, /* taken, and somebody sleeps or is about to */
};

struct vmb_lock {
	uint32_t state;
};

/* The slow halves (lock.c). */
void vmb_lock_wait(struct vmb_lock *lock);
void vmb_lock_wake(struct vmb_lock *lock);

static inline bool
vmb_lock_try(struct vmb_lock *lock)
{
	uint32_t expected = VMB_LOCK_FREE;
	bool taken;

	VMB_LOCK_SAYS(__tsan_mutex_pre_lock(lock, __tsan_mutex_try_lock));
	taken = __atomic_compare_exchange_n(&lock->state, &expected, VMB_LOCK_TAKEN, false,
	                                    __ATOMIC_ACQUIRE, __ATOMIC_RELAXED);
	VMB_LOCK_SAYS(__tsan_mutex_post_lock(
	        lock, __tsan_mutex_try_lock | (taken ? 0 : __tsan_mutex_try_lock_failed), 0));
	return taken;
}

static inline void
vmb_lock_take(struct vmb_lock *lock)
{
	uint32_t expected = VMB_LOCK_FREE;

	VMB_LOCK_SAYS(__tsan_mutex_pre_lock(lock, 0));
	if (!__atomic_compare_exchange_n(&lock->state, &expected, VMB_LOCK_TAKEN, false,
	                                 __ATOMIC_ACQUIRE, __ATOMIC_RELAXED))
		vmb_lock_wait(lock);
	VMB_LOCK_SAYS(__tsan_mutex_post_lock(lock, 0, 0));
}

static inline void
vmb_lock_give(struct vmb_lock *lock)
{
	VMB_LOCK_SAYS(__tsan_mutex_pre_unlock(lock, 0));
	if (__atomic_exchange_n(&lock->state, VMB_LOCK_FREE, __ATOMIC_RELEASE) == VMB_LOCK_AWAITED)
		vmb_lock_wake(lock);
	VMB_LOCK_SAYS(__tsan_mutex_post_unlock(lock, 0));
}

#endif
