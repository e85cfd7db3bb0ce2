/* SPDX-License-Identifier: MIT */
/*
 * Forms of control messages that depend on version, feature or size, and the field checks of single
 * types.
 */
#include "msg_vectors.h"

#define ALL_FEATURES 0xFFu

static struct vmb_msg msg;
static const char *why;

static enum vmb_status
decode(const uint8_t *bytes, size_t byte_count, enum vmb_msg_sender sender, uint32_t version,
       uint32_t features)
{
	uint8_t *copy = t_exact_copy(bytes, byte_count);
	enum vmb_status st;

	why = NULL;
	st = vmb_msg_decode(copy, byte_count, sender, version, features, &msg, &why);
	free(copy);
	assert_int_equal(why == NULL, st == VMB_OK);
	return st;
}

static size_t
encode(const struct vmb_msg *m, uint32_t version, uint32_t features)
{
	uint8_t out[VMB_MSG_MAX_BYTES];

	return vmb_msg_encode(m, version, features, out);
}

/* ---- offer ---------------------------------------------------------------------------------- */

static void
offer_bytes(uint8_t bytes[196], uint32_t channel_id)
{
	memset(bytes, 0, 196);
	bytes[0] = 1;
	bytes[184] = (uint8_t)channel_id;
	bytes[185] = (uint8_t)(channel_id >> 8);
	bytes[186] = (uint8_t)(channel_id >> 16);
	bytes[187] = (uint8_t)(channel_id >> 24);
}

static void
offer_of_190_bytes_is_accepted_only_before_1_1(void **state)
{
	uint8_t bytes[196];

	(void)state;
	offer_bytes(bytes, 1);
	assert_int_equal(decode(bytes, 190, VMB_FROM_HOST, VMB_VERSION_V1, 0), VMB_OK);
	assert_int_equal(decode(bytes, 189, VMB_FROM_HOST, VMB_VERSION_V1, 0), VMB_E_MALFORMED);
	assert_int_equal(decode(bytes, 190, VMB_FROM_HOST, VMB_VERSION_WIN7, 0), VMB_E_MALFORMED);
	assert_int_equal(decode(bytes, 195, VMB_FROM_HOST, VMB_VERSION_WIN7, 0), VMB_E_MALFORMED);
	assert_int_equal(decode(bytes, 196, VMB_FROM_HOST, VMB_VERSION_WIN7, 0), VMB_OK);
}

static void
offer_tail_is_ignored_before_1_1(void **state)
{
	uint8_t bytes[196];

	(void)state;
	offer_bytes(bytes, 1);
	memset(bytes + 190, 0xFF, 6);
	assert_int_equal(decode(bytes, 196, VMB_FROM_HOST, VMB_VERSION_V1, 0), VMB_OK);
	assert_false(msg.offer.is_dedicated);
	assert_int_equal(msg.offer.connection_id, 0);
	assert_int_equal(decode(bytes, 196, VMB_FROM_HOST, VMB_VERSION_WIN7, 0), VMB_OK);
	assert_true(msg.offer.is_dedicated);
	assert_int_equal(msg.offer.connection_id, UINT32_MAX);
}

static void
offer_needs_a_channel_id_of_1_to_2047(void **state)
{
	static const struct {
		uint32_t channel_id;
		bool good;
	} cases[] = { { 0, false }, { 1, true }, { 2046, true }, { 2047, true }, { 2048, false },
		      { 0x01000001, false }, { UINT32_MAX, false } };

	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		struct vmb_msg offer = { .type = VMB_MSG_OFFER_CHANNEL,
			                 .offer.channel_id = cases[i].channel_id };
		uint8_t bytes[196];

		offer_bytes(bytes, cases[i].channel_id);
		assert_int_equal(decode(bytes, 196, VMB_FROM_HOST, VMB_VERSION_IRON, 0),
		                 cases[i].good ? VMB_OK : VMB_E_MALFORMED);
		assert_int_equal(encode(&offer, VMB_VERSION_IRON, 0), cases[i].good ? 196 : 0);
	}
}

static void
offer_with_an_allocated_monitor_needs_an_id_up_to_127(void **state)
{
	static const struct {
		uint8_t id;
		bool allocated;
		bool good;
	} cases[] = { { 127, true, true }, { 128, true, false }, { 0xFF, true, false },
		      { 128, false, true }, { 0xFF, false, true } };

	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		struct vmb_msg offer = { .type = VMB_MSG_OFFER_CHANNEL,
			                 .offer = { .channel_id = 1,
			                            .monitor_id = cases[i].id,
			                            .monitor_allocated = cases[i].allocated } };
		uint8_t bytes[196];

		offer_bytes(bytes, 1);
		bytes[188] = cases[i].id;
		bytes[189] = cases[i].allocated;
		assert_int_equal(decode(bytes, 196, VMB_FROM_HOST, VMB_VERSION_IRON, 0),
		                 cases[i].good ? VMB_OK : VMB_E_MALFORMED);
		assert_int_equal(encode(&offer, VMB_VERSION_IRON, 0), cases[i].good ? 196 : 0);
	}
}

static void
offer_flags_of_missing_features_are_neither_sent_nor_believed(void **state)
{
	static const struct {
		uint32_t version;
		uint32_t features;
		uint16_t flags;
	} cases[] = {
		{ VMB_VERSION_COPPER, 0, 0xFFF1 },
		{ VMB_VERSION_COPPER, VMB_FEATURE_CONFIDENTIAL_CHANNELS, 0xFFF7 },
		{ VMB_VERSION_COPPER, VMB_FEATURE_GPA_PINNING, 0xFFF9 },
		{ VMB_VERSION_COPPER, ALL_FEATURES, 0xFFFF },
		{ VMB_VERSION_IRON, ALL_FEATURES, 0xFFF1 },
	};

	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		struct vmb_msg offer = { .type = VMB_MSG_OFFER_CHANNEL,
			                 .offer = { .channel_id = 1, .flags = 0xFFFF } };
		uint8_t out[VMB_MSG_MAX_BYTES];
		uint8_t bytes[196];

		offer_bytes(bytes, 1);
		bytes[56] = bytes[57] = 0xFF;
		assert_int_equal(
		    decode(bytes, 196, VMB_FROM_HOST, cases[i].version, cases[i].features), VMB_OK);
		assert_int_equal(msg.offer.flags, cases[i].flags);
		assert_int_equal(vmb_msg_encode(&offer, cases[i].version, cases[i].features, out),
				 196);
		assert_int_equal(out[56] | out[57] << 8, cases[i].flags);
	}
}

static void
offer_reserved_bytes_and_bits_are_ignored(void **state)
{
	uint8_t bytes[196];

	(void)state;
	offer_bytes(bytes, 1);
	memset(bytes + 40, 0xFF, 16);
	bytes[189] = 0xFE;
	bytes[190] = 0xFE;
	bytes[191] = 0xFF;
	assert_int_equal(decode(bytes, 196, VMB_FROM_HOST, VMB_VERSION_IRON, 0), VMB_OK);
	assert_false(msg.offer.monitor_allocated);
	assert_false(msg.offer.is_dedicated);
}

/* ---- open ----------------------------------------------------------------------------------- */

static void
open_needs_156_bytes_with_either_feature_and_148_otherwise(void **state)
{
	static const struct {
		uint32_t version;
		uint32_t features;
		size_t bytes;
	} cases[] = {
		{ VMB_VERSION_V1, 0, 148 },
		{ VMB_VERSION_IRON, ALL_FEATURES, 148 },
		{ VMB_VERSION_COPPER, 0, 148 },
		{ VMB_VERSION_COPPER, ALL_FEATURES & ~3u, 148 },
		{ VMB_VERSION_COPPER, VMB_FEATURE_GUEST_SIGNAL_PARAMETERS, 156 },
		{ VMB_VERSION_COPPER, VMB_FEATURE_INTERRUPT_REDIRECTION, 156 },
		{ VMB_VERSION_COPPER, ALL_FEATURES, 156 },
	};

	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		const struct vmb_msg open = { .type = VMB_MSG_OPEN_CHANNEL };
		uint8_t bytes[156] = { 5 };

		assert_int_equal(encode(&open, cases[i].version, cases[i].features),
				 cases[i].bytes);
		assert_int_equal(decode(bytes, cases[i].bytes, VMB_FROM_GUEST, cases[i].version,
		                        cases[i].features),
		                 VMB_OK);
		assert_int_equal(decode(bytes, cases[i].bytes - 1, VMB_FROM_GUEST, cases[i].version,
		                        cases[i].features),
		                 VMB_E_MALFORMED);
	}
}

static void
open_fields_of_missing_features_are_neither_sent_nor_believed(void **state)
{
	static const struct {
		uint32_t features;
		uint32_t connection_id;
		uint16_t event_flag;
		uint16_t open_flags;
	} cases[] = {
		{ 0, 0, 0, 0 },
		{ VMB_FEATURE_GUEST_SIGNAL_PARAMETERS, UINT32_MAX, UINT16_MAX, 0 },
		{ VMB_FEATURE_INTERRUPT_REDIRECTION, 0, 0, 1 },
		{ 3, UINT32_MAX, UINT16_MAX, 1 },
	};

	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		const struct vmb_msg open = { .type = VMB_MSG_OPEN_CHANNEL,
			                      .open = { .connection_id = UINT32_MAX,
			                                .event_flag = UINT16_MAX,
			                                .open_flags = UINT16_MAX } };
		uint8_t bytes[156] = { 5 };
		uint8_t out[VMB_MSG_MAX_BYTES];
		size_t byte_count;

		memset(bytes + 148, 0xFF, 8);
		assert_int_equal(decode(bytes, 156, VMB_FROM_GUEST, VMB_VERSION_COPPER,
		                        cases[i].features),
		                 VMB_OK);
		assert_int_equal(msg.open.connection_id, cases[i].connection_id);
		assert_int_equal(msg.open.event_flag, cases[i].event_flag);
		assert_int_equal(msg.open.open_flags, cases[i].open_flags);

		byte_count = vmb_msg_encode(&open, VMB_VERSION_COPPER, cases[i].features, out);
		memset(&msg, 0xFF, sizeof(msg));
		assert_int_equal(decode(out, byte_count, VMB_FROM_GUEST, VMB_VERSION_COPPER, 3),
		                 byte_count == 156 ? VMB_OK : VMB_E_MALFORMED);
		if (byte_count != 156)
			continue;
		assert_int_equal(msg.open.connection_id, cases[i].connection_id);
		assert_int_equal(msg.open.event_flag, cases[i].event_flag);
		assert_int_equal(msg.open.open_flags, cases[i].open_flags);
	}
}

static void
guest_messages_with_impossible_channel_ids_reach_the_bus(void **state)
{
	/* These are owed a failure message, which only the bus can give. */
	static const uint8_t types[] = { VMB_MSG_OPEN_CHANNEL, VMB_MSG_GPADL_HEADER,
		                         VMB_MSG_MODIFY_CHANNEL };

	(void)state;
	for (size_t i = 0; i < T_COUNT(types); i++) {
		uint8_t bytes[VMB_MSG_MAX_BYTES] = { types[i] };

		assert_int_equal(decode(bytes, sizeof(bytes), VMB_FROM_GUEST, VMB_VERSION_IRON, 0),
		                 VMB_OK);
		memset(bytes + 8, 0xFF, 4);
		assert_int_equal(decode(bytes, sizeof(bytes), VMB_FROM_GUEST, VMB_VERSION_IRON, 0),
		                 VMB_OK);
	}
}

/* ---- GPADL ---------------------------------------------------------------------------------- */

static void
gpadl_header_counts_only_whole_qwords(void **state)
{
	uint8_t bytes[VMB_MSG_MAX_BYTES] = { [0] = 8, [16] = 0xF8, [17] = 0xFF };

	(void)state;
	for (size_t byte_count = 20; byte_count <= VMB_MSG_MAX_BYTES; byte_count++) {
		assert_int_equal(decode(bytes, byte_count, VMB_FROM_GUEST, VMB_VERSION_IRON, 0),
		                 VMB_OK);
		assert_int_equal(msg.gpadl_header.qword_count, (byte_count - 20) / 8);
	}
	assert_int_equal(msg.gpadl_header.qword_count, VMB_GPADL_HEADER_QWORDS_MAX);
}

static void
gpadl_header_ignores_what_lies_behind_the_announced_length(void **state)
{
	uint8_t bytes[VMB_MSG_MAX_BYTES] = { [0] = 8, [20] = 1, [28] = 2, [36] = 3 };

	(void)state;
	for (uint32_t range_bytes = 0; range_bytes <= 255; range_bytes++) {
		uint32_t qwords = range_bytes / 8 < 27 ? range_bytes / 8 : 27;

		bytes[16] = (uint8_t)range_bytes;
		assert_int_equal(decode(bytes, sizeof(bytes), VMB_FROM_GUEST, VMB_VERSION_IRON, 0),
		                 VMB_OK);
		assert_int_equal(msg.gpadl_header.range_bytes, range_bytes);
		assert_int_equal(msg.gpadl_header.qword_count, qwords);
		for (uint32_t i = qwords; i < VMB_GPADL_HEADER_QWORDS_MAX; i++)
			assert_int_equal(msg.gpadl_header.qwords[i], 0);
	}
}

static void
gpadl_header_is_encoded_only_with_a_consistent_length(void **state)
{
	static const struct {
		uint16_t range_bytes;
		uint32_t qwords;
		size_t bytes;
	} cases[] = {
		{ 0, 0, 20 },     { 8, 0, 20 },       { 8, 1, 28 },       { 8, 2, 0 },
		{ 7, 0, 0 },      { 9, 1, 0 },        { 56, 7, 76 },   { 56, 8, 0 },
		{ 216, 26, 228 },   { 216, 27, 236 },
		{ 65528, 27, 236 }, { 65528, 28, 0 }, { 65535, 1, 0 },    { 65528, UINT32_MAX, 0 },
	};

	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		struct vmb_msg header = { .type = VMB_MSG_GPADL_HEADER,
			                  .gpadl_header = { .range_bytes = cases[i].range_bytes,
			                                    .qword_count = cases[i].qwords } };

		assert_int_equal(encode(&header, VMB_VERSION_IRON, 0), cases[i].bytes);
	}
}

static void
gpadl_body_counts_only_whole_qwords(void **state)
{
	uint8_t bytes[VMB_MSG_MAX_BYTES] = { 9 };

	(void)state;
	for (size_t byte_count = 24; byte_count <= VMB_MSG_MAX_BYTES; byte_count++) {
		assert_int_equal(decode(bytes, byte_count, VMB_FROM_GUEST, VMB_VERSION_IRON, 0),
		                 VMB_OK);
		assert_int_equal(msg.gpadl_body.qword_count, (byte_count - 16) / 8);
	}
	assert_int_equal(msg.gpadl_body.qword_count, VMB_GPADL_BODY_QWORDS_MAX);
}

static void
gpadl_body_that_brings_nothing_is_malformed(void **state)
{
	uint8_t bytes[24] = { 9 };

	(void)state;
	for (size_t byte_count = 16; byte_count < 24; byte_count++) {
		assert_int_equal(decode(bytes, byte_count, VMB_FROM_GUEST, VMB_VERSION_IRON, 0),
		                 VMB_E_MALFORMED);
		assert_non_null(strstr(why, "without any range data"));
	}
}

static void
gpadl_body_is_encoded_with_1_to_28_qwords(void **state)
{
	static const struct {
		uint32_t qwords;
		size_t bytes;
	} cases[] = { { 0, 0 },     { 1, 24 }, { 27, 232 },
		      { 28, 240 }, { 29, 0 }, { UINT32_MAX, 0 } };

	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		struct vmb_msg body = { .type = VMB_MSG_GPADL_BODY,
			                .gpadl_body = { .qword_count = cases[i].qwords } };

		assert_int_equal(encode(&body, VMB_VERSION_IRON, 0), cases[i].bytes);
	}
}

/* ---- InitiateContact ------------------------------------------------------------------------ */

static void
contact_fields_follow_the_version_that_it_asks_for(void **state)
{
	static const struct {
		uint32_t version;
		bool page;
		bool target;
		bool flags;
	} cases[] = {
		{ 0, true, false, false },
		{ VMB_VERSION_V1, true, false, false },
		{ VMB_VERSION_WIN10_RS3_0, true, false, false },
		{ VMB_VERSION_WIN10_RS3_1, false, true, false },
		{ VMB_VERSION_IRON, false, true, false },
		{ VMB_VERSION_COPPER, false, true, true },
		{ 0x00070000, false, true, true },
	};

	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		uint8_t bytes[56] = { [0] = 14, [16] = 2, 3, 0xEE, 0xEE, 0xF7, 0xFF, 0xFF, 0xFF };

		bytes[8] = (uint8_t)cases[i].version;
		bytes[10] = (uint8_t)(cases[i].version >> 16);
		assert_int_equal(decode(bytes, 40, VMB_FROM_GUEST, 0, 0), VMB_OK);
		assert_int_equal(msg.initiate_contact.version, cases[i].version);
		assert_true(msg.initiate_contact.interrupt_page ==
		            (cases[i].page ? 0xFFFFFFF7EEEE0302u : 0));
		assert_int_equal(msg.initiate_contact.target_sint, cases[i].target ? 2 : 0);
		assert_int_equal(msg.initiate_contact.target_vtl, cases[i].target ? 3 : 0);
		assert_int_equal(msg.initiate_contact.feature_flags,
				 cases[i].flags ? 0xFFFFFFF7 : 0);
	}
}

static void
contact_reserved_bytes_are_sent_as_zero(void **state)
{
	struct vmb_msg contact = { .type = VMB_MSG_INITIATE_CONTACT,
		                   .initiate_contact = { .version = VMB_VERSION_IRON,
		                                         .interrupt_page = UINT64_MAX,
		                                         .target_sint = 2,
		                                         .feature_flags = UINT32_MAX } };
	static const uint8_t expected[8] = { 2 };
	uint8_t out[VMB_MSG_MAX_BYTES];

	(void)state;
	assert_int_equal(vmb_msg_encode(&contact, 0, 0, out), 40);
	assert_memory_equal(out + 16, expected, 8);
}

static void
contact_with_client_id_feature_needs_56_bytes(void **state)
{
	uint8_t bytes[56] = { [0] = 14, [10] = 6, [20] = 8, [40] = 0xC0, [55] = 0xCF };

	(void)state;
	assert_int_equal(decode(bytes, 40, VMB_FROM_GUEST, 0, 0), VMB_E_MALFORMED);
	assert_int_equal(decode(bytes, 55, VMB_FROM_GUEST, 0, 0), VMB_E_MALFORMED);
	assert_non_null(strstr(why, "client id"));
	assert_int_equal(decode(bytes, 56, VMB_FROM_GUEST, 0, 0), VMB_OK);
	assert_int_equal(msg.initiate_contact.client_id.bytes[0], 0xC0);
	assert_int_equal(msg.initiate_contact.client_id.bytes[15], 0xCF);
}

static void
contact_without_client_id_feature_ignores_the_tail(void **state)
{
	uint8_t bytes[56] = { [0] = 14, [10] = 6, [20] = 7, [40] = 0xC0 };

	(void)state;
	assert_int_equal(decode(bytes, 56, VMB_FROM_GUEST, 0, 0), VMB_OK);
	assert_int_equal(msg.initiate_contact.client_id.bytes[0], 0);
}

static void
contact_of_an_unknown_version_is_never_malformed_by_its_features(void **state)
{
	/* It is owed the answer "unsupported", or its sender never tries an older version. */
	uint8_t bytes[40] = { [0] = 14, [10] = 7, [20] = 0xFF };

	(void)state;
	assert_int_equal(decode(bytes, 40, VMB_FROM_GUEST, 0, 0), VMB_OK);
	assert_int_equal(msg.initiate_contact.version, 0x00070000);
}

/* ---- VersionResponse ------------------------------------------------------------------------ */

static void
version_response_size_follows_version_and_content(void **state)
{
	static const struct {
		uint32_t version;
		struct vmb_msg_version_response response;
		size_t bytes;
	} cases[] = {
		{ VMB_VERSION_IRON, { .supported = true }, 16 },
		{ VMB_VERSION_IRON, { .supported = true, .feature_flags = 0x40 }, 16 },
		{ VMB_VERSION_COPPER, { .supported = false, .feature_flags = 0x40 }, 16 },
		{ VMB_VERSION_COPPER, { .supported = true }, 20 },
		{ VMB_VERSION_COPPER, { .supported = true, .feature_flags = 0x40 }, 20 },
		{ VMB_VERSION_COPPER,
		  { .supported = true,
		    .feature_flags = 0x40,
		    .has_monitor_pages = true,
		    .monitor_page_to_parent = 0x1000 },
		  40 },
		/* Pages that cannot be said. */
		{ VMB_VERSION_IRON,
		  { .supported = true,
		    .has_monitor_pages = true,
		    .monitor_page_to_parent = 0x1000 },
		  0 },
		{ VMB_VERSION_COPPER,
		  { .supported = true,
		    .feature_flags = 0xBF,
		    .has_monitor_pages = true,
		    .monitor_page_to_parent = 0x1000 },
		  0 },
		{ VMB_VERSION_COPPER,
		  { .supported = true,
		    .feature_flags = 0x40,
		    .has_monitor_pages = true,
		    .monitor_page_to_child = 0x1000 },
		  0 },
	};

	(void)state;
	for (size_t i = 0; i < T_COUNT(cases); i++) {
		const struct vmb_msg response = { .type = VMB_MSG_VERSION_RESPONSE,
			                          .version_response = cases[i].response };

		assert_int_equal(encode(&response, cases[i].version, 0), cases[i].bytes);
	}
}

static void
version_response_to_6_0_needs_feature_flags_only_if_supported(void **state)
{
	uint8_t bytes[20] = { [0] = 15, [16] = 0xFF };

	(void)state;
	assert_int_equal(decode(bytes, 16, VMB_FROM_HOST, VMB_VERSION_COPPER, 0), VMB_OK);
	assert_false(msg.version_response.supported);
	assert_int_equal(decode(bytes, 20, VMB_FROM_HOST, VMB_VERSION_COPPER, 0), VMB_OK);
	assert_int_equal(msg.version_response.feature_flags, 0);
	bytes[8] = 1;
	assert_int_equal(decode(bytes, 16, VMB_FROM_HOST, VMB_VERSION_COPPER, 0), VMB_E_MALFORMED);
	assert_int_equal(decode(bytes, 19, VMB_FROM_HOST, VMB_VERSION_COPPER, 0), VMB_E_MALFORMED);
	assert_int_equal(decode(bytes, 20, VMB_FROM_HOST, VMB_VERSION_COPPER, 0), VMB_OK);
	assert_int_equal(msg.version_response.feature_flags, 0xFF);
	assert_int_equal(decode(bytes, 16, VMB_FROM_HOST, VMB_VERSION_IRON, 0), VMB_OK);
	assert_int_equal(decode(bytes, 20, VMB_FROM_HOST, VMB_VERSION_IRON, 0), VMB_OK);
	assert_int_equal(msg.version_response.feature_flags, 0);
}

static void
version_response_has_monitor_pages_only_with_feature_and_size(void **state)
{
	uint8_t bytes[40] = { [0] = 15, [8] = 1, [16] = 0x40, [25] = 0x20, [33] = 0x10 };

	(void)state;
	assert_int_equal(decode(bytes, 40, VMB_FROM_HOST, VMB_VERSION_COPPER, 0), VMB_OK);
	assert_true(msg.version_response.has_monitor_pages);
	assert_true(msg.version_response.monitor_page_to_child == 0x2000);
	assert_true(msg.version_response.monitor_page_to_parent == 0x1000);
	assert_int_equal(decode(bytes, 39, VMB_FROM_HOST, VMB_VERSION_COPPER, 0), VMB_OK);
	assert_false(msg.version_response.has_monitor_pages);
	bytes[16] = 0xBF;
	assert_int_equal(decode(bytes, 40, VMB_FROM_HOST, VMB_VERSION_COPPER, 0), VMB_OK);
	assert_false(msg.version_response.has_monitor_pages);
	assert_true(msg.version_response.monitor_page_to_parent == 0);
}

static void
version_response_may_leave_out_the_page_towards_the_child_only(void **state)
{
	uint8_t bytes[40] = { [0] = 15, [8] = 1, [16] = 0x40, [33] = 0x10 };

	(void)state;
	assert_int_equal(decode(bytes, 40, VMB_FROM_HOST, VMB_VERSION_COPPER, 0), VMB_OK);
	assert_true(msg.version_response.has_monitor_pages);
	bytes[33] = 0;
	bytes[25] = 0x10;
	assert_int_equal(decode(bytes, 40, VMB_FROM_HOST, VMB_VERSION_COPPER, 0), VMB_E_MALFORMED);
}

static void
version_response_padded_with_zeros_has_no_monitor_pages(void **state)
{
	uint8_t bytes[VMB_MSG_MAX_BYTES] = { [0] = 15, [8] = 1, [16] = 0x40 };

	(void)state;
	assert_int_equal(decode(bytes, sizeof(bytes), VMB_FROM_HOST, VMB_VERSION_COPPER, 0),
			 VMB_OK);
	assert_false(msg.version_response.has_monitor_pages);
}

static void
version_response_state_has_no_meaning_before_2_4(void **state)
{
	uint8_t bytes[16] = { [0] = 15, [8] = 1, [9] = 2 };

	(void)state;
	assert_int_equal(decode(bytes, 16, VMB_FROM_HOST, VMB_VERSION_WIN7, 0), VMB_OK);
	assert_int_equal(msg.version_response.connection_state, 0);
	assert_int_equal(decode(bytes, 16, VMB_FROM_HOST, VMB_VERSION_WIN8, 0), VMB_OK);
	assert_int_equal(msg.version_response.connection_state, 2);
}

static void
version_response_says_failure_as_unsupported_before_2_4(void **state)
{
	const struct vmb_msg response = { .type = VMB_MSG_VERSION_RESPONSE,
		                          .version_response = { .supported = true,
		                                                .connection_state = 1,
		                                                .version_or_connection_id = 5 } };
	static const uint8_t unsupported[16] = { 15 };
	uint8_t out[VMB_MSG_MAX_BYTES];

	(void)state;
	assert_int_equal(vmb_msg_encode(&response, VMB_VERSION_WIN7, 0, out), 16);
	assert_memory_equal(out, unsupported, 16);
	assert_int_equal(vmb_msg_encode(&response, VMB_VERSION_WIN8, 0, out), 16);
	assert_int_equal(out[8], 1);
	assert_int_equal(out[9], 1);
}

static void
version_response_unsupported_carries_nothing_else(void **state)
{
	const struct vmb_msg response = { .type = VMB_MSG_VERSION_RESPONSE,
		                          .version_response = { .supported = false,
		                                                .connection_state = 2,
		                                                .version_or_connection_id = 5,
		                                                .feature_flags = 0xFF,
		                                                .has_monitor_pages = true } };
	static const uint8_t unsupported[16] = { 15 };
	uint8_t out[VMB_MSG_MAX_BYTES];

	(void)state;
	assert_int_equal(vmb_msg_encode(&response, VMB_VERSION_COPPER, 0, out), 16);
	assert_memory_equal(out, unsupported, 16);
}

/* ---- sockets -------------------------------------------------------------------------------- */

static void
socket_silo_is_read_from_5_2_on_and_by_size(void **state)
{
	uint8_t bytes[56] = { [0] = 21, [40] = 0xC0 };

	(void)state;
	assert_int_equal(decode(bytes, 56, VMB_FROM_GUEST, VMB_VERSION_WIN10_RS4, 0), VMB_OK);
	assert_false(msg.tl_connect.has_silo);
	assert_int_equal(msg.tl_connect.silo.bytes[0], 0);
	assert_int_equal(decode(bytes, 55, VMB_FROM_GUEST, VMB_VERSION_WIN10_RS5, 0), VMB_OK);
	assert_false(msg.tl_connect.has_silo);
	assert_int_equal(decode(bytes, 56, VMB_FROM_GUEST, VMB_VERSION_WIN10_RS5, 0), VMB_OK);
	assert_true(msg.tl_connect.has_silo);
	assert_int_equal(msg.tl_connect.silo.bytes[0], 0xC0);
}

static void
socket_silo_is_never_lost_on_the_way(void **state)
{
	const struct vmb_msg connect = { .type = VMB_MSG_TL_CONNECT, .tl_connect.has_silo = true };

	(void)state;
	assert_int_equal(encode(&connect, VMB_VERSION_WIN10_RS4, 0), 0);
	assert_int_equal(encode(&connect, VMB_VERSION_WIN10_RS5, 0), 56);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(offer_of_190_bytes_is_accepted_only_before_1_1),
		cmocka_unit_test(offer_tail_is_ignored_before_1_1),
		cmocka_unit_test(offer_needs_a_channel_id_of_1_to_2047),
		cmocka_unit_test(offer_with_an_allocated_monitor_needs_an_id_up_to_127),
		cmocka_unit_test(offer_flags_of_missing_features_are_neither_sent_nor_believed),
		cmocka_unit_test(offer_reserved_bytes_and_bits_are_ignored),
		cmocka_unit_test(open_needs_156_bytes_with_either_feature_and_148_otherwise),
		cmocka_unit_test(open_fields_of_missing_features_are_neither_sent_nor_believed),
		cmocka_unit_test(guest_messages_with_impossible_channel_ids_reach_the_bus),
		cmocka_unit_test(gpadl_header_counts_only_whole_qwords),
		cmocka_unit_test(gpadl_header_ignores_what_lies_behind_the_announced_length),
		cmocka_unit_test(gpadl_header_is_encoded_only_with_a_consistent_length),
		cmocka_unit_test(gpadl_body_counts_only_whole_qwords),
		cmocka_unit_test(gpadl_body_that_brings_nothing_is_malformed),
		cmocka_unit_test(gpadl_body_is_encoded_with_1_to_28_qwords),
		cmocka_unit_test(contact_fields_follow_the_version_that_it_asks_for),
		cmocka_unit_test(contact_reserved_bytes_are_sent_as_zero),
		cmocka_unit_test(contact_with_client_id_feature_needs_56_bytes),
		cmocka_unit_test(contact_without_client_id_feature_ignores_the_tail),
		cmocka_unit_test(contact_of_an_unknown_version_is_never_malformed_by_its_features),
		cmocka_unit_test(version_response_size_follows_version_and_content),
		cmocka_unit_test(version_response_to_6_0_needs_feature_flags_only_if_supported),
		cmocka_unit_test(version_response_has_monitor_pages_only_with_feature_and_size),
		cmocka_unit_test(version_response_may_leave_out_the_page_towards_the_child_only),
		cmocka_unit_test(version_response_padded_with_zeros_has_no_monitor_pages),
		cmocka_unit_test(version_response_state_has_no_meaning_before_2_4),
		cmocka_unit_test(version_response_says_failure_as_unsupported_before_2_4),
		cmocka_unit_test(version_response_unsupported_carries_nothing_else),
		cmocka_unit_test(socket_silo_is_read_from_5_2_on_and_by_size),
		cmocka_unit_test(socket_silo_is_never_lost_on_the_way),
	};

	return cmocka_run_group_tests_name("wire/msg forms", tests, NULL, NULL);
}
