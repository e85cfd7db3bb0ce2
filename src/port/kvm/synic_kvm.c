/* SPDX-License-Identifier: MIT */
#include "port/kvm/synic_kvm.h"

#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

static enum vmb_status
set_irqfd(const struct vmb_kvm_config *config, const struct synic_vp *vp, uint32_t gsi, bool on)
{
	struct kvm_irqfd irqfd = {
		.fd = (uint32_t)vp->raise_fd,
		.gsi = gsi,
		/* With a resample descriptor KVM says when the guest wrote EOM, or EOI. */
		.flags = on ? KVM_IRQFD_FLAG_RESAMPLE : KVM_IRQFD_FLAG_DEASSIGN,
		.resamplefd = (uint32_t)vp->ack_fd,
	};

	return ioctl(config->vm_fd, KVM_IRQFD, &irqfd) == 0 ? VMB_OK : VMB_E_IO;
}

static void
disconnect_first(struct synic *synic, const struct vmb_kvm_config *config, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
		VMB_IGNORE(set_irqfd(config, &synic->vps[i], config->first_gsi + i, false));
}

static void
kvm_disconnect(struct synic *synic, void *ctx)
{
	disconnect_first(synic, ctx, synic->vp_count);
}

static enum vmb_status
kvm_connect(struct synic *synic, void *ctx)
{
	const struct vmb_kvm_config *config = ctx;
	struct kvm_irq_routing_entry routes[VMB_KVM_MAX_VPS] = { 0 };
	enum vmb_status status = VMB_OK;
	int error;

	for (uint32_t i = 0; i < synic->vp_count; i++) {
		routes[i].gsi = config->first_gsi + i;
		routes[i].type = KVM_IRQ_ROUTING_HV_SINT;
		routes[i].u.hv_sint.vcpu = i;
		routes[i].u.hv_sint.sint = SYNIC_SINT_VMBUS;
	}
	error = config->add_routes(config->ctx, routes, synic->vp_count);
	if (error != 0) {
		errno = -error;
		return VMB_E_IO;
	}
	for (uint32_t i = 0; i < synic->vp_count && status == VMB_OK; i++) {
		status = set_irqfd(config, &synic->vps[i], config->first_gsi + i, true);
		if (status != VMB_OK)
			disconnect_first(synic, config, i);
	}
	return status;
}

const struct synic_ops synic_kvm_ops = {
	.connect = kvm_connect,
	.disconnect = kvm_disconnect,
};
