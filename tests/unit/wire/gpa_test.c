/* SPDX-License-Identifier: MIT */
/*
 * GPA ranges and transfer-page ranges: literal bytes, each rule at its edge, random lists.
 */
#include "vmb/packet.h"
#include "covers.h"
#include "t_wire.h"

/* First range of a list of `range_count` in an exact-size copy. */
static enum vmb_status
first_range(const void *ranges, uint32_t bytes, uint32_t range_count, struct vmb_gpa_range *range,
            const char **why)
{
	uint8_t *copy = t_exact_copy(ranges, bytes);
	struct vmb_gpa_cursor cursor;
	enum vmb_status st;

	*why = NULL;
	vmb_gpa_begin(&cursor, copy, bytes, range_count);
	st = vmb_gpa_next(&cursor, range, why);
	free(copy);
	assert_int_equal(*why != NULL, st == VMB_E_MALFORMED);
	return st;
}

static void
gpa_pages_counts_pages_touched(void **state)
{
	static const struct {
		uint32_t byte_offset;
		uint32_t byte_count;
		uint64_t pages;
	} cases[] = {
		{ 0, 0, 0 },       { 0, 1, 1 },       { 0, 4096, 1 },          { 0, 4097, 2 },
		{ 4095, 1, 1 },    { 4095, 2, 2 },    { 0x200, 0x1800, 2 },    { 1, 4096, 2 },
		{ 0, UINT32_MAX, 0x100000 },          { UINT32_MAX, UINT32_MAX, 0x200000 },
	};

	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++)
		assert_true(vmb_gpa_pages(cases[i].byte_offset, cases[i].byte_count) ==
		            cases[i].pages);
}

static void
gpa_header_is_written_as_specified(void **state)
{
	static const uint8_t expected[8] = { 0x04, 0x03, 0x02, 0x01, 0xFF, 0x0F, 0x00, 0x00 };
	uint8_t out[9];

	(void)state;
	vmb_gpa_put_header(out + 1, 0x01020304, 0xFFF);
	assert_memory_equal(out + 1, expected, sizeof(expected));
}

static void
gpa_ranges_are_read_back_to_back(void **state)
{
	static const uint8_t bytes[] = {
		0x00, 0x18, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, /* 0x1800 bytes from 0x200 */
		0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, /* two pages */
		0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80,
		0x01, 0x00, 0x00, 0x00, 0xFF, 0x0F, 0x00, 0x00, /* one byte, the last of its page */
		0x2A, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
		0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE, 0xEE, /* behind the last range */
	};
	uint8_t *copy = t_exact_copy(bytes, sizeof(bytes));
	struct vmb_gpa_cursor cursor;
	struct vmb_gpa_range range;
	const char *why;

	(void)state;
	vmb_gpa_begin(&cursor, copy, sizeof(bytes), 2);
	assert_int_equal(vmb_gpa_next(&cursor, &range, &why), VMB_OK);
	assert_int_equal(range.byte_count, 0x1800);
	assert_int_equal(range.byte_offset, 0x200);
	assert_int_equal(range.page_count, 2);
	assert_ptr_equal(range.pfns, copy + 8);
	assert_true(vmb_gpa_pfn(&range, 0) == 0x1122334455667788);
	assert_true(vmb_gpa_pfn(&range, 1) == 0x8000000000000001);
	assert_int_equal(vmb_gpa_next(&cursor, &range, &why), VMB_OK);
	assert_int_equal(range.byte_count, 1);
	assert_int_equal(range.byte_offset, 4095);
	assert_int_equal(range.page_count, 1);
	assert_true(vmb_gpa_pfn(&range, 0) == 42);
	assert_int_equal(vmb_gpa_next(&cursor, &range, &why), VMB_EMPTY);
	assert_int_equal(vmb_gpa_next(&cursor, &range, &why), VMB_EMPTY);
	free(copy);
}

static void
gpa_list_of_no_ranges_is_empty(void **state)
{
	struct vmb_gpa_cursor cursor;
	struct vmb_gpa_range range;
	const char *why;

	(void)state;
	vmb_gpa_begin(&cursor, NULL, 0, 0);
	assert_int_equal(vmb_gpa_next(&cursor, &range, &why), VMB_EMPTY);
}

static void
gpa_range_rules_hold_at_their_edges(void **state)
{
	static const struct {
		uint32_t byte_count;
		uint32_t byte_offset;
		const char *refused;    /* NULL = good with the 16 pages below */
	} cases[] = {
		{ 0, 0, "no bytes" },
		{ 0, 4095, "no bytes" },
		{ 1, 0, NULL },
		{ 1, 4095, NULL },
		{ 1, 4096, "first page" },
		{ 1, UINT32_MAX, "first page" },
		{ 16 * 4096, 0, NULL },
		{ 16 * 4096 + 1, 0, "fewer page numbers" },
		{ 16 * 4096, 1, "fewer page numbers" },
		{ 15 * 4096 + 1, 4095, NULL },
		{ 0xFFFFF000, 0, "fewer page numbers" },
		{ 0xFFFFF001, 0, "too many pages" },
		{ 0xFFFFF000, 1, "too many pages" },
		{ UINT32_MAX, 0, "too many pages" },
		{ UINT32_MAX, 1, "overflows" },
		{ UINT32_MAX - 4095, 4095, "too many pages" },
		{ UINT32_MAX - 4094, 4095, "overflows" },
	};

	CONF_COVERS("LIM-3");
	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		uint8_t bytes[8 + 16 * 8] = { 0 };
		struct vmb_gpa_range range;
		const char *why;
		enum vmb_status st;

		vmb_gpa_put_header(bytes, cases[i].byte_count, cases[i].byte_offset);
		st = first_range(bytes, sizeof(bytes), 1, &range, &why);
		if (cases[i].refused == NULL) {
			assert_int_equal(st, VMB_OK);
			continue;
		}
		assert_int_equal(st, VMB_E_MALFORMED);
		assert_non_null(strstr(why, cases[i].refused));
	}
}

static void
gpa_range_of_most_pages_is_accepted(void **state)
{
	size_t bytes = 8 + 8 * (size_t)VMB_GPA_RANGE_MAX_PAGES;
	uint8_t *ranges = calloc(1, bytes);
	struct vmb_gpa_cursor cursor;
	struct vmb_gpa_range range;
	const char *why;

	CONF_COVERS("LIM-3");
	(void)state;
	assert_non_null(ranges);
	vmb_gpa_put_header(ranges, VMB_GPA_RANGE_MAX_PAGES * 4096u, 0);
	vmb_gpa_begin(&cursor, ranges, (uint32_t)bytes, 1);
	assert_int_equal(vmb_gpa_next(&cursor, &range, &why), VMB_OK);
	assert_int_equal(range.page_count, VMB_GPA_RANGE_MAX_PAGES);
	free(ranges);
}

static void
gpa_list_shorter_than_its_ranges_is_malformed(void **state)
{
	static const uint8_t bytes[16] = { 0x01 };
	struct vmb_gpa_range range;
	const char *why;

	(void)state;
	for (uint32_t length = 0; length < sizeof(bytes); length++) {
		assert_int_equal(first_range(bytes, length, 1, &range, &why), VMB_E_MALFORMED);
		assert_non_null(strstr(why, length < 8 ? "ends before" : "fewer page numbers"));
	}
	assert_int_equal(first_range(bytes, sizeof(bytes), 1, &range, &why), VMB_OK);
}

static void
gpa_cursor_stays_at_the_broken_range(void **state)
{
	uint8_t bytes[32] = { [0] = 1, [16] = 0 };
	struct vmb_gpa_cursor cursor;
	struct vmb_gpa_range range;
	const char *why;

	(void)state;
	vmb_gpa_begin(&cursor, bytes, sizeof(bytes), 2);
	assert_int_equal(vmb_gpa_next(&cursor, &range, &why), VMB_OK);
	assert_int_equal(vmb_gpa_next(&cursor, &range, &why), VMB_E_MALFORMED);
	assert_int_equal(vmb_gpa_next(&cursor, &range, &why), VMB_E_MALFORMED);
}

static void
gpa_random_lists_never_lead_outside_the_list(void **state)
{
	struct t_random r = t_random_start(__func__);
	uint32_t accepted = 0;

	(void)state;
	for (uint32_t round = 0; round < 20000; round++) {
		uint32_t bytes = t_random_below(&r, 256);
		uint8_t *ranges = malloc(bytes != 0 ? bytes : 1);
		struct vmb_gpa_cursor cursor;
		struct vmb_gpa_range range;
		const char *why = NULL;
		enum vmb_status st;

		assert_non_null(ranges);
		t_random_fill(&r, ranges, bytes);
		/* Mostly small ranges, so that some lists hold together. */
		for (uint32_t at = 0; at + 8 <= bytes && t_random_below(&r, 8) != 0;) {
			uint32_t count = t_random_below(&r, 3 * 4096);
			uint32_t offset = t_random_below(&r, 4200);

			vmb_gpa_put_header(ranges + at, count, offset);
			at += 8 + 8 * (uint32_t)vmb_gpa_pages(offset, count);
		}
		vmb_gpa_begin(&cursor, ranges, bytes, t_random_below(&r, 12));
		while ((st = vmb_gpa_next(&cursor, &range, &why)) == VMB_OK) {
			assert_true(range.pfns + 8u * (size_t)range.page_count <= ranges + bytes);
			/* Reads the last page number: in the list or the sanitizer says so. */
			assert_int_equal(vmb_gpa_pfn(&range, range.page_count - 1) & 0xFF,
			                 range.pfns[8u * (range.page_count - 1)]);
			accepted++;
		}
		assert_true(st == VMB_EMPTY || (st == VMB_E_MALFORMED && why != NULL));
		free(ranges);
	}
	assert_true(accepted > 1000);
}

/* ---- transfer pages ------------------------------------------------------------------------- */

static void
transfer_ranges_are_written_and_read_as_specified(void **state)
{
	static const uint8_t expected[16] = { 0x04, 0x03, 0x02, 0x01, 0x08, 0x07, 0x06, 0x05,
		                              0x01, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00 };
	struct vmb_transfer_range range;
	uint8_t out[16];
	const char *why;

	(void)state;
	vmb_transfer_put_range(out, 0x01020304, 0x05060708);
	vmb_transfer_put_range(out + 8, 1, 2);
	assert_memory_equal(out, expected, sizeof(expected));
	assert_int_equal(vmb_transfer_range_at(out, 0, 0x10000000, &range, &why), VMB_OK);
	assert_int_equal(range.byte_count, 0x01020304);
	assert_int_equal(range.byte_offset, 0x05060708);
	assert_int_equal(vmb_transfer_range_at(out, 1, 3, &range, &why), VMB_OK);
	assert_int_equal(range.byte_count, 1);
	assert_int_equal(range.byte_offset, 2);
}

static void
transfer_range_must_lie_in_the_shared_buffer(void **state)
{
	static const struct {
		uint32_t byte_count;
		uint32_t byte_offset;
		uint64_t buffer_bytes;
		bool good;
	} cases[] = {
		{ 0, 0, 0, true },
		{ 0, 4096, 4096, true },
		{ 0, 4097, 4096, false },
		{ 4096, 0, 4096, true },
		{ 4096, 1, 4096, false },
		{ 4097, 0, 4096, false },
		{ 1, UINT32_MAX, 4096, false },
		{ UINT32_MAX, UINT32_MAX, UINT32_MAX, false },
		{ UINT32_MAX, UINT32_MAX, 2 * (uint64_t)UINT32_MAX, true },
	};

	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		struct vmb_transfer_range range;
		uint8_t bytes[8];
		uint8_t *copy;
		const char *why = NULL;

		vmb_transfer_put_range(bytes, cases[i].byte_count, cases[i].byte_offset);
		copy = t_exact_copy(bytes, sizeof(bytes));
		assert_int_equal(
		    vmb_transfer_range_at(copy, 0, cases[i].buffer_bytes, &range, &why),
		    cases[i].good ? VMB_OK : VMB_E_MALFORMED);
		free(copy);
		assert_int_equal(why == NULL, cases[i].good);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(gpa_pages_counts_pages_touched),
		cmocka_unit_test(gpa_header_is_written_as_specified),
		cmocka_unit_test(gpa_ranges_are_read_back_to_back),
		cmocka_unit_test(gpa_list_of_no_ranges_is_empty),
		cmocka_unit_test(gpa_range_rules_hold_at_their_edges),
		cmocka_unit_test(gpa_range_of_most_pages_is_accepted),
		cmocka_unit_test(gpa_list_shorter_than_its_ranges_is_malformed),
		cmocka_unit_test(gpa_cursor_stays_at_the_broken_range),
		cmocka_unit_test(gpa_random_lists_never_lead_outside_the_list),
		cmocka_unit_test(transfer_ranges_are_written_and_read_as_specified),
		cmocka_unit_test(transfer_range_must_lie_in_the_shared_buffer),
	};

	return cmocka_run_group_tests_name("wire/gpa", tests, NULL, NULL);
}
