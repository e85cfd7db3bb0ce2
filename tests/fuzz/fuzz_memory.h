/* SPDX-License-Identifier: MIT */
/* Memory that runs out on request (memory.c). */
#ifndef FUZZ_MEMORY_H
#define FUZZ_MEMORY_H

#include <stdbool.h>

/* The allocation of this thread that fails, counted down from the next; 0 = none. It fails once. */
extern _Thread_local unsigned fuzz_memory_left;

#endif
