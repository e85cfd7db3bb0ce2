/* SPDX-License-Identifier: MIT */
/*
 * DPDK's rte_ring when it moves what the other rings move: elements that hold the id and the payload, laid out in the ring and
 * read in it (its zero-copy calls), one producer and one consumer. All elements have one size.
 */
#include <stdlib.h>
#include <string.h>

/* So DPDK marks the zero-copy calls. */
#define ALLOW_EXPERIMENTAL_API
#include <rte_ring.h>
#include <rte_ring_peek_zc.h>

#include "ring_bench.h"

static struct rte_ring *between;
/* Each end's elements at hand: `taken` of `count`, which may go on at the ring's start. */
static struct hand {
	_Alignas(128) struct rte_ring_zc_data where;
	uint32_t count, taken, batch, element_bytes;
} writer, reader;

static void
ring_attach(uint32_t payload_bytes, uint32_t batch)
{
	uint32_t element = (uint32_t)sizeof(uint64_t) + ((payload_bytes + 7) & ~7u), entries = 64;
	ssize_t bytes;

	while (entries * 2 * element <= RING_BYTES)
		entries *= 2;
	if (batch >= entries)
		ring_die("the batch is larger than the rte_ring");
	bytes = rte_ring_get_memsize_elem(element, entries);
	writer.batch = reader.batch = batch;
	writer.element_bytes = reader.element_bytes = element;
	between = bytes > 0 ? aligned_alloc(4096, ((size_t)bytes + 4095) & ~(size_t)4095) : NULL;
	if (between == NULL ||
	    rte_ring_init(between, "bench", entries, RING_F_SP_ENQ | RING_F_SC_DEQ) != 0)
		ring_die("cannot make an rte_ring");
}

static ALWAYS_INLINE uint8_t *
take(struct hand *hand)
{
	uint32_t i = hand->taken++;

	return i < hand->where.n1
	           ? (uint8_t *)hand->where.ptr1 + (size_t)i * hand->element_bytes
	           : (uint8_t *)hand->where.ptr2 + (size_t)(i - hand->where.n1) * hand->element_bytes;
}

static ALWAYS_INLINE void
ring_publish(void)
{
	if (writer.count != 0)
		rte_ring_enqueue_zc_elem_finish(between, writer.taken);
	writer.count = writer.taken = 0;
}

static ALWAYS_INLINE bool
ring_put(uint64_t id)
{
	uint8_t *element;

	if (writer.taken == writer.count) {
		ring_publish();
		writer.count = rte_ring_enqueue_zc_burst_elem_start(between, writer.element_bytes,
		                                                    writer.batch, &writer.where, NULL);
		if (writer.count == 0)
			return false;
	}
	element = take(&writer);
	memcpy(element, &id, sizeof(id));
	memcpy(element + sizeof(id), ring_sent, writer.element_bytes - sizeof(id));
	return true;
}

static ALWAYS_INLINE void
ring_release(void)
{
	if (reader.count != 0)
		rte_ring_dequeue_zc_elem_finish(between, reader.taken);
	reader.count = reader.taken = 0;
}

static ALWAYS_INLINE bool
ring_get(uint64_t *id, const uint8_t **data)
{
	const uint8_t *element;

	if (reader.taken == reader.count) {
		ring_release();
		reader.count = rte_ring_dequeue_zc_burst_elem_start(between, reader.element_bytes,
		                                                    reader.batch, &reader.where, NULL);
		if (reader.count == 0)
			return false;
	}
	element = take(&reader);
	memcpy(id, element, sizeof(*id));
	*data = element + sizeof(*id);
	return true;
}
