/* SPDX-License-Identifier: MIT */
/* The guest's machine: contact, offers, GPADLs, opens, and the end of everybody who waits. */
#include "t_bus.h"

static void
ok(enum vmb_status st)
{
	assert_int_equal(st, VMB_OK);
}

static uint32_t
gpadl(struct t_client *t, uint32_t channel_id, uint32_t pages)
{
	static uint8_t ranges[8 + 8 * 8190];
	uint32_t bytes = t_ranges(ranges, pages);
	uint32_t id = 0;

	ok(vmb_bus_client_gpadl_create(t->bus, channel_id, ranges, bytes, 1, &id));
	return id;
}

static enum vmb_status
open_channel(struct t_client *t, uint32_t channel_id, uint32_t ring)
{
	struct vmb_bus_client_open o = { .channel_id = channel_id,
					 .ring_gpadl = ring,
					 .downstream_page_offset = 2,
					 .target_vp = 3 };

	return vmb_bus_client_open(t->bus, &o);
}

/* Channel 1 in this state, with ring GPADL e1e10 created. */
static struct t_client *
world_in(enum client_channel_state state)
{
	struct t_client *t = t_client_new(NULL);

	t_client_connect(t, VMB_VERSION_IRON);
	assert_int_equal(gpadl(t, 1, 4), 0xe1e10);
	t_host_created(t, 1, 0xe1e10, 0);
	if (state == CC_OPENING || state == CC_OPEN)
		ok(open_channel(t, 1, 0xe1e10));
	if (state == CC_OPEN)
		t_host_open_result(t, 1, t->last_open.open_id, 0);
	if (state == CC_RESCINDED || state == CC_GONE)
		t_host_channel(t, VMB_MSG_RESCIND_OFFER, 1);
	if (state == CC_GONE)
		ok(vmb_bus_client_release(t->bus, 1));
	else
		assert_int_equal(t->bus->channels[1]->state, state);
	t_log_clear(&t->log);
	return t;
}

/* ---- contact -------------------------------------------------------------------------------- */

static void
contact_walks_down_the_versions_on_the_right_connections(void **state)
{
	struct t_client *t = t_client_new(NULL);

	(void)state;
	ok(vmb_bus_client_connect(t->bus));
	for (uint32_t i = VMB_VERSION_COUNT; i-- > 0;) {
		char line[80];

		snprintf(line, sizeof(line), "InitiateContact %x features 0 vp 0\n",
			 vmb_versions[i]);
		t_client_expect(t, line);
		assert_int_equal(t->connection_id,
				 vmb_versions[i] >= VMB_VERSION_WIN10_RS3_1 ? 4 : 1);
		t_host_version(t, false, 0, 0, 0);
	}
	t_client_expect(t, "connect failed\n");
	assert_int_equal(vmb_bus_client_version(t->bus), 0);
	/* And again. */
	ok(vmb_bus_client_connect(t->bus));
	t_client_expect(t, "InitiateContact 60000 features 0 vp 0\n");
	t_client_free(t);
}

static void
contact_stays_within_the_configured_versions(void **state)
{
	struct vmb_bus_client_config config = { .newest_version = VMB_VERSION_WIN10_RS4,
						.oldest_version = VMB_VERSION_WIN10_RS3_1,
						.target_message_vp = 9 };
	struct t_client *t = t_client_new(&config);

	(void)state;
	ok(vmb_bus_client_connect(t->bus));
	t_host_version(t, false, 0, 0, 0);
	t_host_version(t, false, 0, 0, 0);
	t_client_expect(t, "InitiateContact 50001 features 0 vp 9\n"
			   "InitiateContact 50000 features 0 vp 9\nconnect failed\n");
	t_client_free(t);
}

static void
supported_with_a_bad_state_gives_up(void **state)
{
	(void)state;
	for (uint8_t bad = 1; bad < 4; bad++) {
		struct t_client *t = t_client_new(NULL);

		ok(vmb_bus_client_connect(t->bus));
		t_log_clear(&t->log);
		t_host_version(t, true, bad, 1, 0);
		t_client_expect(t, "connect failed\n");
		t_client_free(t);
	}
}

static void
later_messages_go_where_the_answer_says_from_5_0_on(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < VMB_VERSION_COUNT; i++) {
		struct vmb_bus_client_config config = { .newest_version = vmb_versions[i] };
		struct t_client *t = t_client_new(&config);

		ok(vmb_bus_client_connect(t->bus));
		t_host_version(t, true, 0, 0x1234, 0);
		ok(vmb_bus_client_request_offers(t->bus));
		assert_int_equal(t->connection_id,
				 vmb_versions[i] >= VMB_VERSION_WIN10_RS3_1 ? 0x1234 : 1);
		t_client_free(t);
	}
}

static void
features_nobody_asked_for_are_not_believed(void **state)
{
	struct vmb_bus_client_config config = { .features = VMB_FEATURE_PAUSE_RESUME |
							    VMB_FEATURE_CLIENT_ID };
	struct t_client *t = t_client_new(&config);

	(void)state;
	ok(vmb_bus_client_connect(t->bus));
	t_host_version(t, true, 0, 1,
		       0xff & ~VMB_FEATURE_CLIENT_ID & ~VMB_FEATURE_SERVER_MONITOR_PAGES);
	t_client_expect(t, "InitiateContact 60000 features 28 vp 0\nmisbehaved\n"
			   "connected 60000 features 20\n");
	t_client_free(t);
}

static void
requests_out_of_turn_are_refused(void **state)
{
	struct t_client *t = t_client_new(NULL);
	uint8_t ranges[64];
	uint32_t id;

	(void)state;
	assert_int_equal(vmb_bus_client_request_offers(t->bus), VMB_E_STATE);
	assert_int_equal(vmb_bus_client_unload(t->bus), VMB_E_STATE);
	ok(vmb_bus_client_connect(t->bus));
	assert_int_equal(vmb_bus_client_connect(t->bus), VMB_E_STATE);
	assert_int_equal(vmb_bus_client_unload(t->bus), VMB_E_STATE);
	t_host_version(t, true, 0, 1, 0);
	assert_int_equal(vmb_bus_client_connect(t->bus), VMB_E_STATE);
	ok(vmb_bus_client_request_offers(t->bus));
	assert_int_equal(vmb_bus_client_request_offers(t->bus), VMB_E_STATE);
	assert_int_equal(
	    vmb_bus_client_gpadl_create(t->bus, 1, ranges, t_ranges(ranges, 2), 1, &id),
	    VMB_E_NOT_FOUND);
	assert_int_equal(open_channel(t, 1, 1), VMB_E_NOT_FOUND);
	assert_int_equal(vmb_bus_client_close(t->bus, 1), VMB_E_NOT_FOUND);
	assert_int_equal(vmb_bus_client_release(t->bus, 4000), VMB_E_NOT_FOUND);
	assert_int_equal(vmb_bus_client_gpadl_teardown(t->bus, 1, 1), VMB_E_NOT_FOUND);
	t_client_free(t);
}

static void
create_refuses_what_makes_no_sense(void **state)
{
	const struct vmb_bus_client_ops none = { 0 };
	struct t_client *t = t_client_new(NULL);
	struct vmb_bus_client_config config = { 0 };
	struct vmb_bus_client *bus;

	(void)state;
	assert_int_equal(vmb_bus_client_create(&config, &none, NULL, &bus), VMB_E_INVALID);
	config.newest_version = 7;
	assert_int_equal(vmb_bus_client_create(&config, &t->bus->ops, NULL, &bus), VMB_E_INVALID);
	config.newest_version = VMB_VERSION_WIN8;
	config.oldest_version = VMB_VERSION_WIN10;
	assert_int_equal(vmb_bus_client_create(&config, &t->bus->ops, NULL, &bus), VMB_E_INVALID);
	config.oldest_version = 0;
	config.features = 0x100;
	assert_int_equal(vmb_bus_client_create(&config, &t->bus->ops, NULL, &bus),
			 VMB_E_UNSUPPORTED);
	vmb_bus_client_destroy(NULL);
	t_client_free(t);
}

/* ---- messages out of place ------------------------------------------------------------------ */

static void
every_message_before_contact_is_dropped(void **state)
{
	struct t_client *t = t_client_new(NULL);
	uint8_t bytes[VMB_MSG_MAX_BYTES + 1] = { 0 };

	(void)state;
	for (uint8_t type = 0; type < VMB_MSG_TYPE_END + 2; type++) {
		bytes[0] = type;
		vmb_bus_client_message(t->bus, bytes, VMB_MSG_MAX_BYTES);
		t_client_expect(t, "misbehaved\n");
	}
	t_client_free(t);
}

static void
every_message_that_nobody_asked_for_is_dropped(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < VMB_VERSION_COUNT; i++) {
		struct t_client *t = t_client_new(NULL);
		uint8_t bytes[VMB_MSG_MAX_BYTES + 1] = { 0 };

		t_client_connect(t, vmb_versions[i]);
		for (uint8_t type = 0; type < VMB_MSG_TYPE_END + 2; type++) {
			bytes[0] = type;
			vmb_bus_client_message(t->bus, bytes, VMB_MSG_MAX_BYTES);
			t_client_expect(t, "misbehaved\n");
		}
		bytes[0] = VMB_MSG_OFFER_CHANNEL;
		vmb_bus_client_message(t->bus, bytes, VMB_MSG_MAX_BYTES + 1);
		vmb_bus_client_message(t->bus, bytes, 188);
		vmb_bus_client_message(t->bus, bytes, 0);
		t_client_expect(t, "misbehaved\nmisbehaved\nmisbehaved\n");
		t_client_free(t);
	}
}

static void
offers_out_of_range_twice_or_too_early_are_dropped(void **state)
{
	static const struct {
		uint32_t id;
		const char *line;
	} offers[] = {
		{ 0, "misbehaved\n" },          { 1, "misbehaved\n" },
		{ 3, "offered 3\n" },           { 2046, "offered 2046\n" },
		{ 2047, "offered 2047\n" },     { 2048, "misbehaved\n" },
		{ UINT32_MAX, "misbehaved\n" },
	};
	struct t_client *t = t_client_new(NULL);

	(void)state;
	ok(vmb_bus_client_connect(t->bus));
	t_host_version(t, true, 0, 1, 0);
	t_log_clear(&t->log);
	t_host_offer(t, 1);
	t_host_channel(t, VMB_MSG_ALL_OFFERS_DELIVERED, 0);
	t_client_expect(t, "misbehaved\nmisbehaved\n");
	t_client_free(t);

	t = t_client_new(NULL);
	t_client_connect(t, VMB_VERSION_IRON);
	for (size_t i = 0; i < sizeof(offers) / sizeof(offers[0]); i++) {
		t_host_offer(t, offers[i].id);
		t_client_expect(t, offers[i].line);
	}
	assert_null(vmb_bus_client_find(t->bus, 0));
	assert_null(vmb_bus_client_find(t->bus, 2048));
	assert_int_equal(vmb_bus_client_find(t->bus, 2047)->channel_id, 2047);
	t_client_free(t);
}

static void
rescind_of_what_was_never_offered_or_twice_is_dropped(void **state)
{
	struct t_client *t = world_in(CC_OFFERED);

	(void)state;
	t_host_channel(t, VMB_MSG_RESCIND_OFFER, 0);
	t_host_channel(t, VMB_MSG_RESCIND_OFFER, 77);
	t_host_channel(t, VMB_MSG_RESCIND_OFFER, UINT32_MAX);
	t_client_expect(t, "misbehaved\nmisbehaved\nmisbehaved\n");
	t_host_channel(t, VMB_MSG_RESCIND_OFFER, 1);
	t_host_channel(t, VMB_MSG_RESCIND_OFFER, 1);
	t_client_expect(t, "rescinded 1\nmisbehaved\n");
	t_client_free(t);
}

/* ---- every event in every state ------------------------------------------------------------- */

static void
every_event_in_every_state_follows_the_table(void **state)
{
	(void)state;
	for (uint32_t s = 0; s < CC_STATES; s++) {
		for (uint32_t e = 0; e < CE_EVENTS; e++) {
			const struct client_edge *edge = &client_edges[s][e];
			struct t_client *t = world_in((enum client_channel_state)s);
			uint32_t open_id = t->last_open.open_id;
			enum client_channel_state now;
			enum vmb_status st = VMB_OK;
			uint64_t offences = t->log.offences;
			bool of_host = e == CE_OPENED || e == CE_REFUSED || e == CE_RESCIND;

			switch ((enum client_channel_event)e) {
			case CE_OPEN:
				st = open_channel(t, 1, 0xe1e10);
				break;
			case CE_OPENED:
				t_host_open_result(t, 1, open_id, 0);
				break;
			case CE_REFUSED:
				t_host_open_result(t, 1, open_id, 5);
				break;
			case CE_CLOSE:
				st = vmb_bus_client_close(t->bus, 1);
				break;
			case CE_RESCIND:
				t_host_channel(t, VMB_MSG_RESCIND_OFFER, 1);
				break;
			case CE_RELEASE:
				st = vmb_bus_client_release(t->bus, 1);
				break;
			case CE_EVENTS:
				break;
			}
			now = t->bus->channels[1] != NULL ? t->bus->channels[1]->state : CC_GONE;
			if (now != (edge->allowed ? edge->next : (enum client_channel_state)s))
				print_error("event %u in \"%s\"\n", e,
					    client_state_name((enum client_channel_state)s));
			assert_int_equal(now,
					 edge->allowed ? edge->next : (enum client_channel_state)s);
			if (of_host)
				assert_int_equal(t->log.offences, offences + !edge->allowed);
			else
				assert_int_equal(st == VMB_OK, edge->allowed);
			t_client_free(t);
		}
	}
}

/* ---- GPADLs --------------------------------------------------------------------------------- */

static void
gpadl_is_cut_into_header_and_bodies(void **state)
{
	static const uint32_t lengths[] = { 1, 25, 26, 27, 28, 53, 54, 55, 56, 8189, 8190 };
	struct t_client *t = t_client_new(NULL);

	(void)state;
	t_client_connect(t, VMB_VERSION_IRON);
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		uint32_t pages = lengths[i];
		uint32_t bodies = pages <= 26 ? 0 : (pages - 26 + 27) / 28;
		uint32_t id = gpadl(t, 1, pages);
		const char *at = t->log.text;
		uint32_t lines = 0;

		while ((at = strchr(at, '\n')) != NULL) {
			at++;
			lines++;
		}
		assert_int_equal(lines, 1 + bodies);
		t_log_clear(&t->log);
		t_host_created(t, 1, id, 0);
		t_log_clear(&t->log);
	}
	gpadl(t, 1, 55);
	t_client_expect(t, "GpadlHeader 1/e1e1b bytes 448 ranges 1 here 27\n"
			   "GpadlBody e1e1b number 1 here 28\nGpadlBody e1e1b number 2 here 1\n");
	t_client_free(t);
}

static void
bad_ranges_are_refused_before_anything_is_posted(void **state)
{
	static uint8_t big[65544];
	struct t_client *t = world_in(CC_OFFERED);
	uint8_t ranges[64];
	uint32_t bytes = t_ranges(ranges, 4);
	uint32_t id;

	(void)state;
	assert_int_equal(vmb_bus_client_gpadl_create(t->bus, 1, ranges, bytes - 8, 1, &id),
			 VMB_E_INVALID);
	assert_int_equal(vmb_bus_client_gpadl_create(t->bus, 1, ranges, bytes - 1, 1, &id),
			 VMB_E_INVALID);
	assert_int_equal(vmb_bus_client_gpadl_create(t->bus, 1, ranges, bytes + 8, 1, &id),
			 VMB_E_INVALID);
	assert_int_equal(vmb_bus_client_gpadl_create(t->bus, 1, ranges, bytes, 0, &id),
			 VMB_E_INVALID);
	assert_int_equal(vmb_bus_client_gpadl_create(t->bus, 1, ranges, bytes, 2, &id),
			 VMB_E_INVALID);
	assert_int_equal(vmb_bus_client_gpadl_create(t->bus, 1, ranges, 0, 1, &id), VMB_E_INVALID);
	t_ranges(big, 8191);
	assert_int_equal(vmb_bus_client_gpadl_create(t->bus, 1, big, 65536, 1, &id), VMB_E_LIMIT);
	t_client_expect(t, "");
	t_client_free(t);
}

static void
ids_skip_zero_and_those_in_use(void **state)
{
	struct t_client *t = world_in(CC_OFFERED);
	uint32_t first, second;

	(void)state;
	t->bus->next_gpadl_id = 0xe1e0f;
	assert_int_equal(gpadl(t, 1, 1), 0xe1e0f);
	assert_int_equal(gpadl(t, 1, 1), 0xe1e11);
	t->bus->next_gpadl_id = UINT32_MAX;
	first = gpadl(t, 1, 1);
	second = gpadl(t, 1, 1);
	assert_int_equal(first, UINT32_MAX);
	assert_int_equal(second, 1);
	t_client_free(t);
}

static void
answers_that_fit_no_gpadl_are_dropped(void **state)
{
	struct t_client *t = world_in(CC_OFFERED);
	uint32_t id = gpadl(t, 1, 1);

	(void)state;
	t_log_clear(&t->log);
	t_host_created(t, 1, 0x777, 0);   /* unknown */
	t_host_created(t, 2, id, 0);      /* another channel's */
	t_host_created(t, 1, 0xe1e10, 0); /* answered already */
	t_host_torndown(t, 0xe1e10);      /* not asked for */
	t_host_torndown(t, id);           /* not even created */
	t_host_torndown(t, 0);
	t_client_expect(t,
			"misbehaved\nmisbehaved\nmisbehaved\nmisbehaved\nmisbehaved\nmisbehaved\n");
	t_host_created(t, 1, id, 0);
	t_client_expect(t, "created 1/e1e11 ok\n");
	t_client_free(t);
}

static void
failed_gpadl_is_forgotten(void **state)
{
	struct t_client *t = world_in(CC_OFFERED);
	uint32_t id = gpadl(t, 1, 1);

	(void)state;
	t_log_clear(&t->log);
	t_host_created(t, 1, id, 0x8000ffff);
	t_client_expect(t, "created 1/e1e11 failed\n");
	assert_int_equal(vmb_bus_client_gpadl_teardown(t->bus, 1, id), VMB_E_NOT_FOUND);
	t_client_free(t);
}

static void
teardown_is_asked_once_and_ends_with_the_answer(void **state)
{
	struct t_client *t = world_in(CC_OFFERED);
	uint32_t id = gpadl(t, 1, 1);

	(void)state;
	t_log_clear(&t->log);
	assert_int_equal(vmb_bus_client_gpadl_teardown(t->bus, 1, id), VMB_E_STATE);
	assert_int_equal(vmb_bus_client_gpadl_teardown(t->bus, 2, 0xe1e10), VMB_E_NOT_FOUND);
	ok(vmb_bus_client_gpadl_teardown(t->bus, 1, 0xe1e10));
	assert_int_equal(vmb_bus_client_gpadl_teardown(t->bus, 1, 0xe1e10), VMB_E_STATE);
	t_host_torndown(t, 0xe1e10);
	t_host_torndown(t, 0xe1e10);
	t_client_expect(t, "GpadlTeardown 1/e1e10\ntorndown 1/e1e10\nmisbehaved\n");
	t_client_free(t);
}

/* ---- opens ---------------------------------------------------------------------------------- */

static void
open_needs_a_created_ring_of_its_channel(void **state)
{
	struct t_client *t = world_in(CC_OFFERED);
	uint32_t id = gpadl(t, 1, 4);

	(void)state;
	assert_int_equal(open_channel(t, 1, id), VMB_E_INVALID);
	assert_int_equal(open_channel(t, 1, 0x55), VMB_E_INVALID);
	assert_int_equal(open_channel(t, 2, 0xe1e10), VMB_E_INVALID);
	ok(open_channel(t, 1, 0xe1e10));
	t_client_free(t);
}

static void
open_carries_the_user_data_or_zeros(void **state)
{
	struct t_client *t = world_in(CC_OFFERED);
	struct vmb_bus_client_open o = { .channel_id = 1,
					 .ring_gpadl = 0xe1e10,
					 .downstream_page_offset = 2,
					 .target_vp = VMB_VP_NONE };
	uint8_t user_data[VMB_OPEN_USER_BYTES];
	const uint8_t zeros[VMB_OPEN_USER_BYTES] = { 0 };

	(void)state;
	memset(user_data, 0x5a, sizeof(user_data));
	ok(vmb_bus_client_open(t->bus, &o));
	assert_memory_equal(t->last_open.user_data, zeros, sizeof(zeros));
	t_host_open_result(t, 1, t->last_open.open_id, 1);
	o.user_data = user_data;
	ok(vmb_bus_client_open(t->bus, &o));
	assert_memory_equal(t->last_open.user_data, user_data, sizeof(user_data));
	assert_int_equal(t->last_open.target_vp, VMB_VP_NONE);
	t_client_free(t);
}

static void
result_must_name_the_open_it_answers(void **state)
{
	struct t_client *t = world_in(CC_OPENING);
	uint32_t first = t->last_open.open_id;

	(void)state;
	t_host_open_result(t, 1, first + 1, 0);
	t_host_open_result(t, 2, first, 0);
	t_client_expect(t, "misbehaved\nmisbehaved\n");
	t_host_open_result(t, 1, first, 7);
	ok(open_channel(t, 1, 0xe1e10));
	assert_int_not_equal(t->last_open.open_id, first);
	t_log_clear(&t->log);
	/* A late answer to the first is none to the second. */
	t_host_open_result(t, 1, first, 0);
	t_client_expect(t, "misbehaved\n");
	t_host_open_result(t, 1, t->last_open.open_id, 0);
	t_host_open_result(t, 1, t->last_open.open_id, 0);
	t_client_expect(t, "open result 1 ok\nmisbehaved\n");
	t_client_free(t);
}

/* ---- ends ----------------------------------------------------------------------------------- */

/* Every kind of waiter on channel 1: opening, one GPADL creating, one tearing down, one idle. */
static struct t_client *
world_of_waiters(void)
{
	struct t_client *t = world_in(CC_OPENING);

	gpadl(t, 1, 1);
	t_host_created(t, 1, 0xe1e11, 0);
	gpadl(t, 1, 1);
	ok(vmb_bus_client_gpadl_teardown(t->bus, 1, 0xe1e11));
	t_log_clear(&t->log);
	return t;
}

static const char waiters_end[] = "open result 1 failed\ncreated 1/e1e12 failed\n"
				  "torndown 1/e1e11\nrescinded 1\n";

static void
rescind_ends_every_waiter_once(void **state)
{
	struct t_client *t = world_of_waiters();

	(void)state;
	t_host_channel(t, VMB_MSG_RESCIND_OFFER, 1);
	t_client_expect(t, waiters_end);
	/* Answers that were under way find nobody, and are no offence; the second time they are. */
	t_host_open_result(t, 1, t->last_open.open_id, 0);
	t_host_created(t, 1, 0xe1e12, 0);
	t_host_torndown(t, 0xe1e11);
	t_client_expect(t, "");
	t_host_open_result(t, 1, t->last_open.open_id, 0);
	t_host_created(t, 1, 0xe1e12, 0);
	t_host_torndown(t, 0xe1e11);
	t_client_expect(t, "misbehaved\nmisbehaved\nmisbehaved\n");
	/* Nothing new on it; what is left is given back at once. */
	assert_int_equal(open_channel(t, 1, 0xe1e10), VMB_E_CLOSED);
	assert_int_equal(vmb_bus_client_close(t->bus, 1), VMB_E_CLOSED);
	ok(vmb_bus_client_gpadl_teardown(t->bus, 1, 0xe1e10));
	t_client_expect(t, "torndown 1/e1e10\n");
	ok(vmb_bus_client_release(t->bus, 1));
	t_client_expect(t, "RelIdReleased 1\n");
	assert_int_equal(vmb_bus_client_release(t->bus, 1), VMB_E_NOT_FOUND);
	/* The id may come again. */
	t_host_offer(t, 1);
	t_client_expect(t, "offered 1\n");
	t_client_free(t);
}

static void
late_answers_after_the_release_are_taken_once(void **state)
{
	struct t_client *t = world_of_waiters();

	(void)state;
	t_host_channel(t, VMB_MSG_RESCIND_OFFER, 1);
	ok(vmb_bus_client_release(t->bus, 1));
	t_log_clear(&t->log);
	t_host_created(t, 1, 0xe1e12, 0);
	t_host_torndown(t, 0xe1e11);
	t_client_expect(t, "");
	t_host_torndown(t, 0xe1e11);
	t_client_expect(t, "misbehaved\n");
	t_client_free(t);
}

static void
ids_that_may_still_be_answered_are_not_given_out(void **state)
{
	struct t_client *t = world_of_waiters();

	(void)state;
	t_host_channel(t, VMB_MSG_RESCIND_OFFER, 1);
	ok(vmb_bus_client_release(t->bus, 1));
	t->bus->next_gpadl_id = 0xe1e10;
	assert_int_equal(gpadl(t, 2, 1), 0xe1e10);
	assert_int_equal(gpadl(t, 2, 1), 0xe1e13);
	t_client_free(t);
}

static void
id_may_be_the_owners_choice(void **state)
{
	struct t_client *t = world_of_waiters();
	uint8_t ranges[16];
	uint32_t bytes = t_ranges(ranges, 1);

	(void)state;
	assert_int_equal(vmb_bus_client_gpadl_create_as(t->bus, 2, 0, ranges, bytes, 1), VMB_E_EXISTS);
	assert_int_equal(vmb_bus_client_gpadl_create_as(t->bus, 2, 0xe1e12, ranges, bytes, 1), VMB_E_EXISTS);
	t_host_channel(t, VMB_MSG_RESCIND_OFFER, 1);
	ok(vmb_bus_client_release(t->bus, 1));
	/* The host may still answer for it. */
	assert_int_equal(vmb_bus_client_gpadl_create_as(t->bus, 2, 0xe1e12, ranges, bytes, 1), VMB_E_EXISTS);
	assert_int_equal(vmb_bus_client_gpadl_create_as(t->bus, 1, 5, ranges, bytes, 1), VMB_E_NOT_FOUND);
	assert_int_equal(vmb_bus_client_gpadl_create_as(t->bus, 2, 5, ranges, bytes - 8, 1), VMB_E_INVALID);
	t_log_clear(&t->log);
	ok(vmb_bus_client_gpadl_create_as(t->bus, 2, 5, ranges, bytes, 1));
	t_host_created(t, 2, 5, 0);
	t_client_expect(t, "GpadlHeader 2/5 bytes 16 ranges 1 here 2\ncreated 2/5 ok\n");
	t_client_free(t);
}

static void
release_before_rescind_is_refused(void **state)
{
	struct t_client *t = world_in(CC_OPEN);

	(void)state;
	assert_int_equal(vmb_bus_client_release(t->bus, 1), VMB_E_STATE);
	t_client_expect(t, "");
	t_client_free(t);
}

static void
lost_transport_ends_everything_and_posts_nothing(void **state)
{
	struct t_client *t = world_of_waiters();
	char lines[256];

	(void)state;
	vmb_bus_client_lost(t->bus);
	snprintf(lines, sizeof(lines), "%srescinded 2\n", waiters_end);
	t_client_expect(t, lines);
	assert_int_equal(vmb_bus_client_version(t->bus), 0);
	ok(vmb_bus_client_gpadl_teardown(t->bus, 1, 0xe1e10));
	ok(vmb_bus_client_release(t->bus, 1));
	ok(vmb_bus_client_release(t->bus, 2));
	vmb_bus_client_lost(t->bus);
	t_host_offer(t, 1);
	t_client_expect(t, "torndown 1/e1e10\n");
	assert_int_equal(vmb_bus_client_connect(t->bus), VMB_E_CLOSED);
	t_client_free(t);
}

static void
lost_transport_fails_a_contact_and_finishes_an_unload(void **state)
{
	struct t_client *t = t_client_new(NULL);

	(void)state;
	ok(vmb_bus_client_connect(t->bus));
	t_log_clear(&t->log);
	vmb_bus_client_lost(t->bus);
	t_client_expect(t, "connect failed\n");
	t_client_free(t);

	t = world_in(CC_OFFERED);
	ok(vmb_bus_client_unload(t->bus));
	vmb_bus_client_lost(t->bus);
	t_client_expect(t, "Unload\nrescinded 1\nrescinded 2\nunloaded\n");
	t_client_free(t);

	t = t_client_new(NULL);
	vmb_bus_client_lost(t->bus);
	assert_int_equal(vmb_bus_client_connect(t->bus), VMB_E_CLOSED);
	t_client_expect(t, "");
	t_client_free(t);
}

static void
unload_ends_everybody_when_the_host_is_done(void **state)
{
	struct t_client *t = world_of_waiters();
	uint8_t ranges[64];
	uint32_t id;
	char lines[256];

	(void)state;
	ok(vmb_bus_client_unload(t->bus));
	t_client_expect(t, "Unload\n");
	/* What was on its way is dropped in silence; what can no longer be asked is not. */
	t_host_open_result(t, 1, t->last_open.open_id, 0);
	t_host_offer(t, 5);
	t_host_torndown(t, 0xe1e11);
	t_host_channel(t, VMB_MSG_RESCIND_OFFER, 2);
	t_client_expect(t, "");
	assert_int_equal(vmb_bus_client_unload(t->bus), VMB_E_STATE);
	assert_int_equal(open_channel(t, 2, 0xe1e10), VMB_E_STATE);
	assert_int_equal(
	    vmb_bus_client_gpadl_create(t->bus, 1, ranges, t_ranges(ranges, 2), 1, &id),
	    VMB_E_STATE);
	ok(vmb_bus_client_gpadl_teardown(t->bus, 1, 0xe1e10));
	t_client_expect(t, "");
	t_host_channel(t, VMB_MSG_UNLOAD_COMPLETE, 0);
	snprintf(lines, sizeof(lines),
		 "open result 1 failed\ncreated 1/e1e12 failed\n"
		 "torndown 1/e1e11\ntorndown 1/e1e10\nrescinded 1\n"
		 "rescinded 2\nunloaded\n");
	t_client_expect(t, lines);
	assert_int_equal(vmb_bus_client_connect(t->bus), VMB_E_BUSY);
	ok(vmb_bus_client_release(t->bus, 1));
	ok(vmb_bus_client_release(t->bus, 2));
	ok(vmb_bus_client_connect(t->bus));
	t_client_expect(t, "InitiateContact 60000 features 0 vp 0\n");
	t_client_free(t);
}

static void
unload_of_the_first_protocol_has_no_answer_to_wait_for(void **state)
{
	struct t_client *t = t_client_new(NULL);

	(void)state;
	t_client_connect(t, VMB_VERSION_V1);
	ok(vmb_bus_client_unload(t->bus));
	t_client_expect(t, "Unload\nrescinded 1\nrescinded 2\nunloaded\n");
	/* What the host said before it knew is no offence. */
	t_host_offer(t, 3);
	t_client_expect(t, "");
	t_client_free(t);
}

static void
messages_of_an_earlier_connection_are_no_offence_during_contact(void **state)
{
	struct t_client *t = t_client_new(NULL);

	(void)state;
	ok(vmb_bus_client_connect(t->bus));
	t_log_clear(&t->log);
	t_host_offer(t, 3);
	t_host_channel(t, VMB_MSG_RESCIND_OFFER, 3);
	t_host_torndown(t, 5);
	t_client_expect(t, "");
	t_host_channel(t, VMB_MSG_UNLOAD_COMPLETE, 0);
	t_client_expect(t, "misbehaved\n");
	t_client_free(t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(contact_walks_down_the_versions_on_the_right_connections),
		cmocka_unit_test(contact_stays_within_the_configured_versions),
		cmocka_unit_test(supported_with_a_bad_state_gives_up),
		cmocka_unit_test(later_messages_go_where_the_answer_says_from_5_0_on),
		cmocka_unit_test(features_nobody_asked_for_are_not_believed),
		cmocka_unit_test(requests_out_of_turn_are_refused),
		cmocka_unit_test(create_refuses_what_makes_no_sense),
		cmocka_unit_test(every_message_before_contact_is_dropped),
		cmocka_unit_test(every_message_that_nobody_asked_for_is_dropped),
		cmocka_unit_test(offers_out_of_range_twice_or_too_early_are_dropped),
		cmocka_unit_test(rescind_of_what_was_never_offered_or_twice_is_dropped),
		cmocka_unit_test(every_event_in_every_state_follows_the_table),
		cmocka_unit_test(gpadl_is_cut_into_header_and_bodies),
		cmocka_unit_test(bad_ranges_are_refused_before_anything_is_posted),
		cmocka_unit_test(ids_skip_zero_and_those_in_use),
		cmocka_unit_test(answers_that_fit_no_gpadl_are_dropped),
		cmocka_unit_test(failed_gpadl_is_forgotten),
		cmocka_unit_test(teardown_is_asked_once_and_ends_with_the_answer),
		cmocka_unit_test(open_needs_a_created_ring_of_its_channel),
		cmocka_unit_test(open_carries_the_user_data_or_zeros),
		cmocka_unit_test(result_must_name_the_open_it_answers),
		cmocka_unit_test(rescind_ends_every_waiter_once),
		cmocka_unit_test(late_answers_after_the_release_are_taken_once),
		cmocka_unit_test(ids_that_may_still_be_answered_are_not_given_out),
		cmocka_unit_test(id_may_be_the_owners_choice),
		cmocka_unit_test(release_before_rescind_is_refused),
		cmocka_unit_test(lost_transport_ends_everything_and_posts_nothing),
		cmocka_unit_test(lost_transport_fails_a_contact_and_finishes_an_unload),
		cmocka_unit_test(unload_ends_everybody_when_the_host_is_done),
		cmocka_unit_test(unload_of_the_first_protocol_has_no_answer_to_wait_for),
		cmocka_unit_test(messages_of_an_earlier_connection_are_no_offence_during_contact),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
