/* SPDX-License-Identifier: MIT */
/*
 * Packets of the guest: the negotiation on the primary channel, resets, and SCSI requests on every
 * channel.
 *
 * The guest is not trusted. A packet is a private copy; every number in it is checked before it is
 * used. What is malformed is answered with an error and changes nothing. An answer is as long as
 * its request, because guests of old look at the size.
 */
#include "storvsp_internal.h"

C_ASSERT(STORVSP_AT_CDB + STORVSP_SENSE_BYTES == STORVSP_OLD_SRB_PACKET_BYTES);

/* ---- answers --------------------------------------------------------------------------------- */

/* An answer under construction, zeros at first. */
struct answer {
	UINT8 bytes[STORVSP_MAXIMUM_PACKET];
};

static VOID
begin_answer(struct answer *answer, NTSTATUS status)
{
	RtlZeroMemory(answer, sizeof(*answer));
	storvsp_put_le32(answer->bytes + STORVSP_AT_OPERATION, STORVSP_COMPLETE_IO);
	storvsp_put_le32(answer->bytes + STORVSP_AT_STATUS, (UINT32)status);
}

static VOID
send_status(VMBPACKETCOMPLETION packet, UINT32 bytes, NTSTATUS status)
{
	struct answer answer;

	begin_answer(&answer, status);
	VmbChannelPacketComplete(packet, answer.bytes, bytes);
}

static VOID
count_requests(struct storvsp_channel *channel, INT32 more)
{
	KIRQL irql;

	KeAcquireSpinLock(&channel->lock, &irql);
	channel->stats.requests += (UINT64)more;
	KeReleaseSpinLock(&channel->lock, irql);
}

static VOID
refuse(struct storvsp_channel *channel, VMBPACKETCOMPLETION packet, UINT32 bytes, NTSTATUS status)
{
	KIRQL irql;

	KeAcquireSpinLock(&channel->lock, &irql);
	channel->stats.refused++;
	KeReleaseSpinLock(&channel->lock, irql);
	send_status(packet, bytes, status);
}

/* Guests look at the SRB status; this says the same to those that look here. */
static NTSTATUS
packet_status(UINT32 srb_status)
{
	switch (srb_status & ~SRB_SENSE_IS_VALID) {
	case SRB_SUCCESS:
		return STATUS_SUCCESS;
	case SRB_BUSY:
		return STATUS_DEVICE_BUSY;
	case SRB_INVALID_REQUEST:
		return STATUS_INVALID_PARAMETER;
	case SRB_INVALID_LUN:
		return STATUS_NO_SUCH_DEVICE;
	default:
		return STATUS_UNSUCCESSFUL;
	}
}

static VOID
count_locked(struct storvsp_channel_stats *stats, const struct scsi_plan *plan, UINT32 srb_status,
             UINT32 sense, UINT32 bytes)
{
	if (srb_status != SRB_SUCCESS) {
		/* What the disk refused has a sense of illegal request or of protection. */
		if (srb_status == SRB_BUSY || sense == SENSE_READ_FAULT ||
		    sense == SENSE_WRITE_FAULT || sense == SENSE_SPACE_ALLOCATION)
			stats->failed++;
		else
			stats->refused++;
		return;
	}
	switch (plan->act) {
	case SCSI_ACT_READ:
		stats->reads++;
		stats->bytes_read += bytes;
		break;
	case SCSI_ACT_WRITE:
		stats->writes++;
		stats->bytes_written += bytes;
		break;
	case SCSI_ACT_SYNC:
		stats->flushes++;
		break;
	case SCSI_ACT_UNMAP:
		stats->unmaps++;
		break;
	case SCSI_ACT_WRITE_SAME:
		if (plan->unmap)
			stats->unmaps++;
		else
			stats->writes++;
		break;
	default:
		break;
	}
}

static VOID
make_answer(const struct storvsp_request *request, struct answer *answer, UINT32 srb_status,
            UINT32 scsi_status, UINT32 sense, UINT32 bytes)
{
	UINT32 sense_bytes = 0;
	UINT8 *at = answer->bytes, full[SCSI_SENSE_BYTES];

	if (scsi_status == SCSI_CHECK_CONDITION && request->sense_room != 0) {
		sense_bytes =
		    request->sense_room < SCSI_SENSE_BYTES ? request->sense_room : SCSI_SENSE_BYTES;
		srb_status |= SRB_SENSE_IS_VALID;
	}
	begin_answer(answer, packet_status(srb_status));
	/* As the request said, whichever version it is of. */
	storvsp_put_le16(at + STORVSP_HEADER_BYTES,
	                 (request->packet_bytes < STORVSP_SRB_PACKET_BYTES
	                      ? STORVSP_OLD_SRB_PACKET_BYTES
	                      : STORVSP_SRB_PACKET_BYTES) -
	                     STORVSP_HEADER_BYTES);
	at[STORVSP_AT_SRB_STATUS] = (UINT8)srb_status;
	at[STORVSP_AT_SCSI_STATUS] = (UINT8)scsi_status;
	at[STORVSP_AT_TARGET] = request->target;
	at[STORVSP_AT_LUN] = request->lun;
	at[STORVSP_AT_CDB_LENGTH] = request->cdb_length;
	at[STORVSP_AT_SENSE_LENGTH] = (UINT8)sense_bytes;
	at[STORVSP_AT_DATA_IN] = request->direction;
	storvsp_put_le32(at + STORVSP_AT_DATA_LENGTH, bytes);
	if (sense_bytes != 0) {
		scsi_put_sense(full, sense);
		RtlCopyMemory(at + STORVSP_AT_CDB, full, sense_bytes);
	}
}

VOID
storvsp_finish(struct storvsp_request *request, UINT32 srb_status, UINT32 scsi_status, UINT32 sense,
               UINT32 bytes)
{
	struct storvsp_channel *channel = request->channel;
	VMBPACKETCOMPLETION packet = request->packet;
	UINT32 packet_bytes = request->packet_bytes;
	struct answer answer;
	KIRQL irql;

	make_answer(request, &answer, srb_status, scsi_status, sense, bytes);
	KeAcquireSpinLock(&channel->lock, &irql);
	count_locked(&channel->stats, &request->plan, srb_status, sense, bytes);
	KeReleaseSpinLock(&channel->lock, irql);
	storvsp_unmap_data(request);
	/* Before the answer: with it the next packet may come, and find an object. */
	storvsp_give_request(request);
	VmbChannelPacketComplete(packet, answer.bytes, packet_bytes);
}

/* ---- resets ---------------------------------------------------------------------------------- */

/*
 * A reset is answered when nothing is in work: what the guest then still waits for, it has an
 * answer of. There is nothing to stop: actions of a file end by themselves.
 */

static struct storvsp_request *
take_resets(struct storvsp *storvsp)
{
	struct storvsp_request *resets;
	KIRQL irql;

	KeAcquireSpinLock(&storvsp->reset_lock, &irql);
	resets = storvsp->resets;
	storvsp->resets = NULL;
	InterlockedExchange(&storvsp->resets_waiting, 0);
	KeReleaseSpinLock(&storvsp->reset_lock, irql);
	return resets;
}

static VOID
answer_resets(struct storvsp_request *resets)
{
	while (resets != NULL) {
		struct storvsp_request *next = resets->next;
		VMBPACKETCOMPLETION packet = resets->packet;
		UINT32 bytes = resets->packet_bytes;

		storvsp_give_request(resets);
		send_status(packet, bytes, STATUS_SUCCESS);
		resets = next;
	}
}

static VOID
begin_reset(struct storvsp_channel *channel, VMBPACKETCOMPLETION packet, UINT32 bytes)
{
	struct storvsp *storvsp = channel->storvsp;
	struct storvsp_request *request = storvsp_take_request(channel);
	KIRQL irql;

	if (request == NULL) {
		refuse(channel, packet, bytes, STATUS_INSUFFICIENT_RESOURCES);
		return;
	}
	request->packet = packet;
	request->packet_bytes = bytes;
	KeAcquireSpinLock(&storvsp->reset_lock, &irql);
	request->next = storvsp->resets;
	storvsp->resets = request;
	InterlockedExchange(&storvsp->resets_waiting, 1);
	KeReleaseSpinLock(&storvsp->reset_lock, irql);
	/* Whoever ends the last work either sees the flag, or ended it before we look. */
	if (storvsp_load(&storvsp->in_work) == 0)
		answer_resets(take_resets(storvsp));
}

VOID
storvsp_finish_work(struct storvsp_request *request, UINT32 srb_status, UINT32 scsi_status,
                    UINT32 sense, UINT32 bytes)
{
	struct storvsp *storvsp = request->channel->storvsp;
	struct storvsp_request *resets = NULL;

	/* A reset that waits is a packet that is not answered, so the controller lives as long. */
	if (InterlockedDecrement(&storvsp->in_work) == 0 &&
	    storvsp_load(&storvsp->resets_waiting) != 0)
		resets = take_resets(storvsp);
	storvsp_finish(request, srb_status, scsi_status, sense, bytes);
	answer_resets(resets);
}

/* ---- negotiation ----------------------------------------------------------------------------- */

BOOLEAN
storvsp_version_is_known(UINT32 version)
{
	return version == STORVSP_VERSION_2_0 || version == STORVSP_VERSION_4_2 ||
	       version == STORVSP_VERSION_5_1 || version == STORVSP_VERSION_6_0;
}

static VOID
tell_properties(struct storvsp *storvsp, VMBPACKETCOMPLETION packet, UINT32 bytes)
{
	struct answer answer;
	UINT32 subchannels = storvsp->channel_count - 1;

	/* Hosts of older versions have one channel. */
	if (storvsp_load(&storvsp->version) < (LONG)STORVSP_VERSION_5_1)
		subchannels = 0;
	begin_answer(&answer, STATUS_SUCCESS);
	storvsp_put_le16(answer.bytes + STORVSP_AT_MAX_SUBCHANNELS, subchannels);
	if (subchannels != 0)
		storvsp_put_le32(answer.bytes + STORVSP_AT_PROPERTY_FLAGS, STORVSP_MULTICHANNEL);
	storvsp_put_le32(answer.bytes + STORVSP_AT_MAX_TRANSFER, STORVSP_MAXIMUM_TRANSFER);
	VmbChannelPacketComplete(packet, answer.bytes, bytes);
}

/* Offering takes PASSIVE_LEVEL. The offers follow the answer. */
static VOID
create_subchannels(struct storvsp_channel *channel, VMBPACKETCOMPLETION packet, const UINT8 *at,
                   UINT32 bytes)
{
	struct storvsp *storvsp = channel->storvsp;
	UINT32 count;

	if (KeGetCurrentIrql() != PASSIVE_LEVEL) {
		count_requests(channel, -1);
		VmbChannelPacketDeferToPassive(packet);
		return;
	}
	if (storvsp_load(&storvsp->state) < STORVSP_S_PROPERTIES ||
	    storvsp_load(&storvsp->subchannels) != 0) {
		refuse(channel, packet, bytes, STATUS_INVALID_DEVICE_STATE);
		return;
	}
	count = storvsp_le16(at + STORVSP_AT_SUBCHANNELS);
	if (count > storvsp->channel_count - 1) {
		refuse(channel, packet, bytes, STATUS_INVALID_PARAMETER);
		return;
	}
	InterlockedExchange(&storvsp->subchannels, (LONG)count);
	storvsp_keep(storvsp);
	send_status(packet, bytes, STATUS_SUCCESS);
	storvsp_offer_subchannels(storvsp, count);
}

/* From one state to the next, and the answer. */
static VOID
step_state(struct storvsp_channel *channel, VMBPACKETCOMPLETION packet, UINT32 bytes,
           enum storvsp_state from, enum storvsp_state to)
{
	if (InterlockedCompareExchange(&channel->storvsp->state, (LONG)to, (LONG)from) !=
	    (LONG)from) {
		refuse(channel, packet, bytes, STATUS_INVALID_DEVICE_STATE);
		return;
	}
	storvsp_keep(channel->storvsp);
	send_status(packet, bytes, STATUS_SUCCESS);
}

static VOID
negotiate(struct storvsp_channel *channel, VMBPACKETCOMPLETION packet, UINT32 operation,
          const UINT8 *at, UINT32 bytes)
{
	struct storvsp *storvsp = channel->storvsp;
	LONG state = storvsp_load(&storvsp->state);
	UINT32 version;

	/* Subchannels belong to what was agreed on their primary. */
	if (!channel->is_primary) {
		refuse(channel, packet, bytes, STATUS_INVALID_DEVICE_STATE);
		return;
	}
	switch (operation) {
	case STORVSP_BEGIN_INITIALIZATION:
		step_state(channel, packet, bytes, STORVSP_S_OPENED, STORVSP_S_BEGUN);
		return;
	case STORVSP_QUERY_PROTOCOL_VERSION:
		if (bytes < STORVSP_AT_VERSION + 2) {
			refuse(channel, packet, bytes, STATUS_INVALID_PARAMETER);
			return;
		}
		version = storvsp_le16(at + STORVSP_AT_VERSION);
		if (state != STORVSP_S_BEGUN && state != STORVSP_S_VERSION) {
			refuse(channel, packet, bytes, STATUS_INVALID_DEVICE_STATE);
		} else if (!storvsp_version_is_known(version)) {
			/* Guests ask for their newest first, and then for older ones. */
			send_status(packet, bytes, STATUS_REVISION_MISMATCH);
		} else {
			InterlockedExchange(&storvsp->version, (LONG)version);
			InterlockedExchange(&storvsp->state, STORVSP_S_VERSION);
			storvsp_keep(storvsp);
			send_status(packet, bytes, STATUS_SUCCESS);
		}
		return;
	case STORVSP_QUERY_PROPERTIES:
		if (state != STORVSP_S_VERSION && state != STORVSP_S_PROPERTIES) {
			refuse(channel, packet, bytes, STATUS_INVALID_DEVICE_STATE);
			return;
		}
		InterlockedExchange(&storvsp->state, STORVSP_S_PROPERTIES);
		storvsp_keep(storvsp);
		tell_properties(storvsp, packet, bytes);
		return;
	case STORVSP_END_INITIALIZATION:
		step_state(channel, packet, bytes, STORVSP_S_PROPERTIES, STORVSP_S_READY);
		return;
	default:
		if (bytes < STORVSP_AT_SUBCHANNELS + 2)
			refuse(channel, packet, bytes, STATUS_INVALID_PARAMETER);
		else
			create_subchannels(channel, packet, at, bytes);
		return;
	}
}

/* ---- SCSI requests --------------------------------------------------------------------------- */

static struct storvsp_disk_file *
find_disk(struct storvsp *storvsp, UINT8 path, UINT8 target, UINT8 lun)
{
	UINT32 i;

	if (storvsp_load(&storvsp->ejected) != 0)
		return NULL;
	for (i = 0; path == 0 && i < storvsp->disk_count; i++) {
		if (storvsp->disks[i].unit.target == target && storvsp->disks[i].unit.lun == lun)
			return &storvsp->disks[i];
	}
	return NULL;
}

/* FALSE: there is nothing at that address that could answer. */
static BOOLEAN
make_plan(struct storvsp_request *request, UINT8 path)
{
	struct storvsp *storvsp = request->channel->storvsp;

	if (request->cdb_length != 0 && request->cdb[0] == SCSI_REPORT_LUNS) {
		scsi_decode_report_luns(request->cdb, request->cdb_length, storvsp->units,
		                        path == 0 ? storvsp->disk_count : 0, request->target,
		                        request->scratch, &request->plan);
		return TRUE;
	}
	if (request->disk == NULL)
		return scsi_decode_absent(request->cdb, request->cdb_length, request->scratch,
		                          &request->plan);
	scsi_decode(&request->disk->unit, request->cdb, request->cdb_length, request->scratch,
	            &request->plan);
	return TRUE;
}

static BOOLEAN
goes_to_device(const struct scsi_plan *plan)
{
	return plan->act == SCSI_ACT_WRITE || plan->act == SCSI_ACT_UNMAP ||
	       plan->act == SCSI_ACT_WRITE_SAME;
}

/*
 * The plan's data as ranges. Less room than an answer needs cuts the answer; less than the blocks
 * of a command, and another direction than the command's, is nonsense.
 */
static NTSTATUS
get_data(struct storvsp_request *request)
{
	struct scsi_plan *plan = &request->plan;
	BOOLEAN to_device = goes_to_device(plan);

	if (plan->act == SCSI_ACT_REPLY && plan->bytes > request->data_length)
		plan->bytes = request->data_length;
	if (plan->bytes == 0)
		return STATUS_SUCCESS;
	if (plan->bytes > request->data_length ||
	    request->direction != (to_device ? STORVSP_TO_DEVICE : STORVSP_FROM_DEVICE))
		return STATUS_INVALID_PARAMETER;
	return storvsp_map_data(request, plan->bytes, to_device);
}

static VOID
do_plan(struct storvsp_request *request)
{
	struct scsi_plan *plan = &request->plan;

	switch (plan->act) {
	case SCSI_ACT_SENSE:
		storvsp_finish(request, SRB_ERROR, SCSI_CHECK_CONDITION, plan->sense, 0);
		return;
	case SCSI_ACT_REPLY:
		storvsp_copy_data(request, request->scratch, plan->bytes, FALSE);
		storvsp_finish(request, SRB_SUCCESS, SCSI_GOOD, SENSE_NONE, plan->bytes);
		return;
	case SCSI_ACT_UNMAP:
	case SCSI_ACT_WRITE_SAME:
		/* Read once: the guest may change it meanwhile. */
		storvsp_copy_data(request, request->scratch, plan->bytes, TRUE);
		storvsp_unmap_data(request);
		break;
	default:
		break;
	}
	storvsp_work(request);
}

static VOID
execute(struct storvsp_request *request, UINT8 path)
{
	NTSTATUS status;

	request->plan.act = SCSI_ACT_REPLY;
	if (!make_plan(request, path)) {
		storvsp_finish(request, SRB_INVALID_LUN, SCSI_GOOD, SENSE_NONE, 0);
		return;
	}
	status = get_data(request);
	if (status == STATUS_PENDING) {
		/* Delivered again when its memory is there. */
		count_requests(request->channel, -1);
		storvsp_give_request(request);
	} else if (NT_SUCCESS(status)) {
		do_plan(request);
	} else if (status == STATUS_INSUFFICIENT_RESOURCES) {
		storvsp_finish(request, SRB_BUSY, SCSI_BUSY, SENSE_NONE, 0);
	} else {
		storvsp_finish(request, SRB_INVALID_REQUEST, SCSI_GOOD, SENSE_NONE, 0);
	}
}

/* The smallest request of the version that was agreed. */
static UINT32
srb_packet_bytes(struct storvsp *storvsp)
{
	return storvsp_load(&storvsp->version) < (LONG)STORVSP_VERSION_5_1
	           ? STORVSP_OLD_SRB_PACKET_BYTES
	           : STORVSP_SRB_PACKET_BYTES;
}

static VOID
begin_scsi(struct storvsp_channel *channel, VMBPACKETCOMPLETION packet, const UINT8 *at,
           UINT32 bytes)
{
	struct storvsp *storvsp = channel->storvsp;
	struct storvsp_request *request;

	if (storvsp_load(&storvsp->state) != STORVSP_S_READY) {
		refuse(channel, packet, bytes, STATUS_INVALID_DEVICE_STATE);
		return;
	}
	if (bytes < srb_packet_bytes(storvsp)) {
		refuse(channel, packet, bytes, STATUS_INVALID_PARAMETER);
		return;
	}
	request = storvsp_take_request(channel);
	if (request == NULL) {
		/* The quota says that there is one. */
		refuse(channel, packet, bytes, STATUS_INSUFFICIENT_RESOURCES);
		return;
	}
	request->packet = packet;
	request->packet_bytes = bytes;
	request->target = at[STORVSP_AT_TARGET];
	request->lun = at[STORVSP_AT_LUN];
	request->direction = at[STORVSP_AT_DATA_IN];
	request->data_length = storvsp_le32(at + STORVSP_AT_DATA_LENGTH);
	request->sense_room = at[STORVSP_AT_SENSE_LENGTH] < STORVSP_SENSE_BYTES
	                          ? at[STORVSP_AT_SENSE_LENGTH]
	                          : STORVSP_SENSE_BYTES;
	request->cdb_length = at[STORVSP_AT_CDB_LENGTH];
	RtlCopyMemory(request->cdb, at + STORVSP_AT_CDB, STORVSP_CDB_BYTES);
	request->disk = find_disk(storvsp, at[STORVSP_AT_PATH], request->target, request->lun);
	if (request->cdb_length > STORVSP_CDB_BYTES) {
		request->plan.act = SCSI_ACT_REPLY;
		storvsp_finish(request, SRB_INVALID_REQUEST, SCSI_GOOD, SENSE_NONE, 0);
		return;
	}
	execute(request, at[STORVSP_AT_PATH]);
}

/* ---- packets --------------------------------------------------------------------------------- */

VOID
storvsp_process_packet(VMBCHANNEL handle, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes,
                       UINT32 flags)
{
	struct storvsp_channel *channel = (struct storvsp_channel *)VmbChannelGetPointer(handle);
	const UINT8 *at = (const UINT8 *)buffer;
	UINT32 operation;

	/* What external data there is, the request says, and storvsp_map_data() sees. */
	UNREFERENCED_PARAMETER(flags);
	count_requests(channel, 1);
	if (bytes < STORVSP_HEADER_BYTES) {
		refuse(channel, packet, bytes, STATUS_INVALID_PARAMETER);
		return;
	}
	operation = storvsp_le32(at + STORVSP_AT_OPERATION);
	switch (operation) {
	case STORVSP_EXECUTE_SRB:
		begin_scsi(channel, packet, at, bytes);
		return;
	case STORVSP_RESET_LUN:
	case STORVSP_RESET_ADAPTER:
	case STORVSP_RESET_BUS:
		begin_reset(channel, packet, bytes);
		return;
	case STORVSP_BEGIN_INITIALIZATION:
	case STORVSP_END_INITIALIZATION:
	case STORVSP_QUERY_PROTOCOL_VERSION:
	case STORVSP_QUERY_PROPERTIES:
	case STORVSP_CREATE_SUB_CHANNELS:
		negotiate(channel, packet, operation, at, bytes);
		return;
	default:
		refuse(channel, packet, bytes, STATUS_INVALID_DEVICE_REQUEST);
		return;
	}
}

/* The ring is empty for now: what came goes to the files together. */
VOID
storvsp_processing_complete(VMBCHANNEL handle, UINT32 packets)
{
	struct storvsp_channel *channel = (struct storvsp_channel *)VmbChannelGetPointer(handle);
	struct storvsp *storvsp = channel->storvsp;
	UINT32 i;

	UNREFERENCED_PARAMETER(packets);
	for (i = 0; i < storvsp->disk_count; i++) {
		if (InterlockedExchange(&storvsp->disks[i].queued, 0) != 0)
			block_file_kick(storvsp->disks[i].file);
	}
}
