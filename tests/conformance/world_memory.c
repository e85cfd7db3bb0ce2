/* SPDX-License-Identifier: MIT */
/*
 * Pool memory with patterns, and MDLs of it.
 */
#include "world.h"

#define CONF_TAG 0x666E6F43u /* "Conf" */

static uint8_t
pattern(uint32_t seed, uint32_t at)
{
	return (uint8_t)((seed * 2654435761u + at * 40503u) >> 7 ^ at);
}

void
conf_fill(void *bytes, uint32_t count, uint32_t seed)
{
	for (uint32_t i = 0; i < count; i++)
		((uint8_t *)bytes)[i] = pattern(seed, i);
}

bool
conf_is_filled(const void *bytes, uint32_t count, uint32_t seed)
{
	for (uint32_t i = 0; i < count; i++) {
		if (((const uint8_t *)bytes)[i] != pattern(seed, i))
			return false;
	}
	return true;
}

void *
conf_pool(uint32_t bytes, uint32_t seed)
{
	void *block = ExAllocatePool2(POOL_FLAG_NON_PAGED, bytes, CONF_TAG);

	assert_non_null(block);
	conf_fill(block, bytes, seed);
	return block;
}

void
conf_pool_free(void *block)
{
	ExFreePoolWithTag(block, CONF_TAG);
}

PMDL
conf_mdl(void *va, uint32_t bytes)
{
	PMDL mdl = IoAllocateMdl(va, bytes, FALSE, FALSE, NULL);

	assert_non_null(mdl);
	MmBuildMdlForNonPagedPool(mdl);
	return mdl;
}

void
conf_mdl_free(PMDL mdl)
{
	while (mdl != NULL) {
		PMDL next = mdl->Next;

		IoFreeMdl(mdl);
		mdl = next;
	}
}
