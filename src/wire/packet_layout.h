/* SPDX-License-Identifier: MIT */
/*
 * Packets byte for byte (vmbus-protocol 2 and 3.1).
 */
#ifndef WIRE_PACKET_LAYOUT_H
#define WIRE_PACKET_LAYOUT_H

#include "vmb/packet.h"
#include "wire/le.h"

struct vmb_wire_descriptor {
	vmb_le16 type;
	vmb_le16 data_offset_qwords;
	vmb_le16 body_qwords;           /* trailer excluded */
	vmb_le16 flags;
	vmb_le64 transaction_id;
};
VMB_WIRE_SIZE(struct vmb_wire_descriptor, 16);
VMB_WIRE_AT(struct vmb_wire_descriptor, type, 0);
VMB_WIRE_AT(struct vmb_wire_descriptor, data_offset_qwords, 2);
VMB_WIRE_AT(struct vmb_wire_descriptor, body_qwords, 4);
VMB_WIRE_AT(struct vmb_wire_descriptor, flags, 6);
VMB_WIRE_AT(struct vmb_wire_descriptor, transaction_id, 8);

/* Follows the descriptor of a GPA-direct packet. */
struct vmb_wire_gpa_direct {
	vmb_le32 reserved;
	vmb_le32 range_count;
};
VMB_WIRE_SIZE(struct vmb_wire_gpa_direct, VMB_GPA_DIRECT_HEADER_BYTES);
VMB_WIRE_AT(struct vmb_wire_gpa_direct, range_count, 4);

struct vmb_wire_gpa_range {
	vmb_le32 byte_count;
	vmb_le32 byte_offset;
	vmb_le64 pfns[];
};
VMB_WIRE_SIZE(struct vmb_wire_gpa_range, VMB_GPA_RANGE_HEADER_BYTES);
VMB_WIRE_AT(struct vmb_wire_gpa_range, byte_offset, 4);
VMB_WIRE_AT(struct vmb_wire_gpa_range, pfns, 8);

/*
 * Follows the descriptor of a transfer-page packet. The byte after the set id says who owns the
 * set; nobody reads it.
 */
struct vmb_wire_transfer {
	vmb_le16 set_id;
	vmb_le16 reserved;
	vmb_le32 range_count;
};
VMB_WIRE_SIZE(struct vmb_wire_transfer, VMB_TRANSFER_HEADER_BYTES);
VMB_WIRE_AT(struct vmb_wire_transfer, set_id, 0);
VMB_WIRE_AT(struct vmb_wire_transfer, range_count, 4);

struct vmb_wire_transfer_range {
	vmb_le32 byte_count;
	vmb_le32 byte_offset;
};
VMB_WIRE_SIZE(struct vmb_wire_transfer_range, VMB_TRANSFER_RANGE_BYTES);
VMB_WIRE_AT(struct vmb_wire_transfer_range, byte_count, 0);
VMB_WIRE_AT(struct vmb_wire_transfer_range, byte_offset, 4);

struct vmb_wire_pipe {
	vmb_le32 type;
	vmb_le32 bytes;
};
VMB_WIRE_SIZE(struct vmb_wire_pipe, VMB_PIPE_HEADER_BYTES);
VMB_WIRE_AT(struct vmb_wire_pipe, bytes, 4);

#endif
