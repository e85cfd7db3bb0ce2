/* SPDX-License-Identifier: MIT */
/*
 * What a server driver tells its successor. `kmcl run --server --takeover` replaces a running server by a new process: its channels are
 * paused when every packet is answered, saved, and go on in the new process without the guests' noticing. What a driver and its guest
 * have agreed on an open channel (a version, features, subchannels) is the driver's own state, so the driver keeps it with the channel:
 *
 *     KMCL_STATE_INTERFACE state;
 *     status = WdfFdoQueryForInterface(Device, &KMCL_STATE_INTERFACE_TYPE, (PINTERFACE)&state, sizeof(state), KMCL_STATE_INTERFACE_VERSION, NULL);
 *     ...
 *     state.KeepState(state.Context, Channel, &agreed, sizeof(agreed));        whenever it changes
 *
 * and a new process reads it between VmbChannelEnable and VmbChannelStart:
 *
 *     status = state.ReadState(state.Context, Channel, &agreed, sizeof(agreed), &bytes);
 *
 * A channel that goes on in this way has no EvtChannelOpened: it was open all the time, and VmbChannelEnable returns in that state. A driver that keeps nothing
 * has nothing to continue with, so it gets EvtChannelOpened, inside of VmbChannelEnable, as if the guest had opened the channel. Subchannels are
 * enabled again by the driver, after their primary and before its device has started.
 *
 * Elsewhere the query fails with STATUS_NOT_SUPPORTED, and the driver works without.
 */
#ifndef KMCL_STATE_INTERFACE_H
#define KMCL_STATE_INTERFACE_H

#include <wdm.h>

#include "vmbuskernelmodeclientlibapi.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KMCL_STATE_INTERFACE_VERSION 1
#define KMCL_STATE_BYTES_MAX 4096
__attribute__((visibility("default"))) extern const GUID KMCL_STATE_INTERFACE_TYPE;

/*
 * Replaces what was kept for this open of a server channel; forgotten when the channel is opened again. Bytes 0: keep nothing. Any IRQL up to
 * DISPATCH, any thread, also inside callbacks. STATUS_SUCCESS; STATUS_INVALID_PARAMETER (no server channel, no State,
 * more than KMCL_STATE_BYTES_MAX); STATUS_INSUFFICIENT_RESOURCES (what was kept before is still kept).
 */
typedef NTSTATUS KMCL_KEEP_STATE(PVOID Context, VMBCHANNEL Channel, const VOID *State, ULONG Bytes);
typedef KMCL_KEEP_STATE *PKMCL_KEEP_STATE;
/*
 * What was kept since the channel was opened last, by this driver or by its predecessor; a close alone does not forget it.
 * STATUS_SUCCESS; STATUS_NOT_FOUND (nothing was); STATUS_BUFFER_TOO_SMALL (*Filled says what is needed); STATUS_INVALID_PARAMETER.
 */
typedef NTSTATUS KMCL_READ_STATE(PVOID Context, VMBCHANNEL Channel, PVOID State, ULONG Bytes,
                                 PULONG Filled);
typedef KMCL_READ_STATE *PKMCL_READ_STATE;

/* The first five members are those of INTERFACE. */
typedef struct _KMCL_STATE_INTERFACE {
	USHORT Size;
	USHORT Version;
	PVOID Context;
	PINTERFACE_REFERENCE InterfaceReference;
	PINTERFACE_DEREFERENCE InterfaceDereference;
	PKMCL_KEEP_STATE KeepState;
	PKMCL_READ_STATE ReadState;
} KMCL_STATE_INTERFACE, *PKMCL_STATE_INTERFACE;

#ifdef __cplusplus
}
#endif
#endif
