/* SPDX-License-Identifier: MIT */
/*
 * The host's side of a synthetic interrupt controller: where a processor's message and event pages
 * are, writing to them, raising the interrupt. Everything that depends on whose SynIC it is (KVM's, in
 * synic_kvm.c) is behind struct synic_ops, so that one in user space can follow.
 *
 * Threads: messages are posted by the processor's own thread outside KVM_RUN only, because KVM posts
 * timer messages into the same slots without a lock (vmbus-protocol 5.2). Event flags may be set by
 * any thread.
 */
#ifndef SYNIC_H
#define SYNIC_H

#include <stdbool.h>
#include <stdint.h>

#include "vmb/mem.h"
#include "vmb/status.h"

#define SYNIC_SINT_VMBUS 2u
#define SYNIC_MESSAGE_BYTES 240u        /* payload */
#define SYNIC_EVENT_FLAGS 2048u
#define SYNIC_PAGE_BYTES 4096u

struct synic_vp {
	/* Host addresses of guest pages, NULL while the guest has them off. */
	_Atomic(uint8_t *) messages, events;
	int raise_fd;           /* eventfd: interrupt SINT 2 of this processor */
	int ack_fd;             /* eventfd: the guest acknowledged something; -1 = nobody tells */
};

struct synic {
	const struct synic_ops *ops;
	struct vmb_mem *memory;
	uint32_t vp_count;
	struct synic_vp *vps;
	_Atomic uint64_t interrupts;
};

struct synic_ops {
	/* Make raise_fd and ack_fd of every processor work. */
	enum vmb_status (*connect)(struct synic *synic, void *ctx);
	void (*disconnect)(struct synic *synic, void *ctx);
};

VMB_MUST_CHECK enum vmb_status synic_init(struct synic *synic, struct vmb_mem *memory,
                                          uint32_t vp_count);
void synic_fini(struct synic *synic);

/* A processor's registers as the guest wrote them. Pages outside memory count as off. Its own thread. */
void synic_set_registers(struct synic *synic, uint32_t vp, uint64_t control, uint64_t event_page,
                         uint64_t message_page);
/* All registers are as after a reset. */
void synic_reset(struct synic *synic);

/*
 * Put a message into the processor's slot and interrupt it. VMB_OK; VMB_E_BUSY: the slot is taken, and the
 * guest was told to say when it is free; VMB_E_STATE: the guest has its message page off. Its own thread.
 */
VMB_MUST_CHECK enum vmb_status synic_post(struct synic *synic, uint32_t vp, const void *payload,
                                          uint32_t bytes);
/*
 * Set an event flag and interrupt the processor, unless the flag was set already. Any thread. Without
 * an event page there is nobody to tell.
 */
void synic_set_flag(struct synic *synic, uint32_t vp, uint32_t flag);
/* Interrupt it (again). Any thread. */
void synic_raise(struct synic *synic, uint32_t vp);

#endif
