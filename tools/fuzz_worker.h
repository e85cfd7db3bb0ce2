/* SPDX-License-Identifier: MIT */
/*
 * A worker of `kmcl fuzz`: a process that loads the driver, opens what it offers as a guest would, and does to it what cases
 * say, until it is told to end or the driver ends it. What it shares with the fuzzer is here.
 */
#ifndef TOOLS_FUZZ_WORKER_H
#define TOOLS_FUZZ_WORKER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fuzz_coverage.h"
#include "fuzz_stack.h"

/* A worker's whole life in text, for replays. Untouched pages cost nothing. */
#define FUZZ_TEXT_MAX (256u << 20)

struct fuzz_driver {
	const char *path;
	const char *const *parameters; /* NAME=VALUE */
	uint32_t parameter_count;
	uint32_t
	    pending_ms; /* so long a packet may go unanswered while its channel is open; 0: no limit but the fuzzer's */
};

/* What a worker is doing, to say where it hangs. */
enum fuzz_phase {
	FUZZ_LOADING,
	FUZZ_OPENING,
	FUZZ_SENDING,
	FUZZ_WAITING, /* for the driver to be done with packets */
	FUZZ_CLOSING,
	FUZZ_UNLOADING,
};

/* What a worker found itself before it ended. */
enum fuzz_verdict {
	FUZZ_NOTHING,
	FUZZ_CANNOT_BEGIN, /* `reason` says why */
	FUZZ_OVERRUN,      /* written outside external data */
	FUZZ_LEFT,         /* memory, requests or devices after the driver was unloaded */
};

struct fuzz_shared {
	struct fuzz_coverage coverage;
	struct fuzz_stack stack;
	_Atomic int phase;     /* enum fuzz_phase */
	_Atomic uint32_t step; /* of the case */
	_Atomic int verdict;   /* enum fuzz_verdict */
	char reason[512];
	uint32_t news;    /* of the case that was run last */
	uint32_t packets; /* sent by it */
	bool worn;        /* a channel failed, or cannot be opened any more: take a new worker */
	uint32_t
	    too_large; /* a packet of so many bytes is more than the driver's channel takes; 0: not known */
	uint32_t offers;
	char text[FUZZ_TEXT_MAX]; /* the case */
};

/* On the socket: the fuzzer writes one, and the worker answers FUZZ_DONE to FUZZ_RUN, and once when it is ready. */
enum {
	FUZZ_RUN = 'r',
	FUZZ_END = 'e', /* close, unload, exit */
	FUZZ_DONE = 'd',
};

/* In a process of its own, that has no other thread. */
_Noreturn void fuzz_worker(const struct fuzz_driver *driver, struct fuzz_shared *shared, int sock);

#endif
