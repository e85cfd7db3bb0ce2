/* SPDX-License-Identifier: MIT */
/*
 * GPADLs (GPB, GPM, GPD, MPG, UMG). The list of a channel is guarded by its bus's lock; waits for
 * the host end with its answer or with the channel.
 */
#include "kmcl/kmcl_gpadl.h"

#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_bus.h"
#include "kmcl/kmcl_external.h"
#include "kmcl/kmcl_transfer.h"
#include "nt/nt_mdl.h"

struct kmcl_gpadl {
	LIST_ENTRY link;        /* channel->gpadls */
	uint32_t id;
	bool busy;              /* a call that creates or deletes it is inside */
	enum { GPADL_ASKED, GPADL_CREATED, GPADL_REFUSED, GPADL_DELETING, GPADL_DELETED } state;
	/* Client. */
	uint8_t *ranges;
	uint32_t ranges_bytes, range_count;
	bool pinned;            /* not if the caller named page numbers: those it keeps itself (V4-2) */
	bool read_only;
	bool not_supported;     /* refused, because the way to the host carries no GPADLs */
	bool is_set;            /* a transfer page set, of this number */
	uint16_t set_id;
	/* Server. */
	PMDL mdl;
};

static struct kmcl_gpadl *
find_locked(struct kmcl_channel *ch, uint32_t id)
{
	for (LIST_ENTRY *e = ch->gpadls.Flink; e != &ch->gpadls; e = e->Flink) {
		struct kmcl_gpadl *gpadl = CONTAINING_RECORD(e, struct kmcl_gpadl, link);

		if (gpadl->id == id)
			return gpadl;
	}
	return NULL;
}

static bool
state_allows(struct kmcl_channel *ch)
{
	switch (kmcl_channel_state(ch)) {
	case KMCL_S_DISABLED:
	case KMCL_S_ENABLED:
	case KMCL_S_CLOSING:
	case KMCL_S_CLOSED:
		return false;
	case KMCL_S_OPENING:
		return atomic_load(&ch->fsm.link_stands);
	default:
		return true;
	}
}

static void
free_created(struct kmcl_gpadl *gpadl)
{
	if (gpadl->pinned)
		kmcl_external_unpin(gpadl->ranges, gpadl->ranges_bytes, gpadl->range_count);
	free(gpadl->ranges);
	free(gpadl);
}

/*
 * ---- client: events
 * ------------------------------------------------------------------------------------------
 */

void
kmcl_gpadl_created(struct kmcl_channel *ch, uint32_t gpadl_id, uint32_t status)
{
	struct kmcl_gpadl *gpadl = find_locked(ch, gpadl_id);

	if (gpadl == NULL || gpadl->state != GPADL_ASKED)
		return;
	gpadl->state = status == 0 ? GPADL_CREATED : GPADL_REFUSED;
	gpadl->not_supported = status == (uint32_t)STATUS_NOT_SUPPORTED;
}

void
kmcl_gpadl_torndown(struct kmcl_channel *ch, uint32_t gpadl_id)
{
	struct kmcl_gpadl *gpadl = find_locked(ch, gpadl_id);

	if (gpadl != NULL && gpadl->state == GPADL_DELETING)
		gpadl->state = GPADL_DELETED;
}

void
kmcl_gpadl_channel_gone(struct kmcl_channel *ch)
{
	for (LIST_ENTRY *e = ch->gpadls.Flink; e != &ch->gpadls; e = e->Flink) {
		struct kmcl_gpadl *gpadl = CONTAINING_RECORD(e, struct kmcl_gpadl, link);

		if (gpadl->state == GPADL_ASKED)
			gpadl->state = GPADL_REFUSED;
		else if (gpadl->state == GPADL_DELETING)
			gpadl->state = GPADL_DELETED;
	}
}

/*
 * ---- client: create
 * --------------------------------------------------------------------------------------------
 */

/* A page of live guest RAM. Of other memory nothing tells when to copy it. */
static bool
can_be_shared(uint64_t pfn)
{
	struct vmb_arena *arena = vmb_arena_process();
	const void *page = nt_pfn_is_foreign(pfn) ? NULL : vmb_arena_host(arena, pfn * PAGE_SIZE);

	if (page != NULL && vmb_arena_contains(arena, page, PAGE_SIZE) &&
	    vmb_arena_is_allocated(arena, page, PAGE_SIZE))
		return true;
	kmcl_log(KMCL_LOG_WARNING, "a GPADL needs pool memory (ExAllocatePool2), not stack, heap or memory that was freed");
	return false;
}

/* Ranges for part of an MDL chain, on the heap. The GPADL limit bounds circular chains (MDL-6). */
static NTSTATUS
describe(PMDL mdl, uint64_t offset, uint64_t length, struct kmcl_gpadl *gpadl)
{
	uint8_t *ranges = malloc(VMB_GPADL_RANGE_BYTES_MAX);
	uint32_t at = 0, count = 0;

	if (ranges == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	for (; length > 0; mdl = mdl->Next) {
		const PFN_NUMBER *pfns = (const PFN_NUMBER *)(const void *)(mdl + 1);
		uint64_t bytes = mdl->ByteCount, start, pages;

		if (offset >= bytes) {
			offset -= bytes;
			continue;
		}
		bytes = min(bytes - offset, length);
		start = mdl->ByteOffset + offset;
		pages = vmb_gpa_pages((uint32_t)(start % PAGE_SIZE), (uint32_t)bytes);
		if (!nt_mdl_is_built(mdl) || at + 8 + 8 * pages > VMB_GPADL_RANGE_BYTES_MAX) {
			free(ranges);
			return nt_mdl_is_built(mdl) ? STATUS_INSUFFICIENT_RESOURCES
			                            : STATUS_INVALID_PARAMETER_3;
		}
		vmb_gpa_put_header(ranges + at, (uint32_t)bytes, (uint32_t)(start % PAGE_SIZE));
		at += 8;
		for (uint64_t i = 0; i < pages; i++, at += 8) {
			uint64_t pfn = pfns[start / PAGE_SIZE + i];

			if (!can_be_shared(pfn)) {
				free(ranges);
				return STATUS_INVALID_PARAMETER_3;
			}
			memcpy(ranges + at, &pfn, 8);
		}
		count++;
		length -= bytes;
		offset = 0;
	}
	gpadl->ranges = ranges;
	gpadl->ranges_bytes = at;
	gpadl->range_count = count;
	return STATUS_SUCCESS;
}

/* Hand over `gpadl` with its ranges; blocks until the host answered. */
static NTSTATUS
create(struct kmcl_channel *ch, struct kmcl_gpadl *gpadl, PUINT32 handle)
{
	struct kmcl_bus *bus;
	uint32_t channel_id = 0;
	enum vmb_status status;
	NTSTATUS result = STATUS_SUCCESS;

	if (gpadl->pinned)
		kmcl_external_pin(gpadl->ranges, gpadl->ranges_bytes, gpadl->range_count);
	bus = kmcl_client_bus(ch, &channel_id);
	if (bus == NULL) {
		free_created(gpadl);
		return STATUS_DEVICE_REMOVED;
	}
	pthread_mutex_lock(&bus->lock);
	/*
	 * A channel on its way out would not wait for the answer, and who tries again and again
	 * would flood the host.
	 */
	if (!kmcl_client_is_on_locked(ch, bus) || !state_allows(ch) ||
	    atomic_load(&ch->fsm.closing)) {
		pthread_mutex_unlock(&bus->lock);
		kmcl_bus_unref(bus);
		free_created(gpadl);
		return STATUS_DEVICE_REMOVED;
	}
	gpadl->busy = true;
	InsertTailList(&ch->gpadls, &gpadl->link);
	status = vmb_bus_client_gpadl_create(bus->client, channel_id, gpadl->ranges,
	                                     gpadl->ranges_bytes, gpadl->range_count, &gpadl->id);
	while (status == VMB_OK && gpadl->state == GPADL_ASKED && !atomic_load(&ch->fsm.closing))
		pthread_cond_wait(&bus->changed, &bus->lock);
	if (status != VMB_OK)
		result = status == VMB_E_CLOSED ? STATUS_DEVICE_REMOVED
		                                : STATUS_INSUFFICIENT_RESOURCES;
	else if (gpadl->state == GPADL_REFUSED)
		result = atomic_load(&ch->fsm.closing) ? STATUS_DEVICE_REMOVED
		         : gpadl->not_supported        ? STATUS_NOT_SUPPORTED
		                                       : STATUS_UNSUCCESSFUL;
	else if (gpadl->state == GPADL_ASKED)
		result = STATUS_DEVICE_REMOVED;
	if (result == STATUS_SUCCESS)
		*handle = gpadl->id;
	else
		RemoveEntryList(&gpadl->link);
	gpadl->busy = false;
	pthread_cond_broadcast(&bus->changed); /* kmcl_gpadl_drop_created() may wait for us */
	pthread_mutex_unlock(&bus->lock);
	kmcl_bus_unref(bus);
	if (result != STATUS_SUCCESS)
		free_created(gpadl);
	return result;
}

static NTSTATUS
create_from_mdl(struct kmcl_channel *ch, PMDL mdl, uint64_t offset, uint64_t length, UINT32 flags,
                PUINT32 handle)
{
	struct kmcl_gpadl *gpadl;
	NTSTATUS status;

	if (ch->config.is_server)
		return STATUS_INVALID_DEVICE_REQUEST;
	if (!state_allows(ch))
		return STATUS_INVALID_DEVICE_STATE;
	gpadl = calloc(1, sizeof(*gpadl));
	if (gpadl == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	gpadl->pinned = true;
	status = describe(mdl, offset, length, gpadl);
	if (status != STATUS_SUCCESS) {
		free(gpadl);
		return status;
	}
	gpadl->read_only = (flags & VMBUS_CHANNEL_GPADL_FLAG_READ_ONLY) != 0;
	return create(ch, gpadl, handle);
}

NTSTATUS
VmbChannelCreateGpadlFromBuffer(VMBCHANNEL Channel, UINT32 Flags, PVOID Buffer, UINT32 ByteCount,
                                PUINT32 GpadlHandle)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);
	NTSTATUS status;
	PMDL mdl;

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if ((Flags & ~(UINT32)VMBUS_CHANNEL_GPADL_FLAGS) != 0)
		return STATUS_INVALID_PARAMETER_2;
	if (Buffer == NULL)
		return STATUS_INVALID_PARAMETER_3;
	if (ByteCount == 0)
		return STATUS_INVALID_PARAMETER_4;
	if (GpadlHandle == NULL)
		return STATUS_INVALID_PARAMETER_5;
	mdl = IoAllocateMdl(Buffer, ByteCount, FALSE, FALSE, NULL);
	if (mdl == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	MmBuildMdlForNonPagedPool(mdl);
	status = create_from_mdl(ch, mdl, 0, ByteCount, Flags, GpadlHandle);
	IoFreeMdl(mdl);
	return status;
}

NTSTATUS
VmbChannelCreateGpadlFromMdl(VMBCHANNEL Channel, UINT32 Flags, PMDL Mdl, UINT32 StartOffsetWithinMdl,
                             UINT32 DataLengthWithinMdl, PUINT32 GpadlHandle)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);
	uint64_t total = 0;

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if ((Flags & ~(UINT32)VMBUS_CHANNEL_GPADL_FLAGS) != 0)
		return STATUS_INVALID_PARAMETER_2;
	if (Mdl == NULL || !kmcl_external_total(Mdl, &total) || total == 0 || !nt_mdl_is_built(Mdl))
		return STATUS_INVALID_PARAMETER_3;
	if (StartOffsetWithinMdl >= total)
		return STATUS_INVALID_PARAMETER_4;
	if ((uint64_t)StartOffsetWithinMdl + DataLengthWithinMdl > total)
		return STATUS_INVALID_PARAMETER_5;
	if (GpadlHandle == NULL)
		return STATUS_INVALID_PARAMETER_6;
	return create_from_mdl(ch, Mdl, StartOffsetWithinMdl,
	                       DataLengthWithinMdl != 0 ? DataLengthWithinMdl
	                                                : total - StartOffsetWithinMdl,
	                       Flags, GpadlHandle);
}

/* One range of whole pages. */
static NTSTATUS
describe_pages(const PFN_NUMBER *pfns, UINT32 count, struct kmcl_gpadl *gpadl)
{
	uint64_t bytes = VMB_GPA_RANGE_HEADER_BYTES + 8 * (uint64_t)count;
	struct kmcl_external external;

	gpadl->ranges = bytes <= VMB_GPADL_RANGE_BYTES_MAX ? malloc(bytes) : NULL;
	if (gpadl->ranges == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	for (UINT32 i = 0; i < count; i++) {
		if (!can_be_shared(pfns[i])) {
			free(gpadl->ranges);
			return STATUS_INVALID_PARAMETER_3;
		}
	}
	kmcl_external_capture_pfns(pfns, count, gpadl->ranges, &external);
	gpadl->ranges_bytes = external.ranges_bytes;
	gpadl->range_count = external.range_count;
	return STATUS_SUCCESS;
}

NTSTATUS
VmbChannelCreateGpadlFromPfnList(VMBCHANNEL Channel, UINT32 Flags, PPFN_NUMBER PfnList,
                                 UINT32 PfnCount, PUINT32 GpadlHandle)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);
	struct kmcl_gpadl *gpadl;
	NTSTATUS status;

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if ((Flags & ~(UINT32)VMBUS_CHANNEL_GPADL_FLAGS) != 0)
		return STATUS_INVALID_PARAMETER_2;
	if (PfnList == NULL)
		return STATUS_INVALID_PARAMETER_3;
	if (PfnCount == 0)
		return STATUS_INVALID_PARAMETER_4;
	if (GpadlHandle == NULL)
		return STATUS_INVALID_PARAMETER_5;
	if (ch->config.is_server)
		return STATUS_INVALID_DEVICE_REQUEST;
	if (!state_allows(ch))
		return STATUS_INVALID_DEVICE_STATE;
	gpadl = calloc(1, sizeof(*gpadl));
	if (gpadl == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	gpadl->read_only = (Flags & VMBUS_CHANNEL_GPADL_FLAG_READ_ONLY) != 0;
	status = describe_pages(PfnList, PfnCount, gpadl);
	if (status == STATUS_SUCCESS)
		return create(ch, gpadl, GpadlHandle);
	free(gpadl);
	return status;
}

VOID
VmbChannelDeleteGpadl(VMBCHANNEL Channel, UINT32 GpadlHandle)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);
	struct kmcl_gpadl *gpadl = NULL;
	struct kmcl_bus *bus = NULL;
	uint32_t channel_id = 0;

	if (ch != NULL && !ch->config.is_server)
		bus = kmcl_client_bus(ch, &channel_id);
	if (bus != NULL) {
		pthread_mutex_lock(&bus->lock);
		gpadl = find_locked(ch, GpadlHandle);
		if (gpadl != NULL && gpadl->state == GPADL_CREATED && !gpadl->busy) {
			gpadl->busy = true;
			gpadl->state = GPADL_DELETING;
			if (vmb_bus_client_gpadl_teardown(bus->client, channel_id, gpadl->id) !=
			    VMB_OK)
				gpadl->state = GPADL_DELETED;
			/* Once the close began nobody has to answer any more (GPD-3). */
			while (gpadl->state == GPADL_DELETING && !atomic_load(&ch->fsm.closing))
				pthread_cond_wait(&bus->changed, &bus->lock);
			RemoveEntryList(&gpadl->link);
			pthread_cond_broadcast(&bus->changed);
		} else {
			gpadl = NULL;
		}
		pthread_mutex_unlock(&bus->lock);
		kmcl_bus_unref(bus);
	}
	if (gpadl != NULL)
		free_created(gpadl);
	else
		kmcl_misuse(ch, "VmbChannelDeleteGpadl: 0x%x is not a GPADL of this client channel",
		            GpadlHandle);
}

/* A GPADL that no call is working on, or NULL. */
static struct kmcl_gpadl *
find_quiet_locked(struct kmcl_channel *ch)
{
	for (LIST_ENTRY *e = ch->gpadls.Flink; e != &ch->gpadls; e = e->Flink) {
		struct kmcl_gpadl *gpadl = CONTAINING_RECORD(e, struct kmcl_gpadl, link);

		if (!gpadl->busy)
			return gpadl;
	}
	return NULL;
}

void
kmcl_gpadl_drop_created(struct kmcl_channel *ch)
{
	uint32_t channel_id = 0;
	struct kmcl_bus *bus = kmcl_client_bus(ch, &channel_id);

	if (bus == NULL)
		return;
	pthread_mutex_lock(&bus->lock);
	while (!IsListEmpty(&ch->gpadls)) {
		struct kmcl_gpadl *gpadl = find_quiet_locked(ch);

		if (gpadl == NULL) {
			/* Calls of other threads are on their way out; nobody answers them any more. */
			kmcl_gpadl_channel_gone(ch);
			pthread_cond_broadcast(&bus->changed);
			pthread_cond_wait(&bus->changed, &bus->lock);
			continue;
		}
		RemoveEntryList(&gpadl->link);
		VMB_IGNORE(vmb_bus_client_gpadl_teardown(bus->client, channel_id, gpadl->id));
		kmcl_misuse(ch, "GPADL 0x%x was not deleted before the end of EvtChannelClosed",
		            gpadl->id);
		free_created(gpadl);
	}
	pthread_mutex_unlock(&bus->lock);
	kmcl_bus_unref(bus);
}

/*
 * ---- client: transfer page sets
 * ----------------------------------------------------------------------------------
 */

static struct kmcl_gpadl *
find_set_locked(struct kmcl_channel *ch, uint16_t set_id)
{
	for (LIST_ENTRY *e = ch->gpadls.Flink; e != &ch->gpadls; e = e->Flink) {
		struct kmcl_gpadl *gpadl = CONTAINING_RECORD(e, struct kmcl_gpadl, link);

		if (gpadl->is_set && gpadl->set_id == set_id && gpadl->state == GPADL_CREATED)
			return gpadl;
	}
	return NULL;
}

bool
kmcl_gpadl_find_set_locked(struct kmcl_channel *ch, uint16_t set_id, struct kmcl_transfer_set *set)
{
	const struct kmcl_gpadl *gpadl = find_set_locked(ch, set_id);

	if (gpadl == NULL)
		return false;
	*set = (struct kmcl_transfer_set){ gpadl->ranges, gpadl->ranges_bytes, gpadl->range_count };
	return true;
}

NTSTATUS
kmcl_channel_name_transfer_set(VMBCHANNEL channel, UINT32 gpadl_handle, UINT16 set_id)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(channel);
	NTSTATUS status = STATUS_INVALID_PARAMETER_2;
	struct kmcl_gpadl *gpadl;
	struct kmcl_bus *bus;
	uint32_t channel_id;

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (ch->config.is_server)
		return STATUS_INVALID_DEVICE_REQUEST;
	bus = kmcl_client_bus(ch, &channel_id);
	if (bus == NULL)
		return status;
	pthread_mutex_lock(&bus->lock);
	gpadl = find_locked(ch, gpadl_handle);
	if (gpadl != NULL && gpadl->state == GPADL_CREATED) {
		struct kmcl_gpadl *before = find_set_locked(ch, set_id);

		if (before != NULL)
			before->is_set = false;
		gpadl->is_set = true;
		gpadl->set_id = set_id;
		status = STATUS_SUCCESS;
	}
	pthread_mutex_unlock(&bus->lock);
	kmcl_bus_unref(bus);
	return status;
}

bool
kmcl_gpadl_is_read_only_locked(struct kmcl_channel *ch, uint32_t gpadl_id)
{
	const struct kmcl_gpadl *gpadl = find_locked(ch, gpadl_id);

	return gpadl != NULL && gpadl->read_only;
}

/*
 * ---- server
 * ------------------------------------------------------------------------------------------------------
 */

static PMDL
build_chain(struct vmb_mem *memory, const uint8_t *ranges, uint32_t bytes, uint32_t count, bool writable)
{
	struct vmb_gpa_cursor cursor;
	struct vmb_gpa_range range;
	const char *why;
	PMDL first, mdl, *link = &first;
	/* One block: each range's header becomes an MDL's. */
	uint8_t *at = malloc(bytes + (size_t)count * sizeof(MDL));

	if (at == NULL)
		return NULL;
	first = (PMDL)(void *)at;
	vmb_gpa_begin(&cursor, ranges, bytes, count);
	while (vmb_gpa_next(&cursor, &range, &why) == VMB_OK) {
		mdl = (PMDL)(void *)at;
		nt_mdl_init_guest(mdl, memory, &range, writable);
		*link = mdl;
		link = &mdl->Next;
		at += nt_mdl_guest_bytes(&range);
	}
	*link = NULL;
	/* It maps pages whenever the driver asks, and is let go by itself. */
	vmb_mem_ref(memory);
	return first;
}

static void
free_chain(PMDL first)
{
	struct vmb_mem *memory = first != NULL ? (struct vmb_mem *)first->Process : NULL;

	for (PMDL mdl = first; mdl != NULL; mdl = mdl->Next)
		nt_mdl_release_guest(mdl);
	vmb_mem_unref(memory);
	free(first);
}

/* Some of it is memory that nobody may write, whoever asks. */
static bool
is_read_only_memory(struct vmb_mem *memory, const void *ranges, uint32_t bytes, uint32_t count)
{
	struct vmb_gpa_cursor cursor;
	struct vmb_gpa_range range;
	const char *why;

	vmb_gpa_begin(&cursor, ranges, bytes, count);
	while (vmb_gpa_next(&cursor, &range, &why) == VMB_OK) {
		if (!vmb_mem_has_pages(memory, range.pfns, range.page_count, true))
			return true;
	}
	return false;
}

/* Fill `gpadl`. Bus lock held, channel open. */
static NTSTATUS
map_locked(struct kmcl_channel *ch, const struct kmcl_server *server, bool writable,
           bool made_read_only, UINT32 id, struct kmcl_gpadl *gpadl)
{
	struct vmb_bus_server *machine = server->active->guest->server;
	uint32_t channel_id = server->open.channel_id;
	NTSTATUS status = STATUS_INSUFFICIENT_RESOURCES;
	const void *ranges;
	uint32_t bytes, count;

	if (find_locked(ch, id) != NULL)
		return STATUS_DEVICE_BUSY;
	if (vmb_bus_server_gpadl_map(machine, channel_id, id, &ranges, &bytes, &count) != VMB_OK)
		return STATUS_INVALID_PARAMETER_3;
	/* The protocol has GPADLs of nothing, and an MDL of nothing is no MDL. */
	if (count == 0)
		status = STATUS_INVALID_PARAMETER_3;
	else if (writable && (made_read_only || is_read_only_memory(ch->link.memory, ranges, bytes, count)))
		status = STATUS_ACCESS_DENIED;
	else
		gpadl->mdl = build_chain(ch->link.memory, ranges, bytes, count, writable);
	if (gpadl->mdl == NULL) {
		VMB_IGNORE(vmb_bus_server_gpadl_unmap(machine, channel_id, id));
		return status;
	}
	gpadl->id = id;
	gpadl->state = GPADL_CREATED;
	return STATUS_SUCCESS;
}

NTSTATUS
VmbChannelMapGpadl(VMBCHANNEL Channel, UINT32 Flags, UINT32 GpadlHandle, PMDL *Mdl)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);
	struct kmcl_server *server;
	struct kmcl_gpadl *gpadl;
	struct kmcl_bus *bus;
	NTSTATUS result;
	bool writable = (Flags & VMBUS_CHANNEL_GPADL_FLAG_READ_ONLY) == 0, made_read_only;

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if ((Flags & ~(UINT32)VMBUS_CHANNEL_GPADL_FLAGS) != 0)
		return STATUS_INVALID_PARAMETER_2;
	if (Mdl == NULL)
		return STATUS_INVALID_PARAMETER_4;
	*Mdl = NULL;
	if (!ch->config.is_server)
		return STATUS_INVALID_DEVICE_REQUEST;
	if (!state_allows(ch))
		return STATUS_INVALID_DEVICE_STATE;
	bus = kmcl_server_bus(ch);
	if (bus == NULL)
		return STATUS_INVALID_DEVICE_STATE;
	gpadl = calloc(1, sizeof(*gpadl));
	if (gpadl == NULL) {
		kmcl_bus_unref(bus);
		return STATUS_INSUFFICIENT_RESOURCES;
	}
	server = ch->role_state;
	/* No message carries the flag, so only a client of this very process can be asked (MPG-3). */
	made_read_only = writable && bus->own_guest != NULL &&
	                 kmcl_guest_gpadl_is_read_only(bus->own_guest, GpadlHandle);
	pthread_mutex_lock(&bus->lock);
	/* Once more: kmcl_gpadl_drop_mappings() sees what is in the list before the state leaves these. */
	if (server->active == NULL || !state_allows(ch))
		result = STATUS_INVALID_DEVICE_STATE;
	else
		result = map_locked(ch, server, writable, made_read_only, GpadlHandle, gpadl);
	if (result == STATUS_SUCCESS) {
		InsertTailList(&ch->gpadls, &gpadl->link);
		*Mdl = gpadl->mdl;
	}
	pthread_mutex_unlock(&bus->lock);
	kmcl_bus_unref(bus);
	if (result != STATUS_SUCCESS)
		free(gpadl);
	return result;
}

/* Server's bus lock held; the channel is open as long as it has mappings. */
static void
unmap_locked(struct kmcl_channel *ch, struct kmcl_gpadl *gpadl)
{
	const struct kmcl_server *server = ch->role_state;

	RemoveEntryList(&gpadl->link);
	free_chain(gpadl->mdl);
	VMB_IGNORE(vmb_bus_server_gpadl_unmap(server->active->guest->server,
	                                      server->open.channel_id, gpadl->id));
	free(gpadl);
}

VOID
VmbChannelUnmapGpadl(VMBCHANNEL Channel, UINT32 GpadlHandle)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);
	struct kmcl_gpadl *gpadl = NULL;
	struct kmcl_bus *bus = NULL;

	if (ch != NULL && ch->config.is_server)
		bus = kmcl_server_bus(ch);
	if (bus != NULL) {
		pthread_mutex_lock(&bus->lock);
		gpadl = find_locked(ch, GpadlHandle);
		if (gpadl != NULL)
			unmap_locked(ch, gpadl);
		pthread_mutex_unlock(&bus->lock);
		kmcl_bus_unref(bus);
	}
	if (gpadl == NULL)
		kmcl_misuse(ch, "VmbChannelUnmapGpadl: 0x%x is not mapped by this server channel",
		            GpadlHandle);
}

void
kmcl_gpadl_drop_mappings(struct kmcl_channel *ch)
{
	struct kmcl_bus *bus = kmcl_server_bus(ch);

	if (bus == NULL)
		return;
	pthread_mutex_lock(&bus->lock);
	while (!IsListEmpty(&ch->gpadls)) {
		struct kmcl_gpadl *gpadl = CONTAINING_RECORD(ch->gpadls.Flink, struct kmcl_gpadl, link);

		kmcl_misuse(ch, "GPADL 0x%x was still mapped after EvtChannelClosed", gpadl->id);
		unmap_locked(ch, gpadl);
	}
	pthread_mutex_unlock(&bus->lock);
	kmcl_bus_unref(bus);
}
