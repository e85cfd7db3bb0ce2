/* SPDX-License-Identifier: MIT */
/*
 * Rings of a hostile peer: honest use, and every word and byte for who wants to lie.
 */
#include "peer.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

void
peer_rings_at(struct peer_channel *channel, uint8_t *out, uint32_t out_pages, uint8_t *in,
              uint32_t in_pages)
{
	channel->rings[VMB_HOSTILE_OUT] =
	    (struct peer_ring){ out, out + VMB_RING_CTL_BYTES, (out_pages - 1) * PEER_PAGE };
	channel->rings[VMB_HOSTILE_IN] =
	    (struct peer_ring){ in, in + VMB_RING_CTL_BYTES, (in_pages - 1) * PEER_PAGE };
}

enum vmb_status
peer_rings_attach(struct peer_channel *channel)
{
	struct peer_ring *out = &channel->rings[VMB_HOSTILE_OUT],
			 *in = &channel->rings[VMB_HOSTILE_IN];
	enum vmb_status status =
	    vmb_ring_tx_init(&channel->tx, out->control, out->data, out->bytes);

	if (status == VMB_OK)
		status = vmb_ring_rx_init(&channel->rx, in->control, in->data, in->bytes);
	/* Whoever waits here polls or is told by the doorbell: signals are welcome. */
	if (status == VMB_OK && vmb_ring_rx_unmask(&channel->rx) == VMB_E_CORRUPT)
		status = VMB_E_CORRUPT;
	channel->open = status == VMB_OK;
	return status;
}

void
peer_rings_drop(struct peer_channel *channel)
{
	channel->open = false;
	vmb_mem_unmap(&channel->view);
	memset(channel->rings, 0, sizeof(channel->rings));
	free(channel->ring_pfns);
	channel->ring_pfns = NULL;
	if (channel->ring_fd >= 0)
		close(channel->ring_fd);
	if (channel->own_fd >= 0)
		close(channel->own_fd);
	channel->ring_fd = channel->own_fd = -1;
}

/* ---- words and bytes -------------------------------------------------------------------------- */

static uint8_t *
control_of(const struct vmb_hostile *peer, uint32_t channel_id, enum vmb_hostile_ring ring)
{
	const struct peer_channel *channel = peer_channel(peer, channel_id);

	return channel != NULL ? channel->rings[ring].control : NULL;
}

uint32_t
vmb_hostile_get(const struct vmb_hostile *peer, uint32_t channel_id, enum vmb_hostile_ring ring,
                enum vmb_hostile_word word)
{
	const uint8_t *control = control_of(peer, channel_id, ring);

	return control != NULL ? __atomic_load_n((const uint32_t *)(const void *)(control + word),
	                                         __ATOMIC_SEQ_CST)
	                       : 0;
}

void
vmb_hostile_set(struct vmb_hostile *peer, uint32_t channel_id, enum vmb_hostile_ring ring,
                enum vmb_hostile_word word, uint32_t value)
{
	uint8_t *control = control_of(peer, channel_id, ring);

	if (control != NULL)
		__atomic_store_n((uint32_t *)(void *)(control + word), value, __ATOMIC_SEQ_CST);
}

uint8_t *
vmb_hostile_data(struct vmb_hostile *peer, uint32_t channel_id, enum vmb_hostile_ring ring,
                 uint32_t *bytes)
{
	const struct peer_channel *channel = peer_channel(peer, channel_id);

	*bytes = channel != NULL ? channel->rings[ring].bytes : 0;
	return channel != NULL ? channel->rings[ring].data : NULL;
}

uint64_t
vmb_hostile_ring_page(const struct vmb_hostile *peer, uint32_t channel_id,
                      enum vmb_hostile_ring ring)
{
	const struct peer_channel *channel = peer_channel(peer, channel_id);

	if (channel == NULL || channel->first_page == 0)
		return 0;
	return channel->first_page + (ring == VMB_HOSTILE_OUT ? 0 : channel->ring_pages);
}

/* ---- packets ---------------------------------------------------------------------------------- */

enum vmb_status
vmb_hostile_signal(struct vmb_hostile *peer, uint32_t channel_id, uint32_t times)
{
	const struct peer_channel *channel = peer_channel(peer, channel_id);

	if (channel == NULL || (!channel->has_doorbell && channel->ring_fd < 0))
		return VMB_E_STATE;
	for (uint32_t i = 0; i < times; i++) {
		/* A counter that is full has been signalled. */
		if (channel->has_doorbell)
			VMB_IGNORE(vmb_port_ring(peer->port, &channel->doorbell));
		else
			(void)eventfd_write(channel->ring_fd, 1);
	}
	return VMB_OK;
}

enum vmb_status
vmb_hostile_write(struct vmb_hostile *peer, uint32_t channel_id, const void *body, uint32_t bytes)
{
	struct peer_channel *channel = peer_channel(peer, channel_id);
	const struct vmb_iov iov = { body, bytes };
	enum vmb_status status;
	bool signal;

	if (channel == NULL || !channel->open)
		return VMB_E_STATE;
	status = vmb_ring_write(&channel->tx, &iov, 1);
	if (status == VMB_OK)
		status = vmb_ring_tx_commit(&channel->tx, &signal);
	/* Too many signals are allowed; a client may have brought no doorbell. */
	if (status == VMB_OK)
		VMB_IGNORE(vmb_hostile_signal(peer, channel_id, 1));
	return status;
}

enum vmb_status
vmb_hostile_send(struct vmb_hostile *peer, uint32_t channel_id, enum vmb_packet_type type,
                 uint32_t flags, uint64_t transaction_id, const void *payload, uint32_t bytes)
{
	uint32_t padded = (bytes + 7u) & ~7u;
	enum vmb_status status;
	uint8_t *body;

	if (bytes > VMB_MAX_BODY_BYTES - VMB_DESCRIPTOR_BYTES)
		return VMB_E_TOO_BIG;
	body = calloc(1, VMB_DESCRIPTOR_BYTES + (size_t)padded);
	if (body == NULL)
		return VMB_E_NO_MEMORY;
	vmb_packet_put_descriptor(body, type, VMB_DESCRIPTOR_BYTES, VMB_DESCRIPTOR_BYTES + padded,
	                          flags, transaction_id);
	if (bytes != 0)
		memcpy(body + VMB_DESCRIPTOR_BYTES, payload, bytes);
	status = vmb_hostile_write(peer, channel_id, body, VMB_DESCRIPTOR_BYTES + padded);
	free(body);
	return status;
}

/* Until the other side signals or says something. */
static void
await_signal(struct vmb_hostile *peer, const struct peer_channel *channel, uint64_t ms)
{
	int bell = channel->has_doorbell ? channel->doorbell.wait_fd : channel->own_fd;
	int messages = peer->port != NULL ? vmb_port_poll_fd(peer->port) : peer->socket;
	struct pollfd there[2] = { { .fd = bell, .events = POLLIN },
		                   { .fd = messages, .events = POLLIN } };
	eventfd_t ignored;

	if (poll(there, 2, (int)ms) <= 0)
		return;
	if (there[0].revents != 0)
		(void)!eventfd_read(bell, &ignored);
	if (there[1].revents != 0)
		VMB_IGNORE(peer_collect(peer, 0));
}

enum vmb_status
vmb_hostile_try_receive(struct vmb_hostile *peer, uint32_t channel_id,
                        struct vmb_ring_packet *packet, void *body, uint32_t capacity)
{
	struct peer_channel *channel = peer_channel(peer, channel_id);
	enum vmb_status status;
	uint32_t bytes;
	bool signal;

	if (channel == NULL || !channel->open)
		return peer->closed ? VMB_E_CLOSED : VMB_E_STATE;
	status = vmb_ring_peek(&channel->rx, packet);
	/* Signals are masked while there is something; look once more when they are not. */
	if (status == VMB_EMPTY)
		status = vmb_ring_rx_unmask(&channel->rx);
	if (status == VMB_OK)
		status = vmb_ring_peek(&channel->rx, packet);
	if (status != VMB_OK)
		return status;
	bytes = packet->body_bytes < capacity ? packet->body_bytes : capacity;
	if (bytes != 0)
		vmb_ring_copy(&channel->rx, packet, 0, body, bytes);
	vmb_ring_advance(&channel->rx, packet);
	status = vmb_ring_rx_release(&channel->rx, &signal);
	if (status == VMB_OK && signal)
		VMB_IGNORE(vmb_hostile_signal(peer, channel_id, 1));
	return status;
}

enum vmb_status
vmb_hostile_receive(struct vmb_hostile *peer, uint32_t channel_id, struct vmb_ring_packet *packet,
                    void *body, uint32_t capacity)
{
	uint64_t end = peer_now_ms() + peer->options.wait_ms, now;
	enum vmb_status status;

	for (;;) {
		status = vmb_hostile_try_receive(peer, channel_id, packet, body, capacity);
		if (status != VMB_EMPTY)
			return status;
		now = peer_now_ms();
		if (peer->closed || now >= end)
			return peer->closed ? VMB_E_CLOSED : VMB_E_TIMEOUT;
		/* What is said meanwhile may close it. */
		await_signal(peer, peer_channel(peer, channel_id), end - now);
	}
}
