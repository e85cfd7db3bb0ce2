/* SPDX-License-Identifier: MIT */
/*
 * Decodes CDBs. A table says which commands there are, how long they are, and who understands their
 * fields.
 */
#include "storvsp_scsi.h"

#include "storvsp_wire.h"

/* RDPROTECT, WRPROTECT, VRPROTECT: there is no protection information. */
#define PROTECTION_BITS 0xE0u
#define FUA 0x08u

static VOID
plan_sense(struct scsi_plan *plan, UINT32 sense)
{
	plan->act = SCSI_ACT_SENSE;
	plan->sense = sense;
	plan->bytes = 0;
}

static VOID
plan_reply(struct scsi_plan *plan, UINT32 bytes, UINT32 allocation_length)
{
	plan->act = SCSI_ACT_REPLY;
	plan->bytes = bytes < allocation_length ? bytes : allocation_length;
}

/* FALSE: refused, and the plan says so. A range of no blocks may lie at the end. */
static BOOLEAN
plan_extent(const struct scsi_unit *unit, UINT64 lba, UINT64 blocks, struct scsi_plan *plan)
{
	if (lba > unit->blocks || blocks > unit->blocks - lba) {
		plan_sense(plan, SENSE_LBA_OUT_OF_RANGE);
		return FALSE;
	}
	plan->lba = lba;
	plan->blocks = blocks;
	return TRUE;
}

/* ---- what is answered at once ---------------------------------------------------------------- */

static VOID
decode_nothing(const struct scsi_unit *unit, const UINT8 *cdb, UINT8 *scratch,
               struct scsi_plan *plan)
{
	UNREFERENCED_PARAMETER(unit);
	UNREFERENCED_PARAMETER(cdb);
	UNREFERENCED_PARAMETER(scratch);
	plan_reply(plan, 0, 0);
}

static VOID
decode_request_sense(const struct scsi_unit *unit, const UINT8 *cdb, UINT8 *scratch,
                     struct scsi_plan *plan)
{
	UNREFERENCED_PARAMETER(unit);
	if ((cdb[1] & 0x01) != 0) {
		/* Descriptor format. */
		plan_sense(plan, SENSE_FIELD_IN_CDB);
		return;
	}
	/* Every sense was sent with the command that it belongs to. */
	scsi_put_sense(scratch, SENSE_NONE);
	plan_reply(plan, SCSI_SENSE_BYTES, cdb[4]);
}

static VOID
decode_inquiry(const struct scsi_unit *unit, const UINT8 *cdb, UINT8 *scratch,
               struct scsi_plan *plan)
{
	BOOLEAN is_vpd = (cdb[1] & 0x01) != 0;
	UINT32 bytes = 0;

	if ((cdb[1] & 0xFE) == 0) {
		if (is_vpd)
			bytes = scsi_put_vpd(scratch, unit, cdb[2]);
		else if (cdb[2] == 0)
			bytes = scsi_put_inquiry(scratch, TRUE);
	}
	if (bytes == 0)
		plan_sense(plan, SENSE_FIELD_IN_CDB);
	else
		plan_reply(plan, bytes, storvsp_be16(cdb + 3));
}

static UINT32
put_block_descriptor(UINT8 *at, const struct scsi_unit *unit)
{
	storvsp_put_be32(at, unit->blocks > 0xFFFFFFFFu ? 0xFFFFFFFFu : (UINT32)unit->blocks);
	storvsp_put_be32(at + 4, STORVSP_BLOCK_BYTES);
	return 8;
}

static VOID
decode_mode_sense(const struct scsi_unit *unit, const UINT8 *cdb, UINT8 *scratch,
                  struct scsi_plan *plan)
{
	BOOLEAN is_short = cdb[0] == SCSI_MODE_SENSE_6;
	UINT8 control = cdb[2] >> 6, page = cdb[2] & 0x3F, subpage = cdb[3];
	/* Write protection; FUA is understood. */
	UINT8 device = (UINT8)((unit->read_only ? 0x80 : 0) | 0x10);
	UINT32 header = is_short ? 4 : 8, descriptor = 0, pages;

	if (control == 3) {
		plan_sense(plan, SENSE_SAVING_UNSUPPORTED);
		return;
	}
	RtlZeroMemory(scratch, header);
	if ((cdb[1] & 0x08) == 0)
		descriptor = put_block_descriptor(scratch + header, unit);
	pages = scsi_put_mode_pages(scratch + header + descriptor, unit, page, control);
	/* All subpages of a page that has none are the page. */
	if (pages == 0 || (subpage != 0 && subpage != 0xFF)) {
		plan_sense(plan, SENSE_FIELD_IN_CDB);
		return;
	}
	if (is_short) {
		scratch[0] = (UINT8)(header + descriptor + pages - 1);
		scratch[2] = device;
		scratch[3] = (UINT8)descriptor;
	} else {
		storvsp_put_be16(scratch, header + descriptor + pages - 2);
		scratch[3] = device;
		storvsp_put_be16(scratch + 6, descriptor);
	}
	plan_reply(plan, header + descriptor + pages, is_short ? cdb[4] : storvsp_be16(cdb + 7));
}

static VOID
decode_read_capacity_10(const struct scsi_unit *unit, const UINT8 *cdb, UINT8 *scratch,
                        struct scsi_plan *plan)
{
	UINT64 last = unit->blocks - 1;

	if ((cdb[8] & 0x01) != 0 || storvsp_be32(cdb + 2) != 0) {
		plan_sense(plan, SENSE_FIELD_IN_CDB);
		return;
	}
	storvsp_put_be32(scratch, last > 0xFFFFFFFFu ? 0xFFFFFFFFu : (UINT32)last);
	storvsp_put_be32(scratch + 4, STORVSP_BLOCK_BYTES);
	plan_reply(plan, 8, 8);
}

static VOID
decode_service_action_in(const struct scsi_unit *unit, const UINT8 *cdb, UINT8 *scratch,
                         struct scsi_plan *plan)
{
	if ((cdb[1] & 0x1F) != 0x10 || (cdb[14] & 0x01) != 0 || storvsp_be64(cdb + 2) != 0) {
		plan_sense(plan, SENSE_FIELD_IN_CDB);
		return;
	}
	RtlZeroMemory(scratch, 32);
	storvsp_put_be64(scratch, unit->blocks - 1);
	storvsp_put_be32(scratch + 8, STORVSP_BLOCK_BYTES);
	scratch[13] = 3; /* 2^3 blocks are a physical one */
	if (!unit->read_only && unit->thin)
		scratch[14] = 0x80 | 0x40; /* unmaps, and what is unmapped reads as zeros */
	plan_reply(plan, 32, storvsp_be32(cdb + 10));
}

VOID
scsi_decode_report_luns(const UINT8 *cdb, UINT32 length, const struct scsi_unit *const *units,
                        UINT32 count, UINT8 target, UINT8 *scratch, struct scsi_plan *plan)
{
	UINT32 bytes = 8, lun, i;

	RtlZeroMemory(plan, sizeof(*plan));
	/* Well-known logical units, of which there are none, all others, or both. */
	if (length < 12 || cdb[2] > 2 || storvsp_be32(cdb + 6) < 16) {
		plan_sense(plan, SENSE_FIELD_IN_CDB);
		return;
	}
	RtlZeroMemory(scratch, 8);
	for (lun = 0; lun < 256 && cdb[2] != 1; lun++) {
		for (i = 0; i < count; i++) {
			if (units[i]->target != target || units[i]->lun != lun)
				continue;
			RtlZeroMemory(scratch + bytes, 8);
			scratch[bytes + 1] = (UINT8)lun;
			bytes += 8;
		}
	}
	storvsp_put_be32(scratch, bytes - 8);
	plan_reply(plan, bytes, storvsp_be32(cdb + 6));
}
C_ASSERT(8 + 8 * STORVSP_MAXIMUM_DISKS <= SCSI_SCRATCH_BYTES);

/* ---- what the file does ---------------------------------------------------------------------- */

/* Where a command has its range. The 6-byte form has no flags, and 0 is 256. */
static UINT64
lba_of(const UINT8 *cdb)
{
	switch (cdb[0] >> 5) {
	case 0:
		return storvsp_be32(cdb) & 0x1FFFFFu;
	case 4:
		return storvsp_be64(cdb + 2);
	default:
		return storvsp_be32(cdb + 2);
	}
}

static UINT32
blocks_of(const UINT8 *cdb)
{
	switch (cdb[0] >> 5) {
	case 0:
		return cdb[4] != 0 ? cdb[4] : 256;
	case 4:
		return storvsp_be32(cdb + 10);
	case 5:
		return storvsp_be32(cdb + 6);
	default:
		return storvsp_be16(cdb + 7);
	}
}

/* Order of the checks, here and below: fields, range, what the disk allows. */
static VOID
decode_transfer(const struct scsi_unit *unit, const UINT8 *cdb, struct scsi_plan *plan,
                enum scsi_act act)
{
	UINT32 blocks = blocks_of(cdb);
	UINT8 flags = cdb[0] >> 5 != 0 ? cdb[1] : 0;

	if ((flags & PROTECTION_BITS) != 0) {
		plan_sense(plan, SENSE_FIELD_IN_CDB);
		return;
	}
	if (!plan_extent(unit, lba_of(cdb), blocks, plan))
		return;
	if (blocks > STORVSP_MAXIMUM_TRANSFER / STORVSP_BLOCK_BYTES) {
		plan_sense(plan, SENSE_FIELD_IN_CDB);
		return;
	}
	if (act == SCSI_ACT_WRITE && unit->read_only) {
		plan_sense(plan, SENSE_WRITE_PROTECTED);
		return;
	}
	plan->act = act;
	plan->bytes = blocks * STORVSP_BLOCK_BYTES;
	plan->fua = (flags & FUA) != 0;
}

static VOID
decode_read(const struct scsi_unit *unit, const UINT8 *cdb, UINT8 *scratch, struct scsi_plan *plan)
{
	UNREFERENCED_PARAMETER(scratch);
	decode_transfer(unit, cdb, plan, SCSI_ACT_READ);
}

static VOID
decode_write(const struct scsi_unit *unit, const UINT8 *cdb, UINT8 *scratch, struct scsi_plan *plan)
{
	UNREFERENCED_PARAMETER(scratch);
	decode_transfer(unit, cdb, plan, SCSI_ACT_WRITE);
}

static VOID
decode_synchronize(const struct scsi_unit *unit, const UINT8 *cdb, UINT8 *scratch,
                   struct scsi_plan *plan)
{
	UNREFERENCED_PARAMETER(scratch);
	/*
	 * IMMED would promise less; the answer comes when everything is on the medium all the same.
	 */
	if (plan_extent(unit, lba_of(cdb), blocks_of(cdb), plan))
		plan->act = SCSI_ACT_SYNC;
}

static VOID
decode_verify(const struct scsi_unit *unit, const UINT8 *cdb, UINT8 *scratch,
              struct scsi_plan *plan)
{
	UNREFERENCED_PARAMETER(scratch);
	/* BYTCHK: nothing is compared here. */
	if ((cdb[1] & (PROTECTION_BITS | 0x06)) != 0)
		plan_sense(plan, SENSE_FIELD_IN_CDB);
	else if (plan_extent(unit, lba_of(cdb), blocks_of(cdb), plan))
		plan->act = SCSI_ACT_VERIFY;
}

static VOID
decode_write_same(const struct scsi_unit *unit, const UINT8 *cdb, UINT8 *scratch,
                  struct scsi_plan *plan)
{
	BOOLEAN no_data = cdb[0] == SCSI_WRITE_SAME_16 && (cdb[1] & 0x01) != 0;
	UINT32 blocks = blocks_of(cdb);

	UNREFERENCED_PARAMETER(scratch);
	/* ANCHOR, and the obsolete bits for other data in each block. */
	if ((cdb[1] & (PROTECTION_BITS | 0x16)) != 0 || blocks == 0 ||
	    blocks > SCSI_MAXIMUM_WRITE_SAME_BLOCKS || (!no_data && (cdb[1] & 0x01) != 0)) {
		plan_sense(plan, SENSE_FIELD_IN_CDB);
		return;
	}
	if (!plan_extent(unit, lba_of(cdb), blocks, plan))
		return;
	if (unit->read_only) {
		plan_sense(plan, SENSE_WRITE_PROTECTED);
		return;
	}
	plan->act = SCSI_ACT_WRITE_SAME;
	plan->bytes = no_data ? 0 : STORVSP_BLOCK_BYTES;
	plan->unmap = (cdb[1] & 0x08) != 0;
}

static VOID
decode_unmap(const struct scsi_unit *unit, const UINT8 *cdb, UINT8 *scratch, struct scsi_plan *plan)
{
	UINT32 bytes = storvsp_be16(cdb + 7);

	UNREFERENCED_PARAMETER(scratch);
	if ((cdb[1] & 0x01) != 0) {
		plan_sense(plan, SENSE_FIELD_IN_CDB);
	} else if (bytes == 0) {
		plan_reply(plan, 0, 0);
	} else if (bytes < SCSI_UNMAP_HEADER_BYTES || bytes > SCSI_SCRATCH_BYTES) {
		plan_sense(plan, SENSE_PARAMETER_LIST_LENGTH);
	} else if (unit->read_only) {
		plan_sense(plan, SENSE_WRITE_PROTECTED);
	} else {
		plan->act = SCSI_ACT_UNMAP;
		plan->bytes = bytes;
	}
}

VOID
scsi_unmap_extent(const UINT8 *list, UINT32 index, UINT64 *lba, UINT64 *blocks)
{
	const UINT8 *at = list + SCSI_UNMAP_HEADER_BYTES + index * SCSI_UNMAP_DESCRIPTOR_BYTES;

	*lba = storvsp_be64(at);
	*blocks = storvsp_be32(at + 8);
}

UINT32
scsi_check_unmap(const struct scsi_unit *unit, const UINT8 *list, UINT32 bytes, UINT32 *count)
{
	UINT32 descriptors = storvsp_be16(list + 2), i;
	UINT64 lba, blocks, total = 0;

	if (descriptors > bytes - SCSI_UNMAP_HEADER_BYTES)
		descriptors = bytes - SCSI_UNMAP_HEADER_BYTES;
	*count = descriptors / SCSI_UNMAP_DESCRIPTOR_BYTES;
	if (*count > SCSI_MAXIMUM_UNMAP_DESCRIPTORS)
		return SENSE_FIELD_IN_PARAMETERS;
	for (i = 0; i < *count; i++) {
		scsi_unmap_extent(list, i, &lba, &blocks);
		if (lba > unit->blocks || blocks > unit->blocks - lba)
			return SENSE_LBA_OUT_OF_RANGE;
		total += blocks;
	}
	return total > SCSI_MAXIMUM_UNMAP_BLOCKS ? SENSE_FIELD_IN_PARAMETERS : SENSE_NONE;
}

/* ---- all of them ----------------------------------------------------------------------------- */

static const struct {
	UINT8 operation, length;
	VOID (*decode)(const struct scsi_unit *unit, const UINT8 *cdb, UINT8 *scratch,
	               struct scsi_plan *plan);
} commands[] = {
	/* REPORT LUNS is not about one disk: scsi_decode_report_luns(). */
	{ SCSI_TEST_UNIT_READY, 6, decode_nothing },
	{ SCSI_REQUEST_SENSE, 6, decode_request_sense },
	{ SCSI_READ_6, 6, decode_read },
	{ SCSI_WRITE_6, 6, decode_write },
	{ SCSI_INQUIRY, 6, decode_inquiry },
	{ SCSI_MODE_SENSE_6, 6, decode_mode_sense },
	{ SCSI_START_STOP, 6, decode_nothing }, /* there is nothing that turns */
	{ SCSI_READ_CAPACITY_10, 10, decode_read_capacity_10 },
	{ SCSI_READ_10, 10, decode_read },
	{ SCSI_WRITE_10, 10, decode_write },
	{ SCSI_VERIFY_10, 10, decode_verify },
	{ SCSI_SYNCHRONIZE_CACHE_10, 10, decode_synchronize },
	{ SCSI_WRITE_SAME_10, 10, decode_write_same },
	{ SCSI_UNMAP, 10, decode_unmap },
	{ SCSI_MODE_SENSE_10, 10, decode_mode_sense },
	{ SCSI_READ_16, 16, decode_read },
	{ SCSI_WRITE_16, 16, decode_write },
	{ SCSI_VERIFY_16, 16, decode_verify },
	{ SCSI_SYNCHRONIZE_CACHE_16, 16, decode_synchronize },
	{ SCSI_WRITE_SAME_16, 16, decode_write_same },
	{ SCSI_SERVICE_ACTION_IN_16, 16, decode_service_action_in },
	{ SCSI_READ_12, 12, decode_read },
	{ SCSI_WRITE_12, 12, decode_write },
};

VOID
scsi_decode(const struct scsi_unit *unit, const UINT8 *cdb, UINT32 length, UINT8 *scratch,
            struct scsi_plan *plan)
{
	UINT32 i;

	RtlZeroMemory(plan, sizeof(*plan));
	for (i = 0; i < RTL_NUMBER_OF(commands); i++) {
		if (length == 0 || commands[i].operation != cdb[0])
			continue;
		if (length < commands[i].length)
			plan_sense(plan, SENSE_FIELD_IN_CDB);
		else
			commands[i].decode(unit, cdb, scratch, plan);
		return;
	}
	plan_sense(plan, SENSE_UNKNOWN_COMMAND);
}

BOOLEAN
scsi_decode_absent(const UINT8 *cdb, UINT32 length, UINT8 *scratch, struct scsi_plan *plan)
{
	RtlZeroMemory(plan, sizeof(*plan));
	if (length < 6 || cdb[0] != SCSI_INQUIRY || cdb[1] != 0 || cdb[2] != 0)
		return FALSE;
	plan_reply(plan, scsi_put_inquiry(scratch, FALSE), storvsp_be16(cdb + 3));
	return TRUE;
}

VOID
scsi_put_sense(UINT8 *at, UINT32 sense)
{
	RtlZeroMemory(at, SCSI_SENSE_BYTES);
	at[0] = 0x70; /* of this command, fixed format */
	at[2] = (UINT8)(sense >> 16);
	at[7] = SCSI_SENSE_BYTES - 8;
	at[12] = (UINT8)(sense >> 8);
	at[13] = (UINT8)sense;
}
