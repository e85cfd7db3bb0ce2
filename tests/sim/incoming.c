/* SPDX-License-Identifier: MIT */
/*
 * Packets that the drivers receive, and what is checked about each: it arrives unchanged, at most once, after those that its
 * sender sent before, none of which is missing; its id is nobody else's while it is unanswered.
 */
#include <string.h>

#include "kmcl/kmcl_channel.h"
#include "payload.h"
#include "plant.h"
#include "wdm.h"
#include "wrap.h"

/* In front of it everything that the sender was told is sent has arrived, if it was for the same opening. */
static void
check_order(struct sim_end *end, const struct sim_end *from, const struct sim_wire *w)
{
	const struct sim_record *records = from->records[w->sender];
	const struct sim_record *this = &records[w->serial];
	uint32_t next = end->last_serial[w->sender];

	if (w->sender == SIM_RESENDER)
		return;
	if (w->serial < next)
		sim_found("packet %u of %s arrives after its packet %u", w->serial,
		          sim_sender_name(w->sender), next - 1);
	end->last_serial[w->sender] = w->serial + 1;
	if (next == 0)
		return;
	for (; next < w->serial; next++) {
		if (records[next].status == SIM_ACCEPTED &&
		    records[next].connection == this->connection)
			sim_found("packet %u of %s is missing when its packet %u arrives", next,
			          sim_sender_name(w->sender), w->serial);
	}
}

static void
check_new(struct sim_end *end, const struct kmcl_incoming *incoming, const uint8_t *buffer,
          uint32_t bytes, struct sim_wire *w)
{
	struct sim_end *from = sim_peer_of(end);
	struct sim_record *record;

	if (bytes < sizeof(*w))
		sim_found("a packet of %u bytes arrives, which nobody sent", bytes);
	memcpy(w, buffer, sizeof(*w));
	if (w->magic != SIM_MAGIC || w->slot != end->slot || w->is_server == end->is_server ||
	    w->sender >= SIM_SENDERS || w->serial >= from->serials[w->sender] || w->bytes != bytes)
		sim_found("a packet arrives that nobody sent to slot %u's %s", end->slot,
		          end->is_server ? "server" : "client");
	if (!sim_is_filled(buffer, sizeof(*w), bytes, w->serial, w->sender))
		sim_found("packet %u of sender %u arrives with other bytes", w->serial, w->sender);
	record = &from->records[w->sender][w->serial];
	if (record->delivered)
		sim_found("packet %u of sender %u arrives twice", w->serial, w->sender);
	if (record->status == SIM_REFUSED)
		sim_found("packet %u of sender %u arrives, and its send had failed", w->serial,
		          w->sender);
	record->delivered = true;
	check_order(end, from, w);
	for (uint32_t i = 0; i < SIM_HELD && incoming->wants_completion; i++) {
		if (end->in[i].packet != NULL && end->in[i].answered &&
		    end->in[i].transaction == incoming->transaction_id)
			sim_found("transaction id 0x%llx is used again before it is answered",
			          (unsigned long long)incoming->transaction_id);
	}
}

static void
look_at_external(VMBPACKETCOMPLETION packet, const struct sim_record *record,
                 const struct sim_wire *w)
{
	PMDL mdl = NULL;
	uint32_t at = w->first;
	NTSTATUS status = VmbChannelPacketGetExternalData(packet, 0, &mdl);

	/* The guest may be going away, with its memory. */
	if (sim_status_is_one_of(status, "VmbChannelPacketGetExternalData", 1,
	                         STATUS_DEVICE_REMOVED) != STATUS_SUCCESS)
		return;
	for (; mdl != NULL; mdl = mdl->Next) {
		const uint8_t *bytes = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);

		if (bytes == NULL)
			return;
		for (uint32_t i = 0; i < MmGetMdlByteCount(mdl); i++, at++) {
			/* Once its request has ended, the memory is its driver's again. */
			if (bytes[i] != sim_pattern(w->serial, w->sender, at) &&
			    w->external == SIM_EXTERNAL_STAYS &&
			    (record->status == SIM_SENDING ||
			     (record->status == SIM_ACCEPTED && !record->ended)))
				sim_found("external data of packet %u arrives with other bytes",
				          w->serial);
		}
	}
	if (at - w->first != w->count)
		sim_found("%u bytes of external data arrive instead of %u", at - w->first,
		          w->count);
	sim_world.counts.externals++;
}

static void
finish(struct sim_end *end, struct sim_in *in)
{
	struct sim_in now = *in;

	*in = (struct sim_in){ 0 };
	end->in_count--;
	VmbChannelPacketComplete(now.packet, now.buffer, now.bytes);
}

static struct sim_in *
hold(struct sim_end *end, const struct kmcl_incoming *incoming, VMBPACKETCOMPLETION packet,
     void *buffer, uint32_t bytes)
{
	for (uint32_t i = 0; i < SIM_HELD; i++) {
		if (end->in[i].packet != NULL)
			continue;
		end->in_count++;
		end->in[i] = (struct sim_in){ packet, buffer, bytes, incoming->wants_completion,
			                      incoming->transaction_id };
		return &end->in[i];
	}
	return NULL;
}

VOID
sim_process_packet(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes,
                   UINT32 flags)
{
	struct sim_end *end = VmbChannelGetPointer(channel);
	const struct kmcl_incoming *incoming = (const void *)packet;
	const bool again = end != NULL && end->deferred.packet != NULL;
	enum sim_answer how;
	struct sim_wire w;
	struct sim_in *in;

	if (end == NULL || end->channel != channel)
		sim_found("ProcessPacket is called for a channel that is gone");
	if (end->processing)
		sim_found("ProcessPacket is called while it runs");
	if (end->state != SIM_STARTED)
		sim_found("ProcessPacket is called while the channel is not started");
	if (sim_planted(SIM_PLANT_LOSS)) {
		VmbChannelPacketComplete(packet, NULL, 0);
		return;
	}
	end->processing = true;
	sim_world.counts.deliveries++;
	sim_note(again ? "packet again" : "packet", end->slot * 2 + end->is_server);
	if (again && (end->deferred.packet != packet || end->deferred.buffer != buffer ||
	              end->deferred.bytes != bytes || KeGetCurrentIrql() != PASSIVE_LEVEL))
		sim_found("something else is delivered than the packet that was deferred");
	if (sim_planted(SIM_PLANT_BYTES))
		((uint8_t *)buffer)[bytes - 1] ^= 1;
	end->deferred.packet = NULL;
	if (again)
		memcpy(&w, buffer, sizeof(w));
	else
		check_new(end, incoming, buffer, bytes, &w);
	if (((flags & VMBUS_CHANNEL_PROCESS_PACKET_FLAG_EXTERNAL_DATA) != 0) != (w.external != 0))
		sim_found("external data is announced, or is not, with packet %u", w.serial);
	sim_point();

	how = end->answer != SIM_ECHO && sim_chance(end->answer_one_in) ? end->answer : SIM_ECHO;
	if (sim_world.ending)
		how = SIM_ECHO;
	if (how == SIM_DEFER && !again) {
		sim_world.counts.deferrals++;
		end->deferred =
		    (struct sim_in){ .packet = packet, .buffer = buffer, .bytes = bytes };
		end->processing = false;
		VmbChannelPacketDeferToPassive(packet);
		return;
	}
	if (w.external != 0)
		look_at_external(packet, &sim_peer_of(end)->records[w.sender][w.serial], &w);
	if (how == SIM_FAIL) {
		end->failures++;
		sim_world.counts.failures++;
		end->processing = false;
		VmbChannelPacketFail(packet);
		return;
	}
	in = hold(end, incoming, packet, buffer, bytes);
	end->processing = false;
	if (in == NULL)
		VmbChannelPacketComplete(packet, buffer, bytes);
	else if (how == SIM_ECHO)
		finish(end, in);
}

uint32_t
sim_complete(struct sim_end *end, uint32_t most)
{
	uint32_t done = 0;

	while (done < most && end->in_count != 0) {
		uint32_t at = sim_random(SIM_HELD);

		while (end->in[at].packet == NULL)
			at = (at + 1) % SIM_HELD;
		finish(end, &end->in[at]);
		done++;
	}
	return done;
}
