/* SPDX-License-Identifier: MIT */
/* Times of many round trips. */
#ifndef TOOLS_TIMING_H
#define TOOLS_TIMING_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

static inline uint64_t
timing_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static inline int
timing_compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return x < y ? -1 : x > y;
}

static inline void
timing_sort(uint64_t *times, size_t count)
{
	qsort(times, count, sizeof(*times), timing_compare);
}

#endif
