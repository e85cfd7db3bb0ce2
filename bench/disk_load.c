/* SPDX-License-Identifier: MIT */
/*
 * Random reads of 4 KiB from a disk, in a guest: so many in flight, and all that have ended are replaced by one system call.
 *
 *   disk_load DEVICE DEPTH READS ROW
 *
 * Prints {"ns_each": ..., "interrupts": ...}; interrupts are those of the rows of /proc/interrupts that have the text ROW.
 * The kernel's own asynchronous I/O, so that no library is needed in the guest.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096u
#define DEPTH_MAX 256u

static void
fail(const char *what)
{
	fprintf(stderr, "disk_load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t
now_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Of all processors: a row is a name, a count for each processor, and words. */
static uint64_t
interrupts(const char *text)
{
	FILE *file = fopen("/proc/interrupts", "re");
	char row[4096];
	uint64_t sum = 0;

	if (file == NULL)
		fail("/proc/interrupts");
	while (fgets(row, sizeof(row), file) != NULL) {
		char *at = strchr(row, ':'), *end;

		if (strstr(row, text) == NULL || at == NULL)
			continue;
		for (at++;; at = end) {
			uint64_t count = strtoull(at, &end, 10);

			if (end == at)
				break;
			sum += count;
		}
	}
	fclose(file);
	return sum;
}

struct load {
	aio_context_t context;
	int fd;
	uint64_t blocks, state;
	struct iocb cbs[DEPTH_MAX];
	uint8_t *buffers;
};

static uint64_t
some_block(struct load *load)
{
	load->state ^= load->state << 13;
	load->state ^= load->state >> 7;
	load->state ^= load->state << 17;
	return load->state % load->blocks;
}

static void
prepare(struct load *load, struct iocb *cb)
{
	const size_t slot = (size_t)(cb - load->cbs);

	*cb = (struct iocb){ .aio_data = slot,
		             .aio_lio_opcode = IOCB_CMD_PREAD,
		             .aio_fildes = (uint32_t)load->fd,
		             .aio_buf = (uintptr_t)(load->buffers + slot * BLOCK),
		             .aio_nbytes = BLOCK,
		             .aio_offset = (int64_t)(some_block(load) * BLOCK) };
}

static void
submit(struct load *load, struct iocb **cbs, long count)
{
	while (count != 0) {
		long taken = syscall(SYS_io_submit, load->context, count, cbs);

		if (taken <= 0)
			fail("io_submit");
		cbs += taken;
		count -= taken;
	}
}

static void
read_all(struct load *load, long depth, long reads)
{
	struct iocb *ready[DEPTH_MAX];
	struct io_event events[DEPTH_MAX];
	long asked = 0, done = 0;

	for (; asked < depth && asked < reads; asked++) {
		ready[asked] = &load->cbs[asked];
		prepare(load, ready[asked]);
	}
	submit(load, ready, asked);
	while (done < reads) {
		long ended = syscall(SYS_io_getevents, load->context, 1L, depth, events, NULL), again = 0;

		if (ended < 1)
			fail("io_getevents");
		for (long i = 0; i < ended; i++) {
			if (events[i].res != BLOCK) {
				errno = events[i].res < 0 ? (int)-events[i].res : EIO;
				fail("a read");
			}
			if (asked == reads)
				continue;
			ready[again] = &load->cbs[events[i].data];
			prepare(load, ready[again++]);
			asked++;
		}
		done += ended;
		submit(load, ready, again);
	}
}

int
main(int argc, char **argv)
{
	struct load load = { .state = 0x9E3779B97F4A7C15u };
	uint64_t began, ns, before, after;
	long depth, reads;
	off_t bytes;

	if (argc != 5 || (depth = atol(argv[2])) < 1 || depth > (long)DEPTH_MAX || (reads = atol(argv[3])) < 1) {
		fprintf(stderr, "usage: disk_load DEVICE DEPTH(1 to %u) READS ROW\n", DEPTH_MAX);
		return 2;
	}
	load.fd = open(argv[1], O_RDONLY | O_DIRECT | O_CLOEXEC);
	if (load.fd < 0)
		fail(argv[1]);
	bytes = lseek(load.fd, 0, SEEK_END);
	if (bytes < (off_t)BLOCK) {
		errno = EINVAL;
		fail("its size");
	}
	load.blocks = (uint64_t)bytes / BLOCK;
	load.buffers = aligned_alloc(BLOCK, (size_t)depth * BLOCK);
	if (load.buffers == NULL)
		fail("memory");
	memset(load.buffers, 0, (size_t)depth * BLOCK);
	if (syscall(SYS_io_setup, (unsigned)depth, &load.context) != 0)
		fail("io_setup");
	before = interrupts(argv[4]);
	began = now_ns();
	read_all(&load, depth, reads);
	ns = now_ns() - began;
	after = interrupts(argv[4]);
	printf("{\"ns_each\": %.1f, \"interrupts\": %llu}\n", (double)ns / (double)reads, (unsigned long long)(after - before));
	return 0;
}
