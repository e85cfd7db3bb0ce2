/* SPDX-License-Identifier: MIT */
/*
 * The bus driver: devices that stand for an offer or for a bus at the bottom of a stack, and the
 * two named devices that give out KMCL's interfaces (IFQ-7). A channel's parent may be any device
 * of such a stack (CHA-4).
 */
#include "kmcl/kmcl_pdo.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_inherit.h"
#include "kmcl_bus_interface.h"
#include "kmcl_state_interface.h"
#include "nt/nt_io.h"

#define ID_TAG 0x6449564Bu      /* "KVId" in memory */

const GUID KMCL_BUS_INTERFACE_TYPE = {
	0x5d0c3f42, 0x7be1, 0x4a96, { 0x8e, 0x27, 0x40, 0xb5, 0x1d, 0x9f, 0x63, 0xc8 }
};

const GUID KMCL_STATE_INTERFACE_TYPE = {
	0x1b7e94d3, 0x52c0, 0x4f6d, { 0x93, 0xa8, 0x0c, 0x75, 0xe6, 0x2f, 0x48, 0xb1 }
};

/* What a named device gives out; PDOs (struct kmcl_device) are kept apart by their extension's first word. */
enum device_kind {
	DEVICE_PDO,
	DEVICE_CLIENT_INTERFACE,
	DEVICE_SERVER_INTERFACE,
};
struct interface_device {
	enum device_kind kind;
};

/* Made once and never freed; NULL while memory was short. */
static pthread_mutex_t bus_driver_lock = PTHREAD_MUTEX_INITIALIZER;
static DRIVER_OBJECT *bus_driver;

/*
 * ---- the bus's own interface
 * --------------------------------------------------------------------------------
 */

static VOID
bus_interface_reference(PVOID context)
{
	kmcl_bus_ref(context);
}

static VOID
bus_interface_dereference(PVOID context)
{
	kmcl_bus_unref(context);
}

static NTSTATUS
bus_interface_open(PVOID context, PHANDLE handle)
{
	if (handle == NULL)
		return STATUS_INVALID_PARAMETER;
	*handle = kmcl_bus_handle(context);
	return STATUS_SUCCESS;
}

/* Statuses as IFQ-4. */
static NTSTATUS
query_bus_interface(struct kmcl_bus *bus, PINTERFACE out, USHORT size, USHORT version)
{
	const KMCL_BUS_INTERFACE answer = {
		.Size = sizeof(answer),
		.Version = KMCL_BUS_INTERFACE_VERSION,
		.Context = bus,
		.InterfaceReference = bus_interface_reference,
		.InterfaceDereference = bus_interface_dereference,
		.OpenBus = bus_interface_open,
	};

	if (bus->kind != KMCL_BUS_HOST || version == 0)
		return STATUS_NOT_SUPPORTED;
	if (out == NULL || size < sizeof(answer))
		return STATUS_INVALID_PARAMETER;
	memcpy(out, &answer, sizeof(answer));
	kmcl_bus_ref(bus);
	return STATUS_SUCCESS;
}

static NTSTATUS
state_interface_keep(PVOID context, VMBCHANNEL channel, const VOID *state, ULONG bytes)
{
	UNREFERENCED_PARAMETER(context);
	return kmcl_keep_state(channel, state, bytes);
}

static NTSTATUS
state_interface_read(PVOID context, VMBCHANNEL channel, PVOID state, ULONG bytes, PULONG filled)
{
	UNREFERENCED_PARAMETER(context);
	return kmcl_read_state(channel, state, bytes, filled);
}

static NTSTATUS
query_state_interface(struct kmcl_bus *bus, PINTERFACE out, USHORT size, USHORT version)
{
	const KMCL_STATE_INTERFACE answer = {
		.Size = sizeof(answer),
		.Version = KMCL_STATE_INTERFACE_VERSION,
		.Context = bus,
		.InterfaceReference = bus_interface_reference,
		.InterfaceDereference = bus_interface_dereference,
		.KeepState = state_interface_keep,
		.ReadState = state_interface_read,
	};

	if (bus->kind != KMCL_BUS_HOST || version == 0)
		return STATUS_NOT_SUPPORTED;
	if (out == NULL || size < sizeof(answer))
		return STATUS_INVALID_PARAMETER;
	memcpy(out, &answer, sizeof(answer));
	kmcl_bus_ref(bus);
	return STATUS_SUCCESS;
}

static NTSTATUS
query_interface(const struct interface_device *device, const IO_STACK_LOCATION *location, NTSTATUS status)
{
	const GUID *type = location->Parameters.QueryInterface.InterfaceType;
	PINTERFACE out = location->Parameters.QueryInterface.Interface;
	const USHORT size = location->Parameters.QueryInterface.Size;
	const USHORT version = location->Parameters.QueryInterface.Version;

	if (type == NULL)
		return STATUS_INVALID_PARAMETER;
	if (IsEqualGUID(type, &KMCL_CLIENT_INTERFACE_TYPE))
		return device->kind != DEVICE_SERVER_INTERFACE ? KmclQueryInterface(type, out, size, version) :
		                                                 status;
	if (IsEqualGUID(type, &KMCL_SERVER_INTERFACE_TYPE))
		return device->kind != DEVICE_CLIENT_INTERFACE ? KmclQueryInterface(type, out, size, version) :
		                                                 status;
	if (device->kind == DEVICE_PDO && IsEqualGUID(type, &KMCL_BUS_INTERFACE_TYPE))
		return query_bus_interface(((const struct kmcl_device *)(const void *)device)->bus, out, size,
		                           version);
	if (device->kind == DEVICE_PDO && IsEqualGUID(type, &KMCL_STATE_INTERFACE_TYPE))
		return query_state_interface(((const struct kmcl_device *)(const void *)device)->bus, out,
		                             size, version);
	return status;
}

/*
 * ---- identity
 * -------------------------------------------------------------------------------------------------
 */

static void
put_guid(char text[39], const GUID *guid)
{
	const UCHAR *d = guid->Data4;

	snprintf(text, 39, "{%08x-%04x-%04x-%02x%02x-%02x%02x%02x%02x%02x%02x}", guid->Data1, guid->Data2,
	         guid->Data3, d[0], d[1], d[2], d[3], d[4], d[5], d[6], d[7]);
}

/*
 * "VMBUS<separator>{type}[<separator>{instance}]", or "ROOT<separator>KMCL" for a device that
 * stands for a bus.
 */
static void
put_path(const struct kmcl_device *device, char separator, bool with_instance, char *text, size_t bytes)
{
	char type[39], instance[39];

	if (!device->has_type) {
		snprintf(text, bytes, with_instance ? "ROOT%cKMCL%c%04u" : "ROOT%cKMCL", separator, separator,
		         device->number);
		return;
	}
	put_guid(type, &device->type);
	put_guid(instance, &device->instance);
	snprintf(text, bytes, with_instance ? "VMBUS%c%s%c%s" : "VMBUS%c%s", separator, type, separator,
	         instance);
}

/* A string list in paged pool: one string and the end of the list. */
static NTSTATUS
query_id(const struct kmcl_device *device, BUS_QUERY_ID_TYPE kind, NTSTATUS status, ULONG_PTR *answer)
{
	char text[128];
	size_t length;
	PWCHAR id;

	switch (kind) {
	case BusQueryDeviceID:
	case BusQueryHardwareIDs:
		put_path(device, '\\', false, text, sizeof(text));
		break;
	case BusQueryInstanceID:
		if (device->has_type)
			put_guid(text, &device->instance);
		else
			snprintf(text, sizeof(text), "%04u", device->number);
		break;
	default:
		return status;
	}
	length = strlen(text);
	id = ExAllocatePool2(POOL_FLAG_PAGED, (length + 2) * sizeof(WCHAR), ID_TAG);
	if (id == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	for (size_t i = 0; i < length; i++)
		id[i] = (UCHAR)text[i];
	*answer = (ULONG_PTR)id;
	return STATUS_SUCCESS;
}

/*
 * ---- requests
 * ----------------------------------------------------------------------------------------------------
 */

static NTSTATUS
bus_pnp(PDEVICE_OBJECT object, PIRP irp)
{
	const struct interface_device *device = object->DeviceExtension;
	const IO_STACK_LOCATION *location = IoGetCurrentIrpStackLocation(irp);
	NTSTATUS status = irp->IoStatus.Status;

	switch (location->MinorFunction) {
	case IRP_MN_START_DEVICE:
	case IRP_MN_STOP_DEVICE:
	case IRP_MN_QUERY_STOP_DEVICE:
	case IRP_MN_CANCEL_STOP_DEVICE:
	case IRP_MN_QUERY_REMOVE_DEVICE:
	case IRP_MN_CANCEL_REMOVE_DEVICE:
	case IRP_MN_SURPRISE_REMOVAL:
	case IRP_MN_REMOVE_DEVICE:
		status = STATUS_SUCCESS;
		break;
	case IRP_MN_QUERY_INTERFACE:
		status = query_interface(device, location, status);
		break;
	case IRP_MN_QUERY_ID:
		if (device->kind == DEVICE_PDO)
			status = query_id((const void *)device, location->Parameters.QueryId.IdType, status,
			                  &irp->IoStatus.Information);
		break;
	default:
		break;
	}
	irp->IoStatus.Status = status;
	IoCompleteRequest(irp, IO_NO_INCREMENT);
	return status;
}

static NTSTATUS
bus_accept(PDEVICE_OBJECT object, PIRP irp)
{
	UNREFERENCED_PARAMETER(object);
	irp->IoStatus.Status = STATUS_SUCCESS;
	irp->IoStatus.Information = 0;
	IoCompleteRequest(irp, IO_NO_INCREMENT);
	return STATUS_SUCCESS;
}

static bool
make_interface_device(PDRIVER_OBJECT driver, const WCHAR *name, enum device_kind kind)
{
	struct interface_device *device;
	PDEVICE_OBJECT object;
	UNICODE_STRING text;

	RtlInitUnicodeString(&text, name);
	if (IoCreateDevice(driver, sizeof(*device), &text, FILE_DEVICE_VMBUS, 0, FALSE, &object) !=
	    STATUS_SUCCESS)
		return false;
	device = object->DeviceExtension;
	device->kind = kind;
	object->Flags &= ~(ULONG)DO_DEVICE_INITIALIZING;
	return true;
}

static PDRIVER_OBJECT
make_bus_driver(void)
{
	PDRIVER_OBJECT driver = nt_driver_create("vmbus");

	if (driver == NULL)
		return NULL;
	driver->MajorFunction[IRP_MJ_PNP] = bus_pnp;
	driver->MajorFunction[IRP_MJ_CREATE] = bus_accept;
	driver->MajorFunction[IRP_MJ_CLEANUP] = bus_accept;
	driver->MajorFunction[IRP_MJ_CLOSE] = bus_accept;
	driver->MajorFunction[IRP_MJ_POWER] = bus_accept;
	if (make_interface_device(driver, u"\\Device\\VMBus\\kmcl_interface", DEVICE_CLIENT_INTERFACE) &&
	    make_interface_device(driver, u"\\Device\\RootVMBus\\kmcl_interface", DEVICE_SERVER_INTERFACE))
		return driver;
	while (driver->DeviceObject != NULL)
		IoDeleteDevice(driver->DeviceObject);
	(void)nt_driver_destroy(driver);
	return NULL;
}

PDRIVER_OBJECT
kmcl_pdo_load(void)
{
	PDRIVER_OBJECT driver;

	pthread_mutex_lock(&bus_driver_lock);
	if (bus_driver == NULL)
		bus_driver = make_bus_driver();
	driver = bus_driver;
	pthread_mutex_unlock(&bus_driver_lock);
	return driver;
}

/*
 * ---- devices
 * ------------------------------------------------------------------------------------------------------
 */

PDEVICE_OBJECT
kmcl_bus_device(struct kmcl_bus *bus, const GUID *type, const GUID *instance)
{
	static _Atomic uint32_t numbers;
	struct kmcl_device *device;
	PDRIVER_OBJECT driver = kmcl_pdo_load();
	PDEVICE_OBJECT object;
	char path[128];

	if (driver == NULL ||
	    IoCreateDevice(driver, sizeof(*device), NULL, FILE_DEVICE_VMBUS,
	                   FILE_AUTOGENERATED_DEVICE_NAME, FALSE, &object) != STATUS_SUCCESS)
		return NULL;
	device = object->DeviceExtension;
	device->kind = DEVICE_PDO;
	device->object = object;
	device->bus = bus;
	device->number = atomic_fetch_add(&numbers, 1);
	device->has_type = type != NULL;
	device->has_instance = instance != NULL;
	if (type != NULL)
		device->type = *type;
	if (instance != NULL)
		device->instance = *instance;
	put_path(device, '#', true, path, sizeof(path));
	if (!nt_device_set_instance_path(object, path)) {
		IoDeleteDevice(object);
		return NULL;
	}
	object->Flags |= DO_BUS_ENUMERATED_DEVICE;
	__atomic_fetch_and(&object->Flags, ~(ULONG)DO_DEVICE_INITIALIZING, __ATOMIC_RELEASE);
	pthread_mutex_lock(&bus->lock);
	device->next = bus->devices;
	bus->devices = device;
	pthread_mutex_unlock(&bus->lock);
	return object;
}

PDEVICE_OBJECT
kmcl_bus_child(struct kmcl_bus *bus, const GUID *type, const GUID *instance)
{
	static pthread_mutex_t children_lock = PTHREAD_MUTEX_INITIALIZER;
	PDEVICE_OBJECT child = NULL;

	/* Two who ask at a time get the same one. */
	pthread_mutex_lock(&children_lock);
	pthread_mutex_lock(&bus->lock);
	for (struct kmcl_device *device = bus->devices; device != NULL; device = device->next) {
		if (device->has_type && device->has_instance && IsEqualGUID(&device->type, type) &&
		    IsEqualGUID(&device->instance, instance))
			child = device->object;
	}
	pthread_mutex_unlock(&bus->lock);
	if (child == NULL)
		child = kmcl_bus_device(bus, type, instance);
	pthread_mutex_unlock(&children_lock);
	return child;
}

void
kmcl_bus_device_delete(PDEVICE_OBJECT object)
{
	struct kmcl_device *device = object->DeviceExtension, **at;
	struct kmcl_bus *bus = device->bus;

	pthread_mutex_lock(&bus->lock);
	for (at = &bus->devices; *at != device; at = &(*at)->next)
		continue;
	*at = device->next;
	pthread_mutex_unlock(&bus->lock);
	IoDeleteDevice(object);
}

struct kmcl_device *
kmcl_device_from_object(PDEVICE_OBJECT object)
{
	PDEVICE_OBJECT bottom = nt_device_bottom(object);

	return bottom != NULL && bottom->DriverObject == kmcl_pdo_load() &&
	                       ((struct interface_device *)bottom->DeviceExtension)->kind == DEVICE_PDO ?
	               bottom->DeviceExtension :
	               NULL;
}
