/* SPDX-License-Identifier: MIT */
/*
 * Deferred procedure calls and timers.
 *
 * Each processor has a thread that runs its DPCs one after the other at DISPATCH_LEVEL, and one
 * that runs threaded DPCs at PASSIVE_LEVEL; both are made when first needed. Objects live in the
 * driver's memory and need no destroy call.
 */
#ifndef NT_WDM_DPC_H
#define NT_WDM_DPC_H

#include "../ntdef.h"
#include "ke.h"

NT_EXTERN_C_BEGIN

/* ---- processors ------------------------------------------------------------------------------ */

typedef struct _PROCESSOR_NUMBER {
	USHORT Group;
	UCHAR Number;
	UCHAR Reserved;
} PROCESSOR_NUMBER, *PPROCESSOR_NUMBER;

#define ALL_PROCESSOR_GROUPS 0xffff
#define INVALID_PROCESSOR_INDEX 0xffffffffu

/* Those that the process may run on, numbered from 0, at most 64; one group. Never changes. */
NTKERNELAPI ULONG KeQueryActiveProcessorCount(PKAFFINITY active);
/* 0 for a group that does not exist. */
NTKERNELAPI ULONG KeQueryActiveProcessorCountEx(USHORT group);
NTKERNELAPI KAFFINITY KeQueryActiveProcessors(VOID);
NTKERNELAPI ULONG KeQueryMaximumProcessorCount(VOID);
NTKERNELAPI ULONG KeQueryMaximumProcessorCountEx(USHORT group);
NTKERNELAPI USHORT KeQueryActiveGroupCount(VOID);
/*
 * Below the count above. The thread may run on another one as soon as this has returned, at any
 * IRQL, except in a DPC, whose processor stays the same.
 */
NTKERNELAPI ULONG KeGetCurrentProcessorNumber(VOID);
/* `number` may be NULL. */
NTKERNELAPI ULONG KeGetCurrentProcessorNumberEx(PPROCESSOR_NUMBER number);
#define KeGetCurrentProcessorIndex() KeGetCurrentProcessorNumberEx(NULL)
/* STATUS_INVALID_PARAMETER if there is no such processor. */
NTKERNELAPI NTSTATUS KeGetProcessorNumberFromIndex(ULONG index, PPROCESSOR_NUMBER number);
/* INVALID_PROCESSOR_INDEX if there is no such processor. */
NTKERNELAPI ULONG KeGetProcessorIndexFromNumber(PPROCESSOR_NUMBER number);

/* ---- DPCs ------------------------------------------------------------------------------------ */

struct _KDPC;
typedef VOID KDEFERRED_ROUTINE(struct _KDPC *dpc, PVOID context, PVOID argument1, PVOID argument2);
typedef KDEFERRED_ROUTINE *PKDEFERRED_ROUTINE;

typedef enum _KDPC_IMPORTANCE {
	LowImportance,
	MediumImportance,
	HighImportance,
	MediumHighImportance
} KDPC_IMPORTANCE;

/* DpcData is not NULL while the DPC is queued. */
typedef struct _KDPC {
	UCHAR Type;
	UCHAR Importance;
	volatile USHORT Number;
	LIST_ENTRY DpcListEntry;
	PKDEFERRED_ROUTINE DeferredRoutine;
	PVOID DeferredContext;
	PVOID SystemArgument1;
	PVOID SystemArgument2;
	volatile PVOID DpcData;
} KDPC, *PKDPC, *PRKDPC;
NT_STATIC_ASSERT(sizeof(KDPC) == 64, "KDPC");

NTKERNELAPI VOID KeInitializeDpc(PRKDPC dpc, PKDEFERRED_ROUTINE routine, PVOID context);
/* Its routine may wait. */
NTKERNELAPI VOID KeInitializeThreadedDpc(PRKDPC dpc, PKDEFERRED_ROUTINE routine, PVOID context);
/* HighImportance: in front of what is queued already. */
NTKERNELAPI VOID KeSetImportanceDpc(PRKDPC dpc, KDPC_IMPORTANCE importance);
/* Where it runs when it is queued next; without this, where it was queued. */
NTKERNELAPI VOID KeSetTargetProcessorDpc(PRKDPC dpc, CCHAR number);
/* STATUS_INVALID_PARAMETER if there is no such processor. */
NTKERNELAPI NTSTATUS KeSetTargetProcessorDpcEx(PKDPC dpc, PPROCESSOR_NUMBER number);
/*
 * FALSE if it is queued already; then the arguments are those of the first time. The object is the
 * driver's again when its routine is entered: the routine may queue or free it. Context: any.
 */
NTKERNELAPI BOOLEAN KeInsertQueueDpc(PRKDPC dpc, PVOID argument1, PVOID argument2);
/* TRUE if it was queued and now is not. Its routine may be running. Context: any. */
NTKERNELAPI BOOLEAN KeRemoveQueueDpc(PRKDPC dpc);
/*
 * Wait until all DPCs that were queued at the time of the call have run and returned. Misuse above
 * PASSIVE_LEVEL, where it returns at once. In a threaded DPC it does not wait for those of its own
 * thread.
 */
NTKERNELAPI VOID KeFlushQueuedDpcs(VOID);

/* For routines that may be DPCs of either kind: raise to DISPATCH_LEVEL if not there already. */
NTKERNELAPI KIRQL KeAcquireSpinLockForDpc(PKSPIN_LOCK lock);
NTKERNELAPI VOID KeReleaseSpinLockForDpc(PKSPIN_LOCK lock, KIRQL old);

/* ---- timers ---------------------------------------------------------------------------------- */

typedef enum _TIMER_TYPE { NotificationTimer, SynchronizationTimer } TIMER_TYPE;

/* DueTime and Period in 100 ns. */
typedef struct _KTIMER {
	DISPATCHER_HEADER Header;
	ULARGE_INTEGER DueTime;
	LIST_ENTRY TimerListEntry;
	struct _KDPC *Dpc;
	ULONGLONG Period;
} KTIMER, *PKTIMER, *PRKTIMER;
NT_STATIC_ASSERT(sizeof(KTIMER) == 64, "KTIMER");

#define KeInitializeTimer(timer) KeInitializeTimerEx(timer, NotificationTimer)
NTKERNELAPI VOID KeInitializeTimerEx(PKTIMER timer, TIMER_TYPE type);
/*
 * (Re)start: not signalled until `due` (as the timeout of a wait; 0 or past: at once), then
 * signalled, and `dpc` queued with the two halves of the system time; and again every `period`
 * milliseconds. TRUE if it was running. Never early. Up to DISPATCH_LEVEL.
 *
 * A timer that runs must not be initialised again, and its memory not freed.
 */
NTKERNELAPI BOOLEAN KeSetTimer(PKTIMER timer, LARGE_INTEGER due, PKDPC dpc);
/* A negative period is misuse and taken as 0. */
NTKERNELAPI BOOLEAN KeSetTimerEx(PKTIMER timer, LARGE_INTEGER due, LONG period, PKDPC dpc);
/* The tolerance is not used. */
NTKERNELAPI BOOLEAN KeSetCoalescableTimer(PKTIMER timer, LARGE_INTEGER due, ULONG period,
                                          ULONG tolerable_delay, PKDPC dpc);
/*
 * TRUE if it was running (a periodic one always is). Its DPC may be queued or running: see
 * KeRemoveQueueDpc and KeFlushQueuedDpcs. Up to DISPATCH_LEVEL.
 */
NTKERNELAPI BOOLEAN KeCancelTimer(PKTIMER timer);
/* TRUE if signalled. */
NTKERNELAPI BOOLEAN KeReadStateTimer(PKTIMER timer);

/* ---- timers that the system allocates -------------------------------------------------------- */

/* KeWaitFor... takes one too. */
typedef struct _EX_TIMER *PEX_TIMER;
typedef VOID EXT_CALLBACK(PEX_TIMER timer, PVOID context);
typedef EXT_CALLBACK *PEXT_CALLBACK;
typedef VOID EXT_DELETE_CALLBACK(PVOID context);
typedef EXT_DELETE_CALLBACK *PEXT_DELETE_CALLBACK;

#define EX_TIMER_HIGH_RESOLUTION 0x4u
#define EX_TIMER_NO_WAKE 0x8u
#define EX_TIMER_NOTIFICATION 0x80000000u
#define EX_TIMER_UNLIMITED_TOLERANCE ((LONGLONG)-1)

typedef struct _EXT_SET_PARAMETERS {
	ULONG Version;
	ULONG Reserved;
	LONGLONG NoWakeTolerance;
} EXT_SET_PARAMETERS, *PEXT_SET_PARAMETERS;
typedef PVOID PEXT_CANCEL_PARAMETERS;
typedef struct _EXT_DELETE_PARAMETERS {
	ULONG Version;
	ULONG Reserved;
	PEXT_DELETE_CALLBACK DeleteCallback;
	PVOID DeleteContext;
} EXT_DELETE_PARAMETERS, *PEXT_DELETE_PARAMETERS;

FORCEINLINE VOID
ExInitializeSetTimerParameters(PEXT_SET_PARAMETERS parameters)
{
	memset(parameters, 0, sizeof(*parameters));
}

FORCEINLINE VOID
ExInitializeDeleteTimerParameters(PEXT_DELETE_PARAMETERS parameters)
{
	memset(parameters, 0, sizeof(*parameters));
}

/* NULL without memory and for unknown attributes. `callback` (or NULL) runs at DISPATCH_LEVEL. */
NTKERNELAPI PEX_TIMER ExAllocateTimer(PEXT_CALLBACK callback, PVOID context, ULONG attributes);
/* As KeSetTimerEx, with the period in 100 ns. The parameters change nothing. */
NTKERNELAPI BOOLEAN ExSetTimer(PEX_TIMER timer, LONGLONG due, LONGLONG period,
                               PEXT_SET_PARAMETERS parameters);
NTKERNELAPI BOOLEAN ExCancelTimer(PEX_TIMER timer, PEXT_CANCEL_PARAMETERS parameters);
/*
 * Free the timer when it does not run any more; `cancel` stops it, without it a timer that runs
 * expires once more, a periodic one too. From the call on ExSetTimer and ExCancelTimer do nothing
 * and return FALSE, which is how a callback that sets its timer again comes to an end. `wait` waits
 * until the timer is freed, and for a callback that is under way (up to APC_LEVEL, with `cancel`,
 * not in the callback itself); without it the delete callback tells. TRUE if the timer was running
 * and was stopped.
 */
NTKERNELAPI BOOLEAN ExDeleteTimer(PEX_TIMER timer, BOOLEAN cancel, BOOLEAN wait,
                                  PEXT_DELETE_PARAMETERS parameters);

NT_EXTERN_C_END

#endif
