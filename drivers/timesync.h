/* SPDX-License-Identifier: MIT */
/*
 * The time component: tells the guest what time it is. One message that the guest shall set its clock by as soon as versions
 * are agreed, then samples, which a guest may steer its clock by; Linux gives them to chrony through its PTP device.
 */
#ifndef DRIVERS_TIMESYNC_H
#define DRIVERS_TIMESYNC_H

#include "ic.h"

#ifdef __cplusplus
extern "C" {
#endif

DEFINE_GUID(TIMESYNC_INTERFACE_TYPE, 0x9527e630, 0xd0ae, 0x497b, 0xad, 0xce, 0xe8, 0x0a, 0xb0, 0x17,
            0x5c, 0xaf);

struct timesync_state {
	UINT64 sets;             /* messages that say "set your clock" */
	UINT64 samples;
	UINT64 answered;         /* of both */
	UINT64 last_100ns;       /* the time in the last of them */
};

struct timesync;

struct timesync_options {
	struct ic_options ic;    /* reply_ms: 0 = 5000 */
	UINT32 period_ms;        /* between samples; 0: 5000 */
	/*
	 * The time to tell: 100 ns since 1601-01-01 UTC. DISPATCH_LEVEL; does not block. NULL: the host's clock
	 * (CLOCK_REALTIME).
	 */
	UINT64 (*clock)(VOID *ctx);
	/*
	 * The guest's reference counter at this moment, 100 ns, as the guest itself reads it. With it a guest makes up
	 * for the time that a message was under way. DISPATCH_LEVEL; does not block. NULL: none, and version 4.0 is not
	 * offered.
	 */
	UINT64 (*reference)(VOID *ctx);
	VOID *ctx;
};

/* As ic_create() and ic_destroy(). */
NTSTATUS timesync_create(const struct timesync_options *options, struct timesync **created);
VOID timesync_destroy(struct timesync *timesync);
/*
 * Have the guest set its clock now (after the host's was changed, or the guest stood still). Sets that are asked for while one is
 * waiting to be sent are one. Without a guest nothing is lost: a guest is told so anyway when it comes. Up to
 * DISPATCH_LEVEL, any thread.
 */
VOID timesync_set(struct timesync *timesync);
/* Up to DISPATCH_LEVEL, any thread. `ic` may be NULL. */
VOID timesync_query(struct timesync *timesync, struct timesync_state *state, struct ic_state *ic);

#ifdef __cplusplus
}
#endif
#endif
