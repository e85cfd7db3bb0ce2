/* SPDX-License-Identifier: MIT */
/*
 * Synchronous requests in every state of a channel, in its callbacks, and when it closes
 * (SSR-51..55, SSR-57, SSR-58, SSR-62).
 */
#include <string.h>

#include "ssr.h"

/* A descriptor that no peer may send. */
static const uint8_t garbage[16] = { 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF,
	                             0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF };

/* ---- inside callbacks ----------------------------------------------------------------------- */

struct in_callbacks {
	NTSTATUS unlimited[CONF_EVENT_COUNT];
	NTSTATUS limited[CONF_EVENT_COUNT];
	uint64_t took[CONF_EVENT_COUNT];
};

static NTSTATUS
wait_in_callback(struct conf_channel *c, enum conf_event event)
{
	struct in_callbacks *results = c->ctx;
	struct ssr_call call;

	if (event == CONF_POST_STARTED)
		return STATUS_SUCCESS;
	results->unlimited[event] = ssr_send(c, 1, CONF_WAIT, SSR_NO_LIMIT);
	ssr_prepare(&call, c, 2, CONF_WAIT, CONF_MS(5));
	results->limited[event] = ssr_run(&call);
	results->took[event] = call.ended - call.began;
	return STATUS_SUCCESS;
}

static void
waiting_in_state_callbacks_does_not_hang(struct conf_world *w)
{
	struct conf_pair pair = { conf_server(w, NULL), conf_client(w, NULL) };
	struct in_callbacks results = { 0 };

	conf_set(pair.client, ctx, &results);
	conf_set(pair.client, on_event, wait_in_callback);
	conf_open(pair.server, pair.client);
	assert_int_equal(results.unlimited[CONF_OPENED], STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(results.limited[CONF_OPENED], STATUS_CANCELLED);
	assert_true(results.took[CONF_OPENED] >= 5000000);
	assert_int_equal(results.unlimited[CONF_STARTED], STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(results.limited[CONF_STARTED], STATUS_CANCELLED);
	assert_true(results.took[CONF_STARTED] >= 5000000);
	VmbChannelPause(pair.client->handle);
	assert_int_equal(results.unlimited[CONF_SUSPEND], STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(results.limited[CONF_SUSPEND], STATUS_CANCELLED);
	assert_true(results.took[CONF_SUSPEND] >= 5000000);
	/* Opened, Started, Suspend: each unlimited wait is an error of the driver. */
	assert_int_equal(conf_misuses(w), 3);
	assert_int_equal(conf_stats(pair.client).misuses, 3);
	conf_expect_misuses(w, 3);
	conf_set(pair.client, on_event, NULL);
	VmbChannelStart(pair.client->handle);
	conf_await_left(pair.client, CONF_POST_STARTED, 2);
	conf_fence(pair);
	/* Of the requests above only that of Started was ever sent. */
	assert_int_equal(conf_packet_count(pair.server), 2);
}

/*
 * What does not have to wait is done, and what would have to is refused, also where the form needs
 * a packet object.
 */
struct full_ring {
	struct conf_world *world;
	PMDL foreign;
	NTSTATUS room[3], full[3];
};

static NTSTATUS
send_in_started(struct conf_channel *c, enum conf_event event)
{
	static const UINT32 flags[3] = { 0, CONF_PAGED, 0 };
	struct full_ring *ring = c->ctx;
	bool again;

	if (event != CONF_STARTED)
		return STATUS_SUCCESS;
	conf_lock(c->world);
	again = c->entered[CONF_STARTED] > 1;
	conf_unlock(c->world);
	for (unsigned i = 0; i < 3; i++) {
		struct ssr_call call;

		ssr_prepare(&call, c, i, flags[i], SSR_NO_LIMIT);
		call.mdl = i == 2 ? ring->foreign : NULL;
		(again ? ring->full : ring->room)[i] = ssr_run(&call);
	}
	return STATUS_SUCCESS;
}

static void
waiting_for_room_in_started_does_not_hang(struct conf_world *w)
{
	struct conf_pair pair = { conf_server(w, NULL), conf_client(w, &ssr_small) };
	uint8_t outside[64] = { 0 };
	struct full_ring ring = { w, IoAllocateMdl(outside, sizeof(outside), FALSE, FALSE, NULL),
		                  { 0 }, { 0 } };
	uint32_t filled;

	assert_non_null(ring.foreign);
	MmProbeAndLockPages(ring.foreign, KernelMode, IoReadAccess);
	conf_set(pair.client, ctx, &ring);
	conf_set(pair.client, on_event, send_in_started);
	conf_open(pair.server, pair.client);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(ring.room[i], STATUS_SUCCESS);
	assert_int_equal(conf_misuses(w), 0);
	conf_await_packets(pair.server, 3);
	VmbChannelPause(pair.server->handle);
	filled = conf_fill_ring(pair.client, 8);
	VmbChannelPause(pair.client->handle);
	VmbChannelStart(pair.client->handle);
	conf_await_left(pair.client, CONF_POST_STARTED, 2);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(ring.full[i], STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(conf_misuses(w), 3);
	conf_expect_misuses(w, 3);
	assert_int_equal(conf_stats(pair.client).outgoing_queued, 0);
	VmbChannelStart(pair.server->handle);
	conf_fence(pair);
	assert_int_equal(conf_packet_count(pair.server), 3 + filled + 1);
	conf_set(pair.client, on_event, NULL);
	MmUnlockPages(ring.foreign);
	IoFreeMdl(ring.foreign);
}

static void
calls_while_closing_are_removed(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct in_callbacks results = { 0 };

	conf_set(pair.client, ctx, &results);
	conf_set(pair.client, on_event, wait_in_callback);
	VmbChannelDisable(pair.client->handle);
	assert_int_equal(results.unlimited[CONF_SUSPEND], STATUS_DEVICE_REMOVED);
	assert_int_equal(results.limited[CONF_SUSPEND], STATUS_DEVICE_REMOVED);
	assert_int_equal(results.unlimited[CONF_CLOSED], STATUS_DEVICE_REMOVED);
	assert_int_equal(results.limited[CONF_CLOSED], STATUS_DEVICE_REMOVED);
	assert_int_equal(conf_packet_count(pair.server), 0);
}

static NTSTATUS
negotiate(struct conf_channel *c, enum conf_event event)
{
	NTSTATUS *results = c->ctx;
	struct ssr_call call;

	if (event != CONF_POST_STARTED)
		return STATUS_SUCCESS;
	ssr_prepare(&call, c, 10, CONF_WAIT, SSR_NO_LIMIT);
	results[0] = ssr_run(&call);
	if (call.room[0] != 10)
		results[0] = STATUS_UNSUCCESSFUL;
	results[1] = ssr_send(c, 11, CONF_WAIT, SSR_LONG);
	results[2] = ssr_send(c, 12, 0, SSR_NO_LIMIT);
	results[3] = ssr_send(c, 13, 0, SSR_LONG);
	results[4] = ssr_send(c, 14, 0, 0);
	results[5] = ssr_send(c, 15, CONF_WAIT | CONF_PAGED, SSR_NO_LIMIT);
	return STATUS_SUCCESS;
}

static void
every_form_works_in_post_started(struct conf_world *w)
{
	struct conf_pair pair = { conf_server(w, NULL), conf_client(w, NULL) };
	NTSTATUS results[6];

	conf_set(pair.client, ctx, results);
	conf_set(pair.client, on_event, negotiate);
	conf_open(pair.server, pair.client);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(results[i], STATUS_SUCCESS);
	conf_await_packets(pair.server, 6);
}

/* ---- on the thread that processes incoming packets ------------------------------------------ */

enum place { IN_PACKET, IN_BATCH_END, IN_ROUTINE, PLACES };
struct in_processing {
	NTSTATUS results[PLACES][4];
	KIRQL irql[PLACES];
	bool seen[PLACES];
};

static void
wait_in_processing(struct conf_channel *c, enum place place)
{
	struct in_processing *in = c->ctx;

	if (in->seen[place])
		return;
	in->irql[place] = KeGetCurrentIrql();
	in->results[place][0] = ssr_send(c, 100, CONF_WAIT, SSR_NO_LIMIT);
	in->results[place][1] = ssr_send(c, 101, CONF_WAIT, CONF_MS(2));
	if (in->irql[place] == DISPATCH_LEVEL) {
		in->results[place][2] = ssr_send(c, 102, CONF_WAIT, 0);
		in->results[place][3] = ssr_send(c, 103, 0, SSR_LONG);
	}
	conf_lock(c->world);
	in->seen[place] = true;
	conf_unlock(c->world);
}

static void
wait_in_packet(struct conf_channel *c, struct conf_packet *p)
{
	(void)p;
	wait_in_processing(c, IN_PACKET);
}

static EVT_VMB_CHANNEL_PROCESSING_COMPLETE wait_in_batch_end;
static VOID
wait_in_batch_end(VMBCHANNEL handle, UINT32 packets)
{
	(void)packets;
	wait_in_processing(conf_channel_of(handle), IN_BATCH_END);
}

static void
wait_in_routine(struct conf_send *s)
{
	wait_in_processing(s->channel, IN_ROUTINE);
}

static void
run_processing(struct conf_world *w, bool passive, struct in_processing *in)
{
	const struct conf_options options = { .passive = passive,
		                              .processing_complete = wait_in_batch_end };
	struct conf_pair pair = { conf_server(w, NULL), conf_client(w, &options) };
	struct conf_send *send;
	uint64_t number = 1;

	conf_set(pair.client, ctx, in);
	conf_set(pair.client, on_packet, wait_in_packet);
	conf_open(pair.server, pair.client);
	assert_int_equal(conf_post(pair.server, 1), STATUS_SUCCESS);
	conf_await(w, in->seen[IN_PACKET] && in->seen[IN_BATCH_END]);
	send = conf_send_new(pair.client);
	send->on_done = wait_in_routine;
	assert_int_equal(VmbPacketSend(send->packet, &number, 8, NULL, CONF_WAIT), STATUS_SUCCESS);
	conf_await_done(send, 1);
	conf_send_free(send);
	conf_fence(pair);
	/* What was sent and given up there, and nothing else. */
	assert_int_equal(conf_packet_count(pair.server), passive ? PLACES + 2 : 2);
}

static void
waiting_on_the_processing_thread_does_not_hang(struct conf_world *w)
{
	struct in_processing in = { 0 };

	run_processing(w, true, &in);
	for (unsigned i = 0; i < PLACES; i++) {
		assert_int_equal(in.irql[i], PASSIVE_LEVEL);
		assert_int_equal(in.results[i][0], STATUS_INVALID_DEVICE_STATE);
		assert_int_equal(in.results[i][1], STATUS_CANCELLED);
	}
	assert_int_equal(conf_misuses(w), PLACES);
	conf_expect_misuses(w, PLACES);
}

static void
waiting_at_dispatch_is_refused(struct conf_world *w)
{
	struct in_processing in = { 0 };

	run_processing(w, false, &in);
	for (unsigned i = 0; i < PLACES; i++) {
		assert_int_equal(in.irql[i], DISPATCH_LEVEL);
		for (unsigned k = 0; k < 4; k++)
			assert_int_equal(in.results[i][k], STATUS_INVALID_DEVICE_STATE);
	}
	assert_int_equal(conf_misuses(w), 4 * PLACES);
	conf_expect_misuses(w, 4 * PLACES);
}

/* ---- calls that wait when the channel ends -------------------------------------------------- */

/*
 * Two waiting calls: the server holds the request of one (and, its quota being 1, reads no
 * further), that of the other is in the queue behind a full ring.
 */
struct waiters {
	struct conf_pair pair;
	struct ssr_call in_ring, in_queue;
	uint32_t sent;
};

static struct conf_pair
open_slow_pair(struct conf_world *w)
{
	struct conf_options slow = ssr_small;
	struct conf_pair pair;

	slow.in_pages = slow.out_pages = 0;
	slow.quota = 1;
	pair = conf_open_pair_with(w, &slow, &ssr_small);
	conf_set(pair.server, on_event, ssr_release_in_suspend);
	return pair;
}

static void
start_waiters(struct waiters *ws, struct conf_pair pair)
{
	ws->pair = pair;
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	ssr_prepare(&ws->in_ring, pair.client, 1, CONF_WAIT, SSR_NO_LIMIT);
	ws->in_ring.room[0] = 77;
	ssr_start(&ws->in_ring);
	/* The end of the batch: nothing more comes out of the ring. */
	conf_await(pair.server->world, pair.server->batches == 1);
	ws->sent = 1 + conf_fill_ring(pair.client, 8);
	ssr_prepare(&ws->in_queue, pair.client, 2, CONF_WAIT, SSR_LONG);
	ws->in_queue.room[0] = 77;
	ssr_start(&ws->in_queue);
	ssr_await_queued(pair.client, 1);
}

static void
expect_removed(struct waiters *ws)
{
	assert_int_equal(ssr_join(&ws->in_ring), STATUS_DEVICE_REMOVED);
	assert_int_equal(ssr_join(&ws->in_queue), STATUS_DEVICE_REMOVED);
	assert_int_equal(ws->in_ring.room[0], 77);
	assert_int_equal(ws->in_ring.room_bytes, 8);
	assert_int_equal(ws->in_queue.room[0], 77);
	assert_int_equal(ws->in_queue.room_bytes, 8);
}

struct close_record {
	struct waiters waiters;
	struct kmcl_channel_stats in_suspend, in_closed;
	bool returned_in_suspend, returned_in_closed;
	uint32_t wire_in_suspend, wire_in_closed;
};

static bool
both_returned(struct waiters *ws)
{
	return ssr_returned(&ws->in_ring) && ssr_returned(&ws->in_queue);
}

static NTSTATUS
record_close(struct conf_channel *c, enum conf_event event)
{
	struct close_record *record = c->ctx;
	struct conf_wire wire;

	if (event != CONF_SUSPEND && event != CONF_CLOSED)
		return STATUS_SUCCESS;
	wire = conf_wire_read(c);
	if (event == CONF_SUSPEND) {
		record->in_suspend = conf_stats(c);
		record->wire_in_suspend = wire.count;
		record->returned_in_suspend = ssr_returned(&record->waiters.in_ring) ||
		                              ssr_returned(&record->waiters.in_queue);
	} else {
		/* Closed does not return before the calls have. */
		conf_await(c->world, record->waiters.in_ring.returned &&
		                             record->waiters.in_queue.returned);
		record->in_closed = conf_stats(c);
		record->wire_in_closed = wire.count;
		record->returned_in_closed = both_returned(&record->waiters);
	}
	conf_wire_free(&wire);
	return STATUS_SUCCESS;
}

static void
local_disable_releases_between_suspend_and_closed(struct conf_world *w)
{
	struct conf_pair pair = open_slow_pair(w);
	struct close_record record = { 0 };
	struct conf_wire wire;

	conf_set(pair.client, ctx, &record);
	start_waiters(&record.waiters, pair);
	wire = conf_wire_read(pair.client);
	conf_set(pair.client, on_event, record_close);
	VmbChannelDisable(pair.client->handle);
	expect_removed(&record.waiters);
	assert_false(record.returned_in_suspend);
	assert_int_equal(record.in_suspend.outgoing_in_flight, 2);
	assert_int_equal(record.in_suspend.outgoing_queued, 1);
	assert_true(record.returned_in_closed);
	assert_int_equal(record.in_closed.outgoing_in_flight, 0);
	assert_int_equal(record.in_closed.outgoing_queued, 0);
	/* The queued request never entered the ring. */
	assert_int_equal(record.wire_in_suspend, wire.count);
	assert_int_equal(record.wire_in_closed, wire.count);
	assert_int_equal(record.in_closed.packets_sent, record.waiters.sent);
	assert_int_equal(pair.client->left[CONF_CLOSED], 1);
	conf_wire_free(&wire);
}

static void
peer_close_releases(struct conf_world *w)
{
	struct conf_pair pair = open_slow_pair(w);
	struct close_record record = { 0 };

	conf_set(pair.client, ctx, &record);
	start_waiters(&record.waiters, pair);
	conf_set(pair.client, on_event, record_close);
	/* Takes the offer back: a rescind for the client. */
	VmbChannelDisable(pair.server->handle);
	expect_removed(&record.waiters);
	conf_await_left(pair.client, CONF_CLOSED, 1);
	assert_false(record.returned_in_suspend);
	assert_true(record.returned_in_closed);
}

static void
failed_channel_releases(struct conf_world *w)
{
	struct conf_pair pair = open_slow_pair(w);
	struct waiters waiters;

	start_waiters(&waiters, pair);
	conf_wire_inject(pair.server, garbage, sizeof(garbage));
	expect_removed(&waiters);
	assert_int_equal(ssr_send(pair.client, 3, CONF_WAIT, SSR_NO_LIMIT), STATUS_DEVICE_REMOVED);
	assert_int_equal(ssr_send(pair.client, 3, 0, 0), STATUS_DEVICE_REMOVED);
	conf_expect_events(pair.client, "Opened Started PostStarted");
}

static NTSTATUS
wait_in_post_started(struct conf_channel *c, enum conf_event event)
{
	if (event == CONF_POST_STARTED)
		(void)ssr_run(c->ctx);
	return STATUS_SUCCESS;
}

static void
fail_packet(struct conf_packet *p)
{
	struct conf_channel *c = p->channel;

	conf_lock(c->world);
	p->held = false;
	c->held--;
	conf_unlock(c->world);
	VmbChannelPacketFail(p->handle);
}

/* The state context would end what is outgoing, but it is inside the very callback that waits. */
static void
failed_channel_releases_waiter_in_post_started(struct conf_world *w)
{
	/* Found in the incoming ring, found in the outgoing ring, said by the driver. */
	enum { INCOMING, OUTGOING, DRIVER };

	for (unsigned failure = INCOMING; failure <= DRIVER; failure++) {
		struct conf_pair pair = { conf_server(w, &ssr_small), conf_client(w, &ssr_small) };
		struct ssr_call call;

		ssr_prepare(&call, pair.client, 1, CONF_WAIT, SSR_NO_LIMIT);
		conf_set(pair.client, ctx, &call);
		conf_set(pair.client, on_event, wait_in_post_started);
		pair.server->answer_by = CONF_HOLD;
		conf_set(pair.server, on_event, ssr_release_in_suspend);
		pair.client->answer_by = CONF_HOLD;
		conf_enable(pair.server);
		if (failure == OUTGOING)
			VmbChannelPause(pair.server->handle);
		conf_enable(pair.client);
		conf_await_entered(pair.client, CONF_POST_STARTED, 1);
		if (failure == OUTGOING) {
			conf_poll_until(conf_stats(pair.client).packets_sent == 1);
			(void)conf_fill_ring(pair.client, 8);
			conf_wire_set_read_index(pair.client, 0xFFFFFFF0);
			assert_int_equal(ssr_send(pair.client, 2, 0, 0), STATUS_DEVICE_REMOVED);
		} else {
			conf_await_packets(pair.server, 1);
		}
		if (failure == INCOMING) {
			conf_wire_inject(pair.server, garbage, sizeof(garbage));
		} else if (failure == DRIVER) {
			assert_int_equal(conf_post(pair.server, 1), STATUS_SUCCESS);
			fail_packet(conf_await_packets(pair.client, 1));
		}
		conf_await_left(pair.client, CONF_POST_STARTED, 1);
		assert_int_equal(call.status, STATUS_DEVICE_REMOVED);
		conf_expect_events(pair.client, "Opened Started PostStarted");
	}
}

/* A packet that only this thread completes, and only when its own request has ended. */
static void *
complete_after_request(void *ctx)
{
	struct ssr_call *call = ctx;

	(void)ssr_run(call);
	conf_complete_held(call->channel);
	return NULL;
}

static void
close_does_not_wait_for_who_waits_for_it(struct conf_world *w)
{
	struct conf_pair pair = open_slow_pair(w);
	struct ssr_call call;
	pthread_t thread;

	conf_set(pair.server, answer_by, CONF_HOLD);
	conf_set(pair.client, answer_by, CONF_HOLD);
	assert_int_equal(conf_post(pair.server, 1), STATUS_SUCCESS);
	conf_await_packets(pair.client, 1);
	ssr_prepare(&call, pair.client, 1, CONF_WAIT, SSR_NO_LIMIT);
	assert_int_equal(pthread_create(&thread, NULL, complete_after_request, &call), 0);
	conf_await_packets(pair.server, 1);
	VmbChannelDisable(pair.client->handle);
	pthread_join(thread, NULL);
	assert_int_equal(call.status, STATUS_DEVICE_REMOVED);
	conf_expect_events(pair.client, "Opened Started PostStarted Suspend Closed");
}

/* The lie is found while looking for room. */
static void
impossible_read_index_is_no_full_ring(struct conf_world *w)
{
	static const UINT32 flags[] = { 0, CONF_PAGED, CONF_WAIT };

	for (unsigned i = 0; i < 3; i++) {
		struct conf_pair pair = conf_open_pair_with(w, &ssr_small, &ssr_small);

		VmbChannelPause(pair.server->handle);
		(void)conf_fill_ring(pair.client, 8);
		conf_wire_set_read_index(pair.client, 0xFFFFFFF0);
		assert_int_equal(ssr_send(pair.client, 1, flags[i], 0), STATUS_DEVICE_REMOVED);
		assert_int_equal(ssr_send(pair.client, 1, flags[i], SSR_NO_LIMIT),
		                 STATUS_DEVICE_REMOVED);
		assert_int_equal(conf_stats(pair.client).outgoing_in_flight, 0);
	}
}

static void
end_of_the_bus_releases(struct conf_world *w)
{
	struct conf_pair pair = open_slow_pair(w);
	struct waiters waiters;

	start_waiters(&waiters, pair);
	kmcl_bus_close(w->guest);
	w->guest = NULL;
	expect_removed(&waiters);
	conf_await_left(pair.client, CONF_CLOSED, 1);
}

/* Suspend cannot run before PostStarted returned, so that this one is released first. */
static void
waiter_in_post_started_is_released_before_suspend(struct conf_world *w)
{
	struct conf_pair pair = { conf_server(w, NULL), conf_client(w, NULL) };
	struct ssr_call call;

	pair.server->answer_by = CONF_HOLD;
	conf_set(pair.server, on_event, ssr_release_in_suspend);
	ssr_prepare(&call, pair.client, 1, CONF_WAIT, SSR_NO_LIMIT);
	conf_set(pair.client, ctx, &call);
	conf_set(pair.client, on_event, wait_in_post_started);
	conf_enable(pair.server);
	conf_enable(pair.client);
	conf_await_packets(pair.server, 1);
	VmbChannelDisable(pair.client->handle);
	assert_true(ssr_returned(&call));
	assert_int_equal(call.status, STATUS_DEVICE_REMOVED);
	conf_expect_events(pair.client, "Opened Started PostStarted Suspend Closed");
	assert_false(pair.client->callbacks_overlapped);
}

/* ---- other states --------------------------------------------------------------------------- */

static void
enabled_channel_waits_across_the_open(struct conf_world *w)
{
	struct conf_pair pair = { conf_server(w, NULL), conf_client(w, NULL) };
	struct ssr_call call, limited, short_one;

	assert_int_equal(ssr_send(pair.client, 1, CONF_WAIT, SSR_NO_LIMIT),
	                 STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(ssr_send(pair.client, 1, 0, 0), STATUS_INVALID_DEVICE_STATE);
	conf_enable(pair.client);
	ssr_prepare(&call, pair.client, 2, CONF_WAIT, SSR_NO_LIMIT);
	ssr_start(&call);
	ssr_await_queued(pair.client, 1);
	ssr_prepare(&limited, pair.client, 3, 0, SSR_LONG);
	ssr_start(&limited);
	ssr_await_queued(pair.client, 2);
	ssr_prepare(&short_one, pair.client, 4, CONF_WAIT, CONF_MS(2));
	assert_int_equal(ssr_run(&short_one), STATUS_CANCELLED);
	conf_enable(pair.server);
	assert_int_equal(ssr_join(&call), STATUS_SUCCESS);
	assert_int_equal(call.room[0], 2);
	assert_int_equal(ssr_join(&limited), STATUS_SUCCESS);
	assert_int_equal(ssr_number(conf_await_packets(pair.server, 2)), 3);
	conf_await_left(pair.client, CONF_POST_STARTED, 1);
	conf_fence(pair);
	assert_int_equal(conf_packet_count(pair.server), 3);
	VmbChannelDisable(pair.client->handle);
	assert_int_equal(ssr_send(pair.client, 5, CONF_WAIT, SSR_NO_LIMIT),
	                 STATUS_INVALID_DEVICE_STATE);
}

static void
disable_before_the_open_releases(struct conf_world *w)
{
	struct conf_channel *client = conf_client(w, NULL);
	struct ssr_call call;

	conf_enable(client);
	ssr_prepare(&call, client, 1, CONF_WAIT, SSR_NO_LIMIT);
	ssr_start(&call);
	ssr_await_queued(client, 1);
	VmbChannelDisable(client->handle);
	assert_int_equal(ssr_join(&call), STATUS_DEVICE_REMOVED);
	conf_expect_events(client, "");
}

static void
wait_continues_through_a_pause(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct ssr_call call, limited, queued;

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	ssr_prepare(&call, pair.client, 1, CONF_WAIT, SSR_NO_LIMIT);
	ssr_start(&call);
	conf_await_packets(pair.server, 1);
	ssr_prepare(&limited, pair.client, 2, CONF_WAIT, CONF_MS(100));
	ssr_start(&limited);
	conf_await_packets(pair.server, 2);
	VmbChannelPause(pair.client->handle);
	/* The answer is in the ring, which is not read. */
	assert_true(conf_complete(pair.server->packets[0], "answered", 8));
	/* A call made now waits, too, and its time runs as the other one's does. */
	ssr_prepare(&queued, pair.client, 3, CONF_WAIT, CONF_MS(2));
	assert_int_equal(ssr_run(&queued), STATUS_CANCELLED);
	assert_int_equal(ssr_join(&limited), STATUS_CANCELLED);
	assert_true(limited.ended - limited.began >= 100000000);
	assert_false(ssr_returned(&call));
	assert_int_equal(conf_stats(pair.client).completions_received, 0);
	VmbChannelStart(pair.client->handle);
	assert_int_equal(ssr_join(&call), STATUS_SUCCESS);
	assert_memory_equal(call.room, "answered", 8);
	conf_complete_held(pair.server);
	conf_await_left(pair.client, CONF_POST_STARTED, 2);
	conf_fence(pair);
	assert_int_equal(conf_packet_count(pair.server), 3);
}

static void
unlimited_wait_lasts_until_the_close(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct ssr_call call;

	conf_set(pair.server, on_event, ssr_release_in_suspend);
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	ssr_prepare(&call, pair.client, 1, CONF_WAIT, SSR_NO_LIMIT);
	ssr_start(&call);
	conf_await_packets(pair.server, 1);
	for (unsigned i = 0; i < 100; i++)
		conf_fence(pair);
	VmbChannelPause(pair.client->handle);
	VmbChannelStart(pair.client->handle);
	conf_await_left(pair.client, CONF_POST_STARTED, 2);
	assert_false(ssr_returned(&call));
	assert_int_equal(conf_stats(pair.client).outgoing_in_flight, 1);
	VmbChannelDisable(pair.client->handle);
	assert_int_equal(ssr_join(&call), STATUS_DEVICE_REMOVED);
}

static const struct conf_test tests[] = {
	CONF_TEST(waiting_in_state_callbacks_does_not_hang, "SSR-51", CONF_BUSES),
	CONF_TEST(waiting_for_room_in_started_does_not_hang, "SSR-51", CONF_BUSES),
	CONF_TEST(calls_while_closing_are_removed, "SSR-54", CONF_BUSES),
	CONF_TEST(every_form_works_in_post_started, "SSR-52", CONF_BUSES),
	CONF_TEST(waiting_on_the_processing_thread_does_not_hang, "SSR-53", CONF_BUSES),
	CONF_TEST(waiting_at_dispatch_is_refused, "SSR-53", CONF_BUSES),
	CONF_TEST(local_disable_releases_between_suspend_and_closed, "SSR-54, SSR-55", CONF_BUSES),
	CONF_TEST(peer_close_releases, "SSR-54, SSR-55", CONF_BUSES),
	CONF_TEST(failed_channel_releases, "SSR-54", CONF_BUSES),
	CONF_TEST(failed_channel_releases_waiter_in_post_started, "SSR-54, STM-16", CONF_BUSES),
	CONF_TEST(close_does_not_wait_for_who_waits_for_it, "SSR-54", CONF_BUSES),
	CONF_TEST(impossible_read_index_is_no_full_ring, "SSR-54", CONF_BUSES),
	CONF_TEST(end_of_the_bus_releases, "SSR-54", CONF_UNIX),
	CONF_TEST(waiter_in_post_started_is_released_before_suspend, "SSR-55", CONF_BUSES),
	CONF_TEST(enabled_channel_waits_across_the_open, "SSR-57", CONF_BUSES),
	CONF_TEST(disable_before_the_open_releases, "SSR-54", CONF_BUSES),
	CONF_TEST(wait_continues_through_a_pause, "SSR-58", CONF_BUSES),
	CONF_TEST(unlimited_wait_lasts_until_the_close, "SSR-62", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("ssr_shutdown", tests);
}
