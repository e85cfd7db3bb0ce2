/* SPDX-License-Identifier: MIT */
/*
 * Fuzzer of the block device's server, on the loopback bus. The input is a list of requests of a client that keeps no rule; the file
 * below fails when the input says so. Whatever is asked: the answer has the request's id and a status, what was written with
 * success is what is read, a disk that is read-only is not written, and nothing outside the external data changes.
 */
#define FUZZ_RECORD_BYTES 32
#include "fuzz_records.h"

#include <errno.h>
#include <pthread.h>
#include <sanitizer/lsan_interface.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#include <initguid.h>

#include "blockdev.h"
#include "kmcl.h"

#define BLOCK BLOCKDEV_BLOCK_BYTES
#define DISK_BYTES (16u * BLOCK)
#define RANGES_MAX (BLOCKDEV_MAXIMUM_RANGES + 4u)
#define MEMORY_BYTES (BLOCKDEV_MAXIMUM_TRANSFER + 4u * BLOCK)
#define GUARD_BYTES 64u /* before and behind external data */
#define GUARD 0x5a
#define PATIENCE_100NS (-(LONGLONG)15 * 10000000)
#define DISKS 2u /* the second is read-only */

static struct {
	int fds[DISKS];
	PBLOCKDEV_DISK disks[DISKS];
	VMBCHANNEL clients[DISKS];
	uint8_t *memory;
	uint8_t model[DISK_BYTES];
	bool unsure[DISK_BYTES / BLOCK]; /* a write of it failed */
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned started;
} world = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

#define MUST(call) FUZZ_CHECK((call) == STATUS_SUCCESS)

/* ---- the file ---------------------------------------------------------------------------------- */

#define SHORT (-1) /* a read finds the end of the file, a write no room */
#define HALF (-2)  /* a part gets done, then another */

static atomic_int fail_with;
/* A sync that waits, so that what comes later is answered before it. */
static bool hold_sync, sync_is_held; /* world.lock */

ssize_t __real_preadv64(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __wrap_preadv64(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __real_pwritev64(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int count, off_t offset);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

/* What the transfer gives: 1 = do all of it, 2 = a part. */
static int
outcome(void)
{
	int how = atomic_load(&fail_with);

	/* Once. */
	if (how == EINTR || how == EAGAIN)
		atomic_store(&fail_with, 0);
	errno = how;
	return how == HALF ? 2 : how == SHORT ? 0 : how == 0 ? 1 : -1;
}

static size_t
part(const struct iovec *iov)
{
	return iov->iov_len < 1000 ? iov->iov_len : 1000;
}

ssize_t
__wrap_preadv64(int fd, const struct iovec *iov, int count, off_t offset)
{
	const int how = outcome();

	if (how == 2)
		return pread(fd, iov->iov_base, part(iov), offset);
	return how != 1 ? how : __real_preadv64(fd, iov, count, offset);
}

ssize_t
__wrap_pwritev64(int fd, const struct iovec *iov, int count, off_t offset)
{
	const int how = outcome();

	if (how == 2)
		return pwrite(fd, iov->iov_base, part(iov), offset);
	return how != 1 ? how : __real_pwritev64(fd, iov, count, offset);
}

int
__wrap_fdatasync(int fd)
{
	pthread_mutex_lock(&world.lock);
	if (hold_sync) {
		sync_is_held = true;
		pthread_cond_broadcast(&world.changed);
		while (hold_sync)
			pthread_cond_wait(&world.changed, &world.lock);
	}
	pthread_mutex_unlock(&world.lock);
	return outcome() < 0 ? -1 : __real_fdatasync(fd);
}

/* ---- the world ----------------------------------------------------------------------------------- */

static EVT_VMB_CHANNEL_PROCESS_PACKET on_packet;
static VOID
on_packet(VMBCHANNEL channel, VMBPACKETCOMPLETION packet, PVOID buffer, UINT32 bytes, UINT32 flags)
{
	(void)channel;
	(void)packet;
	(void)buffer;
	(void)bytes;
	(void)flags;
	/* A disk sends nothing of its own. */
	FUZZ_CHECK(false);
}

static EVT_VMB_CHANNEL_POST_STARTED on_started;
static VOID
on_started(VMBCHANNEL channel)
{
	(void)channel;
	pthread_mutex_lock(&world.lock);
	world.started++;
	pthread_cond_broadcast(&world.changed);
	pthread_mutex_unlock(&world.lock);
}

static EVT_VMB_CHANNEL_CLOSED on_closed;
static VOID
on_closed(VMBCHANNEL channel)
{
	(void)channel;
	/* A disk that is asked the wrong thing stays. */
	FUZZ_CHECK(false);
}

static void
add_disk(uint32_t which)
{
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS callbacks;
	char path[64];
	BLOCKDEV_CONFIG config = { .Instance = { .Data1 = 1 + which },
		                   .Path = path,
		                   .ReadOnly = which == 1,
		                   .NoUring = TRUE,
		                   .Depth = 4 };
	const GUID type = BLOCKDEV_INTERFACE_TYPE;
	VMBCHANNEL client;

	world.fds[which] = memfd_create("disk", 0);
	FUZZ_CHECK(ftruncate(world.fds[which], DISK_BYTES + 100) == 0);
	(void)snprintf(path, sizeof(path), "/proc/self/fd/%d", world.fds[which]);
	MUST(BlockdevStart(&config, &world.disks[which]));
	MUST(VmbChannelAllocate(NULL, FALSE, &client));
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&callbacks);
	callbacks.EvtChannelPostStarted = on_started;
	callbacks.EvtChannelClosed = on_closed;
	MUST(VmbChannelInitSetStateChangeCallbacks(client, &callbacks));
	MUST(VmbChannelInitSetProcessPacketCallbacks(client, on_packet, NULL));
	MUST(VmbChannelInitSetMaximumExternalData(client, MEMORY_BYTES, RANGES_MAX));
	MUST(VmbClientChannelInitSetTargetPnp(client, &type, &config.Instance, NULL));
	MUST(VmbChannelEnable(client));
	world.clients[which] = client;
	pthread_mutex_lock(&world.lock);
	while (world.started != which + 1)
		pthread_cond_wait(&world.changed, &world.lock);
	pthread_mutex_unlock(&world.lock);
}

static void
make_world(void)
{
	/* A leak checker does not look into pool memory, where the disks' pointers are. */
	__lsan_disable();
	for (uint32_t i = 0; i < DISKS; i++)
		add_disk(i);
	__lsan_enable();
	world.memory = ExAllocatePool2(POOL_FLAG_NON_PAGED, MEMORY_BYTES, 'zzuF');
	FUZZ_CHECK(world.memory != NULL);
}

/* ---- a request ------------------------------------------------------------------------------------- */

struct ask {
	BLOCKDEV_REQUEST request;
	uint32_t disk, bytes, data; /* of the packet; of the external data */
	uint32_t ranges;
	PMDL mdls[RANGES_MAX];
	uint8_t filling;
	bool late; /* a sync began before it and ends behind it */
};

static uint64_t
some_offset(struct fuzz *fuzz, uint32_t kind)
{
	if (kind >= 0xF0)
		return fuzz_u64(fuzz);
	return (uint64_t)(kind % (DISK_BYTES / BLOCK + 2)) * BLOCK;
}

static uint32_t
some_length(struct fuzz *fuzz, uint32_t kind)
{
	static const uint32_t lengths[] = { 0,
		                            1,
		                            BLOCK - 1,
		                            BLOCK + 1,
		                            BLOCKDEV_MAXIMUM_TRANSFER,
		                            BLOCKDEV_MAXIMUM_TRANSFER + BLOCK };

	if (kind >= 0xF0)
		return fuzz_u32(fuzz);
	if (kind >= 0xE0)
		return lengths[kind % (sizeof(lengths) / sizeof(lengths[0]))];
	return (1 + kind % 8) * BLOCK;
}

static void
take_apart(struct fuzz *fuzz, struct ask *ask)
{
	uint32_t shape = fuzz_u8(fuzz), operation = fuzz_u8(fuzz), wrong = fuzz_u8(fuzz);
	uint32_t offset = fuzz_u8(fuzz), length = fuzz_u8(fuzz), ranges = fuzz_u16(fuzz);
	uint32_t data = fuzz_u8(fuzz);
	BLOCKDEV_REQUEST *request = &ask->request;

	ask->filling = fuzz_u8(fuzz);
	request->Id = fuzz_u8(fuzz) + 1u;
	ask->disk = (shape & 1) != 0;
	ask->bytes = sizeof(*request);
	/* More than its largest packet costs a client the channel, before the disk sees it. */
	if ((shape & 2) != 0)
		ask->bytes = (shape >> 3) % 7 * 8;
	request->Version = BLOCKDEV_PROTOCOL_VERSION;
	request->Operation =
	    (UINT16)(operation < 0xF0 ? BlockdevIdentify + operation % 4 : operation - 0xF0);
	if ((wrong & 1) != 0)
		request->Version = (UINT16)(wrong >> 4);
	if ((wrong & 2) != 0)
		request->Reserved = wrong >> 4;
	if ((wrong & 4) != 0)
		request->Reserved2 = wrong >> 4;
	request->Offset = some_offset(fuzz, offset);
	request->Length = some_length(fuzz, length);
	if ((request->Operation == BlockdevIdentify || request->Operation == BlockdevFlush) &&
	    (wrong & 8) == 0) {
		request->Length = (shape & 4) != 0 ? BLOCK : 0;
		request->Offset = (shape & 8) != 0 ? BLOCK : 0;
		ask->ranges = (shape & 0x40) != 0;
	} else {
		ask->ranges = ranges < 0x8000 ? ranges % 5 : ranges % (RANGES_MAX + 1);
	}
	ask->data = data < 0xE0 ? request->Length : data * 16u;
	if (ask->data > BLOCKDEV_MAXIMUM_TRANSFER + BLOCK)
		ask->data = BLOCKDEV_MAXIMUM_TRANSFER + BLOCK;
	if (ask->data < ask->ranges)
		ask->ranges = 0;
	ask->late = (shape & 0x80) != 0 && request->Operation != BlockdevFlush;
}

/* External data lies in ranges one after another, each but the last of the same size; the guard is around all of them. */
static PMDL
describe(struct ask *ask)
{
	uint32_t each = ask->ranges != 0 ? ask->data / ask->ranges : 0, at = 0;

	for (uint32_t i = 0; i < ask->ranges; i++) {
		uint32_t bytes = i + 1 == ask->ranges ? ask->data - at : each;

		ask->mdls[i] =
		    IoAllocateMdl(world.memory + GUARD_BYTES + at, bytes, FALSE, FALSE, NULL);
		FUZZ_CHECK(ask->mdls[i] != NULL);
		MmBuildMdlForNonPagedPool(ask->mdls[i]);
		if (i != 0)
			ask->mdls[i - 1]->Next = ask->mdls[i];
		at += bytes;
	}
	memset(world.memory, GUARD, GUARD_BYTES);
	memset(world.memory + GUARD_BYTES, ask->filling, at);
	memset(world.memory + GUARD_BYTES + at, GUARD, GUARD_BYTES);
	return ask->ranges != 0 ? ask->mdls[0] : NULL;
}

/* The first is the value, and each is like the one before. */
static bool
is_all(const uint8_t *bytes, size_t count, uint8_t value)
{
	return count == 0 || (*bytes == value && memcmp(bytes, bytes + 1, count - 1) == 0);
}

static void
check_data(const struct ask *ask, NTSTATUS status)
{
	const BLOCKDEV_REQUEST *request = &ask->request;
	const uint8_t *data = world.memory + GUARD_BYTES;
	uint32_t there = ask->ranges != 0 ? ask->data : 0;
	bool done = status == STATUS_SUCCESS && ask->bytes == sizeof(*request);

	FUZZ_CHECK(is_all(world.memory, GUARD_BYTES, GUARD));
	FUZZ_CHECK(is_all(data + there, GUARD_BYTES, GUARD));
	if (request->Operation != BlockdevRead)
		FUZZ_CHECK(is_all(data, there, ask->filling));
	if (request->Operation == BlockdevWrite && ask->disk == 0 && !done &&
	    request->Offset < DISK_BYTES && request->Length <= DISK_BYTES - request->Offset)
		for (uint64_t i = 0; i < request->Length / BLOCK; i++)
			world.unsure[request->Offset / BLOCK + i] = true;
	if (!done || (request->Operation != BlockdevWrite && request->Operation != BlockdevRead))
		return;
	FUZZ_CHECK(there == request->Length && request->Offset <= DISK_BYTES - there);
	FUZZ_CHECK(ask->disk == 0 || request->Operation == BlockdevRead);
	for (uint32_t i = 0; i < there; i += BLOCK) {
		uint64_t block = request->Offset + i;

		if (request->Operation == BlockdevWrite) {
			memcpy(world.model + block, data + i, BLOCK);
			world.unsure[block / BLOCK] = false;
		} else if (ask->disk == 1) {
			FUZZ_CHECK(is_all(data + i, BLOCK, 0));
		} else if (!world.unsure[block / BLOCK]) {
			FUZZ_CHECK(memcmp(world.model + block, data + i, BLOCK) == 0);
		}
	}
}

static VMBPACKET held;
static bool held_is_done; /* world.lock */

static EVT_VMB_PACKET_COMPLETION_ROUTINE on_held_done;
static VOID
on_held_done(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	(void)packet;
	FUZZ_CHECK(status == STATUS_SUCCESS && bytes == sizeof(BLOCKDEV_RESPONSE) &&
	           ((const BLOCKDEV_RESPONSE *)buffer)->Id == 77);
	pthread_mutex_lock(&world.lock);
	held_is_done = true;
	pthread_cond_broadcast(&world.changed);
	pthread_mutex_unlock(&world.lock);
}

static void
begin_held(void)
{
	BLOCKDEV_REQUEST flush = { .Version = BLOCKDEV_PROTOCOL_VERSION,
		                   .Operation = BlockdevFlush,
		                   .Id = 77 };

	hold_sync = true;
	held_is_done = sync_is_held = false;
	held = VmbPacketAllocate(world.clients[0]);
	FUZZ_CHECK(held != NULL);
	VmbPacketSetCompletionRoutine(held, on_held_done);
	MUST(VmbPacketSend(held, &flush, sizeof(flush), NULL,
	                   VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION));
	pthread_mutex_lock(&world.lock);
	while (!sync_is_held)
		pthread_cond_wait(&world.changed, &world.lock);
	pthread_mutex_unlock(&world.lock);
}

static void
end_held(void)
{
	pthread_mutex_lock(&world.lock);
	hold_sync = false;
	pthread_cond_broadcast(&world.changed);
	while (!held_is_done)
		pthread_cond_wait(&world.changed, &world.lock);
	pthread_mutex_unlock(&world.lock);
	VmbPacketFree(held);
}

static void
step(struct fuzz *fuzz)
{
	static const int errors[] = { 0,          0,      0,      0,      0,       0,
		                      HALF,       HALF,   SHORT,  ENOENT, ENOTDIR, EACCES,
		                      EPERM,      EROFS,  ENOMEM, ENOSPC, EDQUOT,  EFBIG,
		                      EOPNOTSUPP, ENOSYS, EIO,    EAGAIN, EINTR };
	static struct ask ask;
	LARGE_INTEGER patience = { .QuadPart = PATIENCE_100NS };
	BLOCKDEV_IDENTITY answer = { 0 };
	UINT32 size = sizeof(answer);
	uint32_t fail = fuzz_below(fuzz, sizeof(errors) / sizeof(errors[0]));
	uint8_t packet[64] = { 0 };
	NTSTATUS status;

	memset(&ask, 0, sizeof(ask));
	take_apart(fuzz, &ask);
	memcpy(packet, &ask.request, sizeof(ask.request));
	if (ask.late)
		begin_held();
	atomic_store(&fail_with, errors[fail]);
	status = VmbChannelSendSynchronousRequest(
	    world.clients[ask.disk], packet, ask.bytes, describe(&ask),
	    VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION, &answer, &size, &patience);
	atomic_store(&fail_with, 0);
	if (ask.late)
		end_held();
	/* A packet of no bytes is none. */
	FUZZ_CHECK(status == STATUS_SUCCESS ||
	           (status == STATUS_INVALID_PARAMETER_3 && ask.bytes == 0));
	if (status == STATUS_SUCCESS) {
		FUZZ_CHECK(size == sizeof(answer) || size == sizeof(answer.Response));
		FUZZ_CHECK(answer.Response.Id ==
		           (ask.bytes == sizeof(ask.request) ? ask.request.Id : 0));
		if (size == sizeof(answer))
			FUZZ_CHECK(answer.Bytes == DISK_BYTES &&
			           (answer.Flags != 0) == (ask.disk == 1));
		check_data(&ask, answer.Response.Status);
	}
	for (uint32_t i = 0; i < ask.ranges; i++)
		IoFreeMdl(ask.mdls[i]);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
	static const uint8_t zeros[DISK_BYTES];
	struct fuzz fuzz = { bytes, count };
	BLOCKDEV_COUNTERS counters;

	if (world.memory == NULL)
		make_world();
	FUZZ_CHECK(pwrite(world.fds[0], zeros, DISK_BYTES, 0) == DISK_BYTES);
	memset(world.model, 0, sizeof(world.model));
	memset(world.unsure, 0, sizeof(world.unsure));
	while (fuzz.left != 0) {
		struct fuzz record = fuzz_record(&fuzz);

		step(&record);
	}
	BlockdevGetCounters(world.disks[1], &counters);
	FUZZ_CHECK(counters.Writes == 0);
	return 0;
}
