/* SPDX-License-Identifier: MIT */
/*
 * What a host bus lets each guest have, and how many guests: who asks for more is refused in words, keeps what it has,
 * and may ask again when there is room.
 */
#include "t_kmcl.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static struct {
	pthread_mutex_t lock;
	char text[16384];
} seen = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void
keep_line(void *ctx, enum kmcl_log_level level, const char *line)
{
	size_t used;

	(void)ctx;
	(void)level;
	pthread_mutex_lock(&seen.lock);
	used = strlen(seen.text);
	snprintf(seen.text + used, sizeof(seen.text) - used, "%s\n", line);
	pthread_mutex_unlock(&seen.lock);
}

static void
forget_lines(void)
{
	pthread_mutex_lock(&seen.lock);
	seen.text[0] = '\0';
	pthread_mutex_unlock(&seen.lock);
}

static bool
was_said(const char *words)
{
	bool found;

	pthread_mutex_lock(&seen.lock);
	found = strstr(seen.text, words) != NULL;
	pthread_mutex_unlock(&seen.lock);
	return found;
}

static int
setup(void **state)
{
	(void)state;
	forget_lines();
	kmcl_set_log(keep_line, NULL, KMCL_LOG_WARNING);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	kmcl_set_log(NULL, NULL, KMCL_LOG_WARNING);
	return 0;
}

static void
host_open(struct t_bus *bus, const struct kmcl_guest_limits *limits)
{
	struct kmcl_bus_options options = { .size = sizeof(options), .guest_limits = *limits };

	memset(bus, 0, sizeof(*bus));
	t_bus_path(bus->path);
	assert_int_equal(kmcl_bus_listen(bus->path, &options, &bus->host), VMB_OK);
	bus->handle = kmcl_bus_handle(bus->host);
}

static void
host_close(struct t_bus *bus)
{
	assert_int_equal(kmcl_handle_close(bus->handle), STATUS_SUCCESS);
	kmcl_bus_close(bus->host);
}

static void
await_guests(struct kmcl_bus *host, uint32_t count)
{
	struct kmcl_bus_stats stats;

	for (kmcl_bus_get_stats(host, &stats); stats.guests != count; kmcl_bus_get_stats(host, &stats))
		sched_yield();
}

static void
expect_full(struct t_bus *bus)
{
	struct kmcl_bus_stats stats;
	struct kmcl_bus *guest;
	uint64_t before;

	kmcl_bus_get_stats(bus->host, &stats);
	before = stats.guests_refused;
	forget_lines();
	assert_int_equal(kmcl_bus_connect(bus->path, NULL, &guest), VMB_E_ACCESS);
	assert_true(was_said("cannot connect: connection refused: the server has the 2 clients that it may have"));
	assert_true(was_said("--limit clients=N"));
	/* Counted once it has been told. */
	do {
		sched_yield();
		kmcl_bus_get_stats(bus->host, &stats);
	} while (stats.guests_refused == before);
	assert_int_equal(stats.guests_refused, before + 1);
	assert_int_equal(stats.guests, 2);
}

static void
guest_that_is_one_too_many_is_told_so(void **state)
{
	const struct kmcl_guest_limits limits = { .guests = 2 };
	struct kmcl_bus *guests[2];
	struct t_bus bus;

	(void)state;
	host_open(&bus, &limits);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(kmcl_bus_connect(bus.path, NULL, &guests[i]), VMB_OK);
	expect_full(&bus);
	expect_full(&bus);
	kmcl_bus_close(guests[0]);
	await_guests(bus.host, 1);
	assert_int_equal(kmcl_bus_connect(bus.path, NULL, &guests[0]), VMB_OK);
	expect_full(&bus);
	kmcl_bus_close(guests[0]);
	kmcl_bus_close(guests[1]);
	host_close(&bus);
}

static void
open_beyond_the_limit_is_refused_and_the_others_go_on(void **state)
{
	const struct kmcl_guest_limits limits = { .channels = 2 };
	struct t_channel servers[3], clients[3];
	struct kmcl_bus_stats stats;
	struct t_bus bus;

	(void)state;
	host_open(&bus, &limits);
	for (uint32_t i = 0; i < 3; i++) {
		struct t_target target = t_target(i + 1);

		t_server_new(&servers[i], &bus, &target);
		assert_int_equal(VmbChannelEnable(servers[i].handle), STATUS_SUCCESS);
		VmbChannelStart(servers[i].handle);
	}
	assert_int_equal(kmcl_bus_connect(bus.path, NULL, &bus.guest), VMB_OK);
	for (uint32_t i = 0; i < 3; i++) {
		struct t_target target = t_target(i + 1);

		t_client_new(&clients[i], &target);
		assert_int_equal(VmbChannelEnable(clients[i].handle), STATUS_SUCCESS);
		if (i < 2)
			t_count_wait(&clients[i].post_started, 1);
	}
	do {
		sched_yield();
		kmcl_bus_get_stats(bus.host, &stats);
	} while (stats.opens_refused == 0);
	assert_true(was_said("it has the 2 open that a guest may have"));
	assert_int_equal(t_count_get(&servers[2].opened), 0);
	assert_int_equal(stats.guests_cut_off, 0);
	for (uint64_t n = 0; n < 200; n++) {
		assert_int_equal(t_ask(&clients[0], n, -1), STATUS_SUCCESS);
		assert_int_equal(t_ask(&clients[1], n, -1), STATUS_SUCCESS);
	}
	t_channel_free(&clients[2]);
	t_channel_free(&clients[0]);
	/* There is room for one again. */
	{
		struct t_target target = t_target(3);

		t_client_new(&clients[2], &target);
		assert_int_equal(VmbChannelEnable(clients[2].handle), STATUS_SUCCESS);
		t_count_wait(&clients[2].post_started, 1);
		assert_int_equal(t_ask(&clients[2], 5, -1), STATUS_SUCCESS);
	}
	t_channel_free(&clients[2]);
	t_channel_free(&clients[1]);
	kmcl_bus_close(bus.guest);
	for (uint32_t i = 0; i < 3; i++)
		t_channel_free(&servers[i]);
	host_close(&bus);
}

/* Each open channel has one for its rings. */
static void
expect_second_channel_has_no_gpadl(const struct kmcl_guest_limits *limits)
{
	struct t_channel servers[2], clients[2];
	struct kmcl_bus_stats stats;
	struct t_bus bus;

	host_open(&bus, limits);
	for (uint32_t i = 0; i < 2; i++) {
		struct t_target target = t_target(i + 1);

		t_server_new(&servers[i], &bus, &target);
		assert_int_equal(VmbChannelEnable(servers[i].handle), STATUS_SUCCESS);
		VmbChannelStart(servers[i].handle);
	}
	assert_int_equal(kmcl_bus_connect(bus.path, NULL, &bus.guest), VMB_OK);
	for (uint32_t i = 0; i < 2; i++) {
		struct t_target target = t_target(i + 1);

		t_client_new(&clients[i], &target);
		assert_int_equal(VmbChannelEnable(clients[i].handle), STATUS_SUCCESS);
		if (i == 0)
			t_count_wait(&clients[i].post_started, 1);
	}
	do {
		sched_yield();
		kmcl_bus_get_stats(bus.host, &stats);
	} while (stats.misbehaviours == 0);
	assert_true(was_said("more GPADLs or pages in them than this guest may have"));
	assert_int_equal(t_count_get(&servers[1].opened), 0);
	for (uint64_t n = 0; n < 200; n++)
		assert_int_equal(t_ask(&clients[0], n, -1), STATUS_SUCCESS);
	t_channel_free(&clients[1]);
	t_channel_free(&clients[0]);
	kmcl_bus_close(bus.guest);
	t_channel_free(&servers[0]);
	t_channel_free(&servers[1]);
	host_close(&bus);
}

static void
gpadl_beyond_the_limit_is_refused_and_the_others_go_on(void **state)
{
	const struct kmcl_guest_limits limits = { .gpadls = 1 };

	(void)state;
	expect_second_channel_has_no_gpadl(&limits);
}

static void
gpadl_pages_beyond_the_limit_are_refused_and_the_others_go_on(void **state)
{
	/* Two small rings, and not two of them twice: both have a control page and at least one page more. */
	const struct kmcl_guest_limits limits = { .gpadl_pages = 7 };

	(void)state;
	expect_second_channel_has_no_gpadl(&limits);
}

static void *
receive(void *ctx)
{
	struct kmcl_bus *bus = NULL;

	(void)!kmcl_bus_receive(*(int *)ctx, &bus);
	return bus;
}

static void
limits_go_with_a_bus_that_is_handed_over(void **state)
{
	const struct kmcl_guest_limits limits = { .guests = 2 };
	struct kmcl_bus *guests[2];
	struct t_bus bus;
	pthread_t thread;
	void *taken;
	int pair[2];

	(void)state;
	host_open(&bus, &limits);
	assert_int_equal(kmcl_bus_connect(bus.path, NULL, &guests[0]), VMB_OK);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_int_equal(kmcl_bus_hold(bus.host), VMB_OK);
	assert_int_equal(pthread_create(&thread, NULL, receive, &pair[1]), 0);
	assert_int_equal(kmcl_bus_send(bus.host, pair[0]), VMB_OK);
	pthread_join(thread, &taken);
	assert_non_null(taken);
	host_close(&bus);
	bus.host = taken;
	bus.handle = kmcl_bus_handle(bus.host);
	assert_int_equal(kmcl_bus_release(bus.host), VMB_OK);
	assert_int_equal(kmcl_bus_connect(bus.path, NULL, &guests[1]), VMB_OK);
	expect_full(&bus);
	kmcl_bus_close(guests[0]);
	kmcl_bus_close(guests[1]);
	host_close(&bus);
	close(pair[0]);
	close(pair[1]);
}

int
main(void)
{
#define LOGGED(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		LOGGED(guest_that_is_one_too_many_is_told_so),
		LOGGED(open_beyond_the_limit_is_refused_and_the_others_go_on),
		LOGGED(gpadl_beyond_the_limit_is_refused_and_the_others_go_on),
		LOGGED(gpadl_pages_beyond_the_limit_are_refused_and_the_others_go_on),
		LOGGED(limits_go_with_a_bus_that_is_handed_over),
	};

	t_watchdog(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
