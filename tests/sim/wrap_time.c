/* SPDX-License-Identifier: MIT */
/* Clocks, pauses, processors, and waits for a word (futexes). */
#include "wrap.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>

#include "scheduler.h"

/* 2026, so that times since 1601 and 1970 are plausible. */
#define REALTIME_AHEAD (1767225600 * SIM_SECOND)

uint64_t
sim_deadline(clockid_t clock, const struct timespec *at)
{
	uint64_t seconds = (uint64_t)at->tv_sec, ahead = 0;

	if (clock == CLOCK_REALTIME)
		ahead = REALTIME_AHEAD;
	if (at->tv_sec < 0)
		return 0;
	if (seconds > UINT64_MAX / SIM_SECOND - 1)
		return SIM_NEVER;
	seconds = seconds * SIM_SECOND + (uint64_t)at->tv_nsec;
	return seconds < ahead ? 0 : seconds - ahead;
}

WRAP(int, clock_gettime, clockid_t clock, struct timespec *now)
{
	uint64_t ns = sim_read_clock();

	if (clock == CLOCK_REALTIME)
		ns += REALTIME_AHEAD;
	now->tv_sec = (time_t)(ns / SIM_SECOND);
	now->tv_nsec = (long)(ns % SIM_SECOND);
	return 0;
}

WRAP(int, nanosleep, const struct timespec *span, struct timespec *left)
{
	(void)left;
	(void)sim_block(NULL,
	                sim_now() + (uint64_t)span->tv_sec * SIM_SECOND + (uint64_t)span->tv_nsec,
	                "a pause");
	return 0;
}

int __wrap_sched_yield(void);
int
__wrap_sched_yield(void)
{
	sim_yield();
	return 0;
}

int __wrap_sched_getcpu(void);
int
__wrap_sched_getcpu(void)
{
	return (int)sim_random(sim_processors());
}

WRAP(int, sched_getaffinity, pid_t process, size_t bytes, cpu_set_t *set)
{
	(void)process;
	memset(set, 0, bytes);
	for (uint32_t i = 0; i < sim_processors(); i++)
		CPU_SET(i, set);
	return 0;
}

static long
futex_wait(uint32_t *word, int operation, uint32_t expected, const struct timespec *at)
{
	clockid_t clock =
	    (operation & FUTEX_CLOCK_REALTIME) != 0 ? CLOCK_REALTIME : CLOCK_MONOTONIC;

	sim_point();
	if (__atomic_load_n(word, __ATOMIC_SEQ_CST) != expected) {
		errno = EAGAIN;
		return -1;
	}
	if (sim_spurious()) {
		errno = EINTR;
		return -1;
	}
	if (sim_block(word, at == NULL ? SIM_NEVER : sim_deadline(clock, at), "a word in memory"))
		return 0;
	errno = ETIMEDOUT;
	return -1;
}

long __wrap_syscall(long number, ...);
long
__wrap_syscall(long number, ...)
{
	va_list args;
	uint32_t *word, value;
	const struct timespec *at;
	int operation;

	if (number == SYS_gettid)
		return (long)sim_self->number;
	/* The library can signal without asynchronous I/O, and its write is the simulation's. */
	if (number == SYS_io_setup) {
		errno = ENOSYS;
		return -1;
	}
	if (number != SYS_futex)
		sim_found("system call %ld; teach tests/sim/wrap_time.c what it does", number);
	va_start(args, number);
	word = va_arg(args, uint32_t *);
	operation = va_arg(args, int);
	value = va_arg(args, uint32_t);
	at = va_arg(args, const struct timespec *);
	va_end(args);
	switch (operation & FUTEX_CMD_MASK) {
	case FUTEX_WAIT_BITSET:
		return futex_wait(word, operation, value, at);
	case FUTEX_WAIT:
		if (at != NULL)
			sim_found("a futex waits with a limit that counts from now; teach tests/sim/wrap_time.c what it does");
		return futex_wait(word, operation, value, NULL);
	case FUTEX_WAKE:
		sim_point();
		return (long)sim_wake(word, value);
	default:
		sim_found("futex operation %d; teach tests/sim/wrap_time.c what it does",
		          operation);
	}
}
