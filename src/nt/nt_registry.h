/* SPDX-License-Identifier: MIT */
/* The registry, for the library: filling it, and looking into it. */
#ifndef NT_REGISTRY_H
#define NT_REGISTRY_H

#include <stdbool.h>

#include "wdm.h"

/* Where the keys of drivers are; the driver's name follows. */
#define NT_REGISTRY_SERVICES u"\\Registry\\Machine\\System\\CurrentControlSet\\Services\\"

/* Make a key, and all above it, if it is not there. STATUS_INSUFFICIENT_RESOURCES. */
NTSTATUS nt_registry_add_key(PCWSTR path);
/* Make a value, or replace it. Text has its terminator. */
NTSTATUS nt_registry_set(PCWSTR path, PCWSTR name, ULONG type, const void *data, ULONG bytes);
/* Forget a key with all below it. Handles of it find nothing from now on. */
void nt_registry_remove_key(PCWSTR path);

/* A copy of a value; free() it. False: not there, or no memory for it. */
struct nt_registry_value {
	ULONG type;
	ULONG bytes;
	WCHAR *name;
	UCHAR *data;            /* 8-byte aligned; two zero bytes follow */
};
/* STATUS_OBJECT_NAME_NOT_FOUND, STATUS_NO_MORE_ENTRIES; both: STATUS_INSUFFICIENT_RESOURCES. *value is NULL then. */
NTSTATUS nt_registry_copy_value(PCWSTR path, PCUNICODE_STRING name, struct nt_registry_value **value);
NTSTATUS nt_registry_copy_nth_value(PCWSTR path, ULONG index, struct nt_registry_value **value);
bool nt_registry_has_key(PCWSTR path);
/* base\more, or one of them if the other is empty; free() it. NULL without memory. */
WCHAR *nt_registry_join(PCWSTR base, PCUNICODE_STRING more);

/* The path of an open key; free() it. STATUS_INVALID_HANDLE, STATUS_INSUFFICIENT_RESOURCES. *path is NULL then. */
NTSTATUS nt_registry_path_of(HANDLE key, WCHAR **path);
/* For ZwClose: could it be a key's? False for anything that is aligned like memory. */
bool nt_registry_is_handle(HANDLE key);
/* STATUS_SUCCESS, STATUS_INVALID_HANDLE. */
NTSTATUS nt_registry_close(HANDLE key);

#endif
