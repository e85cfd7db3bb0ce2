/* SPDX-License-Identifier: MIT */
/*
 * The core that all objects share which a thread can wait for. Each begins with a
 * DISPATCHER_HEADER: its type, its state, and the list of who waits.
 *
 * One lock protects the state of all objects and all lists. Events are the exception: as long as
 * nobody waits for one together with other objects it is a word of its own (nt_event.c), and its
 * list is empty.
 *
 * A thread that was let go returns only after whoever let it go has left the object alone, so an
 * object may live in the frame of the thread that waits for it.
 */
#ifndef NT_DISPATCH_H
#define NT_DISPATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "nt/nt_deadline.h"
#include "wdm.h"

/* Header.Type, with the values of Windows. */
enum nt_object_type {
	NT_OBJECT_NOTIFICATION_EVENT = 0,
	NT_OBJECT_SYNCHRONIZATION_EVENT = 1,
	NT_OBJECT_MUTANT = 2,
	NT_OBJECT_SEMAPHORE = 5,
	NT_OBJECT_THREAD = 6,
	NT_OBJECT_NOTIFICATION_TIMER = 8,
	NT_OBJECT_SYNCHRONIZATION_TIMER = 9,
};

struct nt_waiter;

/* Threads that were let go and are woken when the lock is free again. */
struct nt_wake_list {
	struct nt_waiter *first;
	struct nt_waiter **last;
};

void nt_object_init(PDISPATCHER_HEADER header, enum nt_object_type type, size_t bytes, LONG state);
/* An initialised event of either type? */
static inline bool
nt_object_is_event(const void *object)
{
	const DISPATCHER_HEADER *header = object;

	return header != NULL && header->Type <= NT_OBJECT_SYNCHRONIZATION_EVENT &&
	       header->Size == sizeof(KEVENT) / sizeof(LONG);
}

/* Initialised, and of one of the two types? Misuse if not; `what` is the function's name. */
bool nt_object_check(const void *object, enum nt_object_type type, enum nt_object_type or_type,
                     const char *what);

/* Before the first use of a lock of the runtime that a fork has to know of. */
void nt_dispatch_prepare(void);
void nt_dispatch_lock(struct nt_wake_list *wake);
/* Also wakes who was let go. No object is touched any more once the lock is free. */
void nt_dispatch_unlock(struct nt_wake_list *wake);

/* The state of any object but an event. */
LONG nt_object_state_locked(const DISPATCHER_HEADER *header);
void nt_object_set_state_locked(PDISPATCHER_HEADER header, LONG state);
/* The object has become signalled: let go whoever that satisfies. */
void nt_object_signal_locked(PDISPATCHER_HEADER header, struct nt_wake_list *wake);

#endif
