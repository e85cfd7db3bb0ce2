/* SPDX-License-Identifier: MIT */
/*
 * The honest part of a hostile client: the library's own machine for guests, driven by the waits of its
 * owner.
 */
#include "peer.h"

#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* ---- events of the machine -------------------------------------------------------------------- */

static void
client_post(void *ctx, uint32_t connection_id, const void *message, uint32_t bytes)
{
	(void)connection_id;
	peer_say(ctx, message, bytes);
}

static void
client_connected(void *ctx, uint32_t version, uint32_t features)
{
	struct vmb_hostile *peer = ctx;

	peer->version = version;
	peer->features = features;
}

static void
client_connect_failed(void *ctx, const char *why)
{
	struct vmb_hostile *peer = ctx;

	(void)why;
	peer->refused = true;
}

static void
client_offered(void *ctx, const struct vmb_msg_offer *offer)
{
	/* Without memory for it nobody here can find the offer. */
	(void)peer_channel_add(ctx, offer->channel_id, &offer->interface_instance);
}

static void
client_all_offers(void *ctx)
{
	struct vmb_hostile *peer = ctx;

	peer->all_offers = true;
}

static void
client_rescinded(void *ctx, uint32_t channel_id)
{
	struct peer_channel *channel = peer_channel(ctx, channel_id);

	if (channel == NULL)
		return;
	channel->open = false;
	channel->withdrawn = true;
}

static void
answered(struct vmb_hostile *peer, uint32_t channel_id, uint32_t status)
{
	struct peer_channel *channel = peer_channel(peer, channel_id);

	if (channel == NULL)
		return;
	channel->answered = true;
	channel->answer_status = status;
}

static void
client_gpadl_created(void *ctx, uint32_t channel_id, uint32_t gpadl_id, uint32_t status)
{
	(void)gpadl_id;
	answered(ctx, channel_id, status);
}

static void
client_gpadl_torndown(void *ctx, uint32_t channel_id, uint32_t gpadl_id)
{
	(void)gpadl_id;
	answered(ctx, channel_id, 0);
}

static void
client_open_result(void *ctx, uint32_t channel_id, uint32_t status)
{
	answered(ctx, channel_id, status);
}

static void
client_unloaded(void *ctx)
{
	(void)ctx;
}

/* Answers to what this peer has posted behind the machine's back. */
static void
client_misbehaved(void *ctx, const char *what)
{
	(void)ctx, (void)what;
}

static const struct vmb_bus_client_ops client_ops = {
	.post = client_post,
	.connected = client_connected,
	.connect_failed = client_connect_failed,
	.offered = client_offered,
	.all_offers_delivered = client_all_offers,
	.rescinded = client_rescinded,
	.gpadl_created = client_gpadl_created,
	.gpadl_torndown = client_gpadl_torndown,
	.open_result = client_open_result,
	.unloaded = client_unloaded,
	.misbehaved = client_misbehaved,
};

enum vmb_status
peer_client_create(struct vmb_hostile *peer)
{
	const struct vmb_bus_client_config config = {
		.newest_version = peer->options.newest_version,
		.features = peer->options.features,
	};

	return vmb_bus_client_create(&config, &client_ops, peer, &peer->client);
}

/* ---- steps ------------------------------------------------------------------------------------ */

static bool
contact_is_over(const void *ctx)
{
	const struct vmb_hostile *peer = ctx;

	return peer->version != 0 || peer->refused;
}

enum vmb_status
vmb_hostile_contact(struct vmb_hostile *peer)
{
	enum vmb_status status;

	if (peer->is_server)
		return VMB_E_STATE;
	peer->refused = false;
	status = vmb_bus_client_connect(peer->client);
	if (status == VMB_OK)
		status = peer_await(peer, contact_is_over, peer);
	return status == VMB_OK && peer->refused ? VMB_E_UNSUPPORTED : status;
}

static bool
offers_are_there(const void *ctx)
{
	const struct vmb_hostile *peer = ctx;

	return peer->all_offers;
}

enum vmb_status
vmb_hostile_request_offers(struct vmb_hostile *peer)
{
	enum vmb_status status =
	    peer->is_server ? VMB_E_STATE : vmb_bus_client_request_offers(peer->client);

	return status == VMB_OK ? peer_await(peer, offers_are_there, peer) : status;
}

static bool
has_answer(const void *ctx)
{
	const struct peer_channel *channel = ctx;

	return channel->answered;
}

static enum vmb_status
await_answer(struct vmb_hostile *peer, struct peer_channel *channel)
{
	enum vmb_status status = peer_await(peer, has_answer, channel);

	return status == VMB_OK && channel->answer_status != 0 ? VMB_E_ACCESS : status;
}

enum vmb_status
vmb_hostile_gpadl(struct vmb_hostile *peer, uint32_t channel_id, uint64_t first_page,
                  uint32_t count, uint32_t *gpadl_id)
{
	struct peer_channel *channel = peer_channel(peer, channel_id);
	uint8_t ranges[VMB_GPA_RANGE_HEADER_BYTES + 8 * 512];
	enum vmb_status status;

	if (channel == NULL || peer->is_server)
		return VMB_E_NOT_FOUND;
	if (count == 0 || count > 512)
		return VMB_E_INVALID;
	vmb_gpa_put_header(ranges, count * PEER_PAGE, 0);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t page = first_page + i;

		memcpy(ranges + VMB_GPA_RANGE_HEADER_BYTES + 8 * i, &page, sizeof(page));
	}
	channel->answered = false;
	status = vmb_bus_client_gpadl_create(peer->client, channel_id, ranges,
	                                     VMB_GPA_RANGE_HEADER_BYTES + 8 * count, 1, gpadl_id);
	return status == VMB_OK ? await_answer(peer, channel) : status;
}

static enum vmb_status
make_doorbell(struct vmb_hostile *peer, struct peer_channel *channel)
{
	enum vmb_status status;

	if (peer->port != NULL) {
		if (channel->has_doorbell)
			return VMB_OK;
		status = vmb_port_doorbell_open(peer->port, channel->id, &channel->doorbell);
		channel->has_doorbell = status == VMB_OK;
		return status;
	}
	if (channel->ring_fd < 0)
		channel->ring_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (channel->own_fd < 0)
		channel->own_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return channel->ring_fd >= 0 && channel->own_fd >= 0 ? VMB_OK : VMB_E_IO;
}

enum vmb_status
vmb_hostile_prepare(struct vmb_hostile *peer, uint32_t channel_id, uint32_t pages)
{
	struct peer_channel *channel = peer_channel(peer, channel_id);
	enum vmb_status status;
	uint8_t *area;

	if (channel == NULL || peer->is_server)
		return VMB_E_NOT_FOUND;
	if (channel->open || channel->gpadl != 0)
		return VMB_E_STATE;
	if (pages == 0 || pages > 255)
		return VMB_E_INVALID;
	/* Those of an earlier open will do again. */
	if (channel->ring_pages != pages + 1)
		channel->first_page = vmb_hostile_pages(peer, 2 * (pages + 1));
	channel->ring_pages = pages + 1;
	area = vmb_hostile_page(peer, channel->first_page);
	if (channel->first_page == 0 || area == NULL)
		return VMB_E_LIMIT;
	peer_rings_at(channel, area, channel->ring_pages,
	              area + (size_t)channel->ring_pages * PEER_PAGE, channel->ring_pages);
	vmb_ring_format(channel->rings[VMB_HOSTILE_OUT].control);
	vmb_ring_format(channel->rings[VMB_HOSTILE_IN].control);
	status = make_doorbell(peer, channel);
	if (status == VMB_OK)
		status = vmb_hostile_gpadl(peer, channel_id, channel->first_page,
		                           2 * channel->ring_pages, &channel->gpadl);
	if (status != VMB_OK)
		channel->gpadl = 0;
	return status;
}

enum vmb_status
vmb_hostile_open(struct vmb_hostile *peer, uint32_t channel_id)
{
	struct peer_channel *channel = peer_channel(peer, channel_id);
	struct vmb_bus_client_open open = { .channel_id = channel_id };
	enum vmb_status status;

	if (channel == NULL || channel->gpadl == 0)
		return VMB_E_STATE;
	open.ring_gpadl = channel->gpadl;
	open.downstream_page_offset = channel->ring_pages;
	channel->answered = false;
	status = vmb_bus_client_open(peer->client, &open);
	if (status == VMB_OK)
		status = await_answer(peer, channel);
	return status == VMB_OK ? peer_rings_attach(channel) : status;
}

enum vmb_status
vmb_hostile_close(struct vmb_hostile *peer, uint32_t channel_id)
{
	struct peer_channel *channel = peer_channel(peer, channel_id);
	enum vmb_status status;

	if (channel == NULL || channel->gpadl == 0 || peer->is_server)
		return VMB_E_STATE;
	if (channel->open)
		VMB_IGNORE(vmb_bus_client_close(peer->client, channel_id));
	channel->open = false;
	channel->answered = false;
	status = vmb_bus_client_gpadl_teardown(peer->client, channel_id, channel->gpadl);
	if (status == VMB_OK)
		status = await_answer(peer, channel);
	if (status != VMB_OK)
		return status;
	channel->gpadl = 0;
	memset(channel->rings, 0, sizeof(channel->rings));
	if (channel->has_doorbell)
		vmb_port_doorbell_close(peer->port, channel_id);
	channel->has_doorbell = false;
	return VMB_OK;
}
