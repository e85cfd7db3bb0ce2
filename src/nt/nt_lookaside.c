/* SPDX-License-Identifier: MIT */
/*
 * Lookaside lists. They count and check; the blocks come straight from the pool, which is a cache
 * by size itself and keeps its lists where no peer can write.
 */
#include "nt/nt_misuse.h"
#include "nt/nt_thread.h"
#include "wdm.h"

static PVOID
default_allocate(POOL_TYPE type, SIZE_T bytes, ULONG tag)
{
	return ExAllocatePoolWithTag(type, bytes, tag);
}

static void
lookaside_init(PGENERAL_LOOKASIDE list, POOL_TYPE type, SIZE_T size, ULONG tag, USHORT depth)
{
	*list = (GENERAL_LOOKASIDE){
		.Type = type,
		.Tag = tag,
		.Size = size,
		.Depth = depth,
	};
}

static PVOID
lookaside_allocate(PGENERAL_LOOKASIDE list, PLOOKASIDE_LIST_EX ex)
{
	PVOID block;

	if (ex != NULL && list->AllocateEx != NULL)
		block = list->AllocateEx(list->Type, list->Size, list->Tag, ex);
	else
		block = list->Allocate(list->Type, list->Size, list->Tag);
	if (block != NULL)
		InterlockedIncrement(&list->TotalAllocates);
	return block;
}

static void
lookaside_free(PGENERAL_LOOKASIDE list, PLOOKASIDE_LIST_EX ex, PVOID block)
{
	InterlockedIncrement(&list->TotalFrees);
	if (ex != NULL && list->FreeEx != NULL)
		list->FreeEx(block, ex);
	else
		list->Free(block);
}

static void
lookaside_delete(PGENERAL_LOOKASIDE list, const char *what)
{
	const ULONG out = (ULONG)InterlockedOr(&list->TotalAllocates, 0) -
	                  (ULONG)InterlockedOr(&list->TotalFrees, 0);

	if (out != 0)
		nt_misuse("%s: %u blocks of list %p are not back; free them to the list before it is "
			  "deleted",
			  what, out, (void *)list);
}

/* ---- non-paged ------------------------------------------------------------------------------- */

VOID
ExInitializeNPagedLookasideList(PNPAGED_LOOKASIDE_LIST list, PALLOCATE_FUNCTION allocate,
				PFREE_FUNCTION release, ULONG flags, SIZE_T size, ULONG tag,
				USHORT depth)
{
	UNREFERENCED_PARAMETER(flags);
	lookaside_init(&list->L, NonPagedPoolNx, size, tag, depth);
	list->L.Allocate = allocate != NULL ? allocate : default_allocate;
	list->L.Free = release != NULL ? release : ExFreePool;
}

VOID
ExDeleteNPagedLookasideList(PNPAGED_LOOKASIDE_LIST list)
{
	lookaside_delete(&list->L, "ExDeleteNPagedLookasideList");
}

PVOID
ExAllocateFromNPagedLookasideList(PNPAGED_LOOKASIDE_LIST list)
{
	return lookaside_allocate(&list->L, NULL);
}

VOID
ExFreeToNPagedLookasideList(PNPAGED_LOOKASIDE_LIST list, PVOID block)
{
	lookaside_free(&list->L, NULL, block);
}

/* ---- paged ----------------------------------------------------------------------------------- */

VOID
ExInitializePagedLookasideList(PPAGED_LOOKASIDE_LIST list, PALLOCATE_FUNCTION allocate,
			       PFREE_FUNCTION release, ULONG flags, SIZE_T size, ULONG tag,
			       USHORT depth)
{
	UNREFERENCED_PARAMETER(flags);
	nt_irql_check_at_most(APC_LEVEL, "ExInitializePagedLookasideList");
	lookaside_init(&list->L, PagedPool, size, tag, depth);
	list->L.Allocate = allocate != NULL ? allocate : default_allocate;
	list->L.Free = release != NULL ? release : ExFreePool;
}

VOID
ExDeletePagedLookasideList(PPAGED_LOOKASIDE_LIST list)
{
	nt_irql_check_at_most(APC_LEVEL, "ExDeletePagedLookasideList");
	lookaside_delete(&list->L, "ExDeletePagedLookasideList");
}

PVOID
ExAllocateFromPagedLookasideList(PPAGED_LOOKASIDE_LIST list)
{
	nt_irql_check_at_most(APC_LEVEL, "ExAllocateFromPagedLookasideList");
	return lookaside_allocate(&list->L, NULL);
}

VOID
ExFreeToPagedLookasideList(PPAGED_LOOKASIDE_LIST list, PVOID block)
{
	nt_irql_check_at_most(APC_LEVEL, "ExFreeToPagedLookasideList");
	lookaside_free(&list->L, NULL, block);
}

/* ---- either ---------------------------------------------------------------------------------- */

NTSTATUS
ExInitializeLookasideListEx(PLOOKASIDE_LIST_EX list, PALLOCATE_FUNCTION_EX allocate,
			    PFREE_FUNCTION_EX release, POOL_TYPE type, ULONG flags, SIZE_T size,
			    ULONG tag, USHORT depth)
{
	const ULONG known = EX_LOOKASIDE_LIST_EX_FLAGS_RAISE_ON_FAIL |
	                    EX_LOOKASIDE_LIST_EX_FLAGS_FAIL_NO_RAISE;

	if ((flags & ~known) != 0 || flags == known)
		return STATUS_INVALID_PARAMETER_5;
	if (depth != 0)
		return STATUS_INVALID_PARAMETER_8;
	lookaside_init(&list->L, type, size, tag, depth);
	list->L.Allocate = default_allocate;
	list->L.Free = ExFreePool;
	list->L.AllocateEx = allocate;
	list->L.FreeEx = release;
	return STATUS_SUCCESS;
}

VOID
ExDeleteLookasideListEx(PLOOKASIDE_LIST_EX list)
{
	lookaside_delete(&list->L, "ExDeleteLookasideListEx");
}

/* Nothing is cached. */
VOID
ExFlushLookasideListEx(PLOOKASIDE_LIST_EX list)
{
	UNREFERENCED_PARAMETER(list);
}

PVOID
ExAllocateFromLookasideListEx(PLOOKASIDE_LIST_EX list)
{
	return lookaside_allocate(&list->L, list);
}

VOID
ExFreeToLookasideListEx(PLOOKASIDE_LIST_EX list, PVOID block)
{
	lookaside_free(&list->L, list, block);
}
