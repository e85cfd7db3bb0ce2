/* SPDX-License-Identifier: MIT */
/* The two roles of a channel and what the rest of the layer needs to know of them. */
#ifndef KMCL_ROLE_H
#define KMCL_ROLE_H

#include "kmcl/kmcl_channel.h"

extern const struct kmcl_role_ops kmcl_server_role;
extern const struct kmcl_role_ops kmcl_client_role;

void *kmcl_server_create(struct kmcl_channel *ch);
void *kmcl_client_create(struct kmcl_channel *ch);
void kmcl_server_destroy(struct kmcl_channel *ch);
void kmcl_client_destroy(struct kmcl_channel *ch);

/* Type and instance that a channel is or was offered with: a subchannel has its primary's. No lock held. */
void kmcl_role_identity(struct kmcl_channel *ch, GUID *type, GUID *instance);

/* Instance of the matched offer, else of the target, else zero; fsm.lock held. */
GUID kmcl_client_instance(struct kmcl_channel *ch);

/*
 * Common to both roles, state context. The link's rings and doorbell are in place: make the ring
 * objects, join the loop. STATUS_SUCCESS or why it could not.
 */
NTSTATUS kmcl_link_up(struct kmcl_channel *ch);
/* Leave the loop, forget the ring objects; nothing touches the link afterwards. */
void kmcl_link_down(struct kmcl_channel *ch);

#endif
