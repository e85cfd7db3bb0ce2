/* SPDX-License-Identifier: MIT */
/* New cases from old ones, by a random sequence that a seed decides. */
#ifndef TOOLS_FUZZ_MUTATE_H
#define TOOLS_FUZZ_MUTATE_H

#include "fuzz_case.h"
#include "fuzz_coverage.h"

struct fuzz_random {
	uint64_t state;
};
/* Below `limit`, which is not 0. */
uint32_t fuzz_below(struct fuzz_random *random, uint32_t limit);

struct fuzz_dictionary {
	struct fuzz_bytes *words;
	uint32_t count;
};
/*
 * A dictionary as other fuzzers have them: lines of "text", with \xNN in it, maybe after a name and =; # begins a comment. False:
 * a message was printed.
 */
bool fuzz_dictionary_read(struct fuzz_dictionary *dictionary, const char *path);

struct fuzz_mutator {
	struct fuzz_random random;
	struct fuzz_dictionary dictionary;
	const struct fuzz_coverage *coverage; /* for what the driver compares */
	uint32_t channels;                    /* that the driver offers */
	uint32_t packet_max;                  /* bytes of a packet */
	uint32_t external_max;                /* bytes of a range; 0: no external data */
	uint32_t steps_max;
};

/* Some small changes. `other` lends steps. */
void fuzz_mutate(struct fuzz_mutator *m, struct fuzz_case *c, const struct fuzz_case *other);

#endif
