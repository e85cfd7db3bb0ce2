/* SPDX-License-Identifier: MIT */
/*
 * Host buses: a listener, its guests, and the offers that server channels make to each of them. One guest's
 * fault ends that guest only.
 */
#include "kmcl/kmcl_bus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_family.h"
#include "kmcl/kmcl_inherit.h"
#include "kmcl/kmcl_relay.h"
#include "wire/le.h"

/*
 * The port cuts off whoever has more doorbells than it is told. An open that is refused has some for a moment,
 * and is to be answered.
 */
#define CHANNELS_SPARE 64u
#define DEFAULT_SOCKET_CHANNELS 256u

/* ---- events of a guest's machine; bus->lock held --------------------------------------------- */

static void
log_message(const struct kmcl_guest *guest, const char *way, const void *message, uint32_t bytes)
{
	uint32_t type = vmb_le32_get(*(const vmb_le32 *)message);

	kmcl_log(KMCL_LOG_DEBUG, "bus %s: %s guest (%s): %s (%u), %u bytes", guest->bus->path, way, guest->who,
	         vmb_msg_type_name(type), type, bytes);
}

static void
guest_post(void *ctx, const void *message, uint32_t bytes)
{
	struct kmcl_guest *guest = ctx;

	guest->bus->stats.messages_out++;
	log_message(guest, "to", message, bytes);
	/* A port that cannot take it cuts the guest off by itself. */
	VMB_IGNORE(vmb_port_post(guest->port, vmb_bus_server_message_vp(guest->server), message,
	                         bytes));
}

static void
guest_connected(void *ctx, uint32_t version, uint32_t features)
{
	struct kmcl_guest *guest = ctx;

	guest->relays_dirty = true;
	if (guest->bus->options.monitored_offers)
		vmb_port_watch_monitor(guest->port,
		                       vmb_bus_server_contact(guest->server)->monitor_page_to_parent);
	kmcl_log(KMCL_LOG_INFO, "bus %s: guest (%s) speaks version %u.%u, features 0x%x",
	         guest->bus->path, guest->who, version >> 16, version & 0xFFFF, features);
}

static void
guest_disconnected(void *ctx)
{
	struct kmcl_guest *guest = ctx;

	/*
	 * Every channel is closed. No offer of a subchannel is left to show to the next one: they leave
	 * before their primary has closed.
	 */
	vmb_port_watch_monitor(guest->port, 0);
	kmcl_log(KMCL_LOG_INFO, "bus %s: guest (%s) disconnected", guest->bus->path, guest->who);
}

static bool
guest_pages_exist(void *ctx, const struct vmb_gpa_range *range)
{
	struct kmcl_guest *guest = ctx;
	struct vmb_mem *memory = vmb_port_memory(guest->port);

	return memory != NULL && vmb_mem_has_pages(memory, range->pfns, range->page_count, false);
}

/* The guest is told as soon as the machine returned; whatever else it has open goes on. */
static void
refuse_open_beyond_limit(struct kmcl_guest *guest, struct kmcl_offer *offer, uint32_t channel_id)
{
	struct vmb_doorbell bell;
	unsigned suppressed;

	guest->bus->stats.opens_refused++;
	if (kmcl_log_allowed(&guest->log_limit, 5, &suppressed))
		kmcl_log(KMCL_LOG_WARNING,
		         "bus %s: guest (%s) may not open channel %u: it has the %u open that a guest may have, which "
		         "the server's --limit channels=N sets (%u more not shown)",
		         guest->bus->path, guest->who, channel_id, guest->bus->options.guest_limits.channels,
		         suppressed);
	/* What came with it would count among the descriptors that the guest may have here. */
	if (vmb_port_doorbell_open(guest->port, channel_id, &bell) == VMB_OK)
		vmb_port_doorbell_close(guest->port, channel_id);
	offer->refuse_open = true;
}

static void
guest_open(void *ctx, void *cookie, const struct vmb_bus_open *open)
{
	struct kmcl_guest *guest = ctx;
	struct kmcl_offer *offer = cookie;

	/* The machine has this one among them. */
	if (vmb_bus_server_open_channels(guest->server) > guest->bus->options.guest_limits.channels)
		refuse_open_beyond_limit(guest, offer, open->channel_id);
	else if (!offer->ops->open(offer, open))
		offer->refuse_open = true;
}

static void
guest_close(void *ctx, void *cookie)
{
	struct kmcl_offer *offer = cookie;

	(void)ctx;
	if (offer->unattended || !offer->ops->close(offer))
		offer->answer_close = true;
}

static void
guest_released(void *ctx, void *cookie)
{
	struct kmcl_offer *offer = cookie;

	(void)ctx;
	if (offer->ops->released != NULL)
		offer->ops->released(offer);
	kmcl_host_drop_offer_locked(offer);
}

static enum vmb_status
guest_gpadl_described(void *ctx, void *cookie, uint32_t gpadl_id)
{
	struct kmcl_offer *offer = cookie;

	(void)ctx;
	return offer->ops->gpadl_described != NULL ? offer->ops->gpadl_described(offer, gpadl_id)
	                                           : VMB_OK;
}

static void
guest_gpadl_unwanted(void *ctx, void *cookie, uint32_t gpadl_id)
{
	struct kmcl_offer *offer = cookie;

	(void)ctx;
	if (offer->ops->gpadl_unwanted != NULL)
		offer->ops->gpadl_unwanted(offer, gpadl_id);
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

static bool
guest_retarget(void *ctx, void *cookie, uint32_t target_vp)
{
	struct kmcl_offer *offer = cookie;

	(void)ctx;
	return offer->ops->retarget(offer, target_vp);
}

static const struct vmb_bus_server_ops guest_ops = {
	.post = guest_post,
	.connected = guest_connected,
	.disconnected = guest_disconnected,
	.pages_exist = guest_pages_exist,
	.open = guest_open,
	.close = guest_close,
	.released = guest_released,
	.gpadl_described = guest_gpadl_described,
	.gpadl_unwanted = guest_gpadl_unwanted,
	.misbehaved = guest_misbehaved,
	.retarget = guest_retarget,
};

/* ---- guests ---------------------------------------------------------------------------------- */

enum vmb_status
kmcl_host_route(const struct kmcl_guest *guest, const struct vmb_bus_open *open, uint32_t target_vp)
{
	const struct vmb_port_route route = {
		.connection_id = open->connection_id,
		.target_vp = target_vp,
		.event_flag = open->event_flag,
		.monitor_id = open->monitor_id,
	};

	return vmb_port_route(guest->port, open->channel_id, &route);
}

/* A server channel; or none any more. */
static bool
server_offer_open(struct kmcl_offer *offer, const struct vmb_bus_open *open)
{
	return offer->channel != NULL && kmcl_server_open(offer->channel->role_state, offer, open);
}

static bool
server_offer_close(struct kmcl_offer *offer)
{
	return offer->channel == NULL || kmcl_server_close(offer->channel->role_state, offer);
}

static bool
server_offer_retarget(struct kmcl_offer *offer, uint32_t target_vp)
{
	return offer->channel != NULL &&
	       kmcl_server_retarget(offer->channel->role_state, offer, target_vp);
}

static const struct kmcl_offer_ops server_offer_ops = {
	.open = server_offer_open,
	.close = server_offer_close,
	.retarget = server_offer_retarget,
};

struct kmcl_offer *
kmcl_host_new_offer_locked(struct kmcl_guest *guest)
{
	struct kmcl_offer *offer = calloc(1, sizeof(*offer));

	if (offer == NULL)
		return NULL;
	offer->guest = guest;
	offer->ops = &server_offer_ops;
	InsertTailList(&guest->offers, &offer->guest_link);
	return offer;
}

void
kmcl_host_drop_offer_locked(struct kmcl_offer *offer)
{
	RemoveEntryList(&offer->guest_link);
	free(offer);
}

enum vmb_status
kmcl_host_offer_locked(struct kmcl_guest *guest, struct kmcl_server *server)
{
	struct kmcl_offer *offer = kmcl_host_new_offer_locked(guest);
	struct vmb_msg_offer description;
	enum vmb_status status;

	if (offer == NULL)
		return VMB_E_NO_MEMORY;
	offer->channel = server->channel;
	kmcl_server_describe(server, &description);
	status = vmb_bus_server_offer(guest->server, &description, offer, &offer->channel_id);
	if (status != VMB_OK)
		kmcl_host_drop_offer_locked(offer);
	return status;
}

static enum vmb_status
offer_to_new_guest_locked(struct kmcl_guest *guest)
{
	enum vmb_status status = VMB_OK;

	for (LIST_ENTRY *e = guest->bus->servers.Flink; e != &guest->bus->servers && status == VMB_OK;
	     e = e->Flink) {
		struct kmcl_server *server = CONTAINING_RECORD(e, struct kmcl_server, link);

		if (!kmcl_is_subchannel(server->channel))
			status = kmcl_host_offer_locked(guest, server);
	}
	return status;
}

/* The transport is gone and no server channel is open to the guest any more. */
static bool
guest_may_go_locked(const struct kmcl_guest *guest)
{
	const struct kmcl_bus *bus = guest->bus;

	for (LIST_ENTRY *e = bus->servers.Flink; e != &bus->servers; e = e->Flink) {
		const struct kmcl_server *server = CONTAINING_RECORD(e, struct kmcl_server, link);

		if ((server->active != NULL && server->active->guest == guest) ||
		    (server->next != NULL && server->next->guest == guest))
			return false;
	}
	return guest->lost;
}

static void
guest_destroy_locked(struct kmcl_guest *guest)
{
	while (!IsListEmpty(&guest->offers)) {
		LIST_ENTRY *e = RemoveHeadList(&guest->offers);

		free(CONTAINING_RECORD(e, struct kmcl_offer, guest_link));
	}
	kmcl_relay_free_guest_locked(guest);
	vmb_bus_server_destroy(guest->server);
	vmb_port_destroy(guest->port);
	free(guest);
}

static void
guest_free_locked(struct kmcl_guest *guest)
{
	RemoveEntryList(&guest->link);
	guest->bus->stats.guests--;
	guest_destroy_locked(guest);
}

static void
answer_offers_locked(struct kmcl_guest *guest)
{
	for (LIST_ENTRY *e = guest->offers.Flink; e != &guest->offers;) {
		struct kmcl_offer *offer = CONTAINING_RECORD(e, struct kmcl_offer, guest_link);

		e = e->Flink;
		if (offer->refuse_open) {
			offer->refuse_open = false;
			VMB_IGNORE(vmb_bus_server_open_done(guest->server, offer->channel_id,
			                                    VMB_BUS_STATUS_UNSUCCESSFUL));
		} else if (offer->answer_close) {
			offer->answer_close = false;
			VMB_IGNORE(vmb_bus_server_close_done(guest->server, offer->channel_id));
		} else {
			continue;
		}
		e = guest->offers.Flink; /* the list may have changed */
	}
}

void
kmcl_host_settle_locked(struct kmcl_guest *guest)
{
	do
		answer_offers_locked(guest);
	while (kmcl_relay_settle_locked(guest));
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
	log_message(guest, "from", message, bytes);
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
	kmcl_relay_drop_guest_locked(guest);
	vmb_bus_server_lost(guest->server);
	kmcl_host_settle_locked(guest);
	pthread_mutex_unlock(&bus->lock);
}

enum vmb_status
kmcl_host_new_guest(struct kmcl_bus *bus, struct vmb_port *port, const char *who, const void *saved,
                    size_t saved_bytes, struct kmcl_guest **out)
{
	struct vmb_bus_server_config config = {
		.newest_version = bus->options.newest_version,
		.features = VMB_FEATURE_GUEST_SIGNAL_PARAMETERS | VMB_FEATURE_CLIENT_ID |
		            VMB_FEATURE_PAUSE_RESUME,
		.monitors = bus->options.monitored_offers,
		.max_gpadls = bus->options.guest_limits.gpadls,
		.max_gpadl_pages = bus->options.guest_limits.gpadl_pages,
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
	InitializeListHead(&guest->relays);
	vmb_port_set_handler(port, &(struct vmb_port_handler){ port_message, port_closed, guest });
	status = saved != NULL ? vmb_bus_server_load(&config, &guest_ops, guest, saved, saved_bytes,
	                                             &guest->server)
	                       : vmb_bus_server_create(&config, &guest_ops, guest, &guest->server);
	if (status != VMB_OK)
		goto fail_guest;
	*out = guest;
	return VMB_OK;

fail_guest:
	free(guest);
fail_port:
	vmb_port_destroy(port);
	return status;
}

/* A hold that is only wished for waits for its control thread, which may have a guest in hand. */
static bool
takes_guests_locked(const struct kmcl_bus *bus)
{
	return !bus->closed && (bus->hold == KMCL_HOLD_NONE || bus->hold == KMCL_HOLD_WISHED);
}

enum vmb_status
kmcl_host_add_guest(struct kmcl_bus *bus, struct vmb_port *port, const char *who)
{
	struct kmcl_guest *guest;
	enum vmb_status status = kmcl_host_new_guest(bus, port, who, NULL, 0, &guest);

	if (status != VMB_OK)
		return status;
	pthread_mutex_lock(&bus->lock);
	if (!takes_guests_locked(bus)) {
		guest_destroy_locked(guest);
		pthread_mutex_unlock(&bus->lock);
		return VMB_E_STATE;
	}
	InsertTailList(&bus->guests, &guest->link);
	guest->number = ++bus->last_guest;
	bus->stats.guests++;
	bus->stats.guests_seen++;
	status = offer_to_new_guest_locked(guest);
	kmcl_relay_new_guest_locked(guest);
	/* Under the lock: a bus that is held next may be sent away with its guests. */
	if (status == VMB_OK)
		status = kmcl_bus_watch(bus, &guest->source);
	/* A guest that sees some of the offers would wait for the others for ever: it can come again. */
	if (status != VMB_OK)
		guest_free_locked(guest);
	pthread_mutex_unlock(&bus->lock);
	return status;
}

/* ---- listener -------------------------------------------------------------------------------- */

/* One that waits: its port, or VMB_E_ACCESS if it was refused, and told why. */
static enum vmb_status
accept_or_refuse(struct kmcl_bus *bus, struct vmb_unix_listener *listener, struct vmb_port **port,
                 char who[64])
{
	const uint32_t limit = bus->options.guest_limits.guests;
	char why[VMB_PORT_WHY_BYTES];
	uint32_t guests;

	pthread_mutex_lock(&bus->lock);
	guests = bus->stats.guests;
	pthread_mutex_unlock(&bus->lock);
	if (guests < limit)
		return vmb_unix_accept(listener, port, who);
	snprintf(why, sizeof(why),
	         "the server has the %u clients that it may have; try again when one has left, or have it "
	         "started with a larger --limit clients=N",
	         limit);
	return vmb_unix_turn_away(listener, why, who);
}

static void
listener_ready(struct kmcl_bus *bus, void *ctx)
{
	struct vmb_port *port;
	unsigned suppressed;
	char who[64];
	enum vmb_status status = accept_or_refuse(bus, ctx, &port, who);

	if (status == VMB_EMPTY)
		return;
	if (status == VMB_E_ACCESS) {
		pthread_mutex_lock(&bus->lock);
		bus->stats.guests_refused++;
		pthread_mutex_unlock(&bus->lock);
		if (kmcl_log_allowed(&bus->log_limit, 5, &suppressed))
			kmcl_log(KMCL_LOG_WARNING,
			         "bus %s: refused a client (%s), and told it why (%u more not shown)",
			         bus->path, who, suppressed);
		return;
	}
	if (status == VMB_OK)
		status = kmcl_host_add_guest(bus, port, who);
	if (status != VMB_OK)
		kmcl_log(KMCL_LOG_WARNING, "bus %s: cannot serve a new guest: %s", bus->path,
		         vmb_status_name(status));
}

enum vmb_status
kmcl_host_watch_listener(struct kmcl_bus *bus)
{
	bus->listen_source = (struct kmcl_bus_source){ listener_ready, bus->listener,
		                                       vmb_unix_listener_fd(bus->listener) };
	return kmcl_bus_watch(bus, &bus->listen_source);
}

enum vmb_status
kmcl_bus_listen(const char *path, const struct kmcl_bus_options *options, struct kmcl_bus **out)
{
	struct vmb_unix_limits limits;
	struct kmcl_bus *bus;
	enum vmb_status status;

	*out = NULL;
	if (path == NULL)
		return VMB_E_INVALID;
	status = kmcl_bus_new(KMCL_BUS_HOST, path, options, &bus);
	if (status != VMB_OK)
		return status;
	/* Each takes descriptors of this process, and this is for whoever may connect. */
	if (bus->default_channels)
		bus->options.guest_limits.channels = DEFAULT_SOCKET_CHANNELS;
	limits = bus->options.limits;
	limits.channels = min(bus->options.guest_limits.channels, VMB_CHANNEL_ID_MAX) + CHANNELS_SPARE;
	status = vmb_unix_listen_for(path, bus->options.mode, &limits, &bus->options.access, &bus->listener);
	if (status != VMB_OK)
		goto fail;
	status = kmcl_host_watch_listener(bus);
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

enum vmb_status
kmcl_bus_create(const struct kmcl_bus_options *options, struct kmcl_bus **out)
{
	struct kmcl_bus *bus;
	enum vmb_status status;

	*out = NULL;
	status = kmcl_bus_new(KMCL_BUS_HOST, "(no path)", options, &bus);
	if (status != VMB_OK)
		return status;
	status = kmcl_bus_start_thread(bus, "kmcl-host-bus");
	if (status != VMB_OK) {
		kmcl_bus_unref(bus);
		return status;
	}
	*out = bus;
	return VMB_OK;
}

enum vmb_status
kmcl_bus_add_guest(struct kmcl_bus *bus, struct vmb_port *port, const char *who)
{
	if (port == NULL)
		return VMB_E_INVALID;
	if (bus == NULL || bus->kind != KMCL_BUS_HOST) {
		vmb_port_destroy(port);
		return VMB_E_INVALID;
	}
	return kmcl_host_add_guest(bus, port, who);
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
		kmcl_relay_drop_guest_locked(guest);
		vmb_port_cut(guest->port, VMB_E_CLOSED, "the host closed its bus");
		vmb_bus_server_lost(guest->server);
		kmcl_host_settle_locked(guest);
	}
	if (bus->listener != NULL)
		vmb_unix_listener_destroy(bus->listener);
	bus->listener = NULL;
	pthread_mutex_unlock(&bus->lock);
}

void
kmcl_host_forget_locked(struct kmcl_bus *bus)
{
	bus->closed = bus->given_away = true;
	while (!IsListEmpty(&bus->guests)) {
		struct kmcl_guest *guest = CONTAINING_RECORD(bus->guests.Flink, struct kmcl_guest,
		                                             link);

		kmcl_bus_unwatch(bus, &guest->source);
		guest_free_locked(guest);
	}
	if (bus->listener != NULL) {
		kmcl_bus_unwatch(bus, &bus->listen_source);
		vmb_unix_listener_abandon(bus->listener);
	}
	bus->listener = NULL;
}

void
kmcl_host_destroy(struct kmcl_bus *bus)
{
	pthread_mutex_lock(&bus->lock);
	while (!IsListEmpty(&bus->guests))
		guest_free_locked(CONTAINING_RECORD(bus->guests.Flink, struct kmcl_guest, link));
	kmcl_relay_free_shares_locked(bus);
	kmcl_inherit_drop_locked(bus);
	pthread_mutex_unlock(&bus->lock);
	vmb_unix_listener_destroy(bus->listener);
}

/* ---- offers of server channels --------------------------------------------------------------- */

/* Another primary has this identity. Those of one family have indices that differ. */
static bool
is_offered_locked(struct kmcl_bus *bus, const struct kmcl_channel *ch)
{
	if (kmcl_is_subchannel(ch))
		return false;
	for (LIST_ENTRY *e = bus->servers.Flink; e != &bus->servers; e = e->Flink) {
		const struct kmcl_channel *other =
		        CONTAINING_RECORD(e, struct kmcl_server, link)->channel;

		if (!kmcl_is_subchannel(other) &&
		    memcmp(&ch->config.type, &other->config.type, sizeof(GUID)) == 0 &&
		    memcmp(&ch->config.instance, &other->config.instance, sizeof(GUID)) == 0)
			return true;
	}
	return false;
}

/* On a held bus the offer of a channel's predecessor is taken over. The guest may be gone on return. */
static enum vmb_status
offer_or_adopt_locked(struct kmcl_guest *guest, struct kmcl_server *server)
{
	return guest->bus->hold == KMCL_HOLD_ON ? kmcl_park_adopt_locked(guest, server)
	                                        : kmcl_host_offer_locked(guest, server);
}

static enum vmb_status
offer_primary_locked(struct kmcl_bus *bus, struct kmcl_server *server)
{
	enum vmb_status status = VMB_OK;

	for (LIST_ENTRY *e = bus->guests.Flink; e != &bus->guests && status == VMB_OK;) {
		struct kmcl_guest *guest = CONTAINING_RECORD(e, struct kmcl_guest, link);

		e = e->Flink;
		status = offer_or_adopt_locked(guest, server);
	}
	return status;
}

/* Only the guest that has the primary open may know of its subchannels (vmbus-protocol 4.8). */
static enum vmb_status
offer_subchannel_locked(struct kmcl_server *server)
{
	const struct kmcl_server *primary =
	        atomic_load(&server->channel->family.primary)->role_state;

	return offer_or_adopt_locked(primary->active->guest, server);
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
kmcl_host_revoke_locked(struct kmcl_offer *offer)
{
	struct kmcl_guest *guest = offer->guest;

	offer->channel = NULL;
	offer->parked = false;
	/* May free the offer. */
	VMB_IGNORE(vmb_bus_server_revoke(guest->server, offer->channel_id));
	kmcl_host_settle_locked(guest);
}

static struct kmcl_offer *
offer_of_locked(struct kmcl_guest *guest, const struct kmcl_channel *ch)
{
	for (LIST_ENTRY *e = guest->offers.Flink; e != &guest->offers; e = e->Flink) {
		struct kmcl_offer *offer = CONTAINING_RECORD(e, struct kmcl_offer, guest_link);

		if (offer->channel == ch)
			return offer;
	}
	return NULL;
}

static void
withdraw_locked(struct kmcl_bus *bus, struct kmcl_server *server)
{
	bool park = kmcl_park_is_due_locked(bus, server->channel);

	/* What was adopted and never attached is as it was before. */
	if (server->adopted) {
		struct kmcl_offer *offer = server->active;

		kmcl_park_open_locked(server);
		if (!park)
			kmcl_host_revoke_locked(offer);
	}
	for (LIST_ENTRY *g = bus->guests.Flink; g != &bus->guests;) {
		struct kmcl_guest *guest = CONTAINING_RECORD(g, struct kmcl_guest, link);
		struct kmcl_offer *offer = offer_of_locked(guest, server->channel);

		g = g->Flink;
		if (offer != NULL && park)
			kmcl_park_offer_locked(offer);
		else if (offer != NULL)
			kmcl_host_revoke_locked(offer);
	}
	/*
	 * Only now: a guest that is lost may go when no server has an open of it, and this one may have one
	 * to refuse.
	 */
	RemoveEntryList(&server->link);
	refuse_waiting_open_locked(server);
}

void
kmcl_host_withdraw(struct kmcl_bus *bus, struct kmcl_server *server)
{
	pthread_mutex_lock(&bus->lock);
	withdraw_locked(bus, server);
	pthread_mutex_unlock(&bus->lock);
}

static NTSTATUS
publish_locked(struct kmcl_bus *bus, struct kmcl_server *server)
{
	enum vmb_status status;

	if (bus->closed)
		return STATUS_NO_SUCH_DEVICE;
	if (is_offered_locked(bus, server->channel))
		return STATUS_OBJECT_NAME_COLLISION;
	InsertTailList(&bus->servers, &server->link);
	if (kmcl_is_subchannel(server->channel))
		status = offer_subchannel_locked(server);
	else
		status = offer_primary_locked(bus, server);
	if (status == VMB_OK)
		return STATUS_SUCCESS;
	kmcl_log(KMCL_LOG_WARNING, "bus %s: cannot offer %s: %s", bus->path,
	         server->channel->config.name, vmb_status_name(status));
	withdraw_locked(bus, server);
	/* A host that the bus shares has offered it. */
	if (status == VMB_E_EXISTS)
		return STATUS_OBJECT_NAME_COLLISION;
	return STATUS_INSUFFICIENT_RESOURCES;
}

NTSTATUS
kmcl_host_publish(struct kmcl_bus *bus, struct kmcl_server *server)
{
	NTSTATUS status;

	pthread_mutex_lock(&bus->lock);
	kmcl_park_wait_for_sending_locked(bus);
	status = publish_locked(bus, server);
	pthread_mutex_unlock(&bus->lock);
	return status;
}
