/* SPDX-License-Identifier: MIT */
/*
 * Transaction ids: slot plus generation (TXN-2). The table is reserved address space, touched as far as it is used, so
 * that taking a slot never allocates. Guarded by tx.lock.
 */
#ifndef KMCL_SLOTS_H
#define KMCL_SLOTS_H

#include "kmcl/kmcl_channel.h"

bool kmcl_slots_create(struct kmcl_tx *tx);
void kmcl_slots_destroy(struct kmcl_tx *tx);

/* 0 when TXN-5's limit is reached. */
uint64_t kmcl_slot_take(struct kmcl_tx *tx, struct kmcl_packet *packet);
/* The slot of an id that is in use, or NULL. */
struct kmcl_slot *kmcl_slot_find(struct kmcl_tx *tx, uint64_t transaction_id);
void kmcl_slot_give(struct kmcl_tx *tx, uint64_t transaction_id);
/* The packet is over but the peer may still touch these pages: the slot keeps them until the answer. */
void kmcl_slot_keep_lease(struct kmcl_tx *tx, uint64_t transaction_id,
                          struct kmcl_bounce_lease *lease);
/* Forget every transaction; pages they kept return to the pool. */
void kmcl_slots_reset(struct kmcl_channel *ch);

#endif
