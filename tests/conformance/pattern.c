/* SPDX-License-Identifier: MIT */
/* What the acceptance scenarios share. */
#include "pattern.h"

void
pattern_await_at(PKEVENT event, const char *what, const char *file, int line)
{
	LARGE_INTEGER limit = { .QuadPart = CONF_MS(CONF_LIMIT_SECONDS * 1000) };

	if (KeWaitForSingleObject(event, Executive, KernelMode, FALSE, &limit) == STATUS_SUCCESS)
		return;
	print_error("waited %d s for: %s\n", CONF_LIMIT_SECONDS, what);
	_fail(file, line);
}
