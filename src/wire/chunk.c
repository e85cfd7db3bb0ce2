/* SPDX-License-Identifier: MIT */
/*
 * The header of a chunk: magic u32, version u16, kind u16, length u32 of what follows it, checksum
 * u32. The checksum is over the three fields before it and over the content, so that no part of a
 * chunk can be altered or exchanged unseen.
 */
#include "wire/chunk.h"

#include "wire/le.h"

struct chunk_header {
	vmb_le32 magic;
	vmb_le16 version;
	vmb_le16 kind;
	vmb_le32 length;
	vmb_le32 checksum;
};
VMB_WIRE_SIZE(struct chunk_header, VMB_CHUNK_HEADER_BYTES);
/* Versions to come keep the fields before this one. */
VMB_WIRE_AT(struct chunk_header, kind, 6);
VMB_WIRE_AT(struct chunk_header, length, 8);
VMB_WIRE_AT(struct chunk_header, checksum, 12);

/*
 * Our own, because zlib cannot be used here: this layer does without a C library. Where the layers
 * above need a checksum they take this one, rather than link a library for twenty lines.
 */
uint32_t
vmb_crc32(uint32_t crc, const void *bytes, size_t byte_count)
{
	/* The remainders of all half bytes. */
	static const uint32_t half[16] = {
		0x00000000, 0x1DB71064, 0x3B6E20C8, 0x26D930AC, 0x76DC4190, 0x6B6B51F4,
		0x4DB26158, 0x5005713C, 0xEDB88320, 0xF00F9344, 0xD6D6A3E8, 0xCB61B38C,
		0x9B64C2B0, 0x86D3D2D4, 0xA00AE278, 0xBDBDF21C,
	};
	const uint8_t *at = bytes;

	crc = ~crc;
	for (size_t i = 0; i < byte_count; i++) {
		crc ^= at[i];
		crc = crc >> 4 ^ half[crc & 15];
		crc = crc >> 4 ^ half[crc & 15];
	}
	return ~crc;
}

static uint32_t
chunk_checksum(const struct chunk_header *header, const uint8_t *content, uint32_t length)
{
	uint32_t crc = vmb_crc32(0, header, offsetof(struct chunk_header, checksum));

	return vmb_crc32(crc, content, length);
}

/* ---- writing -------------------------------------------------------------------------------- */

/* Room for more of the chunk, not cleared, or NULL. After one failure there is none any more. */
static uint8_t *
reserve(struct vmb_chunk_writer *writer, size_t byte_count)
{
	size_t at = writer->used;
	bool fitted = at <= writer->capacity && !writer->too_large;

	/* The count alone first: the sum might wrap. */
	if (byte_count > VMB_CHUNK_LARGEST ||
	    at - writer->chunk + byte_count > VMB_CHUNK_LARGEST + sizeof(struct chunk_header)) {
		writer->too_large = true;
		return NULL;
	}
	writer->used += byte_count;
	if (fitted && writer->used > writer->capacity && writer->grow != NULL)
		fitted = writer->grow(writer, writer->used);
	return fitted && vmb_chunk_writer_fits(writer) ? writer->bytes + at : NULL;
}

void
vmb_chunk_put_bytes(struct vmb_chunk_writer *writer, const void *bytes, size_t byte_count)
{
	uint8_t *room = reserve(writer, byte_count);

	if (room != NULL && byte_count != 0)
		__builtin_memcpy(room, bytes, byte_count);
}

uint8_t *
vmb_chunk_put_room(struct vmb_chunk_writer *writer, size_t byte_count)
{
	uint8_t *room = reserve(writer, byte_count);

	if (room != NULL)
		__builtin_memset(room, 0, byte_count);
	return room;
}

void
vmb_chunk_put_u8(struct vmb_chunk_writer *writer, uint8_t value)
{
	vmb_chunk_put_bytes(writer, &value, sizeof(value));
}

void
vmb_chunk_put_u16(struct vmb_chunk_writer *writer, uint16_t value)
{
	vmb_le16 field = vmb_le16_make(value);

	vmb_chunk_put_bytes(writer, &field, sizeof(field));
}

void
vmb_chunk_put_u32(struct vmb_chunk_writer *writer, uint32_t value)
{
	vmb_le32 field = vmb_le32_make(value);

	vmb_chunk_put_bytes(writer, &field, sizeof(field));
}

void
vmb_chunk_put_u64(struct vmb_chunk_writer *writer, uint64_t value)
{
	vmb_le64 field = vmb_le64_make(value);

	vmb_chunk_put_bytes(writer, &field, sizeof(field));
}

void
vmb_chunk_begin(struct vmb_chunk_writer *writer, const struct vmb_chunk_format *format,
                uint16_t kind)
{
	/* Length and checksum follow at the end. */
	const struct chunk_header header = {
		.magic = vmb_le32_make(format->magic),
		.version = vmb_le16_make(format->version),
		.kind = vmb_le16_make(kind),
	};

	writer->chunk = writer->used;
	vmb_chunk_put_bytes(writer, &header, sizeof(header));
}

uint32_t
vmb_chunk_end(struct vmb_chunk_writer *writer)
{
	struct chunk_header header;
	uint32_t length = (uint32_t)(writer->used - writer->chunk - sizeof(header));
	uint8_t *chunk;

	if (!vmb_chunk_writer_fits(writer))
		return 0;
	chunk = writer->bytes + writer->chunk;
	__builtin_memcpy(&header, chunk, sizeof(header));
	header.length = vmb_le32_make(length);
	header.checksum = vmb_le32_make(chunk_checksum(&header, chunk + sizeof(header), length));
	__builtin_memcpy(chunk, &header, sizeof(header));
	return vmb_le32_get(header.checksum);
}

size_t
vmb_chunk_bytes(const uint8_t *chunk)
{
	struct chunk_header header;

	__builtin_memcpy(&header, chunk, sizeof(header));
	return sizeof(header) + vmb_le32_get(header.length);
}

/* ---- reading -------------------------------------------------------------------------------- */

static enum vmb_status
cut_short(struct vmb_chunk_reader *reader)
{
	reader->cut_short = true;
	return VMB_E_MALFORMED;
}

enum vmb_status
vmb_chunk_next(struct vmb_chunk_reader *reader, const struct vmb_chunk_format *format,
               struct vmb_chunk *chunk)
{
	struct chunk_header header = { 0 };
	size_t left = reader->left;
	const uint8_t *content;
	uint32_t length;

	reader->cut_short = false;
	if (left == 0)
		return VMB_EMPTY;
	/* The version comes before all that another version may lay out as it likes. */
	if (left < offsetof(struct chunk_header, length))
		return cut_short(reader);
	__builtin_memcpy(&header, reader->bytes, left < sizeof(header) ? left : sizeof(header));
	if (vmb_le32_get(header.magic) != format->magic)
		return VMB_E_MALFORMED;
	if (vmb_le16_get(header.version) != format->version)
		return VMB_E_UNSUPPORTED;
	if (left < sizeof(header))
		return cut_short(reader);
	length = vmb_le32_get(header.length);
	if (length > VMB_CHUNK_LARGEST)
		return VMB_E_MALFORMED;
	if (length > left - sizeof(header))
		return cut_short(reader);
	content = reader->bytes + sizeof(header);
	if (vmb_le32_get(header.checksum) != chunk_checksum(&header, content, length))
		return VMB_E_MALFORMED;
	*chunk = (struct vmb_chunk){
		.kind = vmb_le16_get(header.kind),
		.checksum = vmb_le32_get(header.checksum),
		.at = content,
		.left = length,
	};
	reader->bytes = content + length;
	reader->left = left - sizeof(header) - length;
	return VMB_OK;
}

const uint8_t *
vmb_chunk_get_bytes(struct vmb_chunk *chunk, uint32_t byte_count)
{
	const uint8_t *at = chunk->at;

	if (byte_count > chunk->left) {
		chunk->overrun = true;
		return NULL;
	}
	chunk->at += byte_count;
	chunk->left -= byte_count;
	return at;
}

void
vmb_chunk_copy(struct vmb_chunk *chunk, void *bytes, uint32_t byte_count)
{
	const uint8_t *at = vmb_chunk_get_bytes(chunk, byte_count);

	if (at != NULL)
		__builtin_memcpy(bytes, at, byte_count);
	else
		__builtin_memset(bytes, 0, byte_count);
}

uint8_t
vmb_chunk_get_u8(struct vmb_chunk *chunk)
{
	uint8_t value;

	vmb_chunk_copy(chunk, &value, sizeof(value));
	return value;
}

uint16_t
vmb_chunk_get_u16(struct vmb_chunk *chunk)
{
	vmb_le16 field;

	vmb_chunk_copy(chunk, &field, sizeof(field));
	return vmb_le16_get(field);
}

uint32_t
vmb_chunk_get_u32(struct vmb_chunk *chunk)
{
	vmb_le32 field;

	vmb_chunk_copy(chunk, &field, sizeof(field));
	return vmb_le32_get(field);
}

uint64_t
vmb_chunk_get_u64(struct vmb_chunk *chunk)
{
	vmb_le64 field;

	vmb_chunk_copy(chunk, &field, sizeof(field));
	return vmb_le64_get(field);
}
