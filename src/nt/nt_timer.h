/* SPDX-License-Identifier: MIT */
/*
 * Timers, for those that the system allocates and for whoever forks.
 */
#ifndef NT_TIMER_H
#define NT_TIMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nt/nt_dispatch.h"
#include "wdm/dpc.h"

/*
 * KeSetTimerEx with the period in 100 ns and without its checks, for who holds the dispatcher lock,
 * and calls nt_timer_start_wanted() once it does not.
 */
bool nt_timer_set_locked(PKTIMER timer, int64_t due, uint64_t period_100ns, PKDPC dpc,
                         struct nt_wake_list *wake);
/* Wait for threads that timers and their DPCs need and that the system refused. No lock held. */
void nt_timer_start_wanted(void);
/* True if it was running. */
bool nt_timer_stop_locked(PKTIMER timer);
bool nt_timer_is_running_locked(const KTIMER *timer);

/* Misuse if a timer runs in memory that is about to be freed. Looks at all timers. */
void nt_timer_check_freed(const void *memory, size_t bytes);

/* Around a fork, with the dispatcher lock held: in the child nothing is running. */
void nt_timer_fork_child(void);

#endif
