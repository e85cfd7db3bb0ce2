/* SPDX-License-Identifier: MIT */
/*
 * Clocks, and sleeping. System time is the wall clock; interrupt time and the performance counter
 * are monotonic.
 */
#include <sched.h>
#include <stdint.h>
#include <time.h>

#include "nt/nt_deadline.h"
#include "nt/nt_misuse.h"
#include "nt/nt_thread.h"
#include "wdm.h"

#define UNITS_PER_SECOND 10000000
#define NS_PER_UNIT 100

/* The counter's unit is that of interrupt time, as on most Windows machines. */
#define TIME_INCREMENT_100NS 156250u

static int64_t
clock_units(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (int64_t)now.tv_sec * UNITS_PER_SECOND + now.tv_nsec / NS_PER_UNIT;
}

VOID
KeQuerySystemTimePrecise(PLARGE_INTEGER time)
{
	time->QuadPart = clock_units(CLOCK_REALTIME) + NT_UNIX_EPOCH_100NS;
}

ULONGLONG
KeQueryInterruptTime(VOID)
{
	return (ULONGLONG)clock_units(CLOCK_MONOTONIC);
}

ULONGLONG
KeQueryInterruptTimePrecise(PULONG64 counter)
{
	const ULONGLONG now = KeQueryInterruptTime();

	*counter = now;
	return now;
}

ULONG
KeQueryTimeIncrement(VOID)
{
	return TIME_INCREMENT_100NS;
}

LARGE_INTEGER
KeQueryPerformanceCounter(PLARGE_INTEGER frequency)
{
	LARGE_INTEGER now;

	if (frequency != NULL)
		frequency->QuadPart = UNITS_PER_SECOND;
	now.QuadPart = clock_units(CLOCK_MONOTONIC);
	return now;
}

VOID
KeStallExecutionProcessor(ULONG microseconds)
{
	struct timespec start, now;
	int64_t passed_ns;

	clock_gettime(CLOCK_MONOTONIC, &start);
	do {
		YieldProcessor();
		clock_gettime(CLOCK_MONOTONIC, &now);
		passed_ns =
		    (int64_t)(now.tv_sec - start.tv_sec) * 1000000000 + now.tv_nsec - start.tv_nsec;
	} while (passed_ns < (int64_t)microseconds * 1000);
}

NTSTATUS
KeDelayExecutionThread(KPROCESSOR_MODE mode, BOOLEAN alertable, PLARGE_INTEGER interval)
{
	struct nt_deadline deadline;
	uint32_t nobody_wakes_this = 0;

	UNREFERENCED_PARAMETER(mode);
	UNREFERENCED_PARAMETER(alertable);
	nt_irql_check_at_most(APC_LEVEL, "KeDelayExecutionThread");
	if (interval == NULL) {
		nt_misuse("KeDelayExecutionThread without an interval; point to a negative number "
			  "of 100 ns");
		return STATUS_INVALID_PARAMETER;
	}
	deadline = nt_deadline_from_timeout(interval);
	if (nt_deadline_is_zero(&deadline))
		sched_yield();
	while (nt_futex_wait(&nobody_wakes_this, 0, &deadline))
		continue;
	return STATUS_SUCCESS;
}
