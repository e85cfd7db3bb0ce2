/* SPDX-License-Identifier: MIT */
/*
 * Contact, and its end (vmbus-protocol 4.3). A new contact, an unload and a lost transport all end
 * what was there first: every device closes, every GPADL is let go. The host waits for its own
 * devices only, never for the guest; whatever came last meanwhile is what happens then.
 */
#include "bus/server.h"

#define SINT_VMBUS 2u
#define STATE_OK 0u
#define STATE_FAILED 2u

static void
post_version_response(struct vmb_bus_server *server, uint32_t version, uint32_t features,
                      const struct vmb_msg_version_response *response)
{
	struct vmb_msg msg = { .type = VMB_MSG_VERSION_RESPONSE, .version_response = *response };

	server_post_at(server, &msg, version, features);
}

static void
refuse_contact(struct vmb_bus_server *server)
{
	const struct vmb_msg_version_response response = { .supported = false };

	post_version_response(server, VMB_VERSION_V1, 0, &response);
}

static bool
version_is_served(const struct vmb_bus_server *server, uint32_t version)
{
	return vmb_version_is_known(version) && version <= server->newest_version;
}

/*
 * The SINT and VTL fields are there to be believed only on the connection that was made for them.
 */
static bool
contact_names_target(const struct vmb_msg_initiate_contact *contact, uint32_t connection_id)
{
	return contact->version >= VMB_VERSION_WIN10_RS3_1 &&
	       connection_id == VMB_CONNECTION_ID_MULTI_CLIENT;
}

static void
make_contact(struct vmb_bus_server *server, const struct vmb_msg_initiate_contact *contact,
             uint32_t connection_id)
{
	uint32_t features = contact->version >= VMB_VERSION_COPPER
	                            ? contact->feature_flags & server->supported_features
	                            : 0;
	struct vmb_msg_version_response response = {
		.supported = true,
		.connection_state = STATE_OK,
		.version_or_connection_id = contact->version >= VMB_VERSION_WIN10_RS3_1
		                                    ? VMB_CONNECTION_ID_LEGACY
		                                    : contact->version,
		.feature_flags = features,
	};

	server->message_vp =
		contact->version >= VMB_VERSION_WIN8_1 ? contact->target_message_vp : 0;
	if (!version_is_served(server, contact->version) ||
	    (contact_names_target(contact, connection_id) && contact->target_sint != SINT_VMBUS)) {
		refuse_contact(server);
		return;
	}
	if ((contact->monitor_page_to_child == 0) != (contact->monitor_page_to_parent == 0)) {
		server_misbehaved(server, "contact with one monitor page of two");
		response.connection_state = STATE_FAILED;
		/* Before 2.4 nothing but "unsupported" can say that it failed. */
		if (contact->version < VMB_VERSION_WIN8)
			refuse_contact(server);
		else
			post_version_response(server, contact->version, features, &response);
		return;
	}
	server->link = SERVER_CONNECTED;
	server->version = contact->version;
	server->features = features;
	server->contact = *contact;
	server->ops.connected(server->ctx, server->version, server->features);
	post_version_response(server, server->version, server->features, &response);
}

void
server_initiate_contact(struct vmb_bus_server *server, const struct vmb_msg *msg,
                        uint32_t connection_id)
{
	const struct vmb_msg_initiate_contact *contact = &msg->initiate_contact;

	/* Another VTL's bus: not for us, and no reason to end what we have. */
	if (contact_names_target(contact, connection_id) &&
	    contact->version >= VMB_VERSION_WIN10_RS4 && contact->target_vtl != 0) {
		server_misbehaved(server, "contact for another trust level");
		return;
	}
	if (server->link == SERVER_DISCONNECTED) {
		make_contact(server, contact, connection_id);
		return;
	}
	server->next_contact = *contact;
	server->next_connection_id = connection_id;
	server_disconnect(server, SERVER_NEXT_CONTACT);
}

void
server_disconnect(struct vmb_bus_server *server, enum server_next next)
{
	server->next = next;
	if (server->link == SERVER_DISCONNECTING)
		return;
	server->link = SERVER_DISCONNECTING;
	/* What a paused guest has not been told belongs to a connection it has given up. */
	server->paused = false;
	server_drop_held(server);
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		if (server->channels[id] != NULL)
			server_channel_event(server, server->channels[id], SE_GUEST_GONE, NULL);
	}
}

static bool
is_settled(const struct vmb_bus_server *server)
{
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		const struct server_channel *channel = server->channels[id];

		if (channel != NULL && (channel->state != SC_HIDDEN ||
		                        vmb_gpadl_channel_has_any(server->gpadls, id)))
			return false;
	}
	return true;
}

void
server_progress(struct vmb_bus_server *server)
{
	const struct vmb_msg unloaded = { .type = VMB_MSG_UNLOAD_COMPLETE };
	uint32_t version = server->version;

	if (server->link != SERVER_DISCONNECTING || !is_settled(server))
		return;
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		if (server->channels[id] != NULL)
			server->channels[id]->released_by_guest = false;
	}
	server->link = SERVER_DISCONNECTED;
	server->version = 0;
	server->features = 0;
	server->offers_sent = false;
	server->ops.disconnected(server->ctx);
	switch (server->next) {
	case SERVER_NEXT_NOTHING:
		break;
	case SERVER_NEXT_UNLOADED:
		server_post_at(server, &unloaded, version, 0);
		break;
	case SERVER_NEXT_CONTACT:
		make_contact(server, &server->next_contact, server->next_connection_id);
		break;
	}
}
