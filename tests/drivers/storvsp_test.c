/* SPDX-License-Identifier: MIT */
/*
 * The SCSI controller: how guests get to know it, and what it says to every command, byte for byte.
 */
#include "storvsp_rig.h"

/* ---- the negotiation ------------------------------------------------------------------------- */

static void
newest_version_that_both_know_is_agreed(struct conf_world *w)
{
	static const struct {
		uint32_t version;
		NTSTATUS status;
	} rows[] = {
		{ 0x0602, STATUS_REVISION_MISMATCH }, { 0x0700, STATUS_REVISION_MISMATCH },
		{ 0xFFFF, STATUS_REVISION_MISMATCH }, { 0x0000, STATUS_REVISION_MISMATCH },
		{ 0x0100, STATUS_REVISION_MISMATCH }, { 0x0500, STATUS_REVISION_MISMATCH },
		{ 0x0200, STATUS_SUCCESS },           { 0x0402, STATUS_SUCCESS },
		{ 0x0501, STATUS_SUCCESS },           { 0x0600, STATUS_SUCCESS },
	};

	rig_new(w, 1);
	rig_serve();
	rig_connect();
	assert_int_equal(rig_stats().version, 0);
	assert_status(rig_say(0, STORVSP_BEGIN_INITIALIZATION, 0, 64, NULL), STATUS_SUCCESS);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_status(rig_say(0, STORVSP_QUERY_PROTOCOL_VERSION, rows[i].version, 64, NULL),
		              rows[i].status);
	assert_int_equal(rig_stats().version, 0x0600);
	rig_close();
}

static void
properties_are_told_by_version(struct conf_world *w)
{
	static const struct {
		uint32_t version, subchannels;
	} rows[] = { { 0x0200, 0 }, { 0x0402, 0 }, { 0x0501, 3 }, { 0x0600, 3 } };
	uint8_t answer[64], wanted[64];

	rig_new(w, 1);
	rig.options.max_subchannels = 3;
	rig_serve();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		rig_connect();
		assert_status(rig_say(0, STORVSP_BEGIN_INITIALIZATION, 0, 64, NULL), STATUS_SUCCESS);
		assert_status(rig_say(0, STORVSP_QUERY_PROTOCOL_VERSION, rows[i].version, 64, NULL),
		              STATUS_SUCCESS);
		assert_status(rig_say(0, STORVSP_QUERY_PROPERTIES, 0, 64, answer), STATUS_SUCCESS);
		memset(wanted, 0, sizeof(wanted));
		wanted[0] = STORVSP_COMPLETE_IO;
		wanted[16] = (uint8_t)rows[i].subchannels;
		wanted[20] = rows[i].subchannels != 0;
		wanted[26] = 0x08; /* 512 KiB */
		assert_memory_equal(answer, wanted, sizeof(wanted));
		rig_disconnect();
	}
	rig_close();
}

static void
steps_in_another_order_are_refused(struct conf_world *w)
{
	static const uint32_t all[] = { STORVSP_BEGIN_INITIALIZATION, STORVSP_QUERY_PROTOCOL_VERSION,
		                        STORVSP_QUERY_PROPERTIES, STORVSP_END_INITIALIZATION,
		                        STORVSP_CREATE_SUB_CHANNELS };
	/* After so many steps in order, bit i: all[i] may come. */
	static const uint32_t allowed[] = { 0x01, 0x02, 0x06, 0x1C, 0x10 };

	rig_new(w, 1);
	rig.options.max_subchannels = 3;
	rig_serve();
	for (uint32_t steps = 0; steps <= 4; steps++) {
		for (uint32_t i = 0; i < 5; i++) {
			bool may = (allowed[steps] >> i & 1) != 0;

			rig_connect();
			for (uint32_t j = 0; j < steps; j++)
				assert_status(rig_say(0, all[j], 0x0600, 64, NULL), STATUS_SUCCESS);
			assert_status(rig_say(0, all[i], all[i] == STORVSP_CREATE_SUB_CHANNELS ? 1 : 0x0600,
			                      64, NULL),
			              may ? STATUS_SUCCESS : STATUS_INVALID_DEVICE_STATE);
			rig_disconnect();
		}
		/* SCSI requests wait for the end. */
		if (steps < 4) {
			struct call call = call_six(SCSI_TEST_UNIT_READY, 0, 0, 0, 0, NULL);
			uint8_t packet[STORVSP_MAXIMUM_PACKET], answer[64];
			UINT32 size = sizeof(answer);

			rig_connect();
			for (uint32_t j = 0; j < steps; j++)
				assert_status(rig_say(0, all[j], 0x0600, 64, NULL), STATUS_SUCCESS);
			call_put(&call, packet);
			assert_status(VmbChannelSendSynchronousRequest(rig.channels[0]->handle, packet, 64,
			                                               NULL, CONF_WAIT, answer, &size, NULL),
			              STATUS_SUCCESS);
			assert_status(storvsp_le32(answer + STORVSP_AT_STATUS),
			              STATUS_INVALID_DEVICE_STATE);
			rig_disconnect();
		}
	}
	rig_close();
}

static void
subchannels_are_offered_as_asked(struct conf_world *w)
{
	rig_new(w, 1);
	rig.options.max_subchannels = 3;
	rig_serve();
	for (uint32_t count = 0; count <= 3; count++) {
		rig_connect();
		rig_negotiate();
		assert_status(rig_say(0, STORVSP_CREATE_SUB_CHANNELS, 4, 64, NULL),
		              STATUS_INVALID_PARAMETER);
		assert_status(rig_say(0, STORVSP_CREATE_SUB_CHANNELS, 0xFFFF, 64, NULL),
		              STATUS_INVALID_PARAMETER);
		rig_subchannels(count);
		assert_int_equal(rig_stats().subchannels, count);
		if (count != 0)
			assert_status(rig_say(0, STORVSP_CREATE_SUB_CHANNELS, 1, 64, NULL),
			              STATUS_INVALID_DEVICE_STATE);
		for (uint32_t i = 0; i <= count; i++) {
			struct call call = call_six(SCSI_TEST_UNIT_READY, 0, 0, 0, 0, NULL);

			call.channel = i;
			expect_good(call, 0);
		}
		/* Only the primary negotiates. */
		if (count != 0) {
			assert_status(rig_say(1, STORVSP_BEGIN_INITIALIZATION, 0, 64, NULL),
			              STATUS_INVALID_DEVICE_STATE);
			assert_status(rig_say(1, STORVSP_CREATE_SUB_CHANNELS, 1, 64, NULL),
			              STATUS_INVALID_DEVICE_STATE);
			assert_status(rig_say(1, STORVSP_RESET_BUS, 0, 64, NULL), STATUS_SUCCESS);
		}
		rig_disconnect();
	}
	rig_close();
}

static void
subchannels_may_be_asked_for_before_the_end(struct conf_world *w)
{
	rig_new(w, 1);
	rig.options.max_subchannels = 2;
	rig_serve();
	rig_connect();
	assert_status(rig_say(0, STORVSP_BEGIN_INITIALIZATION, 0, 64, NULL), STATUS_SUCCESS);
	assert_status(rig_say(0, STORVSP_QUERY_PROTOCOL_VERSION, 0x0501, 64, NULL), STATUS_SUCCESS);
	assert_status(rig_say(0, STORVSP_QUERY_PROPERTIES, 0, 64, NULL), STATUS_SUCCESS);
	rig_subchannels(2);
	assert_status(rig_say(0, STORVSP_END_INITIALIZATION, 0, 64, NULL), STATUS_SUCCESS);
	for (uint32_t i = 0; i <= 2; i++) {
		struct call call = call_six(SCSI_TEST_UNIT_READY, 0, 0, 0, 0, NULL);

		call.channel = i;
		expect_good(call, 0);
	}
	rig_close();
}

static void
old_guests_send_and_get_shorter_packets(struct conf_world *w)
{
	struct call call = call_six(SCSI_TEST_UNIT_READY, 0, 0, 0, 0, NULL);

	rig_new(w, 1);
	rig_serve();
	rig_connect();
	assert_status(rig_say(0, STORVSP_BEGIN_INITIALIZATION, 0, 48, NULL), STATUS_SUCCESS);
	assert_status(rig_say(0, STORVSP_QUERY_PROTOCOL_VERSION, 0x0402, 48, NULL), STATUS_SUCCESS);
	assert_status(rig_say(0, STORVSP_QUERY_PROPERTIES, 0, 48, NULL), STATUS_SUCCESS);
	assert_status(rig_say(0, STORVSP_END_INITIALIZATION, 0, 48, NULL), STATUS_SUCCESS);
	call.packet_bytes = 48;
	expect_good(call, 0);
	call.cdb[0] = 0xFF;
	expect_sense(call, SENSE_UNKNOWN_COMMAND);
	rig_close();
}

static void
short_and_unknown_packets_are_answered_with_errors(struct conf_world *w)
{
	rig_open(w);
	for (uint32_t bytes = 0; bytes <= 128; bytes += 8) {
		NTSTATUS status = rig_say(0, STORVSP_EXECUTE_SRB, 0, bytes, NULL);

		/*
		 * From 64 on it is a request with a CDB of no bytes, status is that of the check
		 * condition.
		 */
		if (bytes >= STORVSP_HEADER_BYTES)
			assert_status(status, bytes >= 64 ? STATUS_UNSUCCESSFUL : STATUS_INVALID_PARAMETER);
	}
	for (uint32_t operation = 0; operation < 40; operation++) {
		bool known = operation >= STORVSP_EXECUTE_SRB && operation <= STORVSP_QUERY_PROPERTIES;

		if (!known && operation != STORVSP_CREATE_SUB_CHANNELS)
			assert_status(rig_say(0, operation, 0, 64, NULL), STATUS_INVALID_DEVICE_REQUEST);
	}
	assert_status(rig_say(0, 0xFFFFFFFF, 0, 64, NULL), STATUS_INVALID_DEVICE_REQUEST);
	assert_status(rig_say(0, STORVSP_QUERY_PROTOCOL_VERSION, 0, 8, NULL), STATUS_SUCCESS);
	/* Longer than anybody's: the channel is over, the controller is not. */
	assert_status(VmbChannelSendSynchronousRequest(rig.channels[0]->handle, (uint8_t[136]){ 3 }, 136,
	                                               NULL, 0, NULL, NULL, NULL),
	              STATUS_SUCCESS);
	rig_disconnect();
	rig_connect();
	rig_negotiate();
	expect_good(call_six(SCSI_TEST_UNIT_READY, 0, 0, 0, 0, NULL), 0);
	rig_close();
}

/* ---- what disks say of themselves ------------------------------------------------------------ */

/* Run a command with room for 4096 bytes; its answer is exactly these. */
static void
expect_answer(struct call call, const uint8_t *wanted, uint32_t bytes)
{
	uint8_t *memory = conf_pool(4096, 7), *before = malloc(4096);

	memcpy(before, memory, 4096);
	call.mdl = conf_mdl(memory, 4096);
	call.data_length = 4096;
	call.direction = STORVSP_FROM_DEVICE;
	expect_good(call, bytes);
	assert_memory_equal(memory, wanted, bytes);
	/* And not a byte more. */
	assert_memory_equal(memory + bytes, before + bytes, 4096 - bytes);
	conf_mdl_free(call.mdl);
	conf_pool_free(memory);
	free(before);
}

static void
inquiry_says_what_it_is(struct conf_world *w)
{
	static const uint8_t standard[] = "\0\0\x06\x02\x1f\0\0\x02" "OpenKMCL" "Virtual Disk    " "1.0 ";
	struct call call = call_six(SCSI_INQUIRY, 0, 0, 0, 255, NULL);

	rig_open(w);
	expect_answer(call, standard, 36);
	/* Cut by the allocation length. */
	for (uint8_t length = 0; length <= 40; length++) {
		call.cdb[4] = length;
		expect_answer(call, standard, length < 36 ? length : 36);
	}
	/* And by the buffer. */
	for (uint32_t bytes = 0; bytes <= 40; bytes++) {
		uint8_t *memory = conf_pool(64, 7), before[64];

		memcpy(before, memory, sizeof(before));
		call = call_six(SCSI_INQUIRY, 0, 0, 0, 255, NULL);
		call.mdl = conf_mdl(memory, 64);
		call.direction = STORVSP_FROM_DEVICE;
		call.data_length = bytes;
		expect_good(call, bytes < 36 ? bytes : 36);
		assert_memory_equal(memory, standard, bytes < 36 ? bytes : 36);
		assert_memory_equal(memory + bytes, before + bytes, 64 - bytes);
		conf_mdl_free(call.mdl);
		conf_pool_free(memory);
	}
	/* A page code without EVPD, obsolete bits, a page that is not there. */
	expect_sense(call_six(SCSI_INQUIRY, 0, 0x80, 0, 255, NULL), SENSE_FIELD_IN_CDB);
	expect_sense(call_six(SCSI_INQUIRY, 2, 0, 0, 255, NULL), SENSE_FIELD_IN_CDB);
	expect_sense(call_six(SCSI_INQUIRY, 1, 0xB3, 0, 255, NULL), SENSE_FIELD_IN_CDB);
	rig_close();
}

static void
put_serial(char *text, const GUID *instance, uint8_t target, uint8_t lun)
{
	const uint8_t *bytes = (const uint8_t *)instance;

	for (uint32_t i = 0; i < 16; i++)
		(void)sprintf(text + 2 * i, "%02x", bytes[i]);
	(void)sprintf(text + 32, "%02x%02x", target, lun);
}

static void
vital_product_data_are_complete(struct conf_world *w)
{
	static const uint8_t pages[] = { 0, 0, 0, 6, 0x00, 0x80, 0x83, 0xB0, 0xB1, 0xB2 };
	uint8_t page[64];
	char serial[40];

	rig_open(w);
	put_serial(serial, &rig.instance, 0, 0);
	expect_answer(call_six(SCSI_INQUIRY, 1, 0x00, 0, 255, NULL), pages, sizeof(pages));
	memcpy(page, "\0\x80\0\x24", 4);
	memcpy(page + 4, serial, 36);
	expect_answer(call_six(SCSI_INQUIRY, 1, 0x80, 0, 255, NULL), page, 40);
	/* Limits: 512 KiB at most, unmap in pages. */
	memset(page, 0, sizeof(page));
	memcpy(page, "\0\xB0\0\x3C\x01\0\0\x08\0\0\x04\0", 12);
	memcpy(page + 20, "\0\x80\0\0\0\0\0\x40\0\0\0\x08\x80\0\0\0", 16);
	memcpy(page + 36, "\0\0\0\0\0\x40\0\0", 8);
	expect_answer(call_six(SCSI_INQUIRY, 1, 0xB0, 0, 255, NULL), page, 64);
	memset(page, 0, sizeof(page));
	memcpy(page, "\0\xB1\0\x3C\0\x01", 6);
	expect_answer(call_six(SCSI_INQUIRY, 1, 0xB1, 0, 255, NULL), page, 64);
	expect_answer(call_six(SCSI_INQUIRY, 1, 0xB2, 0, 255, NULL),
	              (const uint8_t *)"\0\xB2\0\x04\0\xE4\x02\0", 8);
	rig_close();
}

/* Page 83: a locally assigned NAA name, and vendor and serial number. */
static void
names_differ_by_disk_and_stay(struct conf_world *w)
{
	uint8_t *memory = conf_pool(4096, 1);
	uint8_t names[4][8];
	PMDL mdl = conf_mdl(memory, 4096);
	char serial[40];

	rig_new(w, 2);
	for (uint32_t i = 0; i < 4; i++) {
		struct call call = call_six(SCSI_INQUIRY, 1, 0x83, 0, 255, mdl);

		/* Twice each, in two lives of the controller. */
		if (i % 2 == 0) {
			rig_serve();
			rig_connect();
			rig_negotiate();
		}
		call.lun = (uint8_t)(i % 2);
		expect_good(call, 64);
		put_serial(serial, &rig.instance, 0, call.lun);
		assert_memory_equal(memory, "\0\x83\0\x3C\x01\x03\0\x08", 8);
		assert_int_equal(memory[8] >> 4, 3);
		memcpy(names[i], memory + 8, 8);
		assert_memory_equal(memory + 16, "\x02\x01\0\x2C" "OpenKMCL", 12);
		assert_memory_equal(memory + 28, serial, 36);
		if (i % 2 == 1) {
			rig_disconnect();
			storvsp_destroy(rig.storvsp);
		}
	}
	assert_memory_equal(names[0], names[2], 8);
	assert_memory_equal(names[1], names[3], 8);
	assert_memory_not_equal(names[0], names[1], 8);
	rig.storvsp = NULL;
	conf_mdl_free(mdl);
	conf_pool_free(memory);
	rig_close();
}

static void
capacity_is_that_of_the_file(struct conf_world *w)
{
	static const uint8_t rc16[16] = { SCSI_SERVICE_ACTION_IN_16, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32 };
	uint8_t wanted[32] = { 0 }, zeros[16] = { SCSI_READ_CAPACITY_10 };
	struct call call;

	rig_new(w, 1);
	assert_int_equal(ftruncate(rig.fds[0], 1000 * BLOCK + 100), 0);
	rig_serve();
	rig_connect();
	rig_negotiate();
	expect_answer(call_of(zeros, 0, NULL), (const uint8_t *)"\0\0\x03\xE7\0\0\x02\0", 8);
	storvsp_put_be64(wanted, 999);
	wanted[10] = 2;
	wanted[13] = 3;
	wanted[14] = 0xC0;
	expect_answer(call_of(rc16, 0, NULL), wanted, 32);
	/* Another service action, PMI, an LBA, and less room. */
	call = call_of(rc16, 0, NULL);
	call.cdb[1] = 0x12;
	expect_sense(call, SENSE_FIELD_IN_CDB);
	call.cdb[1] = 0x10;
	call.cdb[9] = 1;
	expect_sense(call, SENSE_FIELD_IN_CDB);
	call.cdb[9] = 0;
	call.cdb[14] = 1;
	expect_sense(call, SENSE_FIELD_IN_CDB);
	call.cdb[14] = 0;
	call.cdb[13] = 12;
	expect_answer(call, wanted, 12);
	zeros[8] = 1;
	expect_sense(call_of(zeros, 0, NULL), SENSE_FIELD_IN_CDB);
	zeros[8] = 0;
	zeros[5] = 1;
	expect_sense(call_of(zeros, 0, NULL), SENSE_FIELD_IN_CDB);
	rig_close();
}

static void
capacity_beyond_2_tib_needs_the_long_form(struct conf_world *w)
{
	static const uint8_t rc10[16] = { SCSI_READ_CAPACITY_10 };
	static const uint8_t rc16[16] = { SCSI_SERVICE_ACTION_IN_16, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8 };
	uint8_t wanted[8], *memory = conf_pool(BLOCK, 3), copy[BLOCK];
	uint64_t blocks = 0x123456789ull;
	PMDL mdl = conf_mdl(memory, BLOCK);

	rig_new(w, 1);
	assert_int_equal(ftruncate(rig.fds[0], (off_t)(blocks * BLOCK)), 0);
	rig_serve();
	rig_connect();
	rig_negotiate();
	expect_answer(call_of(rc10, 0, NULL), (const uint8_t *)"\xFF\xFF\xFF\xFF\0\0\x02\0", 8);
	storvsp_put_be64(wanted, blocks - 1);
	expect_answer(call_of(rc16, 0, NULL), wanted, 8);
	expect_good(call_transfer(true, 16, blocks - 1, 1, mdl), BLOCK);
	assert_int_equal(pread(rig.fds[0], copy, BLOCK, (off_t)((blocks - 1) * BLOCK)), BLOCK);
	assert_memory_equal(copy, memory, BLOCK);
	expect_sense(call_transfer(true, 16, blocks, 1, mdl), SENSE_LBA_OUT_OF_RANGE);
	conf_mdl_free(mdl);
	conf_pool_free(memory);
	rig_close();
}

static void
mode_pages_say_how_it_caches(struct conf_world *w)
{
	static const uint8_t caching[20] = { 0x08, 18, 0x04 }, no_caching[20] = { 0x08, 18 };
	static const uint8_t control[12] = { 0x0A, 10, 0, 0x10 };
	uint8_t wanted[64] = { 0 }, long_form[16] = { SCSI_MODE_SENSE_10, 8, 0x3F, 0, 0, 0, 0, 0, 255 };

	rig_new(w, 2);
	rig.disks[1].read_only = TRUE;
	rig_serve();
	rig_connect();
	rig_negotiate();
	for (uint8_t lun = 0; lun < 2; lun++) {
		struct call call = call_six(SCSI_MODE_SENSE_6, 8, 0x08, 0, 255, NULL);

		call.lun = lun;
		memset(wanted, 0, sizeof(wanted));
		wanted[0] = 23;
		wanted[2] = lun == 0 ? 0x10 : 0x90;
		memcpy(wanted + 4, lun == 0 ? caching : no_caching, 20);
		expect_answer(call, wanted, 24);
		/* As Linux asks first: only the header. */
		call.cdb[4] = 4;
		expect_answer(call, wanted, 4);
		/* All pages, with a block descriptor. */
		call.cdb[1] = 0;
		call.cdb[2] = 0x3F;
		call.cdb[3] = 0xFF;
		call.cdb[4] = 255;
		wanted[0] = 43;
		wanted[3] = 8;
		storvsp_put_be32(wanted + 4, DISK_BLOCKS);
		storvsp_put_be32(wanted + 8, BLOCK);
		memcpy(wanted + 12, lun == 0 ? caching : no_caching, 20);
		memcpy(wanted + 32, control, 12);
		expect_answer(call, wanted, 44);
		/* The long form, without it. */
		call = call_of(long_form, 0, NULL);
		call.lun = lun;
		memset(wanted, 0, 8);
		wanted[1] = 38;
		wanted[3] = lun == 0 ? 0x10 : 0x90;
		memmove(wanted + 8, wanted + 12, 32);
		expect_answer(call, wanted, 40);
		/* What can be changed: nothing. */
		call = call_six(SCSI_MODE_SENSE_6, 8, 0x48, 0, 255, NULL);
		call.lun = lun;
		memset(wanted, 0, sizeof(wanted));
		wanted[0] = 23;
		wanted[2] = lun == 0 ? 0x10 : 0x90;
		memcpy(wanted + 4, no_caching, 20);
		expect_answer(call, wanted, 24);
	}
	expect_sense(call_six(SCSI_MODE_SENSE_6, 8, 0xC8, 0, 255, NULL), SENSE_SAVING_UNSUPPORTED);
	expect_sense(call_six(SCSI_MODE_SENSE_6, 8, 0x1C, 0, 255, NULL), SENSE_FIELD_IN_CDB);
	expect_sense(call_six(SCSI_MODE_SENSE_6, 8, 0x08, 1, 255, NULL), SENSE_FIELD_IN_CDB);
	rig_close();
}

static void
luns_are_reported_and_absent_ones_are_not_there(struct conf_world *w)
{
	static const uint8_t absent[36] = { 0x7F, 0, 6, 2, 31 };
	uint8_t report[16] = { SCSI_REPORT_LUNS, 0, 0, 0, 0, 0, 0, 0, 0, 16 };
	uint8_t wanted[64] = { 0 };
	struct call call;

	rig_new(w, 3);
	rig.disks[0].lun = 200;
	rig.disks[1].lun = 7;
	rig.disks[2].target = 1;
	rig.disks[2].lun = 0;
	rig_serve();
	rig_connect();
	rig_negotiate();
	/* In order, whether or not LUN 0 is there. */
	wanted[3] = 16;
	wanted[9] = 7;
	wanted[17] = 200;
	call = call_of(report, 0, NULL);
	expect_answer(call, wanted, 16);
	call.cdb[9] = 64;
	call.lun = 99;
	expect_answer(call, wanted, 24);
	call.cdb[2] = 2;
	expect_answer(call, wanted, 24);
	call.cdb[2] = 1;
	expect_answer(call, (const uint8_t *)"\0\0\0\0\0\0\0", 8);
	call.cdb[2] = 3;
	expect_sense(call, SENSE_FIELD_IN_CDB);
	call.cdb[2] = 0;
	call.cdb[9] = 15;
	expect_sense(call, SENSE_FIELD_IN_CDB);
	call.cdb[9] = 64;
	call.target = 1;
	wanted[3] = 8;
	wanted[9] = 0;
	expect_answer(call, wanted, 16);
	/* A target, and a path, without disks. */
	call.target = 2;
	expect_answer(call, (const uint8_t *)"\0\0\0\0\0\0\0", 8);
	call.target = 0;
	call.path = 1;
	expect_answer(call, (const uint8_t *)"\0\0\0\0\0\0\0", 8);
	/* A LUN that is not there: the scan goes on, other commands name the reason. */
	for (uint32_t i = 0; i < 4; i++) {
		static const uint8_t where[4][3] = { { 0, 0, 0 }, { 0, 0, 8 }, { 0, 2, 0 }, { 1, 0, 7 } };

		call = call_six(SCSI_INQUIRY, 0, 0, 0, 36, NULL);
		call.path = where[i][0];
		call.target = where[i][1];
		call.lun = where[i][2];
		expect_answer(call, absent, 36);
		call.cdb[0] = SCSI_TEST_UNIT_READY;
		call_run(&call);
		assert_int_equal(call.srb, SRB_INVALID_LUN);
		assert_int_equal(call.scsi, 0);
		assert_status(call.status, STATUS_NO_SUCH_DEVICE);
	}
	call = call_six(SCSI_TEST_UNIT_READY, 0, 0, 0, 0, NULL);
	call.lun = 7;
	expect_good(call, 0);
	rig_close();
}

/* ---- everything else ------------------------------------------------------------------------- */

static void
commands_that_say_little_succeed(struct conf_world *w)
{
	static const uint8_t none[18] = { 0x70, 0, 0, 0, 0, 0, 0, 10 };

	rig_open(w);
	expect_good(call_six(SCSI_TEST_UNIT_READY, 0, 0, 0, 0, NULL), 0);
	expect_good(call_six(SCSI_START_STOP, 0, 0, 0, 1, NULL), 0);
	expect_good(call_six(SCSI_START_STOP, 0, 0, 0, 0, NULL), 0);
	expect_answer(call_six(SCSI_REQUEST_SENSE, 0, 0, 0, 252, NULL), none, 18);
	expect_answer(call_six(SCSI_REQUEST_SENSE, 0, 0, 0, 8, NULL), none, 8);
	expect_sense(call_six(SCSI_REQUEST_SENSE, 1, 0, 0, 252, NULL), SENSE_FIELD_IN_CDB);
	/* What moves no data may have a buffer. */
	expect_answer(call_six(SCSI_TEST_UNIT_READY, 0, 0, 0, 0, NULL), none, 0);
	rig_close();
}

static void
commands_that_are_not_there_are_unknown(struct conf_world *w)
{
	static const uint8_t known[] = { 0x00, 0x03, 0x08, 0x0A, 0x12, 0x1A, 0x1B, 0x25, 0x28, 0x2A, 0x2F, 0x35,
		                         0x41, 0x42, 0x5A, 0x88, 0x8A, 0x8F, 0x91, 0x93, 0x9E, 0xA0, 0xA8, 0xAA };
	uint32_t unknown = 0;

	rig_open(w);
	for (uint32_t operation = 0; operation < 256; operation++) {
		struct call call = call_six((uint8_t)operation, 0, 0, 0, 0, NULL);

		if (memchr(known, (int)operation, sizeof(known)) != NULL) {
			/* Known, but cut short by one byte. */
			call.cdb_length--;
			expect_sense(call, SENSE_FIELD_IN_CDB);
			continue;
		}
		call.cdb_length = 16;
		expect_sense(call, SENSE_UNKNOWN_COMMAND);
		unknown++;
	}
	assert_int_equal(unknown, 256 - sizeof(known));
	assert_int_equal(rig_stats().channel[0].refused, 256);
	rig_close();
}

static void
sense_fits_into_its_room(struct conf_world *w)
{
	const uint8_t wanted[18] = { 0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x20 };

	rig_open(w);
	for (uint32_t room = 0; room < 256; room++) {
		struct call call = call_six(0xFF, 0, 0, 0, 0, NULL);
		uint32_t bytes = room < 18 ? room : 18;

		call.sense_room = (uint8_t)room;
		call_run(&call);
		assert_int_equal(call.srb, room != 0 ? SRB_ERROR | SRB_SENSE_IS_VALID : SRB_ERROR);
		assert_int_equal(call.scsi, SCSI_CHECK_CONDITION);
		assert_int_equal(call.sense_bytes, bytes);
		assert_memory_equal(call.sense, wanted, bytes);
	}
	rig_close();
}

static void
cdb_is_as_long_as_it_says(struct conf_world *w)
{
	rig_open(w);
	for (uint32_t length = 0; length < 256; length++) {
		struct call call = call_six(SCSI_TEST_UNIT_READY, 0, 0, 0, 0, NULL);

		call.cdb_length = (uint8_t)length;
		call_run(&call);
		if (length > 16)
			assert_int_equal(call.srb, SRB_INVALID_REQUEST);
		else if (length >= 6)
			assert_int_equal(call.srb, SRB_SUCCESS);
		else
			assert_int_equal(call.srb, SRB_ERROR | SRB_SENSE_IS_VALID);
	}
	rig_close();
}

static void
what_cannot_be_offered_says_why(struct conf_world *w)
{
	struct storvsp *first;
	char reason[160], path[64];

	rig_new(w, 2);
	memcpy(path, rig.paths[0], sizeof(path));
	rig.options.disk_count = 0;
	assert_status(rig_serve_status(reason, sizeof(reason)), STATUS_INVALID_PARAMETER);
	assert_string_equal(reason, "0 disks; there must be 1 to 64");
	rig.options.disk_count = 2;
	rig.disks[1].lun = 0;
	assert_status(rig_serve_status(reason, sizeof(reason)), STATUS_INVALID_PARAMETER);
	assert_string_equal(reason, "two disks are target 0, LUN 0");
	rig.disks[1].lun = 1;
	rig.disks[1].path = NULL;
	assert_status(rig_serve_status(reason, sizeof(reason)), STATUS_INVALID_PARAMETER);
	assert_string_equal(reason, "disk 1 has no path");
	rig.disks[1].path = rig.paths[1];
	rig.options.max_subchannels = 31;
	rig.options.depth = 129;
	assert_status(rig_serve_status(reason, sizeof(reason)), STATUS_INVALID_PARAMETER);
	rig.options.max_subchannels = 32;
	rig.options.depth = 1;
	assert_status(rig_serve_status(reason, sizeof(reason)), STATUS_INVALID_PARAMETER);
	rig.options.max_subchannels = rig.options.depth = 0;
	(void)snprintf(rig.paths[0], sizeof(rig.paths[0]), "/tmp/storvsp-none");
	assert_status(rig_serve_status(reason, sizeof(reason)), STATUS_OBJECT_NAME_NOT_FOUND);
	assert_string_equal(reason, "disk /tmp/storvsp-none: no such file");
	(void)snprintf(rig.paths[0], sizeof(rig.paths[0]), "/dev/full");
	assert_status(rig_serve_status(reason, sizeof(reason)), STATUS_OBJECT_TYPE_MISMATCH);
	memcpy(rig.paths[0], path, sizeof(path));
	assert_int_equal(ftruncate(rig.fds[0], BLOCK - 1), 0);
	assert_status(rig_serve_status(reason, sizeof(reason)), STATUS_DISK_FULL);
	assert_int_equal(ftruncate(rig.fds[0], BLOCK), 0);
	rig_serve();
	first = rig.storvsp;
	assert_status(rig_serve_status(reason, sizeof(reason)), STATUS_SHARING_VIOLATION);
	storvsp_destroy(first);
	rig.disks[0].read_only = rig.disks[1].read_only = TRUE;
	rig_serve();
	first = rig.storvsp;
	assert_status(rig_serve_status(reason, sizeof(reason)), STATUS_OBJECT_NAME_COLLISION);
	assert_string_equal(reason, "the bus has a controller of that instance already: status 0xc0000035");
	assert_null(rig.storvsp);
	storvsp_destroy(NULL);
	rig.storvsp = first;
	rig_close();
}

#define TEST(body) CONF_TEST(body, NULL, CONF_BUSES)

static const struct conf_test tests[] = {
	TEST(newest_version_that_both_know_is_agreed),
	TEST(properties_are_told_by_version),
	TEST(steps_in_another_order_are_refused),
	TEST(subchannels_are_offered_as_asked),
	TEST(subchannels_may_be_asked_for_before_the_end),
	TEST(old_guests_send_and_get_shorter_packets),
	TEST(short_and_unknown_packets_are_answered_with_errors),
	TEST(inquiry_says_what_it_is),
	TEST(vital_product_data_are_complete),
	TEST(names_differ_by_disk_and_stay),
	TEST(capacity_is_that_of_the_file),
	TEST(capacity_beyond_2_tib_needs_the_long_form),
	TEST(mode_pages_say_how_it_caches),
	TEST(luns_are_reported_and_absent_ones_are_not_there),
	TEST(commands_that_say_little_succeed),
	TEST(commands_that_are_not_there_are_unknown),
	TEST(sense_fits_into_its_room),
	TEST(cdb_is_as_long_as_it_says),
	TEST(what_cannot_be_offered_says_why),
};

int
main(void)
{
	return CONF_RUN("storvsp", tests);
}
