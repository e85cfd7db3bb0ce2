/* SPDX-License-Identifier: MIT */
/*
 * The SCSI controller at work: data of every shape, what the file's errors become, and what is not
 * let through.
 */
#include "storvsp_internal.h"
#include "storvsp_rig.h"

#include <sys/resource.h>
#include <sys/stat.h>

static void
expect_file(const uint8_t *wanted, uint64_t lba, uint32_t bytes)
{
	uint8_t *copy = malloc(bytes);

	assert_int_equal(pread(rig.fds[0], copy, bytes, (off_t)(lba * BLOCK)), bytes);
	assert_memory_equal(copy, wanted, bytes);
	free(copy);
}

static void
expect_zeros(uint64_t lba, uint32_t blocks)
{
	uint8_t *zeros = calloc(blocks, BLOCK);

	expect_file(zeros, lba, blocks * BLOCK);
	free(zeros);
}

static void
fill_file(uint32_t seed)
{
	uint8_t *bytes = malloc(DISK_BYTES);

	conf_fill(bytes, DISK_BYTES, seed);
	assert_int_equal(pwrite(rig.fds[0], bytes, DISK_BYTES, 0), DISK_BYTES);
	free(bytes);
}

static void
expect_filled_file(uint64_t lba, uint32_t blocks, uint32_t seed)
{
	uint8_t *bytes = malloc(DISK_BYTES);

	conf_fill(bytes, DISK_BYTES, seed);
	expect_file(bytes + lba * BLOCK, lba, blocks * BLOCK);
	free(bytes);
}

static void
open_with(struct conf_world *w, bool threads, bool read_only)
{
	rig_new(w, 1);
	rig.options.no_uring = threads;
	rig.disks[0].read_only = read_only;
	rig_serve();
	rig_connect();
	rig_negotiate();
}

/* ---- reads and writes ------------------------------------------------------------------------ */

static void
write_and_read_back(uint32_t form, uint64_t lba, uint32_t blocks, uint32_t offset, bool shuffled)
{
	uint32_t bytes = blocks * BLOCK;
	uint8_t *wanted = malloc(bytes), *got = malloc(bytes);
	struct pages p;

	conf_fill(wanted, bytes, blocks + form);
	pages_new(&p, offset, bytes, shuffled);
	pages_put(&p, wanted);
	/* 256 blocks are 0 in the short form. */
	expect_good(call_transfer(true, form, lba, form == 6 ? blocks & 0xFF : blocks, p.mdl), bytes);
	expect_file(wanted, lba, bytes);
	memset(p.memory, 0xAA, p.pages * PAGE_SIZE);
	expect_good(call_transfer(false, form, lba, form == 6 ? blocks & 0xFF : blocks, p.mdl), bytes);
	pages_get(&p, got);
	assert_memory_equal(got, wanted, bytes);
	/* Nothing beside it. */
	for (uint32_t i = 0; i < p.offset; i++)
		assert_int_equal(p.memory[p.order[0] * PAGE_SIZE + i], 0xAA);
	pages_free(&p);
	free(wanted);
	free(got);
}

static void
data_moves_in_every_form_size_and_shape(struct conf_world *w)
{
	static const uint32_t forms[] = { 6, 10, 12, 16 };
	static const uint32_t sizes[] = { 1, 2, 7, 8, 9, 63, 64, 200, 255, 256, 777, 1024 };
	static const uint32_t offsets[] = { 0, 8, 512, 3584, 4088 };
	uint64_t lba = 5;

	rig_open(w);
	for (size_t f = 0; f < 4; f++) {
		for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
			for (uint32_t shape = 0; shape < 10; shape++) {
				if (forms[f] == 6 && sizes[s] > 256)
					continue;
				write_and_read_back(forms[f], lba, sizes[s], offsets[shape / 2],
				                    shape % 2 != 0);
				lba = (lba + 1031) % (DISK_BLOCKS - 1024);
			}
		}
	}
	assert_int_equal(conf_stats(rig.channels[0]).bytes_bounced, 0);
	assert_int_equal(rig_stats().channel[0].refused + rig_stats().channel[0].failed, 0);
	rig_close();
}

/* A mapping for a scattered request would cost more than its data. */
static void
scattered_pages_need_no_mappings(struct conf_world *w)
{
	struct pages p;

	rig_open(w);
	pages_new(&p, 512, 1000 * BLOCK, true);
	for (uint32_t i = 0; i < 10; i++) {
		/* The first of each kind maps the guest's memory as a whole. */
		if (i == 2)
			atomic_store(&mappings, 0);
		expect_good(call_transfer(i % 2 == 0, 10, 0, 1000, p.mdl), 1000 * BLOCK);
	}
	assert_int_equal(atomic_load(&mappings), 0);
	pages_free(&p);
	rig_close();
}

/* A chain of pieces of so many bytes each, in memory that has holes between them. */
static PMDL
chain_of(uint8_t *memory, uint32_t pieces, uint32_t bytes, uint32_t stride)
{
	PMDL chain = NULL;

	for (uint32_t i = pieces; i-- != 0;) {
		PMDL mdl = conf_mdl(memory + i * stride, bytes);

		mdl->Next = chain;
		chain = mdl;
	}
	return chain;
}

static void
data_may_be_in_many_ranges(struct conf_world *w)
{
	static const struct {
		uint32_t pieces, bytes, stride, blocks;
		bool good;
	} rows[] = {
		{ 128, 4096, 8192, 1024, true },   /* a page each */
		{ 128, 4096, 4104, 1024, true },   /* a page's worth each, across two */
		{ 129, 512, 520, 129, true },      /* as many as there may be */
		{ 64, 8, 16, 1, true },            /* crumbs */
		{ 3, 40000, 49152, 200, true },    /* more than is wanted */
		{ 130, 512, 512, 130, false },     /* one too many */
		{ 2, 262144 + 8, 262208, 1, false }, /* too many bytes, even if few are wanted */
	};
	uint8_t *memory = conf_pool(2 * MIB, 9), *wanted = malloc(MIB);

	rig_open(w);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint32_t bytes = rows[i].blocks * BLOCK, done = 0;
		PMDL chain = chain_of(memory, rows[i].pieces, rows[i].bytes, rows[i].stride);
		struct call call = call_transfer(true, 10, i * 2048, rows[i].blocks, chain);

		if (!rows[i].good) {
			call_run(&call);
			assert_int_equal(call.srb, SRB_INVALID_REQUEST);
			conf_mdl_free(chain);
			continue;
		}
		for (uint32_t j = 0; j < rows[i].pieces && done < bytes; j++) {
			uint32_t here = min(rows[i].bytes, bytes - done);

			memcpy(wanted + done, memory + j * rows[i].stride, here);
			done += here;
		}
		expect_good(call, bytes);
		expect_file(wanted, i * 2048, bytes);
		expect_zeros(i * 2048 + rows[i].blocks, 64);
		conf_mdl_free(chain);
	}
	free(wanted);
	conf_pool_free(memory);
	rig_close();
}

static void
nothing_of_no_blocks_is_moved(struct conf_world *w)
{
	uint8_t *memory = conf_pool(BLOCK, 9);
	PMDL mdl = conf_mdl(memory, BLOCK);

	rig_open(w);
	expect_good(call_transfer(true, 10, 0, 0, NULL), 0);
	expect_good(call_transfer(false, 16, DISK_BLOCKS, 0, NULL), 0);
	expect_good(call_transfer(true, 12, 7, 0, mdl), 0);
	expect_zeros(0, 64);
	conf_mdl_free(mdl);
	conf_pool_free(memory);
	rig_close();
}

/* A buffer that is not the command's. */
static void
length_and_direction_are_the_commands(struct conf_world *w)
{
	uint8_t *memory = conf_pool(64 * KIB, 9), before[BLOCK];
	PMDL mdl = conf_mdl(memory, 8 * BLOCK);
	static const struct {
		bool is_write;
		uint8_t direction;
		uint32_t blocks, length;
		bool data, good;
	} rows[] = {
		{ true, STORVSP_TO_DEVICE, 8, 8 * BLOCK, true, true },
		{ false, STORVSP_FROM_DEVICE, 8, 8 * BLOCK, true, true },
		{ true, STORVSP_FROM_DEVICE, 8, 8 * BLOCK, true, false },
		{ false, STORVSP_TO_DEVICE, 8, 8 * BLOCK, true, false },
		{ true, STORVSP_NO_DATA, 8, 8 * BLOCK, true, false },
		{ false, STORVSP_NO_DATA, 8, 8 * BLOCK, true, false },
		{ false, 255, 8, 8 * BLOCK, true, false },
		/* The command wants more than there is. */
		{ true, STORVSP_TO_DEVICE, 9, 8 * BLOCK, true, false },
		{ false, STORVSP_FROM_DEVICE, 8, 8 * BLOCK - 1, true, false },
		{ false, STORVSP_FROM_DEVICE, 8, 0, true, false },
		/* The request says more than its ranges have. */
		{ false, STORVSP_FROM_DEVICE, 8, 8 * BLOCK + 1, true, false },
		{ true, STORVSP_TO_DEVICE, 1, 0xFFFFFFFF, true, false },
		/* There is none. */
		{ false, STORVSP_FROM_DEVICE, 8, 8 * BLOCK, false, false },
		/* More than is wanted: the rest is left over. */
		{ true, STORVSP_TO_DEVICE, 7, 8 * BLOCK, true, true },
		{ false, STORVSP_FROM_DEVICE, 1, 7 * BLOCK, true, true },
	};

	rig_open(w);
	fill_file(4);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct call call = call_transfer(rows[i].is_write, 10, 100, rows[i].blocks,
		                                 rows[i].data ? mdl : NULL);

		memcpy(before, memory + 7 * BLOCK, BLOCK);
		call.direction = rows[i].direction;
		call.data_length = rows[i].length;
		if (rows[i].good) {
			expect_good(call, rows[i].blocks * BLOCK);
		} else {
			call_run(&call);
			assert_int_equal(call.srb, SRB_INVALID_REQUEST);
			assert_status(call.status, STATUS_INVALID_PARAMETER);
		}
		if (!rows[i].is_write && rows[i].blocks < 8)
			assert_memory_equal(memory + 7 * BLOCK, before, BLOCK);
		expect_filled_file(108, 100, 4);
	}
	conf_mdl_free(mdl);
	conf_pool_free(memory);
	rig_close();
}

static void
ranges_beyond_the_end_are_refused(struct conf_world *w)
{
	static const struct {
		uint8_t operation;
		uint64_t lba;
		uint32_t blocks, sense;
	} rows[] = {
		{ 0x28, DISK_BLOCKS, 1, SENSE_LBA_OUT_OF_RANGE },
		{ 0x28, DISK_BLOCKS - 1, 2, SENSE_LBA_OUT_OF_RANGE },
		{ 0x2A, DISK_BLOCKS - 1, 2, SENSE_LBA_OUT_OF_RANGE },
		{ 0x28, 0xFFFFFFFF, 8, SENSE_LBA_OUT_OF_RANGE },
		{ 0xA8, 0xFFFFFFFF, 0xFFFFFFFF, SENSE_LBA_OUT_OF_RANGE },
		{ 0x88, 0xFFFFFFFFFFFFFFFF, 1, SENSE_LBA_OUT_OF_RANGE },
		{ 0x88, 0x8000000000000000, 8, SENSE_LBA_OUT_OF_RANGE },
		{ 0x8A, 0x0080000000000000, 8, SENSE_LBA_OUT_OF_RANGE },
		{ 0x8A, DISK_BLOCKS + 1, 0, SENSE_LBA_OUT_OF_RANGE },
		{ 0x08, DISK_BLOCKS - 255, 0, SENSE_LBA_OUT_OF_RANGE },
		/* In range, but more than one request may. */
		{ 0x28, 0, 1025, SENSE_FIELD_IN_CDB },
		{ 0xAA, 0, DISK_BLOCKS, SENSE_FIELD_IN_CDB },
		{ 0x35, DISK_BLOCKS, 1, SENSE_LBA_OUT_OF_RANGE },
		{ 0x91, 1, DISK_BLOCKS, SENSE_LBA_OUT_OF_RANGE },
		{ 0x2F, DISK_BLOCKS - 1, 2, SENSE_LBA_OUT_OF_RANGE },
		{ 0x8F, 0xFFFFFFFFFFFFFFF0, 0xFFFFFFFF, SENSE_LBA_OUT_OF_RANGE },
		{ 0x41, DISK_BLOCKS - 1, 2, SENSE_LBA_OUT_OF_RANGE },
		{ 0x93, 1, DISK_BLOCKS, SENSE_LBA_OUT_OF_RANGE },
		{ 0x93, 0, 0, SENSE_FIELD_IN_CDB },
		{ 0x41, 0, 0, SENSE_FIELD_IN_CDB },
		{ 0x93, 0, SCSI_MAXIMUM_WRITE_SAME_BLOCKS + 1, SENSE_FIELD_IN_CDB },
	};
	uint8_t *memory = conf_pool(MIB / 2, 9);
	PMDL mdl = conf_mdl(memory, MIB / 2);

	rig_open(w);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		expect_sense(call_range(rows[i].operation, 0, rows[i].lba, rows[i].blocks,
		                        STORVSP_TO_DEVICE, mdl),
		             rows[i].sense);
	/* Protection information. */
	expect_sense(call_range(0x28, 0x20, 0, 1, STORVSP_FROM_DEVICE, mdl), SENSE_FIELD_IN_CDB);
	expect_sense(call_range(0x8A, 0xE0, 0, 1, STORVSP_TO_DEVICE, mdl), SENSE_FIELD_IN_CDB);
	assert_int_equal(rig_stats().channel[0].refused, sizeof(rows) / sizeof(rows[0]) + 2);
	assert_int_equal(rig_stats().channel[0].writes, 0);
	conf_mdl_free(mdl);
	conf_pool_free(memory);
	rig_close();
}

static void
pages_that_are_not_the_guests_are_refused(struct conf_world *w)
{
	struct pages p;
	PFN_NUMBER pages[2];
	struct call call;
	uint8_t packet[STORVSP_MAXIMUM_PACKET];
	struct conf_send *s;

	rig_open(w);
	pages_new(&p, 0, 2 * PAGE_SIZE, false);
	s = conf_send_new(rig.channels[0]);
	for (uint32_t is_write = 0; is_write < 2; is_write++) {
		pages[0] = MmGetMdlPfnArray(p.mdl)[0];
		pages[1] = 0x7FFFFFFFFFF;
		call = call_transfer(is_write != 0, 10, 0, 16, p.mdl);
		call_put(&call, packet);
		assert_status(VmbPacketSendWithExternalPfns(s->packet, packet, 64, pages, 2, CONF_WAIT),
		              STATUS_SUCCESS);
		conf_await_done(s, is_write + 1);
		call_take(&call, s->answer, s->answer_bytes);
		assert_int_equal(call.srb, SRB_INVALID_REQUEST);
	}
	conf_send_free(s);
	expect_zeros(0, 16);
	expect_good(call_transfer(false, 10, 0, 16, p.mdl), 16 * BLOCK);
	pages_free(&p);
	rig_close();
}

static void
memory_that_comes_later_is_waited_for(struct conf_world *w)
{
	struct pages p;

	rig_open(w);
	pages_new(&p, 0, 8 * BLOCK, false);
	kmcl_channel_force_pending(rig.storvsp->channels[0].handle, 3);
	for (uint32_t i = 0; i < 4; i++)
		expect_good(call_transfer(i % 2 == 0, 10, 0, 8, p.mdl), 8 * BLOCK);
	expect_file(p.memory, 0, 8 * BLOCK);
	assert_int_equal(rig_stats().channel[0].reads, 2);
	/* Each is one request, however often it was delivered. */
	assert_int_equal(rig_stats().channel[0].requests, 5 + 4);
	pages_free(&p);
	rig_close();
}

/* ---- the medium ------------------------------------------------------------------------------ */

static void
fua_and_flushes_reach_the_medium(struct conf_world *w)
{
	struct pages p;

	open_with(w, true, false);
	pages_new(&p, 0, 8 * BLOCK, true);
	expect_good(call_transfer(true, 10, 0, 8, p.mdl), 8 * BLOCK);
	expect_good(call_transfer(false, 10, 0, 8, p.mdl), 8 * BLOCK);
	/* In the short form the same bit is of the address. */
	expect_good(call_transfer(true, 6, 0x080000 % DISK_BLOCKS, 8, p.mdl), 8 * BLOCK);
	assert_int_equal(atomic_load(&durable_writes) + atomic_load(&syncs), 0);
	for (uint32_t i = 0; i < 3; i++) {
		static const uint8_t writes[3] = { 0x2A, 0xAA, 0x8A };

		expect_good(call_range(writes[i], 0x08, 8, 8, STORVSP_TO_DEVICE, p.mdl), 8 * BLOCK);
		assert_int_equal(atomic_load(&durable_writes), i + 1);
		assert_int_equal(atomic_load(&syncs), i);
		expect_good(call_range(writes[i] - 2, 0x08, 8, 8, STORVSP_FROM_DEVICE, p.mdl), 8 * BLOCK);
		assert_int_equal(atomic_load(&syncs), i + 1);
	}
	expect_good(call_range(0x35, 0, 0, 0, 0, NULL), 0);
	expect_good(call_range(0x35, 2, 0, 100, 0, NULL), 0);
	expect_good(call_range(0x91, 0, 0, 0, 0, NULL), 0);
	assert_int_equal(atomic_load(&syncs), 6);
	assert_int_equal(rig_stats().channel[0].flushes, 3);
	pages_free(&p);
	rig_close();
}

static void
fua_works_with_uring_too(struct conf_world *w)
{
	struct pages p;
	uint8_t bytes[4 * BLOCK];

	rig_open(w);
	if (strcmp(storvsp_engine(rig.storvsp), "io_uring") != 0)
		skip();
	pages_new(&p, 100, sizeof(bytes), true);
	conf_fill(bytes, sizeof(bytes), 77);
	pages_put(&p, bytes);
	expect_good(call_range(0x8A, 0x08, 3, 4, STORVSP_TO_DEVICE, p.mdl), sizeof(bytes));
	expect_file(bytes, 3, sizeof(bytes));
	expect_good(call_range(0x88, 0x08, 3, 4, STORVSP_FROM_DEVICE, p.mdl), sizeof(bytes));
	pages_free(&p);
	rig_close();
}

static void
verify_reads_the_medium(struct conf_world *w)
{
	open_with(w, true, false);
	expect_good(call_range(0x2F, 0, 0, 0xFFFF % DISK_BLOCKS, 0, NULL), 0);
	expect_good(call_range(0x8F, 0x10, 0, DISK_BLOCKS, 0, NULL), 0);
	expect_good(call_range(0x8F, 0, 3, 0, 0, NULL), 0);
	expect_sense(call_range(0x2F, 0x02, 0, 8, 0, NULL), SENSE_FIELD_IN_CDB);
	atomic_store(&fail_reads, EIO);
	expect_good(call_range(0x8F, 0, 3, 0, 0, NULL), 0);
	expect_sense(call_range(0x2F, 0, 7, 1, 0, NULL), SENSE_READ_FAULT);
	atomic_store(&fail_reads, 0);
	rig_close();
}

/* ---- holes and zeros ------------------------------------------------------------------------- */

/* An UNMAP of these extents, and a list that says so much of itself. */
static struct call
unmap_call(uint8_t *memory, PMDL mdl, const uint64_t (*extents)[2], uint32_t count, uint32_t says,
           uint32_t list_bytes)
{
	uint8_t cdb[16] = { SCSI_UNMAP };

	memset(memory, 0, 8 + 16 * count);
	storvsp_put_be16(memory, says + 6);
	storvsp_put_be16(memory + 2, says);
	for (uint32_t i = 0; i < count; i++) {
		storvsp_put_be64(memory + 8 + 16 * i, extents[i][0]);
		storvsp_put_be32(memory + 16 + 16 * i, (UINT32)extents[i][1]);
	}
	storvsp_put_be16(cdb + 7, list_bytes);
	return call_of(cdb, STORVSP_TO_DEVICE, mdl);
}

static const uint64_t some[3][2] = { { 8, 16 }, { 1001, 1 }, { 4096, 8192 } };

static void
expect_unmapped(void)
{
	expect_filled_file(0, 8, 6);
	expect_zeros(8, 16);
	expect_filled_file(24, 1001 - 24, 6);
	expect_zeros(1001, 1);
	expect_filled_file(1002, 4096 - 1002, 6);
	expect_zeros(4096, 8192);
	expect_filled_file(12288, DISK_BLOCKS - 12288, 6);
}

static void
run_unmap(struct conf_world *w, bool threads)
{
	uint8_t *memory = conf_pool(4096, 1);
	PMDL mdl = conf_mdl(memory, 4096);
	struct stat before, after;

	open_with(w, threads, false);
	fill_file(6);
	assert_int_equal(fsync(rig.fds[0]), 0);
	assert_int_equal(fstat(rig.fds[0], &before), 0);
	expect_good(unmap_call(memory, mdl, some, 3, 48, 56), 56);
	expect_unmapped();
	assert_int_equal(fstat(rig.fds[0], &after), 0);
	/* Space is given back, and the size stays. */
	assert_true(after.st_blocks <= before.st_blocks - 8192);
	assert_int_equal(after.st_size, DISK_BYTES);
	assert_int_equal(rig_stats().channel[0].unmaps, 1);
	conf_mdl_free(mdl);
	conf_pool_free(memory);
	rig_close();
}

static void
unmapped_blocks_are_holes(struct conf_world *w)
{
	run_unmap(w, false);
}

static void
so_they_are_with_threads(struct conf_world *w)
{
	run_unmap(w, true);
}

static void
file_system_without_holes_gets_zeros(struct conf_world *w)
{
	uint8_t *memory = conf_pool(4096, 1);
	PMDL mdl = conf_mdl(memory, 4096);
	static const uint8_t same[16] = { SCSI_WRITE_SAME_16, 0x01, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0x13, 0x88 };

	open_with(w, true, false);
	fill_file(6);
	atomic_store(&fail_holes, EOPNOTSUPP);
	expect_good(unmap_call(memory, mdl, some, 3, 48, 56), 56);
	/* Both were tried once, and then no more. */
	assert_int_equal(atomic_load(&holes), 1);
	assert_int_equal(atomic_load(&zeroed), 1);
	expect_unmapped();
	fill_file(6);
	expect_good(call_of(same, 0, NULL), 0);
	expect_filled_file(0, 9, 6);
	expect_zeros(9, 5000);
	expect_filled_file(5009, 1000, 6);
	/* Another error is one. */
	atomic_store(&fail_holes, EIO);
	expect_sense(unmap_call(memory, mdl, some, 3, 48, 56), SENSE_WRITE_FAULT);
	expect_sense(call_of(same, 0, NULL), SENSE_WRITE_FAULT);
	atomic_store(&fail_holes, ENOSPC);
	expect_sense(call_of(same, 0, NULL), SENSE_SPACE_ALLOCATION);
	atomic_store(&fail_holes, 0);
	conf_mdl_free(mdl);
	conf_pool_free(memory);
	rig_close();
}

static void
unmap_lists_are_checked(struct conf_world *w)
{
	static const uint64_t none[1][2] = { { 0, 0 } }, end[1][2] = { { DISK_BLOCKS, 0 } };
	static const uint64_t beyond[2][2] = { { 0, 8 }, { DISK_BLOCKS - 1, 2 } };
	static const uint64_t wraps[1][2] = { { 0xFFFFFFFFFFFFFFFF, 2 } };
	uint64_t many[65][2] = { { 0 } };
	const struct scsi_unit large = { .blocks = 1ull << 40 };
	uint8_t *memory = conf_pool(8192, 1);
	PMDL mdl = conf_mdl(memory, 8192);
	struct call call;
	uint32_t count;

	rig_open(w);
	fill_file(6);
	expect_good(unmap_call(memory, mdl, none, 1, 16, 24), 24);
	expect_good(unmap_call(memory, mdl, end, 1, 16, 24), 24);
	/* A list that is empty, that says that it is, that says more than was sent, or less. */
	expect_good(unmap_call(memory, mdl, some, 3, 48, 0), 0);
	expect_good(unmap_call(memory, mdl, some, 3, 0, 56), 56);
	expect_good(unmap_call(memory, mdl, some, 3, 0xFFF0, 8), 8);
	expect_good(unmap_call(memory, mdl, some, 3, 15, 56), 56);
	expect_filled_file(0, DISK_BLOCKS, 6);
	expect_sense(unmap_call(memory, mdl, some, 3, 48, 7), SENSE_PARAMETER_LIST_LENGTH);
	expect_sense(unmap_call(memory, mdl, some, 3, 48, 4097), SENSE_PARAMETER_LIST_LENGTH);
	/* One that is wrong keeps all of them from being done. */
	expect_sense(unmap_call(memory, mdl, beyond, 2, 32, 40), SENSE_LBA_OUT_OF_RANGE);
	expect_sense(unmap_call(memory, mdl, wraps, 1, 16, 24), SENSE_LBA_OUT_OF_RANGE);
	expect_good(unmap_call(memory, mdl, many, 64, 64 * 16, 8 + 64 * 16), 8 + 64 * 16);
	expect_sense(unmap_call(memory, mdl, many, 65, 65 * 16, 8 + 65 * 16),
	             SENSE_FIELD_IN_PARAMETERS);
	/* The blocks of all of them together are bounded. */
	for (uint32_t i = 0; i < 64; i++)
		many[i][1] = SCSI_MAXIMUM_UNMAP_BLOCKS / 64;
	many[63][1]++;
	(void)unmap_call(memory, mdl, many, 63, 63 * 16, 8 + 63 * 16);
	assert_int_equal(scsi_check_unmap(&large, memory, 8 + 63 * 16, &count), SENSE_NONE);
	assert_int_equal(count, 63);
	(void)unmap_call(memory, mdl, many, 64, 64 * 16, 8 + 64 * 16);
	assert_int_equal(scsi_check_unmap(&large, memory, 8 + 64 * 16, &count),
	                 SENSE_FIELD_IN_PARAMETERS);
	call = unmap_call(memory, mdl, some, 3, 48, 56);
	call.cdb[1] = 1;
	expect_sense(call, SENSE_FIELD_IN_CDB);
	/* Less data than the list. */
	call.cdb[1] = 0;
	call.data_length = 55;
	call_run(&call);
	assert_int_equal(call.srb, SRB_INVALID_REQUEST);
	expect_filled_file(0, DISK_BLOCKS, 6);
	conf_mdl_free(mdl);
	conf_pool_free(memory);
	rig_close();
}

static void
same_block_is_written_many_times(struct conf_world *w)
{
	static const struct {
		uint8_t operation, flags;
		uint32_t lba, blocks;
		bool zeros, data;
	} rows[] = {
		{ 0x41, 0x00, 3, 1, false, true },        { 0x41, 0x00, 9, 9, false, true },
		{ 0x93, 0x00, 5, 5000, false, true },     { 0x93, 0x08, 5, 3, false, true },
		{ 0x41, 0x00, 3, 2000, true, true },      { 0x93, 0x00, 100, 20000, true, true },
		{ 0x93, 0x08, 100, 20000, true, true },   { 0x41, 0x08, 101, 7, true, true },
		{ 0x93, 0x01, 11, 3000, true, false },    { 0x93, 0x09, 11, 3000, true, false },
	};
	uint8_t *memory = conf_pool(BLOCK, 0), *wanted = malloc(DISK_BYTES);
	PMDL mdl = conf_mdl(memory, BLOCK);

	for (uint32_t threads = 0; threads < 2; threads++) {
		open_with(w, threads != 0, false);
		for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
			uint64_t unmaps = rig_stats().channel[0].unmaps;

			fill_file(6);
			conf_fill(wanted, DISK_BYTES, 6);
			conf_fill(memory, BLOCK, (uint32_t)i);
			if (rows[i].zeros)
				memset(memory, 0, BLOCK);
			for (uint32_t j = 0; j < rows[i].blocks; j++)
				memcpy(wanted + (rows[i].lba + j) * BLOCK, memory, BLOCK);
			expect_good(call_range(rows[i].operation, rows[i].flags, rows[i].lba,
			                       rows[i].blocks, STORVSP_TO_DEVICE,
			                       rows[i].data ? mdl : NULL),
			            rows[i].data ? BLOCK : 0);
			expect_file(wanted, 0, DISK_BYTES);
			assert_int_equal(rig_stats().channel[0].unmaps - unmaps,
			                 (rows[i].flags & 0x08) != 0);
		}
		/* ANCHOR; obsolete bits; no data in the form that has no such bit. */
		expect_sense(call_range(0x93, 0x10, 0, 1, STORVSP_TO_DEVICE, mdl), SENSE_FIELD_IN_CDB);
		expect_sense(call_range(0x41, 0x04, 0, 1, STORVSP_TO_DEVICE, mdl), SENSE_FIELD_IN_CDB);
		expect_sense(call_range(0x41, 0x01, 0, 1, STORVSP_TO_DEVICE, mdl), SENSE_FIELD_IN_CDB);
		rig_close();
	}
	free(wanted);
	conf_mdl_free(mdl);
	conf_pool_free(memory);
}

/* ---- errors ---------------------------------------------------------------------------------- */

static void
errors_of_the_file_become_sense(struct conf_world *w)
{
	static const struct {
		int error;
		uint32_t read, write, sync;
	} rows[] = {
		{ EIO, SENSE_READ_FAULT, SENSE_WRITE_FAULT, SENSE_WRITE_FAULT },
		{ ENOSPC, SENSE_SPACE_ALLOCATION, SENSE_SPACE_ALLOCATION, SENSE_SPACE_ALLOCATION },
		{ EDQUOT, SENSE_SPACE_ALLOCATION, SENSE_SPACE_ALLOCATION, SENSE_SPACE_ALLOCATION },
		{ EPERM, SENSE_READ_FAULT, SENSE_WRITE_PROTECTED, SENSE_WRITE_PROTECTED },
		{ EINVAL, SENSE_READ_FAULT, SENSE_WRITE_FAULT, SENSE_WRITE_FAULT },
		{ EOPNOTSUPP, SENSE_READ_FAULT, SENSE_WRITE_FAULT, SENSE_WRITE_FAULT },
	};
	struct pages p;
	struct call call;
	uint64_t failed = 0;

	open_with(w, true, false);
	assert_string_equal(storvsp_engine(rig.storvsp), "threads");
	pages_new(&p, 0, 8 * BLOCK, false);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		atomic_store(&fail_reads, rows[i].error);
		atomic_store(&fail_writes, rows[i].error);
		atomic_store(&fail_syncs, rows[i].error);
		expect_sense(call_transfer(false, 10, 0, 8, p.mdl), rows[i].read);
		expect_sense(call_transfer(true, 10, 0, 8, p.mdl), rows[i].write);
		expect_sense(call_range(0x2A, 0x08, 0, 8, STORVSP_TO_DEVICE, p.mdl), rows[i].write);
		expect_sense(call_range(0x35, 0, 0, 0, 0, NULL), rows[i].sync);
		/* The flush before a read of the medium. */
		expect_sense(call_range(0x28, 0x08, 0, 8, STORVSP_FROM_DEVICE, p.mdl), rows[i].sync);
		/* A block again and again, of which the first write fails. */
		expect_sense(call_range(0x93, 0, 0, 100, STORVSP_TO_DEVICE, p.mdl), rows[i].write);
		failed += rows[i].error == EPERM ? 1 : 6;
	}
	assert_int_equal(rig_stats().channel[0].failed, failed);
	/* Something that passes is not the medium's fault. */
	atomic_store(&fail_writes, ENOMEM);
	call = call_transfer(true, 10, 0, 8, p.mdl);
	call_run(&call);
	assert_int_equal(call.srb, SRB_BUSY);
	assert_int_equal(call.scsi, SCSI_BUSY);
	assert_status(call.status, STATUS_DEVICE_BUSY);
	atomic_store(&fail_reads, 0);
	atomic_store(&fail_writes, 0);
	atomic_store(&fail_syncs, 0);
	expect_good(call_transfer(true, 10, 0, 8, p.mdl), 8 * BLOCK);
	pages_free(&p);
	rig_close();
}

static void
full_and_short_files_are_told_with_uring(struct conf_world *w)
{
	struct rlimit old, limit;
	struct pages p;

	rig_open(w);
	pages_new(&p, 0, 8 * BLOCK, false);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = old;
	limit.rlim_cur = MIB;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	expect_sense(call_transfer(true, 10, 4096, 8, p.mdl), SENSE_SPACE_ALLOCATION);
	expect_sense(call_transfer(true, 10, 2044, 8, p.mdl), SENSE_SPACE_ALLOCATION);
	expect_good(call_transfer(true, 10, 2040, 8, p.mdl), 8 * BLOCK);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	expect_good(call_transfer(true, 10, 4096, 8, p.mdl), 8 * BLOCK);
	assert_int_equal(ftruncate(rig.fds[0], MIB), 0);
	expect_sense(call_transfer(false, 10, 4096, 8, p.mdl), SENSE_READ_FAULT);
	expect_good(call_transfer(false, 10, 0, 8, p.mdl), 8 * BLOCK);
	assert_int_equal(rig_stats().channel[0].failed, 3);
	pages_free(&p);
	rig_close();
}

static void
read_only_disk_is_not_written(struct conf_world *w)
{
	uint8_t *memory = conf_pool(4096, 1);
	PMDL mdl = conf_mdl(memory, 4096);

	open_with(w, false, true);
	fill_file(6);
	for (uint32_t form = 10; form <= 16; form += form == 10 ? 2 : 4)
		expect_sense(call_transfer(true, form, 0, 8, mdl), SENSE_WRITE_PROTECTED);
	expect_sense(call_transfer(true, 6, 0, 8, mdl), SENSE_WRITE_PROTECTED);
	expect_sense(call_range(0x93, 0, 0, 8, STORVSP_TO_DEVICE, mdl), SENSE_WRITE_PROTECTED);
	expect_sense(call_range(0x41, 8, 0, 8, STORVSP_TO_DEVICE, mdl), SENSE_WRITE_PROTECTED);
	expect_sense(unmap_call(memory, mdl, some, 3, 48, 56), SENSE_WRITE_PROTECTED);
	expect_good(call_transfer(false, 10, 0, 8, mdl), 4096);
	expect_good(call_range(0x35, 0, 0, 0, 0, NULL), 0);
	/* It says so, and no word of unmapping. */
	expect_good(call_six(SCSI_MODE_SENSE_6, 0, 0x3F, 0, 192, mdl), 44);
	assert_int_equal(memory[2], 0x90);
	expect_good(call_six(SCSI_INQUIRY, 1, 0xB2, 0, 64, mdl), 8);
	assert_int_equal(memory[5], 0);
	expect_filled_file(0, DISK_BLOCKS, 6);
	conf_mdl_free(mdl);
	conf_pool_free(memory);
	rig_close();
}

#define TEST(body) CONF_TEST(body, NULL, CONF_BUSES)

static const struct conf_test tests[] = {
	TEST(data_moves_in_every_form_size_and_shape),
	TEST(scattered_pages_need_no_mappings),
	TEST(data_may_be_in_many_ranges),
	TEST(nothing_of_no_blocks_is_moved),
	TEST(length_and_direction_are_the_commands),
	TEST(ranges_beyond_the_end_are_refused),
	TEST(pages_that_are_not_the_guests_are_refused),
	TEST(memory_that_comes_later_is_waited_for),
	TEST(fua_and_flushes_reach_the_medium),
	TEST(fua_works_with_uring_too),
	TEST(verify_reads_the_medium),
	TEST(unmapped_blocks_are_holes),
	TEST(so_they_are_with_threads),
	TEST(file_system_without_holes_gets_zeros),
	TEST(unmap_lists_are_checked),
	TEST(same_block_is_written_many_times),
	TEST(errors_of_the_file_become_sense),
	TEST(full_and_short_files_are_told_with_uring),
	TEST(read_only_disk_is_not_written),
};

int
main(void)
{
	(void)signal(SIGXFSZ, SIG_IGN);
	return CONF_RUN("storvsp_io", tests);
}
