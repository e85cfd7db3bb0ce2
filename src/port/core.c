/* SPDX-License-Identifier: MIT */
/*
 * The part of a port that does not depend on how messages travel. Signalling takes no lock: it
 * needs the descriptor, which its caller owns for as long as the doorbell is open, and the closing
 * flag.
 */
#include <stdio.h>

#include "port/core.h"

bool
port_core_init(struct port_core *core, const struct vmb_port_ops *ops, bool is_host,
               uint32_t doorbell_limit)
{
	if (pthread_mutex_init(&core->lock, NULL) != 0)
		return false;
	core->port.ops = ops;
	core->is_host = is_host;
	port_doorbells_init(&core->doorbells, is_host, doorbell_limit);
	return true;
}

void
port_core_fini(struct port_core *core)
{
	port_doorbells_close_all(&core->doorbells);
	vmb_mem_unref(core->memory);
	pthread_mutex_destroy(&core->lock);
}

bool
port_core_close_locked(struct port_core *core, enum vmb_status why, const char *reason)
{
	if (port_core_is_closing(core))
		return false;
	core->why = why;
	snprintf(core->reason, sizeof(core->reason), "%s", reason);
	/* Pairs with port_core_is_closing(). */
	__atomic_store_n(&core->closing, true, __ATOMIC_RELEASE);
	return true;
}

void
port_core_raise(struct port_core *core)
{
	if (core->raised || !port_core_is_closing(core))
		return;
	core->raised = true;
	/* why and reason no longer change once closing is seen. */
	core->port.handler.closed(core->port.handler.ctx, core->why, core->reason);
}

struct vmb_mem *
port_core_memory(struct vmb_port *port)
{
	struct port_core *core = port_core_of(port);
	struct vmb_mem *memory;

	pthread_mutex_lock(&core->lock);
	memory = core->memory;
	pthread_mutex_unlock(&core->lock);
	return memory;
}

enum vmb_status
port_core_doorbell_open(struct vmb_port *port, uint32_t channel_id, struct vmb_doorbell *doorbell)
{
	struct port_core *core = port_core_of(port);
	enum vmb_status st = VMB_E_CLOSED;

	pthread_mutex_lock(&core->lock);
	if (!port_core_is_closing(core))
		st = port_doorbell_open(&core->doorbells, channel_id, doorbell);
	pthread_mutex_unlock(&core->lock);
	return st;
}

void
port_core_doorbell_close(struct vmb_port *port, uint32_t channel_id)
{
	struct port_core *core = port_core_of(port);

	pthread_mutex_lock(&core->lock);
	port_doorbell_close(&core->doorbells, channel_id);
	pthread_mutex_unlock(&core->lock);
}

void
port_core_doorbell_keep(struct vmb_port *port, uint32_t channel_id)
{
	struct port_core *core = port_core_of(port);

	pthread_mutex_lock(&core->lock);
	port_doorbell_keep(&core->doorbells, channel_id);
	pthread_mutex_unlock(&core->lock);
}

enum vmb_status
port_core_ring(struct vmb_port *port, const struct vmb_doorbell *doorbell)
{
	if (port_core_is_closing(port_core_of(port)))
		return VMB_E_CLOSED;
	return port_doorbell_ring(doorbell->ring_fd);
}
