/* SPDX-License-Identifier: MIT */
/*
 * Handles of threads. A handle is no address, and never used again for another thread.
 */
#ifndef NT_HANDLE_H
#define NT_HANDLE_H

#include <stdbool.h>

#include "wdm.h"

/* Takes over a reference, unless it fails: NULL without memory. */
HANDLE nt_handle_create(struct _KTHREAD *thread);
/* Could it be one of these? False for anything that is aligned like memory. */
bool nt_handle_is_own(HANDLE handle);
/* With a reference; NULL if the handle is not open. */
struct _KTHREAD *nt_handle_thread(HANDLE handle);
/* STATUS_SUCCESS, STATUS_INVALID_HANDLE. */
NTSTATUS nt_handle_close(HANDLE handle);

#endif
