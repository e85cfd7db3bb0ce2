/* SPDX-License-Identifier: MIT */
/* External data of a packet that `kmcl fuzz` sends, with a guard around it: who writes too much is seen. */
#ifndef TOOLS_FUZZ_EXTERNAL_H
#define TOOLS_FUZZ_EXTERNAL_H

#include <wdm.h>

#include "fuzz_case.h"

struct fuzz_external {
	uint8_t *pages;
	uint32_t offset, bytes, all;
	PMDL mdl;
};

/* False: no memory, but there may be something to free. */
bool fuzz_external_make(struct fuzz_external *external, const struct fuzz_range *range);
/* False: `*behind` is where the first byte outside was written, counted from the end, or negative from the beginning. */
bool fuzz_external_is_intact(const struct fuzz_external *external, int32_t *behind);
void fuzz_external_free(struct fuzz_external *external);

#endif
