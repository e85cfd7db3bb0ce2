/* SPDX-License-Identifier: MIT */
/*
 * What host and guest buses share: life, the control thread and handles.
 */
#include "kmcl/kmcl_bus.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "kmcl/kmcl_loop.h"
#include "kmcl/kmcl_pdo.h"
#include "nt/nt_handle.h"
#include "nt/nt_os_thread.h"
#include "nt/nt_registry.h"

#define DEFAULT_GUESTS 256u

/* ---- life ----------------------------------------------------------------------------------------------- */

static void
set_default_limits(struct kmcl_bus *bus)
{
	struct kmcl_guest_limits *limits = &bus->options.guest_limits;

	if (limits->guests == 0)
		limits->guests = DEFAULT_GUESTS;
	if (limits->channels == 0)
		limits->channels = bus->options.limits.channels;
	bus->default_channels = limits->channels == 0;
	if (bus->default_channels)
		limits->channels = VMB_CHANNEL_ID_MAX;
}

enum vmb_status
kmcl_bus_new(enum kmcl_bus_kind kind, const char *path, const struct kmcl_bus_options *options,
             struct kmcl_bus **out)
{
	struct epoll_event event = { .events = EPOLLIN };
	struct kmcl_bus *bus;
	pthread_condattr_t attr;

	if (strlen(path) >= sizeof(bus->path))
		return VMB_E_INVALID;
	(void)kmcl_pdo_load();
	bus = calloc(1, sizeof(*bus));
	if (bus == NULL)
		return VMB_E_NO_MEMORY;
	bus->signature = KMCL_BUS_SIGNATURE;
	bus->kind = kind;
	atomic_store(&bus->refs, 1);
	strcpy(bus->path, path);
	if (options != NULL)
		memcpy(&bus->options, options, min(sizeof(bus->options), (size_t)options->size));
	set_default_limits(bus);
	InitializeListHead(&bus->guests);
	InitializeListHead(&bus->servers);
	InitializeListHead(&bus->shares);
	InitializeListHead(&bus->inherited);
	InitializeListHead(&bus->found);
	InitializeListHead(&bus->watches);
	pthread_mutex_init(&bus->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&bus->changed, &attr);
	pthread_condattr_destroy(&attr);
	bus->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	bus->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (bus->epoll_fd < 0 || bus->wake_fd < 0 ||
	    epoll_ctl(bus->epoll_fd, EPOLL_CTL_ADD, bus->wake_fd, &event) != 0) {
		kmcl_bus_unref(bus);
		return VMB_E_IO;
	}
	*out = bus;
	return VMB_OK;
}

void
kmcl_bus_ref(struct kmcl_bus *bus)
{
	atomic_fetch_add(&bus->refs, 1);
}

void
kmcl_bus_unref(struct kmcl_bus *bus)
{
	if (atomic_fetch_sub(&bus->refs, 1) != 1)
		return;
	if (bus->kind == KMCL_BUS_HOST)
		kmcl_host_destroy(bus);
	else
		kmcl_guest_destroy(bus);
	while (bus->devices != NULL)
		kmcl_bus_device_delete(bus->devices->object);
	free(bus->loops);
	if (bus->epoll_fd >= 0)
		close(bus->epoll_fd);
	if (bus->wake_fd >= 0)
		close(bus->wake_fd);
	pthread_cond_destroy(&bus->changed);
	pthread_mutex_destroy(&bus->lock);
	bus->signature = 0;
	free(bus);
}

void
kmcl_bus_close(struct kmcl_bus *bus)
{
	if (bus == NULL)
		return;
	if (bus->kind == KMCL_BUS_GUEST)
		kmcl_guest_close(bus);
	pthread_mutex_lock(&bus->lock);
	kmcl_park_wait_for_sending_locked(bus);
	atomic_store(&bus->stop, true);
	pthread_cond_broadcast(&bus->changed); /* a held control thread waits for this too */
	pthread_mutex_unlock(&bus->lock);
	kmcl_bus_wake(bus);
	if (bus->thread_runs)
		pthread_join(bus->thread, NULL);
	bus->thread_runs = false;
	if (bus->kind == KMCL_BUS_HOST)
		kmcl_host_close(bus);
	kmcl_bus_unref(bus);
}

/* ---- the control thread ---------------------------------------------------------------------------------- */

static void *
control_thread(void *ctx)
{
	struct kmcl_bus *bus = ctx;
	struct epoll_event event;

	/* One event at a time: what it does may remove other sources. */
	while (!atomic_load(&bus->stop)) {
		struct kmcl_bus_source *source;
		uint64_t ignored;

		kmcl_park_keep_still(bus);
		/* What waited during a hold that ends so is nobody's any more. */
		if (atomic_load(&bus->stop))
			break;
		if (epoll_wait(bus->epoll_fd, &event, 1, -1) != 1)
			continue;
		source = event.data.ptr;
		if (source != NULL)
			source->ready(bus, source->ctx);
		else
			(void)!read(bus->wake_fd, &ignored, sizeof(ignored));
	}
	return NULL;
}

void
kmcl_bus_wake(struct kmcl_bus *bus)
{
	uint64_t one = 1;

	if (write(bus->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		abort(); /* our own eventfd */
}

enum vmb_status
kmcl_bus_start_thread(struct kmcl_bus *bus, const char *name)
{
	sigset_t all, old;
	int error;

	nt_os_thread_blocked(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&bus->thread, NULL, control_thread, bus);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error != 0)
		return VMB_E_NO_MEMORY;
	bus->thread_runs = true;
	pthread_setname_np(bus->thread, name);
	return VMB_OK;
}

enum vmb_status
kmcl_bus_watch(struct kmcl_bus *bus, struct kmcl_bus_source *source)
{
	struct epoll_event event = { .events = EPOLLIN, .data.ptr = source };

	return epoll_ctl(bus->epoll_fd, EPOLL_CTL_ADD, source->fd, &event) == 0 ? VMB_OK : VMB_E_IO;
}

void
kmcl_bus_unwatch(struct kmcl_bus *bus, struct kmcl_bus_source *source)
{
	(void)epoll_ctl(bus->epoll_fd, EPOLL_CTL_DEL, source->fd, NULL);
}

bool
kmcl_bus_wait_locked(struct kmcl_bus *bus, uint64_t until_ns)
{
	struct timespec until = {
		.tv_sec = (time_t)(until_ns / 1000000000u),
		.tv_nsec = (long)(until_ns % 1000000000u),
	};

	return pthread_cond_timedwait(&bus->changed, &bus->lock, &until) != ETIMEDOUT;
}

/*
 * ---- loops by target processor
 * -------------------------------------------------------------------------------
 */

enum vmb_status
kmcl_bus_set_loops(struct kmcl_bus *bus, struct kmcl_loop *const *loops, uint32_t count)
{
	struct kmcl_loop **copy = NULL, **old;

	for (uint32_t i = 0; i < count; i++) {
		if (loops[i] == NULL)
			return VMB_E_INVALID;
	}
	if (count != 0) {
		copy = calloc(count, sizeof(struct kmcl_loop *));
		if (copy == NULL)
			return VMB_E_NO_MEMORY;
		memcpy(copy, loops, count * sizeof(struct kmcl_loop *));
	}
	pthread_mutex_lock(&bus->lock);
	old = bus->loops;
	bus->loops = copy;
	bus->loop_count = count;
	pthread_mutex_unlock(&bus->lock);
	free(old);
	return VMB_OK;
}

struct kmcl_loop *
kmcl_bus_loop(struct kmcl_bus *bus, uint32_t target_vp)
{
	struct kmcl_loop *loop;

	pthread_mutex_lock(&bus->lock);
	loop = bus->loop_count != 0 ? bus->loops[target_vp % bus->loop_count] : NULL;
	pthread_mutex_unlock(&bus->lock);
	return loop;
}

/*
 * ---- handles
 * --------------------------------------------------------------------------------------------------
 */

HANDLE
kmcl_bus_handle(struct kmcl_bus *bus)
{
	if (bus == NULL || bus->kind != KMCL_BUS_HOST)
		return NULL;
	kmcl_bus_ref(bus);
	return (HANDLE)bus;
}

struct kmcl_bus *
kmcl_bus_from_handle(HANDLE handle)
{
	struct kmcl_bus *bus = handle;

	if (bus == NULL || bus->signature != KMCL_BUS_SIGNATURE || bus->kind != KMCL_BUS_HOST)
		return NULL;
	kmcl_bus_ref(bus);
	return bus;
}

NTSTATUS
kmcl_handle_close(HANDLE handle)
{
	struct kmcl_bus *bus = handle;

	if (bus == NULL || bus->signature != KMCL_BUS_SIGNATURE)
		return STATUS_INVALID_HANDLE;
	kmcl_bus_unref(bus);
	return STATUS_SUCCESS;
}

NTSTATUS
ZwClose(HANDLE handle)
{
	if (nt_handle_is_own(handle))
		return nt_handle_close(handle);
	if (nt_registry_is_handle(handle))
		return nt_registry_close(handle);
	return kmcl_handle_close(handle);
}

NTSTATUS
VmbConvertVmbusHandleToKernelHandle(HANDLE VmbusHandle, PHANDLE KernelHandle)
{
	struct kmcl_bus *bus;

	if (KernelHandle == NULL)
		return STATUS_INVALID_PARAMETER_2;
	bus = kmcl_bus_from_handle(VmbusHandle);
	if (bus == NULL)
		return STATUS_INVALID_HANDLE;
	*KernelHandle = (HANDLE)bus;
	return STATUS_SUCCESS;
}

void
kmcl_bus_get_stats(struct kmcl_bus *bus, struct kmcl_bus_stats *stats)
{
	pthread_mutex_lock(&bus->lock);
	*stats = bus->stats;
	for (LIST_ENTRY *e = bus->guests.Flink; e != &bus->guests; e = e->Flink) {
		struct vmb_gpadl_usage usage;

		vmb_bus_server_gpadl_usage(CONTAINING_RECORD(e, struct kmcl_guest, link)->server,
		                           &usage);
		stats->gpadls += usage.gpadls;
		stats->gpadl_pages += usage.pages;
		stats->pinned_pages += usage.mapped_pages;
	}
	pthread_mutex_unlock(&bus->lock);
}
