/* SPDX-License-Identifier: MIT */
/*
 * Offers: ids, order, hot-add and coming back. An id belongs to its offer from
 * vmb_bus_server_offer() until released(); a device that returns gets its old id if nobody has it.
 * A device whose revoked offer the guest still holds is not offered again before the guest lets go:
 * guests drop the second of two offers of one device.
 */
#include "bus/server.h"

#include <stdlib.h>
#include <string.h>

/* Event connection of a channel: its id with the SINT that carries it. Below 2^24, never 1..4. */
#define CONNECTION_ID_OF(channel_id) (0x2000u | (channel_id))

void
server_key_of(const struct vmb_msg_offer *offer, struct server_key *key)
{
	key->interface_type = offer->interface_type;
	key->interface_instance = offer->interface_instance;
	key->subchannel_index = offer->subchannel_index;
}

/* A stable order that puts primary channels before their subchannels. */
int
server_key_compare(const struct server_key *a, const struct server_key *b)
{
	int order = memcmp(a->interface_type.bytes, b->interface_type.bytes,
	                   sizeof(a->interface_type.bytes));

	if (order == 0)
		order = memcmp(a->interface_instance.bytes, b->interface_instance.bytes,
		               sizeof(a->interface_instance.bytes));
	if (order == 0)
		order = (int)a->subchannel_index - (int)b->subchannel_index;
	return order;
}

static bool
offers_same_device(const struct vmb_msg_offer *a, const struct vmb_msg_offer *b)
{
	struct server_key key_a, key_b;

	server_key_of(a, &key_a);
	server_key_of(b, &key_b);
	return server_key_compare(&key_a, &key_b) == 0;
}

static bool
guest_holds_device(const struct vmb_bus_server *server, const struct server_channel *self)
{
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		const struct server_channel *other = server->channels[id];

		if (other != NULL && other != self && server_state_is_visible(other->state) &&
		    offers_same_device(&other->offer, &self->offer))
			return true;
	}
	return false;
}

bool
server_offer_is_due(const struct vmb_bus_server *server, const struct server_channel *channel)
{
	return server->link == SERVER_CONNECTED && server->offers_sent &&
	       channel->state == SC_HIDDEN && !channel->released_by_guest &&
	       !guest_holds_device(server, channel);
}

uint8_t
server_monitor_of(const struct vmb_bus_server *server, uint32_t channel_id)
{
	/* By channel id, so that it is the same whenever this channel is offered again. */
	return server->monitors && server->contact.monitor_page_to_parent != 0 &&
			       channel_id - 1 <= VMB_MONITOR_ID_MAX
		       ? (uint8_t)(channel_id - 1)
		       : VMB_MONITOR_NONE;
}

void
server_offer_announce(struct vmb_bus_server *server, struct server_channel *channel)
{
	struct vmb_msg msg = { .type = VMB_MSG_OFFER_CHANNEL, .offer = channel->offer };

	if ((server->features & VMB_FEATURE_CONFIDENTIAL_CHANNELS) == 0)
		msg.offer.flags &=
			(uint16_t)~(VMB_OFFER_CONFIDENTIAL_RING | VMB_OFFER_CONFIDENTIAL_EXTERNAL);
	if ((server->features & VMB_FEATURE_GPA_PINNING) == 0)
		msg.offer.flags &= (uint16_t)~VMB_OFFER_PINNED_EXTERNAL;
	msg.offer.monitor_id = server_monitor_of(server, msg.offer.channel_id);
	msg.offer.monitor_allocated = msg.offer.monitor_id != VMB_MONITOR_NONE;
	server_post(server, &msg);
}

static int
channel_compare(const void *a, const void *b)
{
	const struct server_channel *const *channel_a = a;
	const struct server_channel *const *channel_b = b;
	struct server_key key_a, key_b;

	server_key_of(&(*channel_a)->offer, &key_a);
	server_key_of(&(*channel_b)->offer, &key_b);
	return server_key_compare(&key_a, &key_b);
}

void
server_offers_send(struct vmb_bus_server *server)
{
	struct vmb_msg delivered = { .type = VMB_MSG_ALL_OFFERS_DELIVERED };
	struct server_channel *order[VMB_CHANNEL_ID_MAX];
	size_t count = 0;

	server->offers_sent = true;
	/* Only hidden channels: a new connection starts with no other kind, save revoked ones. */
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		if (server->channels[id] != NULL && server->channels[id]->state == SC_HIDDEN)
			order[count++] = server->channels[id];
	}
	qsort(order, count, sizeof(order[0]), channel_compare);
	for (size_t i = 0; i < count; i++)
		server_channel_event(server, order[i], SE_ANNOUNCE, NULL);
	server_post(server, &delivered);
}

void
server_offer_unblock(struct vmb_bus_server *server, const struct vmb_msg_offer *left)
{
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		struct server_channel *channel = server->channels[id];

		if (channel != NULL && offers_same_device(&channel->offer, left) &&
		    server_offer_is_due(server, channel))
			server_channel_event(server, channel, SE_ANNOUNCE, NULL);
	}
}

/* The id this device had, else one that nobody had, else any. 0: all are taken. */
static uint32_t
id_allocate(struct vmb_bus_server *server, const struct server_key *key)
{
	uint32_t unused = 0;
	uint32_t any = 0;
	uint32_t id;

	for (id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		if (server->channels[id] != NULL)
			continue;
		if (server->id_used[id] && server_key_compare(&server->id_keys[id], key) == 0)
			return id;
		if (unused == 0 && !server->id_used[id])
			unused = id;
		if (any == 0)
			any = id;
	}
	id = unused != 0 ? unused : any;
	if (id != 0) {
		server->id_used[id] = true;
		server->id_keys[id] = *key;
	}
	return id;
}

void
server_offer_number(struct vmb_msg_offer *offer, uint32_t channel_id)
{
	offer->channel_id = channel_id;
	offer->connection_id = CONNECTION_ID_OF(channel_id);
	offer->is_dedicated = true;
	offer->monitor_id = VMB_MONITOR_NONE;
	offer->monitor_allocated = false;
}

static bool
device_is_offered(const struct vmb_bus_server *server, const struct vmb_msg_offer *offer)
{
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		const struct server_channel *channel = server->channels[id];

		if (channel != NULL && !server_state_is_revoked(channel->state) &&
		    offers_same_device(&channel->offer, offer))
			return true;
	}
	return false;
}

enum vmb_status
vmb_bus_server_offer(struct vmb_bus_server *server, const struct vmb_msg_offer *offer, void *cookie,
                     uint32_t *channel_id)
{
	struct server_channel *channel;
	struct server_key key;
	uint32_t id;

	if (device_is_offered(server, offer))
		return VMB_E_EXISTS;
	channel = calloc(1, sizeof(*channel));
	if (channel == NULL)
		return VMB_E_NO_MEMORY;
	server_key_of(offer, &key);
	id = id_allocate(server, &key);
	if (id == 0) {
		free(channel);
		return VMB_E_LIMIT;
	}
	channel->state = SC_HIDDEN;
	channel->cookie = cookie;
	channel->offer = *offer;
	server_offer_number(&channel->offer, id);
	server->channels[id] = channel;
	*channel_id = id;
	if (server_offer_is_due(server, channel))
		server_channel_event(server, channel, SE_ANNOUNCE, NULL);
	return VMB_OK;
}

enum vmb_status
vmb_bus_server_next_channel(const struct vmb_bus_server *server, uint32_t after,
                            struct vmb_bus_channel *channel)
{
	for (uint32_t id = after + 1; id != 0 && id <= VMB_CHANNEL_ID_MAX; id++) {
		const struct server_channel *found = server->channels[id];

		if (found == NULL)
			continue;
		*channel = (struct vmb_bus_channel){
			.channel_id = id,
			.offer = &found->offer,
			.cookie = found->cookie,
			.is_revoked = server_state_is_revoked(found->state),
			.is_open = found->state == SC_OPEN,
		};
		if (channel->is_open)
			server_open_describe(server, found, &channel->open);
		return VMB_OK;
	}
	return VMB_EMPTY;
}

enum vmb_status
vmb_bus_server_set_cookie(struct vmb_bus_server *server, uint32_t channel_id, void *cookie)
{
	if (channel_id > VMB_CHANNEL_ID_MAX || server->channels[channel_id] == NULL)
		return VMB_E_NOT_FOUND;
	server->channels[channel_id]->cookie = cookie;
	return VMB_OK;
}
