/* SPDX-License-Identifier: MIT */
/*
 * Settings that versions 2 to 5 of the interface add (V2-3, V3-1, V3-2, V4-1, V5-3, V5-4, V5-6,
 * V5-8, V5-10). What they change is elsewhere: packets, the bounce pool, incoming processing.
 */
#include "kmcl/kmcl_config.h"
#include "kmcl/kmcl_packet.h"
#include "kmcl/kmcl_rx.h"
#include "vmb/msg.h"

PDEVICE_OBJECT
VmbChannelGetParentDeviceObject(VMBCHANNEL Channel)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);

	if (ch == NULL) {
		kmcl_misuse(NULL, "VmbChannelGetParentDeviceObject: not a channel handle");
		return NULL;
	}
	return ch->config.parent;
}

NTSTATUS
VmbChannelInitSetBounceBufferSizes(VMBCHANNEL Channel, UINT32 MinimumSize, UINT32 MaximumSize)
{
	KMCL_CONFIGURING ch = kmcl_configurable(Channel, KMCL_CLIENT_ONLY);

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (MaximumSize < MinimumSize)
		return STATUS_INVALID_PARAMETER_3;
	ch->config.bounce_least = MinimumSize;
	ch->config.bounce_most = MaximumSize;
	return STATUS_SUCCESS;
}

NTSTATUS
VmbChannelAllocateBounceBuffer(VMBCHANNEL Channel, UINT32 Size, PMDL *Mdl)
{
	if (kmcl_channel_from_handle(Channel) == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (Size == 0)
		return STATUS_INVALID_PARAMETER_2;
	if (Mdl == NULL)
		return STATUS_INVALID_PARAMETER_3;
	return STATUS_NOT_IMPLEMENTED;
}

NTSTATUS
VmbChannelInitSetMaximumPacketCount(VMBCHANNEL Channel, UINT32 PacketCount)
{
	KMCL_CONFIGURING ch = kmcl_configurable(Channel, KMCL_ANY_ROLE);

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	ch->tx.most_packets = PacketCount;
	return STATUS_SUCCESS;
}

VOID
VmbChannelSetAllowableDpcCpuUsage(VMBCHANNEL Channel, UINT32 Percent)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(Channel);

	if (ch == NULL || Percent == 0 || Percent > 100)
		kmcl_misuse(ch, "VmbChannelSetAllowableDpcCpuUsage: bad channel handle, or not 1..100 "
		                "percent");
	else
		atomic_store(&ch->rx.batch_ns, KMCL_BATCH_NS / 100 * Percent);
}

NTSTATUS
VmbClientChannelInitSetTargetProcessorIndex(VMBCHANNEL Channel, UINT32 ProcessorIndex)
{
	KMCL_CONFIGURING ch = kmcl_configurable(Channel, KMCL_CLIENT_ONLY);

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (ProcessorIndex == VMB_VP_NONE)
		return STATUS_INVALID_PARAMETER_2;
	ch->config.target_vp = ProcessorIndex;
	return STATUS_SUCCESS;
}

NTSTATUS
VmbChannelInitSetInlinePacketContextSize(VMBCHANNEL Channel, UINT32 ContextSize)
{
	KMCL_CONFIGURING ch = kmcl_configurable(Channel, KMCL_RESIZES);

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (ContextSize > KMCL_LARGEST_CONTEXT)
		return STATUS_INVALID_PARAMETER_2;
	ch->config.packet_context = ContextSize;
	kmcl_resized(ch);
	return STATUS_SUCCESS;
}

NTSTATUS
VmbChannelInitSetProcessPacketCallbacksEx(
        VMBCHANNEL Channel, PFN_VMB_CHANNEL_PROCESS_PACKET_EX ProcessPacketCallback,
        PFN_VMB_CHANNEL_PROCESSING_COMPLETE_EX ProcessingCompleteCallback, PVOID Context)
{
	KMCL_CONFIGURING ch = kmcl_configurable(Channel, KMCL_ANY_ROLE);

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (ProcessPacketCallback == NULL)
		return STATUS_INVALID_PARAMETER_2;
	ch->config.process_packet = NULL;
	ch->config.processing_complete = NULL;
	ch->config.process_packet_ex = ProcessPacketCallback;
	ch->config.processing_complete_ex = ProcessingCompleteCallback;
	ch->config.process_context = Context;
	return STATUS_SUCCESS;
}

NTSTATUS
VmbServerChannelInitSetSaveRestorePacketCallbacksEx(
        VMBCHANNEL Channel, PFN_VMB_CHANNEL_SAVE_PACKET_EX SavePacketCallback,
        PFN_VMB_CHANNEL_RESTORE_PACKET_EX RestorePacketCallback, PVOID Context)
{
	KMCL_CONFIGURING ch = kmcl_configurable(Channel, KMCL_SERVER_ONLY);

	if (ch == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (SavePacketCallback == NULL)
		return STATUS_INVALID_PARAMETER_2;
	if (RestorePacketCallback == NULL)
		return STATUS_INVALID_PARAMETER_3;
	ch->config.save_packet = NULL;
	ch->config.restore_packet = NULL;
	ch->config.save_packet_ex = SavePacketCallback;
	ch->config.restore_packet_ex = RestorePacketCallback;
	ch->config.save_context = Context;
	return STATUS_SUCCESS;
}
