/* SPDX-License-Identifier: MIT */
/*
 * The one table about control messages: what each type is called, who may send it, from which
 * version and with which feature, how short it may be and who converts it. Decoder, encoder and
 * tests read it.
 */
#ifndef WIRE_MSG_TABLE_H
#define WIRE_MSG_TABLE_H

#include "wire/msg_layout.h"

/* What was negotiated. `features` is zero below 6.0, whatever the caller passed. */
struct vmb_msg_context {
	uint32_t version;
	uint32_t features;
};

/* `bytes` holds at least the table's min_bytes; `msg` is zero but for its type. */
typedef enum vmb_status (*vmb_msg_decode_fn)(const void *bytes, size_t byte_count,
                                             const struct vmb_msg_context *ctx, struct vmb_msg *msg,
                                             const char **why);
/* `out` is zero but for the message type. Returns the whole message's size, or 0. */
typedef size_t (*vmb_msg_encode_fn)(const struct vmb_msg *msg, const struct vmb_msg_context *ctx,
                                    void *out);

struct vmb_msg_rule {
	const char *name;
	enum vmb_msg_sender sender;
	uint32_t min_version;        /* 0 = also without a connection */
	uint32_t feature;            /* all of these bits; 0 = none */
	uint32_t min_bytes;          /* shortest form of any version */
	vmb_msg_decode_fn decode;
	vmb_msg_encode_fn encode;
};

/* NULL for a type that is not a message. */
const struct vmb_msg_rule *vmb_msg_rule_of(uint32_t type);

#define VMB_MSG_CODEC(name)                                                                        \
	enum vmb_status vmb_msg_decode_##name(const void *bytes, size_t byte_count,                \
	                                      const struct vmb_msg_context *ctx,                   \
	                                      struct vmb_msg *msg, const char **why);              \
	size_t vmb_msg_encode_##name(const struct vmb_msg *msg, const struct vmb_msg_context *ctx, \
	                             void *out)

/* msg_connection.c */
VMB_MSG_CODEC(empty);
VMB_MSG_CODEC(initiate_contact);
VMB_MSG_CODEC(version_response);
VMB_MSG_CODEC(modify_connection);
VMB_MSG_CODEC(modify_connection_response);
VMB_MSG_CODEC(tl_connect);
VMB_MSG_CODEC(tl_connect_result);

/* msg_channel.c */
VMB_MSG_CODEC(offer);
VMB_MSG_CODEC(channel);
VMB_MSG_CODEC(open);
VMB_MSG_CODEC(open_result);
VMB_MSG_CODEC(open_reserved);
VMB_MSG_CODEC(close_reserved);
VMB_MSG_CODEC(modify_channel);
VMB_MSG_CODEC(modify_channel_response);

/* msg_gpadl.c */
VMB_MSG_CODEC(gpadl_header);
VMB_MSG_CODEC(gpadl_body);
VMB_MSG_CODEC(gpadl_created);
VMB_MSG_CODEC(gpadl_teardown);
VMB_MSG_CODEC(gpadl_torndown);

#endif
