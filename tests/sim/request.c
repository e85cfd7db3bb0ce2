/* SPDX-License-Identifier: MIT */
/*
 * Synchronous requests of the drivers: what each returns fits to what arrived, its answer is its own, and it writes to its
 * buffers only when it may.
 */
#include <string.h>

#include "payload.h"
#include "wdm.h"
#include "wrap.h"

/* What a request may write to: looked at again when it can have no reason to. */
struct answer {
	uint8_t bytes[4096];
	UINT32 count;
};

static void
check_answer(const struct answer *answer, const struct sim_wire *sent, uint32_t room,
             NTSTATUS status)
{
	struct sim_wire w;

	if (status != STATUS_SUCCESS && status != STATUS_BUFFER_TOO_SMALL) {
		if (!sim_is_filled(answer->bytes, 0, sizeof(answer->bytes), 1, 1))
			sim_found("a request that ended with 0x%08x has written to its buffer",
			          (unsigned)status);
		return;
	}
	if (answer->count > room ||
	    !sim_is_filled(answer->bytes, answer->count, sizeof(answer->bytes), 1, 1))
		sim_found("a request has written beyond its buffer");
	if (answer->count == 0)
		return;
	memcpy(&w, answer->bytes, sizeof(w));
	if (memcmp(&w, sent, sizeof(w)) != 0)
		sim_found("request %u of %s gets the answer to another one", sent->serial,
		          sim_sender_name(sent->sender));
}

static LARGE_INTEGER
time_limit(uint32_t flags)
{
	LARGE_INTEGER limit = { .QuadPart = 0 };

	if ((flags & SIM_ASK_SHORT) != 0)
		limit.QuadPart = -10 * (LONGLONG)sim_random(20000);
	return limit;
}

static const NTSTATUS ask_may_end_with[] = { STATUS_BUFFER_OVERFLOW, STATUS_CANCELLED,
	                                     STATUS_DEVICE_REMOVED, STATUS_BUFFER_TOO_SMALL,
	                                     STATUS_INVALID_DEVICE_STATE };

void
sim_ask(struct sim_end *end, uint32_t sender, uint32_t bytes, uint32_t flags)
{
	const bool pipe = sim_world.program->channels[end->slot].pipe;
	struct sim_out external = { .end = end };
	struct answer answer;
	struct sim_record *record;
	uint8_t payload[4096];
	LARGE_INTEGER limit;
	struct sim_wire wire;
	uint32_t serial, room = (flags & SIM_ASK_CUT) != 0 ? 24 : 4096;
	NTSTATUS status;

	/* A server may only try; a pipe asks for no answers. */
	if (end->is_server)
		flags = SIM_ASK_ZERO;
	if (pipe)
		flags &= ~(uint32_t)(SIM_ASK_WAIT | SIM_ASK_POOL);
	if ((flags & SIM_ASK_POOL) != 0 && !sim_external_make(&external))
		return;
	if (!sim_record_new(end, sender, &serial)) {
		sim_external_free(&external);
		return;
	}
	record = &end->records[sender][serial];
	if ((flags & SIM_ASK_POOL) != 0)
		sim_fill(external.external[0], 0, SIM_EXTERNAL_BYTES, serial, sender);
	sim_payload(payload, end, sender, serial, bytes,
	            (flags & SIM_ASK_POOL) == 0   ? SIM_EXTERNAL_NONE
	            : (flags & SIM_ASK_WAIT) == 0 ? SIM_EXTERNAL_COMES
	                                          : SIM_EXTERNAL_STAYS,
	            0);
	memcpy(&wire, payload, sizeof(wire));
	sim_fill(answer.bytes, 0, sizeof(answer.bytes), 1, 1);
	answer.count = room;
	limit = time_limit(flags);
	end->asking++;
	status = VmbChannelSendSynchronousRequest(
	    end->channel, payload, bytes, external.mdl[0],
	    (flags & SIM_ASK_WAIT) != 0 ? VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION : 0,
	    answer.bytes, &answer.count,
	    (flags & (SIM_ASK_ZERO | SIM_ASK_SHORT)) != 0 ? &limit : NULL);
	end->asking--;
	record->ended = true;
	(void)sim_status_is_one_of(status, "VmbChannelSendSynchronousRequest", 5,
	                           ask_may_end_with[0], ask_may_end_with[1], ask_may_end_with[2],
	                           ask_may_end_with[3], ask_may_end_with[4]);
	if (status == STATUS_SUCCESS || status == STATUS_BUFFER_TOO_SMALL)
		record->status = SIM_ACCEPTED;
	else if (status == STATUS_BUFFER_OVERFLOW || status == STATUS_INVALID_DEVICE_STATE ||
	         status == STATUS_INSUFFICIENT_RESOURCES)
		record->status = SIM_REFUSED;
	else
		record->status = SIM_MAYBE;
	sim_world.counts.answers += record->status == SIM_ACCEPTED && (flags & SIM_ASK_WAIT) != 0;
	sim_world.counts.cancellations += status == STATUS_CANCELLED;
	if (record->status == SIM_REFUSED && record->delivered)
		sim_found("request %u of %s ended with 0x%08x, and it has arrived", serial,
		          sim_sender_name(sender), (unsigned)status);
	if (record->status == SIM_ACCEPTED && (flags & SIM_ASK_WAIT) != 0 && !record->delivered)
		sim_found("request %u of %s is answered, and has not arrived", serial,
		          sim_sender_name(sender));
	check_answer(&answer, &wire, room, status);
	/* Also while the peer may still look at the pages of a request that was cancelled. */
	sim_external_free(&external);
	sim_point();
	check_answer(&answer, &wire, room, status);
}
