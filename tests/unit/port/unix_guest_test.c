/* SPDX-License-Identifier: MIT */
/*
 * A guest port against a raw socket in place of its host: which descriptors it sends with what, and
 * how it treats a host that breaks the rules.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "port_fixture.h"

#define OPEN_BYTES 148u
#define MORE_THAN_A_SOCKET 4000u

struct guest_world {
	unsigned fds_before;
	struct t_place place;
	struct vmb_arena *arena;
	int listener;
	int host;               /* the raw host's end */
	struct t_end guest;
};

static int
setup(void **state)
{
	struct guest_world *w = calloc(1, sizeof(*w));
	struct vmb_port *port;

	assert_non_null(w);
	w->fds_before = t_fd_count();
	t_place_make(&w->place);
	assert_int_equal(vmb_arena_create(T_ARENA_BYTES, &w->arena), VMB_OK);
	w->listener = t_raw_listen(w->place.path, SOCK_SEQPACKET);
	assert_int_equal(vmb_unix_connect(w->place.path, w->arena, &port), VMB_OK);
	w->host = accept4(w->listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	assert_true(w->host >= 0);
	t_end_init(&w->guest, port);
	*state = w;
	return 0;
}

static int
teardown(void **state)
{
	struct guest_world *w = *state;

	t_end_fini(&w->guest);
	vmb_arena_destroy(w->arena);
	if (w->host >= 0)
		close(w->host);
	close(w->listener);
	t_place_remove(&w->place);
	t_expect_fd_count(w->fds_before);
	free(w);
	return 0;
}

static bool
same_file(int a, int b)
{
	struct stat first, second;

	assert_int_equal(fstat(a, &first), 0);
	assert_int_equal(fstat(b, &second), 0);
	return first.st_dev == second.st_dev && first.st_ino == second.st_ino;
}

static void
each_contact_brings_the_guests_memory(void **state)
{
	struct guest_world *w = *state;

	for (unsigned i = 0; i < 2; i++) {
		uint8_t bytes[256], expected[40];
		int fds[4];
		unsigned fd_count;

		assert_int_equal(t_post(&w->guest, 40, VMB_MSG_INITIATE_CONTACT, VMB_VERSION_WIN10), VMB_OK);
		assert_int_equal(t_raw_receive(w->host, bytes, sizeof(bytes), fds, &fd_count), 40);
		t_message_fill(expected, sizeof(expected), VMB_MSG_INITIATE_CONTACT, VMB_VERSION_WIN10);
		assert_memory_equal(bytes, expected, sizeof(expected));
		assert_int_equal(fd_count, 1);
		assert_true(same_file(fds[0], vmb_arena_fd(w->arena)));
		close(fds[0]);
	}
}

static void
open_brings_signal_to_host_then_signal_to_guest(void **state)
{
	struct guest_world *w = *state;
	struct vmb_doorbell bell;
	uint8_t bytes[256];
	int fds[4];
	unsigned fd_count;

	assert_int_equal(vmb_port_doorbell_open(w->guest.port, 8, &bell), VMB_OK);
	assert_int_equal(t_post(&w->guest, OPEN_BYTES, VMB_MSG_OPEN_CHANNEL, 8), VMB_OK);
	assert_int_equal(t_raw_receive(w->host, bytes, sizeof(bytes), fds, &fd_count), OPEN_BYTES);
	assert_int_equal(fd_count, 2);
	assert_int_equal(vmb_port_ring(w->guest.port, &bell), VMB_OK);
	assert_true(t_readable(fds[0]));
	assert_int_equal(eventfd_write(fds[1], 1), 0);
	assert_true(t_readable(bell.wait_fd));
	close(fds[0]);
	close(fds[1]);
}

static void
other_messages_bring_nothing(void **state)
{
	struct guest_world *w = *state;
	struct vmb_doorbell bell;
	uint8_t bytes[256];
	int fds[4];
	unsigned fd_count;

	assert_int_equal(vmb_port_doorbell_open(w->guest.port, 8, &bell), VMB_OK);
	for (uint32_t type = 0; type <= VMB_MSG_TYPE_END; type++) {
		if (type == VMB_MSG_INITIATE_CONTACT || type == VMB_MSG_OPEN_CHANNEL)
			continue;
		assert_int_equal(t_post(&w->guest, 12, type, 8), VMB_OK);
		assert_int_equal(t_raw_receive(w->host, bytes, sizeof(bytes), fds, &fd_count), 12);
		assert_int_equal(fd_count, 0);
	}
}

static void
descriptors_of_a_waiting_open_survive_the_doorbell(void **state)
{
	struct guest_world *w = *state;
	struct vmb_doorbell bell;
	uint8_t bytes[256];
	int fds[4], gate;
	unsigned fd_count = 0;

	for (uint32_t i = 0; i < MORE_THAN_A_SOCKET; i++)
		assert_int_equal(t_post(&w->guest, 240, VMB_MSG_REQUEST_OFFERS, i), VMB_OK);
	assert_int_equal(vmb_port_doorbell_open(w->guest.port, 8, &bell), VMB_OK);
	gate = bell.wait_fd;
	assert_int_equal(t_post(&w->guest, OPEN_BYTES, VMB_MSG_OPEN_CHANNEL, 8), VMB_OK);
	vmb_port_doorbell_close(w->guest.port, 8);
	assert_int_equal(fcntl(gate, F_GETFD), -1);
	for (uint32_t i = 0; i < MORE_THAN_A_SOCKET; i++) {
		t_run_idle(&w->guest);
		assert_int_equal(t_raw_receive(w->host, bytes, sizeof(bytes), fds, &fd_count), 240);
		assert_int_equal(t_u32(bytes, 8), i);
	}
	t_run_idle(&w->guest);
	assert_int_equal(t_raw_receive(w->host, bytes, sizeof(bytes), fds, &fd_count), OPEN_BYTES);
	assert_int_equal(fd_count, 2);
	assert_int_equal(eventfd_write(fds[0], 1), 0);
	close(fds[0]);
	close(fds[1]);
}

static void
message_does_not_overtake_those_that_wait(void **state)
{
	struct guest_world *w = *state;
	uint8_t bytes[256];
	int fds[4];
	unsigned fd_count;

	for (uint32_t i = 0; i < MORE_THAN_A_SOCKET; i++)
		assert_int_equal(t_post(&w->guest, 240, VMB_MSG_REQUEST_OFFERS, i), VMB_OK);
	/* The socket has room again, and the port was not polled yet. */
	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(t_raw_receive(w->host, bytes, sizeof(bytes), fds, &fd_count), 240);
	assert_int_equal(t_post(&w->guest, 240, VMB_MSG_REQUEST_OFFERS, MORE_THAN_A_SOCKET), VMB_OK);
	for (uint32_t i = 100; i <= MORE_THAN_A_SOCKET; i++) {
		t_run_idle(&w->guest);
		assert_int_equal(t_raw_receive(w->host, bytes, sizeof(bytes), fds, &fd_count), 240);
		assert_int_equal(t_u32(bytes, 8), i);
	}
}

static void
waiting_messages_with_descriptors_leak_none(void **state)
{
	struct guest_world *w = *state;
	struct vmb_doorbell bell;

	for (uint32_t i = 0; i < MORE_THAN_A_SOCKET; i++)
		assert_int_equal(t_post(&w->guest, 240, VMB_MSG_REQUEST_OFFERS, i), VMB_OK);
	assert_int_equal(vmb_port_doorbell_open(w->guest.port, 8, &bell), VMB_OK);
	for (uint32_t i = 0; i < 50; i++)
		assert_int_equal(t_post(&w->guest, OPEN_BYTES, VMB_MSG_OPEN_CHANNEL, 8), VMB_OK);
	/* Teardown counts. */
}

static void
datagram_of_wrong_size_cuts_the_host_off(void **state)
{
	static const uint8_t bytes[1000] = { VMB_MSG_ALL_OFFERS_DELIVERED };
	static const struct {
		size_t size;
		const char *reason;
	} cases[] = {
		{ 0, "shorter than a message header" },
		{ 7, "shorter than a message header" },
		{ 241, "longer than 240 bytes" },
		{ 1000, "longer than 240 bytes" },
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		void *world;
		struct guest_world *w;

		setup(&world);
		w = world;
		t_raw_send(w->host, bytes, cases[i].size, NULL, 0);
		t_expect_closed(&w->guest, VMB_E_MALFORMED, cases[i].reason);
		teardown(&world);
	}
}

static void
host_that_sends_descriptors_is_cut_off(void **state)
{
	static const uint32_t types[] = {
		VMB_MSG_VERSION_RESPONSE, VMB_MSG_OPEN_CHANNEL, VMB_MSG_INITIATE_CONTACT,
	};

	(void)state;
	for (unsigned i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		uint8_t message[40];
		void *world;
		struct guest_world *w;
		int fds[2] = { eventfd(0, EFD_CLOEXEC), t_ram_fd(4096, true) };

		setup(&world);
		w = world;
		t_message_fill(message, sizeof(message), types[i], 1);
		t_raw_send(w->host, message, sizeof(message), fds, 1 + i % 2);
		t_expect_closed(&w->guest, VMB_E_MALFORMED, "the host sent descriptors");
		assert_int_equal(w->guest.messages, 0);
		teardown(&world);
		close(fds[0]);
		close(fds[1]);
	}
}

static void
host_that_dies_is_seen_after_its_last_words(void **state)
{
	struct guest_world *w = *state;
	uint8_t message[8] = { VMB_MSG_UNLOAD_COMPLETE };

	t_raw_send(w->host, message, sizeof(message), NULL, 0);
	close(w->host);
	w->host = -1;
	t_expect_closed(&w->guest, VMB_E_CLOSED, "the peer closed the connection");
	assert_int_equal(w->guest.messages, 1);
}

static void
guest_reads_on_while_its_own_messages_wait(void **state)
{
	struct guest_world *w = *state;
	uint8_t message[8] = { VMB_MSG_ALL_OFFERS_DELIVERED };

	for (uint32_t i = 0; i < MORE_THAN_A_SOCKET; i++)
		assert_int_equal(t_post(&w->guest, 240, VMB_MSG_REQUEST_OFFERS, i), VMB_OK);
	t_raw_send(w->host, message, sizeof(message), NULL, 0);
	t_run_until_messages(&w->guest, 1);
}

int
main(void)
{
#define WORLD(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		WORLD(each_contact_brings_the_guests_memory),
		WORLD(open_brings_signal_to_host_then_signal_to_guest),
		WORLD(other_messages_bring_nothing),
		WORLD(descriptors_of_a_waiting_open_survive_the_doorbell),
		WORLD(message_does_not_overtake_those_that_wait),
		WORLD(waiting_messages_with_descriptors_leak_none),
		cmocka_unit_test(datagram_of_wrong_size_cuts_the_host_off),
		cmocka_unit_test(host_that_sends_descriptors_is_cut_off),
		WORLD(host_that_dies_is_seen_after_its_last_words),
		WORLD(guest_reads_on_while_its_own_messages_wait),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
