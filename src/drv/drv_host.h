/* SPDX-License-Identifier: MIT */
/*
 * A loaded driver: its image, its driver object, its devices, and the thread that does plug and play for it.
 */
#ifndef DRV_HOST_H
#define DRV_HOST_H

#include <pthread.h>

#include "kmcl/kmcl_bus.h"
#include "kmcl/kmcl_pdo.h"
#include "drv/drv_inf.h"
#include "nt/nt_io.h"

/* Of the PnP thread only. */
struct drv_device {
	struct drv_device *next;        /* newest first */
	struct kmcl_driver *driver;
	PDEVICE_OBJECT pdo;             /* NULL: it failed, and is remembered so that it is not tried again */
	uint32_t channel_id;
	GUID type, instance;
	bool has_offer;
	bool state_changed;             /* atomic: IoInvalidateDeviceState */
};

struct kmcl_driver {
	void *image;
	PDRIVER_OBJECT object;
	struct kmcl_bus *bus;           /* referenced */
	bool server;
	GUID types[DRV_TYPES_MAX];
	uint32_t type_count;
	void (*event)(void *ctx, const struct kmcl_driver_event *event);
	void *event_ctx;
	WCHAR *registry_path;
	/*
	 * What there was before it, for the report; says nothing if another driver was loaded at
	 * the same time.
	 */
	bool alone;
	uint64_t load_number;
	struct nt_io_counts before;
	size_t blocks_before;
	struct drv_device *devices;
	struct kmcl_offer_watch watch;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool wake, stop, scanned;       /* lock */
	uint32_t started;               /* lock */
};

/* The PnP thread's work. Bring the devices in line with the offers of the bus. */
void drv_scan(struct kmcl_driver *driver);
/* Remove all devices, the newest first. */
void drv_remove_all(struct kmcl_driver *driver);

#endif
