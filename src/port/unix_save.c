/* SPDX-License-Identifier: MIT */
/*
 * A host's unix port on its way to another process. Descriptors: the socket, the guest's memory if
 * it has shared it, a pair per channel. Times are saved as distances from now. Neither side touches
 * the connection itself, so that either one can still go on with it.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "port/unix.h"

#define FLAG_PEER_LEFT 0x01u
#define FLAG_RAM 0x02u

/* The pair that the channel's next user will want: the open one, or one that was brought. */
static const struct port_pair *
pair_of(const struct port_doorbells *bells, uint32_t channel_id)
{
	if (bells->open[channel_id].fds[0] >= 0)
		return &bells->open[channel_id];
	return bells->brought[channel_id].fds[0] >= 0 ? &bells->brought[channel_id] : NULL;
}

static uint32_t
pair_count(const struct port_doorbells *bells)
{
	uint32_t count = 0;

	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++)
		count += pair_of(bells, id) != NULL;
	return count;
}

/* Lock held. */
static void
put_port(struct vmb_chunk_writer *writer, const void *ctx)
{
	const struct unix_port *up = ctx;
	const struct port_queue *out = &up->out;
	uint64_t now_ns = unix_now_ns();

	vmb_chunk_begin(writer, &vmb_parcel_format, VMB_PARCEL_UNIX_PORT);
	vmb_chunk_put_u32(writer, up->limits.queue_messages);
	vmb_chunk_put_u32(writer, up->limits.stall_ms);
	vmb_chunk_put_u32(writer, up->limits.messages_per_second);
	vmb_chunk_put_u64(writer, up->limits.memory_bytes);
	vmb_chunk_put_u32(writer, up->limits.channels);
	vmb_chunk_put_u32(writer, (up->peer_left ? FLAG_PEER_LEFT : 0) |
	                                  (up->core.memory != NULL ? FLAG_RAM : 0));
	vmb_chunk_put_u64(writer, up->bucket.spent_ns > now_ns ? up->bucket.spent_ns - now_ns : 0);
	vmb_chunk_put_u32(writer, pair_count(&up->core.doorbells));
	for (uint32_t id = 1; id <= VMB_CHANNEL_ID_MAX; id++) {
		if (pair_of(&up->core.doorbells, id) != NULL)
			vmb_chunk_put_u16(writer, (uint16_t)id);
	}
	vmb_chunk_put_u32(writer, out->count);
	for (uint32_t i = 0; i < out->count; i++) {
		const struct port_message *message =
			&out->slots[((uint64_t)out->head + i) % out->capacity];

		vmb_chunk_put_u8(writer, (uint8_t)message->bytes);
		vmb_chunk_put_bytes(writer, message->data, message->bytes);
	}
	vmb_chunk_end(writer);
}

/* Lock held. In the order in which they are taken out. */
static enum vmb_status
put_fds(const struct unix_port *up, struct vmb_parcel *parcel)
{
	enum vmb_status st = vmb_parcel_add_fd(parcel, up->sock);

	if (st == VMB_OK && up->core.memory != NULL)
		st = vmb_parcel_add_fd(parcel, up->peer_ram_fd);
	for (uint32_t id = 1; st == VMB_OK && id <= VMB_CHANNEL_ID_MAX; id++) {
		const struct port_pair *pair = pair_of(&up->core.doorbells, id);

		for (unsigned i = 0; st == VMB_OK && pair != NULL && i < 2; i++)
			st = vmb_parcel_add_fd(parcel, pair->fds[i]);
	}
	return st;
}

enum vmb_status
unix_port_save(struct vmb_port *port, struct vmb_parcel *parcel)
{
	struct unix_port *up = (struct unix_port *)(void *)port;
	enum vmb_status st = VMB_E_CLOSED;

	/* A guest's port owns the memory that it shares; it stays with its process. */
	if (!up->core.is_host)
		return VMB_E_UNSUPPORTED;
	pthread_mutex_lock(&up->core.lock);
	if (!port_core_is_closing(&up->core))
		st = vmb_parcel_add_chunks(parcel, put_port, up);
	if (st == VMB_OK)
		st = put_fds(up, parcel);
	pthread_mutex_unlock(&up->core.lock);
	return st;
}

/* ---- loading -------------------------------------------------------------------------------- */

static bool
is_connected_socket(int fd)
{
	int accepting = 1;
	socklen_t length = sizeof(accepting);

	return vmb_parcel_socket_is_good(fd) &&
	       getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &length) == 0 && accepting == 0;
}

static void
discard_fd(int fd)
{
	port_fds_discard(&fd, 1);
}

static bool
get_limits(struct vmb_chunk *chunk, struct vmb_unix_limits *limits)
{
	limits->queue_messages = vmb_chunk_get_u32(chunk);
	limits->stall_ms = vmb_chunk_get_u32(chunk);
	limits->messages_per_second = vmb_chunk_get_u32(chunk);
	limits->memory_bytes = vmb_chunk_get_u64(chunk);
	limits->channels = vmb_chunk_get_u32(chunk);
	/* Zeros were replaced by defaults long ago. */
	return limits->queue_messages != 0 && limits->stall_ms != 0 &&
	       limits->messages_per_second != 0 && limits->memory_bytes != 0 &&
	       limits->channels != 0;
}

static enum vmb_status
load_ram(struct unix_port *up, struct vmb_parcel *parcel)
{
	int fd = vmb_parcel_take_fd(parcel);
	enum vmb_status st = VMB_E_MALFORMED;
	const char *wrong;

	if (fd >= 0)
		st = unix_port_set_ram(up, fd, &wrong);
	if (st != VMB_OK)
		discard_fd(fd);
	return st;
}

/* All count as brought: who opens their channels in this process opens them too. */
static enum vmb_status
load_pair(struct unix_port *up, struct vmb_parcel *parcel, uint32_t channel_id)
{
	struct port_doorbells *bells = &up->core.doorbells;
	int to_host = vmb_parcel_take_fd(parcel);
	int to_guest = vmb_parcel_take_fd(parcel);

	if (to_guest < 0 || channel_id == 0 || channel_id > VMB_CHANNEL_ID_MAX ||
	    pair_of(bells, channel_id) != NULL || bells->held >= bells->limit ||
	    !port_fd_accept_eventfd(to_host) || !port_fd_accept_eventfd(to_guest)) {
		discard_fd(to_host);
		discard_fd(to_guest);
		return VMB_E_MALFORMED;
	}
	bells->brought[channel_id].fds[PORT_TO_HOST] = to_host;
	bells->brought[channel_id].fds[PORT_TO_GUEST] = to_guest;
	bells->held++;
	return VMB_OK;
}

static enum vmb_status
load_message(struct unix_port *up, struct vmb_chunk *chunk)
{
	uint32_t bytes = vmb_chunk_get_u8(chunk);
	const uint8_t *message = vmb_chunk_get_bytes(chunk, bytes);
	enum vmb_status st;

	if (message == NULL || !port_message_size_is_valid(bytes))
		return VMB_E_MALFORMED;
	st = port_queue_push(&up->out, 0, message, bytes, NULL, 0);
	return st == VMB_E_LIMIT ? VMB_E_MALFORMED : st;
}

static enum vmb_status
load_rest(struct unix_port *up, struct vmb_parcel *parcel, struct vmb_chunk *chunk)
{
	uint32_t flags = vmb_chunk_get_u32(chunk);
	uint64_t ahead_ns = vmb_chunk_get_u64(chunk);
	enum vmb_status st = VMB_OK;
	uint32_t count;

	if ((flags & ~(FLAG_PEER_LEFT | FLAG_RAM)) != 0 || ahead_ns > PORT_BUCKET_BURST_NS)
		return VMB_E_MALFORMED;
	up->peer_left = (flags & FLAG_PEER_LEFT) != 0;
	up->bucket.spent_ns = unix_now_ns() + ahead_ns;
	if ((flags & FLAG_RAM) != 0)
		st = load_ram(up, parcel);
	count = vmb_chunk_get_u32(chunk);
	for (uint32_t i = 0; st == VMB_OK && i < count; i++)
		st = load_pair(up, parcel, vmb_chunk_get_u16(chunk));
	count = vmb_chunk_get_u32(chunk);
	for (uint32_t i = 0; st == VMB_OK && i < count; i++)
		st = load_message(up, chunk);
	return st == VMB_OK && !vmb_chunk_is_whole(chunk) ? VMB_E_MALFORMED : st;
}

enum vmb_status
unix_port_load(struct vmb_parcel *parcel, struct vmb_chunk *chunk, struct vmb_port **port)
{
	int sock = vmb_parcel_take_fd(parcel);
	struct vmb_unix_limits limits = { 0 };
	struct vmb_port *made;
	enum vmb_status st;

	if (sock < 0 || !is_connected_socket(sock) || !get_limits(chunk, &limits)) {
		discard_fd(sock);
		return VMB_E_MALFORMED;
	}
	st = unix_port_create(sock, true, &limits, NULL, -1, &made);
	if (st != VMB_OK)
		return st;
	st = load_rest((struct unix_port *)(void *)made, parcel, chunk);
	if (st != VMB_OK) {
		vmb_port_destroy(made);
		return st;
	}
	unix_port_resume((struct unix_port *)(void *)made);
	*port = made;
	return VMB_OK;
}
