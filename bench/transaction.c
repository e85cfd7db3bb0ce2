/* SPDX-License-Identifier: MIT */
/*
 * Whole transactions of the API in one thread, for counting instructions under callgrind: a client
 * and a server channel on the loopback bus, whose loops this thread drives by turns.
 *
 *	transaction inband PAYLOAD COUNT DEPTH     a request and its answer of the same size
 *	transaction external BYTES COUNT DEPTH     8 bytes each way; the server maps and touches
 *
 * What completes a request sends the next one, DEPTH are in flight. Nothing polls, so the work for
 * a batch (a turn of each loop, a signal) is shared by DEPTH of them.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kmcl.h"

#define MAX_PAYLOAD 4096u
#define MAX_EXTERNAL (1u << 20)
#define MAX_DEPTH 256u
#define POOL_TAG 'cneB'

static const GUID type = {
	0xb3a0e58c, 0x1d74, 0x4f62, { 0x8c, 0x0e, 0x65, 0xd9, 0x3b, 0xf1, 0x47, 0x20 }
};
static const GUID instance = {
	0x6e91c4d2, 0xf853, 0x4b07, { 0x9a, 0x41, 0xd6, 0x28, 0x7c, 0x50, 0xbe, 0x13 }
};

static struct {
	uint64_t started, ended, count;
	uint8_t request[MAX_PAYLOAD];
	uint32_t request_bytes;
	PMDL mdl; /* NULL: in band */
} flow;

static void
check(NTSTATUS status, const char *what)
{
	if (NT_SUCCESS(status))
		return;
	(void)fprintf(stderr, "transaction: %s: status 0x%08x\n", what, (unsigned)status);
	exit(EXIT_FAILURE);
}

static VOID
serve(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 length, UINT32 flags)
{
	UNREFERENCED_PARAMETER(channel);
	if ((flags & VMBUS_CHANNEL_PROCESS_PACKET_FLAG_EXTERNAL_DATA) != 0) {
		const volatile uint8_t *data;
		PMDL mdl;

		check(VmbChannelPacketGetExternalData(
			  packet, VMBUS_CHANNEL_PACKET_EXTERNAL_DATA_FLAG_READ_ONLY, &mdl),
		      "external data");
		data = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
		if (data == NULL || data[0] != 1)
			check(STATUS_DATA_ERROR, "external data");
	}
	VmbChannelPacketComplete(packet, buffer, length);
}

static void
send_next(VMBPACKET packet)
{
	if (flow.started == flow.count)
		return;
	flow.started++;
	if (flow.mdl != NULL)
		check(VmbPacketSendWithExternalMdl(packet, flow.request, flow.request_bytes,
		                                   flow.mdl, 0, 0,
		                                   VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION),
		      "send");
	else
		check(VmbPacketSend(packet, flow.request, flow.request_bytes, NULL,
		                    VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION),
		      "send");
}

static VOID
done(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	UNREFERENCED_PARAMETER(buffer);
	check(status, "completion");
	if (bytes != flow.request_bytes)
		check(STATUS_DATA_ERROR, "completion");
	flow.ended++;
	send_next(packet);
}

static VMBCHANNEL
open_channel(bool is_server, struct kmcl_loop *loop)
{
	VMBCHANNEL channel;

	check(VmbChannelAllocate(NULL, is_server, &channel), "allocate");
	if (is_server) {
		check(VmbServerChannelInitSetTargetInterfaceId(channel, type, instance), "target");
		check(VmbServerChannelInitSetFlags(channel,
		                                   VMBUS_SERVER_CHANNEL_INIT_FLAG_LOOPBACK_OFFER),
		      "flags");
		check(VmbChannelInitSetProcessPacketCallbacks(channel, serve, NULL), "callbacks");
	} else {
		check(VmbClientChannelInitSetTargetPnp(channel, &type, &instance, NULL), "target");
	}
	check(kmcl_channel_set_loop(channel, loop), "loop");
	check(VmbChannelEnable(channel), "enable");
	if (is_server)
		VmbChannelStart(channel);
	return channel;
}

static struct kmcl_loop *
make_loop(void)
{
	struct kmcl_loop_options options = { .size = sizeof(options),
		                             .host_driven = true,
		                             .spin_us = UINT32_MAX };
	struct kmcl_loop *loop;

	if (kmcl_loop_create(&options, &loop) != VMB_OK)
		check(STATUS_INSUFFICIENT_RESOURCES, "loop");
	return loop;
}

static void *
make_external(uint32_t bytes)
{
	void *data = ExAllocatePoolWithTag(NonPagedPoolNx, bytes, POOL_TAG);

	if (data == NULL)
		check(STATUS_INSUFFICIENT_RESOURCES, "pool");
	memset(data, 1, bytes);
	flow.mdl = IoAllocateMdl(data, bytes, FALSE, FALSE, NULL);
	if (flow.mdl == NULL)
		check(STATUS_INSUFFICIENT_RESOURCES, "MDL");
	MmBuildMdlForNonPagedPool(flow.mdl);
	return data;
}

static void
run(VMBCHANNEL client, uint32_t depth, struct kmcl_loop *client_loop, struct kmcl_loop *server_loop)
{
	VMBPACKET packets[MAX_DEPTH];

	for (uint32_t i = 0; i < depth; i++) {
		packets[i] = VmbPacketAllocate(client);
		if (packets[i] == NULL)
			check(STATUS_INSUFFICIENT_RESOURCES, "packet");
		VmbPacketSetCompletionRoutine(packets[i], done);
	}
	for (uint32_t i = 0; i < depth; i++)
		send_next(packets[i]);
	while (flow.ended < flow.count) {
		kmcl_loop_run(server_loop, -1);
		kmcl_loop_run(client_loop, -1);
	}
	for (uint32_t i = 0; i < depth; i++)
		VmbPacketFree(packets[i]);
}

int
main(int argc, char **argv)
{
	bool external = argc == 5 && strcmp(argv[1], "external") == 0;
	bool inband = argc == 5 && strcmp(argv[1], "inband") == 0;
	unsigned long bytes = external || inband ? strtoul(argv[2], NULL, 10) : 0;
	unsigned long depth = bytes != 0 ? strtoul(argv[4], NULL, 10) : 0;
	struct kmcl_loop *client_loop, *server_loop;
	VMBCHANNEL server, client;
	void *data = NULL;

	if (bytes < 8 || bytes > (external ? MAX_EXTERNAL : MAX_PAYLOAD) || bytes % 8 != 0 ||
	    depth == 0 || depth > MAX_DEPTH) {
		(void)fprintf(
		    stderr,
		    "usage: %s inband PAYLOAD COUNT DEPTH\n"
		    "       %s external BYTES COUNT DEPTH\n"
		    "bytes are multiples of 8, up to %u in band and %u external; DEPTH up to %u\n",
		    argv[0], argv[0], MAX_PAYLOAD, MAX_EXTERNAL, MAX_DEPTH);
		return 2;
	}
	flow.count = strtoull(argv[3], NULL, 10);
	flow.request_bytes = external ? 8 : (uint32_t)bytes;
	server_loop = make_loop();
	client_loop = make_loop();
	server = open_channel(true, server_loop);
	client = open_channel(false, client_loop);
	if (external)
		data = make_external((uint32_t)bytes);
	run(client, (uint32_t)depth, client_loop, server_loop);
	if (external) {
		IoFreeMdl(flow.mdl);
		ExFreePoolWithTag(data, POOL_TAG);
	}
	VmbChannelDisable(client);
	VmbChannelCleanup(client);
	VmbChannelDisable(server);
	VmbChannelCleanup(server);
	kmcl_loop_destroy(client_loop);
	kmcl_loop_destroy(server_loop);
	(void)printf("{\"count\": %llu}\n", (unsigned long long)flow.ended);
	return EXIT_SUCCESS;
}
