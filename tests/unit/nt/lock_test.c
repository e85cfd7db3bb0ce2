/* SPDX-License-Identifier: MIT */
/*
 * Spin locks, emulated IRQL, fast mutexes, threads (KE-3, KE-4, KE-5, KE-7, KE-11).
 */
#include "t_nt.h"

#include "nt/nt_thread.h"

static void
ke_4_irql_is_raised_and_lowered_per_thread(void **state)
{
	KIRQL old = 9;

	CONF_COVERS("KE-4");
	(void)state;
	assert_int_equal(KeGetCurrentIrql(), PASSIVE_LEVEL);
	KeRaiseIrql(APC_LEVEL, &old);
	assert_int_equal(old, PASSIVE_LEVEL);
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	assert_int_equal(old, APC_LEVEL);
	assert_int_equal(KeGetCurrentIrql(), DISPATCH_LEVEL);
	assert_int_equal(KeRaiseIrqlToDpcLevel(), DISPATCH_LEVEL);
	KeLowerIrql(PASSIVE_LEVEL);
	assert_int_equal(KeGetCurrentIrql(), PASSIVE_LEVEL);
}

static void *
t_read_irql(void *context)
{
	*(KIRQL *)context = KeGetCurrentIrql();
	return NULL;
}

static void
ke_4_other_threads_keep_their_level(void **state)
{
	KIRQL other = 9, old;

	CONF_COVERS("KE-4");
	(void)state;
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	t_join(t_thread(t_read_irql, &other));
	KeLowerIrql(old);
	assert_int_equal(other, PASSIVE_LEVEL);
}

static void
ke_5_raising_downwards_and_lowering_upwards_are_misuse(void **state)
{
	KIRQL old;

	CONF_COVERS("KE-4, KE-5");
	(void)state;
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	assert_misuse(KfRaiseIrql(APC_LEVEL));
	assert_int_equal(KeGetCurrentIrql(), DISPATCH_LEVEL);
	KeLowerIrql(old);
	assert_misuse(KeLowerIrql(DISPATCH_LEVEL));
	assert_misuse(KfRaiseIrql(HIGH_LEVEL + 1));
	assert_int_equal(KeGetCurrentIrql(), PASSIVE_LEVEL);
}

static void
ke_5_paged_code_is_for_apc_level_at_most(void **state)
{
	KIRQL old;

	CONF_COVERS("RT-14, KE-5");
	(void)state;
	PAGED_CODE();
	KeRaiseIrql(APC_LEVEL, &old);
	PAGED_CODE();
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	assert_misuse(PAGED_CODE());
	KeLowerIrql(PASSIVE_LEVEL);
}

static void
ke_5_callback_that_returns_at_another_level_is_misuse(void **state)
{
	KIRQL before = nt_irql_enter(DISPATCH_LEVEL);

	CONF_COVERS("KE-5");
	(void)state;
	assert_int_equal(before, PASSIVE_LEVEL);
	nt_irql_leave(DISPATCH_LEVEL, before, "a callback");
	before = nt_irql_enter(PASSIVE_LEVEL);
	KfRaiseIrql(DISPATCH_LEVEL);
	assert_misuse(nt_irql_leave(PASSIVE_LEVEL, before, "a callback"));
	assert_int_equal(KeGetCurrentIrql(), PASSIVE_LEVEL);
}

static void
t_paged_code_at_dispatch(void)
{
	KfRaiseIrql(DISPATCH_LEVEL);
	PAGED_CODE();
}

static void
t_wait_with_lock_held(void)
{
	KSPIN_LOCK lock = 0;
	KEVENT event;
	KIRQL old;

	KeInitializeEvent(&event, NotificationEvent, TRUE);
	KeAcquireSpinLock(&lock, &old);
	KeWaitForSingleObject(&event, Executive, KernelMode, FALSE, NULL);
}

static void
t_lock_twice(void)
{
	KSPIN_LOCK lock = 0;

	KfRaiseIrql(DISPATCH_LEVEL);
	KeAcquireSpinLockAtDpcLevel(&lock);
	KeAcquireSpinLockAtDpcLevel(&lock);
}

static void
ke_5_checked_mode_aborts_and_says_why(void **state)
{
	CONF_COVERS("KE-3, KE-5");
	(void)state;
	t_assert_aborts(t_paged_code_at_dispatch, "paged code at IRQL 2");
	t_assert_aborts(t_wait_with_lock_held, "KeWaitForSingleObject at IRQL 2");
	t_assert_aborts(t_lock_twice, "is acquired again by the thread that holds it");
}

static void
ke_5_misuse_is_counted_each_time_and_reported_once_per_site(void **state)
{
	const uint64_t before = nt_misuse_count();

	CONF_COVERS("KE-5");
	(void)state;
	nt_set_checked(false);
	for (int i = 0; i < 10; i++)
		KeLowerIrql(HIGH_LEVEL);
	assert_int_equal(nt_misuse_count(), before + 10);
}

static void
ke_3_spin_lock_raises_to_dispatch_and_restores(void **state)
{
	KSPIN_LOCK lock;
	KIRQL old = 9;

	CONF_COVERS("KE-3");
	(void)state;
	KeInitializeSpinLock(&lock);
	assert_int_equal(sizeof(lock), sizeof(void *));
	KeAcquireSpinLock(&lock, &old);
	assert_int_equal(old, PASSIVE_LEVEL);
	assert_int_equal(KeGetCurrentIrql(), DISPATCH_LEVEL);
	assert_false(KeTestSpinLock(&lock));
	assert_false(KeTryToAcquireSpinLockAtDpcLevel(&lock));
	KeReleaseSpinLock(&lock, old);
	assert_int_equal(KeGetCurrentIrql(), PASSIVE_LEVEL);
	assert_true(KeTestSpinLock(&lock));
	assert_true(lock == 0);
}

static void
ke_3_dpc_level_forms_leave_the_irql_alone(void **state)
{
	KSPIN_LOCK lock = 0;
	KIRQL old;

	CONF_COVERS("KE-3, KE-5");
	(void)state;
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	KeAcquireSpinLockAtDpcLevel(&lock);
	KeReleaseSpinLockFromDpcLevel(&lock);
	assert_true(KeTryToAcquireSpinLockAtDpcLevel(&lock));
	KeReleaseSpinLockFromDpcLevel(&lock);
	assert_int_equal(KeGetCurrentIrql(), DISPATCH_LEVEL);
	KeLowerIrql(old);
	assert_misuse(KeAcquireSpinLockAtDpcLevel(&lock));
	assert_misuse(KeReleaseSpinLockFromDpcLevel(&lock));
}

static void
ke_3_recursive_acquisition_is_misuse_and_does_not_hang(void **state)
{
	KSPIN_LOCK lock = 0;
	KIRQL old;

	CONF_COVERS("KE-3");
	(void)state;
	KeAcquireSpinLock(&lock, &old);
	assert_misuse(KeAcquireSpinLockAtDpcLevel(&lock));
	KeReleaseSpinLockFromDpcLevel(&lock);
	assert_false(KeTestSpinLock(&lock));
	KeReleaseSpinLock(&lock, old);
	assert_true(lock == 0);
}

static void
ke_3_releasing_a_free_lock_is_misuse(void **state)
{
	KSPIN_LOCK lock = 0;

	(void)state;
	KfRaiseIrql(DISPATCH_LEVEL);
	assert_misuse(KeReleaseSpinLock(&lock, PASSIVE_LEVEL));
	assert_true(lock == 0);
}

static void *
t_acquire_only(void *context)
{
	KIRQL old;

	KeAcquireSpinLock((PKSPIN_LOCK)context, &old);
	return NULL;
}

static void
ke_3_release_by_another_thread_is_misuse(void **state)
{
	KSPIN_LOCK lock = 0;

	CONF_COVERS("KE-3");
	(void)state;
	t_join(t_thread(t_acquire_only, &lock));
	KfRaiseIrql(DISPATCH_LEVEL);
	assert_misuse(KeReleaseSpinLock(&lock, PASSIVE_LEVEL));
	assert_true(lock == 0);
}

#define T_ROUNDS 5000
#define T_THREADS 4

struct t_shared {
	KSPIN_LOCK lock;
	FAST_MUTEX mutex;
	int counter;            /* plain: the lock orders the accesses */
};

static void *
t_count_under_lock(void *context)
{
	struct t_shared *shared = context;

	for (int i = 0; i < T_ROUNDS; i++) {
		KIRQL old;

		KeAcquireSpinLock(&shared->lock, &old);
		shared->counter++;
		/* Now and then, so that others run into a lock whose owner does not run. */
		if (i % 500 == 0)
			sched_yield();
		KeReleaseSpinLock(&shared->lock, old);
	}
	return NULL;
}

static void *
t_count_under_mutex(void *context)
{
	struct t_shared *shared = context;

	for (int i = 0; i < T_ROUNDS; i++) {
		ExAcquireFastMutex(&shared->mutex);
		shared->counter++;
		if (i % 500 == 0)
			sched_yield();
		ExReleaseFastMutex(&shared->mutex);
	}
	return NULL;
}

static void
t_count_in_threads(struct t_shared *shared, void *(*function)(void *))
{
	pthread_t threads[T_THREADS];

	shared->counter = 0;
	for (int i = 0; i < T_THREADS; i++)
		threads[i] = t_thread(function, shared);
	for (int i = 0; i < T_THREADS; i++)
		t_join(threads[i]);
	assert_int_equal(shared->counter, T_ROUNDS * T_THREADS);
}

static void
ke_3_spin_lock_excludes(void **state)
{
	struct t_shared shared = { .lock = 0 };

	CONF_COVERS("KE-3");
	(void)state;
	t_count_in_threads(&shared, t_count_under_lock);
	assert_true(shared.lock == 0);
}

static void
ke_11_fast_mutex_excludes(void **state)
{
	struct t_shared shared;

	(void)state;
	ExInitializeFastMutex(&shared.mutex);
	t_count_in_threads(&shared, t_count_under_mutex);
	assert_int_equal(shared.mutex.Count, 1);
	assert_null(shared.mutex.Owner);
}

static void
ke_11_fast_mutex_raises_to_apc_level(void **state)
{
	FAST_MUTEX mutex;

	(void)state;
	ExInitializeFastMutex(&mutex);
	ExAcquireFastMutex(&mutex);
	assert_int_equal(KeGetCurrentIrql(), APC_LEVEL);
	assert_false(ExTryToAcquireFastMutex(&mutex));
	ExReleaseFastMutex(&mutex);
	assert_int_equal(KeGetCurrentIrql(), PASSIVE_LEVEL);
	assert_true(ExTryToAcquireFastMutex(&mutex));
	assert_int_equal(KeGetCurrentIrql(), APC_LEVEL);
	ExReleaseFastMutex(&mutex);
	ExAcquireFastMutexUnsafe(&mutex);
	assert_int_equal(KeGetCurrentIrql(), PASSIVE_LEVEL);
	ExReleaseFastMutexUnsafe(&mutex);
	assert_int_equal(mutex.Count, 1);
}

static void *
t_acquire_mutex_only(void *context)
{
	ExAcquireFastMutexUnsafe(context);
	return NULL;
}

static void
ke_11_fast_mutex_misuse_is_reported(void **state)
{
	FAST_MUTEX mutex;
	KIRQL old;

	(void)state;
	ExInitializeFastMutex(&mutex);
	assert_misuse(ExReleaseFastMutex(&mutex));
	ExAcquireFastMutex(&mutex);
	assert_misuse(ExAcquireFastMutex(&mutex));
	ExReleaseFastMutex(&mutex);
	assert_int_equal(mutex.Count, 0);
	ExReleaseFastMutex(&mutex);
	assert_int_equal(mutex.Count, 1);
	assert_int_equal(KeGetCurrentIrql(), PASSIVE_LEVEL);
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	assert_misuse(ExAcquireFastMutexUnsafe(&mutex));
	ExReleaseFastMutexUnsafe(&mutex);
	assert_misuse(assert_false(ExTryToAcquireFastMutex(&mutex)));
	KeLowerIrql(old);
	t_join(t_thread(t_acquire_mutex_only, &mutex));
	assert_misuse(ExReleaseFastMutexUnsafe(&mutex));
	assert_int_equal(mutex.Count, 1);
}

struct t_identity {
	PKTHREAD thread;
	HANDLE id;
};

static void *
t_identify(void *context)
{
	struct t_identity *identity = context;

	identity->thread = KeGetCurrentThread();
	identity->id = PsGetCurrentThreadId();
	return NULL;
}

static void
ke_7_thread_identity_is_stable_and_distinct(void **state)
{
	struct t_identity mine, again, other;

	CONF_COVERS("KE-7");
	(void)state;
	t_identify(&mine);
	t_identify(&again);
	t_join(t_thread(t_identify, &other));
	assert_ptr_equal(mine.thread, again.thread);
	assert_ptr_equal(mine.id, again.id);
	assert_non_null(mine.id);
	assert_ptr_not_equal(mine.id, other.id);
	assert_ptr_equal(PsGetCurrentProcessId(), (HANDLE)(uintptr_t)getpid());
}

static void
ke_7_thread_id_is_right_in_a_forked_child(void **state)
{
	int status;
	pid_t child;

	CONF_COVERS("KE-7");
	(void)state;
	PsGetCurrentThreadId();
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(PsGetCurrentThreadId() == (HANDLE)(uintptr_t)getpid() ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ke_4_irql_is_raised_and_lowered_per_thread),
		cmocka_unit_test(ke_4_other_threads_keep_their_level),
		cmocka_unit_test(ke_5_raising_downwards_and_lowering_upwards_are_misuse),
		cmocka_unit_test(ke_5_paged_code_is_for_apc_level_at_most),
		cmocka_unit_test(ke_5_callback_that_returns_at_another_level_is_misuse),
		cmocka_unit_test(ke_5_checked_mode_aborts_and_says_why),
		cmocka_unit_test(ke_5_misuse_is_counted_each_time_and_reported_once_per_site),
		cmocka_unit_test(ke_3_spin_lock_raises_to_dispatch_and_restores),
		cmocka_unit_test(ke_3_dpc_level_forms_leave_the_irql_alone),
		cmocka_unit_test(ke_3_recursive_acquisition_is_misuse_and_does_not_hang),
		cmocka_unit_test(ke_3_releasing_a_free_lock_is_misuse),
		cmocka_unit_test(ke_3_release_by_another_thread_is_misuse),
		cmocka_unit_test(ke_3_spin_lock_excludes),
		cmocka_unit_test(ke_11_fast_mutex_excludes),
		cmocka_unit_test(ke_11_fast_mutex_raises_to_apc_level),
		cmocka_unit_test(ke_11_fast_mutex_misuse_is_reported),
		cmocka_unit_test(ke_7_thread_identity_is_stable_and_distinct),
		cmocka_unit_test(ke_7_thread_id_is_right_in_a_forked_child),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
