/* SPDX-License-Identifier: MIT */
/*
 * Offers as a guest sees them: announced, opened, closed, withdrawn. A channel changes its state in
 * one function that consults client_edges.
 */
#include "bus/client.h"

#include <stdlib.h>
#include <string.h>

const struct client_edge client_edges[CC_STATES][CE_EVENTS] = {
	[CC_OFFERED] = {
		[CE_OPEN] = { true, CC_OPENING },
		[CE_RESCIND] = { true, CC_RESCINDED },
	},
	[CC_OPENING] = {
		[CE_OPENED] = { true, CC_OPEN },
		[CE_REFUSED] = { true, CC_OFFERED },
		[CE_RESCIND] = { true, CC_RESCINDED },
	},
	[CC_OPEN] = {
		[CE_CLOSE] = { true, CC_OFFERED },
		[CE_RESCIND] = { true, CC_RESCINDED },
	},
	[CC_RESCINDED] = {
		[CE_RELEASE] = { true, CC_GONE },
	},
};

static const char *const state_names[CC_STATES] = {
	[CC_OFFERED] = "offered", [CC_OPENING] = "opening", [CC_OPEN] = "open",
	[CC_RESCINDED] = "rescinded", [CC_GONE] = "gone",
};

const char *
client_state_name(enum client_channel_state state)
{
	return state_names[state];
}

static bool
channel_event(struct client_channel *channel, enum client_channel_event event)
{
	const struct client_edge *edge = &client_edges[channel->state][event];

	if (edge->allowed)
		channel->state = edge->next;
	return edge->allowed;
}

struct client_channel *
client_channel_find(const struct vmb_bus_client *client, uint32_t channel_id)
{
	if (channel_id == 0 || channel_id > VMB_CHANNEL_ID_MAX)
		return NULL;
	return client->channels[channel_id];
}

/* Why a request of the owner about this channel cannot be served; VMB_OK fills *channel. */
static enum vmb_status
channel_for_owner(const struct vmb_bus_client *client, uint32_t channel_id,
                  struct client_channel **channel)
{
	*channel = client_channel_find(client, channel_id);
	if (*channel == NULL)
		return VMB_E_NOT_FOUND;
	return (*channel)->state == CC_RESCINDED ? VMB_E_CLOSED : VMB_OK;
}

static void
post_channel(struct vmb_bus_client *client, enum vmb_msg_type type, uint32_t channel_id)
{
	struct vmb_msg msg = { .type = type, .channel = { .channel_id = channel_id } };

	/* While unloading and after it the host has forgotten every channel: nothing to tell. */
	if (client->link == CLIENT_CONNECTED)
		client_post(client, &msg);
}

/* ---- from the host -------------------------------------------------------------------------- */

void
client_offer(struct vmb_bus_client *client, const struct vmb_msg *msg)
{
	uint32_t id = msg->offer.channel_id;
	struct client_channel *channel;

	if (!client->offers_requested) {
		client_misbehaved(client, "offer before offers were requested");
		return;
	}
	if (id == 0 || id > VMB_CHANNEL_ID_MAX || client->channels[id] != NULL) {
		client_misbehaved(client, "offer with a channel id that is out of range or in use");
		return;
	}
	channel = calloc(1, sizeof(*channel));
	if (channel == NULL) {
		client->missed[id] = true;
		return;
	}
	client->missed[id] = false;
	channel->state = CC_OFFERED;
	channel->offer = msg->offer;
	client->channels[id] = channel;
	client->ops.offered(client->ctx, &channel->offer);
}

static void
end_channel(struct vmb_bus_client *client, struct client_channel *channel)
{
	uint32_t id = channel->offer.channel_id;
	bool was_opening = channel->state == CC_OPENING;

	if (!channel_event(channel, CE_RESCIND))
		return;
	if (was_opening) {
		channel->open_answer_owed = true;
		client->ops.open_result(client->ctx, id, VMB_BUS_STATUS_RESCINDED);
	}
	client_gpadl_end_waiters(client, channel);
	client->ops.rescinded(client->ctx, id);
}

void
client_rescind(struct vmb_bus_client *client, const struct vmb_msg *msg)
{
	uint32_t id = msg->channel.channel_id;
	struct client_channel *channel = client_channel_find(client, id);

	/* Nobody uses a missed one, and its id is wanted back. */
	if (id <= VMB_CHANNEL_ID_MAX && client->missed[id]) {
		client->missed[id] = false;
		post_channel(client, VMB_MSG_REL_ID_RELEASED, id);
		return;
	}
	if (channel == NULL)
		client_misbehaved(client, "rescind of a channel that was never offered");
	else if (channel->state == CC_RESCINDED)
		client_misbehaved(client, "second rescind of a channel");
	else
		end_channel(client, channel);
}

void
client_end_channels(struct vmb_bus_client *client)
{
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		client->missed[id] = false;
		if (client->channels[id] != NULL)
			end_channel(client, client->channels[id]);
	}
}

void
client_all_offers(struct vmb_bus_client *client, const struct vmb_msg *msg)
{
	(void)msg;
	if (!client->offers_requested || client->offers_delivered) {
		client_misbehaved(client, "end of offers that were not requested");
		return;
	}
	client->offers_delivered = true;
	client->ops.all_offers_delivered(client->ctx);
}

void
client_open_result(struct vmb_bus_client *client, const struct vmb_msg *msg)
{
	const struct vmb_msg_open_result *result = &msg->open_result;
	struct client_channel *channel = client_channel_find(client, result->channel_id);

	if (channel != NULL && channel->open_id == result->open_id) {
		if (channel->state == CC_RESCINDED && channel->open_answer_owed) {
			channel->open_answer_owed = false;
			return;
		}
		if (channel_event(channel, result->status == 0 ? CE_OPENED : CE_REFUSED)) {
			client->ops.open_result(client->ctx, result->channel_id, result->status);
			return;
		}
	}
	client_misbehaved(client, "result of an open that nobody waits for");
}

/* ---- from the owner ------------------------------------------------------------------------- */

enum vmb_status
vmb_bus_client_request_offers(struct vmb_bus_client *client)
{
	const struct vmb_msg msg = { .type = VMB_MSG_REQUEST_OFFERS };

	if (client->link != CLIENT_CONNECTED || client->offers_requested)
		return VMB_E_STATE;
	client->offers_requested = true;
	client_post(client, &msg);
	return VMB_OK;
}

const struct vmb_msg_offer *
vmb_bus_client_find(const struct vmb_bus_client *client, uint32_t channel_id)
{
	const struct client_channel *channel = client_channel_find(client, channel_id);

	return channel != NULL && channel->state != CC_RESCINDED ? &channel->offer : NULL;
}

enum vmb_status
vmb_bus_client_open(struct vmb_bus_client *client, const struct vmb_bus_client_open *open)
{
	struct vmb_msg msg = {
		.type = VMB_MSG_OPEN_CHANNEL,
		.open = { .channel_id = open->channel_id,
		          .ring_gpadl = open->ring_gpadl,
		          .target_vp = open->target_vp,
		          .downstream_page_offset = open->downstream_page_offset,
		          .event_flag = (uint16_t)open->channel_id },
	};
	struct client_channel *channel;
	enum vmb_status st = channel_for_owner(client, open->channel_id, &channel);

	if (st != VMB_OK)
		return st;
	if (client->link != CLIENT_CONNECTED)
		return VMB_E_STATE;
	if (!open->rings_elsewhere &&
	    !client_gpadl_is_created(client, open->channel_id, open->ring_gpadl))
		return VMB_E_INVALID;
	if (!channel_event(channel, CE_OPEN))
		return VMB_E_STATE;
	/*
	 * A fresh id for each open: an answer to an earlier one can never be taken for this one's.
	 */
	channel->open_id = client->next_open_id++;
	msg.open.open_id = channel->open_id;
	msg.open.connection_id = channel->offer.connection_id;
	if (open->user_data != NULL)
		memcpy(msg.open.user_data, open->user_data, sizeof(msg.open.user_data));
	client_post(client, &msg);
	return VMB_OK;
}

enum vmb_status
vmb_bus_client_close(struct vmb_bus_client *client, uint32_t channel_id)
{
	struct client_channel *channel;
	enum vmb_status st = channel_for_owner(client, channel_id, &channel);

	if (st != VMB_OK)
		return st;
	if (!channel_event(channel, CE_CLOSE))
		return VMB_E_STATE;
	post_channel(client, VMB_MSG_CLOSE_CHANNEL, channel_id);
	return VMB_OK;
}

enum vmb_status
vmb_bus_client_release(struct vmb_bus_client *client, uint32_t channel_id)
{
	struct client_channel *channel = client_channel_find(client, channel_id);

	if (channel == NULL)
		return VMB_E_NOT_FOUND;
	if (!channel_event(channel, CE_RELEASE))
		return VMB_E_STATE;
	client_gpadl_forget(client, channel);
	client->channels[channel_id] = NULL;
	free(channel);
	post_channel(client, VMB_MSG_REL_ID_RELEASED, channel_id);
	return VMB_OK;
}
