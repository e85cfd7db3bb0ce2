/* SPDX-License-Identifier: MIT */
/*
 * The header in front of each payload of a channel in pipe mode (vmbus-protocol 2.6). Only data is
 * taken from a peer: "partial" is a mark that a reader leaves in its own ring, so from outside it
 * is as wrong as any other.
 */
#include "wire/packet_layout.h"

static const char *const pipe_type_names[] = {
	[VMB_PIPE_INVALID] = "invalid",
	[VMB_PIPE_DATA] = "data",
	[VMB_PIPE_PARTIAL] = "partial",
	[VMB_PIPE_SETUP_GPA_DIRECT] = "setup GPA direct",
	[VMB_PIPE_TEARDOWN_GPA_DIRECT] = "teardown GPA direct",
	[VMB_PIPE_INDICATION_COMPLETE] = "indication complete",
};
#define PIPE_TYPE_COUNT (sizeof(pipe_type_names) / sizeof(pipe_type_names[0]))

void
vmb_pipe_put_header(void *dst, uint32_t bytes)
{
	struct vmb_wire_pipe *wire = dst;

	wire->type = vmb_le32_make(VMB_PIPE_DATA);
	wire->bytes = vmb_le32_make(bytes);
}

static enum vmb_status
pipe_malformed(const char *rule, const char **why)
{
	*why = rule;
	return VMB_E_MALFORMED;
}

enum vmb_status
vmb_pipe_parse(const void *payload, uint32_t payload_bytes, struct vmb_pipe_header *header,
               const char **why)
{
	const struct vmb_wire_pipe *wire = payload;
	uint32_t type;
	uint32_t bytes;

	if (payload_bytes < VMB_PIPE_HEADER_BYTES)
		return pipe_malformed("pipe packet shorter than its header", why);
	type = vmb_le32_get(wire->type);
	bytes = vmb_le32_get(wire->bytes);
	if (type != VMB_PIPE_DATA) {
		/* A later kind of message is no fault: its reader drops it (INC-9). */
		*why = type < PIPE_TYPE_COUNT ? pipe_type_names[type] : "an unknown type";
		return VMB_E_UNSUPPORTED;
	}
	if (bytes > VMB_PIPE_MAX_BYTES)
		return pipe_malformed("pipe packet of more than 16384 bytes", why);
	if (bytes > payload_bytes - VMB_PIPE_HEADER_BYTES)
		return pipe_malformed("pipe packet shorter than the data it announces", why);
	header->type = VMB_PIPE_DATA;
	header->bytes = bytes;
	return VMB_OK;
}
