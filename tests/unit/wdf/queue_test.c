/* SPDX-License-Identifier: MIT */
/* Queues: delivery, order, limits. */
#include "t_queue.h"

/* ---- delivery -------------------------------------------------------------------------------- */

static VOID
log_control(WDFQUEUE queue, WDFREQUEST request, size_t out, size_t in, ULONG code)
{
	WDF_REQUEST_PARAMETERS parameters;

	WDF_REQUEST_PARAMETERS_INIT(&parameters);
	WdfRequestGetParameters(request, &parameters);
	assert_int_equal(parameters.Type, WdfRequestTypeDeviceControl);
	assert_int_equal(parameters.Parameters.DeviceIoControl.IoControlCode, code);
	assert_int_equal(parameters.Parameters.DeviceIoControl.InputBufferLength, in);
	assert_int_equal(parameters.Parameters.DeviceIoControl.OutputBufferLength, out);
	assert_ptr_equal(WdfRequestGetIoQueue(request), queue);
	assert_ptr_equal(WdfIoQueueGetDevice(queue), t_dev);
	assert_int_equal(WdfRequestGetRequestorMode(request), UserMode);
	assert_null(WdfRequestGetFileObject(request));
	assert_non_null(WdfRequestWdmGetIrp(request));
	assert_false(WdfRequestIsCanceled(request));
	t_log("control");
	WdfRequestComplete(request, STATUS_SUCCESS);
}

static VOID
log_read(WDFQUEUE queue, WDFREQUEST request, size_t length)
{
	WDF_REQUEST_PARAMETERS parameters;
	PVOID buffer;

	UNREFERENCED_PARAMETER(queue);
	WDF_REQUEST_PARAMETERS_INIT(&parameters);
	WdfRequestGetParameters(request, &parameters);
	assert_int_equal(parameters.Parameters.Read.Length, length);
	assert_int_equal(parameters.Parameters.Read.DeviceOffset, 77);
	assert_int_equal(WdfRequestRetrieveInputBuffer(request, 1, &buffer, NULL), STATUS_INVALID_DEVICE_REQUEST);
	assert_int_equal(WdfRequestRetrieveOutputBuffer(request, length, &buffer, &length), STATUS_SUCCESS);
	memset(buffer, 'R', length);
	t_log("read%zu", length);
	WdfRequestCompleteWithInformation(request, STATUS_SUCCESS, length);
}

static VOID
log_write(WDFQUEUE queue, WDFREQUEST request, size_t length)
{
	WDFMEMORY memory;
	size_t bytes;

	UNREFERENCED_PARAMETER(queue);
	assert_int_equal(WdfRequestRetrieveOutputMemory(request, &memory), STATUS_INVALID_DEVICE_REQUEST);
	assert_int_equal(WdfRequestRetrieveInputMemory(request, &memory), STATUS_SUCCESS);
	assert_memory_equal(WdfMemoryGetBuffer(memory, &bytes), "write", 5);
	assert_int_equal(bytes, length);
	assert_int_equal(WdfMemoryCopyFromBuffer(memory, 0, (PVOID)(ULONG_PTR) "x", 1), STATUS_ACCESS_VIOLATION);
	assert_misuse(WdfObjectDelete(memory));
	t_log("write%zu", length);
	WdfRequestSetInformation(request, length);
	assert_int_equal(WdfRequestGetInformation(request), length);
	WdfRequestCompleteWithPriorityBoost(request, STATUS_SUCCESS, IO_NO_INCREMENT);
}

static void
requests_reach_the_callback_of_their_kind(void **state)
{
	const WDF_DEVICE_IO_TYPE types[] = { WdfDeviceIoBuffered, WdfDeviceIoDirect };

	CONF_COVERS("KE-17");
	(void)state;
	for (size_t i = 0; i < RTL_NUMBER_OF(types); i++) {
		struct t_wdf t;
		PFILE_OBJECT file;
		char buffer[8] = "write";
		ULONG_PTR done;

		reset(NULL);
		io_type = types[i];
		config.EvtIoDeviceControl = log_control;
		config.EvtIoRead = log_read;
		config.EvtIoWrite = log_write;
		begin(&t);
		assert_ptr_equal(WdfDeviceGetDefaultQueue(t_dev), t_queue);
		file = t_open();
		assert_int_equal(ioctl(file, T_ECHO, "abc", buffer, 0, NULL), STATUS_SUCCESS);
		assert_int_equal(nt_file_transfer(file, IRP_MJ_WRITE, buffer, 5, 77, &done), STATUS_SUCCESS);
		assert_int_equal(done, 5);
		assert_int_equal(nt_file_transfer(file, IRP_MJ_READ, buffer, 5, 77, &done), STATUS_SUCCESS);
		assert_string_equal(buffer, "RRRRR");
		/* Empty ones complete by themselves. */
		assert_int_equal(nt_file_transfer(file, IRP_MJ_READ, buffer, 0, 77, &done), STATUS_SUCCESS);
		t_assert_log("control write5 read5");
		nt_file_close(file);
		end(&t);
	}
}

static void
what_has_no_callback_is_the_defaults_or_refused(void **state)
{
	struct t_wdf t;
	PFILE_OBJECT file;
	char buffer[8];

	(void)state;
	config.EvtIoRead = log_read;
	config.EvtIoDefault = log_default;
	begin(&t);
	file = t_open();
	assert_int_equal(ioctl(file, T_ECHO, NULL, buffer, 8, NULL), STATUS_NOT_FOUND);
	t_assert_log("default");
	nt_file_close(file);
	end(&t);

	reset(NULL);
	config.EvtIoRead = log_read;
	begin(&t);
	file = t_open();
	assert_int_equal(ioctl(file, T_ECHO, NULL, buffer, 8, NULL), STATUS_INVALID_DEVICE_REQUEST);
	nt_file_close(file);
	end(&t);

	reset(NULL);
	config.DispatchType = WdfIoQueueDispatchInvalid; /* no queue at all */
	begin(&t);
	file = t_open();
	assert_int_equal(ioctl(file, T_ECHO, NULL, buffer, 8, NULL), STATUS_INVALID_DEVICE_REQUEST);
	nt_file_close(file);
	end(&t);
}

static void
queue_configurations_are_checked(void **state)
{
	WDF_IO_QUEUE_CONFIG wrong;
	WDF_OBJECT_ATTRIBUTES attributes;
	struct t_wdf t;
	WDFQUEUE queue;

	(void)state;
	config.EvtIoDefault = log_default;
	begin(&t);
	WDF_IO_QUEUE_CONFIG_INIT(&wrong, WdfIoQueueDispatchParallel);
	assert_int_equal(WdfIoQueueCreate(t_dev, &wrong, NULL, &queue), STATUS_WDF_NO_CALLBACK);
	wrong.EvtIoDefault = log_default;
	assert_int_equal(WdfIoQueueCreate(t_dev, &wrong, NULL, NULL), STATUS_INVALID_PARAMETER);
	wrong.Settings.Parallel.NumberOfPresentedRequests = 0;
	assert_int_equal(WdfIoQueueCreate(t_dev, &wrong, NULL, &queue), STATUS_INVALID_PARAMETER);
	wrong.DispatchType = WdfIoQueueDispatchMax;
	assert_int_equal(WdfIoQueueCreate(t_dev, &wrong, NULL, &queue), STATUS_INVALID_PARAMETER);
	wrong.DispatchType = WdfIoQueueDispatchManual;
	assert_int_equal(WdfIoQueueCreate(t_dev, &wrong, NULL, &queue), STATUS_INVALID_PARAMETER);
	wrong.Size = 3;
	assert_int_equal(WdfIoQueueCreate(t_dev, &wrong, NULL, &queue), STATUS_INFO_LENGTH_MISMATCH);
	assert_int_equal(WdfIoQueueCreate(t_dev, NULL, NULL, &queue), STATUS_INVALID_PARAMETER);
	WDF_IO_QUEUE_CONFIG_INIT_DEFAULT_QUEUE(&wrong, WdfIoQueueDispatchSequential);
	wrong.EvtIoDefault = log_default;
	assert_int_equal(WdfIoQueueCreate(t_dev, &wrong, NULL, &queue), STATUS_UNSUCCESSFUL); /* has one */
	WDF_IO_QUEUE_CONFIG_INIT(&wrong, WdfIoQueueDispatchManual);
	WDF_OBJECT_ATTRIBUTES_INIT(&attributes);
	attributes.ParentObject = t.handle;
	assert_int_equal(WdfIoQueueCreate(t_dev, &wrong, &attributes, &queue), STATUS_INVALID_PARAMETER);
	assert_misuse(WdfObjectDelete(t_queue));
	assert_int_equal(WdfDeviceConfigureRequestDispatching(t_dev, manual, WdfRequestTypeClose),
			 STATUS_INVALID_DEVICE_REQUEST);
	assert_int_equal(WdfDeviceConfigureRequestDispatching(t_dev, manual, WdfRequestTypeRead), STATUS_SUCCESS);
	assert_int_equal(WdfDeviceConfigureRequestDispatching(t_dev, manual, WdfRequestTypeRead), STATUS_WDF_BUSY);
	WdfObjectDelete(manual);
	assert_int_equal(WdfIoQueueReadyNotify(t_queue, NULL, NULL), STATUS_INVALID_DEVICE_REQUEST);
	end(&t);
}

/* ---- order and limits ------------------------------------------------------------------------ */

static void
a_sequential_queue_has_one_request_out(void **state)
{
	struct t_call calls[3];
	struct t_wdf t;
	PFILE_OBJECT file;

	CONF_COVERS("KE-17");
	(void)state;
	config.DispatchType = WdfIoQueueDispatchSequential;
	begin_keeping(&t);
	file = t_open();
	for (int i = 0; i < 3; i++)
		t_call(&calls[i], file, T_ECHO, "x");
	for (int i = 0; i < 3; i++) {
		t_await(&arrived);
		assert_int_equal(kept_count, i + 1);
		WdfRequestComplete(kept[i], STATUS_SUCCESS);
	}
	for (int i = 0; i < 3; i++)
		assert_int_equal(t_answer(&calls[i]), STATUS_SUCCESS);
	nt_file_close(file);
	end(&t);
}

static void
a_parallel_queue_presents_up_to_its_limit(void **state)
{
	struct t_call calls[4];
	struct t_wdf t;
	PFILE_OBJECT file;

	CONF_COVERS("KE-17");
	(void)state;
	config.Settings.Parallel.NumberOfPresentedRequests = 3;
	begin_keeping(&t);
	file = t_open();
	send_kept(calls, 3, file);
	t_call(&calls[3], file, T_ECHO, "x");
	assert_int_equal(kept_count, 3);
	WdfRequestComplete(kept[1], STATUS_SUCCESS);
	t_await(&arrived);
	assert_int_equal(kept_count, 4);
	WdfRequestComplete(kept[0], STATUS_SUCCESS);
	WdfRequestComplete(kept[2], STATUS_SUCCESS);
	WdfRequestComplete(kept[3], STATUS_SUCCESS);
	for (int i = 0; i < 4; i++)
		assert_int_equal(t_answer(&calls[i]), STATUS_SUCCESS);
	nt_file_close(file);
	end(&t);
}

static KIRQL level;

static VOID
note_level(WDFQUEUE queue, WDFREQUEST request)
{
	UNREFERENCED_PARAMETER(queue);
	level = KeGetCurrentIrql();
	WdfRequestComplete(request, STATUS_SUCCESS);
}

static void
execution_level_and_scope_decide_where_callbacks_run(void **state)
{
	static const struct {
		WDF_EXECUTION_LEVEL execution;
		WDF_SYNCHRONIZATION_SCOPE device, queue;
		KIRQL from, at;
	} cases[] = {
		{ WdfExecutionLevelDispatch, WdfSynchronizationScopeNone, WdfSynchronizationScopeInheritFromParent,
		  DISPATCH_LEVEL, DISPATCH_LEVEL },
		{ WdfExecutionLevelDispatch, WdfSynchronizationScopeNone, WdfSynchronizationScopeInheritFromParent,
		  PASSIVE_LEVEL, PASSIVE_LEVEL },
		{ WdfExecutionLevelDispatch, WdfSynchronizationScopeDevice, WdfSynchronizationScopeInheritFromParent,
		  PASSIVE_LEVEL, DISPATCH_LEVEL },
		{ WdfExecutionLevelDispatch, WdfSynchronizationScopeNone, WdfSynchronizationScopeQueue, PASSIVE_LEVEL,
		  DISPATCH_LEVEL },
		{ WdfExecutionLevelPassive, WdfSynchronizationScopeDevice, WdfSynchronizationScopeInheritFromParent,
		  DISPATCH_LEVEL, PASSIVE_LEVEL },
		{ WdfExecutionLevelPassive, WdfSynchronizationScopeNone, WdfSynchronizationScopeInheritFromParent,
		  DISPATCH_LEVEL, PASSIVE_LEVEL },
	};

	CONF_COVERS("KE-17");
	(void)state;
	for (size_t i = 0; i < RTL_NUMBER_OF(cases); i++) {
		IO_STATUS_BLOCK result;
		struct t_wdf t;
		KEVENT done;
		KIRQL irql;
		PIRP irp;

		reset(NULL);
		config.EvtIoDefault = note_level;
		device_attributes.ExecutionLevel = cases[i].execution;
		device_attributes.SynchronizationScope = cases[i].device;
		queue_attributes.SynchronizationScope = cases[i].queue;
		begin(&t);
		level = 99;
		KeInitializeEvent(&done, NotificationEvent, FALSE);
		irp = IoBuildDeviceIoControlRequest(T_ECHO, t.pdo->AttachedDevice, NULL, 0, NULL, 0, FALSE, &done,
						    &result);
		KeRaiseIrql(cases[i].from, &irql);
		(void)IoCallDriver(t.pdo->AttachedDevice, irp);
		KeLowerIrql(irql);
		t_await(&done);
		assert_int_equal(level, cases[i].at);
		if (cases[i].queue == WdfSynchronizationScopeQueue) {
			WdfObjectAcquireLock(t_queue);
			assert_misuse(WdfObjectAcquireLock(t_queue));
			WdfObjectReleaseLock(t_queue);
			assert_misuse(WdfObjectReleaseLock(t_queue));
		}
		end(&t);
	}
}

/* A callback that passes its request to another queue under the same lock is not entered below itself. */
static VOID
forward_in_scope(WDFQUEUE queue, WDFREQUEST request)
{
	if (queue == t_queue)
		assert_int_equal(WdfRequestForwardToIoQueue(request, manual), STATUS_SUCCESS);
	t_log(queue == t_queue ? "first" : "second");
	if (queue != t_queue)
		WdfRequestComplete(request, STATUS_SUCCESS);
}

static NTSTATUS
add_two(WDFDRIVER driver, PWDFDEVICE_INIT init)
{
	WDF_IO_QUEUE_CONFIG second;

	UNREFERENCED_PARAMETER(driver);
	t_dev = t_wdf_device(&init, &device_attributes);
	config.EvtIoDefault = forward_in_scope;
	assert_int_equal(WdfIoQueueCreate(t_dev, &config, &queue_attributes, &t_queue), STATUS_SUCCESS);
	WDF_IO_QUEUE_CONFIG_INIT(&second, WdfIoQueueDispatchSequential);
	second.EvtIoDefault = forward_in_scope;
	return WdfIoQueueCreate(t_dev, &second, WDF_NO_OBJECT_ATTRIBUTES, &manual);
}

static void
one_lock_for_two_queues_is_not_taken_twice(void **state)
{
	static const WDF_EXECUTION_LEVEL levels[] = { WdfExecutionLevelPassive, WdfExecutionLevelDispatch };

	(void)state;
	for (size_t i = 0; i < RTL_NUMBER_OF(levels); i++) {
		struct t_wdf t;
		PFILE_OBJECT file;

		reset(NULL);
		device_attributes.SynchronizationScope = WdfSynchronizationScopeDevice;
		device_attributes.ExecutionLevel = levels[i];
		t_wdf_begin(&t, add_two, NULL);
		assert_int_equal(t_wdf_add(&t), STATUS_SUCCESS);
		assert_int_equal(t_wdf_start(&t), STATUS_SUCCESS);
		file = t_open();
		assert_int_equal(ioctl(file, T_ECHO, NULL, NULL, 0, NULL), STATUS_SUCCESS);
		t_assert_log("first second");
		nt_file_close(file);
		end(&t);
	}
}

/* ---- in the caller's context ----------------------------------------------------------------- */

static VOID
look_first(WDFDEVICE device, WDFREQUEST request)
{
	t_log("caller");
	if (how == 0)
		WdfRequestComplete(request, STATUS_ACCESS_DENIED);
	else
		assert_int_equal(WdfDeviceEnqueueRequest(device, request), STATUS_SUCCESS);
}

static void
a_driver_may_look_before_a_queue_does(void **state)
{
	struct t_wdf t;
	PFILE_OBJECT file;

	(void)state;
	in_caller_context = look_first;
	config.EvtIoDefault = log_default;
	begin(&t);
	file = t_open();
	how = 0;
	assert_int_equal(ioctl(file, T_ECHO, NULL, NULL, 0, NULL), STATUS_ACCESS_DENIED);
	how = 1;
	assert_int_equal(ioctl(file, T_ECHO, NULL, NULL, 0, NULL), STATUS_NOT_FOUND);
	t_assert_log("caller caller default");
	nt_file_close(file);
	end(&t);
}

/* ---- all at once ----------------------------------------------------------------------------- */

static VOID
complete_or_keep(WDFQUEUE queue, WDFREQUEST request)
{
	static volatile LONG turn;

	UNREFERENCED_PARAMETER(queue);
	switch (InterlockedIncrement(&turn) % 3) {
	case 0:
		WdfRequestComplete(request, STATUS_SUCCESS);
		break;
	case 1:
		WdfRequestMarkCancelable(request, cancel_it);
		break;
	default:
		if (!NT_SUCCESS(WdfRequestForwardToIoQueue(request, manual)))
			WdfRequestComplete(request, STATUS_SUCCESS);
		break;
	}
}

static void *
call_many(void *ctx)
{
	PFILE_OBJECT file = ctx;

	for (int i = 0; i < 60; i++)
		(void)ioctl(file, T_ECHO, NULL, NULL, 0, NULL);
	return NULL;
}

static void *
cancel_many(void *ctx)
{
	PFILE_OBJECT *files = ctx;

	while (!__atomic_load_n((PVOID *)&files[4], __ATOMIC_ACQUIRE)) {
		for (int i = 0; i < 4; i++)
			nt_file_cancel(files[i]);
		sched_yield();
	}
	return NULL;
}

static void
requests_of_many_threads_all_end(void **state)
{
	PFILE_OBJECT files[5] = { NULL };
	pthread_t threads[4], canceller;
	struct t_wdf t;

	(void)state;
	config.EvtIoDefault = complete_or_keep;
	config.Settings.Parallel.NumberOfPresentedRequests = 2;
	begin(&t);
	for (int i = 0; i < 4; i++)
		files[i] = t_open();
	canceller = t_thread(cancel_many, files);
	for (int i = 0; i < 4; i++)
		threads[i] = t_thread(call_many, files[i]);
	for (int i = 0; i < 4; i++)
		t_join(threads[i]);
	__atomic_store_n((PVOID *)&files[4], (PVOID)&t, __ATOMIC_RELEASE);
	t_join(canceller);
	for (int i = 0; i < 4; i++)
		nt_file_close(files[i]);
	end(&t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(requests_reach_the_callback_of_their_kind, reset),
		cmocka_unit_test_setup(what_has_no_callback_is_the_defaults_or_refused, reset),
		cmocka_unit_test_setup(queue_configurations_are_checked, reset),
		cmocka_unit_test_setup(a_sequential_queue_has_one_request_out, reset),
		cmocka_unit_test_setup(a_parallel_queue_presents_up_to_its_limit, reset),
		cmocka_unit_test_setup(execution_level_and_scope_decide_where_callbacks_run, reset),
		cmocka_unit_test_setup(one_lock_for_two_queues_is_not_taken_twice, reset),
		cmocka_unit_test_setup(a_driver_may_look_before_a_queue_does, reset),
		cmocka_unit_test_setup(requests_of_many_threads_all_end, reset),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
