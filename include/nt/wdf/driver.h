/* SPDX-License-Identifier: MIT */
/* The framework driver object. */
#ifndef NT_WDF_DRIVER_H
#define NT_WDF_DRIVER_H

#include "object.h"

NT_EXTERN_C_BEGIN

/*
 * A device was found below which this driver may put itself: configure DeviceInit and call
 * WdfDeviceCreate. A failure status removes the device again. PASSIVE.
 */
typedef NTSTATUS EVT_WDF_DRIVER_DEVICE_ADD(WDFDRIVER Driver, PWDFDEVICE_INIT DeviceInit);
typedef EVT_WDF_DRIVER_DEVICE_ADD *PFN_WDF_DRIVER_DEVICE_ADD;
/* All devices of the bus are gone. PASSIVE. */
typedef VOID EVT_WDF_DRIVER_UNLOAD(WDFDRIVER Driver);
typedef EVT_WDF_DRIVER_UNLOAD *PFN_WDF_DRIVER_UNLOAD;

typedef enum _WDF_DRIVER_INIT_FLAGS {
	WdfDriverInitNonPnpDriver = 0x00000001,         /* no EvtDriverDeviceAdd; control devices only */
	WdfDriverInitNoDispatchOverride = 0x00000002    /* not supported */
} WDF_DRIVER_INIT_FLAGS;

typedef struct _WDF_DRIVER_CONFIG {
	ULONG Size;
	PFN_WDF_DRIVER_DEVICE_ADD EvtDriverDeviceAdd;
	PFN_WDF_DRIVER_UNLOAD EvtDriverUnload;
	ULONG DriverInitFlags;
	ULONG DriverPoolTag;
} WDF_DRIVER_CONFIG, *PWDF_DRIVER_CONFIG;

FORCEINLINE VOID
WDF_DRIVER_CONFIG_INIT(PWDF_DRIVER_CONFIG Config, PFN_WDF_DRIVER_DEVICE_ADD EvtDriverDeviceAdd)
{
	RtlZeroMemory(Config, sizeof(*Config));
	Config->Size = (ULONG)sizeof(*Config);
	Config->EvtDriverDeviceAdd = EvtDriverDeviceAdd;
}

/* Not from Windows: WdfDriverCreate with the image's globals. */
NTKERNELAPI NTSTATUS nt_wdf_driver_create(PWDF_DRIVER_GLOBALS globals, PDRIVER_OBJECT DriverObject,
					  PCUNICODE_STRING RegistryPath,
					  PWDF_OBJECT_ATTRIBUTES Attributes,
					  PWDF_DRIVER_CONFIG Config, WDFDRIVER *Driver);
/*
 * Make this a framework driver; from DriverEntry, once: it takes over the dispatch table, AddDevice
 * and DriverUnload of DriverObject. Driver may be NULL. STATUS_DRIVER_INTERNAL_ERROR: called
 * before; STATUS_INVALID_PARAMETER: a callback is missing or contradicts the flags.
 */
FORCEINLINE NTSTATUS
WdfDriverCreate(PDRIVER_OBJECT DriverObject, PCUNICODE_STRING RegistryPath,
		PWDF_OBJECT_ATTRIBUTES DriverAttributes, PWDF_DRIVER_CONFIG DriverConfig,
		WDFDRIVER *Driver)
{
	return nt_wdf_driver_create(WdfDriverGlobals, DriverObject, RegistryPath, DriverAttributes,
				    DriverConfig, Driver);
}

FORCEINLINE WDFDRIVER
WdfGetDriver(VOID)
{
	return WdfDriverGlobals[0].Driver;
}

/* Valid as long as the driver. */
NTKERNELAPI PWSTR WdfDriverGetRegistryPath(WDFDRIVER Driver);
NTKERNELAPI PDRIVER_OBJECT WdfDriverWdmGetDriverObject(WDFDRIVER Driver);
NTKERNELAPI WDFDRIVER WdfWdmDriverGetWdfDriverHandle(PDRIVER_OBJECT DriverObject);
/* FALSE for anything newer than 1.33. */
typedef struct _WDF_DRIVER_VERSION_AVAILABLE_PARAMS {
	ULONG Size;
	ULONG MajorVersion;
	ULONG MinorVersion;
} WDF_DRIVER_VERSION_AVAILABLE_PARAMS, *PWDF_DRIVER_VERSION_AVAILABLE_PARAMS;
FORCEINLINE VOID
WDF_DRIVER_VERSION_AVAILABLE_PARAMS_INIT(PWDF_DRIVER_VERSION_AVAILABLE_PARAMS Params,
					 ULONG MajorVersion, ULONG MinorVersion)
{
	Params->Size = (ULONG)sizeof(*Params);
	Params->MajorVersion = MajorVersion;
	Params->MinorVersion = MinorVersion;
}
NTKERNELAPI BOOLEAN WdfDriverIsVersionAvailable(WDFDRIVER Driver,
						PWDF_DRIVER_VERSION_AVAILABLE_PARAMS Params);

NT_EXTERN_C_END

#endif
