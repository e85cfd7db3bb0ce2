/* SPDX-License-Identifier: MIT */
/*
 * Which pages of an arena are free: a page-number allocator that never looks at the pages.
 *
 * Spans of free pages hang on lists by size class, with 16 classes per power of two and exact
 * ones below 32 pages; a bitmap of the classes in use makes taking and giving O(1). Neighbours
 * are merged as they are given. Page 0 is never handed out, so 0 means "none" everywhere.
 *
 * Not thread-safe, except for page_spans_head() and page_spans_mark() on pages that the caller
 * has taken.
 */
#ifndef PAGE_SPANS_H
#define PAGE_SPANS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGE_SPANS_CLASSES 464u         /* of spans up to 2^32 - 1 pages */
#define PAGE_SPANS_CLASS_WORDS ((PAGE_SPANS_CLASSES + 63) / 64)

/* Of a span's first page. */
struct page_span {
	uint32_t pages;
	uint32_t next, previous;        /* while it is free */
	bool is_free;
};

struct page_spans {
	uint32_t total;
	uint32_t used;                  /* pages taken and not given back */
	struct page_span *spans;        /* total + 1: the last one is never free and ends merging */
	uint32_t *heads;                /* per page: first of its span; free: at both ends */
	uint32_t lists[PAGE_SPANS_CLASSES];
	uint64_t lists_in_use[PAGE_SPANS_CLASS_WORDS];
};

/* Private memory that page_spans_init() wants for an arena of that many pages. */
size_t page_spans_storage_bytes(uint32_t total);

/* `storage` is zeroed and aligned like malloc()'s. All pages but page 0 become free; total > 0. */
void page_spans_init(struct page_spans *spans, uint32_t total, void *storage);

/* First of `pages` consecutive pages, or 0. */
uint32_t page_spans_take(struct page_spans *spans, uint32_t pages);

/* Give back a whole span by its first page. */
void page_spans_give(struct page_spans *spans, uint32_t first);

/* Make page_spans_head() right for the inner pages of a span that the caller has just taken. */
static inline void
page_spans_mark(struct page_spans *spans, uint32_t first, uint32_t pages)
{
	for (uint32_t i = 1; i + 1 < pages; i++)
		spans->heads[first + i] = first;
}

static inline uint32_t
page_spans_head(const struct page_spans *spans, uint32_t page)
{
	return spans->heads[page];
}

#endif
