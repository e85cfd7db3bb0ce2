/* SPDX-License-Identifier: MIT */
/*
 * Addresses for MDLs. Pages that lie side by side in this process already have one; others get a
 * second mapping of the file behind them, which is kept in a side record until the MDL is
 * unmapped.
 *
 * PFNs of a peer's MDL are the peer's choice and are checked here, by the address space that they
 * belong to.
 */
#include "nt/nt_mdl_map.h"

#include <stdlib.h>
#include <sys/mman.h>

#include "nt/nt_mdl.h"
#include "nt/nt_mdl_side.h"
#include "nt/nt_misuse.h"
#include "nt/nt_thread.h"
#include "wdm.h"

/* PFNs are little-endian u64 in a vmb_gpa_range. */
NT_STATIC_ASSERT(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ && sizeof(PFN_NUMBER) == 8,
		 "PFN arrays are used as they are");

#define MDL_HAS_ADDRESS (MDL_MAPPED_TO_SYSTEM_VA | MDL_SOURCE_IS_NONPAGED_POOL)

static unsigned
mdl_flags(const MDL *mdl)
{
	/*
	 * Acquire: pairs with the release in mdl_map_locked(); the address is there when the flag
	 * is.
	 */
	return (unsigned short)__atomic_load_n(&mdl->MdlFlags, __ATOMIC_ACQUIRE);
}

/* Of a page of this process; NULL for a PFN outside the arena. */
static uint8_t *
own_page(struct vmb_arena *arena, PFN_NUMBER pfn)
{
	if (nt_pfn_is_foreign(pfn))
		return nt_pfn_foreign_va(pfn);
	return pfn < vmb_arena_bytes(arena) / PAGE_SIZE ? vmb_arena_host(arena, pfn << PAGE_SHIFT)
							: NULL;
}

/* The address of an MDL of this process whose pages are consecutive, else NULL. */
static uint8_t *
own_pages_contiguous(const MDL *mdl)
{
	struct vmb_arena *arena = vmb_arena_process();
	const PFN_NUMBER *pfns = MmGetMdlPfnArray(mdl);
	const uint32_t pages = nt_mdl_pages(mdl);
	uint8_t *first;

	if (pages == 0)
		return MmGetMdlVirtualAddress(mdl);
	first = own_page(arena, pfns[0]);
	if (first == NULL)
		return NULL;
	for (uint32_t i = 1; i < pages; i++) {
		if (own_page(arena, pfns[i]) != first + (size_t)i * PAGE_SIZE)
			return NULL;
	}
	return first + mdl->ByteOffset;
}

static void *
mdl_map_view(PMDL mdl, struct vmb_mem *mem, bool writable)
{
	const struct vmb_gpa_range range = {
		.byte_count = mdl->ByteCount,
		.byte_offset = mdl->ByteOffset,
		.page_count = nt_mdl_pages(mdl),
		.pfns = (const uint8_t *)MmGetMdlPfnArray(mdl),
	};
	/* It lives as long as the space, and so as the MDL. */
	void *host = nt_mdl_is_one_run(mdl) ? vmb_mem_run_address(mem, &range, writable)
	                                    : vmb_mem_address(mem, &range, writable);
	struct nt_mdl_side *side;
	struct vmb_view view;

	if (host != NULL)
		return host;
	if (vmb_mem_map(mem, &range, writable, &view) != VMB_OK)
		return NULL;
	host = view.host;
	if (view.window == NULL) {
		/* Side by side, in several regions. */
		vmb_mem_unmap(&view);
		return host;
	}
	side = nt_mdl_side_new(NT_MDL_SIDE_WINDOW, 0);
	if (side == NULL) {
		vmb_mem_unmap(&view);
		return NULL;
	}
	side->view = view;
	nt_mdl_side_insert(side, mdl);
	return host;
}

static void *
mdl_map_locked(PMDL mdl, bool may_write)
{
	const unsigned flags = mdl_flags(mdl);
	void *va;

	if ((flags & MDL_HAS_ADDRESS) != 0)
		return mdl->MappedSystemVa;
	if (mdl->Process != NULL)
		va = mdl_map_view(mdl, (struct vmb_mem *)mdl->Process,
		                  may_write && (flags & MDL_WRITE_OPERATION) != 0);
	else if ((va = own_pages_contiguous(mdl)) == NULL)
		va = mdl_map_view(mdl, vmb_arena_mem(vmb_arena_process()), may_write);
	if (va == NULL)
		return NULL;
	mdl->MappedSystemVa = va;
	__atomic_store_n(&mdl->MdlFlags,
	                 (CSHORT)(flags | MDL_MAPPED_TO_SYSTEM_VA |
	                          ((flags & MDL_PARTIAL) != 0 ? MDL_PARTIAL_HAS_BEEN_MAPPED : 0)),
	                 __ATOMIC_RELEASE);
	return va;
}

PVOID
MmMapLockedPagesSpecifyCache(PMDL mdl, KPROCESSOR_MODE mode, MEMORY_CACHING_TYPE cache,
			     PVOID requested, ULONG bug_check_on_failure, ULONG priority)
{
	PVOID va;

	UNREFERENCED_PARAMETER(mode);
	UNREFERENCED_PARAMETER(cache);
	nt_irql_check_at_most(DISPATCH_LEVEL, "MmMapLockedPagesSpecifyCache");
	if (requested != NULL) {
		nt_misuse("MmMapLockedPagesSpecifyCache at a fixed address is not supported; pass "
			  "NULL");
		return NULL;
	}
	if (!nt_mdl_is_built(mdl)) {
		nt_misuse("MmMapLockedPagesSpecifyCache of MDL %p, which is neither built nor "
			  "locked; call MmBuildMdlForNonPagedPool or MmProbeAndLockPages first",
			  (void *)mdl);
		return NULL;
	}
	nt_mdl_map_lock(mdl);
	va = mdl_map_locked(mdl, (priority & MdlMappingNoWrite) == 0);
	nt_mdl_map_unlock(mdl);
	if (va == NULL && bug_check_on_failure != 0)
		nt_misuse("MmMapLockedPagesSpecifyCache: MDL %p cannot be mapped, a bug check on "
			  "Windows; pass FALSE as BugCheckOnFailure and expect NULL",
			  (void *)mdl);
	return va;
}

PVOID
MmGetSystemAddressForMdlSafe(PMDL mdl, ULONG priority)
{
	if ((mdl_flags(mdl) & MDL_HAS_ADDRESS) != 0)
		return mdl->MappedSystemVa;
	return MmMapLockedPagesSpecifyCache(mdl, KernelMode, MmCached, NULL, FALSE, priority);
}

/* The MDL has no mapping any more; the window that it had, if any, is the caller's to end. */
static struct nt_mdl_side *
forget_mapping(PMDL mdl)
{
	struct nt_mdl_side *side = NULL;
	unsigned flags = mdl_flags(mdl);

	if ((flags & (MDL_MAPPED_TO_SYSTEM_VA | MDL_PARENT_MAPPED_SYSTEM_VA)) ==
	    MDL_MAPPED_TO_SYSTEM_VA)
		side = nt_mdl_side_take(mdl, NT_MDL_SIDE_WINDOW);
	flags &= ~(unsigned)(MDL_MAPPED_TO_SYSTEM_VA | MDL_PARENT_MAPPED_SYSTEM_VA |
			     MDL_PARTIAL_HAS_BEEN_MAPPED);
	if ((flags & MDL_SOURCE_IS_NONPAGED_POOL) == 0)
		mdl->MappedSystemVa = NULL;
	__atomic_store_n(&mdl->MdlFlags, (CSHORT)flags, __ATOMIC_RELEASE);
	return side;
}

static void
end_window(struct nt_mdl_side *side)
{
	if (side == NULL)
		return;
	vmb_mem_unmap(&side->view);
	free(side);
}

void
nt_mdl_unmap(PMDL mdl)
{
	struct nt_mdl_side *side;

	/* Common: never mapped. */
	if ((mdl_flags(mdl) & MDL_MAPPED_TO_SYSTEM_VA) == 0)
		return;
	nt_mdl_map_lock(mdl);
	side = forget_mapping(mdl);
	nt_mdl_map_unlock(mdl);
	end_window(side);
}

void
nt_mdl_unmap_last(PMDL mdl)
{
	if ((mdl_flags(mdl) & MDL_MAPPED_TO_SYSTEM_VA) != 0)
		end_window(forget_mapping(mdl));
}

/* Of a mapping that only this MDL has. */
static NTSTATUS
protect_window(PMDL mdl, bool writable)
{
	struct nt_mdl_side *side = nt_mdl_side_take(mdl, NT_MDL_SIDE_WINDOW);
	int result;

	if (side == NULL)
		return STATUS_NOT_SUPPORTED;
	result = mprotect(side->view.window, side->view.window_bytes,
			  writable ? PROT_READ | PROT_WRITE : PROT_READ);
	nt_mdl_side_insert(side, mdl);
	return result == 0 ? STATUS_SUCCESS : STATUS_INVALID_PAGE_PROTECTION;
}

NTSTATUS
MmProtectMdlSystemAddress(PMDL mdl, ULONG protection)
{
	const bool writable =
	    protection == PAGE_READWRITE || protection == PAGE_EXECUTE_READWRITE;
	NTSTATUS status;
	unsigned flags;

	nt_irql_check_at_most(DISPATCH_LEVEL, "MmProtectMdlSystemAddress");
	nt_mdl_map_lock(mdl);
	flags = mdl_flags(mdl);
	if (!writable && protection != PAGE_READONLY && protection != PAGE_EXECUTE_READ)
		status = STATUS_INVALID_PAGE_PROTECTION;
	else if ((flags & MDL_PARENT_MAPPED_SYSTEM_VA) != 0 ||
		 (flags & MDL_SOURCE_IS_NONPAGED_POOL) != 0)
		status = STATUS_NOT_SUPPORTED;
	else if ((flags & MDL_MAPPED_TO_SYSTEM_VA) == 0)
		status = STATUS_NOT_MAPPED_VIEW;
	else if (writable && mdl->Process != NULL && (flags & MDL_WRITE_OPERATION) == 0)
		status = STATUS_INVALID_PAGE_PROTECTION;
	else
		status = protect_window(mdl, writable);
	nt_mdl_map_unlock(mdl);
	return status;
}

VOID
MmUnmapLockedPages(PVOID va, PMDL mdl)
{
	nt_irql_check_at_most(DISPATCH_LEVEL, "MmUnmapLockedPages");
	if ((mdl_flags(mdl) & MDL_MAPPED_TO_SYSTEM_VA) == 0 || va != mdl->MappedSystemVa) {
		nt_misuse("MmUnmapLockedPages: %p is not the mapping of MDL %p; unmap what mapping it "
			  "returned, once",
			  va, (void *)mdl);
		return;
	}
	nt_mdl_unmap(mdl);
}
