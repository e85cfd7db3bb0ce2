/* SPDX-License-Identifier: MIT */
/*
 * The channel state machine: wishes and events come in, the state context (a strand at PASSIVE) works them
 * off by one table, one action at a time.
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
/* As VmbChannelDisable, but does not wait. Not under fsm.lock or a bus's lock. */
void kmcl_fsm_leave(struct kmcl_channel *ch);
/* The role has a step to do while Enabled. */
void kmcl_fsm_step(struct kmcl_channel *ch);
/* Disabled was reached, or Enable failed: what was wished and what came meanwhile is over. fsm.lock. */
void kmcl_fsm_ended_locked(struct kmcl_channel *ch);
/* Wait until what the peer asked for so far has begun: no open or close waits for the state context. */
void kmcl_fsm_wait_for_peer(struct kmcl_channel *ch);
/* Look at the conditions again: a role's own step is due, or the last indicated packet is gone. */
void kmcl_fsm_poke(struct kmcl_channel *ch);

/*
 * Keep the state context still for a call that looks at the whole channel or changes it (SaveBegin,
 * RestoreFromBuffer). False, and nothing is held: the channel is neither Enabled nor, with `or_paused`,
 * Paused; or it failed, is about to close, or somebody else holds it. API threads outside callbacks of the
 * channel.
 */
bool kmcl_fsm_hold(struct kmcl_channel *ch, bool or_paused);
void kmcl_fsm_let_go(struct kmcl_channel *ch);
/*
 * Let a held, Enabled channel go and make it Paused without telling the driver (RFB-6); returns when it is.
 * After a failure it is Enabled as before, unless it was disabled meanwhile.
 */
NTSTATUS kmcl_fsm_resume(struct kmcl_channel *ch);
/* Whether this thread runs a callback of the channel, which is a misuse of `function` (STM-12). */
bool kmcl_fsm_inside_callback(struct kmcl_channel *ch, const char *function);

/*
 * The channel fails for good (state F): ring corruption, PacketFail. The first reason is kept. Any thread;
 * the second form under tx.lock, whose kmcl_tx_unlock() does the rest.
 */
void kmcl_channel_fail(struct kmcl_channel *ch, const char *why);
void kmcl_channel_fail_locked(struct kmcl_channel *ch, const char *why);

/* What somebody who is not the driver has paused. */
struct kmcl_fsm_pause {
	bool ran;               /* it was not paused before */
	uint64_t pauses;        /* of the driver's, before */
};
/*
 * VmbChannelPause for somebody who is not the driver, up to a CLOCK_MONOTONIC time in ns. False: the driver still has packets
 * then, and the pause is still wished; or the driver started the channel meanwhile.
 */
bool kmcl_fsm_pause_until(struct kmcl_channel *ch, uint64_t until_ns, struct kmcl_fsm_pause *pause);
/* And back, unless the driver wishes it paused by now. */
void kmcl_fsm_end_pause(struct kmcl_channel *ch, const struct kmcl_fsm_pause *pause);

#endif
