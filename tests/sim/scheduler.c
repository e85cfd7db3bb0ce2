/* SPDX-License-Identifier: MIT */
#include "scheduler.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "plant.h"
#include "world.h"

#define MOST_EVENTS 1024u
#define MOST_STEPS 500000u
#define START_NS (1000 * SIM_SECOND)
#define LONGEST_NS (1000 * SIM_SECOND)

struct event {
	uint64_t due, order;
	void (*run)(void *ctx);
	void *ctx;
};

static struct {
	uint64_t random;
	struct sim_disturbance how;
	uint64_t now;
	uint64_t steps, hash, order;
	uint32_t blocks_left; /* until the next turn inside the library; 0 = there is none */
	struct event events[MOST_EVENTS];
	uint32_t event_count;
} sim;

bool sim_trace_on;

/* ---- chance ------------------------------------------------------------------------------------ */

/* splitmix64, which is public domain. */
static uint64_t
next_random(void)
{
	uint64_t z = (sim.random += 0x9e3779b97f4a7c15u);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return z ^ (z >> 31);
}

uint32_t
sim_random(uint32_t below)
{
	return (uint32_t)((next_random() >> 32) * below >> 32);
}

bool
sim_chance(uint32_t one_in)
{
	return one_in != 0 && sim_random(one_in) == 0;
}

bool
sim_spurious(void)
{
	return sim_chance(sim.how.spurious);
}

uint32_t
sim_processors(void)
{
	return sim.how.processors;
}

void
sim_begin(uint64_t seed, const struct sim_disturbance *how)
{
	sim.random = seed * 0xd1342543de82ef95u + 1;
	sim.how = *how;
	sim.now = START_NS;
	sim.hash = 0xcbf29ce484222325u;
	sim.blocks_left = how->grain;
}

void
sim_calm(void)
{
	sim.how.skip = sim.how.spurious = 0;
	sim.blocks_left = 0;
	sim.how.preempt = sim.how.preempt == 0 ? 0 : 64;
}

/* ---- trace ------------------------------------------------------------------------------------- */

static void
mix(uint64_t value)
{
	sim.hash = (sim.hash ^ value) * 0x100000001b3u;
	sim.hash ^= sim.hash >> 29;
}

void
sim_note(const char *what, uint64_t value)
{
	for (const char *c = what; *c != '\0'; c++)
		mix((uint8_t)*c);
	mix(value);
	if (sim_trace_on)
		fprintf(stderr, "%12.6f %-15s %s %llu\n", (double)(sim.now - START_NS) / 1e6,
		        sim_self->name, what, (unsigned long long)value);
}

uint64_t
sim_trace_hash(void)
{
	return sim.hash;
}

uint64_t
sim_steps(void)
{
	return sim.steps;
}

void
sim_report_tasks(void)
{
	for (uint32_t i = 0; i < SIM_MOST_TASKS; i++) {
		const struct sim_task *task = &sim_tasks[i];

		if (task->state == SIM_READY)
			printf("  %-15s runs%s\n", task->name,
			       task == sim_self ? " (this one)" : "");
		if (task->state == SIM_BLOCKED)
			printf("  %-15s waits: %s%s\n", task->name, task->what,
			       task->until == SIM_NEVER ? "" : ", for a time");
	}
}

void
sim_found(const char *format, ...)
{
	va_list args;

	printf("found: ");
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	printf("\n");
	sim_report_tasks();
	sim_report_world();
	fflush(stdout);
	_exit(SIM_FOUND);
}

/* ---- time -------------------------------------------------------------------------------------- */

uint64_t
sim_now(void)
{
	return sim.now;
}

void
sim_at(uint64_t due, void (*run)(void *ctx), void *ctx)
{
	if (sim.event_count == MOST_EVENTS)
		sim_found("more than %u events are due; raise MOST_EVENTS in tests/sim/scheduler.c",
		          MOST_EVENTS);
	sim.events[sim.event_count++] = (struct event){ due, sim.order++, run, ctx };
}

static void
forget_event(uint32_t index)
{
	sim.events[index] = sim.events[--sim.event_count];
}

bool
sim_cancel(void (*run)(void *ctx), void *ctx)
{
	for (uint32_t i = 0; i < sim.event_count; i++) {
		if (sim.events[i].run == run && sim.events[i].ctx == ctx) {
			forget_event(i);
			return true;
		}
	}
	return false;
}

static struct event *
first_event(void)
{
	struct event *first = NULL;

	for (uint32_t i = 0; i < sim.event_count; i++) {
		struct event *e = &sim.events[i];

		if (first == NULL || e->due < first->due ||
		    (e->due == first->due && e->order < first->order))
			first = e;
	}
	return first;
}

static uint64_t
next_due(void)
{
	const struct event *event = first_event();
	uint64_t due = event != NULL ? event->due : SIM_NEVER;

	for (uint32_t i = 0; i < SIM_MOST_TASKS; i++) {
		if (sim_tasks[i].state == SIM_BLOCKED && sim_tasks[i].until < due)
			due = sim_tasks[i].until;
	}
	return due;
}

static void
fire_due(void)
{
	struct event *event;

	while ((event = first_event()) != NULL && event->due <= sim.now) {
		struct event now = *event;

		forget_event((uint32_t)(event - sim.events));
		now.run(now.ctx);
	}
	for (uint32_t i = 0; i < SIM_MOST_TASKS; i++) {
		struct sim_task *task = &sim_tasks[i];

		if (task->state == SIM_BLOCKED && task->until <= sim.now) {
			task->state = SIM_READY;
			task->woken = false;
		}
	}
}

/* False: nothing is ever due. */
static bool
pass_time(void)
{
	uint64_t due = next_due();

	if (due == SIM_NEVER)
		return false;
	if (due > sim.now)
		sim.now = due;
	if (sim.now > START_NS + LONGEST_NS)
		sim_found("after %llu s of its time the program has not ended",
		          (unsigned long long)(LONGEST_NS / SIM_SECOND));
	fire_due();
	return true;
}

/* ---- whose turn it is ---------------------------------------------------------------------------- */

static struct sim_task *
choose(const struct sim_task *but)
{
	struct sim_task *ready[SIM_MOST_TASKS];
	uint32_t count = 0;

	for (uint32_t i = 0; i < SIM_MOST_TASKS; i++) {
		if (sim_tasks[i].state == SIM_READY && &sim_tasks[i] != but)
			ready[count++] = &sim_tasks[i];
	}
	return count == 0 ? NULL : ready[sim_random(count)];
}

static void
go_on_with(struct sim_task *task)
{
	mix(task->number + sim.now);
	if (sim_trace_on && task != sim_self)
		fprintf(stderr, "%12.6f %-15s -> %s\n", (double)(sim.now - START_NS) / 1e6,
		        sim_self->name, task->name);
	sim_switch_to(task);
}

/* The current task cannot go on, or wants not to. */
static void
leave(const struct sim_task *but)
{
	struct sim_task *next;

	for (;;) {
		fire_due();
		next = choose(but);
		if (next != NULL)
			break;
		if (!pass_time()) {
			if (but != NULL)
				return; /* it is alone, and there is no time that would pass */
			sim_found("nothing can end what the tasks wait for");
		}
		if (sim_self->state == SIM_READY)
			but = NULL;
	}
	go_on_with(next);
}

static void
step(void)
{
	if (++sim.steps > MOST_STEPS)
		sim_found(
		    "after %u steps the program has not ended: something goes round in circles",
		    MOST_STEPS);
}

void
sim_point(void)
{
	step();
	if (sim_chance(sim.how.skip))
		(void)pass_time();
	if (sim_chance(sim.how.preempt))
		leave(NULL);
}

/* The compiler puts a call of this into each basic block of the library. */
void __sanitizer_cov_trace_pc(void);
void
__sanitizer_cov_trace_pc(void)
{
	if (sim.blocks_left == 0 || --sim.blocks_left != 0)
		return;
	sim.blocks_left = 1 + sim_random(2 * sim.how.grain);
	step();
	leave(NULL);
}

void
sim_yield(void)
{
	step();
	leave(sim_self);
}

uint64_t
sim_read_clock(void)
{
	sim.now += 50 + sim_random(1000) + sim_plant_time();
	sim_point();
	return sim.now;
}

bool
sim_block(const void *key, uint64_t until, const char *what)
{
	struct sim_task *self = sim_self;

	step();
	self->key = key;
	self->what = what;
	self->until = until;
	self->woken = false;
	self->state = SIM_BLOCKED;
	leave(NULL);
	self->key = NULL;
	self->until = SIM_NEVER;
	return self->woken;
}

uint32_t
sim_wake(const void *key, uint32_t count)
{
	uint32_t woken = 0;

	while (woken < count) {
		struct sim_task *waiting[SIM_MOST_TASKS];
		uint32_t n = 0;

		for (uint32_t i = 0; i < SIM_MOST_TASKS; i++) {
			if (sim_tasks[i].state == SIM_BLOCKED && sim_tasks[i].key == key)
				waiting[n++] = &sim_tasks[i];
		}
		if (n == 0)
			break;
		n = n == 1 ? 0 : sim_random(n);
		waiting[n]->state = SIM_READY;
		waiting[n]->woken = true;
		woken++;
	}
	return woken;
}

void
sim_task_ended(void *result)
{
	struct sim_task *self = sim_self;

	self->result = result;
	self->state = SIM_OVER;
	(void)sim_wake(self, UINT32_MAX);
	if (self->detached)
		sim_task_free(
		    self); /* its stack stays until another task is made, which is not before we left */
	leave(NULL);
	abort();
}
