/* SPDX-License-Identifier: MIT */
/*
 * Objects of the I/O manager that driver code names. A DEVICE_OBJECT has the leading fields of
 * the Windows structure; IRP, DRIVER_OBJECT and FILE_OBJECT are names only.
 */
#ifndef NT_WDM_IO_H
#define NT_WDM_IO_H

#include "../ntdef.h"
#include "ke.h"

NT_EXTERN_C_BEGIN

typedef struct _IRP IRP, *PIRP;
typedef struct _DRIVER_OBJECT DRIVER_OBJECT, *PDRIVER_OBJECT;
typedef struct _FILE_OBJECT FILE_OBJECT, *PFILE_OBJECT;
typedef ULONG DEVICE_TYPE;

typedef struct _DEVICE_OBJECT {
	CSHORT Type;
	USHORT Size;
	LONG ReferenceCount;
	struct _DRIVER_OBJECT *DriverObject;
	struct _DEVICE_OBJECT *NextDevice;
	struct _DEVICE_OBJECT *AttachedDevice;
	struct _IRP *CurrentIrp;
	PVOID Timer;
	ULONG Flags;
	ULONG Characteristics;
	PVOID Vpb;
	PVOID DeviceExtension;
	DEVICE_TYPE DeviceType;
	CCHAR StackSize;
} DEVICE_OBJECT, *PDEVICE_OBJECT;
NT_STATIC_ASSERT(offsetof(DEVICE_OBJECT, DeviceExtension) == 64, "DEVICE_OBJECT");

typedef VOID INTERFACE_REFERENCE_ROUTINE(PVOID context);
typedef VOID (*PINTERFACE_REFERENCE)(PVOID context);
typedef VOID (*PINTERFACE_DEREFERENCE)(PVOID context);

typedef struct _INTERFACE {
	USHORT Size;
	USHORT Version;
	PVOID Context;
	PINTERFACE_REFERENCE InterfaceReference;
	PINTERFACE_DEREFERENCE InterfaceDereference;
} INTERFACE, *PINTERFACE;
NT_STATIC_ASSERT(sizeof(INTERFACE) == 32, "INTERFACE");

typedef enum _LOCK_OPERATION {
	IoReadAccess,
	IoWriteAccess,
	IoModifyAccess
} LOCK_OPERATION;

#define METHOD_BUFFERED 0
#define METHOD_IN_DIRECT 1
#define METHOD_OUT_DIRECT 2
#define METHOD_NEITHER 3
#define FILE_ANY_ACCESS 0
#define FILE_READ_ACCESS 1
#define FILE_WRITE_ACCESS 2
#define FILE_DEVICE_UNKNOWN 0x00000022
#define CTL_CODE(type, function, method, access)                                      \
	(((ULONG)(type) << 16) | ((ULONG)(access) << 14) | ((ULONG)(function) << 2) | \
	 (ULONG)(method))

/* Give back a handle of the library's: a bus (KE-13). STATUS_SUCCESS, STATUS_INVALID_HANDLE. Context: PASSIVE. */
NTSYSAPI NTSTATUS ZwClose(HANDLE handle);

NT_EXTERN_C_END

#endif
