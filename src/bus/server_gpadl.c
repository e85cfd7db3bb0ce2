/* SPDX-License-Identifier: MIT */
/*
 * GPADL messages of the guest and the answers it is owed (vmbus-protocol 3.3). Every header of a
 * channel gets exactly one GpadlCreated, in the end; a teardown gets its GpadlTorndown after the
 * last unmap and never before; a teardown of something unknown gets none.
 */
#include "bus/server.h"

static void
post_created(struct vmb_bus_server *server, uint32_t channel_id, uint32_t gpadl_id, bool good)
{
	struct vmb_msg msg = {
		.type = VMB_MSG_GPADL_CREATED,
		.gpadl = { .channel_id = channel_id,
		           .gpadl_id = gpadl_id,
		           .status = good ? 0 : VMB_BUS_STATUS_UNSUCCESSFUL },
	};

	server_post(server, &msg);
}

void
server_gpadl_torndown(struct vmb_bus_server *server, uint32_t gpadl_id)
{
	struct vmb_msg msg = { .type = VMB_MSG_GPADL_TORNDOWN, .gpadl = { .gpadl_id = gpadl_id } };

	server_post(server, &msg);
}

static const char *
refusal(enum vmb_status st)
{
	switch (st) {
	case VMB_E_EXISTS:
		return "GPADL with an id that is in use";
	case VMB_E_LIMIT:
		return "more GPADLs or pages in them than this guest may have";
	case VMB_E_NOT_FOUND:
		return "GPADL of pages that do not exist";
	case VMB_E_NO_MEMORY:
		return "no memory for a GPADL";
	default:
		return "GPADL with malformed ranges";
	}
}

/* What the owner makes of one that was accepted. */
static enum vmb_status
ask_owner(struct vmb_bus_server *server, uint32_t channel_id, uint32_t gpadl_id)
{
	enum vmb_status st = VMB_OK;

	if (server->ops.gpadl_described != NULL)
		st = server->ops.gpadl_described(server->ctx, server->channels[channel_id]->cookie,
		                                 gpadl_id);
	if (st == VMB_OK || st == VMB_QUEUED)
		return st;
	/* Nobody has mapped it yet. */
	VMB_IGNORE(vmb_gpadl_teardown(server->gpadls, channel_id, gpadl_id));
	return VMB_E_NO_MEMORY;
}

static void
answer(struct vmb_bus_server *server, uint32_t channel_id, uint32_t gpadl_id, enum vmb_status st)
{
	if (st == VMB_OK)
		st = ask_owner(server, channel_id, gpadl_id);
	if (st == VMB_QUEUED)
		return;
	/* Our own lack of memory is no offence of the guest. */
	if (st != VMB_OK && st != VMB_E_NO_MEMORY)
		server_misbehaved(server, refusal(st));
	post_created(server, channel_id, gpadl_id, st == VMB_OK);
}

static struct vmb_gpadl_pages
page_check(const struct vmb_bus_server *server)
{
	struct vmb_gpadl_pages pages = { .exist = server->ops.pages_exist, .ctx = server->ctx };

	return pages;
}

void
server_gpadl_header(struct vmb_bus_server *server, const struct vmb_msg *msg)
{
	const struct vmb_msg_gpadl_header *header = &msg->gpadl_header;
	const struct server_channel *channel = server_channel_visible(server, header->channel_id);
	struct vmb_gpadl_pages pages = page_check(server);

	if (channel == NULL) {
		server_misbehaved(server, "GPADL for a channel that is not offered");
		post_created(server, header->channel_id, header->gpadl_id, false);
		return;
	}
	/*
	 * Nobody will use it any more: agree at once and keep nothing. Its bodies will find no
	 * entry.
	 */
	if (server_state_is_revoked(channel->state)) {
		post_created(server, header->channel_id, header->gpadl_id, true);
		return;
	}
	answer(server, header->channel_id, header->gpadl_id,
	       vmb_gpadl_begin(server->gpadls, header, &pages));
}

void
server_gpadl_body(struct vmb_bus_server *server, const struct vmb_msg *msg)
{
	struct vmb_gpadl_pages pages = page_check(server);
	uint32_t channel_id;
	enum vmb_status st;

	st = vmb_gpadl_append(server->gpadls, &msg->gpadl_body, &pages, &channel_id);
	/* Bodies of a list that was refused at its header are still under way: silence. */
	if (channel_id == 0)
		return;
	answer(server, channel_id, msg->gpadl_body.gpadl_id, st);
}

static void
ask_device_to_unmap(struct vmb_bus_server *server, const struct server_channel *channel,
                    uint32_t gpadl_id)
{
	if (server->ops.gpadl_unwanted != NULL &&
	    vmb_gpadl_device_maps(server->gpadls, channel->offer.channel_id, gpadl_id) != 0)
		server->ops.gpadl_unwanted(server->ctx, channel->cookie, gpadl_id);
}

void
server_gpadl_teardown(struct vmb_bus_server *server, const struct vmb_msg *msg)
{
	uint32_t gpadl_id = msg->gpadl.gpadl_id;
	struct server_channel *channel = server_channel_visible(server, msg->gpadl.channel_id);
	enum vmb_status st;

	if (channel == NULL) {
		server_misbehaved(server, "teardown of a GPADL of a channel that is not offered");
		return;
	}
	st = vmb_gpadl_teardown(server->gpadls, msg->gpadl.channel_id, gpadl_id);
	/*
	 * A revoked channel accepted GPADLs without keeping them; they go as easily as they came.
	 */
	if (st == VMB_OK || (st == VMB_E_NOT_FOUND && server_state_is_revoked(channel->state)))
		server_gpadl_torndown(server, gpadl_id);
	else if (st == VMB_QUEUED)
		ask_device_to_unmap(server, channel, gpadl_id);
	else if (st == VMB_E_NOT_FOUND)
		server_misbehaved(server, "teardown of a GPADL that this channel does not have");
	else
		server_misbehaved(server, "teardown of a GPADL that is incomplete or going");
}

void
server_gpadl_fail_incomplete(struct vmb_bus_server *server, uint32_t channel_id)
{
	uint32_t gpadl_id;

	while (vmb_gpadl_drop_incomplete(server->gpadls, channel_id, &gpadl_id))
		post_created(server, channel_id, gpadl_id, false);
}

void
server_gpadl_drop(struct vmb_bus_server *server, struct server_channel *channel)
{
	vmb_gpadl_channel_gone(server->gpadls, channel->offer.channel_id);
	/* What is left is mapped; the end of the connection waits for the device to let go. */
	server_gpadl_ask_unmap(server, channel);
}

void
server_gpadl_ask_unmap(struct vmb_bus_server *server, struct server_channel *channel)
{
	const void *cursor = NULL;
	enum vmb_gpadl_state state;
	uint32_t gpadl_id;

	while (vmb_gpadl_walk(server->gpadls, channel->offer.channel_id, &cursor, &gpadl_id,
	                      &state))
		ask_device_to_unmap(server, channel, gpadl_id);
}

bool
server_gpadl_device_holds_any(const struct vmb_bus_server *server, uint32_t channel_id)
{
	const void *cursor = NULL;
	enum vmb_gpadl_state state;
	uint32_t gpadl_id;

	while (vmb_gpadl_walk(server->gpadls, channel_id, &cursor, &gpadl_id, &state)) {
		if (vmb_gpadl_device_maps(server->gpadls, channel_id, gpadl_id) != 0)
			return true;
	}
	return false;
}

enum vmb_status
vmb_bus_server_gpadl_map(struct vmb_bus_server *server, uint32_t channel_id, uint32_t gpadl_id,
                         const void **ranges, uint32_t *range_bytes, uint32_t *range_count)
{
	const struct server_channel *channel = server_channel_visible(server, channel_id);
	struct vmb_gpadl_list list;
	enum vmb_status st;

	if (channel == NULL || server_state_is_revoked(channel->state))
		return VMB_E_NOT_FOUND;
	st = vmb_gpadl_map(server->gpadls, VMB_GPADL_BY_DEVICE, channel_id, gpadl_id, &list);
	if (st != VMB_OK)
		return st;
	*ranges = list.ranges;
	*range_bytes = list.bytes;
	*range_count = list.count;
	return VMB_OK;
}

static enum vmb_status
unmap(struct vmb_bus_server *server, uint32_t channel_id, uint32_t gpadl_id, bool tell)
{
	struct server_channel *channel;
	enum vmb_status st;

	st = vmb_gpadl_unmap(server->gpadls, VMB_GPADL_BY_DEVICE, channel_id, gpadl_id);
	if (st < VMB_OK)
		return st;
	if (st == VMB_QUEUED && tell)
		server_gpadl_torndown(server, gpadl_id);
	channel = server->channels[channel_id];
	if (channel != NULL)
		server_channel_settle(server, channel);
	server_progress(server);
	return VMB_OK;
}

enum vmb_status
vmb_bus_server_gpadl_unmap(struct vmb_bus_server *server, uint32_t channel_id, uint32_t gpadl_id)
{
	return unmap(server, channel_id, gpadl_id, true);
}

enum vmb_status
vmb_bus_server_gpadl_answer(struct vmb_bus_server *server, uint32_t channel_id, uint32_t gpadl_id,
                            uint32_t status)
{
	bool asked_back;

	if (vmb_gpadl_device_maps(server->gpadls, channel_id, gpadl_id) == 0)
		return VMB_E_NOT_FOUND;
	if (server_channel_visible(server, channel_id) != NULL)
		post_created(server, channel_id, gpadl_id, status == 0);
	if (status == 0)
		return VMB_OK;
	/* Gone without a word with the mapping, unless the guest has asked for it back already. */
	asked_back = vmb_gpadl_teardown(server->gpadls, channel_id, gpadl_id) != VMB_QUEUED;
	if (asked_back)
		return vmb_bus_server_gpadl_unmap(server, channel_id, gpadl_id);
	return unmap(server, channel_id, gpadl_id, false);
}

void
vmb_bus_server_gpadl_usage(const struct vmb_bus_server *server, struct vmb_gpadl_usage *usage)
{
	vmb_gpadl_get_usage(server->gpadls, usage);
}
