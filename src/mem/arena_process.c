/* SPDX-License-Identifier: MIT */
/*
 * The arena of this process: made at first use, as large as asked for or as the system allows.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "vmb/mem.h"

#define MIB (UINT64_C(1) << 20)
#define RAM_MIB_DEFAULT 4096u
#define RAM_MIB_MAX (UINT64_C(8) << 20)  /* 8 TiB */
#define RAM_MIB_FLOOR 64u                /* a shortage of address space does not go below this */

static struct vmb_arena *process_arena;  /* atomic; set once under the lock */
static pthread_mutex_t process_lock = PTHREAD_MUTEX_INITIALIZER;

static uint64_t
ram_mib_wanted(void)
{
	const char *text = getenv("KMCL_RAM_MIB");
	unsigned long long mib;
	char *end;

	if (text == NULL || *text == '\0')
		return RAM_MIB_DEFAULT;
	errno = 0;
	mib = strtoull(text, &end, 10);
	if (errno == 0 && *end == '\0' && *text != '-' && mib >= 1 && mib <= RAM_MIB_MAX)
		return mib;
	fprintf(stderr, "kmcl: KMCL_RAM_MIB=%s is not a number from 1 to %" PRIu64 "; using %u\n", text,
	        RAM_MIB_MAX, RAM_MIB_DEFAULT);
	return RAM_MIB_DEFAULT;
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
		if (st == VMB_OK)
			return arena;
		if (mib == floor)
			break;
		mib = mib / 2 > floor ? mib / 2 : floor;
	}
	fprintf(stderr, "kmcl: cannot make guest memory: status %d at %" PRIu64 " MiB\n", (int)st, mib);
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
