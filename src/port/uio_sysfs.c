/* SPDX-License-Identifier: MIT */
/* What sysfs says of the devices on this machine's VMBus (vmbus-protocol 6.1, 6.4). */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "port/uio.h"

#define DEVICES "bus/vmbus/devices"
#define ATTRIBUTE_BYTES 128u
#define MAPS_MAX 16u            /* the kernel has 5 */

/* ---- GUIDs -------------------------------------------------------------------------------------------- */

/* Byte of the wire form that each pair of digits is: the first three groups are little-endian. */
static const uint8_t guid_order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };

static int
digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool
uio_guid_parse(const char *text, struct vmb_guid *guid)
{
	const bool braced = *text == '{';

	text += braced;
	for (uint32_t i = 0; i < 16; i++) {
		int high, low;

		if ((i == 4 || i == 6 || i == 8 || i == 10) && *text++ != '-')
			return false;
		high = digit(text[0]);
		low = high < 0 ? -1 : digit(text[1]);
		if (low < 0)
			return false;
		guid->bytes[guid_order[i]] = (uint8_t)(high << 4 | low);
		text += 2;
	}
	if (braced && *text++ != '}')
		return false;
	return *text == '\0';
}

void
uio_guid_format(const struct vmb_guid *guid, char text[UIO_GUID_TEXT])
{
	static const char digits[] = "0123456789abcdef";

	for (uint32_t i = 0; i < 16; i++) {
		const uint8_t byte = guid->bytes[guid_order[i]];

		if (i == 4 || i == 6 || i == 8 || i == 10)
			*text++ = '-';
		*text++ = digits[byte >> 4];
		*text++ = digits[byte & 15];
	}
	*text = '\0';
}

/* ---- attributes --------------------------------------------------------------------------------------- */

static bool __attribute__((format(printf, 2, 3)))
path_make(char path[PATH_MAX], const char *format, ...)
{
	va_list args;
	int length;

	va_start(args, format);
	length = vsnprintf(path, PATH_MAX, format, args);
	va_end(args);
	return length > 0 && length < PATH_MAX;
}

/*
 * What a failure says. Whoever is short of memory or descriptors has not seen whether something is there: VMB_E_NO_MEMORY and
 * VMB_E_IO mean that here and below, and only VMB_E_NOT_FOUND means that it is not.
 */
static enum vmb_status
status_of(int error)
{
	switch (error) {
	case ENOMEM:
		return VMB_E_NO_MEMORY;
	case EMFILE:
	case ENFILE:
		return VMB_E_IO;
	default:
		return VMB_E_NOT_FOUND;
	}
}

/* One line without its end. VMB_E_NOT_FOUND: it is not there, or it is too long to be one of ours. */
static enum vmb_status
read_attribute(const char *folder, const char *name, char text[ATTRIBUTE_BYTES])
{
	enum vmb_status status = VMB_OK;
	char path[PATH_MAX];
	ssize_t got;
	int fd;

	if (!path_make(path, "%s/%s", folder, name))
		return VMB_E_NOT_FOUND;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return status_of(errno);
	got = read(fd, text, ATTRIBUTE_BYTES);
	if (got < 0)
		status = status_of(errno);
	else if (got == 0 || got == ATTRIBUTE_BYTES)
		status = VMB_E_NOT_FOUND;
	close(fd);
	if (status != VMB_OK)
		return status;
	text[got] = '\0';
	text[strcspn(text, "\n")] = '\0';
	return VMB_OK;
}

static enum vmb_status
read_number(const char *folder, const char *name, uint64_t high, uint64_t *value)
{
	char text[ATTRIBUTE_BYTES];
	char *end;
	enum vmb_status status = read_attribute(folder, name, text);

	if (status != VMB_OK)
		return status;
	if (!isdigit((unsigned char)text[0]))
		return VMB_E_NOT_FOUND;
	errno = 0;
	*value = strtoull(text, &end, 0);
	return errno == 0 && *end == '\0' && *value <= high ? VMB_OK : VMB_E_NOT_FOUND;
}

static enum vmb_status
read_guid(const char *folder, const char *name, struct vmb_guid *guid)
{
	char text[ATTRIBUTE_BYTES];
	enum vmb_status status = read_attribute(folder, name, text);

	if (status != VMB_OK)
		return status;
	return uio_guid_parse(text, guid) ? VMB_OK : VMB_E_NOT_FOUND;
}

/* NULL and VMB_OK: that was all. */
static const struct dirent *
next_entry(DIR *dir, enum vmb_status *status)
{
	const struct dirent *entry;

	errno = 0;
	entry = readdir(dir);
	*status = entry != NULL || errno == 0 ? VMB_OK : status_of(errno);
	return entry;
}

/* N of the first entry `uioN` in the folder. */
static enum vmb_status
find_number(const char *folder, int *number)
{
	const struct dirent *entry;
	enum vmb_status status;
	unsigned long value = 0;
	bool found = false;
	char *end;
	DIR *dir = opendir(folder);

	if (dir == NULL)
		return status_of(errno);
	while (!found && (entry = next_entry(dir, &status)) != NULL) {
		if (strncmp(entry->d_name, "uio", 3) != 0 || !isdigit((unsigned char)entry->d_name[3]))
			continue;
		value = strtoul(entry->d_name + 3, &end, 10);
		found = *end == '\0' && value <= INT_MAX;
	}
	closedir(dir);
	if (found)
		*number = (int)value;
	return found || status != VMB_OK ? status : VMB_E_NOT_FOUND;
}

/* The number of the device's uio, if that is whom it is bound to. */
static enum vmb_status
bound_number(const char *folder, int *number)
{
	char path[PATH_MAX], target[PATH_MAX];
	const char *base;
	ssize_t length;

	if (!path_make(path, "%s/driver", folder))
		return VMB_E_NOT_FOUND;
	length = readlink(path, target, sizeof(target) - 1);
	if (length < 0)
		return status_of(errno);
	target[length] = '\0';
	base = strrchr(target, '/');
	if (strcmp(base != NULL ? base + 1 : target, UIO_DRIVER) != 0 || !path_make(path, "%s/uio", folder))
		return VMB_E_NOT_FOUND;
	return find_number(path, number);
}

static enum vmb_status
read_device(const struct uio_roots *roots, const char *name, struct uio_device *device)
{
	enum vmb_status status;
	char folder[PATH_MAX];
	uint64_t value;

	if (strlen(name) >= sizeof(device->name) ||
	    !path_make(folder, "%s/" DEVICES "/%s", roots->sys, name))
		return VMB_E_NOT_FOUND;
	memset(device, 0, sizeof(*device));
	strcpy(device->name, name);
	device->monitor_id = UIO_NO_MONITOR;
	device->number = -1;
	status = read_guid(folder, "class_id", &device->type);
	if (status == VMB_OK)
		status = read_guid(folder, "device_id", &device->instance);
	if (status == VMB_OK)
		status = read_number(folder, "id", VMB_CHANNEL_ID_MAX, &value);
	if (status != VMB_OK)
		return status;
	if (value == 0)
		return VMB_E_NOT_FOUND;
	device->channel_id = (uint32_t)value;
	/* Linux shows this file only for channels that have a monitor. */
	status = read_number(folder, "monitor_id", VMB_MONITOR_ID_MAX, &value);
	if (status == VMB_OK)
		device->monitor_id = (uint32_t)value;
	if (status == VMB_OK || status == VMB_E_NOT_FOUND)
		status = bound_number(folder, &device->number);
	return status == VMB_E_NOT_FOUND ? VMB_OK : status;
}

/* ---- the scan ----------------------------------------------------------------------------------------- */

static int
by_channel(const void *a, const void *b)
{
	const uint32_t left = ((const struct uio_device *)a)->channel_id;
	const uint32_t right = ((const struct uio_device *)b)->channel_id;

	return (left > right) - (left < right);
}

enum vmb_status
uio_scan(const struct uio_roots *roots, const struct vmb_guid *which, struct uio_device **devices,
         uint32_t *count)
{
	struct uio_device *found = NULL, *grown;
	uint32_t used = 0, room = 0;
	const struct dirent *entry;
	enum vmb_status status;
	char path[PATH_MAX];
	DIR *dir;

	*devices = NULL;
	*count = 0;
	if (!path_make(path, "%s/" DEVICES, roots->sys))
		return VMB_E_NOT_FOUND;
	dir = opendir(path);
	if (dir == NULL)
		return status_of(errno);
	while ((entry = next_entry(dir, &status)) != NULL) {
		if (entry->d_name[0] == '.')
			continue;
		if (used == room) {
			room = room == 0 ? 16 : room * 2;
			grown = realloc(found, room * sizeof(*found));
			if (grown == NULL) {
				status = VMB_E_NO_MEMORY;
				break;
			}
			found = grown;
		}
		status = read_device(roots, entry->d_name, &found[used]);
		if (status == VMB_E_NOT_FOUND)
			continue;
		if (status != VMB_OK)
			break;
		if (which == NULL || uio_guid_equal(which, &found[used].type) ||
		    uio_guid_equal(which, &found[used].instance))
			used++;
	}
	closedir(dir);
	/* A list with a gap would tell of a device that has gone. */
	if (status != VMB_OK && status != VMB_E_NOT_FOUND) {
		free(found);
		return status;
	}
	if (used > 1)
		qsort(found, used, sizeof(*found), by_channel);
	*devices = found;
	*count = used;
	return VMB_OK;
}

void
uio_scan_why(const struct uio_roots *roots, enum vmb_status status, char reason[VMB_PORT_WHY_BYTES])
{
	reason[0] = '\0';
	if (status == VMB_E_NOT_FOUND)
		snprintf(reason, VMB_PORT_WHY_BYTES, "this machine has no VMBus (%s/bus/vmbus)", roots->sys);
	else if (status == VMB_E_IO)
		snprintf(reason, VMB_PORT_WHY_BYTES, "no descriptors left to read %s/bus/vmbus with", roots->sys);
}

void
uio_find_map(const struct uio_roots *roots, const struct uio_device *device, const char *name,
             struct uio_map *map)
{
	char folder[PATH_MAX], text[ATTRIBUTE_BYTES];

	map->bytes = 0;
	for (uint32_t i = 0; i < MAPS_MAX; i++) {
		if (!path_make(folder, "%s/" DEVICES "/%s/uio/uio%d/maps/map%u", roots->sys, device->name,
		               device->number, i) ||
		    read_attribute(folder, "name", text) != VMB_OK || strcmp(text, name) != 0)
			continue;
		map->index = i;
		if (read_number(folder, "size", SIZE_MAX / 2, &map->bytes) != VMB_OK)
			map->bytes = 0;
		return;
	}
}

bool
uio_driver_is_loaded(const struct uio_roots *roots)
{
	char path[PATH_MAX];

	return path_make(path, "%s/bus/vmbus/drivers/" UIO_DRIVER, roots->sys) && access(path, F_OK) == 0;
}
