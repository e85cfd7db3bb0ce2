/* SPDX-License-Identifier: MIT */
/* A uio port over a sysfs that is a folder, and a device that is a few pages and two counters. */
#ifndef T_UIO_RIG_H
#define T_UIO_RIG_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "port_fixture.h"
#include "uio_refuse.h"
#include "uio_tree.h"
#include "vmb/ring.h"

#define ECHO "3c0f6b7d-5e1a-4b29-8d64-0fa27c19e533"
#define DISK "ba6163d9-04a1-4d29-b605-72e2ffb1dc7f"
#define ONE "11111111-2222-3333-4444-555555555501"
#define TWO "11111111-2222-3333-4444-555555555502"
#define VERSION 0x00060000u
#define RING_BYTES 65536u
#define NOT_SUPPORTED 0xC00000BBu

/* ---- a device in the place of the kernel's ------------------------------------------------------------ */

struct t_device {
	uint8_t *rings;
	uint32_t *int_page, *monitor_page;
	uint32_t opens, closes, kicks;
	int mapped;                     /* pages of it that somebody has */
	int fail_open;                  /* errno */
	uint32_t fail_map;              /* this index + 1 */
	bool dead;                      /* kicks fail */
	char path[128];
	bool closed_while_mapped;
};

static inline int
device_open(void *ctx, const char *path, void **own)
{
	struct t_device *d = ctx;

	snprintf(d->path, sizeof(d->path), "%s", path);
	if (d->fail_open != 0) {
		errno = d->fail_open;
		return -1;
	}
	__atomic_fetch_add(&d->opens, 1, __ATOMIC_SEQ_CST);
	*own = d;
	return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static inline void *
device_map(void *ctx, const struct uio_open *open, uint32_t index, size_t bytes)
{
	struct t_device *d = ctx;
	void *pages[] = { d->int_page, d->rings, d->monitor_page };

	if (open->own != d || index > 2 || d->fail_map == index + 1 ||
	    bytes != (index == 1 ? RING_BYTES : 4096u)) {
		errno = EINVAL;
		return NULL;
	}
	d->mapped++;
	return pages[index];
}

static inline int
device_kick(void *ctx, const struct uio_open *open)
{
	struct t_device *d = ctx;

	(void)open;
	if (__atomic_load_n(&d->dead, __ATOMIC_SEQ_CST)) {
		errno = EIO;
		return -1;
	}
	__atomic_fetch_add(&d->kicks, 1, __ATOMIC_SEQ_CST);
	return 0;
}

static inline void
device_unmap(void *ctx, void *at, size_t bytes)
{
	struct t_device *d = ctx;

	(void)at;
	(void)bytes;
	d->mapped--;
}

static inline void
device_close(void *ctx, const struct uio_open *open)
{
	struct t_device *d = ctx;

	d->closed_while_mapped |= d->mapped != 0;
	close(open->fd);
	__atomic_fetch_add(&d->closes, 1, __ATOMIC_SEQ_CST);
}

/* ---- a port and its tree ------------------------------------------------------------------------------ */

struct t_uio {
	unsigned fds_before;
	struct t_tree tree;
	struct t_device device;
	struct uio_ops ops;
	struct vmb_arena *arena;
	struct t_end end;
	uint32_t rescan_ms;
	uint32_t next_open;
	uint32_t seen;                  /* messages that the test has looked at */
};

static inline void
t_uio_connect(struct t_uio *u, const struct vmb_guid *which, bool unbound)
{
	const struct vmb_uio_options options = {
		.sys_root = u->tree.sys,
		.dev_root = u->tree.dev,
		.which = which,
		.unbound = unbound,
		.rescan_ms = u->rescan_ms,
	};
	char reason[VMB_PORT_WHY_BYTES];
	struct vmb_port *port;

	assert_int_equal(uio_connect(&options, &u->ops, u->arena, &port, reason), VMB_OK);
	t_end_init(&u->end, port);
}

static inline struct t_uio *
t_uio_make(void)
{
	struct t_uio *u = calloc(1, sizeof(*u));

	assert_non_null(u);
	t_refuse(0, 0, 0); /* a test that failed may have left something */
	u->rescan_ms = 5;
	u->fds_before = t_fd_count();
	t_tree_make(&u->tree, true);
	assert_int_equal(vmb_arena_create(T_ARENA_BYTES, &u->arena), VMB_OK);
	u->device.rings = calloc(1, RING_BYTES);
	u->device.int_page = calloc(1, 4096);
	u->device.monitor_page = calloc(1, 4096);
	u->ops = (struct uio_ops){ device_open, device_map, device_kick, device_unmap, device_close, &u->device };
	return u;
}

static inline void
t_uio_free(struct t_uio *u)
{
	if (u->end.port != NULL)
		t_end_fini(&u->end);
	assert_int_equal(u->device.opens, u->device.closes);
	assert_false(u->device.closed_while_mapped);
	assert_int_equal(u->device.mapped, 0);
	vmb_arena_destroy(u->arena);
	free(u->device.rings);
	free(u->device.int_page);
	free(u->device.monitor_page);
	t_tree_remove(&u->tree);
	assert_int_equal(t_fd_count(), u->fds_before);
	free(u);
}

static inline void
send(struct t_uio *u, const struct vmb_msg *msg)
{
	uint8_t bytes[VMB_MSG_MAX_BYTES];
	const size_t count = vmb_msg_encode(msg, VERSION, 0, bytes);

	assert_true(count != 0);
	assert_int_equal(vmb_port_post(u->end.port, 1, bytes, (uint32_t)count), VMB_OK);
}

/* The next message, as our bus machine would read it. */
static inline struct vmb_msg
next(struct t_uio *u)
{
	const struct t_message *at = &u->end.log[u->seen];
	struct vmb_msg msg;
	const char *why = "";

	while (u->end.messages <= u->seen) {
		struct pollfd fd = { .fd = vmb_port_poll_fd(u->end.port), .events = POLLIN };

		assert_int_equal(u->end.closed_calls, 0);
		assert_int_equal(poll(&fd, 1, T_WAIT_MS), 1);
		vmb_port_poll(u->end.port);
	}
	u->seen++;
	assert_int_equal(vmb_msg_decode(at->data, at->bytes, VMB_FROM_HOST, VERSION, 0, &msg, &why), VMB_OK);
	return msg;
}

static inline void
contact(struct t_uio *u)
{
	struct vmb_msg msg = { .type = VMB_MSG_INITIATE_CONTACT, .initiate_contact = { .version = VERSION } };

	send(u, &msg);
	msg = next(u);
	assert_int_equal(msg.type, VMB_MSG_VERSION_RESPONSE);
	assert_true(msg.version_response.supported);
	assert_int_equal(msg.version_response.connection_state, 0);
	assert_int_equal(msg.version_response.feature_flags, 0);
	assert_int_equal(msg.version_response.version_or_connection_id, VMB_CONNECTION_ID_MULTI_CLIENT);
}

static inline void
request_offers(struct t_uio *u)
{
	send(u, &(struct vmb_msg){ .type = VMB_MSG_REQUEST_OFFERS });
}

static inline void
expect_type(struct t_uio *u, enum vmb_msg_type type)
{
	assert_int_equal(next(u).type, type);
}

static inline void
start(struct t_uio *u, uint32_t offers)
{
	t_uio_connect(u, NULL, false);
	contact(u);
	request_offers(u);
	for (uint32_t i = 0; i < offers; i++)
		expect_type(u, VMB_MSG_OFFER_CHANNEL);
	expect_type(u, VMB_MSG_ALL_OFFERS_DELIVERED);
}

static inline void
send_channel(struct t_uio *u, enum vmb_msg_type type, uint32_t channel_id)
{
	send(u, &(struct vmb_msg){ .type = type, .channel = { channel_id } });
}

static inline uint32_t
open_channel(struct t_uio *u, uint32_t channel_id)
{
	struct vmb_msg msg = { .type = VMB_MSG_OPEN_CHANNEL,
		               .open = { .channel_id = channel_id, .open_id = ++u->next_open } };

	send(u, &msg);
	msg = next(u);
	assert_int_equal(msg.type, VMB_MSG_OPEN_RESULT);
	assert_int_equal(msg.open_result.channel_id, channel_id);
	assert_int_equal(msg.open_result.open_id, u->next_open);
	return msg.open_result.status;
}

static inline void
expect_rescind(struct t_uio *u, uint32_t channel_id)
{
	const struct vmb_msg msg = next(u);

	assert_int_equal(msg.type, VMB_MSG_RESCIND_OFFER);
	assert_int_equal(msg.channel.channel_id, channel_id);
}

static inline void
wait_for(const uint32_t *counter, uint32_t value)
{
	for (int i = 0; i < T_WAIT_MS && __atomic_load_n(counter, __ATOMIC_SEQ_CST) != value; i++)
		poll(NULL, 0, 1);
	assert_int_equal(__atomic_load_n(counter, __ATOMIC_SEQ_CST), value);
}

static __attribute__((unused)) const struct t_tree_device echo_one = { ECHO, ONE, 4, 0, NULL, -1, RING_BYTES };
static __attribute__((unused)) const struct t_tree_device disk_two = { DISK, TWO, 9, 1, NULL, -1, RING_BYTES };

#endif
