/* SPDX-License-Identifier: MIT */
/*
 * A server that answers every packet with its own payload, and turns over every bit of external data that comes with it. A packet whose
 * external data cannot be reached is answered with nothing. Written to the documented API only, as a driver would be.
 */
#ifndef DRIVERS_ECHO_H
#define DRIVERS_ECHO_H

#include <wdm.h>
#include <vmbuskernelmodeclientlibapi.h>

/* {3c0f6b7d-5e1a-4b29-8d64-0fa27c19e533}: device type of the echo server, ours. */
DEFINE_GUID(ECHO_INTERFACE_TYPE, 0x3c0f6b7d, 0x5e1a, 0x4b29, 0x8d, 0x64, 0x0f, 0xa2, 0x7c, 0x19,
            0xe5, 0x33);

#define ECHO_MAXIMUM_PACKET 65536

/* Offer one instance on a bus. PASSIVE. On failure *Channel is NULL. */
NTSTATUS EchoStart(HANDLE VmbusHandle, GUID Instance, VMBCHANNEL *Channel);
/* PASSIVE. */
VOID EchoStop(VMBCHANNEL Channel);

#endif
