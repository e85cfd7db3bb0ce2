/* SPDX-License-Identifier: MIT */
/* Which hosts of other processes a bus shares: the calls for programs. */
#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_relay.h"

#define DEFAULT_OFFERS 64u
#define DEFAULT_RETRY_MS 2000u

static struct kmcl_share *
find_locked(struct kmcl_bus *bus, const char *path)
{
	for (LIST_ENTRY *e = bus->shares.Flink; e != &bus->shares; e = e->Flink) {
		struct kmcl_share *share = CONTAINING_RECORD(e, struct kmcl_share, link);

		if (!share->ended && strcmp(share->path, path) == 0)
			return share;
	}
	return NULL;
}

static bool
can_change_locked(const struct kmcl_bus *bus)
{
	return !bus->closed && bus->hold == KMCL_HOLD_NONE && !atomic_load(&bus->stop);
}

static enum vmb_status
share_locked(struct kmcl_bus *bus, struct kmcl_share *share)
{
	enum vmb_status status;

	if (!can_change_locked(bus))
		return VMB_E_STATE;
	if (find_locked(bus, share->path) != NULL)
		return VMB_E_EXISTS;
	InsertTailList(&bus->shares, &share->link);
	for (LIST_ENTRY *e = bus->guests.Flink; e != &bus->guests;) {
		struct kmcl_guest *guest = CONTAINING_RECORD(e, struct kmcl_guest, link);

		e = e->Flink;
		if (guest->lost)
			continue;
		status = kmcl_relay_create_locked(guest, share);
		if (status != VMB_OK)
			kmcl_log(KMCL_LOG_WARNING,
			         "bus %s: guest (%s) gets no offers of the host at %s: %s",
			         bus->path, guest->who, share->path, vmb_status_name(status));
		kmcl_host_settle_locked(guest);
	}
	return VMB_OK;
}

enum vmb_status
kmcl_bus_share(struct kmcl_bus *bus, const char *path, const struct kmcl_share_options *options)
{
	struct kmcl_share *share;
	enum vmb_status status;

	if (bus == NULL || bus->kind != KMCL_BUS_HOST || path == NULL || path[0] == '\0' ||
	    strlen(path) >= sizeof(share->path))
		return VMB_E_INVALID;
	share = calloc(1, sizeof(*share));
	if (share == NULL)
		return VMB_E_NO_MEMORY;
	strcpy(share->path, path);
	if (options != NULL)
		memcpy(&share->options, options,
		       min(sizeof(share->options), (size_t)options->size));
	if (share->options.max_offers == 0)
		share->options.max_offers = DEFAULT_OFFERS;
	if (share->options.answer_ms == 0)
		share->options.answer_ms = KMCL_PEER_ANSWER_MS;
	if (share->options.retry_ms == 0)
		share->options.retry_ms = DEFAULT_RETRY_MS;
	pthread_mutex_lock(&bus->lock);
	status = share_locked(bus, share);
	pthread_mutex_unlock(&bus->lock);
	if (status != VMB_OK)
		free(share);
	return status;
}

static void
end_locked(struct kmcl_bus *bus, struct kmcl_share *share)
{
	share->ended = true;
	for (LIST_ENTRY *e = bus->guests.Flink; e != &bus->guests;) {
		struct kmcl_guest *guest = CONTAINING_RECORD(e, struct kmcl_guest, link);

		e = e->Flink;
		guest->relays_dirty = true;
		kmcl_host_settle_locked(guest);
	}
	while (share->relays != 0 && !atomic_load(&bus->stop))
		pthread_cond_wait(&bus->changed, &bus->lock);
	/* Else it goes with the bus. */
	if (share->relays != 0)
		return;
	RemoveEntryList(&share->link);
	free(share);
}

enum vmb_status
kmcl_bus_unshare(struct kmcl_bus *bus, const char *path)
{
	struct kmcl_share *share;
	enum vmb_status status = VMB_OK;

	if (bus == NULL || bus->kind != KMCL_BUS_HOST || path == NULL)
		return VMB_E_INVALID;
	if (kmcl_thread.state_channel != NULL || kmcl_thread.rx_channel != NULL) {
		kmcl_misuse(NULL, "kmcl_bus_unshare: not allowed inside a callback of a channel");
		return VMB_E_STATE;
	}
	pthread_mutex_lock(&bus->lock);
	share = find_locked(bus, path);
	if (!can_change_locked(bus))
		status = VMB_E_STATE;
	else if (share == NULL)
		status = VMB_E_NOT_FOUND;
	else
		end_locked(bus, share);
	pthread_mutex_unlock(&bus->lock);
	return status;
}

/* What is now, of all guests. */
static void
count_locked(const struct kmcl_bus *bus, const struct kmcl_share *share,
             struct kmcl_share_stats *stats)
{
	*stats = share->stats;
	stats->connections = stats->offers = 0;
	for (LIST_ENTRY *g = bus->guests.Flink; g != &bus->guests; g = g->Flink) {
		const struct kmcl_guest *guest = CONTAINING_RECORD(g, struct kmcl_guest, link);

		for (LIST_ENTRY *r = guest->relays.Flink; r != &guest->relays; r = r->Flink) {
			const struct kmcl_relay *relay =
			    CONTAINING_RECORD(r, struct kmcl_relay, link);

			if (relay->share != share)
				continue;
			stats->connections +=
			    relay->port != NULL && relay->contact == KMCL_RELAY_READY;
			for (LIST_ENTRY *c = relay->channels.Flink; c != &relay->channels;
			     c = c->Flink)
				stats->offers +=
				    CONTAINING_RECORD(c, struct kmcl_relayed, link)->offer != NULL;
		}
	}
}

enum vmb_status
kmcl_bus_get_share_stats(struct kmcl_bus *bus, const char *path, struct kmcl_share_stats *stats)
{
	const struct kmcl_share *share;

	if (bus == NULL || bus->kind != KMCL_BUS_HOST || path == NULL || stats == NULL)
		return VMB_E_INVALID;
	pthread_mutex_lock(&bus->lock);
	share = find_locked(bus, path);
	if (share != NULL)
		count_locked(bus, share, stats);
	pthread_mutex_unlock(&bus->lock);
	return share != NULL ? VMB_OK : VMB_E_NOT_FOUND;
}

void
kmcl_relay_free_shares_locked(struct kmcl_bus *bus)
{
	while (!IsListEmpty(&bus->shares)) {
		LIST_ENTRY *e = RemoveHeadList(&bus->shares);

		free(CONTAINING_RECORD(e, struct kmcl_share, link));
	}
}
