/* SPDX-License-Identifier: MIT */
/* Locks and work items of the framework. Default parent of a lock: the driver. */
#ifndef NT_WDF_SYNC_H
#define NT_WDF_SYNC_H

#include "object.h"

NT_EXTERN_C_BEGIN

/* As KSPIN_LOCK: DISPATCH_LEVEL while held; not recursive. */
NTKERNELAPI NTSTATUS nt_wdf_spinlock_create(WDFDRIVER driver, PWDF_OBJECT_ATTRIBUTES Attributes,
					    WDFSPINLOCK *SpinLock);
FORCEINLINE NTSTATUS
WdfSpinLockCreate(PWDF_OBJECT_ATTRIBUTES SpinLockAttributes, WDFSPINLOCK *SpinLock)
{
	return nt_wdf_spinlock_create(WdfDriverGlobals[0].Driver, SpinLockAttributes, SpinLock);
}
NTKERNELAPI VOID WdfSpinLockAcquire(WDFSPINLOCK SpinLock);
NTKERNELAPI VOID WdfSpinLockRelease(WDFSPINLOCK SpinLock);

/* For PASSIVE_LEVEL; not recursive. Timeout as KeWaitForSingleObject's; NULL: no limit. STATUS_TIMEOUT. */
NTKERNELAPI NTSTATUS nt_wdf_waitlock_create(WDFDRIVER driver, PWDF_OBJECT_ATTRIBUTES Attributes,
					    WDFWAITLOCK *Lock);
FORCEINLINE NTSTATUS
WdfWaitLockCreate(PWDF_OBJECT_ATTRIBUTES LockAttributes, WDFWAITLOCK *Lock)
{
	return nt_wdf_waitlock_create(WdfDriverGlobals[0].Driver, LockAttributes, Lock);
}
NTKERNELAPI NTSTATUS WdfWaitLockAcquire(WDFWAITLOCK Lock, PLONGLONG Timeout);
NTKERNELAPI VOID WdfWaitLockRelease(WDFWAITLOCK Lock);

typedef VOID EVT_WDF_WORKITEM(WDFWORKITEM WorkItem);
typedef EVT_WDF_WORKITEM *PFN_WDF_WORKITEM;

typedef struct _WDF_WORKITEM_CONFIG {
	ULONG Size;
	PFN_WDF_WORKITEM EvtWorkItemFunc;
	BOOLEAN AutomaticSerialization; /* with the parent's synchronization scope */
} WDF_WORKITEM_CONFIG, *PWDF_WORKITEM_CONFIG;

FORCEINLINE VOID
WDF_WORKITEM_CONFIG_INIT(PWDF_WORKITEM_CONFIG Config, PFN_WDF_WORKITEM EvtWorkItemFunc)
{
	RtlZeroMemory(Config, sizeof(*Config));
	Config->Size = (ULONG)sizeof(*Config);
	Config->EvtWorkItemFunc = EvtWorkItemFunc;
	Config->AutomaticSerialization = TRUE;
}

/* Attributes with a parent are required: STATUS_WDF_PARENT_NOT_SPECIFIED. */
NTKERNELAPI NTSTATUS WdfWorkItemCreate(PWDF_WORKITEM_CONFIG Config,
				       PWDF_OBJECT_ATTRIBUTES Attributes, WDFWORKITEM *WorkItem);
/* Once at PASSIVE_LEVEL; nothing if it is queued already. May enqueue itself again. */
NTKERNELAPI VOID WdfWorkItemEnqueue(WDFWORKITEM WorkItem);
/*
 * Until it is neither queued nor running; misuse inside its own callback. Deletion does the same, but a callback
 * may delete its own work item: it does not run again then.
 */
NTKERNELAPI VOID WdfWorkItemFlush(WDFWORKITEM WorkItem);
NTKERNELAPI WDFOBJECT WdfWorkItemGetParentObject(WDFWORKITEM WorkItem);

NT_EXTERN_C_END

#endif
