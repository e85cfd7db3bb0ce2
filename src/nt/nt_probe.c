/* SPDX-License-Identifier: MIT */
/*
 * Probing memory. The kernel is asked to fault the pages in (Linux 5.14), which is exact, also
 * for files that are shorter than their mapping. Where it does not know how (older kernels,
 * device memory), /proc/self/maps tells at least what is mapped with which rights.
 */
#include "nt/nt_probe.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif

bool
nt_probe_maps(const void *p, uint64_t bytes, bool write)
{
	uint64_t at = (uint64_t)(uintptr_t)p, from, to;
	const uint64_t end = at + bytes;
	FILE *maps = fopen("/proc/self/maps", "re");
	char rights[5];

	if (maps == NULL)
		return false;
	/* Sorted by address; `at` moves up as parts of the range are found. */
	while (at < end &&
	       fscanf(maps, "%" SCNx64 "-%" SCNx64 " %4s%*[^\n]", &from, &to, rights) == 3) {
		if (to <= at)
			continue;
		if (from > at || rights[0] != 'r' || (write && rights[1] != 'w'))
			break;
		at = to;
	}
	fclose(maps);
	return at >= end;
}

bool
nt_probe(const void *p, uint64_t bytes, bool write)
{
	const uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE);
	const uint64_t start = (uint64_t)(uintptr_t)p;
	const uint64_t first = start & ~(page - 1);
	uint64_t end;

	if (bytes == 0)
		return true;
	if (start + bytes < start || start + bytes > UINT64_MAX - page)
		return false;
	end = (start + bytes + page - 1) & ~(page - 1);
	/* Writable memory that cannot be read is of no use for either direction. */
	if (madvise((void *)(uintptr_t)first, end - first,
		    write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) == 0)
		return true;
	/* EINVAL: an old kernel, special memory, or missing rights. */
	return errno == EINVAL && nt_probe_maps(p, bytes, write);
}
