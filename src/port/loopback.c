/* SPDX-License-Identifier: MIT */
/*
 * The loopback port: two ends in one process. Each end has a bounded inbox and an eventfd that says
 * there is something to poll; a message is copied straight into the peer's inbox. Descriptors are
 * duplicated on the way, so that each end closes its own, exactly as between processes.
 *
 * Locks: link->lock keeps the peer alive while it is used; it comes before an end's core.lock.
 * Never both ends' locks at once.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "port/core.h"
#include "port/local.h"
#include "port/queue.h"

#define INBOX_MESSAGES 8192u

struct loopback_link {
	pthread_mutex_t lock;
	struct loopback_port *ends[2];  /* lock; NULL once destroyed */
};

struct loopback_port {
	struct port_core core;
	struct loopback_link *link;
	unsigned side;                  /* index in link->ends */
	int wake;                       /* eventfd, readable = poll has work */
	bool peer_gone;                 /* core.lock */
	struct port_queue inbox;        /* core.lock */
};

static struct loopback_port *
loopback_of(struct vmb_port *port)
{
	return (struct loopback_port *)(void *)port;
}

static void
loopback_wake(const struct loopback_port *end)
{
	/* Cannot fail: our own counter, read back to zero by each poll. */
	(void)!eventfd_write(end->wake, 1);
}

/* The peer sees the end after everything that was posted before. */
static void
loopback_tell_peer(struct loopback_port *end)
{
	struct loopback_port *peer;

	pthread_mutex_lock(&end->link->lock);
	peer = end->link->ends[1u - end->side];
	if (peer != NULL) {
		pthread_mutex_lock(&peer->core.lock);
		peer->peer_gone = true;
		pthread_mutex_unlock(&peer->core.lock);
		loopback_wake(peer);
	}
	pthread_mutex_unlock(&end->link->lock);
}

static void
loopback_cut(struct vmb_port *port, enum vmb_status why, const char *reason)
{
	struct loopback_port *end = loopback_of(port);
	bool first;

	pthread_mutex_lock(&end->core.lock);
	first = port_core_close_locked(&end->core, why, reason);
	if (first)
		port_queue_clear(&end->inbox);
	pthread_mutex_unlock(&end->core.lock);
	if (!first)
		return;
	loopback_wake(end);
	loopback_tell_peer(end);
}

/*
 * Duplicates of the doorbell that this message carries, so that no lock of ours is held in the
 * peer.
 */
static enum vmb_status
loopback_take_fds(struct loopback_port *end, const void *message, uint32_t bytes,
                  int fds[PORT_MESSAGE_FDS], uint32_t *count)
{
	const int *pair;
	enum vmb_status st = VMB_OK;

	*count = 0;
	pthread_mutex_lock(&end->core.lock);
	pair = port_doorbell_of_message(&end->core.doorbells, message, bytes);
	if (pair != NULL) {
		fds[0] = fcntl(pair[0], F_DUPFD_CLOEXEC, 0);
		fds[1] = fcntl(pair[1], F_DUPFD_CLOEXEC, 0);
		*count = PORT_MESSAGE_FDS;
		if (fds[0] < 0 || fds[1] < 0)
			st = VMB_E_IO;
	}
	pthread_mutex_unlock(&end->core.lock);
	return st;
}

static enum vmb_status
loopback_deliver(struct loopback_port *end, uint32_t connection_id, const void *message,
                 uint32_t bytes, const int *fds, uint32_t fd_count)
{
	enum vmb_status st = VMB_E_CLOSED;
	struct loopback_port *peer;

	pthread_mutex_lock(&end->link->lock);
	peer = end->link->ends[1u - end->side];
	if (peer != NULL) {
		pthread_mutex_lock(&peer->core.lock);
		if (!port_core_is_closing(&peer->core) && !peer->peer_gone)
			st = port_queue_push(&peer->inbox, peer->core.is_host ? connection_id : 0,
			                     message, bytes, fds, fd_count);
		pthread_mutex_unlock(&peer->core.lock);
		if (st == VMB_OK)
			loopback_wake(peer);
	}
	pthread_mutex_unlock(&end->link->lock);
	return st;
}

static enum vmb_status
loopback_post(struct vmb_port *port, uint32_t connection_id, const void *message, uint32_t bytes)
{
	struct loopback_port *end = loopback_of(port);
	int fds[PORT_MESSAGE_FDS] = { -1, -1 };
	uint32_t fd_count;
	enum vmb_status st;

	if (!port_message_size_is_valid(bytes))
		return VMB_E_INVALID;
	if (port_core_is_closing(&end->core))
		return VMB_E_CLOSED;
	st = loopback_take_fds(end, message, bytes, fds, &fd_count);
	if (st == VMB_OK)
		st = loopback_deliver(end, connection_id, message, bytes, fds, fd_count);
	for (uint32_t i = 0; i < fd_count; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
	}
	if (st == VMB_E_LIMIT)
		loopback_cut(port, st, "the peer left too many messages unread");
	else if (st == VMB_E_NO_MEMORY || st == VMB_E_IO)
		loopback_cut(port, st, "a message could not be kept");
	return st;
}

static int
loopback_poll_fd(struct vmb_port *port)
{
	return loopback_of(port)->wake;
}

/*
 * The oldest message, its doorbell put where the host will look for it. False: nothing to deliver
 * now.
 */
static bool
loopback_next(struct loopback_port *end, struct port_message *message)
{
	struct port_message *front;

	pthread_mutex_lock(&end->core.lock);
	front = port_core_is_closing(&end->core) ? NULL : port_queue_front(&end->inbox);
	if (front != NULL) {
		memcpy(message, front, sizeof(*message));
		front->fd_count = 0;
		/*
		 * Cannot be refused: the peer's own port made the pair, and this table has no
		 * limit.
		 */
		if (end->core.is_host)
			(void)!port_doorbells_receive(&end->core.doorbells, message->data,
			                              message->bytes,
			                              message->fd_count == 0 ? NULL : message->fds);
		port_queue_pop(&end->inbox);
	}
	pthread_mutex_unlock(&end->core.lock);
	return front != NULL;
}

static void
loopback_poll(struct vmb_port *port)
{
	struct loopback_port *end = loopback_of(port);
	struct port_message message;
	eventfd_t ignored;
	uint32_t handled = 0;
	bool ended;

	(void)!eventfd_read(end->wake, &ignored);
	while (handled < PORT_POLL_SHARE && loopback_next(end, &message)) {
		port->handler.message(port->handler.ctx, message.connection_id, message.data,
		                      message.bytes);
		handled++;
	}

	pthread_mutex_lock(&end->core.lock);
	ended = end->inbox.count == 0 && end->peer_gone;
	if (ended)
		(void)port_core_close_locked(&end->core, VMB_E_CLOSED, PORT_PEER_LEFT);
	if (end->inbox.count > 0)
		loopback_wake(end);
	pthread_mutex_unlock(&end->core.lock);
	port_core_raise(&end->core);
}

static void
loopback_free(struct loopback_port *end)
{
	port_queue_clear(&end->inbox);
	if (end->wake >= 0)
		close(end->wake);
	port_core_fini(&end->core);
	free(end);
}

static void
loopback_destroy(struct vmb_port *port)
{
	struct loopback_port *end = loopback_of(port);
	struct loopback_link *link = end->link;
	bool last;

	loopback_tell_peer(end);
	pthread_mutex_lock(&link->lock);
	link->ends[end->side] = NULL;
	last = link->ends[1u - end->side] == NULL;
	pthread_mutex_unlock(&link->lock);
	loopback_free(end);
	if (last) {
		pthread_mutex_destroy(&link->lock);
		free(link);
	}
}

static const struct vmb_port_ops loopback_ops = {
	.name = "loopback",
	.post = loopback_post,
	.memory = port_core_memory,
	.doorbell_open = port_core_doorbell_open,
	.doorbell_close = port_core_doorbell_close,
	.ring = port_core_ring,
	.poll_fd = loopback_poll_fd,
	.poll = loopback_poll,
	.cut = loopback_cut,
	.destroy = loopback_destroy,
	.doorbell_keep = port_core_doorbell_keep,
	.rings_by_fd = true,
	.local = port_local,
};

static enum vmb_status
loopback_end_create(struct loopback_link *link, unsigned side, struct vmb_mem *memory,
                    struct loopback_port **created)
{
	struct loopback_port *end = calloc(1, sizeof(*end));

	if (end == NULL)
		return VMB_E_NO_MEMORY;
	if (!port_core_init(&end->core, &loopback_ops, side == 0, 0)) {
		free(end);
		return VMB_E_NO_MEMORY;
	}
	port_queue_init(&end->inbox, INBOX_MESSAGES);
	end->link = link;
	end->side = side;
	end->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (end->wake < 0) {
		loopback_free(end);
		return VMB_E_IO;
	}
	if (memory != NULL)
		vmb_mem_ref(memory);
	end->core.memory = memory;
	*created = end;
	return VMB_OK;
}

enum vmb_status
vmb_loopback_create(struct vmb_mem *guest_memory, struct vmb_port **host, struct vmb_port **guest)
{
	struct loopback_link *link = calloc(1, sizeof(*link));
	enum vmb_status st;

	if (link == NULL)
		return VMB_E_NO_MEMORY;
	if (pthread_mutex_init(&link->lock, NULL) != 0) {
		free(link);
		return VMB_E_NO_MEMORY;
	}
	st = loopback_end_create(link, 0, guest_memory, &link->ends[0]);
	if (st != VMB_OK)
		goto free_link;
	st = loopback_end_create(link, 1, guest_memory, &link->ends[1]);
	if (st != VMB_OK)
		goto free_host;
	*host = &link->ends[0]->core.port;
	*guest = &link->ends[1]->core.port;
	return VMB_OK;

free_host:
	loopback_free(link->ends[0]);
free_link:
	pthread_mutex_destroy(&link->lock);
	free(link);
	return st;
}
