/* SPDX-License-Identifier: MIT */
#include "message_peer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* A request starts with its number, so that an answer can be told from any other. */
static _Alignas(64) uint64_t request[BENCH_MAX_PAYLOAD / 8];
static _Alignas(64) uint64_t answer[BENCH_MAX_PAYLOAD / 8];

static size_t
piece(const struct message_transport *t, size_t left)
{
	return left < t->largest ? left : t->largest;
}

static _Noreturn void
wrong(const char *what)
{
	(void)fprintf(stderr, "%s\n", what);
	exit(EXIT_FAILURE);
}

/* ---- the answering process ---------------------------------------------------------------- */

static void
echo_until_closed(const struct message_transport *t, size_t payload)
{
	for (;;) {
		size_t got = t->receive(answer, payload);

		if (got == 0)
			return;
		if (got != payload)
			wrong("a request has a wrong length");
		(void)t->send(answer, payload, true);
	}
}

static void
take_data_until_closed(const struct message_transport *t, const struct bench_job *job)
{
	uint8_t *data = malloc(job->bytes);

	if (data == NULL)
		bench_die("malloc");
	for (;;) {
		uint64_t digest;

		for (size_t have = 0; have < job->bytes;) {
			size_t got = t->receive(data + have, piece(t, job->bytes - have));

			if (got == 0 && have == 0) {
				free(data);
				return;
			}
			if (got == 0)
				wrong("data ended in the middle");
			have += got;
		}
		digest = bench_digest(job, data);
		(void)t->send(&digest, sizeof(digest), true);
	}
}

static _Noreturn void
serve(const struct message_transport *t, const struct bench_job *job)
{
	bench_place(job->placement, 1);
	t->open(job, false);
	if (job->kind == BENCH_EXTERNAL)
		take_data_until_closed(t, job);
	else
		echo_until_closed(t, job->bytes);
	t->close(false);
	exit(EXIT_SUCCESS);
}

/* ---- the asking process ------------------------------------------------------------------- */

/* Answers come in the order of the requests. */
static void
take_answer(const struct message_transport *t, size_t bytes, uint64_t expected)
{
	if (t->receive(answer, bytes) != bytes || answer[0] != expected)
		wrong("an answer is wrong");
}

static void
do_sync(const struct message_transport *t, const struct bench_job *job, uint64_t count,
        struct bench_run *run)
{
	for (uint64_t i = 0; i < count; i++) {
		const uint64_t before = run != NULL ? bench_now_ns() : 0;

		request[0] = i;
		(void)t->send(request, job->bytes, true);
		take_answer(t, job->bytes, i);
		if (run != NULL) {
			run->each_ns[i] = bench_now_ns() - before;
			bench_blocks_tick(&run->blocks, i + 1);
		}
	}
}

static void
do_inflight(const struct message_transport *t, const struct bench_job *job, uint64_t count,
            struct bench_run *run)
{
	uint64_t sent = 0, answered = 0;

	while (answered < count) {
		if (sent < count && sent - answered < job->depth) {
			request[0] = sent;
			/* Never blocks with answers to take: the peer might be blocked on those. */
			if (t->send(request, job->bytes, sent == answered)) {
				sent++;
				continue;
			}
		}
		take_answer(t, job->bytes, answered++);
		if (run != NULL)
			bench_blocks_tick(&run->blocks, answered);
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
do_external(const struct message_transport *t, const struct bench_job *job, uint64_t count,
            struct bench_run *run)
{
	uint64_t sent = 0, answered = 0;

	while (answered < count) {
		const uint8_t *data = source.data[sent % job->depth];

		if (sent == count || sent - answered == job->depth) {
			take_answer(t, sizeof(answer[0]), source.digest[answered % job->depth]);
			answered++;
			if (run != NULL)
				bench_blocks_tick(&run->blocks, answered);
			continue;
		}
		/* The few bytes of the answers always fit, so the peer keeps reading. */
		for (size_t at = 0; at < job->bytes; at += piece(t, job->bytes - at))
			(void)t->send(data + at, piece(t, job->bytes - at), true);
		sent++;
	}
}

static void
ask(const struct message_transport *t, const struct bench_job *job, uint64_t count,
    struct bench_run *run)
{
	if (job->kind == BENCH_SYNC)
		do_sync(t, job, count, run);
	else if (job->kind == BENCH_INFLIGHT)
		do_inflight(t, job, count, run);
	else
		do_external(t, job, count, run);
}

int
message_peer_main(int argc, char **argv, const struct message_transport *transport)
{
	const struct bench_job job = bench_parse(argc, argv, false);
	struct bench_run run;
	int status;

	if ((job.kind == BENCH_EXTERNAL && transport->largest == 0) ||
	    (job.placement == BENCH_ONE_CPU && !transport->one_cpu)) {
		(void)fprintf(stderr, "%s does not do this\n", argv[0]);
		return 2;
	}
	if (transport->prepare != NULL)
		transport->prepare(&job);
	/*
	 * What measures the line is alone: the other process is not there yet, and gone afterwards.
	 */
	run = bench_run_new(&job, 0);
	run.peer = fork();
	if (run.peer < 0)
		bench_die("fork");
	if (run.peer == 0)
		serve(transport, &job);
	bench_place(job.placement, 0);
	transport->open(&job, true);
	if (job.kind == BENCH_EXTERNAL)
		make_source(&job);

	ask(transport, &job, bench_warm_up(&job), NULL);
	bench_run_begin(&run);
	ask(transport, &job, job.count, &run);
	bench_run_end(&run);

	transport->close(true);
	if (waitpid(run.peer, &status, 0) != run.peer || status != 0)
		wrong("the answering process failed");
	if (job.kind == BENCH_EXTERNAL)
		free_source(&job);
	bench_run_report(&run, &job, "");
	return EXIT_SUCCESS;
}
