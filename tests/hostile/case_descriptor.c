/* SPDX-License-Identifier: MIT */
/*
 * Packets whose descriptors lie: every short length and offset, every type, every reserved flag, more than
 * was agreed on.
 */
#include <stdlib.h>
#include <string.h>

#include "cases.h"

#define BODY 64u

/* A descriptor in its raw words, at the head of a body of any length. */
static void
put_raw(uint8_t *body, uint64_t type, uint32_t offset8, uint32_t length8, uint32_t flags)
{
	const uint16_t words[4] = { (uint16_t)type, (uint16_t)offset8, (uint16_t)length8,
		                    (uint16_t)flags };
	const uint64_t id = 77;

	memcpy(body, words, sizeof(words));
	memcpy(body + 8, &id, sizeof(id));
}

static void
write_raw(struct scene *s, uint64_t type, uint32_t offset8, uint32_t length8, uint32_t flags)
{
	uint8_t body[BODY] = { 0 };

	put_raw(body, type, offset8, length8, flags);
	REQUIRE_OK(vmb_hostile_write(s->peer, s->attacked_id, body, sizeof(body)));
}

/* arg: type, payload offset and length in words of 8 bytes (length in the upper half), flags. */
#define SHAPE(offset8, length8) ((offset8) | (uint64_t)(length8) << 32)
static void
one_descriptor(struct scene *s)
{
	scene_open(s);
	write_raw(s, s->c->arg[0], (uint32_t)s->c->arg[1], (uint32_t)(s->c->arg[1] >> 32),
	          (uint32_t)s->c->arg[2]);
}

/* Every pair of small offset and length that no packet can have, each in a channel opened anew. */
static void
every_short_shape(struct scene *s)
{
	scene_open(s);
	for (uint32_t length8 = 0; length8 <= 5; length8++) {
		for (uint32_t offset8 = 0; offset8 <= 6; offset8++) {
			if (offset8 >= 2 && offset8 <= length8)
				continue;
			write_raw(s, VMB_PACKET_IN_BAND, offset8, length8, 0);
			scene_await_failure(s, "incoming ring");
			scene_reopen(s);
			scene_echo(s, s->attacked_id);
		}
	}
}

static bool
is_known(uint32_t type)
{
	return type == VMB_PACKET_IN_BAND || type == VMB_PACKET_GPA_DIRECT ||
	       type == VMB_PACKET_CANCEL || type == VMB_PACKET_COMPLETION ||
	       type == VMB_PACKET_TRANSFER_PAGES;
}

/* Every type that is not used, and some of the others. */
static void
every_type(struct scene *s)
{
	scene_open(s);
	for (uint32_t type = 0; type <= 0x10; type++) {
		if (is_known(type))
			continue;
		write_raw(s, type, 2, BODY / 8, 0);
		scene_await_failure(s, type == 0   ? "packet of type 0"
		                       : type < 14 ? vmb_packet_type_name(type)
		                                   : "unknown type");
		scene_reopen(s);
	}
	for (uint32_t bit = 5; bit < 16; bit++) {
		write_raw(s, 1u << bit, 2, BODY / 8, 0);
		scene_await_failure(s, "unknown type");
		scene_reopen(s);
	}
}

static void
every_reserved_flag(struct scene *s)
{
	scene_open(s);
	for (uint32_t bit = 1; bit < 16; bit++) {
		write_raw(s, VMB_PACKET_IN_BAND, 2, BODY / 8, 1u << bit);
		scene_await_failure(s, "incoming ring");
		scene_reopen(s);
	}
}

/* Cancels mean nothing to KMCL: counted, not delivered. */
static void
cancel_of_anything(struct scene *s)
{
	struct kmcl_channel_stats stats;

	scene_open(s);
	write_raw(s, VMB_PACKET_CANCEL, 2, BODY / 8, 0);
	do
		kmcl_channel_get_stats(s->attacked.handle, &stats);
	while (stats.dropped_packets == 0);
}

/* arg: payload bytes. */
static void
large_payload(struct scene *s)
{
	uint32_t bytes = (uint32_t)s->c->arg[0];
	uint8_t *payload = calloc(1, bytes);

	REQUIRE(payload != NULL);
	scene_open(s);
	REQUIRE_OK(
	    vmb_hostile_send(s->peer, s->attacked_id, VMB_PACKET_IN_BAND, 0, 1, payload, bytes));
	free(payload);
}

/* A completion is asked for over and over under the same id: ids of the peer are the peer's business. */
static void
same_id_again(struct scene *s)
{
	uint64_t payload = 5;
	uint8_t body[MAX_PACKET];

	scene_open(s);
	for (int i = 0; i < 8; i++)
		REQUIRE_OK(vmb_hostile_send(s->peer, s->attacked_id, VMB_PACKET_IN_BAND,
		                            VMB_PACKET_FLAG_COMPLETION_REQUESTED, 99, &payload,
		                            sizeof(payload)));
	for (int i = 0; i < 8; i++)
		(void)scene_next(s, s->attacked_id, VMB_PACKET_COMPLETION, 99, body);
}

/* clang-format off */
#define EITHER_ROLE(name, attack, a, b, d, outcome, says)                               \
	{ name, SERVER, BOTH, attack, { a, b, d }, outcome, says },                     \
	{ name, CLIENT, BY_SOCKET, attack, { a, b, d }, outcome, says }

static const struct hostile_case cases[] = {
	EITHER_ROLE("length-zero", one_descriptor, VMB_PACKET_IN_BAND, SHAPE(2, 0), 0, FAILS, "incoming ring"),
	EITHER_ROLE("length-beyond-what-is-there", one_descriptor, VMB_PACKET_IN_BAND, SHAPE(2, BODY / 8 + 2), 0, FAILS, "incoming ring"),
	EITHER_ROLE("length-beyond-ring", one_descriptor, VMB_PACKET_IN_BAND, SHAPE(2, RING_BYTES / 8), 0, FAILS, "incoming ring"),
	EITHER_ROLE("length-all-ones", one_descriptor, VMB_PACKET_IN_BAND, SHAPE(2, 0xFFFF), 0, FAILS, "incoming ring"),
	EITHER_ROLE("payload-in-descriptor", one_descriptor, VMB_PACKET_IN_BAND, SHAPE(1, BODY / 8), 0, FAILS, "incoming ring"),
	EITHER_ROLE("payload-behind-body", one_descriptor, VMB_PACKET_IN_BAND, SHAPE(BODY / 8 + 1, BODY / 8), 0, FAILS, "incoming ring"),
	EITHER_ROLE("payload-offset-all-ones", one_descriptor, VMB_PACKET_IN_BAND, SHAPE(0xFFFF, 0xFFFF), 0, FAILS, "incoming ring"),
	EITHER_ROLE("type-all-ones", one_descriptor, 0xFFFF, SHAPE(2, BODY / 8), 0, FAILS, "unknown type"),
	EITHER_ROLE("flags-all-ones", one_descriptor, VMB_PACKET_IN_BAND, SHAPE(2, BODY / 8), 0xFFFF, FAILS, "incoming ring"),
	EITHER_ROLE("completion-of-wrong-shape", one_descriptor, VMB_PACKET_COMPLETION, SHAPE(9, BODY / 8), 0, FAILS, "incoming ring"),
	EITHER_ROLE("every-short-shape", every_short_shape, 0, 0, 0, LIVES, NULL),
	EITHER_ROLE("every-type", every_type, 0, 0, 0, LIVES, NULL),
	EITHER_ROLE("every-reserved-flag", every_reserved_flag, 0, 0, 0, LIVES, NULL),
	EITHER_ROLE("cancel", cancel_of_anything, 0, 0, 0, LIVES, NULL),
	EITHER_ROLE("payload-above-maximum", large_payload, MAX_PACKET + 8, 0, 0, FAILS, "larger than the configured maximum"),
	EITHER_ROLE("payload-as-large-as-the-ring", large_payload, RING_BYTES - 64, 0, 0, FAILS, "larger than the configured maximum"),
	EITHER_ROLE("same-id-again", same_id_again, 0, 0, 0, LIVES, NULL),
};
/* clang-format on */

const struct case_list descriptor_cases = CASE_LIST(cases);
