/* SPDX-License-Identifier: MIT */
/*
 * Resources: recursive reader/writer locks that know who holds them.
 *
 * Everything is under the resource's spin lock. A thread that has to wait queues a record in its
 * own frame; whoever releases the resource hands it over: after an exclusive owner to all that
 * want to share it, else to the first that wants it alone. Who shares it is in a table that grows;
 * without memory for that a holder is only counted, and its mistakes are not found.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#include "nt/nt_misuse.h"
#include "nt/nt_thread.h"
#include "wdm.h"

#define TABLE_FIRST 4u

/* What ExSetResourceOwnerPointer demands of an address. */
#define OWNER_POINTER_BITS ((uintptr_t)3)

struct resource_waiter {
	LIST_ENTRY link;
	KEVENT granted;
	ERESOURCE_THREAD thread;
	bool exclusive;
};

/* ---- owners ---------------------------------------------------------------------------------- */

static bool
is_exclusive_locked(const ERESOURCE *resource)
{
	return (resource->Flag & ResourceOwnedExclusive) != 0;
}

static bool
is_free_locked(const ERESOURCE *resource)
{
	return !is_exclusive_locked(resource) && resource->ActiveEntries == 0;
}

static bool
is_owner_locked(const ERESOURCE *resource, ERESOURCE_THREAD thread)
{
	return is_exclusive_locked(resource) && resource->OwnerEntry.OwnerThread == thread;
}

/* 0 finds a free entry. */
static POWNER_ENTRY
entry_find_locked(PERESOURCE resource, ERESOURCE_THREAD thread)
{
	for (ULONG i = 0; i < resource->OwnerEntry.TableSize; i++) {
		if (resource->OwnerTable[i].OwnerThread == thread)
			return &resource->OwnerTable[i];
	}
	return NULL;
}

static POWNER_ENTRY
entry_new_locked(PERESOURCE resource)
{
	const ULONG size = resource->OwnerEntry.TableSize;
	const ULONG more = size == 0 ? TABLE_FIRST : 2 * size;
	POWNER_ENTRY entry = entry_find_locked(resource, 0);
	POWNER_ENTRY table;

	if (entry != NULL)
		return entry;
	table = realloc(resource->OwnerTable, more * sizeof(*table));
	if (table == NULL)
		return NULL;
	for (ULONG i = size; i < more; i++)
		table[i] = (OWNER_ENTRY){ 0, 0, 0 };
	resource->OwnerTable = table;
	resource->OwnerEntry.TableSize = more;
	return &table[size];
}

static void
own_exclusive_locked(PERESOURCE resource, ERESOURCE_THREAD thread)
{
	resource->Flag |= ResourceOwnedExclusive;
	resource->OwnerEntry.OwnerThread = thread;
	resource->OwnerEntry.OwnerCount = 1;
	resource->ActiveCount = 1;
}

static void
own_shared_locked(PERESOURCE resource, ERESOURCE_THREAD thread, ULONG count)
{
	POWNER_ENTRY entry = entry_find_locked(resource, thread);

	if (entry != NULL) {
		entry->OwnerCount += count;
		return;
	}
	entry = entry_new_locked(resource);
	if (entry != NULL) {
		entry->OwnerThread = thread;
		entry->OwnerCount = count;
		resource->ActiveEntries++;
	} else {
		resource->UnnamedEntries += count;
		resource->ActiveEntries += count;
	}
	resource->ActiveCount = 1;
}

/* ---- waiting --------------------------------------------------------------------------------- */

/*
 * Hand the resource to one waiter. The event is the last access to the record; nothing here
 * sleeps.
 */
static void
grant_locked(PERESOURCE resource, struct resource_waiter *waiter)
{
	RemoveEntryList(&waiter->link);
	if (waiter->exclusive) {
		resource->NumberOfExclusiveWaiters--;
		own_exclusive_locked(resource, waiter->thread);
	} else {
		resource->NumberOfSharedWaiters--;
		own_shared_locked(resource, waiter->thread, 1);
	}
	KeSetEvent(&waiter->granted, IO_NO_INCREMENT, FALSE);
}

static void
grant_shared_locked(PERESOURCE resource)
{
	PLIST_ENTRY link = resource->WaitListHead.Flink;

	while (link != &resource->WaitListHead) {
		struct resource_waiter *waiter =
		    CONTAINING_RECORD(link, struct resource_waiter, link);

		link = link->Flink;
		if (!waiter->exclusive)
			grant_locked(resource, waiter);
	}
}

static void
grant_exclusive_locked(PERESOURCE resource)
{
	for (PLIST_ENTRY link = resource->WaitListHead.Flink; link != &resource->WaitListHead;
	     link = link->Flink) {
		struct resource_waiter *waiter =
		    CONTAINING_RECORD(link, struct resource_waiter, link);

		if (waiter->exclusive) {
			grant_locked(resource, waiter);
			return;
		}
	}
}

/* Nobody holds it. */
static void
hand_over_locked(PERESOURCE resource, bool was_exclusive)
{
	resource->ActiveCount = 0;
	if (resource->NumberOfSharedWaiters != 0 &&
	    (was_exclusive || resource->NumberOfExclusiveWaiters == 0))
		grant_shared_locked(resource);
	else
		grant_exclusive_locked(resource);
}

/* Leaves the lock. */
static void
wait_unlock(PERESOURCE resource, ERESOURCE_THREAD thread, bool exclusive, KIRQL old)
{
	struct resource_waiter waiter = { .thread = thread, .exclusive = exclusive };

	KeInitializeEvent(&waiter.granted, SynchronizationEvent, FALSE);
	InsertTailList(&resource->WaitListHead, &waiter.link);
	resource->ContentionCount++;
	if (exclusive)
		resource->NumberOfExclusiveWaiters++;
	else
		resource->NumberOfSharedWaiters++;
	KeReleaseSpinLock(&resource->SpinLock, old);
	KeWaitForSingleObject(&waiter.granted, Executive, KernelMode, FALSE, NULL);
}

/* ---- acquiring ------------------------------------------------------------------------------- */

static void
check_acquire(const char *what)
{
	nt_irql_check_at_most(APC_LEVEL, what);
	nt_check_apcs_disabled(what);
}

BOOLEAN
ExAcquireResourceExclusiveLite(PERESOURCE resource, BOOLEAN wait)
{
	const ERESOURCE_THREAD self = ExGetCurrentResourceThread();
	bool shares, acquired = true;
	KIRQL old;

	check_acquire("ExAcquireResourceExclusiveLite");
	old = KeAcquireSpinLockRaiseToDpc(&resource->SpinLock);
	shares = entry_find_locked(resource, self) != NULL;
	if (is_owner_locked(resource, self)) {
		resource->OwnerEntry.OwnerCount++;
	} else if (is_free_locked(resource)) {
		own_exclusive_locked(resource, self);
	} else if (wait && !shares) {
		wait_unlock(resource, self, true, old);
		return TRUE;
	} else {
		acquired = false;
	}
	KeReleaseSpinLock(&resource->SpinLock, old);
	if (shares && wait)
		nt_misuse(
		    "ExAcquireResourceExclusiveLite: resource %p is shared by the same thread, "
		    "which never ends on Windows; not acquired, release it first",
		    (void *)resource);
	return acquired;
}

enum shared_rule {
	SHARED_IN_TURN,
	SHARED_FIRST, /* nobody who waits goes before */
	SHARED_LAST,  /* everybody who waits to own it does, also if it is shared already */
};

static BOOLEAN
acquire_shared(PERESOURCE resource, BOOLEAN wait, enum shared_rule rule, const char *what)
{
	const ERESOURCE_THREAD self = ExGetCurrentResourceThread();
	bool in_turn;
	KIRQL old;

	check_acquire(what);
	old = KeAcquireSpinLockRaiseToDpc(&resource->SpinLock);
	if (is_owner_locked(resource, self)) {
		resource->OwnerEntry.OwnerCount++;
		KeReleaseSpinLock(&resource->SpinLock, old);
		return TRUE;
	}
	in_turn = resource->NumberOfExclusiveWaiters == 0 || rule == SHARED_FIRST ||
	          (rule == SHARED_IN_TURN && entry_find_locked(resource, self) != NULL);
	if (is_exclusive_locked(resource) || !in_turn) {
		if (wait) {
			wait_unlock(resource, self, false, old);
			return TRUE;
		}
		KeReleaseSpinLock(&resource->SpinLock, old);
		return FALSE;
	}
	own_shared_locked(resource, self, 1);
	KeReleaseSpinLock(&resource->SpinLock, old);
	return TRUE;
}

BOOLEAN
ExAcquireResourceSharedLite(PERESOURCE resource, BOOLEAN wait)
{
	return acquire_shared(resource, wait, SHARED_IN_TURN, "ExAcquireResourceSharedLite");
}

BOOLEAN
ExAcquireSharedStarveExclusive(PERESOURCE resource, BOOLEAN wait)
{
	return acquire_shared(resource, wait, SHARED_FIRST, "ExAcquireSharedStarveExclusive");
}

BOOLEAN
ExAcquireSharedWaitForExclusive(PERESOURCE resource, BOOLEAN wait)
{
	return acquire_shared(resource, wait, SHARED_LAST, "ExAcquireSharedWaitForExclusive");
}

/* ---- releasing ------------------------------------------------------------------------------- */

/* False if the thread does not hold it. */
static bool
release_locked(PERESOURCE resource, ERESOURCE_THREAD thread)
{
	POWNER_ENTRY entry;

	if (is_exclusive_locked(resource)) {
		if (resource->OwnerEntry.OwnerThread != thread)
			return false;
		if (--resource->OwnerEntry.OwnerCount == 0) {
			resource->OwnerEntry.OwnerThread = 0;
			resource->Flag &= (USHORT)~ResourceOwnedExclusive;
			hand_over_locked(resource, true);
		}
		return true;
	}
	entry = entry_find_locked(resource, thread);
	if (entry != NULL) {
		if (--entry->OwnerCount != 0)
			return true;
		entry->OwnerThread = 0;
	} else if (resource->UnnamedEntries != 0) {
		resource->UnnamedEntries--;
	} else {
		return false;
	}
	if (--resource->ActiveEntries == 0)
		hand_over_locked(resource, false);
	return true;
}

VOID
ExReleaseResourceForThreadLite(PERESOURCE resource, ERESOURCE_THREAD thread)
{
	bool released;
	KIRQL old;

	nt_irql_check_at_most(DISPATCH_LEVEL, "ExReleaseResourceLite");
	old = KeAcquireSpinLockRaiseToDpc(&resource->SpinLock);
	released = thread != 0 && release_locked(resource, thread);
	KeReleaseSpinLock(&resource->SpinLock, old);
	if (!released)
		nt_misuse(
		    "ExReleaseResourceLite: resource %p is not held by thread %#llx; release it "
		    "once for each acquisition that succeeded",
		    (void *)resource, (ULONGLONG)thread);
}

VOID
ExReleaseResourceLite(PERESOURCE resource)
{
	ExReleaseResourceForThreadLite(resource, ExGetCurrentResourceThread());
}

VOID
ExConvertExclusiveToSharedLite(PERESOURCE resource)
{
	const ERESOURCE_THREAD self = ExGetCurrentResourceThread();
	bool is_owner;
	KIRQL old;

	nt_irql_check_at_most(DISPATCH_LEVEL, "ExConvertExclusiveToSharedLite");
	old = KeAcquireSpinLockRaiseToDpc(&resource->SpinLock);
	is_owner = is_owner_locked(resource, self);
	if (is_owner) {
		resource->Flag &= (USHORT)~ResourceOwnedExclusive;
		resource->OwnerEntry.OwnerThread = 0;
		own_shared_locked(resource, self, resource->OwnerEntry.OwnerCount);
		grant_shared_locked(resource);
	}
	KeReleaseSpinLock(&resource->SpinLock, old);
	if (!is_owner)
		nt_misuse("ExConvertExclusiveToSharedLite: resource %p is not owned by the calling "
		          "thread; acquire it exclusively first",
		          (void *)resource);
}

VOID
ExSetResourceOwnerPointer(PERESOURCE resource, PVOID owner)
{
	const ERESOURCE_THREAD self = ExGetCurrentResourceThread();
	POWNER_ENTRY entry = NULL;
	bool is_held;
	KIRQL old;

	if (((uintptr_t)owner & OWNER_POINTER_BITS) != OWNER_POINTER_BITS) {
		nt_misuse("ExSetResourceOwnerPointer with %p; set the two low bits of the address",
		          owner);
		return;
	}
	old = KeAcquireSpinLockRaiseToDpc(&resource->SpinLock);
	is_held = is_owner_locked(resource, self);
	if (is_held) {
		resource->OwnerEntry.OwnerThread = (ERESOURCE_THREAD)owner;
	} else {
		entry = entry_find_locked(resource, self);
		is_held = entry != NULL;
		if (is_held)
			entry->OwnerThread = (ERESOURCE_THREAD)owner;
	}
	KeReleaseSpinLock(&resource->SpinLock, old);
	if (!is_held)
		nt_misuse(
		    "ExSetResourceOwnerPointer: resource %p is not held by the calling thread; "
		    "acquire it first",
		    (void *)resource);
}

/* ---- asking ---------------------------------------------------------------------------------- */

BOOLEAN
ExIsResourceAcquiredExclusiveLite(PERESOURCE resource)
{
	KIRQL old;
	bool is_owner;

	nt_irql_check_at_most(DISPATCH_LEVEL, "ExIsResourceAcquiredExclusiveLite");
	old = KeAcquireSpinLockRaiseToDpc(&resource->SpinLock);
	is_owner = is_owner_locked(resource, ExGetCurrentResourceThread());
	KeReleaseSpinLock(&resource->SpinLock, old);
	return is_owner;
}

ULONG
ExIsResourceAcquiredSharedLite(PERESOURCE resource)
{
	const ERESOURCE_THREAD self = ExGetCurrentResourceThread();
	const OWNER_ENTRY *entry;
	ULONG count = 0;
	KIRQL old;

	nt_irql_check_at_most(DISPATCH_LEVEL, "ExIsResourceAcquiredSharedLite");
	old = KeAcquireSpinLockRaiseToDpc(&resource->SpinLock);
	entry = is_owner_locked(resource, self) ? &resource->OwnerEntry
	                                        : entry_find_locked(resource, self);
	if (entry != NULL)
		count = entry->OwnerCount;
	KeReleaseSpinLock(&resource->SpinLock, old);
	return count;
}

ULONG
ExGetExclusiveWaiterCount(PERESOURCE resource)
{
	const KIRQL old = KeAcquireSpinLockRaiseToDpc(&resource->SpinLock);
	const ULONG count = resource->NumberOfExclusiveWaiters;

	KeReleaseSpinLock(&resource->SpinLock, old);
	return count;
}

ULONG
ExGetSharedWaiterCount(PERESOURCE resource)
{
	const KIRQL old = KeAcquireSpinLockRaiseToDpc(&resource->SpinLock);
	const ULONG count = resource->NumberOfSharedWaiters;

	KeReleaseSpinLock(&resource->SpinLock, old);
	return count;
}

/* ---- life ------------------------------------------------------------------------------------ */

NTSTATUS
ExInitializeResourceLite(PERESOURCE resource)
{
	nt_irql_check_at_most(DISPATCH_LEVEL, "ExInitializeResourceLite");
	memset(resource, 0, sizeof(*resource));
	InitializeListHead(&resource->WaitListHead);
	KeInitializeSpinLock(&resource->SpinLock);
	return STATUS_SUCCESS;
}

NTSTATUS
ExDeleteResourceLite(PERESOURCE resource)
{
	POWNER_ENTRY table = NULL;
	bool is_idle;
	KIRQL old;

	nt_irql_check_at_most(DISPATCH_LEVEL, "ExDeleteResourceLite");
	old = KeAcquireSpinLockRaiseToDpc(&resource->SpinLock);
	is_idle = is_free_locked(resource) && IsListEmpty(&resource->WaitListHead);
	if (is_idle) {
		table = resource->OwnerTable;
		resource->OwnerTable = NULL;
		resource->OwnerEntry.TableSize = 0;
	}
	KeReleaseSpinLock(&resource->SpinLock, old);
	free(table);
	if (is_idle)
		return STATUS_SUCCESS;
	nt_misuse(
	    "ExDeleteResourceLite: resource %p is held or waited for; it stays, delete it when "
	    "nobody uses it",
	    (void *)resource);
	return STATUS_UNSUCCESSFUL;
}

NTSTATUS
ExReinitializeResourceLite(PERESOURCE resource)
{
	const NTSTATUS status = ExDeleteResourceLite(resource);

	return status == STATUS_SUCCESS ? ExInitializeResourceLite(resource) : status;
}

/* ---- in a critical region -------------------------------------------------------------------- */

PVOID
ExEnterCriticalRegionAndAcquireResourceExclusive(PERESOURCE resource)
{
	KeEnterCriticalRegion();
	ExAcquireResourceExclusiveLite(resource, TRUE);
	return NULL;
}

PVOID
ExEnterCriticalRegionAndAcquireResourceShared(PERESOURCE resource)
{
	KeEnterCriticalRegion();
	ExAcquireResourceSharedLite(resource, TRUE);
	return NULL;
}

PVOID
ExEnterCriticalRegionAndAcquireSharedWaitForExclusive(PERESOURCE resource)
{
	KeEnterCriticalRegion();
	ExAcquireSharedWaitForExclusive(resource, TRUE);
	return NULL;
}

VOID
ExReleaseResourceAndLeaveCriticalRegion(PERESOURCE resource)
{
	ExReleaseResourceLite(resource);
	KeLeaveCriticalRegion();
}
