/* SPDX-License-Identifier: MIT */
/* A server channel: answers what comes, and sends notes of its own at times. */
#include <stdlib.h>
#include <string.h>

#include "server.h"

#define NOTE_EVERY 12u

/* ---- callbacks ------------------------------------------------------------------------------------------------ */

static NTSTATUS
on_opened(VMBCHANNEL channel)
{
	struct chaos_service *s = VmbChannelGetPointer(channel);
	uint64_t stream = atomic_load(&s->journal->channels[s->index].stream);

	/* A channel that was taken over is told that it is open; it goes on where the other process stopped. */
	if (stream == 0) {
		s->receiver.stream = 0;
		stream = chaos_stream_begin(s->journal, s->place, s->life);
		atomic_store(&s->journal->channels[s->index].next, 0);
		atomic_store(&s->journal->channels[s->index].stream, stream);
	}
	s->notes.stream = stream;
	s->notes.next = atomic_load(&s->journal->channels[s->index].next);
	s->until_note = NOTE_EVERY;
	chaos_reach(s->journal, CHAOS_OPENING);
	return STATUS_SUCCESS;
}

static VOID
on_suspend(VMBCHANNEL channel)
{
	struct chaos_service *s = VmbChannelGetPointer(channel);

	chaos_receiver_let_go(&s->receiver);
}

static VOID
on_closed(VMBCHANNEL channel)
{
	struct chaos_service *s = VmbChannelGetPointer(channel);

	if (atomic_load(&s->notes.leaving))
		return;
	if (atomic_load(&s->notes.in_flight) != 0)
		chaos_complain(s->journal, "%u notes are under way although the channel is closed",
		               atomic_load(&s->notes.in_flight));
	chaos_stream_end(s->journal, s->notes.stream);
	atomic_store(&s->journal->channels[s->index].stream, 0);
}

/* One ProcessPacket at a time, so notes are in order. */
static VOID
on_packet(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 length, UINT32 flags)
{
	struct chaos_service *s = VmbChannelGetPointer(channel);

	if (!chaos_receive(&s->receiver, packet, buffer, length, flags) || --s->until_note != 0)
		return;
	s->until_note = NOTE_EVERY;
	if (atomic_load(&s->notes.in_flight) >= CHAOS_MOST_IN_FLIGHT)
		return;
	(void)chaos_send(&s->notes, &s->random,
	                 chaos_below(&s->random, 3) == 0 ? CHAOS_TELL : CHAOS_INLINE, 0);
	atomic_store(&s->journal->channels[s->index].next, s->notes.next);
}

static NTSTATUS
on_save_packet(VMBCHANNEL channel, VMBPACKET packet, PVOID buffer, UINT32 bytes, PUINT32 needed)
{
	UNREFERENCED_PARAMETER(channel);
	return chaos_save_packet(packet, buffer, bytes, needed);
}

static NTSTATUS
on_restore_packet(VMBCHANNEL channel, PVOID library, UINT32 library_bytes, PVOID buffer,
                  UINT32 bytes)
{
	struct chaos_service *s = VmbChannelGetPointer(channel);

	return chaos_restore_packet(&s->notes, library, library_bytes, buffer, bytes);
}

/* ---- life ----------------------------------------------------------------------------------------------------- */

static NTSTATUS
configure(struct chaos_service *s, HANDLE bus)
{
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;
	NTSTATUS status = VmbChannelAllocate(NULL, TRUE, &s->channel);

	if (!NT_SUCCESS(status))
		return status;
	VmbChannelSetPointer(s->channel, s);
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	callbacks.EvtChannelOpened = on_opened;
	callbacks.EvtChannelSuspend = on_suspend;
	callbacks.EvtChannelClosed = on_closed;
	status = VmbServerChannelInitSetVmbusHandle(s->channel, bus);
	if (NT_SUCCESS(status))
		status =
		    VmbServerChannelInitSetTargetInterfaceId(s->channel, CHAOS_TYPE, s->instance);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetStateChangeCallbacks(s->channel, &callbacks);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetProcessPacketCallbacks(s->channel, on_packet, NULL);
	if (NT_SUCCESS(status))
		status = VmbServerChannelInitSetSaveRestorePacketCallbacks(
		    s->channel, on_save_packet, on_restore_packet);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetMaximumPacketSize(
		    s->channel, sizeof(struct chaos_message) + CHAOS_MOST_BYTES);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetMaximumExternalData(s->channel, CHAOS_MOST_EXTERNAL, 2);
	return status;
}

void
chaos_serve(struct chaos_server *server)
{
	HANDLE handle = kmcl_bus_handle(server->bus);

	for (unsigned i = 0; i < server->count; i++) {
		struct chaos_service *s = &server->services[i];
		NTSTATUS status;

		chaos_receiver_start(&s->receiver, server->journal, s->random.state + 1);
		s->notes.journal = server->journal;
		atomic_store(&s->notes.leaving, false);
		atomic_store(&s->notes.in_flight, 0);
		status = configure(s, handle);
		if (NT_SUCCESS(status)) {
			s->notes.channel = s->channel;
			status = VmbChannelEnable(s->channel);
		}
		if (!NT_SUCCESS(status))
			chaos_server_fail(server, "cannot offer a channel", (unsigned)status);
	}
	(void)kmcl_handle_close(handle);
	for (unsigned i = 0; i < server->count; i++)
		VmbChannelStart(server->services[i].channel);
}

void
chaos_retire(struct chaos_server *server, bool leaving)
{
	for (unsigned i = 0; i < server->count; i++) {
		struct chaos_service *s = &server->services[i];
		struct kmcl_channel_stats stats;

		atomic_store(&s->notes.leaving, leaving);
		VmbChannelDisable(s->channel);
		kmcl_channel_get_stats(s->channel, &stats);
		chaos_check_misuses(server->journal, stats.misuses);
		VmbChannelCleanup(s->channel);
		chaos_receiver_stop(&s->receiver);
	}
}
