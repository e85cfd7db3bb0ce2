/* SPDX-License-Identifier: MIT */
/* Contents of packets: a function of stream, number and place, so that a byte that is lost, moved or stale shows. */
#include "message.h"

#include <string.h>

const GUID CHAOS_TYPE = {
	0x9b1f4e02, 0x6c3d, 0x4a8e, { 0xa1, 0x77, 0x2e, 0x90, 0x5d, 0x0c, 0xb8, 0x43 }
};

GUID
chaos_instance(unsigned number)
{
	return (GUID){ 0x51d70000u + number,
		       0x28e4,
		       0x4f19,
		       { 0x83, 0x6a, 0xc0, 0x1b, 0x7f, 0x52, 0xd9, 0x3e } };
}

/* The word at byte `offset`, a multiple of 8. */
static uint64_t
word_of(uint64_t stream, uint32_t sequence, uint32_t salt, uint32_t offset)
{
	uint64_t x = stream ^ (uint64_t)sequence << 17 ^ (uint64_t)salt << 60 ^ offset;

	x *= UINT64_C(0x9E3779B97F4A7C15);
	x ^= x >> 29;
	x *= UINT64_C(0xBF58476D1CE4E5B9);
	return x ^ x >> 32;
}

/* [from, from + bytes) of the content; from is anything. */
static void
part_of(uint8_t *to, uint32_t from, uint32_t bytes, uint64_t stream, uint32_t sequence,
        uint32_t salt)
{
	for (uint32_t at = 0; at < bytes;) {
		const uint32_t inside = (from + at) % 8;
		const uint32_t count = bytes - at < 8 - inside ? bytes - at : 8 - inside;
		const uint64_t word = word_of(stream, sequence, salt, from + at - inside);

		memcpy(to + at, (const uint8_t *)&word + inside, count);
		at += count;
	}
}

void
chaos_fill(void *to, uint32_t bytes, uint64_t stream, uint32_t sequence, uint32_t salt)
{
	part_of(to, 0, bytes, stream, sequence, salt);
}

static bool
part_whole(const uint8_t *data, uint32_t from, uint32_t bytes, uint64_t stream, uint32_t sequence,
           uint32_t salt)
{
	uint8_t expected[256];

	for (uint32_t at = 0; at < bytes;) {
		const uint32_t count =
		    bytes - at < sizeof(expected) ? bytes - at : (uint32_t)sizeof(expected);

		part_of(expected, from + at, count, stream, sequence, salt);
		if (memcmp(expected, data + at, count) != 0)
			return false;
		at += count;
	}
	return true;
}

bool
chaos_whole(const void *from, uint32_t bytes, uint64_t stream, uint32_t sequence, uint32_t salt)
{
	return part_whole(from, 0, bytes, stream, sequence, salt);
}

static bool
over_mdl(PMDL mdl, const struct chaos_message *message, bool write)
{
	uint32_t done = 0;

	for (; mdl != NULL; mdl = mdl->Next) {
		uint8_t *data = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
		const uint32_t bytes = MmGetMdlByteCount(mdl);

		if (data == NULL || bytes > message->external - done)
			return false;
		if (write)
			part_of(data, done, bytes, message->stream, message->sequence,
			        CHAOS_SALT_EXTERNAL);
		else if (!part_whole(data, done, bytes, message->stream, message->sequence,
		                     CHAOS_SALT_EXTERNAL))
			return false;
		done += bytes;
	}
	return done == message->external;
}

bool
chaos_fill_mdl(PMDL mdl, const struct chaos_message *message)
{
	return over_mdl(mdl, message, true);
}

bool
chaos_mdl_whole(PMDL mdl, const struct chaos_message *message)
{
	return over_mdl(mdl, message, false);
}

const struct chaos_message *
chaos_message_check(const void *buffer, UINT32 length)
{
	const struct chaos_message *message = buffer;

	if (length < sizeof(*message) || message->bytes > CHAOS_MOST_BYTES ||
	    length != (sizeof(*message) + message->bytes + 7) / 8 * 8 ||
	    message->external > CHAOS_MOST_EXTERNAL)
		return NULL;
	return chaos_whole(message + 1, message->bytes, message->stream, message->sequence,
	                   CHAOS_SALT_INLINE)
	           ? message
	           : NULL;
}
