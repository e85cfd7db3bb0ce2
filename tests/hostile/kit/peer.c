/* SPDX-License-Identifier: MIT */
/*
 * Life and waits of a hostile peer, and what both roles have in common: channels, the record of
 * messages that came, the filter on those that go.
 */
#include "peer.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_WAIT_MS 10000u
#define DEFAULT_MEMORY (16u << 20)

uint64_t
peer_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000u + (uint64_t)now.tv_nsec / 1000000u;
}

/* ---- life ------------------------------------------------------------------------------------- */

enum vmb_status
peer_new(bool is_server, const struct vmb_hostile_options *options, struct vmb_hostile **out)
{
	struct vmb_hostile *peer = calloc(1, sizeof(*peer));
	enum vmb_status status;

	*out = NULL;
	if (peer == NULL)
		return VMB_E_NO_MEMORY;
	if (options != NULL && options->size < sizeof(peer->options))
		memcpy(&peer->options, options, options->size);
	else if (options != NULL)
		peer->options = *options;
	if (peer->options.wait_ms == 0)
		peer->options.wait_ms = DEFAULT_WAIT_MS;
	if (peer->options.memory_bytes == 0)
		peer->options.memory_bytes = DEFAULT_MEMORY;
	peer->is_server = is_server;
	peer->listener = peer->socket = peer->memory_fd = -1;
	status = is_server ? peer_server_create(peer) : peer_memory_create(peer);
	if (status == VMB_OK && !is_server)
		status = peer_client_create(peer);
	if (status != VMB_OK) {
		vmb_hostile_free(peer);
		return status;
	}
	*out = peer;
	return VMB_OK;
}

void
vmb_hostile_free(struct vmb_hostile *peer)
{
	if (peer == NULL)
		return;
	vmb_hostile_hang_up(peer);
	while (peer->channels != NULL) {
		struct peer_channel *channel = peer->channels;

		peer->channels = channel->next;
		peer_rings_drop(channel);
		free(channel);
	}
	vmb_bus_client_destroy(peer->client);
	vmb_bus_server_destroy(peer->server);
	peer_memory_release(peer);
	free(peer);
}

struct peer_channel *
peer_channel(const struct vmb_hostile *peer, uint32_t id)
{
	struct peer_channel *channel = peer->channels;

	while (channel != NULL && channel->id != id)
		channel = channel->next;
	return channel;
}

struct peer_channel *
peer_channel_add(struct vmb_hostile *peer, uint32_t id, const struct vmb_guid *instance)
{
	struct peer_channel *channel = peer_channel(peer, id);

	if (channel == NULL) {
		channel = calloc(1, sizeof(*channel));
		if (channel == NULL)
			return NULL;
		channel->id = id;
		channel->ring_fd = channel->own_fd = -1;
		channel->next = peer->channels;
		peer->channels = channel;
	}
	channel->instance = *instance;
	channel->withdrawn = false;
	return channel;
}

uint32_t
vmb_hostile_find(const struct vmb_hostile *peer, const struct vmb_guid *instance)
{
	for (const struct peer_channel *c = peer->channels; c != NULL; c = c->next) {
		if (!c->withdrawn && memcmp(&c->instance, instance, sizeof(*instance)) == 0)
			return c->id;
	}
	return 0;
}

/* ---- messages --------------------------------------------------------------------------------- */

static uint32_t
type_of(const void *message)
{
	uint32_t type;

	memcpy(&type, message, sizeof(type));
	return type;
}

void
peer_message(struct vmb_hostile *peer, const void *message, uint32_t bytes)
{
	uint32_t type = bytes >= VMB_MSG_HEADER_BYTES ? type_of(message) : VMB_MSG_INVALID;

	if (type < VMB_MSG_TYPE_END && bytes <= VMB_MSG_MAX_BYTES) {
		peer->seen[type].count++;
		peer->seen[type].bytes = bytes;
		memcpy(peer->seen[type].latest, message, bytes);
	}
	if (peer->is_server) {
		peer_server_arrived(peer, message, bytes);
		vmb_bus_server_message(peer->server, peer_connection_of(message, bytes), message,
		                       bytes);
		peer_server_settle(peer);
	} else {
		vmb_bus_client_message(peer->client, message, bytes);
	}
	for (uint32_t i = 0; i < peer->arrived_count; i++) {
		if (peer->arrived[i] >= 0)
			close(peer->arrived[i]);
	}
	peer->arrived_count = 0;
}

void
peer_say(struct vmb_hostile *peer, const void *message, uint32_t bytes)
{
	uint8_t copy[VMB_MSG_MAX_BYTES] = { 0 };

	memcpy(copy, message, bytes);
	if (peer->filter != NULL && !peer->filter(peer->filter_ctx, peer, copy, &bytes))
		return;
	/* Who waits for the answer finds out that there is none. */
	VMB_IGNORE(peer_carry(peer, copy, bytes));
}

void
vmb_hostile_set_filter(struct vmb_hostile *peer, vmb_hostile_filter *filter, void *ctx)
{
	peer->filter = filter;
	peer->filter_ctx = ctx;
}

enum vmb_status
vmb_hostile_post_msg(struct vmb_hostile *peer, const struct vmb_msg *msg)
{
	uint8_t bytes[VMB_MSG_MAX_BYTES];
	size_t count = vmb_msg_encode(msg, peer->version, peer->features, bytes);

	return count != 0 ? vmb_hostile_post(peer, bytes, (uint32_t)count) : VMB_E_INVALID;
}

uint32_t
vmb_hostile_seen(const struct vmb_hostile *peer, uint32_t type)
{
	return type < VMB_MSG_TYPE_END ? peer->seen[type].count : 0;
}

uint32_t
vmb_hostile_latest(const struct vmb_hostile *peer, uint32_t type,
                   uint8_t message[VMB_MSG_MAX_BYTES])
{
	if (type >= VMB_MSG_TYPE_END || peer->seen[type].count == 0)
		return 0;
	memcpy(message, peer->seen[type].latest, peer->seen[type].bytes);
	return peer->seen[type].bytes;
}

/* ---- waits ------------------------------------------------------------------------------------ */

enum vmb_status
peer_await(struct vmb_hostile *peer, bool (*done)(const void *ctx), const void *ctx)
{
	uint64_t end = peer_now_ms() + peer->options.wait_ms;

	while (!done(ctx)) {
		uint64_t now = peer_now_ms();

		if (peer->closed)
			return VMB_E_CLOSED;
		if (now >= end)
			return VMB_E_TIMEOUT;
		VMB_IGNORE(peer_collect(peer, (uint32_t)(end - now)));
	}
	return VMB_OK;
}

enum vmb_status
vmb_hostile_turn(struct vmb_hostile *peer, uint32_t ms)
{
	return peer->closed ? VMB_E_CLOSED : peer_collect(peer, ms);
}

static bool
is_cut(const void *ctx)
{
	const struct vmb_hostile *peer = ctx;

	return peer->closed;
}

enum vmb_status
vmb_hostile_await_cut(struct vmb_hostile *peer)
{
	return peer_await(peer, is_cut, peer);
}

struct awaited {
	const struct vmb_hostile *peer;
	uint32_t type, count;
};

static bool
has_come(const void *ctx)
{
	const struct awaited *a = ctx;

	return vmb_hostile_seen(a->peer, a->type) >= a->count;
}

enum vmb_status
vmb_hostile_await_message(struct vmb_hostile *peer, uint32_t type, uint32_t count)
{
	const struct awaited awaited = { peer, type, count };

	return type < VMB_MSG_TYPE_END ? peer_await(peer, has_come, &awaited) : VMB_E_INVALID;
}
