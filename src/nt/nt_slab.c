/* SPDX-License-Identifier: MIT */
/*
 * Small blocks: slabs of one size class each. A block that is freed while its slab is pinned
 * stays out of use until the last pin has gone, because a peer may still write to it.
 */
#include "nt/nt_pool_internal.h"

#include <stdlib.h>

static uint32_t
slab_block_bytes(const struct pool *pool, const struct pool_run *slab)
{
	return pool->classes[slab->class_index].block_bytes;
}

static void
slab_mark_free(struct pool_run *slab, uint32_t word, uint64_t bits)
{
	slab->free[word] |= bits;
	slab->free_words |= UINT32_C(1) << word;
	slab->free_blocks += (uint32_t)__builtin_popcountll(bits);
}

static void
slab_list_locked(struct pool_class *class, struct pool_run *slab)
{
	if (slab->free_blocks != 0 && IsListEmpty(&slab->partial))
		InsertHeadList(&class->partial, &slab->partial);
}

/* Nobody has a block of it: keep one such slab per class, give others back. */
static void
slab_became_empty_locked(struct pool *pool, struct pool_class *class, struct pool_run *slab)
{
	uint8_t *const base = slab->base;

	if (slab->live != 0 || slab->held_blocks != 0)
		return;
	if (class->empty_slabs == 0) {
		class->empty_slabs = 1;
		return;
	}
	RemoveEntryList(&slab->partial);
	nt_pool_run_publish(pool, base, POOL_SLAB_PAGES, NULL);
	free(slab->info);
	slab->info = NULL;
	RemoveEntryList(&slab->all);
	nt_pool_run_retire(pool, slab);
	vmb_arena_free(pool->arena, base);
}

/* The last pin has gone, or so it was a moment ago. `slab` may describe something else by now. */
static void
slab_unpinned(void *context, void *run)
{
	struct pool *const pool = nt_pool_get();
	struct pool_run *const slab = context;
	const uint32_t class_index = __atomic_load_n(&slab->class_index, __ATOMIC_RELAXED);
	struct pool_class *const class = &pool->classes[class_index];

	/*
	 * The arena does not reuse the run before this returns, so a description that names it
	 * still is the slab's, and the class is the right one.
	 */
	pthread_mutex_lock(&class->lock);
	if (__atomic_load_n(&slab->base, __ATOMIC_RELAXED) == run && slab->held_blocks != 0 &&
	    !vmb_arena_is_pinned(pool->arena, run)) {
		for (uint32_t word = 0; word < POOL_BITMAP_WORDS; word++) {
			if (slab->held[word] == 0)
				continue;
			slab_mark_free(slab, word, slab->held[word]);
			slab->held[word] = 0;
		}
		slab->held_blocks = 0;
		slab_list_locked(class, slab);
		slab_became_empty_locked(pool, class, slab);
	}
	pthread_mutex_unlock(&class->lock);
}

static struct pool_run *
slab_new_locked(struct pool *pool, struct pool_class *class, uint32_t class_index)
{
	struct pool_run *slab = nt_pool_run_new(pool, class_index);
	uint8_t *base;

	if (slab == NULL)
		return NULL;
	slab->blocks = POOL_SLAB_BYTES / class->block_bytes;
	slab->info = calloc(slab->blocks, sizeof(*slab->info));
	if (slab->info == NULL)
		goto retire;
	base = vmb_arena_alloc_hooked(pool->arena, POOL_SLAB_PAGES, slab_unpinned, slab);
	if (base == NULL)
		goto free_info;
	__atomic_store_n(&slab->base, base, __ATOMIC_RELAXED);

	for (uint32_t block = 0; block < slab->blocks; block++)
		slab_mark_free(slab, block / 64, UINT64_C(1) << block % 64);
	InsertTailList(&class->all, &slab->all);
	slab_list_locked(class, slab);
	class->empty_slabs++;
	nt_pool_run_publish(pool, base, POOL_SLAB_PAGES, slab);
	return slab;

free_info:
	free(slab->info);
	slab->info = NULL;
retire:
	nt_pool_run_retire(pool, slab);
	return NULL;
}

void *
nt_slab_alloc(struct pool *pool, uint32_t class_index, size_t bytes, uint32_t tag,
	      uint16_t stack)
{
	struct pool_class *const class = &pool->classes[class_index];
	uint32_t word, block;
	struct pool_run *slab;
	void *p = NULL;

	pthread_mutex_lock(&class->lock);
	if (IsListEmpty(&class->partial) && slab_new_locked(pool, class, class_index) == NULL)
		goto unlock;
	slab = CONTAINING_RECORD(class->partial.Flink, struct pool_run, partial);
	if (slab->live == 0 && slab->held_blocks == 0)
		class->empty_slabs--;

	word = (uint32_t)__builtin_ctz(slab->free_words);
	block = word * 64 + (uint32_t)__builtin_ctzll(slab->free[word]);
	slab->free[word] &= slab->free[word] - 1;
	if (slab->free[word] == 0)
		slab->free_words &= slab->free_words - 1;
	slab->free_blocks--;
	if (slab->free_blocks == 0) {
		RemoveEntryList(&slab->partial);
		InitializeListHead(&slab->partial);
	}
	slab->live++;
	slab->info[block] = (struct pool_block_info){
		.tag = tag,
		.bytes = (uint16_t)bytes,
		.stack = stack,
		.live = true,
	};
	p = slab->base + (size_t)block * class->block_bytes;
unlock:
	pthread_mutex_unlock(&class->lock);
	return p;
}

int
nt_slab_index_locked(const struct pool *pool, const struct pool_run *run, const void *p)
{
	const size_t offset = (size_t)((const uint8_t *)p - run->base);
	const uint32_t bytes = slab_block_bytes(pool, run);

	if (offset % bytes != 0 || offset / bytes >= run->blocks)
		return -1;
	return (int)(offset / bytes);
}

void
nt_slab_free_locked(struct pool *pool, struct pool_run *run, uint32_t index)
{
	struct pool_class *const class = &pool->classes[run->class_index];
	const uint64_t bit = UINT64_C(1) << index % 64;

	run->info[index].live = false;
	run->live--;
	if (vmb_arena_is_pinned(pool->arena, run->base)) {
		run->held[index / 64] |= bit;
		run->held_blocks++;
		return;
	}
	slab_mark_free(run, index / 64, bit);
	slab_list_locked(class, run);
	slab_became_empty_locked(pool, class, run);
}
