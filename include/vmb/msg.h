/* SPDX-License-Identifier: MIT */
/*
 * The control messages of VMBus (vmbus-protocol 4), protocol 0.13 to 6.0: bytes to checked structs
 * and back. No state. Structs here are in host byte order and are not the wire image.
 */
#ifndef VMB_MSG_H
#define VMB_MSG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmb/status.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define VMB_MSG_MAX_BYTES 240u
#define VMB_MSG_HEADER_BYTES 8u
#define VMB_OFFER_USER_BYTES 120u
#define VMB_OPEN_USER_BYTES 120u
#define VMB_CHANNEL_ID_MAX 2047u             /* 1..2047; 0 is never a channel */
#define VMB_MONITOR_ID_MAX 127u
#define VMB_MONITOR_NONE 0xFFu
#define VMB_GPADL_HEADER_QWORDS_MAX 27u      /* range qwords in a header message */
#define VMB_GPADL_BODY_QWORDS_MAX 28u        /* range qwords in a body message */
#define VMB_GPADL_RANGE_BYTES_MAX 65528u     /* u16 length, multiple of 8 */
#define VMB_VP_NONE 0xFFFFFFFFu              /* target VP: interrupts disabled */
#define VMB_CONNECTION_ID_LEGACY 1u
#define VMB_CONNECTION_ID_MULTI_CLIENT 4u

enum vmb_version {
	VMB_VERSION_V1 = 0x0000000D,
	VMB_VERSION_WIN7 = 0x00010001,
	VMB_VERSION_WIN8 = 0x00020004,
	VMB_VERSION_WIN8_1 = 0x00030000,
	VMB_VERSION_WIN10 = 0x00040000,
	VMB_VERSION_WIN10_RS3_0 = 0x00040001,
	VMB_VERSION_WIN10_RS3_1 = 0x00050000,
	VMB_VERSION_WIN10_RS4 = 0x00050001,
	VMB_VERSION_WIN10_RS5 = 0x00050002,
	VMB_VERSION_IRON = 0x00050003,
	VMB_VERSION_COPPER = 0x00060000,
};
#define VMB_VERSION_COUNT 11u
/* Oldest first. */
extern const uint32_t vmb_versions[VMB_VERSION_COUNT];
bool vmb_version_is_known(uint32_t version);

/* Feature flags (6.0). */
#define VMB_FEATURE_GUEST_SIGNAL_PARAMETERS 0x01u
#define VMB_FEATURE_INTERRUPT_REDIRECTION 0x02u
#define VMB_FEATURE_MODIFY_CONNECTION 0x04u
#define VMB_FEATURE_CLIENT_ID 0x08u
#define VMB_FEATURE_CONFIDENTIAL_CHANNELS 0x10u
#define VMB_FEATURE_PAUSE_RESUME 0x20u
#define VMB_FEATURE_SERVER_MONITOR_PAGES 0x40u
#define VMB_FEATURE_GPA_PINNING 0x80u

/* Offer flags. */
#define VMB_OFFER_ENUMERATE_DEVICE_INTERFACE 0x0001u
#define VMB_OFFER_CONFIDENTIAL_RING 0x0002u
#define VMB_OFFER_CONFIDENTIAL_EXTERNAL 0x0004u
#define VMB_OFFER_PINNED_EXTERNAL 0x0008u
#define VMB_OFFER_NAMED_PIPE 0x0010u
#define VMB_OFFER_LOOPBACK 0x0100u
#define VMB_OFFER_TLNPI_PROVIDER 0x2000u

/* OpenChannel flags. */
#define VMB_OPEN_REDIRECT_INTERRUPT 0x0001u

enum vmb_msg_type {
	VMB_MSG_INVALID = 0,
	VMB_MSG_OFFER_CHANNEL = 1,
	VMB_MSG_RESCIND_OFFER = 2,
	VMB_MSG_REQUEST_OFFERS = 3,
	VMB_MSG_ALL_OFFERS_DELIVERED = 4,
	VMB_MSG_OPEN_CHANNEL = 5,
	VMB_MSG_OPEN_RESULT = 6,
	VMB_MSG_CLOSE_CHANNEL = 7,
	VMB_MSG_GPADL_HEADER = 8,
	VMB_MSG_GPADL_BODY = 9,
	VMB_MSG_GPADL_CREATED = 10,
	VMB_MSG_GPADL_TEARDOWN = 11,
	VMB_MSG_GPADL_TORNDOWN = 12,
	VMB_MSG_REL_ID_RELEASED = 13,
	VMB_MSG_INITIATE_CONTACT = 14,
	VMB_MSG_VERSION_RESPONSE = 15,
	VMB_MSG_UNLOAD = 16,
	VMB_MSG_UNLOAD_COMPLETE = 17,
	VMB_MSG_OPEN_RESERVED = 18,
	VMB_MSG_CLOSE_RESERVED = 19,
	VMB_MSG_CLOSE_RESERVED_RESPONSE = 20,
	VMB_MSG_TL_CONNECT = 21,
	VMB_MSG_MODIFY_CHANNEL = 22,
	VMB_MSG_TL_CONNECT_RESULT = 23,
	VMB_MSG_MODIFY_CHANNEL_RESPONSE = 24,
	VMB_MSG_MODIFY_CONNECTION = 25,
	VMB_MSG_MODIFY_CONNECTION_RESPONSE = 26,
	VMB_MSG_PAUSE = 27,
	VMB_MSG_PAUSE_RESPONSE = 28,
	VMB_MSG_RESUME = 29,
	VMB_MSG_TYPE_END
};

/* A GUID as its 16 wire bytes. */
struct vmb_guid {
	uint8_t bytes[16];
};

struct vmb_msg_offer {
	struct vmb_guid interface_type;
	struct vmb_guid interface_instance;
	uint16_t flags;
	uint16_t mmio_megabytes;
	uint8_t user_data[VMB_OFFER_USER_BYTES];
	uint16_t subchannel_index;
	uint16_t mmio_megabytes_optional;
	uint32_t channel_id;
	uint8_t monitor_id;
	bool monitor_allocated;
	bool is_dedicated;
	uint32_t connection_id;
};

struct vmb_msg_channel {            /* rescind, close, rel-id released, close-reserved response */
	uint32_t channel_id;
};

struct vmb_msg_open {
	uint32_t channel_id;
	uint32_t open_id;
	uint32_t ring_gpadl;
	uint32_t target_vp;
	uint32_t downstream_page_offset; /* 4 KiB pages */
	uint8_t user_data[VMB_OPEN_USER_BYTES];
	uint32_t connection_id;          /* with GUEST_SIGNAL_PARAMETERS, else 0 */
	uint16_t event_flag;             /* with GUEST_SIGNAL_PARAMETERS, else 0 */
	uint16_t open_flags;             /* VMB_OPEN_*; with INTERRUPT_REDIRECTION, else 0 */
};

struct vmb_msg_open_result {
	uint32_t channel_id;
	uint32_t open_id;
	uint32_t status;                 /* 0 = success */
};

struct vmb_msg_gpadl_header {
	uint32_t channel_id;
	uint32_t gpadl_id;
	uint16_t range_bytes;            /* all ranges, over all messages */
	uint16_t range_count;
	uint32_t qword_count;            /* in this message; <= range_bytes / 8 */
	uint64_t qwords[VMB_GPADL_HEADER_QWORDS_MAX];
};

struct vmb_msg_gpadl_body {
	uint32_t message_number;
	uint32_t gpadl_id;
	uint32_t qword_count;            /* >= 1; may be more than are still wanted (padding) */
	uint64_t qwords[VMB_GPADL_BODY_QWORDS_MAX];
};

struct vmb_msg_gpadl {               /* created (status used), teardown, torndown (id only) */
	uint32_t channel_id;
	uint32_t gpadl_id;
	uint32_t status;
};

struct vmb_msg_initiate_contact {
	uint32_t version;
	uint32_t target_message_vp;
	uint64_t interrupt_page;         /* < 5.0 */
	uint8_t target_sint;             /* >= 5.0 */
	uint8_t target_vtl;              /* >= 5.0 on the wire, honoured >= 5.1 */
	uint32_t feature_flags;          /* >= 6.0, else 0 */
	uint64_t monitor_page_to_child;  /* parent -> child, 0 = none */
	uint64_t monitor_page_to_parent;
	struct vmb_guid client_id;       /* with FEATURE_CLIENT_ID, else zero */
};

struct vmb_msg_version_response {
	bool supported;
	uint8_t connection_state;        /* 0 ok, 1 low resources, 2 unknown failure */
	/* < 5.0: the version again; >= 5.0: connection id for messages. */
	uint32_t version_or_connection_id;
	uint32_t feature_flags;          /* >= 6.0 */
	bool has_monitor_pages;          /* 40-byte form */
	uint64_t monitor_page_to_child;
	uint64_t monitor_page_to_parent;
};

struct vmb_msg_reserved {            /* open / close reserved */
	uint32_t channel_id;
	uint32_t target_vp;
	uint32_t target_sint;
	uint32_t ring_gpadl;             /* open only */
	uint32_t downstream_page_offset; /* open only */
};

struct vmb_msg_tl_connect {
	struct vmb_guid endpoint;
	struct vmb_guid service;
	bool has_silo;                   /* >= 5.2, by size */
	struct vmb_guid silo;
	uint32_t status;                 /* result only */
};

struct vmb_msg_modify_channel {      /* request: target_vp; response: status */
	uint32_t channel_id;
	uint32_t target_vp;
	uint32_t status;
};

struct vmb_msg_modify_connection {   /* request: pages; response: connection_state */
	uint64_t monitor_page_to_child;
	uint64_t monitor_page_to_parent;
	uint8_t connection_state;
};

struct vmb_msg {
	enum vmb_msg_type type;
	union {
		struct vmb_msg_offer offer;
		struct vmb_msg_channel channel;
		struct vmb_msg_open open;
		struct vmb_msg_open_result open_result;
		struct vmb_msg_gpadl_header gpadl_header;
		struct vmb_msg_gpadl_body gpadl_body;
		struct vmb_msg_gpadl gpadl;
		struct vmb_msg_initiate_contact initiate_contact;
		struct vmb_msg_version_response version_response;
		struct vmb_msg_reserved reserved;
		struct vmb_msg_tl_connect tl_connect;
		struct vmb_msg_modify_channel modify_channel;
		struct vmb_msg_modify_connection modify_connection;
	};
};

enum vmb_msg_sender {
	VMB_FROM_GUEST,
	VMB_FROM_HOST,
};

/* "OpenChannel", ... or "unknown". Never NULL. */
const char *vmb_msg_type_name(uint32_t type);

/*
 * Decode one message of private memory that `sender` posted. `version` and `features` are the
 * negotiated ones (0, 0 before contact; InitiateContact and VersionResponse bring their own: for a
 * VersionResponse pass the version that was asked for). Messages longer than needed are accepted,
 * up to VMB_MSG_MAX_BYTES. What the version or the features give no meaning comes out as zero,
 * whatever its bytes are: the tail of an offer before 1.1, the connection state before 2.4, feature
 * flags before 6.0, offer flags of features not agreed.
 *
 * Not judged here, because the answer is a failure message and not silence: channel ids from a
 * guest, GPADL lengths and counts, event flags, page offsets, whether one or both monitor pages are
 * given.
 *
 * Returns VMB_OK; VMB_E_MALFORMED (too short, wrong field); VMB_E_UNSUPPORTED (unknown type, or one
 * above the version or feature set); VMB_E_ACCESS (a type that this sender may not send). On
 * failure *why is a sentence without a full stop, msg->type is the type if it is a known one (else
 * 0), and the rest is not to be used; on success *why is left alone.
 */
VMB_MUST_CHECK enum vmb_status vmb_msg_decode(const void *bytes, size_t byte_count,
                                              enum vmb_msg_sender sender, uint32_t version,
                                              uint32_t features, struct vmb_msg *msg,
                                              const char **why);

/*
 * Encode to exactly the size that vmbus-protocol 4.2 lists for this version and feature set.
 * Reserved bytes and fields without a meaning there are zero, but an offer always has its tail,
 * which guests before 1.1 ignore. A VersionResponse that says
 * "unsupported" carries nothing else, and before 2.4 a failed connection is said that way too.
 * CloseReservedChannelResponse: pass the version with which the channel was opened, also when
 * disconnected. `out` has room for VMB_MSG_MAX_BYTES, all of which may be written.
 *
 * Returns the byte count; 0 for a struct that cannot be encoded (a local error): a type above the
 * version or feature set; an offer with a channel id outside 1..2047 or an allocated monitor id
 * above 127; more qwords than fit, a GpadlHeader with more qwords than range_bytes or a length that
 * is not a multiple of 8, an empty GpadlBody; a silo before 5.2; monitor pages in a VersionResponse
 * without the feature or without the page towards the host.
 */
VMB_MUST_CHECK size_t vmb_msg_encode(const struct vmb_msg *msg, uint32_t version, uint32_t features,
                                     void *out);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
