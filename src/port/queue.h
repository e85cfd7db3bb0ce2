/* SPDX-License-Identifier: MIT */
/*
 * A bounded queue of control messages with the descriptors that ride along. It grows with what it
 * holds, never beyond its limit, and gives its memory back once it has drained. No lock: the owner
 * serialises.
 */
#ifndef PORT_QUEUE_H
#define PORT_QUEUE_H

#include <stdint.h>

#include "vmb/msg.h"
#include "vmb/status.h"

#define PORT_MESSAGE_FDS 2u
/* So many messages need no memory but the queue's own: an idle bus talks on when there is none. */
#define PORT_QUEUE_KEPT 16u

struct port_message {
	uint32_t connection_id;
	uint32_t bytes;
	uint32_t fd_count;
	int fds[PORT_MESSAGE_FDS];      /* owned by the queue; -1 = taken out */
	uint8_t data[VMB_MSG_MAX_BYTES];
};

struct port_queue {
	struct port_message kept[PORT_QUEUE_KEPT];
	struct port_message *slots;     /* `kept`, or allocated */
	uint32_t capacity;
	uint32_t head;
	uint32_t count;
	uint32_t limit;
};

/* The queue does not move from here on. */
void port_queue_init(struct port_queue *queue, uint32_t limit);

/*
 * Append a copy of a message (bytes <= 240) and duplicates of its descriptors. VMB_OK, VMB_E_LIMIT,
 * VMB_E_NO_MEMORY, VMB_E_IO (no descriptor left). Nothing is queued on failure.
 */
VMB_MUST_CHECK enum vmb_status port_queue_push(struct port_queue *queue, uint32_t connection_id,
                                               const void *message, uint32_t bytes, const int *fds,
                                               uint32_t fd_count);

/* The oldest message or NULL. Valid until the next push, pop or clear. */
struct port_message *port_queue_front(struct port_queue *queue);
/* Drop the oldest message; descriptors nobody took are closed. */
void port_queue_pop(struct port_queue *queue);
void port_queue_clear(struct port_queue *queue);

#endif
