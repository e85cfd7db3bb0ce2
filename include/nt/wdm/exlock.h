/* SPDX-License-Identifier: MIT */
/*
 * Locks of the executive: guarded mutexes, resources, push locks, reader/writer spin locks, and
 * rundown protection.
 *
 * Only resources need a delete call, and only they use memory of their own. Releasing what the
 * calling thread does not hold, and acquiring once more what cannot be, is misuse.
 */
#ifndef NT_WDM_EXLOCK_H
#define NT_WDM_EXLOCK_H

#include "../ntdef.h"
#include "ex.h"
#include "ke.h"
#include "sync.h"

NT_EXTERN_C_BEGIN

/* ---- guarded mutexes ------------------------------------------------------------------------- */

/* A fast mutex that puts its owner in a guarded region instead of at APC_LEVEL. */
typedef struct _FAST_MUTEX KGUARDED_MUTEX, *PKGUARDED_MUTEX;

NTKERNELAPI VOID KeInitializeGuardedMutex(PKGUARDED_MUTEX mutex);
/* Up to APC_LEVEL. */
NTKERNELAPI VOID KeAcquireGuardedMutex(PKGUARDED_MUTEX mutex);
NTKERNELAPI BOOLEAN KeTryToAcquireGuardedMutex(PKGUARDED_MUTEX mutex);
NTKERNELAPI VOID KeReleaseGuardedMutex(PKGUARDED_MUTEX mutex);
/* In a guarded region or at APC_LEVEL already. */
NTKERNELAPI VOID KeAcquireGuardedMutexUnsafe(PKGUARDED_MUTEX mutex);
NTKERNELAPI VOID KeReleaseGuardedMutexUnsafe(PKGUARDED_MUTEX mutex);

/* ---- reader/writer spin locks ---------------------------------------------------------------- */

/* 0 is free. */
typedef LONG EX_SPIN_LOCK, *PEX_SPIN_LOCK;

/*
 * Raise to DISPATCH_LEVEL. A thread may hold a lock shared several times, and no other way more
 * than once; from when somebody waits for it exclusively, others do not get it shared any more.
 */
NTKERNELAPI KIRQL ExAcquireSpinLockShared(PEX_SPIN_LOCK lock);
NTKERNELAPI VOID ExReleaseSpinLockShared(PEX_SPIN_LOCK lock, KIRQL old);
NTKERNELAPI KIRQL ExAcquireSpinLockExclusive(PEX_SPIN_LOCK lock);
NTKERNELAPI VOID ExReleaseSpinLockExclusive(PEX_SPIN_LOCK lock, KIRQL old);
/* The caller is at DISPATCH_LEVEL already. */
NTKERNELAPI VOID ExAcquireSpinLockSharedAtDpcLevel(PEX_SPIN_LOCK lock);
NTKERNELAPI VOID ExReleaseSpinLockSharedFromDpcLevel(PEX_SPIN_LOCK lock);
NTKERNELAPI VOID ExAcquireSpinLockExclusiveAtDpcLevel(PEX_SPIN_LOCK lock);
NTKERNELAPI VOID ExReleaseSpinLockExclusiveFromDpcLevel(PEX_SPIN_LOCK lock);
NTKERNELAPI BOOLEAN ExTryAcquireSpinLockSharedAtDpcLevel(PEX_SPIN_LOCK lock);
NTKERNELAPI BOOLEAN ExTryAcquireSpinLockExclusiveAtDpcLevel(PEX_SPIN_LOCK lock);
/* Held shared, once: TRUE if now held exclusively, FALSE if others hold it too. */
NTKERNELAPI LOGICAL ExTryConvertSharedSpinLockExclusive(PEX_SPIN_LOCK lock);

/* ---- push locks ------------------------------------------------------------------------------ */

typedef ULONG_PTR EX_PUSH_LOCK, *PEX_PUSH_LOCK;

/*
 * Up to APC_LEVEL, in a critical region (or at APC_LEVEL). Nothing is acquired twice by a thread,
 * in whatever way.
 */
NTKERNELAPI VOID ExInitializePushLock(PEX_PUSH_LOCK lock);
NTKERNELAPI VOID ExAcquirePushLockExclusiveEx(PEX_PUSH_LOCK lock, ULONG flags);
NTKERNELAPI VOID ExAcquirePushLockSharedEx(PEX_PUSH_LOCK lock, ULONG flags);
NTKERNELAPI VOID ExReleasePushLockExclusiveEx(PEX_PUSH_LOCK lock, ULONG flags);
NTKERNELAPI VOID ExReleasePushLockSharedEx(PEX_PUSH_LOCK lock, ULONG flags);
#define EX_DEFAULT_PUSH_LOCK_FLAGS 0
#define ExAcquirePushLockExclusive(lock) \
	ExAcquirePushLockExclusiveEx(lock, EX_DEFAULT_PUSH_LOCK_FLAGS)
#define ExAcquirePushLockShared(lock) ExAcquirePushLockSharedEx(lock, EX_DEFAULT_PUSH_LOCK_FLAGS)
#define ExReleasePushLockExclusive(lock) \
	ExReleasePushLockExclusiveEx(lock, EX_DEFAULT_PUSH_LOCK_FLAGS)
#define ExReleasePushLockShared(lock) ExReleasePushLockSharedEx(lock, EX_DEFAULT_PUSH_LOCK_FLAGS)

/* ---- resources ------------------------------------------------------------------------------- */

typedef ULONG_PTR ERESOURCE_THREAD, *PERESOURCE_THREAD;

typedef struct _OWNER_ENTRY {
	ERESOURCE_THREAD OwnerThread;
	ULONG OwnerCount;
	ULONG TableSize;
} OWNER_ENTRY, *POWNER_ENTRY;

/* OwnerEntry: of the exclusive owner. OwnerTable: of those that share it. */
typedef struct _ERESOURCE {
	LIST_ENTRY WaitListHead;
	POWNER_ENTRY OwnerTable;
	SHORT ActiveCount;
	USHORT Flag;
	ULONG UnnamedEntries;
	OWNER_ENTRY OwnerEntry;
	ULONG ActiveEntries;
	ULONG ContentionCount;
	ULONG NumberOfSharedWaiters;
	ULONG NumberOfExclusiveWaiters;
	PVOID Reserved[4];
	KSPIN_LOCK SpinLock;
} ERESOURCE, *PERESOURCE;
NT_STATIC_ASSERT(sizeof(ERESOURCE) == 104, "ERESOURCE");

#define ResourceOwnedExclusive 0x0080

/* STATUS_SUCCESS. */
NTKERNELAPI NTSTATUS ExInitializeResourceLite(PERESOURCE resource);
/* Held, or waited for: misuse, no effect and STATUS_UNSUCCESSFUL. */
NTKERNELAPI NTSTATUS ExReinitializeResourceLite(PERESOURCE resource);
/* Held, or waited for: misuse, no effect and STATUS_UNSUCCESSFUL. */
NTKERNELAPI NTSTATUS ExDeleteResourceLite(PERESOURCE resource);
/*
 * TRUE when acquired; FALSE only without `wait`, and for an exclusive acquisition by a thread that
 * shares it (misuse). The exclusive owner may acquire it again in any way, as often as it will
 * release it; a thread that shares it may do so again. Up to APC_LEVEL, with APCs disabled (a
 * critical region, or APC_LEVEL).
 */
NTKERNELAPI BOOLEAN ExAcquireResourceExclusiveLite(PERESOURCE resource, BOOLEAN wait);
#define ExTryToAcquireResourceExclusiveLite(resource) \
	ExAcquireResourceExclusiveLite(resource, FALSE)
/* Others who wait for it exclusively go first, unless the thread shares it already. */
NTKERNELAPI BOOLEAN ExAcquireResourceSharedLite(PERESOURCE resource, BOOLEAN wait);
/* Nobody who waits goes first. */
NTKERNELAPI BOOLEAN ExAcquireSharedStarveExclusive(PERESOURCE resource, BOOLEAN wait);
/* Others who wait for it exclusively go first in any case. */
NTKERNELAPI BOOLEAN ExAcquireSharedWaitForExclusive(PERESOURCE resource, BOOLEAN wait);
/* Up to DISPATCH_LEVEL. */
NTKERNELAPI VOID ExReleaseResourceLite(PERESOURCE resource);
NTKERNELAPI VOID ExReleaseResourceForThreadLite(PERESOURCE resource, ERESOURCE_THREAD thread);
NTKERNELAPI VOID ExConvertExclusiveToSharedLite(PERESOURCE resource);
NTKERNELAPI BOOLEAN ExIsResourceAcquiredExclusiveLite(PERESOURCE resource);
/* How many times the calling thread holds it, in whatever way. */
NTKERNELAPI ULONG ExIsResourceAcquiredSharedLite(PERESOURCE resource);
#define ExIsResourceAcquiredLite ExIsResourceAcquiredSharedLite
NTKERNELAPI ULONG ExGetExclusiveWaiterCount(PERESOURCE resource);
NTKERNELAPI ULONG ExGetSharedWaiterCount(PERESOURCE resource);
/*
 * Make an address with the two low bits set the owner in place of the calling thread; released
 * with ExReleaseResourceForThreadLite.
 */
NTKERNELAPI VOID ExSetResourceOwnerPointer(PERESOURCE resource, PVOID owner);
#define ExGetCurrentResourceThread() ((ERESOURCE_THREAD)PsGetCurrentThread())
/* Priorities are never boosted. */
#define ExDisableResourceBoostLite(resource) ((VOID)(resource))

/* NULL. */
NTKERNELAPI PVOID ExEnterCriticalRegionAndAcquireResourceExclusive(PERESOURCE resource);
NTKERNELAPI PVOID ExEnterCriticalRegionAndAcquireResourceShared(PERESOURCE resource);
NTKERNELAPI PVOID ExEnterCriticalRegionAndAcquireSharedWaitForExclusive(PERESOURCE resource);
NTKERNELAPI VOID ExReleaseResourceAndLeaveCriticalRegion(PERESOURCE resource);

/* ---- rundown protection ---------------------------------------------------------------------- */

/* Count: twice the number of protections, plus 1 when run down. */
typedef struct _EX_RUNDOWN_REF {
	__extension__ union {
		volatile ULONG_PTR Count;
		PVOID volatile Ptr;
	};
} EX_RUNDOWN_REF, *PEX_RUNDOWN_REF;
NT_STATIC_ASSERT(sizeof(EX_RUNDOWN_REF) == 8, "EX_RUNDOWN_REF");

NTKERNELAPI VOID ExInitializeRundownProtection(PEX_RUNDOWN_REF rundown);
/* After a rundown. Misuse, without effect, if it was not run down. */
NTKERNELAPI VOID ExReInitializeRundownProtection(PEX_RUNDOWN_REF rundown);
/* FALSE once it is being run down. Up to DISPATCH_LEVEL, as the releases. */
NTKERNELAPI BOOLEAN ExAcquireRundownProtection(PEX_RUNDOWN_REF rundown);
NTKERNELAPI BOOLEAN ExAcquireRundownProtectionEx(PEX_RUNDOWN_REF rundown, ULONG count);
/* More than were acquired is misuse, without effect. */
NTKERNELAPI VOID ExReleaseRundownProtection(PEX_RUNDOWN_REF rundown);
NTKERNELAPI VOID ExReleaseRundownProtectionEx(PEX_RUNDOWN_REF rundown, ULONG count);
/* No protection is given from now on; returns when none is left. Up to APC_LEVEL. */
NTKERNELAPI VOID ExWaitForRundownProtectionRelease(PEX_RUNDOWN_REF rundown);
/* No protection is given any more, and none is left: misuse if there is. */
NTKERNELAPI VOID ExRundownCompleted(PEX_RUNDOWN_REF rundown);

/* The same for objects that many processors use; here they are the same. */
typedef struct _EX_RUNDOWN_REF_CACHE_AWARE *PEX_RUNDOWN_REF_CACHE_AWARE;

/* From pool; NULL without memory. */
NTKERNELAPI PEX_RUNDOWN_REF_CACHE_AWARE ExAllocateCacheAwareRundownProtection(POOL_TYPE type,
                                                                              ULONG tag);
NTKERNELAPI VOID ExFreeCacheAwareRundownProtection(PEX_RUNDOWN_REF_CACHE_AWARE rundown);
/* For callers that own the memory. */
NTKERNELAPI SIZE_T ExSizeOfRundownProtectionCacheAware(VOID);
NTKERNELAPI VOID ExInitializeRundownProtectionCacheAware(PEX_RUNDOWN_REF_CACHE_AWARE rundown,
                                                         SIZE_T size);
NTKERNELAPI VOID ExReInitializeRundownProtectionCacheAware(PEX_RUNDOWN_REF_CACHE_AWARE rundown);
NTKERNELAPI BOOLEAN ExAcquireRundownProtectionCacheAware(PEX_RUNDOWN_REF_CACHE_AWARE rundown);
NTKERNELAPI BOOLEAN ExAcquireRundownProtectionCacheAwareEx(PEX_RUNDOWN_REF_CACHE_AWARE rundown,
                                                           ULONG count);
NTKERNELAPI VOID ExReleaseRundownProtectionCacheAware(PEX_RUNDOWN_REF_CACHE_AWARE rundown);
NTKERNELAPI VOID ExReleaseRundownProtectionCacheAwareEx(PEX_RUNDOWN_REF_CACHE_AWARE rundown,
                                                        ULONG count);
NTKERNELAPI VOID ExWaitForRundownProtectionReleaseCacheAware(PEX_RUNDOWN_REF_CACHE_AWARE rundown);
NTKERNELAPI VOID ExRundownCompletedCacheAware(PEX_RUNDOWN_REF_CACHE_AWARE rundown);

NT_EXTERN_C_END

#endif
