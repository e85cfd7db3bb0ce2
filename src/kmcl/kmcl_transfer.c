/* SPDX-License-Identifier: MIT */
/*
 * Parts of a GPADL as GPA ranges. The host chooses set, offsets and lengths, and the driver may
 * delete the GPADL at any time: all of it is checked against the GPADL's own ranges under the bus's
 * lock, and what is used is pinned there.
 */
#include "kmcl/kmcl_transfer.h"

#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_bus.h"
#include "kmcl/kmcl_external.h"
#include "kmcl/kmcl_gpadl.h"

struct kmcl_transfer {
	uint32_t ranges_bytes, range_count;
	bool pinned;
	uint8_t ranges[];       /* geometry.ranges_bytes */
};

/* Append [offset, offset + bytes) of a GPADL's range. False: no room within the limits. */
static bool
put_part(const struct kmcl_channel *ch, const struct vmb_gpa_range *whole, uint32_t offset,
         uint32_t bytes, struct kmcl_transfer *to)
{
	uint64_t start = (uint64_t)whole->byte_offset + offset;
	uint32_t in_page = (uint32_t)(start % PAGE_SIZE);
	uint32_t pages = (uint32_t)vmb_gpa_pages(in_page, bytes);
	uint8_t *at = to->ranges + to->ranges_bytes;

	if (to->range_count == ch->config.max_chain ||
	    VMB_GPA_RANGE_HEADER_BYTES + 8ull * pages >
	            ch->geometry.ranges_bytes - to->ranges_bytes)
		return false;
	vmb_gpa_put_header(at, bytes, in_page);
	memcpy(at + VMB_GPA_RANGE_HEADER_BYTES, whole->pfns + 8 * (start / PAGE_SIZE), 8ull * pages);
	to->ranges_bytes += VMB_GPA_RANGE_HEADER_BYTES + 8 * pages;
	to->range_count++;
	return true;
}

/*
 * A part that lies across ranges of the GPADL becomes several. The GPADL's ranges are our own, so
 * they are well formed.
 */
static bool
put_range(const struct kmcl_channel *ch, const struct kmcl_transfer_set *set,
          const struct vmb_transfer_range *part, struct kmcl_transfer *to)
{
	uint32_t skip = part->byte_offset, left = part->byte_count;
	struct vmb_gpa_cursor cursor;
	struct vmb_gpa_range whole;
	const char *why;

	vmb_gpa_begin(&cursor, set->ranges, set->ranges_bytes, set->range_count);
	while (left != 0 && vmb_gpa_next(&cursor, &whole, &why) == VMB_OK) {
		uint32_t bytes;

		if (skip >= whole.byte_count) {
			skip -= whole.byte_count;
			continue;
		}
		bytes = min(whole.byte_count - skip, left);
		if (!put_part(ch, &whole, skip, bytes, to))
			return false;
		left -= bytes;
		skip = 0;
	}
	return true;
}

static uint64_t
bytes_of_set(const struct kmcl_transfer_set *set)
{
	struct vmb_gpa_cursor cursor;
	struct vmb_gpa_range range;
	const char *why;
	uint64_t bytes = 0;

	vmb_gpa_begin(&cursor, set->ranges, set->ranges_bytes, set->range_count);
	while (vmb_gpa_next(&cursor, &range, &why) == VMB_OK)
		bytes += range.byte_count;
	return bytes;
}

/* bus->lock held, so the GPADL stays. */
static NTSTATUS
resolve_locked(const struct kmcl_incoming *incoming, const struct kmcl_transfer_set *set,
               struct kmcl_transfer *to)
{
	uint64_t buffer_bytes = bytes_of_set(set);

	for (uint32_t i = 0; i < incoming->range_count; i++) {
		struct vmb_transfer_range part;
		const char *why;

		if (vmb_transfer_range_at(incoming->ranges, i, buffer_bytes, &part, &why) != VMB_OK ||
		    part.byte_count == 0)
			return STATUS_INVALID_PARAMETER_1;
		if (!put_range(incoming->channel, set, &part, to))
			return STATUS_INVALID_BUFFER_SIZE;
	}
	kmcl_external_pin(to->ranges, to->ranges_bytes, to->range_count);
	to->pinned = true;
	return STATUS_SUCCESS;
}

NTSTATUS
kmcl_transfer_resolve(struct kmcl_incoming *incoming, const uint8_t **ranges, uint32_t *ranges_bytes,
                      uint32_t *range_count)
{
	struct kmcl_channel *ch = incoming->channel;
	struct kmcl_transfer *to = incoming->transfer;
	NTSTATUS status = STATUS_INVALID_PARAMETER_1;
	struct kmcl_transfer_set set;
	struct kmcl_bus *bus;
	uint32_t channel_id;

	if (to == NULL)
		to = incoming->transfer = malloc(sizeof(*to) + ch->geometry.ranges_bytes);
	if (to == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	*to = (struct kmcl_transfer){ 0 };
	bus = kmcl_client_bus(ch, &channel_id);
	if (bus == NULL)
		return STATUS_DEVICE_REMOVED;
	pthread_mutex_lock(&bus->lock);
	if (kmcl_gpadl_find_set_locked(ch, incoming->transfer_set, &set))
		status = resolve_locked(incoming, &set, to);
	pthread_mutex_unlock(&bus->lock);
	kmcl_bus_unref(bus);
	*ranges = to->ranges;
	*ranges_bytes = to->ranges_bytes;
	*range_count = to->range_count;
	return status;
}

void
kmcl_transfer_release(struct kmcl_incoming *incoming)
{
	struct kmcl_transfer *transfer = incoming->transfer;

	if (transfer == NULL || !transfer->pinned)
		return;
	kmcl_external_unpin(transfer->ranges, transfer->ranges_bytes, transfer->range_count);
	transfer->pinned = false;
}
