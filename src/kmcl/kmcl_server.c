/* SPDX-License-Identifier: MIT */
/*
 * The server role: an offer on a host bus, opened by one guest at a time. Nothing here waits for a
 * guest (STM-14).
 */
#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_bus.h"
#include "kmcl/kmcl_family.h"
#include "kmcl/kmcl_fsm.h"
#include "kmcl/kmcl_gpadl.h"
#include "kmcl/kmcl_role.h"
#include "kmcl/kmcl_save.h"

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
	const struct kmcl_family *family = &server->channel->family;
	bool sub = kmcl_is_subchannel(server->channel);

	*offer = (struct vmb_msg_offer){
		.interface_type = kmcl_wire_guid(sub ? &family->type : &config->type),
		.interface_instance = kmcl_wire_guid(sub ? &family->instance : &config->instance),
		.subchannel_index = family->index,
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

/*
 * ---- events from the guests, bus->lock held
 * ----------------------------------------------------------------
 */

bool
kmcl_server_open(struct kmcl_server *server, struct kmcl_offer *offer, const struct vmb_bus_open *open)
{
	if (server->active == NULL) {
		server->active = offer;
		server->open = *open;
		server->close_asked = server->answered = server->adopted = false;
	} else if (server->close_asked && server->next == NULL) {
		/* Who is started again after a crash comes before the server is through with what the last one left. */
		server->next = offer;
		server->next_open = *open;
	} else {
		return false;
	}
	kmcl_fsm_peer_open(server->channel);
	return true;
}

void
kmcl_server_closed_locked(struct kmcl_server *server)
{
	server->active = server->next;
	server->open = server->next_open;
	server->next = NULL;
	server->close_asked = server->answered = false;
}

bool
kmcl_server_close(struct kmcl_server *server, struct kmcl_offer *offer)
{
	if (server->active != offer)
		return true;
	if (server->adopted) {
		server->active = NULL;
		server->adopted = false;
		return false;
	}
	server->close_asked = true;
	(void)kmcl_fsm_peer_gone(server->channel);
	return true;
}

bool
kmcl_server_retarget(struct kmcl_server *server, struct kmcl_offer *offer, uint32_t target_vp)
{
	if (server->active != offer ||
	    kmcl_host_route(offer->guest, &server->open, target_vp) != VMB_OK)
		return false;
	server->open.target_vp = target_vp;
	atomic_store(&server->channel->target_vp, target_vp);
	return true;
}

bool
kmcl_server_open_identity(struct kmcl_channel *ch, struct kmcl_open_identity *identity)
{
	struct kmcl_server *server = ch->role_state;
	struct kmcl_bus *bus = kmcl_server_bus(ch);
	bool is_open;

	if (bus == NULL)
		return false;
	pthread_mutex_lock(&bus->lock);
	is_open = server->active != NULL && server->answered;
	if (is_open)
		*identity = (struct kmcl_open_identity){
			.channel_id = server->open.channel_id,
			.open_id = server->open.open_id,
			.ring_gpadl = server->open.ring_gpadl,
			.ring_pages = server->open.ring_pages,
			.downstream_page_offset = server->open.downstream_page_offset,
			.target_vp = server->open.target_vp,
			/* Guests count for themselves. */
			.opens = (uint64_t)server->active->guest->number << 32 |
			         (uint32_t)server->open.opens,
		};
	pthread_mutex_unlock(&bus->lock);
	kmcl_bus_unref(bus);
	return is_open;
}

/*
 * ---- role, state context
 * ---------------------------------------------------------------------------------------
 */

static NTSTATUS
server_enable(struct kmcl_channel *ch)
{
	struct kmcl_server *server = ch->role_state;
	struct kmcl_channel *primary = atomic_load(&ch->family.primary);
	struct kmcl_bus *bus = ch->config.bus;
	NTSTATUS status;

	if (primary == NULL && !ch->config.has_target)
		return STATUS_INVALID_DEVICE_REQUEST;
	if (primary != NULL) {
		/* Open as long as this channel is not Disabled, so it has one. */
		bus = kmcl_server_bus(primary);
	} else if (bus != NULL) {
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

/* The guest's memory and the doorbell, by the bus's leave. False: there is nothing to attach to any more. */
static enum vmb_status
borrow_from_guest(struct kmcl_channel *ch, bool *restores)
{
	struct kmcl_server *server = ch->role_state;
	struct kmcl_link *link = &ch->link;
	enum vmb_status status = VMB_E_NOT_FOUND;

	pthread_mutex_lock(&server->bus->lock);
	*restores = server->adopted;
	server->adopted = false;
	/* What is resumed is what was adopted, not an open that came after it. */
	if (server->active != NULL && (*restores || !link->resumes)) {
		link->port = server->active->guest->port;
		link->memory = vmb_port_memory(link->port);
	}
	if (link->memory != NULL) {
		vmb_mem_ref(link->memory);
		status = kmcl_host_route(server->active->guest, &server->open, server->open.target_vp);
		if (status == VMB_OK)
			status = vmb_port_doorbell_open(link->port, server->open.channel_id,
			                                &link->doorbell);
	}
	pthread_mutex_unlock(&server->bus->lock);
	return status;
}

static NTSTATUS
attach_rings(struct kmcl_channel *ch)
{
	struct kmcl_server *server = ch->role_state;
	struct kmcl_link *link = &ch->link;
	uint32_t split = server->open.downstream_page_offset;
	uint32_t pages = server->open.ring_pages;
	enum vmb_status status;
	NTSTATUS result = STATUS_UNSUCCESSFUL;

	status = map_ring(link->memory, &server->open, 0, split, &server->in_view);
	if (status != VMB_OK)
		goto fail;
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
	if (result == STATUS_SUCCESS) {
		atomic_store(&ch->target_vp, server->open.target_vp);
		return STATUS_SUCCESS;
	}
	vmb_mem_unmap(&server->out_view);

fail_in_view:
	vmb_mem_unmap(&server->in_view);
fail:
	kmcl_log(KMCL_LOG_WARNING, "server %s: cannot open: %s", ch->config.name,
	         status != VMB_OK ? vmb_status_name(status) : "the rings cannot be used");
	return result;
}

static NTSTATUS
server_attach(struct kmcl_channel *ch)
{
	struct kmcl_server *server = ch->role_state;
	struct kmcl_link *link = &ch->link;
	enum vmb_status status;
	NTSTATUS result = STATUS_UNSUCCESSFUL;
	bool restores;

	status = borrow_from_guest(ch, &restores);
	link->loop = kmcl_bus_loop(server->bus, server->open.target_vp);
	if (status == VMB_OK)
		result = attach_rings(ch);
	else
		kmcl_log(KMCL_LOG_WARNING, "server %s: cannot open: %s", ch->config.name,
		         vmb_status_name(status));
	if (result == STATUS_SUCCESS)
		return STATUS_SUCCESS;
	pthread_mutex_lock(&server->bus->lock);
	if (restores)
		kmcl_park_restore_failed_locked(server);
	else if (status == VMB_OK)
		vmb_port_doorbell_close(link->port, server->open.channel_id);
	pthread_mutex_unlock(&server->bus->lock);
	vmb_mem_unref(link->memory);
	memset(link, 0, sizeof(*link));
	return result;
}

static void
server_opened(struct kmcl_channel *ch, NTSTATUS status)
{
	struct kmcl_server *server = ch->role_state;
	struct kmcl_bus *bus = server->bus;
	struct kmcl_guest *guest;

	pthread_mutex_lock(&bus->lock);
	guest = server->active->guest;
	server->answered = status == STATUS_SUCCESS;
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
	/* Before server_opened(): a failed open has nothing to close. */
	was_open = kmcl_channel_state(ch) != KMCL_S_OPENING;
	if (was_open && !server->close_asked && kmcl_park_is_due_locked(bus, ch)) {
		kmcl_park_open_locked(server);
		pthread_mutex_unlock(&bus->lock);
		return;
	}
	vmb_port_doorbell_close(port, channel_id);
	if (was_open) {
		struct kmcl_offer *offer = server->active;

		guest = offer->guest;
		/* A local Disable: taking the offer back makes the machine ask for the close. */
		if (!server->close_asked) {
			offer->channel = NULL;
			VMB_IGNORE(vmb_bus_server_revoke(guest->server, channel_id));
		}
		kmcl_server_closed_locked(server);
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
