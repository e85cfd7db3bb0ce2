/* SPDX-License-Identifier: MIT */
/*
 * Relays: for one guest of a host bus, a connection to a host in another process, on which we are that guest.
 * The control thread makes it when the guest has made contact, and again, later and later, when it is gone;
 * that host's answers are waited for as long as the share says.
 */
#include "kmcl/kmcl_relay.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "kmcl/kmcl_loop.h"

#define FIRST_RETRY_MS 50u
#define MESSAGES_PER_SECOND 20000u
#define NS_PER_MS 1000000ull

void
kmcl_relay_log(struct kmcl_relay *relay, enum kmcl_log_level level, const char *format, ...)
{
	char text[KMCL_FAILURE_BYTES], more[40] = "";
	unsigned suppressed;
	va_list args;

	if (!kmcl_log_allowed(&relay->log_limit, 5, &suppressed))
		return;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (suppressed != 0)
		snprintf(more, sizeof(more), " (%u more not shown)", suppressed);
	kmcl_log(level, "bus %s: host at %s for guest (%s): %s%s", relay->guest->bus->path,
	         relay->share != NULL ? relay->share->path : "(ended)", relay->guest->who, text,
	         more);
}

void
kmcl_relay_arm(struct kmcl_relay *relay, uint32_t ms)
{
	/* Zero would disarm it. */
	const struct itimerspec when = {
		.it_value.tv_sec = ms / 1000u,
		.it_value.tv_nsec = ms != 0 ? (long)(ms % 1000u * NS_PER_MS) : 1,
	};

	if (relay->timer_fd >= 0)
		(void)!timerfd_settime(relay->timer_fd, 0, &when, NULL);
	relay->armed = relay->timer_fd >= 0;
}

/* ---- events of our machine there; bus->lock held --------------------------------------------------------- */

static void
note(struct kmcl_relay *relay)
{
	relay->guest->relays_dirty = true;
}

static void
there_post(void *ctx, uint32_t connection_id, const void *message, uint32_t bytes)
{
	struct kmcl_relay *relay = ctx;

	VMB_IGNORE(vmb_port_post(relay->port, connection_id, message, bytes));
}

static void
there_connected(void *ctx, uint32_t version, uint32_t features)
{
	struct kmcl_relay *relay = ctx;

	(void)version;
	(void)features;
	relay->contact = KMCL_RELAY_AGREED;
	note(relay);
}

static void
there_connect_failed(void *ctx, const char *why)
{
	struct kmcl_relay *relay = ctx;

	vmb_port_cut(relay->port, VMB_E_UNSUPPORTED, why);
}

static void
there_offered(void *ctx, const struct vmb_msg_offer *offer)
{
	struct kmcl_relay *relay = ctx;

	if (kmcl_relayed_new(relay, offer) == NULL)
		kmcl_relay_log(relay, KMCL_LOG_WARNING, "no memory for an offer");
	note(relay);
}

static void
there_all_offers(void *ctx)
{
	struct kmcl_relay *relay = ctx;

	if (relay->contact == KMCL_RELAY_REQUESTED)
		relay->contact = KMCL_RELAY_READY;
	note(relay);
}

static void
there_rescinded(void *ctx, uint32_t channel_id)
{
	struct kmcl_relay *relay = ctx;
	struct kmcl_relayed *ch = kmcl_relayed_find(relay, channel_id);

	note(relay);
	if (ch == NULL) {
		relay->stray = true;
		return;
	}
	/* The doorbell is that port's as long as there is one. */
	kmcl_relayed_drop_doorbell_there(ch);
	kmcl_relayed_gone(ch);
	ch->must_release = true;
}

static void
there_gpadl_created(void *ctx, uint32_t channel_id, uint32_t gpadl_id, uint32_t status)
{
	struct kmcl_relayed *ch = kmcl_relayed_find(ctx, channel_id);
	struct kmcl_relayed_gpadl *gpadl =
	    ch != NULL ? kmcl_relayed_gpadl_find(ch, gpadl_id) : NULL;

	if (gpadl == NULL || gpadl->there != KMCL_THERE_ASKED)
		return;
	gpadl->there = status == 0 ? KMCL_THERE : KMCL_THERE_REFUSED;
	note(ctx);
}

static void
there_gpadl_torndown(void *ctx, uint32_t channel_id, uint32_t gpadl_id)
{
	struct kmcl_relayed *ch = kmcl_relayed_find(ctx, channel_id);
	struct kmcl_relayed_gpadl *gpadl =
	    ch != NULL ? kmcl_relayed_gpadl_find(ch, gpadl_id) : NULL;

	if (gpadl == NULL || gpadl->there != KMCL_THERE_LEAVING)
		return;
	gpadl->there = KMCL_THERE_UNKNOWN;
	note(ctx);
}

static void
there_open_result(void *ctx, uint32_t channel_id, uint32_t status)
{
	struct kmcl_relayed *ch = kmcl_relayed_find(ctx, channel_id);

	if (ch == NULL || ch->there != KMCL_THERE_ASKED)
		return;
	ch->there = status == 0 ? KMCL_THERE : KMCL_THERE_REFUSED;
	ch->refusal = status;
	note(ctx);
}

static void
there_unloaded(void *ctx)
{
	(void)ctx; /* never asked for: the end of the connection says as much */
}

static void
there_misbehaved(void *ctx, const char *what)
{
	struct kmcl_relay *relay = ctx;
	char reason[KMCL_FAILURE_BYTES];

	relay->share->stats.misbehaviours++;
	kmcl_relay_log(relay, KMCL_LOG_WARNING, "it broke a rule: %s", what);
	if (++relay->misbehaviours == KMCL_MISBEHAVIOUR_LIMIT) {
		snprintf(reason, sizeof(reason), "%u messages broke a rule, the last one: %s",
		         relay->misbehaviours, what);
		vmb_port_cut(relay->port, VMB_E_MALFORMED, reason);
	}
}

static const struct vmb_bus_client_ops there_ops = {
	.post = there_post,
	.connected = there_connected,
	.connect_failed = there_connect_failed,
	.offered = there_offered,
	.all_offers_delivered = there_all_offers,
	.rescinded = there_rescinded,
	.gpadl_created = there_gpadl_created,
	.gpadl_torndown = there_gpadl_torndown,
	.open_result = there_open_result,
	.unloaded = there_unloaded,
	.misbehaved = there_misbehaved,
};

/* ---- the connection; control thread ------------------------------------------------------------------------ */

static void
port_message(void *ctx, uint32_t connection_id, const void *message, uint32_t bytes)
{
	struct kmcl_relay *relay = ctx;
	struct kmcl_bus *bus = relay->guest->bus;

	(void)connection_id;
	pthread_mutex_lock(&bus->lock);
	vmb_bus_client_message(relay->client, message, bytes);
	/* A guest goes when it is lost; then it has no connections any more. */
	kmcl_host_settle_locked(relay->guest);
	pthread_mutex_unlock(&bus->lock);
}

static void
port_closed(void *ctx, enum vmb_status why, const char *reason)
{
	struct kmcl_relay *relay = ctx;
	struct kmcl_bus *bus = relay->guest->bus;

	pthread_mutex_lock(&bus->lock);
	relay->hung_up = true;
	kmcl_relay_log(relay, why == VMB_E_CLOSED ? KMCL_LOG_INFO : KMCL_LOG_WARNING,
	               "the connection ended: %s", reason);
	pthread_mutex_unlock(&bus->lock);
}

static void
drop_connection_locked(struct kmcl_relay *relay)
{
	if (relay->port == NULL)
		return;
	/* No port below what these still post. */
	vmb_port_cut(relay->port, VMB_E_CLOSED, "the relay ends the connection");
	for (LIST_ENTRY *e = relay->channels.Flink; e != &relay->channels; e = e->Flink) {
		struct kmcl_relayed *ch = CONTAINING_RECORD(e, struct kmcl_relayed, link);

		if (!ch->is_gone)
			kmcl_relayed_drop_doorbell_there(ch);
		kmcl_relayed_gone(ch);
		ch->must_release = false;
	}
	kmcl_bus_unwatch(relay->guest->bus, &relay->port_source);
	vmb_bus_client_destroy(relay->client);
	relay->client = NULL;
	vmb_port_destroy(relay->port);
	relay->port = NULL;
	relay->hung_up = relay->drop = relay->stray = false;
	relay->share->stats.connections_lost++;
	/* One that did not last is not worth another at once. */
	if (kmcl_now_ns() - relay->since_ns > NS_PER_MS * relay->share->options.retry_ms)
		relay->backoff_ms = FIRST_RETRY_MS;
	relay->due_ns = kmcl_now_ns() + NS_PER_MS * relay->backoff_ms;
	note(relay);
}

static void relay_ready(struct kmcl_bus *bus, void *ctx);

static enum vmb_status
connect_locked(struct kmcl_relay *relay)
{
	static const struct vmb_bus_client_config config = { .features = VMB_FEATURE_PAUSE_RESUME };
	/* It answers, and offers now and then; our control thread has others to serve. */
	static const struct vmb_unix_limits limits = { .messages_per_second = MESSAGES_PER_SECOND };
	char reason[VMB_PORT_WHY_BYTES];
	enum vmb_status status;

	status = vmb_unix_connect_memory(relay->share->path, vmb_port_memory(relay->guest->port),
	                                 &limits, &relay->share->options.servers, &relay->port, reason);
	if (status == VMB_E_ACCESS && reason[0] != '\0' && status != relay->said)
		kmcl_relay_log(relay, KMCL_LOG_WARNING, "%s", reason);
	if (status != VMB_OK)
		return status;
	vmb_port_set_handler(relay->port,
	                     &(struct vmb_port_handler){ port_message, port_closed, relay });
	relay->port_source =
	    (struct kmcl_bus_source){ relay_ready, relay, vmb_port_poll_fd(relay->port) };
	relay->since_ns = kmcl_now_ns();
	relay->contact = KMCL_RELAY_CONTACTING;
	relay->misbehaviours = 0;
	status = vmb_bus_client_create(&config, &there_ops, relay, &relay->client);
	if (status == VMB_OK)
		status = kmcl_bus_watch(relay->guest->bus, &relay->port_source);
	if (status == VMB_OK)
		status = vmb_bus_client_connect(relay->client);
	if (status != VMB_OK)
		drop_connection_locked(relay);
	return status;
}

static const char *
explain(enum vmb_status status)
{
	switch (status) {
	case VMB_E_NOT_FOUND:
		return "nobody listens there; it is looked for again";
	case VMB_E_TIMEOUT:
		return "it does not accept connections; it is asked again";
	case VMB_E_ACCESS:
		return "this process may not connect to that socket; it is tried again";
	case VMB_E_UNSUPPORTED:
		return "the guest's memory cannot be shared: it must be one memfd, sealed against "
		       "shrinking, "
		       "in which each page lies at its guest-physical address";
	default:
		return vmb_status_name(status);
	}
}

static void
try_locked(struct kmcl_relay *relay)
{
	enum vmb_status status = connect_locked(relay);

	/* Once for each new reason. */
	if (status != VMB_OK && status != relay->said)
		kmcl_relay_log(relay, status == VMB_E_NOT_FOUND ? KMCL_LOG_INFO : KMCL_LOG_WARNING,
		               "%s", explain(status));
	relay->said = status;
	relay->due_ns = kmcl_now_ns() + NS_PER_MS * relay->backoff_ms;
	/* Also after a success: how long it lasts decides (drop_connection_locked). */
	relay->backoff_ms = min(relay->backoff_ms * 2, relay->share->options.retry_ms);
}

/* When the oldest answer was asked for that is owed. */
static uint64_t
waits_since_locked(const struct kmcl_relay *relay)
{
	uint64_t since = relay->contact != KMCL_RELAY_READY ? relay->since_ns : UINT64_MAX;

	for (const LIST_ENTRY *e = relay->channels.Flink; e != &relay->channels; e = e->Flink) {
		uint64_t other =
		    kmcl_relayed_waits_since(CONTAINING_RECORD(e, struct kmcl_relayed, link));

		since = min(since, other);
	}
	return since;
}

/* The connection is there: has it still a right to be? */
static void
check_answers_locked(struct kmcl_relay *relay)
{
	uint64_t since = waits_since_locked(relay);
	uint32_t answer_ms = relay->share->options.answer_ms;

	if (since == UINT64_MAX)
		return;
	if (kmcl_now_ns() - since > NS_PER_MS * answer_ms) {
		kmcl_relay_log(relay, KMCL_LOG_WARNING,
		               "it owes an answer for more than %u ms and is left", answer_ms);
		drop_connection_locked(relay);
		return;
	}
	kmcl_relay_arm(relay, answer_ms / 4 + 1);
}

static bool
guest_is_ready_locked(const struct kmcl_guest *guest)
{
	return vmb_bus_server_version(guest->server) != 0 && vmb_port_memory(guest->port) != NULL;
}

static void
look_for_host_locked(struct kmcl_relay *relay)
{
	uint64_t now = kmcl_now_ns();

	if (kmcl_relay_is_ending(relay) || !guest_is_ready_locked(relay->guest))
		return;
	if (now >= relay->due_ns)
		try_locked(relay);
	if (relay->port != NULL)
		kmcl_relay_arm(relay, relay->share->options.answer_ms);
	else
		kmcl_relay_arm(
		    relay, (uint32_t)((relay->due_ns - min(now, relay->due_ns)) / NS_PER_MS) + 1);
}

/* Nothing of the guest is known there by this connection. */
static bool
has_left_locked(const struct kmcl_relay *relay)
{
	for (const LIST_ENTRY *e = relay->channels.Flink; e != &relay->channels; e = e->Flink) {
		const struct kmcl_relayed *ch = CONTAINING_RECORD(e, struct kmcl_relayed, link);

		if (ch->state != KMCL_RELAYED_CLOSED || !IsListEmpty(&ch->gpadls))
			return false;
	}
	return true;
}

static void
leave_share_locked(struct kmcl_relay *relay)
{
	if (relay->share == NULL)
		return;
	relay->share->relays--;
	relay->share = NULL;
	pthread_cond_broadcast(&relay->guest->bus->changed);
}

static void
relay_free_locked(struct kmcl_relay *relay)
{
	while (!IsListEmpty(&relay->channels))
		kmcl_relayed_free(
		    CONTAINING_RECORD(relay->channels.Flink, struct kmcl_relayed, link));
	leave_share_locked(relay);
	kmcl_hop_stop(relay->hop);
	if (relay->timer_fd >= 0) {
		kmcl_bus_unwatch(relay->guest->bus, &relay->timer_source);
		close(relay->timer_fd);
	}
	RemoveEntryList(&relay->link);
	free(relay);
}

/* Between two events, outside of the port. The relay may be gone on return. */
static void
look_after(struct kmcl_relay *relay)
{
	struct kmcl_guest *guest = relay->guest;
	struct kmcl_bus *bus = guest->bus;

	pthread_mutex_lock(&bus->lock);
	relay->armed = false;
	if (relay->hung_up || relay->drop)
		drop_connection_locked(relay);
	if (relay->port != NULL)
		check_answers_locked(relay);
	if (relay->port == NULL)
		look_for_host_locked(relay);
	kmcl_host_settle_locked(guest);
	if (kmcl_relay_is_ending(relay) && relay->port == NULL) {
		leave_share_locked(relay);
		if (IsListEmpty(&relay->channels))
			relay_free_locked(relay);
	}
	pthread_mutex_unlock(&bus->lock);
}

static void
relay_ready(struct kmcl_bus *bus, void *ctx)
{
	struct kmcl_relay *relay = ctx;

	(void)bus;
	vmb_port_poll(relay->port);
	look_after(relay);
}

static void
relay_tick(struct kmcl_bus *bus, void *ctx)
{
	struct kmcl_relay *relay = ctx;
	uint64_t ignored;

	(void)bus;
	(void)!read(relay->timer_fd, &ignored, sizeof(ignored));
	/* Answers that wait count as given, however long nobody looked. */
	if (relay->port != NULL)
		vmb_port_poll(relay->port);
	look_after(relay);
}

/* ---- for the host bus ------------------------------------------------------------------------------------------ */

enum vmb_status
kmcl_relay_create_locked(struct kmcl_guest *guest, struct kmcl_share *share)
{
	struct kmcl_relay *relay = calloc(1, sizeof(*relay));

	if (relay == NULL)
		return VMB_E_NO_MEMORY;
	relay->guest = guest;
	relay->backoff_ms = FIRST_RETRY_MS;
	InitializeListHead(&relay->channels);
	relay->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	relay->timer_source = (struct kmcl_bus_source){ relay_tick, relay, relay->timer_fd };
	if (relay->timer_fd < 0 || kmcl_bus_watch(guest->bus, &relay->timer_source) != VMB_OK) {
		if (relay->timer_fd >= 0)
			close(relay->timer_fd);
		free(relay);
		return VMB_E_IO;
	}
	relay->share = share;
	share->relays++;
	InsertTailList(&guest->relays, &relay->link);
	guest->relays_dirty = true;
	return VMB_OK;
}

void
kmcl_relay_new_guest_locked(struct kmcl_guest *guest)
{
	struct kmcl_bus *bus = guest->bus;

	for (LIST_ENTRY *e = bus->shares.Flink; e != &bus->shares; e = e->Flink) {
		struct kmcl_share *share = CONTAINING_RECORD(e, struct kmcl_share, link);
		enum vmb_status status =
		    share->ended ? VMB_OK : kmcl_relay_create_locked(guest, share);

		if (status != VMB_OK)
			kmcl_log(KMCL_LOG_WARNING,
			         "bus %s: guest (%s) gets no offers of the host at %s: %s",
			         bus->path, guest->who, share->path, vmb_status_name(status));
	}
}

void
kmcl_relay_drop_guest_locked(struct kmcl_guest *guest)
{
	for (LIST_ENTRY *e = guest->relays.Flink; e != &guest->relays; e = e->Flink) {
		struct kmcl_relay *relay = CONTAINING_RECORD(e, struct kmcl_relay, link);

		drop_connection_locked(relay);
		leave_share_locked(relay);
		if (relay->timer_fd < 0)
			continue;
		kmcl_bus_unwatch(guest->bus, &relay->timer_source);
		close(relay->timer_fd);
		relay->timer_fd = -1;
	}
	guest->relays_dirty = true;
}

void
kmcl_relay_free_guest_locked(struct kmcl_guest *guest)
{
	while (!IsListEmpty(&guest->relays)) {
		struct kmcl_relay *relay =
		    CONTAINING_RECORD(guest->relays.Flink, struct kmcl_relay, link);

		drop_connection_locked(relay);
		for (LIST_ENTRY *e = relay->channels.Flink; e != &relay->channels; e = e->Flink)
			CONTAINING_RECORD(e, struct kmcl_relayed, link)->offer = NULL;
		relay_free_locked(relay);
	}
}

/* Offers that there was no memory for when they came, and that are withdrawn. */
static void
release_strays(struct kmcl_relay *relay)
{
	relay->stray = false;
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		if (kmcl_relayed_find(relay, id) == NULL)
			VMB_IGNORE(vmb_bus_client_release(relay->client, id));
	}
}

static void
step_locked(struct kmcl_relay *relay)
{
	if (relay->contact == KMCL_RELAY_AGREED && relay->client != NULL) {
		relay->contact = KMCL_RELAY_REQUESTED;
		VMB_IGNORE(vmb_bus_client_request_offers(relay->client));
	}
	if (relay->stray && relay->client != NULL)
		release_strays(relay);
	for (LIST_ENTRY *e = relay->channels.Flink; e != &relay->channels;) {
		struct kmcl_relayed *ch = CONTAINING_RECORD(e, struct kmcl_relayed, link);

		e = e->Flink;
		kmcl_relayed_step(ch);
	}
	if (kmcl_relay_is_ending(relay)) {
		relay->drop = relay->port != NULL && has_left_locked(relay);
		if (relay->drop || relay->port == NULL)
			kmcl_relay_arm(relay, 0);
	}
	if (relay->armed)
		return;
	if (relay->port == NULL && guest_is_ready_locked(relay->guest))
		kmcl_relay_arm(relay, 0);
	else if (relay->port != NULL && waits_since_locked(relay) != UINT64_MAX)
		kmcl_relay_arm(relay, relay->share->options.answer_ms / 4 + 1);
}

bool
kmcl_relay_settle_locked(struct kmcl_guest *guest)
{
	if (!guest->relays_dirty)
		return false;
	guest->relays_dirty = false;
	for (LIST_ENTRY *e = guest->relays.Flink; e != &guest->relays; e = e->Flink)
		step_locked(CONTAINING_RECORD(e, struct kmcl_relay, link));
	return true;
}

bool
kmcl_relay_any_locked(const struct kmcl_bus *bus)
{
	if (!IsListEmpty(&bus->shares))
		return true;
	for (LIST_ENTRY *e = bus->guests.Flink; e != &bus->guests; e = e->Flink) {
		if (!IsListEmpty(&CONTAINING_RECORD(e, struct kmcl_guest, link)->relays))
			return true;
	}
	return false;
}
