/* SPDX-License-Identifier: MIT */
/* What the two processes of kmcl_peer agree on. */
#ifndef BENCH_KMCL_PEER_H
#define BENCH_KMCL_PEER_H

#include "bench_common.h"
#include "kmcl.h"

extern const GUID PEER_INTERFACE_TYPE;
extern const GUID PEER_INSTANCE;

/*
 * What both ends configure alike: limits that the job needs, and a loop, to be destroyed after the
 * channel.
 */
NTSTATUS peer_configure(VMBCHANNEL channel, const struct bench_job *job, struct kmcl_loop **loop);

/*
 * Where a process with a loop is put. A loop that starts on a single CPU never spins, as it should
 * on a machine with one; here the other CPU is there and has the peer, so for two CPUs the loop is
 * made first (`before_loop` false).
 */
void peer_place(const struct bench_job *job, unsigned int index, bool before_loop);

/*
 * The server process: serves until `control` is closed. Says with one byte that it can be connected
 * to; each byte received there makes it answer with its struct kmcl_channel_stats. Returns the exit
 * status.
 */
int peer_serve(const char *path, int control, const struct bench_job *job);

#endif
