/* SPDX-License-Identifier: MIT */
/*
 * What the runtime knows about a thread: its id, its emulated IRQL, the regions it is in, and the
 * object that others wait for and refer to, whose address is the PKTHREAD.
 */
#ifndef NT_THREAD_H
#define NT_THREAD_H

#include <stdbool.h>
#include <stdint.h>

#include "wdm/ke.h"

/* One reference belongs to the thread while it runs. */
struct _KTHREAD {
	DISPATCHER_HEADER Header; /* signalled when the thread has ended */
	LIST_ENTRY mutexes;       /* that it owns; of the dispatcher lock */
	uint32_t id;              /* the kernel's */
	int32_t references;       /* atomic */
	KPRIORITY priority;       /* atomic */
	NTSTATUS exit_status;
	bool is_system; /* made by PsCreateSystemThread */
};

/* The kernel's id of the calling thread. */
uint32_t nt_thread_id(void);

/* The calling thread's object, made when first asked for. */
struct _KTHREAD *nt_thread_self(void);

/* With one reference, for the thread to be; NULL without memory. */
struct _KTHREAD *nt_thread_object_new(void);
void nt_thread_object_ref(struct _KTHREAD *thread);
void nt_thread_object_unref(struct _KTHREAD *thread);
/* For ObReferenceObject and ObDereferenceObject; the number of references that remain. */
bool nt_thread_is_object(const void *object);
LONG_PTR nt_thread_object_count(struct _KTHREAD *thread, LONG change);
/* At the start of a new thread: this is its object, with the reference. */
void nt_thread_adopt(struct _KTHREAD *thread);

/* After a callback on a thread of the runtime: report regions that it has not left. */
void nt_thread_check_regions(const char *what);
/* A system thread is about to end: report what it has not left. */
void nt_thread_check_end(void);

/* The calling thread enters that many critical regions, or leaves one. At any level. */
void nt_thread_enter_regions(uint32_t count);
void nt_thread_leave_region(const char *what);

/* False, and misuse, if the calling thread is above `most`. `what` is the function's name. */
bool nt_irql_check_at_most(KIRQL most, const char *what);

/* Misuse if an APC could interrupt the calling thread: not in a region, below APC_LEVEL. */
void nt_check_apcs_disabled(const char *what);

/*
 * Around a callback: enter sets the level at which the callback runs and returns the one before;
 * leave restores that, and reports a callback that came back at another level than it was entered
 * with.
 */
KIRQL nt_irql_enter(KIRQL level);
void nt_irql_leave(KIRQL entered, KIRQL before, const char *what);

#endif
