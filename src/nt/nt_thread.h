/* SPDX-License-Identifier: MIT */
/*
 * What the runtime knows about a thread: its id and its emulated IRQL. The address of the
 * structure is the PKTHREAD of the thread.
 */
#ifndef NT_THREAD_H
#define NT_THREAD_H

#include <stdbool.h>
#include <stdint.h>

#include "wdm/ke.h"

struct _KTHREAD {
	uint32_t id;            /* the kernel's; 0 until first asked for */
	KIRQL irql;
};

/* Of the calling thread; id filled in. */
struct _KTHREAD *nt_thread_self(void);

/* False, and misuse, if the calling thread is above `most`. `what` is the function's name. */
bool nt_irql_check_at_most(KIRQL most, const char *what);

/*
 * Around a callback: enter sets the level at which the callback runs and returns the one before;
 * leave restores that, and reports a callback that came back at another level than it was entered
 * with.
 */
KIRQL nt_irql_enter(KIRQL level);
void nt_irql_leave(KIRQL entered, KIRQL before, const char *what);

#endif
