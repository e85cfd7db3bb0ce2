/* SPDX-License-Identifier: MIT */
/*
 * Inside of the GPADL table, for the two files that are about it: what happens to GPADLs (gpadl.c)
 * and their saved form (gpadl_save.c).
 */
#ifndef MEM_GPADL_INTERNAL_H
#define MEM_GPADL_INTERNAL_H

#include "vmb/gpadl.h"

struct vmb_gpadl {
	struct vmb_gpadl *next;         /* of the same channel */
	struct vmb_gpadl *next_open;    /* of the incomplete ones */
	enum vmb_gpadl_state state;
	uint32_t channel_id;
	uint32_t id;
	uint32_t range_count;
	uint32_t bytes;                 /* as announced; after acceptance, as needed */
	uint32_t filled;
	uint32_t pages;                 /* charged to the budget */
	uint32_t maps[VMB_GPADL_HOLDERS];
	uint8_t ranges[];
};

struct vmb_gpadl_table {
	struct vmb_gpadl_limits limits;
	struct vmb_gpadl_usage usage;
	struct vmb_gpadl *incomplete;
	struct vmb_gpadl *channels[VMB_CHANNEL_ID_MAX + 1];
};

struct vmb_gpadl *vmb_gpadl_find(const struct vmb_gpadl_table *table, uint32_t channel_id,
                                 uint32_t gpadl_id);
struct vmb_gpadl *vmb_gpadl_find_incomplete(const struct vmb_gpadl_table *table, uint32_t gpadl_id);
/* Walk the complete list: every range well-formed and every page real. Counts what it needs. */
VMB_MUST_CHECK enum vmb_status vmb_gpadl_check(const struct vmb_gpadl *g,
                                               const struct vmb_gpadl_pages *pages,
                                               uint32_t *bytes, uint32_t *page_count);

#endif
