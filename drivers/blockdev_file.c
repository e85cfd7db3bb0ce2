/* SPDX-License-Identifier: MIT */
/* Opens the file, picks an engine, and what the engines share. */
#include "blockdev_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "blockdev_engine.h"

#define MOST_DEPTH 4096
#define PROBED_BYTES 4096

struct block_file {
	int fd;
	uint64_t bytes;
	bool makes_holes;
	const struct block_engine_ops *ops;
	void *engine;
	char name[96];
};

/* Ranges are handed to the system as they are. */
_Static_assert(sizeof(struct block_range) == sizeof(struct iovec), "struct block_range");
_Static_assert(offsetof(struct block_range, address) == offsetof(struct iovec, iov_base),
               "struct block_range");
_Static_assert(offsetof(struct block_range, bytes) == offsetof(struct iovec, iov_len),
               "struct block_range");

enum block_result
block_result_of_errno(int error)
{
	switch (error) {
	case 0:
		return BLOCK_DONE;
	case ENOENT:
	case ENOTDIR:
		return BLOCK_NOT_FOUND;
	case EACCES:
	case EPERM:
	case EROFS:
		return BLOCK_REFUSED;
	case EWOULDBLOCK:
		return BLOCK_IN_USE;
	case ENOMEM:
		return BLOCK_NO_MEMORY;
	case ENOSPC:
	case EDQUOT:
	case EFBIG:
		return BLOCK_FULL;
	case EOPNOTSUPP:
	case ENOSYS:
		return BLOCK_UNSUPPORTED;
	default:
		return BLOCK_FAILED;
	}
}

int
block_fallocate_mode(enum block_action action)
{
	return FALLOC_FL_KEEP_SIZE |
	       (action == BLOCK_DISCARD ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE);
}

bool
block_io_advance(struct block_io *io, size_t bytes)
{
	io->offset += bytes;
	while (io->range_count != 0 && bytes >= io->ranges->bytes) {
		bytes -= io->ranges->bytes;
		io->ranges++;
		io->range_count--;
	}
	if (io->range_count == 0)
		return true;
	io->ranges->address = (char *)io->ranges->address + bytes;
	io->ranges->bytes -= bytes;
	return false;
}

/* A descriptor of a file that may be used, or a negative errno value; BLOCK_WRONG_KIND is -ENOTBLK. */
static int
open_locked(const char *path, bool read_only, uint64_t *bytes)
{
	struct stat info;
	off_t end;
	int error;
	/* Not blocking, because it could be a pipe; harmless but for the flag, which goes below. */
	int fd = open(path, (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0)
		return errno == EISDIR || errno == ENXIO ? -ENOTBLK : -errno;
	if (fstat(fd, &info) != 0)
		goto fail;
	if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode)) {
		errno = ENOTBLK;
		goto fail;
	}
	if (fcntl(fd, F_SETFL, 0) != 0)
		goto fail;
	if (flock(fd, (read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0)
		goto fail;
	end = lseek(fd, 0, SEEK_END);
	if (end < 0)
		goto fail;
	*bytes = (uint64_t)end;
	return fd;

fail:
	error = errno;
	(void)close(fd);
	return -error;
}

/*
 * Asked of the file system by a hole behind the end, which changes nothing. A block device would
 * have to be asked at the cost of its data.
 */
static bool
probe_holes(int fd, const struct block_file_options *options, uint64_t bytes)
{
	struct stat info;

	return !options->read_only && fstat(fd, &info) == 0 && S_ISREG(info.st_mode) &&
	       fallocate(fd, block_fallocate_mode(BLOCK_DISCARD), (off_t)bytes, PROBED_BYTES) == 0;
}

static int
open_engine(struct block_file *file, const struct block_file_options *options)
{
	int error;

	(void)snprintf(file->name, sizeof(file->name), "threads");
	if (options->engine == BLOCK_ENGINE_BEST) {
#ifdef BLOCKDEV_WITH_URING
		error = block_uring_ops.open(file->fd, options->depth, &file->engine);
		if (error == 0) {
			file->ops = &block_uring_ops;
			(void)snprintf(file->name, sizeof(file->name), "io_uring");
			return 0;
		}
		(void)snprintf(file->name, sizeof(file->name), "threads (no io_uring: %s)",
		               strerror(error));
#else
		(void)snprintf(file->name, sizeof(file->name), "threads (built without io_uring)");
#endif
	}
	error = block_threads_ops.open(file->fd, options->depth, &file->engine);
	if (error == 0)
		file->ops = &block_threads_ops;
	return error;
}

enum block_result
block_file_open(const struct block_file_options *options, struct block_file **file)
{
	struct block_file *made;
	int error;

	*file = NULL;
	if (options->depth == 0 || options->depth > MOST_DEPTH)
		return BLOCK_NO_MEMORY;
	made = calloc(1, sizeof(*made));
	if (made == NULL)
		return BLOCK_NO_MEMORY;
	made->fd = open_locked(options->path, options->read_only, &made->bytes);
	if (made->fd < 0) {
		error = -made->fd;
		free(made);
		return error == ENOTBLK ? BLOCK_WRONG_KIND : block_result_of_errno(error);
	}
	made->makes_holes = probe_holes(made->fd, options, made->bytes);
	error = open_engine(made, options);
	if (error != 0) {
		(void)flock(made->fd, LOCK_UN);
		(void)close(made->fd);
		free(made);
		return error == EAGAIN ? BLOCK_NO_MEMORY : block_result_of_errno(error);
	}
	*file = made;
	return BLOCK_DONE;
}

void
block_file_close(struct block_file *file)
{
	file->ops->close(file->engine);
	/* Now, for who opens it next: a ring that is going away may keep the file for a while. */
	(void)flock(file->fd, LOCK_UN);
	(void)close(file->fd);
	free(file);
}

uint64_t
block_file_bytes(const struct block_file *file)
{
	return file->bytes;
}

bool
block_file_makes_holes(const struct block_file *file)
{
	return file->makes_holes;
}

const char *
block_file_engine(const struct block_file *file)
{
	return file->name;
}

void
block_file_queue(struct block_file *file, struct block_io *io)
{
	io->next = NULL;
	io->slot = NULL;
	file->ops->queue(file->engine, io);
}

void
block_file_kick(struct block_file *file)
{
	file->ops->kick(file->engine);
}
