/* SPDX-License-Identifier: MIT */
/* A SCSI request of the SCSI controller's fuzzer: nearly right, or not at all; and what must hold of its answer and its data. */
#include "fuzz_storvsp.h"

#define START BLOCK     /* of external data in the memory */
#define GUARD_BYTES 64u /* before and behind external data */
#define GUARD 0x5a
#define NO_DISK DISKS

struct request {
	uint32_t channel, disk, packet_bytes;
	uint8_t path, target, lun, cdb[STORVSP_CDB_BYTES], cdb_length, sense_room, direction,
	    filling;
	uint32_t data_length;
	bool may_fail;
	/* External data: its bytes, and where in the memory they begin; page i of them is page order[i] of the memory. */
	uint32_t there, start, ranges;
	uint32_t order[MEMORY_BYTES / PAGE_SIZE];
	PMDL mdls[RANGES_MAX];
	uint8_t *is; /* what it was, and what it is then */
	struct question question;
};

static const uint8_t operations[] = { 0x00, 0x03, 0x08, 0x0A, 0x12, 0x1A, 0x1B, 0x25,
	                              0x28, 0x2A, 0x2F, 0x35, 0x41, 0x42, 0x5A, 0x88,
	                              0x8A, 0x8F, 0x91, 0x93, 0x9E, 0xA0, 0xA8, 0xAA };

/* ---- CDBs ------------------------------------------------------------------------------------------- */

/* Those whose range of blocks is at the place of their group. */
static bool
has_extent(uint8_t operation)
{
	static const uint8_t with[] = { 0x08, 0x0A, 0x28, 0x2A, 0x2F, 0x35, 0x41,
		                        0x88, 0x8A, 0x8F, 0x91, 0x93, 0xA8, 0xAA };

	return memchr(with, operation, sizeof(with)) != NULL;
}

static bool
is_read(const uint8_t *cdb)
{
	return cdb[0] == 0x08 || cdb[0] == 0x28 || cdb[0] == 0x88 || cdb[0] == 0xA8;
}

static bool
is_write(const uint8_t *cdb)
{
	return cdb[0] == 0x0A || cdb[0] == 0x2A || cdb[0] == 0x8A || cdb[0] == 0xAA;
}

static bool
is_write_same(const uint8_t *cdb)
{
	return cdb[0] == SCSI_WRITE_SAME_10 || cdb[0] == SCSI_WRITE_SAME_16;
}

static bool
has_no_data(const uint8_t *cdb)
{
	return cdb[0] == SCSI_WRITE_SAME_16 && (cdb[1] & 1) != 0;
}

static void
put_extent(uint8_t *cdb, uint64_t lba, uint32_t blocks)
{
	switch (cdb[0] >> 5) {
	case 0:
		cdb[1] = (uint8_t)(lba >> 16 & 0x1F);
		storvsp_put_be16(cdb + 2, (UINT32)lba);
		cdb[4] = (uint8_t)blocks;
		break;
	case 4:
		storvsp_put_be64(cdb + 2, lba);
		storvsp_put_be32(cdb + 10, blocks);
		break;
	case 5:
		storvsp_put_be32(cdb + 2, (UINT32)lba);
		storvsp_put_be32(cdb + 6, blocks);
		break;
	default:
		storvsp_put_be32(cdb + 2, (UINT32)lba);
		storvsp_put_be16(cdb + 7, blocks);
		break;
	}
}

static void
get_extent(const uint8_t *cdb, uint64_t *lba, uint64_t *blocks)
{
	switch (cdb[0] >> 5) {
	case 0:
		*lba = (cdb[1] & 0x1Fu) << 16 | storvsp_be16(cdb + 2);
		*blocks = cdb[4] == 0 ? 256 : cdb[4];
		break;
	case 4:
		*lba = storvsp_be64(cdb + 2);
		*blocks = storvsp_be32(cdb + 10);
		break;
	case 5:
		*lba = storvsp_be32(cdb + 2);
		*blocks = storvsp_be32(cdb + 6);
		break;
	default:
		*lba = storvsp_be32(cdb + 2);
		*blocks = storvsp_be16(cdb + 7);
		break;
	}
}

static uint64_t
some_lba(uint8_t kind)
{
	static const uint64_t edges[] = { DISK_BLOCKS - 1, DISK_BLOCKS,   DISK_BLOCKS + 1,
		                          0xFFFFFFFF,      0x100000000,   0x7FFFFFFFFFFFFFFF,
		                          UINT64_MAX,      UINT64_MAX - 8 };

	if (kind < 0x80)
		return kind % 64;
	return kind < 0xC0 ? DISK_BLOCKS - kind % 64u : edges[kind % 8];
}

static uint32_t
some_blocks(uint8_t kind)
{
	static const uint32_t edges[] = { 128,
		                          1024,
		                          1025,
		                          DISK_BLOCKS,
		                          DISK_BLOCKS + 1,
		                          SCSI_MAXIMUM_WRITE_SAME_BLOCKS,
		                          SCSI_MAXIMUM_WRITE_SAME_BLOCKS + 1,
		                          UINT32_MAX };

	return kind < 0xC0 ? kind % 64 : edges[kind % 8];
}

/* ---- external data --------------------------------------------------------------------------------- */

static uint8_t *
memory_at(const struct request *request, uint32_t at)
{
	return world.memory + request->order[at / PAGE_SIZE] * PAGE_SIZE + at % PAGE_SIZE;
}

/* Memory and a copy, by pages. */
static void
copy_memory(const struct request *request, uint8_t *copy, bool to_memory)
{
	for (uint32_t i = 0; i < MEMORY_BYTES / PAGE_SIZE; i++) {
		if (i * PAGE_SIZE > request->start + request->there + GUARD_BYTES)
			break;
		if (to_memory)
			memcpy(memory_at(request, i * PAGE_SIZE), copy + i * PAGE_SIZE, PAGE_SIZE);
		else
			memcpy(copy + i * PAGE_SIZE, memory_at(request, i * PAGE_SIZE), PAGE_SIZE);
	}
}

/* Ranges lie one after another, each but the last of the same size. One alone may have its pages in any order. */
static PMDL
describe(struct request *request, bool shuffled)
{
	uint32_t each = request->ranges != 0 ? request->there / request->ranges : 0, at = 0;
	uint32_t pages = (request->start + request->there + PAGE_SIZE - 1) / PAGE_SIZE;

	for (uint32_t i = 0; i < MEMORY_BYTES / PAGE_SIZE; i++)
		request->order[i] = i;
	for (uint32_t i = 0; i < request->ranges; i++) {
		uint32_t bytes = i + 1 == request->ranges ? request->there - at : each;

		request->mdls[i] =
		    IoAllocateMdl(world.memory + request->start + at, bytes, FALSE, FALSE, NULL);
		FUZZ_CHECK(request->mdls[i] != NULL);
		MmBuildMdlForNonPagedPool(request->mdls[i]);
		if (i != 0)
			request->mdls[i - 1]->Next = request->mdls[i];
		at += bytes;
	}
	/* Some stay neighbours. */
	for (uint32_t i = 0; shuffled && request->ranges == 1 && i < pages / 2; i += 3) {
		PPFN_NUMBER pfns = MmGetMdlPfnArray(request->mdls[0]);
		uint32_t j = pages - 1 - i, order = request->order[i];
		PFN_NUMBER pfn = pfns[i];

		request->order[i] = request->order[j];
		request->order[j] = order;
		pfns[i] = pfns[j];
		pfns[j] = pfn;
	}
	return request->ranges != 0 ? request->mdls[0] : NULL;
}

/* ---- a request ----------------------------------------------------------------------------------- */

static uint32_t
disk_at(const struct request *request)
{
	if (request->path != 0 || request->target > 1 || request->lun > 1)
		return NO_DISK;
	return request->target * 2u + request->lun;
}

/* What the CDB is about, and the bytes of data that it wants. */
static uint32_t
fill_cdb(struct fuzz *fuzz, uint8_t *cdb)
{
	uint8_t command = fuzz_u8(fuzz), flags = fuzz_u8(fuzz), lba = fuzz_u8(fuzz);
	uint8_t blocks = fuzz_u8(fuzz), patch = fuzz_u8(fuzz), value = fuzz_u8(fuzz);
	uint64_t bytes = 512;

	fuzz_bytes(fuzz, cdb, STORVSP_CDB_BYTES);
	if (command < 0xF0)
		cdb[0] = operations[command % sizeof(operations)];
	if (has_extent(cdb[0])) {
		memset(cdb + 1, 0, STORVSP_CDB_BYTES - 1);
		cdb[1] = flags;
		put_extent(cdb, some_lba(lba), some_blocks(blocks));
		bytes = is_write_same(cdb) ? BLOCK : (uint64_t)some_blocks(blocks) * BLOCK;
		if (!is_read(cdb) && !is_write(cdb) && !is_write_same(cdb))
			bytes = 0;
		else if (has_no_data(cdb))
			bytes = 0;
		else if (cdb[0] >> 5 == 0 && cdb[4] == 0)
			bytes = 256 * BLOCK;
	} else if (cdb[0] == SCSI_UNMAP && command < 0xF0) {
		bytes = UNMAP_BYTES(blocks % (SCSI_MAXIMUM_UNMAP_DESCRIPTORS + 2));
		cdb[1] = flags & 1;
		storvsp_put_be16(cdb + 7, (UINT32)bytes);
	}
	if (patch != 0 && patch < STORVSP_CDB_BYTES)
		cdb[patch] = value;
	return bytes < DATA_MAX ? (uint32_t)bytes : DATA_MAX;
}

static void
take_apart(struct fuzz *fuzz, struct request *request)
{
	static const uint8_t lengths[8] = { 6, 10, 10, 6, 16, 12, 6, 6 };
	uint8_t where = fuzz_u8(fuzz), wrong = fuzz_u8(fuzz), data = fuzz_u8(fuzz), ranges, sense;

	ranges = fuzz_u8(fuzz);
	sense = fuzz_u8(fuzz);
	request->filling = fuzz_u8(fuzz);
	request->there = fill_cdb(fuzz, request->cdb);
	if (data >= 0xC0)
		request->there =
		    data >= 0xF0 ? DATA_MAX : (data - 0xC0u) * (data < 0xE0 ? 1 : BLOCK);
	request->start = START + ((ranges & 2) != 0 ? 100 : 0);
	request->ranges = ranges < 0x80 ? 1 : ranges % (RANGES_MAX + 1);
	if (request->ranges > request->there)
		request->ranges = request->there != 0;
	if (request->ranges == 0)
		request->there = 0;
	request->target = where % 4 / 2;
	request->lun = where % 2;
	if (where >= 0xC0) {
		request->path = fuzz_u8(fuzz) >> 6;
		request->target = fuzz_u8(fuzz) >> 6;
		request->lun = fuzz_u8(fuzz) >> 6;
	}
	request->disk = disk_at(request);
	request->cdb_length = lengths[request->cdb[0] >> 5];
	request->sense_room = sense < 0x80 ? STORVSP_SENSE_BYTES : sense - 0x80;
	request->packet_bytes = STORVSP_SRB_PACKET_BYTES;
	request->data_length = request->there;
	request->direction =
	    request->there == 0 ? STORVSP_NO_DATA
	    : is_write(request->cdb) || is_write_same(request->cdb) || request->cdb[0] == SCSI_UNMAP
		? STORVSP_TO_DEVICE
		: STORVSP_FROM_DEVICE;
	if ((wrong & 1) != 0)
		request->cdb_length = fuzz_u8(fuzz) % 20;
	if ((wrong & 2) != 0)
		request->direction = fuzz_u8(fuzz);
	if ((wrong & 4) != 0)
		request->packet_bytes = 16 + fuzz_below(fuzz, 15) * 8;
	if ((wrong & 8) != 0)
		request->data_length = fuzz_u16(fuzz);
}

/* The list of an UNMAP goes to the beginning of the data. */
static void
fill_data(struct fuzz *fuzz, struct request *request)
{
	uint8_t *data = request->is + request->start, lba = fuzz_u8(fuzz), blocks = fuzz_u8(fuzz);
	uint8_t header = fuzz_u8(fuzz);
	uint32_t descriptors;

	memset(request->is, GUARD, MEMORY_BYTES);
	memset(data, request->filling, request->there);
	if (request->cdb[0] != SCSI_UNMAP || request->there < SCSI_UNMAP_HEADER_BYTES)
		return;
	descriptors = (request->there - SCSI_UNMAP_HEADER_BYTES) / SCSI_UNMAP_DESCRIPTOR_BYTES;
	if (descriptors > SCSI_MAXIMUM_UNMAP_DESCRIPTORS + 1)
		descriptors = SCSI_MAXIMUM_UNMAP_DESCRIPTORS + 1;
	memset(data, 0, SCSI_UNMAP_HEADER_BYTES);
	storvsp_put_be16(data, UNMAP_BYTES(descriptors) - 2);
	storvsp_put_be16(data + 2, descriptors * SCSI_UNMAP_DESCRIPTOR_BYTES + (header >> 4));
	for (uint32_t i = 0; i < descriptors; i++) {
		uint8_t *at = data + UNMAP_BYTES(i);

		memset(at, 0, SCSI_UNMAP_DESCRIPTOR_BYTES);
		storvsp_put_be64(at, some_lba(lba) + (uint64_t)i * (header & 15));
		storvsp_put_be32(at + 8, some_blocks(blocks));
	}
}

static void
put_packet(const struct request *request, uint8_t *packet)
{
	memset(packet, 0, STORVSP_MAXIMUM_PACKET);
	storvsp_put_le32(packet, STORVSP_EXECUTE_SRB);
	packet[STORVSP_AT_PATH] = request->path;
	packet[STORVSP_AT_TARGET] = request->target;
	packet[STORVSP_AT_LUN] = request->lun;
	packet[STORVSP_AT_CDB_LENGTH] = request->cdb_length;
	packet[STORVSP_AT_SENSE_LENGTH] = request->sense_room;
	packet[STORVSP_AT_DATA_IN] = request->direction;
	storvsp_put_le32(packet + STORVSP_AT_DATA_LENGTH, request->data_length);
	memcpy(packet + STORVSP_AT_CDB, request->cdb, STORVSP_CDB_BYTES);
}

/* ---- its answer ------------------------------------------------------------------------------------- */

/* Whether it did what the CDB says. */
static bool
check_answer(const struct request *request)
{
	const uint8_t *answer = request->question.answer;
	uint8_t srb = answer[STORVSP_AT_SRB_STATUS], sense = answer[STORVSP_AT_SENSE_LENGTH];
	bool failed = storvsp_le32(answer + STORVSP_AT_STATUS) != STATUS_SUCCESS;

	/* Refused before it was looked at: nothing but a status. */
	if (request->packet_bytes < STORVSP_OLD_SRB_PACKET_BYTES || srb == 0) {
		FUZZ_CHECK(failed);
		for (uint32_t i = STORVSP_HEADER_BYTES; i < request->packet_bytes; i++)
			FUZZ_CHECK(answer[i] == 0);
		return false;
	}
	FUZZ_CHECK(failed == (srb != SRB_SUCCESS));
	FUZZ_CHECK(answer[STORVSP_AT_TARGET] == request->target &&
	           answer[STORVSP_AT_LUN] == request->lun);
	if (failed)
		FUZZ_CHECK(storvsp_le32(answer + STORVSP_AT_DATA_LENGTH) == 0);
	else
		FUZZ_CHECK(answer[STORVSP_AT_SCSI_STATUS] == SCSI_GOOD);
	/* Sense data if and only if that is said, and never more than there is room for. */
	FUZZ_CHECK(((srb & SRB_SENSE_IS_VALID) != 0) == (sense != 0));
	FUZZ_CHECK(sense <= request->sense_room && sense <= STORVSP_SENSE_BYTES);
	if (sense != 0)
		FUZZ_CHECK(srb == (SRB_ERROR | SRB_SENSE_IS_VALID) &&
		           answer[STORVSP_AT_SCSI_STATUS] == SCSI_CHECK_CONDITION &&
		           answer[STORVSP_AT_CDB] == 0x70);
	for (uint32_t i = STORVSP_AT_CDB + sense; i < request->packet_bytes; i++)
		FUZZ_CHECK(answer[i] == 0);
	/* A file that works is not at fault: what cannot be done is refused before. */
	if (!request->may_fail && request->disk != BROKEN)
		FUZZ_CHECK(srb != SRB_BUSY && (sense < 3 || answer[STORVSP_AT_CDB + 2] != 3));
	return !failed;
}

/* As far as it lies within the disk; NULL: nobody knows. */
static void
write_extent(uint32_t disk, uint64_t lba, uint64_t blocks, const uint8_t *bytes, uint32_t stride)
{
	for (uint64_t i = 0; i < blocks && lba < DISK_BLOCKS && i < DISK_BLOCKS - lba; i++)
		model_write(disk, lba + i, bytes == NULL ? NULL : bytes + i * stride);
}

static void
model_changes(const struct request *request, const uint8_t *data, bool good)
{
	static const uint8_t zeros[BLOCK];
	uint64_t lba, blocks;

	get_extent(request->cdb, &lba, &blocks);
	if (is_write(request->cdb)) {
		write_extent(request->disk, lba, blocks, good ? data : NULL, BLOCK);
	} else if (is_write_same(request->cdb)) {
		write_extent(request->disk, lba, blocks,
		             !good                       ? NULL
		             : has_no_data(request->cdb) ? zeros
		                                         : data,
		             0);
	} else if (request->cdb[0] == SCSI_UNMAP && storvsp_be16(request->cdb + 7) != 0 &&
	           request->there >= SCSI_UNMAP_HEADER_BYTES) {
		uint32_t bytes = storvsp_be16(request->cdb + 7), listed = storvsp_be16(data + 2);

		bytes = bytes < request->there ? bytes : request->there;
		listed = listed < bytes - SCSI_UNMAP_HEADER_BYTES ? listed
		                                                  : bytes - SCSI_UNMAP_HEADER_BYTES;
		for (uint32_t i = 0; i < listed / SCSI_UNMAP_DESCRIPTOR_BYTES; i++)
			write_extent(request->disk, storvsp_be64(data + UNMAP_BYTES(i)),
			             storvsp_be32(data + UNMAP_BYTES(i) + 8), good ? zeros : NULL,
			             0);
	}
}

/* Nothing but what is answered or read has changed in the memory. */
static void
check_data(const struct request *request, bool good)
{
	static uint8_t now[MEMORY_BYTES];
	uint32_t end = request->start + request->there;
	uint32_t moved = storvsp_le32(request->question.answer + STORVSP_AT_DATA_LENGTH), from;
	const uint8_t *cdb = request->cdb;
	uint64_t lba, blocks;

	copy_memory(request, now, false);
	get_extent(cdb, &lba, &blocks);
	from = request->start;
	if (good && request->direction == STORVSP_FROM_DEVICE) {
		FUZZ_CHECK(moved <= request->there && moved <= request->data_length);
		from += moved;
	}
	FUZZ_CHECK(memcmp(now, request->is, request->start) == 0);
	FUZZ_CHECK(memcmp(now + from, request->is + from, end + GUARD_BYTES - from) == 0);
	if (good && request->disk != BROKEN &&
	    (is_read(cdb) || is_write(cdb) || is_write_same(cdb) || cdb[0] == 0x2F ||
	     cdb[0] == 0x8F))
		FUZZ_CHECK(lba <= DISK_BLOCKS && blocks <= DISK_BLOCKS - lba);
	if (good && is_read(cdb)) {
		FUZZ_CHECK(moved == blocks * BLOCK);
		for (uint64_t i = 0; i < blocks; i++)
			FUZZ_CHECK(
			    model_allows(request->disk, lba + i, now + request->start + i * BLOCK));
	}
	if (good || request->may_fail)
		if (request->disk == 0 || request->disk == 2)
			model_changes(request, request->is + request->start, good);
}

void
scsi(struct fuzz *fuzz)
{
	static struct request request;
	static uint8_t is[MEMORY_BYTES];
	uint8_t packet[STORVSP_MAXIMUM_PACKET], channel = fuzz_u8(fuzz), fail = fuzz_u8(fuzz);
	bool shuffled = (channel & 0x80) != 0;
	PMDL mdl;

	memset(&request, 0, sizeof(request));
	request.is = is;
	take_apart(fuzz, &request);
	fill_data(fuzz, &request);
	put_packet(&request, packet);
	mdl = describe(&request, shuffled);
	copy_memory(&request, is, true);
	request.may_fail = fail % FAILURES != 0;
	fail_files(fail % FAILURES);
	ask(&request.question, channel & 0x7F, packet, request.packet_bytes, mdl);
	await(&request.question);
	fail_files(0);
	check_data(&request, check_answer(&request));
	for (uint32_t i = 0; i < request.ranges; i++)
		IoFreeMdl(request.mdls[i]);
}
