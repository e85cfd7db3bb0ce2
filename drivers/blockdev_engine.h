/* SPDX-License-Identifier: MIT */
/* What blockdev_file.c and its engines share. */
#ifndef DRIVERS_BLOCKDEV_ENGINE_H
#define DRIVERS_BLOCKDEV_ENGINE_H

#include "blockdev_file.h"

struct block_engine_ops {
	/* 0 with *engine, or an errno value. */
	int (*open)(int fd, uint32_t depth, void **engine);
	void (*close)(void *engine);
	void (*queue)(void *engine, struct block_io *io);
	void (*kick)(void *engine);
};

#ifdef BLOCKDEV_WITH_URING
extern const struct block_engine_ops block_uring_ops;
#endif
extern const struct block_engine_ops block_threads_ops;

/*
 * `bytes` of the io got done: its offset and ranges are what is left. True: nothing is.
 */
bool block_io_advance(struct block_io *io, size_t bytes);
enum block_result block_result_of_errno(int error);
/* What fallocate() calls BLOCK_DISCARD or BLOCK_ZERO. */
int block_fallocate_mode(enum block_action action);

#endif
