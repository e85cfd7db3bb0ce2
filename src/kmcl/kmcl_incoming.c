/* SPDX-License-Identifier: MIT */
/*
 * What a driver does with an indicated packet: complete, fail, defer, look at its external data (PKC, PKF, PKD, PGX).
 */
#include "kmcl/kmcl_incoming.h"

#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_fsm.h"
#include "kmcl/kmcl_rx.h"
#include "kmcl/kmcl_tx.h"
#include "nt/nt_mdl.h"

struct kmcl_incoming *
kmcl_incoming_from_handle(VMBPACKETCOMPLETION handle)
{
	struct kmcl_incoming *incoming = (struct kmcl_incoming *)(void *)handle;

	return incoming != NULL && incoming->signature == KMCL_INCOMING_SIGNATURE ? incoming : NULL;
}

struct kmcl_incoming *
kmcl_incoming_get(struct kmcl_channel *ch)
{
	struct kmcl_incoming *incoming;
	size_t head = (sizeof(*incoming) + 15) & ~(size_t)15;
	size_t context = (ch->config.client_context + 15u) & ~15u;

	pthread_mutex_lock(&ch->rx.pool_lock);
	incoming = ch->rx.free_list;
	if (incoming != NULL)
		ch->rx.free_list = incoming->next_free;
	pthread_mutex_unlock(&ch->rx.pool_lock);
	if (incoming == NULL) {
		incoming = aligned_alloc(16, (head + context + ch->geometry.body_bytes + 15) &
		                                     ~(size_t)15);
		if (incoming == NULL)
			return NULL;
		memset(incoming, 0, sizeof(*incoming));
		incoming->signature = KMCL_INCOMING_SIGNATURE;
		incoming->channel = ch;
		incoming->out.kind = KMCL_OUT_COMPLETION;
		incoming->client_context = context != 0 ? (uint8_t *)incoming + head : NULL;
		incoming->buffer = (uint8_t *)incoming + head + context;
	}
	if (context != 0)
		memset(incoming->client_context, 0, context);
	return incoming;
}

static void
drop_mappings(struct kmcl_incoming *incoming)
{
	for (PMDL mdl = incoming->mdl; mdl != NULL; mdl = mdl->Next)
		nt_mdl_release_guest(mdl);
	incoming->mdl = NULL;
}

void
kmcl_incoming_free(struct kmcl_incoming *incoming)
{
	struct kmcl_channel *ch = incoming->channel;

	drop_mappings(incoming);
	free(incoming->large_image);
	incoming->large_image = NULL;
	atomic_store(&incoming->state, KMCL_INCOMING_FREE);
	pthread_mutex_lock(&ch->rx.pool_lock);
	incoming->next_free = ch->rx.free_list;
	ch->rx.free_list = incoming;
	pthread_mutex_unlock(&ch->rx.pool_lock);
}

void
kmcl_incoming_drain(struct kmcl_channel *ch)
{
	while (ch->rx.free_list != NULL) {
		struct kmcl_incoming *incoming = ch->rx.free_list;

		ch->rx.free_list = incoming->next_free;
		incoming->signature = 0;
		free(incoming->mdl_memory);
		free(incoming);
	}
}

bool
kmcl_incoming_keep_answer(struct kmcl_incoming *incoming, const void *descriptor,
                          const void *payload, uint32_t bytes)
{
	struct kmcl_channel *ch = incoming->channel;
	uint8_t *image = incoming->buffer;

	if (VMB_DESCRIPTOR_BYTES + bytes > ch->geometry.body_bytes) {
		image = incoming->large_image = malloc(VMB_DESCRIPTOR_BYTES + bytes);
		if (image == NULL)
			return false;
	}
	/* The answer may lie in the very buffer that becomes the image. */
	if (bytes != 0)
		memmove(image + VMB_DESCRIPTOR_BYTES, payload, bytes);
	memcpy(image, descriptor, VMB_DESCRIPTOR_BYTES);
	incoming->out.image = image;
	incoming->out.body_bytes = VMB_DESCRIPTOR_BYTES + bytes;
	return true;
}

/* The packet no longer counts as indicated; a queue blocked by quota, and a drain, go on. */
static void
release_outstanding(struct kmcl_channel *ch)
{
	/* With the last packet gone the channel may be closed and freed behind our back. */
	atomic_fetch_add(&ch->rx.releasing, 1);
	if (atomic_fetch_sub(&ch->rx.outstanding, 1) == 1 && !atomic_load(&ch->rx.enabled))
		kmcl_fsm_poke(ch);
	if (atomic_load(&ch->rx.blocked) && atomic_exchange(&ch->rx.blocked, false))
		kmcl_rx_kick(ch);
	atomic_fetch_sub(&ch->rx.releasing, 1);
}

/* Take the packet from the driver: true for exactly one of several callers (PKC-4). */
static bool
take_indicated(struct kmcl_incoming *incoming)
{
	uint32_t expected = KMCL_INCOMING_INDICATED;

	return atomic_compare_exchange_strong(&incoming->state, &expected,
	                                      KMCL_INCOMING_COMPLETING);
}

/* ---- API ---------------------------------------------------------------------------------------- */

VOID
VmbChannelPacketComplete(VMBPACKETCOMPLETION PacketCompletionContext, PVOID PacketCompletionBuffer,
                         UINT32 BufSize)
{
	struct kmcl_incoming *incoming = kmcl_incoming_from_handle(PacketCompletionContext);
	struct kmcl_channel *ch;

	if (incoming == NULL || !take_indicated(incoming)) {
		kmcl_misuse(incoming != NULL ? incoming->channel : NULL,
		            "VmbChannelPacketComplete: not an indicated packet, or completed twice");
		return;
	}
	ch = incoming->channel;
	if (PacketCompletionBuffer == NULL && BufSize != 0) {
		kmcl_misuse(ch, "VmbChannelPacketComplete: %u bytes but no buffer; an empty "
		                "completion is sent", BufSize);
		BufSize = 0;
	}
	/* The peer may reuse its pages once it sees the answer, so ours must be gone before (PKC-6). */
	drop_mappings(incoming);
	if (incoming->wants_completion)
		kmcl_tx_complete(incoming, PacketCompletionBuffer, BufSize);
	else
		kmcl_incoming_free(incoming);
	release_outstanding(ch);
}

VOID
VmbChannelPacketFail(VMBPACKETCOMPLETION PacketCompletionContext)
{
	struct kmcl_incoming *incoming = kmcl_incoming_from_handle(PacketCompletionContext);
	struct kmcl_channel *ch;

	if (incoming == NULL || !take_indicated(incoming)) {
		kmcl_misuse(incoming != NULL ? incoming->channel : NULL,
		            "VmbChannelPacketFail: not an indicated packet, or ended before");
		return;
	}
	ch = incoming->channel;
	kmcl_channel_fail(ch, "the driver failed a packet");
	kmcl_incoming_free(incoming);
	release_outstanding(ch);
}

VOID
VmbChannelPacketDeferToPassive(VMBPACKETCOMPLETION PacketCompletionContext)
{
	struct kmcl_incoming *incoming = kmcl_incoming_from_handle(PacketCompletionContext);

	if (incoming == NULL || kmcl_thread.indicating != incoming ||
	    atomic_load(&incoming->state) != KMCL_INCOMING_INDICATED)
		kmcl_misuse(incoming != NULL ? incoming->channel : NULL,
		            "VmbChannelPacketDeferToPassive: only inside ProcessPacket, for its "
		            "packet, before it is completed");
	else
		kmcl_thread.deferred = true;
}

static size_t
mdl_bytes(uint64_t pages)
{
	return sizeof(MDL) + (size_t)pages * sizeof(PFN_NUMBER);
}

/* One MDL per range (PGX-1). The ranges are a private copy; pages are checked against the guest's memory. */
static NTSTATUS
build_chain(struct kmcl_incoming *incoming, bool writable)
{
	struct kmcl_channel *ch = incoming->channel;
	struct vmb_mem *memory = ch->link.memory;
	struct vmb_gpa_cursor cursor;
	struct vmb_gpa_range range;
	enum vmb_status status;
	const char *why;
	uint64_t bytes = 0;
	uint8_t *at;
	PMDL *link = &incoming->mdl;

	if (memory == NULL)
		return STATUS_DEVICE_REMOVED;
	vmb_gpa_begin(&cursor, incoming->ranges, incoming->ranges_bytes, incoming->range_count);
	while ((status = vmb_gpa_next(&cursor, &range, &why)) == VMB_OK) {
		bytes += range.byte_count;
		if (bytes > ch->config.max_external)
			return STATUS_INVALID_BUFFER_SIZE;
		if (!vmb_mem_has_pages(memory, range.pfns, range.page_count, false))
			return STATUS_INVALID_PARAMETER_1;
		if (writable && !vmb_mem_has_pages(memory, range.pfns, range.page_count, true))
			return STATUS_ACCESS_DENIED;
	}
	if (status != VMB_EMPTY)
		return STATUS_INVALID_PARAMETER_1;

	if (incoming->mdl_memory == NULL) {
		uint64_t most = (uint64_t)ch->config.max_external / PAGE_SIZE + 2ull * ch->config.max_chain;

		incoming->mdl_memory = malloc(mdl_bytes(0) * ch->config.max_chain + 8 * (size_t)most);
		if (incoming->mdl_memory == NULL)
			return STATUS_INSUFFICIENT_RESOURCES;
	}
	at = incoming->mdl_memory;
	vmb_gpa_begin(&cursor, incoming->ranges, incoming->ranges_bytes, incoming->range_count);
	while (vmb_gpa_next(&cursor, &range, &why) == VMB_OK) {
		PMDL mdl = (PMDL)(void *)at;

		nt_mdl_init_guest(mdl, memory, &range, writable);
		*link = mdl;
		link = &mdl->Next;
		at += mdl_bytes(range.page_count);
	}
	kmcl_count(&ch->stats.bytes_shared, bytes);
	return STATUS_SUCCESS;
}

NTSTATUS
VmbChannelPacketGetExternalData(VMBPACKETCOMPLETION PacketCompletionContext, UINT32 Flags, PMDL *Mdl)
{
	struct kmcl_incoming *incoming = kmcl_incoming_from_handle(PacketCompletionContext);
	NTSTATUS status = STATUS_SUCCESS;

	if (incoming == NULL || atomic_load(&incoming->state) != KMCL_INCOMING_INDICATED) {
		kmcl_misuse(incoming != NULL ? incoming->channel : NULL,
		            "VmbChannelPacketGetExternalData: not an indicated packet");
		return STATUS_INVALID_PARAMETER_1;
	}
	if ((Flags & ~(UINT32)VMBUS_CHANNEL_PACKET_EXTERNAL_DATA_FLAGS) != 0)
		return STATUS_INVALID_PARAMETER_2;
	if (Mdl == NULL)
		return STATUS_INVALID_PARAMETER_3;
	*Mdl = NULL;
	if (incoming->range_count == 0)
		return STATUS_NOT_FOUND;
	if (incoming->external_too_big || incoming->range_count > incoming->channel->config.max_chain)
		return STATUS_INVALID_BUFFER_SIZE;
	if (incoming->mdl == NULL)
		status = build_chain(incoming,
		                     (Flags & VMBUS_CHANNEL_PACKET_EXTERNAL_DATA_FLAG_READ_ONLY) == 0);
	if (status == STATUS_SUCCESS)
		*Mdl = incoming->mdl;
	return status;
}
