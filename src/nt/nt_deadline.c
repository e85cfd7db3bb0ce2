/* SPDX-License-Identifier: MIT */
/*
 * Deadlines, and futex waits until one. Deadlines are absolute on their clock, so a wait that was
 * interrupted simply starts again, and a change of the wall clock moves an absolute one as it
 * should.
 */
#include "nt/nt_deadline.h"

#include <errno.h>
#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#define UNITS_PER_SECOND 10000000ull
#define NS_PER_UNIT 100
#define NS_PER_SECOND 1000000000L

/* What a signed 64-bit count of nanoseconds can hold. */
#define UNITS_MAX ((uint64_t)(INT64_MAX / NS_PER_UNIT))

static struct timespec
timespec_from_units(uint64_t units)
{
	return (struct timespec){
		.tv_sec = (time_t)(units / UNITS_PER_SECOND),
		.tv_nsec = (long)(units % UNITS_PER_SECOND) * NS_PER_UNIT,
	};
}

static struct nt_deadline
deadline_relative(uint64_t units)
{
	struct nt_deadline deadline = { .kind = NT_DEADLINE_MONOTONIC };
	const struct timespec span = timespec_from_units(units);
	struct timespec now;

	if (units > UNITS_MAX)
		return (struct nt_deadline){ .kind = NT_DEADLINE_INFINITE };
	clock_gettime(CLOCK_MONOTONIC, &now);
	deadline.at.tv_sec = now.tv_sec + span.tv_sec;
	deadline.at.tv_nsec = now.tv_nsec + span.tv_nsec;
	if (deadline.at.tv_nsec >= NS_PER_SECOND) {
		deadline.at.tv_sec++;
		deadline.at.tv_nsec -= NS_PER_SECOND;
	}
	return deadline;
}

static struct nt_deadline
deadline_absolute(int64_t since_1601)
{
	struct nt_deadline deadline = { .kind = NT_DEADLINE_REALTIME };
	const int64_t units = since_1601 - NT_UNIX_EPOCH_100NS;

	/* Before 1970 is the past, whatever the clock says. */
	if (units <= 0)
		return deadline;
	if ((uint64_t)units > UNITS_MAX)
		return (struct nt_deadline){ .kind = NT_DEADLINE_INFINITE };
	deadline.at = timespec_from_units((uint64_t)units);
	return deadline;
}

struct nt_deadline
nt_deadline_from_timeout(const LARGE_INTEGER *timeout)
{
	int64_t value;

	if (timeout == NULL)
		return (struct nt_deadline){ .kind = NT_DEADLINE_INFINITE };
	value = timeout->QuadPart;
	if (value == 0)
		return (struct nt_deadline){ .kind = NT_DEADLINE_ZERO };
	return value < 0 ? deadline_relative(0 - (uint64_t)value) : deadline_absolute(value);
}

struct nt_deadline
nt_deadline_from_interrupt_time(uint64_t at)
{
	if (at > UNITS_MAX)
		return (struct nt_deadline){ .kind = NT_DEADLINE_INFINITE };
	return (struct nt_deadline){ NT_DEADLINE_MONOTONIC, timespec_from_units(at) };
}

bool
nt_deadline_is_zero(const struct nt_deadline *deadline)
{
	return deadline->kind == NT_DEADLINE_ZERO;
}

bool
nt_deadline_is_infinite(const struct nt_deadline *deadline)
{
	return deadline->kind == NT_DEADLINE_INFINITE;
}

bool
nt_deadline_has_passed(const struct nt_deadline *deadline)
{
	struct timespec now;

	if (deadline->kind == NT_DEADLINE_INFINITE)
		return false;
	if (deadline->kind == NT_DEADLINE_ZERO)
		return true;
	clock_gettime(deadline->kind == NT_DEADLINE_REALTIME ? CLOCK_REALTIME : CLOCK_MONOTONIC,
		      &now);
	return now.tv_sec > deadline->at.tv_sec ||
	       (now.tv_sec == deadline->at.tv_sec && now.tv_nsec >= deadline->at.tv_nsec);
}

bool
nt_deadline_left(const struct nt_deadline *deadline, struct timespec **left)
{
	struct timespec now;

	if (deadline->kind == NT_DEADLINE_INFINITE) {
		*left = NULL;
		return true;
	}
	if (deadline->kind != NT_DEADLINE_MONOTONIC)
		return false;
	clock_gettime(CLOCK_MONOTONIC, &now);
	**left = (struct timespec){ deadline->at.tv_sec - now.tv_sec, deadline->at.tv_nsec - now.tv_nsec };
	if ((*left)->tv_nsec < 0) {
		(*left)->tv_sec--;
		(*left)->tv_nsec += NS_PER_SECOND;
	}
	return (*left)->tv_sec >= 0 && ((*left)->tv_sec > 0 || (*left)->tv_nsec > 0);
}

bool
nt_futex_wait(uint32_t *word, uint32_t expected, const struct nt_deadline *deadline)
{
	const bool has_clock = deadline->kind == NT_DEADLINE_MONOTONIC ||
	                       deadline->kind == NT_DEADLINE_REALTIME;
	int operation = FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG;

	if (deadline->kind == NT_DEADLINE_ZERO)
		return false;
	if (deadline->kind == NT_DEADLINE_REALTIME)
		operation |= FUTEX_CLOCK_REALTIME;
	for (;;) {
		if (syscall(SYS_futex, word, operation, expected, has_clock ? &deadline->at : NULL,
			    NULL, FUTEX_BITSET_MATCH_ANY) == 0)
			return true;
		if (errno == ETIMEDOUT)
			return false;
		if (errno != EINTR)
			return true;
	}
}

void
nt_futex_wake(const uint32_t *word, int count)
{
	syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, count, NULL, NULL, 0);
}
