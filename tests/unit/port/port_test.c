/* SPDX-License-Identifier: MIT */
/*
 * What every port does, whatever is below it: one table of behaviours, run over each kind of port.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "port_fixture.h"

#define TYPE_PLAIN VMB_MSG_REQUEST_OFFERS
#define OPEN_BYTES 148u

/* An edge-triggered waiter on one descriptor, which never reads it. */
static int
edge_waiter(int fd)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	int waiter = epoll_create1(EPOLL_CLOEXEC);

	assert_true(waiter >= 0);
	assert_int_equal(epoll_ctl(waiter, EPOLL_CTL_ADD, fd, &event), 0);
	return waiter;
}

static bool
edge_seen(int waiter)
{
	struct epoll_event event;

	return epoll_wait(waiter, &event, 1, 0) == 1;
}

/* The guest opens a channel; the host has handled the message when this returns. */
static void
open_channel(struct t_pair *p, uint32_t id, struct vmb_doorbell *guest_bell)
{
	assert_int_equal(vmb_port_doorbell_open(p->guest.port, id, guest_bell), VMB_OK);
	assert_int_equal(t_post(&p->guest, OPEN_BYTES, VMB_MSG_OPEN_CHANNEL, id), VMB_OK);
	t_run_until_messages(&p->host, p->host.messages + 1);
}

static void
messages_arrive_in_order_both_ways(void **state)
{
	struct t_pair *p = *state;

	for (uint32_t i = 0; i < 150; i++) {
		assert_int_equal(t_post(&p->guest, 12 + i % 200, TYPE_PLAIN, i), VMB_OK);
		assert_int_equal(t_post(&p->host, 12 + i % 200, VMB_MSG_OFFER_CHANNEL, 1000 + i), VMB_OK);
	}
	t_run_until_messages(&p->host, 150);
	t_run_until_messages(&p->guest, 150);
	for (uint32_t i = 0; i < 150; i++) {
		uint8_t expected[VMB_MSG_MAX_BYTES];

		t_message_fill(expected, 12 + i % 200, TYPE_PLAIN, i);
		assert_int_equal(p->host.log[i].bytes, 12 + i % 200);
		assert_memory_equal(p->host.log[i].data, expected, 12 + i % 200);
		assert_int_equal(t_u32(p->guest.log[i].data, 8), 1000 + i);
	}
}

static void
post_takes_8_to_240_bytes(void **state)
{
	static const struct {
		uint32_t bytes;
		enum vmb_status expected;
	} cases[] = {
		{ 0, VMB_E_INVALID }, { 7, VMB_E_INVALID }, { 8, VMB_OK }, { 9, VMB_OK },
		{ 239, VMB_OK }, { 240, VMB_OK }, { 241, VMB_E_INVALID }, { UINT32_MAX, VMB_E_INVALID },
	};
	struct t_pair *p = *state;
	uint8_t message[256] = { TYPE_PLAIN };

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(vmb_port_post(p->guest.port, 1, message, cases[i].bytes), cases[i].expected);
		assert_int_equal(vmb_port_post(p->host.port, 1, message, cases[i].bytes), cases[i].expected);
	}
	t_run_until_messages(&p->host, 4);
	t_run_until_messages(&p->guest, 4);
	assert_int_equal(p->host.log[0].bytes, 8);
	assert_int_equal(p->guest.log[3].bytes, 240);
}

static void
host_learns_the_connection_a_message_was_posted_on(void **state)
{
	struct t_pair *p = *state;
	uint8_t contact[40];

	t_message_fill(contact, sizeof(contact), VMB_MSG_INITIATE_CONTACT, VMB_VERSION_WIN10_RS3_1);
	assert_int_equal(vmb_port_post(p->guest.port, VMB_CONNECTION_ID_MULTI_CLIENT, contact,
	                               sizeof(contact)), VMB_OK);
	t_message_fill(contact, sizeof(contact), VMB_MSG_INITIATE_CONTACT, VMB_VERSION_WIN10_RS3_0);
	assert_int_equal(vmb_port_post(p->guest.port, VMB_CONNECTION_ID_LEGACY, contact, sizeof(contact)),
	                 VMB_OK);
	assert_int_equal(t_post(&p->guest, 8, TYPE_PLAIN, 0), VMB_OK);
	t_run_until_messages(&p->host, 3);
	assert_int_equal(p->host.log[0].connection_id, VMB_CONNECTION_ID_MULTI_CLIENT);
	assert_int_equal(p->host.log[1].connection_id, VMB_CONNECTION_ID_LEGACY);
	assert_int_equal(p->host.log[2].connection_id, VMB_CONNECTION_ID_LEGACY);
}

static void
guest_sees_connection_id_zero(void **state)
{
	struct t_pair *p = *state;

	assert_int_equal(t_post(&p->host, 8, VMB_MSG_ALL_OFFERS_DELIVERED, 0), VMB_OK);
	t_run_until_messages(&p->guest, 1);
	assert_int_equal(p->guest.log[0].connection_id, 0);
}

static void
one_poll_handles_64_messages_and_stays_readable(void **state)
{
	struct t_pair *p = *state;

	for (uint32_t i = 0; i < 65; i++)
		assert_int_equal(t_post(&p->guest, 12, TYPE_PLAIN, i), VMB_OK);
	vmb_port_poll(p->host.port);
	assert_int_equal(p->host.messages, 64);
	assert_true(t_readable(vmb_port_poll_fd(p->host.port)));
	vmb_port_poll(p->host.port);
	assert_int_equal(p->host.messages, 65);
	assert_false(t_readable(vmb_port_poll_fd(p->host.port)));
}

static void
poll_without_anything_to_do_returns(void **state)
{
	struct t_pair *p = *state;

	assert_false(t_readable(vmb_port_poll_fd(p->host.port)));
	vmb_port_poll(p->host.port);
	vmb_port_poll(p->guest.port);
	assert_int_equal(p->host.messages + p->guest.messages, 0);
	assert_int_equal(p->host.closed_calls + p->guest.closed_calls, 0);
}

static void
each_signal_is_one_edge_for_the_other_side(void **state)
{
	struct t_pair *p = *state;
	struct vmb_doorbell guest, host;
	int at_host, at_guest;

	open_channel(p, 7, &guest);
	assert_int_equal(vmb_port_doorbell_open(p->host.port, 7, &host), VMB_OK);
	at_host = edge_waiter(host.wait_fd);
	at_guest = edge_waiter(guest.wait_fd);
	assert_false(edge_seen(at_host));
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(vmb_port_ring(p->guest.port, &guest), VMB_OK);
		assert_true(edge_seen(at_host));
		assert_false(edge_seen(at_host));
		assert_false(edge_seen(at_guest));
		assert_int_equal(vmb_port_ring(p->host.port, &host), VMB_OK);
		assert_true(edge_seen(at_guest));
		assert_false(edge_seen(at_guest));
		assert_false(edge_seen(at_host));
	}
	close(at_host);
	close(at_guest);
}

static void
signal_before_the_host_opens_its_doorbell_is_seen(void **state)
{
	struct t_pair *p = *state;
	struct vmb_doorbell guest, host;
	int waiter;

	open_channel(p, 1, &guest);
	assert_int_equal(vmb_port_ring(p->guest.port, &guest), VMB_OK);
	assert_int_equal(vmb_port_doorbell_open(p->host.port, 1, &host), VMB_OK);
	waiter = edge_waiter(host.wait_fd);
	assert_true(edge_seen(waiter));
	close(waiter);
}

static void
doorbells_of_two_channels_are_apart(void **state)
{
	struct t_pair *p = *state;
	struct vmb_doorbell guest[2], host[2];
	int waiters[2];

	for (uint32_t i = 0; i < 2; i++) {
		open_channel(p, 10 + i, &guest[i]);
		assert_int_equal(vmb_port_doorbell_open(p->host.port, 10 + i, &host[i]), VMB_OK);
		waiters[i] = edge_waiter(host[i].wait_fd);
	}
	assert_int_equal(vmb_port_ring(p->guest.port, &guest[1]), VMB_OK);
	assert_false(edge_seen(waiters[0]));
	assert_true(edge_seen(waiters[1]));
	close(waiters[0]);
	close(waiters[1]);
}

static void
doorbell_ids_are_1_to_2047(void **state)
{
	static const struct {
		uint32_t id;
		enum vmb_status expected;
	} cases[] = {
		{ 0, VMB_E_INVALID }, { 1, VMB_OK }, { 2047, VMB_OK }, { 2048, VMB_E_INVALID },
		{ UINT32_MAX, VMB_E_INVALID },
	};
	struct t_pair *p = *state;
	struct vmb_doorbell bell;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		assert_int_equal(vmb_port_doorbell_open(p->guest.port, cases[i].id, &bell), cases[i].expected);
		vmb_port_doorbell_close(p->guest.port, cases[i].id);
		vmb_port_doorbell_close(p->host.port, cases[i].id);
	}
	assert_int_equal(vmb_port_doorbell_open(p->host.port, 2048, &bell), VMB_E_INVALID);
}

static void
doorbell_cannot_be_opened_twice(void **state)
{
	struct t_pair *p = *state;
	struct vmb_doorbell bell;

	open_channel(p, 3, &bell);
	assert_int_equal(vmb_port_doorbell_open(p->guest.port, 3, &bell), VMB_E_EXISTS);
	assert_int_equal(vmb_port_doorbell_open(p->host.port, 3, &bell), VMB_OK);
	assert_int_equal(vmb_port_doorbell_open(p->host.port, 3, &bell), VMB_E_EXISTS);
}

static void
host_has_no_doorbell_that_the_guest_did_not_bring(void **state)
{
	struct t_pair *p = *state;
	struct vmb_doorbell bell;

	assert_int_equal(vmb_port_doorbell_open(p->host.port, 5, &bell), VMB_E_NOT_FOUND);
	/* Open without a doorbell: the guest wants no interrupts. */
	assert_int_equal(t_post(&p->guest, OPEN_BYTES, VMB_MSG_OPEN_CHANNEL, 5), VMB_OK);
	t_run_until_messages(&p->host, 1);
	assert_int_equal(vmb_port_doorbell_open(p->host.port, 5, &bell), VMB_E_NOT_FOUND);
	/* A doorbell that no OpenChannel followed. */
	assert_int_equal(vmb_port_doorbell_open(p->guest.port, 5, &bell), VMB_OK);
	assert_int_equal(t_post(&p->guest, 12, VMB_MSG_CLOSE_CHANNEL, 5), VMB_OK);
	t_run_until_messages(&p->host, 2);
	assert_int_equal(vmb_port_doorbell_open(p->host.port, 5, &bell), VMB_E_NOT_FOUND);
}

static void
reopened_channel_gets_its_new_doorbell(void **state)
{
	struct t_pair *p = *state;
	struct vmb_doorbell guest, host;
	int waiter;

	open_channel(p, 4, &guest);
	assert_int_equal(vmb_port_doorbell_open(p->host.port, 4, &host), VMB_OK);
	vmb_port_doorbell_close(p->guest.port, 4);
	/* The guest opens again while the host still closes the old one. */
	open_channel(p, 4, &guest);
	assert_int_equal(vmb_port_doorbell_open(p->host.port, 4, &host), VMB_E_EXISTS);
	vmb_port_doorbell_close(p->host.port, 4);
	assert_int_equal(vmb_port_doorbell_open(p->host.port, 4, &host), VMB_OK);
	waiter = edge_waiter(host.wait_fd);
	assert_int_equal(vmb_port_ring(p->guest.port, &guest), VMB_OK);
	assert_true(edge_seen(waiter));
	close(waiter);
}

static void
open_that_failed_leaves_its_doorbell_to_the_next(void **state)
{
	struct t_pair *p = *state;
	struct vmb_doorbell guest, host;
	int waiter;

	open_channel(p, 4, &guest);
	vmb_port_doorbell_close(p->guest.port, 4);
	open_channel(p, 4, &guest);
	assert_int_equal(vmb_port_doorbell_open(p->host.port, 4, &host), VMB_OK);
	waiter = edge_waiter(host.wait_fd);
	assert_int_equal(vmb_port_ring(p->guest.port, &guest), VMB_OK);
	assert_true(edge_seen(waiter));
	close(waiter);
}

static void
unclaimed_doorbells_end_with_their_connection(void **state)
{
	static const struct {
		uint32_t type;
		uint32_t bytes;
		uint32_t number;
		enum vmb_status expected;
	} cases[] = {
		{ VMB_MSG_REL_ID_RELEASED, 12, 9, VMB_E_NOT_FOUND },
		{ VMB_MSG_REL_ID_RELEASED, 12, 8, VMB_OK },
		{ VMB_MSG_REL_ID_RELEASED, 12, 4000, VMB_OK },
		{ VMB_MSG_REL_ID_RELEASED, 8, 9, VMB_OK },
		{ VMB_MSG_UNLOAD, 8, 0, VMB_E_NOT_FOUND },
		{ VMB_MSG_INITIATE_CONTACT, 40, 0, VMB_E_NOT_FOUND },
		{ VMB_MSG_CLOSE_CHANNEL, 12, 9, VMB_OK },
	};
	struct t_pair *p = *state;
	struct vmb_doorbell guest, host;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		open_channel(p, 9, &guest);
		assert_int_equal(t_post(&p->guest, cases[i].bytes, cases[i].type, cases[i].number), VMB_OK);
		t_run_until_messages(&p->host, p->host.messages + 1);
		assert_int_equal(vmb_port_doorbell_open(p->host.port, 9, &host), cases[i].expected);
		vmb_port_doorbell_close(p->host.port, 9);
		vmb_port_doorbell_close(p->guest.port, 9);
	}
}

static void
ring_does_not_block_on_a_saturated_counter(void **state)
{
	struct t_pair *p = *state;
	struct vmb_doorbell guest, host;
	uint64_t most = UINT64_MAX - 1;

	open_channel(p, 2, &guest);
	assert_int_equal(vmb_port_doorbell_open(p->host.port, 2, &host), VMB_OK);
	/*
	 * The peer fills the counter and takes O_NONBLOCK away: a plain write would wait for ever.
	 */
	assert_int_equal(write(guest.wait_fd, &most, sizeof(most)), sizeof(most));
	assert_int_equal(fcntl(guest.wait_fd, F_SETFL, 0), 0);
	assert_int_equal(fcntl(host.ring_fd, F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(vmb_port_ring(p->host.port, &host), VMB_OK);
}

static void
cut_tells_both_ends_once(void **state)
{
	struct t_pair *p = *state;

	vmb_port_cut(p->host.port, VMB_E_MALFORMED, "the guest wrote nonsense");
	vmb_port_cut(p->host.port, VMB_E_LIMIT, "a second reason");
	t_expect_closed(&p->host, VMB_E_MALFORMED, "the guest wrote nonsense");
	t_expect_closed(&p->guest, VMB_E_CLOSED, "the peer closed the connection");
}

static void
cut_of_both_ends_keeps_each_ones_words(void **state)
{
	struct t_pair *p = *state;

	vmb_port_cut(p->host.port, VMB_E_TIMEOUT, "host's words");
	vmb_port_cut(p->guest.port, VMB_E_STATE, "guest's words");
	t_expect_closed(&p->host, VMB_E_TIMEOUT, "host's words");
	t_expect_closed(&p->guest, VMB_E_STATE, "guest's words");
}

static void
messages_before_the_end_are_delivered_first(void **state)
{
	struct t_pair *p = *state;

	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(t_post(&p->guest, 12, TYPE_PLAIN, i), VMB_OK);
	/*
	 * Something unread at the end that goes: sockets report that ahead of what they still hold.
	 */
	assert_int_equal(t_post(&p->host, 8, VMB_MSG_ALL_OFFERS_DELIVERED, 0), VMB_OK);
	vmb_port_destroy(p->guest.port);
	p->guest.port = NULL;
	t_run_until_messages(&p->host, 100);
	t_expect_closed(&p->host, VMB_E_CLOSED, "the peer closed the connection");
	assert_int_equal(p->host.messages, 100);
}

static void
posting_to_a_peer_that_left_does_not_lose_what_it_said(void **state)
{
	struct t_pair *p = *state;

	assert_int_equal(t_post(&p->guest, 12, TYPE_PLAIN, 77), VMB_OK);
	vmb_port_destroy(p->guest.port);
	p->guest.port = NULL;
	assert_int_equal(t_post(&p->host, 8, VMB_MSG_ALL_OFFERS_DELIVERED, 0), VMB_E_CLOSED);
	assert_int_equal(t_post(&p->host, 8, VMB_MSG_ALL_OFFERS_DELIVERED, 0), VMB_E_CLOSED);
	t_expect_closed(&p->host, VMB_E_CLOSED, "the peer closed the connection");
	assert_int_equal(p->host.messages, 1);
}

static void
nothing_is_delivered_after_a_cut(void **state)
{
	struct t_pair *p = *state;

	assert_int_equal(t_post(&p->guest, 12, TYPE_PLAIN, 1), VMB_OK);
	vmb_port_cut(p->host.port, VMB_E_LIMIT, "enough");
	t_expect_closed(&p->host, VMB_E_LIMIT, "enough");
	assert_int_equal(p->host.messages, 0);
}

static void
words_of_a_cut_are_bounded(void **state)
{
	struct t_pair *p = *state;
	char words[1000];

	memset(words, 'w', sizeof(words));
	words[sizeof(words) - 1] = '\0';
	vmb_port_cut(p->host.port, VMB_E_IO, words);
	t_expect_closed(&p->host, VMB_E_IO, "wwwwwwww");
	assert_true(strlen(p->host.reason) < 200);
}

static void
closed_port_refuses_everything_but_closing(void **state)
{
	struct t_pair *p = *state;
	struct vmb_doorbell bell, other;

	open_channel(p, 6, &bell);
	vmb_port_cut(p->guest.port, VMB_E_CLOSED, "bye");
	t_run_until_closed(&p->guest);
	assert_int_equal(t_post(&p->guest, 8, TYPE_PLAIN, 0), VMB_E_CLOSED);
	assert_int_equal(vmb_port_doorbell_open(p->guest.port, 7, &other), VMB_E_CLOSED);
	assert_int_equal(vmb_port_ring(p->guest.port, &bell), VMB_E_CLOSED);
	vmb_port_doorbell_close(p->guest.port, 6);
	t_run_until_closed(&p->host);
	assert_int_equal(vmb_port_doorbell_open(p->host.port, 6, &bell), VMB_E_CLOSED);
}

static void
queue_that_overflows_ends_the_connection(void **state)
{
	struct t_pair *p = *state;
	enum vmb_status st = VMB_OK;
	uint32_t posted = 0;

	while (posted < T_LOG_MESSAGES) {
		st = t_post(&p->guest, 240, TYPE_PLAIN, posted);
		if (st != VMB_OK)
			break;
		posted++;
	}
	assert_int_equal(st, VMB_E_LIMIT);
	assert_in_range(posted, 8192, T_LOG_MESSAGES - 1);
	t_expect_closed(&p->guest, VMB_E_LIMIT, "too many messages unread");
	t_run_until_closed(&p->host);
	for (uint32_t i = 0; i < p->host.messages; i++)
		assert_int_equal(t_u32(p->host.log[i].data, 8), i);
}

static void
reply_hook(struct t_end *end, const struct t_message *message)
{
	struct vmb_doorbell bell;

	assert_int_equal(vmb_port_doorbell_open(end->port, t_u32(message->data, 8), &bell), VMB_OK);
	assert_int_equal(vmb_port_ring(end->port, &bell), VMB_OK);
	vmb_port_doorbell_close(end->port, t_u32(message->data, 8));
	(void)vmb_port_memory(end->port);
	assert_int_equal(t_post(end, 20, VMB_MSG_OPEN_RESULT, t_u32(message->data, 8)), VMB_OK);
}

static void
handler_may_use_the_port(void **state)
{
	struct t_pair *p = *state;
	struct vmb_doorbell bell;

	p->host.hook = reply_hook;
	open_channel(p, 12, &bell);
	t_run_until_messages(&p->guest, 1);
	assert_int_equal(t_u32(p->guest.log[0].data, 8), 12);
}

static void
cut_hook(struct t_end *end, const struct t_message *message)
{
	(void)message;
	vmb_port_cut(end->port, VMB_E_MALFORMED, "no more of that");
}

static void
handler_that_cuts_gets_no_further_message(void **state)
{
	struct t_pair *p = *state;

	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(t_post(&p->guest, 12, TYPE_PLAIN, i), VMB_OK);
	p->host.hook = cut_hook;
	t_expect_closed(&p->host, VMB_E_MALFORMED, "no more of that");
	assert_int_equal(p->host.messages, 1);
}

static void
both_ends_see_the_same_memory(void **state)
{
	struct t_pair *p = *state;
	uint8_t *at_guest = vmb_arena_alloc(p->arena, 2);
	uint64_t gpa;
	uint8_t *at_host;

	assert_non_null(at_guest);
	gpa = vmb_arena_gpa(p->arena, at_guest);
	assert_ptr_equal(vmb_port_memory(p->guest.port), vmb_arena_mem(p->arena));
	assert_int_equal(t_post(&p->guest, 40, VMB_MSG_INITIATE_CONTACT, VMB_VERSION_WIN10), VMB_OK);
	t_run_until_messages(&p->host, 1);
	assert_non_null(vmb_port_memory(p->host.port));
	at_host = vmb_mem_host(vmb_port_memory(p->host.port), gpa, 8192);
	assert_non_null(at_host);
	memcpy(at_guest + 4090, "to the host", 12);
	assert_memory_equal(at_host + 4090, "to the host", 12);
	memcpy(at_host, "to the guest", 13);
	assert_memory_equal(at_guest, "to the guest", 13);
	assert_null(vmb_mem_host(vmb_port_memory(p->host.port), T_ARENA_BYTES - 4096, 8192));
	vmb_arena_free(p->arena, at_guest);
}

static void
memory_outlives_its_port(void **state)
{
	struct t_pair *p = *state;
	struct vmb_mem *memory;
	uint8_t *byte;

	assert_int_equal(t_post(&p->guest, 40, VMB_MSG_INITIATE_CONTACT, VMB_VERSION_WIN10), VMB_OK);
	t_run_until_messages(&p->host, 1);
	memory = vmb_port_memory(p->host.port);
	vmb_mem_ref(memory);
	vmb_port_destroy(p->host.port);
	p->host.port = NULL;
	byte = vmb_mem_host(memory, 4096, 1);
	assert_non_null(byte);
	*byte = 0x5A;
	assert_int_equal(*(uint8_t *)vmb_arena_host(p->arena, 4096), 0x5A);
	vmb_mem_unref(memory);
}

#define POSTERS 4u
#define POSTS_EACH 400u

struct poster {
	pthread_t thread;
	struct t_end *end;
	uint32_t first;
	uint32_t refused;
};

static void *
post_many(void *arg)
{
	struct poster *poster = arg;

	for (uint32_t i = 0; i < POSTS_EACH; i++) {
		if (t_post(poster->end, 100, TYPE_PLAIN, poster->first + i) != VMB_OK)
			poster->refused++;
	}
	return NULL;
}

static void
posters_start(struct poster *posters, struct t_end *end)
{
	for (uint32_t i = 0; i < POSTERS; i++) {
		posters[i] = (struct poster){ .end = end, .first = i * 100000 };
		assert_int_equal(pthread_create(&posters[i].thread, NULL, post_many, &posters[i]), 0);
	}
}

static void
messages_of_many_threads_arrive_whole_and_in_order(void **state)
{
	struct t_pair *p = *state;
	struct poster posters[POSTERS];
	uint32_t next[POSTERS] = { 0 };

	posters_start(posters, &p->guest);
	while (p->host.messages < POSTERS * POSTS_EACH) {
		struct pollfd fds[2] = {
			{ .fd = vmb_port_poll_fd(p->host.port), .events = POLLIN },
			{ .fd = vmb_port_poll_fd(p->guest.port), .events = POLLIN },
		};

		assert_true(poll(fds, 2, T_WAIT_MS) > 0);
		vmb_port_poll(p->host.port);
		vmb_port_poll(p->guest.port);
		assert_int_equal(p->host.closed_calls + p->guest.closed_calls, 0);
	}
	for (uint32_t i = 0; i < POSTERS; i++) {
		pthread_join(posters[i].thread, NULL);
		assert_int_equal(posters[i].refused, 0);
	}
	for (uint32_t i = 0; i < p->host.messages; i++) {
		uint32_t number = t_u32(p->host.log[i].data, 8);

		assert_true(number / 100000 < POSTERS);
		assert_int_equal(number % 100000, next[number / 100000]++);
		assert_int_equal(p->host.log[i].data[99], (uint8_t)(number + 99));
	}
}

static void *
ring_and_open_many(void *arg)
{
	struct t_end *end = arg;
	struct vmb_doorbell bell;

	for (uint32_t i = 0; i < POSTS_EACH; i++) {
		if (vmb_port_doorbell_open(end->port, 50, &bell) != VMB_OK)
			break;
		(void)!vmb_port_ring(end->port, &bell);
		(void)!t_post(end, OPEN_BYTES, VMB_MSG_OPEN_CHANNEL, 50);
		vmb_port_doorbell_close(end->port, 50);
	}
	return NULL;
}

static void
connection_may_end_while_threads_use_it(void **state)
{
	struct t_pair *p = *state;
	struct poster posters[POSTERS];
	pthread_t ringer;

	posters_start(posters, &p->guest);
	assert_int_equal(pthread_create(&ringer, NULL, ring_and_open_many, &p->guest), 0);
	vmb_port_cut(p->host.port, VMB_E_LIMIT, "enough");
	t_run_until_closed(&p->host);
	t_run_until_closed(&p->guest);
	pthread_join(ringer, NULL);
	for (uint32_t i = 0; i < POSTERS; i++)
		pthread_join(posters[i].thread, NULL);
	assert_int_equal(t_post(&p->guest, 8, TYPE_PLAIN, 0), VMB_E_CLOSED);
	assert_int_equal(p->guest.closed_calls, 1);
}

static void
two_ends_that_talk_at_once_do_not_wait_for_each_other(void **state)
{
	struct t_pair *p = *state;
	const uint32_t many = 3000;

	for (uint32_t i = 0; i < many; i++) {
		assert_int_equal(t_post(&p->guest, 240, TYPE_PLAIN, i), VMB_OK);
		assert_int_equal(t_post(&p->host, 240, VMB_MSG_OFFER_CHANNEL, i), VMB_OK);
	}
	while (p->host.messages < many || p->guest.messages < many) {
		struct pollfd fds[2] = {
			{ .fd = vmb_port_poll_fd(p->host.port), .events = POLLIN },
			{ .fd = vmb_port_poll_fd(p->guest.port), .events = POLLIN },
		};

		assert_true(poll(fds, 2, T_WAIT_MS) > 0);
		vmb_port_poll(p->host.port);
		vmb_port_poll(p->guest.port);
		assert_int_equal(p->host.closed_calls + p->guest.closed_calls, 0);
	}
	for (uint32_t i = 0; i < many; i++) {
		assert_int_equal(t_u32(p->host.log[i].data, 8), i);
		assert_int_equal(t_u32(p->guest.log[i].data, 8), i);
	}
}

static enum t_kind kinds[] = { T_LOOPBACK, T_UNIX };

static int
setup(void **state)
{
	enum t_kind kind = *(enum t_kind *)*state;

	*state = t_pair_make(kind, NULL);
	return 0;
}

static int
teardown(void **state)
{
	t_pair_free(*state);
	return 0;
}

#define BOTH(f) \
	{ "loopback_" #f, f, setup, teardown, &kinds[0] }, { "unix_" #f, f, setup, teardown, &kinds[1] }

int
main(void)
{
	const struct CMUnitTest tests[] = {
		BOTH(messages_arrive_in_order_both_ways),
		BOTH(post_takes_8_to_240_bytes),
		BOTH(host_learns_the_connection_a_message_was_posted_on),
		BOTH(guest_sees_connection_id_zero),
		BOTH(one_poll_handles_64_messages_and_stays_readable),
		BOTH(poll_without_anything_to_do_returns),
		BOTH(each_signal_is_one_edge_for_the_other_side),
		BOTH(signal_before_the_host_opens_its_doorbell_is_seen),
		BOTH(doorbells_of_two_channels_are_apart),
		BOTH(doorbell_ids_are_1_to_2047),
		BOTH(doorbell_cannot_be_opened_twice),
		BOTH(host_has_no_doorbell_that_the_guest_did_not_bring),
		BOTH(reopened_channel_gets_its_new_doorbell),
		BOTH(open_that_failed_leaves_its_doorbell_to_the_next),
		BOTH(unclaimed_doorbells_end_with_their_connection),
		BOTH(ring_does_not_block_on_a_saturated_counter),
		BOTH(cut_tells_both_ends_once),
		BOTH(cut_of_both_ends_keeps_each_ones_words),
		BOTH(messages_before_the_end_are_delivered_first),
		BOTH(posting_to_a_peer_that_left_does_not_lose_what_it_said),
		BOTH(nothing_is_delivered_after_a_cut),
		BOTH(words_of_a_cut_are_bounded),
		BOTH(closed_port_refuses_everything_but_closing),
		BOTH(queue_that_overflows_ends_the_connection),
		BOTH(handler_may_use_the_port),
		BOTH(handler_that_cuts_gets_no_further_message),
		BOTH(both_ends_see_the_same_memory),
		BOTH(memory_outlives_its_port),
		BOTH(messages_of_many_threads_arrive_whole_and_in_order),
		BOTH(connection_may_end_while_threads_use_it),
		BOTH(two_ends_that_talk_at_once_do_not_wait_for_each_other),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
