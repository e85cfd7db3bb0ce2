/* SPDX-License-Identifier: MIT */
/*
 * Codecs of the messages about the connection as a whole (vmbus-protocol 4.3) and of socket
 * requests (4.11).
 */
#include "wire/msg_table.h"

enum vmb_status
vmb_msg_decode_empty(const void *bytes, size_t byte_count, const struct vmb_msg_context *ctx,
                     struct vmb_msg *msg, const char **why)
{
	(void)bytes;
	(void)byte_count;
	(void)ctx;
	(void)msg;
	(void)why;
	return VMB_OK;
}

size_t
vmb_msg_encode_empty(const struct vmb_msg *msg, const struct vmb_msg_context *ctx, void *out)
{
	(void)msg;
	(void)ctx;
	(void)out;
	return sizeof(struct vmb_wire_msg);
}

/* ---- InitiateContact ------------------------------------------------------------------------ */

/*
 * The message brings the version that gives its fields their meaning. A version that is not known
 * here gets the answer "unsupported", so nothing that it may have redefined can make the message
 * malformed.
 */
static bool
contact_has_client_id(uint32_t version, uint32_t feature_flags)
{
	return version == VMB_VERSION_COPPER && (feature_flags & VMB_FEATURE_CLIENT_ID) != 0;
}

enum vmb_status
vmb_msg_decode_initiate_contact(const void *bytes, size_t byte_count,
                                const struct vmb_msg_context *ctx, struct vmb_msg *msg,
                                const char **why)
{
	const struct vmb_wire_initiate_contact *wire = bytes;
	const struct vmb_wire_initiate_contact_id *wire_id = bytes;
	struct vmb_msg_initiate_contact *contact = &msg->initiate_contact;

	(void)ctx;
	contact->version = vmb_le32_get(wire->version);
	contact->target_message_vp = vmb_le32_get(wire->target_message_vp);
	contact->monitor_page_to_child = vmb_le64_get(wire->monitor_page_to_child);
	contact->monitor_page_to_parent = vmb_le64_get(wire->monitor_page_to_parent);
	if (contact->version < VMB_VERSION_WIN10_RS3_1) {
		contact->interrupt_page = vmb_le64_get(wire->interrupt_page);
		return VMB_OK;
	}
	contact->target_sint = wire->target.sint;
	contact->target_vtl = wire->target.vtl;
	if (contact->version < VMB_VERSION_COPPER)
		return VMB_OK;
	contact->feature_flags = vmb_le32_get(wire->target.feature_flags);
	if (!contact_has_client_id(contact->version, contact->feature_flags))
		return VMB_OK;
	if (byte_count < sizeof(*wire_id)) {
		*why = "InitiateContact asks for the client id feature and carries no client id";
		return VMB_E_MALFORMED;
	}
	contact->client_id = wire_id->client_id;
	return VMB_OK;
}

size_t
vmb_msg_encode_initiate_contact(const struct vmb_msg *msg, const struct vmb_msg_context *ctx,
                                void *out)
{
	const struct vmb_msg_initiate_contact *contact = &msg->initiate_contact;
	struct vmb_wire_initiate_contact_id *wire_id = out;
	struct vmb_wire_initiate_contact *wire = &wire_id->contact;

	(void)ctx;
	wire->version = vmb_le32_make(contact->version);
	wire->target_message_vp = vmb_le32_make(contact->target_message_vp);
	wire->monitor_page_to_child = vmb_le64_make(contact->monitor_page_to_child);
	wire->monitor_page_to_parent = vmb_le64_make(contact->monitor_page_to_parent);
	if (contact->version < VMB_VERSION_WIN10_RS3_1) {
		wire->interrupt_page = vmb_le64_make(contact->interrupt_page);
		return sizeof(*wire);
	}
	wire->target.sint = contact->target_sint;
	wire->target.vtl = contact->target_vtl;
	if (contact->version < VMB_VERSION_COPPER)
		return sizeof(*wire);
	wire->target.feature_flags = vmb_le32_make(contact->feature_flags);
	if (!contact_has_client_id(contact->version, contact->feature_flags))
		return sizeof(*wire);
	wire_id->client_id = contact->client_id;
	return sizeof(*wire_id);
}

/* ---- VersionResponse ------------------------------------------------------------------------ */

static enum vmb_status
version_response_decode_pages(const struct vmb_wire_version_response_pages *wire,
                              struct vmb_msg_version_response *response, const char **why)
{
	response->monitor_page_to_child = vmb_le64_get(wire->monitor_page_to_child);
	response->monitor_page_to_parent = vmb_le64_get(wire->monitor_page_to_parent);
	if (response->monitor_page_to_parent != 0) {
		response->has_monitor_pages = true;
		return VMB_OK;
	}
	if (response->monitor_page_to_child != 0) {
		*why = "VersionResponse with a host monitor page in one direction only";
		return VMB_E_MALFORMED;
	}
	/* A shorter response that its sender padded with zeros. */
	return VMB_OK;
}

enum vmb_status
vmb_msg_decode_version_response(const void *bytes, size_t byte_count,
                                const struct vmb_msg_context *ctx, struct vmb_msg *msg,
                                const char **why)
{
	const struct vmb_wire_version_response *wire = bytes;
	const struct vmb_wire_version_response_features *wire_features = bytes;
	struct vmb_msg_version_response *response = &msg->version_response;

	response->supported = wire->supported != 0;
	/* The byte has a meaning since 2.4; older hosts never wrote it. */
	if (ctx->version >= VMB_VERSION_WIN8)
		response->connection_state = wire->connection_state;
	response->version_or_connection_id = vmb_le32_get(wire->version_or_connection_id);
	if (ctx->version < VMB_VERSION_COPPER || !response->supported)
		return VMB_OK;
	if (byte_count < sizeof(*wire_features)) {
		*why = "VersionResponse to 6.0 carries no feature flags";
		return VMB_E_MALFORMED;
	}
	response->feature_flags = vmb_le32_get(wire_features->feature_flags);
	if ((response->feature_flags & VMB_FEATURE_SERVER_MONITOR_PAGES) == 0 ||
	    byte_count < sizeof(struct vmb_wire_version_response_pages))
		return VMB_OK;
	return version_response_decode_pages(bytes, response, why);
}

size_t
vmb_msg_encode_version_response(const struct vmb_msg *msg, const struct vmb_msg_context *ctx,
                                void *out)
{
	const struct vmb_msg_version_response *response = &msg->version_response;
	struct vmb_wire_version_response_pages *wire_pages = out;
	struct vmb_wire_version_response_features *wire_features = &wire_pages->features;
	struct vmb_wire_version_response *wire = &wire_features->response;

	/*
	 * "Unsupported" is the short form with nothing else in it; before 2.4 it is also the only
	 * way to say "failed".
	 */
	if (!response->supported ||
	    (ctx->version < VMB_VERSION_WIN8 && response->connection_state != 0))
		return sizeof(*wire);
	wire->supported = 1;
	wire->connection_state = response->connection_state;
	wire->version_or_connection_id = vmb_le32_make(response->version_or_connection_id);
	if (ctx->version < VMB_VERSION_COPPER)
		return response->has_monitor_pages ? 0 : sizeof(*wire);
	wire_features->feature_flags = vmb_le32_make(response->feature_flags);
	if (!response->has_monitor_pages)
		return sizeof(*wire_features);
	if ((response->feature_flags & VMB_FEATURE_SERVER_MONITOR_PAGES) == 0 ||
	    response->monitor_page_to_parent == 0)
		return 0;
	wire_pages->monitor_page_to_child = vmb_le64_make(response->monitor_page_to_child);
	wire_pages->monitor_page_to_parent = vmb_le64_make(response->monitor_page_to_parent);
	return sizeof(*wire_pages);
}

/* ---- ModifyConnection ----------------------------------------------------------------------- */

enum vmb_status
vmb_msg_decode_modify_connection(const void *bytes, size_t byte_count,
                                 const struct vmb_msg_context *ctx, struct vmb_msg *msg,
                                 const char **why)
{
	const struct vmb_wire_modify_connection *wire = bytes;

	(void)byte_count;
	(void)ctx;
	(void)why;
	msg->modify_connection.monitor_page_to_child = vmb_le64_get(wire->monitor_page_to_child);
	msg->modify_connection.monitor_page_to_parent = vmb_le64_get(wire->monitor_page_to_parent);
	return VMB_OK;
}

size_t
vmb_msg_encode_modify_connection(const struct vmb_msg *msg, const struct vmb_msg_context *ctx,
                                 void *out)
{
	const struct vmb_msg_modify_connection *modify = &msg->modify_connection;
	struct vmb_wire_modify_connection *wire = out;

	(void)ctx;
	wire->monitor_page_to_child = vmb_le64_make(modify->monitor_page_to_child);
	wire->monitor_page_to_parent = vmb_le64_make(modify->monitor_page_to_parent);
	return sizeof(*wire);
}

enum vmb_status
vmb_msg_decode_modify_connection_response(const void *bytes, size_t byte_count,
                                          const struct vmb_msg_context *ctx, struct vmb_msg *msg,
                                          const char **why)
{
	const struct vmb_wire_modify_connection_response *wire = bytes;

	(void)byte_count;
	(void)ctx;
	(void)why;
	msg->modify_connection.connection_state = wire->connection_state;
	return VMB_OK;
}

size_t
vmb_msg_encode_modify_connection_response(const struct vmb_msg *msg,
                                          const struct vmb_msg_context *ctx, void *out)
{
	struct vmb_wire_modify_connection_response *wire = out;

	(void)ctx;
	wire->connection_state = msg->modify_connection.connection_state;
	return sizeof(*wire);
}

/* ---- sockets -------------------------------------------------------------------------------- */

enum vmb_status
vmb_msg_decode_tl_connect(const void *bytes, size_t byte_count, const struct vmb_msg_context *ctx,
                          struct vmb_msg *msg, const char **why)
{
	const struct vmb_wire_tl_connect *wire = bytes;
	const struct vmb_wire_tl_connect_silo *wire_silo = bytes;
	struct vmb_msg_tl_connect *connect = &msg->tl_connect;

	(void)why;
	connect->endpoint = wire->endpoint;
	connect->service = wire->service;
	/*
	 * From 5.2 the size says whether a silo is named; an older sender's extra bytes are only
	 * padding.
	 */
	if (ctx->version >= VMB_VERSION_WIN10_RS5 && byte_count >= sizeof(*wire_silo)) {
		connect->has_silo = true;
		connect->silo = wire_silo->silo;
	}
	return VMB_OK;
}

size_t
vmb_msg_encode_tl_connect(const struct vmb_msg *msg, const struct vmb_msg_context *ctx, void *out)
{
	const struct vmb_msg_tl_connect *connect = &msg->tl_connect;
	struct vmb_wire_tl_connect_silo *wire_silo = out;
	struct vmb_wire_tl_connect *wire = &wire_silo->connect;

	wire->endpoint = connect->endpoint;
	wire->service = connect->service;
	if (!connect->has_silo)
		return sizeof(*wire);
	/* Leaving the silo out would connect to another one. */
	if (ctx->version < VMB_VERSION_WIN10_RS5)
		return 0;
	wire_silo->silo = connect->silo;
	return sizeof(*wire_silo);
}

enum vmb_status
vmb_msg_decode_tl_connect_result(const void *bytes, size_t byte_count,
                                 const struct vmb_msg_context *ctx, struct vmb_msg *msg,
                                 const char **why)
{
	const struct vmb_wire_tl_connect_result *wire = bytes;

	(void)byte_count;
	(void)ctx;
	(void)why;
	msg->tl_connect.endpoint = wire->connect.endpoint;
	msg->tl_connect.service = wire->connect.service;
	msg->tl_connect.status = vmb_le32_get(wire->status);
	return VMB_OK;
}

size_t
vmb_msg_encode_tl_connect_result(const struct vmb_msg *msg, const struct vmb_msg_context *ctx,
                                 void *out)
{
	struct vmb_wire_tl_connect_result *wire = out;

	(void)ctx;
	wire->connect.endpoint = msg->tl_connect.endpoint;
	wire->connect.service = msg->tl_connect.service;
	wire->status = vmb_le32_make(msg->tl_connect.status);
	return sizeof(*wire);
}
