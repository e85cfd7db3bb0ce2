/* SPDX-License-Identifier: MIT */
/*
 * A controller for its successor: what was agreed with the guest, then each channel as the library
 * saves it, the primary first. There is no work in it, because a paused channel has none. What is
 * restored is not trusted: it may come from anywhere.
 */
#include "storvsp_internal.h"

#define SAVED_MAGIC 0x70735653u /* "SVsp" */
#define SAVED_FORMAT 1u

/* Offsets; 32-bit little-endian numbers. */
#define AT_MAGIC 0u
#define AT_FORMAT 4u
#define AT_STATE 8u
#define AT_VERSION 12u
#define AT_SUBCHANNELS 16u
#define HEADER_BYTES 20u
/* In front of each channel. */
#define LENGTH_BYTES 4u

#define FIRST_CAPACITY 4096u
/* Answers that wait for room in a ring make it large; this is more than a ring can make wait. */
#define MOST_CAPACITY (64u << 20)

/* ---- saving --------------------------------------------------------------------------------- */

struct saver {
	UINT8 *buffer;
	UINT32 capacity, used;
};

/* So that so many more bytes fit. */
static NTSTATUS
make_room(struct saver *saver, UINT32 more)
{
	UINT32 capacity = saver->capacity != 0 ? saver->capacity : FIRST_CAPACITY;
	UINT8 *larger;

	if (more > MOST_CAPACITY - saver->used)
		return STATUS_INSUFFICIENT_RESOURCES;
	while (capacity < saver->used + more)
		capacity *= 2;
	if (capacity == saver->capacity)
		return STATUS_SUCCESS;
	larger = (UINT8 *)ExAllocatePoolWithTag(PagedPool, capacity, STORVSP_TAG);
	if (larger == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	if (saver->buffer != NULL) {
		RtlCopyMemory(larger, saver->buffer, saver->used);
		ExFreePoolWithTag(saver->buffer, STORVSP_TAG);
	}
	saver->buffer = larger;
	saver->capacity = capacity;
	return STATUS_SUCCESS;
}

static NTSTATUS
copy_snapshot(VMBCHANNEL handle, struct saver *saver)
{
	ULONG filled, required = FIRST_CAPACITY;
	NTSTATUS status;

	do {
		status = make_room(saver, required);
		if (!NT_SUCCESS(status))
			return status;
		filled = required = 0;
		status = VmbChannelSaveContinue(handle, saver->buffer + saver->used,
		                                saver->capacity - saver->used, &filled, &required);
		saver->used += filled;
	} while (status == STATUS_BUFFER_OVERFLOW || status == STATUS_BUFFER_TOO_SMALL);
	return status;
}

static NTSTATUS
save_channel(struct storvsp_channel *channel, struct saver *saver)
{
	UINT32 length_at = saver->used;
	NTSTATUS status;

	status = make_room(saver, LENGTH_BYTES);
	if (NT_SUCCESS(status))
		status = VmbChannelSaveBegin(channel->handle);
	if (!NT_SUCCESS(status))
		return status;
	saver->used += LENGTH_BYTES;
	status = copy_snapshot(channel->handle, saver);
	VmbChannelSaveEnd(channel->handle);
	if (NT_SUCCESS(status))
		storvsp_put_le32(saver->buffer + length_at, saver->used - length_at - LENGTH_BYTES);
	return status;
}

static VOID
put_header(struct storvsp *storvsp, UINT8 *at, UINT32 subchannels)
{
	storvsp_put_le32(at + AT_MAGIC, SAVED_MAGIC);
	storvsp_put_le32(at + AT_FORMAT, SAVED_FORMAT);
	storvsp_put_le32(at + AT_STATE, (UINT32)storvsp_load(&storvsp->state));
	storvsp_put_le32(at + AT_VERSION, (UINT32)storvsp_load(&storvsp->version));
	storvsp_put_le32(at + AT_SUBCHANNELS, subchannels);
}

NTSTATUS
storvsp_save(struct storvsp *storvsp, UINT8 **saved, SIZE_T *bytes)
{
	struct saver saver = { NULL, 0, 0 };
	UINT32 subchannels, i;
	NTSTATUS status;

	*saved = NULL;
	*bytes = 0;
	/* The primary first: from then on no subchannel is added. */
	VmbChannelPause(storvsp->channels[0].handle);
	subchannels = (UINT32)storvsp_load(&storvsp->subchannels);
	for (i = 1; i <= subchannels; i++)
		VmbChannelPause(storvsp->channels[i].handle);
	status = make_room(&saver, HEADER_BYTES);
	saver.used = HEADER_BYTES;
	for (i = 0; i <= subchannels && NT_SUCCESS(status); i++)
		status = save_channel(&storvsp->channels[i], &saver);
	if (!NT_SUCCESS(status)) {
		storvsp_free_saved(saver.buffer);
		storvsp_resume(storvsp);
		return status;
	}
	put_header(storvsp, saver.buffer, subchannels);
	*saved = saver.buffer;
	*bytes = saver.used;
	return STATUS_SUCCESS;
}

VOID
storvsp_free_saved(UINT8 *saved)
{
	if (saved != NULL)
		ExFreePoolWithTag(saved, STORVSP_TAG);
}

VOID
storvsp_resume(struct storvsp *storvsp)
{
	LONG i;

	for (i = storvsp_load(&storvsp->subchannels); i >= 0; i--)
		VmbChannelStart(storvsp->channels[i].handle);
}

/* ---- restoring ------------------------------------------------------------------------------ */

struct restorer {
	const UINT8 *at;
	SIZE_T left;
};

static NTSTATUS
restore_channel(VMBCHANNEL handle, struct restorer *restorer)
{
	NTSTATUS status;
	UINT32 length;
	UINT8 *copy;

	if (restorer->left < LENGTH_BYTES)
		return STATUS_INVALID_PARAMETER;
	length = storvsp_le32(restorer->at);
	restorer->at += LENGTH_BYTES;
	restorer->left -= LENGTH_BYTES;
	if (length == 0 || length > restorer->left)
		return STATUS_INVALID_PARAMETER;
	/* The library wants to be given memory that may be written, and the caller's may not. */
	copy = (UINT8 *)ExAllocatePoolWithTag(PagedPool, length, STORVSP_TAG);
	if (copy == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	RtlCopyMemory(copy, restorer->at, length);
	status = VmbChannelRestoreFromBuffer(handle, copy, length);
	ExFreePoolWithTag(copy, STORVSP_TAG);
	restorer->at += length;
	restorer->left -= length;
	/* More was expected, and there is none. */
	return status == STATUS_MORE_PROCESSING_REQUIRED ? STATUS_INVALID_PARAMETER : status;
}

/* What was agreed, if it can have been. */
static BOOLEAN
header_is_valid(const struct storvsp *storvsp, const UINT8 *at)
{
	UINT32 state = storvsp_le32(at + AT_STATE), version = storvsp_le32(at + AT_VERSION);
	UINT32 subchannels = storvsp_le32(at + AT_SUBCHANNELS);

	return storvsp_le32(at + AT_MAGIC) == SAVED_MAGIC &&
	       storvsp_le32(at + AT_FORMAT) == SAVED_FORMAT && state <= STORVSP_S_READY &&
	       (state >= STORVSP_S_VERSION ? storvsp_version_is_known(version) : version == 0) &&
	       subchannels <= (state >= STORVSP_S_PROPERTIES ? storvsp->channel_count - 1 : 0);
}

/* Returns the number of subchannels. */
static UINT32
take_header(struct storvsp *storvsp, const UINT8 *at)
{
	UINT32 subchannels = storvsp_le32(at + AT_SUBCHANNELS);

	InterlockedExchange(&storvsp->version, (LONG)storvsp_le32(at + AT_VERSION));
	InterlockedExchange(&storvsp->state, (LONG)storvsp_le32(at + AT_STATE));
	InterlockedExchange(&storvsp->subchannels, (LONG)subchannels);
	return subchannels;
}

NTSTATUS
storvsp_restore(struct storvsp *storvsp, const UINT8 *saved, SIZE_T bytes)
{
	struct restorer restorer;
	UINT32 subchannels, i;
	NTSTATUS status;

	if (bytes < HEADER_BYTES || !header_is_valid(storvsp, saved))
		return STATUS_INVALID_PARAMETER;
	restorer.at = saved + HEADER_BYTES;
	restorer.left = bytes - HEADER_BYTES;
	status = restore_channel(storvsp->channels[0].handle, &restorer);
	/* A guest that has it open does not open it again, and has agreed on this. */
	subchannels = take_header(storvsp, saved);
	for (i = 1; i <= subchannels && NT_SUCCESS(status); i++) {
		status = storvsp_enable_subchannel(storvsp, i);
		if (NT_SUCCESS(status))
			status = restore_channel(storvsp->channels[i].handle, &restorer);
		if (NT_SUCCESS(status))
			VmbChannelStart(storvsp->channels[i].handle);
	}
	if (NT_SUCCESS(status) && restorer.left != 0)
		status = STATUS_INVALID_PARAMETER;
	return status;
}

/* ---- what the bus keeps --------------------------------------------------------------------- */

/*
 * The other way to a successor: somebody saves the channels over our head, and has kept what was
 * agreed with the primary channel.
 */

VOID
storvsp_keep(struct storvsp *storvsp)
{
	UINT8 header[HEADER_BYTES];

	if (storvsp->keep_state == NULL)
		return;
	put_header(storvsp, header, (UINT32)storvsp_load(&storvsp->subchannels));
	if (!NT_SUCCESS(storvsp->keep_state(storvsp->state_context, storvsp->channels[0].handle,
	                                    header, sizeof(header))))
		DbgPrint("storvsp: not enough memory to keep what was agreed for a successor\n");
}

NTSTATUS
storvsp_inherit(struct storvsp *storvsp, const struct storvsp_options *options)
{
	UINT8 header[HEADER_BYTES];
	UINT32 subchannels, i;
	ULONG filled = 0;
	NTSTATUS status;

	status = options->read_state(options->state_context, storvsp->channels[0].handle, header,
	                             sizeof(header), &filled);
	/* Nobody has it open, or nothing was said yet. */
	if (status == STATUS_NOT_FOUND)
		return STATUS_SUCCESS;
	if (!NT_SUCCESS(status) || filled != sizeof(header) || !header_is_valid(storvsp, header))
		return STATUS_INVALID_PARAMETER;
	subchannels = take_header(storvsp, header);
	for (i = 1; i <= subchannels; i++) {
		status = storvsp_enable_subchannel(storvsp, i);
		if (!NT_SUCCESS(status))
			return status;
		VmbChannelStart(storvsp->channels[i].handle);
	}
	return STATUS_SUCCESS;
}
