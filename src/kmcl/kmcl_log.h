/* SPDX-License-Identifier: MIT */
/* Log lines and misuse reports. */
#ifndef KMCL_LOG_H
#define KMCL_LOG_H

#include <stdbool.h>

#include "kmcl.h"

/* One line, no newline. Cheap when nobody listens at that level. */
void kmcl_log(enum kmcl_log_level level, const char *format, ...)
        __attribute__((format(printf, 2, 3)));

/*
 * At most `burst` lines per second of wall time for something that a peer can cause (R9). True: print it;
 * *suppressed is how many were not printed since.
 */
struct kmcl_log_limit {
	long second;
	unsigned printed, suppressed;
};
bool kmcl_log_allowed(struct kmcl_log_limit *limit, unsigned burst, unsigned *suppressed);

#endif
