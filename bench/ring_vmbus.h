/* SPDX-License-Identifier: MIT */
/*
 * DPDK's VMBus driver, its send and its receive. The library has no way to make a channel without a
 * device, so we make the part of one that these two calls use: two descriptions of a ring, at the
 * place where version 22.11 (ABI 23) has them. Whether they are there is checked with a packet
 * before anything is measured.
 */
#include <string.h>

#include <rte_bus_vmbus.h>

#include "ring_bench.h"

#define PAGE_BYTES 4096u
#define TYPE_IN_BAND 6u
#define UNREACHABLE_BYTES 4096u

struct described_ring {
	void *control; /* the data follows one page behind */
	uint32_t data_bytes;
	uint32_t write_index;
};

struct described_channel {
	uint8_t others_before[0x20];
	struct described_ring in, out;
	uint8_t others_after[UNREACHABLE_BYTES];
};

static _Alignas(4096) uint8_t between[PAGE_BYTES + RING_BYTES];
static struct {
	_Alignas(128) struct described_channel channel;
	uint32_t bytes;
} writer;
static struct {
	_Alignas(128) struct described_channel channel;
} reader;

static ALWAYS_INLINE bool
ring_put(uint64_t id)
{
	bool signal = false;

	return rte_vmbus_chan_send((struct vmbus_channel *)(void *)&writer.channel, TYPE_IN_BAND,
	                           ring_sent, writer.bytes, id, 0, &signal) == 0;
}

static ALWAYS_INLINE void
ring_publish(void)
{
}

static ALWAYS_INLINE bool
ring_get(uint64_t *id, const uint8_t **data)
{
	uint32_t bytes = sizeof(ring_read);

	if (rte_vmbus_chan_recv((struct vmbus_channel *)(void *)&reader.channel, ring_read, &bytes,
	                        id) != 0)
		return false;
	*data = ring_read;
	return true;
}

static ALWAYS_INLINE void
ring_release(void)
{
}

static void
ring_attach(uint32_t payload_bytes, uint32_t batch)
{
	const uint8_t *data;
	uint64_t id;

	(void)batch;
	writer.bytes = payload_bytes;
	writer.channel.out = (struct described_ring){ between, RING_BYTES, 0 };
	reader.channel.in = (struct described_ring){ between, RING_BYTES, 0 };
	/* The consumer polls. */
	between[8] = 1;
	if (!ring_put(7) || !ring_get(&id, &data) || id != 7 ||
	    memcmp(data, ring_sent, payload_bytes) != 0)
		ring_die("this version of DPDK has its rings elsewhere; install Debian 12's");
}
