/* SPDX-License-Identifier: MIT */
/*
 * The work of kmcl_peer over whatever carries messages between two processes: the flows are here, a
 * transport brings five functions. A transport's functions end the program when they fail.
 */
#ifndef BENCH_MESSAGE_PEER_H
#define BENCH_MESSAGE_PEER_H

#include "bench_common.h"

struct message_transport {
	/* Before the fork; may be NULL. */
	void (*prepare)(const struct bench_job *job);
	/* In each process after it. `asks`: this one sends requests. */
	void (*open)(const struct bench_job *job, bool asks);
	/*
	 * One message. Where `may_block` is false and it would have to wait for the receiver:
	 * false, nothing sent. A message of 0 bytes tells a receiver to end, on transports that do
	 * not tell so by themselves.
	 */
	bool (*send)(const void *data, size_t bytes, bool may_block);
	/* The next message, of `bytes` at the most; 0: the asking process has ended. */
	size_t (*receive)(void *data, size_t bytes);
	/* `asks`: makes the other process's receive return 0. */
	void (*close)(bool asks);
	size_t largest; /* message; external data goes in pieces of this; 0 = no external data */
	bool one_cpu;   /* makes sense with both processes on one CPU */
};

int message_peer_main(int argc, char **argv, const struct message_transport *transport);

#endif
