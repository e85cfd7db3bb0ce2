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

/* nt_pool_report() of wdm/ex.h, to a file. */
__attribute__((visibility("default"))) size_t nt_pool_report_leaks(FILE *out);

/* Pages of the arena are short: free what checked mode keeps aside. False if that is nothing. */
bool nt_pool_give_back(void);
/* Live blocks; nothing is printed. */
size_t nt_pool_live_blocks(void);

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
