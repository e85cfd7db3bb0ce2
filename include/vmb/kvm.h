/* SPDX-License-Identifier: MIT */
/*
 * VMBus for a virtual machine under KVM (vmbus-protocol 5): the host's end of the synthetic interrupt
 * controller (SynIC), the two hypercalls of VMBus, and a port over them. A VMM hands over its machine's
 * descriptor, its memory and the exits of its processors; the port goes to kmcl_bus_add_guest() or to a
 * bus of the VMM's own.
 *
 *   vmb_kvm_create()                 once per machine, after KVM_CREATE_VM and KVM_CREATE_IRQCHIP
 *   vmb_kvm_cpuid(), vmb_kvm_add_vp() for each processor, before it runs
 *   vmb_kvm_port()                   and again after vmb_kvm_reset()
 *   each processor's thread:         for (;;) { vmb_kvm_before_run(); ioctl(KVM_RUN); vmb_kvm_exit() if it is KVM_EXIT_HYPERV }
 *
 * x86-64 hosts with KVM_CAP_HYPERV_SYNIC2 and an in-kernel local APIC. Protocol versions from 2.4 on: older
 * guests need an interrupt page that is not there.
 */
#ifndef VMB_KVM_H
#define VMB_KVM_H

#include <linux/kvm.h>
#include <stdbool.h>
#include <stdint.h>

#include "vmb/mem.h"
#include "vmb/port.h"
#include "vmb/status.h"

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct vmb_kvm;

#define VMB_KVM_MAX_VPS 64u
#define VMB_KVM_REASON_BYTES 160u

struct vmb_kvm_config {
	uint32_t size;              /* sizeof(*this) */
	int vm_fd;                  /* borrowed; outlives the object */
	uint32_t vp_count;          /* 1..VMB_KVM_MAX_VPS; VP index = KVM's vCPU index */
	struct vmb_mem *memory;     /* guest RAM; a reference is taken */
	/*
	 * GSIs first_gsi .. first_gsi + vp_count - 1 become the VMBus interrupt of the processors;
	 * no pin of an interrupt chip and no other route uses them.
	 */
	uint32_t first_gsi;
	/*
	 * Install these entries besides the VMM's own: KVM_SET_GSI_ROUTING replaces the whole table, so
	 * only the VMM can. Called once, inside vmb_kvm_create(). 0, or a negative errno.
	 */
	int (*add_routes)(void *ctx, const struct kvm_irq_routing_entry *entries, uint32_t count);
	/*
	 * Make a processor's thread leave KVM_RUN, or not enter it, and call vmb_kvm_before_run(): a
	 * signal and kvm_run.immediate_exit. Any thread, no lock of the VMM's may be held by who
	 * waits for this library. May come for a processor that is not there yet.
	 */
	void (*kick)(void *ctx, uint32_t vp);
	void *ctx;
};

/*
 * What this kernel's KVM lacks for VMBus, as a list of capability names, into `text`; true if it lacks
 * nothing. `kvm_fd` is /dev/kvm.
 */
bool vmb_kvm_is_capable(int kvm_fd, char text[VMB_KVM_REASON_BYTES]);

/*
 * VMB_OK; VMB_E_INVALID; VMB_E_UNSUPPORTED (this KVM has no SynIC routes); VMB_E_IO (KVM refused, see
 * errno); VMB_E_NO_MEMORY.
 */
VMB_MUST_CHECK enum vmb_status vmb_kvm_create(const struct vmb_kvm_config *config,
                                              struct vmb_kvm **kvm);
/* No processor runs any more. A port that is still there lives on, closed. NULL is allowed. */
void vmb_kvm_destroy(struct vmb_kvm *kvm);

/*
 * Hyper-V's CPUID leaves for the guest, 0x40000000 and up, to be given to KVM_SET_CPUID2 with the VMM's
 * other leaves: those of VMBus, the reference clock, the frequencies and, where the processor has nothing
 * better, interrupts that end without an exit, as far as this KVM has them. Leaf 1 must have ECX bit 31.
 * `entries` has room for `capacity`; *count is how many there are. VMB_OK; VMB_E_TOO_BIG (then *count is what
 * is needed); VMB_E_IO; VMB_E_NO_MEMORY.
 */
VMB_MUST_CHECK enum vmb_status vmb_kvm_cpuid(int kvm_fd, uint32_t vp_count,
                                             struct kvm_cpuid_entry2 *entries, uint32_t capacity,
                                             uint32_t *count);
/*
 * Switch a processor's SynIC on. Before it runs. VMB_OK, VMB_E_INVALID, VMB_E_IO (see errno).
 */
VMB_MUST_CHECK enum vmb_status vmb_kvm_add_vp(struct vmb_kvm *kvm, uint32_t vp, int vcpu_fd);

/*
 * The processor's thread, before each KVM_RUN: delivers messages that wait for this processor. Costs one
 * load if there are none.
 */
void vmb_kvm_before_run(struct vmb_kvm *kvm, uint32_t vp);
/*
 * The processor's thread, after KVM_RUN returned with exit_reason KVM_EXIT_HYPERV: the SynIC's registers
 * and the hypercalls of VMBus; other hypercalls are answered as unknown. False: not one of these exits.
 * The processor simply runs again.
 */
bool vmb_kvm_exit(struct vmb_kvm *kvm, uint32_t vp, struct kvm_run *run);

/*
 * The host's end of a new connection with the machine. There is one at a time; messages of a machine
 * without one fail with "invalid connection id". Owned by the caller (kmcl_bus_add_guest() takes it
 * over). VMB_OK, VMB_E_BUSY, VMB_E_NO_MEMORY, VMB_E_IO.
 */
VMB_MUST_CHECK enum vmb_status vmb_kvm_port(struct vmb_kvm *kvm, struct vmb_port **port);
/*
 * The machine was reset, all processors stand still: their SynICs are off, and the connection ends. Another
 * port can be made when the old one has been destroyed, which its bus does soon.
 */
void vmb_kvm_reset(struct vmb_kvm *kvm);

struct vmb_kvm_stats {
	uint64_t messages_in, messages_out;
	uint64_t messages_refused;   /* HvPostMessage that failed, for room or otherwise */
	uint64_t signals_in;         /* HvSignalEvent that came as an exit; those through descriptors are not seen */
	uint64_t interrupts;         /* raised: for messages and for event flags that were clear */
	uint64_t synic_exits, hypercall_exits;
	uint32_t messages_waiting;   /* for the guest, now */
	uint32_t doorbells;          /* open now */
};
void vmb_kvm_get_stats(struct vmb_kvm *kvm, struct vmb_kvm_stats *stats);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
