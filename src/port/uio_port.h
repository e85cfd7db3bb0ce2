/* SPDX-License-Identifier: MIT */
/*
 * Inside of the uio port, which answers what our own bus machine posts, in the place of the host, and looks after the devices:
 * uio_host.c has the conversation, uio_worker.c what takes time, uio_port.c the port's operations, uio_connect.c its beginning.
 *
 * An *offer* is what our machine was told of one device; a *use* is one open doorbell and what is behind it. They end
 * separately: the rings of a device that was rescinded, or of a connection that was unloaded, stay until the doorbell is
 * closed, because until then somebody may be working in them.
 *
 * Everything is guarded by core.lock, except that a use's descriptor and mapping change in the worker only.
 */
#ifndef PORT_UIO_PORT_H
#define PORT_UIO_PORT_H

#include <pthread.h>
#include <sys/eventfd.h>

#include "port/core.h"
#include "port/queue.h"
#include "port/uio.h"

#define UIO_STATUS_REFUSED 0xC0000001u /* STATUS_UNSUCCESSFUL */

struct uio_offer {
	struct uio_offer *next;
	struct uio_device device;
	bool rescinded;                 /* our machine has not released the id yet */
	bool seen;                      /* worker: by the scan under way */
};

struct uio_use {
	struct uio_use *next;
	struct uio_device device;
	int fd;                         /* a placeholder until the device is open, then the device */
	struct uio_open open;           /* worker; read by others once `opened` */
	bool wanted;                    /* the worker is to open it */
	bool opened;
	bool closed;                    /* the doorbell is: the worker is to give everything back */
	uint32_t open_id;
	char why[UIO_WHY_BYTES];        /* of the last open that failed */
};

struct uio_port {
	struct port_core core;
	const struct uio_ops *ops;
	char *sys, *dev;
	struct uio_roots roots;
	struct vmb_guid which;
	bool has_which, unbound;
	uint32_t rescan_ms;             /* 0 = only when told */
	char no_external[UIO_WHY_BYTES];
	struct vmb_arena *arena;
	int wake;                       /* readable = poll has work */
	int nudge;                      /* readable = the worker has */
	int uevents;                    /* netlink, or -1 */
	pthread_t worker;
	bool has_worker;
	/* core.lock from here on. */
	struct port_queue inbox;
	uint32_t version;               /* 0 = no contact */
	struct uio_offer *offers;
	struct uio_use *uses;
	bool wants_offers;              /* asked for in this contact */
	bool owes_all_offers;           /* and the end of the present ones was not said */
	bool scan;                      /* somebody wants one, or the last found out nothing */
	bool stop;
};

static inline struct uio_port *
uio_of(struct vmb_port *port)
{
	return (struct uio_port *)(void *)port;
}

static inline void
uio_signal(int fd)
{
	/* Cannot fail: our own counter, read back to zero by whoever waits for it. */
	(void)!eventfd_write(fd, 1);
}

extern const struct vmb_port_ops uio_port_ops;

/* Lock: end of the connection, once. */
void uio_close_locked(struct uio_port *up, enum vmb_status why, const char *reason);
/* The use of a channel whose doorbell is open; NULL. */
struct uio_use *uio_find_use_locked(struct uio_port *up, uint32_t channel_id);

/* ---- uio_host.c; lock ---- */

/* What a host does on a message of its guest's. */
void uio_host_message_locked(struct uio_port *up, const struct vmb_msg *msg);
void uio_host_open_result_locked(struct uio_port *up, uint32_t channel_id, uint32_t open_id,
                                 uint32_t status);
/* Offers follow the devices that there are now. False: for lack of memory not all of them do, and it is to be done again. */
VMB_MUST_CHECK bool uio_host_compare_locked(struct uio_port *up, const struct uio_device *devices, uint32_t count);
void uio_host_forget_locked(struct uio_port *up);

/* ---- uio_worker.c ---- */

/* The thread that does what takes time. False: there is none to be had. */
bool uio_worker_start(struct uio_port *up);
/* Everything that is open is given back. */
void uio_worker_stop(struct uio_port *up);
void uio_want_scan_locked(struct uio_port *up);

#endif
