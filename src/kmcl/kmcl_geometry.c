/* SPDX-License-Identifier: MIT */
/*
 * The worst outgoing packet of a channel, and what must be as large as it: packet objects, rings,
 * scratch images.
 */
#include "kmcl/kmcl_geometry.h"

#include "kmcl/kmcl_packet.h"

#define LARGEST_RING_PAGES 16384u

/* The IMX and IMP setters bound nothing (IMX-2), so sums are 64-bit; CHE-6 refuses what no ring can carry. */
static uint64_t
ranges_bytes(const struct kmcl_config *config)
{
	uint64_t pages = (uint64_t)config->max_external / PAGE_SIZE + 2ull * config->max_chain;

	return VMB_GPA_RANGE_HEADER_BYTES * (uint64_t)config->max_chain + 8 * pages;
}

static uint64_t
worst_body(const struct kmcl_config *config)
{
	uint64_t payload = ((uint64_t)config->max_packet + 7) & ~7ull;

	if (config->pipe)
		return VMB_DESCRIPTOR_BYTES + VMB_PIPE_HEADER_BYTES + payload;
	return VMB_DESCRIPTOR_BYTES + VMB_GPA_DIRECT_HEADER_BYTES + ranges_bytes(config) + payload;
}

void
kmcl_geometry_update(struct kmcl_channel *ch)
{
	struct kmcl_geometry *g = &ch->geometry;
	uint64_t body = worst_body(&ch->config);
	uint64_t ranges = ranges_bytes(&ch->config);

	/*
	 * An impossible combination is refused by Enable; until then packets only need to be sound.
	 * A pipe sends no ranges, but the limits that nobody uses must not overflow either.
	 */
	body = min(body, (uint64_t)VMB_MAX_BODY_BYTES);
	ranges = min(ranges, (uint64_t)VMB_MAX_BODY_BYTES - VMB_DESCRIPTOR_BYTES -
	                             VMB_GPA_DIRECT_HEADER_BYTES);
	g->ranges_bytes = (uint32_t)ranges;
	g->body_bytes = (uint32_t)max(body, VMB_DESCRIPTOR_BYTES + VMB_GPA_DIRECT_HEADER_BYTES +
	                                            ranges + ((ch->config.max_packet + 7u) & ~7u));
	g->worst = (uint32_t)min(worst_body(&ch->config) + VMB_TRAILER_BYTES, (uint64_t)UINT32_MAX);
	g->packet_bytes = (uint32_t)(sizeof(struct kmcl_packet) + g->body_bytes + 15u) & ~15u;
	if (ch->config.packet_context != 0)
		g->packet_bytes += 16 + KMCL_CONTEXT_BYTES(ch->config.packet_context);
}

void
kmcl_geometry_freeze(struct kmcl_channel *ch)
{
	vmb_lock_take(&ch->tx.lock);
	ch->tx.size_handed_out = true;
	vmb_lock_give(&ch->tx.lock);
}

bool
kmcl_geometry_is_frozen_locked(const struct kmcl_channel *ch)
{
	return ch->tx.size_handed_out || ch->tx.pool_packets != 0 || !kmcl_inside_is_empty(&ch->tx.requests);
}

uint32_t
kmcl_geometry_ring_pages(const struct kmcl_channel *ch, uint32_t asked)
{
	/* vmb_ring_largest_body() leaves 16 bytes of a ring unused. */
	uint64_t need = ((uint64_t)ch->geometry.worst + 16 + PAGE_SIZE - 1) / PAGE_SIZE;
	uint64_t pages = max((uint64_t)asked, need);

	if ((uint64_t)ch->geometry.worst - VMB_TRAILER_BYTES > VMB_MAX_BODY_BYTES ||
	    pages > LARGEST_RING_PAGES)
		return 0;
	return (uint32_t)pages;
}
