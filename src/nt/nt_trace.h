/* SPDX-License-Identifier: MIT */
/*
 * Stack traces: taken cheaply, named only when somebody reads them, and kept in a store of bounded
 * size (stacks of allocations).
 */
#ifndef NT_TRACE_H
#define NT_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define NT_TRACE_FRAMES 32

struct nt_trace {
	int count;
	void *frames[NT_TRACE_FRAMES];  /* return addresses, nearest first */
};

/*
 * Of the calling thread, from the function on that `from` returns to: a caller passes
 * __builtin_return_address(0) to leave itself out. Context: any.
 */
void nt_trace_take(struct nt_trace *trace, const void *from);

/*
 * One line per frame into `text`, terminated and cut at whole lines. Returns the length. Context:
 * as nt_symbol_describe().
 */
size_t nt_trace_print(const struct nt_trace *trace, char *text, size_t room);

/* ---- the store ------------------------------------------------------------------------------- */

/* Different stacks that fit; the nearest NT_STACK_FRAMES frames of each. */
#define NT_STACKS_MAX 4095
#define NT_STACK_FRAMES 12

/*
 * Keep the stack, taken as above: the same number for the same stack. 0 when the store is full or
 * has no memory. Context: any; the first call allocates.
 */
uint16_t nt_stack_keep(const void *from);
/* False, and an empty trace, for 0. */
bool nt_stack_get(uint16_t stack, struct nt_trace *trace);

#endif
