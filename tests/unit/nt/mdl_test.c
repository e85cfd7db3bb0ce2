/* SPDX-License-Identifier: MIT */
/*
 * MDLs of this process's memory (MM-1..MM-6, MM-8, MM-9, MDL-3).
 */
#include "t_nt.h"

#include <sys/mman.h>

#include "nt/nt_mdl.h"
#include "nt/nt_pool.h"
#include "nt/nt_probe.h"

#define T_TAG 'tseT'

static PMDL
t_mdl(const void *va, ULONG bytes)
{
	PMDL mdl = IoAllocateMdl((PVOID)(uintptr_t)va, bytes, FALSE, FALSE, NULL);

	assert_non_null(mdl);
	return mdl;
}

static void
mm_3_allocate_describes_the_range(void **state)
{
	PMDL mdl = t_mdl((void *)0x12345, 0x2000);

	CONF_COVERS("MM-3, MM-6");
	(void)state;
	assert_null(mdl->Next);
	assert_ptr_equal(mdl->StartVa, (void *)0x12000);
	assert_int_equal(MmGetMdlByteOffset(mdl), 0x345);
	assert_int_equal(MmGetMdlByteCount(mdl), 0x2000);
	assert_ptr_equal(MmGetMdlVirtualAddress(mdl), (void *)0x12345);
	assert_ptr_equal(MmGetMdlBaseVa(mdl), (void *)0x12000);
	assert_int_equal(mdl->Size, 48 + 3 * 8);
	assert_false(nt_mdl_is_built(mdl));
	IoFreeMdl(mdl);
}

static void
mm_3_length_0_and_very_large_lengths_are_allowed(void **state)
{
	PMDL mdl = t_mdl((void *)0x1000, 0);

	CONF_COVERS("MM-3");
	(void)state;
	assert_int_equal(mdl->Size, 48);
	IoFreeMdl(mdl);
	mdl = t_mdl((void *)0xFFF, 0xFFFFFFFF);
	assert_int_equal(mdl->Size, 0x7FFF);
	assert_int_equal(nt_mdl_pages(mdl), 0x100001);
	MmGetMdlPfnArray(mdl)[0x100000] = 1;
	IoFreeMdl(mdl);
	IoFreeMdl(NULL);
}

static void
mm_3_an_irp_gets_its_mdls_in_order(void **state)
{
	PIRP irp = IoAllocateIrp(1, FALSE);
	int data[3];
	PMDL mdls[3];

	CONF_COVERS("MM-3");
	(void)state;
	for (int i = 0; i < 3; i++)
		mdls[i] = IoAllocateMdl(&data[i], 4, i != 0, FALSE, irp);
	assert_ptr_equal(irp->MdlAddress, mdls[0]);
	assert_ptr_equal(mdls[0]->Next, mdls[1]);
	assert_ptr_equal(mdls[1]->Next, mdls[2]);
	assert_null(mdls[2]->Next);
	for (int i = 0; i < 3; i++)
		IoFreeMdl(mdls[i]);
	IoFreeIrp(irp);
}

static void
mm_3_size_of_mdl_counts_spanned_pages(void **state)
{
	CONF_COVERS("MM-3");
	(void)state;
	assert_int_equal(MmSizeOfMdl(NULL, 0), 48);
	assert_int_equal(MmSizeOfMdl(NULL, 4096), 56);
	assert_int_equal(MmSizeOfMdl((PVOID)1, 4096), 64);
	assert_int_equal(MmSizeOfMdl((PVOID)0xFFF, 2), 64);
}

static void
mm_3_initialize_describes_the_range_in_memory_of_the_caller(void **state)
{
	union {
		MDL mdl;
		uint8_t room[48 + 3 * 8];
	} own;

	CONF_COVERS("MM-3");
	(void)state;
	memset(&own, 0xA5, sizeof(own));
	assert_int_equal(MmSizeOfMdl((PVOID)0x12FFF, 0x1002), sizeof(own));
	MmInitializeMdl(&own.mdl, (PVOID)0x12FFF, 0x1002);
	assert_null(own.mdl.Next);
	assert_int_equal(own.mdl.Size, sizeof(own));
	assert_int_equal(own.mdl.MdlFlags, 0);
	assert_null(own.mdl.MappedSystemVa);
	assert_ptr_equal(own.mdl.StartVa, (PVOID)0x12000);
	assert_int_equal(own.mdl.ByteOffset, 0xFFF);
	assert_int_equal(own.mdl.ByteCount, 0x1002);
	assert_int_equal(own.room[48], 0xA5);
}

static void
mm_6_accessors_read_the_fields(void **state)
{
	MDL mdl[2] = { {
		.StartVa = (PVOID)0x7000,
		.ByteCount = 0x80000001,
		.ByteOffset = 0xABC,
	} };

	CONF_COVERS("MM-6");
	(void)state;
	assert_true(MmGetMdlByteCount(mdl) == 0x80000001);
	assert_int_equal(MmGetMdlByteOffset(mdl), 0xABC);
	assert_ptr_equal(MmGetMdlBaseVa(mdl), (PVOID)0x7000);
	assert_ptr_equal(MmGetMdlVirtualAddress(mdl), (PVOID)0x7ABC);
	assert_ptr_equal(MmGetMdlPfnArray(mdl), &mdl[1]);
}

static void
mm_4_pool_memory_has_the_page_numbers_of_the_arena(void **state)
{
	uint8_t *block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 3 * PAGE_SIZE, T_TAG);
	PMDL mdl = t_mdl(block + 100, 2 * PAGE_SIZE);
	const uint64_t first = vmb_arena_gpa(vmb_arena_process(), block) / PAGE_SIZE;

	CONF_COVERS("MM-4, MM-5");
	(void)state;
	MmBuildMdlForNonPagedPool(mdl);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(MmGetMdlPfnArray(mdl)[i], first + i);
		assert_false(nt_pfn_is_foreign(MmGetMdlPfnArray(mdl)[i]));
	}
	assert_null(mdl->Process);
	assert_true(nt_mdl_is_built(mdl));
	assert_int_equal(mdl->MdlFlags, MDL_SOURCE_IS_NONPAGED_POOL);
	assert_ptr_equal(mdl->MappedSystemVa, block + 100);
	assert_ptr_equal(
	    MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority | MdlMappingNoExecute),
	    block + 100);
	assert_misuse(MmBuildMdlForNonPagedPool(mdl));
	IoFreeMdl(mdl);
	ExFreePool(block);
}

static void
mm_9_memory_outside_the_arena_is_foreign_and_not_refused(void **state)
{
	char on_stack[100];
	PMDL mdl = t_mdl(on_stack, sizeof(on_stack));
	PFN_NUMBER pfn;

	CONF_COVERS("MM-9");
	(void)state;
	MmBuildMdlForNonPagedPool(mdl);
	pfn = MmGetMdlPfnArray(mdl)[0];
	assert_true(nt_pfn_is_foreign(pfn));
	assert_ptr_equal(nt_pfn_foreign_va(pfn), PAGE_ALIGN(on_stack));
	assert_ptr_equal(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority), on_stack);
	IoFreeMdl(mdl);
}

static void
mm_4_locking_pins_and_unlocking_unpins(void **state)
{
	uint8_t *block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 2 * PAGE_SIZE, T_TAG);
	struct vmb_arena *arena = vmb_arena_process();
	PMDL mdl = t_mdl(block, 2 * PAGE_SIZE);

	CONF_COVERS("MM-4, MM-5");
	(void)state;
	MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
	assert_true(vmb_arena_is_pinned(arena, block));
	assert_int_equal(mdl->MdlFlags, MDL_PAGES_LOCKED | MDL_WRITE_OPERATION);
	assert_null(mdl->MappedSystemVa);
	assert_ptr_equal(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority), block);
	assert_true((mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) != 0);
	assert_int_equal(KmclProbeAndLockPages(mdl, KernelMode, IoReadAccess),
			 STATUS_INVALID_PARAMETER);
	MmUnlockPages(mdl);
	assert_false(vmb_arena_is_pinned(arena, block));
	assert_int_equal(mdl->MdlFlags, 0);
	assert_null(mdl->MappedSystemVa);
	assert_misuse(MmUnlockPages(mdl));
	IoFreeMdl(mdl);
	ExFreePool(block);
}

static void
mm_4_small_blocks_may_be_freed_while_locked(void **state)
{
	uint8_t *block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 200, T_TAG);
	PMDL mdl = t_mdl(block, 200);

	(void)state;
	assert_int_equal(KmclProbeAndLockPages(mdl, KernelMode, IoReadAccess), STATUS_SUCCESS);
	ExFreePool(block);
	MmUnlockPages(mdl);
	IoFreeMdl(mdl);
	assert_int_equal(nt_pool_report_leaks(stderr), 0);
}

static void
mm_4_stack_memory_can_be_locked(void **state)
{
	char on_stack[3 * PAGE_SIZE];
	PMDL mdl = t_mdl(on_stack + 5, sizeof(on_stack) - 5);

	CONF_COVERS("MM-4");
	(void)state;
	assert_int_equal(KmclProbeAndLockPages(mdl, UserMode, IoModifyAccess), STATUS_SUCCESS);
	assert_true(nt_pfn_is_foreign(MmGetMdlPfnArray(mdl)[2]));
	assert_ptr_equal(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority), on_stack + 5);
	MmUnlockPages(mdl);
	IoFreeMdl(mdl);
}

static void
mm_4_unmapped_memory_is_an_access_violation(void **state)
{
	uint8_t *pages =
	    mmap(NULL, 3 * 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	PMDL whole, low, null;

	CONF_COVERS("MM-4");
	(void)state;
	assert_ptr_not_equal(pages, MAP_FAILED);
	munmap(pages + 65536, 65536);
	whole = t_mdl(pages, 3 * 65536);
	low = t_mdl(pages, 65536);
	null = t_mdl(NULL, 10);
	assert_int_equal(KmclProbeAndLockPages(whole, KernelMode, IoReadAccess),
			 STATUS_ACCESS_VIOLATION);
	assert_false(nt_mdl_is_built(whole));
	assert_int_equal(KmclProbeAndLockPages(null, KernelMode, IoReadAccess),
			 STATUS_ACCESS_VIOLATION);
	assert_misuse(MmProbeAndLockPages(whole, KernelMode, IoReadAccess));
	assert_int_equal(KmclProbeAndLockPages(low, KernelMode, IoWriteAccess), STATUS_SUCCESS);
	MmUnlockPages(low);
	IoFreeMdl(whole);
	IoFreeMdl(low);
	IoFreeMdl(null);
	munmap(pages, 65536);
	munmap(pages + 2 * 65536, 65536);
}

static void
mm_4_read_only_memory_can_be_locked_for_reading_only(void **state)
{
	uint8_t *page = mmap(NULL, 65536, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	PMDL mdl = t_mdl(page, 100);

	CONF_COVERS("MM-4");
	(void)state;
	assert_int_equal(KmclProbeAndLockPages(mdl, KernelMode, IoWriteAccess),
			 STATUS_ACCESS_VIOLATION);
	assert_int_equal(KmclProbeAndLockPages(mdl, KernelMode, IoModifyAccess),
			 STATUS_ACCESS_VIOLATION);
	assert_int_equal(KmclProbeAndLockPages(mdl, KernelMode, IoReadAccess), STATUS_SUCCESS);
	assert_int_equal(mdl->MdlFlags, MDL_PAGES_LOCKED);
	MmUnlockPages(mdl);
	IoFreeMdl(mdl);
	munmap(page, 65536);
}

static void
mm_4_a_mapping_beyond_the_end_of_its_file_is_an_access_violation(void **state)
{
	int fd = memfd_create("t", MFD_CLOEXEC);
	uint8_t *page = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	PMDL mdl = t_mdl(page, 100);

	CONF_COVERS("MM-4");
	(void)state;
	assert_ptr_not_equal(page, MAP_FAILED);
	assert_int_equal(KmclProbeAndLockPages(mdl, KernelMode, IoReadAccess),
			 STATUS_ACCESS_VIOLATION);
	assert_int_equal(KmclProbeAndLockPages(mdl, KernelMode, IoWriteAccess),
			 STATUS_ACCESS_VIOLATION);
	assert_int_equal(ftruncate(fd, 65536), 0);
	assert_int_equal(KmclProbeAndLockPages(mdl, KernelMode, IoWriteAccess), STATUS_SUCCESS);
	MmUnlockPages(mdl);
	IoFreeMdl(mdl);
	munmap(page, 65536);
	close(fd);
}

/* What older kernels have to do with. */
static void
mm_4_the_second_choice_of_probing_sees_holes_and_rights(void **state)
{
	uint8_t *pages =
	    mmap(NULL, 4 * 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)state;
	assert_ptr_not_equal(pages, MAP_FAILED);
	assert_true(nt_probe_maps(pages, 4 * 65536, true));
	assert_int_equal(mprotect(pages + 65536, 65536, PROT_READ), 0);
	assert_true(nt_probe_maps(pages, 4 * 65536, false));
	assert_false(nt_probe_maps(pages, 4 * 65536, true));
	assert_true(nt_probe_maps(pages, 65536, true));
	assert_false(nt_probe_maps(pages, 65537, true));
	munmap(pages + 2 * 65536, 65536);
	assert_false(nt_probe_maps(pages, 4 * 65536, false));
	assert_true(nt_probe_maps(pages, 2 * 65536, false));
	assert_false(nt_probe_maps(pages, 2 * 65536 + 1, false));
	assert_false(nt_probe_maps(NULL, 1, false));
	munmap(pages, 2 * 65536);
	munmap(pages + 3 * 65536, 65536);
}

static void
mm_4_probing_refuses_ranges_that_wrap(void **state)
{
	(void)state;
	assert_false(nt_probe((const void *)(UINTPTR_MAX - 10), 100, false));
	assert_false(nt_probe((const void *)(UINTPTR_MAX - 5000), 100, false));
	assert_true(nt_probe(NULL, 0, true));
}

static void
mm_4_lock_refuses_bad_parameters(void **state)
{
	char byte = 0;
	PMDL mdl = t_mdl(&byte, 1);

	CONF_COVERS("MM-4");
	(void)state;
	assert_int_equal(KmclProbeAndLockPages(NULL, KernelMode, IoReadAccess),
			 STATUS_INVALID_PARAMETER);
	assert_int_equal(KmclProbeAndLockPages(mdl, KernelMode, (LOCK_OPERATION)3),
			 STATUS_INVALID_PARAMETER);
	MmBuildMdlForNonPagedPool(mdl);
	assert_int_equal(KmclProbeAndLockPages(mdl, KernelMode, IoReadAccess),
			 STATUS_INVALID_PARAMETER);
	IoFreeMdl(mdl);
}

static void
mm_3_freeing_a_locked_mdl_is_misuse_and_unlocks(void **state)
{
	uint8_t *block = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, T_TAG);
	PMDL mdl = t_mdl(block, PAGE_SIZE);

	(void)state;
	MmProbeAndLockPages(mdl, KernelMode, IoReadAccess);
	assert_misuse(IoFreeMdl(mdl));
	assert_false(vmb_arena_is_pinned(vmb_arena_process(), block));
	ExFreePool(block);
}

static void
mm_5_mapping_an_mdl_with_nothing_behind_it_is_misuse(void **state)
{
	int value;
	PMDL mdl = t_mdl(&value, sizeof(value));

	(void)state;
	assert_misuse(assert_null(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority)));
	assert_misuse(MmUnmapLockedPages(&value, mdl));
	MmBuildMdlForNonPagedPool(mdl);
	assert_misuse(
	    assert_null(MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, &value, FALSE, 0)));
	IoFreeMdl(mdl);
}

/* ---- parts ----------------------------------------------------------------------------------- */

static void
mm_3_partial_mdl_describes_its_part(void **state)
{
	uint8_t *block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 4 * PAGE_SIZE, T_TAG);
	PMDL whole = t_mdl(block + 10, 4 * PAGE_SIZE - 10);
	PMDL part = t_mdl(block + 10, 4 * PAGE_SIZE - 10);

	CONF_COVERS("MM-3");
	(void)state;
	MmBuildMdlForNonPagedPool(whole);
	IoBuildPartialMdl(whole, part, block + PAGE_SIZE + 5, PAGE_SIZE);
	assert_int_equal(part->ByteOffset, 5);
	assert_int_equal(part->ByteCount, PAGE_SIZE);
	assert_true((part->MdlFlags & MDL_PARTIAL) != 0);
	assert_true(nt_mdl_is_built(part));
	assert_int_equal(MmGetMdlPfnArray(part)[0], MmGetMdlPfnArray(whole)[1]);
	assert_int_equal(MmGetMdlPfnArray(part)[1], MmGetMdlPfnArray(whole)[2]);
	assert_ptr_equal(MmGetSystemAddressForMdlSafe(part, NormalPagePriority),
			 block + PAGE_SIZE + 5);

	/* Length 0: to the end. And once more over the same target. */
	MmPrepareMdlForReuse(part);
	IoBuildPartialMdl(whole, part, block + 3 * PAGE_SIZE + 1, 0);
	assert_int_equal(part->ByteCount, PAGE_SIZE - 1);
	assert_int_equal(MmGetMdlPfnArray(part)[0], MmGetMdlPfnArray(whole)[3]);
	IoFreeMdl(part);
	IoFreeMdl(whole);
	ExFreePool(block);
}

static void
mm_3_partial_mdl_outside_its_source_is_misuse_and_empty(void **state)
{
	uint8_t *block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 4 * PAGE_SIZE, T_TAG);
	PMDL whole = t_mdl(block + 16, 2 * PAGE_SIZE);
	PMDL part = t_mdl(block + 16, PAGE_SIZE);

	(void)state;
	assert_misuse(IoBuildPartialMdl(whole, part, block + 16, 1));
	MmBuildMdlForNonPagedPool(whole);
	assert_misuse(IoBuildPartialMdl(whole, part, block + 15, 1));
	assert_misuse(IoBuildPartialMdl(whole, part, block + 17, 2 * PAGE_SIZE));
	assert_misuse(IoBuildPartialMdl(whole, part, block + 17 + 2 * PAGE_SIZE, 0));
	assert_misuse(IoBuildPartialMdl(whole, part, block + 16, 2 * PAGE_SIZE));
	assert_int_equal(part->ByteCount, 0);
	assert_false(nt_mdl_is_built(part));
	IoFreeMdl(part);
	IoFreeMdl(whole);
	ExFreePool(block);
}

static void
mm_3_unmapping_a_part_leaves_the_mapping_of_the_whole(void **state)
{
	uint8_t *block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 2 * PAGE_SIZE, T_TAG);
	PMDL whole = t_mdl(block, 2 * PAGE_SIZE), part = t_mdl(block, 2 * PAGE_SIZE);

	CONF_COVERS("MM-3, MM-5");
	(void)state;
	MmProbeAndLockPages(whole, KernelMode, IoWriteAccess);
	MmGetSystemAddressForMdlSafe(whole, NormalPagePriority);
	IoBuildPartialMdl(whole, part, block + 1, 0);
	assert_ptr_equal(MmGetSystemAddressForMdlSafe(part, NormalPagePriority), block + 1);
	MmUnmapLockedPages(block + 1, part);
	IoFreeMdl(part);
	assert_ptr_equal(whole->MappedSystemVa, block);
	MmUnlockPages(whole);
	IoFreeMdl(whole);
	ExFreePool(block);
}

/* ---- pages ----------------------------------------------------------------------------------- */

static const PHYSICAL_ADDRESS t_zero = { .QuadPart = 0 };
static const PHYSICAL_ADDRESS t_highest = { .QuadPart = -1 };

static void
mm_8_pages_are_allocated_mapped_and_freed(void **state)
{
	struct vmb_arena_stats before, after;
	PMDL mdl;
	uint8_t *va;

	CONF_COVERS("MM-8");
	(void)state;
	vmb_arena_get_stats(vmb_arena_process(), &before);
	mdl = MmAllocatePagesForMdlEx(t_zero, t_highest, t_zero, 3 * PAGE_SIZE + 1, MmCached, 0);
	assert_non_null(mdl);
	assert_int_equal(mdl->ByteCount, 4 * PAGE_SIZE);
	assert_true(nt_mdl_is_built(mdl));
	va = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
	assert_non_null(va);
	for (size_t i = 0; i < 4 * PAGE_SIZE; i += 512)
		assert_int_equal(va[i], 0);
	memset(va, 1, 4 * PAGE_SIZE);
	assert_misuse(MmUnlockPages(mdl));
	MmFreePagesFromMdl(mdl);
	assert_misuse(MmFreePagesFromMdl(mdl));
	ExFreePool(mdl);
	vmb_arena_get_stats(vmb_arena_process(), &after);
	assert_int_equal(before.pages_used, after.pages_used);
}

static void
mm_8_page_allocation_respects_its_bounds(void **state)
{
	const PHYSICAL_ADDRESS low = { .QuadPart = 4095 };

	CONF_COVERS("MM-8");
	(void)state;
	assert_null(MmAllocatePagesForMdl(t_zero, t_highest, t_zero, 0));
	assert_null(MmAllocatePagesForMdl(t_zero, t_highest, t_zero, (SIZE_T)1 << 32));
	assert_null(MmAllocatePagesForMdl(t_zero, low, t_zero, PAGE_SIZE));
	assert_null(MmAllocatePagesForMdl(t_highest, t_highest, t_zero, PAGE_SIZE));
}

static void
mm_8_freeing_the_mdl_before_its_pages_is_misuse(void **state)
{
	PMDL mdl = MmAllocatePagesForMdl(t_zero, t_highest, t_zero, PAGE_SIZE);

	(void)state;
	assert_misuse(ExFreePool(mdl));
}

/* Scattered pages of the arena need a second mapping, which shows the same memory. */
static void
mm_5_scattered_pages_are_mapped_side_by_side(void **state)
{
	uint8_t *block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 4 * PAGE_SIZE, T_TAG);
	PMDL mdl = t_mdl(block, 4 * PAGE_SIZE);
	PPFN_NUMBER pfns = MmGetMdlPfnArray(mdl);
	PFN_NUMBER swap;
	uint8_t *va;

	CONF_COVERS("MM-5");
	(void)state;
	MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
	swap = pfns[0];
	pfns[0] = pfns[3];
	pfns[3] = swap;
	va = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
	assert_non_null(va);
	assert_ptr_not_equal(va, block);
	va[1] = 0x5A;
	assert_int_equal(block[3 * PAGE_SIZE + 1], 0x5A);
	assert_ptr_equal(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority), va);
	MmUnmapLockedPages(va, mdl);
	assert_null(mdl->MappedSystemVa);
	assert_non_null(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority));
	/* Unlocking unmaps as well. */
	MmUnlockPages(mdl);
	IoFreeMdl(mdl);
	ExFreePool(block);
}

static void
mm_3_freeing_unmaps_a_leftover_mapping(void **state)
{
	uint8_t *block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 2 * PAGE_SIZE, T_TAG);
	PMDL whole = t_mdl(block, 2 * PAGE_SIZE), part = t_mdl(block, 2 * PAGE_SIZE);
	PPFN_NUMBER pfns = MmGetMdlPfnArray(whole);
	PFN_NUMBER swap;
	uint8_t *va;

	CONF_COVERS("MM-3");
	(void)state;
	MmProbeAndLockPages(whole, KernelMode, IoWriteAccess);
	swap = pfns[0];
	pfns[0] = pfns[1];
	pfns[1] = swap;
	IoBuildPartialMdl(whole, part, block, 0);
	va = MmGetSystemAddressForMdlSafe(part, NormalPagePriority);
	assert_non_null(va);
	assert_ptr_not_equal(va, block);
	assert_true(nt_probe(va, 2 * PAGE_SIZE, true));
	IoFreeMdl(part);
	assert_false(nt_probe(va, 2 * PAGE_SIZE, false));
	MmUnlockPages(whole);
	IoFreeMdl(whole);
	ExFreePool(block);
}

static void
mm_5_page_numbers_outside_memory_cannot_be_mapped(void **state)
{
	uint8_t *block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 2 * PAGE_SIZE, T_TAG);
	PMDL mdl = t_mdl(block, 2 * PAGE_SIZE);
	PFN_NUMBER real;

	CONF_COVERS("MM-5");
	(void)state;
	MmProbeAndLockPages(mdl, KernelMode, IoWriteAccess);
	real = MmGetMdlPfnArray(mdl)[1];
	MmGetMdlPfnArray(mdl)[1] = (PFN_NUMBER)1 << 40;
	assert_null(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority));
	MmGetMdlPfnArray(mdl)[1] = real;
	MmUnlockPages(mdl);
	IoFreeMdl(mdl);
	ExFreePool(block);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mm_3_allocate_describes_the_range),
		cmocka_unit_test(mm_3_length_0_and_very_large_lengths_are_allowed),
		cmocka_unit_test(mm_3_an_irp_gets_its_mdls_in_order),
		cmocka_unit_test(mm_3_size_of_mdl_counts_spanned_pages),
		cmocka_unit_test(mm_3_initialize_describes_the_range_in_memory_of_the_caller),
		cmocka_unit_test(mm_6_accessors_read_the_fields),
		cmocka_unit_test(mm_4_pool_memory_has_the_page_numbers_of_the_arena),
		cmocka_unit_test(mm_9_memory_outside_the_arena_is_foreign_and_not_refused),
		cmocka_unit_test(mm_4_locking_pins_and_unlocking_unpins),
		cmocka_unit_test(mm_4_small_blocks_may_be_freed_while_locked),
		cmocka_unit_test(mm_4_stack_memory_can_be_locked),
		cmocka_unit_test(mm_4_unmapped_memory_is_an_access_violation),
		cmocka_unit_test(mm_4_read_only_memory_can_be_locked_for_reading_only),
		cmocka_unit_test(mm_4_a_mapping_beyond_the_end_of_its_file_is_an_access_violation),
		cmocka_unit_test(mm_4_the_second_choice_of_probing_sees_holes_and_rights),
		cmocka_unit_test(mm_4_probing_refuses_ranges_that_wrap),
		cmocka_unit_test(mm_4_lock_refuses_bad_parameters),
		cmocka_unit_test(mm_3_freeing_a_locked_mdl_is_misuse_and_unlocks),
		cmocka_unit_test(mm_5_mapping_an_mdl_with_nothing_behind_it_is_misuse),
		cmocka_unit_test(mm_3_partial_mdl_describes_its_part),
		cmocka_unit_test(mm_3_partial_mdl_outside_its_source_is_misuse_and_empty),
		cmocka_unit_test(mm_3_unmapping_a_part_leaves_the_mapping_of_the_whole),
		cmocka_unit_test(mm_8_pages_are_allocated_mapped_and_freed),
		cmocka_unit_test(mm_8_page_allocation_respects_its_bounds),
		cmocka_unit_test(mm_8_freeing_the_mdl_before_its_pages_is_misuse),
		cmocka_unit_test(mm_5_scattered_pages_are_mapped_side_by_side),
		cmocka_unit_test(mm_3_freeing_unmaps_a_leftover_mapping),
		cmocka_unit_test(mm_5_page_numbers_outside_memory_cannot_be_mapped),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
