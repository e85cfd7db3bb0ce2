/* SPDX-License-Identifier: MIT */
/*
 * A registry in memory: keys by their whole path, values in the order in which they were set, and
 * handles. One lock guards all of it, and only copies leave it.
 */
#include "nt/nt_registry.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "nt/nt_thread.h"

struct value {
	struct value *next;
	ULONG type, bytes;
	WCHAR *name;
	UCHAR *data;
};

struct key {
	struct key *next;
	struct value *values;
	WCHAR *path;
};

/* A handle is a number that is never used again, with 8 in its low bits, which no address of an object has. */
#define HANDLE_TAG UINT64_C(8)
#define HANDLE_TAG_MASK UINT64_C(15)
#define HANDLE_SHIFT 4

struct open_key {
	struct open_key *next;
	HANDLE handle;
	WCHAR *path;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct key *keys;
static struct open_key *open_keys;
static uint64_t handles_made;

/* ---- text -------------------------------------------------------------------------------------- */

static WCHAR *
copy_text(PCWSTR text, SIZE_T count)
{
	WCHAR *copy = malloc((count + 1) * sizeof(*copy));

	if (copy == NULL)
		return NULL;
	memcpy(copy, text, count * sizeof(*copy));
	copy[count] = 0;
	return copy;
}

WCHAR *
nt_registry_join(PCWSTR base, PCUNICODE_STRING more)
{
	SIZE_T first = nt_wcslen(base), second = more == NULL ? 0 : more->Length / sizeof(WCHAR);
	bool both = first != 0 && second != 0;
	WCHAR *joined = malloc((first + both + second + 1) * sizeof(*joined));

	if (joined == NULL)
		return NULL;
	memcpy(joined, base, first * sizeof(*joined));
	if (both)
		joined[first] = '\\';
	if (second != 0)
		memcpy(joined + first + both, more->Buffer, second * sizeof(*joined));
	first += both + second;
	/* "key\" is "key". */
	while (first != 0 && joined[first - 1] == '\\')
		first--;
	joined[first] = 0;
	return joined;
}

static bool
text_equal(PCWSTR a, PCWSTR b)
{
	return nt_wcsicmp(a, b) == 0;
}

/* `path` is `base` or lies below it. */
static bool
is_below(PCWSTR path, PCWSTR base)
{
	SIZE_T count = nt_wcslen(base);
	UNICODE_STRING whole, prefix;

	RtlInitUnicodeString(&whole, path);
	RtlInitUnicodeString(&prefix, base);
	return RtlPrefixUnicodeString(&prefix, &whole, TRUE) &&
	       (path[count] == 0 || path[count] == '\\');
}

/* ---- keys and values --------------------------------------------------------------------------- */

static struct key *
find_key_locked(PCWSTR path)
{
	struct key *key = keys;

	while (key != NULL && !text_equal(key->path, path))
		key = key->next;
	return key;
}

static struct key *
add_key_locked(PCWSTR path)
{
	struct key *key = find_key_locked(path);

	if (key != NULL)
		return key;
	key = calloc(1, sizeof(*key));
	if (key == NULL)
		return NULL;
	key->path = copy_text(path, nt_wcslen(path));
	if (key->path == NULL) {
		free(key);
		return NULL;
	}
	key->next = keys;
	keys = key;
	return key;
}

static void
free_value(struct value *value)
{
	free(value->name);
	free(value->data);
	free(value);
}

static struct value *
make_value(PCWSTR name, ULONG type, const void *data, ULONG bytes)
{
	struct value *value = calloc(1, sizeof(*value));

	if (value == NULL)
		return NULL;
	value->type = type;
	value->bytes = bytes;
	value->name = copy_text(name, nt_wcslen(name));
	value->data = malloc(bytes != 0 ? bytes : 1);
	if (value->name == NULL || value->data == NULL) {
		free_value(value);
		return NULL;
	}
	memcpy(value->data, data, bytes);
	return value;
}

NTSTATUS
nt_registry_add_key(PCWSTR path)
{
	bool made;

	pthread_mutex_lock(&lock);
	made = add_key_locked(path) != NULL;
	pthread_mutex_unlock(&lock);
	return made ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

NTSTATUS
nt_registry_set(PCWSTR path, PCWSTR name, ULONG type, const void *data, ULONG bytes)
{
	struct value *made = make_value(name, type, data, bytes), *old = NULL, **at;
	struct key *key;

	if (made == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	pthread_mutex_lock(&lock);
	key = add_key_locked(path);
	if (key != NULL) {
		at = &key->values;
		while (*at != NULL && !text_equal((*at)->name, name))
			at = &(*at)->next;
		old = *at;
		made->next = old != NULL ? old->next : NULL;
		*at = made;
	}
	pthread_mutex_unlock(&lock);
	if (old != NULL)
		free_value(old);
	if (key == NULL) {
		free_value(made);
		return STATUS_INSUFFICIENT_RESOURCES;
	}
	return STATUS_SUCCESS;
}

void
nt_registry_remove_key(PCWSTR path)
{
	struct key *key, **at = &keys;

	pthread_mutex_lock(&lock);
	while ((key = *at) != NULL) {
		if (!is_below(key->path, path)) {
			at = &key->next;
			continue;
		}
		*at = key->next;
		while (key->values != NULL) {
			struct value *value = key->values;

			key->values = value->next;
			free_value(value);
		}
		free(key->path);
		free(key);
	}
	pthread_mutex_unlock(&lock);
}

static bool
has_key_locked(PCWSTR path)
{
	for (const struct key *key = keys; key != NULL; key = key->next)
		if (is_below(key->path, path))
			return true;
	return false;
}

bool
nt_registry_has_key(PCWSTR path)
{
	bool found;

	pthread_mutex_lock(&lock);
	found = has_key_locked(path);
	pthread_mutex_unlock(&lock);
	return found;
}

/* One block: the structure, the data, two zero bytes, the name. */
static struct nt_registry_value *
copy_value(const struct value *value)
{
	size_t data = (sizeof(struct nt_registry_value) + 7) & ~(size_t)7;
	size_t name = (data + value->bytes + 2 + 7) & ~(size_t)7;
	size_t name_bytes = (nt_wcslen(value->name) + 1) * sizeof(WCHAR);
	struct nt_registry_value *copy = calloc(1, name + name_bytes);

	if (copy == NULL)
		return NULL;
	copy->type = value->type;
	copy->bytes = value->bytes;
	copy->data = (UCHAR *)copy + data;
	copy->name = (WCHAR *)(void *)((UCHAR *)copy + name);
	memcpy(copy->data, value->data, value->bytes);
	memcpy(copy->name, value->name, name_bytes);
	return copy;
}

/* `value` may be NULL: there is none. */
static NTSTATUS
give_copy(const struct value *value, NTSTATUS none, struct nt_registry_value **out)
{
	*out = value != NULL ? copy_value(value) : NULL;
	if (value == NULL)
		return none;
	return *out != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
}

NTSTATUS
nt_registry_copy_value(PCWSTR path, PCUNICODE_STRING name, struct nt_registry_value **out)
{
	const struct value *value;
	const struct key *key;
	UNICODE_STRING found;
	NTSTATUS status;

	pthread_mutex_lock(&lock);
	key = find_key_locked(path);
	for (value = key != NULL ? key->values : NULL; value != NULL; value = value->next) {
		RtlInitUnicodeString(&found, value->name);
		if (RtlEqualUnicodeString(&found, name, TRUE))
			break;
	}
	status = give_copy(value, STATUS_OBJECT_NAME_NOT_FOUND, out);
	pthread_mutex_unlock(&lock);
	return status;
}

NTSTATUS
nt_registry_copy_nth_value(PCWSTR path, ULONG index, struct nt_registry_value **out)
{
	const struct value *value = NULL;
	const struct key *key;
	NTSTATUS status;

	pthread_mutex_lock(&lock);
	key = find_key_locked(path);
	if (key != NULL)
		value = key->values;
	while (value != NULL && index-- != 0)
		value = value->next;
	status = give_copy(value, STATUS_NO_MORE_ENTRIES, out);
	pthread_mutex_unlock(&lock);
	return status;
}

/* ---- handles ----------------------------------------------------------------------------------- */

NTSTATUS
nt_registry_path_of(HANDLE handle, WCHAR **path)
{
	NTSTATUS status = STATUS_INVALID_HANDLE;

	*path = NULL;
	pthread_mutex_lock(&lock);
	for (const struct open_key *open = open_keys; open != NULL; open = open->next) {
		if (open->handle != handle)
			continue;
		*path = copy_text(open->path, nt_wcslen(open->path));
		status = *path != NULL ? STATUS_SUCCESS : STATUS_INSUFFICIENT_RESOURCES;
	}
	pthread_mutex_unlock(&lock);
	return status;
}

bool
nt_registry_is_handle(HANDLE handle)
{
	return ((uintptr_t)handle & HANDLE_TAG_MASK) == HANDLE_TAG;
}

NTSTATUS
nt_registry_close(HANDLE handle)
{
	struct open_key *open, **at = &open_keys;

	pthread_mutex_lock(&lock);
	while ((open = *at) != NULL && open->handle != handle)
		at = &open->next;
	if (open != NULL)
		*at = open->next;
	pthread_mutex_unlock(&lock);
	if (open == NULL)
		return STATUS_INVALID_HANDLE;
	free(open->path);
	free(open);
	return STATUS_SUCCESS;
}

NTSTATUS
ZwOpenKey(PHANDLE handle, ACCESS_MASK access, POBJECT_ATTRIBUTES attributes)
{
	static const ACCESS_MASK readable = KEY_READ | KEY_QUERY_VALUE | KEY_ENUMERATE_SUB_KEYS |
	                                    GENERIC_READ;
	struct open_key *open;
	WCHAR *base = NULL, *path;
	NTSTATUS status;
	bool found;

	(void)nt_irql_check_at_most(PASSIVE_LEVEL, "ZwOpenKey");
	*handle = NULL;
	if (attributes == NULL || attributes->ObjectName == NULL ||
	    (attributes->ObjectName->Length == 0 && attributes->RootDirectory == NULL))
		return STATUS_INVALID_PARAMETER;
	if ((access & ~readable) != 0)
		return STATUS_ACCESS_DENIED;
	if (attributes->RootDirectory != NULL) {
		status = nt_registry_path_of(attributes->RootDirectory, &base);
		if (status != STATUS_SUCCESS)
			return status;
	}
	path = nt_registry_join(base != NULL ? base : u"", attributes->ObjectName);
	free(base);
	open = calloc(1, sizeof(*open));
	if (path == NULL || open == NULL) {
		free(path);
		free(open);
		return STATUS_INSUFFICIENT_RESOURCES;
	}
	open->path = path;
	pthread_mutex_lock(&lock);
	found = has_key_locked(path);
	if (found) {
		open->handle = (HANDLE)(uintptr_t)(++handles_made << HANDLE_SHIFT | HANDLE_TAG);
		open->next = open_keys;
		open_keys = open;
		*handle = open->handle;
	}
	pthread_mutex_unlock(&lock);
	if (!found) {
		free(path);
		free(open);
		return STATUS_OBJECT_NAME_NOT_FOUND;
	}
	return STATUS_SUCCESS;
}
