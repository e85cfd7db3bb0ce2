/* SPDX-License-Identifier: MIT */
/*
 * A host port against clients that break every rule: each is cut off with a reason, no descriptor
 * stays open, and nothing waits. The client is a raw socket; every test also checks the process's
 * descriptor count (t_raw_free).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "port_fixture.h"

#define RAM_BYTES 65536u
#define RAM_LIMIT (16u << 20)
#define OPEN_BYTES 148u

static const struct vmb_unix_limits test_limits = { .memory_bytes = RAM_LIMIT };

static void
send_message(struct t_raw *raw, uint32_t type, uint32_t bytes, uint32_t number, const int *fds,
             unsigned fd_count)
{
	uint8_t message[VMB_MSG_MAX_BYTES];

	t_message_fill(message, bytes, type, number);
	t_raw_send(raw->sock, message, bytes, fds, fd_count);
}

/* The client sees its end of the connection close. */
static void
expect_client_cut(struct t_raw *raw)
{
	uint8_t buffer[256];
	int fds[4];
	unsigned fd_count;

	assert_int_equal(t_raw_receive(raw->sock, buffer, sizeof(buffer), fds, &fd_count), 0);
}

static void
datagram_of_wrong_size_cuts_the_client_off(void **state)
{
	static const struct {
		size_t bytes;
		const char *reason; /* NULL = accepted */
	} cases[] = {
		{ 0, "a datagram of 0 bytes is shorter" },
		{ 1, "a datagram of 1 bytes is shorter" },
		{ 7, "a datagram of 7 bytes is shorter" },
		{ 8, NULL },
		{ 240, NULL },
		{ 241, "a datagram is longer than 240 bytes" },
		{ 242, "a datagram is longer than 240 bytes" },
		{ 60000, "a datagram is longer than 240 bytes" },
	};
	static uint8_t bytes[60000] = { VMB_MSG_REQUEST_OFFERS };

	(void)state;
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct t_raw *raw = t_raw_make(NULL);

		t_raw_send(raw->sock, bytes, cases[i].bytes, NULL, 0);
		if (cases[i].reason == NULL) {
			t_run_until_messages(&raw->host, 1);
		} else {
			t_expect_closed(&raw->host, VMB_E_MALFORMED, cases[i].reason);
			assert_int_equal(raw->host.messages, 0);
			expect_client_cut(raw);
		}
		t_raw_free(raw);
	}
}

static void
good_messages_before_a_bad_one_are_delivered(void **state)
{
	struct t_raw *raw = t_raw_make(NULL);

	(void)state;
	send_message(raw, VMB_MSG_REQUEST_OFFERS, 12, 1, NULL, 0);
	t_raw_send(raw->sock, "bad", 3, NULL, 0);
	send_message(raw, VMB_MSG_REQUEST_OFFERS, 12, 2, NULL, 0);
	t_expect_closed(&raw->host, VMB_E_MALFORMED, "shorter than a message header");
	assert_int_equal(raw->host.messages, 1);
	t_raw_free(raw);
}

enum fd_kind {
	FD_END = 0,
	FD_RAM, FD_RAM_UNSEALED, FD_RAM_ODD, FD_RAM_EMPTY, FD_RAM_TOO_BIG, FD_RAM_AT_LIMIT,
	FD_RAM_READ_ONLY, FD_RAM_WRITE_SEALED, FD_RAM_HUGE,
	FD_EVENT, FD_PIPE, FD_EPOLL, FD_SOCKET, FD_FILE, FD_DIRECTORY, FD_NULL,
};

static int
read_only_ram(void)
{
	int fd = t_ram_fd(RAM_BYTES, true);
	char path[40];
	int reopened;

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	reopened = open(path, O_RDONLY | O_CLOEXEC);
	close(fd);
	return reopened;
}

static int
make_fd(enum fd_kind kind)
{
	int pair[2], fd = -1;

	switch (kind) {
	case FD_RAM:
		return t_ram_fd(RAM_BYTES, true);
	case FD_RAM_UNSEALED:
		return t_ram_fd(RAM_BYTES, false);
	case FD_RAM_ODD:
		return t_ram_fd(RAM_BYTES + 1, true);
	case FD_RAM_EMPTY:
		return t_ram_fd(0, true);
	case FD_RAM_TOO_BIG:
		return t_ram_fd(RAM_LIMIT + 4096, true);
	case FD_RAM_AT_LIMIT:
		return t_ram_fd(RAM_LIMIT, true);
	case FD_RAM_READ_ONLY:
		return read_only_ram();
	case FD_RAM_WRITE_SEALED:
		fd = t_ram_fd(RAM_BYTES, true);
		assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
		return fd;
	case FD_RAM_HUGE:
		fd = memfd_create("t-huge", MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_HUGETLB);
		if (fd >= 0) {
			(void)!ftruncate(fd, RAM_LIMIT);
			assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK), 0);
		}
		return fd;
	case FD_EVENT:
		return eventfd(0, EFD_CLOEXEC);
	case FD_PIPE:
		assert_int_equal(pipe2(pair, O_CLOEXEC), 0);
		close(pair[1]);
		return pair[0];
	case FD_EPOLL:
		return epoll_create1(EPOLL_CLOEXEC);
	case FD_SOCKET:
		return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	case FD_FILE:
		return open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	case FD_DIRECTORY:
		return open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	case FD_NULL:
		return open("/dev/null", O_RDWR | O_CLOEXEC);
	default:
		return -1;
	}
}

struct fd_case {
	uint32_t type;
	uint32_t bytes;
	uint32_t number;
	enum fd_kind fds[8];
	enum vmb_status why;
	const char *reason; /* NULL = accepted */
};

#define CONTACT VMB_MSG_INITIATE_CONTACT, 40, VMB_VERSION_WIN10
#define OPEN VMB_MSG_OPEN_CHANNEL, OPEN_BYTES
#define NO_RAM "InitiateContact must bring one descriptor"
#define NOT_MEMFD "not a memfd"
#define NOT_TWO "OpenChannel must bring two descriptors or none"
#define NOT_EVENT "a descriptor of OpenChannel is not an eventfd"

static const struct fd_case fd_cases[] = {
	{ CONTACT, { FD_RAM }, VMB_OK, NULL },
	{ CONTACT, { FD_RAM_AT_LIMIT }, VMB_OK, NULL },
	{ CONTACT, { FD_END }, VMB_E_MALFORMED, NO_RAM },
	{ CONTACT, { FD_RAM, FD_RAM }, VMB_E_MALFORMED, NO_RAM },
	{ CONTACT, { FD_RAM, FD_EVENT, FD_EVENT }, VMB_E_MALFORMED, NO_RAM },
	{ CONTACT, { FD_RAM, FD_RAM, FD_RAM, FD_RAM }, VMB_E_MALFORMED, NO_RAM },
	{ CONTACT, { FD_RAM, FD_RAM, FD_RAM, FD_RAM, FD_RAM }, VMB_E_MALFORMED, "too many descriptors" },
	{ CONTACT, { FD_RAM_UNSEALED }, VMB_E_MALFORMED, "not sealed against shrinking" },
	{ CONTACT, { FD_RAM_ODD }, VMB_E_MALFORMED, "not a whole number of pages" },
	{ CONTACT, { FD_RAM_EMPTY }, VMB_E_MALFORMED, "not a whole number of pages" },
	{ CONTACT, { FD_RAM_TOO_BIG }, VMB_E_MALFORMED, "larger than allowed" },
	{ CONTACT, { FD_RAM_READ_ONLY }, VMB_E_ACCESS, "cannot be mapped" },
	{ CONTACT, { FD_RAM_WRITE_SEALED }, VMB_E_ACCESS, "cannot be mapped" },
	{ CONTACT, { FD_RAM_HUGE }, VMB_E_MALFORMED, "not made of ordinary pages" },
	{ CONTACT, { FD_EVENT }, VMB_E_MALFORMED, NOT_MEMFD },
	{ CONTACT, { FD_PIPE }, VMB_E_MALFORMED, NOT_MEMFD },
	{ CONTACT, { FD_SOCKET }, VMB_E_MALFORMED, NOT_MEMFD },
	{ CONTACT, { FD_FILE }, VMB_E_MALFORMED, NULL },
	{ CONTACT, { FD_DIRECTORY }, VMB_E_MALFORMED, NULL },
	{ CONTACT, { FD_NULL }, VMB_E_MALFORMED, NOT_MEMFD },
	{ OPEN, 1, { FD_END }, VMB_OK, NULL },
	{ OPEN, 1, { FD_EVENT, FD_EVENT }, VMB_OK, NULL },
	{ OPEN, 2047, { FD_EVENT, FD_EVENT }, VMB_OK, NULL },
	{ OPEN, 1, { FD_EVENT }, VMB_E_MALFORMED, NOT_TWO },
	{ OPEN, 1, { FD_EVENT, FD_EVENT, FD_EVENT }, VMB_E_MALFORMED, NOT_TWO },
	{ OPEN, 1, { FD_EVENT, FD_EVENT, FD_EVENT, FD_EVENT, FD_EVENT, FD_EVENT }, VMB_E_MALFORMED,
	  "too many descriptors" },
	{ OPEN, 1, { FD_EVENT, FD_PIPE }, VMB_E_MALFORMED, NOT_EVENT },
	{ OPEN, 1, { FD_EPOLL, FD_EVENT }, VMB_E_MALFORMED, NOT_EVENT },
	{ OPEN, 1, { FD_RAM, FD_RAM }, VMB_E_MALFORMED, NOT_EVENT },
	{ OPEN, 1, { FD_FILE, FD_EVENT }, VMB_E_MALFORMED, NOT_EVENT },
	{ OPEN, 1, { FD_EVENT, FD_SOCKET }, VMB_E_MALFORMED, NOT_EVENT },
	{ OPEN, 0, { FD_EVENT, FD_EVENT }, VMB_E_MALFORMED, "names no channel" },
	{ OPEN, 2048, { FD_EVENT, FD_EVENT }, VMB_E_MALFORMED, "names no channel" },
	{ VMB_MSG_OPEN_CHANNEL, 8, 0, { FD_EVENT, FD_EVENT }, VMB_E_MALFORMED, "names no channel" },
	{ VMB_MSG_OPEN_CHANNEL, 8, 0, { FD_END }, VMB_OK, NULL },
	{ OPEN, 2048, { FD_END }, VMB_OK, NULL },
	{ VMB_MSG_REQUEST_OFFERS, 8, 0, { FD_EVENT }, VMB_E_MALFORMED, "brings no descriptors" },
	{ VMB_MSG_GPADL_HEADER, 40, 1, { FD_FILE }, VMB_E_MALFORMED, "brings no descriptors" },
	{ VMB_MSG_OPEN_RESERVED, 28, 1, { FD_EVENT, FD_EVENT }, VMB_E_MALFORMED, "brings no descriptors" },
	{ VMB_MSG_INVALID, 8, 0, { FD_RAM }, VMB_E_MALFORMED, "brings no descriptors" },
	{ 0xFFFFFFFF, 240, 0, { FD_EVENT, FD_EVENT }, VMB_E_MALFORMED, "brings no descriptors" },
	{ VMB_MSG_CLOSE_CHANNEL, 12, 1, { FD_DIRECTORY, FD_FILE, FD_NULL, FD_SOCKET, FD_PIPE },
	  VMB_E_MALFORMED, "too many descriptors" },
};

static void
descriptors_are_judged_by_the_message_they_come_with(void **state)
{
	(void)state;
	for (unsigned i = 0; i < sizeof(fd_cases) / sizeof(fd_cases[0]); i++) {
		const struct fd_case *c = &fd_cases[i];
		struct t_raw *raw = t_raw_make(&test_limits);
		int fds[8];
		unsigned count = 0;

		while (count < 8 && c->fds[count] != FD_END) {
			fds[count] = make_fd(c->fds[count]);
			if (fds[count] < 0)
				break; /* this machine has no such thing (huge pages) */
			count++;
		}
		if (count == 8 || c->fds[count] == FD_END) {
			send_message(raw, c->type, c->bytes, c->number, fds, count);
			if (c->why == VMB_OK)
				t_run_until_messages(&raw->host, 1);
			else
				t_expect_closed(&raw->host, c->why,
				                c->reason == NULL ? "guest's memory" : c->reason);
		}
		while (count > 0)
			close(fds[--count]);
		t_raw_free(raw);
	}
}

static void
strange_file_is_closed_without_waiting_for_its_server(void **state)
{
	struct t_raw *raw = t_raw_make(NULL);
	char path[120];
	int fifo[2];
	struct pollfd last_writer;

	(void)state;
	/*
	 * A file with a path might belong to a file system that never answers; its close happens
	 * elsewhere.
	 */
	snprintf(path, sizeof(path), "%s/fifo", raw->place.dir);
	assert_int_equal(mkfifo(path, 0600), 0);
	fifo[0] = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	fifo[1] = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
	assert_true(fifo[0] >= 0 && fifo[1] >= 0);
	send_message(raw, VMB_MSG_REQUEST_OFFERS, 8, 0, &fifo[1], 1);
	close(fifo[1]);
	t_expect_closed(&raw->host, VMB_E_MALFORMED, "brings no descriptors");
	last_writer = (struct pollfd){ .fd = fifo[0], .events = POLLIN };
	assert_int_equal(poll(&last_writer, 1, T_WAIT_MS), 1);
	assert_int_equal(last_writer.revents & POLLHUP, POLLHUP);
	close(fifo[0]);
	unlink(path);
	t_raw_free(raw);
}

static void
second_contact_must_bring_the_same_memory(void **state)
{
	struct t_raw *raw = t_raw_make(NULL);
	int first = t_ram_fd(RAM_BYTES, true), other = t_ram_fd(RAM_BYTES, true);
	struct vmb_mem *memory;

	(void)state;
	send_message(raw, CONTACT, &first, 1);
	t_run_until_messages(&raw->host, 1);
	memory = vmb_port_memory(raw->host.port);
	send_message(raw, CONTACT, &first, 1);
	t_run_until_messages(&raw->host, 2);
	assert_ptr_equal(vmb_port_memory(raw->host.port), memory);
	send_message(raw, CONTACT, &other, 1);
	t_expect_closed(&raw->host, VMB_E_MALFORMED, "other memory than before");
	close(first);
	close(other);
	t_raw_free(raw);
}

static void
memory_is_unknown_before_contact(void **state)
{
	struct t_raw *raw = t_raw_make(NULL);

	(void)state;
	send_message(raw, VMB_MSG_REQUEST_OFFERS, 8, 0, NULL, 0);
	t_run_until_messages(&raw->host, 1);
	assert_null(vmb_port_memory(raw->host.port));
	t_raw_free(raw);
}

static void
memory_that_grows_later_is_seen_at_its_first_size(void **state)
{
	struct t_raw *raw = t_raw_make(NULL);
	int ram = t_ram_fd(RAM_BYTES, true);

	(void)state;
	send_message(raw, CONTACT, &ram, 1);
	t_run_until_messages(&raw->host, 1);
	assert_int_equal(ftruncate(ram, RAM_BYTES * 2), 0);
	assert_int_not_equal(ftruncate(ram, 4096), 0);
	send_message(raw, CONTACT, &ram, 1);
	t_run_until_messages(&raw->host, 2);
	assert_non_null(vmb_mem_host(vmb_port_memory(raw->host.port), 0, RAM_BYTES));
	assert_null(vmb_mem_host(vmb_port_memory(raw->host.port), 0, RAM_BYTES + 1));
	close(ram);
	t_raw_free(raw);
}

static void
doorbells_from_the_peer_are_made_non_blocking(void **state)
{
	struct t_raw *raw = t_raw_make(NULL);
	struct vmb_doorbell bell;
	int fds[2] = { eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE) };

	(void)state;
	send_message(raw, VMB_MSG_OPEN_CHANNEL, OPEN_BYTES, 3, fds, 2);
	t_run_until_messages(&raw->host, 1);
	assert_int_equal(vmb_port_doorbell_open(raw->host.port, 3, &bell), VMB_OK);
	assert_int_not_equal(fcntl(bell.wait_fd, F_GETFL) & O_NONBLOCK, 0);
	assert_int_not_equal(fcntl(bell.ring_fd, F_GETFL) & O_NONBLOCK, 0);
	assert_int_not_equal(fcntl(bell.wait_fd, F_GETFD) & FD_CLOEXEC, 0);
	assert_int_not_equal(fcntl(bell.ring_fd, F_GETFD) & FD_CLOEXEC, 0);
	/* First the signal to the host, then the signal to the guest. */
	assert_int_equal(eventfd_write(fds[0], 1), 0);
	assert_true(t_readable(bell.wait_fd));
	assert_int_equal(vmb_port_ring(raw->host.port, &bell), VMB_OK);
	assert_true(t_readable(fds[1]));
	close(fds[0]);
	close(fds[1]);
	t_raw_free(raw);
}

static void
doorbells_are_bounded_by_the_channel_limit(void **state)
{
	const struct vmb_unix_limits limits = { .channels = 3 };
	struct t_raw *raw = t_raw_make(&limits);
	int fds[2] = { eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC) };
	struct vmb_doorbell bell;

	(void)state;
	for (uint32_t id = 1; id <= 3; id++)
		send_message(raw, VMB_MSG_OPEN_CHANNEL, OPEN_BYTES, id, fds, 2);
	/* A new pair for the same channel takes the place of the old one. */
	send_message(raw, VMB_MSG_OPEN_CHANNEL, OPEN_BYTES, 3, fds, 2);
	t_run_until_messages(&raw->host, 4);
	/* What the host closes makes room. */
	assert_int_equal(vmb_port_doorbell_open(raw->host.port, 1, &bell), VMB_OK);
	vmb_port_doorbell_close(raw->host.port, 1);
	send_message(raw, VMB_MSG_OPEN_CHANNEL, OPEN_BYTES, 4, fds, 2);
	t_run_until_messages(&raw->host, 5);
	send_message(raw, VMB_MSG_OPEN_CHANNEL, OPEN_BYTES, 5, fds, 2);
	t_expect_closed(&raw->host, VMB_E_LIMIT, "more channels open than allowed");
	close(fds[0]);
	close(fds[1]);
	t_raw_free(raw);
}

static void
flood_allows_twice_the_rate_at_once(void **state)
{
	const struct vmb_unix_limits limits = { .messages_per_second = 40 };
	struct t_raw *raw = t_raw_make(&limits);

	(void)state;
	for (uint32_t i = 0; i < 80; i++)
		send_message(raw, VMB_MSG_REQUEST_OFFERS, 12, i, NULL, 0);
	t_run_until_messages(&raw->host, 80);
	assert_int_equal(raw->host.closed_calls, 0);
	t_raw_free(raw);
}

static void
any_rate_limit_is_usable(void **state)
{
	const struct vmb_unix_limits limits = { .messages_per_second = UINT32_MAX };
	struct t_raw *raw = t_raw_make(&limits);

	(void)state;
	for (uint32_t i = 0; i < 100; i++)
		send_message(raw, VMB_MSG_REQUEST_OFFERS, 12, i, NULL, 0);
	t_run_until_messages(&raw->host, 100);
	t_raw_free(raw);
}

/* More than any socket buffer takes, so that some wait in the port's own queue. */
#define MORE_THAN_A_SOCKET 4000u

static void
fill(struct t_raw *raw)
{
	for (uint32_t i = 0; i < MORE_THAN_A_SOCKET; i++)
		assert_int_equal(t_post(&raw->host, 240, VMB_MSG_OFFER_CHANNEL, i), VMB_OK);
}

static void
peer_that_reads_nothing_is_cut_off(void **state)
{
	const struct vmb_unix_limits limits = { .stall_ms = 30 };
	struct t_raw *raw = t_raw_make(&limits);

	(void)state;
	fill(raw);
	t_expect_closed(&raw->host, VMB_E_TIMEOUT, "has not read its messages for 30 ms");
	t_raw_free(raw);
}

/* Timers of this process that will fire. */
static unsigned
armed_timers(void)
{
	DIR *dir = opendir("/proc/self/fdinfo");
	struct dirent *entry;
	unsigned count = 0;

	assert_non_null(dir);
	while ((entry = readdir(dir)) != NULL) {
		char path[300], line[200];
		FILE *info;

		snprintf(path, sizeof(path), "/proc/self/fdinfo/%s", entry->d_name);
		info = fopen(path, "re");
		while (info != NULL && fgets(line, sizeof(line), info) != NULL)
			count += strncmp(line, "it_value:", 9) == 0 && strstr(line, "(0, 0)") == NULL;
		if (info != NULL)
			fclose(info);
	}
	closedir(dir);
	return count;
}

static void
host_stops_reading_while_answers_wait(void **state)
{
	struct t_raw *raw = t_raw_make(NULL);
	uint32_t got = 0;
	uint8_t buffer[256];
	int fds[4];
	unsigned fd_count;

	(void)state;
	fill(raw);
	send_message(raw, VMB_MSG_REQUEST_OFFERS, 12, 1, NULL, 0);
	vmb_port_poll(raw->host.port);
	assert_int_equal(raw->host.messages, 0);
	assert_int_equal(armed_timers(), 1);
	assert_false(t_readable(vmb_port_poll_fd(raw->host.port)));
	while (got < MORE_THAN_A_SOCKET) {
		t_run_idle(&raw->host);
		assert_int_equal(t_raw_receive(raw->sock, buffer, sizeof(buffer), fds, &fd_count), 240);
		assert_int_equal(t_u32(buffer, 8), got);
		got++;
	}
	/* From here on the client may be silent as long as it likes. */
	t_run_until_messages(&raw->host, 1);
	assert_int_equal(armed_timers(), 0);
	t_raw_free(raw);
}

static void
queue_limit_holds_to_the_message(void **state)
{
	const struct vmb_unix_limits limits = { .queue_messages = 5 };
	struct t_raw *raw = t_raw_make(&limits);
	enum vmb_status st = VMB_OK;
	uint32_t posted = 0, in_socket = 0;
	uint8_t buffer[256];
	int fds[4];
	unsigned fd_count;

	(void)state;
	while ((st = t_post(&raw->host, 240, VMB_MSG_OFFER_CHANNEL, posted)) == VMB_OK)
		posted++;
	assert_int_equal(st, VMB_E_LIMIT);
	t_expect_closed(&raw->host, VMB_E_LIMIT, "too many messages unread");
	/* What the socket took still arrives; the five that waited do not. */
	while (t_raw_receive(raw->sock, buffer, sizeof(buffer), fds, &fd_count) > 0)
		in_socket++;
	assert_int_equal(posted, in_socket + 5);
	t_raw_free(raw);
}

static void
death_of_a_peer_ends_back_pressure(void **state)
{
	struct t_raw *raw = t_raw_make(NULL);

	(void)state;
	send_message(raw, VMB_MSG_REQUEST_OFFERS, 12, 9, NULL, 0);
	fill(raw);
	close(raw->sock);
	raw->sock = -1;
	t_expect_closed(&raw->host, VMB_E_CLOSED, "the peer closed the connection");
	assert_int_equal(raw->host.messages, 1);
	t_raw_free(raw);
}

static void
half_closed_connection_is_closed(void **state)
{
	static const int ways[] = { SHUT_RD, SHUT_WR, SHUT_RDWR };

	(void)state;
	for (unsigned i = 0; i < 3; i++) {
		struct t_raw *raw = t_raw_make(NULL);

		send_message(raw, VMB_MSG_REQUEST_OFFERS, 12, i, NULL, 0);
		assert_int_equal(shutdown(raw->sock, ways[i]), 0);
		/* A peer that no longer reads is noticed by whoever posts to it. */
		(void)!t_post(&raw->host, 8, VMB_MSG_ALL_OFFERS_DELIVERED, 0);
		t_expect_closed(&raw->host, VMB_E_CLOSED, "the peer closed the connection");
		assert_int_equal(raw->host.messages, 1);
		t_raw_free(raw);
	}
}

static void
client_that_leaves_descriptors_unread_leaks_none(void **state)
{
	struct t_raw *raw = t_raw_make(NULL);
	int fds[2] = { eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC) };

	(void)state;
	for (uint32_t id = 1; id <= 20; id++)
		send_message(raw, VMB_MSG_OPEN_CHANNEL, OPEN_BYTES, id, fds, 2);
	close(fds[0]);
	close(fds[1]);
	vmb_port_cut(raw->host.port, VMB_E_LIMIT, "enough");
	t_expect_closed(&raw->host, VMB_E_LIMIT, "enough");
	t_raw_free(raw);
}

/* Use up all descriptors; returns how many were taken. */
static unsigned
exhaust_fds(int *taken, unsigned room, struct rlimit *before)
{
	struct rlimit low;
	unsigned count = 0;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, before), 0);
	low = *before;
	low.rlim_cur = 64;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	while (count < room && (taken[count] = dup(0)) >= 0)
		count++;
	assert_true(count < room);
	return count;
}

static void
release_fds(const int *taken, unsigned count, const struct rlimit *before)
{
	while (count > 0)
		close(taken[--count]);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, before), 0);
}

static void
shortage_of_descriptors_is_named_as_our_own(void **state)
{
	struct t_raw *raw = t_raw_make(NULL);
	int fds[2] = { eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC) };
	int taken[128];
	struct rlimit before;
	unsigned count;

	(void)state;
	send_message(raw, VMB_MSG_OPEN_CHANNEL, OPEN_BYTES, 1, fds, 2);
	count = exhaust_fds(taken, 128, &before);
	t_run_until_closed(&raw->host);
	release_fds(taken, count, &before);
	t_expect_closed(&raw->host, VMB_E_LIMIT, "no descriptors left");
	close(fds[0]);
	close(fds[1]);
	t_raw_free(raw);
}

static void
client_is_turned_away_when_descriptors_run_out(void **state)
{
	struct t_raw *raw = t_raw_make(NULL);
	int taken[128], client = t_raw_connect(raw->place.path);
	struct vmb_port *port;
	struct rlimit before;
	unsigned count;
	enum vmb_status st;
	int error;
	char who[64], byte;

	(void)state;
	count = exhaust_fds(taken, 128, &before);
	st = vmb_unix_accept(raw->listener, &port, who);
	error = errno;
	release_fds(taken, count, &before);
	assert_int_equal(st, VMB_E_IO);
	assert_int_equal(error, EMFILE);
	/* The client knows, and the listener is not readable for ever. */
	assert_int_equal(recv(client, &byte, 1, 0), 0);
	assert_false(t_readable(vmb_unix_listener_fd(raw->listener)));
	close(client);
	/* It serves the next one. */
	client = t_raw_connect(raw->place.path);
	assert_int_equal(t_accept(raw->listener, &port, who), VMB_OK);
	vmb_port_destroy(port);
	close(client);
	t_raw_free(raw);
}

static void
bad_client_does_not_disturb_another(void **state)
{
	struct t_raw *raw = t_raw_make(NULL);
	int good = t_raw_connect(raw->place.path);
	uint8_t message[12];
	struct vmb_port *port;
	struct t_end end;
	char who[64];

	(void)state;
	assert_int_equal(t_accept(raw->listener, &port, who), VMB_OK);
	t_end_init(&end, port);
	t_raw_send(raw->sock, "x", 1, NULL, 0);
	t_expect_closed(&raw->host, VMB_E_MALFORMED, "shorter");
	t_message_fill(message, sizeof(message), VMB_MSG_REQUEST_OFFERS, 5);
	t_raw_send(good, message, sizeof(message), NULL, 0);
	t_run_until_messages(&end, 1);
	t_end_fini(&end);
	close(good);
	t_raw_free(raw);
}

/* One datagram of random shape: often nearly right. */
static void
send_anything(struct t_raw *raw, unsigned *random, const int *pool, unsigned pool_size)
{
	static const uint32_t types[] = {
		VMB_MSG_INITIATE_CONTACT, VMB_MSG_OPEN_CHANNEL, VMB_MSG_OPEN_CHANNEL,
		VMB_MSG_REQUEST_OFFERS, VMB_MSG_REL_ID_RELEASED, VMB_MSG_UNLOAD, VMB_MSG_CLOSE_CHANNEL, 0x01000005,
	};
	uint8_t bytes[300];
	uint32_t type = types[(unsigned)rand_r(random) % 8];
	size_t size = (unsigned)rand_r(random) % 4 == 0 ? (unsigned)rand_r(random) % 300 : 148;
	unsigned fd_count = type == VMB_MSG_OPEN_CHANNEL ? 2 : type == VMB_MSG_INITIATE_CONTACT;
	int fds[4];

	if ((unsigned)rand_r(random) % 8 == 0)
		fd_count = (unsigned)rand_r(random) % 5;
	/* The first of the pool are good: memory, then eventfds. */
	for (unsigned i = 0; i < fd_count; i++) {
		fds[i] = pool[type == VMB_MSG_INITIATE_CONTACT ? 0 : 1 + i % 2];
		if ((unsigned)rand_r(random) % 16 == 0)
			fds[i] = pool[(unsigned)rand_r(random) % pool_size];
	}
	t_message_fill(bytes, sizeof(bytes), type, (unsigned)rand_r(random) % 2050);
	/* Once cut off there is nobody to send to. */
	(void)t_raw_try_send(raw->sock, bytes, size, fds, fd_count);
}

static void
random_clients_leave_nothing_behind(void **state)
{
	static const enum fd_kind kinds[] = {
		FD_RAM, FD_EVENT, FD_EVENT, FD_RAM, FD_RAM_UNSEALED,
		FD_PIPE, FD_EPOLL, FD_SOCKET, FD_FILE, FD_NULL,
	};
	const unsigned kind_count = sizeof(kinds) / sizeof(kinds[0]);
	const char *text = getenv("KMCL_SEED");
	unsigned seed = text != NULL ? (unsigned)strtoul(text, NULL, 0) : (unsigned)getpid();
	unsigned random = seed, delivered = 0;
	int pool[16];

	(void)state;
	print_message("KMCL_SEED=%u\n", seed);
	for (unsigned i = 0; i < kind_count; i++)
		pool[i] = make_fd(kinds[i]);
	for (unsigned client = 0; client < 200; client++) {
		struct t_raw *raw = t_raw_make(&test_limits);
		struct vmb_doorbell bell;

		for (unsigned i = 0; i < 12; i++) {
			send_anything(raw, &random, pool, kind_count);
			vmb_port_poll(raw->host.port);
			for (uint32_t id = (unsigned)rand_r(&random) % 2050; id % 16 != 0; id++)
				(void)!vmb_port_doorbell_open(raw->host.port, id, &bell);
		}
		delivered += raw->host.messages;
		t_raw_free(raw);
	}
	assert_true(delivered > 200);
	for (unsigned i = 0; i < kind_count; i++)
		close(pool[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(datagram_of_wrong_size_cuts_the_client_off),
		cmocka_unit_test(good_messages_before_a_bad_one_are_delivered),
		cmocka_unit_test(descriptors_are_judged_by_the_message_they_come_with),
		cmocka_unit_test(strange_file_is_closed_without_waiting_for_its_server),
		cmocka_unit_test(second_contact_must_bring_the_same_memory),
		cmocka_unit_test(memory_is_unknown_before_contact),
		cmocka_unit_test(memory_that_grows_later_is_seen_at_its_first_size),
		cmocka_unit_test(doorbells_from_the_peer_are_made_non_blocking),
		cmocka_unit_test(doorbells_are_bounded_by_the_channel_limit),
		cmocka_unit_test(flood_allows_twice_the_rate_at_once),
		cmocka_unit_test(any_rate_limit_is_usable),
		cmocka_unit_test(peer_that_reads_nothing_is_cut_off),
		cmocka_unit_test(host_stops_reading_while_answers_wait),
		cmocka_unit_test(queue_limit_holds_to_the_message),
		cmocka_unit_test(death_of_a_peer_ends_back_pressure),
		cmocka_unit_test(half_closed_connection_is_closed),
		cmocka_unit_test(client_that_leaves_descriptors_unread_leaks_none),
		cmocka_unit_test(shortage_of_descriptors_is_named_as_our_own),
		cmocka_unit_test(client_is_turned_away_when_descriptors_run_out),
		cmocka_unit_test(bad_client_does_not_disturb_another),
		cmocka_unit_test(random_clients_leave_nothing_behind),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
