/* SPDX-License-Identifier: MIT */
/*
 * Orders for a machine that runs: a socket at a path of its owner's, one packet a command (its words, each
 * ended by a zero byte), one packet back: '0' or '1', as the exit status, and what there is to say.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "commands.h"
#include "vm.h"

#define COMMAND_BYTES 8192u
#define WORDS_MAX 16
#define ANSWER_BYTES 65536u
#define CLIENT_MS 10000

struct vm_control {
	struct vm_control_ops ops;
	char path[108];
	int listener, stop;
	pthread_t thread;
};

static int
split(char *bytes, size_t count, char **words)
{
	int n = 0;

	for (size_t at = 0; at < count && n < WORDS_MAX; at += strlen(bytes + at) + 1)
		words[n++] = bytes + at;
	words[n] = NULL;
	return n;
}

static void
serve(struct vm_control *control, int client)
{
	static char bytes[COMMAND_BYTES + 1], reply[ANSWER_BYTES];
	struct pollfd ready[] = { { .fd = client, .events = POLLIN }, { .fd = control->stop, .events = POLLIN } };
	struct vm_answer answer;
	char *words[WORDS_MAX + 1];
	ssize_t got;
	int n;

	/* Who says nothing keeps nobody from stopping. */
	if (poll(ready, 2, CLIENT_MS) <= 0 || ready[1].revents != 0)
		return;
	got = recv(client, bytes, COMMAND_BYTES, 0);
	if (got <= 0)
		return;
	bytes[got] = '\0';
	n = split(bytes, (size_t)got, words);
	answer = control->ops.command(control->ops.ctx, n, words);
	n = snprintf(reply, sizeof(reply), "%c%s", answer.ok ? '0' : '1',
	             answer.text != NULL ? answer.text : "");
	free(answer.text);
	(void)!send(client, reply, (size_t)n < sizeof(reply) ? (size_t)n : sizeof(reply) - 1,
	            MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void *
control_main(void *ctx)
{
	struct vm_control *control = ctx;
	struct pollfd ready[] = { { .fd = control->stop, .events = POLLIN },
		                  { .fd = control->listener, .events = POLLIN } };

	for (;;) {
		int client;

		(void)poll(ready, 2, -1);
		if (ready[0].revents != 0)
			return NULL;
		client = accept4(control->listener, NULL, NULL, SOCK_CLOEXEC);
		if (client < 0)
			continue;
		serve(control, client);
		close(client);
	}
}

static bool
make_address(const char *path, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof(address->sun_path)) {
		errno = ENAMETOOLONG;
		return false;
	}
	memcpy(address->sun_path, path, strlen(path) + 1);
	return true;
}

/* A socket that nobody listens at any more: whoever did was killed. */
static bool
is_left_over(const struct sockaddr_un *address)
{
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	bool refused = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof(*address)) != 0 &&
	               errno == ECONNREFUSED;
	struct stat stat;

	if (fd >= 0)
		close(fd);
	return refused && lstat(address->sun_path, &stat) == 0 && S_ISSOCK(stat.st_mode);
}

static bool
bind_private(int fd, const struct sockaddr_un *address)
{
	mode_t mask = umask(0177);
	bool bound = bind(fd, (const struct sockaddr *)address, sizeof(*address)) == 0;

	if (!bound && errno == EADDRINUSE) {
		if (is_left_over(address))
			bound = unlink(address->sun_path) == 0 &&
			        bind(fd, (const struct sockaddr *)address, sizeof(*address)) == 0;
		else
			errno = EADDRINUSE;
	}
	umask(mask);
	return bound;
}

struct vm_control *
vm_control_start(const char *path, const struct vm_control_ops *ops)
{
	struct vm_control *control = calloc(1, sizeof(*control));
	struct sockaddr_un address;
	bool bound;
	int error;

	if (control == NULL || !make_address(path, &address)) {
		error = errno;
		free(control);
		errno = error;
		return NULL;
	}
	control->ops = *ops;
	memcpy(control->path, path, strlen(path) + 1);
	control->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	control->stop = eventfd(0, EFD_CLOEXEC);
	bound = bind_private(control->listener, &address);
	if (bound && listen(control->listener, 8) == 0 &&
	    pthread_create(&control->thread, NULL, control_main, control) == 0)
		return control;
	error = errno;
	if (bound)
		unlink(path);
	close(control->listener);
	close(control->stop);
	free(control);
	errno = error;
	return NULL;
}

void
vm_control_stop(struct vm_control *control)
{
	if (control == NULL)
		return;
	(void)!eventfd_write(control->stop, 1);
	pthread_join(control->thread, NULL);
	unlink(control->path);
	close(control->listener);
	close(control->stop);
	free(control);
}

/* ---- kmcl vmctl ------------------------------------------------------------------------------------------- */

static void
print_usage(FILE *out)
{
	fputs("usage: kmcl vmctl SOCKET COMMAND [ARGUMENT]...\n"
	      "\n"
	      "Orders for a machine that `kmcl vm --control SOCKET` runs.\n"
	      "\n"
	      "  rescind disk0        take a disk away while the guest runs; disks count from 0\n"
	      "  offer disk0          and give it back\n"
	      "  shutdown, reboot     ask the guest to power off, or to restart\n"
	      "  heartbeat            whether the guest answers\n"
	      "  time                 set the guest's clock now\n"
	      "  kvp set KEY VALUE    a key/value pair for the guest's hv_kvp_daemon; kvp delete KEY\n"
	      "  kvp get KEY          one that the guest has set; kvp info N: the Nth thing it says of itself\n"
	      "  key TEXT             type on the guest's keyboard\n"
	      "  stats                counters of the machine, its bus and its devices, as JSON\n"
	      "  quit                 switch the machine off at once\n"
	      "\n"
	      "Exit status 1: it did not work, and it is said why.\n",
	      out);
}

int
vmctl_main(int argc, char **argv)
{
	static char bytes[COMMAND_BYTES], reply[ANSWER_BYTES];
	struct sockaddr_un address;
	size_t count = 0;
	ssize_t got = -1;
	int fd;

	if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
		print_usage(stdout);
		return EXIT_OK;
	}
	if (argc < 3 || argc - 2 > WORDS_MAX) {
		print_usage(stderr);
		return EXIT_USAGE;
	}
	for (int i = 2; i < argc; i++) {
		size_t length = strlen(argv[i]) + 1;

		if (length > sizeof(bytes) - count) {
			fprintf(stderr, "kmcl vmctl: the command is too long\n");
			return EXIT_USAGE;
		}
		memcpy(bytes + count, argv[i], length);
		count += length;
	}
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (make_address(argv[1], &address) &&
	    connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
	    send(fd, bytes, count, MSG_NOSIGNAL) == (ssize_t)count)
		got = recv(fd, reply, sizeof(reply) - 1, 0);
	if (got < 0)
		fprintf(stderr, "kmcl vmctl: %s: %s\n", argv[1], strerror(errno));
	else if (got == 0)
		fprintf(stderr, "kmcl vmctl: the machine ended before it answered\n");
	close(fd);
	if (got <= 0)
		return EXIT_FAILED;
	reply[got] = '\0';
	if (reply[0] != '0') {
		fprintf(stderr, "kmcl vmctl: %s\n", reply + 1);
		return EXIT_FAILED;
	}
	if (reply[1] != '\0')
		puts(reply + 1);
	return EXIT_OK;
}
