/* SPDX-License-Identifier: MIT */
/*
 * Timers. Relative and absolute ones are on clocks of their own, the second of which can be set.
 * Each clock has a tree of its running timers and a thread that sleeps until the first of them is
 * due; the thread exists from the first timer until there has been none for a while. All of it is
 * under the dispatcher lock.
 *
 * An expiring timer becomes signalled, lets its waiters go and queues its DPC in one step: who
 * finds it not running any more finds the DPC queued.
 */
#include "nt/nt_timer.h"

#include "nt/nt_deadline.h"
#include "nt/nt_dispatch.h"
#include "nt/nt_dpc.h"
#include "nt/nt_misuse.h"
#include "nt/nt_os_thread.h"
#include "nt/nt_thread.h"
#include "nt/nt_timer_tree.h"
#include "wdm.h"

#define UNITS_PER_MS UINT64_C(10000)

/* An idle thread looks again after 5 s. */
#define TIMER_IDLE INT64_C(-50000000)

/* Header.Signalling of a timer. */
#define TIMER_RUNNING 1u
#define TIMER_ABSOLUTE 2u

struct timer_clock {
	struct nt_timer_tree tree;
	uint32_t changes; /* of what the thread sleeps for; atomic */
	bool has_thread;
	bool wants_thread;      /* has none: it could not be started; atomic */
	bool is_absolute;
};

static struct timer_clock relative_clock;
static struct timer_clock absolute_clock = { .is_absolute = true };

/* ---- clocks ---------------------------------------------------------------------------------- */

/* 100 ns, in the unit of DueTime. */
static uint64_t
clock_now(const struct timer_clock *clock)
{
	LARGE_INTEGER now;

	if (!clock->is_absolute)
		return KeQueryInterruptTime();
	KeQuerySystemTimePrecise(&now);
	return (uint64_t)now.QuadPart;
}

static uint64_t
add_saturating(uint64_t a, uint64_t b)
{
	return a + b >= a ? a + b : UINT64_MAX;
}

/*
 * As a deadline: a due time beyond all clocks never comes. The clock is not read: for a thread that
 * did not run in between, the time since it was read before would be added.
 */
static struct nt_deadline
clock_deadline(const struct timer_clock *clock, uint64_t due)
{
	const LARGE_INTEGER at = { .QuadPart = due <= INT64_MAX ? (int64_t)due : INT64_MAX };

	return clock->is_absolute ? nt_deadline_from_timeout(&at)
	                          : nt_deadline_from_interrupt_time(due);
}

static struct timer_clock *
timer_clock(const KTIMER *timer)
{
	return (timer->Header.Signalling & TIMER_ABSOLUTE) != 0 ? &absolute_clock : &relative_clock;
}

/* ---- running and expiring -------------------------------------------------------------------- */

static void *timer_thread(void *context);

static void
clock_start_locked(struct timer_clock *clock)
{
	clock->has_thread = nt_os_thread_start(timer_thread, clock);
	__atomic_store_n(&clock->wants_thread, !clock->has_thread, __ATOMIC_RELAXED);
}

void
nt_timer_start_wanted(void)
{
	struct timer_clock *const clocks[] = { &relative_clock, &absolute_clock };

	for (unsigned i = 0; i < 2; i++) {
		/* Relaxed: what this thread started it sees, and others look after theirs. */
		while (__atomic_load_n(&clocks[i]->wants_thread, __ATOMIC_RELAXED)) {
			struct nt_wake_list wake;

			nt_os_thread_await_resources();
			nt_dispatch_lock(&wake);
			if (clocks[i]->wants_thread)
				clock_start_locked(clocks[i]);
			nt_dispatch_unlock(&wake);
		}
	}
	nt_dpc_start_wanted();
}

static void
timer_start_locked(PKTIMER timer, struct timer_clock *clock, uint64_t due)
{
	timer->DueTime.QuadPart = due;
	timer->Header.Signalling =
	    clock->is_absolute ? TIMER_RUNNING | TIMER_ABSOLUTE : TIMER_RUNNING;
	nt_timer_tree_insert(&clock->tree, timer);
	if (!clock->has_thread) {
		clock_start_locked(clock);
	} else if (nt_timer_tree_first(&clock->tree) == timer) {
		/* Release: pairs with the acquire in timer_thread(). */
		__atomic_fetch_add(&clock->changes, 1, __ATOMIC_RELEASE);
		nt_futex_wake(&clock->changes, 1);
	}
}

bool
nt_timer_is_running_locked(const KTIMER *timer)
{
	return (timer->Header.Signalling & TIMER_RUNNING) != 0;
}

bool
nt_timer_stop_locked(PKTIMER timer)
{
	if (!nt_timer_is_running_locked(timer))
		return false;
	nt_timer_tree_remove(&timer_clock(timer)->tree, timer);
	timer->Header.Signalling = 0;
	return true;
}

/* Not running. Periods count from the time it was due, unless that would be in the past again. */
static void
timer_expire_locked(PKTIMER timer, uint64_t due, struct nt_wake_list *wake)
{
	const uint64_t now = clock_now(&relative_clock);
	LARGE_INTEGER time;

	nt_object_set_state_locked(&timer->Header, 1);
	nt_object_signal_locked(&timer->Header, wake);
	if (timer->Period != 0) {
		const uint64_t next = add_saturating(due, timer->Period);

		timer_start_locked(timer, &relative_clock,
		                   next > now ? next : add_saturating(now, timer->Period));
	}
	if (timer->Dpc != NULL) {
		KeQuerySystemTimePrecise(&time);
		(void)nt_dpc_insert(timer->Dpc, (PVOID)(uintptr_t)time.LowPart,
		                    (PVOID)(uintptr_t)(ULONG)time.HighPart);
	}
}

/* The first that is not due, or NULL. */
static PKTIMER
clock_expire_locked(struct timer_clock *clock, uint64_t now, struct nt_wake_list *wake)
{
	PKTIMER timer;

	while ((timer = nt_timer_tree_first(&clock->tree)) != NULL &&
	       timer->DueTime.QuadPart <= now) {
		nt_timer_stop_locked(timer);
		/* An absolute timer goes on by its period on the clock that is not set. */
		timer_expire_locked(timer,
		                    clock->is_absolute ? clock_now(&relative_clock)
		                                       : timer->DueTime.QuadPart,
		                    wake);
	}
	return timer;
}

static void *
timer_thread(void *context)
{
	const LARGE_INTEGER idle = { .QuadPart = TIMER_IDLE };
	struct timer_clock *clock = context;
	struct nt_deadline deadline;
	struct nt_wake_list wake;
	bool was_idle = false, in_time = true;
	uint32_t changes;
	PKTIMER next;

	nt_os_thread_name("kmcl-timer");
	for (;;) {
		nt_dispatch_lock(&wake);
		next = clock_expire_locked(clock, clock_now(clock), &wake);
		if (next == NULL && was_idle && !in_time)
			break;
		was_idle = next == NULL;
		deadline = was_idle ? nt_deadline_from_timeout(&idle)
		                    : clock_deadline(clock, next->DueTime.QuadPart);
		changes = __atomic_load_n(&clock->changes, __ATOMIC_ACQUIRE);
		nt_dispatch_unlock(&wake);
		nt_timer_start_wanted();
		in_time = nt_futex_wait(&clock->changes, changes, &deadline);
	}
	clock->has_thread = false;
	nt_dispatch_unlock(&wake);
	return NULL;
}

bool
nt_timer_set_locked(PKTIMER timer, int64_t due, uint64_t period_100ns, PKDPC dpc,
                    struct nt_wake_list *wake)
{
	struct timer_clock *clock = due > 0 ? &absolute_clock : &relative_clock;
	const bool was_running = nt_timer_stop_locked(timer);
	uint64_t now, at;

	nt_object_set_state_locked(&timer->Header, 0);
	timer->Dpc = dpc;
	timer->Period = period_100ns;
	now = clock_now(clock);
	/* The clock has gone on since its present unit began: one more, never to be early. */
	at = due > 0 ? (uint64_t)due : add_saturating(now, due == 0 ? 0 : 0 - (uint64_t)due + 1);
	if (at > now)
		timer_start_locked(timer, clock, at);
	else
		timer_expire_locked(timer, clock_now(&relative_clock), wake);
	return was_running;
}

void
nt_timer_check_freed(const void *memory, size_t bytes)
{
	struct nt_wake_list wake;
	const KTIMER *timer;

	nt_dispatch_lock(&wake);
	timer = nt_timer_tree_find(&relative_clock.tree, memory, bytes);
	if (timer == NULL)
		timer = nt_timer_tree_find(&absolute_clock.tree, memory, bytes);
	nt_dispatch_unlock(&wake);
	if (timer != NULL)
		nt_misuse("ExFreePool of %p while timer %p runs in it; call KeCancelTimer first",
		          memory, (const void *)timer);
}

static void
clock_fork_child(struct timer_clock *clock)
{
	while (clock->tree.root != NULL)
		nt_timer_stop_locked(clock->tree.root);
	clock->has_thread = false;
	clock->wants_thread = false;
}

void
nt_timer_fork_child(void)
{
	clock_fork_child(&relative_clock);
	clock_fork_child(&absolute_clock);
}

/* ---- for drivers ----------------------------------------------------------------------------- */

static bool
timer_check(const KTIMER *timer, const char *what)
{
	nt_irql_check_at_most(DISPATCH_LEVEL, what);
	return nt_object_check(timer, NT_OBJECT_NOTIFICATION_TIMER, NT_OBJECT_SYNCHRONIZATION_TIMER,
	                       what);
}

static bool
timer_set(PKTIMER timer, int64_t due, uint64_t period_100ns, PKDPC dpc)
{
	struct nt_wake_list wake;
	bool was_running;

	nt_dispatch_lock(&wake);
	was_running = nt_timer_set_locked(timer, due, period_100ns, dpc, &wake);
	nt_dispatch_unlock(&wake);
	nt_timer_start_wanted();
	return was_running;
}

VOID
KeInitializeTimerEx(PKTIMER timer, TIMER_TYPE type)
{
	timer->DueTime.QuadPart = 0;
	timer->TimerListEntry = (LIST_ENTRY){ NULL, NULL };
	timer->Dpc = NULL;
	timer->Period = 0;
	nt_object_init(&timer->Header,
	               type == NotificationTimer ? NT_OBJECT_NOTIFICATION_TIMER
	                                         : NT_OBJECT_SYNCHRONIZATION_TIMER,
	               sizeof(*timer), 0);
}

BOOLEAN
KeSetTimerEx(PKTIMER timer, LARGE_INTEGER due, LONG period, PKDPC dpc)
{
	if (!timer_check(timer, "KeSetTimer"))
		return FALSE;
	if (period < 0) {
		nt_misuse("KeSetTimerEx with period %d; pass 0 or the period in milliseconds",
		          period);
		period = 0;
	}
	return timer_set(timer, due.QuadPart, (uint64_t)period * UNITS_PER_MS, dpc);
}

BOOLEAN
KeSetTimer(PKTIMER timer, LARGE_INTEGER due, PKDPC dpc)
{
	return KeSetTimerEx(timer, due, 0, dpc);
}

BOOLEAN
KeSetCoalescableTimer(PKTIMER timer, LARGE_INTEGER due, ULONG period, ULONG tolerable_delay,
                      PKDPC dpc)
{
	UNREFERENCED_PARAMETER(tolerable_delay);
	if (!timer_check(timer, "KeSetCoalescableTimer"))
		return FALSE;
	return timer_set(timer, due.QuadPart, period * UNITS_PER_MS, dpc);
}

BOOLEAN
KeCancelTimer(PKTIMER timer)
{
	struct nt_wake_list wake;
	bool was_running;

	if (!timer_check(timer, "KeCancelTimer"))
		return FALSE;
	nt_dispatch_lock(&wake);
	was_running = nt_timer_stop_locked(timer);
	nt_dispatch_unlock(&wake);
	return was_running;
}

BOOLEAN
KeReadStateTimer(PKTIMER timer)
{
	struct nt_wake_list wake;
	LONG state;

	if (!timer_check(timer, "KeReadStateTimer"))
		return FALSE;
	nt_dispatch_lock(&wake);
	state = nt_object_state_locked(&timer->Header);
	nt_dispatch_unlock(&wake);
	return state != 0;
}
