/* SPDX-License-Identifier: MIT */
/*
 * Threads, regions and emulated interrupt levels.
 *
 * The level and the regions are the thread's own, in its local storage. Its object is on the heap,
 * because others may refer to it when the thread has ended; the thread's end signals it.
 */
#include "nt/nt_thread.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "nt/nt_dispatch.h"
#include "nt/nt_misuse.h"
#include "nt/nt_os_thread.h"
#include "nt/nt_mutex.h"

/* Every thread has an object, so there is no way to say that there is no memory. */
#define THREAD_BUG_CHECK 0x000000E4u

#define THREAD_PRIORITY 8

static _Thread_local struct {
	uint32_t id;       /* 0 until first asked for */
	uint32_t critical; /* regions entered */
	uint32_t guarded;
	KIRQL irql;
	struct _KTHREAD *object;
} self;

static pthread_key_t end_of_thread;

/* The child's only thread is a copy that has another id. */
static void
thread_forked(void)
{
	self.id = 0;
	if (self.object != NULL)
		self.object->id = nt_thread_id();
}

static void
thread_ended(void *object)
{
	struct _KTHREAD *thread = object;
	struct nt_wake_list wake;

	nt_mutex_abandon(thread);
	self.object = NULL;
	nt_dispatch_lock(&wake);
	nt_object_set_state_locked(&thread->Header, 1);
	nt_object_signal_locked(&thread->Header, &wake);
	nt_dispatch_unlock(&wake);
	nt_thread_object_unref(thread);
}

static void
thread_prepare(void)
{
	(void)pthread_atfork(NULL, NULL, thread_forked);
	if (pthread_key_create(&end_of_thread, thread_ended) != 0)
		KeBugCheckEx(THREAD_BUG_CHECK, 1, 0, 0, 0);
}

uint32_t
nt_thread_id(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	if (self.id == 0) {
		pthread_once(&once, thread_prepare);
		self.id = (uint32_t)syscall(SYS_gettid);
	}
	return self.id;
}

/* ---- objects --------------------------------------------------------------------------------- */

struct _KTHREAD *
nt_thread_object_new(void)
{
	struct _KTHREAD *thread = calloc(1, sizeof(*thread));

	if (thread == NULL)
		return NULL;
	nt_object_init(&thread->Header, NT_OBJECT_THREAD, sizeof(*thread), 0);
	InitializeListHead(&thread->mutexes);
	thread->references = 1;
	thread->priority = THREAD_PRIORITY;
	return thread;
}

void
nt_thread_object_ref(struct _KTHREAD *thread)
{
	__atomic_fetch_add(&thread->references, 1, __ATOMIC_RELAXED);
}

void
nt_thread_object_unref(struct _KTHREAD *thread)
{
	/* Each release pairs with the acquire of the last one. */
	if (__atomic_sub_fetch(&thread->references, 1, __ATOMIC_ACQ_REL) == 0)
		free(thread);
}

bool
nt_thread_is_object(const void *object)
{
	const DISPATCHER_HEADER *header = object;

	return header->Type == NT_OBJECT_THREAD && header->Signalling == 0 &&
	       header->Size == sizeof(struct _KTHREAD) / sizeof(LONG);
}

LONG_PTR
nt_thread_object_count(struct _KTHREAD *thread, LONG change)
{
	struct nt_wake_list wake;
	int32_t count;
	bool is_last, runs;

	nt_dispatch_lock(&wake);
	runs = nt_object_state_locked(&thread->Header) == 0;
	count = __atomic_load_n(&thread->references, __ATOMIC_RELAXED);
	/* The one that a running thread has is not the caller's to give back. */
	is_last = change < 0 && runs && count == 1;
	nt_dispatch_unlock(&wake);
	if (is_last) {
		nt_misuse(
		    "ObDereferenceObject: nobody has a reference on thread %u; give back only "
		    "what was taken",
		    thread->id);
		return 1;
	}
	if (change > 0)
		nt_thread_object_ref(thread);
	else
		nt_thread_object_unref(thread);
	return count + change;
}

void
nt_thread_adopt(struct _KTHREAD *thread)
{
	thread->id = nt_thread_id();
	self.object = thread;
	if (pthread_setspecific(end_of_thread, thread) != 0)
		KeBugCheckEx(THREAD_BUG_CHECK, 2, 0, 0, 0);
}

struct _KTHREAD *
nt_thread_self(void)
{
	if (self.object == NULL) {
		struct _KTHREAD *thread;

		/* Whoever asks cannot be refused: every thread is one. */
		while ((thread = nt_thread_object_new()) == NULL)
			nt_os_thread_await_resources();
		nt_thread_adopt(thread);
	}
	return self.object;
}

PKTHREAD
KeGetCurrentThread(VOID)
{
	return nt_thread_self();
}

HANDLE
PsGetCurrentThreadId(VOID)
{
	return (HANDLE)(uintptr_t)nt_thread_id();
}

HANDLE
PsGetCurrentProcessId(VOID)
{
	return (HANDLE)(uintptr_t)getpid();
}

KIRQL
KeGetCurrentIrql(VOID)
{
	return self.irql;
}

KIRQL
KfRaiseIrql(KIRQL irql)
{
	const KIRQL before = self.irql;

	if (irql < before || irql > HIGH_LEVEL)
		nt_misuse(
		    "KeRaiseIrql from IRQL %u to %u; raise to a higher level only, and return "
		    "with KeLowerIrql",
		    before, irql);
	else
		self.irql = irql;
	return before;
}

KIRQL
KeRaiseIrqlToDpcLevel(VOID)
{
	return KfRaiseIrql(DISPATCH_LEVEL);
}

VOID
KeLowerIrql(KIRQL irql)
{
	if (irql > self.irql)
		nt_misuse("KeLowerIrql from IRQL %u to %u; pass the level that raising returned",
		          self.irql, irql);
	else
		self.irql = irql;
}

bool
nt_irql_check_at_most(KIRQL most, const char *what)
{
	if (self.irql <= most)
		return true;
	nt_misuse("%s at IRQL %u, allowed up to %u; %s", what, self.irql, most,
	          most < DISPATCH_LEVEL
	              ? "release spin locks and lower the level first, or queue a work item"
	              : "lower the level first");
	return false;
}

void
nt_check_paged_code(const char *file, int line)
{
	if (self.irql > APC_LEVEL)
		nt_misuse(
		    "PAGED_CODE: paged code at IRQL %u, at %s line %d; release spin locks and "
		    "lower the level first, or queue a work item",
		    self.irql, file, line);
}

KIRQL
nt_irql_enter(KIRQL level)
{
	const KIRQL before = self.irql;

	self.irql = level;
	return before;
}

void
nt_irql_leave(KIRQL entered, KIRQL before, const char *what)
{
	if (self.irql != entered)
		nt_misuse("%s was entered at IRQL %u and returned at %u; a callback returns at the "
		          "level that it was called at",
		          what, entered, self.irql);
	self.irql = before;
}

/* ---- regions --------------------------------------------------------------------------------- */

void
nt_thread_enter_regions(uint32_t count)
{
	self.critical += count;
}

VOID
KeEnterCriticalRegion(VOID)
{
	nt_irql_check_at_most(APC_LEVEL, "KeEnterCriticalRegion");
	self.critical++;
}

void
nt_thread_leave_region(const char *what)
{
	if (self.critical == 0)
		nt_misuse(
		    "%s outside of a critical region; leave once for each KeEnterCriticalRegion",
		    what);
	else
		self.critical--;
}

VOID
KeLeaveCriticalRegion(VOID)
{
	nt_irql_check_at_most(APC_LEVEL, "KeLeaveCriticalRegion");
	nt_thread_leave_region("KeLeaveCriticalRegion");
}

VOID
KeEnterGuardedRegion(VOID)
{
	nt_irql_check_at_most(APC_LEVEL, "KeEnterGuardedRegion");
	self.guarded++;
}

VOID
KeLeaveGuardedRegion(VOID)
{
	nt_irql_check_at_most(APC_LEVEL, "KeLeaveGuardedRegion");
	if (self.guarded == 0)
		nt_misuse("KeLeaveGuardedRegion outside of a guarded region; leave once for each "
		          "KeEnterGuardedRegion");
	else
		self.guarded--;
}

BOOLEAN
KeAreApcsDisabled(VOID)
{
	return self.critical != 0 || self.guarded != 0;
}

BOOLEAN
KeAreAllApcsDisabled(VOID)
{
	return self.guarded != 0 || self.irql >= APC_LEVEL;
}

void
nt_check_apcs_disabled(const char *what)
{
	if (!KeAreApcsDisabled() && self.irql < APC_LEVEL)
		nt_misuse("%s outside of a critical region; call KeEnterCriticalRegion first",
		          what);
}

void
nt_thread_check_regions(const char *what)
{
	if (!KeAreApcsDisabled())
		return;
	nt_misuse("%s returned in %u critical and %u guarded regions; leave them before", what,
	          self.critical, self.guarded);
	self.critical = 0;
	self.guarded = 0;
}

void
nt_thread_check_end(void)
{
	if (self.irql != PASSIVE_LEVEL || KeAreApcsDisabled())
		nt_misuse(
		    "PsTerminateSystemThread at IRQL %u, in %u critical and %u guarded regions; "
		    "leave them before the thread ends",
		    self.irql, self.critical, self.guarded);
	self.irql = PASSIVE_LEVEL;
}
