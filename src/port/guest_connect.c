/* SPDX-License-Identifier: MIT */
/* From an address that people write to a guest's port. */
#include <string.h>

#include "port/uio.h"

#define PREFIX "uio:"
#define BIND "bind="

static enum vmb_status
connect_uio(const char *what, struct vmb_port **port, char reason[VMB_PORT_WHY_BYTES])
{
	char no_external[VMB_ARENA_REASON_BYTES];
	struct vmb_uio_options options = { .unbound = strcmp(what, "all") == 0 };
	const bool bind = strncmp(what, BIND, strlen(BIND)) == 0;
	struct vmb_guid which;
	enum vmb_status status;

	if (*what != '\0' && !options.unbound) {
		options.which = &which;
		if (!uio_guid_parse(bind ? what + strlen(BIND) : what, &which)) {
			strcpy(reason, "expected uio:, uio:all, uio:GUID or uio:bind=GUID");
			return VMB_E_INVALID;
		}
	}
	if (bind) {
		status = vmb_uio_bind(&options, &which, reason);
		if (status != VMB_OK)
			return status;
	}
	if (!vmb_arena_process_want_physical(no_external))
		options.no_external = no_external;
	return vmb_uio_connect(&options, vmb_arena_process(), port, reason);
}

enum vmb_status
vmb_guest_connect(const char *address, struct vmb_port **port, char reason[VMB_PORT_WHY_BYTES])
{
	return vmb_guest_connect_to(address, NULL, port, reason);
}

enum vmb_status
vmb_guest_connect_to(const char *address, const struct vmb_unix_access *servers,
                     struct vmb_port **port, char reason[VMB_PORT_WHY_BYTES])
{
	reason[0] = '\0';
	if (strncmp(address, PREFIX, strlen(PREFIX)) == 0)
		return connect_uio(address + strlen(PREFIX), port, reason);
	return vmb_unix_connect_to(address, vmb_arena_process(), servers, port, reason);
}
