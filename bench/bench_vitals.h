/* SPDX-License-Identifier: MIT */
/* What the calling process has of the system's: memory, and how often its threads woke up. */
#ifndef BENCH_VITALS_H
#define BENCH_VITALS_H

#include <stdint.h>

struct bench_vitals {
	uint64_t anonymous_bytes; /* memory that is nobody else's */
	uint64_t switches;        /* sleeps of all threads but the main one, so far */
};

struct bench_vitals bench_vitals_now(void);

#endif
