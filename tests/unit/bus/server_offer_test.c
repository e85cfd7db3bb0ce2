/* SPDX-License-Identifier: MIT */
/* Offers of the host, their ids and their end; GPADL messages and the answers they are owed. */
#include "t_bus.h"

static void
ok(enum vmb_status st)
{
	assert_int_equal(st, VMB_OK);
}

static enum vmb_status
offer(struct t_server *t, const char *name, uint16_t subchannel, uint32_t *id)
{
	struct vmb_msg_offer o;

	t_offer_fill(&o, name, subchannel);
	return vmb_bus_server_offer(t->bus, &o, (void *)(uintptr_t)name, id);
}

/* ---- offers --------------------------------------------------------------------------------- */

static void
offers_come_in_a_stable_order_primaries_before_subchannels(void **state)
{
	static const struct {
		const char *name;
		uint16_t sub;
	} forward[] = { { "za", 0 }, { "ab", 1 }, { "ab", 0 }, { "aa", 0 }, { "ab", 256 } };

	(void)state;
	/* ids 1..5 in the order of the calls; sorted: aa=4, ab/0=3, ab/1=2, ab/256=5, za=1 */
	for (int round = 0; round < 2; round++) {
		struct t_server *t = t_server_new(NULL);
		uint32_t id;

		for (size_t i = 0; i < 5; i++) {
			ok(offer(t, forward[i].name, forward[i].sub, &id));
			assert_int_equal(id, i + 1);
		}
		t_contact(t, VMB_VERSION_IRON, 0);
		t_log_clear(&t->log);
		t_send_type(t, VMB_MSG_REQUEST_OFFERS);
		t_server_expect(t, "Offer 4\nOffer 3\nOffer 2\nOffer 5\nOffer 1\nAllOffers\n");
		t_server_free(t);
	}
}

static uint32_t seen_flags;
static struct vmb_msg_offer seen_offer;

static void
keep_offer(void *ctx, const void *message, uint32_t bytes)
{
	struct t_server *t = ctx;
	struct vmb_msg m;
	const char *why;

	if (vmb_msg_decode(message, bytes, VMB_FROM_HOST, VMB_VERSION_COPPER, 0xff, &m, &why) ==
		VMB_OK &&
	    m.type == VMB_MSG_OFFER_CHANNEL) {
		seen_offer = m.offer;
		seen_flags = m.offer.flags;
	}
	(void)t;
}

static void
offer_flags_of_features_not_agreed_are_cleared(void **state)
{
	static const struct {
		uint32_t version, features, flags;
	} cases[] = {
		{ VMB_VERSION_IRON, 0, 0x2011 },
		{ VMB_VERSION_COPPER, 0, 0x2011 },
		{ VMB_VERSION_COPPER, VMB_FEATURE_CONFIDENTIAL_CHANNELS, 0x2017 },
		{ VMB_VERSION_COPPER, VMB_FEATURE_GPA_PINNING, 0x2019 },
		{ VMB_VERSION_COPPER, VMB_FEATURE_GPA_PINNING | VMB_FEATURE_CONFIDENTIAL_CHANNELS,
		  0x201f },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct t_server *t = t_server_new(NULL);
		struct vmb_msg_offer o;
		uint32_t id;

		t_offer_fill(&o, "aa", 0);
		o.flags = 0x201f;
		o.connection_id = 1;
		o.monitor_allocated = true;
		o.monitor_id = 3;
		ok(vmb_bus_server_offer(t->bus, &o, NULL, &id));
		t->bus->ops.post = keep_offer;
		t_contact(t, cases[i].version, cases[i].features);
		t_send_type(t, VMB_MSG_REQUEST_OFFERS);
		assert_int_equal(seen_flags, cases[i].flags);
		/* The bus fills in what belongs to it. */
		assert_int_equal(seen_offer.connection_id, 0x2001);
		assert_true(seen_offer.is_dedicated);
		assert_false(seen_offer.monitor_allocated);
		assert_int_equal(seen_offer.monitor_id, 0xff);
		t_server_free(t);
	}
}

static void
hot_add_is_offered_at_once_after_the_request_and_not_before(void **state)
{
	struct t_server *t = t_server_new(NULL);

	(void)state;
	t_contact(t, VMB_VERSION_IRON, 0);
	t_log_clear(&t->log);
	t_offer(t, "aa");
	t_server_expect(t, "");
	t_send_type(t, VMB_MSG_REQUEST_OFFERS);
	t_server_expect(t, "Offer 1\nAllOffers\n");
	t_offer(t, "ab");
	t_server_expect(t, "Offer 2\n");
	t_server_free(t);
}

static void
same_device_twice_is_refused(void **state)
{
	struct t_server *t = t_server_new(NULL);
	uint32_t id;

	(void)state;
	ok(offer(t, "aa", 0, &id));
	assert_int_equal(offer(t, "aa", 0, &id), VMB_E_EXISTS);
	ok(offer(t, "aa", 1, &id));
	assert_int_equal(offer(t, "aa", 1, &id), VMB_E_EXISTS);
	t_server_free(t);
}

static void
ids_run_from_1_to_2047(void **state)
{
	struct t_server *t = t_server_new(NULL);
	uint32_t id;

	(void)state;
	for (uint32_t i = 1; i <= VMB_CHANNEL_ID_MAX; i++) {
		ok(offer(t, "aa", (uint16_t)i, &id));
		assert_int_equal(id, i);
	}
	assert_int_equal(offer(t, "aa", 0, &id), VMB_E_LIMIT);
	/* One back, one more: the id that became free. */
	ok(vmb_bus_server_revoke(t->bus, 1000));
	ok(offer(t, "aa", 0, &id));
	assert_int_equal(id, 1000);
	assert_int_equal(offer(t, "ab", 0, &id), VMB_E_LIMIT);
	t_server_free(t);
}

static void
device_that_comes_back_gets_its_id_again(void **state)
{
	struct t_server *t = t_server_new(NULL);
	uint32_t id;

	(void)state;
	ok(offer(t, "aa", 0, &id));
	ok(offer(t, "ab", 0, &id));
	ok(vmb_bus_server_revoke(t->bus, 1));
	ok(vmb_bus_server_revoke(t->bus, 2));
	t_server_expect(t, "released aa\nreleased ab\n");
	/* A newcomer takes an id that nobody had. */
	ok(offer(t, "ac", 0, &id));
	assert_int_equal(id, 3);
	ok(offer(t, "ab", 0, &id));
	assert_int_equal(id, 2);
	ok(offer(t, "aa", 0, &id));
	assert_int_equal(id, 1);
	t_server_free(t);
}

static void
id_is_not_reused_before_the_guest_released_it(void **state)
{
	struct t_server *t = t_server_new(NULL);
	uint32_t id;

	(void)state;
	t_offer(t, "aa");
	t_connect(t, VMB_VERSION_IRON, 0);
	ok(vmb_bus_server_revoke(t->bus, 1));
	assert_int_equal(vmb_bus_server_revoke(t->bus, 1), VMB_E_STATE);
	t_server_expect(t, "Rescind 1\n");
	/*
	 * The same device again: another id, and offered only when the guest let go of the first.
	 */
	ok(offer(t, "aa", 0, &id));
	assert_int_equal(id, 2);
	t_server_expect(t, "");
	t_send_channel(t, VMB_MSG_REL_ID_RELEASED, 1);
	t_server_expect(t, "released aa\nOffer 2\n");
	t_send_channel(t, VMB_MSG_REL_ID_RELEASED, 1);
	t_server_expect(t, "misbehaved\n");
	t_server_free(t);
}

static void
guest_that_gives_an_id_back_unasked_is_not_offered_it_again(void **state)
{
	struct t_server *t = t_server_new(NULL);

	(void)state;
	t_offer(t, "aa");
	t_connect(t, VMB_VERSION_IRON, 0);
	t_send_channel(t, VMB_MSG_REL_ID_RELEASED, 1);
	t_server_expect(t, "");
	t_send_channel(t, VMB_MSG_CLOSE_CHANNEL, 1);
	t_server_expect(t, "misbehaved\n");
	/* On its next connection it is. */
	t_contact(t, VMB_VERSION_IRON, 0);
	t_log_clear(&t->log);
	t_send_type(t, VMB_MSG_REQUEST_OFFERS);
	t_server_expect(t, "Offer 1\nAllOffers\n");
	t_server_free(t);
}

static void
revoked_open_channel_is_rescinded_after_the_device_let_go(void **state)
{
	struct t_server *t = t_server_new(NULL);
	const void *ranges;
	uint32_t bytes, count;

	(void)state;
	t_offer(t, "aa");
	t_connect(t, VMB_VERSION_IRON, 0);
	t_send_gpadl(t, 1, 0x10, 4);
	t_send_gpadl(t, 1, 0x20, 4);
	t_send_gpadl(t, 1, 0x30, 40);
	t_send_open(t, 1, 7, 0x10, 2);
	ok(vmb_bus_server_open_done(t->bus, 1, 0));
	ok(vmb_bus_server_gpadl_map(t->bus, 1, 0x20, &ranges, &bytes, &count));
	t_log_clear(&t->log);
	ok(vmb_bus_server_revoke(t->bus, 1));
	t_server_expect(t, "unwanted aa 20\nclose aa\n");
	/* Nothing new may be mapped. */
	assert_int_equal(vmb_bus_server_gpadl_map(t->bus, 1, 0x30, &ranges, &bytes, &count),
			 VMB_E_NOT_FOUND);
	ok(vmb_bus_server_close_done(t->bus, 1));
	t_server_expect(t, "");
	ok(vmb_bus_server_gpadl_unmap(t->bus, 1, 0x20));
	t_server_expect(t, "Rescind 1\n");
	t_send_channel(t, VMB_MSG_REL_ID_RELEASED, 1);
	t_server_expect(t, "released aa\n");
	t_server_free(t);
}

static void
revoke_answers_incomplete_gpadls_and_pending_opens(void **state)
{
	struct t_server *t = t_server_new(NULL);

	(void)state;
	t_offer(t, "aa");
	t_connect(t, VMB_VERSION_IRON, 0);
	t_send_gpadl(t, 1, 0x10, 4);
	t_send_open(t, 1, 7, 0x10, 2);
	t_log_clear(&t->log);
	{
		struct vmb_msg h = { .type = VMB_MSG_GPADL_HEADER };

		h.gpadl_header = (struct vmb_msg_gpadl_header){
			.channel_id = 1,
			.gpadl_id = 0x30,
			.range_bytes = 328,
			.range_count = 1,
			.qword_count = 1,
			.qwords = { 40 * 4096 },
		};
		t_send(t, &h);
	}
	t_server_expect(t, "");
	ok(vmb_bus_server_revoke(t->bus, 1));
	t_server_expect(t, "OpenResult 1/7 8000ffff\nCreated 1/30 failed\n");
	/* The device opened in spite of it all: it is closed, and the guest hears nothing twice. */
	ok(vmb_bus_server_open_done(t->bus, 1, 0));
	t_server_expect(t, "close aa\n");
	ok(vmb_bus_server_close_done(t->bus, 1));
	t_server_expect(t, "Rescind 1\n");
	t_server_free(t);
}

static void
revoked_channel_agrees_to_gpadls_without_keeping_them(void **state)
{
	struct t_server *t = t_server_new(NULL);
	struct vmb_gpadl_usage usage;

	(void)state;
	t_offer(t, "aa");
	t_connect(t, VMB_VERSION_IRON, 0);
	t_send_gpadl(t, 1, 0x10, 4);
	ok(vmb_bus_server_revoke(t->bus, 1));
	t_log_clear(&t->log);
	t_send_gpadl(t, 1, 0x11, 4);
	t_send_gpadl(t, 1, 0x12, 100);
	t_server_expect(t, "Created 1/11 ok\nCreated 1/12 ok\n");
	vmb_gpadl_get_usage(t->bus->gpadls, &usage);
	assert_int_equal(usage.gpadls, 1);
	t_send_teardown(t, 1, 0x12);
	t_send_teardown(t, 1, 0x10);
	t_server_expect(t, "Torndown 12\nTorndown 10\n");
	t_server_free(t);
}

static void
offers_survive_their_guests(void **state)
{
	struct t_server *t = t_server_new(NULL);

	(void)state;
	t_offer(t, "aa");
	t_offer(t, "ab");
	for (uint32_t i = 0; i < VMB_VERSION_COUNT; i++) {
		t_contact(t, vmb_versions[i], 0);
		t_log_clear(&t->log);
		t_send_type(t, VMB_MSG_REQUEST_OFFERS);
		t_server_expect(t, "Offer 1\nOffer 2\nAllOffers\n");
	}
	t_server_free(t);
}

/* ---- GPADL messages ------------------------------------------------------------------------- */

static struct t_server *
world(const struct vmb_bus_server_config *config)
{
	struct t_server *t = t_server_new(config);

	t_offer(t, "aa");
	t_offer(t, "ab");
	t_connect(t, VMB_VERSION_IRON, 0);
	return t;
}

static void
gpadl_of_every_length_is_answered_once(void **state)
{
	static const uint32_t lengths[] = { 1, 25, 26, 27, 53, 54, 55, 82, 83, 7936, 8189, 8190 };
	struct t_server *t = world(NULL);

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		t_send_gpadl(t, 1, 0x10, lengths[i]);
		t_server_expect(t, "Created 1/10 ok\n");
		t_send_teardown(t, 1, 0x10);
		t_server_expect(t, "Torndown 10\n");
	}
	t_server_free(t);
}

static void
gpadl_messages_padded_to_240_bytes_are_understood(void **state)
{
	struct t_server *t = world(NULL);
	struct vmb_msg msg = { .type = VMB_MSG_GPADL_HEADER };
	uint8_t bytes[VMB_MSG_MAX_BYTES];

	(void)state;
	msg.gpadl_header = (struct vmb_msg_gpadl_header){
		.channel_id = 1,
		.gpadl_id = 5,
		.range_bytes = 8 * 29,
		.range_count = 1,
		.qword_count = 27,
		.qwords = { 28 * 4096 },
	};
	assert_int_not_equal(vmb_msg_encode(&msg, VMB_VERSION_IRON, 0, bytes), 0);
	vmb_bus_server_message(t->bus, 1, bytes, sizeof(bytes));
	t_server_expect(t, "");
	memset(&msg, 0, sizeof(msg));
	msg.type = VMB_MSG_GPADL_BODY;
	msg.gpadl_body.gpadl_id = 5;
	msg.gpadl_body.qword_count = 28;
	t_send(t, &msg);
	t_server_expect(t, "Created 1/5 ok\n");
	t_server_free(t);
}

static void
refused_gpadls_are_answered_with_failure(void **state)
{
	struct t_server *t = world(NULL);
	static const uint32_t unknown[] = { 0, 3, 2047, 2048, UINT32_MAX };

	(void)state;
	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		char lines[64];

		t_send_gpadl(t, unknown[i], 0x10, 4);
		snprintf(lines, sizeof(lines), "misbehaved\nCreated %u/10 failed\n", unknown[i]);
		t_server_expect(t, lines);
	}
	/* Its bodies, which come all the same, say nothing. */
	t_send_gpadl(t, 9, 0x10, 100);
	t_server_expect(t, "misbehaved\nCreated 9/10 failed\n");
	t_send_gpadl(t, 1, 0x10, 4);
	t_send_gpadl(t, 1, 0x10, 4);
	t_server_expect(t, "Created 1/10 ok\nmisbehaved\nCreated 1/10 failed\n");
	t->pages_beyond = 10;
	t_send_gpadl(t, 1, 0x11, 4);
	t_send_gpadl(t, 1, 0x12, 100);
	t_server_expect(t, "misbehaved\nCreated 1/11 failed\nmisbehaved\nCreated 1/12 failed\n");
	t_server_free(t);
}

static void
configured_limits_hold_at_their_edges(void **state)
{
	struct vmb_bus_server_config config = { .max_gpadls = 3,
						.max_gpadl_pages = 12,
						.max_gpadls_in_progress = 1 };
	struct t_server *t = world(&config);

	(void)state;
	t_send_gpadl(t, 1, 1, 4);
	t_send_gpadl(t, 2, 2, 4);
	t_send_gpadl(t, 2, 3, 5);
	t_server_expect(t, "Created 1/1 ok\nCreated 2/2 ok\nmisbehaved\nCreated 2/3 failed\n");
	t_send_gpadl(t, 2, 3, 3);
	t_send_gpadl(t, 2, 4, 1);
	t_server_expect(t, "Created 2/3 ok\nmisbehaved\nCreated 2/4 failed\n");
	t_server_free(t);
}

static void
teardown_that_is_not_due_gets_no_answer(void **state)
{
	struct t_server *t = world(NULL);
	struct vmb_msg h = { .type = VMB_MSG_GPADL_HEADER };

	(void)state;
	t_send_gpadl(t, 1, 0x10, 4);
	h.gpadl_header = (struct vmb_msg_gpadl_header){
		.channel_id = 1,
		.gpadl_id = 0x30,
		.range_bytes = 328,
		.range_count = 1,
		.qword_count = 1,
		.qwords = { 40 * 4096 },
	};
	t_send(t, &h);
	t_log_clear(&t->log);
	t_send_teardown(t, 1, 0x99); /* unknown */
	t_send_teardown(t, 2, 0x10); /* another channel's */
	t_send_teardown(t, 1, 0x30); /* incomplete */
	t_send_teardown(t, 9, 0x10); /* no such channel */
	t_server_expect(t, "misbehaved\nmisbehaved\nmisbehaved\nmisbehaved\n");
	t_server_free(t);
}

static void
teardown_waits_for_the_last_unmap(void **state)
{
	struct t_server *t = world(NULL);
	const void *ranges;
	uint32_t bytes, count;

	(void)state;
	t_send_gpadl(t, 1, 0x10, 30);
	ok(vmb_bus_server_gpadl_map(t->bus, 1, 0x10, &ranges, &bytes, &count));
	ok(vmb_bus_server_gpadl_map(t->bus, 1, 0x10, &ranges, &bytes, &count));
	assert_int_equal(bytes, 8 + 30 * 8);
	t_log_clear(&t->log);
	t_send_teardown(t, 1, 0x10);
	t_send_teardown(t, 1, 0x10);
	t_server_expect(t, "unwanted aa 10\nmisbehaved\n");
	ok(vmb_bus_server_gpadl_unmap(t->bus, 1, 0x10));
	t_server_expect(t, "");
	/* What was lent is still there. */
	assert_int_equal(((const uint8_t *)ranges)[8], 17);
	ok(vmb_bus_server_gpadl_unmap(t->bus, 1, 0x10));
	t_server_expect(t, "Torndown 10\n");
	assert_int_equal(vmb_bus_server_gpadl_unmap(t->bus, 1, 0x10), VMB_E_NOT_FOUND);
	t_server_free(t);
}

static void
device_cannot_undo_the_mapping_of_the_ring(void **state)
{
	struct t_server *t = world(NULL);

	(void)state;
	t_send_gpadl(t, 1, 0x10, 4);
	t_send_open(t, 1, 7, 0x10, 2);
	ok(vmb_bus_server_open_done(t->bus, 1, 0));
	t_send_teardown(t, 1, 0x10);
	t_log_clear(&t->log);
	assert_int_equal(vmb_bus_server_gpadl_unmap(t->bus, 1, 0x10), VMB_E_NOT_FOUND);
	t_server_expect(t, "");
	t_server_free(t);
}

static void
mapping_what_is_not_there_is_not_found(void **state)
{
	struct t_server *t = world(NULL);
	const void *ranges;
	uint32_t bytes, count;

	(void)state;
	t_send_gpadl(t, 1, 0x10, 4);
	assert_int_equal(vmb_bus_server_gpadl_map(t->bus, 2, 0x10, &ranges, &bytes, &count),
			 VMB_E_NOT_FOUND);
	assert_int_equal(vmb_bus_server_gpadl_map(t->bus, 1, 0x11, &ranges, &bytes, &count),
			 VMB_E_NOT_FOUND);
	assert_int_equal(vmb_bus_server_gpadl_map(t->bus, 9, 0x10, &ranges, &bytes, &count),
			 VMB_E_NOT_FOUND);
	assert_int_equal(vmb_bus_server_gpadl_map(t->bus, 5000, 0x10, &ranges, &bytes, &count),
			 VMB_E_NOT_FOUND);
	t_server_free(t);
}

static void
gpadls_live_through_closing_and_opening(void **state)
{
	struct t_server *t = world(NULL);

	(void)state;
	t_send_gpadl(t, 1, 0x10, 4);
	t_log_clear(&t->log);
	for (uint32_t i = 0; i < 3; i++) {
		t_send_open(t, 1, 7, 0x10, 2);
		ok(vmb_bus_server_open_done(t->bus, 1, 0));
		t_send_channel(t, VMB_MSG_CLOSE_CHANNEL, 1);
		ok(vmb_bus_server_close_done(t->bus, 1));
		t_server_expect(t, "open aa\nOpenResult 1/7 0\nclose aa\n");
	}
	t_server_free(t);
}

static uint32_t monitors_seen;

static void
note_monitor(void *ctx, const void *message, uint32_t bytes)
{
	struct vmb_msg m;
	const char *why;

	(void)ctx;
	assert_int_equal(vmb_msg_decode(message, bytes, VMB_FROM_HOST, VMB_VERSION_IRON, 0, &m, &why),
	                 VMB_OK);
	if (m.type != VMB_MSG_OFFER_CHANNEL || !m.offer.monitor_allocated)
		return;
	assert_int_equal(m.offer.monitor_id, m.offer.channel_id - 1);
	monitors_seen++;
}

/* Only for a guest that has pages for them, and by channel, so that they are the same every time. */
static void
offers_have_monitors_where_both_ends_want_them(void **state)
{
	struct vmb_bus_server_config config = { .monitors = true };

	(void)state;
	for (uint32_t with_pages = 0; with_pages < 2; with_pages++) {
		struct t_server *t = t_server_new(&config);
		struct vmb_msg contact = {
			.type = VMB_MSG_INITIATE_CONTACT,
			.initiate_contact = { .version = VMB_VERSION_IRON,
			                      .target_sint = 2,
			                      .monitor_page_to_child = with_pages * 0x5000u,
			                      .monitor_page_to_parent = with_pages * 0x6000u },
		};
		struct vmb_msg_offer o;
		uint32_t id = 0;

		/* 128 of them have room for a monitor. */
		for (uint16_t i = 0; i < 130; i++) {
			t_offer_fill(&o, "mo", i);
			ok(vmb_bus_server_offer(t->bus, &o, NULL, &id));
			assert_int_equal(id, i + 1u);
		}
		monitors_seen = 0;
		t->bus->ops.post = note_monitor;
		t_send(t, &contact);
		t_send_type(t, VMB_MSG_REQUEST_OFFERS);
		assert_int_equal(monitors_seen, with_pages * 128u);
		t_server_free(t);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(offers_have_monitors_where_both_ends_want_them),
		cmocka_unit_test(offers_come_in_a_stable_order_primaries_before_subchannels),
		cmocka_unit_test(offer_flags_of_features_not_agreed_are_cleared),
		cmocka_unit_test(hot_add_is_offered_at_once_after_the_request_and_not_before),
		cmocka_unit_test(same_device_twice_is_refused),
		cmocka_unit_test(ids_run_from_1_to_2047),
		cmocka_unit_test(device_that_comes_back_gets_its_id_again),
		cmocka_unit_test(id_is_not_reused_before_the_guest_released_it),
		cmocka_unit_test(guest_that_gives_an_id_back_unasked_is_not_offered_it_again),
		cmocka_unit_test(revoked_open_channel_is_rescinded_after_the_device_let_go),
		cmocka_unit_test(revoke_answers_incomplete_gpadls_and_pending_opens),
		cmocka_unit_test(revoked_channel_agrees_to_gpadls_without_keeping_them),
		cmocka_unit_test(offers_survive_their_guests),
		cmocka_unit_test(gpadl_of_every_length_is_answered_once),
		cmocka_unit_test(gpadl_messages_padded_to_240_bytes_are_understood),
		cmocka_unit_test(refused_gpadls_are_answered_with_failure),
		cmocka_unit_test(configured_limits_hold_at_their_edges),
		cmocka_unit_test(teardown_that_is_not_due_gets_no_answer),
		cmocka_unit_test(teardown_waits_for_the_last_unmap),
		cmocka_unit_test(device_cannot_undo_the_mapping_of_the_ring),
		cmocka_unit_test(mapping_what_is_not_there_is_not_found),
		cmocka_unit_test(gpadls_live_through_closing_and_opening),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
