/* SPDX-License-Identifier: MIT */
/*
 * The uio port (vmbus-protocol 6): devices of this machine's VMBus that the kernel's driver uio_hv_generic has given to
 * user space. The parts: what sysfs says (uio_sysfs.c), binding (uio_bind.c), one open device (uio_device.c), and the port,
 * which answers our own control messages in the place of the host, because the kernel talks to that one (uio_port.h).
 */
#ifndef PORT_UIO_H
#define PORT_UIO_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "vmb/msg.h"
#include "vmb/port.h"

#define UIO_DRIVER "uio_hv_generic"
#define UIO_NO_MONITOR 0xFFu
#define UIO_GUID_TEXT 37u       /* 8-4-4-4-12 in lower case, as sysfs names devices */

/* Where sysfs and the device nodes are. */
struct uio_roots {
	const char *sys;        /* "/sys" */
	const char *dev;        /* "/dev" */
};

/* One device of the VMBus, as sysfs shows it. */
struct uio_device {
	char name[64];          /* its folder below bus/vmbus/devices */
	struct vmb_guid type, instance;
	uint32_t channel_id;
	int number;             /* N of uioN; -1 = not bound to the driver */
	uint32_t monitor_id;    /* 0..127, or UIO_NO_MONITOR: signals need no page */
};

/* One memory map of a bound device. bytes 0 = it has none of this name. */
struct uio_map {
	uint32_t index;
	uint64_t bytes;
};

/* ---- uio_sysfs.c -------------------------------------------------------------------------------------- */

bool uio_guid_parse(const char *text, struct vmb_guid *guid);
void uio_guid_format(const struct vmb_guid *guid, char text[UIO_GUID_TEXT]);
static inline bool
uio_guid_equal(const struct vmb_guid *a, const struct vmb_guid *b)
{
	return __builtin_memcmp(a, b, sizeof(*a)) == 0;
}

/*
 * All devices, or those whose class or instance is `which`, by ascending channel. Whatever does not look like a device, or goes
 * while it is looked at, is skipped. VMB_OK: *devices (free() it) has *count. VMB_E_NOT_FOUND: no VMBus here.
 * VMB_E_NO_MEMORY, VMB_E_IO (no descriptor to be had): not even one device is known to be there or not.
 */
VMB_MUST_CHECK enum vmb_status uio_scan(const struct uio_roots *roots, const struct vmb_guid *which,
                                        struct uio_device **devices, uint32_t *count);
/* What to tell of a scan that failed with this; empty if there is no more to say than the status. */
void uio_scan_why(const struct uio_roots *roots, enum vmb_status status, char reason[VMB_PORT_WHY_BYTES]);
void uio_find_map(const struct uio_roots *roots, const struct uio_device *device, const char *name,
                  struct uio_map *map);
bool uio_driver_is_loaded(const struct uio_roots *roots);

/* ---- uio_device.c ------------------------------------------------------------------------------------- */

/*
 * How a device node is used. Tests put something in the place of the kernel here. All but kick may block for as long as the host
 * takes. They return -1 or NULL with errno.
 */
struct uio_open;
struct uio_ops {
	int (*open)(void *ctx, const char *path, void **own);   /* opens the channel */
	void *(*map)(void *ctx, const struct uio_open *open, uint32_t index, size_t bytes);
	int (*kick)(void *ctx, const struct uio_open *open);    /* signal the host; any thread */
	void (*unmap)(void *ctx, void *at, size_t bytes);
	void (*close)(void *ctx, const struct uio_open *open);  /* closes the channel, once nothing is mapped */
	void *ctx;
};
extern const struct uio_ops uio_kernel_ops;

struct uio_open {
	const struct uio_ops *ops;
	int fd;                 /* -1 = not open */
	void *own;              /* of the ops */
	uint8_t *rings;
	size_t ring_bytes;
	uint32_t *int_page, *monitor_page; /* only of a device with a monitor */
	uint32_t channel_id, monitor_id;
};

#define UIO_WHY_BYTES VMB_PORT_WHY_BYTES
/* May block. On failure `why` tells, and nothing is open. VMB_E_NOT_FOUND, VMB_E_ACCESS, VMB_E_BUSY, VMB_E_IO, VMB_E_UNSUPPORTED. */
VMB_MUST_CHECK enum vmb_status uio_device_open(const struct uio_roots *roots, const struct uio_device *device,
                                               const struct uio_ops *ops, struct uio_open *open,
                                               char why[UIO_WHY_BYTES]);
void uio_device_close(struct uio_open *open);
/* Any thread, while it is open. VMB_OK, VMB_E_CLOSED: the device is gone. */
enum vmb_status uio_device_kick(const struct uio_open *open);
/* The kernel has taken it away. */
bool uio_device_is_gone(const struct uio_open *open);

/* ---- uio_connect.c --------------------------------------------------------------------------------------- */

/* As vmb_uio_connect(), with another way to use device nodes. */
VMB_MUST_CHECK enum vmb_status uio_connect(const struct vmb_uio_options *options, const struct uio_ops *ops,
                                           struct vmb_arena *arena, struct vmb_port **port,
                                           char reason[VMB_PORT_WHY_BYTES]);
struct uio_roots uio_roots_of(const struct vmb_uio_options *options);

#endif
