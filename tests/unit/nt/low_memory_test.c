/* SPDX-License-Identifier: MIT */
/*
 * What the runtime does when the arena is full or in pieces. The arena has 1 MiB: 255 pages that
 * can be had.
 */
#include "t_nt.h"

#include "nt/nt_mdl.h"
#include "nt/nt_pool.h"

#define T_TAG 'tseT'
#define T_PAGES 255

static const PHYSICAL_ADDRESS t_zero = { .QuadPart = 0 };
static const PHYSICAL_ADDRESS t_highest = { .QuadPart = -1 };

static void *t_blocks[T_PAGES];

/* Take every page there is. */
static void
t_fill(void)
{
	for (int i = 0; i < T_PAGES; i++)
		t_blocks[i] = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, T_TAG);
	assert_null(ExAllocatePoolZero(NonPagedPoolNx, PAGE_SIZE, T_TAG));
}

static void
t_give_back(int i)
{
	if (t_blocks[i] != NULL)
		ExFreePool(t_blocks[i]);
	t_blocks[i] = NULL;
}

static void
t_empty(void)
{
	for (int i = 0; i < T_PAGES; i++)
		t_give_back(i);
	assert_int_equal(nt_pool_report_leaks(stderr), 0);
}

static void
rt_15_a_full_pool_gives_null_and_recovers(void **state)
{
	PVOID block;

	CONF_COVERS("RT-15");
	(void)state;
	t_fill();
	block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 32, T_TAG);
	assert_null(block);
	t_empty();
	block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 32, T_TAG);
	assert_non_null(block);
	ExFreePool(block);
}

static void
ke_12_conversions_report_a_full_pool(void **state)
{
	static const GUID guid = { 1, 2, 3, { 4 } };
	ANSI_STRING narrow;
	UNICODE_STRING wide;

	(void)state;
	RtlInitAnsiString(&narrow, "abc");
	t_fill();
	assert_int_equal(RtlAnsiStringToUnicodeString(&wide, &narrow, TRUE), STATUS_NO_MEMORY);
	assert_int_equal(RtlStringFromGUID(&guid, &wide), STATUS_NO_MEMORY);
	wide = (UNICODE_STRING){ 2, 2, (PWCH)(uintptr_t)u"x" };
	assert_int_equal(RtlUnicodeStringToAnsiString(&narrow, &wide, TRUE), STATUS_NO_MEMORY);
	t_empty();
}

static void
mm_8_fewer_pages_come_unless_all_are_required(void **state)
{
	PMDL mdl;

	CONF_COVERS("MM-8");
	(void)state;
	t_fill();
	assert_null(MmAllocatePagesForMdl(t_zero, t_highest, t_zero, PAGE_SIZE));
	/* Three pieces: one page, one page, two pages. */
	t_give_back(10);
	t_give_back(20);
	t_give_back(30);
	t_give_back(31);
	assert_null(MmAllocatePagesForMdlEx(t_zero, t_highest, t_zero, 5 * PAGE_SIZE, MmCached,
	                                    MM_ALLOCATE_FULLY_REQUIRED));
	assert_null(MmAllocatePagesForMdlEx(t_zero, t_highest, t_zero, 4 * PAGE_SIZE, MmCached,
	                                    MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS));
	mdl = MmAllocatePagesForMdlEx(t_zero, t_highest, t_zero, 5 * PAGE_SIZE, MmCached, 0);
	assert_non_null(mdl);
	assert_int_equal(MmGetMdlByteCount(mdl), 4 * PAGE_SIZE);
	MmFreePagesFromMdl(mdl);
	ExFreePool(mdl);
	t_empty();
}

static void
mm_8_pages_in_pieces_are_mapped_side_by_side(void **state)
{
	uint8_t *va;
	PMDL mdl;

	CONF_COVERS("MM-5, MM-8");
	(void)state;
	t_fill();
	t_give_back(10);
	t_give_back(20);
	t_give_back(30);
	mdl = MmAllocatePagesForMdlEx(t_zero, t_highest, t_zero, 3 * PAGE_SIZE, MmCached,
	                              MM_ALLOCATE_FULLY_REQUIRED);
	assert_non_null(mdl);
	va = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
	assert_non_null(va);
	for (uint32_t i = 0; i < 3; i++) {
		uint8_t *page =
		    vmb_arena_host(vmb_arena_process(), MmGetMdlPfnArray(mdl)[i] * PAGE_SIZE);

		assert_int_equal(va[i * PAGE_SIZE + 7], 0);
		va[i * PAGE_SIZE + 7] = (uint8_t)(i + 1);
		assert_int_equal(page[7], i + 1);
	}
	MmFreePagesFromMdl(mdl);
	IoFreeMdl(mdl);
	t_empty();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rt_15_a_full_pool_gives_null_and_recovers),
		cmocka_unit_test(ke_12_conversions_report_a_full_pool),
		cmocka_unit_test(mm_8_fewer_pages_come_unless_all_are_required),
		cmocka_unit_test(mm_8_pages_in_pieces_are_mapped_side_by_side),
	};

	setenv("KMCL_RAM_MIB", "1", 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
