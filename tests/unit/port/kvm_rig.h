/* SPDX-License-Identifier: MIT */
/*
 * A machine for the tests of the kvm port: real memory and descriptors, and a KVM that only keeps a list of what it was told
 * (the programs wrap ioctl). The test is the processors: it takes the exits, and what is delivered is read as a guest does.
 */
#ifndef T_KVM_RIG_H
#define T_KVM_RIG_H

#include <stdbool.h>
#include <stdint.h>

#include "port/kvm/kvm_port.h"
#include "port_fixture.h"

#define RIG_RAM_BYTES (1u << 20)
#define RIG_ROM 0x1000000u              /* read-only, 16 pages */
#define RIG_ROM_BYTES 0x10000u
#define RIG_VPS 4u
#define RIG_GSI 24u
#define RIG_INPUT 0x40000u              /* where hypercalls have their input */

struct rig_fake {                       /* of KVM */
	int vm_fd;
	bool is_gone;                   /* closed: whoever uses it now has a bug */
	int lacks;                      /* a capability that is not there */
	unsigned long fails;            /* this request fails ... */
	unsigned fails_after;           /* ... after so many that worked, with EIO */
	struct {
		uint32_t connection;
		int fd;
	} eventfds[64];
	struct kvm_irqfd irqfds[RIG_VPS];/* by GSI; fd 0 = none */
	unsigned eventfd_calls, irqfd_calls, synics;
	struct kvm_cpuid_entry2 features;
	bool has_features;
};
extern struct rig_fake rig_fake;
/* -1: KVM has none for this id. */
int rig_eventfd(uint32_t connection);
unsigned rig_eventfd_count(void);

struct rig {
	unsigned fds_before;
	struct vmb_mem *memory;
	uint8_t *ram;
	struct vmb_kvm *kvm;
	struct t_end host;              /* the port, if it was made */
	unsigned routes;                /* that add_routes() was given */
	struct kvm_irq_routing_entry route[RIG_VPS];
	int routes_error;
	_Atomic unsigned kicks[RIG_VPS];
};

struct vmb_mem *rig_memory(uint8_t **ram);
struct rig *rig_make(void);             /* with a port */
struct rig *rig_make_bare(void);        /* without machine and port */
enum vmb_status rig_create(struct rig *rig);
void rig_open(struct rig *rig);         /* the port */
/* Checks that no descriptor is left. */
void rig_free(struct rig *rig);

/* The guest writes a processor's registers; pages as numbers with bit 0 as it is. */
void rig_synic(struct rig *rig, uint32_t vp, uint64_t control, uint64_t events, uint64_t messages);
/* All on: messages of vp at page 2 vp + 2, event flags at page 2 vp + 3. */
void rig_synic_on(struct rig *rig, uint32_t vp);
uint8_t *rig_slot(struct rig *rig, uint32_t vp);
uint8_t *rig_flags(struct rig *rig, uint32_t vp);
/* As Linux takes a message: true if there was one; says end-of-message when it is told that more wait. */
bool rig_take(struct rig *rig, uint32_t vp, struct t_message *message);
/* The processor comes around: what it does before it runs. */
void rig_run(struct rig *rig, uint32_t vp);
/* How often its interrupt was raised since it was asked last. */
uint64_t rig_raised(struct rig *rig, uint32_t vp);

uint64_t rig_hypercall(struct rig *rig, uint64_t control, uint64_t input);
/* HvPostMessage of a message as t_message_fill() makes it. */
uint64_t rig_post(struct rig *rig, uint32_t connection, uint32_t type, uint32_t number);

#endif
