/* SPDX-License-Identifier: MIT */
/*
 * Which channels leave barriers to the end that sleeps: those whose port is in this process, if the kernel makes the fence. This
 * program has a system call of its own, which can refuse that. With an argument it does so from the start.
 */
#include "t_kmcl.h"

#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>

#include "kmcl/kmcl_bus.h"
#include "kmcl/kmcl_channel.h"
#include "port/local.h"

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);

static _Atomic bool refuses;
static _Atomic uint32_t fences;

long
__wrap_syscall(long number, ...)
{
	long a[6];
	va_list args;

	va_start(args, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(args, long);
	va_end(args);
	if (number == SYS_membarrier && atomic_load(&refuses)) {
		errno = EPERM;
		return -1;
	}
	return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* As the process's, but for a channel that counts as awake at once, and one in eight is refused. */
static bool
fence_that_fails_now_and_then(void)
{
	return atomic_fetch_add(&fences, 1) % 8 != 7 && port_local()->fence();
}

static const struct vmb_ring_local *
awake_at_once(void)
{
	static const struct vmb_ring_local local = { fence_that_fails_now_and_then, 1 };

	return &local;
}

struct pair {
	struct t_bus bus;
	struct t_channel server, client;
};

/* On p->bus. */
static void
channels_open(struct pair *p)
{
	const struct t_target target = t_target(1);

	t_server_new(&p->server, &p->bus, &target);
	assert_int_equal(VmbChannelEnable(p->server.handle), STATUS_SUCCESS);
	VmbChannelStart(p->server.handle);
	t_client_new(&p->client, &target);
	assert_int_equal(VmbChannelEnable(p->client.handle), STATUS_SUCCESS);
	t_count_wait(&p->client.post_started, 1);
	t_count_wait(&p->server.post_started, 1);
}

static void
channels_close(struct pair *p)
{
	t_channel_free(&p->client);
	t_channel_free(&p->server);
}

static void
pair_open(struct pair *p, bool loopback)
{
	t_watchdog(60);
	t_bus_open(&p->bus, loopback);
	channels_open(p);
}

static void
pair_close(struct pair *p)
{
	channels_close(p);
	t_bus_close(&p->bus);
}

/* From two threads, until so many packets were answered. */
static void
pair_run(struct pair *p, uint64_t packets)
{
	uint64_t goal = atomic_load(&p->client.completed) + packets;
	struct t_traffic traffic[2];
	_Atomic bool stop = false;

	for (unsigned i = 0; i < 2; i++) {
		traffic[i] = (struct t_traffic){ .channel = &p->client, .stop = &stop, .seed = i,
			.with_requests = i != 0 };
		t_traffic_start(&traffic[i]);
	}
	while (atomic_load(&p->client.completed) < goal)
		sched_yield();
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 2; i++)
		t_traffic_join(&traffic[i]);
}

/* What the four ends of a channel's rings were given. */
static void
assert_all_have(const struct pair *p, const struct vmb_ring_local *local)
{
	const struct kmcl_channel *ends[] = { kmcl_channel_from_handle(p->server.handle),
		                              kmcl_channel_from_handle(p->client.handle) };

	for (unsigned i = 0; i < 2; i++) {
		assert_ptr_equal(ends[i]->rx.ring.local, local);
		assert_ptr_equal(ends[i]->tx.ring.local, local);
	}
}

static void
channel_of_this_process_leaves_barriers_to_who_sleeps(void **state)
{
	static struct pair p;

	(void)state;
	if (port_local() == NULL)
		skip();
	pair_open(&p, true);
	assert_all_have(&p, port_local());
	pair_run(&p, 3000);
	pair_close(&p);
}

static void
channel_of_a_socket_follows_the_plain_rule(void **state)
{
	static struct pair p;

	(void)state;
	pair_open(&p, false);
	assert_all_have(&p, NULL);
	pair_close(&p);
}

static void
channel_that_opens_while_the_fence_is_refused_follows_the_plain_rule(void **state)
{
	static struct pair p;

	(void)state;
	atomic_store(&refuses, true);
	pair_open(&p, true);
	assert_all_have(&p, NULL);
	pair_run(&p, 1000);
	pair_close(&p);
	atomic_store(&refuses, false);
}

/* A process that locks itself in when its channels are open already. */
static void
channel_goes_on_when_the_fence_is_refused_later(void **state)
{
	static struct pair p;

	(void)state;
	if (port_local() == NULL)
		skip();
	pair_open(&p, true);
	pair_run(&p, 3000);
	atomic_store(&refuses, true);
	pair_run(&p, 3000);
	pair_close(&p);
	atomic_store(&refuses, false);
}

/* Every sleep after any packet takes the fence, or is refused it. */
static void
nothing_is_lost_by_channels_that_are_awake_at_once(void **state)
{
	static struct vmb_port_ops ops;
	static struct pair p;
	struct vmb_port *host_port, *guest_port;

	(void)state;
	if (port_local() == NULL)
		skip();
	t_watchdog(60);
	assert_int_equal(vmb_loopback_create(vmb_arena_mem(vmb_arena_process()), &host_port, &guest_port), VMB_OK);
	ops = *host_port->ops;
	ops.local = awake_at_once;
	host_port->ops = guest_port->ops = &ops;
	assert_int_equal(kmcl_bus_create(NULL, &p.bus.host), VMB_OK);
	p.bus.handle = kmcl_bus_handle(p.bus.host);
	assert_int_equal(kmcl_bus_add_guest(p.bus.host, host_port, "a test"), VMB_OK);
	assert_int_equal(kmcl_bus_new(KMCL_BUS_GUEST, "test", NULL, &p.bus.guest), VMB_OK);
	assert_int_equal(kmcl_guest_attach_port(p.bus.guest, guest_port), VMB_OK);
	channels_open(&p);
	assert_all_have(&p, awake_at_once());
	pair_run(&p, 5000);
	for (uint64_t i = 0; i < 500; i++)
		assert_int_equal(t_ask(&p.client, i, -1), STATUS_SUCCESS);
	channels_close(&p);
	/* The four of the open, and those of ends that slept. */
	assert_true(atomic_load(&fences) > 4);
	assert_int_equal(kmcl_handle_close(p.bus.handle), STATUS_SUCCESS);
	kmcl_bus_close(p.bus.guest);
	kmcl_bus_close(p.bus.host);
}

static void
process_that_is_refused_the_fence_never_asks_again(void **state)
{
	static struct pair p;

	(void)state;
	assert_null(port_local());
	atomic_store(&refuses, false);
	assert_null(port_local());
	pair_open(&p, true);
	assert_all_have(&p, NULL);
	pair_run(&p, 1000);
	pair_close(&p);
}

int
main(int argc, char **argv)
{
	static const struct CMUnitTest refused[] = {
		cmocka_unit_test(process_that_is_refused_the_fence_never_asks_again),
	};
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(channel_of_this_process_leaves_barriers_to_who_sleeps),
		cmocka_unit_test(channel_of_a_socket_follows_the_plain_rule),
		cmocka_unit_test(channel_that_opens_while_the_fence_is_refused_follows_the_plain_rule),
		cmocka_unit_test(channel_goes_on_when_the_fence_is_refused_later),
		cmocka_unit_test(nothing_is_lost_by_channels_that_are_awake_at_once),
	};

	(void)argv;
	atomic_store(&refuses, argc > 1);
	return argc > 1 ? cmocka_run_group_tests(refused, NULL, NULL) : cmocka_run_group_tests(tests, NULL, NULL);
}
