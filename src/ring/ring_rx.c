/* SPDX-License-Identifier: MIT */
/*
 * The consumer's end of a ring (vmbus-protocol 1.5 to 1.7).
 *
 * Packets lie between `out` and `cached_in`, the last checked index of the peer. `edge` bounds the
 * plain ones: a packet that ends there or before is within those bytes, trailer included, and in
 * one piece. It is the peer's index, or stops short of the end of the data area when the bytes go
 * on at its start; then it moves on with the packet that wraps. In a broken ring it is 0 for ever,
 * so that no packet is plain, and the other paths look at `broken`.
 */
#include "ring/ring_shared.h"

static enum vmb_status
rx_break(struct vmb_ring_rx *rx, const char *why)
{
	if (rx->why == NULL)
		rx->why = why;
	rx->broken = true;
	rx->edge = 0;
	return VMB_E_CORRUPT;
}

/* Load the peer's index once; the checked value goes to *in. */
static enum vmb_status
rx_capture_in(struct vmb_ring_rx *rx, uint32_t *in)
{
	/* Pairs with the release store in vmb_ring_tx_commit(): the packets before the new index
	 * are visible. */
	uint32_t raw_in = ring_load_acquire(rx->ctl, RING_IN);

	if (!ring_index_is_valid(raw_in, rx->size))
		return rx_break(rx, "the peer's write index in the incoming ring is out of range");
	*in = raw_in;
	return VMB_OK;
}

/* Look for new packets when all known ones are stepped over: VMB_OK, VMB_EMPTY, VMB_E_CORRUPT. */
static inline enum vmb_status
rx_refresh(struct vmb_ring_rx *rx)
{
	uint32_t in;
	enum vmb_status st;

	if (rx->broken)
		return VMB_E_CORRUPT;
	st = rx_capture_in(rx, &in);
	if (st != VMB_OK)
		return st;
	if (in == rx->out)
		return VMB_EMPTY;
	rx->cached_in = in;
	rx->edge = in > rx->out ? in : rx->size - 8;
	/* The packet's first line is looked at next, and its second one after barriers of whoever reads it, which would wait
	 * for that one too: ask for both at once. A prefetch never faults, wherever the address is. */
	__builtin_prefetch(rx->data + rx->out + 64);
	return VMB_OK;
}

/* The packet ends beyond the edge: it wraps, or it is longer than what the peer published. */
enum vmb_status
vmb_ring_peek_wrapping(struct vmb_ring_rx *rx, uint32_t body_bytes, uint32_t *next, uint64_t *transaction_id)
{
	uint32_t total = body_bytes + VMB_TRAILER_BYTES;
	uint32_t second = rx->out + 8;

	if (rx->broken || total > ring_used(rx->cached_in, rx->out, rx->size))
		return rx_break(rx, "a packet in the incoming ring is longer than what the peer has published");
	/* Multiples of 8 again: the descriptor can split only between its two qwords. */
	*transaction_id = ring_load_qword(rx->data + (second < rx->size ? second : 0));
	*next = rx->out + total;
	if (*next >= rx->size) {
		*next -= rx->size;
		rx->edge = rx->cached_in;
	}
	return VMB_OK;
}

enum vmb_status
vmb_ring_rx_init(struct vmb_ring_rx *rx, void *ctl, void *data, uint32_t data_bytes)
{
	uint32_t raw_out, in;

	/* Unusable until everything is checked. */
	*rx = (struct vmb_ring_rx){ .ctl = ctl, .data = data, .size = data_bytes, .broken = true };
	if (!ring_geometry_is_valid(ctl, data, data_bytes))
		return VMB_E_INVALID;

	/* The only time that our own index comes from shared memory: after a restore or over
	 * memory used before it need not be 0. */
	raw_out = ring_load_relaxed(rx->ctl, RING_OUT);
	if (!ring_index_is_valid(raw_out, data_bytes))
		return rx_break(rx, "the read index of the incoming ring is out of range");
	if (rx_capture_in(rx, &in) != VMB_OK)
		return VMB_E_CORRUPT;
	rx->out = raw_out;
	rx->committed_out = raw_out;
	/* The first look for packets loads In again. */
	rx->cached_in = raw_out;
	rx->broken = false;
	vmb_ring_rx_mask(rx);
	return VMB_OK;
}

bool
vmb_ring_rx_set_local(struct vmb_ring_rx *rx, const struct vmb_ring_local *local)
{
	/* The producer may have seen a former user of this end awake, and the init has taken that back. */
	if (!local->fence())
		return false;
	rx->until_awake = local->after;
	rx->local = local;
	return true;
}

enum vmb_status
vmb_ring_peek_new(struct vmb_ring_rx *rx)
{
	return rx_refresh(rx);
}

void
vmb_ring_refuse(struct vmb_ring_rx *rx)
{
	(void)rx_break(rx, "a packet in the incoming ring has a descriptor that contradicts itself");
}

/*
 * Copy from a packet that reaches the end of the data area; the part asked for may lie on either
 * side.
 */
static __attribute__((noinline)) void
rx_copy_wrapping(const struct vmb_ring_rx *rx, uint32_t at, uint8_t *dst, uint32_t bytes)
{
	uint32_t head = rx->size - at;

	if (head > bytes)
		head = bytes;
	ring_bytes_copy(dst, rx->data + at, head);
	ring_bytes_copy(dst + head, rx->data, bytes - head);
}

void
vmb_ring_copy_part(const struct vmb_ring_rx *rx, uint32_t position, uint32_t next, uint32_t offset, void *dst,
		   uint32_t bytes)
{
	uint32_t at = position + offset;

	if (__builtin_expect(next > position, 1))
		ring_bytes_copy(dst, rx->data + at, bytes);
	else
		rx_copy_wrapping(rx, at < rx->size ? at : at - rx->size, dst, bytes);
}

/*
 * The producer's request for room, 0 for none. Any value is legal, and its low bits mean nothing:
 * one known peer stores size - 1 (vmbus-protocol 1.7).
 */
static inline uint32_t
rx_load_pending_send(const uint8_t *ctl)
{
	return ring_load_acquire(ctl, RING_PENDING_SEND) & ~7u;
}

/* More than a ring ever has free: "when it is empty". */
static uint32_t
rx_clamp_pending(const struct vmb_ring_rx *rx, uint32_t pending)
{
	return pending < rx->size - RING_GAP_BYTES ? pending : rx->size - RING_GAP_BYTES;
}

/* Did a release that moved Out from `before` cross what the producer waits for? */
static __attribute__((noinline)) enum vmb_status
rx_check_crossing(struct vmb_ring_rx *rx, uint32_t before, uint32_t pending, bool *signal)
{
	uint32_t in;
	enum vmb_status st;

	pending = rx_clamp_pending(rx, pending);
	/* In after the request: the producer published what it had before it asked. */
	st = rx_capture_in(rx, &in);
	if (st != VMB_OK)
		return st;
	/* Only the release that crosses the threshold signals, not each one after it. */
	*signal = ring_free(in, before, rx->size) < pending &&
		  ring_free(in, rx->committed_out, rx->size) >= pending;
	return VMB_OK;
}

static void
rx_set_mask(struct vmb_ring_rx *rx, uint32_t mask)
{
	rx->mask = mask;
	ring_store_relaxed(rx->ctl, RING_INTERRUPT_MASK, mask);
}

/*
 * After a release, with struct vmb_ring_local: need the producer not be looked after, because it is awake? And after many
 * releases without a sleep, we are.
 */
static bool
rx_writer_is_awake(struct vmb_ring_rx *rx)
{
	if (rx->mask == RING_MASK_SET && --rx->until_awake == 0)
		rx_set_mask(rx, RING_MASK_AWAKE);
	/* Our Out before our look at what the producer says; it takes that back, has a fence made here in
	 * vmb_ring_tx_want(), then looks at Out. It decides about the barrier only, as in the producer. */
	ring_fence_light();
	return ring_load_relaxed(rx->ctl, RING_PENDING_SEND) == RING_PENDING_AWAKE;
}

enum vmb_status
vmb_ring_rx_release(struct vmb_ring_rx *rx, bool *signal)
{
	uint32_t out = rx->out, before = rx->committed_out;
	uint8_t *ctl = rx->ctl;
	uint32_t pending;

	*signal = false;
	if (__builtin_expect(rx->broken, 0))
		return VMB_E_CORRUPT;
	if (out == before)
		return VMB_OK;

	rx->committed_out = out;
	/* Pairs with the acquire load of Out in the producer: our reads of this space are over. */
	ring_store_release(ctl, RING_OUT, out);
	if (rx->local != NULL && rx_writer_is_awake(rx))
		return VMB_OK;
	/* Our Out before our look for a request; the producer stores its request, fences in
	 * vmb_ring_tx_want(), then looks at Out. One of us sees the other. */
	ring_fence_full();
	pending = rx_load_pending_send(ctl);
	return pending == 0 ? VMB_OK : rx_check_crossing(rx, before, pending, signal);
}

void
vmb_ring_rx_mask(struct vmb_ring_rx *rx)
{
	/* Who is awake stays so until it sleeps; and the line lies with the producer, so nothing is stored there without need. */
	if (rx->mask == 0)
		rx_set_mask(rx, RING_MASK_SET);
}

/* From here on the VMBus rule, for so many releases. False: not yet, the producer may take us for awake. */
static bool
rx_stop_being_awake(struct vmb_ring_rx *rx)
{
	rx_set_mask(rx, RING_MASK_SET);
	/* A commit that looked at the mask before has its In where we will see it. */
	if (!rx->local->fence()) {
		rx_set_mask(rx, RING_MASK_AWAKE);
		return false;
	}
	rx->until_awake = rx->local->after;
	return true;
}

enum vmb_status
vmb_ring_rx_unmask(struct vmb_ring_rx *rx)
{
	enum vmb_status st;

	if (rx->broken)
		return VMB_E_CORRUPT;
	if (rx->out != rx->committed_out)
		return VMB_E_STATE;
	if (rx->out != rx->cached_in) {
		vmb_ring_rx_mask(rx);
		return VMB_OK;
	}

	if (rx->mask == RING_MASK_AWAKE) {
		/* The fence is dear, and not for who goes on anyway. */
		st = rx_refresh(rx);
		if (st != VMB_EMPTY)
			return st;
		if (!rx_stop_being_awake(rx))
			return VMB_OK;
	}
	rx_set_mask(rx, 0);
	/* Our mask before our look at In; the producer publishes In, fences in
	 * vmb_ring_tx_commit(), then looks at the mask. One of us sees the other. */
	ring_fence_full();
	st = rx_refresh(rx);
	if (st != VMB_EMPTY)
		vmb_ring_rx_mask(rx);
	else if (rx->local != NULL)
		rx->until_awake = rx->local->after;
	return st;
}

bool
vmb_ring_writer_needs_signal(struct vmb_ring_rx *rx)
{
	uint32_t in, pending;

	if (rx->broken)
		return false;
	pending = rx_load_pending_send(rx->ctl);
	if (pending == 0 || rx_capture_in(rx, &in) != VMB_OK)
		return false;
	return ring_free(in, rx->committed_out, rx->size) >= rx_clamp_pending(rx, pending);
}
