/* SPDX-License-Identifier: MIT */
/*
 * Tables of doorbells and the end of a connection are those of every port (src/port/core.c). Nothing here waits, so what is
 * not under core.lock needs no lock: only one task runs.
 */
#include "sim_port.h"

#include <fcntl.h>
#include <string.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "port/core.h"
#include "plant.h"
#include "port/queue.h"
#include "scheduler.h"
#include "wrap.h"

#define MOST_ENDS 16u

struct message {
	struct message *next;
	uint64_t due;
	struct port_message m;
};

struct end {
	struct port_core core;
	struct end *peer; /* NULL once destroyed */
	int wake;
	bool peer_gone;
	bool broken; /* what is sent is lost, what was under way too */
	struct message *first, **last;
	uint64_t last_due; /* of what this end was sent */
};

static struct end *ends[MOST_ENDS];
static struct sim_delays longest;

void
sim_port_delays(const struct sim_delays *delays)
{
	longest = *delays;
}

static struct end *
end_of(struct vmb_port *port)
{
	return (struct end *)(void *)port;
}

static void
wake(void *ctx)
{
	struct end *end = ctx;
	struct sim_file *file = sim_file_get(end->wake);

	sim_file_signal(file);
	sim_file_put(file);
}

static void
drop(struct message *message)
{
	for (uint32_t i = 0; i < message->m.fd_count; i++)
		close(message->m.fds[i]);
	sim_free(message);
}

static struct message *
take_first(struct end *end)
{
	struct message *message = end->first;

	if (message == NULL)
		return NULL;
	end->first = message->next;
	if (end->first == NULL)
		end->last = &end->first;
	return message;
}

static void
drop_all(struct end *end)
{
	struct message *message;

	while ((message = take_first(end)) != NULL)
		drop(message);
}

static void
sim_cut(struct vmb_port *port, enum vmb_status why, const char *reason)
{
	struct end *end = end_of(port);
	bool first;

	pthread_mutex_lock(&end->core.lock);
	first = port_core_close_locked(&end->core, why, reason);
	pthread_mutex_unlock(&end->core.lock);
	if (!first)
		return;
	drop_all(end);
	sim_at(sim_now(), wake, end);
	if (end->peer != NULL) {
		end->peer->peer_gone = true;
		sim_at(sim_now() + sim_random(longest.message_us + 1) * SIM_US, wake, end->peer);
	}
}

/* Seen by the next poll of each end. */
void
sim_port_break_all(void)
{
	for (uint32_t i = 0; i < MOST_ENDS; i++) {
		if (ends[i] == NULL)
			continue;
		ends[i]->broken = true;
		sim_at(sim_now() + sim_random(longest.message_us + 1) * SIM_US, wake, ends[i]);
	}
}

static enum vmb_status
sim_post(struct vmb_port *port, uint32_t address, const void *bytes, uint32_t count)
{
	struct end *end = end_of(port), *peer;
	struct message *message;
	const int *pair;

	if (!port_message_size_is_valid(count))
		return VMB_E_INVALID;
	if (port_core_is_closing(&end->core))
		return VMB_E_CLOSED;
	message = sim_alloc(sizeof(*message));
	message->m.connection_id = end->core.is_host ? 0 : address;
	message->m.bytes = count;
	memcpy(message->m.data, bytes, count);
	pthread_mutex_lock(&end->core.lock);
	pair = port_doorbell_of_message(&end->core.doorbells, bytes, count);
	for (uint32_t i = 0; pair != NULL && i < PORT_MESSAGE_FDS; i++) {
		int fd = fcntl(pair[i], F_DUPFD_CLOEXEC, 0);

		if (fd >= 0)
			message->m.fds[message->m.fd_count++] = fd;
	}
	pthread_mutex_unlock(&end->core.lock);
	if (pair != NULL && message->m.fd_count != PORT_MESSAGE_FDS) {
		drop(message);
		sim_cut(port, VMB_E_IO, "a message could not be kept");
		return VMB_E_IO;
	}
	/* Whoever waited for the lock may have seen the connection end. */
	peer = end->peer;
	if (peer == NULL || port_core_is_closing(&peer->core) || port_core_is_closing(&end->core) ||
	    peer->peer_gone) {
		drop(message);
		return VMB_E_CLOSED;
	}
	if (end->broken) {
		drop(message);
		return VMB_OK;
	}
	message->due = sim_now() + sim_random(longest.message_us + 1) * SIM_US;
	if (message->due < peer->last_due)
		message->due = peer->last_due;
	peer->last_due = message->due;
	*peer->last = message;
	peer->last = &message->next;
	sim_note("message", count);
	sim_at(message->due, wake, peer);
	return VMB_OK;
}

static void
signal_arrives(void *ctx)
{
	sim_file_signal(ctx);
	sim_file_put(ctx);
}

static enum vmb_status
sim_ring(struct vmb_port *port, const struct vmb_doorbell *doorbell)
{
	struct sim_file *file;

	sim_point();
	if (port_core_is_closing(port_core_of(port)))
		return VMB_E_CLOSED;
	if (end_of(port)->broken || sim_planted_since(SIM_PLANT_SIGNAL))
		return VMB_OK;
	file = sim_file_get(doorbell->ring_fd);
	if (file == NULL)
		sim_found("a doorbell is rung that is closed");
	sim_at(sim_now() + sim_random(longest.signal_us + 1) * SIM_US, signal_arrives, file);
	sim_point();
	return VMB_OK;
}

static int
sim_poll_fd(struct vmb_port *port)
{
	return end_of(port)->wake;
}

/* The oldest message that is there, its doorbell put where the host will look for it. */
static bool
next(struct end *end, struct port_message *m)
{
	struct message *message;

	if (port_core_is_closing(&end->core) || end->first == NULL || end->first->due > sim_now())
		return false;
	message = take_first(end);
	*m = message->m;
	message->m.fd_count = 0;
	drop(message);
	if (end->core.is_host) {
		pthread_mutex_lock(&end->core.lock);
		/* Cannot be refused: the peer's own port made the pair, and this table has no limit. */
		(void)!port_doorbells_receive(&end->core.doorbells, m->data, m->bytes,
		                              m->fd_count == 0 ? NULL : m->fds);
		pthread_mutex_unlock(&end->core.lock);
	}
	return true;
}

static void
sim_poll(struct vmb_port *port)
{
	struct end *end = end_of(port);
	uint32_t share = 1 + sim_random(PORT_POLL_SHARE);
	struct port_message m;
	eventfd_t ignored;

	(void)!eventfd_read(end->wake, &ignored);
	if (end->broken)
		sim_cut(port, VMB_E_CLOSED, "the connection broke");
	for (; share != 0 && next(end, &m); share--)
		port->handler.message(port->handler.ctx, m.connection_id, m.data, m.bytes);
	if (end->first != NULL)
		sim_at(end->first->due, wake, end);
	else if (end->peer_gone)
		sim_cut(port, VMB_E_CLOSED, PORT_PEER_LEFT);
	port_core_raise(&end->core);
}

static void
forget_wakes(struct end *end)
{
	while (sim_cancel(wake, end))
		continue;
}

static void
sim_destroy(struct vmb_port *port)
{
	struct end *end = end_of(port);

	if (end->peer != NULL) {
		end->peer->peer = NULL;
		end->peer->peer_gone = true;
		sim_at(sim_now(), wake, end->peer);
	}
	for (uint32_t i = 0; i < MOST_ENDS; i++) {
		if (ends[i] == end)
			ends[i] = NULL;
	}
	drop_all(end);
	forget_wakes(end);
	close(end->wake);
	port_core_fini(&end->core);
	sim_free(end);
}

/* Memory is ordered here as it is. It may be refused, as by the kernel. */
static bool
sim_fence(void)
{
	sim_point();
	return sim_random(4) != 0;
}

static const struct vmb_ring_local *
sim_local(void)
{
	static const struct vmb_ring_local soon = { .fence = sim_fence, .after = 2 };

	return &soon;
}

static const struct vmb_port_ops sim_ops = {
	.name = "simulated",
	.post = sim_post,
	.memory = port_core_memory,
	.doorbell_open = port_core_doorbell_open,
	.doorbell_close = port_core_doorbell_close,
	.ring = sim_ring,
	.poll_fd = sim_poll_fd,
	.poll = sim_poll,
	.cut = sim_cut,
	.destroy = sim_destroy,
	.doorbell_keep = port_core_doorbell_keep,
	.local = sim_local,
};

static struct end *
end_new(bool is_host, struct vmb_mem *memory)
{
	struct end *end = sim_alloc(sizeof(*end));

	end->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (end->wake < 0 || !port_core_init(&end->core, &sim_ops, is_host, 0)) {
		sim_free(end);
		return NULL;
	}
	end->last = &end->first;
	vmb_mem_ref(memory);
	end->core.memory = memory;
	for (uint32_t i = 0; i < MOST_ENDS; i++) {
		if (ends[i] == NULL) {
			ends[i] = end;
			return end;
		}
	}
	sim_found("more than %u ends of connections", MOST_ENDS);
}

enum vmb_status
sim_port_create(struct vmb_mem *memory, struct vmb_port **host, struct vmb_port **guest)
{
	struct end *one = end_new(true, memory), *other;

	if (one == NULL)
		return VMB_E_IO;
	other = end_new(false, memory);
	if (other == NULL) {
		sim_destroy(&one->core.port);
		return VMB_E_IO;
	}
	one->peer = other;
	other->peer = one;
	*host = &one->core.port;
	*guest = &other->core.port;
	return VMB_OK;
}
