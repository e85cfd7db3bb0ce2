/* SPDX-License-Identifier: MIT */
/*
 * What every event does to a channel of the host in every state (vmbus-protocol 4.9). Data only;
 * the tests walk the same table. A cell that is not written here refuses the event.
 */
#include "bus/server.h"

#define GO(next, ...) { SERVER_GO, next, { __VA_ARGS__ } }
#define STAY(state) { SERVER_GO, state, { SA_NONE } }
#define IGNORE(state) { SERVER_IGNORE, state, { SA_NONE } }

/*
 * A guest learns of the end late: what it asks of the channel meanwhile is no offence. It hears of
 * it when the device has let go of its memory, because guests reuse rings as soon as they see the
 * rescind.
 */
#define REVOKED_CELLS(state, released)                                                           \
	[SE_OPEN] = IGNORE(state), [SE_CLOSE] = IGNORE(state), [SE_OPEN_RESERVED] = IGNORE(state), \
	[SE_CLOSE_RESERVED] = IGNORE(state), [SE_MODIFY] = GO(state, SA_MODIFY_REFUSED),           \
	[SE_RELEASE] = GO(released, SA_DROP_GPADLS),                                               \
	[SE_GUEST_GONE] = GO(released, SA_DROP_GPADLS)

/* clang-format off */
const struct server_edge server_edges[SC_STATES][SE_EVENTS] = {
	[SC_HIDDEN] = {
		[SE_ANNOUNCE] = GO(SC_CLOSED, SA_SEND_OFFER),
		[SE_GUEST_GONE] = STAY(SC_HIDDEN),
		[SE_REVOKE] = GO(SC_GONE, SA_NONE),
	},
	[SC_HIDDEN_OPENING] = {
		[SE_GUEST_GONE] = STAY(SC_HIDDEN_OPENING),
		[SE_OPENED] = GO(SC_HIDDEN_CLOSING, SA_RAISE_CLOSE),
		[SE_OPEN_FAILED] = GO(SC_HIDDEN, SA_UNMAP_RING),
		[SE_REVOKE] = GO(SC_GONE_OPENING, SA_NONE),
	},
	[SC_HIDDEN_CLOSING] = {
		[SE_GUEST_GONE] = STAY(SC_HIDDEN_CLOSING),
		[SE_CLOSE_DONE] = GO(SC_HIDDEN, SA_UNMAP_RING),
		[SE_REVOKE] = GO(SC_GONE_CLOSING, SA_NONE),
	},
	[SC_CLOSED] = {
		[SE_OPEN] = GO(SC_OPENING, SA_RAISE_OPEN),
		[SE_OPEN_BAD] = GO(SC_CLOSED, SA_RESULT_REFUSED),
		[SE_OPEN_RESERVED] = GO(SC_CLOSED, SA_RESULT_RESERVED),
		[SE_CLOSE_RESERVED] = GO(SC_CLOSED, SA_RESERVED_RESPONSE),
		[SE_RELEASE] = GO(SC_HIDDEN, SA_MARK_RELEASED, SA_DROP_GPADLS),
		[SE_MODIFY] = GO(SC_CLOSED, SA_MODIFY_REFUSED),
		[SE_GUEST_GONE] = GO(SC_HIDDEN, SA_DROP_GPADLS),
		[SE_REVOKE] = GO(SC_REVOKED_MAPPED, SA_FAIL_INCOMPLETE, SA_ASK_UNMAP),
	},
	[SC_OPENING] = {
		[SE_MODIFY] = GO(SC_OPENING, SA_MODIFY_REFUSED),
		[SE_GUEST_GONE] = GO(SC_HIDDEN_OPENING, SA_DROP_GPADLS),
		[SE_OPENED] = GO(SC_OPEN, SA_RESULT_OPEN),
		[SE_OPEN_FAILED] = GO(SC_CLOSED, SA_UNMAP_RING, SA_RESULT_FAILED),
		[SE_REVOKE] = GO(SC_REVOKED_OPENING, SA_RESULT_REVOKED, SA_FAIL_INCOMPLETE,
		                 SA_ASK_UNMAP),
	},
	[SC_OPEN] = {
		[SE_CLOSE] = GO(SC_CLOSING, SA_RAISE_CLOSE),
		[SE_RELEASE] = GO(SC_HIDDEN_CLOSING, SA_MARK_RELEASED, SA_DROP_GPADLS,
		                  SA_RAISE_CLOSE),
		[SE_MODIFY] = GO(SC_OPEN, SA_MODIFY),
		[SE_GUEST_GONE] = GO(SC_HIDDEN_CLOSING, SA_DROP_GPADLS, SA_RAISE_CLOSE),
		[SE_REVOKE] = GO(SC_REVOKED_CLOSING, SA_FAIL_INCOMPLETE, SA_ASK_UNMAP,
		                 SA_RAISE_CLOSE),
	},
	[SC_CLOSING] = {
		[SE_OPEN] = GO(SC_CLOSING_REOPEN, SA_STORE_REOPEN),
		[SE_MODIFY] = GO(SC_CLOSING, SA_MODIFY_REFUSED),
		[SE_GUEST_GONE] = GO(SC_HIDDEN_CLOSING, SA_DROP_GPADLS),
		[SE_CLOSE_DONE] = GO(SC_CLOSED, SA_UNMAP_RING),
		[SE_REVOKE] = GO(SC_REVOKED_CLOSING, SA_FAIL_INCOMPLETE, SA_ASK_UNMAP),
	},
	[SC_CLOSING_REOPEN] = {
		[SE_MODIFY] = GO(SC_CLOSING_REOPEN, SA_MODIFY_REFUSED),
		[SE_GUEST_GONE] = GO(SC_HIDDEN_CLOSING, SA_DROP_GPADLS),
		[SE_CLOSE_DONE] = GO(SC_CLOSED, SA_UNMAP_RING, SA_REDO_OPEN),
		[SE_REVOKE] = GO(SC_REVOKED_CLOSING, SA_RESULT_REOPEN_REVOKED, SA_FAIL_INCOMPLETE,
		                 SA_ASK_UNMAP),
	},
	[SC_REVOKED_OPENING] = {
		REVOKED_CELLS(SC_REVOKED_OPENING, SC_GONE_OPENING),
		[SE_OPENED] = GO(SC_REVOKED_CLOSING, SA_RAISE_CLOSE),
		[SE_OPEN_FAILED] = GO(SC_REVOKED_MAPPED, SA_UNMAP_RING),
	},
	[SC_REVOKED_CLOSING] = {
		REVOKED_CELLS(SC_REVOKED_CLOSING, SC_GONE_CLOSING),
		[SE_CLOSE_DONE] = GO(SC_REVOKED_MAPPED, SA_UNMAP_RING),
	},
	[SC_REVOKED_MAPPED] = {
		REVOKED_CELLS(SC_REVOKED_MAPPED, SC_GONE),
		[SE_UNMAPPED] = GO(SC_RESCINDED, SA_SEND_RESCIND),
	},
	[SC_RESCINDED] = {
		REVOKED_CELLS(SC_RESCINDED, SC_GONE),
	},
	[SC_GONE] = {
		[SE_GUEST_GONE] = STAY(SC_GONE),
	},
	[SC_GONE_OPENING] = {
		[SE_GUEST_GONE] = STAY(SC_GONE_OPENING),
		[SE_OPENED] = GO(SC_GONE_CLOSING, SA_RAISE_CLOSE),
		[SE_OPEN_FAILED] = GO(SC_GONE, SA_UNMAP_RING),
	},
	[SC_GONE_CLOSING] = {
		[SE_GUEST_GONE] = STAY(SC_GONE_CLOSING),
		[SE_CLOSE_DONE] = GO(SC_GONE, SA_UNMAP_RING),
	},
};

static const char *const state_names[SC_STATES] = {
	[SC_HIDDEN] = "hidden",
	[SC_HIDDEN_OPENING] = "hidden, opening",
	[SC_HIDDEN_CLOSING] = "hidden, closing",
	[SC_CLOSED] = "closed",
	[SC_OPENING] = "opening",
	[SC_OPEN] = "open",
	[SC_CLOSING] = "closing",
	[SC_CLOSING_REOPEN] = "closing, reopen",
	[SC_REVOKED_OPENING] = "revoked, opening",
	[SC_REVOKED_CLOSING] = "revoked, closing",
	[SC_REVOKED_MAPPED] = "revoked, mapped",
	[SC_RESCINDED] = "rescinded",
	[SC_GONE] = "gone",
	[SC_GONE_OPENING] = "gone, opening",
	[SC_GONE_CLOSING] = "gone, closing",
};
/* clang-format on */

const char *
server_state_name(enum server_channel_state state)
{
	return state_names[state];
}

bool
server_state_is_visible(enum server_channel_state state)
{
	return state >= SC_CLOSED && state <= SC_RESCINDED;
}

bool
server_state_is_revoked(enum server_channel_state state)
{
	return state >= SC_REVOKED_OPENING;
}
