/* SPDX-License-Identifier: MIT */
/*
 * What the programs that measure share: the command line of two processes, timing and the report.
 * They differ only in how the bytes get across. Everything here ends the program when it fails.
 */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bench_place.h"

#define BENCH_MAX_PAYLOAD 65536u
#define BENCH_MAX_EXTERNAL (16u << 20)
#define BENCH_MAX_DEPTH 256u

enum bench_kind {
	BENCH_SYNC,     /* a request, then its answer; one at a time */
	BENCH_INFLIGHT, /* the same with `depth` of them under way */
	BENCH_EXTERNAL, /* large data one way, a sum of it back; `depth` under way */
};

struct bench_job {
	enum bench_kind kind;
	size_t bytes; /* of a request and of its answer; of a transfer of external data */
	uint64_t count;
	uint32_t depth;
	bool reads; /* external: the receiver sums up every byte, not only the first */
	enum bench_placement placement;
	uint32_t spin_us; /* 0 = default, UINT32_MAX = never */
	bool by_thread;   /* inflight: a thread sends one by one, not what completes a request */
};

/* The command line; `ours`: with what only kmcl_peer takes. Exits with 2 if it is wrong. */
struct bench_job bench_parse(int argc, char **argv, bool ours);

_Noreturn void bench_die(const char *what);
uint64_t bench_now_ns(void);
/* What reading the clock adds to a time between two readings. */
uint64_t bench_clock_cost_ns(void);

/* What the receiver of external data answers: a sum of its 64-bit words, or its first byte. */
uint64_t bench_digest(const struct bench_job *job, const void *data);
/* Different for each index. */
void bench_fill(void *data, size_t bytes, unsigned int index);

static inline void
bench_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#else
	__asm__ volatile("" : : : "memory");
#endif
}

/* ---- blocks ------------------------------------------------------------------------------- */

/*
 * The time that each block of BENCH_BLOCK packets took: a machine that goes away for milliseconds
 * spoils one block and not the median. The last incomplete block does not count.
 */
#define BENCH_BLOCK 1000u

struct bench_blocks {
	uint64_t *ns;
	uint64_t room, count, began_ns;
};

struct bench_blocks bench_blocks_new(uint64_t packets);
void bench_blocks_begin(struct bench_blocks *blocks);
void bench_blocks_end_block(struct bench_blocks *blocks);
/* Of one packet. Sorts the blocks; 0 if there are none. */
double bench_blocks_median(struct bench_blocks *blocks);
void bench_blocks_free(struct bench_blocks *blocks);

/* `done` packets are over; called with each number in turn, or with multiples of BENCH_BLOCK. */
static inline void
bench_blocks_tick(struct bench_blocks *blocks, uint64_t done)
{
	if (done % BENCH_BLOCK == 0)
		bench_blocks_end_block(blocks);
}

/* ---- a run -------------------------------------------------------------------------------- */

/* One measured stretch of work by this process and `peer`. */
struct bench_run {
	pid_t peer;
	uint64_t began_ns, began_cpu_ns;
	uint64_t wall_ns, cpu_ns;
	uint64_t *each_ns; /* sync: `count` round trips */
	struct bench_blocks blocks;
	double line_before_ns;
};

struct bench_run bench_run_new(const struct bench_job *job, pid_t peer);
void bench_run_begin(struct bench_run *run);
void bench_run_end(struct bench_run *run);
/* Prints one JSON object; `more` is further members, each with a leading comma. */
void bench_run_report(struct bench_run *run, const struct bench_job *job, const char *more);

/* How many to do before the clock starts. */
uint64_t bench_warm_up(const struct bench_job *job);

#endif
