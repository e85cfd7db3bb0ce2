/* SPDX-License-Identifier: MIT */
/*
 * Saved state as bytes: a row of chunks, each with magic, version, kind, length and checksum, all
 * little-endian. Whatever goes to another process is made of them: channels (kmcl/kmcl_saved.h),
 * bus machines (bus/server_save.h), parcels (port/parcel.h). Reading never goes beyond a chunk and
 * never fails later than at its end: what is read beyond it is zero, and vmb_chunk_is_whole() says
 * so. No allocation.
 */
#ifndef WIRE_CHUNK_H
#define WIRE_CHUNK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmb/status.h"

#define VMB_CHUNK_HEADER_BYTES 16u
/* Of content. Far above what anybody has to say at once; keeps sums within 32 bits. */
#define VMB_CHUNK_LARGEST (1u << 28)

struct vmb_chunk_format {
	uint32_t magic;
	uint16_t version;
};

/* CRC-32 (reflected 0x04C11DB7) of a piece, continued from `crc`; 0 to begin. */
uint32_t vmb_crc32(uint32_t crc, const void *bytes, size_t byte_count);

/* ---- writing -------------------------------------------------------------------------------- */

/*
 * Writes into `bytes` up to `capacity` and counts on: `used` is what everything needs, so a first
 * pass with no buffer measures. With `grow` the buffer follows instead: it makes room for `needed`
 * bytes and sets both fields, or returns false. When something did not fit, the buffer's content is
 * undefined and stays so.
 */
struct vmb_chunk_writer {
	uint8_t *bytes;
	size_t capacity;
	size_t used;
	size_t chunk;           /* where the open chunk begins */
	bool (*grow)(struct vmb_chunk_writer *writer, size_t needed);
	bool too_large;         /* a chunk above VMB_CHUNK_LARGEST */
};

void vmb_chunk_begin(struct vmb_chunk_writer *writer, const struct vmb_chunk_format *format,
                     uint16_t kind);
void vmb_chunk_put_u8(struct vmb_chunk_writer *writer, uint8_t value);
void vmb_chunk_put_u16(struct vmb_chunk_writer *writer, uint16_t value);
void vmb_chunk_put_u32(struct vmb_chunk_writer *writer, uint32_t value);
void vmb_chunk_put_u64(struct vmb_chunk_writer *writer, uint64_t value);
void vmb_chunk_put_bytes(struct vmb_chunk_writer *writer, const void *bytes, size_t byte_count);
/* Zeros that the caller may overwrite until its next call, or NULL if they do not fit. */
uint8_t *vmb_chunk_put_room(struct vmb_chunk_writer *writer, size_t byte_count);
/* The chunk's checksum; 0 if something did not fit. */
uint32_t vmb_chunk_end(struct vmb_chunk_writer *writer);
/* Header and content of a chunk that was written by this process: nothing is checked. */
size_t vmb_chunk_bytes(const uint8_t *chunk);

static inline bool
vmb_chunk_writer_fits(const struct vmb_chunk_writer *writer)
{
	return writer->bytes != NULL && writer->used <= writer->capacity && !writer->too_large;
}

/* ---- reading -------------------------------------------------------------------------------- */

struct vmb_chunk_reader {
	const uint8_t *bytes;
	size_t left;
	bool cut_short;         /* why the last one was VMB_E_MALFORMED: the bytes end within it */
};

struct vmb_chunk {
	uint16_t kind;
	uint32_t checksum;
	const uint8_t *at;
	uint32_t left;
	bool overrun;
};

/*
 * The next chunk. VMB_EMPTY: there is none. VMB_E_MALFORMED: not a chunk of this format, cut short,
 * or altered. VMB_E_UNSUPPORTED: of another version of the format, of which only magic and version
 * are read. The reader moves on success only.
 */
VMB_MUST_CHECK enum vmb_status vmb_chunk_next(struct vmb_chunk_reader *reader,
                                              const struct vmb_chunk_format *format,
                                              struct vmb_chunk *chunk);
uint8_t vmb_chunk_get_u8(struct vmb_chunk *chunk);
uint16_t vmb_chunk_get_u16(struct vmb_chunk *chunk);
uint32_t vmb_chunk_get_u32(struct vmb_chunk *chunk);
uint64_t vmb_chunk_get_u64(struct vmb_chunk *chunk);
/* The next bytes where they lie, or NULL if there are not so many. */
const uint8_t *vmb_chunk_get_bytes(struct vmb_chunk *chunk, uint32_t byte_count);
/* A copy of the next bytes, zeros if there are not so many. */
void vmb_chunk_copy(struct vmb_chunk *chunk, void *bytes, uint32_t byte_count);

/* Everything was read, and nothing beyond it. */
static inline bool
vmb_chunk_is_whole(const struct vmb_chunk *chunk)
{
	return !chunk->overrun && chunk->left == 0;
}

#endif
