/* SPDX-License-Identifier: MIT */
/* One processor: what it is, how it starts, and its thread. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "machine_internal.h"

#define MAX_LEAVES 256u
#define LEAF_FEATURES 0x00000001u
#define LEAF_TOPOLOGY 0x0000000Bu
#define LEAF_TOPOLOGY_V2 0x0000001Fu
#define LEAF_HYPERVISOR 0x40000000u
#define LEAF_HYPERVISOR_END 0x50000000u
#define LEAF_EXTENDED_FEATURES 0x80000001u
#define LEAF_EXTENDED_TOPOLOGY 0x8000001Eu
#define FEATURE_HYPERVISOR (1u << 31)
#define FEATURE_VMX (1u << 5)
#define FEATURE_SVM (1u << 2)

/* Descriptors of flat segments: code and data, 64-bit or 32-bit. */
#define SELECTOR_CODE 0x10u
#define SELECTOR_DATA 0x18u

#define CR0_PE 0x1u
#define CR0_ET 0x10u
#define CR0_PG 0x80000000u
#define CR4_PAE 0x20u
#define EFER_LME 0x100u
#define EFER_LMA 0x400u

static bool
set_cpuid(struct machine_cpu *cpu)
{
	struct machine *machine = cpu->machine;
	struct kvm_cpuid2 *all = calloc(1, sizeof(*all) + MAX_LEAVES * sizeof(all->entries[0]));
	uint32_t count = 0, hyperv = 0;
	bool done = false;

	if (all == NULL)
		return false;
	all->nent = MAX_LEAVES;
	if (ioctl(machine->kvm_fd, KVM_GET_SUPPORTED_CPUID, all) != 0)
		goto out;
	for (uint32_t i = 0; i < all->nent; i++) {
		struct kvm_cpuid_entry2 leaf = all->entries[i];

		/* The guest sees one hypervisor. */
		if (leaf.function >= LEAF_HYPERVISOR && leaf.function < LEAF_HYPERVISOR_END)
			continue;
		if (leaf.function == LEAF_FEATURES) {
			leaf.ebx = (leaf.ebx & 0x0000FFFFu) | machine->options.cpus << 16 | cpu->index << 24;
			leaf.ecx = (leaf.ecx | FEATURE_HYPERVISOR) & ~FEATURE_VMX;
		} else if (leaf.function == LEAF_TOPOLOGY || leaf.function == LEAF_TOPOLOGY_V2) {
			leaf.edx = cpu->index;
		} else if (leaf.function == LEAF_EXTENDED_FEATURES) {
			leaf.ecx &= ~FEATURE_SVM;
		} else if (leaf.function == LEAF_EXTENDED_TOPOLOGY) {
			leaf.eax = cpu->index;
		}
		all->entries[count++] = leaf;
	}
	if (vmb_kvm_cpuid(machine->kvm_fd, machine->options.cpus, all->entries + count,
	                  MAX_LEAVES - count, &hyperv) != VMB_OK)
		goto out;
	all->nent = count + hyperv;
	done = ioctl(cpu->fd, KVM_SET_CPUID2, all) == 0;

out:
	free(all);
	return done;
}

static bool
set_registers(struct machine_cpu *cpu, const struct boot_entry *entry)
{
	uint64_t *gdt = (uint64_t *)(void *)(cpu->machine->ram + BOOT_GDT);
	struct kvm_segment code = {
		.limit = 0xFFFFFFFF, .selector = SELECTOR_CODE, .type = 11, .present = 1, .s = 1, .g = 1,
		.l = entry->long_mode, .db = !entry->long_mode,
	};
	struct kvm_segment data = code;
	struct kvm_regs regs = {
		.rip = entry->rip, .rsi = entry->rsi, .rbx = entry->rbx, .rflags = 2,
	};
	struct kvm_sregs sregs;

	if (ioctl(cpu->fd, KVM_GET_SREGS, &sregs) != 0)
		return false;
	data.selector = SELECTOR_DATA;
	data.type = 3;
	data.l = 0;
	data.db = 1;
	gdt[0] = gdt[1] = 0;
	gdt[SELECTOR_CODE / 8] = entry->long_mode ? 0x00AF9B000000FFFF : 0x00CF9B000000FFFF;
	gdt[SELECTOR_DATA / 8] = 0x00CF93000000FFFF;
	sregs.gdt.base = BOOT_GDT;
	sregs.gdt.limit = 4 * 8 - 1;
	sregs.cs = code;
	sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = data;
	sregs.cr0 = CR0_PE | CR0_ET;
	sregs.cr4 = 0;
	if (entry->long_mode) {
		sregs.cr0 |= CR0_PG;
		sregs.cr3 = BOOT_PAGE_TABLES;
		sregs.cr4 = CR4_PAE;
		sregs.efer = EFER_LME | EFER_LMA;
	}
	return ioctl(cpu->fd, KVM_SET_SREGS, &sregs) == 0 && ioctl(cpu->fd, KVM_SET_REGS, &regs) == 0;
}

bool
cpu_create(struct machine *machine, uint32_t index, const struct boot_entry *entry, char *reason)
{
	struct machine_cpu *cpu = &machine->cpus[index];
	const char *what = "KVM_CREATE_VCPU";

	cpu->run = MAP_FAILED;
	cpu->fd = ioctl(machine->vm_fd, KVM_CREATE_VCPU, (unsigned long)index);
	if (cpu->fd >= 0) {
		what = "mmap of kvm_run";
		cpu->run = mmap(NULL, machine->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, cpu->fd, 0);
	}
	if (cpu->run != MAP_FAILED) {
		what = "CPUID";
		if (set_cpuid(cpu)) {
			what = "KVM_CAP_HYPERV_SYNIC2";
			if (vmb_kvm_add_vp(machine->vmbus, index, cpu->fd) == VMB_OK) {
				what = "registers";
				/* The others wait to be started by the first. */
				if (index != 0 || set_registers(cpu, entry))
					return true;
			}
		}
	}
	snprintf(reason, MACHINE_REASON_BYTES, "cannot make processor %u: %s: %s", index, what,
	         strerror(errno));
	cpu_destroy(cpu);
	return false;
}

void
cpu_destroy(struct machine_cpu *cpu)
{
	if (cpu->run != NULL && cpu->run != MAP_FAILED)
		munmap(cpu->run, cpu->machine->run_bytes);
	if (cpu->fd >= 0)
		close(cpu->fd);
	cpu->run = NULL;
	cpu->fd = -1;
}

void
cpu_kick(struct machine_cpu *cpu)
{
	pthread_mutex_lock(&cpu->kick_lock);
	if (cpu->runs) {
		__atomic_store_n(&cpu->run->immediate_exit, 1, __ATOMIC_SEQ_CST);
		pthread_kill(cpu->thread, SIGUSR1);
	}
	pthread_mutex_unlock(&cpu->kick_lock);
}

static void
handle_io(struct machine_cpu *cpu)
{
	struct kvm_run *run = cpu->run;
	uint8_t *data = (uint8_t *)run + run->io.data_offset;

	for (uint32_t i = 0; i < run->io.count; i++, data += run->io.size) {
		uint32_t value = 0;

		if (run->io.direction == KVM_EXIT_IO_OUT) {
			memcpy(&value, data, run->io.size);
			ports_write(cpu->machine, run->io.port, run->io.size, value);
		} else {
			value = ports_read(cpu->machine, run->io.port, run->io.size);
			memcpy(data, &value, run->io.size);
		}
	}
}

static void
count(_Atomic uint64_t *counter)
{
	atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void
handle_exit(struct machine_cpu *cpu)
{
	struct machine *machine = cpu->machine;
	struct kvm_run *run = cpu->run;
	char reason[MACHINE_REASON_BYTES];

	count(&machine->exits);
	switch (run->exit_reason) {
	case KVM_EXIT_IO:
		count(&machine->exits_io);
		handle_io(cpu);
		return;
	case KVM_EXIT_MMIO:
		/* Nobody is there: reads find all ones. */
		count(&machine->exits_mmio);
		if (!run->mmio.is_write)
			memset(run->mmio.data, 0xFF, sizeof(run->mmio.data));
		return;
	case KVM_EXIT_HYPERV:
		count(&machine->exits_hyperv);
		if (vmb_kvm_exit(machine->vmbus, cpu->index, run))
			return;
		break;
	case KVM_EXIT_INTR:
	case KVM_EXIT_IRQ_WINDOW_OPEN:
		return;
	case KVM_EXIT_SHUTDOWN:
		machine_finish(machine, MACHINE_CRASHED, "the guest caused a triple fault");
		return;
	case KVM_EXIT_SYSTEM_EVENT:
		machine_finish(machine, run->system_event.type == KVM_SYSTEM_EVENT_RESET
		                                ? MACHINE_RESET
		                                : MACHINE_CRASHED,
		               "the guest reported a crash");
		return;
	default:
		break;
	}
	snprintf(reason, sizeof(reason), "KVM cannot go on with processor %u: exit reason %u, detail %u",
	         cpu->index, run->exit_reason,
	         run->exit_reason == KVM_EXIT_INTERNAL_ERROR ? run->internal.suberror : 0);
	machine_finish(machine, MACHINE_CRASHED, reason);
}

void *
cpu_main(void *ctx)
{
	struct machine_cpu *cpu = ctx;
	struct machine *machine = cpu->machine;
	char name[16], reason[MACHINE_REASON_BYTES];

	snprintf(name, sizeof(name), "vcpu%u", cpu->index);
	(void)pthread_setname_np(pthread_self(), name);
	for (;;) {
		/* Who kicks from here on is heard: KVM_RUN returns at once. */
		__atomic_store_n(&cpu->run->immediate_exit, 0, __ATOMIC_SEQ_CST);
		if (atomic_load(&machine->stop))
			return NULL;
		vmb_kvm_before_run(machine->vmbus, cpu->index);
		if (ioctl(cpu->fd, KVM_RUN, 0) == 0) {
			handle_exit(cpu);
			continue;
		}
		if (errno != EINTR && errno != EAGAIN) {
			snprintf(reason, sizeof(reason), "KVM_RUN failed: %s", strerror(errno));
			machine_finish(machine, MACHINE_CRASHED, reason);
			return NULL;
		}
		count(&machine->exits_interrupted);
	}
}
