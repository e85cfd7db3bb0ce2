/* SPDX-License-Identifier: MIT */
/*
 * Fuzzer of the unix port: a host's or a guest's end of a real socket whose other end sends any
 * datagrams with any descriptors, reads or does not, and leaves. The owner posts, polls and
 * uses doorbells. System calls fail when the input says so, and the clock is the input's.
 * Whatever happens: one end with a reason is reported, nothing is delivered after it, messages
 * are whole, and no descriptor is left open.
 */
#define FUZZ_RECORD_BYTES 16
#include "fuzz_records.h"
#include "fuzz_memory.h"
#include "port/unix.h"
#include "port/unix_access.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#define RAM_BYTES 16384u
#define RAM_LIMIT 65536u
#define FDS_WATCHED 128

/* ---- the system ------------------------------------------------------------------------------ */

static unsigned system_left; /* the call that fails, counted down; 0 = none */
static int system_error;
static uint64_t clock_ns;

static bool
is_refused(void)
{
	if (system_left == 0 || --system_left != 0)
		return false;
	errno = system_error;
	return true;
}

/*
 * With 64-bit file offsets some names are others in the object files. A call of the sources
 * under test, which is refused or goes to the system.
 */
#define WRAP(type, failure, name, parameters, arguments)                   \
	type __real_##name parameters;                                     \
	type __wrap_##name parameters;                                     \
	type __wrap_##name parameters                                      \
	{                                                                  \
		return is_refused() ? (failure) : __real_##name arguments; \
	}

WRAP(ssize_t, -1, recvmsg, (int fd, struct msghdr *hdr, int flags), (fd, hdr, flags))
WRAP(ssize_t, -1, sendmsg, (int fd, const struct msghdr *hdr, int flags), (fd, hdr, flags))
WRAP(int, -1, epoll_create1, (int flags), (flags))
WRAP(int, -1, epoll_ctl, (int set, int op, int fd, struct epoll_event *event), (set, op, fd, event))
WRAP(int, -1, timerfd_create, (clockid_t clock, int flags), (clock, flags))
WRAP(int, -1, eventfd, (unsigned value, int flags), (value, flags))
WRAP(void *, MAP_FAILED, mmap64,
     (void *at, size_t bytes, int prot, int flags, int fd, off_t offset),
     (at, bytes, prot, flags, fd, offset))

WRAP(ssize_t, -1, write, (int fd, const void *bytes, size_t count), (fd, bytes, count))
WRAP(ssize_t, -1, readlink, (const char *path, char *to, size_t room), (path, to, room))
WRAP(int, -1, poll, (struct pollfd * fds, nfds_t count, int ms), (fds, count, ms))
WRAP(int, -1, fstat64, (int fd, struct stat *to), (fd, to))
WRAP(int, -1, fstatfs64, (int fd, struct statfs *to), (fd, to))

/*
 * The thread that closes a file which may be slow to close: it runs here, so that the end of a
 * story is the end.
 */
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                          void *context);
int
__wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
                      void *context)
{
	(void)attr;
	*thread = pthread_self();
	if (is_refused())
		return EAGAIN;
	(void)run(context);
	return 0;
}

int __real_fcntl64(int fd, int command, ...);
int __wrap_fcntl64(int fd, int command, ...);
int
__wrap_fcntl64(int fd, int command, ...)
{
	va_list args;
	long value;

	va_start(args, command);
	value = va_arg(args, long);
	va_end(args);
	return is_refused() ? -1 : __real_fcntl64(fd, command, value);
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
int
__wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
	(void)clock;
	now->tv_sec = (time_t)(clock_ns / 1000000000u);
	now->tv_nsec = (long)(clock_ns % 1000000000u);
	return 0;
}

/* ---- descriptors that a peer may send -------------------------------------------------------- */

enum {
	K_RAM,
	K_EVENT,
	K_EVENT_2,
	K_UNSEALED,
	K_ODD,
	K_EMPTY,
	K_BIG,
	K_OTHER_RAM,
	K_READ_ONLY,
	K_PIPE,
	K_SOCKET,
	K_NULL,
	K_DIRECTORY,
	KINDS
};
static int kinds[KINDS];

static int
make_ram(uint64_t bytes, unsigned seals)
{
	int fd = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	FUZZ_CHECK(fd >= 0 && ftruncate(fd, (off_t)bytes) == 0);
	FUZZ_CHECK(seals == 0 || fcntl(fd, F_ADD_SEALS, seals) == 0);
	return fd;
}

static void
make_kinds(void)
{
	char path[40];
	int pair[2];

	kinds[K_RAM] = make_ram(RAM_BYTES, F_SEAL_SHRINK);
	kinds[K_EVENT] = eventfd(0, EFD_NONBLOCK);
	kinds[K_EVENT_2] = eventfd(0, EFD_NONBLOCK);
	kinds[K_UNSEALED] = make_ram(RAM_BYTES, 0);
	kinds[K_ODD] = make_ram(RAM_BYTES + 1, F_SEAL_SHRINK);
	kinds[K_EMPTY] = make_ram(0, F_SEAL_SHRINK);
	kinds[K_BIG] = make_ram(2 * RAM_LIMIT, F_SEAL_SHRINK);
	kinds[K_OTHER_RAM] = make_ram(RAM_BYTES, F_SEAL_SHRINK);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", kinds[K_RAM]);
	kinds[K_READ_ONLY] = open(path, O_RDONLY | O_CLOEXEC);
	FUZZ_CHECK(pipe2(pair, O_CLOEXEC) == 0);
	kinds[K_PIPE] = pair[0];
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
	kinds[K_SOCKET] = pair[0];
	kinds[K_NULL] = open("/dev/null", O_RDWR | O_CLOEXEC);
	kinds[K_DIRECTORY] = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (unsigned i = 0; i < KINDS; i++)
		FUZZ_CHECK(kinds[i] >= 0);
}

/* Of the first ones, which are all that are used here. */
static unsigned
open_count(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < FDS_WATCHED; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* From now on the process may open so many more. */
static void
limit_fds(unsigned more)
{
	struct rlimit limit;
	int next = dup(kinds[K_NULL]);

	if (next >= 0)
		close(next);
	FUZZ_CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	limit.rlim_cur = more == FDS_WATCHED || next < 0 ? limit.rlim_max : (rlim_t)next + more;
	FUZZ_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
}

/* ---- a world --------------------------------------------------------------------------------- */

struct world {
	struct vmb_port *port;
	struct vmb_mem *memory; /* a guest's own */
	int peer;
	bool is_host, is_closed;
	struct vmb_doorbell bells[4]; /* of channels 0 to 3; wait_fd -1: not open */
};

static void
on_message(void *ctx, uint32_t connection_id, const void *message, uint32_t bytes)
{
	struct world *world = ctx;
	uint8_t sum = 0;

	FUZZ_CHECK(!world->is_closed && bytes >= VMB_MSG_HEADER_BYTES &&
	           bytes <= VMB_MSG_MAX_BYTES);
	FUZZ_CHECK(world->is_host ? connection_id == VMB_CONNECTION_ID_LEGACY ||
	                                connection_id == VMB_CONNECTION_ID_MULTI_CLIENT
	                          : connection_id == 0);
	for (uint32_t i = 0; i < bytes; i++)
		sum = (uint8_t)(sum + ((const uint8_t *)message)[i]);
	__asm__ volatile("" : : "r"(sum));
}

static void
on_closed(void *ctx, enum vmb_status why, const char *reason)
{
	struct world *world = ctx;

	FUZZ_CHECK(!world->is_closed && why != VMB_OK && *reason != '\0');
	world->is_closed = true;
}

/* Type, channel or version, and a filling. */
static uint32_t
make_message(struct fuzz *fuzz, uint8_t message[300])
{
	static const uint8_t types[] = { VMB_MSG_INITIATE_CONTACT, VMB_MSG_OPEN_CHANNEL,
		                         VMB_MSG_REL_ID_RELEASED, VMB_MSG_UNLOAD,
		                         VMB_MSG_REQUEST_OFFERS };
	uint32_t type = fuzz_u8(fuzz), size = fuzz_u8(fuzz), word;

	word = fuzz_u8(fuzz);
	if (word >= 0x80)
		word = fuzz_u32(fuzz);
	if (type < 0x80)
		type = types[type % sizeof(types)];
	memset(message, 0, 300);
	memcpy(message, &type, 4);
	memcpy(message + 8, &word, 4);
	if (type >= 0xF0) { /* what a host says to whom it does not serve */
		memcpy(message, UNIX_REFUSAL, sizeof(UNIX_REFUSAL));
		memcpy(message + sizeof(UNIX_REFUSAL) - 1, &word, 4);
	}
	/* As long as most are, or any length. */
	return size < 0x40          ? 40
	       : size < 0x60        ? 236 + (size & 7)
	       : (size & 0x1F) < 13 ? size & 0x1F
	                            : 148;
}

#define MOST_SENT_FDS 6u

static void
peer_sends(struct world *world, struct fuzz *fuzz)
{
	uint8_t message[300];
	uint32_t count = fuzz_below(fuzz, MOST_SENT_FDS + 1), times = 1 + fuzz_below(fuzz, 80);
	union {
		struct cmsghdr align;
		uint8_t bytes[CMSG_SPACE(MOST_SENT_FDS * sizeof(int))];
	} control;
	struct iovec iov = { .iov_base = message };
	struct msghdr hdr = { .msg_iov = &iov, .msg_iovlen = 1 };
	int fds[MOST_SENT_FDS];

	if (world->peer < 0)
		return;
	for (uint32_t i = 0; i < count; i++)
		fds[i] = kinds[fuzz_below(fuzz, KINDS)];
	iov.iov_len = make_message(fuzz, message);
	if (count != 0) {
		memset(&control, 0, sizeof(control));
		hdr.msg_control = control.bytes;
		hdr.msg_controllen = CMSG_SPACE(count * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(count * sizeof(int));
		memcpy(CMSG_DATA(&control.align), fds, count * sizeof(int));
	}
	while (times-- != 0)
		(void)!__real_sendmsg(world->peer, &hdr, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void
peer_reads(struct world *world, uint32_t count)
{
	uint8_t buffer[VMB_MSG_MAX_BYTES + 1];
	ssize_t got;

	for (; count != 0 && world->peer >= 0; count--) {
		got = recv(world->peer, buffer, sizeof(buffer), MSG_DONTWAIT);
		if (got <= 0)
			return;
		FUZZ_CHECK(got >= (ssize_t)VMB_MSG_HEADER_BYTES &&
		           got <= (ssize_t)VMB_MSG_MAX_BYTES);
	}
}

static void
peer_leaves(struct world *world, uint32_t how)
{
	if (world->peer < 0)
		return;
	if (how < 2) {
		(void)shutdown(world->peer, how == 0 ? SHUT_WR : SHUT_RD);
		return;
	}
	close(world->peer);
	world->peer = -1;
}

static void
post(struct world *world, struct fuzz *fuzz)
{
	uint32_t times = 1 + fuzz_u8(fuzz) % 48;
	uint8_t message[300];
	uint32_t bytes = make_message(fuzz, message);
	enum vmb_status st;

	for (; times != 0; times--) {
		st = vmb_port_post(world->port, 0, message, bytes);
		FUZZ_CHECK((st == VMB_E_INVALID) ==
		           (bytes < VMB_MSG_HEADER_BYTES || bytes > VMB_MSG_MAX_BYTES));
	}
}

static void
doorbell(struct world *world, struct fuzz *fuzz)
{
	uint32_t what = fuzz_below(fuzz, 6), slot = fuzz_below(fuzz, 4);
	uint32_t channel_id = what == 5 ? 5000 + slot : slot;
	struct vmb_doorbell *bell = &world->bells[slot];
	struct vmb_doorbell made;

	switch (what) {
	case 0:
	case 5:
		if (vmb_port_doorbell_open(world->port, channel_id, &made) == VMB_OK)
			*bell = made;
		break;
	case 1:
		vmb_port_doorbell_close(world->port, channel_id);
		bell->wait_fd = -1;
		break;
	case 2:
		vmb_port_doorbell_keep(world->port, channel_id);
		if (world->is_host)
			bell->wait_fd = -1;
		break;
	case 3:
		if (bell->wait_fd >= 0)
			(void)vmb_port_ring(world->port, bell);
		break;
	default:
		/* Its place is taken; what it was is not ours to use. */
		if (vmb_unix_doorbell_open_with(
			world->port, slot + fuzz_below(fuzz, 2) * 5000, kinds[K_EVENT],
			fuzz_below(fuzz, 2) != 0 ? -1 : kinds[K_EVENT_2]) == VMB_OK)
			bell->wait_fd = -1;
		break;
	}
}

static void
step(struct world *world, struct fuzz *fuzz)
{
	static const int errors[] = { EINTR,  EAGAIN,  ECONNRESET, EPIPE,        EIO,
		                      ENOMEM, ENOBUFS, EMFILE,     ETOOMANYREFS, ENOTCONN };
	uint32_t failing = fuzz_u8(fuzz), error = fuzz_u8(fuzz), what = fuzz_below(fuzz, 12);

	if (failing >= 0x80) {
		system_error = errors[error % (sizeof(errors) / sizeof(errors[0]))];
		system_left = 1 + (failing & 15);
	}
	fuzz_memory_left = (failing & 0xE0) == 0x60 ? 1 + (failing & 3) : 0;
	if ((failing & 0xE0) == 0x40)
		limit_fds(failing & 3);
	switch (what) {
	case 0:
	case 1:
	case 2:
		peer_sends(world, fuzz);
		break;
	case 3:
		peer_reads(world, fuzz_u8(fuzz));
		break;
	case 4:
		peer_leaves(world, fuzz_below(fuzz, 4));
		break;
	case 5:
		post(world, fuzz);
		break;
	case 6:
		doorbell(world, fuzz);
		break;
	case 7:
		clock_ns += fuzz_u16(fuzz) * 1000000ull;
		break;
	case 8:
		vmb_port_cut(world->port, VMB_E_ACCESS, "the owner has had enough");
		break;
	case 9:
		FUZZ_CHECK(world->is_host || vmb_port_memory(world->port) == world->memory);
		FUZZ_CHECK(vmb_port_poll_fd(world->port) >= 0);
		break;
	default:
		vmb_port_poll(world->port);
		break;
	}
	system_left = 0;
	fuzz_memory_left = 0;
	limit_fds(FDS_WATCHED);
}

/* False if the input has no port for us. */
static bool
begin(struct world *world, struct fuzz *fuzz)
{
	static const int buffer = 1; /* the least there is: a few messages */
	uint32_t shape = fuzz_u8(fuzz), failing = fuzz_u8(fuzz);
	struct vmb_unix_limits limits = { .memory_bytes = RAM_LIMIT };
	struct vmb_port_handler handler = { on_message, on_closed, world };
	int pair[2];
	enum vmb_status st;

	world->is_host = (shape & 1) == 0;
	for (uint32_t i = 0; i < 4; i++)
		world->bells[i].wait_fd = -1;
	if ((shape & 2) != 0) {
		limits.queue_messages = 20;
		limits.channels = 2;
		limits.messages_per_second = 2;
	}
	if ((shape & 8) != 0) {
		limits.queue_messages = 8;
		limits.stall_ms = 100;
	}
	if ((shape & 4) != 0)
		limits.messages_per_second = UINT32_MAX;
	FUZZ_CHECK(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) ==
	           0);
	FUZZ_CHECK(setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &buffer, sizeof(buffer)) == 0);
	world->peer = pair[1];
	if (failing >= 0x80) {
		system_error = EMFILE;
		system_left = 1 + (failing & 15);
	}
	if (!world->is_host)
		FUZZ_CHECK(vmb_mem_create(&world->memory) == VMB_OK);
	fuzz_memory_left = failing == 1 ? 1 : 0;
	st = unix_port_create(pair[0], world->is_host, (shape & 16) != 0 ? NULL : &limits,
	                      world->memory, world->is_host ? -1 : kinds[K_RAM], &world->port);
	system_left = 0;
	fuzz_memory_left = 0;
	if (st != VMB_OK)
		return false;
	vmb_port_set_handler(world->port, &handler);
	return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
	struct fuzz fuzz = { bytes, count };
	struct fuzz first = fuzz_record(&fuzz);
	struct world world = { 0 };
	unsigned before;

	if (kinds[0] == 0)
		make_kinds();
	clock_ns = 1000000000;
	before = open_count();
	if (begin(&world, &first)) {
		while (fuzz.left != 0) {
			struct fuzz record = fuzz_record(&fuzz);

			step(&world, &record);
		}
		vmb_port_cut(world.port, VMB_E_CLOSED, "the story is over");
		vmb_port_poll(world.port);
		FUZZ_CHECK(world.is_closed);
		vmb_port_destroy(world.port);
	}
	if (world.peer >= 0)
		close(world.peer);
	vmb_mem_unref(world.memory);
	FUZZ_CHECK(open_count() == before);
	return 0;
}
