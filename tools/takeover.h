/* SPDX-License-Identifier: MIT */
/*
 * How one `kmcl run --server` is replaced by another: the running one listens beside its bus, the new one
 * connects and gets the channels' states and then the bus.
 */
#ifndef TOOLS_TAKEOVER_H
#define TOOLS_TAKEOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "kmcl.h"

struct takeover_offer {
	int listen_fd; /* -1: nobody can take over */
	char path[128];
	uid_t owner;    /* who may take over: the user of this process when it began to listen */
};
/* Listen beside the bus, as its owner only. False: errno says why. */
bool takeover_listen(struct takeover_offer *offer, const char *bus_path);
void takeover_unlisten(struct takeover_offer *offer);
/* The same, but the file stays: a successor replaces it. */
void takeover_abandon(struct takeover_offer *offer);
/* The new process that waits, or -1. */
int takeover_accept(const struct takeover_offer *offer);

/*
 * At the new process: connect to the one that serves the bus. -1: nobody does, or will not.
 */
int takeover_connect(const char *bus_path);
/* A held bus, and what its channels were (free(3)). */
enum vmb_status takeover_receive(int sock, struct kmcl_bus **bus, void **state, size_t *bytes);

/* The states; the bus follows with kmcl_bus_send(). */
bool takeover_send_state(int sock, const void *state, size_t bytes);

#endif
