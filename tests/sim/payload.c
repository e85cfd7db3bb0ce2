/* SPDX-License-Identifier: MIT */
#include "payload.h"

#include <string.h>

#include "plant.h"

uint8_t
sim_pattern(uint32_t serial, uint32_t sender, uint32_t at)
{
	return (uint8_t)(serial * 31 + sender * 7 + at * 13 + (at >> 8));
}

void
sim_fill(uint8_t *to, uint32_t from, uint32_t bytes, uint32_t serial, uint32_t sender)
{
	for (uint32_t i = from; i < bytes; i++)
		to[i] = sim_pattern(serial, sender, i);
}

bool
sim_is_filled(const uint8_t *bytes, uint32_t from, uint32_t count, uint32_t serial, uint32_t sender)
{
	for (uint32_t i = from; i < count; i++) {
		if (bytes[i] != sim_pattern(serial, sender, i))
			return false;
	}
	return true;
}

void
sim_payload(uint8_t *payload, const struct sim_end *end, uint32_t sender, uint32_t serial,
            uint32_t bytes, uint32_t external, uint32_t first)
{
	struct sim_wire wire = { SIM_MAGIC,
		                 (uint8_t)end->slot,
		                 end->is_server,
		                 (uint8_t)sender,
		                 (uint8_t)external,
		                 serial,
		                 bytes,
		                 first,
		                 SIM_EXTERNAL_BYTES - first };

	sim_fill(payload, sizeof(wire), bytes, serial, sender);
	memcpy(payload, &wire, sizeof(wire));
}

bool
sim_record_new(struct sim_end *end, uint32_t sender, uint32_t *serial)
{
	static uint32_t swapped[SIM_SLOTS][2][SIM_SENDERS]; /* + 1 */
	uint32_t *next = &swapped[end->slot][end->is_server][sender];

	if (end->serials[sender] >= SIM_SERIALS - 1)
		return false;
	if (*next != 0) {
		*serial = *next - 1;
		*next = 0;
	} else if (sim_planted_since(SIM_PLANT_ORDER)) {
		/* Two numbers change places, and with them the packets that carry them. */
		*next = end->serials[sender] + 1;
		*serial = end->serials[sender] + 1;
		end->serials[sender] += 2;
	} else {
		*serial = end->serials[sender]++;
	}
	end->records[sender][*serial] =
	    (struct sim_record){ SIM_SENDING, end->opens + end->closes, false, false };
	return true;
}
