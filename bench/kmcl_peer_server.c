/* SPDX-License-Identifier: MIT */
/* The server process of kmcl_peer: echoes requests, or looks at external data where it lies. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "kmcl_peer.h"

const GUID PEER_INTERFACE_TYPE = {
	0x2ce1a7d4, 0x90b3, 0x4d6e, { 0x8f, 0x51, 0x3b, 0xc4, 0x07, 0xe9, 0xd2, 0x6a }
};
const GUID PEER_INSTANCE = {
	0xe47b3f19, 0x5a6c, 0x4812, { 0xb0, 0xd7, 0x84, 0x2a, 0x6f, 0x1e, 0x93, 0xc5 }
};

NTSTATUS
peer_configure(VMBCHANNEL channel, const struct bench_job *job, struct kmcl_loop **loop)
{
	struct kmcl_loop_options options = { .size = sizeof(options), .spin_us = job->spin_us };
	NTSTATUS status = STATUS_SUCCESS;

	if (job->kind != BENCH_EXTERNAL && job->bytes > 4096)
		status = VmbChannelInitSetMaximumPacketSize(channel, (UINT32)job->bytes);
	if (job->kind == BENCH_EXTERNAL && job->bytes > 1024 * 1024)
		status = VmbChannelInitSetMaximumExternalData(channel, (UINT32)job->bytes, 32);
	if (NT_SUCCESS(status))
		status = kmcl_loop_create(&options, loop) == VMB_OK
		             ? kmcl_channel_set_loop(channel, *loop)
		             : STATUS_INSUFFICIENT_RESOURCES;
	return status;
}

void
peer_place(const struct bench_job *job, unsigned int index, bool before_loop)
{
	if ((job->placement == BENCH_ONE_CPU) == before_loop)
		bench_place(job->placement, index);
}

static VOID
echo(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 length, UINT32 flags)
{
	UNREFERENCED_PARAMETER(channel);
	UNREFERENCED_PARAMETER(flags);
	VmbChannelPacketComplete(packet, buffer, length);
}

/* Transfers here are one contiguous buffer each; an empty answer says that something is wrong. */
static VOID
look(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 length, UINT32 flags)
{
	const struct bench_job *job = VmbChannelGetPointer(channel);
	const void *data = NULL;
	uint64_t digest;
	PMDL mdl;

	UNREFERENCED_PARAMETER(buffer);
	UNREFERENCED_PARAMETER(length);
	UNREFERENCED_PARAMETER(flags);
	if (VmbChannelPacketGetExternalData(packet,
	                                    VMBUS_CHANNEL_PACKET_EXTERNAL_DATA_FLAG_READ_ONLY,
	                                    &mdl) == STATUS_SUCCESS &&
	    mdl->Next == NULL && MmGetMdlByteCount(mdl) == job->bytes)
		data = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
	if (data == NULL) {
		VmbChannelPacketComplete(packet, NULL, 0);
		return;
	}
	digest = bench_digest(job, data);
	VmbChannelPacketComplete(packet, &digest, sizeof(digest));
}

static NTSTATUS
offer(struct kmcl_bus *bus, const struct bench_job *job, VMBCHANNEL *channel,
      struct kmcl_loop **loop)
{
	HANDLE handle = kmcl_bus_handle(bus);
	NTSTATUS status = VmbChannelAllocate(NULL, TRUE, channel);

	if (NT_SUCCESS(status))
		status = VmbServerChannelInitSetVmbusHandle(*channel, handle);
	if (NT_SUCCESS(status))
		status = VmbServerChannelInitSetTargetInterfaceId(*channel, PEER_INTERFACE_TYPE,
		                                                  PEER_INSTANCE);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetProcessPacketCallbacks(
		    *channel, job->kind == BENCH_EXTERNAL ? look : echo, NULL);
	if (NT_SUCCESS(status))
		status = peer_configure(*channel, job, loop);
	if (NT_SUCCESS(status)) {
		VmbChannelSetPointer(*channel, (PVOID)(uintptr_t)job);
		status = VmbChannelEnable(*channel);
	}
	if (NT_SUCCESS(status))
		VmbChannelStart(*channel);
	kmcl_handle_close(handle);
	return status;
}

static void
answer_control(int control, VMBCHANNEL channel)
{
	struct kmcl_channel_stats stats;
	char byte;

	while (read(control, &byte, 1) == 1) {
		kmcl_channel_get_stats(channel, &stats);
		if (write(control, &stats, sizeof(stats)) != (ssize_t)sizeof(stats))
			bench_die("write in the server");
	}
}

int
peer_serve(const char *path, int control, const struct bench_job *job)
{
	struct kmcl_bus *bus;
	struct kmcl_loop *loop;
	VMBCHANNEL channel;
	NTSTATUS status;

	peer_place(job, 1, true);
	if (kmcl_bus_listen(path, NULL, &bus) != VMB_OK)
		bench_die(path);
	status = offer(bus, job, &channel, &loop);
	if (!NT_SUCCESS(status)) {
		(void)fprintf(stderr, "cannot offer a channel: status 0x%08x\n", (unsigned)status);
		return EXIT_FAILURE;
	}
	peer_place(job, 1, false);
	if (write(control, "", 1) != 1)
		bench_die("write in the server");
	answer_control(control, channel);
	VmbChannelDisable(channel);
	VmbChannelCleanup(channel);
	kmcl_loop_destroy(loop);
	kmcl_bus_close(bus);
	return EXIT_SUCCESS;
}
