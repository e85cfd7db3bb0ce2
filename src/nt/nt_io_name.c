/* SPDX-License-Identifier: MIT */
/*
 * Names of devices, symbolic links, and device interfaces, which are links that come and go. One
 * flat list: a process has few. "\DosDevices" and "\GLOBAL??" are other words for "\??".
 */
#include <stdlib.h>
#include <string.h>

#include "nt/nt_io.h"
#include "nt/nt_text.h"

#define NAME_BYTES_MAX 1024u
#define LINK_DEPTH_MAX 8
#define STRING_TAG 0x52545374u  /* what RtlFreeUnicodeString expects */

/* Text follows the structure. */
struct name {
	struct name *next;
	struct nt_device *device;       /* NULL: a link */
	UNICODE_STRING text;
	UNICODE_STRING target;          /* of a link */
};

struct device_interface {
	struct device_interface *next;
	struct nt_device *device;
	GUID class_guid;
	UNICODE_STRING reference;
	UNICODE_STRING link;
};

/* Guarded by nt_io_lock. */
static struct name *names;
static struct device_interface *interfaces;

/* ---- text ------------------------------------------------------------------------------------ */

static bool
copy_text(UNICODE_STRING *to, PCUNICODE_STRING from)
{
	to->Length = from->Length;
	to->MaximumLength = (USHORT)(from->Length + sizeof(WCHAR));
	to->Buffer = calloc(1, to->MaximumLength);
	if (to->Buffer == NULL)
		return false;
	if (from->Length != 0)
		memcpy(to->Buffer, from->Buffer, from->Length);
	return true;
}

/* a + b, allocated. */
static bool
join_text(UNICODE_STRING *to, PCUNICODE_STRING a, PCUNICODE_STRING b)
{
	to->Length = (USHORT)(a->Length + b->Length);
	to->MaximumLength = (USHORT)(to->Length + sizeof(WCHAR));
	to->Buffer = calloc(1, to->MaximumLength);
	if (to->Buffer == NULL)
		return false;
	memcpy(to->Buffer, a->Buffer, a->Length);
	if (b->Length != 0)
		memcpy((char *)to->Buffer + a->Length, b->Buffer, b->Length);
	return true;
}

/* A name that needs no memory: removing one must not fail. */
struct canonical {
	UNICODE_STRING text;
	WCHAR buffer[NAME_BYTES_MAX / sizeof(WCHAR)];
};

/* The same name with the one spelling of its directory. STATUS_OBJECT_NAME_INVALID. */
static NTSTATUS
canonical(PCUNICODE_STRING name, struct canonical *out)
{
	static const WCHAR *const spellings[] = { u"\\DosDevices\\Global\\", u"\\DosDevices\\",
						  u"\\GLOBAL\?\?\\" };
	UNICODE_STRING directory, rest;

	if (name == NULL || name->Buffer == NULL || name->Length < 2 * sizeof(WCHAR) ||
	    name->Length % sizeof(WCHAR) != 0 || name->Length > NAME_BYTES_MAX ||
	    name->Buffer[0] != '\\' || name->Buffer[name->Length / sizeof(WCHAR) - 1] == '\\')
		return STATUS_OBJECT_NAME_INVALID;
	/* The one spelling is the shortest, so the result is never longer than the name. */
	RtlInitEmptyUnicodeString(&out->text, out->buffer, sizeof(out->buffer));
	rest = *name;
	for (size_t i = 0; i < RTL_NUMBER_OF(spellings) && rest.Length == name->Length; i++) {
		RtlInitUnicodeString(&directory, spellings[i]);
		if (!RtlPrefixUnicodeString(&directory, name, TRUE))
			continue;
		rest.Buffer += directory.Length / sizeof(WCHAR);
		rest.Length = (USHORT)(rest.Length - directory.Length);
		(void)RtlAppendUnicodeToString(&out->text, u"\\?""?\\");
	}
	(void)RtlAppendUnicodeStringToString(&out->text, &rest);
	return STATUS_SUCCESS;
}

/* ---- names and links ------------------------------------------------------------------------- */

static struct name **
find_locked(PCUNICODE_STRING text)
{
	struct name **at = &names;

	while (*at != NULL && !RtlEqualUnicodeString(&(*at)->text, text, TRUE))
		at = &(*at)->next;
	return at;
}

static void
name_free(struct name *name)
{
	if (name == NULL)
		return;
	free(name->text.Buffer);
	free(name->target.Buffer);
	free(name);
}

/* target: of a link. */
static NTSTATUS
add(struct nt_device *device, PCUNICODE_STRING text, PCUNICODE_STRING target)
{
	struct name *name = calloc(1, sizeof(*name));
	struct name **at;
	bool taken;

	if (name == NULL || !copy_text(&name->text, text) || (target != NULL && !copy_text(&name->target, target))) {
		name_free(name);
		return STATUS_INSUFFICIENT_RESOURCES;
	}
	name->device = device;
	nt_io_lock();
	at = find_locked(text);
	taken = *at != NULL;
	if (!taken)
		*at = name;
	nt_io_unlock();
	if (taken)
		name_free(name);
	return taken ? STATUS_OBJECT_NAME_COLLISION : STATUS_SUCCESS;
}

NTSTATUS
nt_name_add_device(PCUNICODE_STRING name, struct nt_device *device)
{
	struct canonical canon;
	NTSTATUS status = canonical(name, &canon);

	return status == STATUS_SUCCESS ? add(device, &canon.text, NULL) : status;
}

void
nt_name_remove_device_locked(struct nt_device *device)
{
	struct name **at = &names;

	while (*at != NULL) {
		struct name *name = *at;

		if (name->device != device) {
			at = &name->next;
			continue;
		}
		*at = name->next;
		name_free(name);
	}
}

NTSTATUS
IoCreateSymbolicLink(PUNICODE_STRING link, PUNICODE_STRING device_name)
{
	struct canonical canon, target;

	if (canonical(link, &canon) != STATUS_SUCCESS || canonical(device_name, &target) != STATUS_SUCCESS)
		return STATUS_OBJECT_NAME_INVALID;
	return add(NULL, &canon.text, &target.text);
}

NTSTATUS
IoDeleteSymbolicLink(PUNICODE_STRING link)
{
	struct name *name, **at;
	struct canonical canon;
	NTSTATUS status = canonical(link, &canon);

	if (status != STATUS_SUCCESS)
		return status;
	nt_io_lock();
	at = find_locked(&canon.text);
	name = *at;
	if (name != NULL && name->device == NULL)
		*at = name->next;
	else
		name = NULL;
	nt_io_unlock();
	name_free(name);
	return name != NULL ? STATUS_SUCCESS : STATUS_OBJECT_NAME_NOT_FOUND;
}

/* The longest name that is `text` or ends in it where a backslash follows. */
static const struct name *
find_prefix_locked(PCUNICODE_STRING text)
{
	const struct name *best = NULL;

	for (const struct name *name = names; name != NULL; name = name->next) {
		if (!RtlPrefixUnicodeString(&name->text, text, TRUE) ||
		    (name->text.Length != text->Length &&
		     text->Buffer[name->text.Length / sizeof(WCHAR)] != '\\'))
			continue;
		if (best == NULL || name->text.Length > best->text.Length)
			best = name;
	}
	return best;
}

NTSTATUS
nt_name_resolve(PCUNICODE_STRING name, struct nt_device **device, PUNICODE_STRING rest)
{
	UNICODE_STRING text = { 0 }, next = { 0 };
	struct canonical canon;
	NTSTATUS status = canonical(name, &canon);

	*device = NULL;
	*rest = (UNICODE_STRING){ 0 };
	if (status == STATUS_SUCCESS && !copy_text(&text, &canon.text))
		status = STATUS_INSUFFICIENT_RESOURCES;
	for (int depth = 0; status == STATUS_SUCCESS; depth++) {
		const struct name *found;
		UNICODE_STRING tail;
		bool copied = true;

		nt_io_lock();
		found = find_prefix_locked(&text);
		if (found == NULL || depth == LINK_DEPTH_MAX) {
			nt_io_unlock();
			status = STATUS_OBJECT_NAME_NOT_FOUND;
			break;
		}
		tail.Buffer = text.Buffer + found->text.Length / sizeof(WCHAR);
		tail.Length = tail.MaximumLength = (USHORT)(text.Length - found->text.Length);
		if (found->device == NULL)
			copied = join_text(&next, &found->target, &tail);
		else
			copied = copy_text(rest, &tail);
		if (copied && found->device != NULL) {
			*device = found->device;
			nt_device_ref_locked(*device);
		}
		nt_io_unlock();
		if (!copied)
			status = STATUS_INSUFFICIENT_RESOURCES;
		if (!copied || *device != NULL)
			break;
		free(text.Buffer);
		text = next;
	}
	free(text.Buffer);
	return status;
}

static void
narrow(PCUNICODE_STRING text, char *out, size_t bytes)
{
	size_t length = min(text->Length / sizeof(WCHAR), bytes - 1);

	for (size_t i = 0; i < length; i++)
		out[i] = text->Buffer[i] < 0x80 ? (char)text->Buffer[i] : '?';
	out[length] = '\0';
}

bool
nt_name_list(unsigned n, char *text, size_t text_bytes, char *target, size_t target_bytes)
{
	const struct name *name;

	nt_io_lock();
	name = names;
	while (name != NULL && n-- != 0)
		name = name->next;
	if (name != NULL) {
		narrow(&name->text, text, text_bytes);
		narrow(&name->target, target, target_bytes);
	}
	nt_io_unlock();
	return name != NULL;
}

/* ---- device interfaces ----------------------------------------------------------------------- */

static struct device_interface **
find_interface_locked(PCUNICODE_STRING link)
{
	struct device_interface **at = &interfaces;

	while (*at != NULL && !RtlEqualUnicodeString(&(*at)->link, link, TRUE))
		at = &(*at)->next;
	return at;
}

static void
interface_free(struct device_interface *interface)
{
	free(interface->reference.Buffer);
	free(interface->link.Buffer);
	free(interface);
}

void
nt_interface_forget_locked(struct nt_device *device)
{
	struct device_interface **at = &interfaces;

	while (*at != NULL) {
		struct device_interface *interface = *at;
		struct name *name, **found;

		if (interface->device != device) {
			at = &interface->next;
			continue;
		}
		found = find_locked(&interface->link);
		name = *found;
		if (name != NULL) {
			*found = name->next;
			name_free(name);
		}
		*at = interface->next;
		interface_free(interface);
	}
}

/* "\??\<instance path>#{class}[\reference]" */
static bool
interface_link(const struct nt_device *device, const GUID *class_guid, PCUNICODE_STRING reference,
	       UNICODE_STRING *link)
{
	static const WCHAR backslash[] = u"\\";
	UNICODE_STRING class_text;
	size_t bytes;

	if (RtlStringFromGUID(class_guid, &class_text) != STATUS_SUCCESS)
		return false;
	bytes = (nt_wcslen(device->instance_path) + 8) * sizeof(WCHAR) + class_text.Length +
		reference->Length;
	*link = (UNICODE_STRING){ .MaximumLength = (USHORT)bytes, .Buffer = calloc(1, bytes) };
	if (link->Buffer != NULL) {
		(void)RtlAppendUnicodeToString(link, u"\\?""?\\");
		(void)RtlAppendUnicodeToString(link, device->instance_path);
		(void)RtlAppendUnicodeToString(link, u"#");
		(void)RtlAppendUnicodeStringToString(link, &class_text);
		if (reference->Length != 0) {
			(void)RtlAppendUnicodeToString(link, backslash);
			(void)RtlAppendUnicodeStringToString(link, reference);
		}
	}
	RtlFreeUnicodeString(&class_text);
	return link->Buffer != NULL;
}

/* A copy that the driver frees. */
static NTSTATUS
give_link(PCUNICODE_STRING from, PUNICODE_STRING to)
{
	const SIZE_T bytes = (SIZE_T)from->Length + sizeof(WCHAR);

	to->Buffer = ExAllocatePool2(POOL_FLAG_PAGED, bytes, STRING_TAG);
	if (to->Buffer == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	to->Length = 0;
	to->MaximumLength = (USHORT)bytes;
	RtlCopyUnicodeString(to, from);
	return STATUS_SUCCESS;
}

NTSTATUS
IoRegisterDeviceInterface(PDEVICE_OBJECT physical_device, const GUID *class_guid,
			  PUNICODE_STRING reference, PUNICODE_STRING link)
{
	static const UNICODE_STRING none;
	struct device_interface *interface, **at;
	struct nt_device *device = nt_device_of(physical_device);
	bool exists;
	NTSTATUS status;

	*link = (UNICODE_STRING){ 0 };
	if (reference == NULL)
		reference = (PUNICODE_STRING)(uintptr_t)&none;
	if (physical_device == NULL || physical_device->Type != IO_TYPE_DEVICE ||
	    device->instance_path == NULL || reference->Length > NAME_BYTES_MAX / 2)
		return STATUS_INVALID_DEVICE_REQUEST;
	interface = calloc(1, sizeof(*interface));
	if (interface == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	*interface = (struct device_interface){ .device = device, .class_guid = *class_guid };
	if (!copy_text(&interface->reference, reference) ||
	    !interface_link(device, class_guid, reference, &interface->link)) {
		interface_free(interface);
		return STATUS_INSUFFICIENT_RESOURCES;
	}
	status = give_link(&interface->link, link);
	nt_io_lock();
	at = find_interface_locked(&interface->link);
	exists = *at != NULL;
	if (status == STATUS_SUCCESS && !exists)
		*at = interface;
	nt_io_unlock();
	if (status != STATUS_SUCCESS || exists)
		interface_free(interface);
	return status == STATUS_SUCCESS && exists ? STATUS_OBJECT_NAME_EXISTS : status;
}

/* The device's own name. */
static bool
device_name_locked(const struct nt_device *device, UNICODE_STRING *name)
{
	for (const struct name *n = names; n != NULL; n = n->next) {
		if (n->device == device)
			return copy_text(name, &n->text);
	}
	return false;
}

NTSTATUS
IoSetDeviceInterfaceState(PUNICODE_STRING link, BOOLEAN enable)
{
	const struct device_interface *interface;
	UNICODE_STRING name;
	NTSTATUS status;
	bool named;

	if (!enable)
		return IoDeleteSymbolicLink(link);
	nt_io_lock();
	interface = *find_interface_locked(link);
	named = interface != NULL && device_name_locked(interface->device, &name);
	nt_io_unlock();
	if (interface == NULL)
		return STATUS_OBJECT_NAME_NOT_FOUND;
	if (!named)
		return STATUS_INSUFFICIENT_RESOURCES;
	status = IoCreateSymbolicLink(link, &name);
	free(name.Buffer);
	return status == STATUS_OBJECT_NAME_COLLISION ? STATUS_OBJECT_NAME_EXISTS : status;
}

NTSTATUS
nt_interface_find(const GUID *class_guid, unsigned n, PUNICODE_STRING link)
{
	const struct device_interface *interface;
	UNICODE_STRING copy = { 0 };
	NTSTATUS status = STATUS_NO_MORE_ENTRIES;
	bool copied = false;

	nt_io_lock();
	for (interface = interfaces; interface != NULL; interface = interface->next) {
		if (IsEqualGUID(&interface->class_guid, class_guid) &&
		    *find_locked(&interface->link) != NULL && n-- == 0)
			break;
	}
	if (interface != NULL)
		copied = copy_text(&copy, &interface->link);
	nt_io_unlock();
	if (interface != NULL)
		status = copied ? give_link(&copy, link) : STATUS_INSUFFICIENT_RESOURCES;
	free(copy.Buffer);
	return status;
}
