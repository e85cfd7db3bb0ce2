/* SPDX-License-Identifier: MIT */
/*
 * What a driver does with an indicated packet: complete, fail, defer, look at its external data
 * (PKC, PKF, PKD, PGX).
 */
#include "kmcl/kmcl_incoming.h"

#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_fsm.h"
#include "kmcl/kmcl_rx.h"
#include "kmcl/kmcl_transfer.h"
#include "kmcl/kmcl_tx.h"
#include "nt/nt_mdl.h"

/*
 * A driver that looks at a packet's buffer after completing it is caught by ASan, as one that keeps
 * freed memory is (PKC-7).
 */
#if defined(__has_feature)
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#define POISON(p, bytes) ASAN_POISON_MEMORY_REGION(p, bytes)
#define UNPOISON(p, bytes) ASAN_UNPOISON_MEMORY_REGION(p, bytes)
#else
#define POISON(p, bytes) ((void)(p), (void)(bytes))
#define UNPOISON(p, bytes) ((void)(p), (void)(bytes))
#endif

struct kmcl_incoming *
kmcl_incoming_from_handle(VMBPACKETCOMPLETION handle)
{
	struct kmcl_incoming *incoming = (struct kmcl_incoming *)(void *)handle;

	return incoming != NULL && incoming->signature == KMCL_INCOMING_SIGNATURE ? incoming : NULL;
}

/* Does this thread process the channel, and so hold rx.owner? */
static bool
is_owner(const struct kmcl_channel *ch)
{
	return kmcl_thread.rx_channel == ch;
}

static struct kmcl_incoming *
take_free(struct kmcl_channel *ch)
{
	bool owner = is_owner(ch);
	struct kmcl_incoming *incoming = owner ? ch->rx.own_free : NULL;

	if (incoming == NULL) {
		pthread_mutex_lock(&ch->rx.pool_lock);
		incoming = ch->rx.free_list;
		/* The owner takes all at once, so that a driver that ends packets elsewhere costs it a lock now and then. */
		if (incoming != NULL)
			ch->rx.free_list = owner ? NULL : incoming->next_free;
		pthread_mutex_unlock(&ch->rx.pool_lock);
	}
	if (owner && incoming != NULL)
		ch->rx.own_free = incoming->next_free;
	return incoming;
}

struct kmcl_incoming *
kmcl_incoming_get(struct kmcl_channel *ch)
{
	struct kmcl_incoming *incoming = take_free(ch);
	size_t head = (sizeof(*incoming) + 15) & ~(size_t)15;
	size_t context = (ch->config.client_context + 15u) & ~15u;

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
	UNPOISON(incoming->buffer, ch->geometry.body_bytes);
	if (context != 0)
		memset(incoming->client_context, 0, context);
	return incoming;
}

/* Pages of a transfer are held only while there is a chain of them. */
static void
drop_mappings(struct kmcl_incoming *incoming)
{
	if (incoming->mdl == NULL)
		return;
	for (PMDL mdl = incoming->mdl; mdl != NULL; mdl = mdl->Next)
		nt_mdl_release_guest(mdl);
	incoming->mdl = NULL;
	kmcl_transfer_release(incoming);
}

void
kmcl_incoming_free(struct kmcl_incoming *incoming)
{
	struct kmcl_channel *ch = incoming->channel;

	drop_mappings(incoming);
	if (incoming->large_image != NULL) {
		free(incoming->large_image);
		incoming->large_image = NULL;
	}
	POISON(incoming->buffer, ch->geometry.body_bytes);
	atomic_store_explicit(&incoming->state, KMCL_INCOMING_FREE, memory_order_release);
	if (is_owner(ch)) {
		incoming->next_free = ch->rx.own_free;
		ch->rx.own_free = incoming;
		return;
	}
	pthread_mutex_lock(&ch->rx.pool_lock);
	incoming->next_free = ch->rx.free_list;
	ch->rx.free_list = incoming;
	pthread_mutex_unlock(&ch->rx.pool_lock);
}

static void
drain_list(struct kmcl_channel *ch, struct kmcl_incoming **list)
{
	while (*list != NULL) {
		struct kmcl_incoming *incoming = *list;

		*list = incoming->next_free;
		incoming->signature = 0;
		UNPOISON(incoming->buffer, ch->geometry.body_bytes);
		free(incoming->mdl_memory);
		free(incoming->transfer);
		free(incoming);
	}
}

void
kmcl_incoming_drain(struct kmcl_channel *ch)
{
	drain_list(ch, &ch->rx.free_list);
	drain_list(ch, &ch->rx.own_free);
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
	bool owner = is_owner(ch);

	/*
	 * What must not pass this count are the two looks below. The owner needs no barrier for that: it is itself who
	 * blocks the queue, and kmcl_rx_stop() waits for it before a drain looks for what is outstanding.
	 * Of others the last packet lets the channel be closed and freed behind their back; for them Cleanup waits.
	 */
	if (owner) {
		/* Pairs with the loads of kmcl_rx_outstanding(): who counts this end has seen its beginning. */
		atomic_store_explicit(&ch->rx.ended_here,
		                      atomic_load_explicit(&ch->rx.ended_here, memory_order_relaxed) + 1,
		                      memory_order_release);
	} else {
		atomic_fetch_add(&ch->rx.releasing, 1);
		atomic_fetch_add(&ch->rx.ended, 1);
	}
	if (!atomic_load(&ch->rx.enabled) && kmcl_rx_outstanding(ch) == 0)
		kmcl_fsm_poke(ch);
	if (atomic_load(&ch->rx.blocked) && atomic_exchange(&ch->rx.blocked, false))
		kmcl_rx_kick(ch);
	if (!owner)
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

/* To be delivered again. False: this is not the thread that indicates it, or the packet is over. */
static bool
put_back(struct kmcl_incoming *incoming)
{
	uint32_t expected = KMCL_INCOMING_INDICATED;

	if (kmcl_thread.indicating != incoming ||
	    !atomic_compare_exchange_strong(&incoming->state, &expected, KMCL_INCOMING_DEFERRED))
		return false;
	kmcl_thread.deferred = true;
	return true;
}

VOID
VmbChannelPacketDeferToPassive(VMBPACKETCOMPLETION PacketCompletionContext)
{
	struct kmcl_incoming *incoming = kmcl_incoming_from_handle(PacketCompletionContext);

	if (incoming == NULL || !put_back(incoming))
		kmcl_misuse(incoming != NULL ? incoming->channel : NULL,
		            "VmbChannelPacketDeferToPassive: only inside ProcessPacket, for its "
		            "packet, once, before it is completed");
}

PVOID
VmbChannelPacketGetClientContext(VMBPACKETCOMPLETION PacketCompletionContext)
{
	struct kmcl_incoming *incoming = kmcl_incoming_from_handle(PacketCompletionContext);

	if (incoming == NULL || atomic_load(&incoming->state) != KMCL_INCOMING_INDICATED) {
		kmcl_misuse(incoming != NULL ? incoming->channel : NULL,
		            "VmbChannelPacketGetClientContext: not an indicated packet");
		return NULL;
	}
	return incoming->client_context;
}

static size_t
mdl_bytes(uint64_t pages)
{
	return sizeof(MDL) + (size_t)pages * sizeof(PFN_NUMBER);
}

struct range_list {
	const uint8_t *ranges;
	uint32_t bytes, count;
};

static NTSTATUS
check_pages(const struct vmb_mem *memory, const struct vmb_gpa_range *range, bool writable, bool *one_run)
{
	*one_run = vmb_mem_has_run(memory, range->pfns, range->page_count, writable);
	if (*one_run || vmb_mem_has_pages(memory, range->pfns, range->page_count, writable))
		return STATUS_SUCCESS;
	return writable && vmb_mem_has_pages(memory, range->pfns, range->page_count, false)
	               ? STATUS_ACCESS_DENIED
	               : STATUS_INVALID_PARAMETER_1;
}

static bool
get_mdl_memory(struct kmcl_incoming *incoming)
{
	const struct kmcl_config *config = &incoming->channel->config;

	if (incoming->mdl_memory == NULL)
		incoming->mdl_memory = malloc(mdl_bytes(0) * config->max_chain +
		                              8 * (size_t)(config->max_external / PAGE_SIZE +
		                                           2ull * config->max_chain));
	return incoming->mdl_memory != NULL;
}

/*
 * One MDL per range (PGX-1), until one is wrong. The ranges are a private copy, as many as the limits allow; pages
 * are checked against the guest's memory, which stays at least until the packet has ended.
 */
static NTSTATUS
build_chain(struct kmcl_incoming *incoming, const struct range_list *list, bool writable)
{
	struct kmcl_channel *ch = incoming->channel;
	struct vmb_mem *memory = ch->link.memory;
	struct vmb_gpa_cursor cursor;
	struct vmb_gpa_range range;
	enum vmb_status status;
	NTSTATUS result;
	const char *why;
	uint64_t bytes = 0;
	bool one_run;
	uint8_t *at;
	PMDL first, *link = &first;

	if (memory == NULL)
		return STATUS_DEVICE_REMOVED;
	if (!get_mdl_memory(incoming))
		return STATUS_INSUFFICIENT_RESOURCES;
	at = incoming->mdl_memory;
	vmb_gpa_begin(&cursor, list->ranges, list->bytes, list->count);
	while ((status = vmb_gpa_next(&cursor, &range, &why)) == VMB_OK) {
		PMDL mdl = (PMDL)(void *)at;

		bytes += range.byte_count;
		if (bytes > ch->config.max_external)
			return STATUS_INVALID_BUFFER_SIZE;
		result = check_pages(memory, &range, writable, &one_run);
		if (result != STATUS_SUCCESS)
			return result;
		nt_mdl_init_guest(mdl, memory, &range, writable);
		if (one_run)
			nt_mdl_set_one_run(mdl);
		*link = mdl;
		link = &mdl->Next;
		at += mdl_bytes(range.page_count);
	}
	if (status != VMB_EMPTY)
		return STATUS_INVALID_PARAMETER_1;
	incoming->mdl = first;
	kmcl_count(&ch->stats.bytes_shared, bytes);
	return STATUS_SUCCESS;
}

/* A chain for what the packet names: pages of the guest's, or parts of a GPADL of ours (PGX-10). */
static NTSTATUS
describe_external(struct kmcl_incoming *incoming, bool writable)
{
	struct range_list list = { incoming->ranges, incoming->ranges_bytes, incoming->range_count };
	NTSTATUS status;

	if (incoming->is_transfer) {
		status = kmcl_transfer_resolve(incoming, &list.ranges, &list.bytes, &list.count);
		if (status != STATUS_SUCCESS)
			return status;
	}
	status = build_chain(incoming, &list, writable);
	if (status != STATUS_SUCCESS)
		kmcl_transfer_release(incoming);
	return status;
}

static bool
met_pending_data(const struct kmcl_incoming *incoming)
{
	return kmcl_thread.indicating == incoming && kmcl_thread.pending;
}

/* In the driver's hands; a packet that met pending data is so to the end of its ProcessPacket. */
static bool
is_indicated(const struct kmcl_incoming *incoming)
{
	return atomic_load(&incoming->state) == KMCL_INCOMING_INDICATED || met_pending_data(incoming);
}

/* Once per packet, inside ProcessPacket only: nowhere else can the packet be delivered again (PGX-2). */
static bool
is_pending(struct kmcl_incoming *incoming)
{
	_Atomic uint32_t *wanted = &incoming->channel->rx.pending_wanted;
	uint32_t left = atomic_load(wanted);

	if (met_pending_data(incoming))
		return true;
	if (left == 0 || incoming->mdl != NULL || incoming->was_pending ||
	    kmcl_thread.indicating != incoming)
		return false;
	while (!atomic_compare_exchange_weak(wanted, &left, left - 1)) {
		if (left == 0)
			return false;
	}
	incoming->was_pending = kmcl_thread.pending = true;
	return put_back(incoming);
}

void
kmcl_channel_force_pending(VMBCHANNEL channel, uint32_t packets)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(channel);

	if (ch == NULL)
		kmcl_misuse(NULL, "kmcl_channel_force_pending: not a channel handle");
	else
		atomic_store(&ch->rx.pending_wanted, packets);
}

NTSTATUS
VmbChannelPacketGetExternalData(VMBPACKETCOMPLETION PacketCompletionContext, UINT32 Flags, PMDL *Mdl)
{
	struct kmcl_incoming *incoming = kmcl_incoming_from_handle(PacketCompletionContext);
	NTSTATUS status = STATUS_SUCCESS;

	if (incoming == NULL || !is_indicated(incoming)) {
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
	if (is_pending(incoming))
		return STATUS_PENDING;
	if (incoming->mdl == NULL)
		status = describe_external(
		        incoming, (Flags & VMBUS_CHANNEL_PACKET_EXTERNAL_DATA_FLAG_READ_ONLY) == 0);
	if (status == STATUS_SUCCESS)
		*Mdl = incoming->mdl;
	return status;
}
