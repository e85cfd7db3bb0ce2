/* SPDX-License-Identifier: MIT */
/*
 * Completions that nobody asked for: of unknown, finished, foreign and future transactions, too large, by the
 * hundred. They are counted; what was accepted is completed once.
 */
#include <string.h>

#include "cases.h"

static struct kmcl_channel_stats
stats_of(const struct actor *a)
{
	struct kmcl_channel_stats stats;

	kmcl_channel_get_stats(a->handle, &stats);
	return stats;
}

static void
complete(struct scene *s, uint32_t channel_id, uint64_t id)
{
	uint64_t payload = 9;

	REQUIRE_OK(vmb_hostile_send(s->peer, channel_id, VMB_PACKET_COMPLETION, 0, id, &payload,
	                            sizeof(payload)));
}

static void
await_strays(struct scene *s, uint64_t count)
{
	(void)s;
	AWAIT(stats_of(&s->attacked).stray_completions == count);
	REQUIRE(stats_of(&s->attacked).completions_received == 0);
	for (uint32_t i = 0; i < SENDS; i++)
		REQUIRE(atomic_load(&s->attacked.sent[i].done) == 0);
}

/* The first of the packets that the victim has sent. */
static uint64_t
first_id(struct scene *s)
{
	enum vmb_packet_type type =
	    s->c->role == SERVER ? VMB_PACKET_IN_BAND : VMB_PACKET_GPA_DIRECT;
	uint8_t body[MAX_PACKET];

	return scene_next(s, s->attacked_id, type, 0, body).transaction_id;
}

/* arg: the id. */
static void
unknown_id(struct scene *s)
{
	scene_open(s);
	complete(s, s->attacked_id, s->c->arg[0]);
	await_strays(s, 1);
}

/* Ids near a real one: another generation, the slot beside it. */
static void
near_ids(struct scene *s)
{
	uint64_t id;

	scene_open(s);
	id = first_id(s);
	complete(s, s->attacked_id, id + (UINT64_C(1) << 32));
	complete(s, s->attacked_id, id - (UINT64_C(1) << 32));
	complete(s, s->attacked_id, id & 0xFFFFFFFF00000000);
	complete(s, s->attacked_id, id + SENDS);
	await_strays(s, 4);
}

static void
finished_id(struct scene *s)
{
	uint64_t id;

	scene_open(s);
	id = first_id(s);
	for (int i = 0; i < 5; i++)
		complete(s, s->attacked_id, id);
	AWAIT(stats_of(&s->attacked).stray_completions == 4);
	REQUIRE(stats_of(&s->attacked).completions_received == 1);
	REQUIRE(atomic_load(&s->attacked.sent[0].done) == 1);
}

/* An id of the attacked channel, answered on its sibling. */
static void
foreign_id(struct scene *s)
{
	uint64_t id;

	scene_open(s);
	id = first_id(s);
	complete(s, s->sibling_id, id);
	AWAIT(stats_of(&s->sibling).stray_completions == 1);
	await_strays(s, 0);
}

/* Every slot there can be, in the generations near the real one. */
static void
many_ids(struct scene *s)
{
	uint64_t id, sent = 0;

	scene_open(s);
	id = first_id(s);
	for (uint64_t i = 0; i < 2000; i++) {
		uint64_t guess = scene_random(s);
		enum vmb_status status;

		/* A guess that is right would be no lie. */
		if (guess >> 32 == id >> 32)
			continue;
		do
			status = vmb_hostile_send(s->peer, s->attacked_id, VMB_PACKET_COMPLETION, 0,
			                          guess, NULL, 0);
		while (status == VMB_E_FULL);
		REQUIRE_OK(status);
		sent++;
	}
	await_strays(s, sent);
}

/* An answer as large as the ring takes: the packet has its answer, whatever it is. */
static void
answer_as_large_as_the_ring(struct scene *s)
{
	static const uint8_t payload[RING_BYTES - 64];
	enum vmb_status status;
	uint64_t id;

	scene_open(s);
	id = first_id(s);
	do
		status = vmb_hostile_send(s->peer, s->attacked_id, VMB_PACKET_COMPLETION, 0, id,
		                          payload, sizeof(payload));
	while (status == VMB_E_FULL);
	REQUIRE_OK(status);
	AWAIT(atomic_load(&s->attacked.sent[0].done) == 1);
	REQUIRE(atomic_load(&s->attacked.sent[0].status) == STATUS_SUCCESS);
}

/* In the order that suits the attacker. */
static void
answers_backwards(struct scene *s)
{
	uint64_t ids[SENDS];

	scene_open(s);
	for (uint32_t i = 0; i < SENDS; i++)
		ids[i] = first_id(s);
	for (uint32_t i = SENDS; i-- > 0;)
		complete(s, s->attacked_id, ids[i]);
	for (uint32_t i = 0; i < SENDS; i++)
		AWAIT(atomic_load(&s->attacked.sent[i].done) == 1);
}

/* clang-format off */
#define EITHER_ROLE(name, attack, a)                                    \
	{ name, SERVER, BOTH, attack, { a }, LIVES, NULL },             \
	{ name, CLIENT, BY_SOCKET, attack, { a }, LIVES, NULL }

static const struct hostile_case cases[] = {
	EITHER_ROLE("completion-of-id-zero", unknown_id, 0),
	EITHER_ROLE("completion-of-id-all-ones", unknown_id, UINT64_MAX),
	EITHER_ROLE("completion-of-a-bare-slot", unknown_id, 1),
	EITHER_ROLE("completion-of-slots-and-generations-near", near_ids, 0),
	EITHER_ROLE("completion-again", finished_id, 0),
	EITHER_ROLE("completion-on-the-wrong-channel", foreign_id, 0),
	EITHER_ROLE("completions-at-random", many_ids, 0),
	EITHER_ROLE("completion-as-large-as-the-ring", answer_as_large_as_the_ring, 0),
	EITHER_ROLE("completions-backwards", answers_backwards, 0),
};
/* clang-format on */

const struct case_list completion_cases = CASE_LIST(cases);
