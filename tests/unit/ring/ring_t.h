/* SPDX-License-Identifier: MIT */
/*
 * What the ring tests share: a ring in memory of exactly its size, so that a sanitizer sees every
 * step beyond it; its shared words; packets to order; reproducible random numbers.
 */
#ifndef RING_T_H
#define RING_T_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "ring/ring_shared.h"
#include "vmb/ring.h"

#if defined(__SANITIZE_THREAD__)
#define T_RACE_DETECTOR 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define T_RACE_DETECTOR 1
#endif
#endif
#ifndef T_RACE_DETECTOR
#define T_RACE_DETECTOR 0
#endif

#define T_COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define T_IN_BAND 6u

struct t_ring {
	uint8_t *ctl;
	uint8_t *data;
	uint32_t size;
};

static inline uint32_t
t_word(const struct t_ring *ring, enum ring_word word)
{
	return ring_load_relaxed(ring->ctl, word);
}

static inline void
t_set_word(struct t_ring *ring, enum ring_word word, uint32_t value)
{
	ring_store_relaxed(ring->ctl, word, value);
}

/* A formatted, empty ring whose indices stand at `start`; its data area is full of 0xAA. */
static inline struct t_ring
t_ring_new(uint32_t size, uint32_t start)
{
	struct t_ring ring = { aligned_alloc(VMB_PAGE_BYTES, VMB_RING_CTL_BYTES),
			       aligned_alloc(VMB_PAGE_BYTES, size), size };

	assert_non_null(ring.ctl);
	assert_non_null(ring.data);
	memset(ring.data, 0xAA, size);
	vmb_ring_format(ring.ctl);
	t_set_word(&ring, RING_IN, start);
	t_set_word(&ring, RING_OUT, start);
	return ring;
}

static inline void
t_ring_free(struct t_ring *ring)
{
	free(ring->ctl);
	free(ring->data);
}

static inline void
t_tx_init(struct vmb_ring_tx *tx, struct t_ring *ring)
{
	assert_int_equal(vmb_ring_tx_init(tx, ring->ctl, ring->data, ring->size), VMB_OK);
}

static inline void
t_rx_init(struct vmb_ring_rx *rx, struct t_ring *ring)
{
	assert_int_equal(vmb_ring_rx_init(rx, ring->ctl, ring->data, ring->size), VMB_OK);
}

static inline uint64_t
t_descriptor(uint32_t type, uint32_t data_offset8, uint32_t length8, uint32_t flags)
{
	return type | (uint64_t)data_offset8 << 16 | (uint64_t)length8 << 32 |
	       (uint64_t)flags << 48;
}

/* Bytes of the data area from `at` on, wrapping. */
static inline void
t_ring_put(struct t_ring *ring, uint32_t at, const void *src, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++)
		ring->data[(at + i) % ring->size] = ((const uint8_t *)src)[i];
}

static inline void
t_ring_get(const struct t_ring *ring, uint32_t at, void *dst, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++)
		((uint8_t *)dst)[i] = ring->data[(at + i) % ring->size];
}

/*
 * An in-band packet of `body_bytes` in all, its bytes after the descriptor 0, through our own
 * producer.
 */
static inline enum vmb_status
t_write(struct vmb_ring_tx *tx, uint32_t body_bytes, uint64_t transaction_id)
{
	static const uint8_t zeroes[VMB_MAX_BODY_BYTES];
	uint64_t descriptor[2] = { t_descriptor(T_IN_BAND, 2, (body_bytes + 7) / 8, 0),
				   transaction_id };
	struct vmb_iov iov[2] = { { descriptor, 16 }, { zeroes, body_bytes - 16 } };

	return vmb_ring_write(tx, iov, 2);
}

static inline bool
t_commit(struct vmb_ring_tx *tx)
{
	bool signal = true;

	assert_int_equal(vmb_ring_tx_commit(tx, &signal), VMB_OK);
	return signal;
}

static inline bool
t_release(struct vmb_ring_rx *rx)
{
	bool signal = true;

	assert_int_equal(vmb_ring_rx_release(rx, &signal), VMB_OK);
	return signal;
}

/* Step over one packet that must be there; returns its transaction id. */
static inline uint64_t
t_step(struct vmb_ring_rx *rx)
{
	struct vmb_ring_packet packet;

	assert_int_equal(vmb_ring_peek(rx, &packet), VMB_OK);
	vmb_ring_advance(rx, &packet);
	return packet.transaction_id;
}

struct t_random {
	uint64_t seed;
	uint64_t state;
};

static inline uint64_t
t_random_u64(struct t_random *random)
{
	/* splitmix64 */
	uint64_t z = random->state += 0x9E3779B97F4A7C15u;

	z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
	z = (z ^ z >> 27) * 0x94D049BB133111EBu;
	return z ^ z >> 31;
}

/* 0 to bound - 1. */
static inline uint32_t
t_random_below(struct t_random *random, uint32_t bound)
{
	return (uint32_t)((t_random_u64(random) >> 32) * bound >> 32);
}

static inline void
t_random_print_seed(const char *test, uint64_t seed)
{
	print_message("%s: replay with KMCL_SEED=%llu\n", test, (unsigned long long)seed);
}

/* From KMCL_SEED, or the same each time; printed so that a failure can be replayed. */
static inline struct t_random
t_random_new(const char *test)
{
	const char *text = getenv("KMCL_SEED");
	uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : 20240229;

	t_random_print_seed(test, seed);
	return (struct t_random){ seed, seed };
}

#endif
