/* SPDX-License-Identifier: MIT */
/* Little-endian numbers in the messages of devices, at any alignment, in a buffer that is long enough. */
#ifndef DRIVERS_WIRE_BYTES_H
#define DRIVERS_WIRE_BYTES_H

#include <wdm.h>

#ifdef __cplusplus
extern "C" {
#endif

FORCEINLINE VOID
wire_put16(UINT8 *at, UINT16 value)
{
	at[0] = (UINT8)value;
	at[1] = (UINT8)(value >> 8);
}

FORCEINLINE VOID
wire_put32(UINT8 *at, UINT32 value)
{
	wire_put16(at, (UINT16)value);
	wire_put16(at + 2, (UINT16)(value >> 16));
}

FORCEINLINE VOID
wire_put64(UINT8 *at, UINT64 value)
{
	wire_put32(at, (UINT32)value);
	wire_put32(at + 4, (UINT32)(value >> 32));
}

FORCEINLINE UINT16
wire_get16(const UINT8 *at)
{
	return (UINT16)(at[0] | at[1] << 8);
}

FORCEINLINE UINT32
wire_get32(const UINT8 *at)
{
	return wire_get16(at) | (UINT32)wire_get16(at + 2) << 16;
}

FORCEINLINE UINT64
wire_get64(const UINT8 *at)
{
	return wire_get32(at) | (UINT64)wire_get32(at + 4) << 32;
}

#ifdef __cplusplus
}
#endif
#endif
