/* SPDX-License-Identifier: MIT */
/* The block device's client: asks the disk what it is, and turns transfers into packets with external data. */
#include <initguid.h>

#include "blockclient.h"

#define BLOCKCLIENT_TAG 'lClB'
#define BLOCKCLIENT_IDENTIFY_100NS (10LL * 10000000)

typedef struct _BLOCKCLIENT {
	VMBCHANNEL Channel;
	KEVENT Settled;       /* Identity and IdentifyStatus say how it is */
	KSPIN_LOCK Lock;
	BLOCKDEV_IDENTITY Identity;
	NTSTATUS IdentifyStatus;
	LONG64 volatile NextId;
} BLOCKCLIENT;

/* ---- the channel's states --------------------------------------------------------------------- */

static VOID
BlockClientSettle(PBLOCKCLIENT Client, NTSTATUS Status, const BLOCKDEV_IDENTITY *Identity)
{
	KIRQL irql;

	KeAcquireSpinLock(&Client->Lock, &irql);
	Client->IdentifyStatus = Status;
	if (Identity != NULL)
		Client->Identity = *Identity;
	KeReleaseSpinLock(&Client->Lock, irql);
	KeSetEvent(&Client->Settled, IO_NO_INCREMENT, FALSE);
}

/* The server is no more trusted than it need be: what it says must make sense. */
static NTSTATUS
BlockClientCheckIdentity(const BLOCKDEV_IDENTITY *Identity, UINT32 Size, UINT64 Id)
{
	if (Size < sizeof(BLOCKDEV_RESPONSE) || Identity->Response.Id != Id)
		return STATUS_DEVICE_PROTOCOL_ERROR;
	if (!NT_SUCCESS(Identity->Response.Status))
		return Identity->Response.Status;
	if (Size != sizeof(*Identity) || Identity->BlockBytes != BLOCKDEV_BLOCK_BYTES ||
	    Identity->Bytes == 0 || Identity->Bytes % BLOCKDEV_BLOCK_BYTES != 0 ||
	    Identity->MaximumTransfer < BLOCKDEV_BLOCK_BYTES)
		return STATUS_DEVICE_PROTOCOL_ERROR;
	return STATUS_SUCCESS;
}

static EVT_VMB_CHANNEL_POST_STARTED BlockClientPostStarted;
static EVT_VMB_CHANNEL_CLOSED BlockClientClosed;
static EVT_VMB_CHANNEL_PNP_FAILURE BlockClientPnpFailure;
static EVT_VMB_PACKET_COMPLETION_ROUTINE BlockClientCompleted;

static VOID
BlockClientPostStarted(VMBCHANNEL Channel)
{
	PBLOCKCLIENT client = (PBLOCKCLIENT)VmbChannelGetPointer(Channel);
	BLOCKDEV_IDENTITY identity;
	BLOCKDEV_REQUEST request;
	LARGE_INTEGER timeout;
	UINT32 size = sizeof(identity);
	NTSTATUS status;

	RtlZeroMemory(&identity, sizeof(identity));
	RtlZeroMemory(&request, sizeof(request));
	request.Version = BLOCKDEV_PROTOCOL_VERSION;
	request.Operation = BlockdevIdentify;
	request.Id = (UINT64)InterlockedIncrement64(&client->NextId);
	timeout.QuadPart = -BLOCKCLIENT_IDENTIFY_100NS;
	status = VmbChannelSendSynchronousRequest(Channel, &request, sizeof(request), NULL,
	                                          VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION,
	                                          &identity, &size, &timeout);
	if (status == STATUS_CANCELLED)
		status = STATUS_IO_TIMEOUT;
	if (NT_SUCCESS(status))
		status = BlockClientCheckIdentity(&identity, size, request.Id);
	BlockClientSettle(client, status, &identity);
}

static VOID
BlockClientClosed(VMBCHANNEL Channel)
{
	BlockClientSettle((PBLOCKCLIENT)VmbChannelGetPointer(Channel), STATUS_DEVICE_REMOVED, NULL);
}

static VOID
BlockClientPnpFailure(VMBCHANNEL Channel, NTSTATUS FailureStatus)
{
	BlockClientSettle((PBLOCKCLIENT)VmbChannelGetPointer(Channel), FailureStatus, NULL);
}

static NTSTATUS
BlockClientConfigure(PBLOCKCLIENT Client, LPCGUID Instance)
{
	DECLARE_CONST_UNICODE_STRING(name, L"blockclient");
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;
	VMBCHANNEL channel = Client->Channel;
	NTSTATUS status;

	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	callbacks.EvtChannelPostStarted = BlockClientPostStarted;
	callbacks.EvtChannelClosed = BlockClientClosed;
	status = VmbChannelInitSetStateChangeCallbacks(channel, &callbacks);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetMaximumPacketSize(channel, sizeof(BLOCKDEV_IDENTITY));
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetMaximumExternalData(channel, BLOCKDEV_MAXIMUM_TRANSFER,
		                                              BLOCKDEV_MAXIMUM_RANGES);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetFriendlyName(channel, &name);
	/* Without an instance it is the device object that says which offer. */
	if (NT_SUCCESS(status) && Instance != NULL)
		status = VmbClientChannelInitSetTargetPnp(channel, &BLOCKDEV_INTERFACE_TYPE,
		                                          Instance, BlockClientPnpFailure);
	VmbChannelSetPointer(channel, Client);
	return status;
}

NTSTATUS
BlockClientOpen(PDEVICE_OBJECT Pdo, LPCGUID Instance, PBLOCKCLIENT *Client)
{
	PBLOCKCLIENT client;
	NTSTATUS status;

	*Client = NULL;
	client = (PBLOCKCLIENT)ExAllocatePoolWithTag(NonPagedPoolNx, sizeof(*client),
	                                             BLOCKCLIENT_TAG);
	if (client == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	RtlZeroMemory(client, sizeof(*client));
	KeInitializeSpinLock(&client->Lock);
	KeInitializeEvent(&client->Settled, NotificationEvent, FALSE);
	status = VmbChannelAllocate(Pdo, FALSE, &client->Channel);
	if (!NT_SUCCESS(status)) {
		ExFreePoolWithTag(client, BLOCKCLIENT_TAG);
		return status;
	}
	status = BlockClientConfigure(client, Instance);
	if (NT_SUCCESS(status))
		status = VmbChannelEnable(client->Channel);
	if (!NT_SUCCESS(status)) {
		BlockClientClose(client);
		return status;
	}
	*Client = client;
	return STATUS_SUCCESS;
}

VOID
BlockClientDisconnect(PBLOCKCLIENT Client)
{
	VmbChannelDisable(Client->Channel);
	BlockClientSettle(Client, STATUS_DEVICE_REMOVED, NULL);
}

VOID
BlockClientClose(PBLOCKCLIENT Client)
{
	VmbChannelDisable(Client->Channel);
	VmbChannelCleanup(Client->Channel);
	ExFreePoolWithTag(Client, BLOCKCLIENT_TAG);
}

NTSTATUS
BlockClientIdentify(PBLOCKCLIENT Client, PBLOCKDEV_IDENTITY Identity, PLARGE_INTEGER Timeout)
{
	NTSTATUS status;
	KIRQL irql;

	if (KeWaitForSingleObject(&Client->Settled, Executive, KernelMode, FALSE, Timeout) !=
	    STATUS_SUCCESS)
		return STATUS_DEVICE_NOT_READY;
	KeAcquireSpinLock(&Client->Lock, &irql);
	status = Client->IdentifyStatus;
	*Identity = Client->Identity;
	KeReleaseSpinLock(&Client->Lock, irql);
	return status;
}

/* ---- requests --------------------------------------------------------------------------------- */

static VOID
BlockClientCompleted(VMBPACKET Packet, NTSTATUS Status, PVOID Buffer, UINT32 BufferLength)
{
	PBLOCKCLIENT_REQUEST request = (PBLOCKCLIENT_REQUEST)VmbPacketGetPointer(Packet);
	const BLOCKDEV_RESPONSE *response = (const BLOCKDEV_RESPONSE *)Buffer;

	if (!NT_SUCCESS(Status))
		request->Status = Status;
	else if (BufferLength != sizeof(*response) || response->Id != request->Wire.Id)
		request->Status = STATUS_DEVICE_PROTOCOL_ERROR;
	else if (NT_SUCCESS(response->Status) && response->Length != request->Wire.Length)
		request->Status = STATUS_DEVICE_PROTOCOL_ERROR;
	else
		request->Status = response->Status;
	request->Done(request);
}

NTSTATUS
BlockClientInitializeRequest(PBLOCKCLIENT Client, PBLOCKCLIENT_REQUEST Request)
{
	RtlZeroMemory(Request, sizeof(*Request));
	Request->Client = Client;
	Request->Packet = VmbPacketAllocate(Client->Channel);
	if (Request->Packet == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	VmbPacketSetPointer(Request->Packet, Request);
	VmbPacketSetCompletionRoutine(Request->Packet, BlockClientCompleted);
	return STATUS_SUCCESS;
}

VOID
BlockClientReleaseRequest(PBLOCKCLIENT_REQUEST Request)
{
	VmbPacketFree(Request->Packet);
	Request->Packet = NULL;
}

NTSTATUS
BlockClientSubmit(PBLOCKCLIENT_REQUEST Request, BLOCKDEV_OPERATION Operation, UINT64 Offset,
                  PMDL Mdl, UINT32 MdlOffset, UINT32 Length)
{
	PBLOCKDEV_REQUEST wire = &Request->Wire;

	RtlZeroMemory(wire, sizeof(*wire));
	wire->Version = BLOCKDEV_PROTOCOL_VERSION;
	wire->Operation = (UINT16)Operation;
	wire->Id = (UINT64)InterlockedIncrement64(&Request->Client->NextId);
	wire->Offset = Offset;
	wire->Length = Length;
	if (Mdl == NULL)
		return VmbPacketSend(Request->Packet, wire, sizeof(*wire), NULL,
		                     VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION);
	return VmbPacketSendWithExternalMdl(Request->Packet, wire, sizeof(*wire), Mdl, MdlOffset,
	                                    Length, VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION);
}

static VOID
BlockClientWake(PBLOCKCLIENT_REQUEST Request)
{
	KeSetEvent((PKEVENT)Request->Context, IO_NO_INCREMENT, FALSE);
}

NTSTATUS
BlockClientTransfer(PBLOCKCLIENT Client, BLOCKDEV_OPERATION Operation, UINT64 Offset, PMDL Mdl,
                    UINT32 MdlOffset, UINT32 Length)
{
	BLOCKCLIENT_REQUEST request;
	NTSTATUS status;
	KEVENT done;

	status = BlockClientInitializeRequest(Client, &request);
	if (!NT_SUCCESS(status))
		return status;
	KeInitializeEvent(&done, NotificationEvent, FALSE);
	request.Done = BlockClientWake;
	request.Context = &done;
	status = BlockClientSubmit(&request, Operation, Offset, Mdl, MdlOffset, Length);
	if (NT_SUCCESS(status)) {
		/* Ends with the answer or with the channel. */
		KeWaitForSingleObject(&done, Executive, KernelMode, FALSE, NULL);
		status = request.Status;
	}
	BlockClientReleaseRequest(&request);
	return status;
}
