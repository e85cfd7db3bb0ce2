/* SPDX-License-Identifier: MIT */
/*
 * The yardstick: an AF_UNIX SOCK_SEQPACKET socket, the plain way between two processes on Linux.
 *
 *	seqpacket sync PAYLOAD COUNT any|same|split
 *	seqpacket inflight PAYLOAD COUNT DEPTH
 *	seqpacket external BYTES COUNT DEPTH touch|read
 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "message_peer.h"

/* A socket does not take any length at once. */
#define PIECE_BYTES 131072u

static int fds[2];
static int fd;

static void
prepare(const struct bench_job *job)
{
	(void)job;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0)
		bench_die("socketpair");
}

static void
open_end(const struct bench_job *job, bool asks)
{
	(void)job;
	(void)close(fds[asks ? 1 : 0]);
	fd = fds[asks ? 0 : 1];
}

static bool
send_message(const void *data, size_t bytes, bool may_block)
{
	const int flags = MSG_NOSIGNAL | (may_block ? 0 : MSG_DONTWAIT);

	if (send(fd, data, bytes, flags) == (ssize_t)bytes)
		return true;
	if (may_block || errno != EAGAIN)
		bench_die("send");
	return false;
}

static size_t
receive_message(void *data, size_t bytes)
{
	ssize_t got = recv(fd, data, bytes, 0);

	if (got < 0)
		bench_die("recv");
	return (size_t)got;
}

static void
close_end(bool asks)
{
	(void)asks;
	(void)close(fd);
}

int
main(int argc, char **argv)
{
	static const struct message_transport transport = {
		.prepare = prepare,
		.open = open_end,
		.send = send_message,
		.receive = receive_message,
		.close = close_end,
		.largest = PIECE_BYTES,
		.one_cpu = true,
	};

	return message_peer_main(argc, argv, &transport);
}
