/* SPDX-License-Identifier: MIT */
/* GPADLs, which a client describes and a server maps; and the saved state of a server channel. */
#include <stdlib.h>
#include <string.h>

#include "wdm.h"
#include "world.h"
#include "wrap.h"

#define TAG 'mis '

/* ---- GPADLs ---------------------------------------------------------------------------------------------- */

static void
call_begins(struct sim_end *end)
{
	end->gpadl_calls++;
}

static void
call_ends(struct sim_end *end)
{
	end->gpadl_calls--;
	(void)sim_wake(&end->gpadl_calls, UINT32_MAX);
}

static NTSTATUS
describe(VMBCHANNEL channel, void *memory, uint32_t bytes, bool from_mdl, UINT32 *handle)
{
	NTSTATUS status = STATUS_INSUFFICIENT_RESOURCES;
	PMDL mdl;

	if (!from_mdl)
		return VmbChannelCreateGpadlFromBuffer(channel, 0, memory, bytes, handle);
	mdl = IoAllocateMdl(memory, bytes, FALSE, FALSE, NULL);
	if (mdl == NULL)
		return status;
	MmBuildMdlForNonPagedPool(mdl);
	status = VmbChannelCreateGpadlFromMdl(channel, 0, mdl, 0, 0, handle);
	IoFreeMdl(mdl);
	return status;
}

void
sim_describe(struct sim_end *end, uint32_t bytes, bool from_mdl)
{
	void *memory;
	UINT32 handle = 0;
	NTSTATUS status;

	/* One at a time, and none while the channel is being closed. */
	if (end->gpadl != 0 || end->gpadl_calls != 0 || end->state == SIM_CLOSED)
		return;
	call_begins(end);
	memory = ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, TAG);
	if (memory != NULL) {
		memset(memory, 0x5a, bytes);
		status = describe(end->channel, memory, bytes, from_mdl, &handle);
		(void)sim_status_is_one_of(status, "VmbChannelCreateGpadl", 3,
		                           STATUS_INVALID_DEVICE_STATE, STATUS_DEVICE_REMOVED,
		                           STATUS_UNSUCCESSFUL);
		if (status == STATUS_SUCCESS) {
			end->gpadl = handle;
			end->gpadl_memory = memory;
			sim_world.counts.gpadls++;
			(void)sim_wake(&end->gpadl, UINT32_MAX);
		} else {
			ExFreePoolWithTag(memory, TAG);
		}
	}
	call_ends(end);
}

void
sim_map(struct sim_end *end, bool read_only)
{
	const struct sim_end *peer = sim_peer_of(end);
	const uint64_t until = sim_now() + 5 * SIM_MS;
	uint32_t handle;
	PMDL mdl = NULL;
	NTSTATUS status;

	/* Its driver tells it when there is one, in a way that is theirs. */
	while (peer->gpadl == 0 && !sim_world.ending && sim_block(&peer->gpadl, until, "a GPADL"))
		continue;
	handle = peer->gpadl;
	if (handle == 0 || end->mapped || end->gpadl_calls != 0 || end->state == SIM_CLOSED)
		return;
	call_begins(end);
	status = VmbChannelMapGpadl(
	    end->channel, read_only ? VMBUS_CHANNEL_GPADL_FLAG_READ_ONLY : 0, handle, &mdl);
	/* It may be gone meanwhile, or be of a channel that was there before. */
	(void)sim_status_is_one_of(status, "VmbChannelMapGpadl", 4, STATUS_INVALID_DEVICE_STATE,
	                           STATUS_DEVICE_BUSY, STATUS_INVALID_PARAMETER_3,
	                           STATUS_DEVICE_REMOVED);
	if (status == STATUS_SUCCESS) {
		const uint8_t *bytes = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);

		if (bytes != NULL && bytes[0] != 0x5a)
			sim_found("a mapped GPADL shows other bytes than the client has");
		end->mapped = true;
		sim_world.counts.mappings++;
		end->gpadl = handle;
	}
	call_ends(end);
}

void
sim_gpadl_end(struct sim_end *end)
{
	const uint32_t handle = end->gpadl;
	void *memory = end->gpadl_memory;

	if (handle == 0)
		return;
	end->gpadl = 0;
	end->gpadl_memory = NULL;
	if (end->is_server) {
		end->mapped = false;
		VmbChannelUnmapGpadl(end->channel, handle);
	} else {
		VmbChannelDeleteGpadl(end->channel, handle);
		ExFreePoolWithTag(memory, TAG);
	}
}

void
sim_forget(struct sim_end *end)
{
	/* A channel that closes meanwhile waits for it. */
	call_begins(end);
	sim_gpadl_end(end);
	call_ends(end);
}

/* ---- save and restore --------------------------------------------------------------------------------------- */

/* What a driver keeps of a packet that is under way. */
struct part {
	uint32_t sender, serial, bytes, answered;
};

NTSTATUS
sim_save_packet(VMBCHANNEL channel, VMBPACKET packet, PVOID buffer, UINT32 bytes, PUINT32 needed)
{
	struct sim_out *out = VmbPacketGetPointer(packet);
	struct part part;

	if (out == NULL || out->packet != packet || out->end->channel != channel || !out->busy)
		sim_found("a packet is saved that this driver has not sent");
	part = (struct part){ out->sender, out->serial, out->bytes, out->answered };
	*needed = sizeof(part);
	if (bytes < sizeof(part))
		return STATUS_BUFFER_TOO_SMALL;
	memcpy(buffer, &part, sizeof(part));
	return STATUS_SUCCESS;
}

/* If there is no packet left, the transaction is dropped. */
NTSTATUS
sim_restore_packet(VMBCHANNEL channel, PVOID library, UINT32 library_bytes, PVOID buffer,
                   UINT32 bytes)
{
	struct sim_end *end = VmbChannelGetPointer(channel);
	struct sim_out *out;
	struct part part;
	NTSTATUS status;

	if (bytes < sizeof(part))
		sim_found("a packet is restored with %u bytes of its driver's", bytes);
	memcpy(&part, buffer, sizeof(part));
	out = sim_take_packet(end);
	if (out == NULL)
		return STATUS_SUCCESS;
	out->sender = part.sender;
	out->serial = part.serial;
	out->bytes = part.bytes;
	out->answered = part.answered != 0;
	out->accepted = false;
	out->again = 0;
	/* The one that was saved has ended as removed here; whether it was in the ring is not known. */
	end->records[part.sender][part.serial].status = SIM_MAYBE;
	status = VmbPacketRestore(out->packet, library, library_bytes);
	if (sim_status_is_one_of(status, "VmbPacketRestore", 0) != STATUS_SUCCESS)
		out->busy = false;
	return status;
}

/* The whole snapshot, or NULL: the channel is in no state to be saved. */
static uint8_t *
take_state(struct sim_end *end, ULONG *count)
{
	uint8_t *state = NULL;
	ULONG filled = 0, needed = 0;
	NTSTATUS status = VmbChannelSaveBegin(end->channel);

	*count = 0;
	if (sim_status_is_one_of(status, "VmbChannelSaveBegin", 1, STATUS_INVALID_DEVICE_STATE) !=
	    STATUS_SUCCESS)
		return NULL;
	do {
		const uint32_t room = needed > 512 ? (uint32_t)needed : 512;
		uint8_t *longer = sim_alloc(*count + room);

		if (*count != 0)
			memcpy(longer, state, *count);
		sim_free(state);
		state = longer;
		status =
		    VmbChannelSaveContinue(end->channel, state + *count, room, &filled, &needed);
		(void)sim_status_is_one_of(status, "VmbChannelSaveContinue", 2,
		                           STATUS_BUFFER_OVERFLOW, STATUS_BUFFER_TOO_SMALL);
		*count += filled;
	} while (status == STATUS_BUFFER_OVERFLOW || status == STATUS_BUFFER_TOO_SMALL);
	VmbChannelSaveEnd(end->channel);
	sim_world.counts.saves++;
	return state;
}

/* Its bus is held: the guest notices nothing. */
static void
begin_anew(struct sim_end *end, uint8_t *state, ULONG count)
{
	NTSTATUS status;

	VmbChannelDisable(end->channel);
	status = VmbChannelEnable(end->channel);
	if (sim_status_is_one_of(status, "VmbChannelEnable", 1, STATUS_DEVICE_NOT_READY) !=
	    STATUS_SUCCESS)
		return;
	end->restoring = true;
	status = VmbChannelRestoreFromBuffer(end->channel, state, count);
	/* The guest may have closed the channel meanwhile, or be gone. */
	(void)sim_status_is_one_of(status, "VmbChannelRestoreFromBuffer", 2,
	                           STATUS_INVALID_DEVICE_STATE, STATUS_INVALID_PARAMETER_2);
	sim_world.counts.restores += status == STATUS_SUCCESS;
	if (status != STATUS_SUCCESS)
		end->restoring = false;
}

void
sim_save(struct sim_end *end, bool anew)
{
	uint8_t *state;
	ULONG count;
	bool held;

	if (!sim_use_alone(end))
		return;
	/* Another channel's save may hold it already. */
	sim_world.holds++;
	held = anew && kmcl_bus_hold(sim_world.host) == VMB_OK;
	VmbChannelPause(end->channel);
	state = take_state(end, &count);
	if (held && state != NULL)
		begin_anew(end, state, count);
	VmbChannelStart(end->channel);
	if (held && kmcl_bus_release(sim_world.host) != VMB_OK)
		sim_found("kmcl_bus_release() fails");
	sim_free(state);
	sim_world.holds--;
	sim_world.holds_ended++;
	sim_release_alone(end);
}
