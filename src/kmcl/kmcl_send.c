/* SPDX-License-Identifier: MIT */
/*
 * VmbPacketSend and its relatives: parameters are checked here, in the order of GEN-4; the rules of
 * sending are in kmcl_tx.c.
 */
#include "kmcl/kmcl_send.h"

#include "kmcl/kmcl_packet.h"
#include "kmcl/kmcl_tx.h"

#define ALL_SEND_FLAGS                                                                             \
	((UINT32)(VMBUS_CHANNEL_FORMAT_FLAGS | KMCL_FORMAT_FLAG_DATA_IN_ONLY |                     \
	          KMCL_FORMAT_FLAG_DATA_OUT_ONLY))

bool
kmcl_send_flags_are_valid(UINT32 flags)
{
	const UINT32 both = KMCL_FORMAT_FLAG_DATA_IN_ONLY | KMCL_FORMAT_FLAG_DATA_OUT_ONLY;

	return (flags & ~ALL_SEND_FLAGS) == 0 && (flags & both) != both;
}

void
kmcl_send_check_irql(struct kmcl_channel *ch, UINT32 flags, const char *function)
{
	if ((flags & VMBUS_CHANNEL_FORMAT_FLAG_PAGED_BUFFER) != 0 &&
	    KeGetCurrentIrql() >= DISPATCH_LEVEL)
		kmcl_misuse(ch, "%s: PAGED_BUFFER at DISPATCH_LEVEL; the buffer may be paged out",
		            function);
}

void
kmcl_send_touch(const void *buffer, UINT32 bytes, UINT32 flags)
{
	const volatile uint8_t *at = buffer;

	if ((flags & VMBUS_CHANNEL_FORMAT_FLAG_PAGED_BUFFER) == 0 || bytes == 0)
		return;
	for (UINT32 i = 0; i < bytes; i += PAGE_SIZE)
		(void)at[i];
	(void)at[bytes - 1];
}

/* What every packet send checks first: the packet, then the inline buffer. */
static inline NTSTATUS
check_packet(struct kmcl_packet *packet, const void *buffer, UINT32 bytes, const char *function)
{
	if (packet == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (packet->state != KMCL_PACKET_IDLE) {
		kmcl_misuse(packet->channel, "%s: the packet is still in use", function);
		return STATUS_INVALID_PARAMETER_1;
	}
	if (packet->routine == NULL && packet->routine_ex == NULL)
		return STATUS_INVALID_PARAMETER_1;
	if (buffer == NULL && bytes != 0)
		return STATUS_INVALID_PARAMETER_2;
	if (bytes > packet->channel->config.max_packet)
		return STATUS_INVALID_PARAMETER_3;
	return STATUS_SUCCESS;
}

/* Servers and pipes carry no external data, pipes have no transactions (OUT-13, OUT-14). */
static NTSTATUS
check_role(const struct kmcl_channel *ch, bool external, UINT32 flags, NTSTATUS bad_external,
           NTSTATUS bad_flags)
{
	if (external && (ch->config.is_server || ch->config.pipe))
		return bad_external;
	if (ch->config.pipe && (flags & VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION) != 0)
		return bad_flags;
	return STATUS_SUCCESS;
}

static NTSTATUS
send_packet(struct kmcl_packet *packet, const void *buffer, UINT32 bytes, UINT32 flags,
            const struct kmcl_external *external, const char *function)
{
	struct kmcl_send send = { buffer, bytes, flags, external, false };

	kmcl_send_check_irql(packet->channel, flags, function);
	return kmcl_tx_send(packet, &send);
}

NTSTATUS
VmbPacketSend(VMBPACKET PacketObject, PVOID Buffer, UINT32 BufferLength, PMDL ExternalDataMdl,
              UINT32 Flags)
{
	struct kmcl_packet *packet = kmcl_packet_from_handle(PacketObject);
	struct kmcl_external external;
	NTSTATUS status = check_packet(packet, Buffer, BufferLength, "VmbPacketSend");

	if (status == STATUS_SUCCESS && ExternalDataMdl != NULL) {
		const struct kmcl_mdl_request request = {
			.mdl = ExternalDataMdl,
			.force = (Flags & VMBUS_CHANNEL_FORMAT_FLAG_FORCE_MDL_LENGTH) != 0,
			.bad_mdl = STATUS_INVALID_PARAMETER_4,
			.bad_offset = STATUS_INVALID_PARAMETER_4,
			.bad_length = STATUS_INVALID_PARAMETER_4,
		};

		status = kmcl_external_capture(packet->channel, &request, kmcl_packet_ranges(packet),
		                               &external);
	}
	if (status == STATUS_SUCCESS && !kmcl_send_flags_are_valid(Flags))
		status = STATUS_INVALID_PARAMETER_5;
	if (status == STATUS_SUCCESS)
		status = check_role(packet->channel, ExternalDataMdl != NULL, Flags,
		                    STATUS_INVALID_PARAMETER_4, STATUS_INVALID_PARAMETER_5);
	if (status != STATUS_SUCCESS)
		return status;
	return send_packet(packet, Buffer, BufferLength, Flags,
	                   ExternalDataMdl != NULL ? &external : NULL, "VmbPacketSend");
}

NTSTATUS
VmbPacketSendWithExternalMdl(VMBPACKET PacketObject, PVOID Buffer, UINT32 BufferLength,
                             PMDL ExternalDataMdl, UINT32 MdlOffset, UINT32 MdlLength, UINT32 Flags)
{
	struct kmcl_packet *packet = kmcl_packet_from_handle(PacketObject);
	struct kmcl_mdl_request request = {
		.mdl = ExternalDataMdl,
		.offset = MdlOffset,
		.length = MdlLength,
		.force = (Flags & VMBUS_CHANNEL_FORMAT_FLAG_FORCE_MDL_LENGTH) != 0,
		.bad_mdl = STATUS_INVALID_PARAMETER_4,
		.bad_offset = STATUS_INVALID_PARAMETER_5,
		.bad_length = STATUS_INVALID_PARAMETER_6,
	};
	struct kmcl_external external;
	NTSTATUS status = check_packet(packet, Buffer, BufferLength, "VmbPacketSendWithExternalMdl");

	if (status == STATUS_SUCCESS && ExternalDataMdl == NULL)
		status = STATUS_INVALID_PARAMETER_4;
	if (status == STATUS_SUCCESS)
		status = kmcl_external_capture(packet->channel, &request, kmcl_packet_ranges(packet),
		                               &external);
	if (status == STATUS_SUCCESS &&
	    (!kmcl_send_flags_are_valid(Flags) ||
	     (Flags & VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION) == 0))
		status = STATUS_INVALID_PARAMETER_7;
	if (status == STATUS_SUCCESS)
		status = check_role(packet->channel, true, Flags, STATUS_INVALID_PARAMETER_4,
		                    STATUS_INVALID_PARAMETER_7);
	if (status != STATUS_SUCCESS)
		return status;
	return send_packet(packet, Buffer, BufferLength, Flags, &external,
	                   "VmbPacketSendWithExternalMdl");
}

NTSTATUS
VmbPacketSendWithExternalPfns(VMBPACKET PacketObject, PVOID Buffer, UINT32 BufferLength,
                              PPFN_NUMBER ExternalDataPfns, UINT32 PfnLength, UINT32 Flags)
{
	struct kmcl_packet *packet = kmcl_packet_from_handle(PacketObject);
	struct kmcl_external external;
	NTSTATUS status = check_packet(packet, Buffer, BufferLength, "VmbPacketSendWithExternalPfns");

	if (status == STATUS_SUCCESS && ExternalDataPfns == NULL)
		status = STATUS_INVALID_PARAMETER_4;
	if (status == STATUS_SUCCESS &&
	    (PfnLength == 0 || PfnLength > VMB_GPA_RANGE_MAX_PAGES ||
	     (uint64_t)PfnLength * PAGE_SIZE > packet->channel->config.max_external))
		status = STATUS_INVALID_PARAMETER_5;
	if (status == STATUS_SUCCESS &&
	    (!kmcl_send_flags_are_valid(Flags) ||
	     (Flags & VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION) == 0))
		status = STATUS_INVALID_PARAMETER_6;
	if (status == STATUS_SUCCESS)
		status = check_role(packet->channel, true, Flags, STATUS_INVALID_PARAMETER_4,
		                    STATUS_INVALID_PARAMETER_6);
	if (status != STATUS_SUCCESS)
		return status;
	kmcl_external_capture_pfns(ExternalDataPfns, PfnLength, kmcl_packet_ranges(packet),
	                           &external);
	return send_packet(packet, Buffer, BufferLength, Flags, &external,
	                   "VmbPacketSendWithExternalPfns");
}
