/* SPDX-License-Identifier: MIT */
/* For ports both of whose ends are in this process. */
#ifndef PORT_LOCAL_H
#define PORT_LOCAL_H

#include "vmb/ring.h"

/*
 * What the ends of rings between two parts of this process are given; it lives as long as the process. NULL where the kernel, or a
 * filter of system calls, refuses what it takes; that is asked once. Any thread.
 */
const struct vmb_ring_local *port_local(void);

#endif
