/* SPDX-License-Identifier: MIT */
/* A machine without KVM: its memory, between pages that nobody may touch, and its parts. */
#ifndef T_VM_RIG_H
#define T_VM_RIG_H

#include "machine_internal.h"

#define RIG_MEMORY (32u << 20)

struct vm_rig {
	struct machine machine;
	uint8_t *mapped;
	char console[4096];
	uint32_t console_count;
	unsigned line_ups, line_downs;
	bool line;
};

struct vm_rig *vm_rig_make(uint32_t cpus);
void vm_rig_free(struct vm_rig *rig);

#endif
