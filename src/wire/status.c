/* SPDX-License-Identifier: MIT */
/*
 * Names of the result codes, for logs and for people.
 */
#include "vmb/status.h"

const char *
vmb_status_name(enum vmb_status status)
{
	/* No default: the compiler reports a code without a name. */
	switch (status) {
	case VMB_OK:
		return "ok";
	case VMB_EMPTY:
		return "empty";
	case VMB_QUEUED:
		return "queued";
	case VMB_E_INVALID:
		return "invalid parameter";
	case VMB_E_STATE:
		return "wrong state";
	case VMB_E_FULL:
		return "ring full";
	case VMB_E_TOO_BIG:
		return "too big";
	case VMB_E_CORRUPT:
		return "shared memory corrupt";
	case VMB_E_MALFORMED:
		return "malformed";
	case VMB_E_UNSUPPORTED:
		return "unsupported";
	case VMB_E_NOT_FOUND:
		return "not found";
	case VMB_E_EXISTS:
		return "exists already";
	case VMB_E_LIMIT:
		return "limit reached";
	case VMB_E_NO_MEMORY:
		return "out of memory";
	case VMB_E_ACCESS:
		return "access denied";
	case VMB_E_BUSY:
		return "busy";
	case VMB_E_CLOSED:
		return "peer is gone";
	case VMB_E_TIMEOUT:
		return "timed out";
	case VMB_E_IO:
		return "system error";
	}
	return "unknown status";
}
