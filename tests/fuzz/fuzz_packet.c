/* SPDX-License-Identifier: MIT */
/*
 * Fuzzer of what comes out of a ring: a packet's header, its GPA ranges or parts of a transfer-page
 * set, and the header of pipe mode. Every private copy is a block of exactly its size. What was
 * accepted lies inside the packet, and is accepted again as our own writers put it.
 */
#include "fuzz.h"
#include "vmb/packet.h"

#define BODY_BYTES 1024u

/* A copy that ends where its bytes end. */
static uint8_t *
exact_copy(const uint8_t *bytes, size_t count)
{
	uint8_t *copy = malloc(count);

	if (count != 0)
		memcpy(copy, bytes, count);
	return copy;
}

static void
walk_ranges(const uint8_t *bytes, uint32_t count, uint32_t range_count)
{
	uint8_t *ranges = exact_copy(bytes, count);
	struct vmb_gpa_cursor cursor;
	struct vmb_gpa_range range;
	const char *why = NULL;
	enum vmb_status st;
	uint64_t sum = 0;
	uint32_t found = 0;

	vmb_gpa_begin(&cursor, ranges, count, range_count);
	while ((st = vmb_gpa_next(&cursor, &range, &why)) == VMB_OK) {
		uint8_t header[VMB_GPA_RANGE_HEADER_BYTES];

		FUZZ_CHECK(range.byte_count != 0 && range.byte_offset < 4096);
		FUZZ_CHECK(range.page_count == vmb_gpa_pages(range.byte_offset, range.byte_count));
		for (uint32_t i = 0; i < range.page_count; i++)
			sum += vmb_gpa_pfn(&range, i);
		vmb_gpa_put_header(header, range.byte_count, range.byte_offset);
		FUZZ_CHECK(memcmp(header, range.pfns - sizeof(header), sizeof(header)) == 0);
		found++;
	}
	FUZZ_CHECK((st == VMB_EMPTY && found == range_count) ||
	           (st == VMB_E_MALFORMED && found < range_count && why != NULL));
	/* The sum is needed, or the pages would not be read. */
	__asm__ volatile("" : : "r"(sum));
	free(ranges);
}

static void
walk_parts(const uint8_t *bytes, uint32_t count, uint32_t range_count, uint64_t buffer_bytes)
{
	uint8_t *ranges = exact_copy(bytes, count);

	for (uint32_t i = 0; i < range_count; i++) {
		uint8_t again[VMB_TRANSFER_RANGE_BYTES];
		struct vmb_transfer_range range;
		const char *why = NULL;

		if (vmb_transfer_range_at(ranges, i, buffer_bytes, &range, &why) != VMB_OK) {
			FUZZ_CHECK(why != NULL);
			continue;
		}
		FUZZ_CHECK((uint64_t)range.byte_offset + range.byte_count <= buffer_bytes);
		vmb_transfer_put_range(again, range.byte_count, range.byte_offset);
		FUZZ_CHECK(memcmp(again, ranges + i * sizeof(again), sizeof(again)) == 0);
	}
	free(ranges);
}

static void
read_pipe(const uint8_t *payload, uint32_t bytes)
{
	uint8_t *copy = exact_copy(payload, bytes);
	uint8_t again[VMB_PIPE_HEADER_BYTES];
	struct vmb_pipe_header header;
	const char *why = NULL;

	if (vmb_pipe_parse(copy, bytes, &header, &why) == VMB_OK) {
		FUZZ_CHECK(header.bytes <= bytes - sizeof(again));
		vmb_pipe_put_header(again, header.bytes);
		FUZZ_CHECK(memcmp(again, copy, sizeof(again)) == 0);
	} else {
		FUZZ_CHECK(why != NULL);
	}
	free(copy);
}

/* The bytes that our writers put in front of a payload mean what the parser found. */
static void
write_again(const struct vmb_packet *packet, uint32_t body_bytes)
{
	uint8_t header[24];
	struct vmb_packet again;
	const char *why;
	uint32_t flags = packet->completion_requested ? VMB_PACKET_FLAG_COMPLETION_REQUESTED : 0;

	vmb_packet_put_descriptor(header, packet->type, packet->payload_offset, body_bytes, flags,
	                          packet->transaction_id);
	if (packet->type == VMB_PACKET_GPA_DIRECT)
		vmb_packet_put_gpa_direct(header + 16, packet->range_count);
	else
		vmb_packet_put_transfer(header + 16, packet->transfer_page_set,
		                        packet->range_count);
	FUZZ_CHECK(vmb_packet_parse(header, sizeof(header), packet->type, flags,
	                            packet->transaction_id, packet->payload_offset, body_bytes,
	                            &again, &why) == VMB_OK);
	FUZZ_CHECK(again.range_count == packet->range_count &&
	           again.ranges_offset == packet->ranges_offset &&
	           again.ranges_bytes == packet->ranges_bytes &&
	           again.transfer_page_set == packet->transfer_page_set);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
	struct fuzz fuzz = { bytes, count };
	uint32_t type = fuzz_u8(&fuzz), flags = fuzz_u8(&fuzz), lengths = fuzz_u8(&fuzz);
	uint32_t data_offset = fuzz_u16(&fuzz), body_bytes = fuzz_u16(&fuzz);
	uint64_t transaction_id = fuzz_u64(&fuzz), buffer_bytes = fuzz_u32(&fuzz);
	static uint8_t body[BODY_BYTES];
	struct vmb_packet packet;
	const char *why = NULL;
	uint8_t *header;
	uint32_t given;
	enum vmb_status st;

	/* Lengths as a ring has them, or as it must not. */
	if ((lengths & 1) == 0) {
		body_bytes = body_bytes % (BODY_BYTES + 1) & ~7u;
		data_offset = data_offset % (body_bytes + 1) & ~7u;
	}
	/* What a caller has to bring, or less. */
	given = data_offset < 24 ? data_offset : 24;
	if ((lengths & 2) != 0)
		given = given * (lengths >> 4) / 16;
	fuzz_bytes(&fuzz, body, sizeof(body));
	header = exact_copy(body, given);
	st = vmb_packet_parse(header, given, type, flags, transaction_id, data_offset, body_bytes,
	                      &packet, &why);
	free(header);
	FUZZ_CHECK(vmb_packet_type_name(type) != NULL);
	if (st != VMB_OK) {
		FUZZ_CHECK((st == VMB_E_INVALID && given < 24) || why != NULL);
		return 0;
	}
	FUZZ_CHECK((uint64_t)packet.payload_offset + packet.payload_bytes == body_bytes);
	FUZZ_CHECK(packet.ranges_offset + packet.ranges_bytes <= packet.payload_offset);
	write_again(&packet, body_bytes);
	if (body_bytes > BODY_BYTES)
		return 0; /* the parser does not know how long a ring is */
	if (packet.type == VMB_PACKET_GPA_DIRECT)
		walk_ranges(body + packet.ranges_offset, packet.ranges_bytes, packet.range_count);
	if (packet.type == VMB_PACKET_TRANSFER_PAGES)
		walk_parts(body + packet.ranges_offset, packet.ranges_bytes, packet.range_count,
		           buffer_bytes);
	read_pipe(body + packet.payload_offset, packet.payload_bytes);
	return 0;
}
