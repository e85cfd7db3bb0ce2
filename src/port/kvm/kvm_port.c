/* SPDX-License-Identifier: MIT */
/*
 * The port of one connection. What the guest posts waits in a bounded inbox for the polling thread; what
 * is for the guest waits in an outbox, in order, until the thread of the processor that it is for puts it
 * into that processor's slot. A slot that is taken is looked at again when the guest says that it is
 * free; should that be lost, because the interrupt was masked when it came, after a while all the same.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "port/kvm/kvm_port.h"

#define RETRY_MS 50

static void
wake(const struct kvm_port *kp)
{
	/* Cannot fail: our own counter, read back to zero by each poll. */
	(void)!eventfd_write(kp->wake, 1);
}

static void
ask_processor(struct vmb_kvm *kvm, uint32_t vp)
{
	atomic_store(&kvm->attention[vp], true);
	pthread_mutex_lock(&kvm->vm_lock);
	if (kvm->vm_fd >= 0)
		kvm->config.kick(kvm->config.ctx, vp);
	pthread_mutex_unlock(&kvm->vm_lock);
}

/* The guest's acknowledgements are worth a wake-up only while something waits for one. */
static void
watch_locked(struct kvm_port *kp, uint32_t vp)
{
	const struct synic_vp *vps = kp->kvm->synic.vps;
	struct itimerspec when = { .it_value.tv_nsec = vp != VMB_VP_NONE ? RETRY_MS * 1000000l : 0 };
	struct epoll_event event = { .events = EPOLLIN };

	when.it_interval = when.it_value;
	if (kp->watched_vp == vp)
		return;
	if (kp->watched_vp != VMB_VP_NONE)
		(void)!epoll_ctl(kp->epoll, EPOLL_CTL_DEL, vps[kp->watched_vp].ack_fd, NULL);
	kp->watched_vp = vp;
	if (vp != VMB_VP_NONE) {
		event.data.fd = vps[vp].ack_fd;
		/* If it fails the timer does it. */
		(void)!epoll_ctl(kp->epoll, EPOLL_CTL_ADD, vps[vp].ack_fd, &event);
	}
	(void)!timerfd_settime(kp->timer, 0, &when, NULL);
}

static enum vmb_status
kvm_post(struct vmb_port *port, uint32_t vp, const void *message, uint32_t bytes)
{
	struct kvm_port *kp = kvm_port_of(port);
	enum vmb_status status = VMB_E_CLOSED;
	bool first = false;

	if (!port_message_size_is_valid(bytes))
		return VMB_E_INVALID;
	/* The guest asked for it: nobody would ever take it, and what comes for a processor that is there would wait behind it. */
	if (vp >= kp->kvm->config.vp_count)
		return port_core_is_closing(&kp->core) ? VMB_E_CLOSED : VMB_OK;
	pthread_mutex_lock(&kp->core.lock);
	if (!port_core_is_closing(&kp->core)) {
		first = kp->out.count == 0;
		status = port_queue_push(&kp->out, vp, message, bytes, NULL, 0);
		kp->last_vp = vp;
		if (status == VMB_E_LIMIT)
			(void)port_core_close_locked(&kp->core, status,
			                             "the guest left too many messages unread");
		else if (status != VMB_OK)
			(void)port_core_close_locked(&kp->core, status,
			                             "a message could not be kept");
	}
	pthread_mutex_unlock(&kp->core.lock);
	if (status != VMB_OK)
		wake(kp);
	else if (first)
		ask_processor(kp->kvm, vp);
	return status;
}

void
kvm_port_deliver(struct vmb_kvm *kvm, uint32_t vp)
{
	struct kvm_port *kp;
	struct port_message *message;
	enum vmb_status status = VMB_OK;
	uint32_t next = VMB_VP_NONE;

	/* Before we look: who adds something later asks again. */
	atomic_store(&kvm->attention[vp], false);
	kp = kvm_port_lock(kvm);
	if (kp == NULL)
		return;
	while (status == VMB_OK && (message = port_queue_front(&kp->out)) != NULL) {
		next = message->connection_id;
		if (next != vp)
			break;
		status = synic_post(&kvm->synic, vp, message->data, message->bytes);
		/*
		 * The guest has made a new contact since, and named another processor: a kernel that was started over one
		 * that crashed, say. This one takes no messages, and may never again.
		 */
		if (status == VMB_E_STATE && kp->last_vp != vp)
			status = VMB_OK;
		else if (status != VMB_OK)
			break;
		else
			atomic_fetch_add(&kvm->messages_out, 1);
		port_queue_pop(&kp->out);
	}
	if (kp->out.count == 0) {
		next = VMB_VP_NONE;
		/* The bus may have left the inbox alone. */
		if (kp->in.count != 0)
			wake(kp);
	}
	watch_locked(kp, next);
	kvm_port_unlock(kp);
	if (next != VMB_VP_NONE && next != vp)
		ask_processor(kvm, next);
}

enum vmb_status
kvm_port_receive(struct vmb_kvm *kvm, uint32_t connection_id, const void *message, uint32_t bytes)
{
	struct kvm_port *kp = kvm_port_lock(kvm);
	enum vmb_status status = VMB_E_CLOSED;

	if (kp == NULL)
		return status;
	if (!port_core_is_closing(&kp->core))
		status = port_queue_push(&kp->in, connection_id, message, bytes, NULL, 0);
	if (status == VMB_OK) {
		atomic_fetch_add(&kvm->messages_in, 1);
		/* Not after the unlock: the bus may take the message at once and end the port over it. */
		wake(kp);
	}
	kvm_port_unlock(kp);
	return status;
}

static bool
next_message(struct kvm_port *kp, struct port_message *message)
{
	struct port_message *front = NULL;

	pthread_mutex_lock(&kp->core.lock);
	if (!port_core_is_closing(&kp->core) && kp->out.count < KVM_OUTBOX_BUSY)
		front = port_queue_front(&kp->in);
	if (front != NULL) {
		memcpy(message, front, sizeof(*message));
		port_queue_pop(&kp->in);
	}
	pthread_mutex_unlock(&kp->core.lock);
	return front != NULL;
}

/* Somebody acknowledged, or the time is up: whoever has messages waiting looks at its slot again. */
static void
look_again(struct kvm_port *kp)
{
	struct vmb_kvm *kvm = kp->kvm;
	eventfd_t ignored;
	uint64_t expired = 0;
	bool acknowledged = false;
	uint32_t vp;

	pthread_mutex_lock(&kp->core.lock);
	vp = kp->watched_vp;
	if (vp != VMB_VP_NONE)
		acknowledged = eventfd_read(kvm->synic.vps[vp].ack_fd, &ignored) == 0;
	pthread_mutex_unlock(&kp->core.lock);
	if (read(kp->timer, &expired, sizeof(expired)) < 0)
		expired = 0;
	/* Whatever else we were woken for is no reason to interrupt a processor. */
	if (vp == VMB_VP_NONE || (!acknowledged && expired == 0))
		return;
	/* An interrupt that came while it was masked is not repeated by itself. */
	if (expired != 0)
		synic_raise(&kvm->synic, vp);
	ask_processor(kvm, vp);
}

static void
kvm_poll(struct vmb_port *port)
{
	struct kvm_port *kp = kvm_port_of(port);
	struct port_message message;
	eventfd_t ignored;
	uint32_t handled = 0;

	(void)!eventfd_read(kp->wake, &ignored);
	look_again(kp);
	while (handled < PORT_POLL_SHARE && next_message(kp, &message)) {
		port->handler.message(port->handler.ctx, message.connection_id, message.data,
		                      message.bytes);
		handled++;
	}
	if (handled == PORT_POLL_SHARE)
		wake(kp);
	port_core_raise(&kp->core);
}

static int
kvm_poll_fd(struct vmb_port *port)
{
	return kvm_port_of(port)->epoll;
}

static void
kvm_cut(struct vmb_port *port, enum vmb_status why, const char *reason)
{
	struct kvm_port *kp = kvm_port_of(port);

	pthread_mutex_lock(&kp->core.lock);
	if (port_core_close_locked(&kp->core, why, reason)) {
		port_queue_clear(&kp->in);
		port_queue_clear(&kp->out);
		watch_locked(kp, VMB_VP_NONE);
	}
	pthread_mutex_unlock(&kp->core.lock);
	wake(kp);
}

static void
port_free(struct kvm_port *kp)
{
	kvm_monitor_stop(kp);
	if (kp->monitor.end >= 0)
		close(kp->monitor.end);
	port_queue_clear(&kp->in);
	port_queue_clear(&kp->out);
	kvm_bells_destroy(kp);
	if (kp->epoll >= 0)
		close(kp->epoll);
	if (kp->wake >= 0)
		close(kp->wake);
	if (kp->timer >= 0)
		close(kp->timer);
	port_core_fini(&kp->core);
	free(kp);
}

static void
kvm_destroy(struct vmb_port *port)
{
	struct kvm_port *kp = kvm_port_of(port);
	struct vmb_kvm *kvm = kp->kvm;

	pthread_mutex_lock(&kvm->lock);
	kvm->port = NULL;
	pthread_mutex_unlock(&kvm->lock);
	port_free(kp);
	kvm_unref(kvm);
}

static const struct vmb_port_ops kvm_ops = {
	.name = "kvm",
	.post = kvm_post,
	.memory = port_core_memory,
	.doorbell_open = kvm_bell_open,
	.doorbell_close = kvm_bell_close,
	.ring = kvm_bell_ring,
	.poll_fd = kvm_poll_fd,
	.poll = kvm_poll,
	.cut = kvm_cut,
	.destroy = kvm_destroy,
	.doorbell_keep = kvm_bell_keep,
	.route = kvm_bell_route,
	.watch_monitor = kvm_watch_monitor,
};

static bool
watch_fd(struct kvm_port *kp, int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	return epoll_ctl(kp->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

enum vmb_status
vmb_kvm_port(struct vmb_kvm *kvm, struct vmb_port **port)
{
	struct kvm_port *kp = calloc(1, sizeof(*kp));
	enum vmb_status status = VMB_OK;

	if (kp == NULL)
		return VMB_E_NO_MEMORY;
	if (!port_core_init(&kp->core, &kvm_ops, true, 0)) {
		free(kp);
		return VMB_E_NO_MEMORY;
	}
	kp->kvm = kvm;
	kp->watched_vp = VMB_VP_NONE;
	kp->core.memory = kvm->synic.memory;
	vmb_mem_ref(kp->core.memory);
	port_queue_init(&kp->in, KVM_INBOX_MESSAGES);
	port_queue_init(&kp->out, KVM_OUTBOX_MESSAGES);
	kp->epoll = epoll_create1(EPOLL_CLOEXEC);
	kp->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	kp->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	kp->monitor.end = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (kp->monitor.end < 0 || kp->epoll < 0 || kp->wake < 0 || kp->timer < 0 || !watch_fd(kp, kp->wake) ||
	    !watch_fd(kp, kp->timer))
		status = VMB_E_IO;
	pthread_mutex_lock(&kvm->lock);
	if (status == VMB_OK && kvm->port != NULL)
		status = VMB_E_BUSY;
	if (status == VMB_OK) {
		kvm->port = kp;
		atomic_fetch_add(&kvm->refs, 1);
	}
	pthread_mutex_unlock(&kvm->lock);
	if (status != VMB_OK) {
		port_free(kp);
		return status;
	}
	*port = &kp->core.port;
	return VMB_OK;
}
