/* SPDX-License-Identifier: MIT */
/* The page-number allocator below the arena (src/mem/page_spans.c), without any pages. */
#include "t_mem.h"

#include "mem/page_spans.h"

struct fixture {
	struct page_spans spans;
	void *storage;
};

static void
fixture_make(struct fixture *f, uint32_t total)
{
	f->storage = mmap(NULL, page_spans_storage_bytes(total), PROT_READ | PROT_WRITE,
	                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_true(f->storage != MAP_FAILED);
	page_spans_init(&f->spans, total, f->storage);
}

static void
fixture_free(struct fixture *f)
{
	munmap(f->storage, page_spans_storage_bytes(f->spans.total));
}

static void
page_zero_is_never_taken(void **state)
{
	struct fixture f;

	(void)state;
	fixture_make(&f, 1);
	assert_int_equal(page_spans_take(&f.spans, 1), 0);
	fixture_free(&f);
	fixture_make(&f, 3);
	assert_int_equal(page_spans_take(&f.spans, 3), 0);
	assert_int_equal(page_spans_take(&f.spans, 2), 1);
	assert_int_equal(page_spans_take(&f.spans, 1), 0);
	page_spans_give(&f.spans, 1);
	assert_int_equal(page_spans_take(&f.spans, 1), 1);
	fixture_free(&f);
}

static void
no_pages_are_never_found(void **state)
{
	struct fixture f;

	(void)state;
	fixture_make(&f, 8);
	assert_int_equal(page_spans_take(&f.spans, 0), 0);
	assert_int_equal(page_spans_take(&f.spans, UINT32_MAX), 0);
	fixture_free(&f);
}

/* For every length the whole arena must be taken, which needs the search inside a class too. */
static void
span_of_exactly_the_free_length_is_found(void **state)
{
	static const uint32_t lengths[] = {
		1,  2,  15,  16,   17,   31,   32,    33,    47,
		63, 65, 127, 1000, 1023, 1025, 65535, 65537, 1048575,
	};

	(void)state;
	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		struct fixture f;

		fixture_make(&f, lengths[i] + 1);
		assert_int_equal(page_spans_take(&f.spans, lengths[i] + 1), 0);
		assert_int_equal(page_spans_take(&f.spans, lengths[i]), 1);
		assert_int_equal(f.spans.used, lengths[i]);
		page_spans_give(&f.spans, 1);
		assert_int_equal(f.spans.used, 0);
		fixture_free(&f);
	}
}

static void
neighbours_merge_in_any_order(void **state)
{
	static const uint8_t orders[][3] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 },
		                             { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 } };

	(void)state;
	for (size_t i = 0; i < 6; i++) {
		struct fixture f;
		uint32_t at[3];

		fixture_make(&f, 100);
		for (uint32_t k = 0; k < 3; k++)
			at[k] = page_spans_take(&f.spans, 33);
		assert_int_equal(page_spans_take(&f.spans, 1), 0);
		for (uint32_t k = 0; k < 3; k++)
			page_spans_give(&f.spans, at[orders[i][k]]);
		assert_int_equal(page_spans_take(&f.spans, 99), 1);
		fixture_free(&f);
	}
}

static void
pages_given_last_are_taken_first(void **state)
{
	struct fixture f;
	uint32_t a, b, c;

	(void)state;
	fixture_make(&f, 1000);
	a = page_spans_take(&f.spans, 4);
	b = page_spans_take(&f.spans, 4);
	c = page_spans_take(&f.spans, 4);
	page_spans_give(&f.spans, b);
	assert_int_equal(page_spans_take(&f.spans, 4), b);
	assert_true(a != b && b != c);
	fixture_free(&f);
}

static void
every_page_of_a_taken_span_knows_its_head(void **state)
{
	struct fixture f;
	uint32_t first;

	(void)state;
	fixture_make(&f, 1000);
	for (uint32_t pages = 1; pages < 20; pages++) {
		first = page_spans_take(&f.spans, pages);
		page_spans_mark(&f.spans, first, pages);
		for (uint32_t i = 0; i < pages; i++)
			assert_int_equal(page_spans_head(&f.spans, first + i), first);
	}
	fixture_free(&f);
}

static void
largest_arena_is_one_span(void **state)
{
	struct fixture f;

	(void)state;
	/* About 90 GB of address space for the books, of which a few pages are touched. */
	f.storage = mmap(NULL, page_spans_storage_bytes(UINT32_MAX - 1), PROT_READ | PROT_WRITE,
	                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (f.storage == MAP_FAILED)
		skip();
	page_spans_init(&f.spans, UINT32_MAX - 1, f.storage);
	assert_int_equal(page_spans_take(&f.spans, UINT32_MAX), 0);
	assert_int_equal(page_spans_take(&f.spans, UINT32_MAX - 1), 0);
	assert_int_equal(page_spans_take(&f.spans, UINT32_MAX - 2), 1);
	page_spans_give(&f.spans, 1);
	assert_int_equal(page_spans_take(&f.spans, 5), 1);
	fixture_free(&f);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(page_zero_is_never_taken),
		cmocka_unit_test(no_pages_are_never_found),
		cmocka_unit_test(span_of_exactly_the_free_length_is_found),
		cmocka_unit_test(neighbours_merge_in_any_order),
		cmocka_unit_test(pages_given_last_are_taken_first),
		cmocka_unit_test(every_page_of_a_taken_span_knows_its_head),
		cmocka_unit_test(largest_arena_is_one_span),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
