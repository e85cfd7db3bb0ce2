/* SPDX-License-Identifier: MIT */
/*
 * Everything the peer of a unix port can send passes through here, and everything it should not
 * send ends the connection with a reason: wrong sizes, descriptors where none belong, the wrong
 * kind of descriptor, a host that floods its guest (a
 * guest that floods waits: unix_port.c). Every descriptor that arrives is either put to use or closed before
 * the function returns.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "port/unix.h"
#include "port/unix_access.h"

/*
 * One more than any message may bring: enough to see that there are too many without taking them
 * all in.
 */
#define TAKEN_FDS 3u
#define CONTACT_VERSION_OFFSET 8u

struct raw_datagram {
	uint8_t bytes[VMB_MSG_MAX_BYTES + 1u]; /* one more than allowed, to see what is too long */
	uint32_t size;
	int fds[TAKEN_FDS + 1u];        /* alignment leaves room for one more */
	uint32_t fd_count;
	bool fds_truncated;
};

static enum unix_received
unix_refuse(struct unix_port *up, enum vmb_status why, const char *reason)
{
	unix_port_close(up, why, reason);
	return UNIX_REFUSED;
}

static enum unix_received
unix_malformed(struct unix_port *up, const char *reason)
{
	return unix_refuse(up, VMB_E_MALFORMED, reason);
}

static void
collect_fds(struct msghdr *hdr, struct raw_datagram *raw)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(hdr); c != NULL; c = CMSG_NXTHDR(hdr, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		if (count > TAKEN_FDS + 1u - raw->fd_count)
			count = TAKEN_FDS + 1u - raw->fd_count;
		memcpy(raw->fds + raw->fd_count, CMSG_DATA(c), count * sizeof(int));
		raw->fd_count += (uint32_t)count;
	}
}

/*
 * A read of zero bytes is the end only if the peer has stopped sending; else it was an empty
 * datagram.
 */
static bool
peer_has_ended(int sock)
{
	struct pollfd end = { .fd = sock, .events = POLLRDHUP };

	return poll(&end, 1, 0) == 1 && (end.revents & (POLLRDHUP | POLLHUP)) != 0;
}

static enum unix_received
receive_raw(struct unix_port *up, struct raw_datagram *raw)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(TAKEN_FDS * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = raw->bytes, .iov_len = sizeof(raw->bytes) };
	struct msghdr hdr = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		/*
		 * A host brings a guest nothing: without a place for them the kernel drops its
		 * descriptors.
		 */
		.msg_control = up->core.is_host ? control.bytes : NULL,
		.msg_controllen = up->core.is_host ? sizeof(control.bytes) : 0,
	};
	bool was_reset = false;
	ssize_t got;

	for (;;) {
		got = recvmsg(up->sock, &hdr, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
		if (got >= 0)
			break;
		if (errno == EINTR)
			continue;
		if (errno == EAGAIN || errno == EWOULDBLOCK)
			return UNIX_NOTHING;
		/*
		 * A peer that left with unread messages is reported once, ahead of what it had sent
		 * before.
		 */
		if (errno != ECONNRESET && errno != EPIPE)
			return unix_refuse(up, VMB_E_IO, "receiving from the peer failed");
		if (was_reset)
			return UNIX_GONE;
		was_reset = true;
	}
	raw->size = (uint32_t)got;
	raw->fds_truncated = (hdr.msg_flags & MSG_CTRUNC) != 0;
	raw->fd_count = 0;
	collect_fds(&hdr, raw);
	if (got == 0 && raw->fd_count == 0 && !raw->fds_truncated && peer_has_ended(up->sock))
		return UNIX_GONE;
	return UNIX_MESSAGE;
}

/* NULL if a datagram may be a message at all. Writes into `text` for reasons with numbers. */
static const char *
shape_error(const struct raw_datagram *raw, char *text, size_t text_bytes)
{
	if (raw->size > VMB_MSG_MAX_BYTES) {
		snprintf(text, text_bytes, "a datagram is longer than %u bytes", VMB_MSG_MAX_BYTES);
		return text;
	}
	if (raw->size < VMB_MSG_HEADER_BYTES) {
		snprintf(text, text_bytes, "a datagram of %u bytes is shorter than a message header",
		         raw->size);
		return text;
	}
	return NULL;
}

/* The guest's memory, mapped whole. On success the space owns fd. */
static enum vmb_status
map_ram(int fd, uint64_t bytes, struct vmb_mem **memory)
{
	struct vmb_region region = { .bytes = bytes, .fd = fd, .owned = true };
	struct vmb_mem *mem;
	enum vmb_status st;

	st = vmb_mem_create(&mem);
	if (st != VMB_OK)
		return st;
	region.host = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (region.host == MAP_FAILED) {
		st = errno == ENOMEM ? VMB_E_NO_MEMORY : VMB_E_ACCESS;
		goto drop_mem;
	}
	st = vmb_mem_add_region(mem, &region);
	if (st != VMB_OK)
		goto unmap;
	*memory = mem;
	return VMB_OK;

unmap:
	munmap(region.host, bytes);
drop_mem:
	vmb_mem_unref(mem);
	return st;
}

enum vmb_status
unix_port_set_ram(struct unix_port *up, int fd, const char **wrong)
{
	struct vmb_mem *memory;
	struct port_ram ram;
	enum vmb_status st;

	*wrong = port_fd_inspect_ram(fd, up->limits.memory_bytes, &ram);
	if (*wrong != NULL)
		return VMB_E_MALFORMED;
	if (up->ram.bytes != 0) {
		if (ram.device != up->ram.device || ram.inode != up->ram.inode) {
			*wrong = "the guest came back with other memory than before";
			return VMB_E_MALFORMED;
		}
		close(fd);
		return VMB_OK;
	}
	st = map_ram(fd, ram.bytes, &memory);
	if (st != VMB_OK) {
		*wrong = "the guest's memory cannot be mapped";
		return st;
	}
	up->ram = ram;
	up->peer_ram_fd = fd;
	pthread_mutex_lock(&up->core.lock);
	up->core.memory = memory;
	pthread_mutex_unlock(&up->core.lock);
	return VMB_OK;
}

/*
 * InitiateContact brought `fd`. On UNIX_MESSAGE it has an owner or is closed; else the caller
 * discards it.
 */
static enum unix_received
take_ram(struct unix_port *up, int fd)
{
	const char *wrong;
	enum vmb_status st = unix_port_set_ram(up, fd, &wrong);

	return st == VMB_OK ? UNIX_MESSAGE : unix_refuse(up, st, wrong);
}

/*
 * Make the descriptors what the message says they are. On UNIX_REFUSED the caller discards all of
 * them.
 */
static enum unix_received
judge_fds(struct unix_port *up, const struct raw_datagram *raw)
{
	uint32_t type = port_message_u32(raw->bytes, 0);

	switch (type) {
	case VMB_MSG_INITIATE_CONTACT:
		if (raw->fd_count != 1)
			return unix_malformed(up, "InitiateContact must bring one descriptor");
		return take_ram(up, raw->fds[0]);
	case VMB_MSG_OPEN_CHANNEL:
		/* None: the guest wants no interrupts. */
		if (raw->fd_count == 0)
			return UNIX_MESSAGE;
		if (raw->fd_count != PORT_MESSAGE_FDS)
			return unix_malformed(up, "OpenChannel must bring two descriptors or none");
		if (!port_fd_accept_eventfd(raw->fds[0]) || !port_fd_accept_eventfd(raw->fds[1]))
			return unix_malformed(up, "a descriptor of OpenChannel is not an eventfd");
		return UNIX_MESSAGE;
	default:
		if (raw->fd_count != 0)
			return unix_malformed(up, "a message that brings no descriptors has some");
		return UNIX_MESSAGE;
	}
}

/* Give the doorbell of an OpenChannel its place. The pair is used up either way. */
static enum unix_received
place_doorbell(struct unix_port *up, const struct raw_datagram *raw)
{
	bool has_pair = raw->fd_count == PORT_MESSAGE_FDS;
	enum vmb_status st;

	pthread_mutex_lock(&up->core.lock);
	st = port_doorbells_receive(&up->core.doorbells, raw->bytes, raw->size,
	                            has_pair ? raw->fds : NULL);
	pthread_mutex_unlock(&up->core.lock);
	if (st == VMB_E_LIMIT)
		return unix_refuse(up, st, "the guest has more channels open than allowed");
	if (st != VMB_OK)
		return unix_malformed(up, "OpenChannel brings descriptors and names no channel");
	return UNIX_MESSAGE;
}

/*
 * A datagram has no connection id. Guests post InitiateContact of version 5.0 and later on the
 * multi-client connection, everything else on the legacy one.
 */
static uint32_t
connection_id_of(const struct raw_datagram *raw)
{
	if (port_message_u32(raw->bytes, 0) == VMB_MSG_INITIATE_CONTACT &&
	    raw->size >= CONTACT_VERSION_OFFSET + sizeof(uint32_t) &&
	    port_message_u32(raw->bytes, CONTACT_VERSION_OFFSET) >= VMB_VERSION_WIN10_RS3_1)
		return VMB_CONNECTION_ID_MULTI_CLIENT;
	return VMB_CONNECTION_ID_LEGACY;
}

static enum unix_received
accept_raw(struct unix_port *up, uint64_t now_ns, struct raw_datagram *raw)
{
	char text[UNIX_REFUSAL_BYTES + 1];
	const char *wrong = shape_error(raw, text, sizeof(text));
	const bool first = !up->heard;
	enum unix_received result;

	up->heard = true;
	if (first && !up->core.is_host && raw->fd_count == 0 &&
	    unix_refusal_text(raw->bytes, raw->size, text, sizeof(text)))
		result = unix_refuse(up, VMB_E_ACCESS, text);
	else if (wrong != NULL)
		result = unix_malformed(up, wrong);
	else if (raw->fds_truncated && !up->core.is_host)
		result = unix_malformed(up, "the host sent descriptors");
	else if (raw->fds_truncated && raw->fd_count < TAKEN_FDS)
		result = unix_refuse(up, VMB_E_LIMIT,
		                     "this process has no descriptors left for those of the peer");
	else if (raw->fds_truncated)
		result = unix_malformed(up, "a message brings too many descriptors");
	/* A host has looked before it read, and made a client wait; a guest always reads. */
	else if (!port_bucket_take(&up->bucket, now_ns) && !up->core.is_host)
		result = unix_refuse(up, VMB_E_LIMIT, "the peer floods this end with messages");
	else if (up->core.is_host)
		result = judge_fds(up, raw);
	else
		return UNIX_MESSAGE;

	if (result != UNIX_MESSAGE) {
		port_fds_discard(raw->fds, raw->fd_count);
		return result;
	}
	return place_doorbell(up, raw);
}

enum unix_received
unix_receive(struct unix_port *up, uint64_t now_ns, struct port_message *message)
{
	struct raw_datagram raw;
	enum unix_received result = receive_raw(up, &raw);

	if (result == UNIX_MESSAGE)
		result = accept_raw(up, now_ns, &raw);
	if (result != UNIX_MESSAGE)
		return result;
	message->connection_id = up->core.is_host ? connection_id_of(&raw) : 0;
	message->bytes = raw.size;
	memcpy(message->data, raw.bytes, raw.size);
	return UNIX_MESSAGE;
}
