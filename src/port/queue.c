/* SPDX-License-Identifier: MIT */
/*
 * The message queue of a port: a circular array that doubles up to its limit. Descriptors are
 * duplicated when they are queued, so that closing a doorbell while its OpenChannel still waits
 * cannot send a stranger's file.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "port/queue.h"

/* A drained queue larger than this returns its memory. */
#define DRAINED_CAPACITY 64u

/* Only when it is empty. */
static void
queue_shrink(struct port_queue *queue)
{
	if (queue->slots != queue->kept)
		free(queue->slots);
	queue->slots = queue->kept;
	queue->capacity = queue->limit < PORT_QUEUE_KEPT ? queue->limit : PORT_QUEUE_KEPT;
	queue->head = 0;
}

static enum vmb_status
queue_grow(struct port_queue *queue)
{
	uint32_t wanted = queue->capacity * 2u;
	uint32_t tail_count;
	struct port_message *slots;

	if (queue->count >= queue->limit)
		return VMB_E_LIMIT;
	if (wanted > queue->limit || wanted < queue->capacity)
		wanted = queue->limit;
	slots = malloc((size_t)wanted * sizeof(*slots));
	if (slots == NULL)
		return VMB_E_NO_MEMORY;

	/* Full, so the live slots are head..capacity followed by 0..head. */
	tail_count = queue->capacity - queue->head;
	memcpy(slots, queue->slots + queue->head, tail_count * sizeof(*slots));
	memcpy(slots + tail_count, queue->slots, queue->head * sizeof(*slots));
	if (queue->slots != queue->kept)
		free(queue->slots);
	queue->slots = slots;
	queue->capacity = wanted;
	queue->head = 0;
	return VMB_OK;
}

void
port_queue_init(struct port_queue *queue, uint32_t limit)
{
	queue->slots = queue->kept;
	queue->limit = limit;
	queue->count = 0;
	queue_shrink(queue);
}

enum vmb_status
port_queue_push(struct port_queue *queue, uint32_t connection_id, const void *message,
                uint32_t bytes, const int *fds, uint32_t fd_count)
{
	struct port_message *slot;
	enum vmb_status st;
	uint32_t i;

	if (queue->count == queue->capacity) {
		st = queue_grow(queue);
		if (st != VMB_OK)
			return st;
	}
	slot = &queue->slots[(uint32_t)(((uint64_t)queue->head + queue->count) % queue->capacity)];
	for (i = 0; i < fd_count; i++) {
		slot->fds[i] = fcntl(fds[i], F_DUPFD_CLOEXEC, 0);
		if (slot->fds[i] < 0)
			goto close_fds;
	}
	slot->connection_id = connection_id;
	slot->bytes = bytes;
	slot->fd_count = fd_count;
	memcpy(slot->data, message, bytes);
	queue->count++;
	return VMB_OK;

close_fds:
	while (i-- > 0)
		close(slot->fds[i]);
	return VMB_E_IO;
}

struct port_message *
port_queue_front(struct port_queue *queue)
{
	return queue->count == 0 ? NULL : &queue->slots[queue->head];
}

void
port_queue_pop(struct port_queue *queue)
{
	struct port_message *slot = &queue->slots[queue->head];

	for (uint32_t i = 0; i < slot->fd_count; i++) {
		if (slot->fds[i] >= 0)
			close(slot->fds[i]);
	}
	queue->head = (queue->head + 1u) % queue->capacity;
	queue->count--;
	if (queue->count == 0 && queue->capacity > DRAINED_CAPACITY)
		queue_shrink(queue);
}

void
port_queue_clear(struct port_queue *queue)
{
	while (queue->count > 0)
		port_queue_pop(queue);
	queue_shrink(queue);
}
