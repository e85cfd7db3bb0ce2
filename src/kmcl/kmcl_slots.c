/* SPDX-License-Identifier: MIT */
/*
 * The transaction table. An id is (generation << 32) | (slot + 1): never zero, never a pointer, and an old one
 * does not match a slot that was reused.
 */
#include "kmcl/kmcl_slots.h"

#include <sys/mman.h>

#include "kmcl/kmcl_external.h"

bool
kmcl_slots_create(struct kmcl_tx *tx)
{
	void *table = mmap(NULL, KMCL_SLOTS * sizeof(*tx->slots), PROT_READ | PROT_WRITE,
	                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (table == MAP_FAILED)
		return false;
	tx->slots = table;
	return true;
}

void
kmcl_slots_destroy(struct kmcl_tx *tx)
{
	if (tx->slots != NULL)
		munmap(tx->slots, KMCL_SLOTS * sizeof(*tx->slots));
	tx->slots = NULL;
	tx->free_slots = tx->fresh_slots = tx->slots_used = 0;
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
