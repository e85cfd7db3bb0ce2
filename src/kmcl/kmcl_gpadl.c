/* SPDX-License-Identifier: MIT */
/*
 * GPADLs (GPB, GPM, GPD, MPG, UMG). The list of a channel is guarded by its bus's lock; waits for the host end with its
 * answer or with the channel.
 */
#include "kmcl/kmcl_gpadl.h"

#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_bus.h"
#include "kmcl/kmcl_external.h"
#include "nt/nt_mdl.h"

struct kmcl_gpadl {
	LIST_ENTRY link;        /* channel->gpadls */
	uint32_t id;
	enum { GPADL_ASKED, GPADL_CREATED, GPADL_REFUSED, GPADL_DELETING, GPADL_DELETED } state;
	/* Client. */
	uint8_t *ranges;
	uint32_t ranges_bytes, range_count;
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
	case KMCL_S_CLOSED:
		return false;
	default:
		return true;
	}
}

static void
free_created(struct kmcl_gpadl *gpadl)
{
	kmcl_external_unpin(gpadl->ranges, gpadl->ranges_bytes, gpadl->range_count);
	free(gpadl->ranges);
	free(gpadl);
}

/* ---- client: events ------------------------------------------------------------------------------------------ */

void
kmcl_gpadl_created(struct kmcl_channel *ch, uint32_t gpadl_id, uint32_t status)
{
	struct kmcl_gpadl *gpadl = find_locked(ch, gpadl_id);

	if (gpadl != NULL && gpadl->state == GPADL_ASKED)
		gpadl->state = status == 0 ? GPADL_CREATED : GPADL_REFUSED;
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

/* ---- client: create -------------------------------------------------------------------------------------------- */

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

			if (nt_pfn_is_foreign(pfn)) {
				/* Nothing tells when to copy, so such memory cannot be shared. */
				free(ranges);
				kmcl_log(KMCL_LOG_WARNING, "a GPADL needs pool memory "
				                           "(ExAllocatePool2), not stack or heap");
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

	bus = kmcl_client_bus(ch, &channel_id);
	kmcl_external_pin(gpadl->ranges, gpadl->ranges_bytes, gpadl->range_count);
	kmcl_bus_ref(bus);
	pthread_mutex_lock(&bus->lock);
	InsertTailList(&ch->gpadls, &gpadl->link);
	status = vmb_bus_client_gpadl_create(bus->client, channel_id, gpadl->ranges,
	                                     gpadl->ranges_bytes, gpadl->range_count, &gpadl->id);
	while (status == VMB_OK && gpadl->state == GPADL_ASKED && !atomic_load(&ch->fsm.closing))
		pthread_cond_wait(&bus->changed, &bus->lock);
	if (status != VMB_OK)
		result = status == VMB_E_CLOSED ? STATUS_DEVICE_REMOVED
		                                : STATUS_INSUFFICIENT_RESOURCES;
	else if (gpadl->state == GPADL_REFUSED)
		result = atomic_load(&ch->fsm.closing) ? STATUS_DEVICE_REMOVED : STATUS_UNSUCCESSFUL;
	else if (gpadl->state == GPADL_ASKED)
		result = STATUS_DEVICE_REMOVED;
	if (result == STATUS_SUCCESS)
		*handle = gpadl->id;
	else
		RemoveEntryList(&gpadl->link);
	pthread_mutex_unlock(&bus->lock);
	kmcl_bus_unref(bus);
	if (result != STATUS_SUCCESS)
		free_created(gpadl);
	return result;
}

static NTSTATUS
create_from_mdl(struct kmcl_channel *ch, PMDL mdl, uint64_t offset, uint64_t length, PUINT32 handle)
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
	status = describe(mdl, offset, length, gpadl);
	if (status != STATUS_SUCCESS) {
		free(gpadl);
		return status;
	}
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
	status = create_from_mdl(ch, mdl, 0, ByteCount, GpadlHandle);
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
	                       GpadlHandle);
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
		kmcl_bus_ref(bus);
		pthread_mutex_lock(&bus->lock);
		gpadl = find_locked(ch, GpadlHandle);
		if (gpadl != NULL && gpadl->state == GPADL_CREATED) {
			gpadl->state = GPADL_DELETING;
			if (vmb_bus_client_gpadl_teardown(bus->client, channel_id, gpadl->id) !=
			    VMB_OK)
				gpadl->state = GPADL_DELETED;
			/* Once the close began nobody has to answer any more (GPD-3). */
			while (gpadl->state == GPADL_DELETING && !atomic_load(&ch->fsm.closing))
				pthread_cond_wait(&bus->changed, &bus->lock);
			RemoveEntryList(&gpadl->link);
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

void
kmcl_gpadl_drop_created(struct kmcl_channel *ch)
{
	while (!IsListEmpty(&ch->gpadls)) {
		struct kmcl_gpadl *gpadl = CONTAINING_RECORD(ch->gpadls.Flink, struct kmcl_gpadl, link);

		kmcl_misuse(ch, "GPADL 0x%x was not deleted before the end of EvtChannelClosed",
		            gpadl->id);
		VmbChannelDeleteGpadl(kmcl_channel_handle(ch), gpadl->id);
	}
}

/* ---- server ------------------------------------------------------------------------------------------------------ */

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
	return first;
}

static void
free_chain(PMDL first)
{
	for (PMDL mdl = first; mdl != NULL; mdl = mdl->Next)
		nt_mdl_release_guest(mdl);
	free(first);
}

NTSTATUS
VmbChannelMapGpadl(VMBCHANNEL Channel, UINT32 Flags, UINT32 GpadlHandle, PMDL *Mdl)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);
	struct kmcl_server *server;
	struct vmb_bus_server *machine;
	struct kmcl_gpadl *gpadl;
	const void *ranges;
	uint32_t bytes, count, channel_id;
	NTSTATUS result = STATUS_SUCCESS;

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
	gpadl = calloc(1, sizeof(*gpadl));
	if (gpadl == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	server = ch->role_state;
	pthread_mutex_lock(&server->bus->lock);
	machine = server->active->guest->server;
	channel_id = server->open.channel_id;
	if (find_locked(ch, GpadlHandle) != NULL)
		result = STATUS_DEVICE_BUSY;
	else if (vmb_bus_server_gpadl_map(machine, channel_id, GpadlHandle, &ranges, &bytes,
	                                  &count) != VMB_OK)
		result = STATUS_INVALID_PARAMETER_3;
	if (result == STATUS_SUCCESS) {
		gpadl->mdl = build_chain(ch->link.memory, ranges, bytes, count,
		                         (Flags & VMBUS_CHANNEL_GPADL_FLAG_READ_ONLY) == 0);
		if (gpadl->mdl == NULL) {
			VMB_IGNORE(vmb_bus_server_gpadl_unmap(machine, channel_id, GpadlHandle));
			result = STATUS_INSUFFICIENT_RESOURCES;
		}
	}
	if (result == STATUS_SUCCESS) {
		gpadl->id = GpadlHandle;
		gpadl->state = GPADL_CREATED;
		InsertTailList(&ch->gpadls, &gpadl->link);
		*Mdl = gpadl->mdl;
	}
	pthread_mutex_unlock(&server->bus->lock);
	if (result != STATUS_SUCCESS)
		free(gpadl);
	return result;
}

VOID
VmbChannelUnmapGpadl(VMBCHANNEL Channel, UINT32 GpadlHandle)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);
	struct kmcl_server *server = ch != NULL && ch->config.is_server ? ch->role_state : NULL;
	struct kmcl_gpadl *gpadl = NULL;

	if (server != NULL && server->bus != NULL) {
		pthread_mutex_lock(&server->bus->lock);
		gpadl = find_locked(ch, GpadlHandle);
		if (gpadl != NULL) {
			struct kmcl_guest *guest = server->active->guest;

			RemoveEntryList(&gpadl->link);
			free_chain(gpadl->mdl);
			VMB_IGNORE(vmb_bus_server_gpadl_unmap(guest->server, server->open.channel_id,
			                                 GpadlHandle));
		}
		pthread_mutex_unlock(&server->bus->lock);
	}
	if (gpadl == NULL)
		kmcl_misuse(ch, "VmbChannelUnmapGpadl: 0x%x is not mapped by this server channel",
		            GpadlHandle);
	free(gpadl);
}

void
kmcl_gpadl_drop_mappings(struct kmcl_channel *ch)
{
	while (!IsListEmpty(&ch->gpadls)) {
		struct kmcl_gpadl *gpadl = CONTAINING_RECORD(ch->gpadls.Flink, struct kmcl_gpadl, link);

		kmcl_misuse(ch, "GPADL 0x%x was still mapped after EvtChannelClosed", gpadl->id);
		VmbChannelUnmapGpadl(kmcl_channel_handle(ch), gpadl->id);
	}
}
