/* SPDX-License-Identifier: MIT */
/*
 * Work items (KE-9).
 */
#include "nt/nt_work.h"
#include "t_nt.h"

struct t_job {
	WORK_QUEUE_ITEM item;
	KEVENT done;
	KIRQL irql;
	pthread_t thread;
	PKEVENT waits_for;
	LONG *count;
};

static VOID
t_run(PVOID parameter)
{
	struct t_job *job = parameter;

	job->irql = KeGetCurrentIrql();
	job->thread = pthread_self();
	if (job->waits_for != NULL)
		KeWaitForSingleObject(job->waits_for, Executive, KernelMode, FALSE, NULL);
	if (job->count != NULL)
		InterlockedIncrement(job->count);
	KeSetEvent(&job->done, 0, FALSE);
}

static void
t_job_init(struct t_job *job)
{
	memset(job, 0, sizeof(*job));
	KeInitializeEvent(&job->done, NotificationEvent, FALSE);
	ExInitializeWorkItem(&job->item, t_run, job);
}

static void
t_job_await(struct t_job *job)
{
	KeWaitForSingleObject(&job->done, Executive, KernelMode, FALSE, NULL);
}

static void
ke_9_work_runs_at_passive_level_on_another_thread(void **state)
{
	struct t_job job;
	KIRQL old;

	CONF_COVERS("KE-9");
	(void)state;
	t_job_init(&job);
	job.irql = 9;
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	ExQueueWorkItem(&job.item, DelayedWorkQueue);
	KeLowerIrql(old);
	t_job_await(&job);
	assert_int_equal(job.irql, PASSIVE_LEVEL);
	assert_false(pthread_equal(job.thread, pthread_self()));
}

static void
ke_9_items_that_wait_for_later_items_do_not_hang(void **state)
{
	enum { COUNT = 40 };
	static struct t_job jobs[COUNT];

	CONF_COVERS("KE-9");
	(void)state;
	/* Each waits for the one queued after it. */
	for (int i = 0; i < COUNT; i++) {
		t_job_init(&jobs[i]);
		jobs[i].waits_for = i + 1 < COUNT ? &jobs[i + 1].done : NULL;
	}
	for (int i = 0; i < COUNT; i++)
		ExQueueWorkItem(&jobs[i].item, CriticalWorkQueue);
	t_job_await(&jobs[0]);
}

static void
ke_9_many_items_all_run_once(void **state)
{
	enum { COUNT = 1000 };
	static struct t_job jobs[COUNT];
	LONG count = 0;

	CONF_COVERS("KE-9");
	(void)state;
	for (int i = 0; i < COUNT; i++) {
		t_job_init(&jobs[i]);
		jobs[i].count = &count;
		ExQueueWorkItem(&jobs[i].item, DelayedWorkQueue);
	}
	for (int i = 0; i < COUNT; i++)
		t_job_await(&jobs[i]);
	assert_int_equal(InterlockedOr(&count, 0), COUNT);
}

static void
ke_9_queueing_a_queued_item_is_misuse(void **state)
{
	struct t_job job;

	(void)state;
	t_job_init(&job);
	/* As if it were queued: nobody takes it out of the queue meanwhile. */
	job.item.List.Flink = &job.item.List;
	assert_misuse(ExQueueWorkItem(&job.item, DelayedWorkQueue));
	assert_int_equal(KeReadStateEvent(&job.done), 0);
}

struct t_requeue {
	WORK_QUEUE_ITEM item;
	KEVENT done;
	int runs;
};

static VOID
t_run_again(PVOID parameter)
{
	struct t_requeue *requeue = parameter;

	if (++requeue->runs < 5)
		ExQueueWorkItem(&requeue->item, DelayedWorkQueue);
	else
		KeSetEvent(&requeue->done, 0, FALSE);
}

static void
ke_9_a_routine_may_queue_its_own_item(void **state)
{
	struct t_requeue requeue = { .runs = 0 };

	CONF_COVERS("KE-9");
	(void)state;
	KeInitializeEvent(&requeue.done, NotificationEvent, FALSE);
	ExInitializeWorkItem(&requeue.item, t_run_again, &requeue);
	ExQueueWorkItem(&requeue.item, DelayedWorkQueue);
	KeWaitForSingleObject(&requeue.done, Executive, KernelMode, FALSE, NULL);
	assert_int_equal(requeue.runs, 5);
}

static DEVICE_OBJECT t_device;
static KEVENT t_io_done;

static VOID
t_io_run(PDEVICE_OBJECT device, PVOID context)
{
	*(PDEVICE_OBJECT *)context = device;
	KeSetEvent(&t_io_done, 0, FALSE);
}

static VOID
t_io_run_and_free(PVOID object, PVOID context, PIO_WORKITEM item)
{
	*(PVOID *)context = object;
	IoFreeWorkItem(item);
	KeSetEvent(&t_io_done, 0, FALSE);
}

static void
ke_9_io_work_items_get_their_device(void **state)
{
	PIO_WORKITEM item = IoAllocateWorkItem(&t_device);
	PDEVICE_OBJECT seen = NULL;

	CONF_COVERS("KE-9");
	(void)state;
	assert_non_null(item);
	KeInitializeEvent(&t_io_done, SynchronizationEvent, FALSE);
	IoQueueWorkItem(item, t_io_run, DelayedWorkQueue, &seen);
	KeWaitForSingleObject(&t_io_done, Executive, KernelMode, FALSE, NULL);
	assert_ptr_equal(seen, &t_device);
	seen = NULL;
	IoQueueWorkItemEx(item, t_io_run_and_free, DelayedWorkQueue, &seen);
	KeWaitForSingleObject(&t_io_done, Executive, KernelMode, FALSE, NULL);
	assert_ptr_equal(seen, &t_device);
	IoFreeWorkItem(NULL);
}

static void
ke_9_io_work_items_may_live_in_the_callers_memory(void **state)
{
	PIO_WORKITEM item = malloc(IoSizeofWorkItem());
	PDEVICE_OBJECT seen = NULL;

	CONF_COVERS("KE-9");
	(void)state;
	assert_non_null(item);
	IoInitializeWorkItem(&t_device, item);
	IoQueueWorkItem(item, t_io_run, DelayedWorkQueue, &seen);
	KeWaitForSingleObject(&t_io_done, Executive, KernelMode, FALSE, NULL);
	IoUninitializeWorkItem(item);
	assert_ptr_equal(seen, &t_device);
	free(item);
}

static VOID
t_return_at_dispatch(PVOID parameter)
{
	(void)parameter;
	KfRaiseIrql(DISPATCH_LEVEL);
}

static void
ke_5_a_routine_that_returns_at_another_level_is_misuse(void **state)
{
	const uint64_t before = nt_misuse_count();
	WORK_QUEUE_ITEM item;

	CONF_COVERS("KE-5");
	(void)state;
	nt_set_checked(false);
	ExInitializeWorkItem(&item, t_return_at_dispatch, NULL);
	ExQueueWorkItem(&item, DelayedWorkQueue);
	while (nt_misuse_count() == before)
		sched_yield();
	/* It is still being told; the next test forks, which no lock of that survives. */
	assert_true(nt_work_await_idle(60000));
}

static void
ke_9_work_runs_in_a_forked_child(void **state)
{
	struct t_job job;
	int status;
	pid_t child;

	(void)state;
	if (!T_FORKED_CHILD_MAY_THREAD)
		skip();
	t_job_init(&job);
	ExQueueWorkItem(&job.item, DelayedWorkQueue);
	t_job_await(&job);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct t_job own;

		/* Instead of hanging for ever when the threads of the parent are waited for. */
		alarm(30);
		t_job_init(&own);
		ExQueueWorkItem(&own.item, DelayedWorkQueue);
		t_job_await(&own);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ke_9_work_runs_at_passive_level_on_another_thread),
		cmocka_unit_test(ke_9_items_that_wait_for_later_items_do_not_hang),
		cmocka_unit_test(ke_9_many_items_all_run_once),
		cmocka_unit_test(ke_9_queueing_a_queued_item_is_misuse),
		cmocka_unit_test(ke_9_a_routine_may_queue_its_own_item),
		cmocka_unit_test(ke_9_io_work_items_get_their_device),
		cmocka_unit_test(ke_9_io_work_items_may_live_in_the_callers_memory),
		cmocka_unit_test(ke_5_a_routine_that_returns_at_another_level_is_misuse),
		cmocka_unit_test(ke_9_work_runs_in_a_forked_child),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
