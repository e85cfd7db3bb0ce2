/* SPDX-License-Identifier: MIT */
/*
 * Who may be at the other end of a unix socket, and what those hear and get who may not. What needs two users is
 * run by root only; the decision itself needs none.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "port/unix_access.h"
#include "port_fixture.h"

#define OWNER 1000u
#define STRANGER 65534u

static void
those_who_are_named_may_connect_and_nobody_else(void **state)
{
	gid_t others[] = { 7, 8, 9 };
	const struct {
		struct vmb_unix_access access;
		struct unix_peer peer;
		bool permitted;
	} cases[] = {
		{ { .uid_count = 0 }, { .uid = OWNER, .gid = 5 }, true },
		{ { .uid_count = 0 }, { .uid = 0 }, true },
		{ { .uid_count = 0 }, { .uid = OWNER + 1 }, false },
		{ { .uids = { 4, 1001 }, .uid_count = 2 }, { .uid = 1001 }, true },
		{ { .uids = { 4, 1001 }, .uid_count = 1 }, { .uid = 1001 }, false },
		{ { .uids = { 4 }, .uid_count = 1 }, { .uid = 1001, .gid = 4 }, false },
		{ { .gids = { 5 }, .gid_count = 1 }, { .uid = 1001, .gid = 5 }, true },
		{ { .gids = { 5 }, .gid_count = 1 }, { .uid = 5, .gid = 6 }, false },
		{ { .gids = { 9 }, .gid_count = 1 },
		  { .uid = 1001, .groups = others, .group_count = 3 },
		  true },
		{ { .gids = { 9 }, .gid_count = 1 },
		  { .uid = 1001, .groups = others, .group_count = 2 },
		  false },
		{ { .gids = { 0 }, .gid_count = 0 }, { .uid = 1001, .gid = 0 }, false },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (unix_access_permits(&cases[i].access, OWNER, &cases[i].peer) != cases[i].permitted)
			fail_msg("case %zu", i);
	}
}

static void
kernel_tells_who_is_there(void **state)
{
	struct unix_peer peer;
	char who[64], expected[64];
	int pair[2], file;

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	assert_true(unix_peer_of(pair[0], &peer));
	assert_int_equal(peer.uid, geteuid());
	assert_int_equal(peer.gid, getegid());
	assert_int_equal(peer.group_count, getgroups(0, NULL));
	unix_peer_name(&peer, who);
	snprintf(expected, sizeof(expected), "pid %ld, uid %u", (long)getpid(), geteuid());
	assert_string_equal(who, expected);
	unix_peer_forget(&peer);
	close(pair[0]);
	close(pair[1]);
	file = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_false(unix_peer_of(file, &peer));
	close(file);
}

static void
too_many_names_are_refused(void **state)
{
	struct t_socket_world *w = *state;
	struct vmb_unix_access access = { .uid_count = VMB_UNIX_ACCESS_MAX + 1 };
	struct vmb_unix_listener *listener;
	char reason[VMB_PORT_WHY_BYTES];
	struct vmb_port *port;

	assert_int_equal(vmb_unix_listen_for(w->place.path, 0, NULL, &access, &listener), VMB_E_INVALID);
	access = (struct vmb_unix_access){ .gid_count = VMB_UNIX_ACCESS_MAX + 1 };
	assert_int_equal(vmb_unix_listen_for(w->place.path, 0, NULL, &access, &listener), VMB_E_INVALID);
	assert_int_equal(vmb_unix_connect_to(w->place.path, w->arena, &access, &port, reason),
	                 VMB_E_INVALID);
}

static void
socket_is_open_to_others_when_credentials_decide(void **state)
{
	struct t_socket_world *w = *state;
	const struct vmb_unix_access named = { .uids = { 1001 }, .uid_count = 1 };
	const struct {
		const struct vmb_unix_access *access;
		unsigned asked, mode;
	} cases[] = { { NULL, 0, 0600 }, { &named, 0, 0666 }, { &named, 0660, 0660 } };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vmb_unix_listener *listener;
		struct stat st;

		assert_int_equal(vmb_unix_listen_for(w->place.path, cases[i].asked, NULL, cases[i].access,
		                                     &listener),
		                 VMB_OK);
		assert_int_equal(stat(w->place.path, &st), 0);
		assert_int_equal(st.st_mode & 0777, cases[i].mode);
		vmb_unix_listener_destroy(listener);
	}
}

static void
refused_client_reads_why_and_gets_nothing_else(void **state)
{
	struct t_socket_world *w = *state;
	struct vmb_unix_listener *listener;
	char text[VMB_MSG_MAX_BYTES + 1], who[64], expected[64], long_why[400];
	unsigned fd_count;
	int sock, fds[4];
	size_t got;

	assert_int_equal(vmb_unix_listen(w->place.path, 0, NULL, &listener), VMB_OK);
	assert_int_equal(vmb_unix_turn_away(listener, "nobody is there", who), VMB_EMPTY);
	sock = t_raw_connect(w->place.path);
	assert_int_equal(vmb_unix_turn_away(listener, "the house is full", who), VMB_E_ACCESS);
	snprintf(expected, sizeof(expected), "pid %ld, uid %u", (long)getpid(), geteuid());
	assert_string_equal(who, expected);
	got = t_raw_receive(sock, text, VMB_MSG_MAX_BYTES, fds, &fd_count);
	text[got] = '\0';
	assert_string_equal(text, "connection refused: the house is full");
	assert_int_equal(fd_count, 0);
	assert_int_equal(t_raw_receive(sock, text, VMB_MSG_MAX_BYTES, fds, &fd_count), 0);
	close(sock);
	/* More words than a datagram may have. */
	memset(long_why, 'x', sizeof(long_why) - 1);
	long_why[sizeof(long_why) - 1] = '\0';
	sock = t_raw_connect(w->place.path);
	assert_int_equal(vmb_unix_turn_away(listener, long_why, who), VMB_E_ACCESS);
	assert_int_equal(t_raw_receive(sock, text, VMB_MSG_MAX_BYTES, fds, &fd_count),
	                 VMB_MSG_MAX_BYTES - 1);
	close(sock);
	vmb_unix_listener_destroy(listener);
}

static void
guest_hears_the_words_of_a_refusal(void **state)
{
	struct t_socket_world *w = *state;
	struct vmb_unix_listener *listener;
	struct vmb_port *port;
	struct t_end guest;
	char who[64];

	assert_int_equal(vmb_unix_listen(w->place.path, 0, NULL, &listener), VMB_OK);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(vmb_unix_connect(w->place.path, w->arena, &port), VMB_OK);
		t_end_init(&guest, port);
		/* It may have said its first words already, which nobody reads. */
		if (i == 0)
			assert_int_equal(t_post(&guest, 40, VMB_MSG_INITIATE_CONTACT, 0x50000), VMB_OK);
		assert_int_equal(vmb_unix_turn_away(listener, "the house is full", who), VMB_E_ACCESS);
		t_expect_closed(&guest, VMB_E_ACCESS, "connection refused: the house is full");
		assert_int_equal(guest.messages, 0);
		t_end_fini(&guest);
	}
	vmb_unix_listener_destroy(listener);
}

/* A server's words go into the log of its guest: no escape sequences, no second line. */
static void
refusal_is_made_harmless(void **state)
{
	struct t_socket_world *w = *state;
	static const char hostile[] = "connection refused: \x1b[2J\nroot logged in\x80\x7f";
	int listener = t_raw_listen(w->place.path, SOCK_SEQPACKET), host;
	struct vmb_port *port;
	struct t_end guest;

	assert_int_equal(vmb_unix_connect(w->place.path, w->arena, &port), VMB_OK);
	t_end_init(&guest, port);
	host = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	t_raw_send(host, hostile, sizeof(hostile) - 1, NULL, 0);
	t_expect_closed(&guest, VMB_E_ACCESS, "connection refused: ?[2J?root logged in??");
	t_end_fini(&guest);
	close(host);
	close(listener);
}

static void
refusal_counts_as_one_only_before_everything_else(void **state)
{
	struct t_socket_world *w = *state;
	static const char text[] = "connection refused: too late";
	int listener = t_raw_listen(w->place.path, SOCK_SEQPACKET), host;
	uint8_t message[12];
	struct vmb_port *port;
	struct t_end guest;

	assert_int_equal(vmb_unix_connect(w->place.path, w->arena, &port), VMB_OK);
	t_end_init(&guest, port);
	host = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	t_message_fill(message, sizeof(message), VMB_MSG_ALL_OFFERS_DELIVERED, 1);
	t_raw_send(host, message, sizeof(message), NULL, 0);
	t_raw_send(host, text, sizeof(text) - 1, NULL, 0);
	/* Both are messages; what is above the port knows no such type. */
	t_run_until_messages(&guest, 2);
	assert_int_equal(guest.closed_calls, 0);
	t_end_fini(&guest);
	close(host);
	close(listener);
}

/* ---- with two users ------------------------------------------------------------------------------ */

static void
become_a_stranger(void)
{
	if (setgid(STRANGER) != 0 || setuid(STRANGER) != 0)
		_exit(77);
}

static int
end_of(pid_t child)
{
	int status;

	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

/* In a child: connects, and reads the first datagram if there is one. 0: refused as it should be; 1: not. */
static int
visit_as_a_stranger(const struct t_socket_world *w, const char *expected)
{
	char text[VMB_MSG_MAX_BYTES + 1];
	struct vmb_port *port;
	struct t_end guest;

	become_a_stranger();
	if (vmb_unix_connect(w->place.path, w->arena, &port) != VMB_OK)
		return 1;
	t_end_init(&guest, port);
	t_expect_closed(&guest, VMB_E_ACCESS, expected);
	snprintf(text, sizeof(text), "%s", guest.reason);
	return strstr(text, "connection refused: ") == text && guest.messages == 0 ? 0 : 1;
}

static void
stranger_is_told_what_to_do_and_given_nothing(void **state)
{
	struct t_socket_world *w = *state;
	const struct vmb_unix_access others = { .uids = { 4242 }, .uid_count = 1, .gids = { 4242 }, .gid_count = 1 };
	struct vmb_unix_listener *listener;
	struct vmb_port *port;
	char who[64];
	pid_t child;

	if (geteuid() != 0)
		skip();
	assert_int_equal(vmb_unix_listen_for(w->place.path, 0, NULL, &others, &listener), VMB_OK);
	assert_int_equal(chmod(w->place.dir, 0755), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(visit_as_a_stranger(w, "uid 65534 may not connect; the server's owner must start it with "
		                             "--allow-uid 65534"));
	assert_int_equal(t_accept(listener, &port, who), VMB_E_ACCESS);
	assert_non_null(strstr(who, "uid 65534"));
	assert_int_equal(end_of(child), 0);
	vmb_unix_listener_destroy(listener);
}

static void
user_and_group_that_are_named_get_in(void **state)
{
	struct t_socket_world *w = *state;
	static const struct vmb_unix_access cases[] = {
		{ .uids = { STRANGER }, .uid_count = 1 },
		{ .gids = { STRANGER }, .gid_count = 1 },
	};

	if (geteuid() != 0)
		skip();
	assert_int_equal(chmod(w->place.dir, 0755), 0);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vmb_unix_listener *listener;
		struct vmb_port *port;
		char who[64];
		pid_t child;

		assert_int_equal(vmb_unix_listen_for(w->place.path, 0, NULL, &cases[i], &listener), VMB_OK);
		child = fork();
		assert_true(child >= 0);
		if (child == 0) {
			become_a_stranger();
			_exit(vmb_unix_connect(w->place.path, w->arena, &port) == VMB_OK ? 0 : 1);
		}
		assert_int_equal(t_accept(listener, &port, who), VMB_OK);
		assert_int_equal(end_of(child), 0);
		vmb_port_destroy(port);
		vmb_unix_listener_destroy(listener);
	}
}

/* In a child: a server of another user, until it is killed. */
static void
serve_as_a_stranger(const struct t_socket_world *w, int ready)
{
	become_a_stranger();
	(void)t_raw_listen(w->place.path, SOCK_SEQPACKET);
	(void)!write(ready, "r", 1);
	for (;;)
		pause();
}

static void
server_of_somebody_else_is_not_given_our_memory(void **state)
{
	struct t_socket_world *w = *state;
	const struct vmb_unix_access trusted = { .uids = { STRANGER }, .uid_count = 1 };
	char reason[VMB_PORT_WHY_BYTES], byte;
	struct vmb_port *port;
	int ready[2];
	pid_t child;

	if (geteuid() != 0)
		skip();
	assert_int_equal(chmod(w->place.dir, 0777), 0);
	assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		serve_as_a_stranger(w, ready[1]);
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	assert_int_equal(vmb_unix_connect(w->place.path, w->arena, &port), VMB_E_ACCESS);
	assert_int_equal(vmb_unix_connect_to(w->place.path, w->arena, NULL, &port, reason), VMB_E_ACCESS);
	assert_non_null(strstr(reason, "is uid 65534"));
	assert_non_null(strstr(reason, "--allow-uid 65534"));
	assert_int_equal(vmb_unix_connect_memory(w->place.path, vmb_arena_mem(w->arena), NULL, NULL, &port, reason),
	                 VMB_E_ACCESS);
	assert_int_equal(vmb_unix_connect_to(w->place.path, w->arena, &trusted, &port, reason), VMB_OK);
	assert_string_equal(reason, "");
	vmb_port_destroy(port);
	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

int
main(void)
{
#define WORLD(f) cmocka_unit_test_setup_teardown(f, t_socket_setup, t_socket_teardown)
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(those_who_are_named_may_connect_and_nobody_else),
		cmocka_unit_test(kernel_tells_who_is_there),
		WORLD(too_many_names_are_refused),
		WORLD(socket_is_open_to_others_when_credentials_decide),
		WORLD(refused_client_reads_why_and_gets_nothing_else),
		WORLD(guest_hears_the_words_of_a_refusal),
		WORLD(refusal_is_made_harmless),
		WORLD(refusal_counts_as_one_only_before_everything_else),
		WORLD(stranger_is_told_what_to_do_and_given_nothing),
		WORLD(user_and_group_that_are_named_get_in),
		WORLD(server_of_somebody_else_is_not_given_our_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
