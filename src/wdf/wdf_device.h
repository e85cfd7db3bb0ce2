/* SPDX-License-Identifier: MIT */
/*
 * Devices, queues and requests as the framework sees them. device->lock guards everything about queues and requests of a device; it is a leaf,
 * except that the cancel routine of an IRP is exchanged under it. No callback runs under it.
 */
#ifndef WDF_DEVICE_H
#define WDF_DEVICE_H

#include "nt/nt_io.h"
#include "wdf/wdf_object.h"

struct wdf_driver {
	struct wdf_object object;
	PDRIVER_OBJECT wdm;
	WDF_DRIVER_CONFIG config;
	PWDF_DRIVER_GLOBALS globals;
	UNICODE_STRING registry_path;
};

/* What is configured before a device exists. */
struct WDFDEVICE_INIT {
	struct wdf_driver *driver;
	PDEVICE_OBJECT pdo;             /* NULL: a control device */
	WDFDEVICE created;
	WDF_PNPPOWER_EVENT_CALLBACKS pnp;
	WDF_FILEOBJECT_CONFIG files;
	WDF_OBJECT_ATTRIBUTES file_attributes, request_attributes;
	bool has_files, has_file_attributes, has_request_attributes;
	WDF_DEVICE_IO_TYPE io_type;
	DEVICE_TYPE device_type;
	ULONG characteristics;
	bool exclusive, filter;
	UNICODE_STRING name;            /* allocated */
	PFN_WDF_IO_IN_CALLER_CONTEXT in_caller_context;
	PFN_WDF_DEVICE_SHUTDOWN_NOTIFICATION shutdown;
};

struct wdf_interface {
	struct wdf_interface *next;
	GUID class_guid;
	UNICODE_STRING reference;       /* allocated */
	UNICODE_STRING link;
	bool disabled;                  /* by the driver */
};

struct wdf_link {
	struct wdf_link *next;
	UNICODE_STRING text;            /* allocated */
};

#define WDF_REQUEST_KINDS (IRP_MJ_INTERNAL_DEVICE_CONTROL + 1)

struct wdf_device {
	struct wdf_object object;
	struct WDFDEVICE_INIT config;   /* as it was at creation */
	PDEVICE_OBJECT wdm, lower;      /* lower NULL: a control device */
	struct wdf_target *target;
	struct wdf_object *resources;
	struct wdf_sync sync;           /* synchronization scope Device */
	struct wdf_interface *interfaces;       /* PASSIVE, by PnP and AddDevice only */
	struct wdf_link *links;
	bool adding;                    /* EvtDriverDeviceAdd has not returned */
	/* PnP thread only. */
	bool started, self_managed;
	bool failed;                    /* atomic */

	pthread_mutex_t lock;
	pthread_cond_t changed;
	LIST_ENTRY queues;              /* struct wdf_queue */
	struct wdf_queue *default_queue;
	struct wdf_queue *by_type[WDF_REQUEST_KINDS];
	LIST_ENTRY files;               /* struct wdf_file */
	uint32_t requests;              /* not completed */
	bool in_d0;
	bool gone;                      /* no request is accepted any more */
};

struct wdf_file {
	struct wdf_object object;
	LIST_ENTRY link;                /* device->files */
	struct wdf_device *device;
	PFILE_OBJECT wdm;
};

struct wdf_target {
	struct wdf_object object;
	struct wdf_device *device;
	bool is_default;
	/* device->lock: */
	PDEVICE_OBJECT wdm;             /* NULL: not open; referenced unless default */
	PFILE_OBJECT file;
	unsigned sent;                  /* users of what wdm was when they began */
};

static inline struct wdf_device *
wdf_device_of(PDEVICE_OBJECT object)
{
	return *(struct wdf_device **)object->DeviceExtension;
}

/* ---- driver, device, PnP --------------------------------------------------------------------- */

struct wdf_driver *wdf_driver_of(PDRIVER_OBJECT object);
void wdf_init_free(struct WDFDEVICE_INIT *init);
NTSTATUS wdf_add_device(PDRIVER_OBJECT object, PDEVICE_OBJECT pdo);
/* Every IRP of a framework device. */
NTSTATUS wdf_dispatch(PDEVICE_OBJECT object, PIRP irp);
NTSTATUS wdf_pnp(struct wdf_device *device, PIRP irp);
NTSTATUS wdf_complete(PIRP irp, NTSTATUS status, ULONG_PTR information);
NTSTATUS wdf_pass_down(struct wdf_device *device, PIRP irp);
/* Detach, delete the framework's and the WDM device. */
void wdf_device_destroy(struct wdf_device *device);
/* Enable those that the driver has not disabled. */
NTSTATUS wdf_interfaces_enable(struct wdf_device *device);
void wdf_interfaces_disable(struct wdf_device *device);

/* ---- files (wdf_file.c) ---------------------------------------------------------------------- */

NTSTATUS wdf_file_create(struct wdf_device *device, PIRP irp);
NTSTATUS wdf_file_cleanup(struct wdf_device *device, PIRP irp);
NTSTATUS wdf_file_close(struct wdf_device *device, PIRP irp);
/* The framework's file of an IRP, or NULL. */
struct wdf_file *wdf_file_of(struct wdf_device *device, PFILE_OBJECT wdm);
/* A create request was completed with this status. */
void wdf_file_created(struct wdf_device *device, PFILE_OBJECT wdm, NTSTATUS status);

/* ---- targets (wdf_target.c) ------------------------------------------------------------------ */

/* The target that leads to the device below. NULL without memory. */
struct wdf_target *wdf_target_new_default(struct wdf_device *device);
/* Where to send to; it stays, and closing the target waits, until wdf_target_end. NULL: not open, nothing to end. */
PDEVICE_OBJECT wdf_target_begin(struct wdf_target *target);
void wdf_target_end(struct wdf_target *target);
NTSTATUS wdf_query_interface(PDEVICE_OBJECT target, LPCGUID type, PINTERFACE interface, USHORT size,
			     USHORT version, PVOID data);

#endif
