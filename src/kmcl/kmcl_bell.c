/* SPDX-License-Identifier: MIT */
/* An epoll set with the channel's doorbell and an eventfd, both edge-triggered and never read. */
#include "kmcl/kmcl_bell.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "kmcl/kmcl_loop.h"

void
kmcl_bell_init(struct kmcl_bell *bell)
{
	bell->epoll_fd = bell->wake_fd = -1;
}

void
kmcl_bell_destroy(struct kmcl_bell *bell)
{
	if (bell->epoll_fd < 0)
		return;
	close(bell->epoll_fd);
	close(bell->wake_fd);
}

static bool
make(struct kmcl_bell *bell)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	int epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	int wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);

	if (epoll_fd >= 0 && wake_fd >= 0 && epoll_ctl(epoll_fd, EPOLL_CTL_ADD, wake_fd, &event) == 0) {
		bell->epoll_fd = epoll_fd;
		bell->wake_fd = wake_fd;
		return true;
	}
	if (epoll_fd >= 0)
		close(epoll_fd);
	if (wake_fd >= 0)
		close(wake_fd);
	return false;
}

bool
kmcl_bell_attach(struct kmcl_channel *ch)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET | EPOLLEXCLUSIVE };
	struct kmcl_bell *bell = &ch->rx.bell;
	int doorbell = ch->link.doorbell.wait_fd;

	if (bell->attached)
		return true;
	if (bell->epoll_fd < 0 && !make(bell))
		return false;
	if (epoll_ctl(bell->epoll_fd, EPOLL_CTL_ADD, doorbell, &event) != 0)
		return false;
	bell->attached = true;
	if (kmcl_loop_queue_up(ch, doorbell))
		return true;
	kmcl_bell_detach(ch);
	return false;
}

void
kmcl_bell_detach(struct kmcl_channel *ch)
{
	if (!ch->rx.bell.attached)
		return;
	(void)epoll_ctl(ch->rx.bell.epoll_fd, EPOLL_CTL_DEL, ch->link.doorbell.wait_fd, NULL);
	ch->rx.bell.attached = false;
}

void
kmcl_bell_sleep(const struct kmcl_bell *bell, int timeout_ms)
{
	struct epoll_event events[2];

	if (epoll_wait(bell->epoll_fd, events, 2, timeout_ms) < 0 && errno != EINTR)
		abort(); /* our own epoll set */
}

void
kmcl_bell_wake(const struct kmcl_bell *bell)
{
	uint64_t one = 1;

	if (write(bell->wake_fd, &one, sizeof(one)) < 0 && errno != EAGAIN)
		abort(); /* our own eventfd */
}
