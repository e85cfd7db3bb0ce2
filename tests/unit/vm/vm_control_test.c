/* SPDX-License-Identifier: MIT */
/* Orders from outside: whoever may send them, what arrives, and clients that are none. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cmocka.h>

#include "vm.h"

struct place {
	char dir[40], path[80];
	struct vm_control *control;
	int argc;
	char words[20][100];
	char *answer;
	bool ok;
};

struct vm_answer
vm_answer(bool ok, const char *format, ...)
{
	(void)format;
	return (struct vm_answer){ .ok = ok };
}

static struct vm_answer
command(void *ctx, int argc, char **argv)
{
	struct place *place = ctx;

	place->argc = argc;
	assert_null(argv[argc]);
	for (int i = 0; i < argc && i < 20; i++)
		snprintf(place->words[i], sizeof(place->words[i]), "%.99s", argv[i]);
	return (struct vm_answer){ .ok = place->ok, .text = place->answer != NULL ? strdup(place->answer) : NULL };
}

static int
set_up(void **state)
{
	struct place *place = calloc(1, sizeof(*place));

	assert_non_null(place);
	strcpy(place->dir, "/tmp/kmcl-control-XXXXXX");
	assert_non_null(mkdtemp(place->dir));
	snprintf(place->path, sizeof(place->path), "%s/c", place->dir);
	*state = place;
	return 0;
}

static int
tear_down(void **state)
{
	struct place *place = *state;

	vm_control_stop(place->control);
	unlink(place->path);
	assert_int_equal(rmdir(place->dir), 0);
	free(place);
	return 0;
}

static void
start(struct place *place)
{
	const struct vm_control_ops ops = { command, place };

	place->control = vm_control_start(place->path, &ops);
	assert_non_null(place->control);
}

static int
join(struct place *place)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0);
	strcpy(address.sun_path, place->path);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	return fd;
}

static ssize_t
ask(struct place *place, const void *bytes, size_t count, char *reply, size_t room)
{
	int fd = join(place);
	ssize_t got;

	assert_int_equal(send(fd, bytes, count, MSG_NOSIGNAL), count);
	got = recv(fd, reply, room, 0);
	close(fd);
	return got;
}

static void
words_arrive_and_the_answer_comes_back(void **state)
{
	struct place *place = *state;
	char reply[100] = { 0 };
	struct stat stat_now;

	start(place);
	assert_int_equal(stat(place->path, &stat_now), 0);
	assert_int_equal(stat_now.st_mode & 0777, 0600);
	place->ok = true;
	place->answer = "well";
	assert_int_equal(ask(place, "kvp\0set\0a key\0\0", 15, reply, sizeof(reply)), 5);
	assert_memory_equal(reply, "0well", 5);
	assert_int_equal(place->argc, 4);
	assert_string_equal(place->words[2], "a key");
	assert_string_equal(place->words[3], "");
	place->ok = false;
	place->answer = NULL;
	assert_int_equal(ask(place, "quit\0", 5, reply, sizeof(reply)), 1);
	assert_int_equal(reply[0], '1');
}

static void
odd_commands_are_bounded(void **state)
{
	struct place *place = *state;
	static char many[8192], reply[70000], big[80000];

	start(place);
	/* A word that has no end; more words than there may be; more bytes than there may be. */
	assert_int_equal(ask(place, "quit", 4, reply, sizeof(reply)), 1);
	assert_string_equal(place->words[0], "quit");
	assert_int_equal(ask(place, many, sizeof(many), reply, sizeof(reply)), 1);
	assert_int_equal(place->argc, 16);
	memset(many, 'a', sizeof(many));
	assert_int_equal(ask(place, many, sizeof(many), reply, sizeof(reply)), 1);
	assert_int_equal(place->argc, 1);
	/* An answer that does not fit is cut, and still one. */
	memset(big, 'b', sizeof(big) - 1);
	place->answer = big;
	assert_int_equal(ask(place, "x", 2, reply, sizeof(reply)), 65535);
}

static void
client_that_says_nothing_keeps_nobody_from_stopping(void **state)
{
	struct place *place = *state;
	char reply[10];
	int fd, gone;

	start(place);
	gone = join(place);
	close(gone);
	assert_int_equal(ask(place, "x", 2, reply, sizeof(reply)), 1);
	fd = join(place);
	vm_control_stop(place->control);
	place->control = NULL;
	assert_in_range(recv(fd, reply, sizeof(reply), 0) + 1, 0, 1);
	close(fd);
	assert_int_equal(access(place->path, F_OK), -1);
}

static void
path_that_is_taken_stays(void **state)
{
	struct place *place = *state;
	const struct vm_control_ops ops = { command, place };
	char reply[10], longer[200];
	FILE *file;

	start(place);
	assert_null(vm_control_start(place->path, &ops));
	assert_int_equal(errno, EADDRINUSE);
	assert_int_equal(ask(place, "x", 2, reply, sizeof(reply)), 1);
	vm_control_stop(place->control);
	place->control = NULL;
	file = fopen(place->path, "w");
	assert_non_null(file);
	fclose(file);
	assert_null(vm_control_start(place->path, &ops));
	assert_int_equal(errno, EADDRINUSE);
	assert_int_equal(access(place->path, F_OK), 0);
	memset(longer, 'a', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_null(vm_control_start(longer, &ops));
	assert_int_equal(errno, ENAMETOOLONG);
	assert_null(vm_control_start("/tmp/kmcl-there-is-no-such-folder/c", &ops));
	assert_int_equal(errno, ENOENT);
}

static void
socket_of_a_killed_machine_is_replaced(void **state)
{
	struct place *place = *state;
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	char reply[10];

	strcpy(address.sun_path, place->path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
	start(place);
	assert_int_equal(ask(place, "x", 2, reply, sizeof(reply)), 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(words_arrive_and_the_answer_comes_back, set_up, tear_down),
		cmocka_unit_test_setup_teardown(odd_commands_are_bounded, set_up, tear_down),
		cmocka_unit_test_setup_teardown(client_that_says_nothing_keeps_nobody_from_stopping, set_up, tear_down),
		cmocka_unit_test_setup_teardown(path_that_is_taken_stays, set_up, tear_down),
		cmocka_unit_test_setup_teardown(socket_of_a_killed_machine_is_replaced, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
