/* SPDX-License-Identifier: MIT */
/* The channels of a server process of the chaos run, and how they go to the next process. */
#ifndef CHAOS_SERVER_H
#define CHAOS_SERVER_H

#include "receiver.h"

/* From the predecessor, and to the successor: each descriptor is one end of a socket, or closed. */
#define CHAOS_PREDECESSOR_FD 4
#define CHAOS_SUCCESSOR_FD 5

/* Exit statuses that are no failure. */
#define CHAOS_EXIT_HANDED_OVER 3
#define CHAOS_EXIT_NOTHING_TAKEN 4

struct chaos_service {
	struct chaos_journal *journal;
	unsigned place, life;
	unsigned index; /* in the journal's channels */
	GUID instance;
	VMBCHANNEL channel;
	struct chaos_sender notes; /* every so many deliveries one is sent to the client */
	struct chaos_receiver receiver;
	struct chaos_random random;
	uint32_t until_note;
};

struct chaos_server {
	struct chaos_journal *journal;
	struct kmcl_bus *bus;
	unsigned count;
	struct chaos_service services[CHAOS_CHANNELS];
};

/* Allocate, configure, enable, start. Does not return after a failure. */
void chaos_serve(struct chaos_server *server);
/* Disable and clean up; `leaving`: what is under way goes on in another life of the channels. */
void chaos_retire(struct chaos_server *server, bool leaving);

/* False: this process serves on. */
bool chaos_hand_over(struct chaos_server *server);
/* Serves with what the predecessor had. False: it gave nothing, or not everything. */
bool chaos_take_over(struct chaos_server *server);

void chaos_server_fail(struct chaos_server *server, const char *what, unsigned status)
    __attribute__((noreturn));

#endif
