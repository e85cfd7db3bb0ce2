/* SPDX-License-Identifier: MIT */
/*
 * Packet descriptors and what stands between a descriptor and its payload (vmbus-protocol 2). Every
 * packet that comes out of a ring passes vmb_packet_parse(): the types in use are decided first,
 * refusals last.
 */
#include "wire/packet_layout.h"

#define DESCRIPTOR_BYTES ((uint32_t)sizeof(struct vmb_wire_descriptor))
/*
 * Descriptor and the 8 bytes with the range count: where the ranges of both range-carrying types
 * begin.
 */
#define RANGES_OFFSET 24u
/* The least that one GPA range takes: its header and one page number, for no range is empty. */
#define GPA_RANGE_MIN_BYTES (VMB_GPA_RANGE_HEADER_BYTES + 8u)

static const char *const packet_type_names[] = {
	[VMB_PACKET_INVALID] = "invalid",
	[VMB_PACKET_SYNCH] = "synch",
	[VMB_PACKET_ADD_TRANSFER_PAGES] = "add transfer page set",
	[VMB_PACKET_REMOVE_TRANSFER_PAGES] = "remove transfer page set",
	[VMB_PACKET_ESTABLISH_GPADL] = "establish GPADL",
	[VMB_PACKET_TEARDOWN_GPADL] = "tear down GPADL",
	[VMB_PACKET_IN_BAND] = "in-band",
	[VMB_PACKET_TRANSFER_PAGES] = "transfer pages",
	[VMB_PACKET_GPADL] = "data using GPADL",
	[VMB_PACKET_GPA_DIRECT] = "GPA-direct",
	[VMB_PACKET_CANCEL] = "cancel request",
	[VMB_PACKET_COMPLETION] = "completion",
	[VMB_PACKET_ADDITIONAL] = "data using additional packets",
	[VMB_PACKET_ADDITIONAL_DATA] = "additional data",
};
#define PACKET_TYPE_COUNT (sizeof(packet_type_names) / sizeof(packet_type_names[0]))

const char *
vmb_packet_type_name(uint32_t type)
{
	return type < PACKET_TYPE_COUNT ? packet_type_names[type] : "unknown";
}

void
vmb_packet_put_descriptor(void *dst, enum vmb_packet_type type, uint32_t data_offset,
                          uint32_t body_bytes, uint32_t flags, uint64_t transaction_id)
{
	const vmb_le64 qwords[] = {
		/* Offset and length count in units of 8 bytes: shifted by 3 less than where they lie. */
		vmb_le64_make((uint64_t)(uint16_t)type | (uint64_t)(data_offset & 0xFFFFu << 3) << 13 |
		              (uint64_t)(body_bytes & 0xFFFFu << 3) << 29 | (uint64_t)(uint16_t)flags << 48),
		vmb_le64_make(transaction_id),
	};

	__builtin_memcpy(dst, qwords, sizeof(qwords));
}

void
vmb_packet_put_gpa_direct(void *dst, uint32_t range_count)
{
	struct vmb_wire_gpa_direct *wire = dst;

	wire->reserved = vmb_le32_make(0);
	wire->range_count = vmb_le32_make(range_count);
}

void
vmb_packet_put_transfer(void *dst, uint16_t set_id, uint32_t range_count)
{
	struct vmb_wire_transfer *wire = dst;

	wire->set_id = vmb_le16_make(set_id);
	wire->reserved = vmb_le16_make(0);
	wire->range_count = vmb_le32_make(range_count);
}

static enum vmb_status
packet_malformed(const char *rule, const char **why)
{
	*why = rule;
	return VMB_E_MALFORMED;
}

static enum vmb_status
packet_parse_gpa_direct(const uint8_t *header, uint32_t header_bytes, struct vmb_packet *packet,
                        const char **why)
{
	const struct vmb_wire_gpa_direct *wire = (const void *)(header + DESCRIPTOR_BYTES);

	if (packet->payload_offset < RANGES_OFFSET)
		return packet_malformed("GPA-direct packet without a range count", why);
	if (header_bytes < RANGES_OFFSET)
		return VMB_E_INVALID;
	packet->range_count = vmb_le32_get(wire->range_count);
	packet->ranges_offset = RANGES_OFFSET;
	packet->ranges_bytes = packet->payload_offset - RANGES_OFFSET;
	if (packet->range_count == 0)
		return packet_malformed("GPA-direct packet without a range", why);
	if (packet->range_count > packet->ranges_bytes / GPA_RANGE_MIN_BYTES)
		return packet_malformed("GPA-direct packet with more ranges than it has room for",
					why);
	return VMB_OK;
}

static enum vmb_status
packet_parse_transfer(const uint8_t *header, uint32_t header_bytes, struct vmb_packet *packet,
                      const char **why)
{
	const struct vmb_wire_transfer *wire = (const void *)(header + DESCRIPTOR_BYTES);

	if (packet->payload_offset < RANGES_OFFSET)
		return packet_malformed("transfer-page packet without a range count", why);
	if (header_bytes < RANGES_OFFSET)
		return VMB_E_INVALID;
	packet->transfer_page_set = vmb_le16_get(wire->set_id);
	packet->range_count = vmb_le32_get(wire->range_count);
	packet->ranges_offset = RANGES_OFFSET;
	packet->ranges_bytes = packet->payload_offset - RANGES_OFFSET;
	if (packet->range_count > packet->ranges_bytes / VMB_TRANSFER_RANGE_BYTES)
		return packet_malformed(
		    "transfer-page packet with more ranges than it has room for", why);
	return VMB_OK;
}

static enum vmb_status
packet_refuse(uint32_t type, const char **why)
{
	if (type >= PACKET_TYPE_COUNT)
		return packet_malformed("packet of an unknown type", why);
	if (type == VMB_PACKET_INVALID)
		return packet_malformed("packet of type 0", why);
	*why = packet_type_names[type];
	return VMB_E_UNSUPPORTED;
}

enum vmb_status
vmb_packet_parse(const void *header, uint32_t header_bytes, uint32_t type, uint32_t flags,
                 uint64_t transaction_id, uint32_t data_offset, uint32_t body_bytes,
                 struct vmb_packet *packet, const char **why)
{
	if (((data_offset | body_bytes) & 7u) != 0 || data_offset < DESCRIPTOR_BYTES ||
	    data_offset > body_bytes)
		return packet_malformed("packet with its payload outside its body", why);
	if ((flags & ~VMB_PACKET_FLAG_COMPLETION_REQUESTED) != 0)
		return packet_malformed("packet with a reserved flag", why);

	packet->type = (enum vmb_packet_type)type;
	packet->completion_requested = flags != 0;
	packet->transaction_id = transaction_id;
	packet->payload_offset = data_offset;
	packet->payload_bytes = body_bytes - data_offset;
	packet->range_count = 0;
	packet->ranges_offset = 0;
	packet->ranges_bytes = 0;
	packet->transfer_page_set = 0;

	switch (type) {
	case VMB_PACKET_IN_BAND:
		return VMB_OK;
	case VMB_PACKET_COMPLETION:
		/* Nobody answers an answer, whatever its sender wrote. */
		packet->completion_requested = false;
		return VMB_OK;
	case VMB_PACKET_GPA_DIRECT:
		return packet_parse_gpa_direct(header, header_bytes, packet, why);
	case VMB_PACKET_TRANSFER_PAGES:
		return packet_parse_transfer(header, header_bytes, packet, why);
	default:
		return packet_refuse(type, why);
	}
}
