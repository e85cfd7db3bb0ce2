/* SPDX-License-Identifier: MIT */
/*
 * What a disk says about itself: INQUIRY, vital product data, mode pages. Pages are as SPC-4 and
 * SBC-3 lay them out; all bytes that are not mentioned are zero.
 */
#include "storvsp_scsi.h"

#include "storvsp_wire.h"

#define VENDOR "OpenKMCL"
#define PRODUCT "Virtual Disk    "
#define REVISION "1.0 "

#define VERSION_SPC_4 6u
#define NO_LUN_HERE 0x7Fu /* peripheral qualifier 3, type unknown */
#define COMMAND_QUEUING 0x02u

#define STANDARD_BYTES 36u
#define SERIAL_BYTES 36u
#define VPD_HEADER_BYTES 4u

/* 4096 bytes: what file systems allocate. */
#define BLOCKS_PER_PAGE 8u

UINT32
scsi_put_inquiry(UINT8 *at, BOOLEAN present)
{
	RtlZeroMemory(at, STANDARD_BYTES);
	at[0] = present ? 0 : NO_LUN_HERE;
	at[2] = VERSION_SPC_4;
	at[3] = 2; /* response data format */
	at[4] = STANDARD_BYTES - 5;
	if (!present)
		return STANDARD_BYTES;
	at[7] = COMMAND_QUEUING;
	RtlCopyMemory(at + 8, VENDOR, 8);
	RtlCopyMemory(at + 16, PRODUCT, 16);
	RtlCopyMemory(at + 32, REVISION, 4);
	return STANDARD_BYTES;
}

/* ---- vital product data ---------------------------------------------------------------------- */

static VOID
put_hex(UINT8 *at, UINT8 value)
{
	static const char digits[] = "0123456789abcdef";

	at[0] = (UINT8)digits[value >> 4];
	at[1] = (UINT8)digits[value & 0xF];
}

/* The same disk has the same one whenever it is served. */
static VOID
put_serial(UINT8 *at, const struct scsi_unit *unit)
{
	UINT8 guid[sizeof(unit->instance)];
	UINT32 i;

	RtlCopyMemory(guid, &unit->instance, sizeof(guid));
	for (i = 0; i < sizeof(guid); i++)
		put_hex(at + 2 * i, guid[i]);
	put_hex(at + 32, unit->target);
	put_hex(at + 34, unit->lun);
}

/*
 * FNV-1a of the serial number; the NAA "locally assigned" leaves 60 bits to whoever gives the
 * names.
 */
static UINT64
local_name(const struct scsi_unit *unit)
{
	UINT64 hash = 0xCBF29CE484222325ull;
	UINT8 serial[SERIAL_BYTES];
	UINT32 i;

	put_serial(serial, unit);
	for (i = 0; i < sizeof(serial); i++)
		hash = (hash ^ serial[i]) * 0x100000001B3ull;
	return (hash & 0x0FFFFFFFFFFFFFFFull) | 0x3000000000000000ull;
}

static UINT32
put_identification(UINT8 *at, const struct scsi_unit *unit)
{
	at[0] = 0x01; /* binary: NAA */
	at[1] = 0x03;
	at[3] = 8;
	storvsp_put_be64(at + 4, local_name(unit));
	at += 12;
	at[0] = 0x02; /* ASCII: vendor and serial number */
	at[1] = 0x01;
	at[3] = (UINT8)(8 + SERIAL_BYTES);
	RtlCopyMemory(at + 4, VENDOR, 8);
	put_serial(at + 12, unit);
	return 12 + 12 + SERIAL_BYTES;
}

static UINT32
put_block_limits(UINT8 *at, const struct scsi_unit *unit)
{
	at[0] = 0x01; /* WRITE SAME of 0 blocks is an error, and not the whole disk */
	storvsp_put_be16(at + 2, BLOCKS_PER_PAGE);
	storvsp_put_be32(at + 4, STORVSP_MAXIMUM_TRANSFER / STORVSP_BLOCK_BYTES);
	if (!unit->read_only && unit->thin) {
		storvsp_put_be32(at + 16, SCSI_MAXIMUM_UNMAP_BLOCKS);
		storvsp_put_be32(at + 20, SCSI_MAXIMUM_UNMAP_DESCRIPTORS);
		storvsp_put_be32(at + 24, BLOCKS_PER_PAGE);
		storvsp_put_be32(at + 28, 0x80000000u); /* from block 0 on */
	}
	storvsp_put_be64(at + 32, SCSI_MAXIMUM_WRITE_SAME_BLOCKS);
	return 60;
}

static UINT32
put_provisioning(UINT8 *at, const struct scsi_unit *unit)
{
	if (!unit->read_only && unit->thin) {
		/* UNMAP, WRITE SAME 16 and 10 unmap; what is unmapped reads as zeros; thin. */
		at[1] = 0x80 | 0x40 | 0x20 | 0x04;
		at[2] = 0x02;
	}
	return 4;
}

UINT32
scsi_put_vpd(UINT8 *at, const struct scsi_unit *unit, UINT8 page)
{
	static const UINT8 pages[] = { 0x00, 0x80, 0x83, 0xB0, 0xB1, 0xB2 };
	UINT8 *body = at + VPD_HEADER_BYTES;
	UINT32 bytes;

	RtlZeroMemory(at, SCSI_SCRATCH_BYTES);
	switch (page) {
	case 0x00:
		RtlCopyMemory(body, pages, sizeof(pages));
		bytes = sizeof(pages);
		break;
	case 0x80:
		put_serial(body, unit);
		bytes = SERIAL_BYTES;
		break;
	case 0x83:
		bytes = put_identification(body, unit);
		break;
	case 0xB0:
		bytes = put_block_limits(body, unit);
		break;
	case 0xB1:
		body[1] = 1; /* does not rotate */
		bytes = 60;
		break;
	case 0xB2:
		bytes = put_provisioning(body, unit);
		break;
	default:
		return 0;
	}
	at[1] = page;
	storvsp_put_be16(at + 2, bytes);
	return VPD_HEADER_BYTES + bytes;
}

/* ---- mode pages ------------------------------------------------------------------------------ */

#define MODE_CACHING 0x08u
#define MODE_CONTROL 0x0Au
#define MODE_ALL 0x3Fu

static UINT32
put_caching(UINT8 *at, const struct scsi_unit *unit, UINT8 control)
{
	RtlZeroMemory(at, 20);
	at[0] = MODE_CACHING;
	at[1] = 18;
	/* Writes are in the cache of the system below until they are flushed. */
	if (control != 1 && !unit->read_only)
		at[2] = 0x04;
	return 20;
}

static UINT32
put_control(UINT8 *at, UINT8 control)
{
	RtlZeroMemory(at, 12);
	at[0] = MODE_CONTROL;
	at[1] = 10;
	if (control != 1)
		at[3] = 0x10; /* commands may be reordered without restriction */
	return 12;
}

UINT32
scsi_put_mode_pages(UINT8 *at, const struct scsi_unit *unit, UINT8 page, UINT8 control)
{
	UINT32 bytes = 0;

	if (page == MODE_CACHING || page == MODE_ALL)
		bytes += put_caching(at + bytes, unit, control);
	if (page == MODE_CONTROL || page == MODE_ALL)
		bytes += put_control(at + bytes, control);
	return bytes;
}
