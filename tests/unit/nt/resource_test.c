/* SPDX-License-Identifier: MIT */
/*
 * Resources (KE-11).
 */
#include "t_wait.h"

void *__real_realloc(void *block, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);

static _Atomic bool t_no_memory;

void *
__wrap_realloc(void *block, size_t bytes)
{
	return t_no_memory ? NULL : __real_realloc(block, bytes);
}

typedef BOOLEAN t_acquire_fn(PERESOURCE resource, BOOLEAN wait);

/* A thread that acquires once, says so, and releases when told. */
struct t_user {
	PERESOURCE resource;
	t_acquire_fn *acquire;
	KEVENT has, leave;
	BOOLEAN acquired;
	pthread_t thread;
};

static void *
t_use(void *context)
{
	struct t_user *user = context;

	KeEnterCriticalRegion();
	user->acquired = user->acquire(user->resource, TRUE);
	KeSetEvent(&user->has, 0, FALSE);
	t_wait_forever_for(&user->leave);
	ExReleaseResourceLite(user->resource);
	KeLeaveCriticalRegion();
	return NULL;
}

static void
t_user_start(struct t_user *user, PERESOURCE resource, t_acquire_fn *acquire)
{
	user->resource = resource;
	user->acquire = acquire;
	KeInitializeEvent(&user->has, NotificationEvent, FALSE);
	KeInitializeEvent(&user->leave, NotificationEvent, FALSE);
	user->thread = t_thread(t_use, user);
}

static void
t_user_await(struct t_user *user)
{
	t_wait_forever_for(&user->has);
	assert_true(user->acquired);
}

static bool
t_user_has(struct t_user *user)
{
	return KeReadStateEvent(&user->has) != 0;
}

static void
t_user_end(struct t_user *user)
{
	KeSetEvent(&user->leave, 0, FALSE);
	t_join(user->thread);
}

static void
t_await_waiters(PERESOURCE resource, ULONG shared, ULONG exclusive)
{
	while (ExGetSharedWaiterCount(resource) != shared ||
	       ExGetExclusiveWaiterCount(resource) != exclusive)
		sched_yield();
}

static void
ke_11_resource_is_acquired_again_by_its_owner(void **state)
{
	ERESOURCE resource;

	CONF_COVERS("KE-11");
	(void)state;
	assert_int_equal(ExInitializeResourceLite(&resource), STATUS_SUCCESS);
	KeEnterCriticalRegion();
	assert_true(ExAcquireResourceExclusiveLite(&resource, TRUE));
	assert_true(ExAcquireResourceExclusiveLite(&resource, FALSE));
	assert_true(ExAcquireResourceSharedLite(&resource, TRUE));
	assert_true(ExAcquireSharedStarveExclusive(&resource, FALSE));
	assert_true(ExAcquireSharedWaitForExclusive(&resource, FALSE));
	assert_true(ExIsResourceAcquiredExclusiveLite(&resource));
	assert_int_equal(ExIsResourceAcquiredSharedLite(&resource), 5);
	for (int i = 0; i < 5; i++)
		ExReleaseResourceLite(&resource);
	assert_false(ExIsResourceAcquiredExclusiveLite(&resource));
	assert_int_equal(ExIsResourceAcquiredLite(&resource), 0);
	KeLeaveCriticalRegion();
	assert_int_equal(ExDeleteResourceLite(&resource), STATUS_SUCCESS);
}

static void
ke_11_resource_is_shared_and_not_owned_meanwhile(void **state)
{
	struct t_user users[6];
	ERESOURCE resource;

	CONF_COVERS("KE-11");
	(void)state;
	ExInitializeResourceLite(&resource);
	KeEnterCriticalRegion();
	for (int i = 0; i < 6; i++) {
		t_user_start(&users[i], &resource, ExAcquireResourceSharedLite);
		t_user_await(&users[i]);
	}
	assert_false(ExTryToAcquireResourceExclusiveLite(&resource));
	assert_true(ExAcquireResourceSharedLite(&resource, FALSE));
	assert_true(ExAcquireResourceSharedLite(&resource, FALSE));
	assert_int_equal(ExIsResourceAcquiredSharedLite(&resource), 2);
	assert_false(ExIsResourceAcquiredExclusiveLite(&resource));
	ExReleaseResourceLite(&resource);
	ExReleaseResourceLite(&resource);
	for (int i = 0; i < 6; i++) {
		assert_false(ExTryToAcquireResourceExclusiveLite(&resource));
		t_user_end(&users[i]);
	}
	assert_true(ExTryToAcquireResourceExclusiveLite(&resource));
	ExReleaseResourceLite(&resource);
	KeLeaveCriticalRegion();
	assert_int_equal(ExDeleteResourceLite(&resource), STATUS_SUCCESS);
}

static void
ke_11_resource_keeps_others_out_while_it_is_owned(void **state)
{
	struct t_user owner;
	ERESOURCE resource;

	CONF_COVERS("KE-11");
	(void)state;
	ExInitializeResourceLite(&resource);
	t_user_start(&owner, &resource, ExAcquireResourceExclusiveLite);
	t_user_await(&owner);
	KeEnterCriticalRegion();
	assert_false(ExAcquireResourceExclusiveLite(&resource, FALSE));
	assert_false(ExAcquireResourceSharedLite(&resource, FALSE));
	assert_false(ExAcquireSharedStarveExclusive(&resource, FALSE));
	assert_false(ExAcquireSharedWaitForExclusive(&resource, FALSE));
	KeLeaveCriticalRegion();
	t_user_end(&owner);
	ExDeleteResourceLite(&resource);
}

static void
ke_11_resource_is_handed_over_in_turn(void **state)
{
	struct t_user sharers[2], owner, late;
	ERESOURCE resource;

	CONF_COVERS("KE-11");
	(void)state;
	ExInitializeResourceLite(&resource);
	KeEnterCriticalRegion();
	ExAcquireResourceSharedLite(&resource, TRUE);
	t_user_start(&owner, &resource, ExAcquireResourceExclusiveLite);
	t_await_waiters(&resource, 0, 1);
	/* New ones wait behind it, those that share already do not, and the greedy neither. */
	assert_false(ExAcquireSharedWaitForExclusive(&resource, FALSE));
	assert_true(ExAcquireResourceSharedLite(&resource, FALSE));
	ExReleaseResourceLite(&resource);
	t_user_start(&late, &resource, ExAcquireSharedStarveExclusive);
	t_user_await(&late);
	for (ULONG i = 0; i < 2; i++) {
		t_user_start(&sharers[i], &resource,
		             i == 0 ? ExAcquireResourceSharedLite
		                    : ExAcquireSharedWaitForExclusive);
		t_await_waiters(&resource, i + 1, 1);
	}
	t_user_end(&late);
	assert_false(t_user_has(&owner));
	ExReleaseResourceLite(&resource);
	t_user_await(&owner);
	assert_false(t_user_has(&sharers[0]));
	t_user_end(&owner);
	t_user_await(&sharers[0]);
	t_user_await(&sharers[1]);
	t_user_end(&sharers[0]);
	t_user_end(&sharers[1]);
	KeLeaveCriticalRegion();
	assert_int_equal(ExDeleteResourceLite(&resource), STATUS_SUCCESS);
}

static void
ke_11_owner_hands_over_to_the_next_owner_without_sharers(void **state)
{
	struct t_user owners[2];
	ERESOURCE resource;

	CONF_COVERS("KE-11");
	(void)state;
	ExInitializeResourceLite(&resource);
	ExEnterCriticalRegionAndAcquireResourceExclusive(&resource);
	for (ULONG i = 0; i < 2; i++) {
		t_user_start(&owners[i], &resource, ExAcquireResourceExclusiveLite);
		t_await_waiters(&resource, 0, i + 1);
	}
	ExReleaseResourceAndLeaveCriticalRegion(&resource);
	t_user_await(&owners[0]);
	assert_false(t_user_has(&owners[1]));
	t_user_end(&owners[0]);
	t_user_await(&owners[1]);
	t_user_end(&owners[1]);
	ExDeleteResourceLite(&resource);
}

static void
ke_11_owner_becomes_one_of_the_sharers(void **state)
{
	struct t_user sharer, owner;
	ERESOURCE resource;

	CONF_COVERS("KE-11");
	(void)state;
	ExInitializeResourceLite(&resource);
	KeEnterCriticalRegion();
	ExAcquireResourceExclusiveLite(&resource, TRUE);
	ExAcquireResourceExclusiveLite(&resource, TRUE);
	t_user_start(&owner, &resource, ExAcquireResourceExclusiveLite);
	t_await_waiters(&resource, 0, 1);
	t_user_start(&sharer, &resource, ExAcquireResourceSharedLite);
	t_await_waiters(&resource, 1, 1);
	ExConvertExclusiveToSharedLite(&resource);
	t_user_await(&sharer);
	assert_false(ExIsResourceAcquiredExclusiveLite(&resource));
	assert_int_equal(ExIsResourceAcquiredSharedLite(&resource), 2);
	assert_misuse(ExConvertExclusiveToSharedLite(&resource));
	ExReleaseResourceLite(&resource);
	ExReleaseResourceLite(&resource);
	assert_false(t_user_has(&owner));
	t_user_end(&sharer);
	t_user_await(&owner);
	t_user_end(&owner);
	KeLeaveCriticalRegion();
	ExDeleteResourceLite(&resource);
}

static void *
t_release_for(void *context)
{
	void **c = context;

	ExReleaseResourceForThreadLite(c[0], (ERESOURCE_THREAD)c[1]);
	return NULL;
}

static void
ke_11_resource_is_released_for_another_thread(void **state)
{
	PVOID owner = (PVOID)((uintptr_t)KeGetCurrentThread() | 3);
	ERESOURCE resource;
	void *context[] = { &resource, (void *)ExGetCurrentResourceThread() };

	CONF_COVERS("KE-11");
	(void)state;
	ExInitializeResourceLite(&resource);
	for (int i = 0; i < 2; i++) {
		KeEnterCriticalRegion();
		if (i == 0)
			ExAcquireResourceExclusiveLite(&resource, TRUE);
		else
			ExAcquireResourceSharedLite(&resource, TRUE);
		t_join(t_thread(t_release_for, context));
		assert_int_equal(ExIsResourceAcquiredSharedLite(&resource), 0);
		/* And for an owner that is no thread. */
		if (i == 0)
			ExAcquireResourceExclusiveLite(&resource, TRUE);
		else
			ExAcquireResourceSharedLite(&resource, TRUE);
		ExSetResourceOwnerPointer(&resource, owner);
		assert_int_equal(ExIsResourceAcquiredSharedLite(&resource), 0);
		assert_misuse(ExReleaseResourceLite(&resource));
		ExReleaseResourceForThreadLite(&resource, (ERESOURCE_THREAD)owner);
		KeLeaveCriticalRegion();
	}
	assert_misuse(ExSetResourceOwnerPointer(&resource, owner));
	assert_misuse(ExSetResourceOwnerPointer(&resource, &resource));
	assert_int_equal(ExDeleteResourceLite(&resource), STATUS_SUCCESS);
}

static void
ke_11_resource_mistakes_are_misuse(void **state)
{
	ERESOURCE resource;

	CONF_COVERS("KE-5, KE-11");
	(void)state;
	ExInitializeResourceLite(&resource);
	assert_misuse(ExReleaseResourceLite(&resource));
	assert_misuse(ExReleaseResourceForThreadLite(&resource, 0));
	assert_misuse(ExAcquireResourceSharedLite(&resource, TRUE));
	KeEnterCriticalRegion();
	assert_misuse(assert_false(ExAcquireResourceExclusiveLite(&resource, TRUE)));
	assert_misuse(assert_int_equal(ExDeleteResourceLite(&resource), STATUS_UNSUCCESSFUL));
	assert_misuse(assert_int_equal(ExReinitializeResourceLite(&resource), STATUS_UNSUCCESSFUL));
	ExReleaseResourceLite(&resource);
	assert_int_equal(ExReinitializeResourceLite(&resource), STATUS_SUCCESS);
	assert_true(ExAcquireResourceExclusiveLite(&resource, TRUE));
	ExReleaseResourceLite(&resource);
	KeLeaveCriticalRegion();
	ExDisableResourceBoostLite(&resource);
	assert_int_equal(ExDeleteResourceLite(&resource), STATUS_SUCCESS);
}

static void
ke_11_resource_in_a_critical_region_of_its_own(void **state)
{
	ERESOURCE resource;

	CONF_COVERS("KE-11");
	(void)state;
	ExInitializeResourceLite(&resource);
	assert_null(ExEnterCriticalRegionAndAcquireResourceShared(&resource));
	assert_null(ExEnterCriticalRegionAndAcquireSharedWaitForExclusive(&resource));
	assert_true(KeAreApcsDisabled());
	assert_int_equal(ExIsResourceAcquiredSharedLite(&resource), 2);
	ExReleaseResourceAndLeaveCriticalRegion(&resource);
	ExReleaseResourceAndLeaveCriticalRegion(&resource);
	assert_false(KeAreApcsDisabled());
	assert_int_equal(ExDeleteResourceLite(&resource), STATUS_SUCCESS);
}

static void
ke_11_resource_works_without_memory(void **state)
{
	struct t_user user;
	ERESOURCE resource;

	CONF_COVERS("KE-11");
	(void)state;
	ExInitializeResourceLite(&resource);
	(void)KeGetCurrentThread();
	t_no_memory = true;
	KeEnterCriticalRegion();
	assert_true(ExAcquireResourceSharedLite(&resource, TRUE));
	t_user_start(&user, &resource, ExAcquireResourceExclusiveLite);
	t_await_waiters(&resource, 0, 1);
	ExReleaseResourceLite(&resource);
	t_no_memory = false;
	t_user_await(&user);
	t_user_end(&user);
	assert_misuse(ExReleaseResourceLite(&resource));
	KeLeaveCriticalRegion();
	assert_int_equal(ExDeleteResourceLite(&resource), STATUS_SUCCESS);
}

struct t_shared {
	ERESOURCE resource;
	int a, b;
	uint64_t seed;
};

static void *
t_use_often(void *context)
{
	struct t_shared *s = context;
	uint64_t random = s->seed ^ (uint64_t)(uintptr_t)&random;

	KeEnterCriticalRegion();
	for (int i = 0; i < 1500; i++) {
		const uint32_t kind = t_random(&random) % 6;

		if (kind < 2) {
			ExAcquireResourceExclusiveLite(&s->resource, TRUE);
			s->a++;
			s->b++;
			if (kind == 1) {
				ExConvertExclusiveToSharedLite(&s->resource);
				assert_int_equal(s->a, s->b);
			}
		} else if (kind == 2) {
			if (!ExAcquireResourceSharedLite(&s->resource, FALSE))
				continue;
			assert_int_equal(s->a, s->b);
		} else if (kind == 3) {
			ExAcquireSharedStarveExclusive(&s->resource, TRUE);
			assert_int_equal(s->a, s->b);
		} else {
			ExAcquireResourceSharedLite(&s->resource, TRUE);
			ExAcquireResourceSharedLite(&s->resource, TRUE);
			assert_int_equal(s->a, s->b);
			ExReleaseResourceLite(&s->resource);
		}
		ExReleaseResourceLite(&s->resource);
	}
	KeLeaveCriticalRegion();
	return NULL;
}

static void
ke_11_resource_excludes(void **state)
{
	struct t_shared s = { .seed = t_seed() };
	pthread_t threads[4];

	CONF_COVERS("KE-11");
	(void)state;
	ExInitializeResourceLite(&s.resource);
	for (int i = 0; i < 4; i++)
		threads[i] = t_thread(t_use_often, &s);
	for (int i = 0; i < 4; i++)
		t_join(threads[i]);
	assert_int_equal(s.a, s.b);
	assert_int_equal(ExDeleteResourceLite(&s.resource), STATUS_SUCCESS);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ke_11_resource_is_acquired_again_by_its_owner),
		cmocka_unit_test(ke_11_resource_is_shared_and_not_owned_meanwhile),
		cmocka_unit_test(ke_11_resource_keeps_others_out_while_it_is_owned),
		cmocka_unit_test(ke_11_resource_is_handed_over_in_turn),
		cmocka_unit_test(ke_11_owner_hands_over_to_the_next_owner_without_sharers),
		cmocka_unit_test(ke_11_owner_becomes_one_of_the_sharers),
		cmocka_unit_test(ke_11_resource_is_released_for_another_thread),
		cmocka_unit_test(ke_11_resource_mistakes_are_misuse),
		cmocka_unit_test(ke_11_resource_in_a_critical_region_of_its_own),
		cmocka_unit_test(ke_11_resource_works_without_memory),
		cmocka_unit_test(ke_11_resource_excludes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
