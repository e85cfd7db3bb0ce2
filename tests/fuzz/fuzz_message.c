/* SPDX-License-Identifier: MIT */
/*
 * Fuzzer of control messages, in both directions. Bytes that decode are encoded and mean the same
 * again; a struct that can be encoded decodes, and to the same bytes. Refusals have a reason.
 */
#include "fuzz.h"
#include "vmb/msg.h"
#include "wire/msg_table.h"

struct agreed {
	enum vmb_msg_sender sender;
	uint32_t version, features;
};

static enum vmb_status
decode(const uint8_t *bytes, size_t count, const struct agreed *agreed, struct vmb_msg *msg)
{
	uint8_t *copy = malloc(count); /* of exactly this size, for the sanitizer */
	const char *why = NULL;
	enum vmb_status st;

	if (count != 0)
		memcpy(copy, bytes, count);
	st = vmb_msg_decode(copy, count, agreed->sender, agreed->version, agreed->features, msg,
	                    &why);
	free(copy);
	FUZZ_CHECK(st == VMB_OK ||
	           ((st == VMB_E_MALFORMED || st == VMB_E_UNSUPPORTED || st == VMB_E_ACCESS) &&
	            why != NULL));
	return st;
}

static size_t
encode(const struct vmb_msg *msg, const struct agreed *agreed, uint8_t out[VMB_MSG_MAX_BYTES])
{
	size_t count = vmb_msg_encode(msg, agreed->version, agreed->features, out);

	FUZZ_CHECK(count <= VMB_MSG_MAX_BYTES);
	return count;
}

static void
from_bytes(const uint8_t *bytes, size_t count, const struct agreed *agreed)
{
	uint8_t out[VMB_MSG_MAX_BYTES];
	struct vmb_msg first, second;

	if (decode(bytes, count, agreed, &first) != VMB_OK) {
		FUZZ_CHECK(vmb_msg_type_name((uint32_t)first.type) != NULL);
		return;
	}
	count = encode(&first, agreed, out);
	if (count == 0) {
		/* Read and never written: a length with a broken qword. */
		FUZZ_CHECK(first.type == VMB_MSG_GPADL_HEADER &&
		           first.gpadl_header.range_bytes % 8 != 0);
		return;
	}
	FUZZ_CHECK(decode(out, count, agreed, &second) == VMB_OK);
	/* An "unsupported" loses what nobody may read from it. */
	if (first.type == VMB_MSG_VERSION_RESPONSE && !first.version_response.supported)
		return;
	FUZZ_CHECK(memcmp(&first, &second, sizeof(first)) == 0);
}

/*
 * Any bytes are a struct, apart from those of a bool; and some fields are seldom right by
 * chance.
 */
static void
correct(struct vmb_msg *msg, uint8_t bits)
{
	if (msg->type == VMB_MSG_OFFER_CHANNEL) {
		if ((bits & 4) != 0)
			msg->offer.channel_id &= VMB_CHANNEL_ID_MAX;
		msg->offer.monitor_allocated = bits & 1;
		msg->offer.is_dedicated = bits >> 1 & 1;
	} else if (msg->type == VMB_MSG_VERSION_RESPONSE) {
		msg->version_response.supported = bits & 1;
		msg->version_response.has_monitor_pages = bits >> 1 & 1;
	} else if (msg->type == VMB_MSG_TL_CONNECT) {
		msg->tl_connect.has_silo = bits & 1;
	}
}

static void
from_struct(const uint8_t *bytes, size_t count, const struct agreed *agreed)
{
	struct fuzz fuzz = { bytes, count };
	uint8_t first[VMB_MSG_MAX_BYTES], second[VMB_MSG_MAX_BYTES];
	uint8_t type = fuzz_u8(&fuzz), bits = fuzz_u8(&fuzz);
	struct agreed sent = *agreed;
	const struct vmb_msg_rule *rule = vmb_msg_rule_of(type);
	struct vmb_msg msg;

	fuzz_bytes(&fuzz, &msg, sizeof(msg));
	msg.type = (enum vmb_msg_type)type;
	correct(&msg, bits);
	count = encode(&msg, agreed, first);
	if (count == 0)
		return;
	FUZZ_CHECK(rule != NULL);
	sent.sender = rule->sender;
	FUZZ_CHECK(decode(first, count, &sent, &msg) == VMB_OK);
	/*
	 * Whoever speaks a version from before the tail of an offer ignores it; it is sent all
	 * the same.
	 */
	if (msg.type == VMB_MSG_OFFER_CHANNEL && agreed->version < VMB_VERSION_WIN7)
		return;
	/* All that is sent has a meaning. */
	FUZZ_CHECK(encode(&msg, agreed, second) == count && memcmp(first, second, count) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
	struct fuzz fuzz = { bytes, count };
	uint32_t form = fuzz_u8(&fuzz), index = fuzz_u8(&fuzz);
	struct agreed agreed = { .sender = (form & 1) != 0 ? VMB_FROM_HOST : VMB_FROM_GUEST };

	agreed.features = fuzz_u32(&fuzz);
	if (index < VMB_VERSION_COUNT)
		agreed.version = vmb_versions[index];
	else if ((index & 1) != 0)
		agreed.version = fuzz_u32(&fuzz);
	FUZZ_CHECK(vmb_version_is_known(agreed.version) || index >= VMB_VERSION_COUNT);
	if ((form & 2) != 0)
		from_struct(fuzz.at, fuzz.left, &agreed);
	else
		from_bytes(fuzz.at, fuzz.left, &agreed);
	return 0;
}
