/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that came from another process: what they are, and how to get rid of those that are
 * not what they should be. Nothing is asked of a descriptor that its owner could make us wait for.
 */
#ifndef PORT_FDS_H
#define PORT_FDS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* An eventfd; it is made non-blocking. */
bool port_fd_accept_eventfd(int fd);

struct port_ram {
	uint64_t bytes;
	dev_t device;
	ino_t inode;
};
/*
 * A memfd of ordinary pages that can no longer shrink, whole pages long and at most `max_bytes`.
 * Returns NULL and fills *ram, or says what is wrong.
 */
const char *port_fd_inspect_ram(int fd, uint64_t max_bytes, struct port_ram *ram);

/* Close descriptors of unknown kind (-1: none) without waiting for whoever serves the files behind them. */
void port_fds_discard(const int *fds, uint32_t count);

#endif
