/* SPDX-License-Identifier: MIT */
/* Requests: buffers, completion, cancellation, passing on. */
#include "t_queue.h"

/* ---- buffers --------------------------------------------------------------------------------- */

static VOID
add_one(WDFQUEUE queue, WDFREQUEST request, size_t out, size_t in, ULONG code)
{
	PVOID input = NULL, output = NULL, user;
	WDFMEMORY memory, again;
	NTSTATUS status;
	PMDL mdl;
	size_t bytes;

	UNREFERENCED_PARAMETER(queue);
	if (METHOD_FROM_CTL_CODE(code) == METHOD_NEITHER) {
		assert_int_equal(WdfRequestRetrieveInputBuffer(request, 0, &input, NULL),
				 STATUS_INVALID_DEVICE_REQUEST);
		assert_int_equal(WdfRequestRetrieveOutputWdmMdl(request, &mdl), STATUS_INVALID_DEVICE_REQUEST);
		assert_int_equal(WdfRequestRetrieveUnsafeUserInputBuffer(request, in + 1, &input, &bytes),
				 STATUS_BUFFER_TOO_SMALL);
		status = WdfRequestRetrieveUnsafeUserInputBuffer(request, in, &input, &bytes);
		assert_int_equal(bytes, in);
		assert_int_equal(WdfRequestRetrieveUnsafeUserOutputBuffer(request, 1, &output, &bytes),
				 STATUS_SUCCESS);
	} else {
		assert_int_equal(WdfRequestRetrieveUnsafeUserInputBuffer(request, in, &user, NULL),
				 STATUS_INVALID_DEVICE_REQUEST);
		assert_int_equal(WdfRequestRetrieveInputBuffer(request, in + 1, &input, &bytes),
				 STATUS_BUFFER_TOO_SMALL);
		assert_int_equal(bytes, 0);
		status = WdfRequestRetrieveInputBuffer(request, in, &input, &bytes);
		assert_int_equal(bytes, in);
		assert_int_equal(WdfRequestRetrieveOutputBuffer(request, out + 1, &output, NULL),
				 STATUS_BUFFER_TOO_SMALL);
		assert_int_equal(WdfRequestRetrieveOutputMemory(request, &memory), STATUS_SUCCESS);
		assert_int_equal(WdfRequestRetrieveOutputMemory(request, &again), STATUS_SUCCESS);
		assert_ptr_equal(memory, again);
		output = WdfMemoryGetBuffer(memory, &bytes);
		assert_int_equal(bytes, out);
		assert_int_equal(WdfRequestRetrieveInputWdmMdl(request, &mdl), STATUS_SUCCESS);
		assert_int_equal(MmGetMdlByteCount(mdl), in);
		assert_int_equal(WdfRequestRetrieveOutputWdmMdl(request, &mdl), STATUS_SUCCESS);
		assert_int_equal(MmGetMdlByteCount(mdl), out);
		assert_ptr_equal(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority), output);
	}
	assert_int_equal(status, STATUS_SUCCESS);
	for (size_t i = 0; i < in; i++)
		((char *)output)[i] = (char)(((char *)input)[i] + 1);
	WdfRequestCompleteWithInformation(request, STATUS_SUCCESS, in);
}

static void
buffers_are_found_for_each_method(void **state)
{
	struct t_wdf t;
	PFILE_OBJECT file;

	CONF_COVERS("KE-17");
	(void)state;
	config.EvtIoDeviceControl = add_one;
	begin(&t);
	file = t_open();
	for (ULONG method = METHOD_BUFFERED; method <= METHOD_NEITHER; method++) {
		char output[8] = "";
		ULONG_PTR returned = 0;

		assert_int_equal(ioctl(file, T_CODE(0x905, method), "HAL", output, 8, &returned), STATUS_SUCCESS);
		assert_int_equal(returned, 3);
		assert_string_equal(output, "IBM");
	}
	nt_file_close(file);
	end(&t);
}

static VOID
no_buffers(WDFQUEUE queue, WDFREQUEST request)
{
	WDFMEMORY memory;
	PVOID buffer;
	PMDL mdl;

	UNREFERENCED_PARAMETER(queue);
	assert_int_equal(WdfRequestRetrieveInputBuffer(request, 0, &buffer, NULL), STATUS_BUFFER_TOO_SMALL);
	assert_int_equal(WdfRequestRetrieveOutputBuffer(request, 0, &buffer, NULL), STATUS_BUFFER_TOO_SMALL);
	assert_int_equal(WdfRequestRetrieveInputMemory(request, &memory), STATUS_BUFFER_TOO_SMALL);
	assert_int_equal(WdfRequestRetrieveInputWdmMdl(request, &mdl), STATUS_BUFFER_TOO_SMALL);
	assert_null(buffer);
	assert_misuse(WdfRequestCompleteWithInformation(request, STATUS_SUCCESS, 100)); /* of nothing */
}

static void
empty_buffers_are_too_small_and_information_is_bounded(void **state)
{
	struct t_wdf t;
	PFILE_OBJECT file;
	ULONG_PTR returned = 7;

	(void)state;
	config.EvtIoDefault = no_buffers;
	begin(&t);
	file = t_open();
	assert_int_equal(ioctl(file, T_ECHO, NULL, NULL, 0, &returned), STATUS_SUCCESS);
	assert_int_equal(returned, 0);
	nt_file_close(file);
	end(&t);
}

static void
a_completed_request_is_no_request_any_more(void **state)
{
	struct t_call call;
	struct t_wdf t;
	PFILE_OBJECT file;
	PVOID buffer;

	(void)state;
	begin_keeping(&t);
	file = t_open();
	send_kept(&call, 1, file);
	WdfObjectReference(kept[0]);
	assert_misuse(WdfObjectDelete(kept[0]));
	assert_misuse(WdfRequestGetParameters(kept[0], &(WDF_REQUEST_PARAMETERS){ .Size = 1 }));
	assert_misuse(WdfRequestComplete(kept[0], STATUS_PENDING)); /* completes all the same */
	assert_int_equal(t_answer(&call), STATUS_UNSUCCESSFUL);
	assert_misuse(WdfRequestComplete(kept[0], STATUS_SUCCESS));
	assert_misuse(assert_int_equal(WdfRequestRetrieveInputBuffer(kept[0], 0, &buffer, NULL),
				       STATUS_INVALID_HANDLE));
	WdfObjectDereference(kept[0]);
	assert_misuse(WdfRequestComplete(kept[0], STATUS_SUCCESS));
	nt_file_close(file);
	end(&t);
}

/* ---- cancellation ---------------------------------------------------------------------------- */

static void
a_cancelable_request_is_cancelled_once(void **state)
{
	struct t_call call;
	struct t_wdf t;
	PFILE_OBJECT file;

	CONF_COVERS("KE-17");
	(void)state;
	begin_keeping(&t);
	file = t_open();
	send_kept(&call, 1, file);
	WdfRequestMarkCancelable(kept[0], cancel_it);
	assert_misuse(WdfRequestMarkCancelable(kept[0], cancel_it));
	assert_int_equal(WdfRequestUnmarkCancelable(kept[0]), STATUS_SUCCESS);
	assert_misuse(assert_int_equal(WdfRequestUnmarkCancelable(kept[0]), STATUS_INVALID_PARAMETER));
	assert_int_equal(WdfRequestMarkCancelableEx(kept[0], cancel_it), STATUS_SUCCESS);
	nt_file_cancel(file);
	assert_int_equal(t_answer(&call), STATUS_CANCELLED);
	t_assert_log("cancel");

	/* Cancelled while it was not cancelable: said when it is marked. */
	send_kept(&call, 1, file);
	nt_file_cancel(file);
	assert_true(WdfRequestIsCanceled(kept[1]));
	assert_int_equal(WdfRequestMarkCancelableEx(kept[1], cancel_it), STATUS_CANCELLED);
	WdfRequestMarkCancelable(kept[1], cancel_it);
	t_assert_log("cancel");
	assert_int_equal(t_answer(&call), STATUS_CANCELLED);

	/* Completing what is still cancelable is a driver's mistake. */
	send_kept(&call, 1, file);
	WdfRequestMarkCancelable(kept[2], cancel_it);
	assert_misuse(WdfRequestComplete(kept[2], STATUS_SUCCESS));
	assert_int_equal(t_answer(&call), STATUS_SUCCESS);
	nt_file_close(file);
	end(&t);
}

static VOID
canceled_on_queue(WDFQUEUE queue, WDFREQUEST request)
{
	assert_ptr_equal(queue, t_queue);
	t_log("on-queue");
	WdfRequestComplete(request, STATUS_TIMEOUT);
}

static VOID
to_manual(WDFQUEUE queue, WDFREQUEST request)
{
	UNREFERENCED_PARAMETER(queue);
	assert_int_equal(WdfRequestForwardToIoQueue(request, queue), STATUS_INVALID_DEVICE_REQUEST); /* its own */
	assert_int_equal(WdfRequestRequeue(request), STATUS_INVALID_DEVICE_REQUEST);
	assert_int_equal(WdfRequestForwardToIoQueue(request, manual), STATUS_SUCCESS);
	assert_misuse(WdfRequestComplete(request, STATUS_SUCCESS)); /* not ours */
	KeSetEvent(&arrived, IO_NO_INCREMENT, FALSE);
}

static void
what_waits_in_a_queue_is_cancelled_there(void **state)
{
	struct t_call calls[2];
	struct t_wdf t;
	PFILE_OBJECT file;
	WDFREQUEST request;

	CONF_COVERS("KE-17");
	(void)state;
	KeInitializeEvent(&arrived, SynchronizationEvent, FALSE);
	config.EvtIoDefault = to_manual;
	config.EvtIoCanceledOnQueue = canceled_on_queue;
	begin(&t);
	file = t_open();
	send_kept(calls, 2, file);
	nt_file_cancel(file);
	assert_int_equal(t_answer(&calls[0]), STATUS_CANCELLED);
	assert_int_equal(t_answer(&calls[1]), STATUS_CANCELLED);
	assert_int_equal(WdfIoQueueRetrieveNextRequest(manual, &request), STATUS_NO_MORE_ENTRIES);
	t_assert_log("");
	nt_file_close(file);
	end(&t);
}

static VOID
queue_ready(WDFQUEUE queue, WDFCONTEXT context)
{
	assert_ptr_equal(queue, manual);
	t_log("ready%d", *(int *)context);
}

static void
a_manual_queue_is_taken_from_and_put_back(void **state)
{
	struct t_call calls[3];
	struct t_wdf t;
	PFILE_OBJECT file;
	WDFREQUEST first, second;
	int number = 5;

	CONF_COVERS("KE-17");
	(void)state;
	KeInitializeEvent(&arrived, SynchronizationEvent, FALSE);
	config.EvtIoDefault = to_manual;
	begin(&t);
	file = t_open();
	assert_int_equal(WdfIoQueueReadyNotify(manual, queue_ready, &number), STATUS_SUCCESS);
	assert_int_equal(WdfIoQueueReadyNotify(manual, queue_ready, &number), STATUS_INVALID_DEVICE_REQUEST);
	send_kept(calls, 3, file);
	t_assert_log("ready5");
	assert_int_equal(WdfIoQueueReadyNotify(manual, NULL, NULL), STATUS_SUCCESS);
	assert_int_equal(WdfIoQueueReadyNotify(manual, queue_ready, &number), STATUS_SUCCESS);
	t_assert_log("ready5");
	assert_int_equal(WdfIoQueueRetrieveNextRequest(manual, &first), STATUS_SUCCESS);
	assert_int_equal(WdfRequestRequeue(first), STATUS_SUCCESS);
	assert_int_equal(WdfIoQueueRetrieveNextRequest(manual, &second), STATUS_SUCCESS);
	assert_ptr_equal(first, second);
	WdfRequestComplete(first, STATUS_SUCCESS);
	assert_int_equal(WdfIoQueueRetrieveNextRequest(manual, &second), STATUS_SUCCESS);
	WdfRequestComplete(second, STATUS_SUCCESS);
	WdfIoQueueStop(manual, NULL, NULL);
	assert_int_equal(WdfIoQueueRetrieveNextRequest(manual, &second), STATUS_WDF_PAUSED);
	assert_null(second);
	WdfIoQueueStart(manual);
	assert_int_equal(WdfIoQueueRetrieveNextRequest(manual, &second), STATUS_SUCCESS);
	WdfRequestComplete(second, STATUS_SUCCESS);
	for (int i = 0; i < 3; i++)
		assert_int_equal(t_answer(&calls[i]), STATUS_SUCCESS);
	nt_file_close(file);
	end(&t);
}

static VOID
take_when_ready(WDFQUEUE queue, WDFCONTEXT context)
{
	WDFREQUEST request;

	queue_ready(queue, context);
	assert_int_equal(WdfIoQueueRetrieveNextRequest(queue, &request), STATUS_SUCCESS);
	WdfRequestComplete(request, STATUS_SUCCESS);
}

static void
a_manual_queue_is_ready_when_it_can_be_taken_from(void **state)
{
	struct t_post call;
	struct t_wdf t;
	int number = 5;

	(void)state;
	KeInitializeEvent(&arrived, SynchronizationEvent, FALSE);
	config.EvtIoDefault = to_manual;
	begin(&t);
	WdfIoQueueStop(manual, NULL, NULL);
	assert_int_equal(WdfIoQueueReadyNotify(manual, take_when_ready, &number), STATUS_SUCCESS);
	post(&call, &t);
	assert_int_equal(WdfIoQueueReadyNotify(manual, NULL, NULL), STATUS_SUCCESS);
	assert_int_equal(WdfIoQueueReadyNotify(manual, take_when_ready, &number), STATUS_SUCCESS);
	t_assert_log("");
	WdfIoQueueStart(manual);
	t_assert_log("ready5");
	WdfIoQueueStart(manual);
	t_assert_log("");
	assert_int_equal(post_answer(&call), STATUS_SUCCESS);
	end(&t);
}

static void
a_manual_queue_is_ready_when_its_device_is(void **state)
{
	struct t_post call;
	struct t_wdf t;
	WDFREQUEST request;
	int number = 7;

	(void)state;
	config.EvtIoDefault = log_default;
	t_wdf_begin(&t, add, NULL);
	assert_int_equal(t_wdf_add(&t), STATUS_SUCCESS);
	assert_int_equal(WdfDeviceConfigureRequestDispatching(t_dev, manual, WdfRequestTypeDeviceControl),
			 STATUS_SUCCESS);
	assert_int_equal(WdfIoQueueReadyNotify(manual, take_when_ready, &number), STATUS_SUCCESS);
	post(&call, &t);
	assert_int_equal(WdfIoQueueRetrieveNextRequest(manual, &request), STATUS_WDF_PAUSED);
	t_assert_log("");
	assert_int_equal(t_wdf_start(&t), STATUS_SUCCESS);
	t_assert_log("ready7");
	assert_int_equal(post_answer(&call), STATUS_SUCCESS);
	end(&t);
}

/* ---- passing down ---------------------------------------------------------------------------- */

static void
a_filter_passes_on_what_it_has_no_queue_for(void **state)
{
	struct t_wdf t;
	IO_STATUS_BLOCK result;
	char output[8] = "";
	KEVENT done;

	(void)state;
	filter = true;
	config.DispatchType = WdfIoQueueDispatchInvalid;
	begin(&t);
	KeInitializeEvent(&done, NotificationEvent, FALSE);
	assert_int_equal(IoCallDriver(t.pdo->AttachedDevice,
				      IoBuildDeviceIoControlRequest(T_ECHO, t.pdo->AttachedDevice,
								    (PVOID)(ULONG_PTR) "abc", 3, output, 8, FALSE,
								    &done, &result)),
			 STATUS_SUCCESS);
	assert_string_equal(output, "ABC");
	end(&t);
}

static VOID
came_back(WDFREQUEST request, WDFIOTARGET target, PWDF_REQUEST_COMPLETION_PARAMS params, WDFCONTEXT context)
{
	assert_ptr_equal(target, WdfDeviceGetIoTarget(t_dev));
	assert_int_equal(params->IoStatus.Status, STATUS_SUCCESS);
	assert_int_equal(params->IoStatus.Information, 3);
	t_log("%s", (const char *)context);
	WdfRequestCompleteWithInformation(request, params->IoStatus.Status, params->IoStatus.Information);
}

static VOID
send_down(WDFQUEUE queue, WDFREQUEST request)
{
	const WDFIOTARGET target = WdfDeviceGetIoTarget(t_dev);
	WDF_REQUEST_COMPLETION_PARAMS params;
	WDF_REQUEST_SEND_OPTIONS options;

	UNREFERENCED_PARAMETER(queue);
	switch (how) {
	case 0:
		WDF_REQUEST_SEND_OPTIONS_INIT(&options, WDF_REQUEST_SEND_OPTION_SEND_AND_FORGET);
		assert_true(WdfRequestSend(request, target, &options));
		return;
	case 1:
		/* Nothing was said about the next driver's parameters. */
		assert_false(WdfRequestSend(request, target, WDF_NO_SEND_OPTIONS));
		assert_int_equal(WdfRequestGetStatus(request), STATUS_WDF_REQUEST_INVALID_STATE);
		WdfRequestFormatRequestUsingCurrentType(request);
		WdfRequestSetCompletionRoutine(request, came_back, (PVOID)(ULONG_PTR) "back");
		assert_true(WdfRequestSend(request, target, WDF_NO_SEND_OPTIONS));
		return;
	case 2:
		WdfRequestFormatRequestUsingCurrentType(request);
		WDF_REQUEST_SEND_OPTIONS_INIT(&options, WDF_REQUEST_SEND_OPTION_SYNCHRONOUS);
		assert_true(WdfRequestSend(request, target, &options));
		break;
	default:
		WdfRequestFormatRequestUsingCurrentType(request);
		WDF_REQUEST_SEND_OPTIONS_INIT(&options, WDF_REQUEST_SEND_OPTION_SYNCHRONOUS);
		WDF_REQUEST_SEND_OPTIONS_SET_TIMEOUT(&options, WDF_REL_TIMEOUT_IN_MS(1));
		assert_true(WdfRequestSend(request, target, &options));
		break;
	}
	WDF_REQUEST_COMPLETION_PARAMS_INIT(&params);
	WdfRequestGetCompletionParams(request, &params);
	assert_int_equal(params.IoStatus.Status, WdfRequestGetStatus(request));
	WdfRequestComplete(request, WdfRequestGetStatus(request));
}

static void
requests_can_be_sent_to_the_device_below(void **state)
{
	struct t_wdf t;
	PFILE_OBJECT file;

	CONF_COVERS("KE-17");
	(void)state;
	config.EvtIoDefault = send_down;
	begin(&t);
	file = t_open();
	for (how = 0; how < 3; how++) {
		char output[8] = "";
		ULONG_PTR returned = 0;

		assert_int_equal(ioctl(file, T_ECHO, "abc", output, 8, &returned), STATUS_SUCCESS);
		assert_int_equal(returned, 3);
		assert_string_equal(output, "ABC");
	}
	t_assert_log("back");
	/* The time for it is over. */
	assert_int_equal(ioctl(file, T_HOLD, NULL, NULL, 0, NULL), STATUS_CANCELLED);
	nt_file_close(file);
	end(&t);
}

/* ---- closing what is sent to ----------------------------------------------------------------- */

static WDFIOTARGET own_target;
static KEVENT go_on;

/* A target of the device's own stack, by name: it has a file, which is gone when it is closed. */
static void
open_own(void)
{
	UNICODE_STRING name = t_text(u"\\Device\\TWdf");
	WDF_IO_TARGET_OPEN_PARAMS open;

	assert_int_equal(WdfIoTargetCreate(t_dev, NULL, &own_target), STATUS_SUCCESS);
	WDF_IO_TARGET_OPEN_PARAMS_INIT_OPEN_BY_NAME(&open, &name, FILE_ALL_ACCESS);
	assert_int_equal(WdfIoTargetOpen(own_target, &open), STATUS_SUCCESS);
}

static void *
close_own(void *unused)
{
	WdfIoTargetClose(own_target);
	return unused;
}

static uint64_t
open_files(void)
{
	struct nt_io_counts counts;

	nt_io_get_counts(&counts);
	return counts.files;
}

/* A thread closes it, and is as far as it comes while something is on the way to it. */
static pthread_t
close_while_in_use(void)
{
	const pthread_t closer = t_thread(close_own, NULL);

	while (WdfIoTargetWdmGetTargetDeviceObject(own_target) != NULL)
		sched_yield();
	assert_int_equal(open_files(), 1);
	return closer;
}

/* Both have come back, and nothing of the target is open any more. */
static void
end_closed(struct t_wdf *t, pthread_t sender, pthread_t closer)
{
	t_join(sender);
	t_join(closer);
	assert_int_equal(open_files(), 0);
	WdfObjectDelete(own_target);
	end(t);
}

static void *
send_control(void *unused)
{
	assert_int_equal(WdfIoTargetSendIoctlSynchronously(own_target, NULL, T_ECHO, NULL, NULL, NULL, NULL),
			 STATUS_SUCCESS);
	return unused;
}

static void
a_target_closes_after_the_drivers_own_control(void **state)
{
	pthread_t sender, closer;
	struct t_wdf t;

	CONF_COVERS("KE-17");
	(void)state;
	begin_keeping(&t);
	open_own();
	sender = t_thread(send_control, NULL);
	t_await(&arrived);
	closer = close_while_in_use();
	assert_int_equal(WdfIoTargetSendIoctlSynchronously(own_target, NULL, T_ECHO, NULL, NULL, NULL, NULL),
			 STATUS_INVALID_DEVICE_STATE);
	WdfRequestComplete(kept[0], STATUS_SUCCESS);
	end_closed(&t, sender, closer);
}

/* The first time around the request goes to the top of its own stack, and is here again below that call. */
static VOID
send_around(WDFDEVICE device, WDFREQUEST request)
{
	WDF_REQUEST_SEND_OPTIONS options;

	UNREFERENCED_PARAMETER(device);
	if (how++ == 0) {
		WDF_REQUEST_SEND_OPTIONS_INIT(&options, WDF_REQUEST_SEND_OPTION_SEND_AND_FORGET);
		assert_true(WdfRequestSend(request, own_target, &options));
		return;
	}
	KeSetEvent(&arrived, IO_NO_INCREMENT, FALSE);
	t_await(&go_on);
	WdfRequestComplete(request, STATUS_SUCCESS);
}

static void *
post_around(void *ctx)
{
	struct t_post call;

	post(&call, ctx);
	assert_int_equal(post_answer(&call), STATUS_SUCCESS);
	return NULL;
}

static void
a_target_closes_after_what_is_sent_and_forgotten_has_passed(void **state)
{
	pthread_t sender, closer;
	struct t_wdf t;

	CONF_COVERS("KE-17");
	(void)state;
	KeInitializeEvent(&go_on, NotificationEvent, FALSE);
	in_caller_context = send_around;
	how = 0;
	begin_keeping(&t);
	open_own();
	sender = t_thread(post_around, &t);
	t_await(&arrived);
	closer = close_while_in_use();
	KeSetEvent(&go_on, IO_NO_INCREMENT, FALSE);
	end_closed(&t, sender, closer);
}

static VOID
answer_sent(WDFREQUEST request, WDFIOTARGET target, PWDF_REQUEST_COMPLETION_PARAMS params, WDFCONTEXT context)
{
	UNREFERENCED_PARAMETER(context);
	assert_ptr_equal(target, own_target);
	WdfRequestComplete(request, params->IoStatus.Status);
}

static VOID
send_if_open(WDFQUEUE queue, WDFREQUEST request)
{
	WDF_REQUEST_SEND_OPTIONS options;
	PWDF_REQUEST_SEND_OPTIONS way = WDF_NO_SEND_OPTIONS;

	UNREFERENCED_PARAMETER(queue);
	WdfRequestFormatRequestUsingCurrentType(request);
	WdfRequestSetCompletionRoutine(request, answer_sent, NULL);
	if (how++ % 2 != 0) {
		WDF_REQUEST_SEND_OPTIONS_INIT(&options, WDF_REQUEST_SEND_OPTION_SEND_AND_FORGET);
		way = &options;
	}
	if (!WdfRequestSend(request, own_target, way))
		WdfRequestComplete(request, WdfRequestGetStatus(request));
}

static void *
post_many(void *ctx)
{
	for (int i = 0; i < 4000; i++) {
		struct t_post call;
		NTSTATUS status;

		post(&call, ctx);
		status = post_answer(&call);
		assert_true(status == STATUS_SUCCESS || status == STATUS_INVALID_DEVICE_STATE);
	}
	KeSetEvent(&go_on, IO_NO_INCREMENT, FALSE);
	return NULL;
}

static void
a_target_may_close_while_requests_are_sent_to_it(void **state)
{
	WDF_IO_TARGET_OPEN_PARAMS open;
	pthread_t sender;
	struct t_wdf t;

	(void)state;
	KeInitializeEvent(&go_on, NotificationEvent, FALSE);
	config.EvtIoDefault = send_if_open;
	how = 0;
	begin(&t);
	assert_int_equal(WdfIoTargetCreate(t_dev, NULL, &own_target), STATUS_SUCCESS);
	WDF_IO_TARGET_OPEN_PARAMS_INIT_EXISTING_DEVICE(&open, t.pdo);
	sender = t_thread(post_many, &t);
	while (KeReadStateEvent(&go_on) == 0) {
		assert_int_equal(WdfIoTargetOpen(own_target, &open), STATUS_SUCCESS);
		WdfIoTargetClose(own_target);
	}
	t_join(sender);
	WdfObjectDelete(own_target);
	end(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(buffers_are_found_for_each_method, reset),
		cmocka_unit_test_setup(empty_buffers_are_too_small_and_information_is_bounded, reset),
		cmocka_unit_test_setup(a_completed_request_is_no_request_any_more, reset),
		cmocka_unit_test_setup(a_cancelable_request_is_cancelled_once, reset),
		cmocka_unit_test_setup(what_waits_in_a_queue_is_cancelled_there, reset),
		cmocka_unit_test_setup(a_manual_queue_is_taken_from_and_put_back, reset),
		cmocka_unit_test_setup(a_manual_queue_is_ready_when_it_can_be_taken_from, reset),
		cmocka_unit_test_setup(a_manual_queue_is_ready_when_its_device_is, reset),
		cmocka_unit_test_setup(a_filter_passes_on_what_it_has_no_queue_for, reset),
		cmocka_unit_test_setup(requests_can_be_sent_to_the_device_below, reset),
		cmocka_unit_test_setup(a_target_closes_after_the_drivers_own_control, reset),
		cmocka_unit_test_setup(a_target_closes_after_what_is_sent_and_forgotten_has_passed, reset),
		cmocka_unit_test_setup(a_target_may_close_while_requests_are_sent_to_it, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
