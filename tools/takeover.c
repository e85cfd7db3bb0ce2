/* SPDX-License-Identifier: MIT */
/* A connected pair of processes, both of the same user; neither waits for the other longer than it has patience. */
#include "takeover.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE_SECONDS 10
#define PIECE_BYTES 16384u
#define STATE_BYTES_MAX (64u << 20)

static bool
address_of(const char *bus_path, struct sockaddr_un *address)
{
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	return (size_t)snprintf(address->sun_path, sizeof(address->sun_path), "%s.takeover",
	                        bus_path) < sizeof(address->sun_path);
}

static bool
set_patience(int sock)
{
	const struct timeval patience = { .tv_sec = PATIENCE_SECONDS };

	return setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) == 0 &&
	       setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) == 0;
}

bool
takeover_listen(struct takeover_offer *offer, const char *bus_path)
{
	struct sockaddr_un address;
	mode_t mask;
	bool bound;

	offer->listen_fd = -1;
	if (!address_of(bus_path, &address)) {
		errno = ENAMETOOLONG;
		return false;
	}
	snprintf(offer->path, sizeof(offer->path), "%s", address.sun_path);
	offer->listen_fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (offer->listen_fd < 0)
		return false;
	/* The bus is ours, so whoever left a socket here serves it no more. */
	(void)unlink(offer->path);
	offer->owner = geteuid();
	mask = umask(0177);
	bound = bind(offer->listen_fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
	        listen(offer->listen_fd, 1) == 0;
	(void)umask(mask);
	if (bound)
		return true;
	close(offer->listen_fd);
	offer->listen_fd = -1;
	return false;
}

void
takeover_unlisten(struct takeover_offer *offer)
{
	if (offer->listen_fd < 0)
		return;
	(void)unlink(offer->path);
	takeover_abandon(offer);
}

void
takeover_abandon(struct takeover_offer *offer)
{
	if (offer->listen_fd >= 0)
		close(offer->listen_fd);
	offer->listen_fd = -1;
}

/* The socket's mode says as much; this says it whatever the file system thinks of modes. */
static bool
is_owner(const struct takeover_offer *offer, int sock)
{
	struct ucred peer;
	socklen_t bytes = sizeof(peer);

	return getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &bytes) == 0 &&
	       peer.uid == offer->owner;
}

int
takeover_accept(const struct takeover_offer *offer)
{
	int sock = accept4(offer->listen_fd, NULL, NULL, SOCK_CLOEXEC);

	if (sock < 0)
		return -1;
	if (is_owner(offer, sock) && set_patience(sock))
		return sock;
	close(sock);
	return -1;
}

int
takeover_connect(const char *bus_path)
{
	struct sockaddr_un address;
	int sock;

	if (!address_of(bus_path, &address))
		return -1;
	sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (sock < 0)
		return -1;
	if (set_patience(sock) &&
	    connect(sock, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return sock;
	close(sock);
	return -1;
}

bool
takeover_send_state(int sock, const void *state, size_t bytes)
{
	const uint64_t count = bytes;
	const uint8_t *at = state;

	if (send(sock, &count, sizeof(count), MSG_NOSIGNAL) != (ssize_t)sizeof(count))
		return false;
	while (bytes != 0) {
		size_t piece = bytes < PIECE_BYTES ? bytes : PIECE_BYTES;

		if (send(sock, at, piece, MSG_NOSIGNAL) != (ssize_t)piece)
			return false;
		at += piece;
		bytes -= piece;
	}
	return true;
}

static enum vmb_status
receive_state(int sock, void **state, size_t *bytes)
{
	uint64_t count;
	uint8_t *at;

	if (recv(sock, &count, sizeof(count), 0) != (ssize_t)sizeof(count))
		return VMB_E_CLOSED;
	if (count == 0 || count > STATE_BYTES_MAX)
		return VMB_E_MALFORMED;
	*state = at = malloc(count);
	if (at == NULL)
		return VMB_E_NO_MEMORY;
	*bytes = count;
	while (count != 0) {
		ssize_t got = recv(sock, at, count < PIECE_BYTES ? count : PIECE_BYTES, 0);

		if (got <= 0)
			return VMB_E_CLOSED;
		at += got;
		count -= (size_t)got;
	}
	return VMB_OK;
}

enum vmb_status
takeover_receive(int sock, struct kmcl_bus **bus, void **state, size_t *bytes)
{
	enum vmb_status status = receive_state(sock, state, bytes);

	*bus = NULL;
	if (status == VMB_OK)
		status = kmcl_bus_receive(sock, bus);
	if (status != VMB_OK) {
		free(*state);
		*state = NULL;
	}
	return status;
}
