/* SPDX-License-Identifier: MIT */
/* External data in whole pages of pool memory, which the driver gets where it lies. */
#include "fuzz_external.h"

#include <string.h>

#define GUARD 0xc5
#define FUZZ_TAG 'zzuF'

void
fuzz_external_free(struct fuzz_external *external)
{
	if (external->mdl != NULL)
		IoFreeMdl(external->mdl);
	if (external->pages != NULL)
		ExFreePoolWithTag(external->pages, FUZZ_TAG);
}

/* One page more than it takes is behind it. */
bool
fuzz_external_make(struct fuzz_external *external, const struct fuzz_range *range)
{
	const uint32_t end = range->offset + range->bytes.size;

	*external = (struct fuzz_external){ .offset = range->offset, .bytes = range->bytes.size };
	external->all = (end + 2 * PAGE_SIZE - 1) / PAGE_SIZE * PAGE_SIZE;
	external->pages =
	    ExAllocatePool2(POOL_FLAG_NON_PAGED | POOL_FLAG_UNINITIALIZED, external->all, FUZZ_TAG);
	if (external->pages == NULL)
		return false;
	memset(external->pages, GUARD, external->all);
	memcpy(external->pages + external->offset, range->bytes.data, external->bytes);
	external->mdl =
	    IoAllocateMdl(external->pages + external->offset, external->bytes, FALSE, FALSE, NULL);
	if (external->mdl != NULL)
		MmBuildMdlForNonPagedPool(external->mdl);
	return external->mdl != NULL;
}

bool
fuzz_external_is_intact(const struct fuzz_external *external, int32_t *behind)
{
	const uint32_t end = external->offset + external->bytes;

	for (uint32_t i = external->offset; i-- != 0;) {
		if (external->pages[i] != GUARD) {
			*behind = -(int32_t)(external->offset - i);
			return false;
		}
	}
	for (uint32_t i = end; i < external->all; i++) {
		if (external->pages[i] != GUARD) {
			*behind = (int32_t)(i - end);
			return false;
		}
	}
	return true;
}
