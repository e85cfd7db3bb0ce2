/* SPDX-License-Identifier: MIT */
/*
 * One machine (struct vmb_kvm) and its present connection (struct kvm_port).
 *
 * The machine lives as long as either its owner or a port needs it. Locks: vmb_kvm.lock guards which
 * port is there; then the port's core.lock; then a bell's lock.
 */
#ifndef KVM_PORT_H
#define KVM_PORT_H

#include <pthread.h>
#include <stdatomic.h>

#include "port/core.h"
#include "port/kvm/synic.h"
#include "port/queue.h"
#include "vmb/kvm.h"

/* Messages of the guest that wait for the bus; beyond them it is told to try again (vmbus-protocol 5.2). */
#define KVM_INBOX_MESSAGES 64u
/* Messages for a guest that does not read them. */
#define KVM_OUTBOX_MESSAGES 8192u
/* The bus takes nothing from the guest while so many answers wait (vmbus-protocol 4.9). */
#define KVM_OUTBOX_BUSY 64u

struct kvm_port;

/* How one channel's signals travel. */
struct kvm_bell {
	pthread_mutex_t lock;           /* held while a signal is given: see vmb_port_route() */
	struct vmb_port_route route;
	int fd;                         /* KVM writes it when the guest signals; -1 = none */
	bool open;                      /* else it is kept for the next user, if it is there */
};

struct vmb_kvm {
	struct vmb_kvm_config config;
	struct synic synic;
	_Atomic uint32_t refs;
	pthread_mutex_t lock;
	struct kvm_port *port;          /* lock */
	pthread_mutex_t vm_lock;        /* innermost */
	int vm_fd;                      /* vm_lock; -1 once the owner has given the machine up */
	/* A processor has messages to deliver, or to look at again. */
	_Atomic bool attention[VMB_KVM_MAX_VPS];
	_Atomic uint64_t messages_in, messages_out, messages_refused, signals_in, synic_exits,
	        hypercall_exits;
};

struct kvm_port {
	struct port_core core;
	struct vmb_kvm *kvm;
	struct port_queue in, out;      /* core.lock; connection_id of `out` is the processor */
	uint32_t last_vp;               /* core.lock: whom the newest message of `out` is for */
	uint32_t watched_vp;            /* core.lock: whose ack_fd is in the epoll set; VMB_VP_NONE = nobody's */
	int epoll, wake, timer;
	uint32_t doorbells;             /* core.lock */
	struct {
		pthread_t thread;
		bool runs;
		int end;                /* eventfd: the thread is to leave */
		uint8_t *page;          /* while it runs */
	} monitor;                      /* whoever may call vmb_port_watch_monitor(): the bus, one at a time */
	_Atomic uint32_t monitored[VMB_MONITOR_ID_MAX + 1u]; /* channel ids; 0 = none */
	struct kvm_bell *bells[VMB_CHANNEL_ID_MAX + 1u]; /* core.lock to add; they stay as long as the port */
};

void kvm_unref(struct vmb_kvm *kvm);
/* The present port, locked; NULL (and nothing is locked). */
struct kvm_port *kvm_port_lock(struct vmb_kvm *kvm);
void kvm_port_unlock(struct kvm_port *kp);
/* A message of the guest: VMB_OK, VMB_E_LIMIT (it has to try again), VMB_E_CLOSED (nobody is there). */
enum vmb_status kvm_port_receive(struct vmb_kvm *kvm, uint32_t connection_id, const void *message,
                                 uint32_t bytes);
/* A signal of the guest that came as an exit: VMB_E_NOT_FOUND if it is nobody's. */
enum vmb_status kvm_port_signal(struct vmb_kvm *kvm, uint32_t connection_id);
/* The processor's thread: deliver what waits for it. */
void kvm_port_deliver(struct vmb_kvm *kvm, uint32_t vp);

/* HvPostMessage and HvSignalEvent; the status for the guest (kvm_hypercall.c). */
uint64_t kvm_hypercall(struct vmb_kvm *kvm, uint64_t control, uint64_t input);

/* Doorbells (kvm_bells.c): entries of vmb_port_ops. */
enum vmb_status kvm_bell_route(struct vmb_port *port, uint32_t channel_id,
                               const struct vmb_port_route *route);
enum vmb_status kvm_bell_open(struct vmb_port *port, uint32_t channel_id,
                              struct vmb_doorbell *doorbell);
void kvm_bell_close(struct vmb_port *port, uint32_t channel_id);
void kvm_bell_keep(struct vmb_port *port, uint32_t channel_id);
enum vmb_status kvm_bell_ring(struct vmb_port *port, const struct vmb_doorbell *doorbell);
void kvm_bells_destroy(struct kvm_port *kp);
/* The guest has set the bit of a monitor. */
void kvm_bell_monitored(struct kvm_port *kp, uint32_t monitor_id);

/* Monitor pages (kvm_monitor.c). */
void kvm_watch_monitor(struct vmb_port *port, uint64_t page);
void kvm_monitor_stop(struct kvm_port *kp);

static inline struct kvm_port *
kvm_port_of(struct vmb_port *port)
{
	return (struct kvm_port *)(void *)port;
}

#endif
