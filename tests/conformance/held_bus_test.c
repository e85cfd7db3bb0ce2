/* SPDX-License-Identifier: MIT */
/*
 * A bus that is held: what waits, what goes on, what is parked and who takes it over. What happens to packets when a
 * channel changes hands is in handover_test.c.
 */
#include <string.h>
#include <unistd.h>

#include "errand.h"
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

static uint64_t
messages_in(struct conf_world *w)
{
	struct kmcl_bus_stats stats;

	kmcl_bus_get_stats(host_of(w), &stats);
	return stats.messages_in;
}

/* How many offers of this world's type a guest sees, and the id of the last one. */
static uint32_t
offers_at(struct kmcl_bus *guest, const GUID *type, uint32_t *id)
{
	struct kmcl_offer_info offers[64];
	uint32_t count = kmcl_bus_offers(guest, offers, 64), mine = 0;

	assert_true(count <= 64);
	for (uint32_t i = 0; i < count; i++) {
		if (memcmp(&offers[i].type, type, sizeof(*type)) != 0)
			continue;
		mine++;
		*id = offers[i].channel_id;
	}
	return mine;
}

static uint32_t
offers(struct conf_world *w)
{
	uint32_t ignored;

	return offers_at(w->guest, &w->type, &ignored);
}

static struct saver *
open_saver(struct conf_world *w, struct conf_channel **client)
{
	struct saver *s = saver_new(conf_server(w, NULL));

	*client = conf_client(w, NULL);
	conf_open(s->channel, *client);
	return s;
}

static void
expect_works(struct conf_channel *server, struct conf_channel *client)
{
	conf_fence((struct conf_pair){ server, client });
}

/* A second client finds what is offered now. */
static void
expect_can_be_opened(struct conf_channel *server)
{
	struct conf_options options = { .instance = &server->instance };
	struct conf_channel *client = conf_client(server->world, &options);
	uint32_t before;

	conf_lock(server->world);
	before = server->left[CONF_POST_STARTED];
	conf_unlock(server->world);
	conf_enable(client);
	conf_await_left(server, CONF_POST_STARTED, before + 1);
	conf_await_left(client, CONF_POST_STARTED, 1);
	expect_works(server, client);
	conf_channel_free(client);
}

/* ---- holding ---------------------------------------------------------------------------------------- */

static void
only_a_host_bus_can_be_held_and_only_once(struct conf_world *w)
{
	assert_int_equal(kmcl_bus_hold(NULL), VMB_E_INVALID);
	assert_int_equal(kmcl_bus_hold(w->guest), VMB_E_INVALID);
	assert_int_equal(kmcl_bus_release(NULL), VMB_E_STATE);
	assert_int_equal(kmcl_bus_release(w->guest), VMB_E_STATE);
	assert_int_equal(kmcl_bus_release(host_of(w)), VMB_E_STATE);
	hold(w);
	assert_int_equal(kmcl_bus_hold(host_of(w)), VMB_E_STATE);
	release(w);
	assert_int_equal(kmcl_bus_release(host_of(w)), VMB_E_STATE);
	hold(w);
	release(w);
}

static void
open_channels_go_on_while_the_bus_is_held(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);

	hold(w);
	conf_fence(pair);
	VmbChannelPause(pair.server->handle);
	VmbChannelStart(pair.server->handle);
	conf_fence(pair);
	release(w);
	conf_fence(pair);
}

static void
opens_wait_until_the_release(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_channel *server = conf_server(w, NULL), *client = conf_client(w, NULL);
	uint64_t before;

	conf_enable(server);
	hold(w);
	before = messages_in(w);
	conf_enable(client);
	/* Its GPADL is on its way; the rings of the other channel pass it. */
	conf_fence(pair);
	assert_int_equal(messages_in(w), before);
	conf_expect_events(server, "");
	release(w);
	conf_await_left(server, CONF_POST_STARTED, 1);
	conf_await_left(client, CONF_POST_STARTED, 1);
	assert_true(messages_in(w) > before);
	expect_works(server, client);
}

static void
closes_wait_until_the_release(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct errand disable;

	hold(w);
	errand_start(&disable, errand_disable, pair.client->handle);
	/* The client needs the host's answer to have its rings back. */
	assert_false(errand_settle(&disable));
	conf_expect_events(pair.server, "Opened Started PostStarted");
	release(w);
	errand_join(&disable);
	conf_await_left(pair.server, CONF_CLOSED, 1);
}

struct hold_call {
	struct kmcl_bus *bus;
	enum vmb_status status;
};

static void
run_hold(void *context)
{
	struct hold_call *call = context;

	call->status = kmcl_bus_hold(call->bus);
}

static void
hold_waits_for_an_open_that_is_being_handled(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL), *client = conf_client(w, NULL);
	struct hold_call call = { host_of(w), VMB_E_IO };
	struct errand holder;

	errand_hold(server, CONF_OPENED);
	conf_enable(server);
	conf_enable(client);
	conf_await_entered(server, CONF_OPENED, 1);
	errand_start(&holder, run_hold, &call);
	assert_false(errand_settle(&holder));
	errand_let_go(server);
	errand_join(&holder);
	assert_int_equal(call.status, VMB_OK);
	/* It is open now, and can be paused and saved. */
	VmbChannelPause(server->handle);
	assert_int_equal(VmbChannelSaveBegin(server->handle), STATUS_SUCCESS);
	VmbChannelSaveEnd(server->handle);
	VmbChannelStart(server->handle);
	release(w);
	conf_await_left(client, CONF_POST_STARTED, 1);
}

static NTSTATUS
hold_inside(struct conf_channel *c, enum conf_event event)
{
	if (event == CONF_STARTED)
		assert_int_equal(kmcl_bus_hold(host_of(c->world)), VMB_E_STATE);
	return STATUS_SUCCESS;
}

static void
hold_inside_a_callback_is_a_misuse(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL), *client = conf_client(w, NULL);

	server->on_event = hold_inside;
	conf_open(server, client);
	conf_expect_misuses(w, 1);
	hold(w);
	release(w);
}

/* ---- parking ---------------------------------------------------------------------------------------- */

static void
parked_open_channel_is_adopted_and_restored(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *s = open_saver(w, &client), *next;
	struct state state;
	uint32_t id, id_after;

	assert_int_equal(offers_at(w->guest, &w->type, &id), 1);
	hold(w);
	state = saver_park(s);
	next = saver_successor(s, NULL);
	saver_enable(next);
	conf_expect_events(next->channel, "");
	assert_int_equal(saver_restore(next->channel, &state), STATUS_SUCCESS);
	VmbChannelStart(next->channel->handle);
	/* The rings need no bus. */
	conf_await_left(next->channel, CONF_POST_STARTED, 1);
	expect_works(next->channel, client);
	release(w);
	expect_works(next->channel, client);
	conf_expect_events(next->channel, "Started PostStarted");
	conf_expect_events(client, "Opened Started PostStarted");
	assert_int_equal(offers_at(w->guest, &w->type, &id_after), 1);
	assert_int_equal(id, id_after);
	saver_state_free(&state);
	saver_free(next);
	saver_free(s);
}

static void
parked_channel_can_change_hands_many_times(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *all[6];
	struct state state;

	all[0] = open_saver(w, &client);
	for (uint32_t i = 1; i < 6; i++) {
		hold(w);
		state = saver_park(all[i - 1]);
		all[i] = saver_successor(all[i - 1], NULL);
		saver_enable(all[i]);
		assert_int_equal(saver_restore(all[i]->channel, &state), STATUS_SUCCESS);
		VmbChannelStart(all[i]->channel->handle);
		release(w);
		expect_works(all[i]->channel, client);
		saver_state_free(&state);
	}
	conf_expect_events(client, "Opened Started PostStarted");
	for (uint32_t i = 0; i < 6; i++)
		saver_free(all[i]);
}

static void
parked_offer_is_adopted_closed(struct conf_world *w)
{
	struct saver *s = saver_new(conf_server(w, NULL)), *next;
	struct state state;
	uint32_t id, id_after;

	saver_enable(s);
	conf_poll_until(offers_at(w->guest, &w->type, &id) == 1);
	hold(w);
	state = saver_park(s);
	next = saver_successor(s, NULL);
	saver_enable(next);
	assert_int_equal(saver_restore(next->channel, &state), STATUS_SUCCESS);
	VmbChannelStart(next->channel->handle);
	release(w);
	expect_can_be_opened(next->channel);
	assert_int_equal(offers_at(w->guest, &w->type, &id_after), 1);
	assert_int_equal(id, id_after);
	saver_state_free(&state);
	saver_free(next);
	saver_free(s);
}

static void
parked_offer_that_nobody_adopts_is_revoked_by_the_release(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *s = open_saver(w, &client), *closed = saver_new(conf_server(w, NULL));
	struct state states[2];

	saver_enable(closed);
	conf_poll_until(offers(w) == 2);
	hold(w);
	states[0] = saver_park(s);
	states[1] = saver_park(closed);
	assert_int_equal(offers(w), 2);
	conf_expect_events(client, "Opened Started PostStarted");
	release(w);
	conf_await_left(client, CONF_CLOSED, 1);
	conf_poll_until(offers(w) == 0);
	for (uint32_t i = 0; i < 2; i++)
		saver_state_free(&states[i]);
	saver_free(closed);
	saver_free(s);
}

static void
channel_that_was_not_saved_is_revoked_at_once(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *s = open_saver(w, &client);

	hold(w);
	VmbChannelPause(s->channel->handle);
	/* Begun is not done. */
	assert_int_equal(VmbChannelSaveBegin(s->channel->handle), STATUS_SUCCESS);
	VmbChannelSaveEnd(s->channel->handle);
	VmbChannelDisable(s->channel->handle);
	conf_await_left(client, CONF_CLOSED, 1);
	release(w);
	conf_poll_until(offers(w) == 0);
	saver_free(s);
}

static void
channel_that_went_on_after_its_save_is_revoked(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *s = open_saver(w, &client);
	struct state state;

	hold(w);
	VmbChannelPause(s->channel->handle);
	state = saver_take(s->channel);
	VmbChannelStart(s->channel->handle);
	conf_await_left(s->channel, CONF_POST_STARTED, 2);
	VmbChannelDisable(s->channel->handle);
	conf_await_left(client, CONF_CLOSED, 1);
	release(w);
	saver_state_free(&state);
	saver_free(s);
}

static void
saved_channel_of_a_bus_that_is_not_held_is_revoked(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *s = open_saver(w, &client);
	struct state state = saver_park(s);

	conf_await_left(client, CONF_CLOSED, 1);
	conf_poll_until(offers(w) == 0);
	saver_state_free(&state);
	saver_free(s);
}

static void
open_channel_that_nobody_restores_is_offered_anew(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *s = open_saver(w, &client), *next;
	struct state state;

	hold(w);
	state = saver_park(s);
	next = saver_successor(s, NULL);
	saver_enable(next);
	VmbChannelStart(next->channel->handle);
	conf_expect_events(client, "Opened Started PostStarted");
	release(w);
	conf_await_left(client, CONF_CLOSED, 1);
	/* What was open is over, also for the saved state. */
	assert_int_equal(saver_restore(next->channel, &state), STATUS_INVALID_DEVICE_STATE);
	expect_can_be_opened(next->channel);
	saver_state_free(&state);
	saver_free(next);
	saver_free(s);
}

static void
adopted_channel_that_leaves_again_is_revoked(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *s = open_saver(w, &client), *next;
	struct state state;

	hold(w);
	state = saver_park(s);
	next = saver_successor(s, NULL);
	saver_enable(next);
	VmbChannelDisable(next->channel->handle);
	conf_await_left(client, CONF_CLOSED, 1);
	release(w);
	conf_poll_until(offers(w) == 0);
	conf_expect_events(next->channel, "");
	saver_state_free(&state);
	saver_free(next);
	saver_free(s);
}

/* A driver that failed to restore may leave the offer to the next one if it saves what there is. */
static void
adopted_channel_that_is_saved_again_stays_parked(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *s = open_saver(w, &client), *second, *third;
	struct state state, nothing;

	hold(w);
	state = saver_park(s);
	second = saver_successor(s, NULL);
	saver_enable(second);
	nothing = saver_park(second);
	third = saver_successor(s, NULL);
	saver_enable(third);
	assert_int_equal(saver_restore(third->channel, &state), STATUS_SUCCESS);
	VmbChannelStart(third->channel->handle);
	release(w);
	expect_works(third->channel, client);
	conf_expect_events(client, "Opened Started PostStarted");
	saver_state_free(&nothing);
	saver_state_free(&state);
	saver_free(third);
	saver_free(second);
	saver_free(s);
}

static void
successor_that_comes_after_the_release_gets_a_new_offer(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *s = open_saver(w, &client), *next;
	struct state state;

	hold(w);
	state = saver_park(s);
	release(w);
	next = saver_successor(s, NULL);
	saver_enable(next);
	assert_int_equal(saver_restore(next->channel, &state), STATUS_INVALID_DEVICE_STATE);
	VmbChannelStart(next->channel->handle);
	conf_await_left(client, CONF_CLOSED, 1);
	expect_can_be_opened(next->channel);
	saver_state_free(&state);
	saver_free(next);
	saver_free(s);
}

static void
forced_new_channel_takes_nothing_over(struct conf_world *w)
{
	struct conf_options anew = { .server_flags = VMBUS_SERVER_CHANNEL_INIT_FLAG_FORCE_NEW_CHANNEL };
	struct conf_channel *client;
	struct saver *s = open_saver(w, &client), *next;
	struct state state;

	hold(w);
	state = saver_park(s);
	next = saver_successor(s, &anew);
	saver_enable(next);
	/* The old instance is abandoned here and now. */
	conf_await_left(client, CONF_CLOSED, 1);
	assert_int_equal(saver_restore(next->channel, &state), STATUS_SUCCESS);
	conf_expect_events(next->channel, "");
	VmbChannelStart(next->channel->handle);
	release(w);
	expect_can_be_opened(next->channel);
	saver_state_free(&state);
	saver_free(next);
	saver_free(s);
}

static void
another_device_takes_nothing_over(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *s = open_saver(w, &client), *other;
	struct state state;

	hold(w);
	state = saver_park(s);
	other = saver_new(conf_server(w, NULL));
	saver_enable(other);
	VmbChannelStart(other->channel->handle);
	assert_int_equal(saver_restore(other->channel, &state), STATUS_INVALID_PARAMETER_2);
	release(w);
	conf_await_left(client, CONF_CLOSED, 1);
	expect_can_be_opened(other->channel);
	conf_poll_until(offers(w) == 1);
	saver_state_free(&state);
	saver_free(other);
	saver_free(s);
}

/* ---- guests that act meanwhile ------------------------------------------------------------------------ */

static void
guest_that_opens_meanwhile_is_served_by_the_successor(struct conf_world *w)
{
	struct saver *s = saver_new(conf_server(w, NULL)), *next;
	struct conf_channel *client;
	struct state state;

	saver_enable(s);
	client = conf_client(w, NULL);
	conf_poll_until(offers(w) == 1);
	hold(w);
	conf_enable(client);
	state = saver_park(s);
	next = saver_successor(s, NULL);
	saver_enable(next);
	assert_int_equal(saver_restore(next->channel, &state), STATUS_SUCCESS);
	VmbChannelStart(next->channel->handle);
	conf_expect_events(next->channel, "");
	release(w);
	conf_await_left(client, CONF_POST_STARTED, 1);
	conf_await_left(next->channel, CONF_POST_STARTED, 1);
	conf_expect_events(next->channel, "Opened Started PostStarted");
	expect_works(next->channel, client);
	saver_state_free(&state);
	saver_free(next);
	saver_free(s);
}

static void
guest_that_closes_meanwhile_closes_the_successor(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *s = open_saver(w, &client), *next;
	struct errand disable;
	struct state state;

	hold(w);
	errand_start(&disable, errand_disable, client->handle);
	assert_false(errand_settle(&disable));
	state = saver_park(s);
	next = saver_successor(s, NULL);
	saver_enable(next);
	assert_int_equal(saver_restore(next->channel, &state), STATUS_SUCCESS);
	VmbChannelStart(next->channel->handle);
	conf_await_left(next->channel, CONF_POST_STARTED, 1);
	release(w);
	errand_join(&disable);
	conf_await_left(next->channel, CONF_CLOSED, 1);
	conf_expect_events(next->channel, "Started PostStarted Suspend Closed");
	expect_can_be_opened(next->channel);
	saver_state_free(&state);
	saver_free(next);
	saver_free(s);
}

static void
guest_that_closes_meanwhile_is_answered_without_a_successor(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *s = open_saver(w, &client);
	struct errand disable;
	struct state state;

	hold(w);
	errand_start(&disable, errand_disable, client->handle);
	assert_false(errand_settle(&disable));
	state = saver_park(s);
	release(w);
	errand_join(&disable);
	conf_poll_until(offers(w) == 0);
	saver_state_free(&state);
	saver_free(s);
}

static void
mappings_of_the_driver_end_with_its_channel(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *s = open_saver(w, &client), *next;
	void *memory = conf_pool(3 * PAGE_SIZE, 1);
	struct state state;
	UINT32 gpadl;
	PMDL mdl;

	assert_int_equal(VmbChannelCreateGpadlFromBuffer(client->handle, 0, memory, 3 * PAGE_SIZE,
	                                                 &gpadl),
	                 STATUS_SUCCESS);
	assert_int_equal(VmbChannelMapGpadl(s->channel->handle, 0, gpadl, &mdl), STATUS_SUCCESS);
	hold(w);
	/* Left behind: reported, and gone. */
	conf_expect_misuses(w, 1);
	state = saver_park(s);
	next = saver_successor(s, NULL);
	saver_enable(next);
	assert_int_equal(saver_restore(next->channel, &state), STATUS_SUCCESS);
	VmbChannelStart(next->channel->handle);
	/* The GPADL is the guest's and still there. */
	assert_int_equal(VmbChannelMapGpadl(next->channel->handle, 0, gpadl, &mdl), STATUS_SUCCESS);
	assert_true(conf_is_filled(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority),
	                           3 * PAGE_SIZE, 1));
	VmbChannelUnmapGpadl(next->channel->handle, gpadl);
	release(w);
	VmbChannelDeleteGpadl(client->handle, gpadl);
	conf_pool_free(memory);
	saver_state_free(&state);
	saver_free(next);
	saver_free(s);
}

/* ---- several guests, and the bus's own end -------------------------------------------------------------- */

static struct conf_channel *
client_on(struct conf_world *w, struct kmcl_bus *bus, const GUID *instance)
{
	struct conf_options options = { .instance = instance };
	struct conf_channel *c = conf_client(w, &options);

	/* The same client, on one bus only. */
	VmbChannelCleanup(c->handle);
	assert_int_equal(VmbChannelAllocate(kmcl_bus_device(bus, &w->type, instance), FALSE, &c->handle),
	                 STATUS_SUCCESS);
	VmbChannelSetPointer(c->handle, c);
	return c;
}

static NTSTATUS
ask(struct conf_channel *client)
{
	LARGE_INTEGER limit = { .QuadPart = CONF_MS(20000) };
	uint64_t number = 7, answer = 0;
	UINT32 bytes = sizeof(answer);
	NTSTATUS status = VmbChannelSendSynchronousRequest(client->handle, &number, sizeof(number), NULL,
	                                                   CONF_WAIT, &answer, &bytes, &limit);

	return status == STATUS_SUCCESS && answer != number ? STATUS_DATA_ERROR : status;
}

static void
offers_to_all_guests_are_adopted(struct conf_world *w)
{
	struct saver *s = saver_new(conf_server(w, NULL)), *next;
	struct kmcl_bus *guests[3] = { w->guest };
	struct conf_channel *clients[3];
	struct state state;
	uint32_t id;

	saver_enable(s);
	VmbChannelStart(s->channel->handle);
	for (uint32_t i = 1; i < 3; i++)
		assert_int_equal(kmcl_bus_connect(w->path, NULL, &guests[i]), VMB_OK);
	for (uint32_t i = 0; i < 3; i++) {
		clients[i] = client_on(w, guests[i], &s->channel->instance);
		conf_poll_until(offers_at(guests[i], &w->type, &id) == 1);
	}
	/* The second one has it open. */
	assert_int_equal(VmbChannelEnable(clients[1]->handle), STATUS_SUCCESS);
	assert_int_equal(ask(clients[1]), STATUS_SUCCESS);
	hold(w);
	state = saver_park(s);
	next = saver_successor(s, NULL);
	saver_enable(next);
	assert_int_equal(saver_restore(next->channel, &state), STATUS_SUCCESS);
	VmbChannelStart(next->channel->handle);
	release(w);
	assert_int_equal(ask(clients[1]), STATUS_SUCCESS);
	/* Then each of them, one after the other. */
	for (uint32_t i = 0; i < 3; i++) {
		uint32_t closes = i;

		VmbChannelDisable(clients[i == 0 ? 1 : i - 1]->handle);
		conf_await_left(next->channel, CONF_CLOSED, closes + 1);
		assert_int_equal(offers_at(guests[i], &w->type, &id), 1);
		assert_int_equal(VmbChannelEnable(clients[i]->handle), STATUS_SUCCESS);
		assert_int_equal(ask(clients[i]), STATUS_SUCCESS);
	}
	for (uint32_t i = 0; i < 3; i++)
		conf_channel_free(clients[i]);
	kmcl_bus_close(guests[1]);
	kmcl_bus_close(guests[2]);
	saver_state_free(&state);
	saver_free(next);
	saver_free(s);
}

struct connect_call {
	struct conf_world *world;
	struct kmcl_bus *bus;
	enum vmb_status status;
};

static void
run_connect(void *context)
{
	struct connect_call *call = context;

	call->status = kmcl_bus_connect(call->world->path, NULL, &call->bus);
}

static void
guest_that_connects_meanwhile_waits(struct conf_world *w)
{
	struct connect_call call = { .world = w };
	struct kmcl_bus_stats stats;
	struct errand connecting;

	hold(w);
	errand_start(&connecting, run_connect, &call);
	assert_false(errand_settle(&connecting));
	kmcl_bus_get_stats(w->host, &stats);
	assert_int_equal(stats.guests, 1);
	release(w);
	errand_join(&connecting);
	assert_int_equal(call.status, VMB_OK);
	kmcl_bus_close(call.bus);
}

static void
held_bus_can_be_closed(struct conf_world *w)
{
	struct conf_channel *client, *other_client;
	struct saver *s = open_saver(w, &client), *other = saver_new(conf_server(w, NULL)), *next;
	struct state states[2];

	other_client = conf_client(w, NULL);
	conf_open(other->channel, other_client);
	hold(w);
	/* One parked, one adopted. */
	states[0] = saver_park(s);
	states[1] = saver_park(other);
	next = saver_successor(other, NULL);
	saver_enable(next);
	kmcl_bus_close(w->host);
	w->host = NULL;
	conf_await_left(client, CONF_CLOSED, 1);
	conf_await_left(other_client, CONF_CLOSED, 1);
	assert_int_equal(saver_restore(next->channel, &states[1]), STATUS_INVALID_DEVICE_STATE);
	conf_expect_events(next->channel, "");
	for (uint32_t i = 0; i < 2; i++)
		saver_state_free(&states[i]);
	saver_free(next);
	saver_free(other);
	saver_free(s);
}

static const struct conf_test tests[] = {
	CONF_TEST(only_a_host_bus_can_be_held_and_only_once, NULL, CONF_BUSES),
	CONF_TEST(open_channels_go_on_while_the_bus_is_held, NULL, CONF_BUSES),
	CONF_TEST(opens_wait_until_the_release, NULL, CONF_BUSES),
	CONF_TEST(closes_wait_until_the_release, NULL, CONF_BUSES),
	CONF_TEST(hold_waits_for_an_open_that_is_being_handled, NULL, CONF_BUSES),
	CONF_TEST(hold_inside_a_callback_is_a_misuse, NULL, CONF_BUSES),
	CONF_TEST(parked_open_channel_is_adopted_and_restored, "RFB-6", CONF_BUSES),
	CONF_TEST(parked_channel_can_change_hands_many_times, "RFB-6", CONF_BUSES),
	CONF_TEST(parked_offer_is_adopted_closed, NULL, CONF_BUSES),
	CONF_TEST(parked_offer_that_nobody_adopts_is_revoked_by_the_release, NULL, CONF_BUSES),
	CONF_TEST(channel_that_was_not_saved_is_revoked_at_once, NULL, CONF_BUSES),
	CONF_TEST(channel_that_went_on_after_its_save_is_revoked, NULL, CONF_BUSES),
	CONF_TEST(saved_channel_of_a_bus_that_is_not_held_is_revoked, NULL, CONF_BUSES),
	CONF_TEST(open_channel_that_nobody_restores_is_offered_anew, "RFB-3", CONF_BUSES),
	CONF_TEST(adopted_channel_that_leaves_again_is_revoked, NULL, CONF_BUSES),
	CONF_TEST(adopted_channel_that_is_saved_again_stays_parked, NULL, CONF_BUSES),
	CONF_TEST(successor_that_comes_after_the_release_gets_a_new_offer, "RFB-3", CONF_BUSES),
	CONF_TEST(forced_new_channel_takes_nothing_over, "RFB-6, SSF-2", CONF_BUSES),
	CONF_TEST(another_device_takes_nothing_over, "RFB-3", CONF_BUSES),
	CONF_TEST(guest_that_opens_meanwhile_is_served_by_the_successor, NULL, CONF_BUSES),
	CONF_TEST(guest_that_closes_meanwhile_closes_the_successor, "RFB-6, STM-3", CONF_BUSES),
	CONF_TEST(guest_that_closes_meanwhile_is_answered_without_a_successor, NULL, CONF_BUSES),
	CONF_TEST(mappings_of_the_driver_end_with_its_channel, "MPG-6", CONF_BUSES),
	CONF_TEST(offers_to_all_guests_are_adopted, NULL, CONF_UNIX),
	CONF_TEST(guest_that_connects_meanwhile_waits, NULL, CONF_UNIX),
	CONF_TEST(held_bus_can_be_closed, NULL, CONF_UNIX),
};

int
main(void)
{
	return CONF_RUN("held_bus", tests);
}
