/* SPDX-License-Identifier: MIT */
/*
 * No ring: what the harness itself costs, to be subtracted. RING_COPIES: nothing but the copy of
 * each payload into a buffer and out of it, the least that a ring with copies could cost. One
 * thread only.
 */
#include "ring_bench.h"

#ifdef RING_COPIES
#include <string.h>

static _Alignas(64) uint8_t between[RING_MAX_PAYLOAD];
static uint32_t copied_bytes;
#endif
static uint64_t last_id;

static void
ring_attach(uint32_t payload_bytes, uint32_t batch)
{
	(void)batch;
#ifdef RING_COPIES
	copied_bytes = payload_bytes;
#else
	(void)payload_bytes;
#endif
}

static ALWAYS_INLINE bool
ring_put(uint64_t id)
{
	last_id = id;
#ifdef RING_COPIES
	memcpy(between, ring_sent, copied_bytes);
#endif
	return true;
}

static ALWAYS_INLINE void
ring_publish(void)
{
}

static ALWAYS_INLINE bool
ring_get(uint64_t *id, const uint8_t **data)
{
	*id = last_id;
#ifdef RING_COPIES
	memcpy(ring_read, between, copied_bytes);
	*data = ring_read;
#else
	*data = ring_sent;
#endif
	return true;
}

static ALWAYS_INLINE void
ring_release(void)
{
}
