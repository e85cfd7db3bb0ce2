/* SPDX-License-Identifier: MIT */
/* From all that a worker was told before something was found to the least that still shows it. */
#ifndef TOOLS_FUZZ_SHRINK_H
#define TOOLS_FUZZ_SHRINK_H

#include "fuzz_host.h"

enum fuzz_shrunk {
	FUZZ_SHRUNK,    /* `smallest` shows it, in a worker that did nothing else */
	FUZZ_NOT_AGAIN, /* nothing did; `smallest` is all that the worker was told */
	FUZZ_GAVE_UP, /* stopped before it happened again; `smallest` is all that the worker was told */
};

/*
 * `cases` are what the worker was told, the last is the one in which it was found. `finding` gets the report of what `smallest`
 * shows. At most so many workers are used.
 */
enum fuzz_shrunk fuzz_shrink(struct fuzz_host *host, const struct fuzz_case *cases, uint32_t count,
                             uint32_t tries, struct fuzz_finding *finding,
                             struct fuzz_case *smallest);

#endif
