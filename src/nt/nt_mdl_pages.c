/* SPDX-License-Identifier: MIT */
/*
 * MDLs with pages of their own: MmAllocatePagesForMdlEx. One run of the arena if there is one of
 * that length, else as few as possible. The MDL is private memory, which ExFreePool has to
 * recognise.
 */
#include <stdlib.h>

#include "nt/nt_mdl.h"
#include "nt/nt_mdl_map.h"
#include "nt/nt_mdl_side.h"
#include "nt/nt_misuse.h"
#include "nt/nt_pool.h"
#include "nt/nt_thread.h"
#include "wdm.h"

/* ByteCount has 32 bits. */
#define PAGES_MAX ((uint32_t)(UINT32_MAX / PAGE_SIZE))

/* Take runs until `wanted` pages are there or none is left. Returns the pages found. */
static uint32_t
pages_gather(struct vmb_arena *arena, struct nt_mdl_side *side, PPFN_NUMBER pfns, uint32_t wanted,
             bool one_run)
{
	uint32_t have = 0, length = wanted;

	while (have < wanted && length != 0) {
		uint8_t *run;

		length = length < wanted - have ? length : wanted - have;
		do {
			run = vmb_arena_alloc(arena, length);
		} while (run == NULL && nt_pool_give_back());
		if (run == NULL) {
			if (one_run)
				return 0;
			length /= 2;
			continue;
		}
		side->runs[side->run_count++] = run;
		for (uint32_t i = 0; i < length; i++)
			pfns[have + i] = (vmb_arena_gpa(arena, run) >> PAGE_SHIFT) + i;
		have += length;
	}
	return have;
}

static void
pages_free(struct nt_mdl_side *side)
{
	for (uint32_t i = 0; i < side->run_count; i++)
		vmb_arena_free(vmb_arena_process(), side->runs[i]);
	side->run_count = 0;
}

static bool
pages_are_within(const PFN_NUMBER *pfns, uint32_t pages, PHYSICAL_ADDRESS low,
		 PHYSICAL_ADDRESS high)
{
	for (uint32_t i = 0; i < pages; i++) {
		const uint64_t first = (uint64_t)pfns[i] << PAGE_SHIFT;

		if (first < (uint64_t)low.QuadPart ||
		    first + (PAGE_SIZE - 1) > (uint64_t)high.QuadPart)
			return false;
	}
	return true;
}

PMDL
MmAllocatePagesForMdlEx(PHYSICAL_ADDRESS low, PHYSICAL_ADDRESS high, PHYSICAL_ADDRESS skip,
			SIZE_T bytes, MEMORY_CACHING_TYPE cache, ULONG flags)
{
	const SIZE_T wanted = BYTES_TO_PAGES(bytes);
	struct nt_mdl_side *side;
	uint32_t pages;
	PMDL mdl;

	UNREFERENCED_PARAMETER(skip);
	UNREFERENCED_PARAMETER(cache);
	nt_irql_check_at_most(DISPATCH_LEVEL, "MmAllocatePagesForMdlEx");
	if (wanted == 0 || wanted > PAGES_MAX)
		return NULL;
	mdl = malloc(sizeof(*mdl) + wanted * sizeof(PFN_NUMBER));
	/* At worst each page is a run. */
	side = nt_mdl_side_new(NT_MDL_SIDE_PAGES, (uint32_t)wanted);
	if (mdl == NULL || side == NULL)
		goto free_both;

	pages = pages_gather(vmb_arena_process(), side, MmGetMdlPfnArray(mdl), (uint32_t)wanted,
	                     (flags & MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS) != 0);
	if (pages == 0 || (pages < wanted && (flags & MM_ALLOCATE_FULLY_REQUIRED) != 0) ||
	    !pages_are_within(MmGetMdlPfnArray(mdl), pages, low, high))
		goto free_pages;
	MmInitializeMdl(mdl, NULL, (SIZE_T)pages * PAGE_SIZE);
	mdl->MdlFlags = MDL_PAGES_LOCKED | MDL_WRITE_OPERATION;
	nt_mdl_side_insert(side, mdl);
	return mdl;

free_pages:
	pages_free(side);
free_both:
	free(side);
	free(mdl);
	return NULL;
}

PMDL
MmAllocatePagesForMdl(PHYSICAL_ADDRESS low, PHYSICAL_ADDRESS high, PHYSICAL_ADDRESS skip,
		      SIZE_T bytes)
{
	return MmAllocatePagesForMdlEx(low, high, skip, bytes, MmCached, 0);
}

VOID
MmFreePagesFromMdl(PMDL mdl)
{
	struct nt_mdl_side *side = nt_mdl_side_take(mdl, NT_MDL_SIDE_PAGES);

	nt_irql_check_at_most(DISPATCH_LEVEL, "MmFreePagesFromMdl");
	if (side == NULL || side->run_count == 0) {
		nt_misuse("MmFreePagesFromMdl of %p, which has no pages of its own; only MDLs of "
			  "MmAllocatePagesForMdlEx have, until they are freed once",
			  (void *)mdl);
		if (side != NULL)
			nt_mdl_side_insert(side, mdl);
		return;
	}
	nt_mdl_unmap(mdl);
	pages_free(side);
	mdl->MdlFlags = 0;
	mdl->ByteCount = 0;
	/* Stays known until ExFreePool. */
	nt_mdl_side_insert(side, mdl);
}

bool
nt_mdl_free_pages_mdl(void *mdl)
{
	struct nt_mdl_side *side = nt_mdl_side_take(mdl, NT_MDL_SIDE_PAGES);

	if (side == NULL)
		return false;
	if (side->run_count != 0) {
		nt_misuse("ExFreePool of MDL %p, whose pages are lost now; call "
			  "MmFreePagesFromMdl first",
			  mdl);
		nt_mdl_unmap(mdl);
	}
	free(side);
	free(mdl);
	return true;
}
