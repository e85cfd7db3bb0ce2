/* SPDX-License-Identifier: MIT */
/*
 * Additions to the world for tests of states: calls on a thread of their own, and callbacks that stop until they are let
 * go. Neither lasts longer than CONF_LIMIT_SECONDS, so that a failed test ends.
 */
#ifndef CONFORMANCE_ERRAND_H
#define CONFORMANCE_ERRAND_H

#include "world.h"

struct errand {
	void (*run)(void *context);
	void *context;
	pthread_t thread;
	int tid;   /* atomic; 0 = not there yet */
	bool done; /* atomic */
};
void errand_start(struct errand *e, void (*run)(void *context), void *context);
/* Until the call blocks in the kernel or is over. True: it is over. */
bool errand_settle(struct errand *e);
void errand_join(struct errand *e);

/* For errand_start; the context is a VMBCHANNEL. */
void errand_disable(void *channel);
void errand_pause(void *channel);
void errand_cleanup(void *channel);

/*
 * Stop the channel inside this callback, whenever it comes, until errand_let_go. They use the channel's `ctx` and
 * `on_event`. Before Enable, or while no state callback can begin.
 */
void errand_hold(struct conf_channel *c, enum conf_event event);
void errand_let_go(struct conf_channel *c);

/* Whether the channel can be configured, which is what Disabled means (STM-1). */
bool errand_is_disabled(struct conf_channel *c);

#endif
