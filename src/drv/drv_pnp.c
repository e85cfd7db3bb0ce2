/* SPDX-License-Identifier: MIT */
/*
 * Plug and play for one driver: a device for each offer, and the requests of its life. All on the
 * driver's PnP thread, so a device sees one PnP request at a time, as it does on Windows.
 */
#include <stdlib.h>
#include <string.h>

#include "drv/drv_host.h"

/*
 * ---- telling
 * ---------------------------------------------------------------------------------------------------
 */

static void
tell(struct kmcl_driver *driver, enum kmcl_driver_event_kind kind, const struct drv_device *device,
     NTSTATUS status)
{
	const struct kmcl_driver_event event = {
		.kind = kind,
		.type = device->type,
		.instance = device->instance,
		.status = status,
	};

	if (driver->event != NULL)
		driver->event(driver->event_ctx, &event);
}

static void
count_started(struct kmcl_driver *driver, int change)
{
	pthread_mutex_lock(&driver->lock);
	driver->started = (uint32_t)((int)driver->started + change);
	pthread_mutex_unlock(&driver->lock);
}

/* IoInvalidateDeviceState; any level, so it only wakes the thread. */
static void
state_changed(void *ctx)
{
	struct drv_device *device = ctx;
	struct kmcl_driver *driver = device->driver;

	__atomic_store_n(&device->state_changed, true, __ATOMIC_RELEASE);
	pthread_mutex_lock(&driver->lock);
	driver->wake = true;
	pthread_cond_broadcast(&driver->changed);
	pthread_mutex_unlock(&driver->lock);
}

/*
 * ---- one device
 * ---------------------------------------------------------------------------------------------------
 */

static NTSTATUS
send_pnp(PDEVICE_OBJECT pdo, UCHAR minor, ULONG_PTR *information)
{
	const IO_STACK_LOCATION location = { .MajorFunction = IRP_MJ_PNP, .MinorFunction = minor };

	return nt_irp_send(pdo, &location, STATUS_NOT_SUPPORTED, information);
}

static void
drop_pdo(struct drv_device *device)
{
	nt_device_on_state_change(device->pdo, NULL, NULL);
	kmcl_bus_device_delete(device->pdo);
	device->pdo = NULL;
}

static NTSTATUS
start(struct kmcl_driver *driver, struct drv_device *device)
{
	const PDRIVER_ADD_DEVICE add = driver->object->DriverExtension->AddDevice;
	NTSTATUS status;

	device->pdo = kmcl_bus_device(driver->bus, device->has_offer ? &device->type : NULL,
	                              device->has_offer ? &device->instance : NULL);
	if (device->pdo == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	status = add(driver->object, device->pdo);
	if (!NT_SUCCESS(status)) {
		drop_pdo(device);
		return status;
	}
	nt_device_on_state_change(device->pdo, state_changed, device);
	status = send_pnp(device->pdo, IRP_MN_START_DEVICE, NULL);
	if (NT_SUCCESS(status))
		return STATUS_SUCCESS;
	(void)send_pnp(device->pdo, IRP_MN_REMOVE_DEVICE, NULL);
	drop_pdo(device);
	return status;
}

static void
add_device(struct kmcl_driver *driver, const struct kmcl_offer_info *offer)
{
	struct drv_device *device = calloc(1, sizeof(*device));
	NTSTATUS status;

	if (device == NULL) {
		kmcl_log(KMCL_LOG_WARNING, "no memory for a device");
		return;
	}
	device->driver = driver;
	if (offer != NULL) {
		device->has_offer = true;
		device->channel_id = offer->channel_id;
		device->type = offer->type;
		device->instance = offer->instance;
	}
	status = start(driver, device);
	device->next = driver->devices;
	driver->devices = device;
	if (status == STATUS_SUCCESS)
		count_started(driver, 1);
	tell(driver, status == STATUS_SUCCESS ? KMCL_DRIVER_DEVICE_STARTED : KMCL_DRIVER_DEVICE_FAILED, device,
	     status);
}

/*
 * Files first where that can be: then a removal is orderly. A driver that refuses, or holds
 * requests until its device goes, is taken by surprise.
 */
static void
remove_pdo(struct kmcl_driver *driver, struct drv_device *device, bool surprise)
{
	if (!surprise)
		surprise = !nt_file_quiesce(device->pdo) ||
		           !NT_SUCCESS(send_pnp(device->pdo, IRP_MN_QUERY_REMOVE_DEVICE, NULL));
	if (surprise)
		(void)send_pnp(device->pdo, IRP_MN_SURPRISE_REMOVAL, NULL);
	nt_file_revoke(device->pdo);
	(void)send_pnp(device->pdo, IRP_MN_REMOVE_DEVICE, NULL);
	drop_pdo(device);
	count_started(driver, -1);
	tell(driver, KMCL_DRIVER_DEVICE_REMOVED, device, STATUS_SUCCESS);
}

/*
 * ---- all
 * ------------------------------------------------------------------------------------------------------------
 */

static const struct kmcl_offer_info *
find_offer(const struct kmcl_offer_info *offers, uint32_t count, const struct drv_device *device)
{
	for (uint32_t i = 0; i < count; i++) {
		if (offers[i].channel_id == device->channel_id && IsEqualGUID(&offers[i].type, &device->type) &&
		    IsEqualGUID(&offers[i].instance, &device->instance))
			return &offers[i];
	}
	return NULL;
}

static bool
is_wanted(const struct kmcl_driver *driver, const struct kmcl_offer_info *offer)
{
	if (offer->subchannel_index != 0)
		return false;
	for (uint32_t i = 0; i < driver->type_count; i++) {
		if (IsEqualGUID(&driver->types[i], &offer->type))
			return true;
	}
	return false;
}

/* Devices whose offer is gone, and those that failed. */
static void
remove_stale(struct kmcl_driver *driver, const struct kmcl_offer_info *offers, uint32_t count)
{
	struct drv_device **at = &driver->devices;

	while (*at != NULL) {
		struct drv_device *device = *at;
		ULONG_PTR state = 0;

		if (device->has_offer && find_offer(offers, count, device) == NULL) {
			if (device->pdo != NULL) {
				tell(driver, KMCL_DRIVER_DEVICE_WITHDRAWN, device, STATUS_SUCCESS);
				remove_pdo(driver, device, true);
			}
			*at = device->next;
			free(device);
			continue;
		}
		at = &device->next;
		if (device->pdo == NULL || !__atomic_exchange_n(&device->state_changed, false, __ATOMIC_ACQ_REL))
			continue;
		if (NT_SUCCESS(send_pnp(device->pdo, IRP_MN_QUERY_PNP_DEVICE_STATE, &state)) &&
		    (state & (PNP_DEVICE_FAILED | PNP_DEVICE_REMOVED)) != 0)
			remove_pdo(driver, device, true);
	}
}

static bool
is_listed(const struct kmcl_driver *driver, const struct kmcl_offer_info *offer)
{
	for (const struct drv_device *device = driver->devices; device != NULL; device = device->next) {
		if (find_offer(offer, 1, device) != NULL)
			return true;
	}
	return false;
}

static struct kmcl_offer_info *
list_offers(struct kmcl_bus *bus, uint32_t *count)
{
	struct kmcl_offer_info *offers;
	uint32_t room = kmcl_bus_offers(bus, NULL, 0) + 16;

	for (;;) {
		offers = calloc(room, sizeof(*offers));
		if (offers == NULL)
			return NULL;
		*count = kmcl_bus_offers(bus, offers, room);
		if (*count <= room)
			return offers;
		room = *count + 16;
		free(offers);
	}
}

void
drv_scan(struct kmcl_driver *driver)
{
	struct kmcl_offer_info *offers;
	uint32_t count = 0;

	if (driver->server) {
		if (driver->devices == NULL)
			add_device(driver, NULL);
		remove_stale(driver, NULL, 0);
		return;
	}
	offers = list_offers(driver->bus, &count);
	if (offers == NULL) {
		kmcl_log(KMCL_LOG_WARNING, "no memory for the offers of bus %s", driver->bus->path);
		return;
	}
	remove_stale(driver, offers, count);
	for (uint32_t i = 0; i < count; i++) {
		if (is_wanted(driver, &offers[i]) && !is_listed(driver, &offers[i]))
			add_device(driver, &offers[i]);
	}
	free(offers);
}

void
drv_remove_all(struct kmcl_driver *driver)
{
	while (driver->devices != NULL) {
		struct drv_device *device = driver->devices;

		driver->devices = device->next;
		if (device->pdo != NULL)
			remove_pdo(driver, device, false);
		free(device);
	}
}
