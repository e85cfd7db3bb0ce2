/* SPDX-License-Identifier: MIT */
/*
 * Signals from a server in another process to a guest whose port has more to do than to write to a descriptor
 * (a virtual machine's event flags): that process gets an eventfd of ours, and this thread rings the port
 * for it. As with all doorbells nobody reads the counter; edges are what counts.
 */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kmcl/kmcl_relay.h"
#include "nt/nt_os_thread.h"

struct hop_bell {
	LIST_ENTRY link;
	uint32_t id;
	int fd;
	struct vmb_port *port;
	struct vmb_doorbell doorbell;
};

struct kmcl_hop {
	pthread_mutex_t lock; /* held while a port is rung, so that removal waits for that */
	LIST_ENTRY bells;
	uint32_t last_id;
	int epoll_fd, wake_fd;
	pthread_t thread;
	_Atomic bool stop;
};

static void
ring_locked(struct kmcl_hop *hop, uint64_t id)
{
	for (LIST_ENTRY *e = hop->bells.Flink; e != &hop->bells; e = e->Flink) {
		struct hop_bell *bell = CONTAINING_RECORD(e, struct hop_bell, link);

		if (bell->id == id)
			VMB_IGNORE(vmb_port_ring(bell->port, &bell->doorbell));
	}
}

static void *
hop_thread(void *ctx)
{
	struct kmcl_hop *hop = ctx;
	struct epoll_event events[16];

	while (!atomic_load(&hop->stop)) {
		int count = epoll_wait(hop->epoll_fd, events, 16, -1);

		pthread_mutex_lock(&hop->lock);
		/* Ids, since a bell may have gone meanwhile; 0 is the wake-up. */
		for (int i = 0; i < count; i++)
			ring_locked(hop, events[i].data.u64);
		pthread_mutex_unlock(&hop->lock);
	}
	return NULL;
}

static bool
start_thread(struct kmcl_hop *hop)
{
	sigset_t all, old;
	int error;

	nt_os_thread_blocked(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	error = pthread_create(&hop->thread, NULL, hop_thread, hop);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (error == 0)
		pthread_setname_np(hop->thread, "kmcl-relay");
	return error == 0;
}

static void
hop_free(struct kmcl_hop *hop)
{
	if (hop->epoll_fd >= 0)
		close(hop->epoll_fd);
	if (hop->wake_fd >= 0)
		close(hop->wake_fd);
	pthread_mutex_destroy(&hop->lock);
	free(hop);
}

enum vmb_status
kmcl_hop_start(struct kmcl_hop **out)
{
	struct epoll_event event = { .events = EPOLLIN };
	struct kmcl_hop *hop = calloc(1, sizeof(*hop));

	if (hop == NULL)
		return VMB_E_NO_MEMORY;
	InitializeListHead(&hop->bells);
	pthread_mutex_init(&hop->lock, NULL);
	hop->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	hop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (hop->epoll_fd < 0 || hop->wake_fd < 0 ||
	    epoll_ctl(hop->epoll_fd, EPOLL_CTL_ADD, hop->wake_fd, &event) != 0) {
		hop_free(hop);
		return VMB_E_IO;
	}
	if (!start_thread(hop)) {
		hop_free(hop);
		return VMB_E_NO_MEMORY;
	}
	*out = hop;
	return VMB_OK;
}

void
kmcl_hop_stop(struct kmcl_hop *hop)
{
	if (hop == NULL)
		return;
	atomic_store(&hop->stop, true);
	(void)!eventfd_write(hop->wake_fd, 1);
	pthread_join(hop->thread, NULL);
	while (!IsListEmpty(&hop->bells))
		kmcl_hop_remove(hop,
		                CONTAINING_RECORD(hop->bells.Flink, struct hop_bell, link)->id);
	hop_free(hop);
}

enum vmb_status
kmcl_hop_add(struct kmcl_hop *hop, struct vmb_port *port, const struct vmb_doorbell *doorbell,
             uint32_t *id, int *fd)
{
	struct hop_bell *bell = calloc(1, sizeof(*bell));
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	int error = 0;

	if (bell == NULL)
		return VMB_E_NO_MEMORY;
	bell->port = port;
	bell->doorbell = *doorbell;
	bell->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (bell->fd < 0) {
		free(bell);
		return VMB_E_IO;
	}
	pthread_mutex_lock(&hop->lock);
	bell->id = ++hop->last_id != 0 ? hop->last_id : ++hop->last_id;
	event.data.u64 = bell->id;
	InsertTailList(&hop->bells, &bell->link);
	if (epoll_ctl(hop->epoll_fd, EPOLL_CTL_ADD, bell->fd, &event) != 0)
		error = errno;
	*id = bell->id;
	*fd = bell->fd;
	pthread_mutex_unlock(&hop->lock);
	if (error == 0)
		return VMB_OK;
	kmcl_hop_remove(hop, *id);
	return VMB_E_IO;
}

void
kmcl_hop_remove(struct kmcl_hop *hop, uint32_t id)
{
	pthread_mutex_lock(&hop->lock);
	for (LIST_ENTRY *e = hop->bells.Flink; e != &hop->bells; e = e->Flink) {
		struct hop_bell *bell = CONTAINING_RECORD(e, struct hop_bell, link);

		if (bell->id != id)
			continue;
		/* The other process has the file too, so closing ours does not take it out of the set. */
		(void)epoll_ctl(hop->epoll_fd, EPOLL_CTL_DEL, bell->fd, NULL);
		RemoveEntryList(&bell->link);
		close(bell->fd);
		free(bell);
		break;
	}
	pthread_mutex_unlock(&hop->lock);
}
