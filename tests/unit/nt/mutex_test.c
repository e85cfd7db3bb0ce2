/* SPDX-License-Identifier: MIT */
/*
 * Mutexes and regions (KE-2, KE-11).
 */
#include "t_wait.h"

static void
ke_11_mutex_is_acquired_again_by_its_owner_only(void **state)
{
	KMUTEX mutex;

	CONF_COVERS("KE-2, KE-11");
	(void)state;
	KeInitializeMutex(&mutex, 0);
	assert_int_equal(KeReadStateMutex(&mutex), 1);
	assert_int_equal(t_wait_forever_for(&mutex), STATUS_SUCCESS);
	assert_int_equal(KeReadStateMutex(&mutex), 0);
	assert_int_equal(t_wait_for(&mutex, 0), STATUS_SUCCESS);
	assert_int_equal(KeReadStateMutex(&mutex), -1);
	assert_int_equal(KeReleaseMutex(&mutex, FALSE), -1);
	assert_int_equal(KeReleaseMutex(&mutex, FALSE), 0);
	assert_int_equal(KeReadStateMutex(&mutex), 1);
}

static void
ke_11_mutex_owner_is_in_a_critical_region(void **state)
{
	KMUTEX a, b;
	PVOID both[] = { &a, &b };

	CONF_COVERS("KE-11");
	(void)state;
	KeInitializeMutex(&a, 0);
	KeInitializeMutex(&b, 0);
	assert_false(KeAreApcsDisabled());
	t_wait_forever_for(&a);
	t_wait_forever_for(&a);
	assert_true(KeAreApcsDisabled());
	KeReleaseMutex(&a, FALSE);
	assert_true(KeAreApcsDisabled());
	KeReleaseMutex(&a, FALSE);
	assert_false(KeAreApcsDisabled());
	assert_int_equal(t_wait_many(2, both, WaitAll, 0), STATUS_WAIT_0);
	KeReleaseMutex(&a, FALSE);
	assert_true(KeAreApcsDisabled());
	KeReleaseMutex(&b, FALSE);
	assert_false(KeAreApcsDisabled());
}

static void *
t_try_and_release(void *context)
{
	PKMUTEX mutex = context;

	assert_int_equal(t_wait_for(mutex, 0), STATUS_TIMEOUT);
	assert_int_equal(t_wait_for(mutex, -10), STATUS_TIMEOUT);
	assert_misuse(assert_int_equal(KeReleaseMutex(mutex, FALSE), 0));
	return NULL;
}

static void
ke_11_mutex_released_by_another_thread_is_misuse_without_effect(void **state)
{
	KMUTEX mutex;

	CONF_COVERS("KE-11");
	(void)state;
	KeInitializeMutex(&mutex, 0);
	assert_misuse(KeReleaseMutex(&mutex, FALSE));
	assert_int_equal(KeReadStateMutex(&mutex), 1);
	t_wait_forever_for(&mutex);
	t_join(t_thread(t_try_and_release, &mutex));
	assert_int_equal(KeReadStateMutex(&mutex), 0);
	KeReleaseMutex(&mutex, FALSE);
}

static void
ke_11_mutex_goes_to_whoever_waited_first(void **state)
{
	struct t_sleeper sleepers[3];
	KMUTEX mutex;
	PVOID objects[] = { &mutex };

	CONF_COVERS("KE-11");
	(void)state;
	KeInitializeMutex(&mutex, 0);
	t_wait_forever_for(&mutex);
	for (uint32_t i = 0; i < 3; i++) {
		t_sleeper_start(&sleepers[i], objects, 1, WaitAny);
		t_await_listed(&mutex, i + 1);
	}
	assert_int_equal(KeReleaseMutex(&mutex, FALSE), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(t_sleeper_end(&sleepers[i]), STATUS_SUCCESS);
	assert_int_equal(KeReadStateMutex(&mutex), 1);
}

static void *
t_acquire_and_end(void *context)
{
	PKMUTEX mutexes = context;

	nt_set_checked(false);
	t_wait_forever_for(&mutexes[0]);
	t_wait_forever_for(&mutexes[0]);
	t_wait_forever_for(&mutexes[1]);
	return NULL;
}

static void
ke_11_mutex_of_a_thread_that_ended_is_abandoned(void **state)
{
	struct t_sleeper sleeper;
	KMUTEX mutexes[2];
	KEVENT never;
	PVOID objects[] = { &never, &mutexes[1] };
	uint64_t before;

	CONF_COVERS("KE-11");
	(void)state;
	KeInitializeEvent(&never, NotificationEvent, FALSE);
	KeInitializeMutex(&mutexes[0], 0);
	KeInitializeMutex(&mutexes[1], 0);
	before = nt_misuse_count();
	t_join(t_thread(t_acquire_and_end, mutexes));
	assert_int_equal(nt_misuse_count(), before + 1);
	assert_int_equal(t_wait_forever_for(&mutexes[0]), STATUS_ABANDONED);
	assert_int_equal(KeReleaseMutex(&mutexes[0], FALSE), 0);
	assert_int_equal(t_wait_forever_for(&mutexes[0]), STATUS_SUCCESS);
	KeReleaseMutex(&mutexes[0], FALSE);
	assert_int_equal(t_wait_many(2, objects, WaitAny, 0), STATUS_ABANDONED_WAIT_0 + 1);
	t_sleeper_start(&sleeper, objects, 2, WaitAny);
	t_await_listed(&mutexes[1], 1);
	KeReleaseMutex(&mutexes[1], FALSE);
	assert_int_equal(t_sleeper_end(&sleeper), STATUS_WAIT_1);
	t_join(t_thread(t_acquire_and_end, mutexes));
	objects[0] = &mutexes[0];
	assert_int_equal(t_wait_many(2, objects, WaitAll, 0), STATUS_ABANDONED_WAIT_0);
	KeReleaseMutex(&mutexes[0], FALSE);
	KeReleaseMutex(&mutexes[1], FALSE);
}

static void
t_release_free_mutex(void)
{
	KMUTEX mutex;

	KeInitializeMutex(&mutex, 0);
	KeReleaseMutex(&mutex, FALSE);
}

static void
ke_5_mutex_mistakes_abort_in_checked_mode(void **state)
{
	CONF_COVERS("KE-5");
	(void)state;
	t_assert_aborts(t_release_free_mutex, "by a thread that does not own it");
}

static void
ke_11_mutex_parameters_are_checked(void **state)
{
	KMUTEX mutex;

	(void)state;
	KeInitializeMutex(&mutex, 0);
	t_wait_forever_for(&mutex);
	assert_misuse(assert_int_equal(KeReleaseMutex(&mutex, TRUE), 0));
	assert_int_equal(KeReadStateMutex(&mutex), 1);
	memset(&mutex, 0, sizeof(mutex));
	assert_misuse(KeReleaseMutex(&mutex, FALSE));
	assert_misuse(KeReadStateMutex(&mutex));
}

struct t_protected {
	KMUTEX mutex;
	int value; /* plain: the mutex orders the accesses */
};

static void *
t_count(void *context)
{
	struct t_protected *p = context;

	for (int i = 0; i < 2000; i++) {
		t_wait_forever_for(&p->mutex);
		if (i % 3 == 0 && t_wait_for(&p->mutex, -1) == STATUS_SUCCESS)
			KeReleaseMutex(&p->mutex, FALSE);
		p->value++;
		KeReleaseMutex(&p->mutex, FALSE);
	}
	return NULL;
}

static void
ke_11_mutex_excludes(void **state)
{
	struct t_protected p = { .value = 0 };
	pthread_t threads[3];

	CONF_COVERS("KE-11");
	(void)state;
	KeInitializeMutex(&p.mutex, 0);
	for (int i = 0; i < 3; i++)
		threads[i] = t_thread(t_count, &p);
	for (int i = 0; i < 3; i++)
		t_join(threads[i]);
	assert_int_equal(p.value, 6000);
}

/* ---- regions --------------------------------------------------------------------------------- */

static void
ke_11_regions_nest(void **state)
{
	KIRQL old;

	CONF_COVERS("KE-11");
	(void)state;
	KeEnterCriticalRegion();
	KeEnterCriticalRegion();
	KeLeaveCriticalRegion();
	assert_true(KeAreApcsDisabled());
	assert_false(KeAreAllApcsDisabled());
	KeLeaveCriticalRegion();
	assert_false(KeAreApcsDisabled());
	KeEnterGuardedRegion();
	assert_true(KeAreApcsDisabled());
	assert_true(KeAreAllApcsDisabled());
	KeLeaveGuardedRegion();
	assert_false(KeAreAllApcsDisabled());
	KeRaiseIrql(APC_LEVEL, &old);
	assert_false(KeAreApcsDisabled());
	assert_true(KeAreAllApcsDisabled());
	KeLowerIrql(old);
}

static void
ke_11_leaving_a_region_that_was_not_entered_is_misuse(void **state)
{
	CONF_COVERS("KE-11");
	(void)state;
	assert_misuse(KeLeaveCriticalRegion());
	assert_misuse(KeLeaveGuardedRegion());
	assert_false(KeAreApcsDisabled());
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ke_11_mutex_is_acquired_again_by_its_owner_only),
		cmocka_unit_test(ke_11_mutex_owner_is_in_a_critical_region),
		cmocka_unit_test(ke_11_mutex_released_by_another_thread_is_misuse_without_effect),
		cmocka_unit_test(ke_11_mutex_goes_to_whoever_waited_first),
		cmocka_unit_test(ke_11_mutex_of_a_thread_that_ended_is_abandoned),
		cmocka_unit_test(ke_5_mutex_mistakes_abort_in_checked_mode),
		cmocka_unit_test(ke_11_mutex_parameters_are_checked),
		cmocka_unit_test(ke_11_mutex_excludes),
		cmocka_unit_test(ke_11_regions_nest),
		cmocka_unit_test(ke_11_leaving_a_region_that_was_not_entered_is_misuse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
