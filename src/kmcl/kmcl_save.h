/* SPDX-License-Identifier: MIT */
/*
 * What saving a channel means, between the channel (kmcl_save*.c, kmcl_restore*.c) and the bus below it
 * (kmcl_server.c, kmcl_host.c). The saved form is chunks: little-endian, each with magic, version, kind,
 * length and checksum (SVC-4); it names nothing of this process or host.
 *
 * The channel saves what is its own: identity, whether it was open and which open that was, private ring
 * positions, generations of transaction ids, queued and unanswered packets, queued completion packets, a
 * packet that waits to be delivered again. The bus keeps what is the guest's (offer, rings, GPADLs,
 * doorbell) while it is held: kmcl_park.c.
 */
#ifndef KMCL_SAVE_H
#define KMCL_SAVE_H

#include "kmcl/kmcl_channel.h"

/* Which open of which offer: a state that was saved during another one is not restored. */
struct kmcl_open_identity {
	uint32_t channel_id;
	uint32_t open_id;
	uint32_t ring_gpadl;
	uint32_t ring_pages;
	uint32_t downstream_page_offset;
	uint32_t target_vp;
	uint64_t opens;         /* guest and count: tells all opens of an offer apart */
};

/* The bus's side. */

/*
 * State context or API thread, any state of a server channel: is it open, and which open is it? False:
 * closed.
 */
bool kmcl_server_open_identity(struct kmcl_channel *ch, struct kmcl_open_identity *identity);

/* The channel's side. */

/*
 * The last save reached its end and the channel has not been started, opened or closed since: the bus may
 * park it. fsm.lock not needed; state context and API threads.
 */
bool kmcl_save_is_complete(const struct kmcl_channel *ch);

/* ---- within the channel ---------------------------------------------------------------------- */

void kmcl_save_init(struct kmcl_channel *ch);
void kmcl_save_destroy(struct kmcl_channel *ch);
/*
 * What was saved is no longer what is: the channel opens, starts, fails, or its peer closes it. Any lock
 * may be held.
 */
void kmcl_save_outdate(struct kmcl_channel *ch);

/* Who the channel is: a subchannel has its primary's type and instance, and an index. An enabled server. */
struct kmcl_save_identity {
	GUID type, instance;
	uint16_t index;
};
struct kmcl_save_identity kmcl_save_identity(struct kmcl_channel *ch);

/* A callback of the driver's begins on the caller's thread; the value is for kmcl_save_callback_end(). */
struct kmcl_channel *kmcl_save_callback_begin(struct kmcl_channel *ch);
void kmcl_save_callback_end(struct kmcl_channel *outer);

/*
 * State context: the rings of a restored channel are attached; what was restored takes its place before
 * what was sent meanwhile. The restore is over.
 */
void kmcl_restore_commit(struct kmcl_channel *ch);
/*
 * A restore that did not reach its end mark is given up, because the channel opens or leaves: what it
 * brought ends with STATUS_DEVICE_REMOVED. State context, PASSIVE; nothing happens when there is none.
 */
void kmcl_restore_abandon(struct kmcl_channel *ch);

#endif
