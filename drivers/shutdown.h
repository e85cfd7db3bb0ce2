/* SPDX-License-Identifier: MIT */
/*
 * The shutdown component: asks the guest to power off, restart or hibernate. The guest says whether it will, and then does;
 * that it has is seen elsewhere.
 */
#ifndef DRIVERS_SHUTDOWN_H
#define DRIVERS_SHUTDOWN_H

#include "ic.h"

#ifdef __cplusplus
extern "C" {
#endif

DEFINE_GUID(SHUTDOWN_INTERFACE_TYPE, 0x0e0b6031, 0x5213, 0x4934, 0x81, 0x8b, 0x38, 0xd9, 0x0c, 0xed,
            0x39, 0xdb);

enum shutdown_action {
	SHUTDOWN_POWER_OFF,
	SHUTDOWN_RESTART,        /* guests from version 3.1 on */
	SHUTDOWN_HIBERNATE       /* guests from version 3.2 on */
};

/*
 * The end of a request. STATUS_SUCCESS: the guest said that it will. STATUS_UNSUCCESSFUL: it said that it will not;
 * guest_status is what it said (IC_E_FAIL of Linux: it does not know the request). STATUS_IO_TIMEOUT: no answer in
 * time. STATUS_DEVICE_REMOVED: the guest closed the channel before it answered. STATUS_DEVICE_PROTOCOL_ERROR:
 * nonsense. STATUS_CANCELLED: the component was destroyed.
 */
typedef VOID SHUTDOWN_DONE(VOID *ctx, NTSTATUS status, UINT32 guest_status);

#define SHUTDOWN_REASON_PLANNED 0x80000000u
#define SHUTDOWN_MESSAGE_BYTES 2048u

struct shutdown_request {
	enum shutdown_action action;
	BOOLEAN force;           /* applications that object are ended */
	UINT32 reason;           /* a code for the guest's log; 0: SHUTDOWN_REASON_PLANNED */
	UINT32 guest_seconds;    /* how long the guest may let its users wait */
	const char *message;     /* UTF-8 for its users, copied; cut to 1023 UTF-16 units; NULL: none */
	UINT32 reply_ms;         /* how long to wait for the answer; 0: ic.reply_ms of the options, else 30000 */
	/* Called once if the request was accepted, at DISPATCH_LEVEL or in shutdown_destroy(), no lock held. May be NULL. */
	SHUTDOWN_DONE *done;
	VOID *ctx;
};

struct shutdown;

struct shutdown_options {
	struct ic_options ic;
	/* The guest can be asked, or not any more. DISPATCH_LEVEL, no lock held, one call at a time. May be NULL. */
	VOID (*ready)(VOID *ctx, BOOLEAN is_ready);
	VOID *ctx;
};

/* As ic_create() and ic_destroy(). */
NTSTATUS shutdown_create(const struct shutdown_options *options, struct shutdown **created);
VOID shutdown_destroy(struct shutdown *shutdown);
/*
 * Ask; does not wait. STATUS_SUCCESS: `done` will be called. STATUS_DEVICE_NOT_READY: no guest has agreed on a version yet.
 * STATUS_DEVICE_BUSY: one request has not ended. STATUS_NOT_SUPPORTED: not in the guest's version.
 * STATUS_INVALID_PARAMETER: unknown action. STATUS_INSUFFICIENT_RESOURCES. Up to DISPATCH_LEVEL, any thread, also in `done`.
 */
NTSTATUS shutdown_ask(struct shutdown *shutdown, const struct shutdown_request *request);
/* Up to DISPATCH_LEVEL, any thread. */
VOID shutdown_query(struct shutdown *shutdown, struct ic_state *ic);

#ifdef __cplusplus
}
#endif
#endif
