/* SPDX-License-Identifier: MIT */
/* See port_fixture.h. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "port_fixture.h"

static void
on_message(void *ctx, uint32_t connection_id, const void *message, uint32_t bytes)
{
	struct t_end *end = ctx;
	struct t_message *entry;

	assert_true(end->messages < T_LOG_MESSAGES);
	assert_in_range(bytes, 8, VMB_MSG_MAX_BYTES);
	entry = &end->log[end->messages++];
	entry->connection_id = connection_id;
	entry->bytes = bytes;
	memcpy(entry->data, message, bytes);
	if (end->closed_calls > 0)
		end->messages_after_closed++;
	if (end->hook != NULL)
		end->hook(end, entry);
}

static void
on_closed(void *ctx, enum vmb_status why, const char *reason)
{
	struct t_end *end = ctx;

	end->closed_calls++;
	end->why = why;
	snprintf(end->reason, sizeof(end->reason), "%s", reason);
}

void
t_end_init(struct t_end *end, struct vmb_port *port)
{
	const struct vmb_port_handler handler = {
		.message = on_message, .closed = on_closed, .ctx = end,
	};

	*end = (struct t_end){ .port = port };
	end->log = calloc(T_LOG_MESSAGES, sizeof(*end->log));
	assert_non_null(end->log);
	vmb_port_set_handler(port, &handler);
}

void
t_end_fini(struct t_end *end)
{
	assert_int_equal(end->messages_after_closed, 0);
	assert_in_range(end->closed_calls, 0, 1);
	if (end->port != NULL)
		vmb_port_destroy(end->port);
	free(end->log);
}

bool
t_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };

	return poll(&p, 1, 0) == 1;
}

static void
wait_readable(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int result;

	do {
		result = poll(&p, 1, T_WAIT_MS);
	} while (result < 0 && errno == EINTR);
	if (result != 1)
		fail_msg("nothing happened on the descriptor");
}

void
t_run_until_messages(struct t_end *end, uint32_t messages)
{
	while (end->messages < messages) {
		if (end->closed_calls > 0)
			fail_msg("closed after %u of %u messages: %s", end->messages, messages, end->reason);
		wait_readable(vmb_port_poll_fd(end->port));
		vmb_port_poll(end->port);
	}
	assert_int_equal(end->messages, messages);
}

void
t_run_until_closed(struct t_end *end)
{
	while (end->closed_calls == 0) {
		wait_readable(vmb_port_poll_fd(end->port));
		vmb_port_poll(end->port);
	}
}

void
t_run_idle(struct t_end *end)
{
	while (t_readable(vmb_port_poll_fd(end->port)))
		vmb_port_poll(end->port);
}

void
t_expect_closed(struct t_end *end, enum vmb_status why, const char *words)
{
	t_run_until_closed(end);
	if (strstr(end->reason, words) == NULL)
		fail_msg("reason is \"%s\", not \"%s\"", end->reason, words);
	assert_int_equal(end->why, why);
	vmb_port_poll(end->port);
	assert_int_equal(end->closed_calls, 1);
	assert_false(t_readable(vmb_port_poll_fd(end->port)));
}

static void
put_u32(uint8_t *at, uint32_t value)
{
	for (unsigned i = 0; i < 4; i++)
		at[i] = (uint8_t)(value >> (8 * i));
}

void
t_message_fill(uint8_t *message, uint32_t bytes, uint32_t type, uint32_t number)
{
	uint8_t header[12] = { 0 };

	put_u32(header, type);
	put_u32(header + 8, number);
	for (uint32_t i = 0; i < bytes; i++)
		message[i] = i < sizeof(header) ? header[i] : (uint8_t)(number + i);
}

uint32_t
t_u32(const uint8_t *message, uint32_t offset)
{
	uint32_t value = 0;

	for (unsigned i = 0; i < 4; i++)
		value |= (uint32_t)message[offset + i] << (8 * i);
	return value;
}

enum vmb_status
t_post(struct t_end *end, uint32_t bytes, uint32_t type, uint32_t number)
{
	uint8_t message[VMB_MSG_MAX_BYTES];

	t_message_fill(message, bytes, type, number);
	return vmb_port_post(end->port, VMB_CONNECTION_ID_LEGACY, message, bytes);
}

void
t_place_make(struct t_place *place)
{
	snprintf(place->dir, sizeof(place->dir), "/tmp/vmb-port-XXXXXX");
	assert_non_null(mkdtemp(place->dir));
	snprintf(place->path, sizeof(place->path), "%s/bus", place->dir);
}

void
t_place_remove(struct t_place *place)
{
	(void)!unlink(place->path);
	assert_int_equal(rmdir(place->dir), 0);
}

enum vmb_status
t_accept(struct vmb_unix_listener *listener, struct vmb_port **port, char who[64])
{
	wait_readable(vmb_unix_listener_fd(listener));
	return vmb_unix_accept(listener, port, who);
}

struct t_pair *
t_pair_make(enum t_kind kind, const struct vmb_unix_limits *limits)
{
	struct t_pair *pair = calloc(1, sizeof(*pair));
	struct vmb_port *host, *guest;
	char who[64];

	assert_non_null(pair);
	pair->kind = kind;
	pair->fds_before = t_fd_count();
	assert_int_equal(vmb_arena_create(T_ARENA_BYTES, &pair->arena), VMB_OK);
	if (kind == T_LOOPBACK) {
		assert_int_equal(vmb_loopback_create(vmb_arena_mem(pair->arena), &host, &guest), VMB_OK);
	} else {
		t_place_make(&pair->place);
		assert_int_equal(vmb_unix_listen(pair->place.path, 0, limits, &pair->listener), VMB_OK);
		assert_int_equal(vmb_unix_connect(pair->place.path, pair->arena, &guest), VMB_OK);
		assert_int_equal(t_accept(pair->listener, &host, who), VMB_OK);
	}
	t_end_init(&pair->host, host);
	t_end_init(&pair->guest, guest);
	return pair;
}

void
t_pair_free(struct t_pair *pair)
{
	t_end_fini(&pair->host);
	t_end_fini(&pair->guest);
	if (pair->kind == T_UNIX) {
		vmb_unix_listener_destroy(pair->listener);
		t_place_remove(&pair->place);
	}
	vmb_arena_destroy(pair->arena);
	t_expect_fd_count(pair->fds_before);
	free(pair);
}

static struct sockaddr_un
address_of(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	return address;
}

int
t_raw_connect(const char *path)
{
	struct sockaddr_un address = address_of(path);
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	assert_true(sock >= 0);
	assert_int_equal(connect(sock, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(fcntl(sock, F_SETFL, O_NONBLOCK), 0);
	return sock;
}

int
t_raw_listen(const char *path, int type)
{
	struct sockaddr_un address = address_of(path);
	int sock = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	assert_true(sock >= 0);
	assert_int_equal(bind(sock, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(sock, 8), 0);
	return sock;
}

struct t_raw *
t_raw_make(const struct vmb_unix_limits *limits)
{
	struct t_raw *raw = calloc(1, sizeof(*raw));
	struct vmb_port *host;
	char who[64];

	assert_non_null(raw);
	raw->fds_before = t_fd_count();
	t_place_make(&raw->place);
	assert_int_equal(vmb_unix_listen(raw->place.path, 0, limits, &raw->listener), VMB_OK);
	raw->sock = t_raw_connect(raw->place.path);
	assert_int_equal(t_accept(raw->listener, &host, who), VMB_OK);
	t_end_init(&raw->host, host);
	return raw;
}

void
t_raw_free(struct t_raw *raw)
{
	if (raw->sock >= 0)
		close(raw->sock);
	t_end_fini(&raw->host);
	vmb_unix_listener_destroy(raw->listener);
	t_place_remove(&raw->place);
	t_expect_fd_count(raw->fds_before);
	free(raw);
}

bool
t_raw_try_send(int sock, const void *bytes, size_t size, const int *fds, unsigned fd_count)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(16 * sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = size };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (fd_count > 0) {
		hdr.msg_control = control.bytes;
		hdr.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, fd_count * sizeof(int));
	}
	return sendmsg(sock, &hdr, MSG_NOSIGNAL) == (ssize_t)size;
}

void
t_raw_send(int sock, const void *bytes, size_t size, const int *fds, unsigned fd_count)
{
	assert_true(t_raw_try_send(sock, bytes, size, fds, fd_count));
}

size_t
t_raw_receive(int sock, void *bytes, size_t size, int *fds, unsigned *fd_count)
{
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(4 * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = bytes, .iov_len = size };
	struct msghdr hdr = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.bytes, .msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *c;
	ssize_t got;

	wait_readable(sock);
	got = recvmsg(sock, &hdr, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (got < 0 && errno == ECONNRESET) {
		hdr.msg_controllen = sizeof(control.bytes);
		got = recvmsg(sock, &hdr, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	}
	assert_true(got >= 0);
	*fd_count = 0;
	c = CMSG_FIRSTHDR(&hdr);
	if (c != NULL) {
		*fd_count = (unsigned)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(fds, CMSG_DATA(c), *fd_count * sizeof(int));
	}
	return (size_t)got;
}

unsigned
t_fd_count(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	unsigned count = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL)
		count += entry->d_name[0] != '.';
	closedir(dir);
	return count - 1; /* the directory itself */
}

static double
seconds_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void
t_expect_fd_count(unsigned expected)
{
	double deadline = seconds_now() + T_WAIT_MS / 1000.0;
	unsigned count;

	while ((count = t_fd_count()) != expected) {
		if (seconds_now() > deadline)
			fail_msg("%u descriptors are open, not %u", count, expected);
		sched_yield();
	}
}

int
t_ram_fd(uint64_t bytes, bool sealed)
{
	int fd = memfd_create("t-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	if (sealed)
		assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
	return fd;
}

int
t_socket_setup(void **state)
{
	struct t_socket_world *w = calloc(1, sizeof(*w));

	assert_non_null(w);
	w->fds_before = t_fd_count();
	t_place_make(&w->place);
	assert_int_equal(vmb_arena_create(T_ARENA_BYTES, &w->arena), VMB_OK);
	*state = w;
	return 0;
}

int
t_socket_teardown(void **state)
{
	struct t_socket_world *w = *state;

	vmb_arena_destroy(w->arena);
	t_place_remove(&w->place);
	t_expect_fd_count(w->fds_before);
	free(w);
	return 0;
}
