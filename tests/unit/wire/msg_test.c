/* SPDX-License-Identifier: MIT */
/*
 * Control messages against literal vectors, in both directions, and the rules that hold for each
 * type: size, sender, first version, feature. The expectations here are a second copy of the
 * protocol's table 4.2.
 */
#include "msg_vectors.h"

#define NO_FEATURES 0u
#define ALL_FEATURES 0xFFu

/*
 * Message table 4.2, by hand. `bytes` is what a sender sends in the version given; body data
 * excluded.
 */
static const struct {
	enum vmb_msg_type type;
	const char *name;
	enum vmb_msg_sender sender;
	uint32_t bytes;
	uint32_t first;         /* lowest version; 0 = without a connection */
	uint32_t before;        /* the version just below it */
	uint32_t feature;
} types[] = {
	{ 1, "OfferChannel", VMB_FROM_HOST, 196, 0x0000000D, 0, 0 },
	{ 2, "RescindChannelOffer", VMB_FROM_HOST, 12, 0x0000000D, 0, 0 },
	{ 3, "RequestOffers", VMB_FROM_GUEST, 8, 0x0000000D, 0, 0 },
	{ 4, "AllOffersDelivered", VMB_FROM_HOST, 8, 0x0000000D, 0, 0 },
	{ 5, "OpenChannel", VMB_FROM_GUEST, 148, 0x0000000D, 0, 0 },
	{ 6, "OpenChannelResult", VMB_FROM_HOST, 20, 0x0000000D, 0, 0 },
	{ 7, "CloseChannel", VMB_FROM_GUEST, 12, 0x0000000D, 0, 0 },
	{ 8, "GpadlHeader", VMB_FROM_GUEST, 20, 0x0000000D, 0, 0 },
	{ 9, "GpadlBody", VMB_FROM_GUEST, 24, 0x0000000D, 0, 0 },
	{ 10, "GpadlCreated", VMB_FROM_HOST, 20, 0x0000000D, 0, 0 },
	{ 11, "GpadlTeardown", VMB_FROM_GUEST, 16, 0x0000000D, 0, 0 },
	{ 12, "GpadlTorndown", VMB_FROM_HOST, 12, 0x0000000D, 0, 0 },
	{ 13, "RelIdReleased", VMB_FROM_GUEST, 12, 0x0000000D, 0, 0 },
	{ 14, "InitiateContact", VMB_FROM_GUEST, 40, 0, 0, 0 },
	{ 15, "VersionResponse", VMB_FROM_HOST, 16, 0, 0, 0 },
	{ 16, "Unload", VMB_FROM_GUEST, 8, 0x0000000D, 0, 0 },
	{ 17, "UnloadComplete", VMB_FROM_HOST, 8, 0x00010001, 0x0000000D, 0 },
	{ 18, "OpenReservedChannel", VMB_FROM_GUEST, 28, 0x00040000, 0x00030000, 0 },
	{ 19, "CloseReservedChannel", VMB_FROM_GUEST, 20, 0, 0, 0 },
	{ 20, "CloseReservedChannelResponse", VMB_FROM_HOST, 12, 0x00040000, 0x00030000, 0 },
	{ 21, "TlConnectRequest", VMB_FROM_GUEST, 40, 0x00040000, 0x00030000, 0 },
	{ 22, "ModifyChannel", VMB_FROM_GUEST, 16, 0x00040001, 0x00040000, 0 },
	{ 23, "TlConnectRequestResult", VMB_FROM_HOST, 44, 0x00040001, 0x00040000, 0 },
	{ 24, "ModifyChannelResponse", VMB_FROM_HOST, 16, 0x00050003, 0x00050002, 0 },
	{ 25, "ModifyConnection", VMB_FROM_GUEST, 24, 0x00060000, 0x00050003, 0x04 },
	{ 26, "ModifyConnectionResponse", VMB_FROM_HOST, 9, 0x00060000, 0x00050003, 0x04 },
	{ 27, "Pause", VMB_FROM_GUEST, 8, 0x00060000, 0x00050003, 0x20 },
	{ 28, "PauseResponse", VMB_FROM_HOST, 8, 0x00060000, 0x00050003, 0x20 },
	{ 29, "Resume", VMB_FROM_GUEST, 8, 0x00060000, 0x00050003, 0x20 },
};

/* The least that decodes: right size and type, an offer with a channel. */
static size_t
plain_message(size_t index, uint8_t bytes[VMB_MSG_MAX_BYTES])
{
	memset(bytes, 0, VMB_MSG_MAX_BYTES);
	bytes[0] = (uint8_t)types[index].type;
	if (types[index].type == VMB_MSG_OFFER_CHANNEL)
		bytes[184] = 1;
	return types[index].bytes;
}

static enum vmb_status
decode(const void *bytes, size_t byte_count, enum vmb_msg_sender sender, uint32_t version,
       uint32_t features, struct vmb_msg *msg, const char **why)
{
	uint8_t *copy = t_exact_copy(bytes, byte_count);
	enum vmb_status st;

	*why = NULL;
	st = vmb_msg_decode(copy, byte_count, sender, version, features, msg, why);
	free(copy);
	/* A failure has a reason, a success has none. */
	assert_int_equal(*why == NULL, st == VMB_OK);
	return st;
}

static enum vmb_status
decode_plain(size_t index, enum vmb_msg_sender sender, uint32_t version, uint32_t features)
{
	uint8_t bytes[VMB_MSG_MAX_BYTES];
	size_t byte_count = plain_message(index, bytes);
	struct vmb_msg msg;
	const char *why;

	return decode(bytes, byte_count, sender, version, features, &msg, &why);
}

static void
expect_vector(const struct t_msg_vector *v, const void *bytes, size_t byte_count)
{
	struct vmb_msg msg;
	const char *why;
	enum vmb_status st =
	    decode(bytes, byte_count, v->sender, v->version, v->features, &msg, &why);

	if (st != VMB_OK)
		fail_msg("%s (%zu bytes): %s", v->name, byte_count, why);
	if (memcmp(&msg, &v->msg, sizeof(msg)) != 0)
		fail_msg("%s (%zu bytes): wrong meaning", v->name, byte_count);
}

/* ---- vectors -------------------------------------------------------------------------------- */

static void
msg_vectors_cover_every_type(void **state)
{
	bool seen[VMB_MSG_TYPE_END] = { false };

	(void)state;
	for (size_t i = 0; i < t_msg_vector_count; i++)
		seen[t_msg_vectors[i].msg.type] = true;
	for (size_t type = 1; type < VMB_MSG_TYPE_END; type++)
		assert_true(seen[type]);
	assert_int_equal(T_COUNT(types), VMB_MSG_TYPE_END - 1);
}

static void
msg_decodes_literal_bytes(void **state)
{
	(void)state;
	for (size_t i = 0; i < t_msg_vector_count; i++)
		expect_vector(&t_msg_vectors[i], t_msg_vectors[i].bytes,
			      t_msg_vectors[i].byte_count);
}

static void
msg_encodes_literal_bytes(void **state)
{
	(void)state;
	for (size_t i = 0; i < t_msg_vector_count; i++) {
		const struct t_msg_vector *v = &t_msg_vectors[i];
		uint8_t out[VMB_MSG_MAX_BYTES];
		size_t byte_count;

		if (v->decode_only)
			continue;
		memset(out, 0xA5, sizeof(out));
		byte_count = vmb_msg_encode(&v->msg, v->version, v->features, out);
		if (byte_count != v->byte_count || memcmp(out, v->bytes, byte_count) != 0)
			fail_msg("%s: encoded differently", v->name);
	}
}

static void
msg_one_byte_too_short_is_malformed(void **state)
{
	(void)state;
	for (size_t i = 0; i < t_msg_vector_count; i++) {
		const struct t_msg_vector *v = &t_msg_vectors[i];
		struct vmb_msg msg;
		const char *why;
		enum vmb_status st;

		/* These are a shorter form of themselves when their tail is cut. */
		if (v->msg.type == VMB_MSG_GPADL_HEADER && v->byte_count > 20)
			continue;
		if (v->msg.type == VMB_MSG_GPADL_BODY && v->byte_count > 24)
			continue;
		if (v->msg.type == VMB_MSG_TL_CONNECT && v->byte_count > 40)
			continue;
		if (v->msg.type == VMB_MSG_VERSION_RESPONSE && v->byte_count > 20)
			continue;
		st = decode(v->bytes, v->byte_count - 1, v->sender, v->version, v->features, &msg,
		            &why);
		if (st != VMB_E_MALFORMED)
			fail_msg("%s: accepted without its last byte", v->name);
		assert_int_equal(msg.type, v->byte_count > 8 ? v->msg.type : VMB_MSG_INVALID);
	}
}

static void
msg_longer_than_needed_means_the_same(void **state)
{
	static const size_t longer[] = { 1, 3, 4, 8, VMB_MSG_MAX_BYTES };

	(void)state;
	for (size_t i = 0; i < t_msg_vector_count; i++) {
		const struct t_msg_vector *v = &t_msg_vectors[i];
		uint8_t bytes[VMB_MSG_MAX_BYTES];

		if (v->tail_has_meaning)
			continue;
		memset(bytes, 0xA5, sizeof(bytes));
		memcpy(bytes, v->bytes, v->byte_count);
		for (size_t j = 0; j < T_COUNT(longer); j++) {
			size_t byte_count = v->byte_count + longer[j];

			if (byte_count > VMB_MSG_MAX_BYTES)
				byte_count = VMB_MSG_MAX_BYTES;
			expect_vector(v, bytes, byte_count);
		}
	}
}

static void
msg_from_wrong_sender_is_refused(void **state)
{
	(void)state;
	for (size_t i = 0; i < t_msg_vector_count; i++) {
		const struct t_msg_vector *v = &t_msg_vectors[i];
		enum vmb_msg_sender other =
		    v->sender == VMB_FROM_HOST ? VMB_FROM_GUEST : VMB_FROM_HOST;
		struct vmb_msg msg;
		const char *why;

		assert_int_equal(
		    decode(v->bytes, v->byte_count, other, v->version, v->features, &msg, &why),
		    VMB_E_ACCESS);
		assert_int_equal(msg.type, v->msg.type);
		assert_non_null(
		    strstr(why, other == VMB_FROM_GUEST ? "from a guest" : "from a host"));
	}
}

/* ---- table 4.2 ------------------------------------------------------------------------------ */

static void
msg_types_have_names(void **state)
{
	(void)state;
	for (size_t i = 0; i < T_COUNT(types); i++)
		assert_string_equal(vmb_msg_type_name(types[i].type), types[i].name);
	assert_string_equal(vmb_msg_type_name(0), "unknown");
	assert_string_equal(vmb_msg_type_name(30), "unknown");
	assert_string_equal(vmb_msg_type_name(UINT32_MAX), "unknown");
}

static void
msg_is_accepted_from_its_first_version_on(void **state)
{
	(void)state;
	for (size_t i = 0; i < T_COUNT(types); i++)
		assert_int_equal(decode_plain(i, types[i].sender, types[i].first, types[i].feature),
		                 VMB_OK);
}

static void
msg_is_refused_in_the_version_before(void **state)
{
	(void)state;
	for (size_t i = 0; i < T_COUNT(types); i++) {
		if (types[i].first == 0)
			continue;
		assert_int_equal(decode_plain(i, types[i].sender, types[i].before, ALL_FEATURES),
		                 VMB_E_UNSUPPORTED);
	}
}

static void
msg_needs_a_connection_except_contact_and_close_reserved(void **state)
{
	(void)state;
	for (size_t i = 0; i < T_COUNT(types); i++) {
		bool allowed = types[i].type == VMB_MSG_INITIATE_CONTACT ||
		               types[i].type == VMB_MSG_VERSION_RESPONSE ||
		               types[i].type == VMB_MSG_CLOSE_RESERVED;

		assert_int_equal(decode_plain(i, types[i].sender, 0, ALL_FEATURES),
		                 allowed ? VMB_OK : VMB_E_UNSUPPORTED);
	}
}

static void
msg_of_a_feature_needs_that_feature(void **state)
{
	(void)state;
	for (size_t i = 0; i < T_COUNT(types); i++) {
		if (types[i].feature == 0)
			continue;
		assert_int_equal(decode_plain(i, types[i].sender, VMB_VERSION_COPPER,
		                              ALL_FEATURES & ~types[i].feature),
		                 VMB_E_UNSUPPORTED);
	}
}

static void
msg_is_not_encoded_below_its_version_or_feature(void **state)
{
	(void)state;
	for (size_t i = 0; i < T_COUNT(types); i++) {
		uint8_t out[VMB_MSG_MAX_BYTES];
		struct vmb_msg msg = { .type = types[i].type };

		if (types[i].first != 0)
			assert_int_equal(vmb_msg_encode(&msg, types[i].before, ALL_FEATURES, out),
					 0);
		if (types[i].feature != 0)
			assert_int_equal(vmb_msg_encode(&msg, VMB_VERSION_COPPER,
			                                ALL_FEATURES & ~types[i].feature, out),
			                 0);
	}
}

static void
msg_of_unknown_type_is_unsupported(void **state)
{
	static const uint32_t unknown[] = { 0, 30, 31, 255, 256 + 3, 0x01000003, UINT32_MAX };

	(void)state;
	for (size_t i = 0; i < T_COUNT(unknown); i++) {
		uint8_t bytes[8] = { (uint8_t)unknown[i], (uint8_t)(unknown[i] >> 8),
			             (uint8_t)(unknown[i] >> 16), (uint8_t)(unknown[i] >> 24) };
		struct vmb_msg msg = { .type = (enum vmb_msg_type)unknown[i] };
		uint8_t out[VMB_MSG_MAX_BYTES];
		const char *why;

		assert_int_equal(vmb_msg_encode(&msg, VMB_VERSION_COPPER, ALL_FEATURES, out), 0);
		assert_int_equal(decode(bytes, sizeof(bytes), VMB_FROM_GUEST, VMB_VERSION_COPPER,
		                        ALL_FEATURES, &msg, &why),
		                 VMB_E_UNSUPPORTED);
		assert_int_equal(msg.type, VMB_MSG_INVALID);
	}
}

static void
msg_shorter_than_a_header_is_malformed(void **state)
{
	static const uint8_t bytes[8] = { 3 };

	(void)state;
	for (size_t byte_count = 0; byte_count < sizeof(bytes); byte_count++) {
		struct vmb_msg msg;
		const char *why;

		assert_int_equal(decode(bytes, byte_count, VMB_FROM_GUEST, VMB_VERSION_IRON,
		                        NO_FEATURES, &msg, &why),
		                 VMB_E_MALFORMED);
	}
}

static void
msg_longer_than_240_bytes_is_malformed(void **state)
{
	uint8_t bytes[VMB_MSG_MAX_BYTES + 1] = { 3 };
	struct vmb_msg msg;
	const char *why;

	(void)state;
	assert_int_equal(decode(bytes, VMB_MSG_MAX_BYTES, VMB_FROM_GUEST, VMB_VERSION_IRON,
	                        NO_FEATURES, &msg, &why),
	                 VMB_OK);
	assert_int_equal(decode(bytes, VMB_MSG_MAX_BYTES + 1, VMB_FROM_GUEST, VMB_VERSION_IRON,
	                        NO_FEATURES, &msg, &why),
	                 VMB_E_MALFORMED);
}

static void
msg_header_padding_is_ignored(void **state)
{
	(void)state;
	for (size_t i = 0; i < t_msg_vector_count; i++) {
		const struct t_msg_vector *v = &t_msg_vectors[i];
		uint8_t bytes[VMB_MSG_MAX_BYTES];

		memcpy(bytes, v->bytes, v->byte_count);
		memset(bytes + 4, 0xFF, 4);
		expect_vector(v, bytes, v->byte_count);
	}
}

static void
msg_encode_zeroes_what_follows_the_message(void **state)
{
	static const uint8_t zeros[VMB_MSG_MAX_BYTES];

	(void)state;
	for (size_t i = 0; i < t_msg_vector_count; i++) {
		const struct t_msg_vector *v = &t_msg_vectors[i];
		uint8_t out[VMB_MSG_MAX_BYTES];
		size_t byte_count;

		memset(out, 0xA5, sizeof(out));
		byte_count = vmb_msg_encode(&v->msg, v->version, v->features, out);
		assert_memory_equal(out + byte_count, zeros, sizeof(out) - byte_count);
	}
}

/* ---- versions ------------------------------------------------------------------------------- */

static void
versions_are_listed_oldest_first(void **state)
{
	static const uint32_t expected[] = {
		0x0000000D, 0x00010001, 0x00020004, 0x00030000, 0x00040000, 0x00040001,
		0x00050000, 0x00050001, 0x00050002, 0x00050003, 0x00060000,
	};

	(void)state;
	assert_int_equal(T_COUNT(expected), VMB_VERSION_COUNT);
	for (size_t i = 0; i < T_COUNT(expected); i++)
		assert_int_equal(vmb_versions[i], expected[i]);
}

static void
version_is_known_only_if_listed(void **state)
{
	static const uint32_t unknown[] = { 0, 0x0C, 0x0E, 0x00010000, 0x00020003, 0x00050004,
		                            0x00060001, 0x00070000, UINT32_MAX };

	(void)state;
	for (size_t i = 0; i < VMB_VERSION_COUNT; i++)
		assert_true(vmb_version_is_known(vmb_versions[i]));
	for (size_t i = 0; i < T_COUNT(unknown); i++)
		assert_false(vmb_version_is_known(unknown[i]));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(msg_vectors_cover_every_type),
		cmocka_unit_test(msg_decodes_literal_bytes),
		cmocka_unit_test(msg_encodes_literal_bytes),
		cmocka_unit_test(msg_one_byte_too_short_is_malformed),
		cmocka_unit_test(msg_longer_than_needed_means_the_same),
		cmocka_unit_test(msg_from_wrong_sender_is_refused),
		cmocka_unit_test(msg_types_have_names),
		cmocka_unit_test(msg_is_accepted_from_its_first_version_on),
		cmocka_unit_test(msg_is_refused_in_the_version_before),
		cmocka_unit_test(msg_needs_a_connection_except_contact_and_close_reserved),
		cmocka_unit_test(msg_of_a_feature_needs_that_feature),
		cmocka_unit_test(msg_is_not_encoded_below_its_version_or_feature),
		cmocka_unit_test(msg_of_unknown_type_is_unsupported),
		cmocka_unit_test(msg_shorter_than_a_header_is_malformed),
		cmocka_unit_test(msg_longer_than_240_bytes_is_malformed),
		cmocka_unit_test(msg_header_padding_is_ignored),
		cmocka_unit_test(msg_encode_zeroes_what_follows_the_message),
		cmocka_unit_test(versions_are_listed_oldest_first),
		cmocka_unit_test(version_is_known_only_if_listed),
	};

	return cmocka_run_group_tests_name("wire/msg", tests, NULL, NULL);
}
