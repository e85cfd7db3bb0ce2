/* SPDX-License-Identifier: MIT */
/* How drivers look into the registry: single values, and tables of values. */
#include <stdlib.h>
#include <string.h>

#include "nt/nt_registry.h"
#include "nt/nt_thread.h"

#define TEXT_TAG 0x52545374u    /* what RtlFreeUnicodeString frees */

/* ---- single values ----------------------------------------------------------------------------- */

/* Copy a fixed part and a tail, as far as there is room. */
static NTSTATUS
put(PVOID buffer, ULONG room, PULONG needed, const void *fixed, ULONG fixed_bytes, const void *tail,
    ULONG tail_bytes)
{
	ULONG rest;

	*needed = fixed_bytes + tail_bytes;
	if (room < fixed_bytes)
		return STATUS_BUFFER_TOO_SMALL;
	memcpy(buffer, fixed, fixed_bytes);
	rest = room - fixed_bytes < tail_bytes ? room - fixed_bytes : tail_bytes;
	memcpy((UCHAR *)buffer + fixed_bytes, tail, rest);
	return rest == tail_bytes ? STATUS_SUCCESS : STATUS_BUFFER_OVERFLOW;
}

static NTSTATUS
put_full(const struct nt_registry_value *value, PVOID buffer, ULONG room, PULONG needed)
{
	ULONG name_bytes = (ULONG)(nt_wcslen(value->name) * sizeof(WCHAR));
	ULONG fixed_bytes = FIELD_OFFSET(KEY_VALUE_FULL_INFORMATION, Name);
	/* The data begins where a number may lie. */
	ULONG offset = (fixed_bytes + name_bytes + 7) & ~7u;
	KEY_VALUE_FULL_INFORMATION fixed = { .Type = value->type,
		                             .DataOffset = offset,
		                             .DataLength = value->bytes,
		                             .NameLength = name_bytes };
	UCHAR *tail = calloc(1, offset - fixed_bytes + value->bytes + 1);
	NTSTATUS status;

	if (tail == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	memcpy(tail, value->name, name_bytes);
	memcpy(tail + offset - fixed_bytes, value->data, value->bytes);
	status = put(buffer, room, needed, &fixed, fixed_bytes, tail,
	             offset - fixed_bytes + value->bytes);
	free(tail);
	return status;
}

static NTSTATUS
put_value(const struct nt_registry_value *value, KEY_VALUE_INFORMATION_CLASS class, PVOID buffer,
          ULONG room, PULONG needed)
{
	if (class == KeyValuePartialInformation) {
		const KEY_VALUE_PARTIAL_INFORMATION fixed = { .Type = value->type,
			                                      .DataLength = value->bytes };

		return put(buffer, room, needed, &fixed,
		           FIELD_OFFSET(KEY_VALUE_PARTIAL_INFORMATION, Data), value->data,
		           value->bytes);
	}
	if (class == KeyValueBasicInformation) {
		ULONG name_bytes = (ULONG)(nt_wcslen(value->name) * sizeof(WCHAR));
		const KEY_VALUE_BASIC_INFORMATION fixed = { .Type = value->type,
			                                    .NameLength = name_bytes };

		return put(buffer, room, needed, &fixed,
		           FIELD_OFFSET(KEY_VALUE_BASIC_INFORMATION, Name), value->name, name_bytes);
	}
	return put_full(value, buffer, room, needed);
}

static bool
is_known(KEY_VALUE_INFORMATION_CLASS class)
{
	return class == KeyValueBasicInformation || class == KeyValueFullInformation ||
	       class == KeyValuePartialInformation;
}

NTSTATUS
ZwQueryValueKey(HANDLE key, PUNICODE_STRING name, KEY_VALUE_INFORMATION_CLASS info, PVOID buffer,
                ULONG length, PULONG result_length)
{
	struct nt_registry_value *value;
	NTSTATUS status;
	WCHAR *path;

	(void)nt_irql_check_at_most(PASSIVE_LEVEL, "ZwQueryValueKey");
	if (!is_known(info))
		return STATUS_INVALID_PARAMETER;
	status = nt_registry_path_of(key, &path);
	if (status != STATUS_SUCCESS)
		return status;
	status = nt_registry_copy_value(path, name, &value);
	if (status == STATUS_SUCCESS)
		status = put_value(value, info, buffer, length, result_length);
	free(value);
	free(path);
	return status;
}

NTSTATUS
ZwEnumerateValueKey(HANDLE key, ULONG index, KEY_VALUE_INFORMATION_CLASS info, PVOID buffer,
                    ULONG length, PULONG result_length)
{
	struct nt_registry_value *value;
	NTSTATUS status;
	WCHAR *path;

	(void)nt_irql_check_at_most(PASSIVE_LEVEL, "ZwEnumerateValueKey");
	if (!is_known(info))
		return STATUS_INVALID_PARAMETER;
	status = nt_registry_path_of(key, &path);
	if (status != STATUS_SUCCESS)
		return status;
	status = nt_registry_copy_nth_value(path, index, &value);
	if (status == STATUS_SUCCESS)
		status = put_value(value, info, buffer, length, result_length);
	free(value);
	free(path);
	return status;
}

/* ---- tables ------------------------------------------------------------------------------------ */

static bool
is_text(ULONG type)
{
	return type == REG_SZ || type == REG_EXPAND_SZ;
}

/* Text without its terminators. */
static USHORT
text_bytes(const struct nt_registry_value *value)
{
	ULONG bytes = value->bytes & ~1u;
	const WCHAR *text = (const WCHAR *)(const void *)value->data;

	while (bytes != 0 && text[bytes / 2 - 1] == 0)
		bytes -= 2;
	return (USHORT)min(bytes, 0xFFFC);
}

static NTSTATUS
store_text(const struct nt_registry_value *value, PUNICODE_STRING out)
{
	USHORT bytes = text_bytes(value);

	if (out->Buffer == NULL) {
		out->Buffer = ExAllocatePoolWithTag(PagedPool, (SIZE_T)bytes + 2, TEXT_TAG);
		if (out->Buffer == NULL)
			return STATUS_INSUFFICIENT_RESOURCES;
		out->MaximumLength = (USHORT)(bytes + 2);
	} else if (out->MaximumLength < bytes + 2) {
		return STATUS_BUFFER_TOO_SMALL;
	}
	memcpy(out->Buffer, value->data, bytes);
	out->Buffer[bytes / 2] = 0;
	out->Length = bytes;
	return STATUS_SUCCESS;
}

static NTSTATUS
store(const struct nt_registry_value *value, const RTL_QUERY_REGISTRY_TABLE *entry)
{
	ULONG wanted = entry->DefaultType >> RTL_QUERY_REGISTRY_TYPECHECK_SHIFT;
	LONG first;

	if ((entry->Flags & RTL_QUERY_REGISTRY_TYPECHECK) != 0 && wanted != value->type)
		return STATUS_OBJECT_TYPE_MISMATCH;
	if (is_text(value->type))
		return store_text(value, entry->EntryContext);
	if (value->bytes <= sizeof(ULONG)) {
		memcpy(entry->EntryContext, value->data, value->bytes);
		return STATUS_SUCCESS;
	}
	/* Only a buffer that says how large it is can be filled safely. */
	memcpy(&first, entry->EntryContext, sizeof(first));
	if (first >= 0 || (ULONG)-(LONG64)first < value->bytes)
		return STATUS_BUFFER_TOO_SMALL;
	memcpy(entry->EntryContext, value->data, value->bytes);
	return STATUS_SUCCESS;
}

static NTSTATUS
call(const struct nt_registry_value *value, const RTL_QUERY_REGISTRY_TABLE *entry, PVOID context)
{
	ULONG at = 0;

	if (value->type != REG_MULTI_SZ || (entry->Flags & RTL_QUERY_REGISTRY_NOEXPAND) != 0)
		return entry->QueryRoutine(value->name, value->type, value->data, value->bytes, context,
		                           entry->EntryContext);
	while (at + 1 < value->bytes) {
		PWSTR text = (PWSTR)(void *)(value->data + at);
		ULONG bytes = (ULONG)(nt_wcslen(text) + 1) * (ULONG)sizeof(WCHAR);
		NTSTATUS status;

		if (*text == 0)
			break;
		status = entry->QueryRoutine(value->name, REG_SZ, text, bytes, context,
		                             entry->EntryContext);
		if (!NT_SUCCESS(status))
			return status;
		at += bytes;
	}
	return STATUS_SUCCESS;
}

static NTSTATUS
deliver(const struct nt_registry_value *value, const RTL_QUERY_REGISTRY_TABLE *entry, PVOID context)
{
	return (entry->Flags & RTL_QUERY_REGISTRY_DIRECT) != 0 ? store(value, entry)
	                                                       : call(value, entry, context);
}

static NTSTATUS
deliver_default(const RTL_QUERY_REGISTRY_TABLE *entry, PVOID context)
{
	const ULONG type = entry->DefaultType & ((1u << RTL_QUERY_REGISTRY_TYPECHECK_SHIFT) - 1);
	struct nt_registry_value value = { .type = type,
		                           .bytes = entry->DefaultLength,
		                           .name = entry->Name,
		                           .data = entry->DefaultData };
	RTL_QUERY_REGISTRY_TABLE unchecked = *entry;

	if ((entry->Flags & RTL_QUERY_REGISTRY_REQUIRED) != 0)
		return STATUS_OBJECT_NAME_NOT_FOUND;
	if (type == REG_NONE || entry->DefaultData == NULL)
		return STATUS_SUCCESS;
	if (value.bytes == 0 && is_text(type))
		value.bytes = (ULONG)(nt_wcslen(entry->DefaultData) + 1) * (ULONG)sizeof(WCHAR);
	unchecked.Flags &= ~(ULONG)RTL_QUERY_REGISTRY_TYPECHECK;
	return deliver(&value, &unchecked, context);
}

static NTSTATUS
query_one(PCWSTR path, const RTL_QUERY_REGISTRY_TABLE *entry, PVOID context)
{
	struct nt_registry_value *value;
	UNICODE_STRING name;
	NTSTATUS status;

	if ((entry->Flags & RTL_QUERY_REGISTRY_NOVALUE) != 0)
		return entry->QueryRoutine(NULL, REG_NONE, NULL, 0, context, entry->EntryContext);
	RtlInitUnicodeString(&name, entry->Name);
	status = nt_registry_copy_value(path, &name, &value);
	if (status == STATUS_OBJECT_NAME_NOT_FOUND)
		return deliver_default(entry, context);
	if (status == STATUS_SUCCESS)
		status = deliver(value, entry, context);
	free(value);
	return status;
}

static NTSTATUS
query_all(PCWSTR path, const RTL_QUERY_REGISTRY_TABLE *entry, PVOID context)
{
	struct nt_registry_value *value;
	NTSTATUS status = STATUS_SUCCESS;

	for (ULONG i = 0; NT_SUCCESS(status); i++) {
		status = nt_registry_copy_nth_value(path, i, &value);
		if (status == STATUS_NO_MORE_ENTRIES)
			return STATUS_SUCCESS;
		if (status == STATUS_SUCCESS)
			status = call(value, entry, context);
		free(value);
	}
	return status;
}

static bool
entry_makes_sense(const RTL_QUERY_REGISTRY_TABLE *entry)
{
	ULONG flags = entry->Flags;

	if ((flags & RTL_QUERY_REGISTRY_DELETE) != 0)
		return false;
	if ((flags & RTL_QUERY_REGISTRY_SUBKEY) != 0)
		return entry->Name != NULL && (flags & RTL_QUERY_REGISTRY_DIRECT) == 0;
	if ((flags & RTL_QUERY_REGISTRY_DIRECT) != 0)
		return entry->QueryRoutine == NULL && entry->Name != NULL &&
		       entry->EntryContext != NULL &&
		       (flags & RTL_QUERY_REGISTRY_NOVALUE) == 0;
	return true;
}

static NTSTATUS
query_table(PCWSTR top, const RTL_QUERY_REGISTRY_TABLE *entry, PVOID context)
{
	WCHAR *below = NULL;
	NTSTATUS status = STATUS_SUCCESS;

	for (; NT_SUCCESS(status) &&
	       (entry->QueryRoutine != NULL ||
	        (entry->Flags & (RTL_QUERY_REGISTRY_SUBKEY | RTL_QUERY_REGISTRY_DIRECT)) != 0);
	     entry++) {
		if (!entry_makes_sense(entry)) {
			status = STATUS_INVALID_PARAMETER;
			break;
		}
		if ((entry->Flags & (RTL_QUERY_REGISTRY_SUBKEY | RTL_QUERY_REGISTRY_TOPKEY)) != 0) {
			free(below);
			below = NULL;
		}
		if ((entry->Flags & RTL_QUERY_REGISTRY_SUBKEY) != 0) {
			UNICODE_STRING name;

			RtlInitUnicodeString(&name, entry->Name);
			below = nt_registry_join(top, &name);
			if (below == NULL)
				status = STATUS_INSUFFICIENT_RESOURCES;
			else if (!nt_registry_has_key(below))
				status = STATUS_OBJECT_NAME_NOT_FOUND;
			else if (entry->QueryRoutine != NULL)
				status = query_all(below, entry, context);
		} else if (entry->Name == NULL && (entry->Flags & RTL_QUERY_REGISTRY_NOVALUE) == 0) {
			status = query_all(below != NULL ? below : top, entry, context);
		} else {
			status = query_one(below != NULL ? below : top, entry, context);
		}
	}
	free(below);
	return status;
}

/* The whole path that a pair of arguments means; free() it. */
static NTSTATUS
find_top(ULONG relative_to, PCWSTR path, WCHAR **top)
{
	UNICODE_STRING text;

	*top = NULL;
	if ((relative_to & RTL_REGISTRY_HANDLE) != 0)
		return nt_registry_path_of((HANDLE)(ULONG_PTR)path, top);
	relative_to &= ~RTL_REGISTRY_OPTIONAL;
	if (path == NULL || relative_to > RTL_REGISTRY_SERVICES)
		return STATUS_INVALID_PARAMETER;
	RtlInitUnicodeString(&text, path);
	/* The prefix ends with the separator that joining sets. */
	if (relative_to == RTL_REGISTRY_SERVICES) {
		UNICODE_STRING none = { 0 };
		WCHAR *services = nt_registry_join(NT_REGISTRY_SERVICES, &none);

		if (services != NULL)
			*top = nt_registry_join(services, &text);
		free(services);
	} else {
		*top = nt_registry_join(u"", &text);
	}
	return *top != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

NTSTATUS
RtlQueryRegistryValues(ULONG relative_to, PCWSTR path, PRTL_QUERY_REGISTRY_TABLE table, PVOID context,
                       PVOID environment)
{
	NTSTATUS status;
	WCHAR *top;

	UNREFERENCED_PARAMETER(environment);
	(void)nt_irql_check_at_most(PASSIVE_LEVEL, "RtlQueryRegistryValues");
	status = find_top(relative_to, path, &top);
	if (NT_SUCCESS(status) && !nt_registry_has_key(top))
		status = STATUS_OBJECT_NAME_NOT_FOUND;
	if (NT_SUCCESS(status))
		status = query_table(top, table, context);
	free(top);
	return status;
}

NTSTATUS
RtlCheckRegistryKey(ULONG relative_to, PWSTR path)
{
	NTSTATUS status;
	WCHAR *top;

	if ((relative_to & RTL_REGISTRY_HANDLE) != 0)
		return STATUS_INVALID_PARAMETER;
	status = find_top(relative_to, path, &top);
	if (NT_SUCCESS(status) && !nt_registry_has_key(top))
		status = STATUS_OBJECT_NAME_NOT_FOUND;
	free(top);
	return status;
}
