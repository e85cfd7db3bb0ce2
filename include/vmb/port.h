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
#include "vmb/msg.h"
#include "vmb/ring.h"
#include "vmb/status.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct vmb_port;
struct vmb_parcel;              /* bytes and descriptors for another process (src/port/parcel.h) */

/*
 * How a port tells its owner. Called only inside vmb_port_poll(), on its thread, never under a lock of
 * the port; the handler may call every vmb_port function except destroy and poll.
 */
struct vmb_port_handler {
	/*
	 * `message` is a private copy of 8..240 bytes, valid during the call. connection_id is what
	 * the guest posted on (a host sees it); a guest always sees 0.
	 */
	void (*message)(void *ctx, uint32_t connection_id, const void *message, uint32_t bytes);
	/*
	 * Last call ever. `reason` reads as a sentence without a full stop. VMB_E_CLOSED: the peer
	 * left by itself.
	 */
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
	void *own;              /* the port's */
};

/* How a guest wants to be told of a channel's signals, and how it tells: what a host's bus machine knows of the open channel. */
struct vmb_port_route {
	uint32_t connection_id; /* the guest signals on it */
	uint32_t target_vp;     /* virtual processor that is interrupted; VMB_VP_NONE = none */
	uint32_t event_flag;    /* bit that is set for it there */
	uint32_t monitor_id;    /* or through this bit of its monitor page; VMB_MONITOR_NONE = never */
};

/*
 * The rings of an open channel where a port has them from elsewhere (a kernel, say) than from the guest's memory. Control
 * pages are included in the counts; the incoming ring follows the outgoing one.
 */
struct vmb_port_rings {
	void *base;             /* control page of the outgoing ring */
	uint32_t out_pages, in_pages;
};

#define VMB_PORT_WHY_BYTES 200u

struct vmb_port_ops {
	const char *name;       /* "loopback", "unix", ... */
	enum vmb_status (*post)(struct vmb_port *port, uint32_t address, const void *message,
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
	void (*doorbell_keep)(struct vmb_port *port, uint32_t channel_id);
	/*
	 * ring() is a write to ring_fd and nothing else, so it may be left to another process. (wait_fd is an
	 * eventfd and may be handed on in any case: whoever polls it hears the peer.)
	 */
	bool rings_by_fd;
	/* NULL: it cannot leave this process. */
	enum vmb_status (*save)(struct vmb_port *port, struct vmb_parcel *parcel);
	/* NULL: its guests have no processors and no connection ids. */
	enum vmb_status (*route)(struct vmb_port *port, uint32_t channel_id,
	                         const struct vmb_port_route *route);
	/* NULL: its guests signal through doorbells only. */
	void (*watch_monitor)(struct vmb_port *port, uint64_t page);
	/* NULL: the guest makes the rings and describes them to the host. */
	enum vmb_status (*rings)(struct vmb_port *port, uint32_t channel_id, struct vmb_port_rings *rings);
	/* NULL: the host knows pages by the numbers that memory() has. */
	bool (*translate)(struct vmb_port *port, uint8_t *pfns, uint32_t count);
	/* NULL: the peer is elsewhere. */
	const struct vmb_ring_local *(*local)(void);
	/* NULL: it has nothing to say. */
	bool (*why)(struct vmb_port *port, uint32_t channel_id, char text[VMB_PORT_WHY_BYTES]);
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
 * `address`: a guest names the connection id that it posts on; a host names the virtual processor that
 * is to be told (vmb_bus_server_message_vp()). Any thread. VMB_OK, VMB_E_INVALID (size 8..240), VMB_E_CLOSED, VMB_E_LIMIT (queue full), VMB_E_NO_MEMORY or
 * VMB_E_IO (it cannot be kept): after the last three the port cuts the peer off and closed() follows from the
 * next poll, because a message that is lost leaves the peer waiting for ever.
 */
VMB_MUST_CHECK static inline enum vmb_status
vmb_port_post(struct vmb_port *port, uint32_t address, const void *message, uint32_t bytes)
{
	return port->ops->post(port, address, message, bytes);
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
 * Make the doorbell of a channel. Guest: before it posts OpenChannel (the port hands it to the host
 * with that very message). Host: while it handles OpenChannel or later, until CloseChannel was
 * answered. Any thread. VMB_OK, VMB_E_INVALID (id not 1..2047), VMB_E_EXISTS, VMB_E_NOT_FOUND
 * (host: the guest brought none), VMB_E_CLOSED, VMB_E_IO.
 */
VMB_MUST_CHECK static inline enum vmb_status
vmb_port_doorbell_open(struct vmb_port *port, uint32_t channel_id, struct vmb_doorbell *doorbell)
{
	return port->ops->doorbell_open(port, channel_id, doorbell);
}
/*
 * Descriptors are closed; the caller has stopped using them. Also legal after closed(), and for a
 * doorbell that is not open. Host: a doorbell that a later OpenChannel of the same channel brought
 * stays and can be opened now.
 */
static inline void
vmb_port_doorbell_close(struct vmb_port *port, uint32_t channel_id)
{
	port->ops->doorbell_close(port, channel_id);
}
/*
 * Host: this end stops using the doorbell and the channel stays open: its next user opens the same
 * doorbell again. No effect for one that is not open.
 */
static inline void
vmb_port_doorbell_keep(struct vmb_port *port, uint32_t channel_id)
{
	port->ops->doorbell_keep(port, channel_id);
}
/*
 * Host: how the signals of a channel travel, before vmb_port_doorbell_open(); and again, with another
 * target_vp, when the guest moves them: once this has returned the old processor gets no more of them.
 * Any thread. VMB_OK; VMB_E_INVALID: the guest has no such processor, flag or id, and the route is as
 * before.
 */
VMB_MUST_CHECK static inline enum vmb_status
vmb_port_route(struct vmb_port *port, uint32_t channel_id, const struct vmb_port_route *route)
{
	return port->ops->route != NULL ? port->ops->route(port, channel_id, route) : VMB_OK;
}
/*
 * Host: the guest may signal by setting bits of this page (guest-physical address of its monitor page to the
 * host; vmbus-protocol 5.7), which are the routes' monitor ids; 0 = not any more. Any thread.
 */
static inline void
vmb_port_watch_monitor(struct vmb_port *port, uint64_t page)
{
	if (port->ops->watch_monitor != NULL)
		port->ops->watch_monitor(port, page);
}
/* Signal the peer. Any thread, never blocks on an honest or saturated descriptor. VMB_OK or VMB_E_CLOSED. */
static inline enum vmb_status
vmb_port_ring(struct vmb_port *port, const struct vmb_doorbell *doorbell)
{
	return port->ops->ring(port, doorbell);
}

/*
 * Guest: whether this port brings the rings of its channels. Then the guest describes none, OpenChannel names no GPADL, and the
 * doorbell is opened before it as always. Between a successful OpenResult and vmb_port_doorbell_close() the rings are at the
 * place that vmb_port_rings() says, and may hold packets already; they are in use until then, whatever else happens.
 * Who processes the incoming ring owns its interrupt mask, but at a wake-up, and after vmb_port_ring(), it may have either
 * value: set it before draining, clear it and look again before waiting.
 */
static inline bool
vmb_port_has_rings(const struct vmb_port *port)
{
	return port->ops->rings != NULL;
}
/* VMB_OK, VMB_E_NOT_FOUND (not open), VMB_E_UNSUPPORTED (has none). Any thread. */
VMB_MUST_CHECK static inline enum vmb_status
vmb_port_rings(struct vmb_port *port, uint32_t channel_id, struct vmb_port_rings *rings)
{
	return port->ops->rings != NULL ? port->ops->rings(port, channel_id, rings) : VMB_E_UNSUPPORTED;
}

/*
 * The peer of this port is in this process: what our ends of rings are to be given (vmb_ring_tx_set_local()); it lives as long as the
 * process. A relay behind the peer changes nothing, because the ends beyond it have a port of another kind. NULL: our ends follow
 * the VMBus rule, because the peer is elsewhere or the kernel refuses the fence. Any thread.
 */
static inline const struct vmb_ring_local *
vmb_port_local(const struct vmb_port *port)
{
	return port->ops->local != NULL ? port->ops->local() : NULL;
}

/*
 * Guest: turn page numbers of its memory into those that the host knows, in place, on the way into a ring. `pfns` is
 * little-endian u64 in private memory, at any alignment. False: the host cannot be told about these pages (vmb_port_why() with channel 0 says
 * why), and they may hold anything. Any thread.
 */
static inline bool
vmb_port_translates(const struct vmb_port *port)
{
	return port->ops->translate != NULL;
}
VMB_MUST_CHECK static inline bool
vmb_port_translate(struct vmb_port *port, uint8_t *pfns, uint32_t count)
{
	return port->ops->translate == NULL || port->ops->translate(port, pfns, count);
}

/*
 * In words, without a full stop, why a channel could not be opened (while its doorbell is open), or with channel 0 why pages cannot be
 * translated. False: the port has nothing to say. Any thread.
 */
static inline bool
vmb_port_why(struct vmb_port *port, uint32_t channel_id, char text[VMB_PORT_WHY_BYTES])
{
	return port->ops->why != NULL && port->ops->why(port, channel_id, text);
}

/* Readable when vmb_port_poll() has something to do. Level-triggered. */
static inline int
vmb_port_poll_fd(struct vmb_port *port)
{
	return port->ops->poll_fd(port);
}
/*
 * Deliver what came, send what waits; returns when there is nothing more or a fair share (64
 * messages) was handled.
 */
static inline void
vmb_port_poll(struct vmb_port *port)
{
	port->ops->poll(port);
}
/*
 * End the connection: the peer sees it closed after what was sent before; messages not delivered to
 * us yet are dropped; our closed() is raised by the next poll (or the one that runs) with these
 * words, unless the connection has ended already. Any thread.
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

/*
 * Host: put everything that another process needs to go on with this connection into a parcel: the
 * peer's socket and memory, doorbells, messages that wait. Nobody polls the port meanwhile, and no
 * doorbell is open that the other process will not want to open again. Descriptors are borrowed:
 * the port must live until the parcel was sent. It stays as it is; once the other process has it,
 * destroying this one tells the peer nothing. VMB_OK, VMB_E_UNSUPPORTED, VMB_E_CLOSED (the
 * connection has ended), VMB_E_NO_MEMORY.
 */
VMB_MUST_CHECK static inline enum vmb_status
vmb_port_save(struct vmb_port *port, struct vmb_parcel *parcel)
{
	return port->ops->save != NULL ? port->ops->save(port, parcel) : VMB_E_UNSUPPORTED;
}
/*
 * A port out of a parcel, of the kind that was saved. Nothing is sent or received before its
 * handler is set and it is polled. VMB_OK, VMB_E_MALFORMED, VMB_E_UNSUPPORTED (an unknown kind, or
 * another version), VMB_E_NO_MEMORY, VMB_E_ACCESS, VMB_E_IO.
 */
VMB_MUST_CHECK enum vmb_status vmb_port_load(struct vmb_parcel *parcel, struct vmb_port **port);

/* ---- loopback: both partitions in this process --------------------------------------------- */

/*
 * Two connected ports; `guest_memory` (may be NULL) is what both report, from the start. At most
 * 8192 messages wait for an end; there is no other limit. VMB_OK, VMB_E_NO_MEMORY, VMB_E_IO.
 */
VMB_MUST_CHECK enum vmb_status vmb_loopback_create(struct vmb_mem *guest_memory,
                                                   struct vmb_port **host, struct vmb_port **guest);

/* ---- unix: another process ----------------------------------------------------------------- */

/*
 * AF_UNIX SOCK_SEQPACKET, one control message per packet, unaltered. Descriptors ride along: the
 * guest-RAM memfd with InitiateContact (each time the same, sealed against shrinking), a pair of
 * eventfds (signal to host, signal to guest) with OpenChannel, or none if the guest wants no
 * interrupts. There are no connection ids on a socket: a host sees InitiateContact of version 5.0
 * and later on VMB_CONNECTION_ID_MULTI_CLIENT, everything else on VMB_CONNECTION_ID_LEGACY.
 *
 * Both ends treat the other as hostile and cut it off with a reason: datagrams that are no messages
 * and wrong descriptors (VMB_E_MALFORMED), more than the limits allow (VMB_E_LIMIT), unread
 * messages (VMB_E_TIMEOUT), memory that cannot be mapped (VMB_E_ACCESS, VMB_E_NO_MEMORY). A host
 * stops reading while answers wait; a guest always reads.
 */
/* A host's, per client. A guest uses the defaults. */
struct vmb_unix_limits {
	uint32_t queue_messages;     /* unread messages kept for a peer; 0 = 8192 */
	uint32_t stall_ms;           /* longest time a peer may take nothing from its queue; 0 = 10000 */
	/*
	 * Sustained; 0 = 200000. Twice this may come in a burst. A client that sends more is not read for a while, so that it
	 * waits; a host that does is cut off, because a guest that stopped reading could wait for a host that waits for it.
	 */
	uint32_t messages_per_second;
	uint64_t memory_bytes;       /* largest guest RAM accepted; 0 = 64 GiB */
	uint32_t channels;           /* doorbells kept for a guest, two descriptors each; 0 = 256 */
};

/*
 * Who may be at the other end, besides the owner (the user of the process when it began to listen, or who connects) and root: by the
 * credentials that the kernel noted when the peer connected or began to listen. Ids are those of this process's user namespace;
 * everybody from another one may be 65534 in it.
 */
#define VMB_UNIX_ACCESS_MAX 32u
struct vmb_unix_access {
	uint32_t uids[VMB_UNIX_ACCESS_MAX], uid_count;
	uint32_t gids[VMB_UNIX_ACCESS_MAX], gid_count; /* a client's own group or one of its others */
};

struct vmb_unix_listener;
/*
 * Listen on a path. A stale socket file nobody listens on is replaced. Mode 0600 unless `mode` is
 * non-zero. VMB_E_EXISTS: somebody serves that path. VMB_E_INVALID: path empty or too long, mode
 * beyond 0777. VMB_E_BUSY: somebody keeps the directory locked. VMB_E_IO: see errno (EADDRINUSE:
 * what is there is no socket). VMB_E_NO_MEMORY. `limits` may be NULL. Abstract names are not
 * supported: they have no permissions.
 */
VMB_MUST_CHECK enum vmb_status vmb_unix_listen(const char *path, unsigned mode,
                                               const struct vmb_unix_limits *limits,
                                               struct vmb_unix_listener **listener);
/*
 * The same for others than the owner too, whom the permissions of the socket's directory must let pass. Mode 0 is
 * 0666 if `access` names anybody: its credentials decide. NULL = nobody. Copied. VMB_E_INVALID also for too many.
 */
VMB_MUST_CHECK enum vmb_status vmb_unix_listen_for(const char *path, unsigned mode,
                                                   const struct vmb_unix_limits *limits,
                                                   const struct vmb_unix_access *access,
                                                   struct vmb_unix_listener **listener);
int vmb_unix_listener_fd(const struct vmb_unix_listener *listener);
/*
 * One waiting client: VMB_OK, VMB_EMPTY, VMB_E_ACCESS (it may not connect: it was told so, given nothing else, and is
 * gone), VMB_E_IO (errno EMFILE, ENFILE: it was turned away), VMB_E_NO_MEMORY. `who` describes the peer
 * ("pid 12, uid 0"), for logs, and is set if there was one.
 */
VMB_MUST_CHECK enum vmb_status vmb_unix_accept(struct vmb_unix_listener *listener,
                                               struct vmb_port **port, char who[64]);
/*
 * Refuse one waiting client with these words, which it reads after "connection refused: ", and nothing else. VMB_EMPTY,
 * VMB_E_ACCESS: there was one, and `who` it was.
 */
VMB_MUST_CHECK enum vmb_status vmb_unix_turn_away(struct vmb_unix_listener *listener, const char *why,
                                                  char who[64]);
/* Removes the socket file. Accepted ports live on. NULL is allowed. */
void vmb_unix_listener_destroy(struct vmb_unix_listener *listener);
/*
 * As vmb_port_save() and vmb_port_load(). The one that was saved is given up with
 * vmb_unix_listener_abandon(), which leaves the socket file alone.
 */
VMB_MUST_CHECK enum vmb_status vmb_unix_listener_save(const struct vmb_unix_listener *listener,
                                                      struct vmb_parcel *parcel);
VMB_MUST_CHECK enum vmb_status vmb_unix_listener_load(struct vmb_parcel *parcel,
                                                      struct vmb_unix_listener **listener);
void vmb_unix_listener_abandon(struct vmb_unix_listener *listener);

/*
 * Connect as a guest whose RAM is `arena`, which the server may read and write from then on: so only to a server of this user or of
 * root. VMB_E_NOT_FOUND: nobody listens; VMB_E_ACCESS: the socket is closed to us, or it is somebody else's;
 * VMB_E_TIMEOUT: its backlog stayed full for 2 s; VMB_E_INVALID: path empty or too long; VMB_E_IO,
 * VMB_E_NO_MEMORY.
 */
VMB_MUST_CHECK enum vmb_status vmb_unix_connect(const char *path, struct vmb_arena *arena,
                                                struct vmb_port **port);
/*
 * The same to a server of one of these too; NULL = nobody. With VMB_E_ACCESS `reason`, if it is not empty, says what to do. A host
 * that refuses this client ends the connection with VMB_E_ACCESS in its own words.
 */
VMB_MUST_CHECK enum vmb_status vmb_unix_connect_to(const char *path, struct vmb_arena *arena,
                                                   const struct vmb_unix_access *servers,
                                                   struct vmb_port **port,
                                                   char reason[VMB_PORT_WHY_BYTES]);
/*
 * Connect for a guest whose RAM is `memory`, which must be one file (vmb_mem_file(); a virtual machine with a
 * hole in its memory has a hole in the file) that is sealed against shrinking. Never waits. As
 * vmb_unix_connect(); VMB_E_TIMEOUT: the backlog is full now; VMB_E_UNSUPPORTED: the memory cannot
 * be shared like that. `limits` and `servers` may be NULL; limits of memory and channels are a host's.
 */
VMB_MUST_CHECK enum vmb_status vmb_unix_connect_memory(const char *path, struct vmb_mem *memory,
                                                       const struct vmb_unix_limits *limits,
                                                       const struct vmb_unix_access *servers,
                                                       struct vmb_port **port,
                                                       char reason[VMB_PORT_WHY_BYTES]);
/*
 * As vmb_port_doorbell_open() of such a port, but the pair is not made: these eventfds are given to the host, as
 * the one that the guest signals and the one that the host signals. Duplicated.
 */
VMB_MUST_CHECK enum vmb_status vmb_unix_doorbell_open_with(struct vmb_port *port, uint32_t channel_id,
                                                           int to_host_fd, int to_guest_fd);

/* ---- uio: the host below this Linux guest ------------------------------------------------------ */

/*
 * Devices of this machine's own VMBus that the kernel's driver uio_hv_generic has given to user space. The kernel owns the
 * connection to the host, so this port answers control messages itself: it offers the devices that sysfs shows, opening a channel opens
 * /dev/uioN, and a device that goes is rescinded. Only primary channels; no user data with an open, and no GPADLs (both are
 * refused with STATUS_NOT_SUPPORTED), because the driver has no way to pass them on. Rings are the kernel's: 2 MiB each, or
 * what the kernel thinks right for the class.
 *
 * External data needs a physical arena (vmb_arena_create_physical()), because the host knows pages by their real numbers; in a
 * confidential machine there is no way. Everything else works with any arena.
 *
 * Opening and closing a device waits in the kernel for the host, without a limit, on a thread of the port's own; vmb_port_destroy()
 * waits for that.
 */
struct vmb_uio_options {
	const char *sys_root;   /* NULL = KMCL_UIO_SYS from the environment, or /sys */
	const char *dev_root;   /* NULL = KMCL_UIO_DEV from the environment, or /dev */
	const struct vmb_guid *which; /* only devices of this class or instance; NULL = all */
	bool unbound;           /* offer devices of other drivers too, which cannot be opened */
	/*
	 * How often to look for devices; 0 = when the kernel tells of changes, or every second where it cannot. What cannot be looked
	 * at for lack of memory or descriptors counts as unchanged, and is looked at again soon.
	 */
	uint32_t rescan_ms;
	const char *no_external;/* said when external data cannot be sent; NULL = that the arena is not physical. Copied */
};
/*
 * `options` may be NULL. VMB_E_NOT_FOUND (no VMBus; the driver is not loaded; no bound device is `which`), VMB_E_IO,
 * VMB_E_NO_MEMORY; `reason`, filled on failure, says what to do.
 */
VMB_MUST_CHECK enum vmb_status vmb_uio_connect(const struct vmb_uio_options *options,
                                               struct vmb_arena *arena, struct vmb_port **port,
                                               char reason[VMB_PORT_WHY_BYTES]);
/*
 * Give every device of this class or instance to uio_hv_generic, or back to whoever else drives it. Devices that are there already
 * stay. VMB_E_NOT_FOUND (no such device, no VMBus, driver not loaded), VMB_E_ACCESS, VMB_E_UNSUPPORTED (older kernels, 6.1 for one, take
 * only channels that were offered with a monitor), VMB_E_IO, VMB_E_NO_MEMORY, with `reason`.
 */
VMB_MUST_CHECK enum vmb_status vmb_uio_bind(const struct vmb_uio_options *options,
                                            const struct vmb_guid *which,
                                            char reason[VMB_PORT_WHY_BYTES]);
VMB_MUST_CHECK enum vmb_status vmb_uio_unbind(const struct vmb_uio_options *options,
                                              const struct vmb_guid *which,
                                              char reason[VMB_PORT_WHY_BYTES]);

/* ---- by address ---------------------------------------------------------------------------------- */

/*
 * Connect this process, whose memory is vmb_arena_process(), as a guest:
 *   PATH             the unix socket of a host
 *   uio:             every device that is bound to uio_hv_generic
 *   uio:GUID         those of this class or instance
 *   uio:bind=GUID    the same, bound first
 *   uio:all          every device of the VMBus; those of other drivers can be seen and not opened
 * A path that begins with "uio:" is written "./uio:...". With uio, if it is the first thing that needs memory, the process's is made
 * physical (vmb_arena_process_want_physical()). Statuses of vmb_unix_connect() and vmb_uio_connect(), VMB_E_INVALID (address);
 * `reason` is empty if there is no more to say than the status.
 */
VMB_MUST_CHECK enum vmb_status vmb_guest_connect(const char *address, struct vmb_port **port,
                                                 char reason[VMB_PORT_WHY_BYTES]);
/* The same; at a socket a server of one of these will do, as for vmb_unix_connect_to(). NULL = nobody. */
VMB_MUST_CHECK enum vmb_status vmb_guest_connect_to(const char *address,
                                                    const struct vmb_unix_access *servers,
                                                    struct vmb_port **port,
                                                    char reason[VMB_PORT_WHY_BYTES]);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
