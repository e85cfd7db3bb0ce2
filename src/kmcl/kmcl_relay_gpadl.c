/* SPDX-License-Identifier: MIT */
/*
 * GPADLs of relayed channels. Our guest's machine has accepted one, so its ranges are good and its pages exist; it
 * is described to the other process under the same id, and the guest hears of it when that process has
 * answered, because a packet may name it from then on. It stays mapped at our guest's machine as long as
 * the other process may use it, so that the guest does not get its memory back earlier.
 */
#include <stdlib.h>

#include "kmcl/kmcl_loop.h"
#include "kmcl/kmcl_relay.h"

struct kmcl_relayed_gpadl *
kmcl_relayed_gpadl_find(struct kmcl_relayed *ch, uint32_t id)
{
	for (LIST_ENTRY *e = ch->gpadls.Flink; e != &ch->gpadls; e = e->Flink) {
		struct kmcl_relayed_gpadl *gpadl =
		    CONTAINING_RECORD(e, struct kmcl_relayed_gpadl, link);

		if (gpadl->id == id)
			return gpadl;
	}
	return NULL;
}

enum vmb_status
kmcl_relayed_gpadl_add(struct kmcl_relayed *ch, uint32_t id)
{
	struct kmcl_relayed_gpadl *gpadl;

	if (ch->gpadl_count == KMCL_RELAY_MAX_GPADLS)
		return VMB_E_LIMIT;
	gpadl = calloc(1, sizeof(*gpadl));
	if (gpadl == NULL)
		return VMB_E_NO_MEMORY;
	gpadl->id = id;
	InsertTailList(&ch->gpadls, &gpadl->link);
	ch->gpadl_count++;
	return VMB_QUEUED;
}

static void
forget(struct kmcl_relayed *ch, struct kmcl_relayed_gpadl *gpadl)
{
	RemoveEntryList(&gpadl->link);
	ch->gpadl_count--;
	free(gpadl);
}

void
kmcl_relayed_gpadls_map_new(struct kmcl_relayed *ch)
{
	for (LIST_ENTRY *e = ch->gpadls.Flink; e != &ch->gpadls;) {
		struct kmcl_relayed_gpadl *gpadl =
		    CONTAINING_RECORD(e, struct kmcl_relayed_gpadl, link);

		e = e->Flink;
		if (gpadl->mapped)
			continue;
		if (vmb_bus_server_gpadl_map(kmcl_relayed_server(ch), ch->offer->channel_id,
		                             gpadl->id, &gpadl->ranges, &gpadl->range_bytes,
		                             &gpadl->range_count) == VMB_OK)
			gpadl->mapped = true;
		else
			forget(ch, gpadl); /* it left with its channel before we came here */
	}
}

void
kmcl_relayed_gpadl_ask(struct kmcl_relayed *ch, struct kmcl_relayed_gpadl *gpadl)
{
	/* Before the messages, though no answer can come before this returns. */
	gpadl->there = KMCL_THERE_ASKED;
	gpadl->asked_ns = kmcl_now_ns();
	if (vmb_bus_client_gpadl_create_as(ch->relay->client, ch->offered.channel_id, gpadl->id,
	                                   gpadl->ranges, gpadl->range_bytes,
	                                   gpadl->range_count) != VMB_OK)
		gpadl->there = KMCL_THERE_REFUSED;
}

void
kmcl_relayed_gpadl_tear_down(struct kmcl_relayed *ch, struct kmcl_relayed_gpadl *gpadl)
{
	gpadl->there = KMCL_THERE_LEAVING;
	gpadl->asked_ns = kmcl_now_ns();
	if (vmb_bus_client_gpadl_teardown(ch->relay->client, ch->offered.channel_id, gpadl->id) !=
	    VMB_OK)
		gpadl->there = KMCL_THERE_UNKNOWN;
}

/* The guest is told that it was refused, or gets back what it asked for. `gpadl` is gone. */
static void
give_back(struct kmcl_relayed *ch, struct kmcl_relayed_gpadl *gpadl)
{
	struct vmb_bus_server *server = kmcl_relayed_server(ch);
	uint32_t channel_id = ch->offer->channel_id, id = gpadl->id;
	bool answered = gpadl->answered;

	forget(ch, gpadl);
	/* These may release the offer. */
	if (answered)
		VMB_IGNORE(vmb_bus_server_gpadl_unmap(server, channel_id, id));
	else
		VMB_IGNORE(vmb_bus_server_gpadl_answer(server, channel_id, id,
		                                       VMB_BUS_STATUS_UNSUCCESSFUL));
}

static void
step_one(struct kmcl_relayed *ch, struct kmcl_relayed_gpadl *gpadl, bool is_ring)
{
	bool alive = kmcl_relayed_is_alive(ch);

	if (!gpadl->answered && alive && gpadl->there == KMCL_THERE_UNKNOWN)
		kmcl_relayed_gpadl_ask(ch, gpadl);
	if (!gpadl->answered && gpadl->there == KMCL_THERE) {
		gpadl->answered = true;
		VMB_IGNORE(vmb_bus_server_gpadl_answer(kmcl_relayed_server(ch),
		                                       ch->offer->channel_id, gpadl->id, 0));
	}
	if (gpadl->unwanted && gpadl->there == KMCL_THERE && !is_ring)
		kmcl_relayed_gpadl_tear_down(ch, gpadl);
	if (gpadl->there != KMCL_THERE_UNKNOWN && gpadl->there != KMCL_THERE_REFUSED)
		return;
	/* An open that waits for its ring looks at a refusal itself. */
	if (is_ring && gpadl->answered)
		return;
	if (gpadl->unwanted || !gpadl->answered)
		give_back(ch, gpadl);
}

void
kmcl_relayed_gpadls_step(struct kmcl_relayed *ch, uint32_t ring)
{
	for (LIST_ENTRY *e = ch->gpadls.Flink; e != &ch->gpadls;) {
		struct kmcl_relayed_gpadl *gpadl =
		    CONTAINING_RECORD(e, struct kmcl_relayed_gpadl, link);

		e = e->Flink;
		if (gpadl->mapped)
			step_one(ch, gpadl, gpadl->id == ring && ring != 0);
	}
}

void
kmcl_relayed_gpadls_gone(struct kmcl_relayed *ch)
{
	for (LIST_ENTRY *e = ch->gpadls.Flink; e != &ch->gpadls; e = e->Flink)
		CONTAINING_RECORD(e, struct kmcl_relayed_gpadl, link)->there = KMCL_THERE_UNKNOWN;
}

void
kmcl_relayed_gpadls_free(struct kmcl_relayed *ch)
{
	while (!IsListEmpty(&ch->gpadls))
		forget(ch, CONTAINING_RECORD(ch->gpadls.Flink, struct kmcl_relayed_gpadl, link));
}
