/* SPDX-License-Identifier: MIT */
/* Loading a driver, its PnP thread, and unloading it again. */
#include "drv/drv_host.h"

#include <dlfcn.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nt/nt_dbg.h"
#include "nt/nt_os_thread.h"
#include "nt/nt_pool.h"
#include "nt/nt_work.h"

/* For work items that a driver queued and did not wait for. */
#define WORK_WAIT_MS 2000u

/*
 * ---- the PnP thread
 * --------------------------------------------------------------------------------------------
 */

static void
wake(struct kmcl_driver *driver)
{
	pthread_mutex_lock(&driver->lock);
	driver->wake = true;
	pthread_cond_broadcast(&driver->changed);
	pthread_mutex_unlock(&driver->lock);
}

static void
offers_changed(void *ctx)
{
	wake(ctx);
}

static void
end(struct kmcl_driver *driver)
{
	const struct kmcl_driver_event event = { .kind = KMCL_DRIVER_UNLOADED };
	PDEVICE_OBJECT device;

	nt_driver_shutdown(driver->object);
	drv_remove_all(driver);
	/* What is left are devices that stand alone; nobody may be in them when the driver deletes them. */
	for (unsigned n = 0; (device = nt_driver_device(driver->object, n)) != NULL; n++) {
		nt_file_revoke(device);
		ObDereferenceObject(device);
	}
	if (driver->object->DriverUnload != NULL)
		driver->object->DriverUnload(driver->object);
	if (driver->event != NULL)
		driver->event(driver->event_ctx, &event);
}

static void *
pnp_thread(void *ctx)
{
	struct kmcl_driver *driver = ctx;
	bool stop;

	do {
		pthread_mutex_lock(&driver->lock);
		while (!driver->wake && !driver->stop)
			pthread_cond_wait(&driver->changed, &driver->lock);
		driver->wake = false;
		stop = driver->stop;
		pthread_mutex_unlock(&driver->lock);
		if (stop)
			break;
		if (driver->object->DriverExtension->AddDevice != NULL)
			drv_scan(driver);
		pthread_mutex_lock(&driver->lock);
		driver->scanned = true;
		pthread_cond_broadcast(&driver->changed);
		pthread_mutex_unlock(&driver->lock);
	} while (true);
	end(driver);
	return NULL;
}

static bool
start_thread(struct kmcl_driver *driver)
{
	sigset_t all, old;
	int error;

	nt_os_thread_blocked(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&driver->thread, NULL, pnp_thread, driver);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error != 0)
		return false;
	pthread_setname_np(driver->thread, "kmcl-pnp");
	pthread_mutex_lock(&driver->lock);
	while (!driver->scanned)
		pthread_cond_wait(&driver->changed, &driver->lock);
	pthread_mutex_unlock(&driver->lock);
	return true;
}

/*
 * ---- loading
 * -----------------------------------------------------------------------------------------------------
 */

static enum vmb_status
fail(char *reason, enum vmb_status status, const char *format, ...) __attribute__((format(printf, 3, 4)));

static enum vmb_status
fail(char *reason, enum vmb_status status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	if (reason != NULL)
		vsnprintf(reason, KMCL_REASON_BYTES, format, args);
	va_end(args);
	return status;
}

static enum vmb_status
choose_bus(struct kmcl_driver *driver, const struct kmcl_driver_options *options, char *reason)
{
	struct kmcl_bus *bus = options->bus;
	enum vmb_status status = VMB_OK;

	driver->server = options->server;
	if (bus == NULL && options->server) {
		driver->bus = kmcl_loopback_host();
		return driver->bus != NULL ? VMB_OK : fail(reason, VMB_E_NO_MEMORY, "no loopback bus");
	}
	if (bus == NULL)
		status = kmcl_bus_loopback(&bus);
	if (status != VMB_OK)
		return fail(reason, status, "no loopback bus: %s", vmb_status_name(status));
	if (bus->kind != (options->server ? KMCL_BUS_HOST : KMCL_BUS_GUEST))
		return fail(reason, VMB_E_INVALID, "a %s driver needs the bus of a %s",
		            options->server ? "server" : "client", options->server ? "host" : "guest");
	kmcl_bus_ref(bus);
	driver->bus = bus;
	return VMB_OK;
}

/* "driver.so" is installed by "driver.inf". */
static char *
inf_beside(const char *path)
{
	const size_t length = strlen(path);
	const size_t stem = length > 3 && strcmp(path + length - 3, ".so") == 0 ? length - 3 : length;
	char *inf = malloc(stem + 5);

	if (inf != NULL) {
		memcpy(inf, path, stem);
		memcpy(inf + stem, ".inf", 5);
	}
	return inf;
}

static enum vmb_status
choose_types(struct kmcl_driver *driver, const char *path, const struct kmcl_driver_options *options, char *reason)
{
	enum vmb_status status;
	char *inf;

	if (driver->server)
		return VMB_OK;
	if (options->type_count > DRV_TYPES_MAX)
		return fail(reason, VMB_E_INVALID, "more than %u device types", DRV_TYPES_MAX);
	if (options->type_count != 0) {
		memcpy(driver->types, options->types, options->type_count * sizeof(GUID));
		driver->type_count = options->type_count;
		return VMB_OK;
	}
	inf = options->inf_path != NULL ? strdup(options->inf_path) : inf_beside(path);
	if (inf == NULL)
		return fail(reason, VMB_E_NO_MEMORY, "no memory");
	status = drv_inf_types(inf, driver->types, &driver->type_count);
	if (status == VMB_E_NOT_FOUND && options->inf_path == NULL)
		status = fail(reason, VMB_E_MALFORMED,
		              "which device types it is for is not known: no type was given, and there is no %s", inf);
	else if (status == VMB_E_MALFORMED)
		status = fail(reason, status, "%s has no hardware id VMBUS\\{type}", inf);
	else if (status != VMB_OK)
		status = fail(reason, status, "cannot read %s: %s", inf, vmb_status_name(status));
	free(inf);
	return status;
}

/* "name" of "/path/name.so". */
static void
service_name(const char *path, char name[64])
{
	const char *base = strrchr(path, '/');
	char *dot;

	snprintf(name, 64, "%s", base != NULL ? base + 1 : path);
	dot = strrchr(name, '.');
	if (dot != NULL && dot != name)
		*dot = '\0';
}

static bool
set_registry_path(struct kmcl_driver *driver, const char *name, PUNICODE_STRING text)
{
	char path[160];
	size_t length;

	snprintf(path, sizeof(path), "\\Registry\\Machine\\System\\CurrentControlSet\\Services\\%s", name);
	length = strlen(path);
	driver->registry_path = calloc(length + 1, sizeof(WCHAR));
	if (driver->registry_path == NULL)
		return false;
	for (size_t i = 0; i < length; i++)
		driver->registry_path[i] = (UCHAR)path[i];
	RtlInitUnicodeString(text, driver->registry_path);
	return true;
}

static enum vmb_status
load_image(struct kmcl_driver *driver, const char *path, char *reason)
{
	char *full;

	if (access(path, F_OK) != 0)
		return fail(reason, VMB_E_NOT_FOUND, "%s: no such file", path);
	/* With a slash, so that it is not looked for where libraries are. */
	full = realpath(path, NULL);
	if (full == NULL)
		return fail(reason, VMB_E_NOT_FOUND, "%s: cannot be resolved", path);
	driver->image = dlopen(full, RTLD_NOW | RTLD_LOCAL);
	free(full);
	if (driver->image == NULL) {
		const char *error = dlerror();

		return fail(reason, strstr(error, "undefined symbol") != NULL ? VMB_E_UNSUPPORTED : VMB_E_INVALID,
		            "%s", error);
	}
	return VMB_OK;
}

static enum vmb_status
call_entry(struct kmcl_driver *driver, const char *path, char *reason)
{
	PDRIVER_INITIALIZE entry;
	UNICODE_STRING registry;
	char name[64];
	NTSTATUS status;
	void *symbol = dlsym(driver->image, "DriverEntry");

	if (symbol == NULL)
		return fail(reason, VMB_E_INVALID,
		            "%s has no function DriverEntry (in C++ it must be extern \"C\")", path);
	memcpy(&entry, &symbol, sizeof(entry));
	service_name(path, name);
	driver->object = nt_driver_create(name);
	if (driver->object == NULL || !set_registry_path(driver, name, &registry))
		return fail(reason, VMB_E_NO_MEMORY, "no memory");
	driver->object->DriverInit = entry;
	driver->object->DriverSection = driver->image;
	status = entry(driver->object, &registry);
	if (!NT_SUCCESS(status))
		return fail(reason, VMB_E_STATE, "DriverEntry failed with 0x%08x", (unsigned)status);
	nt_driver_ready(driver->object);
	if (driver->server && driver->object->DriverExtension->AddDevice == NULL)
		kmcl_log(KMCL_LOG_INFO, "%s has no AddDevice: it gets no device", path);
	return VMB_OK;
}

/* Drivers of this process: loaded ever, and now. Guarded by `loads_lock`. */
static pthread_mutex_t loads_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t loads, loaded;

static void
count_load(struct kmcl_driver *driver)
{
	pthread_mutex_lock(&loads_lock);
	driver->alone = loaded++ == 0;
	driver->load_number = ++loads;
	pthread_mutex_unlock(&loads_lock);
}

static void
count_unload(struct kmcl_driver *driver)
{
	pthread_mutex_lock(&loads_lock);
	driver->alone = driver->alone && loads == driver->load_number;
	loaded--;
	pthread_mutex_unlock(&loads_lock);
}

/* How much there is now that was not there before the driver. */
static uint64_t
report(struct kmcl_driver *driver, unsigned devices_left)
{
	struct nt_io_counts now;
	const size_t blocks = nt_pool_live_blocks();
	uint64_t left = devices_left;

	if (!driver->alone)
		return left;
	nt_io_get_counts(&now);
	if (now.irps > driver->before.irps) {
		nt_dbg_printf("kmcl: the driver left %llu requests\n",
		              (unsigned long long)(now.irps - driver->before.irps));
		left += now.irps - driver->before.irps;
	}
	if (now.files > driver->before.files) {
		nt_dbg_printf("kmcl: the driver left %llu files open\n",
		              (unsigned long long)(now.files - driver->before.files));
		left += now.files - driver->before.files;
	}
	if (blocks > driver->blocks_before) {
		nt_dbg_printf("kmcl: the driver left %zu blocks of pool memory\n", blocks - driver->blocks_before);
		left += blocks - driver->blocks_before;
		(void)nt_pool_report_leaks(stderr);
	}
	return left;
}

static uint64_t
destroy(struct kmcl_driver *driver)
{
	const bool idle = nt_work_await_idle(WORK_WAIT_MS);
	unsigned devices_left = 0;
	uint64_t left;

	if (driver->object != NULL)
		devices_left = nt_driver_destroy(driver->object);
	count_unload(driver);
	left = report(driver, devices_left);
	/* Code that something may still call stays. */
	if (driver->image != NULL && left == 0 && idle)
		(void)dlclose(driver->image);
	if (driver->bus != NULL)
		kmcl_bus_unref(driver->bus);
	pthread_mutex_destroy(&driver->lock);
	pthread_cond_destroy(&driver->changed);
	free(driver->registry_path);
	free(driver);
	return left;
}

enum vmb_status
kmcl_driver_load(const char *path, const struct kmcl_driver_options *given, struct kmcl_driver **out, char *reason)
{
	struct kmcl_driver_options options = { .size = sizeof(options) };
	struct kmcl_driver *driver = calloc(1, sizeof(*driver));
	enum vmb_status status;

	*out = NULL;
	if (reason != NULL)
		*reason = '\0';
	if (driver == NULL)
		return fail(reason, VMB_E_NO_MEMORY, "no memory");
	if (given != NULL)
		memcpy(&options, given, min(sizeof(options), (size_t)given->size));
	driver->event = options.event;
	driver->event_ctx = options.ctx;
	pthread_mutex_init(&driver->lock, NULL);
	pthread_cond_init(&driver->changed, NULL);
	driver->watch = (struct kmcl_offer_watch){ .changed = offers_changed, .ctx = driver };
	/* The thread's first look. */
	driver->wake = true;
	(void)kmcl_pdo_load();
	count_load(driver);
	nt_io_get_counts(&driver->before);
	driver->blocks_before = nt_pool_live_blocks();
	status = choose_bus(driver, &options, reason);
	if (status == VMB_OK)
		status = load_image(driver, path, reason);
	if (status == VMB_OK)
		status = choose_types(driver, path, &options, reason);
	if (status == VMB_OK)
		status = call_entry(driver, path, reason);
	if (status == VMB_OK && !driver->server)
		kmcl_guest_watch(driver->bus, &driver->watch);
	if (status == VMB_OK && !start_thread(driver)) {
		if (!driver->server)
			kmcl_guest_unwatch(driver->bus, &driver->watch);
		end(driver);
		status = fail(reason, VMB_E_NO_MEMORY, "no thread");
	}
	if (status != VMB_OK) {
		(void)destroy(driver);
		return status;
	}
	*out = driver;
	return VMB_OK;
}

uint64_t
kmcl_driver_unload(struct kmcl_driver *driver)
{
	if (!driver->server)
		kmcl_guest_unwatch(driver->bus, &driver->watch);
	pthread_mutex_lock(&driver->lock);
	driver->stop = true;
	pthread_cond_broadcast(&driver->changed);
	pthread_mutex_unlock(&driver->lock);
	pthread_join(driver->thread, NULL);
	return destroy(driver);
}

uint32_t
kmcl_driver_devices(struct kmcl_driver *driver)
{
	uint32_t started;

	pthread_mutex_lock(&driver->lock);
	started = driver->started;
	pthread_mutex_unlock(&driver->lock);
	return started;
}
