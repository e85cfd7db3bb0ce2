/* SPDX-License-Identifier: MIT */
/* Primary channels and their subchannels (V5-1, vmbus-protocol 4.8). */
#include <stdlib.h>
#include <string.h>

#include "errand.h"
#include "kmcl/kmcl_channel.h"
#include "kmcl/kmcl_family.h"
#include "kmcl/kmcl_slots.h"
#include "saver.h"

#define IS(status, call) assert_int_equal((unsigned)(call), (unsigned)(status))
#define MOST_SUBS 4

struct family {
	struct conf_pair primary;
	struct conf_pair subs[MOST_SUBS];
	uint32_t count;
};

/* A channel of either side that belongs to `primary`, Disabled. */
static struct conf_channel *
new_sub(struct conf_channel *primary, const struct conf_options *options)
{
	struct conf_channel *c = primary->is_server ? conf_server(primary->world, options)
	                                            : conf_client(primary->world, options);

	IS(STATUS_SUCCESS, VmbChannelInitSetPrimaryChannel(c->handle, primary->handle));
	return c;
}

static void
open_family(struct conf_world *w, struct family *f, uint32_t count)
{
	f->primary = conf_open_pair(w);
	f->count = count;
	for (uint32_t i = 0; i < count; i++) {
		f->subs[i].server = new_sub(f->primary.server, NULL);
		f->subs[i].client = new_sub(f->primary.client, NULL);
		conf_open(f->subs[i].server, f->subs[i].client);
	}
}

/* Offers with the instance of `server` on a guest bus, by subchannel index; bit 0 is the primary's. */
static uint32_t
offered(struct kmcl_bus *guest, const struct conf_channel *server)
{
	struct kmcl_offer_info offers[64];
	uint32_t count = kmcl_bus_offers(guest, offers, 64), indices = 0;

	for (uint32_t i = 0; i < min(count, 64u); i++) {
		if (memcmp(&offers[i].type, &server->world->type, sizeof(GUID)) == 0 &&
		    memcmp(&offers[i].instance, &server->instance, sizeof(GUID)) == 0)
			indices |= 1u << offers[i].subchannel_index;
	}
	return indices;
}

static void
expect_disabled(struct family *f)
{
	for (uint32_t i = 0; i < f->count; i++) {
		assert_true(errand_is_disabled(f->subs[i].server));
		assert_true(errand_is_disabled(f->subs[i].client));
	}
}

/* ---- configuration ------------------------------------------------------------------------------------- */

static void
primary_must_be_an_open_channel_of_the_same_role(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL), *client = conf_client(w, NULL);
	struct conf_channel *sub = conf_server(w, NULL), *other = conf_server(w, NULL);
	struct conf_channel *client_sub = conf_client(w, NULL);
	uint64_t word[64] = { 0 };

	IS(STATUS_INVALID_PARAMETER_2, VmbChannelInitSetPrimaryChannel(sub->handle, sub->handle));
	IS(STATUS_INVALID_PARAMETER_2,
	   VmbChannelInitSetPrimaryChannel(sub->handle, (VMBCHANNEL)(void *)word));
	IS(STATUS_INVALID_PARAMETER_2, VmbChannelInitSetPrimaryChannel(sub->handle, client->handle));
	IS(STATUS_DEVICE_NOT_READY, VmbChannelInitSetPrimaryChannel(sub->handle, server->handle));
	conf_enable(server);
	IS(STATUS_DEVICE_NOT_READY, VmbChannelInitSetPrimaryChannel(sub->handle, server->handle));
	conf_enable(client);
	conf_await_left(server, CONF_POST_STARTED, 1);
	conf_await_left(client, CONF_POST_STARTED, 1);
	IS(STATUS_SUCCESS, VmbChannelInitSetPrimaryChannel(sub->handle, server->handle));
	IS(STATUS_INVALID_PARAMETER_2, VmbChannelInitSetPrimaryChannel(client_sub->handle, sub->handle));
	/* A subchannel has none itself; twice is once, and NULL is none. */
	IS(STATUS_INVALID_PARAMETER_2, VmbChannelInitSetPrimaryChannel(other->handle, sub->handle));
	IS(STATUS_SUCCESS, VmbChannelInitSetPrimaryChannel(sub->handle, server->handle));
	IS(STATUS_SUCCESS, VmbChannelInitSetPrimaryChannel(sub->handle, NULL));
	IS(STATUS_SUCCESS, VmbChannelInitSetPrimaryChannel(sub->handle, NULL));
	/* A channel of its own again. */
	IS(STATUS_SUCCESS, VmbChannelEnable(sub->handle));
	conf_poll_until(offered(w->guest, sub) == 1);
	assert_int_equal(offered(w->guest, server), 1);
	VmbChannelDisable(sub->handle);
}

static void
channel_with_subchannels_cannot_become_one(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w), second = conf_open_pair(w);
	struct conf_channel *sub = new_sub(pair.client, NULL);

	VmbChannelDisable(pair.client->handle);
	IS(STATUS_INVALID_PARAMETER_1,
	   VmbChannelInitSetPrimaryChannel(pair.client->handle, second.client->handle));
	conf_channel_free(sub);
	IS(STATUS_SUCCESS, VmbChannelInitSetPrimaryChannel(pair.client->handle, second.client->handle));
	IS(STATUS_SUCCESS, VmbChannelInitSetPrimaryChannel(pair.client->handle, NULL));
}

static void
subchannel_has_the_primarys_identity(struct conf_world *w)
{
	struct family f;
	GUID id;

	open_family(w, &f, 1);
	VmbChannelGetInterfaceInstance(f.subs[0].server->handle, &id);
	assert_memory_equal(&id, &f.primary.server->instance, sizeof(id));
	VmbChannelGetInterfaceInstance(f.subs[0].client->handle, &id);
	assert_memory_equal(&id, &f.primary.server->instance, sizeof(id));
	assert_ptr_equal(VmbChannelGetTargetDeviceObject(f.subs[0].client->handle),
	                 VmbChannelGetTargetDeviceObject(f.primary.client->handle));
}

static void
subchannel_is_enabled_only_while_the_primary_is_open(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_channel *servers = new_sub(pair.server, NULL), *clients = new_sub(pair.client, NULL);

	VmbChannelDisable(pair.client->handle);
	conf_await_left(pair.server, CONF_CLOSED, 1);
	IS(STATUS_DEVICE_NOT_READY, VmbChannelEnable(clients->handle));
	IS(STATUS_DEVICE_NOT_READY, VmbChannelEnable(servers->handle));
}

/* What the library calls inside an Enable that fails; the linker puts these in its place. */
static struct conf_channel *failing_sub;
static NTSTATUS enabled_meanwhile;

bool __real_kmcl_slots_create(struct kmcl_tx *tx);
bool __wrap_kmcl_slots_create(struct kmcl_tx *tx);
bool
__wrap_kmcl_slots_create(struct kmcl_tx *tx)
{
	return (failing_sub == NULL || tx != &kmcl_channel_from_handle(failing_sub->handle)->tx) &&
	       __real_kmcl_slots_create(tx);
}

void __real_kmcl_family_left(struct kmcl_channel *ch);
void __wrap_kmcl_family_left(struct kmcl_channel *ch);
void
__wrap_kmcl_family_left(struct kmcl_channel *ch)
{
	if (failing_sub != NULL && ch == kmcl_channel_from_handle(failing_sub->handle)) {
		struct conf_channel *sub = failing_sub;

		failing_sub = NULL;
		enabled_meanwhile = VmbChannelEnable(sub->handle);
	}
	__real_kmcl_family_left(ch);
}

/* Else the primary would wait for ever for a subchannel that it has lost sight of. */
static void
failed_enable_leaves_the_family_before_another_can_join(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_channel *sub = new_sub(pair.server, NULL);

	enabled_meanwhile = STATUS_SUCCESS;
	failing_sub = sub;
	IS(STATUS_INSUFFICIENT_RESOURCES, VmbChannelEnable(sub->handle));
	assert_null(failing_sub);
	IS(STATUS_INVALID_DEVICE_STATE, enabled_meanwhile);
	IS(STATUS_SUCCESS, VmbChannelEnable(sub->handle));
	VmbChannelDisable(sub->handle);
	assert_true(kmcl_family_is_alone(kmcl_channel_from_handle(pair.server->handle)));
}

static void
paused_primary_may_have_subchannels(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w), sub;

	VmbChannelPause(pair.server->handle);
	VmbChannelPause(pair.client->handle);
	sub.server = new_sub(pair.server, NULL);
	sub.client = new_sub(pair.client, NULL);
	conf_open(sub.server, sub.client);
	conf_fence(sub);
	VmbChannelDisable(pair.client->handle);
	assert_true(errand_is_disabled(sub.client));
}

/* ---- offers --------------------------------------------------------------------------------------------- */

static void
offers_have_the_lowest_free_index(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_channel *subs[3];

	for (uint32_t i = 0; i < 3; i++) {
		subs[i] = new_sub(pair.server, NULL);
		conf_enable(subs[i]);
		conf_poll_until(offered(w->guest, pair.server) == (2u << (i + 1)) - 1);
	}
	VmbChannelDisable(subs[1]->handle);
	conf_poll_until(offered(w->guest, pair.server) == 0xB);
	VmbChannelDisable(subs[0]->handle);
	conf_poll_until(offered(w->guest, pair.server) == 0x9);
	conf_enable(subs[1]);
	conf_poll_until(offered(w->guest, pair.server) == 0xB);
	conf_enable(subs[0]);
	conf_poll_until(offered(w->guest, pair.server) == 0xF);
}

/* Each for its own kind, whatever order they look in. */
static void
clients_take_offers_of_their_kind_only(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_channel *waiting = new_sub(pair.client, NULL), *sub = new_sub(pair.server, NULL);
	struct conf_channel *plain = conf_client(w, &(struct conf_options){ .instance = &pair.server->instance });
	struct conf_channel *second = new_sub(pair.client, NULL);

	conf_enable(plain);
	conf_enable(waiting);
	conf_enable(second);
	conf_enable(sub);
	conf_await_left(waiting, CONF_POST_STARTED, 1);
	conf_await_left(sub, CONF_POST_STARTED, 1);
	conf_fence((struct conf_pair){ sub, waiting });
	/* One offer each, and the primary's is taken: these two keep waiting. */
	assert_int_equal(plain->event_count, 0);
	assert_int_equal(second->event_count, 0);
	/* The offer that became free goes to the one that waited. */
	VmbChannelDisable(waiting->handle);
	conf_await_left(second, CONF_POST_STARTED, 1);
	VmbChannelDisable(pair.client->handle);
	conf_await_left(plain, CONF_POST_STARTED, 1);
}

/* ---- traffic --------------------------------------------------------------------------------------------- */

#define REQUESTS 200u

struct talker {
	struct conf_channel *client;
	struct errand errand;
	uint64_t tag;
	uint32_t good;
};

static void
talk(void *context)
{
	struct talker *t = context;

	for (uint64_t i = 0; i < REQUESTS; i++) {
		uint64_t ask = t->tag + i, answer = 0;
		UINT32 bytes = sizeof(answer);

		if (VmbChannelSendSynchronousRequest(t->client->handle, &ask, sizeof(ask), NULL, CONF_WAIT,
		                                     &answer, &bytes, NULL) == STATUS_SUCCESS &&
		    answer == ask)
			t->good++;
	}
}

static void
each_channel_of_a_family_has_rings_and_a_loop_of_its_own(struct conf_world *w)
{
	struct kmcl_loop *loops[MOST_SUBS + 1];
	struct talker talkers[MOST_SUBS + 1];
	struct conf_pair pairs[MOST_SUBS + 1];

	for (uint32_t i = 0; i <= MOST_SUBS; i++) {
		struct conf_options options = { .in_pages = 1 + i, .out_pages = 2 + i, .max_packet = 64,
			                        .external_bytes = PAGE_SIZE, .external_mdls = 1 };
		struct conf_wire wire;

		assert_int_equal(kmcl_loop_create(NULL, &loops[i]), VMB_OK);
		options.loop = loops[i];
		pairs[i].server = i == 0 ? conf_server(w, &options) : new_sub(pairs[0].server, &options);
		pairs[i].client = i == 0 ? conf_client(w, &options) : new_sub(pairs[0].client, &options);
		IS(STATUS_SUCCESS,
		   VmbClientChannelInitSetTargetProcessorIndex(pairs[i].client->handle, i));
		conf_open(pairs[i].server, pairs[i].client);
		assert_int_equal(conf_stats(pairs[i].server).target_processor, i);
		wire = conf_wire_read(pairs[i].client);
		assert_int_equal(wire.data_bytes, (2 + i) * PAGE_SIZE);
		conf_wire_free(&wire);
		wire = conf_wire_read(pairs[i].server);
		assert_int_equal(wire.data_bytes, (1 + i) * PAGE_SIZE);
		conf_wire_free(&wire);
	}
	/* All at once; the records show which thread did it. */
	for (uint32_t i = 0; i <= MOST_SUBS; i++) {
		IS(STATUS_SUCCESS, conf_post(pairs[i].client, i));
		talkers[i] = (struct talker){ .client = pairs[i].client, .tag = (uint64_t)i << 32 };
	}
	for (uint32_t i = 0; i <= MOST_SUBS; i++) {
		for (uint32_t j = 0; j < i; j++)
			assert_false(pthread_equal(conf_await_packets(pairs[i].server, 1)->thread,
			                           conf_await_packets(pairs[j].server, 1)->thread));
	}
	for (uint32_t i = 0; i <= MOST_SUBS; i++)
		errand_start(&talkers[i].errand, talk, &talkers[i]);
	for (uint32_t i = 0; i <= MOST_SUBS; i++) {
		errand_join(&talkers[i].errand);
		assert_int_equal(talkers[i].good, REQUESTS);
		assert_int_equal(conf_stats(pairs[i].server).packets_received, REQUESTS + 1);
	}
	for (uint32_t i = MOST_SUBS + 1; i-- != 0;) {
		conf_channel_free(pairs[i].client);
		conf_channel_free(pairs[i].server);
		kmcl_loop_destroy(loops[i]);
	}
}

/* ---- closing ---------------------------------------------------------------------------------------------- */

/* In Closed of a primary: every subchannel of its side is over. */
static NTSTATUS
look_at_subs(struct conf_channel *c, enum conf_event event)
{
	struct family *f = c->ctx;

	if (event != CONF_CLOSED)
		return STATUS_SUCCESS;
	for (uint32_t i = 0; i < f->count; i++) {
		struct conf_channel *sub = c->is_server ? f->subs[i].server : f->subs[i].client;

		conf_lock(c->world);
		if (sub->left[CONF_CLOSED] != sub->left[CONF_OPENED])
			sub->callbacks_overlapped = true;
		conf_unlock(c->world);
		if (!errand_is_disabled(sub))
			sub->callbacks_overlapped = true;
	}
	return STATUS_SUCCESS;
}

static void
watch_order(struct family *f)
{
	conf_set(f->primary.server, ctx, f);
	conf_set(f->primary.client, ctx, f);
	conf_set(f->primary.server, on_event, look_at_subs);
	conf_set(f->primary.client, on_event, look_at_subs);
}

static void
expect_closed_in_order(struct family *f)
{
	for (uint32_t i = 0; i < f->count; i++) {
		conf_expect_events(f->subs[i].server, "Opened Started PostStarted Suspend Closed");
		conf_expect_events(f->subs[i].client, "Opened Started PostStarted Suspend Closed");
		assert_false(f->subs[i].server->callbacks_overlapped);
		assert_false(f->subs[i].client->callbacks_overlapped);
	}
}

static void
end_of_the_servers_primary_ends_subchannels_first(struct conf_world *w)
{
	struct family f;

	open_family(w, &f, 3);
	watch_order(&f);
	VmbChannelDisable(f.primary.server->handle);
	conf_await_left(f.primary.client, CONF_CLOSED, 1);
	VmbChannelDisable(f.primary.client->handle);
	expect_closed_in_order(&f);
	expect_disabled(&f);
	conf_poll_until(offered(w->guest, f.primary.server) == 0);
}

static void
end_of_the_clients_primary_ends_subchannels_first(struct conf_world *w)
{
	struct family f;

	open_family(w, &f, 3);
	watch_order(&f);
	VmbChannelDisable(f.primary.client->handle);
	conf_await_left(f.primary.server, CONF_CLOSED, 1);
	expect_closed_in_order(&f);
	expect_disabled(&f);
	conf_poll_until(offered(w->guest, f.primary.server) == 1);
}

static void
what_subchannels_have_indicated_is_waited_for(struct conf_world *w)
{
	struct errand disable;
	struct family f;

	open_family(w, &f, 1);
	conf_answer_with(f.subs[0].client, CONF_HOLD, NULL, 0);
	IS(STATUS_SUCCESS, conf_post(f.subs[0].server, 1));
	conf_await_packets(f.subs[0].client, 1);
	errand_start(&disable, errand_disable, f.primary.client->handle);
	conf_await_left(f.subs[0].client, CONF_SUSPEND, 1);
	conf_await_left(f.primary.client, CONF_SUSPEND, 1);
	assert_false(errand_settle(&disable));
	assert_int_equal(f.primary.client->entered[CONF_CLOSED], 0);
	conf_complete_held(f.subs[0].client);
	errand_join(&disable);
	conf_expect_events(f.primary.client, "Opened Started PostStarted Suspend Closed");
}

static void
reopened_primary_has_no_subchannels_of_the_time_before(struct conf_world *w)
{
	struct family f;

	open_family(w, &f, 2);
	for (uint32_t round = 2; round <= 4; round++) {
		VmbChannelDisable(f.primary.client->handle);
		IS(STATUS_SUCCESS, VmbChannelEnable(f.primary.client->handle));
		conf_await_left(f.primary.server, CONF_POST_STARTED, round);
		conf_await_left(f.primary.client, CONF_POST_STARTED, round);
		/* The host took its offers back before it opened the primary again. */
		assert_int_equal(offered(w->guest, f.primary.server), 1);
		expect_disabled(&f);
		for (uint32_t i = 0; i < 2; i++) {
			conf_open(f.subs[i].server, f.subs[i].client);
			assert_int_equal(offered(w->guest, f.primary.server), (4u << i) - 1);
			conf_fence(f.subs[i]);
		}
	}
}

static void
subchannel_ends_alone(struct conf_world *w)
{
	struct family f;

	open_family(w, &f, 3);
	/* By the server: the client loses its offer and is Disabled. */
	VmbChannelDisable(f.subs[1].server->handle);
	conf_await_left(f.subs[1].client, CONF_CLOSED, 1);
	VmbChannelDisable(f.subs[1].client->handle);
	conf_poll_until(offered(w->guest, f.primary.server) == 0xB);
	/* By the client: the offer stays, and is opened again. */
	VmbChannelDisable(f.subs[0].client->handle);
	conf_await_left(f.subs[0].server, CONF_CLOSED, 1);
	assert_int_equal(offered(w->guest, f.primary.server), 0xB);
	conf_fence(f.primary);
	conf_fence(f.subs[2]);
	IS(STATUS_SUCCESS, VmbChannelEnable(f.subs[0].client->handle));
	conf_await_left(f.subs[0].client, CONF_POST_STARTED, 2);
	conf_await_left(f.subs[0].server, CONF_POST_STARTED, 2);
	conf_fence(f.subs[0]);
	conf_expect_events(f.primary.client, "Opened Started PostStarted");
	conf_expect_events(f.subs[2].client, "Opened Started PostStarted");
}

static void
failed_enable_does_not_hold_the_primary(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_channel *sub = new_sub(pair.client, NULL);

	IS(STATUS_SUCCESS, VmbChannelInitSetMaximumExternalData(sub->handle, 0xFFFFFFFF, 0xFFFFFF));
	IS(STATUS_INVALID_BUFFER_SIZE, VmbChannelEnable(sub->handle));
	VmbChannelDisable(pair.client->handle);
	conf_expect_events(pair.client, "Opened Started PostStarted Suspend Closed");
	assert_int_equal(sub->event_count, 0);
}

/* One that waits for an offer, or for a guest, has no callback at all. */
static void
unopened_subchannels_end_silently(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_channel *clients = new_sub(pair.client, NULL), *servers;
	struct conf_send *send;

	IS(STATUS_SUCCESS, VmbChannelEnable(clients->handle));
	send = conf_send_new(clients);
	IS(STATUS_SUCCESS, VmbPacketSend(send->packet, NULL, 0, NULL, CONF_WAIT));
	VmbChannelDisable(pair.client->handle);
	conf_await_done(send, 1);
	IS(STATUS_DEVICE_REMOVED, send->status);
	conf_send_free(send);
	assert_true(errand_is_disabled(clients));
	conf_await_left(pair.server, CONF_CLOSED, 1);

	IS(STATUS_SUCCESS, VmbChannelEnable(pair.client->handle));
	conf_await_left(pair.server, CONF_POST_STARTED, 2);
	servers = new_sub(pair.server, NULL);
	conf_enable(servers);
	conf_poll_until(offered(w->guest, pair.server) == 3);
	VmbChannelDisable(pair.client->handle);
	conf_await_left(pair.server, CONF_CLOSED, 2);
	assert_true(errand_is_disabled(servers));
	assert_int_equal(clients->event_count + servers->event_count, 0);
	conf_poll_until(offered(w->guest, pair.server) == 1);
}

/* ---- misuse ------------------------------------------------------------------------------------------------- */

static void
cleanup_of_a_primary_with_subchannels_is_reported_and_safe(struct conf_world *w)
{
	struct family f;
	GUID id;

	open_family(w, &f, 2);
	/* Open ones end first, as by Disable, which Cleanup does for channels that are not Disabled. */
	conf_channel_free(f.primary.client);
	conf_expect_misuses(w, 1);
	assert_int_equal(conf_misuses(w), 1);
	conf_await_left(f.primary.server, CONF_CLOSED, 1);
	expect_disabled(&f);
	for (uint32_t i = 0; i < 2; i++) {
		struct conf_channel *sub = f.subs[i].client;

		/* It does not become a channel of its own by accident. */
		IS(STATUS_DEVICE_NOT_READY, VmbChannelEnable(sub->handle));
		VmbChannelGetInterfaceInstance(sub->handle, &id);
	}
	f.primary.client = conf_client(w, &(struct conf_options){ .instance = &f.primary.server->instance });
	IS(STATUS_SUCCESS, VmbChannelEnable(f.primary.client->handle));
	conf_await_left(f.primary.client, CONF_POST_STARTED, 1);
	conf_await_left(f.primary.server, CONF_POST_STARTED, 2);
	IS(STATUS_SUCCESS,
	   VmbChannelInitSetPrimaryChannel(f.subs[0].client->handle, f.primary.client->handle));
	IS(STATUS_SUCCESS, VmbChannelInitSetPrimaryChannel(f.subs[1].client->handle, NULL));
	conf_open(f.subs[0].server, f.subs[0].client);
	conf_fence(f.subs[0]);
	conf_channel_free(f.subs[0].client);
}

static NTSTATUS
end_the_primary(struct conf_channel *c, enum conf_event event)
{
	struct conf_channel *primary = c->ctx;

	if (event == CONF_STARTED) {
		VmbChannelDisable(primary->handle);
		VmbChannelCleanup(primary->handle);
	}
	return STATUS_SUCCESS;
}

static void
end_primary_while_processing(struct conf_channel *c, struct conf_packet *p)
{
	struct conf_channel *primary = c->ctx;

	(void)p;
	VmbChannelDisable(primary->handle);
}

static void
subchannels_callbacks_cannot_end_the_primary(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w), sub;

	sub.server = new_sub(pair.server, NULL);
	sub.client = new_sub(pair.client, NULL);
	sub.client->ctx = pair.client;
	sub.client->on_event = end_the_primary;
	sub.client->on_packet = end_primary_while_processing;
	conf_open(sub.server, sub.client);
	IS(STATUS_SUCCESS, conf_post(sub.server, 1));
	conf_await_packets(sub.client, 1);
	assert_int_equal(conf_misuses(w), 3);
	conf_expect_misuses(w, 3);
	conf_fence(pair);
	conf_fence(sub);
}

/* What drivers do: subchannels made and ended in callbacks of the primary. */
static struct conf_channel *sub_of_callback[2];

static NTSTATUS
drive_sub(struct conf_channel *c, enum conf_event event)
{
	struct conf_channel *sub = sub_of_callback[c->is_server];

	if (event == CONF_STARTED) {
		if (VmbChannelInitSetPrimaryChannel(sub->handle, c->handle) != STATUS_SUCCESS ||
		    VmbChannelEnable(sub->handle) != STATUS_SUCCESS)
			conf_set(sub, callbacks_overlapped, true);
		VmbChannelStart(sub->handle);
	} else if (event == CONF_SUSPEND || event == CONF_CLOSED) {
		VmbChannelDisable(sub->handle);
	}
	return STATUS_SUCCESS;
}

static void
primarys_callbacks_may_enable_and_disable_subchannels(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL), *client = conf_client(w, NULL);

	sub_of_callback[1] = conf_server(w, NULL);
	sub_of_callback[0] = conf_client(w, NULL);
	server->on_event = client->on_event = drive_sub;
	for (uint32_t round = 1; round <= 3; round++) {
		conf_open(server, client);
		conf_await_left(sub_of_callback[0], CONF_POST_STARTED, round);
		conf_await_left(sub_of_callback[1], CONF_POST_STARTED, round);
		VmbChannelDisable(round == 2 ? server->handle : client->handle);
		conf_await_left(server, CONF_CLOSED, round);
		conf_await_left(client, CONF_CLOSED, round);
		VmbChannelDisable(server->handle);
		VmbChannelDisable(client->handle);
	}
	assert_false(sub_of_callback[0]->callbacks_overlapped);
	assert_false(sub_of_callback[1]->callbacks_overlapped);
	/* Before its primary, as ever. */
	conf_channel_free(sub_of_callback[0]);
	conf_channel_free(sub_of_callback[1]);
}

/* ---- guests ------------------------------------------------------------------------------------------------- */

static void
two_primaries_have_families_of_their_own(struct conf_world *w)
{
	struct kmcl_bus *second = NULL;
	struct family a, b;

	open_family(w, &a, 2);
	open_family(w, &b, 1);
	if (w->host != NULL)
		assert_int_equal(kmcl_bus_connect(w->path, NULL, &second), VMB_OK);
	assert_int_equal(offered(w->guest, a.primary.server), 7);
	assert_int_equal(offered(w->guest, b.primary.server), 3);
	if (second != NULL) {
		/* Another guest sees the primaries only. */
		assert_int_equal(offered(second, a.primary.server), 1);
		assert_int_equal(offered(second, b.primary.server), 1);
		kmcl_bus_close(second);
	}
	VmbChannelDisable(a.primary.client->handle);
	conf_await_left(a.primary.server, CONF_CLOSED, 1);
	expect_disabled(&a);
	conf_fence(b.primary);
	conf_fence(b.subs[0]);
	assert_int_equal(offered(w->guest, b.primary.server), 3);
}

/* Both ends of each family on a guest of its own. */
static void
two_guests_have_families_of_their_own(struct conf_world *w)
{
	struct conf_pair primary[2], sub[2];
	struct kmcl_bus *guests[2] = { w->guest, NULL };

	assert_int_equal(kmcl_bus_connect(w->path, NULL, &guests[1]), VMB_OK);
	for (int i = 0; i < 2; i++) {
		primary[i].server = conf_server(w, NULL);
		primary[i].client = conf_client(w, NULL);
		/* The parent device chooses the guest; the target chooses the offer. */
		VmbChannelCleanup(primary[i].client->handle);
		IS(STATUS_SUCCESS,
		   VmbChannelAllocate(kmcl_bus_device(guests[i], &w->type, &primary[i].server->instance),
		                      FALSE, &primary[i].client->handle));
		VmbChannelSetPointer(primary[i].client->handle, primary[i].client);
		conf_enable(primary[i].server);
		IS(STATUS_SUCCESS, VmbChannelEnable(primary[i].client->handle));
		conf_await_left(primary[i].server, CONF_POST_STARTED, 1);
		/* It has no callbacks to wait for; an answer shows that it is Active. */
		conf_fence(primary[i]);
		sub[i].server = new_sub(primary[i].server, NULL);
		sub[i].client = new_sub(primary[i].client, NULL);
		conf_open(sub[i].server, sub[i].client);
		conf_fence(sub[i]);
	}
	for (int i = 0; i < 2; i++) {
		assert_int_equal(offered(guests[i], primary[i].server), 3);
		/* Nothing else has waited for this guest to see the other's. */
		conf_poll_until(offered(guests[i], primary[1 - i].server) == 1);
	}
	/* One guest leaves; the other's channels go on. */
	kmcl_bus_close(guests[1]);
	conf_await_left(primary[1].server, CONF_CLOSED, 1);
	assert_true(errand_is_disabled(sub[1].server));
	conf_expect_events(sub[1].client, "Opened Started PostStarted Suspend Closed");
	conf_fence(primary[0]);
	conf_fence(sub[0]);
}

static void
next_guest_sees_no_subchannels_of_the_one_before(struct conf_world *w)
{
	struct family f;

	open_family(w, &f, 2);
	for (uint32_t round = 1; round <= 2; round++) {
		struct conf_options again = { .instance = &f.primary.server->instance };

		/* The primary as well as one subchannel that was never opened are left to the disconnect. */
		conf_channel_free(f.subs[1].client);
		kmcl_bus_close(w->guest);
		conf_await_left(f.primary.server, CONF_CLOSED, round);
		/* Until then it is still the last guest's, and refuses to be opened. */
		conf_poll_until(kmcl_channel_state(kmcl_channel_from_handle(f.primary.server->handle)) ==
		                KMCL_S_ENABLED);
		assert_true(errand_is_disabled(f.subs[0].server));
		assert_true(errand_is_disabled(f.subs[1].server));
		assert_int_equal(kmcl_bus_connect(w->path, NULL, &w->guest), VMB_OK);
		assert_int_equal(offered(w->guest, f.primary.server), 1);
		f.primary.client = conf_client(w, &again);
		IS(STATUS_SUCCESS, VmbChannelEnable(f.primary.client->handle));
		conf_await_left(f.primary.client, CONF_POST_STARTED, 1);
		conf_await_left(f.primary.server, CONF_POST_STARTED, round + 1);
		assert_int_equal(offered(w->guest, f.primary.server), 1);
		for (uint32_t i = 0; i < 2; i++) {
			f.subs[i].client = new_sub(f.primary.client, NULL);
			conf_open(f.subs[i].server, f.subs[i].client);
			conf_fence(f.subs[i]);
		}
	}
}

/* ---- handing over ------------------------------------------------------------------------------------------- */

/* Saved and gone; its offer is parked on the held bus. */
static struct state
save_and_leave(struct conf_channel *server)
{
	struct state state;

	VmbChannelPause(server->handle);
	state = saver_take(server);
	VmbChannelDisable(server->handle);
	return state;
}

static void
restore_and_start(struct conf_channel *server, struct state *state)
{
	IS(STATUS_SUCCESS, VmbChannelEnable(server->handle));
	IS(STATUS_SUCCESS, saver_restore(server, state));
	VmbChannelStart(server->handle);
	conf_await_left(server, CONF_POST_STARTED, 1);
	saver_state_free(state);
}

static void
family_is_handed_over_subchannels_last(struct conf_world *w)
{
	struct kmcl_bus *host = w->host;
	struct conf_channel *primary, *subs[2];
	struct state states[3];
	struct conf_options same;
	struct family f;

	open_family(w, &f, 2);
	if (host == NULL)
		assert_int_equal(kmcl_bus_loopback_host(&host), VMB_OK);
	assert_int_equal(kmcl_bus_hold(host), VMB_OK);
	for (uint32_t i = 0; i < 2; i++)
		states[i] = save_and_leave(f.subs[i].server);
	states[2] = save_and_leave(f.primary.server);
	same = (struct conf_options){ .instance = &f.primary.server->instance };
	primary = conf_server(w, &same);
	restore_and_start(primary, &states[2]);
	for (uint32_t i = 0; i < 2; i++) {
		subs[i] = new_sub(primary, NULL);
		restore_and_start(subs[i], &states[i]);
	}
	assert_int_equal(kmcl_bus_release(host), VMB_OK);
	/* The guest has noticed nothing. */
	conf_fence((struct conf_pair){ primary, f.primary.client });
	conf_expect_events(f.primary.client, "Opened Started PostStarted");
	for (uint32_t i = 0; i < 2; i++) {
		conf_fence((struct conf_pair){ subs[i], f.subs[i].client });
		conf_expect_events(f.subs[i].client, "Opened Started PostStarted");
		conf_expect_events(subs[i], "Started PostStarted");
	}
	assert_int_equal(offered(w->guest, f.primary.server), 7);
	/* And the family still holds together. */
	VmbChannelDisable(f.primary.client->handle);
	conf_await_left(primary, CONF_CLOSED, 1);
	for (uint32_t i = 0; i < 2; i++)
		assert_true(errand_is_disabled(subs[i]));
}

/* ---- races ------------------------------------------------------------------------------------------------- */

struct racer {
	struct conf_channel *channel;
	struct errand errand;
	uint32_t rounds;
};

static void
race(void *context)
{
	struct racer *r = context;

	for (uint32_t i = 0; i < r->rounds; i++) {
		NTSTATUS status = VmbChannelEnable(r->channel->handle);

		if (status == STATUS_SUCCESS && r->channel->is_server)
			VmbChannelStart(r->channel->handle);
		if (status == STATUS_SUCCESS)
			(void)conf_post(r->channel, i);
		VmbChannelDisable(r->channel->handle);
	}
}

/* Everything at once; then the family is opened again as if nothing had happened. */
static void
subchannels_may_come_and_go_while_the_primary_closes(struct conf_world *w)
{
	struct racer racers[5];
	struct family f;

	open_family(w, &f, 2);
	racers[0] = (struct racer){ .channel = f.primary.client, .rounds = 10 };
	for (uint32_t i = 0; i < 2; i++) {
		racers[1 + 2 * i] = (struct racer){ .channel = f.subs[i].server, .rounds = 40 };
		racers[2 + 2 * i] = (struct racer){ .channel = f.subs[i].client, .rounds = 40 };
	}
	for (uint32_t i = 0; i < 5; i++)
		errand_start(&racers[i].errand, race, &racers[i]);
	for (uint32_t i = 0; i < 5; i++)
		errand_join(&racers[i].errand);
	VmbChannelDisable(f.primary.server->handle);
	for (uint32_t i = 0; i < 2; i++) {
		assert_false(f.subs[i].server->callbacks_overlapped);
		assert_false(f.subs[i].client->callbacks_overlapped);
		assert_int_equal(f.subs[i].client->left[CONF_OPENED], f.subs[i].client->left[CONF_CLOSED]);
		assert_int_equal(f.subs[i].server->left[CONF_OPENED], f.subs[i].server->left[CONF_CLOSED]);
	}
	conf_open(f.primary.server, f.primary.client);
	for (uint32_t i = 0; i < 2; i++) {
		conf_open(f.subs[i].server, f.subs[i].client);
		conf_fence(f.subs[i]);
	}
	conf_fence(f.primary);
}

static const struct conf_test tests[] = {
	CONF_TEST(primary_must_be_an_open_channel_of_the_same_role, "V5-1", CONF_BUSES),
	CONF_TEST(channel_with_subchannels_cannot_become_one, "V5-1", CONF_BUSES),
	CONF_TEST(subchannel_has_the_primarys_identity, "V5-1", CONF_BUSES),
	CONF_TEST(subchannel_is_enabled_only_while_the_primary_is_open, "V5-1", CONF_BUSES),
	CONF_TEST(failed_enable_leaves_the_family_before_another_can_join, "V5-1", CONF_BUSES),
	CONF_TEST(paused_primary_may_have_subchannels, "V5-1", CONF_BUSES),
	CONF_TEST(offers_have_the_lowest_free_index, "V5-1", CONF_BUSES),
	CONF_TEST(clients_take_offers_of_their_kind_only, "V5-1", CONF_BUSES),
	CONF_TEST(each_channel_of_a_family_has_rings_and_a_loop_of_its_own, "V5-1, V5-4", CONF_BUSES),
	CONF_TEST(end_of_the_servers_primary_ends_subchannels_first, "V5-1", CONF_BUSES),
	CONF_TEST(end_of_the_clients_primary_ends_subchannels_first, "V5-1", CONF_BUSES),
	CONF_TEST(what_subchannels_have_indicated_is_waited_for, "V5-1, STM-10", CONF_BUSES),
	CONF_TEST(reopened_primary_has_no_subchannels_of_the_time_before, "V5-1", CONF_BUSES),
	CONF_TEST(subchannel_ends_alone, "V5-1", CONF_BUSES),
	CONF_TEST(failed_enable_does_not_hold_the_primary, "V5-1", CONF_BUSES),
	CONF_TEST(unopened_subchannels_end_silently, "V5-1", CONF_BUSES),
	CONF_TEST(cleanup_of_a_primary_with_subchannels_is_reported_and_safe, "V5-1", CONF_BUSES),
	CONF_TEST(subchannels_callbacks_cannot_end_the_primary, "V5-1, STM-12", CONF_BUSES),
	CONF_TEST(primarys_callbacks_may_enable_and_disable_subchannels, "V5-1", CONF_BUSES),
	CONF_TEST(two_primaries_have_families_of_their_own, "V5-1", CONF_BUSES),
	CONF_TEST(two_guests_have_families_of_their_own, "V5-1", CONF_UNIX),
	CONF_TEST(next_guest_sees_no_subchannels_of_the_one_before, "V5-1", CONF_UNIX),
	CONF_TEST(family_is_handed_over_subchannels_last, "V5-1", CONF_BUSES),
	CONF_TEST(subchannels_may_come_and_go_while_the_primary_closes, "V5-1", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("subchannel", tests);
}
