/* SPDX-License-Identifier: MIT */
/* The receiving side of a channel: from ring to ProcessPacket and completion routines. */
#ifndef KMCL_RX_H
#define KMCL_RX_H

#include "kmcl/kmcl_channel.h"
#include "nt/nt_deadline.h"

#define KMCL_BATCH_NS 1000000u  /* longest batch at DISPATCH, unless the driver wants less (THR-8) */

enum kmcl_rx_result {
	KMCL_RX_ASLEEP,         /* nothing there, the peer will signal */
	KMCL_RX_HOT,            /* something was processed, nothing left; signals are masked: poll again or put to sleep */
	KMCL_RX_MORE,           /* the batch ended early; call again */
	KMCL_RX_NOT_MINE,       /* somebody else processes, or nothing may be processed now */
};

/* One batch at DISPATCH_LEVEL on the calling thread. */
enum kmcl_rx_result kmcl_rx_turn(struct kmcl_channel *ch);
/* End of polling: let the peer signal again. MORE if something came meanwhile. */
enum kmcl_rx_result kmcl_rx_sleep(struct kmcl_channel *ch);
/* Something may be there; some context will look. Any thread, any lock. */
void kmcl_rx_kick(struct kmcl_channel *ch);

/*
 * Process incoming packets on this thread, at DISPATCH_LEVEL, until *done is 2 or the channel's
 * spin time passes without one. Signals are allowed again on return. False: this thread may not,
 * now. A poller that is no waiter yields to one.
 */
bool kmcl_rx_poll(struct kmcl_channel *ch, const _Atomic uint32_t *done, uint32_t spin_ns, bool waiter);

/* A thread that sends something and then waits until it is over. */
struct kmcl_rx_waiter {
	uint32_t spin_ns;
	bool quiet;             /* the peer was told not to signal, because this thread is going to look */
};
/* Before it sends. Each is followed by one of the other two. */
void kmcl_rx_wait_begin(struct kmcl_channel *ch, struct kmcl_rx_waiter *waiter);
/* Nothing was sent. */
void kmcl_rx_wait_end(struct kmcl_channel *ch, const struct kmcl_rx_waiter *waiter);
/*
 * Process incoming packets, or sleep until the peer signals, until *done is 2. May return before, and then the thread has
 * nothing to do but to sleep on *done.
 */
void kmcl_rx_wait(struct kmcl_channel *ch, const struct kmcl_rx_waiter *waiter, _Atomic uint32_t *done,
                  const struct nt_deadline *deadline);

/* State context. */
void kmcl_rx_start(struct kmcl_channel *ch);
/* On return no callback of incoming processing runs and none starts (STM-9). */
void kmcl_rx_stop(struct kmcl_channel *ch);
/* On return no thread is inside the end of a packet any more. Nothing is outstanding. */
void kmcl_rx_wait_for_releases(struct kmcl_channel *ch);
void kmcl_rx_init(struct kmcl_channel *ch);
void kmcl_rx_destroy(struct kmcl_channel *ch);

#endif
