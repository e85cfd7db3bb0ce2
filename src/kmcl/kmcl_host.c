/* SPDX-License-Identifier: MIT */
/*
 * Host buses: a listener, its guests, and the offers that server channels make to each of them. One guest's fault ends
 * that guest only.
 */
#include "kmcl/kmcl_bus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- events of a guest's machine; bus->lock held --------------------------------------------------------- */

static void
guest_post(void *ctx, const void *message, uint32_t bytes)
{
	struct kmcl_guest *guest = ctx;

	guest->bus->stats.messages_out++;
	/* A port that cannot take it cuts the guest off by itself. */
	VMB_IGNORE(vmb_port_post(guest->port, VMB_CONNECTION_ID_LEGACY, message, bytes));
}

static void
guest_connected(void *ctx, uint32_t version, uint32_t features)
{
	struct kmcl_guest *guest = ctx;

	kmcl_log(KMCL_LOG_INFO, "bus %s: guest (%s) speaks version %u.%u, features 0x%x",
	         guest->bus->path, guest->who, version >> 16, version & 0xFFFF, features);
}

static void
guest_disconnected(void *ctx)
{
	struct kmcl_guest *guest = ctx;

	kmcl_log(KMCL_LOG_INFO, "bus %s: guest (%s) disconnected", guest->bus->path, guest->who);
}

static bool
guest_pages_exist(void *ctx, const struct vmb_gpa_range *range)
{
	struct kmcl_guest *guest = ctx;
	struct vmb_mem *memory = vmb_port_memory(guest->port);

	return memory != NULL && vmb_mem_has_pages(memory, range->pfns, range->page_count, false);
}

static void
guest_open(void *ctx, void *cookie, const struct vmb_bus_open *open)
{
	struct kmcl_offer *offer = cookie;

	(void)ctx;
	if (offer->channel == NULL || !kmcl_server_open(offer->channel->role_state, offer, open))
		offer->refuse_open = true;
}

static void
guest_close(void *ctx, void *cookie)
{
	struct kmcl_offer *offer = cookie;

	(void)ctx;
	if (offer->channel != NULL)
		kmcl_server_close(offer->channel->role_state, offer);
}

static void
guest_released(void *ctx, void *cookie)
{
	struct kmcl_offer *offer = cookie;

	(void)ctx;
	RemoveEntryList(&offer->guest_link);
	free(offer);
}

static void
guest_misbehaved(void *ctx, const char *what)
{
	struct kmcl_guest *guest = ctx;
	unsigned suppressed;
	char reason[KMCL_FAILURE_BYTES];

	guest->bus->stats.misbehaviours++;
	if (kmcl_log_allowed(&guest->log_limit, 5, &suppressed))
		kmcl_log(KMCL_LOG_WARNING, "bus %s: guest (%s) broke a rule: %s (%u more not shown)",
		         guest->bus->path, guest->who, what, suppressed);
	if (++guest->misbehaviours == KMCL_MISBEHAVIOUR_LIMIT) {
		snprintf(reason, sizeof(reason), "%u messages broke a rule, the last one: %s",
		         guest->misbehaviours, what);
		vmb_port_cut(guest->port, VMB_E_MALFORMED, reason);
	}
}

static const struct vmb_bus_server_ops guest_ops = {
	.post = guest_post,
	.connected = guest_connected,
	.disconnected = guest_disconnected,
	.pages_exist = guest_pages_exist,
	.open = guest_open,
	.close = guest_close,
	.released = guest_released,
	.misbehaved = guest_misbehaved,
};

/* ---- guests --------------------------------------------------------------------------------------------- */

static void
offer_locked(struct kmcl_guest *guest, struct kmcl_server *server)
{
	struct kmcl_offer *offer = calloc(1, sizeof(*offer));
	struct vmb_msg_offer description;
	enum vmb_status status = VMB_E_NO_MEMORY;

	if (offer != NULL) {
		offer->guest = guest;
		offer->channel = server->channel;
		InsertTailList(&guest->offers, &offer->guest_link);
		kmcl_server_describe(server, &description);
		status = vmb_bus_server_offer(guest->server, &description, offer,
		                              &offer->channel_id);
	}
	if (status == VMB_OK)
		return;
	kmcl_log(KMCL_LOG_WARNING, "bus %s: cannot offer %s to guest (%s): %s", guest->bus->path,
	         server->channel->config.name, guest->who, vmb_status_name(status));
	if (offer != NULL) {
		RemoveEntryList(&offer->guest_link);
		free(offer);
	}
}

/* The transport is gone and no server channel is open to the guest any more. */
static bool
guest_may_go_locked(const struct kmcl_guest *guest)
{
	const struct kmcl_bus *bus = guest->bus;

	for (LIST_ENTRY *e = bus->servers.Flink; e != &bus->servers; e = e->Flink) {
		const struct kmcl_server *server = CONTAINING_RECORD(e, struct kmcl_server, link);

		if (server->active != NULL && server->active->guest == guest)
			return false;
	}
	return guest->lost;
}

static void
guest_free_locked(struct kmcl_guest *guest)
{
	while (!IsListEmpty(&guest->offers)) {
		LIST_ENTRY *e = RemoveHeadList(&guest->offers);

		free(CONTAINING_RECORD(e, struct kmcl_offer, guest_link));
	}
	RemoveEntryList(&guest->link);
	guest->bus->stats.guests--;
	vmb_bus_server_destroy(guest->server);
	vmb_port_destroy(guest->port);
	free(guest);
}

void
kmcl_host_settle_locked(struct kmcl_guest *guest)
{
	for (LIST_ENTRY *e = guest->offers.Flink; e != &guest->offers;) {
		struct kmcl_offer *offer = CONTAINING_RECORD(e, struct kmcl_offer, guest_link);

		e = e->Flink;
		if (!offer->refuse_open)
			continue;
		offer->refuse_open = false;
		VMB_IGNORE(vmb_bus_server_open_done(guest->server, offer->channel_id,
		                               VMB_BUS_STATUS_UNSUCCESSFUL));
		e = guest->offers.Flink; /* the list may have changed */
	}
	if (guest_may_go_locked(guest))
		guest_free_locked(guest);
}

static void
port_message(void *ctx, uint32_t connection_id, const void *message, uint32_t bytes)
{
	struct kmcl_guest *guest = ctx;
	struct kmcl_bus *bus = guest->bus;

	pthread_mutex_lock(&bus->lock);
	bus->stats.messages_in++;
	vmb_bus_server_message(guest->server, connection_id, message, bytes);
	kmcl_host_settle_locked(guest);
	pthread_mutex_unlock(&bus->lock);
}

static void
port_closed(void *ctx, enum vmb_status why, const char *reason)
{
	struct kmcl_guest *guest = ctx;

	guest->hung_up = true;
	kmcl_log(why == VMB_E_CLOSED ? KMCL_LOG_INFO : KMCL_LOG_WARNING, "bus %s: guest (%s) %s: %s",
	         guest->bus->path, guest->who, why == VMB_E_CLOSED ? "left" : "was cut off", reason);
	if (why != VMB_E_CLOSED) {
		pthread_mutex_lock(&guest->bus->lock);
		guest->bus->stats.guests_cut_off++;
		pthread_mutex_unlock(&guest->bus->lock);
	}
}

static void
guest_ready(struct kmcl_bus *bus, void *ctx)
{
	struct kmcl_guest *guest = ctx;

	vmb_port_poll(guest->port);
	if (!guest->hung_up)
		return;
	kmcl_bus_unwatch(bus, &guest->source);
	pthread_mutex_lock(&bus->lock);
	/* From here on whoever closes the last channel frees the guest. */
	guest->lost = true;
	vmb_bus_server_lost(guest->server);
	kmcl_host_settle_locked(guest);
	pthread_mutex_unlock(&bus->lock);
}

enum vmb_status
kmcl_host_add_guest(struct kmcl_bus *bus, struct vmb_port *port, const char *who)
{
	struct vmb_bus_server_config config = {
		.newest_version = bus->options.newest_version,
		.features = VMB_FEATURE_GUEST_SIGNAL_PARAMETERS | VMB_FEATURE_CLIENT_ID |
		            VMB_FEATURE_PAUSE_RESUME,
	};
	struct kmcl_guest *guest = calloc(1, sizeof(*guest));
	enum vmb_status status = VMB_E_NO_MEMORY;

	if (guest == NULL)
		goto fail_port;
	guest->bus = bus;
	guest->port = port;
	guest->source = (struct kmcl_bus_source){ guest_ready, guest, vmb_port_poll_fd(port) };
	snprintf(guest->who, sizeof(guest->who), "%s", who);
	InitializeListHead(&guest->offers);
	vmb_port_set_handler(port, &(struct vmb_port_handler){ port_message, port_closed, guest });
	status = vmb_bus_server_create(&config, &guest_ops, guest, &guest->server);
	if (status != VMB_OK)
		goto fail_guest;

	pthread_mutex_lock(&bus->lock);
	InsertTailList(&bus->guests, &guest->link);
	bus->stats.guests++;
	bus->stats.guests_seen++;
	for (LIST_ENTRY *e = bus->servers.Flink; e != &bus->servers; e = e->Flink)
		offer_locked(guest, CONTAINING_RECORD(e, struct kmcl_server, link));
	pthread_mutex_unlock(&bus->lock);
	status = kmcl_bus_watch(bus, &guest->source);
	if (status == VMB_OK)
		return VMB_OK;
	pthread_mutex_lock(&bus->lock);
	guest_free_locked(guest);
	pthread_mutex_unlock(&bus->lock);
	return status;

fail_guest:
	free(guest);
fail_port:
	vmb_port_destroy(port);
	return status;
}

/* ---- listener -------------------------------------------------------------------------------------------- */

static void
listener_ready(struct kmcl_bus *bus, void *ctx)
{
	struct vmb_port *port;
	char who[64];
	enum vmb_status status = vmb_unix_accept(ctx, &port, who);

	if (status == VMB_EMPTY)
		return;
	if (status == VMB_OK)
		status = kmcl_host_add_guest(bus, port, who);
	if (status != VMB_OK)
		kmcl_log(KMCL_LOG_WARNING, "bus %s: cannot serve a new guest: %s", bus->path,
		         vmb_status_name(status));
}

enum vmb_status
kmcl_bus_listen(const char *path, const struct kmcl_bus_options *options, struct kmcl_bus **out)
{
	struct kmcl_bus *bus;
	enum vmb_status status;

	*out = NULL;
	if (path == NULL)
		return VMB_E_INVALID;
	status = kmcl_bus_new(KMCL_BUS_HOST, path, options, &bus);
	if (status != VMB_OK)
		return status;
	status = vmb_unix_listen(path, bus->options.mode, &bus->options.limits, &bus->listener);
	if (status != VMB_OK)
		goto fail;
	bus->listen_source = (struct kmcl_bus_source){ listener_ready, bus->listener,
		                                       vmb_unix_listener_fd(bus->listener) };
	status = kmcl_bus_watch(bus, &bus->listen_source);
	if (status == VMB_OK)
		status = kmcl_bus_start_thread(bus, "kmcl-host-bus");
	if (status != VMB_OK)
		goto fail;
	*out = bus;
	return VMB_OK;

fail:
	kmcl_bus_unref(bus);
	return status;
}

void
kmcl_host_close(struct kmcl_bus *bus)
{
	pthread_mutex_lock(&bus->lock);
	bus->closed = true;
	for (LIST_ENTRY *e = bus->guests.Flink; e != &bus->guests;) {
		struct kmcl_guest *guest = CONTAINING_RECORD(e, struct kmcl_guest, link);

		e = e->Flink;
		guest->lost = true;
		vmb_port_cut(guest->port, VMB_E_CLOSED, "the host closed its bus");
		vmb_bus_server_lost(guest->server);
		kmcl_host_settle_locked(guest);
	}
	vmb_unix_listener_destroy(bus->listener);
	bus->listener = NULL;
	pthread_mutex_unlock(&bus->lock);
}

void
kmcl_host_destroy(struct kmcl_bus *bus)
{
	pthread_mutex_lock(&bus->lock);
	while (!IsListEmpty(&bus->guests))
		guest_free_locked(CONTAINING_RECORD(bus->guests.Flink, struct kmcl_guest, link));
	pthread_mutex_unlock(&bus->lock);
	if (bus->listener != NULL)
		vmb_unix_listener_destroy(bus->listener);
}

/* ---- offers of server channels ------------------------------------------------------------------------------ */

NTSTATUS
kmcl_host_publish(struct kmcl_bus *bus, struct kmcl_server *server)
{
	const struct kmcl_config *mine = &server->channel->config;

	pthread_mutex_lock(&bus->lock);
	if (bus->closed) {
		pthread_mutex_unlock(&bus->lock);
		return STATUS_NO_SUCH_DEVICE;
	}
	for (LIST_ENTRY *e = bus->servers.Flink; e != &bus->servers; e = e->Flink) {
		const struct kmcl_config *other =
		        &CONTAINING_RECORD(e, struct kmcl_server, link)->channel->config;

		if (memcmp(&mine->type, &other->type, sizeof(GUID)) == 0 &&
		    memcmp(&mine->instance, &other->instance, sizeof(GUID)) == 0) {
			pthread_mutex_unlock(&bus->lock);
			return STATUS_OBJECT_NAME_COLLISION;
		}
	}
	InsertTailList(&bus->servers, &server->link);
	for (LIST_ENTRY *e = bus->guests.Flink; e != &bus->guests; e = e->Flink)
		offer_locked(CONTAINING_RECORD(e, struct kmcl_guest, link), server);
	pthread_mutex_unlock(&bus->lock);
	return STATUS_SUCCESS;
}

/* A guest opened, but Disable came before the state context looked: its machine waits for an answer. */
static void
refuse_waiting_open_locked(struct kmcl_server *server)
{
	struct kmcl_guest *guest;

	if (server->active == NULL)
		return;
	guest = server->active->guest;
	server->active = NULL;
	VMB_IGNORE(vmb_bus_server_open_done(guest->server, server->open.channel_id,
	                                    VMB_BUS_STATUS_UNSUCCESSFUL));
	kmcl_host_settle_locked(guest);
}

void
kmcl_host_withdraw(struct kmcl_bus *bus, struct kmcl_server *server)
{
	pthread_mutex_lock(&bus->lock);
	RemoveEntryList(&server->link);
	for (LIST_ENTRY *g = bus->guests.Flink; g != &bus->guests; g = g->Flink) {
		struct kmcl_guest *guest = CONTAINING_RECORD(g, struct kmcl_guest, link);

		for (LIST_ENTRY *e = guest->offers.Flink; e != &guest->offers; e = e->Flink) {
			struct kmcl_offer *offer = CONTAINING_RECORD(e, struct kmcl_offer, guest_link);

			if (offer->channel != server->channel)
				continue;
			offer->channel = NULL;
			/* May free the offer. */
			VMB_IGNORE(vmb_bus_server_revoke(guest->server, offer->channel_id));
			break;
		}
	}
	refuse_waiting_open_locked(server);
	pthread_mutex_unlock(&bus->lock);
}
