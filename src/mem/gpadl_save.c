/* SPDX-License-Identifier: MIT */
/*
 * GPADLs to chunks and back. The order of each channel's list is kept, so that a loaded table saves
 * to the same bytes. Everything that begin, append and teardown would have checked is checked again
 * here, because these bytes came from another process.
 */
#include "mem/gpadl_save.h"

#include <stdlib.h>
#include <string.h>

#include "mem/gpadl_internal.h"

/*
 * channel u32, id u32, state u8, ring maps u8, zero u16, ranges u32, bytes u32, filled u32, then
 * the filled bytes.
 */
static void
save_one(const struct vmb_gpadl *g, struct vmb_chunk_writer *writer)
{
	vmb_chunk_put_u32(writer, g->channel_id);
	vmb_chunk_put_u32(writer, g->id);
	vmb_chunk_put_u8(writer, (uint8_t)g->state);
	vmb_chunk_put_u8(writer, (uint8_t)g->maps[VMB_GPADL_BY_RING]);
	vmb_chunk_put_u16(writer, 0);
	vmb_chunk_put_u32(writer, g->range_count);
	vmb_chunk_put_u32(writer, g->bytes);
	/* A finished list may need less than was sent. */
	if (g->state == VMB_GPADL_IN_PROGRESS) {
		vmb_chunk_put_u32(writer, g->filled);
		vmb_chunk_put_bytes(writer, g->ranges, g->filled);
	} else {
		vmb_chunk_put_u32(writer, g->bytes);
		vmb_chunk_put_bytes(writer, g->ranges, g->bytes);
	}
}

enum vmb_status
vmb_gpadl_save(const struct vmb_gpadl_table *table, struct vmb_chunk_writer *writer,
               const struct vmb_chunk_format *format, uint16_t kind, uint32_t *count)
{
	*count = 0;
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		for (const struct vmb_gpadl *g = table->channels[id]; g != NULL; g = g->next) {
			if (g->maps[VMB_GPADL_BY_DEVICE] != 0)
				return VMB_E_STATE;
			vmb_chunk_begin(writer, format, kind);
			save_one(g, writer);
			vmb_chunk_end(writer);
			(*count)++;
		}
	}
	return VMB_OK;
}

struct loaded {
	uint32_t channel_id, id;
	uint8_t state, ring_maps;
	uint32_t range_count, bytes, filled;
	const uint8_t *ranges;
};

/* The rules that need no table. */
static bool
read_one(struct vmb_chunk *chunk, struct loaded *in)
{
	bool mapped;

	in->channel_id = vmb_chunk_get_u32(chunk);
	in->id = vmb_chunk_get_u32(chunk);
	in->state = vmb_chunk_get_u8(chunk);
	in->ring_maps = vmb_chunk_get_u8(chunk);
	if (vmb_chunk_get_u16(chunk) != 0)
		return false;
	in->range_count = vmb_chunk_get_u32(chunk);
	in->bytes = vmb_chunk_get_u32(chunk);
	in->filled = vmb_chunk_get_u32(chunk);
	in->ranges = vmb_chunk_get_bytes(chunk, in->filled);
	mapped = in->ring_maps == 1;
	if (!vmb_chunk_is_whole(chunk) || in->channel_id == 0 ||
	    in->channel_id > VMB_CHANNEL_ID_MAX || in->ring_maps > 1 ||
	    in->bytes > VMB_GPADL_RANGE_BYTES_MAX || in->bytes % 8 != 0 || in->filled % 8 != 0 ||
	    in->range_count > in->bytes / 8)
		return false;
	switch (in->state) {
	case VMB_GPADL_IN_PROGRESS:
		return in->filled < in->bytes && !mapped;
	case VMB_GPADL_ACCEPTED:
		return in->filled == in->bytes;
	case VMB_GPADL_TEARING_DOWN:
		/* What waits for an unmap has a mapping. */
		return in->filled == in->bytes && mapped;
	default:
		return false;
	}
}

/* An accepted list is exactly as long as its ranges, and its pages are charged as counted. */
static enum vmb_status
check_list(struct vmb_gpadl *g, const struct vmb_gpadl_pages *pages)
{
	uint32_t bytes, page_count;

	if (g->state == VMB_GPADL_IN_PROGRESS) {
		g->pages = g->bytes / 8 - g->range_count;
		return VMB_OK;
	}
	if (vmb_gpadl_check(g, pages, &bytes, &page_count) != VMB_OK || bytes != g->bytes)
		return VMB_E_MALFORMED;
	g->pages = page_count;
	return VMB_OK;
}

/* At the end of its lists, where the order of saving has it. */
static void
enter(struct vmb_gpadl_table *table, struct vmb_gpadl *g)
{
	struct vmb_gpadl **link = &table->channels[g->channel_id];

	while (*link != NULL)
		link = &(*link)->next;
	*link = g;
	table->usage.gpadls++;
	table->usage.pages += g->pages;
	if (g->maps[VMB_GPADL_BY_RING] != 0)
		table->usage.mapped_pages += g->pages;
	if (g->state != VMB_GPADL_IN_PROGRESS)
		return;
	link = &table->incomplete;
	while (*link != NULL)
		link = &(*link)->next_open;
	*link = g;
	table->usage.in_progress++;
}

enum vmb_status
vmb_gpadl_load(struct vmb_gpadl_table *table, struct vmb_chunk *chunk,
               const struct vmb_gpadl_pages *pages)
{
	enum vmb_status st;
	struct vmb_gpadl *g;
	struct loaded in;

	if (!read_one(chunk, &in) || vmb_gpadl_find(table, in.channel_id, in.id) != NULL)
		return VMB_E_MALFORMED;
	if (in.state == VMB_GPADL_IN_PROGRESS && vmb_gpadl_find_incomplete(table, in.id) != NULL)
		return VMB_E_MALFORMED;
	if (table->usage.gpadls >= table->limits.gpadls ||
	    (in.state == VMB_GPADL_IN_PROGRESS &&
	     table->usage.in_progress >= table->limits.in_progress))
		return VMB_E_LIMIT;
	g = calloc(1, sizeof(*g) + in.bytes);
	if (g == NULL)
		return VMB_E_NO_MEMORY;
	g->state = (enum vmb_gpadl_state)in.state;
	g->channel_id = in.channel_id;
	g->id = in.id;
	g->range_count = in.range_count;
	g->bytes = in.bytes;
	g->filled = in.filled;
	g->maps[VMB_GPADL_BY_RING] = in.ring_maps;
	if (in.filled != 0)
		memcpy(g->ranges, in.ranges, in.filled);
	st = check_list(g, pages);
	if (st == VMB_OK && g->pages > table->limits.pages - table->usage.pages)
		st = VMB_E_LIMIT;
	if (st != VMB_OK) {
		free(g);
		return st;
	}
	enter(table, g);
	return VMB_OK;
}
