/* SPDX-License-Identifier: MIT */
/*
 * VMBus Kernel Mode Client Library: the documented API, versions 1 to 5 of both interfaces.
 *
 * Driver code written for Windows includes this header and compiles unchanged, against the project's
 * NT runtime (include/nt) or against a real wdm.h. Units are bytes and 4096-byte pages throughout.
 * Clause ids (SSR-4, ...) name the rules in docs/clauses.md; each status that a function returns is
 * listed with it. "IRQL <= D" means DISPATCH_LEVEL or below, "PASSIVE" means PASSIVE_LEVEL only.
 *
 * Every NTSTATUS function returns STATUS_INVALID_PARAMETER_1 for a NULL or stale handle; VOID functions
 * report misuse and do nothing; functions that return a pointer or a size return NULL or 0 (GEN-6).
 * STATUS_INVALID_PARAMETER_n names the n-th parameter (GEN-5). A failing call has no effect (GEN-4).
 *
 * Of versions 2 to 5 only the names are public. Their signatures are inferred, and say how surely:
 * high, medium or low. Those marked low are declared only where KMCL_ENABLE_INFERRED_LOW is defined
 * before this header; without it their slots are there, untyped, so that layouts never depend on it
 * (VER-4).
 */
#ifndef VMBUSKERNELMODECLIENTLIBAPI_H
#define VMBUSKERNELMODECLIENTLIBAPI_H

#if !defined(_NTDDK_) && !defined(_WDMDDK_) && !defined(_NTIFS_)
#include <wdm.h>
#endif
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define KMCL_EXPORT
#define KMCL_MUST_CHECK
#define KMCL_FASTCALL FASTCALL
#else
#define KMCL_EXPORT __attribute__((visibility("default")))
#define KMCL_MUST_CHECK __attribute__((warn_unused_result))
#define KMCL_FASTCALL
#endif

/* ---- handles (GEN-1) ---------------------------------------------------------------------- */

DECLARE_HANDLE(VMBCHANNEL);          /* VmbChannelAllocate .. VmbChannelCleanup */
DECLARE_HANDLE(VMBPACKET);           /* one outgoing transaction; reusable */
DECLARE_HANDLE(VMBPACKETCOMPLETION); /* one indicated packet, until completed or failed */

/* ---- constants ---------------------------------------------------------------------------- */

/* Flags of the send functions (OUT-12). */
#define VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION 0x1
#define VMBUS_CHANNEL_FORMAT_FLAG_FORCE_MDL_LENGTH 0x2
#define VMBUS_CHANNEL_FORMAT_FLAG_PAGED_BUFFER 0x4
#define VMBUS_CHANNEL_FORMAT_FLAGS 0x7
/* Direction hints for external data, named by us: the peer only writes it / only reads it. */
#define KMCL_FORMAT_FLAG_DATA_IN_ONLY 0x8
#define KMCL_FORMAT_FLAG_DATA_OUT_ONLY 0x10

#define VMBUS_CHANNEL_GPADL_FLAG_READ_ONLY 0x1
#define VMBUS_CHANNEL_GPADL_READ_ONLY VMBUS_CHANNEL_GPADL_FLAG_READ_ONLY
#define VMBUS_CHANNEL_GPADL_FLAGS 0x1

#define VMBUS_CHANNEL_INIT_FLAG_IS_PIPE 0x1
#define VMBUS_CHANNEL_INIT_FLAGS 0x1

#define VMBUS_SERVER_CHANNEL_INIT_FLAG_LOOPBACK_OFFER 0x1
#define VMBUS_SERVER_CHANNEL_INIT_FLAG_ENUMERATE_DEVICE_INTERFACE 0x2
#define VMBUS_SERVER_CHANNEL_INIT_FLAG_OFFER_AS_PIPE 0x4
#define VMBUS_SERVER_CHANNEL_INIT_FLAG_FORCE_NEW_CHANNEL 0x8
#define VMBUS_SERVER_CHANNEL_INIT_FLAG_TLNPI_PROVIDER_OFFER 0x10
#define VMBUS_SERVER_CHANNEL_INIT_FLAGS 0x1F

#define VMBUS_CHANNEL_PROCESS_PACKET_FLAG_EXTERNAL_DATA 0x1
#define VMBUS_CHANNEL_PROCESS_PACKET_FLAGS 0x1

#define VMBUS_CHANNEL_PACKET_EXTERNAL_DATA_FLAG_READ_ONLY 0x1
#define VMBUS_CHANNEL_PACKET_EXTERNAL_DATA_FLAGS 0x1

#define VMBUS_SERVER_CHANNEL_INIT_MAXIMUM_OFFER_DATA 120

#define KMCL_CLIENT_INTERFACE_VERSION_V1 1
#define KMCL_CLIENT_INTERFACE_VERSION_V2 2
#define KMCL_CLIENT_INTERFACE_VERSION_V3 3
#define KMCL_CLIENT_INTERFACE_VERSION_V4 4
#define KMCL_CLIENT_INTERFACE_VERSION_V5 5
#define KMCL_CLIENT_INTERFACE_VERSION_LATEST KMCL_CLIENT_INTERFACE_VERSION_V5
/* There is no server interface 2, 3 or 4. */
#define KMCL_SERVER_INTERFACE_VERSION_V1 1
#define KMCL_SERVER_INTERFACE_VERSION_V5 5
#define KMCL_SERVER_INTERFACE_VERSION_LATEST KMCL_SERVER_INTERFACE_VERSION_V5

/* Interface types for the query (IFQ-6: the values are this library's own). */
KMCL_EXPORT extern const GUID KMCL_CLIENT_INTERFACE_TYPE;
KMCL_EXPORT extern const GUID KMCL_SERVER_INTERFACE_TYPE;

/* ---- callbacks ----------------------------------------------------------------------------- */

/*
 * State callbacks, all at PASSIVE, one at a time for a channel (STM-3). Opened may refuse with a
 * failure status (EOP-2); the others cannot. Start, Pause, Enable, Disable and Cleanup of the same
 * channel are not allowed inside.
 */
typedef NTSTATUS EVT_VMB_CHANNEL_OPENED(VMBCHANNEL Channel);
typedef EVT_VMB_CHANNEL_OPENED *PFN_VMB_CHANNEL_OPENED;
typedef VOID EVT_VMB_CHANNEL_CLOSED(VMBCHANNEL Channel);
typedef EVT_VMB_CHANNEL_CLOSED *PFN_VMB_CHANNEL_CLOSED;
typedef VOID EVT_VMB_CHANNEL_SUSPEND(VMBCHANNEL Channel);
typedef EVT_VMB_CHANNEL_SUSPEND *PFN_VMB_CHANNEL_SUSPEND;
typedef VOID EVT_VMB_CHANNEL_STARTED(VMBCHANNEL Channel);
typedef EVT_VMB_CHANNEL_STARTED *PFN_VMB_CHANNEL_STARTED;
typedef VOID EVT_VMB_CHANNEL_POST_STARTED(VMBCHANNEL Channel);
typedef EVT_VMB_CHANNEL_POST_STARTED *PFN_VMB_CHANNEL_POST_STARTED;

/*
 * One received packet, IRQL <= D (PASSIVE if so asked, or after a deferral). Buffer is a private
 * copy of the payload, 8-byte aligned, never NULL; BufferLength is a multiple of 8 outside pipe
 * mode. It stays valid until the packet is completed (INC-4), which every call must be followed by
 * (EPP-1).
 */
typedef VOID EVT_VMB_CHANNEL_PROCESS_PACKET(VMBCHANNEL Channel, VMBPACKETCOMPLETION Packet,
                                            PVOID Buffer, UINT32 BufferLength, UINT32 Flags);
typedef EVT_VMB_CHANNEL_PROCESS_PACKET *PFN_VMB_CHANNEL_PROCESS_PACKET;

/* End of a batch in which PacketsProcessed packets were delivered (EPC-1..4). */
typedef VOID EVT_VMB_CHANNEL_PROCESSING_COMPLETE(VMBCHANNEL Channel, UINT32 PacketsProcessed);
typedef EVT_VMB_CHANNEL_PROCESSING_COMPLETE *PFN_VMB_CHANNEL_PROCESSING_COMPLETE;

/*
 * A sent packet's transaction is over (ECR-1), IRQL <= D. Status is STATUS_SUCCESS or
 * STATUS_DEVICE_REMOVED; for a packet that was queued before the open also
 * STATUS_INVALID_BUFFER_SIZE (its ring is too small) or STATUS_NOT_SUPPORTED (external data that
 * this bus cannot carry). Buffer is the peer's answer, valid during the call, NULL if none. The
 * packet may be freed or sent again inside.
 */
typedef VOID EVT_VMB_PACKET_COMPLETION_ROUTINE(VMBPACKET Packet, NTSTATUS Status, PVOID Buffer,
                                               UINT32 BufferLength);
typedef EVT_VMB_PACKET_COMPLETION_ROUTINE *PFN_VMB_PACKET_COMPLETION_ROUTINE;

/*
 * Server, inside VmbChannelSaveBegin: save the driver's part of a packet that is in use, PASSIVE
 * (ESP-1, ESP-2). SaveBufSize is 0 at first. Success then: the driver has no part. A failure with
 * *BytesNeeded set: called again with that many zeroed bytes. Any other failure ends the save and
 * is returned by it. The packet is only to be looked at.
 */
typedef NTSTATUS EVT_VMB_CHANNEL_SAVE_PACKET(VMBCHANNEL Channel, VMBPACKET Packet, PVOID SaveBuf,
                                             UINT32 SaveBufSize, PUINT32 BytesNeeded);
typedef EVT_VMB_CHANNEL_SAVE_PACKET *PFN_VMB_CHANNEL_SAVE_PACKET;
/*
 * Server, inside VmbChannelRestoreFromBuffer: allocate a packet, give it and LibBuf to
 * VmbPacketRestore, restore the driver's part from SaveBuf (NULL, 0: there is none), PASSIVE
 * (ERP-1). Success without VmbPacketRestore drops the transaction (ERP-2). After a failure, which
 * the restore returns, the packet is idle and the driver's again. Both buffers lie in what was
 * given to VmbChannelRestoreFromBuffer, at any alignment.
 */
typedef NTSTATUS EVT_VMB_CHANNEL_RESTORE_PACKET(VMBCHANNEL Channel, PVOID LibBuf, UINT32 LibBufSize,
                                                PVOID SaveBuf, UINT32 SaveBufSize);
typedef EVT_VMB_CHANNEL_RESTORE_PACKET *PFN_VMB_CHANNEL_RESTORE_PACKET;

/* Client: the offer was found but connecting failed (EPF-1), PASSIVE; the channel is Disabled. */
typedef VOID EVT_VMB_CHANNEL_PNP_FAILURE(VMBCHANNEL Channel, NTSTATUS FailureStatus);
typedef EVT_VMB_CHANNEL_PNP_FAILURE *PFN_VMB_CHANNEL_PNP_FAILURE;

#ifdef KMCL_ENABLE_INFERRED_LOW
/* The callbacks above with a context pointer of the driver's in front (V5-8..10; inferred, low). */
typedef VOID EVT_VMB_CHANNEL_PROCESS_PACKET_EX(PVOID Context, VMBCHANNEL Channel,
                                               VMBPACKETCOMPLETION Packet, PVOID Buffer,
                                               UINT32 BufferLength, UINT32 Flags);
typedef EVT_VMB_CHANNEL_PROCESS_PACKET_EX *PFN_VMB_CHANNEL_PROCESS_PACKET_EX;
typedef VOID EVT_VMB_CHANNEL_PROCESSING_COMPLETE_EX(PVOID Context, VMBCHANNEL Channel,
                                                    UINT32 PacketsProcessed);
typedef EVT_VMB_CHANNEL_PROCESSING_COMPLETE_EX *PFN_VMB_CHANNEL_PROCESSING_COMPLETE_EX;
typedef VOID EVT_VMB_PACKET_COMPLETION_ROUTINE_EX(PVOID Context, VMBPACKET Packet, NTSTATUS Status,
                                                  PVOID Buffer, UINT32 BufferLength);
typedef EVT_VMB_PACKET_COMPLETION_ROUTINE_EX *PFN_VMB_PACKET_COMPLETION_ROUTINE_EX;
typedef NTSTATUS EVT_VMB_CHANNEL_SAVE_PACKET_EX(PVOID Context, VMBCHANNEL Channel, VMBPACKET Packet,
                                                PVOID SaveBuf, UINT32 SaveBufSize,
                                                PUINT32 BytesNeeded);
typedef EVT_VMB_CHANNEL_SAVE_PACKET_EX *PFN_VMB_CHANNEL_SAVE_PACKET_EX;
typedef NTSTATUS EVT_VMB_CHANNEL_RESTORE_PACKET_EX(PVOID Context, VMBCHANNEL Channel, PVOID LibBuf,
                                                   UINT32 LibBufSize, PVOID SaveBuf,
                                                   UINT32 SaveBufSize);
typedef EVT_VMB_CHANNEL_RESTORE_PACKET_EX *PFN_VMB_CHANNEL_RESTORE_PACKET_EX;
#endif

/* SCB-1: every pointer is optional. */
typedef struct _VMB_CHANNEL_STATE_CHANGE_CALLBACKS {
	ULONG Version;
	ULONG Size;
	PFN_VMB_CHANNEL_OPENED EvtChannelOpened;
	PFN_VMB_CHANNEL_CLOSED EvtChannelClosed;
	PFN_VMB_CHANNEL_SUSPEND EvtChannelSuspend;
	PFN_VMB_CHANNEL_STARTED EvtChannelStarted;
	PFN_VMB_CHANNEL_POST_STARTED EvtChannelPostStarted;
} VMB_CHANNEL_STATE_CHANGE_CALLBACKS, *PVMB_CHANNEL_STATE_CHANGE_CALLBACKS;

#define VMB_CHANNEL_STATE_CHANGE_CALLBACKS_VERSION 1

/* SCB-2: zero the structure and set Version and Size. */
FORCEINLINE VOID
VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(PVMB_CHANNEL_STATE_CHANGE_CALLBACKS Callbacks)
{
	RtlZeroMemory(Callbacks, sizeof(*Callbacks));
	Callbacks->Version = VMB_CHANNEL_STATE_CHANGE_CALLBACKS_VERSION;
	Callbacks->Size = sizeof(*Callbacks);
}

/* ---- channels: life and configuration ------------------------------------------------------- */

/*
 * Make a channel with default parameters, Disabled (CHA-1). ParentDeviceObject may be NULL; on a
 * client without a target it names the bus and offer to open. PASSIVE. STATUS_SUCCESS,
 * STATUS_INVALID_PARAMETER_3, STATUS_INSUFFICIENT_RESOURCES.
 */
typedef NTSTATUS FN_VMB_CHANNEL_ALLOCATE(PDEVICE_OBJECT ParentDeviceObject, BOOLEAN IsServer,
                                         VMBCHANNEL *Channel);
/* Free a Disabled channel (CHC-2). No callback runs during or after it. PASSIVE. */
typedef VOID FN_VMB_CHANNEL_CLEANUP(VMBCHANNEL Channel);

/*
 * Describe a client buffer to the server (GPB-1): the handle may be sent once the call returned.
 * Blocks until the peer confirmed. The buffer must be pool memory. PASSIVE, client. STATUS_SUCCESS,
 * _1 channel, _2 flags, _3 buffer, _4 byte count, _5 handle pointer, STATUS_INVALID_DEVICE_REQUEST
 * (server), STATUS_INVALID_DEVICE_STATE, STATUS_INSUFFICIENT_RESOURCES, STATUS_UNSUCCESSFUL (the
 * peer refused), STATUS_NOT_SUPPORTED (this bus carries no GPADLs: uio), STATUS_DEVICE_REMOVED.
 */
typedef NTSTATUS FN_VMB_CHANNEL_CREATE_GPADL_FROM_BUFFER(VMBCHANNEL Channel, UINT32 Flags,
                                                         PVOID Buffer, UINT32 ByteCount,
                                                         PUINT32 GpadlHandle);
/* The same for part of an MDL chain; length 0 = to the end (GPM-2). _4 offset, _5 length, _6 handle pointer. */
typedef NTSTATUS FN_VMB_CHANNEL_CREATE_GPADL_FROM_MDL(VMBCHANNEL Channel, UINT32 Flags, PMDL Mdl,
                                                      UINT32 StartOffsetWithinMdl,
                                                      UINT32 DataLengthWithinMdl,
                                                      PUINT32 GpadlHandle);
/* Delete either kind; blocks while the server has it mapped (GPD-1), never after the close began. PASSIVE. */
typedef VOID FN_VMB_CHANNEL_DELETE_GPADL(VMBCHANNEL Channel, UINT32 GpadlHandle);

/* Close (client) or revoke (server) and wait until that is complete (CHD-1). PASSIVE, not in a callback. */
typedef VOID FN_VMB_CHANNEL_DISABLE(VMBCHANNEL Channel);
/*
 * Publish the offer (server) or look for it (client); does not wait for the peer (CHE-2). PASSIVE.
 * STATUS_SUCCESS, _1, STATUS_INVALID_DEVICE_STATE (not Disabled), STATUS_INVALID_DEVICE_REQUEST
 * (incomplete configuration), STATUS_INVALID_BUFFER_SIZE (limits that no ring can carry),
 * STATUS_OBJECT_NAME_COLLISION, STATUS_NO_SUCH_DEVICE (no bus), STATUS_INSUFFICIENT_RESOURCES,
 * STATUS_DEVICE_NOT_READY (a subchannel whose primary is not open).
 */
typedef NTSTATUS FN_VMB_CHANNEL_ENABLE(VMBCHANNEL Channel);
/* The instance GUID in use; zero while a client that accepts any instance has found none (GII-2). */
typedef VOID FN_VMB_CHANNEL_GET_INTERFACE_INSTANCE(VMBCHANNEL Channel, LPGUID InterfaceInstance);
/* Guest-physical address and bytes of the channel's MMIO space; 0, 0 when there is none (GMM-2). */
typedef VOID FN_VMB_CHANNEL_GET_MMIO_SPACE(VMBCHANNEL Channel, UINT64 *MmioAddress,
                                           UINT64 *MmioSize);
/* The pointer stored last, NULL if none (CGP-1). Lock-free. */
typedef PVOID KMCL_FASTCALL FN_VMB_CHANNEL_GET_POINTER(VMBCHANNEL Channel);

/* Init functions: PASSIVE, Disabled only; STATUS_INVALID_PARAMETER_1 in any other state (STM-1). */
/* Driver area with each incoming packet, 0..65536 bytes (ICS-1). _2. */
typedef NTSTATUS FN_VMB_CHANNEL_INIT_SET_CLIENT_CONTEXT_SIZE(VMBCHANNEL Channel, UINT32 ContextSize);
/* VMBUS_CHANNEL_INIT_FLAG_*; replaces earlier flags (ISF-1). _2. */
typedef NTSTATUS FN_VMB_CHANNEL_INIT_SET_FLAGS(VMBCHANNEL Channel, UINT32 Flags);
/* A name for traces; copied, 63 characters kept (IFN-2). _2, STATUS_INSUFFICIENT_RESOURCES. */
typedef NTSTATUS FN_VMB_CHANNEL_INIT_SET_FRIENDLY_NAME(VMBCHANNEL Channel, PCUNICODE_STRING Name);
/* Largest external data per packet, in bytes and in MDLs (IMX-1). _2, _3. */
typedef NTSTATUS FN_VMB_CHANNEL_INIT_SET_MAXIMUM_EXTERNAL_DATA(VMBCHANNEL Channel, UINT32 DataSize,
                                                               UINT32 ChainLength);
/* Largest inline payload, 1..524264 bytes (IMP-1, IMP-2). _2. */
typedef NTSTATUS FN_VMB_CHANNEL_INIT_SET_MAXIMUM_PACKET_SIZE(VMBCHANNEL Channel, UINT32 PacketSize);
/* The second may be NULL (IPC-1). _2. */
typedef NTSTATUS
FN_VMB_CHANNEL_INIT_SET_PROCESS_PACKET_CALLBACKS(VMBCHANNEL Channel,
                                                 PFN_VMB_CHANNEL_PROCESS_PACKET ProcessPacketCallback,
                                                 PFN_VMB_CHANNEL_PROCESSING_COMPLETE
                                                         ProcessingCompleteCallback);
/* The structure is copied (ISC-2). _2 for NULL or a wrong Version or Size. */
typedef NTSTATUS FN_VMB_CHANNEL_INIT_SET_STATE_CHANGE_CALLBACKS(
        VMBCHANNEL Channel, PVMB_CHANNEL_STATE_CHANGE_CALLBACKS StateChangeCallbacks);

/* ---- channels: incoming packets -------------------------------------------------------------- */

/*
 * End of an incoming packet (PKC-1): releases its buffers and external data and, if the sender asked, sends the
 * completion with this payload. Exactly once per packet, any thread, any order. IRQL <= D.
 */
typedef VOID FN_VMB_CHANNEL_PACKET_COMPLETE(VMBPACKETCOMPLETION PacketCompletionContext,
                                            PVOID PacketCompletionBuffer, UINT32 BufSize);
/* Inside ProcessPacket only: deliver this packet again at PASSIVE; those behind it wait (PKD-1..3). */
typedef VOID KMCL_FASTCALL
FN_VMB_CHANNEL_PACKET_DEFER_TO_PASSIVE(VMBPACKETCOMPLETION PacketCompletionContext);
/* Fail the packet and stop the channel for good (PKF-1, PKF-3). IRQL <= D. */
typedef VOID KMCL_FASTCALL FN_VMB_CHANNEL_PACKET_FAIL(VMBPACKETCOMPLETION PacketCompletionContext);
/*
 * The packet's external data as an MDL chain, one MDL per range, locked, not yet mapped, in the
 * peer's memory: nothing is copied (PGX-1, PGX-4). It lives until the packet is completed. IRQL <=
 * D. STATUS_SUCCESS, _1 (handle; malformed or foreign pages), _2 flags, _3 Mdl, STATUS_NOT_FOUND
 * (no external data), STATUS_INVALID_BUFFER_SIZE (above the configured limits),
 * STATUS_ACCESS_DENIED, STATUS_INSUFFICIENT_RESOURCES, STATUS_DEVICE_REMOVED.
 */
typedef NTSTATUS FN_VMB_CHANNEL_PACKET_GET_EXTERNAL_DATA(VMBPACKETCOMPLETION PacketCompletionContext,
                                                         UINT32 Flags, PMDL *Mdl);
/*
 * Go to paused; returns when every indicated packet is completed (CHP-1, CHP-2), or when
 * VmbChannelStart is called meanwhile. PASSIVE, not in a callback.
 */
typedef VOID FN_VMB_CHANNEL_PAUSE(VMBCHANNEL Channel);

/*
 * Send one packet and wait for its answer (SSR-1). Timeout as KeWaitForSingleObject, 100 ns: NULL =
 * no limit, negative = relative, positive = absolute, 0 = no waiting. One deadline covers ring
 * space and answer (SSR-23). PASSIVE if it can wait, else IRQL <= D. A server may only use Timeout
 * 0 without WAIT_FOR_COMPLETION (SSR-18..20).
 * *CompletionBufferSize, a multiple of 8, is the capacity on entry and the bytes written on success.
 * STATUS_SUCCESS; STATUS_BUFFER_OVERFLOW (timeout 0: no room, the peer never sees it);
 * STATUS_CANCELLED (the time is over: nothing was or will be written to the buffers);
 * STATUS_DEVICE_REMOVED; STATUS_BUFFER_TOO_SMALL (the answer was cut to the buffer); _1.._8;
 * STATUS_INVALID_BUFFER_SIZE (can never fit the ring); STATUS_NOT_SUPPORTED (external data that this
 * bus cannot carry); STATUS_INVALID_DEVICE_STATE; STATUS_INSUFFICIENT_RESOURCES.
 */
typedef NTSTATUS FN_VMB_CHANNEL_SEND_SYNCHRONOUS_REQUEST(VMBCHANNEL Channel, PVOID Buffer,
                                                         UINT32 BufferSize, PMDL ExternalDataMdl,
                                                         UINT32 Flags, PVOID CompletionBuffer,
                                                         PUINT32 CompletionBufferSize,
                                                         PLARGE_INTEGER Timeout);

/*
 * TRUE: ProcessPacket and the completion routines run at PASSIVE only, from the next batch on
 * (SIP-1). IRQL <= D.
 */
typedef VOID FN_VMB_CHANNEL_SET_INCOMING_PROCESSING_AT_PASSIVE(VMBCHANNEL Channel,
                                                               BOOLEAN RequirePassive);
/*
 * Latency of monitored notifications, 100 ns (SIL-1). Client, PASSIVE. STATUS_SUCCESS, _1, _3,
 * STATUS_INVALID_DEVICE_STATE, STATUS_INVALID_DEVICE_REQUEST (server), STATUS_NOT_SUPPORTED (the
 * channel has no monitor page).
 */
typedef NTSTATUS FN_VMB_CHANNEL_SET_INTERRUPT_LATENCY(VMBCHANNEL Channel, UINT16 Latency,
                                                      PUINT16 OriginalLatency);
/* One pointer of the driver's; survives Disable and Enable (CSP-1). */
typedef VOID KMCL_FASTCALL FN_VMB_CHANNEL_SET_POINTER(VMBCHANNEL Channel, PVOID Pointer);
/* At most Quota packets indicated and not completed; > 0 (STQ-1, STQ-2). IRQL <= D. */
typedef VOID FN_VMB_CHANNEL_SET_TRANSACTION_QUOTA(VMBCHANNEL Channel, UINT32 Quota);
/* Bytes for VmbPacketInitialize (CSZ-1). IRQL <= D. */
typedef UINT32 FN_VMB_CHANNEL_SIZEOF_PACKET(VMBCHANNEL Channel);
/* Leave paused; does not wait (CHS-1). PASSIVE, not in a state callback. */
typedef VOID FN_VMB_CHANNEL_START(VMBCHANNEL Channel);

/* Data pages of each ring, 1..16384; raised if the limits need more (CRP-2, CHE-6). Client. _2, _3. */
typedef NTSTATUS FN_VMB_CLIENT_CHANNEL_INIT_SET_RING_BUFFER_PAGE_COUNT(VMBCHANNEL Channel,
                                                                       UINT32 IncomingPageCount,
                                                                       UINT32 OutgoingPageCount);
/* The offer to open: type and, if given, instance (CTP-1). Client. _2. */
typedef NTSTATUS
FN_VMB_CLIENT_CHANNEL_INIT_SET_TARGET_PNP(VMBCHANNEL Channel, LPCGUID InterfaceType,
                                          LPCGUID InterfaceInstance,
                                          PFN_VMB_CHANNEL_PNP_FAILURE PnpFailureCallback);

/* ---- packets --------------------------------------------------------------------------------- */

/* A packet whose completion routine frees it (PKA-2). NULL if none can be had. IRQL <= D. */
typedef VMBPACKET FN_VMB_PACKET_ALLOCATE(VMBCHANNEL Channel);
/* Idle packets from VmbPacketAllocate only (PFR-1). IRQL <= D. */
typedef VOID FN_VMB_PACKET_FREE(VMBPACKET VmbPacket);
typedef VMBCHANNEL KMCL_FASTCALL FN_VMB_PACKET_GET_CHANNEL(VMBPACKET PacketObject);
typedef PVOID KMCL_FASTCALL FN_VMB_PACKET_GET_POINTER(VMBPACKET PacketObject);
/*
 * Make a packet of VmbChannelSizeofPacket bytes of caller memory, 8-byte aligned. Set a completion
 * routine before sending (PIN-4). IRQL <= D. _1, _2 (NULL, alignment), _3 (too few bytes).
 */
typedef NTSTATUS FN_VMB_PACKET_INITIALIZE(VMBCHANNEL Channel, VMBPACKET VmbPacket, UINT32 ByteCount);
/*
 * Send inline data and, on clients, external data (PKS-1). Both descriptions are captured before it
 * returns. Success = exactly one call of the completion routine (OUT-8); a full ring is success too
 * (OUT-1). IRQL <= D. STATUS_SUCCESS, _1.._5, STATUS_INVALID_BUFFER_SIZE, STATUS_NOT_SUPPORTED
 * (external data that this bus cannot carry), STATUS_INVALID_DEVICE_STATE, STATUS_DEVICE_REMOVED,
 * STATUS_INSUFFICIENT_RESOURCES (more than 65,535 unanswered, TXN-5).
 */
typedef NTSTATUS FN_VMB_PACKET_SEND(VMBPACKET PacketObject, PVOID Buffer, UINT32 BufferLength,
                                    PMDL ExternalDataMdl, UINT32 Flags);
/*
 * Send inline data together with part of what an MDL describes (PSM-1). MdlOffset counts from the
 * start of the described data; MdlLength 0 = the rest. WAIT_FOR_COMPLETION must be set. With
 * FORCE_MDL_LENGTH only the first MDL counts and MdlLength may reach to the end of its last page.
 * Returns as VmbPacketSend, with _1.._7.
 */
typedef NTSTATUS FN_VMB_PACKET_SEND_WITH_EXTERNAL_MDL(VMBPACKET PacketObject, PVOID Buffer,
                                                      UINT32 BufferLength, PMDL ExternalDataMdl,
                                                      UINT32 MdlOffset, UINT32 MdlLength,
                                                      UINT32 Flags);
/* Send inline data together with whole pages, by number (PSP-1). Returns as VmbPacketSend, with _1.._6. */
typedef NTSTATUS FN_VMB_PACKET_SEND_WITH_EXTERNAL_PFNS(VMBPACKET PacketObject, PVOID Buffer,
                                                       UINT32 BufferLength,
                                                       PPFN_NUMBER ExternalDataPfns,
                                                       UINT32 PfnLength, UINT32 Flags);
/* Stays set across sends (PCR-1). IRQL <= D. */
typedef VOID FN_VMB_PACKET_SET_COMPLETION_ROUTINE(VMBPACKET PacketObject,
                                                  PFN_VMB_PACKET_COMPLETION_ROUTINE CompletionRoutine);
typedef VOID KMCL_FASTCALL FN_VMB_PACKET_SET_POINTER(VMBPACKET PacketObject, PVOID Pointer);

/* ---- server only ------------------------------------------------------------------------------ */

/*
 * Use a client buffer named by a GPADL handle: an MDL, not yet mapped (MPG-1). One mapping at a time. PASSIVE.
 * STATUS_SUCCESS, _1.._4, STATUS_DEVICE_BUSY, STATUS_ACCESS_DENIED, STATUS_INVALID_DEVICE_REQUEST (client),
 * STATUS_INVALID_DEVICE_STATE, STATUS_INSUFFICIENT_RESOURCES.
 */
typedef NTSTATUS FN_VMB_CHANNEL_MAP_GPADL(VMBCHANNEL Channel, UINT32 Flags, UINT32 GpadlHandle,
                                          PMDL *Mdl);
/*
 * Restore an Enabled server channel from what VmbChannelSaveContinue wrote, in one call or several
 * of whole chunks each (RFB-1). The channel must be configured as the saved one was (identity, pipe
 * mode, maximum packet size and external data) and have nothing queued. A first chunk in the middle
 * of a restore begins again: packets of the unfinished one end with STATUS_DEVICE_REMOVED. PASSIVE,
 * blocks, not in a callback of the channel.
 *
 * STATUS_MORE_PROCESSING_REQUIRED (which NT_SUCCESS takes for a failure): this part is restored,
 * more is expected. STATUS_SUCCESS: complete. What was queued is queued again, in order, before
 * anything sent meanwhile; what was in the ring waits for its answer under its old id. If the saved
 * channel was open, it is Paused now and EvtChannelOpened is not called; GPADL mappings are not
 * saved: map them again. With VMBUS_SERVER_CHANNEL_INIT_FLAG_FORCE_NEW_CHANNEL it stays Enabled for
 * a new open, and the packets end with STATUS_DEVICE_REMOVED.
 *
 * Otherwise everything is as before the chunk that failed: STATUS_INVALID_PARAMETER_2 (damaged, or
 * of another channel or configuration, or the rings are not as they were left), _3 (a chunk is cut
 * short), STATUS_REVISION_MISMATCH, STATUS_INVALID_DEVICE_STATE (not Enabled; packets are in use;
 * the open that was saved is over; packets were saved, but no callback is set),
 * STATUS_INVALID_DEVICE_REQUEST (client), STATUS_INSUFFICIENT_RESOURCES, or what
 * EvtVmbChannelRestorePacket returned. A restore that is not completed is given up when the channel
 * opens or is disabled; its packets end with STATUS_DEVICE_REMOVED.
 */
typedef NTSTATUS FN_VMB_CHANNEL_RESTORE_FROM_BUFFER(VMBCHANNEL Channel, PVOID Buffer,
                                                    ULONG BufferSize);
/*
 * Take a snapshot of a server channel in Enabled or Paused: its open, its unanswered packets, its
 * queue (SVB-1..4). Nothing that happens later, be it a close, changes the snapshot.
 * EvtVmbChannelSavePacket runs for each packet in use. PASSIVE, not in a callback of the channel.
 * STATUS_SUCCESS; STATUS_INVALID_DEVICE_STATE (another state, or no VmbChannelSaveEnd since the
 * last success), STATUS_NOT_SUPPORTED (packets are in use and no callbacks are set),
 * STATUS_INVALID_DEVICE_REQUEST (client), STATUS_INSUFFICIENT_RESOURCES, or what the callback
 * returned.
 */
typedef NTSTATUS FN_VMB_CHANNEL_SAVE_BEGIN(VMBCHANNEL Channel);
/*
 * Copy as many whole chunks of the snapshot as fit, and go on there next time (SVC-1..3).
 * *BytesFilled: bytes written;
 * *BytesRequired: what the next call needs for at least one chunk, 0 at the end. NULL with 0 bytes asks for that.
 * STATUS_SUCCESS (everything is copied), STATUS_BUFFER_OVERFLOW (some), STATUS_BUFFER_TOO_SMALL (none),
 * STATUS_INVALID_DEVICE_STATE (no snapshot), _2, _4, _5, STATUS_INVALID_DEVICE_REQUEST.
 */
typedef NTSTATUS FN_VMB_CHANNEL_SAVE_CONTINUE(VMBCHANNEL Channel, PVOID SaveBuffer,
                                              ULONG SaveBufferSize, PULONG BytesFilled,
                                              PULONG BytesRequired);
/*
 * Drop the snapshot, however much of it was copied (SVE-1). The channel is as it was;
 * VmbChannelStart resumes it. If it is disabled instead, its packets end with STATUS_DEVICE_REMOVED
 * here, and live on where the copy is restored.
 */
typedef VOID FN_VMB_CHANNEL_SAVE_END(VMBCHANNEL Channel);
/* End a mapping (UMG-1). PASSIVE. */
typedef VOID FN_VMB_CHANNEL_UNMAP_GPADL(VMBCHANNEL Channel, UINT32 GpadlHandle);
/* A new reference to the same bus, closed by the caller with ZwClose (CVH-1). STATUS_INVALID_HANDLE, _2. */
typedef NTSTATUS FN_VMB_CONVERT_VMBUS_HANDLE_TO_KERNEL_HANDLE(HANDLE VmbusHandle,
                                                              PHANDLE KernelHandle);
/*
 * Put an idle packet into the saved state; only inside EvtVmbChannelRestorePacket, once, with its
 * LibBuf unchanged (PRS-1, PRS-2). The packet is in use afterwards. Completion routine and pointer
 * are not restored; the routine may also be set afterwards, until the channel is started.
 * STATUS_SUCCESS, _1 (in use), _2 (not what is being restored), _3 (wrong size),
 * STATUS_INVALID_DEVICE_REQUEST (client).
 */
typedef NTSTATUS FN_VMB_PACKET_RESTORE(VMBPACKET PacketObject, PVOID Buffer, ULONG BufferSize);
/* VMBUS_SERVER_CHANNEL_INIT_FLAG_*; replaces earlier flags (SSF-1). _2. */
typedef NTSTATUS FN_VMB_SERVER_CHANNEL_INIT_SET_FLAGS(VMBCHANNEL Channel, UINT32 Flags);
/* MMIO space that the guest should set aside, MiB; one of them may be 0 (SMM-1). STATUS_INVALID_PARAMETER. */
typedef NTSTATUS FN_VMB_SERVER_CHANNEL_INIT_SET_MMIO_MEGABYTES(VMBCHANNEL Channel,
                                                               UINT16 MmioMegabytes,
                                                               UINT16 MmioMegabytesOptional);
/* Callbacks for the driver's part of packets; both are needed (SRC-1). _2, _3. */
typedef NTSTATUS FN_VMB_SERVER_CHANNEL_INIT_SET_SAVE_RESTORE_PACKET_CALLBACKS(
        VMBCHANNEL Channel, PFN_VMB_CHANNEL_SAVE_PACKET SavePacketCallback,
        PFN_VMB_CHANNEL_RESTORE_PACKET RestorePacketCallback);
/* Type and instance of the offer, by value (STI-2). _2, _3 for all-zero GUIDs. */
typedef NTSTATUS FN_VMB_SERVER_CHANNEL_INIT_SET_TARGET_INTERFACE_ID(VMBCHANNEL Channel,
                                                                    GUID InterfaceType,
                                                                    GUID InterfaceInstance);
/* Offer to clients of this VTL only, 0..2 (STV-1). _2. */
typedef NTSTATUS FN_VMB_SERVER_CHANNEL_INIT_SET_TARGET_VTL(VMBCHANNEL Channel, UINT8 TargetVtl);
/* The bus to offer on; referenced, so the handle may be closed (SVH-2). _2. */
typedef NTSTATUS FN_VMB_SERVER_CHANNEL_INIT_SET_VMBUS_HANDLE(VMBCHANNEL Channel, HANDLE VmbusHandle);

/* ---- added by version 2; signatures inferred, high ----------------------------------------------- */

/*
 * The driver's area of an indicated packet (V2-1): as large as VmbChannelInitSetClientContextSize
 * said, 16-byte aligned, zero at first, kept when the packet is delivered again, valid until it is
 * completed. NULL if the size is 0. IRQL <= D.
 */
typedef PVOID FN_VMB_CHANNEL_PACKET_GET_CLIENT_CONTEXT(VMBPACKETCOMPLETION PacketCompletionContext);
/*
 * The device object of the bus child that a client is attached to (V2-2), as the bus enumerates it;
 * it lives as long as the bus. NULL on servers, while no offer is matched, and without memory.
 * PASSIVE.
 */
typedef PDEVICE_OBJECT FN_VMB_CHANNEL_GET_TARGET_DEVICE_OBJECT(VMBCHANNEL Channel);
/* What VmbChannelAllocate was given (V2-3). IRQL <= D. */
typedef PDEVICE_OBJECT FN_VMB_CHANNEL_GET_PARENT_DEVICE_OBJECT(VMBCHANNEL Channel);

/* ---- added by version 3; inferred, low ------------------------------------------------------------ */

#ifdef KMCL_ENABLE_INFERRED_LOW
/*
 * Bytes of the pool of host-visible memory in which external data from elsewhere is copied (V3-1).
 * Enable reserves MaximumSize, less if memory is short but at least MinimumSize, and never less
 * than the largest external data of one packet. 0, 0 = just that. Client, Init function. _1, _3
 * (below MinimumSize).
 */
typedef NTSTATUS FN_VMB_CHANNEL_INIT_SET_BOUNCE_BUFFER_SIZES(VMBCHANNEL Channel, UINT32 MinimumSize,
                                                             UINT32 MaximumSize);
/*
 * Memory from that pool (V3-2). Always STATUS_NOT_IMPLEMENTED after the checks, and *Mdl untouched:
 * no function is known that would give it back, so a driver could only leak it (VER-3). _1, _2
 * (size 0), _3 (NULL).
 */
typedef NTSTATUS FN_VMB_CHANNEL_ALLOCATE_BOUNCE_BUFFER(VMBCHANNEL Channel, UINT32 Size, PMDL *Mdl);
#endif

/* ---- added by version 4; inferred, medium --------------------------------------------------------- */

/*
 * Most packets that VmbPacketAllocate hands out at a time (V4-1), and as many are kept for reuse
 * when freed; 0 = no limit. Init function. STATUS_SUCCESS, _1.
 */
typedef NTSTATUS FN_VMB_CHANNEL_INIT_SET_MAXIMUM_PACKET_COUNT(VMBCHANNEL Channel, UINT32 PacketCount);
/*
 * VmbChannelCreateGpadlFromBuffer for whole pages given by number (V4-2). They are not locked: the
 * caller keeps them. _2 flags, _3 list (NULL, or a page outside guest RAM), _4 count, _5 handle
 * pointer; more pages than one GPADL can describe: STATUS_INSUFFICIENT_RESOURCES.
 */
typedef NTSTATUS FN_VMB_CHANNEL_CREATE_GPADL_FROM_PFN_LIST(VMBCHANNEL Channel, UINT32 Flags,
                                                           PPFN_NUMBER PfnList, UINT32 PfnCount,
                                                           PUINT32 GpadlHandle);

/* ---- added by version 5; inferred, as marked ------------------------------------------------------ */

/*
 * Make Channel a subchannel of an open primary channel of the same role (V5-1): same bus, type and
 * instance, own rings, own limits and callbacks. It needs no target of its own. Open means P, S, A
 * or paused: between the end of EvtChannelOpened and the begin of a close. Enable needs that too
 * (STATUS_DEVICE_NOT_READY otherwise): a server's then offers the next free subchannel index, from
 * 1 on, to the guest that has the primary open; a client's takes the first subchannel offer that
 * nobody uses. How many there should be is the business of the device's own protocol. When the
 * primary begins to close, for whatever reason, its subchannels close and become Disabled first
 * (Suspend, drain, Closed if they were open, no callback otherwise), servers' too; enable them
 * again when they are asked for again. The primary must outlive the setting: end it by Cleanup of
 * the subchannel, or with NULL. Inside a callback of a subchannel its primary cannot be disabled or
 * cleaned up. Init function. High. STATUS_SUCCESS, _1 (also: it has subchannels itself), _2 (no
 * channel, Channel itself, of the other role, itself a subchannel), STATUS_DEVICE_NOT_READY (the
 * primary is not open).
 */
typedef NTSTATUS FN_VMB_CHANNEL_INIT_SET_PRIMARY_CHANNEL(VMBCHANNEL Channel,
                                                         VMBCHANNEL PrimaryChannel);
/*
 * The virtual processor that a client's channel interrupts, sent when it opens (V5-4); 0 at first.
 * kmcl_bus_set_loops() says which loops that is here and at the peer. Client, Init function. _1, _2
 * (0xFFFFFFFF, which means none). High.
 */
typedef NTSTATUS FN_VMB_CLIENT_CHANNEL_INIT_SET_TARGET_PROCESSOR_INDEX(VMBCHANNEL Channel,
                                                                       UINT32 ProcessorIndex);
/*
 * Bytes of the driver's area in each outgoing packet, 0..65536, part of VmbChannelSizeofPacket
 * (V5-6). Init function. _2. High.
 */
typedef NTSTATUS FN_VMB_CHANNEL_INIT_SET_INLINE_PACKET_CONTEXT_SIZE(VMBCHANNEL Channel,
                                                                    UINT32 ContextSize);
/*
 * That area (V5-7): 16-byte aligned wherever the packet lies, zero when the packet is made, kept
 * across sends. NULL if the size is 0. IRQL <= D. High.
 */
typedef PVOID FN_VMB_PACKET_GET_INLINE_PACKET_CONTEXT_POINTER(VMBPACKET PacketObject);
/* Bytes for VmbChannelInitialize (V5-5). Medium. */
typedef UINT32 FN_VMB_SIZEOF_CHANNEL(VOID);

#ifdef KMCL_ENABLE_INFERRED_LOW
/*
 * VmbChannelAllocate in VmbSizeofChannel bytes of the caller's memory, 8-byte aligned (V5-2); the
 * parts that vary are still the library's own. VmbChannelCleanup gives everything back but that
 * memory (CHC-1). PASSIVE. Low. STATUS_SUCCESS, _3 (NULL, alignment), _4 (too few bytes), _5,
 * STATUS_INSUFFICIENT_RESOURCES.
 */
typedef NTSTATUS FN_VMB_CHANNEL_INITIALIZE(PDEVICE_OBJECT ParentDeviceObject, BOOLEAN IsServer,
                                           PVOID Buffer, UINT32 ByteCount, VMBCHANNEL *Channel);
/*
 * How long one batch at DISPATCH may take (V5-3, THR-8): this share, 1..100, of a millisecond; 100
 * at first. What is left is processed in the next turn. From the next batch on. IRQL <= D. Low.
 */
typedef VOID FN_VMB_CHANNEL_SET_ALLOWABLE_DPC_CPU_USAGE(VMBCHANNEL Channel, UINT32 Percent);
/*
 * VmbChannelInitSetProcessPacketCallbacks, VmbPacketSetCompletionRoutine and
 * VmbServerChannelInitSetSaveRestorePacketCallbacks for callbacks that get Context first
 * (V5-8..10). Of either form the one set last holds. Low.
 */
typedef NTSTATUS FN_VMB_CHANNEL_INIT_SET_PROCESS_PACKET_CALLBACKS_EX(
        VMBCHANNEL Channel, PFN_VMB_CHANNEL_PROCESS_PACKET_EX ProcessPacketCallback,
        PFN_VMB_CHANNEL_PROCESSING_COMPLETE_EX ProcessingCompleteCallback, PVOID Context);
typedef VOID
FN_VMB_PACKET_SET_COMPLETION_ROUTINE_EX(VMBPACKET PacketObject,
                                        PFN_VMB_PACKET_COMPLETION_ROUTINE_EX CompletionRoutine,
                                        PVOID Context);
typedef NTSTATUS FN_VMB_SERVER_CHANNEL_INIT_SET_SAVE_RESTORE_PACKET_CALLBACKS_EX(
        VMBCHANNEL Channel, PFN_VMB_CHANNEL_SAVE_PACKET_EX SavePacketCallback,
        PFN_VMB_CHANNEL_RESTORE_PACKET_EX RestorePacketCallback, PVOID Context);
#endif

/* ---- members of the interfaces, in slot order (IFS-6, IFS-8, VER-1) ------------------------------ */

/* One list per version with what it adds; M for each member, LOW for those of low confidence. */

#define KMCL_CLIENT_METHODS_V1(M) \
	M(VMB_CHANNEL_ALLOCATE, VmbChannelAllocate) \
	M(VMB_CHANNEL_CLEANUP, VmbChannelCleanup) \
	M(VMB_CHANNEL_CREATE_GPADL_FROM_BUFFER, VmbChannelCreateGpadlFromBuffer) \
	M(VMB_CHANNEL_CREATE_GPADL_FROM_MDL, VmbChannelCreateGpadlFromMdl) \
	M(VMB_CHANNEL_DELETE_GPADL, VmbChannelDeleteGpadl) \
	M(VMB_CHANNEL_DISABLE, VmbChannelDisable) \
	M(VMB_CHANNEL_ENABLE, VmbChannelEnable) \
	M(VMB_CHANNEL_GET_INTERFACE_INSTANCE, VmbChannelGetInterfaceInstance) \
	M(VMB_CHANNEL_GET_MMIO_SPACE, VmbChannelGetMmioSpace) \
	M(VMB_CHANNEL_GET_POINTER, VmbChannelGetPointer) \
	M(VMB_CHANNEL_INIT_SET_CLIENT_CONTEXT_SIZE, VmbChannelInitSetClientContextSize) \
	M(VMB_CHANNEL_INIT_SET_FLAGS, VmbChannelInitSetFlags) \
	M(VMB_CHANNEL_INIT_SET_FRIENDLY_NAME, VmbChannelInitSetFriendlyName) \
	M(VMB_CHANNEL_INIT_SET_MAXIMUM_EXTERNAL_DATA, VmbChannelInitSetMaximumExternalData) \
	M(VMB_CHANNEL_INIT_SET_MAXIMUM_PACKET_SIZE, VmbChannelInitSetMaximumPacketSize) \
	M(VMB_CHANNEL_INIT_SET_PROCESS_PACKET_CALLBACKS, VmbChannelInitSetProcessPacketCallbacks) \
	M(VMB_CHANNEL_INIT_SET_STATE_CHANGE_CALLBACKS, VmbChannelInitSetStateChangeCallbacks) \
	M(VMB_CHANNEL_PACKET_COMPLETE, VmbChannelPacketComplete) \
	M(VMB_CHANNEL_PACKET_DEFER_TO_PASSIVE, VmbChannelPacketDeferToPassive) \
	M(VMB_CHANNEL_PACKET_FAIL, VmbChannelPacketFail) \
	M(VMB_CHANNEL_PACKET_GET_EXTERNAL_DATA, VmbChannelPacketGetExternalData) \
	M(VMB_CHANNEL_PAUSE, VmbChannelPause) \
	M(VMB_CHANNEL_SEND_SYNCHRONOUS_REQUEST, VmbChannelSendSynchronousRequest) \
	M(VMB_CHANNEL_SET_INCOMING_PROCESSING_AT_PASSIVE, VmbChannelSetIncomingProcessingAtPassive) \
	M(VMB_CHANNEL_SET_INTERRUPT_LATENCY, VmbChannelSetInterruptLatency) \
	M(VMB_CHANNEL_SET_POINTER, VmbChannelSetPointer) \
	M(VMB_CHANNEL_SET_TRANSACTION_QUOTA, VmbChannelSetTransactionQuota) \
	M(VMB_CHANNEL_SIZEOF_PACKET, VmbChannelSizeofPacket) \
	M(VMB_CHANNEL_START, VmbChannelStart) \
	M(VMB_CLIENT_CHANNEL_INIT_SET_RING_BUFFER_PAGE_COUNT, \
	  VmbClientChannelInitSetRingBufferPageCount) \
	M(VMB_CLIENT_CHANNEL_INIT_SET_TARGET_PNP, VmbClientChannelInitSetTargetPnp) \
	M(VMB_PACKET_ALLOCATE, VmbPacketAllocate) \
	M(VMB_PACKET_FREE, VmbPacketFree) \
	M(VMB_PACKET_GET_CHANNEL, VmbPacketGetChannel) \
	M(VMB_PACKET_GET_POINTER, VmbPacketGetPointer) \
	M(VMB_PACKET_INITIALIZE, VmbPacketInitialize) \
	M(VMB_PACKET_SEND, VmbPacketSend) \
	M(VMB_PACKET_SEND_WITH_EXTERNAL_MDL, VmbPacketSendWithExternalMdl) \
	M(VMB_PACKET_SEND_WITH_EXTERNAL_PFNS, VmbPacketSendWithExternalPfns) \
	M(VMB_PACKET_SET_COMPLETION_ROUTINE, VmbPacketSetCompletionRoutine) \
	M(VMB_PACKET_SET_POINTER, VmbPacketSetPointer)

#define KMCL_SERVER_METHODS(M) \
	M(VMB_CHANNEL_MAP_GPADL, VmbChannelMapGpadl) \
	M(VMB_CHANNEL_RESTORE_FROM_BUFFER, VmbChannelRestoreFromBuffer) \
	M(VMB_CHANNEL_SAVE_BEGIN, VmbChannelSaveBegin) \
	M(VMB_CHANNEL_SAVE_CONTINUE, VmbChannelSaveContinue) \
	M(VMB_CHANNEL_SAVE_END, VmbChannelSaveEnd) \
	M(VMB_CHANNEL_UNMAP_GPADL, VmbChannelUnmapGpadl) \
	M(VMB_CONVERT_VMBUS_HANDLE_TO_KERNEL_HANDLE, VmbConvertVmbusHandleToKernelHandle) \
	M(VMB_PACKET_RESTORE, VmbPacketRestore) \
	M(VMB_SERVER_CHANNEL_INIT_SET_FLAGS, VmbServerChannelInitSetFlags) \
	M(VMB_SERVER_CHANNEL_INIT_SET_MMIO_MEGABYTES, VmbServerChannelInitSetMmioMegabytes) \
	M(VMB_SERVER_CHANNEL_INIT_SET_SAVE_RESTORE_PACKET_CALLBACKS, \
	  VmbServerChannelInitSetSaveRestorePacketCallbacks) \
	M(VMB_SERVER_CHANNEL_INIT_SET_TARGET_INTERFACE_ID, VmbServerChannelInitSetTargetInterfaceId) \
	M(VMB_SERVER_CHANNEL_INIT_SET_TARGET_VTL, VmbServerChannelInitSetTargetVtl) \
	M(VMB_SERVER_CHANNEL_INIT_SET_VMBUS_HANDLE, VmbServerChannelInitSetVmbusHandle)

#define KMCL_CLIENT_METHODS_V2(M) \
	M(VMB_CHANNEL_PACKET_GET_CLIENT_CONTEXT, VmbChannelPacketGetClientContext) \
	M(VMB_CHANNEL_GET_TARGET_DEVICE_OBJECT, VmbChannelGetTargetDeviceObject) \
	M(VMB_CHANNEL_GET_PARENT_DEVICE_OBJECT, VmbChannelGetParentDeviceObject)

#define KMCL_CLIENT_METHODS_V3(LOW) \
	LOW(VMB_CHANNEL_INIT_SET_BOUNCE_BUFFER_SIZES, VmbChannelInitSetBounceBufferSizes) \
	LOW(VMB_CHANNEL_ALLOCATE_BOUNCE_BUFFER, VmbChannelAllocateBounceBuffer)

#define KMCL_CLIENT_METHODS_V4(M) \
	M(VMB_CHANNEL_INIT_SET_MAXIMUM_PACKET_COUNT, VmbChannelInitSetMaximumPacketCount) \
	M(VMB_CHANNEL_CREATE_GPADL_FROM_PFN_LIST, VmbChannelCreateGpadlFromPfnList)

#define KMCL_CLIENT_METHODS_V5(M, LOW) \
	M(VMB_CHANNEL_INIT_SET_PRIMARY_CHANNEL, VmbChannelInitSetPrimaryChannel) \
	LOW(VMB_CHANNEL_INITIALIZE, VmbChannelInitialize) \
	LOW(VMB_CHANNEL_SET_ALLOWABLE_DPC_CPU_USAGE, VmbChannelSetAllowableDpcCpuUsage) \
	M(VMB_CLIENT_CHANNEL_INIT_SET_TARGET_PROCESSOR_INDEX, \
	  VmbClientChannelInitSetTargetProcessorIndex) \
	M(VMB_SIZEOF_CHANNEL, VmbSizeofChannel) \
	M(VMB_CHANNEL_INIT_SET_INLINE_PACKET_CONTEXT_SIZE, VmbChannelInitSetInlinePacketContextSize) \
	M(VMB_PACKET_GET_INLINE_PACKET_CONTEXT_POINTER, VmbPacketGetInlinePacketContextPointer) \
	LOW(VMB_CHANNEL_INIT_SET_PROCESS_PACKET_CALLBACKS_EX, \
	    VmbChannelInitSetProcessPacketCallbacksEx) \
	LOW(VMB_PACKET_SET_COMPLETION_ROUTINE_EX, VmbPacketSetCompletionRoutineEx)

#define KMCL_SERVER_METHODS_V5(LOW) \
	LOW(VMB_SERVER_CHANNEL_INIT_SET_SAVE_RESTORE_PACKET_CALLBACKS_EX, \
	    VmbServerChannelInitSetSaveRestorePacketCallbacksEx)

/* Each version embeds the one before it (VER-1). */
#define KMCL_CLIENT_METHODS_UP_TO_V2(M) KMCL_CLIENT_METHODS_V1(M) KMCL_CLIENT_METHODS_V2(M)
#define KMCL_CLIENT_METHODS_UP_TO_V3(M, LOW) \
	KMCL_CLIENT_METHODS_UP_TO_V2(M) KMCL_CLIENT_METHODS_V3(LOW)
#define KMCL_CLIENT_METHODS_UP_TO_V4(M, LOW) \
	KMCL_CLIENT_METHODS_UP_TO_V3(M, LOW) KMCL_CLIENT_METHODS_V4(M)
#define KMCL_CLIENT_METHODS_UP_TO_V5(M, LOW) \
	KMCL_CLIENT_METHODS_UP_TO_V4(M, LOW) KMCL_CLIENT_METHODS_V5(M, LOW)
#define KMCL_SERVER_METHODS_UP_TO_V5(M, LOW) KMCL_SERVER_METHODS(M) KMCL_SERVER_METHODS_V5(LOW)

/* Numbers of the slots, from 0: of a client interface, and among the server's own. */
#define KMCL_NUMBER(NAME, name) KMCL_SLOT_##name,
enum kmcl_client_slot {
	KMCL_CLIENT_METHODS_UP_TO_V5(KMCL_NUMBER, KMCL_NUMBER)
	KMCL_CLIENT_SLOTS
};
enum kmcl_server_slot {
	KMCL_SERVER_METHODS_UP_TO_V5(KMCL_NUMBER, KMCL_NUMBER)
	KMCL_SERVER_SLOTS
};
#undef KMCL_NUMBER

#define KMCL_MEMBER(NAME, name) PFN_##NAME name;
#define KMCL_POINTER_TYPE(NAME, name) typedef FN_##NAME *PFN_##NAME;
/* Every function is also a symbol of the library (GEN-3). */
#define KMCL_DECLARE(NAME, name) KMCL_EXPORT FN_##NAME name;
#ifdef KMCL_ENABLE_INFERRED_LOW
#define KMCL_LOW_MEMBER KMCL_MEMBER
#define KMCL_LOW_POINTER_TYPE KMCL_POINTER_TYPE
#define KMCL_LOW_DECLARE KMCL_DECLARE
#else
#define KMCL_LOW_MEMBER(NAME, name) PVOID name;
#define KMCL_LOW_POINTER_TYPE(NAME, name)
#define KMCL_LOW_DECLARE(NAME, name)
#endif

KMCL_CLIENT_METHODS_UP_TO_V5(KMCL_POINTER_TYPE, KMCL_LOW_POINTER_TYPE)
KMCL_SERVER_METHODS_UP_TO_V5(KMCL_POINTER_TYPE, KMCL_LOW_POINTER_TYPE)
KMCL_CLIENT_METHODS_UP_TO_V5(KMCL_DECLARE, KMCL_LOW_DECLARE)
KMCL_SERVER_METHODS_UP_TO_V5(KMCL_DECLARE, KMCL_LOW_DECLARE)
#undef KMCL_POINTER_TYPE
#undef KMCL_LOW_POINTER_TYPE
#undef KMCL_DECLARE
#undef KMCL_LOW_DECLARE

/*
 * Results that must not be ignored (IFS-4).
 */
#if !defined(_WIN32)
KMCL_EXPORT KMCL_MUST_CHECK NTSTATUS VmbChannelEnable(VMBCHANNEL Channel);
KMCL_EXPORT KMCL_MUST_CHECK NTSTATUS VmbChannelSetInterruptLatency(VMBCHANNEL Channel,
                                                                   UINT16 Latency,
                                                                   PUINT16 OriginalLatency);
KMCL_EXPORT KMCL_MUST_CHECK NTSTATUS VmbChannelSaveBegin(VMBCHANNEL Channel);
KMCL_EXPORT KMCL_MUST_CHECK NTSTATUS VmbChannelSaveContinue(VMBCHANNEL Channel, PVOID SaveBuffer,
                                                            ULONG SaveBufferSize, PULONG BytesFilled,
                                                            PULONG BytesRequired);
KMCL_EXPORT KMCL_MUST_CHECK NTSTATUS VmbChannelRestoreFromBuffer(VMBCHANNEL Channel, PVOID Buffer,
                                                                 ULONG BufferSize);
#endif

#ifdef __cplusplus
} /* extern "C" */

/* IFS-10: members are reached unqualified; C++ inherits, C repeats the lists. Layouts are equal. */
struct KMCL_SERVER_ONLY_METHODS {
	KMCL_SERVER_METHODS(KMCL_MEMBER)
};
struct KMCL_SERVER_ONLY_METHODS_V5 {
	KMCL_SERVER_METHODS_V5(KMCL_LOW_MEMBER)
};
struct KMCL_CLIENT_INTERFACE_V1 : public INTERFACE {
	KMCL_CLIENT_METHODS_V1(KMCL_MEMBER)
};
struct KMCL_CLIENT_INTERFACE_V2 : public KMCL_CLIENT_INTERFACE_V1 {
	KMCL_CLIENT_METHODS_V2(KMCL_MEMBER)
};
struct KMCL_CLIENT_INTERFACE_V3 : public KMCL_CLIENT_INTERFACE_V2 {
	KMCL_CLIENT_METHODS_V3(KMCL_LOW_MEMBER)
};
struct KMCL_CLIENT_INTERFACE_V4 : public KMCL_CLIENT_INTERFACE_V3 {
	KMCL_CLIENT_METHODS_V4(KMCL_MEMBER)
};
struct KMCL_CLIENT_INTERFACE_V5 : public KMCL_CLIENT_INTERFACE_V4 {
	KMCL_CLIENT_METHODS_V5(KMCL_MEMBER, KMCL_LOW_MEMBER)
};
struct KMCL_SERVER_INTERFACE_V1 : public KMCL_CLIENT_INTERFACE_V1, public KMCL_SERVER_ONLY_METHODS {
};
struct KMCL_SERVER_INTERFACE_V5 : public KMCL_CLIENT_INTERFACE_V5,
                                  public KMCL_SERVER_ONLY_METHODS,
                                  public KMCL_SERVER_ONLY_METHODS_V5 {
};
#define KMCL_STRUCT(name) typedef name *P##name;
KMCL_STRUCT(KMCL_SERVER_ONLY_METHODS)
KMCL_STRUCT(KMCL_SERVER_ONLY_METHODS_V5)
KMCL_STRUCT(KMCL_CLIENT_INTERFACE_V1)
KMCL_STRUCT(KMCL_CLIENT_INTERFACE_V2)
KMCL_STRUCT(KMCL_CLIENT_INTERFACE_V3)
KMCL_STRUCT(KMCL_CLIENT_INTERFACE_V4)
KMCL_STRUCT(KMCL_CLIENT_INTERFACE_V5)
KMCL_STRUCT(KMCL_SERVER_INTERFACE_V1)
KMCL_STRUCT(KMCL_SERVER_INTERFACE_V5)
#undef KMCL_STRUCT
#else
#define KMCL_INTERFACE_HEADER \
	USHORT Size; \
	USHORT Version; \
	PVOID Context; \
	PINTERFACE_REFERENCE InterfaceReference; \
	PINTERFACE_DEREFERENCE InterfaceDereference;

#define KMCL_STRUCT(name, members) \
	typedef struct _##name { \
		members \
	} name, *P##name;
#define KMCL_CLIENT_STRUCT(name, members) KMCL_STRUCT(name, KMCL_INTERFACE_HEADER members)

KMCL_STRUCT(KMCL_SERVER_ONLY_METHODS, KMCL_SERVER_METHODS(KMCL_MEMBER))
KMCL_STRUCT(KMCL_SERVER_ONLY_METHODS_V5, KMCL_SERVER_METHODS_V5(KMCL_LOW_MEMBER))
KMCL_CLIENT_STRUCT(KMCL_CLIENT_INTERFACE_V1, KMCL_CLIENT_METHODS_V1(KMCL_MEMBER))
KMCL_CLIENT_STRUCT(KMCL_CLIENT_INTERFACE_V2, KMCL_CLIENT_METHODS_UP_TO_V2(KMCL_MEMBER))
KMCL_CLIENT_STRUCT(KMCL_CLIENT_INTERFACE_V3,
                   KMCL_CLIENT_METHODS_UP_TO_V3(KMCL_MEMBER, KMCL_LOW_MEMBER))
KMCL_CLIENT_STRUCT(KMCL_CLIENT_INTERFACE_V4,
                   KMCL_CLIENT_METHODS_UP_TO_V4(KMCL_MEMBER, KMCL_LOW_MEMBER))
KMCL_CLIENT_STRUCT(KMCL_CLIENT_INTERFACE_V5,
                   KMCL_CLIENT_METHODS_UP_TO_V5(KMCL_MEMBER, KMCL_LOW_MEMBER))
KMCL_CLIENT_STRUCT(KMCL_SERVER_INTERFACE_V1,
                   KMCL_CLIENT_METHODS_V1(KMCL_MEMBER) KMCL_SERVER_METHODS(KMCL_MEMBER))
KMCL_CLIENT_STRUCT(KMCL_SERVER_INTERFACE_V5,
                   KMCL_CLIENT_METHODS_UP_TO_V5(KMCL_MEMBER, KMCL_LOW_MEMBER)
                   KMCL_SERVER_METHODS_UP_TO_V5(KMCL_MEMBER, KMCL_LOW_MEMBER))
#undef KMCL_STRUCT
#undef KMCL_CLIENT_STRUCT
#undef KMCL_INTERFACE_HEADER
#endif
#undef KMCL_MEMBER
#undef KMCL_LOW_MEMBER

/* Sizes and the place of every member on 64-bit systems (IFS-7, IFS-9, VER-2, SCB-1). */
#if defined(_WIN64) || defined(__LP64__)
C_ASSERT(sizeof(INTERFACE) == 32);
C_ASSERT(sizeof(VMB_CHANNEL_STATE_CHANGE_CALLBACKS) == 48);
C_ASSERT(sizeof(KMCL_SERVER_ONLY_METHODS) == 14 * 8);
C_ASSERT(sizeof(KMCL_SERVER_ONLY_METHODS_V5) == 8);
C_ASSERT(sizeof(KMCL_CLIENT_INTERFACE_V1) == 360);
C_ASSERT(sizeof(KMCL_CLIENT_INTERFACE_V2) == 384);
C_ASSERT(sizeof(KMCL_CLIENT_INTERFACE_V3) == 400);
C_ASSERT(sizeof(KMCL_CLIENT_INTERFACE_V4) == 416);
C_ASSERT(sizeof(KMCL_CLIENT_INTERFACE_V5) == 488);
C_ASSERT(sizeof(KMCL_SERVER_INTERFACE_V1) == 472);
C_ASSERT(sizeof(KMCL_SERVER_INTERFACE_V5) == 608);

#if defined(__cplusplus) && defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winvalid-offsetof" /* of a derived class, which every compiler can */
#endif
#define KMCL_AT(type, first, name) C_ASSERT(offsetof(type, name) == 32 + 8 * ((first) + KMCL_SLOT_##name));
#define KMCL_AT_CLIENT_V1(NAME, name) KMCL_AT(KMCL_CLIENT_INTERFACE_V1, 0, name)
#define KMCL_AT_CLIENT_V2(NAME, name) KMCL_AT(KMCL_CLIENT_INTERFACE_V2, 0, name)
#define KMCL_AT_CLIENT_V3(NAME, name) KMCL_AT(KMCL_CLIENT_INTERFACE_V3, 0, name)
#define KMCL_AT_CLIENT_V4(NAME, name) KMCL_AT(KMCL_CLIENT_INTERFACE_V4, 0, name)
#define KMCL_AT_CLIENT_V5(NAME, name) KMCL_AT(KMCL_CLIENT_INTERFACE_V5, 0, name)
#define KMCL_AT_SERVER_V1(NAME, name) KMCL_AT(KMCL_SERVER_INTERFACE_V1, 0, name)
#define KMCL_AT_SERVER_V5(NAME, name) KMCL_AT(KMCL_SERVER_INTERFACE_V5, 0, name)
#define KMCL_AT_SERVER_V1_OWN(NAME, name) KMCL_AT(KMCL_SERVER_INTERFACE_V1, 41, name)
#define KMCL_AT_SERVER_V5_OWN(NAME, name) KMCL_AT(KMCL_SERVER_INTERFACE_V5, 57, name)
KMCL_CLIENT_METHODS_V1(KMCL_AT_CLIENT_V1)
KMCL_CLIENT_METHODS_UP_TO_V2(KMCL_AT_CLIENT_V2)
KMCL_CLIENT_METHODS_UP_TO_V3(KMCL_AT_CLIENT_V3, KMCL_AT_CLIENT_V3)
KMCL_CLIENT_METHODS_UP_TO_V4(KMCL_AT_CLIENT_V4, KMCL_AT_CLIENT_V4)
KMCL_CLIENT_METHODS_UP_TO_V5(KMCL_AT_CLIENT_V5, KMCL_AT_CLIENT_V5)
KMCL_CLIENT_METHODS_V1(KMCL_AT_SERVER_V1)
KMCL_SERVER_METHODS(KMCL_AT_SERVER_V1_OWN)
KMCL_CLIENT_METHODS_UP_TO_V5(KMCL_AT_SERVER_V5, KMCL_AT_SERVER_V5)
KMCL_SERVER_METHODS_UP_TO_V5(KMCL_AT_SERVER_V5_OWN, KMCL_AT_SERVER_V5_OWN)
#undef KMCL_AT
#undef KMCL_AT_CLIENT_V1
#undef KMCL_AT_CLIENT_V2
#undef KMCL_AT_CLIENT_V3
#undef KMCL_AT_CLIENT_V4
#undef KMCL_AT_CLIENT_V5
#undef KMCL_AT_SERVER_V1
#undef KMCL_AT_SERVER_V5
#undef KMCL_AT_SERVER_V1_OWN
#undef KMCL_AT_SERVER_V5_OWN
#if defined(__cplusplus) && defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
#endif

#endif
