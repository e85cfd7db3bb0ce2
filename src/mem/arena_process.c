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
#include <string.h>
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
/* Physical: every page of it is taken from the machine at once. */
#define RAM_MIB_PHYSICAL 32u
#define RAM_MIB_PHYSICAL_FLOOR 4u

static struct vmb_arena *process_arena;  /* atomic; set under the lock */
/* In a forked child: not its own, never freed, kept so that leak checkers find it. */
static struct vmb_arena *parent_arena __attribute__((used));
static bool fork_is_handled;             /* under the lock */
static bool physical_is_wanted;          /* under the lock */
static char physical_reason[VMB_ARENA_REASON_BYTES]; /* under the lock: why it was wanted in vain */
static pthread_mutex_t process_lock = PTHREAD_MUTEX_INITIALIZER;

uint64_t
arena_process_default_mib(void)
{
	return RUNNING_ON_VALGRIND ? RAM_MIB_VALGRIND : RAM_MIB_DEFAULT;
}

/* What the environment says about physical memory: 1 yes, 0 no, -1 nothing. */
static int
physical_by_environment(void)
{
	const char *text = getenv("KMCL_RAM");

	if (text == NULL || *text == '\0')
		return -1;
	if (strcmp(text, "physical") == 0)
		return 1;
	if (strcmp(text, "ordinary") != 0)
		fprintf(stderr, "kmcl: KMCL_RAM=%s is neither physical nor ordinary\n", text);
	return 0;
}

static uint64_t
ram_mib_wanted(uint64_t preset)
{
	const char *text = getenv("KMCL_RAM_MIB");
	unsigned long long mib;
	char *end;

	if (text == NULL || *text == '\0')
		return preset;
	errno = 0;
	mib = strtoull(text, &end, 10);
	if (errno == 0 && *end == '\0' && *text != '-' && mib >= 1 && mib <= RAM_MIB_MAX)
		return mib;
	fprintf(stderr, "kmcl: KMCL_RAM_MIB=%s is not a number from 1 to %" PRIu64 "\n", text,
	        RAM_MIB_MAX);
	return preset;
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

/* NULL, and physical_reason says why. */
static struct vmb_arena *
process_arena_make_physical(void)
{
	const uint64_t wanted = ram_mib_wanted(RAM_MIB_PHYSICAL);
	struct vmb_arena *arena;
	uint64_t mib = wanted;
	enum vmb_status st;

	for (;;) {
		st = vmb_arena_create_physical(mib * MIB, &arena, physical_reason);
		if (st == VMB_OK && arena_leave_at_fork(arena))
			return arena;
		if (st == VMB_OK) {
			vmb_arena_destroy(arena);
			snprintf(physical_reason, sizeof(physical_reason),
			         "it cannot be kept from forked children: no memory");
			return NULL;
		}
		if (st != VMB_E_NO_MEMORY || mib / 2 < RAM_MIB_PHYSICAL_FLOOR)
			return NULL;
		mib /= 2;
	}
}

static struct vmb_arena *
process_arena_make(void)
{
	const uint64_t wanted = ram_mib_wanted(arena_process_default_mib());
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

/* The lock is held and there is none. */
static struct vmb_arena *
process_arena_make_as_wanted(void)
{
	const int by_environment = physical_by_environment();
	struct vmb_arena *arena = NULL;

	if (by_environment == 1 || (by_environment != 0 && physical_is_wanted))
		arena = process_arena_make_physical();
	else
		snprintf(physical_reason, sizeof(physical_reason), "%s",
		         by_environment == 0 ? "KMCL_RAM in the environment forbids it"
		                             : "this process had made its memory before it was wanted; set KMCL_RAM=physical");
	if (arena == NULL && by_environment == 1)
		fprintf(stderr, "kmcl: KMCL_RAM=physical cannot be had, so memory is ordinary: %s\n",
		        physical_reason);
	return arena != NULL ? arena : process_arena_make();
}

bool
vmb_arena_process_want_physical(char reason[VMB_ARENA_REASON_BYTES])
{
	bool physical;

	pthread_mutex_lock(&process_lock);
	physical_is_wanted = true;
	pthread_mutex_unlock(&process_lock);
	physical = vmb_arena_is_physical(vmb_arena_process());
	pthread_mutex_lock(&process_lock);
	memcpy(reason, physical_reason, sizeof(physical_reason));
	pthread_mutex_unlock(&process_lock);
	if (physical)
		reason[0] = '\0';
	return physical;
}

/* Apart, so that all calls but the first are a load. */
static __attribute__((noinline)) struct vmb_arena *
process_arena_first(void)
{
	struct vmb_arena *arena;

	pthread_mutex_lock(&process_lock);
	arena = process_arena;
	if (arena == NULL) {
		arena = process_arena_make_as_wanted();
		__atomic_store_n(&process_arena, arena, __ATOMIC_RELEASE);
	}
	pthread_mutex_unlock(&process_lock);
	return arena;
}

struct vmb_arena *
vmb_arena_process(void)
{
	/* Pairs with the release store above. */
	struct vmb_arena *arena = __atomic_load_n(&process_arena, __ATOMIC_ACQUIRE);

	return arena != NULL ? arena : process_arena_first();
}
