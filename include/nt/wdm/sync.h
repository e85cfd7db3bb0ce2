/* SPDX-License-Identifier: MIT */
/*
 * Mutexes and semaphores, waiting for several objects at once, critical and guarded regions.
 *
 * Every object lives in the driver's memory and needs no destroy call; the memory may go as soon
 * as no thread waits for the object or is inside a call that names it.
 */
#ifndef NT_WDM_SYNC_H
#define NT_WDM_SYNC_H

#include "../ntdef.h"
#include "ke.h"

NT_EXTERN_C_BEGIN

/* ---- semaphores ------------------------------------------------------------------------------ */

#define SEMAPHORE_INCREMENT 1

typedef struct _KSEMAPHORE {
	DISPATCHER_HEADER Header;
	LONG Limit;
} KSEMAPHORE, *PKSEMAPHORE, *PRKSEMAPHORE;
NT_STATIC_ASSERT(sizeof(KSEMAPHORE) == 32, "KSEMAPHORE");

/* 0 <= count <= limit, limit > 0: anything else is misuse, and the semaphore never signals. */
NTKERNELAPI VOID KeInitializeSemaphore(PRKSEMAPHORE semaphore, LONG count, LONG limit);
/*
 * Let `adjustment` waiters go, now or later. The count before. Windows raises an exception when
 * the limit would be passed; here that is misuse, as is an adjustment below 1, and the count stays.
 * `wait` TRUE is misuse and treated as FALSE. Context: up to DISPATCH_LEVEL.
 */
NTKERNELAPI LONG KeReleaseSemaphore(PRKSEMAPHORE semaphore, KPRIORITY increment, LONG adjustment,
                                    BOOLEAN wait);
NTKERNELAPI LONG KeReadStateSemaphore(PRKSEMAPHORE semaphore);

/* ---- mutexes --------------------------------------------------------------------------------- */

/* SignalState: 1 free, 0 held, below 0 held that many times more. Abandoned: see KeWait... */
typedef struct _KMUTANT {
	DISPATCHER_HEADER Header;
	LIST_ENTRY MutantListEntry;
	struct _KTHREAD *OwnerThread;
	BOOLEAN Abandoned;
	UCHAR ApcDisable;
} KMUTANT, *PKMUTANT, *PRKMUTANT, KMUTEX, *PKMUTEX, *PRKMUTEX;
NT_STATIC_ASSERT(sizeof(KMUTEX) == 56, "KMUTEX");

/* `level` is not used, as on Windows. */
NTKERNELAPI VOID KeInitializeMutex(PRKMUTEX mutex, ULONG level);
/*
 * Acquire with KeWaitFor...; the owner may do so again, and stays in a critical region until its
 * last release. 0: the mutex is free now; below 0: held as before. By another thread than the
 * owner: misuse, no effect. `wait` TRUE is misuse and treated as FALSE. Context: up to
 * DISPATCH_LEVEL.
 *
 * A thread that ends while it owns a mutex is misuse; the next owner gets STATUS_ABANDONED.
 */
NTKERNELAPI LONG KeReleaseMutex(PRKMUTEX mutex, BOOLEAN wait);
/* 1 when free. */
NTKERNELAPI LONG KeReadStateMutex(PRKMUTEX mutex);
#define KeWaitForMutexObject KeWaitForSingleObject

/* ---- waiting for several objects ------------------------------------------------------------- */

#define MAXIMUM_WAIT_OBJECTS 64
#define THREAD_WAIT_OBJECTS 3

typedef enum _WAIT_TYPE { WaitAll, WaitAny } WAIT_TYPE;

/* Drivers only provide the memory, and the runtime does not use it. */
typedef struct _KWAIT_BLOCK {
	LIST_ENTRY WaitListEntry;
	struct _KTHREAD *Thread;
	PVOID Object;
	struct _KWAIT_BLOCK *NextWaitBlock;
	USHORT WaitKey;
	UCHAR WaitType;
	volatile UCHAR BlockState;
	LONG SpareLong;
} KWAIT_BLOCK, *PKWAIT_BLOCK, *PRKWAIT_BLOCK;
NT_STATIC_ASSERT(sizeof(KWAIT_BLOCK) == 48, "KWAIT_BLOCK");

/*
 * WaitAny: STATUS_WAIT_0 plus the index of the first object that lets go, which is taken (an
 * abandoned mutex: STATUS_ABANDONED_WAIT_0 plus the index). WaitAll: STATUS_WAIT_0 when all let
 * go at one moment, and until then none is taken (STATUS_ABANDONED_WAIT_0 if one was an abandoned
 * mutex). STATUS_TIMEOUT otherwise. Timeout and context as KeWaitForSingleObject.
 *
 * Misuse: no object or more than MAXIMUM_WAIT_OBJECTS, something that is no object, the same one
 * twice with WaitAll (all three STATUS_INVALID_PARAMETER); more than THREAD_WAIT_OBJECTS without
 * wait blocks (no effect).
 */
NTKERNELAPI NTSTATUS KeWaitForMultipleObjects(ULONG count, PVOID objects[], WAIT_TYPE type,
                                              KWAIT_REASON reason, KPROCESSOR_MODE mode,
                                              BOOLEAN alertable, PLARGE_INTEGER timeout,
                                              PKWAIT_BLOCK blocks);

/* ---- regions --------------------------------------------------------------------------------- */

/*
 * There are no APCs; what counts is that enters and leaves pair up, and that locks which need a
 * region find one. Up to APC_LEVEL. Leaving a region that was not entered is misuse.
 */
NTKERNELAPI VOID KeEnterCriticalRegion(VOID);
NTKERNELAPI VOID KeLeaveCriticalRegion(VOID);
NTKERNELAPI VOID KeEnterGuardedRegion(VOID);
NTKERNELAPI VOID KeLeaveGuardedRegion(VOID);
/* In a region of either kind. */
NTKERNELAPI BOOLEAN KeAreApcsDisabled(VOID);
/* In a guarded region, or at APC_LEVEL or above. */
NTKERNELAPI BOOLEAN KeAreAllApcsDisabled(VOID);

NT_EXTERN_C_END

#endif
