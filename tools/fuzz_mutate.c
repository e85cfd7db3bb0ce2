/* SPDX-License-Identifier: MIT */
/*
 * Mutations. Those of steps change what is sent in which order, to which channel and with which external data; those of bytes know
 * nothing of what the bytes mean but the words of a dictionary and what the driver was seen to compare.
 */
#include "fuzz_mutate.h"

#include <stdlib.h>
#include <string.h>
#include <sys/param.h>

#define ROUNDS_MAX 5u
#define HEADER_BYTES 32u

/* xorshift64*: small, and the same everywhere. */
uint32_t
fuzz_below(struct fuzz_random *random, uint32_t limit)
{
	random->state ^= random->state >> 12;
	random->state ^= random->state << 25;
	random->state ^= random->state >> 27;
	return (uint32_t)((random->state * UINT64_C(0x2545f4914f6cdd1d)) >> 32) % limit;
}

static uint32_t
below(struct fuzz_mutator *m, uint32_t limit)
{
	return fuzz_below(&m->random, limit);
}

/* ---- bytes ----------------------------------------------------------------------------------------------------- */

/* Where counters, signs and pages turn over. */
static const uint64_t edges[] = {
	0,
	1,
	2,
	3,
	4,
	5,
	6,
	7,
	8,
	9,
	10,
	12,
	16,
	32,
	64,
	100,
	127,
	128,
	255,
	256,
	511,
	512,
	1000,
	1024,
	4095,
	4096,
	4097,
	8192,
	32767,
	32768,
	65535,
	65536,
	0x7fffffff,
	0x80000000,
	0xffffffff,
	0x100000000,
	0x7fffffffffffffff,
	0x8000000000000000,
	0xffffffffffffffff,
	0xfffffffffffffff8,
};

static void
put(struct fuzz_bytes *bytes, uint32_t at, const void *data, uint32_t count)
{
	memcpy(bytes->data + at, data, MIN(count, bytes->size - at));
}

static void
make_gap(struct fuzz_bytes *bytes, uint32_t at, uint32_t count)
{
	fuzz_bytes_resize(bytes, bytes->size + count);
	memmove(bytes->data + at + count, bytes->data + at, bytes->size - count - at);
}

/* Headers come first, and decide more than what follows. */
static uint32_t
choose_place(struct fuzz_mutator *m, uint32_t limit)
{
	return below(m, below(m, 2) == 0 ? MIN(limit, HEADER_BYTES) : limit);
}

/* A number of 1, 2, 4 or 8 bytes, mostly where such numbers lie. */
static uint32_t
choose_number(struct fuzz_mutator *m, const struct fuzz_bytes *bytes, uint32_t *at)
{
	uint32_t width = 1u << below(m, 4);

	while (width > bytes->size)
		width /= 2;
	*at = choose_place(m, bytes->size - width + 1);
	if (below(m, 4) != 0)
		*at -= *at % width;
	return width;
}

static const struct fuzz_bytes *
choose_word(struct fuzz_mutator *m)
{
	return m->dictionary.count != 0 ? &m->dictionary.words[below(m, m->dictionary.count)]
	                                : NULL;
}

/* The first place of this number from a random one on, around the end; bytes->size: nowhere. */
static uint32_t
find_number(struct fuzz_mutator *m, const struct fuzz_bytes *bytes, uint64_t number, uint32_t width)
{
	uint32_t first;

	if (bytes->size < width)
		return bytes->size;
	first = choose_place(m, bytes->size - width + 1);
	if (below(m, 4) != 0)
		first -= first % width;
	for (uint32_t i = 0; i <= bytes->size - width; i++) {
		const uint32_t at = (first + i) % (bytes->size - width + 1);

		if (memcmp(bytes->data + at, &number, width) == 0)
			return at;
	}
	return bytes->size;
}

/* A value that the driver compared something with: in the place of what it was compared with, if that is here. */
static void
use_comparison(struct fuzz_mutator *m, struct fuzz_bytes *bytes)
{
	uint32_t used[FUZZ_COMPARISONS], count = 0, i, width, at;
	uint64_t value;

	for (i = 0; i < FUZZ_COMPARISONS; i++) {
		if (m->coverage->comparisons[i].bytes != 0)
			used[count++] = i;
	}
	if (count == 0)
		return;
	i = used[below(m, count)];
	width = m->coverage->comparisons[i].bytes;
	value = m->coverage->comparisons[i].value;
	at = find_number(m, bytes, m->coverage->comparisons[i].with, width);
	if (at == bytes->size) {
		at = choose_place(m, bytes->size);
		at -= at % width;
	}
	/* Just beyond a limit is as good as the limit. */
	if (below(m, 4) == 0)
		value += below(m, 3) - 1u;
	put(bytes, at, &value, width);
}

static void
use_word(struct fuzz_mutator *m, struct fuzz_bytes *bytes, uint32_t most)
{
	const struct fuzz_bytes *word = choose_word(m);
	uint32_t at;

	if (word == NULL)
		return;
	at = choose_place(m, bytes->size);
	if (below(m, 3) == 0 && bytes->size + word->size <= most)
		make_gap(bytes, at, word->size);
	put(bytes, at, word->data, word->size);
}

static void
change_number(struct fuzz_mutator *m, struct fuzz_bytes *bytes)
{
	uint64_t value = 0;
	uint32_t at;
	const uint32_t width = choose_number(m, bytes, &at);

	memcpy(&value, bytes->data + at, width);
	if (below(m, 2) == 0)
		value += below(m, 33) - 16u;
	else
		value = edges[below(m, sizeof(edges) / sizeof(edges[0]))];
	memcpy(bytes->data + at, &value, width);
}

static void
copy_within(struct fuzz_mutator *m, struct fuzz_bytes *bytes)
{
	const uint32_t from = below(m, bytes->size), to = below(m, bytes->size);
	const uint32_t count = 1 + below(m, MIN(bytes->size - from, bytes->size - to));

	memmove(bytes->data + to, bytes->data + from, count);
}

static void
change_length(struct fuzz_mutator *m, struct fuzz_bytes *bytes, uint32_t least, uint32_t most)
{
	static const uint32_t lengths[] = { 0,  1,   4,   8,   16,   24,   32,    48,
		                            64, 128, 256, 512, 1024, 4096, 16384, 65536 };
	uint32_t size;

	switch (below(m, 3)) {
	case 0:
		size = lengths[below(m, sizeof(lengths) / sizeof(lengths[0]))];
		break;
	case 1:
		size = bytes->size + below(m, 17) - 8;
		size = size > most * 2 ? least : size;
		break;
	default:
		size = below(m, MIN(most, 512) + 1);
		break;
	}
	fuzz_bytes_resize(bytes, MIN(MAX(size, least), most));
}

static void
change_bytes(struct fuzz_mutator *m, struct fuzz_bytes *bytes, uint32_t least, uint32_t most)
{
	uint32_t at;

	if (bytes->size == 0 || below(m, 8) == 0) {
		change_length(m, bytes, least, most);
		return;
	}
	at = choose_place(m, bytes->size);
	switch (below(m, 10)) {
	case 0:
		bytes->data[at] ^= (uint8_t)(1u << below(m, 8));
		break;
	case 1:
		bytes->data[at] = (uint8_t)below(m, 256);
		break;
	case 2:
	case 3:
		change_number(m, bytes);
		break;
	case 4:
	case 5:
	case 6:
		use_comparison(m, bytes);
		break;
	case 7:
		use_word(m, bytes, most);
		break;
	case 8:
		copy_within(m, bytes);
		break;
	default:
		for (uint32_t end = at + 1 + below(m, 8); at < end && at < bytes->size; at++)
			bytes->data[at] = (uint8_t)below(m, 256);
		break;
	}
}

/* ---- steps ----------------------------------------------------------------------------------------------------- */

static void
add_range(struct fuzz_mutator *m, struct fuzz_step *step)
{
	static const uint32_t sizes[] = { 1, 8, 511, 512, 513, 4096, 8192, 65536 };
	static const uint32_t offsets[] = { 0, 0, 0, 1, 8, 512, 2048, 4088, 4095 };
	struct fuzz_range *range;

	if (step->range_count == FUZZ_RANGES_MAX || m->external_max == 0)
		return;
	range = &step->ranges[step->range_count++];
	range->offset = offsets[below(m, sizeof(offsets) / sizeof(offsets[0]))];
	fuzz_bytes_resize(&range->bytes,
	                  MIN(sizes[below(m, sizeof(sizes) / sizeof(sizes[0]))], m->external_max));
}

static void
change_ranges(struct fuzz_mutator *m, struct fuzz_step *step)
{
	struct fuzz_range *range;

	if (step->range_count == 0) {
		add_range(m, step);
		return;
	}
	range = &step->ranges[below(m, step->range_count)];
	switch (below(m, 6)) {
	case 0:
		add_range(m, step);
		break;
	case 1:
		free(range->bytes.data);
		*range = step->ranges[--step->range_count];
		step->ranges[step->range_count].bytes = (struct fuzz_bytes){ 0 };
		break;
	case 2:
		range->offset = below(m, 4096);
		break;
	default:
		change_bytes(m, &range->bytes, 1, m->external_max);
		break;
	}
}

static void
add_packet(struct fuzz_mutator *m, struct fuzz_case *c)
{
	struct fuzz_step *step = fuzz_case_insert(c, below(m, c->count + 1));

	step->kind = FUZZ_PACKET;
	step->channel = below(m, m->channels);
	step->ask = below(m, 4) != 0;
	step->wait = below(m, 4) != 0;
	change_length(m, &step->bytes, 0, m->packet_max);
	for (uint32_t i = below(m, 4); i != 0; i--)
		change_bytes(m, &step->bytes, 0, m->packet_max);
	if (below(m, 4) == 0)
		add_range(m, step);
}

static void
change_order(struct fuzz_mutator *m, struct fuzz_case *c, const struct fuzz_case *other)
{
	const uint32_t at = below(m, c->count);
	uint32_t first, count;

	switch (below(m, 5)) {
	case 0:
		if (c->count > 1)
			fuzz_case_remove(c, at, 1);
		break;
	case 1:
		fuzz_case_splice(c, below(m, c->count + 1), c, at, 1);
		break;
	case 2:
	case 3:
		if (other->count == 0)
			break;
		first = below(m, other->count);
		count = 1 + below(m, other->count - first);
		fuzz_case_splice(c, below(m, c->count + 1), other, first, count);
		break;
	default:
		fuzz_case_insert(c, at)->kind = FUZZ_REOPEN;
		break;
	}
}

static void
change_step(struct fuzz_mutator *m, struct fuzz_step *step)
{
	if (step->kind == FUZZ_ANSWER)
		change_bytes(m, &step->bytes, 0, m->packet_max);
	if (step->kind != FUZZ_PACKET)
		return;
	switch (below(m, 16)) {
	case 0:
		step->ask = !step->ask;
		break;
	case 1:
		step->wait = !step->wait;
		break;
	case 2:
		step->channel = below(m, m->channels);
		break;
	case 3:
	case 4:
	case 5:
		change_ranges(m, step);
		break;
	default:
		change_bytes(m, &step->bytes, 0, m->packet_max);
		break;
	}
}

void
fuzz_mutate(struct fuzz_mutator *m, struct fuzz_case *c, const struct fuzz_case *other)
{
	for (uint32_t round = 1 + below(m, ROUNDS_MAX); round != 0; round--) {
		const uint32_t kind = c->count == 0 ? 0 : below(m, 16);

		if (kind == 0) {
			add_packet(m, c);
		} else if (kind == 1) {
			struct fuzz_step *answer = fuzz_case_insert(c, below(m, c->count));

			answer->kind = FUZZ_ANSWER;
			change_length(m, &answer->bytes, 0, m->packet_max);
		} else if (kind < 5) {
			change_order(m, c, other);
		} else {
			change_step(m, &c->steps[below(m, c->count)]);
		}
	}
	if (c->count > m->steps_max)
		fuzz_case_remove(c, m->steps_max, c->count - m->steps_max);
}
