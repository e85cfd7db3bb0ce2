/* SPDX-License-Identifier: MIT */
/*
 * Little-endian integers as they lie on the wire. Each is a struct of bytes: it has alignment 1, so
 * a wire struct has no padding and may lie at any address, and it converts to nothing by itself, so
 * a missing conversion does not compile on any machine. The accessors become single loads and
 * stores.
 */
#ifndef WIRE_LE_H
#define WIRE_LE_H

#include <stdint.h>

typedef struct {
	uint8_t b[2];
} vmb_le16;

typedef struct {
	uint8_t b[4];
} vmb_le32;

typedef struct {
	uint8_t b[8];
} vmb_le64;

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define VMB_LE_SWAP16(v) (v)
#define VMB_LE_SWAP32(v) (v)
#define VMB_LE_SWAP64(v) (v)
#else
#define VMB_LE_SWAP16(v) __builtin_bswap16(v)
#define VMB_LE_SWAP32(v) __builtin_bswap32(v)
#define VMB_LE_SWAP64(v) __builtin_bswap64(v)
#endif

static inline uint16_t
vmb_le16_get(vmb_le16 field)
{
	uint16_t raw;

	__builtin_memcpy(&raw, field.b, sizeof(raw));
	return VMB_LE_SWAP16(raw);
}

static inline uint32_t
vmb_le32_get(vmb_le32 field)
{
	uint32_t raw;

	__builtin_memcpy(&raw, field.b, sizeof(raw));
	return VMB_LE_SWAP32(raw);
}

static inline uint64_t
vmb_le64_get(vmb_le64 field)
{
	uint64_t raw;

	__builtin_memcpy(&raw, field.b, sizeof(raw));
	return VMB_LE_SWAP64(raw);
}

static inline vmb_le16
vmb_le16_make(uint16_t value)
{
	uint16_t raw = VMB_LE_SWAP16(value);
	vmb_le16 field;

	__builtin_memcpy(field.b, &raw, sizeof(raw));
	return field;
}

static inline vmb_le32
vmb_le32_make(uint32_t value)
{
	uint32_t raw = VMB_LE_SWAP32(value);
	vmb_le32 field;

	__builtin_memcpy(field.b, &raw, sizeof(raw));
	return field;
}

static inline vmb_le64
vmb_le64_make(uint64_t value)
{
	uint64_t raw = VMB_LE_SWAP64(value);
	vmb_le64 field;

	__builtin_memcpy(field.b, &raw, sizeof(raw));
	return field;
}

/* The layout tables of the protocol, checked by the compiler. */
#define VMB_WIRE_SIZE(type, bytes)                                                                 \
	_Static_assert(sizeof(type) == (bytes), #type " has its wire size")
#define VMB_WIRE_AT(type, field, offset)                                                           \
	_Static_assert(__builtin_offsetof(type, field) == (offset), #type "." #field " is in place")

#endif
