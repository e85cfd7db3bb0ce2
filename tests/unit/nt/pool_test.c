/* SPDX-License-Identifier: MIT */
/*
 * Pool memory and lookaside lists (RT-15, KE-8).
 */
#include "t_nt.h"

#include "nt/nt_mdl.h"
#include "nt/nt_pool.h"

#define T_TAG 'tseT'

static PVOID
t_alloc(size_t bytes)
{
	PVOID block = ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, T_TAG);

	assert_non_null(block);
	return block;
}

static void
rt_15_blocks_are_aligned_zeroed_and_in_the_arena(void **state)
{
	static const size_t sizes[] = { 1,    15,   16,   17,   255,  1023, 1024, 1025,
					2047, 2048, 2049, 4095, 4096, 4097, 8192, 100000 };

	CONF_COVERS("RT-15");
	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(sizes); i++) {
		uint8_t *block = t_alloc(sizes[i]);

		assert_int_equal((uintptr_t)block % 16, 0);
		if (sizes[i] >= PAGE_SIZE)
			assert_int_equal((uintptr_t)block % PAGE_SIZE, 0);
		assert_true(vmb_arena_contains(vmb_arena_process(), block, sizes[i]));
		for (size_t byte = 0; byte < sizes[i]; byte++)
			assert_int_equal(block[byte], 0);
		memset(block, 0xA5, sizes[i]);
		ExFreePoolWithTag(block, T_TAG);
		/* Also when the memory was used before. */
		block = t_alloc(sizes[i]);
		assert_int_equal(block[0], 0);
		assert_int_equal(block[sizes[i] - 1], 0);
		ExFreePool(block);
	}
}

static void
rt_15_pool_flags_must_name_one_pool(void **state)
{
	CONF_COVERS("RT-15");
	(void)state;
	assert_null(ExAllocatePool2(0, 16, T_TAG));
	assert_null(ExAllocatePool2(POOL_FLAG_UNINITIALIZED, 16, T_TAG));
	assert_null(ExAllocatePool2(POOL_FLAG_NON_PAGED | POOL_FLAG_PAGED, 16, T_TAG));
	assert_null(ExAllocatePool2(POOL_FLAG_NON_PAGED, 0, T_TAG));
	assert_null(ExAllocatePool2(POOL_FLAG_NON_PAGED, 16, 0));
	assert_int_equal(POOL_FLAG_NON_PAGED, 0x40);
	assert_int_equal(POOL_FLAG_PAGED, 0x100);
	assert_int_equal(POOL_FLAG_UNINITIALIZED, 0x2);
}

static void
rt_15_older_functions_allocate_too(void **state)
{
	struct nt_pool_block known;
	uint8_t *block = ExAllocatePoolWithTag(NonPagedPoolNx, 0, T_TAG);

	CONF_COVERS("RT-15");
	(void)state;
	assert_non_null(block);
	assert_true(nt_pool_find(block, &known));
	assert_int_equal(known.bytes, 0);
	assert_int_equal(known.tag, T_TAG);
	assert_false(nt_pool_find(block + 1, &known));
	ExFreePool2(block, T_TAG, NULL, 0);
	assert_false(nt_pool_find(block, &known));
	block = ExAllocatePoolZero(PagedPool, 40, T_TAG);
	assert_non_null(block);
	assert_int_equal(block[39], 0);
	ExFreePool(block);
	block = ExAllocatePoolUninitialized(PagedPool, 5000, T_TAG);
	assert_non_null(block);
	ExFreePool(block);
}

static void
rt_15_no_memory_is_null(void **state)
{
	PVOID block = ExAllocatePool2(POOL_FLAG_NON_PAGED, (SIZE_T)1 << 50, T_TAG);

	CONF_COVERS("RT-15");
	(void)state;
	assert_null(block);
	block = ExAllocatePool2(POOL_FLAG_NON_PAGED, (SIZE_T)-1, T_TAG);
	assert_null(block);
	block = ExAllocatePool2(POOL_FLAG_NON_PAGED, (SIZE_T)vmb_arena_bytes(vmb_arena_process()),
				T_TAG);
	assert_null(block);
}

static void
ke_5_paged_pool_at_dispatch_level_is_misuse(void **state)
{
	PVOID block;
	KIRQL old;

	CONF_COVERS("KE-5");
	(void)state;
	KeRaiseIrql(DISPATCH_LEVEL, &old);
	assert_misuse(block = ExAllocatePool2(POOL_FLAG_PAGED, 16, T_TAG));
	ExFreePool(block);
	assert_misuse(block = ExAllocatePoolWithTag(PagedPool, 16, T_TAG));
	ExFreePool(block);
	block = t_alloc(16);
	ExFreePool(block);
	KeLowerIrql(old);
}

static void
rt_15_wrong_tag_is_misuse_and_frees_nothing(void **state)
{
	static const size_t sizes[] = { 100, 10000 };

	CONF_COVERS("RT-15");
	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(sizes); i++) {
		struct nt_pool_block known;
		PVOID block = t_alloc(sizes[i]);

		assert_misuse(ExFreePoolWithTag(block, 'rehO'));
		assert_true(nt_pool_find(block, &known));
		assert_int_equal(known.bytes, sizes[i]);
		ExFreePoolWithTag(block, T_TAG);
	}
}

static void
rt_15_double_free_is_misuse(void **state)
{
	static const size_t sizes[] = { 16, 2048, 4096, 10000 };

	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(sizes); i++) {
		PVOID block = t_alloc(sizes[i]);

		ExFreePool(block);
		assert_misuse(ExFreePool(block));
	}
}

static void
rt_15_freeing_what_is_no_block_is_misuse(void **state)
{
	uint8_t *small = t_alloc(100), *large = t_alloc(10000);
	int on_stack = 0;
	void *heap = malloc(16);

	(void)state;
	assert_misuse(ExFreePool(&on_stack));
	assert_misuse(ExFreePool(heap));
	assert_misuse(ExFreePool(NULL));
	assert_misuse(ExFreePool(small + 1));
	assert_misuse(ExFreePool(small + 16));
	assert_misuse(ExFreePool(large + 4096));
	assert_misuse(ExFreePool(large + 16));
	free(heap);
	ExFreePool(small);
	ExFreePool(large);
}

static void
t_free_twice(void)
{
	PVOID block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 64, T_TAG);

	ExFreePool(block);
	ExFreePool(block);
}

static void
t_free_wrong_tag(void)
{
	PVOID block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 64, T_TAG);

	ExFreePoolWithTag(block, 'rehO');
}

static void
rt_15_checked_mode_aborts_on_double_free_and_wrong_tag(void **state)
{
	CONF_COVERS("RT-15");
	(void)state;
	t_assert_aborts(t_free_twice, "freed before");
	t_assert_aborts(t_free_wrong_tag, "with tag 'Oher', allocated with 'Test'");
}

static void
rt_15_pinned_small_block_is_not_reused_before_the_unpin(void **state)
{
	struct vmb_arena *arena = vmb_arena_process();
	PVOID blocks[64], again[64];
	const size_t bytes = 700;

	(void)state;
	for (int i = 0; i < 64; i++)
		blocks[i] = t_alloc(bytes);
	vmb_arena_pin(arena, blocks[5], bytes);
	ExFreePool(blocks[5]);
	for (int i = 0; i < 64; i++) {
		again[i] = t_alloc(bytes);
		assert_ptr_not_equal(again[i], blocks[5]);
	}
	for (int i = 0; i < 64; i++)
		ExFreePool(again[i]);
	assert_misuse(ExFreePool(blocks[5]));
	vmb_arena_unpin(arena, blocks[5], bytes);

	/* Now it is free: among as many blocks as there are free ones it must turn up. */
	bool seen = false;
	for (int i = 0; i < 64; i++) {
		again[i] = t_alloc(bytes);
		seen = seen || again[i] == blocks[5];
	}
	assert_true(seen);
	for (int i = 0; i < 64; i++) {
		ExFreePool(again[i]);
		if (i != 5)
			ExFreePool(blocks[i]);
	}
}

static void
rt_15_pinned_large_block_is_not_reused_before_the_unpin(void **state)
{
	struct vmb_arena *arena = vmb_arena_process();
	struct vmb_arena_stats stats;
	PVOID block = t_alloc(9000);

	(void)state;
	vmb_arena_pin(arena, block, 9000);
	ExFreePool(block);
	vmb_arena_get_stats(arena, &stats);
	assert_int_equal(stats.runs_waiting, 1);
	vmb_arena_unpin(arena, block, 9000);
	vmb_arena_get_stats(arena, &stats);
	assert_int_equal(stats.runs_waiting, 0);
}

static void
rt_15_empty_slabs_return_to_the_arena(void **state)
{
	struct vmb_arena_stats before, after;
	PVOID *blocks = calloc(2000, sizeof(*blocks));

	(void)state;
	assert_non_null(blocks);
	ExFreePool(t_alloc(100));
	vmb_arena_get_stats(vmb_arena_process(), &before);
	for (int i = 0; i < 2000; i++)
		blocks[i] = t_alloc(100);
	for (int i = 0; i < 2000; i++)
		ExFreePool(blocks[i]);
	vmb_arena_get_stats(vmb_arena_process(), &after);
	assert_int_equal(after.pages_used, before.pages_used);
	free(blocks);
}

/* What a peer can do: it has the memory mapped, so it may write everywhere. */
static void
rt_15_scribbling_over_all_memory_damages_no_book_keeping(void **state)
{
	PVOID blocks[100];

	(void)state;
	for (int i = 0; i < 100; i++)
		blocks[i] = t_alloc(48);
	for (int i = 0; i < 100; i += 2)
		ExFreePool(blocks[i]);
	for (int i = 0; i < 100; i++) {
		uint8_t *page = PAGE_ALIGN(blocks[i]);

		memset(page, 0xFF, PAGE_SIZE);
	}
	for (int i = 0; i < 100; i += 2)
		blocks[i] = t_alloc(48);
	for (int i = 0; i < 100; i++)
		ExFreePool(blocks[i]);
	for (int i = 0; i < 100; i++)
		for (int j = 0; j < i; j++)
			assert_ptr_not_equal(blocks[i], blocks[j]);
}

static void
rt_15_random_use_keeps_blocks_apart(void **state)
{
	enum { COUNT = 200, STEPS = 20000 };
	struct {
		uint8_t *at;
		size_t bytes;
		uint8_t fill;
	} blocks[COUNT] = { { NULL, 0, 0 } };
	uint64_t random = t_seed();

	CONF_COVERS("RT-15");
	(void)state;
	for (int step = 0; step < STEPS; step++) {
		const uint32_t i = t_random(&random) % COUNT;

		if (blocks[i].at != NULL) {
			assert_int_equal(blocks[i].at[0], blocks[i].fill);
			assert_int_equal(blocks[i].at[blocks[i].bytes - 1], blocks[i].fill);
			ExFreePoolWithTag(blocks[i].at, T_TAG);
			blocks[i].at = NULL;
			continue;
		}
		blocks[i].bytes =
		    1 + t_random(&random) % (t_random(&random) % 8 == 0 ? 20000 : 600);
		blocks[i].fill = (uint8_t)t_random(&random);
		blocks[i].at = t_alloc(blocks[i].bytes);
		memset(blocks[i].at, blocks[i].fill, blocks[i].bytes);
	}
	for (int i = 0; i < COUNT; i++) {
		if (blocks[i].at != NULL)
			ExFreePool(blocks[i].at);
	}
}

static void *
t_use_pool(void *context)
{
	struct vmb_arena *arena = vmb_arena_process();
	uint64_t random = (uintptr_t)context;

	for (int i = 0; i < 3000; i++) {
		const size_t bytes = 1 + t_random(&random) % 3000;
		uint8_t *block = ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, T_TAG);
		const bool pins = t_random(&random) % 4 == 0;

		memset(block, i, bytes);
		if (pins)
			vmb_arena_pin(arena, block, bytes);
		ExFreePoolWithTag(block, T_TAG);
		if (pins)
			vmb_arena_unpin(arena, block, bytes);
	}
	return NULL;
}

static void
rt_15_threads_may_use_the_pool_and_pins_at_once(void **state)
{
	const size_t before = nt_pool_report_leaks(stderr);
	const uint64_t seed = t_seed();
	pthread_t threads[4];

	CONF_COVERS("RT-15");
	(void)state;
	for (uintptr_t i = 0; i < 4; i++)
		threads[i] = t_thread(t_use_pool, (void *)(uintptr_t)(seed + i));
	for (int i = 0; i < 4; i++)
		t_join(threads[i]);
	assert_int_equal(nt_pool_report_leaks(stderr), before);
}

static void
rt_15_leaks_are_counted_and_named_by_tag(void **state)
{
	PVOID small = t_alloc(100), another = t_alloc(200), large = t_alloc(5000);
	char *text = NULL;
	size_t bytes = 0;
	FILE *out = open_memstream(&text, &bytes);

	(void)state;
	assert_int_equal(nt_pool_report_leaks(out), 3);
	fclose(out);
	assert_non_null(strstr(text, "tag 'Test' (0x74736554): 3 blocks, 5300 bytes"));
	free(text);
	ExFreePool(small);
	ExFreePool(another);
	ExFreePool(large);
	assert_int_equal(nt_pool_report_leaks(stderr), 0);
}

static void
rt_15_a_forked_child_has_a_pool_of_its_own(void **state)
{
	PVOID block = t_alloc(100);
	int status;
	pid_t child = fork();

	(void)state;
	assert_true(child >= 0);
	if (child == 0) {
		struct nt_pool_block known;
		PVOID own = ExAllocatePool2(POOL_FLAG_NON_PAGED, 100, T_TAG);

		if (own == NULL || !nt_pool_find(own, &known) || nt_pool_report_leaks(stderr) != 1)
			_exit(1);
		memset(own, 1, 100);
		ExFreePoolWithTag(own, T_TAG);
		_exit(nt_pool_report_leaks(stderr) == 0 ? 0 : 2);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	ExFreePoolWithTag(block, T_TAG);
}

/* ---- lookaside lists ------------------------------------------------------------------------- */

static void
ke_8_lookaside_lists_give_blocks_of_their_size(void **state)
{
	NPAGED_LOOKASIDE_LIST nonpaged;
	PAGED_LOOKASIDE_LIST paged;
	struct nt_pool_block known;
	PVOID block;

	CONF_COVERS("KE-8");
	(void)state;
	ExInitializeNPagedLookasideList(&nonpaged, NULL, NULL, 0, 72, T_TAG, 0);
	block = ExAllocateFromNPagedLookasideList(&nonpaged);
	assert_true(nt_pool_find(block, &known));
	assert_int_equal(known.bytes, 72);
	assert_int_equal(known.tag, T_TAG);
	ExFreeToNPagedLookasideList(&nonpaged, block);
	ExDeleteNPagedLookasideList(&nonpaged);
	ExInitializePagedLookasideList(&paged, NULL, NULL, 0, 72, T_TAG, 0);
	block = ExAllocateFromPagedLookasideList(&paged);
	assert_non_null(block);
	assert_misuse(ExDeletePagedLookasideList(&paged));
	ExFreeToPagedLookasideList(&paged, block);
	ExDeletePagedLookasideList(&paged);
}

static int t_calls;

static PVOID
t_own_allocate(POOL_TYPE type, SIZE_T bytes, ULONG tag, PLOOKASIDE_LIST_EX list)
{
	(void)type;
	(void)tag;
	(void)list;
	t_calls++;
	return malloc(bytes);
}

static VOID
t_own_free(PVOID block, PLOOKASIDE_LIST_EX list)
{
	(void)list;
	t_calls += 10;
	free(block);
}

static void
ke_8_own_allocation_routines_are_used(void **state)
{
	LOOKASIDE_LIST_EX list;
	PVOID block;

	CONF_COVERS("KE-8");
	(void)state;
	assert_int_equal(ExInitializeLookasideListEx(&list, t_own_allocate, t_own_free,
						     NonPagedPoolNx, 0, 32, T_TAG, 0),
			 STATUS_SUCCESS);
	block = ExAllocateFromLookasideListEx(&list);
	assert_non_null(block);
	ExFreeToLookasideListEx(&list, block);
	ExFlushLookasideListEx(&list);
	ExDeleteLookasideListEx(&list);
	assert_int_equal(t_calls, 11);
}

static void
ke_8_bad_parameters_are_refused(void **state)
{
	LOOKASIDE_LIST_EX list;

	CONF_COVERS("KE-8");
	(void)state;
	assert_int_equal(
	    ExInitializeLookasideListEx(&list, NULL, NULL, NonPagedPoolNx, 4, 32, T_TAG, 0),
	    STATUS_INVALID_PARAMETER_5);
	assert_int_equal(
	    ExInitializeLookasideListEx(&list, NULL, NULL, NonPagedPoolNx, 0, 32, T_TAG, 1),
	    STATUS_INVALID_PARAMETER_8);
	assert_int_equal(
	    ExInitializeLookasideListEx(&list, NULL, NULL, NonPagedPoolNx, 0, 32, T_TAG, 0),
	    STATUS_SUCCESS);
	ExFreeToLookasideListEx(&list, ExAllocateFromLookasideListEx(&list));
	ExDeleteLookasideListEx(&list);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rt_15_blocks_are_aligned_zeroed_and_in_the_arena),
		cmocka_unit_test(rt_15_pool_flags_must_name_one_pool),
		cmocka_unit_test(rt_15_older_functions_allocate_too),
		cmocka_unit_test(rt_15_no_memory_is_null),
		cmocka_unit_test(ke_5_paged_pool_at_dispatch_level_is_misuse),
		cmocka_unit_test(rt_15_wrong_tag_is_misuse_and_frees_nothing),
		cmocka_unit_test(rt_15_double_free_is_misuse),
		cmocka_unit_test(rt_15_freeing_what_is_no_block_is_misuse),
		cmocka_unit_test(rt_15_checked_mode_aborts_on_double_free_and_wrong_tag),
		cmocka_unit_test(rt_15_pinned_small_block_is_not_reused_before_the_unpin),
		cmocka_unit_test(rt_15_pinned_large_block_is_not_reused_before_the_unpin),
		cmocka_unit_test(rt_15_empty_slabs_return_to_the_arena),
		cmocka_unit_test(rt_15_scribbling_over_all_memory_damages_no_book_keeping),
		cmocka_unit_test(rt_15_random_use_keeps_blocks_apart),
		cmocka_unit_test(rt_15_threads_may_use_the_pool_and_pins_at_once),
		cmocka_unit_test(rt_15_leaks_are_counted_and_named_by_tag),
		cmocka_unit_test(rt_15_a_forked_child_has_a_pool_of_its_own),
		cmocka_unit_test(ke_8_lookaside_lists_give_blocks_of_their_size),
		cmocka_unit_test(ke_8_own_allocation_routines_are_used),
		cmocka_unit_test(ke_8_bad_parameters_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
