/* SPDX-License-Identifier: MIT */
/*
 * Threads and emulated interrupt levels.
 */
#include "nt/nt_thread.h"

#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "nt/nt_misuse.h"

static _Thread_local struct _KTHREAD thread_self;

/* The child's only thread is a copy that has another id. */
static void
thread_forked(void)
{
	thread_self.id = 0;
}

static void
thread_watch_fork(void)
{
	(void)pthread_atfork(NULL, NULL, thread_forked);
}

struct _KTHREAD *
nt_thread_self(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	if (thread_self.id == 0) {
		pthread_once(&once, thread_watch_fork);
		thread_self.id = (uint32_t)syscall(SYS_gettid);
	}
	return &thread_self;
}

PKTHREAD
KeGetCurrentThread(VOID)
{
	return nt_thread_self();
}

HANDLE
PsGetCurrentThreadId(VOID)
{
	return (HANDLE)(uintptr_t)nt_thread_self()->id;
}

HANDLE
PsGetCurrentProcessId(VOID)
{
	return (HANDLE)(uintptr_t)getpid();
}

KIRQL
KeGetCurrentIrql(VOID)
{
	return thread_self.irql;
}

KIRQL
KfRaiseIrql(KIRQL irql)
{
	const KIRQL before = thread_self.irql;

	if (irql < before || irql > HIGH_LEVEL)
		nt_misuse("KeRaiseIrql from IRQL %u to %u", before, irql);
	else
		thread_self.irql = irql;
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
	if (irql > thread_self.irql)
		nt_misuse("KeLowerIrql from IRQL %u to %u", thread_self.irql, irql);
	else
		thread_self.irql = irql;
}

bool
nt_irql_check_at_most(KIRQL most, const char *what)
{
	if (thread_self.irql <= most)
		return true;
	nt_misuse("%s at IRQL %u, allowed up to %u", what, thread_self.irql, most);
	return false;
}

void
nt_check_paged_code(const char *file, int line)
{
	if (thread_self.irql > APC_LEVEL)
		nt_misuse("paged code at IRQL %u, at %s line %d", thread_self.irql, file, line);
}

KIRQL
nt_irql_enter(KIRQL level)
{
	const KIRQL before = thread_self.irql;

	thread_self.irql = level;
	return before;
}

void
nt_irql_leave(KIRQL entered, KIRQL before, const char *what)
{
	if (thread_self.irql != entered)
		nt_misuse("%s was entered at IRQL %u and returned at %u", what, entered,
			  thread_self.irql);
	thread_self.irql = before;
}
