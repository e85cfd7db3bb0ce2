/* SPDX-License-Identifier: MIT */
/* A client channel of a life (life.h): opened, or refused with a status that says so. */
#ifndef CONFORMANCE_LIFE_CHANNEL_H
#define CONFORMANCE_LIFE_CHANNEL_H

#include "life.h"

struct life_client {
	VMBCHANNEL channel;     /* also after a failure, if there is one */
	KEVENT settled;         /* it is open, or will not be */
	bool opened;
};

/*
 * Open the offer whose type and instance are both `type`; `context` bytes of the driver's with each incoming packet. False:
 * something was refused.
 */
bool life_open(struct life_client *client, const GUID *type, UINT32 context);
/* Disable and clean up; NULL is allowed. */
void life_end(VMBCHANNEL *channel);

#endif
