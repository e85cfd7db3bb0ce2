/* SPDX-License-Identifier: MIT */
/*
 * Result codes of the vmb_ layers. Zero is success, positive values are outcomes that are not
 * failures, negative values are failures. Causes that a caller must treat differently never share
 * a code. NTSTATUS and errno are made from these at the edges only.
 */
#ifndef VMB_STATUS_H
#define VMB_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define VMB_MUST_CHECK __attribute__((warn_unused_result))
/* For a result that makes no difference to the caller. */
#define VMB_IGNORE(call)                                                                           \
	do {                                                                                       \
		if ((call) != VMB_OK) {                                                            \
		}                                                                                  \
	} while (0)

enum vmb_status {
	VMB_OK = 0,
	VMB_EMPTY = 1,           /* nothing to read */
	VMB_QUEUED = 2,          /* accepted, not yet done */

	VMB_E_INVALID = -1,      /* a parameter of the local caller is wrong */
	VMB_E_STATE = -2,        /* not allowed in the present state */
	VMB_E_FULL = -3,         /* no room now; may fit later */
	VMB_E_TOO_BIG = -4,      /* can never fit */
	VMB_E_CORRUPT = -5,      /* shared memory holds a value the protocol forbids */
	VMB_E_MALFORMED = -6,    /* a message or packet breaks a rule */
	VMB_E_UNSUPPORTED = -7,  /* recognised, and refused by name */
	VMB_E_NOT_FOUND = -8,
	VMB_E_EXISTS = -9,
	VMB_E_LIMIT = -10,       /* a configured budget is used up */
	VMB_E_NO_MEMORY = -11,
	VMB_E_ACCESS = -12,      /* writing to something read-only, or permission denied */
	VMB_E_BUSY = -13,
	VMB_E_CLOSED = -14,      /* the peer is gone */
	VMB_E_TIMEOUT = -15,
	VMB_E_IO = -16,          /* the operating system refused */
};

/* A short text for logs: "ok", "ring full", ... or "unknown status". Never NULL. Any context. */
const char *vmb_status_name(enum vmb_status status);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
