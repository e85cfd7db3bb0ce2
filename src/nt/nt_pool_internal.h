/* SPDX-License-Identifier: MIT */
/*
 * The pool's book-keeping, for nt_pool*.c.
 *
 * A run is one piece of the arena: a slab of equal blocks, or the pages of one large block. Its
 * description is private memory and never given back to the system, so a stale pointer to one can
 * be looked at: with the class lock held, `base` says whether it still describes what the reader
 * came for.
 */
#ifndef NT_POOL_INTERNAL_H
#define NT_POOL_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmb/mem.h"
#include "wdm/list.h"

#define POOL_SLAB_PAGES 4u
#define POOL_SLAB_BYTES (POOL_SLAB_PAGES * 4096u)
#define POOL_SMALL_MAX 2048u            /* larger blocks have pages of their own */
#define POOL_CLASSES 15u
#define POOL_CLASS_LARGE (POOL_CLASSES - 1)
#define POOL_SLAB_BLOCKS_MAX (POOL_SLAB_BYTES / 16u)
#define POOL_BITMAP_WORDS (POOL_SLAB_BLOCKS_MAX / 64u)

struct pool_block_info {
	uint32_t tag;
	uint16_t bytes;
	uint16_t stack;         /* nt_stack_keep(): of the allocation, later of the release */
	bool live;
};

struct pool_run {
	LIST_ENTRY all;                 /* of the class, or of spare descriptions */
	LIST_ENTRY partial; /* slabs with a free block; links itself when not in the list */
	uint8_t *base;                  /* NULL = spare; atomic: see slab_unpinned() */
	uint32_t class_index;           /* atomic: read before the lock is known */
	uint32_t live;                  /* blocks in use or in quarantine */

	/* Large blocks. */
	uint64_t bytes;
	uint32_t tag;
	uint16_t stack;                 /* as in pool_block_info */
	bool quarantined;

	/* Slabs. A block is in use, free, or freed while its slab was pinned. */
	uint32_t blocks;
	uint32_t free_blocks;
	uint32_t held_blocks;
	uint32_t free_words;            /* bit n: free[n] is not zero */
	uint64_t free[POOL_BITMAP_WORDS];
	uint64_t held[POOL_BITMAP_WORDS];
	struct pool_block_info *info;
};

struct pool_class {
	pthread_mutex_t lock;
	uint32_t block_bytes;           /* 0 for large blocks */
	uint32_t empty_slabs;           /* without a block in use; one is kept */
	LIST_ENTRY all;
	LIST_ENTRY partial;
};

/*
 * Checked mode: blocks that were freed and are not used again for a while, so that freeing them
 * twice is seen and using them shows. First in, first out.
 */
#define QUARANTINE_BLOCKS 512u
#define QUARANTINE_BYTES_MAX (1024u * 1024u)
#define QUARANTINE_BLOCK_BYTES_MAX (64u * 1024u)

struct pool_freed {
	struct pool_run *run;
	uint32_t index;                 /* of a small block */
	uint32_t bytes;                 /* poisoned */
};

struct pool_quarantine {
	pthread_mutex_t lock;           /* inside of no other */
	struct pool_freed blocks[QUARANTINE_BLOCKS];
	uint32_t first, count;
	uint32_t bytes;
};

struct pool {
	struct vmb_arena *arena;
	struct pool_run *
	    *by_page; /* per arena page, atomic; every page of a slab, the first of a large block */
	struct pool_class classes[POOL_CLASSES];
	pthread_mutex_t spare_lock;
	LIST_ENTRY spare;
	struct pool_quarantine quarantine;
};

/* Made at first use; NULL if there is no memory for it. */
struct pool *nt_pool_get(void);
/* NULL if this process has not used the pool. */
struct pool *nt_pool_existing(void);
/* At exit: report leaks if that is wanted. */
void nt_pool_exit(void);

/* A description for a new run, or NULL. */
struct pool_run *nt_pool_run_new(struct pool *pool, uint32_t class_index);
void nt_pool_run_retire(struct pool *pool, struct pool_run *run);
/* Enter the pages into the page table, or take them out (run NULL). */
void nt_pool_run_publish(struct pool *pool, uint8_t *base, uint32_t pages, struct pool_run *run);

/* A tag as people write it; the sources spell it so that the lowest byte comes first in memory. */
const char *nt_pool_tag_text(uint32_t tag, char text[5]);
/* Give the block back, with the class locked; may retire the run. */
void nt_pool_release_locked(struct pool *pool, struct pool_run *run, uint32_t index);

/*
 * A block that was just marked as not live. Poisons it (`poison_bytes` of it; 0 for one that a
 * peer may still write to) and gives back what has been there longest. Without locks.
 */
void nt_quarantine_add(struct pool *pool, struct pool_run *run, uint32_t index,
		       uint32_t poison_bytes);

/* Give everything back because memory is short; false if there was nothing. Without locks. */
bool nt_quarantine_empty(struct pool *pool);

/* Block of a small class, not zeroed; NULL without memory. `stack` as in pool_block_info. */
void *nt_slab_alloc(struct pool *pool, uint32_t class_index, size_t bytes, uint32_t tag,
		    uint16_t stack);
/* All with the class lock held. The index of a block, or -1 if `p` is not the first byte of one. */
int nt_slab_index_locked(const struct pool *pool, const struct pool_run *run, const void *p);
/* May retire the run. */
void nt_slab_free_locked(struct pool *pool, struct pool_run *run, uint32_t index);

#endif
