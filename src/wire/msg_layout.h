/* SPDX-License-Identifier: MIT */
/*
 * The control messages byte for byte (vmbus-protocol 3.3 and 4). A form that only some versions or
 * features have is its own struct that begins with the shorter one, so that code can only reach
 * bytes whose presence it has checked.
 */
#ifndef WIRE_MSG_LAYOUT_H
#define WIRE_MSG_LAYOUT_H

#include "vmb/msg.h"
#include "wire/le.h"

struct vmb_wire_msg {
	vmb_le32 type;
	vmb_le32 padding;
};
VMB_WIRE_SIZE(struct vmb_wire_msg, VMB_MSG_HEADER_BYTES);

/* Rescind, close, rel-id released, close-reserved response. */
struct vmb_wire_channel {
	struct vmb_wire_msg msg;
	vmb_le32 channel_id;
};
VMB_WIRE_SIZE(struct vmb_wire_channel, 12);
VMB_WIRE_AT(struct vmb_wire_channel, channel_id, 8);

/* ---- offer ---------------------------------------------------------------------------------- */

/* All that a guest older than 1.1 reads. */
struct vmb_wire_offer_old {
	struct vmb_wire_msg msg;
	struct vmb_guid interface_type;
	struct vmb_guid interface_instance;
	uint8_t reserved[16];
	vmb_le16 flags;
	vmb_le16 mmio_megabytes;
	uint8_t user_data[VMB_OFFER_USER_BYTES];
	vmb_le16 subchannel_index;
	vmb_le16 mmio_megabytes_optional;
	vmb_le32 channel_id;
	uint8_t monitor_id;
	uint8_t monitor_allocated;
};
VMB_WIRE_SIZE(struct vmb_wire_offer_old, 190);
VMB_WIRE_AT(struct vmb_wire_offer_old, interface_type, 8);
VMB_WIRE_AT(struct vmb_wire_offer_old, interface_instance, 24);
VMB_WIRE_AT(struct vmb_wire_offer_old, reserved, 40);
VMB_WIRE_AT(struct vmb_wire_offer_old, flags, 56);
VMB_WIRE_AT(struct vmb_wire_offer_old, mmio_megabytes, 58);
VMB_WIRE_AT(struct vmb_wire_offer_old, user_data, 60);
VMB_WIRE_AT(struct vmb_wire_offer_old, subchannel_index, 180);
VMB_WIRE_AT(struct vmb_wire_offer_old, mmio_megabytes_optional, 182);
VMB_WIRE_AT(struct vmb_wire_offer_old, channel_id, 184);
VMB_WIRE_AT(struct vmb_wire_offer_old, monitor_id, 188);
VMB_WIRE_AT(struct vmb_wire_offer_old, monitor_allocated, 189);

struct vmb_wire_offer {
	struct vmb_wire_offer_old old;
	vmb_le16 is_dedicated;
	vmb_le32 connection_id;
};
VMB_WIRE_SIZE(struct vmb_wire_offer, 196);
VMB_WIRE_AT(struct vmb_wire_offer, is_dedicated, 190);
VMB_WIRE_AT(struct vmb_wire_offer, connection_id, 192);

/* ---- open and close ------------------------------------------------------------------------- */

struct vmb_wire_open {
	struct vmb_wire_msg msg;
	vmb_le32 channel_id;
	vmb_le32 open_id;
	vmb_le32 ring_gpadl;
	vmb_le32 target_vp;
	vmb_le32 downstream_page_offset;
	uint8_t user_data[VMB_OPEN_USER_BYTES];
};
VMB_WIRE_SIZE(struct vmb_wire_open, 148);
VMB_WIRE_AT(struct vmb_wire_open, channel_id, 8);
VMB_WIRE_AT(struct vmb_wire_open, open_id, 12);
VMB_WIRE_AT(struct vmb_wire_open, ring_gpadl, 16);
VMB_WIRE_AT(struct vmb_wire_open, target_vp, 20);
VMB_WIRE_AT(struct vmb_wire_open, downstream_page_offset, 24);
VMB_WIRE_AT(struct vmb_wire_open, user_data, 28);

/* With guest signal parameters or interrupt redirection. */
struct vmb_wire_open_extended {
	struct vmb_wire_open open;
	vmb_le32 connection_id;
	vmb_le16 event_flag;
	vmb_le16 open_flags;
};
VMB_WIRE_SIZE(struct vmb_wire_open_extended, 156);
VMB_WIRE_AT(struct vmb_wire_open_extended, connection_id, 148);
VMB_WIRE_AT(struct vmb_wire_open_extended, event_flag, 152);
VMB_WIRE_AT(struct vmb_wire_open_extended, open_flags, 154);

struct vmb_wire_open_result {
	struct vmb_wire_msg msg;
	vmb_le32 channel_id;
	vmb_le32 open_id;
	vmb_le32 status;
};
VMB_WIRE_SIZE(struct vmb_wire_open_result, 20);
VMB_WIRE_AT(struct vmb_wire_open_result, channel_id, 8);
VMB_WIRE_AT(struct vmb_wire_open_result, open_id, 12);
VMB_WIRE_AT(struct vmb_wire_open_result, status, 16);

struct vmb_wire_close_reserved {
	struct vmb_wire_msg msg;
	vmb_le32 channel_id;
	vmb_le32 target_vp;
	vmb_le32 target_sint;
};
VMB_WIRE_SIZE(struct vmb_wire_close_reserved, 20);
VMB_WIRE_AT(struct vmb_wire_close_reserved, channel_id, 8);
VMB_WIRE_AT(struct vmb_wire_close_reserved, target_vp, 12);
VMB_WIRE_AT(struct vmb_wire_close_reserved, target_sint, 16);

struct vmb_wire_open_reserved {
	struct vmb_wire_close_reserved target;
	vmb_le32 ring_gpadl;
	vmb_le32 downstream_page_offset;
};
VMB_WIRE_SIZE(struct vmb_wire_open_reserved, 28);
VMB_WIRE_AT(struct vmb_wire_open_reserved, ring_gpadl, 20);
VMB_WIRE_AT(struct vmb_wire_open_reserved, downstream_page_offset, 24);

struct vmb_wire_modify_channel {
	struct vmb_wire_msg msg;
	vmb_le32 channel_id;
	vmb_le32 target_vp_or_status;
};
VMB_WIRE_SIZE(struct vmb_wire_modify_channel, 16);
VMB_WIRE_AT(struct vmb_wire_modify_channel, channel_id, 8);
VMB_WIRE_AT(struct vmb_wire_modify_channel, target_vp_or_status, 12);

/* ---- GPADL ---------------------------------------------------------------------------------- */

struct vmb_wire_gpadl_header {
	struct vmb_wire_msg msg;
	vmb_le32 channel_id;
	vmb_le32 gpadl_id;
	vmb_le16 range_bytes;
	vmb_le16 range_count;
	vmb_le64 qwords[];
};
VMB_WIRE_SIZE(struct vmb_wire_gpadl_header, 20);
VMB_WIRE_AT(struct vmb_wire_gpadl_header, channel_id, 8);
VMB_WIRE_AT(struct vmb_wire_gpadl_header, gpadl_id, 12);
VMB_WIRE_AT(struct vmb_wire_gpadl_header, range_bytes, 16);
VMB_WIRE_AT(struct vmb_wire_gpadl_header, range_count, 18);
VMB_WIRE_AT(struct vmb_wire_gpadl_header, qwords, 20);

struct vmb_wire_gpadl_body {
	struct vmb_wire_msg msg;
	vmb_le32 message_number;
	vmb_le32 gpadl_id;
	vmb_le64 qwords[];
};
VMB_WIRE_SIZE(struct vmb_wire_gpadl_body, 16);
VMB_WIRE_AT(struct vmb_wire_gpadl_body, message_number, 8);
VMB_WIRE_AT(struct vmb_wire_gpadl_body, gpadl_id, 12);
VMB_WIRE_AT(struct vmb_wire_gpadl_body, qwords, 16);

struct vmb_wire_gpadl_teardown {
	struct vmb_wire_msg msg;
	vmb_le32 channel_id;
	vmb_le32 gpadl_id;
};
VMB_WIRE_SIZE(struct vmb_wire_gpadl_teardown, 16);
VMB_WIRE_AT(struct vmb_wire_gpadl_teardown, channel_id, 8);
VMB_WIRE_AT(struct vmb_wire_gpadl_teardown, gpadl_id, 12);

struct vmb_wire_gpadl_created {
	struct vmb_wire_gpadl_teardown gpadl;
	vmb_le32 status;
};
VMB_WIRE_SIZE(struct vmb_wire_gpadl_created, 20);
VMB_WIRE_AT(struct vmb_wire_gpadl_created, status, 16);

struct vmb_wire_gpadl_torndown {
	struct vmb_wire_msg msg;
	vmb_le32 gpadl_id;
};
VMB_WIRE_SIZE(struct vmb_wire_gpadl_torndown, 12);
VMB_WIRE_AT(struct vmb_wire_gpadl_torndown, gpadl_id, 8);

/* ---- connection ----------------------------------------------------------------------------- */

struct vmb_wire_contact_target {
	uint8_t sint;
	uint8_t vtl;
	vmb_le16 zero;
	vmb_le32 feature_flags;
};
VMB_WIRE_SIZE(struct vmb_wire_contact_target, 8);
VMB_WIRE_AT(struct vmb_wire_contact_target, vtl, 1);
VMB_WIRE_AT(struct vmb_wire_contact_target, feature_flags, 4);

struct vmb_wire_initiate_contact {
	struct vmb_wire_msg msg;
	vmb_le32 version;
	vmb_le32 target_message_vp;
	union {
		vmb_le64 interrupt_page;                 /* < 5.0 */
		struct vmb_wire_contact_target target;   /* >= 5.0 */
	};
	vmb_le64 monitor_page_to_child;
	vmb_le64 monitor_page_to_parent;
};
VMB_WIRE_SIZE(struct vmb_wire_initiate_contact, 40);
VMB_WIRE_AT(struct vmb_wire_initiate_contact, version, 8);
VMB_WIRE_AT(struct vmb_wire_initiate_contact, target_message_vp, 12);
VMB_WIRE_AT(struct vmb_wire_initiate_contact, interrupt_page, 16);
VMB_WIRE_AT(struct vmb_wire_initiate_contact, target, 16);
VMB_WIRE_AT(struct vmb_wire_initiate_contact, monitor_page_to_child, 24);
VMB_WIRE_AT(struct vmb_wire_initiate_contact, monitor_page_to_parent, 32);

struct vmb_wire_initiate_contact_id {
	struct vmb_wire_initiate_contact contact;
	struct vmb_guid client_id;
};
VMB_WIRE_SIZE(struct vmb_wire_initiate_contact_id, 56);
VMB_WIRE_AT(struct vmb_wire_initiate_contact_id, client_id, 40);

struct vmb_wire_version_response {
	struct vmb_wire_msg msg;
	uint8_t supported;
	uint8_t connection_state;
	vmb_le16 zero;
	vmb_le32 version_or_connection_id;
};
VMB_WIRE_SIZE(struct vmb_wire_version_response, 16);
VMB_WIRE_AT(struct vmb_wire_version_response, supported, 8);
VMB_WIRE_AT(struct vmb_wire_version_response, connection_state, 9);
VMB_WIRE_AT(struct vmb_wire_version_response, version_or_connection_id, 12);

/* 6.0 */
struct vmb_wire_version_response_features {
	struct vmb_wire_version_response response;
	vmb_le32 feature_flags;
};
VMB_WIRE_SIZE(struct vmb_wire_version_response_features, 20);
VMB_WIRE_AT(struct vmb_wire_version_response_features, feature_flags, 16);

/* 6.0 with server-specified monitor pages */
struct vmb_wire_version_response_pages {
	struct vmb_wire_version_response_features features;
	vmb_le32 zero;
	vmb_le64 monitor_page_to_child;
	vmb_le64 monitor_page_to_parent;
};
VMB_WIRE_SIZE(struct vmb_wire_version_response_pages, 40);
VMB_WIRE_AT(struct vmb_wire_version_response_pages, monitor_page_to_child, 24);
VMB_WIRE_AT(struct vmb_wire_version_response_pages, monitor_page_to_parent, 32);

struct vmb_wire_modify_connection {
	struct vmb_wire_msg msg;
	vmb_le64 monitor_page_to_child;
	vmb_le64 monitor_page_to_parent;
};
VMB_WIRE_SIZE(struct vmb_wire_modify_connection, 24);
VMB_WIRE_AT(struct vmb_wire_modify_connection, monitor_page_to_child, 8);
VMB_WIRE_AT(struct vmb_wire_modify_connection, monitor_page_to_parent, 16);

struct vmb_wire_modify_connection_response {
	struct vmb_wire_msg msg;
	uint8_t connection_state;
};
VMB_WIRE_SIZE(struct vmb_wire_modify_connection_response, 9);
VMB_WIRE_AT(struct vmb_wire_modify_connection_response, connection_state, 8);

/* ---- sockets -------------------------------------------------------------------------------- */

struct vmb_wire_tl_connect {
	struct vmb_wire_msg msg;
	struct vmb_guid endpoint;
	struct vmb_guid service;
};
VMB_WIRE_SIZE(struct vmb_wire_tl_connect, 40);
VMB_WIRE_AT(struct vmb_wire_tl_connect, endpoint, 8);
VMB_WIRE_AT(struct vmb_wire_tl_connect, service, 24);

struct vmb_wire_tl_connect_silo {
	struct vmb_wire_tl_connect connect;
	struct vmb_guid silo;
};
VMB_WIRE_SIZE(struct vmb_wire_tl_connect_silo, 56);
VMB_WIRE_AT(struct vmb_wire_tl_connect_silo, silo, 40);

struct vmb_wire_tl_connect_result {
	struct vmb_wire_tl_connect connect;
	vmb_le32 status;
};
VMB_WIRE_SIZE(struct vmb_wire_tl_connect_result, 44);
VMB_WIRE_AT(struct vmb_wire_tl_connect_result, status, 40);

#endif
