/* SPDX-License-Identifier: MIT */
/*
 * Runs programs, each in a process of its own that begins from the same state, and makes those that find something shorter.
 */
#ifndef SIM_RUNNER_H
#define SIM_RUNNER_H

#include "program.h"

/* What a run came to. */
struct sim_result {
	bool found;
	uint64_t hash, steps; /* of one that found nothing */
	struct sim_counts counts;
	char report[2000]; /* of one that did, as far as it fits */
};

struct sim_result sim_run(const struct sim_program *program);
/* The same; and two runs must have the same trace. */
struct sim_result sim_run_checked(const struct sim_program *program, bool twice);
/* In this process, with everything that it prints; returns when nothing was found. */
void sim_run_here(const struct sim_program *program);

struct sim_sum {
	uint64_t found; /* seeds that found something */
	uint64_t steps; /* and of the others, all together */
	struct sim_counts counts;
};
void sim_sum_add(struct sim_sum *sum, const struct sim_sum *more);
#define SIM_MOST_JOBS 64u
/* The seeds first..first+count-1, by so many processes; prints those that found something. */
struct sim_sum sim_run_seeds(uint64_t first, uint64_t count, uint32_t jobs, bool twice);
/* Operations that are not needed to find something are left out. */
void sim_shrink(struct sim_program *program);

#endif
