/* SPDX-License-Identifier: MIT */
/*
 * What the stress tests of the API layer share: a bus of either kind, a channel whose callbacks check the rules that
 * hold whatever happens, traffic from several threads, and a seed.
 */
#ifndef T_KMCL_H
#define T_KMCL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <cmocka.h>
#include <pthread.h>
#include <sched.h>
#include <wdm.h>

#include "kmcl.h"
#include "vmbuskernelmodeclientlibapi.h"

/* ---- seed and watchdog ---------------------------------------------------------------------- */

struct t_random {
	uint64_t state;
};
uint32_t t_random(struct t_random *random);
uint32_t t_below(struct t_random *random, uint32_t limit);

/* From KMCL_SEED or the clock; printed, because a hang or a sanitizer's abort prints nothing of ours. */
uint64_t t_seed(const char *what);
/* A test that hangs is a test that failed: the process is aborted after so many seconds. */
void t_watchdog(unsigned seconds);
/*
 * Run this program again as a child with these two words; it has written one byte when this returns. Children are not
 * forked alone: the library has threads.
 */
struct t_child {
	pid_t pid;
	int ready_fd;
};
void t_child_start(struct t_child *child, const char *what, const char *path);
void t_child_ready(void);
/* SIGKILL, and the end of it. */
void t_child_kill(struct t_child *child);
/* What this process starts from now on runs on one processor; *before is for sched_setaffinity() afterwards. */
void t_one_processor(cpu_set_t *before);
/* Descriptors of this process. */
unsigned t_open_descriptors(void);

/* ---- buses ------------------------------------------------------------------------------------ */

struct t_bus {
	struct kmcl_bus *host;  /* NULL on the loopback */
	struct kmcl_bus *guest;
	HANDLE handle;          /* of the host; NULL on the loopback */
	char path[100];
};
void t_bus_path(char path[100]);
void t_bus_open(struct t_bus *bus, bool loopback);
void t_bus_close(struct t_bus *bus);
/* The held host bus goes to another owner, connections and all, and comes back to this one. */
void t_bus_move(struct t_bus *bus);

/* ---- events that tests wait for ------------------------------------------------------------------ */

struct t_count {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	uint64_t value;
};
void t_count_init(struct t_count *count);
void t_count_add(struct t_count *count);
uint64_t t_count_get(struct t_count *count);
void t_count_wait(struct t_count *count, uint64_t at_least);

/* ---- channels ------------------------------------------------------------------------------------ */

enum t_answer {
	T_ANSWER_NOW,           /* inside ProcessPacket */
	T_ANSWER_KEEP,          /* kept until t_channel_answer_kept(), or Suspend */
	T_ANSWER_MIX,           /* by the packet's bytes: now, deferred to PASSIVE, or by another thread */
};

struct t_channel {
	VMBCHANNEL handle;
	bool server;
	_Atomic int answer;
	_Atomic bool refuse_open;
	_Atomic bool ask_in_post_started;
	_Atomic bool keep_in_suspend;   /* packets that are kept are not answered by Suspend */
	bool misuse_expected;
	struct t_count opened, started, post_started, suspended, closed, failures, received;
	_Atomic int inside_state, inside_receive; /* callbacks that must not overlap */
	_Atomic bool running;           /* between Started and Suspend */
	_Atomic bool is_open;
	/* Outgoing. */
	_Atomic uint64_t accepted, completed, removed;
	/* Incoming that is kept. */
	pthread_mutex_t kept_lock;
	VMBPACKETCOMPLETION kept[4096];
	unsigned kept_count;
	/* The thread that answers for T_ANSWER_MIX. */
	pthread_t helper;
	pthread_cond_t kept_more;
	bool helper_stop;
	_Atomic uint64_t sums;          /* processing-complete batches */
	_Atomic uint64_t delivered;
};

struct t_target {
	GUID type, instance;
};
struct t_target t_target(uint32_t number);

/* Allocated and configured for small packets and small rings, Disabled. */
void t_server_new(struct t_channel *c, const struct t_bus *bus, const struct t_target *target);
void t_client_new(struct t_channel *c, const struct t_target *target);
/* Disabled first if need be; every promise about packets is checked. */
void t_channel_free(struct t_channel *c);
void t_channel_answer_kept(struct t_channel *c);
void t_channel_check_idle(struct t_channel *c);

/* One packet that echoes; its completion is counted. The status of the send. */
NTSTATUS t_send(struct t_channel *c, const void *bytes, uint32_t count, UINT32 flags, PMDL mdl);
/* One synchronous request of 16 bytes; the answer must be the request. timeout_ms < 0: none. */
NTSTATUS t_ask(struct t_channel *c, uint64_t value, int timeout_ms);

/* ---- traffic ---------------------------------------------------------------------------------------- */

struct t_traffic {
	struct t_channel *channel;
	_Atomic bool *stop;
	uint64_t seed;
	bool with_requests;
	bool external;
	pthread_t thread;
	uint64_t sent, asked;
};
void t_traffic_start(struct t_traffic *traffic);
void t_traffic_join(struct t_traffic *traffic);

#endif
