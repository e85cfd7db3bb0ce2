/* SPDX-License-Identifier: MIT */
/*
 * The arena of this process: made at first use, as large as asked for or as the system allows.
 *
 * After fork() parent and child would share the memory but not the books, and hand the same pages
 * to two owners. So a child does not inherit the mapping, and its first use makes an arena of its
 * own.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "mem/arena_internal.h"

#if defined(__has_include)
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#endif
#endif
#ifndef RUNNING_ON_VALGRIND
#define RUNNING_ON_VALGRIND 0
#define VALGRIND_MAKE_MEM_NOACCESS(p, bytes) ((void)0)
#endif

#define MIB (UINT64_C(1) << 20)
#define RAM_MIB_DEFAULT 4096u
#define RAM_MIB_VALGRIND 256u            /* whose leak check reads, and so commits, all of it */
#define RAM_MIB_MAX (UINT64_C(8) << 20)  /* 8 TiB */
#define RAM_MIB_FLOOR 64u                /* a shortage of address space does not go below this */

static struct vmb_arena *process_arena;  /* atomic; set under the lock */
/* In a forked child: not its own, never freed, kept so that leak checkers find it. */
static struct vmb_arena *parent_arena __attribute__((used));
static bool fork_is_handled;             /* under the lock */
static pthread_mutex_t process_lock = PTHREAD_MUTEX_INITIALIZER;

uint64_t
arena_process_default_mib(void)
{
	return RUNNING_ON_VALGRIND ? RAM_MIB_VALGRIND : RAM_MIB_DEFAULT;
}

static uint64_t
ram_mib_wanted(void)
{
	const char *text = getenv("KMCL_RAM_MIB");
	unsigned long long mib;
	char *end;

	if (text == NULL || *text == '\0')
		return arena_process_default_mib();
	errno = 0;
	mib = strtoull(text, &end, 10);
	if (errno == 0 && *end == '\0' && *text != '-' && mib >= 1 && mib <= RAM_MIB_MAX)
		return mib;
	fprintf(stderr, "kmcl: KMCL_RAM_MIB=%s is not a number from 1 to %" PRIu64 "\n", text,
	        RAM_MIB_MAX);
	return arena_process_default_mib();
}

static void
fork_prepare(void)
{
	pthread_mutex_lock(&process_lock);
}

static void
fork_done_in_parent(void)
{
	pthread_mutex_unlock(&process_lock);
}

static void
fork_done_in_child(void)
{
	if (process_arena != NULL) {
		parent_arena = process_arena;
		/* Valgrind does not see MADV_DONTFORK and would look for leaks there. */
		VALGRIND_MAKE_MEM_NOACCESS(vmb_arena_host(parent_arena, 0),
		                           vmb_arena_bytes(parent_arena));
	}
	__atomic_store_n(&process_arena, NULL, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&process_lock);
}

/* True if a forked child will find neither the mapping nor the pointer. */
static bool
arena_leave_at_fork(struct vmb_arena *arena)
{
	if (!fork_is_handled)
		fork_is_handled = pthread_atfork(fork_prepare, fork_done_in_parent,
		                                 fork_done_in_child) == 0;
	return fork_is_handled &&
	       madvise(vmb_arena_host(arena, 0), vmb_arena_bytes(arena), MADV_DONTFORK) == 0;
}

static struct vmb_arena *
process_arena_make(void)
{
	const uint64_t wanted = ram_mib_wanted();
	const uint64_t floor = wanted < RAM_MIB_FLOOR ? wanted : RAM_MIB_FLOOR;
	struct vmb_arena *arena;
	uint64_t mib = wanted;
	enum vmb_status st;

	for (;;) {
		st = vmb_arena_create(mib * MIB, &arena);
		if (st == VMB_OK && arena_leave_at_fork(arena))
			return arena;
		if (st == VMB_OK) {
			vmb_arena_destroy(arena);
			st = VMB_E_NO_MEMORY;
		}
		if (mib == floor)
			break;
		mib = mib / 2 > floor ? mib / 2 : floor;
	}
	fprintf(stderr, "kmcl: cannot make guest memory: status %d at %" PRIu64 " MiB\n", (int)st,
	        mib);
	abort();
}

struct vmb_arena *
vmb_arena_process(void)
{
	/* Pairs with the release store below. */
	struct vmb_arena *arena = __atomic_load_n(&process_arena, __ATOMIC_ACQUIRE);

	if (arena != NULL)
		return arena;
	pthread_mutex_lock(&process_lock);
	arena = process_arena;
	if (arena == NULL) {
		arena = process_arena_make();
		__atomic_store_n(&process_arena, arena, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&process_lock);
	return arena;
}
