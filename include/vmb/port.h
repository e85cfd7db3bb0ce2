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
#pragma GCC visibility push(default)

struct vmb_port;

/*
 * How a port tells its owner. Called only inside vmb_port_poll(), on its thread, never under a lock of
 * the port; the handler may call every vmb_port function except destroy and poll.
 */
struct vmb_port_handler {
	/*
	 * `message` is a private copy of 8..240 bytes, valid during the call. connection_id is what the guest posted on
	 * (a host sees it); a guest always sees 0.
	 */
	void (*message)(void *ctx, uint32_t connection_id, const void *message, uint32_t bytes);
	/* Last call ever. `reason` reads as a sentence without a full stop. VMB_E_CLOSED: the peer left by itself. */
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
 * Any thread. VMB_OK, VMB_E_INVALID (size 8..240), VMB_E_CLOSED, VMB_E_LIMIT (queue full), VMB_E_NO_MEMORY or
 * VMB_E_IO (it cannot be kept): after the last three the port cuts the peer off and closed() follows from the
 * next poll, because a message that is lost leaves the peer waiting for ever.
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
/*
 * Descriptors are closed; the caller has stopped using them. Also legal after closed(), and for a doorbell that is not
 * open. Host: a doorbell that a later OpenChannel of the same channel brought stays and can be opened now.
 */
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
/*
 * End the connection: the peer sees it closed after what was sent before; messages not delivered to us yet are
 * dropped; our closed() is raised by the next poll (or the one that runs) with these words, unless the connection has ended
 * already. Any thread.
 */
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

/*
 * Two connected ports; `guest_memory` (may be NULL) is what both report, from the start. At most 8192 messages wait for
 * an end; there is no other limit. VMB_OK, VMB_E_NO_MEMORY, VMB_E_IO.
 */
VMB_MUST_CHECK enum vmb_status vmb_loopback_create(struct vmb_mem *guest_memory,
                                                   struct vmb_port **host, struct vmb_port **guest);

/* ---- unix: another process ----------------------------------------------------------------- */

/*
 * AF_UNIX SOCK_SEQPACKET, one control message per packet, unaltered. Descriptors ride along: the
 * guest-RAM memfd with InitiateContact (each time the same, sealed against shrinking), a pair of eventfds (signal
 * to host, signal to guest) with OpenChannel, or none if the guest wants no interrupts. There are no connection
 * ids on a socket: a host sees InitiateContact of version 5.0 and later on VMB_CONNECTION_ID_MULTI_CLIENT,
 * everything else on VMB_CONNECTION_ID_LEGACY.
 *
 * Both ends treat the other as hostile and cut it off with a reason: datagrams that are no messages and wrong
 * descriptors (VMB_E_MALFORMED), more than the limits allow (VMB_E_LIMIT), unread messages (VMB_E_TIMEOUT), memory that
 * cannot be mapped (VMB_E_ACCESS, VMB_E_NO_MEMORY). A host stops reading while answers wait; a guest always reads.
 */
/* A host's, per client. A guest uses the defaults. */
struct vmb_unix_limits {
	uint32_t queue_messages;     /* unread messages kept for a peer; 0 = 8192 */
	uint32_t stall_ms;           /* longest time a peer may take nothing from its queue; 0 = 10000 */
	uint32_t messages_per_second;/* sustained; 0 = 200000. Twice this may come in a burst */
	uint64_t memory_bytes;       /* largest guest RAM accepted; 0 = 64 GiB */
	uint32_t channels;           /* doorbells kept for a guest, two descriptors each; 0 = 256 */
};

struct vmb_unix_listener;
/*
 * Listen on a path. A stale socket file nobody listens on is replaced. Mode 0600 unless `mode` is non-zero.
 * VMB_E_EXISTS: somebody serves that path. VMB_E_INVALID: path empty or too long, mode beyond 0777. VMB_E_BUSY:
 * somebody keeps the directory locked. VMB_E_IO: see errno (EADDRINUSE: what is there is no socket). VMB_E_NO_MEMORY.
 * `limits` may be NULL. Abstract names are not supported: they have no permissions.
 */
VMB_MUST_CHECK enum vmb_status vmb_unix_listen(const char *path, unsigned mode,
                                               const struct vmb_unix_limits *limits,
                                               struct vmb_unix_listener **listener);
int vmb_unix_listener_fd(const struct vmb_unix_listener *listener);
/*
 * One waiting client: VMB_OK, VMB_EMPTY, VMB_E_IO (errno EMFILE, ENFILE: it was turned away), VMB_E_NO_MEMORY. `who`
 * describes the peer ("pid 12, uid 0"), for logs.
 */
VMB_MUST_CHECK enum vmb_status vmb_unix_accept(struct vmb_unix_listener *listener,
                                               struct vmb_port **port, char who[64]);
/* Removes the socket file. Accepted ports live on. */
void vmb_unix_listener_destroy(struct vmb_unix_listener *listener);

/*
 * Connect as a guest whose RAM is `arena`. VMB_E_NOT_FOUND: nobody listens; VMB_E_ACCESS; VMB_E_TIMEOUT: its backlog
 * stayed full for 2 s; VMB_E_INVALID: path empty or too long; VMB_E_IO, VMB_E_NO_MEMORY.
 */
VMB_MUST_CHECK enum vmb_status vmb_unix_connect(const char *path, struct vmb_arena *arena,
                                                struct vmb_port **port);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
