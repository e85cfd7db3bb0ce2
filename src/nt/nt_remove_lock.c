/* SPDX-License-Identifier: MIT */
/*
 * Remove locks. IoCount counts the lock itself and its users; the removal gives back both its own
 * use and the lock's, and waits for the event that the last user sets. Setting that is the last
 * access to the lock, which is in memory that goes away with the device.
 */
#include "nt/nt_misuse.h"
#include "nt/nt_thread.h"
#include "wdm.h"

VOID
IoInitializeRemoveLockEx(PIO_REMOVE_LOCK lock, ULONG allocate_tag, ULONG max_locked_minutes,
                         ULONG high_watermark, ULONG size)
{
	UNREFERENCED_PARAMETER(allocate_tag);
	UNREFERENCED_PARAMETER(max_locked_minutes);
	UNREFERENCED_PARAMETER(high_watermark);
	nt_irql_check_at_most(PASSIVE_LEVEL, "IoInitializeRemoveLock");
	if (size < sizeof(*lock))
		nt_misuse("IoInitializeRemoveLock with %u bytes; pass sizeof(IO_REMOVE_LOCK)",
		          size);
	*lock = (IO_REMOVE_LOCK){ .Common = { .IoCount = 1 } };
	KeInitializeEvent(&lock->Common.RemoveEvent, SynchronizationEvent, FALSE);
}

NTSTATUS
IoAcquireRemoveLockEx(PIO_REMOVE_LOCK lock, PVOID tag, const char *file, ULONG line, ULONG size)
{
	UNREFERENCED_PARAMETER(tag);
	UNREFERENCED_PARAMETER(file);
	UNREFERENCED_PARAMETER(line);
	UNREFERENCED_PARAMETER(size);
	nt_irql_check_at_most(DISPATCH_LEVEL, "IoAcquireRemoveLock");
	/* Counted first: the removal either sees the count, or we see the removal. */
	InterlockedIncrement(&lock->Common.IoCount);
	if (!__atomic_load_n(&lock->Common.Removed, __ATOMIC_SEQ_CST))
		return STATUS_SUCCESS;
	if (InterlockedDecrement(&lock->Common.IoCount) == 0)
		KeSetEvent(&lock->Common.RemoveEvent, IO_NO_INCREMENT, FALSE);
	return STATUS_DELETE_PENDING;
}

/*
 * Not below what the lock itself counts for until it is removed. The removal is announced before
 * its uses are given back, so the count is read first.
 */
static bool
remove_lock_release(PIO_REMOVE_LOCK lock)
{
	LONG count = __atomic_load_n(&lock->Common.IoCount, __ATOMIC_SEQ_CST);

	do {
		if (count < 1 ||
		    (count == 1 && !__atomic_load_n(&lock->Common.Removed, __ATOMIC_SEQ_CST)))
			return false;
	} while (!__atomic_compare_exchange_n(&lock->Common.IoCount, &count, count - 1, true,
	                                      __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	if (count == 1)
		KeSetEvent(&lock->Common.RemoveEvent, IO_NO_INCREMENT, FALSE);
	return true;
}

VOID
IoReleaseRemoveLockEx(PIO_REMOVE_LOCK lock, PVOID tag, ULONG size)
{
	UNREFERENCED_PARAMETER(size);
	nt_irql_check_at_most(DISPATCH_LEVEL, "IoReleaseRemoveLock");
	if (!remove_lock_release(lock))
		nt_misuse("IoReleaseRemoveLock: nobody holds lock %p, tag %p; release it once for "
		          "each acquisition that succeeded",
		          (void *)lock, tag);
}

VOID
IoReleaseRemoveLockAndWaitEx(PIO_REMOVE_LOCK lock, PVOID tag, ULONG size)
{
	UNREFERENCED_PARAMETER(size);
	nt_irql_check_at_most(PASSIVE_LEVEL, "IoReleaseRemoveLockAndWait");
	if (__atomic_exchange_n(&lock->Common.Removed, TRUE, __ATOMIC_SEQ_CST)) {
		nt_misuse("IoReleaseRemoveLockAndWait: lock %p is removed already; remove a device "
		          "once",
		          (void *)lock);
		return;
	}
	/* The caller's use, and the lock's. */
	if (InterlockedDecrement(&lock->Common.IoCount) < 1) {
		nt_misuse("IoReleaseRemoveLockAndWait: nobody holds lock %p, tag %p; acquire it in "
		          "the removal first",
		          (void *)lock, tag);
		return;
	}
	if (InterlockedDecrement(&lock->Common.IoCount) > 0)
		KeWaitForSingleObject(&lock->Common.RemoveEvent, Executive, KernelMode, FALSE,
		                      NULL);
}
