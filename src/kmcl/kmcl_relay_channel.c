/* SPDX-License-Identifier: MIT */
/*
 * One offer of a host in another process, as our guest sees it. Events of the guest's machine say what the guest
 * did, events of ours there say what that host did; kmcl_relayed_step() brings the two together. The order of a
 * close is what matters most: the other process is told to close, then asked for the ring's GPADL, and only its
 * answer to that, or its end, lets our guest have its rings back.
 */
#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_loop.h"
#include "kmcl/kmcl_relay.h"

/* What an offer may ask of a guest. Confidential and pinned memory are between a guest and its own host. */
#define PASSED_FLAGS                                                                        \
	(VMB_OFFER_ENUMERATE_DEVICE_INTERFACE | VMB_OFFER_NAMED_PIPE | VMB_OFFER_LOOPBACK | \
	 VMB_OFFER_TLNPI_PROVIDER)

/* ---- events of our guest's machine ------------------------------------------------------------------------ */

static void
note(struct kmcl_relayed *ch)
{
	ch->relay->guest->relays_dirty = true;
}

static bool
relayed_open(struct kmcl_offer *offer, const struct vmb_bus_open *open)
{
	struct kmcl_relayed *ch = offer->relayed;

	ch->state = KMCL_RELAYED_OPENING;
	ch->there = KMCL_THERE_UNKNOWN;
	ch->open = *open;
	note(ch);
	return true;
}

static bool
relayed_close(struct kmcl_offer *offer)
{
	offer->relayed->state = KMCL_RELAYED_CLOSING;
	note(offer->relayed);
	return true;
}

static bool
relayed_retarget(struct kmcl_offer *offer, uint32_t target_vp)
{
	/* Our guest's interrupts are our port's affair, whoever signals. */
	return kmcl_host_route(offer->guest, &offer->relayed->open, target_vp) == VMB_OK;
}

static enum vmb_status
relayed_gpadl_described(struct kmcl_offer *offer, uint32_t gpadl_id)
{
	struct kmcl_relayed *ch = offer->relayed;
	enum vmb_status status = kmcl_relayed_gpadl_add(ch, gpadl_id);

	note(ch);
	if (status != VMB_QUEUED)
		kmcl_relay_log(ch->relay, KMCL_LOG_WARNING, "a GPADL of the guest is refused: %s",
		               status == VMB_E_LIMIT ? "the channel has too many" : "no memory");
	return status;
}

static void
relayed_gpadl_unwanted(struct kmcl_offer *offer, uint32_t gpadl_id)
{
	struct kmcl_relayed_gpadl *gpadl = kmcl_relayed_gpadl_find(offer->relayed, gpadl_id);

	if (gpadl == NULL)
		return;
	gpadl->unwanted = true;
	note(offer->relayed);
}

static void
relayed_released(struct kmcl_offer *offer)
{
	struct kmcl_relayed *ch = offer->relayed;

	ch->offer = NULL;
	note(ch);
}

static const struct kmcl_offer_ops relayed_ops = {
	.open = relayed_open,
	.close = relayed_close,
	.retarget = relayed_retarget,
	.gpadl_described = relayed_gpadl_described,
	.gpadl_unwanted = relayed_gpadl_unwanted,
	.released = relayed_released,
};

/* ---- life --------------------------------------------------------------------------------------------------- */

struct kmcl_relayed *
kmcl_relayed_new(struct kmcl_relay *relay, const struct vmb_msg_offer *offer)
{
	struct kmcl_relayed *ch = calloc(1, sizeof(*ch));

	if (ch == NULL)
		return NULL;
	ch->relay = relay;
	ch->offered = *offer;
	ch->is_new = true;
	InitializeListHead(&ch->gpadls);
	InsertTailList(&relay->channels, &ch->link);
	return ch;
}

struct kmcl_relayed *
kmcl_relayed_find(struct kmcl_relay *relay, uint32_t there_id)
{
	for (LIST_ENTRY *e = relay->channels.Flink; e != &relay->channels; e = e->Flink) {
		struct kmcl_relayed *ch = CONTAINING_RECORD(e, struct kmcl_relayed, link);

		if (ch->offered.channel_id == there_id && (!ch->is_gone || ch->must_release))
			return ch;
	}
	return NULL;
}

void
kmcl_relayed_free(struct kmcl_relayed *ch)
{
	kmcl_relayed_gpadls_free(ch);
	RemoveEntryList(&ch->link);
	free(ch);
}

void
kmcl_relayed_gone(struct kmcl_relayed *ch)
{
	ch->is_gone = true;
	ch->there = KMCL_THERE_UNKNOWN;
	kmcl_relayed_gpadls_gone(ch);
}

uint64_t
kmcl_relayed_waits_since(const struct kmcl_relayed *ch)
{
	uint64_t since = ch->there == KMCL_THERE_ASKED ? ch->asked_ns : UINT64_MAX;

	for (const LIST_ENTRY *e = ch->gpadls.Flink; e != &ch->gpadls; e = e->Flink) {
		const struct kmcl_relayed_gpadl *gpadl =
		    CONTAINING_RECORD(e, struct kmcl_relayed_gpadl, link);

		if ((gpadl->there == KMCL_THERE_ASKED || gpadl->there == KMCL_THERE_LEAVING) &&
		    gpadl->asked_ns < since)
			since = gpadl->asked_ns;
	}
	return since;
}

/* ---- offering ----------------------------------------------------------------------------------------------- */

static bool
same_device(const struct vmb_msg_offer *a, const struct vmb_msg_offer *b)
{
	return memcmp(&a->interface_type, &b->interface_type, sizeof(a->interface_type)) == 0 &&
	       memcmp(&a->interface_instance, &b->interface_instance,
	              sizeof(a->interface_instance)) == 0;
}

/* Somebody here offers a device of that instance to the guest. Guests name devices by it alone. */
static bool
is_taken(const struct kmcl_relayed *ch)
{
	struct vmb_bus_channel other = { 0 };

	while (vmb_bus_server_next_channel(kmcl_relayed_server(ch), other.channel_id, &other) ==
	       VMB_OK) {
		if (!other.is_revoked &&
		    memcmp(&other.offer->interface_instance, &ch->offered.interface_instance,
		           sizeof(ch->offered.interface_instance)) == 0)
			return true;
	}
	return false;
}

static bool
primary_is_open(const struct kmcl_relayed *ch)
{
	for (LIST_ENTRY *e = ch->relay->channels.Flink; e != &ch->relay->channels; e = e->Flink) {
		const struct kmcl_relayed *other = CONTAINING_RECORD(e, struct kmcl_relayed, link);

		if (other->offered.subchannel_index == 0 && other->state == KMCL_RELAYED_OPEN &&
		    !other->is_gone && same_device(&other->offered, &ch->offered))
			return true;
	}
	return false;
}

/* NULL: the guest may be offered it. */
static const char *
refusal(const struct kmcl_relayed *ch)
{
	const struct kmcl_relay *relay = ch->relay;
	uint32_t count = 0;

	for (LIST_ENTRY *e = relay->channels.Flink; e != &relay->channels; e = e->Flink)
		count += CONTAINING_RECORD(e, struct kmcl_relayed, link)->offer != NULL;
	if (count >= relay->share->options.max_offers)
		return "it offers more than it may (max_offers)";
	if (ch->offered.subchannel_index != 0)
		return primary_is_open(ch) ? NULL : "a subchannel of a device that is not open";
	return is_taken(ch) ? "a device with that instance is offered here already" : NULL;
}

static void
log_refusal(struct kmcl_relayed *ch, const char *why)
{
	GUID type = kmcl_guid(&ch->offered.interface_type);
	GUID instance = kmcl_guid(&ch->offered.interface_instance);

	ch->relay->share->stats.offers_refused++;
	kmcl_relay_log(
	    ch->relay, KMCL_LOG_WARNING,
	    "an offer of type {%08x-%04x-...}, instance {%08x-%04x-%04x-...} is refused: %s",
	    type.Data1, type.Data2, instance.Data1, instance.Data2, instance.Data3, why);
}

static void
offer_it(struct kmcl_relayed *ch)
{
	struct vmb_msg_offer description = ch->offered;
	const char *why = refusal(ch);
	enum vmb_status status;
	struct kmcl_offer *offer;

	ch->is_new = false;
	if (why != NULL) {
		log_refusal(ch, why);
		return;
	}
	offer = kmcl_host_new_offer_locked(ch->relay->guest);
	if (offer == NULL) {
		log_refusal(ch, "no memory");
		return;
	}
	offer->ops = &relayed_ops;
	offer->relayed = ch;
	description.flags &= PASSED_FLAGS;
	status =
	    vmb_bus_server_offer(kmcl_relayed_server(ch), &description, offer, &offer->channel_id);
	if (status == VMB_OK) {
		ch->offer = offer;
		return;
	}
	kmcl_host_drop_offer_locked(offer);
	log_refusal(ch, vmb_status_name(status));
}

static void
revoke(struct kmcl_relayed *ch)
{
	if (ch->offer == NULL || ch->revoked)
		return;
	ch->revoked = true;
	/* An open one is closed first; may release the offer. */
	VMB_IGNORE(vmb_bus_server_revoke(kmcl_relayed_server(ch), ch->offer->channel_id));
}

/* A guest that opens the device again must not find them: they are this open's. */
static void
revoke_subchannels(struct kmcl_relayed *primary)
{
	LIST_ENTRY *head = &primary->relay->channels;

	for (LIST_ENTRY *e = head->Flink; e != head; e = e->Flink) {
		struct kmcl_relayed *sub = CONTAINING_RECORD(e, struct kmcl_relayed, link);

		if (sub->offered.subchannel_index != 0 &&
		    same_device(&sub->offered, &primary->offered))
			revoke(sub);
	}
}

/* ---- opening and closing -------------------------------------------------------------------------------------- */

void
kmcl_relayed_drop_doorbell_there(struct kmcl_relayed *ch)
{
	if (ch->has_doorbell)
		vmb_port_doorbell_close(ch->relay->port, ch->offered.channel_id);
}

static void
drop_doorbell(struct kmcl_relayed *ch)
{
	if (!ch->has_doorbell)
		return;
	if (ch->relay->port != NULL && !ch->is_gone)
		kmcl_relayed_drop_doorbell_there(ch);
	if (ch->hop != 0)
		kmcl_hop_remove(ch->relay->hop, ch->hop);
	ch->hop = 0;
	vmb_port_doorbell_close(ch->relay->guest->port, ch->open.channel_id);
	ch->has_doorbell = false;
}

/* The descriptor that the other process signals our guest with. */
static enum vmb_status
signal_to_guest(struct kmcl_relayed *ch, int *fd)
{
	struct kmcl_relay *relay = ch->relay;
	struct vmb_port *port = relay->guest->port;
	enum vmb_status status = VMB_OK;

	if (port->ops->rings_by_fd) {
		*fd = ch->doorbell.ring_fd;
		return VMB_OK;
	}
	if (relay->hop == NULL)
		status = kmcl_hop_start(&relay->hop);
	if (status == VMB_OK)
		status = kmcl_hop_add(relay->hop, port, &ch->doorbell, &ch->hop, fd);
	return status;
}

static enum vmb_status
make_doorbell(struct kmcl_relayed *ch)
{
	struct kmcl_relay *relay = ch->relay;
	enum vmb_status status;
	int to_guest_fd;

	status = kmcl_host_route(relay->guest, &ch->open, ch->open.target_vp);
	if (status == VMB_OK)
		status = vmb_port_doorbell_open(relay->guest->port, ch->open.channel_id, &ch->doorbell);
	if (status != VMB_OK)
		return status;
	status = signal_to_guest(ch, &to_guest_fd);
	if (status == VMB_OK)
		status = vmb_unix_doorbell_open_with(relay->port, ch->offered.channel_id,
		                                     ch->doorbell.wait_fd, to_guest_fd);
	if (status == VMB_OK) {
		ch->has_doorbell = true;
		return VMB_OK;
	}
	if (ch->hop != 0)
		kmcl_hop_remove(relay->hop, ch->hop);
	ch->hop = 0;
	vmb_port_doorbell_close(relay->guest->port, ch->open.channel_id);
	return status;
}

static void
answer_open(struct kmcl_relayed *ch, uint32_t status)
{
	uint32_t channel_id = ch->open.channel_id;

	if (status != 0)
		drop_doorbell(ch);
	ch->state = status == 0 ? KMCL_RELAYED_OPEN : KMCL_RELAYED_CLOSED;
	/* May raise close() at once. */
	VMB_IGNORE(vmb_bus_server_open_done(kmcl_relayed_server(ch), channel_id, status));
}

static void
open_there(struct kmcl_relayed *ch)
{
	const struct vmb_bus_client_open open = {
		.channel_id = ch->offered.channel_id,
		.ring_gpadl = ch->open.ring_gpadl,
		.downstream_page_offset = ch->open.downstream_page_offset,
		.target_vp = ch->open.target_vp,
		.user_data = ch->open.user_data,
	};
	enum vmb_status status = make_doorbell(ch);

	ch->there = KMCL_THERE_ASKED;
	ch->asked_ns = kmcl_now_ns();
	if (status == VMB_OK)
		status = vmb_bus_client_open(ch->relay->client, &open);
	if (status == VMB_OK)
		return;
	ch->there = KMCL_THERE_UNKNOWN;
	kmcl_relay_log(ch->relay, KMCL_LOG_WARNING, "a channel cannot be opened: %s",
	               vmb_status_name(status));
	answer_open(ch, VMB_BUS_STATUS_UNSUCCESSFUL);
}

static void
step_opening(struct kmcl_relayed *ch)
{
	struct kmcl_relayed_gpadl *ring = kmcl_relayed_gpadl_find(ch, ch->open.ring_gpadl);

	if (ch->there == KMCL_THERE) {
		answer_open(ch, 0);
	} else if (ch->there == KMCL_THERE_REFUSED) {
		ch->there = KMCL_THERE_UNKNOWN;
		answer_open(ch, ch->refusal);
	} else if (!kmcl_relayed_is_alive(ch) || ring == NULL ||
	           ring->there == KMCL_THERE_REFUSED) {
		answer_open(ch, VMB_BUS_STATUS_UNSUCCESSFUL);
	} else if (ring->there == KMCL_THERE_UNKNOWN) {
		/* Opened a second time with the same memory. */
		kmcl_relayed_gpadl_ask(ch, ring);
		if (ring->there == KMCL_THERE_REFUSED)
			answer_open(ch, VMB_BUS_STATUS_UNSUCCESSFUL);
	} else if (ring->there == KMCL_THERE && ch->there == KMCL_THERE_UNKNOWN) {
		open_there(ch);
	}
}

static void
step_closing(struct kmcl_relayed *ch)
{
	struct kmcl_relayed_gpadl *ring = kmcl_relayed_gpadl_find(ch, ch->open.ring_gpadl);
	uint32_t channel_id = ch->open.channel_id;

	if (ch->offered.subchannel_index == 0)
		revoke_subchannels(ch);
	if (kmcl_relayed_is_alive(ch)) {
		if (ch->there == KMCL_THERE)
			VMB_IGNORE(vmb_bus_client_close(ch->relay->client, ch->offered.channel_id));
		ch->there = KMCL_THERE_UNKNOWN;
		if (ring != NULL && ring->there == KMCL_THERE)
			kmcl_relayed_gpadl_tear_down(ch, ring);
		if (ring != NULL && ring->there == KMCL_THERE_LEAVING)
			return;
	}
	drop_doorbell(ch);
	ch->state = KMCL_RELAYED_CLOSED;
	/* May raise open() at once. */
	VMB_IGNORE(vmb_bus_server_close_done(kmcl_relayed_server(ch), channel_id));
}

/* ---- steps ------------------------------------------------------------------------------------------------------- */

static bool
is_over(const struct kmcl_relayed *ch)
{
	return ch->offer == NULL && !ch->is_new && ch->is_gone;
}

void
kmcl_relayed_step(struct kmcl_relayed *ch)
{
	struct kmcl_relay *relay = ch->relay;

	if (ch->is_new && (ch->is_gone || kmcl_relay_is_ending(relay)))
		ch->is_new = false;
	if (ch->is_new)
		offer_it(ch);
	if (ch->offer != NULL) {
		kmcl_relayed_gpadls_map_new(ch);
		if (ch->is_gone || kmcl_relay_is_ending(relay))
			revoke(ch);
	}
	/* With the offer its GPADLs have gone, those too that we had no time to look at. */
	if (ch->offer == NULL)
		kmcl_relayed_gpadls_free(ch);
	if (ch->state == KMCL_RELAYED_OPENING)
		step_opening(ch);
	if (ch->state == KMCL_RELAYED_CLOSING)
		step_closing(ch);
	kmcl_relayed_gpadls_step(ch, ch->state != KMCL_RELAYED_CLOSED ? ch->open.ring_gpadl : 0);
	if (!is_over(ch))
		return;
	if (ch->must_release && relay->client != NULL)
		VMB_IGNORE(vmb_bus_client_release(relay->client, ch->offered.channel_id));
	kmcl_relayed_free(ch);
}
