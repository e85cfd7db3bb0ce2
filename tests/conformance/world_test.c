/* SPDX-License-Identifier: MIT */
/*
 * The world itself: what the other groups rely on. No clause is shown here.
 */
#include "world.h"

#include <string.h>

static void
pair_opens_and_echoes(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint64_t request = 42, answer = 0;
	UINT32 bytes = sizeof(answer);

	assert_int_equal(VmbChannelSendSynchronousRequest(pair.client->handle, &request,
	                                                  sizeof(request), NULL, CONF_WAIT, &answer,
	                                                  &bytes, NULL),
	                 STATUS_SUCCESS);
	assert_int_equal(answer, 42);
	assert_int_equal(bytes, sizeof(answer));
	conf_await_packets(pair.server, 1);
	conf_expect_events(pair.client, "Opened Started PostStarted");
	conf_expect_events(pair.server, "Opened Started PostStarted");
}

static void
held_packet_is_completed_by_the_test(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_send *send = conf_send_new(pair.client);
	uint64_t request = 7;
	struct conf_packet *p;

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	assert_int_equal(VmbPacketSend(send->packet, &request, sizeof(request), NULL, CONF_WAIT),
	                 STATUS_SUCCESS);
	p = conf_await_packets(pair.server, 1);
	assert_memory_equal(p->payload, &request, sizeof(request));
	assert_int_equal(p->flags, 0);
	assert_true(conf_complete(p, "twelve bytes", 12));
	assert_false(conf_complete(p, NULL, 0));
	conf_await_done(send, 1);
	assert_int_equal(send->status, STATUS_SUCCESS);
	assert_int_equal(send->answer_bytes, 16);
	assert_memory_equal(send->answer, "twelve bytes\0\0\0\0", 16);
	conf_send_free(send);
}

static void
world_completes_what_a_test_left_held(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	assert_int_equal(conf_post(pair.client, 1), STATUS_SUCCESS);
	conf_await_packets(pair.server, 1);
}

static void
external_data_is_recorded(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	void *block = conf_pool(10000, 3);
	PMDL mdl = conf_mdl(block, 10000);
	struct conf_packet *p;

	conf_set(pair.server, fetch_external, true);
	assert_int_equal(VmbChannelSendSynchronousRequest(pair.client->handle, NULL, 0, mdl, CONF_WAIT,
	                                                  NULL, NULL, NULL),
	                 STATUS_SUCCESS);
	p = conf_await_packets(pair.server, 1);
	assert_int_equal(p->external_status, STATUS_SUCCESS);
	assert_int_equal(p->external_bytes, 10000);
	assert_true(conf_is_filled(p->external, 10000, 3));
	conf_mdl_free(mdl);
	conf_pool_free(block);
}

static void
ring_of_a_paused_peer_can_be_filled_and_read(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_wire wire;
	uint32_t count;

	VmbChannelPause(pair.server->handle);
	count = conf_fill_ring(pair.client, 1000);
	wire = conf_wire_read(pair.client);
	assert_int_equal(wire.count, count);
	assert_int_equal(wire.packets[0].body_bytes, 1016);
	conf_wire_free(&wire);
	VmbChannelStart(pair.server->handle);
	conf_await_packets(pair.server, count);
}

static void
injected_completion_reaches_the_client(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);

	conf_wire_inject_completion(pair.server, 12345, NULL, 0);
	conf_fence(pair);
	assert_int_equal(conf_stats(pair.client).stray_completions, 1);
}

static const struct conf_test tests[] = {
	CONF_TEST(pair_opens_and_echoes, "", CONF_BUSES),
	CONF_TEST(held_packet_is_completed_by_the_test, "", CONF_BUSES),
	CONF_TEST(world_completes_what_a_test_left_held, "", CONF_BUSES),
	CONF_TEST(external_data_is_recorded, "", CONF_BUSES),
	CONF_TEST(ring_of_a_paused_peer_can_be_filled_and_read, "", CONF_BUSES),
	CONF_TEST(injected_completion_reaches_the_client, "", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("world", tests);
}
