/* SPDX-License-Identifier: MIT */
/* The block device's client with its server, and with one that does what it likes. */
#include "blockdev_rig.h"

/* ---- both ends --------------------------------------------------------------------------------- */

static void
run_random_test(struct conf_world *w, BOOLEAN no_uring, ULONG server_depth)
{
	const BLOCK_TEST test = { .Seed = 42,
		                  .Depth = 32,
		                  .Requests = 600,
		                  .MinimumBytes = BLOCK,
		                  .MaximumBytes = MIB,
		                  .ReadPercent = 40 };
	BLOCK_TEST_RESULT result;
	BLOCKDEV_COUNTERS server;

	rig_file(w, DISK_BYTES);
	assert_status(rig_start_status(FALSE, no_uring, server_depth), STATUS_SUCCESS);
	rig_client();
	assert_status(BlockClientTest(rig.client, &test, &result), STATUS_SUCCESS);
	assert_int_equal(result.Failures, 0);
	assert_int_equal(result.WrongBlocks, 0);
	assert_true(result.BlocksVerified > result.BytesWritten / BLOCK / 2);
	assert_true(result.Reads + result.Writes > 600);
	server = counters();
	assert_int_equal(server.Reads, result.Reads);
	assert_int_equal(server.Writes, result.Writes);
	assert_int_equal(server.BytesWritten, result.BytesWritten);
	assert_int_equal(server.BytesRead, result.BytesRead);
	assert_int_equal(server.Refused + server.Failed, 0);
	rig_close();
}

static void
random_blocks_at_depth_32_are_what_was_written(struct conf_world *w)
{
	run_random_test(w, FALSE, 0);
}

static void
so_they_are_with_threads(struct conf_world *w)
{
	run_random_test(w, TRUE, 0);
}

static void
more_requests_than_the_server_works_on_wait(struct conf_world *w)
{
	run_random_test(w, FALSE, 3);
}

static void
lost_write_is_noticed(struct conf_world *w)
{
	const BLOCK_TEST test = { .Seed = 7,
		                  .Depth = 4,
		                  .Requests = 60,
		                  .MinimumBytes = BLOCK,
		                  .MaximumBytes = 2 * BLOCK,
		                  .ReadPercent = 0 };
	BLOCK_TEST_RESULT result;

	rig_file(w, 8 * MIB);
	assert_status(rig_start_status(FALSE, TRUE, 0), STATUS_SUCCESS);
	rig_client();
	/* The last one: nothing is written over it. */
	atomic_store(&lose_write, 60);
	assert_status(BlockClientTest(rig.client, &test, &result), STATUS_SUCCESS);
	assert_int_equal(atomic_load(&lose_write), 0);
	assert_int_equal(result.Failures, 0);
	assert_in_range(result.WrongBlocks, 1, 2);
	rig_close();
}

static void
test_of_a_failing_disk_says_so(struct conf_world *w)
{
	const BLOCK_TEST test = { .Seed = 7,
		                  .Depth = 4,
		                  .Requests = 40,
		                  .MinimumBytes = BLOCK,
		                  .MaximumBytes = 2 * BLOCK,
		                  .ReadPercent = 0 };
	BLOCK_TEST_RESULT result;

	rig_file(w, 8 * MIB);
	assert_status(rig_start_status(FALSE, TRUE, 0), STATUS_SUCCESS);
	rig_client();
	atomic_store(&fail_errno, ENOSPC);
	assert_status(BlockClientTest(rig.client, &test, &result), STATUS_SUCCESS);
	atomic_store(&fail_errno, 0);
	assert_int_equal(result.Failures, 40);
	assert_status(result.FirstFailure, STATUS_DISK_FULL);
	assert_int_equal(result.BlocksVerified, 0);
	rig_close();
}

static void
test_that_makes_no_sense_is_refused(struct conf_world *w)
{
	static const BLOCK_TEST rows[] = {
		{ .Depth = 0, .Requests = 1, .MinimumBytes = BLOCK, .MaximumBytes = BLOCK },
		{ .Depth = 257, .Requests = 1, .MinimumBytes = BLOCK, .MaximumBytes = BLOCK },
		{ .Depth = 1, .Requests = 1, .MinimumBytes = 0, .MaximumBytes = BLOCK },
		{ .Depth = 1, .Requests = 1, .MinimumBytes = 2 * BLOCK, .MaximumBytes = BLOCK },
		{ .Depth = 1, .Requests = 1, .MinimumBytes = BLOCK, .MaximumBytes = MIB + BLOCK },
		{ .Depth = 1, .Requests = 1, .MinimumBytes = 512, .MaximumBytes = BLOCK },
		{ .Depth = 1, .Requests = 1, .MinimumBytes = BLOCK, .MaximumBytes = BLOCK + 1 },
		{ .Depth = 1, .Requests = 1, .MinimumBytes = BLOCK, .MaximumBytes = BLOCK,
		  .ReadPercent = 101 },
		/* Four parts of 1 MiB do not hold requests of that size times five. */
		{ .Depth = 5, .Requests = 1, .MinimumBytes = BLOCK, .MaximumBytes = MIB },
	};
	BLOCK_TEST_RESULT result;

	rig_file(w, 4 * MIB);
	assert_status(rig_start_status(FALSE, FALSE, 0), STATUS_SUCCESS);
	rig_client();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_status(BlockClientTest(rig.client, &rows[i], &result),
		              STATUS_INVALID_PARAMETER);
	rig_close();
}

static void
client_transfers_and_flushes(struct conf_world *w)
{
	uint8_t *memory = conf_pool(3 * BLOCK, 1), copy[2 * BLOCK];
	PMDL mdl = conf_mdl(memory, 3 * BLOCK);

	rig_file(w, DISK_BYTES);
	assert_status(rig_start_status(FALSE, FALSE, 0), STATUS_SUCCESS);
	rig_client();
	assert_status(BlockClientTransfer(rig.client, BlockdevWrite, 8 * BLOCK, mdl, 100, 2 * BLOCK),
	              STATUS_SUCCESS);
	assert_status(BlockClientTransfer(rig.client, BlockdevFlush, 0, NULL, 0, 0), STATUS_SUCCESS);
	assert_int_equal(pread(rig.fd, copy, sizeof(copy), 8 * BLOCK), sizeof(copy));
	assert_memory_equal(copy, memory + 100, sizeof(copy));
	memset(memory, 0, 3 * BLOCK);
	assert_status(BlockClientTransfer(rig.client, BlockdevRead, 8 * BLOCK, mdl, BLOCK, 2 * BLOCK),
	              STATUS_SUCCESS);
	assert_memory_equal(copy, memory + BLOCK, sizeof(copy));
	assert_status(BlockClientTransfer(rig.client, BlockdevRead, DISK_BYTES, mdl, 0, BLOCK),
	              STATUS_NONEXISTENT_SECTOR);
	/* Beyond the MDL: refused before it is sent. */
	assert_status(BlockClientTransfer(rig.client, BlockdevRead, 0, mdl, 2 * BLOCK, 2 * BLOCK),
	              STATUS_INVALID_PARAMETER_6);
	conf_mdl_free(mdl);
	conf_pool_free(memory);
	rig_close();
}

/* ---- ends that go under load ------------------------------------------------------------------- */

#define LOAD_DEPTH 32

struct load {
	BLOCKCLIENT_REQUEST requests[LOAD_DEPTH];
	uint8_t *memory;
	PMDL mdl;
	atomic_uint in_flight, done, failed;
	atomic_uint refused; /* not submitted again: the channel was closing already */
	atomic_bool stop;
};

static VOID
load_next(PBLOCKCLIENT_REQUEST request)
{
	struct load *load = request->Context;
	UINT32 index = (UINT32)(request - load->requests);
	NTSTATUS status;

	atomic_fetch_add(&load->done, 1);
	if (!NT_SUCCESS(request->Status)) {
		atomic_fetch_add(&load->failed, 1);
		atomic_store(&load->stop, true);
	}
	if (!atomic_load(&load->stop)) {
		status = BlockClientSubmit(request, index % 2 != 0 ? BlockdevRead : BlockdevWrite,
		                           (UINT64)index * MIB, load->mdl, index * 16 * BLOCK,
		                           16 * BLOCK);
		if (NT_SUCCESS(status))
			return;
		if (status == STATUS_DEVICE_REMOVED || status == STATUS_INVALID_DEVICE_STATE)
			atomic_fetch_add(&load->refused, 1);
	}
	atomic_fetch_sub(&load->in_flight, 1);
}

static void
load_begin(struct load *load)
{
	memset(load, 0, sizeof(*load));
	load->memory = conf_pool(LOAD_DEPTH * 16 * BLOCK, 5);
	load->mdl = conf_mdl(load->memory, LOAD_DEPTH * 16 * BLOCK);
	atomic_store(&load->in_flight, LOAD_DEPTH);
	for (uint32_t i = 0; i < LOAD_DEPTH; i++) {
		assert_status(BlockClientInitializeRequest(rig.client, &load->requests[i]),
		              STATUS_SUCCESS);
		load->requests[i].Done = load_next;
		load->requests[i].Context = load;
		load_next(&load->requests[i]);
	}
	conf_poll_until(atomic_load(&load->done) > 20 * LOAD_DEPTH);
}

static void
load_end(struct load *load)
{
	atomic_store(&load->stop, true);
	conf_poll_until(atomic_load(&load->in_flight) == 0);
	for (uint32_t i = 0; i < LOAD_DEPTH; i++)
		BlockClientReleaseRequest(&load->requests[i]);
	conf_mdl_free(load->mdl);
	conf_pool_free(load->memory);
}

static void
server_goes_under_load(struct conf_world *w)
{
	BLOCKDEV_IDENTITY identity;
	LARGE_INTEGER limit = { .QuadPart = CONF_MS(CONF_LIMIT_SECONDS * 1000) };
	struct load load;

	rig_file(w, DISK_BYTES);
	assert_status(rig_start_status(FALSE, FALSE, 0), STATUS_SUCCESS);
	rig_client();
	load_begin(&load);
	BlockdevStop(rig.disk);
	rig.disk = NULL;
	/* Every request ended: what the server had answered well, whatever comes after with an error. */
	conf_poll_until(atomic_load(&load.failed) + atomic_load(&load.refused) > 0);
	load_end(&load);
	for (uint32_t i = 0; i < LOAD_DEPTH; i++)
		if (!NT_SUCCESS(load.requests[i].Status))
			assert_status(load.requests[i].Status, STATUS_DEVICE_REMOVED);
	conf_poll_until(BlockClientIdentify(rig.client, &identity, &limit) == STATUS_DEVICE_REMOVED);
	assert_int_equal(conf_pins(w), 0);
	rig_close();
}

static void
client_goes_under_load_and_another_comes(struct conf_world *w)
{
	struct load *load = malloc(sizeof(*load));

	rig_file(w, DISK_BYTES);
	assert_status(rig_start_status(FALSE, FALSE, 0), STATUS_SUCCESS);
	for (int round = 0; round < 3; round++) {
		rig_client();
		load_begin(load);
		BlockClientDisconnect(rig.client);
		load_end(load);
		assert_true(atomic_load(&load->failed) + atomic_load(&load->refused) > 0);
		assert_int_equal(conf_pins(w), 0);
		BlockClientClose(rig.client);
		rig.client = NULL;
	}
	rig_client();
	assert_status(BlockClientTransfer(rig.client, BlockdevFlush, 0, NULL, 0, 0), STATUS_SUCCESS);
	free(load);
	rig_close();
}

/* ---- the client, and a server that does what it likes ------------------------------------------ */

static struct conf_channel *
strange_server(struct conf_world *w, const void *answer, UINT32 bytes)
{
	const struct conf_options options = { .max_packet = 256, .instance = &rig.instance };
	struct conf_channel *server;
	GUID type = w->type;

	memset(&rig, 0, sizeof(rig));
	rig.instance = conf_new_guid();
	w->type = BLOCKDEV_INTERFACE_TYPE;
	server = conf_server(w, &options);
	w->type = type;
	conf_answer_with(server, CONF_GIVE, answer, bytes);
	conf_enable(server);
	assert_status(BlockClientOpen(NULL, &rig.instance, &rig.client), STATUS_SUCCESS);
	return server;
}

static void
identity_that_makes_no_sense_is_refused(struct conf_world *w)
{
	static const struct {
		BLOCKDEV_IDENTITY identity;
		UINT32 bytes;
		NTSTATUS status;
	} rows[] = {
#define GOOD .Response = { 1, STATUS_SUCCESS, 0 }, .MaximumTransfer = MIB
		{ { GOOD, .Bytes = BLOCK, .BlockBytes = BLOCK }, 48, STATUS_SUCCESS },
		{ { GOOD, .Bytes = BLOCK, .BlockBytes = BLOCK }, 40, STATUS_DEVICE_PROTOCOL_ERROR },
		{ { GOOD, .Bytes = BLOCK, .BlockBytes = BLOCK }, 8, STATUS_DEVICE_PROTOCOL_ERROR },
		{ { GOOD, .Bytes = BLOCK, .BlockBytes = BLOCK }, 0, STATUS_DEVICE_PROTOCOL_ERROR },
		{ { GOOD, .Bytes = BLOCK, .BlockBytes = 512 }, 48, STATUS_DEVICE_PROTOCOL_ERROR },
		{ { GOOD, .Bytes = 0, .BlockBytes = BLOCK }, 48, STATUS_DEVICE_PROTOCOL_ERROR },
		{ { GOOD, .Bytes = BLOCK + 1, .BlockBytes = BLOCK }, 48, STATUS_DEVICE_PROTOCOL_ERROR },
		{ { .Response = { 1, STATUS_SUCCESS, 0 }, .Bytes = BLOCK, .BlockBytes = BLOCK }, 48,
		  STATUS_DEVICE_PROTOCOL_ERROR },
		{ { .Response = { 2, STATUS_SUCCESS, 0 } }, 48, STATUS_DEVICE_PROTOCOL_ERROR },
		{ { .Response = { 1, STATUS_REVISION_MISMATCH, 0 } }, 16, STATUS_REVISION_MISMATCH },
		/* More than there is room for. */
		{ { GOOD, .Bytes = BLOCK, .BlockBytes = BLOCK }, 56, STATUS_BUFFER_TOO_SMALL },
#undef GOOD
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t bytes[64] = { 0 };
		BLOCKDEV_IDENTITY identity;
		struct conf_channel *server;

		memcpy(bytes, &rows[i].identity, sizeof(rows[i].identity));
		server = strange_server(w, bytes, rows[i].bytes);
		assert_status(BlockClientIdentify(rig.client, &identity, NULL), rows[i].status);
		BlockClientClose(rig.client);
		conf_channel_free(server);
	}
}

static void
answers_that_make_no_sense_fail_the_request(struct conf_world *w)
{
	static const struct {
		BLOCKDEV_RESPONSE response;
		UINT32 bytes;
		NTSTATUS status;
	} rows[] = {
		{ { 2, STATUS_SUCCESS, BLOCK }, 16, STATUS_SUCCESS },
		{ { 2, STATUS_SUCCESS, BLOCK }, 16, STATUS_DEVICE_PROTOCOL_ERROR }, /* the id again */
		{ { 4, STATUS_SUCCESS, BLOCK - 8 }, 16, STATUS_DEVICE_PROTOCOL_ERROR },
		{ { 5, STATUS_SUCCESS, BLOCK }, 8, STATUS_DEVICE_PROTOCOL_ERROR },
		{ { 6, STATUS_SUCCESS, BLOCK }, 0, STATUS_DEVICE_PROTOCOL_ERROR },
		{ { 7, STATUS_DISK_FULL, 0 }, 16, STATUS_DISK_FULL },
	};
	const BLOCKDEV_IDENTITY identity = { .Response = { 1, STATUS_SUCCESS, 0 },
		                             .Bytes = MIB,
		                             .BlockBytes = BLOCK,
		                             .MaximumTransfer = MIB };
	struct conf_channel *server = strange_server(w, &identity, sizeof(identity));
	BLOCKDEV_IDENTITY got;
	uint8_t *memory = conf_pool(BLOCK, 1);
	PMDL mdl = conf_mdl(memory, BLOCK);

	assert_status(BlockClientIdentify(rig.client, &got, NULL), STATUS_SUCCESS);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		conf_answer_with(server, CONF_GIVE, &rows[i].response, rows[i].bytes);
		assert_status(BlockClientTransfer(rig.client, BlockdevRead, 0, mdl, 0, BLOCK),
		              rows[i].status);
	}
	conf_mdl_free(mdl);
	conf_pool_free(memory);
	BlockClientClose(rig.client);
}

static void
disk_that_is_not_there_yet_is_not_ready(struct conf_world *w)
{
	LARGE_INTEGER none = { .QuadPart = 0 }, soon = { .QuadPart = CONF_MS(1) };
	BLOCKDEV_IDENTITY identity;
	BLOCK_TEST_RESULT result;
	BLOCK_TEST test = { 0 };

	rig_file(w, DISK_BYTES);
	assert_status(BlockClientOpen(NULL, &rig.instance, &rig.client), STATUS_SUCCESS);
	assert_status(BlockClientIdentify(rig.client, &identity, &none), STATUS_DEVICE_NOT_READY);
	assert_status(BlockClientIdentify(rig.client, &identity, &soon), STATUS_DEVICE_NOT_READY);
	assert_status(BlockClientTest(rig.client, &test, &result), STATUS_DEVICE_NOT_READY);
	assert_status(rig_start_status(FALSE, FALSE, 0), STATUS_SUCCESS);
	assert_status(BlockClientIdentify(rig.client, &identity, NULL), STATUS_SUCCESS);
	assert_int_equal(identity.Bytes, DISK_BYTES);
	rig_close();
}

#define TEST(body) CONF_TEST(body, NULL, CONF_BUSES)

static const struct conf_test tests[] = {
	TEST(random_blocks_at_depth_32_are_what_was_written),
	TEST(so_they_are_with_threads),
	TEST(more_requests_than_the_server_works_on_wait),
	TEST(lost_write_is_noticed),
	TEST(test_of_a_failing_disk_says_so),
	TEST(test_that_makes_no_sense_is_refused),
	TEST(client_transfers_and_flushes),
	TEST(server_goes_under_load),
	TEST(client_goes_under_load_and_another_comes),
	TEST(identity_that_makes_no_sense_is_refused),
	TEST(answers_that_make_no_sense_fail_the_request),
	TEST(disk_that_is_not_there_yet_is_not_ready),
};

int
main(void)
{
	(void)signal(SIGXFSZ, SIG_IGN);
	return CONF_RUN("blockclient", tests);
}
