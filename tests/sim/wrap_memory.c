/* SPDX-License-Identifier: MIT */
/* Requests for memory, which the system can refuse. */
#include "wrap.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "scheduler.h"

static uint32_t one_in;
static uint64_t refused;
static int64_t live_blocks;

void
sim_refuse(uint32_t chance)
{
	one_in = chance;
}

uint64_t
sim_refused(void)
{
	return refused;
}

bool
sim_refuse_now(const char *what)
{
	if (!sim_chance(one_in))
		return false;
	refused++;
	sim_note("refused", (uint64_t)(unsigned char)what[0]);
	return true;
}

int64_t
sim_live_blocks(void)
{
	return live_blocks;
}

static bool
refuse(const char *what)
{
	if (!sim_refuse_now(what))
		return false;
	errno = ENOMEM;
	return true;
}

static void *
counted(void *block)
{
	live_blocks += block != NULL;
	return block;
}

WRAP(void *, malloc, size_t bytes)
{
	return refuse("malloc") ? NULL : counted(__real_malloc(bytes));
}

WRAP(void *, calloc, size_t count, size_t bytes)
{
	return refuse("calloc") ? NULL : counted(__real_calloc(count, bytes));
}

WRAP(void, free, void *block)
{
	live_blocks -= block != NULL;
	__real_free(block);
}

void *
sim_alloc(size_t bytes)
{
	void *block = __real_calloc(1, bytes);

	if (block == NULL)
		abort();
	return block;
}

void
sim_free(void *block)
{
	__real_free(block);
}

WRAP(void *, realloc, void *block, size_t bytes)
{
	if (refuse("realloc"))
		return NULL;
	return block == NULL ? counted(__real_realloc(block, bytes)) : __real_realloc(block, bytes);
}

WRAP(void *, aligned_alloc, size_t alignment, size_t bytes)
{
	return refuse("aligned_alloc") ? NULL : counted(__real_aligned_alloc(alignment, bytes));
}

WRAP(char *, strdup, const char *text)
{
	return refuse("strdup") ? NULL : counted(__real_strdup(text));
}

/* With 64-bit offsets it has this name in the object files. */
WRAP(void *, mmap64, void *address, size_t bytes, int protection, int flags, int fd, off_t offset)
{
	return refuse("mmap") ? MAP_FAILED
	                      : __real_mmap64(address, bytes, protection, flags, fd, offset);
}
