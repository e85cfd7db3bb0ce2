/* SPDX-License-Identifier: MIT */
/*
 * Clocks and waits under the test's control, for a word or for a channel's signals. The programs that use it are linked so
 * that the library's clock_gettime(), syscall() and epoll_pwait2() end here: clocks can be put forward or back, everything
 * that the library waits for in the kernel is written down, and a wait can be kept from returning.
 * Real time goes on as well.
 */
#ifndef CONFORMANCE_SSR_CLOCK_H
#define CONFORMANCE_SSR_CLOCK_H

#include "world.h"

/* What a waiting thread asked the kernel for. */
struct clock_wait {
	bool limited;           /* it has a deadline */
	bool realtime;          /* on this clock; else on the monotonic one */
	int64_t deadline;       /* ns on that clock */
};

/* Forget what was written down. No wait is under way. */
void clock_reset(void);
/* Wait until so many threads of the library wait. */
void clock_await_waiting(uint32_t count);
/*
 * All waits begun since the reset, also repeated ones of the same call; at most `capacity` are
 * copied.
 */
uint32_t clock_waits(struct clock_wait *waits, uint32_t capacity);
/* Move a clock by ns. When it returns, every thread that waits has looked at it. */
void clock_jump(clockid_t clock, int64_t ns);
/* Now, on a clock as the library sees it. */
int64_t clock_read(clockid_t clock);

/* The kernel has no waits for signals: the loop hears them and wakes who waits for a word. */
void clock_words_only(bool on);
/* From now on nobody who waits returns, whatever happens, until clock_release(). */
void clock_hold(void);
/* Wait until so many held threads have a reason to return. */
void clock_await_due(uint32_t count);
/* Returns the order number of the release; see clock_order(). */
uint64_t clock_release(void);
/* A counter that grows with each call; orders events of different threads. */
uint64_t clock_order(void);

#endif
