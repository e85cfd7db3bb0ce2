/* SPDX-License-Identifier: MIT */
/*
 * Memory descriptor lists. A page is 4096 bytes on every host.
 *
 * PFN n is byte n * 4096 of the memory that the library shares with the other partition. Memory
 * outside it can be described too: such pages carry their virtual page number with bit 51 set,
 * and the library copies them when it sends.
 */
#ifndef NT_WDM_MM_H
#define NT_WDM_MM_H

#include "../ntdef.h"
#include "io.h"
#include "ke.h"

NT_EXTERN_C_BEGIN

#ifndef PAGE_SIZE
#define PAGE_SIZE 0x1000
#endif
#ifndef PAGE_SHIFT
#define PAGE_SHIFT 12
#endif
#define PAGE_ALIGN(va) ((PVOID)((ULONG_PTR)(va) & ~((ULONG_PTR)0xFFF)))
#define BYTE_OFFSET(va) ((ULONG)((ULONG_PTR)(va) & 0xFFF))
#define BYTES_TO_PAGES(bytes) \
	((((ULONG_PTR)(bytes)) >> PAGE_SHIFT) + ((((ULONG_PTR)(bytes)) & 0xFFF) != 0))
#define ROUND_TO_PAGES(bytes) (((ULONG_PTR)(bytes) + 0xFFF) & ~((ULONG_PTR)0xFFF))
#define ROUND_TO_SIZE(bytes, alignment) \
	(((ULONG_PTR)(bytes) + ((ULONG_PTR)(alignment) - 1)) & ~((ULONG_PTR)(alignment) - 1))
#define ADDRESS_AND_SIZE_TO_SPAN_PAGES(va, bytes) \
	((ULONG)((((ULONG_PTR)(va) & 0xFFF) + (ULONG_PTR)(bytes) + 0xFFF) >> PAGE_SHIFT))
#define COMPUTE_PAGES_SPANNED(va, bytes) ADDRESS_AND_SIZE_TO_SPAN_PAGES(va, bytes)

struct _MDL {
	struct _MDL *Next;
	CSHORT Size;
	CSHORT MdlFlags;
	USHORT AllocationProcessorNumber;
	USHORT Reserved;
	struct _EPROCESS *Process;
	PVOID MappedSystemVa;
	PVOID StartVa;
	ULONG ByteCount;
	ULONG ByteOffset;
};
typedef MDL *PMDLX;

NT_STATIC_ASSERT(sizeof(MDL) == 48, "MDL");
NT_STATIC_ASSERT(offsetof(MDL, Size) == 8 && offsetof(MDL, MdlFlags) == 10, "MDL");
NT_STATIC_ASSERT(offsetof(MDL, Process) == 16 && offsetof(MDL, MappedSystemVa) == 24, "MDL");
NT_STATIC_ASSERT(offsetof(MDL, StartVa) == 32 && offsetof(MDL, ByteCount) == 40, "MDL");
NT_STATIC_ASSERT(offsetof(MDL, ByteOffset) == 44, "MDL");

#define MDL_MAPPED_TO_SYSTEM_VA 0x0001
#define MDL_PAGES_LOCKED 0x0002
#define MDL_SOURCE_IS_NONPAGED_POOL 0x0004
#define MDL_ALLOCATED_FIXED_SIZE 0x0008
#define MDL_PARTIAL 0x0010
#define MDL_PARTIAL_HAS_BEEN_MAPPED 0x0020
#define MDL_IO_PAGE_READ 0x0040
#define MDL_WRITE_OPERATION 0x0080
#define MDL_PARENT_MAPPED_SYSTEM_VA 0x0100
#define MDL_FREE_EXTRA_PTES 0x0200
#define MDL_DESCRIBES_AWE 0x0400
#define MDL_IO_SPACE 0x0800
#define MDL_NETWORK_HEADER 0x1000
#define MDL_MAPPING_CAN_FAIL 0x2000
#define MDL_ALLOCATED_MUST_SUCCEED 0x4000

#define MmGetMdlByteCount(mdl) ((mdl)->ByteCount)
#define MmGetMdlByteOffset(mdl) ((mdl)->ByteOffset)
#define MmGetMdlBaseVa(mdl) ((mdl)->StartVa)
#define MmGetMdlVirtualAddress(mdl) ((PVOID)((ULONG_PTR)(mdl)->StartVa + (mdl)->ByteOffset))
#define MmGetMdlPfnArray(mdl) ((PPFN_NUMBER)(void *)((mdl) + 1))

typedef enum _MEMORY_CACHING_TYPE {
	MmNonCached = FALSE,
	MmCached = TRUE,
	MmWriteCombined = 2,
	MmHardwareCoherentCached,
	MmNonCachedUnordered,
	MmUSWCCached,
	MmMaximumCacheType,
	MmNotMapped = -1
} MEMORY_CACHING_TYPE;

typedef enum _MM_PAGE_PRIORITY {
	LowPagePriority,
	NormalPagePriority = 16,
	HighPagePriority = 32
} MM_PAGE_PRIORITY;
#define MdlMappingNoWrite 0x80000000u
#define MdlMappingNoExecute 0x40000000u

#define MM_DONT_ZERO_ALLOCATION 0x00000001u
#define MM_ALLOCATE_FROM_LOCAL_NODE_ONLY 0x00000002u
#define MM_ALLOCATE_FULLY_REQUIRED 0x00000004u
#define MM_ALLOCATE_NO_WAIT 0x00000008u
#define MM_ALLOCATE_PREFER_CONTIGUOUS 0x00000010u
#define MM_ALLOCATE_REQUIRE_CONTIGUOUS_CHUNKS 0x00000020u

/*
 * With an `irp` it becomes the IRP's MDL, or the last of its chain if `secondary`. Returns NULL when memory is short. Size is 0x7FFF when it cannot hold the
 * real one.
 */
NTKERNELAPI PMDL IoAllocateMdl(PVOID va, ULONG length, BOOLEAN secondary, BOOLEAN charge_quota,
			       PIRP irp);
NTKERNELAPI VOID IoFreeMdl(PMDL mdl);
NTKERNELAPI SIZE_T MmSizeOfMdl(PVOID base, SIZE_T length);
/* Part of a built or locked `source`, from `va` inside it; length 0 means to its end. */
NTKERNELAPI VOID IoBuildPartialMdl(PMDL source, PMDL target, PVOID va, ULONG length);
NTKERNELAPI VOID MmBuildMdlForNonPagedPool(PMDL mdl);
/* Where Windows would raise an exception this is misuse, and the MDL stays unlocked. */
NTKERNELAPI VOID MmProbeAndLockPages(PMDL mdl, KPROCESSOR_MODE mode, LOCK_OPERATION operation);
/* Not from Windows: the same with a result. STATUS_ACCESS_VIOLATION or STATUS_INVALID_PARAMETER. */
NTKERNELAPI _Must_inspect_result_ NTSTATUS KmclProbeAndLockPages(PMDL mdl, KPROCESSOR_MODE mode,
                                                                 LOCK_OPERATION operation);
NTKERNELAPI VOID MmUnlockPages(PMDL mdl);
NTKERNELAPI PVOID MmMapLockedPagesSpecifyCache(PMDL mdl, KPROCESSOR_MODE mode,
                                               MEMORY_CACHING_TYPE cache, PVOID requested,
                                               ULONG bug_check_on_failure, ULONG priority);
NTKERNELAPI VOID MmUnmapLockedPages(PVOID va, PMDL mdl);
/*
 * The mapping of the MDL, made if need be; NULL if impossible. Safe to call from several threads
 * at once.
 */
NTKERNELAPI PVOID MmGetSystemAddressForMdlSafe(PMDL mdl, ULONG priority);
/* NULL, or an MDL that describes fewer bytes than asked for, when memory is short. */
NTKERNELAPI PMDL MmAllocatePagesForMdlEx(PHYSICAL_ADDRESS low, PHYSICAL_ADDRESS high,
					 PHYSICAL_ADDRESS skip, SIZE_T bytes,
					 MEMORY_CACHING_TYPE cache, ULONG flags);
NTKERNELAPI PMDL MmAllocatePagesForMdl(PHYSICAL_ADDRESS low, PHYSICAL_ADDRESS high,
				       PHYSICAL_ADDRESS skip, SIZE_T bytes);
/* Frees the pages; the MDL itself goes with ExFreePool. */
NTKERNELAPI VOID MmFreePagesFromMdl(PMDL mdl);
/*
 * Whether the mapping of an MDL may be written to: PAGE_READONLY or PAGE_READWRITE; what may be
 * executed is not told apart. STATUS_NOT_MAPPED_VIEW without a mapping.
 * STATUS_INVALID_PAGE_PROTECTION: another value, or writing to what the peer gave for reading.
 * STATUS_NOT_SUPPORTED for a mapping that is not the MDL's alone, because its pages have an address
 * in this process anyway; so map with MdlMappingNoWrite where possible. IRQL: DISPATCH_LEVEL at
 * most.
 */
#define PAGE_NOACCESS 0x01u
#define PAGE_READONLY 0x02u
#define PAGE_READWRITE 0x04u
#define PAGE_EXECUTE 0x10u
#define PAGE_EXECUTE_READ 0x20u
#define PAGE_EXECUTE_READWRITE 0x40u
NTKERNELAPI NTSTATUS MmProtectMdlSystemAddress(PMDL mdl, ULONG protection);

/*
 * Pages side by side in physical memory too, below `highest` (SpecifyCache: from `lowest`, and not
 * across a multiple of `boundary` if that is not 0). NULL if there are none, or `bytes` is 0. Not
 * zeroed. IRQL: DISPATCH_LEVEL at most. Clause MM-9.
 */
NTKERNELAPI PVOID MmAllocateContiguousMemory(SIZE_T bytes, PHYSICAL_ADDRESS highest);
NTKERNELAPI PVOID MmAllocateContiguousMemorySpecifyCache(SIZE_T bytes, PHYSICAL_ADDRESS lowest,
							 PHYSICAL_ADDRESS highest,
							 PHYSICAL_ADDRESS boundary,
							 MEMORY_CACHING_TYPE cache);
/* Misuse for an address that did not come from the two above, or twice. */
NTKERNELAPI VOID MmFreeContiguousMemory(PVOID base);
NTKERNELAPI VOID MmFreeContiguousMemorySpecifyCache(PVOID base, SIZE_T bytes,
						    MEMORY_CACHING_TYPE cache);

/*
 * Address of a byte in the memory that the library shares with the other partition; 0 for memory
 * that it does not share, which is never guessed. The reverse gives NULL. IRQL: any.
 */
NTKERNELAPI PHYSICAL_ADDRESS MmGetPhysicalAddress(PVOID va);
NTKERNELAPI PVOID MmGetVirtualForPhysical(PHYSICAL_ADDRESS address);
/* Whether a byte can be read. IRQL: any; may sleep. */
NTKERNELAPI BOOLEAN MmIsAddressValid(PVOID va);

/* Drop what the last use left behind, so that the MDL can be built again. */
NTKERNELAPI VOID MmPrepareMdlForReuse(PMDL mdl);

FORCEINLINE VOID
MmInitializeMdl(PMDL mdl, PVOID base, SIZE_T length)
{
	SIZE_T size =
	    sizeof(MDL) + sizeof(PFN_NUMBER) * (SIZE_T)ADDRESS_AND_SIZE_TO_SPAN_PAGES(base, length);

	mdl->Next = NULL;
	mdl->Size = (CSHORT)(size < 0x7FFF ? size : 0x7FFF);
	mdl->MdlFlags = 0;
	mdl->AllocationProcessorNumber = 0;
	mdl->Reserved = 0;
	mdl->Process = NULL;
	mdl->MappedSystemVa = NULL;
	mdl->StartVa = PAGE_ALIGN(base);
	mdl->ByteOffset = BYTE_OFFSET(base);
	mdl->ByteCount = (ULONG)length;
}

NT_EXTERN_C_END

#endif
