/* SPDX-License-Identifier: MIT */
/*
 * The synthetic keyboard. A guest asks for a version of the protocol, and is then sent key strokes as scan codes of set 1. It
 * is no integration component: its messages have no pipe header.
 */
#ifndef DRIVERS_KEYBOARD_H
#define DRIVERS_KEYBOARD_H

#include <wdm.h>
#include <vmbuskernelmodeclientlibapi.h>

#ifdef __cplusplus
extern "C" {
#endif

DEFINE_GUID(KEYBOARD_INTERFACE_TYPE, 0xf912ad6d, 0x2b17, 0x48ea, 0xbd, 0x65, 0xf9, 0x27, 0xa6, 0x1c,
            0x76, 0x84);

/* Key strokes that the guest has not taken yet, at most; a guest's ring has room for some hundreds of them. */
#define KEYBOARD_MAXIMUM_STROKES 4096u

enum keyboard_phase {
	KEYBOARD_CLOSED,         /* no guest has the channel open */
	KEYBOARD_OPEN,           /* it has not asked for a version that we know */
	KEYBOARD_READY
};

struct keyboard_state {
	enum keyboard_phase phase;
	UINT64 strokes;          /* accepted for sending */
	UINT64 dropped;          /* of these, because the guest went away before */
	UINT64 refused;          /* requests for versions that we do not know */
	UINT64 malformed;        /* messages of the guest that make no sense; dropped */
	UINT32 waiting;          /* strokes that are not in the guest's ring yet */
	UINT16 leds;             /* last said by the guest: 1 scroll, 2 num, 4 caps lock */
};

/* What a stroke is, apart from its scan code. */
#define KEYBOARD_BREAK 0x2u      /* the key goes up */
#define KEYBOARD_E0 0x4u         /* prefixes */
#define KEYBOARD_E1 0x8u

struct keyboard;

struct keyboard_options {
	HANDLE bus;              /* may be closed after the call; NULL: the loopback bus */
	const GUID *instance;    /* NULL: the one that Hyper-V gives to it */
	/* The guest can be typed at, or not any more. Up to DISPATCH_LEVEL, no lock held. May be NULL. */
	VOID (*ready)(VOID *ctx, BOOLEAN is_ready);
	/* The guest sets its lights. Up to DISPATCH_LEVEL, no lock held. May be NULL. */
	VOID (*leds)(VOID *ctx, UINT16 leds);
	VOID *ctx;
};

/*
 * Offer a keyboard. Callbacks may be called before this returns. PASSIVE. STATUS_SUCCESS, STATUS_INSUFFICIENT_RESOURCES,
 * STATUS_OBJECT_NAME_COLLISION (offered already), or what VmbChannelEnable says. On failure *created is NULL.
 */
NTSTATUS keyboard_create(const struct keyboard_options *options, struct keyboard **created);
/* Withdraw the offer. When it returns no callback is running. PASSIVE, not in a callback; NULL is allowed. */
VOID keyboard_destroy(struct keyboard *keyboard);
/*
 * One stroke: `code` is the make code, 1 to 0x7f; `info` is of KEYBOARD_BREAK, _E0 and _E1. Strokes arrive in the order of calls. Up to
 * DISPATCH_LEVEL, any thread. STATUS_SUCCESS; STATUS_INVALID_PARAMETER_2, _3; STATUS_DEVICE_NOT_READY (no guest is ready);
 * STATUS_DEVICE_BUSY (KEYBOARD_MAXIMUM_STROKES are waiting); STATUS_INSUFFICIENT_RESOURCES.
 */
NTSTATUS keyboard_key(struct keyboard *keyboard, UINT16 code, UINT32 info);
/*
 * Press and release the keys of a US keyboard that make this text: printable ASCII, \b, \t, \n (Enter), 0x1b (Escape). All or
 * nothing, and no stroke of others in between. Returns as keyboard_key(); STATUS_INVALID_PARAMETER_2: another character.
 */
NTSTATUS keyboard_type(struct keyboard *keyboard, const char *text);
/* Up to DISPATCH_LEVEL, any thread. */
VOID keyboard_query(struct keyboard *keyboard, struct keyboard_state *state);

#ifdef __cplusplus
}
#endif
#endif
