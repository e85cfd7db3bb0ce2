/* SPDX-License-Identifier: MIT */
/*
 * The server role: an offer on a host bus, opened by one guest at a time. Nothing here waits for a guest (STM-14).
 */
#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_bus.h"
#include "kmcl/kmcl_fsm.h"
#include "kmcl/kmcl_gpadl.h"
#include "kmcl/kmcl_role.h"

void *
kmcl_server_create(struct kmcl_channel *ch)
{
	struct kmcl_server *server = calloc(1, sizeof(*server));

	if (server != NULL)
		server->channel = ch;
	return server;
}

void
kmcl_server_destroy(struct kmcl_channel *ch)
{
	if (ch->config.bus != NULL)
		kmcl_bus_unref(ch->config.bus);
	free(ch->role_state);
}

struct kmcl_bus *
kmcl_server_bus(struct kmcl_channel *ch)
{
	const struct kmcl_server *server = ch->role_state;
	struct kmcl_bus *bus;

	pthread_mutex_lock(&ch->fsm.lock);
	bus = server->bus;
	if (bus != NULL)
		kmcl_bus_ref(bus);
	pthread_mutex_unlock(&ch->fsm.lock);
	return bus;
}

static void
set_bus(struct kmcl_channel *ch, struct kmcl_bus *bus)
{
	struct kmcl_server *server = ch->role_state;

	pthread_mutex_lock(&ch->fsm.lock);
	server->bus = bus;
	pthread_mutex_unlock(&ch->fsm.lock);
}

void
kmcl_server_describe(const struct kmcl_server *server, struct vmb_msg_offer *offer)
{
	static const struct {
		UINT32 init_flag;
		uint16_t offer_flag;
	} flags[] = {
		{ VMBUS_SERVER_CHANNEL_INIT_FLAG_LOOPBACK_OFFER, VMB_OFFER_LOOPBACK },
		{ VMBUS_SERVER_CHANNEL_INIT_FLAG_ENUMERATE_DEVICE_INTERFACE,
		  VMB_OFFER_ENUMERATE_DEVICE_INTERFACE },
		{ VMBUS_SERVER_CHANNEL_INIT_FLAG_OFFER_AS_PIPE, VMB_OFFER_NAMED_PIPE },
		{ VMBUS_SERVER_CHANNEL_INIT_FLAG_TLNPI_PROVIDER_OFFER, VMB_OFFER_TLNPI_PROVIDER },
	};
	const struct kmcl_config *config = &server->channel->config;

	*offer = (struct vmb_msg_offer){
		.interface_type = kmcl_wire_guid(&config->type),
		.interface_instance = kmcl_wire_guid(&config->instance),
		.mmio_megabytes = config->mmio,
		.mmio_megabytes_optional = config->mmio_optional,
	};
	for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
		if ((config->server_flags & flags[i].init_flag) != 0)
			offer->flags |= flags[i].offer_flag;
	}
	/* Pipe user data begins with the pipe's mode; messages keep their boundaries. */
	if ((offer->flags & VMB_OFFER_NAMED_PIPE) != 0)
		offer->user_data[0] = 4;
}

/* ---- events from the guests, bus->lock held ---------------------------------------------------------------- */

bool
kmcl_server_open(struct kmcl_server *server, struct kmcl_offer *offer, const struct vmb_bus_open *open)
{
	if (server->active != NULL)
		return false;
	server->active = offer;
	server->open = *open;
	server->close_asked = false;
	kmcl_fsm_peer_open(server->channel);
	return true;
}

void
kmcl_server_close(struct kmcl_server *server, struct kmcl_offer *offer)
{
	if (server->active != offer)
		return;
	server->close_asked = true;
	(void)kmcl_fsm_peer_gone(server->channel);
}

/* ---- role, state context --------------------------------------------------------------------------------------- */

static NTSTATUS
server_enable(struct kmcl_channel *ch)
{
	struct kmcl_server *server = ch->role_state;
	struct kmcl_bus *bus = ch->config.bus;
	NTSTATUS status;

	if (!ch->config.has_target)
		return STATUS_INVALID_DEVICE_REQUEST;
	if (bus != NULL) {
		kmcl_bus_ref(bus);
	} else {
		if ((ch->config.server_flags & VMBUS_SERVER_CHANNEL_INIT_FLAG_LOOPBACK_OFFER) == 0)
			return STATUS_INVALID_DEVICE_REQUEST;
		bus = kmcl_loopback_host();
		if (bus == NULL)
			return STATUS_NO_SUCH_DEVICE;
	}
	set_bus(ch, bus);
	status = kmcl_host_publish(bus, server);
	if (status != STATUS_SUCCESS) {
		set_bus(ch, NULL);
		kmcl_bus_unref(bus);
	}
	return status;
}

/* One ring of the area that the guest described: `first` page of it is the control page. */
static enum vmb_status
map_ring(struct vmb_mem *memory, const struct vmb_bus_open *open, uint32_t first, uint32_t pages,
         struct vmb_view *view)
{
	struct vmb_gpa_range range = {
		.byte_count = pages * VMB_PAGE_BYTES,
		.page_count = pages,
		.pfns = open->ring_pfns + 8 * (size_t)first,
	};

	return vmb_mem_map(memory, &range, true, view);
}

static NTSTATUS
server_attach(struct kmcl_channel *ch)
{
	struct kmcl_server *server = ch->role_state;
	struct kmcl_link *link = &ch->link;
	uint32_t split = server->open.downstream_page_offset;
	uint32_t pages = server->open.ring_pages;
	struct vmb_port *port;
	enum vmb_status status;
	NTSTATUS result;

	pthread_mutex_lock(&server->bus->lock);
	port = server->active->guest->port;
	link->port = port;
	link->memory = vmb_port_memory(port);
	if (link->memory != NULL)
		vmb_mem_ref(link->memory);
	status = link->memory != NULL
	                 ? vmb_port_doorbell_open(port, server->open.channel_id, &link->doorbell)
	                 : VMB_E_NOT_FOUND;
	pthread_mutex_unlock(&server->bus->lock);
	if (status != VMB_OK)
		goto fail_memory;
	status = map_ring(link->memory, &server->open, 0, split, &server->in_view);
	if (status != VMB_OK)
		goto fail_doorbell;
	status = map_ring(link->memory, &server->open, split, pages - split, &server->out_view);
	if (status != VMB_OK)
		goto fail_in_view;
	link->in_ctl = server->in_view.host;
	link->in_data = link->in_ctl + VMB_RING_CTL_BYTES;
	link->in_bytes = (split - 1) * VMB_PAGE_BYTES;
	link->out_ctl = server->out_view.host;
	link->out_data = link->out_ctl + VMB_RING_CTL_BYTES;
	link->out_bytes = (pages - split - 1) * VMB_PAGE_BYTES;
	result = kmcl_link_up(ch);
	if (result == STATUS_SUCCESS)
		return STATUS_SUCCESS;
	vmb_mem_unmap(&server->out_view);

fail_in_view:
	vmb_mem_unmap(&server->in_view);
fail_doorbell:
	pthread_mutex_lock(&server->bus->lock);
	vmb_port_doorbell_close(port, server->open.channel_id);
	pthread_mutex_unlock(&server->bus->lock);
fail_memory:
	kmcl_log(KMCL_LOG_WARNING, "server %s: cannot open: %s", ch->config.name,
	         vmb_status_name(status));
	vmb_mem_unref(link->memory);
	memset(link, 0, sizeof(*link));
	return STATUS_UNSUCCESSFUL;
}

static void
server_opened(struct kmcl_channel *ch, NTSTATUS status)
{
	struct kmcl_server *server = ch->role_state;
	struct kmcl_bus *bus = server->bus;
	struct kmcl_guest *guest;

	pthread_mutex_lock(&bus->lock);
	guest = server->active->guest;
	if (status != STATUS_SUCCESS)
		server->active = NULL;
	/* The machine may raise close() at once: the guest gave up meanwhile. */
	VMB_IGNORE(vmb_bus_server_open_done(guest->server, server->open.channel_id, (uint32_t)status));
	kmcl_host_settle_locked(guest);
	pthread_mutex_unlock(&bus->lock);
}

static void
server_detach(struct kmcl_channel *ch)
{
	struct kmcl_server *server = ch->role_state;
	struct kmcl_bus *bus = server->bus;
	struct vmb_port *port = ch->link.port;
	uint32_t channel_id = server->open.channel_id;
	struct kmcl_guest *guest;
	bool was_open;

	kmcl_gpadl_drop_mappings(ch);
	kmcl_link_down(ch);
	vmb_mem_unmap(&server->in_view);
	vmb_mem_unmap(&server->out_view);

	pthread_mutex_lock(&bus->lock);
	vmb_port_doorbell_close(port, channel_id);
	/* Before server_opened(): a failed open has nothing to close. */
	was_open = kmcl_channel_state(ch) != KMCL_S_OPENING;
	if (was_open) {
		struct kmcl_offer *offer = server->active;

		guest = offer->guest;
		/* A local Disable: taking the offer back makes the machine ask for the close. */
		if (!server->close_asked) {
			offer->channel = NULL;
			VMB_IGNORE(vmb_bus_server_revoke(guest->server, channel_id));
		}
		server->active = NULL;
		server->close_asked = false;
		VMB_IGNORE(vmb_bus_server_close_done(guest->server, channel_id));
		kmcl_host_settle_locked(guest);
	}
	pthread_mutex_unlock(&bus->lock);
}

static void
server_withdraw(struct kmcl_channel *ch)
{
	struct kmcl_server *server = ch->role_state;
	struct kmcl_bus *bus = server->bus;

	if (bus == NULL)
		return;
	kmcl_host_withdraw(bus, server);
	set_bus(ch, NULL);
	kmcl_bus_unref(bus);
}

const struct kmcl_role_ops kmcl_server_role = {
	.enable = server_enable,
	.attach = server_attach,
	.opened = server_opened,
	.detach = server_detach,
	.withdraw = server_withdraw,
};
