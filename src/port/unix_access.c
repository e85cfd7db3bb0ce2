/* SPDX-License-Identifier: MIT */
/*
 * Who may be at the other end of a unix socket, and how somebody who may not is told. A client that is refused
 * gets one datagram of text and the end: no descriptor, no message of the bus, no memory of ours.
 */
#include "port/unix_access.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* What the kernel lets a process have. */
#define GROUPS_MAX 65536u

/* False: the kernel does not tell all of them. */
static bool
read_groups(int sock, struct unix_peer *peer)
{
	socklen_t bytes = 0;

	/* Asked without room it says how much it takes. */
	if (getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, NULL, &bytes) == 0 || bytes == 0)
		return true;
	if (errno == ENOPROTOOPT) /* before Linux 4.13 */
		return true;
	if (errno != ERANGE || bytes > GROUPS_MAX * sizeof(gid_t))
		return false;
	peer->groups = malloc(bytes);
	if (peer->groups == NULL ||
	    getsockopt(sock, SOL_SOCKET, SO_PEERGROUPS, peer->groups, &bytes) != 0) {
		free(peer->groups);
		peer->groups = NULL;
		return false;
	}
	peer->group_count = (uint32_t)(bytes / sizeof(gid_t));
	return true;
}

bool
unix_peer_of(int sock, struct unix_peer *peer)
{
	struct ucred credentials;
	socklen_t bytes = sizeof(credentials);

	memset(peer, 0, sizeof(*peer));
	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &credentials, &bytes) != 0)
		return false;
	peer->pid = credentials.pid;
	peer->uid = credentials.uid;
	peer->gid = credentials.gid;
	return read_groups(sock, peer);
}

void
unix_peer_forget(struct unix_peer *peer)
{
	free(peer->groups);
	peer->groups = NULL;
}

void
unix_peer_name(const struct unix_peer *peer, char who[64])
{
	snprintf(who, 64, "pid %ld, uid %lu", (long)peer->pid, (unsigned long)peer->uid);
}

bool
unix_access_is_valid(const struct vmb_unix_access *access)
{
	return access->uid_count <= VMB_UNIX_ACCESS_MAX && access->gid_count <= VMB_UNIX_ACCESS_MAX;
}

static bool
contains(const uint32_t *list, uint32_t count, uint32_t id)
{
	for (uint32_t i = 0; i < count; i++) {
		if (list[i] == id)
			return true;
	}
	return false;
}

bool
unix_access_permits(const struct vmb_unix_access *access, uid_t owner, const struct unix_peer *peer)
{
	if (peer->uid == owner || peer->uid == 0 ||
	    contains(access->uids, access->uid_count, peer->uid) ||
	    contains(access->gids, access->gid_count, peer->gid))
		return true;
	for (uint32_t i = 0; i < peer->group_count; i++) {
		if (contains(access->gids, access->gid_count, peer->groups[i]))
			return true;
	}
	return false;
}

void
unix_refuse_client(int sock, const char *why)
{
	char text[UNIX_REFUSAL_BYTES];
	int length = snprintf(text, sizeof(text), UNIX_REFUSAL "%s", why);

	if (length >= (int)sizeof(text))
		length = (int)sizeof(text) - 1;
	/* One that does not listen has lost the answer, and not our time. */
	(void)!send(sock, text, (size_t)length, MSG_DONTWAIT | MSG_NOSIGNAL);
	close(sock);
}

bool
unix_refusal_text(const void *datagram, uint32_t bytes, char *text, size_t text_bytes)
{
	const size_t prefix = strlen(UNIX_REFUSAL);
	const char *from = datagram;
	size_t count = bytes < text_bytes ? bytes : text_bytes - 1;

	if (bytes <= prefix || memcmp(datagram, UNIX_REFUSAL, prefix) != 0)
		return false;
	for (size_t i = 0; i < count; i++)
		text[i] = from[i] >= ' ' && from[i] <= '~' ? from[i] : '?';
	text[count] = '\0';
	return true;
}
