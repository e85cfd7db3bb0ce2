/* SPDX-License-Identifier: MIT */
/*
 * Doorbell tables. Nobody ever reads a doorbell's counter: waiters use edge-triggered epoll, for
 * which every signal is an edge. So no end can be made to block in a read, whatever its peer does to
 * the counter or to the flags of the shared file.
 */
#include <fcntl.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "port/doorbells.h"

/* In OpenChannel and RelIdReleased (vmbus-protocol 4.2). */
#define CHANNEL_ID_OFFSET 8u

static bool
pair_is_set(const struct port_pair *pair)
{
	return pair->fds[0] >= 0;
}

static void
pair_drop(struct port_doorbells *bells, struct port_pair *pair)
{
	if (!pair_is_set(pair))
		return;
	close(pair->fds[0]);
	close(pair->fds[1]);
	pair->fds[0] = -1;
	pair->fds[1] = -1;
	bells->held--;
}

static bool
channel_id_is_valid(uint32_t channel_id)
{
	return channel_id >= 1 && channel_id <= VMB_CHANNEL_ID_MAX;
}

void
port_doorbells_init(struct port_doorbells *bells, bool is_host, uint32_t limit)
{
	for (uint32_t i = 0; i <= VMB_CHANNEL_ID_MAX; i++) {
		bells->open[i] = (struct port_pair){ .fds = { -1, -1 } };
		bells->brought[i] = (struct port_pair){ .fds = { -1, -1 } };
	}
	bells->held = 0;
	bells->limit = limit;
	bells->is_host = is_host;
}

void
port_doorbells_close_all(struct port_doorbells *bells)
{
	for (uint32_t i = 0; i <= VMB_CHANNEL_ID_MAX; i++) {
		pair_drop(bells, &bells->open[i]);
		pair_drop(bells, &bells->brought[i]);
	}
}

static enum vmb_status
pair_make(struct port_pair *pair)
{
	pair->fds[0] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pair->fds[0] < 0)
		return VMB_E_IO;
	pair->fds[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (pair->fds[1] < 0) {
		close(pair->fds[0]);
		pair->fds[0] = -1;
		return VMB_E_IO;
	}
	return VMB_OK;
}

enum vmb_status
port_doorbell_open(struct port_doorbells *bells, uint32_t channel_id, struct vmb_doorbell *doorbell)
{
	struct port_pair *pair;
	enum vmb_status st;

	if (!channel_id_is_valid(channel_id))
		return VMB_E_INVALID;
	pair = &bells->open[channel_id];
	if (pair_is_set(pair))
		return VMB_E_EXISTS;

	if (bells->is_host) {
		if (!pair_is_set(&bells->brought[channel_id]))
			return VMB_E_NOT_FOUND;
		*pair = bells->brought[channel_id];
		bells->brought[channel_id] = (struct port_pair){ .fds = { -1, -1 } };
	} else {
		st = pair_make(pair);
		if (st != VMB_OK)
			return st;
		bells->held++;
	}
	doorbell->wait_fd = pair->fds[bells->is_host ? PORT_TO_HOST : PORT_TO_GUEST];
	doorbell->ring_fd = pair->fds[bells->is_host ? PORT_TO_GUEST : PORT_TO_HOST];
	doorbell->own = NULL;
	return VMB_OK;
}

enum vmb_status
port_doorbell_adopt(struct port_doorbells *bells, uint32_t channel_id, const int fds[2])
{
	struct port_pair *pair, made;

	if (!channel_id_is_valid(channel_id))
		return VMB_E_INVALID;
	pair = &bells->open[channel_id];
	if (pair_is_set(pair))
		return VMB_E_EXISTS;
	made.fds[0] = fcntl(fds[0], F_DUPFD_CLOEXEC, 0);
	if (made.fds[0] < 0)
		return VMB_E_IO;
	made.fds[1] = fcntl(fds[1], F_DUPFD_CLOEXEC, 0);
	if (made.fds[1] < 0) {
		close(made.fds[0]);
		return VMB_E_IO;
	}
	*pair = made;
	bells->held++;
	return VMB_OK;
}

void
port_doorbell_close(struct port_doorbells *bells, uint32_t channel_id)
{
	if (channel_id_is_valid(channel_id))
		pair_drop(bells, &bells->open[channel_id]);
}

void
port_doorbell_keep(struct port_doorbells *bells, uint32_t channel_id)
{
	struct port_pair *pair;

	if (!channel_id_is_valid(channel_id) || !bells->is_host)
		return;
	pair = &bells->open[channel_id];
	if (!pair_is_set(pair))
		return;
	/* What else was brought belongs to an open that was refused, because this one is open. */
	pair_drop(bells, &bells->brought[channel_id]);
	bells->brought[channel_id] = *pair;
	*pair = (struct port_pair){ .fds = { -1, -1 } };
}

/*
 * The id in OpenChannel and RelIdReleased, 0 (never a channel) when the message is too short or the
 * id is wrong.
 */
static uint32_t
message_channel_id(const uint8_t *message, uint32_t bytes)
{
	uint32_t channel_id;

	if (bytes < CHANNEL_ID_OFFSET + sizeof(channel_id))
		return 0;
	channel_id = port_message_u32(message, CHANNEL_ID_OFFSET);
	return channel_id_is_valid(channel_id) ? channel_id : 0;
}

const int *
port_doorbell_of_message(const struct port_doorbells *bells, const uint8_t *message, uint32_t bytes)
{
	const struct port_pair *pair;

	if (bells->is_host || port_message_u32(message, 0) != VMB_MSG_OPEN_CHANNEL)
		return NULL;
	/* Slot 0 is never set. */
	pair = &bells->open[message_channel_id(message, bytes)];
	return pair_is_set(pair) ? pair->fds : NULL;
}

static enum vmb_status
doorbell_bring(struct port_doorbells *bells, uint32_t channel_id, const int *pair)
{
	/* The newest request counts; an unclaimed pair belongs to an open that failed. */
	pair_drop(bells, &bells->brought[channel_id]);
	if (pair == NULL)
		return VMB_OK;
	if (channel_id == 0)
		return VMB_E_INVALID;
	if (bells->limit != 0 && bells->held >= bells->limit)
		return VMB_E_LIMIT;
	bells->brought[channel_id].fds[0] = pair[0];
	bells->brought[channel_id].fds[1] = pair[1];
	bells->held++;
	return VMB_OK;
}

enum vmb_status
port_doorbells_receive(struct port_doorbells *bells, const uint8_t *message, uint32_t bytes,
                       const int *pair)
{
	enum vmb_status st = pair == NULL ? VMB_OK : VMB_E_INVALID;

	switch (port_message_u32(message, 0)) {
	case VMB_MSG_OPEN_CHANNEL:
		st = doorbell_bring(bells, message_channel_id(message, bytes), pair);
		break;
	case VMB_MSG_REL_ID_RELEASED:
		pair_drop(bells, &bells->brought[message_channel_id(message, bytes)]);
		break;
	case VMB_MSG_INITIATE_CONTACT:
	case VMB_MSG_UNLOAD:
		/* Every channel of the old connection ends; nobody will open these. */
		for (uint32_t i = 1; i <= VMB_CHANNEL_ID_MAX; i++)
			pair_drop(bells, &bells->brought[i]);
		break;
	default:
		break;
	}
	if (st != VMB_OK) {
		close(pair[0]);
		close(pair[1]);
	}
	return st;
}
