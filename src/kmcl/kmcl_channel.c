/* SPDX-License-Identifier: MIT */
/*
 * Channels: life, configuration, small queries (CHA, CHC, CHE, Init*, GII, GMM, CGP, CSP, SIP, SIL, STQ).
 */
#include "kmcl/kmcl_channel.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "kmcl/kmcl_bus.h"
#include "kmcl/kmcl_config.h"
#include "kmcl/kmcl_external.h"
#include "kmcl/kmcl_family.h"
#include "kmcl/kmcl_fsm.h"
#include "kmcl/kmcl_geometry.h"
#include "kmcl/kmcl_incoming.h"
#include "kmcl/kmcl_inherit.h"
#include "kmcl/kmcl_log.h"
#include "kmcl/kmcl_loop.h"
#include "kmcl/kmcl_packet.h"
#include "kmcl/kmcl_reserve.h"
#include "kmcl/kmcl_role.h"
#include "kmcl/kmcl_rx.h"
#include "kmcl/kmcl_save.h"
#include "kmcl/kmcl_slots.h"
#include "kmcl/kmcl_tx.h"

#define LARGEST_PAYLOAD (VMB_MAX_BODY_BYTES - VMB_DESCRIPTOR_BYTES) /* IMP-2 */
#define LARGEST_RING_PAGES 16384u

static void
set_defaults(struct kmcl_config *config)
{
	config->max_packet = 4096;
	config->max_external = 1024 * 1024;
	config->max_chain = 32;
	config->in_pages = config->out_pages = 16;
}

static void
destroy_role(struct kmcl_channel *ch)
{
	if (ch->config.is_server)
		kmcl_server_destroy(ch);
	else
		kmcl_client_destroy(ch);
}

/* A default channel, Disabled, in `ch`, which keeps nothing of what was there (CHA-1). */
static NTSTATUS
set_up(struct kmcl_channel *ch, PDEVICE_OBJECT parent, bool is_server)
{
	memset(ch, 0, sizeof(*ch));
	ch->config.is_server = is_server;
	ch->config.parent = parent;
	set_defaults(&ch->config);
	ch->role = is_server ? &kmcl_server_role : &kmcl_client_role;
	ch->role_state = is_server ? kmcl_server_create(ch) : kmcl_client_create(ch);
	if (ch->role_state == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	if (!kmcl_strand_pool_enter()) {
		destroy_role(ch);
		return STATUS_INSUFFICIENT_RESOURCES;
	}
	InitializeListHead(&ch->tx.fifo);
	InitializeListHead(&ch->tx.packets);
	InitializeListHead(&ch->tx.lookaside);
	InitializeListHead(&ch->tx.allocated);
	InitializeListHead(&ch->gpadls);
	kmcl_family_init(ch);
	kmcl_fsm_init(ch);
	kmcl_rx_init(ch);
	kmcl_save_init(ch);
	kmcl_geometry_update(ch);
	ch->signature = KMCL_CHANNEL_SIGNATURE;
	return STATUS_SUCCESS;
}

NTSTATUS
VmbChannelAllocate(PDEVICE_OBJECT ParentDeviceObject, BOOLEAN IsServer, VMBCHANNEL *Channel)
{
	struct kmcl_channel *ch;
	NTSTATUS status;

	if (Channel == NULL)
		return STATUS_INVALID_PARAMETER_3;
	*Channel = NULL;
	ch = malloc(sizeof(*ch));
	if (ch == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	status = set_up(ch, ParentDeviceObject, IsServer != FALSE);
	if (status != STATUS_SUCCESS) {
		free(ch);
		return status;
	}
	ch->from_heap = true;
	*Channel = kmcl_channel_handle(ch);
	return STATUS_SUCCESS;
}

UINT32
VmbSizeofChannel(VOID)
{
	return sizeof(struct kmcl_channel);
}

NTSTATUS
VmbChannelInitialize(PDEVICE_OBJECT ParentDeviceObject, BOOLEAN IsServer, PVOID Buffer,
                     UINT32 ByteCount, VMBCHANNEL *Channel)
{
	struct kmcl_channel *ch = Buffer;
	NTSTATUS status;

	C_ASSERT(_Alignof(struct kmcl_channel) <= 8); /* what the header promises */
	if (Buffer == NULL || (ULONG_PTR)Buffer % 8 != 0)
		return STATUS_INVALID_PARAMETER_3;
	if (ByteCount < sizeof(*ch))
		return STATUS_INVALID_PARAMETER_4;
	if (Channel == NULL)
		return STATUS_INVALID_PARAMETER_5;
	*Channel = NULL;
	status = set_up(ch, ParentDeviceObject, IsServer != FALSE);
	if (status == STATUS_SUCCESS)
		*Channel = kmcl_channel_handle(ch);
	return status;
}

/* What a channel needs between Enable and Disable; kept until the next Enable or Cleanup. */
static void
free_buffers(struct kmcl_channel *ch)
{
	kmcl_unreserve(ch->tx.scratch, ch->tx.scratch_bytes);
	ch->tx.scratch = NULL;
	kmcl_unreserve(ch->rx.scratch, ch->rx.scratch_bytes);
	ch->rx.scratch = NULL;
	ch->rx.scratch_bytes = 0;
	kmcl_slots_destroy(&ch->tx);
	kmcl_bounce_destroy(ch->bounce);
	ch->bounce = NULL;
	kmcl_incoming_drain(ch);
}

static void
free_lost_packets(struct kmcl_channel *ch)
{
	uint32_t lost;

	vmb_lock_take(&ch->tx.lock);
	kmcl_packet_drain_locked(ch);
	lost = ch->tx.pool_packets;
	vmb_lock_give(&ch->tx.lock);
	if (lost != 0)
		kmcl_misuse(ch, "VmbChannelCleanup: %u packets were never freed", lost);
	while (!IsListEmpty(&ch->tx.allocated)) {
		struct kmcl_packet *packet = CONTAINING_RECORD(RemoveHeadList(&ch->tx.allocated),
		                                               struct kmcl_packet, allocated_link);

		packet->signature = 0;
		free(packet);
	}
}

VOID
VmbChannelCleanup(VMBCHANNEL Channel)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);

	if (ch == NULL) {
		kmcl_misuse(NULL, "VmbChannelCleanup: not a channel handle, or cleaned up twice");
		return;
	}
	if (kmcl_thread.state_channel == ch || kmcl_thread.rx_channel == ch ||
	    kmcl_family_inside_subchannel(ch)) {
		kmcl_misuse(ch, "VmbChannelCleanup: not allowed inside a callback of the channel");
		return;
	}
	if (kmcl_channel_state(ch) != KMCL_S_DISABLED)
		kmcl_misuse(ch, "VmbChannelCleanup: the channel is %s; disable it first",
		            kmcl_state_name(kmcl_channel_state(ch)));
	VmbChannelDisable(Channel);
	kmcl_family_end(ch);
	kmcl_rx_wait_for_releases(ch);
	/* All of them are on their way out: the channel is Disabled. */
	while (atomic_load(&ch->fsm.callers) != 0)
		sched_yield();
	kmcl_rx_destroy(ch);
	kmcl_fsm_destroy(ch);
	kmcl_save_destroy(ch);
	free_lost_packets(ch);
	free_buffers(ch);
	kmcl_strand_pool_leave();
	destroy_role(ch);
	ch->signature = 0;
	if (ch->from_heap)
		free(ch);
}

/*
 * ---- Enable
 * ------------------------------------------------------------------------------------------------
 */

/* As many pages as asked for, or what there is of them, but enough for the largest packet (V3-1). */
static struct kmcl_bounce_pool *
make_bounce_pool(const struct kmcl_config *config)
{
	uint64_t packet = (uint64_t)config->max_external / PAGE_SIZE + 2ull * config->max_chain;
	uint32_t least = (uint32_t)max(packet, ROUND_TO_PAGES((uint64_t)config->bounce_least) / PAGE_SIZE);
	uint32_t pages = (uint32_t)max(least, ROUND_TO_PAGES((uint64_t)config->bounce_most) / PAGE_SIZE);
	struct kmcl_bounce_pool *pool = kmcl_bounce_create(pages);

	while (pool == NULL && pages > least) {
		pages = least + (pages - least) / 2;
		pool = kmcl_bounce_create(pages);
	}
	return pool;
}

static NTSTATUS
make_buffers(struct kmcl_channel *ch)
{
	free_buffers(ch);
	if (kmcl_geometry_ring_pages(ch, 1) == 0)
		return STATUS_INVALID_BUFFER_SIZE;
	ch->tx.scratch_bytes = ch->geometry.body_bytes;
	ch->tx.scratch = kmcl_reserve(ch->tx.scratch_bytes);
	if (ch->tx.scratch == NULL || !kmcl_slots_create(&ch->tx))
		return STATUS_INSUFFICIENT_RESOURCES;
	if (!ch->config.is_server && !ch->config.pipe) {
		ch->bounce = make_bounce_pool(&ch->config);
		if (ch->bounce == NULL)
			return STATUS_INSUFFICIENT_RESOURCES;
	}
	return STATUS_SUCCESS;
}

/* One thread at a time, and only in Disabled. The state context keeps still until enable_end(). */
static bool
enable_begin(struct kmcl_channel *ch)
{
	bool begun;

	pthread_mutex_lock(&ch->fsm.lock);
	begun = kmcl_channel_state(ch) == KMCL_S_DISABLED && !ch->fsm.enabling;
	if (begun)
		ch->fsm.enabling = true;
	pthread_mutex_unlock(&ch->fsm.lock);
	if (!begun)
		return false;
	/* The last close may still be on its way out of the state context, and so may its waiters. */
	kmcl_strand_quiesce(&ch->fsm.strand);
	kmcl_tx_wait_for_requests(ch);
	return true;
}

static void
enable_end(struct kmcl_channel *ch, NTSTATUS status)
{
	if (status == STATUS_SUCCESS)
		kmcl_tx_set_mode(ch, KMCL_TX_QUEUE);
	pthread_mutex_lock(&ch->fsm.lock);
	ch->fsm.enabling = false;
	if (status == STATUS_SUCCESS) {
		ch->fsm.sticky_pause = false;
	} else {
		atomic_store(&ch->fsm.state, (uint32_t)KMCL_S_DISABLED);
		kmcl_fsm_ended_locked(ch);
	}
	pthread_mutex_unlock(&ch->fsm.lock);
	kmcl_fsm_poke(ch);
}

static NTSTATUS
enable(struct kmcl_channel *ch)
{
	NTSTATUS status;

	if (!enable_begin(ch))
		return STATUS_INVALID_DEVICE_STATE;
	status = kmcl_family_join(ch);
	if (status == STATUS_SUCCESS)
		status = make_buffers(ch);
	if (status == STATUS_SUCCESS) {
		kmcl_save_outdate(ch);
		pthread_mutex_lock(&ch->fsm.lock);
		ch->fsm.target_active = !ch->config.is_server && !ch->fsm.sticky_pause;
		ch->fsm.connect_failure = STATUS_SUCCESS;
		ch->fsm.failure[0] = '\0';
		atomic_store(&ch->fsm.failed_why, NULL);
		atomic_store(&ch->fsm.state, (uint32_t)KMCL_S_ENABLED);
		pthread_mutex_unlock(&ch->fsm.lock);
		status = ch->role->enable(ch);
	}
	/* Before another thread's Enable may join, which this would take out again. */
	if (status != STATUS_SUCCESS)
		kmcl_family_left(ch);
	enable_end(ch, status);
	return status;
}

NTSTATUS
VmbChannelEnable(VMBCHANNEL Channel)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);
	NTSTATUS status;

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (kmcl_thread.state_channel == ch || kmcl_thread.rx_channel == ch) {
		kmcl_misuse(ch, "VmbChannelEnable: not allowed inside a callback of the channel");
		return STATUS_INVALID_DEVICE_STATE;
	}
	atomic_fetch_add(&ch->fsm.callers, 1);
	status = enable(ch);
	if (status == STATUS_SUCCESS)
		kmcl_inherit_take(ch);
	atomic_fetch_sub(&ch->fsm.callers, 1);
	return status;
}

/*
 * ---- Init setters
 * ------------------------------------------------------------------------------------------
 */

void
kmcl_end_configuring(struct kmcl_channel **ch)
{
	if (*ch == NULL)
		return;
	vmb_lock_give(&(*ch)->tx.lock);
	pthread_mutex_unlock(&(*ch)->fsm.lock);
}

struct kmcl_channel *
kmcl_configurable(VMBCHANNEL handle, unsigned needs)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(handle);

	if (ch == NULL || ((needs & KMCL_SERVER_ONLY) != 0 && !ch->config.is_server) ||
	    ((needs & KMCL_CLIENT_ONLY) != 0 && ch->config.is_server))
		return NULL;
	pthread_mutex_lock(&ch->fsm.lock);
	vmb_lock_take(&ch->tx.lock);
	if (kmcl_channel_state(ch) == KMCL_S_DISABLED && !ch->fsm.enabling &&
	    ((needs & KMCL_RESIZES) == 0 || !kmcl_geometry_is_frozen_locked(ch)))
		return ch;
	kmcl_end_configuring(&ch);
	return NULL;
}

void
kmcl_resized(struct kmcl_channel *ch)
{
	/* Cached packets have the old size. */
	kmcl_packet_drain_locked(ch);
	kmcl_incoming_drain(ch);
	kmcl_geometry_update(ch);
}

NTSTATUS
VmbChannelInitSetClientContextSize(VMBCHANNEL Channel, UINT32 ContextSize)
{
	KMCL_CONFIGURING ch = kmcl_configurable(Channel, KMCL_RESIZES);

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (ContextSize > KMCL_LARGEST_CONTEXT)
		return STATUS_INVALID_PARAMETER_2;
	ch->config.client_context = ContextSize;
	kmcl_resized(ch);
	return STATUS_SUCCESS;
}

static void
update_pipe(struct kmcl_channel *ch)
{
	ch->config.pipe =
	        (ch->config.common_flags & VMBUS_CHANNEL_INIT_FLAG_IS_PIPE) != 0 ||
	        (ch->config.server_flags & VMBUS_SERVER_CHANNEL_INIT_FLAG_OFFER_AS_PIPE) != 0;
	kmcl_resized(ch);
}

NTSTATUS
VmbChannelInitSetFlags(VMBCHANNEL Channel, UINT32 Flags)
{
	KMCL_CONFIGURING ch = kmcl_configurable(Channel, KMCL_ANY_ROLE);

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if ((Flags & ~(UINT32)VMBUS_CHANNEL_INIT_FLAGS) != 0)
		return STATUS_INVALID_PARAMETER_2;
	ch->config.common_flags = Flags;
	update_pipe(ch);
	return STATUS_SUCCESS;
}

/* UTF-16 to UTF-8 for logs; an unpaired surrogate becomes U+FFFD. */
static void
copy_name(char *out, const WCHAR *chars, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		uint32_t c = (uint16_t)chars[i];

		if (c >= 0xD800 && c < 0xDC00 && i + 1 < count &&
		    ((uint16_t)chars[i + 1] & 0xFC00u) == 0xDC00u)
			c = 0x10000u + ((c & 0x3FFu) << 10) + ((uint16_t)chars[++i] & 0x3FFu);
		else if (c >= 0xD800 && c < 0xE000)
			c = 0xFFFD;
		if (c < 0x80) {
			*out++ = (char)c;
		} else if (c < 0x800) {
			*out++ = (char)(0xC0 | c >> 6);
			*out++ = (char)(0x80 | (c & 0x3F));
		} else if (c < 0x10000) {
			*out++ = (char)(0xE0 | c >> 12);
			*out++ = (char)(0x80 | (c >> 6 & 0x3F));
			*out++ = (char)(0x80 | (c & 0x3F));
		} else {
			*out++ = (char)(0xF0 | c >> 18);
			*out++ = (char)(0x80 | (c >> 12 & 0x3F));
			*out++ = (char)(0x80 | (c >> 6 & 0x3F));
			*out++ = (char)(0x80 | (c & 0x3F));
		}
	}
	*out = '\0';
}

NTSTATUS
VmbChannelInitSetFriendlyName(VMBCHANNEL Channel, PCUNICODE_STRING Name)
{
	KMCL_CONFIGURING ch = kmcl_configurable(Channel, KMCL_ANY_ROLE);

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (Name == NULL || Name->Length % sizeof(WCHAR) != 0 ||
	    (Name->Buffer == NULL && Name->Length != 0))
		return STATUS_INVALID_PARAMETER_2;
	copy_name(ch->config.name, Name->Buffer,
	          min((uint32_t)(Name->Length / sizeof(WCHAR)), KMCL_FRIENDLY_NAME_CHARS));
	return STATUS_SUCCESS;
}

NTSTATUS
VmbChannelInitSetMaximumExternalData(VMBCHANNEL Channel, UINT32 DataSize, UINT32 ChainLength)
{
	KMCL_CONFIGURING ch = kmcl_configurable(Channel, KMCL_RESIZES);

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (DataSize == 0)
		return STATUS_INVALID_PARAMETER_2;
	if (ChainLength == 0)
		return STATUS_INVALID_PARAMETER_3;
	ch->config.max_external = DataSize;
	ch->config.max_chain = ChainLength;
	kmcl_resized(ch);
	return STATUS_SUCCESS;
}

NTSTATUS
VmbChannelInitSetMaximumPacketSize(VMBCHANNEL Channel, UINT32 PacketSize)
{
	KMCL_CONFIGURING ch = kmcl_configurable(Channel, KMCL_RESIZES);

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (PacketSize == 0 || PacketSize > LARGEST_PAYLOAD ||
	    (ch->config.pipe && PacketSize > VMB_PIPE_MAX_BYTES))
		return STATUS_INVALID_PARAMETER_2;
	ch->config.max_packet = PacketSize;
	kmcl_resized(ch);
	return STATUS_SUCCESS;
}

NTSTATUS
VmbChannelInitSetProcessPacketCallbacks(VMBCHANNEL Channel,
                                        PFN_VMB_CHANNEL_PROCESS_PACKET ProcessPacketCallback,
                                        PFN_VMB_CHANNEL_PROCESSING_COMPLETE
                                                ProcessingCompleteCallback)
{
	KMCL_CONFIGURING ch = kmcl_configurable(Channel, KMCL_ANY_ROLE);

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (ProcessPacketCallback == NULL)
		return STATUS_INVALID_PARAMETER_2;
	ch->config.process_packet = ProcessPacketCallback;
	ch->config.processing_complete = ProcessingCompleteCallback;
	ch->config.process_packet_ex = NULL;
	ch->config.processing_complete_ex = NULL;
	return STATUS_SUCCESS;
}

NTSTATUS
VmbChannelInitSetStateChangeCallbacks(VMBCHANNEL Channel,
                                      PVMB_CHANNEL_STATE_CHANGE_CALLBACKS StateChangeCallbacks)
{
	KMCL_CONFIGURING ch = kmcl_configurable(Channel, KMCL_ANY_ROLE);

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (StateChangeCallbacks == NULL ||
	    StateChangeCallbacks->Version != VMB_CHANNEL_STATE_CHANGE_CALLBACKS_VERSION ||
	    StateChangeCallbacks->Size != sizeof(*StateChangeCallbacks))
		return STATUS_INVALID_PARAMETER_2;
	ch->config.callbacks = *StateChangeCallbacks;
	return STATUS_SUCCESS;
}

NTSTATUS
VmbClientChannelInitSetRingBufferPageCount(VMBCHANNEL Channel, UINT32 IncomingPageCount,
                                           UINT32 OutgoingPageCount)
{
	KMCL_CONFIGURING ch = kmcl_configurable(Channel, KMCL_CLIENT_ONLY);

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (IncomingPageCount == 0 || IncomingPageCount > LARGEST_RING_PAGES)
		return STATUS_INVALID_PARAMETER_2;
	if (OutgoingPageCount == 0 || OutgoingPageCount > LARGEST_RING_PAGES)
		return STATUS_INVALID_PARAMETER_3;
	ch->config.in_pages = IncomingPageCount;
	ch->config.out_pages = OutgoingPageCount;
	return STATUS_SUCCESS;
}

NTSTATUS
VmbClientChannelInitSetTargetPnp(VMBCHANNEL Channel, LPCGUID InterfaceType,
                                 LPCGUID InterfaceInstance,
                                 PFN_VMB_CHANNEL_PNP_FAILURE PnpFailureCallback)
{
	KMCL_CONFIGURING ch = kmcl_configurable(Channel, KMCL_CLIENT_ONLY);

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (InterfaceType == NULL)
		return STATUS_INVALID_PARAMETER_2;
	ch->config.type = *InterfaceType;
	ch->config.any_instance = InterfaceInstance == NULL;
	ch->config.instance = InterfaceInstance != NULL ? *InterfaceInstance : (GUID){ 0 };
	ch->config.pnp_failure = PnpFailureCallback;
	ch->config.has_target = true;
	return STATUS_SUCCESS;
}

NTSTATUS
VmbServerChannelInitSetFlags(VMBCHANNEL Channel, UINT32 Flags)
{
	KMCL_CONFIGURING ch = kmcl_configurable(Channel, KMCL_SERVER_ONLY);

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if ((Flags & ~(UINT32)VMBUS_SERVER_CHANNEL_INIT_FLAGS) != 0)
		return STATUS_INVALID_PARAMETER_2;
	ch->config.server_flags = Flags;
	update_pipe(ch);
	return STATUS_SUCCESS;
}

NTSTATUS
VmbServerChannelInitSetMmioMegabytes(VMBCHANNEL Channel, UINT16 MmioMegabytes,
                                     UINT16 MmioMegabytesOptional)
{
	KMCL_CONFIGURING ch = kmcl_configurable(Channel, KMCL_SERVER_ONLY);

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (MmioMegabytes == 0 && MmioMegabytesOptional == 0)
		return STATUS_INVALID_PARAMETER;
	ch->config.mmio = MmioMegabytes;
	ch->config.mmio_optional = MmioMegabytesOptional;
	return STATUS_SUCCESS;
}

NTSTATUS
VmbServerChannelInitSetSaveRestorePacketCallbacks(VMBCHANNEL Channel,
                                                  PFN_VMB_CHANNEL_SAVE_PACKET SavePacketCallback,
                                                  PFN_VMB_CHANNEL_RESTORE_PACKET
                                                          RestorePacketCallback)
{
	KMCL_CONFIGURING ch = kmcl_configurable(Channel, KMCL_SERVER_ONLY);

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (SavePacketCallback == NULL)
		return STATUS_INVALID_PARAMETER_2;
	if (RestorePacketCallback == NULL)
		return STATUS_INVALID_PARAMETER_3;
	ch->config.save_packet = SavePacketCallback;
	ch->config.restore_packet = RestorePacketCallback;
	ch->config.save_packet_ex = NULL;
	ch->config.restore_packet_ex = NULL;
	return STATUS_SUCCESS;
}

NTSTATUS
VmbServerChannelInitSetTargetInterfaceId(VMBCHANNEL Channel, GUID InterfaceType,
                                         GUID InterfaceInstance)
{
	static const GUID zero;
	KMCL_CONFIGURING ch = kmcl_configurable(Channel, KMCL_SERVER_ONLY);

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (memcmp(&InterfaceType, &zero, sizeof(zero)) == 0)
		return STATUS_INVALID_PARAMETER_2;
	if (memcmp(&InterfaceInstance, &zero, sizeof(zero)) == 0)
		return STATUS_INVALID_PARAMETER_3;
	ch->config.type = InterfaceType;
	ch->config.instance = InterfaceInstance;
	ch->config.has_target = true;
	return STATUS_SUCCESS;
}

NTSTATUS
VmbServerChannelInitSetTargetVtl(VMBCHANNEL Channel, UINT8 TargetVtl)
{
	KMCL_CONFIGURING ch = kmcl_configurable(Channel, KMCL_SERVER_ONLY);

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (TargetVtl > 2)
		return STATUS_INVALID_PARAMETER_2;
	ch->config.vtl = TargetVtl;
	return STATUS_SUCCESS;
}

NTSTATUS
VmbServerChannelInitSetVmbusHandle(VMBCHANNEL Channel, HANDLE VmbusHandle)
{
	struct kmcl_channel *ch = kmcl_configurable(Channel, KMCL_SERVER_ONLY);
	struct kmcl_bus *bus, *before;

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	bus = kmcl_bus_from_handle(VmbusHandle);
	before = ch->config.bus;
	if (bus != NULL)
		ch->config.bus = bus;
	kmcl_end_configuring(&ch);
	if (bus == NULL)
		return STATUS_INVALID_PARAMETER_2;
	/* The last reference takes locks that come before ours. */
	if (before != NULL)
		kmcl_bus_unref(before);
	return STATUS_SUCCESS;
}

/*
 * ---- any state
 * ----------------------------------------------------------------------------------------------
 */

VOID
VmbChannelGetInterfaceInstance(VMBCHANNEL Channel, LPGUID InterfaceInstance)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);

	if (ch == NULL || InterfaceInstance == NULL) {
		kmcl_misuse(ch, "VmbChannelGetInterfaceInstance: bad channel handle or pointer");
		return;
	}
	pthread_mutex_lock(&ch->fsm.lock);
	if (kmcl_is_subchannel(ch))
		*InterfaceInstance = ch->family.instance;
	else
		*InterfaceInstance = ch->config.is_server ? ch->config.instance
		                                          : kmcl_client_instance(ch);
	pthread_mutex_unlock(&ch->fsm.lock);
}

PVOID
VmbChannelGetPointer(VMBCHANNEL Channel)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);

	if (ch == NULL) {
		kmcl_misuse(NULL, "VmbChannelGetPointer: not a channel handle");
		return NULL;
	}
	return atomic_load(&ch->pointer);
}

VOID
VmbChannelSetPointer(VMBCHANNEL Channel, PVOID Pointer)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);

	if (ch == NULL)
		kmcl_misuse(NULL, "VmbChannelSetPointer: not a channel handle");
	else
		atomic_store(&ch->pointer, Pointer);
}

VOID
VmbChannelSetIncomingProcessingAtPassive(VMBCHANNEL Channel, BOOLEAN RequirePassive)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);

	if (ch == NULL)
		kmcl_misuse(NULL, "VmbChannelSetIncomingProcessingAtPassive: not a channel handle");
	else
		atomic_store(&ch->rx.passive_only, RequirePassive != FALSE);
}

VOID
VmbChannelSetTransactionQuota(VMBCHANNEL Channel, UINT32 Quota)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);

	if (ch == NULL || Quota == 0)
		kmcl_misuse(ch, "VmbChannelSetTransactionQuota: bad channel handle, or quota 0");
	else
		atomic_store(&ch->rx.quota, Quota);
}
