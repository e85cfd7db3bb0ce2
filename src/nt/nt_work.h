/* SPDX-License-Identifier: MIT */
/* Work items, for who unloads code that they may run or frees memory that they may be in. */
#ifndef NT_WORK_H
#define NT_WORK_H

#include <stdbool.h>
#include <stddef.h>

/* Until no item is queued or running; false when some still are after this time. PASSIVE, not inside an item. */
bool nt_work_await_idle(unsigned milliseconds);

/* Misuse if an item is queued in memory that is about to be freed. */
void nt_work_check_freed(const void *memory, size_t bytes);

#endif
