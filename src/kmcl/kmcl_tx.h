/* SPDX-License-Identifier: MIT */
/*
 * The sending side of a channel: FIFO, outgoing ring, transaction table. All rules OUT-*, TXN-* live here; the
 * API functions only check parameters.
 */
#ifndef KMCL_TX_H
#define KMCL_TX_H

#include "kmcl/kmcl_channel.h"
#include "kmcl/kmcl_external.h"

/* Work that must wait until tx.lock is released: a signal, completion routines. */
struct kmcl_tx_after {
	bool signal;
	struct kmcl_packet *first, **tail;
};

static inline void
kmcl_tx_lock(struct kmcl_channel *ch, struct kmcl_tx_after *after)
{
	after->signal = false;
	after->first = NULL;
	after->tail = &after->first;
	vmb_lock_take(&ch->tx.lock);
}

/* So many entries were appended to the FIFO. */
static inline void
kmcl_tx_grew_locked(struct kmcl_tx *tx, uint32_t entries)
{
	tx->fifo_count += entries;
	atomic_store_explicit(&tx->flush_due, true, memory_order_relaxed);
}

/* The rare halves of kmcl_tx_unlock(): ring the peer's doorbell; let go a waiter of the state thread, run routines. */
void kmcl_tx_signal_locked(struct kmcl_channel *ch);
void kmcl_tx_do_after(struct kmcl_channel *ch, struct kmcl_packet *first);

/* Release the lock, signal the peer, run completion routines (on this thread, in order). */
static inline void
kmcl_tx_unlock(struct kmcl_channel *ch, struct kmcl_tx_after *after)
{
	/* Under the lock, because the doorbell lives as long as the link and the lock guards that. */
	if (after->signal)
		kmcl_tx_signal_locked(ch);
	vmb_lock_give(&ch->tx.lock);
	if (after->first != NULL || atomic_load_explicit(&ch->fsm.fail_due, memory_order_relaxed))
		kmcl_tx_do_after(ch, after->first);
}

/* What the API hands over. The payload is copied before kmcl_tx_send returns. */
struct kmcl_send {
	const void *buffer;
	uint32_t bytes;
	uint32_t flags;                   /* checked */
	const struct kmcl_external *external; /* ranges are in the packet's image; NULL = none */
	bool never_queue;                 /* zero timeout: into the ring now, or not at all */
};

/*
 * Send an idle packet whose ranges, if any, were captured into kmcl_packet_ranges(). Any thread,
 * IRQL <= D. STATUS_SUCCESS: the packet is busy (or already over). STATUS_BUFFER_OVERFLOW
 * (never_queue), STATUS_INVALID_DEVICE_STATE, STATUS_DEVICE_REMOVED, STATUS_INVALID_BUFFER_SIZE,
 * STATUS_INSUFFICIENT_RESOURCES: no effect.
 */
NTSTATUS kmcl_tx_send(struct kmcl_packet *packet, const struct kmcl_send *send);

/*
 * The one form without a packet object: no answer wanted, never queued (SSR-17). The MDL is captured under the
 * lock into the channel's scratch image; it must not need bounce pages (*needs_packet tells, nothing was done).
 */
NTSTATUS kmcl_tx_send_bare(struct kmcl_channel *ch, const void *buffer, uint32_t bytes,
                           const struct kmcl_mdl_request *mdl, bool *needs_packet);

/* Send the completion of an incoming packet; on return the payload has been copied (PKC-5). */
void kmcl_tx_complete(struct kmcl_incoming *incoming, const void *payload, uint32_t bytes);

/* Where a packet's captured ranges go. */
uint8_t *kmcl_packet_ranges(struct kmcl_packet *packet);

/* Move FIFO entries into the ring while there is room; asks the peer for a signal when there is none. */
void kmcl_tx_pump_locked(struct kmcl_channel *ch, struct kmcl_tx_after *after);
/* Publish what a batch wrote and move FIFO entries into the ring. Dispatch or passive context. */
void kmcl_tx_flush_now(struct kmcl_channel *ch);

/*
 * The same without the lock when there is nothing of either. Who appends to the FIFO says so before it asks the peer for a
 * signal about room, and the batch that the signal starts reads it after; what a batch writes is noted by its own thread.
 */
static inline void
kmcl_tx_flush(struct kmcl_channel *ch)
{
	if (atomic_load_explicit(&ch->tx.flush_due, memory_order_relaxed))
		kmcl_tx_flush_now(ch);
}

/*
 * An answer with this id came. Claimed: exactly one caller gets the packet. NULL: late or stray,
 * already counted.
 */
struct kmcl_packet *kmcl_tx_claim(struct kmcl_channel *ch, uint64_t transaction_id);
/*
 * End a claimed transaction: external data is back with the caller, the completion routine runs or the waiter
 * wakes. `answer` is private memory, valid during the call.
 */
void kmcl_tx_finish(struct kmcl_packet *packet, NTSTATUS status, void *answer, uint32_t bytes);
/* Give external data back to the caller: bounce pages copied, references dropped. */
void kmcl_tx_settle_external(struct kmcl_packet *packet, bool answered);

static inline void
kmcl_tx_settle(struct kmcl_packet *packet, bool answered)
{
	if (packet->range_count != 0)
		kmcl_tx_settle_external(packet, answered);
}

/*
 * A waiter gives up (SSR-37). True: the packet is cancelled (gone from the FIFO, or an orphan in
 * the ring) and no longer the caller's. False: its answer was claimed first and `done` will be set
 * soon.
 */
bool kmcl_tx_cancel(struct kmcl_packet *packet);

/* ---- state context ---------------------------------------------------------------------------- */

void kmcl_tx_set_mode(struct kmcl_channel *ch, enum kmcl_tx_mode mode);
/* Ring usable from now on (state Starting); queued packets go out (STM-19). */
void kmcl_tx_start(struct kmcl_channel *ch);
/*
 * End every accepted packet with STATUS_DEVICE_REMOVED (STM-11). Mode must be REMOVED or DISABLED.
 * Orphans and the ids of what the peer has not answered stay until kmcl_tx_forget_peer().
 */
void kmcl_tx_fail_all(struct kmcl_channel *ch);
/* Wait until no synchronous request is inside any more (SSR-59). Mode must be DISABLED. */
void kmcl_tx_wait_for_requests(struct kmcl_channel *ch);
/* The peer can no longer reach our memory: let go of what orphans hold (SSR-44). After kmcl_tx_fail_all(). */
void kmcl_tx_forget_peer(struct kmcl_channel *ch);
/*
 * A close began, or the channel failed: release a waiter that runs on the state thread itself, which would end it otherwise
 * (SSR-55, EPS-2). Any thread, tx.lock not held.
 */
void kmcl_tx_release_state_waiter(struct kmcl_channel *ch);

#endif
