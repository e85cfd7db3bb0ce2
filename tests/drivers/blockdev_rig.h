/* SPDX-License-Identifier: MIT */
/*
 * For the tests of the block device: a disk that is a temporary file, a client channel that sends what the test likes, the client
 * driver's core, and a hold on what the threads engine does.
 */
#ifndef DRIVERS_BLOCKDEV_RIG_H
#define DRIVERS_BLOCKDEV_RIG_H

#include "blockclient.h"
#include "blockdev.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "world.h"

#define BLOCK BLOCKDEV_BLOCK_BYTES
#define MIB (1024u * 1024u)
#define DISK_BYTES (64 * MIB)
#define assert_status(got, wanted) assert_int_equal((unsigned)(got), (unsigned)(wanted))

/* Below the threads engine; changed while no disk is there. */
extern PKEVENT hold_reads_at_zero; /* a read of offset 0 waits for it */
extern atomic_int lose_write;      /* the write that makes it zero is not done */
extern atomic_int fail_errno;      /* writes fail with it */

struct rig {
	struct conf_world *world;
	char path[64];
	int fd; /* the test's own look at the file */
	GUID instance;
	PBLOCKDEV_DISK disk;
	struct conf_channel *raw;
	PBLOCKCLIENT client;
};
extern struct rig rig;

/* A new rig with a file of so many bytes. */
void rig_file(struct conf_world *w, uint32_t bytes);
NTSTATUS rig_start_status(BOOLEAN read_only, BOOLEAN no_uring, ULONG depth);
/* A client channel of the test's own, wider than the protocol allows. */
void rig_raw(void);
/* The client driver's core; the disk has said what it is. */
void rig_client(void);
/* A file, a disk with defaults, a raw client. */
void rig_open(struct conf_world *w);
void rig_close(void);
BLOCKDEV_COUNTERS counters(void);

#endif
