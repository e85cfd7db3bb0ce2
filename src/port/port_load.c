/* SPDX-License-Identifier: MIT */
/* Which kind of port a parcel holds; the kinds know the rest. */
#include "port/unix.h"

static const struct {
	uint16_t kind;
	enum vmb_status (*load)(struct vmb_parcel *parcel, struct vmb_chunk *chunk,
	                        struct vmb_port **port);
} kinds[] = {
	{ VMB_PARCEL_UNIX_PORT, unix_port_load },
};

enum vmb_status
vmb_port_load(struct vmb_parcel *parcel, struct vmb_port **port)
{
	struct vmb_chunk chunk;
	enum vmb_status st = vmb_parcel_next(parcel, 0, &chunk);

	if (st != VMB_OK)
		return st;
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (kinds[i].kind == chunk.kind)
			return kinds[i].load(parcel, &chunk, port);
	}
	return VMB_E_UNSUPPORTED;
}
