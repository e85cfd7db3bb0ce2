/* SPDX-License-Identifier: MIT */
/*
 * A machine from saved bytes. First each chunk is read into the new machine by its own rules, then
 * the whole is checked: a machine that could not have come about is refused, because the code that
 * goes on with it relies on its invariants. A refusal leaves nothing behind.
 */
#include "bus/server_save.h"

#include <stdlib.h>
#include <string.h>

#include "mem/gpadl_save.h"

struct load {
	struct vmb_bus_server *server;
	enum server_chunk last;         /* kind of the chunk before */
	uint32_t ids, channels, gpadls, held;
	uint32_t last_id, last_channel;
};

/* ---- chunk by chunk ------------------------------------------------------------------------- */

static bool
get_bool(struct vmb_chunk *chunk, bool *value)
{
	uint8_t raw = vmb_chunk_get_u8(chunk);

	*value = raw == 1;
	return raw <= 1;
}

/* False: a reserved field is not zero. */
static bool
get_contact(struct vmb_chunk *chunk, struct vmb_msg_initiate_contact *contact)
{
	uint16_t reserved;

	contact->version = vmb_chunk_get_u32(chunk);
	contact->target_message_vp = vmb_chunk_get_u32(chunk);
	contact->interrupt_page = vmb_chunk_get_u64(chunk);
	contact->target_sint = vmb_chunk_get_u8(chunk);
	contact->target_vtl = vmb_chunk_get_u8(chunk);
	reserved = vmb_chunk_get_u16(chunk);
	contact->feature_flags = vmb_chunk_get_u32(chunk);
	contact->monitor_page_to_child = vmb_chunk_get_u64(chunk);
	contact->monitor_page_to_parent = vmb_chunk_get_u64(chunk);
	vmb_chunk_copy(chunk, contact->client_id.bytes, sizeof(contact->client_id.bytes));
	return reserved == 0;
}

static enum vmb_status
check_connected(const struct vmb_bus_server *server)
{
	const struct vmb_msg_initiate_contact *contact = &server->contact;
	uint32_t vp = contact->version >= VMB_VERSION_WIN8_1 ? contact->target_message_vp : 0;

	if (!vmb_version_is_known(server->version) || server->version != contact->version ||
	    server->message_vp != vp || (server->features & ~contact->feature_flags) != 0 ||
	    (contact->monitor_page_to_child == 0) != (contact->monitor_page_to_parent == 0))
		return VMB_E_MALFORMED;
	if (server->version < VMB_VERSION_COPPER && contact->feature_flags != 0)
		return VMB_E_MALFORMED;
	if (server->paused && (server->features & VMB_FEATURE_PAUSE_RESUME) == 0)
		return VMB_E_MALFORMED;
	/* Possible, but not with this configuration. */
	if (server->version > server->newest_version ||
	    (server->features & ~server->supported_features) != 0)
		return VMB_E_UNSUPPORTED;
	return VMB_OK;
}

static enum vmb_status
load_connection(struct load *load, struct vmb_chunk *chunk)
{
	struct vmb_bus_server *server = load->server;
	bool connected, good;

	good = get_bool(chunk, &connected);
	good = get_bool(chunk, &server->offers_sent) && good;
	good = get_bool(chunk, &server->paused) && good;
	good = vmb_chunk_get_u8(chunk) == 0 && good;
	server->version = vmb_chunk_get_u32(chunk);
	server->features = vmb_chunk_get_u32(chunk);
	server->message_vp = vmb_chunk_get_u32(chunk);
	if (connected)
		good = get_contact(chunk, &server->contact) && good;
	if (!good || !vmb_chunk_is_whole(chunk))
		return VMB_E_MALFORMED;
	server->link = connected ? SERVER_CONNECTED : SERVER_DISCONNECTED;
	if (connected)
		return check_connected(server);
	return server->version == 0 && server->features == 0 && !server->offers_sent &&
	                       !server->paused
	               ? VMB_OK
	               : VMB_E_MALFORMED;
}

static void
get_key(struct vmb_chunk *chunk, struct server_key *key)
{
	vmb_chunk_copy(chunk, key->interface_type.bytes, sizeof(key->interface_type.bytes));
	vmb_chunk_copy(chunk, key->interface_instance.bytes, sizeof(key->interface_instance.bytes));
	key->subchannel_index = vmb_chunk_get_u16(chunk);
}

static enum vmb_status
load_id(struct load *load, struct vmb_chunk *chunk)
{
	uint32_t id = vmb_chunk_get_u32(chunk);
	struct server_key key;

	get_key(chunk, &key);
	if (!vmb_chunk_is_whole(chunk) || id <= load->last_id || id > VMB_CHANNEL_ID_MAX)
		return VMB_E_MALFORMED;
	load->server->id_used[id] = true;
	load->server->id_keys[id] = key;
	load->last_id = id;
	load->ids++;
	return VMB_OK;
}

static bool
get_state(struct vmb_chunk *chunk, enum server_channel_state *state)
{
	switch (vmb_chunk_get_u8(chunk)) {
	case SERVER_SAVED_HIDDEN:
		*state = SC_HIDDEN;
		return true;
	case SERVER_SAVED_CLOSED:
		*state = SC_CLOSED;
		return true;
	case SERVER_SAVED_OPEN:
		*state = SC_OPEN;
		return true;
	case SERVER_SAVED_RESCINDED:
		*state = SC_RESCINDED;
		return true;
	default:
		return false;
	}
}

static void
get_open(struct vmb_chunk *chunk, struct vmb_msg_open *open)
{
	open->open_id = vmb_chunk_get_u32(chunk);
	open->ring_gpadl = vmb_chunk_get_u32(chunk);
	open->target_vp = vmb_chunk_get_u32(chunk);
	open->downstream_page_offset = vmb_chunk_get_u32(chunk);
	vmb_chunk_copy(chunk, open->user_data, sizeof(open->user_data));
	open->connection_id = vmb_chunk_get_u32(chunk);
	open->event_flag = vmb_chunk_get_u16(chunk);
	open->open_flags = vmb_chunk_get_u16(chunk);
}

static bool
get_channel(struct vmb_chunk *chunk, struct server_channel *channel)
{
	struct vmb_msg_offer *offer = &channel->offer;
	struct server_key key;
	uint32_t id = vmb_chunk_get_u32(chunk);
	bool good = get_state(chunk, &channel->state);

	good = get_bool(chunk, &channel->released_by_guest) && good;
	offer->flags = vmb_chunk_get_u16(chunk);
	get_key(chunk, &key);
	offer->interface_type = key.interface_type;
	offer->interface_instance = key.interface_instance;
	offer->subchannel_index = key.subchannel_index;
	offer->mmio_megabytes = vmb_chunk_get_u16(chunk);
	offer->mmio_megabytes_optional = vmb_chunk_get_u16(chunk);
	vmb_chunk_copy(chunk, offer->user_data, sizeof(offer->user_data));
	channel->opens = vmb_chunk_get_u64(chunk);
	server_offer_number(offer, id);
	if (good && channel->state == SC_OPEN) {
		channel->open.channel_id = id;
		get_open(chunk, &channel->open);
	}
	return good && vmb_chunk_is_whole(chunk);
}

static enum vmb_status
load_channel(struct load *load, struct vmb_chunk *chunk)
{
	struct server_channel *channel = calloc(1, sizeof(*channel));
	uint32_t id;

	if (channel == NULL)
		return VMB_E_NO_MEMORY;
	id = get_channel(chunk, channel) ? channel->offer.channel_id : 0;
	if (id <= load->last_channel || id > VMB_CHANNEL_ID_MAX) {
		free(channel);
		return VMB_E_MALFORMED;
	}
	load->server->channels[id] = channel;
	load->last_channel = id;
	load->channels++;
	return VMB_OK;
}

static enum vmb_status
load_gpadl(struct load *load, struct vmb_chunk *chunk)
{
	struct vmb_bus_server *server = load->server;
	const struct vmb_gpadl_pages pages = { server->ops.pages_exist, server->ctx };
	enum vmb_status st = vmb_gpadl_load(server->gpadls, chunk, &pages);

	if (st == VMB_OK)
		load->gpadls++;
	return st;
}

/* Only what a host may send on such a connection waits there. */
static enum vmb_status
load_held(struct load *load, struct vmb_chunk *chunk)
{
	struct vmb_bus_server *server = load->server;
	uint32_t bytes = chunk->left;
	const uint8_t *message = vmb_chunk_get_bytes(chunk, bytes);
	const char *why;
	struct vmb_msg msg;

	if (!server->paused || bytes > VMB_MSG_MAX_BYTES ||
	    vmb_msg_decode(message, bytes, VMB_FROM_HOST, server->version, server->features, &msg,
	                   &why) != VMB_OK)
		return VMB_E_MALFORMED;
	if (!server_post_hold(server, message, bytes))
		return VMB_E_NO_MEMORY;
	load->held++;
	return VMB_OK;
}

static enum vmb_status
load_end(struct load *load, struct vmb_chunk *chunk)
{
	bool good = vmb_chunk_get_u32(chunk) == load->ids;

	good = vmb_chunk_get_u32(chunk) == load->channels && good;
	good = vmb_chunk_get_u32(chunk) == load->gpadls && good;
	good = vmb_chunk_get_u32(chunk) == load->held && good;
	return good && vmb_chunk_is_whole(chunk) ? VMB_OK : VMB_E_MALFORMED;
}

static enum vmb_status (*const loaders[SERVER_CHUNKS])(struct load *, struct vmb_chunk *) = {
	[SERVER_CHUNK_CONNECTION] = load_connection,
	[SERVER_CHUNK_ID] = load_id,
	[SERVER_CHUNK_CHANNEL] = load_channel,
	[SERVER_CHUNK_GPADL] = load_gpadl,
	[SERVER_CHUNK_HELD] = load_held,
	[SERVER_CHUNK_END] = load_end,
};

/* First and last are there once; the others in their order, as often as they like. */
static bool
kind_may_follow(enum server_chunk last, uint32_t kind)
{
	if (kind == 0 || kind >= SERVER_CHUNKS)
		return false;
	if (last == 0 || kind == SERVER_CHUNK_CONNECTION)
		return last == 0 && kind == SERVER_CHUNK_CONNECTION;
	return last != SERVER_CHUNK_END && kind >= last;
}

static enum vmb_status
load_chunks(struct load *load, const void *bytes, size_t byte_count)
{
	struct vmb_chunk_reader reader = { bytes, byte_count };
	struct vmb_chunk chunk;
	enum vmb_status st;

	while ((st = vmb_chunk_next(&reader, &server_chunk_format, &chunk)) == VMB_OK) {
		if (!kind_may_follow(load->last, chunk.kind))
			return VMB_E_MALFORMED;
		st = loaders[chunk.kind](load, &chunk);
		if (st != VMB_OK)
			return st;
		load->last = (enum server_chunk)chunk.kind;
	}
	if (st != VMB_EMPTY)
		return st;
	return load->last == SERVER_CHUNK_END ? VMB_OK : VMB_E_MALFORMED;
}

/* ---- the whole ------------------------------------------------------------------------------ */

/* The GPADLs of a channel fit its state; an open one maps exactly its ring. */
static bool
gpadls_fit(const struct vmb_bus_server *server, const struct server_channel *channel, uint32_t id)
{
	bool is_open = channel != NULL && channel->state == SC_OPEN;
	const void *cursor = NULL;
	enum vmb_gpadl_state state;
	struct vmb_gpadl_list list;
	uint32_t gpadl_id;

	while (vmb_gpadl_walk(server->gpadls, id, &cursor, &gpadl_id, &state)) {
		if (channel == NULL || channel->state == SC_HIDDEN)
			return false;
		/* A revocation has answered for all of them, and nothing new is kept. */
		if (channel->state == SC_RESCINDED && state == VMB_GPADL_IN_PROGRESS)
			return false;
		if (vmb_gpadl_look_ring(server->gpadls, id, gpadl_id, &list) == VMB_OK &&
		    !(is_open && channel->open.ring_gpadl == gpadl_id))
			return false;
	}
	return !is_open || server_open_recheck(server, channel) == NULL;
}

/* Zero where the version and features give a field no meaning, as the decoder leaves it. */
static bool
open_fits_features(const struct vmb_bus_server *server, const struct vmb_msg_open *open)
{
	if ((server->features & VMB_FEATURE_GUEST_SIGNAL_PARAMETERS) == 0 &&
	    (open->connection_id != 0 || open->event_flag != 0))
		return false;
	return (server->features & VMB_FEATURE_INTERRUPT_REDIRECTION) != 0 || open->open_flags == 0;
}

/* No second offer of its device, neither for us nor in the guest's eyes. */
static bool
device_is_alone(const struct vmb_bus_server *server, const struct server_channel *self)
{
	struct server_key key, other_key;

	server_key_of(&self->offer, &key);
	for (uint32_t id = self->offer.channel_id + 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		const struct server_channel *other = server->channels[id];

		if (other == NULL)
			continue;
		server_key_of(&other->offer, &other_key);
		if (server_key_compare(&key, &other_key) != 0)
			continue;
		if (server_state_is_revoked(self->state) == server_state_is_revoked(other->state) ||
		    server_state_is_visible(self->state) == server_state_is_visible(other->state))
			return false;
	}
	return true;
}

static bool
channel_fits(const struct vmb_bus_server *server, const struct server_channel *channel)
{
	uint32_t id = channel->offer.channel_id;
	struct server_key key;

	server_key_of(&channel->offer, &key);
	if (!server->id_used[id] || server_key_compare(&server->id_keys[id], &key) != 0)
		return false;
	/* Nobody knows of offers before he asked for them. */
	if (channel->state != SC_HIDDEN && !server->offers_sent)
		return false;
	if (channel->released_by_guest && (channel->state != SC_HIDDEN || !server->offers_sent))
		return false;
	if (channel->state == SC_OPEN &&
	    (channel->opens == 0 || !open_fits_features(server, &channel->open)))
		return false;
	return device_is_alone(server, channel) && !server_offer_is_due(server, channel);
}

static enum vmb_status
check_whole(const struct vmb_bus_server *server)
{
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		const struct server_channel *channel = server->channels[id];

		if (channel != NULL && !channel_fits(server, channel))
			return VMB_E_MALFORMED;
		if (!gpadls_fit(server, channel, id))
			return VMB_E_MALFORMED;
	}
	return VMB_OK;
}

enum vmb_status
vmb_bus_server_load(const struct vmb_bus_server_config *config, const struct vmb_bus_server_ops *ops,
                    void *ctx, const void *bytes, size_t byte_count, struct vmb_bus_server **server)
{
	struct load load = { 0 };
	enum vmb_status st = vmb_bus_server_create(config, ops, ctx, &load.server);

	if (st != VMB_OK)
		return st;
	st = load_chunks(&load, bytes, byte_count);
	if (st == VMB_OK)
		st = check_whole(load.server);
	if (st != VMB_OK) {
		vmb_bus_server_destroy(load.server);
		return st;
	}
	*server = load.server;
	return VMB_OK;
}
