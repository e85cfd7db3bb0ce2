/* SPDX-License-Identifier: MIT */
/*
 * The host's machine as bytes. Only what is at rest is saved: a channel that the device is opening
 * or closing, or a GPADL that it has mapped, is in the device's hands and has to come back first.
 */
#include "bus/server_save.h"

#include "mem/gpadl_save.h"

static void
put_contact(struct vmb_chunk_writer *writer, const struct vmb_msg_initiate_contact *contact)
{
	vmb_chunk_put_u32(writer, contact->version);
	vmb_chunk_put_u32(writer, contact->target_message_vp);
	vmb_chunk_put_u64(writer, contact->interrupt_page);
	vmb_chunk_put_u8(writer, contact->target_sint);
	vmb_chunk_put_u8(writer, contact->target_vtl);
	vmb_chunk_put_u16(writer, 0);
	vmb_chunk_put_u32(writer, contact->feature_flags);
	vmb_chunk_put_u64(writer, contact->monitor_page_to_child);
	vmb_chunk_put_u64(writer, contact->monitor_page_to_parent);
	vmb_chunk_put_bytes(writer, contact->client_id.bytes, sizeof(contact->client_id.bytes));
}

/* Between connections everything but the place of messages is zero. */
static void
put_connection(struct vmb_chunk_writer *writer, const struct vmb_bus_server *server)
{
	bool connected = server->link == SERVER_CONNECTED;

	vmb_chunk_begin(writer, &server_chunk_format, SERVER_CHUNK_CONNECTION);
	vmb_chunk_put_u8(writer, connected);
	vmb_chunk_put_u8(writer, server->offers_sent);
	vmb_chunk_put_u8(writer, server->paused);
	vmb_chunk_put_u8(writer, 0);
	vmb_chunk_put_u32(writer, server->version);
	vmb_chunk_put_u32(writer, server->features);
	vmb_chunk_put_u32(writer, server->message_vp);
	if (connected)
		put_contact(writer, &server->contact);
	vmb_chunk_end(writer);
}

static void
put_key(struct vmb_chunk_writer *writer, const struct server_key *key)
{
	vmb_chunk_put_bytes(writer, key->interface_type.bytes, sizeof(key->interface_type.bytes));
	vmb_chunk_put_bytes(writer, key->interface_instance.bytes,
	                    sizeof(key->interface_instance.bytes));
	vmb_chunk_put_u16(writer, key->subchannel_index);
}

static void
put_id(struct vmb_chunk_writer *writer, uint32_t id, const struct server_key *key)
{
	vmb_chunk_begin(writer, &server_chunk_format, SERVER_CHUNK_ID);
	vmb_chunk_put_u32(writer, id);
	put_key(writer, key);
	vmb_chunk_end(writer);
}

/* 0: not at rest. */
static uint8_t
saved_state(enum server_channel_state state)
{
	switch (state) {
	case SC_HIDDEN:
		return SERVER_SAVED_HIDDEN;
	case SC_CLOSED:
		return SERVER_SAVED_CLOSED;
	case SC_OPEN:
		return SERVER_SAVED_OPEN;
	case SC_RESCINDED:
		return SERVER_SAVED_RESCINDED;
	default:
		return 0;
	}
}

static void
put_open(struct vmb_chunk_writer *writer, const struct vmb_msg_open *open)
{
	vmb_chunk_put_u32(writer, open->open_id);
	vmb_chunk_put_u32(writer, open->ring_gpadl);
	vmb_chunk_put_u32(writer, open->target_vp);
	vmb_chunk_put_u32(writer, open->downstream_page_offset);
	vmb_chunk_put_bytes(writer, open->user_data, sizeof(open->user_data));
	vmb_chunk_put_u32(writer, open->connection_id);
	vmb_chunk_put_u16(writer, open->event_flag);
	vmb_chunk_put_u16(writer, open->open_flags);
}

/* What the bus itself decides about an offer follows from its id. */
static void
put_channel(struct vmb_chunk_writer *writer, const struct server_channel *channel)
{
	const struct vmb_msg_offer *offer = &channel->offer;
	struct server_key key;

	server_key_of(offer, &key);
	vmb_chunk_begin(writer, &server_chunk_format, SERVER_CHUNK_CHANNEL);
	vmb_chunk_put_u32(writer, offer->channel_id);
	vmb_chunk_put_u8(writer, saved_state(channel->state));
	vmb_chunk_put_u8(writer, channel->released_by_guest);
	vmb_chunk_put_u16(writer, offer->flags);
	put_key(writer, &key);
	vmb_chunk_put_u16(writer, offer->mmio_megabytes);
	vmb_chunk_put_u16(writer, offer->mmio_megabytes_optional);
	vmb_chunk_put_bytes(writer, offer->user_data, sizeof(offer->user_data));
	vmb_chunk_put_u64(writer, channel->opens);
	if (channel->state == SC_OPEN)
		put_open(writer, &channel->open);
	vmb_chunk_end(writer);
}

static bool
is_at_rest(const struct vmb_bus_server *server)
{
	if (server->link == SERVER_DISCONNECTING)
		return false;
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		const struct server_channel *channel = server->channels[id];

		if (channel != NULL && saved_state(channel->state) == 0)
			return false;
	}
	return true;
}

enum vmb_status
vmb_bus_server_save(const struct vmb_bus_server *server, void *buffer, size_t capacity,
                    size_t *needed)
{
	struct vmb_chunk_writer writer = { .bytes = buffer, .capacity = capacity };
	uint32_t ids = 0, channels = 0, gpadls, held = 0;
	enum vmb_status st;

	*needed = 0;
	if (!is_at_rest(server))
		return VMB_E_STATE;
	put_connection(&writer, server);
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		if (!server->id_used[id])
			continue;
		put_id(&writer, id, &server->id_keys[id]);
		ids++;
	}
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		if (server->channels[id] == NULL)
			continue;
		put_channel(&writer, server->channels[id]);
		channels++;
	}
	st = vmb_gpadl_save(server->gpadls, &writer, &server_chunk_format, SERVER_CHUNK_GPADL,
	                    &gpadls);
	if (st != VMB_OK)
		return st;
	for (const struct server_held *h = server->held; h != NULL; h = h->next) {
		vmb_chunk_begin(&writer, &server_chunk_format, SERVER_CHUNK_HELD);
		vmb_chunk_put_bytes(&writer, h->message, h->bytes);
		vmb_chunk_end(&writer);
		held++;
	}
	vmb_chunk_begin(&writer, &server_chunk_format, SERVER_CHUNK_END);
	vmb_chunk_put_u32(&writer, ids);
	vmb_chunk_put_u32(&writer, channels);
	vmb_chunk_put_u32(&writer, gpadls);
	vmb_chunk_put_u32(&writer, held);
	vmb_chunk_end(&writer);
	*needed = writer.used;
	return vmb_chunk_writer_fits(&writer) ? VMB_OK : VMB_E_TOO_BIG;
}
