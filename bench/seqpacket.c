/* SPDX-License-Identifier: MIT */
/*
 * The yardstick: what two processes pay for one request and its answer over an AF_UNIX
 * SOCK_SEQPACKET socket, the plain way to do this on Linux. Prints one JSON object.
 *
 *	seqpacket [PAYLOAD [COUNT [any|same|split]]]
 *
 * The last argument places the two processes: where the scheduler likes, both on one CPU, or each
 * on its own.
 */
#include <errno.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WARM_UP 1000u
#define MAX_PAYLOAD 65536u

static _Noreturn void
die(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE);
}

static uint64_t
now_ns(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The index-th CPU that this process may use, modulo their number. */
static void
pin_to(unsigned int index)
{
	cpu_set_t allowed, one;
	unsigned int skip;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
		die("sched_getaffinity");
	skip = index % (unsigned int)CPU_COUNT(&allowed);
	CPU_ZERO(&one);
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &allowed) && skip-- == 0) {
			CPU_SET(cpu, &one);
			break;
		}
	}
	if (sched_setaffinity(0, sizeof(one), &one) != 0)
		die("sched_setaffinity");
}

static void
send_all(int fd, const void *buf, size_t bytes)
{
	if (send(fd, buf, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
		die("send");
}

static _Noreturn void
answer_until_closed(int fd, size_t payload)
{
	static char buf[MAX_PAYLOAD];

	for (;;) {
		ssize_t got = recv(fd, buf, payload, 0);

		if (got == 0)
			exit(EXIT_SUCCESS);
		if (got != (ssize_t)payload)
			die("recv in the answering process");
		send_all(fd, buf, payload);
	}
}

static void
round_trip(int fd, size_t payload)
{
	static char buf[MAX_PAYLOAD];

	send_all(fd, buf, payload);
	if (recv(fd, buf, payload, 0) != (ssize_t)payload)
		die("recv");
}

static int
by_size(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static unsigned long
number(const char *text, unsigned long max)
{
	char *end;
	unsigned long value;

	errno = 0;
	value = strtoul(text, &end, 10);
	if (errno != 0 || *end != '\0' || value == 0 || value > max) {
		(void)fprintf(stderr, "not a number from 1 to %lu: %s\n", max, text);
		exit(2);
	}
	return value;
}

int
main(int argc, char **argv)
{
	const size_t payload = argc > 1 ? number(argv[1], MAX_PAYLOAD) : 64;
	const size_t count = argc > 2 ? number(argv[2], 100000000) : 100000;
	const char *placement = argc > 3 ? argv[3] : "any";
	uint64_t *ns, began, total;
	int fds[2], status;
	pid_t child;

	if (strcmp(placement, "any") != 0 && strcmp(placement, "same") != 0 &&
	    strcmp(placement, "split") != 0) {
		(void)fprintf(stderr, "usage: seqpacket [PAYLOAD [COUNT [any|same|split]]]\n");
		return 2;
	}
	ns = calloc(count, sizeof(*ns));
	if (ns == NULL)
		die("calloc");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0)
		die("socketpair");

	child = fork();
	if (child < 0)
		die("fork");
	if (child == 0) {
		(void)close(fds[0]);
		if (strcmp(placement, "any") != 0)
			pin_to(placement[1] == 'p' ? 1 : 0);
		answer_until_closed(fds[1], payload);
	}
	(void)close(fds[1]);
	if (strcmp(placement, "any") != 0)
		pin_to(0);

	for (size_t i = 0; i < WARM_UP; i++)
		round_trip(fds[0], payload);
	began = now_ns();
	for (size_t i = 0; i < count; i++) {
		const uint64_t before = now_ns();

		round_trip(fds[0], payload);
		ns[i] = now_ns() - before;
	}
	total = now_ns() - began;

	(void)close(fds[0]);
	if (waitpid(child, &status, 0) != child || status != 0) {
		(void)fprintf(stderr, "the answering process failed\n");
		return EXIT_FAILURE;
	}
	qsort(ns, count, sizeof(*ns), by_size);
	(void)printf("{\"payload_bytes\": %zu, \"count\": %zu, \"placement\": \"%s\", \"p50_ns\": %llu, "
	             "\"p99_ns\": %llu, \"round_trips_per_s\": %.0f}\n",
	             payload, count, placement, (unsigned long long)ns[count / 2],
	             (unsigned long long)ns[count - 1 - count / 100],
	             (double)count * 1e9 / (double)total);
	free(ns);
	return EXIT_SUCCESS;
}
