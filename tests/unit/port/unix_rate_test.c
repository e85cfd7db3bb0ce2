/* SPDX-License-Identifier: MIT */
/*
 * How fast a peer may send: the account of it, and what a host and a guest do when it is overdrawn. Time is what the
 * test says it is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "port/bucket.h"
#include "port/unix.h"
#include "port_fixture.h"

#define SECOND 1000000000ull

static uint64_t now = 1000 * SECOND;

static uint64_t
test_clock(void)
{
	return now;
}

static int
setup(void **state)
{
	(void)state;
	unix_set_clock(test_clock);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	unix_set_clock(NULL);
	return 0;
}

static void
bucket_gives_the_rate_and_twice_of_it_at_once(void **state)
{
	static const uint32_t rates[] = { 1, 3, 10, 200000, 4000000000u };

	(void)state;
	for (unsigned i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
		struct port_bucket bucket = { .rate = rates[i] };
		uint64_t at = 7 * SECOND, burst = 2 * SECOND / port_bucket_cost_ns(&bucket);

		/* Also what is saved up is bounded. */
		at += 1000 * SECOND;
		if (burst > 1000)
			bucket.spent_ns = at + 2 * SECOND - 1000 * port_bucket_cost_ns(&bucket), burst = 1000;
		for (uint64_t n = 0; n < burst; n++)
			assert_true(port_bucket_take(&bucket, at));
		assert_false(port_bucket_take(&bucket, at));
		/* One more at the very moment that it says, and not before. */
		for (unsigned n = 0; n < 5; n++) {
			const uint64_t ready = port_bucket_ready_ns(&bucket, at);

			assert_in_range(ready, at + 1, at + port_bucket_cost_ns(&bucket));
			assert_false(port_bucket_take(&bucket, ready - 1));
			assert_true(port_bucket_take(&bucket, ready));
			at = ready;
		}
	}
}

static void
send_numbered(struct t_raw *raw, uint32_t from, uint32_t to)
{
	uint8_t message[12];

	for (uint32_t i = from; i < to; i++) {
		t_message_fill(message, sizeof(message), VMB_MSG_REQUEST_OFFERS, i);
		t_raw_send(raw->sock, message, sizeof(message), NULL, 0);
	}
}

/* As an owner would that is woken for whatever reason. */
static void
look(struct t_end *end)
{
	for (unsigned i = 0; i < 8; i++)
		vmb_port_poll(end->port);
}

static void
client_that_is_too_fast_waits_and_loses_nothing(void **state)
{
	const struct vmb_unix_limits limits = { .messages_per_second = 10 };
	struct t_raw *raw = t_raw_make(&limits);

	(void)state;
	send_numbered(raw, 0, 90);
	look(&raw->host);
	assert_int_equal(raw->host.messages, 20);
	for (unsigned second = 1; second <= 7; second++) {
		now += SECOND - SECOND / 100;
		look(&raw->host);
		assert_int_equal(raw->host.messages, 20 + 10 * second - 1);
		now += SECOND / 100;
		look(&raw->host);
		assert_int_equal(raw->host.messages, 20 + 10 * second);
	}
	for (uint32_t i = 0; i < 90; i++)
		assert_int_equal(t_u32(raw->host.log[i].data, 8), i);
	assert_int_equal(raw->host.closed_calls, 0);
	t_raw_free(raw);
}

static void
client_that_waits_is_read_again_without_being_asked(void **state)
{
	/* By the real clock: its timer alone wakes the owner. */
	const struct vmb_unix_limits limits = { .messages_per_second = 100 };
	struct t_raw *raw;

	(void)state;
	unix_set_clock(NULL);
	raw = t_raw_make(&limits);
	send_numbered(raw, 0, 230);
	t_run_until_messages(&raw->host, 230);
	t_raw_free(raw);
}

static void
client_that_waits_does_not_wake_its_host(void **state)
{
	const struct vmb_unix_limits limits = { .messages_per_second = 1 };
	struct t_raw *raw = t_raw_make(&limits);
	struct unix_port *up = (struct unix_port *)(void *)raw->host.port;

	(void)state;
	send_numbered(raw, 0, 10);
	look(&raw->host);
	assert_int_equal(raw->host.messages, 2);
	/* Nothing is asked of the socket: not even its end, which would be reported again and again. */
	assert_int_equal(up->interest, 0);
	assert_int_equal(shutdown(raw->sock, SHUT_RDWR), 0);
	look(&raw->host);
	assert_int_equal(raw->host.closed_calls, 0);
	assert_int_equal(up->interest, 0);
	/* What it had sent is still delivered, in its time; then it has left. */
	for (unsigned i = 3; i <= 10; i++) {
		now += SECOND;
		look(&raw->host);
		assert_int_equal(raw->host.messages, i);
	}
	now += SECOND;
	t_expect_closed(&raw->host, VMB_E_CLOSED, "the peer closed the connection");
	t_raw_free(raw);
}

static void
answers_go_out_while_the_client_waits(void **state)
{
	const struct vmb_unix_limits limits = { .messages_per_second = 1 };
	struct t_raw *raw = t_raw_make(&limits);
	uint8_t buffer[VMB_MSG_MAX_BYTES];
	unsigned fd_count;
	int fds[4];

	(void)state;
	send_numbered(raw, 0, 5);
	look(&raw->host);
	assert_int_equal(raw->host.messages, 2);
	/* More than the socket takes, so that some wait here and are asked room for. */
	for (uint32_t i = 0; i < 4000; i++)
		assert_int_equal(t_post(&raw->host, 240, VMB_MSG_OFFER_CHANNEL, i), VMB_OK);
	for (uint32_t i = 0; i < 4000; i++) {
		if (i % 100 == 0)
			look(&raw->host);
		assert_int_equal(t_raw_receive(raw->sock, buffer, sizeof(buffer), fds, &fd_count), 240);
		assert_int_equal(t_u32(buffer, 8), i);
	}
	look(&raw->host);
	assert_int_equal(raw->host.messages, 2);
	now += 3 * SECOND;
	look(&raw->host);
	assert_int_equal(raw->host.messages, 4);
	t_raw_free(raw);
}

static void
host_that_floods_its_guest_is_cut_off(void **state)
{
	const struct vmb_unix_limits limits = { .messages_per_second = 10 };
	char reason[VMB_PORT_WHY_BYTES];
	struct vmb_arena *arena;
	struct vmb_port *port;
	struct t_place place;
	struct t_end guest;
	uint8_t message[12];
	int listener, host;

	(void)state;
	t_place_make(&place);
	assert_int_equal(vmb_arena_create(T_ARENA_BYTES, &arena), VMB_OK);
	listener = t_raw_listen(place.path, SOCK_SEQPACKET);
	assert_int_equal(vmb_unix_connect_memory(place.path, vmb_arena_mem(arena), &limits, NULL, &port, reason),
	                 VMB_OK);
	t_end_init(&guest, port);
	host = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	for (uint32_t i = 0; i < 21; i++) {
		t_message_fill(message, sizeof(message), VMB_MSG_RESCIND_OFFER, i);
		t_raw_send(host, message, sizeof(message), NULL, 0);
	}
	t_expect_closed(&guest, VMB_E_LIMIT, "floods");
	assert_int_equal(guest.messages, 20);
	t_end_fini(&guest);
	close(host);
	close(listener);
	vmb_arena_destroy(arena);
	t_place_remove(&place);
}

int
main(void)
{
#define TIMED(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bucket_gives_the_rate_and_twice_of_it_at_once),
		TIMED(client_that_is_too_fast_waits_and_loses_nothing),
		TIMED(client_that_waits_is_read_again_without_being_asked),
		TIMED(client_that_waits_does_not_wake_its_host),
		TIMED(answers_go_out_while_the_client_waits),
		TIMED(host_that_floods_its_guest_is_cut_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
