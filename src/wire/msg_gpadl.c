/* SPDX-License-Identifier: MIT */
/*
 * Codecs of the GPADL messages (vmbus-protocol 3.3). The ranges are handed on as qwords; putting
 * them together and judging them is the receiver's work, because a bad list is owed an answer.
 */
#include "wire/msg_table.h"

_Static_assert(sizeof(struct vmb_wire_gpadl_header) + 8u * VMB_GPADL_HEADER_QWORDS_MAX <=
                       VMB_MSG_MAX_BYTES,
               "a full GPADL header fits a message");
_Static_assert(sizeof(struct vmb_wire_gpadl_body) + 8u * VMB_GPADL_BODY_QWORDS_MAX ==
                       VMB_MSG_MAX_BYTES,
               "a full GPADL body fills a message");

static void
qwords_get(uint64_t *dst, const vmb_le64 *src, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		dst[i] = vmb_le64_get(src[i]);
}

static void
qwords_put(vmb_le64 *dst, const uint64_t *src, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		dst[i] = vmb_le64_make(src[i]);
}

enum vmb_status
vmb_msg_decode_gpadl_header(const void *bytes, size_t byte_count, const struct vmb_msg_context *ctx,
                            struct vmb_msg *msg, const char **why)
{
	const struct vmb_wire_gpadl_header *wire = bytes;
	struct vmb_msg_gpadl_header *header = &msg->gpadl_header;
	uint32_t qwords = (uint32_t)(byte_count - sizeof(*wire)) / 8u;

	(void)ctx;
	(void)why;
	header->channel_id = vmb_le32_get(wire->channel_id);
	header->gpadl_id = vmb_le32_get(wire->gpadl_id);
	header->range_bytes = vmb_le16_get(wire->range_bytes);
	header->range_count = vmb_le16_get(wire->range_count);
	/*
	 * UEFI posts 240 bytes whatever it has to say: what lies behind the announced length is
	 * padding.
	 */
	if (qwords > header->range_bytes / 8u)
		qwords = header->range_bytes / 8u;
	header->qword_count = qwords;
	qwords_get(header->qwords, wire->qwords, qwords);
	return VMB_OK;
}

size_t
vmb_msg_encode_gpadl_header(const struct vmb_msg *msg, const struct vmb_msg_context *ctx, void *out)
{
	const struct vmb_msg_gpadl_header *header = &msg->gpadl_header;
	struct vmb_wire_gpadl_header *wire = out;

	(void)ctx;
	if (header->range_bytes % 8u != 0 || header->qword_count > VMB_GPADL_HEADER_QWORDS_MAX ||
	    header->qword_count > header->range_bytes / 8u)
		return 0;
	wire->channel_id = vmb_le32_make(header->channel_id);
	wire->gpadl_id = vmb_le32_make(header->gpadl_id);
	wire->range_bytes = vmb_le16_make(header->range_bytes);
	wire->range_count = vmb_le16_make(header->range_count);
	qwords_put(wire->qwords, header->qwords, header->qword_count);
	return sizeof(*wire) + 8u * header->qword_count;
}

enum vmb_status
vmb_msg_decode_gpadl_body(const void *bytes, size_t byte_count, const struct vmb_msg_context *ctx,
                          struct vmb_msg *msg, const char **why)
{
	const struct vmb_wire_gpadl_body *wire = bytes;
	struct vmb_msg_gpadl_body *body = &msg->gpadl_body;
	uint32_t qwords = (uint32_t)(byte_count - sizeof(*wire)) / 8u;

	(void)ctx;
	/* A body that brings nothing could keep a GPADL in progress for ever. */
	if (qwords == 0) {
		*why = "GpadlBody without any range data";
		return VMB_E_MALFORMED;
	}
	body->message_number = vmb_le32_get(wire->message_number);
	body->gpadl_id = vmb_le32_get(wire->gpadl_id);
	body->qword_count = qwords;
	qwords_get(body->qwords, wire->qwords, qwords);
	return VMB_OK;
}

size_t
vmb_msg_encode_gpadl_body(const struct vmb_msg *msg, const struct vmb_msg_context *ctx, void *out)
{
	const struct vmb_msg_gpadl_body *body = &msg->gpadl_body;
	struct vmb_wire_gpadl_body *wire = out;

	(void)ctx;
	if (body->qword_count == 0 || body->qword_count > VMB_GPADL_BODY_QWORDS_MAX)
		return 0;
	wire->message_number = vmb_le32_make(body->message_number);
	wire->gpadl_id = vmb_le32_make(body->gpadl_id);
	qwords_put(wire->qwords, body->qwords, body->qword_count);
	return sizeof(*wire) + 8u * body->qword_count;
}

enum vmb_status
vmb_msg_decode_gpadl_teardown(const void *bytes, size_t byte_count,
                              const struct vmb_msg_context *ctx, struct vmb_msg *msg,
                              const char **why)
{
	const struct vmb_wire_gpadl_teardown *wire = bytes;

	(void)byte_count;
	(void)ctx;
	(void)why;
	msg->gpadl.channel_id = vmb_le32_get(wire->channel_id);
	msg->gpadl.gpadl_id = vmb_le32_get(wire->gpadl_id);
	return VMB_OK;
}

size_t
vmb_msg_encode_gpadl_teardown(const struct vmb_msg *msg, const struct vmb_msg_context *ctx,
			      void *out)
{
	struct vmb_wire_gpadl_teardown *wire = out;

	(void)ctx;
	wire->channel_id = vmb_le32_make(msg->gpadl.channel_id);
	wire->gpadl_id = vmb_le32_make(msg->gpadl.gpadl_id);
	return sizeof(*wire);
}

enum vmb_status
vmb_msg_decode_gpadl_created(const void *bytes, size_t byte_count,
                             const struct vmb_msg_context *ctx, struct vmb_msg *msg,
                             const char **why)
{
	const struct vmb_wire_gpadl_created *wire = bytes;

	msg->gpadl.status = vmb_le32_get(wire->status);
	return vmb_msg_decode_gpadl_teardown(bytes, byte_count, ctx, msg, why);
}

size_t
vmb_msg_encode_gpadl_created(const struct vmb_msg *msg, const struct vmb_msg_context *ctx,
			     void *out)
{
	struct vmb_wire_gpadl_created *wire = out;

	(void)vmb_msg_encode_gpadl_teardown(msg, ctx, out);
	wire->status = vmb_le32_make(msg->gpadl.status);
	return sizeof(*wire);
}

enum vmb_status
vmb_msg_decode_gpadl_torndown(const void *bytes, size_t byte_count,
                              const struct vmb_msg_context *ctx, struct vmb_msg *msg,
                              const char **why)
{
	const struct vmb_wire_gpadl_torndown *wire = bytes;

	(void)byte_count;
	(void)ctx;
	(void)why;
	msg->gpadl.gpadl_id = vmb_le32_get(wire->gpadl_id);
	return VMB_OK;
}

size_t
vmb_msg_encode_gpadl_torndown(const struct vmb_msg *msg, const struct vmb_msg_context *ctx,
			      void *out)
{
	struct vmb_wire_gpadl_torndown *wire = out;

	(void)ctx;
	wire->gpadl_id = vmb_le32_make(msg->gpadl.gpadl_id);
	return sizeof(*wire);
}
