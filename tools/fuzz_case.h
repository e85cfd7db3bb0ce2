/* SPDX-License-Identifier: MIT */
/*
 * What `kmcl fuzz` does to a driver in one go, and its text. A case is a list of steps; the text has a line for each, so that
 * people can read, shorten and write cases:
 *
 *   packet CHANNEL ask|tell wait|go BYTES     send a packet to the n-th offer; `ask` requests a completion, `wait` sees to it that
 *                                             the driver is done with everything before the next step
 *   range OFFSET BYTES                        external data of the packet above: so many bytes behind the beginning of a page
 *   answer BYTES                              what the next packet that the driver sends is completed with
 *   reopen                                    close all channels; the next packet opens its own again
 *
 * BYTES are pairs of hex digits; `aa*20` stands for twenty, commas may stand between, `-` is none. # begins a comment.
 */
#ifndef TOOLS_FUZZ_CASE_H
#define TOOLS_FUZZ_CASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define FUZZ_RANGES_MAX 8
#define FUZZ_BYTES_MAX (1u << 20) /* of a packet or a range */

struct fuzz_bytes {
	uint8_t *data;
	uint32_t size;
};

struct fuzz_range {
	uint32_t offset; /* below 4096 */
	struct fuzz_bytes bytes;
};

enum fuzz_step_kind {
	FUZZ_PACKET,
	FUZZ_ANSWER,
	FUZZ_REOPEN,
};

struct fuzz_step {
	enum fuzz_step_kind kind;
	uint32_t channel;
	bool ask, wait;
	struct fuzz_bytes bytes;
	struct fuzz_range ranges[FUZZ_RANGES_MAX];
	uint32_t range_count;
};

struct fuzz_case {
	struct fuzz_step *steps;
	uint32_t count, room;
};

/* Memory that cannot be had ends the process: the fuzzer has nothing better to do. */

void fuzz_bytes_set(struct fuzz_bytes *bytes, const void *data, uint32_t size);
/* The first bytes stay, new ones are zero. */
void fuzz_bytes_resize(struct fuzz_bytes *bytes, uint32_t size);

void fuzz_case_clear(struct fuzz_case *c);
/* A place for a new step before `at`, all zero. */
struct fuzz_step *fuzz_case_insert(struct fuzz_case *c, uint32_t at);
void fuzz_case_remove(struct fuzz_case *c, uint32_t at, uint32_t count);
void fuzz_case_copy(struct fuzz_case *to, const struct fuzz_case *from);
/* Copies of so many steps, put before `at`. */
void fuzz_case_splice(struct fuzz_case *to, uint32_t at, const struct fuzz_case *from,
                      uint32_t first, uint32_t count);

/* Terminated; free(3) it. */
char *fuzz_case_format(const struct fuzz_case *c, size_t *length);
/* False: `error` (at least 128 bytes) says in which line and what is expected. The case is empty then. */
bool fuzz_case_parse(const char *text, struct fuzz_case *c, char *error);

#endif
