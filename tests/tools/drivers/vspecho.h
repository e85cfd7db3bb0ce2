/* SPDX-License-Identifier: MIT */
/* What the test drivers and their callers agree on. */
#ifndef VSPECHO_H
#define VSPECHO_H

/* Device type of the channel, and the class of the client's device interface. */
DEFINE_GUID(VSPECHO_TYPE, 0x7a1de5c2, 0x33b4, 0x4f60, 0x9c, 0x1a, 0x52, 0x0e, 0x8d, 0x47, 0xb1, 0x90);
DEFINE_GUID(VSPECHO_INSTANCE, 0x0f6c2b11, 0x8a4d, 0x4e0b, 0xb3, 0x27, 0x6d, 0x1f, 0x94, 0xe8, 0x5c, 0x03);
DEFINE_GUID(GUID_DEVINTERFACE_VSCECHO, 0x2b9f0c4d, 0x61e8, 0x4c2a, 0x85, 0x70, 0x1b, 0xd3, 0x4f, 0xa6, 0x0e, 0x77);

/* Server: how many packets it answered, a ULONG. */
#define IOCTL_VSPECHO_COUNT CTL_CODE(FILE_DEVICE_UNKNOWN, 0x800, METHOD_BUFFERED, FILE_ANY_ACCESS)
/* Client: send the input to the server and return its answer. */
#define IOCTL_VSCECHO_SEND CTL_CODE(FILE_DEVICE_UNKNOWN, 0x801, METHOD_BUFFERED, FILE_ANY_ACCESS)
/* Client: stays until it is cancelled. */
#define IOCTL_VSCECHO_WAIT CTL_CODE(FILE_DEVICE_UNKNOWN, 0x802, METHOD_BUFFERED, FILE_ANY_ACCESS)
/* Client: the input, reversed, through the MDL of direct I/O. */
#define IOCTL_VSCECHO_REVERSE CTL_CODE(FILE_DEVICE_UNKNOWN, 0x803, METHOD_OUT_DIRECT, FILE_ANY_ACCESS)

#endif
