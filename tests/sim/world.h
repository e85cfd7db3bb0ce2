/* SPDX-License-Identifier: MIT */
/*
 * The two partitions of the simulation, their drivers' state, and what is remembered to check the library by. Both ends of
 * both buses are in this process; the drivers are the actors of a program, and callbacks.
 *
 * Only one task runs, and what is between two calls of the library runs without a break, so the drivers need no locks of
 * their own for anything short.
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include "kmcl.h"
#include "program.h"

#define SIM_PACKETS 8u /* packet objects of an end */
#define SIM_HELD 64u
#define SIM_SERIALS 512u /* of one sender on one end */
/* Besides the actors: completion routines that send again, and state callbacks. */
#define SIM_RESENDER SIM_ACTORS
#define SIM_CALLBACK (SIM_ACTORS + 1u)
#define SIM_SENDERS (SIM_ACTORS + 2u)
#define SIM_EXTERNAL_BYTES (3u * 4096)

/* What became of a packet, as its sender knows it. */
struct sim_record {
	enum { SIM_SENDING, SIM_ACCEPTED, SIM_REFUSED, SIM_REMOVED, SIM_MAYBE } status;
	uint32_t connection; /* opens and closes of the end so far */
	bool delivered;
	bool ended; /* its driver may do what it likes with its memory */
};

struct sim_out {
	VMBPACKET packet;
	void *memory; /* of a packet that was made in place */
	struct sim_end *end;
	bool busy;
	bool accepted; /* the send has returned, and it is still busy */
	bool answered; /* with an answer */
	uint32_t sender, serial;
	uint32_t again; /* times to send it in its completion routine */
	uint32_t bytes;
	uint8_t *external[2]; /* pool, outside */
	PMDL mdl[2];
};

struct sim_in {
	VMBPACKETCOMPLETION packet; /* NULL: free */
	void *buffer;
	uint32_t bytes;
	bool answered;
	uint64_t transaction;
};

struct sim_end {
	uint32_t slot;
	bool is_server;
	VMBCHANNEL channel; /* NULL: there is none now */
	/* Calls that use the channel, and whoever wants it alone. */
	uint32_t users;
	bool alone;
	/* The state that the callbacks tell of. */
	enum { SIM_CLOSED, SIM_OPEN, SIM_STARTED } state;
	const char *inside; /* a state callback that has not returned */
	bool post_started;
	bool restoring; /* may be open without EvtChannelOpened */
	uint32_t opens, closes, failures;
	/* Outgoing. */
	uint32_t asking; /* synchronous requests that have not returned */
	struct sim_out out[SIM_PACKETS];
	struct sim_record records[SIM_SENDERS][SIM_SERIALS];
	uint32_t serials[SIM_SENDERS];
	/* Incoming. */
	enum sim_answer answer;
	uint32_t answer_one_in;
	struct sim_in in[SIM_HELD];
	uint32_t in_count;
	struct sim_in deferred; /* must come next */
	bool processing;
	uint32_t last_serial[SIM_SENDERS]; /* + 1, since the channel opened */
	/* Client: what it described; server: what it mapped. */
	uint32_t gpadl;
	bool mapped;
	uint32_t gpadl_calls; /* under way, which a close waits for */
	void *gpadl_memory;
};

struct sim_world {
	const struct sim_program *program;
	struct kmcl_bus *host, *guest;
	struct sim_end ends[SIM_SLOTS][2]; /* client, server */
	uint32_t holds;                    /* the host's bus is held */
	uint32_t holds_ended;              /* so often */
	bool ending;                       /* no operation begins any more */
	bool over;                         /* nor is there a channel */
	uint32_t running;                  /* actors that have not ended */
	struct sim_counts counts;
};

extern struct sim_world sim_world;

static inline struct sim_end *
sim_end_of(uint32_t slot, bool is_server)
{
	return &sim_world.ends[slot][is_server];
}

static inline struct sim_end *
sim_peer_of(const struct sim_end *end)
{
	return &sim_world.ends[end->slot][!end->is_server];
}

/* Runs a program and checks it to the end; returns when everything is gone and was as it should be. */
void sim_world_run(const struct sim_program *program);

/* In which state the channels are, into a report. */
void sim_report_world(void);

/* ---- buses and channels (world.c) ------------------------------------------------------------------ */

/* False: it is not there, or the program ends. Else the channel stays until sim_release(). */
bool sim_use(struct sim_end *end);
void sim_release(struct sim_end *end);
/* The same, and nobody else uses it meanwhile. Not for calls of clients, which may wait for an answer for ever. */
bool sim_use_alone(struct sim_end *end);
void sim_release_alone(struct sim_end *end);
/* Disable, clean up, allocate again. */
void sim_renew(struct sim_end *end);
void sim_new_guest(void);
void sim_new_host(void);

/* ---- drivers (driver.c, incoming.c, outgoing.c, request.c) ------------------------------------------------------------------- */

/* Allocated and configured, or not: `channel` says it. */
void sim_driver_make(struct sim_end *end);
/* Disabled before. */
void sim_driver_unmake(struct sim_end *end);
NTSTATUS sim_status_is_one_of(NTSTATUS status, const char *call, unsigned count, ...);

/* A packet that is nobody's until it has ended: busy from now on. NULL: all are on their way, or without memory. */
struct sim_out *sim_take_packet(struct sim_end *end);
/* Memory for external data of a packet, in both places; false without memory. */
bool sim_external_make(struct sim_out *out);
void sim_external_free(struct sim_out *out);
void sim_send(struct sim_end *end, uint32_t sender, uint32_t bytes, uint32_t flags);
void sim_ask(struct sim_end *end, uint32_t sender, uint32_t bytes, uint32_t flags);
/* Completes at most so many of those that are held; returns how many. */
uint32_t sim_complete(struct sim_end *end, uint32_t most);
EVT_VMB_CHANNEL_PROCESS_PACKET sim_process_packet;
EVT_VMB_PACKET_COMPLETION_ROUTINE sim_completed;
EVT_VMB_CHANNEL_SAVE_PACKET sim_save_packet;
EVT_VMB_CHANNEL_RESTORE_PACKET sim_restore_packet;

/* ---- GPADLs, save and restore (objects.c) ------------------------------------------------------------- */

void sim_describe(struct sim_end *client, uint32_t bytes, bool from_mdl);
void sim_map(struct sim_end *server, bool read_only);
/* What the end made of GPADLs is no more. */
void sim_gpadl_end(struct sim_end *end);
/* The same, in the midst of the channel's life. */
void sim_forget(struct sim_end *end);
/* A snapshot, and go on; or begin anew with it. */
void sim_save(struct sim_end *server, bool anew);

/* ---- operations (operations.c) -------------------------------------------------------------------------- */

void sim_operation_run(const struct sim_operation *operation);

#endif
