/* SPDX-License-Identifier: MIT */
/*
 * Restoring a server channel (RFB, PRS, ERP). What was saved is checked like a peer's bytes: a chunk is
 * taken as a whole or not at all. Everything that chunks bring waits beside the channel until the end mark,
 * and then takes its place at once; so a restore that never ends, or a channel that is opened or disabled
 * in between, leaves nothing half done.
 */
#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_fsm.h"
#include "kmcl/kmcl_incoming.h"
#include "kmcl/kmcl_packet.h"
#include "kmcl/kmcl_save.h"
#include "kmcl/kmcl_saved.h"
#include "kmcl/kmcl_slots.h"
#include "kmcl/kmcl_tx.h"

/* A restore between its first chunk and its end mark. */
struct kmcl_restore {
	uint32_t sequence, tag;         /* that the next chunk must have */
	bool open;                      /* and to be resumed as such */
	bool abandons;                  /* was open, but FORCE_NEW_CHANNEL: nobody will take or answer packets */
	uint32_t tx_in, rx_out;
	uint32_t largest_answer;        /* body that our ring can ever take */
	uint64_t serial;
	uint32_t packets, answers;      /* still expected */
	LIST_ENTRY list;                /* struct kmcl_packet, by all_link */
	uint32_t claimed;               /* slots that packets of the list have */
	LIST_ENTRY fifo;                /* struct kmcl_out */
	uint32_t fifo_count;
	/* While the driver's callback runs; tx.lock. */
	uint8_t *library;               /* what VmbPacketRestore must be given; NULL = no callback runs */
	uint32_t library_bytes;
	struct kmcl_packet *packet;     /* it was given this one */
};

/* The library's part of a packet, checked. */
struct request {
	bool queued, wants_completion;
	uint64_t transaction_id;
	uint32_t payload_bytes;
	const uint8_t *payload;
};

/* ---- CHANNEL --------------------------------------------------------------------------------- */

static bool
is_zero(const void *bytes, size_t count)
{
	const uint8_t *at = bytes;

	for (size_t i = 0; i < count; i++) {
		if (at[i] != 0)
			return false;
	}
	return true;
}

/* It is this channel that was saved, configured as it is now. */
static bool
is_this_channel(struct kmcl_channel *ch, const struct kmcl_saved_channel *saved)
{
	const struct kmcl_config *config = &ch->config;
	struct kmcl_save_identity identity = kmcl_save_identity(ch);
	uint32_t flags = vmb_le16_get(saved->flags);
	size_t open_at = offsetof(struct kmcl_saved_channel, tx_in);

	return memcmp(saved->type, &identity.type, sizeof(saved->type)) == 0 &&
	       memcmp(saved->instance, &identity.instance, sizeof(saved->instance)) == 0 &&
	       vmb_le16_get(saved->subchannel_index) == identity.index &&
	       (flags & ~(KMCL_SAVED_OPEN | KMCL_SAVED_PIPE)) == 0 &&
	       ((flags & KMCL_SAVED_PIPE) != 0) == config->pipe &&
	       vmb_le32_get(saved->max_packet) == config->max_packet &&
	       vmb_le32_get(saved->max_external) == config->max_external &&
	       vmb_le32_get(saved->max_chain) == config->max_chain &&
	       vmb_le32_get(saved->slots) <= KMCL_SLOTS &&
	       ((flags & KMCL_SAVED_OPEN) != 0 ||
	        (vmb_le32_get(saved->answers) == 0 &&
	         is_zero((const uint8_t *)saved + open_at, sizeof(*saved) - open_at)));
}

static struct kmcl_open_identity
saved_identity(const struct kmcl_saved_channel *saved)
{
	return (struct kmcl_open_identity){
		.channel_id = vmb_le32_get(saved->channel_id),
		.open_id = vmb_le32_get(saved->open_id),
		.ring_gpadl = vmb_le32_get(saved->ring_gpadl),
		.ring_pages = vmb_le32_get(saved->ring_pages),
		.downstream_page_offset = vmb_le32_get(saved->downstream_page_offset),
		.target_vp = vmb_le32_get(saved->target_vp),
		.opens = vmb_le64_get(saved->opens),
	};
}

/* Whether the bus still has the open that was saved. */
static bool
is_still_open(struct kmcl_channel *ch, const struct kmcl_open_identity *saved)
{
	struct kmcl_open_identity now;

	return kmcl_server_open_identity(ch, &now) && now.channel_id == saved->channel_id &&
	       now.open_id == saved->open_id && now.ring_gpadl == saved->ring_gpadl &&
	       now.ring_pages == saved->ring_pages &&
	       now.downstream_page_offset == saved->downstream_page_offset &&
	       now.target_vp == saved->target_vp && now.opens == saved->opens;
}

/* ---- beginning, and giving up ---------------------------------------------------------------- */

/* What a restore brought so far leaves the channel; returns the packets that are over. tx.lock. */
static struct kmcl_packet *
take_apart_locked(struct kmcl_channel *ch, struct kmcl_restore *restore)
{
	struct kmcl_packet *done = NULL, **tail = &done;

	ch->saving.restore = NULL;
	ch->link.resumes = false;
	kmcl_slots_unreserve(&ch->tx);
	while (!IsListEmpty(&restore->fifo)) {
		struct kmcl_out *out = CONTAINING_RECORD(RemoveHeadList(&restore->fifo),
		                                         struct kmcl_out, link);

		if (out->kind == KMCL_OUT_COMPLETION)
			kmcl_incoming_free(CONTAINING_RECORD(out, struct kmcl_incoming, out));
	}
	while (!IsListEmpty(&restore->list)) {
		struct kmcl_packet *packet = CONTAINING_RECORD(restore->list.Flink,
		                                               struct kmcl_packet, all_link);

		kmcl_packet_forget_locked(packet);
		packet->state = KMCL_PACKET_FINISHING;
		packet->next_done = NULL;
		*tail = packet;
		tail = &packet->next_done;
	}
	return done;
}

static void
finish_packets(struct kmcl_packet *done)
{
	KIRQL old;

	KeRaiseIrql(DISPATCH_LEVEL, &old);
	while (done != NULL) {
		struct kmcl_packet *packet = done;

		done = packet->next_done;
		kmcl_tx_finish(packet, STATUS_DEVICE_REMOVED, NULL, 0);
	}
	KeLowerIrql(old);
}

void
kmcl_restore_abandon(struct kmcl_channel *ch)
{
	struct kmcl_restore *restore = ch->saving.restore;
	struct kmcl_packet *done;

	if (restore == NULL)
		return;
	vmb_lock_take(&ch->tx.lock);
	done = take_apart_locked(ch, restore);
	vmb_lock_give(&ch->tx.lock);
	free(restore);
	finish_packets(done);
}

/*
 * Ids of the former life get their slots back; none may be in use, and nothing queued that would be older
 * than they. What an unfinished restore brought does not count: it is given up, but only once nothing can
 * fail any more.
 */
static bool
install(struct kmcl_channel *ch, struct kmcl_restore *restore, uint32_t slots, uint32_t generation)
{
	struct kmcl_restore *unfinished = ch->saving.restore;
	uint32_t claimed = unfinished != NULL ? unfinished->claimed : 0;
	struct kmcl_packet *done = NULL;
	bool unused;

	vmb_lock_take(&ch->tx.lock);
	unused = IsListEmpty(&ch->tx.packets) && ch->tx.slots_used == claimed;
	if (unused) {
		if (unfinished != NULL)
			done = take_apart_locked(ch, unfinished);
		kmcl_slots_reserve(&ch->tx, slots, generation);
		ch->saving.restore = restore;
	}
	vmb_lock_give(&ch->tx.lock);
	if (unused)
		free(unfinished);
	finish_packets(done);
	return unused;
}

static NTSTATUS
begin(struct kmcl_channel *ch, struct vmb_chunk *chunk)
{
	struct kmcl_saved_channel saved;
	struct kmcl_open_identity identity;
	struct kmcl_restore *restore;
	bool open, anew = (ch->config.server_flags &
	                   VMBUS_SERVER_CHANNEL_INIT_FLAG_FORCE_NEW_CHANNEL) != 0;

	vmb_chunk_copy(chunk, &saved, sizeof(saved));
	if (!vmb_chunk_is_whole(chunk) || !is_this_channel(ch, &saved))
		return STATUS_INVALID_PARAMETER_2;
	open = (vmb_le16_get(saved.flags) & KMCL_SAVED_OPEN) != 0;
	identity = saved_identity(&saved);
	if (open && !anew && !is_still_open(ch, &identity))
		return STATUS_INVALID_DEVICE_STATE;
	restore = calloc(1, sizeof(*restore));
	if (restore == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	restore->sequence = 1;
	restore->tag = chunk->checksum;
	restore->open = open && !anew;
	restore->abandons = open && anew;
	restore->tx_in = vmb_le32_get(saved.tx_in);
	restore->rx_out = vmb_le32_get(saved.rx_out);
	/* The bus vouches for these numbers. */
	if (restore->open)
		restore->largest_answer = vmb_ring_largest_body(
		        (identity.ring_pages - identity.downstream_page_offset - 1) * VMB_PAGE_BYTES);
	restore->serial = vmb_le64_get(saved.serial);
	restore->packets = vmb_le32_get(saved.packets);
	restore->answers = vmb_le32_get(saved.answers);
	InitializeListHead(&restore->list);
	InitializeListHead(&restore->fifo);
	if (!install(ch, restore, vmb_le32_get(saved.slots), vmb_le32_get(saved.generation))) {
		free(restore);
		return STATUS_INVALID_DEVICE_STATE;
	}
	return STATUS_SUCCESS;
}

/* What is followed by padding to a multiple of 8; NULL if it is not there. */
static const uint8_t *
get_padded(struct vmb_chunk *chunk, uint32_t count)
{
	const uint8_t *at = vmb_chunk_get_bytes(chunk, count);

	return vmb_chunk_get_bytes(chunk, -count & 7u) != NULL ? at : NULL;
}

/* ---- PACKET ---------------------------------------------------------------------------------- */

static bool
parse_request(struct kmcl_channel *ch, const uint8_t *bytes, uint32_t count, struct request *request)
{
	const struct kmcl_restore *restore = ch->saving.restore;
	struct kmcl_saved_request raw;
	uint32_t state, wants;
	bool claimable;

	if (count < sizeof(raw))
		return false;
	memcpy(&raw, bytes, sizeof(raw));
	state = vmb_le32_get(raw.state);
	wants = vmb_le32_get(raw.wants_completion);
	*request = (struct request){
		.queued = state == KMCL_SAVED_QUEUED,
		.wants_completion = wants != 0,
		.transaction_id = vmb_le64_get(raw.transaction_id),
		.payload_bytes = vmb_le32_get(raw.payload_bytes),
		.payload = bytes + sizeof(raw),
	};
	if ((state != KMCL_SAVED_QUEUED && state != KMCL_SAVED_IN_RING) || wants > 1 ||
	    vmb_le32_get(raw.reserved) != 0 || request->payload_bytes > ch->config.max_packet ||
	    count != sizeof(raw) + ((request->payload_bytes + 7u) & ~7u))
		return false;
	/* In the ring are only packets that wait for an answer, and only while the channel is open. */
	if (!request->queued && (!request->wants_completion || request->payload_bytes != 0 ||
	                         (!restore->open && !restore->abandons)))
		return false;
	if (!request->wants_completion)
		return request->transaction_id == 0;
	vmb_lock_take(&ch->tx.lock);
	claimable = kmcl_slot_is_claimable(&ch->tx, request->transaction_id);
	vmb_lock_give(&ch->tx.lock);
	return claimable && !ch->config.pipe;
}

/* The packet that the driver restored takes its place among the others; or it is idle again. */
static void
settle_packet(struct kmcl_channel *ch, const struct request *request, bool accepted)
{
	struct kmcl_restore *restore = ch->saving.restore;
	struct kmcl_packet *packet;

	vmb_lock_take(&ch->tx.lock);
	packet = restore->packet;
	restore->packet = NULL;
	if (packet != NULL && !accepted) {
		packet->state = KMCL_PACKET_IDLE;
		packet->restored = false;
		packet->transaction_id = 0;
		packet->wants_completion = false;
	} else if (packet != NULL) {
		packet->state = request->queued ? KMCL_PACKET_QUEUED : KMCL_PACKET_IN_RING;
		InsertTailList(&restore->list, &packet->all_link);
		if (request->queued) {
			InsertTailList(&restore->fifo, &packet->out.link);
			restore->fifo_count++;
		}
		if (request->wants_completion) {
			kmcl_slot_claim(&ch->tx, request->transaction_id, packet);
			restore->claimed++;
			ch->tx.in_flight++;
		}
	}
	vmb_lock_give(&ch->tx.lock);
}

static NTSTATUS
call_driver(struct kmcl_channel *ch, const uint8_t *library, uint32_t library_bytes,
            const uint8_t *driver, uint32_t driver_bytes)
{
	const struct kmcl_config *config = &ch->config;
	struct kmcl_restore *restore = ch->saving.restore;
	void *library_part = (void *)(uintptr_t)library;
	void *driver_part = driver_bytes != 0 ? (void *)(uintptr_t)driver : NULL;
	uint8_t *copy = malloc(library_bytes);
	struct kmcl_channel *outer;
	NTSTATUS status;

	/* The driver may do with the buffer what it likes; what was checked is ours. */
	if (copy == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	memcpy(copy, library, library_bytes);
	vmb_lock_take(&ch->tx.lock);
	restore->library = copy;
	restore->library_bytes = library_bytes;
	vmb_lock_give(&ch->tx.lock);
	outer = kmcl_save_callback_begin(ch);
	if (config->restore_packet != NULL)
		status = config->restore_packet(kmcl_channel_handle(ch), library_part, library_bytes,
		                                driver_part, driver_bytes);
	else
		status = config->restore_packet_ex(config->save_context, kmcl_channel_handle(ch),
		                                   library_part, library_bytes, driver_part,
		                                   driver_bytes);
	kmcl_save_callback_end(outer);
	vmb_lock_take(&ch->tx.lock);
	restore->library = NULL;
	vmb_lock_give(&ch->tx.lock);
	free(copy);
	return NT_SUCCESS(status) ? STATUS_SUCCESS : status;
}

static NTSTATUS
restore_packet(struct kmcl_channel *ch, struct vmb_chunk *chunk)
{
	struct kmcl_restore *restore = ch->saving.restore;
	struct kmcl_saved_packet parts;
	struct request request;
	uint32_t library_bytes, driver_bytes;
	const uint8_t *library, *driver;
	NTSTATUS status;

	vmb_chunk_copy(chunk, &parts, sizeof(parts));
	library_bytes = vmb_le32_get(parts.library_bytes);
	driver_bytes = vmb_le32_get(parts.driver_bytes);
	library = vmb_chunk_get_bytes(chunk, library_bytes);
	driver = get_padded(chunk, driver_bytes);
	if (restore->packets == 0 || !vmb_chunk_is_whole(chunk) ||
	    !parse_request(ch, library, library_bytes, &request))
		return STATUS_INVALID_PARAMETER_2;
	if (ch->config.restore_packet == NULL && ch->config.restore_packet_ex == NULL)
		return STATUS_INVALID_DEVICE_STATE;
	status = call_driver(ch, library, library_bytes, driver, driver_bytes);
	settle_packet(ch, &request, status == STATUS_SUCCESS);
	if (status == STATUS_SUCCESS)
		restore->packets--;
	return status;
}

/* ---- VmbPacketRestore ------------------------------------------------------------------------ */

/* tx.lock; `library` was checked when its chunk was. */
static void
fill_packet_locked(struct kmcl_packet *packet, const uint8_t *library)
{
	struct kmcl_channel *ch = packet->channel;
	struct kmcl_saved_request raw;
	uint32_t payload;
	uint8_t *to = packet->out.image + VMB_DESCRIPTOR_BYTES;

	memcpy(&raw, library, sizeof(raw));
	payload = vmb_le32_get(raw.payload_bytes);
	packet->wants_completion = vmb_le32_get(raw.wants_completion) != 0;
	packet->transaction_id = vmb_le64_get(raw.transaction_id);
	packet->flags = packet->wants_completion ? VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION : 0;
	packet->range_count = packet->ranges_bytes = 0;
	packet->external_bytes = packet->external_valid = 0;
	packet->pins = (struct kmcl_pins){ 0 };
	packet->has_foreign_pages = false;
	packet->bounce = (struct kmcl_bounce_lease){ 0 };
	if (ch->config.pipe) {
		vmb_pipe_put_header(to, payload);
		to += VMB_PIPE_HEADER_BYTES;
	}
	memcpy(to, library + sizeof(raw), payload);
	packet->out.body_bytes = (uint32_t)(to - packet->out.image) + payload;
	vmb_packet_put_descriptor(packet->out.image, VMB_PACKET_IN_BAND, VMB_DESCRIPTOR_BYTES,
	                          (packet->out.body_bytes + 7u) & ~7u,
	                          packet->wants_completion ? VMB_PACKET_FLAG_COMPLETION_REQUESTED : 0,
	                          packet->transaction_id);
	packet->state = KMCL_PACKET_RESTORING;
	packet->restored = true;
}

static NTSTATUS
packet_restore_locked(struct kmcl_packet *packet, const void *buffer, uint32_t bytes)
{
	struct kmcl_restore *restore = packet->channel->saving.restore;

	if (packet->state != KMCL_PACKET_IDLE)
		return STATUS_INVALID_PARAMETER_1;
	/* Outside the callback, and for a second packet, nothing is right. */
	if (restore == NULL || restore->library == NULL || restore->packet != NULL)
		return STATUS_INVALID_PARAMETER_2;
	if (bytes != restore->library_bytes)
		return STATUS_INVALID_PARAMETER_3;
	if (memcmp(buffer, restore->library, bytes) != 0)
		return STATUS_INVALID_PARAMETER_2;
	fill_packet_locked(packet, restore->library);
	restore->packet = packet;
	return STATUS_SUCCESS;
}

NTSTATUS
VmbPacketRestore(VMBPACKET PacketObject, PVOID Buffer, ULONG BufferSize)
{
	struct kmcl_packet *packet = kmcl_packet_from_handle(PacketObject);
	struct kmcl_channel *ch;
	NTSTATUS status;

	if (packet == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (Buffer == NULL)
		return STATUS_INVALID_PARAMETER_2;
	ch = packet->channel;
	if (!ch->config.is_server)
		return STATUS_INVALID_DEVICE_REQUEST;
	vmb_lock_take(&ch->tx.lock);
	status = packet_restore_locked(packet, Buffer, BufferSize);
	vmb_lock_give(&ch->tx.lock);
	return status;
}

/* ---- ANSWER ---------------------------------------------------------------------------------- */

static NTSTATUS
restore_answer(struct kmcl_channel *ch, struct vmb_chunk *chunk)
{
	struct kmcl_restore *restore = ch->saving.restore;
	uint8_t descriptor[VMB_DESCRIPTOR_BYTES];
	struct kmcl_saved_answer raw;
	struct kmcl_incoming *incoming;
	const uint8_t *payload;
	uint32_t payload_bytes;
	uint64_t body;

	vmb_chunk_copy(chunk, &raw, sizeof(raw));
	payload_bytes = vmb_le32_get(raw.payload_bytes);
	payload = get_padded(chunk, payload_bytes);
	body = (uint64_t)VMB_DESCRIPTOR_BYTES + payload_bytes;
	if (restore->answers == 0 || !vmb_chunk_is_whole(chunk) || vmb_le32_get(raw.reserved) != 0 ||
	    body > VMB_MAX_BODY_BYTES || (restore->open && body > restore->largest_answer))
		return STATUS_INVALID_PARAMETER_2;
	if (!restore->abandons) {
		incoming = kmcl_incoming_get(ch);
		if (incoming == NULL)
			return STATUS_INSUFFICIENT_RESOURCES;
		incoming->transaction_id = vmb_le64_get(raw.transaction_id);
		vmb_packet_put_descriptor(descriptor, VMB_PACKET_COMPLETION, VMB_DESCRIPTOR_BYTES,
		                          ((uint32_t)body + 7u) & ~7u, 0, incoming->transaction_id);
		if (!kmcl_incoming_keep_answer(incoming, descriptor, payload, payload_bytes)) {
			kmcl_incoming_free(incoming);
			return STATUS_INSUFFICIENT_RESOURCES;
		}
		atomic_store(&incoming->state, KMCL_INCOMING_COMPLETING);
		InsertTailList(&restore->fifo, &incoming->out.link);
		restore->fifo_count++;
	}
	restore->answers--;
	return STATUS_SUCCESS;
}

/* ---- END ------------------------------------------------------------------------------------- */

/* All of `from` before all of `to`. */
static void
put_before(LIST_ENTRY *to, LIST_ENTRY *from)
{
	while (!IsListEmpty(from)) {
		LIST_ENTRY *last = from->Blink;

		RemoveEntryList(last);
		InsertHeadList(to, last);
	}
}

/*
 * What was signalled when the channel was saved may have been lost on the way (vmbus-protocol 1.11);
 * tx.lock.
 */
static void
signal_again_locked(struct kmcl_channel *ch)
{
	if (!ch->tx.attached || (!vmb_ring_reader_needs_signal(&ch->tx.ring) &&
	                         !vmb_ring_writer_needs_signal(&ch->rx.ring)))
		return;
	kmcl_count(&ch->stats.signals_sent, 1);
	VMB_IGNORE(vmb_port_ring(ch->link.port, &ch->link.doorbell));
}

void
kmcl_restore_commit(struct kmcl_channel *ch)
{
	struct kmcl_restore *restore = ch->saving.restore;

	vmb_lock_take(&ch->tx.lock);
	ch->link.resumes = false;
	put_before(&ch->tx.packets, &restore->list);
	put_before(&ch->tx.fifo, &restore->fifo);
	kmcl_tx_grew_locked(&ch->tx, restore->fifo_count);
	kmcl_slots_unreserve(&ch->tx);
	signal_again_locked(ch);
	ch->saving.restore = NULL;
	vmb_lock_give(&ch->tx.lock);
	pthread_mutex_lock(&ch->saving.lock);
	ch->saving.serial = restore->serial;
	pthread_mutex_unlock(&ch->saving.lock);
	free(restore);
}

/* The held channel is let go in any case. */
static NTSTATUS
finish(struct kmcl_channel *ch)
{
	struct kmcl_restore *restore = ch->saving.restore;

	if (restore->open) {
		ch->link.resumes = true;
		ch->link.resume_in = restore->rx_out;
		ch->link.resume_out = restore->tx_in;
		return kmcl_fsm_resume(ch);
	}
	if (restore->abandons)
		kmcl_restore_abandon(ch);
	else
		kmcl_restore_commit(ch);
	kmcl_fsm_let_go(ch);
	return STATUS_SUCCESS;
}

/* ---- VmbChannelRestoreFromBuffer ------------------------------------------------------------- */

/* One chunk; it is the last of the buffer, or not. STATUS_SUCCESS is for the end mark only. */
static NTSTATUS
restore_chunk(struct kmcl_channel *ch, struct vmb_chunk *chunk, bool is_last)
{
	struct kmcl_restore *restore = ch->saving.restore;
	NTSTATUS status = STATUS_INVALID_PARAMETER_2;
	uint32_t sequence = vmb_chunk_get_u32(chunk), tag = vmb_chunk_get_u32(chunk);

	/* Also in the middle of another state, which might have been a wrong one. */
	if (chunk->kind == KMCL_SAVED_CHANNEL && sequence == 0 && tag == 0) {
		status = begin(ch, chunk);
		return status == STATUS_SUCCESS ? STATUS_MORE_PROCESSING_REQUIRED : status;
	}
	if (restore == NULL || sequence != restore->sequence || tag != restore->tag)
		return STATUS_INVALID_PARAMETER_2;
	switch (chunk->kind) {
	case KMCL_SAVED_PACKET:
		status = restore_packet(ch, chunk);
		break;
	case KMCL_SAVED_ANSWER:
		status = restore_answer(ch, chunk);
		break;
	case KMCL_SAVED_END:
		if (!is_last || !vmb_chunk_is_whole(chunk) || restore->packets != 0 ||
		    restore->answers != 0)
			return STATUS_INVALID_PARAMETER_2;
		/* Whether the guest closed it since the first chunk is seen when the rings are attached. */
		return STATUS_SUCCESS;
	default:
		break;
	}
	if (status != STATUS_SUCCESS)
		return status;
	restore->sequence++;
	return STATUS_MORE_PROCESSING_REQUIRED;
}

static NTSTATUS
restore_chunks(struct kmcl_channel *ch, const uint8_t *bytes, uint32_t count)
{
	struct vmb_chunk_reader reader = { .bytes = bytes, .left = count };
	NTSTATUS status;

	do {
		struct vmb_chunk chunk;

		switch (vmb_chunk_next(&reader, &kmcl_saved_format, &chunk)) {
		case VMB_OK:
			break;
		case VMB_E_UNSUPPORTED:
			return STATUS_REVISION_MISMATCH;
		default:
			return reader.cut_short ? STATUS_INVALID_PARAMETER_3
			                        : STATUS_INVALID_PARAMETER_2;
		}
		status = restore_chunk(ch, &chunk, reader.left == 0);
	} while (status == STATUS_MORE_PROCESSING_REQUIRED && reader.left != 0);
	return status;
}

static NTSTATUS
restore_from_buffer(struct kmcl_channel *ch, const uint8_t *bytes, uint32_t count)
{
	NTSTATUS status;

	if (!kmcl_fsm_hold(ch, false))
		return STATUS_INVALID_DEVICE_STATE;
	status = restore_chunks(ch, bytes, count);
	if (status == STATUS_SUCCESS)
		return finish(ch);
	kmcl_fsm_let_go(ch);
	return status;
}

NTSTATUS
VmbChannelRestoreFromBuffer(VMBCHANNEL Channel, PVOID Buffer, ULONG BufferSize)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);
	NTSTATUS status;

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (Buffer == NULL)
		return STATUS_INVALID_PARAMETER_2;
	if (BufferSize == 0)
		return STATUS_INVALID_PARAMETER_3;
	if (!ch->config.is_server)
		return STATUS_INVALID_DEVICE_REQUEST;
	if (kmcl_fsm_inside_callback(ch, "VmbChannelRestoreFromBuffer"))
		return STATUS_INVALID_DEVICE_STATE;
	atomic_fetch_add(&ch->fsm.callers, 1);
	status = restore_from_buffer(ch, Buffer, BufferSize);
	atomic_fetch_sub(&ch->fsm.callers, 1);
	return status;
}
