/* SPDX-License-Identifier: MIT */
/*
 * MDLs, for the library.
 *
 * Three kinds of pages:
 *   - of the arena of this process: Process is NULL, PFN n is byte n * 4096 of it;
 *   - of this process, outside the arena: Process is NULL, PFN is
 *     (address >> 12) | NT_PFN_FOREIGN. They have to be copied through the arena to be sent;
 *   - of a peer: Process is the struct vmb_mem that the PFNs belong to.
 */
#ifndef NT_MDL_H
#define NT_MDL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmb/mem.h"
#include "wdm/mm.h"

#define NT_PFN_FOREIGN ((PFN_NUMBER)1 << 51)

static inline bool
nt_pfn_is_foreign(PFN_NUMBER pfn)
{
	return (pfn & NT_PFN_FOREIGN) != 0;
}

/* First byte of a foreign page. */
static inline void *
nt_pfn_foreign_va(PFN_NUMBER pfn)
{
	return (void *)((pfn & ~NT_PFN_FOREIGN) << PAGE_SHIFT);
}

/* True once there is something behind the MDL: built, locked, partial, or I/O space. */
static inline bool
nt_mdl_is_built(const MDL *mdl)
{
	/* Atomic: another thread may be mapping the MDL, which sets a flag. */
	return (__atomic_load_n(&mdl->MdlFlags, __ATOMIC_RELAXED) &
	        (MDL_PAGES_LOCKED | MDL_SOURCE_IS_NONPAGED_POOL | MDL_PARTIAL | MDL_IO_SPACE)) != 0;
}

static inline uint32_t
nt_mdl_pages(const MDL *mdl)
{
	return (uint32_t)vmb_gpa_pages(mdl->ByteOffset, mdl->ByteCount);
}

/* Bytes of an MDL for a range of a peer's memory. */
static inline size_t
nt_mdl_guest_bytes(const struct vmb_gpa_range *range)
{
	return sizeof(MDL) + (size_t)range->page_count * sizeof(PFN_NUMBER);
}

/*
 * Describe a range of a peer's memory in `mdl`, which has nt_mdl_guest_bytes() bytes of private
 * memory. Copies the PFNs. Nothing is mapped, and no PFN is checked, before a driver asks for the
 * address. Context: any. The caller holds `mem`, and ends it with nt_mdl_release_guest(); where
 * nobody was given the MDL, it may just forget it.
 */
void nt_mdl_init_guest(PMDL mdl, struct vmb_mem *mem, const struct vmb_gpa_range *range,
		       bool writable);
/* Of an MDL of a peer's memory: vmb_mem_has_run() was true of its pages, and its address needs no second look at them. */
static inline void
nt_mdl_set_one_run(PMDL mdl)
{
	mdl->Reserved = 1;
}

/* Also of its parts. */
static inline bool
nt_mdl_is_one_run(const MDL *mdl)
{
	return mdl->Process != NULL && mdl->Reserved == 1;
}

/* Unmap whatever was mapped. No other thread uses the MDL any more. Idempotent. */
void nt_mdl_release_guest(PMDL mdl);

/* ExFreePool of an MDL from MmAllocatePagesForMdlEx. False if `mdl` is none. */
bool nt_mdl_free_pages_mdl(void *mdl);

#endif
