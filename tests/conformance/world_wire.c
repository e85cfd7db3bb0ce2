/* SPDX-License-Identifier: MIT */
/*
 * Looking into rings and writing to them behind the library's back. Rings are found through the
 * channel's own objects, since no public function names them; everything else here speaks the wire
 * format.
 */
#include "world.h"

#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_channel.h"
#include "vmb/packet.h"
#include "vmb/ring.h"

/* Words of a control page (vmbus-protocol 1.2). */
#define CTL_IN 0
#define CTL_OUT 1
#define CTL_MASK 2
#define CTL_PENDING 3

static struct kmcl_channel *
inside(struct conf_channel *c)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(c->handle);

	assert_non_null(ch);
	assert_true(ch->tx.attached);
	return ch;
}

struct conf_wire
conf_wire_read(struct conf_channel *sender)
{
	struct kmcl_channel *ch = inside(sender);
	struct conf_wire wire = { .data_bytes = ch->link.out_bytes };
	uint8_t *ctl = aligned_alloc(4096, VMB_RING_CTL_BYTES);
	uint8_t *data = aligned_alloc(4096, ch->link.out_bytes);
	struct vmb_ring_packet found;
	struct vmb_ring_rx rx;
	enum vmb_status status;

	assert_non_null(ctl);
	assert_non_null(data);
	memset(ctl, 0, VMB_RING_CTL_BYTES);
	vmb_lock_take(&ch->tx.lock);
	for (uint32_t i = 0; i <= CTL_PENDING; i++)
		((uint32_t *)(void *)ctl)[i] =
		        __atomic_load_n((uint32_t *)(void *)ch->link.out_ctl + i, __ATOMIC_ACQUIRE);
	memcpy(data, ch->link.out_data, ch->link.out_bytes);
	vmb_lock_give(&ch->tx.lock);
	wire.in = ((uint32_t *)(void *)ctl)[CTL_IN];
	wire.out = ((uint32_t *)(void *)ctl)[CTL_OUT];
	wire.interrupt_mask = ((uint32_t *)(void *)ctl)[CTL_MASK];
	wire.pending_send_size = ((uint32_t *)(void *)ctl)[CTL_PENDING];
	assert_int_equal(vmb_ring_rx_init(&rx, ctl, data, ch->link.out_bytes), VMB_OK);
	while ((status = vmb_ring_peek(&rx, &found)) == VMB_OK) {
		struct conf_wire_packet *p;

		wire.packets = realloc(wire.packets, (wire.count + 1) * sizeof(*wire.packets));
		assert_non_null(wire.packets);
		p = &wire.packets[wire.count++];
		*p = (struct conf_wire_packet){ .type = found.type,
			                        .flags = found.flags,
			                        .data_offset = found.data_offset,
			                        .body_bytes = found.body_bytes,
			                        .transaction_id = found.transaction_id,
			                        .body = malloc(found.body_bytes) };
		assert_non_null(p->body);
		vmb_ring_copy(&rx, &found, 0, p->body, found.body_bytes);
		vmb_ring_advance(&rx, &found);
	}
	assert_int_equal(status, VMB_EMPTY);
	free(ctl);
	free(data);
	return wire;
}

void
conf_wire_free(struct conf_wire *wire)
{
	for (uint32_t i = 0; i < wire->count; i++)
		free(wire->packets[i].body);
	free(wire->packets);
	*wire = (struct conf_wire){ 0 };
}

void
conf_wire_inject(struct conf_channel *sender, const void *body, uint32_t bytes)
{
	struct kmcl_channel *ch = inside(sender);
	struct vmb_iov iov = { body, bytes };
	enum vmb_status written, committed;
	bool signal;

	vmb_lock_take(&ch->tx.lock);
	written = vmb_ring_write(&ch->tx.ring, &iov, 1);
	committed = vmb_ring_tx_commit(&ch->tx.ring, &signal);
	/* Whether or not it is needed: a peer may signal as it likes. */
	VMB_IGNORE(vmb_port_ring(ch->link.port, &ch->link.doorbell));
	vmb_lock_give(&ch->tx.lock);
	assert_int_equal(written, VMB_OK);
	assert_int_equal(committed, VMB_OK);
}

void
conf_wire_set_read_index(struct conf_channel *sender, uint32_t index)
{
	__atomic_store_n((uint32_t *)(void *)inside(sender)->link.out_ctl + CTL_OUT, index,
	                 __ATOMIC_RELEASE);
}

void
conf_wire_inject_completion(struct conf_channel *sender, uint64_t transaction_id,
                            const void *payload, uint32_t bytes)
{
	uint32_t body_bytes = VMB_DESCRIPTOR_BYTES + ((bytes + 7u) & ~7u);
	uint8_t *body = calloc(1, body_bytes);

	assert_non_null(body);
	vmb_packet_put_descriptor(body, VMB_PACKET_COMPLETION, VMB_DESCRIPTOR_BYTES, body_bytes, 0,
	                          transaction_id);
	if (bytes != 0)
		memcpy(body + VMB_DESCRIPTOR_BYTES, payload, bytes);
	conf_wire_inject(sender, body, body_bytes);
	free(body);
}
