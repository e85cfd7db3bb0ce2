/* SPDX-License-Identifier: MIT */
/*
 * The scheduler of the simulation: which task goes on, and what time it is. Both follow from the seed alone. A task runs until it
 * reaches a point (a lock, a wait, a clock, a descriptor), where the seed says whether another goes on; time passes a little
 * whenever a clock is read, jumps to the next deadline when nothing else can be done, and now and then while something can.
 *
 * What is found ends the process with status SIM_FOUND: nothing left that could end a wait, too many steps, too much time,
 * or what a check says.
 */
#ifndef SIM_SCHED_H
#define SIM_SCHED_H

#include "task.h"

#define SIM_FOUND 1 /* exit status: the simulation found something */
#define SIM_US ((uint64_t)1000)
#define SIM_MS ((uint64_t)1000000)
#define SIM_SECOND ((uint64_t)1000000000)

/* How a seed disturbs; 0 = never, n = one time in n. */
struct sim_disturbance {
	uint32_t preempt;  /* at a point */
	uint32_t grain;    /* in a basic block of the library */
	uint32_t skip;     /* time passes although there is something to do */
	uint32_t spurious; /* a condition's wait ends for no reason */
	uint32_t processors;
};

void sim_begin(uint64_t seed, const struct sim_disturbance *how);
/* 0..below-1; for what the scheduler and the port decide. */
uint32_t sim_random(uint32_t below);
bool sim_chance(uint32_t one_in);
uint32_t sim_processors(void);
/* From now on nothing is disturbed: what is left runs to its end. */
void sim_calm(void);

/* ---- for what the library calls -------------------------------------------------------------- */

uint64_t sim_now(void);
/* A clock is read. */
uint64_t sim_read_clock(void);
/* Another task may go on. */
void sim_point(void);
/* Somebody else goes on, if there is anybody; else time does. */
void sim_yield(void);
/*
 * Wait for sim_wake(key). False: it was `until` first. `what` is for reports. Wakes of which nobody knew when they happened are
 * lost, so the caller looks at its condition before, with nothing in between.
 */
bool sim_block(const void *key, uint64_t until, const char *what);
/* At most `count` of those that wait, whom the seed chooses. Returns how many. */
uint32_t sim_wake(const void *key, uint32_t count);
bool sim_spurious(void);

/* At this time run(ctx) is called, on whichever task; it must not wait. */
void sim_at(uint64_t due, void (*run)(void *ctx), void *ctx);
/* True if it was still to come. */
bool sim_cancel(void (*run)(void *ctx), void *ctx);

/* ---- for the checks ---------------------------------------------------------------------------- */

/* Part of the trace: two runs of a seed have the same. */
void sim_note(const char *what, uint64_t value);
uint64_t sim_trace_hash(void);
uint64_t sim_steps(void);
extern bool sim_trace_on; /* print it */
_Noreturn void sim_found(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* What every task waits for, into the report. */
void sim_report_tasks(void);

#endif
