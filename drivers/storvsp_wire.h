/* SPDX-License-Identifier: MIT */
/*
 * What a storage guest and its server say to each other. Packets are private copies at any
 * alignment, so fields are named by their offsets and read by functions. Little-endian, but for
 * what lies in a CDB or is the answer to one.
 */
#ifndef DRIVERS_STORVSP_WIRE_H
#define DRIVERS_STORVSP_WIRE_H

#include <wdm.h>

enum storvsp_operation {
	STORVSP_COMPLETE_IO = 1,
	STORVSP_EXECUTE_SRB = 3,
	STORVSP_RESET_LUN = 4,
	STORVSP_RESET_ADAPTER = 5,
	STORVSP_RESET_BUS = 6,
	STORVSP_BEGIN_INITIALIZATION = 7,
	STORVSP_END_INITIALIZATION = 8,
	STORVSP_QUERY_PROTOCOL_VERSION = 9,
	STORVSP_QUERY_PROPERTIES = 10,
	STORVSP_CREATE_SUB_CHANNELS = 13
};

/* Header of every packet, and of every answer. */
#define STORVSP_AT_OPERATION 0u
#define STORVSP_AT_FLAGS 4u
#define STORVSP_AT_STATUS 8u
#define STORVSP_HEADER_BYTES 12u

#define STORVSP_AT_VERSION 12u
#define STORVSP_AT_SUBCHANNELS 12u

#define STORVSP_AT_MAX_SUBCHANNELS 16u
#define STORVSP_AT_PROPERTY_FLAGS 20u
#define STORVSP_AT_MAX_TRANSFER 24u
#define STORVSP_MULTICHANNEL 0x1u

#define STORVSP_VERSION_2_0 0x0200u
#define STORVSP_VERSION_4_2 0x0402u
#define STORVSP_VERSION_5_1 0x0501u
#define STORVSP_VERSION_6_0 0x0600u

/* A SCSI request. Answers have the sense data where the request has its CDB. */
#define STORVSP_AT_SRB_STATUS 14u
#define STORVSP_AT_SCSI_STATUS 15u
#define STORVSP_AT_PATH 17u
#define STORVSP_AT_TARGET 18u
#define STORVSP_AT_LUN 19u
#define STORVSP_AT_CDB_LENGTH 20u
#define STORVSP_AT_SENSE_LENGTH 21u
#define STORVSP_AT_DATA_IN 22u
#define STORVSP_AT_DATA_LENGTH 24u
#define STORVSP_AT_CDB 28u
#define STORVSP_CDB_BYTES 16u
#define STORVSP_SENSE_BYTES 20u
#define STORVSP_SRB_PACKET_BYTES 64u     /* from 5.1 on */
#define STORVSP_OLD_SRB_PACKET_BYTES 48u
/* Longer ones are nobody's. */
#define STORVSP_MAXIMUM_PACKET 128u

enum storvsp_direction {
	STORVSP_TO_DEVICE = 0,
	STORVSP_FROM_DEVICE = 1,
	STORVSP_NO_DATA = 2
};

#define SRB_SUCCESS 0x01u
#define SRB_ERROR 0x04u
#define SRB_BUSY 0x05u
#define SRB_INVALID_REQUEST 0x06u
#define SRB_INVALID_LUN 0x20u
#define SRB_SENSE_IS_VALID 0x80u

#define SCSI_GOOD 0x00u
#define SCSI_CHECK_CONDITION 0x02u
#define SCSI_BUSY 0x08u

FORCEINLINE UINT32
storvsp_le16(const UINT8 *at)
{
	return at[0] | (UINT32)at[1] << 8;
}

FORCEINLINE UINT32
storvsp_le32(const UINT8 *at)
{
	return storvsp_le16(at) | storvsp_le16(at + 2) << 16;
}

FORCEINLINE VOID
storvsp_put_le16(UINT8 *at, UINT32 value)
{
	at[0] = (UINT8)value;
	at[1] = (UINT8)(value >> 8);
}

FORCEINLINE VOID
storvsp_put_le32(UINT8 *at, UINT32 value)
{
	storvsp_put_le16(at, value);
	storvsp_put_le16(at + 2, value >> 16);
}

FORCEINLINE UINT32
storvsp_be16(const UINT8 *at)
{
	return (UINT32)at[0] << 8 | at[1];
}

FORCEINLINE UINT32
storvsp_be32(const UINT8 *at)
{
	return storvsp_be16(at) << 16 | storvsp_be16(at + 2);
}

FORCEINLINE UINT64
storvsp_be64(const UINT8 *at)
{
	return (UINT64)storvsp_be32(at) << 32 | storvsp_be32(at + 4);
}

FORCEINLINE VOID
storvsp_put_be16(UINT8 *at, UINT32 value)
{
	at[0] = (UINT8)(value >> 8);
	at[1] = (UINT8)value;
}

FORCEINLINE VOID
storvsp_put_be32(UINT8 *at, UINT32 value)
{
	storvsp_put_be16(at, value >> 16);
	storvsp_put_be16(at + 2, value);
}

FORCEINLINE VOID
storvsp_put_be64(UINT8 *at, UINT64 value)
{
	storvsp_put_be32(at, (UINT32)(value >> 32));
	storvsp_put_be32(at + 4, (UINT32)value);
}

#endif
