/* SPDX-License-Identifier: MIT */
/*
 * The fuzzer's side of its worker: starts it, has it run cases, and turns its end into a finding.
 */
#ifndef TOOLS_FUZZ_HOST_H
#define TOOLS_FUZZ_HOST_H

#include <signal.h>
#include <stdio.h>
#include <sys/types.h>

#include "fuzz_case.h"
#include "fuzz_worker.h"

#define FUZZ_NAME_BYTES 96
#define FUZZ_TIMEOUT_MS 5000u

enum fuzz_kind {
	FUZZ_CRASH,     /* a signal */
	FUZZ_SANITIZER, /* a report of ASan or UBSan */
	FUZZ_MISUSE,    /* of the runtime or the API */
	FUZZ_HANG,
	FUZZ_OUTSIDE, /* written outside external data */
	FUZZ_LEAK,    /* left behind when the driver was unloaded */
	FUZZ_EXIT,    /* the driver ended the process */
};

struct fuzz_finding {
	enum fuzz_kind kind;
	char title[160];
	/* The same for the same bug: kind and the nearest functions. A file name, too. */
	char name[FUZZ_NAME_BYTES];
	char *report; /* what the worker said; free(3) it */
};

struct fuzz_host {
	struct fuzz_driver driver;
	uint32_t timeout_ms; /* for a case or the end of a worker; a start has 20 s if that is more */
	bool show_output;
	struct fuzz_shared *shared;
	const volatile sig_atomic_t *stop;
	/* The worker, if there is one. */
	pid_t pid;
	int sock, output;
	uint32_t cases; /* that it has run */
};

enum fuzz_result {
	FUZZ_FINE,
	FUZZ_FOUND,
	FUZZ_STOPPED,    /* *stop was set meanwhile */
	FUZZ_IMPOSSIBLE, /* no worker can begin; a message was printed */
};

/* False: no memory to share. */
bool fuzz_host_init(struct fuzz_host *host);
/*
 * Have a worker run the case; one is started if there is none. After a finding there is none; free its report.
 */
enum fuzz_result fuzz_host_run(struct fuzz_host *host, const struct fuzz_case *c,
                               struct fuzz_finding *finding);
/* Unload the driver and end the worker, if there is one. */
enum fuzz_result fuzz_host_end(struct fuzz_host *host, struct fuzz_finding *finding);
/* The worker goes as it is. */
void fuzz_host_kill(struct fuzz_host *host);

const char *fuzz_kind_name(enum fuzz_kind kind);

#endif
