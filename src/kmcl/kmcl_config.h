/* SPDX-License-Identifier: MIT */
/* What Init functions check first, and what they do last. */
#ifndef KMCL_CONFIG_H
#define KMCL_CONFIG_H

#include "kmcl/kmcl_channel.h"

#define KMCL_LARGEST_CONTEXT 65536u /* ICS-2, V5-6 */

enum {
	KMCL_ANY_ROLE = 0x0,
	KMCL_SERVER_ONLY = 0x1,
	KMCL_CLIENT_ONLY = 0x2,
	KMCL_RESIZES = 0x4,     /* changes the size of packets: not while one of the present size is about (IMP-4) */
};
/*
 * The channel if it may be configured, with fsm.lock and tx.lock held; else NULL. Every Init
 * function is legal in Disabled only (STM-1). While one is at work it keeps out Enable, other Init
 * functions, and who would make a packet of a size that is changing (GEN-7). `KMCL_CONFIGURING ch =
 * kmcl_configurable(...);` unlocks at the end of its block.
 */
struct kmcl_channel *kmcl_configurable(VMBCHANNEL handle, unsigned needs);
void kmcl_end_configuring(struct kmcl_channel **ch);
#define KMCL_CONFIGURING __attribute__((cleanup(kmcl_end_configuring))) struct kmcl_channel *
/* The size of packets may have changed; locked. */
void kmcl_resized(struct kmcl_channel *ch);

#endif
