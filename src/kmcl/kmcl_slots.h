/* SPDX-License-Identifier: MIT */
/*
 * Transaction ids: slot plus generation (TXN-2). The table is reserved address space, touched as
 * far as it is used, so that taking a slot never allocates. Guarded by tx.lock.
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
/* No id that was ever handed out, nor one of a former life, has a higher generation. */
uint32_t kmcl_slots_generation(const struct kmcl_tx *tx);
/*
 * For a restore, while no id is in use. Slots up to `count` are kept for ids of a former life, of
 * which none has a higher generation; new ids come from other slots until kmcl_slots_unreserve().
 */
void kmcl_slots_reserve(struct kmcl_tx *tx, uint32_t count, uint32_t generation);
/* Whether the id fits the reservation and nobody has it. */
bool kmcl_slot_is_claimable(const struct kmcl_tx *tx, uint64_t transaction_id);
void kmcl_slot_claim(struct kmcl_tx *tx, uint64_t transaction_id, struct kmcl_packet *packet);
/* Reserved slots that nobody claimed are free. */
void kmcl_slots_unreserve(struct kmcl_tx *tx);
/* Forget every transaction; pages they kept return to the pool. */
void kmcl_slots_reset(struct kmcl_channel *ch);

#endif
