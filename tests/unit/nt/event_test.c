/* SPDX-License-Identifier: MIT */
/*
 * Events and waits (KE-1, KE-2).
 */
#include "t_nt.h"

/* How many threads wait for a synchronization event; see nt_event.c. */
static uint32_t
t_waiters(const KEVENT *event)
{
	return (uint32_t)__atomic_load_n(&event->Header.SignalState, __ATOMIC_ACQUIRE) >> 1 &
	       0x7FFF;
}

static void
t_await_waiters(const KEVENT *event, uint32_t count)
{
	while (t_waiters(event) != count)
		sched_yield();
}

/* Somebody sleeps on a notification event. */
static void
t_await_sleeper(const KEVENT *event)
{
	while ((__atomic_load_n(&event->Header.SignalState, __ATOMIC_ACQUIRE) & 2) == 0)
		sched_yield();
}

static NTSTATUS
t_wait(PKEVENT event, int64_t timeout)
{
	LARGE_INTEGER value = { .QuadPart = timeout };

	return KeWaitForSingleObject(event, Executive, KernelMode, FALSE, &value);
}

struct t_waiter {
	PKEVENT event;
	LONG *released;
	NTSTATUS status;
};

static void *
t_wait_forever(void *context)
{
	struct t_waiter *waiter = context;

	waiter->status = KeWaitForSingleObject(waiter->event, Executive, KernelMode, TRUE, NULL);
	if (waiter->released != NULL)
		InterlockedIncrement(waiter->released);
	return NULL;
}

static void
ke_1_set_and_reset_return_the_state_before(void **state)
{
	static const EVENT_TYPE types[] = { NotificationEvent, SynchronizationEvent };

	CONF_COVERS("KE-1");
	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(types); i++) {
		KEVENT event;

		KeInitializeEvent(&event, types[i], FALSE);
		assert_int_equal(KeReadStateEvent(&event), 0);
		assert_int_equal(KeSetEvent(&event, IO_NO_INCREMENT, FALSE), 0);
		assert_int_equal(KeReadStateEvent(&event), 1);
		assert_int_equal(KeSetEvent(&event, IO_NO_INCREMENT, FALSE), 1);
		assert_int_equal(KeResetEvent(&event), 1);
		assert_int_equal(KeResetEvent(&event), 0);
		KeInitializeEvent(&event, types[i], TRUE);
		assert_int_equal(KeReadStateEvent(&event), 1);
		KeClearEvent(&event);
		assert_int_equal(KeReadStateEvent(&event), 0);
	}
}

static void
ke_1_set_with_wait_is_misuse_and_sets(void **state)
{
	KEVENT event;

	CONF_COVERS("KE-1");
	(void)state;
	KeInitializeEvent(&event, NotificationEvent, FALSE);
	assert_misuse(KeSetEvent(&event, 0, TRUE));
	assert_int_equal(KeReadStateEvent(&event), 1);
}

static void
ke_1_memory_that_is_no_event_is_misuse(void **state)
{
	KEVENT event;

	(void)state;
	memset(&event, 0, sizeof(event));
	assert_misuse(KeSetEvent(&event, 0, FALSE));
	assert_misuse(assert_int_equal(t_wait(&event, 0), STATUS_INVALID_PARAMETER));
	assert_misuse(assert_int_equal(t_wait(NULL, 0), STATUS_INVALID_PARAMETER));
}

static void
ke_2_zero_timeout_only_looks(void **state)
{
	KEVENT event;
	KIRQL old;

	CONF_COVERS("KE-2");
	(void)state;
	KeInitializeEvent(&event, SynchronizationEvent, FALSE);
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	assert_int_equal(t_wait(&event, 0), STATUS_TIMEOUT);
	KeSetEvent(&event, 0, FALSE);
	assert_int_equal(t_wait(&event, 0), STATUS_SUCCESS);
	KeLowerIrql(old);
}

static void
ke_2_notification_event_stays_set(void **state)
{
	KEVENT event;

	CONF_COVERS("KE-2");
	(void)state;
	KeInitializeEvent(&event, NotificationEvent, TRUE);
	assert_int_equal(t_wait(&event, 0), STATUS_SUCCESS);
	assert_int_equal(t_wait(&event, -10), STATUS_SUCCESS);
	assert_int_equal(KeReadStateEvent(&event), 1);
}

static void
ke_2_synchronization_event_resets_when_it_lets_go(void **state)
{
	KEVENT event;

	CONF_COVERS("KE-2");
	(void)state;
	KeInitializeEvent(&event, SynchronizationEvent, TRUE);
	assert_int_equal(t_wait(&event, -10), STATUS_SUCCESS);
	assert_int_equal(KeReadStateEvent(&event), 0);
	assert_int_equal(t_wait(&event, 0), STATUS_TIMEOUT);
}

static void
ke_2_timeout_is_reported_and_never_early(void **state)
{
	static const EVENT_TYPE types[] = { NotificationEvent, SynchronizationEvent };

	CONF_COVERS("KE-2");
	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(types); i++) {
		const int64_t start = t_now_100ns();
		KEVENT event;

		KeInitializeEvent(&event, types[i], FALSE);
		assert_int_equal(t_wait(&event, -20000), STATUS_TIMEOUT);
		assert_true(t_now_100ns() - start >= 20000);
		assert_int_equal(t_wait(&event, 1), STATUS_TIMEOUT);
		/*
		 * Whoever gave up is not counted any more: the event keeps its state for the
		 * next.
		 */
		KeSetEvent(&event, 0, FALSE);
		assert_int_equal(KeReadStateEvent(&event), 1);
	}
}

static void
ke_2_waiting_at_dispatch_level_is_misuse(void **state)
{
	KEVENT event;
	KIRQL old;

	CONF_COVERS("KE-2, KE-5");
	(void)state;
	KeInitializeEvent(&event, NotificationEvent, TRUE);
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	assert_misuse(assert_int_equal(t_wait(&event, -1), STATUS_SUCCESS));
	assert_misuse(KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL));
	KeLowerIrql(old);
}

static void
ke_2_notification_event_lets_everybody_go_even_if_reset_at_once(void **state)
{
	struct t_waiter waiters[4];
	pthread_t threads[4];
	LONG released = 0;
	KEVENT event;

	CONF_COVERS("KE-2");
	(void)state;
	for (int round = 0; round < 50; round++) {
		KeInitializeEvent(&event, NotificationEvent, FALSE);
		waiters[0] = (struct t_waiter){ &event, &released, STATUS_PENDING };
		threads[0] = t_thread(t_wait_forever, &waiters[0]);
		t_await_sleeper(&event);
		KeSetEvent(&event, 0, FALSE);
		KeResetEvent(&event);
		t_join(threads[0]);
		assert_int_equal(waiters[0].status, STATUS_SUCCESS);
	}
	for (int i = 0; i < 4; i++) {
		waiters[i] = (struct t_waiter){ &event, &released, STATUS_PENDING };
		threads[i] = t_thread(t_wait_forever, &waiters[i]);
	}
	KeSetEvent(&event, 0, FALSE);
	for (int i = 0; i < 4; i++)
		t_join(threads[i]);
	assert_int_equal(released, 54);
}

static void
ke_2_synchronization_event_lets_one_go_per_set(void **state)
{
	struct t_waiter waiters[4];
	pthread_t threads[4];
	LONG released = 0;
	KEVENT event;

	CONF_COVERS("KE-2");
	(void)state;
	KeInitializeEvent(&event, SynchronizationEvent, FALSE);
	for (int i = 0; i < 4; i++) {
		waiters[i] = (struct t_waiter){ &event, &released, STATUS_PENDING };
		threads[i] = t_thread(t_wait_forever, &waiters[i]);
	}
	t_await_waiters(&event, 4);
	KeSetEvent(&event, 0, FALSE);
	t_await_waiters(&event, 3);
	while (InterlockedOr(&released, 0) != 1)
		sched_yield();
	/* Three at a stroke: none gets lost because the first has not woken yet. */
	KeSetEvent(&event, 0, FALSE);
	KeSetEvent(&event, 0, FALSE);
	KeSetEvent(&event, 0, FALSE);
	for (int i = 0; i < 4; i++)
		t_join(threads[i]);
	assert_int_equal(released, 4);
	assert_int_equal(KeReadStateEvent(&event), 0);
}

static void
ke_2_set_and_reset_lets_one_waiter_of_a_synchronization_event_go(void **state)
{
	struct t_waiter waiter;
	pthread_t thread;
	KEVENT event;

	CONF_COVERS("KE-2");
	(void)state;
	for (int round = 0; round < 50; round++) {
		KeInitializeEvent(&event, SynchronizationEvent, FALSE);
		waiter = (struct t_waiter){ &event, NULL, STATUS_PENDING };
		thread = t_thread(t_wait_forever, &waiter);
		t_await_waiters(&event, 1);
		assert_int_equal(KeSetEvent(&event, 0, FALSE), 0);
		KeResetEvent(&event);
		/* A newcomer cannot take the place of who waited. */
		assert_int_equal(t_wait(&event, 0), STATUS_TIMEOUT);
		t_join(thread);
		assert_int_equal(waiter.status, STATUS_SUCCESS);
	}
}

static void *
t_set(void *context)
{
	KeSetEvent(context, 0, FALSE);
	return NULL;
}

static void
ke_1_event_memory_may_go_as_soon_as_the_wait_returns(void **state)
{
	CONF_COVERS("KE-1");
	(void)state;
	for (int round = 0; round < 200; round++) {
		PKEVENT event = malloc(sizeof(*event));
		pthread_t thread;

		assert_non_null(event);
		KeInitializeEvent(event, round % 2 == 0 ? NotificationEvent : SynchronizationEvent,
				  FALSE);
		thread = t_thread(t_set, event);
		assert_int_equal(KeWaitForSingleObject(event, Executive, KernelMode, FALSE, NULL),
		                 STATUS_SUCCESS);
		memset(event, 0xA5, sizeof(*event));
		free(event);
		t_join(thread);
	}
}

struct t_table_tennis {
	KEVENT to_left, to_right;
	int ball;               /* plain: the events order the accesses */
	int rounds;
};

static void *
t_left(void *context)
{
	struct t_table_tennis *game = context;

	for (int i = 0; i < game->rounds; i++) {
		KeWaitForSingleObject(&game->to_left, Executive, KernelMode, FALSE, NULL);
		game->ball++;
		KeSetEvent(&game->to_right, 0, FALSE);
	}
	return NULL;
}

static void
ke_2_what_was_written_before_set_is_seen_after_wait(void **state)
{
	struct t_table_tennis game = { .rounds = 2000 };
	pthread_t thread;

	CONF_COVERS("KE-2");
	(void)state;
	KeInitializeEvent(&game.to_left, SynchronizationEvent, FALSE);
	KeInitializeEvent(&game.to_right, SynchronizationEvent, FALSE);
	thread = t_thread(t_left, &game);
	for (int i = 0; i < game.rounds; i++) {
		game.ball++;
		KeSetEvent(&game.to_left, 0, FALSE);
		KeWaitForSingleObject(&game.to_right, Executive, KernelMode, FALSE, NULL);
		assert_int_equal(game.ball, 2 * (i + 1));
	}
	t_join(thread);
}

struct t_counted {
	KEVENT event;
	LONG taken;
	LONG stop;
};

/* Waits with timeouts so short that giving up and being let go meet. */
static void *
t_take_hurriedly(void *context)
{
	struct t_counted *counted = context;

	while (!InterlockedOr(&counted->stop, 0)) {
		if (t_wait(&counted->event, -10) == STATUS_SUCCESS)
			InterlockedIncrement(&counted->taken);
	}
	return NULL;
}

static void
ke_2_no_signal_is_lost_or_doubled_when_waiters_give_up(void **state)
{
	struct t_counted counted = { .taken = 0 };
	pthread_t threads[3];
	LONG given = 0;

	CONF_COVERS("KE-2");
	(void)state;
	KeInitializeEvent(&counted.event, SynchronizationEvent, FALSE);
	for (int i = 0; i < 3; i++)
		threads[i] = t_thread(t_take_hurriedly, &counted);
	/* Each set that found the event not signalled lets one go, now or later. */
	for (int i = 0; i < 5000; i++) {
		if (KeSetEvent(&counted.event, 0, FALSE) == 0)
			given++;
		if (i % 16 == 0)
			sched_yield();
	}
	InterlockedExchange(&counted.stop, 1);
	for (int i = 0; i < 3; i++)
		t_join(threads[i]);
	assert_int_equal(t_waiters(&counted.event), 0);
	assert_int_equal(counted.taken + KeReadStateEvent(&counted.event), given);
}

/*
 * More waiters than the event can count: they look again and again, and still keep to their
 * timeout.
 */
static void
ke_2_a_waiter_too_many_keeps_its_timeout(void **state)
{
	const int64_t start = t_now_100ns();
	KEVENT event;

	CONF_COVERS("KE-2");
	(void)state;
	KeInitializeEvent(&event, SynchronizationEvent, FALSE);
	event.Header.SignalState = 0x7FFF << 1;
	assert_int_equal(t_wait(&event, -20000), STATUS_TIMEOUT);
	assert_true(t_now_100ns() - start >= 20000);
	assert_int_equal(t_waiters(&event), 0x7FFF);
	event.Header.SignalState = 0x7FFE << 1;
	assert_int_equal(t_wait(&event, -10), STATUS_TIMEOUT);
	assert_int_equal(t_waiters(&event), 0x7FFE);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ke_1_set_and_reset_return_the_state_before),
		cmocka_unit_test(ke_1_set_with_wait_is_misuse_and_sets),
		cmocka_unit_test(ke_1_memory_that_is_no_event_is_misuse),
		cmocka_unit_test(ke_2_zero_timeout_only_looks),
		cmocka_unit_test(ke_2_notification_event_stays_set),
		cmocka_unit_test(ke_2_synchronization_event_resets_when_it_lets_go),
		cmocka_unit_test(ke_2_timeout_is_reported_and_never_early),
		cmocka_unit_test(ke_2_waiting_at_dispatch_level_is_misuse),
		cmocka_unit_test(ke_2_notification_event_lets_everybody_go_even_if_reset_at_once),
		cmocka_unit_test(ke_2_synchronization_event_lets_one_go_per_set),
		cmocka_unit_test(ke_2_set_and_reset_lets_one_waiter_of_a_synchronization_event_go),
		cmocka_unit_test(ke_1_event_memory_may_go_as_soon_as_the_wait_returns),
		cmocka_unit_test(ke_2_what_was_written_before_set_is_seen_after_wait),
		cmocka_unit_test(ke_2_no_signal_is_lost_or_doubled_when_waiters_give_up),
		cmocka_unit_test(ke_2_a_waiter_too_many_keeps_its_timeout),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
