/* SPDX-License-Identifier: MIT */
/*
 * Remove locks: a device counts who uses it, and its removal waits for them.
 *
 * Tags, the maximum time and the high watermark are for a checked Windows; here they are not used.
 */
#ifndef NT_WDM_REMOVELOCK_H
#define NT_WDM_REMOVELOCK_H

#include "../ntdef.h"
#include "ke.h"

NT_EXTERN_C_BEGIN

typedef struct _IO_REMOVE_LOCK_COMMON_BLOCK {
	BOOLEAN Removed;
	BOOLEAN Reserved[3];
	volatile LONG IoCount;
	KEVENT RemoveEvent;
} IO_REMOVE_LOCK_COMMON_BLOCK;

typedef struct _IO_REMOVE_LOCK {
	IO_REMOVE_LOCK_COMMON_BLOCK Common;
} IO_REMOVE_LOCK, *PIO_REMOVE_LOCK;
NT_STATIC_ASSERT(sizeof(IO_REMOVE_LOCK) == 32, "IO_REMOVE_LOCK");

NTKERNELAPI VOID IoInitializeRemoveLockEx(PIO_REMOVE_LOCK lock, ULONG allocate_tag,
                                          ULONG max_locked_minutes, ULONG high_watermark,
                                          ULONG size);
/*
 * STATUS_SUCCESS, or STATUS_DELETE_PENDING once the lock is being removed: then there is nothing to
 * release. Up to DISPATCH_LEVEL, as the release.
 */
NTKERNELAPI NTSTATUS IoAcquireRemoveLockEx(PIO_REMOVE_LOCK lock, PVOID tag, const char *file,
                                           ULONG line, ULONG size);
/* One more release than acquisitions is misuse, without effect. */
NTKERNELAPI VOID IoReleaseRemoveLockEx(PIO_REMOVE_LOCK lock, PVOID tag, ULONG size);
/*
 * Once, by a caller that has acquired the lock too: nobody acquires it from now on; returns when
 * all others have released it, and then its memory may go. PASSIVE_LEVEL.
 */
NTKERNELAPI VOID IoReleaseRemoveLockAndWaitEx(PIO_REMOVE_LOCK lock, PVOID tag, ULONG size);

#define IoInitializeRemoveLock(lock, allocate_tag, max_locked_minutes, high_watermark)   \
	IoInitializeRemoveLockEx(lock, allocate_tag, max_locked_minutes, high_watermark, \
	                         (ULONG)sizeof(IO_REMOVE_LOCK))
#define IoAcquireRemoveLock(lock, tag) \
	IoAcquireRemoveLockEx(lock, tag, __FILE__, __LINE__, (ULONG)sizeof(IO_REMOVE_LOCK))
#define IoReleaseRemoveLock(lock, tag) \
	IoReleaseRemoveLockEx(lock, tag, (ULONG)sizeof(IO_REMOVE_LOCK))
#define IoReleaseRemoveLockAndWait(lock, tag) \
	IoReleaseRemoveLockAndWaitEx(lock, tag, (ULONG)sizeof(IO_REMOVE_LOCK))

NT_EXTERN_C_END

#endif
