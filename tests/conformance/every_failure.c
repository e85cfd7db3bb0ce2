/* SPDX-License-Identifier: MIT */
/* The life of a pair of channels, over the loopback bus and over a socket (see life.h). */
#include <string.h>

#include "life_channel.h"

enum command {
	COMMAND_ECHO,
	COMMAND_DEFER,
	COMMAND_MAP,
	COMMAND_NOTIFY,
};

struct message {
	UINT32 command;
	UINT32 gpadl;
};

struct channels {
	bool unix_port;
	struct kmcl_bus *host, *guest;
	HANDLE handle;
	GUID type;
	VMBCHANNEL server;
	struct life_client client;
	LONG accepted, completed;
	VMBPACKET packets[8];
	UCHAR buffer[8192];
	UCHAR context[64];
};

static struct channels life;

/* ---- the driver ------------------------------------------------------------------------------------------ */

static VOID
PacketCompleted(VMBPACKET Packet, NTSTATUS Status, PVOID Buffer, UINT32 BufferLength)
{
	UNREFERENCED_PARAMETER(Buffer);
	UNREFERENCED_PARAMETER(BufferLength);
	MUST(Status == STATUS_SUCCESS || Status == STATUS_DEVICE_REMOVED);
	InterlockedIncrement(&life.completed);
	VmbPacketFree(Packet);
}

static VOID
ServerMapsGpadl(UINT32 Gpadl)
{
	PMDL mdl;

	if (VmbChannelMapGpadl(life.server, 0, Gpadl, &mdl) != STATUS_SUCCESS)
		return;
	(VOID)MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
	VmbChannelUnmapGpadl(life.server, Gpadl);
}

static VOID
ServerNotifies(VOID)
{
	VMBPACKET packet = VmbPacketAllocate(life.server);
	ULONGLONG note = 1;

	if (packet == NULL)
		return;
	VmbPacketSetCompletionRoutine(packet, PacketCompleted);
	InterlockedIncrement(&life.accepted);
	if (VmbPacketSend(packet, &note, sizeof(note), NULL,
	                  VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION) != STATUS_SUCCESS) {
		InterlockedDecrement(&life.accepted);
		VmbPacketFree(packet);
	}
}

static VOID
ServerProcessPacket(VMBCHANNEL Channel, VMBPACKETCOMPLETION Packet, PVOID Buffer, UINT32 BufferLength,
                    UINT32 Flags)
{
	const struct message *message = Buffer;
	PMDL mdl;

	UNREFERENCED_PARAMETER(Channel);
	if ((Flags & VMBUS_CHANNEL_PROCESS_PACKET_FLAG_EXTERNAL_DATA) != 0 &&
	    VmbChannelPacketGetExternalData(Packet, 0, &mdl) == STATUS_SUCCESS) {
		UCHAR *data = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);

		if (data != NULL)
			data[0] ^= 1;
	}
	if (message->command != COMMAND_ECHO && KeGetCurrentIrql() == DISPATCH_LEVEL) {
		VmbChannelPacketDeferToPassive(Packet);
		return;
	}
	if (message->command == COMMAND_MAP)
		ServerMapsGpadl(message->gpadl);
	if (message->command == COMMAND_NOTIFY)
		ServerNotifies();
	VmbChannelPacketComplete(Packet, Buffer, BufferLength);
}

/* ---- steps of a life ---------------------------------------------------------------------------------------- */

static bool
make_bus(void)
{
	if (!life.unix_port)
		return true;
	if (!life_made(kmcl_bus_listen(life_path, NULL, &life.host)))
		return false;
	life.handle = kmcl_bus_handle(life.host);
	return life_got(life.handle) && life_made(kmcl_bus_connect(life_path, NULL, &life.guest));
}

static bool
make_server(void)
{
	DECLARE_CONST_UNICODE_STRING(name, u"life");

	if (!life_done(VmbChannelAllocate(NULL, TRUE, &life.server)))
		return false;
	if (life.handle != NULL)
		MUST(VmbServerChannelInitSetVmbusHandle(life.server, life.handle) == STATUS_SUCCESS);
	else
		MUST(VmbServerChannelInitSetFlags(
		             life.server, VMBUS_SERVER_CHANNEL_INIT_FLAG_LOOPBACK_OFFER) ==
		     STATUS_SUCCESS);
	MUST(VmbServerChannelInitSetTargetInterfaceId(life.server, life.type, life.type) ==
	     STATUS_SUCCESS);
	MUST(VmbChannelInitSetProcessPacketCallbacks(life.server, ServerProcessPacket, NULL) ==
	     STATUS_SUCCESS);
	(void)life_done(VmbChannelInitSetFriendlyName(life.server, &name));
	if (!life_done(VmbChannelEnable(life.server)))
		return false;
	VmbChannelStart(life.server);
	return true;
}

/* A request with an answer; with `external` bytes of `data` that the server changes. */
static void
request(enum command command, UINT32 gpadl, PMDL mdl)
{
	struct message message = { .command = command, .gpadl = gpadl };
	struct message answer;
	UINT32 bytes = sizeof(answer);
	LARGE_INTEGER limit = { .QuadPart = -10000LL * LIFE_PATIENCE_MS };

	if (life_done(VmbChannelSendSynchronousRequest(life.client.channel, &message, sizeof(message), mdl,
	                                          VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION,
	                                          &answer, &bytes, &limit)))
		MUST(bytes == 0 || memcmp(&answer, &message, sizeof(answer)) == 0);
}

static void
request_with(void *data, ULONG bytes)
{
	PMDL mdl = IoAllocateMdl(data, bytes, FALSE, FALSE, NULL);

	if (mdl == NULL)
		return;
	if (KmclProbeAndLockPages(mdl, KernelMode, IoModifyAccess) == STATUS_SUCCESS) {
		request(COMMAND_ECHO, 0, mdl);
		MmUnlockPages(mdl);
	}
	IoFreeMdl(mdl);
}

static void
send_some(UCHAR *pool)
{
	struct message message = { .command = COMMAND_ECHO };
	PMDL mdl = pool != NULL ? IoAllocateMdl(pool, 4096, FALSE, FALSE, NULL) : NULL;

	if (mdl != NULL)
		MmBuildMdlForNonPagedPool(mdl);

	for (unsigned i = 0; i < 8; i++) {
		VMBPACKET packet = VmbPacketAllocate(life.client.channel);
		NTSTATUS status;

		if (packet == NULL) {
			MUST(failing_hit());
			continue;
		}
		VmbPacketSetCompletionRoutine(packet, PacketCompleted);
		InterlockedIncrement(&life.accepted);
		if (i % 2 != 0 && mdl != NULL) {
			status = VmbPacketSendWithExternalPfns(
			        packet, &message, sizeof(message), MmGetMdlPfnArray(mdl), 1,
			        VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION);
		} else {
			status = VmbPacketSend(packet, &message, sizeof(message), NULL,
			                       VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION);
		}
		if (!life_done(status)) {
			InterlockedDecrement(&life.accepted);
			VmbPacketFree(packet);
		}
	}
	if (mdl != NULL)
		IoFreeMdl(mdl);
}

static void
share(UCHAR *pool)
{
	UINT32 gpadl;

	if (life_done(VmbChannelCreateGpadlFromBuffer(life.client.channel, 0, pool, 4096, &gpadl))) {
		request(COMMAND_MAP, gpadl, NULL);
		VmbChannelDeleteGpadl(life.client.channel, gpadl);
	}
}

static void
talk(void)
{
	UCHAR *pool = ExAllocatePool2(POOL_FLAG_NON_PAGED, 4096, 'efil');

	request(COMMAND_ECHO, 0, NULL);
	request(COMMAND_DEFER, 0, NULL);
	request_with(life.buffer, sizeof(life.buffer));
	if (pool != NULL) {
		request_with(pool, 4096);
		share(pool);
	}
	request(COMMAND_NOTIFY, 0, NULL);
	send_some(pool);
	VmbChannelPause(life.server);
	VmbChannelStart(life.server);
	request(COMMAND_ECHO, 0, NULL);
	if (pool != NULL)
		ExFreePoolWithTag(pool, 'efil');
}

static bool
live(bool unix_port)
{
	bool whole;

	life = (struct channels){ .unix_port = unix_port, .type = { 1, 2, 3, { 4 } } };
	whole = make_bus() && make_server() && life_open(&life.client, &life.type, 64);
	if (whole)
		talk();
	life_end(&life.client.channel);
	life_end(&life.server);
	MUST(life.accepted == life.completed);
	if (life.guest != NULL)
		kmcl_bus_close(life.guest);
	if (life.handle != NULL)
		(void)kmcl_handle_close(life.handle);
	if (life.host != NULL)
		kmcl_bus_close(life.host);
	return whole;
}

static bool
live_loopback(void)
{
	return live(false);
}

static bool
live_unix(void)
{
	return live(true);
}

int
main(int argc, char **argv)
{
	static const struct life lives[] = { { "loopback", live_loopback }, { "unix", live_unix } };

	return life_main(argc, argv, lives, 2);
}
