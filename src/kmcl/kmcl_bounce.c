/* SPDX-License-Identifier: MIT */
/*
 * Bounce pages: guest RAM that stands in for external data that lies outside it. The pool is
 * reserved when the channel is enabled and holds the largest external data of one packet, so that a
 * send never fails for want of them: a packet that finds none waits in the FIFO until an answer
 * returns some. Guarded by tx.lock.
 */
#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_external.h"
#include "nt/nt_mdl.h"

struct kmcl_bounce_pool {
	uint8_t *base;
	uint32_t pages;
	uint32_t free_pages;
	uint32_t free_first;    /* index + 1 */
	uint32_t next[];        /* index + 1 of the next page in a list */
};

/* One page of one range, for the walkers below. */
struct page_piece {
	uint64_t pfn;
	uint32_t in_page;
	uint32_t bytes;         /* described */
	uint32_t valid;         /* of these, the caller's */
	uint8_t *pfn_at;        /* in the translated image, or NULL */
};

struct kmcl_bounce_pool *
kmcl_bounce_create(uint32_t pages)
{
	struct kmcl_bounce_pool *pool = malloc(sizeof(*pool) + pages * sizeof(pool->next[0]));

	if (pool == NULL)
		return NULL;
	pool->base = vmb_arena_alloc(vmb_arena_process(), pages);
	if (pool->base == NULL) {
		free(pool);
		return NULL;
	}
	pool->pages = pool->free_pages = pages;
	pool->free_first = 1;
	for (uint32_t i = 0; i < pages; i++)
		pool->next[i] = i + 1 < pages ? i + 2 : 0;
	return pool;
}

void
kmcl_bounce_destroy(struct kmcl_bounce_pool *pool)
{
	if (pool == NULL)
		return;
	vmb_arena_free(vmb_arena_process(), pool->base);
	free(pool);
}

static uint8_t *
page_host(const struct kmcl_bounce_pool *pool, uint32_t link)
{
	return pool->base + (size_t)(link - 1) * PAGE_SIZE;
}

/* Visits the foreign pages of the ranges in order. */
static void
for_each_foreign(const uint8_t *ranges, const struct kmcl_external *external, uint8_t *translated,
                 void (*visit)(void *ctx, const struct page_piece *piece), void *ctx)
{
	struct vmb_gpa_cursor cursor;
	struct vmb_gpa_range range;
	const char *why;
	uint32_t valid = external->valid;

	vmb_gpa_begin(&cursor, ranges, external->ranges_bytes, external->range_count);
	while (vmb_gpa_next(&cursor, &range, &why) == VMB_OK) {
		uint32_t left = range.byte_count;
		uint32_t in_page = range.byte_offset;

		for (uint32_t i = 0; i < range.page_count; i++) {
			struct page_piece piece = {
				.pfn = vmb_gpa_pfn(&range, i),
				.in_page = in_page,
				.bytes = min(left, PAGE_SIZE - in_page),
			};

			piece.valid = min(piece.bytes, valid);
			if (translated != NULL)
				piece.pfn_at = translated + (range.pfns - ranges) + 8 * (size_t)i;
			if (nt_pfn_is_foreign(piece.pfn))
				visit(ctx, &piece);
			left -= piece.bytes;
			valid -= piece.valid;
			in_page = 0;
		}
	}
}

static void
count_piece(void *ctx, const struct page_piece *piece)
{
	(void)piece;
	++*(uint32_t *)ctx;
}

struct bounce_walk {
	struct kmcl_bounce_pool *pool;
	uint32_t link;
};

static void
copy_in_piece(void *ctx, const struct page_piece *piece)
{
	struct bounce_walk *walk = ctx;
	uint8_t *page = page_host(walk->pool, walk->link);
	const uint8_t *from = (const uint8_t *)nt_pfn_foreign_va(piece->pfn) + piece->in_page;
	uint64_t pfn = vmb_arena_gpa(vmb_arena_process(), page) / PAGE_SIZE;

	/* What FORCE describes beyond the caller's data is zero, not a neighbour's bytes. */
	memcpy(page + piece->in_page, from, piece->valid);
	memset(page + piece->in_page + piece->valid, 0, piece->bytes - piece->valid);
	memcpy(piece->pfn_at, &pfn, 8);
	walk->link = walk->pool->next[walk->link - 1];
}

static void
copy_back_piece(void *ctx, const struct page_piece *piece)
{
	struct bounce_walk *walk = ctx;
	uint8_t *to = (uint8_t *)nt_pfn_foreign_va(piece->pfn) + piece->in_page;
	const uint8_t *from = page_host(walk->pool, walk->link) + piece->in_page;

	/*
	 * What the peer did not touch is not written: the driver may be reading it for another
	 * request. A peer that writes between the two reads changes its own answer, nothing else.
	 */
	if (memcmp(to, from, piece->valid) != 0)
		memcpy(to, from, piece->valid);
	walk->link = walk->pool->next[walk->link - 1];
}

bool
kmcl_bounce_take(struct kmcl_bounce_pool *pool, const uint8_t *ranges,
                 const struct kmcl_external *external, uint8_t *translated,
                 struct kmcl_bounce_lease *lease)
{
	struct bounce_walk walk = { pool, pool->free_first };
	uint32_t need = 0, last;

	for_each_foreign(ranges, external, NULL, count_piece, &need);
	if (need > pool->free_pages)
		return false;
	*lease = (struct kmcl_bounce_lease){ pool->free_first, need };
	last = pool->free_first;
	for (uint32_t i = 1; i < need; i++)
		last = pool->next[last - 1];
	memcpy(translated, ranges, external->ranges_bytes);
	for_each_foreign(ranges, external, translated, copy_in_piece, &walk);
	pool->free_first = pool->next[last - 1];
	pool->next[last - 1] = 0;
	pool->free_pages -= need;
	return true;
}

void
kmcl_bounce_copy_back(struct kmcl_bounce_pool *pool, const uint8_t *ranges,
                      const struct kmcl_external *external, const struct kmcl_bounce_lease *lease)
{
	struct bounce_walk walk = { pool, lease->first };

	for_each_foreign(ranges, external, NULL, copy_back_piece, &walk);
}

void
kmcl_bounce_give(struct kmcl_bounce_pool *pool, struct kmcl_bounce_lease *lease)
{
	uint32_t last = lease->first;

	if (lease->first == 0)
		return;
	while (pool->next[last - 1] != 0)
		last = pool->next[last - 1];
	pool->next[last - 1] = pool->free_first;
	pool->free_first = lease->first;
	pool->free_pages += lease->pages;
	*lease = (struct kmcl_bounce_lease){ 0 };
}
