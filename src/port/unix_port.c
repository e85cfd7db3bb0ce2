/* SPDX-License-Identifier: MIT */
/*
 * A unix port: what is posted, what waits, what is polled, how it ends. Posting sends at once when
 * it can; the rest waits in a bounded queue until the socket has room. A host that cannot get rid
 * of its answers stops reading requests (vmbus-protocol 4.9), and so does one whose guest sends faster
 * than it may: it waits and loses nothing, and the others do not wait for it. A guest always reads, so
 * that the two never wait for each other; a host that floods it is cut off.
 *
 * Nothing here waits for the peer: every send and receive is non-blocking, a peer that takes
 * nothing for stall_ms is cut off, and so is one for which the queue overflows.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "port/unix.h"

#define NS_PER_MS 1000000u
#define NS_PER_SECOND 1000000000u

#define DEFAULT_QUEUE_MESSAGES 8192u
#define DEFAULT_STALL_MS 10000u
#define DEFAULT_MESSAGES_PER_SECOND 200000u
#define DEFAULT_MEMORY_BYTES (64ull << 30)
#define DEFAULT_CHANNELS 256u
/* A client that is too fast gets its next share at once instead of one message at a time. */
#define SHORTEST_PAUSE_NS 1000000u

static struct unix_port *
unix_of(struct vmb_port *port)
{
	return (struct unix_port *)(void *)port;
}

static uint64_t
monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

static _Atomic(uint64_t (*)(void)) unix_clock = monotonic_ns;

uint64_t
unix_now_ns(void)
{
	return atomic_load(&unix_clock)();
}

void
unix_set_clock(uint64_t (*now_ns)(void))
{
	atomic_store(&unix_clock, now_ns != NULL ? now_ns : monotonic_ns);
}

static void
unix_wake(const struct unix_port *up)
{
	/* Cannot fail: our own counter, read back to zero by each poll. */
	(void)!eventfd_write(up->wake, 1);
}

/*
 * Ask epoll for what matters now: requests unless answers wait or the client has to, room while something waits. With
 * nothing to ask the socket leaves the set: a peer that hangs up would be reported whatever is asked.
 */
static void
update_interest_locked(struct unix_port *up)
{
	struct epoll_event event = { .data.fd = up->sock };

	if (port_core_is_closing(&up->core))
		return;
	if (!up->core.is_host || (up->out.count == 0 && up->paused_until_ns == 0))
		event.events |= EPOLLIN | EPOLLRDHUP;
	if (up->out.count > 0)
		event.events |= EPOLLOUT;
	if (event.events == up->interest)
		return;
	if (epoll_ctl(up->epoll,
	              event.events == 0   ? EPOLL_CTL_DEL
	              : up->interest == 0 ? EPOLL_CTL_ADD
	                                  : EPOLL_CTL_MOD,
	              up->sock, &event) == 0)
		up->interest = event.events;
	else /* no memory for the set's entry: with the timer's next turn */
		up->paused_until_ns = unix_now_ns() + SHORTEST_PAUSE_NS;
}

/* For whatever is due first: the end of the peer's patience that we have, or of the client's pause. */
static void
arm_timer_locked(struct unix_port *up)
{
	uint64_t due_ns = up->paused_until_ns, now_ns = unix_now_ns(), ns = 0;
	uint64_t stall_ns = up->progress_ns + (uint64_t)up->limits.stall_ms * NS_PER_MS;
	struct itimerspec when;

	if (up->out.count > 0 && (due_ns == 0 || stall_ns < due_ns))
		due_ns = stall_ns;
	if (due_ns != 0)
		ns = due_ns > now_ns ? due_ns - now_ns : 1;
	when = (struct itimerspec){
		.it_value.tv_sec = (time_t)(ns / NS_PER_SECOND),
		.it_value.tv_nsec = (long)(ns % NS_PER_SECOND),
	};
	(void)!timerfd_settime(up->timer, 0, &when, NULL);
}

/*
 * The peer made progress, or has begun to keep us waiting: its time starts (again), or stops with
 * an empty queue.
 */
static void
restart_stall_clock_locked(struct unix_port *up)
{
	up->progress_ns = unix_now_ns();
	arm_timer_locked(up);
}

static void
close_locked(struct unix_port *up, enum vmb_status why, const char *reason)
{
	if (!port_core_close_locked(&up->core, why, reason))
		return;
	port_queue_clear(&up->out);
	/* What the kernel already holds still reaches the peer, then it reads the end. */
	(void)!shutdown(up->sock, SHUT_RDWR);
	unix_wake(up);
}

void
unix_port_close(struct unix_port *up, enum vmb_status why, const char *reason)
{
	pthread_mutex_lock(&up->core.lock);
	close_locked(up, why, reason);
	pthread_mutex_unlock(&up->core.lock);
}

/* One datagram. VMB_OK, VMB_E_FULL (try later), VMB_E_CLOSED, VMB_E_IO. */
static enum vmb_status
send_datagram(int sock, const void *message, uint32_t bytes, const int *fds, uint32_t fd_count)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(PORT_MESSAGE_FDS * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = (void *)(uintptr_t)message, .iov_len = bytes };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t sent;

	if (fd_count > 0) {
		memset(&control, 0, sizeof(control));
		hdr.msg_control = control.bytes;
		hdr.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, fd_count * sizeof(int));
	}
	do {
		sent = sendmsg(sock, &hdr, MSG_DONTWAIT | MSG_NOSIGNAL);
	} while (sent < 0 && errno == EINTR);
	if (sent >= 0)
		return VMB_OK;
	switch (errno) {
	case EAGAIN:
#if EWOULDBLOCK != EAGAIN
	case EWOULDBLOCK:
#endif
	case ENOBUFS:
	case ENOMEM:
	case ETOOMANYREFS: /* descriptors in flight; they count until the peer reads them */
		return VMB_E_FULL;
	case EPIPE:
	case ECONNRESET:
	case ENOTCONN:
		return VMB_E_CLOSED;
	default:
		return VMB_E_IO;
	}
}

/*
 * Sending is over. What the peer sent before it left is still read, so the connection ends in the
 * next poll and not here.
 */
static void
peer_left_locked(struct unix_port *up)
{
	up->peer_left = true;
	port_queue_clear(&up->out);
	restart_stall_clock_locked(up);
	update_interest_locked(up);
	unix_wake(up);
}

static void
flush_locked(struct unix_port *up)
{
	struct port_message *front;
	enum vmb_status st = VMB_OK;
	bool progress = false;

	while ((front = port_queue_front(&up->out)) != NULL) {
		st = send_datagram(up->sock, front->data, front->bytes, front->fds,
		                   front->fd_count);
		if (st != VMB_OK)
			break;
		port_queue_pop(&up->out);
		progress = true;
	}
	if (st == VMB_E_CLOSED) {
		peer_left_locked(up);
	} else if (st == VMB_E_IO) {
		close_locked(up, st, "sending to the peer failed");
	} else if (progress) {
		restart_stall_clock_locked(up);
		update_interest_locked(up);
	}
}

static enum vmb_status
enqueue_locked(struct unix_port *up, const void *message, uint32_t bytes, const int *fds,
               uint32_t fd_count)
{
	enum vmb_status st = port_queue_push(&up->out, 0, message, bytes, fds, fd_count);

	switch (st) {
	case VMB_OK:
		if (up->out.count == 1) {
			restart_stall_clock_locked(up);
			update_interest_locked(up);
		}
		break;
	case VMB_E_LIMIT:
		close_locked(up, st, "the peer left too many messages unread");
		break;
	default:
		/* A message that is lost silently would leave the peer waiting for ever. */
		close_locked(up, st, "no resources to keep a message for the peer");
		break;
	}
	return st;
}

static enum vmb_status
post_locked(struct unix_port *up, const void *message, uint32_t bytes)
{
	const int *fds = port_doorbell_of_message(&up->core.doorbells, message, bytes);
	uint32_t fd_count = fds != NULL ? PORT_MESSAGE_FDS : 0;
	enum vmb_status st;

	if (port_core_is_closing(&up->core) || up->peer_left)
		return VMB_E_CLOSED;
	if (!up->core.is_host && port_message_u32(message, 0) == VMB_MSG_INITIATE_CONTACT) {
		fds = &up->ram_fd;
		fd_count = 1;
	}
	if (up->out.count > 0)
		return enqueue_locked(up, message, bytes, fds, fd_count);
	st = send_datagram(up->sock, message, bytes, fds, fd_count);
	if (st == VMB_E_FULL)
		return enqueue_locked(up, message, bytes, fds, fd_count);
	if (st == VMB_E_CLOSED)
		peer_left_locked(up);
	else if (st == VMB_E_IO)
		close_locked(up, st, "sending to the peer failed");
	return st;
}

static enum vmb_status
unix_post(struct vmb_port *port, uint32_t connection_id, const void *message, uint32_t bytes)
{
	struct unix_port *up = unix_of(port);
	enum vmb_status st;

	(void)connection_id; /* unix_receive.c tells how the host knows */
	if (!port_message_size_is_valid(bytes))
		return VMB_E_INVALID;
	pthread_mutex_lock(&up->core.lock);
	st = post_locked(up, message, bytes);
	pthread_mutex_unlock(&up->core.lock);
	return st;
}

void
unix_port_resume(struct unix_port *up)
{
	pthread_mutex_lock(&up->core.lock);
	restart_stall_clock_locked(up);
	update_interest_locked(up);
	if (up->peer_left)
		unix_wake(up);
	pthread_mutex_unlock(&up->core.lock);
}

static int
unix_poll_fd(struct vmb_port *port)
{
	return unix_of(port)->epoll;
}

/* A client that has sent more than it may waits: what it sends stays in the socket until it is its turn again. */
static bool
is_paused_locked(struct unix_port *up, uint64_t now_ns)
{
	const uint64_t ready_ns = port_bucket_ready_ns(&up->bucket, now_ns);
	const uint64_t before = up->paused_until_ns;

	if (!up->core.is_host)
		return false;
	if (ready_ns <= now_ns && before <= now_ns)
		up->paused_until_ns = 0;
	else if (before <= now_ns)
		up->paused_until_ns =
			ready_ns - now_ns > SHORTEST_PAUSE_NS ? ready_ns : now_ns + SHORTEST_PAUSE_NS;
	if (up->paused_until_ns != before)
		update_interest_locked(up);
	return up->paused_until_ns != 0;
}

/* Flush; true if requests may be read now. */
static bool
flush_and_may_read(struct unix_port *up, uint64_t now_ns)
{
	bool may_read;

	pthread_mutex_lock(&up->core.lock);
	if (!port_core_is_closing(&up->core))
		flush_locked(up);
	may_read = !port_core_is_closing(&up->core) && (!up->core.is_host || up->out.count == 0) &&
	           !is_paused_locked(up, now_ns);
	pthread_mutex_unlock(&up->core.lock);
	return may_read;
}

static enum unix_received
deliver_some(struct unix_port *up, uint64_t now_ns)
{
	struct vmb_port *port = &up->core.port;
	struct port_message message;
	enum unix_received result = UNIX_MESSAGE;

	for (uint32_t i = 0; i < PORT_POLL_SHARE; i++) {
		if (!flush_and_may_read(up, now_ns))
			break;
		result = unix_receive(up, now_ns, &message);
		if (result != UNIX_MESSAGE)
			break;
		port->handler.message(port->handler.ctx, message.connection_id, message.data,
		                      message.bytes);
	}
	return result;
}

static void
conclude_locked(struct unix_port *up, enum unix_received result)
{
	char text[80];

	if (result == UNIX_GONE || (result == UNIX_NOTHING && up->peer_left))
		close_locked(up, VMB_E_CLOSED, PORT_PEER_LEFT);
	if (up->out.count > 0 &&
	    unix_now_ns() - up->progress_ns >= (uint64_t)up->limits.stall_ms * NS_PER_MS) {
		snprintf(text, sizeof(text), "the peer has not read its messages for %u ms",
		         up->limits.stall_ms);
		close_locked(up, VMB_E_TIMEOUT, text);
	}
	/* It may have fired for the one of the two that is not due any more. */
	if (up->out.count > 0 || up->paused_until_ns != 0)
		arm_timer_locked(up);
}

/* After the end nothing may wake the owner any more. */
static void
silence(struct unix_port *up)
{
	eventfd_t ignored;

	(void)!epoll_ctl(up->epoll, EPOLL_CTL_DEL, up->sock, NULL);
	(void)!epoll_ctl(up->epoll, EPOLL_CTL_DEL, up->timer, NULL);
	(void)!eventfd_read(up->wake, &ignored);
}

static void
unix_poll(struct vmb_port *port)
{
	struct unix_port *up = unix_of(port);
	enum unix_received result;
	uint64_t ignored;

	/* First of all, so that what is raised from here on is seen now or wakes again. */
	(void)!eventfd_read(up->wake, &ignored);
	(void)!read(up->timer, &ignored, sizeof(ignored));

	result = deliver_some(up, unix_now_ns());
	pthread_mutex_lock(&up->core.lock);
	conclude_locked(up, result);
	pthread_mutex_unlock(&up->core.lock);

	if (!up->core.raised && port_core_is_closing(&up->core)) {
		silence(up);
		port_core_raise(&up->core);
	}
}

static void
unix_cut(struct vmb_port *port, enum vmb_status why, const char *reason)
{
	unix_port_close(unix_of(port), why, reason);
}

static void
unix_close_fd(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void
unix_destroy(struct vmb_port *port)
{
	struct unix_port *up = unix_of(port);

	port_queue_clear(&up->out);
	unix_close_fd(up->sock);
	unix_close_fd(up->epoll);
	unix_close_fd(up->timer);
	unix_close_fd(up->wake);
	unix_close_fd(up->ram_fd);
	port_core_fini(&up->core);
	free(up);
}

static const struct vmb_port_ops unix_ops = {
	.name = "unix",
	.post = unix_post,
	.memory = port_core_memory,
	.doorbell_open = port_core_doorbell_open,
	.doorbell_close = port_core_doorbell_close,
	.ring = port_core_ring,
	.poll_fd = unix_poll_fd,
	.poll = unix_poll,
	.cut = unix_cut,
	.destroy = unix_destroy,
	.doorbell_keep = port_core_doorbell_keep,
	.rings_by_fd = true,
	.save = unix_port_save,
};

enum vmb_status
vmb_unix_doorbell_open_with(struct vmb_port *port, uint32_t channel_id, int to_host_fd,
                            int to_guest_fd)
{
	struct unix_port *up = unix_of(port);
	const int fds[2] = { [PORT_TO_HOST] = to_host_fd, [PORT_TO_GUEST] = to_guest_fd };
	enum vmb_status st = VMB_E_CLOSED;

	if (port->ops != &unix_ops || up->core.is_host)
		return VMB_E_INVALID;
	pthread_mutex_lock(&up->core.lock);
	if (!port_core_is_closing(&up->core))
		st = port_doorbell_adopt(&up->core.doorbells, channel_id, fds);
	pthread_mutex_unlock(&up->core.lock);
	return st;
}

static struct vmb_unix_limits
limits_with_defaults(const struct vmb_unix_limits *limits)
{
	struct vmb_unix_limits filled = { 0 };

	if (limits != NULL)
		filled = *limits;
	if (filled.queue_messages == 0)
		filled.queue_messages = DEFAULT_QUEUE_MESSAGES;
	if (filled.stall_ms == 0)
		filled.stall_ms = DEFAULT_STALL_MS;
	if (filled.messages_per_second == 0)
		filled.messages_per_second = DEFAULT_MESSAGES_PER_SECOND;
	if (filled.memory_bytes == 0)
		filled.memory_bytes = DEFAULT_MEMORY_BYTES;
	if (filled.channels == 0)
		filled.channels = DEFAULT_CHANNELS;
	return filled;
}

static bool
open_poll_set(struct unix_port *up)
{
	struct epoll_event event = { .events = EPOLLIN };
	const int always[] = { up->timer, up->wake };

	for (unsigned i = 0; i < sizeof(always) / sizeof(always[0]); i++) {
		event.data.fd = always[i];
		if (epoll_ctl(up->epoll, EPOLL_CTL_ADD, always[i], &event) != 0)
			return false;
	}
	up->interest = EPOLLIN | EPOLLRDHUP;
	event.events = up->interest;
	event.data.fd = up->sock;
	return epoll_ctl(up->epoll, EPOLL_CTL_ADD, up->sock, &event) == 0;
}

enum vmb_status
unix_port_create(int sock, bool is_host, const struct vmb_unix_limits *limits,
                 struct vmb_mem *memory, int ram_fd, struct vmb_port **port)
{
	struct unix_port *up = calloc(1, sizeof(*up));

	if (up == NULL) {
		close(sock);
		return VMB_E_NO_MEMORY;
	}
	up->limits = limits_with_defaults(limits);
	if (!port_core_init(&up->core, &unix_ops, is_host, is_host ? up->limits.channels : 0)) {
		close(sock);
		free(up);
		return VMB_E_NO_MEMORY;
	}
	port_queue_init(&up->out, up->limits.queue_messages);
	up->bucket.rate = up->limits.messages_per_second;
	up->sock = sock;
	up->epoll = epoll_create1(EPOLL_CLOEXEC);
	up->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
	up->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	up->ram_fd = ram_fd < 0 ? -1 : fcntl(ram_fd, F_DUPFD_CLOEXEC, 0);
	if (memory != NULL)
		vmb_mem_ref(memory);
	up->core.memory = memory;
	if (up->epoll < 0 || up->timer < 0 || up->wake < 0 || (ram_fd >= 0 && up->ram_fd < 0) ||
	    !open_poll_set(up)) {
		int saved = errno;

		unix_destroy(&up->core.port);
		errno = saved;
		return VMB_E_IO;
	}
	*port = &up->core.port;
	return VMB_OK;
}
