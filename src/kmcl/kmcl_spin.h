/* SPDX-License-Identifier: MIT */
/*
 * How long to poll a channel before blocking: the waiting policy, one object per channel.
 *
 * Polling saves a signal and a wake-up when the peer runs on another processor, and is ruinous when
 * it needs ours. So the time follows success: a packet that came while polling sets it to a little
 * more than what was needed, a miss halves it down to nothing. While it is below the longest time,
 * every KMCL_SPIN_PROBE-th wait tries that again, because a peer that had to be woken answers late
 * once and fast from then on.
 *
 * Where there is one processor for all, who polls gives it away between two looks: the peer goes on at once, and neither
 * side needs a signal. If somebody else took it for long, being woken would have been faster, and that is a miss, too.
 *
 * Any thread; a lost update of these hints costs nothing but time.
 */
#ifndef KMCL_SPIN_H
#define KMCL_SPIN_H

#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define KMCL_SPIN_PROBE 32u
#define KMCL_SPIN_FLOOR_NS 1000u
#define KMCL_SPIN_LOOKS 32u     /* for one at the clock */
#define KMCL_SPIN_TAKEN 20u     /* times the longest poll */

struct kmcl_spin {
	_Atomic uint32_t longest_ns; /* 0 = never poll */
	_Atomic uint32_t ns;
	_Atomic uint32_t waits;
	_Atomic bool yields;    /* one processor for all */
};

static inline void
kmcl_spin_init(struct kmcl_spin *spin, uint32_t longest_ns, bool yields)
{
	atomic_store_explicit(&spin->yields, yields, memory_order_relaxed);
	atomic_store_explicit(&spin->longest_ns, longest_ns, memory_order_relaxed);
	atomic_store_explicit(&spin->ns, longest_ns, memory_order_relaxed);
	atomic_store_explicit(&spin->waits, 0, memory_order_relaxed);
}

static inline bool
kmcl_spin_yields(const struct kmcl_spin *spin)
{
	return atomic_load_explicit(&spin->yields, memory_order_relaxed);
}

/* Nanoseconds to poll this time; 0 = block at once. */
static inline uint32_t
kmcl_spin_begin(struct kmcl_spin *spin)
{
	uint32_t longest = atomic_load_explicit(&spin->longest_ns, memory_order_relaxed);
	uint32_t now = atomic_load_explicit(&spin->ns, memory_order_relaxed);
	uint32_t waits;

	if (now == longest)
		return now;
	waits = atomic_load_explicit(&spin->waits, memory_order_relaxed);
	atomic_store_explicit(&spin->waits, waits + 1, memory_order_relaxed);
	return waits % KMCL_SPIN_PROBE == 0 ? longest : now;
}

/* A hit would change nothing. */
static inline bool
kmcl_spin_is_settled(struct kmcl_spin *spin)
{
	return !kmcl_spin_yields(spin) && atomic_load_explicit(&spin->ns, memory_order_relaxed) ==
	                                    atomic_load_explicit(&spin->longest_ns, memory_order_relaxed);
}

/* None came. */
static inline void
kmcl_spin_miss(struct kmcl_spin *spin)
{
	uint32_t ns = atomic_load_explicit(&spin->ns, memory_order_relaxed) / 2;

	atomic_store_explicit(&spin->ns, ns < KMCL_SPIN_FLOOR_NS ? 0 : ns, memory_order_relaxed);
}

/* A packet came after this long. */
static inline void
kmcl_spin_hit(struct kmcl_spin *spin, uint64_t waited_ns)
{
	uint32_t longest = atomic_load_explicit(&spin->longest_ns, memory_order_relaxed);
	uint64_t enough = 4 * waited_ns + KMCL_SPIN_FLOOR_NS * 8;
	uint32_t ns = enough < longest ? (uint32_t)enough : longest;

	if (kmcl_spin_yields(spin) && waited_ns >= (uint64_t)KMCL_SPIN_TAKEN * longest)
		kmcl_spin_miss(spin);
	else if (atomic_load_explicit(&spin->ns, memory_order_relaxed) < ns)
		atomic_store_explicit(&spin->ns, ns, memory_order_relaxed);
}

/* Between two looks. True: time to look at the clock; the n-th of `rounds`, which this counts. */
static inline bool
kmcl_spin_relax(const struct kmcl_spin *spin, uint32_t *rounds)
{
	if (kmcl_spin_yields(spin)) {
		(void)sched_yield();
		return true;
	}
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
	return ++*rounds % KMCL_SPIN_LOOKS == 0;
}

#endif
