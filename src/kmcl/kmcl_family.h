/* SPDX-License-Identifier: MIT */
/*
 * Primary channels and their subchannels (V5-1). A subchannel is enabled only while its primary is open,
 * and a primary that closes waits until its subchannels are Disabled: a live subchannel may therefore use
 * what its primary has on the bus without a lock, and on the bus subchannels always go first.
 */
#ifndef KMCL_FAMILY_H
#define KMCL_FAMILY_H

#include "kmcl/kmcl_channel.h"

void kmcl_family_init(struct kmcl_channel *ch);
/* Cleanup, Disabled: leave the primary; subchannels that still name this channel are a misuse and lose it. */
void kmcl_family_end(struct kmcl_channel *ch);

/*
 * Enable. A primary may always; a subchannel gets its index and counts from now on, or
 * STATUS_DEVICE_NOT_READY. No lock held.
 */
NTSTATUS kmcl_family_join(struct kmcl_channel *ch);
/* Disabled was reached, or Enable failed. No lock held. */
void kmcl_family_left(struct kmcl_channel *ch);

/* State context of a primary: Opened succeeded, so subchannels may come. */
void kmcl_family_opened(struct kmcl_channel *ch);
/* State context of a primary: a close began. Every subchannel is told; none may come any more. */
void kmcl_family_closing(struct kmcl_channel *ch);
/* A primary's close may go on. */
bool kmcl_family_is_alone(const struct kmcl_channel *ch);

/* The calling thread is inside a callback of a subchannel of `ch`, whose end it would wait for. */
bool kmcl_family_inside_subchannel(const struct kmcl_channel *ch);

static inline bool
kmcl_is_subchannel(const struct kmcl_channel *ch)
{
	return atomic_load(&ch->family.primary) != NULL;
}

#endif
