/* SPDX-License-Identifier: MIT */
/*
 * The loopback bus of this process: a host bus and a guest bus joined by the loopback port. Made at first use; it lives as
 * long as the process.
 */
#include "kmcl/kmcl_bus.h"

static struct kmcl_bus *loopback_host, *loopback_guest;
static enum vmb_status loopback_status = VMB_E_STATE;

static void
make_loopback(void)
{
	struct vmb_port *host_port, *guest_port;

	loopback_status = kmcl_bus_new(KMCL_BUS_HOST, "loopback", NULL, &loopback_host);
	if (loopback_status != VMB_OK)
		return;
	loopback_status = kmcl_bus_new(KMCL_BUS_GUEST, "loopback", NULL, &loopback_guest);
	if (loopback_status == VMB_OK)
		loopback_status = vmb_loopback_create(vmb_arena_mem(vmb_arena_process()), &host_port,
		                                      &guest_port);
	if (loopback_status != VMB_OK)
		return;
	loopback_status = kmcl_bus_start_thread(loopback_host, "kmcl-loop-host");
	if (loopback_status == VMB_OK)
		loopback_status = kmcl_host_add_guest(loopback_host, host_port, "this process");
	if (loopback_status == VMB_OK)
		loopback_status = kmcl_guest_attach_port(loopback_guest, guest_port);
}

enum vmb_status
kmcl_bus_loopback(struct kmcl_bus **guest)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;

	pthread_once(&once, make_loopback);
	if (guest != NULL)
		*guest = loopback_status == VMB_OK ? loopback_guest : NULL;
	return loopback_status;
}

struct kmcl_bus *
kmcl_loopback_host(void)
{
	if (kmcl_bus_loopback(NULL) != VMB_OK)
		return NULL;
	kmcl_bus_ref(loopback_host);
	return loopback_host;
}
