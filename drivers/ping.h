/* SPDX-License-Identifier: MIT */
/*
 * A client of the echo server that measures round trips: what its users say to it by IOCTL, and its core, which both the WDM
 * and the KMDF driver around it use. Every call of the library goes through the interface that the driver has queried.
 */
#ifndef DRIVERS_PING_H
#define DRIVERS_PING_H

#include "echo.h"

/* ---- IOCTLs ----------------------------------------------------------------------------------- */

#define PING_IOCTL(function) \
	CTL_CODE(FILE_DEVICE_UNKNOWN, 0xA00 + (function), METHOD_BUFFERED, FILE_ANY_ACCESS)

/* In: PING_RUN. Out: PING_RESULT. */
#define IOCTL_PING_RUN PING_IOCTL(0)
/* Out: PING_STATISTICS. */
#define IOCTL_PING_STATISTICS PING_IOCTL(1)

#define PING_MAXIMUM_DEPTH 256u
/* Fits a ring of 16 pages of data, the smallest that a Linux guest's kernel makes (uio), together with its descriptor. */
#define PING_MAXIMUM_SIZE 61440u

typedef struct _PING_RUN {
	UINT32 Count;         /* requests, at least 1 */
	UINT32 Size;          /* bytes of each: a multiple of 8, 8..PING_MAXIMUM_SIZE */
	UINT32 Depth;         /* 0: one synchronous request after another; else packets in flight */
	UINT32 Reserved;
} PING_RUN, *PPING_RUN;
C_ASSERT(sizeof(PING_RUN) == 16);

typedef struct _PING_RESULT {
	UINT64 Answered;
	UINT64 Wrong;         /* answers that were not what was sent */
	UINT64 Failed;        /* requests that ended with an error; a run ends when the channel is gone */
	UINT64 ElapsedNs;
	UINT64 ShortestNs, LongestNs, SumNs; /* round trips of those answered */
	NTSTATUS FirstFailure;
	UINT32 Reserved;
} PING_RESULT, *PPING_RESULT;
C_ASSERT(sizeof(PING_RESULT) == 64);

/* Since the device started. */
typedef struct _PING_STATISTICS {
	UINT64 Runs, Answered, Wrong, Failed, Bytes;
	UINT64 Running;       /* runs under way, not counted in the others yet */
} PING_STATISTICS, *PPING_STATISTICS;
C_ASSERT(sizeof(PING_STATISTICS) == 48);

/* ---- the core --------------------------------------------------------------------------------- */

typedef struct _PING *PPING;

/*
 * Open the offer that a device object of the bus stands for. Takes over the reference that the interface has, whatever it returns. PASSIVE.
 * STATUS_SUCCESS, STATUS_INSUFFICIENT_RESOURCES, what VmbChannelEnable returned.
 */
NTSTATUS PingOpen(PDEVICE_OBJECT Pdo, const KMCL_CLIENT_INTERFACE_V1 *Kmcl, PPING *Ping);
/* Runs end with failures, new ones are refused. PASSIVE. */
VOID PingDisconnect(PPING Ping);
/* The same, and free it; no run may be under way. PASSIVE. */
VOID PingClose(PPING Ping);
/*
 * The IOCTLs, buffered. *Information: bytes of output. PASSIVE. STATUS_SUCCESS: it ran; STATUS_BUFFER_TOO_SMALL, STATUS_INVALID_PARAMETER,
 * STATUS_INVALID_DEVICE_REQUEST (code), STATUS_DEVICE_NOT_READY (the channel did not open in time), STATUS_DEVICE_REMOVED,
 * STATUS_INSUFFICIENT_RESOURCES.
 */
NTSTATUS PingControl(PPING Ping, ULONG Code, PVOID Buffer, SIZE_T InputLength, SIZE_T OutputLength,
                     PULONG_PTR Information);

#endif
