/* SPDX-License-Identifier: MIT */
/*
 * The vectors: every message type and every form of it. Bytes not listed are zero, as the protocol
 * wants.
 */
#include "msg_vectors.h"

#define BYTES(size, ...) .byte_count = (size), .bytes = (const uint8_t[size]){ __VA_ARGS__ }

#define GUID_A                                                                                    \
	0x63, 0x51, 0x61, 0xF8, 0x3E, 0xDF, 0xC5, 0x46, 0x91, 0x3F, 0xF2, 0xD2, 0xF9, 0x65, 0xED, \
	    0x0E
#define GUID_B                                                                                    \
	0x10, 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, 0x19, 0x1A, 0x1B, 0x1C, 0x1D, 0x1E, \
	    0x1F
#define GUID_C                                                                                    \
	0xC0, 0xC1, 0xC2, 0xC3, 0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xCA, 0xCB, 0xCC, 0xCD, 0xCE, \
	    0xCF

#define ALL_FEATURES 0xFFu

/* clang-format off */
const struct t_msg_vector t_msg_vectors[] = {
{
	.name = "offer, 5.3: flags of features that do not exist yet mean nothing",
	.sender = VMB_FROM_HOST, .version = VMB_VERSION_IRON,
	BYTES(196, [0] = 1,
		[8] = GUID_A,
		[24] = GUID_B,
		[56] = 0x11, 0x20,
		[58] = 0x08, 0x01,
		[60] = 0xDD, [179] = 0xEE,
		[180] = 0x02, 0x01,
		[182] = 0x04, 0x03,
		[184] = 0xFF, 0x07, 0x00, 0x00,
		[188] = 0xFF,
		[189] = 0x00,
		[190] = 0x01, 0x00,
		[192] = 0x01, 0x20, 0x03, 0x00),
	.msg = { .type = VMB_MSG_OFFER_CHANNEL, .offer = {
		.interface_type = { { GUID_A } },
		.interface_instance = { { GUID_B } },
		.flags = VMB_OFFER_TLNPI_PROVIDER | VMB_OFFER_NAMED_PIPE |
			 VMB_OFFER_ENUMERATE_DEVICE_INTERFACE,
		.mmio_megabytes = 0x0108,
		.user_data = { [0] = 0xDD, [119] = 0xEE },
		.subchannel_index = 0x0102,
		.mmio_megabytes_optional = 0x0304,
		.channel_id = 2047,
		.monitor_id = 0xFF,
		.is_dedicated = true,
		.connection_id = 0x00032001 } },
},
{
	.name = "offer, 6.0 with confidential channels and pinning",
	.sender = VMB_FROM_HOST, .version = VMB_VERSION_COPPER, .features = 0x90,
	BYTES(196, [0] = 1,
		[8] = GUID_B,
		[24] = GUID_A,
		[56] = 0x0E, 0x00,
		[184] = 0x01, 0x00, 0x00, 0x00,
		[188] = 0x7F,
		[189] = 0x01,
		[192] = 0x11, 0x00, 0x00, 0x00),
	.msg = { .type = VMB_MSG_OFFER_CHANNEL, .offer = {
		.interface_type = { { GUID_B } },
		.interface_instance = { { GUID_A } },
		.flags = VMB_OFFER_CONFIDENTIAL_RING | VMB_OFFER_CONFIDENTIAL_EXTERNAL |
			 VMB_OFFER_PINNED_EXTERNAL,
		.channel_id = 1,
		.monitor_id = 127,
		.monitor_allocated = true,
		.connection_id = 17 } },
},
{
	.name = "offer, 0.13: the old 190 bytes",
	.sender = VMB_FROM_HOST, .version = VMB_VERSION_V1, .decode_only = true,
	BYTES(190, [0] = 1,
		[8] = GUID_A,
		[24] = GUID_B,
		[56] = 0x00, 0x01,
		[184] = 0x05, 0x00, 0x00, 0x00,
		[188] = 0x21,
		[189] = 0x01),
	.msg = { .type = VMB_MSG_OFFER_CHANNEL, .offer = {
		.interface_type = { { GUID_A } },
		.interface_instance = { { GUID_B } },
		.flags = VMB_OFFER_LOOPBACK,
		.channel_id = 5,
		.monitor_id = 33,
		.monitor_allocated = true } },
},
{
	.name = "rescind",
	.sender = VMB_FROM_HOST, .version = VMB_VERSION_V1,
	BYTES(12, [0] = 2, [8] = 0x44, 0x33, 0x22, 0x11),
	.msg = { .type = VMB_MSG_RESCIND_OFFER, .channel = { .channel_id = 0x11223344 } },
},
{
	.name = "request offers",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_V1,
	BYTES(8, [0] = 3),
	.msg = { .type = VMB_MSG_REQUEST_OFFERS },
},
{
	.name = "all offers delivered",
	.sender = VMB_FROM_HOST, .version = VMB_VERSION_V1,
	BYTES(8, [0] = 4),
	.msg = { .type = VMB_MSG_ALL_OFFERS_DELIVERED },
},
{
	.name = "open, 5.3",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_IRON,
	BYTES(148, [0] = 5,
		[8] = 0x01, 0x02, 0x03, 0x04,
		[12] = 0x05, 0x06, 0x07, 0x08,
		[16] = 0x10, 0x1E, 0x0E, 0x00,
		[20] = 0xFF, 0xFF, 0xFF, 0xFF,
		[24] = 0x00, 0x02, 0x00, 0x00,
		[28] = 0xAA, [147] = 0xBB),
	.msg = { .type = VMB_MSG_OPEN_CHANNEL, .open = {
		.channel_id = 0x04030201,
		.open_id = 0x08070605,
		.ring_gpadl = 0xE1E10,
		.target_vp = VMB_VP_NONE,
		.downstream_page_offset = 512,
		.user_data = { [0] = 0xAA, [119] = 0xBB } } },
},
{
	.name = "open, 6.0 with other features only",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_COPPER, .features = ALL_FEATURES & ~3u,
	BYTES(148, [0] = 5, [8] = 0x09, [147] = 0xBC),
	.msg = { .type = VMB_MSG_OPEN_CHANNEL, .open = {
		.channel_id = 9,
		.user_data = { [119] = 0xBC } } },
},
{
	.name = "open, 6.0 with guest signal parameters",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_COPPER, .features = 0x01,
	BYTES(156, [0] = 5,
		[8] = 0x07,
		[147] = 0xBB,
		[148] = 0x55, 0x66, 0x77, 0x00,
		[152] = 0xFE, 0x07),
	.msg = { .type = VMB_MSG_OPEN_CHANNEL, .open = {
		.channel_id = 7,
		.user_data = { [119] = 0xBB },
		.connection_id = 0x776655,
		.event_flag = 2046 } },
},
{
	.name = "open, 6.0 with interrupt redirection",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_COPPER, .features = 0x02,
	BYTES(156, [0] = 5,
		[8] = 0x07,
		[154] = 0x01, 0x00),
	.msg = { .type = VMB_MSG_OPEN_CHANNEL, .open = {
		.channel_id = 7,
		.open_flags = VMB_OPEN_REDIRECT_INTERRUPT } },
},
{
	.name = "open, 6.0 with both",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_COPPER, .features = 0x03,
	BYTES(156, [0] = 5,
		[8] = 0x07,
		[148] = 0x01, 0x20, 0x00, 0x00,
		[152] = 0x02, 0x01,
		[154] = 0x01, 0x00),
	.msg = { .type = VMB_MSG_OPEN_CHANNEL, .open = {
		.channel_id = 7,
		.connection_id = 0x2001,
		.event_flag = 0x0102,
		.open_flags = VMB_OPEN_REDIRECT_INTERRUPT } },
},
{
	.name = "open result",
	.sender = VMB_FROM_HOST, .version = VMB_VERSION_WIN10,
	BYTES(20, [0] = 6,
		[8] = 0x01, 0x00, 0x00, 0x80,
		[12] = 0x02, 0x00, 0x00, 0x90,
		[16] = 0xFF, 0xFF, 0x00, 0x80),
	.msg = { .type = VMB_MSG_OPEN_RESULT, .open_result = {
		.channel_id = 0x80000001, .open_id = 0x90000002, .status = 0x8000FFFF } },
},
{
	.name = "close",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_V1,
	BYTES(12, [0] = 7, [8] = 0x04, 0x03, 0x02, 0x01),
	.msg = { .type = VMB_MSG_CLOSE_CHANNEL, .channel = { .channel_id = 0x01020304 } },
},
{
	.name = "GPADL header: one range of two pages",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_IRON,
	BYTES(44, [0] = 8,
		[8] = 0x0A, 0x00, 0x00, 0x00,
		[12] = 0x10, 0x1E, 0x0E, 0x00,
		[16] = 0x18, 0x00,
		[18] = 0x01, 0x00,
		[20] = 0x00, 0x20, 0x00, 0x00, 0x01, 0x02, 0x00, 0x00,
		[28] = 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
		[36] = 0x21, 0x43, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00),
	.msg = { .type = VMB_MSG_GPADL_HEADER, .gpadl_header = {
		.channel_id = 10,
		.gpadl_id = 0xE1E10,
		.range_bytes = 24,
		.range_count = 1,
		.qword_count = 3,
		.qwords = { 0x0000020100002000, 0x1122334455667788, 0x4321 } } },
},
{
	.name = "GPADL header: full, more to follow",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_IRON,
	BYTES(236, [0] = 8,
		[8] = 0x0A,
		[12] = 0x01,
		[16] = 0xF8, 0xFF,
		[18] = 0x02, 0x03,
		[20] = 0x01, [28] = 0x02, [228] = 0x1B, [235] = 0x80),
	.msg = { .type = VMB_MSG_GPADL_HEADER, .gpadl_header = {
		.channel_id = 10,
		.gpadl_id = 1,
		.range_bytes = 65528,
		.range_count = 0x0302,
		.qword_count = 27,
		.qwords = { [0] = 1, [1] = 2, [26] = 0x800000000000001B } } },
},
{
	.name = "GPADL header: no ranges yet",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_IRON,
	BYTES(20, [0] = 8, [8] = 0x0A, [12] = 0x01, [16] = 0x10, 0x00, [18] = 0x01, 0x00),
	.msg = { .type = VMB_MSG_GPADL_HEADER, .gpadl_header = {
		.channel_id = 10, .gpadl_id = 1, .range_bytes = 16, .range_count = 1 } },
	.tail_has_meaning = true,
},
{
	.name = "GPADL body: one qword",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_IRON,
	BYTES(24, [0] = 9,
		[8] = 0x03, 0x00, 0x00, 0x00,
		[12] = 0x10, 0x1E, 0x0E, 0x00,
		[16] = 0x08, 0x07, 0x06, 0x05, 0x04, 0x03, 0x02, 0x01),
	.msg = { .type = VMB_MSG_GPADL_BODY, .gpadl_body = {
		.message_number = 3,
		.gpadl_id = 0xE1E10,
		.qword_count = 1,
		.qwords = { 0x0102030405060708 } } },
	.tail_has_meaning = true,
},
{
	.name = "GPADL body: full",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_IRON,
	BYTES(240, [0] = 9, [12] = 0x02, [16] = 0x01, [24] = 0x02, [232] = 0x1C, [239] = 0x40),
	.msg = { .type = VMB_MSG_GPADL_BODY, .gpadl_body = {
		.gpadl_id = 2,
		.qword_count = 28,
		.qwords = { [0] = 1, [1] = 2, [27] = 0x400000000000001C } } },
},
{
	.name = "GPADL created",
	.sender = VMB_FROM_HOST, .version = VMB_VERSION_V1,
	BYTES(20, [0] = 10,
		[8] = 0x01, 0x02, 0x00, 0x00,
		[12] = 0x03, 0x04, 0x05, 0x06,
		[16] = 0xFF, 0xFF, 0x00, 0x80),
	.msg = { .type = VMB_MSG_GPADL_CREATED, .gpadl = {
		.channel_id = 0x0201, .gpadl_id = 0x06050403, .status = 0x8000FFFF } },
},
{
	.name = "GPADL teardown",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_V1,
	BYTES(16, [0] = 11,
		[8] = 0x01, 0x02, 0x00, 0x00,
		[12] = 0x03, 0x04, 0x05, 0x06),
	.msg = { .type = VMB_MSG_GPADL_TEARDOWN, .gpadl = {
		.channel_id = 0x0201, .gpadl_id = 0x06050403 } },
},
{
	.name = "GPADL torndown",
	.sender = VMB_FROM_HOST, .version = VMB_VERSION_V1,
	BYTES(12, [0] = 12, [8] = 0x03, 0x04, 0x05, 0x06),
	.msg = { .type = VMB_MSG_GPADL_TORNDOWN, .gpadl = { .gpadl_id = 0x06050403 } },
},
{
	.name = "rel-id released",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_V1,
	BYTES(12, [0] = 13, [8] = 0x2A, 0x00, 0x00, 0x00),
	.msg = { .type = VMB_MSG_REL_ID_RELEASED, .channel = { .channel_id = 42 } },
},
{
	.name = "initiate contact, 4.1: an interrupt page",
	.sender = VMB_FROM_GUEST,
	BYTES(40, [0] = 14,
		[8] = 0x01, 0x00, 0x04, 0x00,
		[12] = 0x04, 0x03, 0x02, 0x01,
		[16] = 0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70,
		[24] = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
		[32] = 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18),
	.msg = { .type = VMB_MSG_INITIATE_CONTACT, .initiate_contact = {
		.version = VMB_VERSION_WIN10_RS3_0,
		.target_message_vp = 0x01020304,
		.interrupt_page = 0x7060504030201000,
		.monitor_page_to_child = 0x0807060504030201,
		.monitor_page_to_parent = 0x1817161514131211 } },
},
{
	.name = "initiate contact, 5.0: a SINT and a VTL",
	.sender = VMB_FROM_GUEST,
	BYTES(40, [0] = 14,
		[8] = 0x00, 0x00, 0x05, 0x00,
		[12] = 0x01,
		[16] = 0x02, 0x01),
	.msg = { .type = VMB_MSG_INITIATE_CONTACT, .initiate_contact = {
		.version = VMB_VERSION_WIN10_RS3_1,
		.target_message_vp = 1,
		.target_sint = 2,
		.target_vtl = 1 } },
},
{
	.name = "initiate contact, 6.0: feature flags",
	.sender = VMB_FROM_GUEST,
	BYTES(40, [0] = 14,
		[8] = 0x00, 0x00, 0x06, 0x00,
		[16] = 0x02, 0x00, 0x00, 0x00, 0xF7, 0x12, 0x34, 0x56),
	.msg = { .type = VMB_MSG_INITIATE_CONTACT, .initiate_contact = {
		.version = VMB_VERSION_COPPER,
		.target_sint = 2,
		.feature_flags = 0x563412F7 } },
},
{
	.name = "initiate contact, 6.0 with a client id",
	.sender = VMB_FROM_GUEST,
	BYTES(56, [0] = 14,
		[8] = 0x00, 0x00, 0x06, 0x00,
		[16] = 0x02, 0x00, 0x00, 0x00, 0x0F, 0x00, 0x00, 0x00,
		[32] = 0x00, 0x10,
		[40] = GUID_C),
	.msg = { .type = VMB_MSG_INITIATE_CONTACT, .initiate_contact = {
		.version = VMB_VERSION_COPPER,
		.target_sint = 2,
		.feature_flags = 0x0F,
		.monitor_page_to_parent = 0x1000,
		.client_id = { { GUID_C } } } },
},
{
	.name = "version response: unsupported",
	.sender = VMB_FROM_HOST, .version = VMB_VERSION_COPPER,
	BYTES(16, [0] = 15),
	.msg = { .type = VMB_MSG_VERSION_RESPONSE },
},
{
	.name = "version response, 2.4: no resources",
	.sender = VMB_FROM_HOST, .version = VMB_VERSION_WIN8,
	BYTES(16, [0] = 15, [8] = 0x01, [9] = 0x01, [12] = 0x04, 0x00, 0x02, 0x00),
	.msg = { .type = VMB_MSG_VERSION_RESPONSE, .version_response = {
		.supported = true,
		.connection_state = 1,
		.version_or_connection_id = VMB_VERSION_WIN8 } },
},
{
	.name = "version response, 5.0: a connection id",
	.sender = VMB_FROM_HOST, .version = VMB_VERSION_WIN10_RS3_1,
	BYTES(16, [0] = 15, [8] = 0x01, [12] = 0x74, 0x00, 0x80, 0x00),
	.msg = { .type = VMB_MSG_VERSION_RESPONSE, .version_response = {
		.supported = true,
		.version_or_connection_id = 0x800074 } },
},
{
	.name = "version response, 6.0: feature flags",
	.sender = VMB_FROM_HOST, .version = VMB_VERSION_COPPER,
	BYTES(20, [0] = 15, [8] = 0x01, [12] = 0x01, [16] = 0xBF, 0x01, 0x02, 0x03),
	.msg = { .type = VMB_MSG_VERSION_RESPONSE, .version_response = {
		.supported = true,
		.version_or_connection_id = 1,
		.feature_flags = 0x030201BF } },
},
{
	.name = "version response, 6.0: monitor pages agreed and not provided",
	.sender = VMB_FROM_HOST, .version = VMB_VERSION_COPPER,
	BYTES(20, [0] = 15, [8] = 0x01, [12] = 0x01, [16] = 0x40),
	.msg = { .type = VMB_MSG_VERSION_RESPONSE, .version_response = {
		.supported = true,
		.version_or_connection_id = 1,
		.feature_flags = 0x40 } },
	.tail_has_meaning = true,
},
{
	.name = "version response, 6.0: monitor pages",
	.sender = VMB_FROM_HOST, .version = VMB_VERSION_COPPER,
	BYTES(40, [0] = 15, [8] = 0x01, [12] = 0x01, [16] = 0x41,
		[24] = 0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60, 0x70,
		[32] = 0x00, 0x11, 0x21, 0x31, 0x41, 0x51, 0x61, 0x71),
	.msg = { .type = VMB_MSG_VERSION_RESPONSE, .version_response = {
		.supported = true,
		.version_or_connection_id = 1,
		.feature_flags = 0x41,
		.has_monitor_pages = true,
		.monitor_page_to_child = 0x7060504030201000,
		.monitor_page_to_parent = 0x7161514131211100 } },
},
{
	.name = "unload",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_V1,
	BYTES(8, [0] = 16),
	.msg = { .type = VMB_MSG_UNLOAD },
},
{
	.name = "unload complete",
	.sender = VMB_FROM_HOST, .version = VMB_VERSION_WIN7,
	BYTES(8, [0] = 17),
	.msg = { .type = VMB_MSG_UNLOAD_COMPLETE },
},
{
	.name = "open reserved",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_WIN10,
	BYTES(28, [0] = 18,
		[8] = 0x01, 0x02, 0x03, 0x04,
		[12] = 0x05, 0x06, 0x07, 0x08,
		[16] = 0x09, 0x0A, 0x0B, 0x0C,
		[20] = 0x0D, 0x0E, 0x0F, 0x10,
		[24] = 0x11, 0x12, 0x13, 0x14),
	.msg = { .type = VMB_MSG_OPEN_RESERVED, .reserved = {
		.channel_id = 0x04030201,
		.target_vp = 0x08070605,
		.target_sint = 0x0C0B0A09,
		.ring_gpadl = 0x100F0E0D,
		.downstream_page_offset = 0x14131211 } },
},
{
	.name = "close reserved, without a connection",
	.sender = VMB_FROM_GUEST,
	BYTES(20, [0] = 19,
		[8] = 0x01, 0x02, 0x03, 0x04,
		[12] = 0x05, 0x06, 0x07, 0x08,
		[16] = 0x09, 0x0A, 0x0B, 0x0C),
	.msg = { .type = VMB_MSG_CLOSE_RESERVED, .reserved = {
		.channel_id = 0x04030201,
		.target_vp = 0x08070605,
		.target_sint = 0x0C0B0A09 } },
},
{
	.name = "close reserved response",
	.sender = VMB_FROM_HOST, .version = VMB_VERSION_WIN10,
	BYTES(12, [0] = 20, [8] = 0x01, 0x02, 0x03, 0x04),
	.msg = { .type = VMB_MSG_CLOSE_RESERVED_RESPONSE, .channel = { .channel_id = 0x04030201 } },
},
{
	.name = "socket connect, 5.1",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_WIN10_RS4,
	BYTES(40, [0] = 21, [8] = GUID_A, [24] = GUID_B),
	.msg = { .type = VMB_MSG_TL_CONNECT, .tl_connect = {
		.endpoint = { { GUID_A } }, .service = { { GUID_B } } } },
},
{
	.name = "socket connect, 5.2 without a silo",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_WIN10_RS5,
	BYTES(40, [0] = 21, [8] = GUID_A, [24] = GUID_B),
	.msg = { .type = VMB_MSG_TL_CONNECT, .tl_connect = {
		.endpoint = { { GUID_A } }, .service = { { GUID_B } } } },
	.tail_has_meaning = true,
},
{
	.name = "socket connect, 5.2 with a silo",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_WIN10_RS5,
	BYTES(56, [0] = 21, [8] = GUID_A, [24] = GUID_B, [40] = GUID_C),
	.msg = { .type = VMB_MSG_TL_CONNECT, .tl_connect = {
		.endpoint = { { GUID_A } }, .service = { { GUID_B } },
		.has_silo = true, .silo = { { GUID_C } } } },
},
{
	.name = "modify channel",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_WIN10_RS3_0,
	BYTES(16, [0] = 22, [8] = 0x01, 0x02, 0x03, 0x04, [12] = 0x05, 0x06, 0x07, 0x08),
	.msg = { .type = VMB_MSG_MODIFY_CHANNEL, .modify_channel = {
		.channel_id = 0x04030201, .target_vp = 0x08070605 } },
},
{
	.name = "socket connect result",
	.sender = VMB_FROM_HOST, .version = VMB_VERSION_WIN10_RS3_0,
	BYTES(44, [0] = 23, [8] = GUID_C, [24] = GUID_A, [40] = 0x36, 0x02, 0x00, 0xC0),
	.msg = { .type = VMB_MSG_TL_CONNECT_RESULT, .tl_connect = {
		.endpoint = { { GUID_C } }, .service = { { GUID_A } }, .status = 0xC0000236 } },
},
{
	.name = "modify channel response",
	.sender = VMB_FROM_HOST, .version = VMB_VERSION_IRON,
	BYTES(16, [0] = 24, [8] = 0x01, 0x02, 0x03, 0x04, [12] = 0x05, 0x06, 0x07, 0x88),
	.msg = { .type = VMB_MSG_MODIFY_CHANNEL_RESPONSE, .modify_channel = {
		.channel_id = 0x04030201, .status = 0x88070605 } },
},
{
	.name = "modify connection",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_COPPER, .features = 0x04,
	BYTES(24, [0] = 25,
		[8] = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x07, 0x08,
		[16] = 0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18),
	.msg = { .type = VMB_MSG_MODIFY_CONNECTION, .modify_connection = {
		.monitor_page_to_child = 0x0807060504030201,
		.monitor_page_to_parent = 0x1817161514131211 } },
},
{
	.name = "modify connection response",
	.sender = VMB_FROM_HOST, .version = VMB_VERSION_COPPER, .features = 0x04,
	BYTES(9, [0] = 26, [8] = 0x02),
	.msg = { .type = VMB_MSG_MODIFY_CONNECTION_RESPONSE, .modify_connection = {
		.connection_state = 2 } },
},
{
	.name = "pause",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_COPPER, .features = 0x20,
	BYTES(8, [0] = 27),
	.msg = { .type = VMB_MSG_PAUSE },
},
{
	.name = "pause response",
	.sender = VMB_FROM_HOST, .version = VMB_VERSION_COPPER, .features = 0x20,
	BYTES(8, [0] = 28),
	.msg = { .type = VMB_MSG_PAUSE_RESPONSE },
},
{
	.name = "resume",
	.sender = VMB_FROM_GUEST, .version = VMB_VERSION_COPPER, .features = 0x20,
	BYTES(8, [0] = 29),
	.msg = { .type = VMB_MSG_RESUME },
},
};
/* clang-format on */

const size_t t_msg_vector_count = T_COUNT(t_msg_vectors);
