/* SPDX-License-Identifier: MIT */
/*
 * What the programs that measure two processes share: the command line, placing, timing and the
 * report. They differ only in how the bytes get across. Everything here ends the program when it
 * fails.
 */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define BENCH_MAX_PAYLOAD 65536u
#define BENCH_MAX_EXTERNAL (16u << 20)
#define BENCH_MAX_DEPTH 256u

enum bench_kind {
	BENCH_SYNC,     /* a request, then its answer; one at a time */
	BENCH_INFLIGHT, /* the same with `depth` of them under way */
	BENCH_EXTERNAL, /* large data one way, a sum of it back; `depth` under way */
};

enum bench_placement {
	BENCH_ANYWHERE, /* where the scheduler likes */
	BENCH_ONE_CPU,  /* both processes on one CPU */
	BENCH_TWO_CPUS, /* each process on its own CPU, if there are two */
};

struct bench_job {
	enum bench_kind kind;
	size_t bytes; /* of a request and of its answer; of a transfer of external data */
	uint64_t count;
	uint32_t depth;
	bool reads; /* external: the receiver sums up every byte, not only the first */
	enum bench_placement placement;
	uint32_t spin_us; /* 0 = default, UINT32_MAX = never */
};

/*
 * The command line of `program`; with `can_spin`, `sync` takes a spin time. Exits with 2 if it is
 * wrong.
 */
struct bench_job bench_parse(int argc, char **argv, const char *program, bool can_spin);

_Noreturn void bench_die(const char *what);
uint64_t bench_now_ns(void);

/*
 * Place the calling process, `index` 0 or 1, with all threads that it has; threads made later
 * follow.
 */
void bench_place(enum bench_placement placement, unsigned int index);

/* What the receiver of external data answers: a sum of its 64-bit words, or its first byte. */
uint64_t bench_digest(const struct bench_job *job, const void *data);
/* Different for each index. */
void bench_fill(void *data, size_t bytes, unsigned int index);

/* One measured stretch of work by this process and `peer`. */
struct bench_run {
	pid_t peer;
	uint64_t began_ns, began_cpu_ns;
	uint64_t wall_ns, cpu_ns;
	uint64_t *each_ns; /* sync: `count` round trips */
};

struct bench_run bench_run_new(const struct bench_job *job, pid_t peer);
void bench_run_begin(struct bench_run *run);
void bench_run_end(struct bench_run *run);
/* Prints one JSON object; `more` is further members, each with a leading comma. */
void bench_run_report(struct bench_run *run, const struct bench_job *job, const char *more);

/* How many to do before the clock starts. */
uint64_t bench_warm_up(const struct bench_job *job);

#endif
