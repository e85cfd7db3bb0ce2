/* SPDX-License-Identifier: MIT */
/* Sizes that follow from a channel's configuration (LIM-5, CHE-6, CSZ-1), and when they are frozen (IMP-4). */
#ifndef KMCL_GEOMETRY_H
#define KMCL_GEOMETRY_H

#include "kmcl/kmcl_channel.h"

void kmcl_geometry_update(struct kmcl_channel *ch);
/* A size was handed out: limits must not change until the driver has no packet left. */
void kmcl_geometry_freeze(struct kmcl_channel *ch);
/* tx.lock. */
bool kmcl_geometry_is_frozen_locked(const struct kmcl_channel *ch);

/* Data pages for a ring that `asked` for so many: at least what the worst packet needs. 0 = impossible. */
uint32_t kmcl_geometry_ring_pages(const struct kmcl_channel *ch, uint32_t asked);

#endif
