/* SPDX-License-Identifier: MIT */
/*
 * Honest exchanges between attacker and victim: a client asks, a server answers, whichever of them the
 * attacker is. What else the victim has sent is left unanswered.
 */
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <time.h>

#include "scene.h"

#define LOST_MS 300u

static struct actor *
victim_of(struct scene *s, uint32_t channel_id)
{
	return channel_id == s->attacked_id ? &s->attacked : &s->sibling;
}

static bool
has_failed(struct scene *s, uint32_t channel_id)
{
	char text[256];

	return actor_failure(victim_of(s, channel_id), text)[0] != '\0';
}

static uint64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/*
 * Where bytes are changed at random an id may be, too: then question and answer do not find each other, and
 * nobody is to blame. Giving up earlier or later leads to the same end.
 */
static bool
is_lost(const struct scene *s, uint64_t since)
{
	return s->c->outcome == ANY && now_ms() - since > LOST_MS;
}

/* A packet, if there is one. False: there is nothing to be had any more. */
static bool
look(struct scene *s, uint32_t channel_id, struct vmb_ring_packet *packet, uint8_t body[MAX_PACKET],
     bool *found)
{
	enum vmb_status status =
	    vmb_hostile_try_receive(s->peer, channel_id, packet, body, MAX_PACKET);

	*found = status == VMB_OK;
	return status == VMB_OK || status == VMB_EMPTY;
}

struct vmb_ring_packet
scene_next(struct scene *s, uint32_t channel_id, enum vmb_packet_type type, uint64_t id,
           uint8_t body[MAX_PACKET])
{
	struct vmb_ring_packet packet;

	do
		REQUIRE_OK(vmb_hostile_receive(s->peer, channel_id, &packet, body, MAX_PACKET));
	while (packet.type != (uint16_t)type || (id != 0 && packet.transaction_id != id));
	return packet;
}

/* ---- the attacker asks ------------------------------------------------------------------------ */

static bool
ask(struct scene *s, uint32_t channel_id)
{
	uint64_t id = scene_random(s), payload[4] = { 2, 7, 1, 8 };
	struct vmb_ring_packet packet;
	uint8_t body[MAX_PACKET];
	uint64_t end = 0, since = now_ms();
	bool found;

	if (vmb_hostile_send(s->peer, channel_id, VMB_PACKET_IN_BAND,
	                     VMB_PACKET_FLAG_COMPLETION_REQUESTED, id, payload,
	                     sizeof(payload)) != VMB_OK)
		return false;
	for (;;) {
		if (!look(s, channel_id, &packet, body, &found))
			return false;
		if (found && packet.type == VMB_PACKET_COMPLETION && packet.transaction_id == id)
			return packet.body_bytes == VMB_DESCRIPTOR_BYTES + sizeof(payload) &&
			       memcmp(body + packet.data_offset, payload, sizeof(payload)) == 0;
		if (found)
			continue;
		if (has_failed(s, channel_id) || vmb_hostile_turn(s->peer, 0) == VMB_E_CLOSED ||
		    is_lost(s, since))
			return false;
		scene_yield(&end, __FILE__, __LINE__, "an answer of the server");
	}
}

/* ---- the victim asks -------------------------------------------------------------------------- */

struct question {
	struct actor *actor;
	NTSTATUS status;
	_Atomic bool done;
};

static void *
question_thread(void *ctx)
{
	struct question *q = ctx;

	q->status = actor_try_echo(q->actor);
	atomic_store(&q->done, true);
	return NULL;
}

static bool
answer(struct scene *s, uint32_t channel_id)
{
	struct question q = { .actor = victim_of(s, channel_id) };
	struct vmb_ring_packet packet;
	uint8_t body[MAX_PACKET];
	uint64_t end = 0, since = now_ms();
	bool found, usable = true;
	pthread_t thread;

	REQUIRE(pthread_create(&thread, NULL, question_thread, &q) == 0);
	while (!atomic_load(&q.done)) {
		found = false;
		if (usable)
			usable = look(s, channel_id, &packet, body, &found);
		if (found && packet.type == VMB_PACKET_IN_BAND && packet.body_bytes <= MAX_PACKET)
			VMB_IGNORE(vmb_hostile_send(
			    s->peer, channel_id, VMB_PACKET_COMPLETION, 0, packet.transaction_id,
			    body + packet.data_offset, packet.body_bytes - packet.data_offset));
		if (!found)
			scene_yield(&end, __FILE__, __LINE__, "the end of the client's request");
		/* Who cannot go on hangs up, and that ends the request. */
		if ((!usable && !has_failed(s, channel_id)) || is_lost(s, since))
			vmb_hostile_hang_up(s->peer);
		VMB_IGNORE(vmb_hostile_turn(s->peer, 0));
	}
	(void)pthread_join(thread, NULL);
	return q.status == STATUS_SUCCESS;
}

bool
scene_try_echo(struct scene *s, uint32_t channel_id)
{
	return s->c->role == SERVER ? ask(s, channel_id) : answer(s, channel_id);
}

void
scene_echo(struct scene *s, uint32_t channel_id)
{
	char text[256];

	if (!scene_try_echo(s, channel_id))
		scene_fail(__FILE__, __LINE__, "the %s channel does not answer: %s",
		           channel_id == s->attacked_id ? "attacked" : "sibling",
		           actor_failure(victim_of(s, channel_id), text));
}
