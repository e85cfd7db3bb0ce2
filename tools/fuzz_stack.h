/* SPDX-License-Identifier: MIT */
/*
 * Stacks of a worker whose memory nobody can trust any more. Its signal handler writes bare addresses into shared memory; the names
 * are looked up by a process in which the driver did nothing.
 */
#ifndef TOOLS_FUZZ_STACK_H
#define TOOLS_FUZZ_STACK_H

#include <stdatomic.h>
#include <stdint.h>

#define FUZZ_FRAMES 40
#define FUZZ_MODULES 64

struct fuzz_stack {
	_Atomic uint32_t count; /* set last; 0: there is none */
	int signal;
	uintptr_t address;             /* that a fault was about */
	uintptr_t frames[FUZZ_FRAMES]; /* as return addresses */
	char thread[16];
	/* Where the worker's code lies. */
	struct {
		uintptr_t base, end;
		char path[256];
	} modules[FUZZ_MODULES];
	uint32_t module_count;
};

/* Of the worker: what is loaded now. */
void fuzz_stack_note_modules(struct fuzz_stack *stack);
/*
 * From now on a signal that kills leaves its stack there, and SIGTRAP, sent to a thread, that thread's.
 */
void fuzz_stack_catch(struct fuzz_stack *stack);

/* Of the fuzzer: write the stack to `output` as text. Nothing if there is none. */
void fuzz_stack_print(const struct fuzz_stack *stack, int output);

#endif
