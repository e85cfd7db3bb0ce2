/* SPDX-License-Identifier: MIT */
/*
 * Memory that runs out where a fuzzer's input says so. Every fuzzer is linked with this in
 * place of the C library's functions, and unless it asks for a failure they do what they always
 * do. Only for the thread that asked, so that the others' timing changes nothing.
 */
#include "fuzz_memory.h"

#include <stddef.h>

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *block, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);

_Thread_local unsigned fuzz_memory_left;

static bool
is_refused(void)
{
	return fuzz_memory_left != 0 && --fuzz_memory_left == 0;
}

void *
__wrap_malloc(size_t bytes)
{
	return is_refused() ? NULL : __real_malloc(bytes);
}

void *
__wrap_calloc(size_t count, size_t bytes)
{
	return is_refused() ? NULL : __real_calloc(count, bytes);
}

void *
__wrap_realloc(void *block, size_t bytes)
{
	return is_refused() ? NULL : __real_realloc(block, bytes);
}
