/* SPDX-License-Identifier: MIT */
/*
 * Our ring through the library's calls, validation on. RING_COPIES: the consumer copies each
 * payload out; without, it reads where it lies and copies only one that wraps. The consumer polls:
 * the ring's interrupt mask stays set. RING_LOCAL: both ends leave barriers to whoever would sleep,
 * and nobody does.
 */
#include "ring_bench.h"
#include "vmb/ring.h"
#ifdef RING_LOCAL
#include "port/local.h"
#endif

#define TYPE_IN_BAND 6u

static _Alignas(4096) uint8_t ring_ctl[VMB_RING_CTL_BYTES];
static _Alignas(4096) uint8_t ring_data[RING_BYTES];
/* Each end's own, on lines that the other end does not touch. */
static struct {
	_Alignas(128) struct vmb_ring_tx ring;
	struct vmb_iov body[2];
	uint64_t descriptor[2];
} writer;
static struct {
	_Alignas(128) struct vmb_ring_rx ring;
	uint32_t payload_bytes;
} reader;

static void
ring_attach(uint32_t payload_bytes, uint32_t batch)
{
	(void)batch;
	writer.descriptor[0] = TYPE_IN_BAND | VMB_DESCRIPTOR_BYTES / 8u << 16 |
	                       (VMB_DESCRIPTOR_BYTES + (uint64_t)payload_bytes + 7) / 8 << 32;
	writer.body[0] = (struct vmb_iov){ writer.descriptor, sizeof(writer.descriptor) };
	writer.body[1] = (struct vmb_iov){ ring_sent, payload_bytes };
	reader.payload_bytes = payload_bytes;
	vmb_ring_format(ring_ctl);
	if (vmb_ring_tx_init(&writer.ring, ring_ctl, ring_data, RING_BYTES) != VMB_OK ||
	    vmb_ring_rx_init(&reader.ring, ring_ctl, ring_data, RING_BYTES) != VMB_OK)
		ring_die("cannot attach to the ring");
#ifdef RING_LOCAL
	if (port_local() == NULL || !vmb_ring_tx_set_local(&writer.ring, port_local()) ||
	    !vmb_ring_rx_set_local(&reader.ring, port_local()))
		ring_die("the kernel makes no fences");
#endif
}

static ALWAYS_INLINE bool
ring_put(uint64_t id)
{
	enum vmb_status status;

	writer.descriptor[1] = id;
	status = vmb_ring_write(&writer.ring, writer.body, 2);
	if (status != VMB_OK && status != VMB_E_FULL)
		ring_die("the ring is corrupt");
	return status == VMB_OK;
}

static ALWAYS_INLINE void
ring_publish(void)
{
	bool signal;

	if (vmb_ring_tx_commit(&writer.ring, &signal) != VMB_OK)
		ring_die("commit failed");
}

static ALWAYS_INLINE bool
ring_get(uint64_t *id, const uint8_t **data)
{
	struct vmb_ring_packet packet;
	enum vmb_status status = vmb_ring_peek(&reader.ring, &packet);
	const uint8_t *payload = NULL;

	if (status == VMB_EMPTY)
		return false;
	if (status != VMB_OK)
		ring_die("the ring is corrupt");
#ifndef RING_COPIES
	payload =
	    vmb_ring_in_place(&reader.ring, &packet, packet.data_offset, reader.payload_bytes);
#endif
	if (payload == NULL) {
		vmb_ring_copy(&reader.ring, &packet, packet.data_offset, ring_read,
		              reader.payload_bytes);
		payload = ring_read;
	}
	*id = packet.transaction_id;
	*data = payload;
	vmb_ring_advance(&reader.ring, &packet);
	return true;
}

static ALWAYS_INLINE void
ring_release(void)
{
	bool signal;

	if (vmb_ring_rx_release(&reader.ring, &signal) != VMB_OK)
		ring_die("release failed");
}
