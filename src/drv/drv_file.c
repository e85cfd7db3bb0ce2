/* SPDX-License-Identifier: MIT */
/* Devices as a user-mode program sees them: names in its spelling, files, requests. */
#include <stdlib.h>
#include <string.h>

#include "kmcl.h"
#include "nt/nt_io.h"

#define NAME_CHARACTERS 512u

/* The structure is the file object; nobody outside knows. */
static PFILE_OBJECT
object_of(struct kmcl_file *file)
{
	return (PFILE_OBJECT)(void *)file;
}

/*
 * ---- names
 * -----------------------------------------------------------------------------------------------------
 */

/* "{guid}" or "{guid}#n". */
static bool
parse_interface(const char *name, GUID *class_guid, unsigned *n)
{
	WCHAR wide[39];
	UNICODE_STRING text;
	char *end = NULL;

	if (name[0] != '{' || strlen(name) < 38 || name[37] != '}')
		return false;
	for (unsigned i = 0; i < 38; i++)
		wide[i] = (UCHAR)name[i];
	wide[38] = 0;
	RtlInitUnicodeString(&text, wide);
	*n = 0;
	if (name[38] == '#')
		*n = (unsigned)strtoul(name + 39, &end, 10);
	if (name[38] != '\0' && (end == NULL || end == name + 39 || *end != '\0'))
		return false;
	return RtlGUIDFromString(&text, class_guid) == STATUS_SUCCESS;
}

/* In the I/O manager's spelling, allocated. */
static NTSTATUS
translate(const char *name, WCHAR **out, PUNICODE_STRING text)
{
	const char *directory = "";
	const size_t length = strlen(name);
	size_t used = 0;
	WCHAR *wide;

	if (length == 0 || length > NAME_CHARACTERS)
		return STATUS_OBJECT_NAME_INVALID;
	if (strncmp(name, "\\\\.\\", 4) == 0 || strncmp(name, "\\\\?\\", 4) == 0) {
		directory = "\\?""?\\";
		name += 4;
	} else if (name[0] != '\\') {
		directory = "\\?""?\\";
	}
	wide = calloc(length + 8, sizeof(*wide));
	if (wide == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	for (; *directory != '\0'; directory++)
		wide[used++] = (UCHAR)*directory;
	for (; *name != '\0'; name++) {
		if ((UCHAR)*name >= 0x80) {
			free(wide);
			return STATUS_OBJECT_NAME_INVALID;
		}
		wide[used++] = (UCHAR)*name;
	}
	RtlInitUnicodeString(text, wide);
	*out = wide;
	return STATUS_SUCCESS;
}

bool
kmcl_file_name(uint32_t n, char *name, uint32_t name_bytes, char *target, uint32_t target_bytes)
{
	return nt_name_list(n, name, name_bytes, target, target_bytes);
}

/*
 * ---- files
 * -------------------------------------------------------------------------------------------------------
 */

NTSTATUS
kmcl_file_open(const char *name, struct kmcl_file **out)
{
	PFILE_OBJECT object = NULL;
	UNICODE_STRING text;
	GUID class_guid;
	unsigned n;
	WCHAR *wide;
	NTSTATUS status;

	*out = NULL;
	if (parse_interface(name, &class_guid, &n)) {
		status = nt_interface_find(&class_guid, n, &text);
		if (status == STATUS_NO_MORE_ENTRIES)
			return STATUS_OBJECT_NAME_NOT_FOUND;
		if (status != STATUS_SUCCESS)
			return status;
		status = nt_file_open(&text, GENERIC_READ | GENERIC_WRITE, &object);
		RtlFreeUnicodeString(&text);
	} else {
		status = translate(name, &wide, &text);
		if (status != STATUS_SUCCESS)
			return status;
		status = nt_file_open(&text, GENERIC_READ | GENERIC_WRITE, &object);
		free(wide);
	}
	*out = (struct kmcl_file *)(void *)object;
	return status;
}

NTSTATUS
kmcl_file_ioctl(struct kmcl_file *file, ULONG code, const void *input, uint32_t input_bytes, void *output,
                uint32_t output_bytes, uint32_t *returned)
{
	ULONG_PTR information = 0;
	NTSTATUS status = nt_file_ioctl(object_of(file), code, (PVOID)(uintptr_t)input, input_bytes, output,
	                                output_bytes, &information);

	if (returned != NULL)
		*returned = (uint32_t)min(information, (ULONG_PTR)output_bytes);
	return status;
}

static NTSTATUS
transfer(struct kmcl_file *file, UCHAR major, uint64_t offset, void *buffer, uint32_t bytes, uint32_t *done)
{
	ULONG_PTR information = 0;
	NTSTATUS status =
	        nt_file_transfer(object_of(file), major, buffer, bytes, (LONGLONG)offset, &information);

	if (done != NULL)
		*done = (uint32_t)min(information, (ULONG_PTR)bytes);
	return status;
}

NTSTATUS
kmcl_file_read(struct kmcl_file *file, uint64_t offset, void *buffer, uint32_t bytes, uint32_t *done)
{
	return transfer(file, IRP_MJ_READ, offset, buffer, bytes, done);
}

NTSTATUS
kmcl_file_write(struct kmcl_file *file, uint64_t offset, const void *buffer, uint32_t bytes, uint32_t *done)
{
	return transfer(file, IRP_MJ_WRITE, offset, (void *)(uintptr_t)buffer, bytes, done);
}

void
kmcl_file_cancel(struct kmcl_file *file)
{
	nt_file_cancel(object_of(file));
}

void
kmcl_file_close(struct kmcl_file *file)
{
	nt_file_close(object_of(file));
}
