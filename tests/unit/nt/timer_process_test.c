/* SPDX-License-Identifier: MIT */
/*
 * Timers in forked children and in freed memory (KE-10). Not with the clocks of timer_test.c: their
 * lock does not survive a fork.
 */
#include "t_wait.h"

#define T_SECOND INT64_C(10000000)

static LARGE_INTEGER
t_due(int64_t value)
{
	return (LARGE_INTEGER){ .QuadPart = value };
}

static void
t_free_running(void)
{
	PKTIMER timer = ExAllocatePool2(POOL_FLAG_NON_PAGED, 4 * sizeof(*timer), 'tseT');

	KeInitializeTimer(&timer[2]);
	KeSetTimer(&timer[2], t_due(INT64_MAX), NULL);
	KeCancelTimer(&timer[2]);
	KeSetTimer(&timer[2], t_due(INT64_MIN), NULL);
	ExFreePool(timer);
}

static void
ke_10_freeing_a_timer_that_runs_is_reported_in_checked_mode(void **state)
{
	CONF_COVERS("KE-10");
	(void)state;
	if (!T_FORKED_CHILD_MAY_THREAD)
		skip();
	t_assert_aborts(t_free_running, "runs in it; call KeCancelTimer first");
}

/* What the parent set does not run in a child, and an own timer does. */
static void
ke_10_forked_child_has_timers_of_its_own(void **state)
{
	LARGE_INTEGER now;
	KTIMER timers[3];
	pid_t child;
	int status;

	CONF_COVERS("KE-10");
	(void)state;
	if (!T_FORKED_CHILD_MAY_THREAD)
		skip();
	/*
	 * The threads that run timers, one for each clock, are there and idle: while they start they hold locks of ASan's allocator,
	 * which a child would inherit and wait for when it makes a thread of its own. What is due at once needs no thread.
	 */
	KeQuerySystemTimePrecise(&now);
	for (int i = 0; i < 2; i++) {
		KeInitializeTimer(&timers[i]);
		KeSetTimer(&timers[i], t_due(i == 0 ? -T_SECOND / 20 : now.QuadPart + T_SECOND / 20), NULL);
	}
	for (int i = 0; i < 2; i++)
		assert_int_equal(t_wait_forever_for(&timers[i]), STATUS_SUCCESS);
	KeQuerySystemTimePrecise(&now);
	for (int i = 0; i < 3; i++) {
		KeInitializeTimer(&timers[i]);
		KeSetTimer(&timers[i],
		           i == 2 ? t_due(now.QuadPart + 1000 * T_SECOND) : t_due(-1000 * T_SECOND),
		           NULL);
	}
	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		for (int i = 0; i < 3; i++) {
			if (KeCancelTimer(&timers[i]))
				_exit(1);
		}
		KeSetTimer(&timers[0], t_due(-1), NULL);
		_exit(t_wait_forever_for(&timers[0]) == STATUS_SUCCESS ? 0 : 2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	for (int i = 0; i < 3; i++)
		assert_true(KeCancelTimer(&timers[i]));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ke_10_freeing_a_timer_that_runs_is_reported_in_checked_mode),
		cmocka_unit_test(ke_10_forked_child_has_timers_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
