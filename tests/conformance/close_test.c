/* SPDX-License-Identifier: MIT */
/* Pause, close and failure: what is called, what is waited for, what becomes of packets. */
#include <string.h>

#include "errand.h"
#include "kmcl/kmcl_bus.h"

static void
enable_only(struct conf_channel *c)
{
	assert_int_equal(VmbChannelEnable(c->handle), STATUS_SUCCESS);
}

static NTSTATUS
send_word(struct conf_send *send, uint64_t word, UINT32 flags)
{
	return VmbPacketSend(send->packet, &word, sizeof(word), NULL, flags);
}

static uint32_t
entered(struct conf_channel *c, enum conf_event event)
{
	uint32_t count;

	conf_lock(c->world);
	count = c->entered[event];
	conf_unlock(c->world);
	return count;
}

/* A counter that callbacks write. */
static uint32_t
locked(struct conf_world *w, const uint32_t *counter)
{
	uint32_t count;

	conf_lock(w);
	count = *counter;
	conf_unlock(w);
	return count;
}

/* ---- pause ------------------------------------------------------------------------------------------- */

static NTSTATUS
note_running_callback(struct conf_channel *c, enum conf_event event)
{
	if (event == CONF_SUSPEND)
		c->answer_bytes = (UINT32)(uintptr_t)c->ctx; /* 1 while ProcessPacket runs */
	return STATUS_SUCCESS;
}

/* Stays inside ProcessPacket until the test lets it go. */
static void
stop_in_process_packet(struct conf_channel *c, struct conf_packet *p)
{
	struct conf_world *w = c->world;

	(void)p;
	conf_lock(w);
	c->ctx = (void *)1;
	pthread_cond_broadcast(&w->changed);
	while (c->answer == NULL)
		pthread_cond_wait(&w->changed, &w->lock);
	c->ctx = NULL;
	conf_unlock(w);
}

static void
suspend_waits_for_a_running_process_packet(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_channel *server = pair.server;
	struct errand pause;

	conf_lock(w);
	server->on_packet = stop_in_process_packet;
	server->on_event = note_running_callback;
	conf_unlock(w);
	assert_int_equal(conf_post(pair.client, 1), STATUS_SUCCESS);
	conf_await(w, server->ctx != NULL);
	errand_start(&pause, errand_pause, server->handle);
	assert_false(errand_settle(&pause));
	assert_int_equal(entered(server, CONF_SUSPEND), 0);
	conf_lock(w);
	server->answer = "go";
	server->answer_bytes = 99;
	conf_unlock(w);
	errand_join(&pause);
	assert_int_equal(entered(server, CONF_SUSPEND), 1);
	assert_int_equal(server->answer_bytes, 0);
	server->on_packet = NULL;
}

static void
nothing_is_indicated_between_suspend_and_started(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_channel *server = pair.server;

	VmbChannelPause(server->handle);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(conf_post(pair.client, i), STATUS_SUCCESS);
	errand_hold(server, CONF_STARTED);
	VmbChannelStart(server->handle);
	conf_await_entered(server, CONF_STARTED, 2);
	assert_int_equal(locked(w, &server->packet_count), 0);
	errand_let_go(server);
	conf_await_packets(server, 3);
	conf_await_left(server, CONF_POST_STARTED, 2);
	conf_expect_events(server, "Opened Started PostStarted Suspend Started PostStarted");
}

static void
pause_leaves_outgoing_transactions_in_flight(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_send *send = conf_send_new(pair.client);
	struct conf_packet *p;

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	assert_int_equal(send_word(send, 1, CONF_WAIT), STATUS_SUCCESS);
	p = conf_await_packets(pair.server, 1);
	VmbChannelPause(pair.client->handle);
	assert_int_equal(conf_stats(pair.client).outgoing_in_flight, 1);
	assert_true(conf_complete(p, "answered", 8));
	assert_int_equal(conf_stats(pair.server).completions_sent, 1);
	errand_hold(pair.client, CONF_STARTED);
	VmbChannelStart(pair.client->handle);
	conf_await_entered(pair.client, CONF_STARTED, 2);
	assert_int_equal(locked(w, &send->done), 0);
	errand_let_go(pair.client);
	conf_await_done(send, 1);
	assert_int_equal(send->status, STATUS_SUCCESS);
	assert_memory_equal(send->answer, "answered", 8);
	conf_send_free(send);
}

static void
pause_returns_when_the_last_packet_is_completed(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_packet *first, *second;
	struct errand pause;

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	assert_int_equal(conf_post(pair.client, 1), STATUS_SUCCESS);
	assert_int_equal(conf_post(pair.client, 2), STATUS_SUCCESS);
	second = conf_await_packets(pair.server, 2);
	first = pair.server->packets[0];
	errand_start(&pause, errand_pause, pair.server->handle);
	conf_await_left(pair.server, CONF_SUSPEND, 1);
	assert_false(errand_settle(&pause));
	assert_true(conf_complete(second, NULL, 0));
	assert_false(errand_settle(&pause));
	assert_true(conf_complete(first, NULL, 0));
	errand_join(&pause);
	assert_int_equal(conf_stats(pair.server).incoming_outstanding, 0);
}

/* ---- where a close leads ------------------------------------------------------------------------------ */

static void
client_ends_disabled_and_server_keeps_its_offer(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_send *queued = conf_send_new(pair.server);
	struct conf_send *refused = conf_send_new(pair.client);

	VmbChannelDisable(pair.client->handle);
	conf_await_left(pair.server, CONF_CLOSED, 1);
	assert_true(errand_is_disabled(pair.client));
	assert_int_equal(send_word(refused, 1, 0), STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(VmbChannelEnable(pair.server->handle), STATUS_INVALID_DEVICE_STATE);
	/* The server's mode changes right after Closed returned. */
	conf_poll_until(send_word(queued, 7, 0) == STATUS_SUCCESS);
	assert_int_equal(conf_stats(pair.server).outgoing_queued, 1);

	enable_only(pair.client);
	conf_await_left(pair.client, CONF_POST_STARTED, 2);
	conf_await_packets(pair.client, 1);
	assert_int_equal(pair.client->packets[0]->payload[0], 7);
	conf_await_done(queued, 1);
	conf_send_free(queued);
	conf_send_free(refused);
}

static void
server_disable_ends_both_disabled(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);

	VmbChannelDisable(pair.server->handle);
	assert_true(errand_is_disabled(pair.server));
	conf_expect_events(pair.server, "Opened Started PostStarted Suspend Closed");
	conf_await_left(pair.client, CONF_CLOSED, 1);
	conf_poll_until(errand_is_disabled(pair.client));
	conf_expect_events(pair.client, "Opened Started PostStarted Suspend Closed");
	/* Both need Enable again, and are as good as new then. */
	conf_open(pair.server, pair.client);
	conf_fence(pair);
}

static void
disable_in_enabled_calls_nothing_back_and_fails_the_queue(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);
	struct conf_channel *sides[] = { client, server };

	for (int i = 0; i < 2; i++) {
		struct conf_send *send = conf_send_new(sides[i]);

		enable_only(sides[i]);
		assert_int_equal(send_word(send, 1, 0), STATUS_SUCCESS);
		VmbChannelDisable(sides[i]->handle);
		conf_await_done(send, 1);
		assert_int_equal(send->status, STATUS_DEVICE_REMOVED);
		assert_true(errand_is_disabled(sides[i]));
		conf_expect_events(sides[i], "");
		conf_send_free(send);
	}
}

static void
disable_is_harmless_on_channels_that_never_were_enabled(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	VMBCHANNEL bare;

	VmbChannelDisable(server->handle);
	conf_expect_events(server, "");
	assert_int_equal(VmbChannelAllocate(NULL, TRUE, &bare), STATUS_SUCCESS);
	assert_int_equal(VmbChannelEnable(bare), STATUS_INVALID_DEVICE_REQUEST);
	VmbChannelDisable(bare);
	VmbChannelCleanup(bare);
}

static void
two_disables_both_return_after_the_close(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct errand first, second;

	errand_hold(pair.server, CONF_CLOSED);
	errand_start(&first, errand_disable, pair.server->handle);
	errand_start(&second, errand_disable, pair.server->handle);
	conf_await_entered(pair.server, CONF_CLOSED, 1);
	assert_false(errand_settle(&first));
	assert_false(errand_settle(&second));
	errand_let_go(pair.server);
	errand_join(&first);
	errand_join(&second);
	assert_true(errand_is_disabled(pair.server));
	conf_expect_events(pair.server, "Opened Started PostStarted Suspend Closed");
}

static void
suspend_belongs_to_started_and_closed_to_opened(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);

	enable_only(server); /* not started */
	enable_only(client);
	conf_await_left(client, CONF_POST_STARTED, 1);
	VmbChannelPause(client->handle);
	VmbChannelDisable(client->handle);
	conf_await_left(server, CONF_CLOSED, 1);
	conf_expect_events(server, "Opened Closed");
	conf_expect_events(client, "Opened Started PostStarted Suspend Closed");
}

/* The guest's bus has heard of the rescind when the offer is not listed any more. */
static bool
is_offered(struct conf_channel *c)
{
	struct kmcl_offer_info offers[16];
	uint32_t count = kmcl_bus_offers(c->world->guest, offers, 16);

	for (uint32_t i = 0; i < count && i < 16; i++) {
		if (memcmp(&offers[i].instance, &c->instance, sizeof(GUID)) == 0)
			return true;
	}
	return false;
}

/* A guest whose driver is stuck in every callback that a rescind leads to. */
static void
server_disable_never_waits_for_the_guest(struct conf_world *w)
{
	static const enum conf_event stuck_in[] = { CONF_OPENED, CONF_STARTED, CONF_SUSPEND, CONF_CLOSED };

	for (int i = 0; i < 4; i++) {
		struct conf_channel *server = conf_server(w, NULL);
		struct conf_channel *client = conf_client(w, NULL);

		errand_hold(client, stuck_in[i]);
		conf_enable(server);
		enable_only(client);
		if (stuck_in[i] == CONF_OPENED || stuck_in[i] == CONF_STARTED)
			conf_await_entered(client, stuck_in[i], 1);
		else
			conf_await_left(client, CONF_POST_STARTED, 1);
		VmbChannelDisable(server->handle);
		assert_true(errand_is_disabled(server));
		conf_await_entered(client, stuck_in[i], 1);
		conf_poll_until(!is_offered(client));
		assert_int_equal(locked(w, &client->left[stuck_in[i]]), 0);
		errand_let_go(client);
		/* The rescind is acted upon once the callback is over. */
		conf_await_left(client, CONF_CLOSED, 1);
		conf_poll_until(errand_is_disabled(client));
		if (stuck_in[i] == CONF_OPENED)
			conf_expect_events(client, "Opened Closed");
		else if (stuck_in[i] == CONF_STARTED)
			conf_expect_events(client, "Opened Started Suspend Closed");
		conf_channel_free(client);
		conf_channel_free(server);
	}
}

/* ---- outgoing packets of a close ------------------------------------------------------------------------ */

static void
note_position(struct conf_send *s)
{
	struct conf_channel *c = s->channel;

	conf_lock(c->world);
	s->ctx = (void *)(uintptr_t)(c->left[CONF_SUSPEND] == 1 && c->entered[CONF_CLOSED] == 0);
	conf_unlock(c->world);
}

static void
close_fails_what_is_outgoing_between_suspend_and_closed(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_channel *sides[] = { pair.client, pair.server };
	struct conf_send *sends[2];
	struct errand close;

	for (int i = 0; i < 2; i++)
		conf_answer_with(sides[i], CONF_HOLD, NULL, 0);
	for (int i = 0; i < 2; i++) {
		sends[i] = conf_send_new(sides[i]);
		sends[i]->on_done = note_position;
		assert_int_equal(send_word(sends[i], 1, CONF_WAIT), STATUS_SUCCESS);
	}
	for (int i = 0; i < 2; i++)
		conf_await_packets(sides[i], 1);
	errand_start(&close, errand_disable, pair.client->handle);
	/* Not after the drain: a driver may hold a packet until its own have ended. */
	conf_await_done(sends[0], 1);
	assert_int_equal(locked(w, &pair.client->entered[CONF_CLOSED]), 0);
	/* Each side waits for its own driver only. */
	conf_complete_held(pair.client);
	conf_await_left(pair.server, CONF_SUSPEND, 1);
	conf_complete_held(pair.server);
	errand_join(&close);
	for (int i = 0; i < 2; i++) {
		conf_await_done(sends[i], 1);
		assert_int_equal(sends[i]->status, STATUS_DEVICE_REMOVED);
		assert_false(sends[i]->has_buffer);
		assert_int_equal(sends[i]->answer_bytes, 0);
		assert_ptr_equal(sends[i]->ctx, (void *)1);
		conf_send_free(sends[i]);
	}
}

static void
packets_queued_on_a_paused_channel_fail_with_the_close(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_send *send = conf_send_new(pair.client);

	VmbChannelPause(pair.client->handle);
	assert_int_equal(send_word(send, 1, 0), STATUS_SUCCESS);
	VmbChannelDisable(pair.client->handle);
	conf_await_done(send, 1);
	assert_int_equal(send->status, STATUS_DEVICE_REMOVED);
	assert_int_equal(conf_packet_count(pair.server), 0);
	conf_send_free(send);
}

static NTSTATUS
send_in_suspend(struct conf_channel *c, enum conf_event event)
{
	if (event == CONF_SUSPEND)
		c->answer_bytes = (UINT32)send_word(c->ctx, 1, 0);
	return STATUS_SUCCESS;
}

static void
sends_inside_suspend_get_what_the_state_says(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_send *send = conf_send_new(pair.client);

	conf_lock(w);
	pair.client->ctx = send;
	pair.client->on_event = send_in_suspend;
	conf_unlock(w);
	VmbChannelPause(pair.client->handle);
	assert_int_equal(pair.client->answer_bytes, STATUS_SUCCESS);
	VmbChannelStart(pair.client->handle);
	conf_await_done(send, 1);
	conf_await_left(pair.client, CONF_POST_STARTED, 2);
	VmbChannelDisable(pair.client->handle);
	assert_int_equal((NTSTATUS)pair.client->answer_bytes, STATUS_DEVICE_REMOVED);
	conf_send_free(send);
}

/* ---- calls inside callbacks -------------------------------------------------------------------------------- */

static NTSTATUS
call_everything(struct conf_channel *c, enum conf_event event)
{
	(void)event;
	VmbChannelStart(c->handle);
	VmbChannelPause(c->handle);
	if (VmbChannelEnable(c->handle) != STATUS_INVALID_DEVICE_STATE)
		c->ctx = c;
	VmbChannelDisable(c->handle);
	VmbChannelCleanup(c->handle);
	return STATUS_SUCCESS;
}

static void
life_calls_inside_state_callbacks_are_misuse_without_effect(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);
	struct conf_channel *sides[] = { server, client };

	for (int i = 0; i < 2; i++)
		sides[i]->on_event = call_everything;
	conf_open(server, client);
	conf_fence((struct conf_pair){ server, client });
	VmbChannelDisable(client->handle);
	conf_await_left(server, CONF_CLOSED, 1);
	for (int i = 0; i < 2; i++) {
		conf_expect_events(sides[i], "Opened Started PostStarted Suspend Closed");
		assert_ptr_equal(sides[i]->ctx, NULL);
		assert_int_equal(conf_stats(sides[i]).misuses, 25);
	}
	conf_expect_misuses(w, 50);
}

static void
call_in_process_packet(struct conf_channel *c, struct conf_packet *p)
{
	(void)p;
	if (VmbChannelEnable(c->handle) != STATUS_INVALID_DEVICE_STATE)
		c->ctx = c;
	VmbChannelDisable(c->handle);
	VmbChannelCleanup(c->handle);
}

static void
life_calls_inside_process_packet_are_misuse_without_effect(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);

	conf_lock(w);
	pair.server->on_packet = call_in_process_packet;
	conf_unlock(w);
	conf_fence(pair);
	assert_ptr_equal(pair.server->ctx, NULL);
	assert_int_equal(conf_stats(pair.server).misuses, 3);
	conf_expect_misuses(w, 3);
	pair.server->on_packet = NULL;
	conf_fence(pair);
	conf_expect_events(pair.server, "Opened Started PostStarted");
}

static NTSTATUS
ask_for_ever(struct conf_channel *c, enum conf_event event)
{
	uint64_t word = 9;

	if (event == CONF_POST_STARTED)
		c->answer_bytes = (UINT32)VmbChannelSendSynchronousRequest(
		        c->handle, &word, sizeof(word), NULL, CONF_WAIT, NULL, NULL, NULL);
	return STATUS_SUCCESS;
}

static void
close_releases_a_request_inside_post_started(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);
	struct errand close;

	conf_answer_with(server, CONF_HOLD, NULL, 0);
	client->on_event = ask_for_ever;
	conf_enable(server);
	enable_only(client);
	conf_await_packets(server, 1);
	errand_start(&close, errand_disable, client->handle);
	conf_await_left(server, CONF_SUSPEND, 1);
	conf_complete_held(server);
	errand_join(&close);
	assert_int_equal((NTSTATUS)client->answer_bytes, STATUS_DEVICE_REMOVED);
	conf_expect_events(client, "Opened Started PostStarted Suspend Closed");
	assert_false(client->callbacks_overlapped);
}

static void
pause_and_close_wait_for_post_started(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);
	void (*const calls[])(void *) = { errand_pause, errand_disable };

	conf_enable(server);
	for (int i = 0; i < 2; i++) {
		struct errand e;

		errand_hold(client, CONF_POST_STARTED);
		if (i == 0)
			enable_only(client);
		else
			VmbChannelStart(client->handle);
		conf_await_entered(client, CONF_POST_STARTED, (uint32_t)i + 1);
		errand_start(&e, calls[i], client->handle);
		assert_false(errand_settle(&e));
		assert_int_equal(entered(client, CONF_SUSPEND), i);
		errand_let_go(client);
		errand_join(&e);
		assert_int_equal(entered(client, CONF_SUSPEND), i + 1);
	}
	assert_false(client->callbacks_overlapped);
}

/* ---- failed channels ------------------------------------------------------------------------------------------ */

static void
ask(void *context)
{
	struct conf_channel *c = context;
	uint64_t word = 5;

	c->answer_bytes = (UINT32)VmbChannelSendSynchronousRequest(c->handle, &word, sizeof(word), NULL,
	                                                           CONF_WAIT, NULL, NULL, NULL);
}

static void
failed_channel_ends_everything_and_closes_normally(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_channel *server = pair.server, *client = pair.client;
	struct conf_send *in_flight = conf_send_new(client), *refused = conf_send_new(client);
	struct kmcl_channel_stats before;
	struct conf_packet *kept;
	struct errand waiter;

	conf_answer_with(server, CONF_HOLD, NULL, 0);
	conf_answer_with(client, CONF_HOLD, NULL, 0);
	assert_int_equal(send_word(in_flight, 1, CONF_WAIT), STATUS_SUCCESS);
	errand_start(&waiter, ask, client);
	conf_await_packets(server, 2);
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(conf_post(server, i), STATUS_SUCCESS);
	conf_await_packets(client, 2);
	kept = client->packets[0];
	VmbChannelPacketFail(client->packets[1]->handle);
	conf_lock(w);
	client->packets[1]->held = false;
	client->held--;
	conf_unlock(w);

	conf_await_done(in_flight, 1);
	assert_int_equal(in_flight->status, STATUS_DEVICE_REMOVED);
	errand_join(&waiter);
	assert_int_equal((NTSTATUS)client->answer_bytes, STATUS_DEVICE_REMOVED);
	assert_int_equal(send_word(refused, 1, 0), STATUS_DEVICE_REMOVED);
	before = conf_stats(client);
	assert_true(conf_complete(kept, NULL, 0));
	/* Not read: the server's packet stays in the ring, and nothing was written either. */
	assert_int_equal(conf_post(server, 3), STATUS_SUCCESS);
	assert_int_equal(conf_stats(client).completions_sent, before.completions_sent);
	conf_complete_held(server);
	VmbChannelDisable(client->handle);
	assert_int_equal(conf_packet_count(client), 2);
	conf_expect_events(client, "Opened Started PostStarted Suspend Closed");
	conf_await_left(server, CONF_CLOSED, 1);
	/* Close and reopen recover. */
	conf_answer_with(server, CONF_ECHO, NULL, 0);
	conf_answer_with(client, CONF_ECHO, NULL, 0);
	enable_only(client);
	conf_await_left(client, CONF_POST_STARTED, 2);
	conf_await_left(server, CONF_POST_STARTED, 2);
	conf_fence(pair);
	conf_send_free(in_flight);
	conf_send_free(refused);
}

static void
failed_server_closes_with_its_peer_and_recovers(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_channel *server = pair.server;
	char why[160];

	conf_answer_with(server, CONF_FAIL, NULL, 0);
	assert_int_equal(conf_post(pair.client, 1), STATUS_SUCCESS);
	assert_int_equal(conf_post(pair.client, 2), STATUS_SUCCESS);
	conf_await_packets(server, 1);
	assert_int_equal(conf_post(server, 1), STATUS_DEVICE_REMOVED);
	kmcl_channel_get_failure(server->handle, why, sizeof(why));
	assert_true(strlen(why) > 0);
	VmbChannelDisable(pair.client->handle);
	conf_await_left(server, CONF_CLOSED, 1);
	assert_int_equal(conf_packet_count(server), 1);
	/* The reason outlives the close, for who looks then. */
	kmcl_channel_get_failure(server->handle, why, sizeof(why));
	assert_true(strlen(why) > 0);
	conf_answer_with(server, CONF_ECHO, NULL, 0);
	enable_only(pair.client);
	conf_await_left(server, CONF_POST_STARTED, 2);
	kmcl_channel_get_failure(server->handle, why, sizeof(why));
	assert_string_equal(why, "");
	conf_await_left(pair.client, CONF_POST_STARTED, 2);
	conf_fence(pair);
}

/* ---- one guest after the other ---------------------------------------------------------------- */

static struct conf_channel *
connect_guest(struct conf_world *w, struct conf_channel *server)
{
	const struct conf_options same = { .instance = &server->instance };

	assert_int_equal(kmcl_bus_connect(w->path, NULL, &w->guest), VMB_OK);
	return conf_client(w, &same);
}

static bool
has_next(struct conf_channel *server)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(server->handle);
	const struct kmcl_server *role = ch->role_state;
	struct kmcl_bus *bus = kmcl_server_bus(ch);
	bool has;

	assert_non_null(bus);
	pthread_mutex_lock(&bus->lock);
	has = role->next != NULL;
	pthread_mutex_unlock(&bus->lock);
	kmcl_bus_unref(bus);
	return has;
}

static bool
is_to_be_disabled(struct conf_channel *c)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(c->handle);
	bool wished;

	pthread_mutex_lock(&ch->fsm.lock);
	wished = ch->fsm.disable_wish;
	pthread_mutex_unlock(&ch->fsm.lock);
	return wished;
}

/* A server whose guest is gone, but whose driver still has a packet; the next guest has opened the channel. */
static struct conf_channel *
come_early(struct conf_world *w, struct conf_channel **server)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_channel *next;

	*server = pair.server;
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	assert_int_equal(conf_post(pair.client, 1), STATUS_SUCCESS);
	conf_await_packets(pair.server, 1);
	kmcl_bus_close(w->guest);
	conf_channel_free(pair.client);
	conf_await_left(pair.server, CONF_SUSPEND, 1);
	next = connect_guest(w, pair.server);
	enable_only(next);
	conf_poll_until(has_next(pair.server));
	return next;
}

static void
next_guest_waits_for_the_close_of_the_last_one(struct conf_world *w)
{
	struct conf_channel *server, *next = come_early(w, &server);

	conf_answer_with(server, CONF_ECHO, NULL, 0);
	conf_complete_held(server);
	conf_await_left(next, CONF_POST_STARTED, 1);
	conf_await_left(server, CONF_POST_STARTED, 2);
	conf_fence((struct conf_pair){ server, next });
	conf_expect_events(server, "Opened Started PostStarted Suspend Closed Opened Started PostStarted");
}

static void
next_guest_that_waits_does_not_outlast_the_server(struct conf_world *w)
{
	struct conf_channel *server, *next = come_early(w, &server);
	struct errand disable;

	errand_start(&disable, errand_disable, server->handle);
	conf_poll_until(is_to_be_disabled(server));
	conf_complete_held(server);
	errand_join(&disable);
	conf_expect_events(server, "Opened Started PostStarted Suspend Closed");
	VmbChannelDisable(next->handle);
	assert_int_equal(entered(next, CONF_OPENED), 0);
}

static void
next_guest_that_leaves_makes_room_for_another(struct conf_world *w)
{
	struct conf_channel *server, *next = come_early(w, &server);

	kmcl_bus_close(w->guest);
	conf_channel_free(next);
	conf_answer_with(server, CONF_ECHO, NULL, 0);
	conf_complete_held(server);
	conf_poll_until(!has_next(server));
	next = connect_guest(w, server);
	enable_only(next);
	conf_await_left(next, CONF_POST_STARTED, 1);
	conf_poll_until(kmcl_channel_state(kmcl_channel_from_handle(server->handle)) == KMCL_S_ACTIVE);
	conf_fence((struct conf_pair){ server, next });
}

static const struct conf_test tests[] = {
	CONF_TEST(suspend_waits_for_a_running_process_packet, "STM-9, ESU-1, THR-11", CONF_BUSES),
	CONF_TEST(nothing_is_indicated_between_suspend_and_started, "STM-9, ESU-1, CHP-1", CONF_BUSES),
	CONF_TEST(pause_leaves_outgoing_transactions_in_flight, "CHP-2", CONF_BUSES),
	CONF_TEST(pause_returns_when_the_last_packet_is_completed, "STM-10, CHP-1..2, ESU-2", CONF_BUSES),
	CONF_TEST(client_ends_disabled_and_server_keeps_its_offer, "STM-7, ECL-1, ECL-3", CONF_BUSES),
	CONF_TEST(server_disable_ends_both_disabled, "STM-7, CHD-1..2, ECL-1, CHD-5", CONF_BUSES),
	CONF_TEST(disable_in_enabled_calls_nothing_back_and_fails_the_queue, "CHD-4", CONF_BUSES),
	CONF_TEST(disable_is_harmless_on_channels_that_never_were_enabled, "STM-20, CHD-3", CONF_BUSES),
	CONF_TEST(two_disables_both_return_after_the_close, "CHD-3", CONF_BUSES),
	CONF_TEST(suspend_belongs_to_started_and_closed_to_opened, "STM-13", CONF_BUSES),
	CONF_TEST(server_disable_never_waits_for_the_guest, "STM-14, STM-17", CONF_BUSES),
	CONF_TEST(close_fails_what_is_outgoing_between_suspend_and_closed,
	          "STM-11, CHD-2, ESU-4, ECR-2", CONF_BUSES),
	CONF_TEST(packets_queued_on_a_paused_channel_fail_with_the_close, "STM-11, STM-19", CONF_BUSES),
	CONF_TEST(sends_inside_suspend_get_what_the_state_says, "ESU-3", CONF_BUSES),
	CONF_TEST(life_calls_inside_state_callbacks_are_misuse_without_effect, "STM-12, CHD-6, CHP-4",
	          CONF_BUSES),
	CONF_TEST(life_calls_inside_process_packet_are_misuse_without_effect, "STM-12, CHD-6", CONF_BUSES),
	CONF_TEST(close_releases_a_request_inside_post_started, "EPS-2", CONF_BUSES),
	CONF_TEST(pause_and_close_wait_for_post_started, "EPS-2", CONF_BUSES),
	CONF_TEST(failed_channel_ends_everything_and_closes_normally, "STM-16, PKF-1..4", CONF_BUSES),
	CONF_TEST(failed_server_closes_with_its_peer_and_recovers, "STM-16, PKF-1..3", CONF_BUSES),
	CONF_TEST(next_guest_waits_for_the_close_of_the_last_one, "STM-7", CONF_UNIX),
	CONF_TEST(next_guest_that_waits_does_not_outlast_the_server, "STM-7, STM-14", CONF_UNIX),
	CONF_TEST(next_guest_that_leaves_makes_room_for_another, "STM-7, STM-14", CONF_UNIX),
};

int
main(void)
{
	return CONF_RUN("close", tests);
}
