/* SPDX-License-Identifier: MIT */
/*
 * MDL chains and page lists as GPA ranges (MDL-1..6, PSM-13..33, PSP-4), and the references that a
 * packet in flight holds on the guest RAM they name (OUT-6, SSR-44).
 */
#include "kmcl/kmcl_external.h"

#include <string.h>

#include "nt/nt_mdl.h"
#include "wire/page_list.h"

/* Where the ranges are being written. */
struct range_writer {
	uint8_t *next;
	uint32_t room;
	struct kmcl_external *external;
};

/* Behind the header of a range. */
static void
put_pages(struct kmcl_external *external, uint8_t *range, const PFN_NUMBER *pfns, uint32_t count)
{
	if (nt_pfn_is_foreign(page_list_put(range + VMB_GPA_RANGE_HEADER_BYTES, pfns, count)))
		external->foreign = true;
}

static bool
put_range(struct range_writer *w, const MDL *mdl, uint64_t offset, uint32_t bytes)
{
	const PFN_NUMBER *pfns = (const PFN_NUMBER *)(const void *)(mdl + 1);
	uint64_t start = mdl->ByteOffset + offset;
	uint64_t first = start / PAGE_SIZE;
	uint32_t in_page = (uint32_t)(start % PAGE_SIZE);
	uint64_t pages = vmb_gpa_pages(in_page, bytes);
	uint64_t need = VMB_GPA_RANGE_HEADER_BYTES + 8 * pages;

	if (pages > VMB_GPA_RANGE_MAX_PAGES || need > w->room)
		return false;
	if (w->next != NULL) {
		vmb_gpa_put_header(w->next, bytes, in_page);
		put_pages(w->external, w->next, pfns + first, (uint32_t)pages);
		w->next += need;
	}
	w->room -= (uint32_t)need;
	w->external->ranges_bytes += (uint32_t)need;
	w->external->range_count++;
	w->external->bytes += bytes;
	return true;
}

/*
 * Built or locked (MDL-3), and of our own pages: the page numbers of a peer's MDL mean nothing to
 * another peer.
 */
static bool
is_usable(const MDL *mdl)
{
	return nt_mdl_is_built(mdl) &&
	       (mdl->Process == NULL ||
	        (struct vmb_mem *)mdl->Process == vmb_arena_mem(vmb_arena_process()));
}

/* PSM-21..30: only the first MDL counts, and the length may reach to the end of its last page. */
static NTSTATUS
capture_forced(const struct kmcl_channel *ch, const struct kmcl_mdl_request *request,
               struct range_writer *w)
{
	const MDL *mdl = request->mdl;
	uint64_t data = mdl->ByteCount;
	uint64_t reach = ROUND_TO_PAGES((uint64_t)mdl->ByteOffset + data) - mdl->ByteOffset;
	uint64_t limit = request->length == 0 ? data : reach;
	uint64_t bytes;

	if (!is_usable(mdl) || data == 0)
		return request->bad_mdl;
	if (request->offset >= limit)
		return request->bad_offset;
	bytes = request->length == 0 ? data - request->offset : request->length;
	if (request->offset + bytes > reach || bytes > ch->config.max_external)
		return request->bad_length;
	if (!put_range(w, mdl, request->offset, (uint32_t)bytes))
		return request->bad_length;
	w->external->valid = (uint32_t)(request->offset >= data ? 0 : min(bytes, data - request->offset));
	return STATUS_SUCCESS;
}

/* A circle is found by a mark that is moved on after 1, 2, 4, ... steps. */
bool
kmcl_external_total(const MDL *mdl, uint64_t *total)
{
	const MDL *mark = NULL;
	uint64_t sum = 0, steps = 0, until = 1;

	for (; mdl != NULL; mdl = mdl->Next) {
		sum += mdl->ByteCount;
		if (mdl == mark || sum > UINT32_MAX)
			return false;
		if (++steps == until) {
			mark = mdl;
			until *= 2;
		}
	}
	*total = sum;
	return true;
}

static NTSTATUS
capture_chain(const struct kmcl_channel *ch, const struct kmcl_mdl_request *request,
              struct range_writer *w)
{
	uint64_t total, skip = request->offset, left;
	uint32_t mdls = 0;
	bool too_long;

	if (!kmcl_external_total(request->mdl, &total) || total == 0)
		return request->bad_mdl;
	if (skip >= total)
		return request->bad_offset;
	left = request->length == 0 ? total - skip : request->length;
	too_long = left > total - skip || left > ch->config.max_external;
	left = min(left, total - skip);

	/* What is wrong with an MDL comes before a wrong length (PSM-40). */
	for (const MDL *mdl = request->mdl; left > 0; mdl = mdl->Next) {
		uint64_t here = mdl->ByteCount;
		uint64_t bytes;

		if (skip >= here) {
			skip -= here;
			continue;
		}
		bytes = min(here - skip, left);
		if (!is_usable(mdl) || ++mdls > ch->config.max_chain)
			return request->bad_mdl;
		if (!too_long && !put_range(w, mdl, skip, (uint32_t)bytes))
			return request->bad_mdl;
		left -= bytes;
		skip = 0;
	}
	if (too_long)
		return request->bad_length;
	w->external->valid = w->external->bytes;
	return STATUS_SUCCESS;
}

NTSTATUS
kmcl_external_capture(const struct kmcl_channel *ch, const struct kmcl_mdl_request *request,
                      uint8_t *ranges, struct kmcl_external *external)
{
	struct range_writer w = { ranges, ch->geometry.ranges_bytes, external };

	*external = (struct kmcl_external){ 0 };
	return request->force ? capture_forced(ch, request, &w) : capture_chain(ch, request, &w);
}

void
kmcl_external_capture_pfns(const PFN_NUMBER *pfns, uint32_t count, uint8_t *ranges,
                           struct kmcl_external *external)
{
	uint32_t bytes = count * PAGE_SIZE;

	*external = (struct kmcl_external){
		.range_count = 1,
		.ranges_bytes = VMB_GPA_RANGE_HEADER_BYTES + 8 * count,
		.bytes = bytes,
		.valid = bytes,
		.by_number = true,
	};
	vmb_gpa_put_header(ranges, bytes, 0);
	put_pages(external, ranges, pfns, count);
}

/* Calls `use` for each run of consecutive pages. No number of a foreign page is one of the arena's. */
static void
for_each_run(const uint8_t *ranges, uint32_t ranges_bytes, uint32_t range_count,
             bool (*use)(struct vmb_arena *, uint64_t, uint32_t))
{
	struct vmb_arena *arena = vmb_arena_process();
	struct vmb_gpa_cursor cursor;
	struct vmb_gpa_range range;
	const char *why;

	vmb_gpa_begin(&cursor, ranges, ranges_bytes, range_count);
	while (vmb_gpa_next(&cursor, &range, &why) == VMB_OK) {
		uint32_t i = 0;

		while (i < range.page_count) {
			const uint8_t *list = range.pfns + 8 * (size_t)i;
			const uint32_t n = page_list_run(list, range.page_count - i);

			(void)use(arena, page_list_at(list, 0), n);
			i += n;
		}
	}
}

void
kmcl_external_pin(const uint8_t *ranges, uint32_t ranges_bytes, uint32_t range_count)
{
	for_each_run(ranges, ranges_bytes, range_count, vmb_arena_pin_pages);
}

void
kmcl_external_unpin(const uint8_t *ranges, uint32_t ranges_bytes, uint32_t range_count)
{
	for_each_run(ranges, ranges_bytes, range_count, vmb_arena_unpin_pages);
}

struct kmcl_pins
kmcl_external_hold(const uint8_t *ranges, uint32_t ranges_bytes, uint32_t range_count)
{
	/* The list is ours: one range is its header and its pages. */
	const uint8_t *list = ranges + VMB_GPA_RANGE_HEADER_BYTES;
	const uint32_t pages = (ranges_bytes - VMB_GPA_RANGE_HEADER_BYTES) / 8;
	struct kmcl_pins pins = { .are_held = true };

	if (range_count == 1 && page_list_run(list, pages) == pages &&
	    vmb_arena_pin_pages(vmb_arena_process(), page_list_at(list, 0), pages)) {
		pins.first = page_list_at(list, 0);
		pins.pages = pages;
	} else {
		kmcl_external_pin(ranges, ranges_bytes, range_count);
	}
	return pins;
}

void
kmcl_external_let_go(struct kmcl_pins *pins, const uint8_t *ranges, uint32_t ranges_bytes,
                     uint32_t range_count)
{
	if (pins->pages != 0)
		(void)vmb_arena_unpin_pages(vmb_arena_process(), pins->first, pins->pages);
	else if (pins->are_held)
		kmcl_external_unpin(ranges, ranges_bytes, range_count);
	*pins = (struct kmcl_pins){ 0 };
}
