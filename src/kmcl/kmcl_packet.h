/* SPDX-License-Identifier: MIT */
/* Packet objects: memory, state, lookaside list. */
#ifndef KMCL_PACKET_H
#define KMCL_PACKET_H

#include "kmcl/kmcl_channel.h"

/* Bytes of the driver's area, rounded so that what follows it keeps its alignment. */
#define KMCL_CONTEXT_BYTES(size) (((size) + 15u) & ~15u)

/* NULL for anything that is not a packet. */
struct kmcl_packet *kmcl_packet_from_handle(VMBPACKET handle);

/* A pool packet, idle; NULL without memory. Any thread. */
struct kmcl_packet *kmcl_packet_get(struct kmcl_channel *ch);
/* Back to the lookaside list. */
void kmcl_packet_put(struct kmcl_packet *packet);
/* The packet is no longer queued or in flight: idle, no transaction id. Not from the FIFO. tx.lock. */
void kmcl_packet_forget_locked(struct kmcl_packet *packet);
/* Free the lookaside list. tx.lock. */
void kmcl_packet_drain_locked(struct kmcl_channel *ch);

#endif
