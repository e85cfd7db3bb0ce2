/* SPDX-License-Identifier: MIT */
/*
 * Rundown protection: a count of protections, doubled, and a flag in bit 0 that ends giving them.
 * The release that makes the word 1 is the last access to it; who waits for that sleeps on the
 * lower half of the word.
 */
#include <limits.h>
#include <stdint.h>

#include "nt/nt_deadline.h"
#include "nt/nt_misuse.h"
#include "nt/nt_thread.h"
#include "wdm.h"

#define RUNDOWN_ACTIVE ((ULONG_PTR)1)
#define RUNDOWN_ONE ((ULONG_PTR)2)

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the lower half comes first");

struct _EX_RUNDOWN_REF_CACHE_AWARE {
	EX_RUNDOWN_REF rundown;
};

static uint32_t *
rundown_word(PEX_RUNDOWN_REF rundown)
{
	return (uint32_t *)(uintptr_t)&rundown->Count;
}

VOID
ExInitializeRundownProtection(PEX_RUNDOWN_REF rundown)
{
	__atomic_store_n(&rundown->Count, 0, __ATOMIC_RELEASE);
}

VOID
ExReInitializeRundownProtection(PEX_RUNDOWN_REF rundown)
{
	ULONG_PTR now = RUNDOWN_ACTIVE;

	if (!__atomic_compare_exchange_n(&rundown->Count, &now, 0, false, __ATOMIC_ACQ_REL,
	                                 __ATOMIC_RELAXED))
		nt_misuse(
		    "ExReInitializeRundownProtection: %p is not run down; wait for its rundown "
		    "first",
		    (void *)rundown);
}

BOOLEAN
ExAcquireRundownProtectionEx(PEX_RUNDOWN_REF rundown, ULONG count)
{
	ULONG_PTR now = __atomic_load_n(&rundown->Count, __ATOMIC_RELAXED);

	nt_irql_check_at_most(DISPATCH_LEVEL, "ExAcquireRundownProtection");
	do {
		if ((now & RUNDOWN_ACTIVE) != 0)
			return FALSE;
		/* Acquire: pairs with ExReInitializeRundownProtection(). */
	} while (!__atomic_compare_exchange_n(&rundown->Count, &now, now + RUNDOWN_ONE * count,
	                                      true, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED));
	return TRUE;
}

BOOLEAN
ExAcquireRundownProtection(PEX_RUNDOWN_REF rundown)
{
	return ExAcquireRundownProtectionEx(rundown, 1);
}

VOID
ExReleaseRundownProtectionEx(PEX_RUNDOWN_REF rundown, ULONG count)
{
	ULONG_PTR now = __atomic_load_n(&rundown->Count, __ATOMIC_RELAXED);
	ULONG_PTR new;

	nt_irql_check_at_most(DISPATCH_LEVEL, "ExReleaseRundownProtection");
	do {
		if (now / RUNDOWN_ONE < count) {
			nt_misuse(
			    "ExReleaseRundownProtection: %p is released %u times, acquired %llu "
			    "times; release it once for each acquisition that succeeded",
			    (void *)rundown, count, (ULONGLONG)(now / RUNDOWN_ONE));
			return;
		}
		new = now - RUNDOWN_ONE *count;
		/* Release: pairs with the acquire in ExWaitForRundownProtectionRelease(). */
	} while (!__atomic_compare_exchange_n(&rundown->Count, &now, new, true, __ATOMIC_RELEASE,
	                                      __ATOMIC_RELAXED));
	if (new == RUNDOWN_ACTIVE && now != RUNDOWN_ACTIVE)
		nt_futex_wake(rundown_word(rundown), INT_MAX);
}

VOID
ExReleaseRundownProtection(PEX_RUNDOWN_REF rundown)
{
	ExReleaseRundownProtectionEx(rundown, 1);
}

VOID
ExWaitForRundownProtectionRelease(PEX_RUNDOWN_REF rundown)
{
	const struct nt_deadline never = { .kind = NT_DEADLINE_INFINITE };
	ULONG_PTR now;

	nt_irql_check_at_most(APC_LEVEL, "ExWaitForRundownProtectionRelease");
	now = __atomic_or_fetch(&rundown->Count, RUNDOWN_ACTIVE, __ATOMIC_ACQ_REL);
	while (now != RUNDOWN_ACTIVE) {
		nt_futex_wait(rundown_word(rundown), (uint32_t)now, &never);
		now = __atomic_load_n(&rundown->Count, __ATOMIC_ACQUIRE);
	}
}

VOID
ExRundownCompleted(PEX_RUNDOWN_REF rundown)
{
	const ULONG_PTR before =
	    __atomic_fetch_or(&rundown->Count, RUNDOWN_ACTIVE, __ATOMIC_ACQ_REL);

	if (before / RUNDOWN_ONE != 0)
		nt_misuse("ExRundownCompleted: %p is still acquired %llu times; call "
		          "ExWaitForRundownProtectionRelease first",
		          (void *)rundown, (ULONGLONG)(before / RUNDOWN_ONE));
}

/* ---- for many processors --------------------------------------------------------------------- */

PEX_RUNDOWN_REF_CACHE_AWARE
ExAllocateCacheAwareRundownProtection(POOL_TYPE type, ULONG tag)
{
	PEX_RUNDOWN_REF_CACHE_AWARE rundown = ExAllocatePoolWithTag(type, sizeof(*rundown), tag);

	if (rundown != NULL)
		ExInitializeRundownProtection(&rundown->rundown);
	return rundown;
}

VOID
ExFreeCacheAwareRundownProtection(PEX_RUNDOWN_REF_CACHE_AWARE rundown)
{
	ExFreePool(rundown);
}

SIZE_T
ExSizeOfRundownProtectionCacheAware(VOID)
{
	return sizeof(struct _EX_RUNDOWN_REF_CACHE_AWARE);
}

VOID
ExInitializeRundownProtectionCacheAware(PEX_RUNDOWN_REF_CACHE_AWARE rundown, SIZE_T size)
{
	if (size < sizeof(*rundown)) {
		nt_misuse("ExInitializeRundownProtectionCacheAware with %zu bytes; see "
		          "ExSizeOfRundownProtectionCacheAware",
		          size);
		return;
	}
	ExInitializeRundownProtection(&rundown->rundown);
}

VOID
ExReInitializeRundownProtectionCacheAware(PEX_RUNDOWN_REF_CACHE_AWARE rundown)
{
	ExReInitializeRundownProtection(&rundown->rundown);
}

BOOLEAN
ExAcquireRundownProtectionCacheAware(PEX_RUNDOWN_REF_CACHE_AWARE rundown)
{
	return ExAcquireRundownProtection(&rundown->rundown);
}

BOOLEAN
ExAcquireRundownProtectionCacheAwareEx(PEX_RUNDOWN_REF_CACHE_AWARE rundown, ULONG count)
{
	return ExAcquireRundownProtectionEx(&rundown->rundown, count);
}

VOID
ExReleaseRundownProtectionCacheAware(PEX_RUNDOWN_REF_CACHE_AWARE rundown)
{
	ExReleaseRundownProtection(&rundown->rundown);
}

VOID
ExReleaseRundownProtectionCacheAwareEx(PEX_RUNDOWN_REF_CACHE_AWARE rundown, ULONG count)
{
	ExReleaseRundownProtectionEx(&rundown->rundown, count);
}

VOID
ExWaitForRundownProtectionReleaseCacheAware(PEX_RUNDOWN_REF_CACHE_AWARE rundown)
{
	ExWaitForRundownProtectionRelease(&rundown->rundown);
}

VOID
ExRundownCompletedCacheAware(PEX_RUNDOWN_REF_CACHE_AWARE rundown)
{
	ExRundownCompleted(&rundown->rundown);
}
