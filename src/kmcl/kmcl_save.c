/* SPDX-License-Identifier: MIT */
/*
 * Saving a server channel (SVB, SVC, SVE, ESP). SaveBegin writes the whole state into private memory while
 * the state context is held still; from then on it is a snapshot that nothing changes any more: the channel
 * may go on, close or end, and only kmcl_save_is_complete() turns false.
 */
#include "kmcl/kmcl_save.h"

#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_family.h"
#include "kmcl/kmcl_fsm.h"
#include "kmcl/kmcl_saved.h"
#include "kmcl/kmcl_slots.h"
#include "kmcl/kmcl_tx.h"

/* What a save is made of: requests in the ring in the order of their sending, then the queue. */
struct items {
	struct kmcl_out **list;
	uint32_t count, capacity;
	uint32_t packets;
	/* Taken under the same lock. */
	uint32_t generation, tx_in;
};

void
kmcl_save_init(struct kmcl_channel *ch)
{
	pthread_mutex_init(&ch->saving.lock, NULL);
	atomic_store(&ch->saving.epoch, 1);
}

static void
drop_snapshot_locked(struct kmcl_channel *ch)
{
	free(ch->saving.snapshot);
	ch->saving.snapshot = NULL;
	ch->saving.bytes = ch->saving.done = 0;
}

void
kmcl_save_destroy(struct kmcl_channel *ch)
{
	drop_snapshot_locked(ch);
	free(ch->saving.kept);
	pthread_mutex_destroy(&ch->saving.lock);
}

void
kmcl_save_outdate(struct kmcl_channel *ch)
{
	atomic_fetch_add(&ch->saving.epoch, 1);
}

bool
kmcl_save_is_complete(const struct kmcl_channel *ch)
{
	return atomic_load(&ch->saving.saved) == atomic_load(&ch->saving.epoch);
}

struct kmcl_save_identity
kmcl_save_identity(struct kmcl_channel *ch)
{
	struct kmcl_save_identity identity = { ch->config.type, ch->config.instance, 0 };

	if (!kmcl_is_subchannel(ch))
		return identity;
	pthread_mutex_lock(&ch->fsm.lock);
	identity = (struct kmcl_save_identity){ ch->family.type, ch->family.instance,
		                                ch->family.index };
	pthread_mutex_unlock(&ch->fsm.lock);
	return identity;
}

struct kmcl_channel *
kmcl_save_callback_begin(struct kmcl_channel *ch)
{
	struct kmcl_channel *outer = kmcl_thread.state_channel;

	kmcl_thread.state_channel = ch;
	return outer;
}

void
kmcl_save_callback_end(struct kmcl_channel *outer)
{
	kmcl_thread.state_channel = outer;
}

/* ---- what there is to save ------------------------------------------------------------------- */

static void
take_items_locked(struct kmcl_channel *ch, struct items *items)
{
	items->count = items->packets = 0;
	for (LIST_ENTRY *e = ch->tx.packets.Flink; e != &ch->tx.packets; e = e->Flink) {
		struct kmcl_packet *packet = CONTAINING_RECORD(e, struct kmcl_packet, all_link);

		if (packet->state != KMCL_PACKET_IN_RING)
			continue;
		items->list[items->count++] = &packet->out;
		items->packets++;
	}
	for (LIST_ENTRY *e = ch->tx.fifo.Flink; e != &ch->tx.fifo; e = e->Flink) {
		struct kmcl_out *out = CONTAINING_RECORD(e, struct kmcl_out, link);

		items->list[items->count++] = out;
		items->packets += out->kind == KMCL_OUT_PACKET;
	}
	items->generation = kmcl_slots_generation(&ch->tx);
	items->tx_in = ch->tx.attached ? ch->tx.ring.in : 0;
}

/*
 * What is listed stays as it is while the state context is held: nothing is read from the ring, nothing
 * leaves the queue, and the driver cannot free what is in use. Packets sent meanwhile are not part of the
 * snapshot.
 */
static bool
take_items(struct kmcl_channel *ch, struct items *items)
{
	for (;;) {
		uint32_t needed;
		struct kmcl_out **grown;

		vmb_lock_take(&ch->tx.lock);
		needed = ch->tx.in_flight + ch->tx.fifo_count;
		if (needed <= items->capacity)
			take_items_locked(ch, items);
		vmb_lock_give(&ch->tx.lock);
		if (needed <= items->capacity)
			return true;
		grown = realloc(items->list, needed * sizeof(*grown));
		if (grown == NULL)
			return false;
		items->list = grown;
		items->capacity = needed;
	}
}

/* ---- chunks ---------------------------------------------------------------------------------- */

/* A state on its way into memory. */
struct output {
	struct vmb_chunk_writer writer;
	uint32_t sequence, tag;
};

static bool
grow(struct vmb_chunk_writer *writer, size_t needed)
{
	size_t capacity = writer->capacity != 0 ? writer->capacity : 1024;
	uint8_t *grown;

	/* Drivers are told sizes as ULONG. */
	if (needed > UINT32_MAX)
		return false;
	while (capacity < needed)
		capacity *= 2;
	grown = realloc(writer->bytes, capacity);
	if (grown == NULL)
		return false;
	writer->bytes = grown;
	writer->capacity = capacity;
	return true;
}

static void
begin_chunk(struct output *to, enum kmcl_saved_kind kind)
{
	struct kmcl_saved_place place = { vmb_le32_make(to->sequence), vmb_le32_make(to->tag) };

	vmb_chunk_begin(&to->writer, &kmcl_saved_format, (uint16_t)kind);
	vmb_chunk_put_bytes(&to->writer, &place, sizeof(place));
}

static void
end_chunk(struct output *to)
{
	uint32_t checksum = vmb_chunk_end(&to->writer);

	if (to->sequence++ == 0)
		to->tag = checksum;
}

static void
put_padded(struct output *to, const uint8_t *bytes, uint32_t count)
{
	static const uint8_t zeros[8];

	vmb_chunk_put_bytes(&to->writer, bytes, count);
	vmb_chunk_put_bytes(&to->writer, zeros, -count & 7u);
}

/* Ids in use name slots up to this one. */
static uint32_t
highest_slot(const struct items *items)
{
	uint32_t slots = 0;

	for (uint32_t i = 0; i < items->count; i++) {
		if (items->list[i]->kind == KMCL_OUT_PACKET)
			slots = max(slots, (uint32_t)CONTAINING_RECORD(items->list[i], struct kmcl_packet,
			                                               out)->transaction_id);
	}
	return slots;
}

static void
put_channel(struct kmcl_channel *ch, struct output *to, const struct items *items,
            const struct kmcl_open_identity *open)
{
	struct kmcl_save_identity identity = kmcl_save_identity(ch);
	struct kmcl_saved_channel saved = {
		.flags = vmb_le16_make((open != NULL ? KMCL_SAVED_OPEN : 0) |
		                       (ch->config.pipe ? KMCL_SAVED_PIPE : 0)),
		.subchannel_index = vmb_le16_make(identity.index),
		.max_packet = vmb_le32_make(ch->config.max_packet),
		.max_external = vmb_le32_make(ch->config.max_external),
		.max_chain = vmb_le32_make(ch->config.max_chain),
		.slots = vmb_le32_make(highest_slot(items)),
		.generation = vmb_le32_make(items->generation),
		.serial = vmb_le64_make(ch->saving.serial + 1),
		.packets = vmb_le32_make(items->packets),
		.answers = vmb_le32_make(items->count - items->packets),
	};

	memcpy(saved.type, &identity.type, sizeof(saved.type));
	memcpy(saved.instance, &identity.instance, sizeof(saved.instance));
	if (open != NULL) {
		saved.tx_in = vmb_le32_make(items->tx_in);
		/* Nobody reads the ring while the channel is paused. */
		saved.rx_out = vmb_le32_make(ch->rx.ring.out);
		saved.channel_id = vmb_le32_make(open->channel_id);
		saved.open_id = vmb_le32_make(open->open_id);
		saved.ring_gpadl = vmb_le32_make(open->ring_gpadl);
		saved.ring_pages = vmb_le32_make(open->ring_pages);
		saved.downstream_page_offset = vmb_le32_make(open->downstream_page_offset);
		saved.target_vp = vmb_le32_make(open->target_vp);
		saved.opens = vmb_le64_make(open->opens);
	}
	begin_chunk(to, KMCL_SAVED_CHANNEL);
	vmb_chunk_put_bytes(&to->writer, &saved, sizeof(saved));
	end_chunk(to);
}

static NTSTATUS
call_driver(struct kmcl_channel *ch, struct kmcl_packet *packet, void *room, UINT32 bytes,
            UINT32 *needed)
{
	const struct kmcl_config *config = &ch->config;
	VMBCHANNEL handle = kmcl_channel_handle(ch);
	VMBPACKET object = (VMBPACKET)(void *)packet;
	struct kmcl_channel *outer = kmcl_save_callback_begin(ch);
	NTSTATUS status;

	if (config->save_packet != NULL)
		status = config->save_packet(handle, object, room, bytes, needed);
	else
		status = config->save_packet_ex(config->save_context, handle, object, room, bytes,
		                                needed);
	kmcl_save_callback_end(outer);
	return status;
}

/* How much the driver wants to add (ESP-2); a failure without a size is one. */
static NTSTATUS
ask_driver(struct kmcl_channel *ch, struct kmcl_packet *packet, uint32_t *bytes)
{
	UINT32 needed = 0;
	NTSTATUS status = call_driver(ch, packet, NULL, 0, &needed);

	*bytes = NT_SUCCESS(status) ? 0 : needed;
	return NT_SUCCESS(status) || needed != 0 ? STATUS_SUCCESS : status;
}

static NTSTATUS
put_driver_part(struct kmcl_channel *ch, struct output *to, struct kmcl_packet *packet,
                uint32_t bytes)
{
	UINT32 needed = bytes;
	NTSTATUS status;
	void *room;

	if (bytes == 0)
		return STATUS_SUCCESS;
	room = vmb_chunk_put_room(&to->writer, ((size_t)bytes + 7) & ~(size_t)7);
	if (room == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	status = call_driver(ch, packet, room, bytes, &needed);
	return NT_SUCCESS(status) ? STATUS_SUCCESS : status;
}

static NTSTATUS
put_packet(struct kmcl_channel *ch, struct output *to, struct kmcl_packet *packet)
{
	bool queued = packet->state == KMCL_PACKET_QUEUED;
	uint32_t header = VMB_DESCRIPTOR_BYTES + (ch->config.pipe ? VMB_PIPE_HEADER_BYTES : 0);
	uint32_t payload = queued ? packet->out.body_bytes - header : 0;
	const struct kmcl_saved_request request = {
		.state = vmb_le32_make(queued ? KMCL_SAVED_QUEUED : KMCL_SAVED_IN_RING),
		.wants_completion = vmb_le32_make(packet->wants_completion),
		.transaction_id = vmb_le64_make(packet->transaction_id),
		.payload_bytes = vmb_le32_make(payload),
	};
	uint32_t driver_bytes;
	NTSTATUS status = ask_driver(ch, packet, &driver_bytes);
	const struct kmcl_saved_packet parts = {
		.library_bytes = vmb_le32_make((uint32_t)sizeof(request) + ((payload + 7u) & ~7u)),
		.driver_bytes = vmb_le32_make(driver_bytes),
	};

	if (status != STATUS_SUCCESS)
		return status;
	begin_chunk(to, KMCL_SAVED_PACKET);
	vmb_chunk_put_bytes(&to->writer, &parts, sizeof(parts));
	vmb_chunk_put_bytes(&to->writer, &request, sizeof(request));
	put_padded(to, packet->out.image + header, payload);
	status = put_driver_part(ch, to, packet, driver_bytes);
	end_chunk(to);
	return status;
}

static void
put_answer(struct output *to, const struct kmcl_incoming *incoming)
{
	uint32_t payload = incoming->out.body_bytes - VMB_DESCRIPTOR_BYTES;
	const struct kmcl_saved_answer answer = {
		.transaction_id = vmb_le64_make(incoming->transaction_id),
		.payload_bytes = vmb_le32_make(payload),
	};

	begin_chunk(to, KMCL_SAVED_ANSWER);
	vmb_chunk_put_bytes(&to->writer, &answer, sizeof(answer));
	put_padded(to, incoming->out.image + VMB_DESCRIPTOR_BYTES, payload);
	end_chunk(to);
}

static NTSTATUS
put_all(struct kmcl_channel *ch, struct output *to, const struct items *items,
        const struct kmcl_open_identity *open)
{
	NTSTATUS status = STATUS_SUCCESS;

	put_channel(ch, to, items, open);
	for (uint32_t i = 0; i < items->count && status == STATUS_SUCCESS; i++) {
		struct kmcl_out *out = items->list[i];

		if (out->kind == KMCL_OUT_PACKET)
			status = put_packet(ch, to, CONTAINING_RECORD(out, struct kmcl_packet, out));
		else
			put_answer(to, CONTAINING_RECORD(out, struct kmcl_incoming, out));
	}
	begin_chunk(to, KMCL_SAVED_END);
	end_chunk(to);
	return status == STATUS_SUCCESS && !vmb_chunk_writer_fits(&to->writer)
	               ? STATUS_INSUFFICIENT_RESOURCES
	               : status;
}

/* ---- SaveBegin ------------------------------------------------------------------------------- */

/* The state context is held. */
static NTSTATUS
write_snapshot(struct kmcl_channel *ch, struct output *to)
{
	bool is_open = kmcl_channel_state(ch) == KMCL_S_PAUSED;
	struct kmcl_open_identity open;
	struct items items = { 0 };
	NTSTATUS status;

	/* A partial restore is not a state that could be saved. */
	if (ch->saving.restore != NULL || (is_open && !kmcl_server_open_identity(ch, &open)))
		return STATUS_INVALID_DEVICE_STATE;
	if (!take_items(ch, &items))
		status = STATUS_INSUFFICIENT_RESOURCES;
	else if (items.packets != 0 && ch->config.save_packet == NULL &&
	         ch->config.save_packet_ex == NULL)
		status = STATUS_NOT_SUPPORTED;
	else
		status = put_all(ch, to, &items, is_open ? &open : NULL);
	free(items.list);
	return status;
}

static NTSTATUS
save_begin(struct kmcl_channel *ch)
{
	struct kmcl_saving *saving = &ch->saving;
	struct output to = { .writer = { .grow = grow } };
	uint64_t epoch;
	NTSTATUS status;
	bool begun;

	if (!kmcl_fsm_hold(ch, true))
		return STATUS_INVALID_DEVICE_STATE;
	pthread_mutex_lock(&saving->lock);
	begun = saving->snapshot != NULL;
	pthread_mutex_unlock(&saving->lock);
	/*
	 * Nothing that outdates a save runs while the state context is held, except a failure, which is
	 * then not of it.
	 */
	epoch = atomic_load(&saving->epoch);
	status = begun ? STATUS_INVALID_DEVICE_STATE : write_snapshot(ch, &to);
	if (status == STATUS_SUCCESS) {
		pthread_mutex_lock(&saving->lock);
		saving->snapshot = to.writer.bytes;
		saving->bytes = (uint32_t)to.writer.used;
		saving->done = 0;
		saving->serial++;
		saving->snapshot_epoch = epoch;
		atomic_store(&saving->saved, 0);
		pthread_mutex_unlock(&saving->lock);
	} else {
		free(to.writer.bytes);
	}
	kmcl_fsm_let_go(ch);
	return status;
}

NTSTATUS
VmbChannelSaveBegin(VMBCHANNEL Channel)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);
	NTSTATUS status;

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (!ch->config.is_server)
		return STATUS_INVALID_DEVICE_REQUEST;
	if (kmcl_fsm_inside_callback(ch, "VmbChannelSaveBegin"))
		return STATUS_INVALID_DEVICE_STATE;
	atomic_fetch_add(&ch->fsm.callers, 1);
	status = save_begin(ch);
	atomic_fetch_sub(&ch->fsm.callers, 1);
	return status;
}

/* ---- SaveContinue, SaveEnd ------------------------------------------------------------------- */

/* As many whole chunks as fit; returns their bytes. */
static uint32_t
whole_chunks(const struct kmcl_saving *saving, uint32_t room)
{
	uint32_t fits = 0;

	while (saving->done + fits < saving->bytes) {
		size_t next = vmb_chunk_bytes(saving->snapshot + saving->done + fits);

		if (next > room - fits)
			break;
		fits += (uint32_t)next;
	}
	return fits;
}

static NTSTATUS
save_continue_locked(struct kmcl_saving *saving, void *buffer, uint32_t room, ULONG *filled,
                     ULONG *required)
{
	uint32_t bytes;

	if (saving->snapshot == NULL)
		return STATUS_INVALID_DEVICE_STATE;
	bytes = whole_chunks(saving, room);
	if (bytes != 0)
		memcpy(buffer, saving->snapshot + saving->done, bytes);
	saving->done += bytes;
	*filled = bytes;
	if (saving->done == saving->bytes) {
		atomic_store(&saving->saved, saving->snapshot_epoch);
		return STATUS_SUCCESS;
	}
	*required = (ULONG)vmb_chunk_bytes(saving->snapshot + saving->done);
	return bytes != 0 ? STATUS_BUFFER_OVERFLOW : STATUS_BUFFER_TOO_SMALL;
}

NTSTATUS
VmbChannelSaveContinue(VMBCHANNEL Channel, PVOID SaveBuffer, ULONG SaveBufferSize,
                       PULONG BytesFilled, PULONG BytesRequired)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);
	NTSTATUS status;

	/* Both are written whatever comes of the call (SVC-2). */
	if (BytesFilled != NULL)
		*BytesFilled = 0;
	if (BytesRequired != NULL)
		*BytesRequired = 0;
	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (SaveBuffer == NULL && SaveBufferSize != 0)
		return STATUS_INVALID_PARAMETER_2;
	if (BytesFilled == NULL)
		return STATUS_INVALID_PARAMETER_4;
	if (BytesRequired == NULL)
		return STATUS_INVALID_PARAMETER_5;
	if (!ch->config.is_server)
		return STATUS_INVALID_DEVICE_REQUEST;
	if (kmcl_fsm_inside_callback(ch, "VmbChannelSaveContinue"))
		return STATUS_INVALID_DEVICE_STATE;
	atomic_fetch_add(&ch->fsm.callers, 1);
	pthread_mutex_lock(&ch->saving.lock);
	status = save_continue_locked(&ch->saving, SaveBuffer, SaveBufferSize, BytesFilled,
	                              BytesRequired);
	pthread_mutex_unlock(&ch->saving.lock);
	atomic_fetch_sub(&ch->fsm.callers, 1);
	return status;
}

VOID
VmbChannelSaveEnd(VMBCHANNEL Channel)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);

	if (ch == NULL || !ch->config.is_server) {
		kmcl_misuse(ch, "VmbChannelSaveEnd: not the handle of a server channel");
		return;
	}
	if (kmcl_fsm_inside_callback(ch, "VmbChannelSaveEnd"))
		return;
	atomic_fetch_add(&ch->fsm.callers, 1);
	pthread_mutex_lock(&ch->saving.lock);
	drop_snapshot_locked(ch);
	pthread_mutex_unlock(&ch->saving.lock);
	atomic_fetch_sub(&ch->fsm.callers, 1);
}
