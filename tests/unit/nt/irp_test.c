/* SPDX-License-Identifier: MIT */
/* IRPs: down, up, cancelled; buffers of each method; files. */
#include "t_io.h"

static char log_text[256];

static void
note(const char *text)
{
	strncat(log_text, text, sizeof(log_text) - strlen(log_text) - 1);
}

static NTSTATUS
forward(PDEVICE_OBJECT device, PIRP irp)
{
	note("f");
	IoSkipCurrentIrpStackLocation(irp);
	return IoCallDriver(*(PDEVICE_OBJECT *)device->DeviceExtension, irp);
}

static NTSTATUS
note_completion(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
	UNREFERENCED_PARAMETER(device);
	note(context);
	if (irp->PendingReturned && device != NULL)
		IoMarkIrpPending(irp);
	return STATUS_CONTINUE_COMPLETION;
}

static NTSTATUS
forward_and_look(PDEVICE_OBJECT device, PIRP irp)
{
	note("c");
	IoCopyCurrentIrpStackLocationToNext(irp);
	IoSetCompletionRoutine(irp, note_completion, (PVOID)(ULONG_PTR) "C", TRUE, TRUE, TRUE);
	return IoCallDriver(*(PDEVICE_OBJECT *)device->DeviceExtension, irp);
}

static NTSTATUS
answer(PDEVICE_OBJECT device, PIRP irp)
{
	UNREFERENCED_PARAMETER(device);
	note("a");
	return t_complete(irp, STATUS_SUCCESS, 7);
}

static NTSTATUS
stop_here(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
	UNREFERENCED_PARAMETER(irp);
	assert_null(device);
	note("S");
	*(int *)context += 1;
	return STATUS_MORE_PROCESSING_REQUIRED;
}

/* bottom answers, middle forwards, top looks on the way up. */
struct stack {
	PDRIVER_OBJECT drivers[3];
	PDEVICE_OBJECT devices[3];
};

static struct stack
stack_new(PDRIVER_DISPATCH bottom, PDRIVER_DISPATCH middle, PDRIVER_DISPATCH top)
{
	const PDRIVER_DISPATCH dispatch[3] = { bottom, middle, top };
	struct stack stack;

	log_text[0] = '\0';
	for (int i = 0; i < 3; i++) {
		stack.drivers[i] = t_driver();
		stack.drivers[i]->MajorFunction[IRP_MJ_DEVICE_CONTROL] = dispatch[i];
		stack.drivers[i]->MajorFunction[IRP_MJ_PNP] = dispatch[i];
		stack.devices[i] = t_device(stack.drivers[i], NULL);
		if (i != 0)
			*(PDEVICE_OBJECT *)stack.devices[i]->DeviceExtension =
				IoAttachDeviceToDeviceStack(stack.devices[i], stack.devices[0]);
	}
	return stack;
}

static void
stack_free(struct stack *stack)
{
	for (int i = 2; i >= 0; i--) {
		if (i != 0)
			IoDetachDevice(stack->devices[i - 1]);
		IoDeleteDevice(stack->devices[i]);
		assert_int_equal(nt_driver_destroy(stack->drivers[i]), 0);
	}
}

static void
a_request_goes_down_and_up_in_order(void **state)
{
	struct stack stack = stack_new(answer, forward, forward_and_look);
	PIRP irp = IoAllocateIrp(stack.devices[2]->StackSize, FALSE);
	int stopped = 0;

	CONF_COVERS("KE-17");
	(void)state;
	IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_DEVICE_CONTROL;
	IoSetCompletionRoutine(irp, stop_here, &stopped, TRUE, TRUE, TRUE);
	assert_int_equal(IoCallDriver(stack.devices[2], irp), STATUS_SUCCESS);
	assert_string_equal(log_text, "cfaCS");
	assert_int_equal(stopped, 1);
	assert_int_equal(irp->IoStatus.Information, 7);
	/* Once more with the same packet. */
	IoReuseIrp(irp, STATUS_NOT_SUPPORTED);
	assert_int_equal(irp->IoStatus.Status, STATUS_NOT_SUPPORTED);
	IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_DEVICE_CONTROL;
	IoSetCompletionRoutine(irp, stop_here, &stopped, TRUE, TRUE, TRUE);
	assert_int_equal(IoCallDriver(stack.devices[2], irp), STATUS_SUCCESS);
	assert_int_equal(stopped, 2);
	IoFreeIrp(irp);
	stack_free(&stack);
}

static void
completion_routines_run_for_what_they_asked_for(void **state)
{
	static const struct {
		NTSTATUS status;
		BOOLEAN cancelled, on_success, on_error, on_cancel, runs;
	} cases[] = {
		{ STATUS_SUCCESS, FALSE, TRUE, FALSE, FALSE, TRUE },
		{ STATUS_SUCCESS, FALSE, FALSE, TRUE, TRUE, FALSE },
		{ STATUS_UNSUCCESSFUL, FALSE, TRUE, FALSE, FALSE, FALSE },
		{ STATUS_UNSUCCESSFUL, FALSE, FALSE, TRUE, FALSE, TRUE },
		{ STATUS_CANCELLED, TRUE, FALSE, FALSE, TRUE, TRUE },
		{ STATUS_CANCELLED, FALSE, FALSE, FALSE, TRUE, FALSE },
		{ STATUS_BUFFER_OVERFLOW, FALSE, FALSE, TRUE, FALSE, TRUE },
	};
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT device = t_device(driver, NULL);

	(void)state;
	for (size_t i = 0; i < RTL_NUMBER_OF(cases); i++) {
		for (int ex = 0; ex < 2; ex++) {
			PIRP irp = IoAllocateIrp(2, FALSE);
			int ours = 0;

			log_text[0] = '\0';
			IoSetCompletionRoutine(irp, stop_here, &ours, TRUE, TRUE, TRUE);
			IoSetNextIrpStackLocation(irp);
			if (ex)
				assert_int_equal(IoSetCompletionRoutineEx(device, irp, note_completion,
									  (PVOID)(ULONG_PTR) "x",
									  cases[i].on_success,
									  cases[i].on_error,
									  cases[i].on_cancel),
						 STATUS_SUCCESS);
			else
				IoSetCompletionRoutine(irp, note_completion, (PVOID)(ULONG_PTR) "x",
						       cases[i].on_success, cases[i].on_error,
						       cases[i].on_cancel);
			IoSetNextIrpStackLocation(irp);
			irp->Cancel = cases[i].cancelled;
			irp->IoStatus.Status = cases[i].status;
			IoCompleteRequest(irp, IO_NO_INCREMENT);
			assert_string_equal(log_text, cases[i].runs ? "xS" : "S");
			IoFreeIrp(irp);
		}
	}
	assert_int_equal(device->ReferenceCount, 0);
	IoDeleteDevice(device);
	nt_driver_destroy(driver);
}

static NTSTATUS
leave_alone(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
	UNREFERENCED_PARAMETER(device);
	UNREFERENCED_PARAMETER(irp);
	UNREFERENCED_PARAMETER(context);
	return STATUS_MORE_PROCESSING_REQUIRED;
}

static VOID
never_called(PDEVICE_OBJECT device, PIRP irp)
{
	UNREFERENCED_PARAMETER(device);
	UNREFERENCED_PARAMETER(irp);
	fail();
}

static void
wrong_use_of_an_irp_is_reported(void **state)
{
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT device = t_device(driver, NULL);
	IRP *irp = IoAllocateIrp(1, FALSE), *own = calloc(1, IoSizeOfIrp(1));

	CONF_COVERS("KE-17");
	(void)state;
	assert_misuse(assert_null(IoAllocateIrp(0, FALSE)));
	assert_misuse(assert_null(IoAllocateIrp(101, FALSE)));
	IoInitializeIrp(own, IoSizeOfIrp(1), 1);
	assert_misuse(IoFreeIrp(own));
	free(own);

	IoSetCompletionRoutine(irp, leave_alone, NULL, TRUE, TRUE, TRUE);
	IoSetNextIrpStackLocation(irp);
	/* One more driver than there are locations. */
	assert_misuse(assert_int_equal(IoCallDriver(device, irp), STATUS_INVALID_PARAMETER));
	irp->IoStatus.Status = STATUS_PENDING;
	assert_misuse(IoCompleteRequest(irp, IO_NO_INCREMENT));
	irp->IoStatus.Status = STATUS_SUCCESS;
	IoSetCancelRoutine(irp, never_called);
	assert_misuse(IoCompleteRequest(irp, IO_NO_INCREMENT));
	assert_null(irp->CancelRoutine);
	assert_misuse(IoCompleteRequest(irp, IO_NO_INCREMENT));
	IoReuseIrp(irp, STATUS_SUCCESS);
	IoSetNextIrpStackLocation(irp);
	assert_misuse(IoCompleteRequest(irp, IO_NO_INCREMENT)); /* nobody takes it */
	IoFreeIrp(irp);
	IoDeleteDevice(device);
	nt_driver_destroy(driver);
}

static NTSTATUS
complete_again(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
	UNREFERENCED_PARAMETER(device);
	assert_misuse(IoCompleteRequest(irp, IO_NO_INCREMENT));
	*(int *)context += 1;
	return STATUS_CONTINUE_COMPLETION;
}

/* At the top there is nothing left but to free it, and its completion does that when the routine returns. */
static void
request_of_ours_that_a_routine_completes_again_is_freed_once(void **state)
{
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT device = t_device(driver, NULL);
	IO_STATUS_BLOCK result = { .Status = -1 };
	int calls = 0;
	KEVENT event;
	PIRP irp;

	CONF_COVERS("KE-17");
	(void)state;
	driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = answer;
	KeInitializeEvent(&event, NotificationEvent, FALSE);
	irp = IoBuildDeviceIoControlRequest(T_BUFFERED, device, NULL, 0, NULL, 0, FALSE, &event, &result);
	assert_non_null(irp);
	IoSetCompletionRoutine(irp, complete_again, &calls, TRUE, TRUE, TRUE);
	assert_int_equal(IoCallDriver(device, irp), STATUS_SUCCESS);
	assert_int_equal(calls, 1);
	assert_int_equal(result.Information, 7);
	assert_int_equal(KeReadStateEvent(&event), 1);
	IoDeleteDevice(device);
	nt_driver_destroy(driver);
}

/* ---- cancellation ---------------------------------------------------------------------------- */

static PIRP cancelled;

static VOID
note_cancel(PDEVICE_OBJECT device, PIRP irp)
{
	assert_int_equal(KeGetCurrentIrql(), DISPATCH_LEVEL);
	assert_non_null(device);
	IoReleaseCancelSpinLock(irp->CancelIrql);
	assert_int_equal(KeGetCurrentIrql(), PASSIVE_LEVEL);
	cancelled = irp;
	t_complete(irp, STATUS_CANCELLED, 0);
}

static NTSTATUS
hold(PDEVICE_OBJECT device, PIRP irp)
{
	UNREFERENCED_PARAMETER(device);
	IoMarkIrpPending(irp);
	IoSetCancelRoutine(irp, note_cancel);
	return STATUS_PENDING;
}

static void
cancelling_calls_the_routine_that_is_set_and_only_that(void **state)
{
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT device = t_device(driver, NULL);
	PIRP irp = IoAllocateIrp(1, FALSE);
	int stopped = 0;

	CONF_COVERS("KE-17");
	(void)state;
	driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = hold;
	IoGetNextIrpStackLocation(irp)->MajorFunction = IRP_MJ_DEVICE_CONTROL;
	IoSetCompletionRoutine(irp, stop_here, &stopped, TRUE, TRUE, TRUE);
	assert_int_equal(IoCallDriver(device, irp), STATUS_PENDING);
	assert_int_equal(stopped, 0);
	assert_true(IoCancelIrp(irp));
	assert_ptr_equal(cancelled, irp);
	assert_int_equal(stopped, 1);
	assert_true(irp->PendingReturned);
	assert_false(IoCancelIrp(irp));
	IoFreeIrp(irp);
	IoDeleteDevice(device);
	nt_driver_destroy(driver);
}

/* ---- built requests -------------------------------------------------------------------------- */

static PIRP seen;

/* Buffers as the driver finds them; the answer is the input with each byte one higher. */
static NTSTATUS
increment(PDEVICE_OBJECT device, PIRP irp)
{
	const IO_STACK_LOCATION *location = IoGetCurrentIrpStackLocation(irp);
	const ULONG in = location->Parameters.DeviceIoControl.InputBufferLength;
	const ULONG out = location->Parameters.DeviceIoControl.OutputBufferLength;
	const UCHAR *from = irp->AssociatedIrp.SystemBuffer;
	UCHAR *to = irp->AssociatedIrp.SystemBuffer;

	UNREFERENCED_PARAMETER(device);
	seen = irp;
	switch (METHOD_FROM_CTL_CODE(location->Parameters.DeviceIoControl.IoControlCode)) {
	case METHOD_IN_DIRECT:
	case METHOD_OUT_DIRECT:
		assert_non_null(irp->MdlAddress);
		assert_int_equal(MmGetMdlByteCount(irp->MdlAddress), out);
		to = MmGetSystemAddressForMdlSafe(irp->MdlAddress, NormalPagePriority);
		break;
	case METHOD_NEITHER:
		assert_null(from);
		from = location->Parameters.DeviceIoControl.Type3InputBuffer;
		to = irp->UserBuffer;
		break;
	default:
		assert_null(irp->MdlAddress);
		break;
	}
	for (ULONG i = 0; i < min(in, out); i++)
		to[i] = (UCHAR)(from[i] + 1);
	return t_complete(irp, STATUS_SUCCESS, min(in, out));
}

static void
buffers_are_as_the_method_says(void **state)
{
	static const ULONG codes[] = { T_BUFFERED, T_IN_DIRECT, T_OUT_DIRECT, T_NEITHER };
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT device = t_device(driver, NULL);
	struct nt_io_counts before, after;

	CONF_COVERS("KE-17");
	(void)state;
	driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = increment;
	driver->MajorFunction[IRP_MJ_INTERNAL_DEVICE_CONTROL] = increment;
	nt_io_get_counts(&before);
	for (size_t i = 0; i < RTL_NUMBER_OF(codes); i++) {
		char input[] = "HAL", output[8] = "????";
		IO_STATUS_BLOCK result = { .Status = STATUS_PENDING };
		KEVENT done;
		PIRP irp;

		KeInitializeEvent(&done, NotificationEvent, FALSE);
		irp = IoBuildDeviceIoControlRequest(codes[i], device, input, 3, output, sizeof(output), i % 2 != 0,
						    &done, &result);
		assert_non_null(irp);
		assert_int_equal(IoCallDriver(device, irp), STATUS_SUCCESS);
		assert_int_equal(KeReadStateEvent(&done), 1);
		assert_int_equal(result.Status, STATUS_SUCCESS);
		assert_int_equal(result.Information, 3);
		assert_string_equal(output, "IBM?");
		assert_string_equal(input, "HAL");
	}
	nt_io_get_counts(&after);
	assert_int_equal(after.irps, before.irps);
	IoDeleteDevice(device);
	nt_driver_destroy(driver);
}

static NTSTATUS
overflow(PDEVICE_OBJECT device, PIRP irp)
{
	UNREFERENCED_PARAMETER(device);
	memset(irp->AssociatedIrp.SystemBuffer, 'x', 4);
	return t_complete(irp, *(NTSTATUS *)device->DeviceExtension, 4);
}

static void
output_is_copied_unless_the_request_failed(void **state)
{
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT device = t_device(driver, NULL);
	static const struct {
		NTSTATUS status;
		const char *output;
	} cases[] = { { STATUS_SUCCESS, "xxxx" }, { STATUS_BUFFER_OVERFLOW, "xxxx" }, { STATUS_UNSUCCESSFUL, "...." } };

	(void)state;
	driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = overflow;
	for (size_t i = 0; i < RTL_NUMBER_OF(cases); i++) {
		char output[5] = "....";
		IO_STATUS_BLOCK result;
		KEVENT done;

		*(NTSTATUS *)device->DeviceExtension = cases[i].status;
		KeInitializeEvent(&done, NotificationEvent, FALSE);
		assert_int_equal(IoCallDriver(device, IoBuildDeviceIoControlRequest(T_BUFFERED, device, NULL, 0,
										    output, 4, FALSE, &done,
										    &result)),
				 cases[i].status);
		assert_int_equal(result.Status, cases[i].status);
		assert_string_equal(output, cases[i].output);
	}
	IoDeleteDevice(device);
	nt_driver_destroy(driver);
}

static NTSTATUS
transfer(PDEVICE_OBJECT device, PIRP irp)
{
	const IO_STACK_LOCATION *location = IoGetCurrentIrpStackLocation(irp);
	UCHAR *data = (device->Flags & DO_BUFFERED_IO) != 0 ? irp->AssociatedIrp.SystemBuffer :
		      (device->Flags & DO_DIRECT_IO) != 0 ?
							      MmGetSystemAddressForMdlSafe(irp->MdlAddress, 0) :
							      irp->UserBuffer;

	assert_int_equal(location->Parameters.Read.ByteOffset.QuadPart, 512);
	if (location->MajorFunction == IRP_MJ_READ)
		memset(data, 'r', location->Parameters.Read.Length);
	else
		assert_memory_equal(data, "write", 5);
	return t_complete(irp, STATUS_SUCCESS, location->Parameters.Read.Length);
}

static void
reads_and_writes_use_the_devices_kind_of_buffer(void **state)
{
	static const ULONG kinds[] = { DO_BUFFERED_IO, DO_DIRECT_IO, 0 };
	PDRIVER_OBJECT driver = t_driver();

	(void)state;
	driver->MajorFunction[IRP_MJ_READ] = transfer;
	driver->MajorFunction[IRP_MJ_WRITE] = transfer;
	for (size_t i = 0; i < RTL_NUMBER_OF(kinds); i++) {
		PDEVICE_OBJECT device = t_device(driver, u"\\Device\\TTransfer");
		char read[6] = "", write[] = "write";
		UNICODE_STRING name = t_name(u"\\Device\\TTransfer");
		ULONG_PTR done = 0;
		PFILE_OBJECT file;

		device->Flags = (device->Flags & ~(ULONG)(DO_BUFFERED_IO | DO_DIRECT_IO)) | kinds[i];
		assert_int_equal(nt_file_open(&name, GENERIC_READ, &file), STATUS_SUCCESS);
		assert_int_equal(nt_file_transfer(file, IRP_MJ_READ, read, 5, 512, &done), STATUS_SUCCESS);
		assert_int_equal(done, 5);
		assert_string_equal(read, "rrrrr");
		assert_int_equal(nt_file_transfer(file, IRP_MJ_WRITE, write, 5, 512, &done), STATUS_SUCCESS);
		nt_file_close(file);
		IoDeleteDevice(device);
	}
	nt_driver_destroy(driver);
}

static void
requests_without_a_routine_are_refused(void **state)
{
	PDRIVER_OBJECT driver = nt_driver_create("t_refusing");
	PDEVICE_OBJECT device = t_device(driver, NULL);

	CONF_COVERS("KE-17");
	(void)state;
	for (unsigned major = 0; major <= IRP_MJ_MAXIMUM_FUNCTION; major++) {
		const IO_STACK_LOCATION location = { .MajorFunction = (UCHAR)major };

		assert_int_equal(nt_irp_send(device, &location, STATUS_SUCCESS, NULL),
				 STATUS_INVALID_DEVICE_REQUEST);
	}
	IoDeleteDevice(device);
	nt_driver_destroy(driver);
}

static NTSTATUS
forward_and_wait(PDEVICE_OBJECT device, PIRP irp)
{
	note("w");
	assert_true(IoForwardIrpSynchronously(*(PDEVICE_OBJECT *)device->DeviceExtension, irp));
	note("W");
	return t_complete(irp, irp->IoStatus.Status, irp->IoStatus.Information + 1);
}

static void
a_driver_can_wait_for_the_one_below(void **state)
{
	const IO_STACK_LOCATION location = { .MajorFunction = IRP_MJ_PNP };
	struct stack stack = stack_new(answer, forward_and_wait, forward_and_look);
	ULONG_PTR information = 0;
	IRP *irp;

	(void)state;
	assert_int_equal(nt_irp_send(stack.devices[0], &location, STATUS_NOT_SUPPORTED, &information), STATUS_SUCCESS);
	assert_string_equal(log_text, "cwaWC");
	assert_int_equal(information, 8);
	irp = IoAllocateIrp(1, FALSE);
	IoSetNextIrpStackLocation(irp);
	assert_false(IoForwardIrpSynchronously(stack.devices[0], irp));
	IoFreeIrp(irp);
	stack_free(&stack);
}

/* ---- files ----------------------------------------------------------------------------------- */

static char files_log[64];

static NTSTATUS
log_file(PDEVICE_OBJECT device, PIRP irp)
{
	static const char letters[] = { [IRP_MJ_CREATE] = 'o', [IRP_MJ_CLOSE] = 'x', [IRP_MJ_CLEANUP] = 'u' };
	const char letter = letters[IoGetCurrentIrpStackLocation(irp)->MajorFunction];
	const size_t used = strlen(files_log);

	UNREFERENCED_PARAMETER(device);
	assert_non_null(IoGetCurrentIrpStackLocation(irp)->FileObject);
	files_log[used] = letter;
	files_log[used + 1] = '\0';
	return t_complete(irp, STATUS_SUCCESS, 0);
}

static PDRIVER_OBJECT
logging_driver(void)
{
	PDRIVER_OBJECT driver = t_driver();

	files_log[0] = '\0';
	driver->MajorFunction[IRP_MJ_CREATE] = log_file;
	driver->MajorFunction[IRP_MJ_CLEANUP] = log_file;
	driver->MajorFunction[IRP_MJ_CLOSE] = log_file;
	return driver;
}

static void
a_file_is_created_cleaned_up_and_closed(void **state)
{
	PDRIVER_OBJECT driver = logging_driver();
	PDEVICE_OBJECT device = t_device(driver, u"\\Device\\TFile"), pointer;
	UNICODE_STRING name = t_name(u"\\Device\\TFile\\sub"), expected = t_name(u"\\sub");
	PFILE_OBJECT file;

	CONF_COVERS("KE-17, KE-13");
	(void)state;
	assert_int_equal(nt_file_open(&name, GENERIC_READ, &file), STATUS_SUCCESS);
	assert_true(RtlEqualUnicodeString(&file->FileName, &expected, FALSE));
	assert_true(file->ReadAccess);
	assert_false(file->WriteAccess);
	assert_string_equal(files_log, "o");
	nt_file_close(file);
	assert_string_equal(files_log, "oux");

	assert_int_equal(IoGetDeviceObjectPointer(&name, FILE_ALL_ACCESS, &file, &pointer), STATUS_SUCCESS);
	assert_ptr_equal(pointer, device);
	assert_string_equal(files_log, "ouxou");
	ObReferenceObject(file);
	ObDereferenceObject(file);
	ObDereferenceObject(file);
	assert_string_equal(files_log, "ouxoux");
	IoDeleteDevice(device);
	nt_driver_destroy(driver);
}

static NTSTATUS
refuse_open(PDEVICE_OBJECT device, PIRP irp)
{
	UNREFERENCED_PARAMETER(device);
	return t_complete(irp, STATUS_ACCESS_DENIED, 0);
}

static void
opening_fails_for_a_reason(void **state)
{
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT device = t_device(driver, u"\\Device\\TClosed"), pointer;
	UNICODE_STRING name = t_name(u"\\Device\\TClosed"), missing = t_name(u"\\Device\\TMissing");
	PFILE_OBJECT file, second;

	(void)state;
	assert_int_equal(nt_file_open(&missing, 0, &file), STATUS_OBJECT_NAME_NOT_FOUND);
	assert_null(file);
	assert_int_equal(IoGetDeviceObjectPointer(&missing, 0, &file, &pointer), STATUS_OBJECT_NAME_NOT_FOUND);
	assert_null(pointer);
	device->Flags |= DO_DEVICE_INITIALIZING;
	assert_int_equal(nt_file_open(&name, 0, &file), STATUS_NO_SUCH_DEVICE);
	nt_driver_ready(driver);
	driver->MajorFunction[IRP_MJ_CREATE] = refuse_open;
	assert_int_equal(nt_file_open(&name, 0, &file), STATUS_ACCESS_DENIED);
	driver->MajorFunction[IRP_MJ_CREATE] = t_succeed;
	device->Flags |= DO_EXCLUSIVE;
	assert_int_equal(nt_file_open(&name, 0, &file), STATUS_SUCCESS);
	assert_int_equal(nt_file_open(&name, 0, &second), STATUS_ACCESS_DENIED);
	nt_file_close(file);
	assert_int_equal(nt_file_open(&name, 0, &file), STATUS_SUCCESS);
	nt_file_close(file);
	IoDeleteDevice(device);
	nt_driver_destroy(driver);
}

struct caller {
	PFILE_OBJECT file;
	NTSTATUS status;
};

static void *
call_and_wait(void *ctx)
{
	struct caller *caller = ctx;

	caller->status = nt_file_ioctl(caller->file, T_BUFFERED, NULL, 0, NULL, 0, NULL);
	return NULL;
}

static KEVENT holding;

static NTSTATUS
hold_and_say(PDEVICE_OBJECT device, PIRP irp)
{
	NTSTATUS status = hold(device, irp);

	KeSetEvent(&holding, IO_NO_INCREMENT, FALSE);
	return status;
}

static void
hold_one(struct caller *caller, pthread_t *thread, PFILE_OBJECT file)
{
	KeInitializeEvent(&holding, NotificationEvent, FALSE);
	*caller = (struct caller){ .file = file };
	*thread = t_thread(call_and_wait, caller);
	KeWaitForSingleObject(&holding, Executive, KernelMode, FALSE, NULL);
}

static void
a_files_requests_can_be_cancelled_by_another_thread(void **state)
{
	PDRIVER_OBJECT driver = t_driver();
	PDEVICE_OBJECT device = t_device(driver, u"\\Device\\THold");
	UNICODE_STRING name = t_name(u"\\Device\\THold");
	struct caller caller;
	PFILE_OBJECT file;
	pthread_t thread;

	(void)state;
	driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = hold_and_say;
	assert_int_equal(nt_file_open(&name, 0, &file), STATUS_SUCCESS);
	hold_one(&caller, &thread, file);
	nt_file_cancel(file);
	t_join(thread);
	assert_int_equal(caller.status, STATUS_CANCELLED);
	nt_file_cancel(file); /* nothing to do */
	nt_file_close(file);
	IoDeleteDevice(device);
	nt_driver_destroy(driver);
}

static void
a_device_that_goes_takes_its_files_along(void **state)
{
	PDRIVER_OBJECT driver = logging_driver();
	PDEVICE_OBJECT device = t_device(driver, u"\\Device\\TGoing");
	UNICODE_STRING name = t_name(u"\\Device\\TGoing");
	struct caller caller;
	PFILE_OBJECT file, late;
	pthread_t thread;

	(void)state;
	driver->MajorFunction[IRP_MJ_DEVICE_CONTROL] = hold_and_say;
	assert_int_equal(nt_file_open(&name, 0, &file), STATUS_SUCCESS);
	hold_one(&caller, &thread, file);
	assert_true(nt_file_quiesce(device));
	assert_int_equal(nt_file_open(&name, 0, &late), STATUS_NO_SUCH_DEVICE);
	nt_file_revoke(device);
	assert_string_equal(files_log, "oux");
	t_join(thread);
	assert_int_equal(caller.status, STATUS_CANCELLED);
	assert_int_equal(nt_file_ioctl(file, T_BUFFERED, NULL, 0, NULL, 0, NULL), STATUS_DEVICE_REMOVED);
	IoDeleteDevice(device);
	nt_file_close(file);
	assert_string_equal(files_log, "oux");
	nt_driver_destroy(driver);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_request_goes_down_and_up_in_order),
		cmocka_unit_test(completion_routines_run_for_what_they_asked_for),
		cmocka_unit_test(wrong_use_of_an_irp_is_reported),
		cmocka_unit_test(request_of_ours_that_a_routine_completes_again_is_freed_once),
		cmocka_unit_test(cancelling_calls_the_routine_that_is_set_and_only_that),
		cmocka_unit_test(buffers_are_as_the_method_says),
		cmocka_unit_test(output_is_copied_unless_the_request_failed),
		cmocka_unit_test(reads_and_writes_use_the_devices_kind_of_buffer),
		cmocka_unit_test(requests_without_a_routine_are_refused),
		cmocka_unit_test(a_driver_can_wait_for_the_one_below),
		cmocka_unit_test(a_file_is_created_cleaned_up_and_closed),
		cmocka_unit_test(opening_fails_for_a_reason),
		cmocka_unit_test(a_files_requests_can_be_cancelled_by_another_thread),
		cmocka_unit_test(a_device_that_goes_takes_its_files_along),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
