/* SPDX-License-Identifier: MIT */
/*
 * Messages to the guest. What the agreed version or features do not know is not sent. While the
 * guest has paused the connection, messages wait in order for its Resume; how many can wait is
 * bounded by what each channel and GPADL can still be owed, because a paused guest cannot ask for
 * anything new.
 */
#include "bus/server.h"

#include <stdlib.h>
#include <string.h>

bool
server_post_hold(struct vmb_bus_server *server, const uint8_t *message, uint32_t bytes)
{
	struct server_held *held = malloc(sizeof(*held));

	if (held == NULL)
		return false;
	held->next = NULL;
	held->bytes = bytes;
	memcpy(held->message, message, bytes);
	*server->held_end = held;
	server->held_end = &held->next;
	return true;
}

void
server_post_at(struct vmb_bus_server *server, const struct vmb_msg *msg, uint32_t version,
               uint32_t features)
{
	uint8_t message[VMB_MSG_MAX_BYTES];
	uint32_t bytes = (uint32_t)vmb_msg_encode(msg, version, features, message);

	if (bytes == 0)
		return;
	/*
	 * Without memory the pause is broken rather than the answer lost: a guest waits for some of
	 * them for ever.
	 */
	if (server->paused && server_post_hold(server, message, bytes))
		return;
	server->ops.post(server->ctx, message, bytes);
}

void
server_post(struct vmb_bus_server *server, const struct vmb_msg *msg)
{
	server_post_at(server, msg, server->version, server->features);
}

static struct server_held *
held_take_all(struct vmb_bus_server *server)
{
	struct server_held *first = server->held;

	server->held = NULL;
	server->held_end = &server->held;
	return first;
}

void
server_flush_held(struct vmb_bus_server *server)
{
	struct server_held *held = held_take_all(server);

	while (held != NULL) {
		struct server_held *next = held->next;

		server->ops.post(server->ctx, held->message, held->bytes);
		free(held);
		held = next;
	}
}

void
server_drop_held(struct vmb_bus_server *server)
{
	struct server_held *held = held_take_all(server);

	while (held != NULL) {
		struct server_held *next = held->next;

		free(held);
		held = next;
	}
}
