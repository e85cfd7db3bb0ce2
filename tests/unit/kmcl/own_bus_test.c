/* SPDX-License-Identifier: MIT */
/*
 * Host buses without a path, whose guests come as ports that somebody else made: what a VMM does. The guest's end here
 * is a guest bus on the other half of a loopback pair.
 */
#include "t_kmcl.h"

#include <sched.h>

#include "kmcl/kmcl_bus.h"

/* A guest bus at the other end of a new port of the host's; as kmcl_bus_add_guest(). */
static enum vmb_status
add_guest(struct kmcl_bus *host, struct kmcl_bus **guest)
{
	struct vmb_port *host_port, *guest_port;
	enum vmb_status status;

	assert_int_equal(
	    vmb_loopback_create(vmb_arena_mem(vmb_arena_process()), &host_port, &guest_port),
	    VMB_OK);
	status = kmcl_bus_add_guest(host, host_port, "a test");
	if (status != VMB_OK) {
		vmb_port_destroy(guest_port);
		return status;
	}
	assert_int_equal(kmcl_bus_new(KMCL_BUS_GUEST, "test", NULL, guest), VMB_OK);
	assert_int_equal(kmcl_guest_attach_port(*guest, guest_port), VMB_OK);
	return VMB_OK;
}

static void
guest_that_was_added_uses_the_offers(void **state)
{
	struct t_bus bus = { 0 };
	struct t_target target = t_target(1);
	struct t_channel server, client;

	(void)state;
	assert_int_equal(kmcl_bus_create(NULL, &bus.host), VMB_OK);
	bus.handle = kmcl_bus_handle(bus.host);
	assert_non_null(bus.handle);
	t_server_new(&server, &bus, &target);
	assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
	VmbChannelStart(server.handle);
	assert_int_equal(add_guest(bus.host, &bus.guest), VMB_OK);
	t_client_new(&client, &target);
	assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
	t_count_wait(&client.post_started, 1);
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(t_ask(&client, i, -1), STATUS_SUCCESS);
	t_channel_free(&client);
	t_channel_free(&server);
	assert_int_equal(kmcl_handle_close(bus.handle), STATUS_SUCCESS);
	kmcl_bus_close(bus.guest);
	kmcl_bus_close(bus.host);
}

/* Each guest is one of its own, comes and goes by itself, and is told what is offered then. */
static void
guests_come_and_go(void **state)
{
	struct kmcl_bus_options options = { .size = sizeof(options),
		                            .newest_version = VMB_VERSION_WIN10 };
	struct kmcl_bus *host, *guests[8];
	struct kmcl_bus_stats stats;
	unsigned before;

	(void)state;
	before = t_open_descriptors();
	assert_int_equal(kmcl_bus_create(&options, &host), VMB_OK);
	for (unsigned i = 0; i < 8; i++) {
		assert_int_equal(add_guest(host, &guests[i]), VMB_OK);
		kmcl_bus_get_stats(guests[i], &stats);
		assert_int_equal(stats.version, VMB_VERSION_WIN10);
	}
	kmcl_bus_get_stats(host, &stats);
	assert_int_equal(stats.guests, 8);
	for (unsigned i = 0; i < 4; i++)
		kmcl_bus_close(guests[i]);
	for (kmcl_bus_get_stats(host, &stats); stats.guests != 4; kmcl_bus_get_stats(host, &stats))
		sched_yield();
	assert_int_equal(stats.guests_seen, 8);
	assert_int_equal(stats.guests_cut_off, 0);
	kmcl_bus_close(host);
	for (unsigned i = 4; i < 8; i++)
		kmcl_bus_close(guests[i]);
	assert_int_equal(t_open_descriptors(), before);
}

/* A ring of two pages of data has one of control too; what a guest describes is pinned when somebody maps it. */
static void
memory_of_guests_is_counted(void **state)
{
	static struct t_channel server, client;
	struct t_target target = t_target(44);
	struct kmcl_bus_stats stats;
	struct t_bus bus = { 0 };
	UINT32 handle;
	void *pool;
	PMDL mdl;

	(void)state;
	assert_int_equal(kmcl_bus_create(NULL, &bus.host), VMB_OK);
	assert_int_equal(add_guest(bus.host, &bus.guest), VMB_OK);
	bus.handle = kmcl_bus_handle(bus.host);
	t_server_new(&server, &bus, &target);
	t_client_new(&client, &target);
	assert_int_equal(VmbClientChannelInitSetRingBufferPageCount(client.handle, 2, 2), STATUS_SUCCESS);
	assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
	VmbChannelStart(server.handle);
	kmcl_bus_get_stats(bus.host, &stats);
	assert_int_equal(stats.gpadls + stats.gpadl_pages + stats.pinned_pages, 0);
	assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
	assert_int_equal(t_ask(&client, 1, -1), STATUS_SUCCESS);
	kmcl_bus_get_stats(bus.host, &stats);
	assert_int_equal(stats.gpadls, 1);
	assert_int_equal(stats.gpadl_pages, 6);
	assert_int_equal(stats.pinned_pages, 6);
	pool = ExAllocatePool2(POOL_FLAG_NON_PAGED, 5 * 4096, 'tseT');
	assert_int_equal(VmbChannelCreateGpadlFromBuffer(client.handle, 0, pool, 5 * 4096, &handle),
	                 STATUS_SUCCESS);
	kmcl_bus_get_stats(bus.host, &stats);
	assert_int_equal(stats.gpadls, 2);
	assert_int_equal(stats.gpadl_pages, 11);
	assert_int_equal(stats.pinned_pages, 6);
	assert_int_equal(VmbChannelMapGpadl(server.handle, 0, handle, &mdl), STATUS_SUCCESS);
	kmcl_bus_get_stats(bus.host, &stats);
	assert_int_equal(stats.pinned_pages, 11);
	VmbChannelUnmapGpadl(server.handle, handle);
	VmbChannelDeleteGpadl(client.handle, handle);
	t_channel_free(&client);
	ExFreePoolWithTag(pool, 'tseT');
	kmcl_bus_get_stats(bus.host, &stats);
	assert_int_equal(stats.gpadls + stats.gpadl_pages + stats.pinned_pages, 0);
	t_channel_free(&server);
	assert_int_equal(kmcl_handle_close(bus.handle), STATUS_SUCCESS);
	kmcl_bus_close(bus.guest);
	kmcl_bus_close(bus.host);
}

static void
port_is_taken_over_whatever_happens(void **state)
{
	struct kmcl_bus *host, *guest, *other;
	struct vmb_port *host_port, *guest_port;
	unsigned before;

	(void)state;
	before = t_open_descriptors();
	assert_int_equal(kmcl_bus_create(NULL, &host), VMB_OK);
	assert_int_equal(kmcl_bus_add_guest(host, NULL, "nobody"), VMB_E_INVALID);
	assert_int_equal(add_guest(NULL, &other), VMB_E_INVALID);
	assert_int_equal(add_guest(host, &guest), VMB_OK);
	assert_int_equal(add_guest(guest, &other), VMB_E_INVALID);
	assert_int_equal(kmcl_bus_hold(host), VMB_OK);
	assert_int_equal(add_guest(host, &other), VMB_E_STATE);
	assert_int_equal(kmcl_bus_release(host), VMB_OK);
	assert_int_equal(add_guest(host, &other), VMB_OK);
	kmcl_bus_close(other);
	kmcl_bus_close(guest);
	/* A guest that never says a word goes with the bus. */
	assert_int_equal(vmb_loopback_create(NULL, &host_port, &guest_port), VMB_OK);
	assert_int_equal(kmcl_bus_add_guest(host, host_port, "silent"), VMB_OK);
	kmcl_bus_close(host);
	vmb_port_destroy(guest_port);
	assert_int_equal(t_open_descriptors(), before);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(guest_that_was_added_uses_the_offers),
		cmocka_unit_test(guests_come_and_go),
		cmocka_unit_test(memory_of_guests_is_counted),
		cmocka_unit_test(port_is_taken_over_whatever_happens),
	};

	t_watchdog(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
