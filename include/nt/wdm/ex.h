/* SPDX-License-Identifier: MIT */
/*
 * Executive: pool memory, lookaside lists, fast mutexes, work items.
 *
 * Pool memory of every type is memory that the other partition can be given: real PFNs, 16-byte
 * aligned, and page aligned from 4096 bytes on. What the allocator knows about a block is kept
 * elsewhere, so a peer that scribbles over a block damages data only.
 */
#ifndef NT_WDM_EX_H
#define NT_WDM_EX_H

#include "../ntdef.h"
#include "io.h"
#include "ke.h"

NT_EXTERN_C_BEGIN

/* ---- pool ------------------------------------------------------------------------------------ */

typedef enum _POOL_TYPE {
	NonPagedPool = 0,
	NonPagedPoolExecute = 0,
	PagedPool = 1,
	NonPagedPoolMustSucceed = 2,
	NonPagedPoolCacheAligned = 4,
	PagedPoolCacheAligned = 5,
	NonPagedPoolBase = 0,
	NonPagedPoolNx = 512,
	NonPagedPoolNxCacheAligned = 516
} POOL_TYPE;
#define POOL_COLD_ALLOCATION 256
#define POOL_ZERO_ALLOCATION 1024

typedef ULONG64 POOL_FLAGS;
#define POOL_FLAG_USE_QUOTA 0x0000000000000001ull
#define POOL_FLAG_UNINITIALIZED 0x0000000000000002ull
#define POOL_FLAG_SESSION 0x0000000000000004ull
#define POOL_FLAG_CACHE_ALIGNED 0x0000000000000008ull
#define POOL_FLAG_RAISE_ON_FAILURE 0x0000000000000020ull
#define POOL_FLAG_NON_PAGED 0x0000000000000040ull
#define POOL_FLAG_NON_PAGED_EXECUTE 0x0000000000000080ull
#define POOL_FLAG_PAGED 0x0000000000000100ull

/*
 * Zeroed unless POOL_FLAG_UNINITIALIZED. NULL without memory, and for flags that name no pool,
 * for size 0, or for tag 0. Paged pool is misuse above APC_LEVEL.
 */
NTKERNELAPI _Must_inspect_result_ PVOID ExAllocatePool2(POOL_FLAGS flags, SIZE_T bytes, ULONG tag);
/* Not zeroed. A size of 0 gives a block of minimum size. */
NTKERNELAPI _Must_inspect_result_ PVOID ExAllocatePoolWithTag(POOL_TYPE type, SIZE_T bytes,
							      ULONG tag);
NTKERNELAPI _Must_inspect_result_ PVOID ExAllocatePoolZero(POOL_TYPE type, SIZE_T bytes, ULONG tag);
NTKERNELAPI _Must_inspect_result_ PVOID ExAllocatePoolUninitialized(POOL_TYPE type, SIZE_T bytes,
                                                                    ULONG tag);
/*
 * Freeing twice, freeing what is no block, or another tag than at allocation is misuse; nothing
 * is freed. In checked mode a freed block is filled with 0xDD and stays out of use for a while
 * (512 blocks, 1 MiB, no block above 64 KiB), so that freeing it twice is reported with both
 * stacks and never frees somebody else's block.
 */
NTKERNELAPI VOID ExFreePool(PVOID block);
NTKERNELAPI VOID ExFreePoolWithTag(PVOID block, ULONG tag);
NTKERNELAPI VOID ExFreePool2(PVOID block, ULONG tag, PVOID parameters, ULONG parameter_count);
/*
 * Not from Windows: write the blocks in use to the debug sink (wdm/dbg.h), summed by tag, and
 * return how many there are; nothing is written when there are none. Blocks that were allocated in
 * checked mode are told with the stack of their allocation. IRQL: PASSIVE.
 */
NTKERNELAPI SIZE_T nt_pool_report(VOID);
/*
 * Whether that happens by itself when the process exits. Without a call the environment decides:
 * KMCL_POOL_REPORT=1 yes, 0 no, and else yes if checked mode is on then.
 */
NTKERNELAPI VOID nt_pool_report_at_exit(BOOLEAN report);

#define ExAllocatePool(type, bytes) ExAllocatePoolWithTag(type, bytes, 0x656E6F4Eu)

/* ---- lookaside lists ------------------------------------------------------------------------- */

struct _LOOKASIDE_LIST_EX;
typedef PVOID ALLOCATE_FUNCTION(POOL_TYPE type, SIZE_T bytes, ULONG tag);
typedef ALLOCATE_FUNCTION *PALLOCATE_FUNCTION;
typedef VOID FREE_FUNCTION(PVOID block);
typedef FREE_FUNCTION *PFREE_FUNCTION;
typedef PVOID ALLOCATE_FUNCTION_EX(POOL_TYPE type, SIZE_T bytes, ULONG tag,
                                   struct _LOOKASIDE_LIST_EX *list);
typedef ALLOCATE_FUNCTION_EX *PALLOCATE_FUNCTION_EX;
typedef VOID FREE_FUNCTION_EX(PVOID block, struct _LOOKASIDE_LIST_EX *list);
typedef FREE_FUNCTION_EX *PFREE_FUNCTION_EX;

/*
 * Blocks of one size. They are not cached a second time: the pool is already a cache by size, and
 * a free list threaded through blocks would put pointers where a peer can write.
 */
typedef struct _GENERAL_LOOKASIDE {
	volatile LONG TotalAllocates;
	volatile LONG TotalFrees;
	POOL_TYPE Type;
	ULONG Tag;
	SIZE_T Size;
	USHORT Depth;
	PALLOCATE_FUNCTION Allocate;
	PFREE_FUNCTION Free;
	PALLOCATE_FUNCTION_EX AllocateEx;
	PFREE_FUNCTION_EX FreeEx;
} GENERAL_LOOKASIDE, *PGENERAL_LOOKASIDE;

typedef struct _NPAGED_LOOKASIDE_LIST {
	GENERAL_LOOKASIDE L;
} NPAGED_LOOKASIDE_LIST, *PNPAGED_LOOKASIDE_LIST;
typedef struct _PAGED_LOOKASIDE_LIST {
	GENERAL_LOOKASIDE L;
} PAGED_LOOKASIDE_LIST, *PPAGED_LOOKASIDE_LIST;
typedef struct _LOOKASIDE_LIST_EX {
	GENERAL_LOOKASIDE L;
} LOOKASIDE_LIST_EX, *PLOOKASIDE_LIST_EX;

#define EX_LOOKASIDE_LIST_EX_FLAGS_RAISE_ON_FAIL 0x00000001u
#define EX_LOOKASIDE_LIST_EX_FLAGS_FAIL_NO_RAISE 0x00000002u

NTKERNELAPI VOID ExInitializeNPagedLookasideList(PNPAGED_LOOKASIDE_LIST list,
						 PALLOCATE_FUNCTION allocate,
						 PFREE_FUNCTION release, ULONG flags, SIZE_T size,
						 ULONG tag, USHORT depth);
/* Blocks still out at that moment are misuse (a leak). */
NTKERNELAPI VOID ExDeleteNPagedLookasideList(PNPAGED_LOOKASIDE_LIST list);
NTKERNELAPI PVOID ExAllocateFromNPagedLookasideList(PNPAGED_LOOKASIDE_LIST list);
NTKERNELAPI VOID ExFreeToNPagedLookasideList(PNPAGED_LOOKASIDE_LIST list, PVOID block);
/* The four above for paged pool: APC_LEVEL at most. */
NTKERNELAPI VOID ExInitializePagedLookasideList(PPAGED_LOOKASIDE_LIST list,
						PALLOCATE_FUNCTION allocate, PFREE_FUNCTION release,
						ULONG flags, SIZE_T size, ULONG tag, USHORT depth);
NTKERNELAPI VOID ExDeletePagedLookasideList(PPAGED_LOOKASIDE_LIST list);
NTKERNELAPI PVOID ExAllocateFromPagedLookasideList(PPAGED_LOOKASIDE_LIST list);
NTKERNELAPI VOID ExFreeToPagedLookasideList(PPAGED_LOOKASIDE_LIST list, PVOID block);
/*
 * STATUS_INVALID_PARAMETER_5 for unknown flags, STATUS_INVALID_PARAMETER_8 for a depth other than
 * 0.
 */
NTKERNELAPI NTSTATUS ExInitializeLookasideListEx(PLOOKASIDE_LIST_EX list,
						 PALLOCATE_FUNCTION_EX allocate,
						 PFREE_FUNCTION_EX release, POOL_TYPE type,
						 ULONG flags, SIZE_T size, ULONG tag, USHORT depth);
NTKERNELAPI VOID ExDeleteLookasideListEx(PLOOKASIDE_LIST_EX list);
NTKERNELAPI VOID ExFlushLookasideListEx(PLOOKASIDE_LIST_EX list);
NTKERNELAPI PVOID ExAllocateFromLookasideListEx(PLOOKASIDE_LIST_EX list);
NTKERNELAPI VOID ExFreeToLookasideListEx(PLOOKASIDE_LIST_EX list, PVOID block);

/* ---- fast mutexes ---------------------------------------------------------------------------- */

/*
 * Count: 1 free, 0 held, below: held with that many waiters. Owner and OldIrql belong to the
 * holder.
 */
typedef struct _FAST_MUTEX {
	volatile LONG Count;
	PKTHREAD Owner;
	ULONG Contention;
	KEVENT Event;
	ULONG OldIrql;
} FAST_MUTEX, *PFAST_MUTEX;

NTKERNELAPI VOID ExInitializeFastMutex(PFAST_MUTEX mutex);
/*
 * Raises to APC_LEVEL until release. Misuse above APC_LEVEL, when held already, when released by
 * another thread.
 */
NTKERNELAPI VOID ExAcquireFastMutex(PFAST_MUTEX mutex);
NTKERNELAPI BOOLEAN ExTryToAcquireFastMutex(PFAST_MUTEX mutex);
NTKERNELAPI VOID ExReleaseFastMutex(PFAST_MUTEX mutex);
/* The same without a change of IRQL. */
NTKERNELAPI VOID ExAcquireFastMutexUnsafe(PFAST_MUTEX mutex);
NTKERNELAPI VOID ExReleaseFastMutexUnsafe(PFAST_MUTEX mutex);

/* ---- work items ------------------------------------------------------------------------------ */

typedef enum _WORK_QUEUE_TYPE {
	CriticalWorkQueue,
	DelayedWorkQueue,
	HyperCriticalWorkQueue,
	NormalWorkQueue,
	BackgroundWorkQueue,
	RealTimeWorkQueue,
	SuperCriticalWorkQueue,
	MaximumWorkQueue,
	CustomPriorityWorkQueue = 32
} WORK_QUEUE_TYPE;

typedef VOID WORKER_THREAD_ROUTINE(PVOID parameter);
typedef WORKER_THREAD_ROUTINE *PWORKER_THREAD_ROUTINE;

/* List.Flink is NULL when the item is not queued. */
typedef struct _WORK_QUEUE_ITEM {
	LIST_ENTRY List;
	PWORKER_THREAD_ROUTINE WorkerRoutine;
	PVOID Parameter;
} WORK_QUEUE_ITEM, *PWORK_QUEUE_ITEM;

#define ExInitializeWorkItem(item, routine, context)                       \
	((item)->WorkerRoutine = (routine), (item)->Parameter = (context), \
	 (item)->List.Flink = NULL)

/*
 * Run once at PASSIVE_LEVEL on a worker thread. The item is the driver's again when the routine is
 * entered. Queueing an item that is queued is misuse and has no effect.
 */
NTKERNELAPI VOID ExQueueWorkItem(PWORK_QUEUE_ITEM item, WORK_QUEUE_TYPE queue);

typedef struct _IO_WORKITEM IO_WORKITEM, *PIO_WORKITEM;
typedef VOID IO_WORKITEM_ROUTINE(PDEVICE_OBJECT device, PVOID context);
typedef IO_WORKITEM_ROUTINE *PIO_WORKITEM_ROUTINE;
typedef VOID IO_WORKITEM_ROUTINE_EX(PVOID object, PVOID context, PIO_WORKITEM item);
typedef IO_WORKITEM_ROUTINE_EX *PIO_WORKITEM_ROUTINE_EX;

NTKERNELAPI PIO_WORKITEM IoAllocateWorkItem(PDEVICE_OBJECT device);
NTKERNELAPI VOID IoQueueWorkItem(PIO_WORKITEM item, PIO_WORKITEM_ROUTINE routine,
				 WORK_QUEUE_TYPE queue, PVOID context);
NTKERNELAPI VOID IoQueueWorkItemEx(PIO_WORKITEM item, PIO_WORKITEM_ROUTINE_EX routine,
                                   WORK_QUEUE_TYPE queue, PVOID context);
/* Also from the item's own routine. While the item is queued it is misuse and has no effect. */
NTKERNELAPI VOID IoFreeWorkItem(PIO_WORKITEM item);
/* For callers that own the memory. */
NTKERNELAPI ULONG IoSizeofWorkItem(VOID);
NTKERNELAPI VOID IoInitializeWorkItem(PVOID object, PIO_WORKITEM item);
NTKERNELAPI VOID IoUninitializeWorkItem(PIO_WORKITEM item);

NT_EXTERN_C_END

#endif
