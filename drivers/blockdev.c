/* SPDX-License-Identifier: MIT */
/*
 * The block device's server. A packet is checked, its external data is mapped where it lies in the client's memory, and the
 * file below reads or writes it there; the thread that learns of the end answers. Nothing is allocated per request: the
 * transaction quota bounds them, and there is an object for each.
 *
 * The client is not trusted. A request is copied before it is looked at only once by the library (the payload is a private
 * copy), all numbers in it are checked before they are used, and whatever it does to its own memory meanwhile changes its
 * own data and nothing else.
 */
#include <initguid.h>

#include "blockdev.h"

#include "blockdev_file.h"

#define BLOCKDEV_TAG 'vDlB'

typedef struct _BLOCKDEV_IO {
	struct block_io Io;           /* first: the file knows this */
	struct _BLOCKDEV_IO *NextFree;
	PBLOCKDEV_DISK Disk;
	VMBPACKETCOMPLETION Packet;
	UINT64 Id;
	UINT32 Length;
	LONG64 Ticket;                /* of arrival */
	struct block_range Ranges[BLOCKDEV_MAXIMUM_RANGES];
} BLOCKDEV_IO, *PBLOCKDEV_IO;

typedef struct _BLOCKDEV_DISK {
	VMBCHANNEL Channel;
	struct block_file *File;
	UINT64 Bytes;
	BOOLEAN ReadOnly;
	ULONG Depth;
	PBLOCKDEV_IO Ios;
	KSPIN_LOCK Lock;              /* of the rest */
	PBLOCKDEV_IO Free;
	LONG64 Arrived;
	LONG64 NewestAnswered;
	BLOCKDEV_COUNTERS Counters;
} BLOCKDEV_DISK;

/* ---- answers ---------------------------------------------------------------------------------- */

static VOID
BlockdevAnswer(VMBPACKETCOMPLETION Packet, UINT64 Id, NTSTATUS Status, UINT32 Length)
{
	BLOCKDEV_RESPONSE response;

	response.Id = Id;
	response.Status = Status;
	response.Length = NT_SUCCESS(Status) ? Length : 0;
	VmbChannelPacketComplete(Packet, &response, sizeof(response));
}

static VOID
BlockdevRefuse(PBLOCKDEV_DISK Disk, VMBPACKETCOMPLETION Packet, UINT64 Id, NTSTATUS Status)
{
	KIRQL irql;

	KeAcquireSpinLock(&Disk->Lock, &irql);
	Disk->Counters.Refused++;
	KeReleaseSpinLock(&Disk->Lock, irql);
	BlockdevAnswer(Packet, Id, Status, 0);
}

static VOID
BlockdevIdentity(PBLOCKDEV_DISK Disk, VMBPACKETCOMPLETION Packet, UINT64 Id)
{
	BLOCKDEV_IDENTITY identity;

	RtlZeroMemory(&identity, sizeof(identity));
	identity.Response.Id = Id;
	identity.Response.Status = STATUS_SUCCESS;
	identity.Bytes = Disk->Bytes;
	identity.BlockBytes = BLOCKDEV_BLOCK_BYTES;
	identity.MaximumTransfer = BLOCKDEV_MAXIMUM_TRANSFER;
	identity.MaximumRanges = BLOCKDEV_MAXIMUM_RANGES;
	identity.Depth = Disk->Depth;
	identity.Flags = Disk->ReadOnly ? BLOCKDEV_READ_ONLY : 0;
	VmbChannelPacketComplete(Packet, &identity, sizeof(identity));
}

static NTSTATUS
BlockdevStatus(enum block_result Result)
{
	switch (Result) {
	case BLOCK_DONE:
		return STATUS_SUCCESS;
	case BLOCK_NOT_FOUND:
		return STATUS_OBJECT_NAME_NOT_FOUND;
	case BLOCK_REFUSED:
		return STATUS_ACCESS_DENIED;
	case BLOCK_WRONG_KIND:
		return STATUS_OBJECT_TYPE_MISMATCH;
	case BLOCK_IN_USE:
		return STATUS_SHARING_VIOLATION;
	case BLOCK_NO_MEMORY:
		return STATUS_INSUFFICIENT_RESOURCES;
	case BLOCK_FULL:
		return STATUS_DISK_FULL;
	case BLOCK_SHORT:
	case BLOCK_UNSUPPORTED:
	case BLOCK_FAILED:
		break;
	}
	return STATUS_IO_DEVICE_ERROR;
}

static VOID
BlockdevCountLocked(PBLOCKDEV_DISK Disk, PBLOCKDEV_IO Io, enum block_result Result)
{
	PBLOCKDEV_COUNTERS counters = &Disk->Counters;

	if (Io->Ticket < Disk->NewestAnswered)
		counters->OutOfOrder++;
	else
		Disk->NewestAnswered = Io->Ticket;
	if (Result != BLOCK_DONE) {
		counters->Failed++;
	} else if (Io->Io.action == BLOCK_READ) {
		counters->Reads++;
		counters->BytesRead += Io->Length;
	} else if (Io->Io.action == BLOCK_WRITE) {
		counters->Writes++;
		counters->BytesWritten += Io->Length;
	} else {
		counters->Flushes++;
	}
}

/* Called by the file, on any thread. */
static VOID
BlockdevDone(struct block_io *FileIo, enum block_result Result)
{
	PBLOCKDEV_IO io = CONTAINING_RECORD(FileIo, BLOCKDEV_IO, Io);
	PBLOCKDEV_DISK disk = io->Disk;
	VMBPACKETCOMPLETION packet = io->Packet;
	UINT64 id = io->Id;
	UINT32 length = io->Length;
	KIRQL irql;

	KeAcquireSpinLock(&disk->Lock, &irql);
	BlockdevCountLocked(disk, io, Result);
	/* Before the answer: with it the next packet may come, and find an object. */
	io->NextFree = disk->Free;
	disk->Free = io;
	KeReleaseSpinLock(&disk->Lock, irql);
	BlockdevAnswer(packet, id, BlockdevStatus(Result), length);
}

/* ---- requests --------------------------------------------------------------------------------- */

/* The client's memory as ranges of ours; exactly Length bytes of it. */
static NTSTATUS
BlockdevMap(PBLOCKDEV_IO Io, BOOLEAN ReadOnly)
{
	UINT64 total = 0;
	NTSTATUS status;
	PMDL mdl;

	status = VmbChannelPacketGetExternalData(
	        Io->Packet, ReadOnly ? VMBUS_CHANNEL_PACKET_EXTERNAL_DATA_FLAG_READ_ONLY : 0, &mdl);
	if (!NT_SUCCESS(status)) {
		/* Too much of it, or pages that are not the client's: its mistake. */
		return status == STATUS_INSUFFICIENT_RESOURCES ? status : STATUS_INVALID_PARAMETER;
	}
	for (Io->Io.range_count = 0; mdl != NULL; mdl = mdl->Next) {
		struct block_range *range = &Io->Ranges[Io->Io.range_count];

		if (Io->Io.range_count++ == BLOCKDEV_MAXIMUM_RANGES)
			return STATUS_INVALID_PARAMETER;
		range->bytes = MmGetMdlByteCount(mdl);
		total += range->bytes;
		range->address = MmGetSystemAddressForMdlSafe(mdl, NormalPagePriority);
		if (range->address == NULL)
			return STATUS_INSUFFICIENT_RESOURCES;
	}
	return total == Io->Length ? STATUS_SUCCESS : STATUS_INVALID_PARAMETER;
}

static NTSTATUS
BlockdevCheck(PBLOCKDEV_DISK Disk, const BLOCKDEV_REQUEST *Request, BOOLEAN HasData)
{
	BOOLEAN transfers =
	        Request->Operation == BlockdevRead || Request->Operation == BlockdevWrite;

	if (Request->Version != BLOCKDEV_PROTOCOL_VERSION)
		return STATUS_REVISION_MISMATCH;
	if (Request->Operation < BlockdevIdentify || Request->Operation > BlockdevFlush)
		return STATUS_INVALID_DEVICE_REQUEST;
	if (Request->Reserved != 0 || Request->Reserved2 != 0 || HasData != transfers)
		return STATUS_INVALID_PARAMETER;
	if (!transfers)
		return Request->Offset == 0 && Request->Length == 0 ? STATUS_SUCCESS
		                                                    : STATUS_INVALID_PARAMETER;
	if (Request->Offset % BLOCKDEV_BLOCK_BYTES != 0 ||
	    Request->Length % BLOCKDEV_BLOCK_BYTES != 0 || Request->Length == 0 ||
	    Request->Length > BLOCKDEV_MAXIMUM_TRANSFER)
		return STATUS_INVALID_PARAMETER;
	if (Request->Offset > Disk->Bytes || Request->Length > Disk->Bytes - Request->Offset)
		return STATUS_NONEXISTENT_SECTOR;
	if (Request->Operation == BlockdevWrite && Disk->ReadOnly)
		return STATUS_MEDIA_WRITE_PROTECTED;
	return STATUS_SUCCESS;
}

static PBLOCKDEV_IO
BlockdevTakeIo(PBLOCKDEV_DISK Disk)
{
	PBLOCKDEV_IO io;
	KIRQL irql;

	KeAcquireSpinLock(&Disk->Lock, &irql);
	io = Disk->Free;
	if (io != NULL) {
		Disk->Free = io->NextFree;
		io->Ticket = ++Disk->Arrived;
	}
	KeReleaseSpinLock(&Disk->Lock, irql);
	return io;
}

static VOID
BlockdevGiveIo(PBLOCKDEV_DISK Disk, PBLOCKDEV_IO Io)
{
	KIRQL irql;

	KeAcquireSpinLock(&Disk->Lock, &irql);
	Io->NextFree = Disk->Free;
	Disk->Free = Io;
	KeReleaseSpinLock(&Disk->Lock, irql);
}

static enum block_action
BlockdevAction(UINT16 Operation)
{
	if (Operation == BlockdevRead)
		return BLOCK_READ;
	return Operation == BlockdevWrite ? BLOCK_WRITE : BLOCK_SYNC;
}

static EVT_VMB_CHANNEL_PROCESS_PACKET BlockdevProcessPacket;
static EVT_VMB_CHANNEL_PROCESSING_COMPLETE BlockdevProcessingComplete;

static VOID
BlockdevProcessPacket(VMBCHANNEL Channel, VMBPACKETCOMPLETION Packet, PVOID Buffer,
                      UINT32 BufferLength, UINT32 Flags)
{
	PBLOCKDEV_DISK disk = (PBLOCKDEV_DISK)VmbChannelGetPointer(Channel);
	const BLOCKDEV_REQUEST *request = (const BLOCKDEV_REQUEST *)Buffer;
	NTSTATUS status;
	PBLOCKDEV_IO io;

	if (BufferLength != sizeof(*request)) {
		BlockdevRefuse(disk, Packet, 0, STATUS_INVALID_PARAMETER);
		return;
	}
	status = BlockdevCheck(disk, request,
	                       (Flags & VMBUS_CHANNEL_PROCESS_PACKET_FLAG_EXTERNAL_DATA) != 0);
	if (!NT_SUCCESS(status)) {
		BlockdevRefuse(disk, Packet, request->Id, status);
		return;
	}
	if (request->Operation == BlockdevIdentify) {
		BlockdevIdentity(disk, Packet, request->Id);
		return;
	}
	io = BlockdevTakeIo(disk);
	if (io == NULL) {
		/* The quota says that there is one. */
		BlockdevRefuse(disk, Packet, request->Id, STATUS_INSUFFICIENT_RESOURCES);
		return;
	}
	io->Packet = Packet;
	io->Id = request->Id;
	io->Length = request->Length;
	io->Io.action = BlockdevAction(request->Operation);
	io->Io.offset = request->Offset;
	io->Io.ranges = io->Ranges;
	io->Io.range_count = 0;
	if (request->Length != 0) {
		status = BlockdevMap(io, request->Operation == BlockdevWrite);
		if (!NT_SUCCESS(status)) {
			BlockdevGiveIo(disk, io);
			BlockdevRefuse(disk, Packet, request->Id, status);
			return;
		}
	}
	block_file_queue(disk->File, &io->Io);
}

/* The ring is empty for now: what came goes to the file together. */
static VOID
BlockdevProcessingComplete(VMBCHANNEL Channel, UINT32 PacketsProcessed)
{
	PBLOCKDEV_DISK disk = (PBLOCKDEV_DISK)VmbChannelGetPointer(Channel);

	UNREFERENCED_PARAMETER(PacketsProcessed);
	block_file_kick(disk->File);
}

/* ---- life ------------------------------------------------------------------------------------- */

static VOID
BlockdevFree(PBLOCKDEV_DISK Disk)
{
	if (Disk->Channel != NULL)
		VmbChannelCleanup(Disk->Channel);
	if (Disk->File != NULL)
		block_file_close(Disk->File);
	if (Disk->Ios != NULL)
		ExFreePoolWithTag(Disk->Ios, BLOCKDEV_TAG);
	ExFreePoolWithTag(Disk, BLOCKDEV_TAG);
}

static NTSTATUS
BlockdevConfigure(PBLOCKDEV_DISK Disk, const BLOCKDEV_CONFIG *Config)
{
	DECLARE_CONST_UNICODE_STRING(name, L"blockdev");
	VMBCHANNEL channel;
	NTSTATUS status;

	status = VmbChannelAllocate(NULL, TRUE, &Disk->Channel);
	channel = Disk->Channel;
	if (!NT_SUCCESS(status))
		return status;
	status = Config->VmbusHandle != NULL
	                 ? VmbServerChannelInitSetVmbusHandle(channel, Config->VmbusHandle)
	                 : VmbServerChannelInitSetFlags(
	                           channel, VMBUS_SERVER_CHANNEL_INIT_FLAG_LOOPBACK_OFFER);
	if (NT_SUCCESS(status))
		status = VmbServerChannelInitSetTargetInterfaceId(channel, BLOCKDEV_INTERFACE_TYPE,
		                                                  Config->Instance);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetMaximumPacketSize(channel, sizeof(BLOCKDEV_IDENTITY));
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetMaximumExternalData(channel, BLOCKDEV_MAXIMUM_TRANSFER,
		                                              BLOCKDEV_MAXIMUM_RANGES);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetFriendlyName(channel, &name);
	if (NT_SUCCESS(status))
		status = VmbChannelInitSetProcessPacketCallbacks(channel, BlockdevProcessPacket,
		                                                 BlockdevProcessingComplete);
	VmbChannelSetPointer(channel, Disk);
	VmbChannelSetTransactionQuota(channel, Disk->Depth);
	return status;
}

static NTSTATUS
BlockdevOpen(PBLOCKDEV_DISK Disk, const BLOCKDEV_CONFIG *Config)
{
	struct block_file_options options;
	enum block_result result;

	options.path = Config->Path;
	options.read_only = Config->ReadOnly != FALSE;
	options.depth = Disk->Depth;
	options.engine = Config->NoUring ? BLOCK_ENGINE_THREADS : BLOCK_ENGINE_BEST;
	result = block_file_open(&options, &Disk->File);
	if (result != BLOCK_DONE)
		return BlockdevStatus(result);
	Disk->Bytes = block_file_bytes(Disk->File) / BLOCKDEV_BLOCK_BYTES * BLOCKDEV_BLOCK_BYTES;
	return Disk->Bytes == 0 ? STATUS_DISK_FULL : STATUS_SUCCESS;
}

NTSTATUS
BlockdevStart(const BLOCKDEV_CONFIG *Config, PBLOCKDEV_DISK *Disk)
{
	ULONG depth = Config->Depth != 0 ? Config->Depth : BLOCKDEV_DEFAULT_DEPTH;
	PBLOCKDEV_DISK disk;
	NTSTATUS status;
	ULONG i;

	*Disk = NULL;
	if (Config->Path == NULL || depth > BLOCKDEV_MAXIMUM_DEPTH)
		return STATUS_INVALID_PARAMETER;
	disk = (PBLOCKDEV_DISK)ExAllocatePoolWithTag(NonPagedPoolNx, sizeof(*disk), BLOCKDEV_TAG);
	if (disk == NULL)
		return STATUS_INSUFFICIENT_RESOURCES;
	RtlZeroMemory(disk, sizeof(*disk));
	KeInitializeSpinLock(&disk->Lock);
	disk->ReadOnly = Config->ReadOnly;
	disk->Depth = depth;
	status = STATUS_INSUFFICIENT_RESOURCES;
	disk->Ios = (PBLOCKDEV_IO)ExAllocatePoolWithTag(NonPagedPoolNx, depth * sizeof(*disk->Ios),
	                                                BLOCKDEV_TAG);
	if (disk->Ios == NULL)
		goto fail;
	RtlZeroMemory(disk->Ios, depth * sizeof(*disk->Ios));
	for (i = 0; i < depth; i++) {
		disk->Ios[i].Disk = disk;
		disk->Ios[i].Io.done = BlockdevDone;
		disk->Ios[i].NextFree = disk->Free;
		disk->Free = &disk->Ios[i];
	}
	status = BlockdevOpen(disk, Config);
	if (!NT_SUCCESS(status))
		goto fail;
	status = BlockdevConfigure(disk, Config);
	if (!NT_SUCCESS(status))
		goto fail;
	status = VmbChannelEnable(disk->Channel);
	if (!NT_SUCCESS(status))
		goto fail;
	VmbChannelStart(disk->Channel);
	*Disk = disk;
	return STATUS_SUCCESS;

fail:
	BlockdevFree(disk);
	return status;
}

VOID
BlockdevStop(PBLOCKDEV_DISK Disk)
{
	/* Returns when every packet was answered, so that the file has nothing in work. */
	VmbChannelDisable(Disk->Channel);
	BlockdevFree(Disk);
}

VOID
BlockdevGetCounters(PBLOCKDEV_DISK Disk, PBLOCKDEV_COUNTERS Counters)
{
	KIRQL irql;

	KeAcquireSpinLock(&Disk->Lock, &irql);
	*Counters = Disk->Counters;
	KeReleaseSpinLock(&Disk->Lock, irql);
}

PCSTR
BlockdevEngine(PBLOCKDEV_DISK Disk)
{
	return block_file_engine(Disk->File);
}
