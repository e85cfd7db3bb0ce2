/* SPDX-License-Identifier: MIT */
/*
 * Serial contexts at PASSIVE_LEVEL. A strand runs its function on some thread of a shared pool, never twice at
 * once; the pool starts a thread whenever a strand is ready and no thread is idle, so a strand that blocks
 * delays nobody else (THR-3).
 */
#ifndef KMCL_STRAND_H
#define KMCL_STRAND_H

#include <stdbool.h>

struct kmcl_strand {
	void (*run)(void *ctx);
	void *ctx;
	struct kmcl_strand *next;
	enum {
		KMCL_STRAND_IDLE,
		KMCL_STRAND_READY,
		KMCL_STRAND_RUNNING,
		KMCL_STRAND_AGAIN,  /* posted while running */
	} state;                    /* pool lock */
};

/* Whoever has strands keeps at least one thread alive. False: there is none and none can be started. */
bool kmcl_strand_pool_enter(void);
void kmcl_strand_pool_leave(void);
void kmcl_strand_init(struct kmcl_strand *strand, void (*run)(void *ctx), void *ctx);
/* Inside a strand's function: its thread is named after a channel until it goes idle. "" = no friendly name. */
void kmcl_strand_serve(const char *friendly);
/* The function will run once more from its beginning. Any thread, any lock held. */
void kmcl_strand_post(struct kmcl_strand *strand);
/* Wait until it is neither ready nor running. Not from the strand itself. */
void kmcl_strand_quiesce(struct kmcl_strand *strand);

#endif
