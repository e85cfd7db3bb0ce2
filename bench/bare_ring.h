/* SPDX-License-Identifier: MIT */
/*
 * A ring without any duty, as a mark of what is possible: one producer and one consumer who trust
 * each other, a length and an id before each packet, indices that only grow, each end's private copies on its
 * own cache line. It checks nothing, wakes nobody and knows no types.
 */
#ifndef BENCH_BARE_RING_H
#define BENCH_BARE_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define BARE_RING_BYTES (256u * 1024u)

/* What both ends see. */
struct bare_ring {
	_Alignas(64) _Atomic uint64_t in;
	_Alignas(64) _Atomic uint64_t out;
	_Alignas(4096) uint8_t data[BARE_RING_BYTES];
};

/* What one end keeps for itself. */
struct bare_end {
	_Alignas(64) struct bare_ring *ring;
	uint64_t at;     /* own index */
	uint64_t cached; /* the other end's index when it was looked at last */
};

/*
 * The id is no part of what is copied: a copy that loads 16 bytes and more at once would wait until an id that was stored a moment
 * ago is in the cache, behind all that the ring was given before.
 */
struct bare_header {
	uint64_t bytes, id;
};

/* Multiples of a header's size, so that none wraps. */
static inline __attribute__((always_inline)) uint64_t
bare_footprint(uint64_t bytes)
{
	return sizeof(struct bare_header) + ((bytes + 15u) & ~15ull);
}

static inline __attribute__((always_inline)) bool
bare_put(struct bare_end *tx, uint64_t id, const void *packet, uint64_t bytes)
{
	const struct bare_header header = { bytes, id };
	uint64_t need = bare_footprint(bytes), at = tx->at % BARE_RING_BYTES;
	uint64_t head = BARE_RING_BYTES - at - sizeof(header);
	uint8_t *data = tx->ring->data;

	if (tx->at + need - tx->cached > BARE_RING_BYTES) {
		/*
		 * Pairs with bare_release(): the consumer has done reading what is overwritten now.
		 */
		tx->cached = atomic_load_explicit(&tx->ring->out, memory_order_acquire);
		if (tx->at + need - tx->cached > BARE_RING_BYTES)
			return false;
	}
	memcpy(data + at, &header, sizeof(header));
	at += sizeof(header);
	if (bytes <= head) {
		memcpy(data + at, packet, bytes);
	} else {
		memcpy(data + at, packet, head);
		memcpy(data, (const uint8_t *)packet + head, bytes - head);
	}
	tx->at += need;
	return true;
}

static inline __attribute__((always_inline)) void
bare_publish(struct bare_end *tx)
{
	/* Pairs with bare_get(): index seen, packets seen. */
	atomic_store_explicit(&tx->ring->in, tx->at, memory_order_release);
}

/* Copies the next packet out; `packet` has room for the largest. */
static inline __attribute__((always_inline)) bool
bare_get(struct bare_end *rx, uint64_t *id, void *packet, uint64_t *bytes)
{
	struct bare_header header;
	uint64_t at = rx->at % BARE_RING_BYTES, head = BARE_RING_BYTES - at - sizeof(header);
	const uint8_t *data = rx->ring->data;

	if (rx->at == rx->cached) {
		/* Pairs with bare_publish(). */
		rx->cached = atomic_load_explicit(&rx->ring->in, memory_order_acquire);
		if (rx->at == rx->cached)
			return false;
	}
	memcpy(&header, data + at, sizeof(header));
	at += sizeof(header);
	if (header.bytes <= head) {
		memcpy(packet, data + at, header.bytes);
	} else {
		memcpy(packet, data + at, head);
		memcpy((uint8_t *)packet + head, data, header.bytes - head);
	}
	*bytes = header.bytes;
	*id = header.id;
	rx->at += bare_footprint(header.bytes);
	return true;
}

static inline __attribute__((always_inline)) void
bare_release(struct bare_end *rx)
{
	/* Pairs with bare_put(). */
	atomic_store_explicit(&rx->ring->out, rx->at, memory_order_release);
}

#endif
