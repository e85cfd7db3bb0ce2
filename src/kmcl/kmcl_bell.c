/* SPDX-License-Identifier: MIT */
/* An epoll set with the channel's doorbell and an eventfd, both edge-triggered and never read. */
#include "kmcl/kmcl_bell.h"

#include <errno.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kmcl/kmcl_loop.h"

static bool
hear(int epoll_fd, int wake_fd, int doorbell)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, wake_fd, &event) != 0)
		return false;
	event.events |= EPOLLEXCLUSIVE;
	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, doorbell, &event) == 0;
}

bool
kmcl_bell_make(struct kmcl_channel *ch)
{
	struct kmcl_bell *bell = &ch->rx.bell;
	int doorbell = ch->link.doorbell.wait_fd;
	int epoll_fd, wake_fd;

	if (bell->made)
		return true;
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (epoll_fd >= 0 && wake_fd >= 0 && hear(epoll_fd, wake_fd, doorbell) && kmcl_loop_queue_up(ch, doorbell)) {
		bell->epoll_fd = epoll_fd;
		vmb_lock_take(&bell->lock);
		bell->wake_fd = wake_fd;
		bell->can_wake = true;
		vmb_lock_give(&bell->lock);
		bell->made = true;
		return true;
	}
	if (epoll_fd >= 0)
		close(epoll_fd);
	if (wake_fd >= 0)
		close(wake_fd);
	return false;
}

void
kmcl_bell_close(struct kmcl_channel *ch)
{
	struct kmcl_bell *bell = &ch->rx.bell;

	if (!bell->made)
		return;
	kmcl_bell_wake(bell);
	/* A few instructions long: it finds that it may not process any more. */
	while (atomic_load(&bell->taken))
		sched_yield();
	vmb_lock_take(&bell->lock);
	bell->can_wake = false;
	close(bell->wake_fd);
	vmb_lock_give(&bell->lock);
	close(bell->epoll_fd);
	bell->made = false;
}

bool
kmcl_bell_sleep(const struct kmcl_bell *bell, const struct timespec *limit)
{
	struct epoll_event events[2];

	if (epoll_pwait2(bell->epoll_fd, events, 2, limit, NULL) >= 0 || errno == EINTR)
		return true;
	if (errno != ENOSYS)
		abort(); /* our own epoll set */
	return false;
}

void
kmcl_bell_wake(struct kmcl_bell *bell)
{
	uint64_t one = 1;

	vmb_lock_take(&bell->lock);
	if (bell->can_wake && write(bell->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		abort(); /* our own eventfd */
	vmb_lock_give(&bell->lock);
}
