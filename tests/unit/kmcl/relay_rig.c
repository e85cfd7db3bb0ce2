/* SPDX-License-Identifier: MIT */
#include "relay_rig.h"

#include <sched.h>
#include <string.h>

void
relay_rig_share(struct relay_rig *rig, const struct kmcl_share_options *options)
{
	assert_int_equal(kmcl_bus_share(rig->relay.host, rig->path, options), VMB_OK);
}

int
relay_warm_up(void **state)
{
	static struct t_channel server, client;
	struct t_target target = t_target(60);
	struct t_bus loopback;

	(void)state;
	t_bus_open(&loopback, true);
	t_server_new(&server, &loopback, &target);
	t_client_new(&client, &target);
	assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
	VmbChannelStart(server.handle);
	assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
	t_count_wait(&client.post_started, 1);
	t_channel_free(&client);
	t_channel_free(&server);
	return 0;
}

void
relay_rig_open(struct relay_rig *rig)
{
	memset(rig, 0, sizeof(*rig));
	t_bus_path(rig->path);
	rig->descriptors = t_open_descriptors();
	t_bus_open(&rig->relay, false);
}

void
relay_rig_close(struct relay_rig *rig)
{
	t_bus_close(&rig->relay);
	unlink(rig->path);
	assert_int_equal(t_open_descriptors(), rig->descriptors);
}

struct kmcl_share_stats
relay_rig_stats(const struct relay_rig *rig)
{
	struct kmcl_share_stats stats;

	assert_int_equal(kmcl_bus_get_share_stats(rig->relay.host, rig->path, &stats), VMB_OK);
	return stats;
}

uint32_t
relay_guest_offers(const struct relay_rig *rig)
{
	return kmcl_bus_offers(rig->relay.guest, NULL, 0);
}

uint32_t
relay_guests_of(struct kmcl_bus *bus)
{
	struct kmcl_bus_stats stats;

	kmcl_bus_get_stats(bus, &stats);
	return stats.guests;
}

void
relay_host_open(struct t_bus *host, const struct relay_rig *rig)
{
	memset(host, 0, sizeof(*host));
	assert_int_equal(kmcl_bus_listen(rig->path, NULL, &host->host), VMB_OK);
	host->handle = kmcl_bus_handle(host->host);
}

void
relay_host_close(struct t_bus *host)
{
	assert_int_equal(kmcl_handle_close(host->handle), STATUS_SUCCESS);
	kmcl_bus_close(host->host);
}

void
relay_enable_server(struct t_channel *server, const struct t_bus *bus,
                    const struct t_target *target)
{
	t_server_new(server, bus, target);
	assert_int_equal(VmbChannelEnable(server->handle), STATUS_SUCCESS);
	VmbChannelStart(server->handle);
}

void
relay_enable_client(struct t_channel *client, const struct t_target *target)
{
	t_client_new(client, target);
	assert_int_equal(VmbChannelEnable(client->handle), STATUS_SUCCESS);
}

void
relay_run_traffic(struct t_channel *client, uint64_t packets, uint64_t seed)
{
	struct t_traffic traffic[2];
	_Atomic bool stop = false;
	uint64_t goal = atomic_load(&client->accepted) + packets;

	for (unsigned i = 0; i < 2; i++) {
		traffic[i] = (struct t_traffic){ .channel = client,
			                         .stop = &stop,
			                         .seed = seed + i,
			                         .with_requests = i != 0,
			                         .external = true };
		t_traffic_start(&traffic[i]);
	}
	while (atomic_load(&client->accepted) < goal)
		sched_yield();
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 2; i++)
		t_traffic_join(&traffic[i]);
}

/* ---- processes of their own ---------------------------------------------------------------------------------------- */

_Noreturn static void
child_server(const char *path)
{
	static struct t_channel servers[3];
	struct t_bus bus = { 0 };

	assert_int_equal(kmcl_bus_listen(path, NULL, &bus.host), VMB_OK);
	bus.handle = kmcl_bus_handle(bus.host);
	for (unsigned i = 0; i < 3; i++) {
		struct t_target target = t_target(70 + i);

		relay_enable_server(&servers[i], &bus, &target);
		atomic_store(&servers[i].answer, T_ANSWER_MIX);
	}
	t_child_ready();
	for (;;)
		pause();
}

/* A guest that sends until it is killed. */
_Noreturn static void
child_client(const char *path)
{
	static struct t_channel client;
	struct t_target target = t_target(71);
	struct t_traffic traffic[2];
	_Atomic bool never = false;
	struct kmcl_bus *bus;

	assert_int_equal(kmcl_bus_connect(path, NULL, &bus), VMB_OK);
	t_client_new(&client, &target);
	assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
	t_count_wait(&client.post_started, 1);
	for (unsigned i = 0; i < 2; i++) {
		traffic[i] = (struct t_traffic){ .channel = &client,
			                         .stop = &never,
			                         .seed = i,
			                         .with_requests = i != 0,
			                         .external = true };
		t_traffic_start(&traffic[i]);
	}
	t_child_ready();
	for (;;)
		pause();
}

void
relay_run_child(int argc, char **argv)
{
	if (argc == 3 && strcmp(argv[1], "server") == 0)
		child_server(argv[2]);
	if (argc == 3 && strcmp(argv[1], "client") == 0)
		child_client(argv[2]);
}
