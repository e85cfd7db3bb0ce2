/* SPDX-License-Identifier: MIT */
/*
 * DPDK's rte_ring, one producer and one consumer, in bursts of the batch: it moves pointers only,
 * so nothing is copied and nothing could be read by another process at another address. The id
 * stands for the pointer.
 */
#include <stdlib.h>

#include <rte_ring.h>

#include "ring_bench.h"

#define RING_ENTRIES 2048u

static struct rte_ring *between;
/* Each end's burst, on lines of its own. */
static struct {
	_Alignas(128) void *burst[RING_MAX_BATCH];
	uint32_t count;
} writer;
static struct {
	_Alignas(128) void *burst[RING_MAX_BATCH];
	uint32_t count, next, batch;
} reader;

static void
ring_attach(uint32_t payload_bytes, uint32_t batch)
{
	ssize_t bytes = rte_ring_get_memsize(RING_ENTRIES);

	(void)payload_bytes;
	reader.batch = batch;
	between = bytes > 0 ? aligned_alloc(4096, ((size_t)bytes + 4095) & ~(size_t)4095) : NULL;
	if (between == NULL ||
	    rte_ring_init(between, "bench", RING_ENTRIES, RING_F_SP_ENQ | RING_F_SC_DEQ) != 0)
		ring_die("cannot make an rte_ring");
}

static ALWAYS_INLINE void
ring_publish(void)
{
	uint32_t done = 0;

	while (done < writer.count)
		done += rte_ring_sp_enqueue_burst(between, writer.burst + done, writer.count - done,
		                                  NULL);
	writer.count = 0;
}

static ALWAYS_INLINE bool
ring_put(uint64_t id)
{
	/* Id 0 is a pointer too. */
	writer.burst[writer.count++] = (void *)(uintptr_t)(id + 1);
	return true;
}

static ALWAYS_INLINE bool
ring_get(uint64_t *id, const uint8_t **data)
{
	if (reader.next == reader.count) {
		reader.next = 0;
		reader.count = rte_ring_sc_dequeue_burst(between, reader.burst, reader.batch, NULL);
		if (reader.count == 0)
			return false;
	}
	*id = (uint64_t)(uintptr_t)reader.burst[reader.next++] - 1;
	*data = ring_sent;
	return true;
}

static ALWAYS_INLINE void
ring_release(void)
{
}
