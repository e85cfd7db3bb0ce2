/* SPDX-License-Identifier: MIT */
#include "bench_common.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench_line.h"

#define MAX_COUNT 100000000u
#define MAX_SPIN_US 1000000u

static const char *const placement_names[] = { "any", "same", "split" };

_Noreturn void
bench_die(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE);
}

/* ---- command line ------------------------------------------------------------------------- */

static uint64_t
number(const char *text, uint64_t least, uint64_t most)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || end == text || *end != '\0' || value < least || value > most) {
		(void)fprintf(stderr, "not a number from %" PRIu64 " to %" PRIu64 ": %s\n", least,
		              most, text);
		exit(2);
	}
	return value;
}

static size_t
byte_count(const char *text, size_t most)
{
	size_t bytes = number(text, 8, most);

	if (bytes % 8 != 0) {
		(void)fprintf(stderr, "not a multiple of 8 bytes: %s\n", text);
		exit(2);
	}
	return bytes;
}

static bool
parse_sync(int argc, char **argv, struct bench_job *job)
{
	job->kind = BENCH_SYNC;
	job->depth = 1;
	job->bytes = byte_count(argv[2], BENCH_MAX_PAYLOAD);
	if (argc > 5) {
		job->spin_us = (uint32_t)number(argv[5], 0, MAX_SPIN_US);
		if (job->spin_us == 0)
			job->spin_us = UINT32_MAX;
	}
	for (size_t i = 0; i < sizeof(placement_names) / sizeof(placement_names[0]); i++) {
		if (strcmp(argv[4], placement_names[i]) == 0) {
			job->placement = (enum bench_placement)i;
			return true;
		}
	}
	return false;
}

static bool
parse_external(char **argv, struct bench_job *job)
{
	job->kind = BENCH_EXTERNAL;
	job->bytes = byte_count(argv[2], BENCH_MAX_EXTERNAL);
	job->depth = (uint32_t)number(argv[4], 1, BENCH_MAX_DEPTH);
	job->reads = strcmp(argv[5], "read") == 0;
	return job->reads || strcmp(argv[5], "touch") == 0;
}

static bool
parse_inflight(int argc, char **argv, struct bench_job *job)
{
	job->kind = BENCH_INFLIGHT;
	job->bytes = byte_count(argv[2], BENCH_MAX_PAYLOAD);
	job->depth = (uint32_t)number(argv[4], 1, BENCH_MAX_DEPTH);
	job->by_thread = argc > 5;
	return argc == 5 || strcmp(argv[5], "thread") == 0;
}

static bool
parse(int argc, char **argv, bool ours, struct bench_job *job)
{
	if (argc < 5)
		return false;
	job->count = number(argv[3], 1, MAX_COUNT);
	if (strcmp(argv[1], "sync") == 0 && argc <= (ours ? 6 : 5))
		return parse_sync(argc, argv, job);
	if (strcmp(argv[1], "external") == 0 && argc == 6)
		return parse_external(argv, job);
	if (strcmp(argv[1], "inflight") == 0 && argc <= (ours ? 6 : 5))
		return parse_inflight(argc, argv, job);
	return false;
}

struct bench_job
bench_parse(int argc, char **argv, bool ours)
{
	/* Both processes of a pair that is not told otherwise have a CPU each. */
	struct bench_job job = { .placement = BENCH_TWO_CPUS };

	if (!parse(argc, argv, ours, &job)) {
		(void)fprintf(stderr,
		              "usage: %s sync PAYLOAD COUNT any|same|split%s\n"
		              "       %s inflight PAYLOAD COUNT DEPTH%s\n"
		              "       %s external BYTES COUNT DEPTH touch|read\n",
		              argv[0], ours ? " [SPIN_US]" : "", argv[0], ours ? " [thread]" : "",
		              argv[0]);
		exit(2);
	}
	return job;
}

/* ---- data --------------------------------------------------------------------------------- */

/* Many words at a time: the pace of the memory counts, and not that of a loop. */
typedef uint64_t digest_words __attribute__((vector_size(16), aligned(8), may_alias));

uint64_t
bench_digest(const struct bench_job *job, const void *data)
{
	const digest_words *words = data;
	digest_words sums[4] = { 0 };
	const uint64_t *rest;
	uint64_t sum;

	if (!job->reads)
		return *(const uint8_t *)data;
	for (size_t i = 0; i < job->bytes / sizeof(sums); i++, words += 4) {
		sums[0] += words[0];
		sums[1] += words[1];
		sums[2] += words[2];
		sums[3] += words[3];
	}
	sums[0] += sums[1] + sums[2] + sums[3];
	sum = sums[0][0] + sums[0][1];
	rest = (const uint64_t *)words;
	for (size_t i = 0; i < job->bytes % sizeof(sums) / 8; i++)
		sum += rest[i];
	return sum;
}

void
bench_fill(void *data, size_t bytes, unsigned int index)
{
	uint64_t *word = data;

	for (size_t i = 0; i < bytes / 8; i++)
		word[i] = (i + 1) * 0x9e3779b97f4a7c15u + index;
}

/* ---- measuring ---------------------------------------------------------------------------- */

static uint64_t
clock_ns(clockid_t id)
{
	struct timespec t;

	if (clock_gettime(id, &t) != 0)
		bench_die("clock_gettime");
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t
bench_now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* Of all threads of both processes. */
static uint64_t
cpu_ns(pid_t peer)
{
	clockid_t theirs;

	if (clock_getcpuclockid(peer, &theirs) != 0)
		bench_die("clock_getcpuclockid");
	return clock_ns(CLOCK_PROCESS_CPUTIME_ID) + clock_ns(theirs);
}

uint64_t
bench_warm_up(const struct bench_job *job)
{
	uint64_t tenth = job->count / 10;

	return tenth < 1000 ? tenth + job->depth : 1000 + job->depth;
}

static int
by_size(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t
median(uint64_t *values, uint64_t count)
{
	qsort(values, count, sizeof(*values), by_size);
	return values[count / 2];
}

uint64_t
bench_clock_cost_ns(void)
{
	uint64_t each[1001];

	for (size_t i = 0; i < sizeof(each) / sizeof(each[0]); i++) {
		const uint64_t before = bench_now_ns();

		each[i] = bench_now_ns() - before;
	}
	return median(each, sizeof(each) / sizeof(each[0]));
}

struct bench_blocks
bench_blocks_new(uint64_t packets)
{
	struct bench_blocks blocks = { .room = packets / BENCH_BLOCK };

	blocks.ns = calloc(blocks.room + 1, sizeof(*blocks.ns));
	if (blocks.ns == NULL)
		bench_die("calloc");
	return blocks;
}

void
bench_blocks_begin(struct bench_blocks *blocks)
{
	blocks->count = 0;
	blocks->began_ns = bench_now_ns();
}

void
bench_blocks_end_block(struct bench_blocks *blocks)
{
	const uint64_t now = bench_now_ns();

	if (blocks->count < blocks->room)
		blocks->ns[blocks->count++] = now - blocks->began_ns;
	blocks->began_ns = now;
}

double
bench_blocks_median(struct bench_blocks *blocks)
{
	return blocks->count != 0 ? (double)median(blocks->ns, blocks->count) / BENCH_BLOCK : 0;
}

void
bench_blocks_free(struct bench_blocks *blocks)
{
	free(blocks->ns);
	blocks->ns = NULL;
}

struct bench_run
bench_run_new(const struct bench_job *job, pid_t peer)
{
	struct bench_run run = { .peer = peer, .blocks = bench_blocks_new(job->count) };

	if (job->kind == BENCH_SYNC) {
		run.each_ns = calloc(job->count, sizeof(*run.each_ns));
		if (run.each_ns == NULL)
			bench_die("calloc");
	}
	run.line_before_ns = bench_line_ns();
	return run;
}

void
bench_run_begin(struct bench_run *run)
{
	run->began_cpu_ns = cpu_ns(run->peer);
	bench_blocks_begin(&run->blocks);
	run->began_ns = run->blocks.began_ns;
}

void
bench_run_end(struct bench_run *run)
{
	run->wall_ns = bench_now_ns() - run->began_ns;
	run->cpu_ns = cpu_ns(run->peer) - run->began_cpu_ns;
}

static void
report_sync(struct bench_run *run, const struct bench_job *job)
{
	const uint64_t clock = bench_clock_cost_ns();
	const uint64_t p50 = median(run->each_ns, job->count);
	const uint64_t p99 = run->each_ns[job->count - 1 - job->count / 100];

	(void)printf(", \"placement\": \"%s\", \"p50_ns\": %" PRIu64 ", \"p99_ns\": %" PRIu64
	             ", \"clock_ns\": %" PRIu64,
	             placement_names[job->placement], p50 > clock ? p50 - clock : 0,
	             p99 > clock ? p99 - clock : 0, clock);
	free(run->each_ns);
}

void
bench_run_report(struct bench_run *run, const struct bench_job *job, const char *more)
{
	const double count = (double)job->count;

	(void)printf("{\"payload_bytes\": %zu, \"count\": %" PRIu64 ", \"depth\": %" PRIu32
	             ", \"mean_ns\": %.0f, \"cpu_ns_each\": %.0f",
	             job->bytes, job->count, job->depth, (double)run->wall_ns / count,
	             (double)run->cpu_ns / count);
	/* Short runs have no whole block; their mean is what there is. */
	(void)printf(", \"ns_each\": %.1f, \"blocks\": %" PRIu64,
	             run->blocks.count != 0 ? bench_blocks_median(&run->blocks)
	                                    : (double)run->wall_ns / count,
	             run->blocks.count);
	if (job->kind == BENCH_SYNC)
		report_sync(run, job);
	else if (job->kind == BENCH_EXTERNAL)
		(void)printf(", \"access\": \"%s\"", job->reads ? "read" : "touch");
	(void)printf(", \"line_before_ns\": %.0f, \"line_after_ns\": %.0f%s}\n",
	             run->line_before_ns, bench_line_ns(), more);
	bench_blocks_free(&run->blocks);
}
