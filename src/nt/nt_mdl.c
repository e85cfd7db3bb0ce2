/* SPDX-License-Identifier: MIT */
/*
 * MDLs: making them, building and locking them, and the MDLs that the library makes for a peer's
 * memory. Mapping is in nt_mdl_map.c, page allocation in nt_mdl_pages.c.
 *
 * The page count always comes from ByteOffset and ByteCount, because Size has 16 bits only.
 */
#include "nt/nt_mdl.h"

#include <limits.h>
#include <stdlib.h>

#include "nt/nt_mdl_map.h"
#include "nt/nt_mdl_side.h"
#include "nt/nt_misuse.h"
#include "nt/nt_probe.h"
#include "nt/nt_thread.h"
#include "wdm.h"
#include "wire/page_list.h"

#define MDL_PFNS_MAX ((SHRT_MAX - sizeof(MDL)) / sizeof(PFN_NUMBER))

SIZE_T
MmSizeOfMdl(PVOID base, SIZE_T length)
{
	return sizeof(MDL) + sizeof(PFN_NUMBER) *
				 (SIZE_T)((BYTE_OFFSET(base) + length + PAGE_SIZE - 1) / PAGE_SIZE);
}

PMDL
IoAllocateMdl(PVOID va, ULONG length, BOOLEAN secondary, BOOLEAN charge_quota, PIRP irp)
{
	PMDL mdl;

	UNREFERENCED_PARAMETER(charge_quota);
	nt_irql_check_at_most(DISPATCH_LEVEL, "IoAllocateMdl");
	/* Private memory: an MDL holds pointers, and a peer could write to the pool. */
	mdl = malloc(MmSizeOfMdl(va, length));
	if (mdl == NULL)
		return NULL;
	MmInitializeMdl(mdl, va, length);
	if (irp != NULL && secondary) {
		PMDL *last = &irp->MdlAddress;

		while (*last != NULL)
			last = &(*last)->Next;
		*last = mdl;
	} else if (irp != NULL) {
		irp->MdlAddress = mdl;
	}
	return mdl;
}

/* Flags that say how the memory of an MDL came to be; they survive a new use. */
#define MDL_FLAGS_KEPT (MDL_ALLOCATED_FIXED_SIZE | MDL_ALLOCATED_MUST_SUCCEED)

static void
mdl_reset_flags(PMDL mdl, unsigned add)
{
	mdl->MdlFlags = (CSHORT)((mdl->MdlFlags & MDL_FLAGS_KEPT) | (CSHORT)add);
}

VOID
IoFreeMdl(PMDL mdl)
{
	if (mdl == NULL)
		return;
	nt_irql_check_at_most(DISPATCH_LEVEL, "IoFreeMdl");
	/* As lenient as Windows, where both calls end in the pool. */
	if (nt_mdl_free_pages_mdl(mdl))
		return;
	if (mdl->Process != NULL && (mdl->MdlFlags & MDL_PARTIAL) == 0) {
		nt_misuse("IoFreeMdl of %p, which the library handed out; complete its packet or "
			  "unmap its GPADL instead",
			  (void *)mdl);
		return;
	}
	if ((mdl->MdlFlags & MDL_PAGES_LOCKED) != 0) {
		nt_misuse("IoFreeMdl of %p, whose pages are still locked; call MmUnlockPages first",
			  (void *)mdl);
		MmUnlockPages(mdl);
	}
	nt_mdl_unmap(mdl);
	free(mdl);
}

VOID
MmPrepareMdlForReuse(PMDL mdl)
{
	nt_mdl_unmap(mdl);
}

/* ---- this process's memory ------------------------------------------------------------------- */

static void
mdl_fill_pfns(PMDL mdl)
{
	struct vmb_arena *arena = vmb_arena_process();
	PPFN_NUMBER pfns = MmGetMdlPfnArray(mdl);
	/* Not a pointer: the last page of memory has no address behind it. */
	uintptr_t page = (uintptr_t)mdl->StartVa;

	for (uint32_t i = 0, pages = nt_mdl_pages(mdl); i < pages; i++, page += PAGE_SIZE) {
		if (vmb_arena_contains(arena, (const void *)page, 1))
			pfns[i] = vmb_arena_gpa(arena, (const void *)page) >> PAGE_SHIFT;
		else
			pfns[i] = (PFN_NUMBER)page >> PAGE_SHIFT | NT_PFN_FOREIGN;
	}
}

VOID
MmBuildMdlForNonPagedPool(PMDL mdl)
{
	nt_irql_check_at_most(DISPATCH_LEVEL, "MmBuildMdlForNonPagedPool");
	if (nt_mdl_is_built(mdl) || (mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) != 0) {
		nt_misuse("MmBuildMdlForNonPagedPool of %p, which is built, locked or mapped; build "
			  "an MDL once, and call MmPrepareMdlForReuse before the next time",
			  (void *)mdl);
		return;
	}
	mdl->Process = NULL;
	mdl_fill_pfns(mdl);
	mdl->MappedSystemVa = MmGetMdlVirtualAddress(mdl);
	mdl->MdlFlags = (CSHORT)(mdl->MdlFlags | MDL_SOURCE_IS_NONPAGED_POOL);
}

/*
 * The part of the MDL's range that lies in the arena; false if there is none. The arena is one
 * piece, so there is at most one such part.
 */
static bool
mdl_arena_part(const MDL *mdl, const struct vmb_arena *arena, uint8_t **first, uint64_t *bytes)
{
	const uintptr_t low = (uintptr_t)vmb_arena_host((struct vmb_arena *)arena, 0);
	const uintptr_t high = low + vmb_arena_bytes(arena);
	uintptr_t from = (uintptr_t)MmGetMdlVirtualAddress(mdl);
	uintptr_t to = from + mdl->ByteCount;

	from = from < low ? low : from;
	to = to > high ? high : to;
	if (from >= to)
		return false;
	*first = (uint8_t *)from;
	*bytes = to - from;
	return true;
}

NTSTATUS
KmclProbeAndLockPages(PMDL mdl, KPROCESSOR_MODE mode, LOCK_OPERATION operation)
{
	struct vmb_arena *arena = vmb_arena_process();
	unsigned flags = MDL_PAGES_LOCKED;
	uint64_t bytes;
	uint8_t *first;

	UNREFERENCED_PARAMETER(mode);
	nt_irql_check_at_most(DISPATCH_LEVEL, "MmProbeAndLockPages");
	if (mdl == NULL || nt_mdl_is_built(mdl) || (mdl->MdlFlags & MDL_MAPPED_TO_SYSTEM_VA) != 0 ||
	    (unsigned)operation > IoModifyAccess)
		return STATUS_INVALID_PARAMETER;
	if (!vmb_arena_contains(arena, MmGetMdlVirtualAddress(mdl), mdl->ByteCount) &&
	    !nt_probe(MmGetMdlVirtualAddress(mdl), mdl->ByteCount, operation != IoReadAccess))
		return STATUS_ACCESS_VIOLATION;

	if (mdl_arena_part(mdl, arena, &first, &bytes))
		vmb_arena_pin(arena, first, bytes);
	mdl->Process = NULL;
	mdl_fill_pfns(mdl);
	if (operation != IoReadAccess)
		flags |= MDL_WRITE_OPERATION;
	mdl_reset_flags(mdl, flags);
	return STATUS_SUCCESS;
}

VOID
MmProbeAndLockPages(PMDL mdl, KPROCESSOR_MODE mode, LOCK_OPERATION operation)
{
	const NTSTATUS status = KmclProbeAndLockPages(mdl, mode, operation);

	if (!NT_SUCCESS(status))
		nt_misuse(
		    "MmProbeAndLockPages of MDL %p fails with status 0x%08x, an exception on "
		    "Windows; call KmclProbeAndLockPages, which returns it",
		    (void *)mdl, (unsigned)status);
}

VOID
MmUnlockPages(PMDL mdl)
{
	struct vmb_arena *arena = vmb_arena_process();
	uint64_t bytes;
	uint8_t *first;

	nt_irql_check_at_most(DISPATCH_LEVEL, "MmUnlockPages");
	if ((mdl->MdlFlags & MDL_PAGES_LOCKED) == 0 || mdl->Process != NULL ||
	    nt_mdl_side_exists(mdl, NT_MDL_SIDE_PAGES)) {
		nt_misuse("MmUnlockPages of %p, which was not locked by MmProbeAndLockPages; unlock "
			  "once for each lock",
			  (void *)mdl);
		return;
	}
	nt_mdl_unmap(mdl);
	mdl_reset_flags(mdl, 0);
	if (mdl_arena_part(mdl, arena, &first, &bytes))
		vmb_arena_unpin(arena, first, bytes);
}

/* ---- parts ----------------------------------------------------------------------------------- */

/* Whether `target` has room for as many PFNs, as far as Size can tell. */
static bool
mdl_has_room(const MDL *target, uint32_t pages)
{
	const size_t bytes = target->Size > 0 ? (size_t)target->Size : 0;

	return bytes == SHRT_MAX || bytes >= sizeof(MDL) + (size_t)pages * sizeof(PFN_NUMBER);
}

VOID
IoBuildPartialMdl(PMDL source, PMDL target, PVOID va, ULONG length)
{
	const uintptr_t start = (uintptr_t)MmGetMdlVirtualAddress(source);
	const uintptr_t offset = (uintptr_t)va - start;
	const short mapped =
	    source->MdlFlags & (MDL_SOURCE_IS_NONPAGED_POOL | MDL_MAPPED_TO_SYSTEM_VA);
	const PFN_NUMBER *from = MmGetMdlPfnArray(source);
	PPFN_NUMBER to = MmGetMdlPfnArray(target);
	uint32_t pages;

	nt_irql_check_at_most(DISPATCH_LEVEL, "IoBuildPartialMdl");
	nt_mdl_unmap(target);
	if (!nt_mdl_is_built(source) || (uintptr_t)va < start || offset > source->ByteCount ||
	    length > source->ByteCount - offset) {
		nt_misuse(
		    "IoBuildPartialMdl: %p and %u bytes are not in MDL %p, or it is not built; "
		    "start inside a built or locked MDL and stay in it",
		    va, length, (void *)source);
		goto empty;
	}
	if (length == 0)
		length = (ULONG)(source->ByteCount - offset);
	pages = (uint32_t)vmb_gpa_pages(BYTE_OFFSET(va), length);
	if (!mdl_has_room(target, pages)) {
		nt_misuse("IoBuildPartialMdl: %u pages do not fit into MDL %p; allocate it for the "
			  "whole source",
			  pages, (void *)target);
		goto empty;
	}

	target->Process = source->Process;
	target->Reserved = nt_mdl_is_one_run(source);
	target->StartVa = PAGE_ALIGN(va);
	target->ByteOffset = BYTE_OFFSET(va);
	target->ByteCount = length;
	target->MappedSystemVa = NULL;
	mdl_reset_flags(target, MDL_PARTIAL | (unsigned)(source->MdlFlags & MDL_WRITE_OPERATION) |
	                        (unsigned)(source->MdlFlags & MDL_IO_SPACE));
	from += (source->ByteOffset + offset) / PAGE_SIZE;
	for (uint32_t i = 0; i < pages; i++)
		to[i] = from[i];
	/* A mapping of the whole serves the part, and stays the whole's to unmap. */
	if (mapped != 0) {
		target->MappedSystemVa = (uint8_t *)source->MappedSystemVa + offset;
		target->MdlFlags =
		    (CSHORT)(target->MdlFlags | mapped | MDL_PARENT_MAPPED_SYSTEM_VA);
	}
	return;

empty:
	target->ByteCount = 0;
	target->MappedSystemVa = NULL;
	mdl_reset_flags(target, 0);
}

/* ---- a peer's memory ------------------------------------------------------------------------- */

void
nt_mdl_init_guest(PMDL mdl, struct vmb_mem *mem, const struct vmb_gpa_range *range, bool writable)
{
	PPFN_NUMBER pfns = MmGetMdlPfnArray(mdl);

	mdl->Next = NULL;
	mdl->Size =
	    (CSHORT)(range->page_count <= MDL_PFNS_MAX ? nt_mdl_guest_bytes(range) : SHRT_MAX);
	mdl->MdlFlags = MDL_PAGES_LOCKED | (writable ? MDL_WRITE_OPERATION : 0);
	mdl->AllocationProcessorNumber = 0;
	mdl->Reserved = 0;
	mdl->Process = (struct _EPROCESS *)mem;
	mdl->MappedSystemVa = NULL;
	/* There is no address in this process yet; offsets count from 0. */
	mdl->StartVa = NULL;
	mdl->ByteCount = range->byte_count;
	mdl->ByteOffset = range->byte_offset;
	page_list_get(pfns, range->pfns, range->page_count);
}

void
nt_mdl_release_guest(PMDL mdl)
{
	if (mdl->Process == NULL)
		return;
	nt_mdl_unmap_last(mdl);
	mdl->Process = NULL;
	mdl->MdlFlags = 0;
}
