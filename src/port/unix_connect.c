/* SPDX-License-Identifier: MIT */
/*
 * A guest's way to a host's unix socket. Connecting gives the host our memory, so the kernel is asked first who the host is.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "port/unix.h"
#include "port/unix_access.h"

#define CONNECT_SECONDS 2

bool
unix_address_of(const char *path, struct sockaddr_un *address)
{
	size_t length = path == NULL ? 0 : strlen(path);

	/* An empty name would be an abstract or unnamed socket, which have no permissions. */
	if (length == 0 || length >= sizeof(address->sun_path))
		return false;
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path, path, length);
	return true;
}

static enum vmb_status
connect_error(int error)
{
	switch (error) {
	case ENOENT:
	case ECONNREFUSED:
		return VMB_E_NOT_FOUND;
	case EACCES:
	case EPERM:
		return VMB_E_ACCESS;
	case EAGAIN:
		return VMB_E_TIMEOUT;
	default:
		return VMB_E_IO;
	}
}

/* A connected, non-blocking socket. `type` may have SOCK_NONBLOCK: then it never waits. */
static enum vmb_status
connect_socket(const char *path, int type, int *connected)
{
	const struct timeval patience = { .tv_sec = CONNECT_SECONDS };
	struct sockaddr_un address;
	int sock, saved, result;

	if (!unix_address_of(path, &address))
		return VMB_E_INVALID;
	sock = socket(AF_UNIX, type, 0);
	if (sock < 0)
		return VMB_E_IO;
	(void)!setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	do {
		result = connect(sock, (const struct sockaddr *)&address, sizeof(address));
	} while (result != 0 && errno == EINTR);
	if (result != 0 || fcntl(sock, F_SETFL, O_NONBLOCK) != 0) {
		saved = errno;
		close(sock);
		errno = saved;
		return connect_error(saved);
	}
	*connected = sock;
	return VMB_OK;
}

/*
 * Whoever serves the socket will have our memory. Its credentials are those of the process that began to listen: a file
 * that somebody put in the place of the right one is seen through.
 */
static enum vmb_status
judge_server(int sock, const char *path, const struct vmb_unix_access *servers, char *reason)
{
	static const struct vmb_unix_access nobody;
	struct unix_peer peer;
	const bool known = unix_peer_of(sock, &peer);
	const bool permitted =
		known && unix_access_permits(servers != NULL ? servers : &nobody, geteuid(), &peer);

	unix_peer_forget(&peer);
	if (permitted)
		return VMB_OK;
	if (known)
		snprintf(reason, VMB_PORT_WHY_BYTES,
		         "the server at this socket is uid %lu, which could read and write the memory of this process; "
		         "to trust it say --allow-uid %lu",
		         (unsigned long)peer.uid, (unsigned long)peer.uid);
	else
		snprintf(reason, VMB_PORT_WHY_BYTES, "the system does not tell who serves %.60s; try again", path);
	return VMB_E_ACCESS;
}

/* connect_socket(), to a server that may be trusted. */
static enum vmb_status
connect_trusted(const char *path, int type, const struct vmb_unix_access *servers, int *connected,
                char reason[VMB_PORT_WHY_BYTES])
{
	int sock = -1;
	enum vmb_status st;

	reason[0] = '\0';
	if (servers != NULL && !unix_access_is_valid(servers))
		return VMB_E_INVALID;
	st = connect_socket(path, type, &sock);
	if (st == VMB_OK) {
		st = judge_server(sock, path, servers, reason);
		if (st != VMB_OK)
			close(sock);
	}
	*connected = sock;
	return st;
}

enum vmb_status
vmb_unix_connect(const char *path, struct vmb_arena *arena, struct vmb_port **port)
{
	char reason[VMB_PORT_WHY_BYTES];

	return vmb_unix_connect_to(path, arena, NULL, port, reason);
}

enum vmb_status
vmb_unix_connect_to(const char *path, struct vmb_arena *arena, const struct vmb_unix_access *servers,
                    struct vmb_port **port, char reason[VMB_PORT_WHY_BYTES])
{
	int sock;
	/* Blocking for the connect alone, which waits while the server's backlog is full. */
	enum vmb_status st =
		connect_trusted(path, SOCK_SEQPACKET | SOCK_CLOEXEC, servers, &sock, reason);

	if (st != VMB_OK)
		return st;
	return unix_port_create(sock, false, NULL, vmb_arena_mem(arena), vmb_arena_fd(arena), port);
}

enum vmb_status
vmb_unix_connect_memory(const char *path, struct vmb_mem *memory, const struct vmb_unix_limits *limits,
                        const struct vmb_unix_access *servers, struct vmb_port **port,
                        char reason[VMB_PORT_WHY_BYTES])
{
	int sock, fd, seals;
	enum vmb_status st = vmb_mem_file(memory, &fd);

	reason[0] = '\0';
	if (st != VMB_OK)
		return st;
	seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || (seals & F_SEAL_SHRINK) == 0)
		return VMB_E_UNSUPPORTED;
	st = connect_trusted(path, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, servers, &sock, reason);
	if (st != VMB_OK)
		return st;
	return unix_port_create(sock, false, limits, memory, fd, port);
}
