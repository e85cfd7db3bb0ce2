/* SPDX-License-Identifier: MIT */
/*
 * Who may be at the other end of a unix socket. The kernel says who is there (SO_PEERCRED); nothing that the
 * peer sends has a part in it.
 */
#ifndef PORT_UNIX_ACCESS_H
#define PORT_UNIX_ACCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "vmb/port.h"

/* How every refusal begins: the one datagram that a client gets which is no message. */
#define UNIX_REFUSAL "connection refused: "
#define UNIX_REFUSAL_BYTES VMB_MSG_MAX_BYTES

struct unix_peer {
	pid_t pid;
	uid_t uid;
	gid_t gid;
	gid_t *groups;          /* the other ones; free(3) */
	uint32_t group_count;
};

/* False: the kernel does not say; nobody is allowed then. */
VMB_MUST_CHECK bool unix_peer_of(int sock, struct unix_peer *peer);
void unix_peer_forget(struct unix_peer *peer);
/* "pid 12, uid 0" */
void unix_peer_name(const struct unix_peer *peer, char who[64]);

VMB_MUST_CHECK bool unix_access_is_valid(const struct vmb_unix_access *access);
/* `owner` is allowed, and so is root, which could take what it is refused here. */
VMB_MUST_CHECK bool unix_access_permits(const struct vmb_unix_access *access, uid_t owner,
                                        const struct unix_peer *peer);

/* Tell the client in one datagram; it gets nothing else. Takes over `sock`. */
void unix_refuse_client(int sock, const char *why);
/*
 * The host refused, and these are its words without control characters. False: this is something else. Text
 * from a peer: for people only.
 */
VMB_MUST_CHECK bool unix_refusal_text(const void *datagram, uint32_t bytes, char *text, size_t text_bytes);

#endif
