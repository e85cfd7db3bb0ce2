/* SPDX-License-Identifier: MIT */
/*
 * Semaphores (KE-2, KE-11).
 */
#include "t_wait.h"

static void
ke_11_semaphore_lets_as_many_go_as_its_count(void **state)
{
	KSEMAPHORE semaphore;

	CONF_COVERS("KE-2, KE-11");
	(void)state;
	KeInitializeSemaphore(&semaphore, 2, 3);
	assert_int_equal(KeReadStateSemaphore(&semaphore), 2);
	assert_int_equal(t_wait_for(&semaphore, 0), STATUS_SUCCESS);
	assert_int_equal(t_wait_for(&semaphore, -10), STATUS_SUCCESS);
	assert_int_equal(KeReadStateSemaphore(&semaphore), 0);
	assert_int_equal(t_wait_for(&semaphore, 0), STATUS_TIMEOUT);
	assert_int_equal(t_wait_for(&semaphore, -10), STATUS_TIMEOUT);
}

static void
ke_11_semaphore_release_returns_the_count_before(void **state)
{
	KSEMAPHORE semaphore;

	CONF_COVERS("KE-11");
	(void)state;
	KeInitializeSemaphore(&semaphore, 0, 3);
	assert_int_equal(KeReleaseSemaphore(&semaphore, IO_NO_INCREMENT, 1, FALSE), 0);
	assert_int_equal(KeReleaseSemaphore(&semaphore, IO_NO_INCREMENT, 2, FALSE), 1);
	assert_int_equal(KeReadStateSemaphore(&semaphore), 3);
}

static void
ke_11_semaphore_over_its_limit_is_misuse_and_keeps_its_count(void **state)
{
	static const LONG wrong[] = { 2, 0, -1, MAXLONG, MINLONG };
	KSEMAPHORE semaphore;

	CONF_COVERS("KE-11");
	(void)state;
	KeInitializeSemaphore(&semaphore, 2, 3);
	for (size_t i = 0; i < ARRAYSIZE(wrong); i++) {
		assert_misuse(assert_int_equal(
		    KeReleaseSemaphore(&semaphore, IO_NO_INCREMENT, wrong[i], FALSE), 2));
		assert_int_equal(KeReadStateSemaphore(&semaphore), 2);
	}
	assert_int_equal(KeReleaseSemaphore(&semaphore, IO_NO_INCREMENT, 1, FALSE), 2);
}

static void
ke_11_semaphore_parameters_are_checked(void **state)
{
	KSEMAPHORE semaphore;

	(void)state;
	assert_misuse(KeInitializeSemaphore(&semaphore, 0, 0));
	assert_int_equal(t_wait_for(&semaphore, 0), STATUS_TIMEOUT);
	assert_misuse(KeInitializeSemaphore(&semaphore, -1, 1));
	assert_misuse(KeInitializeSemaphore(&semaphore, 2, 1));
	KeInitializeSemaphore(&semaphore, 0, 1);
	assert_misuse(KeReleaseSemaphore(&semaphore, 0, 1, TRUE));
	assert_int_equal(KeReadStateSemaphore(&semaphore), 1);
	memset(&semaphore, 0, sizeof(semaphore));
	assert_misuse(KeReleaseSemaphore(&semaphore, 0, 1, FALSE));
	assert_misuse(KeReadStateSemaphore(&semaphore));
	assert_misuse(assert_int_equal(t_wait_for(&semaphore, 0), STATUS_INVALID_PARAMETER));
}

static void
ke_11_semaphore_release_lets_that_many_waiters_go(void **state)
{
	struct t_sleeper sleepers[4];
	KSEMAPHORE semaphore;
	PVOID objects[] = { &semaphore };

	CONF_COVERS("KE-11");
	(void)state;
	KeInitializeSemaphore(&semaphore, 0, 10);
	for (uint32_t i = 0; i < 4; i++) {
		t_sleeper_start(&sleepers[i], objects, 1, WaitAny);
		t_await_listed(&semaphore, i + 1);
	}
	assert_int_equal(KeReleaseSemaphore(&semaphore, 0, 3, FALSE), 0);
	/* The first to come are the first to go, and a newcomer takes nobody's place. */
	assert_int_equal(t_listed(&semaphore), 1);
	assert_int_equal(t_wait_for(&semaphore, 0), STATUS_TIMEOUT);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(t_sleeper_end(&sleepers[i]), STATUS_SUCCESS);
	assert_int_equal(KeReleaseSemaphore(&semaphore, 0, 2, FALSE), 0);
	assert_int_equal(t_sleeper_end(&sleepers[3]), STATUS_SUCCESS);
	assert_int_equal(KeReadStateSemaphore(&semaphore), 1);
}

struct t_crowd {
	KSEMAPHORE semaphore;
	LONG taken, stop, given;
};

static void *
t_take(void *context)
{
	struct t_crowd *crowd = context;

	while (!InterlockedOr(&crowd->stop, 0)) {
		if (t_wait_for(&crowd->semaphore, -20) == STATUS_SUCCESS)
			InterlockedIncrement(&crowd->taken);
	}
	return NULL;
}

static void *
t_give(void *context)
{
	struct t_crowd *crowd = context;

	for (int i = 0; i < 2000; i++) {
		KeReleaseSemaphore(&crowd->semaphore, 0, 1 + i % 2, FALSE);
		InterlockedAdd(&crowd->given, 1 + i % 2);
	}
	return NULL;
}

static void
ke_11_semaphore_count_is_exact_when_waiters_give_up(void **state)
{
	struct t_crowd crowd = { .taken = 0 };
	pthread_t takers[3], givers[2];

	CONF_COVERS("KE-11");
	(void)state;
	KeInitializeSemaphore(&crowd.semaphore, 0, MAXLONG);
	for (int i = 0; i < 3; i++)
		takers[i] = t_thread(t_take, &crowd);
	for (int i = 0; i < 2; i++)
		givers[i] = t_thread(t_give, &crowd);
	for (int i = 0; i < 2; i++)
		t_join(givers[i]);
	InterlockedExchange(&crowd.stop, 1);
	for (int i = 0; i < 3; i++)
		t_join(takers[i]);
	assert_int_equal(crowd.taken + KeReadStateSemaphore(&crowd.semaphore), crowd.given);
}

static void *
t_release(void *context)
{
	KeReleaseSemaphore(context, 0, 1, FALSE);
	return NULL;
}

static void
ke_11_semaphore_memory_may_go_as_soon_as_the_wait_returns(void **state)
{
	CONF_COVERS("KE-11");
	(void)state;
	for (int round = 0; round < 200; round++) {
		PKSEMAPHORE semaphore = malloc(sizeof(*semaphore));
		pthread_t thread;

		assert_non_null(semaphore);
		KeInitializeSemaphore(semaphore, 0, 1);
		thread = t_thread(t_release, semaphore);
		assert_int_equal(t_wait_forever_for(semaphore), STATUS_SUCCESS);
		memset(semaphore, 0xA5, sizeof(*semaphore));
		free(semaphore);
		t_join(thread);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ke_11_semaphore_lets_as_many_go_as_its_count),
		cmocka_unit_test(ke_11_semaphore_release_returns_the_count_before),
		cmocka_unit_test(ke_11_semaphore_over_its_limit_is_misuse_and_keeps_its_count),
		cmocka_unit_test(ke_11_semaphore_parameters_are_checked),
		cmocka_unit_test(ke_11_semaphore_release_lets_that_many_waiters_go),
		cmocka_unit_test(ke_11_semaphore_count_is_exact_when_waiters_give_up),
		cmocka_unit_test(ke_11_semaphore_memory_may_go_as_soon_as_the_wait_returns),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
