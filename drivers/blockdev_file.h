/* SPDX-License-Identifier: MIT */
/*
 * The file below the block device drivers: reads, writes, syncs and holes, many at once, answered in
 * the order in which they get done. No kernel types in here, so that the drivers above it compile
 * anywhere.
 *
 * Two engines do the work: io_uring, or a few threads where the build or the machine has none.
 */
#ifndef DRIVERS_BLOCKDEV_FILE_H
#define DRIVERS_BLOCKDEV_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum block_result {
	BLOCK_DONE,
	BLOCK_NOT_FOUND,  /* open: no such file */
	BLOCK_REFUSED,    /* open: no permission */
	BLOCK_WRONG_KIND, /* open: neither a regular file nor a block device */
	BLOCK_IN_USE,     /* open: somebody writes it, or reads it and this was to write */
	BLOCK_NO_MEMORY,
	BLOCK_SHORT,      /* the file ends earlier than when it was opened */
	BLOCK_FULL,       /* no space, no quota, or a limit on the file's size */
	BLOCK_UNSUPPORTED, /* the file system or device below has no such operation */
	BLOCK_FAILED,     /* any other error of the file below */
};

enum block_action {
	BLOCK_READ,
	BLOCK_WRITE,
	BLOCK_SYNC, /* what was written and answered before is on the medium afterwards */
	/* `length` bytes read as zeros afterwards; no ranges. The size of the file stays. */
	BLOCK_DISCARD, /* and take no space */
	BLOCK_ZERO,    /* and whether they take space is the file system's choice */
};

struct block_range {
	void *address;
	size_t bytes;
};

/*
 * One piece of work. The caller fills it, and it belongs to the engine from block_file_queue()
 * until `done` is called, with `ranges` and the memory that they name.
 */
struct block_io {
	enum block_action action;
	uint64_t offset;
	struct block_range *ranges; /* the engine changes them as it goes */
	uint32_t range_count;
	uint64_t length;            /* BLOCK_DISCARD, BLOCK_ZERO: not 0; the others look at the ranges */
	bool durable;               /* BLOCK_WRITE: done means on the medium */
	/*
	 * Any thread, also the one inside block_file_queue() or block_file_kick(). The io is the
	 * caller's again.
	 */
	void (*done)(struct block_io *io, enum block_result result);
	/* The engine's. */
	struct block_io *next;
	void *slot;
};

enum block_engine_kind {
	BLOCK_ENGINE_BEST, /* io_uring if there is one */
	BLOCK_ENGINE_THREADS,
};

struct block_file_options {
	const char *path;
	bool read_only;
	uint32_t depth; /* most ios in work at any time, 1..4096; more is the caller's error */
	enum block_engine_kind engine;
};

struct block_file;

/*
 * Open and lock: one writer or many readers. BLOCK_DONE, or why not, and then *file is NULL. Blocks.
 */
enum block_result block_file_open(const struct block_file_options *options, struct block_file **file);
/* Nothing may be in work. Does not sync. Blocks. */
void block_file_close(struct block_file *file);

/* When it was opened. */
uint64_t block_file_bytes(const struct block_file *file);
/* Whether BLOCK_DISCARD is likely to work: a regular file, and its file system makes holes. */
bool block_file_makes_holes(const struct block_file *file);
/* For people: which engine, and why not the better one. */
const char *block_file_engine(const struct block_file *file);

/* Hand over; it starts at once or at the next kick. Any thread; does not wait for the file. */
void block_file_queue(struct block_file *file, struct block_io *io);
void block_file_kick(struct block_file *file);

#endif
