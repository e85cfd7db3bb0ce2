/* SPDX-License-Identifier: MIT */
/*
 * Synchronous requests of tests: on the test's own thread, and on threads of their own when the
 * test has to act while the call waits.
 */
#ifndef CONFORMANCE_SSR_H
#define CONFORMANCE_SSR_H

#include "world.h"

/* Rings of one page, so that few packets fill them. */
#define SSR_SMALL_PACKET 1024
extern const struct conf_options ssr_small;

/* Timeouts that nobody lives to see; a wait that ends because of one is a failure. */
#define SSR_LONG CONF_MS(3600 * 1000)
/* "No timeout pointer" for the helpers below. */
#define SSR_NO_LIMIT INT64_MAX

/* The arguments of one call, and what became of it. */
struct ssr_call {
	struct conf_channel *channel;
	void *buffer;
	UINT32 bytes;
	PMDL mdl;
	UINT32 flags;
	void *answer;
	PUINT32 answer_bytes;
	PLARGE_INTEGER timeout;
	KIRQL irql;             /* raised to, before the call */
	/* Under the world's lock. */
	bool returned;
	NTSTATUS status;
	uint64_t began, ended;
	/* For calls that do not bring their own. */
	uint64_t number[2], room[2];
	UINT32 room_bytes;
	LARGE_INTEGER limit;
	pthread_t thread;
};

/* A call that carries `number` in 8 bytes and has room for an 8-byte answer. */
void ssr_prepare(struct ssr_call *call, struct conf_channel *c, uint64_t number, UINT32 flags,
                 int64_t timeout);
/* On this thread. */
NTSTATUS ssr_run(struct ssr_call *call);
/* On its own thread, until ssr_join(), which waits for its return. */
void ssr_start(struct ssr_call *call);
NTSTATUS ssr_join(struct ssr_call *call);
bool ssr_returned(struct ssr_call *call);

/* In one line: prepare and run. */
NTSTATUS ssr_send(struct conf_channel *c, uint64_t number, UINT32 flags, int64_t timeout);
/* The number that a packet of ssr_prepare() or conf_post() carries. */
uint64_t ssr_number(const struct conf_packet *p);
/* Wait until so many packets are in the FIFO of the channel. */
void ssr_await_queued(struct conf_channel *c, uint32_t count);

/* A blocking channel function on a thread of its own. */
struct ssr_task {
	struct conf_channel *channel;
	VOID (*run)(VMBCHANNEL channel);
	bool done;              /* under the world's lock */
	pthread_t thread;
};
void ssr_task_start(struct ssr_task *task, struct conf_channel *c, VOID (*run)(VMBCHANNEL channel));
void ssr_task_join(struct ssr_task *task);

/*
 * An on_event: a silent server that lets go of its packets when it is closed, as every driver
 * must.
 */
NTSTATUS ssr_release_in_suspend(struct conf_channel *c, enum conf_event event);

#endif
