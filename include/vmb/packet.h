/* SPDX-License-Identifier: MIT */
/*
 * Packets as they lie in a ring (vmbus-protocol 2 and 3.1): descriptors, GPA ranges, the pipe
 * header. Encoders and parsers of private memory; no state. A parser fills a struct or names the
 * broken rule.
 */
#ifndef VMB_PACKET_H
#define VMB_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmb/status.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

enum vmb_packet_type {
	VMB_PACKET_INVALID = 0x0,
	VMB_PACKET_SYNCH = 0x1,
	VMB_PACKET_ADD_TRANSFER_PAGES = 0x2,
	VMB_PACKET_REMOVE_TRANSFER_PAGES = 0x3,
	VMB_PACKET_ESTABLISH_GPADL = 0x4,
	VMB_PACKET_TEARDOWN_GPADL = 0x5,
	VMB_PACKET_IN_BAND = 0x6,
	VMB_PACKET_TRANSFER_PAGES = 0x7,
	VMB_PACKET_GPADL = 0x8,
	VMB_PACKET_GPA_DIRECT = 0x9,
	VMB_PACKET_CANCEL = 0xA,
	VMB_PACKET_COMPLETION = 0xB,
	VMB_PACKET_ADDITIONAL = 0xC,
	VMB_PACKET_ADDITIONAL_DATA = 0xD,
};

#define VMB_PACKET_FLAG_COMPLETION_REQUESTED 0x1u
#define VMB_GPA_DIRECT_HEADER_BYTES 8u       /* between descriptor and first range */
#define VMB_GPA_RANGE_HEADER_BYTES 8u
#define VMB_TRANSFER_HEADER_BYTES 8u         /* between descriptor and first range */
#define VMB_TRANSFER_RANGE_BYTES 8u
#define VMB_GPA_RANGE_MAX_PAGES 0xFFFFFu     /* LIM-3 */

/* "in-band", "GPA-direct", ... or "unknown". Never NULL. */
const char *vmb_packet_type_name(uint32_t type);

/* Write a 16-byte descriptor. data_offset and body_bytes are bytes and multiples of 8. */
void vmb_packet_put_descriptor(void *dst, enum vmb_packet_type type, uint32_t data_offset,
                               uint32_t body_bytes, uint32_t flags, uint64_t transaction_id);
/* Write the 8 bytes between the descriptor of a GPA-direct packet and its first range. */
void vmb_packet_put_gpa_direct(void *dst, uint32_t range_count);
/* Write the 8 bytes between the descriptor of a transfer-page packet and its first range. */
void vmb_packet_put_transfer(void *dst, uint16_t set_id, uint32_t range_count);

/* What vmb_packet_parse() found. Offsets count from the body's first byte. */
struct vmb_packet {
	enum vmb_packet_type type;
	bool completion_requested;
	uint64_t transaction_id;
	uint32_t payload_offset;
	uint32_t payload_bytes;     /* multiple of 8 */
	uint32_t range_count;       /* GPA-direct and transfer pages; else 0 */
	uint32_t ranges_offset;
	uint32_t ranges_bytes;
	uint16_t transfer_page_set; /* transfer pages only */
};

/*
 * Parse what precedes the payload: `header` is a private copy of the body's first `header_bytes`
 * bytes, at least min(data_offset, 24) of them; `type`..`body_bytes` come from the checked
 * descriptor. GPA ranges are located, not walked: use a vmb_gpa_cursor, and vmb_transfer_range_at()
 * for transfer pages. A completion never asks for a completion: its flag is ignored.
 *
 * Returns VMB_OK; VMB_E_UNSUPPORTED for a type that is defined but not used (its name is in *why);
 * VMB_E_MALFORMED with the broken rule in *why; VMB_E_INVALID when the caller gave fewer bytes than
 * the type needs. Never reads past header_bytes. *why is written on VMB_E_UNSUPPORTED and
 * VMB_E_MALFORMED only, *packet holds nothing useful on failure.
 */
VMB_MUST_CHECK enum vmb_status
vmb_packet_parse(const void *header, uint32_t header_bytes, uint32_t type, uint32_t flags,
                 uint64_t transaction_id, uint32_t data_offset, uint32_t body_bytes,
                 struct vmb_packet *packet, const char **why);

/*
 * One GPA range. `pfns` points at page_count little-endian u64 in the caller's memory, 8-byte
 * aligned only if that was.
 */
struct vmb_gpa_range {
	uint32_t byte_count;
	uint32_t byte_offset;   /* into the first page, < 4096 */
	uint32_t page_count;
	const uint8_t *pfns;
};

/* Pages that (byte_offset, byte_count) spans; 64-bit arithmetic. */
static inline uint64_t
vmb_gpa_pages(uint32_t byte_offset, uint32_t byte_count)
{
	return ((uint64_t)byte_offset + byte_count + 4095u) / 4096u;
}

/* Page number `index` of a range; index < page_count. */
static inline uint64_t
vmb_gpa_pfn(const struct vmb_gpa_range *range, uint32_t index)
{
	const uint8_t *p = range->pfns + 8u * (size_t)index;

	return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 |
	       (uint64_t)p[4] << 32 | (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 |
	       (uint64_t)p[7] << 56;
}

/* Write the 8-byte range header; the caller appends the PFNs as little-endian u64. */
void vmb_gpa_put_header(void *dst, uint32_t byte_count, uint32_t byte_offset);

struct vmb_gpa_cursor {
	const uint8_t *next;
	uint32_t bytes_left;
	uint32_t ranges_left;
};

void vmb_gpa_begin(struct vmb_gpa_cursor *cursor, const void *ranges, uint32_t bytes,
                   uint32_t range_count);
/*
 * Next range of a private copy. VMB_OK, VMB_EMPTY after the last, VMB_E_MALFORMED with *why for: no
 * room for a range header, byte count 0, offset > 4095, 32-bit overflow of their sum, more than
 * VMB_GPA_RANGE_MAX_PAGES pages, fewer PFNs than the range spans. After a failure the cursor stays
 * where it is.
 */
VMB_MUST_CHECK enum vmb_status vmb_gpa_next(struct vmb_gpa_cursor *cursor,
					    struct vmb_gpa_range *range, const char **why);

/* Part of the shared buffer that a transfer page set names. */
struct vmb_transfer_range {
	uint32_t byte_count;
	uint32_t byte_offset;
};
void vmb_transfer_put_range(void *dst, uint32_t byte_count, uint32_t byte_offset);
/*
 * Range `index` (< range_count of the parsed packet) of the private copy of a transfer-page
 * packet's ranges. VMB_OK, or VMB_E_MALFORMED with *why when it does not lie inside a buffer of
 * buffer_bytes. May be empty.
 */
VMB_MUST_CHECK enum vmb_status vmb_transfer_range_at(const void *ranges, uint32_t index,
                                                     uint64_t buffer_bytes,
                                                     struct vmb_transfer_range *range,
                                                     const char **why);

/* Pipe mode (vmbus-protocol 2.6). */
enum vmb_pipe_type {
	VMB_PIPE_INVALID = 0,
	VMB_PIPE_DATA = 1,
	VMB_PIPE_PARTIAL = 2,
	VMB_PIPE_SETUP_GPA_DIRECT = 3,
	VMB_PIPE_TEARDOWN_GPA_DIRECT = 4,
	VMB_PIPE_INDICATION_COMPLETE = 5,
};
#define VMB_PIPE_HEADER_BYTES 8u
#define VMB_PIPE_MAX_BYTES 16384u

struct vmb_pipe_header {
	enum vmb_pipe_type type;
	uint32_t bytes;         /* exact data bytes after the header */
};
/* Header of a data packet; bytes <= VMB_PIPE_MAX_BYTES. */
void vmb_pipe_put_header(void *dst, uint32_t bytes);
/*
 * Read the header of a private copy. Zero bytes of data are legal. VMB_OK, VMB_E_UNSUPPORTED (a
 * type other than data, named in *why), VMB_E_MALFORMED (the broken rule in *why).
 */
VMB_MUST_CHECK enum vmb_status vmb_pipe_parse(const void *payload, uint32_t payload_bytes,
                                              struct vmb_pipe_header *header, const char **why);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
