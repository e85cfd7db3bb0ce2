/* SPDX-License-Identifier: MIT */
/*
 * Both machines when memory runs out: the caller or the peer is told, nothing is half done, nothing
 * leaks.
 */
#include "t_bus.h"

#include "nomem.h"

unsigned t_nomem_countdown;

static bool
fails_now(void)
{
	return t_nomem_countdown != 0 && --t_nomem_countdown == 0;
}

void *
t_nomem_calloc(size_t count, size_t bytes)
{
	return fails_now() ? NULL : calloc(count, bytes);
}

void *
t_nomem_malloc(size_t bytes)
{
	return fails_now() ? NULL : malloc(bytes);
}

static void
creating_a_server_without_memory_fails_cleanly(void **state)
{
	const struct vmb_bus_server_config config = { 0 };
	struct t_server *t = t_server_new(NULL);
	struct vmb_bus_server *bus;

	(void)state;
	for (unsigned n = 1; n <= 2; n++) {
		t_nomem_countdown = n;
		assert_int_equal(vmb_bus_server_create(&config, &t->bus->ops, t, &bus),
				 VMB_E_NO_MEMORY);
	}
	t_server_free(t);
}

static void
offer_without_memory_is_refused_and_can_be_repeated(void **state)
{
	struct t_server *t = t_server_new(NULL);
	struct vmb_msg_offer offer;
	uint32_t id;

	(void)state;
	t_connect(t, VMB_VERSION_IRON, 0);
	t_offer_fill(&offer, "aa", 0);
	t_nomem_countdown = 1;
	assert_int_equal(vmb_bus_server_offer(t->bus, &offer, "aa", &id), VMB_E_NO_MEMORY);
	t_server_expect(t, "");
	assert_int_equal(t_offer(t, "aa"), 1);
	t_server_expect(t, "Offer 1\n");
	t_server_free(t);
}

static void
gpadl_without_memory_is_answered_and_is_no_offence(void **state)
{
	struct t_server *t = t_server_new(NULL);

	(void)state;
	t_offer(t, "aa");
	t_connect(t, VMB_VERSION_IRON, 0);
	t_nomem_countdown = 1;
	t_send_gpadl(t, 1, 0x10, 60);
	t_server_expect(t, "Created 1/10 failed\n");
	t_send_gpadl(t, 1, 0x10, 60);
	t_server_expect(t, "Created 1/10 ok\n");
	t_server_free(t);
}

static void
message_that_cannot_wait_for_resume_is_sent_at_once(void **state)
{
	struct t_server *t = t_server_new(NULL);

	(void)state;
	t_connect(t, VMB_VERSION_COPPER, VMB_FEATURE_PAUSE_RESUME);
	t_send_type(t, VMB_MSG_PAUSE);
	t_server_expect(t, "PauseResponse\n");
	t_nomem_countdown = 2;
	t_offer(t, "aa");
	t_server_expect(t, "Offer 1\n");
	t_server_free(t);
}

static void
loading_without_memory_fails_cleanly_wherever_it_runs_out(void **state)
{
	const struct vmb_bus_server_config config = { .features = VMB_BUS_SERVER_FEATURES };
	struct t_server *t = t_server_new(NULL);
	struct vmb_bus_server *bus;
	uint8_t bytes[4096];
	size_t size;
	unsigned n;

	(void)state;
	t_offer(t, "aa");
	t_connect(t, VMB_VERSION_COPPER, VMB_FEATURE_PAUSE_RESUME);
	t_send_gpadl(t, 1, 0x10, 10);
	t_send_type(t, VMB_MSG_PAUSE);
	t_offer(t, "bb");
	assert_int_equal(vmb_bus_server_save(t->bus, bytes, sizeof(bytes), &size), VMB_OK);
	/* Machine, table, two channels, a GPADL, a message that waits. */
	for (n = 1; n <= 6; n++) {
		t_nomem_countdown = n;
		assert_int_equal(vmb_bus_server_load(&config, &t->bus->ops, t, bytes, size, &bus),
				 VMB_E_NO_MEMORY);
	}
	t_nomem_countdown = n;
	assert_int_equal(vmb_bus_server_load(&config, &t->bus->ops, t, bytes, size, &bus), VMB_OK);
	t_nomem_countdown = 0;
	vmb_bus_server_destroy(bus);
	t_server_free(t);
}

static void
creating_a_client_without_memory_fails(void **state)
{
	const struct vmb_bus_client_config config = { 0 };
	struct t_client *t = t_client_new(NULL);
	struct vmb_bus_client *bus;

	(void)state;
	t_nomem_countdown = 1;
	assert_int_equal(vmb_bus_client_create(&config, &t->bus->ops, t, &bus), VMB_E_NO_MEMORY);
	t_client_free(t);
}

static void
client_without_memory_drops_offers_and_refuses_gpadls(void **state)
{
	struct t_client *t = t_client_new(NULL);
	uint8_t ranges[64];
	uint32_t bytes = t_ranges(ranges, 4);
	uint32_t id;

	(void)state;
	t_client_connect(t, VMB_VERSION_IRON);
	t_nomem_countdown = 1;
	t_host_offer(t, 3);
	t_client_expect(t, "");
	t_host_channel(t, VMB_MSG_RESCIND_OFFER, 3);
	t_client_expect(t, "RelIdReleased 3\n");
	t_host_channel(t, VMB_MSG_RESCIND_OFFER, 3);
	t_client_expect(t, "misbehaved\n");
	t_host_offer(t, 3);
	t_client_expect(t, "offered 3\n");
	t_nomem_countdown = 1;
	assert_int_equal(vmb_bus_client_gpadl_create(t->bus, 3, ranges, bytes, 1, &id),
			 VMB_E_NO_MEMORY);
	t_client_expect(t, "");
	assert_int_equal(vmb_bus_client_gpadl_create(t->bus, 3, ranges, bytes, 1, &id), VMB_OK);
	t_client_free(t);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(creating_a_server_without_memory_fails_cleanly),
		cmocka_unit_test(offer_without_memory_is_refused_and_can_be_repeated),
		cmocka_unit_test(gpadl_without_memory_is_answered_and_is_no_offence),
		cmocka_unit_test(message_that_cannot_wait_for_resume_is_sent_at_once),
		cmocka_unit_test(loading_without_memory_fails_cleanly_wherever_it_runs_out),
		cmocka_unit_test(creating_a_client_without_memory_fails),
		cmocka_unit_test(client_without_memory_drops_offers_and_refuses_gpadls),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
