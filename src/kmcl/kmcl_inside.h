/* SPDX-License-Identifier: MIT */
/*
 * How many calls are inside of something that somebody else is going to take away. Who leaves does it with one instruction and touches
 * nothing afterwards: when the last one is out, whoever waits for that may free all of it, this word included. (Waking a futex
 * that is gone wakes nobody, or somebody who looks again.)
 */
#ifndef KMCL_INSIDE_H
#define KMCL_INSIDE_H

#include <limits.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "nt/nt_deadline.h"

#define KMCL_INSIDE_AWAITED 0x80000000u /* wake when the last one leaves */

struct kmcl_inside {
	_Atomic uint32_t calls;
};

static inline void
kmcl_inside_enter(struct kmcl_inside *inside)
{
	atomic_fetch_add_explicit(&inside->calls, 1, memory_order_acquire);
}

static inline void
kmcl_inside_leave(struct kmcl_inside *inside)
{
	const uint32_t *word = (const uint32_t *)(const void *)&inside->calls;

	/* Release: what the call did comes before the end of what it was inside of. */
	if (atomic_fetch_sub_explicit(&inside->calls, 1, memory_order_release) == (KMCL_INSIDE_AWAITED | 1))
		nt_futex_wake(word, INT_MAX);
}

static inline bool
kmcl_inside_is_empty(const struct kmcl_inside *inside)
{
	return (atomic_load_explicit(&inside->calls, memory_order_acquire) & ~KMCL_INSIDE_AWAITED) == 0;
}

/* Until nobody is. */
static inline void
kmcl_inside_wait(struct kmcl_inside *inside)
{
	static const struct nt_deadline never = { .kind = NT_DEADLINE_INFINITE };
	uint32_t calls = atomic_load_explicit(&inside->calls, memory_order_acquire);

	while ((calls & ~KMCL_INSIDE_AWAITED) != 0) {
		const uint32_t awaited = calls | KMCL_INSIDE_AWAITED;

		if (calls == awaited || atomic_compare_exchange_strong(&inside->calls, &calls, awaited)) {
			(void)nt_futex_wait((uint32_t *)(void *)&inside->calls, awaited, &never);
			calls = atomic_load_explicit(&inside->calls, memory_order_acquire);
		}
	}
	/* Whoever comes later need not wake anybody. */
	while (calls == KMCL_INSIDE_AWAITED && !atomic_compare_exchange_weak(&inside->calls, &calls, 0))
		;
}

#endif
