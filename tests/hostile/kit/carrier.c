/* SPDX-License-Identifier: MIT */
/*
 * How a hostile peer's messages travel: a socket of its own, so that datagrams of any size with any
 * descriptors can go out, or the guest's end of a loopback.
 */
#include "peer.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- making connections ----------------------------------------------------------------------- */

static bool
address_of(const char *path, struct sockaddr_un *address)
{
	*address = (struct sockaddr_un){ .sun_family = AF_UNIX };
	if (path == NULL || path[0] == '\0' || strlen(path) >= sizeof(address->sun_path))
		return false;
	strcpy(address->sun_path, path);
	return true;
}

enum vmb_status
vmb_hostile_connect(const char *path, const struct vmb_hostile_options *options,
                    struct vmb_hostile **out)
{
	struct sockaddr_un address;
	struct vmb_hostile *peer;
	enum vmb_status status;

	*out = NULL;
	if (!address_of(path, &address))
		return VMB_E_INVALID;
	status = peer_new(false, options, &peer);
	if (status != VMB_OK)
		return status;
	peer->socket = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (peer->socket < 0)
		status = VMB_E_IO;
	else if (connect(peer->socket, (const struct sockaddr *)&address, sizeof(address)) != 0)
		status = errno == ENOENT || errno == ECONNREFUSED ? VMB_E_NOT_FOUND : VMB_E_IO;
	if (status != VMB_OK) {
		vmb_hostile_free(peer);
		return status;
	}
	*out = peer;
	return VMB_OK;
}

enum vmb_status
vmb_hostile_listen(const char *path, const struct vmb_hostile_options *options,
                   struct vmb_hostile **out)
{
	struct sockaddr_un address;
	struct vmb_hostile *peer;
	enum vmb_status status;

	*out = NULL;
	if (!address_of(path, &address))
		return VMB_E_INVALID;
	status = peer_new(true, options, &peer);
	if (status != VMB_OK)
		return status;
	peer->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (peer->listener < 0)
		status = VMB_E_IO;
	else if (bind(peer->listener, (const struct sockaddr *)&address, sizeof(address)) != 0)
		status = errno == EADDRINUSE ? VMB_E_EXISTS : VMB_E_IO;
	else {
		(void)snprintf(peer->path, sizeof(peer->path), "%s", path);
		if (chmod(path, 0600) != 0 || listen(peer->listener, 1) != 0)
			status = VMB_E_IO;
	}
	if (status != VMB_OK) {
		vmb_hostile_free(peer);
		return status;
	}
	*out = peer;
	return VMB_OK;
}

static void
port_message(void *ctx, uint32_t connection_id, const void *message, uint32_t bytes)
{
	(void)connection_id;
	peer_message(ctx, message, bytes);
}

static void
port_closed(void *ctx, enum vmb_status why, const char *reason)
{
	struct vmb_hostile *peer = ctx;

	(void)why, (void)reason;
	peer->closed = true;
}

enum vmb_status
vmb_hostile_loopback(const struct vmb_hostile_options *options, struct vmb_hostile **out,
                     struct vmb_port **host)
{
	struct vmb_port *port = NULL;
	struct vmb_hostile *peer;
	enum vmb_status status = peer_new(false, options, &peer);

	*out = NULL;
	*host = NULL;
	if (status != VMB_OK)
		return status;
	status = vmb_loopback_create(peer->space, &port, &peer->port);
	if (status != VMB_OK) {
		vmb_hostile_free(peer);
		return status;
	}
	vmb_port_set_handler(peer->port,
	                     &(struct vmb_port_handler){ port_message, port_closed, peer });
	*out = peer;
	*host = port;
	return VMB_OK;
}

void
vmb_hostile_hang_up(struct vmb_hostile *peer)
{
	/* The doorbells of a port go with it. */
	for (struct peer_channel *c = peer->channels; c != NULL; c = c->next)
		c->has_doorbell = false;
	if (peer->port != NULL)
		vmb_port_destroy(peer->port);
	peer->port = NULL;
	if (peer->socket >= 0)
		close(peer->socket);
	if (peer->listener >= 0)
		close(peer->listener);
	peer->socket = peer->listener = -1;
	if (peer->path[0] != '\0')
		(void)unlink(peer->path);
	peer->closed = true;
}

/* ---- sending ---------------------------------------------------------------------------------- */

enum vmb_status
vmb_hostile_datagram(struct vmb_hostile *peer, const void *bytes, size_t count, const int *fds,
                     uint32_t fd_count)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(8 * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = count };
	struct msghdr header = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (peer->port != NULL)
		return VMB_E_UNSUPPORTED;
	if (fd_count > 8)
		return VMB_E_INVALID;
	if (peer->socket < 0)
		return VMB_E_CLOSED;
	if (fd_count != 0) {
		struct cmsghdr *rights = &control.align;

		header.msg_control = control.bytes;
		header.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		rights->cmsg_level = SOL_SOCKET;
		rights->cmsg_type = SCM_RIGHTS;
		rights->cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(rights), fds, fd_count * sizeof(int));
	}
	if (sendmsg(peer->socket, &header, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return VMB_OK;
	if (errno == EAGAIN || errno == EWOULDBLOCK)
		return VMB_E_FULL;
	return errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN ? VMB_E_CLOSED : VMB_E_IO;
}

/* Waits for room: an honest message is not lost because the other side is slow. */
static enum vmb_status
send_all(struct vmb_hostile *peer, const void *message, uint32_t bytes, const int *fds,
         uint32_t fd_count)
{
	uint64_t end = peer_now_ms() + peer->options.wait_ms;
	enum vmb_status status;

	while ((status = vmb_hostile_datagram(peer, message, bytes, fds, fd_count)) == VMB_E_FULL) {
		struct pollfd room = { .fd = peer->socket, .events = POLLOUT };
		uint64_t now = peer_now_ms();

		if (now >= end || poll(&room, 1, (int)(end - now)) == 0)
			return VMB_E_TIMEOUT;
	}
	return status;
}

static uint32_t
word_at(const void *message, uint32_t bytes, uint32_t offset)
{
	uint32_t value = 0;

	if (offset + sizeof(value) <= bytes)
		memcpy(&value, (const uint8_t *)message + offset, sizeof(value));
	return value;
}

uint32_t
peer_connection_of(const void *message, uint32_t bytes)
{
	return word_at(message, bytes, 0) == VMB_MSG_INITIATE_CONTACT &&
	               word_at(message, bytes, 8) >= VMB_VERSION_WIN10_RS3_1
	           ? VMB_CONNECTION_ID_MULTI_CLIENT
	           : VMB_CONNECTION_ID_LEGACY;
}

enum vmb_status
vmb_hostile_post(struct vmb_hostile *peer, const void *message, uint32_t bytes)
{
	if (bytes < VMB_MSG_HEADER_BYTES || bytes > VMB_MSG_MAX_BYTES)
		return VMB_E_INVALID;
	if (peer->port != NULL)
		return vmb_port_post(peer->port, peer_connection_of(message, bytes), message,
		                     bytes);
	return vmb_hostile_datagram(peer, message, bytes, NULL, 0);
}

enum vmb_status
peer_carry(struct vmb_hostile *peer, const void *message, uint32_t bytes)
{
	uint32_t type = word_at(message, bytes, 0);
	const struct peer_channel *channel;

	if (peer->port != NULL)
		return vmb_port_post(peer->port, peer_connection_of(message, bytes), message,
		                     bytes);
	if (!peer->is_server && type == VMB_MSG_INITIATE_CONTACT)
		return send_all(peer, message, bytes, &peer->memory_fd, 1);
	channel = peer->is_server || type != VMB_MSG_OPEN_CHANNEL
	              ? NULL
	              : peer_channel(peer, word_at(message, bytes, 8));
	if (channel != NULL && channel->ring_fd >= 0) {
		const int pair[2] = { channel->ring_fd, channel->own_fd };

		return send_all(peer, message, bytes, pair, 2);
	}
	return send_all(peer, message, bytes, NULL, 0);
}

/* ---- receiving -------------------------------------------------------------------------------- */

static void
keep_descriptors(struct vmb_hostile *peer, struct msghdr *header)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
		size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
			if (peer->arrived_count < PEER_FDS)
				peer->arrived[peer->arrived_count++] = fd;
			else
				close(fd);
		}
	}
}

/* One datagram. False: nothing there. */
static bool
receive_one(struct vmb_hostile *peer)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(2 * PEER_FDS * sizeof(int))];
	} control;
	uint8_t bytes[1024];
	struct iovec iov = { .iov_base = bytes, .iov_len = sizeof(bytes) };
	struct msghdr header = { .msg_iov = &iov,
		                 .msg_iovlen = 1,
		                 .msg_control = control.bytes,
		                 .msg_controllen = sizeof(control.bytes) };
	ssize_t got = recvmsg(peer->socket, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
		return false;
	/* A peer that reset the connection is reported once, ahead of what it had sent before. */
	if (got < 0 && errno == ECONNRESET)
		return true;
	if (got <= 0) {
		peer->closed = true;
		return false;
	}
	keep_descriptors(peer, &header);
	peer_message(peer, bytes, (uint32_t)got);
	return true;
}

static void
accept_client(struct vmb_hostile *peer)
{
	peer->socket = accept4(peer->listener, NULL, NULL, SOCK_CLOEXEC);
	if (peer->socket < 0)
		return;
	close(peer->listener);
	peer->listener = -1;
}

enum vmb_status
peer_collect(struct vmb_hostile *peer, uint32_t ms)
{
	struct pollfd there = { .events = POLLIN };

	there.fd = peer->port != NULL  ? vmb_port_poll_fd(peer->port)
	           : peer->socket >= 0 ? peer->socket
	                               : peer->listener;
	if (poll(&there, 1, (int)ms) <= 0)
		return VMB_E_TIMEOUT;
	if (peer->port != NULL) {
		vmb_port_poll(peer->port);
		return peer->closed ? VMB_E_CLOSED : VMB_OK;
	}
	if (peer->socket < 0) {
		accept_client(peer);
		return peer->socket >= 0 ? VMB_OK : VMB_E_TIMEOUT;
	}
	while (receive_one(peer))
		continue;
	return peer->closed ? VMB_E_CLOSED : VMB_OK;
}
