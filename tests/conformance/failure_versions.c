/* SPDX-License-Identifier: MIT */
/*
 * The life of what later versions of the interface add, on a bus with monitored offers: channels in memory of the driver's, areas in
 * packets, GPADLs of page lists, transfer pages, subchannels, latencies (see life.h).
 */
#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_channel.h"
#include "life.h"
#include "vmb/packet.h"
#include "vmb/ring.h"

#define TAG 'efil'
#define SET 7u
#define CHANNEL_BYTES 65536u

static struct {
	struct kmcl_bus *host, *guest;
	HANDLE handle;
	GUID type;
	VMBCHANNEL server, client;
	VMBCHANNEL sub_server, sub_client;
	KEVENT opened, sub_opened;
	volatile LONG transfers;        /* received by the client */
	LONG accepted;
	volatile LONG completed;
	_Alignas(16) UCHAR memory[CHANNEL_BYTES];
} life;

/* ---- the drivers --------------------------------------------------------------------------------------------- */

static VOID
packet_completed(PVOID context, VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	UNREFERENCED_PARAMETER(buffer);
	UNREFERENCED_PARAMETER(bytes);
	MUST(context == &life);
	MUST(status == STATUS_SUCCESS || status == STATUS_DEVICE_REMOVED);
	MUST(*(const UCHAR *)VmbPacketGetInlinePacketContextPointer(packet) == 0xA5);
	VmbPacketFree(packet);
	InterlockedIncrement(&life.completed);
}

static VOID
answer_packet(PVOID context, VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes, UINT32 flags)
{
	PMDL mdl;

	MUST(context == &life);
	if ((flags & VMBUS_CHANNEL_PROCESS_PACKET_FLAG_EXTERNAL_DATA) != 0 &&
	    life_done(VmbChannelPacketGetExternalData(packet, 0, &mdl)))
		(VOID)life_got(MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority));
	UNREFERENCED_PARAMETER(channel);
	VmbChannelPacketComplete(packet, buffer, bytes);
	if ((flags & VMBUS_CHANNEL_PROCESS_PACKET_FLAG_EXTERNAL_DATA) != 0)
		InterlockedIncrement(&life.transfers);
}

static VOID
client_post_started(VMBCHANNEL channel)
{
	KeSetEvent(channel == life.client ? &life.opened : &life.sub_opened, IO_NO_INCREMENT, FALSE);
}

static VOID
client_failed(VMBCHANNEL channel, NTSTATUS status)
{
	UNREFERENCED_PARAMETER(channel);
	(void)life_done(status);
}

/* ---- channels ------------------------------------------------------------------------------------------------ */

/* What both have in common, but for the target. */
static void
configure(VMBCHANNEL channel)
{
	MUST(VmbChannelInitSetProcessPacketCallbacksEx(channel, answer_packet, NULL, &life) == STATUS_SUCCESS);
	MUST(VmbChannelInitSetInlinePacketContextSize(channel, 100) == STATUS_SUCCESS);
	MUST(VmbChannelInitSetMaximumPacketCount(channel, 16) == STATUS_SUCCESS);
	VmbChannelSetAllowableDpcCpuUsage(channel, 50);
}

static bool
make_server(VMBCHANNEL *channel, VMBCHANNEL primary)
{
	if (!life_done(VmbChannelAllocate(NULL, TRUE, channel)))
		return false;
	MUST(VmbServerChannelInitSetVmbusHandle(*channel, life.handle) == STATUS_SUCCESS);
	MUST(VmbServerChannelInitSetTargetInterfaceId(*channel, life.type, life.type) == STATUS_SUCCESS);
	configure(*channel);
	if (primary != NULL && !life_done(VmbChannelInitSetPrimaryChannel(*channel, primary)))
		return false;
	if (!life_done(VmbChannelEnable(*channel)))
		return false;
	VmbChannelStart(*channel);
	return true;
}

static bool
make_client(VMBCHANNEL *channel, VMBCHANNEL primary)
{
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;
	NTSTATUS status;

	MUST(VmbSizeofChannel() <= sizeof(life.memory));
	status = primary == NULL ? VmbChannelInitialize(NULL, FALSE, life.memory, sizeof(life.memory), channel)
	                         : VmbChannelAllocate(NULL, FALSE, channel);
	if (!life_done(status))
		return false;
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	callbacks.EvtChannelPostStarted = client_post_started;
	MUST(VmbChannelInitSetStateChangeCallbacks(*channel, &callbacks) == STATUS_SUCCESS);
	MUST(VmbClientChannelInitSetTargetPnp(*channel, &life.type, &life.type, client_failed) ==
	     STATUS_SUCCESS);
	configure(*channel);
	if (primary != NULL && !life_done(VmbChannelInitSetPrimaryChannel(*channel, primary)))
		return false;
	return life_done(VmbChannelEnable(*channel)) && life_await(primary == NULL ? &life.opened : &life.sub_opened);
}

static void
end_channel(VMBCHANNEL *channel)
{
	if (*channel == NULL)
		return;
	VmbChannelDisable(*channel);
	VmbChannelCleanup(*channel);
	*channel = NULL;
}

/* ---- steps --------------------------------------------------------------------------------------------------- */

static bool
request(VMBCHANNEL channel)
{
	UINT64 message = 1, answer;
	UINT32 bytes = sizeof(answer);
	LARGE_INTEGER limit = { .QuadPart = -10000LL * LIFE_PATIENCE_MS };

	return life_done(VmbChannelSendSynchronousRequest(channel, &message, sizeof(message), NULL,
	                                                  VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION, &answer,
	                                                  &bytes, &limit));
}

static bool
send_with_area(VMBCHANNEL channel)
{
	UINT64 message = 2;
	VMBPACKET packet = VmbPacketAllocate(channel);

	if (!life_got(packet))
		return false;
	*(UCHAR *)VmbPacketGetInlinePacketContextPointer(packet) = 0xA5;
	VmbPacketSetCompletionRoutineEx(packet, packet_completed, &life);
	life.accepted++;
	if (life_done(VmbPacketSend(packet, &message, sizeof(message), NULL,
	                            VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION)))
		return true;
	life.accepted--;
	VmbPacketFree(packet);
	return false;
}

/* As a host writes it: a packet about two pages of the set. */
static void
inject_transfer(void)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(life.server);
	uint8_t body[24 + 2 * 8 + 8] = { 0 };
	struct vmb_iov iov = { body, sizeof(body) };
	bool signal;

	vmb_packet_put_descriptor(body, VMB_PACKET_TRANSFER_PAGES, 40, sizeof(body), 1, 77);
	vmb_packet_put_transfer(body + 16, SET, 2);
	vmb_transfer_put_range(body + 24, 100, 0);
	vmb_transfer_put_range(body + 32, 3000, 4000);
	vmb_lock_take(&ch->tx.lock);
	MUST(vmb_ring_write(&ch->tx.ring, &iov, 1) == VMB_OK);
	MUST(vmb_ring_tx_commit(&ch->tx.ring, &signal) == VMB_OK);
	VMB_IGNORE(vmb_port_ring(ch->link.port, &ch->link.doorbell));
	vmb_lock_give(&ch->tx.lock);
}

static bool
share_pages(void)
{
	UCHAR *pool = ExAllocatePool2(POOL_FLAG_NON_PAGED, 2 * PAGE_SIZE, TAG);
	PPFN_NUMBER pages;
	UINT32 gpadl;
	bool whole = false;
	PMDL mdl;

	if (!life_got(pool))
		return false;
	mdl = IoAllocateMdl(pool, 2 * PAGE_SIZE, FALSE, FALSE, NULL);
	if (life_got(mdl)) {
		MmBuildMdlForNonPagedPool(mdl);
		pages = MmGetMdlPfnArray(mdl);
		if (life_done(VmbChannelCreateGpadlFromPfnList(life.client, 0, pages, 2, &gpadl))) {
			whole = life_done(kmcl_channel_name_transfer_set(life.client, gpadl, SET));
			if (whole) {
				inject_transfer();
				life_await_count(&life.transfers, 1);
			}
			VmbChannelDeleteGpadl(life.client, gpadl);
		}
		IoFreeMdl(mdl);
	}
	ExFreePoolWithTag(pool, TAG);
	return whole;
}

static bool
use_subchannel(void)
{
	bool whole = make_server(&life.sub_server, life.server) && make_client(&life.sub_client, life.client) &&
	             request(life.sub_client) && send_with_area(life.sub_client);

	end_channel(&life.sub_client);
	end_channel(&life.sub_server);
	return whole;
}

static bool
use_monitor(void)
{
	UINT16 before;

	return life_done(VmbChannelSetInterruptLatency(life.client, 500, &before)) && request(life.client);
}

static bool
live_with_versions(void)
{
	const struct kmcl_bus_options options = { .size = sizeof(options), .monitored_offers = true };
	bool whole;

	memset(&life, 0, sizeof(life));
	life.type = (GUID){ 1, 2, 3, { 6 } };
	KeInitializeEvent(&life.opened, NotificationEvent, FALSE);
	KeInitializeEvent(&life.sub_opened, NotificationEvent, FALSE);
	whole = life_made(kmcl_bus_listen(life_path, &options, &life.host)) &&
	        life_made(kmcl_bus_connect(life_path, NULL, &life.guest)) &&
	        life_got(life.handle = kmcl_bus_handle(life.host)) && make_server(&life.server, NULL) &&
	        make_client(&life.client, NULL);
	if (whole) {
		/* All of them, whatever became of those before. */
		whole &= request(life.client);
		whole &= send_with_area(life.server);
		whole &= share_pages();
		whole &= use_subchannel();
		whole &= use_monitor();
	}
	end_channel(&life.client);
	end_channel(&life.server);
	MUST(life.completed == life.accepted);
	if (life.guest != NULL)
		kmcl_bus_close(life.guest);
	if (life.handle != NULL)
		(void)kmcl_handle_close(life.handle);
	if (life.host != NULL)
		kmcl_bus_close(life.host);
	return whole;
}

int
main(int argc, char **argv)
{
	static const struct life lives[] = { { "versions", live_with_versions } };

	return life_main(argc, argv, lives, 1);
}
