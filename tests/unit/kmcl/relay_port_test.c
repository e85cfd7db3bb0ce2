/* SPDX-License-Identifier: MIT */
/*
 * Sharing for guests whose port or memory is of another kind than the unix port's, and with a host that changes hands below.
 */
#include "relay_rig.h"

#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "kmcl/kmcl_bus.h"

/* ---- guests whose port is of another kind ---------------------------------------------------------------------------- */

static enum vmb_status (*real_ring)(struct vmb_port *port, const struct vmb_doorbell *doorbell);
static _Atomic uint64_t rings;

static enum vmb_status
counted_ring(struct vmb_port *port, const struct vmb_doorbell *doorbell)
{
	atomic_fetch_add(&rings, 1);
	return real_ring(port, doorbell);
}

/* A guest that comes as a port which has more to do for a signal than to write to a descriptor. */
static void
signals_take_the_way_that_the_port_needs(void **state)
{
	/* One for each: the former port may still be on its way out. */
	static struct vmb_port_ops ops[2];
	static struct t_channel client;
	struct t_target target = t_target(70);
	struct vmb_port *host_port, *guest_port;
	struct kmcl_bus *relay, *guest;
	struct t_child child;
	char path[100];

	(void)state;
	t_bus_path(path);
	t_child_start(&child, "server", path);
	assert_int_equal(kmcl_bus_create(NULL, &relay), VMB_OK);
	assert_int_equal(kmcl_bus_share(relay, path, NULL), VMB_OK);
	for (unsigned by_hop = 0; by_hop < 2; by_hop++) {
		assert_int_equal(vmb_loopback_create(vmb_arena_mem(vmb_arena_process()), &host_port,
		                                     &guest_port),
		                 VMB_OK);
		ops[by_hop] = *host_port->ops;
		ops[by_hop].ring = counted_ring;
		ops[by_hop].rings_by_fd = by_hop == 0;
		if (real_ring == NULL)
			real_ring = host_port->ops->ring;
		host_port->ops = &ops[by_hop];
		atomic_store(&rings, 0);
		assert_int_equal(kmcl_bus_add_guest(relay, host_port, "a test"), VMB_OK);
		assert_int_equal(kmcl_bus_new(KMCL_BUS_GUEST, "test", NULL, &guest), VMB_OK);
		assert_int_equal(kmcl_guest_attach_port(guest, guest_port), VMB_OK);
		for (unsigned round = 0; round < 3; round++) {
			relay_enable_client(&client, &target);
			t_count_wait(&client.post_started, 1);
			relay_run_traffic(&client, 3000, round);
			t_channel_free(&client);
		}
		assert_int_equal(atomic_load(&rings) != 0, by_hop);
		kmcl_bus_close(guest);
	}
	kmcl_bus_close(relay);
	t_child_kill(&child);
	unlink(path);
}

/* It has its own offers, and a reason in the log. */
static void
guest_whose_memory_is_no_file_is_left_alone(void **state)
{
	static struct t_channel server;
	struct vmb_port *host_port, *guest_port;
	struct kmcl_bus *relay, *guest;
	struct t_target target = t_target(71);
	struct kmcl_share_stats stats;
	struct vmb_region region = { .bytes = 1u << 20, .fd = -1 };
	struct vmb_mem *memory;
	struct t_bus host;
	struct relay_rig rig = { 0 };

	(void)state;
	t_bus_path(rig.path);
	relay_host_open(&host, &rig);
	relay_enable_server(&server, &host, &target);
	region.host = aligned_alloc(4096, region.bytes);
	assert_int_equal(vmb_mem_create(&memory), VMB_OK);
	assert_int_equal(vmb_mem_add_region(memory, &region), VMB_OK);
	assert_int_equal(kmcl_bus_create(NULL, &relay), VMB_OK);
	assert_int_equal(vmb_loopback_create(memory, &host_port, &guest_port), VMB_OK);
	assert_int_equal(kmcl_bus_add_guest(relay, host_port, "a test"), VMB_OK);
	assert_int_equal(kmcl_bus_new(KMCL_BUS_GUEST, "test", NULL, &guest), VMB_OK);
	assert_int_equal(kmcl_guest_attach_port(guest, guest_port), VMB_OK);
	assert_int_equal(kmcl_bus_share(relay, rig.path, NULL), VMB_OK);
	usleep(200000);
	assert_int_equal(kmcl_bus_get_share_stats(relay, rig.path, &stats), VMB_OK);
	assert_int_equal(stats.connections, 0);
	assert_int_equal(stats.offers, 0);
	kmcl_bus_close(guest);
	kmcl_bus_close(relay);
	t_channel_free(&server);
	relay_host_close(&host);
	vmb_mem_unref(memory);
	free(region.host);
}

/* ---- a host that changes hands below --------------------------------------------------------------------------------- */

static void
guest_of_a_relay_does_not_notice_that_the_host_changed_hands(void **state)
{
	static struct t_channel servers[6], client;
	struct t_target target = t_target(71);
	struct t_traffic traffic;
	_Atomic bool stop = false;
	struct t_bus host;
	struct relay_rig rig;

	(void)state;
	relay_rig_open(&rig);
	relay_host_open(&host, &rig);
	relay_enable_server(&servers[0], &host, &target);
	relay_rig_share(&rig, NULL);
	relay_enable_client(&client, &target);
	t_count_wait(&client.post_started, 1);
	traffic = (struct t_traffic){ .channel = &client,
		                      .stop = &stop,
		                      .seed = 3,
		                      .with_requests = true,
		                      .external = true };
	t_traffic_start(&traffic);
	for (unsigned i = 1; i < 6; i++) {
		uint64_t goal = atomic_load(&client.completed) + 500;
		size_t bytes;
		void *saved;

		while (atomic_load(&client.completed) < goal)
			sched_yield();
		assert_int_equal(kmcl_bus_hold(host.host), VMB_OK);
		assert_int_equal(kmcl_bus_save(host.host, &saved, &bytes), VMB_OK);
		t_channel_free(&servers[i - 1]);
		t_bus_move(&host);
		assert_int_equal(kmcl_bus_inherit(host.host, saved, bytes), VMB_OK);
		free(saved);
		relay_enable_server(&servers[i], &host, &target);
		assert_int_equal(kmcl_bus_release(host.host), VMB_OK);
	}
	for (uint64_t goal = atomic_load(&client.completed) + 500;
	     atomic_load(&client.completed) < goal;)
		sched_yield();
	atomic_store(&stop, true);
	t_traffic_join(&traffic);
	assert_int_equal(atomic_load(&client.removed), 0);
	assert_int_equal(t_count_get(&client.closed), 0);
	assert_int_equal(relay_rig_stats(&rig).connections_lost, 0);
	t_channel_free(&client);
	t_channel_free(&servers[5]);
	relay_host_close(&host);
	relay_rig_close(&rig);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(signals_take_the_way_that_the_port_needs),
		cmocka_unit_test(guest_whose_memory_is_no_file_is_left_alone),
		cmocka_unit_test(guest_of_a_relay_does_not_notice_that_the_host_changed_hands),
	};

	relay_run_child(argc, argv);
	t_watchdog(100);
	return cmocka_run_group_tests(tests, relay_warm_up, NULL);
}
