/* SPDX-License-Identifier: MIT */
/*
 * The VMBus ring buffer: one direction, one producer, one consumer, in memory shared with a peer
 * that is not trusted (vmbus-protocol 1).
 *
 * A ring is one 4096-byte control page and a data area of N pages. The producer's object is struct
 * vmb_ring_tx, the consumer's struct vmb_ring_rx; each lives in private memory, keeps its own index
 * there and caches the peer's. This layer does not allocate, lock or make a system call, and calls
 * back nothing but the fence of struct vmb_ring_local; it compiles freestanding.
 *
 * Threads: one thread at a time may use one object. The two ends need no common lock. Every shared
 * word is read once, checked, and only the checked copy is used.
 */
#ifndef VMB_RING_H
#define VMB_RING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmb/status.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define VMB_PAGE_BYTES 4096u
#define VMB_RING_CTL_BYTES 4096u
#define VMB_DESCRIPTOR_BYTES 16u
#define VMB_TRAILER_BYTES 8u
/* Largest packet body that the 16-bit length in 8-byte units can name. */
#define VMB_MAX_BODY_BYTES (65535u * 8u)
/* Largest data area taken; far above what any peer uses, and keeps offset sums within 32 bits. */
#define VMB_RING_MAX_DATA_BYTES (1u << 30)

struct vmb_iov {
	const void *base;
	uint32_t bytes;
};

/*
 * For an end whose peer may be in this process: how to save the full barrier that VMBus asks for with each commit and each release.
 *
 * The barrier is there for a peer that is about to sleep. So an end that has been awake for long says so in the word that the
 * peer looks at anyway, and the peer leaves its barrier out. Before it sleeps (vmb_ring_rx_unmask(), vmb_ring_tx_want()) who
 * said so takes it back and calls `fence`. An end that is not awake for that long follows the VMBus rule. Who is signalled
 * when is the same in any case.
 *
 * Each end speaks for itself, and a peer without this sees a set mask and no request, which is what the words mean. So one
 * end may have it and the other not, wherever that is; a peer that says it is awake and sleeps without the fence loses
 * its own wake-ups.
 */
struct vmb_ring_local {
	/*
	 * A full memory barrier in every thread of this process. Called at most once in a call of these two, on its
	 * thread, under the caller's locks; must not use the ring. False: not now; a consumer stays
	 * awake then, and a producer learns that it must poll.
	 */
	bool (*fence)(void);
	uint32_t after; /* commits, or releases, without a sleep after which an end counts as awake; at least 1 */
};

/* Producer. Fields are private to src/ring; they are here so that callers can embed the object. */
struct vmb_ring_tx {
	uint8_t *ctl;
	uint8_t *data;
	uint32_t size;         /* data bytes */
	uint32_t in;           /* next byte to write; the authoritative copy */
	uint32_t edge;         /* a packet that ends here or before needs no look at the peer */
	uint32_t committed_in; /* value published last */
	uint32_t wanted;       /* what we asked room for and still wait for */
	bool broken;
	uint32_t mask_seen;    /* the peer's interrupt mask at the last commit */
	uint32_t until_awake;  /* commits; 0 = we count as awake */
	const struct vmb_ring_local *local; /* NULL = the VMBus rule */
};

/* Consumer. */
struct vmb_ring_rx {
	uint8_t *ctl;
	uint8_t *data;
	uint32_t size;          /* data bytes */
	uint32_t out;           /* next byte to read; the authoritative copy */
	uint32_t cached_in;     /* last checked write index of the peer */
	uint32_t edge;          /* a packet that ends here or before lies in one piece */
	uint32_t committed_out; /* value published last */
	uint32_t mask;          /* interrupt mask as we last stored it */
	bool broken;
	uint32_t until_awake;   /* releases while masked; 0 = we count as awake */
	const struct vmb_ring_local *local; /* NULL = the VMBus rule */
	const char *why;        /* what broke it first, a sentence without its full stop; else NULL */
};

/*
 * One packet found in a ring: a private copy of its descriptor, checked, and where its body lies.
 */
struct vmb_ring_packet {
	uint16_t type;        /* raw packet type; wire/packet.h knows the names */
	uint16_t flags;       /* bit 0: completion requested; other bits are zero */
	uint32_t data_offset; /* bytes from the body's start to the payload, 16..body_bytes */
	uint32_t body_bytes;  /* descriptor included, trailer excluded; multiple of 8 */
	uint64_t transaction_id;
	uint32_t position; /* ring offset of the body's first byte */
	uint32_t next;     /* ring offset after the trailer; <= position: it wraps */
};

/*
 * Make a fresh ring of a control page: all zero, feature bit 0 (pending send size) set. Only the
 * owner of the memory does this, before the channel is opened; a server never does.
 */
void vmb_ring_format(void *ctl);

/*
 * Attach to a ring as its producer. Loads both indices once and checks them; advertises the pending
 * send size feature and clears a stale request. `data_bytes` is a multiple of 4096 from 4096 to
 * VMB_RING_MAX_DATA_BYTES, and `data` is one contiguous mapping (it may be mapped twice in a row,
 * which is not used). Both addresses are multiples of 8.
 * Returns VMB_OK, VMB_E_INVALID for a wrong size or address, VMB_E_CORRUPT for indices out of
 * range; after a failure the object is broken and every later call says VMB_E_CORRUPT.
 */
VMB_MUST_CHECK enum vmb_status vmb_ring_tx_init(struct vmb_ring_tx *tx, void *ctl, void *data,
						uint32_t data_bytes);

/*
 * Give this end the rule of struct vmb_ring_local: directly after an init that succeeded, before any other call. `local` is borrowed
 * for as long as the end is used. Not where the peer is in another process and may be given it too: the fences of one do not
 * reach the other. Calls the fence once, for what a former user of this end may have said. False: it refused, the end
 * follows the VMBus rule, and this may be called again.
 */
bool vmb_ring_tx_set_local(struct vmb_ring_tx *tx, const struct vmb_ring_local *local);

/*
 * Append one packet. `iov` lists the body from its descriptor on; its bytes are padded with zeros
 * to a multiple of 8 and followed by the trailer. The peer does not see it before
 * vmb_ring_tx_commit().
 * The caller has filled the descriptor (length and offset fields included). Two parts, the 16-byte
 * descriptor and the rest, are the fastest. Success withdraws a pending vmb_ring_tx_want().
 * Returns VMB_OK, VMB_E_FULL (nothing written; may fit later), VMB_E_TOO_BIG (never fits this
 * ring), VMB_E_INVALID (less than a descriptor, more than VMB_MAX_BODY_BYTES), VMB_E_CORRUPT (peer
 * index; the ring stays broken).
 */
VMB_MUST_CHECK enum vmb_status vmb_ring_write(struct vmb_ring_tx *tx, const struct vmb_iov *iov,
					      uint32_t iov_count);

/*
 * Publish all packets appended since the last commit. *signal becomes true when the peer must be
 * signalled (ring was empty at the start of the batch and the peer's interrupt mask is clear).
 * Returns VMB_OK, or VMB_E_CORRUPT when the peer's index is out of range.
 */
VMB_MUST_CHECK enum vmb_status vmb_ring_tx_commit(struct vmb_ring_tx *tx, bool *signal);

/*
 * Did the last commit find the peer at work, so that it wanted no signal? Then a commit before the end of a burst most likely
 * costs none, and the peer works on the first half while the second is written. A hint; nothing is loaded.
 */
static inline bool
vmb_ring_tx_reader_polls(const struct vmb_ring_tx *tx)
{
	return tx->mask_seen != 0;
}

/* Bytes that a body of `body_bytes` takes in a ring, padding and trailer included. */
static inline uint32_t
vmb_ring_footprint(uint32_t body_bytes)
{
	return ((body_bytes + 7u) & ~7u) + VMB_TRAILER_BYTES;
}

/*
 * Largest body that fits an empty ring of this size: never hand out one that needs the last 8
 * bytes.
 */
static inline uint32_t
vmb_ring_largest_body(uint32_t data_bytes)
{
	uint32_t largest = data_bytes - 16u - VMB_TRAILER_BYTES;

	return largest < VMB_MAX_BODY_BYTES ? largest : VMB_MAX_BODY_BYTES;
}

/*
 * Ask the peer to signal when a body of `body_bytes` fits, after VMB_E_FULL and a commit. Re-checks
 * after asking: VMB_OK = there is room now (the request is withdrawn), VMB_E_FULL = asked, wait for
 * a signal, VMB_E_CORRUPT; VMB_E_STATE = packets are not committed, the peer could not make room by
 * reading them; VMB_E_TOO_BIG and VMB_E_INVALID as vmb_ring_write().
 * *peer_wakes tells whether the peer promised to look at the request (its feature bit, in our
 * incoming ring's control page `rx_ctl`), and is false if the fence of struct vmb_ring_local refused; if false the caller must
 * poll. Some peers keep quiet while masked all the same, so a slow poll is wise if true.
 */
VMB_MUST_CHECK enum vmb_status vmb_ring_tx_want(struct vmb_ring_tx *tx, const void *rx_ctl,
						uint32_t body_bytes, bool *peer_wakes);
/* Withdraw such a request; cheap when none is pending. */
void vmb_ring_tx_unwant(struct vmb_ring_tx *tx);
/*
 * True when every published packet has been released by the peer. VMB_E_CORRUPT counts as drained.
 */
bool vmb_ring_tx_drained(struct vmb_ring_tx *tx);

/* Attach as consumer; masks the peer's signals (interrupt mask 1). Returns as vmb_ring_tx_init. */
VMB_MUST_CHECK enum vmb_status vmb_ring_rx_init(struct vmb_ring_rx *rx, void *ctl, void *data,
						uint32_t data_bytes);

/* As vmb_ring_tx_set_local(). */
bool vmb_ring_rx_set_local(struct vmb_ring_rx *rx, const struct vmb_ring_local *local);

/* The rare halves of vmb_ring_peek(): all known packets are stepped over; the packet is no plain one; it is none at all. */
VMB_MUST_CHECK enum vmb_status vmb_ring_peek_new(struct vmb_ring_rx *rx);
VMB_MUST_CHECK enum vmb_status vmb_ring_peek_wrapping(struct vmb_ring_rx *rx, uint32_t body_bytes, uint32_t *next,
						      uint64_t *transaction_id);
void vmb_ring_refuse(struct vmb_ring_rx *rx);

/*
 * Look at the next packet without consuming it. VMB_OK fills *packet, VMB_EMPTY: nothing there,
 * VMB_E_CORRUPT: the ring or descriptor breaks a rule of vmbus-protocol 1.9 (the ring stays
 * broken); then *packet means nothing.
 *
 * Inline, because where the next packet begins depends on this one's length: packets that are stepped over one after the
 * other wait for each other, and each time that the length passes through memory costs more than the check of it.
 */
VMB_MUST_CHECK static inline __attribute__((always_inline)) enum vmb_status
vmb_ring_peek(struct vmb_ring_rx *rx, struct vmb_ring_packet *packet)
{
	static const struct vmb_ring_packet none = { 0 };
	uint32_t position = rx->out, body, data_offset, next;
	const uint8_t *at;
	uint64_t qword;

	if (position == rx->cached_in) {
		enum vmb_status st = vmb_ring_peek_new(rx);

		if (st != VMB_OK) {
			*packet = none;
			return st;
		}
	}

	at = rx->data + position;
	qword = __atomic_load_n((const uint64_t *)(const void *)at, __ATOMIC_RELAXED);
	/* Both in units of 8 bytes: shift by 3 less. */
	data_offset = (uint32_t)(qword >> 13) & 0xFFFFu << 3;
	body = (uint32_t)(qword >> 29) & 0xFFFFu << 3;
	/* A body shorter than its descriptor fails here too: its payload starts beyond it. */
	if (__builtin_expect(data_offset < VMB_DESCRIPTOR_BYTES || data_offset > body || qword >> 49 != 0, 0)) {
		vmb_ring_refuse(rx);
		*packet = none;
		return VMB_E_CORRUPT;
	}
	packet->type = (uint16_t)qword;
	packet->flags = (uint16_t)(qword >> 48);
	packet->data_offset = data_offset;
	packet->body_bytes = body;
	packet->position = position;
	next = position + body + VMB_TRAILER_BYTES;
	if (__builtin_expect(next > rx->edge, 0)) {
		/* Not into *packet itself, which can stay in registers then. */
		uint32_t after = 0;
		uint64_t id = 0;
		enum vmb_status st = vmb_ring_peek_wrapping(rx, body, &after, &id);

		packet->next = after;
		packet->transaction_id = id;
		return st;
	}
	packet->next = next;
	packet->transaction_id = __atomic_load_n((const uint64_t *)(const void *)(at + 8), __ATOMIC_RELAXED);
	return VMB_OK;
}

/* Copy part of a peeked body into private memory; offset + bytes <= body_bytes. */
void vmb_ring_copy_part(const struct vmb_ring_rx *rx, uint32_t position, uint32_t next, uint32_t offset, void *dst,
			uint32_t bytes);
static inline void
vmb_ring_copy(const struct vmb_ring_rx *rx, const struct vmb_ring_packet *packet, uint32_t offset, void *dst,
	      uint32_t bytes)
{
	vmb_ring_copy_part(rx, packet->position, packet->next, offset, dst, bytes);
}

/*
 * Address of part of a peeked body inside the ring, or NULL where it wraps. The peer may change
 * these bytes at any time: read each of them once.
 */
static inline const void *
vmb_ring_in_place(const struct vmb_ring_rx *rx, const struct vmb_ring_packet *packet,
		  uint32_t offset, uint32_t bytes)
{
	uint32_t at = packet->position + offset;

	if (packet->next > packet->position)
		return rx->data + at;
	if (at >= rx->size)
		at -= rx->size;
	return at + bytes <= rx->size ? rx->data + at : NULL;
}

/* Step over the packet peeked last. Its ring space returns to the peer with the next release. */
static inline void
vmb_ring_advance(struct vmb_ring_rx *rx, const struct vmb_ring_packet *packet)
{
	rx->out = packet->next;
}

/*
 * Give the space of all packets stepped over back to the producer. *signal becomes true when the
 * producer waits for room and this release crossed what it asked for.
 * Returns VMB_OK or VMB_E_CORRUPT.
 */
VMB_MUST_CHECK enum vmb_status vmb_ring_rx_release(struct vmb_ring_rx *rx, bool *signal);

/* Tell the producer not to signal while we poll. Stores nothing when it was told already. */
void vmb_ring_rx_mask(struct vmb_ring_rx *rx);
/*
 * Allow signals again and look once more. VMB_EMPTY: the consumer may sleep. VMB_OK: packets came
 * meanwhile, or the fence of struct vmb_ring_local refused; signals are masked again and the consumer
 * goes on. VMB_E_CORRUPT. VMB_E_STATE, and
 * nothing changed: packets are stepped over and not released; the ring would not look empty to the
 * producer and its signal would never come.
 */
VMB_MUST_CHECK enum vmb_status vmb_ring_rx_unmask(struct vmb_ring_rx *rx);

/*
 * After restore or a suspected lost signal (vmbus-protocol 1.11): would the peer's reader of tx, or
 * the peer's writer of rx, need a signal now? Spurious answers are harmless.
 */
bool vmb_ring_reader_needs_signal(struct vmb_ring_tx *tx);
bool vmb_ring_writer_needs_signal(struct vmb_ring_rx *rx);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
