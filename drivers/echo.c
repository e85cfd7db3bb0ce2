/* SPDX-License-Identifier: MIT */
/* The echo server: the least that a VSP does. */
#include <initguid.h>

#include "echo.h"

static EVT_VMB_CHANNEL_PROCESS_PACKET EchoProcessPacket;

/* Shows its owner that it was read and written. False: it cannot be reached. */
static BOOLEAN
EchoTurnOver(VMBPACKETCOMPLETION Packet)
{
	PUCHAR data;
	ULONG i;
	PMDL mdl;

	if (!NT_SUCCESS(VmbChannelPacketGetExternalData(Packet, 0, &mdl)))
		return FALSE;
	for (; mdl != NULL; mdl = mdl->Next) {
		data = (PUCHAR)MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
		if (data == NULL)
			return FALSE;
		for (i = 0; i < MmGetMdlByteCount(mdl); i++)
			data[i] = (UCHAR)~data[i];
	}
	return TRUE;
}

static VOID
EchoProcessPacket(VMBCHANNEL Channel, VMBPACKETCOMPLETION Packet, PVOID Buffer, UINT32 BufferLength,
                  UINT32 Flags)
{
	UNREFERENCED_PARAMETER(Channel);
	if ((Flags & VMBUS_CHANNEL_PROCESS_PACKET_FLAG_EXTERNAL_DATA) != 0 && !EchoTurnOver(Packet)) {
		VmbChannelPacketComplete(Packet, NULL, 0);
		return;
	}
	VmbChannelPacketComplete(Packet, Buffer, BufferLength);
}

NTSTATUS
EchoStart(HANDLE VmbusHandle, GUID Instance, VMBCHANNEL *Channel)
{
	DECLARE_CONST_UNICODE_STRING(name, L"echo");
	VMBCHANNEL channel;
	NTSTATUS status;

	*Channel = NULL;
	status = VmbChannelAllocate(NULL, TRUE, &channel);
	if (!NT_SUCCESS(status))
		return status;
	status = VmbServerChannelInitSetVmbusHandle(channel, VmbusHandle);
	if (NT_SUCCESS(status))
		status = VmbServerChannelInitSetTargetInterfaceId(channel, ECHO_INTERFACE_TYPE,
		                                                  Instance);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetMaximumPacketSize(channel, ECHO_MAXIMUM_PACKET);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetFriendlyName(channel, &name);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetProcessPacketCallbacks(channel, EchoProcessPacket, NULL);
	if (NT_SUCCESS(status))
		status = VmbChannelEnable(channel);
	if (!NT_SUCCESS(status)) {
		VmbChannelCleanup(channel);
		return status;
	}
	VmbChannelStart(channel);
	*Channel = channel;
	return STATUS_SUCCESS;
}

VOID
EchoStop(VMBCHANNEL Channel)
{
	VmbChannelDisable(Channel);
	VmbChannelCleanup(Channel);
}
