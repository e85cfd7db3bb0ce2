/* SPDX-License-Identifier: MIT */
/*
 * What fuzzers have in common: taking an input apart, and checks that end the run with a report. An
 * input that is used up goes on as zeroes, so every input means something and short ones are short
 * stories.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count);

struct fuzz {
	const uint8_t *at;
	size_t left;
};

static inline void
fuzz_bytes(struct fuzz *fuzz, void *to, size_t count)
{
	size_t there = count < fuzz->left ? count : fuzz->left;

	if (there != 0)
		memcpy(to, fuzz->at, there);
	if (there < count)
		memset((uint8_t *)to + there, 0, count - there);
	fuzz->at += there;
	fuzz->left -= there;
}

static inline uint8_t
fuzz_u8(struct fuzz *fuzz)
{
	uint8_t value;

	fuzz_bytes(fuzz, &value, sizeof(value));
	return value;
}

static inline uint16_t
fuzz_u16(struct fuzz *fuzz)
{
	uint16_t value;

	fuzz_bytes(fuzz, &value, sizeof(value));
	return value;
}

static inline uint32_t
fuzz_u32(struct fuzz *fuzz)
{
	uint32_t value;

	fuzz_bytes(fuzz, &value, sizeof(value));
	return value;
}

static inline uint64_t
fuzz_u64(struct fuzz *fuzz)
{
	uint64_t value;

	fuzz_bytes(fuzz, &value, sizeof(value));
	return value;
}

/* 0 to bound - 1, from one byte: bound <= 256. */
static inline uint32_t
fuzz_below(struct fuzz *fuzz, uint32_t bound)
{
	return fuzz_u8(fuzz) % bound;
}

/* What must hold whatever the input is. An assertion, but not one that NDEBUG takes away. */
#define FUZZ_CHECK(condition)                                                             \
	do {                                                                              \
		if (!(condition)) {                                                       \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, \
			        #condition);                                              \
			abort();                                                          \
		}                                                                         \
	} while (0)

#endif
