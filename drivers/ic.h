/* SPDX-License-Identifier: MIT */
/*
 * What the integration components have in common: the offer, the message header, the negotiation of versions, one
 * request at a time with a deadline, and a guest that goes and comes back. A component (heartbeat.c, shutdown.c, ...) says
 * in a struct ic_service what is its own and is told what happens through its struct ic_ops.
 *
 * On the wire each message is one in-band packet without a completion, behind the pipe header that the library puts in
 * front: a 20-byte header and a body. A guest answers with a packet of its own that has the request's header, its flags
 * changed. All numbers are little-endian.
 *
 * Programs that only use components need the structures up to ic_query().
 */
#ifndef DRIVERS_IC_H
#define DRIVERS_IC_H

#include <wdm.h>
#include <vmbuskernelmodeclientlibapi.h>

#include "wire_bytes.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- for who uses a component ----------------------------------------------------------------- */

/* Zeros are defaults. */
struct ic_options {
	HANDLE bus;              /* may be closed after the call; NULL: the loopback bus */
	const GUID *instance;    /* NULL: the one that Hyper-V gives to this component */
	/*
	 * How long a guest may take to answer, milliseconds. Linux answers the negotiation of a component that has
	 * a daemon only when the daemon runs, or after 55 s.
	 */
	UINT32 negotiate_ms;     /* 0: 120000; then versions are offered once more */
	UINT32 reply_ms;         /* 0: as the component says */
};

struct ic_version {
	UINT16 major, minor;
};

enum ic_phase {
	IC_CLOSED,               /* no guest has the channel open */
	IC_NEGOTIATING,
	IC_READY,
	IC_REFUSED               /* no version in common, or nonsense for an answer; until the guest opens the channel anew */
};

struct ic_state {
	enum ic_phase phase;
	struct ic_version framework, message;   /* IC_READY */
	UINT64 opens;            /* since the component was created */
	UINT64 requests;         /* negotiations included */
	UINT64 replies;          /* that a request got */
	UINT64 timeouts;
	UINT64 stale;            /* packets that answer no request under way; dropped */
	UINT64 malformed;        /* packets that break the format; what they answered has failed */
};

/* Statuses in the header of a reply. */
#define IC_S_OK 0u
#define IC_E_NO_MORE_ITEMS 0x80070103u
#define IC_E_FAIL 0x80004005u
#define IC_E_NOT_SUPPORTED 0x80070032u
#define IC_E_NOT_FOUND 0x80041002u

/* ---- for components --------------------------------------------------------------------------- */

#define IC_HEADER_BYTES 20u

enum ic_message {
	IC_NEGOTIATE = 0,
	IC_HEARTBEAT = 1,
	IC_KVP = 2,
	IC_SHUTDOWN = 3,
	IC_TIMESYNC = 4
};

struct ic;

/*
 * All are called at DISPATCH_LEVEL, never two at a time, without locks; `ctx` as given to ic_create(). A request ends by exactly
 * one call of reply or failed.
 */
struct ic_ops {
	/* Versions are agreed. */
	VOID (*ready)(VOID *ctx);
	/* A request may be sent; after ready, after each request's end, and after ic_kick(). */
	VOID (*idle)(VOID *ctx);
	/* The guest's answer; `body` is private memory. */
	VOID (*reply)(VOID *ctx, UINT32 status, const UINT8 *body, UINT32 bytes);
	/*
	 * There will be none: STATUS_IO_TIMEOUT, STATUS_DEVICE_REMOVED (the guest closed the channel),
	 * STATUS_DEVICE_PROTOCOL_ERROR (it answered nonsense).
	 */
	VOID (*failed)(VOID *ctx, NTSTATUS why);
	/* Not ready any more, or refused: STATUS_DEVICE_REMOVED, STATUS_REVISION_MISMATCH. */
	VOID (*gone)(VOID *ctx, NTSTATUS why);
	/* The time set by ic_set_tick() has come. */
	VOID (*tick)(VOID *ctx);
};

/* Constant; outlives the component. */
struct ic_service {
	PCWSTR name;
	const GUID *type, *instance;
	enum ic_message message;
	const struct ic_version *versions;      /* of its messages, to be offered */
	UINT16 version_count;                   /* up to IC_MAXIMUM_VERSIONS */
	UINT32 body_bytes;                      /* largest body, either way */
	UINT32 reply_ms;
	struct ic_ops ops;
};
#define IC_MAXIMUM_VERSIONS 8u

/*
 * Offer a component. The ops may be called before this returns. PASSIVE. STATUS_SUCCESS, STATUS_INSUFFICIENT_RESOURCES,
 * STATUS_OBJECT_NAME_COLLISION (offered already), STATUS_INVALID_PARAMETER_2 (bad bus handle), or what
 * VmbChannelEnable says. On failure *created is NULL.
 */
NTSTATUS ic_create(const struct ic_service *service, const struct ic_options *options, VOID *ctx,
                   struct ic **created);
/* Withdraw the offer. When it returns no op is running and none will be called. PASSIVE, not in an op; NULL is allowed. */
VOID ic_destroy(struct ic *ic);

/* Any IRQL up to DISPATCH_LEVEL, any thread. */
VOID ic_query(struct ic *ic, struct ic_state *state);
/* Have idle called soon if a request may be sent. Up to DISPATCH_LEVEL, any thread. */
VOID ic_kick(struct ic *ic);

/*
 * In an op: send a request of the component's type. At most one until it has ended. The guest has so many milliseconds to
 * answer; 0 = as the options say.
 */
VOID ic_send(struct ic *ic, const VOID *body, UINT32 bytes, UINT32 patience_ms);
/* In an op: no request is under way. */
BOOLEAN ic_is_idle(struct ic *ic);
/* Have tick called once, in so many milliseconds from now; 0 = not at all. Up to DISPATCH_LEVEL, any thread. */
VOID ic_set_tick(struct ic *ic, UINT32 ms);
/* From ready to gone, up to DISPATCH_LEVEL: the agreed version of the messages is at least that. */
BOOLEAN ic_version_is_at_least(struct ic *ic, UINT16 major, UINT16 minor);

#ifdef __cplusplus
}
#endif
#endif
