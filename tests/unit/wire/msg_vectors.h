/* SPDX-License-Identifier: MIT */
/*
 * Control messages as literal bytes next to their meaning, written from the protocol's tables and
 * not by the encoder. The array indices are the offsets of those tables.
 */
#ifndef T_MSG_VECTORS_H
#define T_MSG_VECTORS_H

#include "vmb/msg.h"
#include "t_wire.h"

struct t_msg_vector {
	const char *name;
	enum vmb_msg_sender sender;
	uint32_t version;
	uint32_t features;
	size_t byte_count;
	const uint8_t *bytes;
	struct vmb_msg msg;
	bool decode_only;       /* a form that is accepted and never sent */
	bool tail_has_meaning;  /* bytes appended to this form change what it says */
};

extern const struct t_msg_vector t_msg_vectors[];
extern const size_t t_msg_vector_count;

#endif
