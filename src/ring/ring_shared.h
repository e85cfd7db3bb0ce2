/* SPDX-License-Identifier: MIT */
/*
 * What producer and consumer have in common: where the shared words lie, how they are loaded and
 * stored, index arithmetic, and copying short runs of bytes. Nothing here looks at a value twice,
 * and nothing needs more of a C library than memcpy and memset.
 */
#ifndef RING_SHARED_H
#define RING_SHARED_H

#include <stdbool.h>
#include <stdint.h>

#include "vmb/ring.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "ring words are used as they lie");
_Static_assert(__atomic_always_lock_free(4, 0), "shared words must not hide a process-local lock");
_Static_assert(__atomic_always_lock_free(8, 0), "descriptor words must not hide a lock either");

/* Byte offsets in the control page (vmbus-protocol 1.1), and the only party that writes there. */
enum ring_word {
	RING_IN = 0x00,             /* producer */
	RING_OUT = 0x04,            /* consumer */
	RING_INTERRUPT_MASK = 0x08, /* consumer */
	RING_PENDING_SEND = 0x0C,   /* producer */
	RING_FEATURES = 0x40,       /* producer */
};

#define RING_FEATURE_PENDING_SEND 0x1u
/*
 * What the mask and the request are while their writer counts as awake (struct vmb_ring_local): to others a mask that is set, and
 * no request, since a request's low bits mean nothing.
 */
#define RING_MASK_SET 1u
#define RING_MASK_AWAKE 3u
#define RING_PENDING_AWAKE 1u
/* In == Out means empty, so the last qword of the area never becomes used. */
#define RING_GAP_BYTES 8u

static inline uint32_t
ring_load_relaxed(const uint8_t *ctl, enum ring_word word)
{
	return __atomic_load_n((const uint32_t *)(const void *)(ctl + word), __ATOMIC_RELAXED);
}

static inline uint32_t
ring_load_acquire(const uint8_t *ctl, enum ring_word word)
{
	return __atomic_load_n((const uint32_t *)(const void *)(ctl + word), __ATOMIC_ACQUIRE);
}

static inline void
ring_store_relaxed(uint8_t *ctl, enum ring_word word, uint32_t value)
{
	__atomic_store_n((uint32_t *)(void *)(ctl + word), value, __ATOMIC_RELAXED);
}

static inline void
ring_store_release(uint8_t *ctl, enum ring_word word, uint32_t value)
{
	__atomic_store_n((uint32_t *)(void *)(ctl + word), value, __ATOMIC_RELEASE);
}

/* One qword of the data area, loaded exactly once. */
static inline uint64_t
ring_load_qword(const uint8_t *at)
{
	return __atomic_load_n((const uint64_t *)(const void *)at, __ATOMIC_RELAXED);
}

/*
 * Orders a store of ours before a load of what the peer stored last. Each end stores its own word,
 * fences, then looks at the other's; without both fences each may see the other's old value and
 * both sleep.
 */
static inline void
ring_fence_full(void)
{
#if defined(__SANITIZE_THREAD__) && !defined(__clang__)
	/* gcc warns that its race detector ignores fences. No happens-before edge here depends on
	 * this one: packet bytes are ordered by the indices alone. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#pragma GCC diagnostic pop
#else
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
#endif
}

/*
 * The same towards a peer that was seen awake: it takes that back and has a full barrier made here before it sleeps, so our
 * store must only come before our look at its word in the program.
 */
static inline void
ring_fence_light(void)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

/* vmbus-protocol 1.9: every index taken from shared memory passes here before any use. */
static inline bool
ring_index_is_valid(uint32_t raw_index, uint32_t size)
{
	return raw_index < size && raw_index % 8 == 0;
}

static inline uint32_t
ring_used(uint32_t in, uint32_t out, uint32_t size)
{
	return in >= out ? in - out : size - (out - in);
}

static inline uint32_t
ring_free(uint32_t in, uint32_t out, uint32_t size)
{
	return size - RING_GAP_BYTES - ring_used(in, out, size);
}

static inline bool
ring_geometry_is_valid(const void *ctl, const void *data, uint32_t data_bytes)
{
	return (uintptr_t)ctl % 8 == 0 && (uintptr_t)data % 8 == 0 && data_bytes != 0 &&
	       data_bytes % VMB_PAGE_BYTES == 0 && data_bytes <= VMB_RING_MAX_DATA_BYTES;
}

/*
 * Copy between private memory and the ring. Most parts of packets are short, and for those a call
 * of memcpy costs more than the moves: cover the run from both ends and let the halves overlap. A
 * byte that is moved twice is only stored twice; no decision depends on it in between.
 */
#define RING_SHORT_BYTES 128u

static inline __attribute__((always_inline)) void
ring_short_copy(uint8_t *restrict dst, const uint8_t *restrict src, uint32_t bytes)
{
	/* No bytes may be at NULL, to which nothing may be added. */
	const uint8_t *src_end = (const uint8_t *)((uintptr_t)src + bytes);
	uint8_t *dst_end = dst + bytes;

	if (bytes > 32) {
		__builtin_memcpy(dst, src, 16);
		__builtin_memcpy(dst + 16, src + 16, 16);
		if (bytes > 64) {
			__builtin_memcpy(dst + 32, src + 32, 16);
			__builtin_memcpy(dst + 48, src + 48, 16);
			__builtin_memcpy(dst_end - 64, src_end - 64, 16);
			__builtin_memcpy(dst_end - 48, src_end - 48, 16);
		}
		__builtin_memcpy(dst_end - 32, src_end - 32, 16);
		__builtin_memcpy(dst_end - 16, src_end - 16, 16);
	} else if (bytes >= 16) {
		__builtin_memcpy(dst, src, 16);
		__builtin_memcpy(dst_end - 16, src_end - 16, 16);
	} else if (bytes >= 8) {
		__builtin_memcpy(dst, src, 8);
		__builtin_memcpy(dst_end - 8, src_end - 8, 8);
	} else if (bytes >= 4) {
		__builtin_memcpy(dst, src, 4);
		__builtin_memcpy(dst_end - 4, src_end - 4, 4);
	} else if (bytes != 0) {
		dst[0] = src[0];
		dst[bytes / 2] = src[bytes / 2];
		dst_end[-1] = src_end[-1];
	}
}

static inline void
ring_bytes_copy(uint8_t *restrict dst, const uint8_t *restrict src, uint32_t bytes)
{
	if (bytes > RING_SHORT_BYTES)
		__builtin_memcpy(dst, src, bytes);
	else
		ring_short_copy(dst, src, bytes);
}

#endif
