/* SPDX-License-Identifier: MIT */
/*
 * Physical memory: contiguous pages, and addresses in the memory that this process shares with a
 * peer. Contiguous memory is a block of the pool, whose large blocks are page runs.
 */
#include <stdbool.h>

#include "nt/nt_misuse.h"
#include "nt/nt_pool.h"
#include "nt/nt_probe.h"
#include "nt/nt_thread.h"
#include "vmb/mem.h"
#include "wdm.h"

#define CONTIGUOUS_TAG 0x6D436D4Du      /* "MmCm" in memory */

static bool
is_between(PVOID base, SIZE_T bytes, PHYSICAL_ADDRESS lowest, PHYSICAL_ADDRESS highest,
	   PHYSICAL_ADDRESS boundary)
{
	const uint64_t first = (uint64_t)MmGetPhysicalAddress(base).QuadPart;
	const uint64_t last = first + bytes - 1;

	if (first < (uint64_t)lowest.QuadPart || last > (uint64_t)highest.QuadPart)
		return false;
	return boundary.QuadPart == 0 ||
	       first / (uint64_t)boundary.QuadPart == last / (uint64_t)boundary.QuadPart;
}

static PVOID
allocate_contiguous(SIZE_T bytes, PHYSICAL_ADDRESS lowest, PHYSICAL_ADDRESS highest,
		    PHYSICAL_ADDRESS boundary, const char *what)
{
	PVOID base;

	nt_irql_check_at_most(DISPATCH_LEVEL, what);
	if (bytes == 0 || bytes > (SIZE_T)-PAGE_SIZE)
		return NULL;
	base = ExAllocatePoolUninitialized(NonPagedPoolNx, ROUND_TO_PAGES(bytes), CONTIGUOUS_TAG);
	if (base != NULL && !is_between(base, bytes, lowest, highest, boundary)) {
		ExFreePoolWithTag(base, CONTIGUOUS_TAG);
		return NULL;
	}
	return base;
}

PVOID
MmAllocateContiguousMemory(SIZE_T bytes, PHYSICAL_ADDRESS highest)
{
	const PHYSICAL_ADDRESS any = { .QuadPart = 0 };

	return allocate_contiguous(bytes, any, highest, any, "MmAllocateContiguousMemory");
}

PVOID
MmAllocateContiguousMemorySpecifyCache(SIZE_T bytes, PHYSICAL_ADDRESS lowest,
				       PHYSICAL_ADDRESS highest, PHYSICAL_ADDRESS boundary,
				       MEMORY_CACHING_TYPE cache)
{
	UNREFERENCED_PARAMETER(cache);
	return allocate_contiguous(bytes, lowest, highest, boundary,
				   "MmAllocateContiguousMemorySpecifyCache");
}

VOID
MmFreeContiguousMemory(PVOID base)
{
	struct nt_pool_block block;

	nt_irql_check_at_most(DISPATCH_LEVEL, "MmFreeContiguousMemory");
	if (!nt_pool_find(base, &block) || block.tag != CONTIGUOUS_TAG) {
		nt_misuse("MmFreeContiguousMemory of %p, which is not contiguous memory (or was "
			  "freed before); free what MmAllocateContiguousMemory returned, once",
			  base);
		return;
	}
	ExFreePoolWithTag(base, CONTIGUOUS_TAG);
}

VOID
MmFreeContiguousMemorySpecifyCache(PVOID base, SIZE_T bytes, MEMORY_CACHING_TYPE cache)
{
	UNREFERENCED_PARAMETER(bytes);
	UNREFERENCED_PARAMETER(cache);
	MmFreeContiguousMemory(base);
}

/* ---- addresses ------------------------------------------------------------------------------- */

PHYSICAL_ADDRESS
MmGetPhysicalAddress(PVOID va)
{
	struct vmb_arena *arena = vmb_arena_process();
	PHYSICAL_ADDRESS address = { .QuadPart = 0 };

	/* Page 0 is never handed out, so 0 is nobody's address. */
	if (vmb_arena_contains(arena, va, 1))
		address.QuadPart = (LONGLONG)vmb_arena_gpa(arena, va);
	return address;
}

PVOID
MmGetVirtualForPhysical(PHYSICAL_ADDRESS address)
{
	return address.QuadPart != 0
		   ? vmb_arena_host(vmb_arena_process(), (uint64_t)address.QuadPart)
		   : NULL;
}

BOOLEAN
MmIsAddressValid(PVOID va)
{
	return vmb_arena_contains(vmb_arena_process(), va, 1) || nt_probe(va, 1, false);
}
