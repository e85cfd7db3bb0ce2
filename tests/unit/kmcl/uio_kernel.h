/* SPDX-License-Identifier: MIT */
/*
 * What stands in for the kernel of a Linux guest in the tests of uio: it has the connection to the host, shows the
 * host's offers in a tree like sysfs, owns the rings of what is opened, and behaves towards user space as uio_hv_generic does, the older one
 * that masks interrupts before it wakes its user included. The host is a real one.
 */
#ifndef T_UIO_KERNEL_H
#define T_UIO_KERNEL_H

#include "../port/uio_tree.h"
#include "t_kmcl.h"
#include "vmb/bus.h"

#define T_KERNEL_DEVICES 8u

struct t_kernel_device {
	struct t_kernel *kernel;
	struct vmb_msg_offer offer;
	bool known, dead, open, created, torn, answered;
	uint32_t gpadl, status;
	uint8_t *rings;
	int user_fd;                    /* what wakes the user; the user has a duplicate */
	struct vmb_doorbell bell;
};

struct t_kernel {
	struct t_tree tree;
	struct uio_ops ops;
	struct vmb_mem *space;          /* what the host sees of us */
	struct kmcl_bus *host;
	struct vmb_port *port;
	struct vmb_bus_client *client;
	uint8_t *memory;                /* of the kernel's own: rings */
	int memory_fd;
	uint32_t ring_pages;            /* of both */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	pthread_t thread;
	int epoll, stop_fd;
	struct t_kernel_device devices[T_KERNEL_DEVICES];
	_Atomic uint32_t opens, closes, kicks;
	/* Of the client under test. */
	struct kmcl_bus *guest;
};

/* A host bus, the kernel on it, and a guest bus of ours through the uio port. */
void t_kernel_start(struct t_kernel *k, uint32_t ring_pages);
void t_kernel_stop(struct t_kernel *k);
/* The host learns where those pages are that are in use now, each by its number in the machine. */
void t_kernel_share_arena(struct t_kernel *k, struct vmb_arena *arena);

/* ---- a server and a client of it ---------------------------------------------------------------------- */

extern const GUID t_uio_type;

/* Answers with the payload; turns over every bit of external data. */
VMBCHANNEL t_uio_server(struct t_kernel *k);
VMBCHANNEL t_uio_client(uint32_t max_packet, uint32_t max_external);
void t_uio_end(VMBCHANNEL channel);
/* One synchronous request; true if the right answer came. */
bool t_uio_request(VMBCHANNEL channel, uint32_t number, uint32_t bytes, PMDL mdl, NTSTATUS *status);
/* So many packets, many at a time, each answered rightly. */
void t_uio_flood(VMBCHANNEL channel, uint32_t count, uint32_t bytes);

#endif
