/* SPDX-License-Identifier: MIT */
#include "vm_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#define GUARD (1u << 20)

static void
console(void *ctx, const void *bytes, uint32_t count)
{
	struct vm_rig *rig = ctx;

	assert_true(rig->console_count + count <= sizeof(rig->console));
	memcpy(rig->console + rig->console_count, bytes, count);
	rig->console_count += count;
}

static void
line(void *ctx, bool up)
{
	struct vm_rig *rig = ctx;

	assert_true(up != rig->line);
	rig->line = up;
	rig->line_ups += up;
	rig->line_downs += !up;
}

struct vm_rig *
vm_rig_make(uint32_t cpus)
{
	struct vm_rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig->mapped = mmap(NULL, RIG_MEMORY + 2 * GUARD, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	assert_ptr_not_equal(rig->mapped, MAP_FAILED);
	assert_int_equal(mprotect(rig->mapped + GUARD, RIG_MEMORY, PROT_READ | PROT_WRITE), 0);
	rig->machine.ram = rig->mapped + GUARD;
	rig->machine.options.memory_bytes = RIG_MEMORY;
	rig->machine.options.command_line = "console=ttyS0";
	rig->machine.options.cpus = cpus;
	for (uint32_t i = 0; i < MACHINE_MAX_CPUS; i++)
		rig->machine.cpus[i] = (struct machine_cpu){ .machine = &rig->machine,
			                                     .kick_lock = PTHREAD_MUTEX_INITIALIZER };
	rig->machine.end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	assert_true(rig->machine.end_fd >= 0);
	serial_init(&rig->machine.serial, console, line, rig);
	return rig;
}

void
vm_rig_free(struct vm_rig *rig)
{
	serial_fini(&rig->machine.serial);
	close(rig->machine.end_fd);
	munmap(rig->mapped, RIG_MEMORY + 2 * GUARD);
	free(rig);
}
