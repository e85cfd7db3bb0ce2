/* SPDX-License-Identifier: MIT */
/* Timers of the framework. */
#ifndef NT_WDF_TIMER_H
#define NT_WDF_TIMER_H

#include "object.h"
#include "target.h"

NT_EXTERN_C_BEGIN

DECLARE_HANDLE(WDFTIMER);

/* DISPATCH_LEVEL; PASSIVE_LEVEL if the timer's execution level says so. */
typedef VOID EVT_WDF_TIMER(WDFTIMER Timer);
typedef EVT_WDF_TIMER *PFN_WDF_TIMER;

typedef struct _WDF_TIMER_CONFIG {
	ULONG Size;
	PFN_WDF_TIMER EvtTimerFunc;
	ULONG Period;                   /* in ms; 0: once */
	BOOLEAN AutomaticSerialization; /* with the parent's synchronization scope */
	ULONG TolerableDelay;           /* has no effect */
} WDF_TIMER_CONFIG, *PWDF_TIMER_CONFIG;

FORCEINLINE VOID
WDF_TIMER_CONFIG_INIT(PWDF_TIMER_CONFIG Config, PFN_WDF_TIMER EvtTimerFunc)
{
	RtlZeroMemory(Config, sizeof(*Config));
	Config->Size = (ULONG)sizeof(*Config);
	Config->EvtTimerFunc = EvtTimerFunc;
	Config->AutomaticSerialization = TRUE;
}

FORCEINLINE VOID
WDF_TIMER_CONFIG_INIT_PERIODIC(PWDF_TIMER_CONFIG Config, PFN_WDF_TIMER EvtTimerFunc, LONG Period)
{
	WDF_TIMER_CONFIG_INIT(Config, EvtTimerFunc);
	Config->Period = (ULONG)Period;
}

/*
 * Attributes with a parent (a device, or below one) are required: STATUS_WDF_PARENT_NOT_SPECIFIED,
 * STATUS_INVALID_DEVICE_REQUEST. STATUS_WDF_INCOMPATIBLE_EXECUTION_LEVEL: serialized with a scope
 * of another level. STATUS_INVALID_PARAMETER: a period above the largest LONG.
 */
NTKERNELAPI NTSTATUS WdfTimerCreate(PWDF_TIMER_CONFIG Config, PWDF_OBJECT_ATTRIBUTES Attributes,
				    WDFTIMER *Timer);
/* DueTime as KeSetTimer's. TRUE: it was running, and begins anew. DISPATCH_LEVEL at most. */
NTKERNELAPI BOOLEAN WdfTimerStart(WDFTIMER Timer, LONGLONG DueTime);
/*
 * TRUE: it was running. Wait: until its function has returned (PASSIVE_LEVEL, not inside the
 * function). Deletion does the same.
 */
NTKERNELAPI BOOLEAN WdfTimerStop(WDFTIMER Timer, BOOLEAN Wait);
NTKERNELAPI WDFOBJECT WdfTimerGetParentObject(WDFTIMER Timer);

#define WDF_REL_TIMEOUT_IN_US(us) (-(LONGLONG)(us) * 10)
#define WDF_ABS_TIMEOUT_IN_MS(ms) ((LONGLONG)(ms) * 10000)
#define WDF_ABS_TIMEOUT_IN_SEC(seconds) WDF_ABS_TIMEOUT_IN_MS((LONGLONG)(seconds) * 1000)

NT_EXTERN_C_END

#endif
