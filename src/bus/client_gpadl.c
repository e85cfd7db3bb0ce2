/* SPDX-License-Identifier: MIT */
/*
 * GPADLs as their maker sees them: cut into header and body messages, named by an id that is unique
 * in the connection, and waited for. Answers are matched by id, and by channel where the message
 * names it.
 */
#include "bus/client.h"

#include <stdlib.h>
#include <string.h>

static struct client_gpadl **
bucket_of(struct vmb_bus_client *client, uint32_t gpadl_id)
{
	return &client->buckets[gpadl_id % CLIENT_BUCKETS];
}

static struct client_gpadl *
gpadl_find(const struct vmb_bus_client *client, uint32_t gpadl_id)
{
	struct client_gpadl *g = client->buckets[gpadl_id % CLIENT_BUCKETS];

	while (g != NULL && g->id != gpadl_id)
		g = g->next_in_bucket;
	return g;
}

static void
gpadl_unbucket(struct vmb_bus_client *client, struct client_gpadl *g)
{
	struct client_gpadl **link = bucket_of(client, g->id);

	while (*link != g)
		link = &(*link)->next_in_bucket;
	*link = g->next_in_bucket;
}

static void
gpadl_free(struct vmb_bus_client *client, struct client_gpadl *g)
{
	struct client_gpadl **link = &client->channels[g->channel_id]->gpadls;

	while (*link != g)
		link = &(*link)->next_in_channel;
	*link = g->next_in_channel;
	gpadl_unbucket(client, g);
	free(g);
}

/*
 * Where an id that may still be answered is remembered, or NULL. 0 marks an empty place; no GPADL
 * has that id.
 */
static uint32_t *
late_find(struct vmb_bus_client *client, uint32_t gpadl_id)
{
	if (gpadl_id == 0)
		return NULL;
	for (uint32_t i = 0; i < CLIENT_LATE_IDS; i++) {
		if (client->late_ids[i] == gpadl_id)
			return &client->late_ids[i];
	}
	return NULL;
}

static void
late_remember(struct vmb_bus_client *client, uint32_t gpadl_id)
{
	client->late_ids[client->late_next] = gpadl_id;
	client->late_next = (client->late_next + 1) % CLIENT_LATE_IDS;
}

static uint32_t
id_allocate(struct vmb_bus_client *client)
{
	uint32_t id;

	do {
		id = client->next_gpadl_id++;
	} while (id == 0 || gpadl_find(client, id) != NULL || late_find(client, id) != NULL);
	return id;
}

bool
client_gpadl_is_created(const struct vmb_bus_client *client, uint32_t channel_id, uint32_t gpadl_id)
{
	const struct client_gpadl *g = gpadl_find(client, gpadl_id);

	return g != NULL && g->channel_id == channel_id && g->state == CG_CREATED;
}

/* ---- from the host -------------------------------------------------------------------------- */

/* An answer that a rescind made superfluous: taken once, in silence. */
static bool
answer_is_late(struct vmb_bus_client *client, struct client_gpadl *g, uint32_t gpadl_id)
{
	uint32_t *late;

	if (g != NULL && g->state == CG_ENDED) {
		gpadl_free(client, g);
		return true;
	}
	late = g == NULL ? late_find(client, gpadl_id) : NULL;
	if (late != NULL)
		*late = 0;
	return late != NULL;
}

void
client_gpadl_created(struct vmb_bus_client *client, const struct vmb_msg *msg)
{
	uint32_t channel_id = msg->gpadl.channel_id;
	uint32_t id = msg->gpadl.gpadl_id;
	struct client_gpadl *g = gpadl_find(client, id);

	if (g != NULL && g->channel_id != channel_id)
		client_misbehaved(client, "answer for a GPADL of another channel");
	else if (g != NULL && g->state == CG_CREATING) {
		if (msg->gpadl.status == 0)
			g->state = CG_CREATED;
		else
			gpadl_free(client, g);
		client->ops.gpadl_created(client->ctx, channel_id, id, msg->gpadl.status);
	} else if (!answer_is_late(client, g, id))
		client_misbehaved(client, "answer for a GPADL that nobody waits for");
}

void
client_gpadl_torndown(struct vmb_bus_client *client, const struct vmb_msg *msg)
{
	uint32_t id = msg->gpadl.gpadl_id;
	struct client_gpadl *g = gpadl_find(client, id);

	if (g != NULL && g->state == CG_TEARING_DOWN) {
		uint32_t channel_id = g->channel_id;

		gpadl_free(client, g);
		client->ops.gpadl_torndown(client->ctx, channel_id, id);
	} else if (!answer_is_late(client, g, id))
		client_misbehaved(client, "teardown of a GPADL that nobody waits for");
}

/* ---- ends ----------------------------------------------------------------------------------- */

void
client_gpadl_end_waiters(struct vmb_bus_client *client, struct client_channel *channel)
{
	uint32_t channel_id = channel->offer.channel_id;

	for (struct client_gpadl *g = channel->gpadls; g != NULL; g = g->next_in_channel) {
		enum client_gpadl_state was = g->state;

		if (was != CG_CREATING && was != CG_TEARING_DOWN)
			continue;
		g->state = CG_ENDED;
		if (was == CG_CREATING)
			client->ops.gpadl_created(client->ctx, channel_id, g->id,
			                          VMB_BUS_STATUS_RESCINDED);
		else
			client->ops.gpadl_torndown(client->ctx, channel_id, g->id);
	}
}

void
client_gpadl_forget(struct vmb_bus_client *client, struct client_channel *channel)
{
	while (channel->gpadls != NULL) {
		struct client_gpadl *g = channel->gpadls;

		if (g->state == CG_ENDED)
			late_remember(client, g->id);
		channel->gpadls = g->next_in_channel;
		gpadl_unbucket(client, g);
		free(g);
	}
}

/* ---- from the owner ------------------------------------------------------------------------- */

/*
 * Our own ranges get the checks that a host will make; a refusal here names the caller, not the
 * host.
 */
static bool
ranges_are_good(const void *ranges, uint32_t range_bytes, uint32_t range_count)
{
	struct vmb_gpa_cursor cursor;
	struct vmb_gpa_range range;
	const char *why;
	enum vmb_status st;

	if (range_bytes % 8u != 0 || range_count == 0 || range_count > UINT16_MAX)
		return false;
	vmb_gpa_begin(&cursor, ranges, range_bytes, range_count);
	do
		st = vmb_gpa_next(&cursor, &range, &why);
	while (st == VMB_OK);
	return st == VMB_EMPTY && cursor.bytes_left == 0;
}

static uint64_t
get_le64(const uint8_t *src)
{
	uint64_t value = 0;

	for (unsigned i = 0; i < 8; i++)
		value |= (uint64_t)src[i] << (8 * i);
	return value;
}

static uint32_t
take_qwords(uint64_t *qwords, uint32_t most, const uint8_t **next, uint32_t *left)
{
	uint32_t count = 0;

	while (count < most && *left != 0) {
		qwords[count++] = get_le64(*next);
		*next += 8;
		*left -= 8;
	}
	return count;
}

static void
post_ranges(struct vmb_bus_client *client, const struct client_gpadl *g, const uint8_t *ranges,
            uint32_t range_bytes, uint32_t range_count)
{
	struct vmb_msg msg = { .type = VMB_MSG_GPADL_HEADER };
	uint32_t left = range_bytes;

	msg.gpadl_header.channel_id = g->channel_id;
	msg.gpadl_header.gpadl_id = g->id;
	msg.gpadl_header.range_bytes = (uint16_t)range_bytes;
	msg.gpadl_header.range_count = (uint16_t)range_count;
	msg.gpadl_header.qword_count = take_qwords(msg.gpadl_header.qwords,
	                                           VMB_GPADL_HEADER_QWORDS_MAX, &ranges, &left);
	client_post(client, &msg);

	for (uint32_t number = 1; left != 0; number++) {
		memset(&msg, 0, sizeof(msg));
		msg.type = VMB_MSG_GPADL_BODY;
		msg.gpadl_body.message_number = number;
		msg.gpadl_body.gpadl_id = g->id;
		msg.gpadl_body.qword_count = take_qwords(msg.gpadl_body.qwords,
		                                         VMB_GPADL_BODY_QWORDS_MAX, &ranges, &left);
		client_post(client, &msg);
	}
}

/* What both ways to make one check first. */
static enum vmb_status
check_new(const struct vmb_bus_client *client, const struct client_channel *channel,
          const void *ranges, uint32_t range_bytes, uint32_t range_count)
{
	if (channel == NULL)
		return VMB_E_NOT_FOUND;
	if (channel->state == CC_RESCINDED)
		return VMB_E_CLOSED;
	if (client->link != CLIENT_CONNECTED)
		return VMB_E_STATE;
	if (range_bytes > VMB_GPADL_RANGE_BYTES_MAX)
		return VMB_E_LIMIT;
	return ranges_are_good(ranges, range_bytes, range_count) ? VMB_OK : VMB_E_INVALID;
}

static struct client_gpadl *
gpadl_new(struct vmb_bus_client *client, struct client_channel *channel, uint32_t id)
{
	struct client_gpadl *g = calloc(1, sizeof(*g));

	if (g == NULL)
		return NULL;
	g->state = CG_CREATING;
	g->channel_id = channel->offer.channel_id;
	g->id = id;
	g->next_in_bucket = *bucket_of(client, g->id);
	*bucket_of(client, g->id) = g;
	g->next_in_channel = channel->gpadls;
	channel->gpadls = g;
	return g;
}

enum vmb_status
vmb_bus_client_gpadl_create(struct vmb_bus_client *client, uint32_t channel_id, const void *ranges,
                            uint32_t range_bytes, uint32_t range_count, uint32_t *gpadl_id)
{
	struct client_channel *channel = client_channel_find(client, channel_id);
	enum vmb_status st = check_new(client, channel, ranges, range_bytes, range_count);
	const struct client_gpadl *g;

	if (st != VMB_OK)
		return st;
	g = gpadl_new(client, channel, id_allocate(client));
	if (g == NULL)
		return VMB_E_NO_MEMORY;
	/* Before the messages: a host in the same process may answer while they are posted. */
	*gpadl_id = g->id;
	post_ranges(client, g, ranges, range_bytes, range_count);
	return VMB_OK;
}

enum vmb_status
vmb_bus_client_gpadl_create_as(struct vmb_bus_client *client, uint32_t channel_id, uint32_t gpadl_id,
                               const void *ranges, uint32_t range_bytes, uint32_t range_count)
{
	struct client_channel *channel = client_channel_find(client, channel_id);
	enum vmb_status st = check_new(client, channel, ranges, range_bytes, range_count);
	const struct client_gpadl *g;

	if (st != VMB_OK)
		return st;
	if (gpadl_id == 0 || gpadl_find(client, gpadl_id) != NULL ||
	    late_find(client, gpadl_id) != NULL)
		return VMB_E_EXISTS;
	g = gpadl_new(client, channel, gpadl_id);
	if (g == NULL)
		return VMB_E_NO_MEMORY;
	post_ranges(client, g, ranges, range_bytes, range_count);
	return VMB_OK;
}

enum vmb_status
vmb_bus_client_gpadl_teardown(struct vmb_bus_client *client, uint32_t channel_id, uint32_t gpadl_id)
{
	struct client_channel *channel = client_channel_find(client, channel_id);
	struct client_gpadl *g = gpadl_find(client, gpadl_id);
	struct vmb_msg msg = {
		.type = VMB_MSG_GPADL_TEARDOWN,
		.gpadl = { .channel_id = channel_id, .gpadl_id = gpadl_id },
	};

	if (channel == NULL || g == NULL || g->channel_id != channel_id || g->state == CG_ENDED)
		return VMB_E_NOT_FOUND;
	if (g->state != CG_CREATED)
		return VMB_E_STATE;
	if (channel->state == CC_RESCINDED) {
		gpadl_free(client, g);
		client->ops.gpadl_torndown(client->ctx, channel_id, gpadl_id);
		return VMB_OK;
	}
	g->state = CG_TEARING_DOWN;
	/* An unload under way ends the wait. */
	if (client->link == CLIENT_CONNECTED)
		client_post(client, &msg);
	return VMB_OK;
}
