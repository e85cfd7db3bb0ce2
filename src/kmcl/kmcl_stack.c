/* SPDX-License-Identifier: MIT */
/* Stacks as text, for programs that report what happened to a driver in the words of the runtime's own reports. */
#include <string.h>

#include "kmcl.h"
#include "nt/nt_trace.h"

uint32_t
kmcl_stack_text(void *const *addresses, uint32_t count, char *text, uint32_t bytes)
{
	struct nt_trace trace = { .count = count < NT_TRACE_FRAMES ? (int)count : NT_TRACE_FRAMES };

	if (bytes == 0)
		return 0;
	memcpy(trace.frames, addresses, (size_t)trace.count * sizeof(trace.frames[0]));
	return (uint32_t)nt_trace_print(&trace, text, bytes);
}
