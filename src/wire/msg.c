/* SPDX-License-Identifier: MIT */
/*
 * Control messages: the checks that hold for every type (size, sender, version, feature), in the
 * order in which the table lets them be asked, then the type's own codec. Nothing is read past the
 * given bytes.
 */
#include "wire/msg_table.h"

static struct vmb_msg_context
msg_context(uint32_t version, uint32_t features)
{
	/*
	 * Feature flags do not exist below 6.0: what a caller remembers from an older connection
	 * must not count.
	 */
	struct vmb_msg_context ctx = {
		.version = version,
		.features = version >= VMB_VERSION_COPPER ? features : 0,
	};

	return ctx;
}

static enum vmb_status
msg_check_agreed(const struct vmb_msg_rule *rule, const struct vmb_msg_context *ctx,
		 const char **why)
{
	if (rule->min_version != 0 && ctx->version == 0) {
		*why = "message before a protocol version was agreed";
		return VMB_E_UNSUPPORTED;
	}
	if (ctx->version < rule->min_version) {
		*why = "message of a newer protocol version than agreed";
		return VMB_E_UNSUPPORTED;
	}
	if ((ctx->features & rule->feature) != rule->feature) {
		*why = "message of a feature that was not agreed";
		return VMB_E_UNSUPPORTED;
	}
	return VMB_OK;
}

enum vmb_status
vmb_msg_decode(const void *bytes, size_t byte_count, enum vmb_msg_sender sender, uint32_t version,
               uint32_t features, struct vmb_msg *msg, const char **why)
{
	const struct vmb_msg_context ctx = msg_context(version, features);
	const struct vmb_wire_msg *header = bytes;
	const struct vmb_msg_rule *rule;
	enum vmb_status st;
	uint32_t type;

	__builtin_memset(msg, 0, sizeof(*msg));
	if (byte_count < sizeof(*header)) {
		*why = "message shorter than its header";
		return VMB_E_MALFORMED;
	}
	if (byte_count > VMB_MSG_MAX_BYTES) {
		*why = "message longer than 240 bytes";
		return VMB_E_MALFORMED;
	}
	type = vmb_le32_get(header->type);
	rule = vmb_msg_rule_of(type);
	if (rule == NULL) {
		*why = "unknown message type";
		return VMB_E_UNSUPPORTED;
	}
	msg->type = (enum vmb_msg_type)type;
	if (rule->sender != sender) {
		*why = sender == VMB_FROM_GUEST ? "message that only a host may send, from a guest"
		                                : "message that only a guest may send, from a host";
		return VMB_E_ACCESS;
	}
	st = msg_check_agreed(rule, &ctx, why);
	if (st != VMB_OK)
		return st;
	if (byte_count < rule->min_bytes) {
		*why = "message too short for its type";
		return VMB_E_MALFORMED;
	}
	return rule->decode(bytes, byte_count, &ctx, msg, why);
}

size_t
vmb_msg_encode(const struct vmb_msg *msg, uint32_t version, uint32_t features, void *out)
{
	const struct vmb_msg_context ctx = msg_context(version, features);
	const struct vmb_msg_rule *rule = vmb_msg_rule_of((uint32_t)msg->type);
	struct vmb_wire_msg *header = out;
	const char *why;

	if (rule == NULL || msg_check_agreed(rule, &ctx, &why) != VMB_OK)
		return 0;
	__builtin_memset(out, 0, VMB_MSG_MAX_BYTES);
	header->type = vmb_le32_make((uint32_t)msg->type);
	return rule->encode(msg, &ctx, out);
}
