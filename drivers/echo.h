/* SPDX-License-Identifier: MIT */
/*
 * A server that answers every packet with its own payload. Written to the documented API only, as a driver would be.
 */
#ifndef DRIVERS_ECHO_H
#define DRIVERS_ECHO_H

#include <wdm.h>
#include <vmbuskernelmodeclientlibapi.h>

/* Device type of the echo server, ours. */
extern const GUID ECHO_INTERFACE_TYPE;

/* Offer one instance on a bus. PASSIVE. On failure *Channel is NULL. */
NTSTATUS EchoStart(HANDLE VmbusHandle, GUID Instance, VMBCHANNEL *Channel);
/* PASSIVE. */
VOID EchoStop(VMBCHANNEL Channel);

#endif
