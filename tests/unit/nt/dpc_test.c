/* SPDX-License-Identifier: MIT */
/*
 * DPCs and processors (KE-10).
 */
#include "t_wait.h"

struct t_dpc {
	KDPC dpc;
	KEVENT ran;
	KEVENT *holds; /* waited for in the routine, by looking only */
	KIRQL irql;
	ULONG processor;
	PVOID arguments[2];
	pthread_t thread;
	LONG runs;
	LONG *order; /* counts all runs; our place in it: */
	LONG place;
};

static VOID
t_routine(PKDPC dpc, PVOID context, PVOID argument1, PVOID argument2)
{
	struct t_dpc *t = context;
	const PKEVENT holds = t->holds;
	LARGE_INTEGER none = { .QuadPart = 0 };

	assert_ptr_equal(dpc, &t->dpc);
	t->irql = KeGetCurrentIrql();
	t->processor = KeGetCurrentProcessorNumber();
	t->arguments[0] = argument1;
	t->arguments[1] = argument2;
	t->thread = pthread_self();
	if (t->order != NULL)
		t->place = InterlockedIncrement(t->order);
	InterlockedIncrement(&t->runs);
	/* From here `t` may be gone. */
	KeSetEvent(&t->ran, 0, FALSE);
	while (holds != NULL &&
	       KeWaitForSingleObject(holds, Executive, KernelMode, FALSE, &none) != STATUS_SUCCESS)
		sched_yield();
}

static void
t_dpc_init(struct t_dpc *t)
{
	memset(t, 0, sizeof(*t));
	KeInitializeEvent(&t->ran, SynchronizationEvent, FALSE);
	KeInitializeDpc(&t->dpc, t_routine, t);
	KeSetTargetProcessorDpc(&t->dpc, 0);
}

/* Its routine runs on processor 0 until the event is set. */
static void
t_dpc_hold(struct t_dpc *t, PKEVENT release)
{
	t_dpc_init(t);
	KeInitializeEvent(release, NotificationEvent, FALSE);
	t->holds = release;
	assert_true(KeInsertQueueDpc(&t->dpc, NULL, NULL));
	t_wait_forever_for(&t->ran);
}

static void
ke_10_dpc_runs_at_dispatch_level_on_another_thread(void **state)
{
	struct t_dpc t;

	CONF_COVERS("KE-10");
	(void)state;
	t_dpc_init(&t);
	assert_true(KeInsertQueueDpc(&t.dpc, &t, &t.ran));
	t_wait_forever_for(&t.ran);
	assert_int_equal(t.irql, DISPATCH_LEVEL);
	assert_false(pthread_equal(t.thread, pthread_self()));
	assert_ptr_equal(t.arguments[0], &t);
	assert_ptr_equal(t.arguments[1], &t.ran);
}

static void
ke_10_threaded_dpc_runs_at_passive_level_and_may_wait(void **state)
{
	struct t_dpc t, held;
	KEVENT release;

	CONF_COVERS("KE-10");
	(void)state;
	t_dpc_hold(&held, &release);
	t_dpc_init(&t);
	KeInitializeThreadedDpc(&t.dpc, t_routine, &t);
	assert_true(KeInsertQueueDpc(&t.dpc, NULL, NULL));
	/* Not behind the ordinary one of its processor. */
	t_wait_forever_for(&t.ran);
	assert_int_equal(t.irql, PASSIVE_LEVEL);
	KeSetEvent(&release, 0, FALSE);
	KeFlushQueuedDpcs();
}

static void
ke_10_queued_dpc_is_not_queued_again(void **state)
{
	struct t_dpc t, held;
	KEVENT release;

	CONF_COVERS("KE-10");
	(void)state;
	t_dpc_hold(&held, &release);
	t_dpc_init(&t);
	assert_true(KeInsertQueueDpc(&t.dpc, &t, NULL));
	assert_false(KeInsertQueueDpc(&t.dpc, NULL, NULL));
	KeSetEvent(&release, 0, FALSE);
	KeFlushQueuedDpcs();
	assert_int_equal(t.runs, 1);
	assert_ptr_equal(t.arguments[0], &t);
	assert_true(KeInsertQueueDpc(&t.dpc, NULL, NULL));
	KeFlushQueuedDpcs();
	assert_int_equal(t.runs, 2);
}

static void
ke_10_removed_dpc_does_not_run(void **state)
{
	struct t_dpc t, held;
	KEVENT release;

	CONF_COVERS("KE-10");
	(void)state;
	t_dpc_hold(&held, &release);
	t_dpc_init(&t);
	assert_false(KeRemoveQueueDpc(&t.dpc));
	assert_true(KeInsertQueueDpc(&t.dpc, NULL, NULL));
	assert_true(KeRemoveQueueDpc(&t.dpc));
	assert_false(KeRemoveQueueDpc(&t.dpc));
	/* One that runs is not queued. */
	assert_false(KeRemoveQueueDpc(&held.dpc));
	KeSetEvent(&release, 0, FALSE);
	KeFlushQueuedDpcs();
	assert_int_equal(t.runs, 0);
}

static void
ke_10_important_dpc_runs_before_those_queued_already(void **state)
{
	struct t_dpc t[3], held;
	KEVENT release;
	LONG order = 0;

	CONF_COVERS("KE-10");
	(void)state;
	t_dpc_hold(&held, &release);
	for (int i = 0; i < 3; i++) {
		t_dpc_init(&t[i]);
		t[i].order = &order;
	}
	KeSetImportanceDpc(&t[1].dpc, LowImportance);
	KeSetImportanceDpc(&t[2].dpc, HighImportance);
	for (int i = 0; i < 3; i++)
		assert_true(KeInsertQueueDpc(&t[i].dpc, NULL, NULL));
	KeSetEvent(&release, 0, FALSE);
	KeFlushQueuedDpcs();
	assert_int_equal(t[2].place, 1);
	assert_int_equal(t[0].place, 2);
	assert_int_equal(t[1].place, 3);
}

static void
ke_10_flush_waits_for_what_is_queued_and_what_runs(void **state)
{
	struct t_dpc t[8];

	CONF_COVERS("KE-10");
	(void)state;
	for (int round = 0; round < 100; round++) {
		for (ULONG i = 0; i < 8; i++) {
			t_dpc_init(&t[i]);
			if (i % 3 == 2)
				KeInitializeThreadedDpc(&t[i].dpc, t_routine, &t[i]);
			KeSetTargetProcessorDpc(&t[i].dpc,
			                        (CCHAR)(i % KeQueryActiveProcessorCount(NULL)));
			KeInsertQueueDpc(&t[i].dpc, NULL, NULL);
		}
		KeFlushQueuedDpcs();
		for (int i = 0; i < 8; i++)
			assert_int_equal(t[i].runs, 1);
	}
}

static void
ke_10_flush_above_passive_level_is_misuse(void **state)
{
	KIRQL old;

	CONF_COVERS("KE-5, KE-10");
	(void)state;
	KeRaiseIrql(APC_LEVEL, &old);
	assert_misuse(KeFlushQueuedDpcs());
	KeLowerIrql(old);
}

static VOID
t_flush_inside(PKDPC dpc, PVOID context, PVOID argument1, PVOID argument2)
{
	(void)dpc;
	(void)argument1;
	(void)argument2;
	KeFlushQueuedDpcs();
	KeSetEvent(context, 0, FALSE);
}

static void
ke_10_flush_in_a_threaded_dpc_returns(void **state)
{
	KEVENT done;
	KDPC dpc;

	CONF_COVERS("KE-10");
	(void)state;
	KeInitializeEvent(&done, NotificationEvent, FALSE);
	KeInitializeThreadedDpc(&dpc, t_flush_inside, &done);
	assert_true(KeInsertQueueDpc(&dpc, NULL, NULL));
	t_wait_forever_for(&done);
	KeFlushQueuedDpcs();
}

struct t_again {
	KDPC dpc;
	KEVENT done;
	int runs;
};

static VOID
t_run_again(PKDPC dpc, PVOID context, PVOID argument1, PVOID argument2)
{
	struct t_again *again = context;

	(void)argument1;
	(void)argument2;
	if (++again->runs < 5)
		assert_true(KeInsertQueueDpc(dpc, NULL, NULL));
	else
		KeSetEvent(&again->done, 0, FALSE);
}

static void
ke_10_routine_may_queue_its_own_dpc(void **state)
{
	struct t_again again = { .runs = 0 };

	CONF_COVERS("KE-10");
	(void)state;
	KeInitializeEvent(&again.done, NotificationEvent, FALSE);
	KeInitializeDpc(&again.dpc, t_run_again, &again);
	assert_true(KeInsertQueueDpc(&again.dpc, NULL, NULL));
	t_wait_forever_for(&again.done);
	assert_int_equal(again.runs, 5);
}

static VOID
t_free_own(PKDPC dpc, PVOID context, PVOID argument1, PVOID argument2)
{
	(void)argument1;
	(void)argument2;
	memset(dpc, 0xA5, sizeof(*dpc));
	free(dpc);
	InterlockedIncrement(context);
}

static void
ke_10_routine_may_free_its_own_dpc(void **state)
{
	LONG runs = 0;

	CONF_COVERS("KE-10");
	(void)state;
	for (int i = 0; i < 100; i++) {
		PKDPC dpc = malloc(sizeof(*dpc));

		assert_non_null(dpc);
		KeInitializeDpc(dpc, t_free_own, &runs);
		assert_true(KeInsertQueueDpc(dpc, NULL, NULL));
	}
	KeFlushQueuedDpcs();
	assert_int_equal(runs, 100);
}

static void
ke_10_dpc_runs_on_the_processor_it_was_sent_to(void **state)
{
	PROCESSOR_NUMBER number = { 0 };
	struct t_dpc t;

	CONF_COVERS("KE-10");
	(void)state;
	t_dpc_init(&t);
	for (ULONG i = 0; i < KeQueryActiveProcessorCount(NULL); i++) {
		assert_int_equal(KeGetProcessorNumberFromIndex(i, &number), STATUS_SUCCESS);
		assert_int_equal(KeGetProcessorIndexFromNumber(&number), i);
		assert_int_equal(KeSetTargetProcessorDpcEx(&t.dpc, &number), STATUS_SUCCESS);
		KeInsertQueueDpc(&t.dpc, NULL, NULL);
		t_wait_forever_for(&t.ran);
		assert_int_equal(t.processor, i);
		KeFlushQueuedDpcs();
	}
	/* One that was sent nowhere runs too. */
	KeInitializeDpc(&t.dpc, t_routine, &t);
	KeInsertQueueDpc(&t.dpc, NULL, NULL);
	t_wait_forever_for(&t.ran);
	KeFlushQueuedDpcs();
}

static void
ke_10_processor_that_does_not_exist_is_refused(void **state)
{
	PROCESSOR_NUMBER number = { .Number = (UCHAR)KeQueryActiveProcessorCount(NULL) };
	struct t_dpc t;

	CONF_COVERS("KE-10");
	(void)state;
	t_dpc_init(&t);
	assert_int_equal(KeSetTargetProcessorDpcEx(&t.dpc, &number), STATUS_INVALID_PARAMETER);
	assert_misuse(KeSetTargetProcessorDpc(&t.dpc, -1));
	assert_int_equal(KeGetProcessorIndexFromNumber(&number), INVALID_PROCESSOR_INDEX);
	number = (PROCESSOR_NUMBER){ .Group = 1 };
	assert_int_equal(KeGetProcessorIndexFromNumber(&number), INVALID_PROCESSOR_INDEX);
	assert_int_equal(KeGetProcessorNumberFromIndex(KeQueryActiveProcessorCount(NULL), &number),
	                 STATUS_INVALID_PARAMETER);
}

static void
ke_10_processors_are_counted(void **state)
{
	const ULONG count = KeQueryActiveProcessorCount(NULL);
	PROCESSOR_NUMBER number;
	KAFFINITY active;

	CONF_COVERS("KE-10");
	(void)state;
	assert_in_range(count, 1, 64);
	assert_int_equal(KeQueryActiveProcessorCount(&active), count);
	assert_int_equal(active, KeQueryActiveProcessors());
	assert_int_equal(__builtin_popcountll(active), count);
	assert_int_equal(KeQueryActiveProcessorCountEx(0), count);
	assert_int_equal(KeQueryActiveProcessorCountEx(ALL_PROCESSOR_GROUPS), count);
	assert_int_equal(KeQueryActiveProcessorCountEx(1), 0);
	assert_int_equal(KeQueryMaximumProcessorCount(), count);
	assert_int_equal(KeQueryMaximumProcessorCountEx(0), count);
	assert_int_equal(KeQueryActiveGroupCount(), 1);
	assert_true(KeGetCurrentProcessorNumber() < count);
	assert_true(KeGetCurrentProcessorNumberEx(&number) < count);
	assert_true(number.Number < count && number.Group == 0);
	assert_true(KeGetCurrentProcessorIndex() < count);
}

static VOID
t_return_raised(PKDPC dpc, PVOID context, PVOID argument1, PVOID argument2)
{
	(void)dpc;
	(void)context;
	(void)argument1;
	(void)argument2;
	KeLowerIrql(PASSIVE_LEVEL);
}

static VOID
t_return_in_region(PKDPC dpc, PVOID context, PVOID argument1, PVOID argument2)
{
	(void)dpc;
	(void)context;
	(void)argument1;
	(void)argument2;
	KeEnterCriticalRegion();
}

static void
ke_10_dpc_mistakes_are_misuse(void **state)
{
	KDPC dpc;

	CONF_COVERS("KE-5, KE-10");
	(void)state;
	memset(&dpc, 0, sizeof(dpc));
	assert_misuse(assert_false(KeInsertQueueDpc(&dpc, NULL, NULL)));
	assert_misuse(assert_false(KeRemoveQueueDpc(&dpc)));
	assert_misuse(KeSetImportanceDpc(&dpc, HighImportance));
	assert_misuse(KeSetTargetProcessorDpc(&dpc, 0));
	assert_misuse(assert_int_equal(KeSetTargetProcessorDpcEx(&dpc, &(PROCESSOR_NUMBER){ 0 }),
	                               STATUS_INVALID_PARAMETER));
	KeInitializeDpc(&dpc, t_return_raised, NULL);
	assert_misuse({
		KeInsertQueueDpc(&dpc, NULL, NULL);
		KeFlushQueuedDpcs();
	});
	KeInitializeThreadedDpc(&dpc, t_return_in_region, NULL);
	for (int i = 0; i < 2; i++) {
		assert_misuse({
			KeInsertQueueDpc(&dpc, NULL, NULL);
			KeFlushQueuedDpcs();
		});
	}
}

static void
ke_10_spin_lock_of_a_threaded_dpc_raises_when_needed(void **state)
{
	KSPIN_LOCK lock;
	KIRQL old, before;

	CONF_COVERS("KE-10");
	(void)state;
	KeInitializeSpinLock(&lock);
	old = KeAcquireSpinLockForDpc(&lock);
	assert_int_equal(KeGetCurrentIrql(), DISPATCH_LEVEL);
	KeReleaseSpinLockForDpc(&lock, old);
	assert_int_equal(KeGetCurrentIrql(), PASSIVE_LEVEL);
	KeRaiseIrql(DISPATCH_LEVEL, &before);
	old = KeAcquireSpinLockForDpc(&lock);
	KeReleaseSpinLockForDpc(&lock, old);
	assert_int_equal(KeGetCurrentIrql(), DISPATCH_LEVEL);
	KeLowerIrql(before);
}

static KEVENT t_freed_release;
static struct t_dpc t_freed_held;

static void
t_free_queued(void)
{
	PKDPC dpc = ExAllocatePool2(POOL_FLAG_NON_PAGED, 4 * sizeof(*dpc), 'tseT');

	t_dpc_hold(&t_freed_held, &t_freed_release);
	KeInitializeDpc(&dpc[3], t_routine, NULL);
	KeSetTargetProcessorDpc(&dpc[3], 0);
	KeInsertQueueDpc(&dpc[3], NULL, NULL);
	ExFreePool(dpc);
}

static void
ke_10_freeing_a_queued_dpc_is_reported_in_checked_mode(void **state)
{
	CONF_COVERS("KE-10");
	(void)state;
	if (!T_FORKED_CHILD_MAY_THREAD)
		skip();
	t_assert_aborts(t_free_queued, "is queued in it; call KeRemoveQueueDpc");
}

/* ---- processes ------------------------------------------------------------------------------- */

/* Runs `function` in a child and returns how that ended. */
static int
t_in_child(void (*function)(void))
{
	int status;
	pid_t child;

	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		function();
		_exit(99);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static struct t_dpc t_forked, t_forked_held;

static void
t_use_dpc_in_child(void)
{
	/* What the parent queued is not queued here, and an own one runs. */
	if (KeRemoveQueueDpc(&t_forked.dpc))
		_exit(1);
	t_dpc_init(&t_forked);
	KeInsertQueueDpc(&t_forked.dpc, NULL, NULL);
	t_wait_forever_for(&t_forked.ran);
	_exit(t_forked.runs == 1 ? 0 : 2);
}

static void
ke_10_forked_child_has_dpcs_of_its_own(void **state)
{
	KEVENT release;

	CONF_COVERS("KE-10");
	(void)state;
	if (!T_FORKED_CHILD_MAY_THREAD)
		skip();
	t_dpc_hold(&t_forked_held, &release);
	t_dpc_init(&t_forked);
	assert_true(KeInsertQueueDpc(&t_forked.dpc, NULL, NULL));
	assert_int_equal(t_in_child(t_use_dpc_in_child), 0);
	KeSetEvent(&release, 0, FALSE);
	KeFlushQueuedDpcs();
	assert_int_equal(t_forked.runs, 1);
}

static KEVENT t_exit_begun;
static int t_exit_code;

/* Runs before the runtime's own, being younger: the DPC is let go while that waits for it. */
static void
t_at_exit(void)
{
	KeSetEvent(&t_exit_begun, 0, FALSE);
}

/* Registered first, so it runs last. */
static void
t_after_exit(void)
{
	_exit(t_forked.runs == 1 ? t_exit_code : 3);
}

static VOID
t_finish_late(PKDPC dpc, PVOID context, PVOID argument1, PVOID argument2)
{
	LARGE_INTEGER none = { .QuadPart = 0 };

	(void)dpc;
	(void)context;
	(void)argument1;
	(void)argument2;
	KeSetEvent(&t_forked.ran, 0, FALSE);
	while (KeWaitForSingleObject(&t_exit_begun, Executive, KernelMode, FALSE, &none) !=
	       STATUS_SUCCESS)
		sched_yield();
	for (int i = 0; i < 1000; i++)
		sched_yield();
	t_forked.runs++;
}

static void
t_exit_while_dpc_runs(void)
{
	atexit(t_after_exit);
	KeInitializeEvent(&t_exit_begun, NotificationEvent, FALSE);
	t_dpc_init(&t_forked);
	KeInitializeDpc(&t_forked.dpc, t_finish_late, NULL);
	KeInsertQueueDpc(&t_forked.dpc, NULL, NULL);
	t_wait_forever_for(&t_forked.ran);
	atexit(t_at_exit);
	exit(0);
}

static VOID
t_exit_in_dpc(PKDPC dpc, PVOID context, PVOID argument1, PVOID argument2)
{
	(void)dpc;
	(void)context;
	(void)argument1;
	(void)argument2;
	exit(42);
}

static void
t_exit_by_dpc(void)
{
	KEVENT never;
	KDPC dpc;

	KeInitializeEvent(&never, NotificationEvent, FALSE);
	KeInitializeDpc(&dpc, t_exit_in_dpc, NULL);
	KeInsertQueueDpc(&dpc, NULL, NULL);
	t_wait_forever_for(&never);
}

static void
ke_10_exit_lets_a_running_dpc_finish(void **state)
{
	CONF_COVERS("KE-10");
	(void)state;
	assert_int_equal(t_in_child(t_exit_while_dpc_runs), 0);
	assert_int_equal(t_in_child(t_exit_by_dpc), 42);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		/* First: the runtime's exit handler is registered with the first DPC. */
		cmocka_unit_test(ke_10_exit_lets_a_running_dpc_finish),
		cmocka_unit_test(ke_10_dpc_runs_at_dispatch_level_on_another_thread),
		cmocka_unit_test(ke_10_threaded_dpc_runs_at_passive_level_and_may_wait),
		cmocka_unit_test(ke_10_queued_dpc_is_not_queued_again),
		cmocka_unit_test(ke_10_removed_dpc_does_not_run),
		cmocka_unit_test(ke_10_important_dpc_runs_before_those_queued_already),
		cmocka_unit_test(ke_10_flush_waits_for_what_is_queued_and_what_runs),
		cmocka_unit_test(ke_10_flush_above_passive_level_is_misuse),
		cmocka_unit_test(ke_10_flush_in_a_threaded_dpc_returns),
		cmocka_unit_test(ke_10_routine_may_queue_its_own_dpc),
		cmocka_unit_test(ke_10_routine_may_free_its_own_dpc),
		cmocka_unit_test(ke_10_dpc_runs_on_the_processor_it_was_sent_to),
		cmocka_unit_test(ke_10_processor_that_does_not_exist_is_refused),
		cmocka_unit_test(ke_10_processors_are_counted),
		cmocka_unit_test(ke_10_dpc_mistakes_are_misuse),
		cmocka_unit_test(ke_10_spin_lock_of_a_threaded_dpc_raises_when_needed),
		cmocka_unit_test(ke_10_freeing_a_queued_dpc_is_reported_in_checked_mode),
		cmocka_unit_test(ke_10_forked_child_has_dpcs_of_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
