/* SPDX-License-Identifier: MIT */
/* What `kmcl ping` does on its channel: round trips to an echo server, each checked to the last byte. */
#ifndef TOOLS_PING_RUN_H
#define TOOLS_PING_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include <wdm.h>
#include <vmbuskernelmodeclientlibapi.h>

#define PING_MOST_DEPTH 256u

struct ping_work {
	VMBCHANNEL channel;
	uint32_t count;
	uint32_t bytes;         /* of each payload; a multiple of 8, at least 8 */
	uint32_t external;      /* of external data with each; a multiple of 8, 0 = none */
	uint32_t depth;         /* packets in flight; 0 = synchronous requests, one by one */
	/* Out. What was sent and is none of good, wrong and failed is lost. */
	uint64_t *times;        /* room for `count`: of the good ones, in ns */
	uint32_t sent, good, wrong, failed;
	NTSTATUS first_failure;
};

/* False: no memory for it, nothing was sent. Disables the channel if answers stay away. */
bool ping_run(struct ping_work *work);

#endif
