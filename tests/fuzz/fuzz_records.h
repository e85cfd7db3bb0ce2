/* SPDX-License-Identifier: MIT */
/*
 * Inputs that are a list of steps: each step is a record of FUZZ_RECORD_BYTES, which its
 * includer defines, so that a change of one step leaves the others what they are. The fuzzer's
 * own mutations know nothing of records and would shift all that follows; these insert, drop,
 * repeat and swap whole records, change bytes of one, and join the beginning of a story with
 * the end of another.
 */
#ifndef FUZZ_RECORDS_H
#define FUZZ_RECORDS_H

#include "fuzz.h"

size_t LLVMFuzzerMutate(uint8_t *bytes, size_t count, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t count, size_t most, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_count, const uint8_t *b, size_t b_count,
                                 uint8_t *out, size_t most, unsigned seed);

/* The next record of an input, to be taken apart on its own. */
static inline struct fuzz
fuzz_record(struct fuzz *fuzz)
{
	size_t bytes = fuzz->left < FUZZ_RECORD_BYTES ? fuzz->left : FUZZ_RECORD_BYTES;
	struct fuzz record = { fuzz->at, bytes };

	fuzz->at += bytes;
	fuzz->left -= bytes;
	return record;
}

static inline uint32_t
fuzz_random(uint32_t *state)
{
	*state = *state * 1664525u + 1013904223u;
	return *state >> 8;
}

static inline uint8_t *
fuzz_place(uint8_t *bytes, size_t records, uint32_t *state)
{
	return bytes + fuzz_random(state) % records * FUZZ_RECORD_BYTES;
}

/* One change; returns how many records there are now. */
static inline size_t
fuzz_change(uint8_t *bytes, size_t records, size_t most, uint32_t *state)
{
	const size_t size = FUZZ_RECORD_BYTES;
	uint8_t *at = fuzz_place(bytes, records, state), *other, swapped[FUZZ_RECORD_BYTES];
	uint8_t *end = bytes + records * size;

	switch (fuzz_random(state) % 8) {
	case 0: /* a new one, or one again */
		if (records == most)
			break;
		other = fuzz_place(bytes, records, state);
		memcpy(swapped, other, size);
		memmove(at + size, at, (size_t)(end - at));
		if ((fuzz_random(state) & 1) != 0)
			for (size_t i = 0; i < size; i++)
				swapped[i] = (uint8_t)fuzz_random(state);
		memcpy(at, swapped, size);
		return records + 1;
	case 1:
		if (records == 1)
			break;
		memmove(at, at + size, (size_t)(end - at) - size);
		return records - 1;
	case 2:
		other = fuzz_place(bytes, records, state);
		memcpy(swapped, other, size);
		memcpy(other, at, size);
		memcpy(at, swapped, size);
		break;
	case 3:
		LLVMFuzzerMutate(at, size, size);
		break;
	case 4:
		at[fuzz_random(state) % size] ^= (uint8_t)(1u << fuzz_random(state) % 8);
		break;
	default: /* the first bytes decide most */
		at[fuzz_random(state) % (fuzz_random(state) % size + 1)] =
		    (uint8_t)fuzz_random(state);
		break;
	}
	return records;
}

size_t
LLVMFuzzerCustomMutator(uint8_t *bytes, size_t count, size_t most, unsigned seed)
{
	size_t records = (count + FUZZ_RECORD_BYTES - 1) / FUZZ_RECORD_BYTES;
	uint32_t state = seed;

	most /= FUZZ_RECORD_BYTES;
	if (records > most)
		records = most;
	if (records == 0) {
		if (most == 0)
			return LLVMFuzzerMutate(bytes, count, most);
		count = 0;
		records = 1;
	}
	if (count < records * FUZZ_RECORD_BYTES)
		memset(bytes + count, 0, records * FUZZ_RECORD_BYTES - count);
	for (uint32_t changes = 1 + fuzz_random(&state) % 4; changes != 0; changes--)
		records = fuzz_change(bytes, records, most, &state);
	return records * FUZZ_RECORD_BYTES;
}

size_t
LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_count, const uint8_t *b, size_t b_count,
                          uint8_t *out, size_t most, unsigned seed)
{
	size_t head = a_count / FUZZ_RECORD_BYTES, skip = b_count / FUZZ_RECORD_BYTES, tail;
	uint32_t state = seed;

	head = fuzz_random(&state) % (head + 1) * FUZZ_RECORD_BYTES;
	skip = fuzz_random(&state) % (skip + 1) * FUZZ_RECORD_BYTES;
	head = head < most ? head : most;
	tail = b_count - skip < most - head ? b_count - skip : most - head;
	memcpy(out, a, head);
	memcpy(out + head, b + skip, tail);
	return head + tail;
}

#endif
