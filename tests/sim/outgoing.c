/* SPDX-License-Identifier: MIT */
/*
 * Packets that the drivers send: the completion routine of each is called exactly once, and its answer is that to this packet.
 */
#include <string.h>

#include "payload.h"
#include "plant.h"
#include "wdm.h"
#include "wrap.h"

#define PART_FIRST 1000u /* where part of the external data begins */

static struct sim_record *
record_of(const struct sim_out *out)
{
	return &out->end->records[out->sender][out->serial];
}

/* Through one of the three functions; the latter two are for packets with an answer. */
static NTSTATUS
submit_as(struct sim_out *out, void *payload, PMDL mdl, uint32_t first, uint32_t flags)
{
	const UINT32 wait =
	    (flags & SIM_SEND_WAIT) != 0 ? VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION : 0;

	if (mdl != NULL && wait != 0 && first != 0)
		return VmbPacketSendWithExternalMdl(out->packet, payload, out->bytes, mdl, first,
		                                    SIM_EXTERNAL_BYTES - first, wait);
	if (mdl != NULL && wait != 0 && (flags & SIM_SEND_PAGES) != 0 && mdl == out->mdl[0])
		return VmbPacketSendWithExternalPfns(out->packet, payload, out->bytes,
		                                     MmGetMdlPfnArray(mdl),
		                                     SIM_EXTERNAL_BYTES / PAGE_SIZE, wait);
	return VmbPacketSend(out->packet, payload, out->bytes, mdl, wait);
}

static void
submit(struct sim_out *out, uint32_t flags)
{
	struct sim_end *end = out->end;
	const uint32_t external = flags & (SIM_SEND_POOL | SIM_SEND_OUTSIDE);
	const uint32_t which = (flags & SIM_SEND_POOL) == 0;
	const uint32_t first =
	    (flags & (SIM_SEND_PART | SIM_SEND_WAIT)) == (SIM_SEND_PART | SIM_SEND_WAIT)
		? PART_FIRST
		: 0;
	uint8_t payload[4096];
	NTSTATUS status;

	if (external != 0)
		sim_fill(out->external[which], 0, SIM_EXTERNAL_BYTES, out->serial, out->sender);
	sim_payload(payload, end, out->sender, out->serial, out->bytes,
	            external == 0                  ? SIM_EXTERNAL_NONE
	            : (flags & SIM_SEND_WAIT) == 0 ? SIM_EXTERNAL_COMES
	                                           : SIM_EXTERNAL_STAYS,
	            first);
	status = submit_as(out, payload, external != 0 ? out->mdl[which] : NULL, first, flags);
	(void)sim_status_is_one_of(status, "VmbPacketSend", 2, STATUS_INVALID_DEVICE_STATE,
	                           STATUS_DEVICE_REMOVED);
	/* The routine may have run meanwhile, and the packet may be another sender's. */
	if (status != STATUS_SUCCESS) {
		record_of(out)->status = SIM_REFUSED;
		if (record_of(out)->delivered)
			sim_found("packet %u of sender %u has arrived, and its send fails",
			          out->serial, out->sender);
		out->busy = false;
	}
}

static bool
begin(struct sim_out *out, uint32_t sender, uint32_t bytes, uint32_t flags)
{
	if (!sim_record_new(out->end, sender, &out->serial))
		return false;
	out->busy = true;
	out->accepted = false;
	out->sender = sender;
	out->bytes = bytes;
	out->answered = (flags & SIM_SEND_WAIT) != 0;
	return true;
}

VOID
sim_completed(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	struct sim_out *out = VmbPacketGetPointer(packet);
	struct sim_end *end = out->end;
	struct sim_record *record;
	struct sim_wire w;

	if (sim_planted(SIM_PLANT_NEVER))
		return;
	if (out->packet != packet || !out->busy)
		sim_found("a completion routine is called for a packet that is not on its way");
	if (status != STATUS_SUCCESS && status != STATUS_DEVICE_REMOVED)
		sim_found("a completion routine is called with status 0x%08x", (unsigned)status);
	record = record_of(out);
	record->ended = true;
	if (record->status == SIM_REFUSED)
		sim_found("a completion routine is called for a packet whose send failed");
	if (status == STATUS_SUCCESS && out->answered) {
		if (!record->delivered)
			sim_found("packet %u of sender %u is answered, and has not arrived",
			          out->serial, out->sender);
		if (buffer != NULL) {
			memcpy(&w, buffer, sizeof(w));
			if (bytes != out->bytes || w.magic != SIM_MAGIC ||
			    w.serial != out->serial || w.sender != out->sender ||
			    w.slot != end->slot || w.is_server != end->is_server)
				sim_found("packet %u of sender %u gets the answer to another one",
				          out->serial, out->sender);
		}
	}
	if (status != STATUS_SUCCESS)
		record->status = SIM_REMOVED;
	else if (record->status == SIM_SENDING)
		record->status = SIM_ACCEPTED;
	sim_world.counts.completions++;
	sim_world.counts.removals += status != STATUS_SUCCESS;
	sim_note("completed", (uint32_t)status);
	out->busy = false;
	out->accepted = false;
	if (out->again != 0 && !sim_world.ending && status == STATUS_SUCCESS) {
		out->again--;
		if (begin(out, SIM_RESENDER, out->bytes, 0))
			submit(out, 0);
	}
	if (sim_planted(SIM_PLANT_TWICE))
		sim_completed(packet, status, buffer, bytes);
}

static void
make_in_place(struct sim_out *out)
{
	const UINT32 bytes = VmbChannelSizeofPacket(out->end->channel);
	void *memory = sim_alloc(bytes);
	NTSTATUS status = VmbPacketInitialize(out->end->channel, (VMBPACKET)memory, bytes);

	if (sim_status_is_one_of(status, "VmbPacketInitialize", 0) != STATUS_SUCCESS) {
		sim_free(memory);
		return;
	}
	out->packet = (VMBPACKET)memory;
	out->memory = memory;
}

struct sim_out *
sim_take_packet(struct sim_end *end)
{
	for (uint32_t i = 0; i < SIM_PACKETS; i++) {
		struct sim_out *out = &end->out[i];

		if (out->busy)
			continue;
		out->busy = true;
		if (out->packet != NULL)
			return out;
		out->end = end;
		if (i % 2 == 0)
			out->packet = VmbPacketAllocate(end->channel);
		else
			make_in_place(out);
		if (out->packet == NULL) {
			out->busy = false;
			return NULL;
		}
		VmbPacketSetPointer(out->packet, out);
		VmbPacketSetCompletionRoutine(out->packet, sim_completed);
		return out;
	}
	return NULL;
}

void
sim_send(struct sim_end *end, uint32_t sender, uint32_t bytes, uint32_t flags)
{
	const bool pipe = sim_world.program->channels[end->slot].pipe;
	struct sim_out *out = sim_take_packet(end);
	uint32_t serial;

	if (out == NULL)
		return;
	if (pipe)
		flags &= ~(uint32_t)(SIM_SEND_WAIT | SIM_SEND_POOL | SIM_SEND_OUTSIDE);
	if (end->is_server)
		flags &= ~(uint32_t)(SIM_SEND_POOL | SIM_SEND_OUTSIDE);
	if ((flags & (SIM_SEND_POOL | SIM_SEND_OUTSIDE)) != 0 && !sim_external_make(out)) {
		out->busy = false;
		return;
	}
	if (!begin(out, sender, bytes, flags)) {
		out->busy = false;
		return;
	}
	out->again = (flags & SIM_SEND_AGAIN) != 0 ? 2 : 0;
	serial = out->serial;
	submit(out, flags);
	if (out->busy && out->sender == sender && out->serial == serial)
		out->accepted = true;
	if (end->records[sender][serial].status == SIM_SENDING)
		end->records[sender][serial].status = SIM_ACCEPTED;
}
