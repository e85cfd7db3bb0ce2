/* SPDX-License-Identifier: MIT */
/*
 * Codecs of the messages about one channel: offer, open, close, reserved channels, modify
 * (vmbus-protocol 4.4, 4.5, 4.10). A channel id from a guest is not judged here: some wrong ids are
 * owed an answer.
 */
#include "wire/msg_table.h"

#define OFFER_MONITOR_ALLOCATED 0x1u
#define OFFER_IS_DEDICATED 0x1u

/* ---- offer ---------------------------------------------------------------------------------- */

/* Flags that mean something only with a feature; without it they are not sent and not believed. */
static uint16_t
offer_flags_meant(uint16_t flags, const struct vmb_msg_context *ctx)
{
	uint32_t meaningless = 0;

	if ((ctx->features & VMB_FEATURE_CONFIDENTIAL_CHANNELS) == 0)
		meaningless |= VMB_OFFER_CONFIDENTIAL_RING | VMB_OFFER_CONFIDENTIAL_EXTERNAL;
	if ((ctx->features & VMB_FEATURE_GPA_PINNING) == 0)
		meaningless |= VMB_OFFER_PINNED_EXTERNAL;
	return (uint16_t)(flags & ~meaningless);
}

static const char *
offer_fault(const struct vmb_msg_offer *offer)
{
	if (offer->channel_id == 0 || offer->channel_id > VMB_CHANNEL_ID_MAX)
		return "offer with a channel id outside 1..2047";
	if (offer->monitor_allocated && offer->monitor_id > VMB_MONITOR_ID_MAX)
		return "offer with a monitor id above 127";
	return NULL;
}

enum vmb_status
vmb_msg_decode_offer(const void *bytes, size_t byte_count, const struct vmb_msg_context *ctx,
                     struct vmb_msg *msg, const char **why)
{
	const struct vmb_wire_offer_old *wire = bytes;
	const struct vmb_wire_offer *wire_full = bytes;
	struct vmb_msg_offer *offer = &msg->offer;
	const char *fault;

	offer->interface_type = wire->interface_type;
	offer->interface_instance = wire->interface_instance;
	offer->flags = offer_flags_meant(vmb_le16_get(wire->flags), ctx);
	offer->mmio_megabytes = vmb_le16_get(wire->mmio_megabytes);
	__builtin_memcpy(offer->user_data, wire->user_data, sizeof(offer->user_data));
	offer->subchannel_index = vmb_le16_get(wire->subchannel_index);
	offer->mmio_megabytes_optional = vmb_le16_get(wire->mmio_megabytes_optional);
	offer->channel_id = vmb_le32_get(wire->channel_id);
	offer->monitor_id = wire->monitor_id;
	offer->monitor_allocated = (wire->monitor_allocated & OFFER_MONITOR_ALLOCATED) != 0;
	fault = offer_fault(offer);
	if (fault != NULL) {
		*why = fault;
		return VMB_E_MALFORMED;
	}
	/* Before 1.1 all channels share one connection id; what newer hosts append has no use. */
	if (ctx->version < VMB_VERSION_WIN7)
		return VMB_OK;
	if (byte_count < sizeof(*wire_full)) {
		*why = "offer without the connection id that 1.1 added";
		return VMB_E_MALFORMED;
	}
	offer->is_dedicated = (vmb_le16_get(wire_full->is_dedicated) & OFFER_IS_DEDICATED) != 0;
	offer->connection_id = vmb_le32_get(wire_full->connection_id);
	return VMB_OK;
}

size_t
vmb_msg_encode_offer(const struct vmb_msg *msg, const struct vmb_msg_context *ctx, void *out)
{
	const struct vmb_msg_offer *offer = &msg->offer;
	struct vmb_wire_offer *wire_full = out;
	struct vmb_wire_offer_old *wire = &wire_full->old;

	if (offer_fault(offer) != NULL)
		return 0;
	wire->interface_type = offer->interface_type;
	wire->interface_instance = offer->interface_instance;
	wire->flags = vmb_le16_make(offer_flags_meant(offer->flags, ctx));
	wire->mmio_megabytes = vmb_le16_make(offer->mmio_megabytes);
	__builtin_memcpy(wire->user_data, offer->user_data, sizeof(wire->user_data));
	wire->subchannel_index = vmb_le16_make(offer->subchannel_index);
	wire->mmio_megabytes_optional = vmb_le16_make(offer->mmio_megabytes_optional);
	wire->channel_id = vmb_le32_make(offer->channel_id);
	wire->monitor_id = offer->monitor_id;
	wire->monitor_allocated = offer->monitor_allocated ? OFFER_MONITOR_ALLOCATED : 0;
	wire_full->is_dedicated = vmb_le16_make(offer->is_dedicated ? OFFER_IS_DEDICATED : 0);
	wire_full->connection_id = vmb_le32_make(offer->connection_id);
	return sizeof(*wire_full);
}

/* ---- messages that name a channel and no more ----------------------------------------------- */

enum vmb_status
vmb_msg_decode_channel(const void *bytes, size_t byte_count, const struct vmb_msg_context *ctx,
                       struct vmb_msg *msg, const char **why)
{
	const struct vmb_wire_channel *wire = bytes;

	(void)byte_count;
	(void)ctx;
	(void)why;
	msg->channel.channel_id = vmb_le32_get(wire->channel_id);
	return VMB_OK;
}

size_t
vmb_msg_encode_channel(const struct vmb_msg *msg, const struct vmb_msg_context *ctx, void *out)
{
	struct vmb_wire_channel *wire = out;

	(void)ctx;
	wire->channel_id = vmb_le32_make(msg->channel.channel_id);
	return sizeof(*wire);
}

/* ---- open ----------------------------------------------------------------------------------- */

static bool
open_is_extended(const struct vmb_msg_context *ctx)
{
	return (ctx->features &
	        (VMB_FEATURE_GUEST_SIGNAL_PARAMETERS | VMB_FEATURE_INTERRUPT_REDIRECTION)) != 0;
}

enum vmb_status
vmb_msg_decode_open(const void *bytes, size_t byte_count, const struct vmb_msg_context *ctx,
                    struct vmb_msg *msg, const char **why)
{
	const struct vmb_wire_open *wire = bytes;
	const struct vmb_wire_open_extended *wire_extended = bytes;
	struct vmb_msg_open *open = &msg->open;

	open->channel_id = vmb_le32_get(wire->channel_id);
	open->open_id = vmb_le32_get(wire->open_id);
	open->ring_gpadl = vmb_le32_get(wire->ring_gpadl);
	open->target_vp = vmb_le32_get(wire->target_vp);
	open->downstream_page_offset = vmb_le32_get(wire->downstream_page_offset);
	__builtin_memcpy(open->user_data, wire->user_data, sizeof(open->user_data));
	if (!open_is_extended(ctx))
		return VMB_OK;
	if (byte_count < sizeof(*wire_extended)) {
		*why = "OpenChannel without the fields of the agreed features";
		return VMB_E_MALFORMED;
	}
	if ((ctx->features & VMB_FEATURE_GUEST_SIGNAL_PARAMETERS) != 0) {
		open->connection_id = vmb_le32_get(wire_extended->connection_id);
		open->event_flag = vmb_le16_get(wire_extended->event_flag);
	}
	if ((ctx->features & VMB_FEATURE_INTERRUPT_REDIRECTION) != 0)
		open->open_flags = vmb_le16_get(wire_extended->open_flags) &
		                   VMB_OPEN_REDIRECT_INTERRUPT;
	return VMB_OK;
}

size_t
vmb_msg_encode_open(const struct vmb_msg *msg, const struct vmb_msg_context *ctx, void *out)
{
	const struct vmb_msg_open *open = &msg->open;
	struct vmb_wire_open_extended *wire_extended = out;
	struct vmb_wire_open *wire = &wire_extended->open;

	wire->channel_id = vmb_le32_make(open->channel_id);
	wire->open_id = vmb_le32_make(open->open_id);
	wire->ring_gpadl = vmb_le32_make(open->ring_gpadl);
	wire->target_vp = vmb_le32_make(open->target_vp);
	wire->downstream_page_offset = vmb_le32_make(open->downstream_page_offset);
	__builtin_memcpy(wire->user_data, open->user_data, sizeof(wire->user_data));
	if (!open_is_extended(ctx))
		return sizeof(*wire);
	if ((ctx->features & VMB_FEATURE_GUEST_SIGNAL_PARAMETERS) != 0) {
		wire_extended->connection_id = vmb_le32_make(open->connection_id);
		wire_extended->event_flag = vmb_le16_make(open->event_flag);
	}
	if ((ctx->features & VMB_FEATURE_INTERRUPT_REDIRECTION) != 0)
		wire_extended->open_flags =
			vmb_le16_make(open->open_flags & VMB_OPEN_REDIRECT_INTERRUPT);
	return sizeof(*wire_extended);
}

enum vmb_status
vmb_msg_decode_open_result(const void *bytes, size_t byte_count, const struct vmb_msg_context *ctx,
                           struct vmb_msg *msg, const char **why)
{
	const struct vmb_wire_open_result *wire = bytes;

	(void)byte_count;
	(void)ctx;
	(void)why;
	msg->open_result.channel_id = vmb_le32_get(wire->channel_id);
	msg->open_result.open_id = vmb_le32_get(wire->open_id);
	msg->open_result.status = vmb_le32_get(wire->status);
	return VMB_OK;
}

size_t
vmb_msg_encode_open_result(const struct vmb_msg *msg, const struct vmb_msg_context *ctx, void *out)
{
	struct vmb_wire_open_result *wire = out;

	(void)ctx;
	wire->channel_id = vmb_le32_make(msg->open_result.channel_id);
	wire->open_id = vmb_le32_make(msg->open_result.open_id);
	wire->status = vmb_le32_make(msg->open_result.status);
	return sizeof(*wire);
}

/* ---- reserved channels ---------------------------------------------------------------------- */

enum vmb_status
vmb_msg_decode_close_reserved(const void *bytes, size_t byte_count,
                              const struct vmb_msg_context *ctx, struct vmb_msg *msg,
                              const char **why)
{
	const struct vmb_wire_close_reserved *wire = bytes;

	(void)byte_count;
	(void)ctx;
	(void)why;
	msg->reserved.channel_id = vmb_le32_get(wire->channel_id);
	msg->reserved.target_vp = vmb_le32_get(wire->target_vp);
	msg->reserved.target_sint = vmb_le32_get(wire->target_sint);
	return VMB_OK;
}

size_t
vmb_msg_encode_close_reserved(const struct vmb_msg *msg, const struct vmb_msg_context *ctx,
                              void *out)
{
	struct vmb_wire_close_reserved *wire = out;

	(void)ctx;
	wire->channel_id = vmb_le32_make(msg->reserved.channel_id);
	wire->target_vp = vmb_le32_make(msg->reserved.target_vp);
	wire->target_sint = vmb_le32_make(msg->reserved.target_sint);
	return sizeof(*wire);
}

enum vmb_status
vmb_msg_decode_open_reserved(const void *bytes, size_t byte_count,
                             const struct vmb_msg_context *ctx, struct vmb_msg *msg,
                             const char **why)
{
	const struct vmb_wire_open_reserved *wire = bytes;

	msg->reserved.ring_gpadl = vmb_le32_get(wire->ring_gpadl);
	msg->reserved.downstream_page_offset = vmb_le32_get(wire->downstream_page_offset);
	return vmb_msg_decode_close_reserved(bytes, byte_count, ctx, msg, why);
}

size_t
vmb_msg_encode_open_reserved(const struct vmb_msg *msg, const struct vmb_msg_context *ctx,
			     void *out)
{
	struct vmb_wire_open_reserved *wire = out;

	(void)vmb_msg_encode_close_reserved(msg, ctx, out);
	wire->ring_gpadl = vmb_le32_make(msg->reserved.ring_gpadl);
	wire->downstream_page_offset = vmb_le32_make(msg->reserved.downstream_page_offset);
	return sizeof(*wire);
}

/* ---- modify --------------------------------------------------------------------------------- */

enum vmb_status
vmb_msg_decode_modify_channel(const void *bytes, size_t byte_count,
                              const struct vmb_msg_context *ctx, struct vmb_msg *msg,
                              const char **why)
{
	const struct vmb_wire_modify_channel *wire = bytes;

	(void)byte_count;
	(void)ctx;
	(void)why;
	msg->modify_channel.channel_id = vmb_le32_get(wire->channel_id);
	msg->modify_channel.target_vp = vmb_le32_get(wire->target_vp_or_status);
	return VMB_OK;
}

size_t
vmb_msg_encode_modify_channel(const struct vmb_msg *msg, const struct vmb_msg_context *ctx,
                              void *out)
{
	struct vmb_wire_modify_channel *wire = out;

	(void)ctx;
	wire->channel_id = vmb_le32_make(msg->modify_channel.channel_id);
	wire->target_vp_or_status = vmb_le32_make(msg->modify_channel.target_vp);
	return sizeof(*wire);
}

enum vmb_status
vmb_msg_decode_modify_channel_response(const void *bytes, size_t byte_count,
                                       const struct vmb_msg_context *ctx, struct vmb_msg *msg,
                                       const char **why)
{
	const struct vmb_wire_modify_channel *wire = bytes;

	(void)byte_count;
	(void)ctx;
	(void)why;
	msg->modify_channel.channel_id = vmb_le32_get(wire->channel_id);
	msg->modify_channel.status = vmb_le32_get(wire->target_vp_or_status);
	return VMB_OK;
}

size_t
vmb_msg_encode_modify_channel_response(const struct vmb_msg *msg, const struct vmb_msg_context *ctx,
                                       void *out)
{
	struct vmb_wire_modify_channel *wire = out;

	(void)ctx;
	wire->channel_id = vmb_le32_make(msg->modify_channel.channel_id);
	wire->target_vp_or_status = vmb_le32_make(msg->modify_channel.status);
	return sizeof(*wire);
}
