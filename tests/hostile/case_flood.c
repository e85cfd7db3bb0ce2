/* SPDX-License-Identifier: MIT */
/*
 * Too much and too little: floods of messages, packets and signals, readers that have stopped, guests that
 * leave in the middle.
 */
#include <string.h>

#include "cases.h"

#define SIGNALS 200000u
#define REQUESTS_MOST 4096u

static void
post_gpadl(struct scene *s, uint32_t id, enum vmb_status *status)
{
	struct vmb_msg msg = { .type = VMB_MSG_GPADL_HEADER };

	msg.gpadl_header = (struct vmb_msg_gpadl_header){ .channel_id = s->attacked_id,
		                                          .gpadl_id = id,
		                                          .range_bytes = 16,
		                                          .range_count = 1,
		                                          .qword_count = 2 };
	vmb_gpa_put_header(&msg.gpadl_header.qwords[0], 4096, 0);
	msg.gpadl_header.qwords[1] = 1;
	*status = vmb_hostile_post_msg(s->peer, &msg);
	if (*status != VMB_OK)
		return;
	msg = (struct vmb_msg){ .type = VMB_MSG_GPADL_TEARDOWN,
		                .gpadl = { .channel_id = s->attacked_id, .gpadl_id = id } };
	*status = vmb_hostile_post_msg(s->peer, &msg);
}

/*
 * Messages without a fault, faster than agreed, until no more are taken: who sends them waits, and nobody else.
 * Far above the rate even on a slow machine.
 */
static void
message_flood(struct scene *s)
{
	enum vmb_status status = VMB_OK;
	uint64_t end = 0;

	s->bus_options.limits.messages_per_second = 100;
	scene_open(s);
	for (uint32_t id = 0x6000; status != VMB_E_FULL; id++) {
		post_gpadl(s, id, &status);
		REQUIRE(status == VMB_OK || status == VMB_E_FULL);
		/* It reads its answers. */
		VMB_IGNORE(vmb_hostile_turn(s->peer, 0));
		scene_yield(&end, __FILE__, __LINE__, "the server to stop reading");
	}
	for (int i = 0; i < 20; i++) {
		scene_echo(s, s->attacked_id);
		scene_echo(s, s->sibling_id);
		actor_echo(&s->healthy_client);
	}
}

/* Questions whose answers nobody reads. */
static void
message_reader_stalls(struct scene *s)
{
	enum vmb_status status = VMB_OK;
	uint64_t end = 0;
	uint32_t id = 0x6000;

	s->bus_options.limits.stall_ms = 50;
	scene_open(s);
	while (!log_has("has not read its messages")) {
		if (status != VMB_E_FULL)
			post_gpadl(s, id++, &status);
		else
			status = VMB_OK;
		if (status == VMB_E_CLOSED)
			AWAIT(log_has("has not read its messages"));
		scene_yield(&end, __FILE__, __LINE__, "the end of the stalled reader");
	}
}

static void
signal_storm(struct scene *s)
{
	scene_open(s);
	for (uint32_t i = 0; i < 4; i++) {
		REQUIRE_OK(vmb_hostile_signal(s->peer, s->attacked_id, SIGNALS / 4));
		scene_echo(s, s->sibling_id);
		actor_echo(&s->healthy_client);
	}
}

/* Requests until nothing fits any more; how many went in. */
static uint32_t
fill_ring(struct scene *s)
{
	uint32_t count = 0, stuck = 0;

	while (count < REQUESTS_MOST && stuck < 1000) {
		uint64_t payload[8] = { count };
		enum vmb_status status = vmb_hostile_send(
		    s->peer, s->attacked_id, VMB_PACKET_IN_BAND,
		    VMB_PACKET_FLAG_COMPLETION_REQUESTED, 1 + count, payload, sizeof(payload));

		if (status == VMB_OK)
			count++;
		else
			REQUIRE(status == VMB_E_FULL);
		stuck = status == VMB_OK ? 0 : stuck + 1;
	}
	return count;
}

/* Thousands of requests whose answers wait, and are read at last: each comes once. */
static void
ring_reader_stalls_and_returns(struct scene *s)
{
	static uint8_t seen[REQUESTS_MOST];
	uint8_t body[MAX_PACKET];
	uint32_t count;

	scene_open(s);
	count = fill_ring(s);
	scene_echo(s, s->sibling_id);
	for (uint32_t i = 0; i < count; i++) {
		struct vmb_ring_packet packet =
		    scene_next(s, s->attacked_id, VMB_PACKET_COMPLETION, 0, body);

		REQUIRE(packet.transaction_id >= 1 && packet.transaction_id <= count);
		REQUIRE(seen[packet.transaction_id - 1]++ == 0);
	}
}

/* The same, and nobody comes back for them. */
static void
ring_reader_stalls_and_leaves(struct scene *s)
{
	scene_open(s);
	(void)fill_ring(s);
	scene_echo(s, s->sibling_id);
	actor_echo(&s->healthy_client);
	/* How a guest hangs up that is killed. */
	vmb_hostile_free(s->peer);
	s->peer = NULL;
	AWAIT(atomic_load(&s->attacked.closed) == 1);
}

/* Opened and closed as fast as the server can. */
static void
open_and_close(struct scene *s)
{
	scene_open(s);
	for (uint32_t i = 0; i < 50; i++)
		scene_reopen(s);
}

/* A guest that does not get beyond its contact, again and again, while others work. */
static void
come_and_go(struct scene *s)
{
	scene_begin(s);
	for (uint32_t i = 0; i < 50; i++) {
		vmb_hostile_free(s->peer);
		REQUIRE_OK(vmb_hostile_connect(s->path, &s->options, &s->peer));
		if (i % 2 == 0)
			REQUIRE_OK(vmb_hostile_contact(s->peer));
	}
	vmb_hostile_free(s->peer);
	REQUIRE_OK(vmb_hostile_connect(s->path, &s->options, &s->peer));
	scene_open(s);
}

/* clang-format off */
static const struct hostile_case cases[] = {
	{ "message-flood", SERVER, BY_SOCKET, message_flood, { 0 }, LIVES, NULL },
	{ "message-reader-stalls", SERVER, BY_SOCKET, message_reader_stalls, { 0 }, CUT, "has not read its messages" },
	{ "signal-storm", SERVER, BOTH, signal_storm, { 0 }, LIVES, NULL },
	{ "signal-storm", CLIENT, BY_SOCKET, signal_storm, { 0 }, LIVES, NULL },
	{ "ring-reader-stalls-and-returns", SERVER, BOTH, ring_reader_stalls_and_returns, { 0 }, LIVES, NULL },
	{ "ring-reader-stalls-and-leaves", SERVER, BOTH, ring_reader_stalls_and_leaves, { 0 }, ANY, NULL },
	{ "open-and-close", SERVER, BOTH, open_and_close, { 0 }, LIVES, NULL },
	{ "open-and-close", CLIENT, BY_SOCKET, open_and_close, { 0 }, LIVES, NULL },
	{ "come-and-go", SERVER, BY_SOCKET, come_and_go, { 0 }, LIVES, NULL },
};
/* clang-format on */

const struct case_list flood_cases = CASE_LIST(cases);
