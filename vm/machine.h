/* SPDX-License-Identifier: MIT */
/*
 * A small x86-64 machine under KVM, made for VMBus and nothing else: processors, memory, a serial
 * console, what Linux needs to boot. Everything else reaches the guest through the bus.
 *
 * A machine boots once. One that the guest reset is destroyed and made anew: so nothing of its former
 * life is left, and its connection with the bus has ended.
 */
#ifndef MACHINE_H
#define MACHINE_H

#include <stdbool.h>
#include <stdint.h>

#include "vmb/kvm.h"
#include "vmb/mem.h"
#include "vmb/port.h"
#include "vmb/status.h"

#define MACHINE_REASON_BYTES 256u
#define MACHINE_MAX_CPUS 32u

struct machine;

struct machine_options {
	const char *kernel;         /* a bzImage, or an ELF image with a PVH entry */
	const char *initrd;         /* NULL = none */
	const char *command_line;   /* "" = none */
	uint64_t memory_bytes;      /* whole MiB, 32 MiB to 3 GiB */
	uint32_t cpus;              /* 1..MACHINE_MAX_CPUS */
	/* Bytes that the guest writes to its console; any of its processors' threads, one at a time. */
	void (*console)(void *ctx, const void *bytes, uint32_t count);
	void *ctx;
};

/*
 * Guest RAM of that size: one region from address 0, a file of its own that is sealed against shrinking.
 * VMB_OK, VMB_E_NO_MEMORY, VMB_E_IO.
 */
VMB_MUST_CHECK enum vmb_status machine_memory_create(uint64_t bytes, struct vmb_mem **memory);

/*
 * `memory` is that of machine_memory_create(), and stays the caller's; its content is the kernel's from
 * here on. `reason` has room for MACHINE_REASON_BYTES and says what is wrong and what to do. False: it
 * failed.
 */
bool machine_create(const struct machine_options *options, struct vmb_mem *memory,
                    struct machine **machine, char *reason);
/* Stops it first. NULL is allowed. */
void machine_destroy(struct machine *machine);

/* The host's end of its VMBus, once. VMB_E_* of vmb_kvm_port(). */
VMB_MUST_CHECK enum vmb_status machine_port(struct machine *machine, struct vmb_port **port);

/* False: no thread could be made. */
bool machine_start(struct machine *machine);
/* All processors stand still on return. */
void machine_stop(struct machine *machine);

enum machine_end {
	MACHINE_RUNS,
	MACHINE_POWERED_OFF,        /* by the guest */
	MACHINE_RESET,              /* by the guest */
	MACHINE_CRASHED,            /* a triple fault, or KVM cannot go on: machine_reason() */
	MACHINE_STOPPED,            /* machine_stop() */
};
/* Readable once the machine does not run any more. */
int machine_end_fd(const struct machine *machine);
enum machine_end machine_end(struct machine *machine);
/* Why it crashed, as a sentence; "" if it did not. */
const char *machine_reason(const struct machine *machine);

/* What somebody types. Returns how many bytes the console took; it has room for 4096. Any thread. */
uint32_t machine_type(struct machine *machine, const void *bytes, uint32_t count);

/* The guest's reference counter, 100 ns since it booted (vmbus-protocol 5.1); 0 if KVM does not tell. */
uint64_t machine_reference_time(struct machine *machine);

struct machine_stats {
	struct vmb_kvm_stats vmbus;
	uint64_t exits, exits_io, exits_hyperv, exits_mmio, exits_interrupted;
};
void machine_get_stats(struct machine *machine, struct machine_stats *stats);

#endif
