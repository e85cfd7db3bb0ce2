/* SPDX-License-Identifier: MIT */
/*
 * SCSI: from a CDB to a plan of what to do. No channel, no file, no memory but what is given: the
 * same CDB of the same disk is always the same plan.
 */
#ifndef DRIVERS_STORVSP_SCSI_H
#define DRIVERS_STORVSP_SCSI_H

#include <wdm.h>

#include "storvsp.h"

#define SCSI_TEST_UNIT_READY 0x00u
#define SCSI_REQUEST_SENSE 0x03u
#define SCSI_READ_6 0x08u
#define SCSI_WRITE_6 0x0Au
#define SCSI_INQUIRY 0x12u
#define SCSI_MODE_SENSE_6 0x1Au
#define SCSI_START_STOP 0x1Bu
#define SCSI_READ_CAPACITY_10 0x25u
#define SCSI_READ_10 0x28u
#define SCSI_WRITE_10 0x2Au
#define SCSI_VERIFY_10 0x2Fu
#define SCSI_SYNCHRONIZE_CACHE_10 0x35u
#define SCSI_WRITE_SAME_10 0x41u
#define SCSI_UNMAP 0x42u
#define SCSI_MODE_SENSE_10 0x5Au
#define SCSI_READ_16 0x88u
#define SCSI_WRITE_16 0x8Au
#define SCSI_VERIFY_16 0x8Fu
#define SCSI_SYNCHRONIZE_CACHE_16 0x91u
#define SCSI_WRITE_SAME_16 0x93u
#define SCSI_SERVICE_ACTION_IN_16 0x9Eu
#define SCSI_REPORT_LUNS 0xA0u
#define SCSI_READ_12 0xA8u
#define SCSI_WRITE_12 0xAAu

/* Sense key, additional sense code and its qualifier. */
#define SENSE(key, asc, ascq) ((UINT32)(key) << 16 | (UINT32)(asc) << 8 | (UINT32)(ascq))
#define SENSE_NONE 0u
#define SENSE_WRITE_FAULT SENSE(0x3, 0x0C, 0x00)
#define SENSE_READ_FAULT SENSE(0x3, 0x11, 0x00)
#define SENSE_PARAMETER_LIST_LENGTH SENSE(0x5, 0x1A, 0x00)
#define SENSE_UNKNOWN_COMMAND SENSE(0x5, 0x20, 0x00)
#define SENSE_LBA_OUT_OF_RANGE SENSE(0x5, 0x21, 0x00)
#define SENSE_FIELD_IN_CDB SENSE(0x5, 0x24, 0x00)
#define SENSE_FIELD_IN_PARAMETERS SENSE(0x5, 0x26, 0x00)
#define SENSE_SAVING_UNSUPPORTED SENSE(0x5, 0x39, 0x00)
#define SENSE_WRITE_PROTECTED SENSE(0x7, 0x27, 0x00)
#define SENSE_SPACE_ALLOCATION SENSE(0x7, 0x27, 0x07)
#define SCSI_SENSE_BYTES 18u

/* What one request may take to work with, besides its data. */
#define SCSI_SCRATCH_BYTES 4096u
#define SCSI_MAXIMUM_UNMAP_DESCRIPTORS 64u
#define SCSI_UNMAP_HEADER_BYTES 8u
#define SCSI_UNMAP_DESCRIPTOR_BYTES 16u
/* In blocks. What a file system cannot do at once keeps a request busy for that long. */
#define SCSI_MAXIMUM_UNMAP_BLOCKS (8u << 20)
#define SCSI_MAXIMUM_WRITE_SAME_BLOCKS (4u << 20)

/* A disk as SCSI sees it. */
struct scsi_unit {
	UINT8 target, lun;
	BOOLEAN read_only;
	BOOLEAN thin;             /* unmapped blocks take no space and read as zeros */
	UINT64 blocks;            /* at least 1 */
	GUID instance;            /* of the controller: what the disk's names are made of */
};

enum scsi_act {
	SCSI_ACT_SENSE,           /* check condition with `sense` */
	SCSI_ACT_REPLY,           /* the first `bytes` of the scratch memory, or as much as there is room for */
	SCSI_ACT_READ,            /* `blocks` from `lba`, `bytes` of data */
	SCSI_ACT_WRITE,
	SCSI_ACT_SYNC,
	SCSI_ACT_VERIFY,          /* `blocks` from `lba` can be read */
	SCSI_ACT_UNMAP,           /* a parameter list of `bytes` says what */
	SCSI_ACT_WRITE_SAME       /* `bytes`, 0 or a block, to `blocks` from `lba`; 0: zeros */
};

struct scsi_plan {
	enum scsi_act act;
	UINT32 sense;
	UINT32 bytes;             /* of data, 0: none; to the device for the last four, else from it */
	UINT64 lba, blocks;
	BOOLEAN fua;              /* READ: from the medium; WRITE: durable */
	BOOLEAN unmap;            /* WRITE SAME of zeros may unmap */
};

/*
 * Decode `cdb` of `length` bytes, 0..16. Answers are made in `scratch`, SCSI_SCRATCH_BYTES. Command
 * length, every field, and the range of blocks are checked; the request's data is not looked at.
 */
VOID scsi_decode(const struct scsi_unit *unit, const UINT8 *cdb, UINT32 length, UINT8 *scratch,
                 struct scsi_plan *plan);
/* The same for an address without a disk. FALSE: nothing can be said there but that it is none. */
BOOLEAN scsi_decode_absent(const UINT8 *cdb, UINT32 length, UINT8 *scratch, struct scsi_plan *plan);
/* REPORT LUNS, which every target answers: the LUNs of `target` among `units`. */
VOID scsi_decode_report_luns(const UINT8 *cdb, UINT32 length, const struct scsi_unit *const *units,
                             UINT32 count, UINT8 target, UINT8 *scratch, struct scsi_plan *plan);
/*
 * The parameter list of an UNMAP, a private copy. Returns a sense, or SENSE_NONE with *count
 * descriptors that are within the disk and not too many blocks together.
 */
UINT32 scsi_check_unmap(const struct scsi_unit *unit, const UINT8 *list, UINT32 bytes, UINT32 *count);
VOID scsi_unmap_extent(const UINT8 *list, UINT32 index, UINT64 *lba, UINT64 *blocks);
/* Fixed-format sense data, SCSI_SENSE_BYTES. */
VOID scsi_put_sense(UINT8 *at, UINT32 sense);

/*
 * storvsp_pages.c: the answers that describe a disk. Each returns their bytes, or 0 if there is no
 * such page.
 */
UINT32 scsi_put_inquiry(UINT8 *at, BOOLEAN present);
UINT32 scsi_put_vpd(UINT8 *at, const struct scsi_unit *unit, UINT8 page);
/* Pages without the header; `control` 0 current, 1 what can be changed (nothing), 2 default. */
UINT32 scsi_put_mode_pages(UINT8 *at, const struct scsi_unit *unit, UINT8 page, UINT8 control);

#endif
