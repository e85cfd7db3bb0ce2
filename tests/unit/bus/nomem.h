/* SPDX-License-Identifier: MIT */
/*
 * Allocations that fail on purpose: nomem_host.c and nomem_guest.c are the library's own files,
 * compiled with these in place of the C library's.
 */
#ifndef T_NOMEM_H
#define T_NOMEM_H

#include <stddef.h>
#include <stdlib.h>

/* The allocation that fails, counted down from the next; 0 = none. */
extern unsigned t_nomem_countdown;
void *t_nomem_calloc(size_t count, size_t bytes);
void *t_nomem_malloc(size_t bytes);

#endif
