/* SPDX-License-Identifier: MIT */
/*
 * DPCs, for timers and for whoever forks.
 */
#ifndef NT_DPC_H
#define NT_DPC_H

#include <stdbool.h>

#include "wdm/dpc.h"

/*
 * KeInsertQueueDpc for who holds the dispatcher lock, and calls nt_dpc_start_wanted() once it does not: if the
 * system refused the thread that the DPC needs, that waits until it can be had.
 */
bool nt_dpc_insert(PRKDPC dpc, PVOID argument1, PVOID argument2);
void nt_dpc_start_wanted(void);

/* Misuse if a DPC is queued in memory that is about to be freed. */
void nt_dpc_check_freed(const void *memory, size_t bytes);

/*
 * A forked child has no dispatch threads: what its parent queued is the parent's to run. Called
 * around the fork with the dispatcher lock held.
 */
void nt_dpc_fork_prepare(void);
void nt_dpc_fork_parent(void);
void nt_dpc_fork_child(void);

#endif
