/* SPDX-License-Identifier: MIT */
/* The parts of a machine: each file has one of them. */
#ifndef MACHINE_INTERNAL_H
#define MACHINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "clock.h"
#include "machine.h"
#include "serial.h"

/* Below 1 MiB (boot.c, acpi.c). */
#define BOOT_GDT 0x500u
#define BOOT_PARAMS 0x7000u
#define BOOT_PAGE_TABLES 0x9000u        /* PML4, PDPT, four PDs */
#define BOOT_START_INFO 0x10000u        /* PVH */
#define BOOT_COMMAND_LINE 0x20000u
#define BOOT_COMMAND_LINE_BYTES 0x10000u
#define BOOT_LOW_END 0x9FC00u
#define ACPI_AREA 0xF0000u
#define ACPI_AREA_END 0x100000u
#define BOOT_HIGH 0x100000u

/* Ports. */
#define PORT_SERIAL 0x3F8u
#define PORT_PM1_EVENT 0x600u           /* u16 status, u16 enable */
#define PORT_PM1_CONTROL 0x604u         /* u16 */
#define PORT_PCI 0xCF8u                 /* there is none, but its ports surround the next */
#define PORT_RESET 0xCF9u
#define PORT_CLOCK 0x70u
#define PORT_KEYBOARD_CONTROLLER 0x64u

#define PM1_SLEEP_ENABLE 0x2000u
#define PM1_ACPI_MODE 0x0001u
#define RESET_VALUE 0x06u

#define IRQ_SERIAL 4u
#define IRQ_ACPI 9u
#define IOAPIC_PINS 24u
#define FIRST_VMBUS_GSI IOAPIC_PINS

struct machine_cpu {
	struct machine *machine;
	uint32_t index;
	int fd;
	struct kvm_run *run;
	pthread_mutex_t kick_lock;      /* innermost */
	pthread_t thread;
	bool runs;                      /* kick_lock: there is a thread, which nobody joins yet */
};

struct machine {
	struct machine_options options;
	struct vmb_mem *memory;
	uint8_t *ram;
	int kvm_fd, vm_fd, end_fd;
	uint32_t run_bytes;
	struct vmb_kvm *vmbus;
	struct machine_cpu cpus[MACHINE_MAX_CPUS];
	struct serial serial;
	struct clock clock;
	_Atomic uint16_t pm1_enable;    /* written by whoever writes the port: the guest's own affair */
	_Atomic bool stop;
	_Atomic int end;                /* enum machine_end */
	char reason[MACHINE_REASON_BYTES];
	_Atomic uint64_t exits, exits_io, exits_hyperv, exits_mmio, exits_interrupted;
};

/* How the boot processor begins. */
struct boot_entry {
	uint64_t rip, rsi, rbx;
	bool long_mode;                 /* else 32-bit protected mode without paging (PVH) */
};

/* Kernel, initrd and tables into RAM. False: `reason` says why not. */
bool boot_load(struct machine *machine, struct boot_entry *entry, char *reason);
/* Where the RSDP is. */
uint64_t acpi_build(struct machine *machine);

bool cpu_create(struct machine *machine, uint32_t index, const struct boot_entry *entry, char *reason);
void cpu_destroy(struct machine_cpu *cpu);
/* Its thread. */
void *cpu_main(void *cpu);
/* Out of KVM_RUN, if it has a thread. Any thread. */
void cpu_kick(struct machine_cpu *cpu);

/* One access to a port of the machine (ports.c). */
void ports_write(struct machine *machine, uint16_t port, uint32_t size, uint32_t value);
uint32_t ports_read(struct machine *machine, uint16_t port, uint32_t size);

/* The machine's life is over, for the first reason given. */
void machine_finish(struct machine *machine, enum machine_end end, const char *reason);

#endif
