/* SPDX-License-Identifier: MIT */
/*
 * A port: one connection between this endpoint and one peer partition. It carries control messages
 * (<= 240 bytes, as they are), signals channels through doorbells, and knows the guest's memory. What
 * is above a port does not know which port it is.
 */
#ifndef VMB_PORT_H
#define VMB_PORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmb/mem.h"
#include "vmb/status.h"

#ifdef __cplusplus
extern "C" {
#endif

struct vmb_port;

/*
 * How a port tells its owner. Called only inside vmb_port_poll(), on its thread, never under a lock of
 * the port; the handler may call every vmb_port function except destroy and poll.
 */
struct vmb_port_handler {
	/* `message` is a private copy, valid during the call. */
	void (*message)(void *ctx, uint32_t connection_id, const void *message, uint32_t bytes);
	/* Last call ever. `reason` reads as a sentence without a full stop. */
	void (*closed)(void *ctx, enum vmb_status why, const char *reason);
	void *ctx;
};

/*
 * One doorbell per channel: a signal in each direction.
 * wait_fd becomes readable, edge-triggered, at each signal of the peer (poll it with EPOLLET; nobody
 * reads it, so its level means nothing). Both descriptors belong to the port.
 */
struct vmb_doorbell {
	int wait_fd;
	int ring_fd;
};

struct vmb_port_ops {
	const char *name;       /* "loopback", "unix", ... */
	enum vmb_status (*post)(struct vmb_port *port, uint32_t connection_id, const void *message,
	                        uint32_t bytes);
	struct vmb_mem *(*memory)(struct vmb_port *port);
	enum vmb_status (*doorbell_open)(struct vmb_port *port, uint32_t channel_id,
	                                 struct vmb_doorbell *doorbell);
	void (*doorbell_close)(struct vmb_port *port, uint32_t channel_id);
	enum vmb_status (*ring)(struct vmb_port *port, const struct vmb_doorbell *doorbell);
	int (*poll_fd)(struct vmb_port *port);
	void (*poll)(struct vmb_port *port);
	void (*cut)(struct vmb_port *port, enum vmb_status why, const char *reason);
	void (*destroy)(struct vmb_port *port);
};

/* Every port struct begins with this. */
struct vmb_port {
	const struct vmb_port_ops *ops;
	struct vmb_port_handler handler;
};

/* Set once, before the first poll. */
static inline void
vmb_port_set_handler(struct vmb_port *port, const struct vmb_port_handler *handler)
{
	port->handler = *handler;
}

/*
 * Post one control message. Never blocks: what the peer does not take at once waits in a bounded queue.
 * Any thread. VMB_OK, VMB_E_INVALID (size 8..240), VMB_E_CLOSED, VMB_E_LIMIT (queue full: the port cuts
 * the peer off, closed() follows from the next poll).
 */
VMB_MUST_CHECK static inline enum vmb_status
vmb_port_post(struct vmb_port *port, uint32_t connection_id, const void *message, uint32_t bytes)
{
	return port->ops->post(port, connection_id, message, bytes);
}

/*
 * The guest's address space: our own on the guest side, the peer's on the host side. Borrowed: take a reference
 * (vmb_mem_ref) to keep it beyond the port. NULL while a guest has not shared any.
 */
static inline struct vmb_mem *
vmb_port_memory(struct vmb_port *port)
{
	return port->ops->memory(port);
}

/*
 * Make the doorbell of a channel. Guest: before it posts OpenChannel (the port hands it to the host with that very message).
 * Host: while it handles OpenChannel or later, until CloseChannel was answered. Any thread.
 * VMB_OK, VMB_E_INVALID (id not 1..2047), VMB_E_EXISTS, VMB_E_NOT_FOUND (host: the guest brought none),
 * VMB_E_CLOSED, VMB_E_IO.
 */
VMB_MUST_CHECK static inline enum vmb_status
vmb_port_doorbell_open(struct vmb_port *port, uint32_t channel_id, struct vmb_doorbell *doorbell)
{
	return port->ops->doorbell_open(port, channel_id, doorbell);
}
/* Descriptors are closed; the caller has stopped using them. Also legal after closed(). */
static inline void
vmb_port_doorbell_close(struct vmb_port *port, uint32_t channel_id)
{
	port->ops->doorbell_close(port, channel_id);
}
/* Signal the peer. Any thread, never blocks on an honest or saturated descriptor. VMB_OK or VMB_E_CLOSED. */
static inline enum vmb_status
vmb_port_ring(struct vmb_port *port, const struct vmb_doorbell *doorbell)
{
	return port->ops->ring(port, doorbell);
}

/* Readable when vmb_port_poll() has something to do. Level-triggered. */
static inline int
vmb_port_poll_fd(struct vmb_port *port)
{
	return port->ops->poll_fd(port);
}
/* Deliver what came, send what waits; returns when there is nothing more or a fair share (64 messages) was handled. */
static inline void
vmb_port_poll(struct vmb_port *port)
{
	port->ops->poll(port);
}
/* End the connection: the peer sees it closed; our closed() is raised by the next poll with these words. Any thread. */
static inline void
vmb_port_cut(struct vmb_port *port, enum vmb_status why, const char *reason)
{
	port->ops->cut(port, why, reason);
}
/* Releases everything. Not inside a handler. All doorbells are closed. */
static inline void
vmb_port_destroy(struct vmb_port *port)
{
	port->ops->destroy(port);
}

/* ---- loopback: both partitions in this process --------------------------------------------- */

/* Two connected ports; `guest_memory` is what both report. */
VMB_MUST_CHECK enum vmb_status vmb_loopback_create(struct vmb_mem *guest_memory,
                                                   struct vmb_port **host, struct vmb_port **guest);

/* ---- unix: another process ----------------------------------------------------------------- */

/*
 * AF_UNIX SOCK_SEQPACKET, one control message per packet, unaltered. Descriptors ride along: the
 * guest-RAM memfd with InitiateContact, a pair of eventfds (signal to host, signal to guest) with OpenChannel.
 */
struct vmb_unix_limits {
	uint32_t queue_messages;     /* unread messages kept for a peer; 0 = 8192 */
	uint32_t stall_ms;           /* longest time a peer may leave its queue unread; 0 = 10000 */
	uint32_t messages_per_second;/* sustained; 0 = 200000. Twice this may come in a burst */
	uint64_t memory_bytes;       /* largest guest RAM accepted; 0 = 64 GiB */
	uint32_t channels;           /* doorbells kept for a guest, two descriptors each; 0 = 256 */
};

struct vmb_unix_listener;
/*
 * Listen on a path. A stale socket file nobody listens on is replaced. Mode 0600 unless `mode` is non-zero.
 * VMB_E_EXISTS: somebody serves that path. VMB_E_INVALID: path too long. VMB_E_IO: see errno.
 * `limits` may be NULL.
 */
VMB_MUST_CHECK enum vmb_status vmb_unix_listen(const char *path, unsigned mode,
                                               const struct vmb_unix_limits *limits,
                                               struct vmb_unix_listener **listener);
int vmb_unix_listener_fd(const struct vmb_unix_listener *listener);
/* One waiting client: VMB_OK, VMB_EMPTY, VMB_E_IO. *who describes the peer ("pid 12, uid 0"), for logs. */
VMB_MUST_CHECK enum vmb_status vmb_unix_accept(struct vmb_unix_listener *listener,
                                               struct vmb_port **port, char who[64]);
/* Removes the socket file. Accepted ports live on. */
void vmb_unix_listener_destroy(struct vmb_unix_listener *listener);

/* Connect as a guest whose RAM is `arena`. VMB_E_NOT_FOUND: nobody listens; VMB_E_ACCESS; VMB_E_IO. */
VMB_MUST_CHECK enum vmb_status vmb_unix_connect(const char *path, struct vmb_arena *arena,
                                                struct vmb_port **port);

#ifdef __cplusplus
}
#endif
#endif
