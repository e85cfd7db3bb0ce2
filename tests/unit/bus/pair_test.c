/* SPDX-License-Identifier: MIT */
/*
 * Both machines back to back, with nothing between them but two queues: whole lives at every
 * protocol version, and long random lives in which messages cross in every order that two queues
 * allow. Both sides keep the rules here, so neither may ever report the other; every wait ends
 * once; and no memory that the guest was told is its own again is still in use by the host.
 */
#include "t_bus.h"

#define CHANNELS 6u
#define MAX_IN_FLIGHT 4096u

struct t_flight {
	uint32_t connection_id;
	uint32_t bytes;
	uint8_t message[VMB_MSG_MAX_BYTES];
};

struct t_queue {
	struct t_flight flights[MAX_IN_FLIGHT];
	uint32_t head, tail;
};

/* A device of the host. */
struct t_device {
	bool used;
	uint32_t id;
	bool must_open, must_close, revoked;
	uint32_t mapped; /* a GPADL, 0 = none */
	bool unwanted;
};

/* A channel as the guest's owner sees it. */
enum t_use { UNKNOWN, IDLE, WAIT_OPEN, IN_USE, ENDED };
struct t_use_of {
	enum t_use use;
	uint32_t ring, buffer; /* 0 = none */
	bool ring_ready, buffer_ready, ring_going, buffer_going;
};

struct t_pair {
	struct vmb_bus_server *server;
	struct vmb_bus_client *client;
	struct t_queue up, down;
	struct t_device devices[CHANNELS];
	struct t_use_of channels[VMB_CHANNEL_ID_MAX + 1];
	uint64_t seed;
	uint64_t steps;
	uint32_t version;
	bool connected, connect_ended, unloaded, all_offers;
	bool lost;
	uint64_t opens, created, rescinds, connects, results_failed;
};

static void
queue_push(struct t_queue *q, uint32_t connection_id, const void *message, uint32_t bytes)
{
	struct t_flight *f = &q->flights[q->head % MAX_IN_FLIGHT];

	assert_true(q->head - q->tail < MAX_IN_FLIGHT);
	f->connection_id = connection_id;
	f->bytes = bytes;
	memcpy(f->message, message, bytes);
	q->head++;
}

/* ---- host ----------------------------------------------------------------------------------- */

static void
h_post(void *ctx, const void *message, uint32_t bytes)
{
	struct t_pair *p = ctx;

	queue_push(&p->down, 0, message, bytes);
}

static void
h_connected(void *ctx, uint32_t version, uint32_t features)
{
	(void)ctx;
	(void)version;
	(void)features;
}

static void
h_disconnected(void *ctx)
{
	struct t_pair *p = ctx;

	for (uint32_t i = 0; i < CHANNELS; i++) {
		assert_false(p->devices[i].must_open);
		assert_false(p->devices[i].must_close);
		assert_int_equal(p->devices[i].mapped, 0);
	}
}

static bool
h_pages_exist(void *ctx, const struct vmb_gpa_range *range)
{
	(void)ctx;
	return vmb_gpa_pfn(range, range->page_count - 1) != 0;
}

static void
h_open(void *ctx, void *cookie, const struct vmb_bus_open *open)
{
	struct t_device *d = cookie;

	(void)ctx;
	assert_true(d->used && !d->must_open && !d->must_close);
	assert_int_equal(open->channel_id, d->id);
	d->must_open = true;
}

static void
h_close(void *ctx, void *cookie)
{
	struct t_device *d = cookie;

	(void)ctx;
	assert_true(d->used && !d->must_open && !d->must_close);
	d->must_close = true;
}

static void
h_released(void *ctx, void *cookie)
{
	struct t_device *d = cookie;

	(void)ctx;
	assert_true(d->used && d->revoked && !d->must_open && !d->must_close && d->mapped == 0);
	memset(d, 0, sizeof(*d));
}

static void
h_unwanted(void *ctx, void *cookie, uint32_t gpadl_id)
{
	struct t_device *d = cookie;

	(void)ctx;
	assert_int_equal(d->mapped, gpadl_id);
	d->unwanted = true;
}

static void
misbehaved(void *ctx, const char *what)
{
	struct t_pair *p = ctx;

	print_error("step %llu: %s\n", (unsigned long long)p->steps, what);
	fail();
}

static bool
h_retarget(void *ctx, void *cookie, uint32_t vp)
{
	(void)ctx;
	(void)cookie;
	(void)vp;
	return true;
}

/* ---- guest ---------------------------------------------------------------------------------- */

static void
g_post(void *ctx, uint32_t connection_id, const void *message, uint32_t bytes)
{
	struct t_pair *p = ctx;

	queue_push(&p->up, connection_id, message, bytes);
}

static void
g_connected(void *ctx, uint32_t version, uint32_t features)
{
	struct t_pair *p = ctx;

	(void)features;
	p->version = version;
	p->connected = true;
	p->connects++;
}

static void
g_connect_failed(void *ctx, const char *why)
{
	struct t_pair *p = ctx;

	(void)why;
	p->connect_ended = true;
}

static void
g_offered(void *ctx, const struct vmb_msg_offer *offer)
{
	struct t_pair *p = ctx;
	struct t_use_of *c = &p->channels[offer->channel_id];

	assert_int_equal(c->use, UNKNOWN);
	memset(c, 0, sizeof(*c));
	c->use = IDLE;
}

static void
g_all_offers(void *ctx)
{
	struct t_pair *p = ctx;

	assert_false(p->all_offers);
	p->all_offers = true;
}

static void
g_rescinded(void *ctx, uint32_t id)
{
	struct t_pair *p = ctx;
	struct t_use_of *c = &p->channels[id];

	/* Every waiter has been ended before. */
	assert_true(c->use == IDLE || c->use == IN_USE);
	assert_true(c->ring == 0 || (c->ring_ready && !c->ring_going));
	assert_true(c->buffer == 0 || (c->buffer_ready && !c->buffer_going));
	c->use = ENDED;
	p->rescinds++;
}

/* The guest is about to reuse this memory: nobody on the host may hold it. */
static void
assert_host_let_go(struct t_pair *p, uint32_t channel_id, uint32_t gpadl_id)
{
	struct vmb_bus_server *s = p->server;

	/*
	 * A lost transport promises nothing, and neither does an unload of 0.13, which has no
	 * answer.
	 */
	if (p->lost || (p->version == VMB_VERSION_V1 && p->client->link != CLIENT_CONNECTED))
		return;
	assert_int_equal(vmb_gpadl_device_maps(s->gpadls, channel_id, gpadl_id), 0);
	assert_int_equal(vmb_gpadl_unmap(s->gpadls, VMB_GPADL_BY_RING, channel_id, gpadl_id),
			 VMB_E_NOT_FOUND);
}

static void
g_created(void *ctx, uint32_t id, uint32_t gpadl, uint32_t status)
{
	struct t_pair *p = ctx;
	struct t_use_of *c = &p->channels[id];
	bool is_ring = gpadl == c->ring;
	bool *ready = is_ring ? &c->ring_ready : &c->buffer_ready;

	assert_true(is_ring || gpadl == c->buffer);
	assert_false(*ready);
	*ready = status == 0;
	p->created++;
	if (status == 0)
		return;
	assert_host_let_go(p, id, gpadl);
	if (is_ring)
		c->ring = 0;
	else
		c->buffer = 0;
}

static void
g_torndown(void *ctx, uint32_t id, uint32_t gpadl)
{
	struct t_pair *p = ctx;
	struct t_use_of *c = &p->channels[id];

	assert_host_let_go(p, id, gpadl);
	if (gpadl == c->ring) {
		assert_true(c->ring_going);
		c->ring = 0;
		c->ring_ready = c->ring_going = false;
	} else {
		assert_int_equal(gpadl, c->buffer);
		assert_true(c->buffer_going);
		c->buffer = 0;
		c->buffer_ready = c->buffer_going = false;
	}
}

static void
g_open_result(void *ctx, uint32_t id, uint32_t status)
{
	struct t_pair *p = ctx;
	struct t_use_of *c = &p->channels[id];

	assert_int_equal(c->use, WAIT_OPEN);
	c->use = status == 0 ? IN_USE : IDLE;
	p->opens += status == 0;
	p->results_failed += status != 0;
}

static void
g_unloaded(void *ctx)
{
	struct t_pair *p = ctx;

	assert_false(p->unloaded);
	p->unloaded = true;
	p->connected = false;
}

/* ---- the pair ------------------------------------------------------------------------------- */

static struct t_pair *
pair_new(uint32_t version, uint32_t features)
{
	static const struct vmb_bus_server_ops server_ops = {
		.post = h_post,
		.connected = h_connected,
		.disconnected = h_disconnected,
		.pages_exist = h_pages_exist,
		.open = h_open,
		.close = h_close,
		.released = h_released,
		.gpadl_unwanted = h_unwanted,
		.misbehaved = misbehaved,
		.retarget = h_retarget,
	};
	static const struct vmb_bus_client_ops client_ops = {
		.post = g_post,
		.connected = g_connected,
		.connect_failed = g_connect_failed,
		.offered = g_offered,
		.all_offers_delivered = g_all_offers,
		.rescinded = g_rescinded,
		.gpadl_created = g_created,
		.gpadl_torndown = g_torndown,
		.open_result = g_open_result,
		.unloaded = g_unloaded,
		.misbehaved = misbehaved,
	};
	struct vmb_bus_server_config host = { .newest_version = version,
					      .features = VMB_BUS_SERVER_FEATURES };
	struct vmb_bus_client_config guest = { .features = features };
	struct t_pair *p = calloc(1, sizeof(*p));

	assert_non_null(p);
	assert_int_equal(vmb_bus_server_create(&host, &server_ops, p, &p->server), VMB_OK);
	assert_int_equal(vmb_bus_client_create(&guest, &client_ops, p, &p->client), VMB_OK);
	return p;
}

static void
pair_free(struct t_pair *p)
{
	vmb_bus_client_destroy(p->client);
	vmb_bus_server_destroy(p->server);
	free(p);
}

static bool
deliver_up(struct t_pair *p)
{
	struct t_flight f;

	if (p->up.tail == p->up.head)
		return false;
	f = p->up.flights[p->up.tail++ % MAX_IN_FLIGHT];
	vmb_bus_server_message(p->server, f.connection_id, f.message, f.bytes);
	return true;
}

static bool
deliver_down(struct t_pair *p)
{
	struct t_flight f;

	if (p->down.tail == p->down.head)
		return false;
	f = p->down.flights[p->down.tail++ % MAX_IN_FLIGHT];
	vmb_bus_client_message(p->client, f.message, f.bytes);
	return true;
}

/* What a device owes the bus. */
static bool
device_work(struct t_pair *p, struct t_device *d, uint32_t open_status)
{
	if (d->must_open) {
		d->must_open = false;
		assert_int_equal(vmb_bus_server_open_done(p->server, d->id, open_status), VMB_OK);
		return true;
	}
	if (d->mapped != 0 && (d->unwanted || d->must_close)) {
		uint32_t gpadl = d->mapped;

		d->mapped = 0;
		d->unwanted = false;
		assert_int_equal(vmb_bus_server_gpadl_unmap(p->server, d->id, gpadl), VMB_OK);
		return true;
	}
	if (d->must_close) {
		d->must_close = false;
		assert_int_equal(vmb_bus_server_close_done(p->server, d->id), VMB_OK);
		return true;
	}
	return false;
}

/* Until nothing is left to do. */
static void
settle(struct t_pair *p)
{
	bool busy = true;

	while (busy) {
		busy = false;
		while (deliver_up(p) || deliver_down(p))
			busy = true;
		for (uint32_t i = 0; i < CHANNELS; i++) {
			if (p->devices[i].used && device_work(p, &p->devices[i], 0))
				busy = true;
		}
	}
}

static uint32_t
add_device(struct t_pair *p, uint32_t i)
{
	static const char *const names[CHANNELS] = { "aa", "ab", "ac", "ad", "ba", "bb" };
	struct t_device *d = &p->devices[i];
	struct vmb_msg_offer offer;

	t_offer_fill(&offer, names[i], 0);
	d->used = true;
	assert_int_equal(vmb_bus_server_offer(p->server, &offer, d, &d->id), VMB_OK);
	return d->id;
}

static uint32_t
make_gpadl(struct t_pair *p, uint32_t id, uint32_t pages)
{
	uint8_t ranges[8 + 8 * 100];
	uint32_t gpadl = 0;

	assert_int_equal(
	    vmb_bus_client_gpadl_create(p->client, id, ranges, t_ranges(ranges, pages), 1, &gpadl),
	    VMB_OK);
	return gpadl;
}

static void
guest_open(struct t_pair *p, uint32_t id)
{
	struct vmb_bus_client_open o = { .channel_id = id,
					 .ring_gpadl = p->channels[id].ring,
					 .downstream_page_offset = 2 };

	p->channels[id].use = WAIT_OPEN;
	assert_int_equal(vmb_bus_client_open(p->client, &o), VMB_OK);
}

static void
guest_teardown(struct t_pair *p, uint32_t id, bool ring)
{
	struct t_use_of *c = &p->channels[id];

	if (ring)
		c->ring_going = true;
	else
		c->buffer_going = true;
	assert_int_equal(vmb_bus_client_gpadl_teardown(p->client, id, ring ? c->ring : c->buffer),
			 VMB_OK);
}

static void
whole_life(uint32_t version)
{
	struct t_pair *p = pair_new(version, 0xff & ~VMB_FEATURE_SERVER_MONITOR_PAGES);
	struct vmb_gpadl_usage usage;

	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(add_device(p, i), i + 1);
	for (uint32_t round = 0; round < 2; round++) {
		p->unloaded = p->all_offers = false;
		assert_int_equal(vmb_bus_client_connect(p->client), VMB_OK);
		settle(p);
		assert_true(p->connected);
		assert_int_equal(p->version, version);
		assert_int_equal(vmb_bus_server_version(p->server), version);
		assert_int_equal(vmb_bus_client_request_offers(p->client), VMB_OK);
		settle(p);
		assert_true(p->all_offers);
		for (uint32_t id = 1; id <= 3; id++) {
			struct t_use_of *c = &p->channels[id];

			assert_int_equal(c->use, IDLE);
			c->ring = make_gpadl(p, id, id == 2 ? 100 : 4);
			settle(p);
			assert_true(c->ring_ready);
			guest_open(p, id);
			settle(p);
			assert_int_equal(c->use, IN_USE);
		}
		/*
		 * 1: closed and torn down. 2: closed and opened again on the same ring. 3: revoked.
		 */
		assert_int_equal(vmb_bus_client_close(p->client, 1), VMB_OK);
		p->channels[1].use = IDLE;
		guest_teardown(p, 1, true);
		assert_int_equal(vmb_bus_client_close(p->client, 2), VMB_OK);
		guest_open(p, 2);
		p->devices[2].revoked = true;
		assert_int_equal(vmb_bus_server_revoke(p->server, 3), VMB_OK);
		settle(p);
		assert_int_equal(p->channels[1].ring, 0);
		assert_int_equal(p->channels[2].use, IN_USE);
		assert_int_equal(p->channels[3].use, ENDED);
		guest_teardown(p, 3, true);
		assert_int_equal(vmb_bus_client_release(p->client, 3), VMB_OK);
		p->channels[3].use = UNKNOWN;
		settle(p);
		/* It comes back under its old id. */
		assert_false(p->devices[2].used);
		assert_int_equal(add_device(p, 2), 3);
		settle(p);
		assert_int_equal(p->channels[3].use, IDLE);
		/* The end, with one channel open. */
		assert_int_equal(vmb_bus_client_unload(p->client), VMB_OK);
		settle(p);
		assert_true(p->unloaded);
		for (uint32_t id = 1; id <= 3; id++) {
			assert_int_equal(p->channels[id].use, ENDED);
			assert_int_equal(vmb_bus_client_release(p->client, id), VMB_OK);
			p->channels[id].use = UNKNOWN;
		}
		assert_int_equal(vmb_bus_server_version(p->server), 0);
		vmb_gpadl_get_usage(p->server->gpadls, &usage);
		assert_int_equal(usage.gpadls, 0);
		assert_int_equal(usage.pages, 0);
	}
	pair_free(p);
}

static void
whole_lives_at_every_version(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < VMB_VERSION_COUNT; i++)
		whole_life(vmb_versions[i]);
}

static void
guest_without_a_common_version_is_told(void **state)
{
	struct t_pair *p = pair_new(VMB_VERSION_WIN8, 0);

	(void)state;
	p->client->config.oldest_version = VMB_VERSION_WIN10;
	assert_int_equal(vmb_bus_client_connect(p->client), VMB_OK);
	settle(p);
	assert_true(p->connect_ended);
	assert_false(p->connected);
	pair_free(p);
}

/* ---- random lives --------------------------------------------------------------------------- */

static void
host_step(struct t_pair *p)
{
	uint32_t i = t_random(&p->seed) % CHANNELS;
	struct t_device *d = &p->devices[i];
	const void *ranges;
	uint32_t bytes, count;
	struct t_use_of *c;

	if (!d->used) {
		if (t_random(&p->seed) % 4 == 0)
			add_device(p, i);
		return;
	}
	c = &p->channels[d->id];
	switch (t_random(&p->seed) % 8) {
	case 0:
		if (t_random(&p->seed) % 8 != 0 || d->revoked)
			break;
		d->revoked = true;
		assert_int_equal(vmb_bus_server_revoke(p->server, d->id), VMB_OK);
		break;
	case 1:
		if (d->mapped == 0 && !d->must_open && c->buffer != 0 &&
		    vmb_bus_server_gpadl_map(p->server, d->id, c->buffer, &ranges, &bytes,
					     &count) == VMB_OK)
			d->mapped = c->buffer;
		break;
	case 2:
		if (d->mapped == 0)
			break;
		count = d->mapped;
		d->mapped = 0;
		d->unwanted = false;
		assert_int_equal(vmb_bus_server_gpadl_unmap(p->server, d->id, count), VMB_OK);
		break;
	default:
		device_work(p, d, t_random(&p->seed) % 8 == 0 ? 0xc0000001 : 0);
		break;
	}
}

static void
guest_connection_step(struct t_pair *p)
{
	if (p->client->link == CLIENT_DISCONNECTED) {
		if (vmb_bus_client_connect(p->client) == VMB_OK)
			p->unloaded = p->all_offers = false;
	} else if (p->connected && !p->client->offers_requested && !p->unloaded) {
		if (p->client->link == CLIENT_CONNECTED)
			assert_int_equal(vmb_bus_client_request_offers(p->client), VMB_OK);
	} else if (t_random(&p->seed) % 400 == 0) {
		if (p->client->link == CLIENT_CONNECTED)
			assert_int_equal(vmb_bus_client_unload(p->client), VMB_OK);
	}
}

static void
guest_ended_step(struct t_pair *p, uint32_t id)
{
	struct t_use_of *c = &p->channels[id];

	if (c->ring != 0 && t_random(&p->seed) % 2 == 0) {
		guest_teardown(p, id, true);
	} else if (t_random(&p->seed) % 4 == 0) {
		memset(c, 0, sizeof(*c));
		assert_int_equal(vmb_bus_client_release(p->client, id), VMB_OK);
	}
}

static void
guest_step(struct t_pair *p)
{
	uint32_t id = 1 + t_random(&p->seed) % (CHANNELS + 2);
	struct t_use_of *c = &p->channels[id];
	bool live = p->client->link == CLIENT_CONNECTED;

	if (c->use == ENDED) {
		guest_ended_step(p, id);
		return;
	}
	if (!live || c->use == UNKNOWN)
		return;
	switch (t_random(&p->seed) % 6) {
	case 0:
		if (c->ring == 0)
			c->ring = make_gpadl(p, id, 4 + t_random(&p->seed) % 90);
		break;
	case 1:
		if (c->buffer == 0)
			c->buffer = make_gpadl(p, id, 1 + t_random(&p->seed) % 90);
		break;
	case 2:
		if (c->use == IDLE && c->ring_ready && !c->ring_going)
			guest_open(p, id);
		break;
	case 3:
		if (c->use == IN_USE) {
			c->use = IDLE;
			assert_int_equal(vmb_bus_client_close(p->client, id), VMB_OK);
		}
		break;
	case 4:
		/* While the device still closes: the host must wait. */
		if (c->use == IDLE && c->ring_ready && !c->ring_going)
			guest_teardown(p, id, true);
		break;
	case 5:
		if (c->buffer_ready && !c->buffer_going)
			guest_teardown(p, id, false);
		break;
	}
}

static void
random_life(uint64_t seed, uint32_t version, uint64_t steps)
{
	struct t_pair *p = pair_new(version, 0);
	struct vmb_gpadl_usage usage;

	p->seed = seed;
	for (p->steps = 0; p->steps < steps; p->steps++) {
		switch (t_random(&p->seed) % 8) {
		case 0:
		case 1:
			host_step(p);
			break;
		case 2:
		case 3:
			guest_step(p);
			break;
		case 4:
			guest_connection_step(p);
			break;
		case 5:
			(void)deliver_up(p);
			break;
		default:
			/* In bursts, so that queues both fill and drain. */
			for (uint32_t n = t_random(&p->seed) % 8; n > 0; n--) {
				(void)deliver_up(p);
				(void)deliver_down(p);
			}
			break;
		}
	}
	/* Everybody must have lived. */
	assert_true(p->opens > steps / 2000);
	assert_true(p->rescinds > steps / 5000);
	assert_true(p->connects > 1);
	settle(p);
	p->lost = true;
	vmb_bus_client_lost(p->client);
	vmb_bus_server_lost(p->server);
	settle(p);
	for (uint32_t i = 0; i < CHANNELS; i++) {
		struct t_device *d = &p->devices[i];

		assert_int_equal(d->mapped, 0);
	}
	vmb_gpadl_get_usage(p->server->gpadls, &usage);
	assert_int_equal(usage.gpadls, 0);
	assert_int_equal(usage.in_progress, 0);
	assert_int_equal(usage.pages, 0);
	pair_free(p);
}

static void
random_lives_break_no_rule_on_either_side(void **state)
{
	uint64_t seed = t_seed();

	(void)state;
	for (uint32_t i = 0; i < VMB_VERSION_COUNT; i++)
		random_life(seed + 2 * i, vmb_versions[i], 60000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_lives_at_every_version),
		cmocka_unit_test(guest_without_a_common_version_is_told),
		cmocka_unit_test(random_lives_break_no_rule_on_either_side),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
