/* SPDX-License-Identifier: MIT */
/* The files below the SCSI controller's fuzzer: they fail and wait on request, and a model says what must be in them. */
#include "fuzz_storvsp.h"
#include "storvsp_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define ODD_BYTES 100u /* at the end of the third */
#define BROKEN_BYTES ((off_t)3 << 40)

static int fds[DISKS];
static uint8_t model[BROKEN][DISK_BYTES];
static bool unsure[BROKEN][DISK_BLOCKS], changed;
/* world.lock */
static bool hold_sync, hold_work, work_is_held;
static uint32_t held_syncs;

/* ---- what lies below the threads engine ------------------------------------------------------- */

ssize_t __real_preadv64(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __wrap_preadv64(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __real_pwritev64(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __real_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
ssize_t __wrap_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags);
int __real_fallocate64(int fd, int mode, off_t offset, off_t bytes);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t bytes);
int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);

#define SHORT (-1) /* a read finds the end of the file, a write no room */

static atomic_int fail_with;

void
fail_files(uint32_t how)
{
	static const int errors[FAILURES] = { 0,      EIO,    ENOMEM, ENOSPC,     EDQUOT, EFBIG,
		                              EACCES, EPERM,  EROFS,  EOPNOTSUPP, ENOSYS, ENOENT,
		                              EINTR,  EAGAIN, SHORT,  EBUSY,      ENXIO };

	atomic_store(&fail_with, errors[how]);
}

static off_t
size_of(int fd)
{
	struct stat info;

	FUZZ_CHECK(fstat(fd, &info) == 0);
	return info.st_size;
}

/* 1: do it; 0: nothing gets done; -1: errno says why. Once. */
static int
outcome(int fd)
{
	int how = atomic_exchange(&fail_with, 0);

	if (how == 0 && size_of(fd) == BROKEN_BYTES)
		how = EIO;
	errno = how;
	return how == SHORT ? 0 : how == 0 ? 1 : -1;
}

/* Nobody is told of the moment, so it is watched for. */
static void
wait_for_leaving(void)
{
	pthread_mutex_lock(&world.lock);
	if (!hold_work) {
		pthread_mutex_unlock(&world.lock);
		return;
	}
	hold_work = false;
	work_is_held = true;
	pthread_cond_broadcast(&world.changed);
	pthread_mutex_unlock(&world.lock);
	while (storvsp_load(&world.storvsp->channels[0].suspended) == 0)
		(void)sched_yield();
}

ssize_t
__wrap_preadv64(int fd, const struct iovec *iov, int count, off_t offset)
{
	const int how = outcome(fd);

	wait_for_leaving();
	return how != 1 ? how : __real_preadv64(fd, iov, count, offset);
}

ssize_t
__wrap_pwritev64(int fd, const struct iovec *iov, int count, off_t offset)
{
	const int how = outcome(fd);

	return how != 1 ? how : __real_pwritev64(fd, iov, count, offset);
}

ssize_t
__wrap_pwritev64v2(int fd, const struct iovec *iov, int count, off_t offset, int flags)
{
	const int how = outcome(fd);

	return how != 1 ? how : __real_pwritev64v2(fd, iov, count, offset, flags);
}

/* What lies in memory can be a hole, but not become zeros in another way: here it can. */
int
__wrap_fallocate64(int fd, int mode, off_t offset, off_t bytes)
{
	if (size_of(fd) % BLOCK != 0) {
		errno = EOPNOTSUPP;
		return -1;
	}
	wait_for_leaving();
	if (outcome(fd) < 0)
		return -1;
	return __real_fallocate64(fd, (mode & FALLOC_FL_KEEP_SIZE) | FALLOC_FL_PUNCH_HOLE, offset,
	                          bytes);
}

int
__wrap_fdatasync(int fd)
{
	pthread_mutex_lock(&world.lock);
	if (hold_sync) {
		held_syncs++;
		pthread_cond_broadcast(&world.changed);
		while (hold_sync)
			pthread_cond_wait(&world.changed, &world.lock);
	}
	pthread_mutex_unlock(&world.lock);
	return outcome(fd) < 0 ? -1 : __real_fdatasync(fd);
}

void
hold_syncs(void)
{
	pthread_mutex_lock(&world.lock);
	hold_sync = true;
	held_syncs = 0;
	pthread_mutex_unlock(&world.lock);
}

bool
await_held_syncs(uint32_t count, const struct question *question)
{
	bool are_held;

	pthread_mutex_lock(&world.lock);
	while (held_syncs != count && !question->is_answered)
		pthread_cond_wait(&world.changed, &world.lock);
	are_held = held_syncs == count;
	pthread_mutex_unlock(&world.lock);
	return are_held;
}

void
release_syncs(void)
{
	pthread_mutex_lock(&world.lock);
	hold_sync = false;
	pthread_cond_broadcast(&world.changed);
	pthread_mutex_unlock(&world.lock);
}

void
hold_until_leaving(void)
{
	pthread_mutex_lock(&world.lock);
	hold_work = true;
	work_is_held = false;
	pthread_mutex_unlock(&world.lock);
}

bool
await_held_work(const struct question *question)
{
	bool is_held;

	pthread_mutex_lock(&world.lock);
	while (!work_is_held && !question->is_answered)
		pthread_cond_wait(&world.changed, &world.lock);
	is_held = work_is_held;
	hold_work = false;
	pthread_mutex_unlock(&world.lock);
	return is_held;
}

/* ---- what must be in them ------------------------------------------------------------------------ */

const char *
make_file(uint32_t disk)
{
	static char paths[DISKS][64];

	fds[disk] = memfd_create("disk", 0);
	FUZZ_CHECK(ftruncate(fds[disk], disk == BROKEN ? BROKEN_BYTES
	                                : disk == 2    ? DISK_BYTES + ODD_BYTES
	                                               : DISK_BYTES) == 0);
	/* One that nobody writes has something in it. */
	for (uint32_t i = 0; disk == READ_ONLY && i < DISK_BYTES; i++)
		model[disk][i] = (uint8_t)(i / BLOCK * 7 + i % 251);
	if (disk != BROKEN)
		FUZZ_CHECK(pwrite(fds[disk], model[disk], DISK_BYTES, 0) == DISK_BYTES);
	(void)snprintf(paths[disk], sizeof(paths[disk]), "/proc/self/fd/%d", fds[disk]);
	return paths[disk];
}

void
begin_files(void)
{
	if (!changed)
		return;
	changed = false;
	memset(unsure, 0, sizeof(unsure));
	for (uint32_t i = 0; i < BROKEN; i++) {
		if (i == READ_ONLY)
			continue;
		memset(model[i], 0, sizeof(model[i]));
		FUZZ_CHECK(pwrite(fds[i], model[i], DISK_BYTES, 0) == DISK_BYTES);
	}
}

void
check_files(void)
{
	static uint8_t is[DISK_BYTES];

	for (uint32_t i = 0; i < BROKEN; i++) {
		FUZZ_CHECK(pread(fds[i], is, DISK_BYTES, 0) == DISK_BYTES);
		for (uint32_t block = 0; block < DISK_BLOCKS; block++)
			FUZZ_CHECK(model_allows(i, block, is + block * BLOCK));
	}
}

void
model_write(uint32_t disk, uint64_t block, const uint8_t *bytes)
{
	FUZZ_CHECK(disk < BROKEN && disk != READ_ONLY && block < DISK_BLOCKS);
	changed = true;
	unsure[disk][block] = bytes == NULL;
	if (bytes != NULL)
		memcpy(model[disk] + block * BLOCK, bytes, BLOCK);
}

bool
model_allows(uint32_t disk, uint64_t block, const uint8_t *bytes)
{
	FUZZ_CHECK(disk < BROKEN && block < DISK_BLOCKS);
	return unsure[disk][block] || memcmp(model[disk] + block * BLOCK, bytes, BLOCK) == 0;
}
