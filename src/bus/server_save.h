/* SPDX-License-Identifier: MIT */
/*
 * The saved form of the host's machine, shared by the two files that write and read it. Chunks come
 * in the order of their kinds: one connection, then any number of each of the others, then one end
 * with their counts. Fields are listed where they are written, in server_save.c.
 */
#ifndef BUS_SERVER_SAVE_H
#define BUS_SERVER_SAVE_H

#include "bus/server.h"
#include "wire/chunk.h"

enum server_chunk {
	SERVER_CHUNK_CONNECTION = 1,
	SERVER_CHUNK_ID,        /* who had an id last; ascending */
	SERVER_CHUNK_CHANNEL,   /* ascending */
	SERVER_CHUNK_GPADL,
	SERVER_CHUNK_HELD,
	SERVER_CHUNK_END,
	SERVER_CHUNKS
};

/* States in which nothing is owed by the device. Part of the format. */
enum server_saved_state {
	SERVER_SAVED_HIDDEN = 1,
	SERVER_SAVED_CLOSED,
	SERVER_SAVED_OPEN,
	SERVER_SAVED_RESCINDED,
};

/* "VMBS" */
static const struct vmb_chunk_format server_chunk_format = { .magic = 0x53424D56, .version = 1 };

#endif
