/* SPDX-License-Identifier: MIT */
/*
 * Packet objects (PKA, PFR, PIN, PGC, PGP, PPT, PCR). A packet is one block: this struct, then the
 * image of what goes into the ring, so that caller memory (VmbPacketInitialize) and pool memory are
 * the same thing.
 */
#include "kmcl/kmcl_packet.h"

#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_geometry.h"
#include "kmcl/kmcl_slots.h"

#define LOOKASIDE_DEPTH 256u

static void
default_completion(VMBPACKET handle, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	(void)status;
	(void)buffer;
	(void)bytes;
	VmbPacketFree(handle);
}

struct kmcl_packet *
kmcl_packet_from_handle(VMBPACKET handle)
{
	struct kmcl_packet *packet = (struct kmcl_packet *)(void *)handle;

	return packet != NULL && packet->signature == KMCL_PACKET_SIGNATURE ? packet : NULL;
}

static void
packet_setup(struct kmcl_channel *ch, struct kmcl_packet *packet)
{
	memset(packet, 0, sizeof(*packet));
	packet->signature = KMCL_PACKET_SIGNATURE;
	packet->channel = ch;
	packet->out.kind = KMCL_OUT_PACKET;
	packet->out.image = (uint8_t *)(packet + 1);
	packet->image_capacity = ch->geometry.body_bytes;
	if (ch->config.packet_context != 0) {
		/* The packet itself may lie at any multiple of 8. */
		packet->context = (void *)(((ULONG_PTR)packet->out.image + 15) & ~(ULONG_PTR)15);
		packet->out.image = (uint8_t *)packet->context +
		                    KMCL_CONTEXT_BYTES(ch->config.packet_context);
		memset(packet->context, 0, ch->config.packet_context);
	}
}

struct kmcl_packet *
kmcl_packet_get(struct kmcl_channel *ch)
{
	struct kmcl_packet *packet = NULL;

	vmb_lock_take(&ch->tx.lock);
	if (!IsListEmpty(&ch->tx.lookaside)) {
		packet = CONTAINING_RECORD(RemoveHeadList(&ch->tx.lookaside), struct kmcl_packet,
		                           all_link);
		ch->tx.lookaside_count--;
	}
	vmb_lock_give(&ch->tx.lock);
	if (packet == NULL) {
		packet = malloc(ch->geometry.packet_bytes);
		if (packet == NULL)
			return NULL;
		packet_setup(ch, packet);
		packet->from_pool = true;
	}
	packet->state = KMCL_PACKET_IDLE;
	packet->pointer = NULL;
	packet->routine = default_completion;
	packet->routine_ex = NULL;
	packet->sync = (struct kmcl_sync){ 0 };
	return packet;
}

void
kmcl_packet_put(struct kmcl_packet *packet)
{
	struct kmcl_channel *ch = packet->channel;
	bool keep;

	vmb_lock_take(&ch->tx.lock);
	keep = ch->tx.lookaside_count < max(LOOKASIDE_DEPTH, ch->tx.most_packets);
	packet->state = KMCL_PACKET_FREE;
	if (keep) {
		InsertHeadList(&ch->tx.lookaside, &packet->all_link);
		ch->tx.lookaside_count++;
	}
	vmb_lock_give(&ch->tx.lock);
	if (!keep) {
		packet->signature = 0;
		free(packet);
	}
}

void
kmcl_packet_forget_locked(struct kmcl_packet *packet)
{
	struct kmcl_tx *tx = &packet->channel->tx;

	RemoveEntryList(&packet->all_link);
	if (packet->wants_completion)
		tx->in_flight--;
	if (packet->transaction_id != 0)
		kmcl_slot_give(tx, packet->transaction_id);
	packet->transaction_id = 0;
	packet->restored = false;
	packet->state = KMCL_PACKET_IDLE;
}

void
kmcl_packet_drain_locked(struct kmcl_channel *ch)
{
	while (!IsListEmpty(&ch->tx.lookaside)) {
		struct kmcl_packet *packet = CONTAINING_RECORD(RemoveHeadList(&ch->tx.lookaside),
		                                               struct kmcl_packet, all_link);

		packet->signature = 0;
		free(packet);
	}
	ch->tx.lookaside_count = 0;
}

/* ---- API ---------------------------------------------------------------------------------------- */

/*
 * Room for one more packet in the driver's hands (V4-1), whose size stays from here on (IMP-4).
 * Before the packet is made, so that two threads cannot both take the last.
 */
static bool
count_packet(struct kmcl_channel *ch)
{
	bool room;

	vmb_lock_take(&ch->tx.lock);
	room = ch->tx.most_packets == 0 || ch->tx.pool_packets < ch->tx.most_packets;
	if (room)
		ch->tx.pool_packets++;
	vmb_lock_give(&ch->tx.lock);
	return room;
}

VMBPACKET
VmbPacketAllocate(VMBCHANNEL Channel)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);
	struct kmcl_packet *packet;

	if (ch == NULL) {
		kmcl_misuse(NULL, "VmbPacketAllocate: not a channel handle");
		return NULL;
	}
	if (!count_packet(ch))
		return NULL;
	packet = kmcl_packet_get(ch);
	vmb_lock_take(&ch->tx.lock);
	if (packet != NULL)
		InsertTailList(&ch->tx.allocated, &packet->allocated_link);
	else
		ch->tx.pool_packets--;
	vmb_lock_give(&ch->tx.lock);
	if (packet != NULL && packet->context != NULL)
		memset(packet->context, 0, ch->config.packet_context);
	return (VMBPACKET)(void *)packet;
}

VOID
VmbPacketFree(VMBPACKET VmbPacket)
{
	struct kmcl_packet *packet = kmcl_packet_from_handle(VmbPacket);
	struct kmcl_channel *ch;
	bool allowed;

	if (packet == NULL) {
		kmcl_misuse(NULL, "VmbPacketFree: not a packet handle, or freed twice");
		return;
	}
	ch = packet->channel;
	vmb_lock_take(&ch->tx.lock);
	allowed = packet->from_pool && packet->state == KMCL_PACKET_IDLE;
	if (allowed) {
		/* A second free from another thread must not pass the same check. */
		packet->state = KMCL_PACKET_FREE;
		RemoveEntryList(&packet->allocated_link);
	}
	vmb_lock_give(&ch->tx.lock);
	if (!allowed) {
		kmcl_misuse(ch, "VmbPacketFree: the packet is in use, already free, or lies in the "
		                "caller's own memory");
		return;
	}
	kmcl_packet_put(packet);
	/* Counted last: until then the size of packets stays (IMP-4). */
	vmb_lock_take(&ch->tx.lock);
	ch->tx.pool_packets--;
	vmb_lock_give(&ch->tx.lock);
}

VMBCHANNEL
VmbPacketGetChannel(VMBPACKET PacketObject)
{
	struct kmcl_packet *packet = kmcl_packet_from_handle(PacketObject);

	if (packet == NULL) {
		kmcl_misuse(NULL, "VmbPacketGetChannel: not a packet handle");
		return NULL;
	}
	return kmcl_channel_handle(packet->channel);
}

PVOID
VmbPacketGetPointer(VMBPACKET PacketObject)
{
	struct kmcl_packet *packet = kmcl_packet_from_handle(PacketObject);

	if (packet == NULL) {
		kmcl_misuse(NULL, "VmbPacketGetPointer: not a packet handle");
		return NULL;
	}
	return packet->pointer;
}

VOID
VmbPacketSetPointer(VMBPACKET PacketObject, PVOID Pointer)
{
	struct kmcl_packet *packet = kmcl_packet_from_handle(PacketObject);

	if (packet == NULL)
		kmcl_misuse(NULL, "VmbPacketSetPointer: not a packet handle");
	else
		packet->pointer = Pointer;
}

/* One of the two forms of a routine. `function` is for the report. */
static void
set_routine(struct kmcl_packet *packet, PFN_VMB_PACKET_COMPLETION_ROUTINE routine,
            PFN_VMB_PACKET_COMPLETION_ROUTINE_EX routine_ex, void *context, const char *function)
{
	struct kmcl_channel *ch;
	bool allowed;

	if (packet == NULL || (routine == NULL && routine_ex == NULL)) {
		kmcl_misuse(packet != NULL ? packet->channel : NULL,
		            "%s: not a packet handle, or no routine", function);
		return;
	}
	ch = packet->channel;
	vmb_lock_take(&ch->tx.lock);
	/* A restored packet may get its routine until it can end (PRS-2). */
	allowed = packet->state == KMCL_PACKET_IDLE || packet->restored;
	if (allowed) {
		packet->routine = routine;
		packet->routine_ex = routine_ex;
		packet->routine_context = context;
	}
	vmb_lock_give(&ch->tx.lock);
	if (!allowed)
		kmcl_misuse(ch, "%s: the packet is in use", function);
}

VOID
VmbPacketSetCompletionRoutine(VMBPACKET PacketObject,
                              PFN_VMB_PACKET_COMPLETION_ROUTINE CompletionRoutine)
{
	set_routine(kmcl_packet_from_handle(PacketObject), CompletionRoutine, NULL, NULL,
	            "VmbPacketSetCompletionRoutine");
}

VOID
VmbPacketSetCompletionRoutineEx(VMBPACKET PacketObject,
                                PFN_VMB_PACKET_COMPLETION_ROUTINE_EX CompletionRoutine,
                                PVOID Context)
{
	set_routine(kmcl_packet_from_handle(PacketObject), NULL, CompletionRoutine, Context,
	            "VmbPacketSetCompletionRoutineEx");
}

PVOID
VmbPacketGetInlinePacketContextPointer(VMBPACKET PacketObject)
{
	struct kmcl_packet *packet = kmcl_packet_from_handle(PacketObject);

	if (packet == NULL) {
		kmcl_misuse(NULL, "VmbPacketGetInlinePacketContextPointer: not a packet handle");
		return NULL;
	}
	return packet->context;
}

UINT32
VmbChannelSizeofPacket(VMBCHANNEL Channel)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);

	if (ch == NULL) {
		kmcl_misuse(NULL, "VmbChannelSizeofPacket: not a channel handle");
		return 0;
	}
	kmcl_geometry_freeze(ch);
	return ch->geometry.packet_bytes;
}

NTSTATUS
VmbPacketInitialize(VMBCHANNEL Channel, VMBPACKET VmbPacket, UINT32 ByteCount)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);
	struct kmcl_packet *packet = (struct kmcl_packet *)(void *)VmbPacket;

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (packet == NULL || (ULONG_PTR)packet % 8 != 0)
		return STATUS_INVALID_PARAMETER_2;
	vmb_lock_take(&ch->tx.lock);
	if (ByteCount < ch->geometry.packet_bytes) {
		vmb_lock_give(&ch->tx.lock);
		return STATUS_INVALID_PARAMETER_3;
	}
	ch->tx.size_handed_out = true;
	vmb_lock_give(&ch->tx.lock);
	packet_setup(ch, packet);
	return STATUS_SUCCESS;
}
