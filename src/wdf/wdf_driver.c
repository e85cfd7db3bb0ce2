/* SPDX-License-Identifier: MIT */
/* The driver object of the framework: between DriverEntry and the WDM driver object. */
#include <stdlib.h>
#include <string.h>

#include "wdf/wdf_device.h"

/* Its address is the id of our extension of the WDM driver object. */
static char extension_id;

struct wdf_driver *
wdf_driver_of(PDRIVER_OBJECT object)
{
	struct wdf_driver **slot = IoGetDriverObjectExtension(object, &extension_id);

	return slot != NULL ? *slot : NULL;
}

static void
driver_destroy(struct wdf_object *object)
{
	free(((struct wdf_driver *)(void *)object)->registry_path.Buffer);
}

static const struct wdf_ops driver_ops = { .type = WDF_TYPE_DRIVER, .destroy = driver_destroy };

/* With everything that belongs to it, control devices too. */
static void
driver_end(PDRIVER_OBJECT object)
{
	struct wdf_driver **slot = IoGetDriverObjectExtension(object, &extension_id);
	struct wdf_driver *driver = slot != NULL ? *slot : NULL;

	if (driver == NULL)
		return;
	*slot = NULL;
	/* The image is still there for the callbacks; what it reads last is its own variable. */
	wdf_object_cleanup(&driver->object);
	driver->globals->Driver = NULL;
	wdf_object_delete(&driver->object);
}

static VOID
driver_unload(PDRIVER_OBJECT object)
{
	struct wdf_driver *driver = wdf_driver_of(object);

	if (driver->config.EvtDriverUnload != NULL)
		driver->config.EvtDriverUnload((WDFDRIVER)(void *)driver);
	driver_end(object);
}

static NTSTATUS
check_config(const WDF_DRIVER_CONFIG *config)
{
	const bool is_pnp = (config->DriverInitFlags & WdfDriverInitNonPnpDriver) == 0;

	if (config->Size != sizeof(*config))
		return STATUS_INFO_LENGTH_MISMATCH;
	if ((config->DriverInitFlags & ~(ULONG)WdfDriverInitNonPnpDriver) != 0 ||
	    is_pnp != (config->EvtDriverDeviceAdd != NULL))
		return STATUS_INVALID_PARAMETER;
	return STATUS_SUCCESS;
}

static void
copy_name(PWDF_DRIVER_GLOBALS globals, PCUNICODE_STRING name)
{
	size_t start = name->Length / sizeof(WCHAR), n = 0;

	while (start != 0 && name->Buffer[start - 1] != '\\')
		start--;
	while (start < name->Length / sizeof(WCHAR) && n < sizeof(globals->DriverName) - 1)
		globals->DriverName[n++] = (CHAR)name->Buffer[start++];
	globals->DriverName[n] = '\0';
}

NTSTATUS
nt_wdf_driver_create(PWDF_DRIVER_GLOBALS globals, PDRIVER_OBJECT DriverObject, PCUNICODE_STRING RegistryPath,
		     PWDF_OBJECT_ATTRIBUTES Attributes, PWDF_DRIVER_CONFIG Config, WDFDRIVER *Driver)
{
	struct wdf_driver *driver, **slot;
	NTSTATUS status;

	if (Driver != NULL)
		*Driver = NULL;
	if (DriverObject == NULL || RegistryPath == NULL || Config == NULL)
		return STATUS_INVALID_PARAMETER;
	status = check_config(Config);
	if (status == STATUS_SUCCESS)
		status = wdf_attributes_check(Attributes, WDF_SCOPE_ALLOWED);
	if (status != STATUS_SUCCESS)
		return status;
	if (globals->Driver != NULL ||
	    IoGetDriverObjectExtension(DriverObject, &extension_id) != NULL) {
		nt_misuse("WdfDriverCreate: called a second time; call it once, in DriverEntry");
		return STATUS_DRIVER_INTERNAL_ERROR;
	}
	driver = wdf_object_new(sizeof(*driver), &driver_ops, NULL, Attributes);
	if (driver == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	driver->registry_path = *RegistryPath;
	driver->registry_path.MaximumLength = (USHORT)(RegistryPath->Length + sizeof(WCHAR));
	driver->registry_path.Buffer = calloc(1, driver->registry_path.MaximumLength);
	if (driver->registry_path.Buffer == NULL ||
	    IoAllocateDriverObjectExtension(DriverObject, &extension_id, sizeof(*slot), (PVOID *)&slot) !=
		    STATUS_SUCCESS) {
		wdf_object_delete(&driver->object);
		return STATUS_INSUFFICIENT_RESOURCES;
	}
	memcpy(driver->registry_path.Buffer, RegistryPath->Buffer, RegistryPath->Length);
	driver->wdm = DriverObject;
	driver->config = *Config;
	driver->globals = globals;
	*slot = driver;
	globals->Driver = (WDFDRIVER)(void *)driver;
	globals->DriverFlags = Config->DriverInitFlags;
	globals->DriverTag = Config->DriverPoolTag;
	copy_name(globals, &DriverObject->DriverName);

	for (unsigned i = 0; i <= IRP_MJ_MAXIMUM_FUNCTION; i++)
		DriverObject->MajorFunction[i] = wdf_dispatch;
	if (Config->EvtDriverDeviceAdd != NULL)
		DriverObject->DriverExtension->AddDevice = wdf_add_device;
	DriverObject->DriverUnload = driver_unload;
	/* A DriverEntry that fails afterwards is not unloaded. */
	nt_driver_on_destroy(DriverObject, driver_end);
	if (Driver != NULL)
		*Driver = globals->Driver;
	return STATUS_SUCCESS;
}

PWSTR
WdfDriverGetRegistryPath(WDFDRIVER Driver)
{
	struct wdf_driver *driver = WDF_HANDLE(driver, DRIVER, Driver);

	return driver != NULL ? driver->registry_path.Buffer : NULL;
}

PDRIVER_OBJECT
WdfDriverWdmGetDriverObject(WDFDRIVER Driver)
{
	struct wdf_driver *driver = WDF_HANDLE(driver, DRIVER, Driver);

	return driver != NULL ? driver->wdm : NULL;
}

WDFDRIVER
WdfWdmDriverGetWdfDriverHandle(PDRIVER_OBJECT DriverObject)
{
	return (WDFDRIVER)(void *)wdf_driver_of(DriverObject);
}

BOOLEAN
WdfDriverIsVersionAvailable(WDFDRIVER Driver, PWDF_DRIVER_VERSION_AVAILABLE_PARAMS Params)
{
	if (WDF_HANDLE(driver, DRIVER, Driver) == NULL || Params == NULL || Params->Size != sizeof(*Params))
		return FALSE;
	return Params->MajorVersion == 1 && Params->MinorVersion <= 33;
}
