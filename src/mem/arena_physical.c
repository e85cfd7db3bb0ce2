/* SPDX-License-Identifier: MIT */
/*
 * Physical arenas: pages that stay where they are, and their numbers in the memory of this machine.
 *
 * Locked pages may still be moved (compaction, hot-unplug), which would leave the host below us reading and writing
 * somebody else's page. So pages are pinned, by registering them as buffers of an io_uring that does no I/O; their numbers are read
 * after that. Huge pages that somebody has reserved are not moved in practice and serve where there is no io_uring.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "mem/arena_internal.h"

/* Of one registered buffer. */
#define PIN_CHUNK_BYTES (UINT64_C(1) << 30)
#define PIN_CHUNKS_MAX 64u
/* An entry of pagemap: bit 63 says that the page is there, bits 0 to 54 where. */
#define PAGEMAP_PRESENT (UINT64_C(1) << 63)
#define PAGEMAP_PFN ((UINT64_C(1) << 55) - 1)
#define PAGEMAP_BATCH 512u

static void __attribute__((format(printf, 2, 3)))
say(char *reason, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(reason, VMB_ARENA_REASON_BYTES, format, args);
	va_end(args);
}

/* The descriptor that holds the pins, or -1 with errno. */
static int
pin_pages(uint8_t *base, uint64_t bytes)
{
	struct iovec chunks[PIN_CHUNKS_MAX];
	struct io_uring_params params = { 0 };
	unsigned count = 0;
	int fd, error;

	for (uint64_t at = 0; at < bytes; at += PIN_CHUNK_BYTES) {
		if (count == PIN_CHUNKS_MAX) {
			errno = ENOMEM;
			return -1;
		}
		chunks[count++] = (struct iovec){
			base + at,
			bytes - at < PIN_CHUNK_BYTES ? bytes - at : PIN_CHUNK_BYTES,
		};
	}
	fd = (int)syscall(SYS_io_uring_setup, 1, &params);
	if (fd < 0)
		return -1;
	if (syscall(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS, chunks, count) == 0)
		return fd;
	error = errno;
	close(fd);
	errno = error;
	return -1;
}

static enum vmb_status
read_numbers(struct vmb_arena *arena, char *reason)
{
	const uint64_t first = (uintptr_t)arena->base / ARENA_PAGE_BYTES;
	enum vmb_status st = VMB_OK;
	uint64_t batch[PAGEMAP_BATCH];
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);

	if (fd < 0) {
		say(reason, "/proc/self/pagemap: %s; it tells where pages are", strerror(errno));
		return VMB_E_ACCESS;
	}
	for (uint32_t page = 0; page < arena->pages && st == VMB_OK; page += PAGEMAP_BATCH) {
		const uint32_t count = arena->pages - page < PAGEMAP_BATCH ? arena->pages - page : PAGEMAP_BATCH;
		const ssize_t want = (ssize_t)(count * sizeof(batch[0]));

		if (pread(fd, batch, (size_t)want, (off_t)((first + page) * sizeof(batch[0]))) != want) {
			say(reason, "/proc/self/pagemap cannot be read");
			st = VMB_E_IO;
		}
		for (uint32_t i = 0; i < count && st == VMB_OK; i++) {
			arena->physical[page + i] = batch[i] & PAGEMAP_PFN;
			if ((batch[i] & PAGEMAP_PRESENT) == 0) {
				say(reason, "a page is not in memory; set a smaller KMCL_RAM_MIB");
				st = VMB_E_NO_MEMORY;
			} else if (arena->physical[page + i] == 0) {
				say(reason, "Linux hides page numbers from this process; run it as root (CAP_SYS_ADMIN)");
				st = VMB_E_ACCESS;
			}
		}
	}
	close(fd);
	return st;
}

void
arena_forget_physical(struct vmb_arena *arena)
{
	free(arena->physical);
	arena->physical = NULL;
	if (arena->pin_fd >= 0)
		close(arena->pin_fd);
	arena->pin_fd = -1;
}

/* One kind of file: mapped, present, pinned if it has to be, numbers known. */
static enum vmb_status
back_with(struct vmb_arena *arena, bool huge, char *reason)
{
	enum vmb_status st;

	arena->fd = arena_open_file(huge ? MFD_HUGETLB : 0);
	if (arena->fd < 0) {
		say(reason, "a memfd: %s", strerror(errno));
		return errno == ENOMEM ? VMB_E_NO_MEMORY : VMB_E_IO;
	}
	st = arena_map_file(arena, MAP_POPULATE);
	if (st != VMB_OK) {
		say(reason, "%llu MiB of %s cannot be had; set a smaller KMCL_RAM_MIB",
		    (unsigned long long)(arena->bytes >> 20), huge ? "huge pages" : "memory");
		goto close_fd;
	}
	arena->pin_fd = huge ? -1 : pin_pages(arena->base, arena->bytes);
	if (!huge && arena->pin_fd < 0) {
		st = errno == ENOMEM || errno == EFAULT || errno == EAGAIN ? VMB_E_NO_MEMORY : VMB_E_UNSUPPORTED;
		if (st == VMB_E_NO_MEMORY)
			say(reason, "%llu MiB cannot be pinned: %s; set a smaller KMCL_RAM_MIB or raise `ulimit -l`",
			    (unsigned long long)(arena->bytes >> 20), strerror(errno));
		else
			say(reason, "pages cannot be pinned: io_uring: %s; allow it (kernel.io_uring_disabled=0) or "
			    "reserve huge pages (vm.nr_hugepages)", strerror(errno));
		goto unmap;
	}
	arena->physical = malloc(arena->pages * sizeof(arena->physical[0]));
	st = VMB_E_NO_MEMORY;
	if (arena->physical != NULL)
		st = read_numbers(arena, reason);
	if (st == VMB_OK)
		return VMB_OK;
	arena_forget_physical(arena);
unmap:
	munmap(arena->base, arena->bytes);
close_fd:
	close(arena->fd);
	return st;
}

enum vmb_status
arena_back_physical(struct vmb_arena *arena, char *reason)
{
	char second[VMB_ARENA_REASON_BYTES];
	enum vmb_status st = back_with(arena, false, reason);

	/* Ordinary pages first: a host in another process can map those, and single ones of them. */
	if (st != VMB_E_UNSUPPORTED || arena->bytes % (2u << 20) != 0)
		return st;
	return back_with(arena, true, second) == VMB_OK ? VMB_OK : st;
}

bool
vmb_arena_is_physical(const struct vmb_arena *arena)
{
	return arena->physical != NULL;
}

bool
vmb_arena_to_physical(const struct vmb_arena *arena, uint8_t *pfns, uint32_t count)
{
	if (arena->physical == NULL)
		return false;
	for (uint32_t i = 0; i < count; i++) {
		uint64_t pfn;

		memcpy(&pfn, pfns + 8 * (size_t)i, sizeof(pfn));
		pfn = le64toh(pfn);
		if (pfn >= arena->pages)
			return false;
		pfn = htole64(arena->physical[pfn]);
		memcpy(pfns + 8 * (size_t)i, &pfn, sizeof(pfn));
	}
	return true;
}
