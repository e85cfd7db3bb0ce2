/* SPDX-License-Identifier: MIT */
/*
 * The honest part of a hostile server: the library's own machine for hosts. It opens what the client
 * asks it to open, and the rings can be used then.
 */
#include "peer.h"

#include <stdlib.h>
#include <string.h>

/* ---- events of the machine -------------------------------------------------------------------- */

static void
server_post(void *ctx, const void *message, uint32_t bytes)
{
	peer_say(ctx, message, bytes);
}

static void
server_connected(void *ctx, uint32_t version, uint32_t features)
{
	struct vmb_hostile *peer = ctx;

	peer->version = version;
	peer->features = features;
}

static void
server_disconnected(void *ctx)
{
	(void)ctx;
}

static bool
server_pages_exist(void *ctx, const struct vmb_gpa_range *range)
{
	const struct vmb_hostile *peer = ctx;

	return peer->space != NULL &&
	       vmb_mem_has_pages(peer->space, range->pfns, range->page_count, true);
}

static void
server_open(void *ctx, void *cookie, const struct vmb_bus_open *open)
{
	struct peer_channel *channel = cookie;

	(void)ctx;
	channel->area_pages = open->ring_pages;
	channel->split = open->downstream_page_offset;
	channel->ring_pfns = malloc(8 * (size_t)open->ring_pages);
	if (channel->ring_pfns != NULL)
		memcpy(channel->ring_pfns, open->ring_pfns, 8 * (size_t)open->ring_pages);
	channel->open_asked = true;
}

static void
server_close(void *ctx, void *cookie)
{
	struct peer_channel *channel = cookie;

	(void)ctx;
	channel->close_asked = true;
}

static void
server_released(void *ctx, void *cookie)
{
	struct peer_channel *channel = cookie;

	(void)ctx;
	channel->withdrawn = true;
}

static void
server_misbehaved(void *ctx, const char *what)
{
	(void)ctx, (void)what;
}

static const struct vmb_bus_server_ops server_ops = {
	.post = server_post,
	.connected = server_connected,
	.disconnected = server_disconnected,
	.pages_exist = server_pages_exist,
	.open = server_open,
	.close = server_close,
	.released = server_released,
	.misbehaved = server_misbehaved,
};

enum vmb_status
peer_server_create(struct vmb_hostile *peer)
{
	const struct vmb_bus_server_config config = {
		.newest_version = peer->options.newest_version,
		.features = VMB_BUS_SERVER_FEATURES,
	};

	return vmb_bus_server_create(&config, &server_ops, peer, &peer->server);
}

/* ---- what they ask for ------------------------------------------------------------------------ */

void
peer_server_arrived(struct vmb_hostile *peer, const void *message, uint32_t bytes)
{
	const uint8_t *at = message;
	struct peer_channel *channel;
	uint32_t type, id;

	if (bytes < 12)
		return;
	memcpy(&type, at, sizeof(type));
	memcpy(&id, at + 8, sizeof(id));
	if (type == VMB_MSG_INITIATE_CONTACT && peer->arrived_count == 1) {
		VMB_IGNORE(peer_memory_take(peer, peer->arrived[0]));
		peer->arrived[0] = -1;
	} else if (type == VMB_MSG_OPEN_CHANNEL && peer->arrived_count == 2) {
		channel = peer_channel(peer, id);
		if (channel == NULL)
			return;
		peer_rings_drop(channel);
		channel->own_fd = peer->arrived[0];
		channel->ring_fd = peer->arrived[1];
		peer->arrived[0] = peer->arrived[1] = -1;
	}
}

static bool
map_rings(struct vmb_hostile *peer, struct peer_channel *channel)
{
	struct vmb_gpa_range range = {
		.byte_count = channel->area_pages * PEER_PAGE,
		.page_count = channel->area_pages,
		.pfns = channel->ring_pfns,
	};
	uint8_t *area;

	if (channel->ring_pfns == NULL || peer->space == NULL ||
	    vmb_mem_map(peer->space, &range, true, &channel->view) != VMB_OK)
		return false;
	area = channel->view.host;
	/* The guest's ring towards the host comes first. */
	peer_rings_at(channel, area + (size_t)channel->split * PEER_PAGE,
	              channel->area_pages - channel->split, area, channel->split);
	return peer_rings_attach(channel) == VMB_OK;
}

void
peer_server_settle(struct vmb_hostile *peer)
{
	for (struct peer_channel *c = peer->channels; c != NULL; c = c->next) {
		if (c->open_asked) {
			bool good = map_rings(peer, c);

			c->open_asked = false;
			VMB_IGNORE(vmb_bus_server_open_done(
			    peer->server, c->id, good ? 0 : VMB_BUS_STATUS_UNSUCCESSFUL));
		}
		if (c->close_asked) {
			c->close_asked = false;
			peer_rings_drop(c);
			VMB_IGNORE(vmb_bus_server_close_done(peer->server, c->id));
		}
	}
}

/* ---- steps ------------------------------------------------------------------------------------ */

enum vmb_status
vmb_hostile_offer(struct vmb_hostile *peer, const struct vmb_guid *type,
                  const struct vmb_guid *instance, uint32_t *channel_id)
{
	const struct vmb_msg_offer offer = { .interface_type = *type,
		                             .interface_instance = *instance };
	struct peer_channel *channel;
	enum vmb_status status;

	if (!peer->is_server)
		return VMB_E_STATE;
	/* The id is known only afterwards; the machine raises nothing for the cookie before. */
	status = vmb_bus_server_offer(peer->server, &offer, NULL, channel_id);
	if (status != VMB_OK)
		return status;
	channel = peer_channel_add(peer, *channel_id, instance);
	if (channel == NULL)
		return VMB_E_NO_MEMORY;
	return vmb_bus_server_set_cookie(peer->server, *channel_id, channel);
}

enum vmb_status
vmb_hostile_rescind(struct vmb_hostile *peer, uint32_t channel_id)
{
	enum vmb_status status;

	if (!peer->is_server)
		return VMB_E_STATE;
	status = vmb_bus_server_revoke(peer->server, channel_id);
	peer_server_settle(peer);
	return status;
}

static bool
client_has_come(const void *ctx)
{
	const struct vmb_hostile *peer = ctx;

	return peer->socket >= 0;
}

enum vmb_status
vmb_hostile_await_client(struct vmb_hostile *peer)
{
	return peer->is_server ? peer_await(peer, client_has_come, peer) : VMB_E_STATE;
}

static bool
is_open(const void *ctx)
{
	const struct peer_channel *channel = ctx;

	return channel->open;
}

enum vmb_status
vmb_hostile_await_open(struct vmb_hostile *peer, uint32_t channel_id)
{
	const struct peer_channel *channel = peer_channel(peer, channel_id);

	if (channel == NULL || !peer->is_server)
		return VMB_E_STATE;
	return peer_await(peer, is_open, channel);
}
