/* SPDX-License-Identifier: MIT */
/*
 * What an instrumented driver tells: which edges it took, and what it compares with what. A driver that is built with
 * -fsanitize-coverage calls functions of the program that loads it; fuzz_coverage.c has those of inline-8bit-counters,
 * pc-table, trace-pc-guard, trace-pc (gcc) and trace-cmp.
 */
#ifndef TOOLS_FUZZ_COVERAGE_H
#define TOOLS_FUZZ_COVERAGE_H

#include <stdbool.h>
#include <stdint.h>

#define FUZZ_FEATURES (1u << 18)
#define FUZZ_COMPARISONS 1024u

struct fuzz_comparison {
	uint64_t value, with;
	uint8_t bytes; /* 0: no entry */
	bool met;      /* something was equal to the value: the way past it is known */
};

/* Lies in memory that the fuzzer and its workers share, so that it outlives each of them. */
struct fuzz_coverage {
	bool instrumented;
	uint32_t edges, edges_total; /* taken so far; the total is 0 where it is not known */
	uint8_t seen
	    [FUZZ_FEATURES]; /* of each edge a bit for how often it was taken in one case: 1, 2, 3, 4.. */
	uint32_t answers;       /* different ones so far */
	uint8_t said[1u << 13]; /* hashes of what the driver answered */
	/* Of each comparison of two variables, hashed: which one was larger, and by how many bits. */
	uint8_t distances[1u << 13];
	/* What the driver compared last with each value: a packet that has the one is worth trying with the other. */
	struct fuzz_comparison comparisons[FUZZ_COMPARISONS];
};

/* Of the worker, once, before the driver is loaded. */
void fuzz_coverage_start(struct fuzz_coverage *coverage);
/* A case begins: what happened before does not count. */
void fuzz_coverage_clear(void);
/* The driver answered with these bytes: the feedback of drivers that have no other. */
void fuzz_coverage_answer(const void *bytes, uint32_t count);
/* How many things happened in this case for the first time ever. */
uint32_t fuzz_coverage_collect(void);

#endif
