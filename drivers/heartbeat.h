/* SPDX-License-Identifier: MIT */
/*
 * The heartbeat component: asks the guest every two seconds whether it is there.
 */
#ifndef DRIVERS_HEARTBEAT_H
#define DRIVERS_HEARTBEAT_H

#include "ic.h"

#ifdef __cplusplus
extern "C" {
#endif

DEFINE_GUID(HEARTBEAT_INTERFACE_TYPE, 0x57164f39, 0x9115, 0x4e78, 0xab, 0x55, 0x38, 0x2f, 0x3b, 0xd5,
            0x42, 0x2d);

enum heartbeat_health {
	HEARTBEAT_NEVER,         /* no guest has answered since it opened the channel */
	HEARTBEAT_HEALTHY,
	HEARTBEAT_LOST           /* it answered once, and does not any more, or closed the channel */
};

/* What the guest says of itself; Linux says nothing. */
enum heartbeat_application {
	HEARTBEAT_APPLICATION_UNKNOWN,
	HEARTBEAT_APPLICATION_HEALTHY,
	HEARTBEAT_APPLICATION_CRITICAL,
	HEARTBEAT_APPLICATION_STOPPED
};

struct heartbeat_state {
	enum heartbeat_health health;
	enum heartbeat_application application;
	UINT64 beats;            /* answers since the guest opened the channel */
	UINT64 sequence;         /* of the last answer */
	UINT64 heard_100ns;      /* when that was, system time; 0: never */
};

struct heartbeat;

struct heartbeat_options {
	struct ic_options ic;    /* reply_ms: 0 = 2000 */
	UINT32 period_ms;        /* 0: 2000 */
	UINT32 lost_after;       /* beats in a row without an answer; 0: 5 */
	/* `health` or `application` changed. DISPATCH_LEVEL, no lock held, one call at a time. May be NULL. */
	VOID (*changed)(VOID *ctx, const struct heartbeat_state *state);
	VOID *ctx;
};

/* As ic_create() and ic_destroy(). */
NTSTATUS heartbeat_create(const struct heartbeat_options *options, struct heartbeat **created);
VOID heartbeat_destroy(struct heartbeat *heartbeat);
/* Up to DISPATCH_LEVEL, any thread. `ic` may be NULL. */
VOID heartbeat_query(struct heartbeat *heartbeat, struct heartbeat_state *state, struct ic_state *ic);

#ifdef __cplusplus
}
#endif
#endif
