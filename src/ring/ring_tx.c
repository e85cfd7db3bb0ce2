/* SPDX-License-Identifier: MIT */
/*
 * The producer's end of a ring (vmbus-protocol 1.4 and 1.7).
 *
 * `edge` bounds what may be written without another look at the peer: the bytes from `in` to it are
 * free, in one piece and no more than the largest packet; it stays below the end of the data area.
 * It is 0 while a request for room is pending, and for ever in a broken ring. So one comparison in
 * vmb_ring_write() covers size limits, free space, wrapping, the pending request and brokenness;
 * all but the plain case is in tx_write_slow().
 */
#include "ring/ring_shared.h"

static enum vmb_status
tx_break(struct vmb_ring_tx *tx)
{
	tx->broken = true;
	tx->edge = 0;
	return VMB_E_CORRUPT;
}

/* Load the peer's index once; the checked value goes to *out. */
static enum vmb_status
tx_capture_out(struct vmb_ring_tx *tx, uint32_t *out)
{
	/* Pairs with the release store in vmb_ring_rx_release(): the peer's reads of the space
	 * we are about to reuse are complete. */
	uint32_t raw_out = ring_load_acquire(tx->ctl, RING_OUT);

	if (!ring_index_is_valid(raw_out, tx->size))
		return tx_break(tx);
	*out = raw_out;
	return VMB_OK;
}

static void
tx_set_edge(struct vmb_ring_tx *tx, uint32_t room)
{
	uint32_t largest = vmb_ring_largest_body(tx->size) + VMB_TRAILER_BYTES;
	uint32_t edge = tx->in + (room < largest ? room : largest);

	/* A packet that ends exactly at the end of the area wraps the index, so it is no plain
	 * one. */
	tx->edge = edge < tx->size - 8 ? edge : tx->size - 8;
}

/* Refuse what no state of the ring could take. */
static enum vmb_status
tx_check_size(const struct vmb_ring_tx *tx, uint64_t bytes)
{
	if (bytes < VMB_DESCRIPTOR_BYTES || bytes > VMB_MAX_BODY_BYTES)
		return VMB_E_INVALID;
	return bytes > vmb_ring_largest_body(tx->size) ? VMB_E_TOO_BIG : VMB_OK;
}

/*
 * Copy into the data area from `at` on, past its end to its start; returns where the next byte
 * goes.
 */
static uint32_t
tx_put_wrapping(struct vmb_ring_tx *tx, uint32_t at, const struct vmb_iov *iov)
{
	const uint8_t *src = iov->base;
	uint32_t head = tx->size - at;

	if (iov->bytes < head) {
		ring_bytes_copy(tx->data + at, src, iov->bytes);
		return at + iov->bytes;
	}
	ring_bytes_copy(tx->data + at, src, head);
	ring_bytes_copy(tx->data, src + head, iov->bytes - head);
	return iov->bytes - head;
}

/* A packet that reaches the end of the data area or past it; there is room for it. */
static void
tx_write_wrapping(struct vmb_ring_tx *tx, const struct vmb_iov *iov, uint32_t iov_count,
		  uint32_t body)
{
	uint32_t start = tx->in, last = start + body - 8, trailer = start + body, at = start;
	uint64_t trailer_qword = (uint64_t)start << 32;

	/* Qwords do not straddle the end: indices and sizes are multiples of 8. */
	__builtin_memset(tx->data + (last < tx->size ? last : last - tx->size), 0, 8);
	trailer = trailer < tx->size ? trailer : trailer - tx->size;
	__builtin_memcpy(tx->data + trailer, &trailer_qword, 8);
	for (uint32_t i = 0; i < iov_count; i++)
		at = tx_put_wrapping(tx, at, &iov[i]);
	trailer += VMB_TRAILER_BYTES;
	tx->in = trailer < tx->size ? trailer : 0;
}

/* The packet reaches beyond the edge: look at the peer, and write it if that helps. */
static __attribute__((noinline)) enum vmb_status
tx_write_slow(struct vmb_ring_tx *tx, const struct vmb_iov *iov, uint32_t iov_count, uint64_t bytes)
{
	uint32_t body, total, out, room;
	enum vmb_status st;

	if (tx->broken)
		return VMB_E_CORRUPT;
	st = tx_check_size(tx, bytes);
	if (st != VMB_OK)
		return st;
	st = tx_capture_out(tx, &out);
	if (st != VMB_OK)
		return st;
	body = ((uint32_t)bytes + 7) & ~7u;
	total = body + VMB_TRAILER_BYTES;
	room = ring_free(tx->in, out, tx->size);
	if (total > room) {
		/* A pending request must be found by the next write too. */
		if (tx->wanted == 0)
			tx_set_edge(tx, room);
		return VMB_E_FULL;
	}
	vmb_ring_tx_unwant(tx);
	if (tx->in + total < tx->size) {
		tx_set_edge(tx, room);
		return vmb_ring_write(tx, iov, iov_count);
	}
	tx_write_wrapping(tx, iov, iov_count, body);
	tx_set_edge(tx, room - total);
	return VMB_OK;
}

void
vmb_ring_format(void *ctl)
{
	__builtin_memset(ctl, 0, VMB_RING_CTL_BYTES);
	ring_store_relaxed(ctl, RING_FEATURES, RING_FEATURE_PENDING_SEND);
}

enum vmb_status
vmb_ring_tx_init(struct vmb_ring_tx *tx, void *ctl, void *data, uint32_t data_bytes)
{
	uint32_t raw_in, out;

	/* Unusable until everything is checked. */
	*tx = (struct vmb_ring_tx){ .ctl = ctl, .data = data, .size = data_bytes, .broken = true };
	if (!ring_geometry_is_valid(ctl, data, data_bytes))
		return VMB_E_INVALID;

	/* The only time that our own index comes from shared memory: after a restore or over
	 * memory used before it need not be 0. */
	raw_in = ring_load_relaxed(tx->ctl, RING_IN);
	if (!ring_index_is_valid(raw_in, data_bytes) || tx_capture_out(tx, &out) != VMB_OK)
		return VMB_E_CORRUPT;
	tx->in = raw_in;
	tx->committed_in = raw_in;
	tx_set_edge(tx, ring_free(raw_in, out, data_bytes));

	ring_store_relaxed(tx->ctl, RING_PENDING_SEND, 0);
	ring_store_relaxed(tx->ctl, RING_FEATURES, RING_FEATURE_PENDING_SEND);
	tx->broken = false;
	return VMB_OK;
}

bool
vmb_ring_tx_set_local(struct vmb_ring_tx *tx, const struct vmb_ring_local *local)
{
	/* The consumer may have seen a former user of this end awake, and the init has taken that back. */
	if (!local->fence())
		return false;
	tx->until_awake = local->after;
	tx->local = local;
	return true;
}

/*
 * What is written after this packet lies in the cache of the reader, who has read it in the round before. Who holds a lock
 * around a write would wait for those lines when it gives the lock back: ask for them packets ahead. A prefetch never
 * faults, wherever the address is.
 */
#define TX_AHEAD_BYTES 256u
#define TX_LIST_AHEAD_BYTES 2048u       /* as many lines as a processor asks for at once, or a few more */

static inline __attribute__((always_inline)) void
tx_fetch_ahead(const uint8_t *at)
{
#ifdef __x86_64__
	/* The builtin gives up the "w" for processors of which some do not have it; those take it as a no-op. */
	__asm__ volatile("prefetchw %0\n\tprefetchw %1" : : "m"(at[TX_AHEAD_BYTES]), "m"(at[TX_AHEAD_BYTES + 64]));
#else
	__builtin_prefetch(at + TX_AHEAD_BYTES, 1);
	__builtin_prefetch(at + TX_AHEAD_BYTES + 64, 1);
#endif
}

/*
 * Take the space of a plain packet; NULL when it reaches beyond the edge. Zeroes the body's last
 * qword, so that no padding keeps what was there once the caller has laid the bytes over it.
 */
static inline __attribute__((always_inline)) uint8_t *
tx_begin_plain(struct vmb_ring_tx *tx, uint64_t bytes)
{
	uint64_t body = (bytes + 7) & ~7ull, start = tx->in, trailer_qword = start << 32;
	uint64_t next = start + body + VMB_TRAILER_BYTES;
	uint8_t *dst = tx->data + start;

	if (__builtin_expect(next > tx->edge, 0))
		return NULL;
	tx->in = (uint32_t)next;
	tx_fetch_ahead(dst);
	__builtin_memset(dst + body - 8, 0, 8);
	__builtin_memcpy(dst + body, &trailer_qword, 8);
	return dst;
}

/*
 * Its two halves were stored moments ago, each by itself. A load of both at once would wait until those stores are in the
 * cache, so the compiler must not make one of two.
 */
static inline __attribute__((always_inline)) void
tx_copy_descriptor(uint8_t *dst, const uint8_t *src)
{
	uint64_t first, second;

	__builtin_memcpy(&first, src, 8);
	__builtin_memcpy(&second, src + 8, 8);
	__asm__("" : "+r"(first), "+r"(second));
	__builtin_memcpy(dst, &first, 8);
	__builtin_memcpy(dst + 8, &second, 8);
}

static __attribute__((noinline)) enum vmb_status
tx_copy_long(uint8_t *dst, const void *src, uint32_t bytes)
{
	__builtin_memcpy(dst, src, bytes);
	return VMB_OK;
}

/* A packet of any number of parts. */
static __attribute__((noinline)) enum vmb_status
tx_write_parts(struct vmb_ring_tx *tx, const struct vmb_iov *iov, uint32_t iov_count)
{
	uint64_t bytes = 0;
	uint8_t *dst;

	for (uint32_t i = 0; i < iov_count; i++)
		bytes += iov[i].bytes;
	dst = bytes < VMB_DESCRIPTOR_BYTES ? NULL : tx_begin_plain(tx, bytes);
	if (dst == NULL)
		return tx_write_slow(tx, iov, iov_count, bytes);
	for (uint32_t i = 0; i < iov_count; i++) {
		ring_bytes_copy(dst, iov[i].base, iov[i].bytes);
		dst += iov[i].bytes;
	}
	/* A list of pages may be long, and after the next one the barrier would wait for all of its lines. */
	for (uint64_t next = 0; next + TX_AHEAD_BYTES < bytes && next < TX_LIST_AHEAD_BYTES; next += 128)
		tx_fetch_ahead(dst + next);
	return VMB_OK;
}

enum vmb_status
vmb_ring_write(struct vmb_ring_tx *tx, const struct vmb_iov *iov, uint32_t iov_count)
{
	uint64_t bytes;
	uint8_t *dst;

	/* Nearly every packet is a descriptor and a payload; this path calls nothing, or it ends
	 * in a call. */
	if (__builtin_expect(iov_count != 2 || iov[0].bytes != VMB_DESCRIPTOR_BYTES, 0))
		return tx_write_parts(tx, iov, iov_count);
	bytes = (uint64_t)VMB_DESCRIPTOR_BYTES + iov[1].bytes;
	dst = tx_begin_plain(tx, bytes);
	if (__builtin_expect(dst == NULL, 0))
		return tx_write_slow(tx, iov, iov_count, bytes);
	tx_copy_descriptor(dst, iov[0].base);
	dst += VMB_DESCRIPTOR_BYTES;
	if (iov[1].bytes > RING_SHORT_BYTES)
		return tx_copy_long(dst, iov[1].base, iov[1].bytes);
	ring_short_copy(dst, iov[1].base, iov[1].bytes);
	return VMB_OK;
}

/*
 * After a commit, with struct vmb_ring_local: need the consumer not be looked after, because it is awake? And after many
 * commits that found room, we are.
 */
static bool
tx_reader_is_awake(struct vmb_ring_tx *tx)
{
	if (tx->until_awake != 0 && --tx->until_awake == 0)
		ring_store_relaxed(tx->ctl, RING_PENDING_SEND, RING_PENDING_AWAKE);
	/* Our In before our look at what the consumer says; it takes that back, has a fence made here in
	 * vmb_ring_rx_unmask(), then looks at In. It decides about the barrier only: behind that the mask is looked at
	 * as ever. */
	ring_fence_light();
	return ring_load_relaxed(tx->ctl, RING_INTERRUPT_MASK) == RING_MASK_AWAKE;
}

enum vmb_status
vmb_ring_tx_commit(struct vmb_ring_tx *tx, bool *signal)
{
	uint32_t in = tx->in, batch_start = tx->committed_in;
	uint8_t *ctl = tx->ctl;
	uint32_t out;
	enum vmb_status st;

	*signal = false;
	if (__builtin_expect(tx->broken, 0))
		return VMB_E_CORRUPT;
	if (in == batch_start)
		return VMB_OK;

	tx->committed_in = in;
	/* Pairs with the acquire load of In in the consumer: index seen, packets seen. */
	ring_store_release(ctl, RING_IN, in);
	if (tx->local != NULL && tx_reader_is_awake(tx)) {
		tx->mask_seen = RING_MASK_AWAKE;
		return VMB_OK;
	}
	/* Our In before our look at the mask; the consumer clears the mask, fences in
	 * vmb_ring_rx_unmask(), then looks at In. One of us sees the other. */
	ring_fence_full();
	tx->mask_seen = ring_load_acquire(ctl, RING_INTERRUPT_MASK);
	if (tx->mask_seen != 0)
		return VMB_OK;
	/* Out after the mask: a consumer that cleared it has published Out before. */
	st = tx_capture_out(tx, &out);
	if (st != VMB_OK)
		return st;
	/* Empty up to the first packet of the batch: the consumer may be asleep. */
	*signal = out == batch_start;
	return VMB_OK;
}

/* From here on the VMBus rule, for so many commits. False: not yet, the consumer may take us for awake. */
static bool
tx_stop_being_awake(struct vmb_ring_tx *tx)
{
	if (tx->until_awake == 0) {
		ring_store_relaxed(tx->ctl, RING_PENDING_SEND, 0);
		/* A release that looked for a request before has its Out where we will see it. */
		if (!tx->local->fence())
			return false;
	}
	tx->until_awake = tx->local->after;
	return true;
}

enum vmb_status
vmb_ring_tx_want(struct vmb_ring_tx *tx, const void *rx_ctl, uint32_t body_bytes, bool *peer_wakes)
{
	uint32_t total, out, room;
	enum vmb_status st;

	*peer_wakes = (ring_load_relaxed(rx_ctl, RING_FEATURES) & RING_FEATURE_PENDING_SEND) != 0;
	if (tx->broken)
		return VMB_E_CORRUPT;
	st = tx_check_size(tx, body_bytes);
	if (st != VMB_OK)
		return st;
	if (tx->in != tx->committed_in)
		return VMB_E_STATE;

	if (tx->local != NULL && !tx_stop_being_awake(tx))
		*peer_wakes = false;
	total = vmb_ring_footprint(body_bytes);
	tx->wanted = total;
	tx->edge = 0;
	ring_store_relaxed(tx->ctl, RING_PENDING_SEND, total);
	/* Our request before our look at Out; the consumer publishes Out, fences in
	 * vmb_ring_rx_release(), then looks for the request. One of us sees the other. */
	ring_fence_full();
	st = tx_capture_out(tx, &out);
	if (st != VMB_OK)
		return st;
	room = ring_free(tx->in, out, tx->size);
	if (room < total)
		return VMB_E_FULL;
	vmb_ring_tx_unwant(tx);
	tx_set_edge(tx, room);
	return VMB_OK;
}

void
vmb_ring_tx_unwant(struct vmb_ring_tx *tx)
{
	if (tx->wanted == 0)
		return;
	tx->wanted = 0;
	ring_store_relaxed(tx->ctl, RING_PENDING_SEND, 0);
}

bool
vmb_ring_tx_drained(struct vmb_ring_tx *tx)
{
	uint32_t out;

	return tx->broken || tx_capture_out(tx, &out) != VMB_OK || out == tx->committed_in;
}

bool
vmb_ring_reader_needs_signal(struct vmb_ring_tx *tx)
{
	uint32_t out;

	if (tx->broken || ring_load_acquire(tx->ctl, RING_INTERRUPT_MASK) != 0)
		return false;
	return tx_capture_out(tx, &out) == VMB_OK && out != tx->committed_in;
}
