/* SPDX-License-Identifier: MIT */
/*
 * Pool memory, for the library itself and for the program that hosts drivers.
 */
#ifndef NT_POOL_H
#define NT_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Print live blocks, summed by tag, and return how many there are. Runs by itself at exit, to
 * stderr, when KMCL_POOL_REPORT=1 is in the environment.
 */
__attribute__((visibility("default"))) size_t nt_pool_report_leaks(FILE *out);

/* What the pool knows of a live block; false if `p` is not the first byte of one. */
struct nt_pool_block {
	size_t bytes;           /* as asked for */
	uint32_t tag;
};
bool nt_pool_find(const void *p, struct nt_pool_block *block);

#ifdef __cplusplus
}
#endif
#endif
