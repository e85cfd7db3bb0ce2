/* SPDX-License-Identifier: MIT */
/*
 * The yardstick: what two processes pay for the same work over an AF_UNIX SOCK_SEQPACKET socket,
 * the plain way to do this on Linux. Prints one JSON object.
 *
 *	seqpacket sync PAYLOAD COUNT any|same|split
 *	seqpacket inflight PAYLOAD COUNT DEPTH
 *	seqpacket external BYTES COUNT DEPTH touch|read
 *
 * External data goes in messages of at most PIECE_BYTES: a socket does not take any length at once.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench_common.h"

#define PIECE_BYTES 131072u

/* A request starts with its number, so that an answer can be told from any other. */
static _Alignas(64) uint64_t request[BENCH_MAX_PAYLOAD / 8];
static _Alignas(64) uint64_t answer[BENCH_MAX_PAYLOAD / 8];

static void
send_all(int fd, const void *buf, size_t bytes)
{
	if (send(fd, buf, bytes, MSG_NOSIGNAL) != (ssize_t)bytes)
		bench_die("send");
}

static size_t
piece(size_t left)
{
	return left < PIECE_BYTES ? left : PIECE_BYTES;
}

/* ---- the answering process ---------------------------------------------------------------- */

static void
echo_until_closed(int fd, size_t payload)
{
	for (;;) {
		ssize_t got = recv(fd, answer, payload, 0);

		if (got == 0)
			return;
		if (got != (ssize_t)payload)
			bench_die("recv in the answering process");
		send_all(fd, answer, payload);
	}
}

static void
receive_until_closed(int fd, const struct bench_job *job)
{
	uint8_t *data = malloc(job->bytes);

	if (data == NULL)
		bench_die("malloc");
	for (;;) {
		uint64_t digest;

		for (size_t have = 0; have < job->bytes;) {
			ssize_t got = recv(fd, data + have, piece(job->bytes - have), 0);

			if (got == 0 && have == 0) {
				free(data);
				return;
			}
			if (got <= 0)
				bench_die("recv in the answering process");
			have += (size_t)got;
		}
		digest = bench_digest(job, data);
		send_all(fd, &digest, sizeof(digest));
	}
}

static _Noreturn void
serve(int fd, const struct bench_job *job)
{
	bench_place(job->placement, 1);
	if (job->kind == BENCH_EXTERNAL)
		receive_until_closed(fd, job);
	else
		echo_until_closed(fd, job->bytes);
	exit(EXIT_SUCCESS);
}

/* ---- the asking process ------------------------------------------------------------------- */

/* Answers come in the order of the requests. */
static void
take_answer(int fd, size_t bytes, uint64_t expected)
{
	if (recv(fd, answer, bytes, 0) != (ssize_t)bytes)
		bench_die("recv");
	if (answer[0] != expected) {
		(void)fprintf(stderr, "an answer is wrong\n");
		exit(EXIT_FAILURE);
	}
}

static void
do_sync(int fd, const struct bench_job *job, uint64_t count, uint64_t *each_ns)
{
	for (uint64_t i = 0; i < count; i++) {
		const uint64_t before = each_ns != NULL ? bench_now_ns() : 0;

		request[0] = i;
		send_all(fd, request, job->bytes);
		take_answer(fd, job->bytes, i);
		if (each_ns != NULL)
			each_ns[i] = bench_now_ns() - before;
	}
}

static void
do_inflight(int fd, const struct bench_job *job, uint64_t count)
{
	uint64_t sent = 0, answered = 0;

	while (answered < count) {
		if (sent < count && sent - answered < job->depth) {
			request[0] = sent;
			/* Never blocks with answers to take: the peer might be blocked on those. */
			if (send(fd, request, job->bytes, MSG_NOSIGNAL | MSG_DONTWAIT) ==
			    (ssize_t)job->bytes) {
				sent++;
				continue;
			}
			if (errno != EAGAIN || sent == answered)
				bench_die("send");
		}
		take_answer(fd, job->bytes, answered++);
	}
}

struct source {
	uint8_t *data[BENCH_MAX_DEPTH];
	uint64_t digest[BENCH_MAX_DEPTH];
};
static struct source source;

static void
make_source(const struct bench_job *job)
{
	for (uint32_t i = 0; i < job->depth; i++) {
		source.data[i] = malloc(job->bytes);
		if (source.data[i] == NULL)
			bench_die("malloc");
		bench_fill(source.data[i], job->bytes, i);
		source.digest[i] = bench_digest(job, source.data[i]);
	}
}

static void
free_source(const struct bench_job *job)
{
	for (uint32_t i = 0; i < job->depth; i++)
		free(source.data[i]);
}

static void
do_external(int fd, const struct bench_job *job, uint64_t count)
{
	uint64_t sent = 0, answered = 0;

	while (answered < count) {
		const uint8_t *data = source.data[sent % job->depth];

		if (sent == count || sent - answered == job->depth) {
			take_answer(fd, sizeof(answer[0]), source.digest[answered % job->depth]);
			answered++;
			continue;
		}
		/* The few bytes of the answers always fit, so the peer keeps reading. */
		for (size_t at = 0; at < job->bytes; at += piece(job->bytes - at))
			send_all(fd, data + at, piece(job->bytes - at));
		sent++;
	}
}

static void
ask(int fd, const struct bench_job *job, uint64_t count, uint64_t *each_ns)
{
	if (job->kind == BENCH_SYNC)
		do_sync(fd, job, count, each_ns);
	else if (job->kind == BENCH_INFLIGHT)
		do_inflight(fd, job, count);
	else
		do_external(fd, job, count);
}

int
main(int argc, char **argv)
{
	const struct bench_job job = bench_parse(argc, argv, "seqpacket", false);
	struct bench_run run;
	int fds[2], status;
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0)
		bench_die("socketpair");
	child = fork();
	if (child < 0)
		bench_die("fork");
	if (child == 0) {
		(void)close(fds[0]);
		serve(fds[1], &job);
	}
	(void)close(fds[1]);
	bench_place(job.placement, 0);
	run = bench_run_new(&job, child);
	if (job.kind == BENCH_EXTERNAL)
		make_source(&job);

	ask(fds[0], &job, bench_warm_up(&job), NULL);
	bench_run_begin(&run);
	ask(fds[0], &job, job.count, run.each_ns);
	bench_run_end(&run);

	(void)close(fds[0]);
	if (waitpid(child, &status, 0) != child || status != 0) {
		(void)fprintf(stderr, "the answering process failed\n");
		return EXIT_FAILURE;
	}
	if (job.kind == BENCH_EXTERNAL)
		free_source(&job);
	bench_run_report(&run, &job, "");
	return EXIT_SUCCESS;
}
