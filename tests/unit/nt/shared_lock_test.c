/* SPDX-License-Identifier: MIT */
/*
 * Reader/writer spin locks, push locks, guarded mutexes, queued spin locks (KE-3, KE-11).
 */
#include "t_wait.h"

/* Bits of a lock's word; see nt_rwlock.c. */
#define T_EXCLUSIVE 0x80000000u
#define T_SLEEPERS 0x40000000u
#define T_WANTED 0x20000000u

static uint32_t
t_word(void *lock)
{
	return __atomic_load_n((uint32_t *)lock, __ATOMIC_ACQUIRE);
}

static void
t_await_bits(void *lock, uint32_t bits)
{
	while ((t_word(lock) & bits) != bits)
		sched_yield();
}

static void
ke_11_spin_lock_is_shared_by_many_or_owned_by_one(void **state)
{
	EX_SPIN_LOCK lock = 0;
	KIRQL old;

	CONF_COVERS("KE-11");
	(void)state;
	old = ExAcquireSpinLockShared(&lock);
	assert_int_equal(KeGetCurrentIrql(), DISPATCH_LEVEL);
	assert_false(ExTryAcquireSpinLockExclusiveAtDpcLevel(&lock));
	assert_true(ExTryAcquireSpinLockSharedAtDpcLevel(&lock));
	ExReleaseSpinLockSharedFromDpcLevel(&lock);
	ExReleaseSpinLockShared(&lock, old);
	assert_int_equal(KeGetCurrentIrql(), PASSIVE_LEVEL);
	assert_int_equal(lock, 0);
	old = ExAcquireSpinLockExclusive(&lock);
	assert_int_equal(KeGetCurrentIrql(), DISPATCH_LEVEL);
	assert_false(ExTryAcquireSpinLockSharedAtDpcLevel(&lock));
	ExReleaseSpinLockExclusive(&lock, old);
	assert_int_equal(lock, 0);
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	ExAcquireSpinLockSharedAtDpcLevel(&lock);
	ExReleaseSpinLockSharedFromDpcLevel(&lock);
	ExAcquireSpinLockExclusiveAtDpcLevel(&lock);
	ExReleaseSpinLockExclusiveFromDpcLevel(&lock);
	assert_true(ExTryAcquireSpinLockExclusiveAtDpcLevel(&lock));
	ExReleaseSpinLockExclusiveFromDpcLevel(&lock);
	KeLowerIrql(old);
}

static void *
t_share_and_go(void *context)
{
	const KIRQL old = ExAcquireSpinLockShared(context);

	ExReleaseSpinLockShared(context, old);
	return NULL;
}

static void *
t_own_and_go(void *context)
{
	const KIRQL old = ExAcquireSpinLockExclusive(context);

	ExReleaseSpinLockExclusive(context, old);
	return NULL;
}

static void
ke_11_who_wants_the_spin_lock_alone_goes_before_new_sharers(void **state)
{
	EX_SPIN_LOCK lock = 0;
	pthread_t writer, reader;
	KIRQL old;

	CONF_COVERS("KE-11");
	(void)state;
	old = ExAcquireSpinLockShared(&lock);
	writer = t_thread(t_own_and_go, &lock);
	t_await_bits(&lock, T_WANTED | T_SLEEPERS);
	/* One that shares it already may do so again. */
	ExAcquireSpinLockSharedAtDpcLevel(&lock);
	ExReleaseSpinLockSharedFromDpcLevel(&lock);
	reader = t_thread(t_share_and_go, &lock);
	assert_int_equal(t_word(&lock) & 0xFFFF, 1);
	ExReleaseSpinLockShared(&lock, old);
	t_join(writer);
	t_join(reader);
	assert_int_equal(lock, 0);
}

static void *
t_try_to_share(void *context)
{
	KIRQL old;

	KeRaiseIrql(DISPATCH_LEVEL, &old);
	*(bool *)((void **)context)[1] =
	    ExTryAcquireSpinLockSharedAtDpcLevel(((void **)context)[0]);
	KeLowerIrql(old);
	return NULL;
}

static void
ke_11_new_sharer_does_not_get_a_wanted_spin_lock(void **state)
{
	EX_SPIN_LOCK lock = 0;
	bool shared = true;
	void *context[] = { &lock, &shared };
	pthread_t writer;
	KIRQL old;

	CONF_COVERS("KE-11");
	(void)state;
	old = ExAcquireSpinLockShared(&lock);
	writer = t_thread(t_own_and_go, &lock);
	t_await_bits(&lock, T_WANTED);
	t_join(t_thread(t_try_to_share, context));
	assert_false(shared);
	ExReleaseSpinLockShared(&lock, old);
	t_join(writer);
}

static void *
t_hold_shared(void *context)
{
	void **c = context;
	const KIRQL old = ExAcquireSpinLockShared(c[0]);

	InterlockedIncrement(c[1]);
	while (InterlockedOr(c[2], 0) == 0)
		sched_yield();
	ExReleaseSpinLockShared(c[0], old);
	return NULL;
}

static void
ke_11_only_sharer_of_a_spin_lock_becomes_its_owner(void **state)
{
	EX_SPIN_LOCK lock = 0;
	LONG here = 0, leave = 0;
	void *context[] = { &lock, &here, &leave };
	pthread_t other;
	KIRQL old;

	CONF_COVERS("KE-11");
	(void)state;
	old = ExAcquireSpinLockShared(&lock);
	assert_true(ExTryConvertSharedSpinLockExclusive(&lock));
	assert_int_equal(t_word(&lock), T_EXCLUSIVE);
	assert_misuse(assert_false(ExTryConvertSharedSpinLockExclusive(&lock)));
	ExReleaseSpinLockExclusive(&lock, old);
	other = t_thread(t_hold_shared, context);
	while (InterlockedOr(&here, 0) == 0)
		sched_yield();
	old = ExAcquireSpinLockShared(&lock);
	assert_false(ExTryConvertSharedSpinLockExclusive(&lock));
	InterlockedExchange(&leave, 1);
	t_join(other);
	ExAcquireSpinLockSharedAtDpcLevel(&lock);
	assert_false(ExTryConvertSharedSpinLockExclusive(&lock));
	ExReleaseSpinLockSharedFromDpcLevel(&lock);
	assert_true(ExTryConvertSharedSpinLockExclusive(&lock));
	ExReleaseSpinLockExclusive(&lock, old);
	assert_int_equal(lock, 0);
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	assert_misuse(assert_false(ExTryConvertSharedSpinLockExclusive(&lock)));
	KeLowerIrql(old);
}

static void
ke_11_spin_lock_mistakes_are_misuse_and_leave_it_usable(void **state)
{
	EX_SPIN_LOCK lock = 0;
	KIRQL old;

	CONF_COVERS("KE-5, KE-11");
	(void)state;
	old = ExAcquireSpinLockExclusive(&lock);
	assert_misuse(ExAcquireSpinLockExclusiveAtDpcLevel(&lock));
	assert_misuse(ExAcquireSpinLockSharedAtDpcLevel(&lock));
	ExReleaseSpinLockSharedFromDpcLevel(&lock);
	ExReleaseSpinLockExclusiveFromDpcLevel(&lock);
	assert_int_equal(t_word(&lock), T_EXCLUSIVE);
	ExReleaseSpinLockExclusive(&lock, old);
	assert_int_equal(lock, 0);
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	assert_misuse(ExReleaseSpinLockExclusiveFromDpcLevel(&lock));
	assert_misuse(ExReleaseSpinLockSharedFromDpcLevel(&lock));
	assert_int_equal(lock, 0);
	ExAcquireSpinLockSharedAtDpcLevel(&lock);
	assert_misuse(ExAcquireSpinLockExclusiveAtDpcLevel(&lock));
	ExReleaseSpinLockSharedFromDpcLevel(&lock);
	assert_misuse(ExReleaseSpinLockExclusiveFromDpcLevel(&lock));
	assert_int_equal(lock, 0);
	KeLowerIrql(old);
	assert_misuse(ExAcquireSpinLockSharedAtDpcLevel(&lock));
	assert_misuse(ExReleaseSpinLockSharedFromDpcLevel(&lock));
	/* Memory that becomes another lock is forgotten. */
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	ExAcquireSpinLockExclusiveAtDpcLevel(&lock);
	lock = 0;
	ExAcquireSpinLockExclusiveAtDpcLevel(&lock);
	ExReleaseSpinLockExclusiveFromDpcLevel(&lock);
	KeLowerIrql(old);
}

static void
ke_11_more_locks_at_once_than_are_remembered_work(void **state)
{
	enum { COUNT = 40 };
	EX_SPIN_LOCK locks[COUNT] = { 0 };
	KIRQL old;

	CONF_COVERS("KE-11");
	(void)state;
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	for (int i = 0; i < COUNT; i++) {
		if (i % 2 == 0)
			ExAcquireSpinLockSharedAtDpcLevel(&locks[i]);
		else
			ExAcquireSpinLockExclusiveAtDpcLevel(&locks[i]);
	}
	assert_true(ExTryConvertSharedSpinLockExclusive(&locks[COUNT - 2]));
	for (int i = 0; i < COUNT; i++) {
		if (i % 2 == 0 && i != COUNT - 2)
			ExReleaseSpinLockSharedFromDpcLevel(&locks[i]);
		else
			ExReleaseSpinLockExclusiveFromDpcLevel(&locks[i]);
		assert_int_equal(locks[i], 0);
	}
	KeLowerIrql(old);
}

struct t_table {
	EX_SPIN_LOCK spin;
	EX_PUSH_LOCK push;
	int a, b; /* always equal for who has the lock; plain */
};

static void *
t_use_spin(void *context)
{
	struct t_table *t = context;

	for (int i = 0; i < 3000; i++) {
		KIRQL old;

		if (i % 4 == 0) {
			old = ExAcquireSpinLockExclusive(&t->spin);
			t->a++;
			t->b++;
			ExReleaseSpinLockExclusive(&t->spin, old);
		} else {
			old = ExAcquireSpinLockShared(&t->spin);
			assert_int_equal(t->a, t->b);
			if (i % 4 == 1 && ExTryConvertSharedSpinLockExclusive(&t->spin)) {
				t->a++;
				t->b++;
				ExReleaseSpinLockExclusive(&t->spin, old);
			} else {
				ExReleaseSpinLockShared(&t->spin, old);
			}
		}
	}
	return NULL;
}

static void *
t_use_push(void *context)
{
	struct t_table *t = context;

	for (int i = 0; i < 3000; i++) {
		KeEnterCriticalRegion();
		if (i % 4 == 0) {
			ExAcquirePushLockExclusive(&t->push);
			t->a++;
			t->b++;
			ExReleasePushLockExclusive(&t->push);
		} else {
			ExAcquirePushLockShared(&t->push);
			assert_int_equal(t->a, t->b);
			ExReleasePushLockShared(&t->push);
		}
		KeLeaveCriticalRegion();
	}
	return NULL;
}

static void
ke_11_locks_exclude(void **state)
{
	static void *(*const users[])(void *) = { t_use_spin, t_use_push };

	CONF_COVERS("KE-11");
	(void)state;
	for (size_t u = 0; u < ARRAYSIZE(users); u++) {
		struct t_table t = { .a = 0 };
		pthread_t threads[4];

		ExInitializePushLock(&t.push);
		for (int i = 0; i < 4; i++)
			threads[i] = t_thread(users[u], &t);
		for (int i = 0; i < 4; i++)
			t_join(threads[i]);
		assert_int_equal(t.a, t.b);
		assert_true(t.a >= 3000);
		assert_int_equal(t.spin, 0);
		assert_int_equal(t.push, 0);
	}
}

static void
ke_11_push_lock_needs_a_critical_region(void **state)
{
	EX_PUSH_LOCK lock;
	KIRQL old;

	CONF_COVERS("KE-5, KE-11");
	(void)state;
	ExInitializePushLock(&lock);
	assert_misuse(ExAcquirePushLockShared(&lock));
	assert_misuse(ExReleasePushLockShared(&lock));
	KeRaiseIrql(APC_LEVEL, &old);
	ExAcquirePushLockExclusive(&lock);
	ExReleasePushLockExclusive(&lock);
	KeLowerIrql(old);
	KeEnterCriticalRegion();
	ExAcquirePushLockShared(&lock);
	assert_misuse(ExAcquirePushLockShared(&lock));
	ExReleasePushLockShared(&lock);
	ExReleasePushLockShared(&lock);
	assert_int_equal(lock, 0);
	KeLeaveCriticalRegion();
}

/* ---- guarded mutexes ------------------------------------------------------------------------- */

static void *
t_try_guarded(void *context)
{
	assert_false(KeTryToAcquireGuardedMutex(context));
	assert_false(KeAreAllApcsDisabled());
	return NULL;
}

static void
ke_11_guarded_mutex_puts_its_owner_in_a_guarded_region(void **state)
{
	KGUARDED_MUTEX mutex;

	CONF_COVERS("KE-11");
	(void)state;
	KeInitializeGuardedMutex(&mutex);
	KeAcquireGuardedMutex(&mutex);
	assert_true(KeAreAllApcsDisabled());
	assert_int_equal(KeGetCurrentIrql(), PASSIVE_LEVEL);
	t_join(t_thread(t_try_guarded, &mutex));
	KeReleaseGuardedMutex(&mutex);
	assert_false(KeAreAllApcsDisabled());
	assert_true(KeTryToAcquireGuardedMutex(&mutex));
	KeReleaseGuardedMutex(&mutex);
	KeEnterGuardedRegion();
	KeAcquireGuardedMutexUnsafe(&mutex);
	KeReleaseGuardedMutexUnsafe(&mutex);
	KeLeaveGuardedRegion();
	assert_misuse(KeAcquireGuardedMutexUnsafe(&mutex));
	KeReleaseGuardedMutexUnsafe(&mutex);
}

struct t_guarded {
	KGUARDED_MUTEX mutex;
	int count;
};

static void *
t_count_guarded(void *context)
{
	struct t_guarded *g = context;

	for (int i = 0; i < 2000; i++) {
		KeAcquireGuardedMutex(&g->mutex);
		g->count++;
		KeReleaseGuardedMutex(&g->mutex);
	}
	return NULL;
}

static void
ke_11_guarded_mutex_excludes(void **state)
{
	struct t_guarded g = { .count = 0 };
	pthread_t threads[3];

	CONF_COVERS("KE-11");
	(void)state;
	KeInitializeGuardedMutex(&g.mutex);
	for (int i = 0; i < 3; i++)
		threads[i] = t_thread(t_count_guarded, &g);
	for (int i = 0; i < 3; i++)
		t_join(threads[i]);
	assert_int_equal(g.count, 6000);
}

/* ---- queued spin locks ----------------------------------------------------------------------- */

struct t_queued {
	KSPIN_LOCK lock;
	int count;
};

static void *
t_count_queued(void *context)
{
	struct t_queued *q = context;

	for (int i = 0; i < 2000; i++) {
		KLOCK_QUEUE_HANDLE handle;

		KeAcquireInStackQueuedSpinLock(&q->lock, &handle);
		q->count++;
		KeReleaseInStackQueuedSpinLock(&handle);
	}
	return NULL;
}

static void
ke_3_queued_spin_lock_excludes_and_restores_the_level(void **state)
{
	struct t_queued q = { .count = 0 };
	KLOCK_QUEUE_HANDLE handle;
	pthread_t threads[3];
	KIRQL old;

	CONF_COVERS("KE-3");
	(void)state;
	KeInitializeSpinLock(&q.lock);
	for (int i = 0; i < 3; i++)
		threads[i] = t_thread(t_count_queued, &q);
	for (int i = 0; i < 3; i++)
		t_join(threads[i]);
	assert_int_equal(q.count, 6000);
	KeAcquireInStackQueuedSpinLock(&q.lock, &handle);
	assert_int_equal(KeGetCurrentIrql(), DISPATCH_LEVEL);
	assert_false(KeTestSpinLock(&q.lock));
	KeReleaseInStackQueuedSpinLock(&handle);
	assert_int_equal(KeGetCurrentIrql(), PASSIVE_LEVEL);
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	KeAcquireInStackQueuedSpinLockAtDpcLevel(&q.lock, &handle);
	KeReleaseInStackQueuedSpinLockFromDpcLevel(&handle);
	KeAcquireInStackQueuedSpinLockForDpc(&q.lock, &handle);
	KeReleaseInStackQueuedSpinLockForDpc(&handle);
	assert_int_equal(KeGetCurrentIrql(), DISPATCH_LEVEL);
	KeLowerIrql(old);
	assert_true(KeTestSpinLock(&q.lock));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ke_11_spin_lock_is_shared_by_many_or_owned_by_one),
		cmocka_unit_test(ke_11_who_wants_the_spin_lock_alone_goes_before_new_sharers),
		cmocka_unit_test(ke_11_new_sharer_does_not_get_a_wanted_spin_lock),
		cmocka_unit_test(ke_11_only_sharer_of_a_spin_lock_becomes_its_owner),
		cmocka_unit_test(ke_11_spin_lock_mistakes_are_misuse_and_leave_it_usable),
		cmocka_unit_test(ke_11_more_locks_at_once_than_are_remembered_work),
		cmocka_unit_test(ke_11_locks_exclude),
		cmocka_unit_test(ke_11_push_lock_needs_a_critical_region),
		cmocka_unit_test(ke_11_guarded_mutex_puts_its_owner_in_a_guarded_region),
		cmocka_unit_test(ke_11_guarded_mutex_excludes),
		cmocka_unit_test(ke_3_queued_spin_lock_excludes_and_restores_the_level),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
