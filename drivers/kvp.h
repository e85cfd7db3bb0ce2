/* SPDX-License-Identifier: MIT */
/*
 * The key/value component: pairs that lie in pools inside the guest, kept there by its daemon; and what the daemon knows of the
 * guest's addresses. Text is UTF-8 here and UTF-16 on the wire.
 */
#ifndef DRIVERS_KVP_H
#define DRIVERS_KVP_H

#include "ic.h"

#ifdef __cplusplus
extern "C" {
#endif

DEFINE_GUID(KVP_INTERFACE_TYPE, 0xa9a0f4e7, 0x5a45, 0x4d96, 0xb8, 0x27, 0x8a, 0x84, 0x1e, 0x8c, 0x03,
            0xe6);

enum kvp_pool {
	KVP_POOL_EXTERNAL,       /* the host's words to the guest; Linux: /var/lib/hyperv/.kvp_pool_0 */
	KVP_POOL_GUEST,          /* the guest's words to the host */
	KVP_POOL_AUTO,           /* what the daemon finds out: names, versions, addresses; to be enumerated */
	KVP_POOL_AUTO_EXTERNAL
};

enum kvp_type {
	KVP_STRING = 1,
	KVP_EXPAND = 2,          /* a string with %variables%, as the guest has it */
	KVP_U32 = 4,
	KVP_U64 = 11
};

/* In bytes of UTF-16, terminator included. */
#define KVP_KEY_BYTES 512u
#define KVP_VALUE_BYTES 2048u
/* Requests that have not ended, at most. */
#define KVP_MAXIMUM_REQUESTS 256u

/* Lists have a semicolon after each entry, or between them: guests differ. */
struct kvp_ip_info {
	UINT8 family;            /* 0 unknown, 1 IPv4, 2 IPv6, 3 both */
	BOOLEAN dhcp;
	const char *addresses, *subnets, *gateways, *dns;
};

/*
 * How a request ended. All that is pointed at is valid during the call.
 *
 * status: STATUS_SUCCESS. STATUS_NOT_FOUND (get, delete): there is no such key. STATUS_NO_MORE_ENTRIES (enumerate): the index is behind the
 * last. STATUS_UNSUCCESSFUL: the guest failed, guest_status is what it said. STATUS_IO_TIMEOUT: no answer.
 * STATUS_DEVICE_REMOVED: the guest closed the channel before it answered; it may have done what it was asked or not.
 * STATUS_REVISION_MISMATCH: the guest and we have no version in common. STATUS_DEVICE_PROTOCOL_ERROR: it answered
 * nonsense. STATUS_CANCELLED: the component was destroyed.
 */
struct kvp_result {
	NTSTATUS status;
	UINT32 guest_status;
	enum kvp_type type;      /* get, enumerate */
	const char *key;         /* enumerate */
	const char *text;        /* get, enumerate: a string; NULL for a number */
	UINT64 number;
	const struct kvp_ip_info *ip;   /* kvp_get_ip_info */
};

/* Once for each accepted request; DISPATCH_LEVEL, or in kvp_destroy(); no lock held; further requests may be made. */
typedef VOID KVP_DONE(VOID *ctx, const struct kvp_result *result);

struct kvp_state {
	UINT32 requests;         /* that have not ended */
	UINT64 done, failed;     /* that ended with success, and otherwise */
};

struct kvp;

struct kvp_options {
	struct ic_options ic;    /* reply_ms: 0 = 60000; Linux gives its daemon 30 s */
};

/* As ic_create() and ic_destroy(). */
NTSTATUS kvp_create(const struct kvp_options *options, struct kvp **created);
VOID kvp_destroy(struct kvp *kvp);

/*
 * Requests are sent one after the other, in order. Those made while no guest has agreed on a version, its daemon not started
 * maybe, wait for one. Up to DISPATCH_LEVEL, any thread; `done` may be NULL. STATUS_SUCCESS: `done` will be called.
 * STATUS_INVALID_PARAMETER: no such pool, an empty key, or no UTF-8. STATUS_NAME_TOO_LONG: a key, value or adapter that does not fit.
 * STATUS_DEVICE_BUSY: KVP_MAXIMUM_REQUESTS have not ended. STATUS_REVISION_MISMATCH: the present guest refused.
 * STATUS_INSUFFICIENT_RESOURCES.
 */
NTSTATUS kvp_set_string(struct kvp *kvp, enum kvp_pool pool, const char *key, const char *value,
                        KVP_DONE *done, VOID *ctx);
/* Linux keeps numbers as decimal text. */
NTSTATUS kvp_set_u32(struct kvp *kvp, enum kvp_pool pool, const char *key, UINT32 value,
                     KVP_DONE *done, VOID *ctx);
NTSTATUS kvp_set_u64(struct kvp *kvp, enum kvp_pool pool, const char *key, UINT64 value,
                     KVP_DONE *done, VOID *ctx);
NTSTATUS kvp_delete(struct kvp *kvp, enum kvp_pool pool, const char *key, KVP_DONE *done, VOID *ctx);
NTSTATUS kvp_get(struct kvp *kvp, enum kvp_pool pool, const char *key, KVP_DONE *done, VOID *ctx);
/* From 0 until STATUS_NO_MORE_ENTRIES. */
NTSTATUS kvp_enumerate(struct kvp *kvp, enum kvp_pool pool, UINT32 index, KVP_DONE *done, VOID *ctx);
/* `adapter` is what the guest knows the adapter by; Linux: its MAC address, "00:15:5D:01:02:03". */
NTSTATUS kvp_get_ip_info(struct kvp *kvp, const char *adapter, KVP_DONE *done, VOID *ctx);

/* Up to DISPATCH_LEVEL, any thread. `ic` may be NULL. */
VOID kvp_query(struct kvp *kvp, struct kvp_state *state, struct ic_state *ic);

#ifdef __cplusplus
}
#endif
#endif
