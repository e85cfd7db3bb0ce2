/* SPDX-License-Identifier: MIT */
/*
 * MDLs of a peer's memory, as the library hands them to drivers (MM-5, MM-7, MM-9).
 */
#include "t_nt.h"

#include "nt/nt_mdl.h"

/* A peer with 16 pages. Page n is filled with n. */
struct t_peer {
	struct vmb_arena *ram;
	uint8_t *pages;
	uint64_t first_pfn;
};

static void
t_peer_make(struct t_peer *peer)
{
	assert_int_equal(vmb_arena_create(32 * PAGE_SIZE, &peer->ram), VMB_OK);
	peer->pages = vmb_arena_alloc(peer->ram, 16);
	assert_non_null(peer->pages);
	peer->first_pfn = vmb_arena_gpa(peer->ram, peer->pages) / PAGE_SIZE;
	for (int i = 0; i < 16; i++)
		memset(peer->pages + (size_t)i * PAGE_SIZE, i, PAGE_SIZE);
}

static void
t_peer_free(struct t_peer *peer)
{
	vmb_arena_free(peer->ram, peer->pages);
	vmb_arena_destroy(peer->ram);
}

/* An MDL of the peer's pages with these numbers; the caller frees it. */
static PMDL
t_guest_mdl(struct t_peer *peer, const uint64_t *pages, uint32_t count, uint32_t offset,
	    uint32_t bytes, bool writable)
{
	uint64_t pfns[16];
	const struct vmb_gpa_range range = {
		.byte_count = bytes,
		.byte_offset = offset,
		.page_count = count,
		.pfns = (const uint8_t *)pfns,
	};
	PMDL mdl = malloc(nt_mdl_guest_bytes(&range));

	assert_non_null(mdl);
	for (uint32_t i = 0; i < count; i++)
		pfns[i] = peer->first_pfn + pages[i];
	memset(mdl, 0xA5, nt_mdl_guest_bytes(&range));
	nt_mdl_init_guest(mdl, vmb_arena_mem(peer->ram), &range, writable);
	/* The numbers are copied. */
	memset(pfns, 0, sizeof(pfns));
	return mdl;
}

static void
mm_7_guest_mdl_is_locked_and_not_mapped(void **state)
{
	static const uint64_t pages[] = { 3, 4 };
	struct t_peer peer;
	PMDL mdl;

	CONF_COVERS("MM-7");
	(void)state;
	t_peer_make(&peer);
	mdl = t_guest_mdl(&peer, pages, 2, 100, PAGE_SIZE, true);
	assert_int_equal(mdl->MdlFlags, MDL_PAGES_LOCKED | MDL_WRITE_OPERATION);
	assert_null(mdl->MappedSystemVa);
	assert_null(mdl->Next);
	assert_int_equal(mdl->ByteOffset, 100);
	assert_int_equal(mdl->ByteCount, PAGE_SIZE);
	assert_int_equal(mdl->Size, 64);
	assert_ptr_equal(mdl->Process, vmb_arena_mem(peer.ram));
	assert_int_equal(MmGetMdlPfnArray(mdl)[0], peer.first_pfn + 3);
	assert_int_equal(MmGetMdlPfnArray(mdl)[1], peer.first_pfn + 4);
	assert_true(nt_mdl_is_built(mdl));
	assert_misuse(MmUnlockPages(mdl));
	assert_misuse(IoFreeMdl(mdl));
	nt_mdl_release_guest(mdl);
	nt_mdl_release_guest(mdl);
	free(mdl);
	t_peer_free(&peer);
}

static void
mm_5_consecutive_pages_need_no_second_mapping(void **state)
{
	static const uint64_t pages[] = { 3, 4 };
	struct t_peer peer;
	PMDL mdl;

	CONF_COVERS("MM-5");
	(void)state;
	t_peer_make(&peer);
	mdl = t_guest_mdl(&peer, pages, 2, 100, PAGE_SIZE, true);
	assert_ptr_equal(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority),
	                 peer.pages + 3 * PAGE_SIZE + 100);
	nt_mdl_release_guest(mdl);
	assert_null(mdl->MappedSystemVa);
	free(mdl);
	t_peer_free(&peer);
}

/* Who has looked at the pages says that they are a run, and nobody looks again: also not at those of a part. */
static void
mm_5_run_of_pages_is_mapped_by_its_first(void **state)
{
	static const uint64_t pages[] = { 3, 4, 5, 6 };
	PMDL part = IoAllocateMdl(NULL, 4 * PAGE_SIZE, FALSE, FALSE, NULL);
	struct t_peer peer;
	const uint8_t *va;
	PMDL mdl;

	CONF_COVERS("MM-5");
	(void)state;
	t_peer_make(&peer);
	for (int writable = 0; writable <= 1; writable++) {
		mdl = t_guest_mdl(&peer, pages, 4, 100, 3 * PAGE_SIZE, writable != 0);
		assert_false(nt_mdl_is_one_run(mdl));
		nt_mdl_set_one_run(mdl);
		IoBuildPartialMdl(mdl, part, (PVOID)((ULONG_PTR)MmGetMdlVirtualAddress(mdl) + 2 * PAGE_SIZE), 16);
		MmGetMdlPfnArray(mdl)[1] = 0;
		va = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
		assert_non_null(va);
		assert_int_equal(writable, va == peer.pages + 3 * PAGE_SIZE + 100);
		assert_int_equal(va[PAGE_SIZE], 4);
		va = MmGetSystemAddressForMdlSafe(part, NormalPagePriority);
		assert_non_null(va);
		assert_int_equal(writable, va == peer.pages + 5 * PAGE_SIZE + 100);
		assert_int_equal(va[0], 5);
		MmUnmapLockedPages((PVOID)(ULONG_PTR)va, part);
		nt_mdl_release_guest(mdl);
		free(mdl);
	}
	/* That it is one is not enough: it has to be the peer's. */
	mdl = t_guest_mdl(&peer, (const uint64_t[]){ 1000 }, 1, 0, PAGE_SIZE, true);
	nt_mdl_set_one_run(mdl);
	assert_null(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority));
	nt_mdl_release_guest(mdl);
	free(mdl);
	IoFreeMdl(part);
	t_peer_free(&peer);
}

static void
mm_5_scattered_pages_appear_in_order(void **state)
{
	static const uint64_t pages[] = { 7, 2, 11 };
	struct t_peer peer;
	uint8_t *va;
	PMDL mdl;

	CONF_COVERS("MM-5");
	(void)state;
	t_peer_make(&peer);
	mdl = t_guest_mdl(&peer, pages, 3, 4095, 2 + PAGE_SIZE, true);
	va = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
	assert_non_null(va);
	assert_int_equal(va[0], 7);
	assert_int_equal(va[1], 2);
	assert_int_equal(va[PAGE_SIZE], 2);
	assert_int_equal(va[PAGE_SIZE + 1], 11);
	va[0] = 0xEE;
	assert_int_equal(peer.pages[8 * PAGE_SIZE - 1], 0xEE);
	nt_mdl_release_guest(mdl);
	free(mdl);
	t_peer_free(&peer);
}

static void
mm_5_page_numbers_of_a_hostile_peer_cannot_be_mapped(void **state)
{
	static const uint64_t bad[] = { 1000, UINT64_C(1) << 51, UINT64_C(1) << 52,
					UINT64_MAX / 2 };
	struct t_peer peer;

	CONF_COVERS("MM-5");
	(void)state;
	t_peer_make(&peer);
	for (size_t i = 0; i < ARRAYSIZE(bad); i++) {
		const uint64_t pages[] = { 1, bad[i] };
		PMDL mdl = t_guest_mdl(&peer, pages, 2, 0, 2 * PAGE_SIZE, true);

		assert_null(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority));
		assert_int_equal(mdl->MdlFlags, MDL_PAGES_LOCKED | MDL_WRITE_OPERATION);
		nt_mdl_release_guest(mdl);
		free(mdl);
	}
	t_peer_free(&peer);
}

static void
mm_5_memory_of_a_peer_outlives_it_while_it_is_held(void **state)
{
	static const uint64_t pages[] = { 9 };
	struct vmb_mem *memory;
	struct t_peer peer;
	uint8_t *va;
	PMDL mdl;

	(void)state;
	t_peer_make(&peer);
	memory = vmb_arena_mem(peer.ram);
	vmb_mem_ref(memory);
	mdl = t_guest_mdl(&peer, pages, 1, 0, PAGE_SIZE, false);
	t_peer_free(&peer);
	va = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
	assert_non_null(va);
	assert_int_equal(va[0], 9);
	nt_mdl_release_guest(mdl);
	free(mdl);
	vmb_mem_unref(memory);
}

static void
mm_3_part_of_a_guest_mdl_is_a_guest_mdl(void **state)
{
	static const uint64_t pages[] = { 7, 2, 11 };
	PMDL part = IoAllocateMdl(NULL, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
	struct t_peer peer;
	uint8_t *va;
	PMDL mdl;

	CONF_COVERS("MM-3");
	(void)state;
	t_peer_make(&peer);
	mdl = t_guest_mdl(&peer, pages, 3, 10, 2 * PAGE_SIZE, true);
	IoBuildPartialMdl(mdl, part, (PVOID)((ULONG_PTR)MmGetMdlVirtualAddress(mdl) + PAGE_SIZE), 0);
	assert_ptr_equal(part->Process, mdl->Process);
	assert_int_equal(part->ByteCount, PAGE_SIZE);
	va = MmGetSystemAddressForMdlSafe(part, NormalPagePriority);
	assert_non_null(va);
	assert_int_equal(va[0], 2);
	assert_int_equal(va[PAGE_SIZE - 1], 11);
	assert_true((part->MdlFlags & MDL_PARTIAL_HAS_BEEN_MAPPED) != 0);
	IoFreeMdl(part);
	nt_mdl_release_guest(mdl);
	free(mdl);
	t_peer_free(&peer);
}

static void *
t_map(void *context)
{
	uint8_t *va = MmGetSystemAddressForMdlSafe(context, NormalPagePriority);

	return va != NULL && va[0] == 7 ? va : NULL;
}

static void
mm_5_threads_that_map_at_once_get_one_mapping(void **state)
{
	static const uint64_t pages[] = { 7, 2, 11 };
	struct t_peer peer;

	CONF_COVERS("MM-5");
	(void)state;
	t_peer_make(&peer);
	for (int round = 0; round < 50; round++) {
		PMDL mdl = t_guest_mdl(&peer, pages, 3, 0, 3 * PAGE_SIZE, true);
		pthread_t threads[3];
		void *va[3];

		for (int i = 0; i < 3; i++)
			threads[i] = t_thread(t_map, mdl);
		for (int i = 0; i < 3; i++)
			assert_int_equal(pthread_join(threads[i], &va[i]), 0);
		assert_non_null(va[0]);
		assert_ptr_equal(va[0], va[1]);
		assert_ptr_equal(va[0], va[2]);
		nt_mdl_release_guest(mdl);
		free(mdl);
	}
	t_peer_free(&peer);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(mm_7_guest_mdl_is_locked_and_not_mapped),
		cmocka_unit_test(mm_5_consecutive_pages_need_no_second_mapping),
		cmocka_unit_test(mm_5_run_of_pages_is_mapped_by_its_first),
		cmocka_unit_test(mm_5_scattered_pages_appear_in_order),
		cmocka_unit_test(mm_5_page_numbers_of_a_hostile_peer_cannot_be_mapped),
		cmocka_unit_test(mm_5_memory_of_a_peer_outlives_it_while_it_is_held),
		cmocka_unit_test(mm_3_part_of_a_guest_mdl_is_a_guest_mdl),
		cmocka_unit_test(mm_5_threads_that_map_at_once_get_one_mapping),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
