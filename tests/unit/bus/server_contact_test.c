/* SPDX-License-Identifier: MIT */
/* The host's side of contact: versions, features, monitor pages, ends and storms. */
#include "t_bus.h"

static void
send_contact_on(struct t_server *t, uint32_t connection_id,
                const struct vmb_msg_initiate_contact *c)
{
	struct vmb_msg msg = { .type = VMB_MSG_INITIATE_CONTACT, .initiate_contact = *c };
	uint8_t bytes[VMB_MSG_MAX_BYTES];
	size_t n = vmb_msg_encode(&msg, 0, 0, bytes);

	assert_int_not_equal(n, 0);
	t->log.version = vmb_version_is_known(c->version) ? c->version : 0;
	vmb_bus_server_message(t->bus, connection_id, bytes, n);
}

static void
every_known_version_is_agreed(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < VMB_VERSION_COUNT; i++) {
		struct t_server *t = t_server_new(NULL);
		uint32_t v = vmb_versions[i];
		char lines[160];

		t_contact(t, v, 0);
		snprintf(lines, sizeof(lines),
		         "connected %x features 0\nVersion ok state 0 value %x features 0\n", v,
		         v >= VMB_VERSION_WIN10_RS3_1 ? 1 : v);
		t_server_expect(t, lines);
		assert_int_equal(vmb_bus_server_version(t->bus), v);
		/* The message VP counts from 3.0 on. */
		assert_int_equal(t->vp_of_post, v >= VMB_VERSION_WIN8_1 ? 5 : 0);
		t_server_free(t);
	}
}

static void
versions_not_in_the_list_are_unsupported(void **state)
{
	static const uint32_t odd[] = {
		0,          1,          0xC,        0xE,        0x00010000,
		0x00020003, 0x00030001, 0x00050004, 0x00060001, 0xFFFFFFFF
	};
	struct t_server *t = t_server_new(NULL);

	(void)state;
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		t_contact(t, odd[i], 0);
		t_server_expect(t, "Version no state 0 value 0 features 0\n");
		assert_int_equal(vmb_bus_server_version(t->bus), 0);
	}
	t_server_free(t);
}

static void
newest_configured_version_is_the_last_supported(void **state)
{
	struct vmb_bus_server_config config = { .newest_version = VMB_VERSION_WIN10_RS4 };
	struct t_server *t = t_server_new(&config);

	(void)state;
	t_contact(t, VMB_VERSION_WIN10_RS5, 0);
	t_server_expect(t, "Version no state 0 value 0 features 0\n");
	t_contact(t, VMB_VERSION_WIN10_RS4, 0);
	t_server_expect(t, "connected 50001 features 0\nVersion ok state 0 value 1 features 0\n");
	t_server_free(t);
}

static void
features_are_those_that_both_have_and_only_at_6_0(void **state)
{
	struct vmb_bus_server_config config = { .features = VMB_FEATURE_CLIENT_ID |
		                                            VMB_FEATURE_PAUSE_RESUME };
	struct t_server *t = t_server_new(&config);

	(void)state;
	t_contact(t, VMB_VERSION_COPPER, 0xff);
	t_server_expect(t, "connected 60000 features 28\nVersion ok state 0 value 1 features 28\n");
	t_server_free(t);
}

static void
create_refuses_what_it_cannot_serve(void **state)
{
	const struct vmb_bus_server_ops none = { 0 };
	struct vmb_bus_server_config config = { .features = VMB_FEATURE_SERVER_MONITOR_PAGES };
	struct t_server *t = t_server_new(NULL);
	struct vmb_bus_server *bus;

	(void)state;
	assert_int_equal(vmb_bus_server_create(&config, &none, NULL, &bus), VMB_E_INVALID);
	assert_int_equal(vmb_bus_server_create(&config, &t->bus->ops, NULL, &bus),
	                 VMB_E_UNSUPPORTED);
	config.features = VMB_FEATURE_INTERRUPT_REDIRECTION;
	assert_int_equal(vmb_bus_server_create(&config, &t->bus->ops, NULL, &bus),
	                 VMB_E_UNSUPPORTED);
	config.features = 0;
	config.newest_version = 0x00050004;
	assert_int_equal(vmb_bus_server_create(&config, &t->bus->ops, NULL, &bus), VMB_E_INVALID);
	vmb_bus_server_destroy(NULL);
	t_server_free(t);
}

static void
one_monitor_page_of_two_fails_the_contact(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < VMB_VERSION_COUNT; i++) {
		struct vmb_msg_initiate_contact c = { .version = vmb_versions[i],
			                              .target_sint = 2 };
		struct t_server *t = t_server_new(NULL);
		char lines[160];

		c.monitor_page_to_child = 0x1000;
		send_contact_on(t, VMB_CONNECTION_ID_LEGACY, &c);
		if (c.version < VMB_VERSION_WIN8)
			snprintf(lines, sizeof(lines),
			         "misbehaved\nVersion no state 0 value 0 features 0\n");
		else
			snprintf(lines, sizeof(lines),
			         "misbehaved\nVersion ok state 2 value %x features 0\n",
			         c.version >= VMB_VERSION_WIN10_RS3_1 ? 1 : c.version);
		t_server_expect(t, lines);
		assert_int_equal(vmb_bus_server_version(t->bus), 0);
		/* Both are fine, and remembered. */
		c.monitor_page_to_parent = 0x2000;
		send_contact_on(t, VMB_CONNECTION_ID_LEGACY, &c);
		assert_int_equal(vmb_bus_server_version(t->bus), c.version);
		assert_int_equal(vmb_bus_server_contact(t->bus)->monitor_page_to_parent, 0x2000);
		t_server_free(t);
	}
}

static void
sint_and_vtl_count_only_on_the_multi_client_connection(void **state)
{
	static const struct {
		uint32_t version, connection;
		uint8_t sint, vtl;
		const char *lines;
	} cases[] = {
		{ 0x50000, 4, 2, 0,
		  "connected 50000 features 0\nVersion ok state 0 value 1 features 0\n" },
		{ 0x50000, 4, 3, 0, "Version no state 0 value 0 features 0\n" },
		{ 0x50000, 1, 3, 0,
		  "connected 50000 features 0\nVersion ok state 0 value 1 features 0\n" },
		{ 0x50000, 4, 2, 1,
		  "connected 50000 features 0\nVersion ok state 0 value 1 features 0\n" },
		{ 0x50001, 4, 2, 1, "misbehaved\n" },
		{ 0x50001, 1, 2, 1,
		  "connected 50001 features 0\nVersion ok state 0 value 1 features 0\n" },
		{ 0x60000, 4, 0, 0, "Version no state 0 value 0 features 0\n" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vmb_msg_initiate_contact c = { .version = cases[i].version,
			                              .target_sint = cases[i].sint,
			                              .target_vtl = cases[i].vtl };
		struct t_server *t = t_server_new(NULL);

		send_contact_on(t, cases[i].connection, &c);
		t_server_expect(t, cases[i].lines);
		t_server_free(t);
	}
}

static void
contact_for_another_trust_level_leaves_the_connection_alone(void **state)
{
	struct vmb_msg_initiate_contact c = { .version = VMB_VERSION_COPPER,
		                              .target_sint = 2,
		                              .target_vtl = 2 };
	struct t_server *t = t_server_new(NULL);

	(void)state;
	t_connect(t, VMB_VERSION_COPPER, 0);
	send_contact_on(t, VMB_CONNECTION_ID_MULTI_CLIENT, &c);
	t_server_expect(t, "misbehaved\n");
	assert_int_equal(vmb_bus_server_version(t->bus), VMB_VERSION_COPPER);
	t_server_free(t);
}

static void
nothing_but_contact_release_and_reserved_close_is_accepted_before_contact(void **state)
{
	struct t_server *t = t_server_new(NULL);

	(void)state;
	t_offer(t, "aa");
	for (uint8_t type = 0; type < VMB_MSG_TYPE_END + 1; type++) {
		const uint8_t bytes[VMB_MSG_MAX_BYTES] = { type };

		if (type == VMB_MSG_INITIATE_CONTACT || type == VMB_MSG_CLOSE_RESERVED ||
		    type == VMB_MSG_REL_ID_RELEASED)
			continue;
		vmb_bus_server_message(t->bus, VMB_CONNECTION_ID_LEGACY, bytes, sizeof(bytes));
		t_server_expect(t, "misbehaved\n");
	}
	t_send_channel(t, VMB_MSG_CLOSE_RESERVED, 9);
	t_server_expect(t, "ReservedClosed 9\n");
	t_server_free(t);
}

static void
messages_of_hosts_and_unknown_types_are_dropped_at_every_version(void **state)
{
	static const uint8_t host_types[] = { 1, 2, 4, 6, 10, 12, 15, 17, 20, 23, 24, 26, 28 };

	(void)state;
	for (uint32_t i = 0; i < VMB_VERSION_COUNT; i++) {
		struct t_server *t = t_server_new(NULL);
		uint8_t bytes[VMB_MSG_MAX_BYTES + 1] = { 0 };

		t_connect(t, vmb_versions[i], 0xff & VMB_BUS_SERVER_FEATURES);
		for (size_t k = 0; k < sizeof(host_types); k++) {
			bytes[0] = host_types[k];
			vmb_bus_server_message(t->bus, 1, bytes, VMB_MSG_MAX_BYTES);
			t_server_expect(t, "misbehaved\n");
		}
		bytes[0] = 30;
		vmb_bus_server_message(t->bus, 1, bytes, VMB_MSG_MAX_BYTES);
		bytes[0] = 0;
		vmb_bus_server_message(t->bus, 1, bytes, VMB_MSG_MAX_BYTES);
		bytes[0] = 3;
		vmb_bus_server_message(t->bus, 1, bytes, VMB_MSG_MAX_BYTES + 1);
		vmb_bus_server_message(t->bus, 1, bytes, 7);
		vmb_bus_server_message(t->bus, 1, bytes, 0);
		t_server_expect(t, "misbehaved\nmisbehaved\nmisbehaved\nmisbehaved\nmisbehaved\n");
		t_server_free(t);
	}
}

static void
types_above_the_version_or_features_are_dropped(void **state)
{
	static const struct {
		enum vmb_msg_type type;
		uint32_t since;
	} later[] = {
		{ VMB_MSG_OPEN_RESERVED, VMB_VERSION_WIN10 },
		{ VMB_MSG_TL_CONNECT, VMB_VERSION_WIN10 },
		{ VMB_MSG_MODIFY_CHANNEL, VMB_VERSION_WIN10_RS3_0 },
		{ VMB_MSG_MODIFY_CONNECTION, UINT32_MAX },
		{ VMB_MSG_PAUSE, UINT32_MAX },
		{ VMB_MSG_RESUME, UINT32_MAX },
	};

	(void)state;
	for (uint32_t i = 0; i < VMB_VERSION_COUNT; i++) {
		for (size_t k = 0; k < sizeof(later) / sizeof(later[0]); k++) {
			struct t_server *t = t_server_new(NULL);
			uint64_t before;

			t_connect(t, vmb_versions[i], 0);
			before = t->log.offences;
			t_send_type(t, later[k].type);
			if (vmb_versions[i] < later[k].since)
				t_server_expect(t, "misbehaved\n");
			else if (later[k].type == VMB_MSG_TL_CONNECT)
				assert_int_equal(t->log.offences, before);
			t_server_free(t);
		}
	}
}

static void
second_request_for_offers_gets_none(void **state)
{
	struct t_server *t = t_server_new(NULL);

	(void)state;
	t_offer(t, "aa");
	t_contact(t, VMB_VERSION_IRON, 0);
	t_log_clear(&t->log);
	t_send_type(t, VMB_MSG_REQUEST_OFFERS);
	t_server_expect(t, "Offer 1\nAllOffers\n");
	t_send_type(t, VMB_MSG_REQUEST_OFFERS);
	t_server_expect(t, "misbehaved\n");
	t_server_free(t);
}

/* Channel 1 "aa", open. */
static struct t_server *
world_with_open_channel(uint32_t version, uint32_t features)
{
	struct t_server *t = t_server_new(NULL);

	t_offer(t, "aa");
	t_connect(t, version, features);
	t_send_gpadl(t, 1, 0x10, 4);
	t_send_open(t, 1, 7, 0x10, 2);
	assert_int_equal(vmb_bus_server_open_done(t->bus, 1, 0), VMB_OK);
	t_log_clear(&t->log);
	return t;
}

static void
unload_completes_when_the_devices_have_closed(void **state)
{
	struct t_server *t = world_with_open_channel(VMB_VERSION_IRON, 0);

	(void)state;
	t_send_type(t, VMB_MSG_UNLOAD);
	t_server_expect(t, "close aa\n");
	/* Nothing that comes meanwhile is served. */
	t_send_type(t, VMB_MSG_REQUEST_OFFERS);
	t_send_gpadl(t, 1, 0x11, 4);
	t_server_expect(t, "misbehaved\nmisbehaved\n");
	assert_int_equal(vmb_bus_server_close_done(t->bus, 1), VMB_OK);
	t_server_expect(t, "disconnected\nUnloadComplete\n");
	t_send_type(t, VMB_MSG_UNLOAD);
	t_server_expect(t, "misbehaved\n");
	t_server_free(t);
}

/* As Linux does when its driver is unloaded. */
static void
ids_are_released_after_an_unload_without_a_word(void **state)
{
	struct t_server *t = world_with_open_channel(VMB_VERSION_IRON, 0);

	(void)state;
	t_send_type(t, VMB_MSG_UNLOAD);
	t_server_expect(t, "close aa\n");
	assert_int_equal(vmb_bus_server_close_done(t->bus, 1), VMB_OK);
	t_server_expect(t, "disconnected\nUnloadComplete\n");
	t_send_channel(t, VMB_MSG_REL_ID_RELEASED, 1);
	t_server_expect(t, "");
	/* The next connection is offered the channel all the same. */
	t_contact(t, VMB_VERSION_IRON, 0);
	t_log_clear(&t->log);
	t_send_type(t, VMB_MSG_REQUEST_OFFERS);
	t_server_expect(t, "Offer 1\nAllOffers\n");
	t_server_free(t);
}

static void
unload_completes_at_once_when_nothing_is_open(void **state)
{
	(void)state;
	for (uint32_t i = 0; i < VMB_VERSION_COUNT; i++) {
		struct t_server *t = t_server_new(NULL);

		t_offer(t, "aa");
		t_connect(t, vmb_versions[i], 0);
		t_send_type(t, VMB_MSG_UNLOAD);
		/* 0.13 has no such message. */
		t_server_expect(t, i == 0 ? "disconnected\n" : "disconnected\nUnloadComplete\n");
		t_server_free(t);
	}
}

static void
unload_waits_for_memory_that_a_device_has_mapped(void **state)
{
	struct t_server *t = world_with_open_channel(VMB_VERSION_IRON, 0);
	const void *ranges;
	uint32_t bytes, count;

	(void)state;
	t_send_gpadl(t, 1, 0x20, 3);
	assert_int_equal(vmb_bus_server_gpadl_map(t->bus, 1, 0x20, &ranges, &bytes, &count),
	                 VMB_OK);
	t_log_clear(&t->log);
	t_send_type(t, VMB_MSG_UNLOAD);
	t_server_expect(t, "unwanted aa 20\nclose aa\n");
	assert_int_equal(vmb_bus_server_close_done(t->bus, 1), VMB_OK);
	t_server_expect(t, "");
	assert_int_equal(vmb_bus_server_gpadl_unmap(t->bus, 1, 0x20), VMB_OK);
	t_server_expect(t, "disconnected\nUnloadComplete\n");
	t_server_free(t);
}

static void
contact_while_connected_ends_the_old_connection_first(void **state)
{
	struct t_server *t = world_with_open_channel(VMB_VERSION_IRON, 0);

	(void)state;
	t_contact(t, VMB_VERSION_WIN8_1, 0);
	t_server_expect(t, "close aa\n");
	assert_int_equal(vmb_bus_server_version(t->bus), 0);
	assert_int_equal(vmb_bus_server_close_done(t->bus, 1), VMB_OK);
	t_server_expect(t, "disconnected\nconnected 30000 features 0\n"
	                   "Version ok state 0 value 30000 features 0\n");
	/* Its memory is gone with it; offers come again with the same id. */
	t_send_type(t, VMB_MSG_REQUEST_OFFERS);
	t_send_open(t, 1, 8, 0x10, 2);
	t_server_expect(t, "Offer 1\nAllOffers\nmisbehaved\nOpenResult 1/8 8000ffff\n");
	t_server_free(t);
}

static void
newer_contact_replaces_the_waiting_one(void **state)
{
	struct t_server *t = world_with_open_channel(VMB_VERSION_IRON, 0);

	(void)state;
	t_contact(t, VMB_VERSION_WIN8_1, 0);
	t_contact(t, VMB_VERSION_WIN10, 0);
	t_send_type(t, VMB_MSG_UNLOAD);
	t_contact(t, VMB_VERSION_WIN8, 0);
	t_server_expect(t, "close aa\n");
	assert_int_equal(vmb_bus_server_close_done(t->bus, 1), VMB_OK);
	t_server_expect(t, "disconnected\nconnected 20004 features 0\n"
	                   "Version ok state 0 value 20004 features 0\n");
	t_server_free(t);
}

static void
unload_replaces_the_waiting_contact(void **state)
{
	struct t_server *t = world_with_open_channel(VMB_VERSION_IRON, 0);

	(void)state;
	t_contact(t, VMB_VERSION_WIN8_1, 0);
	for (int i = 0; i < 5; i++)
		t_send_type(t, VMB_MSG_UNLOAD);
	assert_int_equal(vmb_bus_server_close_done(t->bus, 1), VMB_OK);
	t_server_expect(t, "close aa\ndisconnected\nUnloadComplete\n");
	t_server_free(t);
}

static void
lost_transport_closes_without_an_answer(void **state)
{
	struct t_server *t = world_with_open_channel(VMB_VERSION_IRON, 0);

	(void)state;
	vmb_bus_server_lost(t->bus);
	vmb_bus_server_lost(t->bus);
	t_server_expect(t, "close aa\n");
	assert_int_equal(vmb_bus_server_close_done(t->bus, 1), VMB_OK);
	t_server_expect(t, "disconnected\n");
	vmb_bus_server_lost(t->bus);
	t_server_expect(t, "");
	/* The next guest finds the device as if nothing had been. */
	t_connect(t, VMB_VERSION_COPPER, 0);
	assert_int_equal(t->bus->channels[1]->state, SC_CLOSED);
	t_server_free(t);
}

static void
lost_transport_takes_the_answer_of_a_waiting_unload(void **state)
{
	struct t_server *t = world_with_open_channel(VMB_VERSION_IRON, 0);

	(void)state;
	t_send_type(t, VMB_MSG_UNLOAD);
	vmb_bus_server_lost(t->bus);
	assert_int_equal(vmb_bus_server_close_done(t->bus, 1), VMB_OK);
	t_server_expect(t, "close aa\ndisconnected\n");
	t_server_free(t);
}

static void
paused_host_is_silent_until_resume(void **state)
{
	struct t_server *t = world_with_open_channel(VMB_VERSION_COPPER, VMB_FEATURE_PAUSE_RESUME);

	(void)state;
	t_send_channel(t, VMB_MSG_CLOSE_CHANNEL, 1);
	t_send_type(t, VMB_MSG_PAUSE);
	t_server_expect(t, "close aa\nPauseResponse\n");
	/* Messages of the guest are refused, what the host has to say waits in order. */
	t_send_teardown(t, 1, 0x10);
	t_send_type(t, VMB_MSG_PAUSE);
	t_server_expect(t, "misbehaved\nmisbehaved\n");
	assert_int_equal(t_offer(t, "ab"), 2);
	assert_int_equal(vmb_bus_server_close_done(t->bus, 1), VMB_OK);
	assert_int_equal(vmb_bus_server_revoke(t->bus, 1), VMB_OK);
	t_server_expect(t, "");
	t_send_type(t, VMB_MSG_RESUME);
	t_server_expect(t, "Offer 2\nRescind 1\n");
	t_send_type(t, VMB_MSG_RESUME);
	t_server_expect(t, "misbehaved\n");
	t_server_free(t);
}

static void
unload_and_contact_end_a_pause_and_what_waited_in_it(void **state)
{
	struct t_server *t = t_server_new(NULL);

	(void)state;
	t_offer(t, "aa");
	t_connect(t, VMB_VERSION_COPPER, VMB_FEATURE_PAUSE_RESUME);
	t_send_type(t, VMB_MSG_PAUSE);
	t_offer(t, "ab");
	t_send_type(t, VMB_MSG_UNLOAD);
	t_server_expect(t, "PauseResponse\ndisconnected\nUnloadComplete\n");
	t_connect(t, VMB_VERSION_COPPER, VMB_FEATURE_PAUSE_RESUME);
	t_send_type(t, VMB_MSG_PAUSE);
	t_offer(t, "ac");
	t_contact(t, VMB_VERSION_IRON, 0);
	t_server_expect(t, "PauseResponse\ndisconnected\nconnected 50003 features 0\n"
	                   "Version ok state 0 value 1 features 0\n");
	t_server_free(t);
}

static void
messages_held_by_a_pause_are_freed_with_the_server(void **state)
{
	struct t_server *t = t_server_new(NULL);

	(void)state;
	t_connect(t, VMB_VERSION_COPPER, VMB_FEATURE_PAUSE_RESUME);
	t_send_type(t, VMB_MSG_PAUSE);
	t_offer(t, "ab");
	t_server_free(t);
}

static void
monitor_pages_are_modified_both_or_none(void **state)
{
	struct t_server *t = t_server_new(NULL);
	struct vmb_msg msg = { .type = VMB_MSG_MODIFY_CONNECTION };

	(void)state;
	t_connect(t, VMB_VERSION_COPPER, VMB_FEATURE_MODIFY_CONNECTION);
	msg.modify_connection.monitor_page_to_child = 0x5000;
	t_send(t, &msg);
	t_server_expect(t, "misbehaved\nConnectionModified 2\n");
	msg.modify_connection.monitor_page_to_parent = 0x6000;
	t_send(t, &msg);
	t_server_expect(t, "ConnectionModified 0\n");
	assert_int_equal(vmb_bus_server_contact(t->bus)->monitor_page_to_parent, 0x6000);
	msg.modify_connection.monitor_page_to_child = 0;
	msg.modify_connection.monitor_page_to_parent = 0;
	t_send(t, &msg);
	t_server_expect(t, "ConnectionModified 0\n");
	t_server_free(t);
}

static void
socket_requests_are_refused_where_there_is_a_word_for_it(void **state)
{
	(void)state;
	for (uint32_t i = 4; i < VMB_VERSION_COUNT; i++) {
		struct t_server *t = t_server_new(NULL);
		struct vmb_msg msg = { .type = VMB_MSG_TL_CONNECT };

		msg.tl_connect.endpoint.bytes[0] = 'e';
		msg.tl_connect.service.bytes[0] = 's';
		t_connect(t, vmb_versions[i], 0);
		t_send(t, &msg);
		t_server_expect(
		    t, vmb_versions[i] >= VMB_VERSION_WIN10_RS3_0 ? "TlResult es c0000236\n" : "");
		t_server_free(t);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_known_version_is_agreed),
		cmocka_unit_test(versions_not_in_the_list_are_unsupported),
		cmocka_unit_test(newest_configured_version_is_the_last_supported),
		cmocka_unit_test(features_are_those_that_both_have_and_only_at_6_0),
		cmocka_unit_test(create_refuses_what_it_cannot_serve),
		cmocka_unit_test(one_monitor_page_of_two_fails_the_contact),
		cmocka_unit_test(sint_and_vtl_count_only_on_the_multi_client_connection),
		cmocka_unit_test(contact_for_another_trust_level_leaves_the_connection_alone),
		cmocka_unit_test(
		    nothing_but_contact_release_and_reserved_close_is_accepted_before_contact),
		cmocka_unit_test(messages_of_hosts_and_unknown_types_are_dropped_at_every_version),
		cmocka_unit_test(types_above_the_version_or_features_are_dropped),
		cmocka_unit_test(second_request_for_offers_gets_none),
		cmocka_unit_test(unload_completes_when_the_devices_have_closed),
		cmocka_unit_test(ids_are_released_after_an_unload_without_a_word),
		cmocka_unit_test(unload_completes_at_once_when_nothing_is_open),
		cmocka_unit_test(unload_waits_for_memory_that_a_device_has_mapped),
		cmocka_unit_test(contact_while_connected_ends_the_old_connection_first),
		cmocka_unit_test(newer_contact_replaces_the_waiting_one),
		cmocka_unit_test(unload_replaces_the_waiting_contact),
		cmocka_unit_test(lost_transport_closes_without_an_answer),
		cmocka_unit_test(lost_transport_takes_the_answer_of_a_waiting_unload),
		cmocka_unit_test(paused_host_is_silent_until_resume),
		cmocka_unit_test(unload_and_contact_end_a_pause_and_what_waited_in_it),
		cmocka_unit_test(messages_held_by_a_pause_are_freed_with_the_server),
		cmocka_unit_test(monitor_pages_are_modified_both_or_none),
		cmocka_unit_test(socket_requests_are_refused_where_there_is_a_word_for_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
