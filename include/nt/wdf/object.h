/* SPDX-License-Identifier: MIT */
/* Objects of the framework: handles, attributes, typed contexts, lifetime. wdf.h has the rules. */
#ifndef NT_WDF_OBJECT_H
#define NT_WDF_OBJECT_H

#include "../wdm.h"

NT_EXTERN_C_BEGIN

typedef HANDLE WDFOBJECT, *PWDFOBJECT;
typedef void *WDFCONTEXT;
DECLARE_HANDLE(WDFDRIVER);
DECLARE_HANDLE(WDFDEVICE);
DECLARE_HANDLE(WDFQUEUE);
DECLARE_HANDLE(WDFREQUEST);
DECLARE_HANDLE(WDFFILEOBJECT);
DECLARE_HANDLE(WDFIOTARGET);
DECLARE_HANDLE(WDFMEMORY);
DECLARE_HANDLE(WDFSPINLOCK);
DECLARE_HANDLE(WDFWAITLOCK);
DECLARE_HANDLE(WDFWORKITEM);
DECLARE_HANDLE(WDFCMRESLIST);

#define WDF_NO_OBJECT_ATTRIBUTES NULL
#define WDF_NO_EVENT_CALLBACK NULL
#define WDF_NO_HANDLE NULL
#define WDF_NO_CONTEXT NULL
#define WDF_NO_SEND_OPTIONS NULL

typedef struct WDFDEVICE_INIT WDFDEVICE_INIT, *PWDFDEVICE_INIT;

/*
 * One per driver image: what WdfGetDriver knows. Set by WdfDriverCreate. Objects without another
 * parent are the driver's.
 */
typedef struct _WDF_DRIVER_GLOBALS {
	WDFDRIVER Driver;
	ULONG DriverFlags;
	ULONG DriverTag;
	CHAR DriverName[32];
} WDF_DRIVER_GLOBALS, *PWDF_DRIVER_GLOBALS;
extern WDF_DRIVER_GLOBALS WdfDriverGlobals[1] __attribute__((weak, visibility("hidden")));
WDF_DRIVER_GLOBALS WdfDriverGlobals[1];

typedef enum _WDF_TRI_STATE {
	WdfFalse = FALSE,
	WdfTrue = TRUE,
	WdfUseDefault = 2
} WDF_TRI_STATE, *PWDF_TRI_STATE;

/*
 * Inherit (the default of _INIT): the nearest parent that says; no parent says: Dispatch, and no
 * synchronization.
 */
typedef enum _WDF_EXECUTION_LEVEL {
	WdfExecutionLevelInvalid = 0,
	WdfExecutionLevelInheritFromParent,
	WdfExecutionLevelPassive,
	WdfExecutionLevelDispatch
} WDF_EXECUTION_LEVEL;

/*
 * Which callbacks of queues run one at a time: Device: those of all queues of the device; Queue:
 * those of each queue on its own. WdfObjectAcquireLock takes the same lock. At execution level
 * Dispatch it is a spin lock, so the callbacks run at DISPATCH_LEVEL; at Passive it is a mutex.
 */
typedef enum _WDF_SYNCHRONIZATION_SCOPE {
	WdfSynchronizationScopeInvalid = 0,
	WdfSynchronizationScopeInheritFromParent,
	WdfSynchronizationScopeDevice,
	WdfSynchronizationScopeQueue,
	WdfSynchronizationScopeNone
} WDF_SYNCHRONIZATION_SCOPE;

/* The object is on its way out and still whole: release what the driver holds because of it. */
typedef VOID EVT_WDF_OBJECT_CONTEXT_CLEANUP(WDFOBJECT Object);
typedef EVT_WDF_OBJECT_CONTEXT_CLEANUP *PFN_WDF_OBJECT_CONTEXT_CLEANUP;
/* Last reference gone; only contexts may be touched. */
typedef VOID EVT_WDF_OBJECT_CONTEXT_DESTROY(WDFOBJECT Object);
typedef EVT_WDF_OBJECT_CONTEXT_DESTROY *PFN_WDF_OBJECT_CONTEXT_DESTROY;

/* A type of context, one variable per type and driver; made by WDF_DECLARE_CONTEXT_TYPE. */
typedef struct _WDF_OBJECT_CONTEXT_TYPE_INFO {
	ULONG Size;
	PCSTR ContextName;
	size_t ContextSize;
	const struct _WDF_OBJECT_CONTEXT_TYPE_INFO *UniqueType;
} WDF_OBJECT_CONTEXT_TYPE_INFO, *PWDF_OBJECT_CONTEXT_TYPE_INFO;
typedef const WDF_OBJECT_CONTEXT_TYPE_INFO *PCWDF_OBJECT_CONTEXT_TYPE_INFO;

typedef struct _WDF_OBJECT_ATTRIBUTES {
	ULONG Size;
	PFN_WDF_OBJECT_CONTEXT_CLEANUP EvtCleanupCallback;
	PFN_WDF_OBJECT_CONTEXT_DESTROY EvtDestroyCallback;
	WDF_EXECUTION_LEVEL ExecutionLevel;
	WDF_SYNCHRONIZATION_SCOPE SynchronizationScope;
	WDFOBJECT ParentObject;         /* NULL: the default of the creating function */
	size_t ContextSizeOverride;     /* 0, or at least the type's size */
	PCWDF_OBJECT_CONTEXT_TYPE_INFO ContextTypeInfo;
} WDF_OBJECT_ATTRIBUTES, *PWDF_OBJECT_ATTRIBUTES;

FORCEINLINE VOID
WDF_OBJECT_ATTRIBUTES_INIT(PWDF_OBJECT_ATTRIBUTES Attributes)
{
	RtlZeroMemory(Attributes, sizeof(*Attributes));
	Attributes->Size = (ULONG)sizeof(*Attributes);
	Attributes->ExecutionLevel = WdfExecutionLevelInheritFromParent;
	Attributes->SynchronizationScope = WdfSynchronizationScopeInheritFromParent;
}

/* ---- typed contexts -------------------------------------------------------------------------- */

#define WDF_TYPE_NAME_TO_TYPE_INFO(type) _WDF_##type##_TYPE_INFO
#define WDF_GET_CONTEXT_TYPE_INFO(type) (&WDF_TYPE_NAME_TO_TYPE_INFO(type))

/*
 * A context type and the function that finds it in an object: `type *name(WDFOBJECT)`, NULL (and
 * misuse) if the object has no such context. May stand in a header; one variable per driver
 * whatever the number of units.
 */
#define WDF_DECLARE_CONTEXT_TYPE_WITH_NAME(type, name)                                             \
	EXTERN_C const WDF_OBJECT_CONTEXT_TYPE_INFO WDF_TYPE_NAME_TO_TYPE_INFO(type)               \
		__attribute__((weak, visibility("hidden")));                                       \
	const WDF_OBJECT_CONTEXT_TYPE_INFO WDF_TYPE_NAME_TO_TYPE_INFO(type) = {                    \
		(ULONG)sizeof(WDF_OBJECT_CONTEXT_TYPE_INFO), #type, sizeof(type),                  \
		WDF_GET_CONTEXT_TYPE_INFO(type)                                                    \
	};                                                                                         \
	static inline __attribute__((unused)) type *name(WDFOBJECT Handle)                         \
	{                                                                                          \
		return (type *)WdfObjectGetTypedContextWorker(Handle,                              \
							      WDF_GET_CONTEXT_TYPE_INFO(type));    \
	}
#define WDF_DECLARE_CONTEXT_TYPE(type) WDF_DECLARE_CONTEXT_TYPE_WITH_NAME(type, WdfObjectGet_##type)
#define WdfObjectGetTypedContext(handle, type) \
	((type *)WdfObjectGetTypedContextWorker((handle), WDF_GET_CONTEXT_TYPE_INFO(type)))

#define WDF_OBJECT_ATTRIBUTES_SET_CONTEXT_TYPE(attributes, type) \
	((attributes)->ContextTypeInfo = WDF_GET_CONTEXT_TYPE_INFO(type))
#define WDF_OBJECT_ATTRIBUTES_INIT_CONTEXT_TYPE(attributes, type) \
	(WDF_OBJECT_ATTRIBUTES_INIT(attributes),                  \
	 WDF_OBJECT_ATTRIBUTES_SET_CONTEXT_TYPE(attributes, type))

/*
 * Contexts are zeroed, 16-byte aligned, outside memory that a peer can see, and live as long as
 * their object.
 */
NTKERNELAPI PVOID WdfObjectGetTypedContextWorker(WDFOBJECT Handle,
						 PCWDF_OBJECT_CONTEXT_TYPE_INFO TypeInfo);
/* The object whose context this is; NULL (and misuse) if it is none. */
NTKERNELAPI WDFOBJECT WdfObjectContextGetObject(PVOID ContextPointer);
/*
 * One more context, with its own cleanup and destroy callbacks; ParentObject must be NULL.
 * STATUS_OBJECT_NAME_EXISTS: it has one of that type;
 * *Context is that one. STATUS_DELETE_PENDING: the object is being deleted.
 */
NTKERNELAPI NTSTATUS WdfObjectAllocateContext(WDFOBJECT Handle,
					      PWDF_OBJECT_ATTRIBUTES ContextAttributes,
					      PVOID *Context);

/* ---- lifetime -------------------------------------------------------------------------------- */

/*
 * An object without behaviour, for its context and lifetime. nt_wdf_*: the same with the driver
 * said, not from Windows.
 */
NTKERNELAPI NTSTATUS nt_wdf_object_create(WDFDRIVER driver, PWDF_OBJECT_ATTRIBUTES Attributes,
					  WDFOBJECT *Object);
FORCEINLINE NTSTATUS
WdfObjectCreate(PWDF_OBJECT_ATTRIBUTES Attributes, WDFOBJECT *Object)
{
	return nt_wdf_object_create(WdfDriverGlobals[0].Driver, Attributes, Object);
}

NTKERNELAPI VOID WdfObjectDelete(WDFOBJECT Object);
/* References keep contexts and the handle, not the function of the object. */
NTKERNELAPI VOID WdfObjectReferenceActual(WDFOBJECT Handle, PVOID Tag, LONG Line, PCSTR File);
NTKERNELAPI VOID WdfObjectDereferenceActual(WDFOBJECT Handle, PVOID Tag, LONG Line, PCSTR File);
#define WdfObjectReference(handle) WdfObjectReferenceActual((handle), NULL, __LINE__, __FILE__)
#define WdfObjectReferenceWithTag(handle, tag) \
	WdfObjectReferenceActual((handle), (tag), __LINE__, __FILE__)
#define WdfObjectDereference(handle) WdfObjectDereferenceActual((handle), NULL, __LINE__, __FILE__)
#define WdfObjectDereferenceWithTag(handle, tag) \
	WdfObjectDereferenceActual((handle), (tag), __LINE__, __FILE__)

/* The lock of a device's or queue's synchronization scope; misuse if it has none. */
NTKERNELAPI VOID WdfObjectAcquireLock(WDFOBJECT Object);
NTKERNELAPI VOID WdfObjectReleaseLock(WDFOBJECT Object);

NT_EXTERN_C_END

#endif
