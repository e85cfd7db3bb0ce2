/* SPDX-License-Identifier: MIT */
/*
 * The director of the chaos run: places, the processes that follow each other in them, and lanes, which are threads that
 * take one process after another through its cycle.
 */
#ifndef CHAOS_DIRECTOR_H
#define CHAOS_DIRECTOR_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "journal.h"

/* Longer than anything takes on a slow machine, and than every time limit of the library: its end is a failure. */
#define CHAOS_PATIENCE_MS 60000u
#define CHAOS_CLIENT_LANES 2u

enum chaos_place_number {
	CHAOS_HOST,      /* serves from beginning to end, and shares the workers */
	CHAOS_BYSTANDER, /* its client, which never notices anything */
	CHAOS_FAITHFUL, /* a client of the host's that opens the workers' channel again and again */
	CHAOS_WORKERS,  /* servers behind the host */
	CHAOS_NOMAD,    /* a client that connects to one server after another */
	CHAOS_SERVERS,  /* these */
	CHAOS_CLIENTS,  /* of the host; one place for each lane */
	CHAOS_PLACES = CHAOS_CLIENTS + CHAOS_CLIENT_LANES,
};

struct chaos_place {
	const char *name;
	unsigned number;
	int memory; /* of the journal */
	struct chaos_journal *journal;
	unsigned lives, kills;
	_Atomic bool complained;
};

struct chaos_process {
	struct chaos_place *place;
	pid_t pid; /* 0: there is none */
	int pidfd;
};

enum chaos_fate {
	CHAOS_KILL,
	CHAOS_STOP_AND_GO, /* SIGSTOP, and SIGCONT when others were seen to go on */
	CHAOS_STOP_AND_KILL,
	CHAOS_STOP_AND_LEAVE, /* its client closes while it is stopped */
	CHAOS_END,            /* it ends by itself */
	CHAOS_HAND_OVER,
	CHAOS_KILL_OLD, /* during a handover */
	CHAOS_KILL_NEW,
	CHAOS_FATES,
};

struct chaos_lane {
	const char *name;
	unsigned number;
	uint64_t random;
	unsigned cycles; /* to do in this part of the run */
	void (*cycle)(struct chaos_lane *lane);
	/* For people. */
	char plan[120];
};

struct chaos_run {
	char directory[PATH_MAX / 2];
	char programs[PATH_MAX / 2];
	uint64_t seed;
	struct chaos_place places[CHAOS_PLACES];
	_Atomic unsigned cycles_passed, failures;
	_Atomic unsigned killed[CHAOS_PHASES], fates[CHAOS_FATES];
};
extern struct chaos_run chaos;

/* ---- director.c ---- */

/* The run fails; the first time says why. Lanes end after their present step. */
void chaos_fail(const struct chaos_lane *lane, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
bool chaos_failed(void);
uint32_t chaos_roll(struct chaos_lane *lane, uint32_t limit);

/* ---- process.c ---- */

void chaos_place_make(struct chaos_place *place, unsigned number, const char *name);
/* A client of `path`; mode as in client.c. */
bool chaos_start_client(struct chaos_process *process, struct chaos_place *place, const char *path,
                        unsigned instance, const char *mode);
/*
 * A server at `path`. `shared` may be NULL. `predecessor`: a socket to take over from, or -1; `successor`: for the one to
 * come, or -1. Both are closed here.
 */
bool chaos_start_server(struct chaos_process *process, struct chaos_place *place, const char *path,
                        unsigned first_instance, unsigned instances, const char *shared,
                        int predecessor, int successor);
bool chaos_is_running(const struct chaos_process *process);
/* Until it has ended. The exit status, or minus the signal; INT_MIN: it does not end. */
int chaos_wait_exit(struct chaos_process *process);
/* SIGKILL, at once. What it has ended by. */
int chaos_kill(struct chaos_process *process, enum chaos_phase at);
/* Stopped: no thread of it runs when this returns. False: it had ended before. */
bool chaos_stop(struct chaos_process *process);
void chaos_continue(struct chaos_process *process);

/* ---- wait.c ---- */

/* More than that many times in this phase; false if the process ended before (NULL: nobody that could). */
bool chaos_until_reached(struct chaos_place *place, enum chaos_phase phase, uint32_t more_than,
                         const struct chaos_process *unless_ended);
/* The first: true; the other: false. */
bool chaos_until_either(struct chaos_place *place, enum chaos_phase one, uint32_t one_more_than,
                        enum chaos_phase other, uint32_t other_more_than);
/* That many events since `since`, or all that its budget permits. */
bool chaos_until_events(struct chaos_place *place, uint32_t since, uint32_t count,
                        const struct chaos_process *unless_ended);
/* So many more packets may be sent than were sent until now. */
void chaos_grant(struct chaos_place *place, uint32_t packets);
/* The bystander gets something to do, and does it: nobody else holds it up. */
void chaos_bystander_goes_on(void);
/* The server of an impatient client is stopped: a request of it comes back when its time is over. */
void chaos_client_gives_up(struct chaos_place *client);
/* A moment of random length, so that a kill falls anywhere. */
void chaos_moment(struct chaos_lane *lane);
void chaos_order(_Atomic uint32_t *word, struct chaos_place *place);
/* Each place's first one is told once. */
void chaos_check_complaints(void);

/* ---- lanes ---- */

void chaos_client_cycle(struct chaos_lane *lane);
void chaos_worker_cycle(struct chaos_lane *lane);
void chaos_server_cycle(struct chaos_lane *lane);

/* ---- flat.c: descriptors, threads and memory of a process that lives from beginning to end ---- */

struct chaos_sample {
	unsigned descriptors, threads;
	unsigned long resident_kib; /* without its journal, which only grows */
};
/* Until a server has so many guests, connections and offers behind it, together. False: it never has. */
bool chaos_await_rest(struct chaos_place *host, uint32_t held);
/* When it is at rest. False: it never is. */
bool chaos_sample(const struct chaos_process *process, struct chaos_sample *sample);
/* Waits until it has no more than before. */
bool chaos_is_flat(const struct chaos_process *process, const struct chaos_sample *before,
                   struct chaos_sample *after);

/* What its descriptors and threads are, for who looks for the reason. */
void chaos_print_holdings(const struct chaos_process *process);

/* ---- account.c ---- */

struct chaos_sums {
	uint64_t accepted, delivered, succeeded, removed, cancelled, refused, bytes, external,
	    streams, cut;
};
/* Every packet of every journal. The number of rules that were checked and held; failures are told. */
unsigned chaos_account(struct chaos_sums *sums);

#endif
