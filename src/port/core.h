/* SPDX-License-Identifier: MIT */
/*
 * What both in-process ports share: the doorbell tables, the guest's memory, and how a connection
 * ends. The first reason to end wins; closed() is raised once, by the polling thread, without the
 * lock.
 */
#ifndef PORT_CORE_H
#define PORT_CORE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "port/doorbells.h"
#include "vmb/port.h"

#define PORT_REASON_BYTES 256u
#define PORT_PEER_LEFT "the peer closed the connection"
#define PORT_POLL_SHARE 64u     /* messages handled in one poll */

struct port_core {
	struct vmb_port port;           /* first: the owner holds a pointer to it */
	bool is_host;
	pthread_mutex_t lock;
	bool closing;                   /* set under the lock; read atomically anywhere */
	bool raised;                    /* polling thread only */
	enum vmb_status why;            /* lock */
	char reason[PORT_REASON_BYTES]; /* lock */
	struct vmb_mem *memory;         /* lock; set at most once; one reference */
	struct port_doorbells doorbells;/* lock */
};

/* False when the system has no mutex to give. */
VMB_MUST_CHECK bool port_core_init(struct port_core *core, const struct vmb_port_ops *ops,
                                   bool is_host, uint32_t doorbell_limit);
void port_core_fini(struct port_core *core);

static inline struct port_core *
port_core_of(struct vmb_port *port)
{
	return (struct port_core *)(void *)port;
}

/* Pairs with the release in port_core_close_locked(); only ever goes from false to true. */
static inline bool
port_core_is_closing(const struct port_core *core)
{
	return __atomic_load_n(&core->closing, __ATOMIC_ACQUIRE);
}

/* True if this call is the one that ended the connection. */
bool port_core_close_locked(struct port_core *core, enum vmb_status why, const char *reason);
/* Polling thread: if the connection has ended and nobody was told, tell. */
void port_core_raise(struct port_core *core);

/* True for what vmb_port_post() may send. */
static inline bool
port_message_size_is_valid(uint32_t bytes)
{
	return bytes >= VMB_MSG_HEADER_BYTES && bytes <= VMB_MSG_MAX_BYTES;
}

/* Entries of vmb_port_ops that need nothing else. */
struct vmb_mem *port_core_memory(struct vmb_port *port);
enum vmb_status port_core_doorbell_open(struct vmb_port *port, uint32_t channel_id,
                                        struct vmb_doorbell *doorbell);
void port_core_doorbell_close(struct vmb_port *port, uint32_t channel_id);
void port_core_doorbell_keep(struct vmb_port *port, uint32_t channel_id);
enum vmb_status port_core_ring(struct vmb_port *port, const struct vmb_doorbell *doorbell);

#endif
