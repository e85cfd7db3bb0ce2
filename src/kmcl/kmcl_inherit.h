/* SPDX-License-Identifier: MIT */
/* Server channels that go on under another driver, of this process or another (kmcl_bus_save). */
#ifndef KMCL_INHERIT_H
#define KMCL_INHERIT_H

#include "kmcl/kmcl_bus.h"

/* After Enable: if the bus has a predecessor's state for this channel the channel is restored from it. */
void kmcl_inherit_take(struct kmcl_channel *ch);
/* State context: a channel was resumed; its driver may have to be told that it is open. */
void kmcl_inherit_resumed(struct kmcl_channel *ch);
/* What nobody took; bus->lock held. */
void kmcl_inherit_drop_locked(struct kmcl_bus *bus);

/* As KMCL_STATE_INTERFACE says. */
NTSTATUS kmcl_keep_state(VMBCHANNEL channel, const void *state, uint32_t bytes);
NTSTATUS kmcl_read_state(VMBCHANNEL channel, void *state, uint32_t bytes, uint32_t *filled);
/* Another open has nothing of the former one. */
void kmcl_forget_state(struct kmcl_channel *ch);

#endif
