/* SPDX-License-Identifier: MIT */
/*
 * The life of a SCSI controller: options, disks, channels. Everything that a request needs is
 * allocated here.
 */
#include <initguid.h>

#include "storvsp_internal.h"

#include <stdio.h>

/* {8a40c1f6-5b2e-4f6d-a7d3-90c2e81b44a7} */
const GUID storvsp_default_instance = {
	0x8a40c1f6, 0x5b2e, 0x4f6d, { 0xa7, 0xd3, 0x90, 0xc2, 0xe8, 0x1b, 0x44, 0xa7 }
};

/* ---- requests -------------------------------------------------------------------------------- */

struct storvsp_request *
storvsp_take_request(struct storvsp_channel *channel)
{
	struct storvsp_request *request;
	KIRQL irql;

	KeAcquireSpinLock(&channel->lock, &irql);
	request = channel->free;
	if (request != NULL)
		channel->free = request->next;
	KeReleaseSpinLock(&channel->lock, irql);
	return request;
}

VOID
storvsp_give_request(struct storvsp_request *request)
{
	struct storvsp_channel *channel = request->channel;
	KIRQL irql;

	KeAcquireSpinLock(&channel->lock, &irql);
	request->next = channel->free;
	channel->free = request;
	KeReleaseSpinLock(&channel->lock, irql);
}

static PVOID
allocate(SIZE_T bytes)
{
	PVOID memory = ExAllocatePoolWithTag(NonPagedPoolNx, bytes, STORVSP_TAG);

	if (memory != NULL)
		RtlZeroMemory(memory, bytes);
	return memory;
}

static VOID
release(PVOID memory)
{
	if (memory != NULL)
		ExFreePoolWithTag(memory, STORVSP_TAG);
}

/* ---- state callbacks ------------------------------------------------------------------------- */

static EVT_VMB_CHANNEL_OPENED opened;
static EVT_VMB_CHANNEL_CLOSED closed;
static EVT_VMB_CHANNEL_SUSPEND suspend;
static EVT_VMB_CHANNEL_STARTED started;

/* A guest begins anew, without subchannels: those of the time before left with it. */
static VOID
forget_guest(struct storvsp_channel *channel)
{
	struct storvsp *storvsp = channel->storvsp;

	if (!channel->is_primary)
		return;
	InterlockedExchange(&storvsp->state, STORVSP_S_OPENED);
	InterlockedExchange(&storvsp->version, 0);
	InterlockedExchange(&storvsp->subchannels, 0);
}

static NTSTATUS
opened(VMBCHANNEL handle)
{
	forget_guest((struct storvsp_channel *)VmbChannelGetPointer(handle));
	return STATUS_SUCCESS;
}

static VOID
closed(VMBCHANNEL handle)
{
	forget_guest((struct storvsp_channel *)VmbChannelGetPointer(handle));
}

static VOID
suspend(VMBCHANNEL handle)
{
	struct storvsp_channel *channel = (struct storvsp_channel *)VmbChannelGetPointer(handle);

	InterlockedExchange(&channel->suspended, 1);
}

static VOID
started(VMBCHANNEL handle)
{
	struct storvsp_channel *channel = (struct storvsp_channel *)VmbChannelGetPointer(handle);

	InterlockedExchange(&channel->suspended, 0);
}

/* ---- channels -------------------------------------------------------------------------------- */

static NTSTATUS
allocate_requests(struct storvsp_channel *channel, UINT32 depth)
{
	UINT32 i;

	channel->requests =
	    (struct storvsp_request *)allocate(depth * sizeof(struct storvsp_request));
	if (channel->requests == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	for (i = 0; i < depth; i++) {
		channel->requests[i].channel = channel;
		channel->requests[i].next = channel->free;
		channel->free = &channel->requests[i];
	}
	return STATUS_SUCCESS;
}

/* What primary channel and subchannels have in common. */
static NTSTATUS
configure_channel(struct storvsp_channel *channel, UINT32 depth)
{
	DECLARE_CONST_UNICODE_STRING(name, L"storvsp");
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;
	NTSTATUS status;

	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	callbacks.EvtChannelOpened = opened;
	callbacks.EvtChannelClosed = closed;
	callbacks.EvtChannelSuspend = suspend;
	callbacks.EvtChannelStarted = started;
	status = VmbChannelAllocate(NULL, TRUE, &channel->handle);
	if (!NT_SUCCESS(status))
		return status;
	status = VmbChannelInitSetMaximumPacketSize(channel->handle, STORVSP_MAXIMUM_PACKET);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetMaximumExternalData(
		    channel->handle, STORVSP_MAXIMUM_TRANSFER, STORVSP_MAXIMUM_RANGES);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetFriendlyName(channel->handle, &name);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetStateChangeCallbacks(channel->handle, &callbacks);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetProcessPacketCallbacks(
		    channel->handle, storvsp_process_packet, storvsp_processing_complete);
	VmbChannelSetPointer(channel->handle, channel);
	VmbChannelSetTransactionQuota(channel->handle, depth);
	return status;
}

static NTSTATUS
aim_primary(VMBCHANNEL handle, const struct storvsp_options *options)
{
	NTSTATUS status;

	status = options->bus != NULL ? VmbServerChannelInitSetVmbusHandle(handle, options->bus)
	                              : VmbServerChannelInitSetFlags(
					    handle, VMBUS_SERVER_CHANNEL_INIT_FLAG_LOOPBACK_OFFER);
	if (!NT_SUCCESS(status))
		return status;
	return VmbServerChannelInitSetTargetInterfaceId(
	    handle, STORVSP_INTERFACE_TYPE,
	    options->instance != NULL ? *options->instance : storvsp_default_instance);
}

static NTSTATUS
make_channels(struct storvsp *storvsp, const struct storvsp_options *options)
{
	NTSTATUS status = STATUS_SUCCESS;
	UINT32 i;

	for (i = 0; i < storvsp->channel_count && NT_SUCCESS(status); i++) {
		struct storvsp_channel *channel = &storvsp->channels[i];

		channel->storvsp = storvsp;
		channel->is_primary = i == 0;
		KeInitializeSpinLock(&channel->lock);
		status = allocate_requests(channel, storvsp->depth);
		if (NT_SUCCESS(status))
			status = configure_channel(channel, storvsp->depth);
	}
	return NT_SUCCESS(status) ? aim_primary(storvsp->channels[0].handle, options) : status;
}

NTSTATUS
storvsp_enable_subchannel(struct storvsp *storvsp, UINT32 index)
{
	VMBCHANNEL handle = storvsp->channels[index].handle;
	NTSTATUS status;

	status = VmbChannelInitSetPrimaryChannel(handle, storvsp->channels[0].handle);
	return NT_SUCCESS(status) ? VmbChannelEnable(handle) : status;
}

VOID
storvsp_offer_subchannels(struct storvsp *storvsp, UINT32 count)
{
	UINT32 i;

	for (i = 1; i <= count; i++) {
		NTSTATUS status = storvsp_enable_subchannel(storvsp, i);

		if (NT_SUCCESS(status))
			VmbChannelStart(storvsp->channels[i].handle);
		else if (status != STATUS_DEVICE_NOT_READY) /* the primary closes */
			DbgPrint("storvsp: a subchannel cannot be offered: status 0x%08x\n",
			         status);
	}
}

/* ---- disks ----------------------------------------------------------------------------------- */

static NTSTATUS
open_status(enum block_result result, const char **why)
{
	switch (result) {
	case BLOCK_NOT_FOUND:
		*why = "no such file";
		return STATUS_OBJECT_NAME_NOT_FOUND;
	case BLOCK_REFUSED:
		*why = "no permission to open it so; read-only disks need less";
		return STATUS_ACCESS_DENIED;
	case BLOCK_WRONG_KIND:
		*why = "neither a file nor a block device";
		return STATUS_OBJECT_TYPE_MISMATCH;
	case BLOCK_IN_USE:
		*why = "in use by another server; only read-only disks share a file";
		return STATUS_SHARING_VIOLATION;
	case BLOCK_NO_MEMORY:
		*why = "not enough memory";
		return STATUS_INSUFFICIENT_RESOURCES;
	default:
		*why = "cannot be opened";
		return STATUS_IO_DEVICE_ERROR;
	}
}

static NTSTATUS
open_disk(struct storvsp *storvsp, struct storvsp_disk_file *disk,
          const struct storvsp_options *options, const struct storvsp_disk *wanted,
          const char **why)
{
	struct block_file_options file;
	enum block_result result;

	RtlZeroMemory(&file, sizeof(file));
	file.path = wanted->path;
	file.read_only = wanted->read_only != FALSE;
	/* Every request may be for this disk. */
	file.depth = storvsp->depth * storvsp->channel_count;
	file.engine = options->no_uring ? BLOCK_ENGINE_THREADS : BLOCK_ENGINE_BEST;
	result = block_file_open(&file, &disk->file);
	if (result != BLOCK_DONE)
		return open_status(result, why);
	disk->unit.target = wanted->target;
	disk->unit.lun = wanted->lun;
	disk->unit.read_only = wanted->read_only != FALSE;
	disk->unit.thin = block_file_makes_holes(disk->file);
	disk->unit.blocks = block_file_bytes(disk->file) / STORVSP_BLOCK_BYTES;
	disk->unit.instance =
	    options->instance != NULL ? *options->instance : storvsp_default_instance;
	if (disk->unit.blocks == 0) {
		*why = "shorter than one block of 512 bytes";
		return STATUS_DISK_FULL;
	}
	return STATUS_SUCCESS;
}

static NTSTATUS
open_disks(struct storvsp *storvsp, const struct storvsp_options *options, char *reason,
           SIZE_T reason_bytes)
{
	NTSTATUS status = STATUS_SUCCESS;
	const char *why = "";
	UINT32 i;

	for (i = 0; i < options->disk_count && NT_SUCCESS(status); i++) {
		storvsp->units[i] = &storvsp->disks[i].unit;
		status = open_disk(storvsp, &storvsp->disks[i], options, &options->disks[i], &why);
		if (!NT_SUCCESS(status))
			(void)snprintf(reason, reason_bytes, "disk %s: %s", options->disks[i].path,
			               why);
	}
	return status;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static NTSTATUS
check_options(const struct storvsp_options *options, UINT32 depth, char *reason,
              SIZE_T reason_bytes)
{
	UINT32 i, j;

	if (options->disks == NULL || options->disk_count == 0 ||
	    options->disk_count > STORVSP_MAXIMUM_DISKS) {
		(void)snprintf(reason, reason_bytes, "%u disks; there must be 1 to %u",
		               options->disk_count, STORVSP_MAXIMUM_DISKS);
		return STATUS_INVALID_PARAMETER;
	}
	if (options->max_subchannels > STORVSP_MAXIMUM_SUBCHANNELS ||
	    depth > STORVSP_MAXIMUM_IN_WORK / (1 + options->max_subchannels)) {
		(void)snprintf(
		    reason, reason_bytes,
		    "depth %u on 1 + %u channels; at most %u subchannels, and %u requests "
		    "in all",
		    depth, options->max_subchannels, STORVSP_MAXIMUM_SUBCHANNELS,
		    STORVSP_MAXIMUM_IN_WORK);
		return STATUS_INVALID_PARAMETER;
	}
	for (i = 0; i < options->disk_count; i++) {
		if (options->disks[i].path == NULL) {
			(void)snprintf(reason, reason_bytes, "disk %u has no path", i);
			return STATUS_INVALID_PARAMETER;
		}
		for (j = 0; j < i; j++) {
			if (options->disks[i].target != options->disks[j].target ||
			    options->disks[i].lun != options->disks[j].lun)
				continue;
			(void)snprintf(reason, reason_bytes, "two disks are target %u, LUN %u",
			               options->disks[i].target, options->disks[i].lun);
			return STATUS_INVALID_PARAMETER;
		}
	}
	return STATUS_SUCCESS;
}

/*
 * Returns when every packet was answered. Subchannels first: those that were saved leave by
 * themselves, for their successors. A guest may have asked for them again meanwhile, so the primary
 * takes along what it finds; when it is gone none of them can be enabled.
 */
static VOID
disable_channels(struct storvsp *storvsp)
{
	UINT32 i;

	for (i = storvsp->channel_count; i-- != 0;)
		VmbChannelDisable(storvsp->channels[i].handle);
	for (i = 1; i < storvsp->channel_count; i++)
		VmbChannelDisable(storvsp->channels[i].handle);
}

/*
 * Nothing is offered. The files before the memory: until they are closed their threads may look at
 * it.
 */
static VOID
free_storvsp(struct storvsp *storvsp)
{
	UINT32 i;

	/* A subchannel before its primary, which it names. */
	for (i = storvsp->channel_count; storvsp->channels != NULL && i-- != 0;) {
		if (storvsp->channels[i].handle != NULL)
			VmbChannelCleanup(storvsp->channels[i].handle);
	}
	for (i = 0; storvsp->disks != NULL && i < storvsp->disk_count; i++) {
		if (storvsp->disks[i].file != NULL)
			block_file_close(storvsp->disks[i].file);
	}
	for (i = 0; storvsp->channels != NULL && i < storvsp->channel_count; i++)
		release(storvsp->channels[i].requests);
	release(storvsp->channels);
	release(storvsp->disks);
	release((PVOID)storvsp->units);
	release(storvsp->zeros);
	release(storvsp);
}

static struct storvsp *
allocate_storvsp(const struct storvsp_options *options, UINT32 depth)
{
	struct storvsp *storvsp = (struct storvsp *)allocate(sizeof(*storvsp));

	if (storvsp == NULL)
		return NULL;
	KeInitializeSpinLock(&storvsp->reset_lock);
	storvsp->depth = depth;
	storvsp->channel_count = 1 + options->max_subchannels;
	storvsp->disk_count = options->disk_count;
	storvsp->keep_state = options->keep_state;
	storvsp->state_context = options->state_context;
	storvsp->channels =
	    (struct storvsp_channel *)allocate(storvsp->channel_count * sizeof(*storvsp->channels));
	storvsp->disks =
	    (struct storvsp_disk_file *)allocate(storvsp->disk_count * sizeof(*storvsp->disks));
	storvsp->units =
	    (const struct scsi_unit **)allocate(storvsp->disk_count * sizeof(*storvsp->units));
	storvsp->zeros = (UINT8 *)allocate(PAGE_SIZE);
	if (storvsp->channels != NULL && storvsp->disks != NULL && storvsp->units != NULL &&
	    storvsp->zeros != NULL)
		return storvsp;
	free_storvsp(storvsp);
	return NULL;
}

NTSTATUS
storvsp_create(const struct storvsp_options *options, struct storvsp **made, char *reason,
               SIZE_T reason_bytes)
{
	UINT32 depth = options->depth != 0 ? options->depth : STORVSP_DEFAULT_DEPTH;
	struct storvsp *storvsp;
	NTSTATUS status;

	*made = NULL;
	if (reason_bytes != 0)
		reason[0] = '\0';
	status = check_options(options, depth, reason, reason_bytes);
	if (!NT_SUCCESS(status))
		return status;
	storvsp = allocate_storvsp(options, depth);
	if (storvsp == NULL) {
		(void)snprintf(reason, reason_bytes, "not enough memory");
		return STATUS_INSUFFICIENT_RESOURCES;
	}
	status = open_disks(storvsp, options, reason, reason_bytes);
	if (!NT_SUCCESS(status))
		goto fail;
	status = make_channels(storvsp, options);
	if (NT_SUCCESS(status))
		status = VmbChannelEnable(storvsp->channels[0].handle);
	if (NT_SUCCESS(status)) {
		if (options->saved_bytes != 0)
			status = storvsp_restore(storvsp, options->saved, options->saved_bytes);
		else if (options->read_state != NULL)
			status = storvsp_inherit(storvsp, options);
		if (!NT_SUCCESS(status))
			disable_channels(storvsp);
	}
	if (!NT_SUCCESS(status)) {
		(void)snprintf(reason, reason_bytes, "%s: status 0x%08x",
		               status == STATUS_OBJECT_NAME_COLLISION
		                   ? "the bus has a controller of that instance already"
		                   : "the controller cannot be offered",
		               (unsigned int)status);
		goto fail;
	}
	VmbChannelStart(storvsp->channels[0].handle);
	*made = storvsp;
	return STATUS_SUCCESS;

fail:
	free_storvsp(storvsp);
	return status;
}

VOID
storvsp_eject(struct storvsp *storvsp)
{
	InterlockedExchange(&storvsp->ejected, 1);
}

VOID
storvsp_destroy(struct storvsp *storvsp)
{
	if (storvsp == NULL)
		return;
	disable_channels(storvsp);
	free_storvsp(storvsp);
}

VOID
storvsp_get_stats(struct storvsp *storvsp, struct storvsp_stats *stats)
{
	UINT32 i;
	KIRQL irql;

	RtlZeroMemory(stats, sizeof(*stats));
	stats->channels = storvsp->channel_count;
	stats->subchannels = (UINT32)storvsp_load(&storvsp->subchannels);
	stats->version = (UINT16)storvsp_load(&storvsp->version);
	for (i = 0; i < storvsp->channel_count; i++) {
		struct storvsp_channel *channel = &storvsp->channels[i];

		KeAcquireSpinLock(&channel->lock, &irql);
		stats->channel[i] = channel->stats;
		KeReleaseSpinLock(&channel->lock, irql);
	}
}

const char *
storvsp_engine(struct storvsp *storvsp)
{
	return block_file_engine(storvsp->disks[0].file);
}
