/* SPDX-License-Identifier: MIT */
/*
 * Timers (KE-2, KE-10), on clocks that the tests put forward.
 */
#include "t_wait.h"

#include "nt/nt_timer.h"
#include "nt/nt_timer_tree.h"
#include "ssr_clock.h"

#define T_SECOND INT64_C(10000000)
#define T_NS 100

/* The helper of the conformance tests asks for real time; nothing here depends on it. */
uint64_t
conf_now(void)
{
	struct timespec now;

	timespec_get(&now, TIME_UTC);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static LARGE_INTEGER
t_due(int64_t value)
{
	return (LARGE_INTEGER){ .QuadPart = value };
}

static int64_t
t_system_time(void)
{
	LARGE_INTEGER now;

	KeQuerySystemTimePrecise(&now);
	return now.QuadPart;
}

/* Until no timer thread has anything left to do. */
static void
t_jump(clockid_t clock, int64_t units)
{
	clock_jump(clock, units * T_NS);
}

struct t_ticks {
	KTIMER timer;
	KDPC dpc;
	KSEMAPHORE count;
	int64_t time; /* passed to the last one */
};

static VOID
t_tick(PKDPC dpc, PVOID context, PVOID low, PVOID high)
{
	struct t_ticks *ticks = context;
	ULARGE_INTEGER time;

	(void)dpc;
	time.LowPart = (ULONG)(uintptr_t)low;
	time.HighPart = (ULONG)(uintptr_t)high;
	assert_int_equal(KeGetCurrentIrql(), DISPATCH_LEVEL);
	ticks->time = (int64_t)time.QuadPart;
	KeReleaseSemaphore(&ticks->count, 0, 1, FALSE);
}

static void
t_ticks_init(struct t_ticks *ticks, TIMER_TYPE type)
{
	KeInitializeTimerEx(&ticks->timer, type);
	KeInitializeDpc(&ticks->dpc, t_tick, ticks);
	/* On one processor: two ticks do not write at the same time. */
	KeSetTargetProcessorDpc(&ticks->dpc, 0);
	KeInitializeSemaphore(&ticks->count, 0, MAXLONG);
	ticks->time = 0;
}

/* ---- kernel timers --------------------------------------------------------------------------- */

static void
ke_10_timer_is_signalled_when_due_and_not_before(void **state)
{
	static const bool absolute[] = { false, true };

	CONF_COVERS("KE-2, KE-10");
	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(absolute); i++) {
		const clockid_t clock = absolute[i] ? CLOCK_REALTIME : CLOCK_MONOTONIC;
		const clockid_t other = absolute[i] ? CLOCK_MONOTONIC : CLOCK_REALTIME;
		struct t_ticks ticks;

		t_ticks_init(&ticks, NotificationTimer);
		assert_false(KeSetTimer(
		    &ticks.timer,
		    t_due(absolute[i] ? t_system_time() + 1000 * T_SECOND : -1000 * T_SECOND),
		    &ticks.dpc));
		assert_false(KeReadStateTimer(&ticks.timer));
		t_jump(clock, 900 * T_SECOND);
		t_jump(other, 2000 * T_SECOND);
		assert_false(KeReadStateTimer(&ticks.timer));
		assert_int_equal(t_wait_for(&ticks.timer, 0), STATUS_TIMEOUT);
		t_jump(clock, 100 * T_SECOND);
		assert_int_equal(t_wait_forever_for(&ticks.timer), STATUS_SUCCESS);
		assert_int_equal(t_wait_forever_for(&ticks.count), STATUS_SUCCESS);
		assert_true(KeReadStateTimer(&ticks.timer));
		assert_true(ticks.time <= t_system_time());
		assert_true(ticks.time > t_system_time() - 600 * T_SECOND);
		/* A notification timer stays signalled, and does not run any more. */
		assert_int_equal(t_wait_for(&ticks.timer, 0), STATUS_SUCCESS);
		assert_false(KeCancelTimer(&ticks.timer));
		KeFlushQueuedDpcs();
	}
}

/* Whatever the clock has done since the timer was looked at. */
static void
ke_10_timer_thread_sleeps_until_the_very_due_time(void **state)
{
	struct clock_wait waits[64];
	int64_t due, until = 0;
	KTIMER timer;

	CONF_COVERS("KE-10");
	(void)state;
	KeInitializeTimer(&timer);
	clock_reset();
	KeSetTimer(&timer, t_due(-1000 * T_SECOND), NULL);
	due = (int64_t)timer.DueTime.QuadPart * T_NS;
	while (until < due) {
		const uint32_t count = min(clock_waits(waits, ARRAYSIZE(waits)), ARRAYSIZE(waits));

		for (uint32_t i = 0; i < count; i++)
			until = waits[i].realtime ? until : max(until, waits[i].deadline);
		sched_yield();
	}
	assert_true(KeCancelTimer(&timer));
	assert_int_equal(until, due);
}

static void
ke_10_synchronization_timer_lets_one_waiter_go(void **state)
{
	struct t_sleeper sleepers[2];
	KTIMER timer;
	PVOID objects[] = { &timer };

	CONF_COVERS("KE-2, KE-10");
	(void)state;
	KeInitializeTimerEx(&timer, SynchronizationTimer);
	assert_false(KeSetTimer(&timer, t_due(-100 * T_SECOND), NULL));
	for (uint32_t i = 0; i < 2; i++) {
		t_sleeper_start(&sleepers[i], objects, 1, WaitAny);
		t_await_listed(&timer, i + 1);
	}
	t_jump(CLOCK_MONOTONIC, 100 * T_SECOND);
	assert_int_equal(t_sleeper_end(&sleepers[0]), STATUS_SUCCESS);
	assert_int_equal(t_listed(&timer), 1);
	assert_false(KeReadStateTimer(&timer));
	KeSetTimer(&timer, t_due(0), NULL);
	assert_int_equal(t_sleeper_end(&sleepers[1]), STATUS_SUCCESS);
	assert_int_equal(t_wait_for(&timer, 0), STATUS_TIMEOUT);
}

static void
ke_10_notification_timer_lets_all_waiters_go(void **state)
{
	struct t_sleeper sleepers[3];
	KTIMER timer;
	KEVENT event;
	PVOID objects[] = { &event, &timer };

	CONF_COVERS("KE-2, KE-10");
	(void)state;
	KeInitializeEvent(&event, NotificationEvent, FALSE);
	KeInitializeTimer(&timer);
	KeSetTimer(&timer, t_due(-100 * T_SECOND), NULL);
	for (uint32_t i = 0; i < 3; i++) {
		t_sleeper_start(&sleepers[i], i == 0 ? &objects[1] : objects, i == 0 ? 1 : 2,
		                WaitAny);
		t_await_listed(&timer, i + 1);
	}
	t_jump(CLOCK_MONOTONIC, 100 * T_SECOND);
	assert_int_equal(t_sleeper_end(&sleepers[0]), STATUS_SUCCESS);
	assert_int_equal(t_sleeper_end(&sleepers[1]), STATUS_WAIT_1);
	assert_int_equal(t_sleeper_end(&sleepers[2]), STATUS_WAIT_1);
}

static void
ke_10_timer_that_is_due_already_expires_at_once(void **state)
{
	static const int64_t dues[] = { 0, 1, INT64_C(116444736000000000) };

	CONF_COVERS("KE-10");
	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(dues); i++) {
		struct t_ticks ticks;

		t_ticks_init(&ticks, NotificationTimer);
		assert_false(KeSetTimer(&ticks.timer, t_due(dues[i]), &ticks.dpc));
		assert_true(KeReadStateTimer(&ticks.timer));
		assert_int_equal(t_wait_forever_for(&ticks.count), STATUS_SUCCESS);
		KeFlushQueuedDpcs();
		/* Setting it again makes it not signalled. */
		assert_false(KeSetTimer(&ticks.timer, t_due(-100 * T_SECOND), &ticks.dpc));
		assert_false(KeReadStateTimer(&ticks.timer));
		assert_true(KeCancelTimer(&ticks.timer));
	}
}

static void
ke_10_cancelled_timer_does_not_expire(void **state)
{
	struct t_ticks ticks;

	CONF_COVERS("KE-10");
	(void)state;
	t_ticks_init(&ticks, NotificationTimer);
	assert_false(KeCancelTimer(&ticks.timer));
	KeSetTimer(&ticks.timer, t_due(-100 * T_SECOND), &ticks.dpc);
	assert_true(KeCancelTimer(&ticks.timer));
	assert_false(KeCancelTimer(&ticks.timer));
	t_jump(CLOCK_MONOTONIC, 200 * T_SECOND);
	assert_false(KeReadStateTimer(&ticks.timer));
	KeFlushQueuedDpcs();
	assert_int_equal(KeReadStateSemaphore(&ticks.count), 0);
}

static void
ke_10_timer_that_runs_is_set_anew(void **state)
{
	struct t_ticks ticks;

	CONF_COVERS("KE-10");
	(void)state;
	t_ticks_init(&ticks, NotificationTimer);
	assert_false(KeSetTimer(&ticks.timer, t_due(-100 * T_SECOND), &ticks.dpc));
	assert_true(KeSetTimer(&ticks.timer, t_due(-300 * T_SECOND), &ticks.dpc));
	t_jump(CLOCK_MONOTONIC, 200 * T_SECOND);
	assert_false(KeReadStateTimer(&ticks.timer));
	/* From one clock to the other. */
	assert_true(KeSetTimer(&ticks.timer, t_due(t_system_time() + 100 * T_SECOND), &ticks.dpc));
	t_jump(CLOCK_MONOTONIC, 200 * T_SECOND);
	assert_false(KeReadStateTimer(&ticks.timer));
	t_jump(CLOCK_REALTIME, 100 * T_SECOND);
	assert_int_equal(t_wait_forever_for(&ticks.timer), STATUS_SUCCESS);
	KeFlushQueuedDpcs();
	assert_int_equal(KeReadStateSemaphore(&ticks.count), 1);
}

static void
ke_10_periodic_timer_expires_again_and_again(void **state)
{
	struct t_ticks ticks;

	CONF_COVERS("KE-10");
	(void)state;
	t_ticks_init(&ticks, SynchronizationTimer);
	assert_false(KeSetTimerEx(&ticks.timer, t_due(-100 * T_SECOND), 300000, &ticks.dpc));
	t_jump(CLOCK_MONOTONIC, 100 * T_SECOND);
	t_wait_forever_for(&ticks.count);
	for (int i = 0; i < 3; i++) {
		t_wait_forever_for(&ticks.timer);
		t_jump(CLOCK_MONOTONIC, 200 * T_SECOND);
		assert_false(KeReadStateTimer(&ticks.timer));
		t_jump(CLOCK_MONOTONIC, 100 * T_SECOND);
		t_wait_forever_for(&ticks.count);
	}
	assert_true(KeCancelTimer(&ticks.timer));
	assert_false(KeCancelTimer(&ticks.timer));
	KeFlushQueuedDpcs();
	assert_int_equal(KeReadStateSemaphore(&ticks.count), 0);
}

static void
ke_10_periods_that_were_missed_are_not_made_up_for(void **state)
{
	struct t_ticks ticks;

	CONF_COVERS("KE-10");
	(void)state;
	t_ticks_init(&ticks, SynchronizationTimer);
	KeSetCoalescableTimer(&ticks.timer, t_due(-100 * T_SECOND), 100000, 1, &ticks.dpc);
	t_jump(CLOCK_MONOTONIC, 1050 * T_SECOND);
	t_wait_forever_for(&ticks.timer);
	/* A DPC that is still queued when its timer expires again runs once for both. */
	KeFlushQueuedDpcs();
	t_jump(CLOCK_MONOTONIC, 90 * T_SECOND);
	assert_false(KeReadStateTimer(&ticks.timer));
	t_jump(CLOCK_MONOTONIC, 10 * T_SECOND);
	t_wait_forever_for(&ticks.timer);
	assert_true(KeCancelTimer(&ticks.timer));
	KeFlushQueuedDpcs();
	assert_int_equal(KeReadStateSemaphore(&ticks.count), 2);
}

static void
ke_10_absolute_periodic_timer_goes_on_by_its_period(void **state)
{
	struct t_ticks ticks;

	CONF_COVERS("KE-10");
	(void)state;
	t_ticks_init(&ticks, SynchronizationTimer);
	KeSetTimerEx(&ticks.timer, t_due(t_system_time() + 100 * T_SECOND), 100000, &ticks.dpc);
	t_jump(CLOCK_REALTIME, 100 * T_SECOND);
	t_wait_forever_for(&ticks.timer);
	/* Whoever sets the clock does not move the periods. */
	t_jump(CLOCK_REALTIME, -5000 * T_SECOND);
	t_jump(CLOCK_MONOTONIC, 100 * T_SECOND);
	t_wait_forever_for(&ticks.timer);
	t_jump(CLOCK_REALTIME, 5000 * T_SECOND);
	assert_false(KeReadStateTimer(&ticks.timer));
	assert_true(KeCancelTimer(&ticks.timer));
	KeFlushQueuedDpcs();
}

static void
ke_10_timers_expire_in_the_order_of_their_due_time(void **state)
{
	enum { COUNT = 50 };
	static struct t_ticks ticks[COUNT];
	uint64_t random = t_seed();
	int64_t due[COUNT];

	CONF_COVERS("KE-10");
	(void)state;
	for (int i = 0; i < COUNT; i++) {
		due[i] = 10 + t_random(&random) % 100;
		t_ticks_init(&ticks[i], NotificationTimer);
		KeSetTimer(&ticks[i].timer, t_due(-due[i] * 10 * T_SECOND), NULL);
	}
	for (int64_t t = 0; t < 110; t += 10) {
		t_jump(CLOCK_MONOTONIC, 10 * 10 * T_SECOND);
		for (int i = 0; i < COUNT; i++) {
			/* Real time goes on as well, by less than 10 s. */
			if (due[i] > t + 11)
				assert_false(KeReadStateTimer(&ticks[i].timer));
			else if (due[i] <= t + 10)
				t_wait_forever_for(&ticks[i].timer);
		}
	}
}

static void
ke_10_a_due_time_beyond_all_clocks_never_comes(void **state)
{
	static const int64_t dues[] = { INT64_MIN, INT64_MIN + 1, INT64_MAX };
	KTIMER timer;

	CONF_COVERS("KE-10");
	(void)state;
	KeInitializeTimer(&timer);
	for (size_t i = 0; i < ARRAYSIZE(dues); i++) {
		assert_false(KeSetTimer(&timer, t_due(dues[i]), NULL));
		t_jump(CLOCK_MONOTONIC, 1000 * T_SECOND);
		t_jump(CLOCK_REALTIME, 1000 * T_SECOND);
		assert_false(KeReadStateTimer(&timer));
		assert_true(KeCancelTimer(&timer));
	}
}

static void
ke_10_timer_threads_end_when_idle_and_come_back(void **state)
{
	KTIMER timer;

	CONF_COVERS("KE-10");
	(void)state;
	KeInitializeTimer(&timer);
	for (int i = 0; i < 5; i++) {
		KeSetTimer(&timer, t_due(-100 * T_SECOND), NULL);
		t_jump(CLOCK_MONOTONIC, 100 * T_SECOND);
		t_wait_forever_for(&timer);
		t_jump(CLOCK_MONOTONIC, 100 * T_SECOND);
	}
}

static void
ke_10_timer_mistakes_are_misuse(void **state)
{
	KTIMER timer;

	CONF_COVERS("KE-5, KE-10");
	(void)state;
	memset(&timer, 0, sizeof(timer));
	assert_misuse(assert_false(KeSetTimer(&timer, t_due(0), NULL)));
	assert_misuse(assert_false(KeSetCoalescableTimer(&timer, t_due(0), 0, 0, NULL)));
	assert_misuse(assert_false(KeCancelTimer(&timer)));
	assert_misuse(assert_false(KeReadStateTimer(&timer)));
	KeInitializeTimer(&timer);
	assert_misuse(KeSetTimerEx(&timer, t_due(0), -1, NULL));
	assert_false(KeCancelTimer(&timer));
}

static void
ke_10_memory_of_the_timer_may_go_as_soon_as_the_wait_returns(void **state)
{
	CONF_COVERS("KE-10");
	(void)state;
	for (int round = 0; round < 100; round++) {
		PKTIMER timer = malloc(sizeof(*timer));

		assert_non_null(timer);
		KeInitializeTimerEx(timer,
		                    round % 2 == 0 ? NotificationTimer : SynchronizationTimer);
		KeSetTimer(timer, t_due(-1), NULL);
		t_wait_forever_for(timer);
		memset(timer, 0xA5, sizeof(*timer));
		free(timer);
	}
}

/* ---- the tree -------------------------------------------------------------------------------- */

static void
ke_10_timer_tree_is_ordered_whatever_comes_and_goes(void **state)
{
	enum { COUNT = 200, STEPS = 20000 };
	static KTIMER timers[COUNT];
	struct nt_timer_tree tree = { NULL };
	uint64_t random = t_seed();
	bool inside[COUNT] = { false };

	(void)state;
	for (int step = 0; step < STEPS; step++) {
		const uint32_t i = t_random(&random) % COUNT;
		PKTIMER first = NULL;

		if (inside[i]) {
			nt_timer_tree_remove(&tree, &timers[i]);
		} else {
			timers[i].DueTime.QuadPart = t_random(&random) % 50;
			nt_timer_tree_insert(&tree, &timers[i]);
		}
		inside[i] = !inside[i];
		for (uint32_t k = 0; k < COUNT; k++) {
			if (inside[k] &&
			    (first == NULL || timers[k].DueTime.QuadPart < first->DueTime.QuadPart))
				first = &timers[k];
		}
		assert_ptr_equal(nt_timer_tree_first(&tree), first);
	}
}

/* ---- timers that the system allocates -------------------------------------------------------- */

struct t_calls {
	KSEMAPHORE calls;
	KEVENT deleted;
	PEX_TIMER deletes; /* by the callback */
	EXT_DELETE_PARAMETERS parameters;
};

static VOID
t_called(PEX_TIMER timer, PVOID context)
{
	struct t_calls *calls = context;

	assert_int_equal(KeGetCurrentIrql(), DISPATCH_LEVEL);
	if (calls->deletes == timer)
		assert_false(ExDeleteTimer(timer, TRUE, FALSE, &calls->parameters));
	KeReleaseSemaphore(&calls->calls, 0, 1, FALSE);
}

static VOID
t_deleted(PVOID context)
{
	struct t_calls *calls = context;

	KeSetEvent(&calls->deleted, 0, FALSE);
}

static PEX_TIMER
t_allocate(struct t_calls *calls, ULONG attributes)
{
	PEX_TIMER timer = ExAllocateTimer(t_called, calls, attributes);

	assert_non_null(timer);
	KeInitializeSemaphore(&calls->calls, 0, MAXLONG);
	KeInitializeEvent(&calls->deleted, NotificationEvent, FALSE);
	calls->deletes = NULL;
	ExInitializeDeleteTimerParameters(&calls->parameters);
	calls->parameters.DeleteCallback = t_deleted;
	calls->parameters.DeleteContext = calls;
	return timer;
}

static void
ke_10_allocated_timer_calls_back_with_its_period(void **state)
{
	EXT_SET_PARAMETERS parameters;
	struct t_calls calls;
	PEX_TIMER timer = t_allocate(&calls, EX_TIMER_NOTIFICATION | EX_TIMER_HIGH_RESOLUTION);

	CONF_COVERS("KE-10");
	(void)state;
	ExInitializeSetTimerParameters(&parameters);
	assert_false(ExSetTimer(timer, -100 * T_SECOND, 100 * T_SECOND, &parameters));
	for (int i = 0; i < 3; i++) {
		t_jump(CLOCK_MONOTONIC, 100 * T_SECOND);
		t_wait_forever_for(&calls.calls);
		assert_int_equal(t_wait_for(timer, 0), STATUS_SUCCESS);
	}
	assert_true(ExCancelTimer(timer, NULL));
	assert_false(ExCancelTimer(timer, NULL));
	assert_false(ExSetTimer(timer, -100 * T_SECOND, 0, NULL));
	assert_true(ExSetTimer(timer, -100 * T_SECOND, 0, NULL));
	assert_true(ExDeleteTimer(timer, TRUE, TRUE, NULL));
	assert_int_equal(KeReadStateSemaphore(&calls.calls), 0);
}

static void
ke_10_allocated_timer_is_deleted_in_each_way(void **state)
{
	struct t_calls calls;
	PEX_TIMER timer;

	CONF_COVERS("KE-10");
	(void)state;
	/* Not running, and not waiting for the end. */
	timer = t_allocate(&calls, 0);
	assert_false(ExDeleteTimer(timer, FALSE, FALSE, &calls.parameters));
	t_wait_forever_for(&calls.deleted);
	/* Running: after it has expired. */
	timer = t_allocate(&calls, 0);
	ExSetTimer(timer, -100 * T_SECOND, 0, NULL);
	assert_false(ExDeleteTimer(timer, FALSE, FALSE, &calls.parameters));
	assert_int_equal(t_wait_for(&calls.deleted, 0), STATUS_TIMEOUT);
	t_jump(CLOCK_MONOTONIC, 100 * T_SECOND);
	t_wait_forever_for(&calls.deleted);
	assert_int_equal(KeReadStateSemaphore(&calls.calls), 1);
	/* In its own callback, with more periods to come. */
	timer = t_allocate(&calls, 0);
	calls.parameters.DeleteCallback = t_deleted;
	calls.deletes = NULL;
	ExSetTimer(timer, -1, 0, NULL);
	t_wait_forever_for(&calls.calls);
	calls.deletes = timer;
	ExSetTimer(timer, -1, 0, NULL);
	t_wait_forever_for(&calls.deleted);
	/* Without a callback of either kind. */
	timer = ExAllocateTimer(NULL, NULL, EX_TIMER_NO_WAKE);
	assert_non_null(timer);
	ExSetTimer(timer, 0, 0, NULL);
	assert_int_equal(t_wait_forever_for(timer), STATUS_SUCCESS);
	assert_false(ExDeleteTimer(timer, TRUE, FALSE, NULL));
	KeFlushQueuedDpcs();
}

struct t_setter {
	KEVENT entered, release, deleted;
	LONG calls;
	BOOLEAN was_running[3];
};

static void
t_setter_init(struct t_setter *setter)
{
	*setter = (struct t_setter){ .calls = 0 };
	KeInitializeEvent(&setter->entered, NotificationEvent, FALSE);
	KeInitializeEvent(&setter->release, NotificationEvent, FALSE);
	KeInitializeEvent(&setter->deleted, NotificationEvent, FALSE);
}

static VOID
t_set_when_released(PEX_TIMER timer, PVOID context)
{
	struct t_setter *setter = context;

	InterlockedIncrement(&setter->calls);
	KeSetEvent(&setter->entered, 0, FALSE);
	while (t_wait_for(&setter->release, 0) != STATUS_SUCCESS)
		sched_yield();
	setter->was_running[0] = ExSetTimer(timer, -100 * T_SECOND, 0, NULL);
	setter->was_running[1] = ExSetTimer(timer, -100 * T_SECOND, 100 * T_SECOND, NULL);
	setter->was_running[2] = ExCancelTimer(timer, NULL);
}

static VOID
t_setter_deleted(PVOID context)
{
	struct t_setter *setter = context;

	KeSetEvent(&setter->deleted, 0, FALSE);
}

static void
ke_10_allocated_timer_is_not_set_again_once_it_is_deleted(void **state)
{
	EXT_DELETE_PARAMETERS parameters;
	struct t_setter setter;
	PEX_TIMER timer;

	CONF_COVERS("KE-10");
	(void)state;
	t_setter_init(&setter);
	ExInitializeDeleteTimerParameters(&parameters);
	parameters.DeleteCallback = t_setter_deleted;
	parameters.DeleteContext = &setter;
	timer = ExAllocateTimer(t_set_when_released, &setter, 0);
	assert_non_null(timer);
	ExSetTimer(timer, -1, 0, NULL);
	t_wait_forever_for(&setter.entered);
	assert_false(ExDeleteTimer(timer, TRUE, FALSE, &parameters));
	KeSetEvent(&setter.release, 0, FALSE);
	t_wait_forever_for(&setter.deleted);
	for (size_t i = 0; i < ARRAYSIZE(setter.was_running); i++)
		assert_false(setter.was_running[i]);
	t_jump(CLOCK_MONOTONIC, 200 * T_SECOND);
	KeFlushQueuedDpcs();
	assert_int_equal(setter.calls, 1);
}

static VOID
t_set_until_deleted(PEX_TIMER timer, PVOID context)
{
	struct t_setter *setter = context;

	InterlockedIncrement(&setter->calls);
	ExSetTimer(timer, -100 * T_SECOND, 100 * T_SECOND, NULL);
	KeSetEvent(&setter->entered, 0, FALSE);
	while (ExSetTimer(timer, -100 * T_SECOND, 100 * T_SECOND, NULL))
		sched_yield();
}

/* It is running whenever one looks, and whatever comes between two looks. */
static void
ke_10_allocated_timer_is_deleted_while_its_callback_sets_it(void **state)
{
	struct t_setter setter;
	PEX_TIMER timer;

	CONF_COVERS("KE-10");
	(void)state;
	for (int round = 0; round < 20; round++) {
		t_setter_init(&setter);
		timer = ExAllocateTimer(t_set_until_deleted, &setter, 0);
		assert_non_null(timer);
		ExSetTimer(timer, -1, 0, NULL);
		t_wait_forever_for(&setter.entered);
		assert_true(ExDeleteTimer(timer, TRUE, TRUE, NULL));
		t_jump(CLOCK_MONOTONIC, 200 * T_SECOND);
		KeFlushQueuedDpcs();
		assert_int_equal(setter.calls, 1);
	}
}

static void
ke_10_allocated_periodic_timer_that_is_deleted_expires_once_more(void **state)
{
	struct t_calls calls;
	PEX_TIMER timer = t_allocate(&calls, 0);

	CONF_COVERS("KE-10");
	(void)state;
	ExSetTimer(timer, -100 * T_SECOND, 100 * T_SECOND, NULL);
	assert_false(ExDeleteTimer(timer, FALSE, FALSE, &calls.parameters));
	/* Neither puts its end off nor keeps it from coming. */
	assert_false(ExSetTimer(timer, -1000 * T_SECOND, 0, NULL));
	assert_false(ExCancelTimer(timer, NULL));
	t_jump(CLOCK_MONOTONIC, 100 * T_SECOND);
	t_wait_forever_for(&calls.calls);
	/* The callback's DPC queues that of the deletion. */
	KeFlushQueuedDpcs();
	KeFlushQueuedDpcs();
	assert_int_equal(KeReadStateEvent(&calls.deleted), 1);
	t_jump(CLOCK_MONOTONIC, 200 * T_SECOND);
	KeFlushQueuedDpcs();
	assert_int_equal(KeReadStateSemaphore(&calls.calls), 0);
}

static void
ke_10_allocated_timer_mistakes_are_misuse(void **state)
{
	struct t_calls calls;
	PEX_TIMER timer = t_allocate(&calls, 0);
	KIRQL old;

	CONF_COVERS("KE-5, KE-10");
	(void)state;
	assert_misuse(assert_null(ExAllocateTimer(NULL, NULL, 1)));
	assert_misuse(ExSetTimer(timer, -100 * T_SECOND, -1, NULL));
	assert_misuse(assert_true(ExDeleteTimer(timer, FALSE, TRUE, NULL)));
	timer = t_allocate(&calls, 0);
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	assert_misuse(assert_false(ExDeleteTimer(timer, TRUE, TRUE, &calls.parameters)));
	KeLowerIrql(old);
	t_wait_forever_for(&calls.deleted);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ke_10_timer_is_signalled_when_due_and_not_before),
		cmocka_unit_test(ke_10_timer_thread_sleeps_until_the_very_due_time),
		cmocka_unit_test(ke_10_synchronization_timer_lets_one_waiter_go),
		cmocka_unit_test(ke_10_notification_timer_lets_all_waiters_go),
		cmocka_unit_test(ke_10_timer_that_is_due_already_expires_at_once),
		cmocka_unit_test(ke_10_cancelled_timer_does_not_expire),
		cmocka_unit_test(ke_10_timer_that_runs_is_set_anew),
		cmocka_unit_test(ke_10_periodic_timer_expires_again_and_again),
		cmocka_unit_test(ke_10_periods_that_were_missed_are_not_made_up_for),
		cmocka_unit_test(ke_10_absolute_periodic_timer_goes_on_by_its_period),
		cmocka_unit_test(ke_10_timers_expire_in_the_order_of_their_due_time),
		cmocka_unit_test(ke_10_a_due_time_beyond_all_clocks_never_comes),
		cmocka_unit_test(ke_10_timer_threads_end_when_idle_and_come_back),
		cmocka_unit_test(ke_10_timer_mistakes_are_misuse),
		cmocka_unit_test(ke_10_memory_of_the_timer_may_go_as_soon_as_the_wait_returns),
		cmocka_unit_test(ke_10_timer_tree_is_ordered_whatever_comes_and_goes),
		cmocka_unit_test(ke_10_allocated_timer_calls_back_with_its_period),
		cmocka_unit_test(ke_10_allocated_timer_is_deleted_in_each_way),
		cmocka_unit_test(ke_10_allocated_timer_is_not_set_again_once_it_is_deleted),
		cmocka_unit_test(ke_10_allocated_timer_is_deleted_while_its_callback_sets_it),
		cmocka_unit_test(ke_10_allocated_periodic_timer_that_is_deleted_expires_once_more),
		cmocka_unit_test(ke_10_allocated_timer_mistakes_are_misuse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
