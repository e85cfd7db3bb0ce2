/* SPDX-License-Identifier: MIT */
/*
 * For the tests of the SCSI controller: controllers whose disks are temporary files, an initiator
 * that negotiates and asks as Linux's hv_storvsc does, and a hold on what the threads engine does
 * to the file.
 */
#ifndef DRIVERS_STORVSP_RIG_H
#define DRIVERS_STORVSP_RIG_H

#include "storvsp.h"
#include "storvsp_scsi.h"
#include "storvsp_wire.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "world.h"

#define BLOCK STORVSP_BLOCK_BYTES
#define KIB 1024u
#define MIB (1024u * 1024u)
#define DISK_BYTES (16 * MIB)
#define DISK_BLOCKS (DISK_BYTES / BLOCK)
#define RIG_DISKS 3
#define RIG_CHANNELS 4
#define assert_status(got, wanted) assert_int_equal((unsigned)(got), (unsigned)(wanted))

/* Below the threads engine. */
extern atomic_int fail_reads, fail_writes, fail_syncs, fail_holes; /* with this errno value */
extern atomic_int hold_reads;      /* reads of offset 0 wait while it is set */
extern atomic_int hold_writes;     /* writes of offset 0 */
extern atomic_int held;            /* so many do */
extern atomic_int mappings;        /* that were made by anybody */
extern atomic_int durable_writes, syncs, holes, zeroed; /* that there were */

struct rig {
	struct conf_world *world;
	GUID instance;
	char paths[RIG_DISKS][64];
	int fds[RIG_DISKS];        /* the test's own look at the files */
	struct storvsp *storvsp;
	struct storvsp_options options;
	struct storvsp_disk disks[RIG_DISKS];
	struct conf_channel *channels[RIG_CHANNELS]; /* the first is the primary */
};
extern struct rig rig;

/*
 * A new rig with so many files of DISK_BYTES; disk i is target 0, LUN i. Its options may be changed
 * before rig_serve().
 */
void rig_new(struct conf_world *w, uint32_t disks);
NTSTATUS rig_serve_status(char *reason, size_t bytes);
void rig_serve(void);
/* Open the primary channel, and say nothing. */
void rig_connect(void);
/* Negotiate as Linux does: newest version first, down to what is accepted. Returns that. */
uint32_t rig_negotiate(void);
/* All of that with one disk. */
void rig_open(struct conf_world *w);
/* Ask for so many subchannels and open them. */
void rig_subchannels(uint32_t count);
/* Client channels go; the controller stays. */
void rig_disconnect(void);
void rig_close(void);
struct storvsp_stats rig_stats(void);

/*
 * A packet of the negotiation. Returns the status of its answer, of which at most 128 bytes are in
 * `answer` if not NULL.
 */
NTSTATUS rig_say(uint32_t channel, uint32_t operation, uint32_t argument, UINT32 bytes,
                 uint8_t *answer);

/* One SCSI request, and what became of it. */
struct call {
	uint32_t channel;
	uint8_t path, target, lun;
	uint8_t cdb[16], cdb_length;
	uint8_t direction;
	uint32_t data_length;
	PMDL mdl;
	uint8_t sense_room;
	UINT32 packet_bytes;
	/* The answer, checked for what is the same in all. */
	NTSTATUS status;
	uint8_t srb, scsi, sense[STORVSP_SENSE_BYTES], sense_bytes;
	uint32_t moved;
};
/* Of a CDB with the length of its group, as Linux would send it. `mdl` NULL: no data. */
struct call call_of(const void *cdb, uint8_t direction, PMDL mdl);
void call_put(const struct call *call, uint8_t *packet);
void call_take(struct call *call, const uint8_t *answer, UINT32 bytes);
void call_run(struct call *call);
/*
 * Run it; it ended with this sense (key << 16 | code << 8 | qualifier), complete and with no data.
 */
void expect_sense(struct call call, uint32_t sense);
/* Run it; it succeeded and moved so many bytes. */
void expect_good(struct call call, uint32_t moved);

/* The same without waiting; up to one for each shot. The call must stay. */
struct shot {
	struct call *call;
	uint8_t packet[STORVSP_MAXIMUM_PACKET];
	struct conf_send *send;
	uint32_t shots;
};
void shot_new(struct shot *shot, uint32_t channel);
void shot_fire(struct shot *shot, struct call *call);
/* Wait for the answer, and take it. */
void shot_await(struct shot *shot);
void shot_free(struct shot *shot);

/* CDBs. `form` is 6, 10, 12 or 16. */
struct call call_transfer(bool is_write, uint32_t form, uint64_t lba, uint32_t blocks, PMDL mdl);
struct call call_six(uint8_t operation, uint8_t b1, uint8_t b2, uint8_t b3, uint8_t b4, PMDL mdl);
struct call call_range(uint8_t operation, uint8_t flags, uint64_t lba, uint32_t blocks,
                       uint8_t direction, PMDL mdl);

/*
 * Pool memory with an MDL whose page numbers are shuffled: scattered pages, as a page cache gives
 * them.
 */
struct pages {
	uint8_t *memory;
	uint32_t pages, offset, bytes;
	uint32_t order[160];       /* page i of the data is this page of the memory */
	PMDL mdl;
};
void pages_new(struct pages *p, uint32_t offset, uint32_t bytes, bool shuffled);
void pages_free(struct pages *p);
void pages_put(struct pages *p, const uint8_t *bytes);
void pages_get(const struct pages *p, uint8_t *bytes);

/* The next of a sequence; the state is not 0. */
uint64_t rig_random(uint64_t *state);
/* That of KMCL_SEED, or this. */
uint64_t rig_seed(uint64_t otherwise);

/*
 * Somebody who writes the number of each write into a block of his own, again and again, until he
 * is stopped or his channel ends.
 */
#define WRITERS 16u
struct writer {
	struct shot shot;
	struct call call;
	struct pages pages;
	uint32_t acknowledged, sent;
};
void writer_new(struct writer *writer, uint32_t index, uint32_t channel);
/* Whether the write was sent. */
bool writer_fire(struct writer *writer);
/* Wait for its answer. True: acknowledged; otherwise the channel has ended. */
bool writer_await(struct writer *writer);
bool writer_is_done(struct writer *writer);

#endif
