/* SPDX-License-Identifier: MIT */
/*
 * The direct way past a comparison. A driver that compared part of a packet with something is given the packet again with what it
 * wanted in that place, for each comparison and each place that it can have meant.
 */
#ifndef TOOLS_FUZZ_DIRECT_H
#define TOOLS_FUZZ_DIRECT_H

#include "fuzz_case.h"
#include "fuzz_coverage.h"

struct fuzz_direct {
	struct fuzz_case base;
	struct fuzz_comparison comparisons[FUZZ_COMPARISONS];
	uint32_t step, at, comparison;
	uint32_t left; /* so many cases yet */
};

/* After the case was run: what was compared then counts. */
void fuzz_direct_begin(struct fuzz_direct *direct, const struct fuzz_case *c,
                       const struct fuzz_coverage *coverage);
/* False: there are no more, and nothing was begun. */
bool fuzz_direct_next(struct fuzz_direct *direct, struct fuzz_case *c);
void fuzz_direct_clear(struct fuzz_direct *direct);

#endif
