/* SPDX-License-Identifier: MIT */
/*
 * Kernel core: emulated interrupt levels, spin locks, events, waits and time.
 *
 * The IRQL is a number per thread. Raising it does not stop preemption; it makes the checks of
 * the runtime strict: waiting, paged code and mutexes are misuse at DISPATCH_LEVEL.
 */
#ifndef NT_WDM_KE_H
#define NT_WDM_KE_H

#include "../ntdef.h"

NT_EXTERN_C_BEGIN

typedef struct _KTHREAD *PKTHREAD, *PRKTHREAD;
typedef struct _KTHREAD *PETHREAD;
typedef struct _EPROCESS *PEPROCESS;

/* ---- IRQL ------------------------------------------------------------------------------------ */

#define PASSIVE_LEVEL 0
#define LOW_LEVEL 0
#define APC_LEVEL 1
#define DISPATCH_LEVEL 2
#define CLOCK_LEVEL 13
#define IPI_LEVEL 14
#define HIGH_LEVEL 15

NTKERNELAPI KIRQL KeGetCurrentIrql(VOID);
/* Misuse if `irql` is below the present level; then nothing changes. */
NTKERNELAPI KIRQL KfRaiseIrql(KIRQL irql);
/* Misuse if `irql` is above the present level; then nothing changes. */
NTKERNELAPI VOID KeLowerIrql(KIRQL irql);
NTKERNELAPI KIRQL KeRaiseIrqlToDpcLevel(VOID);
#define KeRaiseIrql(irql, old) (*(old) = KfRaiseIrql(irql))
#define KfLowerIrql(irql) KeLowerIrql(irql)

/* Not from Windows: what PAGED_CODE does. Misuse above APC_LEVEL. */
NTKERNELAPI void nt_check_paged_code(const char *file, int line);
#define PAGED_CODE() nt_check_paged_code(__FILE__, __LINE__)
#define PAGED_CODE_LOCKED() ((void)0)

/* ---- spin locks ------------------------------------------------------------------------------ */

/* Low half: owner thread and waiters flag. High half: depth of wrongful recursion. Zero is free. */
typedef ULONG_PTR KSPIN_LOCK, *PKSPIN_LOCK;

NTKERNELAPI VOID KeInitializeSpinLock(PKSPIN_LOCK lock);
NTKERNELAPI KIRQL KeAcquireSpinLockRaiseToDpc(PKSPIN_LOCK lock);
NTKERNELAPI VOID KeReleaseSpinLock(PKSPIN_LOCK lock, KIRQL old);
/* The caller is at DISPATCH_LEVEL already. */
NTKERNELAPI VOID KeAcquireSpinLockAtDpcLevel(PKSPIN_LOCK lock);
NTKERNELAPI VOID KeReleaseSpinLockFromDpcLevel(PKSPIN_LOCK lock);
NTKERNELAPI BOOLEAN KeTryToAcquireSpinLockAtDpcLevel(PKSPIN_LOCK lock);
NTKERNELAPI BOOLEAN KeTestSpinLock(PKSPIN_LOCK lock);
#define KeAcquireSpinLock(lock, old) (*(old) = KeAcquireSpinLockRaiseToDpc(lock))

/* The driver gives the memory, usually in its frame; the lock is any spin lock. */
typedef struct _KSPIN_LOCK_QUEUE {
	struct _KSPIN_LOCK_QUEUE *volatile Next;
	PKSPIN_LOCK volatile Lock;
} KSPIN_LOCK_QUEUE, *PKSPIN_LOCK_QUEUE;

typedef struct _KLOCK_QUEUE_HANDLE {
	KSPIN_LOCK_QUEUE LockQueue;
	KIRQL OldIrql;
} KLOCK_QUEUE_HANDLE, *PKLOCK_QUEUE_HANDLE;

NTKERNELAPI VOID KeAcquireInStackQueuedSpinLock(PKSPIN_LOCK lock, PKLOCK_QUEUE_HANDLE handle);
NTKERNELAPI VOID KeReleaseInStackQueuedSpinLock(PKLOCK_QUEUE_HANDLE handle);
NTKERNELAPI VOID KeAcquireInStackQueuedSpinLockAtDpcLevel(PKSPIN_LOCK lock,
							  PKLOCK_QUEUE_HANDLE handle);
NTKERNELAPI VOID KeReleaseInStackQueuedSpinLockFromDpcLevel(PKLOCK_QUEUE_HANDLE handle);
/* See KeAcquireSpinLockForDpc. */
NTKERNELAPI VOID KeAcquireInStackQueuedSpinLockForDpc(PKSPIN_LOCK lock,
						      PKLOCK_QUEUE_HANDLE handle);
NTKERNELAPI VOID KeReleaseInStackQueuedSpinLockForDpc(PKLOCK_QUEUE_HANDLE handle);

/* ---- events and waits ------------------------------------------------------------------------ */

/* SignalState is private to the runtime: read it with KeReadStateEvent. */
typedef struct _DISPATCHER_HEADER {
	UCHAR Type;
	UCHAR Signalling;
	UCHAR Size;
	UCHAR Reserved;
	LONG SignalState;
	LIST_ENTRY WaitListHead;
} DISPATCHER_HEADER, *PDISPATCHER_HEADER;

typedef struct _KEVENT {
	DISPATCHER_HEADER Header;
} KEVENT, *PKEVENT, *PRKEVENT;
NT_STATIC_ASSERT(sizeof(KEVENT) == 24, "KEVENT");

typedef LONG KPRIORITY;
#define IO_NO_INCREMENT 0
#define EVENT_INCREMENT 1
#define IO_DISK_INCREMENT 1
#define IO_NETWORK_INCREMENT 2

typedef enum _KWAIT_REASON {
	Executive,
	FreePage,
	PageIn,
	PoolAllocation,
	DelayExecution,
	Suspended,
	UserRequest,
	MaximumWaitReason = 40
} KWAIT_REASON;

/* No event needs a destroy call. The memory may go as soon as the last waiter returned. */
NTKERNELAPI VOID KeInitializeEvent(PRKEVENT event, EVENT_TYPE type, BOOLEAN state);
/* These two return the previous state. `wait` TRUE is misuse and treated as FALSE. */
NTKERNELAPI LONG KeSetEvent(PRKEVENT event, KPRIORITY increment, BOOLEAN wait);
NTKERNELAPI LONG KeResetEvent(PRKEVENT event);
NTKERNELAPI VOID KeClearEvent(PRKEVENT event);
NTKERNELAPI LONG KeReadStateEvent(PRKEVENT event);
/*
 * Wait for an event, mutex, semaphore, timer or thread. STATUS_SUCCESS, STATUS_ABANDONED (the
 * mutex is the caller's, but its last owner ended without a release) or STATUS_TIMEOUT;
 * STATUS_INVALID_PARAMETER (and misuse) if `object` is none of these. Timeout NULL: no limit; 0:
 * look only, legal at DISPATCH_LEVEL; negative: relative, positive: absolute system time, both in
 * 100 ns. Never ends early. Never alerted.
 */
NTKERNELAPI NTSTATUS KeWaitForSingleObject(PVOID object, KWAIT_REASON reason, KPROCESSOR_MODE mode,
                                           BOOLEAN alertable, PLARGE_INTEGER timeout);

/* ---- time ------------------------------------------------------------------------------------ */

/* Interval as the timeout above. PASSIVE or APC level. */
NTKERNELAPI NTSTATUS KeDelayExecutionThread(KPROCESSOR_MODE mode, BOOLEAN alertable,
                                            PLARGE_INTEGER interval);
/* 100 ns since 1601-01-01 UTC. */
NTKERNELAPI VOID KeQuerySystemTimePrecise(PLARGE_INTEGER time);
#define KeQuerySystemTime(time) KeQuerySystemTimePrecise(time)
/* 100 ns since boot; never goes back. */
NTKERNELAPI ULONGLONG KeQueryInterruptTime(VOID);
NTKERNELAPI ULONGLONG KeQueryInterruptTimePrecise(PULONG64 counter);
/* Ticks of KeQueryTimeIncrement() times 100 ns. */
#define KeQueryTickCount(count) \
	((count)->QuadPart = (LONGLONG)(KeQueryInterruptTime() / KeQueryTimeIncrement()))
NTKERNELAPI ULONG KeQueryTimeIncrement(VOID);
NTKERNELAPI LARGE_INTEGER KeQueryPerformanceCounter(PLARGE_INTEGER frequency);
NTKERNELAPI VOID KeStallExecutionProcessor(ULONG microseconds);

/* ---- threads --------------------------------------------------------------------------------- */

NTKERNELAPI PKTHREAD KeGetCurrentThread(VOID);
NTKERNELAPI HANDLE PsGetCurrentThreadId(VOID);
NTKERNELAPI HANDLE PsGetCurrentProcessId(VOID);
#define PsGetCurrentThread() ((PETHREAD)KeGetCurrentThread())

NTKERNELAPI DECLSPEC_NORETURN VOID KeBugCheckEx(ULONG code, ULONG_PTR parameter1,
						ULONG_PTR parameter2, ULONG_PTR parameter3,
						ULONG_PTR parameter4);
NTKERNELAPI DECLSPEC_NORETURN VOID KeBugCheck(ULONG code);

NT_EXTERN_C_END

#endif
