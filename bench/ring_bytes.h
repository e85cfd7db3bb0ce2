/* SPDX-License-Identifier: MIT */
/* The bare ring (bare_ring.h). */
#include "bare_ring.h"
#include "ring_bench.h"

static struct bare_ring between;
static struct {
	struct bare_end end;
	uint32_t bytes;
} writer;
static struct {
	struct bare_end end;
} reader;

static void
ring_attach(uint32_t payload_bytes, uint32_t batch)
{
	(void)batch;
	writer.end.ring = reader.end.ring = &between;
	writer.bytes = payload_bytes;
}

static ALWAYS_INLINE bool
ring_put(uint64_t id)
{
	return bare_put(&writer.end, id, ring_sent, writer.bytes);
}

static ALWAYS_INLINE void
ring_publish(void)
{
	bare_publish(&writer.end);
}

static ALWAYS_INLINE bool
ring_get(uint64_t *id, const uint8_t **data)
{
	uint64_t bytes;

	if (!bare_get(&reader.end, id, ring_read, &bytes))
		return false;
	*data = ring_read;
	return true;
}

static ALWAYS_INLINE void
ring_release(void)
{
	bare_release(&reader.end);
}
