/* SPDX-License-Identifier: MIT */
/*
 * Memory that a channel must have at hand and hardly ever uses: address space of its own, zero, which takes pages only
 * where it is written. A heap would write its own notes into every piece, and so cost each idle channel a page for it.
 */
#ifndef KMCL_RESERVE_H
#define KMCL_RESERVE_H

#include <stddef.h>

/* NULL: there is none. */
void *kmcl_reserve(size_t bytes);
/* `bytes` as reserved; NULL is allowed. */
void kmcl_unreserve(void *memory, size_t bytes);

#endif
