/* SPDX-License-Identifier: MIT */
/*
 * System threads, their objects and handles.
 */
#ifndef NT_WDM_PS_H
#define NT_WDM_PS_H

#include "../ntdef.h"
#include "io.h"
#include "ke.h"

NT_EXTERN_C_BEGIN

/* ---- object attributes ----------------------------------------------------------------------- */

#define OBJ_INHERIT 0x00000002
#define OBJ_PERMANENT 0x00000010
#define OBJ_EXCLUSIVE 0x00000020
#define OBJ_CASE_INSENSITIVE 0x00000040
#define OBJ_OPENIF 0x00000080
#define OBJ_OPENLINK 0x00000100
#define OBJ_KERNEL_HANDLE 0x00000200

typedef struct _OBJECT_ATTRIBUTES {
	ULONG Length;
	HANDLE RootDirectory;
	PUNICODE_STRING ObjectName;
	ULONG Attributes;
	PVOID SecurityDescriptor;
	PVOID SecurityQualityOfService;
} OBJECT_ATTRIBUTES, *POBJECT_ATTRIBUTES;
NT_STATIC_ASSERT(sizeof(OBJECT_ATTRIBUTES) == 48, "OBJECT_ATTRIBUTES");

#define InitializeObjectAttributes(p, name, attributes, root, descriptor)      \
	((p)->Length = sizeof(OBJECT_ATTRIBUTES), (p)->RootDirectory = (root), \
	 (p)->Attributes = (attributes), (p)->ObjectName = (name),             \
	 (p)->SecurityDescriptor = (descriptor), (p)->SecurityQualityOfService = NULL)

#define SYNCHRONIZE 0x00100000
#define STANDARD_RIGHTS_REQUIRED 0x000F0000
#define THREAD_ALL_ACCESS (STANDARD_RIGHTS_REQUIRED | SYNCHRONIZE | 0xFFFF)

/* ---- threads --------------------------------------------------------------------------------- */

typedef struct _CLIENT_ID {
	HANDLE UniqueProcess;
	HANDLE UniqueThread;
} CLIENT_ID, *PCLIENT_ID;

typedef VOID KSTART_ROUTINE(PVOID context);
typedef KSTART_ROUTINE *PKSTART_ROUTINE;

/*
 * Start a thread at PASSIVE_LEVEL. *handle is to be given back with ZwClose, at any time; the
 * thread ends when its routine returns or calls PsTerminateSystemThread. Access, attributes and
 * process are not used; `client` may be NULL. STATUS_INSUFFICIENT_RESOURCES. PASSIVE_LEVEL.
 */
NTKERNELAPI NTSTATUS PsCreateSystemThread(PHANDLE handle, ULONG access,
                                          POBJECT_ATTRIBUTES attributes, HANDLE process,
                                          PCLIENT_ID client, PKSTART_ROUTINE routine,
                                          PVOID context);
/*
 * End the calling thread, which PsCreateSystemThread made; does not return. Other threads:
 * STATUS_INVALID_PARAMETER, and misuse. Above PASSIVE_LEVEL or in a region: misuse.
 */
NTKERNELAPI NTSTATUS PsTerminateSystemThread(NTSTATUS status);
NTKERNELAPI BOOLEAN PsIsSystemThread(PETHREAD thread);
NTKERNELAPI HANDLE PsGetThreadId(PETHREAD thread);
/* STATUS_PENDING while it runs. */
NTKERNELAPI NTSTATUS PsGetThreadExitStatus(PETHREAD thread);

#define LOW_PRIORITY 0
#define LOW_REALTIME_PRIORITY 16
#define HIGH_PRIORITY 31

/*
 * The priority before. It is remembered, and changes nothing: the scheduler is the program's.
 * Outside of 1 to 31: misuse, no effect.
 */
NTKERNELAPI KPRIORITY KeSetPriorityThread(PKTHREAD thread, KPRIORITY priority);
NTKERNELAPI KPRIORITY KeQueryPriorityThread(PKTHREAD thread);

/* ---- objects --------------------------------------------------------------------------------- */

typedef struct _OBJECT_TYPE *POBJECT_TYPE;
extern NTKERNELAPI POBJECT_TYPE *PsThreadType;

typedef struct _OBJECT_HANDLE_INFORMATION {
	ULONG HandleAttributes;
	ULONG GrantedAccess;
} OBJECT_HANDLE_INFORMATION, *POBJECT_HANDLE_INFORMATION;

/*
 * The object of a handle, with a reference: ObDereferenceObject. `type` NULL: any.
 * STATUS_INVALID_HANDLE, STATUS_OBJECT_TYPE_MISMATCH. PASSIVE_LEVEL.
 */
NTKERNELAPI NTSTATUS ObReferenceObjectByHandle(HANDLE handle, ACCESS_MASK access, POBJECT_TYPE type,
                                               KPROCESSOR_MODE mode, PVOID *object,
                                               POBJECT_HANDLE_INFORMATION information);

NT_EXTERN_C_END

#endif
