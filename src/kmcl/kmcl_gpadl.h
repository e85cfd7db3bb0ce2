/* SPDX-License-Identifier: MIT */
/* GPADLs that drivers make (client) and map (server), apart from the rings' own. */
#ifndef KMCL_GPADL_H
#define KMCL_GPADL_H

#include "kmcl/kmcl_channel.h"

/* Client events, bus->lock held. */
void kmcl_gpadl_created(struct kmcl_channel *ch, uint32_t gpadl_id, uint32_t status);
void kmcl_gpadl_torndown(struct kmcl_channel *ch, uint32_t gpadl_id);
void kmcl_gpadl_channel_gone(struct kmcl_channel *ch);

struct kmcl_transfer_set;
/* The GPADL that the driver named a transfer page set; bus->lock held, and the ranges valid as long. */
bool kmcl_gpadl_find_set_locked(struct kmcl_channel *ch, uint16_t set_id,
                                struct kmcl_transfer_set *set);

/* The client made it READ_ONLY; bus->lock held. */
bool kmcl_gpadl_is_read_only_locked(struct kmcl_channel *ch, uint32_t gpadl_id);

/* After Closed: report and release what the driver left (GPD-2, MPG-6). State context. */
void kmcl_gpadl_drop_created(struct kmcl_channel *ch);
void kmcl_gpadl_drop_mappings(struct kmcl_channel *ch);

#endif
