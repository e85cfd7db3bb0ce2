/* SPDX-License-Identifier: MIT */
/*
 * Run loops of every kind: driven by the program through a descriptor, several with several channels each, and several
 * guests and versions on one bus.
 */
#include "t_kmcl.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "vmb/msg.h"

#define CHANNELS 6

/* A program's own event loop: it knows the loop by its descriptor only. */
struct pump {
	struct kmcl_loop *loop;
	_Atomic bool stop;
	int stop_pipe[2];
	pthread_t thread;
	_Atomic uint64_t runs;
};

static void *
pump(void *ctx)
{
	struct pump *p = ctx;
	int epoll_fd = epoll_create1(0);
	struct epoll_event event = { .events = EPOLLIN };

	if (epoll_fd < 0 ||
	    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, kmcl_loop_fd(p->loop), &event) != 0 ||
	    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, p->stop_pipe[0], &event) != 0)
		abort();
	while (!atomic_load(&p->stop)) {
		if (epoll_wait(epoll_fd, &event, 1, -1) != 1)
			continue;
		kmcl_loop_run(p->loop, 0);
		atomic_fetch_add(&p->runs, 1);
	}
	close(epoll_fd);
	return NULL;
}

static void
pump_start(struct pump *p)
{
	struct kmcl_loop_options options = { .size = sizeof(options), .host_driven = true };

	memset(p, 0, sizeof(*p));
	assert_int_equal(kmcl_loop_create(&options, &p->loop), VMB_OK);
	assert_int_equal(pipe(p->stop_pipe), 0);
	assert_int_equal(pthread_create(&p->thread, NULL, pump, p), 0);
}

static void
pump_stop(struct pump *p)
{
	atomic_store(&p->stop, true);
	assert_int_equal(write(p->stop_pipe[1], "x", 1), 1);
	pthread_join(p->thread, NULL);
	close(p->stop_pipe[0]);
	close(p->stop_pipe[1]);
	kmcl_loop_destroy(p->loop);
}

/* Both ends on loops that only the program runs, under traffic, several times over. */
static void
host_driven_loops_carry_traffic(void **state)
{
	struct t_random random = { t_seed(__func__) };
	static struct t_channel server, client;
	struct t_target target = t_target(10);
	static struct pump pumps[2];
	struct t_bus bus;

	(void)state;
	t_watchdog(60);
	t_bus_open(&bus, false);
	for (int round = 0; round < 6; round++) {
		struct t_traffic traffic[2];
		_Atomic bool stop = false;
		uint64_t goal;

		pump_start(&pumps[0]);
		pump_start(&pumps[1]);
		t_server_new(&server, &bus, &target);
		t_client_new(&client, &target);
		atomic_store(&server.answer, T_ANSWER_MIX);
		assert_int_equal(kmcl_channel_set_loop(server.handle, pumps[0].loop), STATUS_SUCCESS);
		assert_int_equal(kmcl_channel_set_loop(client.handle, pumps[1].loop), STATUS_SUCCESS);
		assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
		VmbChannelStart(server.handle);
		assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
		for (unsigned i = 0; i < 2; i++) {
			traffic[i] = (struct t_traffic){ .channel = &client, .stop = &stop,
				.seed = t_random(&random), .with_requests = i != 0 };
			t_traffic_start(&traffic[i]);
		}
		goal = 2000 + t_below(&random, 2000);
		while (atomic_load(&client.completed) < goal)
			sched_yield();
		atomic_store(&stop, true);
		for (unsigned i = 0; i < 2; i++)
			t_traffic_join(&traffic[i]);
		assert_true(atomic_load(&pumps[0].runs) != 0);
		t_channel_free(&client);
		t_channel_free(&server);
		/* Disable returned: the loops are the program's to destroy. */
		pump_stop(&pumps[0]);
		pump_stop(&pumps[1]);
	}
	t_bus_close(&bus);
}

/* One run with no time to wait handles a bounded share; the descriptor must say that there is more. */
static void
descriptor_of_a_host_driven_loop_stays_readable_while_work_is_left(void **state)
{
	struct kmcl_loop_options options = { .size = sizeof(options), .host_driven = true,
		.spin_us = UINT32_MAX };
	static struct t_channel server, client;
	struct t_target target = t_target(11);
	struct kmcl_loop *loop;
	struct t_bus bus;

	(void)state;
	t_seed(__func__);
	t_watchdog(60);
	assert_int_equal(kmcl_loop_create(&options, &loop), VMB_OK);
	t_bus_open(&bus, false);
	t_server_new(&server, &bus, &target);
	t_client_new(&client, &target);
	assert_int_equal(kmcl_channel_set_loop(server.handle, loop), STATUS_SUCCESS);
	/* 64 KiB of packets of 32 bytes are several batches of 256. */
	assert_int_equal(VmbClientChannelInitSetRingBufferPageCount(client.handle, 64, 64),
	                 STATUS_SUCCESS);
	assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
	VmbChannelStart(server.handle);
	assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
	t_count_wait(&client.post_started, 1);
	t_count_wait(&server.started, 1);
	for (int i = 0; i < 5000; i++)
		assert_int_equal(t_send(&client, "1234567", 8, 0, NULL), STATUS_SUCCESS);
	while (t_count_get(&server.received) != 5000) {
		struct epoll_event event = { .events = EPOLLIN };
		int epoll_fd = epoll_create1(0);

		assert_in_range(epoll_fd, 0, 1 << 20);
		assert_int_equal(epoll_ctl(epoll_fd, EPOLL_CTL_ADD, kmcl_loop_fd(loop), &event), 0);
		assert_int_equal(epoll_wait(epoll_fd, &event, 1, -1), 1);
		close(epoll_fd);
		kmcl_loop_run(loop, 0);
	}
	t_channel_free(&client);
	t_channel_free(&server);
	kmcl_loop_destroy(loop);
	t_bus_close(&bus);
}

static void
several_loops_share_several_channels(void **state)
{
	struct t_random random = { t_seed(__func__) };
	static struct t_channel servers[CHANNELS], clients[CHANNELS];
	struct t_traffic traffic[CHANNELS];
	_Atomic bool stop = false;
	struct kmcl_loop *loops[3];
	struct t_bus bus;

	(void)state;
	t_watchdog(60);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(kmcl_loop_create(NULL, &loops[i]), VMB_OK);
	t_bus_open(&bus, false);
	for (unsigned i = 0; i < CHANNELS; i++) {
		struct t_target target = t_target(20 + i);

		t_server_new(&servers[i], &bus, &target);
		t_client_new(&clients[i], &target);
		atomic_store(&servers[i].answer, T_ANSWER_MIX);
		assert_int_equal(kmcl_channel_set_loop(servers[i].handle, loops[t_below(&random, 3)]),
		                 STATUS_SUCCESS);
		assert_int_equal(kmcl_channel_set_loop(clients[i].handle, loops[t_below(&random, 3)]),
		                 STATUS_SUCCESS);
		assert_int_equal(VmbChannelEnable(servers[i].handle), STATUS_SUCCESS);
		VmbChannelStart(servers[i].handle);
		assert_int_equal(VmbChannelEnable(clients[i].handle), STATUS_SUCCESS);
		traffic[i] = (struct t_traffic){ .channel = &clients[i], .stop = &stop,
			.seed = t_random(&random), .with_requests = i % 2 != 0 };
		t_traffic_start(&traffic[i]);
	}
	for (unsigned i = 0; i < 30; i++) {
		unsigned n = t_below(&random, CHANNELS);
		uint64_t before = atomic_load(&clients[(n + 1) % CHANNELS].completed);

		if (t_below(&random, 2) != 0) {
			VmbChannelDisable(clients[n].handle);
		} else {
			VmbChannelDisable(servers[n].handle);
			VmbChannelDisable(clients[n].handle);
			assert_int_equal(VmbChannelEnable(servers[n].handle), STATUS_SUCCESS);
			VmbChannelStart(servers[n].handle);
		}
		/* The others go on meanwhile. */
		while (atomic_load(&clients[(n + 1) % CHANNELS].completed) < before + 50)
			sched_yield();
		assert_int_equal(VmbChannelEnable(clients[n].handle), STATUS_SUCCESS);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < CHANNELS; i++)
		t_traffic_join(&traffic[i]);
	for (unsigned i = 0; i < CHANNELS; i++) {
		t_channel_free(&clients[i]);
		t_channel_free(&servers[i]);
	}
	t_bus_close(&bus);
	for (unsigned i = 0; i < 3; i++)
		kmcl_loop_destroy(loops[i]);
}

static void
guests_of_every_version_are_served(void **state)
{
	static struct t_channel server, client;
	struct t_target target = t_target(30);

	(void)state;
	t_seed(__func__);
	t_watchdog(60);
	for (unsigned v = 0; v < VMB_VERSION_COUNT; v++) {
		for (unsigned old_host = 0; old_host < 2; old_host++) {
			struct kmcl_bus_options options = { .size = sizeof(options),
				.newest_version = vmb_versions[v] };
			struct kmcl_bus_stats stats;
			struct t_bus bus = { 0 };

			t_bus_path(bus.path);
			assert_int_equal(kmcl_bus_listen(bus.path, old_host ? &options : NULL, &bus.host),
			                 VMB_OK);
			assert_int_equal(kmcl_bus_connect(bus.path, old_host ? NULL : &options,
			                                  &bus.guest),
			                 VMB_OK);
			bus.handle = kmcl_bus_handle(bus.host);
			kmcl_bus_get_stats(bus.guest, &stats);
			assert_int_equal(stats.version, vmb_versions[v]);
			t_server_new(&server, &bus, &target);
			t_client_new(&client, &target);
			assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
			VmbChannelStart(server.handle);
			for (int i = 0; i < 3; i++) {
				assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
				assert_int_equal(t_ask(&client, 3, -1), STATUS_SUCCESS);
				VmbChannelDisable(client.handle);
			}
			assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
			assert_int_equal(t_ask(&client, 3, -1), STATUS_SUCCESS);
			VmbChannelDisable(server.handle);
			t_count_wait(&client.closed, 4);
			kmcl_bus_get_stats(bus.guest, &stats);
			assert_int_equal(stats.misbehaviours, 0);
			kmcl_bus_get_stats(bus.host, &stats);
			assert_int_equal(stats.misbehaviours, 0);
			t_channel_free(&client);
			t_channel_free(&server);
			t_bus_close(&bus);
		}
	}
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(host_driven_loops_carry_traffic),
		cmocka_unit_test(descriptor_of_a_host_driven_loop_stays_readable_while_work_is_left),
		cmocka_unit_test(several_loops_share_several_channels),
		cmocka_unit_test(guests_of_every_version_are_served),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
