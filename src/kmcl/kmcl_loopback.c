/* SPDX-License-Identifier: MIT */
/*
 * The loopback bus of this process: a host bus and a guest bus joined by the loopback port. Made at
 * first use; it lives as long as the process.
 */
#include "kmcl/kmcl_bus.h"

static pthread_mutex_t loopback_lock = PTHREAD_MUTEX_INITIALIZER;
static struct kmcl_bus *loopback_host, *loopback_guest;

/* Both buses exist; either takes its port, also when it fails. */
static enum vmb_status
join(struct kmcl_bus *host, struct kmcl_bus *guest)
{
	struct vmb_port *host_port, *guest_port;
	enum vmb_status status = vmb_loopback_create(vmb_arena_mem(vmb_arena_process()), &host_port,
	                                             &guest_port);

	if (status != VMB_OK)
		return status;
	host->own_guest = guest;
	status = kmcl_host_add_guest(host, host_port, "this process");
	if (status == VMB_OK)
		status = kmcl_bus_start_thread(host, "kmcl-loop-host");
	if (status == VMB_OK)
		return kmcl_guest_attach_port(guest, guest_port);
	vmb_port_destroy(guest_port);
	return status;
}

static enum vmb_status
make_loopback_locked(void)
{
	struct kmcl_bus *host, *guest;
	enum vmb_status status = kmcl_bus_new(KMCL_BUS_HOST, "loopback", NULL, &host);

	if (status != VMB_OK)
		return status;
	status = kmcl_bus_new(KMCL_BUS_GUEST, "loopback", NULL, &guest);
	if (status != VMB_OK)
		goto fail_host;
	status = join(host, guest);
	if (status != VMB_OK)
		goto fail_guest;
	loopback_host = host;
	loopback_guest = guest;
	return VMB_OK;

fail_guest:
	kmcl_bus_close(guest);
fail_host:
	kmcl_bus_close(host);
	return status;
}

/* A failure is not remembered: what was missing may be there the next time. */
enum vmb_status
kmcl_bus_loopback(struct kmcl_bus **guest)
{
	enum vmb_status status = VMB_OK;

	pthread_mutex_lock(&loopback_lock);
	if (loopback_guest == NULL)
		status = make_loopback_locked();
	if (guest != NULL)
		*guest = loopback_guest;
	pthread_mutex_unlock(&loopback_lock);
	return status;
}

struct kmcl_bus *
kmcl_loopback_host(void)
{
	if (kmcl_bus_loopback(NULL) != VMB_OK)
		return NULL;
	kmcl_bus_ref(loopback_host);
	return loopback_host;
}
