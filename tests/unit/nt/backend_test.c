/* SPDX-License-Identifier: MIT */
/*
 * The memory behind MDLs: translate, map, pin and unpin, for each kind of memory that a bus
 * connection may come with (MM-9), and contiguous memory.
 */
#include "t_nt.h"

#include <sys/mman.h>

#include "nt/nt_mdl.h"
#include "nt/nt_pool.h"

#define T_PAGES 8u

/* A kind of memory, with 8 pages in it: page n is filled with n + 1. */
struct t_backend {
	const char *name;
	struct vmb_mem *mem;            /* a peer's, or NULL for this process's own */
	uint64_t first_pfn;
	uint8_t *pages;
	bool scattered_can_be_mapped;
	bool writable;
};

static void
t_fill(uint8_t *pages)
{
	for (size_t i = 0; i < T_PAGES; i++)
		memset(pages + i * PAGE_SIZE, (int)i + 1, PAGE_SIZE);
}

/* Both ends in one process: the PFN is the page in this process's arena. */
static void
t_loopback(struct t_backend *b)
{
	b->pages = vmb_arena_alloc(vmb_arena_process(), T_PAGES);
	assert_non_null(b->pages);
	b->first_pfn = vmb_arena_gpa(vmb_arena_process(), b->pages) / PAGE_SIZE;
	b->scattered_can_be_mapped = b->writable = true;
	t_fill(b->pages);
}

static void
t_peer(struct t_backend *b, uint64_t gpa, bool with_file, bool read_only)
{
	const int fd = memfd_create("t_backend", MFD_CLOEXEC);
	struct vmb_region region = {
		.gpa = gpa,
		.bytes = T_PAGES * PAGE_SIZE,
		.fd = with_file ? fd : -1,
		.read_only = read_only,
		.owned = true,
	};

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)region.bytes), 0);
	region.host = mmap(NULL, region.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	assert_ptr_not_equal(region.host, MAP_FAILED);
	t_fill(region.host);
	assert_int_equal(vmb_mem_create(&b->mem), VMB_OK);
	assert_int_equal(vmb_mem_add_region(b->mem, &region), VMB_OK);
	if (!with_file)
		close(fd);
	b->pages = region.host;
	b->first_pfn = gpa / PAGE_SIZE;
	b->scattered_can_be_mapped = with_file;
	b->writable = !read_only;
}

/* What a VMM maps of its guest: a file, anywhere in the guest's address space. */
static void
t_guest_ram(struct t_backend *b)
{
	t_peer(b, UINT64_C(0x100000000), true, false);
}

static void
t_guest_rom(struct t_backend *b)
{
	t_peer(b, UINT64_C(0xF0000000), true, true);
}

/* Memory of a device: mapped once, without a file that could be mapped again. */
static void
t_device_memory(struct t_backend *b)
{
	t_peer(b, UINT64_C(0xFE000000), false, false);
}

static void (*const t_makers[])(struct t_backend *) = { t_loopback, t_guest_ram, t_guest_rom,
	                                                 t_device_memory };

static void
t_backend_free(struct t_backend *b)
{
	if (b->mem == NULL)
		vmb_arena_free(vmb_arena_process(), b->pages);
	vmb_mem_unref(b->mem);
}

/* An MDL of these pages, as the library or MmAllocatePagesForMdlEx would make it. */
static PMDL
t_mdl(const struct t_backend *b, const uint64_t *pages, uint32_t count, bool writable)
{
	uint64_t pfns[T_PAGES];
	const struct vmb_gpa_range range = {
		.byte_count = count * PAGE_SIZE,
		.page_count = count,
		.pfns = (const uint8_t *)pfns,
	};
	PMDL mdl = malloc(nt_mdl_guest_bytes(&range));

	assert_non_null(mdl);
	for (uint32_t i = 0; i < count; i++)
		pfns[i] = b->first_pfn + pages[i];
	if (b->mem != NULL) {
		nt_mdl_init_guest(mdl, b->mem, &range, writable);
		return mdl;
	}
	MmInitializeMdl(mdl, NULL, range.byte_count);
	mdl->MdlFlags = MDL_PAGES_LOCKED | MDL_WRITE_OPERATION;
	memcpy(MmGetMdlPfnArray(mdl), pfns, count * sizeof(pfns[0]));
	return mdl;
}

static void
t_mdl_free(PMDL mdl)
{
	if ((mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) != 0)
		MmUnmapLockedPages(mdl->MappedSystemVa, mdl);
	nt_mdl_release_guest(mdl);
	free(mdl);
}

static void
mm_9_page_numbers_lead_to_the_pages_of_their_memory(void **state)
{
	static const uint64_t row[] = { 2, 3, 4 }, scattered[] = { 5, 1, 6 };

	CONF_COVERS("MM-9");
	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(t_makers); i++) {
		struct t_backend b = { .mem = NULL };
		const uint8_t *va;
		PMDL mdl;

		t_makers[i](&b);
		mdl = t_mdl(&b, row, 3, b.writable);
		va = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
		assert_non_null(va);
		assert_memory_equal(va, b.pages + 2 * PAGE_SIZE, 3 * PAGE_SIZE);
		t_mdl_free(mdl);

		mdl = t_mdl(&b, scattered, 3, b.writable);
		va = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
		if (b.scattered_can_be_mapped) {
			assert_non_null(va);
			assert_int_equal(va[0], 6);
			assert_int_equal(va[PAGE_SIZE], 2);
			assert_int_equal(va[2 * PAGE_SIZE], 7);
		} else {
			assert_null(va);
		}
		t_mdl_free(mdl);
		t_backend_free(&b);
	}
}

static void
mm_9_what_is_written_is_in_the_memory_itself(void **state)
{
	static const uint64_t scattered[] = { 7, 0 };

	CONF_COVERS("MM-9");
	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(t_makers); i++) {
		struct t_backend b = { .mem = NULL };
		uint8_t *va;
		PMDL mdl;

		t_makers[i](&b);
		mdl = t_mdl(&b, scattered, 2, true);
		va = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
		/* Read-only memory is not given for writing. */
		assert_true((va != NULL) == (b.writable && b.scattered_can_be_mapped));
		if (va != NULL) {
			va[PAGE_SIZE + 5] = 0x77;
			assert_int_equal(b.pages[5], 0x77);
		}
		t_mdl_free(mdl);
		t_backend_free(&b);
	}
}

static void
mm_9_page_numbers_outside_the_memory_are_never_guessed(void **state)
{
	CONF_COVERS("MM-9");
	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(t_makers); i++) {
		struct t_backend b = { .mem = NULL };
		const uint64_t beyond[] = {
			T_PAGES,
			UINT64_MAX - b.first_pfn,
			UINT64_C(1) << 40,
		};

		t_makers[i](&b);
		for (size_t n = b.mem == NULL; n < ARRAYSIZE(beyond); n++) {
			const uint64_t pages[] = { 0, beyond[n] };
			PMDL mdl = t_mdl(&b, pages, 2, false);

			/* The own arena goes on behind the 8 pages, but not for ever. */
			if (b.mem == NULL)
				MmGetMdlPfnArray(mdl)[1] =
				    vmb_arena_bytes(vmb_arena_process()) / PAGE_SIZE + n;
			assert_null(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority));
			t_mdl_free(mdl);
		}
		t_backend_free(&b);
	}
}

static uint64_t
t_pins(void)
{
	struct vmb_arena_stats stats;

	vmb_arena_get_stats(vmb_arena_process(), &stats);
	return stats.pins;
}

static void
mm_9_locking_translates_and_pins_until_it_is_undone(void **state)
{
	const uint64_t before = t_pins();
	uint8_t *block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 3 * PAGE_SIZE, 'tseT');
	PMDL mdl = IoAllocateMdl(block + 10, 2 * PAGE_SIZE, FALSE, FALSE, NULL);

	CONF_COVERS("MM-9, MM-4");
	(void)state;
	assert_int_equal(KmclProbeAndLockPages(mdl, KernelMode, IoWriteAccess), STATUS_SUCCESS);
	assert_int_equal(t_pins(), before + 1);
	for (uint32_t i = 0; i < 3; i++) {
		const PHYSICAL_ADDRESS address = MmGetPhysicalAddress(block + i * PAGE_SIZE);

		assert_int_equal(MmGetMdlPfnArray(mdl)[i], address.QuadPart / PAGE_SIZE);
		assert_ptr_equal(MmGetVirtualForPhysical(address), block + i * PAGE_SIZE);
	}
	MmUnlockPages(mdl);
	assert_int_equal(t_pins(), before);
	IoFreeMdl(mdl);
	ExFreePool(block);
}

static void
mm_9_memory_that_does_not_exist_is_not_locked(void **state)
{
	uint8_t *gone = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int local = 1;
	PMDL mdl;

	CONF_COVERS("MM-9");
	(void)state;
	munmap(gone, PAGE_SIZE);
	mdl = IoAllocateMdl(gone, PAGE_SIZE, FALSE, FALSE, NULL);
	assert_int_equal(KmclProbeAndLockPages(mdl, KernelMode, IoReadAccess),
			 STATUS_ACCESS_VIOLATION);
	assert_int_equal(mdl->MdlFlags & MDL_PAGES_LOCKED, 0);
	IoFreeMdl(mdl);
	/* Nor has what is not shared a physical address. */
	assert_true(MmGetPhysicalAddress(&local).QuadPart == 0);
	assert_true(MmGetPhysicalAddress(gone).QuadPart == 0);
	assert_null(MmGetVirtualForPhysical((PHYSICAL_ADDRESS){ .QuadPart = 0 }));
	assert_null(MmGetVirtualForPhysical((PHYSICAL_ADDRESS){ .QuadPart = INT64_MAX }));
	assert_true(MmIsAddressValid(&local));
	assert_false(MmIsAddressValid(gone));
}

/* ---- protection ------------------------------------------------------------------------------ */

static void
mm_5_a_mapping_can_be_made_read_only(void **state)
{
	static const uint64_t scattered[] = { 7, 0 }, row[] = { 1, 2 };
	struct t_backend b = { .mem = NULL };
	uint8_t *va;
	int status;
	pid_t child;
	PMDL mdl;

	CONF_COVERS("MM-5");
	(void)state;
	t_guest_ram(&b);
	mdl = t_mdl(&b, scattered, 2, true);
	assert_int_equal(MmProtectMdlSystemAddress(mdl, PAGE_READONLY), STATUS_NOT_MAPPED_VIEW);
	va = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
	assert_int_equal(MmProtectMdlSystemAddress(mdl, PAGE_READONLY), STATUS_SUCCESS);
	assert_int_equal(va[0], 8);
	child = fork();
	if (child == 0) {
		signal(SIGSEGV, SIG_DFL);
		signal(SIGBUS, SIG_DFL);
		*(volatile uint8_t *)va = 1;
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_not_equal(status, 0);
	assert_int_equal(MmProtectMdlSystemAddress(mdl, PAGE_READWRITE), STATUS_SUCCESS);
	va[0] = 1;
	assert_int_equal(MmProtectMdlSystemAddress(mdl, PAGE_NOACCESS),
			 STATUS_INVALID_PAGE_PROTECTION);
	t_mdl_free(mdl);

	/* Others use the same address. */
	mdl = t_mdl(&b, row, 2, true);
	assert_non_null(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority));
	assert_int_equal(MmProtectMdlSystemAddress(mdl, PAGE_READONLY), STATUS_NOT_SUPPORTED);
	t_mdl_free(mdl);

	/* What the peer gave for reading stays that. */
	mdl = t_mdl(&b, scattered, 2, false);
	assert_non_null(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority));
	assert_int_equal(MmProtectMdlSystemAddress(mdl, PAGE_READWRITE),
			 STATUS_INVALID_PAGE_PROTECTION);
	t_mdl_free(mdl);
	t_backend_free(&b);
}

static void
mm_5_pool_memory_cannot_be_protected(void **state)
{
	PVOID block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 100, 'tseT');
	PMDL mdl = IoAllocateMdl(block, 100, FALSE, FALSE, NULL);

	CONF_COVERS("MM-5");
	(void)state;
	MmBuildMdlForNonPagedPool(mdl);
	assert_int_equal(MmProtectMdlSystemAddress(mdl, PAGE_READONLY), STATUS_NOT_SUPPORTED);
	IoFreeMdl(mdl);
	ExFreePool(block);
}

/* ---- contiguous memory ----------------------------------------------------------------------- */

static const PHYSICAL_ADDRESS t_anywhere = { .QuadPart = INT64_MAX };
static const PHYSICAL_ADDRESS t_zero;

static void
mm_9_contiguous_memory_is_one_run_of_page_numbers(void **state)
{
	uint8_t *base = MmAllocateContiguousMemory(3 * PAGE_SIZE + 1, t_anywhere);
	PHYSICAL_ADDRESS first;

	CONF_COVERS("MM-9");
	(void)state;
	assert_non_null(base);
	assert_int_equal((uintptr_t)base % PAGE_SIZE, 0);
	first = MmGetPhysicalAddress(base);
	assert_true(first.QuadPart != 0);
	for (int i = 0; i < 4; i++)
		assert_true(MmGetPhysicalAddress(base + i * PAGE_SIZE).QuadPart ==
			    first.QuadPart + i * PAGE_SIZE);
	memset(base, 1, 3 * PAGE_SIZE + 1);
	MmFreeContiguousMemory(base);
	/* Less than a page is a page. */
	base = MmAllocateContiguousMemory(10, t_anywhere);
	assert_int_equal((uintptr_t)base % PAGE_SIZE, 0);
	MmFreeContiguousMemorySpecifyCache(base, 10, MmCached);
	assert_null(MmAllocateContiguousMemory(0, t_anywhere));
	assert_null(MmAllocateContiguousMemory(SIZE_MAX, t_anywhere));
}

static void
mm_9_contiguous_memory_respects_its_bounds(void **state)
{
	const PHYSICAL_ADDRESS low = { .QuadPart = 0x1000 }, page = { .QuadPart = PAGE_SIZE },
			       large = { .QuadPart = INT64_C(1) << 40 };
	const size_t before = nt_pool_report_leaks(stderr);
	PVOID base;

	CONF_COVERS("MM-9");
	(void)state;
	assert_null(MmAllocateContiguousMemory(PAGE_SIZE, low));
	assert_null(MmAllocateContiguousMemorySpecifyCache(PAGE_SIZE, t_anywhere, t_anywhere,
							   t_zero, MmCached));
	assert_null(MmAllocateContiguousMemorySpecifyCache(2 * PAGE_SIZE, t_zero, t_anywhere, page,
							   MmCached));
	base = MmAllocateContiguousMemorySpecifyCache(2 * PAGE_SIZE, t_zero, t_anywhere, large,
						      MmCached);
	assert_non_null(base);
	MmFreeContiguousMemory(base);
	assert_int_equal(nt_pool_report_leaks(stderr), before);
}

static void
mm_9_freeing_what_is_not_contiguous_memory_is_misuse(void **state)
{
	PVOID block = ExAllocatePool2(POOL_FLAG_NON_PAGED, PAGE_SIZE, 'tseT');
	PVOID base = MmAllocateContiguousMemory(1, t_anywhere);

	CONF_COVERS("MM-9, KE-5");
	(void)state;
	assert_misuse(MmFreeContiguousMemory(block));
	MmFreeContiguousMemory(base);
	assert_misuse(MmFreeContiguousMemory(base));
	ExFreePool(block);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mm_9_page_numbers_lead_to_the_pages_of_their_memory),
		cmocka_unit_test(mm_9_what_is_written_is_in_the_memory_itself),
		cmocka_unit_test(mm_9_page_numbers_outside_the_memory_are_never_guessed),
		cmocka_unit_test(mm_9_locking_translates_and_pins_until_it_is_undone),
		cmocka_unit_test(mm_9_memory_that_does_not_exist_is_not_locked),
		cmocka_unit_test(mm_5_a_mapping_can_be_made_read_only),
		cmocka_unit_test(mm_5_pool_memory_cannot_be_protected),
		cmocka_unit_test(mm_9_contiguous_memory_is_one_run_of_page_numbers),
		cmocka_unit_test(mm_9_contiguous_memory_respects_its_bounds),
		cmocka_unit_test(mm_9_freeing_what_is_not_contiguous_memory_is_misuse),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
