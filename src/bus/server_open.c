/* SPDX-License-Identifier: MIT */
/*
 * What a guest asks for when it opens a channel: the checks that come before the device hears of it
 * (vmbus-protocol 3.4, 4.5), the mapping of the ring, and the one answer.
 */
#include "bus/server.h"

#define EVENT_CONNECTION_LEGACY 2u
#define EVENT_CONNECTION_MONITOR 3u
#define CONNECTION_ID_BITS_MAX 0xFFFFFFu     /* HvSignalEvent takes 24 bits */
#define EVENT_FLAG_MAX 2047u

/* Guest-chosen signal parameters exist only with the feature; else they are the offer's. */
static bool
guest_chooses_signals(const struct vmb_bus_server *server)
{
	return (server->features & VMB_FEATURE_GUEST_SIGNAL_PARAMETERS) != 0;
}

static uint32_t
open_connection_id(const struct vmb_bus_server *server, const struct server_channel *channel,
                   const struct vmb_msg_open *open)
{
	return guest_chooses_signals(server) ? open->connection_id : channel->offer.connection_id;
}

static bool
state_listens(enum server_channel_state state)
{
	return state == SC_OPENING || state == SC_OPEN || state == SC_CLOSING ||
	       state == SC_CLOSING_REOPEN || state == SC_REVOKED_OPENING ||
	       state == SC_REVOKED_CLOSING;
}

uint32_t
vmb_bus_server_open_channels(const struct vmb_bus_server *server)
{
	uint32_t count = 0;

	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++)
		count += server->channels[id] != NULL && state_listens(server->channels[id]->state);
	return count;
}

static bool
connection_id_is_taken(const struct vmb_bus_server *server, const struct server_channel *self,
                       uint32_t connection_id)
{
	if (connection_id == VMB_CONNECTION_ID_LEGACY || connection_id == EVENT_CONNECTION_LEGACY ||
	    connection_id == EVENT_CONNECTION_MONITOR ||
	    connection_id == VMB_CONNECTION_ID_MULTI_CLIENT)
		return true;
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		const struct server_channel *other = server->channels[id];

		if (other == NULL || other == self)
			continue;
		if (other->offer.connection_id == connection_id)
			return true;
		if (state_listens(other->state) &&
		    open_connection_id(server, other, &other->open) == connection_id)
			return true;
	}
	return false;
}

static const char *
ring_check(const struct vmb_gpadl_list *list, const struct vmb_msg_open *open)
{
	struct vmb_gpa_cursor cursor;
	struct vmb_gpa_range range;
	const char *why = NULL;

	if (list->count != 1)
		return "open with a ring GPADL that is not one range";
	vmb_gpa_begin(&cursor, list->ranges, list->bytes, list->count);
	if (vmb_gpa_next(&cursor, &range, &why) != VMB_OK)
		return "open with a ring GPADL that is not one range";
	if (range.byte_offset != 0 || range.byte_count % 4096u != 0)
		return "open with a ring GPADL that is not whole pages";
	if (range.page_count < 4)
		return "open with a ring GPADL too small for two rings";
	if (open->downstream_page_offset < 2 || open->downstream_page_offset > range.page_count - 2)
		return "open with a ring that leaves no room for one direction";
	return NULL;
}

static const char *
signals_check(const struct vmb_bus_server *server, const struct server_channel *channel,
              const struct vmb_msg_open *open)
{
	if (!guest_chooses_signals(server))
		return NULL;
	if (open->event_flag > EVENT_FLAG_MAX)
		return "open with an event flag above 2047";
	if (open->connection_id == 0 || open->connection_id > CONNECTION_ID_BITS_MAX)
		return "open with a connection id that is not a 24-bit id";
	if (connection_id_is_taken(server, channel, open->connection_id))
		return "open with a connection id that is in use";
	return NULL;
}

const char *
server_open_check(const struct vmb_bus_server *server, const struct server_channel *channel,
                  const struct vmb_msg_open *open)
{
	const char *why = signals_check(server, channel, open);
	struct vmb_gpadl_list list;

	if (why != NULL)
		return why;
	if (vmb_gpadl_look(server->gpadls, open->channel_id, open->ring_gpadl, &list) != VMB_OK)
		return "open with a ring GPADL that this channel does not have";
	return ring_check(&list, open);
}

const char *
server_open_recheck(const struct vmb_bus_server *server, const struct server_channel *channel)
{
	const struct vmb_msg_open *open = &channel->open;
	const char *why = signals_check(server, channel, open);
	struct vmb_gpadl_list list;

	if (why != NULL)
		return why;
	if (vmb_gpadl_look_ring(server->gpadls, open->channel_id, open->ring_gpadl, &list) != VMB_OK)
		return "open channel without its ring";
	return ring_check(&list, open);
}

void
server_open_describe(const struct vmb_bus_server *server, const struct server_channel *channel,
                     struct vmb_bus_open *open)
{
	const struct vmb_msg_open *msg = &channel->open;
	struct vmb_gpadl_list list;

	*open = (struct vmb_bus_open){
		.channel_id = msg->channel_id,
		.open_id = msg->open_id,
		/* Before 2.4 the field was not there to be believed: interrupts went to VP 0. */
		.target_vp = server->version >= VMB_VERSION_WIN8 ? msg->target_vp : 0,
		.connection_id = open_connection_id(server, channel, msg),
		.event_flag = guest_chooses_signals(server) ? msg->event_flag
		                                            : (uint16_t)msg->channel_id,
		.monitor_id = server_monitor_of(server, msg->channel_id),
		.downstream_page_offset = msg->downstream_page_offset,
		.ring_gpadl = msg->ring_gpadl,
		.opens = channel->opens,
	};
	if (vmb_gpadl_look_ring(server->gpadls, msg->channel_id, msg->ring_gpadl, &list) == VMB_OK) {
		open->ring_pfns = list.ranges + VMB_GPA_RANGE_HEADER_BYTES;
		open->ring_pages = (list.bytes - VMB_GPA_RANGE_HEADER_BYTES) / 8u;
	}
	for (uint32_t i = 0; i < VMB_OPEN_USER_BYTES; i++)
		open->user_data[i] = msg->user_data[i];
}

void
server_open_raise(struct vmb_bus_server *server, struct server_channel *channel)
{
	struct vmb_gpadl_list ring;
	struct vmb_bus_open open;

	/*
	 * The request passed server_open_check() in this very call, so the GPADL is there to be
	 * mapped.
	 */
	VMB_IGNORE(vmb_gpadl_map(server->gpadls, VMB_GPADL_BY_RING, channel->open.channel_id,
	                         channel->open.ring_gpadl, &ring));
	channel->opens++;
	server_open_describe(server, channel, &open);
	server->ops.open(server->ctx, channel->cookie, &open);
}

void
server_open_unmap(struct vmb_bus_server *server, struct server_channel *channel)
{
	uint32_t gpadl_id = channel->open.ring_gpadl;

	if (vmb_gpadl_unmap(server->gpadls, VMB_GPADL_BY_RING, channel->offer.channel_id,
	                    gpadl_id) == VMB_QUEUED)
		server_gpadl_torndown(server, gpadl_id);
}

void
server_open_result(struct vmb_bus_server *server, uint32_t channel_id, uint32_t open_id,
                   uint32_t status)
{
	struct vmb_msg msg = {
		.type = VMB_MSG_OPEN_RESULT,
		.open_result = { .channel_id = channel_id, .open_id = open_id, .status = status },
	};

	server_post(server, &msg);
}
