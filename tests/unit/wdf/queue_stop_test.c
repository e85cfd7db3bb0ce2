/* SPDX-License-Identifier: MIT */
/* How queues come to rest: stop, drain, purge, and the device's removal. */
#include "t_queue.h"

/* ---- at the driver's wish -------------------------------------------------------------------- */

static VOID
at_rest(WDFQUEUE queue, WDFCONTEXT context)
{
	UNREFERENCED_PARAMETER(queue);
	t_log("%s", (const char *)context);
}

static void
queues_come_to_rest_when_the_driver_has_nothing(void **state)
{
	struct t_call calls[2];
	struct t_wdf t;
	PFILE_OBJECT file;

	CONF_COVERS("KE-17");
	(void)state;
	begin_keeping(&t);
	file = t_open();
	WdfIoQueueStop(t_queue, at_rest, (PVOID)(ULONG_PTR) "stopped");
	t_assert_log("stopped");
	t_call(&calls[0], file, T_ECHO, "x"); /* accepted, not delivered */
	WdfIoQueueStart(t_queue);
	t_await(&arrived);
	WdfIoQueueStop(t_queue, at_rest, (PVOID)(ULONG_PTR) "stopped");
	assert_misuse(WdfIoQueueStop(t_queue, at_rest, NULL));
	t_assert_log("");
	WdfRequestComplete(kept[0], STATUS_SUCCESS);
	t_await_log("stopped");
	assert_int_equal(t_answer(&calls[0]), STATUS_SUCCESS);
	WdfIoQueueStopSynchronously(t_queue);
	WdfIoQueueStart(t_queue);

	send_kept(calls, 1, file);
	WdfIoQueueDrain(t_queue, at_rest, (PVOID)(ULONG_PTR) "drained");
	t_call(&calls[1], file, T_ECHO, "x");
	assert_int_equal(t_answer(&calls[1]), STATUS_INVALID_DEVICE_STATE);
	t_assert_log("");
	WdfRequestComplete(kept[1], STATUS_SUCCESS);
	t_await_log("drained");
	assert_int_equal(t_answer(&calls[0]), STATUS_SUCCESS);
	WdfIoQueueDrainSynchronously(t_queue);
	WdfIoQueueStart(t_queue);

	/* Purging cancels what the driver made cancelable, and what waits. */
	send_kept(calls, 1, file);
	WdfRequestMarkCancelable(kept[2], cancel_it);
	WdfIoQueuePurge(t_queue, at_rest, (PVOID)(ULONG_PTR) "purged");
	t_await_log("cancel purged");
	assert_int_equal(t_answer(&calls[0]), STATUS_CANCELLED);
	WdfIoQueuePurgeSynchronously(t_queue);
	nt_file_close(file);
	end(&t);
}

static void
a_wish_without_a_callback_leaves_the_one_that_waits(void **state)
{
	struct t_post calls[2];
	struct t_wdf t;

	(void)state;
	begin_keeping(&t);
	post(&calls[0], &t);
	WdfIoQueueDrain(t_queue, at_rest, (PVOID)(ULONG_PTR) "drained");
	WdfIoQueuePurge(t_queue, NULL, NULL);
	t_assert_log("");
	WdfRequestComplete(kept[0], STATUS_SUCCESS);
	t_assert_log("drained");
	WdfIoQueueStart(t_queue);
	post(&calls[1], &t);
	WdfIoQueueStop(t_queue, at_rest, (PVOID)(ULONG_PTR) "stopped");
	WdfIoQueueStop(t_queue, NULL, NULL);
	t_assert_log("");
	WdfRequestComplete(kept[1], STATUS_SUCCESS);
	t_assert_log("stopped");
	assert_int_equal(post_answer(&calls[0]), STATUS_SUCCESS);
	assert_int_equal(post_answer(&calls[1]), STATUS_SUCCESS);
	end(&t);
}

static void
a_second_wait_of_a_kind_is_refused_at_once(void **state)
{
	struct t_post call;
	struct t_wdf t;

	(void)state;
	begin_keeping(&t);
	post(&call, &t);
	WdfIoQueueStop(t_queue, at_rest, (PVOID)(ULONG_PTR) "stopped");
	WdfIoQueueDrain(t_queue, at_rest, (PVOID)(ULONG_PTR) "drained");
	assert_misuse(WdfIoQueueStopSynchronously(t_queue));
	assert_misuse(WdfIoQueueDrainSynchronously(t_queue));
	assert_misuse(WdfIoQueuePurgeSynchronously(t_queue));
	t_assert_log("");
	WdfRequestComplete(kept[0], STATUS_SUCCESS);
	t_assert_log("stopped drained");
	assert_int_equal(post_answer(&call), STATUS_SUCCESS);
	end(&t);
}

/* The queue goes on before its last request is done: that the driver had none for a moment is told all the same. */
static void
a_stop_ends_though_the_queue_goes_on(void **state)
{
	struct t_post calls[2];
	struct t_wdf t;

	(void)state;
	config.DispatchType = WdfIoQueueDispatchSequential;
	begin_keeping(&t);
	post(&calls[0], &t);
	post(&calls[1], &t);
	assert_int_equal(kept_count, 1);
	WdfIoQueueStop(t_queue, at_rest, (PVOID)(ULONG_PTR) "stopped");
	WdfIoQueueStart(t_queue);
	WdfRequestComplete(kept[0], STATUS_SUCCESS);
	assert_int_equal(kept_count, 2);
	t_assert_log("stopped");
	WdfRequestComplete(kept[1], STATUS_SUCCESS);
	assert_int_equal(post_answer(&calls[0]), STATUS_SUCCESS);
	assert_int_equal(post_answer(&calls[1]), STATUS_SUCCESS);
	end(&t);
}

static VOID
forward(WDFQUEUE queue, WDFREQUEST request)
{
	UNREFERENCED_PARAMETER(queue);
	assert_int_equal(WdfRequestForwardToIoQueue(request, manual), STATUS_SUCCESS);
}

/* The driver has given the request up, and its completion is under way. */
static VOID
take_the_next(WDFOBJECT request)
{
	if ((WDFREQUEST)request == kept[0])
		assert_int_equal(WdfIoQueueRetrieveNextRequest(manual, &kept[1]), STATUS_SUCCESS);
}

static void
a_stop_ends_though_the_next_request_is_taken_during_the_last_ones_completion(void **state)
{
	struct t_post calls[2];
	struct t_wdf t;

	(void)state;
	config.EvtIoDefault = forward;
	request_cleanup = take_the_next;
	begin(&t);
	post(&calls[0], &t);
	post(&calls[1], &t);
	assert_int_equal(WdfIoQueueRetrieveNextRequest(manual, &kept[0]), STATUS_SUCCESS);
	WdfIoQueueStop(manual, at_rest, (PVOID)(ULONG_PTR) "stopped");
	WdfIoQueueStart(manual);
	t_assert_log("");
	WdfRequestComplete(kept[0], STATUS_SUCCESS);
	t_assert_log("stopped");
	WdfRequestComplete(kept[1], STATUS_SUCCESS);
	assert_int_equal(post_answer(&calls[0]), STATUS_SUCCESS);
	assert_int_equal(post_answer(&calls[1]), STATUS_SUCCESS);
	end(&t);
}

static void
a_drain_lasts_while_a_request_is_put_back(void **state)
{
	struct t_post call;
	struct t_wdf t;
	WDFREQUEST request;

	(void)state;
	config.EvtIoDefault = forward;
	begin(&t);
	post(&call, &t);
	assert_int_equal(WdfIoQueueRetrieveNextRequest(manual, &request), STATUS_SUCCESS);
	WdfIoQueueDrain(manual, at_rest, (PVOID)(ULONG_PTR) "drained");
	assert_int_equal(WdfRequestRequeue(request), STATUS_SUCCESS);
	t_assert_log("");
	assert_int_equal(WdfIoQueueRetrieveNextRequest(manual, &request), STATUS_SUCCESS);
	WdfRequestComplete(request, STATUS_SUCCESS);
	t_assert_log("drained");
	assert_int_equal(post_answer(&call), STATUS_SUCCESS);
	end(&t);
}

/* Meanwhile requests come, and other threads do as this one does: nobody waits for ever. */
static void *
stop_and_start(void *unused)
{
	for (int i = 0; i < 3000; i++) {
		WdfIoQueueStopSynchronously(t_queue);
		WdfIoQueueStart(t_queue);
	}
	return unused;
}

static void *
drain_and_start(void *unused)
{
	for (int i = 0; i < 3000; i++) {
		WdfIoQueueDrainSynchronously(t_queue);
		WdfIoQueueStart(t_queue);
	}
	return unused;
}

static void *
rest_and_start(void *unused)
{
	for (int i = 0; i < 3000; i++) {
		WdfIoQueueStop(t_queue, NULL, NULL);
		WdfIoQueuePurge(t_queue, NULL, NULL);
		WdfIoQueueStart(t_queue);
	}
	return unused;
}

static void *
post_many(void *ctx)
{
	for (int i = 0; i < 10000; i++) {
		struct t_post call;

		post(&call, ctx);
		(void)post_answer(&call);
	}
	return NULL;
}

static PVOID volatile left;
static volatile LONG leaving;

/* Completed by another thread, so that the queue is seldom at rest. */
static VOID
leave_it(WDFQUEUE queue, WDFREQUEST request)
{
	WDFREQUEST before = InterlockedExchangePointer(&left, request);

	UNREFERENCED_PARAMETER(queue);
	if (before != NULL)
		WdfRequestComplete(before, STATUS_SUCCESS);
}

static void *
complete_what_is_left(void *unused)
{
	while (InterlockedCompareExchange(&leaving, 0, 0) != 0) {
		WDFREQUEST request = InterlockedExchangePointer(&left, NULL);

		if (request != NULL)
			WdfRequestComplete(request, STATUS_SUCCESS);
		sched_yield();
	}
	return unused;
}

static void
waits_end_whatever_other_threads_do_with_the_queue(void **state)
{
	pthread_t threads[5], completer;
	struct t_wdf t;

	(void)state;
	config.EvtIoDefault = leave_it;
	config.Settings.Parallel.NumberOfPresentedRequests = 2;
	begin(&t);
	left = NULL;
	leaving = 1;
	completer = t_thread(complete_what_is_left, NULL);
	threads[0] = t_thread(stop_and_start, NULL);
	threads[1] = t_thread(drain_and_start, NULL);
	threads[2] = t_thread(rest_and_start, NULL);
	threads[3] = t_thread(post_many, &t);
	threads[4] = t_thread(post_many, &t);
	for (size_t i = 0; i < RTL_NUMBER_OF(threads); i++)
		t_join(threads[i]);
	InterlockedExchange(&leaving, 0);
	t_join(completer);
	end(&t);
}

/* ---- what a purge reaches -------------------------------------------------------------------- */

static void
a_purge_reaches_requests_that_become_cancelable_later(void **state)
{
	struct t_post calls[3];
	struct t_wdf t;

	(void)state;
	begin_keeping(&t);
	for (int i = 0; i < 2; i++)
		post(&calls[i], &t);
	WdfIoQueuePurge(t_queue, at_rest, (PVOID)(ULONG_PTR) "purged");
	t_assert_log("");
	WdfRequestMarkCancelable(kept[0], cancel_it);
	t_assert_log("cancel");
	assert_int_equal(WdfRequestMarkCancelableEx(kept[1], cancel_it), STATUS_CANCELLED);
	assert_true(WdfRequestIsCanceled(kept[1]));
	WdfRequestComplete(kept[1], STATUS_CANCELLED);
	t_assert_log("purged");
	WdfIoQueueStart(t_queue);
	post(&calls[2], &t);
	assert_int_equal(WdfRequestMarkCancelableEx(kept[2], cancel_it), STATUS_SUCCESS);
	assert_int_equal(WdfRequestUnmarkCancelable(kept[2]), STATUS_SUCCESS);
	WdfRequestComplete(kept[2], STATUS_SUCCESS);
	for (int i = 0; i < 3; i++)
		assert_int_equal(post_answer(&calls[i]), i < 2 ? STATUS_CANCELLED : STATUS_SUCCESS);
	end(&t);
}

static VOID
log_canceled(WDFQUEUE queue, WDFREQUEST request)
{
	UNREFERENCED_PARAMETER(queue);
	t_log("on-queue");
	WdfRequestComplete(request, STATUS_TIMEOUT);
}

/* The device has a manual queue with this configuration; the driver has taken its one request from it. */
static WDFQUEUE
begin_taken(struct t_wdf *t, struct t_post *call, PWDF_IO_QUEUE_CONFIG own)
{
	WDFQUEUE queue;

	config.EvtIoDefault = log_default;
	begin(t);
	queue_attributes.SynchronizationScope = WdfSynchronizationScopeQueue;
	queue_attributes.ExecutionLevel = WdfExecutionLevelPassive;
	assert_int_equal(WdfIoQueueCreate(t_dev, own, &queue_attributes, &queue), STATUS_SUCCESS);
	assert_int_equal(WdfDeviceConfigureRequestDispatching(t_dev, queue, WdfRequestTypeDeviceControl),
			 STATUS_SUCCESS);
	post(call, t);
	assert_int_equal(WdfIoQueueRetrieveNextRequest(queue, &kept[0]), STATUS_SUCCESS);
	return queue;
}

static void
a_purge_reaches_requests_that_are_put_back_later(void **state)
{
	WDF_IO_QUEUE_CONFIG own;
	struct t_post call;
	struct t_wdf t;
	WDFQUEUE queue;

	(void)state;
	WDF_IO_QUEUE_CONFIG_INIT(&own, WdfIoQueueDispatchManual);
	queue = begin_taken(&t, &call, &own);
	WdfIoQueuePurge(queue, at_rest, (PVOID)(ULONG_PTR) "purged");
	assert_int_equal(WdfRequestRequeue(kept[0]), STATUS_SUCCESS);
	t_assert_log("purged");
	assert_int_equal(post_answer(&call), STATUS_CANCELLED);
	end(&t);

	/* Where the driver wants to hear of it, it does, also while it has the lock. */
	own.EvtIoCanceledOnQueue = log_canceled;
	reset(NULL);
	queue = begin_taken(&t, &call, &own);
	WdfIoQueuePurge(queue, at_rest, (PVOID)(ULONG_PTR) "purged");
	WdfObjectAcquireLock(queue);
	assert_int_equal(WdfRequestRequeue(kept[0]), STATUS_SUCCESS);
	WdfObjectReleaseLock(queue);
	t_assert_log("on-queue purged");
	assert_int_equal(post_answer(&call), STATUS_TIMEOUT);
	end(&t);
}

static void
a_driver_may_purge_while_it_has_the_queues_lock(void **state)
{
	struct t_post call;
	struct t_wdf t;

	(void)state;
	queue_attributes.SynchronizationScope = WdfSynchronizationScopeQueue;
	queue_attributes.ExecutionLevel = WdfExecutionLevelPassive;
	begin_keeping(&t);
	post(&call, &t);
	WdfRequestMarkCancelable(kept[0], cancel_it);
	WdfObjectAcquireLock(t_queue);
	WdfIoQueuePurge(t_queue, at_rest, (PVOID)(ULONG_PTR) "purged");
	WdfObjectReleaseLock(t_queue);
	t_assert_log("cancel purged");
	assert_int_equal(post_answer(&call), STATUS_CANCELLED);
	end(&t);
}

/* ---- removal --------------------------------------------------------------------------------- */

static VOID
io_stop_mark(WDFQUEUE queue, WDFREQUEST request, ULONG flags)
{
	UNREFERENCED_PARAMETER(queue);
	UNREFERENCED_PARAMETER(flags);
	WdfRequestMarkCancelable(request, cancel_it);
}

static VOID
io_stop_requeue(WDFQUEUE queue, WDFREQUEST request, ULONG flags)
{
	UNREFERENCED_PARAMETER(queue);
	UNREFERENCED_PARAMETER(flags);
	assert_int_equal(WdfRequestRequeue(request), STATUS_SUCCESS);
}

static void
removal_does_not_wait_for_what_is_marked_or_put_back_later(void **state)
{
	WDF_IO_QUEUE_CONFIG own;
	struct t_post call;
	struct t_wdf t;

	(void)state;
	config.EvtIoStop = io_stop_mark;
	begin_keeping(&t);
	post(&call, &t);
	assert_int_equal(t_wdf_pnp(&t, IRP_MN_SURPRISE_REMOVAL), STATUS_SUCCESS);
	t_assert_log("cancel");
	assert_int_equal(post_answer(&call), STATUS_CANCELLED);
	end(&t);

	reset(NULL);
	WDF_IO_QUEUE_CONFIG_INIT(&own, WdfIoQueueDispatchManual);
	own.EvtIoStop = io_stop_requeue;
	(void)begin_taken(&t, &call, &own);
	assert_int_equal(t_wdf_pnp(&t, IRP_MN_SURPRISE_REMOVAL), STATUS_SUCCESS);
	assert_int_equal(post_answer(&call), STATUS_CANCELLED);
	end(&t);
}

static VOID
io_stop(WDFQUEUE queue, WDFREQUEST request, ULONG flags)
{
	assert_ptr_equal(queue, t_queue);
	assert_int_equal(flags, WdfRequestStopActionPurge);
	t_log("stop");
	WdfRequestStopAcknowledge(request, TRUE);
}

static void
removal_asks_for_requests_that_the_driver_keeps(void **state)
{
	struct t_call call;
	struct t_wdf t;
	PFILE_OBJECT file;

	CONF_COVERS("KE-17");
	(void)state;
	config.EvtIoStop = io_stop;
	begin_keeping(&t);
	file = t_open();
	send_kept(&call, 1, file);
	assert_int_equal(t_wdf_pnp(&t, IRP_MN_SURPRISE_REMOVAL), STATUS_SUCCESS);
	t_assert_log("stop");
	assert_int_equal(t_answer(&call), STATUS_CANCELLED);
	assert_int_equal(ioctl(file, T_ECHO, NULL, NULL, 0, NULL), STATUS_INVALID_DEVICE_STATE);
	nt_file_close(file);
	end(&t);
}

static VOID
count_only(WDFQUEUE queue, WDFREQUEST request)
{
	UNREFERENCED_PARAMETER(queue);
	UNREFERENCED_PARAMETER(request);
	kept_count++;
}

static void
removal_asks_for_each_of_many_requests(void **state)
{
	static struct t_post calls[200];
	struct t_wdf t;

	(void)state;
	kept_count = 0;
	config.EvtIoDefault = count_only;
	config.EvtIoStop = io_stop;
	begin(&t);
	for (size_t i = 0; i < RTL_NUMBER_OF(calls); i++)
		post(&calls[i], &t);
	assert_int_equal(kept_count, RTL_NUMBER_OF(calls));
	assert_int_equal(t_wdf_pnp(&t, IRP_MN_SURPRISE_REMOVAL), STATUS_SUCCESS);
	for (size_t i = 0; i < RTL_NUMBER_OF(calls); i++)
		assert_int_equal(post_answer(&calls[i]), STATUS_CANCELLED);
	end(&t);
}

/* Requests that stay with the driver are asked for once at the power-down, and once more when the device goes. */
static VOID
io_stop_twice(WDFQUEUE queue, WDFREQUEST request, ULONG flags)
{
	UNREFERENCED_PARAMETER(queue);
	UNREFERENCED_PARAMETER(flags);
	t_log(request == kept[0] ? "first" : "second");
	if (how == 0)
		WdfRequestStopAcknowledge(request, FALSE);
	else
		WdfRequestComplete(request, STATUS_SUCCESS);
}

static void
removal_asks_again_for_what_the_power_down_left(void **state)
{
	struct t_post calls[2];
	struct t_wdf t;

	(void)state;
	config.EvtIoStop = io_stop_twice;
	begin_keeping(&t);
	post(&calls[0], &t);
	post(&calls[1], &t);
	how = 0;
	assert_int_equal(t_wdf_pnp(&t, IRP_MN_SURPRISE_REMOVAL), STATUS_SUCCESS);
	t_assert_log("first second");
	how = 1;
	end(&t);
	t_assert_log("first second");
	assert_int_equal(post_answer(&calls[0]), STATUS_SUCCESS);
	assert_int_equal(post_answer(&calls[1]), STATUS_SUCCESS);
}

static VOID
io_stop_keep(WDFQUEUE queue, WDFREQUEST request, ULONG flags)
{
	UNREFERENCED_PARAMETER(queue);
	UNREFERENCED_PARAMETER(flags);
	t_log("stop");
	WdfRequestStopAcknowledge(request, FALSE);
}

static void
an_acknowledged_request_does_not_hold_up_the_power_down(void **state)
{
	struct t_call call;
	struct t_wdf t;
	PFILE_OBJECT file;

	(void)state;
	config.EvtIoStop = io_stop_keep;
	begin_keeping(&t);
	file = t_open();
	send_kept(&call, 1, file);
	assert_int_equal(t_wdf_pnp(&t, IRP_MN_SURPRISE_REMOVAL), STATUS_SUCCESS);
	t_assert_log("stop");
	WdfRequestComplete(kept[0], STATUS_SUCCESS);
	assert_int_equal(t_answer(&call), STATUS_SUCCESS);
	nt_file_close(file);
	end(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(queues_come_to_rest_when_the_driver_has_nothing, reset),
		cmocka_unit_test_setup(a_wish_without_a_callback_leaves_the_one_that_waits, reset),
		cmocka_unit_test_setup(a_second_wait_of_a_kind_is_refused_at_once, reset),
		cmocka_unit_test_setup(a_stop_ends_though_the_queue_goes_on, reset),
		cmocka_unit_test_setup(a_stop_ends_though_the_next_request_is_taken_during_the_last_ones_completion,
				       reset),
		cmocka_unit_test_setup(a_drain_lasts_while_a_request_is_put_back, reset),
		cmocka_unit_test_setup(waits_end_whatever_other_threads_do_with_the_queue, reset),
		cmocka_unit_test_setup(a_purge_reaches_requests_that_become_cancelable_later, reset),
		cmocka_unit_test_setup(a_purge_reaches_requests_that_are_put_back_later, reset),
		cmocka_unit_test_setup(a_driver_may_purge_while_it_has_the_queues_lock, reset),
		cmocka_unit_test_setup(removal_does_not_wait_for_what_is_marked_or_put_back_later, reset),
		cmocka_unit_test_setup(removal_asks_for_requests_that_the_driver_keeps, reset),
		cmocka_unit_test_setup(removal_asks_for_each_of_many_requests, reset),
		cmocka_unit_test_setup(removal_asks_again_for_what_the_power_down_left, reset),
		cmocka_unit_test_setup(an_acknowledged_request_does_not_hold_up_the_power_down, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
