/* SPDX-License-Identifier: MIT */
/*
 * The guest's end of the control plane: what comes in from the host. A message is decoded once,
 * then accepted only if client_rules allows its type in the present connection state; everything
 * else is dropped and reported.
 */
#include "bus/client.h"

#include <stdlib.h>

#define CLIENT_FEATURES 0xFFu           /* every flag that is defined */
/*
 * Where guests start to count: far from small numbers that a host could mistake for something else.
 */
#define FIRST_GPADL_ID 0xE1E10u

#define IN_CONTACTING (1u << CLIENT_CONTACTING)
#define IN_CONNECTED (1u << CLIENT_CONNECTED)
#define IN_UNLOADING (1u << CLIENT_UNLOADING)

void
client_misbehaved(struct vmb_bus_client *client, const char *what)
{
	client->ops.misbehaved(client->ctx, what);
}

void
client_post(struct vmb_bus_client *client, const struct vmb_msg *msg)
{
	uint8_t message[VMB_MSG_MAX_BYTES];
	uint32_t bytes =
		(uint32_t)vmb_msg_encode(msg, client->version, client->features, message);

	if (bytes != 0)
		client->ops.post(client->ctx, client->connection_id, message, bytes);
}

struct client_rule {
	unsigned links;                 /* IN_*; 0 = an answer to something that is never asked */
	void (*handle)(struct vmb_bus_client *client, const struct vmb_msg *msg);
};

static const struct client_rule client_rules[VMB_MSG_TYPE_END] = {
	[VMB_MSG_OFFER_CHANNEL] = { IN_CONNECTED, client_offer },
	[VMB_MSG_RESCIND_OFFER] = { IN_CONNECTED, client_rescind },
	[VMB_MSG_ALL_OFFERS_DELIVERED] = { IN_CONNECTED, client_all_offers },
	[VMB_MSG_OPEN_RESULT] = { IN_CONNECTED, client_open_result },
	[VMB_MSG_GPADL_CREATED] = { IN_CONNECTED, client_gpadl_created },
	[VMB_MSG_GPADL_TORNDOWN] = { IN_CONNECTED, client_gpadl_torndown },
	[VMB_MSG_VERSION_RESPONSE] = { IN_CONTACTING, client_version_response },
	[VMB_MSG_UNLOAD_COMPLETE] = { IN_UNLOADING, client_unload_complete },
};

/*
 * Sent before the host read our Unload; or to an earlier connection that our contact ends, ours or
 * that of the system that ran here before us.
 */
static bool
message_is_stale(const struct vmb_bus_client *client, const struct client_rule *rule)
{
	return (client->link == CLIENT_UNLOADING || client->link == CLIENT_CONTACTING) &&
	       (rule->links & IN_CONNECTED) != 0;
}

void
vmb_bus_client_message(struct vmb_bus_client *client, const void *message, size_t bytes)
{
	const struct client_rule *rule;
	const char *why = "message that breaks a rule";
	struct vmb_msg msg;

	if (client->link == CLIENT_LOST ||
	    (client->link == CLIENT_DISCONNECTED && client->unload_unanswered))
		return;
	if (vmb_msg_decode(message, bytes, VMB_FROM_HOST, client->version, client->features, &msg,
	                   &why) != VMB_OK) {
		client_misbehaved(client, why);
		return;
	}
	rule = &client_rules[msg.type];
	if ((rule->links & (1u << client->link)) != 0)
		rule->handle(client, &msg);
	else if (!message_is_stale(client, rule))
		client_misbehaved(client, "message that the state of the connection forbids");
}

uint32_t
vmb_bus_client_version(const struct vmb_bus_client *client)
{
	return client->link == CLIENT_CONNECTED ? client->version : 0;
}

static bool
ops_are_complete(const struct vmb_bus_client_ops *ops)
{
	return ops->post != NULL && ops->connected != NULL && ops->connect_failed != NULL &&
	       ops->offered != NULL && ops->all_offers_delivered != NULL &&
	       ops->rescinded != NULL && ops->gpadl_created != NULL &&
	       ops->gpadl_torndown != NULL && ops->open_result != NULL && ops->unloaded != NULL && ops->misbehaved != NULL;
}

enum vmb_status
vmb_bus_client_create(const struct vmb_bus_client_config *config,
                      const struct vmb_bus_client_ops *ops, void *ctx,
                      struct vmb_bus_client **client)
{
	struct vmb_bus_client_config wanted = *config;
	struct vmb_bus_client *c;

	if (wanted.newest_version == 0)
		wanted.newest_version = vmb_versions[VMB_VERSION_COUNT - 1];
	if (wanted.oldest_version == 0)
		wanted.oldest_version = vmb_versions[0];
	if (!ops_are_complete(ops) || !vmb_version_is_known(wanted.newest_version) ||
	    !vmb_version_is_known(wanted.oldest_version) ||
	    wanted.oldest_version > wanted.newest_version)
		return VMB_E_INVALID;
	if ((wanted.features & ~CLIENT_FEATURES) != 0)
		return VMB_E_UNSUPPORTED;
	c = calloc(1, sizeof(*c));
	if (c == NULL)
		return VMB_E_NO_MEMORY;
	c->ops = *ops;
	c->ctx = ctx;
	c->config = wanted;
	c->link = CLIENT_DISCONNECTED;
	c->next_gpadl_id = FIRST_GPADL_ID;
	c->next_open_id = 1;
	*client = c;
	return VMB_OK;
}

void
vmb_bus_client_destroy(struct vmb_bus_client *client)
{
	if (client == NULL)
		return;
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		if (client->channels[id] == NULL)
			continue;
		client_gpadl_forget(client, client->channels[id]);
		free(client->channels[id]);
	}
	free(client);
}
