/* SPDX-License-Identifier: MIT */
/*
 * External data of outgoing packets: MDL chains and page lists captured as GPA ranges, the references on
 * guest RAM that a packet in flight holds, and the bounce pages for memory outside guest RAM.
 */
#ifndef KMCL_EXTERNAL_H
#define KMCL_EXTERNAL_H

#include "kmcl/kmcl_channel.h"

/* Captured ranges; bytes are in the buffer that the caller gave. */
struct kmcl_external {
	uint32_t range_count;
	uint32_t ranges_bytes;
	uint32_t bytes;         /* described */
	uint32_t valid;         /* of these, inside the caller's data (FORCE may describe a page's rest) */
	bool foreign;           /* some pages lie outside guest RAM */
	bool by_number;         /* pages are the caller's to keep (PSP-5): no references */
};

/* What a packet that was sent described. */
static inline struct kmcl_external
kmcl_packet_external(const struct kmcl_packet *packet)
{
	return (struct kmcl_external){
		.range_count = packet->range_count,
		.ranges_bytes = packet->ranges_bytes,
		.bytes = packet->external_bytes,
		.valid = packet->external_valid,
		.foreign = packet->has_foreign_pages,
	};
}

/* How an MDL argument is to be read, and which parameter numbers its errors have. */
struct kmcl_mdl_request {
	PMDL mdl;
	uint32_t offset;
	uint32_t length;        /* 0 = the rest */
	bool force;             /* FORCE_MDL_LENGTH: first MDL only */
	NTSTATUS bad_mdl, bad_offset, bad_length;
};

/*
 * Capture part of an MDL chain into `ranges` (geometry.ranges_bytes of room). The MDLs are not
 * needed afterwards. With ranges = NULL it only checks. STATUS_SUCCESS or one of the request's
 * three codes. Any thread, any IRQL.
 */
NTSTATUS kmcl_external_capture(const struct kmcl_channel *ch, const struct kmcl_mdl_request *request,
                               uint8_t *ranges, struct kmcl_external *external);
/*
 * Total bytes of a chain; false if they need more than 32 bits (MDL-5), as those of a circular
 * chain do (MDL-6). Any thread, any IRQL.
 */
bool kmcl_external_total(const MDL *mdl, uint64_t *total);
/* Whole pages by number, as one range. The limits have been checked. */
void kmcl_external_capture_pfns(const PFN_NUMBER *pfns, uint32_t count, uint8_t *ranges,
                                struct kmcl_external *external);

/* Reference / release the guest RAM that the ranges name. Pages outside it are skipped. */
void kmcl_external_pin(const uint8_t *ranges, uint32_t ranges_bytes, uint32_t range_count);
void kmcl_external_unpin(const uint8_t *ranges, uint32_t ranges_bytes, uint32_t range_count);
/*
 * The same, of ranges that were captured here, for what is let go once: where they are one run of pages, the list is
 * not walked for that again. Letting go what is not held does nothing.
 */
struct kmcl_pins kmcl_external_hold(const uint8_t *ranges, uint32_t ranges_bytes, uint32_t range_count);
void kmcl_external_let_go(struct kmcl_pins *pins, const uint8_t *ranges, uint32_t ranges_bytes,
                          uint32_t range_count);

/* ---- bounce pages: a pool per channel, guarded by tx.lock ----------------------------------------- */

/* Room for the largest external data of one packet; address space only until it is used. NULL = no room. */
struct kmcl_bounce_pool *kmcl_bounce_create(uint32_t pages);
/* Pages that the peer may still touch stay out of reuse until the channel closed, which it has. */
void kmcl_bounce_destroy(struct kmcl_bounce_pool *pool);

/*
 * Take pages for every foreign page of the captured ranges, copy the data in, and write the ranges as the peer
 * must see them to `translated`. False: not enough pages now.
 */
bool kmcl_bounce_take(struct kmcl_bounce_pool *pool, const uint8_t *ranges,
                      const struct kmcl_external *external, uint8_t *translated,
                      struct kmcl_bounce_lease *lease);
/* Copy what the peer wrote back to where the ranges name it. */
void kmcl_bounce_copy_back(struct kmcl_bounce_pool *pool, const uint8_t *ranges,
                           const struct kmcl_external *external,
                           const struct kmcl_bounce_lease *lease);
void kmcl_bounce_give(struct kmcl_bounce_pool *pool, struct kmcl_bounce_lease *lease);

#endif
