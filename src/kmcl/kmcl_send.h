/* SPDX-License-Identifier: MIT */
/* Checks that the packet sends and the synchronous request share. */
#ifndef KMCL_SEND_H
#define KMCL_SEND_H

#include "kmcl/kmcl_channel.h"

/* OUT-12: known bits, not both direction hints. */
bool kmcl_send_flags_are_valid(UINT32 flags);
/* OUT-15: a pageable buffer at DISPATCH_LEVEL is a misuse. */
void kmcl_send_check_irql(struct kmcl_channel *ch, UINT32 flags, const char *function);
/*
 * With PAGED_BUFFER: look at each page of the buffer while nothing is held and nothing has
 * changed. A page that cannot be read faults here, where the caller's own handler can recover
 * (OUT-16).
 */
void kmcl_send_touch(const void *buffer, UINT32 bytes, UINT32 flags);

#endif
