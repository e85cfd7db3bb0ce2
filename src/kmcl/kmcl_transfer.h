/* SPDX-License-Identifier: MIT */
/*
 * Transfer-page packets at a client (PGX-10): ranges that are parts of a GPADL, which the packet
 * names by the number of a set.
 */
#ifndef KMCL_TRANSFER_H
#define KMCL_TRANSFER_H

#include "kmcl/kmcl_channel.h"

/* A GPADL's ranges as they were sent to the host. */
struct kmcl_transfer_set {
	const uint8_t *ranges;
	uint32_t ranges_bytes, range_count;
};

/*
 * The packet's ranges as GPA ranges of our own memory, which stays pinned until
 * kmcl_transfer_release(); valid that long. STATUS_SUCCESS; STATUS_INVALID_PARAMETER_1 (no such
 * set, empty, outside its buffer), STATUS_INVALID_BUFFER_SIZE (above the limits),
 * STATUS_INSUFFICIENT_RESOURCES, STATUS_DEVICE_REMOVED. IRQL <= D.
 */
NTSTATUS kmcl_transfer_resolve(struct kmcl_incoming *incoming, const uint8_t **ranges,
                               uint32_t *ranges_bytes, uint32_t *range_count);
/* Idempotent. */
void kmcl_transfer_release(struct kmcl_incoming *incoming);

#endif
