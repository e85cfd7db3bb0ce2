/* SPDX-License-Identifier: MIT */
/*
 * The GPADLs of one guest, as a host sees them (vmbus-protocol 3.2, 3.3): reassembly of the range
 * list from header and body messages, budgets, mapping counts, and teardown that waits for the last
 * unmap.
 *
 * A GPADL is known by (channel, id); while its list is incomplete its id is unique in the whole
 * table, because body messages name no channel. Nothing here posts, blocks or calls back, apart
 * from the page check; the owner serialises all calls on one table.
 */
#ifndef VMB_GPADL_H
#define VMB_GPADL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmb/msg.h"
#include "vmb/packet.h"
#include "vmb/status.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define VMB_GPADL_DEFAULT_COUNT 4096u
#define VMB_GPADL_DEFAULT_IN_PROGRESS 64u
#define VMB_GPADL_DEFAULT_PAGES 327680u  /* 1280 MiB */

enum vmb_gpadl_state {
	VMB_GPADL_IN_PROGRESS,  /* the range list is incomplete */
	VMB_GPADL_ACCEPTED,     /* may be mapped */
	VMB_GPADL_TEARING_DOWN, /* mapped; the guest waits for the last unmap */
	VMB_GPADL_ORPHANED,     /* mapped; its channel left the guest, nobody waits */
	VMB_GPADL_GONE,
};
#define VMB_GPADL_STATES 5u

/* What happens to a GPADL. "Free" and "mapped" tell whether mappings are left. */
enum vmb_gpadl_event {
	VMB_GPADL_EV_FILLED,          /* the list is complete and good */
	VMB_GPADL_EV_REFUSED,         /* the list is bad */
	VMB_GPADL_EV_TEARDOWN_FREE,   /* the guest wants it back */
	VMB_GPADL_EV_TEARDOWN_MAPPED,
	VMB_GPADL_EV_LAST_UNMAP,
	VMB_GPADL_EV_CHANNEL_GONE_FREE,
	VMB_GPADL_EV_CHANNEL_GONE_MAPPED,
};
#define VMB_GPADL_EVENTS 7u

/* The table that code and tests share: a pair that is not listed leaves the GPADL as it is. */
struct vmb_gpadl_edge {
	enum vmb_gpadl_state state;
	enum vmb_gpadl_event event;
	enum vmb_gpadl_state next;
};
extern const struct vmb_gpadl_edge vmb_gpadl_edges[];
extern const size_t vmb_gpadl_edge_count;

struct vmb_gpadl_limits {
	uint32_t gpadls;        /* 0 = VMB_GPADL_DEFAULT_COUNT */
	uint32_t in_progress;   /* 0 = VMB_GPADL_DEFAULT_IN_PROGRESS */
	uint64_t pages;         /* sum over all GPADLs; 0 = VMB_GPADL_DEFAULT_PAGES */
};

/* Are these guest pages real? */
struct vmb_gpadl_pages {
	bool (*exist)(void *ctx, const struct vmb_gpa_range *range);
	void *ctx;
};

/* A complete list. The pointer lives until the mapping it came with is undone. */
struct vmb_gpadl_list {
	const uint8_t *ranges;
	uint32_t bytes;         /* what the ranges need, which may be less than was sent */
	uint32_t count;
};

/* Who holds a mapping: the open channel holds its ring, the device whatever it asked for. */
enum vmb_gpadl_holder {
	VMB_GPADL_BY_RING,
	VMB_GPADL_BY_DEVICE,
};
#define VMB_GPADL_HOLDERS 2u

struct vmb_gpadl_table;

VMB_MUST_CHECK enum vmb_status vmb_gpadl_table_create(const struct vmb_gpadl_limits *limits,
                                                      struct vmb_gpadl_table **table);
/* Releases everything, mapped or not. NULL is allowed. */
void vmb_gpadl_table_destroy(struct vmb_gpadl_table *table);

/*
 * The header message. `channel_id` is 1..VMB_CHANNEL_ID_MAX.
 * VMB_OK: complete and accepted; VMB_QUEUED: bodies must follow. Nothing is kept after VMB_E_EXISTS
 * (id in use), VMB_E_LIMIT (a budget), VMB_E_NO_MEMORY, VMB_E_MALFORMED (bad ranges),
 * VMB_E_NOT_FOUND (pages that do not exist).
 */
VMB_MUST_CHECK enum vmb_status vmb_gpadl_begin(struct vmb_gpadl_table *table,
                                               const struct vmb_msg_gpadl_header *header,
                                               const struct vmb_gpadl_pages *pages);
/*
 * A body message; one without a qword is VMB_E_MALFORMED. Results as vmb_gpadl_begin().
 * VMB_E_NOT_FOUND with *channel_id 0 means that no such id is in progress; any other failure
 * dropped the GPADL, which was *channel_id's.
 */
VMB_MUST_CHECK enum vmb_status vmb_gpadl_append(struct vmb_gpadl_table *table,
                                                const struct vmb_msg_gpadl_body *body,
                                                const struct vmb_gpadl_pages *pages,
                                                uint32_t *channel_id);

/*
 * VMB_OK: gone; VMB_QUEUED: waits for the last unmap; VMB_E_NOT_FOUND; VMB_E_STATE: incomplete or
 * already asked.
 */
VMB_MUST_CHECK enum vmb_status vmb_gpadl_teardown(struct vmb_gpadl_table *table,
                                                  uint32_t channel_id, uint32_t gpadl_id);

/* Look at an accepted GPADL without holding it. VMB_E_NOT_FOUND: unknown or not accepted. */
VMB_MUST_CHECK enum vmb_status vmb_gpadl_look(const struct vmb_gpadl_table *table,
                                              uint32_t channel_id, uint32_t gpadl_id,
                                              struct vmb_gpadl_list *list);
/* Look at one that an open channel holds as its ring, also after the guest asked for it back. */
VMB_MUST_CHECK enum vmb_status vmb_gpadl_look_ring(const struct vmb_gpadl_table *table,
                                                   uint32_t channel_id, uint32_t gpadl_id,
                                                   struct vmb_gpadl_list *list);
VMB_MUST_CHECK enum vmb_status vmb_gpadl_map(struct vmb_gpadl_table *table,
                                             enum vmb_gpadl_holder holder, uint32_t channel_id,
                                             uint32_t gpadl_id, struct vmb_gpadl_list *list);
/*
 * Undo one mapping of this holder. VMB_OK: nothing more to do; VMB_QUEUED: that was the last
 * mapping of one the guest wants back, it is gone now and the guest must be told. VMB_E_NOT_FOUND:
 * no such mapping.
 */
VMB_MUST_CHECK enum vmb_status vmb_gpadl_unmap(struct vmb_gpadl_table *table,
                                               enum vmb_gpadl_holder holder, uint32_t channel_id,
                                               uint32_t gpadl_id);
/* Mappings held by the device. */
uint32_t vmb_gpadl_device_maps(const struct vmb_gpadl_table *table, uint32_t channel_id,
                               uint32_t gpadl_id);

/*
 * Drop one incomplete GPADL of the channel; false when there is none. For telling the guest about
 * each.
 */
bool vmb_gpadl_drop_incomplete(struct vmb_gpadl_table *table, uint32_t channel_id,
                               uint32_t *gpadl_id);
/* The channel left the guest: free what is not mapped, orphan the rest. */
void vmb_gpadl_channel_gone(struct vmb_gpadl_table *table, uint32_t channel_id);
/*
 * Walk a channel's GPADLs, newest first: start with *cursor = NULL; false at the end. Not across
 * changes.
 */
bool vmb_gpadl_walk(const struct vmb_gpadl_table *table, uint32_t channel_id, const void **cursor,
                    uint32_t *gpadl_id, enum vmb_gpadl_state *state);
bool vmb_gpadl_channel_has_any(const struct vmb_gpadl_table *table, uint32_t channel_id);

struct vmb_gpadl_usage {
	uint32_t gpadls;
	uint32_t in_progress;
	uint64_t pages;
	uint64_t mapped_pages;  /* of GPADLs that have a mapping, whoever holds it */
};
void vmb_gpadl_get_usage(const struct vmb_gpadl_table *table, struct vmb_gpadl_usage *usage);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
