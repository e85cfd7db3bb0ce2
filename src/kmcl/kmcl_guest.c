/* SPDX-License-Identifier: MIT */
/*
 * Guest buses: one connection to a host, the offers it makes, and the registry in which client
 * channels of this process find theirs.
 */
#include "kmcl/kmcl_bus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_gpadl.h"
#include "kmcl/kmcl_loop.h"
#include "kmcl/kmcl_role.h"

#define DEFAULT_CONNECT_MS 10000u
#define UNLOAD_MS 1000u

/* Guest buses in the order of their making, and clients in the order of their looking. */
static struct {
	pthread_mutex_t lock;
	LIST_ENTRY buses;       /* struct kmcl_bus */
	LIST_ENTRY looks;       /* struct kmcl_look */
	bool ready;
} registry = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void
registry_lock(void)
{
	pthread_mutex_lock(&registry.lock);
	if (!registry.ready) {
		InitializeListHead(&registry.buses);
		InitializeListHead(&registry.looks);
		registry.ready = true;
	}
}

/* ---- events of the machine; bus->lock held --------------------------------------------------------------- */

static void
client_post(void *ctx, uint32_t connection_id, const void *message, uint32_t bytes)
{
	struct kmcl_bus *bus = ctx;

	bus->stats.messages_out++;
	VMB_IGNORE(vmb_port_post(bus->port, connection_id, message, bytes));
}

static void
tell_watches_locked(struct kmcl_bus *bus)
{
	for (LIST_ENTRY *e = bus->watches.Flink; e != &bus->watches; e = e->Flink) {
		const struct kmcl_offer_watch *watch = CONTAINING_RECORD(e, struct kmcl_offer_watch, link);

		watch->changed(watch->ctx);
	}
}

static void
contact_failed_locked(struct kmcl_bus *bus, enum vmb_status status, const char *why)
{
	if (bus->contact == KMCL_CONTACT_FAILED)
		return;
	bus->contact = KMCL_CONTACT_FAILED;
	bus->failure = status;
	snprintf(bus->failure_text, sizeof(bus->failure_text), "%s", why);
	pthread_cond_broadcast(&bus->changed);
	tell_watches_locked(bus);
}

static void
client_connected(void *ctx, uint32_t version, uint32_t features)
{
	struct kmcl_bus *bus = ctx;

	(void)features;
	bus->stats.version = version;
	bus->contact = KMCL_CONTACT_AGREED;
	bus->request_offers = true;
}

static void
client_connect_failed(void *ctx, const char *why)
{
	contact_failed_locked(ctx, VMB_E_UNSUPPORTED, why);
}

static bool
add_found_locked(struct kmcl_bus *bus, const struct vmb_msg_offer *offer)
{
	struct kmcl_found_offer *found = calloc(1, sizeof(*found));
	LIST_ENTRY *at = bus->found.Flink;

	if (found == NULL)
		return false;
	found->offer = *offer;
	while (at != &bus->found &&
	       CONTAINING_RECORD(at, struct kmcl_found_offer, link)->offer.channel_id <
	               offer->channel_id)
		at = at->Flink;
	InsertTailList(at, &found->link); /* before `at` */
	return true;
}

static void
client_offered(void *ctx, const struct vmb_msg_offer *offer)
{
	struct kmcl_bus *bus = ctx;

	bus->offers_changed = true;
	tell_watches_locked(bus);
	if (add_found_locked(bus, offer))
		return;
	bus->offers_missed = true;
	kmcl_log(KMCL_LOG_WARNING, "bus %s: no memory for an offer; it is looked for again later",
	         bus->path);
}

static void
client_all_offers(void *ctx)
{
	struct kmcl_bus *bus = ctx;

	if (bus->contact == KMCL_CONTACT_AGREED)
		bus->contact = KMCL_CONTACT_READY;
	pthread_cond_broadcast(&bus->changed);
}

struct kmcl_found_offer *
kmcl_guest_find_locked(struct kmcl_bus *bus, uint32_t channel_id)
{
	for (LIST_ENTRY *e = bus->found.Flink; e != &bus->found; e = e->Flink) {
		struct kmcl_found_offer *found = CONTAINING_RECORD(e, struct kmcl_found_offer, link);

		if (found->offer.channel_id == channel_id)
			return found;
	}
	return NULL;
}

static void
client_rescinded_event(void *ctx, uint32_t channel_id)
{
	struct kmcl_bus *bus = ctx;
	struct kmcl_found_offer *found = kmcl_guest_find_locked(bus, channel_id);

	if (found == NULL) {
		/* It was missed: nothing but its id is left to release. */
		bus->offers_missed = bus->offers_changed = true;
		return;
	}
	found->rescinded = true;
	if (found->user != NULL)
		kmcl_client_rescinded(found->user);
	else
		bus->offers_changed = true;
	pthread_cond_broadcast(&bus->changed);
	tell_watches_locked(bus);
}

static struct kmcl_channel *
user_of(struct kmcl_bus *bus, uint32_t channel_id)
{
	struct kmcl_found_offer *found = kmcl_guest_find_locked(bus, channel_id);

	return found != NULL ? found->user : NULL;
}

bool
kmcl_guest_gpadl_is_read_only(struct kmcl_bus *bus, uint32_t gpadl_id)
{
	bool read_only = false;

	pthread_mutex_lock(&bus->lock);
	for (LIST_ENTRY *e = bus->found.Flink; e != &bus->found && !read_only; e = e->Flink) {
		struct kmcl_found_offer *found = CONTAINING_RECORD(e, struct kmcl_found_offer, link);

		read_only = found->user != NULL &&
		            kmcl_gpadl_is_read_only_locked(found->user, gpadl_id);
	}
	pthread_mutex_unlock(&bus->lock);
	return read_only;
}

static void
client_gpadl_created_event(void *ctx, uint32_t channel_id, uint32_t gpadl_id, uint32_t status)
{
	struct kmcl_bus *bus = ctx;
	struct kmcl_channel *ch = user_of(bus, channel_id);

	if (ch != NULL)
		kmcl_client_gpadl_created(ch, gpadl_id, status);
	pthread_cond_broadcast(&bus->changed);
}

static void
client_gpadl_torndown_event(void *ctx, uint32_t channel_id, uint32_t gpadl_id)
{
	struct kmcl_bus *bus = ctx;
	struct kmcl_channel *ch = user_of(bus, channel_id);

	if (ch != NULL)
		kmcl_client_gpadl_torndown(ch, gpadl_id);
	pthread_cond_broadcast(&bus->changed);
}

static void
client_open_result_event(void *ctx, uint32_t channel_id, uint32_t status)
{
	struct kmcl_bus *bus = ctx;
	struct kmcl_channel *ch = user_of(bus, channel_id);

	if (ch != NULL)
		kmcl_client_open_result(ch, status);
	pthread_cond_broadcast(&bus->changed);
}

static void
client_unloaded(void *ctx)
{
	struct kmcl_bus *bus = ctx;

	bus->unloaded = true;
	pthread_cond_broadcast(&bus->changed);
}

static void
client_misbehaved(void *ctx, const char *what)
{
	struct kmcl_bus *bus = ctx;
	char reason[KMCL_FAILURE_BYTES];
	unsigned suppressed;

	bus->stats.misbehaviours++;
	if (kmcl_log_allowed(&bus->log_limit, 5, &suppressed))
		kmcl_log(KMCL_LOG_WARNING, "bus %s: the host broke a rule: %s (%u more not shown)",
		         bus->path, what, suppressed);
	if (++bus->misbehaviours == KMCL_MISBEHAVIOUR_LIMIT) {
		snprintf(reason, sizeof(reason), "%u messages broke a rule, the last one: %s",
		         bus->misbehaviours, what);
		vmb_port_cut(bus->port, VMB_E_MALFORMED, reason);
	}
}

static const struct vmb_bus_client_ops client_ops = {
	.post = client_post,
	.connected = client_connected,
	.connect_failed = client_connect_failed,
	.offered = client_offered,
	.all_offers_delivered = client_all_offers,
	.rescinded = client_rescinded_event,
	.gpadl_created = client_gpadl_created_event,
	.gpadl_torndown = client_gpadl_torndown_event,
	.open_result = client_open_result_event,
	.unloaded = client_unloaded,
	.misbehaved = client_misbehaved,
};

/*
 * ---- what events asked for
 * -----------------------------------------------------------------------------------
 */

/* Offers that were withdrawn before anybody used them. */
static void
release_unused_locked(struct kmcl_bus *bus)
{
	for (LIST_ENTRY *e = bus->found.Flink; e != &bus->found;) {
		struct kmcl_found_offer *found = CONTAINING_RECORD(e, struct kmcl_found_offer, link);

		e = e->Flink;
		if (!found->rescinded || found->user != NULL)
			continue;
		VMB_IGNORE(vmb_bus_client_release(bus->client, found->offer.channel_id));
		RemoveEntryList(&found->link);
		free(found);
	}
}

/* Offers that there was no memory for when they came: known to the machine only. */
static void
catch_up_locked(struct kmcl_bus *bus)
{
	bool missed = false;

	if (!bus->offers_missed)
		return;
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		const struct vmb_msg_offer *offer;

		if (kmcl_guest_find_locked(bus, id) != NULL)
			continue;
		offer = vmb_bus_client_find(bus->client, id);
		if (offer == NULL)
			VMB_IGNORE(vmb_bus_client_release(bus->client, id));
		else if (!add_found_locked(bus, offer))
			missed = true;
	}
	bus->offers_missed = missed;
}

static bool
offer_fits(const struct kmcl_found_offer *found, const struct kmcl_look *look)
{
	GUID type = kmcl_guid(&found->offer.interface_type);
	GUID instance = kmcl_guid(&found->offer.interface_instance);

	return !found->rescinded && found->user == NULL &&
	       (found->offer.subchannel_index != 0) == look->subchannel &&
	       memcmp(&type, &look->type, sizeof(type)) == 0 &&
	       (look->any_instance || memcmp(&instance, &look->instance, sizeof(instance)) == 0);
}

/* registry.lock held. Lowest unused offer first (CTP-1). */
static bool
match_on_bus(struct kmcl_bus *bus, struct kmcl_look *look)
{
	bool matched = false;

	if (look->only_bus != NULL && look->only_bus != bus)
		return false;
	pthread_mutex_lock(&bus->lock);
	catch_up_locked(bus);
	for (LIST_ENTRY *e = bus->found.Flink; e != &bus->found && !matched; e = e->Flink) {
		struct kmcl_found_offer *found = CONTAINING_RECORD(e, struct kmcl_found_offer, link);

		if (!offer_fits(found, look))
			continue;
		RemoveEntryList(&look->link);
		look->listed = false;
		found->user = look->channel;
		kmcl_mmio_grant_locked(bus, found);
		kmcl_client_matched(look->channel, bus, found);
		matched = true;
	}
	pthread_mutex_unlock(&bus->lock);
	return matched;
}

static void
match_all(void)
{
	registry_lock();
	for (LIST_ENTRY *l = registry.looks.Flink; l != &registry.looks;) {
		struct kmcl_look *look = CONTAINING_RECORD(l, struct kmcl_look, link);

		l = l->Flink;
		for (LIST_ENTRY *b = registry.buses.Flink; b != &registry.buses; b = b->Flink) {
			if (match_on_bus(CONTAINING_RECORD(b, struct kmcl_bus, registry_link), look))
				break;
		}
	}
	pthread_mutex_unlock(&registry.lock);
}

void
kmcl_guest_settle(struct kmcl_bus *bus)
{
	bool request, changed;

	pthread_mutex_lock(&bus->lock);
	request = bus->request_offers;
	changed = bus->offers_changed;
	bus->request_offers = bus->offers_changed = false;
	if (request)
		VMB_IGNORE(vmb_bus_client_request_offers(bus->client));
	if (changed) {
		catch_up_locked(bus);
		release_unused_locked(bus);
	}
	pthread_mutex_unlock(&bus->lock);
	if (changed)
		match_all();
}

/*
 * ---- looking
 * ---------------------------------------------------------------------------------------------------
 */

static bool
usable_locked(const struct kmcl_bus *bus)
{
	return !bus->closed && bus->contact != KMCL_CONTACT_FAILED;
}

/* registry.lock held. */
static bool
some_bus_is_usable(const struct kmcl_look *look)
{
	bool usable = false;

	for (LIST_ENTRY *b = registry.buses.Flink; b != &registry.buses && !usable; b = b->Flink) {
		struct kmcl_bus *bus = CONTAINING_RECORD(b, struct kmcl_bus, registry_link);

		if (look->only_bus != NULL && look->only_bus != bus)
			continue;
		pthread_mutex_lock(&bus->lock);
		usable = usable_locked(bus);
		pthread_mutex_unlock(&bus->lock);
	}
	return usable;
}

NTSTATUS
kmcl_guest_look(struct kmcl_channel *ch)
{
	struct kmcl_look *look = kmcl_client_look(ch);

	registry_lock();
	if (!some_bus_is_usable(look)) {
		pthread_mutex_unlock(&registry.lock);
		return STATUS_NO_SUCH_DEVICE;
	}
	if (!look->listed) {
		InsertTailList(&registry.looks, &look->link);
		look->listed = true;
	}
	pthread_mutex_unlock(&registry.lock);
	match_all();
	return STATUS_SUCCESS;
}

void
kmcl_guest_stop_looking(struct kmcl_channel *ch)
{
	struct kmcl_look *look = kmcl_client_look(ch);

	registry_lock();
	if (look->listed)
		RemoveEntryList(&look->link);
	look->listed = false;
	pthread_mutex_unlock(&registry.lock);
}

void
kmcl_guest_let_go_locked(struct kmcl_bus *bus, struct kmcl_found_offer *found)
{
	found->user = NULL;
	found->mmio = (struct kmcl_mmio){ 0 };
	/* Somebody else may want it, or its id must be released. */
	bus->offers_changed = true;
}

/*
 * ---- the connection
 * ----------------------------------------------------------------------------------------------
 */

static void
port_message(void *ctx, uint32_t connection_id, const void *message, uint32_t bytes)
{
	struct kmcl_bus *bus = ctx;

	(void)connection_id;
	pthread_mutex_lock(&bus->lock);
	bus->stats.messages_in++;
	vmb_bus_client_message(bus->client, message, bytes);
	pthread_mutex_unlock(&bus->lock);
	kmcl_guest_settle(bus);
}

static void
port_closed(void *ctx, enum vmb_status why, const char *reason)
{
	struct kmcl_bus *bus = ctx;

	/* A refusal is told with the failure to connect. */
	kmcl_log(why == VMB_E_CLOSED || why == VMB_E_ACCESS ? KMCL_LOG_INFO : KMCL_LOG_WARNING,
	         "bus %s: the connection to the host ended: %s", bus->path, reason);
	pthread_mutex_lock(&bus->lock);
	kmcl_bus_unwatch(bus, &bus->port_source);
	contact_failed_locked(bus, why == VMB_E_ACCESS ? why : VMB_E_CLOSED, reason);
	vmb_bus_client_lost(bus->client);
	pthread_cond_broadcast(&bus->changed);
	pthread_mutex_unlock(&bus->lock);
	kmcl_guest_settle(bus);
}

static void
port_ready(struct kmcl_bus *bus, void *ctx)
{
	(void)ctx;
	vmb_port_poll(bus->port);
}

enum vmb_status
kmcl_guest_attach_port(struct kmcl_bus *bus, struct vmb_port *port)
{
	struct vmb_bus_client_config config = {
		.newest_version = bus->options.newest_version,
		.features = VMB_FEATURE_PAUSE_RESUME,
	};
	uint64_t until = kmcl_now_ns() + 1000000ull * (bus->options.connect_timeout_ms != 0
	                                                       ? bus->options.connect_timeout_ms
	                                                       : DEFAULT_CONNECT_MS);
	enum vmb_status status;

	bus->port = port;
	bus->port_source = (struct kmcl_bus_source){ port_ready, NULL, vmb_port_poll_fd(port) };
	vmb_port_set_handler(port, &(struct vmb_port_handler){ port_message, port_closed, bus });
	status = kmcl_monitor_create(bus, &config);
	if (status == VMB_OK)
		status = vmb_bus_client_create(&config, &client_ops, bus, &bus->client);
	if (status == VMB_OK)
		status = kmcl_bus_watch(bus, &bus->port_source);
	if (status == VMB_OK)
		status = kmcl_bus_start_thread(bus, "kmcl-guest-bus");
	if (status != VMB_OK)
		return status;
	registry_lock();
	InsertTailList(&registry.buses, &bus->registry_link);
	bus->registered = true;
	pthread_mutex_unlock(&registry.lock);

	pthread_mutex_lock(&bus->lock);
	/* A host may have refused already, before a word of ours. */
	if (bus->contact != KMCL_CONTACT_FAILED)
		status = vmb_bus_client_connect(bus->client);
	while (status == VMB_OK && bus->contact < KMCL_CONTACT_READY) {
		if (!kmcl_bus_wait_locked(bus, until) && bus->contact < KMCL_CONTACT_READY)
			contact_failed_locked(bus, VMB_E_TIMEOUT, "the host does not answer");
	}
	if (status == VMB_OK && bus->contact == KMCL_CONTACT_FAILED) {
		kmcl_log(KMCL_LOG_WARNING, "bus %s: cannot connect: %s", bus->path,
		         bus->failure_text);
		status = bus->failure;
	}
	pthread_mutex_unlock(&bus->lock);
	return status;
}

enum vmb_status
kmcl_bus_connect(const char *path, const struct kmcl_bus_options *options, struct kmcl_bus **out)
{
	char reason[VMB_PORT_WHY_BYTES];
	struct vmb_port *port;
	struct kmcl_bus *bus;
	enum vmb_status status;

	*out = NULL;
	if (path == NULL)
		return VMB_E_INVALID;
	status = kmcl_bus_new(KMCL_BUS_GUEST, path, options, &bus);
	if (status != VMB_OK)
		return status;
	status = vmb_guest_connect_to(path, &bus->options.access, &port, reason);
	if (status != VMB_OK) {
		if (reason[0] != '\0')
			kmcl_log(KMCL_LOG_WARNING, "bus %s: %s", path, reason);
		kmcl_bus_unref(bus);
		return status;
	}
	status = kmcl_guest_attach_port(bus, port);
	if (status != VMB_OK) {
		kmcl_bus_close(bus);
		return status;
	}
	*out = bus;
	return VMB_OK;
}

static bool
somebody_uses_locked(const struct kmcl_bus *bus)
{
	for (LIST_ENTRY *e = bus->found.Flink; e != &bus->found; e = e->Flink) {
		if (CONTAINING_RECORD(e, struct kmcl_found_offer, link)->user != NULL)
			return true;
	}
	return false;
}

/* In the order of a guest that shuts down: rescind everything locally, unload, hang up. */
void
kmcl_guest_close(struct kmcl_bus *bus)
{
	uint64_t until = kmcl_now_ns() + 1000000ull * UNLOAD_MS;

	registry_lock();
	if (bus->registered)
		RemoveEntryList(&bus->registry_link);
	bus->registered = false;
	pthread_mutex_unlock(&registry.lock);

	pthread_mutex_lock(&bus->lock);
	bus->closed = true;
	if (bus->contact == KMCL_CONTACT_READY && bus->client != NULL &&
	    vmb_bus_client_unload(bus->client) == VMB_OK) {
		while (!bus->unloaded && bus->contact != KMCL_CONTACT_FAILED &&
		       kmcl_bus_wait_locked(bus, until))
			continue;
	}
	pthread_mutex_unlock(&bus->lock);
	if (bus->port != NULL)
		vmb_port_cut(bus->port, VMB_E_CLOSED, "the guest closed its bus");
	/* Channels that were open close as if the host had gone; that is bounded by their drivers only. */
	pthread_mutex_lock(&bus->lock);
	while (bus->contact != KMCL_CONTACT_FAILED && bus->thread_runs)
		pthread_cond_wait(&bus->changed, &bus->lock);
	while (somebody_uses_locked(bus))
		pthread_cond_wait(&bus->changed, &bus->lock);
	pthread_mutex_unlock(&bus->lock);
}

void
kmcl_guest_destroy(struct kmcl_bus *bus)
{
	if (bus->port != NULL)
		vmb_port_destroy(bus->port);
	vmb_bus_client_destroy(bus->client);
	kmcl_monitor_destroy(bus);
	while (!IsListEmpty(&bus->found)) {
		LIST_ENTRY *e = RemoveHeadList(&bus->found);

		free(CONTAINING_RECORD(e, struct kmcl_found_offer, link));
	}
}

/*
 * ---- watching
 * ------------------------------------------------------------------------------------------------------
 */

void
kmcl_guest_watch(struct kmcl_bus *bus, struct kmcl_offer_watch *watch)
{
	pthread_mutex_lock(&bus->lock);
	InsertTailList(&bus->watches, &watch->link);
	pthread_mutex_unlock(&bus->lock);
}

void
kmcl_guest_unwatch(struct kmcl_bus *bus, struct kmcl_offer_watch *watch)
{
	pthread_mutex_lock(&bus->lock);
	RemoveEntryList(&watch->link);
	pthread_mutex_unlock(&bus->lock);
}

/*
 * ---- for people who look
 * ------------------------------------------------------------------------------------------
 */

uint32_t
kmcl_bus_offers(struct kmcl_bus *bus, struct kmcl_offer_info *offers, uint32_t capacity)
{
	uint32_t count = 0;

	pthread_mutex_lock(&bus->lock);
	for (LIST_ENTRY *e = bus->found.Flink; e != &bus->found; e = e->Flink) {
		const struct kmcl_found_offer *found =
		        CONTAINING_RECORD(e, struct kmcl_found_offer, link);
		struct kmcl_offer_info *info;

		if (found->rescinded)
			continue;
		if (count++ >= capacity)
			continue;
		info = &offers[count - 1];
		*info = (struct kmcl_offer_info){
			.type = kmcl_guid(&found->offer.interface_type),
			.instance = kmcl_guid(&found->offer.interface_instance),
			.channel_id = found->offer.channel_id,
			.flags = found->offer.flags,
			.subchannel_index = found->offer.subchannel_index,
			.mmio_megabytes = found->offer.mmio_megabytes,
			.in_use = found->user != NULL,
		};
		info->type_name = kmcl_device_type_name(&info->type);
	}
	pthread_mutex_unlock(&bus->lock);
	return count;
}
