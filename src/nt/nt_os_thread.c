/* SPDX-License-Identifier: MIT */
/*
 * Threads of the runtime's own.
 */
#include "nt/nt_os_thread.h"

#include <pthread.h>
#include <time.h>

#include "nt/nt_dbg.h"

static uint64_t waits;          /* atomic */

void
nt_os_thread_blocked(sigset_t *blocked)
{
	/* SIGSYS is heard in every thread, too: tools/sandbox.c */
	static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT };

	sigfillset(blocked);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		sigdelset(blocked, faults[i]);
}

bool
nt_os_thread_start(void *(*routine)(void *), void *context)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	pthread_t thread;
	int error;

	nt_os_thread_blocked(&all);
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&thread, &attributes, routine, context);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	return error == 0;
}

void
nt_os_thread_await_resources(void)
{
	const struct timespec pause = { .tv_nsec = 1000000 };

	if (__atomic_fetch_add(&waits, 1, __ATOMIC_RELAXED) == 0)
		nt_dbg_printf("kmcl: the system refuses a thread, or the memory for one; what needs it "
			      "waits\n");
	(void)nanosleep(&pause, NULL);
}

uint64_t
nt_os_thread_waits(void)
{
	return __atomic_load_n(&waits, __ATOMIC_RELAXED);
}

void
nt_os_thread_name(const char *name)
{
	pthread_setname_np(pthread_self(), name);
}
