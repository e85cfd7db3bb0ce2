/* SPDX-License-Identifier: MIT */
/*
 * The block device's client: what its users say to it by IOCTL, and its core.
 */
#ifndef DRIVERS_BLOCKCLIENT_H
#define DRIVERS_BLOCKCLIENT_H

#include "blockdev.h"

/* ---- IOCTLs ----------------------------------------------------------------------------------- */

#define BLOCKCLIENT_IOCTL(function, method) \
	CTL_CODE(FILE_DEVICE_UNKNOWN, 0xB00 + (function), method, FILE_ANY_ACCESS)

/* Out: BLOCKDEV_IDENTITY. */
#define IOCTL_BLOCK_IDENTIFY BLOCKCLIENT_IOCTL(0, METHOD_BUFFERED)
/*
 * A multiple of the block size, up to BLOCKDEV_MAXIMUM_TRANSFER, at Offset. Read: in: BLOCK_TRANSFER; out: the bytes, which the server puts
 * into the output buffer as it lies. Write: in: BLOCK_TRANSFER, and the bytes behind it.
 */
#define IOCTL_BLOCK_READ BLOCKCLIENT_IOCTL(1, METHOD_OUT_DIRECT)
#define IOCTL_BLOCK_WRITE BLOCKCLIENT_IOCTL(2, METHOD_BUFFERED)
#define IOCTL_BLOCK_FLUSH BLOCKCLIENT_IOCTL(3, METHOD_BUFFERED)
/* In: BLOCK_TEST. Out: BLOCK_TEST_RESULT. Destroys what is on the disk. */
#define IOCTL_BLOCK_TEST BLOCKCLIENT_IOCTL(4, METHOD_BUFFERED)

typedef struct _BLOCK_TRANSFER {
	UINT64 Offset;
} BLOCK_TRANSFER, *PBLOCK_TRANSFER;

#define BLOCK_TEST_MAXIMUM_DEPTH 256u

/*
 * Random reads and writes of MinimumBytes..MaximumBytes, Depth of them in flight, each slot in a part of the disk of its own; then
 * everything that was written is read again. Each block says which block, which write and which run it is of.
 */
typedef struct _BLOCK_TEST {
	UINT32 Seed;
	UINT32 Depth;         /* 1..BLOCK_TEST_MAXIMUM_DEPTH */
	UINT32 Requests;      /* in all, the second reading not counted */
	UINT32 MinimumBytes;  /* multiples of the block size */
	UINT32 MaximumBytes;
	UINT32 ReadPercent;   /* 0..100 */
} BLOCK_TEST, *PBLOCK_TEST;
C_ASSERT(sizeof(BLOCK_TEST) == 24);

typedef struct _BLOCK_TEST_RESULT {
	UINT64 Reads, Writes;
	UINT64 BytesRead, BytesWritten;
	UINT64 BlocksVerified;
	UINT64 WrongBlocks;   /* read, and not what was written last */
	UINT64 Failures;      /* requests that ended with an error; the test ends when the disk is gone */
	UINT64 Time100ns;
	NTSTATUS FirstFailure;
	UINT32 Reserved;
} BLOCK_TEST_RESULT, *PBLOCK_TEST_RESULT;
C_ASSERT(sizeof(BLOCK_TEST_RESULT) == 72);

/* ---- the core --------------------------------------------------------------------------------- */

typedef struct _BLOCKCLIENT *PBLOCKCLIENT;

/*
 * One request at a time, as often as wanted. Done runs at DISPATCH_LEVEL or below, once for each
 * successful BlockClientSubmit(); the request is the caller's again.
 */
typedef struct _BLOCKCLIENT_REQUEST {
	PBLOCKCLIENT Client;
	VMBPACKET Packet;
	BLOCKDEV_REQUEST Wire;
	NTSTATUS Status;
	VOID (*Done)(struct _BLOCKCLIENT_REQUEST *Request);
	PVOID Context;
} BLOCKCLIENT_REQUEST, *PBLOCKCLIENT_REQUEST;

/*
 * Look for a disk: the one that a device object of the bus stands for, or one by its instance GUID. Does not wait
 * for it. PASSIVE. STATUS_SUCCESS, STATUS_INSUFFICIENT_RESOURCES, what VmbChannelEnable returned.
 */
NTSTATUS BlockClientOpen(PDEVICE_OBJECT Pdo, LPCGUID Instance, PBLOCKCLIENT *Client);
/* Requests in flight end with STATUS_DEVICE_REMOVED, new ones are refused. PASSIVE. */
VOID BlockClientDisconnect(PBLOCKCLIENT Client);
/* The same, and free it; no request may be left that was not released. PASSIVE. */
VOID BlockClientClose(PBLOCKCLIENT Client);

/*
 * Wait until the disk is there and said what it is; NULL waits without limit. PASSIVE.
 * STATUS_SUCCESS; STATUS_DEVICE_NOT_READY: not in time; STATUS_DEVICE_REMOVED: it went away; else why it is of no use.
 */
NTSTATUS BlockClientIdentify(PBLOCKCLIENT Client, PBLOCKDEV_IDENTITY Identity,
                             PLARGE_INTEGER Timeout);

/* STATUS_INSUFFICIENT_RESOURCES. IRQL <= DISPATCH_LEVEL. */
NTSTATUS BlockClientInitializeRequest(PBLOCKCLIENT Client, PBLOCKCLIENT_REQUEST Request);
VOID BlockClientReleaseRequest(PBLOCKCLIENT_REQUEST Request);
/*
 * Start a transfer of Length bytes from MdlOffset of the MDL on, or a flush (Mdl NULL). The MDL may go at once, its pages must
 * stay. IRQL <= DISPATCH_LEVEL. As VmbPacketSendWithExternalMdl.
 */
NTSTATUS BlockClientSubmit(PBLOCKCLIENT_REQUEST Request, BLOCKDEV_OPERATION Operation,
                           UINT64 Offset, PMDL Mdl, UINT32 MdlOffset, UINT32 Length);
/* The same, and wait for the end. PASSIVE. */
NTSTATUS BlockClientTransfer(PBLOCKCLIENT Client, BLOCKDEV_OPERATION Operation, UINT64 Offset,
                             PMDL Mdl, UINT32 MdlOffset, UINT32 Length);

/* STATUS_SUCCESS: it ran, the result says how it went. STATUS_INVALID_PARAMETER, STATUS_INSUFFICIENT_RESOURCES. PASSIVE. */
NTSTATUS BlockClientTest(PBLOCKCLIENT Client, const BLOCK_TEST *Test, PBLOCK_TEST_RESULT Result);

#endif
