/* SPDX-License-Identifier: MIT */
/* Devices: what is configured before, creation on a stack or alone, names and interfaces. */
#include "wdf/wdf_device.h"

#include <stdlib.h>
#include <string.h>

#include "wdf/wdf_queue.h"

/* ---- configuration --------------------------------------------------------------------------- */

static bool
copy_string(UNICODE_STRING *to, PCUNICODE_STRING from)
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

void
wdf_init_free(struct WDFDEVICE_INIT *init)
{
	free(init->name.Buffer);
	free(init);
}

static struct WDFDEVICE_INIT *
init_new(struct wdf_driver *driver, PDEVICE_OBJECT pdo)
{
	struct WDFDEVICE_INIT *init = calloc(1, sizeof(*init));

	if (init == NULL)
		return NULL;
	init->driver = driver;
	init->pdo = pdo;
	init->io_type = WdfDeviceIoBuffered;
	init->device_type = FILE_DEVICE_UNKNOWN;
	init->characteristics = FILE_DEVICE_SECURE_OPEN;
	return init;
}

static bool
init_is(const struct WDFDEVICE_INIT *init, const char *function)
{
	if (init != NULL && init->created == NULL)
		return true;
	nt_misuse("%s: the device is made already, or there is none to make; configure it before WdfDeviceCreate", function);
	return false;
}

static bool
size_is(ULONG size, size_t expected, const char *function)
{
	if (size == expected)
		return true;
	nt_misuse("%s: the structure has Size %u, not %zu; was it initialized?", function, size, expected);
	return false;
}

VOID
WdfDeviceInitSetPnpPowerEventCallbacks(PWDFDEVICE_INIT DeviceInit, PWDF_PNPPOWER_EVENT_CALLBACKS Callbacks)
{
	if (init_is(DeviceInit, __func__) && size_is(Callbacks->Size, sizeof(*Callbacks), __func__))
		DeviceInit->pnp = *Callbacks;
}

VOID
WdfDeviceInitSetFileObjectConfig(PWDFDEVICE_INIT DeviceInit, PWDF_FILEOBJECT_CONFIG FileObjectConfig,
				 PWDF_OBJECT_ATTRIBUTES FileObjectAttributes)
{
	if (!init_is(DeviceInit, __func__) ||
	    !size_is(FileObjectConfig->Size, sizeof(*FileObjectConfig), __func__))
		return;
	if (wdf_attributes_check(FileObjectAttributes, WDF_SCOPE_ALLOWED) != STATUS_SUCCESS) {
		nt_misuse("%s: the attributes are not valid; begin with WDF_OBJECT_ATTRIBUTES_INIT", __func__);
		return;
	}
	DeviceInit->files = *FileObjectConfig;
	DeviceInit->has_files = FileObjectConfig->FileObjectClass != WdfFileObjectNotRequired;
	DeviceInit->has_file_attributes = FileObjectAttributes != NULL;
	if (FileObjectAttributes != NULL)
		DeviceInit->file_attributes = *FileObjectAttributes;
}

VOID
WdfDeviceInitSetRequestAttributes(PWDFDEVICE_INIT DeviceInit, PWDF_OBJECT_ATTRIBUTES RequestAttributes)
{
	if (!init_is(DeviceInit, __func__))
		return;
	if (wdf_attributes_check(RequestAttributes, 0) != STATUS_SUCCESS) {
		nt_misuse("%s: the attributes are not valid; begin with WDF_OBJECT_ATTRIBUTES_INIT", __func__);
		return;
	}
	DeviceInit->has_request_attributes = RequestAttributes != NULL;
	if (RequestAttributes != NULL)
		DeviceInit->request_attributes = *RequestAttributes;
}

VOID
WdfDeviceInitSetIoType(PWDFDEVICE_INIT DeviceInit, WDF_DEVICE_IO_TYPE IoType)
{
	if (init_is(DeviceInit, __func__))
		DeviceInit->io_type = IoType;
}

VOID
WdfDeviceInitSetDeviceType(PWDFDEVICE_INIT DeviceInit, DEVICE_TYPE DeviceType)
{
	if (init_is(DeviceInit, __func__))
		DeviceInit->device_type = DeviceType;
}

VOID
WdfDeviceInitSetCharacteristics(PWDFDEVICE_INIT DeviceInit, ULONG DeviceCharacteristics, BOOLEAN OrInValues)
{
	if (init_is(DeviceInit, __func__))
		DeviceInit->characteristics =
			DeviceCharacteristics | (OrInValues ? DeviceInit->characteristics : 0);
}

VOID
WdfDeviceInitSetExclusive(PWDFDEVICE_INIT DeviceInit, BOOLEAN IsExclusive)
{
	if (init_is(DeviceInit, __func__))
		DeviceInit->exclusive = IsExclusive != FALSE;
}

VOID
WdfFdoInitSetFilter(PWDFDEVICE_INIT DeviceInit)
{
	if (init_is(DeviceInit, __func__))
		DeviceInit->filter = true;
}

VOID
WdfDeviceInitSetIoInCallerContextCallback(PWDFDEVICE_INIT DeviceInit,
					  PFN_WDF_IO_IN_CALLER_CONTEXT EvtIoInCallerContext)
{
	if (init_is(DeviceInit, __func__))
		DeviceInit->in_caller_context = EvtIoInCallerContext;
}

VOID
WdfControlDeviceInitSetShutdownNotification(PWDFDEVICE_INIT DeviceInit,
					    PFN_WDF_DEVICE_SHUTDOWN_NOTIFICATION Notification, UCHAR Flags)
{
	UNREFERENCED_PARAMETER(Flags);
	if (init_is(DeviceInit, __func__))
		DeviceInit->shutdown = Notification;
}

NTSTATUS
WdfDeviceInitAssignName(PWDFDEVICE_INIT DeviceInit, PCUNICODE_STRING DeviceName)
{
	UNICODE_STRING copy = { 0 };

	if (!init_is(DeviceInit, __func__))
		return STATUS_INVALID_PARAMETER;
	if (DeviceName != NULL && (DeviceName->Length < sizeof(WCHAR) || DeviceName->Buffer[0] != '\\'))
		return STATUS_OBJECT_NAME_INVALID;
	if (DeviceName != NULL && !copy_string(&copy, DeviceName))
		return STATUS_INSUFFICIENT_RESOURCES;
	free(DeviceInit->name.Buffer);
	DeviceInit->name = copy;
	return STATUS_SUCCESS;
}

/* "D:", perhaps flags, and access control entries in parentheses. */
static bool
is_sddl(PCUNICODE_STRING text)
{
	const size_t length = text->Length / sizeof(WCHAR);
	int depth = 0;

	if (length < 2 || text->Buffer[0] != 'D' || text->Buffer[1] != ':')
		return false;
	for (size_t i = 2; i < length; i++) {
		depth += text->Buffer[i] == '(' ? 1 : text->Buffer[i] == ')' ? -1 : 0;
		if (depth < 0 || depth > 1)
			return false;
	}
	return depth == 0;
}

NTSTATUS
WdfDeviceInitAssignSDDLString(PWDFDEVICE_INIT DeviceInit, PCUNICODE_STRING SDDLString)
{
	if (!init_is(DeviceInit, __func__))
		return STATUS_INVALID_PARAMETER;
	return SDDLString == NULL || is_sddl(SDDLString) ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
}

PDEVICE_OBJECT
WdfFdoInitWdmGetPhysicalDevice(PWDFDEVICE_INIT DeviceInit)
{
	return init_is(DeviceInit, __func__) ? DeviceInit->pdo : NULL;
}

PWDFDEVICE_INIT
WdfControlDeviceInitAllocate(WDFDRIVER Driver, PCUNICODE_STRING SDDLString)
{
	struct wdf_driver *driver = WDF_HANDLE(driver, DRIVER, Driver);

	if (driver == NULL)
		return NULL;
	if (SDDLString == NULL || !is_sddl(SDDLString)) {
		nt_misuse("%s: a security descriptor string is required; pass one such as D:P(A;;GA;;;SY)", __func__);
		return NULL;
	}
	return init_new(driver, NULL);
}

VOID
WdfDeviceInitFree(PWDFDEVICE_INIT DeviceInit)
{
	if (!init_is(DeviceInit, __func__))
		return;
	if (DeviceInit->pdo != NULL)
		nt_misuse("%s: this one is the framework's; return a failure from EvtDriverDeviceAdd instead", __func__);
	else
		wdf_init_free(DeviceInit);
}

/* ---- life ------------------------------------------------------------------------------------ */

static bool
device_may_delete(const struct wdf_object *object)
{
	const struct wdf_device *device = (const struct wdf_device *)(const void *)object;

	return device->config.pdo == NULL || device->adding;
}

/* Nobody gets in any more; who is in leaves. The files of a device on a stack were closed by who removes the stack. */
static void
device_begin(struct wdf_object *object)
{
	struct wdf_device *device = (struct wdf_device *)(void *)object;

	pthread_mutex_lock(&device->lock);
	device->gone = true;
	pthread_mutex_unlock(&device->lock);
	if (device->wdm != NULL && device->lower == NULL)
		nt_file_revoke(device->wdm);
}

static void
device_cleanup(struct wdf_object *object)
{
	struct wdf_device *device = (struct wdf_device *)(void *)object;

	wdf_interfaces_disable(device);
	for (struct wdf_link *link = device->links; link != NULL; link = link->next)
		(void)IoDeleteSymbolicLink(&link->text);
	if (device->wdm == NULL)
		return;
	IoUnregisterShutdownNotification(device->wdm);
	if (device->lower != NULL)
		IoDetachDevice(device->lower);
	IoDeleteDevice(device->wdm);
	device->wdm = NULL;
	device->lower = NULL;
}

static void
device_destroy(struct wdf_object *object)
{
	struct wdf_device *device = (struct wdf_device *)(void *)object;

	while (device->interfaces != NULL) {
		struct wdf_interface *interface = device->interfaces;

		device->interfaces = interface->next;
		RtlFreeUnicodeString(&interface->link);
		free(interface->reference.Buffer);
		free(interface);
	}
	while (device->links != NULL) {
		struct wdf_link *link = device->links;

		device->links = link->next;
		free(link->text.Buffer);
		free(link);
	}
	free(device->config.name.Buffer);
	pthread_mutex_destroy(&device->lock);
	pthread_cond_destroy(&device->changed);
}

static const struct wdf_ops device_ops = {
	.type = WDF_TYPE_DEVICE,
	.may_delete = device_may_delete,
	.begin = device_begin,
	.cleanup = device_cleanup,
	.destroy = device_destroy,
};
static const struct wdf_ops resources_ops = { .type = WDF_TYPE_RESOURCES };

/* The WDM device, on top of the stack if there is one. It takes no requests yet. */
static NTSTATUS
make_wdm(struct wdf_device *device)
{
	const struct WDFDEVICE_INIT *init = &device->config;
	UNICODE_STRING name = init->name;
	ULONG characteristics = init->characteristics;
	PDEVICE_OBJECT wdm;
	NTSTATUS status;

	status = IoCreateDevice(init->driver->wdm, sizeof(struct wdf_device *), name.Buffer != NULL ? &name : NULL,
				init->device_type, characteristics, init->exclusive, &wdm);
	if (status != STATUS_SUCCESS)
		return status;
	*(struct wdf_device **)wdm->DeviceExtension = device;
	if (init->io_type == WdfDeviceIoDirect)
		wdm->Flags |= DO_DIRECT_IO;
	else if (init->io_type != WdfDeviceIoNeither)
		wdm->Flags |= DO_BUFFERED_IO;
	wdm->Flags |= DO_POWER_PAGABLE;
	if (init->pdo != NULL &&
	    IoAttachDeviceToDeviceStackSafe(wdm, init->pdo, &device->lower) != STATUS_SUCCESS) {
		IoDeleteDevice(wdm);
		return STATUS_NO_SUCH_DEVICE;
	}
	if (init->filter) {
		wdm->Flags &= ~(ULONG)(DO_DIRECT_IO | DO_BUFFERED_IO);
		wdm->Flags |= device->lower->Flags & (DO_DIRECT_IO | DO_BUFFERED_IO);
	}
	device->wdm = wdm;
	if (init->shutdown != NULL)
		(void)IoRegisterShutdownNotification(wdm);
	return STATUS_SUCCESS;
}

static void
set_scope(struct wdf_device *device)
{
	struct wdf_object *object = &device->object;

	object->sync = NULL;
	wdf_sync_init(&device->sync, object->level == WdfExecutionLevelPassive);
	if (object->scope == WdfSynchronizationScopeDevice)
		object->sync = &device->sync;
}

NTSTATUS
WdfDeviceCreate(PWDFDEVICE_INIT *DeviceInit, PWDF_OBJECT_ATTRIBUTES DeviceAttributes, WDFDEVICE *Device)
{
	struct WDFDEVICE_INIT *init = DeviceInit != NULL ? *DeviceInit : NULL;
	struct wdf_device *device;
	NTSTATUS status = wdf_attributes_check(DeviceAttributes, WDF_SCOPE_ALLOWED);

	if (Device != NULL)
		*Device = NULL;
	if (!init_is(init, __func__) || Device == NULL)
		return STATUS_INVALID_PARAMETER;
	if (status != STATUS_SUCCESS)
		return status;
	device = wdf_object_new(sizeof(*device), &device_ops, &init->driver->object, DeviceAttributes);
	if (device == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	pthread_mutex_init(&device->lock, NULL);
	pthread_cond_init(&device->changed, NULL);
	InitializeListHead(&device->queues);
	InitializeListHead(&device->files);
	set_scope(device);
	device->config = *init;
	device->adding = init->pdo != NULL;
	status = make_wdm(device);
	if (status != STATUS_SUCCESS) {
		device->config.name.Buffer = NULL; /* stays with the init */
		goto remove;
	}
	device->resources = wdf_object_new(sizeof(struct wdf_object), &resources_ops, &device->object, NULL);
	device->target = init->pdo != NULL ? wdf_target_new_default(device) : NULL;
	if (device->resources == NULL || (init->pdo != NULL && device->target == NULL)) {
		device->config.name.Buffer = NULL;
		status = STATUS_INSUFFICIENT_RESOURCES;
		goto remove;
	}
	init->name.Buffer = NULL;
	init->created = (WDFDEVICE)(void *)device;
	/* wdf_add_device still needs its own; a control device's has done its work. */
	if (init->pdo == NULL) {
		wdf_init_free(init);
		device->in_d0 = true;
	}
	*DeviceInit = NULL;
	*Device = (WDFDEVICE)(void *)device;
	return STATUS_SUCCESS;

remove:
	wdf_object_delete(&device->object);
	return status;
}

NTSTATUS
wdf_add_device(PDRIVER_OBJECT object, PDEVICE_OBJECT pdo)
{
	struct wdf_driver *driver = wdf_driver_of(object);
	struct WDFDEVICE_INIT *init = init_new(driver, pdo);
	struct wdf_device *device;
	NTSTATUS status;

	if (init == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	status = driver->config.EvtDriverDeviceAdd((WDFDRIVER)(void *)driver, init);
	device = (struct wdf_device *)(void *)init->created;
	wdf_init_free(init);
	if (device == NULL)
		return status;
	device->adding = false;
	if (!NT_SUCCESS(status)) {
		wdf_object_delete(&device->object);
		return status;
	}
	__atomic_fetch_and(&device->wdm->Flags, ~(ULONG)DO_DEVICE_INITIALIZING, __ATOMIC_RELEASE);
	return STATUS_SUCCESS;
}

VOID
WdfControlFinishInitializing(WDFDEVICE Device)
{
	struct wdf_device *device = WDF_HANDLE(device, DEVICE, Device);

	if (device == NULL)
		return;
	if (device->config.pdo != NULL)
		nt_misuse("WdfControlFinishInitializing: %p is no control device; a function device needs no such call", (void *)Device);
	else
		__atomic_fetch_and(&device->wdm->Flags, ~(ULONG)DO_DEVICE_INITIALIZING, __ATOMIC_RELEASE);
}

/* ---- names and interfaces -------------------------------------------------------------------- */

NTSTATUS
WdfDeviceCreateSymbolicLink(WDFDEVICE Device, PCUNICODE_STRING SymbolicLinkName)
{
	struct wdf_device *device = WDF_HANDLE(device, DEVICE, Device);
	struct wdf_link *link;
	NTSTATUS status;

	if (device == NULL)
		return STATUS_INVALID_HANDLE;
	if (SymbolicLinkName == NULL)
		return STATUS_INVALID_PARAMETER;
	if (device->config.name.Buffer == NULL)
		return STATUS_INVALID_DEVICE_REQUEST;
	link = calloc(1, sizeof(*link));
	if (link == NULL || !copy_string(&link->text, SymbolicLinkName)) {
		free(link);
		return STATUS_INSUFFICIENT_RESOURCES;
	}
	status = IoCreateSymbolicLink(&link->text, &device->config.name);
	if (status != STATUS_SUCCESS) {
		free(link->text.Buffer);
		free(link);
		return status;
	}
	link->next = device->links;
	device->links = link;
	return STATUS_SUCCESS;
}

static struct wdf_interface *
find_interface(struct wdf_device *device, const GUID *class_guid, PCUNICODE_STRING reference)
{
	static const UNICODE_STRING none;
	struct wdf_interface *interface = device->interfaces;

	if (reference == NULL)
		reference = &none;
	while (interface != NULL && (!IsEqualGUID(&interface->class_guid, class_guid) ||
				     !RtlEqualUnicodeString(&interface->reference, reference, TRUE)))
		interface = interface->next;
	return interface;
}

NTSTATUS
WdfDeviceCreateDeviceInterface(WDFDEVICE Device, const GUID *InterfaceClassGUID, PCUNICODE_STRING ReferenceString)
{
	static const UNICODE_STRING none;
	struct wdf_device *device = WDF_HANDLE(device, DEVICE, Device);
	struct wdf_interface *interface;
	NTSTATUS status;

	if (device == NULL)
		return STATUS_INVALID_HANDLE;
	if (InterfaceClassGUID == NULL)
		return STATUS_INVALID_PARAMETER;
	if (device->config.pdo == NULL)
		return STATUS_INVALID_DEVICE_REQUEST;
	if (find_interface(device, InterfaceClassGUID, ReferenceString) != NULL)
		return STATUS_SUCCESS;
	interface = calloc(1, sizeof(*interface));
	if (interface == NULL ||
	    !copy_string(&interface->reference, ReferenceString != NULL ? ReferenceString : &none)) {
		free(interface);
		return STATUS_INSUFFICIENT_RESOURCES;
	}
	interface->class_guid = *InterfaceClassGUID;
	status = IoRegisterDeviceInterface(device->config.pdo, InterfaceClassGUID, &interface->reference,
					   &interface->link);
	if (!NT_SUCCESS(status)) {
		free(interface->reference.Buffer);
		free(interface);
		return status;
	}
	interface->next = device->interfaces;
	device->interfaces = interface;
	if (device->started)
		(void)IoSetDeviceInterfaceState(&interface->link, TRUE);
	return STATUS_SUCCESS;
}

VOID
WdfDeviceSetDeviceInterfaceState(WDFDEVICE Device, const GUID *InterfaceClassGUID,
				 PCUNICODE_STRING ReferenceString, BOOLEAN IsInterfaceEnabled)
{
	struct wdf_device *device = WDF_HANDLE(device, DEVICE, Device);
	struct wdf_interface *interface;

	if (device == NULL)
		return;
	interface = find_interface(device, InterfaceClassGUID, ReferenceString);
	if (interface == NULL) {
		nt_misuse("%s: device %p has no such interface; make it with WdfDeviceCreateDeviceInterface", __func__, (void *)Device);
		return;
	}
	interface->disabled = !IsInterfaceEnabled;
	if (device->started)
		(void)IoSetDeviceInterfaceState(&interface->link, IsInterfaceEnabled);
}

NTSTATUS
wdf_interfaces_enable(struct wdf_device *device)
{
	NTSTATUS status = STATUS_SUCCESS;

	for (struct wdf_interface *i = device->interfaces; i != NULL && NT_SUCCESS(status); i = i->next) {
		if (!i->disabled)
			status = IoSetDeviceInterfaceState(&i->link, TRUE);
	}
	return status;
}

void
wdf_interfaces_disable(struct wdf_device *device)
{
	for (struct wdf_interface *i = device->interfaces; i != NULL; i = i->next)
		(void)IoSetDeviceInterfaceState(&i->link, FALSE);
}

/* ---- relations ------------------------------------------------------------------------------- */

WDFDRIVER
WdfDeviceGetDriver(WDFDEVICE Device)
{
	struct wdf_device *device = WDF_HANDLE(device, DEVICE, Device);

	return device != NULL ? (WDFDRIVER)(void *)device->config.driver : NULL;
}

PDEVICE_OBJECT
WdfDeviceWdmGetDeviceObject(WDFDEVICE Device)
{
	struct wdf_device *device = WDF_HANDLE(device, DEVICE, Device);

	return device != NULL ? device->wdm : NULL;
}

PDEVICE_OBJECT
WdfDeviceWdmGetAttachedDevice(WDFDEVICE Device)
{
	struct wdf_device *device = WDF_HANDLE(device, DEVICE, Device);

	return device != NULL ? device->lower : NULL;
}

PDEVICE_OBJECT
WdfDeviceWdmGetPhysicalDevice(WDFDEVICE Device)
{
	struct wdf_device *device = WDF_HANDLE(device, DEVICE, Device);

	return device != NULL ? device->config.pdo : NULL;
}

WDFDEVICE
WdfWdmDeviceGetWdfDeviceHandle(PDEVICE_OBJECT DeviceObject)
{
	if (DeviceObject == NULL || wdf_driver_of(DeviceObject->DriverObject) == NULL)
		return NULL;
	return (WDFDEVICE)(void *)wdf_device_of(DeviceObject);
}

WDFIOTARGET
WdfDeviceGetIoTarget(WDFDEVICE Device)
{
	struct wdf_device *device = WDF_HANDLE(device, DEVICE, Device);

	return device != NULL ? (WDFIOTARGET)(void *)device->target : NULL;
}

WDFQUEUE
WdfDeviceGetDefaultQueue(WDFDEVICE Device)
{
	struct wdf_device *device = WDF_HANDLE(device, DEVICE, Device);

	return device != NULL ? (WDFQUEUE)(void *)device->default_queue : NULL;
}

VOID
WdfDeviceSetFailed(WDFDEVICE Device, WDF_DEVICE_FAILED_ACTION FailedAction)
{
	struct wdf_device *device = WDF_HANDLE(device, DEVICE, Device);

	UNREFERENCED_PARAMETER(FailedAction);
	if (device == NULL || device->config.pdo == NULL)
		return;
	__atomic_store_n(&device->failed, true, __ATOMIC_RELAXED);
	IoInvalidateDeviceState(device->config.pdo);
}

ULONG
WdfCmResourceListGetCount(WDFCMRESLIST List)
{
	(void)wdf_check(List, WDF_TYPE_RESOURCES, __func__);
	return 0;
}

NTSTATUS
WdfFdoQueryForInterface(WDFDEVICE Fdo, LPCGUID InterfaceType, PINTERFACE Interface, USHORT Size, USHORT Version,
			PVOID InterfaceSpecificData)
{
	struct wdf_device *device = WDF_HANDLE(device, DEVICE, Fdo);

	if (device == NULL)
		return STATUS_INVALID_HANDLE;
	if (device->lower == NULL)
		return STATUS_INVALID_DEVICE_REQUEST;
	return wdf_query_interface(device->lower, InterfaceType, Interface, Size, Version, InterfaceSpecificData);
}
