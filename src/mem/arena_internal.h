/* SPDX-License-Identifier: MIT */
/*
 * The arena's own structures, for arena*.c and their tests.
 *
 * A run's word `state` says who still needs it: the number of pins, the number of on_unpinned
 * calls under way, and whether its owner has freed it. The run returns to the free pages in the
 * one step that leaves "freed" and nothing else; that step is taken exactly once, without a lock.
 */
#ifndef ARENA_INTERNAL_H
#define ARENA_INTERNAL_H

#include <pthread.h>
#include <stdint.h>

#include "mem/page_spans.h"
#include "vmb/mem.h"

#define ARENA_PAGE_BYTES 4096u

#define RUN_PIN UINT64_C(1)
#define RUN_PINS_MASK UINT64_C(0xFFFFFFFF)
#define RUN_HOOK (UINT64_C(1) << 32)
#define RUN_HOOKS_MASK (UINT64_C(0xFFFFFF) << 32)
#define RUN_FREED (UINT64_C(1) << 62)
#define RUN_LIVE (UINT64_C(1) << 63)    /* from allocation until the pages return */

/* Of a run's first page. All but `state` change only while the run is nobody else's. */
struct arena_run {
	uint64_t state;                 /* atomic; 0 = not a run */
	void (*on_unpinned)(void *ctx, void *run);
	void *ctx;
	uint32_t pages;
};

struct vmb_arena {
	uint8_t *base;
	uint64_t bytes;
	uint32_t pages;
	int fd;
	struct vmb_mem *mem;            /* owns the mapping and the fd */

	uint64_t *physical;             /* per page: its number in this machine; NULL = not a physical arena */
	int pin_fd;                     /* what keeps the pages where they are; -1 = nothing has to */

	void *books;                    /* private memory behind the next three */
	size_t books_bytes;
	struct arena_run *runs;         /* per page */
	uint8_t *dirty;                 /* per page: 1 = may hold old data; its owner's */

	pthread_mutex_t lock;
	struct page_spans spans;        /* under lock, but see page_spans.h */
};

/*
 * The two ways to make the file of an arena and map it: fills fd, base and, of a physical one, physical and pin_fd. On
 * failure nothing is left, and `reason` (NULL for an ordinary one) says what to do.
 */
VMB_MUST_CHECK enum vmb_status arena_back_ordinary(struct vmb_arena *arena);
VMB_MUST_CHECK enum vmb_status arena_back_physical(struct vmb_arena *arena, char *reason);
/* Of the file that arena->fd is: its size, seals and mapping. */
VMB_MUST_CHECK enum vmb_status arena_map_file(struct vmb_arena *arena, int map_flags);
int arena_open_file(unsigned more_flags);
void arena_forget_physical(struct vmb_arena *arena);

/* Size of the process arena when nobody asks for another: address space, in MiB. */
uint64_t arena_process_default_mib(void);

#endif
