/* SPDX-License-Identifier: MIT */
/*
 * Honest channels: what drivers do, with counts of everything that must happen exactly once.
 */
#include <stdlib.h>
#include <string.h>

#include "scene.h"

#define TAG 0x74736F48u /* "Host" */
#define MEMORY_BYTES 8192u

static const GUID actor_type = {
	0x686f7374, 0x696c, 0x6520, { 0x70, 0x65, 0x65, 0x72, 0x20, 0x6b, 0x69, 0x74 }
};

static GUID
instance_of(uint32_t n)
{
	GUID guid = actor_type;

	guid.Data1 = n != 0 ? n : guid.Data1;
	return guid;
}

struct vmb_guid
actor_guid(uint32_t n)
{
	GUID guid = instance_of(n);
	struct vmb_guid wire;

	memcpy(&wire, &guid, sizeof(wire));
	return wire;
}

/* ---- callbacks -------------------------------------------------------------------------------- */

static NTSTATUS
opened(VMBCHANNEL channel)
{
	struct actor *a = VmbChannelGetPointer(channel);

	atomic_fetch_add(&a->opened, 1);
	return STATUS_SUCCESS;
}

static VOID
closed(VMBCHANNEL channel)
{
	struct actor *a = VmbChannelGetPointer(channel);

	if (a->gpadl != 0)
		VmbChannelDeleteGpadl(channel, a->gpadl);
	a->gpadl = 0;
	atomic_fetch_add(&a->closed, 1);
}

static VOID
started(VMBCHANNEL channel)
{
	struct actor *a = VmbChannelGetPointer(channel);

	atomic_fetch_add(&a->started, 1);
}

/* Reads every byte that the peer claims to have. */
static NTSTATUS
sum_external(VMBPACKETCOMPLETION packet, uint32_t *sum)
{
	PMDL chain = NULL;
	NTSTATUS status = VmbChannelPacketGetExternalData(packet, 0, &chain);

	*sum = 0;
	for (PMDL mdl = status == STATUS_SUCCESS ? chain : NULL; mdl != NULL; mdl = mdl->Next) {
		const volatile uint8_t *bytes =
		    MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);

		for (uint32_t i = 0; bytes != NULL && i < MmGetMdlByteCount(mdl); i++)
			*sum += bytes[i];
	}
	return status;
}

static VOID
process_packet(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes,
               UINT32 flags)
{
	struct actor *a = VmbChannelGetPointer(channel);
	uint32_t answer[2];

	atomic_fetch_add(&a->received, 1);
	if ((flags & VMBUS_CHANNEL_PROCESS_PACKET_FLAG_EXTERNAL_DATA) == 0) {
		VmbChannelPacketComplete(packet, buffer, bytes);
		return;
	}
	answer[0] = (uint32_t)sum_external(packet, &answer[1]);
	VmbChannelPacketComplete(packet, answer, sizeof(answer));
}

static VOID
send_done(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	struct sent *sent = VmbPacketGetPointer(packet);

	(void)buffer, (void)bytes;
	atomic_store(&sent->status, status);
	atomic_fetch_add(&sent->done, 1);
}

/* ---- life ------------------------------------------------------------------------------------- */

#define MUST(call) REQUIRE((call) == STATUS_SUCCESS)

static void
configure(struct actor *a, bool server)
{
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;

	memset(a, 0, sizeof(*a));
	a->is_server = server;
	MUST(VmbChannelAllocate(NULL, server, &a->handle));
	VmbChannelSetPointer(a->handle, a);
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	callbacks.EvtChannelOpened = opened;
	callbacks.EvtChannelClosed = closed;
	callbacks.EvtChannelPostStarted = started;
	MUST(VmbChannelInitSetStateChangeCallbacks(a->handle, &callbacks));
	MUST(VmbChannelInitSetProcessPacketCallbacks(a->handle, process_packet, NULL));
	MUST(VmbChannelInitSetMaximumPacketSize(a->handle, MAX_PACKET));
	MUST(VmbChannelInitSetMaximumExternalData(a->handle, 64u << 10, 8));
}

void
actor_server(struct actor *a, HANDLE bus, uint32_t n)
{
	configure(a, true);
	MUST(VmbServerChannelInitSetTargetInterfaceId(a->handle, actor_type, instance_of(n)));
	MUST(VmbServerChannelInitSetVmbusHandle(a->handle, bus));
	MUST(VmbChannelEnable(a->handle));
	VmbChannelStart(a->handle);
}

void
actor_client(struct actor *a, uint32_t n, struct kmcl_loop *loop)
{
	GUID type = actor_type, instance = instance_of(n);

	configure(a, false);
	MUST(VmbClientChannelInitSetTargetPnp(a->handle, &type, &instance, NULL));
	MUST(VmbClientChannelInitSetRingBufferPageCount(a->handle, RING_PAGES, RING_PAGES));
	MUST(kmcl_channel_set_loop(a->handle, loop));
	MUST(VmbChannelEnable(a->handle));
}

void
actor_free(struct actor *a)
{
	if (a->handle == NULL)
		return;
	VmbChannelDisable(a->handle);
	REQUIRE(atomic_load(&a->opened) == atomic_load(&a->closed));
	actor_expect_sent(a);
	for (uint32_t i = 0; i < a->sent_count; i++)
		VmbPacketFree(a->sent[i].packet);
	VmbChannelCleanup(a->handle);
	if (a->mdl != NULL)
		IoFreeMdl(a->mdl);
	if (a->memory != NULL)
		ExFreePoolWithTag(a->memory, TAG);
	memset(a, 0, sizeof(*a));
}

const char *
actor_failure(struct actor *a, char text[256])
{
	text[0] = '\0';
	if (a->handle != NULL)
		kmcl_channel_get_failure(a->handle, text, 256);
	return text;
}

/* ---- traffic ---------------------------------------------------------------------------------- */

void
actor_send(struct actor *a)
{
	uint64_t payload[2] = { 1, 2 };

	if (!a->is_server) {
		a->memory = ExAllocatePool2(POOL_FLAG_NON_PAGED, MEMORY_BYTES, TAG);
		REQUIRE(a->memory != NULL);
		a->mdl = IoAllocateMdl(a->memory, MEMORY_BYTES, FALSE, FALSE, NULL);
		REQUIRE(a->mdl != NULL);
		MmBuildMdlForNonPagedPool(a->mdl);
	}
	for (uint32_t i = 0; i < SENDS; i++) {
		struct sent *sent = &a->sent[i];

		sent->actor = a;
		sent->packet = VmbPacketAllocate(a->handle);
		REQUIRE(sent->packet != NULL);
		VmbPacketSetPointer(sent->packet, sent);
		VmbPacketSetCompletionRoutine(sent->packet, send_done);
		MUST(VmbPacketSend(sent->packet, payload, sizeof(payload), a->mdl,
		                   VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION));
		a->sent_count = i + 1;
	}
}

void
actor_expect_sent(struct actor *a)
{
	for (uint32_t i = 0; i < a->sent_count; i++)
		AWAIT(atomic_load(&a->sent[i].done) != 0);
	for (uint32_t i = 0; i < a->sent_count; i++)
		REQUIRE(atomic_load(&a->sent[i].done) == 1);
}

NTSTATUS
actor_try_echo(struct actor *a)
{
	uint64_t question[4] = { 3, 1, 4, 1 }, answer[4] = { 0 };
	UINT32 bytes = sizeof(answer);
	NTSTATUS status = VmbChannelSendSynchronousRequest(
	    a->handle, question, sizeof(question), NULL,
	    VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION, answer, &bytes, NULL);

	if (status == STATUS_SUCCESS &&
	    (bytes != sizeof(answer) || memcmp(question, answer, sizeof(answer)) != 0))
		return STATUS_DATA_ERROR;
	return status;
}

void
actor_echo(struct actor *a)
{
	MUST(actor_try_echo(a));
}
