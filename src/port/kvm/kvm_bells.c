/* SPDX-License-Identifier: MIT */
/*
 * The doorbells of a machine's channels. The guest's signals reach an eventfd inside KVM, without an
 * exit; ours set an event flag and interrupt the processor that the guest chose.
 */
#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "port/kvm/kvm_port.h"

#define CONNECTION_ID_BITS_MAX 0xFFFFFFu

static enum vmb_status
assign(struct vmb_kvm *kvm, const struct kvm_bell *bell, bool on)
{
	struct kvm_hyperv_eventfd eventfd = {
		.conn_id = bell->route.connection_id,
		.fd = bell->fd,
		.flags = on ? 0 : KVM_HYPERV_EVENTFD_DEASSIGN,
	};
	enum vmb_status status = VMB_E_CLOSED;

	/* The machine may be gone, and its descriptor somebody else's. */
	pthread_mutex_lock(&kvm->vm_lock);
	if (kvm->vm_fd >= 0) {
		if (ioctl(kvm->vm_fd, KVM_HYPERV_EVENTFD, &eventfd) == 0)
			status = VMB_OK;
		else
			status = errno == EEXIST ? VMB_E_EXISTS : VMB_E_IO;
	}
	pthread_mutex_unlock(&kvm->vm_lock);
	return status;
}

/* Stays where it is as long as the port lives. NULL without memory, or if it is no channel. */
static struct kvm_bell *
bell_of(struct kvm_port *kp, uint32_t channel_id, bool make)
{
	struct kvm_bell *bell;

	if (channel_id == 0 || channel_id > VMB_CHANNEL_ID_MAX)
		return NULL;
	pthread_mutex_lock(&kp->core.lock);
	bell = kp->bells[channel_id];
	if (bell == NULL && make) {
		bell = calloc(1, sizeof(*bell));
		if (bell != NULL && pthread_mutex_init(&bell->lock, NULL) != 0) {
			free(bell);
			bell = NULL;
		}
		if (bell != NULL) {
			bell->fd = -1;
			bell->route.target_vp = VMB_VP_NONE;
		}
		kp->bells[channel_id] = bell;
	}
	pthread_mutex_unlock(&kp->core.lock);
	return bell;
}

enum vmb_status
kvm_bell_route(struct vmb_port *port, uint32_t channel_id, const struct vmb_port_route *route)
{
	struct kvm_port *kp = kvm_port_of(port);
	struct kvm_bell *bell;
	enum vmb_status status = VMB_OK;

	if ((route->target_vp != VMB_VP_NONE && route->target_vp >= kp->kvm->config.vp_count) ||
	    route->event_flag >= SYNIC_EVENT_FLAGS || route->connection_id == 0 ||
	    route->connection_id > CONNECTION_ID_BITS_MAX ||
	    (route->monitor_id > VMB_MONITOR_ID_MAX && route->monitor_id != VMB_MONITOR_NONE))
		return VMB_E_INVALID;
	bell = bell_of(kp, channel_id, true);
	if (bell == NULL)
		return VMB_E_INVALID;
	pthread_mutex_lock(&bell->lock);
	/* An open doorbell keeps its id: that is where the guest signals. */
	if (bell->fd >= 0 && bell->route.connection_id != route->connection_id)
		status = VMB_E_INVALID;
	else
		bell->route = *route;
	pthread_mutex_unlock(&bell->lock);
	if (status == VMB_OK && route->monitor_id != VMB_MONITOR_NONE)
		atomic_store(&kp->monitored[route->monitor_id], channel_id);
	return status;
}

void
kvm_bell_monitored(struct kvm_port *kp, uint32_t monitor_id)
{
	struct kvm_bell *bell = bell_of(kp, atomic_load(&kp->monitored[monitor_id]), false);

	if (bell == NULL)
		return;
	pthread_mutex_lock(&bell->lock);
	if (bell->fd >= 0 && bell->route.monitor_id == monitor_id)
		(void)!eventfd_write(bell->fd, 1);
	pthread_mutex_unlock(&bell->lock);
}

static void
count_doorbells(struct kvm_port *kp, int change)
{
	pthread_mutex_lock(&kp->core.lock);
	kp->doorbells += (uint32_t)change;
	pthread_mutex_unlock(&kp->core.lock);
}

static enum vmb_status
bell_connect(struct vmb_kvm *kvm, struct kvm_bell *bell)
{
	enum vmb_status status;

	bell->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (bell->fd < 0)
		return VMB_E_IO;
	status = assign(kvm, bell, true);
	if (status != VMB_OK) {
		close(bell->fd);
		bell->fd = -1;
	}
	return status;
}

enum vmb_status
kvm_bell_open(struct vmb_port *port, uint32_t channel_id, struct vmb_doorbell *doorbell)
{
	struct kvm_port *kp = kvm_port_of(port);
	struct kvm_bell *bell = bell_of(kp, channel_id, false);
	enum vmb_status status;

	if (bell == NULL)
		return channel_id == 0 || channel_id > VMB_CHANNEL_ID_MAX ? VMB_E_INVALID
		                                                          : VMB_E_NOT_FOUND;
	if (port_core_is_closing(&kp->core))
		return VMB_E_CLOSED;
	pthread_mutex_lock(&bell->lock);
	if (bell->open)
		status = VMB_E_EXISTS;
	else if (bell->fd >= 0)
		status = VMB_OK; /* it was kept */
	else
		status = bell_connect(kp->kvm, bell);
	if (status == VMB_OK)
		bell->open = true;
	if (status == VMB_OK)
		*doorbell = (struct vmb_doorbell){ .wait_fd = bell->fd,
			                           .ring_fd = -1,
			                           .own = bell };
	pthread_mutex_unlock(&bell->lock);
	if (status == VMB_OK)
		count_doorbells(kp, 1);
	return status;
}

/* True if it was open. */
static bool
bell_close(struct kvm_port *kp, struct kvm_bell *bell)
{
	bool was_open;

	pthread_mutex_lock(&bell->lock);
	was_open = bell->open;
	bell->open = false;
	if (bell->fd >= 0) {
		VMB_IGNORE(assign(kp->kvm, bell, false));
		close(bell->fd);
	}
	bell->fd = -1;
	pthread_mutex_unlock(&bell->lock);
	return was_open;
}

void
kvm_bell_close(struct vmb_port *port, uint32_t channel_id)
{
	struct kvm_port *kp = kvm_port_of(port);
	struct kvm_bell *bell = bell_of(kp, channel_id, false);

	if (bell != NULL && bell_close(kp, bell))
		count_doorbells(kp, -1);
}

void
kvm_bell_keep(struct vmb_port *port, uint32_t channel_id)
{
	struct kvm_port *kp = kvm_port_of(port);
	struct kvm_bell *bell = bell_of(kp, channel_id, false);
	bool was_open;

	if (bell == NULL)
		return;
	pthread_mutex_lock(&bell->lock);
	was_open = bell->open;
	bell->open = false;
	pthread_mutex_unlock(&bell->lock);
	if (was_open)
		count_doorbells(kp, -1);
}

enum vmb_status
kvm_bell_ring(struct vmb_port *port, const struct vmb_doorbell *doorbell)
{
	struct kvm_port *kp = kvm_port_of(port);
	struct kvm_bell *bell = doorbell->own;

	if (port_core_is_closing(&kp->core))
		return VMB_E_CLOSED;
	pthread_mutex_lock(&bell->lock);
	if (bell->route.target_vp != VMB_VP_NONE)
		synic_set_flag(&kp->kvm->synic, bell->route.target_vp, bell->route.event_flag);
	pthread_mutex_unlock(&bell->lock);
	return VMB_OK;
}

enum vmb_status
kvm_port_signal(struct vmb_kvm *kvm, uint32_t connection_id)
{
	struct kvm_port *kp = kvm_port_lock(kvm);
	enum vmb_status status = VMB_E_NOT_FOUND;

	atomic_fetch_add(&kvm->signals_in, 1);
	if (kp == NULL)
		return status;
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX && status != VMB_OK; id++) {
		struct kvm_bell *bell = kp->bells[id];

		if (bell == NULL)
			continue;
		pthread_mutex_lock(&bell->lock);
		if (bell->fd >= 0 && bell->route.connection_id == connection_id) {
			(void)!eventfd_write(bell->fd, 1);
			status = VMB_OK;
		}
		pthread_mutex_unlock(&bell->lock);
	}
	kvm_port_unlock(kp);
	return status;
}

void
kvm_bells_destroy(struct kvm_port *kp)
{
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		struct kvm_bell *bell = kp->bells[id];

		if (bell == NULL)
			continue;
		(void)bell_close(kp, bell);
		pthread_mutex_destroy(&bell->lock);
		free(bell);
	}
}
