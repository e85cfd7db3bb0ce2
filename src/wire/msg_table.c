/* SPDX-License-Identifier: MIT */
/*
 * The table of control messages (vmbus-protocol 4.2) and of protocol versions (4.3). Data only.
 */
#include "wire/msg_table.h"

const uint32_t vmb_versions[VMB_VERSION_COUNT] = {
	VMB_VERSION_V1,          VMB_VERSION_WIN7,       VMB_VERSION_WIN8,       VMB_VERSION_WIN8_1,
	VMB_VERSION_WIN10,       VMB_VERSION_WIN10_RS3_0, VMB_VERSION_WIN10_RS3_1,
	VMB_VERSION_WIN10_RS4,   VMB_VERSION_WIN10_RS5,  VMB_VERSION_IRON,       VMB_VERSION_COPPER,
};

#define V(x) VMB_VERSION_##x
#define F(x) VMB_FEATURE_##x
#define SIZE(x) sizeof(struct vmb_wire_##x)
#define CODEC(x) vmb_msg_decode_##x, vmb_msg_encode_##x
#define GUEST VMB_FROM_GUEST
#define HOST VMB_FROM_HOST

/* clang-format off */
static const struct vmb_msg_rule rules[VMB_MSG_TYPE_END] = {
	[VMB_MSG_OFFER_CHANNEL] =
		{ "OfferChannel", HOST, V(V1), 0, SIZE(offer_old), CODEC(offer) },
	[VMB_MSG_RESCIND_OFFER] =
		{ "RescindChannelOffer", HOST, V(V1), 0, SIZE(channel), CODEC(channel) },
	[VMB_MSG_REQUEST_OFFERS] =
		{ "RequestOffers", GUEST, V(V1), 0, SIZE(msg), CODEC(empty) },
	[VMB_MSG_ALL_OFFERS_DELIVERED] =
		{ "AllOffersDelivered", HOST, V(V1), 0, SIZE(msg), CODEC(empty) },
	[VMB_MSG_OPEN_CHANNEL] =
		{ "OpenChannel", GUEST, V(V1), 0, SIZE(open), CODEC(open) },
	[VMB_MSG_OPEN_RESULT] =
		{ "OpenChannelResult", HOST, V(V1), 0, SIZE(open_result), CODEC(open_result) },
	[VMB_MSG_CLOSE_CHANNEL] =
		{ "CloseChannel", GUEST, V(V1), 0, SIZE(channel), CODEC(channel) },
	[VMB_MSG_GPADL_HEADER] =
		{ "GpadlHeader", GUEST, V(V1), 0, SIZE(gpadl_header), CODEC(gpadl_header) },
	[VMB_MSG_GPADL_BODY] =
		{ "GpadlBody", GUEST, V(V1), 0, SIZE(gpadl_body), CODEC(gpadl_body) },
	[VMB_MSG_GPADL_CREATED] =
		{ "GpadlCreated", HOST, V(V1), 0, SIZE(gpadl_created), CODEC(gpadl_created) },
	[VMB_MSG_GPADL_TEARDOWN] =
		{ "GpadlTeardown", GUEST, V(V1), 0, SIZE(gpadl_teardown), CODEC(gpadl_teardown) },
	[VMB_MSG_GPADL_TORNDOWN] =
		{ "GpadlTorndown", HOST, V(V1), 0, SIZE(gpadl_torndown), CODEC(gpadl_torndown) },
	[VMB_MSG_REL_ID_RELEASED] =
		{ "RelIdReleased", GUEST, V(V1), 0, SIZE(channel), CODEC(channel) },
	[VMB_MSG_INITIATE_CONTACT] =
		{ "InitiateContact", GUEST, 0, 0, SIZE(initiate_contact), CODEC(initiate_contact) },
	[VMB_MSG_VERSION_RESPONSE] =
		{ "VersionResponse", HOST, 0, 0, SIZE(version_response), CODEC(version_response) },
	[VMB_MSG_UNLOAD] =
		{ "Unload", GUEST, V(V1), 0, SIZE(msg), CODEC(empty) },
	[VMB_MSG_UNLOAD_COMPLETE] =
		{ "UnloadComplete", HOST, V(WIN7), 0, SIZE(msg), CODEC(empty) },
	[VMB_MSG_OPEN_RESERVED] =
		{ "OpenReservedChannel", GUEST, V(WIN10), 0, SIZE(open_reserved),
		  CODEC(open_reserved) },
	[VMB_MSG_CLOSE_RESERVED] =
		{ "CloseReservedChannel", GUEST, 0, 0, SIZE(close_reserved),
		  CODEC(close_reserved) },
	[VMB_MSG_CLOSE_RESERVED_RESPONSE] =
		{ "CloseReservedChannelResponse", HOST, V(WIN10), 0, SIZE(channel),
		  CODEC(channel) },
	[VMB_MSG_TL_CONNECT] =
		{ "TlConnectRequest", GUEST, V(WIN10), 0, SIZE(tl_connect), CODEC(tl_connect) },
	[VMB_MSG_MODIFY_CHANNEL] =
		{ "ModifyChannel", GUEST, V(WIN10_RS3_0), 0, SIZE(modify_channel),
		  CODEC(modify_channel) },
	[VMB_MSG_TL_CONNECT_RESULT] =
		{ "TlConnectRequestResult", HOST, V(WIN10_RS3_0), 0, SIZE(tl_connect_result),
		  CODEC(tl_connect_result) },
	[VMB_MSG_MODIFY_CHANNEL_RESPONSE] =
		{ "ModifyChannelResponse", HOST, V(IRON), 0, SIZE(modify_channel),
		  CODEC(modify_channel_response) },
	[VMB_MSG_MODIFY_CONNECTION] =
		{ "ModifyConnection", GUEST, V(COPPER), F(MODIFY_CONNECTION),
		  SIZE(modify_connection), CODEC(modify_connection) },
	[VMB_MSG_MODIFY_CONNECTION_RESPONSE] =
		{ "ModifyConnectionResponse", HOST, V(COPPER), F(MODIFY_CONNECTION),
		  SIZE(modify_connection_response), CODEC(modify_connection_response) },
	[VMB_MSG_PAUSE] =
		{ "Pause", GUEST, V(COPPER), F(PAUSE_RESUME), SIZE(msg), CODEC(empty) },
	[VMB_MSG_PAUSE_RESPONSE] =
		{ "PauseResponse", HOST, V(COPPER), F(PAUSE_RESUME), SIZE(msg), CODEC(empty) },
	[VMB_MSG_RESUME] =
		{ "Resume", GUEST, V(COPPER), F(PAUSE_RESUME), SIZE(msg), CODEC(empty) },
};
/* clang-format on */

const struct vmb_msg_rule *
vmb_msg_rule_of(uint32_t type)
{
	if (type >= VMB_MSG_TYPE_END || rules[type].name == NULL)
		return NULL;
	return &rules[type];
}

const char *
vmb_msg_type_name(uint32_t type)
{
	const struct vmb_msg_rule *rule = vmb_msg_rule_of(type);

	return rule != NULL ? rule->name : "unknown";
}

bool
vmb_version_is_known(uint32_t version)
{
	for (uint32_t i = 0; i < VMB_VERSION_COUNT; i++) {
		if (vmb_versions[i] == version)
			return true;
	}
	return false;
}
