/* SPDX-License-Identifier: MIT */
/*
 * Size-class lists of free page spans (see page_spans.h). Taking looks first in the classes where
 * every span is long enough; only when those are empty does it search the one class where some
 * may be, so "none" means that there is none.
 */
#include "mem/page_spans.h"

#define CLASSES_PER_POWER 16u
#define CLASS_BITS 4u

static uint32_t
power_of(uint32_t pages)
{
	return 31u - (uint32_t)__builtin_clz(pages);
}

/* Class that holds spans of that length. */
static uint32_t
class_of(uint32_t pages)
{
	uint32_t power;

	if (pages < CLASSES_PER_POWER)
		return pages;
	power = power_of(pages);
	return (power - CLASS_BITS + 1) * CLASSES_PER_POWER +
	       ((pages >> (power - CLASS_BITS)) & (CLASSES_PER_POWER - 1));
}

/* Lowest class in which every span has at least that many pages. May be one past the end. */
static uint32_t
class_that_fits(uint32_t pages)
{
	const uint32_t class = class_of(pages);
	uint32_t power;

	if (pages < CLASSES_PER_POWER)
		return class;
	power = power_of(pages);
	if ((pages & ((1u << (power - CLASS_BITS)) - 1)) == 0)
		return class;
	return class + 1;
}

static void
spans_link(struct page_spans *s, uint32_t first, uint32_t pages)
{
	const uint32_t class = class_of(pages);
	const uint32_t next = s->lists[class];

	s->spans[first] = (struct page_span){ .pages = pages, .next = next, .is_free = true };
	if (next != 0)
		s->spans[next].previous = first;
	s->lists[class] = first;
	s->lists_in_use[class / 64] |= UINT64_C(1) << (class % 64);
	s->heads[first] = first;
	s->heads[first + pages - 1] = first;
}

static void
spans_unlink(struct page_spans *s, uint32_t first)
{
	struct page_span *span = &s->spans[first];
	const uint32_t class = class_of(span->pages);

	if (span->next != 0)
		s->spans[span->next].previous = span->previous;
	if (span->previous != 0)
		s->spans[span->previous].next = span->next;
	else
		s->lists[class] = span->next;
	if (s->lists[class] == 0)
		s->lists_in_use[class / 64] &= ~(UINT64_C(1) << (class % 64));
	span->is_free = false;
}

/* First span of the lowest class in use from `class` on, or 0. */
static uint32_t
spans_first_from(const struct page_spans *s, uint32_t class)
{
	uint64_t bits;

	if (class >= PAGE_SPANS_CLASSES)
		return 0;
	bits = s->lists_in_use[class / 64] & (UINT64_MAX << (class % 64));
	for (uint32_t word = class / 64;; bits = s->lists_in_use[word]) {
		if (bits != 0)
			return s->lists[word * 64 + (uint32_t)__builtin_ctzll(bits)];
		if (++word == PAGE_SPANS_CLASS_WORDS)
			return 0;
	}
}

static uint32_t
spans_find(const struct page_spans *s, uint32_t pages)
{
	uint32_t first = spans_first_from(s, class_that_fits(pages));

	if (first != 0)
		return first;
	for (first = s->lists[class_of(pages)]; first != 0; first = s->spans[first].next) {
		if (s->spans[first].pages >= pages)
			return first;
	}
	return 0;
}

size_t
page_spans_storage_bytes(uint32_t total)
{
	return ((size_t)total + 1) * sizeof(struct page_span) + (size_t)total * sizeof(uint32_t);
}

void
page_spans_init(struct page_spans *spans, uint32_t total, void *storage)
{
	*spans = (struct page_spans){ .total = total, .spans = storage };
	spans->heads = (uint32_t *)(spans->spans + ((size_t)total + 1));
	if (total > 1)
		spans_link(spans, 1, total - 1);
}

uint32_t
page_spans_take(struct page_spans *spans, uint32_t pages)
{
	uint32_t first, surplus;

	if (pages == 0)
		return 0;
	first = spans_find(spans, pages);
	if (first == 0)
		return 0;
	spans_unlink(spans, first);
	surplus = spans->spans[first].pages - pages;
	if (surplus > 0) {
		spans_link(spans, first + pages, surplus);
		spans->spans[first].pages = pages;
	}
	spans->heads[first] = first;
	spans->heads[first + pages - 1] = first;
	spans->used += pages;
	return first;
}

void
page_spans_give(struct page_spans *spans, uint32_t first)
{
	uint32_t pages = spans->spans[first].pages;
	const uint32_t after = first + pages;
	const uint32_t before = spans->heads[first - 1];

	spans->used -= pages;
	if (spans->spans[after].is_free) {
		spans_unlink(spans, after);
		pages += spans->spans[after].pages;
	}
	if (spans->spans[before].is_free) {
		spans_unlink(spans, before);
		pages += spans->spans[before].pages;
		first = before;
	}
	spans_link(spans, first, pages);
}
