/* SPDX-License-Identifier: MIT */
/*
 * What a guest may say, made of an input: well-formed messages about a few ids that may exist,
 * with fields that are right or wrong as the input has it.
 */
#ifndef FUZZ_GUEST_H
#define FUZZ_GUEST_H

#include "fuzz.h"
#include "vmb/msg.h"

#define FUZZ_GUEST_CHANNELS 7u /* ids below it are likely */

static inline uint32_t
fuzz_guest_channel(struct fuzz *fuzz)
{
	uint32_t pick = fuzz_u8(fuzz);

	return pick < 0xF0 ? pick % FUZZ_GUEST_CHANNELS : fuzz_u32(fuzz);
}

static inline void
fuzz_guest_gpadl(struct fuzz *fuzz, struct vmb_msg_gpadl_header *header)
{
	uint32_t channel_id = fuzz_guest_channel(fuzz), gpadl_id = 1 + fuzz_below(fuzz, 4);
	uint32_t shape = fuzz_u8(fuzz), pages = 1 + fuzz_below(fuzz, 40), qwords = 1 + pages;
	uint64_t first = fuzz_u8(fuzz);

	header->channel_id = channel_id;
	header->gpadl_id = gpadl_id;
	header->range_count = 1;
	header->range_bytes = (uint16_t)(8 * qwords);
	header->qwords[0] = pages * 4096u;
	for (uint32_t i = 1; i < VMB_GPADL_HEADER_QWORDS_MAX; i++)
		header->qwords[i] = first + i;
	if ((shape & 1) != 0)
		header->range_count = fuzz_u8(fuzz);
	if ((shape & 2) != 0)
		header->qwords[0] = fuzz_u64(fuzz);
	if ((shape & 4) != 0)
		header->range_bytes = fuzz_u16(fuzz);
	qwords = header->range_bytes / 8u;
	header->qword_count =
	    qwords < VMB_GPADL_HEADER_QWORDS_MAX ? qwords : VMB_GPADL_HEADER_QWORDS_MAX;
	if ((shape & 8) != 0)
		header->qword_count = fuzz_u8(fuzz) % (header->qword_count + 1);
}

static inline void
fuzz_guest_contact(struct fuzz *fuzz, struct vmb_msg_initiate_contact *contact)
{
	uint32_t shape = fuzz_u8(fuzz), version = fuzz_u8(fuzz);

	contact->version =
	    version < 0xE0 ? vmb_versions[version % VMB_VERSION_COUNT] : fuzz_u32(fuzz);
	contact->target_sint = (shape & 1) != 0 ? fuzz_u8(fuzz) : 2;
	contact->target_vtl = (shape & 2) != 0 ? fuzz_u8(fuzz) : 0;
	contact->target_message_vp = shape >> 6;
	contact->feature_flags = fuzz_u8(fuzz);
	contact->monitor_page_to_child = (shape & 4) != 0 ? 4096 : 0;
	contact->monitor_page_to_parent = (shape & 8) != 0 ? 8192 : 0;
}

static inline void
fuzz_guest_open(struct fuzz *fuzz, struct vmb_msg_open *open)
{
	uint32_t shape;

	open->channel_id = fuzz_guest_channel(fuzz);
	open->ring_gpadl = 1 + fuzz_below(fuzz, 4);
	shape = fuzz_u8(fuzz);
	open->open_id = fuzz_u8(fuzz);
	open->downstream_page_offset = (shape & 1) != 0 ? fuzz_u32(fuzz) : 2;
	open->target_vp = (shape & 2) != 0 ? VMB_VP_NONE : 0;
	open->connection_id =
	    (shape & 4) != 0 ? fuzz_u32(fuzz) >> (shape >> 4) : 0x2000u + open->channel_id;
	open->event_flag = (shape & 8) != 0 ? fuzz_u16(fuzz) : (uint16_t)open->channel_id;
}

/* A message that has a meaning, about ids that may have one. */
static inline void
fuzz_guest_message(struct fuzz *fuzz, struct vmb_msg *msg)
{
	static const uint8_t types[] = { 14, 3,  5,  5,  7,  8,  8,  9,  11, 13,
		                         16, 18, 19, 21, 22, 25, 27, 29, 1,  15 };

	msg->type = (enum vmb_msg_type)types[fuzz_below(fuzz, sizeof(types))];
	switch (msg->type) {
	case VMB_MSG_INITIATE_CONTACT:
		fuzz_guest_contact(fuzz, &msg->initiate_contact);
		break;
	case VMB_MSG_OPEN_CHANNEL:
		fuzz_guest_open(fuzz, &msg->open);
		break;
	case VMB_MSG_GPADL_HEADER:
		fuzz_guest_gpadl(fuzz, &msg->gpadl_header);
		break;
	case VMB_MSG_GPADL_BODY:
		msg->gpadl_body.gpadl_id = 1 + fuzz_below(fuzz, 4);
		msg->gpadl_body.qword_count = 1 + fuzz_below(fuzz, VMB_GPADL_BODY_QWORDS_MAX);
		for (uint32_t i = 0; i < msg->gpadl_body.qword_count; i++)
			msg->gpadl_body.qwords[i] = i;
		break;
	case VMB_MSG_GPADL_TEARDOWN:
		msg->gpadl.channel_id = fuzz_guest_channel(fuzz);
		msg->gpadl.gpadl_id = 1 + fuzz_below(fuzz, 4);
		break;
	case VMB_MSG_MODIFY_CHANNEL:
		msg->modify_channel.channel_id = fuzz_guest_channel(fuzz);
		msg->modify_channel.target_vp = fuzz_below(fuzz, 6) - 1u;
		break;
	case VMB_MSG_MODIFY_CONNECTION:
		msg->modify_connection.monitor_page_to_child = fuzz_below(fuzz, 2);
		msg->modify_connection.monitor_page_to_parent = fuzz_below(fuzz, 2);
		break;
	case VMB_MSG_OPEN_RESERVED:
	case VMB_MSG_CLOSE_RESERVED:
		msg->reserved.channel_id = fuzz_guest_channel(fuzz);
		break;
	case VMB_MSG_CLOSE_CHANNEL:
	case VMB_MSG_REL_ID_RELEASED:
		msg->channel.channel_id = fuzz_guest_channel(fuzz);
		break;
	default: /* nothing in it, or not a guest's */
		break;
	}
}

#endif
