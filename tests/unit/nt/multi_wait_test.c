/* SPDX-License-Identifier: MIT */
/*
 * Waiting for several objects (KE-2).
 */
#include "t_wait.h"

static void
ke_2_any_takes_the_first_object_that_lets_go(void **state)
{
	KEVENT event;
	KSEMAPHORE semaphore;
	KMUTEX mutex;
	PVOID objects[] = { &event, &semaphore, &mutex };

	CONF_COVERS("KE-2");
	(void)state;
	KeInitializeEvent(&event, SynchronizationEvent, FALSE);
	KeInitializeSemaphore(&semaphore, 0, 5);
	KeInitializeMutex(&mutex, 0);
	assert_int_equal(t_wait_many(3, objects, WaitAny, 0), STATUS_WAIT_2);
	KeReleaseSemaphore(&semaphore, 0, 1, FALSE);
	assert_int_equal(t_wait_many(3, objects, WaitAny, 0), STATUS_WAIT_1);
	assert_int_equal(KeReadStateSemaphore(&semaphore), 0);
	KeSetEvent(&event, 0, FALSE);
	KeReleaseSemaphore(&semaphore, 0, 1, FALSE);
	assert_int_equal(t_wait_many(3, objects, WaitAny, -10), STATUS_WAIT_0);
	/* Only that one was taken. */
	assert_int_equal(KeReadStateEvent(&event), 0);
	assert_int_equal(KeReadStateSemaphore(&semaphore), 1);
	assert_int_equal(KeReleaseMutex(&mutex, FALSE), 0);
}

static void
ke_2_all_takes_nothing_until_all_let_go(void **state)
{
	KEVENT event;
	KSEMAPHORE semaphore;
	PVOID objects[] = { &event, &semaphore };

	CONF_COVERS("KE-2");
	(void)state;
	KeInitializeEvent(&event, SynchronizationEvent, TRUE);
	KeInitializeSemaphore(&semaphore, 0, 5);
	assert_int_equal(t_wait_many(2, objects, WaitAll, 0), STATUS_TIMEOUT);
	assert_int_equal(t_wait_many(2, objects, WaitAll, -10), STATUS_TIMEOUT);
	assert_int_equal(KeReadStateEvent(&event), 1);
	KeReleaseSemaphore(&semaphore, 0, 2, FALSE);
	assert_int_equal(t_wait_many(2, objects, WaitAll, 0), STATUS_WAIT_0);
	assert_int_equal(KeReadStateEvent(&event), 0);
	assert_int_equal(KeReadStateSemaphore(&semaphore), 1);
}

static void
ke_2_time_limits_of_several_objects_end_never_early(void **state)
{
	KEVENT events[2];
	PVOID objects[] = { &events[0], &events[1] };
	static const WAIT_TYPE types[] = { WaitAny, WaitAll };

	CONF_COVERS("KE-2");
	(void)state;
	KeInitializeEvent(&events[0], NotificationEvent, FALSE);
	KeInitializeEvent(&events[1], SynchronizationEvent, FALSE);
	for (size_t i = 0; i < ARRAYSIZE(types); i++) {
		const int64_t start = t_now_100ns();

		assert_int_equal(t_wait_many(2, objects, types[i], -20000), STATUS_TIMEOUT);
		assert_true(t_now_100ns() - start >= 20000);
		/* Absolute, and long ago. */
		assert_int_equal(t_wait_many(2, objects, types[i], 1), STATUS_TIMEOUT);
		assert_int_equal(t_wait_many(2, objects, types[i], 0), STATUS_TIMEOUT);
	}
	/* Nothing is left of who gave up. */
	assert_int_equal(t_listed(&events[0]), 0);
	KeSetEvent(&events[1], 0, FALSE);
	assert_int_equal(KeReadStateEvent(&events[1]), 1);
}

static void
ke_2_any_sleeps_until_one_object_is_signalled(void **state)
{
	struct t_sleeper sleeper;
	KEVENT notification, synchronization;
	KSEMAPHORE semaphore;
	PVOID objects[] = { &notification, &synchronization, &semaphore };

	CONF_COVERS("KE-2");
	(void)state;
	KeInitializeEvent(&notification, NotificationEvent, FALSE);
	KeInitializeEvent(&synchronization, SynchronizationEvent, FALSE);
	KeInitializeSemaphore(&semaphore, 0, 1);
	for (ULONG i = 0; i < 3; i++) {
		t_sleeper_start(&sleeper, objects, 3, WaitAny);
		t_await_listed(&semaphore, 1);
		assert_int_equal(KeReadStateEvent(&notification), 0);
		if (i == 0) {
			assert_int_equal(KeSetEvent(&notification, 0, FALSE), 0);
			assert_int_equal(KeSetEvent(&notification, 0, FALSE), 1);
			assert_int_equal(KeResetEvent(&notification), 1);
		} else if (i == 1) {
			assert_int_equal(KeSetEvent(&synchronization, 0, FALSE), 0);
			/* A newcomer cannot take the signal of who waited. */
			assert_int_equal(t_wait_for(&synchronization, 0), STATUS_TIMEOUT);
			assert_int_equal(KeReadStateEvent(&synchronization), 0);
		} else {
			KeReleaseSemaphore(&semaphore, 0, 1, FALSE);
			assert_int_equal(KeReadStateSemaphore(&semaphore), 0);
		}
		assert_int_equal(t_listed(&notification), 0);
		assert_int_equal(t_sleeper_end(&sleeper), STATUS_WAIT_0 + (NTSTATUS)i);
	}
}

static void
ke_2_all_is_decided_in_one_step(void **state)
{
	struct t_sleeper sleeper;
	KEVENT synchronization, notification;
	KMUTEX mutex;
	PVOID objects[] = { &synchronization, &mutex, &notification };

	CONF_COVERS("KE-2");
	(void)state;
	KeInitializeEvent(&synchronization, SynchronizationEvent, FALSE);
	KeInitializeEvent(&notification, NotificationEvent, FALSE);
	KeInitializeMutex(&mutex, 0);
	t_wait_forever_for(&mutex);
	t_sleeper_start(&sleeper, objects, 3, WaitAll);
	t_await_listed(&mutex, 1);
	assert_int_equal(KeSetEvent(&synchronization, 0, FALSE), 0);
	assert_int_equal(KeSetEvent(&notification, 0, FALSE), 0);
	assert_int_equal(KeReadStateEvent(&synchronization), 1);
	/* Somebody else takes the event while the wait is not complete: it does not hold it. */
	assert_int_equal(t_wait_for(&synchronization, -1), STATUS_SUCCESS);
	assert_int_equal(KeReleaseMutex(&mutex, FALSE), 0);
	assert_int_equal(KeReadStateMutex(&mutex), 1);
	assert_int_equal(KeResetEvent(&notification), 1);
	assert_int_equal(KeSetEvent(&synchronization, 0, FALSE), 0);
	assert_int_equal(KeReadStateEvent(&synchronization), 1);
	assert_int_equal(t_listed(&mutex), 1);
	KeSetEvent(&notification, 0, FALSE);
	assert_int_equal(t_sleeper_end(&sleeper), STATUS_WAIT_0);
	assert_int_equal(KeReadStateEvent(&synchronization), 0);
	assert_int_equal(KeReadStateEvent(&notification), 1);
	assert_int_equal(KeReadStateMutex(&mutex), 1);
}

/* Those who wait for one event alone came first, so they go first. */
static void
ke_2_waiters_of_both_kinds_go_in_order(void **state)
{
	struct t_sleeper alone, any, later;
	KEVENT event, never;
	PVOID one[] = { &event };
	PVOID two[] = { &event, &never };

	CONF_COVERS("KE-2");
	(void)state;
	KeInitializeEvent(&event, SynchronizationEvent, FALSE);
	KeInitializeEvent(&never, NotificationEvent, FALSE);
	t_sleeper_start(&alone, one, 1, WaitAny);
	while ((__atomic_load_n(&event.Header.SignalState, __ATOMIC_ACQUIRE) >> 1 & 0x7FFF) != 1)
		sched_yield();
	t_sleeper_start(&any, two, 2, WaitAny);
	t_await_listed(&event, 1);
	t_sleeper_start(&later, one, 1, WaitAny);
	t_await_listed(&event, 2);
	assert_int_equal(KeSetEvent(&event, 0, FALSE), 0);
	assert_int_equal(t_sleeper_end(&alone), STATUS_SUCCESS);
	assert_int_equal(t_listed(&event), 2);
	assert_int_equal(KeSetEvent(&event, 0, FALSE), 0);
	assert_int_equal(t_sleeper_end(&any), STATUS_WAIT_0);
	assert_int_equal(t_listed(&event), 1);
	assert_int_equal(KeSetEvent(&event, 0, FALSE), 0);
	assert_int_equal(t_sleeper_end(&later), STATUS_SUCCESS);
	assert_int_equal(KeReadStateEvent(&event), 0);
}

static void
ke_2_notification_event_lets_waiters_of_both_kinds_go(void **state)
{
	struct t_sleeper alone, any[2];
	KEVENT event, never;
	PVOID one[] = { &event };
	PVOID two[] = { &never, &event };

	CONF_COVERS("KE-2");
	(void)state;
	KeInitializeEvent(&event, NotificationEvent, FALSE);
	KeInitializeEvent(&never, SynchronizationEvent, FALSE);
	t_sleeper_start(&any[0], two, 2, WaitAny);
	t_sleeper_start(&any[1], two, 2, WaitAny);
	t_await_listed(&event, 2);
	t_sleeper_start(&alone, one, 1, WaitAny);
	while ((__atomic_load_n(&event.Header.SignalState, __ATOMIC_ACQUIRE) & 2) == 0)
		sched_yield();
	assert_int_equal(KeSetEvent(&event, 0, FALSE), 0);
	KeResetEvent(&event);
	assert_int_equal(t_sleeper_end(&alone), STATUS_SUCCESS);
	assert_int_equal(t_sleeper_end(&any[0]), STATUS_WAIT_1);
	assert_int_equal(t_sleeper_end(&any[1]), STATUS_WAIT_1);
	/* And it is an ordinary event again. */
	KeSetEvent(&event, 0, FALSE);
	assert_int_equal(t_wait_for(&event, 0), STATUS_SUCCESS);
}

static void
ke_2_any_takes_the_same_object_twice_and_all_does_not(void **state)
{
	struct t_sleeper sleeper;
	KSEMAPHORE semaphore;
	PVOID objects[] = { &semaphore, &semaphore };

	CONF_COVERS("KE-2");
	(void)state;
	KeInitializeSemaphore(&semaphore, 0, 5);
	t_sleeper_start(&sleeper, objects, 2, WaitAny);
	t_await_listed(&semaphore, 2);
	KeReleaseSemaphore(&semaphore, 0, 2, FALSE);
	assert_int_equal(t_sleeper_end(&sleeper), STATUS_WAIT_0);
	assert_int_equal(KeReadStateSemaphore(&semaphore), 1);
	assert_misuse(
	    assert_int_equal(t_wait_many(2, objects, WaitAll, 0), STATUS_INVALID_PARAMETER));
}

static void
ke_2_number_of_objects_is_limited(void **state)
{
	static KSEMAPHORE semaphores[MAXIMUM_WAIT_OBJECTS + 1];
	PVOID objects[MAXIMUM_WAIT_OBJECTS + 1];
	LARGE_INTEGER none = { .QuadPart = 0 };

	CONF_COVERS("KE-2");
	(void)state;
	for (int i = 0; i <= MAXIMUM_WAIT_OBJECTS; i++) {
		KeInitializeSemaphore(&semaphores[i], 0, 1);
		objects[i] = &semaphores[i];
	}
	KeReleaseSemaphore(&semaphores[MAXIMUM_WAIT_OBJECTS - 1], 0, 1, FALSE);
	assert_int_equal(t_wait_many(MAXIMUM_WAIT_OBJECTS, objects, WaitAny, 0), STATUS_WAIT_63);
	assert_misuse(assert_int_equal(t_wait_many(MAXIMUM_WAIT_OBJECTS + 1, objects, WaitAny, 0),
	                               STATUS_INVALID_PARAMETER));
	assert_misuse(
	    assert_int_equal(t_wait_many(0, objects, WaitAny, 0), STATUS_INVALID_PARAMETER));
	assert_int_equal(KeWaitForMultipleObjects(THREAD_WAIT_OBJECTS, objects, WaitAny, Executive,
	                                          KernelMode, FALSE, &none, NULL),
	                 STATUS_TIMEOUT);
	assert_misuse(
	    assert_int_equal(KeWaitForMultipleObjects(THREAD_WAIT_OBJECTS + 1, objects, WaitAny,
	                                              Executive, KernelMode, FALSE, &none, NULL),
	                     STATUS_TIMEOUT));
}

static void
ke_2_memory_that_is_no_object_is_misuse(void **state)
{
	KSEMAPHORE semaphore;
	PVOID objects[] = { &semaphore, NULL };

	CONF_COVERS("KE-2");
	(void)state;
	KeInitializeSemaphore(&semaphore, 1, 1);
	assert_misuse(
	    assert_int_equal(t_wait_many(2, objects, WaitAny, 0), STATUS_INVALID_PARAMETER));
	semaphore.Header.Type = 77;
	assert_misuse(
	    assert_int_equal(t_wait_many(1, objects, WaitAny, 0), STATUS_INVALID_PARAMETER));
}

/* ---- stress ---------------------------------------------------------------------------------- */

enum { T_KINDS = 4, T_THREADS = 4, T_ROUNDS = 3000 };

struct t_market {
	KEVENT events[2]; /* synchronization events */
	KSEMAPHORE semaphore;
	KMUTEX mutex;
	PVOID objects[T_KINDS];
	LONG given[T_KINDS], taken[T_KINDS];
	LONG stop;
	int guarded; /* by the mutex */
	uint64_t seed;
};

static void *
t_buy(void *context)
{
	struct t_market *market = context;
	uint64_t random = market->seed ^ (uint64_t)(uintptr_t)&random;

	while (!InterlockedOr(&market->stop, 0)) {
		const bool all = t_random(&random) % 4 == 0;
		const int64_t timeout = t_random(&random) % 3 == 0 ? 0 : -50;
		const ULONG first = t_random(&random) % T_KINDS;
		const ULONG count = 1 + t_random(&random) % (T_KINDS - (uint32_t)first);
		NTSTATUS status =
		    t_wait_many(count, &market->objects[first], all ? WaitAll : WaitAny, timeout);
		ULONG from, to;

		if (status == STATUS_TIMEOUT)
			continue;
		from = all ? first : first + (ULONG)status;
		to = all ? first + count : from + 1;
		for (ULONG i = from; i < to; i++) {
			InterlockedIncrement(&market->taken[i]);
			if (i == 3) {
				market->guarded++;
				KeReleaseMutex(&market->mutex, FALSE);
			}
		}
	}
	return NULL;
}

static void
ke_2_no_signal_is_lost_or_doubled_among_waiters_of_all_kinds(void **state)
{
	struct t_market market = { .seed = t_seed() };
	pthread_t threads[T_THREADS];

	CONF_COVERS("KE-2");
	(void)state;
	for (int i = 0; i < 2; i++) {
		KeInitializeEvent(&market.events[i], SynchronizationEvent, FALSE);
		market.objects[i] = &market.events[i];
	}
	KeInitializeSemaphore(&market.semaphore, 0, MAXLONG);
	KeInitializeMutex(&market.mutex, 0);
	market.objects[2] = &market.semaphore;
	market.objects[3] = &market.mutex;
	for (int i = 0; i < T_THREADS; i++)
		threads[i] = t_thread(t_buy, &market);
	for (int i = 0; i < T_ROUNDS; i++) {
		for (int k = 0; k < 2; k++) {
			if (KeSetEvent(&market.events[k], 0, FALSE) == 0)
				market.given[k]++;
		}
		KeReleaseSemaphore(&market.semaphore, 0, 1, FALSE);
		market.given[2]++;
		if (i % 8 == 0)
			sched_yield();
	}
	InterlockedExchange(&market.stop, 1);
	for (int i = 0; i < T_THREADS; i++)
		t_join(threads[i]);
	for (int k = 0; k < 2; k++)
		assert_int_equal(market.taken[k] + KeReadStateEvent(&market.events[k]),
		                 market.given[k]);
	assert_int_equal(market.taken[2] + KeReadStateSemaphore(&market.semaphore),
	                 market.given[2]);
	assert_int_equal(market.taken[3], market.guarded);
	assert_int_equal(KeReadStateMutex(&market.mutex), 1);
	for (int k = 0; k < T_KINDS; k++)
		assert_int_equal(t_listed(market.objects[k]), 0);
}

static void *
t_set(void *context)
{
	KeSetEvent(context, 0, FALSE);
	return NULL;
}

static void
ke_2_memory_of_the_events_may_go_as_soon_as_the_wait_returns(void **state)
{
	CONF_COVERS("KE-1, KE-2");
	(void)state;
	for (int round = 0; round < 200; round++) {
		PKEVENT event = malloc(2 * sizeof(*event));
		PVOID objects[] = { &event[0], &event[1] };
		pthread_t thread;

		assert_non_null(event);
		KeInitializeEvent(&event[0], NotificationEvent, FALSE);
		KeInitializeEvent(&event[1],
		                  round % 2 == 0 ? NotificationEvent : SynchronizationEvent, FALSE);
		thread = t_thread(t_set, &event[1]);
		assert_int_equal(KeWaitForMultipleObjects(2, objects, WaitAny, Executive,
		                                          KernelMode, FALSE, NULL, NULL),
		                 STATUS_WAIT_1);
		memset(event, 0xA5, 2 * sizeof(*event));
		free(event);
		t_join(thread);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ke_2_any_takes_the_first_object_that_lets_go),
		cmocka_unit_test(ke_2_all_takes_nothing_until_all_let_go),
		cmocka_unit_test(ke_2_time_limits_of_several_objects_end_never_early),
		cmocka_unit_test(ke_2_any_sleeps_until_one_object_is_signalled),
		cmocka_unit_test(ke_2_all_is_decided_in_one_step),
		cmocka_unit_test(ke_2_waiters_of_both_kinds_go_in_order),
		cmocka_unit_test(ke_2_notification_event_lets_waiters_of_both_kinds_go),
		cmocka_unit_test(ke_2_any_takes_the_same_object_twice_and_all_does_not),
		cmocka_unit_test(ke_2_number_of_objects_is_limited),
		cmocka_unit_test(ke_2_memory_that_is_no_object_is_misuse),
		cmocka_unit_test(ke_2_no_signal_is_lost_or_doubled_among_waiters_of_all_kinds),
		cmocka_unit_test(ke_2_memory_of_the_events_may_go_as_soon_as_the_wait_returns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
