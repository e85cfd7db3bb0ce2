/* SPDX-License-Identifier: MIT */
/*
 * What the dispatch context promises: how a quota stops and restarts it, that it sends before it sleeps, and whom a callback that
 * blocks delays. The moment at which a ring lets its peer signal again ends here, where the test looks.
 */
#include <stdatomic.h>

#include "errand.h"
#include "kmcl/kmcl_channel.h"
#include "kmcl/kmcl_rx.h"

enum vmb_status __real_vmb_ring_rx_unmask(struct vmb_ring_rx *ring);
enum vmb_status __wrap_vmb_ring_rx_unmask(struct vmb_ring_rx *ring);

/* `channel` is read by every loop; the rest belongs to the thread of this one. */
static struct {
	struct kmcl_channel *_Atomic channel;
	uint32_t unmasked, queued_then;
} watch;

enum vmb_status
__wrap_vmb_ring_rx_unmask(struct vmb_ring_rx *ring)
{
	struct kmcl_channel *ch = atomic_load(&watch.channel);

	if (ch != NULL && ring == &ch->rx.ring) {
		watch.unmasked++;
		vmb_lock_take(&ch->tx.lock);
		watch.queued_then += ch->tx.fifo_count;
		vmb_lock_give(&ch->tx.lock);
	}
	return __real_vmb_ring_rx_unmask(ring);
}

static struct kmcl_loop *
hand_driven_loop(void)
{
	struct kmcl_loop_options driven = { .size = sizeof(driven), .host_driven = true,
		                            .spin_us = UINT32_MAX };
	struct kmcl_loop *loop;

	assert_int_equal(kmcl_loop_create(&driven, &loop), VMB_OK);
	return loop;
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

static uint32_t
mask_before(struct conf_channel *sender)
{
	struct conf_wire wire = conf_wire_read(sender);
	uint32_t mask = wire.interrupt_mask;

	conf_wire_free(&wire);
	return mask;
}

static void
quota_stops_with_the_mask_set_and_restarts_in_the_loop(struct conf_world *w)
{
	struct conf_options options = { .quota = 2, .loop = hand_driven_loop() };
	struct conf_pair pair = conf_open_pair_with(w, &options, NULL);

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	kmcl_loop_run(options.loop, 0);
	assert_int_equal(mask_before(pair.client), 0);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(conf_post(pair.client, i), STATUS_SUCCESS);
	kmcl_loop_run(options.loop, -1);
	assert_int_equal(packets_of(pair.server), 2);
	/* The batch ended, and the client need not signal. */
	assert_int_equal(pair.server->batches, 1);
	assert_int_equal(pair.server->batch_packets, 2);
	assert_int_equal(mask_before(pair.client), 1);
	kmcl_loop_run(options.loop, 0);
	assert_int_equal(packets_of(pair.server), 2);
	assert_int_equal(mask_before(pair.client), 1);
	/* Not inside the completing call, but the loop's next turn. */
	assert_true(conf_complete(pair.server->packets[0], NULL, 0));
	assert_int_equal(packets_of(pair.server), 2);
	kmcl_loop_run(options.loop, -1);
	assert_int_equal(packets_of(pair.server), 3);
	assert_int_equal(pair.server->packets[2]->irql, DISPATCH_LEVEL);
	assert_int_equal(mask_before(pair.client), 1);
	conf_answer_with(pair.server, CONF_ECHO, NULL, 0);
	conf_complete_held(pair.server);
	while (packets_of(pair.server) < 5 || mask_before(pair.client) != 0)
		kmcl_loop_run(options.loop, -1);
	assert_int_equal(pair.server->batch_packets, 5);
	conf_channel_free(pair.client);
	conf_channel_free(pair.server);
	kmcl_loop_destroy(options.loop);
}

/* The same for a channel that is processed at PASSIVE: the restart is there too. */
static void
quota_of_a_passive_channel_restarts_at_passive(struct conf_world *w)
{
	struct conf_options options = { .quota = 1, .passive = true };
	struct conf_pair pair = conf_open_pair_with(w, &options, NULL);

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	for (uint32_t i = 0; i < 5; i++)
		assert_int_equal(conf_post(pair.client, i), STATUS_SUCCESS);
	for (uint32_t i = 0; i < 5; i++) {
		struct conf_packet *p = conf_await_packets(pair.server, i + 1);

		conf_await(w, pair.server->batches == i + 1);
		assert_int_equal(p->irql, PASSIVE_LEVEL);
		assert_false(pthread_equal(p->thread, pthread_self()));
		assert_int_equal(packets_of(pair.server), i + 1);
		assert_true(conf_complete(p, NULL, 0));
	}
}

/* A full ring, packets behind it; the client reads, and the server's loop sends what it can before it allows signals. */
static void
loop_moves_the_queue_before_it_allows_signals(struct conf_world *w)
{
	struct conf_options options = { .loop = hand_driven_loop() };
	struct conf_options small = { .max_packet = 1024, .external_bytes = 4096, .external_mdls = 1,
		                      .in_pages = 1, .out_pages = 1 };
	struct conf_pair pair = conf_open_pair_with(w, &options, &small);
	static uint8_t payload[1024];
	struct conf_send *sends[8];
	uint32_t in_ring;

	kmcl_loop_run(options.loop, 0);
	VmbChannelPause(pair.client->handle);
	for (uint32_t i = 0; i < 8; i++) {
		sends[i] = conf_send_new(pair.server);
		assert_int_equal(VmbPacketSend(sends[i]->packet, payload, sizeof(payload), NULL, 0),
		                 STATUS_SUCCESS);
	}
	in_ring = 8 - conf_stats(pair.server).outgoing_queued;
	assert_in_range(in_ring, 1, 6);
	VmbChannelStart(pair.client->handle);
	conf_await_packets(pair.client, in_ring);
	/* The space that they took is free only at the end of their batch. */
	conf_await(w, pair.client->batch_packets == in_ring);
	/* Only the loop can send them now, and nobody runs it. */
	assert_int_equal(conf_stats(pair.server).outgoing_queued, 8 - in_ring);
	watch.unmasked = watch.queued_then = 0;
	atomic_store(&watch.channel, kmcl_channel_from_handle(pair.server->handle));
	while (watch.unmasked == 0)
		kmcl_loop_run(options.loop, -1);
	atomic_store(&watch.channel, NULL);
	/* As many fit as went before. */
	assert_in_range(watch.queued_then, 0, 8 - in_ring - min(in_ring, 8 - in_ring));
	while (packets_of(pair.client) < 8)
		kmcl_loop_run(options.loop, 10);
	for (uint32_t i = 0; i < 8; i++) {
		conf_await_done(sends[i], 1);
		conf_send_free(sends[i]);
	}
	conf_channel_free(pair.client);
	conf_channel_free(pair.server);
	kmcl_loop_destroy(options.loop);
}

/* ---- answers of a batch that goes on ------------------------------------------------------------------------- */

#define ASKED 10u

/* What the client could see in its ring before each of the answers was given. */
struct seen {
	uint32_t answers[ASKED], count;
};

static void
see_answers(struct conf_channel *c, struct conf_packet *p)
{
	struct seen *seen = c->ctx;
	struct conf_wire wire = conf_wire_read(c);

	(void)p;
	seen->answers[seen->count++] = wire.count;
	conf_wire_free(&wire);
}

/*
 * Requests that the server finds all at once, each with external data if there is an MDL; the client reads none of the
 * answers before all are given.
 */
static void
ask(struct conf_pair pair, struct kmcl_loop *server_loop, struct kmcl_loop *client_loop, uint32_t count, bool polls, PMDL mdl)
{
	struct kmcl_channel *client = kmcl_channel_from_handle(pair.client->handle);
	uint32_t before = packets_of(pair.server);
	struct conf_send *sends[ASKED];
	uint64_t payload = 0;

	while (mask_before(pair.server) != 0)
		kmcl_loop_run(client_loop, 0);
	if (polls)
		vmb_ring_rx_mask(&client->rx.ring);
	for (uint32_t i = 0; i < count; i++) {
		sends[i] = conf_send_new(pair.client);
		assert_int_equal(VmbPacketSend(sends[i]->packet, &payload, sizeof(payload), mdl,
		                               VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION),
		                 STATUS_SUCCESS);
	}
	while (packets_of(pair.server) < before + count)
		kmcl_loop_run(server_loop, 10);
	/* Who polls needs no signal. */
	if (polls)
		kmcl_rx_kick(client);
	for (uint32_t i = 0; i < count; i++) {
		while (sends[i]->done == 0)
			kmcl_loop_run(client_loop, 10);
		conf_send_free(sends[i]);
	}
}

static void
answers_before_the_end_of_a_batch(struct conf_world *w, bool polls, PMDL mdl, const uint32_t expected[ASKED])
{
	struct conf_options server = { .external_bytes = 1024 * 1024, .external_mdls = 1, .loop = hand_driven_loop() };
	struct conf_options client = { .external_bytes = 1024 * 1024, .external_mdls = 1, .loop = hand_driven_loop() };
	struct conf_pair pair = conf_open_pair_with(w, &server, &client);
	struct seen seen = { .count = 0 };
	uint64_t signals;

	pair.server->ctx = &seen;
	/* The commit of this answer sees what the client wants. */
	ask(pair, server.loop, client.loop, 1, polls, NULL);
	conf_set(pair.server, on_packet, see_answers);
	signals = conf_stats(pair.server).signals_sent;
	ask(pair, server.loop, client.loop, ASKED, polls, mdl);
	assert_int_equal(conf_stats(pair.server).signals_sent - signals, polls ? 0 : 1);
	assert_int_equal(seen.count, ASKED);
	assert_memory_equal(seen.answers, expected, sizeof(seen.answers));
	conf_set(pair.server, on_packet, NULL);
	conf_channel_free(pair.client);
	conf_channel_free(pair.server);
	kmcl_loop_destroy(client.loop);
	kmcl_loop_destroy(server.loop);
}

static void
answers_go_to_a_client_that_polls_while_the_batch_goes_on(struct conf_world *w)
{
	answers_before_the_end_of_a_batch(w, true, NULL, (const uint32_t[ASKED]){ 0, 0, 0, 0, 4, 4, 4, 4, 8, 8 });
}

static void
answers_wake_a_client_that_sleeps_once_for_all(struct conf_world *w)
{
	answers_before_the_end_of_a_batch(w, false, NULL, (const uint32_t[ASKED]){ 0 });
}

/* It would sleep over each batch, and the server then over its answers. */
static void
answers_to_large_transfers_wake_a_client_that_sleeps_at_once(struct conf_world *w)
{
	const uint32_t bytes = 1024 * 1024;
	uint8_t *memory = conf_pool(bytes, 1);
	PMDL mdl = conf_mdl(memory, bytes);

	answers_before_the_end_of_a_batch(w, false, mdl, (const uint32_t[ASKED]){ 0, 1, 2, 3, 4, 5, 6, 7, 8, 9 });
	conf_mdl_free(mdl);
	conf_pool_free(memory);
}

/* ---- callbacks that block at DISPATCH ------------------------------------------------------------------------ */

static void
stop_until_let_go(struct conf_channel *c, struct conf_packet *p)
{
	struct conf_world *w = c->world;

	(void)p;
	conf_lock(w);
	c->ctx = (void *)1;
	pthread_cond_broadcast(&w->changed);
	while (c->ctx != NULL)
		pthread_cond_wait(&w->changed, &w->lock);
	conf_unlock(w);
}

static struct conf_pair
open_on(struct conf_world *w, struct kmcl_loop *loop)
{
	struct conf_options options = { .loop = loop };

	return conf_open_pair_with(w, &options, NULL);
}

static void
blocked_dispatch_callback_delays_its_thread_only(struct conf_world *w)
{
	struct kmcl_loop *loops[2];
	struct conf_pair blocked, same, other;
	pthread_t thread;

	for (int i = 0; i < 2; i++)
		assert_int_equal(kmcl_loop_create(NULL, &loops[i]), VMB_OK);
	blocked = open_on(w, loops[0]);
	same = open_on(w, loops[0]);
	other = open_on(w, loops[1]);
	conf_set(blocked.server, on_packet, stop_until_let_go);
	assert_int_equal(conf_post(blocked.client, 1), STATUS_SUCCESS);
	conf_await(w, blocked.server->ctx != NULL);
	assert_int_equal(conf_post(same.client, 1), STATUS_SUCCESS);
	for (int i = 0; i < 20; i++)
		conf_fence(other);
	assert_int_equal(packets_of(same.server), 0);
	conf_set(blocked.server, ctx, NULL);
	thread = conf_await_packets(blocked.server, 1)->thread;
	/* The very thread that was blocked. */
	assert_true(pthread_equal(conf_await_packets(same.server, 1)->thread, thread));
	conf_set(blocked.server, on_packet, NULL);
	conf_fence(blocked);
	while (w->channels != NULL)
		conf_channel_free(w->channels);
	for (int i = 0; i < 2; i++)
		kmcl_loop_destroy(loops[i]);
}

static KEVENT never_set;

static void
wait_for_event(struct conf_channel *c, struct conf_packet *p)
{
	LARGE_INTEGER moment = { .QuadPart = -10 };

	(void)c;
	(void)p;
	(void)KeWaitForSingleObject(&never_set, Executive, KernelMode, FALSE, &moment);
}

static void
waiting_at_dispatch_is_misuse_and_the_channel_goes_on(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);

	KeInitializeEvent(&never_set, NotificationEvent, FALSE);
	conf_set(pair.server, on_packet, wait_for_event);
	assert_int_equal(conf_post(pair.client, 1), STATUS_SUCCESS);
	assert_int_equal(conf_await_packets(pair.server, 1)->irql, DISPATCH_LEVEL);
	assert_int_equal(conf_misuses(w), 1);
	conf_expect_misuses(w, 1);
	conf_set(pair.server, on_packet, NULL);
	conf_fence(pair);
}

static const struct conf_test tests[] = {
	CONF_TEST(quota_stops_with_the_mask_set_and_restarts_in_the_loop, "THR-7, PKC-10", CONF_BUSES),
	CONF_TEST(quota_of_a_passive_channel_restarts_at_passive, "THR-7", CONF_BUSES),
	CONF_TEST(loop_moves_the_queue_before_it_allows_signals, "THR-10", CONF_BUSES),
	CONF_TEST(answers_go_to_a_client_that_polls_while_the_batch_goes_on, "THR-8", CONF_BUSES),
	CONF_TEST(answers_wake_a_client_that_sleeps_once_for_all, "THR-8", CONF_BUSES),
	CONF_TEST(answers_to_large_transfers_wake_a_client_that_sleeps_at_once, "THR-8", CONF_BUSES),
	CONF_TEST(blocked_dispatch_callback_delays_its_thread_only, "THR-4", CONF_BUSES),
	CONF_TEST(waiting_at_dispatch_is_misuse_and_the_channel_goes_on, "THR-4", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("dispatch", tests);
}
