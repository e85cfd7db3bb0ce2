/* SPDX-License-Identifier: MIT */
/*
 * Fuzzer of what one process gives another: the saved form of a host's bus machine, and a unix
 * port in a parcel with its descriptors. The input is such bytes. Checksums are made right
 * before they are read, or nothing would get past them; one bit of the input leaves them wrong.
 * Whatever was accepted saves to bytes that are accepted again, ends like any other, and leaves
 * neither memory nor descriptors behind.
 */
#include "fuzz.h"
#include "fuzz_memory.h"
#include "bus/server_save.h"
#include "port/fds.h"
#include "port/parcel.h"
#include "vmb/port.h"

#include <fcntl.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FDS_WATCHED 128
#define MOST_FDS 24u

/* Times are saved as distances from now: let it be always the same. */
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
int
__wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
	(void)clock;
	*now = (struct timespec){ .tv_sec = 1000 };
	return 0;
}

/* As a forger would: each header says what is there. */
static void
correct(uint8_t *bytes, size_t count, const struct vmb_chunk_format *format)
{
	while (count >= VMB_CHUNK_HEADER_BYTES) {
		uint32_t length, crc;

		memcpy(bytes, &format->magic, 4);
		memcpy(bytes + 4, &format->version, 2);
		memcpy(&length, bytes + 8, 4);
		if (length > count - VMB_CHUNK_HEADER_BYTES)
			length = (uint32_t)(count - VMB_CHUNK_HEADER_BYTES);
		memcpy(bytes + 8, &length, 4);
		crc = vmb_crc32(0, bytes, 12);
		crc = vmb_crc32(crc, bytes + VMB_CHUNK_HEADER_BYTES, length);
		memcpy(bytes + 12, &crc, 4);
		bytes += VMB_CHUNK_HEADER_BYTES + length;
		count -= VMB_CHUNK_HEADER_BYTES + length;
	}
}

/* ---- a bus machine --------------------------------------------------------------------------- */

struct machine {
	struct vmb_bus_server *bus;
	uint32_t closing[VMB_CHANNEL_ID_MAX]; /* ids */
	uint32_t closing_count;
	uint32_t ids[VMB_CHANNEL_ID_MAX + 1]; /* cookies point here */
};

static void
on_post(void *ctx, const void *message, uint32_t bytes)
{
	(void)ctx;
	(void)message;
	FUZZ_CHECK(bytes >= VMB_MSG_HEADER_BYTES && bytes <= VMB_MSG_MAX_BYTES);
}

static void
on_connected(void *ctx, uint32_t version, uint32_t features)
{
	(void)ctx;
	(void)version;
	(void)features;
}

static void
on_disconnected(void *ctx)
{
	(void)ctx;
}

static bool
on_pages_exist(void *ctx, const struct vmb_gpa_range *range)
{
	(void)ctx;
	for (uint32_t i = 0; i < range->page_count; i++) {
		if (vmb_gpa_pfn(range, i) >= 1000)
			return false;
	}
	return true;
}

static void
on_open(void *ctx, void *cookie, const struct vmb_bus_open *open)
{
	(void)ctx;
	(void)cookie;
	(void)open;
	FUZZ_CHECK(false); /* nobody asks */
}

static void
on_close(void *ctx, void *cookie)
{
	struct machine *machine = ctx;

	machine->closing[machine->closing_count++] = *(const uint32_t *)cookie;
}

static void
on_released(void *ctx, void *cookie)
{
	(void)ctx;
	(void)cookie;
}

static void
on_misbehaved(void *ctx, const char *what)
{
	(void)ctx;
	(void)what;
}

static const struct vmb_bus_server_ops ops = {
	.post = on_post,
	.connected = on_connected,
	.disconnected = on_disconnected,
	.pages_exist = on_pages_exist,
	.open = on_open,
	.close = on_close,
	.released = on_released,
	.misbehaved = on_misbehaved,
};

/* The same once more, from what it saves. */
static void
save_again(const struct vmb_bus_server_config *config, struct machine *machine)
{
	size_t size, same;
	struct vmb_bus_server *again;
	uint8_t *bytes;

	FUZZ_CHECK(vmb_bus_server_save(machine->bus, NULL, 0, &size) == VMB_E_TOO_BIG);
	bytes = malloc(size);
	FUZZ_CHECK(vmb_bus_server_save(machine->bus, bytes, size, &same) == VMB_OK && same == size);
	FUZZ_CHECK(vmb_bus_server_load(config, &ops, machine, bytes, size, &again) == VMB_OK);
	vmb_bus_server_destroy(again);
	free(bytes);
}

/* The guest leaves, and every device lets go. */
static void
finish(struct machine *machine)
{
	struct vmb_bus_channel channel = { 0 };
	struct vmb_gpadl_usage usage;

	while (vmb_bus_server_next_channel(machine->bus, channel.channel_id, &channel) == VMB_OK) {
		uint32_t id = channel.channel_id;

		FUZZ_CHECK(!channel.is_open ||
		           (channel.open.ring_pages >= 4 && channel.open.ring_pfns != NULL));
		machine->ids[id] = id;
		FUZZ_CHECK(vmb_bus_server_set_cookie(machine->bus, id, &machine->ids[id]) ==
		           VMB_OK);
	}
	vmb_bus_server_lost(machine->bus);
	for (uint32_t i = 0; i < machine->closing_count; i++)
		FUZZ_CHECK(vmb_bus_server_close_done(machine->bus, machine->closing[i]) == VMB_OK);
	FUZZ_CHECK(machine->bus->link == SERVER_DISCONNECTED);
	vmb_gpadl_get_usage(machine->bus->gpadls, &usage);
	FUZZ_CHECK(usage.gpadls == 0 && usage.in_progress == 0 && usage.pages == 0);
	vmb_bus_server_destroy(machine->bus);
}

static void
load_machine(struct fuzz *fuzz, const uint8_t *bytes, size_t count)
{
	uint32_t shape = fuzz_u8(fuzz);
	struct vmb_bus_server_config config = {
		.features = (shape & 1) != 0 ? 0 : VMB_BUS_SERVER_FEATURES,
		.newest_version = (shape & 2) != 0 ? VMB_VERSION_WIN10 : 0,
		.monitors = (shape & 4) != 0,
		.max_gpadls = (shape & 8) != 0 ? 2 : 0,
		.max_gpadls_in_progress = (shape & 8) != 0 ? 1 : 0,
		.max_gpadl_pages = (shape & 16) != 0 ? 20 : 0,
	};
	struct machine *machine = calloc(1, sizeof(*machine));
	enum vmb_status st;

	fuzz_memory_left = shape >> 5;
	st = vmb_bus_server_load(&config, &ops, machine, bytes, count, &machine->bus);
	fuzz_memory_left = 0;
	if (st == VMB_OK) {
		save_again(&config, machine);
		finish(machine);
	}
	free(machine);
}

/* ---- a port ---------------------------------------------------------------------------------- */

enum {
	K_CONNECTION,
	K_RAM,
	K_EVENT,
	K_EVENT_2,
	K_STREAM,
	K_UNCONNECTED,
	K_UNSEALED,
	K_NULL,
	KINDS
};

static int
make_fd(uint32_t kind)
{
	int fd, pair[2];

	switch (kind) {
	case K_CONNECTION:
	case K_STREAM:
		FUZZ_CHECK(socketpair(AF_UNIX, kind == K_STREAM ? SOCK_STREAM : SOCK_SEQPACKET, 0,
		                      pair) == 0);
		close(pair[1]);
		return pair[0];
	case K_RAM:
	case K_UNSEALED:
		fd = memfd_create("ram", MFD_CLOEXEC | MFD_ALLOW_SEALING);
		FUZZ_CHECK(fd >= 0 && ftruncate(fd, 8192) == 0 &&
		           (kind == K_UNSEALED || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0));
		return fd;
	case K_UNCONNECTED:
		fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
		FUZZ_CHECK(fd >= 0);
		return fd;
	case K_NULL:
		return fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	default:
		return eventfd(0, EFD_NONBLOCK);
	}
}

static unsigned
open_count(void)
{
	unsigned count = 0;

	for (int fd = 0; fd < FDS_WATCHED; fd++)
		count += fcntl(fd, F_GETFD) >= 0;
	return count;
}

/* One that was accepted is saved, and loaded from that. */
static void
port_again(struct vmb_port *port, uint32_t memory, bool cut)
{
	struct vmb_parcel parcel, again, owned;
	struct vmb_port *next;
	struct vmb_doorbell doorbell;

	vmb_parcel_init(&parcel, false);
	/* One that is in use is saved as one that was brought is. */
	VMB_IGNORE(vmb_port_doorbell_open(port, 1, &doorbell));
	if (cut)
		vmb_port_cut(port, VMB_E_ACCESS, "the owner has had enough");
	fuzz_memory_left = memory;
	if (vmb_port_save(port, &parcel) != VMB_OK) {
		FUZZ_CHECK(memory != 0 || cut);
		fuzz_memory_left = 0;
		vmb_parcel_fini(&parcel);
		return;
	}
	fuzz_memory_left = 0;
	/* What the other process gets: the same files. */
	vmb_parcel_init(&owned, true);
	for (uint32_t i = 0; i < parcel.fd_count; i++)
		FUZZ_CHECK(vmb_parcel_add_fd(&owned, fcntl(parcel.fds[i], F_DUPFD_CLOEXEC, 0)) ==
		           VMB_OK);
	owned.reader =
	    (struct vmb_chunk_reader){ .bytes = parcel.bytes, .left = parcel.byte_count };
	FUZZ_CHECK(vmb_port_load(&owned, &next) == VMB_OK && vmb_parcel_is_empty(&owned));
	vmb_parcel_init(&again, false);
	FUZZ_CHECK(vmb_port_save(next, &again) == VMB_OK && again.byte_count == parcel.byte_count &&
	           memcmp(again.bytes, parcel.bytes, parcel.byte_count) == 0);
	vmb_parcel_fini(&again);
	vmb_parcel_fini(&owned);
	vmb_parcel_fini(&parcel);
	vmb_port_destroy(next);
}

static void
load_port(struct fuzz *fuzz, uint8_t *bytes, size_t count)
{
	uint32_t shape = fuzz_u8(fuzz), fds = fuzz_u8(fuzz) % (MOST_FDS + 1);
	struct vmb_parcel parcel;
	struct vmb_port *port;
	uint8_t *room;

	vmb_parcel_init(&parcel, true);
	for (uint32_t i = 0; i < fds; i++)
		FUZZ_CHECK(vmb_parcel_add_fd(&parcel, make_fd(fuzz->left != 0
		                                                  ? fuzz_below(fuzz, KINDS)
		                                                  : (uint32_t)K_EVENT)) == VMB_OK);
	for (uint32_t times = 0; times < 2; times++) {
		room = vmb_parcel_add_room(&parcel, count);
		if (count != 0)
			memcpy(room, bytes, count);
	}
	/* Past its end the container has room that is nobody's: read where the bytes end exactly. */
	parcel.reader = (struct vmb_chunk_reader){ .bytes = bytes, .left = count };
	if ((shape & 64) != 0) { /* its reader wants something else first */
		struct vmb_chunk chunk;

		VMB_IGNORE(vmb_parcel_next(&parcel, VMB_PARCEL_GUEST, &chunk));
	}
	fuzz_memory_left = shape & 7;
	if (vmb_port_load(&parcel, &port) == VMB_OK) {
		fuzz_memory_left = 0;
		port_again(port, shape >> 3 & 3, (shape & 32) != 0);
		vmb_port_destroy(port);
	}
	fuzz_memory_left = 0;
	(void)vmb_parcel_is_empty(&parcel);
	vmb_parcel_fini(&parcel);
}

int
LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t count)
{
	struct fuzz fuzz = { bytes, count };
	uint8_t how = fuzz_u8(&fuzz), head[16];
	struct fuzz first = { head, sizeof(head) };
	unsigned before = open_count();
	uint8_t *copy;

	fuzz_bytes(&fuzz, head, sizeof(head));
	count = fuzz.left;
	copy = malloc(count); /* of exactly this size */
	fuzz_bytes(&fuzz, copy, count);
	if ((how & 1) == 0)
		correct(copy, count, (how & 2) == 0 ? &server_chunk_format : &vmb_parcel_format);
	if ((how & 2) == 0)
		load_machine(&first, copy, count);
	else
		load_port(&first, copy, count);
	free(copy);
	FUZZ_CHECK(open_count() == before);
	return 0;
}
