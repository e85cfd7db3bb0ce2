/* SPDX-License-Identifier: MIT */
/* Incoming packet objects: the private copy that a driver sees, its external data, its answer. */
#ifndef KMCL_INCOMING_H
#define KMCL_INCOMING_H

#include "kmcl/kmcl_channel.h"

/* NULL for anything that is not one. */
struct kmcl_incoming *kmcl_incoming_from_handle(VMBPACKETCOMPLETION handle);
/* NULL without memory. */
struct kmcl_incoming *kmcl_incoming_get(struct kmcl_channel *ch);
/* Back to the pool: mappings dropped. Any lock of the channel may be held. */
void kmcl_incoming_free(struct kmcl_incoming *incoming);
/* Keep descriptor and payload until the ring has room; false without memory for a large one. */
bool kmcl_incoming_keep_answer(struct kmcl_incoming *incoming, const void *descriptor,
                               const void *payload, uint32_t bytes);
/* All objects are free: release their memory. */
void kmcl_incoming_drain(struct kmcl_channel *ch);

#endif
