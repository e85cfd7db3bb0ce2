/* SPDX-License-Identifier: MIT */
/*
 * GPADLs of one guest. A list is collected in private memory that was sized and charged to the
 * budgets when the header came, so a guest can never make this grow beyond its limits, and a mapped
 * list is never freed or changed under its user. State changes are looked up in one table.
 */
#include "mem/gpadl_internal.h"

#include <stdlib.h>
#include <string.h>

const struct vmb_gpadl_edge vmb_gpadl_edges[] = {
	{ VMB_GPADL_IN_PROGRESS, VMB_GPADL_EV_FILLED, VMB_GPADL_ACCEPTED },
	{ VMB_GPADL_IN_PROGRESS, VMB_GPADL_EV_REFUSED, VMB_GPADL_GONE },
	{ VMB_GPADL_IN_PROGRESS, VMB_GPADL_EV_CHANNEL_GONE_FREE, VMB_GPADL_GONE },
	{ VMB_GPADL_ACCEPTED, VMB_GPADL_EV_TEARDOWN_FREE, VMB_GPADL_GONE },
	{ VMB_GPADL_ACCEPTED, VMB_GPADL_EV_TEARDOWN_MAPPED, VMB_GPADL_TEARING_DOWN },
	{ VMB_GPADL_ACCEPTED, VMB_GPADL_EV_CHANNEL_GONE_FREE, VMB_GPADL_GONE },
	{ VMB_GPADL_ACCEPTED, VMB_GPADL_EV_CHANNEL_GONE_MAPPED, VMB_GPADL_ORPHANED },
	{ VMB_GPADL_TEARING_DOWN, VMB_GPADL_EV_LAST_UNMAP, VMB_GPADL_GONE },
	{ VMB_GPADL_TEARING_DOWN, VMB_GPADL_EV_CHANNEL_GONE_MAPPED, VMB_GPADL_ORPHANED },
	{ VMB_GPADL_ORPHANED, VMB_GPADL_EV_LAST_UNMAP, VMB_GPADL_GONE },
};
const size_t vmb_gpadl_edge_count = sizeof(vmb_gpadl_edges) / sizeof(vmb_gpadl_edges[0]);

static void
put_le64(uint8_t *dst, uint64_t value)
{
	for (unsigned i = 0; i < 8; i++)
		dst[i] = (uint8_t)(value >> (8 * i));
}

struct vmb_gpadl *
vmb_gpadl_find(const struct vmb_gpadl_table *table, uint32_t channel_id, uint32_t gpadl_id)
{
	if (channel_id == 0 || channel_id > VMB_CHANNEL_ID_MAX)
		return NULL;
	for (struct vmb_gpadl *g = table->channels[channel_id]; g != NULL; g = g->next) {
		if (g->id == gpadl_id)
			return g;
	}
	return NULL;
}

struct vmb_gpadl *
vmb_gpadl_find_incomplete(const struct vmb_gpadl_table *table, uint32_t gpadl_id)
{
	struct vmb_gpadl *g = table->incomplete;

	while (g != NULL && g->id != gpadl_id)
		g = g->next_open;
	return g;
}

static bool
gpadl_is_mapped(const struct vmb_gpadl *g)
{
	return g->maps[VMB_GPADL_BY_RING] != 0 || g->maps[VMB_GPADL_BY_DEVICE] != 0;
}

static void
gpadl_leave_incomplete(struct vmb_gpadl_table *table, struct vmb_gpadl *g)
{
	struct vmb_gpadl **link = &table->incomplete;

	while (*link != g)
		link = &(*link)->next_open;
	*link = g->next_open;
	table->usage.in_progress--;
}

static void
gpadl_free(struct vmb_gpadl_table *table, struct vmb_gpadl *g)
{
	struct vmb_gpadl **link = &table->channels[g->channel_id];

	while (*link != g)
		link = &(*link)->next;
	*link = g->next;
	table->usage.gpadls--;
	table->usage.pages -= g->pages;
	free(g);
}

/* The only place where a state changes. False: the table has no such edge, nothing happened. */
static bool
gpadl_event(struct vmb_gpadl_table *table, struct vmb_gpadl *g, enum vmb_gpadl_event event)
{
	for (size_t i = 0; i < vmb_gpadl_edge_count; i++) {
		const struct vmb_gpadl_edge *edge = &vmb_gpadl_edges[i];

		if (edge->state != g->state || edge->event != event)
			continue;
		if (g->state == VMB_GPADL_IN_PROGRESS)
			gpadl_leave_incomplete(table, g);
		g->state = edge->next;
		if (g->state == VMB_GPADL_GONE)
			gpadl_free(table, g);
		return true;
	}
	return false;
}

enum vmb_status
vmb_gpadl_check(const struct vmb_gpadl *g, const struct vmb_gpadl_pages *pages, uint32_t *bytes,
                uint32_t *page_count)
{
	struct vmb_gpa_cursor cursor;
	struct vmb_gpa_range range;
	const char *why;
	enum vmb_status st;

	*bytes = 0;
	*page_count = 0;
	vmb_gpa_begin(&cursor, g->ranges, g->bytes, g->range_count);
	while ((st = vmb_gpa_next(&cursor, &range, &why)) == VMB_OK) {
		if (!pages->exist(pages->ctx, &range))
			return VMB_E_NOT_FOUND;
		*bytes += VMB_GPA_RANGE_HEADER_BYTES + 8 * range.page_count;
		*page_count += range.page_count;
	}
	return st == VMB_EMPTY ? VMB_OK : VMB_E_MALFORMED;
}

static void
gpadl_fill(struct vmb_gpadl *g, const uint64_t *qwords, uint32_t qword_count)
{
	for (uint32_t i = 0; i < qword_count && g->filled < g->bytes; i++) {
		put_le64(g->ranges + g->filled, qwords[i]);
		g->filled += 8;
	}
}

static enum vmb_status
gpadl_finish(struct vmb_gpadl_table *table, struct vmb_gpadl *g,
             const struct vmb_gpadl_pages *pages)
{
	uint32_t bytes, page_count;
	enum vmb_status st;

	st = vmb_gpadl_check(g, pages, &bytes, &page_count);
	if (st != VMB_OK) {
		gpadl_event(table, g, VMB_GPADL_EV_REFUSED);
		return st;
	}
	/* The header was charged for the most pages its list could name; give the rest back. */
	table->usage.pages -= g->pages - page_count;
	g->pages = page_count;
	g->bytes = bytes;
	gpadl_event(table, g, VMB_GPADL_EV_FILLED);
	return VMB_OK;
}

enum vmb_status
vmb_gpadl_table_create(const struct vmb_gpadl_limits *limits, struct vmb_gpadl_table **table)
{
	struct vmb_gpadl_table *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return VMB_E_NO_MEMORY;
	t->limits = *limits;
	if (t->limits.gpadls == 0)
		t->limits.gpadls = VMB_GPADL_DEFAULT_COUNT;
	if (t->limits.in_progress == 0)
		t->limits.in_progress = VMB_GPADL_DEFAULT_IN_PROGRESS;
	if (t->limits.pages == 0)
		t->limits.pages = VMB_GPADL_DEFAULT_PAGES;
	*table = t;
	return VMB_OK;
}

void
vmb_gpadl_table_destroy(struct vmb_gpadl_table *table)
{
	if (table == NULL)
		return;
	for (uint32_t id = 0; id <= VMB_CHANNEL_ID_MAX; id++) {
		while (table->channels[id] != NULL)
			gpadl_free(table, table->channels[id]);
	}
	free(table);
}

enum vmb_status
vmb_gpadl_begin(struct vmb_gpadl_table *table, const struct vmb_msg_gpadl_header *header,
                const struct vmb_gpadl_pages *pages)
{
	uint32_t qwords = header->range_bytes / 8u;
	uint32_t page_bound;
	struct vmb_gpadl *g;

	/* Every range takes one qword for its header; what is left bounds the pages. */
	if (header->range_bytes % 8u != 0 || header->range_count > qwords)
		return VMB_E_MALFORMED;
	page_bound = qwords - header->range_count;
	if (vmb_gpadl_find(table, header->channel_id, header->gpadl_id) != NULL ||
	    vmb_gpadl_find_incomplete(table, header->gpadl_id) != NULL)
		return VMB_E_EXISTS;
	if (table->usage.gpadls >= table->limits.gpadls ||
	    page_bound > table->limits.pages - table->usage.pages)
		return VMB_E_LIMIT;
	if (header->qword_count < qwords && table->usage.in_progress >= table->limits.in_progress)
		return VMB_E_LIMIT;

	g = calloc(1, sizeof(*g) + header->range_bytes);
	if (g == NULL)
		return VMB_E_NO_MEMORY;
	g->state = VMB_GPADL_IN_PROGRESS;
	g->channel_id = header->channel_id;
	g->id = header->gpadl_id;
	g->range_count = header->range_count;
	g->bytes = header->range_bytes;
	g->pages = page_bound;
	g->next = table->channels[g->channel_id];
	table->channels[g->channel_id] = g;
	g->next_open = table->incomplete;
	table->incomplete = g;
	table->usage.gpadls++;
	table->usage.in_progress++;
	table->usage.pages += page_bound;

	gpadl_fill(g, header->qwords, header->qword_count);
	if (g->filled < g->bytes)
		return VMB_QUEUED;
	return gpadl_finish(table, g, pages);
}

enum vmb_status
vmb_gpadl_append(struct vmb_gpadl_table *table, const struct vmb_msg_gpadl_body *body,
                 const struct vmb_gpadl_pages *pages, uint32_t *channel_id)
{
	struct vmb_gpadl *g = vmb_gpadl_find_incomplete(table, body->gpadl_id);

	*channel_id = 0;
	if (g == NULL)
		return VMB_E_NOT_FOUND;
	*channel_id = g->channel_id;
	/* A body that brings nothing would keep the entry open for ever. */
	if (body->qword_count == 0) {
		gpadl_event(table, g, VMB_GPADL_EV_REFUSED);
		return VMB_E_MALFORMED;
	}
	gpadl_fill(g, body->qwords, body->qword_count);
	if (g->filled < g->bytes)
		return VMB_QUEUED;
	return gpadl_finish(table, g, pages);
}

enum vmb_status
vmb_gpadl_teardown(struct vmb_gpadl_table *table, uint32_t channel_id, uint32_t gpadl_id)
{
	struct vmb_gpadl *g = vmb_gpadl_find(table, channel_id, gpadl_id);
	bool mapped;

	if (g == NULL)
		return VMB_E_NOT_FOUND;
	mapped = gpadl_is_mapped(g);
	if (!gpadl_event(table, g,
	                 mapped ? VMB_GPADL_EV_TEARDOWN_MAPPED : VMB_GPADL_EV_TEARDOWN_FREE))
		return VMB_E_STATE;
	return mapped ? VMB_QUEUED : VMB_OK;
}

static void
gpadl_describe(const struct vmb_gpadl *g, struct vmb_gpadl_list *list)
{
	list->ranges = g->ranges;
	list->bytes = g->bytes;
	list->count = g->range_count;
}

enum vmb_status
vmb_gpadl_look(const struct vmb_gpadl_table *table, uint32_t channel_id, uint32_t gpadl_id,
               struct vmb_gpadl_list *list)
{
	const struct vmb_gpadl *g = vmb_gpadl_find(table, channel_id, gpadl_id);

	if (g == NULL || g->state != VMB_GPADL_ACCEPTED)
		return VMB_E_NOT_FOUND;
	gpadl_describe(g, list);
	return VMB_OK;
}

enum vmb_status
vmb_gpadl_look_ring(const struct vmb_gpadl_table *table, uint32_t channel_id, uint32_t gpadl_id,
                    struct vmb_gpadl_list *list)
{
	const struct vmb_gpadl *g = vmb_gpadl_find(table, channel_id, gpadl_id);

	if (g == NULL || g->maps[VMB_GPADL_BY_RING] == 0)
		return VMB_E_NOT_FOUND;
	gpadl_describe(g, list);
	return VMB_OK;
}

enum vmb_status
vmb_gpadl_map(struct vmb_gpadl_table *table, enum vmb_gpadl_holder holder, uint32_t channel_id,
              uint32_t gpadl_id, struct vmb_gpadl_list *list)
{
	struct vmb_gpadl *g = vmb_gpadl_find(table, channel_id, gpadl_id);

	if (g == NULL || g->state != VMB_GPADL_ACCEPTED)
		return VMB_E_NOT_FOUND;
	if (g->maps[holder] == UINT32_MAX)
		return VMB_E_LIMIT;
	if (!gpadl_is_mapped(g))
		table->usage.mapped_pages += g->pages;
	g->maps[holder]++;
	gpadl_describe(g, list);
	return VMB_OK;
}

enum vmb_status
vmb_gpadl_unmap(struct vmb_gpadl_table *table, enum vmb_gpadl_holder holder, uint32_t channel_id,
                uint32_t gpadl_id)
{
	struct vmb_gpadl *g = vmb_gpadl_find(table, channel_id, gpadl_id);
	bool wanted;

	if (g == NULL || g->maps[holder] == 0)
		return VMB_E_NOT_FOUND;
	g->maps[holder]--;
	if (gpadl_is_mapped(g))
		return VMB_OK;
	table->usage.mapped_pages -= g->pages;
	wanted = g->state == VMB_GPADL_TEARING_DOWN;
	gpadl_event(table, g, VMB_GPADL_EV_LAST_UNMAP);
	return wanted ? VMB_QUEUED : VMB_OK;
}

uint32_t
vmb_gpadl_device_maps(const struct vmb_gpadl_table *table, uint32_t channel_id, uint32_t gpadl_id)
{
	const struct vmb_gpadl *g = vmb_gpadl_find(table, channel_id, gpadl_id);

	return g != NULL ? g->maps[VMB_GPADL_BY_DEVICE] : 0;
}

bool
vmb_gpadl_drop_incomplete(struct vmb_gpadl_table *table, uint32_t channel_id, uint32_t *gpadl_id)
{
	for (struct vmb_gpadl *g = table->incomplete; g != NULL; g = g->next_open) {
		if (g->channel_id != channel_id)
			continue;
		*gpadl_id = g->id;
		gpadl_event(table, g, VMB_GPADL_EV_REFUSED);
		return true;
	}
	return false;
}

void
vmb_gpadl_channel_gone(struct vmb_gpadl_table *table, uint32_t channel_id)
{
	struct vmb_gpadl *g = table->channels[channel_id];

	while (g != NULL) {
		struct vmb_gpadl *next = g->next;

		gpadl_event(table, g,
		            gpadl_is_mapped(g) ? VMB_GPADL_EV_CHANNEL_GONE_MAPPED
		                               : VMB_GPADL_EV_CHANNEL_GONE_FREE);
		g = next;
	}
}

bool
vmb_gpadl_walk(const struct vmb_gpadl_table *table, uint32_t channel_id, const void **cursor,
               uint32_t *gpadl_id, enum vmb_gpadl_state *state)
{
	const struct vmb_gpadl *last = *cursor;
	const struct vmb_gpadl *g = last == NULL ? table->channels[channel_id] : last->next;

	if (g == NULL)
		return false;
	*cursor = g;
	*gpadl_id = g->id;
	*state = g->state;
	return true;
}

bool
vmb_gpadl_channel_has_any(const struct vmb_gpadl_table *table, uint32_t channel_id)
{
	return table->channels[channel_id] != NULL;
}

void
vmb_gpadl_get_usage(const struct vmb_gpadl_table *table, struct vmb_gpadl_usage *usage)
{
	*usage = table->usage;
}
