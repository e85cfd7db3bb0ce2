/* SPDX-License-Identifier: MIT */
/*
 * Giving devices to uio_hv_generic and back (vmbus-protocol 6.4). Needs a right to write to sysfs, and nothing else that
 * only root has.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "port/uio.h"

/* Of the kernel's own numbers, which C libraries do not name. */
#define KERNEL_ENOTSUPP 524

/* 0 or errno. */
static int __attribute__((format(printf, 3, 4)))
write_file(const struct uio_roots *roots, const char *text, const char *format, ...)
{
	char below[PATH_MAX / 2], path[PATH_MAX];
	size_t bytes = strlen(text);
	va_list args;
	int fd, error = 0;

	va_start(args, format);
	vsnprintf(below, sizeof(below), format, args);
	va_end(args);
	if (snprintf(path, sizeof(path), "%s/%s", roots->sys, below) >= (int)sizeof(path))
		return ENAMETOOLONG;
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	if (write(fd, text, bytes) != (ssize_t)bytes)
		error = errno;
	close(fd);
	return error;
}

static enum vmb_status
fail(char reason[VMB_PORT_WHY_BYTES], const char *name, const char *what, int error)
{
	if (error == KERNEL_ENOTSUPP) {
		snprintf(reason, VMB_PORT_WHY_BYTES, "device %s: this kernel's " UIO_DRIVER " takes only channels that "
		         "the host offers with a monitor (`kmcl vm --monitors` does)", name);
		return VMB_E_UNSUPPORTED;
	}
	snprintf(reason, VMB_PORT_WHY_BYTES, "device %s: %s: %s%s", name, what, strerror(error),
	         error == EACCES || error == EPERM ? "; run as root" : "");
	return error == EACCES || error == EPERM ? VMB_E_ACCESS : VMB_E_IO;
}

static enum vmb_status
bind_one(const struct uio_roots *roots, const struct uio_device *device, char reason[VMB_PORT_WHY_BYTES])
{
	char type[UIO_GUID_TEXT];
	int error;

	/* The override is for this device alone; older kernels only know a class for all of them. */
	error = write_file(roots, UIO_DRIVER "\n", "bus/vmbus/devices/%s/driver_override", device->name);
	if (error == ENOENT) {
		uio_guid_format(&device->type, type);
		error = write_file(roots, type, "bus/vmbus/drivers/" UIO_DRIVER "/new_id");
		if (error == EEXIST)
			error = 0;
	}
	if (error != 0)
		return fail(reason, device->name, "cannot be promised to " UIO_DRIVER, error);
	error = write_file(roots, device->name, "bus/vmbus/devices/%s/driver/unbind", device->name);
	if (error != 0 && error != ENOENT && error != ENODEV)
		return fail(reason, device->name, "cannot be taken from its driver", error);
	error = write_file(roots, device->name, "bus/vmbus/drivers/" UIO_DRIVER "/bind");
	/* new_id binds by itself what has no driver. */
	if (error != 0 && error != EBUSY && error != ENODEV && error != EEXIST)
		return fail(reason, device->name, "cannot be bound to " UIO_DRIVER, error);
	return VMB_OK;
}

static enum vmb_status
unbind_one(const struct uio_roots *roots, const struct uio_device *device, char reason[VMB_PORT_WHY_BYTES])
{
	int error = write_file(roots, "\n", "bus/vmbus/devices/%s/driver_override", device->name);

	if (error != 0 && error != ENOENT)
		return fail(reason, device->name, "its driver_override cannot be cleared", error);
	error = write_file(roots, device->name, "bus/vmbus/drivers/" UIO_DRIVER "/unbind");
	if (error != 0)
		return fail(reason, device->name, "cannot be taken from " UIO_DRIVER, error);
	/* Whoever else drives it may have it again. */
	error = write_file(roots, device->name, "bus/vmbus/drivers_probe");
	if (error != 0 && error != ENOENT && error != EINVAL)
		return fail(reason, device->name, "no other driver could be asked to take it", error);
	return VMB_OK;
}

static enum vmb_status
for_each(const struct vmb_uio_options *options, const struct vmb_guid *which, bool bind,
         char reason[VMB_PORT_WHY_BYTES])
{
	const struct uio_roots roots = uio_roots_of(options);
	enum vmb_status status = VMB_OK;
	struct uio_device *devices;
	uint32_t count, done = 0;

	if (bind && !uio_driver_is_loaded(&roots)) {
		snprintf(reason, VMB_PORT_WHY_BYTES, "the driver " UIO_DRIVER " is not loaded; modprobe " UIO_DRIVER);
		return VMB_E_NOT_FOUND;
	}
	status = uio_scan(&roots, which, &devices, &count);
	if (status != VMB_OK) {
		uio_scan_why(&roots, status, reason);
		return status;
	}
	for (uint32_t i = 0; i < count && status == VMB_OK; i++) {
		done++;
		if (bind == (devices[i].number >= 0))
			continue;
		status = bind ? bind_one(&roots, &devices[i], reason) : unbind_one(&roots, &devices[i], reason);
	}
	free(devices);
	if (status == VMB_OK && done == 0) {
		snprintf(reason, VMB_PORT_WHY_BYTES, "no device on the VMBus has this class or instance");
		return VMB_E_NOT_FOUND;
	}
	return status;
}

enum vmb_status
vmb_uio_bind(const struct vmb_uio_options *options, const struct vmb_guid *which,
             char reason[VMB_PORT_WHY_BYTES])
{
	return for_each(options, which, true, reason);
}

enum vmb_status
vmb_uio_unbind(const struct vmb_uio_options *options, const struct vmb_guid *which,
               char reason[VMB_PORT_WHY_BYTES])
{
	return for_each(options, which, false, reason);
}
