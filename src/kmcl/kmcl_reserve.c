/* SPDX-License-Identifier: MIT */
#include "kmcl/kmcl_reserve.h"

#include <sys/mman.h>

void *
kmcl_reserve(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return memory != MAP_FAILED ? memory : NULL;
}

void
kmcl_unreserve(void *memory, size_t bytes)
{
	if (memory != NULL)
		munmap(memory, bytes);
}
