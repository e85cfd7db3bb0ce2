/* SPDX-License-Identifier: MIT */
/*
 * System threads: those that drivers make.
 */
#include <pthread.h>

#include "nt/nt_dispatch.h"
#include "nt/nt_handle.h"
#include "nt/nt_misuse.h"
#include "nt/nt_os_thread.h"
#include "nt/nt_thread.h"
#include "wdm.h"

#define PRIORITY_LOWEST 1

struct _OBJECT_TYPE {
	const char *name;
};

static struct _OBJECT_TYPE thread_type = { "Thread" };
static POBJECT_TYPE thread_type_pointer = &thread_type;
POBJECT_TYPE *PsThreadType = &thread_type_pointer;

/* In the frame of who makes the thread, until `started`. */
struct thread_start {
	struct _KTHREAD *thread;
	PKSTART_ROUTINE routine;
	PVOID context;
	KEVENT started;
};

static void
thread_set_exit_status(struct _KTHREAD *thread, NTSTATUS status)
{
	__atomic_store_n(&thread->exit_status, status, __ATOMIC_RELAXED);
}

static void *
system_thread(void *context)
{
	struct thread_start *start = context;
	const PKSTART_ROUTINE routine = start->routine;
	const PVOID routine_context = start->context;

	nt_os_thread_name("kmcl-system");
	nt_thread_adopt(start->thread);
	KeSetEvent(&start->started, IO_NO_INCREMENT, FALSE);
	routine(routine_context);
	PsTerminateSystemThread(STATUS_SUCCESS);
	return NULL;
}

NTSTATUS
PsCreateSystemThread(PHANDLE handle, ULONG access, POBJECT_ATTRIBUTES attributes, HANDLE process,
                     PCLIENT_ID client, PKSTART_ROUTINE routine, PVOID context)
{
	struct thread_start start = { .routine = routine, .context = context };
	struct _KTHREAD *thread;

	UNREFERENCED_PARAMETER(access);
	UNREFERENCED_PARAMETER(attributes);
	UNREFERENCED_PARAMETER(process);
	nt_irql_check_at_most(PASSIVE_LEVEL, "PsCreateSystemThread");
	*handle = NULL;
	thread = nt_thread_object_new();
	if (thread == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	thread->is_system = true;
	thread->exit_status = STATUS_PENDING;
	start.thread = thread;
	KeInitializeEvent(&start.started, NotificationEvent, FALSE);

	/* The handle's reference; the first one is the thread's. */
	nt_thread_object_ref(thread);
	*handle = nt_handle_create(thread);
	if (*handle == NULL)
		goto unref;
	if (!nt_os_thread_start(system_thread, &start))
		goto close_handle;
	KeWaitForSingleObject(&start.started, Executive, KernelMode, FALSE, NULL);
	if (client != NULL) {
		client->UniqueProcess = PsGetCurrentProcessId();
		/* The thread may have ended, but not its object: nobody else has the handle. */
		client->UniqueThread = PsGetThreadId(thread);
	}
	return STATUS_SUCCESS;

close_handle:
	nt_handle_close(*handle);
	*handle = NULL;
	nt_thread_object_unref(thread);
	return STATUS_INSUFFICIENT_RESOURCES;
unref:
	nt_thread_object_unref(thread);
	nt_thread_object_unref(thread);
	return STATUS_INSUFFICIENT_RESOURCES;
}

NTSTATUS
PsTerminateSystemThread(NTSTATUS status)
{
	struct _KTHREAD *thread = nt_thread_self();

	if (!thread->is_system) {
		nt_misuse(
		    "PsTerminateSystemThread in a thread that is no system thread; call it in one "
		    "that PsCreateSystemThread made, or return");
		return STATUS_INVALID_PARAMETER;
	}
	nt_thread_check_end();
	thread_set_exit_status(thread, status);
	/* What others see of the end is in the thread's object: thread_ended() in nt_thread.c. */
	pthread_exit(NULL);
}

BOOLEAN
PsIsSystemThread(PETHREAD thread)
{
	return thread->is_system;
}

HANDLE
PsGetThreadId(PETHREAD thread)
{
	return (HANDLE)(uintptr_t)thread->id;
}

NTSTATUS
PsGetThreadExitStatus(PETHREAD thread)
{
	struct nt_wake_list wake;
	NTSTATUS status;

	nt_dispatch_lock(&wake);
	status = nt_object_state_locked(&thread->Header) != 0
	             ? __atomic_load_n(&thread->exit_status, __ATOMIC_RELAXED)
	             : STATUS_PENDING;
	nt_dispatch_unlock(&wake);
	return status;
}

KPRIORITY
KeSetPriorityThread(PKTHREAD thread, KPRIORITY priority)
{
	nt_irql_check_at_most(DISPATCH_LEVEL, "KeSetPriorityThread");
	if (priority < PRIORITY_LOWEST || priority > HIGH_PRIORITY) {
		nt_misuse("KeSetPriorityThread to %d; pass %d to %d", priority, PRIORITY_LOWEST,
		          HIGH_PRIORITY);
		return KeQueryPriorityThread(thread);
	}
	return __atomic_exchange_n(&thread->priority, priority, __ATOMIC_RELAXED);
}

KPRIORITY
KeQueryPriorityThread(PKTHREAD thread)
{
	return __atomic_load_n(&thread->priority, __ATOMIC_RELAXED);
}

NTSTATUS
ObReferenceObjectByHandle(HANDLE handle, ACCESS_MASK access, POBJECT_TYPE type,
                          KPROCESSOR_MODE mode, PVOID *object,
                          POBJECT_HANDLE_INFORMATION information)
{
	struct _KTHREAD *thread;

	UNREFERENCED_PARAMETER(mode);
	nt_irql_check_at_most(PASSIVE_LEVEL, "ObReferenceObjectByHandle");
	*object = NULL;
	thread = nt_handle_thread(handle);
	if (thread == NULL)
		return STATUS_INVALID_HANDLE;
	if (type != NULL && type != &thread_type) {
		nt_thread_object_unref(thread);
		return STATUS_OBJECT_TYPE_MISMATCH;
	}
	if (information != NULL)
		*information = (OBJECT_HANDLE_INFORMATION){ .GrantedAccess = access };
	*object = thread;
	return STATUS_SUCCESS;
}
