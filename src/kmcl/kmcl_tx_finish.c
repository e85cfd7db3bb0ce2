/* SPDX-License-Identifier: MIT */
/*
 * How outgoing transactions end: by their answer, by a waiter that gives up, or by the end of the
 * channel. One claim under tx.lock decides between them (SSR-40), so that each ends exactly once.
 */
#include <string.h>

#include "kmcl/kmcl_external.h"
#include "kmcl/kmcl_incoming.h"
#include "kmcl/kmcl_loop.h"
#include "kmcl/kmcl_packet.h"
#include "kmcl/kmcl_slots.h"
#include "kmcl/kmcl_tx.h"
#include "nt/nt_deadline.h"

struct kmcl_packet *
kmcl_tx_claim(struct kmcl_channel *ch, uint64_t transaction_id)
{
	struct kmcl_packet *packet = NULL, *orphan = NULL;
	struct kmcl_slot *slot;

	vmb_lock_take(&ch->tx.lock);
	slot = kmcl_slot_find(&ch->tx, transaction_id);
	if (slot == NULL) {
		kmcl_count(&ch->stats.stray_completions, 1);
	} else if (slot->packet == NULL) {
		/* Asked for by us alone, to learn when bounce pages are free. */
		kmcl_bounce_give(ch->bounce, &slot->bounce);
		kmcl_slot_give(&ch->tx, transaction_id);
	} else if (slot->packet->state == KMCL_PACKET_ORPHAN) {
		orphan = slot->packet;
		kmcl_packet_forget_locked(orphan);
		kmcl_count(&ch->stats.late_completions, 1);
	} else if (slot->packet->state == KMCL_PACKET_IN_RING) {
		packet = slot->packet;
		kmcl_packet_forget_locked(packet);
		packet->state = KMCL_PACKET_FINISHING;
		kmcl_count_locked(&ch->stats.completions_received, 1);
	} else {
		/* The peer answers what it has not been given: a guess of an id. */
		kmcl_count(&ch->stats.stray_completions, 1);
	}
	vmb_lock_give(&ch->tx.lock);
	if (orphan != NULL) {
		kmcl_tx_settle(orphan, false);
		kmcl_packet_put(orphan);
	}
	return packet;
}

void
kmcl_tx_settle_external(struct kmcl_packet *packet, bool answered)
{
	struct kmcl_channel *ch = packet->channel;

	if (packet->bounce.first != 0) {
		struct kmcl_external external = kmcl_packet_external(packet);
		bool back = answered && (packet->flags & KMCL_FORMAT_FLAG_DATA_OUT_ONLY) == 0;

		kmcl_count(&ch->stats.bytes_bounced, packet->external_valid * (back ? 2u : 1u));
		if (back)
			kmcl_bounce_copy_back(ch->bounce, kmcl_packet_ranges(packet), &external,
			                      &packet->bounce);
		vmb_lock_take(&ch->tx.lock);
		kmcl_bounce_give(ch->bounce, &packet->bounce);
		vmb_lock_give(&ch->tx.lock);
	}
	kmcl_external_let_go(&packet->pins, kmcl_packet_ranges(packet), packet->ranges_bytes,
	                     packet->range_count);
	packet->range_count = 0;
}

static void
wake_waiter(struct kmcl_packet *packet, NTSTATUS status)
{
	struct kmcl_channel *ch = packet->channel;
	struct kmcl_sync *sync = &packet->sync;

	sync->status = status;
	/* Pairs with the acquire loads of the waiter; from here on the packet is the waiter's. */
	switch (atomic_exchange_explicit(&sync->done, 2, memory_order_acq_rel)) {
	case 1:
		nt_futex_wake((uint32_t *)(void *)&sync->done, 1);
		break;
	case 3:
		/* The channel stays: Disable and Cleanup wait for whoever ends requests, or must not run beside the call that does. */
		kmcl_bell_wake(&ch->rx.bell);
		break;
	default:
		break;
	}
}

static void
run_routine(struct kmcl_packet *packet)
{
	packet->state = KMCL_PACKET_IDLE;
	/* The packet may be gone when the routine returns (ECR-3). */
	if (packet->routine == NULL && packet->routine_ex == NULL)
		kmcl_misuse(packet->channel, "a restored packet was never given a completion routine");
	else if (packet->routine != NULL)
		packet->routine((VMBPACKET)(void *)packet, packet->status, packet->answer,
		                packet->answer_bytes);
	else
		packet->routine_ex(packet->routine_context, (VMBPACKET)(void *)packet, packet->status,
		                   packet->answer, packet->answer_bytes);
}

/*
 * One level deep: a routine that sends again from inside must not nest without end. An answer
 * cannot wait for the outer routine, because its memory is used for the next one; such nesting is
 * as deep as the driver's own requests.
 */
static void
run_routines(struct kmcl_packet *packet)
{
	struct kmcl_thread *self = &kmcl_thread;

	packet->next_done = NULL;
	if (self->completing && packet->answer != NULL) {
		run_routine(packet);
		return;
	}
	if (self->completing) {
		*self->done_tail = packet;
		self->done_tail = &packet->next_done;
		return;
	}
	self->completing = true;
	self->done_first = packet;
	self->done_tail = &packet->next_done;
	while (self->done_first != NULL) {
		packet = self->done_first;
		self->done_first = packet->next_done;
		if (self->done_first == NULL)
			self->done_tail = &self->done_first;
		run_routine(packet);
	}
	self->completing = false;
}

void
kmcl_tx_finish(struct kmcl_packet *packet, NTSTATUS status, void *answer, uint32_t bytes)
{
	kmcl_tx_settle(packet, status == STATUS_SUCCESS);
	if (packet->sync.is_sync) {
		wake_waiter(packet, status);
		return;
	}
	packet->status = status;
	packet->answer = answer;
	packet->answer_bytes = bytes;
	run_routines(packet);
}

bool
kmcl_tx_cancel(struct kmcl_packet *packet)
{
	struct kmcl_channel *ch = packet->channel;
	bool cancelled = true, orphan = false;

	vmb_lock_take(&ch->tx.lock);
	switch (packet->state) {
	case KMCL_PACKET_QUEUED:
		RemoveEntryList(&packet->out.link);
		ch->tx.fifo_count--;
		kmcl_packet_forget_locked(packet);
		break;
	case KMCL_PACKET_IN_RING:
		packet->state = KMCL_PACKET_ORPHAN;
		orphan = true;
		break;
	default:
		cancelled = false;
		break;
	}
	vmb_lock_give(&ch->tx.lock);
	if (cancelled && !orphan) {
		kmcl_tx_settle(packet, false);
		kmcl_packet_put(packet);
		/* It may have been what the FIFO waited for. */
		kmcl_tx_flush(ch);
	}
	return cancelled;
}

/* ---- state context ---------------------------------------------------------------------------- */

/* A channel that failed meanwhile takes nothing any more (STM-16). */
static void
set_mode_locked(struct kmcl_channel *ch, enum kmcl_tx_mode mode)
{
	bool accepts = mode == KMCL_TX_QUEUE || mode == KMCL_TX_RING;

	ch->tx.mode = accepts && atomic_load(&ch->fsm.failed) ? KMCL_TX_REMOVED : mode;
}

void
kmcl_tx_set_mode(struct kmcl_channel *ch, enum kmcl_tx_mode mode)
{
	vmb_lock_take(&ch->tx.lock);
	set_mode_locked(ch, mode);
	vmb_lock_give(&ch->tx.lock);
}

void
kmcl_tx_wait_for_requests(struct kmcl_channel *ch)
{
	kmcl_inside_wait(&ch->tx.requests);
}

void
kmcl_tx_start(struct kmcl_channel *ch)
{
	struct kmcl_tx_after after;

	kmcl_tx_lock(ch, &after);
	for (LIST_ENTRY *e = ch->tx.packets.Flink; e != &ch->tx.packets; e = e->Flink)
		CONTAINING_RECORD(e, struct kmcl_packet, all_link)->restored = false;
	set_mode_locked(ch, KMCL_TX_RING);
	kmcl_tx_pump_locked(ch, &after);
	kmcl_tx_unlock(ch, &after);
}

void
kmcl_tx_fail_all(struct kmcl_channel *ch)
{
	struct kmcl_packet *list = NULL, **tail = &list;
	struct kmcl_tx *tx = &ch->tx;

	vmb_lock_take(&tx->lock);
	if (tx->armed) {
		tx->armed = false;
		kmcl_loop_watch(ch, KMCL_WATCH_ROOM, false);
	}
	while (!IsListEmpty(&tx->fifo)) {
		struct kmcl_out *out = CONTAINING_RECORD(RemoveHeadList(&tx->fifo), struct kmcl_out,
		                                         link);

		tx->fifo_count--;
		if (out->kind == KMCL_OUT_COMPLETION)
			kmcl_incoming_free(CONTAINING_RECORD(out, struct kmcl_incoming, out));
	}
	for (LIST_ENTRY *e = tx->packets.Flink, *next; e != &tx->packets; e = next) {
		struct kmcl_packet *packet = CONTAINING_RECORD(e, struct kmcl_packet, all_link);

		next = e->Flink;
		/* Nobody waits for it, and the peer may still use its pages. */
		if (packet->state == KMCL_PACKET_ORPHAN)
			continue;
		kmcl_packet_forget_locked(packet);
		packet->state = KMCL_PACKET_FINISHING;
		packet->next_done = NULL;
		*tail = packet;
		tail = &packet->next_done;
	}
	vmb_lock_give(&tx->lock);

	while (list != NULL) {
		struct kmcl_packet *packet = list;

		list = packet->next_done;
		kmcl_tx_finish(packet, STATUS_DEVICE_REMOVED, NULL, 0);
	}
}

void
kmcl_tx_forget_peer(struct kmcl_channel *ch)
{
	struct kmcl_packet *list = NULL;
	struct kmcl_tx *tx = &ch->tx;

	vmb_lock_take(&tx->lock);
	while (!IsListEmpty(&tx->packets)) {
		struct kmcl_packet *packet = CONTAINING_RECORD(tx->packets.Flink, struct kmcl_packet,
		                                               all_link);

		kmcl_packet_forget_locked(packet);
		packet->next_done = list;
		list = packet;
	}
	kmcl_slots_reset(ch);
	vmb_lock_give(&tx->lock);
	while (list != NULL) {
		struct kmcl_packet *packet = list;

		list = packet->next_done;
		kmcl_tx_settle(packet, false);
		kmcl_packet_put(packet);
	}
}

void
kmcl_tx_release_state_waiter(struct kmcl_channel *ch)
{
	struct kmcl_packet *found = NULL;

	vmb_lock_take(&ch->tx.lock);
	for (LIST_ENTRY *e = ch->tx.packets.Flink; e != &ch->tx.packets; e = e->Flink) {
		struct kmcl_packet *packet = CONTAINING_RECORD(e, struct kmcl_packet, all_link);

		if (!packet->sync.is_sync || !packet->sync.on_state_thread ||
		    packet->state == KMCL_PACKET_ORPHAN)
			continue;
		if (packet->state == KMCL_PACKET_QUEUED) {
			RemoveEntryList(&packet->out.link);
			ch->tx.fifo_count--;
		}
		kmcl_packet_forget_locked(packet);
		packet->state = KMCL_PACKET_FINISHING;
		found = packet;
		break;
	}
	vmb_lock_give(&ch->tx.lock);
	if (found != NULL)
		kmcl_tx_finish(found, STATUS_DEVICE_REMOVED, NULL, 0);
}
