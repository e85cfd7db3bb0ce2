/* SPDX-License-Identifier: MIT */
/*
 * The outgoing queue of a channel. One order for everything: a packet enters the ring only when the
 * FIFO before it is empty (OUT-2). Nothing here allocates; a packet's own image holds what must
 * wait.
 */
#include "kmcl/kmcl_tx.h"

#include <string.h>

#include "kmcl/kmcl_fsm.h"
#include "kmcl/kmcl_loop.h"
#include "kmcl/kmcl_incoming.h"
#include "kmcl/kmcl_log.h"
#include "kmcl/kmcl_packet.h"
#include "kmcl/kmcl_slots.h"
#include "kmcl/kmcl_trace.h"

#define KMCL_BAD_READ_INDEX "the peer's read index in the outgoing ring is out of range"
#define EARLY_PUBLISH 4u                /* packets; fewer cost more barriers, more keep the peer waiting */
#define EARLY_WAKE 64u                  /* where the peer sleeps */
#define RANGES_WORTH_A_PACKET 32u       /* bytes of page list: who was sent many pages was busy with them for long */
#define IMAGE_RANGES (VMB_DESCRIPTOR_BYTES + VMB_GPA_DIRECT_HEADER_BYTES)

uint8_t *
kmcl_packet_ranges(struct kmcl_packet *packet)
{
	return packet->out.image + IMAGE_RANGES;
}

/* ---- lock, and what follows it ------------------------------------------------------------------ */

void
kmcl_tx_signal_locked(struct kmcl_channel *ch)
{
	kmcl_count(&ch->stats.signals_sent, 1);
	/* A peer that is gone is noticed by the port. */
	VMB_IGNORE(vmb_port_ring(ch->link.port, &ch->link.doorbell));
}

void
kmcl_tx_do_after(struct kmcl_channel *ch, struct kmcl_packet *first)
{
	if (atomic_load_explicit(&ch->fsm.fail_due, memory_order_relaxed))
		kmcl_tx_release_state_waiter(ch);
	while (first != NULL) {
		struct kmcl_packet *packet = first;

		first = packet->next_done;
		kmcl_tx_finish(packet, packet->status, NULL, 0);
	}
}

static void
after_finish(struct kmcl_tx_after *after, struct kmcl_packet *packet, NTSTATUS status)
{
	kmcl_packet_forget_locked(packet);
	packet->state = KMCL_PACKET_FINISHING;
	packet->status = status;
	packet->next_done = NULL;
	*after->tail = packet;
	after->tail = &packet->next_done;
}

/* ---- ring --------------------------------------------------------------------------------------- */

static void
publish_locked(struct kmcl_channel *ch, struct kmcl_tx_after *after)
{
	bool signal = false;

	if (ch->tx.unpublished == 0)
		return;
	ch->tx.unpublished = 0;
	if (vmb_ring_tx_commit(&ch->tx.ring, &signal) != VMB_OK)
		kmcl_channel_fail_locked(ch, KMCL_BAD_READ_INDEX);
	if (signal)
		after->signal = true;
}

/*
 * Inside this thread's own batch, which cannot block, the publish waits for others, but not until the end if the peer polls:
 * it works on them while we go on, where else each side would wait for the other's whole batch. A peer that sleeps is woken
 * once for all, unless they took so long that it would sleep each time.
 */
static void
publish_soon_locked(struct kmcl_channel *ch, struct kmcl_tx_after *after)
{
	uint32_t most = vmb_ring_tx_reader_polls(&ch->tx.ring) ? EARLY_PUBLISH : EARLY_WAKE;

	if (kmcl_thread.plugged != ch || ch->tx.unpublished >= most)
		publish_locked(ch, after);
	else
		atomic_store_explicit(&ch->tx.flush_due, true, memory_order_relaxed);
}

static enum vmb_status
write_locked(struct kmcl_channel *ch, const struct vmb_iov *iov, uint32_t count)
{
	enum vmb_status status = vmb_ring_write(&ch->tx.ring, iov, count);

	if (status == VMB_OK)
		ch->tx.unpublished++;
	else if (status == VMB_E_CORRUPT)
		kmcl_channel_fail_locked(ch, KMCL_BAD_READ_INDEX);
	return status;
}

/* ---- data packets -------------------------------------------------------------------------------- */

static uint32_t
payload_offset(const struct kmcl_packet *packet)
{
	return packet->range_count == 0 ? VMB_DESCRIPTOR_BYTES : IMAGE_RANGES + packet->ranges_bytes;
}

/* Everything before the payload, except that foreign pages still have to be replaced. */
static inline void
put_header(uint8_t *image, uint32_t range_count, uint32_t offset, uint32_t body_bytes, bool answer,
           uint64_t transaction_id)
{
	vmb_packet_put_descriptor(image,
	                          range_count != 0 ? VMB_PACKET_GPA_DIRECT : VMB_PACKET_IN_BAND, offset,
	                          (body_bytes + 7u) & ~7u,
	                          answer ? VMB_PACKET_FLAG_COMPLETION_REQUESTED : 0, transaction_id);
	if (range_count != 0) {
		memset(image + VMB_DESCRIPTOR_BYTES, 0, 4);
		memcpy(image + VMB_DESCRIPTOR_BYTES + 4, &range_count, 4);
	}
}

/* Page numbers as the host knows them. The ranges are private, and sound because we made them. */
static enum vmb_status
translate_locked(struct kmcl_channel *ch, uint8_t *ranges, uint32_t ranges_bytes, uint32_t range_count)
{
	char text[VMB_PORT_WHY_BYTES];
	struct vmb_gpa_cursor cursor;
	struct vmb_gpa_range range;
	const char *why;

	vmb_gpa_begin(&cursor, ranges, ranges_bytes, range_count);
	while (vmb_gpa_next(&cursor, &range, &why) == VMB_OK) {
		if (vmb_port_translate(ch->link.port, ranges + (range.pfns - ranges), range.page_count))
			continue;
		if (!ch->tx.told_no_external && vmb_port_why(ch->link.port, 0, text))
			kmcl_log(KMCL_LOG_WARNING, "client %s: external data cannot be sent: %s",
			         ch->config.name, text);
		ch->tx.told_no_external = true;
		return VMB_E_UNSUPPORTED;
	}
	return VMB_OK;
}

/*
 * Write a packet whose payload is at `payload` (one in the image has its pipe header already). Foreign
 * pages are bounced here, so that a packet that waits in the FIFO holds no bounce pages.
 */
static enum vmb_status
write_packet_locked(struct kmcl_packet *packet, const void *payload, uint32_t payload_bytes)
{
	struct kmcl_channel *ch = packet->channel;
	struct vmb_iov iov[3];
	uint32_t count = 0;
	uint8_t pipe[VMB_PIPE_HEADER_BYTES];
	enum vmb_status status;

	iov[count++] = (struct vmb_iov){ packet->out.image, payload_offset(packet) };
	if (packet->has_foreign_pages) {
		struct kmcl_external external = kmcl_packet_external(packet);

		if (!kmcl_bounce_take(ch->bounce, kmcl_packet_ranges(packet), &external,
		                      ch->tx.scratch + IMAGE_RANGES, &packet->bounce))
			return VMB_E_BUSY;
		memcpy(ch->tx.scratch, packet->out.image, IMAGE_RANGES);
		iov[0].base = ch->tx.scratch;
	}
	if (packet->range_count != 0 && vmb_port_translates(ch->link.port)) {
		/* The image keeps our numbers, by which the pages are let go later. */
		if (!packet->has_foreign_pages)
			memcpy(ch->tx.scratch, packet->out.image, payload_offset(packet));
		iov[0].base = ch->tx.scratch;
		status = translate_locked(ch, ch->tx.scratch + IMAGE_RANGES, packet->ranges_bytes,
		                          packet->range_count);
		if (status != VMB_OK) {
			kmcl_bounce_give(ch->bounce, &packet->bounce);
			return status;
		}
	}
	if (ch->config.pipe && packet->state != KMCL_PACKET_QUEUED) {
		vmb_pipe_put_header(pipe, payload_bytes);
		iov[count++] = (struct vmb_iov){ pipe, sizeof(pipe) };
	}
	if (payload_bytes != 0)
		iov[count++] = (struct vmb_iov){ payload, payload_bytes };
	status = write_locked(ch, iov, count);
	if (status != VMB_OK)
		kmcl_bounce_give(ch->bounce, &packet->bounce);
	return status;
}

/* The packet is in the ring: it waits for its answer, or it is over (OUT-7). */
static void
sent_locked(struct kmcl_packet *packet, struct kmcl_tx_after *after)
{
	struct kmcl_channel *ch = packet->channel;

	kmcl_count_locked(&ch->stats.packets_sent, 1);
	kmcl_trace_send(ch, packet->transaction_id,
	                packet->range_count != 0 ? VMB_PACKET_GPA_DIRECT : VMB_PACKET_IN_BAND,
	                packet->wants_completion);
	if (packet->range_count != 0 && !packet->has_foreign_pages)
		kmcl_count(&ch->stats.bytes_shared, packet->external_bytes);
	if (packet->wants_completion) {
		packet->state = KMCL_PACKET_IN_RING;
		return;
	}
	/* The peer may still use the bounce pages: the transaction slot keeps them until it answers. */
	if (packet->bounce.first != 0) {
		kmcl_slot_keep_lease(&ch->tx, packet->transaction_id, &packet->bounce);
		packet->transaction_id = 0;
		kmcl_count(&ch->stats.bytes_bounced, packet->external_valid);
	}
	after_finish(after, packet, STATUS_SUCCESS);
}

/*
 * Copy the payload behind the header that is already in the image; the caller's buffer is free
 * afterwards (OUT-5).
 */
static void
enqueue_locked(struct kmcl_packet *packet, const void *payload, uint32_t payload_bytes)
{
	struct kmcl_tx *tx = &packet->channel->tx;
	uint8_t *to = packet->out.image + payload_offset(packet);

	if (packet->channel->config.pipe) {
		vmb_pipe_put_header(to, payload_bytes);
		to += VMB_PIPE_HEADER_BYTES;
	}
	if (payload_bytes != 0)
		memmove(to, payload, payload_bytes);
	packet->state = KMCL_PACKET_QUEUED;
	InsertTailList(&tx->fifo, &packet->out.link);
	kmcl_tx_grew_locked(tx, 1);
	kmcl_count(&packet->channel->stats.queued, 1);
}

static NTSTATUS
check_mode_locked(const struct kmcl_channel *ch, bool never_queue)
{
	const struct kmcl_thread *self = &kmcl_thread;

	switch (ch->tx.mode) {
	case KMCL_TX_DISABLED:
		return STATUS_INVALID_DEVICE_STATE;
	case KMCL_TX_REMOVED:
		return STATUS_DEVICE_REMOVED;
	case KMCL_TX_QUEUE:
		return never_queue ? STATUS_BUFFER_OVERFLOW : STATUS_SUCCESS;
	case KMCL_TX_RING:
		/*
		 * A waiter inside PostStarted must not start after the close that waits for it
		 * began (EPS-2).
		 */
		if (self->state_channel == ch && self->in_post_started &&
		    atomic_load(&ch->fsm.closing))
			return STATUS_DEVICE_REMOVED;
		return STATUS_SUCCESS;
	}
	return STATUS_INVALID_DEVICE_STATE;
}

/* A body that can never be written must not block the FIFO (OUT-10). */
static bool
never_fits_locked(const struct kmcl_channel *ch, uint64_t body_bytes)
{
	uint32_t largest = ch->tx.largest_body != 0 ? ch->tx.largest_body : VMB_MAX_BODY_BYTES;

	return body_bytes > largest;
}

/* Note in the packet what it is to carry; returns the bytes of its body. No lock is held. */
static uint64_t
describe(struct kmcl_packet *packet, const struct kmcl_send *send)
{
	static const struct kmcl_external none;
	const struct kmcl_external *external = send->external != NULL ? send->external : &none;

	packet->flags = send->flags;
	packet->wants_completion = (send->flags & VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION) != 0;
	packet->range_count = external->range_count;
	packet->ranges_bytes = external->ranges_bytes;
	packet->external_bytes = external->bytes;
	packet->external_valid = external->valid;
	packet->has_foreign_pages = external->foreign;
	packet->bounce = (struct kmcl_bounce_lease){ 0 };
	packet->transaction_id = 0;
	return (uint64_t)payload_offset(packet) + send->bytes +
	       (packet->channel->config.pipe ? VMB_PIPE_HEADER_BYTES : 0);
}

/*
 * The payload as it may be read under the lock. A pageable buffer is read here only: no lock is
 * held, nothing has changed (OUT-15, OUT-16).
 */
static const void *
capture_pageable(struct kmcl_packet *packet, const struct kmcl_send *send)
{
	uint8_t *to = packet->out.image + payload_offset(packet) +
	              (packet->channel->config.pipe ? VMB_PIPE_HEADER_BYTES : 0);

	if ((send->flags & VMBUS_CHANNEL_FORMAT_FLAG_PAGED_BUFFER) == 0 || send->bytes == 0)
		return send->buffer;
	memcpy(to, send->buffer, send->bytes);
	return to;
}

NTSTATUS
kmcl_tx_send(struct kmcl_packet *packet, const struct kmcl_send *send)
{
	struct kmcl_channel *ch = packet->channel;
	uint64_t body_bytes = describe(packet, send);
	const void *payload = capture_pageable(packet, send);
	enum vmb_status written = VMB_E_FULL;
	struct kmcl_tx_after after;
	bool needs_id;
	NTSTATUS status;

	kmcl_tx_lock(ch, &after);
	status = check_mode_locked(ch, send->never_queue);
	if (status == STATUS_SUCCESS && never_fits_locked(ch, body_bytes))
		status = STATUS_INVALID_BUFFER_SIZE;
	/* Bounce pages of a packet without an answer come back with an answer that only we see. */
	needs_id = packet->wants_completion || packet->has_foreign_pages;
	if (status == STATUS_SUCCESS && needs_id) {
		packet->transaction_id = kmcl_slot_take(&ch->tx, packet);
		if (packet->transaction_id == 0)
			status = STATUS_INSUFFICIENT_RESOURCES;
	}
	if (status != STATUS_SUCCESS) {
		kmcl_tx_unlock(ch, &after);
		return status;
	}

	packet->out.body_bytes = (uint32_t)body_bytes;
	put_header(packet->out.image, packet->range_count, payload_offset(packet),
	           packet->out.body_bytes, needs_id, packet->transaction_id);
	if (packet->range_count != 0 && !send->external->by_number)
		packet->pins = kmcl_external_hold(kmcl_packet_ranges(packet), packet->ranges_bytes,
		                                  packet->range_count);
	InsertTailList(&ch->tx.packets, &packet->all_link);
	if (packet->wants_completion)
		ch->tx.in_flight++;

	if (ch->tx.mode == KMCL_TX_RING && ch->tx.fifo_count == 0) {
		written = write_packet_locked(packet, payload, send->bytes);
		if (written == VMB_OK) {
			sent_locked(packet, &after);
			publish_soon_locked(ch, &after);
			kmcl_tx_unlock(ch, &after);
			return STATUS_SUCCESS;
		}
	}
	if (send->never_queue || written == VMB_E_UNSUPPORTED || atomic_load(&ch->fsm.failed)) {
		status = atomic_load(&ch->fsm.failed)   ? STATUS_DEVICE_REMOVED
		         : written == VMB_E_UNSUPPORTED ? STATUS_NOT_SUPPORTED
		                                        : STATUS_BUFFER_OVERFLOW;
		kmcl_packet_forget_locked(packet);
		publish_soon_locked(ch, &after);
		kmcl_tx_unlock(ch, &after);
		kmcl_tx_settle(packet, false);
		return status;
	}
	enqueue_locked(packet, payload, send->bytes);
	publish_locked(ch, &after);
	kmcl_tx_pump_locked(ch, &after);
	kmcl_tx_unlock(ch, &after);
	return STATUS_SUCCESS;
}

NTSTATUS
kmcl_tx_send_bare(struct kmcl_channel *ch, const void *buffer, uint32_t bytes,
                  const struct kmcl_mdl_request *mdl, bool *needs_packet)
{
	uint8_t *image;
	struct kmcl_external external = { 0 };
	struct kmcl_tx_after after;
	uint32_t offset = VMB_DESCRIPTOR_BYTES;
	uint64_t body_bytes;
	NTSTATUS status = STATUS_SUCCESS;

	*needs_packet = false;
	kmcl_tx_lock(ch, &after);
	image = ch->tx.scratch;
	status = check_mode_locked(ch, true);
	if (status == STATUS_SUCCESS && mdl != NULL) {
		status = kmcl_external_capture(ch, mdl, image + IMAGE_RANGES, &external);
		offset = IMAGE_RANGES + external.ranges_bytes;
		*needs_packet = external.foreign;
	}
	body_bytes = (uint64_t)offset + bytes + (ch->config.pipe ? VMB_PIPE_HEADER_BYTES : 0);
	if (status == STATUS_SUCCESS && never_fits_locked(ch, body_bytes))
		status = STATUS_INVALID_BUFFER_SIZE;
	if (status == STATUS_SUCCESS && !*needs_packet) {
		uint8_t pipe[VMB_PIPE_HEADER_BYTES];
		struct vmb_iov iov[3] = { { image, offset } };
		uint32_t count = 1;

		put_header(image, external.range_count, offset, (uint32_t)body_bytes, false, 0);
		if (external.range_count != 0 && ch->tx.attached && vmb_port_translates(ch->link.port) &&
		    translate_locked(ch, image + IMAGE_RANGES, external.ranges_bytes,
		                     external.range_count) != VMB_OK) {
			kmcl_tx_unlock(ch, &after);
			return STATUS_NOT_SUPPORTED;
		}
		if (ch->config.pipe) {
			vmb_pipe_put_header(pipe, bytes);
			iov[count++] = (struct vmb_iov){ pipe, sizeof(pipe) };
		}
		if (bytes != 0)
			iov[count++] = (struct vmb_iov){ buffer, bytes };
		status = ch->tx.fifo_count == 0 && write_locked(ch, iov, count) == VMB_OK
		                 ? STATUS_SUCCESS
		         : atomic_load(&ch->fsm.failed) ? STATUS_DEVICE_REMOVED
		                                        : STATUS_BUFFER_OVERFLOW;
		if (status == STATUS_SUCCESS) {
			kmcl_count_locked(&ch->stats.packets_sent, 1);
			kmcl_count(&ch->stats.bytes_shared, external.bytes);
			kmcl_trace_send(ch, 0,
			                external.range_count != 0 ? VMB_PACKET_GPA_DIRECT
			                                          : VMB_PACKET_IN_BAND,
			                false);
		}
		publish_soon_locked(ch, &after);
	}
	kmcl_tx_unlock(ch, &after);
	return status;
}

/* ---- completions of incoming packets --------------------------------------------------------------- */

static void
completion_sent_locked(const struct kmcl_incoming *incoming)
{
	struct kmcl_channel *ch = incoming->channel;

	ch->tx.unpublished += incoming->ranges_bytes / RANGES_WORTH_A_PACKET;
	kmcl_count_locked(&ch->stats.completions_sent, 1);
	kmcl_trace_send(ch, incoming->transaction_id, VMB_PACKET_COMPLETION, false);
}

void
kmcl_tx_complete(struct kmcl_incoming *incoming, const void *payload, uint32_t bytes)
{
	struct kmcl_channel *ch = incoming->channel;
	uint8_t descriptor[VMB_DESCRIPTOR_BYTES];
	struct vmb_iov iov[2] = { { descriptor, sizeof(descriptor) }, { payload, bytes } };
	struct kmcl_tx_after after;
	uint64_t body_bytes = (uint64_t)sizeof(descriptor) + bytes;
	enum vmb_status status;

	kmcl_tx_lock(ch, &after);
	/* Paused or suspending: the answer still goes out; closing or failed: it does not (PKC-9). */
	if (!ch->tx.attached || ch->tx.mode == KMCL_TX_REMOVED || ch->tx.mode == KMCL_TX_DISABLED) {
		kmcl_tx_unlock(ch, &after);
		kmcl_incoming_free(incoming);
		return;
	}
	if (never_fits_locked(ch, body_bytes)) {
		kmcl_channel_fail_locked(ch, "a completion is larger than the ring can ever take");
		kmcl_tx_unlock(ch, &after);
		kmcl_misuse(ch, "VmbChannelPacketComplete: %u bytes never fit the ring; make the "
		                "answer smaller or the client's ring larger", bytes);
		kmcl_incoming_free(incoming);
		return;
	}
	vmb_packet_put_descriptor(descriptor, VMB_PACKET_COMPLETION, VMB_DESCRIPTOR_BYTES,
	                          ((uint32_t)body_bytes + 7u) & ~7u, 0, incoming->transaction_id);
	status = ch->tx.fifo_count == 0 ? write_locked(ch, iov, bytes != 0 ? 2 : 1) : VMB_E_FULL;
	if (status == VMB_E_FULL && kmcl_incoming_keep_answer(incoming, descriptor, payload, bytes)) {
		InsertTailList(&ch->tx.fifo, &incoming->out.link);
		kmcl_tx_grew_locked(&ch->tx, 1);
		publish_locked(ch, &after);
		kmcl_tx_pump_locked(ch, &after);
		kmcl_tx_unlock(ch, &after);
		return;
	}
	if (status == VMB_OK)
		completion_sent_locked(incoming);
	else if (status == VMB_E_FULL)
		kmcl_channel_fail_locked(ch, "no memory to keep a large completion");
	publish_soon_locked(ch, &after);
	kmcl_tx_unlock(ch, &after);
	kmcl_incoming_free(incoming);
}

/* ---- moving the FIFO -------------------------------------------------------------------------------- */

/* One entry; VMB_OK: it left the FIFO. */
static enum vmb_status
pump_one_locked(struct kmcl_channel *ch, struct kmcl_out *out, struct kmcl_tx_after *after)
{
	struct kmcl_incoming *incoming;
	struct kmcl_packet *packet;
	enum vmb_status status;

	if (out->kind == KMCL_OUT_COMPLETION) {
		struct vmb_iov iov = { out->image, out->body_bytes };

		incoming = CONTAINING_RECORD(out, struct kmcl_incoming, out);
		status = write_locked(ch, &iov, 1);
		if (status != VMB_OK)
			return status;
		RemoveEntryList(&out->link);
		ch->tx.fifo_count--;
		completion_sent_locked(incoming);
		kmcl_incoming_free(incoming);
		return VMB_OK;
	}
	packet = CONTAINING_RECORD(out, struct kmcl_packet, out);
	status = write_packet_locked(packet, out->image + payload_offset(packet),
	                             out->body_bytes - payload_offset(packet));
	if (status != VMB_OK && status != VMB_E_TOO_BIG && status != VMB_E_UNSUPPORTED)
		return status;
	RemoveEntryList(&out->link);
	ch->tx.fifo_count--;
	if (status == VMB_OK)
		sent_locked(packet, after);
	else if (status == VMB_E_UNSUPPORTED) /* queued before it was known whom it goes to */
		after_finish(after, packet, STATUS_NOT_SUPPORTED);
	else /* queued before the peer chose a ring that is too small for it */
		after_finish(after, packet, STATUS_INVALID_BUFFER_SIZE);
	return VMB_OK;
}

void
kmcl_tx_pump_locked(struct kmcl_channel *ch, struct kmcl_tx_after *after)
{
	while (ch->tx.mode == KMCL_TX_RING && ch->tx.fifo_count != 0) {
		struct kmcl_out *out = CONTAINING_RECORD(ch->tx.fifo.Flink, struct kmcl_out, link);
		enum vmb_status status = pump_one_locked(ch, out, after);
		bool peer_wakes;

		if (status == VMB_OK)
			continue;
		publish_locked(ch, after);
		if (atomic_load(&ch->fsm.failed) || status == VMB_E_BUSY)
			return; /* bounce pages come back with an answer, which pumps again */
		status = vmb_ring_tx_want(&ch->tx.ring, ch->link.in_ctl, out->body_bytes, &peer_wakes);
		if (status == VMB_OK)
			continue;
		if (status == VMB_E_FULL) {
			/* Some peers lose this wake-up (vmbus-protocol 1.6), so the loop looks now and then. */
			if (!ch->tx.armed)
				kmcl_loop_watch(ch, KMCL_WATCH_ROOM, true);
			ch->tx.armed = true;
		} else {
			kmcl_channel_fail_locked(ch, KMCL_BAD_READ_INDEX);
		}
		return;
	}
	publish_soon_locked(ch, after);
	if (ch->tx.armed) {
		ch->tx.armed = false;
		kmcl_loop_watch(ch, KMCL_WATCH_ROOM, false);
		vmb_ring_tx_unwant(&ch->tx.ring);
	}
}

void
kmcl_tx_flush_now(struct kmcl_channel *ch)
{
	struct kmcl_tx *tx = &ch->tx;
	struct kmcl_tx_after after;

	kmcl_tx_lock(ch, &after);
	if (tx->attached) {
		publish_locked(ch, &after);
		kmcl_tx_pump_locked(ch, &after);
		publish_locked(ch, &after);
	}
	if (tx->unpublished == 0 && !tx->armed && tx->fifo_count == 0)
		atomic_store_explicit(&tx->flush_due, false, memory_order_relaxed);
	kmcl_tx_unlock(ch, &after);
}
