/* SPDX-License-Identifier: MIT */
/*
 * The unix port's own parts. One connection is an AF_UNIX SOCK_SEQPACKET socket, one control
 * message per datagram. unix_port.c is the port, unix_receive.c judges what the peer sends,
 * unix_listen.c makes connections.
 */
#ifndef PORT_UNIX_H
#define PORT_UNIX_H

#include "port/core.h"
#include "port/fds.h"
#include "port/queue.h"

struct unix_port {
	struct port_core core;
	struct vmb_unix_limits limits;  /* no zeros: defaults are filled in */
	int sock;
	int epoll;                      /* what the owner polls: the three below */
	int timer;                      /* fires when the peer may have stalled */
	int wake;                       /* eventfd: look again, the connection may have ended */
	int ram_fd;                     /* guest: sent with InitiateContact; host: -1 */
	struct port_queue out;          /* lock; what the peer has not taken yet */
	uint64_t progress_ns;           /* lock; when it last took something while others waited */
	uint32_t interest;              /* lock; epoll events asked of the socket */
	bool peer_left;                 /* lock; sending failed for good, reading may go on */
	uint64_t allowance_ns;          /* polling thread; flood accounting, see unix_receive.c */
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

/* End the connection; any thread, lock not held. */
void unix_port_close(struct unix_port *up, enum vmb_status why, const char *reason);

enum unix_received {
	UNIX_MESSAGE,           /* one message to deliver */
	UNIX_NOTHING,           /* nothing there now */
	UNIX_GONE,              /* the peer closed its end and everything before that was read */
	UNIX_REFUSED,           /* the peer broke a rule; the port is closing */
};
/* Polling thread. Descriptors of an accepted message have found their place before this returns. */
enum unix_received unix_receive(struct unix_port *up, uint64_t now_ns,
                                struct port_message *message);

uint64_t unix_now_ns(void);

#endif
