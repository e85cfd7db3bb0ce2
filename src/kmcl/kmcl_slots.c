/* SPDX-License-Identifier: MIT */
/*
 * The transaction table. An id is (generation << 32) | (slot + 1): never zero, never a pointer, and an old one
 * does not match a slot that was reused.
 */
#include "kmcl/kmcl_slots.h"

#include "kmcl/kmcl_external.h"
#include "kmcl/kmcl_reserve.h"

bool
kmcl_slots_create(struct kmcl_tx *tx)
{
	tx->slots = kmcl_reserve(KMCL_SLOTS * sizeof(*tx->slots));
	return tx->slots != NULL;
}

void
kmcl_slots_destroy(struct kmcl_tx *tx)
{
	kmcl_unreserve(tx->slots, KMCL_SLOTS * sizeof(*tx->slots));
	tx->slots = NULL;
	tx->free_slots = tx->fresh_slots = tx->slots_used = 0;
	tx->generation = tx->reserved_slots = 0;
}

uint64_t
kmcl_slot_take(struct kmcl_tx *tx, struct kmcl_packet *packet)
{
	struct kmcl_slot *slot;
	uint32_t link = tx->free_slots;

	if (link != 0) {
		slot = &tx->slots[link - 1];
		tx->free_slots = slot->next_free;
	} else if (tx->fresh_slots < KMCL_SLOTS) {
		link = ++tx->fresh_slots;
		slot = &tx->slots[link - 1];
		slot->generation = tx->generation;
	} else {
		return 0;
	}
	slot->in_use = true;
	slot->packet = packet;
	slot->generation++;
	tx->slots_used++;
	return (uint64_t)slot->generation << 32 | link;
}

struct kmcl_slot *
kmcl_slot_find(struct kmcl_tx *tx, uint64_t transaction_id)
{
	uint32_t link = (uint32_t)transaction_id;
	struct kmcl_slot *slot;

	if (link == 0 || link > tx->fresh_slots)
		return NULL;
	slot = &tx->slots[link - 1];
	return slot->in_use && slot->generation == transaction_id >> 32 ? slot : NULL;
}

void
kmcl_slot_give(struct kmcl_tx *tx, uint64_t transaction_id)
{
	struct kmcl_slot *slot = kmcl_slot_find(tx, transaction_id);

	if (slot == NULL)
		return;
	slot->in_use = false;
	slot->packet = NULL;
	slot->next_free = tx->free_slots;
	tx->free_slots = (uint32_t)transaction_id;
	tx->slots_used--;
}

void
kmcl_slot_keep_lease(struct kmcl_tx *tx, uint64_t transaction_id, struct kmcl_bounce_lease *lease)
{
	struct kmcl_slot *slot = kmcl_slot_find(tx, transaction_id);

	if (slot == NULL)
		return;
	slot->packet = NULL;
	slot->bounce = *lease;
	*lease = (struct kmcl_bounce_lease){ 0 };
}

uint32_t
kmcl_slots_generation(const struct kmcl_tx *tx)
{
	uint32_t highest = tx->generation;

	for (uint32_t i = 0; i < tx->fresh_slots; i++)
		highest = max(highest, tx->slots[i].generation);
	return highest;
}

void
kmcl_slots_reserve(struct kmcl_tx *tx, uint32_t count, uint32_t generation)
{
	tx->generation = max(kmcl_slots_generation(tx), generation);
	tx->free_slots = 0;
	tx->fresh_slots = tx->reserved_slots = count;
}

bool
kmcl_slot_is_claimable(const struct kmcl_tx *tx, uint64_t transaction_id)
{
	uint32_t link = (uint32_t)transaction_id;

	return link != 0 && link <= tx->reserved_slots && !tx->slots[link - 1].in_use &&
	       transaction_id >> 32 <= tx->generation;
}

void
kmcl_slot_claim(struct kmcl_tx *tx, uint64_t transaction_id, struct kmcl_packet *packet)
{
	struct kmcl_slot *slot = &tx->slots[(uint32_t)transaction_id - 1];

	slot->in_use = true;
	slot->packet = packet;
	slot->generation = (uint32_t)(transaction_id >> 32);
	tx->slots_used++;
}

void
kmcl_slots_unreserve(struct kmcl_tx *tx)
{
	for (uint32_t link = tx->reserved_slots; link != 0; link--) {
		struct kmcl_slot *slot = &tx->slots[link - 1];

		if (slot->in_use)
			continue;
		slot->generation = tx->generation;
		slot->next_free = tx->free_slots;
		tx->free_slots = link;
	}
	tx->reserved_slots = 0;
}

void
kmcl_slots_reset(struct kmcl_channel *ch)
{
	for (uint32_t i = 0; i < ch->tx.fresh_slots && ch->tx.slots_used != 0; i++) {
		struct kmcl_slot *slot = &ch->tx.slots[i];

		if (!slot->in_use)
			continue;
		kmcl_bounce_give(ch->bounce, &slot->bounce);
		kmcl_slot_give(&ch->tx, (uint64_t)slot->generation << 32 | (i + 1));
	}
}
