/* SPDX-License-Identifier: MIT */
/* Driver objects: made by who loads a driver, filled in by its DriverEntry. */
#include <stdlib.h>
#include <string.h>

#include "nt/nt_dbg.h"
#include "nt/nt_io.h"
#include "nt/nt_misuse.h"

struct driver_extension {
	struct driver_extension *next;
	PVOID id;
	DECLSPEC_ALIGN(16) UCHAR bytes[];
};

struct nt_driver {
	DRIVER_OBJECT object;           /* first */
	DRIVER_EXTENSION extension;
	struct driver_extension *extensions;
	void (*destroying)(PDRIVER_OBJECT driver);
	WCHAR name[8 + 64 + 1];
};

static struct nt_driver *
driver_of(PDRIVER_OBJECT object)
{
	return (struct nt_driver *)(void *)object;
}

static NTSTATUS
refuse(PDEVICE_OBJECT device, PIRP irp)
{
	UNREFERENCED_PARAMETER(device);
	irp->IoStatus.Status = STATUS_INVALID_DEVICE_REQUEST;
	irp->IoStatus.Information = 0;
	IoCompleteRequest(irp, IO_NO_INCREMENT);
	return STATUS_INVALID_DEVICE_REQUEST;
}

PDRIVER_OBJECT
nt_driver_create(const char *service)
{
	static const char prefix[] = "\\Driver\\";
	struct nt_driver *driver = calloc(1, sizeof(*driver));
	size_t length = 0;

	if (driver == NULL)
		return NULL;
	for (const char *p = prefix; *p != '\0'; p++)
		driver->name[length++] = (UCHAR)*p;
	for (const char *p = service; *p != '\0' && length < RTL_NUMBER_OF(driver->name) - 1; p++)
		driver->name[length++] = (UCHAR)*p;
	driver->object.Type = IO_TYPE_DRIVER;
	driver->object.Size = (CSHORT)sizeof(DRIVER_OBJECT);
	driver->object.DriverExtension = &driver->extension;
	driver->extension.DriverObject = &driver->object;
	RtlInitUnicodeString(&driver->object.DriverName, driver->name);
	RtlInitUnicodeString(&driver->extension.ServiceKeyName, driver->name + sizeof(prefix) - 1);
	for (unsigned i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
		driver->object.MajorFunction[i] = refuse;
	return &driver->object;
}

void
nt_driver_on_destroy(PDRIVER_OBJECT driver, void (*destroying)(PDRIVER_OBJECT driver))
{
	driver_of(driver)->destroying = destroying;
}

unsigned
nt_driver_destroy(PDRIVER_OBJECT object)
{
	struct nt_driver *driver = driver_of(object);
	unsigned left = 0;

	if (driver->destroying != NULL)
		driver->destroying(object);
	while (object->DeviceObject != NULL) {
		PDEVICE_OBJECT device = object->DeviceObject;

		left++;
		nt_dbg_printf("kmcl: a driver left device %p behind\n", (void *)device);
		while (device->AttachedDevice != NULL)
			IoDetachDevice(device);
		if (nt_device_of(device)->lower != NULL)
			IoDetachDevice(&nt_device_of(device)->lower->object);
		IoDeleteDevice(device);
	}
	while (driver->extensions != NULL) {
		struct driver_extension *extension = driver->extensions;

		driver->extensions = extension->next;
		free(extension);
	}
	object->Type = 0;
	free(driver);
	return left;
}

void
nt_driver_ready(PDRIVER_OBJECT driver)
{
	nt_io_lock();
	for (PDEVICE_OBJECT device = driver->DeviceObject; device != NULL; device = device->NextDevice)
		__atomic_fetch_and(&device->Flags, ~(ULONG)DO_DEVICE_INITIALIZING, __ATOMIC_RELEASE);
	nt_io_unlock();
}

PDEVICE_OBJECT
nt_driver_device(PDRIVER_OBJECT driver, unsigned n)
{
	PDEVICE_OBJECT device;

	nt_io_lock();
	device = driver->DeviceObject;
	while (device != NULL && n-- != 0)
		device = device->NextDevice;
	if (device != NULL)
		nt_device_ref_locked(nt_device_of(device));
	nt_io_unlock();
	return device;
}

/* A device that asked, once; referenced. */
static struct nt_device *
take_shutdown(PDRIVER_OBJECT driver)
{
	struct nt_device *found = NULL;

	nt_io_lock();
	for (PDEVICE_OBJECT device = driver->DeviceObject; device != NULL && found == NULL;
	     device = device->NextDevice) {
		if ((__atomic_fetch_and(&device->Flags, ~(ULONG)DO_SHUTDOWN_REGISTERED,
					__ATOMIC_RELAXED) & DO_SHUTDOWN_REGISTERED) != 0) {
			found = nt_device_of(device);
			nt_device_ref_locked(found);
		}
	}
	nt_io_unlock();
	return found;
}

void
nt_driver_shutdown(PDRIVER_OBJECT driver)
{
	const IO_STACK_LOCATION location = { .MajorFunction = IRP_MJ_SHUTDOWN };
	struct nt_device *device;

	while ((device = take_shutdown(driver)) != NULL) {
		(void)nt_irp_send(&device->object, &location, STATUS_NOT_SUPPORTED, NULL);
		nt_device_unref(device);
	}
}

/* ---- extensions ------------------------------------------------------------------------------ */

static struct driver_extension *
find_extension(const struct nt_driver *driver, PVOID id)
{
	struct driver_extension *extension = driver->extensions;

	while (extension != NULL && extension->id != id)
		extension = extension->next;
	return extension;
}

NTSTATUS
IoAllocateDriverObjectExtension(PDRIVER_OBJECT object, PVOID id, ULONG bytes, PVOID *out)
{
	struct nt_driver *driver = driver_of(object);
	struct driver_extension *extension = calloc(1, sizeof(*extension) + bytes);
	bool taken;

	*out = NULL;
	if (extension == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	extension->id = id;
	nt_io_lock();
	taken = find_extension(driver, id) != NULL;
	if (!taken) {
		extension->next = driver->extensions;
		driver->extensions = extension;
	}
	nt_io_unlock();
	if (taken) {
		free(extension);
		return STATUS_OBJECT_NAME_COLLISION;
	}
	*out = extension->bytes;
	return STATUS_SUCCESS;
}

PVOID
IoGetDriverObjectExtension(PDRIVER_OBJECT object, PVOID id)
{
	struct driver_extension *extension;

	nt_io_lock();
	extension = find_extension(driver_of(object), id);
	nt_io_unlock();
	return extension != NULL ? extension->bytes : NULL;
}
