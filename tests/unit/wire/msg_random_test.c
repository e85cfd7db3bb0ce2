/* SPDX-License-Identifier: MIT */
/*
 * Control messages under random input: no byte past the end is read (exact-size buffers, for the
 * address sanitizer), every refusal has a reason, and what decodes or is encodable survives the
 * other direction.
 */
#include "msg_vectors.h"

#define ROUNDS 60000u

static uint32_t
random_version(struct t_random *r)
{
	uint32_t index = t_random_below(r, VMB_VERSION_COUNT + 2);

	if (index == VMB_VERSION_COUNT)
		return 0;
	if (index > VMB_VERSION_COUNT)
		return (uint32_t)t_random_u64(r) & 0x0007FFFF;
	return vmb_versions[index];
}

/*
 * Half of the time bytes of pure noise, else a vector with some bytes changed. Returns the length.
 */
static size_t
random_message(struct t_random *r, uint8_t bytes[VMB_MSG_MAX_BYTES + 16])
{
	const struct t_msg_vector *v =
	    &t_msg_vectors[t_random_below(r, (uint32_t)t_msg_vector_count)];
	size_t byte_count = t_random_below(r, VMB_MSG_MAX_BYTES + 16);

	t_random_fill(r, bytes, VMB_MSG_MAX_BYTES + 16);
	if (t_random_below(r, 2) == 0) {
		memset(bytes, 0, 8);
		bytes[0] = (uint8_t)t_random_below(r, VMB_MSG_TYPE_END + 1);
		return byte_count;
	}
	memcpy(bytes, v->bytes, v->byte_count);
	for (uint32_t changes = t_random_below(r, 4); changes > 0; changes--)
		bytes[t_random_below(r, (uint32_t)v->byte_count)] = (uint8_t)t_random_u64(r);
	if (t_random_below(r, 2) == 0)
		return v->byte_count;
	return t_random_below(r, (uint32_t)v->byte_count + 16);
}

static void
msg_random_bytes_are_refused_with_a_reason_or_survive_the_way_back(void **state)
{
	struct t_random r = t_random_start(__func__);
	uint32_t accepted = 0;

	(void)state;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		uint8_t bytes[VMB_MSG_MAX_BYTES + 16];
		uint8_t out[VMB_MSG_MAX_BYTES];
		size_t byte_count = random_message(&r, bytes);
		enum vmb_msg_sender sender =
		    t_random_below(&r, 2) == 0 ? VMB_FROM_GUEST : VMB_FROM_HOST;
		uint32_t version = random_version(&r);
		uint32_t features = (uint32_t)t_random_u64(&r);
		uint8_t *copy = t_exact_copy(bytes, byte_count);
		struct vmb_msg first;
		struct vmb_msg second;
		const char *why = NULL;
		enum vmb_status st;

		st = vmb_msg_decode(copy, byte_count, sender, version, features, &first, &why);
		free(copy);
		if (st != VMB_OK) {
			assert_true(st == VMB_E_MALFORMED || st == VMB_E_UNSUPPORTED ||
			            st == VMB_E_ACCESS);
			assert_non_null(why);
			continue;
		}
		accepted++;
		byte_count = vmb_msg_encode(&first, version, features, out);
		if (byte_count == 0) {
			/*
			 * The only thing that is read and never written: a length with a broken
			 * qword.
			 */
			assert_int_equal(first.type, VMB_MSG_GPADL_HEADER);
			assert_int_not_equal(first.gpadl_header.range_bytes % 8, 0);
			continue;
		}
		copy = t_exact_copy(out, byte_count);
		st = vmb_msg_decode(copy, byte_count, sender, version, features, &second, &why);
		free(copy);
		assert_int_equal(st, VMB_OK);
		/* An "unsupported" loses what nobody may read from it. */
		if (first.type == VMB_MSG_VERSION_RESPONSE && !first.version_response.supported)
			continue;
		assert_memory_equal(&first, &second, sizeof(first));
	}
	assert_true(accepted > ROUNDS / 50);
}

/* ---- random structs ------------------------------------------------------------------------- */

static struct vmb_guid
random_guid(struct t_random *r)
{
	struct vmb_guid guid;

	t_random_fill(r, guid.bytes, sizeof(guid.bytes));
	return guid;
}

static void
random_offer(struct t_random *r, struct vmb_msg_offer *offer, uint32_t version, uint32_t features)
{
	uint32_t flags = (uint32_t)t_random_u64(r) & 0xFFF1u;

	if (features & VMB_FEATURE_CONFIDENTIAL_CHANNELS)
		flags |= (uint32_t)t_random_u64(r) & 0x6u;
	if (features & VMB_FEATURE_GPA_PINNING)
		flags |= (uint32_t)t_random_u64(r) & 0x8u;
	offer->interface_type = random_guid(r);
	offer->interface_instance = random_guid(r);
	offer->flags = (uint16_t)flags;
	offer->mmio_megabytes = (uint16_t)t_random_u64(r);
	t_random_fill(r, offer->user_data, sizeof(offer->user_data));
	offer->subchannel_index = (uint16_t)t_random_u64(r);
	offer->mmio_megabytes_optional = (uint16_t)t_random_u64(r);
	offer->channel_id = 1 + t_random_below(r, VMB_CHANNEL_ID_MAX);
	offer->monitor_allocated = t_random_below(r, 2) != 0;
	offer->monitor_id = (uint8_t)t_random_below(r, offer->monitor_allocated ? 128 : 256);
	if (version >= VMB_VERSION_WIN7) {
		offer->is_dedicated = t_random_below(r, 2) != 0;
		offer->connection_id = (uint32_t)t_random_u64(r);
	}
}

static void
random_open(struct t_random *r, struct vmb_msg_open *open, uint32_t features)
{
	open->channel_id = (uint32_t)t_random_u64(r);
	open->open_id = (uint32_t)t_random_u64(r);
	open->ring_gpadl = (uint32_t)t_random_u64(r);
	open->target_vp = (uint32_t)t_random_u64(r);
	open->downstream_page_offset = (uint32_t)t_random_u64(r);
	t_random_fill(r, open->user_data, sizeof(open->user_data));
	if (features & VMB_FEATURE_GUEST_SIGNAL_PARAMETERS) {
		open->connection_id = (uint32_t)t_random_u64(r);
		open->event_flag = (uint16_t)t_random_u64(r);
	}
	if (features & VMB_FEATURE_INTERRUPT_REDIRECTION)
		open->open_flags = (uint16_t)t_random_below(r, 2);
}

static void
random_contact(struct t_random *r, struct vmb_msg_initiate_contact *contact)
{
	contact->version = random_version(r);
	contact->target_message_vp = (uint32_t)t_random_u64(r);
	contact->monitor_page_to_child = t_random_u64(r);
	contact->monitor_page_to_parent = t_random_u64(r);
	if (contact->version < VMB_VERSION_WIN10_RS3_1) {
		contact->interrupt_page = t_random_u64(r);
		return;
	}
	contact->target_sint = (uint8_t)t_random_u64(r);
	contact->target_vtl = (uint8_t)t_random_u64(r);
	if (contact->version < VMB_VERSION_COPPER)
		return;
	contact->feature_flags = (uint32_t)t_random_u64(r);
	if (contact->version == VMB_VERSION_COPPER &&
	    (contact->feature_flags & VMB_FEATURE_CLIENT_ID) != 0)
		contact->client_id = random_guid(r);
}

static void
random_response(struct t_random *r, struct vmb_msg_version_response *response, uint32_t version)
{
	response->supported = t_random_below(r, 4) != 0;
	if (!response->supported)
		return;
	response->version_or_connection_id = (uint32_t)t_random_u64(r);
	if (version >= VMB_VERSION_WIN8)
		response->connection_state = (uint8_t)t_random_u64(r);
	if (version < VMB_VERSION_COPPER)
		return;
	response->feature_flags = (uint32_t)t_random_u64(r);
	if ((response->feature_flags & VMB_FEATURE_SERVER_MONITOR_PAGES) == 0)
		return;
	response->has_monitor_pages = t_random_below(r, 2) != 0;
	if (!response->has_monitor_pages)
		return;
	response->monitor_page_to_child = t_random_u64(r);
	response->monitor_page_to_parent = t_random_u64(r) | 0x1000u;
}

static void
random_gpadl_header(struct t_random *r, struct vmb_msg_gpadl_header *header)
{
	header->channel_id = (uint32_t)t_random_u64(r);
	header->gpadl_id = (uint32_t)t_random_u64(r);
	header->range_count = (uint16_t)t_random_u64(r);
	header->qword_count = t_random_below(r, VMB_GPADL_HEADER_QWORDS_MAX + 1);
	header->range_bytes = (uint16_t)(8 * (header->qword_count + t_random_below(r, 8000)));
	for (uint32_t i = 0; i < header->qword_count; i++)
		header->qwords[i] = t_random_u64(r);
}

static void
random_gpadl_body(struct t_random *r, struct vmb_msg_gpadl_body *body)
{
	body->message_number = (uint32_t)t_random_u64(r);
	body->gpadl_id = (uint32_t)t_random_u64(r);
	body->qword_count = 1 + t_random_below(r, VMB_GPADL_BODY_QWORDS_MAX);
	for (uint32_t i = 0; i < body->qword_count; i++)
		body->qwords[i] = t_random_u64(r);
}

/*
 * A message of this type with every field that has a meaning in this version and feature set at
 * random.
 */
static void
random_struct(struct t_random *r, struct vmb_msg *msg, enum vmb_msg_type type, uint32_t version,
              uint32_t features)
{
	memset(msg, 0, sizeof(*msg));
	msg->type = type;
	switch (type) {
	case VMB_MSG_OFFER_CHANNEL:
		random_offer(r, &msg->offer, version, features);
		break;
	case VMB_MSG_RESCIND_OFFER:
	case VMB_MSG_CLOSE_CHANNEL:
	case VMB_MSG_REL_ID_RELEASED:
	case VMB_MSG_CLOSE_RESERVED_RESPONSE:
		msg->channel.channel_id = (uint32_t)t_random_u64(r);
		break;
	case VMB_MSG_OPEN_CHANNEL:
		random_open(r, &msg->open, features);
		break;
	case VMB_MSG_OPEN_RESULT:
		t_random_fill(r, &msg->open_result, sizeof(msg->open_result));
		break;
	case VMB_MSG_GPADL_HEADER:
		random_gpadl_header(r, &msg->gpadl_header);
		break;
	case VMB_MSG_GPADL_BODY:
		random_gpadl_body(r, &msg->gpadl_body);
		break;
	case VMB_MSG_GPADL_CREATED:
		msg->gpadl.status = (uint32_t)t_random_u64(r);
		msg->gpadl.channel_id = (uint32_t)t_random_u64(r);
		msg->gpadl.gpadl_id = (uint32_t)t_random_u64(r);
		break;
	case VMB_MSG_GPADL_TEARDOWN:
		msg->gpadl.channel_id = (uint32_t)t_random_u64(r);
		msg->gpadl.gpadl_id = (uint32_t)t_random_u64(r);
		break;
	case VMB_MSG_GPADL_TORNDOWN:
		msg->gpadl.gpadl_id = (uint32_t)t_random_u64(r);
		break;
	case VMB_MSG_INITIATE_CONTACT:
		random_contact(r, &msg->initiate_contact);
		break;
	case VMB_MSG_VERSION_RESPONSE:
		random_response(r, &msg->version_response, version);
		break;
	case VMB_MSG_OPEN_RESERVED:
		t_random_fill(r, &msg->reserved, sizeof(msg->reserved));
		break;
	case VMB_MSG_CLOSE_RESERVED:
		msg->reserved.channel_id = (uint32_t)t_random_u64(r);
		msg->reserved.target_vp = (uint32_t)t_random_u64(r);
		msg->reserved.target_sint = (uint32_t)t_random_u64(r);
		break;
	case VMB_MSG_TL_CONNECT:
		msg->tl_connect.endpoint = random_guid(r);
		msg->tl_connect.service = random_guid(r);
		if (version >= VMB_VERSION_WIN10_RS5 && t_random_below(r, 2) != 0) {
			msg->tl_connect.has_silo = true;
			msg->tl_connect.silo = random_guid(r);
		}
		break;
	case VMB_MSG_TL_CONNECT_RESULT:
		msg->tl_connect.endpoint = random_guid(r);
		msg->tl_connect.service = random_guid(r);
		msg->tl_connect.status = (uint32_t)t_random_u64(r);
		break;
	case VMB_MSG_MODIFY_CHANNEL:
		msg->modify_channel.channel_id = (uint32_t)t_random_u64(r);
		msg->modify_channel.target_vp = (uint32_t)t_random_u64(r);
		break;
	case VMB_MSG_MODIFY_CHANNEL_RESPONSE:
		msg->modify_channel.channel_id = (uint32_t)t_random_u64(r);
		msg->modify_channel.status = (uint32_t)t_random_u64(r);
		break;
	case VMB_MSG_MODIFY_CONNECTION:
		msg->modify_connection.monitor_page_to_child = t_random_u64(r);
		msg->modify_connection.monitor_page_to_parent = t_random_u64(r);
		break;
	case VMB_MSG_MODIFY_CONNECTION_RESPONSE:
		msg->modify_connection.connection_state = (uint8_t)t_random_u64(r);
		break;
	default:
		break;
	}
}

static void
msg_random_structs_survive_encode_and_decode(void **state)
{
	struct t_random r = t_random_start(__func__);
	uint32_t sent[VMB_MSG_TYPE_END] = { 0 };

	(void)state;
	for (uint32_t round = 0; round < ROUNDS; round++) {
		const struct t_msg_vector *v =
			&t_msg_vectors[t_random_below(&r, (uint32_t)t_msg_vector_count)];
		uint32_t version = random_version(&r);
		uint32_t features = (uint32_t)t_random_u64(&r);
		uint32_t agreed = version >= VMB_VERSION_COPPER ? features : 0;
		uint8_t out[VMB_MSG_MAX_BYTES];
		struct vmb_msg before;
		struct vmb_msg after;
		const char *why = NULL;
		size_t byte_count;
		uint8_t *copy;

		random_struct(&r, &before, v->msg.type, version, agreed);
		byte_count = vmb_msg_encode(&before, version, features, out);
		/* Zero only where this type does not exist; msg_test has the exact gates. */
		if (byte_count == 0) {
			assert_true(version < v->version || (agreed & v->features) != v->features);
			continue;
		}
		assert_in_range(byte_count, VMB_MSG_HEADER_BYTES, VMB_MSG_MAX_BYTES);
		copy = t_exact_copy(out, byte_count);
		assert_int_equal(
		    vmb_msg_decode(copy, byte_count, v->sender, version, features, &after, &why),
		    VMB_OK);
		free(copy);
		assert_memory_equal(&before, &after, sizeof(before));
		sent[before.type]++;
	}
	for (size_t type = 1; type < VMB_MSG_TYPE_END; type++)
		assert_true(sent[type] > 0);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(
		    msg_random_bytes_are_refused_with_a_reason_or_survive_the_way_back),
		cmocka_unit_test(msg_random_structs_survive_encode_and_decode),
	};

	return cmocka_run_group_tests_name("wire/msg random", tests, NULL, NULL);
}
