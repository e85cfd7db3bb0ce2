/* SPDX-License-Identifier: MIT */
/* Two pipes, one each way. Arguments as seqpacket, but no external data. */
#include <errno.h>
#include <unistd.h>

#include "message_peer.h"

static int there[2], back[2];
static int in, out;

static void
prepare(const struct bench_job *job)
{
	(void)job;
	if (pipe(there) != 0 || pipe(back) != 0)
		bench_die("pipe");
}

static void
open_end(const struct bench_job *job, bool asks)
{
	(void)job;
	in = asks ? back[0] : there[0];
	out = asks ? there[1] : back[1];
	(void)close(asks ? there[0] : there[1]);
	(void)close(asks ? back[1] : back[0]);
}

static bool
send_message(const void *data, size_t bytes, bool may_block)
{
	/* BENCH_MAX_DEPTH short messages fit, and nothing else is asked of a pipe. */
	(void)may_block;
	if (write(out, data, bytes) != (ssize_t)bytes)
		bench_die("write");
	return true;
}

static size_t
receive_message(void *data, size_t bytes)
{
	size_t have = 0;

	while (have < bytes) {
		ssize_t got = read(in, (uint8_t *)data + have, bytes - have);

		if (got < 0)
			bench_die("read");
		if (got == 0)
			break;
		have += (size_t)got;
	}
	return have;
}

static void
close_end(bool asks)
{
	(void)asks;
	(void)close(out);
	(void)close(in);
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
