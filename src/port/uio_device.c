/* SPDX-License-Identifier: MIT */
/*
 * One open /dev/uioN. Opening it opens the channel, with rings that the kernel has made; closing it, after the last mapping is
 * gone, closes the channel.
 *
 * Nobody reads the descriptor. Who waits uses edge-triggered epoll, and each event of the device is an edge: the kernel
 * compares its event counter with what was read last, so after the first event the descriptor stays readable.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

#include "port/uio.h"
#include "vmb/ring.h"

/* ---- the kernel's ------------------------------------------------------------------------------------- */

static int
kernel_open(void *ctx, const char *path, void **own)
{
	int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);

	(void)ctx;
	(void)own;
	/* Two processes on the same rings would destroy each other's packets, and the kernel lets both in. */
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0) {
		int error = errno == EWOULDBLOCK ? EBUSY : errno;

		close(fd);
		errno = error;
		return -1;
	}
	return fd;
}

static void *
kernel_map(void *ctx, const struct uio_open *open, uint32_t index, size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, open->fd,
	                (off_t)index * (off_t)sysconf(_SC_PAGESIZE));

	(void)ctx;
	if (at == MAP_FAILED)
		return NULL;
	/* A forked child would keep the channel open. */
	(void)madvise(at, bytes, MADV_DONTFORK);
	return at;
}

/*
 * "Interrupts on", which also signals. It clears the mask of the incoming ring, whoever set that: a reader that is polling gets
 * signals that it does not need, until it masks again.
 */
static int
kernel_kick(void *ctx, const struct uio_open *open)
{
	const int32_t on = 1;
	ssize_t done;

	(void)ctx;
	do {
		done = write(open->fd, &on, sizeof(on));
	} while (done < 0 && errno == EINTR);
	return done == (ssize_t)sizeof(on) ? 0 : -1;
}

static void
kernel_unmap(void *ctx, void *at, size_t bytes)
{
	(void)ctx;
	munmap(at, bytes);
}

static void
kernel_close(void *ctx, const struct uio_open *open)
{
	(void)ctx;
	close(open->fd);
}

const struct uio_ops uio_kernel_ops = {
	.open = kernel_open,
	.map = kernel_map,
	.kick = kernel_kick,
	.unmap = kernel_unmap,
	.close = kernel_close,
};

/* ---- a device ----------------------------------------------------------------------------------------- */

static enum vmb_status
refuse_node(const char *path, int error, char why[UIO_WHY_BYTES])
{
	switch (error) {
	case EACCES:
	case EPERM:
		snprintf(why, UIO_WHY_BYTES, "%.100s: permission denied; run as root or give yourself the node", path);
		return VMB_E_ACCESS;
	case EBUSY:
		snprintf(why, UIO_WHY_BYTES, "%.100s is used by another process", path);
		return VMB_E_BUSY;
	case ENOENT:
	case ENXIO:
	case ENODEV:
		snprintf(why, UIO_WHY_BYTES, "%.80s is not there: %s; the device may have gone, or nobody made its node",
		         path, strerror(error));
		return VMB_E_NOT_FOUND;
	default:
		snprintf(why, UIO_WHY_BYTES, "%.100s: %s", path, strerror(error));
		return VMB_E_IO;
	}
}

/* Both rings have a control page and at least one of data, and they are of equal size. */
static bool
ring_size_is_sound(uint64_t bytes)
{
	return bytes % (2 * VMB_PAGE_BYTES) == 0 && bytes / 2 >= 2 * VMB_PAGE_BYTES &&
	       bytes / 2 - VMB_PAGE_BYTES <= VMB_RING_MAX_DATA_BYTES;
}

static bool
map_monitor(struct uio_open *open, const struct uio_roots *roots, const struct uio_device *device)
{
	struct uio_map int_page, monitor_page;

	uio_find_map(roots, device, "int_page", &int_page);
	uio_find_map(roots, device, "monitor_page", &monitor_page);
	if (int_page.bytes < VMB_PAGE_BYTES || monitor_page.bytes < VMB_PAGE_BYTES) {
		errno = ENOENT;
		return false;
	}
	open->int_page = open->ops->map(open->ops->ctx, open, int_page.index, VMB_PAGE_BYTES);
	if (open->int_page != NULL)
		open->monitor_page =
			open->ops->map(open->ops->ctx, open, monitor_page.index, VMB_PAGE_BYTES);
	return open->monitor_page != NULL;
}

enum vmb_status
uio_device_open(const struct uio_roots *roots, const struct uio_device *device, const struct uio_ops *ops,
                struct uio_open *open, char why[UIO_WHY_BYTES])
{
	char path[PATH_MAX];
	struct uio_map rings;

	*open = (struct uio_open){ .ops = ops, .fd = -1 };
	open->channel_id = device->channel_id;
	open->monitor_id = device->monitor_id;
	snprintf(path, sizeof(path), "%s/uio%d", roots->dev, device->number);
	uio_find_map(roots, device, "txrx_rings", &rings);
	if (!ring_size_is_sound(rings.bytes)) {
		snprintf(why, UIO_WHY_BYTES, "uio%d has no map txrx_rings of a usable size", device->number);
		return VMB_E_UNSUPPORTED;
	}
	open->fd = ops->open(ops->ctx, path, &open->own);
	if (open->fd < 0)
		return refuse_node(path, errno, why);
	open->ring_bytes = (size_t)rings.bytes;
	open->rings = ops->map(ops->ctx, open, rings.index, open->ring_bytes);
	if (open->rings == NULL ||
	    (device->monitor_id != UIO_NO_MONITOR && !map_monitor(open, roots, device))) {
		snprintf(why, UIO_WHY_BYTES, "%.100s cannot be mapped: %s", path, strerror(errno));
		uio_device_close(open);
		return VMB_E_IO;
	}
	return VMB_OK;
}

void
uio_device_close(struct uio_open *open)
{
	const struct uio_ops *ops = open->ops;

	if (open->fd < 0)
		return;
	if (open->monitor_page != NULL)
		ops->unmap(ops->ctx, open->monitor_page, VMB_PAGE_BYTES);
	if (open->int_page != NULL)
		ops->unmap(ops->ctx, open->int_page, VMB_PAGE_BYTES);
	if (open->rings != NULL)
		ops->unmap(ops->ctx, open->rings, open->ring_bytes);
	ops->close(ops->ctx, open);
	open->fd = -1;
}

/* vmbus-protocol 5.7: the page that says which channel, then the one that the host watches. No system call. */
static void
kick_by_monitor(const struct uio_open *open)
{
	/* Send bits are the second half of the interrupt page. */
	uint32_t *send = open->int_page + 2048 / 4 + open->channel_id / 32;
	/* Pending words of the trigger groups are 8 bytes apart, behind the first two words. */
	uint32_t *pending = open->monitor_page + 2 + (size_t)open->monitor_id / 32 * 2;

	__atomic_fetch_or(send, htole32(1u << open->channel_id % 32), __ATOMIC_SEQ_CST);
	__atomic_fetch_or(pending, htole32(1u << open->monitor_id % 32), __ATOMIC_SEQ_CST);
}

enum vmb_status
uio_device_kick(const struct uio_open *open)
{
	if (open->monitor_page != NULL) {
		kick_by_monitor(open);
		return VMB_OK;
	}
	return open->ops->kick(open->ops->ctx, open) == 0 ? VMB_OK : VMB_E_CLOSED;
}

bool
uio_device_is_gone(const struct uio_open *open)
{
	struct pollfd fd = { .fd = open->fd, .events = POLLIN };

	return open->fd >= 0 && poll(&fd, 1, 0) == 1 && (fd.revents & (POLLERR | POLLHUP | POLLNVAL)) != 0;
}
