/* SPDX-License-Identifier: MIT */
/*
 * Mutexes, as the dispatcher core and the end of a thread see them.
 */
#ifndef NT_MUTEX_H
#define NT_MUTEX_H

#include <stdbool.h>

#include "nt/nt_dispatch.h"

/*
 * The mutex is free, or `thread` owns it already. True if the thread has to enter a critical
 * region. *abandoned is set if the last owner ended without a release.
 */
bool nt_mutex_take_locked(PRKMUTEX mutex, struct _KTHREAD *thread, bool *abandoned);

/* The thread ends: what it still owns is abandoned. */
void nt_mutex_abandon(struct _KTHREAD *thread);

#endif
