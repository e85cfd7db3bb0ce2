/* SPDX-License-Identifier: MIT */
/* The uio port's operations: messages in and out, doorbells, rings, page numbers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "port/uio_port.h"
#include "vmb/ring.h"

void
uio_close_locked(struct uio_port *up, enum vmb_status why, const char *reason)
{
	if (!port_core_close_locked(&up->core, why, reason))
		return;
	port_queue_clear(&up->inbox);
	uio_signal(up->wake);
}

struct uio_use *
uio_find_use_locked(struct uio_port *up, uint32_t channel_id)
{
	struct uio_use *use = up->uses;

	while (use != NULL && (use->closed || use->device.channel_id != channel_id))
		use = use->next;
	return use;
}

static enum vmb_status
uio_post(struct vmb_port *port, uint32_t connection_id, const void *message, uint32_t bytes)
{
	struct uio_port *up = uio_of(port);
	enum vmb_status status = VMB_E_CLOSED;
	const char *why;
	struct vmb_msg msg;

	(void)connection_id;
	if (!port_message_size_is_valid(bytes))
		return VMB_E_INVALID;
	pthread_mutex_lock(&up->core.lock);
	if (!port_core_is_closing(&up->core)) {
		/* What a host would not understand it would ignore. */
		if (vmb_msg_decode(message, bytes, VMB_FROM_GUEST, up->version, 0, &msg, &why) == VMB_OK)
			uio_host_message_locked(up, &msg);
		status = VMB_OK;
	}
	pthread_mutex_unlock(&up->core.lock);
	return status;
}

/* ---- doorbells and rings ------------------------------------------------------------------------------ */

static enum vmb_status
uio_doorbell_open(struct vmb_port *port, uint32_t channel_id, struct vmb_doorbell *doorbell)
{
	struct uio_port *up = uio_of(port);
	struct uio_use *use;
	enum vmb_status status = VMB_OK;

	if (channel_id == 0 || channel_id > VMB_CHANNEL_ID_MAX)
		return VMB_E_INVALID;
	use = calloc(1, sizeof(*use));
	if (use == NULL)
		return VMB_E_NO_MEMORY;
	use->open.fd = -1;
	use->device.channel_id = channel_id;
	/* The caller learns the number now, and the device comes to be behind it before the open is answered. */
	use->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_lock(&up->core.lock);
	if (port_core_is_closing(&up->core))
		status = VMB_E_CLOSED;
	else if (uio_find_use_locked(up, channel_id) != NULL)
		status = VMB_E_EXISTS;
	else if (use->fd < 0)
		status = VMB_E_IO;
	if (status == VMB_OK) {
		use->next = up->uses;
		up->uses = use;
		*doorbell = (struct vmb_doorbell){ use->fd, use->fd, use };
	}
	pthread_mutex_unlock(&up->core.lock);
	if (status != VMB_OK) {
		if (use->fd >= 0)
			close(use->fd);
		free(use);
	}
	return status;
}

static void
uio_doorbell_close(struct vmb_port *port, uint32_t channel_id)
{
	struct uio_port *up = uio_of(port);
	struct uio_use *use;

	pthread_mutex_lock(&up->core.lock);
	use = uio_find_use_locked(up, channel_id);
	if (use != NULL) {
		use->closed = true;
		uio_signal(up->nudge);
	}
	pthread_mutex_unlock(&up->core.lock);
}

/* A host's. */
static void
uio_doorbell_keep(struct vmb_port *port, uint32_t channel_id)
{
	(void)port;
	(void)channel_id;
}

/* The doorbell is open as long as this runs, and it was not handed out to be rung before the device was open. */
static enum vmb_status
uio_ring(struct vmb_port *port, const struct vmb_doorbell *doorbell)
{
	struct uio_port *up = uio_of(port);
	const struct uio_use *use = doorbell->own;
	enum vmb_status status;

	if (port_core_is_closing(&up->core))
		return VMB_E_CLOSED;
	status = uio_device_kick(&use->open);
	if (status != VMB_OK) {
		pthread_mutex_lock(&up->core.lock);
		uio_want_scan_locked(up);
		pthread_mutex_unlock(&up->core.lock);
	}
	return status;
}

static enum vmb_status
uio_rings(struct vmb_port *port, uint32_t channel_id, struct vmb_port_rings *rings)
{
	struct uio_port *up = uio_of(port);
	enum vmb_status status = VMB_E_NOT_FOUND;
	const struct uio_use *use;

	pthread_mutex_lock(&up->core.lock);
	use = uio_find_use_locked(up, channel_id);
	if (use != NULL && use->opened) {
		rings->base = use->open.rings;
		rings->out_pages = rings->in_pages = (uint32_t)(use->open.ring_bytes / 2 / VMB_PAGE_BYTES);
		status = VMB_OK;
	}
	pthread_mutex_unlock(&up->core.lock);
	return status;
}

static bool
uio_translate(struct vmb_port *port, uint8_t *pfns, uint32_t count)
{
	return vmb_arena_to_physical(uio_of(port)->arena, pfns, count);
}

static bool
uio_why(struct vmb_port *port, uint32_t channel_id, char text[VMB_PORT_WHY_BYTES])
{
	struct uio_port *up = uio_of(port);
	const struct uio_use *use;

	text[0] = '\0';
	pthread_mutex_lock(&up->core.lock);
	use = channel_id != 0 ? uio_find_use_locked(up, channel_id) : NULL;
	if (channel_id == 0)
		strcpy(text, up->no_external);
	else if (use != NULL)
		strcpy(text, use->why);
	pthread_mutex_unlock(&up->core.lock);
	return text[0] != '\0';
}

/* ---- the port ----------------------------------------------------------------------------------------- */

static int
uio_poll_fd(struct vmb_port *port)
{
	return uio_of(port)->wake;
}

static bool
next_message(struct uio_port *up, struct port_message *message)
{
	struct port_message *front;

	pthread_mutex_lock(&up->core.lock);
	front = port_core_is_closing(&up->core) ? NULL : port_queue_front(&up->inbox);
	if (front != NULL) {
		memcpy(message, front, sizeof(*message));
		port_queue_pop(&up->inbox);
	}
	pthread_mutex_unlock(&up->core.lock);
	return front != NULL;
}

static void
uio_poll(struct vmb_port *port)
{
	struct uio_port *up = uio_of(port);
	struct port_message message;
	eventfd_t ignored;

	(void)!eventfd_read(up->wake, &ignored);
	for (uint32_t i = 0; i < PORT_POLL_SHARE && next_message(up, &message); i++)
		port->handler.message(port->handler.ctx, 0, message.data, message.bytes);
	pthread_mutex_lock(&up->core.lock);
	if (up->inbox.count > 0)
		uio_signal(up->wake);
	pthread_mutex_unlock(&up->core.lock);
	port_core_raise(&up->core);
}

static void
uio_cut(struct vmb_port *port, enum vmb_status why, const char *reason)
{
	struct uio_port *up = uio_of(port);

	pthread_mutex_lock(&up->core.lock);
	uio_close_locked(up, why, reason);
	pthread_mutex_unlock(&up->core.lock);
}

static void
close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void
uio_destroy(struct vmb_port *port)
{
	struct uio_port *up = uio_of(port);

	uio_worker_stop(up);
	uio_host_forget_locked(up);
	port_queue_clear(&up->inbox);
	close_fd(up->wake);
	close_fd(up->nudge);
	close_fd(up->uevents);
	port_core_fini(&up->core);
	free(up->sys);
	free(up->dev);
	free(up);
}

const struct vmb_port_ops uio_port_ops = {
	.name = "uio",
	.post = uio_post,
	.memory = port_core_memory,
	.doorbell_open = uio_doorbell_open,
	.doorbell_close = uio_doorbell_close,
	.ring = uio_ring,
	.poll_fd = uio_poll_fd,
	.poll = uio_poll,
	.cut = uio_cut,
	.destroy = uio_destroy,
	.doorbell_keep = uio_doorbell_keep,
	.rings = uio_rings,
	.translate = uio_translate,
	.why = uio_why,
};
