/* SPDX-License-Identifier: MIT */
/* What the parts of the SCSI controller's fuzzer share: the guest, the files below, and what must be in them. */
#ifndef FUZZ_STORVSP_H
#define FUZZ_STORVSP_H

#include "fuzz.h"

#include <pthread.h>
#include <stdatomic.h>

#include "storvsp.h"
#include "storvsp_scsi.h"
#include "storvsp_wire.h"

#define BLOCK STORVSP_BLOCK_BYTES
#define DISK_BLOCKS 1100u /* more than one step of work that is done in steps */
#define DISK_BYTES (DISK_BLOCKS * BLOCK)
/*
 * The first can make holes; the second is read-only; the third cannot make holes, and has a part of a block too much; the last has more
 * blocks than 32 bits count, and nothing works.
 */
#define DISKS 4u
#define READ_ONLY 1u
#define BROKEN 3u
#define SUBCHANNELS 2u
#define PACKET_BYTES 256u
#define RANGES_MAX (STORVSP_MAXIMUM_RANGES + 3u)
#define DATA_MAX (STORVSP_MAXIMUM_TRANSFER + 8u * BLOCK)
#define MEMORY_BYTES (DATA_MAX + 4u * PAGE_SIZE)

#define UNMAP_BYTES(descriptors) (SCSI_UNMAP_HEADER_BYTES + (descriptors) * SCSI_UNMAP_DESCRIPTOR_BYTES)

#define MUST(call) FUZZ_CHECK((call) == STATUS_SUCCESS)

struct world {
	struct storvsp *storvsp;
	VMBCHANNEL client[1 + SUBCHANNELS]; /* the first is the primary */
	unsigned clients;
	uint8_t *memory;
	const char *read_only_path;
	uint8_t kept[20]; /* what the controller would tell a successor */
	atomic_bool leaving;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned started; /* lock */
};
extern struct world world;

/* A packet on its way. */
struct question {
	VMBPACKET packet;
	uint32_t bytes;
	uint8_t answer[PACKET_BYTES];
	bool is_answered, is_lost; /* world.lock; the other side left instead */
};

void ask(struct question *question, uint32_t channel, const void *packet, uint32_t bytes, PMDL data);
void await(struct question *question);

/* ---- fuzz_storvsp_scsi.c ------------------------------------------------------------------------ */

/* A SCSI request: asked, and its answer checked. */
void scsi(struct fuzz *fuzz);

/* ---- fuzz_storvsp_heir.c ------------------------------------------------------------------------ */

/* What a controller without a guest saves. */
void make_saved(void);
/* Another controller begins with bytes that are not what somebody saved. */
void take_over(struct fuzz *fuzz);

/* ---- fuzz_storvsp_files.c ----------------------------------------------------------------------- */

/* Its path, for as long as the program runs. */
const char *make_file(uint32_t disk);
/* All as they were at first. */
void begin_files(void);
/* What was written is in the files. */
void check_files(void);

/* The next action of a file fails, in one of some ways; 0: it does not. */
#define FAILURES 17u
void fail_files(uint32_t how);

/* Blocks of a disk, within it. NULL: they may be anything now. */
void model_write(uint32_t disk, uint64_t block, const uint8_t *bytes);
/* Whether they may be what is there. */
bool model_allows(uint32_t disk, uint64_t block, const uint8_t *bytes);

/* Syncs wait, so that what comes later is answered before them. */
void hold_syncs(void);
/* FALSE: so many do not wait, because this was answered at once. */
bool await_held_syncs(uint32_t count, const struct question *question);
void release_syncs(void);

/*
 * The next read or hole waits until the guest's primary channel is on its way to be closed. FALSE of the second: none waits, because
 * this was answered at once.
 */
void hold_until_leaving(void);
bool await_held_work(const struct question *question);

#endif
