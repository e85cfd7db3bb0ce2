/* SPDX-License-Identifier: MIT */
/*
 * The drivers of both ends: how their channels are configured, and their state callbacks, which check the order that the state
 * model allows (STM-3, STM-8, STM-9, STM-11, STM-13).
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "plant.h"
#include "wdm.h"
#include "world.h"
#include "wrap.h"

#define TAG 'mis '

static const GUID type = { 0x5349a001, 0x1, 0x2, { 3, 4, 5, 6, 7, 8, 9, 10 } };

static GUID
instance_of(uint32_t slot)
{
	GUID guid = type;

	/* A subchannel has its primary's. */
	guid.Data1 += 1 + (slot == SIM_SUBCHANNEL ? 0 : slot);
	return guid;
}

NTSTATUS
sim_status_is_one_of(NTSTATUS status, const char *call, unsigned count, ...)
{
	va_list args;
	bool good = status == STATUS_SUCCESS ||
	            (status == STATUS_INSUFFICIENT_RESOURCES && sim_refused() != 0);

	va_start(args, count);
	while (count-- != 0)
		good |= va_arg(args, NTSTATUS) == status;
	va_end(args);
	if (!good)
		sim_found("%s returned 0x%08x, which it may not here", call, (unsigned)status);
	sim_note(call, (uint32_t)status);
	return status;
}

/* ---- state callbacks ------------------------------------------------------------------------------- */

static struct sim_end *
enter(VMBCHANNEL channel, const char *callback)
{
	struct sim_end *end = VmbChannelGetPointer(channel);

	if (end == NULL || end->channel != channel)
		sim_found("%s is called for a channel that is gone", callback);
	if (end->inside != NULL)
		sim_found("%s is called while %s runs", callback, end->inside);
	if (KeGetCurrentIrql() != PASSIVE_LEVEL)
		sim_found("%s is called at level %u", callback, (unsigned)KeGetCurrentIrql());
	end->inside = callback;
	sim_note(callback, end->slot * 2 + end->is_server);
	sim_point();
	return end;
}

static void
leave(struct sim_end *end)
{
	sim_point();
	end->inside = NULL;
}

static void
must_be(struct sim_end *end, int state, const char *callback)
{
	static const char *const names[] = { "Closed", "Opened", "Started" };

	/* A channel that was restored open is told nothing of it. */
	if (end->restoring && state == SIM_OPEN)
		end->state = SIM_OPEN;
	end->restoring = false;
	if ((int)end->state != state)
		sim_found("%s is called in %s of slot %u's %s", callback, names[end->state],
		          end->slot, end->is_server ? "server" : "client");
}

static EVT_VMB_CHANNEL_OPENED opened;
static NTSTATUS
opened(VMBCHANNEL channel)
{
	struct sim_end *end = enter(channel, "EvtChannelOpened");
	NTSTATUS status = STATUS_SUCCESS;

	must_be(end, SIM_CLOSED, "EvtChannelOpened");
	memset(end->last_serial, 0, sizeof(end->last_serial));
	end->opens++;
	/* Some drivers refuse some opens. */
	if (sim_chance(sim_world.ending ? 0 : 12)) {
		status = STATUS_UNSUCCESSFUL;
		sim_world.counts.failed_opens++;
	} else {
		end->state = SIM_OPEN;
		sim_world.counts.opens++;
		sim_world.counts.subchannels += end->slot == SIM_SUBCHANNEL;
	}
	leave(end);
	return status;
}

static EVT_VMB_CHANNEL_STARTED started;
static VOID
started(VMBCHANNEL channel)
{
	struct sim_end *end = enter(channel, "EvtChannelStarted");

	must_be(end, SIM_OPEN, "EvtChannelStarted");
	if (sim_chance(4))
		sim_send(end, SIM_CALLBACK, 32, sim_random(SIM_SEND_AGAIN));
	leave(end);
	end->state = SIM_STARTED;
	end->post_started = false;
	sim_world.counts.starts++;
	(void)sim_wake(&end->state, UINT32_MAX);
}

static EVT_VMB_CHANNEL_POST_STARTED post_started;
static VOID
post_started(VMBCHANNEL channel)
{
	struct sim_end *end = enter(channel, "EvtChannelPostStarted");

	must_be(end, SIM_STARTED, "EvtChannelPostStarted");
	if (end->post_started)
		sim_found("EvtChannelPostStarted is called twice for one start");
	end->post_started = true;
	/* Also without a limit: whoever closes or pauses the channel ends it. */
	if (sim_chance(4))
		sim_ask(end, SIM_CALLBACK, 32, sim_random(16));
	leave(end);
}

static EVT_VMB_CHANNEL_SUSPEND suspended;
static VOID
suspended(VMBCHANNEL channel)
{
	struct sim_end *end;

	if (sim_planted(SIM_PLANT_CALLBACK))
		return;
	end = enter(channel, "EvtChannelSuspend");
	must_be(end, SIM_STARTED, "EvtChannelSuspend");
	if (end->processing)
		sim_found("EvtChannelSuspend is called while a packet is delivered");
	if (end->deferred.packet != NULL && end->failures == 0)
		sim_found(
		    "EvtChannelSuspend is called before a deferred packet was delivered again");
	end->deferred.packet = NULL;
	end->state = SIM_OPEN;
	leave(end);
}

static EVT_VMB_CHANNEL_CLOSED closed;
static VOID
closed(VMBCHANNEL channel)
{
	struct sim_end *end = enter(channel, "EvtChannelClosed");

	must_be(end, SIM_OPEN, "EvtChannelClosed");
	if (end->in_count != 0)
		sim_found("EvtChannelClosed is called while %u packets are not completed",
		          end->in_count);
	for (uint32_t i = 0; i < SIM_PACKETS; i++) {
		if (end->out[i].busy && end->out[i].accepted)
			sim_found("EvtChannelClosed is called before a packet that was accepted "
			          "has ended");
	}
	end->state = SIM_CLOSED;
	end->closes++;
	end->failures = 0;
	/* What is made of GPADLs goes now; a call under way knows that the channel closes. */
	while (end->gpadl_calls != 0)
		(void)sim_block(&end->gpadl_calls, SIM_NEVER,
		                "calls about GPADLs, in EvtChannelClosed");
	sim_gpadl_end(end);
	leave(end);
}

static EVT_VMB_CHANNEL_PNP_FAILURE pnp_failure;
static VOID
pnp_failure(VMBCHANNEL channel, NTSTATUS status)
{
	struct sim_end *end = enter(channel, "the routine for PnP failures");

	must_be(end, SIM_CLOSED, "the routine for PnP failures");
	sim_note("failure", (uint32_t)status);
	leave(end);
}

static EVT_VMB_CHANNEL_PROCESSING_COMPLETE processing_complete;
static VOID
processing_complete(VMBCHANNEL channel, UINT32 packets)
{
	const struct sim_end *end = VmbChannelGetPointer(channel);

	if (end == NULL || end->channel != channel)
		sim_found("ProcessingComplete is called for a channel that is gone");
	sim_note("batch", packets);
}

/* ---- making ------------------------------------------------------------------------------------------- */

static NTSTATUS
configure(struct sim_end *end, const struct sim_channel_config *c)
{
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;
	NTSTATUS status;

	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	callbacks.EvtChannelOpened = opened;
	callbacks.EvtChannelClosed = closed;
	callbacks.EvtChannelSuspend = suspended;
	callbacks.EvtChannelStarted = started;
	callbacks.EvtChannelPostStarted = post_started;
	VmbChannelSetPointer(end->channel, end);
	status = VmbChannelInitSetStateChangeCallbacks(end->channel, &callbacks);
	if (status == STATUS_SUCCESS)
		status = VmbChannelInitSetProcessPacketCallbacks(end->channel, sim_process_packet,
		                                                 processing_complete);
	if (status == STATUS_SUCCESS)
		status = VmbChannelInitSetMaximumPacketSize(end->channel, c->packet);
	if (status == STATUS_SUCCESS)
		status = VmbChannelInitSetMaximumExternalData(end->channel, SIM_EXTERNAL_BYTES, 4);
	if (status == STATUS_SUCCESS && c->pipe)
		status = VmbChannelInitSetFlags(end->channel, VMBUS_CHANNEL_INIT_FLAG_IS_PIPE);
	if (c->quota != 0)
		VmbChannelSetTransactionQuota(end->channel, c->quota);
	if (c->passive)
		VmbChannelSetIncomingProcessingAtPassive(end->channel, TRUE);
	return status;
}

static NTSTATUS
aim(struct sim_end *end, const struct sim_channel_config *c)
{
	GUID instance = instance_of(end->slot);
	NTSTATUS status;
	HANDLE bus;

	if (!end->is_server) {
		status =
		    VmbClientChannelInitSetRingBufferPageCount(end->channel, c->pages, c->pages);
		if (status != STATUS_SUCCESS || end->slot == SIM_SUBCHANNEL)
			return status;
		return VmbClientChannelInitSetTargetPnp(end->channel, &type, &instance,
		                                        pnp_failure);
	}
	status = VmbServerChannelInitSetSaveRestorePacketCallbacks(end->channel, sim_save_packet,
	                                                           sim_restore_packet);
	if (status != STATUS_SUCCESS || end->slot == SIM_SUBCHANNEL)
		return status;
	status = VmbServerChannelInitSetTargetInterfaceId(end->channel, type, instance);
	if (status != STATUS_SUCCESS)
		return status;
	bus = kmcl_bus_handle(sim_world.host);
	if (bus == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	status = VmbServerChannelInitSetVmbusHandle(end->channel, bus);
	(void)kmcl_handle_close(bus);
	return status;
}

void
sim_driver_make(struct sim_end *end)
{
	const struct sim_channel_config *c = &sim_world.program->channels[end->slot];
	VMBCHANNEL channel;
	NTSTATUS status;

	if ((end->is_server ? sim_world.host : sim_world.guest) == NULL)
		return;
	status = VmbChannelAllocate(NULL, end->is_server, &channel);
	if (sim_status_is_one_of(status, "VmbChannelAllocate", 0) != STATUS_SUCCESS)
		return;
	end->channel = channel;
	end->state = SIM_CLOSED;
	end->restoring = false;
	end->failures = 0;
	status = configure(end, c);
	if (status == STATUS_SUCCESS)
		status = aim(end, c);
	if (sim_status_is_one_of(status, "configuration", 0) != STATUS_SUCCESS)
		sim_driver_unmake(end);
}

static void
free_out(struct sim_out *out)
{
	if (out->packet == NULL)
		return;
	if (out->busy)
		sim_found("a packet that was accepted has not ended when VmbChannelDisable() had "
		          "returned");
	if (out->memory == NULL)
		VmbPacketFree(out->packet);
	sim_free(out->memory);
	sim_external_free(out);
	*out = (struct sim_out){ 0 };
}

void
sim_driver_unmake(struct sim_end *end)
{
	VMBCHANNEL channel = end->channel;

	if (channel == NULL)
		return;
	if (end->state != SIM_CLOSED || end->inside != NULL)
		sim_found("VmbChannelDisable() has returned, and the callbacks are not over");
	for (uint32_t i = 0; i < SIM_PACKETS; i++)
		free_out(&end->out[i]);
	VmbChannelCleanup(channel);
	end->channel = NULL;
}

/* ---- external data ------------------------------------------------------------------------------------ */

void
sim_external_free(struct sim_out *out)
{
	for (uint32_t i = 0; i < 2; i++) {
		if (out->mdl[i] != NULL)
			IoFreeMdl(out->mdl[i]);
		out->mdl[i] = NULL;
	}
	if (out->external[0] != NULL)
		ExFreePoolWithTag(out->external[0], TAG);
	sim_free(out->external[1]);
	out->external[0] = out->external[1] = NULL;
}

bool
sim_external_make(struct sim_out *out)
{
	if (out->mdl[0] != NULL)
		return true;
	out->external[0] = ExAllocatePool2(POOL_FLAG_NON_PAGED, SIM_EXTERNAL_BYTES, TAG);
	out->external[1] = sim_alloc(SIM_EXTERNAL_BYTES);
	for (uint32_t i = 0; i < 2 && out->external[0] != NULL; i++) {
		out->mdl[i] =
		    IoAllocateMdl(out->external[i], SIM_EXTERNAL_BYTES, FALSE, FALSE, NULL);
		if (out->mdl[i] != NULL)
			MmBuildMdlForNonPagedPool(out->mdl[i]);
	}
	if (out->mdl[0] != NULL && out->mdl[1] != NULL)
		return true;
	sim_external_free(out);
	return false;
}
