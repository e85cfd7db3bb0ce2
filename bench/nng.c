/* SPDX-License-Identifier: MIT */
/* nng, a pair of sockets over ipc. Arguments as seqpacket, but no external data. */
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <nng/nng.h>
#include <nng/protocol/pair0/pair.h>

#include "message_peer.h"

#define QUEUED 512

static char address[64];
static nng_socket socket_end;
static sem_t peer_gone;

static void
check(int error, const char *what)
{
	if (error == 0)
		return;
	(void)fprintf(stderr, "nng: %s: %s\n", what, nng_strerror(error));
	exit(EXIT_FAILURE);
}

static void
prepare(const struct bench_job *job)
{
	(void)job;
	(void)snprintf(address, sizeof(address), "ipc:///tmp/kmcl-bench-nng.%d", (int)getpid());
}

static void
note_gone(nng_pipe gone, nng_pipe_ev event, void *context)
{
	(void)gone;
	(void)event;
	(void)context;
	(void)sem_post(&peer_gone);
}

static void
open_end(const struct bench_job *job, bool asks)
{
	(void)job;
	check(nng_pair0_open(&socket_end), "open");
	check(nng_socket_set_int(socket_end, NNG_OPT_SENDBUF, QUEUED), "send buffer");
	check(nng_socket_set_int(socket_end, NNG_OPT_RECVBUF, QUEUED), "receive buffer");
	if (sem_init(&peer_gone, 0, 0) != 0)
		bench_die("sem_init");
	check(nng_pipe_notify(socket_end, NNG_PIPE_EV_REM_POST, note_gone, NULL), "notify");
	/* Tries again by itself until the other process listens. */
	check(asks ? nng_dial(socket_end, address, NULL, NNG_FLAG_NONBLOCK)
	           : nng_listen(socket_end, address, NULL, 0),
	      address);
}

static bool
send_message(const void *data, size_t bytes, bool may_block)
{
	/* The queue has room for everything in flight. */
	(void)may_block;
	check(nng_send(socket_end, (void *)(uintptr_t)data, bytes, 0), "send");
	return true;
}

static size_t
receive_message(void *data, size_t bytes)
{
	size_t got = bytes;

	check(nng_recv(socket_end, data, &got, 0), "receive");
	return got;
}

/* A closed socket drops what it has not sent, so the end is answered before it goes. */
static void
close_end(bool asks)
{
	char byte;

	(void)send_message("", 0, true);
	if (asks)
		(void)receive_message(&byte, 0);
	else
		while (sem_wait(&peer_gone) != 0)
			;
	(void)nng_close(socket_end);
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
		.one_cpu = true,
	};

	return message_peer_main(argc, argv, &transport);
}
