/* SPDX-License-Identifier: MIT */
/*
 * Timers that the system allocates: a timer, its DPC and a callback in one block.
 *
 * All DPCs of such a timer are on one processor. So a DPC that is queued there once the timer runs
 * no more is reached when no callback is left, and may free the block; it is a second object in the
 * block. ExDeleteTimer disables the timer, so that nobody sets it again meanwhile.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "nt/nt_dispatch.h"
#include "nt/nt_misuse.h"
#include "nt/nt_thread.h"
#include "nt/nt_timer.h"
#include "wdm.h"

#define EX_TIMER_ATTRIBUTES (EX_TIMER_HIGH_RESOLUTION | EX_TIMER_NO_WAKE | EX_TIMER_NOTIFICATION)
#define EX_TIMER_PROCESSOR 0

struct _EX_TIMER {
	KTIMER timer; /* first: the address is waited for */
	KDPC expired;
	KDPC deletion;
	PEXT_CALLBACK callback;
	PVOID context;
	PEXT_DELETE_CALLBACK deleted;
	PVOID deleted_context;
	PKEVENT gone; /* of who waits for the deletion */
	/* The dispatcher lock: */
	bool disabled; /* ExDeleteTimer was called */
	bool doomed;   /* goes away after it has expired */
};

static VOID
ex_timer_expired(PRKDPC dpc, PVOID context, PVOID time_low, PVOID time_high)
{
	PEX_TIMER timer = context;
	struct nt_wake_list wake;
	bool is_last;

	UNREFERENCED_PARAMETER(dpc);
	UNREFERENCED_PARAMETER(time_low);
	UNREFERENCED_PARAMETER(time_high);
	if (timer->callback != NULL)
		timer->callback(timer, timer->context);
	/* If the callback deleted the timer, that is behind us in the queue. */
	nt_dispatch_lock(&wake);
	is_last = timer->doomed && !nt_timer_is_running_locked(&timer->timer);
	nt_dispatch_unlock(&wake);
	if (is_last)
		KeInsertQueueDpc(&timer->deletion, NULL, NULL);
}

static VOID
ex_timer_deletion(PRKDPC dpc, PVOID context, PVOID unused1, PVOID unused2)
{
	PEX_TIMER timer = context;
	const PEXT_DELETE_CALLBACK deleted = timer->deleted;
	const PVOID deleted_context = timer->deleted_context;
	const PKEVENT gone = timer->gone;

	UNREFERENCED_PARAMETER(dpc);
	UNREFERENCED_PARAMETER(unused1);
	UNREFERENCED_PARAMETER(unused2);
	free(timer);
	if (deleted != NULL)
		deleted(deleted_context);
	if (gone != NULL)
		KeSetEvent(gone, IO_NO_INCREMENT, FALSE);
}

PEX_TIMER
ExAllocateTimer(PEXT_CALLBACK callback, PVOID context, ULONG attributes)
{
	PEX_TIMER timer;

	nt_irql_check_at_most(DISPATCH_LEVEL, "ExAllocateTimer");
	if ((attributes & ~EX_TIMER_ATTRIBUTES) != 0) {
		nt_misuse("ExAllocateTimer with attributes %#x; pass EX_TIMER_ values only",
		          attributes);
		return NULL;
	}
	timer = calloc(1, sizeof(*timer));
	if (timer == NULL)
		return NULL;
	KeInitializeTimerEx(&timer->timer, (attributes & EX_TIMER_NOTIFICATION) != 0
	                                       ? NotificationTimer
	                                       : SynchronizationTimer);
	KeInitializeDpc(&timer->expired, ex_timer_expired, timer);
	KeInitializeDpc(&timer->deletion, ex_timer_deletion, timer);
	KeSetTargetProcessorDpc(&timer->expired, EX_TIMER_PROCESSOR);
	KeSetTargetProcessorDpc(&timer->deletion, EX_TIMER_PROCESSOR);
	timer->callback = callback;
	timer->context = context;
	return timer;
}

BOOLEAN
ExSetTimer(PEX_TIMER timer, LONGLONG due, LONGLONG period, PEXT_SET_PARAMETERS parameters)
{
	struct nt_wake_list wake;
	bool was_running;

	UNREFERENCED_PARAMETER(parameters);
	nt_irql_check_at_most(DISPATCH_LEVEL, "ExSetTimer");
	if (period < 0) {
		nt_misuse("ExSetTimer with period %lld; pass 0 or the period in 100 ns", period);
		period = 0;
	}
	nt_dispatch_lock(&wake);
	was_running = !timer->disabled && nt_timer_set_locked(&timer->timer, due, (uint64_t)period,
	                                                      &timer->expired, &wake);
	nt_dispatch_unlock(&wake);
	nt_timer_start_wanted();
	return was_running;
}

BOOLEAN
ExCancelTimer(PEX_TIMER timer, PEXT_CANCEL_PARAMETERS parameters)
{
	struct nt_wake_list wake;
	bool was_running;

	UNREFERENCED_PARAMETER(parameters);
	nt_irql_check_at_most(DISPATCH_LEVEL, "ExCancelTimer");
	nt_dispatch_lock(&wake);
	/* One that is disabled and runs has to expire, or nobody would free it. */
	was_running = !timer->disabled && nt_timer_stop_locked(&timer->timer);
	nt_dispatch_unlock(&wake);
	return was_running;
}

BOOLEAN
ExDeleteTimer(PEX_TIMER timer, BOOLEAN cancel, BOOLEAN wait, PEXT_DELETE_PARAMETERS parameters)
{
	struct nt_wake_list wake;
	bool stopped, runs;
	KEVENT gone;

	if (!nt_irql_check_at_most(wait ? APC_LEVEL : DISPATCH_LEVEL, "ExDeleteTimer"))
		wait = FALSE;
	if (wait && !cancel) {
		nt_misuse(
		    "ExDeleteTimer with Wait and without Cancel; the timer is cancelled, pass "
		    "both");
		cancel = TRUE;
	}
	if (wait) {
		KeInitializeEvent(&gone, NotificationEvent, FALSE);
		timer->gone = &gone;
	} else if (parameters != NULL) {
		timer->deleted = parameters->DeleteCallback;
		timer->deleted_context = parameters->DeleteContext;
	}
	nt_dispatch_lock(&wake);
	timer->disabled = true;
	stopped = cancel && nt_timer_stop_locked(&timer->timer);
	/* One that still runs expires once more and belongs to its last callback from here on. */
	timer->timer.Period = 0;
	runs = nt_timer_is_running_locked(&timer->timer);
	timer->doomed = runs;
	nt_dispatch_unlock(&wake);
	if (!runs)
		KeInsertQueueDpc(&timer->deletion, NULL, NULL);
	if (wait)
		KeWaitForSingleObject(&gone, Executive, KernelMode, FALSE, NULL);
	return stopped;
}
