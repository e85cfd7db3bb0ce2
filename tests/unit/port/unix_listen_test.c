/* SPDX-License-Identifier: MIT */
/*
 * Listening, accepting and connecting: permissions, stale files, who may connect, and clients that
 * are killed.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "port_fixture.h"

static unsigned
mode_of(const char *path)
{
	struct stat st;

	assert_int_equal(lstat(path, &st), 0);
	assert_true(S_ISSOCK(st.st_mode));
	return st.st_mode & 07777u;
}

static void
socket_file_has_the_asked_mode_whatever_the_umask(void **state)
{
	static const struct {
		mode_t umask;
		unsigned asked, expected;
	} cases[] = {
		{ 0, 0, 0600 }, { 022, 0, 0600 }, { 077, 0, 0600 }, { 0777, 0, 0600 },
		{ 0, 0666, 0666 }, { 022, 0660, 0660 }, { 077, 0666, 0666 }, { 0, 0600, 0600 },
	};
	struct t_socket_world *w = *state;
	struct vmb_unix_listener *listener;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		mode_t before = umask(cases[i].umask);
		enum vmb_status st = vmb_unix_listen(w->place.path, cases[i].asked, NULL, &listener);

		umask(before);
		assert_int_equal(st, VMB_OK);
		assert_int_equal(mode_of(w->place.path), cases[i].expected);
		vmb_unix_listener_destroy(listener);
	}
}

static void
mode_with_other_bits_is_refused(void **state)
{
	struct t_socket_world *w = *state;
	struct vmb_unix_listener *listener;

	assert_int_equal(vmb_unix_listen(w->place.path, 01000, NULL, &listener), VMB_E_INVALID);
	assert_int_equal(vmb_unix_listen(w->place.path, 04600, NULL, &listener), VMB_E_INVALID);
}

static void
paths_are_bounded_and_not_abstract(void **state)
{
	struct t_socket_world *w = *state;
	const size_t room = sizeof(((struct sockaddr_un *)0)->sun_path);
	struct vmb_unix_listener *listener;
	struct vmb_port *port;
	char path[200];

	for (size_t length = room - 2; length <= room + 1; length++) {
		enum vmb_status expected = length < room ? VMB_OK : VMB_E_INVALID;
		enum vmb_status st;

		memset(path, 'p', sizeof(path));
		memcpy(path, w->place.dir, strlen(w->place.dir));
		path[strlen(w->place.dir)] = '/';
		path[length] = '\0';
		st = vmb_unix_listen(path, 0, NULL, &listener);
		assert_int_equal(st, expected);
		st = vmb_unix_connect(path, w->arena, &port);
		assert_int_equal(st, expected);
		if (expected == VMB_OK) {
			vmb_port_destroy(port);
			vmb_unix_listener_destroy(listener);
		}
	}
	assert_int_equal(vmb_unix_listen("", 0, NULL, &listener), VMB_E_INVALID);
	assert_int_equal(vmb_unix_listen(NULL, 0, NULL, &listener), VMB_E_INVALID);
	assert_int_equal(vmb_unix_connect("", w->arena, &port), VMB_E_INVALID);
	assert_int_equal(vmb_unix_connect(NULL, w->arena, &port), VMB_E_INVALID);
}

static void
directory_that_is_not_there_is_an_io_error(void **state)
{
	struct t_socket_world *w = *state;
	struct vmb_unix_listener *listener;
	char path[120];

	snprintf(path, sizeof(path), "%s/none/bus", w->place.dir);
	assert_int_equal(vmb_unix_listen(path, 0, NULL, &listener), VMB_E_IO);
	assert_int_equal(errno, ENOENT);
	snprintf(path, sizeof(path), "%s/", w->place.dir);
	assert_int_equal(vmb_unix_listen(path, 0, NULL, &listener), VMB_E_IO);
}

static void
second_listener_is_refused(void **state)
{
	struct t_socket_world *w = *state;
	struct vmb_unix_listener *first, *second;
	struct vmb_port *port;

	assert_int_equal(vmb_unix_listen(w->place.path, 0, NULL, &first), VMB_OK);
	assert_int_equal(vmb_unix_listen(w->place.path, 0, NULL, &second), VMB_E_EXISTS);
	/* The first still serves; the attempt to find out left it one short-lived connection. */
	assert_int_equal(vmb_unix_connect(w->place.path, w->arena, &port), VMB_OK);
	vmb_port_destroy(port);
	vmb_unix_listener_destroy(first);
}

static void
server_of_another_socket_type_is_not_replaced(void **state)
{
	struct t_socket_world *w = *state;
	struct vmb_unix_listener *listener;
	int server = t_raw_listen(w->place.path, SOCK_STREAM);

	assert_int_equal(vmb_unix_listen(w->place.path, 0, NULL, &listener), VMB_E_EXISTS);
	close(server);
}

static void
stale_socket_file_is_replaced(void **state)
{
	struct t_socket_world *w = *state;
	struct vmb_unix_listener *listener;
	struct vmb_port *port;

	close(t_raw_listen(w->place.path, SOCK_SEQPACKET));
	assert_int_equal(vmb_unix_connect(w->place.path, w->arena, &port), VMB_E_NOT_FOUND);
	assert_int_equal(vmb_unix_listen(w->place.path, 0, NULL, &listener), VMB_OK);
	assert_int_equal(mode_of(w->place.path), 0600);
	assert_int_equal(vmb_unix_connect(w->place.path, w->arena, &port), VMB_OK);
	vmb_port_destroy(port);
	vmb_unix_listener_destroy(listener);
}

static void
file_that_is_no_socket_is_never_replaced(void **state)
{
	struct t_socket_world *w = *state;
	struct vmb_unix_listener *listener;
	char target[120];
	int fd = open(w->place.path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(vmb_unix_listen(w->place.path, 0, NULL, &listener), VMB_E_IO);
	assert_int_equal(errno, EADDRINUSE);
	assert_int_equal(access(w->place.path, F_OK), 0);
	unlink(w->place.path);
	/* Nor a link to a stale one. */
	snprintf(target, sizeof(target), "%s/target", w->place.dir);
	close(t_raw_listen(target, SOCK_SEQPACKET));
	assert_int_equal(symlink(target, w->place.path), 0);
	assert_int_equal(vmb_unix_listen(w->place.path, 0, NULL, &listener), VMB_E_IO);
	assert_int_equal(access(target, F_OK), 0);
	unlink(target);
}

struct racer {
	pthread_t thread;
	const char *path;
	struct vmb_unix_listener *listener;
	enum vmb_status st;
};

static void *
race_to_listen(void *arg)
{
	struct racer *racer = arg;

	racer->st = vmb_unix_listen(racer->path, 0, NULL, &racer->listener);
	return NULL;
}

static void
one_of_many_replaces_a_stale_file(void **state)
{
	struct t_socket_world *w = *state;

	for (unsigned round = 0; round < 20; round++) {
		struct racer racers[4];
		unsigned winners = 0;

		close(t_raw_listen(w->place.path, SOCK_SEQPACKET));
		for (unsigned i = 0; i < 4; i++) {
			racers[i] = (struct racer){ .path = w->place.path };
			assert_int_equal(pthread_create(&racers[i].thread, NULL, race_to_listen, &racers[i]), 0);
		}
		for (unsigned i = 0; i < 4; i++)
			pthread_join(racers[i].thread, NULL);
		for (unsigned i = 0; i < 4; i++) {
			if (racers[i].st == VMB_OK) {
				winners++;
				vmb_unix_listener_destroy(racers[i].listener);
			} else {
				assert_int_equal(racers[i].st, VMB_E_EXISTS);
			}
		}
		assert_int_equal(winners, 1);
		assert_int_not_equal(access(w->place.path, F_OK), 0);
	}
}

static void
directory_that_somebody_keeps_locked_is_busy(void **state)
{
	struct t_socket_world *w = *state;
	struct vmb_unix_listener *listener;
	int dir = open(w->place.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(dir >= 0);
	assert_int_equal(flock(dir, LOCK_EX), 0);
	assert_int_equal(vmb_unix_listen(w->place.path, 0, NULL, &listener), VMB_E_BUSY);
	close(dir);
	assert_int_equal(vmb_unix_listen(w->place.path, 0, NULL, &listener), VMB_OK);
	vmb_unix_listener_destroy(listener);
}

static void
server_that_accepts_nobody_is_a_timeout(void **state)
{
	struct t_socket_world *w = *state;
	struct vmb_port *port;
	int server = t_raw_listen(w->place.path, SOCK_SEQPACKET);
	int first;

	/* Room for one that waits. */
	assert_int_equal(listen(server, 0), 0);
	first = t_raw_connect(w->place.path);
	assert_int_equal(vmb_unix_connect(w->place.path, w->arena, &port), VMB_E_TIMEOUT);
	close(first);
	close(server);
}

static void
listener_removes_only_its_own_file(void **state)
{
	struct t_socket_world *w = *state;
	struct vmb_unix_listener *first, *second;

	assert_int_equal(vmb_unix_listen(w->place.path, 0, NULL, &first), VMB_OK);
	unlink(w->place.path);
	assert_int_equal(vmb_unix_listen(w->place.path, 0, NULL, &second), VMB_OK);
	vmb_unix_listener_destroy(first);
	assert_int_equal(access(w->place.path, F_OK), 0);
	vmb_unix_listener_destroy(second);
	assert_int_not_equal(access(w->place.path, F_OK), 0);
}

static void
listener_of_a_relative_path_is_removed_from_where_it_was(void **state)
{
	struct t_socket_world *w = *state;
	struct vmb_unix_listener *listener;
	int here = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(here >= 0);
	assert_int_equal(chdir(w->place.dir), 0);
	assert_int_equal(vmb_unix_listen("bus", 0, NULL, &listener), VMB_OK);
	assert_int_equal(fchdir(here), 0);
	close(here);
	assert_int_equal(access(w->place.path, F_OK), 0);
	vmb_unix_listener_destroy(listener);
	assert_int_not_equal(access(w->place.path, F_OK), 0);
}

static void
accepted_ports_outlive_the_listener(void **state)
{
	struct t_socket_world *w = *state;
	struct vmb_unix_listener *listener;
	struct vmb_port *host, *guest;
	struct t_end end;
	char who[64];
	uint8_t message[8] = { VMB_MSG_REQUEST_OFFERS };

	assert_int_equal(vmb_unix_listen(w->place.path, 0, NULL, &listener), VMB_OK);
	assert_int_equal(vmb_unix_connect(w->place.path, w->arena, &guest), VMB_OK);
	assert_int_equal(t_accept(listener, &host, who), VMB_OK);
	vmb_unix_listener_destroy(listener);
	t_end_init(&end, host);
	assert_int_equal(vmb_port_post(guest, 1, message, sizeof(message)), VMB_OK);
	t_run_until_messages(&end, 1);
	t_end_fini(&end);
	vmb_port_destroy(guest);
}

static void
accept_says_who_came(void **state)
{
	struct t_socket_world *w = *state;
	struct vmb_unix_listener *listener;
	struct vmb_port *host, *guest;
	char who[64], expected[64];

	assert_int_equal(vmb_unix_listen(w->place.path, 0, NULL, &listener), VMB_OK);
	assert_int_equal(vmb_unix_accept(listener, &host, who), VMB_EMPTY);
	assert_int_equal(vmb_unix_connect(w->place.path, w->arena, &guest), VMB_OK);
	assert_int_equal(t_accept(listener, &host, who), VMB_OK);
	snprintf(expected, sizeof(expected), "pid %ld, uid %lu", (long)getpid(), (unsigned long)getuid());
	assert_string_equal(who, expected);
	assert_int_equal(vmb_unix_accept(listener, &host, expected), VMB_EMPTY);
	vmb_port_destroy(host);
	vmb_port_destroy(guest);
	vmb_unix_listener_destroy(listener);
}

static void
nobody_listening_is_not_found(void **state)
{
	struct t_socket_world *w = *state;
	struct vmb_port *port;

	assert_int_equal(vmb_unix_connect(w->place.path, w->arena, &port), VMB_E_NOT_FOUND);
}

/* In a child that is not root: is the path closed to it? */
static int
connect_as_a_stranger(const struct t_socket_world *w)
{
	struct vmb_port *port;

	if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
		return 77;
	return vmb_unix_connect(w->place.path, w->arena, &port) == VMB_E_ACCESS ? 0 : 1;
}

static void
stranger_may_not_connect(void **state)
{
	struct t_socket_world *w = *state;
	struct vmb_unix_listener *listener;
	int status;
	pid_t child;

	assert_int_equal(vmb_unix_listen(w->place.path, 0, NULL, &listener), VMB_OK);
	assert_int_equal(chmod(w->place.dir, 0755), 0);
	/* An ordinary user cannot become another: take the permission away from everybody. */
	if (geteuid() != 0)
		assert_int_equal(chmod(w->place.path, 0), 0);
	child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(connect_as_a_stranger(w));
	assert_int_equal(waitpid(child, &status, 0), child);
	vmb_unix_listener_destroy(listener);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* A child that joins as a guest, says so, and then waits to be killed. */
static pid_t
start_guest_process(const struct t_socket_world *w)
{
	uint8_t contact[40];
	struct vmb_port *port;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child != 0)
		return child;
	t_message_fill(contact, sizeof(contact), VMB_MSG_INITIATE_CONTACT, VMB_VERSION_WIN10);
	*(uint8_t *)vmb_arena_host(w->arena, 8192) = 0xC3;
	if (vmb_unix_connect(w->place.path, w->arena, &port) != VMB_OK ||
	    vmb_port_post(port, VMB_CONNECTION_ID_LEGACY, contact, sizeof(contact)) != VMB_OK)
		_exit(1);
	for (;;)
		pause();
}

static void
killed_client_is_seen_and_another_works_on(void **state)
{
	struct t_socket_world *w = *state;
	struct vmb_unix_listener *listener;
	struct vmb_port *port;
	struct t_end victim, survivor, guest;
	struct vmb_mem *memory;
	char who[64], expected[64];
	int status;
	pid_t child;

	assert_int_equal(vmb_unix_listen(w->place.path, 0, NULL, &listener), VMB_OK);
	child = start_guest_process(w);
	assert_int_equal(t_accept(listener, &port, who), VMB_OK);
	t_end_init(&victim, port);
	snprintf(expected, sizeof(expected), "pid %ld,", (long)child);
	assert_non_null(strstr(who, expected));
	assert_int_equal(vmb_unix_connect(w->place.path, w->arena, &port), VMB_OK);
	t_end_init(&guest, port);
	assert_int_equal(t_accept(listener, &port, who), VMB_OK);
	t_end_init(&survivor, port);
	t_run_until_messages(&victim, 1);
	memory = vmb_port_memory(victim.port);
	assert_int_equal(*(uint8_t *)vmb_mem_host(memory, 8192, 1), 0xC3);

	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
	t_expect_closed(&victim, VMB_E_CLOSED, "the peer closed the connection");
	/* Its memory stays for as long as somebody uses it. */
	assert_int_equal(*(uint8_t *)vmb_mem_host(memory, 8192, 1), 0xC3);

	assert_int_equal(t_post(&guest, 12, VMB_MSG_REQUEST_OFFERS, 5), VMB_OK);
	t_run_until_messages(&survivor, 1);
	assert_int_equal(t_post(&survivor, 12, VMB_MSG_ALL_OFFERS_DELIVERED, 6), VMB_OK);
	t_run_until_messages(&guest, 1);
	t_end_fini(&victim);
	t_end_fini(&survivor);
	t_end_fini(&guest);
	vmb_unix_listener_destroy(listener);
}

int
main(void)
{
#define WORLD(f) cmocka_unit_test_setup_teardown(f, t_socket_setup, t_socket_teardown)
	const struct CMUnitTest tests[] = {
		WORLD(socket_file_has_the_asked_mode_whatever_the_umask),
		WORLD(mode_with_other_bits_is_refused),
		WORLD(paths_are_bounded_and_not_abstract),
		WORLD(directory_that_is_not_there_is_an_io_error),
		WORLD(second_listener_is_refused),
		WORLD(server_of_another_socket_type_is_not_replaced),
		WORLD(stale_socket_file_is_replaced),
		WORLD(file_that_is_no_socket_is_never_replaced),
		WORLD(one_of_many_replaces_a_stale_file),
		WORLD(directory_that_somebody_keeps_locked_is_busy),
		WORLD(server_that_accepts_nobody_is_a_timeout),
		WORLD(listener_removes_only_its_own_file),
		WORLD(listener_of_a_relative_path_is_removed_from_where_it_was),
		WORLD(accepted_ports_outlive_the_listener),
		WORLD(accept_says_who_came),
		WORLD(nobody_listening_is_not_found),
		WORLD(stranger_may_not_connect),
		WORLD(killed_client_is_seen_and_another_works_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
