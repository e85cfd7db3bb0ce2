/* SPDX-License-Identifier: MIT */
/*
 * An open channel changes hands while its bus is held: saved and disabled here, restored there, and its guest notices a pause
 * at most. Nothing is lost, nothing comes twice, nothing overtakes.
 */
#include <stdlib.h>
#include <string.h>

#include "errand.h"
#include "kmcl/kmcl_channel.h"
#include "saver.h"

static struct kmcl_bus *
host_of(struct conf_world *w)
{
	struct kmcl_bus *host = w->host;

	if (host == NULL)
		assert_int_equal(kmcl_bus_loopback_host(&host), VMB_OK);
	return host;
}

static void
hold(struct conf_world *w)
{
	assert_int_equal(kmcl_bus_hold(host_of(w)), VMB_OK);
}

static void
release(struct conf_world *w)
{
	assert_int_equal(kmcl_bus_release(host_of(w)), VMB_OK);
}

/* The bus is held; the channel was paused and saved, and leaves. Its packets are over here. */
static void
leave(struct saver *s)
{
	VmbChannelDisable(s->channel->handle);
	for (uint32_t i = 0; i < s->count; i++)
		assert_int_equal(s->sends[i]->done, 1);
}

/* From one channel to another one, up to Paused; the bus stays held. Packets in use live on in the second. */
static struct saver *
hand_over(struct saver *s, const struct conf_options *options)
{
	struct state state;
	struct saver *next;

	hold(s->channel->world);
	VmbChannelPause(s->channel->handle);
	state = saver_take(s->channel);
	leave(s);
	next = saver_successor(s, options);
	saver_enable(next);
	assert_int_equal(saver_restore(next->channel, &state), STATUS_SUCCESS);
	saver_state_free(&state);
	return next;
}

static struct saver *
open_with(struct conf_world *w, const struct conf_options *server, const struct conf_options *client,
          struct conf_channel **guest)
{
	struct saver *s = saver_new(conf_server(w, server));

	*guest = conf_client(w, client);
	conf_open(s->channel, *guest);
	return s;
}

static uint64_t
number_of(const struct conf_packet *p)
{
	uint64_t number;

	assert_true(p->bytes >= sizeof(number));
	memcpy(&number, p->payload, sizeof(number));
	return number;
}

static NTSTATUS
push(struct conf_channel *c, uint64_t number, UINT32 flags)
{
	return VmbChannelSendSynchronousRequest(c->handle, &number, sizeof(number), NULL, flags, NULL,
	                                        NULL, NULL);
}

/* ---- states and callbacks ---------------------------------------------------------------------------- */

static void
open_channel_is_paused_when_restored_and_starts_without_opened(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *first = open_with(w, NULL, NULL, &client);
	struct saver *second = hand_over(first, NULL);
	uint8_t byte = 0;

	conf_expect_events(first->channel, "Opened Started PostStarted Suspend Closed");
	conf_expect_events(second->channel, "");
	/* Paused, and not Enabled any more. */
	assert_int_equal(VmbChannelRestoreFromBuffer(second->channel->handle, &byte, 1),
	                 STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(VmbChannelSaveBegin(second->channel->handle), STATUS_SUCCESS);
	VmbChannelSaveEnd(second->channel->handle);
	VmbChannelStart(second->channel->handle);
	conf_await_left(second->channel, CONF_POST_STARTED, 1);
	release(w);
	conf_fence((struct conf_pair){ second->channel, client });
	conf_expect_events(client, "Opened Started PostStarted");
	VmbChannelDisable(client->handle);
	conf_await_left(second->channel, CONF_CLOSED, 1);
	conf_expect_events(second->channel, "Started PostStarted Suspend Closed");
	/* The offer is as good as ever. */
	conf_enable(client);
	conf_await_left(client, CONF_POST_STARTED, 2);
	conf_fence((struct conf_pair){ second->channel, client });
	saver_free(second);
	saver_free(first);
}

static void
start_before_the_restore_starts_the_restored_channel(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *first = open_with(w, NULL, NULL, &client), *second;
	struct state state;

	hold(w);
	VmbChannelPause(first->channel->handle);
	state = saver_take(first->channel);
	leave(first);
	second = saver_successor(first, NULL);
	saver_enable(second);
	VmbChannelStart(second->channel->handle);
	assert_int_equal(saver_restore(second->channel, &state), STATUS_SUCCESS);
	conf_await_left(second->channel, CONF_POST_STARTED, 1);
	release(w);
	conf_fence((struct conf_pair){ second->channel, client });
	saver_state_free(&state);
	saver_free(second);
	saver_free(first);
}

static void
close_before_start_gives_closed_alone(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *first = open_with(w, NULL, NULL, &client), *second;

	conf_answer_with(client, CONF_HOLD, NULL, 0);
	saver_send(first, 1, 8, CONF_WAIT);
	conf_await_packets(client, 1);
	VmbChannelPause(first->channel->handle);
	saver_send(first, 2, 8, CONF_WAIT);
	second = hand_over(first, NULL);
	release(w);
	conf_answer_with(client, CONF_ECHO, NULL, 0);
	conf_complete_held(client);
	VmbChannelDisable(client->handle);
	conf_await_left(second->channel, CONF_CLOSED, 1);
	conf_expect_events(second->channel, "Closed");
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(second->sends[i]->status, STATUS_DEVICE_REMOVED);
	saver_free(second);
	saver_free(first);
}

static void
restored_channel_that_is_disabled_is_gone(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *first = open_with(w, NULL, NULL, &client);
	struct saver *second = hand_over(first, NULL);

	VmbChannelDisable(second->channel->handle);
	conf_expect_events(second->channel, "Closed");
	release(w);
	conf_await_left(client, CONF_CLOSED, 1);
	saver_free(second);
	saver_free(first);
}

static void
forced_new_channel_is_opened_anew(struct conf_world *w)
{
	struct conf_options anew = { .server_flags = VMBUS_SERVER_CHANNEL_INIT_FLAG_FORCE_NEW_CHANNEL };
	struct conf_channel *client;
	struct saver *first = open_with(w, NULL, NULL, &client), *second;

	conf_answer_with(client, CONF_HOLD, NULL, 0);
	saver_send(first, 1, 8, CONF_WAIT);
	conf_await_packets(client, 1);
	second = hand_over(first, &anew);
	assert_int_equal(second->sends[0]->status, STATUS_DEVICE_REMOVED);
	conf_expect_events(second->channel, "");
	VmbChannelStart(second->channel->handle);
	release(w);
	conf_answer_with(client, CONF_ECHO, NULL, 0);
	conf_complete_held(client);
	conf_await_left(client, CONF_CLOSED, 1);
	conf_poll_until(errand_is_disabled(client));
	conf_enable(client);
	conf_await_left(client, CONF_POST_STARTED, 2);
	conf_await_left(second->channel, CONF_POST_STARTED, 1);
	conf_expect_events(second->channel, "Opened Started PostStarted");
	conf_fence((struct conf_pair){ second->channel, client });
	saver_free(second);
	saver_free(first);
}

/* ---- packets ----------------------------------------------------------------------------------------- */

static void
late_answers_find_restored_packets(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *first = open_with(w, NULL, NULL, &client), *second;
	struct state state;

	conf_answer_with(client, CONF_HOLD, NULL, 0);
	for (uint32_t i = 1; i <= 4; i++)
		saver_send(first, i, 8 * i, CONF_WAIT);
	conf_await_packets(client, 4);
	hold(w);
	VmbChannelPause(first->channel->handle);
	/* Answered before the save, between the two lives, before the start, and after it. */
	assert_true(conf_complete(client->packets[2], "the 3rd", 8));
	state = saver_take(first->channel);
	leave(first);
	assert_true(conf_complete(client->packets[0], "the 1st", 8));
	second = saver_successor(first, NULL);
	saver_enable(second);
	assert_int_equal(saver_restore(second->channel, &state), STATUS_SUCCESS);
	assert_int_equal(conf_stats(second->channel).outgoing_in_flight, 4);
	assert_true(conf_complete(client->packets[3], "the 4th", 8));
	VmbChannelStart(second->channel->handle);
	release(w);
	assert_true(conf_complete(client->packets[1], "the 2nd", 8));
	for (uint32_t i = 0; i < 4; i++) {
		static const char *const answers[] = { "the 1st", "the 2nd", "the 3rd", "the 4th" };

		conf_await_done(second->sends[i], 1);
		assert_int_equal(saver_number(second->sends[i]), i + 1);
		assert_int_equal(second->sends[i]->status, STATUS_SUCCESS);
		assert_string_equal((char *)second->sends[i]->answer, answers[i]);
	}
	assert_int_equal(conf_stats(second->channel).stray_completions, 0);
	saver_state_free(&state);
	saver_free(second);
	saver_free(first);
}

static NTSTATUS
drop_all(struct saver *s, void *library, uint32_t library_bytes, void *driver, uint32_t driver_bytes)
{
	(void)s;
	(void)library;
	(void)library_bytes;
	(void)driver;
	(void)driver_bytes;
	return STATUS_SUCCESS;
}

static void
answer_to_a_dropped_packet_is_stray(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *first = open_with(w, NULL, NULL, &client), *second;
	struct state state;
	struct conf_send *send;

	conf_answer_with(client, CONF_HOLD, NULL, 0);
	saver_send(first, 1, 8, CONF_WAIT);
	conf_await_packets(client, 1);
	hold(w);
	VmbChannelPause(first->channel->handle);
	state = saver_take(first->channel);
	leave(first);
	second = saver_successor(first, NULL);
	second->on_restore = drop_all;
	saver_enable(second);
	assert_int_equal(saver_restore(second->channel, &state), STATUS_SUCCESS);
	assert_int_equal(conf_stats(second->channel).outgoing_in_flight, 0);
	VmbChannelStart(second->channel->handle);
	release(w);
	/* The slot is used again, but not the id. */
	send = saver_send(second, 2, 8, CONF_WAIT);
	conf_await_packets(client, 2);
	assert_true(conf_complete(client->packets[0], "old", 4));
	assert_true(conf_complete(client->packets[1], "new", 4));
	conf_await_done(send, 1);
	assert_string_equal((char *)send->answer, "new");
	assert_int_equal(conf_stats(second->channel).stray_completions, 1);
	saver_state_free(&state);
	saver_free(second);
	saver_free(first);
}

static void
requests_of_the_guest_wait_for_the_new_server(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *first = open_with(w, NULL, NULL, &client), *second;
	struct conf_send *sends[3];
	struct state state;
	uint64_t word = 7;

	for (uint32_t i = 0; i < 3; i++)
		sends[i] = conf_send_new(client);
	hold(w);
	VmbChannelPause(first->channel->handle);
	assert_int_equal(VmbPacketSend(sends[0]->packet, &word, 8, NULL, CONF_WAIT), STATUS_SUCCESS);
	state = saver_take(first->channel);
	leave(first);
	word = 8;
	assert_int_equal(VmbPacketSend(sends[1]->packet, &word, 8, NULL, CONF_WAIT), STATUS_SUCCESS);
	second = saver_successor(first, NULL);
	saver_enable(second);
	assert_int_equal(saver_restore(second->channel, &state), STATUS_SUCCESS);
	word = 9;
	assert_int_equal(VmbPacketSend(sends[2]->packet, &word, 8, NULL, CONF_WAIT), STATUS_SUCCESS);
	VmbChannelStart(second->channel->handle);
	release(w);
	for (uint32_t i = 0; i < 3; i++) {
		conf_await_done(sends[i], 1);
		assert_int_equal(number_of(conf_await_packets(second->channel, i + 1)), 7 + i);
		assert_int_equal(sends[i]->status, STATUS_SUCCESS);
		conf_send_free(sends[i]);
	}
	assert_int_equal(conf_packet_count(first->channel), 0);
	saver_state_free(&state);
	saver_free(second);
	saver_free(first);
}

static void
queue_blocked_by_quota_goes_on_in_the_new_server(struct conf_world *w)
{
	struct conf_options one = { .quota = 1 };
	struct conf_channel *client;
	struct saver *first = open_with(w, &one, NULL, &client), *second;
	struct errand pausing = { 0 };

	conf_answer_with(first->channel, CONF_HOLD, NULL, 0);
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(push(client, i, 0), STATUS_SUCCESS);
	conf_await_packets(first->channel, 1);
	/* What is indicated has to be completed first; the rest stays in the ring. */
	errand_start(&pausing, errand_pause, first->channel->handle);
	conf_await_entered(first->channel, CONF_SUSPEND, 1);
	assert_true(conf_complete(first->channel->packets[0], NULL, 0));
	errand_join(&pausing);
	second = hand_over(first, &one);
	conf_answer_with(second->channel, CONF_HOLD, NULL, 0);
	VmbChannelStart(second->channel->handle);
	release(w);
	for (uint32_t i = 1; i < 4; i++) {
		assert_int_equal(number_of(conf_await_packets(second->channel, i)), i);
		assert_true(conf_complete(second->channel->packets[i - 1], NULL, 0));
	}
	assert_int_equal(conf_packet_count(first->channel), 1);
	saver_free(second);
	saver_free(first);
}

/* ---- order ------------------------------------------------------------------------------------------- */

/* What the client sees, in one list: packets as their number, answers as 1000 and the number of their request. */
static struct {
	uint64_t seen[512];
	uint32_t count;
} order;

static void
note_packet(struct conf_channel *c, struct conf_packet *p)
{
	conf_lock(c->world);
	order.seen[order.count++] = number_of(p);
	conf_unlock(c->world);
}

static void
note_answer(struct conf_send *s)
{
	conf_lock(s->channel->world);
	order.seen[order.count++] = 1000 + saver_number(s);
	conf_unlock(s->channel->world);
}

/* Requests and answers wait for room in the order in which they were given, and go out in it (OUT-2). */
static void
queue_of_requests_and_answers_keeps_its_order(struct conf_world *w)
{
	struct conf_options small = { .in_pages = 1, .max_packet = 512, .external_bytes = 4096,
		                      .external_mdls = 1 };
	struct conf_options server = { .max_packet = 512, .external_bytes = 4096, .external_mdls = 1 };
	struct conf_channel *client;
	struct saver *first = open_with(w, &server, &small, &client), *second;
	struct conf_send *requests[3];
	uint32_t filled = 0, at;
	uint8_t answer[600];

	memset(&order, 0, sizeof(order));
	memset(answer, 0, sizeof(answer));
	conf_answer_with(first->channel, CONF_HOLD, NULL, 0);
	conf_set(client, on_packet, note_packet);
	for (uint64_t i = 0; i < 3; i++) {
		requests[i] = conf_send_new(client);
		requests[i]->ctx = (void *)(uintptr_t)i;
		requests[i]->on_done = note_answer;
		assert_int_equal(VmbPacketSend(requests[i]->packet, &i, 8, NULL, CONF_WAIT),
		                 STATUS_SUCCESS);
	}
	conf_await_packets(first->channel, 3);
	VmbChannelPause(client->handle);
	/* Until the ring is full. */
	for (; conf_stats(first->channel).outgoing_queued == 0; filled++)
		saver_send(first, filled, 400, filled % 2 == 0 ? CONF_WAIT : 0);
	assert_true(filled > 4);
	assert_true(conf_complete(first->channel->packets[1], "1", 2));
	saver_send(first, 100, 16, CONF_WAIT);
	/* Larger than the packet's own memory. */
	assert_true(conf_complete(first->channel->packets[0], answer, sizeof(answer)));
	saver_send(first, 101, 16, 0);
	assert_true(conf_complete(first->channel->packets[2], "3", 2));
	assert_int_equal(conf_stats(first->channel).outgoing_queued, 6);
	second = hand_over(first, &server);
	assert_int_equal(conf_stats(second->channel).outgoing_queued, 6);
	VmbChannelStart(second->channel->handle);
	release(w);
	VmbChannelStart(client->handle);
	conf_await(w, order.count == filled + 5);
	for (at = 0; at < filled; at++)
		assert_int_equal(order.seen[at], at);
	assert_int_equal(order.seen[at++], 1001);
	assert_int_equal(order.seen[at++], 100);
	assert_int_equal(order.seen[at++], 1000);
	assert_int_equal(order.seen[at++], 101);
	assert_int_equal(order.seen[at++], 1002);
	for (uint32_t i = 0; i < second->count; i++) {
		conf_await_done(second->sends[i], 1);
		assert_int_equal(second->sends[i]->status, STATUS_SUCCESS);
	}
	conf_await_done(requests[0], 1);
	assert_int_equal(requests[0]->answer_bytes, sizeof(answer));
	for (uint32_t i = 0; i < 3; i++) {
		conf_await_done(requests[i], 1);
		conf_send_free(requests[i]);
	}
	assert_int_equal(conf_stats(second->channel).stray_completions, 0);
	saver_free(second);
	saver_free(first);
}

/* ---- load -------------------------------------------------------------------------------------------- */

#define LIVES 12u
#define AHEAD 8u

/* The guest's own thread: sends and never looks up. */
struct guest_load {
	struct conf_channel *client;
	bool stop; /* atomic */
	uint64_t sent;
	bool failed;
};

static void
guest_runs(void *context)
{
	struct guest_load *load = context;

	while (!__atomic_load_n(&load->stop, __ATOMIC_ACQUIRE)) {
		uint64_t number = load->sent, answer = ~number;
		UINT32 room = sizeof(answer);

		if (VmbChannelSendSynchronousRequest(load->client->handle, &number, sizeof(number), NULL,
		                                     CONF_WAIT, &answer, &room, NULL) != STATUS_SUCCESS ||
		    answer != number) {
			load->failed = true;
			return;
		}
		load->sent++;
	}
}

static void
guest_under_load_notices_nothing_but_pauses(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *lives[LIVES + 1];
	struct guest_load load = { NULL, false, 0, false };
	struct errand guest = { 0 };
	uint64_t next_at_server = 0, next_at_client = 0, number = 0;

	lives[0] = open_with(w, NULL, NULL, &client);
	load.client = client;
	errand_start(&guest, guest_runs, &load);
	for (uint32_t life = 0; life < LIVES; life++) {
		uint32_t base;

		conf_lock(w);
		base = lives[life]->channel->packet_count;
		conf_unlock(w);
		/* Some answered, some on the way, some in the queue. */
		for (uint32_t i = 0; i < AHEAD; i++)
			saver_send(lives[life], number++, 64, CONF_WAIT);
		conf_await(w, lives[life]->channel->packet_count >= base + 20);
		hold(w);
		VmbChannelPause(lives[life]->channel->handle);
		for (uint32_t i = 0; i < AHEAD / 2; i++)
			saver_send(lives[life], number++, 64, CONF_WAIT);
		{
			struct state state = saver_take(lives[life]->channel);

			leave(lives[life]);
			lives[life + 1] = saver_successor(lives[life], NULL);
			saver_enable(lives[life + 1]);
			assert_int_equal(saver_restore(lives[life + 1]->channel, &state),
			                 STATUS_SUCCESS);
			saver_state_free(&state);
		}
		VmbChannelStart(lives[life + 1]->channel->handle);
		release(w);
		/* Each is over in exactly one life. */
		for (uint32_t i = 0; i < lives[life + 1]->count; i++) {
			conf_await_done(lives[life + 1]->sends[i], 1);
			assert_int_equal(lives[life + 1]->sends[i]->status, STATUS_SUCCESS);
		}
		assert_true(lives[life + 1]->count >= AHEAD / 2);
		/* Keep the saver's list short. */
		for (uint32_t i = 0; i < lives[life + 1]->count; i++)
			conf_send_free(lives[life + 1]->sends[i]);
		lives[life + 1]->count = 0;
	}
	__atomic_store_n(&load.stop, true, __ATOMIC_RELEASE);
	errand_join(&guest);
	assert_false(load.failed);
	conf_fence((struct conf_pair){ lives[LIVES]->channel, client });
	/* The guest's numbers went through all servers in order, each to one of them; the last is the fence's. */
	for (uint32_t life = 0; life <= LIVES; life++) {
		struct conf_channel *c = lives[life]->channel;
		uint32_t count = c->packet_count - (life == LIVES ? 1 : 0);

		for (uint32_t i = 0; i < count; i++)
			assert_int_equal(number_of(c->packets[i]), next_at_server++);
		assert_int_equal(conf_stats(c).stray_completions, 0);
	}
	assert_int_equal(next_at_server, load.sent);
	/* And theirs came to the guest in order. */
	assert_int_equal(conf_packet_count(client), number);
	for (uint32_t i = 0; i < client->packet_count; i++)
		assert_int_equal(number_of(client->packets[i]), next_at_client++);
	assert_int_equal(conf_stats(client).stray_completions, 0);
	conf_expect_events(client, "Opened Started PostStarted");
	for (uint32_t life = 0; life <= LIVES; life++)
		saver_free(lives[life]);
}

/* ---- memory of the guest -------------------------------------------------------------------------------- */

static void
gpadls_are_mapped_again(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *first = open_with(w, NULL, NULL, &client), *second;
	uint8_t *memory = conf_pool(8192, 3);
	PMDL mdl = conf_mdl(memory, 8192), mapped;
	UINT32 gpadl;

	assert_int_equal(VmbChannelCreateGpadlFromMdl(client->handle, 0, mdl, 0, 0, &gpadl),
	                 STATUS_SUCCESS);
	assert_int_equal(VmbChannelMapGpadl(first->channel->handle, 0, gpadl, &mapped), STATUS_SUCCESS);
	VmbChannelUnmapGpadl(first->channel->handle, gpadl);
	second = hand_over(first, NULL);
	assert_int_equal(VmbChannelMapGpadl(second->channel->handle, 0, gpadl, &mapped), STATUS_SUCCESS);
	assert_true(conf_is_filled(MmGetSystemAddressForMdlSafe(mapped, NormalPagePriority), 8192, 3));
	VmbChannelUnmapGpadl(second->channel->handle, gpadl);
	VmbChannelStart(second->channel->handle);
	release(w);
	VmbChannelDeleteGpadl(client->handle, gpadl);
	conf_mdl_free(mdl);
	conf_pool_free(memory);
	saver_free(second);
	saver_free(first);
}

/* ---- what the guest may have done to the rings ------------------------------------------------------------ */

enum { CTL_IN = 0, CTL_OUT = 1, CTL_MASK = 2 };

/* As the guest sees them: its outgoing ring is the server's incoming one. */
static uint32_t *
ring_word(struct conf_channel *client, bool servers_incoming, uint32_t word)
{
	struct kmcl_link *link = &kmcl_channel_from_handle(client->handle)->link;

	return (uint32_t *)(void *)(servers_incoming ? link->out_ctl : link->in_ctl) + word;
}

static void
rings_that_contradict_the_state_are_refused(struct conf_world *w)
{
	static const struct {
		bool incoming;
		uint32_t word, value;
	} lies[] = {
		{ true, CTL_OUT, 8 },           /* what only the server moves */
		{ false, CTL_IN, 8 },
		{ true, CTL_OUT, 3 },           /* no index at all */
		{ false, CTL_IN, 0xFFFFFFF8 },
		{ true, CTL_IN, 4 },            /* the guest's own */
		{ false, CTL_OUT, 0x7FFFFFF8 },
	};
	struct conf_channel *client;
	struct saver *first = open_with(w, NULL, NULL, &client), *second;
	struct state state, rest;
	uint8_t *chunk;

	conf_fence((struct conf_pair){ first->channel, client });
	/* It must not see the lies itself. */
	VmbChannelPause(client->handle);
	saver_send(first, 1, 80, CONF_WAIT);
	hold(w);
	VmbChannelPause(first->channel->handle);
	state = saver_take(first->channel);
	leave(first);
	second = saver_successor(first, NULL);
	saver_enable(second);
	rest = state;
	for (size_t i = 0; i < sizeof(lies) / sizeof(lies[0]); i++) {
		uint32_t *word = ring_word(client, lies[i].incoming, lies[i].word);
		uint32_t truth = __atomic_exchange_n(word, lies[i].value, __ATOMIC_SEQ_CST);

		assert_int_not_equal(truth, lies[i].value);
		assert_int_equal(saver_restore(second->channel, &rest), STATUS_INVALID_PARAMETER_2);
		__atomic_store_n(word, truth, __ATOMIC_SEQ_CST);
		/* The end mark is what failed; the rest is there. */
		rest.count = saver_chunk(&state, saver_chunks(&state) - 1, &chunk);
		rest.bytes = chunk;
		conf_expect_events(second->channel, "");
	}
	assert_int_equal(saver_restore(second->channel, &rest), STATUS_SUCCESS);
	assert_int_equal(second->count, 1);
	VmbChannelStart(second->channel->handle);
	VmbChannelStart(client->handle);
	release(w);
	conf_await_done(second->sends[0], 1);
	assert_int_equal(second->sends[0]->status, STATUS_SUCCESS);
	saver_state_free(&state);
	saver_free(second);
	saver_free(first);
}

/* Who sleeps with its mask clear while packets lie before it has lost a signal (vmbus-protocol 1.11). */
static void
guest_that_lost_a_signal_is_signalled_again(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *first = open_with(w, NULL, NULL, &client), *second;

	VmbChannelPause(client->handle);
	saver_send(first, 1, 8, CONF_WAIT);
	__atomic_store_n(ring_word(client, false, CTL_MASK), 0, __ATOMIC_SEQ_CST);
	second = hand_over(first, NULL);
	assert_int_equal(conf_stats(second->channel).signals_sent, 1);
	VmbChannelStart(second->channel->handle);
	release(w);
	VmbChannelStart(client->handle);
	conf_await_done(second->sends[0], 1);
	saver_free(second);
	saver_free(first);
}

static void
open_that_is_lost_during_the_restore_cannot_be_resumed(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *first = open_with(w, NULL, NULL, &client), *second;
	struct state state, part;

	hold(w);
	VmbChannelPause(first->channel->handle);
	saver_send(first, 1, 8, CONF_WAIT);
	state = saver_take(first->channel);
	leave(first);
	second = saver_successor(first, NULL);
	saver_enable(second);
	part = (struct state){ state.bytes, state.count - SAVER_CHUNK_BYTES };
	assert_int_equal(saver_restore(second->channel, &part), STATUS_MORE_PROCESSING_REQUIRED);
	/* Too early: the guest is offered a new channel. */
	release(w);
	conf_await_left(client, CONF_CLOSED, 1);
	part = (struct state){ state.bytes + part.count, SAVER_CHUNK_BYTES };
	assert_int_equal(saver_restore(second->channel, &part), STATUS_INVALID_DEVICE_STATE);
	VmbChannelStart(second->channel->handle);
	conf_poll_until(errand_is_disabled(client));
	conf_enable(client);
	conf_await_left(client, CONF_POST_STARTED, 2);
	conf_await_left(second->channel, CONF_POST_STARTED, 1);
	conf_fence((struct conf_pair){ second->channel, client });
	conf_expect_events(second->channel, "Opened Started PostStarted");
	assert_int_equal(second->sends[0]->status, STATUS_DEVICE_REMOVED);
	saver_state_free(&state);
	saver_free(second);
	saver_free(first);
}

/* ---- hostile states of open channels ---------------------------------------------------------------------- */

static const struct {
	const char *what;
	uint32_t chunk, offset, add; /* to a 4-byte field */
	NTSTATUS status;
} forgeries[] = {
	{ "closed",               0,  56, (uint32_t)-1, STATUS_INVALID_PARAMETER_2 },
	{ "write position",       0,  96, 8,            STATUS_INVALID_PARAMETER_2 },
	{ "odd write position",   0,  96, 1,            STATUS_INVALID_PARAMETER_2 },
	{ "read position",        0, 100, 8,            STATUS_INVALID_PARAMETER_2 },
	{ "channel id",           0, 104, 1,            STATUS_INVALID_DEVICE_STATE },
	{ "open id",              0, 108, 1,            STATUS_INVALID_DEVICE_STATE },
	{ "ring gpadl",           0, 112, 1,            STATUS_INVALID_DEVICE_STATE },
	{ "ring pages",           0, 116, 1,            STATUS_INVALID_DEVICE_STATE },
	{ "downstream offset",    0, 120, 1,            STATUS_INVALID_DEVICE_STATE },
	{ "target processor",     0, 124, 1,            STATUS_INVALID_DEVICE_STATE },
	{ "opens",                0, 128, 1,            STATUS_INVALID_DEVICE_STATE },
	{ "opens, upper half",    0, 132, 1,            STATUS_INVALID_DEVICE_STATE },
	{ "one answer more",      0,  92, 1,            STATUS_INVALID_PARAMETER_2 },
	{ "one answer less",      0,  92, (uint32_t)-1, STATUS_INVALID_PARAMETER_2 },
	{ "payload in the ring",  1,  48, 8,            STATUS_INVALID_PARAMETER_2 },
	{ "no wish in the ring",  1,  36, (uint32_t)-1, STATUS_INVALID_PARAMETER_2 },
	{ "answer too short",     2,  32, (uint32_t)-8, STATUS_INVALID_PARAMETER_2 },
	{ "answer too long",      2,  32, 8,            STATUS_INVALID_PARAMETER_2 },
	{ "answer wraps",         2,  32, (uint32_t)-9, STATUS_INVALID_PARAMETER_2 },
	{ "answer reserved",      2,  36, 1,            STATUS_INVALID_PARAMETER_2 },
};

/* Its server has a request in the ring and an answer and a request in the queue. */
static struct saver *
busy_server(struct conf_world *w, struct conf_channel **client, struct conf_send **request)
{
	struct conf_options small = { .in_pages = 1, .max_packet = 512, .external_bytes = 4096,
		                      .external_mdls = 1 };
	struct conf_options server = { .max_packet = 512, .external_bytes = 4096, .external_mdls = 1 };
	struct saver *s = open_with(w, &server, &small, client);

	*request = conf_send_new(*client);
	conf_answer_with(s->channel, CONF_HOLD, NULL, 0);
	assert_int_equal(VmbPacketSend((*request)->packet, "request", 8, NULL, CONF_WAIT),
	                 STATUS_SUCCESS);
	conf_await_packets(s->channel, 1);
	VmbChannelPause((*client)->handle);
	saver_send(s, 1, 16, CONF_WAIT);
	(void)conf_fill_ring(s->channel, 8);
	assert_true(conf_complete(s->channel->packets[0], "answer", 7));
	saver_send(s, 2, 16, CONF_WAIT);
	assert_int_equal(conf_stats(s->channel).outgoing_queued, 2);
	return s;
}

static void
finish_busy_server(struct saver *s, struct conf_channel *client, struct conf_send *request)
{
	VmbChannelStart(s->channel->handle);
	release(s->channel->world);
	VmbChannelStart(client->handle);
	conf_await_done(request, 1);
	assert_string_equal((char *)request->answer, "answer");
	conf_send_free(request);
	for (uint32_t i = 0; i < 2; i++) {
		conf_await_done(s->sends[i], 1);
		assert_int_equal(s->sends[i]->status, STATUS_SUCCESS);
	}
}

static void
forged_open_states_are_refused(struct conf_world *w)
{
	struct conf_options same = { .max_packet = 512, .external_bytes = 4096, .external_mdls = 1 };
	struct conf_channel *client;
	struct conf_send *request;
	struct saver *s = busy_server(w, &client, &request), *next;
	struct state state;

	hold(w);
	VmbChannelPause(s->channel->handle);
	for (size_t i = 0; i < sizeof(forgeries) / sizeof(forgeries[0]); i++) {
		struct state forged, rest;
		uint8_t *chunk;
		NTSTATUS status;
		uint32_t at = 0;

		state = saver_take(s->channel);
		leave(s);
		next = saver_successor(s, &same);
		saver_enable(next);
		forged = (struct state){ malloc(state.count), state.count };
		assert_non_null(forged.bytes);
		memcpy(forged.bytes, state.bytes, state.count);
		assert_true(saver_chunk(&forged, forgeries[i].chunk, &chunk) != 0);
		saver_put(chunk, forgeries[i].offset,
		          saver_get(chunk, forgeries[i].offset) + forgeries[i].add);
		saver_forge(&forged);
		status = saver_restore(next->channel, &forged);
		if (status != forgeries[i].status)
			fail_msg("%s: 0x%x", forgeries[i].what, (unsigned)status);
		/* A wrong first chunk may have been taken, and packets with it: the right one begins again. */
		if (forgeries[i].chunk != 0)
			at = (uint32_t)(chunk - forged.bytes);
		saver_state_free(&forged);
		rest = (struct state){ state.bytes + at, state.count - at };
		assert_int_equal(saver_restore(next->channel, &rest), STATUS_SUCCESS);
		saver_forget_done(next);
		saver_state_free(&state);
		saver_free(s);
		s = next;
	}
	finish_busy_server(s, client, request);
	saver_free(s);
}

static void
every_altered_byte_of_an_open_state_is_refused(struct conf_world *w)
{
	struct conf_options same = { .max_packet = 512, .external_bytes = 4096, .external_mdls = 1 };
	struct conf_channel *client;
	struct conf_send *request;
	struct saver *s = busy_server(w, &client, &request), *next;
	uint32_t count;

	hold(w);
	VmbChannelPause(s->channel->handle);
	count = 1;
	for (uint32_t at = 0; at < count; at++) {
		struct state state = saver_take(s->channel), rest = state;
		NTSTATUS status;
		uint32_t start = 0, bytes;
		uint8_t *chunk;

		count = state.count;
		leave(s);
		next = saver_successor(s, &same);
		saver_enable(next);
		for (uint32_t n = 0; (bytes = saver_chunk(&state, n, &chunk)) != 0 && start + bytes <= at; n++)
			start += bytes;
		state.bytes[at] ^= 0x10;
		status = saver_restore(next->channel, &state);
		state.bytes[at] ^= 0x10;
		assert_true(status == STATUS_INVALID_PARAMETER_2 || status == STATUS_INVALID_PARAMETER_3 ||
		            status == STATUS_REVISION_MISMATCH);
		conf_expect_events(next->channel, "");
		rest.bytes += start;
		rest.count -= start;
		assert_int_equal(saver_restore(next->channel, &rest), STATUS_SUCCESS);
		assert_int_equal(conf_stats(next->channel).outgoing_queued, 2);
		assert_int_equal(conf_stats(next->channel).outgoing_in_flight, 2);
		saver_state_free(&state);
		saver_free(s);
		s = next;
	}
	finish_busy_server(s, client, request);
	saver_free(s);
}

static const struct conf_test tests[] = {
	CONF_TEST(open_channel_is_paused_when_restored_and_starts_without_opened,
	          "RFB-2, RFB-6, STM-13", CONF_BUSES),
	CONF_TEST(start_before_the_restore_starts_the_restored_channel, "RFB-6, STM-4", CONF_BUSES),
	CONF_TEST(close_before_start_gives_closed_alone, "RFB-6, STM-13", CONF_BUSES),
	CONF_TEST(restored_channel_that_is_disabled_is_gone, "RFB-6", CONF_BUSES),
	CONF_TEST(forced_new_channel_is_opened_anew, "RFB-6, SSF-2", CONF_BUSES),
	CONF_TEST(late_answers_find_restored_packets, "SVB-4, RFB-5", CONF_BUSES),
	CONF_TEST(answer_to_a_dropped_packet_is_stray, "ERP-2, TXN-2..3", CONF_BUSES),
	CONF_TEST(requests_of_the_guest_wait_for_the_new_server, "RFB-6", CONF_BUSES),
	CONF_TEST(queue_blocked_by_quota_goes_on_in_the_new_server, "RFB-6", CONF_BUSES),
	CONF_TEST(queue_of_requests_and_answers_keeps_its_order, "RFB-5, OUT-2", CONF_BUSES),
	CONF_TEST(guest_under_load_notices_nothing_but_pauses, "RFB-5..6, SVB-4, ERP-1", CONF_BUSES),
	CONF_TEST(gpadls_are_mapped_again, "MPG-4", CONF_BUSES),
	CONF_TEST(rings_that_contradict_the_state_are_refused, "RFB-3, GEN-12", CONF_BUSES),
	CONF_TEST(guest_that_lost_a_signal_is_signalled_again, "RFB-6", CONF_BUSES),
	CONF_TEST(open_that_is_lost_during_the_restore_cannot_be_resumed, "RFB-3", CONF_BUSES),
	CONF_TEST(forged_open_states_are_refused, "RFB-3", CONF_BUSES),
	CONF_TEST(every_altered_byte_of_an_open_state_is_refused, "RFB-3, SVC-4", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("handover", tests);
}
