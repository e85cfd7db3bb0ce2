/* SPDX-License-Identifier: MIT */
/*
 * What the dispatcher core needs to know of events. A listed event has waiters in its list; from
 * then on its signalled bit changes only under the dispatcher lock.
 */
#ifndef NT_EVENT_H
#define NT_EVENT_H

#include <stdbool.h>

#include "nt/nt_deadline.h"
#include "wdm/ke.h"

void nt_event_enlist_locked(PRKEVENT event);
void nt_event_unlist_locked(PRKEVENT event);
bool nt_event_is_signalled_locked(const KEVENT *event);
/* Of a synchronization event. */
void nt_event_consume_locked(PRKEVENT event);

/* STATUS_PENDING: the event is listed, and so is who waits for it. */
NTSTATUS nt_event_wait(PRKEVENT event, const struct nt_deadline *deadline);

#endif
