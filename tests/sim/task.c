/* SPDX-License-Identifier: MIT */
#include "task.h"

#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "wrap.h"

#define STACK_BYTES (256u * 1024)

struct sim_task sim_tasks[SIM_MOST_TASKS];
struct sim_task *sim_self;

/* Thread-local variables of this program: where they are for its only thread, and as a new thread has them. */
static uint8_t *locals;
static size_t locals_bytes;
static uint8_t *fresh_locals;

static ucontext_t entered_from;

/* The program comes first in the list; those of shared objects stay common, as the C library's own are. */
static int
find_locals(struct dl_phdr_info *info, size_t bytes, void *ctx)
{
	(void)bytes;
	(void)ctx;
	for (unsigned i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &info->dlpi_phdr[i];

		if (part->p_type != PT_TLS)
			continue;
		locals = info->dlpi_tls_data;
		locals_bytes = part->p_memsz;
		fresh_locals = sim_alloc(locals_bytes);
		memcpy(fresh_locals, (const void *)(info->dlpi_addr + part->p_vaddr),
		       part->p_filesz);
	}
	return 1;
}

void
sim_tasks_begin(void)
{
	(void)dl_iterate_phdr(find_locals, NULL);
	sim_self = &sim_tasks[0];
	sim_self->number = 1;
	sim_self->state = SIM_READY;
	sim_self->locals = sim_alloc(locals_bytes + 1);
	strcpy(sim_self->name, "main");
}

static void
enter(void)
{
	struct sim_task *task = sim_self;

	/* Back to who makes tasks; the first switch to this one comes out here a second time. */
	if (_setjmp(task->place) == 0)
		setcontext(&entered_from);
	sim_task_ended(task->run(task->context));
}

/* Puts `place` where the routine begins; the maker is whose turn it is when this returns, once it says so. */
static void
prepare(struct sim_task *task)
{
	volatile bool back = false;
	ucontext_t fresh;

	if (getcontext(&entered_from) != 0)
		abort();
	if (back)
		return;
	back = true;
	if (getcontext(&fresh) != 0)
		abort();
	fresh.uc_stack.ss_sp = task->stack;
	fresh.uc_stack.ss_size = STACK_BYTES;
	fresh.uc_link = NULL;
	makecontext(&fresh, enter, 0);
	sim_self = task;
	setcontext(&fresh);
}

struct sim_task *
sim_task_new(void *(*run)(void *context), void *context)
{
	struct sim_task *maker = sim_self, *task = NULL;

	for (uint32_t i = 0; i < SIM_MOST_TASKS && task == NULL; i++) {
		if (sim_tasks[i].state == SIM_FREE)
			task = &sim_tasks[i];
	}
	if (task == NULL)
		return NULL;
	if (task->stack == NULL) {
		/* The lowest page is a wall. */
		uint8_t *memory = __real_mmap64(NULL, STACK_BYTES + 4096, PROT_READ | PROT_WRITE,
		                                MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

		if (memory == MAP_FAILED || mprotect(memory, 4096, PROT_NONE) != 0)
			abort();
		task->stack = memory + 4096;
		task->locals = sim_alloc(locals_bytes + 1);
	}
	memcpy(task->locals, fresh_locals, locals_bytes);
	memset(task->values, 0, sizeof(task->values));
	task->number = (uint32_t)(task - sim_tasks) + 1;
	task->state = SIM_READY;
	task->detached = false;
	task->key = NULL;
	task->until = SIM_NEVER;
	task->run = run;
	task->context = context;
	task->error = 0;
	strcpy(task->name, "thread");
	prepare(task);
	sim_self = maker;
	return task;
}

void
sim_task_free(struct sim_task *task)
{
	task->state = SIM_FREE;
}

void
sim_switch_to(struct sim_task *task)
{
	struct sim_task *from = sim_self;

	if (task == from)
		return;
	if (_setjmp(from->place) != 0)
		return;
	from->error = errno;
	memcpy(from->locals, locals, locals_bytes);
	sim_self = task;
	memcpy(locals, task->locals, locals_bytes);
	errno = task->error;
	_longjmp(task->place, 1);
}
