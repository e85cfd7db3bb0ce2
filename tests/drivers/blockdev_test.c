/* SPDX-License-Identifier: MIT */
/* The block device's server, and a client that sends what it likes. */
#include "blockdev_rig.h"

#include <sys/resource.h>

/* One request with any bytes; returns the response's status and checks the rest of it. */
static NTSTATUS
ask_raw(const void *request, UINT32 bytes, PMDL mdl, UINT64 id, UINT32 length)
{
	BLOCKDEV_RESPONSE response;
	UINT32 size = sizeof(response);

	assert_status(VmbChannelSendSynchronousRequest(rig.raw->handle, (PVOID)request, bytes, mdl,
	                                               CONF_WAIT, &response, &size, NULL),
	              STATUS_SUCCESS);
	assert_int_equal(size, sizeof(response));
	assert_int_equal(response.Id, id);
	assert_int_equal(response.Length, NT_SUCCESS(response.Status) ? length : 0);
	return response.Status;
}

static BLOCKDEV_REQUEST
request_of(UINT16 operation, UINT64 offset, UINT32 length)
{
	static UINT64 id = 0xF00D;

	return (BLOCKDEV_REQUEST){ .Version = BLOCKDEV_PROTOCOL_VERSION,
		                   .Operation = operation,
		                   .Id = ++id,
		                   .Offset = offset,
		                   .Length = length };
}

static NTSTATUS
ask(UINT16 operation, UINT64 offset, UINT32 length, PMDL mdl)
{
	BLOCKDEV_REQUEST request = request_of(operation, offset, length);

	return ask_raw(&request, sizeof(request), mdl, request.Id, length);
}

static NTSTATUS
ask_memory(UINT16 operation, UINT64 offset, void *memory, UINT32 length)
{
	PMDL mdl = conf_mdl(memory, length);
	NTSTATUS status = ask(operation, offset, length, mdl);

	conf_mdl_free(mdl);
	return status;
}

static void
disk_says_what_it_is(struct conf_world *w)
{
	BLOCKDEV_REQUEST request = request_of(BlockdevIdentify, 0, 0);
	BLOCKDEV_IDENTITY identity;
	UINT32 size = sizeof(identity);

	rig_file(w, 10 * BLOCK + 100);
	assert_status(rig_start_status(TRUE, FALSE, 7), STATUS_SUCCESS);
	rig_raw();
	assert_status(VmbChannelSendSynchronousRequest(rig.raw->handle, &request, sizeof(request), NULL,
	                                               CONF_WAIT, &identity, &size, NULL),
	              STATUS_SUCCESS);
	assert_int_equal(size, sizeof(identity));
	assert_int_equal(identity.Response.Id, request.Id);
	assert_status(identity.Response.Status, STATUS_SUCCESS);
	assert_int_equal(identity.Bytes, 10 * BLOCK);
	assert_int_equal(identity.BlockBytes, BLOCK);
	assert_int_equal(identity.MaximumTransfer, MIB);
	assert_int_equal(identity.Depth, 7);
	assert_int_equal(identity.Flags, BLOCKDEV_READ_ONLY);
	rig_close();
}

static void
every_size_is_read_and_written_where_it_lies(struct conf_world *w)
{
	uint8_t *memory = conf_pool(MIB + BLOCK, 1), *copy = malloc(MIB);
	uint64_t shared = 0;

	rig_open(w);
	for (uint32_t length = BLOCK; length <= MIB; length = length < 8 * BLOCK ? length + BLOCK
	                                                                         : length * 2) {
		uint64_t offset = (uint64_t)length * 3;

		conf_fill(memory + 24, length, length);
		assert_status(ask_memory(BlockdevWrite, offset, memory + 24, length), STATUS_SUCCESS);
		assert_int_equal(pread(rig.fd, copy, length, (off_t)offset), length);
		assert_memory_equal(copy, memory + 24, length);
		memset(memory + 24, 0, length);
		assert_status(ask_memory(BlockdevRead, offset, memory + 24, length), STATUS_SUCCESS);
		assert_memory_equal(copy, memory + 24, length);
		shared += 2 * length;
	}
	assert_status(ask(BlockdevFlush, 0, 0, NULL), STATUS_SUCCESS);
	assert_int_equal(counters().BytesRead + counters().BytesWritten, shared);
	assert_int_equal(counters().Flushes, 1);
	/* No copy on either side. */
	assert_int_equal(conf_stats(rig.raw).bytes_bounced, 0);
	free(copy);
	conf_pool_free(memory);
	rig_close();
}

static void
data_may_be_in_many_pieces(struct conf_world *w)
{
	enum { PIECES = 256 };
	uint8_t *memory = conf_pool(MIB + 16 * PIECES, 3), *copy = malloc(MIB);
	PMDL chain = NULL, extra;

	rig_open(w);
	for (uint32_t i = PIECES; i-- != 0;) {
		PMDL mdl = conf_mdl(memory + i * (BLOCK + 16) + 8, BLOCK);

		mdl->Next = chain;
		chain = mdl;
	}
	assert_status(ask(BlockdevWrite, 0, MIB, chain), STATUS_SUCCESS);
	assert_int_equal(pread(rig.fd, copy, MIB, 0), MIB);
	for (uint32_t i = 0; i < PIECES; i++)
		assert_memory_equal(copy + i * BLOCK, memory + i * (BLOCK + 16) + 8, BLOCK);
	/* One more than agreed, for as many bytes. */
	extra = conf_mdl(memory, 8);
	extra->Next = chain;
	assert_status(ask(BlockdevWrite, 0, MIB, extra), STATUS_INVALID_PARAMETER);
	conf_mdl_free(extra);
	free(copy);
	conf_pool_free(memory);
	rig_close();
}

static void
malformed_requests_are_refused_each_with_its_status(struct conf_world *w)
{
	static const struct {
		BLOCKDEV_REQUEST request;
		UINT32 external;
		NTSTATUS status;
	} rows[] = {
		{ { .Version = 0, .Operation = BlockdevIdentify }, 0, STATUS_REVISION_MISMATCH },
		{ { .Version = 2, .Operation = BlockdevIdentify }, 0, STATUS_REVISION_MISMATCH },
		{ { .Version = 1, .Operation = 0 }, 0, STATUS_INVALID_DEVICE_REQUEST },
		{ { .Version = 1, .Operation = 5 }, 0, STATUS_INVALID_DEVICE_REQUEST },
		{ { .Version = 1, .Operation = 0xFFFF }, BLOCK, STATUS_INVALID_DEVICE_REQUEST },
		{ { .Version = 1, .Operation = BlockdevFlush, .Reserved = 1 }, 0,
		  STATUS_INVALID_PARAMETER },
		{ { .Version = 1, .Operation = BlockdevFlush, .Reserved2 = 1 }, 0,
		  STATUS_INVALID_PARAMETER },
		{ { .Version = 1, .Operation = BlockdevFlush, .Offset = BLOCK }, 0,
		  STATUS_INVALID_PARAMETER },
		{ { .Version = 1, .Operation = BlockdevFlush, .Length = BLOCK }, 0,
		  STATUS_INVALID_PARAMETER },
		{ { .Version = 1, .Operation = BlockdevFlush }, BLOCK, STATUS_INVALID_PARAMETER },
		{ { .Version = 1, .Operation = BlockdevIdentify }, BLOCK, STATUS_INVALID_PARAMETER },
		{ { .Version = 1, .Operation = BlockdevIdentify, .Length = 1 }, 0,
		  STATUS_INVALID_PARAMETER },
		/* Data: none, too little, too much. */
		{ { .Version = 1, .Operation = BlockdevRead, .Length = BLOCK }, 0,
		  STATUS_INVALID_PARAMETER },
		{ { .Version = 1, .Operation = BlockdevRead, .Length = 2 * BLOCK }, BLOCK,
		  STATUS_INVALID_PARAMETER },
		{ { .Version = 1, .Operation = BlockdevWrite, .Length = BLOCK }, BLOCK + 8,
		  STATUS_INVALID_PARAMETER },
		{ { .Version = 1, .Operation = BlockdevWrite, .Length = BLOCK }, MIB + BLOCK,
		  STATUS_INVALID_PARAMETER },
		/* Alignment and size. */
		{ { .Version = 1, .Operation = BlockdevRead, .Length = 0 }, BLOCK,
		  STATUS_INVALID_PARAMETER },
		{ { .Version = 1, .Operation = BlockdevRead, .Length = 512 }, 512,
		  STATUS_INVALID_PARAMETER },
		{ { .Version = 1, .Operation = BlockdevRead, .Offset = 1, .Length = BLOCK }, BLOCK,
		  STATUS_INVALID_PARAMETER },
		{ { .Version = 1, .Operation = BlockdevWrite, .Length = MIB + BLOCK }, MIB + BLOCK,
		  STATUS_INVALID_PARAMETER },
		{ { .Version = 1, .Operation = BlockdevWrite, .Length = 0xFFFFF000 }, BLOCK,
		  STATUS_INVALID_PARAMETER },
		/* The end of the disk. */
		{ { .Version = 1, .Operation = BlockdevRead, .Offset = DISK_BYTES, .Length = BLOCK },
		  BLOCK, STATUS_NONEXISTENT_SECTOR },
		{ { .Version = 1, .Operation = BlockdevRead, .Offset = DISK_BYTES - BLOCK,
		    .Length = 2 * BLOCK }, 2 * BLOCK, STATUS_NONEXISTENT_SECTOR },
		{ { .Version = 1, .Operation = BlockdevWrite, .Offset = 0xFFFFFFFFFFFFF000,
		    .Length = BLOCK }, BLOCK, STATUS_NONEXISTENT_SECTOR },
		{ { .Version = 1, .Operation = BlockdevWrite, .Offset = 0x8000000000000000,
		    .Length = MIB }, MIB, STATUS_NONEXISTENT_SECTOR },
		{ { .Version = 1, .Operation = BlockdevRead, .Offset = DISK_BYTES - BLOCK,
		    .Length = BLOCK }, BLOCK, STATUS_SUCCESS },
	};
	uint8_t *memory = conf_pool(2 * MIB, 0), bytes[64] = { 0 };

	rig_open(w);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		BLOCKDEV_REQUEST request = rows[i].request;
		PMDL mdl = rows[i].external != 0 ? conf_mdl(memory, rows[i].external) : NULL;
		NTSTATUS status;

		request.Id = i + 1;
		status = ask_raw(&request, sizeof(request), mdl, request.Id, request.Length);
		if (status != rows[i].status)
			print_error("row %zu\n", i);
		assert_status(status, rows[i].status);
		if (mdl != NULL)
			conf_mdl_free(mdl);
	}
	/* Another length than a request has. */
	for (UINT32 length = 0; length <= sizeof(BLOCKDEV_IDENTITY); length += 8)
		if (length != sizeof(BLOCKDEV_REQUEST))
			assert_status(ask_raw(bytes, length, NULL, 0, 0), STATUS_INVALID_PARAMETER);
	assert_int_equal(counters().Refused, sizeof(rows) / sizeof(rows[0]) - 1 + 6);
	assert_int_equal(counters().Writes, 0);
	/* Longer than the server takes: the channel is over, and the next one works. */
	assert_status(VmbChannelSendSynchronousRequest(rig.raw->handle, bytes, 64, NULL, 0, NULL, NULL,
	                                               NULL),
	              STATUS_SUCCESS);
	conf_channel_free(rig.raw);
	rig_raw();
	assert_status(ask(BlockdevFlush, 0, 0, NULL), STATUS_SUCCESS);
	conf_pool_free(memory);
	rig_close();
}

/* Page numbers that are not the client's. */
static void
pages_outside_the_client_are_refused(struct conf_world *w)
{
	PFN_NUMBER pages[2] = { 0x7FFFFFFFFFF, 1 };
	BLOCKDEV_REQUEST request = request_of(BlockdevRead, 0, 2 * BLOCK);
	struct conf_send *s;
	BLOCKDEV_RESPONSE response;

	rig_open(w);
	s = conf_send_new(rig.raw);
	assert_status(VmbPacketSendWithExternalPfns(s->packet, &request, sizeof(request), pages, 2,
	                                            CONF_WAIT),
	              STATUS_SUCCESS);
	conf_await_done(s, 1);
	assert_status(s->status, STATUS_SUCCESS);
	memcpy(&response, s->answer, sizeof(response));
	assert_status(response.Status, STATUS_INVALID_PARAMETER);
	conf_send_free(s);
	assert_status(ask(BlockdevFlush, 0, 0, NULL), STATUS_SUCCESS);
	rig_close();
}

static void
client_that_wants_no_answer_gets_its_write(struct conf_world *w)
{
	uint8_t *memory = conf_pool(BLOCK, 9);
	BLOCKDEV_REQUEST request = request_of(BlockdevWrite, 5 * BLOCK, BLOCK);
	PMDL mdl = conf_mdl(memory, BLOCK);
	uint8_t copy[BLOCK];

	rig_open(w);
	assert_status(VmbChannelSendSynchronousRequest(rig.raw->handle, &request, sizeof(request), mdl,
	                                               0, NULL, NULL, NULL),
	              STATUS_SUCCESS);
	conf_poll_until(counters().Writes == 1);
	assert_int_equal(pread(rig.fd, copy, BLOCK, 5 * BLOCK), BLOCK);
	assert_memory_equal(copy, memory, BLOCK);
	conf_mdl_free(mdl);
	conf_pool_free(memory);
	rig_close();
}

static void
read_only_disk_is_read_and_not_written(struct conf_world *w)
{
	uint8_t *memory = conf_pool(BLOCK, 9);

	rig_file(w, DISK_BYTES);
	assert_status(rig_start_status(TRUE, FALSE, 0), STATUS_SUCCESS);
	rig_raw();
	assert_status(ask_memory(BlockdevWrite, 0, memory, BLOCK), STATUS_MEDIA_WRITE_PROTECTED);
	assert_status(ask_memory(BlockdevRead, 0, memory, BLOCK), STATUS_SUCCESS);
	assert_status(ask(BlockdevFlush, 0, 0, NULL), STATUS_SUCCESS);
	for (uint32_t i = 0; i < BLOCK; i++)
		assert_int_equal(memory[i], 0);
	conf_pool_free(memory);
	rig_close();
}

static void
full_disk_and_failing_disk_have_their_statuses(struct conf_world *w)
{
	uint8_t *memory = conf_pool(2 * BLOCK, 9);
	struct rlimit old, limit;

	rig_open(w);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = old;
	limit.rlim_cur = MIB;
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_status(ask_memory(BlockdevWrite, 2 * MIB, memory, BLOCK), STATUS_DISK_FULL);
	assert_status(ask_memory(BlockdevWrite, MIB - BLOCK, memory, 2 * BLOCK), STATUS_DISK_FULL);
	assert_status(ask_memory(BlockdevWrite, MIB - BLOCK, memory, BLOCK), STATUS_SUCCESS);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	assert_status(ask_memory(BlockdevWrite, 2 * MIB, memory, BLOCK), STATUS_SUCCESS);
	/* Somebody makes the file shorter below the disk. */
	assert_int_equal(ftruncate(rig.fd, MIB), 0);
	assert_status(ask_memory(BlockdevRead, 2 * MIB, memory, BLOCK), STATUS_IO_DEVICE_ERROR);
	assert_status(ask_memory(BlockdevRead, 0, memory, BLOCK), STATUS_SUCCESS);
	assert_int_equal(counters().Failed, 3);
	conf_pool_free(memory);
	rig_close();
}

static void
errors_of_the_file_become_statuses(struct conf_world *w)
{
	static const struct {
		int error;
		NTSTATUS status;
	} rows[] = { { ENOSPC, STATUS_DISK_FULL },
		     { EIO, STATUS_IO_DEVICE_ERROR },
		     { ENOMEM, STATUS_INSUFFICIENT_RESOURCES },
		     { EPERM, STATUS_ACCESS_DENIED } };
	uint8_t *memory = conf_pool(BLOCK, 9);

	rig_file(w, DISK_BYTES);
	assert_status(rig_start_status(FALSE, TRUE, 0), STATUS_SUCCESS);
	assert_string_equal(BlockdevEngine(rig.disk), "threads");
	rig_raw();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		atomic_store(&fail_errno, rows[i].error);
		assert_status(ask_memory(BlockdevWrite, 0, memory, BLOCK), rows[i].status);
	}
	atomic_store(&fail_errno, 0);
	assert_status(ask_memory(BlockdevWrite, 0, memory, BLOCK), STATUS_SUCCESS);
	conf_pool_free(memory);
	rig_close();
}

static void
answers_come_in_the_order_in_which_they_get_done(struct conf_world *w)
{
	BLOCKDEV_REQUEST requests[2];
	uint8_t *memory = conf_pool(2 * BLOCK, 0);
	PMDL mdls[2] = { conf_mdl(memory, BLOCK), conf_mdl(memory + BLOCK, BLOCK) };
	struct conf_send *sends[2];
	KEVENT gate;

	KeInitializeEvent(&gate, NotificationEvent, FALSE);
	rig_file(w, DISK_BYTES);
	hold_reads_at_zero = &gate;
	assert_status(rig_start_status(FALSE, TRUE, 0), STATUS_SUCCESS);
	rig_raw();
	for (uint32_t i = 0; i < 2; i++) {
		requests[i] = request_of(BlockdevRead, i * BLOCK, BLOCK);
		sends[i] = conf_send_new(rig.raw);
		assert_status(VmbPacketSend(sends[i]->packet, &requests[i], sizeof(requests[i]), mdls[i],
		                            CONF_WAIT),
		              STATUS_SUCCESS);
	}
	conf_await_done(sends[1], 1);
	conf_lock(w);
	assert_int_equal(sends[0]->done, 0);
	conf_unlock(w);
	KeSetEvent(&gate, IO_NO_INCREMENT, FALSE);
	conf_await_done(sends[0], 1);
	for (uint32_t i = 0; i < 2; i++) {
		BLOCKDEV_RESPONSE response;

		memcpy(&response, sends[i]->answer, sizeof(response));
		assert_int_equal(response.Id, requests[i].Id);
		assert_status(response.Status, STATUS_SUCCESS);
		conf_send_free(sends[i]);
		conf_mdl_free(mdls[i]);
	}
	assert_int_equal(counters().OutOfOrder, 1);
	conf_pool_free(memory);
	rig_close();
	/* The threads that looked at it are gone. */
	hold_reads_at_zero = NULL;
}

static void
what_cannot_be_offered_says_why(struct conf_world *w)
{
	BLOCKDEV_CONFIG config = { .Path = NULL };
	PBLOCKDEV_DISK disk;
	char path[64];

	rig_file(w, BLOCK - 1);
	assert_status(rig_start_status(FALSE, FALSE, 0), STATUS_DISK_FULL);
	assert_int_equal(ftruncate(rig.fd, BLOCK), 0);
	assert_status(rig_start_status(FALSE, FALSE, BLOCKDEV_MAXIMUM_DEPTH + 1),
	              STATUS_INVALID_PARAMETER);
	assert_status(BlockdevStart(&config, &disk), STATUS_INVALID_PARAMETER);
	memcpy(path, rig.path, sizeof(path));
	(void)snprintf(rig.path, sizeof(rig.path), "/tmp/blockdev-none");
	assert_status(rig_start_status(FALSE, FALSE, 0), STATUS_OBJECT_NAME_NOT_FOUND);
	(void)snprintf(rig.path, sizeof(rig.path), "/dev/null");
	assert_status(rig_start_status(FALSE, FALSE, 0), STATUS_OBJECT_TYPE_MISMATCH);
	memcpy(rig.path, path, sizeof(path));
	assert_status(rig_start_status(TRUE, FALSE, 0), STATUS_SUCCESS);
	disk = rig.disk;
	assert_status(rig_start_status(FALSE, FALSE, 0), STATUS_SHARING_VIOLATION);
	/* The file may be read twice; the name on the bus may not be used twice. */
	assert_status(rig_start_status(TRUE, FALSE, 0), STATUS_OBJECT_NAME_COLLISION);
	assert_null(rig.disk);
	rig.disk = disk;
	rig_close();
}

#define TEST(body) CONF_TEST(body, NULL, CONF_BUSES)

static const struct conf_test tests[] = {
	TEST(disk_says_what_it_is),
	TEST(every_size_is_read_and_written_where_it_lies),
	TEST(data_may_be_in_many_pieces),
	TEST(malformed_requests_are_refused_each_with_its_status),
	TEST(pages_outside_the_client_are_refused),
	TEST(client_that_wants_no_answer_gets_its_write),
	TEST(read_only_disk_is_read_and_not_written),
	TEST(full_disk_and_failing_disk_have_their_statuses),
	TEST(errors_of_the_file_become_statuses),
	TEST(answers_come_in_the_order_in_which_they_get_done),
	TEST(what_cannot_be_offered_says_why),
};

int
main(void)
{
	(void)signal(SIGXFSZ, SIG_IGN);
	return CONF_RUN("blockdev", tests);
}
