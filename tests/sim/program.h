/* SPDX-License-Identifier: MIT */
/*
 * A program of the simulation: how to disturb, how the channels are configured, and a list of operations, each for one of the
 * actors, which do theirs one after the other and all at once. A seed makes a program; a program can be written to a file, read
 * back, and made shorter.
 */
#ifndef SIM_PROGRAM_H
#define SIM_PROGRAM_H

#include <stdio.h>

#include "scheduler.h"
#include "sim_port.h"

#define SIM_SLOTS 3u /* pairs of channels; the last is a subchannel of the first */
#define SIM_SUBCHANNEL 2u
#define SIM_MOST_OPERATIONS 400u

/* Client drivers, server drivers, and what happens to both. */
#define SIM_ACTORS 5u
#define SIM_CHAOS 4u /* 0, 1: c0, c1; 2, 3: s0, s1 */
static inline bool
sim_actor_is_server(uint32_t actor)
{
	return actor >= 2;
}

/* clang-format off */
/* name, what a and b are */
#define SIM_OPERATIONS(M) \
	M(ENABLE, "enable") \
	M(DISABLE, "disable") \
	M(START, "start") \
	M(PAUSE, "pause") \
	M(RENEW, "renew")       /* disable, clean up, allocate again */ \
	M(SEND, "send")         /* bytes, SIM_SEND_* */ \
	M(FILL, "fill")         /* bytes, how many */ \
	M(ASK, "ask")           /* synchronous request: bytes, SIM_ASK_* */ \
	M(ANSWER, "answer")     /* how incoming packets are ended: enum sim_answer, one in b */ \
	M(COMPLETE, "complete") /* at most a of those that are held */ \
	M(PASSIVE, "passive")   /* a: required */ \
	M(QUOTA, "quota")       /* a */ \
	M(DESCRIBE, "describe") /* client: a GPADL of a bytes; b: from an MDL */ \
	M(FORGET, "forget")     /* client: delete it */ \
	M(MAP, "map")           /* server: map it; a: read-only */ \
	M(UNMAP, "unmap") \
	M(SAVE, "save")         /* server: snapshot, and resume; or a: give up, and restore */ \
	M(PAUSE_TIME, "wait")   /* a microseconds */ \
	M(AWAIT, "await")       /* that the channel runs, at most a microseconds */ \
	M(BREAK, "break")       /* the connection ends: one side was killed */ \
	M(NEW_GUEST, "guest")   /* the guest's bus is closed and connected again */ \
	M(NEW_HOST, "host")     /* both are made anew */ \
	M(REFUSE, "refuse")     /* one request to the system in a fails; 0: none */
/* clang-format on */

enum sim_operation_code {
#define SIM_CODE(name, text) SIM_OP_##name,
	SIM_OPERATIONS(SIM_CODE)
#undef SIM_CODE
	    SIM_OP_COUNT
};

enum {
	SIM_SEND_WAIT = 1,    /* with an answer */
	SIM_SEND_POOL = 2,    /* external data in guest memory */
	SIM_SEND_OUTSIDE = 4, /* external data elsewhere */
	SIM_SEND_AGAIN = 8,   /* and once more in its completion routine */
	SIM_SEND_PART = 16,   /* of the external data, VmbPacketSendWithExternalMdl() */
	SIM_SEND_PAGES = 32,  /* by number, VmbPacketSendWithExternalPfns() */
	SIM_SEND_FLAGS = 64,
};

enum {
	SIM_ASK_WAIT = 1,
	SIM_ASK_POOL = 2,
	SIM_ASK_ZERO = 4,  /* does not wait */
	SIM_ASK_SHORT = 8, /* some milliseconds */
	SIM_ASK_CUT = 16,  /* the buffer is smaller than the answer */
};

enum sim_answer { SIM_ECHO, SIM_HOLD, SIM_DEFER, SIM_FAIL, SIM_ANSWERS };

struct sim_operation {
	uint32_t actor, code, slot, a, b;
};

struct sim_channel_config {
	uint32_t pipe, pages, packet, quota, passive;
};

struct sim_program {
	uint64_t seed;
	struct sim_disturbance how;
	struct sim_delays delays;
	struct sim_channel_config channels[SIM_SLOTS];
	uint32_t count;
	struct sim_operation operations[SIM_MOST_OPERATIONS];
};

/* What happened, so that nobody takes a run in which little did for a good one. */
/* clang-format off */
#define SIM_COUNTS(M) \
	M(opens, "opens") \
	M(starts, "starts") \
	M(failed_opens, "opens that failed") \
	M(deliveries, "packets delivered") \
	M(completions, "sends completed") \
	M(removals, "sends that ended as removed") \
	M(answers, "requests answered") \
	M(cancellations, "requests cancelled") \
	M(deferrals, "packets deferred") \
	M(failures, "packets failed") \
	M(externals, "external data looked at") \
	M(gpadls, "GPADLs made") \
	M(mappings, "GPADLs mapped") \
	M(subchannels, "subchannels opened") \
	M(saves, "saves") \
	M(restores, "restores") \
	M(breaks, "connections broken") \
	M(guests, "guests anew") \
	M(hosts, "hosts anew") \
	M(refusals, "requests to the system refused")
/* clang-format on */

struct sim_counts {
#define SIM_COUNT(name, text) uint64_t name;
	SIM_COUNTS(SIM_COUNT)
#undef SIM_COUNT
};

void sim_program_make(struct sim_program *program, uint64_t seed);
void sim_program_print(const struct sim_program *program, FILE *out);
/* False: line `*line` is not what it should be. */
bool sim_program_read(struct sim_program *program, FILE *in, uint32_t *line);
const char *sim_actor_name(uint32_t actor);
/* The same, and the other senders. */
const char *sim_sender_name(uint32_t sender);
const char *sim_operation_name(uint32_t code);

#endif
