/* SPDX-License-Identifier: MIT */
/* What the drivers' packets look like, so that whoever receives one knows which it is and what must be in it. */
#ifndef SIM_PAYLOAD_H
#define SIM_PAYLOAD_H

#include "world.h"

#define SIM_MAGIC 0x6d697321u

/* External data comes with the packet; and its memory stays as it is until the packet has ended. */
enum { SIM_EXTERNAL_NONE, SIM_EXTERNAL_COMES, SIM_EXTERNAL_STAYS };

/* What every payload begins with; the rest follows from it. */
struct sim_wire {
	uint32_t magic;
	uint8_t slot, is_server, sender, external;
	uint32_t serial, bytes;
	uint32_t first, count; /* of external data */
};

uint8_t sim_pattern(uint32_t serial, uint32_t sender, uint32_t at);
/* Bytes from..bytes-1. */
void sim_fill(uint8_t *to, uint32_t from, uint32_t bytes, uint32_t serial, uint32_t sender);
bool sim_is_filled(const uint8_t *bytes, uint32_t from, uint32_t count, uint32_t serial,
                   uint32_t sender);
/* `first`: where the part of the external data begins that is sent. */
void sim_payload(uint8_t *payload, const struct sim_end *end, uint32_t sender, uint32_t serial,
                 uint32_t bytes, uint32_t external, uint32_t first);
/* The next of this sender; false after SIM_SERIALS of them. */
bool sim_record_new(struct sim_end *end, uint32_t sender, uint32_t *serial);

#endif
