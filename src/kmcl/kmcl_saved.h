/* SPDX-License-Identifier: MIT */
/*
 * The saved form of a channel: what stands in its chunks (wire/chunk.h). Nothing depends on pointers, the
 * process or the host. Padding and reserved fields are zero; the length of each chunk is a multiple of 8,
 * so that in an aligned buffer the driver's parts are aligned. Every content begins with struct
 * kmcl_saved_place:
 *
 *	1 CHANNEL   first; struct kmcl_saved_channel: who the channel is, what it was configured for, which open
 *	2 PACKET    a sent packet that is not over: struct kmcl_saved_packet, the library's part (struct
 *	            kmcl_saved_request, payload, padding), then the driver's part and padding
 *	3 ANSWER    a completion packet that waits for room: struct kmcl_saved_answer, payload, padding
 *	4 END       last; nothing more
 *
 * Packets that lie in the ring without an answer come first, in the order in which they were sent; what
 * waits for room follows in the order of the queue, requests and answers mixed as they were (OUT-2). Images
 * are not kept: descriptors are made anew, so that a forged state cannot put one into a ring.
 */
#ifndef KMCL_SAVED_H
#define KMCL_SAVED_H

#include <stdint.h>

#include "wire/chunk.h"
#include "wire/le.h"

/* "KMCS" */
static const struct vmb_chunk_format kmcl_saved_format = { .magic = 0x53434D4B, .version = 1 };

enum kmcl_saved_kind {
	KMCL_SAVED_CHANNEL = 1,
	KMCL_SAVED_PACKET,
	KMCL_SAVED_ANSWER,
	KMCL_SAVED_END,
};

/* Chunks travel through a driver. None is left out, repeated or moved, and no two states are mixed. */
struct kmcl_saved_place {
	vmb_le32 sequence;              /* 0, 1, 2... */
	vmb_le32 tag;                   /* checksum of the first chunk; 0 in that one itself */
};
VMB_WIRE_SIZE(struct kmcl_saved_place, 8);

#define KMCL_SAVED_OPEN 0x1u    /* the channel was open; else all fields from tx_in on are zero */
#define KMCL_SAVED_PIPE 0x2u

struct kmcl_saved_channel {
	uint8_t type[16], instance[16];
	vmb_le16 flags;                 /* KMCL_SAVED_* */
	vmb_le16 subchannel_index;      /* 0 = a primary channel */
	vmb_le32 max_packet, max_external, max_chain;
	vmb_le32 slots;                 /* transaction ids in use name slots up to this one */
	vmb_le32 generation;            /* no id with a higher generation was ever used */
	vmb_le64 serial;                /* how often this channel was saved, over all its lives */
	vmb_le32 packets, answers;      /* chunks of these kinds */
	vmb_le32 tx_in, rx_out;         /* our ring positions, in bytes */
	vmb_le32 channel_id, open_id, ring_gpadl, ring_pages, downstream_page_offset, target_vp;
	vmb_le64 opens;
};
VMB_WIRE_SIZE(struct kmcl_saved_channel, 112);

struct kmcl_saved_packet {
	vmb_le32 library_bytes;         /* multiple of 8 */
	vmb_le32 driver_bytes;
};
VMB_WIRE_SIZE(struct kmcl_saved_packet, 8);

#define KMCL_SAVED_QUEUED 1u
#define KMCL_SAVED_IN_RING 2u

struct kmcl_saved_request {
	vmb_le32 state;                 /* KMCL_SAVED_QUEUED, with its payload, or _IN_RING, without */
	vmb_le32 wants_completion;      /* 0, 1 */
	vmb_le64 transaction_id;        /* 0 if no completion is wanted */
	vmb_le32 payload_bytes;         /* exact; a pipe header is not part of it */
	vmb_le32 reserved;
};
VMB_WIRE_SIZE(struct kmcl_saved_request, 24);

struct kmcl_saved_answer {
	vmb_le64 transaction_id;        /* the guest's */
	vmb_le32 payload_bytes;
	vmb_le32 reserved;
};
VMB_WIRE_SIZE(struct kmcl_saved_answer, 16);

#endif
