/* SPDX-License-Identifier: MIT */
/* Disks and clients for the tests of the block device, and what lies below the threads engine. */
#include "blockdev_rig.h"

#include <sys/uio.h>

/* ---- what the tests put below the threads engine ----------------------------------------------- */

ssize_t __real_preadv64(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __wrap_preadv64(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __real_pwritev64(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int count, off_t offset);

PKEVENT hold_reads_at_zero;
atomic_int lose_write;
atomic_int fail_errno;

ssize_t
__wrap_preadv64(int fd, const struct iovec *iov, int count, off_t offset)
{
	if (hold_reads_at_zero != NULL && offset == 0)
		KeWaitForSingleObject(hold_reads_at_zero, Executive, KernelMode, FALSE, NULL);
	return __real_preadv64(fd, iov, count, offset);
}

ssize_t
__wrap_pwritev64(int fd, const struct iovec *iov, int count, off_t offset)
{
	ssize_t bytes = 0;

	if (atomic_load(&fail_errno) != 0) {
		errno = atomic_load(&fail_errno);
		return -1;
	}
	if (atomic_load(&lose_write) == 0 || atomic_fetch_sub(&lose_write, 1) != 1)
		return __real_pwritev64(fd, iov, count, offset);
	while (count-- != 0)
		bytes += (ssize_t)iov++->iov_len;
	return bytes;
}

/* ---- a disk, and two kinds of client ----------------------------------------------------------- */

struct rig rig;

void
rig_file(struct conf_world *w, uint32_t bytes)
{
	memset(&rig, 0, sizeof(rig));
	rig.world = w;
	rig.instance = conf_new_guid();
	(void)snprintf(rig.path, sizeof(rig.path), "/tmp/blockdev-XXXXXX");
	rig.fd = mkstemp(rig.path);
	assert_true(rig.fd >= 0);
	assert_int_equal(ftruncate(rig.fd, bytes), 0);
}

NTSTATUS
rig_start_status(BOOLEAN read_only, BOOLEAN no_uring, ULONG depth)
{
	BLOCKDEV_CONFIG config = { .Instance = rig.instance,
		                   .Path = rig.path,
		                   .ReadOnly = read_only,
		                   .NoUring = no_uring,
		                   .Depth = depth };
	NTSTATUS status;

	if (rig.world->host != NULL)
		config.VmbusHandle = kmcl_bus_handle(rig.world->host);
	status = BlockdevStart(&config, &rig.disk);
	if (config.VmbusHandle != NULL)
		assert_status(ZwClose(config.VmbusHandle), STATUS_SUCCESS);
	return status;
}

void
rig_raw(void)
{
	const struct conf_options options = { .max_packet = 256,
		                              .external_bytes = 2 * MIB,
		                              .external_mdls = 300,
		                              .instance = &rig.instance };

	/* The world's type is not the disk's. */
	GUID type = rig.world->type;

	rig.world->type = BLOCKDEV_INTERFACE_TYPE;
	rig.raw = conf_client(rig.world, &options);
	rig.world->type = type;
	conf_enable(rig.raw);
	conf_await_left(rig.raw, CONF_POST_STARTED, 1);
}

void
rig_client(void)
{
	BLOCKDEV_IDENTITY identity;

	assert_status(BlockClientOpen(NULL, &rig.instance, &rig.client), STATUS_SUCCESS);
	assert_status(BlockClientIdentify(rig.client, &identity, NULL), STATUS_SUCCESS);
}

void
rig_open(struct conf_world *w)
{
	rig_file(w, DISK_BYTES);
	assert_status(rig_start_status(FALSE, FALSE, 0), STATUS_SUCCESS);
	rig_raw();
}

void
rig_close(void)
{
	if (rig.raw != NULL)
		conf_channel_free(rig.raw);
	if (rig.client != NULL)
		BlockClientClose(rig.client);
	if (rig.disk != NULL)
		BlockdevStop(rig.disk);
	assert_int_equal(close(rig.fd), 0);
	assert_int_equal(unlink(rig.path), 0);
}

BLOCKDEV_COUNTERS
counters(void)
{
	BLOCKDEV_COUNTERS now;

	BlockdevGetCounters(rig.disk, &now);
	return now;
}
