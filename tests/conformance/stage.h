/* SPDX-License-Identifier: MIT */
/*
 * A pair of which one actor, the subject, is held in a state of table 1.4 for as long as the test
 * wants. What holds it (a gate, a packet that is not completed, a peer that is not there) is
 * released by stage_release().
 */
#ifndef CONFORMANCE_STAGE_H
#define CONFORMANCE_STAGE_H

#include "errand.h"

enum stage_state {
	STAGE_D,
	STAGE_E,       /* the peer is not enabled */
	STAGE_O,       /* inside EvtChannelOpened */
	STAGE_P,
	STAGE_S,       /* inside EvtChannelStarted */
	STAGE_A,
	STAGE_U_PAUSE, /* two packets are outstanding */
	STAGE_U_CLOSE, /* the same, because of VmbChannelDisable */
	STAGE_C,       /* inside EvtChannelClosed, because of the peer */
	STAGE_F,       /* two packets are outstanding, a third was failed */
	STAGE_STATES
};
extern const char *const stage_names[STAGE_STATES];

struct stage {
	enum stage_state state;
	struct conf_pair pair;
	struct conf_channel *subject, *peer;
	/* In A, U_pause, U_close and F: outstanding, of senders that wait for completions; the second has external data
	 * if the subject is a server. In P and S: `stale` was completed before. */
	struct conf_packet *held[2];
	VMBPACKETCOMPLETION stale;
	void *memory;           /* two pages of the guest's pool */
	PMDL mdl;               /* of it */
	UINT32 gpadl;           /* if asked for and the peers got as far as that; of `memory` */
	bool mapped;            /* by a server subject */
	struct errand errand;   /* the Pause or Disable that leads to U or C */
	bool errand_runs;
	struct conf_send *sends[8];
	uint32_t send_count;
};

/* gpadl: a client subject has created one, a server subject has mapped one. */
void stage_enter(struct stage *s, struct conf_world *w, bool server, enum stage_state state,
                 bool gpadl);
/* A packet object that stage_free frees. */
struct conf_send *stage_send(struct stage *s, struct conf_channel *c);
/* The subject leaves O, S, U, C; a peer that was missing comes. Held packets are completed. */
void stage_release(struct stage *s);
void stage_free(struct stage *s);

#endif
