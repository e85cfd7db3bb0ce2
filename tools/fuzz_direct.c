/* SPDX-License-Identifier: MIT */
/* Places times comparisons, one after another. */
#include "fuzz_direct.h"

#include <string.h>

/* A case costs as much as any other, and most places are none. */
#define CASES_MAX 200u
#define PLACES_MAX 64u /* bytes of a packet */

void
fuzz_direct_begin(struct fuzz_direct *direct, const struct fuzz_case *c,
                  const struct fuzz_coverage *coverage)
{
	fuzz_direct_clear(direct);
	fuzz_case_copy(&direct->base, c);
	memcpy(direct->comparisons, coverage->comparisons, sizeof(direct->comparisons));
	direct->left = CASES_MAX;
}

void
fuzz_direct_clear(struct fuzz_direct *direct)
{
	fuzz_case_clear(&direct->base);
	direct->step = direct->at = direct->comparison = direct->left = 0;
}

static bool
applies(const struct fuzz_direct *direct, const struct fuzz_bytes *bytes)
{
	const struct fuzz_comparison *comparison = &direct->comparisons[direct->comparison];

	return comparison->bytes != 0 && !comparison->met && direct->at % comparison->bytes == 0 &&
	       direct->at + comparison->bytes <= bytes->size &&
	       memcmp(bytes->data + direct->at, &comparison->with, comparison->bytes) == 0;
}

/* To the next comparison, place, or step. */
static void
advance(struct fuzz_direct *direct)
{
	if (++direct->comparison != FUZZ_COMPARISONS)
		return;
	direct->comparison = 0;
	if (++direct->at < PLACES_MAX && direct->at < direct->base.steps[direct->step].bytes.size)
		return;
	direct->at = 0;
	direct->step++;
}

bool
fuzz_direct_next(struct fuzz_direct *direct, struct fuzz_case *c)
{
	while (direct->left != 0 && direct->step < direct->base.count) {
		const struct fuzz_comparison *comparison = &direct->comparisons[direct->comparison];
		const uint32_t step = direct->step, at = direct->at;
		const bool use = applies(direct, &direct->base.steps[step].bytes);

		advance(direct);
		if (!use)
			continue;
		direct->left--;
		fuzz_case_copy(c, &direct->base);
		memcpy(c->steps[step].bytes.data + at, &comparison->value, comparison->bytes);
		return true;
	}
	fuzz_direct_clear(direct);
	return false;
}
