/* SPDX-License-Identifier: MIT */
/*
 * The uio port's thread, which does all that takes time: it looks at sysfs, opens devices and closes them, one thing after the
 * other. So a device is closed before it can be opened again. What it has to say goes through the same inbox as the answers
 * that post() gives at once.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "port/uio_port.h"

#define UEVENT_BYTES 8192u
#define RETRY_MS 100

void
uio_want_scan_locked(struct uio_port *up)
{
	up->scan = true;
	uio_signal(up->nudge);
}

/* Everything of a use whose doorbell is closed. */
static void
give_back(struct uio_use *use)
{
	if (use->open.fd >= 0)
		uio_device_close(&use->open);
	else
		close(use->fd);
	free(use);
}

static struct uio_use *
take_closed_locked(struct uio_port *up)
{
	for (struct uio_use **at = &up->uses; *at != NULL; at = &(*at)->next) {
		struct uio_use *use = *at;

		if (use->closed) {
			*at = use->next;
			return use;
		}
	}
	return NULL;
}

static struct uio_use *
find_wanted_locked(struct uio_port *up)
{
	struct uio_use *use = up->uses;

	while (use != NULL && !use->wanted)
		use = use->next;
	return use;
}

/* Only the worker frees a use, so it stays while the lock is not held. */
static void
open_device(struct uio_port *up, struct uio_use *use, const struct uio_device *device, uint32_t open_id)
{
	char why[UIO_WHY_BYTES] = "";
	struct uio_open open;
	enum vmb_status status = uio_device_open(&up->roots, device, up->ops, &open, why);

	if (status == VMB_OK && dup3(open.fd, use->fd, O_CLOEXEC) < 0) {
		snprintf(why, sizeof(why), "uio%d: no descriptor for it", device->number);
		uio_device_close(&open);
		status = VMB_E_IO;
	}
	if (status == VMB_OK) {
		close(open.fd);
		open.fd = use->fd;
	}
	pthread_mutex_lock(&up->core.lock);
	if (status == VMB_OK) {
		use->open = open;
		use->opened = true;
	}
	strcpy(use->why, why);
	uio_host_open_result_locked(up, device->channel_id, open_id, status == VMB_OK ? 0 : UIO_STATUS_REFUSED);
	/* It may have been in the way of nothing but a device that is not there any more. */
	if (status != VMB_OK)
		uio_want_scan_locked(up);
	pthread_mutex_unlock(&up->core.lock);
}

/* False: it is still to be done, once there are memory and descriptors for it. */
static bool
scan(struct uio_port *up)
{
	struct uio_device *devices;
	uint32_t count;
	enum vmb_status status =
		uio_scan(&up->roots, up->has_which ? &up->which : NULL, &devices, &count);
	/* Otherwise nothing is known, and nothing must be taken for gone. */
	bool done = status == VMB_OK || status == VMB_E_NOT_FOUND;

	pthread_mutex_lock(&up->core.lock);
	if (done && up->wants_offers)
		done = uio_host_compare_locked(up, devices, count);
	if (!done)
		up->scan = true;
	pthread_mutex_unlock(&up->core.lock);
	free(devices);
	return done;
}

/* One thing. False: there is nothing to do, or nothing that can be done now. */
static bool
work_once(struct uio_port *up)
{
	struct uio_use *closed, *wanted = NULL;
	struct uio_device device;
	uint32_t open_id = 0;
	bool look = false;

	pthread_mutex_lock(&up->core.lock);
	closed = take_closed_locked(up);
	if (closed == NULL)
		wanted = find_wanted_locked(up);
	if (wanted != NULL) {
		wanted->wanted = false;
		device = wanted->device;
		open_id = wanted->open_id;
	} else if (closed == NULL) {
		look = up->scan;
		up->scan = false;
	}
	pthread_mutex_unlock(&up->core.lock);

	if (closed != NULL)
		give_back(closed);
	else if (wanted != NULL)
		open_device(up, wanted, &device, open_id);
	else
		return look && scan(up);
	return true;
}

/* True if some of what the kernel tells is about devices like ours. */
static bool
read_uevents(int fd)
{
	char text[UEVENT_BYTES];
	bool ours = false;
	ssize_t got;

	for (;;) {
		struct sockaddr_nl from = { 0 };
		socklen_t from_bytes = sizeof(from);

		got = recvfrom(fd, text, sizeof(text), MSG_DONTWAIT, (struct sockaddr *)&from, &from_bytes);
		/* Some were lost: anything may have happened. */
		if (got < 0 && errno == ENOBUFS) {
			ours = true;
			continue;
		}
		if (got <= 0)
			return ours;
		/* Other processes may write here too. */
		if (from.nl_pid == 0 && (memmem(text, (size_t)got, "SUBSYSTEM=vmbus", 15) != NULL ||
		                         memmem(text, (size_t)got, "SUBSYSTEM=uio", 13) != NULL))
			ours = true;
	}
}

static void *
worker_main(void *ctx)
{
	struct uio_port *up = ctx;
	struct pollfd fds[2] = {
		{ .fd = up->nudge, .events = POLLIN },
		{ .fd = up->uevents, .events = POLLIN },
	};
	bool stop = false, again = false;

	while (!stop) {
		int timeout = up->rescan_ms != 0 ? (int)up->rescan_ms : -1;
		bool look;
		eventfd_t ignored;
		int ready;

		/* Nobody tells when there are memory and descriptors again. */
		if (again && (timeout < 0 || timeout > RETRY_MS))
			timeout = RETRY_MS;
		ready = poll(fds, 2, timeout);
		look = ready == 0 || (ready > 0 && (fds[1].revents & POLLIN) != 0 && read_uevents(up->uevents));
		(void)!eventfd_read(up->nudge, &ignored);
		if (look) {
			pthread_mutex_lock(&up->core.lock);
			up->scan = true;
			pthread_mutex_unlock(&up->core.lock);
		}
		while (work_once(up))
			continue;
		pthread_mutex_lock(&up->core.lock);
		stop = up->stop;
		again = up->scan;
		pthread_mutex_unlock(&up->core.lock);
	}
	return NULL;
}

bool
uio_worker_start(struct uio_port *up)
{
	sigset_t all, before;

	sigfillset(&all);
	sigdelset(&all, SIGSYS); /* is heard in every thread: tools/sandbox.c */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	up->has_worker = pthread_create(&up->worker, NULL, worker_main, up) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (up->has_worker)
		pthread_setname_np(up->worker, "kmcl-uio");
	return up->has_worker;
}

void
uio_worker_stop(struct uio_port *up)
{
	struct uio_use *use;

	if (!up->has_worker)
		return;
	pthread_mutex_lock(&up->core.lock);
	up->stop = true;
	for (use = up->uses; use != NULL; use = use->next) {
		use->closed = true;
		use->wanted = false;
	}
	uio_signal(up->nudge);
	pthread_mutex_unlock(&up->core.lock);
	pthread_join(up->worker, NULL);
	/* It may have seen the end before what was closed last. */
	while ((use = take_closed_locked(up)) != NULL)
		give_back(use);
}
