/* SPDX-License-Identifier: MIT */
/* The search: case after case until something is found often enough, or time or runs are over. */
#ifndef TOOLS_FUZZ_CAMPAIGN_H
#define TOOLS_FUZZ_CAMPAIGN_H

#include "fuzz_host.h"
#include "fuzz_mutate.h"

struct fuzz_campaign {
	struct fuzz_host *host;
	struct fuzz_mutator mutator;
	const char *directory; /* of findings */
	const char *corpus;
	uint64_t seed;
	uint64_t runs;     /* 0: no limit */
	double seconds;    /* 0: no limit */
	uint32_t findings; /* ends after so many different ones */
	uint32_t restart;  /* cases of one worker */
	uint32_t tries;    /* workers that may be spent on shrinking one finding */
};

/* An exit status of the command. */
int fuzz_campaign_run(const struct fuzz_campaign *campaign);
/* The case of this file, once, in a fresh worker. */
int fuzz_campaign_replay(struct fuzz_host *host, const char *path);

#endif
