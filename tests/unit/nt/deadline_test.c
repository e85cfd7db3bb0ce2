/* SPDX-License-Identifier: MIT */
/*
 * Deadlines and clocks (SSR-21..28, KE-6).
 */
#include "t_nt.h"

#include "nt/nt_deadline.h"

static struct nt_deadline
t_deadline(int64_t value)
{
	const LARGE_INTEGER timeout = { .QuadPart = value };

	return nt_deadline_from_timeout(&timeout);
}

static int64_t
t_system_time(void)
{
	LARGE_INTEGER now;

	KeQuerySystemTime(&now);
	return now.QuadPart;
}

static void
ssr_21_null_is_no_limit(void **state)
{
	const struct nt_deadline deadline = nt_deadline_from_timeout(NULL);

	(void)state;
	assert_true(nt_deadline_is_infinite(&deadline));
	assert_false(nt_deadline_is_zero(&deadline));
	assert_false(nt_deadline_has_passed(&deadline));
}

static void
ssr_21_zero_does_not_wait(void **state)
{
	const struct nt_deadline deadline = t_deadline(0);
	uint32_t word = 7;

	(void)state;
	assert_true(nt_deadline_is_zero(&deadline));
	assert_true(nt_deadline_has_passed(&deadline));
	assert_false(nt_futex_wait(&word, 7, &deadline));
}

static void
ssr_22_timeout_is_not_written(void **state)
{
	const LARGE_INTEGER timeout = { .QuadPart = -20000 };
	struct nt_deadline deadline = nt_deadline_from_timeout(&timeout);
	uint32_t word = 0;

	(void)state;
	assert_false(nt_futex_wait(&word, 0, &deadline));
	assert_true(timeout.QuadPart == -20000);
}

static void
ssr_24_relative_wait_is_never_early(void **state)
{
	(void)state;
	for (int64_t units = 1; units <= 50001; units += 12500) {
		const int64_t start = t_now_100ns();
		const struct nt_deadline deadline = t_deadline(-units);
		uint32_t word = 0;

		while (nt_futex_wait(&word, 0, &deadline))
			continue;
		assert_true(nt_deadline_has_passed(&deadline));
		assert_true(t_now_100ns() - start >= units);
	}
}

static void
ssr_24_relative_time_ignores_the_wall_clock(void **state)
{
	(void)state;
	assert_int_equal(t_deadline(-1).kind, NT_DEADLINE_MONOTONIC);
	assert_int_equal(t_deadline(1).kind, NT_DEADLINE_REALTIME);
}

static void
ssr_25_absolute_time_counts_from_1601(void **state)
{
	const struct nt_deadline unix_second_two = t_deadline(INT64_C(116444736020000007));
	const time_t now = time(NULL);

	CONF_COVERS("KE-6");
	(void)state;
	assert_int_equal(unix_second_two.at.tv_sec, 2);
	assert_int_equal(unix_second_two.at.tv_nsec, 700);
	assert_in_range((t_system_time() - NT_UNIX_EPOCH_100NS) / 10000000, now, now + 60);
}

static void
ssr_25_absolute_wait_is_never_early(void **state)
{
	const int64_t end = t_system_time() + 30000;
	const struct nt_deadline deadline = t_deadline(end);
	uint32_t word = 0;

	(void)state;
	while (nt_futex_wait(&word, 0, &deadline))
		continue;
	assert_true(t_system_time() >= end);
}

static void
ssr_26_the_past_has_passed_and_is_not_zero(void **state)
{
	static const int64_t past[] = { 1, INT64_C(116444736000000000),
					INT64_C(116444736000000001) };
	uint32_t word = 0;

	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(past); i++) {
		const struct nt_deadline deadline = t_deadline(past[i]);

		assert_false(nt_deadline_is_zero(&deadline));
		assert_true(nt_deadline_has_passed(&deadline));
		assert_false(nt_futex_wait(&word, 0, &deadline));
	}
}

static void
ssr_27_overflow_is_no_limit(void **state)
{
	/* The largest span and moment whose nanoseconds fit into 63 bits, and one more. */
	const int64_t most = INT64_MAX / 100;

	(void)state;
	assert_int_equal(t_deadline(INT64_MIN).kind, NT_DEADLINE_INFINITE);
	assert_int_equal(t_deadline(INT64_MIN + 1).kind, NT_DEADLINE_INFINITE);
	assert_int_equal(t_deadline(-most - 1).kind, NT_DEADLINE_INFINITE);
	assert_int_equal(t_deadline(-most).kind, NT_DEADLINE_MONOTONIC);
	assert_int_equal(t_deadline(INT64_MAX).kind, NT_DEADLINE_INFINITE);
	assert_int_equal(t_deadline(NT_UNIX_EPOCH_100NS + most + 1).kind, NT_DEADLINE_INFINITE);
	assert_int_equal(t_deadline(NT_UNIX_EPOCH_100NS + most).kind, NT_DEADLINE_REALTIME);
}

static void
ssr_27_the_farthest_deadlines_can_be_waited_for(void **state)
{
	const int64_t most = INT64_MAX / 100;
	const struct nt_deadline far[] = { t_deadline(-most),
					   t_deadline(NT_UNIX_EPOCH_100NS + most) };
	uint32_t word = 1;

	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(far); i++) {
		assert_false(nt_deadline_has_passed(&far[i]));
		/*
		 * The value differs, so it returns; a deadline the kernel refuses would do so
		 * too, but not block.
		 */
		assert_true(nt_futex_wait(&word, 0, &far[i]));
	}
}

static int t_signals;

static void
t_on_signal(int signal_number)
{
	(void)signal_number;
	__atomic_fetch_add(&t_signals, 1, __ATOMIC_RELAXED);
}

struct t_sleeper {
	bool done;
	int64_t slept;
};

/* Until a signal came while it slept, or just before. */
static void *
t_sleep_20ms(void *context)
{
	struct t_sleeper *sleeper = context;
	LARGE_INTEGER interval = { .QuadPart = -200000 };

	do {
		const int64_t start = t_now_100ns();

		KeDelayExecutionThread(KernelMode, FALSE, &interval);
		sleeper->slept = t_now_100ns() - start;
	} while (__atomic_load_n(&t_signals, __ATOMIC_RELAXED) == 0);
	__atomic_store_n(&sleeper->done, true, __ATOMIC_RELEASE);
	return NULL;
}

static void
ssr_28_signals_do_not_end_a_wait(void **state)
{
	const struct sigaction action = { .sa_handler = t_on_signal };
	struct t_sleeper sleeper = { false, 0 };
	pthread_t thread;

	CONF_COVERS("KE-6");
	(void)state;
	sigaction(SIGUSR1, &action, NULL);
	thread = t_thread(t_sleep_20ms, &sleeper);
	do {
		pthread_kill(thread, SIGUSR1);
		sched_yield();
	} while (!__atomic_load_n(&sleeper.done, __ATOMIC_ACQUIRE));
	t_join(thread);
	assert_true(__atomic_load_n(&t_signals, __ATOMIC_RELAXED) > 0);
	assert_true(sleeper.slept >= 200000);
}

static void
ke_6_delay_without_interval_is_misuse(void **state)
{
	(void)state;
	assert_misuse(assert_int_equal(KeDelayExecutionThread(KernelMode, FALSE, NULL),
	                               STATUS_INVALID_PARAMETER));
}

static void
ke_6_zero_delay_returns(void **state)
{
	LARGE_INTEGER zero = { .QuadPart = 0 };

	CONF_COVERS("KE-6");
	(void)state;
	assert_int_equal(KeDelayExecutionThread(KernelMode, FALSE, &zero), STATUS_SUCCESS);
}

static void
ke_6_clocks_run_forward(void **state)
{
	LARGE_INTEGER frequency, first, second, ticks;
	const ULONGLONG before = KeQueryInterruptTime();

	CONF_COVERS("KE-6");
	(void)state;
	first = KeQueryPerformanceCounter(&frequency);
	KeStallExecutionProcessor(200);
	second = KeQueryPerformanceCounter(NULL);
	assert_true(frequency.QuadPart == 10000000);
	assert_true(second.QuadPart - first.QuadPart >= 2000);
	assert_true(KeQueryInterruptTime() - before >= 2000);
	KeQueryTickCount(&ticks);
	assert_true((ULONGLONG)ticks.QuadPart <= KeQueryInterruptTime() / KeQueryTimeIncrement());
}

static void
ke_6_deadline_of_interrupt_time_is_on_its_clock(void **state)
{
	const ULONGLONG now = KeQueryInterruptTime();
	const struct nt_deadline passed = nt_deadline_from_interrupt_time(now);
	const struct nt_deadline future = nt_deadline_from_interrupt_time(now + 36000000000u);
	const struct nt_deadline never = nt_deadline_from_interrupt_time(UINT64_MAX);

	CONF_COVERS("KE-6");
	(void)state;
	assert_true(nt_deadline_has_passed(&passed));
	assert_false(nt_deadline_has_passed(&future));
	assert_int_equal(future.kind, NT_DEADLINE_MONOTONIC);
	assert_int_equal(future.at.tv_sec - passed.at.tv_sec, 3600);
	assert_int_equal(passed.at.tv_nsec, now % 10000000 * 100);
	assert_true(nt_deadline_is_infinite(&never));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ssr_21_null_is_no_limit),
		cmocka_unit_test(ssr_21_zero_does_not_wait),
		cmocka_unit_test(ssr_22_timeout_is_not_written),
		cmocka_unit_test(ssr_24_relative_wait_is_never_early),
		cmocka_unit_test(ssr_24_relative_time_ignores_the_wall_clock),
		cmocka_unit_test(ssr_25_absolute_time_counts_from_1601),
		cmocka_unit_test(ssr_25_absolute_wait_is_never_early),
		cmocka_unit_test(ssr_26_the_past_has_passed_and_is_not_zero),
		cmocka_unit_test(ssr_27_overflow_is_no_limit),
		cmocka_unit_test(ssr_27_the_farthest_deadlines_can_be_waited_for),
		cmocka_unit_test(ssr_28_signals_do_not_end_a_wait),
		cmocka_unit_test(ke_6_delay_without_interval_is_misuse),
		cmocka_unit_test(ke_6_zero_delay_returns),
		cmocka_unit_test(ke_6_clocks_run_forward),
		cmocka_unit_test(ke_6_deadline_of_interrupt_time_is_on_its_clock),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
