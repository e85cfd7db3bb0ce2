/* SPDX-License-Identifier: MIT */
/*
 * Monitor pages (vmbus-protocol 5.7): a guest that was offered a monitor sets a bit instead of making a
 * hypercall, and somebody has to look. Hyper-V's hypervisor does; here it is a thread that lives as long as
 * the guest has such a page.
 */
#include <poll.h>
#include <sys/eventfd.h>
#include <time.h>

#include "port/kvm/kvm_port.h"

#define LOOK_NS 100000          /* the latency that Hyper-V gives disks */
#define GROUPS 4u
#define GROUP_BITS 32u
#define PENDING_OFFSET 0x008u   /* of group 0; 8 bytes for each */

static void
look(struct kvm_port *kp, uint8_t *page)
{
	for (uint32_t group = 0; group < GROUPS; group++) {
		uint32_t *pending = (uint32_t *)(void *)(page + PENDING_OFFSET + 8 * group);
		uint32_t bits = __atomic_load_n(pending, __ATOMIC_RELAXED);

		if (bits == 0)
			continue;
		/* What the guest wrote to its rings before is seen after. */
		bits = __atomic_exchange_n(pending, 0, __ATOMIC_ACQ_REL);
		for (; bits != 0; bits &= bits - 1)
			kvm_bell_monitored(kp, group * GROUP_BITS + (uint32_t)__builtin_ctz(bits));
	}
}

static void *
monitor_thread(void *ctx)
{
	struct kvm_port *kp = ctx;
	struct pollfd end = { .fd = kp->monitor.end, .events = POLLIN };
	const struct timespec pause = { .tv_nsec = LOOK_NS };

	/* A connection that has ended: its memory is about to be somebody else's. */
	while (ppoll(&end, 1, &pause, NULL) <= 0 && !port_core_is_closing(&kp->core))
		look(kp, kp->monitor.page);
	return NULL;
}

void
kvm_monitor_stop(struct kvm_port *kp)
{
	eventfd_t ignored;

	if (!kp->monitor.runs)
		return;
	(void)!eventfd_write(kp->monitor.end, 1);
	pthread_join(kp->monitor.thread, NULL);
	(void)!eventfd_read(kp->monitor.end, &ignored);
	kp->monitor.runs = false;
}

void
kvm_watch_monitor(struct vmb_port *port, uint64_t address)
{
	struct kvm_port *kp = kvm_port_of(port);
	uint64_t pfn = address / SYNIC_PAGE_BYTES;

	kvm_monitor_stop(kp);
	if (address == 0 || address % SYNIC_PAGE_BYTES != 0 ||
	    !vmb_mem_has_pages(kp->core.memory, (const uint8_t *)&pfn, 1, true))
		return;
	kp->monitor.page = vmb_mem_host(kp->core.memory, address, SYNIC_PAGE_BYTES);
	kp->monitor.runs = kp->monitor.page != NULL &&
	                   pthread_create(&kp->monitor.thread, NULL, monitor_thread, kp) == 0;
	if (kp->monitor.runs)
		(void)pthread_setname_np(kp->monitor.thread, "kmcl-monitor");
}
