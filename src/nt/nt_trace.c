/* SPDX-License-Identifier: MIT */
/*
 * Stack traces and the store of stacks. The store is a hash table without removal: a program has
 * few places that allocate, and what is kept may be asked for until the process ends.
 */
#include "nt/nt_trace.h"

#include <execinfo.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include "nt/nt_symbol.h"

/* What may stand between `from` and backtrace(): we, our caller, and a sanitizer's. */
#define OWN_FRAMES_MAX 8

void
nt_trace_take(struct nt_trace *trace, const void *from)
{
	void *frames[NT_TRACE_FRAMES + OWN_FRAMES_MAX];
	const int all = backtrace(frames, NT_TRACE_FRAMES + OWN_FRAMES_MAX);
	int first = 0;

	while (first < all && first < OWN_FRAMES_MAX && frames[first] != from)
		first++;
	/* Not there: better too much than nothing. */
	if (first == all || first == OWN_FRAMES_MAX)
		first = 0;
	trace->count = all - first < NT_TRACE_FRAMES ? all - first : NT_TRACE_FRAMES;
	memcpy(trace->frames, frames + first, (size_t)trace->count * sizeof(trace->frames[0]));
}

size_t
nt_trace_print(const struct nt_trace *trace, char *text, size_t room)
{
	size_t used = 0;

	for (int i = 0; i < trace->count; i++) {
		char where[256];
		int length;

		/* A return address may already belong to the next line, or the next function. */
		nt_symbol_describe((const char *)trace->frames[i] - 1, where, sizeof(where));
		length = snprintf(text + used, room - used, "kmcl:   #%d %s\n", i, where);
		if (length < 0 || (size_t)length >= room - used)
			break;
		used += (size_t)length;
		/* Below it is the C library's business only. */
		if (strncmp(where, "main (", 6) == 0)
			break;
	}
	text[used] = '\0';
	return used;
}

/* ---- the store ------------------------------------------------------------------------------- */

#define STORE_SLOTS 8192u               /* twice what is kept, so that searches stay short */

struct stack {
	uint64_t hash;
	int count;
	void *frames[NT_STACK_FRAMES];
};

struct store {
	uint16_t slots[STORE_SLOTS];    /* 0 = empty, else a stack */
	uint16_t used;
	struct stack stacks[NT_STACKS_MAX + 1];
};

static pthread_mutex_t store_lock = PTHREAD_MUTEX_INITIALIZER;
static struct store *store;             /* pages are touched as they are used */

static struct store *
store_get_locked(void)
{
	void *memory;

	if (store == NULL) {
		memory = mmap(NULL, sizeof(*store), PROT_READ | PROT_WRITE,
		              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		store = memory != MAP_FAILED ? memory : NULL;
	}
	return store;
}

static uint64_t
stack_hash(const struct stack *stack)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (int i = 0; i < stack->count; i++)
		hash = (hash ^ (uint64_t)(uintptr_t)stack->frames[i]) * UINT64_C(0x100000001b3);
	return hash;
}

static uint16_t
store_keep_locked(const struct stack *stack)
{
	struct store *const s = store_get_locked();
	const size_t bytes = (size_t)stack->count * sizeof(stack->frames[0]);
	uint32_t slot = (uint32_t)(stack->hash >> 32) % STORE_SLOTS;

	if (s == NULL)
		return 0;
	for (; s->slots[slot] != 0; slot = (slot + 1) % STORE_SLOTS) {
		const struct stack *known = &s->stacks[s->slots[slot]];

		if (known->hash == stack->hash && known->count == stack->count &&
		    memcmp(known->frames, stack->frames, bytes) == 0)
			return s->slots[slot];
	}
	if (s->used == NT_STACKS_MAX)
		return 0;
	s->used++;
	s->stacks[s->used] = *stack;
	s->slots[slot] = s->used;
	return s->used;
}

uint16_t
nt_stack_keep(const void *from)
{
	struct nt_trace trace;
	struct stack stack = { .count = 0 };
	uint16_t kept;

	nt_trace_take(&trace, from);
	stack.count = trace.count < NT_STACK_FRAMES ? trace.count : NT_STACK_FRAMES;
	memcpy(stack.frames, trace.frames, (size_t)stack.count * sizeof(stack.frames[0]));
	stack.hash = stack_hash(&stack);
	pthread_mutex_lock(&store_lock);
	kept = store_keep_locked(&stack);
	pthread_mutex_unlock(&store_lock);
	return kept;
}

bool
nt_stack_get(uint16_t stack, struct nt_trace *trace)
{
	trace->count = 0;
	pthread_mutex_lock(&store_lock);
	if (stack != 0 && store != NULL && stack <= store->used) {
		const struct stack *known = &store->stacks[stack];

		trace->count = known->count;
		memcpy(trace->frames, known->frames,
		       (size_t)known->count * sizeof(known->frames[0]));
	}
	pthread_mutex_unlock(&store_lock);
	return trace->count != 0;
}
