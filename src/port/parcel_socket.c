/* SPDX-License-Identifier: MIT */
/*
 * A parcel over a socket: one chunk per datagram. The sender announces sizes and checksum, sends
 * the bytes in pieces and the descriptors in batches; each batch is acknowledged before the next
 * one, because descriptors under way count against limits of the whole user. Every wait has an end.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "port/fds.h"
#include "port/parcel.h"

/* "KMHS" */
static const struct vmb_chunk_format talk_format = { .magic = 0x53484D4B, .version = 1 };

/* Kinds of datagrams besides the words of enum vmb_parcel_word. */
enum talk {
	TALK_HELLO = 1,         /* bytes u64, descriptors u32, CRC-32 of the bytes u32 */
	TALK_BYTES,             /* a piece */
	TALK_FDS,               /* how many ride along u32 */
	TALK_GOT_FDS,           /* how many came in all u32 */
};

#define PIECE_BYTES 32768u
#define BATCH_FDS 250u          /* the kernel takes 253 */
#define MOST_BYTES (1ull << 30)
#define NS_PER_MS 1000000u
#define NS_PER_SECOND 1000000000ull

struct datagram {
	uint8_t bytes[VMB_CHUNK_HEADER_BYTES + PIECE_BYTES + 1]; /* one more than allowed */
	struct vmb_chunk chunk;
	int fds[BATCH_FDS];
	uint32_t fd_count;
};

bool
vmb_parcel_socket_is_good(int socket)
{
	struct sockaddr_storage peer;
	socklen_t length = sizeof(int), peer_length = sizeof(peer);
	int domain = 0, type = 0;

	return getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 &&
	       domain == AF_UNIX &&
	       getsockopt(socket, SOL_SOCKET, SO_TYPE, &type, &length) == 0 &&
	       type == SOCK_SEQPACKET &&
	       getpeername(socket, (struct sockaddr *)&peer, &peer_length) == 0;
}

/* False: time is over. Errors of the socket are left to the next call on it. */
static bool
wait_for(int socket, short events, uint64_t until_ns)
{
	struct pollfd wanted = { .fd = socket, .events = events };
	struct timespec now;
	uint64_t now_ns;
	int left_ms;

	clock_gettime(CLOCK_MONOTONIC, &now);
	now_ns = (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
	if (now_ns >= until_ns)
		return false;
	left_ms = (int)((until_ns - now_ns) / NS_PER_MS + 1 < 60000
	                        ? (until_ns - now_ns) / NS_PER_MS + 1
	                        : 60000);
	(void)!poll(&wanted, 1, left_ms);
	return true;
}

enum vmb_status
vmb_parcel_wait(int socket, uint64_t until_ns)
{
	struct pollfd wanted = { .fd = socket, .events = POLLIN };

	while (wait_for(socket, POLLIN, until_ns)) {
		if (poll(&wanted, 1, 0) != 0)
			return VMB_OK;
	}
	return VMB_E_TIMEOUT;
}

/* ---- one datagram --------------------------------------------------------------------------- */

static enum vmb_status
send_datagram(int socket, const struct vmb_chunk_writer *writer, const int *fds, uint32_t fd_count,
              uint64_t until_ns)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(BATCH_FDS * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = writer->bytes, .iov_len = writer->used };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd_count != 0) {
		memset(&control, 0, sizeof(control));
		hdr.msg_control = control.bytes;
		hdr.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, fd_count * sizeof(int));
	}
	while (sendmsg(socket, &hdr, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
		if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN)
			return VMB_E_CLOSED;
		/* A wait for room would not wait: the socket has some. */
		if (errno == ENOBUFS || errno == ENOMEM)
			return VMB_E_NO_MEMORY;
		if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
			return VMB_E_IO;
		if (!wait_for(socket, POLLOUT, until_ns))
			return VMB_E_TIMEOUT;
	}
	return VMB_OK;
}

static void
collect_fds(struct msghdr *hdr, struct datagram *in)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(hdr); c != NULL; c = CMSG_NXTHDR(hdr, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(in->fds + in->fd_count, CMSG_DATA(c), count * sizeof(int));
		in->fd_count += (uint32_t)count;
	}
}

/* VMB_EMPTY: nothing there. On success the descriptors are the caller's. */
static enum vmb_status
try_receive(int socket, struct datagram *in)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(BATCH_FDS * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = in->bytes, .iov_len = sizeof(in->bytes) };
	struct msghdr hdr = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct vmb_chunk_reader reader;
	enum vmb_status st;
	ssize_t got;

	in->fd_count = 0;
	do {
		got = recvmsg(socket, &hdr, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	} while (got < 0 && errno == EINTR);
	if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
		return VMB_EMPTY;
	if (got < 0)
		return errno == ECONNRESET || errno == EPIPE ? VMB_E_CLOSED : VMB_E_IO;
	collect_fds(&hdr, in);
	reader = (struct vmb_chunk_reader){ in->bytes, (size_t)got };
	if (got == 0)
		st = VMB_E_CLOSED;
	else if ((hdr.msg_flags & MSG_CTRUNC) != 0)
		st = VMB_E_LIMIT;
	else
		st = vmb_chunk_next(&reader, &talk_format, &in->chunk);
	if (st == VMB_OK && reader.left != 0)
		st = VMB_E_MALFORMED;
	if (st != VMB_OK)
		port_fds_discard(in->fds, in->fd_count);
	return st;
}

static enum vmb_status
receive_datagram(int socket, struct datagram *in, uint64_t until_ns)
{
	enum vmb_status st;

	while ((st = try_receive(socket, in)) == VMB_EMPTY) {
		if (!wait_for(socket, POLLIN, until_ns))
			return VMB_E_TIMEOUT;
	}
	return st;
}

/* A refusal can come in place of anything. */
static enum vmb_status
refusal_of(struct vmb_chunk *chunk)
{
	uint32_t code = vmb_chunk_get_u32(chunk);

	if (!vmb_chunk_is_whole(chunk) || code == 0 || code > (uint32_t)-VMB_E_IO)
		return VMB_E_MALFORMED;
	return (enum vmb_status)-(int)code;
}

/* A datagram without descriptors that carries one number. */
static enum vmb_status
judge_number(struct datagram *in, uint16_t kind, uint32_t *value)
{
	if (in->fd_count != 0) {
		port_fds_discard(in->fds, in->fd_count);
		return VMB_E_MALFORMED;
	}
	if (in->chunk.kind == VMB_PARCEL_REFUSED)
		return refusal_of(&in->chunk);
	*value = vmb_chunk_get_u32(&in->chunk);
	return in->chunk.kind == kind && vmb_chunk_is_whole(&in->chunk) ? VMB_OK : VMB_E_MALFORMED;
}

static enum vmb_status
say_number(int socket, uint16_t kind, uint32_t value, const int *fds, uint32_t fd_count,
           uint64_t until_ns)
{
	uint8_t bytes[VMB_CHUNK_HEADER_BYTES + sizeof(value)];
	struct vmb_chunk_writer writer = { .bytes = bytes, .capacity = sizeof(bytes) };

	vmb_chunk_begin(&writer, &talk_format, kind);
	vmb_chunk_put_u32(&writer, value);
	vmb_chunk_end(&writer);
	return send_datagram(socket, &writer, fds, fd_count, until_ns);
}

enum vmb_status
vmb_parcel_say(int socket, enum vmb_parcel_word word, uint32_t value, uint64_t until_ns)
{
	return say_number(socket, (uint16_t)word, value, NULL, 0, until_ns);
}

enum vmb_status
vmb_parcel_hear(int socket, enum vmb_parcel_word word, uint32_t *value, uint64_t until_ns)
{
	struct datagram in;
	enum vmb_status st = receive_datagram(socket, &in, until_ns);

	if (st == VMB_E_TIMEOUT) {
		/* From here on it cannot be said any more; what was said before is still there. */
		(void)!shutdown(socket, SHUT_RD);
		st = try_receive(socket, &in);
		if (st == VMB_EMPTY || st == VMB_E_CLOSED)
			return VMB_E_TIMEOUT;
	}
	return st == VMB_OK ? judge_number(&in, (uint16_t)word, value) : st;
}

/* ---- the whole ------------------------------------------------------------------------------ */

uint32_t
vmb_parcel_crc(const struct vmb_parcel *parcel)
{
	return vmb_crc32(0, parcel->bytes, parcel->byte_count);
}

static enum vmb_status
send_hello(const struct vmb_parcel *parcel, int socket, uint64_t until_ns)
{
	uint8_t bytes[VMB_CHUNK_HEADER_BYTES + 16];
	struct vmb_chunk_writer writer = { .bytes = bytes, .capacity = sizeof(bytes) };

	vmb_chunk_begin(&writer, &talk_format, TALK_HELLO);
	vmb_chunk_put_u64(&writer, parcel->byte_count);
	vmb_chunk_put_u32(&writer, parcel->fd_count);
	vmb_chunk_put_u32(&writer, vmb_parcel_crc(parcel));
	vmb_chunk_end(&writer);
	return send_datagram(socket, &writer, NULL, 0, until_ns);
}

static enum vmb_status
send_bytes(const struct vmb_parcel *parcel, int socket, uint64_t until_ns)
{
	uint8_t bytes[VMB_CHUNK_HEADER_BYTES + PIECE_BYTES];
	enum vmb_status st = VMB_OK;

	for (size_t at = 0; st == VMB_OK && at < parcel->byte_count;) {
		struct vmb_chunk_writer writer = { .bytes = bytes, .capacity = sizeof(bytes) };
		size_t left = parcel->byte_count - at;
		size_t here = left < PIECE_BYTES ? left : PIECE_BYTES;

		vmb_chunk_begin(&writer, &talk_format, TALK_BYTES);
		vmb_chunk_put_bytes(&writer, parcel->bytes + at, here);
		vmb_chunk_end(&writer);
		st = send_datagram(socket, &writer, NULL, 0, until_ns);
		at += here;
	}
	return st;
}

static enum vmb_status
send_fds(const struct vmb_parcel *parcel, int socket, uint64_t until_ns)
{
	for (uint32_t at = 0; at < parcel->fd_count;) {
		uint32_t left = parcel->fd_count - at;
		uint32_t here = left < BATCH_FDS ? left : BATCH_FDS;
		struct datagram in;
		uint32_t got;
		enum vmb_status st = say_number(socket, TALK_FDS, here, parcel->fds + at, here,
		                                until_ns);

		if (st == VMB_OK)
			st = receive_datagram(socket, &in, until_ns);
		if (st == VMB_OK)
			st = judge_number(&in, TALK_GOT_FDS, &got);
		if (st != VMB_OK)
			return st;
		at += here;
		if (got != at)
			return VMB_E_MALFORMED;
	}
	return VMB_OK;
}

enum vmb_status
vmb_parcel_send(const struct vmb_parcel *parcel, int socket, uint64_t until_ns)
{
	enum vmb_status st = send_hello(parcel, socket, until_ns);

	if (st == VMB_OK)
		st = send_bytes(parcel, socket, until_ns);
	if (st == VMB_OK)
		st = send_fds(parcel, socket, until_ns);
	return st;
}

struct expected {
	uint64_t bytes;
	uint32_t fds, crc;
};

static enum vmb_status
receive_hello(int socket, struct expected *expected, uint64_t until_ns)
{
	struct datagram in;
	enum vmb_status st = receive_datagram(socket, &in, until_ns);

	if (st != VMB_OK)
		return st;
	port_fds_discard(in.fds, in.fd_count);
	expected->bytes = vmb_chunk_get_u64(&in.chunk);
	expected->fds = vmb_chunk_get_u32(&in.chunk);
	expected->crc = vmb_chunk_get_u32(&in.chunk);
	if (in.chunk.kind != TALK_HELLO || !vmb_chunk_is_whole(&in.chunk) || in.fd_count != 0)
		return VMB_E_MALFORMED;
	return expected->bytes <= MOST_BYTES ? VMB_OK : VMB_E_LIMIT;
}

/* The parcel grows with what really comes, not with what was announced. */
static enum vmb_status
receive_bytes(struct vmb_parcel *parcel, int socket, const struct expected *expected,
              uint64_t until_ns)
{
	while (parcel->byte_count < expected->bytes) {
		struct datagram in;
		enum vmb_status st = receive_datagram(socket, &in, until_ns);
		uint32_t here;
		uint8_t *room;

		if (st != VMB_OK)
			return st;
		port_fds_discard(in.fds, in.fd_count);
		here = in.chunk.left;
		if (in.chunk.kind != TALK_BYTES || in.fd_count != 0 || here == 0 ||
		    here > expected->bytes - parcel->byte_count)
			return VMB_E_MALFORMED;
		room = vmb_parcel_add_room(parcel, here);
		if (room == NULL)
			return VMB_E_NO_MEMORY;
		vmb_chunk_copy(&in.chunk, room, here);
	}
	return vmb_parcel_crc(parcel) == expected->crc ? VMB_OK : VMB_E_MALFORMED;
}

static enum vmb_status
keep_fds(struct vmb_parcel *parcel, const struct datagram *in)
{
	for (uint32_t i = 0; i < in->fd_count; i++) {
		if (vmb_parcel_add_fd(parcel, in->fds[i]) == VMB_OK)
			continue;
		port_fds_discard(in->fds + i, in->fd_count - i);
		return VMB_E_NO_MEMORY;
	}
	return VMB_OK;
}

static enum vmb_status
receive_fds(struct vmb_parcel *parcel, int socket, const struct expected *expected, uint64_t until_ns)
{
	while (parcel->fd_count < expected->fds) {
		struct datagram in;
		enum vmb_status st = receive_datagram(socket, &in, until_ns);
		uint32_t here;

		if (st != VMB_OK)
			return st;
		st = keep_fds(parcel, &in);
		if (st != VMB_OK)
			return st;
		here = vmb_chunk_get_u32(&in.chunk);
		if (in.chunk.kind != TALK_FDS || !vmb_chunk_is_whole(&in.chunk) ||
		    here != in.fd_count || here == 0 || parcel->fd_count > expected->fds)
			return VMB_E_MALFORMED;
		st = say_number(socket, TALK_GOT_FDS, parcel->fd_count, NULL, 0, until_ns);
		if (st != VMB_OK)
			return st;
	}
	return VMB_OK;
}

enum vmb_status
vmb_parcel_receive(struct vmb_parcel *parcel, int socket, uint64_t until_ns)
{
	struct expected expected;
	enum vmb_status st = receive_hello(socket, &expected, until_ns);

	if (st == VMB_OK)
		st = receive_bytes(parcel, socket, &expected, until_ns);
	if (st == VMB_OK)
		st = receive_fds(parcel, socket, &expected, until_ns);
	parcel->reader = (struct vmb_chunk_reader){ parcel->bytes, parcel->byte_count };
	return st;
}
