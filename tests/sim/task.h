/* SPDX-License-Identifier: MIT */
/*
 * Tasks of the simulation: what the library takes for threads, as fibres on one real thread, so that exactly one runs and
 * nothing but sim_switch_to() changes which. Each has a stack, errno and thread-local variables of its own: the variables of the
 * program (and so of the library, which is linked into it) are swapped at each switch, at the same addresses.
 */
#ifndef SIM_TASK_H
#define SIM_TASK_H

#include <pthread.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>

#define SIM_MOST_TASKS 96u
#define SIM_MOST_KEYS 8u
#define SIM_NEVER UINT64_MAX

struct sim_task {
	uint32_t number; /* 1.. */
	char name[16];
	enum { SIM_FREE, SIM_READY, SIM_BLOCKED, SIM_OVER } state;
	bool detached;
	/* While blocked. */
	const void *key;  /* what it waits for, or NULL */
	const char *what; /* for reports */
	uint64_t until;   /* SIM_NEVER: only a wake-up ends it */
	bool woken;       /* by a wake-up and not by time */
	/* The machine's. */
	void *(*run)(void *context);
	void *context, *result;
	jmp_buf place;
	uint8_t *stack;
	uint8_t *locals;
	int error;                   /* errno */
	void *values[SIM_MOST_KEYS]; /* pthread_setspecific() */
};

extern struct sim_task sim_tasks[SIM_MOST_TASKS];
extern struct sim_task *sim_self;

/* The caller becomes the first task. */
void sim_tasks_begin(void);
/* A ready task, or NULL if there are too many. It runs when it is switched to. */
struct sim_task *sim_task_new(void *(*run)(void *context), void *context);
/* The task is over and was joined, or nobody will: its place can be another's. */
void sim_task_free(struct sim_task *task);
/* Go on there; returns when somebody switches back. */
void sim_switch_to(struct sim_task *task);
/* Supplied by the scheduler: the current task's routine has returned. */
_Noreturn void sim_task_ended(void *result);

#endif
