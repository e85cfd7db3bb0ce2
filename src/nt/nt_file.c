/* SPDX-License-Identifier: MIT */
/*
 * Files: open devices. Those of drivers (IoGetDeviceObjectPointer) and those of the program that
 * hosts drivers, which can be taken away when the device goes: requests are cancelled and waited
 * for, then the file is closed under its owner.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "nt/nt_dbg.h"
#include "nt/nt_io.h"
#include "nt/nt_misuse.h"

#define REPORT_SECONDS 5

/* One request of a file under way, on the stack of who waits for it. */
struct file_request {
	struct file_request *next;
	PIRP irp;                       /* NULL: it cannot be cancelled any more */
	KEVENT done;                    /* the driver completed it */
	bool busy;                      /* somebody is cancelling it */
};

struct nt_file {
	FILE_OBJECT object;             /* first */
	struct nt_device *device;       /* referenced */
	LONG references;                /* nt_io_lock */
	struct nt_file *next;           /* `files` */
	bool hosted;                    /* from nt_file_open */
	/* files.lock: */
	struct file_request *requests;
	bool opening;                   /* IRP_MJ_CREATE has not succeeded yet */
	bool closed;                    /* cleanup and close were sent, or are about to be */
	bool closing;                   /* and the driver is not through with them */
};

static struct {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	struct nt_file *first;
} files = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

static struct nt_file *
file_of(PFILE_OBJECT object)
{
	return (struct nt_file *)(void *)object;
}

/* ---- life ------------------------------------------------------------------------------------ */

static NTSTATUS
send_simple(struct nt_file *file, UCHAR major)
{
	IO_STACK_LOCATION location = { .MajorFunction = major, .FileObject = &file->object };
	bool gone;

	nt_io_lock();
	gone = file->device->deleted;
	nt_io_unlock();
	if (gone)
		return STATUS_DEVICE_REMOVED;
	if (major == IRP_MJ_CREATE)
		location.Parameters.Create.ShareAccess = 7;
	return nt_irp_send(&file->device->object, &location, STATUS_SUCCESS, NULL);
}

/* Nobody has the device open any more through this file. */
static void
end_opening(struct nt_file *file)
{
	nt_io_lock();
	file->device->is_open = false;
	nt_io_unlock();
}

static void
file_free(struct nt_file *file)
{
	struct nt_file **at;

	pthread_mutex_lock(&files.lock);
	for (at = &files.first; *at != NULL && *at != file; at = &(*at)->next)
		continue;
	if (*at != NULL)
		*at = file->next;
	pthread_cond_broadcast(&files.changed);
	pthread_mutex_unlock(&files.lock);
	nt_device_unref(file->device);
	free(file->object.FileName.Buffer);
	file->object.Type = 0;
	free(file);
}

static NTSTATUS
check_ready_locked(struct nt_device *device)
{
	PDEVICE_OBJECT top = nt_device_top_locked(&device->object);

	if (device->deleted || nt_device_bottom_locked(&device->object)->going ||
	    (__atomic_load_n(&top->Flags, __ATOMIC_ACQUIRE) & DO_DEVICE_INITIALIZING) != 0)
		return STATUS_NO_SUCH_DEVICE;
	if (((device->object.Flags | top->Flags) & DO_EXCLUSIVE) != 0 && device->is_open)
		return STATUS_ACCESS_DENIED;
	device->is_open = true;
	return STATUS_SUCCESS;
}

static NTSTATUS
file_open(PCUNICODE_STRING name, ACCESS_MASK access, bool hosted, struct nt_file **out)
{
	struct nt_file *file = calloc(1, sizeof(*file));
	NTSTATUS status;

	if (file == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	status = nt_name_resolve(name, &file->device, &file->object.FileName);
	if (status != STATUS_SUCCESS) {
		free(file);
		return status;
	}
	file->object.Type = IO_TYPE_FILE;
	file->object.Size = (CSHORT)sizeof(FILE_OBJECT);
	file->object.DeviceObject = &file->device->object;
	file->object.ReadAccess = (access & (FILE_READ_DATA | GENERIC_READ)) != 0;
	file->object.WriteAccess = (access & (FILE_WRITE_DATA | GENERIC_WRITE)) != 0;
	file->references = 1;
	file->hosted = hosted;
	/* In the list before the check: nt_file_revoke either is seen here or sees the file there. */
	pthread_mutex_lock(&files.lock);
	file->opening = true;
	file->next = files.first;
	files.first = file;
	pthread_mutex_unlock(&files.lock);
	nt_io_lock();
	status = check_ready_locked(file->device);
	nt_io_unlock();
	if (status != STATUS_SUCCESS) {
		file_free(file);
		return status;
	}
	status = send_simple(file, IRP_MJ_CREATE);
	/* One that was refused is being opened until it is off the list: nt_file_revoke never has it. */
	if (!NT_SUCCESS(status)) {
		end_opening(file);
		file_free(file);
		return status;
	}
	pthread_mutex_lock(&files.lock);
	file->opening = false;
	pthread_cond_broadcast(&files.changed);
	pthread_mutex_unlock(&files.lock);
	*out = file;
	return STATUS_SUCCESS;
}

LONG_PTR
nt_file_ref(PFILE_OBJECT object, LONG change)
{
	struct nt_file *file = file_of(object);
	LONG left;

	nt_io_lock();
	left = file->references += change;
	nt_io_unlock();
	if (left != 0)
		return left;
	if (!file->closed)
		(void)send_simple(file, IRP_MJ_CLOSE);
	end_opening(file);
	file_free(file);
	return 0;
}

NTSTATUS
IoGetDeviceObjectPointer(PUNICODE_STRING name, ACCESS_MASK access, PFILE_OBJECT *out,
			 PDEVICE_OBJECT *device)
{
	struct nt_file *file;
	NTSTATUS status;

	*out = NULL;
	*device = NULL;
	status = file_open(name, access, false, &file);
	if (status != STATUS_SUCCESS)
		return status;
	/* The handle is gone at once; the object keeps the device open. */
	(void)send_simple(file, IRP_MJ_CLEANUP);
	*out = &file->object;
	*device = IoGetAttachedDevice(&file->device->object);
	return STATUS_SUCCESS;
}

/* ---- from outside of drivers ----------------------------------------------------------------- */

NTSTATUS
nt_file_open(PCUNICODE_STRING name, ACCESS_MASK access, PFILE_OBJECT *out)
{
	struct nt_file *file;
	NTSTATUS status = file_open(name, access, true, &file);

	*out = status == STATUS_SUCCESS ? &file->object : NULL;
	return status;
}

static bool
request_begin(struct nt_file *file, struct file_request *request)
{
	bool open;

	pthread_mutex_lock(&files.lock);
	open = !file->closed;
	if (open) {
		request->next = file->requests;
		file->requests = request;
	}
	pthread_mutex_unlock(&files.lock);
	return open;
}

/* From here on the IRP is the caller's alone; the file still has the request. */
static void
request_take(struct file_request *request)
{
	pthread_mutex_lock(&files.lock);
	while (request->busy)
		pthread_cond_wait(&files.changed, &files.lock);
	request->irp = NULL;
	pthread_mutex_unlock(&files.lock);
}

/* Who waits for the file's requests finds nothing of this one left. */
static void
request_end(struct nt_file *file, struct file_request *request)
{
	struct file_request **at;

	pthread_mutex_lock(&files.lock);
	for (at = &file->requests; *at != request; at = &(*at)->next)
		continue;
	*at = request->next;
	pthread_cond_broadcast(&files.changed);
	pthread_mutex_unlock(&files.lock);
}

static NTSTATUS
stop_here(PDEVICE_OBJECT device, PIRP irp, PVOID context)
{
	UNREFERENCED_PARAMETER(device);
	UNREFERENCED_PARAMETER(irp);
	KeSetEvent(context, IO_NO_INCREMENT, FALSE);
	return STATUS_MORE_PROCESSING_REQUIRED;
}

/*
 * Send an IRP that the I/O manager built and wait. It is kept from ending until nobody is
 * cancelling it any more.
 */
static NTSTATUS
send_built(struct nt_file *file, PDEVICE_OBJECT top, PIRP irp, ULONG_PTR *information)
{
	struct file_request request = { .irp = irp };
	IO_STATUS_BLOCK result = { .Status = STATUS_DEVICE_REMOVED };

	KeInitializeEvent(&request.done, NotificationEvent, FALSE);
	irp->RequestorMode = UserMode;
	irp->UserIosb = &result;
	irp->Tail.Overlay.OriginalFileObject = &file->object;
	IoGetNextIrpStackLocation(irp)->FileObject = &file->object;
	IoSetCompletionRoutine(irp, stop_here, &request.done, TRUE, TRUE, TRUE);
	if (request_begin(file, &request)) {
		(void)IofCallDriver(top, irp);
		KeWaitForSingleObject(&request.done, Executive, KernelMode, FALSE, NULL);
		request_take(&request);
		nt_irp_finish(irp);
		request_end(file, &request);
	} else {
		irp->IoStatus.Status = STATUS_DEVICE_REMOVED;
		irp->IoStatus.Information = 0;
		nt_irp_finish(irp);
	}
	if (information != NULL)
		*information = NT_ERROR(result.Status) ? 0 : result.Information;
	return result.Status;
}

NTSTATUS
nt_file_ioctl(PFILE_OBJECT object, ULONG code, PVOID input, ULONG input_bytes, PVOID output,
	      ULONG output_bytes, ULONG_PTR *returned)
{
	struct nt_file *file = file_of(object);
	PDEVICE_OBJECT top = IoGetAttachedDeviceReference(&file->device->object);
	PIRP irp = IoBuildDeviceIoControlRequest(code, top, input, input_bytes, output, output_bytes,
						 FALSE, NULL, NULL);
	NTSTATUS status = STATUS_INSUFFICIENT_RESOURCES;

	if (irp != NULL)
		status = send_built(file, top, irp, returned);
	ObDereferenceObject(top);
	return status;
}

NTSTATUS
nt_file_transfer(PFILE_OBJECT object, UCHAR major, PVOID buffer, ULONG bytes, LONGLONG offset,
		 ULONG_PTR *transferred)
{
	struct nt_file *file = file_of(object);
	PDEVICE_OBJECT top = IoGetAttachedDeviceReference(&file->device->object);
	LARGE_INTEGER at = { .QuadPart = offset };
	PIRP irp = IoBuildSynchronousFsdRequest(major, top, buffer, bytes, &at, NULL, NULL);
	NTSTATUS status = STATUS_INSUFFICIENT_RESOURCES;

	if (irp != NULL)
		status = send_built(file, top, irp, transferred);
	ObDereferenceObject(top);
	return status;
}

/* files.lock held, given up around the cancellation. False: there was none to cancel. */
static bool
cancel_one_locked(struct nt_file *file)
{
	struct file_request *request = file->requests;

	while (request != NULL &&
	       (request->busy || request->irp == NULL ||
		__atomic_load_n(&request->irp->Cancel, __ATOMIC_RELAXED)))
		request = request->next;
	if (request == NULL)
		return false;
	/* Neither request nor IRP goes while this is set; the file does not go while it has a request. */
	request->busy = true;
	pthread_mutex_unlock(&files.lock);
	IoCancelIrp(request->irp);
	pthread_mutex_lock(&files.lock);
	request->busy = false;
	pthread_cond_broadcast(&files.changed);
	return true;
}

static void
cancel_locked(struct nt_file *file)
{
	while (cancel_one_locked(file))
		continue;
}

void
nt_file_cancel(PFILE_OBJECT object)
{
	pthread_mutex_lock(&files.lock);
	cancel_locked(file_of(object));
	pthread_mutex_unlock(&files.lock);
}

/* A driver that holds a request for ever is named, again and again. */
static void
wait_for_requests_locked(struct nt_file *file)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	while (file->requests != NULL) {
		until.tv_sec += REPORT_SECONDS;
		while (file->requests != NULL &&
		       pthread_cond_timedwait(&files.changed, &files.lock, &until) == 0)
			continue;
		if (file->requests != NULL)
			nt_dbg_printf("kmcl: a driver has not completed request %p, which is cancelled; "
				      "its device cannot go before\n", (void *)file->requests->irp);
	}
}

static void
close_once(struct nt_file *file)
{
	bool closed;

	pthread_mutex_lock(&files.lock);
	closed = file->closed;
	file->closed = true;
	if (!closed) {
		file->closing = true;
		cancel_locked(file);
		wait_for_requests_locked(file);
	}
	pthread_mutex_unlock(&files.lock);
	if (closed)
		return;
	(void)send_simple(file, IRP_MJ_CLEANUP);
	(void)send_simple(file, IRP_MJ_CLOSE);
	pthread_mutex_lock(&files.lock);
	file->closing = false;
	pthread_cond_broadcast(&files.changed);
	pthread_mutex_unlock(&files.lock);
}

void
nt_file_close(PFILE_OBJECT object)
{
	close_once(file_of(object));
	(void)nt_file_ref(object, -1);
}

static bool
is_on(const struct nt_file *file, PDEVICE_OBJECT bottom)
{
	return file->hosted && nt_device_bottom(&file->device->object) == bottom;
}

static struct nt_file *
find_open_on_locked(PDEVICE_OBJECT bottom)
{
	struct nt_file *file = files.first;

	while (file != NULL && (file->closed || !is_on(file, bottom)))
		file = file->next;
	return file;
}

/* A hosted file on this stack that is open, with a reference. */
static struct nt_file *
take_open_on(PDEVICE_OBJECT bottom)
{
	struct nt_file *file;
	bool taken = false;

	pthread_mutex_lock(&files.lock);
	while ((file = find_open_on_locked(bottom)) != NULL) {
		if (file->opening) {
			pthread_cond_wait(&files.changed, &files.lock);
			continue;
		}
		nt_io_lock();
		taken = file->references != 0;
		if (taken)
			file->references++;
		nt_io_unlock();
		if (taken)
			break;
		pthread_cond_wait(&files.changed, &files.lock); /* its owner is just freeing it */
	}
	pthread_mutex_unlock(&files.lock);
	return file;
}

static bool
somebody_closes_locked(PDEVICE_OBJECT bottom)
{
	const struct nt_file *file = files.first;

	while (file != NULL && !(file->closing && is_on(file, bottom)))
		file = file->next;
	return file != NULL;
}

static void
set_going(PDEVICE_OBJECT bottom)
{
	nt_io_lock();
	nt_device_of(bottom)->going = true;
	nt_io_unlock();
}

/* What completed is as good as gone, even if its owner has not woken up yet. */
static bool
is_idle_locked(const struct nt_file *file)
{
	for (struct file_request *request = file->requests; request != NULL; request = request->next) {
		if (KeReadStateEvent(&request->done) == 0)
			return false;
	}
	return !file->opening;
}

bool
nt_file_quiesce(PDEVICE_OBJECT bottom)
{
	struct nt_file *file;
	bool idle = true;

	set_going(bottom);
	pthread_mutex_lock(&files.lock);
	/* From the start after each cancellation: the list may have changed meanwhile. */
	do {
		for (file = files.first; file != NULL; file = file->next) {
			if (is_on(file, bottom) && cancel_one_locked(file))
				break;
		}
	} while (file != NULL);
	for (file = files.first; file != NULL; file = file->next)
		idle = idle && (!is_on(file, bottom) || is_idle_locked(file));
	pthread_mutex_unlock(&files.lock);
	return idle;
}

void
nt_file_revoke(PDEVICE_OBJECT bottom)
{
	struct nt_file *file;

	set_going(bottom);
	while ((file = take_open_on(bottom)) != NULL) {
		close_once(file);
		(void)nt_file_ref(&file->object, -1);
	}
	/* The device may go next, and its driver with it: nobody may be inside over a file of it. */
	pthread_mutex_lock(&files.lock);
	while (somebody_closes_locked(bottom))
		pthread_cond_wait(&files.changed, &files.lock);
	pthread_mutex_unlock(&files.lock);
}

uint64_t
nt_file_count(void)
{
	uint64_t count = 0;

	pthread_mutex_lock(&files.lock);
	for (const struct nt_file *file = files.first; file != NULL; file = file->next)
		count += !file->hosted;
	pthread_mutex_unlock(&files.lock);
	return count;
}
