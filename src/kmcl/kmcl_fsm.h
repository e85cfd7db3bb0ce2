/* SPDX-License-Identifier: MIT */
/*
 * The channel state machine: wishes and events come in, the state context (a strand at PASSIVE) works them off by one
 * table, one action at a time.
 */
#ifndef KMCL_FSM_H
#define KMCL_FSM_H

#include "kmcl/kmcl_channel.h"

const char *kmcl_state_name(enum kmcl_state state);

void kmcl_fsm_init(struct kmcl_channel *ch);
void kmcl_fsm_destroy(struct kmcl_channel *ch);

/* Events from the bus; any lock of a bus may be held. */
void kmcl_fsm_peer_open(struct kmcl_channel *ch);
/* False: the channel had not begun to open, so there is nothing to close; an open that waited is forgotten. */
bool kmcl_fsm_peer_gone(struct kmcl_channel *ch);
/* Client: connecting failed after the offer was found. */
void kmcl_fsm_connect_failed(struct kmcl_channel *ch, NTSTATUS status, const char *why);
/* The role has a step to do while Enabled. */
void kmcl_fsm_step(struct kmcl_channel *ch);
/* Disabled was reached, or Enable failed: what was wished and what came meanwhile is over. fsm.lock. */
void kmcl_fsm_ended_locked(struct kmcl_channel *ch);
/* Look at the conditions again: a role's own step is due, or the last indicated packet is gone. */
void kmcl_fsm_poke(struct kmcl_channel *ch);

/*
 * The channel fails for good (state F): ring corruption, PacketFail. The first reason is kept. Any thread; the second form
 * under tx.lock.
 */
void kmcl_channel_fail(struct kmcl_channel *ch, const char *why);
void kmcl_channel_fail_locked(struct kmcl_channel *ch, const char *why);

#endif
