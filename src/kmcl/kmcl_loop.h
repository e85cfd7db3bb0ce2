/* SPDX-License-Identifier: MIT */
/* Run loops: where signals of open channels arrive and packets are processed at DISPATCH_LEVEL. */
#ifndef KMCL_LOOP_H
#define KMCL_LOOP_H

#include "kmcl/kmcl_channel.h"

/* NULL when threads or descriptors are used up. */
struct kmcl_loop *kmcl_loop_default(void);

/* Signals on wait_fd lead to kmcl_rx_turn(). State context. */
VMB_MUST_CHECK enum vmb_status kmcl_loop_add(struct kmcl_loop *loop, struct kmcl_channel *ch,
                                             int wait_fd);
/* On return the loop does not touch the channel and will not. State context. */
void kmcl_loop_remove(struct kmcl_channel *ch, int wait_fd);
/*
 * The loop goes to the end of those who hear the doorbell, and hears what wakes nobody before it. False: the kernel did
 * not take it back; the loop looks every 100 ms then, and tries again. The caller has rx.owner, and the channel is open.
 */
VMB_MUST_CHECK bool kmcl_loop_queue_up(struct kmcl_channel *ch);
/* Process the channel soon. Any thread, any lock of the channel. */
void kmcl_loop_kick(struct kmcl_channel *ch);
/* What a channel waits for that nobody may tell it of: look every 100 ms. */
enum kmcl_watch {
	KMCL_WATCH_ROOM = 0x1,          /* in its ring; some peers lose the wake-up */
	KMCL_WATCH_MEMORY = 0x2,        /* for the next packet */
	KMCL_WATCH_SIGNALS = 0x4,       /* of a doorbell that the loop cannot hear */
};
void kmcl_loop_watch(struct kmcl_channel *ch, enum kmcl_watch what, bool on);

uint64_t kmcl_now_ns(void);

#endif
