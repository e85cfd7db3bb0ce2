/* SPDX-License-Identifier: MIT */
/*
 * Rundown protection and remove locks (KE-11).
 */
#include "t_wait.h"

#define T_TAG 'tseT'

static void
ke_11_rundown_protection_is_counted(void **state)
{
	EX_RUNDOWN_REF rundown;

	CONF_COVERS("KE-11");
	(void)state;
	ExInitializeRundownProtection(&rundown);
	assert_true(ExAcquireRundownProtection(&rundown));
	assert_true(ExAcquireRundownProtectionEx(&rundown, 3));
	ExReleaseRundownProtectionEx(&rundown, 2);
	ExReleaseRundownProtection(&rundown);
	ExReleaseRundownProtection(&rundown);
	assert_misuse(ExReleaseRundownProtection(&rundown));
	/* With nothing acquired the wait is none. */
	ExWaitForRundownProtectionRelease(&rundown);
	assert_false(ExAcquireRundownProtection(&rundown));
	assert_false(ExAcquireRundownProtectionEx(&rundown, 2));
	assert_misuse(ExReleaseRundownProtection(&rundown));
	ExWaitForRundownProtectionRelease(&rundown);
	ExRundownCompleted(&rundown);
	ExReInitializeRundownProtection(&rundown);
	assert_true(ExAcquireRundownProtection(&rundown));
	assert_misuse(ExReInitializeRundownProtection(&rundown));
	assert_misuse(ExRundownCompleted(&rundown));
	ExReleaseRundownProtection(&rundown);
}

static void *
t_wait_for_rundown(void *context)
{
	PEX_RUNDOWN_REF rundown = context;

	ExWaitForRundownProtectionRelease(rundown);
	memset(rundown, 0xA5, sizeof(*rundown));
	free(rundown);
	return NULL;
}

static void
ke_11_rundown_waits_for_the_last_release_and_may_free(void **state)
{
	CONF_COVERS("KE-11");
	(void)state;
	for (int round = 0; round < 100; round++) {
		PEX_RUNDOWN_REF rundown = malloc(sizeof(*rundown));
		pthread_t waiter;

		assert_non_null(rundown);
		ExInitializeRundownProtection(rundown);
		assert_true(ExAcquireRundownProtectionEx(rundown, 2));
		waiter = t_thread(t_wait_for_rundown, rundown);
		while (ExAcquireRundownProtection(rundown)) {
			ExReleaseRundownProtection(rundown);
			sched_yield();
		}
		ExReleaseRundownProtection(rundown);
		ExReleaseRundownProtection(rundown);
		t_join(waiter);
	}
}

struct t_guarded {
	EX_RUNDOWN_REF rundown;
	int *object; /* gone after the rundown */
};

static void *
t_use_guarded(void *context)
{
	struct t_guarded *g = context;
	int seen = 0;

	while (ExAcquireRundownProtection(&g->rundown)) {
		seen += *g->object;
		ExReleaseRundownProtection(&g->rundown);
	}
	assert_true(seen >= 0);
	return NULL;
}

static void
ke_11_nobody_is_inside_after_the_rundown(void **state)
{
	struct t_guarded g;
	pthread_t threads[3];

	CONF_COVERS("KE-11");
	(void)state;
	for (int round = 0; round < 20; round++) {
		ExInitializeRundownProtection(&g.rundown);
		g.object = calloc(1, sizeof(*g.object));
		assert_non_null(g.object);
		for (int i = 0; i < 3; i++)
			threads[i] = t_thread(t_use_guarded, &g);
		sched_yield();
		ExWaitForRundownProtectionRelease(&g.rundown);
		*g.object = -1;
		free(g.object);
		for (int i = 0; i < 3; i++)
			t_join(threads[i]);
	}
}

static void
ke_11_cache_aware_rundown_protection_is_the_same(void **state)
{
	PEX_RUNDOWN_REF_CACHE_AWARE rundown =
	    ExAllocateCacheAwareRundownProtection(NonPagedPoolNx, T_TAG);
	PEX_RUNDOWN_REF_CACHE_AWARE own = malloc(ExSizeOfRundownProtectionCacheAware());

	CONF_COVERS("KE-11");
	(void)state;
	assert_non_null(rundown);
	assert_non_null(own);
	assert_true(ExAcquireRundownProtectionCacheAware(rundown));
	assert_true(ExAcquireRundownProtectionCacheAwareEx(rundown, 2));
	ExReleaseRundownProtectionCacheAware(rundown);
	ExReleaseRundownProtectionCacheAwareEx(rundown, 2);
	ExWaitForRundownProtectionReleaseCacheAware(rundown);
	assert_false(ExAcquireRundownProtectionCacheAware(rundown));
	ExReInitializeRundownProtectionCacheAware(rundown);
	ExRundownCompletedCacheAware(rundown);
	assert_false(ExAcquireRundownProtectionCacheAware(rundown));
	ExFreeCacheAwareRundownProtection(rundown);
	ExInitializeRundownProtectionCacheAware(own, ExSizeOfRundownProtectionCacheAware());
	assert_true(ExAcquireRundownProtectionCacheAware(own));
	assert_misuse(ExInitializeRundownProtectionCacheAware(own, 0));
	free(own);
}

/* ---- remove locks ---------------------------------------------------------------------------- */

static void
ke_11_remove_lock_is_refused_once_removed(void **state)
{
	IO_REMOVE_LOCK lock;

	CONF_COVERS("KE-11");
	(void)state;
	IoInitializeRemoveLock(&lock, T_TAG, 0, 0);
	assert_int_equal(IoAcquireRemoveLock(&lock, &lock), STATUS_SUCCESS);
	assert_int_equal(IoAcquireRemoveLock(&lock, NULL), STATUS_SUCCESS);
	IoReleaseRemoveLock(&lock, NULL);
	IoReleaseRemoveLockAndWait(&lock, &lock);
	assert_int_equal(IoAcquireRemoveLock(&lock, NULL), STATUS_DELETE_PENDING);
	assert_misuse(IoReleaseRemoveLock(&lock, NULL));
	assert_misuse(IoReleaseRemoveLockAndWait(&lock, NULL));
}

static void
ke_11_remove_lock_mistakes_are_misuse(void **state)
{
	IO_REMOVE_LOCK lock;

	CONF_COVERS("KE-11");
	(void)state;
	IoInitializeRemoveLock(&lock, T_TAG, 0, 0);
	assert_misuse(IoReleaseRemoveLock(&lock, NULL));
	assert_int_equal(IoAcquireRemoveLock(&lock, NULL), STATUS_SUCCESS);
	IoReleaseRemoveLock(&lock, NULL);
	assert_misuse(IoReleaseRemoveLockAndWait(&lock, NULL));
	assert_misuse(IoInitializeRemoveLockEx(&lock, T_TAG, 0, 0, 1));
}

struct t_device {
	IO_REMOVE_LOCK lock;
};

static void *
t_use_device(void *context)
{
	struct t_device *device = context;

	IoReleaseRemoveLock(&device->lock, device);
	return NULL;
}

static void
ke_11_removal_waits_for_all_users_and_may_free(void **state)
{
	CONF_COVERS("KE-11");
	(void)state;
	for (int round = 0; round < 500; round++) {
		struct t_device *device = malloc(sizeof(*device));
		pthread_t threads[2];

		assert_non_null(device);
		IoInitializeRemoveLock(&device->lock, T_TAG, 0, 0);
		for (int i = 0; i < 3; i++)
			assert_int_equal(IoAcquireRemoveLock(&device->lock, device),
			                 STATUS_SUCCESS);
		for (int i = 0; i < 2; i++)
			threads[i] = t_thread(t_use_device, device);
		IoReleaseRemoveLockAndWait(&device->lock, device);
		memset(device, 0xA5, sizeof(*device));
		free(device);
		for (int i = 0; i < 2; i++)
			t_join(threads[i]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ke_11_rundown_protection_is_counted),
		cmocka_unit_test(ke_11_rundown_waits_for_the_last_release_and_may_free),
		cmocka_unit_test(ke_11_nobody_is_inside_after_the_rundown),
		cmocka_unit_test(ke_11_cache_aware_rundown_protection_is_the_same),
		cmocka_unit_test(ke_11_remove_lock_is_refused_once_removed),
		cmocka_unit_test(ke_11_remove_lock_mistakes_are_misuse),
		cmocka_unit_test(ke_11_removal_waits_for_all_users_and_may_free),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
