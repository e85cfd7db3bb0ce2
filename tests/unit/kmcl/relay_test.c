/* SPDX-License-Identifier: MIT */
/*
 * A host bus that shares the offers of a host in another process: offers, guests and processes come and go. Ports of other
 * kinds are in relay_port_test.c, hosts that do wrong in relay_hostile_test.c.
 */
#include "relay_rig.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Packets, requests and external data on three channels, each of which is opened again and again. */
static void
channels_of_another_process_work(void **state)
{
	static struct t_channel clients[3];
	struct t_random random = { t_seed(__func__) };
	struct kmcl_channel_stats stats;
	struct t_child child;
	struct relay_rig rig;

	(void)state;
	relay_rig_open(&rig);
	t_child_start(&child, "server", rig.path);
	relay_rig_share(&rig, NULL);
	for (unsigned round = 0; round < 4; round++) {
		for (unsigned i = 0; i < 3; i++) {
			struct t_target target = t_target(70 + i);

			relay_enable_client(&clients[i], &target);
		}
		for (unsigned i = 0; i < 3; i++) {
			t_count_wait(&clients[i].post_started, 1);
			relay_run_traffic(&clients[i], 4000, t_random(&random));
			kmcl_channel_get_stats(clients[i].handle, &stats);
			assert_true(stats.bytes_shared + stats.bytes_bounced != 0);
			assert_int_equal(t_ask(&clients[i], round, -1), STATUS_SUCCESS);
		}
		/* A guest knows it by its own name only. */
		assert_int_equal(relay_guest_offers(&rig), 3);
		for (unsigned i = 0; i < 3; i++)
			t_channel_free(&clients[i]);
	}
	assert_int_equal(relay_rig_stats(&rig).connections_lost, 0);
	assert_int_equal(relay_rig_stats(&rig).offers, 3);
	assert_int_equal(relay_rig_stats(&rig).misbehaviours, 0);
	t_child_kill(&child);
	relay_wait_until(relay_rig_stats(&rig).offers == 0);
	assert_int_equal(relay_guest_offers(&rig), 0);
	relay_rig_close(&rig);
}

/* The rest of the bus does not notice; the same client finds the same device again. */
static void
process_that_is_killed_comes_back(void **state)
{
	static struct t_channel own_server, own_client, client;
	struct t_target target = t_target(70), own = t_target(79);
	struct t_random random = { t_seed(__func__) };
	struct kmcl_share_options options = { .size = sizeof(options), .retry_ms = 50 };
	struct relay_rig rig;

	(void)state;
	relay_rig_open(&rig);
	relay_enable_server(&own_server, &rig.relay, &own);
	relay_enable_client(&own_client, &own);
	relay_rig_share(&rig, &options);
	for (unsigned round = 0; round < 8; round++) {
		struct t_traffic traffic;
		_Atomic bool stop = false;
		struct t_child child;
		uint64_t goal;

		relay_enable_client(&client, &target);
		t_child_start(&child, "server", rig.path);
		t_count_wait(&client.post_started, 1);
		traffic = (struct t_traffic){ .channel = &client,
			                      .stop = &stop,
			                      .seed = t_random(&random),
			                      .with_requests = true,
			                      .external = true };
		t_traffic_start(&traffic);
		goal = t_below(&random, 400);
		while (atomic_load(&client.accepted) < goal)
			sched_yield();
		t_child_kill(&child);
		t_count_wait(&client.closed, 1);
		atomic_store(&stop, true);
		t_traffic_join(&traffic);
		t_channel_free(&client);
		relay_wait_until(relay_rig_stats(&rig).offers == 0);
		assert_int_equal(relay_guest_offers(&rig), 1);
		assert_int_equal(t_ask(&own_client, round, -1), STATUS_SUCCESS);
	}
	assert_true(relay_rig_stats(&rig).connections_lost >= 8);
	assert_int_equal(t_count_get(&own_client.closed), 0);
	t_channel_free(&own_client);
	t_channel_free(&own_server);
	relay_rig_close(&rig);
}

/* ---- offers come and go -------------------------------------------------------------------------------------------- */

static void
rescind_reaches_the_guest_and_a_new_offer_too(void **state)
{
	static struct t_channel servers[2], clients[2];
	struct t_target targets[2] = { t_target(71), t_target(72) };
	struct t_bus host;
	struct relay_rig rig;

	(void)state;
	relay_rig_open(&rig);
	relay_host_open(&host, &rig);
	relay_rig_share(&rig, NULL);
	relay_enable_server(&servers[1], &host, &targets[1]);
	relay_enable_client(&clients[1], &targets[1]);
	t_count_wait(&clients[1].post_started, 1);
	for (unsigned round = 0; round < 5; round++) {
		relay_enable_server(&servers[0], &host, &targets[0]);
		relay_enable_client(&clients[0], &targets[0]);
		t_count_wait(&clients[0].post_started, 1);
		assert_int_equal(t_ask(&clients[0], round, -1), STATUS_SUCCESS);
		VmbChannelDisable(servers[0].handle);
		/* Told when nobody touches its rings any more. */
		t_count_wait(&clients[0].closed, 1);
		t_channel_free(&servers[0]);
		t_channel_free(&clients[0]);
		relay_wait_until(relay_rig_stats(&rig).offers == 1);
	}
	assert_int_equal(t_ask(&clients[1], 1, -1), STATUS_SUCCESS);
	assert_int_equal(t_count_get(&clients[1].closed), 0);
	t_channel_free(&clients[1]);
	t_channel_free(&servers[1]);
	relay_host_close(&host);
	relay_rig_close(&rig);
}

static void
open_that_is_refused_there_is_refused_here(void **state)
{
	static struct t_channel server, client;
	struct t_target target = t_target(71);
	struct t_bus host;
	struct relay_rig rig;

	(void)state;
	relay_rig_open(&rig);
	relay_host_open(&host, &rig);
	relay_rig_share(&rig, NULL);
	t_server_new(&server, &host, &target);
	atomic_store(&server.refuse_open, true);
	assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
	VmbChannelStart(server.handle);
	relay_enable_client(&client, &target);
	t_count_wait(&client.failures, 1);
	t_channel_free(&client);
	atomic_store(&server.refuse_open, false);
	relay_enable_client(&client, &target);
	t_count_wait(&client.post_started, 1);
	assert_int_equal(t_ask(&client, 1, -1), STATUS_SUCCESS);
	t_channel_free(&client);
	t_channel_free(&server);
	relay_host_close(&host);
	relay_rig_close(&rig);
}

/* Who came first has it. */
static void
device_that_is_offered_here_is_refused(void **state)
{
	static struct t_channel here, there, other, client, late;
	struct t_target target = t_target(71), second = t_target(72);
	struct t_bus host;
	struct relay_rig rig;

	(void)state;
	relay_rig_open(&rig);
	relay_host_open(&host, &rig);
	relay_enable_server(&here, &rig.relay, &target);
	relay_enable_server(&there, &host, &target);
	relay_enable_server(&other, &host, &second);
	relay_rig_share(&rig, NULL);
	relay_wait_until(relay_rig_stats(&rig).connections == 1);
	assert_int_equal(relay_rig_stats(&rig).offers, 1);
	assert_int_equal(relay_rig_stats(&rig).offers_refused, 1);
	relay_wait_until(relay_guest_offers(&rig) == 2);
	relay_enable_client(&client, &target);
	t_count_wait(&client.post_started, 1);
	assert_int_equal(t_count_get(&here.opened), 1);
	assert_int_equal(t_count_get(&there.opened), 0);
	/* The other way round. */
	t_server_new(&late, &rig.relay, &second);
	assert_int_equal(VmbChannelEnable(late.handle), STATUS_OBJECT_NAME_COLLISION);
	t_channel_free(&late);
	t_channel_free(&client);
	t_channel_free(&here);
	t_channel_free(&there);
	t_channel_free(&other);
	relay_host_close(&host);
	relay_rig_close(&rig);
}

static void
host_offers_no_more_than_it_may(void **state)
{
	static struct t_channel servers[5];
	struct kmcl_share_options options = { .size = sizeof(options), .max_offers = 3 };
	struct t_bus host;
	struct relay_rig rig;

	(void)state;
	relay_rig_open(&rig);
	relay_host_open(&host, &rig);
	for (unsigned i = 0; i < 5; i++) {
		struct t_target target = t_target(71 + i);

		relay_enable_server(&servers[i], &host, &target);
	}
	relay_rig_share(&rig, &options);
	relay_wait_until(relay_rig_stats(&rig).connections == 1);
	assert_int_equal(relay_rig_stats(&rig).offers, 3);
	assert_int_equal(relay_rig_stats(&rig).offers_refused, 2);
	for (unsigned i = 0; i < 5; i++)
		t_channel_free(&servers[i]);
	relay_wait_until(relay_rig_stats(&rig).offers == 0);
	relay_host_close(&host);
	relay_rig_close(&rig);
}

/* ---- guests come and go ---------------------------------------------------------------------------------------------- */

static void
each_guest_has_a_connection_of_its_own(void **state)
{
	static struct t_channel server, client;
	struct t_target target = t_target(71);
	struct kmcl_bus *second;
	struct t_bus host;
	struct relay_rig rig;

	(void)state;
	relay_rig_open(&rig);
	relay_host_open(&host, &rig);
	relay_rig_share(&rig, NULL);
	relay_enable_server(&server, &host, &target);
	relay_wait_until(relay_guests_of(host.host) == 1);
	assert_int_equal(kmcl_bus_connect(rig.relay.path, NULL, &second), VMB_OK);
	relay_wait_until(relay_guests_of(host.host) == 2);
	relay_wait_until(kmcl_bus_offers(second, NULL, 0) == 1 && relay_guest_offers(&rig) == 1);
	relay_wait_until(relay_rig_stats(&rig).connections == 2);
	relay_enable_client(&client, &target);
	t_count_wait(&client.post_started, 1);
	/* The guest that has the channel open leaves, without a word. */
	kmcl_bus_close(rig.relay.guest);
	t_count_wait(&client.closed, 1);
	t_count_wait(&server.closed, 1);
	relay_wait_until(relay_guests_of(host.host) == 1);
	t_channel_free(&client);
	/* The other one can have it now. */
	relay_enable_client(&client, &target);
	t_count_wait(&client.post_started, 1);
	assert_int_equal(t_ask(&client, 1, -1), STATUS_SUCCESS);
	t_channel_free(&client);
	kmcl_bus_close(second);
	relay_wait_until(relay_guests_of(host.host) == 0);
	assert_int_equal(kmcl_bus_connect(rig.relay.path, NULL, &rig.relay.guest), VMB_OK);
	relay_enable_client(&client, &target);
	t_count_wait(&client.post_started, 1);
	t_channel_free(&client);
	t_channel_free(&server);
	relay_host_close(&host);
	relay_rig_close(&rig);
}

static void
guest_that_is_killed_leaves_nothing_behind(void **state)
{
	static struct t_channel server;
	struct t_target target = t_target(71);
	struct t_bus host;
	struct relay_rig rig;

	(void)state;
	relay_rig_open(&rig);
	relay_host_open(&host, &rig);
	relay_rig_share(&rig, NULL);
	relay_enable_server(&server, &host, &target);
	atomic_store(&server.answer, T_ANSWER_MIX);
	for (unsigned round = 1; round <= 6; round++) {
		uint64_t goal = t_count_get(&server.received) + 100 * round;
		struct t_child child;

		t_child_start(&child, "client", rig.relay.path);
		t_count_wait(&server.received, goal);
		t_child_kill(&child);
		t_count_wait(&server.closed, round);
		/* The other guest of the relay is still there. */
		relay_wait_until(relay_guests_of(host.host) == 1);
		relay_wait_until(relay_guests_of(rig.relay.host) == 1);
		relay_wait_until(relay_guest_offers(&rig) == 1);
	}
	t_channel_free(&server);
	relay_host_close(&host);
	relay_rig_close(&rig);
}

static void
relay_that_is_closed_closes_everything(void **state)
{
	static struct t_channel server, client;
	struct t_target target = t_target(71);
	struct t_bus host;
	struct relay_rig rig;

	(void)state;
	relay_rig_open(&rig);
	relay_host_open(&host, &rig);
	relay_rig_share(&rig, NULL);
	relay_enable_server(&server, &host, &target);
	relay_enable_client(&client, &target);
	t_count_wait(&client.post_started, 1);
	assert_int_equal(kmcl_handle_close(rig.relay.handle), STATUS_SUCCESS);
	kmcl_bus_close(rig.relay.host);
	t_count_wait(&client.closed, 1);
	t_count_wait(&server.closed, 1);
	relay_wait_until(relay_guests_of(host.host) == 0);
	t_channel_free(&client);
	kmcl_bus_close(rig.relay.guest);
	t_channel_free(&server);
	relay_host_close(&host);
	assert_int_equal(t_open_descriptors(), rig.descriptors);
}

static void
sharing_ends_and_begins_again(void **state)
{
	static struct t_channel server, client;
	struct t_target target = t_target(71);
	struct t_bus host;
	struct relay_rig rig;

	(void)state;
	relay_rig_open(&rig);
	relay_host_open(&host, &rig);
	relay_enable_server(&server, &host, &target);
	for (unsigned round = 0; round < 3; round++) {
		relay_rig_share(&rig, NULL);
		assert_int_equal(kmcl_bus_share(rig.relay.host, rig.path, NULL), VMB_E_EXISTS);
		relay_enable_client(&client, &target);
		t_count_wait(&client.post_started, 1);
		assert_int_equal(kmcl_bus_unshare(rig.relay.host, rig.path), VMB_OK);
		t_count_wait(&client.closed, 1);
		t_count_wait(&server.closed, round + 1);
		relay_wait_until(relay_guests_of(host.host) == 0);
		t_channel_free(&client);
		relay_wait_until(relay_guest_offers(&rig) == 0);
		assert_int_equal(kmcl_bus_unshare(rig.relay.host, rig.path), VMB_E_NOT_FOUND);
	}
	t_channel_free(&server);
	relay_host_close(&host);
	/* Nobody there, and nobody ever. */
	relay_rig_share(&rig, NULL);
	assert_int_equal(kmcl_bus_unshare(rig.relay.host, rig.path), VMB_OK);
	relay_rig_share(&rig, NULL);
	relay_rig_close(&rig);
}

static void
calls_that_cannot_be(void **state)
{
	struct kmcl_share_stats stats;
	char long_path[200];
	struct relay_rig rig;

	(void)state;
	relay_rig_open(&rig);
	memset(long_path, 'x', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = '\0';
	assert_int_equal(kmcl_bus_share(NULL, rig.path, NULL), VMB_E_INVALID);
	assert_int_equal(kmcl_bus_share(rig.relay.guest, rig.path, NULL), VMB_E_INVALID);
	assert_int_equal(kmcl_bus_share(rig.relay.host, NULL, NULL), VMB_E_INVALID);
	assert_int_equal(kmcl_bus_share(rig.relay.host, "", NULL), VMB_E_INVALID);
	assert_int_equal(kmcl_bus_share(rig.relay.host, long_path, NULL), VMB_E_INVALID);
	assert_int_equal(kmcl_bus_unshare(rig.relay.guest, rig.path), VMB_E_INVALID);
	assert_int_equal(kmcl_bus_get_share_stats(rig.relay.host, rig.path, &stats),
	                 VMB_E_NOT_FOUND);
	relay_rig_share(&rig, NULL);
	assert_int_equal(kmcl_bus_hold(rig.relay.host), VMB_OK);
	assert_int_equal(kmcl_bus_unshare(rig.relay.host, rig.path), VMB_E_STATE);
	assert_int_equal(kmcl_bus_share(rig.relay.host, "/elsewhere", NULL), VMB_E_STATE);
	assert_int_equal(kmcl_bus_release(rig.relay.host), VMB_OK);
	relay_rig_close(&rig);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(channels_of_another_process_work),
		cmocka_unit_test(process_that_is_killed_comes_back),
		cmocka_unit_test(rescind_reaches_the_guest_and_a_new_offer_too),
		cmocka_unit_test(open_that_is_refused_there_is_refused_here),
		cmocka_unit_test(device_that_is_offered_here_is_refused),
		cmocka_unit_test(host_offers_no_more_than_it_may),
		cmocka_unit_test(each_guest_has_a_connection_of_its_own),
		cmocka_unit_test(guest_that_is_killed_leaves_nothing_behind),
		cmocka_unit_test(relay_that_is_closed_closes_everything),
		cmocka_unit_test(sharing_ends_and_begins_again),
		cmocka_unit_test(calls_that_cannot_be),
	};

	relay_run_child(argc, argv);
	t_watchdog(100);
	return cmocka_run_group_tests(tests, relay_warm_up, NULL);
}
