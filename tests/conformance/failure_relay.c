/* SPDX-License-Identifier: MIT */
/* The life of a channel whose server is behind a shared bus (see life.h). */
#include <stdio.h>
#include <string.h>

#include "life_channel.h"

static struct channels {
	struct kmcl_bus *host, *relay, *guest;
	HANDLE handle;
	GUID type;
	VMBCHANNEL server;
	struct life_client client;
} life;

static VOID
ServerProcessPacket(VMBCHANNEL Channel, VMBPACKETCOMPLETION Packet, PVOID Buffer,
                    UINT32 BufferLength, UINT32 Flags)
{
	UNREFERENCED_PARAMETER(Channel);
	UNREFERENCED_PARAMETER(Flags);
	VmbChannelPacketComplete(Packet, Buffer, BufferLength);
}

static bool
make_buses(void)
{
	const struct kmcl_share_options options = { .size = sizeof(options), .retry_ms = 10 };
	char relay_path[sizeof(life_path) + 2];

	(void)snprintf(relay_path, sizeof(relay_path), "%sr", life_path);
	if (!life_made(kmcl_bus_listen(life_path, NULL, &life.host)))
		return false;
	life.handle = kmcl_bus_handle(life.host);
	return life_got(life.handle) && life_made(kmcl_bus_listen(relay_path, NULL, &life.relay)) &&
	       life_made(kmcl_bus_share(life.relay, life_path, &options)) &&
	       life_made(kmcl_bus_connect(relay_path, NULL, &life.guest));
}

static bool
make_server(void)
{
	if (!life_done(VmbChannelAllocate(NULL, TRUE, &life.server)))
		return false;
	MUST(VmbServerChannelInitSetVmbusHandle(life.server, life.handle) == STATUS_SUCCESS);
	MUST(VmbServerChannelInitSetTargetInterfaceId(life.server, life.type, life.type) ==
	     STATUS_SUCCESS);
	MUST(VmbChannelInitSetProcessPacketCallbacks(life.server, ServerProcessPacket, NULL) ==
	     STATUS_SUCCESS);
	if (!life_done(VmbChannelEnable(life.server)))
		return false;
	VmbChannelStart(life.server);
	return true;
}

static void
request(void)
{
	ULONGLONG message = 7, answer = 0;
	UINT32 bytes = sizeof(answer);
	LARGE_INTEGER limit = { .QuadPart = -10000LL * LIFE_PATIENCE_MS };

	if (life_done(VmbChannelSendSynchronousRequest(
		life.client.channel, &message, sizeof(message), NULL,
		VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION, &answer, &bytes, &limit)))
		MUST(answer == message);
}

static void
talk(void)
{
	UCHAR *pool = ExAllocatePool2(POOL_FLAG_NON_PAGED, 4096, 'efil');
	UINT32 gpadl;

	request();
	if (pool != NULL &&
	    life_done(VmbChannelCreateGpadlFromBuffer(life.client.channel, 0, pool, 4096, &gpadl)))
		VmbChannelDeleteGpadl(life.client.channel, gpadl);
	request();
	if (pool != NULL)
		ExFreePoolWithTag(pool, 'efil');
}

static bool
live(void)
{
	bool whole;

	life = (struct channels){ .type = { 1, 2, 3, { 4 } } };
	whole = make_buses() && make_server() && life_open(&life.client, &life.type, 0);
	if (whole)
		talk();
	life_end(&life.client.channel);
	life_end(&life.server);
	if (life.guest != NULL)
		kmcl_bus_close(life.guest);
	if (life.relay != NULL)
		kmcl_bus_close(life.relay);
	if (life.handle != NULL)
		(void)kmcl_handle_close(life.handle);
	if (life.host != NULL)
		kmcl_bus_close(life.host);
	return whole;
}

int
main(int argc, char **argv)
{
	static const struct life lives[] = { { "relay", live } };

	return life_main(argc, argv, lives, 1);
}
