/* SPDX-License-Identifier: MIT */
/*
 * Deadlines in the manner of KeWaitForSingleObject, and waiting for a word to change until one.
 *
 * NULL: no limit. 0: no waiting. Negative: relative, in 100 ns, on a clock that ignores changes
 * of the wall clock. Positive: absolute, 100 ns since 1601-01-01 UTC, and follows such changes
 * while waiting. A value whose conversion overflows is no limit. One deadline serves several
 * waits; it is made once, at entry.
 */
#ifndef NT_DEADLINE_H
#define NT_DEADLINE_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "ntdef.h"

/* From 1601-01-01 to 1970-01-01. */
#define NT_UNIX_EPOCH_100NS INT64_C(116444736000000000)

enum nt_deadline_kind {
	NT_DEADLINE_INFINITE = 0,
	NT_DEADLINE_ZERO,
	NT_DEADLINE_MONOTONIC,
	NT_DEADLINE_REALTIME,
};

struct nt_deadline {
	enum nt_deadline_kind kind;
	struct timespec at;     /* of the two kinds with a clock */
};

/* Reads *timeout once and never writes it. */
struct nt_deadline nt_deadline_from_timeout(const LARGE_INTEGER *timeout);
/* When KeQueryInterruptTime() is so far. Reads no clock. */
struct nt_deadline nt_deadline_from_interrupt_time(uint64_t at);

bool nt_deadline_is_zero(const struct nt_deadline *deadline);
bool nt_deadline_is_infinite(const struct nt_deadline *deadline);
/* True for zero, false for no limit. */
bool nt_deadline_has_passed(const struct nt_deadline *deadline);

/*
 * What is left, for a wait that counts from now; *left becomes NULL without a limit, else what it points to is set. False:
 * nothing is left, or the limit follows the wall clock, which such waits do not.
 */
bool nt_deadline_left(const struct nt_deadline *deadline, struct timespec **left);

/*
 * Sleep while *word == expected. False when the deadline has passed (at once for zero), never
 * before; true after anything else: look again. Signals do not end the sleep. Not a cancellation
 * point. Context: may sleep.
 */
bool nt_futex_wait(uint32_t *word, uint32_t expected, const struct nt_deadline *deadline);
/* Wake up to `count` sleepers. `word` is an address only; the memory may be gone already. */
void nt_futex_wake(const uint32_t *word, int count);

#endif
