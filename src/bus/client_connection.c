/* SPDX-License-Identifier: MIT */
/*
 * A guest's contact: the walk down the list of versions, the unload and the loss of the transport
 * (vmbus-protocol 4.3).
 */
#include "bus/client.h"

#define SINT_VMBUS 2u

static void
ask_contact(struct vmb_bus_client *client)
{
	uint32_t version = vmb_versions[client->version_index];
	bool multi_client = version >= VMB_VERSION_WIN10_RS3_1;
	struct vmb_msg msg = { .type = VMB_MSG_INITIATE_CONTACT };

	client->version = version;
	client->features = version >= VMB_VERSION_COPPER ? client->config.features : 0;
	client->connection_id =
		multi_client ? VMB_CONNECTION_ID_MULTI_CLIENT : VMB_CONNECTION_ID_LEGACY;
	msg.initiate_contact.version = version;
	msg.initiate_contact.target_message_vp = client->config.target_message_vp;
	msg.initiate_contact.target_sint = multi_client ? SINT_VMBUS : 0;
	msg.initiate_contact.feature_flags = client->features;
	msg.initiate_contact.monitor_page_to_child = client->config.monitor_page_to_child;
	msg.initiate_contact.monitor_page_to_parent = client->config.monitor_page_to_parent;
	if ((client->features & VMB_FEATURE_CLIENT_ID) != 0)
		msg.initiate_contact.client_id = client->config.client_id;
	client_post(client, &msg);
}

static void
forget_connection(struct vmb_bus_client *client, enum client_link link)
{
	client->link = link;
	client->version = 0;
	client->features = 0;
	client->offers_requested = false;
	client->offers_delivered = false;
}

static void
fail_contact(struct vmb_bus_client *client, enum client_link link, const char *why)
{
	forget_connection(client, link);
	client->ops.connect_failed(client->ctx, why);
}

void
client_version_response(struct vmb_bus_client *client, const struct vmb_msg *msg)
{
	const struct vmb_msg_version_response *response = &msg->version_response;
	uint32_t index = client->version_index;

	if (!response->supported) {
		if (index == 0 || vmb_versions[index - 1] < client->config.oldest_version) {
			fail_contact(client, CLIENT_DISCONNECTED,
			             "the host speaks no protocol version that we speak");
			return;
		}
		client->version_index--;
		ask_contact(client);
		return;
	}
	if (response->connection_state != 0) {
		fail_contact(client, CLIENT_DISCONNECTED,
		             response->connection_state == 1
		                     ? "the host has no resources for the connection"
		                     : "the host failed to make the connection");
		return;
	}
	if ((response->feature_flags & ~client->features) != 0)
		client_misbehaved(client, "contact with features that were not asked for");
	client->features &= response->feature_flags;
	/* What this field means changed at 5.0; before that it is an echo that says nothing new. */
	if (client->version >= VMB_VERSION_WIN10_RS3_1)
		client->connection_id = response->version_or_connection_id;
	client->link = CLIENT_CONNECTED;
	client->unload_unanswered = false;
	client->ops.connected(client->ctx, client->version, client->features);
}

/* Whatever ends an unload: everybody who still waits is ended, then the unload itself. */
static void
finish_unload(struct vmb_bus_client *client, enum client_link link)
{
	forget_connection(client, link);
	client_end_channels(client);
	client->ops.unloaded(client->ctx);
}

void
client_unload_complete(struct vmb_bus_client *client, const struct vmb_msg *msg)
{
	(void)msg;
	finish_unload(client, CLIENT_DISCONNECTED);
}

static bool
holds_channels(const struct vmb_bus_client *client)
{
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		if (client->channels[id] != NULL)
			return true;
	}
	return false;
}

static uint32_t
index_of_version(uint32_t version)
{
	uint32_t index = VMB_VERSION_COUNT - 1;

	while (index > 0 && vmb_versions[index] != version)
		index--;
	return index;
}

enum vmb_status
vmb_bus_client_connect(struct vmb_bus_client *client)
{
	if (client->link == CLIENT_LOST)
		return VMB_E_CLOSED;
	if (client->link != CLIENT_DISCONNECTED)
		return VMB_E_STATE;
	/* The host will give the same ids out again. */
	if (holds_channels(client))
		return VMB_E_BUSY;
	client->link = CLIENT_CONTACTING;
	client->version_index = index_of_version(client->config.newest_version);
	ask_contact(client);
	return VMB_OK;
}

enum vmb_status
vmb_bus_client_unload(struct vmb_bus_client *client)
{
	const struct vmb_msg msg = { .type = VMB_MSG_UNLOAD };

	if (client->link != CLIENT_CONNECTED)
		return VMB_E_STATE;
	client->link = CLIENT_UNLOADING;
	client_post(client, &msg);
	/* The first protocol has no UnloadComplete: nothing says when the host has let go. */
	if (client->version < VMB_VERSION_WIN7) {
		client->unload_unanswered = true;
		finish_unload(client, CLIENT_DISCONNECTED);
	}
	return VMB_OK;
}

void
vmb_bus_client_lost(struct vmb_bus_client *client)
{
	switch (client->link) {
	case CLIENT_LOST:
		break;
	case CLIENT_DISCONNECTED:
		forget_connection(client, CLIENT_LOST);
		break;
	case CLIENT_CONTACTING:
		fail_contact(client, CLIENT_LOST, "the connection to the host was lost");
		break;
	case CLIENT_CONNECTED:
		forget_connection(client, CLIENT_LOST);
		client_end_channels(client);
		break;
	case CLIENT_UNLOADING:
		finish_unload(client, CLIENT_LOST);
		break;
	}
}
