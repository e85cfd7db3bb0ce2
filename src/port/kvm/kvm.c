/* SPDX-License-Identifier: MIT */
/* A machine: its SynIC, its exits, and whichever connection it has. */
#include "port/kvm/kvm_port.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "port/kvm/synic_kvm.h"

static void
kvm_free(struct vmb_kvm *kvm)
{
	pthread_mutex_destroy(&kvm->vm_lock);
	pthread_mutex_destroy(&kvm->lock);
	free(kvm);
}

enum vmb_status
vmb_kvm_create(const struct vmb_kvm_config *config, struct vmb_kvm **out)
{
	struct vmb_kvm *kvm;
	enum vmb_status status;

	if (config->size != sizeof(*config) || config->vp_count == 0 ||
	    config->vp_count > VMB_KVM_MAX_VPS || config->memory == NULL ||
	    config->add_routes == NULL || config->kick == NULL)
		return VMB_E_INVALID;
	if (ioctl(config->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_HYPERV_SYNIC2) <= 0 ||
	    ioctl(config->vm_fd, KVM_CHECK_EXTENSION, KVM_CAP_HYPERV_EVENTFD) <= 0)
		return VMB_E_UNSUPPORTED;
	kvm = calloc(1, sizeof(*kvm));
	if (kvm == NULL)
		return VMB_E_NO_MEMORY;
	kvm->config = *config;
	atomic_init(&kvm->refs, 1);
	kvm->vm_fd = config->vm_fd;
	if (pthread_mutex_init(&kvm->lock, NULL) != 0) {
		free(kvm);
		return VMB_E_NO_MEMORY;
	}
	if (pthread_mutex_init(&kvm->vm_lock, NULL) != 0) {
		pthread_mutex_destroy(&kvm->lock);
		free(kvm);
		return VMB_E_NO_MEMORY;
	}
	kvm->synic.ops = &synic_kvm_ops;
	status = synic_init(&kvm->synic, config->memory, config->vp_count);
	if (status == VMB_OK) {
		status = kvm->synic.ops->connect(&kvm->synic, &kvm->config);
		if (status != VMB_OK)
			synic_fini(&kvm->synic);
	}
	if (status != VMB_OK) {
		kvm_free(kvm);
		return status;
	}
	*out = kvm;
	return VMB_OK;
}

void
kvm_unref(struct vmb_kvm *kvm)
{
	if (atomic_fetch_sub(&kvm->refs, 1) != 1)
		return;
	synic_fini(&kvm->synic);
	kvm_free(kvm);
}

static void
cut_port(struct vmb_kvm *kvm, const char *reason)
{
	pthread_mutex_lock(&kvm->lock);
	if (kvm->port != NULL)
		vmb_port_cut(&kvm->port->core.port, VMB_E_CLOSED, reason);
	pthread_mutex_unlock(&kvm->lock);
}

void
vmb_kvm_destroy(struct vmb_kvm *kvm)
{
	if (kvm == NULL)
		return;
	cut_port(kvm, "the machine was switched off");
	kvm->synic.ops->disconnect(&kvm->synic, &kvm->config);
	synic_reset(&kvm->synic);
	pthread_mutex_lock(&kvm->vm_lock);
	kvm->vm_fd = -1;
	pthread_mutex_unlock(&kvm->vm_lock);
	kvm_unref(kvm);
}

void
vmb_kvm_reset(struct vmb_kvm *kvm)
{
	synic_reset(&kvm->synic);
	cut_port(kvm, "the machine was reset");
}

enum vmb_status
vmb_kvm_add_vp(struct vmb_kvm *kvm, uint32_t vp, int vcpu_fd)
{
	struct kvm_enable_cap synic = { .cap = KVM_CAP_HYPERV_SYNIC2 };

	if (vp >= kvm->config.vp_count)
		return VMB_E_INVALID;
	return ioctl(vcpu_fd, KVM_ENABLE_CAP, &synic) == 0 ? VMB_OK : VMB_E_IO;
}

struct kvm_port *
kvm_port_lock(struct vmb_kvm *kvm)
{
	struct kvm_port *kp;

	/* The machine's lock keeps the port there until its own is taken, and while that is held: destroying needs both. */
	pthread_mutex_lock(&kvm->lock);
	kp = kvm->port;
	if (kp != NULL)
		pthread_mutex_lock(&kp->core.lock);
	else
		pthread_mutex_unlock(&kvm->lock);
	return kp;
}

void
kvm_port_unlock(struct kvm_port *kp)
{
	struct vmb_kvm *kvm = kp->kvm;

	pthread_mutex_unlock(&kp->core.lock);
	pthread_mutex_unlock(&kvm->lock);
}

void
vmb_kvm_before_run(struct vmb_kvm *kvm, uint32_t vp)
{
	if (atomic_load(&kvm->attention[vp]))
		kvm_port_deliver(kvm, vp);
}

bool
vmb_kvm_exit(struct vmb_kvm *kvm, uint32_t vp, struct kvm_run *run)
{
	struct kvm_hyperv_exit *exit = &run->hyperv;

	if (run->exit_reason != KVM_EXIT_HYPERV || vp >= kvm->config.vp_count)
		return false;
	switch (exit->type) {
	case KVM_EXIT_HYPERV_SYNIC:
		atomic_fetch_add(&kvm->synic_exits, 1);
		synic_set_registers(&kvm->synic, vp, exit->u.synic.control, exit->u.synic.evt_page,
		                    exit->u.synic.msg_page);
		/* What waited for a message page may go now. */
		atomic_store(&kvm->attention[vp], true);
		return true;
	case KVM_EXIT_HYPERV_HCALL:
		atomic_fetch_add(&kvm->hypercall_exits, 1);
		exit->u.hcall.result = kvm_hypercall(kvm, exit->u.hcall.input, exit->u.hcall.params[0]);
		return true;
	default:
		return false;
	}
}

void
vmb_kvm_get_stats(struct vmb_kvm *kvm, struct vmb_kvm_stats *stats)
{
	struct kvm_port *kp;

	*stats = (struct vmb_kvm_stats){
		.messages_in = atomic_load(&kvm->messages_in),
		.messages_out = atomic_load(&kvm->messages_out),
		.messages_refused = atomic_load(&kvm->messages_refused),
		.signals_in = atomic_load(&kvm->signals_in),
		.interrupts = atomic_load(&kvm->synic.interrupts),
		.synic_exits = atomic_load(&kvm->synic_exits),
		.hypercall_exits = atomic_load(&kvm->hypercall_exits),
	};
	kp = kvm_port_lock(kvm);
	if (kp == NULL)
		return;
	stats->messages_waiting = kp->out.count;
	stats->doorbells = kp->doorbells;
	kvm_port_unlock(kp);
}
