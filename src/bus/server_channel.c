/* SPDX-License-Identifier: MIT */
/*
 * The one place where a channel of the host changes its state: look the event up in server_edges,
 * change, then act. Actions run after the change, so whatever the owner sees from an event is
 * already true.
 */
#include "bus/server.h"

#include <stdlib.h>

/* "Unsuccessful" as guests know it: they only look for non-zero. */
#define STATUS_REFUSED VMB_BUS_STATUS_UNSUCCESSFUL

static void
post_channel(struct vmb_bus_server *server, enum vmb_msg_type type, uint32_t channel_id)
{
	struct vmb_msg msg = { .type = type, .channel = { .channel_id = channel_id } };

	server_post(server, &msg);
}

static void
post_modify_response(struct vmb_bus_server *server, uint32_t channel_id, uint32_t status)
{
	struct vmb_msg msg = {
		.type = VMB_MSG_MODIFY_CHANNEL_RESPONSE,
		.modify_channel = { .channel_id = channel_id, .status = status },
	};

	server_post(server, &msg);
}

/* An open channel that interrupts a VP may be moved to another one, never to none. */
static void
act_modify(struct vmb_bus_server *server, struct server_channel *channel, uint32_t target_vp)
{
	bool moved = target_vp != VMB_VP_NONE && channel->open.target_vp != VMB_VP_NONE &&
	             server->ops.retarget != NULL &&
	             server->ops.retarget(server->ctx, channel->cookie, target_vp);

	if (moved)
		channel->open.target_vp = target_vp;
	post_modify_response(server, channel->offer.channel_id, moved ? 0 : STATUS_REFUSED);
}

static void
act_redo_open(struct vmb_bus_server *server, struct server_channel *channel)
{
	struct vmb_msg msg = { .type = VMB_MSG_OPEN_CHANNEL, .open = channel->reopen };
	struct server_input in = { .msg = &msg };
	const char *why = server_open_check(server, channel, &msg.open);

	if (why != NULL)
		server_misbehaved(server, why);
	server_channel_event(server, channel, why == NULL ? SE_OPEN : SE_OPEN_BAD, &in);
}

static void
act(struct vmb_bus_server *server, struct server_channel *channel, enum server_action action,
    const struct server_input *in)
{
	uint32_t id = channel->offer.channel_id;

	switch (action) {
	case SA_NONE:
	case SA_ACTIONS:
		break;
	case SA_SEND_OFFER:
		server_offer_announce(server, channel);
		break;
	case SA_SEND_RESCIND:
		post_channel(server, VMB_MSG_RESCIND_OFFER, id);
		break;
	case SA_RAISE_OPEN:
		channel->open = in->msg->open;
		server_open_raise(server, channel);
		break;
	case SA_RAISE_CLOSE:
		server->ops.close(server->ctx, channel->cookie);
		break;
	case SA_UNMAP_RING:
		server_open_unmap(server, channel);
		break;
	case SA_RESULT_OPEN:
		server_open_result(server, id, channel->open.open_id, 0);
		break;
	case SA_RESULT_FAILED:
		server_open_result(server, id, channel->open.open_id, in->status);
		break;
	case SA_RESULT_REFUSED:
		server_open_result(server, id, in->msg->open.open_id, STATUS_REFUSED);
		break;
	case SA_RESULT_REVOKED:
		server_open_result(server, id, channel->open.open_id, STATUS_REFUSED);
		break;
	case SA_RESULT_REOPEN_REVOKED:
		server_open_result(server, id, channel->reopen.open_id, STATUS_REFUSED);
		break;
	case SA_RESULT_RESERVED:
		server_open_result(server, id, 0, STATUS_REFUSED);
		break;
	case SA_RESERVED_RESPONSE:
		post_channel(server, VMB_MSG_CLOSE_RESERVED_RESPONSE, id);
		break;
	case SA_STORE_REOPEN:
		channel->reopen = in->msg->open;
		break;
	case SA_REDO_OPEN:
		act_redo_open(server, channel);
		break;
	case SA_MODIFY:
		act_modify(server, channel, in->msg->modify_channel.target_vp);
		break;
	case SA_MODIFY_REFUSED:
		post_modify_response(server, id, STATUS_REFUSED);
		break;
	case SA_MARK_RELEASED:
		channel->released_by_guest = true;
		break;
	case SA_FAIL_INCOMPLETE:
		server_gpadl_fail_incomplete(server, id);
		break;
	case SA_ASK_UNMAP:
		server_gpadl_ask_unmap(server, channel);
		break;
	case SA_DROP_GPADLS:
		server_gpadl_drop(server, channel);
		break;
	}
}

bool
server_channel_event(struct vmb_bus_server *server, struct server_channel *channel,
                     enum server_channel_event event, const struct server_input *in)
{
	const struct server_edge *edge = &server_edges[channel->state][event];

	if (edge->kind == SERVER_REFUSE)
		return false;
	channel->state = edge->next;
	for (uint32_t i = 0; i < SERVER_EDGE_ACTIONS; i++)
		act(server, channel, edge->actions[i], in);
	server_channel_settle(server, channel);
	return true;
}

void
server_channel_settle(struct vmb_bus_server *server, struct server_channel *channel)
{
	uint32_t id = channel->offer.channel_id;
	void *cookie = channel->cookie;

	if (channel->state == SC_REVOKED_MAPPED && !server_gpadl_device_holds_any(server, id)) {
		server_channel_event(server, channel, SE_UNMAPPED, NULL);
		return;
	}
	if (channel->state != SC_GONE || vmb_gpadl_channel_has_any(server->gpadls, id))
		return;
	server->channels[id] = NULL;
	free(channel);
	server->ops.released(server->ctx, cookie);
}

struct server_channel *
server_channel_visible(struct vmb_bus_server *server, uint32_t channel_id)
{
	struct server_channel *channel;

	if (channel_id == 0 || channel_id > VMB_CHANNEL_ID_MAX)
		return NULL;
	channel = server->channels[channel_id];
	return channel != NULL && server_state_is_visible(channel->state) ? channel : NULL;
}
