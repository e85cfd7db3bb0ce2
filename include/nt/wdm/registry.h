/* SPDX-License-Identifier: MIT */
/*
 * The registry, as far as drivers read their parameters from it. It is a table in the process: the
 * program that loads a driver fills in what it was told (kmcl_registry_set). Nothing is stored,
 * drivers cannot write.
 *
 * Names are compared without regard to case. PASSIVE_LEVEL for everything.
 */
#ifndef NT_WDM_REGISTRY_H
#define NT_WDM_REGISTRY_H

#include "../ntdef.h"
#include "io.h"

NT_EXTERN_C_BEGIN

#define REG_NONE 0
#define REG_SZ 1
#define REG_EXPAND_SZ 2
#define REG_BINARY 3
#define REG_DWORD 4
#define REG_MULTI_SZ 7
#define REG_QWORD 11

#define KEY_QUERY_VALUE 0x0001
#define KEY_ENUMERATE_SUB_KEYS 0x0008
#define KEY_READ 0x00020019
#define KEY_ALL_ACCESS 0x000F003F

#ifndef OBJ_CASE_INSENSITIVE
#define OBJ_CASE_INSENSITIVE 0x00000040
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

#define InitializeObjectAttributes(p, n, a, r, s)                                               \
	((p)->Length = (ULONG)sizeof(OBJECT_ATTRIBUTES), (p)->RootDirectory = (r),              \
	 (p)->Attributes = (a), (p)->ObjectName = (n), (p)->SecurityDescriptor = (s),           \
	 (p)->SecurityQualityOfService = NULL)
#endif

/* ---- keys and values --------------------------------------------------------------------------- */

typedef enum _KEY_VALUE_INFORMATION_CLASS {
	KeyValueBasicInformation,
	KeyValueFullInformation,
	KeyValuePartialInformation
} KEY_VALUE_INFORMATION_CLASS;

typedef struct _KEY_VALUE_BASIC_INFORMATION {
	ULONG TitleIndex;
	ULONG Type;
	ULONG NameLength;       /* bytes */
	WCHAR Name[1];
} KEY_VALUE_BASIC_INFORMATION, *PKEY_VALUE_BASIC_INFORMATION;

typedef struct _KEY_VALUE_FULL_INFORMATION {
	ULONG TitleIndex;
	ULONG Type;
	ULONG DataOffset;       /* from the start of the structure */
	ULONG DataLength;
	ULONG NameLength;
	WCHAR Name[1];
} KEY_VALUE_FULL_INFORMATION, *PKEY_VALUE_FULL_INFORMATION;

typedef struct _KEY_VALUE_PARTIAL_INFORMATION {
	ULONG TitleIndex;
	ULONG Type;
	ULONG DataLength;
	UCHAR Data[1];
} KEY_VALUE_PARTIAL_INFORMATION, *PKEY_VALUE_PARTIAL_INFORMATION;

/*
 * A key by its name, absolute or below RootDirectory. Only reading is granted.
 * STATUS_OBJECT_NAME_NOT_FOUND, STATUS_INVALID_PARAMETER (no name), STATUS_INVALID_HANDLE
 * (RootDirectory), STATUS_ACCESS_DENIED (writing asked for), STATUS_INSUFFICIENT_RESOURCES. ZwClose
 * gives the handle back.
 */
NTSYSAPI NTSTATUS ZwOpenKey(PHANDLE key, ACCESS_MASK access, POBJECT_ATTRIBUTES attributes);
/*
 * *result_length is always what the whole needs. STATUS_BUFFER_TOO_SMALL: not even the fixed part fits; STATUS_BUFFER_OVERFLOW: the fixed
 * part is there and as much of the rest as fits; STATUS_OBJECT_NAME_NOT_FOUND;
 * STATUS_INVALID_HANDLE; STATUS_INVALID_PARAMETER (class).
 */
NTSYSAPI NTSTATUS ZwQueryValueKey(HANDLE key, PUNICODE_STRING name, KEY_VALUE_INFORMATION_CLASS info,
				  PVOID buffer, ULONG length, PULONG result_length);
/* The same for the value with this index. STATUS_NO_MORE_ENTRIES. */
NTSYSAPI NTSTATUS ZwEnumerateValueKey(HANDLE key, ULONG index, KEY_VALUE_INFORMATION_CLASS info,
				      PVOID buffer, ULONG length, PULONG result_length);

/* ---- tables of values -------------------------------------------------------------------------- */

#define RTL_REGISTRY_ABSOLUTE 0
#define RTL_REGISTRY_SERVICES 1
#define RTL_REGISTRY_HANDLE 0x40000000u
#define RTL_REGISTRY_OPTIONAL 0x80000000u

#define RTL_QUERY_REGISTRY_SUBKEY 0x00000001
#define RTL_QUERY_REGISTRY_TOPKEY 0x00000002
#define RTL_QUERY_REGISTRY_REQUIRED 0x00000004
#define RTL_QUERY_REGISTRY_NOVALUE 0x00000008
#define RTL_QUERY_REGISTRY_NOEXPAND 0x00000010
#define RTL_QUERY_REGISTRY_DIRECT 0x00000020
#define RTL_QUERY_REGISTRY_DELETE 0x00000040
#define RTL_QUERY_REGISTRY_TYPECHECK 0x00000100
#define RTL_QUERY_REGISTRY_TYPECHECK_SHIFT 24

typedef NTSTATUS RTL_QUERY_REGISTRY_ROUTINE(PWSTR name, ULONG type, PVOID data, ULONG length,
					    PVOID context, PVOID entry_context);
typedef RTL_QUERY_REGISTRY_ROUTINE *PRTL_QUERY_REGISTRY_ROUTINE;

typedef struct _RTL_QUERY_REGISTRY_TABLE {
	PRTL_QUERY_REGISTRY_ROUTINE QueryRoutine;
	ULONG Flags;
	PWSTR Name;
	PVOID EntryContext;
	ULONG DefaultType;
	PVOID DefaultData;
	ULONG DefaultLength;
} RTL_QUERY_REGISTRY_TABLE, *PRTL_QUERY_REGISTRY_TABLE;

/*
 * Go through the table until an entry with neither a routine nor SUBKEY nor DIRECT. An entry names
 * a value of the present key, which SUBKEY changes and TOPKEY changes back. A value that is not
 * there has its default, or with REQUIRED ends the query; REG_NONE as the default's type skips the
 * entry. The value goes to the routine (each string of a REG_MULTI_SZ on its own, unless NOEXPAND),
 * or with DIRECT to EntryContext: a UNICODE_STRING for text (allocated if its buffer is NULL:
 * RtlFreeUnicodeString), otherwise a ULONG for up to 4 bytes, and a buffer that begins with minus
 * its size for more. TYPECHECK: DefaultType >> 24 is the type that it must have. A routine that
 * fails ends the query with its status. REG_EXPAND_SZ is not expanded; RTL_QUERY_REGISTRY_DELETE is
 * refused. STATUS_OBJECT_NAME_NOT_FOUND, STATUS_BUFFER_TOO_SMALL, STATUS_OBJECT_TYPE_MISMATCH,
 * STATUS_INVALID_PARAMETER, STATUS_INSUFFICIENT_RESOURCES.
 */
NTSYSAPI NTSTATUS RtlQueryRegistryValues(ULONG relative_to, PCWSTR path,
					 PRTL_QUERY_REGISTRY_TABLE table, PVOID context,
					 PVOID environment);
/* STATUS_SUCCESS: it exists. RTL_REGISTRY_HANDLE is not for this one. */
NTSYSAPI NTSTATUS RtlCheckRegistryKey(ULONG relative_to, PWSTR path);

NT_EXTERN_C_END

#endif
