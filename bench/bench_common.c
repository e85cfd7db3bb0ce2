/* SPDX-License-Identifier: MIT */
#include "bench_common.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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
parse_inflight(char **argv, struct bench_job *job)
{
	job->kind = BENCH_INFLIGHT;
	job->bytes = byte_count(argv[2], BENCH_MAX_PAYLOAD);
	job->depth = (uint32_t)number(argv[4], 1, BENCH_MAX_DEPTH);
	return true;
}

static bool
parse(int argc, char **argv, bool can_spin, struct bench_job *job)
{
	if (argc < 5)
		return false;
	job->count = number(argv[3], 1, MAX_COUNT);
	if (strcmp(argv[1], "sync") == 0 && argc <= (can_spin ? 6 : 5))
		return parse_sync(argc, argv, job);
	if (strcmp(argv[1], "external") == 0 && argc == 6)
		return parse_external(argv, job);
	if (strcmp(argv[1], "inflight") == 0 && argc == 5)
		return parse_inflight(argv, job);
	return false;
}

struct bench_job
bench_parse(int argc, char **argv, const char *program, bool can_spin)
{
	struct bench_job job = { .placement = BENCH_ANYWHERE };

	if (!parse(argc, argv, can_spin, &job)) {
		(void)fprintf(stderr,
			      "usage: %s sync PAYLOAD COUNT any|same|split%s\n"
			      "       %s inflight PAYLOAD COUNT DEPTH\n"
			      "       %s external BYTES COUNT DEPTH touch|read\n",
			      program, can_spin ? " [SPIN_US]" : "", program, program);
		exit(2);
	}
	return job;
}

/* ---- placing ------------------------------------------------------------------------------ */

static void
pin_thread(pid_t tid, const cpu_set_t *set)
{
	/* A worker of a pool may have left since it was listed. */
	if (sched_setaffinity(tid, sizeof(*set), set) != 0 && errno != ESRCH)
		bench_die("sched_setaffinity");
}

/* The index-th CPU that this process may use, modulo their number. */
static cpu_set_t
one_cpu(unsigned int index)
{
	cpu_set_t allowed, one;
	unsigned int skip;

	if (sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
		bench_die("sched_getaffinity");
	skip = index % (unsigned int)CPU_COUNT(&allowed);
	CPU_ZERO(&one);
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &allowed) && skip-- == 0) {
			CPU_SET(cpu, &one);
			break;
		}
	}
	return one;
}

void
bench_place(enum bench_placement placement, unsigned int index)
{
	struct dirent *entry;
	cpu_set_t one;
	DIR *tasks;

	if (placement == BENCH_ANYWHERE)
		return;
	one = one_cpu(placement == BENCH_TWO_CPUS ? index : 0);
	tasks = opendir("/proc/self/task");
	if (tasks == NULL)
		bench_die("/proc/self/task");
	while ((entry = readdir(tasks)) != NULL) {
		if (entry->d_name[0] != '.')
			pin_thread((pid_t)strtol(entry->d_name, NULL, 10), &one);
	}
	(void)closedir(tasks);
}

/* ---- data --------------------------------------------------------------------------------- */

uint64_t
bench_digest(const struct bench_job *job, const void *data)
{
	const uint64_t *word = data;
	uint64_t sum = 0;

	if (!job->reads)
		return *(const uint8_t *)data;
	for (size_t i = 0; i < job->bytes / 8; i++)
		sum += word[i];
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

struct bench_run
bench_run_new(const struct bench_job *job, pid_t peer)
{
	struct bench_run run = { .peer = peer };

	if (job->kind == BENCH_SYNC) {
		run.each_ns = calloc(job->count, sizeof(*run.each_ns));
		if (run.each_ns == NULL)
			bench_die("calloc");
	}
	return run;
}

void
bench_run_begin(struct bench_run *run)
{
	run->began_cpu_ns = cpu_ns(run->peer);
	run->began_ns = bench_now_ns();
}

void
bench_run_end(struct bench_run *run)
{
	run->wall_ns = bench_now_ns() - run->began_ns;
	run->cpu_ns = cpu_ns(run->peer) - run->began_cpu_ns;
}

static int
by_size(const void *a, const void *b)
{
	const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

void
bench_run_report(struct bench_run *run, const struct bench_job *job, const char *more)
{
	const double count = (double)job->count;

	(void)printf("{\"payload_bytes\": %zu, \"count\": %" PRIu64 ", \"depth\": %" PRIu32
		     ", \"ns_each\": %.0f, \"cpu_ns_each\": %.0f",
		     job->bytes, job->count, job->depth, (double)run->wall_ns / count,
		     (double)run->cpu_ns / count);
	switch (job->kind) {
	case BENCH_SYNC:
		qsort(run->each_ns, job->count, sizeof(*run->each_ns), by_size);
		(void)printf(", \"placement\": \"%s\", \"p50_ns\": %" PRIu64
			     ", \"p99_ns\": %" PRIu64 ", \"round_trips_per_s\": %.0f",
			     placement_names[job->placement], run->each_ns[job->count / 2],
			     run->each_ns[job->count - 1 - job->count / 100],
			     count * 1e9 / (double)run->wall_ns);
		free(run->each_ns);
		break;
	case BENCH_EXTERNAL:
		(void)printf(", \"access\": \"%s\", \"mb_per_s\": %.0f",
			     job->reads ? "read" : "touch",
			     (double)job->bytes * count * 1e3 / (double)run->wall_ns);
		break;
	case BENCH_INFLIGHT:
		break;
	}
	(void)printf("%s}\n", more);
}
