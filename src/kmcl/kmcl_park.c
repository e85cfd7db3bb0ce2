/* SPDX-License-Identifier: MIT */
/*
 * A host bus that is held, and what server channels leave on it for their successors. While it is held the
 * control thread keeps still, so nothing comes from a guest and no guest comes or goes; open channels need
 * no bus. An offer whose channel was saved and left is parked: the machine does not know that nobody is
 * there, and the guest cannot find out.
 */
#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_bus.h"
#include "kmcl/kmcl_fsm.h"
#include "kmcl/kmcl_inherit.h"
#include "kmcl/kmcl_save.h"

/* ---- holding --------------------------------------------------------------------------------- */

void
kmcl_park_keep_still(struct kmcl_bus *bus)
{
	pthread_mutex_lock(&bus->lock);
	/* Released and held again may come to us as one. */
	while (bus->hold != KMCL_HOLD_NONE && !atomic_load(&bus->stop)) {
		if (bus->hold == KMCL_HOLD_WISHED) {
			bus->hold = KMCL_HOLD_ON;
			pthread_cond_broadcast(&bus->changed);
		}
		pthread_cond_wait(&bus->changed, &bus->lock);
	}
	pthread_mutex_unlock(&bus->lock);
}

void
kmcl_park_wait_for_sending_locked(struct kmcl_bus *bus)
{
	while (bus->hold == KMCL_HOLD_SENDING)
		pthread_cond_wait(&bus->changed, &bus->lock);
}

/* A server channel that this hold has not waited for; its Cleanup waits for us. */
static struct kmcl_channel *
next_channel_locked(struct kmcl_bus *bus)
{
	for (LIST_ENTRY *e = bus->servers.Flink; e != &bus->servers; e = e->Flink) {
		struct kmcl_server *server = CONTAINING_RECORD(e, struct kmcl_server, link);

		if (server->settled_hold != bus->holds) {
			server->settled_hold = bus->holds;
			atomic_fetch_add(&server->channel->fsm.callers, 1);
			return server->channel;
		}
	}
	return NULL;
}

/* Opens and closes handled just before the hold reach their channels, so that a pause finds them settled. */
static void
let_channels_settle(struct kmcl_bus *bus)
{
	struct kmcl_channel *ch;

	do {
		pthread_mutex_lock(&bus->lock);
		ch = next_channel_locked(bus);
		pthread_mutex_unlock(&bus->lock);
		if (ch != NULL) {
			kmcl_fsm_wait_for_peer(ch);
			atomic_fetch_sub(&ch->fsm.callers, 1);
		}
	} while (ch != NULL);
}

enum vmb_status
kmcl_bus_hold(struct kmcl_bus *bus)
{
	bool held;

	if (bus == NULL || bus->kind != KMCL_BUS_HOST)
		return VMB_E_INVALID;
	if (kmcl_thread.state_channel != NULL || kmcl_thread.rx_channel != NULL) {
		kmcl_misuse(NULL, "kmcl_bus_hold: not allowed inside a callback of a channel");
		return VMB_E_STATE;
	}
	pthread_mutex_lock(&bus->lock);
	if (bus->closed || bus->hold != KMCL_HOLD_NONE || atomic_load(&bus->stop)) {
		pthread_mutex_unlock(&bus->lock);
		return VMB_E_STATE;
	}
	bus->hold = KMCL_HOLD_WISHED;
	bus->holds++;
	kmcl_bus_wake(bus);
	while (bus->hold == KMCL_HOLD_WISHED && !atomic_load(&bus->stop))
		pthread_cond_wait(&bus->changed, &bus->lock);
	held = bus->hold == KMCL_HOLD_ON;
	pthread_mutex_unlock(&bus->lock);
	if (!held)
		return VMB_E_STATE;
	let_channels_settle(bus);
	return VMB_OK;
}

enum vmb_status
kmcl_bus_loopback_host(struct kmcl_bus **host)
{
	enum vmb_status status = kmcl_bus_loopback(NULL);

	*host = NULL;
	if (status != VMB_OK)
		return status;
	*host = kmcl_loopback_host();
	/* The bus itself keeps a reference as long as the process lives. */
	kmcl_bus_unref(*host);
	return VMB_OK;
}

/* ---- parking --------------------------------------------------------------------------------- */

bool
kmcl_park_is_due_locked(const struct kmcl_bus *bus, struct kmcl_channel *ch)
{
	return bus->hold == KMCL_HOLD_ON && !bus->closed && kmcl_save_is_complete(ch);
}

void
kmcl_park_offer_locked(struct kmcl_offer *offer)
{
	offer->channel = NULL;
	offer->parked = offer->unattended = true;
}

void
kmcl_park_open_locked(struct kmcl_server *server)
{
	struct kmcl_offer *offer = server->active;

	vmb_port_doorbell_keep(offer->guest->port, offer->channel_id);
	server->active = NULL;
	server->answered = server->adopted = false;
	kmcl_park_offer_locked(offer);
}

/* ---- taking over ----------------------------------------------------------------------------- */

/* The parked offer of the server's device, and how the machine has it; NULL: there is none. */
static struct kmcl_offer *
find_parked_locked(struct kmcl_guest *guest, const struct vmb_msg_offer *mine,
                   struct vmb_bus_channel *found)
{
	uint32_t id = 0;

	while (vmb_bus_server_next_channel(guest->server, id, found) == VMB_OK) {
		struct kmcl_offer *offer = found->cookie;

		id = found->channel_id;
		if (offer->parked && found->offer->subchannel_index == mine->subchannel_index &&
		    memcmp(&found->offer->interface_type, &mine->interface_type,
		           sizeof(mine->interface_type)) == 0 &&
		    memcmp(&found->offer->interface_instance, &mine->interface_instance,
		           sizeof(mine->interface_instance)) == 0)
			return offer;
	}
	return NULL;
}

enum vmb_status
kmcl_park_adopt_locked(struct kmcl_guest *guest, struct kmcl_server *server)
{
	bool anew = (server->channel->config.server_flags &
	             VMBUS_SERVER_CHANNEL_INIT_FLAG_FORCE_NEW_CHANNEL) != 0;
	struct vmb_bus_channel found;
	struct vmb_msg_offer mine;
	struct kmcl_offer *offer;

	kmcl_server_describe(server, &mine);
	offer = find_parked_locked(guest, &mine, &found);
	/* One guest at a time; who gave us the bus may not have kept to it. */
	if (offer != NULL && (anew || (found.is_open && server->active != NULL))) {
		kmcl_host_revoke_locked(offer);
		offer = NULL;
	}
	if (offer == NULL)
		return kmcl_host_offer_locked(guest, server);
	offer->channel = server->channel;
	offer->parked = offer->unattended = false;
	if (!found.is_open)
		return VMB_OK;
	server->active = offer;
	server->open = found.open;
	server->close_asked = false;
	server->answered = server->adopted = true;
	return VMB_OK;
}

/* Nobody restored it: the guest loses this channel and sees a new offer. */
static void
lose_adopted_locked(struct kmcl_server *server)
{
	struct kmcl_offer *offer = server->active;
	struct kmcl_guest *guest = offer->guest;
	bool stays = !guest->lost;

	kmcl_log(KMCL_LOG_WARNING, "server %s: an open channel was not restored and is offered anew",
	         server->channel->config.name);
	kmcl_park_open_locked(server);
	kmcl_host_revoke_locked(offer);
	if (stays && kmcl_host_offer_locked(guest, server) != VMB_OK)
		kmcl_log(KMCL_LOG_WARNING, "server %s: the new offer cannot be made",
		         server->channel->config.name);
}

void
kmcl_park_restore_failed_locked(struct kmcl_server *server)
{
	struct kmcl_guest *guest;

	if (server->active == NULL)
		return;
	guest = server->active->guest;
	if (server->close_asked) {
		/* The bus was closed while we tried. */
		const uint32_t channel_id = server->open.channel_id;

		vmb_port_doorbell_close(guest->port, channel_id);
		kmcl_server_closed_locked(server);
		VMB_IGNORE(vmb_bus_server_close_done(guest->server, channel_id));
		kmcl_host_settle_locked(guest);
		return;
	}
	vmb_port_doorbell_keep(guest->port, server->open.channel_id);
	server->adopted = true;
	if (server->bus->hold == KMCL_HOLD_NONE)
		lose_adopted_locked(server);
}

/* ---- going on -------------------------------------------------------------------------------- */

static void
revoke_parked_locked(struct kmcl_guest *guest)
{
	LIST_ENTRY *e = guest->offers.Flink;

	while (e != &guest->offers) {
		struct kmcl_offer *offer = CONTAINING_RECORD(e, struct kmcl_offer, guest_link);

		e = e->Flink;
		if (!offer->parked)
			continue;
		kmcl_host_revoke_locked(offer);
		e = guest->offers.Flink; /* the list may have changed */
	}
}

enum vmb_status
kmcl_bus_release(struct kmcl_bus *bus)
{
	if (bus == NULL || bus->kind != KMCL_BUS_HOST)
		return VMB_E_STATE;
	pthread_mutex_lock(&bus->lock);
	if (bus->hold != KMCL_HOLD_ON || bus->closed) {
		pthread_mutex_unlock(&bus->lock);
		return VMB_E_STATE;
	}
	bus->hold = KMCL_HOLD_NONE;
	kmcl_inherit_drop_locked(bus);
	for (LIST_ENTRY *e = bus->guests.Flink; e != &bus->guests; e = e->Flink)
		revoke_parked_locked(CONTAINING_RECORD(e, struct kmcl_guest, link));
	for (LIST_ENTRY *e = bus->servers.Flink; e != &bus->servers; e = e->Flink) {
		struct kmcl_server *server = CONTAINING_RECORD(e, struct kmcl_server, link);

		if (server->adopted)
			lose_adopted_locked(server);
	}
	pthread_cond_broadcast(&bus->changed);
	pthread_mutex_unlock(&bus->lock);
	return VMB_OK;
}
