/* SPDX-License-Identifier: MIT */
/* The beginning of a uio port: whether there is anything to connect to, and what it is made of. */
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "port/uio_port.h"

#define INBOX_MESSAGES 8192u
#define RESCAN_MS 1000u

static const char *
root_of(const char *option, const char *variable, const char *standard)
{
	const char *value = option != NULL ? option : getenv(variable);

	return value != NULL && *value != '\0' ? value : standard;
}

struct uio_roots
uio_roots_of(const struct vmb_uio_options *options)
{
	return (struct uio_roots){
		root_of(options != NULL ? options->sys_root : NULL, "KMCL_UIO_SYS", "/sys"),
		root_of(options != NULL ? options->dev_root : NULL, "KMCL_UIO_DEV", "/dev"),
	};
}

/* The kernel's news of devices; -1 where it has none for us (another network namespace, or a tree that is not its own). */
static int
open_uevents(const struct uio_roots *roots)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	int fd;

	if (strcmp(roots->sys, "/sys") != 0)
		return -1;
	fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
	if (fd < 0)
		return -1;
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	close(fd);
	return -1;
}

/* Whether there is anything to connect to. */
static enum vmb_status
look_around(const struct vmb_uio_options *options, const struct uio_roots *roots,
            char reason[VMB_PORT_WHY_BYTES])
{
	struct uio_device *devices;
	uint32_t count, bound = 0;
	enum vmb_status status = uio_scan(roots, options->which, &devices, &count);

	if (status != VMB_OK) {
		uio_scan_why(roots, status, reason);
		return status;
	}
	for (uint32_t i = 0; i < count; i++)
		bound += devices[i].number >= 0;
	free(devices);
	if (options->unbound || (options->which == NULL && uio_driver_is_loaded(roots)) || bound != 0)
		return VMB_OK;
	if (!uio_driver_is_loaded(roots))
		snprintf(reason, VMB_PORT_WHY_BYTES, "the driver " UIO_DRIVER " is not loaded; modprobe " UIO_DRIVER);
	else if (count != 0)
		snprintf(reason, VMB_PORT_WHY_BYTES, "the device is not bound to " UIO_DRIVER "; uio:bind=GUID binds it");
	else
		snprintf(reason, VMB_PORT_WHY_BYTES, "no device on the VMBus has this class or instance");
	return VMB_E_NOT_FOUND;
}

enum vmb_status
uio_connect(const struct vmb_uio_options *options, const struct uio_ops *ops, struct vmb_arena *arena,
            struct vmb_port **port, char reason[VMB_PORT_WHY_BYTES])
{
	static const struct vmb_uio_options defaults;
	const struct uio_roots roots = uio_roots_of(options);
	struct uio_port *up;
	enum vmb_status status;

	reason[0] = '\0';
	if (options == NULL)
		options = &defaults;
	status = look_around(options, &roots, reason);
	if (status != VMB_OK)
		return status;
	up = calloc(1, sizeof(*up));
	if (up == NULL)
		return VMB_E_NO_MEMORY;
	if (!port_core_init(&up->core, &uio_port_ops, false, 0)) {
		free(up);
		return VMB_E_NO_MEMORY;
	}
	port_queue_init(&up->inbox, INBOX_MESSAGES);
	up->ops = ops;
	up->arena = arena;
	up->core.memory = vmb_arena_mem(arena);
	vmb_mem_ref(up->core.memory);
	up->sys = strdup(roots.sys);
	up->dev = strdup(roots.dev);
	up->roots = (struct uio_roots){ up->sys, up->dev };
	up->unbound = options->unbound;
	up->has_which = options->which != NULL;
	if (up->has_which)
		up->which = *options->which;
	snprintf(up->no_external, sizeof(up->no_external), "%s",
	         options->no_external != NULL ? options->no_external
	                                      : "the memory of this process is not physical; set KMCL_RAM=physical");
	up->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	up->nudge = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	up->uevents = open_uevents(&roots);
	up->rescan_ms = options->rescan_ms != 0 ? options->rescan_ms : up->uevents < 0 ? RESCAN_MS : 0;
	status = up->sys == NULL || up->dev == NULL ? VMB_E_NO_MEMORY
	         : up->wake < 0 || up->nudge < 0 || !uio_worker_start(up) ? VMB_E_IO
	                                                              : VMB_OK;
	if (status != VMB_OK)
		vmb_port_destroy(&up->core.port);
	else
		*port = &up->core.port;
	return status;
}

enum vmb_status
vmb_uio_connect(const struct vmb_uio_options *options, struct vmb_arena *arena, struct vmb_port **port,
                char reason[VMB_PORT_WHY_BYTES])
{
	return uio_connect(options, &uio_kernel_ops, arena, port, reason);
}
