/* SPDX-License-Identifier: MIT */
/* ZeroMQ, a pair of sockets over ipc. Arguments as seqpacket. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <zmq.h>

#include "message_peer.h"

static char address[64];
static void *context, *socket_end;

static _Noreturn void
fail(const char *what)
{
	(void)fprintf(stderr, "zeromq: %s: %s\n", what, zmq_strerror(zmq_errno()));
	exit(EXIT_FAILURE);
}

static void
prepare(const struct bench_job *job)
{
	(void)job;
	(void)snprintf(address, sizeof(address), "ipc:///tmp/kmcl-bench-zeromq.%d", (int)getpid());
}

static void
open_end(const struct bench_job *job, bool asks)
{
	(void)job;
	context = zmq_ctx_new();
	if (context == NULL)
		fail("zmq_ctx_new");
	socket_end = zmq_socket(context, ZMQ_PAIR);
	if (socket_end == NULL ||
	    (asks ? zmq_connect(socket_end, address) : zmq_bind(socket_end, address)) != 0)
		fail(address);
}

static bool
send_message(const void *data, size_t bytes, bool may_block)
{
	if (zmq_send(socket_end, data, bytes, may_block ? 0 : ZMQ_DONTWAIT) == (int)bytes)
		return true;
	if (may_block || zmq_errno() != EAGAIN)
		fail("zmq_send");
	return false;
}

static size_t
receive_message(void *data, size_t bytes)
{
	int got = zmq_recv(socket_end, data, bytes, 0);

	if (got < 0)
		fail("zmq_recv");
	return (size_t)got;
}

static void
close_end(bool asks)
{
	if (asks)
		(void)send_message("", 0, true);
	(void)zmq_close(socket_end);
	(void)zmq_ctx_term(context);
	if (!asks)
		(void)unlink(address + sizeof("ipc://") - 1);
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
		.largest = BENCH_MAX_EXTERNAL,
		.one_cpu = true,
	};

	return message_peer_main(argc, argv, &transport);
}
