/* SPDX-License-Identifier: MIT */
/*
 * The host's end of the control plane: what comes in, from the guest and from the owner. A message
 * is decoded once, then accepted only if server_rules allows its type in the present connection
 * state; everything else is dropped and reported.
 */
#include "bus/server.h"

#include <stdlib.h>

/* "Connection refused", the only answer that socket requests ever get here. */
#define STATUS_CONNECTION_REFUSED 0xC0000236u
#define STATE_OK 0u
#define STATE_FAILED 2u

#define IN_DISCONNECTED (1u << SERVER_DISCONNECTED)
#define IN_CONNECTED (1u << SERVER_CONNECTED)
#define IN_DISCONNECTING (1u << SERVER_DISCONNECTING)
#define IN_ANY (IN_DISCONNECTED | IN_CONNECTED | IN_DISCONNECTING)

void
server_misbehaved(struct vmb_bus_server *server, const char *what)
{
	server->ops.misbehaved(server->ctx, what);
}

/* ---- messages that name a channel ----------------------------------------------------------- */

static void
channel_message(struct vmb_bus_server *server, struct server_channel *channel,
                enum server_channel_event event, const struct vmb_msg *msg, const char *offence)
{
	struct server_input in = { .msg = msg };

	if (!server_channel_event(server, channel, event, &in))
		server_misbehaved(server, offence);
}

static void
handle_open(struct vmb_bus_server *server, const struct vmb_msg *msg)
{
	struct server_channel *channel = server_channel_visible(server, msg->open.channel_id);
	enum server_channel_event event = SE_OPEN;

	if (channel == NULL) {
		server_misbehaved(server, "open of a channel that is not offered");
		return;
	}
	/* While the device is still closing, the check waits for the moment it is done. */
	if (channel->state == SC_CLOSED) {
		const char *why = server_open_check(server, channel, &msg->open);

		if (why != NULL) {
			server_misbehaved(server, why);
			event = SE_OPEN_BAD;
		}
	}
	channel_message(server, channel, event, msg, "open of a channel that is open or opening");
}

static void
handle_close(struct vmb_bus_server *server, const struct vmb_msg *msg)
{
	struct server_channel *channel = server_channel_visible(server, msg->channel.channel_id);

	if (channel == NULL)
		server_misbehaved(server, "close of a channel that is not offered");
	else
		channel_message(server, channel, SE_CLOSE, msg,
		                "close of a channel that is not open");
}

static void
handle_release(struct vmb_bus_server *server, const struct vmb_msg *msg)
{
	struct server_channel *channel = server_channel_visible(server, msg->channel.channel_id);
	struct vmb_msg_offer left;

	if (channel == NULL) {
		server_misbehaved(server, "release of a channel id that the guest does not hold");
		return;
	}
	left = channel->offer;
	channel_message(server, channel, SE_RELEASE, msg,
	                "release of a channel id while its channel opens or closes");
	server_offer_unblock(server, &left);
}

static void
handle_modify_channel(struct vmb_bus_server *server, const struct vmb_msg *msg)
{
	struct server_channel *channel =
	    server_channel_visible(server, msg->modify_channel.channel_id);
	struct vmb_msg failed = {
		.type = VMB_MSG_MODIFY_CHANNEL_RESPONSE,
		.modify_channel = { .channel_id = msg->modify_channel.channel_id,
		                    .status = VMB_BUS_STATUS_UNSUCCESSFUL },
	};

	if (channel != NULL) {
		channel_message(server, channel, SE_MODIFY, msg, "modify of a channel");
		return;
	}
	server_misbehaved(server, "modify of a channel that is not offered");
	server_post(server, &failed);
}

static void
handle_open_reserved(struct vmb_bus_server *server, const struct vmb_msg *msg)
{
	struct server_channel *channel = server_channel_visible(server, msg->reserved.channel_id);

	if (channel == NULL)
		server_misbehaved(server, "reserved open of a channel that is not offered");
	else
		channel_message(server, channel, SE_OPEN_RESERVED, msg,
		                "reserved open of a channel that is not closed");
}

/*
 * No reserved channel is ever open here, so the answer is true for every id, also between
 * connections: a crash kernel asks before its contact and waits.
 */
static void
handle_close_reserved(struct vmb_bus_server *server, const struct vmb_msg *msg)
{
	struct server_channel *channel = server_channel_visible(server, msg->reserved.channel_id);
	struct vmb_msg response = {
		.type = VMB_MSG_CLOSE_RESERVED_RESPONSE,
		.channel = { .channel_id = msg->reserved.channel_id },
	};

	if (channel != NULL) {
		channel_message(server, channel, SE_CLOSE_RESERVED, msg,
		                "reserved close of a channel that is open");
		return;
	}
	if (server->link == SERVER_DISCONNECTED)
		server_post_at(server, &response, VMB_VERSION_WIN10, 0);
	else
		server_post(server, &response);
}

/* ---- messages about the connection ---------------------------------------------------------- */

static void
handle_request_offers(struct vmb_bus_server *server, const struct vmb_msg *msg)
{
	(void)msg;
	if (server->offers_sent)
		server_misbehaved(server, "second request for offers");
	else
		server_offers_send(server);
}

static void
handle_unload(struct vmb_bus_server *server, const struct vmb_msg *msg)
{
	(void)msg;
	server_disconnect(server, SERVER_NEXT_UNLOADED);
}

static void
handle_tl_connect(struct vmb_bus_server *server, const struct vmb_msg *msg)
{
	struct vmb_msg result = {
		.type = VMB_MSG_TL_CONNECT_RESULT,
		.tl_connect = { .endpoint = msg->tl_connect.endpoint,
		                .service = msg->tl_connect.service,
		                .status = STATUS_CONNECTION_REFUSED },
	};

	server_post(server, &result);
}

/*
 * Monitor pages are accepted; looking at them is the owner's, who asked for offers with monitors. One without the other is
 * wrong.
 */
static void
handle_modify_connection(struct vmb_bus_server *server, const struct vmb_msg *msg)
{
	const struct vmb_msg_modify_connection *modify = &msg->modify_connection;
	bool good = (modify->monitor_page_to_child == 0) == (modify->monitor_page_to_parent == 0);
	struct vmb_msg response = {
		.type = VMB_MSG_MODIFY_CONNECTION_RESPONSE,
		.modify_connection = { .connection_state = good ? STATE_OK : STATE_FAILED },
	};

	if (good) {
		server->contact.monitor_page_to_child = modify->monitor_page_to_child;
		server->contact.monitor_page_to_parent = modify->monitor_page_to_parent;
	} else {
		server_misbehaved(server, "connection modified to one monitor page of two");
	}
	server_post(server, &response);
}

static void
handle_pause(struct vmb_bus_server *server, const struct vmb_msg *msg)
{
	const struct vmb_msg response = { .type = VMB_MSG_PAUSE_RESPONSE };

	(void)msg;
	server_post(server, &response);
	server->paused = true;
}

static void
handle_resume(struct vmb_bus_server *server, const struct vmb_msg *msg)
{
	(void)msg;
	if (!server->paused) {
		server_misbehaved(server, "resume of a connection that is not paused");
		return;
	}
	server->paused = false;
	server_flush_held(server);
}

struct server_rule {
	unsigned links; /* IN_* */
	bool while_paused;
	void (*handle)(struct vmb_bus_server *server, const struct vmb_msg *msg);
};

/* InitiateContact is here for its states only: it needs to know what it was posted on. */
static const struct server_rule server_rules[VMB_MSG_TYPE_END] = {
	[VMB_MSG_REQUEST_OFFERS] = { IN_CONNECTED, false, handle_request_offers },
	[VMB_MSG_OPEN_CHANNEL] = { IN_CONNECTED, false, handle_open },
	[VMB_MSG_CLOSE_CHANNEL] = { IN_CONNECTED, false, handle_close },
	[VMB_MSG_GPADL_HEADER] = { IN_CONNECTED, false, server_gpadl_header },
	[VMB_MSG_GPADL_BODY] = { IN_CONNECTED, false, server_gpadl_body },
	[VMB_MSG_GPADL_TEARDOWN] = { IN_CONNECTED, false, server_gpadl_teardown },
	[VMB_MSG_REL_ID_RELEASED] = { IN_CONNECTED, false, handle_release },
	[VMB_MSG_INITIATE_CONTACT] = { IN_ANY, true, NULL },
	[VMB_MSG_UNLOAD] = { IN_CONNECTED | IN_DISCONNECTING, true, handle_unload },
	[VMB_MSG_OPEN_RESERVED] = { IN_CONNECTED, false, handle_open_reserved },
	[VMB_MSG_CLOSE_RESERVED] = { IN_ANY, false, handle_close_reserved },
	[VMB_MSG_TL_CONNECT] = { IN_CONNECTED, false, handle_tl_connect },
	[VMB_MSG_MODIFY_CHANNEL] = { IN_CONNECTED, false, handle_modify_channel },
	[VMB_MSG_MODIFY_CONNECTION] = { IN_CONNECTED, false, handle_modify_connection },
	[VMB_MSG_PAUSE] = { IN_CONNECTED, false, handle_pause },
	[VMB_MSG_RESUME] = { IN_CONNECTED, true, handle_resume },
};

/*
 * Linux unloads first and releases then what it was offered. Unloading has released it already. The message is of the oldest
 * version: by then none is agreed.
 */
static bool
is_release_after_unload(const struct vmb_bus_server *server, const void *message, size_t bytes)
{
	struct vmb_msg msg;
	const char *why;

	return server->link == SERVER_DISCONNECTED &&
	       vmb_msg_decode(message, bytes, VMB_FROM_GUEST, VMB_VERSION_V1, 0, &msg, &why) ==
	           VMB_OK &&
	       msg.type == VMB_MSG_REL_ID_RELEASED;
}

void
vmb_bus_server_message(struct vmb_bus_server *server, uint32_t connection_id, const void *message,
                       size_t bytes)
{
	const struct server_rule *rule;
	const char *why = "message that breaks a rule";
	struct vmb_msg msg;

	if (is_release_after_unload(server, message, bytes))
		return;
	if (vmb_msg_decode(message, bytes, VMB_FROM_GUEST, server->version, server->features, &msg,
	                   &why) != VMB_OK) {
		server_misbehaved(server, why);
		return;
	}
	rule = &server_rules[msg.type];
	if ((rule->links & (1u << server->link)) == 0) {
		server_misbehaved(server, "message that the state of the connection forbids");
		return;
	}
	if (server->paused && !rule->while_paused) {
		server_misbehaved(server, "message on a paused connection");
		return;
	}
	if (msg.type == VMB_MSG_INITIATE_CONTACT)
		server_initiate_contact(server, &msg, connection_id);
	else
		rule->handle(server, &msg);
	server_progress(server);
}

void
vmb_bus_server_lost(struct vmb_bus_server *server)
{
	if (server->link == SERVER_DISCONNECTED)
		return;
	server_disconnect(server, SERVER_NEXT_NOTHING);
	server_progress(server);
}

/* ---- requests of the owner ------------------------------------------------------------------ */

static enum vmb_status
owner_event(struct vmb_bus_server *server, uint32_t channel_id, enum server_channel_event event,
            uint32_t status)
{
	struct server_input in = { .status = status };
	struct server_channel *channel;

	if (channel_id == 0 || channel_id > VMB_CHANNEL_ID_MAX ||
	    server->channels[channel_id] == NULL)
		return VMB_E_NOT_FOUND;
	channel = server->channels[channel_id];
	if (!server_channel_event(server, channel, event, &in))
		return VMB_E_STATE;
	server_progress(server);
	return VMB_OK;
}

enum vmb_status
vmb_bus_server_revoke(struct vmb_bus_server *server, uint32_t channel_id)
{
	return owner_event(server, channel_id, SE_REVOKE, 0);
}

enum vmb_status
vmb_bus_server_open_done(struct vmb_bus_server *server, uint32_t channel_id, uint32_t status)
{
	return owner_event(server, channel_id, status == 0 ? SE_OPENED : SE_OPEN_FAILED, status);
}

enum vmb_status
vmb_bus_server_close_done(struct vmb_bus_server *server, uint32_t channel_id)
{
	return owner_event(server, channel_id, SE_CLOSE_DONE, 0);
}

uint32_t
vmb_bus_server_version(const struct vmb_bus_server *server)
{
	return server->link == SERVER_CONNECTED ? server->version : 0;
}

uint32_t
vmb_bus_server_message_vp(const struct vmb_bus_server *server)
{
	return server->message_vp;
}

const struct vmb_msg_initiate_contact *
vmb_bus_server_contact(const struct vmb_bus_server *server)
{
	return server->link == SERVER_CONNECTED ? &server->contact : NULL;
}

/* ---- life ----------------------------------------------------------------------------------- */

static bool
ops_are_complete(const struct vmb_bus_server_ops *ops)
{
	return ops->post != NULL && ops->connected != NULL && ops->disconnected != NULL &&
	       ops->pages_exist != NULL && ops->open != NULL && ops->close != NULL &&
	       ops->released != NULL && ops->misbehaved != NULL;
}

enum vmb_status
vmb_bus_server_create(const struct vmb_bus_server_config *config,
                      const struct vmb_bus_server_ops *ops, void *ctx,
                      struct vmb_bus_server **server)
{
	struct vmb_gpadl_limits limits = {
		.gpadls = config->max_gpadls,
		.in_progress = config->max_gpadls_in_progress,
		.pages = config->max_gpadl_pages,
	};
	struct vmb_bus_server *s;
	enum vmb_status st;

	if (!ops_are_complete(ops) ||
	    (config->newest_version != 0 && !vmb_version_is_known(config->newest_version)))
		return VMB_E_INVALID;
	if ((config->features & ~VMB_BUS_SERVER_FEATURES) != 0)
		return VMB_E_UNSUPPORTED;
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return VMB_E_NO_MEMORY;
	st = vmb_gpadl_table_create(&limits, &s->gpadls);
	if (st != VMB_OK) {
		free(s);
		return st;
	}
	s->ops = *ops;
	s->ctx = ctx;
	s->newest_version = config->newest_version != 0 ? config->newest_version
	                                                : vmb_versions[VMB_VERSION_COUNT - 1];
	s->supported_features = config->features;
	s->monitors = config->monitors;
	s->link = SERVER_DISCONNECTED;
	s->held_end = &s->held;
	*server = s;
	return VMB_OK;
}

void
vmb_bus_server_destroy(struct vmb_bus_server *server)
{
	if (server == NULL)
		return;
	server_drop_held(server);
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++)
		free(server->channels[id]);
	vmb_gpadl_table_destroy(server->gpadls);
	free(server);
}
