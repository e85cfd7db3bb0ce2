/* SPDX-License-Identifier: MIT */
/*
 * A host's unix port and listener that move to another owner in mid-stream, and parcels on their way.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "port/parcel.h"
#include "port/unix.h"
#include "port_fixture.h"

#define WAIT_NS 30000000000ull

static uint64_t
now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000ull + (uint64_t)now.tv_nsec;
}

/* ---- parcels over sockets ---------------------------------------------------------------------- */

struct sending {
	pthread_t thread;
	const struct vmb_parcel *parcel;
	int socket;
	enum vmb_status status;
};

static void *
run_send(void *ctx)
{
	struct sending *s = ctx;

	s->status = vmb_parcel_send(s->parcel, s->socket, now_ns() + WAIT_NS);
	return NULL;
}

static void
make_sockets(int sockets[2])
{
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sockets), 0);
}

static void
close_sockets(const int sockets[2])
{
	close(sockets[0]);
	close(sockets[1]);
}

/* The same content with descriptors of its own. */
static void
carry(const struct vmb_parcel *parcel, struct vmb_parcel *arrived)
{
	struct sending s = { .parcel = parcel };
	int sockets[2];

	make_sockets(sockets);
	s.socket = sockets[0];
	assert_int_equal(pthread_create(&s.thread, NULL, run_send, &s), 0);
	vmb_parcel_init(arrived, true);
	assert_int_equal(vmb_parcel_receive(arrived, sockets[1], now_ns() + WAIT_NS), VMB_OK);
	assert_int_equal(pthread_join(s.thread, NULL), 0);
	assert_int_equal(s.status, VMB_OK);
	assert_int_equal(arrived->byte_count, parcel->byte_count);
	assert_int_equal(arrived->fd_count, parcel->fd_count);
	close_sockets(sockets);
}

static void
parcel_of_any_size_arrives_whole(void **state)
{
	static const struct {
		size_t bytes;
		uint32_t fds;
	} sizes[] = { { 0, 0 },     { 1, 1 },       { 32768, 250 }, { 32769, 251 },
		      { 100, 253 }, { 3000000, 0 }, { 5, 600 } };
	unsigned before = t_fd_count();
	int fd = t_ram_fd(4096, false);
	struct stat original;

	(void)state;
	assert_int_equal(fstat(fd, &original), 0);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct vmb_parcel parcel, arrived;
		uint8_t *room;

		vmb_parcel_init(&parcel, false);
		room = vmb_parcel_add_room(&parcel, sizes[i].bytes);
		assert_non_null(room);
		for (size_t k = 0; k < sizes[i].bytes; k++)
			room[k] = (uint8_t)(k * 31 + (k >> 8));
		for (uint32_t k = 0; k < sizes[i].fds; k++)
			assert_int_equal(vmb_parcel_add_fd(&parcel, fd), VMB_OK);
		carry(&parcel, &arrived);
		if (sizes[i].bytes != 0)
			assert_memory_equal(arrived.bytes, parcel.bytes, sizes[i].bytes);
		/* What nobody takes goes with the parcel. */
		for (uint32_t k = 0; k < sizes[i].fds / 2; k++) {
			struct stat st;
			int taken = vmb_parcel_take_fd(&arrived);

			assert_int_equal(fstat(taken, &st), 0);
			assert_int_equal(st.st_ino, original.st_ino);
			assert_true((fcntl(taken, F_GETFD) & FD_CLOEXEC) != 0);
			close(taken);
		}
		vmb_parcel_fini(&arrived);
		vmb_parcel_fini(&parcel);
	}
	close(fd);
	t_expect_fd_count(before);
}

static void
parcel_sockets_are_connected_seqpacket_sockets(void **state)
{
	int sockets[2], other = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	(void)state;
	assert_false(vmb_parcel_socket_is_good(-1));
	assert_false(vmb_parcel_socket_is_good(other));
	close(other);
	make_sockets(sockets);
	assert_true(vmb_parcel_socket_is_good(sockets[0]));
	close_sockets(sockets);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	assert_false(vmb_parcel_socket_is_good(sockets[0]));
	close_sockets(sockets);
	other = t_ram_fd(4096, false);
	assert_false(vmb_parcel_socket_is_good(other));
	close(other);
}

static void
silence_ends_in_time(void **state)
{
	struct vmb_parcel parcel;
	uint32_t value;
	int sockets[2];

	(void)state;
	make_sockets(sockets);
	vmb_parcel_init(&parcel, true);
	assert_int_equal(vmb_parcel_wait(sockets[0], now_ns()), VMB_E_TIMEOUT);
	assert_int_equal(vmb_parcel_receive(&parcel, sockets[0], now_ns()), VMB_E_TIMEOUT);
	assert_int_equal(vmb_parcel_hear(sockets[0], VMB_PARCEL_TAKEN, &value, now_ns() + 1000000),
	                 VMB_E_TIMEOUT);
	/* Nothing that is said from now on could be missed. */
	assert_int_equal(vmb_parcel_say(sockets[1], VMB_PARCEL_TAKEN, 0, now_ns() + WAIT_NS),
	                 VMB_E_CLOSED);
	close_sockets(sockets);
	vmb_parcel_fini(&parcel);
}

static void
word_that_was_said_in_time_is_heard_late(void **state)
{
	uint32_t value = 0;
	int sockets[2];

	(void)state;
	make_sockets(sockets);
	assert_int_equal(vmb_parcel_say(sockets[1], VMB_PARCEL_TAKEN, 77, now_ns() + WAIT_NS), VMB_OK);
	assert_int_equal(vmb_parcel_hear(sockets[0], VMB_PARCEL_TAKEN, &value, 0), VMB_OK);
	assert_int_equal(value, 77);
	close_sockets(sockets);
}

static void
words_are_what_was_expected_or_refusals(void **state)
{
	uint64_t until = now_ns() + WAIT_NS;
	uint32_t value;
	int sockets[2];

	(void)state;
	make_sockets(sockets);
	assert_int_equal(vmb_parcel_say(sockets[1], VMB_PARCEL_YOURS, 0, until), VMB_OK);
	assert_int_equal(vmb_parcel_hear(sockets[0], VMB_PARCEL_TAKEN, &value, until), VMB_E_MALFORMED);
	for (uint32_t code = 0; code < 20; code++) {
		enum vmb_status expected = code >= 1 && code <= 16 ? (enum vmb_status)-(int)code
		                                                   : VMB_E_MALFORMED;

		assert_int_equal(vmb_parcel_say(sockets[1], VMB_PARCEL_REFUSED, code, until), VMB_OK);
		assert_int_equal(vmb_parcel_hear(sockets[0], VMB_PARCEL_TAKEN, &value, until), expected);
	}
	close(sockets[1]);
	assert_int_equal(vmb_parcel_hear(sockets[0], VMB_PARCEL_TAKEN, &value, until), VMB_E_CLOSED);
	assert_int_equal(vmb_parcel_say(sockets[0], VMB_PARCEL_TAKEN, 0, until), VMB_E_CLOSED);
	close(sockets[0]);
}

/* Datagrams of a sender that does as it likes: kind, content, and how many descriptors ride along. */
struct raw_datagram {
	uint16_t version, kind;
	uint32_t fields[4];
	uint32_t field_count;
	unsigned fds;
};

static void
send_raw(int socket, const struct raw_datagram *d, int fd)
{
	const struct vmb_chunk_format format = { .magic = 0x53484D4B, .version = d->version };
	const int fds[2] = { fd, fd };
	uint8_t bytes[64];
	struct vmb_chunk_writer writer = { .bytes = bytes, .capacity = sizeof(bytes) };

	vmb_chunk_begin(&writer, &format, d->kind);
	for (uint32_t i = 0; i < d->field_count; i++)
		vmb_chunk_put_u32(&writer, d->fields[i]);
	vmb_chunk_end(&writer);
	t_raw_send(socket, bytes, writer.used, fds, d->fds);
}

static void
senders_that_break_the_order_are_refused(void **state)
{
	enum { HELLO = 1, BYTES, FDS };
	/* CRC-32 of four zero bytes. */
	const uint32_t crc = vmb_crc32(0, "\0\0\0\0", 4);
	const struct {
		const char *what;
		struct raw_datagram datagrams[3];
		enum vmb_status expected;
	} cases[] = {
		{ "another version", { { 2, HELLO, { 0, 0, 0, 0 }, 4, 0 } }, VMB_E_UNSUPPORTED },
		{ "no greeting", { { 1, BYTES, { 0 }, 1, 0 } }, VMB_E_MALFORMED },
		{ "short greeting", { { 1, HELLO, { 0 }, 3, 0 } }, VMB_E_MALFORMED },
		{ "greeting with descriptors", { { 1, HELLO, { 0, 0, 0, 0 }, 4, 1 } }, VMB_E_MALFORMED },
		{ "more than anybody keeps", { { 1, HELLO, { 0, 1, 0, 0 }, 4, 0 } }, VMB_E_LIMIT },
		{ "wrong sum", { { 1, HELLO, { 4, 0, 0, 1 }, 4, 0 }, { 1, BYTES, { 0 }, 1, 0 } },
		  VMB_E_MALFORMED },
		{ "more bytes than announced",
		  { { 1, HELLO, { 3, 0, 0, 0 }, 4, 0 }, { 1, BYTES, { 0 }, 1, 0 } }, VMB_E_MALFORMED },
		{ "empty piece", { { 1, HELLO, { 3, 0, 0, 0 }, 4, 0 }, { 1, BYTES, { 0 }, 0, 0 } },
		  VMB_E_MALFORMED },
		{ "piece with descriptors",
		  { { 1, HELLO, { 4, 0, 0, crc }, 4, 0 }, { 1, BYTES, { 0 }, 1, 2 } }, VMB_E_MALFORMED },
		{ "descriptors too early",
		  { { 1, HELLO, { 4, 0, 1, crc }, 4, 0 }, { 1, FDS, { 1 }, 1, 1 } }, VMB_E_MALFORMED },
		{ "more descriptors than announced",
		  { { 1, HELLO, { 0, 0, 1, 0 }, 4, 0 }, { 1, FDS, { 2 }, 1, 2 } }, VMB_E_MALFORMED },
		{ "wrong count of descriptors",
		  { { 1, HELLO, { 0, 0, 2, 0 }, 4, 0 }, { 1, FDS, { 2 }, 1, 1 } }, VMB_E_MALFORMED },
		{ "no descriptors", { { 1, HELLO, { 0, 0, 1, 0 }, 4, 0 }, { 1, FDS, { 0 }, 1, 0 } },
		  VMB_E_MALFORMED },
		{ "bytes again", { { 1, HELLO, { 0, 0, 1, 0 }, 4, 0 }, { 1, BYTES, { 1 }, 1, 1 } },
		  VMB_E_MALFORMED },
	};
	unsigned before = t_fd_count();
	int fd = t_ram_fd(4096, false);

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vmb_parcel parcel;
		enum vmb_status st;
		int sockets[2];

		make_sockets(sockets);
		for (unsigned k = 0; k < 3 && cases[i].datagrams[k].kind != 0; k++)
			send_raw(sockets[0], &cases[i].datagrams[k], fd);
		vmb_parcel_init(&parcel, true);
		st = vmb_parcel_receive(&parcel, sockets[1], now_ns() + WAIT_NS);
		if (st != cases[i].expected)
			fail_msg("%s: %s", cases[i].what, vmb_status_name(st));
		vmb_parcel_fini(&parcel);
		close_sockets(sockets);
	}
	close(fd);
	t_expect_fd_count(before);
}

/* ---- ports ---------------------------------------------------------------------------------------- */

static void
save_host(struct t_pair *pair, struct vmb_parcel *arrived)
{
	struct vmb_parcel parcel;

	vmb_parcel_init(&parcel, false);
	assert_int_equal(vmb_port_save(pair->host.port, &parcel), VMB_OK);
	carry(&parcel, arrived);
	vmb_parcel_fini(&parcel);
}

/* The host end of the pair is another port from now on; what was recorded stays. */
static void
move_host(struct t_pair *pair)
{
	struct vmb_port_handler handler = pair->host.port->handler;
	struct vmb_parcel arrived;
	struct vmb_port *port;

	save_host(pair, &arrived);
	assert_int_equal(vmb_port_load(&arrived, &port), VMB_OK);
	assert_true(vmb_parcel_is_empty(&arrived));
	vmb_parcel_fini(&arrived);
	vmb_port_destroy(pair->host.port);
	pair->host.port = port;
	vmb_port_set_handler(port, &handler);
}

static void
contact(struct t_pair *pair)
{
	assert_int_equal(t_post(&pair->guest, 40, VMB_MSG_INITIATE_CONTACT, VMB_VERSION_COPPER), VMB_OK);
	t_run_until_messages(&pair->host, pair->host.messages + 1);
}

static void
ring_both_ways(struct t_pair *pair, const struct vmb_doorbell *host, const struct vmb_doorbell *guest)
{
	uint64_t ignored;

	assert_int_equal(vmb_port_ring(pair->guest.port, guest), VMB_OK);
	assert_true(t_readable(host->wait_fd));
	assert_int_equal(read(host->wait_fd, &ignored, sizeof(ignored)), sizeof(ignored));
	assert_int_equal(vmb_port_ring(pair->host.port, host), VMB_OK);
	assert_true(t_readable(guest->wait_fd));
	assert_int_equal(read(guest->wait_fd, &ignored, sizeof(ignored)), sizeof(ignored));
}

static void
port_that_moved_goes_on_in_mid_stream(void **state)
{
	struct t_pair *pair = t_pair_make(T_UNIX, NULL);
	struct vmb_doorbell guest[2], host[2];
	uint8_t *page = vmb_mem_host(vmb_arena_mem(pair->arena), 4096, 4096);

	(void)state;
	contact(pair);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(vmb_port_doorbell_open(pair->guest.port, i + 1, &guest[i]), VMB_OK);
		assert_int_equal(t_post(&pair->guest, 152, VMB_MSG_OPEN_CHANNEL, i + 1), VMB_OK);
	}
	t_run_until_messages(&pair->host, 3);
	/* One is in use, the other one came and was not asked for yet. */
	assert_int_equal(vmb_port_doorbell_open(pair->host.port, 1, &host[0]), VMB_OK);
	ring_both_ways(pair, &host[0], &guest[0]);
	/* Unread on both sides. */
	for (uint32_t i = 0; i < 20; i++) {
		assert_int_equal(t_post(&pair->guest, 16, VMB_MSG_REQUEST_OFFERS, i), VMB_OK);
		assert_int_equal(t_post(&pair->host, 16, VMB_MSG_RESCIND_OFFER, i), VMB_OK);
	}
	move_host(pair);
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(vmb_port_doorbell_open(pair->host.port, i + 1, &host[i]), VMB_OK);
		ring_both_ways(pair, &host[i], &guest[i]);
		assert_int_equal(vmb_port_doorbell_open(pair->host.port, i + 1, &host[i]), VMB_E_EXISTS);
	}
	assert_int_equal(vmb_port_doorbell_open(pair->host.port, 3, &host[0]), VMB_E_NOT_FOUND);
	t_run_until_messages(&pair->host, 23);
	t_run_until_messages(&pair->guest, 20);
	for (uint32_t i = 0; i < 20; i++) {
		assert_int_equal(t_u32(pair->host.log[3 + i].data, 8), i);
		assert_int_equal(t_u32(pair->guest.log[i].data, 8), i);
	}
	/* The guest's memory is the same. */
	page[5] = 0x5C;
	assert_int_equal(((uint8_t *)vmb_mem_host(vmb_port_memory(pair->host.port), 4096, 4096))[5],
	                 0x5C);
	contact(pair);
	assert_int_equal(pair->guest.closed_calls, 0);
	t_pair_free(pair);
}

static void
messages_that_wait_for_the_guest_move_in_order(void **state)
{
	struct t_pair *pair = t_pair_make(T_UNIX, NULL);
	uint32_t sent = 0;

	(void)state;
	/* Until the socket is full and some hundreds wait. */
	for (; sent < 3000; sent++)
		assert_int_equal(t_post(&pair->host, 240, VMB_MSG_RESCIND_OFFER, sent), VMB_OK);
	move_host(pair);
	move_host(pair);
	for (; sent < 3100; sent++)
		assert_int_equal(t_post(&pair->host, 12 + sent % 9, VMB_MSG_RESCIND_OFFER, sent), VMB_OK);
	while (pair->guest.messages < sent) {
		t_run_idle(&pair->guest);
		t_run_idle(&pair->host);
	}
	for (uint32_t i = 0; i < 3100; i++)
		assert_int_equal(t_u32(pair->guest.log[i].data, 8), i);
	t_pair_free(pair);
}

static void
guest_that_stays_silent_is_still_cut_off(void **state)
{
	const struct vmb_unix_limits limits = { .stall_ms = 20 };
	struct t_pair *pair = t_pair_make(T_UNIX, &limits);

	(void)state;
	for (uint32_t i = 0; i < 3000; i++)
		assert_int_equal(t_post(&pair->host, 240, VMB_MSG_RESCIND_OFFER, i), VMB_OK);
	move_host(pair);
	t_expect_closed(&pair->host, VMB_E_TIMEOUT, "has not read its messages for 20 ms");
	t_pair_free(pair);
}

static uint64_t frozen_ns = 1000000000000;

static uint64_t
frozen_clock(void)
{
	return frozen_ns;
}

static void
guest_that_floods_gains_nothing_by_a_move(void **state)
{
	const struct vmb_unix_limits limits = { .messages_per_second = 50 };
	struct t_pair *pair;

	(void)state;
	unix_set_clock(frozen_clock);
	pair = t_pair_make(T_UNIX, &limits);
	for (uint32_t i = 0; i < 150; i++) {
		assert_int_equal(t_post(&pair->guest, 16, VMB_MSG_REQUEST_OFFERS, i), VMB_OK);
		vmb_port_poll(pair->host.port);
		if (i % 16 == 0)
			move_host(pair);
	}
	/* The burst of one, however often it moved; the others wait for their time. */
	assert_int_equal(pair->host.messages, 100);
	frozen_ns += 500000000;
	vmb_port_poll(pair->host.port);
	assert_int_equal(pair->host.messages, 125);
	frozen_ns += 500000000;
	vmb_port_poll(pair->host.port);
	assert_int_equal(pair->host.messages, 150);
	for (uint32_t i = 0; i < 150; i++)
		assert_int_equal(t_u32(pair->host.log[i].data, 8), i);
	t_pair_free(pair);
	unix_set_clock(NULL);
}

static void
guest_that_left_is_noticed_after_the_move(void **state)
{
	struct t_pair *pair = t_pair_make(T_UNIX, NULL);

	(void)state;
	assert_int_equal(t_post(&pair->guest, 16, VMB_MSG_REQUEST_OFFERS, 7), VMB_OK);
	vmb_port_destroy(pair->guest.port);
	pair->guest.port = NULL;
	/* This end has learnt already that nothing more can be sent. */
	while (t_post(&pair->host, 16, VMB_MSG_RESCIND_OFFER, 1) == VMB_OK)
		continue;
	move_host(pair);
	t_run_until_closed(&pair->host);
	assert_int_equal(pair->host.why, VMB_E_CLOSED);
	assert_int_equal(pair->host.messages, 1);
	t_pair_free(pair);
}

static void
doorbell_that_is_kept_is_opened_again_by_the_next_user(void **state)
{
	(void)state;
	for (int kind = T_LOOPBACK; kind <= T_UNIX; kind++) {
		struct t_pair *pair = t_pair_make((enum t_kind)kind, NULL);
		struct vmb_doorbell guest, host, again;

		contact(pair);
		assert_int_equal(vmb_port_doorbell_open(pair->guest.port, 5, &guest), VMB_OK);
		assert_int_equal(t_post(&pair->guest, 152, VMB_MSG_OPEN_CHANNEL, 5), VMB_OK);
		t_run_until_messages(&pair->host, 2);
		/* Not open: nothing happens, for whatever id. */
		vmb_port_doorbell_keep(pair->host.port, 5);
		vmb_port_doorbell_keep(pair->host.port, 0);
		vmb_port_doorbell_keep(pair->host.port, UINT32_MAX);
		assert_int_equal(vmb_port_doorbell_open(pair->host.port, 5, &host), VMB_OK);
		/* A second request for the same channel is refused by the bus; its pair is of no use. */
		assert_int_equal(t_post(&pair->guest, 152, VMB_MSG_OPEN_CHANNEL, 5), VMB_OK);
		t_run_until_messages(&pair->host, 3);
		vmb_port_doorbell_keep(pair->host.port, 5);
		assert_int_equal(vmb_port_doorbell_open(pair->host.port, 5, &again), VMB_OK);
		assert_int_equal(host.wait_fd, again.wait_fd);
		ring_both_ways(pair, &again, &guest);
		vmb_port_doorbell_close(pair->host.port, 5);
		assert_int_equal(vmb_port_doorbell_open(pair->host.port, 5, &host), VMB_E_NOT_FOUND);
		/* A guest keeps nothing: its pair is its own. */
		vmb_port_doorbell_keep(pair->guest.port, 5);
		assert_int_equal(vmb_port_doorbell_open(pair->guest.port, 5, &guest), VMB_E_EXISTS);
		t_pair_free(pair);
	}
}

static void
only_open_unix_hosts_can_be_saved(void **state)
{
	struct t_pair *loopback = t_pair_make(T_LOOPBACK, NULL), *unix_pair = t_pair_make(T_UNIX, NULL);
	struct vmb_parcel parcel;

	(void)state;
	vmb_parcel_init(&parcel, false);
	assert_int_equal(vmb_port_save(loopback->host.port, &parcel), VMB_E_UNSUPPORTED);
	assert_int_equal(vmb_port_save(loopback->guest.port, &parcel), VMB_E_UNSUPPORTED);
	assert_int_equal(vmb_port_save(unix_pair->guest.port, &parcel), VMB_E_UNSUPPORTED);
	vmb_port_cut(unix_pair->host.port, VMB_E_LIMIT, "enough");
	assert_int_equal(vmb_port_save(unix_pair->host.port, &parcel), VMB_E_CLOSED);
	assert_int_equal(parcel.byte_count, 0);
	assert_int_equal(parcel.fd_count, 0);
	vmb_parcel_fini(&parcel);
	t_pair_free(unix_pair);
	t_pair_free(loopback);
}

/* Alter the one chunk of a port's parcel. Its descriptors stay the parcel's. */
static void
forge(struct vmb_parcel *parcel, uint32_t offset, uint32_t value, uint32_t bytes)
{
	uint8_t *content = parcel->bytes + VMB_CHUNK_HEADER_BYTES;
	uint32_t length = (uint32_t)parcel->byte_count - VMB_CHUNK_HEADER_BYTES, crc;

	assert_true(offset + bytes <= length);
	memcpy(content + offset, &value, bytes);
	crc = vmb_crc32(vmb_crc32(0, parcel->bytes, 12), content, length);
	memcpy(parcel->bytes + 12, &crc, 4);
}

static void
forged_ports_are_refused(void **state)
{
	/* Limits 0..24, flags 24, ahead 28, pairs 36: count, ids; messages 44: count, length, bytes. */
	static const struct {
		const char *what;
		uint32_t offset, value, bytes;
	} cases[] = {
		{ "no queue", 0, 0, 4 },
		{ "no time", 4, 0, 4 },
		{ "no rate", 8, 0, 4 },
		{ "no memory", 12, 0, 4 },
		{ "no channels", 20, 0, 4 },
		{ "unknown flag", 24, 7, 4 },
		{ "memory without a flag", 24, 0, 4 },
		{ "too far ahead", 32, 1, 4 },
		{ "more pairs", 36, 3, 4 },
		{ "fewer pairs", 36, 1, 4 },
		{ "channel 0", 40, 0, 2 },
		{ "channel beyond the last", 40, 2048, 2 },
		{ "two pairs of one channel", 42, 1, 2 },
		{ "fewer channels than pairs", 20, 1, 4 },
		{ "less memory than there is", 12, 4096, 4 },
		{ "a shorter queue than there is", 0, 1, 4 },
		{ "more messages", 44, 200000, 4 },
		{ "a short message", 48, 7, 1 },
		{ "a long message", 48, 241, 1 },
	};
	const struct vmb_unix_limits limits = { .memory_bytes = T_ARENA_BYTES };
	struct t_pair *pair = t_pair_make(T_UNIX, &limits);
	struct vmb_doorbell bell;
	struct vmb_parcel whole;
	struct vmb_port *port;

	(void)state;
	contact(pair);
	for (uint32_t i = 1; i <= 2; i++) {
		assert_int_equal(vmb_port_doorbell_open(pair->guest.port, i, &bell), VMB_OK);
		assert_int_equal(t_post(&pair->guest, 152, VMB_MSG_OPEN_CHANNEL, i), VMB_OK);
	}
	t_run_until_messages(&pair->host, 3);
	for (uint32_t i = 0; i < 3000; i++)
		assert_int_equal(t_post(&pair->host, 240, VMB_MSG_RESCIND_OFFER, i), VMB_OK);
	vmb_parcel_init(&whole, false);
	assert_int_equal(vmb_port_save(pair->host.port, &whole), VMB_OK);
	assert_int_equal(whole.fd_count, 6);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct vmb_parcel arrived;
		enum vmb_status st;

		carry(&whole, &arrived);
		forge(&arrived, cases[i].offset, cases[i].value, cases[i].bytes);
		st = vmb_port_load(&arrived, &port);
		if (st != VMB_E_MALFORMED)
			fail_msg("%s: %s", cases[i].what, vmb_status_name(st));
		vmb_parcel_fini(&arrived);
	}
	/* A kind of port that nobody knows. */
	for (uint16_t kind = 0; kind < 3; kind++) {
		struct vmb_parcel arrived;

		carry(&whole, &arrived);
		arrived.bytes[6] = (uint8_t)(0x33 + kind);
		forge(&arrived, 0, 8192, 4);
		assert_int_equal(vmb_port_load(&arrived, &port), VMB_E_UNSUPPORTED);
		vmb_parcel_fini(&arrived);
	}
	vmb_parcel_fini(&whole);
	t_pair_free(pair);
}

static void
descriptors_of_the_wrong_kind_are_refused(void **state)
{
	struct t_pair *pair = t_pair_make(T_UNIX, NULL);
	struct vmb_doorbell bell;
	struct vmb_parcel whole;
	int others[3];

	(void)state;
	contact(pair);
	assert_int_equal(vmb_port_doorbell_open(pair->guest.port, 1, &bell), VMB_OK);
	assert_int_equal(t_post(&pair->guest, 152, VMB_MSG_OPEN_CHANNEL, 1), VMB_OK);
	t_run_until_messages(&pair->host, 2);
	vmb_parcel_init(&whole, false);
	assert_int_equal(vmb_port_save(pair->host.port, &whole), VMB_OK);
	assert_int_equal(whole.fd_count, 4);
	others[0] = t_ram_fd(4096, false);
	others[1] = open("/dev/null", O_RDWR | O_CLOEXEC);
	others[2] = vmb_unix_listener_fd(pair->listener);
	for (uint32_t i = 0; i < 4; i++) {
		for (uint32_t k = 0; k < 3; k++) {
			struct vmb_parcel arrived;
			struct vmb_port *port;
			int kept = whole.fds[i];

			whole.fds[i] = others[k];
			carry(&whole, &arrived);
			whole.fds[i] = kept;
			assert_int_equal(vmb_port_load(&arrived, &port), VMB_E_MALFORMED);
			vmb_parcel_fini(&arrived);
		}
	}
	close(others[0]);
	close(others[1]);
	vmb_parcel_fini(&whole);
	t_pair_free(pair);
}

/* ---- the listener -------------------------------------------------------------------------------------- */

static void
listener_that_moved_serves_the_path(void **state)
{
	const struct vmb_unix_limits limits = { .queue_messages = 2 };
	struct t_pair *pair = t_pair_make(T_UNIX, &limits);
	struct vmb_parcel parcel, arrived;
	struct vmb_unix_listener *moved;
	struct vmb_port *guest, *host;
	struct t_end end;
	char who[64];

	(void)state;
	vmb_parcel_init(&parcel, false);
	assert_int_equal(vmb_unix_listener_save(pair->listener, &parcel), VMB_OK);
	carry(&parcel, &arrived);
	vmb_parcel_fini(&parcel);
	assert_int_equal(vmb_unix_listener_load(&arrived, &moved), VMB_OK);
	assert_true(vmb_parcel_is_empty(&arrived));
	vmb_parcel_fini(&arrived);
	/* One waits already when the old owner lets go. */
	assert_int_equal(vmb_unix_connect(pair->place.path, pair->arena, &guest), VMB_OK);
	vmb_unix_listener_abandon(pair->listener);
	pair->listener = moved;
	assert_int_equal(access(pair->place.path, F_OK), 0);
	assert_int_equal(t_accept(moved, &host, who), VMB_OK);
	/* With the limits of before. */
	t_end_init(&end, host);
	while (t_post(&end, 240, VMB_MSG_RESCIND_OFFER, 0) == VMB_OK)
		continue;
	t_expect_closed(&end, VMB_E_LIMIT, "too many messages");
	t_end_fini(&end);
	vmb_port_destroy(guest);
	vmb_unix_listener_destroy(pair->listener);
	assert_int_not_equal(access(pair->place.path, F_OK), 0);
	/* For the end of the pair. */
	assert_int_equal(vmb_unix_listen(pair->place.path, 0, NULL, &pair->listener), VMB_OK);
	t_pair_free(pair);
}

static void
listener_is_checked(void **state)
{
	struct t_pair *pair = t_pair_make(T_UNIX, NULL);
	struct vmb_unix_listener *moved;
	struct vmb_parcel whole, arrived;

	(void)state;
	vmb_parcel_init(&whole, false);
	assert_int_equal(vmb_unix_listener_save(pair->listener, &whole), VMB_OK);
	/* Another name; a longer one; none. device 0, inode 8, limits 16..40, name 40. */
	for (uint32_t i = 0; i < 4; i++) {
		static const struct {
			uint32_t offset;
			uint8_t value;
		} cases[] = { { 41, 'x' }, { 40, 4 }, { 40, 0 }, { 42, '\0' } };

		carry(&whole, &arrived);
		forge(&arrived, cases[i].offset, cases[i].value, 1);
		assert_int_equal(vmb_unix_listener_load(&arrived, &moved), VMB_E_MALFORMED);
		vmb_parcel_fini(&arrived);
	}
	/* A socket that does not listen, a directory that is none, nothing at all. */
	for (uint32_t i = 0; i < 3; i++) {
		int kept[2] = { whole.fds[0], whole.fds[1] };

		whole.fds[0] = i == 0 ? vmb_port_poll_fd(pair->host.port) : kept[i == 1 ? 0 : 1];
		whole.fds[1] = i == 1 ? kept[0] : kept[1];
		whole.fd_count = i == 2 ? 1 : 2;
		carry(&whole, &arrived);
		assert_int_equal(vmb_unix_listener_load(&arrived, &moved), VMB_E_MALFORMED);
		vmb_parcel_fini(&arrived);
		whole.fds[0] = kept[0];
		whole.fds[1] = kept[1];
		whole.fd_count = 2;
	}
	/* Something else is next in the parcel. */
	carry(&whole, &arrived);
	arrived.bytes[6] ^= 3;
	forge(&arrived, 41, 'b', 1);
	assert_int_equal(vmb_unix_listener_load(&arrived, &moved), VMB_E_MALFORMED);
	vmb_parcel_fini(&arrived);
	vmb_parcel_fini(&whole);
	t_pair_free(pair);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parcel_of_any_size_arrives_whole),
		cmocka_unit_test(parcel_sockets_are_connected_seqpacket_sockets),
		cmocka_unit_test(silence_ends_in_time),
		cmocka_unit_test(word_that_was_said_in_time_is_heard_late),
		cmocka_unit_test(words_are_what_was_expected_or_refusals),
		cmocka_unit_test(senders_that_break_the_order_are_refused),
		cmocka_unit_test(port_that_moved_goes_on_in_mid_stream),
		cmocka_unit_test(messages_that_wait_for_the_guest_move_in_order),
		cmocka_unit_test(guest_that_stays_silent_is_still_cut_off),
		cmocka_unit_test(guest_that_floods_gains_nothing_by_a_move),
		cmocka_unit_test(guest_that_left_is_noticed_after_the_move),
		cmocka_unit_test(doorbell_that_is_kept_is_opened_again_by_the_next_user),
		cmocka_unit_test(only_open_unix_hosts_can_be_saved),
		cmocka_unit_test(forged_ports_are_refused),
		cmocka_unit_test(descriptors_of_the_wrong_kind_are_refused),
		cmocka_unit_test(listener_that_moved_serves_the_path),
		cmocka_unit_test(listener_is_checked),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
