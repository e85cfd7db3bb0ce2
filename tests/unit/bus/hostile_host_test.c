/* SPDX-License-Identifier: MIT */
/*
 * The guest's machine against a host that keeps no rule, and both machines against bytes that are
 * not even messages. Every waiter is ended exactly once, whatever the host answers.
 */
#include "t_bus.h"

#define C_IDS (1u << 19)

enum c_use { U_NONE, U_IDLE, U_OPENING, U_OPEN, U_RESCINDED };

struct c_world {
	struct vmb_bus_client *bus;
	uint64_t seed;
	uint64_t offences, ended;
	enum c_use use[VMB_CHANNEL_ID_MAX + 1];
	/*
	 * Per GPADL, counted from the first: 0 none, 1 creating, 2 created, 3 tearing down, 4
	 * ended.
	 */
	uint8_t gpadls[C_IDS];
	uint32_t channel_of[C_IDS];
	uint32_t gpadl_count;
	bool connecting, unloading;
	uint64_t connects;
	uint32_t last_open_id;
};

static void
cw_post(void *ctx, uint32_t connection_id, const void *message, uint32_t bytes)
{
	struct c_world *w = ctx;
	struct vmb_msg m;
	const char *why;

	(void)connection_id;
	assert_int_equal(vmb_msg_decode(message, bytes, VMB_FROM_GUEST, w->bus->version,
					w->bus->features, &m, &why),
			 VMB_OK);
	if (m.type == VMB_MSG_OPEN_CHANNEL)
		w->last_open_id = m.open.open_id;
}

static void
cw_connected(void *ctx, uint32_t version, uint32_t features)
{
	struct c_world *w = ctx;

	(void)features;
	assert_true(w->connecting && vmb_version_is_known(version));
	w->connecting = false;
	w->connects++;
}

static void
cw_connect_failed(void *ctx, const char *why)
{
	struct c_world *w = ctx;

	(void)why;
	assert_true(w->connecting);
	w->connecting = false;
}

static void
cw_offered(void *ctx, const struct vmb_msg_offer *offer)
{
	struct c_world *w = ctx;

	assert_true(offer->channel_id >= 1 && offer->channel_id <= VMB_CHANNEL_ID_MAX);
	assert_int_equal(w->use[offer->channel_id], U_NONE);
	w->use[offer->channel_id] = U_IDLE;
}

static void
cw_all(void *ctx)
{
	(void)ctx;
}

static void
cw_rescinded(void *ctx, uint32_t id)
{
	struct c_world *w = ctx;

	/* An open under way was ended before. */
	assert_true(w->use[id] == U_IDLE || w->use[id] == U_OPEN);
	w->use[id] = U_RESCINDED;
}

static void
cw_created(void *ctx, uint32_t id, uint32_t gpadl, uint32_t status)
{
	struct c_world *w = ctx;
	uint32_t i = gpadl - 0xe1e10;

	assert_true(i < w->gpadl_count);
	assert_int_equal(w->gpadls[i], 1);
	assert_int_equal(w->channel_of[i], id);
	w->gpadls[i] = status == 0 ? 2 : 4;
	w->ended++;
}

static void
cw_torndown(void *ctx, uint32_t id, uint32_t gpadl)
{
	struct c_world *w = ctx;
	uint32_t i = gpadl - 0xe1e10;

	assert_true(i < w->gpadl_count);
	assert_int_equal(w->gpadls[i], 3);
	assert_int_equal(w->channel_of[i], id);
	w->gpadls[i] = 4;
	w->ended++;
}

static void
cw_open_result(void *ctx, uint32_t id, uint32_t status)
{
	struct c_world *w = ctx;

	assert_int_equal(w->use[id], U_OPENING);
	w->use[id] = status == 0 ? U_OPEN : U_IDLE;
	w->ended++;
}

static void
cw_unloaded(void *ctx)
{
	struct c_world *w = ctx;

	assert_true(w->unloading);
	w->unloading = false;
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++)
		assert_true(w->use[id] == U_NONE || w->use[id] == U_RESCINDED);
}

static void
cw_misbehaved(void *ctx, const char *what)
{
	struct c_world *w = ctx;

	assert_non_null(what);
	w->offences++;
}

static const struct vmb_bus_client_ops client_world_ops = {
	.post = cw_post,
	.connected = cw_connected,
	.connect_failed = cw_connect_failed,
	.offered = cw_offered,
	.all_offers_delivered = cw_all,
	.rescinded = cw_rescinded,
	.gpadl_created = cw_created,
	.gpadl_torndown = cw_torndown,
	.open_result = cw_open_result,
	.unloaded = cw_unloaded,
	.misbehaved = cw_misbehaved,
};

static uint32_t
recent_gpadl(struct c_world *w)
{
	uint32_t back = t_random(&w->seed) % 24;

	return back < w->gpadl_count ? w->gpadl_count - 1 - back : 0;
}

static void
client_owner_random(struct c_world *w)
{
	uint32_t id = 1 + t_random(&w->seed) % 7;
	struct vmb_bus_client_open o = { .channel_id = id };
	uint8_t ranges[8 + 8 * 40];
	uint32_t g = recent_gpadl(w);
	uint32_t gpadl;
	enum c_use was = w->use[id];
	uint8_t g_was;

	switch (t_random(&w->seed) % 8) {
	case 0:
		if (w->gpadl_count == C_IDS)
			break;
		/* The id is known in advance, so that an answer inside the call would be seen. */
		if (vmb_bus_client_gpadl_create(w->bus, id, ranges,
						t_ranges(ranges, 1 + t_random(&w->seed) % 40), 1,
						&gpadl) != VMB_OK)
			break;
		assert_int_equal(gpadl - 0xe1e10, w->gpadl_count);
		w->channel_of[w->gpadl_count] = id;
		w->gpadls[w->gpadl_count++] = 1;
		break;
	case 1:
	case 2:
		g_was = w->gpadls[g];
		if (w->gpadl_count == 0)
			break;
		if (g_was == 2)
			w->gpadls[g] = 3;
		if (vmb_bus_client_gpadl_teardown(w->bus, w->channel_of[g], 0xe1e10 + g) != VMB_OK)
			w->gpadls[g] = g_was == 2 ? 4 : g_was;
		break;
	case 3:
	case 4:
		o.ring_gpadl = 0xe1e10 + g;
		o.channel_id = w->gpadl_count != 0 ? w->channel_of[g] : id;
		was = w->use[o.channel_id];
		w->use[o.channel_id] = U_OPENING;
		if (vmb_bus_client_open(w->bus, &o) != VMB_OK)
			w->use[o.channel_id] = was;
		else
			assert_int_equal(was, U_IDLE);
		break;
	case 5:
		if (vmb_bus_client_close(w->bus, id) == VMB_OK) {
			assert_int_equal(was, U_OPEN);
			w->use[id] = U_IDLE;
		}
		break;
	case 6:
		if (vmb_bus_client_release(w->bus, id) == VMB_OK) {
			assert_int_equal(was, U_RESCINDED);
			w->use[id] = U_NONE;
		}
		break;
	default:
		if (w->bus->link == CLIENT_DISCONNECTED) {
			w->connecting = true;
			w->connecting = vmb_bus_client_connect(w->bus) == VMB_OK;
		} else if (w->bus->link == CLIENT_CONNECTED && t_random(&w->seed) % 200 == 0) {
			w->unloading = true;
			assert_int_equal(vmb_bus_client_unload(w->bus), VMB_OK);
		} else if (w->bus->link == CLIENT_CONNECTED && !w->bus->offers_requested) {
			assert_int_equal(vmb_bus_client_request_offers(w->bus), VMB_OK);
		}
		break;
	}
}

static void
host_random(struct c_world *w)
{
	static const uint8_t types[] = { 1,  1,  1,  2,  4,  6,  6,  6,  6,  10, 10, 10, 10, 10, 10,
					 12, 12, 12, 12, 15, 17, 17, 20, 23, 24, 26, 28, 15, 15 };
	struct vmb_msg m = { .type = (enum vmb_msg_type)types[t_random(&w->seed) % sizeof(types)] };
	uint32_t id = t_random(&w->seed) % 8;
	uint32_t odd = t_random(&w->seed) % 32;
	uint8_t bytes[VMB_MSG_MAX_BYTES];
	size_t n;

	switch (m.type) {
	case VMB_MSG_OFFER_CHANNEL:
		m.offer.channel_id = id != 0 ? id : 1;
		break;
	case VMB_MSG_RESCIND_OFFER:
		m.channel.channel_id = odd == 0 ? t_random(&w->seed) : id;
		break;
	case VMB_MSG_OPEN_RESULT:
		m.open_result.channel_id = id;
		m.open_result.open_id = w->last_open_id - (odd < 8 ? odd : 0);
		if (id != 0 && w->bus->channels[id] != NULL && odd > 8)
			m.open_result.open_id = w->bus->channels[id]->open_id;
		m.open_result.status = odd % 2;
		break;
	case VMB_MSG_GPADL_CREATED:
	case VMB_MSG_GPADL_TORNDOWN: {
		uint32_t g = recent_gpadl(w);

		m.gpadl.channel_id = odd == 0 || w->gpadl_count == 0 ? id : w->channel_of[g];
		m.gpadl.gpadl_id = odd == 1 ? t_random(&w->seed) : 0xe1e10 + g;
		m.gpadl.status = odd % 4 == 2;
		break;
	}
	case VMB_MSG_VERSION_RESPONSE:
		m.version_response.supported = odd % 4 != 0;
		m.version_response.connection_state = odd == 5;
		m.version_response.version_or_connection_id = t_random(&w->seed);
		break;
	default:
		break;
	}
	n = vmb_msg_encode(&m, w->bus->version, w->bus->features, bytes);
	if (n == 0)
		n = vmb_msg_encode(&m, VMB_VERSION_COPPER, 0xff, bytes);
	if (n != 0)
		vmb_bus_client_message(w->bus, bytes, n);
}

static void
senseless_host_breaks_nothing(void **state)
{
	const struct vmb_bus_client_config config = { .features = 0xbf };
	struct c_world *w = calloc(1, sizeof(*w));

	(void)state;
	assert_non_null(w);
	w->seed = t_seed();
	assert_int_equal(vmb_bus_client_create(&config, &client_world_ops, w, &w->bus), VMB_OK);
	for (uint32_t i = 0; i < 1500000; i++) {
		if (t_random(&w->seed) % 3 != 0)
			host_random(w);
		else
			client_owner_random(w);
	}
	print_message("%llu waits ended, %llu connections, %llu offences\n",
		      (unsigned long long)w->ended, (unsigned long long)w->connects,
		      (unsigned long long)w->offences);
	assert_true(w->ended > 10000);
	assert_true(w->connects > 20);
	vmb_bus_client_lost(w->bus);
	assert_false(w->connecting);
	assert_false(w->unloading);
	/* Nobody waits any more. */
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++)
		assert_true(w->use[id] == U_NONE || w->use[id] == U_RESCINDED);
	for (uint32_t i = 0; i < w->gpadl_count; i++)
		assert_true(w->gpadls[i] == 2 || w->gpadls[i] == 4);
	vmb_bus_client_destroy(w->bus);
	free(w);
}

/* ---- bytes ---------------------------------------------------------------------------------- */

static void
random_bytes_break_neither_machine(void **state)
{
	uint64_t seed = t_seed();

	(void)state;
	for (uint32_t v = 0; v < VMB_VERSION_COUNT; v++) {
		struct t_server *s = t_server_new(NULL);
		struct t_client *c = t_client_new(NULL);

		t_offer(s, "aa");
		t_offer(s, "ab");
		t_connect(s, vmb_versions[v], 0xff & VMB_BUS_SERVER_FEATURES);
		t_client_connect(c, vmb_versions[v]);
		s->pages_beyond = UINT64_MAX;
		for (uint32_t i = 0; i < 30000; i++) {
			uint8_t bytes[VMB_MSG_MAX_BYTES];
			size_t n = t_random(&seed) % (sizeof(bytes) + 1);
			uint32_t ones = t_random(&seed) % 3;

			memset(bytes, 0, sizeof(bytes));
			for (size_t k = 0; k < n; k++)
				bytes[k] = (uint8_t)(ones == 0   ? t_random(&seed)
						     : ones == 1 ? t_random(&seed) % 4
								 : 0);
			bytes[0] = (uint8_t)(t_random(&seed) % 31);
			bytes[1] = bytes[2] = bytes[3] = 0;
			/* Whole contacts and unloads would only end the interesting part. */
			if (bytes[0] == VMB_MSG_INITIATE_CONTACT || bytes[0] == VMB_MSG_UNLOAD)
				bytes[0] = VMB_MSG_OPEN_CHANNEL;
			vmb_bus_server_message(s->bus, t_random(&seed) % 5, bytes, n);
			vmb_bus_client_message(c->bus, bytes, n);
			if (i % 64 == 0) {
				(void)!vmb_bus_server_open_done(s->bus, 1, 0);
				(void)!vmb_bus_server_close_done(s->bus, 1);
				t_log_clear(&s->log);
				t_log_clear(&c->log);
			}
		}
		t_client_free(c);
		t_server_free(s);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(senseless_host_breaks_nothing),
		cmocka_unit_test(random_bytes_break_neither_machine),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
