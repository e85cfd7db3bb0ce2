/* SPDX-License-Identifier: MIT */
/*
 * What the runtime has to remember of an MDL and cannot keep in it: second mappings, and the
 * pages that belong to it. Found by the MDL's address; drivers see and may copy the MDL itself.
 */
#ifndef NT_MDL_SIDE_H
#define NT_MDL_SIDE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmb/mem.h"

enum nt_mdl_side_kind {
	NT_MDL_SIDE_WINDOW, /* view: the mapping of the MDL */
	NT_MDL_SIDE_PAGES,  /* runs: pages of MmAllocatePagesForMdlEx; the MDL itself is ours too */
};

struct nt_mdl_side {
	struct nt_mdl_side *next;
	const void *mdl;
	enum nt_mdl_side_kind kind;
	struct vmb_view view;
	uint32_t run_count;
	void *runs[];
};

struct nt_mdl_side *nt_mdl_side_new(enum nt_mdl_side_kind kind, uint32_t run_capacity);
void nt_mdl_side_insert(struct nt_mdl_side *side, const void *mdl);
bool nt_mdl_side_exists(const void *mdl, enum nt_mdl_side_kind kind);
/* Removed, and the caller's to free(); NULL if there is none. */
struct nt_mdl_side *nt_mdl_side_take(const void *mdl, enum nt_mdl_side_kind kind);

/* Held while an MDL is mapped or unmapped. MDLs share a few locks. */
void nt_mdl_map_lock(const void *mdl);
void nt_mdl_map_unlock(const void *mdl);

#endif
