/* SPDX-License-Identifier: MIT */
/*
 * Whether memory of this process can be read or written, without touching it in a way that could
 * fault.
 */
#ifndef NT_PROBE_H
#define NT_PROBE_H

#include <stdbool.h>
#include <stdint.h>

/* Also brings the pages in. Context: may sleep. */
bool nt_probe(const void *p, uint64_t bytes, bool write);
/* By the rights that /proc/self/maps shows; the second choice. `p + bytes` does not wrap. */
bool nt_probe_maps(const void *p, uint64_t bytes, bool write);

#endif
