/* SPDX-License-Identifier: MIT */
/*
 * The signal of a doorbell. O_NONBLOCK belongs to the file that both ends share, and so does the counter: a hostile peer may
 * clear the one and fill the other, so that a write blocks.
 *
 * The kernel's own signals never block. It signals an eventfd when asynchronous I/O ends (io_submit with IOCB_FLAG_RESFD),
 * and a read of no bytes ends at once: one system call, as a write is.
 *
 * Without asynchronous I/O, asking first closes the hole but for a window: the peer would have to fill the counter between
 * the question and the write, and even then anybody's read of the counter ends the wait.
 */
#include <errno.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "port/doorbells.h"

#define RING_MAGIC 0xa10a10a1u

/* What the kernel maps at a context's address for the results, and io_getevents() reads, where all of it is as here. */
struct result_ring {
	uint32_t id;
	uint32_t count;
	_Atomic uint32_t head; /* ours */
	_Atomic uint32_t tail;
	uint32_t magic;
	uint32_t compatible;
	uint32_t incompatible;
	uint32_t header_bytes;
};

static pthread_once_t begun = PTHREAD_ONCE_INIT;
static aio_context_t context;
static _Atomic bool usable;

static void
begin(void)
{
	const struct result_ring *ring;

	if (syscall(SYS_io_setup, 1, &context) != 0)
		return;
	ring = (const struct result_ring *)context;
	usable = ring->magic == RING_MAGIC && ring->incompatible == 0;
}

/* False: this kernel, or a filter of system calls, does not do it; or this time it did not. */
static bool
signal_by_kernel(int fd)
{
	/* A counter of 8 bytes refuses a read of none, which is an end as well. */
	struct iocb nothing = {
		.aio_lio_opcode = IOCB_CMD_PREAD,
		.aio_fildes = (uint32_t)fd,
		.aio_flags = IOCB_FLAG_RESFD,
		.aio_resfd = (uint32_t)fd,
	};
	struct iocb *list = &nothing;
	struct result_ring *ring;

	pthread_once(&begun, begin);
	if (!atomic_load_explicit(&usable, memory_order_relaxed))
		return false;
	if (syscall(SYS_io_submit, context, 1, &list) != 1) {
		/* A child of fork() has no context; what else there is will not pass either. */
		if (errno != EBADF && errno != EAGAIN)
			atomic_store_explicit(&usable, false, memory_order_relaxed);
		return false;
	}
	/*
	 * Nobody wants the result. Another thread's may be older and overwrite ours; it makes the kernel believe that there is less
	 * room than there is, until the next one.
	 */
	ring = (struct result_ring *)context;
	atomic_store_explicit(&ring->head, atomic_load_explicit(&ring->tail, memory_order_relaxed), memory_order_relaxed);
	return true;
}

/* A counter without room has been signalled and not been read: its waiter was woken already. */
static enum vmb_status
signal_by_write(int fd)
{
	struct pollfd room = { .fd = fd, .events = POLLOUT };
	const uint64_t one = 1;
	ssize_t written;

	if (poll(&room, 1, 0) != 1 || (room.revents & POLLOUT) == 0)
		return (room.revents & POLLNVAL) != 0 ? VMB_E_CLOSED : VMB_OK;
	do {
		written = write(fd, &one, sizeof(one));
	} while (written < 0 && errno == EINTR);
	if (written == (ssize_t)sizeof(one) || errno == EAGAIN)
		return VMB_OK;
	return VMB_E_CLOSED;
}

enum vmb_status
port_doorbell_ring(int fd)
{
	return signal_by_kernel(fd) ? VMB_OK : signal_by_write(fd);
}
