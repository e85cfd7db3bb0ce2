/* SPDX-License-Identifier: MIT */
/*
 * Synchronous requests and a ring without room (SSR-29..36). A paused server reads nothing, so its
 * client's ring stays as the test left it.
 */
#include <string.h>

#include "ssr.h"

/* Bytes that a further packet may take in the outgoing ring. */
static uint32_t
room_in_ring(struct conf_channel *c)
{
	struct conf_wire wire = conf_wire_read(c);
	uint32_t used = wire.in >= wire.out ? wire.in - wire.out
	                                    : wire.in + wire.data_bytes - wire.out;
	uint32_t room = wire.data_bytes - used;

	conf_wire_free(&wire);
	return room;
}

static void
zero_timeout_never_queues(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair_with(w, &ssr_small, &ssr_small);
	struct conf_wire wire;
	uint32_t count;

	VmbChannelPause(pair.server->handle);
	assert_int_equal(conf_post(pair.client, 1), STATUS_SUCCESS);
	count = 1 + conf_fill_ring(pair.client, 8);
	assert_int_equal(ssr_send(pair.client, 2, 0, 0), STATUS_BUFFER_OVERFLOW);
	assert_int_equal(ssr_send(pair.client, 2, CONF_PAGED, 0), STATUS_BUFFER_OVERFLOW);
	assert_int_equal(ssr_send(pair.client, 2, CONF_WAIT, 0), STATUS_BUFFER_OVERFLOW);
	assert_int_equal(conf_stats(pair.client).outgoing_queued, 0);
	assert_int_equal(conf_stats(pair.client).outgoing_in_flight, 0);
	assert_int_equal(conf_stats(pair.client).queued, 0);
	wire = conf_wire_read(pair.client);
	assert_int_equal(wire.count, count);
	assert_int_equal(wire.pending_send_size, 0);
	conf_wire_free(&wire);
	/* The same call again, with room; what was refused is never seen. */
	VmbChannelStart(pair.server->handle);
	conf_await_packets(pair.server, count);
	assert_int_equal(ssr_send(pair.client, 3, 0, 0), STATUS_SUCCESS);
	conf_fence(pair);
	assert_int_equal(conf_packet_count(pair.server), count + 2);
	for (uint32_t i = 0; i < count + 2; i++)
		assert_int_not_equal(ssr_number(pair.server->packets[i]), 2);
	assert_int_equal(ssr_number(pair.server->packets[count]), 3);
}

static void
waiting_fifo_is_no_room(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair_with(w, &ssr_small, &ssr_small);
	struct conf_send *send = conf_send_new(pair.client);
	uint8_t large[SSR_SMALL_PACKET] = { 0 };
	uint32_t count;

	VmbChannelPause(pair.server->handle);
	count = conf_fill_ring(pair.client, sizeof(large));
	/* This one waits; a small packet would still fit in front of it. */
	assert_int_equal(VmbPacketSend(send->packet, large, sizeof(large), NULL, 0), STATUS_SUCCESS);
	assert_true(room_in_ring(pair.client) >= 64);
	assert_int_equal(ssr_send(pair.client, 1, 0, 0), STATUS_BUFFER_OVERFLOW);
	assert_int_equal(ssr_send(pair.client, 1, CONF_WAIT, 0), STATUS_BUFFER_OVERFLOW);
	VmbChannelStart(pair.server->handle);
	conf_await_done(send, 1);
	conf_fence(pair);
	assert_int_equal(conf_packet_count(pair.server), count + 2);
	conf_send_free(send);
}

static NTSTATUS
post_in_opened(struct conf_channel *c, enum conf_event event)
{
	if (event == CONF_OPENED)
		*(NTSTATUS *)c->ctx = conf_post(c, 1);
	return STATUS_SUCCESS;
}

static void
channel_without_ring_is_no_room(struct conf_world *w)
{
	struct conf_channel *lonely = conf_server(w, NULL);
	struct conf_pair pair = { conf_server(w, NULL), conf_client(w, NULL) };
	NTSTATUS in_opened = STATUS_SUCCESS;

	conf_enable(lonely);
	assert_int_equal(conf_post(lonely, 1), STATUS_BUFFER_OVERFLOW);
	conf_set(pair.client, ctx, &in_opened);
	conf_set(pair.client, on_event, post_in_opened);
	conf_enable(pair.client);
	assert_int_equal(ssr_send(pair.client, 1, 0, 0), STATUS_BUFFER_OVERFLOW);
	assert_int_equal(ssr_send(pair.client, 1, CONF_WAIT, 0), STATUS_BUFFER_OVERFLOW);
	conf_enable(pair.server);
	conf_await_left(pair.client, CONF_POST_STARTED, 1);
	assert_int_equal(in_opened, STATUS_BUFFER_OVERFLOW);
	VmbChannelPause(pair.client->handle);
	assert_int_equal(ssr_send(pair.client, 1, 0, 0), STATUS_BUFFER_OVERFLOW);
	assert_int_equal(ssr_send(pair.client, 1, CONF_WAIT, 0), STATUS_BUFFER_OVERFLOW);
	VmbChannelStart(pair.client->handle);
	conf_await_left(pair.client, CONF_POST_STARTED, 2);
	conf_await_left(pair.server, CONF_POST_STARTED, 1);
	conf_fence(pair);
	assert_int_equal(conf_packet_count(pair.server), 1);
}

/* ---- never blocking ------------------------------------------------------------------------- */

struct posts {
	NTSTATUS from_packet, from_routine;
	KIRQL packet_irql, routine_irql;
};

static void
post_from_packet(struct conf_channel *c, struct conf_packet *p)
{
	struct posts *posts = c->ctx;

	(void)p;
	posts->packet_irql = KeGetCurrentIrql();
	posts->from_packet = conf_post(c, 1001);
}

static void
post_from_routine(struct conf_send *s)
{
	struct posts *posts = s->ctx;

	posts->routine_irql = KeGetCurrentIrql();
	posts->from_routine = conf_post(s->channel, 1002);
}

static void
zero_timeout_works_in_callbacks(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct posts posts = { 0 };
	struct conf_send *send;
	uint64_t number = 5;

	conf_set(pair.client, ctx, &posts);
	conf_set(pair.client, on_packet, post_from_packet);
	assert_int_equal(conf_post(pair.server, 1), STATUS_SUCCESS);
	conf_await_packets(pair.client, 1);
	assert_int_equal(posts.from_packet, STATUS_SUCCESS);
	assert_int_equal(posts.packet_irql, DISPATCH_LEVEL);
	assert_int_equal(ssr_number(conf_await_packets(pair.server, 1)), 1001);
	send = conf_send_new(pair.client);
	send->ctx = &posts;
	send->on_done = post_from_routine;
	assert_int_equal(VmbPacketSend(send->packet, &number, 8, NULL, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(send, 1);
	assert_int_equal(posts.from_routine, STATUS_SUCCESS);
	assert_int_equal(posts.routine_irql, DISPATCH_LEVEL);
	assert_int_equal(ssr_number(conf_await_packets(pair.server, 3)), 1002);
	conf_send_free(send);
}

static void
zero_timeout_passes_blocked_threads(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct ssr_call waiter, post;
	struct ssr_task pause, disable;

	/* One thread waits for an answer, one for a packet that the client's driver holds. */
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	conf_answer_with(pair.client, CONF_HOLD, NULL, 0);
	conf_set(pair.server, on_event, ssr_release_in_suspend);
	ssr_prepare(&waiter, pair.client, 1, CONF_WAIT, SSR_NO_LIMIT);
	ssr_start(&waiter);
	conf_await_packets(pair.server, 1);
	ssr_prepare(&post, pair.client, 2, 0, 0);
	post.irql = DISPATCH_LEVEL;
	assert_int_equal(ssr_run(&post), STATUS_SUCCESS);
	conf_await_packets(pair.server, 2);
	assert_int_equal(conf_post(pair.server, 3), STATUS_SUCCESS);
	conf_await_packets(pair.client, 1);
	ssr_task_start(&pause, pair.client, VmbChannelPause);
	conf_await_left(pair.client, CONF_SUSPEND, 1);
	assert_int_equal(ssr_run(&post), STATUS_BUFFER_OVERFLOW);
	assert_false(pause.done);
	conf_complete_held(pair.client);
	ssr_task_join(&pause);
	VmbChannelStart(pair.client->handle);
	conf_await_left(pair.client, CONF_POST_STARTED, 2);
	assert_int_equal(conf_post(pair.server, 4), STATUS_SUCCESS);
	conf_await_packets(pair.client, 2);
	ssr_task_start(&disable, pair.client, VmbChannelDisable);
	conf_await_left(pair.client, CONF_SUSPEND, 2);
	assert_int_equal(ssr_run(&post), STATUS_DEVICE_REMOVED);
	/* The request ends before the close has waited for the packet that is held. */
	assert_int_equal(ssr_join(&waiter), STATUS_DEVICE_REMOVED);
	conf_complete_held(pair.client);
	ssr_task_join(&disable);
}

static void
zero_timeout_with_wait_is_sent_and_cancelled(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	assert_int_equal(ssr_send(pair.client, 1, CONF_WAIT, 0), STATUS_CANCELLED);
	assert_int_equal(ssr_number(conf_await_packets(pair.server, 1)), 1);
	conf_complete_held(pair.server);
	conf_fence(pair);
	assert_int_equal(conf_stats(pair.client).late_completions, 1);
}

/* ---- waiting for room ----------------------------------------------------------------------- */

static void
waiting_request_takes_its_place_in_the_queue(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair_with(w, &ssr_small, &ssr_small);
	struct conf_send *before = conf_send_new(pair.client), *after = conf_send_new(pair.client);
	struct ssr_call call, limited;
	uint64_t numbers[2] = { 1, 3 };
	uint32_t count;

	VmbChannelPause(pair.server->handle);
	count = conf_fill_ring(pair.client, 8);
	assert_int_equal(VmbPacketSend(before->packet, &numbers[0], 8, NULL, 0), STATUS_SUCCESS);
	ssr_prepare(&call, pair.client, 2, CONF_WAIT, SSR_NO_LIMIT);
	ssr_start(&call);
	ssr_await_queued(pair.client, 2);
	assert_int_equal(VmbPacketSend(after->packet, &numbers[1], 8, NULL, 0), STATUS_SUCCESS);
	ssr_prepare(&limited, pair.client, 4, CONF_WAIT, SSR_LONG);
	ssr_start(&limited);
	ssr_await_queued(pair.client, 4);
	assert_false(ssr_returned(&call));
	VmbChannelStart(pair.server->handle);
	assert_int_equal(ssr_join(&call), STATUS_SUCCESS);
	assert_int_equal(ssr_join(&limited), STATUS_SUCCESS);
	assert_int_equal(call.room[0], 2);
	assert_int_equal(limited.room[0], 4);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(ssr_number(pair.server->packets[count + i]), i + 1);
	conf_await_done(before, 1);
	conf_await_done(after, 1);
	conf_send_free(before);
	conf_send_free(after);
}

static void
without_wait_entering_the_ring_is_enough(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair_with(w, &ssr_small, &ssr_small);
	struct ssr_call call, limited;
	uint32_t count;

	/* Nobody reads the ring. */
	VmbChannelPause(pair.server->handle);
	assert_int_equal(ssr_send(pair.client, 1, 0, SSR_NO_LIMIT), STATUS_SUCCESS);
	assert_int_equal(ssr_send(pair.client, 1, 0, SSR_LONG), STATUS_SUCCESS);
	count = 2 + conf_fill_ring(pair.client, 8);
	ssr_prepare(&call, pair.client, 2, 0, SSR_NO_LIMIT);
	ssr_start(&call);
	ssr_await_queued(pair.client, 1);
	ssr_prepare(&limited, pair.client, 3, 0, SSR_LONG);
	ssr_start(&limited);
	ssr_await_queued(pair.client, 2);
	assert_false(ssr_returned(&call));
	/* Nobody answers. */
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	VmbChannelStart(pair.server->handle);
	assert_int_equal(ssr_join(&call), STATUS_SUCCESS);
	assert_int_equal(ssr_join(&limited), STATUS_SUCCESS);
	assert_int_equal(call.room_bytes, 0);
	assert_int_equal(ssr_number(conf_await_packets(pair.server, count + 2)), 3);
}

/* Only a server can be given a ring that is too small for it: the client chose it. */
static void
what_never_fits_is_an_invalid_size(struct conf_world *w)
{
	static uint8_t message[60000];
	const struct conf_options large = { .max_packet = sizeof(message) };
	struct conf_pair pair = conf_open_pair_with(w, &large, &ssr_small);
	struct ssr_call call;

	ssr_prepare(&call, pair.server, 0, 0, 0);
	call.buffer = message;
	call.bytes = sizeof(message);
	assert_int_equal(ssr_run(&call), STATUS_INVALID_BUFFER_SIZE);
	assert_int_equal(call.room_bytes, 8);
	call.bytes = 4096;
	assert_int_equal(ssr_run(&call), STATUS_INVALID_BUFFER_SIZE);
	assert_int_equal(conf_post(pair.server, 1), STATUS_SUCCESS);
	conf_await_packets(pair.client, 1);
	assert_int_equal(conf_stats(pair.server).packets_sent, 1);
}

static const struct conf_test tests[] = {
	CONF_TEST(zero_timeout_never_queues, "SSR-29, SSR-31, SSR-33", CONF_BUSES),
	CONF_TEST(waiting_fifo_is_no_room, "SSR-30, OUT-2", CONF_BUSES),
	CONF_TEST(channel_without_ring_is_no_room, "SSR-30", CONF_BUSES),
	CONF_TEST(zero_timeout_works_in_callbacks, "SSR-32", CONF_BUSES),
	CONF_TEST(zero_timeout_passes_blocked_threads, "SSR-32", CONF_BUSES),
	CONF_TEST(zero_timeout_with_wait_is_sent_and_cancelled, "SSR-33", CONF_BUSES),
	CONF_TEST(waiting_request_takes_its_place_in_the_queue, "SSR-34, OUT-1, OUT-2", CONF_BUSES),
	CONF_TEST(without_wait_entering_the_ring_is_enough, "SSR-2, SSR-35", CONF_BUSES),
	CONF_TEST(what_never_fits_is_an_invalid_size, "SSR-36, OUT-10", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("ssr_ring_full", tests);
}
