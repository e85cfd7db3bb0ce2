/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that one waits for: eventfd, timerfd, epoll, poll, in the time of the simulation. Ours have numbers that the
 * system never gives; all others are the system's.
 *
 * As the kernel has it: an epoll entry belongs to a file, lives until its last descriptor is closed, and an edge-triggered one
 * reports each signal once, also on a counter that was readable before.
 */
#include "wrap.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "scheduler.h"

#define FIRST_FD (1 << 20)
#define MOST_FDS 1024
#define MOST_ENTRIES 64u
#define MOST_EPOLLS 64u

struct entry {
	struct sim_file *file; /* NULL: free */
	int fd;
	struct epoll_event event;
	uint64_t seen; /* signals that were reported; edge-triggered */
	uint64_t order; /* of all entries */
};

struct sim_file {
	enum { EVENT, TIMER, EPOLL } kind;
	uint32_t references;
	uint64_t value;                     /* what a read gets; 0 = nothing */
	uint64_t signals;                   /* so far */
	uint64_t period;                    /* of a timer */
	struct entry entries[MOST_ENTRIES]; /* of an epoll */
};

static struct sim_file *files[MOST_FDS];
static uint32_t open_fds;
static struct sim_file *epolls[MOST_EPOLLS];
static uint64_t entries_made;
static const char polling; /* what those wait for who poll() */

static struct sim_file *
file_of(int fd)
{
	return fd >= FIRST_FD && fd < FIRST_FD + MOST_FDS ? files[fd - FIRST_FD] : NULL;
}

uint32_t
sim_descriptors(void)
{
	return open_fds;
}

static int
fd_for(struct sim_file *file)
{
	for (int i = 0; i < MOST_FDS; i++) {
		if (files[i] != NULL)
			continue;
		files[i] = file;
		open_fds++;
		return FIRST_FD + i;
	}
	sim_found("more than %d descriptors are open; what opens them does not close them",
	          MOST_FDS);
}

static int
file_new(int kind, uint64_t value)
{
	struct sim_file *file =
	    sim_alloc(kind == EPOLL ? sizeof(*file) : offsetof(struct sim_file, entries));

	file->kind = kind == EVENT ? EVENT : kind == TIMER ? TIMER : EPOLL;
	file->references = 1;
	file->value = value;
	return fd_for(file);
}

/* ---- who waits ------------------------------------------------------------------------------------ */

static bool
entry_is_ready(const struct entry *entry)
{
	if (entry->file == NULL || entry->file->value == 0 || (entry->event.events & EPOLLIN) == 0)
		return false;
	return (entry->event.events & EPOLLET) == 0 || entry->seen != entry->file->signals;
}

/* The exclusive entry of the file that was made first after `order`, and its epoll; NULL: there is none. */
static struct sim_file *
next_exclusive(const struct sim_file *file, uint64_t *order)
{
	struct sim_file *found = NULL;
	uint64_t first = UINT64_MAX;

	for (uint32_t i = 0; i < MOST_EPOLLS; i++) {
		for (uint32_t j = 0; epolls[i] != NULL && j < MOST_ENTRIES; j++) {
			const struct entry *entry = &epolls[i]->entries[j];

			if (entry->file != file || (entry->event.events & EPOLLEXCLUSIVE) == 0 ||
			    entry->order <= *order || entry->order >= first)
				continue;
			first = entry->order;
			found = epolls[i];
		}
	}
	*order = first;
	return found;
}

/* All entries learn of it; of the epolls with exclusive ones the first in which somebody sleeps is the last to be woken. */
static void
tell(const struct sim_file *file)
{
	uint64_t order = 0;
	struct sim_file *epoll;

	for (uint32_t i = 0; i < MOST_EPOLLS; i++) {
		for (uint32_t j = 0; epolls[i] != NULL && j < MOST_ENTRIES; j++) {
			const struct entry *entry = &epolls[i]->entries[j];

			if (entry->file == file && (entry->event.events & EPOLLEXCLUSIVE) == 0)
				(void)sim_wake(epolls[i], UINT32_MAX);
		}
	}
	do {
		epoll = next_exclusive(file, &order);
	} while (epoll != NULL && sim_wake(epoll, 1) == 0);
	(void)sim_wake(&polling, UINT32_MAX);
}

static void
add(struct sim_file *file, uint64_t value)
{
	file->value += value;
	file->signals++;
	tell(file);
}

/* ---- files ------------------------------------------------------------------------------------------ */

struct sim_file *
sim_file_get(int fd)
{
	struct sim_file *file = file_of(fd);

	if (file == NULL || file->kind != EVENT)
		return NULL;
	file->references++;
	return file;
}

static void expire(void *ctx);

void
sim_file_put(struct sim_file *file)
{
	if (--file->references != 0)
		return;
	for (uint32_t i = 0; i < MOST_EPOLLS; i++) {
		if (epolls[i] == file)
			epolls[i] = NULL;
		for (uint32_t j = 0; epolls[i] != NULL && j < MOST_ENTRIES; j++) {
			if (epolls[i]->entries[j].file == file)
				epolls[i]->entries[j].file = NULL;
		}
	}
	(void)sim_cancel(expire, file);
	sim_free(file);
}

void
sim_file_signal(struct sim_file *file)
{
	add(file, 1);
}

WRAP(int, close, int fd)
{
	struct sim_file *file = file_of(fd);

	if (file == NULL) {
		if (fd >= FIRST_FD)
			sim_found("a descriptor is closed that is not open");
		return __real_close(fd);
	}
	sim_point();
	if (files[fd - FIRST_FD] == NULL)
		sim_found("two tasks close the same descriptor");
	files[fd - FIRST_FD] = NULL;
	open_fds--;
	sim_file_put(file);
	return 0;
}

/* With 64-bit offsets it has this name in the object files. */
int __real_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...);
int
__wrap_fcntl64(int fd, int command, ...)
{
	struct sim_file *file = file_of(fd);
	va_list args;
	long argument;

	va_start(args, command);
	argument = va_arg(args, long);
	va_end(args);
	if (file == NULL)
		return __real_fcntl64(fd, command, argument);
	if (command != F_DUPFD_CLOEXEC)
		sim_found("fcntl(%d); teach tests/sim/wrap_fd.c what it does", command);
	if (sim_refuse_now("fcntl")) {
		errno = EMFILE;
		return -1;
	}
	file->references++;
	return fd_for(file);
}

/* ---- counters and timers ---------------------------------------------------------------------------- */

WRAP(int, eventfd, unsigned value, int flags)
{
	(void)flags;
	if (sim_refuse_now("eventfd")) {
		errno = EMFILE;
		return -1;
	}
	return file_new(EVENT, value);
}

WRAP(ssize_t, read, int fd, void *bytes, size_t count)
{
	struct sim_file *file = file_of(fd);

	if (file == NULL)
		return __real_read(fd, bytes, count);
	sim_point();
	if (file->value == 0) {
		errno = EAGAIN;
		return -1;
	}
	memcpy(bytes, &file->value, sizeof(file->value));
	file->value = 0;
	return sizeof(file->value);
}

WRAP(ssize_t, write, int fd, const void *bytes, size_t count)
{
	struct sim_file *file = file_of(fd);
	uint64_t value;

	if (file == NULL)
		return __real_write(fd, bytes, count);
	memcpy(&value, bytes, sizeof(value));
	sim_point();
	add(file, value);
	sim_point();
	return (ssize_t)count;
}

WRAP(int, eventfd_read, int fd, eventfd_t *value)
{
	return __wrap_read(fd, value, sizeof(*value)) == sizeof(*value) ? 0 : -1;
}

WRAP(int, eventfd_write, int fd, eventfd_t value)
{
	return __wrap_write(fd, &value, sizeof(value)) == sizeof(value) ? 0 : -1;
}

WRAP(int, timerfd_create, int clock, int flags)
{
	(void)clock;
	(void)flags;
	if (sim_refuse_now("timerfd_create")) {
		errno = EMFILE;
		return -1;
	}
	return file_new(TIMER, 0);
}

static void
expire(void *ctx)
{
	struct sim_file *file = ctx;

	add(file, 1);
	if (file->period != 0)
		sim_at(sim_now() + file->period, expire, file);
}

WRAP(int, timerfd_settime, int fd, int flags, const struct itimerspec *at, struct itimerspec *old)
{
	struct sim_file *file = file_of(fd);
	uint64_t first =
	    (uint64_t)at->it_value.tv_sec * SIM_SECOND + (uint64_t)at->it_value.tv_nsec;

	(void)old;
	if ((flags & TFD_TIMER_ABSTIME) != 0)
		sim_found("an absolute timer; teach tests/sim/wrap_fd.c what it does");
	(void)sim_cancel(expire, file);
	file->value = 0;
	file->period =
	    (uint64_t)at->it_interval.tv_sec * SIM_SECOND + (uint64_t)at->it_interval.tv_nsec;
	if (first != 0)
		sim_at(sim_now() + first, expire, file);
	return 0;
}

/* ---- epoll ------------------------------------------------------------------------------------------- */

WRAP(int, epoll_create1, int flags)
{
	int fd;

	(void)flags;
	if (sim_refuse_now("epoll_create1")) {
		errno = EMFILE;
		return -1;
	}
	fd = file_new(EPOLL, 0);
	for (uint32_t i = 0; i < MOST_EPOLLS; i++) {
		if (epolls[i] == NULL) {
			epolls[i] = file_of(fd);
			return fd;
		}
	}
	sim_found("more than %u epolls", MOST_EPOLLS);
}

static struct entry *
entry_find(struct sim_file *epoll, const struct sim_file *file, int fd)
{
	for (uint32_t i = 0; i < MOST_ENTRIES; i++) {
		struct entry *entry = &epoll->entries[i];

		if (entry->file == file && (file == NULL || entry->fd == fd))
			return entry;
	}
	return NULL;
}

WRAP(int, epoll_ctl, int epoll_fd, int operation, int fd, struct epoll_event *event)
{
	struct sim_file *epoll = file_of(epoll_fd), *file = file_of(fd);
	struct entry *entry;

	sim_point();
	if (epoll == NULL || file == NULL) {
		errno = EBADF;
		return -1;
	}
	entry = entry_find(epoll, file, fd);
	if (operation == EPOLL_CTL_ADD) {
		if (sim_refuse_now("epoll_ctl")) {
			errno = ENOSPC;
			return -1;
		}
		if (entry != NULL) {
			errno = EEXIST;
			return -1;
		}
		entry = entry_find(epoll, NULL, 0);
		if (entry == NULL)
			sim_found("more than %u descriptors in an epoll", MOST_ENTRIES);
	} else if (entry == NULL) {
		errno = ENOENT;
		return -1;
	}
	if (operation == EPOLL_CTL_DEL) {
		entry->file = NULL;
		return 0;
	}
	if (operation == EPOLL_CTL_MOD && ((entry->event.events | event->events) & EPOLLEXCLUSIVE) != 0) {
		errno = EINVAL;
		return -1;
	}
	*entry = (struct entry){ file, fd, *event, file->signals - 1,
		                 operation == EPOLL_CTL_ADD ? ++entries_made : entry->order };
	if (entry_is_ready(entry))
		(void)sim_wake(epoll, UINT32_MAX);
	return 0;
}

static int
collect(struct sim_file *epoll, struct epoll_event *events, int most)
{
	const uint32_t first = sim_random(MOST_ENTRIES);
	int count = 0;

	for (uint32_t i = 0; i < MOST_ENTRIES && count < most; i++) {
		struct entry *entry = &epoll->entries[(first + i) % MOST_ENTRIES];

		if (!entry_is_ready(entry))
			continue;
		entry->seen = entry->file->signals;
		events[count++] = entry->event;
	}
	return count;
}

static uint64_t
wait_end(int timeout_ms)
{
	return timeout_ms < 0 ? SIM_NEVER : sim_now() + (uint64_t)timeout_ms * SIM_MS;
}

static int
wait_until(int epoll_fd, struct epoll_event *events, int most, uint64_t end)
{
	struct sim_file *epoll = file_of(epoll_fd);
	bool in_time = end > sim_now();
	int count;

	sim_point();
	while ((count = collect(epoll, events, most)) == 0 && in_time)
		in_time = sim_block(epoll, end, "a descriptor");
	return count;
}

WRAP(int, epoll_wait, int epoll_fd, struct epoll_event *events, int most, int timeout_ms)
{
	return wait_until(epoll_fd, events, most, wait_end(timeout_ms));
}

WRAP(int, epoll_pwait2, int epoll_fd, struct epoll_event *events, int most, const struct timespec *timeout,
     const sigset_t *signals)
{
	uint64_t end = SIM_NEVER;

	if (signals != NULL)
		sim_found("a wait with signals of its own; teach tests/sim/wrap_fd.c what it does");
	if (timeout != NULL)
		end = sim_now() + (uint64_t)timeout->tv_sec * SIM_SECOND + (uint64_t)timeout->tv_nsec;
	return wait_until(epoll_fd, events, most, end);
}

WRAP(int, poll, struct pollfd *fds, nfds_t most, int timeout_ms)
{
	const uint64_t end = wait_end(timeout_ms);
	bool in_time = timeout_ms != 0;
	int count = 0;

	sim_point();
	for (;;) {
		for (nfds_t i = 0; i < most; i++) {
			const struct sim_file *file = file_of(fds[i].fd);
			int events =
			    file == NULL ? POLLNVAL : POLLOUT | (file->value != 0 ? POLLIN : 0);

			fds[i].revents = (short)(events & (fds[i].events | POLLNVAL));
			count += fds[i].revents != 0;
		}
		if (count != 0 || !in_time)
			return count;
		in_time = sim_block(&polling, end, "a descriptor");
	}
}
