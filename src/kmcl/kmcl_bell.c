/* SPDX-License-Identifier: MIT */
/* An epoll set with the channel's doorbell and an eventfd, both edge-triggered and never read. */
#include "kmcl/kmcl_bell.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kmcl/kmcl_loop.h"

bool
kmcl_bell_take(struct kmcl_bell *bell)
{
	bool taken;

	vmb_lock_take(&bell->lock);
	taken = bell->taken;
	bell->taken = true;
	vmb_lock_give(&bell->lock);
	return !taken;
}

static void
close_locked(struct kmcl_bell *bell)
{
	close(bell->epoll_fd);
	close(bell->wake_fd);
	bell->made = bell->gone = false;
}

void
kmcl_bell_leave(struct kmcl_bell *bell)
{
	vmb_lock_take(&bell->lock);
	bell->taken = false;
	if (bell->gone)
		close_locked(bell);
	vmb_lock_give(&bell->lock);
}

static bool
hear(int epoll_fd, int wake_fd, int doorbell)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };

	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, wake_fd, &event) != 0)
		return false;
	event.events |= EPOLLEXCLUSIVE;
	return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, doorbell, &event) == 0;
}

static bool
make_locked(struct kmcl_bell *bell, struct kmcl_channel *ch)
{
	bell->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (bell->epoll_fd < 0)
		return false;
	bell->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (bell->wake_fd < 0) {
		close(bell->epoll_fd);
		return false;
	}
	if (hear(bell->epoll_fd, bell->wake_fd, ch->link.doorbell.wait_fd) && kmcl_loop_queue_up(ch))
		return true;
	close_locked(bell);
	return false;
}

bool
kmcl_bell_make(struct kmcl_channel *ch)
{
	struct kmcl_bell *bell = &ch->rx.bell;
	bool usable;

	vmb_lock_take(&bell->lock);
	if (!bell->made)
		bell->made = make_locked(bell, ch);
	usable = bell->made && !bell->gone;
	vmb_lock_give(&bell->lock);
	return usable;
}

static void
wake_locked(struct kmcl_bell *bell)
{
	uint64_t one = 1;

	if (write(bell->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		abort(); /* our own eventfd */
}

void
kmcl_bell_close(struct kmcl_bell *bell)
{
	vmb_lock_take(&bell->lock);
	if (bell->made && bell->taken) {
		bell->gone = true;
		wake_locked(bell);
	} else if (bell->made) {
		close_locked(bell);
	}
	vmb_lock_give(&bell->lock);
}

bool
kmcl_bell_sleep(const struct kmcl_bell *bell, const struct timespec *limit)
{
	struct epoll_event events[2];

	if (epoll_pwait2(bell->epoll_fd, events, 2, limit, NULL) >= 0 || errno == EINTR)
		return true;
	/* A filter of system calls that does not know this one may say anything. */
	if (errno == EBADF || errno == EFAULT || errno == EINVAL)
		abort(); /* our own epoll set */
	return false;
}

void
kmcl_bell_wake(struct kmcl_bell *bell)
{
	vmb_lock_take(&bell->lock);
	if (bell->made)
		wake_locked(bell);
	vmb_lock_give(&bell->lock);
}
