/* SPDX-License-Identifier: MIT */
/* The echo server: the least that a VSP does. */
#include "echo.h"

#define ECHO_MAXIMUM_PACKET 65536

const GUID ECHO_INTERFACE_TYPE = {
	0x3c0f6b7d, 0x5e1a, 0x4b29, { 0x8d, 0x64, 0x0f, 0xa2, 0x7c, 0x19, 0xe5, 0x33 }
};

static EVT_VMB_CHANNEL_PROCESS_PACKET EchoProcessPacket;

static VOID
EchoProcessPacket(VMBCHANNEL Channel, VMBPACKETCOMPLETION Packet, PVOID Buffer, UINT32 BufferLength,
                  UINT32 Flags)
{
	UNREFERENCED_PARAMETER(Channel);
	UNREFERENCED_PARAMETER(Flags);
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
