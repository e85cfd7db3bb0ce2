/* SPDX-License-Identifier: MIT */
/* Regions and lookups of an address space (src/mem/mem.c). */
#include "t_mem.h"

#include <fcntl.h>

#include "mem/mem_internal.h"

#define PFN_END (UINT64_C(1) << 52)      /* pages in 2^64 bytes */

static uint8_t plain[64 * T_PAGE] __attribute__((aligned(4096)));

static struct vmb_region
plain_region(uint64_t gpa, uint32_t pages)
{
	return (struct vmb_region){
		.gpa = gpa, .bytes = (uint64_t)pages * T_PAGE, .host = plain, .fd = -1
	};
}

static bool
has(const struct vmb_mem *mem, uint64_t pfn)
{
	struct t_range r;

	T_RANGE(&r, 0, 1, pfn);
	return vmb_mem_has_pages(mem, r.range.pfns, 1, false);
}

static void
region_with_bad_fields_is_invalid(void **state)
{
	struct vmb_mem *mem = t_mem_new();
	const struct vmb_region good = plain_region(0x10000, 2);
	struct {
		const char *what;
		struct vmb_region region;
	} cases[] = {
		{ "gpa alignment", good }, { "length alignment", good }, { "host alignment", good },
		{ "empty", good },         { "no host", good },          { "gpa wraps", good },
		{ "host wraps", good },    { "file alignment", good },   { "file offset", good },
		{ "file end", good },
	};

	(void)state;
	cases[0].region.gpa += 8;
	cases[1].region.bytes -= 1;
	cases[2].region.host = plain + 16;
	cases[3].region.bytes = 0;
	cases[4].region.host = NULL;
	cases[5].region.gpa = UINT64_MAX - T_PAGE + 1;
	cases[6].region.bytes = UINT64_MAX / T_PAGE * T_PAGE - 0x10000;
	cases[7].region.fd = 0;
	cases[7].region.fd_offset = 1;
	cases[8].region.fd = 0;
	cases[8].region.fd_offset = UINT64_C(1) << 63;
	cases[9].region.fd = 0;
	cases[9].region.fd_offset = (UINT64_C(1) << 63) - T_PAGE;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		if (vmb_mem_add_region(mem, &cases[i].region) != VMB_E_INVALID)
			fail_msg("%s: not refused", cases[i].what);
	}
	assert_null(vmb_mem_host(mem, 0x10000, 1));
	vmb_mem_unref(mem);
}

static void
file_offset_without_file_is_ignored(void **state)
{
	struct vmb_mem *mem = t_mem_new();
	struct vmb_region r = plain_region(0, 1);

	(void)state;
	r.fd_offset = 7;
	assert_int_equal(vmb_mem_add_region(mem, &r), VMB_OK);
	vmb_mem_unref(mem);
}

static void
region_may_not_overlap_another(void **state)
{
	struct vmb_mem *mem = t_mem_new();
	const struct vmb_region middle = plain_region(8 * T_PAGE, 4);
	const struct vmb_region above = plain_region(20 * T_PAGE, 1);
	const struct {
		uint64_t first;
		uint32_t pages;
		enum vmb_status result;
	} cases[] = {
		{ 8, 4, VMB_E_EXISTS },  { 7, 2, VMB_E_EXISTS },  { 11, 2, VMB_E_EXISTS },
		{ 9, 1, VMB_E_EXISTS },  { 4, 16, VMB_E_EXISTS }, { 12, 9, VMB_E_EXISTS },
		{ 20, 1, VMB_E_EXISTS }, { 12, 8, VMB_OK },       { 7, 1, VMB_OK },
		{ 21, 2, VMB_OK },       { 0, 7, VMB_OK },        { 0, 1, VMB_E_EXISTS },
	};

	(void)state;
	assert_int_equal(vmb_mem_add_region(mem, &middle), VMB_OK);
	assert_int_equal(vmb_mem_add_region(mem, &above), VMB_OK);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const struct vmb_region r = plain_region(cases[i].first * T_PAGE, cases[i].pages);

		assert_int_equal(vmb_mem_add_region(mem, &r), cases[i].result);
	}
	vmb_mem_unref(mem);
}

static void
region_count_is_limited(void **state)
{
	struct vmb_mem *mem = t_mem_new();
	struct vmb_region r;

	(void)state;
	/* From the top down, so that each goes in front of the others. */
	for (uint32_t i = MEM_MAX_REGIONS; i > 0; i--) {
		r = plain_region((uint64_t)i * 2 * T_PAGE, 1);
		assert_int_equal(vmb_mem_add_region(mem, &r), VMB_OK);
	}
	r = plain_region(0, 1);
	assert_int_equal(vmb_mem_add_region(mem, &r), VMB_E_LIMIT);
	for (uint32_t i = 1; i <= MEM_MAX_REGIONS; i++) {
		assert_true(has(mem, i * 2));
		assert_false(has(mem, i * 2 + 1));
	}
	vmb_mem_unref(mem);
}

static void
host_address_needs_one_region_to_hold_it_all(void **state)
{
	struct vmb_mem *mem = t_mem_new();
	const struct vmb_region r = plain_region(0x10000, 2);
	struct vmb_region next = plain_region(0x12000, 2);

	(void)state;
	next.host = plain + 2 * T_PAGE;
	assert_null(vmb_mem_host(mem, 0x10000, 1));
	assert_int_equal(vmb_mem_add_region(mem, &r), VMB_OK);
	assert_int_equal(vmb_mem_add_region(mem, &next), VMB_OK);

	assert_ptr_equal(vmb_mem_host(mem, 0x10000, 0x2000), plain);
	assert_ptr_equal(vmb_mem_host(mem, 0x11FFF, 1), plain + 0x1FFF);
	assert_ptr_equal(vmb_mem_host(mem, 0x12000, 0x2000), plain + 0x2000);
	assert_null(vmb_mem_host(mem, 0xFFFF, 2));
	assert_null(vmb_mem_host(mem, 0x10000, 0x2001));
	assert_null(vmb_mem_host(mem, 0x11FFF, 2));
	assert_null(vmb_mem_host(mem, 0x14000, 1));
	assert_null(vmb_mem_host(mem, 0x10000, UINT64_MAX));
	assert_null(vmb_mem_host(mem, UINT64_MAX, UINT64_MAX));
	assert_null(vmb_mem_host(mem, 0, 1));
	vmb_mem_unref(mem);
}

static void
page_numbers_up_to_2_64_do_not_overflow(void **state)
{
	struct vmb_mem *mem = t_mem_new();
	const struct vmb_region low = plain_region(0, 1);
	const struct vmb_region high = plain_region(UINT64_MAX - 2 * T_PAGE + 1, 2);

	(void)state;
	assert_int_equal(vmb_mem_add_region(mem, &low), VMB_OK);
	assert_int_equal(vmb_mem_add_region(mem, &high), VMB_OK);
	assert_true(has(mem, 0));
	assert_true(has(mem, PFN_END - 1));
	assert_true(has(mem, PFN_END - 2));
	assert_false(has(mem, PFN_END - 3));
	/* These would be page 0 or 2^52 - 1 if the shift to bytes lost their upper bits. */
	assert_false(has(mem, PFN_END));
	assert_false(has(mem, 2 * PFN_END - 1));
	assert_false(has(mem, UINT64_C(1) << 63));
	assert_false(has(mem, UINT64_MAX));
	assert_ptr_equal(vmb_mem_host(mem, UINT64_MAX, 1), plain + 2 * T_PAGE - 1);
	assert_null(vmb_mem_host(mem, UINT64_MAX, 2));
	vmb_mem_unref(mem);
}

static void
run_of_pages_does_not_continue_past_2_64(void **state)
{
	struct vmb_mem *mem = t_mem_new();
	const struct vmb_region low = plain_region(0, 1);
	const struct vmb_region high = plain_region(UINT64_MAX - T_PAGE + 1, 1);
	struct t_range r;

	(void)state;
	assert_int_equal(vmb_mem_add_region(mem, &low), VMB_OK);
	assert_int_equal(vmb_mem_add_region(mem, &high), VMB_OK);
	T_RANGE(&r, 0, 2 * T_PAGE, PFN_END - 1, PFN_END);
	assert_false(vmb_mem_has_pages(mem, r.range.pfns, 2, false));
	T_RANGE(&r, 0, 2 * T_PAGE, PFN_END - 1, 0);
	assert_true(vmb_mem_has_pages(mem, r.range.pfns, 2, false));
	vmb_mem_unref(mem);
}

static void
has_pages_wants_every_page(void **state)
{
	struct vmb_mem *mem = t_mem_new();
	const struct vmb_region a = plain_region(4 * T_PAGE, 2), b = plain_region(6 * T_PAGE, 2);
	struct t_range r;

	(void)state;
	assert_true(vmb_mem_has_pages(mem, r.pfns, 0, true));
	assert_int_equal(vmb_mem_add_region(mem, &a), VMB_OK);
	assert_int_equal(vmb_mem_add_region(mem, &b), VMB_OK);
	T_RANGE(&r, 0, 1, 4, 5, 6, 7, 5, 5, 4);
	assert_true(vmb_mem_has_pages(mem, r.range.pfns, 7, true));
	T_RANGE(&r, 0, 1, 6, 7, 8);
	assert_false(vmb_mem_has_pages(mem, r.range.pfns, 3, true));
	assert_true(vmb_mem_has_pages(mem, r.range.pfns, 2, true));
	T_RANGE(&r, 0, 1, 3, 4);
	assert_false(vmb_mem_has_pages(mem, r.range.pfns, 2, true));
	vmb_mem_unref(mem);
}

static void
read_only_page_is_not_there_for_writing(void **state)
{
	struct vmb_mem *mem = t_mem_new();
	const struct vmb_region a = plain_region(0, 2);
	struct vmb_region rom = plain_region(2 * T_PAGE, 2);
	struct t_range r;

	(void)state;
	rom.read_only = true;
	assert_int_equal(vmb_mem_add_region(mem, &a), VMB_OK);
	assert_int_equal(vmb_mem_add_region(mem, &rom), VMB_OK);
	T_RANGE(&r, 0, 1, 0, 1, 2);
	assert_true(vmb_mem_has_pages(mem, r.range.pfns, 3, false));
	assert_false(vmb_mem_has_pages(mem, r.range.pfns, 3, true));
	assert_true(vmb_mem_has_pages(mem, r.range.pfns, 2, true));
	vmb_mem_unref(mem);
}

static void
last_reference_releases_owned_regions_only(void **state)
{
	struct vmb_mem *mem = t_mem_new();
	struct vmb_region owned = t_region_make(0, 1), lent = t_region_make(T_PAGE, 1);

	(void)state;
	lent.owned = false;
	assert_int_equal(vmb_mem_add_region(mem, &owned), VMB_OK);
	assert_int_equal(vmb_mem_add_region(mem, &lent), VMB_OK);
	vmb_mem_ref(mem);
	vmb_mem_unref(mem);
	assert_true(t_is_writable(owned.host));
	vmb_mem_unref(mem);
	assert_false(t_is_writable(owned.host));
	assert_int_equal(fcntl(owned.fd, F_GETFD), -1);
	assert_true(t_is_writable(lent.host));
	assert_int_equal(munmap(lent.host, lent.bytes), 0);
	assert_int_equal(close(lent.fd), 0);
}

static void
refused_region_stays_with_the_caller(void **state)
{
	struct vmb_mem *mem = t_mem_new();
	const struct vmb_region r = t_region_make(0, 1);

	(void)state;
	t_region_add(mem, 0, 1);
	assert_int_equal(vmb_mem_add_region(mem, &r), VMB_E_EXISTS);
	vmb_mem_unref(mem);
	assert_true(t_is_writable(r.host));
	assert_int_equal(munmap(r.host, r.bytes), 0);
	assert_int_equal(close(r.fd), 0);
}

static void
unref_of_nothing_is_allowed(void **state)
{
	(void)state;
	vmb_mem_unref(NULL);
}

static void
memory_is_a_file_when_each_page_lies_at_its_own_address(void **state)
{
	const int file = memfd_create("t", MFD_CLOEXEC), other = memfd_create("t", MFD_CLOEXEC);
	const int again = dup(file);
	struct vmb_region low = plain_region(0, 2), high = plain_region(4 * T_PAGE, 2);
	struct vmb_region rom = plain_region(6 * T_PAGE, 1);
	struct vmb_mem *mem;
	int found;

	(void)state;
	assert_true(file >= 0 && other >= 0 && again >= 0);
	low.fd = file;
	high.fd = again;
	high.fd_offset = 4 * T_PAGE;
	rom.read_only = true;
	mem = t_mem_new();
	assert_int_equal(vmb_mem_file(mem, &found), VMB_E_UNSUPPORTED);
	/* What cannot be written may be anything. */
	assert_int_equal(vmb_mem_add_region(mem, &rom), VMB_OK);
	assert_int_equal(vmb_mem_file(mem, &found), VMB_E_UNSUPPORTED);
	assert_int_equal(vmb_mem_add_region(mem, &low), VMB_OK);
	assert_int_equal(vmb_mem_file(mem, &found), VMB_OK);
	assert_int_equal(found, file);
	assert_int_equal(vmb_mem_add_region(mem, &high), VMB_OK);
	assert_int_equal(vmb_mem_file(mem, &found), VMB_OK);
	vmb_mem_unref(mem);
	for (unsigned i = 0; i < 3; i++) {
		struct vmb_region bad = high;

		bad.fd = i == 0 ? -1 : i == 1 ? other : again;
		bad.fd_offset = i == 2 ? 3 * T_PAGE : bad.fd_offset;
		mem = t_mem_new();
		assert_int_equal(vmb_mem_add_region(mem, &low), VMB_OK);
		assert_int_equal(vmb_mem_add_region(mem, &bad), VMB_OK);
		assert_int_equal(vmb_mem_file(mem, &found), VMB_E_UNSUPPORTED);
		vmb_mem_unref(mem);
	}
	close(file);
	close(other);
	close(again);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(region_with_bad_fields_is_invalid),
		cmocka_unit_test(file_offset_without_file_is_ignored),
		cmocka_unit_test(region_may_not_overlap_another),
		cmocka_unit_test(region_count_is_limited),
		cmocka_unit_test(host_address_needs_one_region_to_hold_it_all),
		cmocka_unit_test(page_numbers_up_to_2_64_do_not_overflow),
		cmocka_unit_test(run_of_pages_does_not_continue_past_2_64),
		cmocka_unit_test(has_pages_wants_every_page),
		cmocka_unit_test(memory_is_a_file_when_each_page_lies_at_its_own_address),
		cmocka_unit_test(read_only_page_is_not_there_for_writing),
		cmocka_unit_test(last_reference_releases_owned_regions_only),
		cmocka_unit_test(refused_region_stays_with_the_caller),
		cmocka_unit_test(unref_of_nothing_is_allowed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
