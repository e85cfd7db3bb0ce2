/* SPDX-License-Identifier: MIT */
/*
 * Events and waiting for them. An event is one 32-bit word, so that setting it is one step after
 * which the setter never touches the memory again: drivers keep events on the stack of the thread
 * that waits.
 *
 * On Windows a set event lets go exactly those who wait at that moment, whatever happens to the
 * event afterwards. So the word holds more than "signalled":
 *
 *   notification      bit 0 signalled, bit 1 somebody sleeps, bits 2-31 number of times it was set
 *   synchronization   bit 0 signalled, bits 1-15 waiters, bits 16-30 waiters let go, not gone yet
 *
 * A notification waiter leaves when the number differs from the one it came with, even if the
 * event was reset before it woke. A synchronization event that is set while somebody waits does
 * not become signalled: one waiter more may leave, and a newcomer cannot take its place.
 */
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "nt/nt_deadline.h"
#include "nt/nt_misuse.h"
#include "nt/nt_thread.h"
#include "wdm.h"

#define EVENT_SIGNALLED UINT32_C(1)

#define NOTIFY_SLEEPERS UINT32_C(2)
#define NOTIFY_SET UINT32_C(4)

#define SYNC_WAITER UINT32_C(2)
#define SYNC_WAITERS_SHIFT 1
#define SYNC_LEAVE (UINT32_C(1) << 16)
#define SYNC_LEAVE_SHIFT 16
#define SYNC_COUNT_MAX UINT32_C(0x7FFF)

/* As Windows fills it: the structure's length in 32-bit words. */
#define EVENT_SIZE_WORDS (sizeof(KEVENT) / sizeof(LONG))

static uint32_t *
event_word(PRKEVENT event)
{
	return (uint32_t *)&event->Header.SignalState;
}

static bool
event_is_valid(const KEVENT *event, const char *what)
{
	if (event != NULL && event->Header.Type <= SynchronizationEvent &&
	    event->Header.Size == EVENT_SIZE_WORDS)
		return true;
	nt_misuse("%s: %p is not an initialised event", what, (const void *)event);
	return false;
}

/* Release: what the setter did before is visible to who leaves. Acquire: the reverse. */
static bool
word_swap(uint32_t *word, uint32_t *old, uint32_t new)
{
	return __atomic_compare_exchange_n(word, old, new, true, __ATOMIC_ACQ_REL,
					   __ATOMIC_ACQUIRE);
}

VOID
KeInitializeEvent(PRKEVENT event, EVENT_TYPE type, BOOLEAN state)
{
	event->Header.Type = (UCHAR)type;
	event->Header.Signalling = FALSE;
	event->Header.Size = (UCHAR)EVENT_SIZE_WORDS;
	event->Header.Reserved = 0;
	InitializeListHead(&event->Header.WaitListHead);
	__atomic_store_n(event_word(event), state ? EVENT_SIGNALLED : 0, __ATOMIC_RELEASE);
}

/* ---- setting --------------------------------------------------------------------------------- */

static LONG
notification_set(uint32_t *word)
{
	uint32_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
	uint32_t new;

	do {
		if ((old & EVENT_SIGNALLED) != 0) {
			/* Written again all the same, for the ordering of what this setter did. */
			new = old;
		} else {
			new = (old & ~NOTIFY_SLEEPERS) + NOTIFY_SET;
			new |= EVENT_SIGNALLED;
		}
	} while (!word_swap(word, &old, new));
	if ((old & EVENT_SIGNALLED) != 0)
		return 1;
	if ((old & NOTIFY_SLEEPERS) != 0)
		nt_futex_wake(word, INT_MAX);
	return 0;
}

static LONG
synchronization_set(uint32_t *word)
{
	uint32_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
	uint32_t new;
	bool lets_go;

	do {
		lets_go = (old >> SYNC_WAITERS_SHIFT & SYNC_COUNT_MAX) > old >> SYNC_LEAVE_SHIFT;
		new = lets_go ? old + SYNC_LEAVE : old | EVENT_SIGNALLED;
	} while (!word_swap(word, &old, new));
	if (lets_go)
		nt_futex_wake(word, 1);
	return (LONG)(old & EVENT_SIGNALLED);
}

LONG
KeSetEvent(PRKEVENT event, KPRIORITY increment, BOOLEAN wait)
{
	UNREFERENCED_PARAMETER(increment);
	nt_irql_check_at_most(DISPATCH_LEVEL, "KeSetEvent");
	if (wait)
		nt_misuse("KeSetEvent with Wait set is not supported");
	if (!event_is_valid(event, "KeSetEvent"))
		return 0;
	if (event->Header.Type == NotificationEvent)
		return notification_set(event_word(event));
	return synchronization_set(event_word(event));
}

LONG
KeResetEvent(PRKEVENT event)
{
	nt_irql_check_at_most(DISPATCH_LEVEL, "KeResetEvent");
	if (!event_is_valid(event, "KeResetEvent"))
		return 0;
	return (LONG)(__atomic_fetch_and(event_word(event), ~EVENT_SIGNALLED, __ATOMIC_ACQ_REL) &
	              EVENT_SIGNALLED);
}

VOID
KeClearEvent(PRKEVENT event)
{
	(void)KeResetEvent(event);
}

LONG
KeReadStateEvent(PRKEVENT event)
{
	if (!event_is_valid(event, "KeReadStateEvent"))
		return 0;
	return (LONG)(__atomic_load_n(event_word(event), __ATOMIC_ACQUIRE) & EVENT_SIGNALLED);
}

/* ---- waiting --------------------------------------------------------------------------------- */

static NTSTATUS
notification_wait(uint32_t *word, const struct nt_deadline *deadline)
{
	uint32_t now = __atomic_load_n(word, __ATOMIC_ACQUIRE);
	uint32_t came;
	bool in_time = true;

	do {
		if ((now & EVENT_SIGNALLED) != 0)
			return STATUS_SUCCESS;
		if (nt_deadline_is_zero(deadline))
			return STATUS_TIMEOUT;
	} while ((now & NOTIFY_SLEEPERS) == 0 && !word_swap(word, &now, now | NOTIFY_SLEEPERS));

	now |= NOTIFY_SLEEPERS;
	came = now / NOTIFY_SET;
	for (;;) {
		if ((now & EVENT_SIGNALLED) != 0 || now / NOTIFY_SET != came)
			return STATUS_SUCCESS;
		if (!in_time)
			return STATUS_TIMEOUT;
		in_time = nt_futex_wait(word, now, deadline);
		now = __atomic_load_n(word, __ATOMIC_ACQUIRE);
	}
}

/* STATUS_PENDING: entered as a waiter, who has to be let go or to sign off. */
static NTSTATUS
synchronization_enter(uint32_t *word, const struct nt_deadline *deadline)
{
	uint32_t now = __atomic_load_n(word, __ATOMIC_ACQUIRE);

	for (;;) {
		if ((now & EVENT_SIGNALLED) != 0) {
			if (word_swap(word, &now, now & ~EVENT_SIGNALLED))
				return STATUS_SUCCESS;
		} else if (nt_deadline_is_zero(deadline)) {
			return STATUS_TIMEOUT;
		} else if ((now >> SYNC_WAITERS_SHIFT & SYNC_COUNT_MAX) != SYNC_COUNT_MAX) {
			if (word_swap(word, &now, now + SYNC_WAITER))
				return STATUS_PENDING;
		} else {
			if (nt_deadline_has_passed(deadline))
				return STATUS_TIMEOUT;
			sched_yield();
			now = __atomic_load_n(word, __ATOMIC_ACQUIRE);
		}
	}
}

static NTSTATUS
synchronization_wait(uint32_t *word, const struct nt_deadline *deadline)
{
	NTSTATUS status = synchronization_enter(word, deadline);
	bool in_time = true;
	uint32_t now;

	if (status != STATUS_PENDING)
		return status;
	now = __atomic_load_n(word, __ATOMIC_ACQUIRE);
	for (;;) {
		if (now >> SYNC_LEAVE_SHIFT != 0) {
			if (word_swap(word, &now, now - SYNC_LEAVE - SYNC_WAITER))
				return STATUS_SUCCESS;
		} else if (!in_time) {
			if (word_swap(word, &now, now - SYNC_WAITER))
				return STATUS_TIMEOUT;
		} else {
			in_time = nt_futex_wait(word, now, deadline);
			now = __atomic_load_n(word, __ATOMIC_ACQUIRE);
		}
	}
}

NTSTATUS
KeWaitForSingleObject(PVOID object, KWAIT_REASON reason, KPROCESSOR_MODE mode, BOOLEAN alertable,
                      PLARGE_INTEGER timeout)
{
	const struct nt_deadline deadline = nt_deadline_from_timeout(timeout);
	PRKEVENT event = object;

	UNREFERENCED_PARAMETER(reason);
	UNREFERENCED_PARAMETER(mode);
	UNREFERENCED_PARAMETER(alertable);
	nt_irql_check_at_most(nt_deadline_is_zero(&deadline) ? DISPATCH_LEVEL : APC_LEVEL,
	                      "KeWaitForSingleObject");
	if (!event_is_valid(event, "KeWaitForSingleObject"))
		return STATUS_INVALID_PARAMETER;
	if (event->Header.Type == NotificationEvent)
		return notification_wait(event_word(event), &deadline);
	return synchronization_wait(event_word(event), &deadline);
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
		nt_misuse("KeDelayExecutionThread without an interval");
		return STATUS_INVALID_PARAMETER;
	}
	deadline = nt_deadline_from_timeout(interval);
	if (nt_deadline_is_zero(&deadline))
		sched_yield();
	while (nt_futex_wait(&nobody_wakes_this, 0, &deadline))
		continue;
	return STATUS_SUCCESS;
}
