/* SPDX-License-Identifier: MIT */
/*
 * Whatever the library asks the system for, made to fail once: memory, pages of the arena, descriptors, threads. A program
 * that links failing.c is linked with FAILING_WRAPS of meson.build, so that these calls of the library end up here.
 */
#ifndef CONFORMANCE_FAILING_H
#define CONFORMANCE_FAILING_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* From now on requests are numbered from 1 again; number `index` is refused. 0 = none is. */
void failing_begin(uint64_t index);
/*
 * The same, of requests of the calling thread only: those of others are neither numbered nor refused. For calls that ask the
 * system on their caller's thread, next to a bus whose threads go on.
 */
void failing_begin_here(uint64_t index);
/* How many requests there were since. */
uint64_t failing_requests(void);
/* Has the one been refused? */
bool failing_hit(void);
/* What was refused last, as "calloc"; "" if nothing was yet. */
const char *failing_what(void);
/* Blocks of the C library that were given out and not freed. */
int64_t failing_live_blocks(void);

/* A thread of the test's own, which is not refused. */
void failing_start_thread(pthread_t *thread, void *(*run)(void *), void *context);

#endif
