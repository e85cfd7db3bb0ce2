/* SPDX-License-Identifier: MIT */
/*
 * A framework device with a default queue that each test configures, and a manual one; requests that the driver keeps until the test
 * says what becomes of them.
 */
#ifndef T_QUEUE_H
#define T_QUEUE_H

#include "t_wdf.h"

/* How EvtDriverDeviceAdd sets up the default queue; each test fills it in. */
static __attribute__((unused)) WDF_IO_QUEUE_CONFIG config;
static __attribute__((unused)) WDF_OBJECT_ATTRIBUTES device_attributes, queue_attributes;
static __attribute__((unused)) WDFDEVICE t_dev;
static __attribute__((unused)) WDFQUEUE t_queue, manual;
static __attribute__((unused)) PFN_WDF_IO_IN_CALLER_CONTEXT in_caller_context;
static __attribute__((unused)) PFN_WDF_OBJECT_CONTEXT_CLEANUP request_cleanup;
static __attribute__((unused)) WDF_DEVICE_IO_TYPE io_type;
static __attribute__((unused)) bool filter;

static inline NTSTATUS
add(WDFDRIVER driver, PWDFDEVICE_INIT init)
{
	WDF_IO_QUEUE_CONFIG second;

	UNREFERENCED_PARAMETER(driver);
	if (in_caller_context != NULL)
		WdfDeviceInitSetIoInCallerContextCallback(init, in_caller_context);
	if (request_cleanup != NULL) {
		WDF_OBJECT_ATTRIBUTES attributes;

		WDF_OBJECT_ATTRIBUTES_INIT(&attributes);
		attributes.EvtCleanupCallback = request_cleanup;
		WdfDeviceInitSetRequestAttributes(init, &attributes);
	}
	if (filter)
		WdfFdoInitSetFilter(init);
	WdfDeviceInitSetIoType(init, io_type);
	t_dev = t_wdf_device(&init, &device_attributes);
	if (config.DispatchType == WdfIoQueueDispatchInvalid)
		return STATUS_SUCCESS;
	assert_int_equal(WdfIoQueueCreate(t_dev, &config, &queue_attributes, &t_queue), STATUS_SUCCESS);
	WDF_IO_QUEUE_CONFIG_INIT(&second, WdfIoQueueDispatchManual);
	return WdfIoQueueCreate(t_dev, &second, WDF_NO_OBJECT_ATTRIBUTES, &manual);
}

static inline int
reset(void **state)
{
	(void)state;
	WDF_IO_QUEUE_CONFIG_INIT_DEFAULT_QUEUE(&config, WdfIoQueueDispatchParallel);
	WDF_OBJECT_ATTRIBUTES_INIT(&device_attributes);
	WDF_OBJECT_ATTRIBUTES_INIT(&queue_attributes);
	in_caller_context = NULL;
	request_cleanup = NULL;
	io_type = WdfDeviceIoBuffered;
	filter = false;
	return 0;
}

static inline void
begin(struct t_wdf *t)
{
	t_wdf_begin(t, add, NULL);
	assert_int_equal(t_wdf_add(t), STATUS_SUCCESS);
	assert_int_equal(t_wdf_start(t), STATUS_SUCCESS);
}

static inline void
end(struct t_wdf *t)
{
	t_wdf_remove(t, false);
	t_wdf_end(t);
}

static inline NTSTATUS
ioctl(PFILE_OBJECT file, ULONG code, const char *input, char *output, ULONG room, ULONG_PTR *returned)
{
	return nt_file_ioctl(file, code, (PVOID)(uintptr_t)input, input != NULL ? (ULONG)strlen(input) : 0, output,
			     room, returned);
}

/* A device control that this thread has sent when this returns: it is with the driver, in a queue, or answered. */
struct t_post {
	KEVENT done;
	IO_STATUS_BLOCK result;
};

static inline void
post(struct t_post *post, const struct t_wdf *t)
{
	PDEVICE_OBJECT top = t->pdo->AttachedDevice;
	PIRP irp;

	KeInitializeEvent(&post->done, NotificationEvent, FALSE);
	irp = IoBuildDeviceIoControlRequest(T_ECHO, top, NULL, 0, NULL, 0, FALSE, &post->done, &post->result);
	assert_non_null(irp);
	(void)IoCallDriver(top, irp);
}

static inline NTSTATUS
post_answer(struct t_post *post)
{
	t_await(&post->done);
	return post->result.Status;
}

static inline VOID
log_default(WDFQUEUE queue, WDFREQUEST request)
{
	UNREFERENCED_PARAMETER(queue);
	t_log("default");
	WdfRequestComplete(request, STATUS_NOT_FOUND);
}

static inline VOID
cancel_it(WDFREQUEST request)
{
	assert_true(WdfRequestIsCanceled(request));
	t_log("cancel");
	WdfRequestComplete(request, STATUS_CANCELLED);
}

static __attribute__((unused)) WDFREQUEST kept[8];
static __attribute__((unused)) volatile LONG kept_count;
static __attribute__((unused)) KEVENT arrived;

/* The driver keeps the request; each arrival wakes the test. */
static inline VOID
keep(WDFQUEUE queue, WDFREQUEST request, size_t out, size_t in, ULONG code)
{
	UNREFERENCED_PARAMETER(queue);
	UNREFERENCED_PARAMETER(out);
	UNREFERENCED_PARAMETER(in);
	UNREFERENCED_PARAMETER(code);
	kept[InterlockedIncrement(&kept_count) - 1] = request;
	KeSetEvent(&arrived, IO_NO_INCREMENT, FALSE);
}

static inline void
begin_keeping(struct t_wdf *t)
{
	kept_count = 0;
	KeInitializeEvent(&arrived, SynchronizationEvent, FALSE);
	config.EvtIoDeviceControl = keep;
	begin(t);
}

/* Each request is in the queue when this returns; `file` is its own, so that cancellation finds it. */
static inline void
send_kept(struct t_call *calls, int count, PFILE_OBJECT file)
{
	for (int i = 0; i < count; i++) {
		t_call(&calls[i], file, T_ECHO, "x");
		t_await(&arrived);
	}
}

/* Which way a callback takes; set by its test. */
static __attribute__((unused)) int how;

#endif
