/* SPDX-License-Identifier: MIT */
/* Parameters of drivers, as a program is told them: text that becomes values of the registry. */
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "kmcl.h"
#include "nt/nt_registry.h"

#define PARAMETERS "\\Parameters"
#define MOST_DRIVER 64
#define MOST_VALUE 32000        /* a counted string has 16-bit lengths */

/* The path of the driver's key, with `below` behind it. False: the name is of no use. */
static bool
driver_path(const char *driver, const char *below, WCHAR *path)
{
	static const WCHAR services[] = NT_REGISTRY_SERVICES;
	size_t length = driver != NULL ? strlen(driver) : 0, at = RTL_NUMBER_OF(services) - 1;

	if (length == 0 || length > MOST_DRIVER || strchr(driver, '\\') != NULL)
		return false;
	memcpy(path, services, at * sizeof(*path));
	for (size_t i = 0; i < length; i++) {
		if ((unsigned char)driver[i] >= 0x80)
			return false;
		path[at++] = (WCHAR)driver[i];
	}
	while (*below != '\0')
		path[at++] = (WCHAR)*below++;
	path[at] = 0;
	return true;
}
#define PATH_UNITS (sizeof(NT_REGISTRY_SERVICES) / 2 + MOST_DRIVER + sizeof(PARAMETERS))

/* UTF-8 as terminated 16-bit text; free() it. STATUS_INVALID_PARAMETER_2: it is none, or too long. */
static NTSTATUS
wide(const char *text, size_t bytes, WCHAR **out, ULONG *wide_bytes)
{
	WCHAR *made;

	if (bytes > MOST_VALUE)
		return STATUS_INVALID_PARAMETER_2;
	made = calloc(bytes + 1, sizeof(*made));
	if (made == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	if (RtlUTF8ToUnicodeN(made, (ULONG)(bytes * sizeof(*made)), wide_bytes, text, (ULONG)bytes) !=
	    STATUS_SUCCESS) {
		free(made);
		return STATUS_INVALID_PARAMETER_2;
	}
	*out = made;
	return STATUS_SUCCESS;
}

static bool
is_number(const char *text, uint64_t *number)
{
	char *end;

	if (*text < '0' || *text > '9')
		return false;
	errno = 0;
	*number = strtoull(text, &end, text[0] == '0' && (text[1] | 0x20) == 'x' ? 16 : 10);
	return errno == 0 && *end == '\0';
}

NTSTATUS
kmcl_registry_set(const char *driver, const char *assignment)
{
	const char *equals = assignment != NULL ? strchr(assignment, '=') : NULL;
	size_t name_bytes = equals != NULL ? (size_t)(equals - assignment) : 0;
	bool is_text = name_bytes > 3 && strncmp(equals - 3, ":sz", 3) == 0;
	WCHAR path[PATH_UNITS], *name, *text = NULL;
	uint64_t number = 0;
	ULONG bytes = 0;
	NTSTATUS status;

	if (!driver_path(driver, PARAMETERS, path))
		return STATUS_INVALID_PARAMETER_1;
	if (is_text)
		name_bytes -= 3;
	if (name_bytes == 0)
		return STATUS_INVALID_PARAMETER_2;
	status = wide(assignment, name_bytes, &name, &bytes);
	if (status != STATUS_SUCCESS)
		return status;
	if (!is_text && is_number(equals + 1, &number)) {
		bool small = number <= UINT32_MAX;

		/* Little-endian, as every machine is that this runs on. */
		status = nt_registry_set(path, name, small ? REG_DWORD : REG_QWORD, &number,
		                         small ? 4 : 8);
	} else {
		status = wide(equals + 1, strlen(equals + 1), &text, &bytes);
		if (status == STATUS_SUCCESS)
			status = nt_registry_set(path, name, REG_SZ, text, bytes + (ULONG)sizeof(WCHAR));
	}
	free(text);
	free(name);
	return status;
}

void
kmcl_registry_clear(const char *driver)
{
	WCHAR path[PATH_UNITS];

	if (driver_path(driver, "", path))
		nt_registry_remove_key(path);
}
