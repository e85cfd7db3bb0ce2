/* SPDX-License-Identifier: MIT */
/*
 * Received packets for which there is no memory (INC-7). The server's packets are processed by this thread, and incoming
 * packet objects come from aligned_alloc(), which ends here.
 */
#include <errno.h>
#include <stdlib.h>

#include "world.h"

void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);

static _Thread_local bool refuse;
static _Thread_local uint32_t refused;

void *
__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
	if (!refuse)
		return __real_aligned_alloc(alignment, bytes);
	refused++;
	errno = ENOMEM;
	return NULL;
}

struct hand_driven {
	struct conf_pair pair;
	struct kmcl_loop *loop;
};

static struct hand_driven
open_hand_driven(struct conf_world *w)
{
	struct kmcl_loop_options driven = { .size = sizeof(driven), .host_driven = true,
		                            .spin_us = UINT32_MAX };
	struct conf_options options = { 0 };
	struct hand_driven h;

	refuse = false;
	assert_int_equal(kmcl_loop_create(&driven, &h.loop), VMB_OK);
	options.loop = h.loop;
	h.pair = conf_open_pair_with(w, &options, NULL);
	/* What the start left to do. */
	kmcl_loop_run(h.loop, 0);
	conf_answer_with(h.pair.server, CONF_HOLD, NULL, 0);
	refused = 0;
	return h;
}

static void
close_hand_driven(struct hand_driven *h)
{
	refuse = false;
	conf_answer_with(h->pair.server, CONF_ECHO, NULL, 0);
	conf_complete_held(h->pair.server);
	conf_channel_free(h->pair.client);
	conf_channel_free(h->pair.server);
	kmcl_loop_destroy(h->loop);
}

static uint32_t
packets_of(struct conf_channel *c)
{
	uint32_t count;

	conf_lock(c->world);
	count = c->packet_count;
	conf_unlock(c->world);
	return count;
}

/* Nothing but memory is waited for, so the loop has to look again by itself; it does not do so all the time. */
static void
processing_resumes_when_memory_is_back(struct conf_world *w)
{
	struct hand_driven h = open_hand_driven(w);

	refuse = true;
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(conf_post(h.pair.client, i), STATUS_SUCCESS);
	kmcl_loop_run(h.loop, -1);
	assert_in_range(refused, 1, 4);
	for (int i = 0; i < 2; i++) {
		uint32_t before = refused;

		/* A tick of the loop's own; then it tries. */
		while (refused == before)
			kmcl_loop_run(h.loop, -1);
	}
	assert_int_equal(packets_of(h.pair.server), 0);
	assert_int_equal(h.pair.server->batches, 0);
	refuse = false;
	while (packets_of(h.pair.server) < 3)
		kmcl_loop_run(h.loop, -1);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(h.pair.server->packets[i]->payload[0], i);
	assert_int_equal(conf_stats(h.pair.server).packets_received, 3);
	close_hand_driven(&h);
}

/* The first packet's object serves the next: no memory is needed for that, and no tick. */
static void
processing_resumes_when_a_packet_is_completed(struct conf_world *w)
{
	struct hand_driven h = open_hand_driven(w);

	assert_int_equal(conf_post(h.pair.client, 0), STATUS_SUCCESS);
	kmcl_loop_run(h.loop, -1);
	assert_int_equal(packets_of(h.pair.server), 1);
	refuse = true;
	for (uint32_t i = 1; i < 4; i++)
		assert_int_equal(conf_post(h.pair.client, i), STATUS_SUCCESS);
	for (uint32_t i = 0; i < 3; i++) {
		kmcl_loop_run(h.loop, 0);
		assert_int_equal(packets_of(h.pair.server), i + 1);
		assert_true(conf_complete(h.pair.server->packets[i], NULL, 0));
		/* Not inside the completing call. */
		assert_int_equal(packets_of(h.pair.server), i + 1);
		kmcl_loop_run(h.loop, 0);
		assert_int_equal(packets_of(h.pair.server), i + 2);
	}
	close_hand_driven(&h);
}

/* The batch that met the shortage ends as one that met a quota does. */
static void
shortage_ends_the_batch(struct conf_world *w)
{
	struct hand_driven h = open_hand_driven(w);

	/* Two objects exist. */
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(conf_post(h.pair.client, i), STATUS_SUCCESS);
	while (packets_of(h.pair.server) < 2)
		kmcl_loop_run(h.loop, -1);
	conf_complete_held(h.pair.server);
	kmcl_loop_run(h.loop, 0);
	h.pair.server->batches = h.pair.server->batch_packets = 0;
	refuse = true;
	for (uint32_t i = 2; i < 5; i++)
		assert_int_equal(conf_post(h.pair.client, i), STATUS_SUCCESS);
	kmcl_loop_run(h.loop, -1);
	assert_int_equal(packets_of(h.pair.server), 4);
	assert_int_equal(h.pair.server->batches, 1);
	assert_int_equal(h.pair.server->batch_packets, 2);
	/* The channel can be paused and closed meanwhile. */
	conf_complete_held(h.pair.server);
	VmbChannelPause(h.pair.server->handle);
	close_hand_driven(&h);
}

/* Answers do not need an object. */
static void
completions_pass_a_shortage(struct conf_world *w)
{
	struct hand_driven h = open_hand_driven(w);
	struct conf_send *send = conf_send_new(h.pair.server);

	refuse = true;
	assert_int_equal(VmbPacketSend(send->packet, "12345678", 8, NULL, CONF_WAIT), STATUS_SUCCESS);
	conf_await_packets(h.pair.client, 1);
	conf_poll_until(conf_stats(h.pair.client).completions_sent == 1);
	assert_int_equal(conf_post(h.pair.client, 1), STATUS_SUCCESS);
	kmcl_loop_run(h.loop, -1);
	conf_await_done(send, 1);
	assert_int_equal(send->status, STATUS_SUCCESS);
	assert_int_equal(packets_of(h.pair.server), 0);
	conf_send_free(send);
	close_hand_driven(&h);
}

static const struct conf_test tests[] = {
	CONF_TEST(processing_resumes_when_memory_is_back, "INC-7", CONF_BUSES),
	CONF_TEST(processing_resumes_when_a_packet_is_completed, "INC-7", CONF_BUSES),
	CONF_TEST(shortage_ends_the_batch, "INC-7, EPC-1", CONF_BUSES),
	CONF_TEST(completions_pass_a_shortage, "INC-7, STQ-5", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("incoming_memory", tests);
}
