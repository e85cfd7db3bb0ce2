/* SPDX-License-Identifier: MIT */
/*
 * The unix port's own parts. One connection is an AF_UNIX SOCK_SEQPACKET socket, one control
 * message per datagram. unix_port.c is the port, unix_receive.c judges what the peer sends,
 * unix_listen.c and unix_connect.c make connections, unix_access.c says who may, unix_save.c gives one to another process.
 */
#ifndef PORT_UNIX_H
#define PORT_UNIX_H

#include <sys/un.h>

#include "port/bucket.h"
#include "port/core.h"
#include "port/fds.h"
#include "port/parcel.h"
#include "port/queue.h"

struct unix_port {
	struct port_core core;
	struct vmb_unix_limits limits;  /* no zeros: defaults are filled in */
	int sock;
	int epoll;                      /* what the owner polls: the three below */
	int timer;                      /* fires when the peer may have stalled, or may be read again */
	int wake;                       /* eventfd: look again, the connection may have ended */
	int ram_fd;                     /* guest: sent with InitiateContact; host: -1 */
	int peer_ram_fd;                /* host: the guest's, owned by core.memory */
	struct port_queue out;          /* lock; what the peer has not taken yet */
	uint64_t progress_ns;           /* lock; when it last took something while others waited */
	uint32_t interest;              /* lock; epoll events asked of the socket; 0: it is not in the set */
	uint64_t paused_until_ns;       /* lock; host: a client that was too fast is not read before; 0 = is read */
	bool peer_left;                 /* lock; sending failed for good, reading may go on */
	bool heard;                     /* polling thread; something came already */
	struct port_bucket bucket;      /* polling thread; how fast the peer may send */
	struct port_ram ram;            /* polling thread; host: guest RAM, bytes 0 = none yet */
};

/*
 * Takes over `sock` (also on failure). `memory` gets a reference; `ram_fd` is duplicated. Host:
 * NULL, -1.
 */
VMB_MUST_CHECK enum vmb_status unix_port_create(int sock, bool is_host,
                                                const struct vmb_unix_limits *limits,
                                                struct vmb_mem *memory, int ram_fd,
                                                struct vmb_port **port);

/* False: the path is empty or too long. */
VMB_MUST_CHECK bool unix_address_of(const char *path, struct sockaddr_un *address);

/* End the connection; any thread, lock not held. */
void unix_port_close(struct unix_port *up, enum vmb_status why, const char *reason);

/* After the state was filled in from outside: clocks and what is waited for. Lock not held. */
void unix_port_resume(struct unix_port *up);
/*
 * Host: the guest's memory is this file; `wrong` says what is wrong with it after VMB_E_MALFORMED. On
 * success the descriptor is the port's.
 */
VMB_MUST_CHECK enum vmb_status unix_port_set_ram(struct unix_port *up, int fd, const char **wrong);
enum vmb_status unix_port_save(struct vmb_port *port, struct vmb_parcel *parcel);
VMB_MUST_CHECK enum vmb_status unix_port_load(struct vmb_parcel *parcel, struct vmb_chunk *chunk,
                                              struct vmb_port **port);

enum unix_received {
	UNIX_MESSAGE,           /* one message to deliver */
	UNIX_NOTHING,           /* nothing there now */
	UNIX_GONE,              /* the peer closed its end and everything before that was read */
	UNIX_REFUSED,           /* the peer broke a rule; the port is closing */
};
/* Polling thread. Descriptors of an accepted message have found their place before this returns. */
enum unix_received unix_receive(struct unix_port *up, uint64_t now_ns,
                                struct port_message *message);

/* What all unix ports of this process take for the time: CLOCK_MONOTONIC, or what a test has set. */
uint64_t unix_now_ns(void);
void unix_set_clock(uint64_t (*now_ns)(void));

#endif
