/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "machine_internal.h"

#define TSS_ADDRESS 0xFFFBD000u
#define LEAST_MEMORY (32ull << 20)
#define MOST_MEMORY (3ull << 30)
#define MAX_ROUTES (2 * IOAPIC_PINS + MACHINE_MAX_CPUS)

/* ---- what the parts call ------------------------------------------------------------------------------ */

void
machine_finish(struct machine *machine, enum machine_end end, const char *reason)
{
	int runs = MACHINE_RUNS;

	/* The first one counts; its reason is written by nobody else, and read once `end` says so. */
	if (atomic_exchange(&machine->stop, true))
		return;
	snprintf(machine->reason, sizeof(machine->reason), "%s", end == MACHINE_CRASHED ? reason : "");
	(void)atomic_compare_exchange_strong(&machine->end, &runs, end);
	(void)!eventfd_write(machine->end_fd, 1);
	for (uint32_t i = 0; i < machine->options.cpus; i++)
		cpu_kick(&machine->cpus[i]);
}

static void
kick(void *ctx, uint32_t vp)
{
	struct machine *machine = ctx;

	if (vp < machine->options.cpus)
		cpu_kick(&machine->cpus[vp]);
}

static void
console_output(void *ctx, const void *bytes, uint32_t count)
{
	struct machine *machine = ctx;

	machine->options.console(machine->options.ctx, bytes, count);
}

static void
serial_line(void *ctx, bool up)
{
	struct machine *machine = ctx;
	struct kvm_irq_level level = { .irq = IRQ_SERIAL, .level = up };

	(void)!ioctl(machine->vm_fd, KVM_IRQ_LINE, &level);
}

/* ---- making it ------------------------------------------------------------------------------------------ */

static void
add_route(struct kvm_irq_routing *table, uint32_t gsi, uint32_t chip, uint32_t pin)
{
	table->entries[table->nr++] = (struct kvm_irq_routing_entry){
		.gsi = gsi,
		.type = KVM_IRQ_ROUTING_IRQCHIP,
		.u.irqchip = { .irqchip = chip, .pin = pin },
	};
}

/* The chips' pins as on a PC, and the bus's own. */
static int
add_routes(void *ctx, const struct kvm_irq_routing_entry *entries, uint32_t count)
{
	struct machine *machine = ctx;
	struct kvm_irq_routing *table = calloc(1, sizeof(*table) + MAX_ROUTES * sizeof(table->entries[0]));
	int error = 0;

	if (table == NULL)
		return -ENOMEM;
	for (uint32_t gsi = 0; gsi < IOAPIC_PINS; gsi++) {
		if (gsi < 8)
			add_route(table, gsi, KVM_IRQCHIP_PIC_MASTER, gsi);
		else if (gsi < 16)
			add_route(table, gsi, KVM_IRQCHIP_PIC_SLAVE, gsi - 8);
		if (gsi != 2)
			add_route(table, gsi, KVM_IRQCHIP_IOAPIC, gsi == 0 ? 2 : gsi);
	}
	memcpy(&table->entries[table->nr], entries, count * sizeof(*entries));
	table->nr += count;
	if (ioctl(machine->vm_fd, KVM_SET_GSI_ROUTING, table) != 0)
		error = -errno;
	free(table);
	return error;
}

static bool
failed(char *reason, const char *what)
{
	snprintf(reason, MACHINE_REASON_BYTES, "%s: %s", what, strerror(errno));
	return false;
}

static bool
open_kvm(struct machine *machine, char *reason)
{
	char missing[VMB_KVM_REASON_BYTES];

	machine->kvm_fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (machine->kvm_fd < 0) {
		snprintf(reason, MACHINE_REASON_BYTES,
		         "cannot open /dev/kvm: %s (load kvm_intel or kvm_amd, and see that you may use it)",
		         strerror(errno));
		return false;
	}
	if (!vmb_kvm_is_capable(machine->kvm_fd, missing)) {
		snprintf(reason, MACHINE_REASON_BYTES,
		         "this machine's KVM cannot be a Hyper-V host; it lacks %s", missing);
		return false;
	}
	machine->run_bytes = (uint32_t)ioctl(machine->kvm_fd, KVM_GET_VCPU_MMAP_SIZE, 0);
	machine->vm_fd = ioctl(machine->kvm_fd, KVM_CREATE_VM, 0);
	if (machine->vm_fd < 0)
		return failed(reason, "KVM_CREATE_VM");
	return true;
}

static bool
build(struct machine *machine, char *reason)
{
	struct kvm_userspace_memory_region region = {
		.memory_size = machine->options.memory_bytes,
		.userspace_addr = (uintptr_t)machine->ram,
	};
	struct kvm_pit_config pit = { .flags = KVM_PIT_SPEAKER_DUMMY };
	struct vmb_kvm_config config = {
		.size = sizeof(config),
		.vm_fd = machine->vm_fd,
		.vp_count = machine->options.cpus,
		.memory = machine->memory,
		.first_gsi = FIRST_VMBUS_GSI,
		.add_routes = add_routes,
		.kick = kick,
		.ctx = machine,
	};
	struct boot_entry entry;
	enum vmb_status status;

	if (ioctl(machine->vm_fd, KVM_SET_TSS_ADDR, (unsigned long)TSS_ADDRESS) != 0 ||
	    ioctl(machine->vm_fd, KVM_SET_USER_MEMORY_REGION, &region) != 0)
		return failed(reason, "the guest's memory");
	if (ioctl(machine->vm_fd, KVM_CREATE_IRQCHIP, 0) != 0 ||
	    ioctl(machine->vm_fd, KVM_CREATE_PIT2, &pit) != 0)
		return failed(reason, "the interrupt controllers");
	status = vmb_kvm_create(&config, &machine->vmbus);
	if (status != VMB_OK) {
		snprintf(reason, MACHINE_REASON_BYTES, "VMBus: %s", vmb_status_name(status));
		return false;
	}
	if (!boot_load(machine, &entry, reason))
		return false;
	for (uint32_t i = 0; i < machine->options.cpus; i++) {
		if (!cpu_create(machine, i, &entry, reason))
			return false;
	}
	return true;
}

bool
machine_create(const struct machine_options *options, struct vmb_mem *memory, struct machine **out,
               char *reason)
{
	struct machine *machine;

	if (options->memory_bytes < LEAST_MEMORY || options->memory_bytes > MOST_MEMORY ||
	    options->memory_bytes % (1u << 20) != 0 || options->cpus == 0 ||
	    options->cpus > MACHINE_MAX_CPUS) {
		snprintf(reason, MACHINE_REASON_BYTES,
		         "a machine has 32 to 3072 MiB of memory and 1 to %u processors", MACHINE_MAX_CPUS);
		return false;
	}
	machine = calloc(1, sizeof(*machine));
	if (machine == NULL)
		return failed(reason, "no memory");
	machine->options = *options;
	machine->kvm_fd = machine->vm_fd = -1;
	for (uint32_t i = 0; i < MACHINE_MAX_CPUS; i++)
		machine->cpus[i] = (struct machine_cpu){ .machine = machine,
			                                 .index = i,
			                                 .fd = -1,
			                                 .kick_lock = PTHREAD_MUTEX_INITIALIZER };
	machine->memory = memory;
	vmb_mem_ref(memory);
	machine->ram = vmb_mem_host(memory, 0, options->memory_bytes);
	serial_init(&machine->serial, console_output, serial_line, machine);
	machine->end_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (machine->ram == NULL) {
		snprintf(reason, MACHINE_REASON_BYTES, "the memory is not of the size that was said");
	} else if (machine->end_fd < 0) {
		(void)failed(reason, "eventfd");
	} else if (open_kvm(machine, reason) && build(machine, reason)) {
		*out = machine;
		return true;
	}
	machine_destroy(machine);
	return false;
}

enum vmb_status
machine_port(struct machine *machine, struct vmb_port **port)
{
	return vmb_kvm_port(machine->vmbus, port);
}

static void
on_kick(int signal)
{
	(void)signal;
}

bool
machine_start(struct machine *machine)
{
	struct sigaction action = { .sa_handler = on_kick };

	(void)sigaction(SIGUSR1, &action, NULL);
	for (uint32_t i = 0; i < machine->options.cpus; i++) {
		struct machine_cpu *cpu = &machine->cpus[i];

		pthread_mutex_lock(&cpu->kick_lock);
		cpu->runs = pthread_create(&cpu->thread, NULL, cpu_main, cpu) == 0;
		pthread_mutex_unlock(&cpu->kick_lock);
		if (!cpu->runs) {
			machine_stop(machine);
			return false;
		}
		/* Who wanted to kick it before could not. */
		cpu_kick(cpu);
	}
	return true;
}

void
machine_stop(struct machine *machine)
{
	machine_finish(machine, MACHINE_STOPPED, "");
	for (uint32_t i = 0; i < machine->options.cpus; i++) {
		struct machine_cpu *cpu = &machine->cpus[i];

		if (!cpu->runs)
			continue;
		/* It may have been made after the last kick. */
		cpu_kick(cpu);
		/* It sees `stop` by itself now; and who kicks from here on must not find a thread that was joined. */
		pthread_mutex_lock(&cpu->kick_lock);
		cpu->runs = false;
		pthread_mutex_unlock(&cpu->kick_lock);
		pthread_join(cpu->thread, NULL);
	}
}

void
machine_destroy(struct machine *machine)
{
	if (machine == NULL)
		return;
	if (machine->end_fd >= 0)
		machine_stop(machine);
	vmb_kvm_destroy(machine->vmbus);
	for (uint32_t i = 0; i < machine->options.cpus; i++)
		cpu_destroy(&machine->cpus[i]);
	if (machine->vm_fd >= 0)
		close(machine->vm_fd);
	if (machine->kvm_fd >= 0)
		close(machine->kvm_fd);
	if (machine->end_fd >= 0)
		close(machine->end_fd);
	serial_fini(&machine->serial);
	vmb_mem_unref(machine->memory);
	free(machine);
}

/* ---- asking it ------------------------------------------------------------------------------------------ */

int
machine_end_fd(const struct machine *machine)
{
	return machine->end_fd;
}

enum machine_end
machine_end(struct machine *machine)
{
	return (enum machine_end)atomic_load(&machine->end);
}

const char *
machine_reason(const struct machine *machine)
{
	return machine->reason;
}

uint32_t
machine_type(struct machine *machine, const void *bytes, uint32_t count)
{
	return serial_type(&machine->serial, bytes, count);
}

uint64_t
machine_reference_time(struct machine *machine)
{
	struct kvm_clock_data clock = { 0 };

	/* What KVM derives the guest's counter from; a processor's registers cannot be read while it runs. */
	return ioctl(machine->vm_fd, KVM_GET_CLOCK, &clock) == 0 ? clock.clock / 100 : 0;
}

void
machine_get_stats(struct machine *machine, struct machine_stats *stats)
{
	*stats = (struct machine_stats){
		.exits = atomic_load(&machine->exits),
		.exits_io = atomic_load(&machine->exits_io),
		.exits_hyperv = atomic_load(&machine->exits_hyperv),
		.exits_mmio = atomic_load(&machine->exits_mmio),
		.exits_interrupted = atomic_load(&machine->exits_interrupted),
	};
	vmb_kvm_get_stats(machine->vmbus, &stats->vmbus);
}
