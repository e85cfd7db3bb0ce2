/* SPDX-License-Identifier: MIT */
/*
 * Events and waiting for them. An event is one 32-bit word, so that setting it is one step after
 * which the setter never touches the memory again: drivers keep events on the stack of the thread
 * that waits.
 *
 * On Windows a set event lets go exactly those who wait at that moment, whatever happens to the
 * event afterwards. So the word holds more than "signalled":
 *
 *   notification      bit 0 signalled, bit 1 somebody sleeps, bits 2-30 number of times it was set
 *   synchronization   bit 0 signalled, bits 1-15 waiters, bits 16-30 waiters let go, not gone yet
 *
 * A notification waiter leaves when the number differs from the one it came with, even if the
 * event was reset before it woke. A synchronization event that is set while somebody waits does
 * not become signalled: one waiter more may leave, and a newcomer cannot take its place.
 *
 * Bit 31 of either: listed. Some thread waits for the event together with other objects, and is in
 * the list of the header (nt_dispatch.c). Set and reset then take the dispatcher lock, and so do
 * newcomers to a synchronization event, who queue up in the list behind those that came before. A
 * listed event stays where it is: a thread that waits for it cannot have freed it.
 */
#include <limits.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>

#include "nt/nt_deadline.h"
#include "nt/nt_dispatch.h"
#include "nt/nt_event.h"
#include "nt/nt_misuse.h"
#include "nt/nt_thread.h"
#include "wdm.h"

#define EVENT_SIGNALLED UINT32_C(1)
#define EVENT_LISTED UINT32_C(0x80000000)

#define NOTIFY_SLEEPERS UINT32_C(2)
#define NOTIFY_SET UINT32_C(4)

#define SYNC_WAITER UINT32_C(2)
#define SYNC_WAITERS_SHIFT 1
#define SYNC_LEAVE (UINT32_C(1) << 16)
#define SYNC_LEAVE_SHIFT 16
#define SYNC_COUNT_MAX UINT32_C(0x7FFF)

static uint32_t *
event_word(PRKEVENT event)
{
	return (uint32_t *)&event->Header.SignalState;
}

static bool
event_is_valid(const KEVENT *event, const char *what)
{
	return nt_object_is_event(event) || nt_object_check(event, NT_OBJECT_NOTIFICATION_EVENT,
	                                                    NT_OBJECT_SYNCHRONIZATION_EVENT, what);
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
	nt_object_init(&event->Header,
	               type == NotificationEvent ? NT_OBJECT_NOTIFICATION_EVENT
	                                         : NT_OBJECT_SYNCHRONIZATION_EVENT,
	               sizeof(*event), state ? (LONG)EVENT_SIGNALLED : 0);
}

/* ---- setting --------------------------------------------------------------------------------- */

/* What a set or a reset found. With EVENT_LISTED it did nothing, for want of the lock. */
static uint32_t
notification_set(uint32_t *word, bool locked)
{
	uint32_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
	uint32_t new;

	do {
		if ((old & EVENT_LISTED) != 0 && !locked)
			return old;
		if ((old & EVENT_SIGNALLED) != 0) {
			/* Written again all the same, for the ordering of what this setter did. */
			new = old;
		} else {
			new = ((old & ~NOTIFY_SLEEPERS) + NOTIFY_SET) & ~EVENT_LISTED;
			new |= EVENT_SIGNALLED | (old & EVENT_LISTED);
		}
	} while (!word_swap(word, &old, new));
	if ((old & (EVENT_SIGNALLED | NOTIFY_SLEEPERS)) == NOTIFY_SLEEPERS)
		nt_futex_wake(word, INT_MAX);
	return old & ~EVENT_LISTED;
}

static uint32_t
synchronization_set(uint32_t *word, bool locked)
{
	uint32_t old = __atomic_load_n(word, __ATOMIC_RELAXED);
	uint32_t new;
	bool lets_go;

	do {
		if ((old & EVENT_LISTED) != 0 && !locked)
			return old;
		lets_go = (old >> SYNC_WAITERS_SHIFT & SYNC_COUNT_MAX) >
		          (old >> SYNC_LEAVE_SHIFT & SYNC_COUNT_MAX);
		new = lets_go ? old + SYNC_LEAVE : old | EVENT_SIGNALLED;
	} while (!word_swap(word, &old, new));
	if (lets_go)
		nt_futex_wake(word, 1);
	return old & ~EVENT_LISTED;
}

static uint32_t
event_set(PRKEVENT event, bool locked)
{
	if (event->Header.Type == NotificationEvent)
		return notification_set(event_word(event), locked);
	return synchronization_set(event_word(event), locked);
}

static uint32_t
event_set_listed(PRKEVENT event)
{
	struct nt_wake_list wake;
	uint32_t old;
	bool has_waiters;

	nt_dispatch_lock(&wake);
	/* Asked before: with an empty list the event may be gone once it is set. */
	has_waiters = !IsListEmpty(&event->Header.WaitListHead);
	old = event_set(event, true);
	if (has_waiters)
		nt_object_signal_locked(&event->Header, &wake);
	nt_dispatch_unlock(&wake);
	return old;
}

LONG
KeSetEvent(PRKEVENT event, KPRIORITY increment, BOOLEAN wait)
{
	uint32_t old;

	UNREFERENCED_PARAMETER(increment);
	nt_irql_check_at_most(DISPATCH_LEVEL, "KeSetEvent");
	if (wait)
		nt_misuse("KeSetEvent with Wait TRUE is not supported; pass FALSE and wait in a "
		          "call of its own");
	if (!event_is_valid(event, "KeSetEvent"))
		return 0;
	old = event_set(event, false);
	if ((old & EVENT_LISTED) != 0)
		old = event_set_listed(event);
	return (LONG)(old & EVENT_SIGNALLED);
}

static uint32_t
event_reset(uint32_t *word, bool locked)
{
	uint32_t old = __atomic_load_n(word, __ATOMIC_RELAXED);

	do {
		if ((old & EVENT_LISTED) != 0 && !locked)
			return old;
	} while (!word_swap(word, &old, old & ~EVENT_SIGNALLED));
	return old & ~EVENT_LISTED;
}

LONG
KeResetEvent(PRKEVENT event)
{
	struct nt_wake_list wake;
	uint32_t old;

	nt_irql_check_at_most(DISPATCH_LEVEL, "KeResetEvent");
	if (!event_is_valid(event, "KeResetEvent"))
		return 0;
	old = event_reset(event_word(event), false);
	if ((old & EVENT_LISTED) != 0) {
		nt_dispatch_lock(&wake);
		old = event_reset(event_word(event), true);
		nt_dispatch_unlock(&wake);
	}
	return (LONG)(old & EVENT_SIGNALLED);
}

VOID
KeClearEvent(PRKEVENT event)
{
	(void)KeResetEvent(event);
}

LONG
KeReadStateEvent(PRKEVENT event)
{
	struct nt_wake_list wake;
	uint32_t now;

	if (!event_is_valid(event, "KeReadStateEvent"))
		return 0;
	now = __atomic_load_n(event_word(event), __ATOMIC_ACQUIRE);
	if ((now & EVENT_LISTED) != 0) {
		/* A signal that is being handed to a waiter is not to be seen. */
		nt_dispatch_lock(&wake);
		now = __atomic_load_n(event_word(event), __ATOMIC_ACQUIRE);
		nt_dispatch_unlock(&wake);
	}
	return (LONG)(now & EVENT_SIGNALLED);
}

/* ---- for the dispatcher core ----------------------------------------------------------------- */

void
nt_event_enlist_locked(PRKEVENT event)
{
	__atomic_fetch_or(event_word(event), EVENT_LISTED, __ATOMIC_ACQ_REL);
}

void
nt_event_unlist_locked(PRKEVENT event)
{
	__atomic_fetch_and(event_word(event), ~EVENT_LISTED, __ATOMIC_ACQ_REL);
}

bool
nt_event_is_signalled_locked(const KEVENT *event)
{
	return (__atomic_load_n(&event->Header.SignalState, __ATOMIC_ACQUIRE) &
	        (LONG)EVENT_SIGNALLED) != 0;
}

void
nt_event_consume_locked(PRKEVENT event)
{
	__atomic_fetch_and(event_word(event), ~EVENT_SIGNALLED, __ATOMIC_ACQ_REL);
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
	came = (now & ~EVENT_LISTED) / NOTIFY_SET;
	for (;;) {
		if ((now & EVENT_SIGNALLED) != 0 || (now & ~EVENT_LISTED) / NOTIFY_SET != came)
			return STATUS_SUCCESS;
		if (!in_time)
			return STATUS_TIMEOUT;
		in_time = nt_futex_wait(word, now, deadline);
		now = __atomic_load_n(word, __ATOMIC_ACQUIRE);
	}
}

enum entered {
	ENTERED_AND_LEFT, /* with the signal */
	ENTERED_TOO_LATE,
	ENTERED_AS_WAITER, /* who has to be let go or to sign off */
	NOT_ENTERED,       /* the event is listed */
};

static enum entered
synchronization_enter(uint32_t *word, const struct nt_deadline *deadline)
{
	uint32_t now = __atomic_load_n(word, __ATOMIC_ACQUIRE);

	for (;;) {
		if ((now & EVENT_LISTED) != 0)
			return NOT_ENTERED;
		if ((now & EVENT_SIGNALLED) != 0) {
			if (word_swap(word, &now, now & ~EVENT_SIGNALLED))
				return ENTERED_AND_LEFT;
		} else if (nt_deadline_is_zero(deadline)) {
			return ENTERED_TOO_LATE;
		} else if ((now >> SYNC_WAITERS_SHIFT & SYNC_COUNT_MAX) != SYNC_COUNT_MAX) {
			if (word_swap(word, &now, now + SYNC_WAITER))
				return ENTERED_AS_WAITER;
		} else {
			if (nt_deadline_has_passed(deadline))
				return ENTERED_TOO_LATE;
			sched_yield();
			now = __atomic_load_n(word, __ATOMIC_ACQUIRE);
		}
	}
}

static NTSTATUS
synchronization_wait(uint32_t *word, const struct nt_deadline *deadline)
{
	bool in_time = true;
	uint32_t now;

	switch (synchronization_enter(word, deadline)) {
	case ENTERED_AND_LEFT:
		return STATUS_SUCCESS;
	case ENTERED_TOO_LATE:
		return STATUS_TIMEOUT;
	case NOT_ENTERED:
		return STATUS_PENDING;
	case ENTERED_AS_WAITER:
		break;
	}
	now = __atomic_load_n(word, __ATOMIC_ACQUIRE);
	for (;;) {
		if ((now >> SYNC_LEAVE_SHIFT & SYNC_COUNT_MAX) != 0) {
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
nt_event_wait(PRKEVENT event, const struct nt_deadline *deadline)
{
	if (event->Header.Type == NotificationEvent)
		return notification_wait(event_word(event), deadline);
	return synchronization_wait(event_word(event), deadline);
}
