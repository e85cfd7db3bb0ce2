/* SPDX-License-Identifier: MIT */
/*
 * The block device: what its server and its clients say to each other, and the server's core.
 *
 * A client sends one BLOCKDEV_REQUEST per packet, asks for a completion, and gets a BLOCKDEV_RESPONSE as its payload; for
 * Identify a BLOCKDEV_IDENTITY. The data of a read or write is the packet's external data. Requests may be in flight
 * together and are answered in the order in which they get done: one that depends on another waits for the answer of
 * that. All numbers are little-endian; reserved fields are zero.
 */
#ifndef DRIVERS_BLOCKDEV_H
#define DRIVERS_BLOCKDEV_H

#include <wdm.h>
#include <vmbuskernelmodeclientlibapi.h>

/* {5d1f0a3c-8e42-4b76-9c0d-37a1e6f2b845}: device type of the block device, ours. */
DEFINE_GUID(BLOCKDEV_INTERFACE_TYPE, 0x5d1f0a3c, 0x8e42, 0x4b76, 0x9c, 0x0d, 0x37, 0xa1, 0xe6, 0xf2,
            0xb8, 0x45);

#define BLOCKDEV_PROTOCOL_VERSION 1

#define BLOCKDEV_BLOCK_BYTES 4096u
#define BLOCKDEV_MAXIMUM_TRANSFER (1024u * 1024u)
/* Most pieces of external data (MDLs) per request: page by page at worst. */
#define BLOCKDEV_MAXIMUM_RANGES 256u

typedef enum _BLOCKDEV_OPERATION {
	BlockdevIdentify = 1, /* Offset and Length 0 */
	BlockdevRead = 2,
	BlockdevWrite = 3,
	BlockdevFlush = 4     /* Offset and Length 0: what was answered before is safe */
} BLOCKDEV_OPERATION;

/* Offset and Length are bytes, multiples of BLOCKDEV_BLOCK_BYTES; Length is all of the external data. */
typedef struct _BLOCKDEV_REQUEST {
	UINT16 Version;       /* BLOCKDEV_PROTOCOL_VERSION */
	UINT16 Operation;     /* BLOCKDEV_OPERATION */
	UINT32 Reserved;
	UINT64 Id;            /* the client's; comes back */
	UINT64 Offset;
	UINT32 Length;
	UINT32 Reserved2;
} BLOCKDEV_REQUEST, *PBLOCKDEV_REQUEST;
C_ASSERT(sizeof(BLOCKDEV_REQUEST) == 32);

/*
 * Status: STATUS_SUCCESS; STATUS_INVALID_PARAMETER (malformed, not aligned, too long, or other than its external data),
 * STATUS_REVISION_MISMATCH, STATUS_INVALID_DEVICE_REQUEST (unknown operation), STATUS_NONEXISTENT_SECTOR (past the end),
 * STATUS_MEDIA_WRITE_PROTECTED, STATUS_DISK_FULL, STATUS_IO_DEVICE_ERROR, STATUS_INSUFFICIENT_RESOURCES.
 * After a failed write the blocks that it named may be old, new or in between.
 */
typedef struct _BLOCKDEV_RESPONSE {
	UINT64 Id;            /* 0 if the packet was too short to have one */
	NTSTATUS Status;
	UINT32 Length;        /* bytes transferred: all or 0 */
} BLOCKDEV_RESPONSE, *PBLOCKDEV_RESPONSE;
C_ASSERT(sizeof(BLOCKDEV_RESPONSE) == 16);

#define BLOCKDEV_READ_ONLY 0x1u

typedef struct _BLOCKDEV_IDENTITY {
	BLOCKDEV_RESPONSE Response;
	UINT64 Bytes;         /* a multiple of BlockBytes */
	UINT32 BlockBytes;
	UINT32 MaximumTransfer;
	UINT32 MaximumRanges;
	UINT32 Depth;         /* requests that are worked on at once; more wait in the ring */
	UINT32 Flags;         /* BLOCKDEV_READ_ONLY */
	UINT32 Reserved;
} BLOCKDEV_IDENTITY, *PBLOCKDEV_IDENTITY;
C_ASSERT(sizeof(BLOCKDEV_IDENTITY) == 48);

/* ---- the server's core ------------------------------------------------------------------------ */

#define BLOCKDEV_DEFAULT_DEPTH 64u
#define BLOCKDEV_MAXIMUM_DEPTH 1024u

typedef struct _BLOCKDEV_DISK *PBLOCKDEV_DISK;

typedef struct _BLOCKDEV_CONFIG {
	HANDLE VmbusHandle;       /* the caller's; NULL: the loopback bus */
	GUID Instance;
	PCSTR Path;               /* of the file, as the system below spells it */
	BOOLEAN ReadOnly;
	BOOLEAN NoUring;          /* threads, even if there is io_uring */
	ULONG Depth;              /* 0: BLOCKDEV_DEFAULT_DEPTH */
} BLOCKDEV_CONFIG, *PBLOCKDEV_CONFIG;

/* Since the disk was opened. */
typedef struct _BLOCKDEV_COUNTERS {
	LONG64 Reads, Writes, Flushes;  /* answered with success */
	LONG64 BytesRead, BytesWritten;
	LONG64 Refused;                 /* malformed, out of range, write-protected */
	LONG64 Failed;                  /* by the file below */
	LONG64 OutOfOrder;              /* answered before an older request was */
} BLOCKDEV_COUNTERS, *PBLOCKDEV_COUNTERS;

/*
 * Open the file and offer the disk. PASSIVE. On failure *Disk is NULL.
 * STATUS_SUCCESS; STATUS_OBJECT_NAME_NOT_FOUND, STATUS_ACCESS_DENIED, STATUS_SHARING_VIOLATION, STATUS_OBJECT_TYPE_MISMATCH (no
 * file or block device); STATUS_DISK_FULL (shorter than one block); STATUS_INVALID_PARAMETER (Depth); STATUS_INSUFFICIENT_RESOURCES;
 * STATUS_IO_DEVICE_ERROR; what VmbChannelEnable returned.
 */
NTSTATUS BlockdevStart(const BLOCKDEV_CONFIG *Config, PBLOCKDEV_DISK *Disk);
/* Take the offer back, wait for what is in work, close the file. PASSIVE. */
VOID BlockdevStop(PBLOCKDEV_DISK Disk);
VOID BlockdevGetCounters(PBLOCKDEV_DISK Disk, PBLOCKDEV_COUNTERS Counters);
/* For people: what moves the data. */
PCSTR BlockdevEngine(PBLOCKDEV_DISK Disk);

#endif
