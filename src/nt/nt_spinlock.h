/* SPDX-License-Identifier: MIT */
/*
 * Spin locks at any level: neither a look at the IRQL nor a change of it.
 */
#ifndef NT_SPINLOCK_H
#define NT_SPINLOCK_H

#include "wdm/ke.h"

void nt_spin_lock(PKSPIN_LOCK lock);
void nt_spin_unlock(PKSPIN_LOCK lock);

#endif
