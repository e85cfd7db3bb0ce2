/* SPDX-License-Identifier: MIT */
/*
 * The uio port (src/port/uio_port.c, uio_device.c): what it answers, what it offers as devices come and go, and what it does with a device. sysfs is
 * a folder, and a device is a few pages and two counters.
 */
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

static int
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

static void *
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

static int
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

static void
device_unmap(void *ctx, void *at, size_t bytes)
{
	struct t_device *d = ctx;

	(void)at;
	(void)bytes;
	d->mapped--;
}

static void
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

static void
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

static struct t_uio *
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

static void
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

static void
send(struct t_uio *u, const struct vmb_msg *msg)
{
	uint8_t bytes[VMB_MSG_MAX_BYTES];
	const size_t count = vmb_msg_encode(msg, VERSION, 0, bytes);

	assert_true(count != 0);
	assert_int_equal(vmb_port_post(u->end.port, 1, bytes, (uint32_t)count), VMB_OK);
}

/* The next message, as our bus machine would read it. */
static struct vmb_msg
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

static void
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

static void
request_offers(struct t_uio *u)
{
	send(u, &(struct vmb_msg){ .type = VMB_MSG_REQUEST_OFFERS });
}

static void
expect_type(struct t_uio *u, enum vmb_msg_type type)
{
	assert_int_equal(next(u).type, type);
}

static void
start(struct t_uio *u, uint32_t offers)
{
	t_uio_connect(u, NULL, false);
	contact(u);
	request_offers(u);
	for (uint32_t i = 0; i < offers; i++)
		expect_type(u, VMB_MSG_OFFER_CHANNEL);
	expect_type(u, VMB_MSG_ALL_OFFERS_DELIVERED);
}

static void
send_channel(struct t_uio *u, enum vmb_msg_type type, uint32_t channel_id)
{
	send(u, &(struct vmb_msg){ .type = type, .channel = { channel_id } });
}

static uint32_t
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

static void
wait_for(const uint32_t *counter, uint32_t value)
{
	for (int i = 0; i < T_WAIT_MS && __atomic_load_n(counter, __ATOMIC_SEQ_CST) != value; i++)
		poll(NULL, 0, 1);
	assert_int_equal(__atomic_load_n(counter, __ATOMIC_SEQ_CST), value);
}

static const struct t_tree_device echo_one = { ECHO, ONE, 4, 0, NULL, -1, RING_BYTES };
static const struct t_tree_device disk_two = { DISK, TWO, 9, 1, NULL, -1, RING_BYTES };

/* ---- offers ------------------------------------------------------------------------------------------- */

static void
devices_are_offered(void **state)
{
	struct t_uio *u = t_uio_make();
	struct vmb_guid type, instance;
	struct vmb_msg msg;

	(void)state;
	assert_true(uio_guid_parse(DISK, &type));
	assert_true(uio_guid_parse(TWO, &instance));
	t_tree_add(&u->tree, &disk_two);
	t_tree_add(&u->tree, &echo_one);
	/* Another driver's is none of ours. */
	t_tree_add(&u->tree, &(struct t_tree_device){ ECHO, "11111111-2222-3333-4444-555555555503", 5, -1,
	                                              "hv_storvsc", -1, 0 });
	t_uio_connect(u, NULL, false);
	contact(u);
	request_offers(u);
	msg = next(u);
	assert_int_equal(msg.type, VMB_MSG_OFFER_CHANNEL);
	assert_int_equal(msg.offer.channel_id, 4);
	msg = next(u);
	assert_int_equal(msg.type, VMB_MSG_OFFER_CHANNEL);
	assert_int_equal(msg.offer.channel_id, 9);
	assert_memory_equal(&msg.offer.interface_type, &type, 16);
	assert_memory_equal(&msg.offer.interface_instance, &instance, 16);
	assert_int_equal(msg.offer.subchannel_index, 0);
	assert_false(msg.offer.monitor_allocated);
	assert_true(msg.offer.is_dedicated);
	expect_type(u, VMB_MSG_ALL_OFFERS_DELIVERED);
	t_uio_free(u);
}

static void
only_what_was_asked_for_is_offered(void **state)
{
	struct t_uio *u = t_uio_make();
	struct vmb_guid type;
	struct vmb_msg msg;

	(void)state;
	assert_true(uio_guid_parse(DISK, &type));
	t_tree_add(&u->tree, &disk_two);
	t_tree_add(&u->tree, &echo_one);
	t_uio_connect(u, &type, false);
	contact(u);
	request_offers(u);
	msg = next(u);
	assert_int_equal(msg.type, VMB_MSG_OFFER_CHANNEL);
	assert_int_equal(msg.offer.channel_id, 9);
	expect_type(u, VMB_MSG_ALL_OFFERS_DELIVERED);
	t_uio_free(u);
}

static void
devices_that_come_are_offered_and_those_that_go_rescinded(void **state)
{
	struct t_uio *u = t_uio_make();
	struct vmb_msg msg;

	(void)state;
	t_tree_add(&u->tree, &echo_one);
	start(u, 1);
	t_tree_add(&u->tree, &disk_two);
	msg = next(u);
	assert_int_equal(msg.type, VMB_MSG_OFFER_CHANNEL);
	assert_int_equal(msg.offer.channel_id, 9);
	t_tree_take(&u->tree, ONE);
	msg = next(u);
	assert_int_equal(msg.type, VMB_MSG_RESCIND_OFFER);
	assert_int_equal(msg.channel.channel_id, 4);
	t_uio_free(u);
}

static void
id_is_not_offered_again_before_it_was_released(void **state)
{
	struct t_uio *u = t_uio_make();
	struct vmb_msg msg;

	(void)state;
	t_tree_add(&u->tree, &echo_one);
	start(u, 1);
	t_tree_take(&u->tree, ONE);
	expect_type(u, VMB_MSG_RESCIND_OFFER);
	/* Another device with the same id, and then one whose offer shows that it was seen. */
	t_tree_add(&u->tree, &(struct t_tree_device){ DISK, TWO, 4, 3, NULL, -1, RING_BYTES });
	t_tree_add(&u->tree, &(struct t_tree_device){ ECHO, ONE, 7, 4, NULL, -1, RING_BYTES });
	msg = next(u);
	assert_int_equal(msg.type, VMB_MSG_OFFER_CHANNEL);
	assert_int_equal(msg.offer.channel_id, 7);
	send_channel(u, VMB_MSG_REL_ID_RELEASED, 4);
	msg = next(u);
	assert_int_equal(msg.type, VMB_MSG_OFFER_CHANNEL);
	assert_int_equal(msg.offer.channel_id, 4);
	t_uio_free(u);
}

static void
device_that_changes_hands_is_another_one(void **state)
{
	struct t_uio *u = t_uio_make();
	struct vmb_msg msg;

	(void)state;
	t_tree_add(&u->tree, &echo_one);
	t_uio_connect(u, NULL, true);
	contact(u);
	request_offers(u);
	expect_type(u, VMB_MSG_OFFER_CHANNEL);
	expect_type(u, VMB_MSG_ALL_OFFERS_DELIVERED);
	/* Unbound and bound again, as another number. */
	t_tree_take(&u->tree, ONE);
	t_tree_add(&u->tree, &(struct t_tree_device){ ECHO, ONE, 4, 5, NULL, -1, RING_BYTES });
	msg = next(u);
	assert_int_equal(msg.type, VMB_MSG_RESCIND_OFFER);
	send_channel(u, VMB_MSG_REL_ID_RELEASED, 4);
	expect_type(u, VMB_MSG_OFFER_CHANNEL);
	t_uio_free(u);
}

static const int shortages[] = { EMFILE, ENFILE, ENOMEM };

static void
wait_refused(uint32_t count)
{
	for (int i = 0; i < T_WAIT_MS && t_refused() < count; i++)
		poll(NULL, 0, 1);
	assert_true(t_refused() >= count);
}

static void
expect_nothing(struct t_uio *u)
{
	t_run_idle(&u->end);
	assert_int_equal(u->end.messages, u->seen);
}

static void
nothing_is_rescinded_for_lack_of_descriptors_or_memory(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(shortages) / sizeof(shortages[0]); i++) {
		struct t_uio *u = t_uio_make();
		struct vmb_msg msg;

		t_tree_add(&u->tree, &echo_one);
		t_tree_add(&u->tree, &disk_two);
		start(u, 2);
		t_refuse(shortages[i], 1, UINT32_MAX);
		/* The one before the last has come to its end then. */
		wait_refused(3);
		expect_nothing(u);
		/* One thing that a scan needs, and then the next. */
		for (uint32_t nth = 1; nth <= 30; nth++) {
			t_refuse(shortages[i], nth, nth);
			wait_refused(1);
			expect_nothing(u);
		}
		t_refuse(0, 0, 0);
		/* What goes now is told of, and nothing before it. */
		t_tree_take(&u->tree, ONE);
		msg = next(u);
		assert_int_equal(msg.type, VMB_MSG_RESCIND_OFFER);
		assert_int_equal(msg.channel.channel_id, 4);
		t_tree_take(&u->tree, TWO);
		msg = next(u);
		assert_int_equal(msg.type, VMB_MSG_RESCIND_OFFER);
		assert_int_equal(msg.channel.channel_id, 9);
		t_uio_free(u);
	}
}

static void
offers_come_when_the_shortage_ends(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(shortages) / sizeof(shortages[0]); i++) {
		struct t_uio *u = t_uio_make();

		/* As good as only when told, and nobody tells. */
		u->rescan_ms = INT_MAX;
		t_tree_add(&u->tree, &echo_one);
		t_uio_connect(u, NULL, false);
		contact(u);
		t_refuse(shortages[i], 1, UINT32_MAX);
		request_offers(u);
		wait_refused(2);
		t_refuse(0, 0, 0);
		expect_type(u, VMB_MSG_OFFER_CHANNEL);
		expect_type(u, VMB_MSG_ALL_OFFERS_DELIVERED);
		t_uio_free(u);
	}
}

static void
offers_are_complete_whatever_was_refused_once(void **state)
{
	struct t_uio *u = t_uio_make();
	uint32_t nth = 0, refused;

	(void)state;
	u->rescan_ms = INT_MAX;
	t_tree_add(&u->tree, &echo_one);
	t_uio_connect(u, NULL, false);
	do {
		contact(u);
		nth++;
		t_refuse(ENOMEM, nth, nth);
		request_offers(u);
		expect_type(u, VMB_MSG_OFFER_CHANNEL);
		expect_type(u, VMB_MSG_ALL_OFFERS_DELIVERED);
		refused = t_refused();
		t_refuse(0, 0, 0);
	} while (refused != 0);
	assert_true(nth > 10);
	t_uio_free(u);
}

static void
unload_is_answered_and_a_new_contact_starts_afresh(void **state)
{
	struct t_uio *u = t_uio_make();

	(void)state;
	t_tree_add(&u->tree, &echo_one);
	start(u, 1);
	send(u, &(struct vmb_msg){ .type = VMB_MSG_UNLOAD });
	expect_type(u, VMB_MSG_UNLOAD_COMPLETE);
	contact(u);
	request_offers(u);
	/* A second request is one too many. */
	request_offers(u);
	expect_type(u, VMB_MSG_OFFER_CHANNEL);
	expect_type(u, VMB_MSG_ALL_OFFERS_DELIVERED);
	/* Contact alone ends what was before, too. */
	contact(u);
	request_offers(u);
	expect_type(u, VMB_MSG_OFFER_CHANNEL);
	expect_type(u, VMB_MSG_ALL_OFFERS_DELIVERED);
	t_uio_free(u);
}

static void
unknown_version_is_refused(void **state)
{
	struct t_uio *u = t_uio_make();
	uint8_t bytes[40] = { VMB_MSG_INITIATE_CONTACT };
	struct vmb_msg msg;
	const char *why;

	(void)state;
	t_uio_connect(u, NULL, false);
	bytes[8] = 0x77;
	bytes[10] = 7;
	assert_int_equal(vmb_port_post(u->end.port, 1, bytes, sizeof(bytes)), VMB_OK);
	t_run_until_messages(&u->end, 1);
	u->seen = 1;
	assert_int_equal(vmb_msg_decode(u->end.log[0].data, u->end.log[0].bytes, VMB_FROM_HOST, 0x00040000, 0, &msg,
	                                &why),
	                 VMB_OK);
	assert_false(msg.version_response.supported);
	contact(u);
	t_uio_free(u);
}

/* ---- what uio cannot do ------------------------------------------------------------------------------- */

static void
gpadls_are_refused_as_not_supported(void **state)
{
	struct t_uio *u = t_uio_make();
	struct vmb_msg msg = { .type = VMB_MSG_GPADL_HEADER,
		               .gpadl_header = { .channel_id = 4, .gpadl_id = 0xE1E10, .range_bytes = 16,
		                                 .range_count = 1, .qword_count = 2,
		                                 .qwords = { 4096, 7 } } };

	(void)state;
	t_tree_add(&u->tree, &echo_one);
	start(u, 1);
	send(u, &msg);
	msg = next(u);
	assert_int_equal(msg.type, VMB_MSG_GPADL_CREATED);
	assert_int_equal(msg.gpadl.channel_id, 4);
	assert_int_equal(msg.gpadl.gpadl_id, 0xE1E10);
	assert_int_equal(msg.gpadl.status, NOT_SUPPORTED);
	t_uio_free(u);
}

static void
open_with_user_data_is_refused(void **state)
{
	struct t_uio *u = t_uio_make();
	struct vmb_msg msg = { .type = VMB_MSG_OPEN_CHANNEL, .open = { .channel_id = 4, .open_id = 1 } };
	char why[VMB_PORT_WHY_BYTES];
	struct vmb_doorbell bell;

	(void)state;
	t_tree_add(&u->tree, &echo_one);
	start(u, 1);
	assert_int_equal(vmb_port_doorbell_open(u->end.port, 4, &bell), VMB_OK);
	assert_false(vmb_port_why(u->end.port, 4, why));
	msg.open.user_data[119] = 1;
	send(u, &msg);
	msg = next(u);
	assert_int_equal(msg.open_result.status, NOT_SUPPORTED);
	assert_true(vmb_port_why(u->end.port, 4, why));
	assert_non_null(strstr(why, "user data"));
	assert_int_equal(u->device.opens, 0);
	/* And without it works. */
	assert_int_equal(open_channel(u, 4), 0);
	assert_false(vmb_port_why(u->end.port, 4, why));
	t_uio_free(u);
}

static void
device_of_another_driver_is_seen_and_not_opened(void **state)
{
	struct t_uio *u = t_uio_make();
	char why[VMB_PORT_WHY_BYTES];
	struct vmb_doorbell bell;

	(void)state;
	t_tree_add(&u->tree, &(struct t_tree_device){ ECHO, ONE, 4, -1, "hv_storvsc", -1, 0 });
	t_uio_connect(u, NULL, true);
	contact(u);
	request_offers(u);
	expect_type(u, VMB_MSG_OFFER_CHANNEL);
	expect_type(u, VMB_MSG_ALL_OFFERS_DELIVERED);
	assert_int_equal(vmb_port_doorbell_open(u->end.port, 4, &bell), VMB_OK);
	assert_int_not_equal(open_channel(u, 4), 0);
	assert_true(vmb_port_why(u->end.port, 4, why));
	assert_non_null(strstr(why, "uio:bind=" ONE));
	t_uio_free(u);
}

static void
pages_cannot_be_translated_without_a_physical_arena(void **state)
{
	struct t_uio *u = t_uio_make();
	char why[VMB_PORT_WHY_BYTES];
	uint64_t pfn = 1;

	(void)state;
	t_uio_connect(u, NULL, false);
	assert_true(vmb_port_translates(u->end.port));
	assert_false(vmb_port_translate(u->end.port, (uint8_t *)&pfn, 1));
	assert_true(vmb_port_why(u->end.port, 0, why));
	assert_non_null(strstr(why, "KMCL_RAM=physical"));
	t_uio_free(u);
}

/* ---- an open device ----------------------------------------------------------------------------------- */

static void
open_brings_rings_and_signals(void **state)
{
	struct t_uio *u = t_uio_make();
	struct vmb_port_rings rings;
	struct vmb_doorbell bell, again;
	char path[128];

	(void)state;
	t_tree_add(&u->tree, &(struct t_tree_device){ ECHO, ONE, 4, 12, NULL, -1, RING_BYTES });
	start(u, 1);
	assert_true(vmb_port_has_rings(u->end.port));
	assert_int_equal(vmb_port_doorbell_open(u->end.port, 4, &bell), VMB_OK);
	assert_int_equal(vmb_port_doorbell_open(u->end.port, 4, &again), VMB_E_EXISTS);
	assert_int_equal(vmb_port_rings(u->end.port, 4, &rings), VMB_E_NOT_FOUND);
	assert_int_equal(open_channel(u, 4), 0);
	snprintf(path, sizeof(path), "%s/uio12", u->tree.dev);
	assert_string_equal(u->device.path, path);
	assert_int_equal(vmb_port_rings(u->end.port, 4, &rings), VMB_OK);
	assert_ptr_equal(rings.base, u->device.rings);
	assert_int_equal(rings.out_pages, RING_BYTES / 2 / 4096);
	assert_int_equal(rings.in_pages, RING_BYTES / 2 / 4096);
	assert_int_equal(vmb_port_ring(u->end.port, &bell), VMB_OK);
	assert_int_equal(u->device.kicks, 1);
	/* An open channel is not opened twice. */
	assert_int_not_equal(open_channel(u, 4), 0);
	assert_int_equal(u->device.opens, 1);
	/* What the descriptor is now is the device: its signals arrive. */
	assert_false(t_readable(bell.wait_fd));
	assert_int_equal(eventfd_write(bell.wait_fd, 1), 0);
	assert_true(t_readable(bell.wait_fd));
	/* The rings stay when the channel is closed, and go with the doorbell. */
	send_channel(u, VMB_MSG_CLOSE_CHANNEL, 4);
	assert_int_equal(vmb_port_rings(u->end.port, 4, &rings), VMB_OK);
	vmb_port_doorbell_close(u->end.port, 4);
	vmb_port_doorbell_close(u->end.port, 4);
	wait_for(&u->device.closes, 1);
	assert_int_equal(vmb_port_rings(u->end.port, 4, &rings), VMB_E_NOT_FOUND);
	t_uio_free(u);
}

static void
channel_can_be_opened_again_and_again(void **state)
{
	struct t_uio *u = t_uio_make();
	struct vmb_doorbell bell;

	(void)state;
	t_tree_add(&u->tree, &echo_one);
	start(u, 1);
	for (uint32_t i = 0; i < 50; i++) {
		assert_int_equal(vmb_port_doorbell_open(u->end.port, 4, &bell), VMB_OK);
		assert_int_equal(open_channel(u, 4), 0);
		/* Closed before it is opened again, whoever is quick. */
		assert_int_equal(__atomic_load_n(&u->device.closes, __ATOMIC_SEQ_CST), i);
		send_channel(u, VMB_MSG_CLOSE_CHANNEL, 4);
		vmb_port_doorbell_close(u->end.port, 4);
	}
	t_uio_free(u);
}

static void
monitored_device_is_signalled_through_pages(void **state)
{
	struct t_uio *u = t_uio_make();
	struct vmb_doorbell bell;

	(void)state;
	t_tree_add(&u->tree, &(struct t_tree_device){ ECHO, ONE, 70, 0, NULL, 67, RING_BYTES });
	start(u, 1);
	assert_int_equal(vmb_port_doorbell_open(u->end.port, 70, &bell), VMB_OK);
	assert_int_equal(open_channel(u, 70), 0);
	assert_int_equal(u->device.mapped, 3);
	assert_int_equal(vmb_port_ring(u->end.port, &bell), VMB_OK);
	assert_int_equal(u->device.kicks, 0);
	/* Bit 70 of the second half; bit 3 of trigger group 2, whose pending word is at 8 + 2 * 8. */
	assert_int_equal(u->device.int_page[2048 / 4 + 70 / 32], 1u << 70 % 32);
	assert_int_equal(u->device.monitor_page[(8 + 2 * 8) / 4], 1u << 3);
	for (uint32_t i = 0; i < 1024; i++) {
		if (i != 2048 / 4 + 2)
			assert_int_equal(u->device.int_page[i], 0);
		if (i != 6)
			assert_int_equal(u->device.monitor_page[i], 0);
	}
	t_uio_free(u);
}

static void
failures_of_a_device_are_told(void **state)
{
	static const struct {
		int error;
		uint32_t fail_map;
		int monitor;
		unsigned long long ring_bytes;
		const char *words;
	} cases[] = {
		{ EACCES, 0, -1, RING_BYTES, "run as root" }, { EBUSY, 0, -1, RING_BYTES, "another process" },
		{ ENOENT, 0, -1, RING_BYTES, "not there" },   { ENOMEM, 0, -1, RING_BYTES, "uio0" },
		{ 0, 2, -1, RING_BYTES, "mapped" },           { 0, 1, 3, RING_BYTES, "mapped" },
		{ 0, 3, 3, RING_BYTES, "mapped" },            { 0, 0, -1, 4096, "txrx_rings" },
		{ 0, 0, -1, 8192, "txrx_rings" },             { 0, 0, -1, 65536 + 4096, "txrx_rings" },
		{ 0, 0, -1, 1ull << 40, "txrx_rings" },
	};

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct t_uio *u = t_uio_make();
		char why[VMB_PORT_WHY_BYTES];
		struct vmb_doorbell bell;

		u->device.fail_open = cases[i].error;
		u->device.fail_map = cases[i].fail_map;
		t_tree_add(&u->tree, &(struct t_tree_device){ ECHO, ONE, 4, 0, NULL, cases[i].monitor,
		                                              cases[i].ring_bytes });
		start(u, 1);
		assert_int_equal(vmb_port_doorbell_open(u->end.port, 4, &bell), VMB_OK);
		assert_int_not_equal(open_channel(u, 4), 0);
		assert_true(vmb_port_why(u->end.port, 4, why));
		if (strstr(why, cases[i].words) == NULL)
			fail_msg("'%s' does not say '%s'", why, cases[i].words);
		vmb_port_doorbell_close(u->end.port, 4);
		t_uio_free(u);
	}
}

static void
rings_outlive_a_rescind_and_an_unload(void **state)
{
	struct t_uio *u = t_uio_make();
	struct vmb_port_rings rings;
	struct vmb_doorbell bell;

	(void)state;
	t_tree_add(&u->tree, &echo_one);
	start(u, 1);
	assert_int_equal(vmb_port_doorbell_open(u->end.port, 4, &bell), VMB_OK);
	assert_int_equal(open_channel(u, 4), 0);
	t_tree_take(&u->tree, ONE);
	expect_type(u, VMB_MSG_RESCIND_OFFER);
	assert_int_equal(vmb_port_rings(u->end.port, 4, &rings), VMB_OK);
	send_channel(u, VMB_MSG_REL_ID_RELEASED, 4);
	send(u, &(struct vmb_msg){ .type = VMB_MSG_UNLOAD });
	expect_type(u, VMB_MSG_UNLOAD_COMPLETE);
	assert_int_equal(vmb_port_rings(u->end.port, 4, &rings), VMB_OK);
	assert_int_equal(u->device.closes, 0);
	vmb_port_cut(u->end.port, VMB_E_CLOSED, "enough");
	t_run_until_closed(&u->end);
	vmb_port_doorbell_close(u->end.port, 4);
	wait_for(&u->device.closes, 1);
	t_uio_free(u);
}

static void
signal_to_a_dead_device_says_so(void **state)
{
	struct t_uio *u = t_uio_make();
	struct vmb_doorbell bell;

	(void)state;
	t_tree_add(&u->tree, &echo_one);
	start(u, 1);
	assert_int_equal(vmb_port_doorbell_open(u->end.port, 4, &bell), VMB_OK);
	assert_int_equal(open_channel(u, 4), 0);
	__atomic_store_n(&u->device.dead, true, __ATOMIC_SEQ_CST);
	assert_int_equal(vmb_port_ring(u->end.port, &bell), VMB_E_CLOSED);
	t_uio_free(u);
}

/* A descriptor that reports an error is what a device looks like that the kernel has taken away before sysfs shows it. */
static int
hung_up_open(void *ctx, const char *path, void **own)
{
	struct t_device *d = ctx;
	int ends[2];

	(void)path;
	*own = d;
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
		return -1;
	close(ends[1]);
	__atomic_fetch_add(&d->opens, 1, __ATOMIC_SEQ_CST);
	return ends[0];
}

static void
device_that_hangs_up_is_rescinded(void **state)
{
	struct t_uio *u = t_uio_make();
	struct vmb_doorbell bell;

	(void)state;
	u->ops.open = hung_up_open;
	t_tree_add(&u->tree, &echo_one);
	start(u, 1);
	assert_int_equal(vmb_port_doorbell_open(u->end.port, 4, &bell), VMB_OK);
	assert_int_equal(open_channel(u, 4), 0);
	expect_type(u, VMB_MSG_RESCIND_OFFER);
	t_uio_free(u);
}

static void
port_can_be_destroyed_with_open_devices(void **state)
{
	struct t_uio *u = t_uio_make();
	struct vmb_doorbell bells[2];

	(void)state;
	t_tree_add(&u->tree, &echo_one);
	start(u, 1);
	assert_int_equal(vmb_port_doorbell_open(u->end.port, 4, &bells[0]), VMB_OK);
	assert_int_equal(open_channel(u, 4), 0);
	/* One that nobody has heard of, too. */
	assert_int_equal(vmb_port_doorbell_open(u->end.port, 5, &bells[1]), VMB_OK);
	assert_int_not_equal(open_channel(u, 5), 0);
	t_uio_free(u);
}

static void
closed_port_says_so_once(void **state)
{
	struct t_uio *u = t_uio_make();
	uint8_t message[8] = { VMB_MSG_REQUEST_OFFERS };
	struct vmb_doorbell bell;

	(void)state;
	t_uio_connect(u, NULL, false);
	assert_int_equal(vmb_port_post(u->end.port, 1, message, 7), VMB_E_INVALID);
	assert_int_equal(vmb_port_doorbell_open(u->end.port, 0, &bell), VMB_E_INVALID);
	assert_int_equal(vmb_port_doorbell_open(u->end.port, 2048, &bell), VMB_E_INVALID);
	vmb_port_cut(u->end.port, VMB_E_IO, "the test is over");
	vmb_port_cut(u->end.port, VMB_E_TIMEOUT, "too late");
	t_run_until_closed(&u->end);
	t_expect_closed(&u->end, VMB_E_IO, "the test is over");
	assert_int_equal(vmb_port_post(u->end.port, 1, message, 8), VMB_E_CLOSED);
	assert_int_equal(vmb_port_doorbell_open(u->end.port, 4, &bell), VMB_E_CLOSED);
	t_uio_free(u);
}

/* ---- connecting --------------------------------------------------------------------------------------- */

static void
connect_says_what_is_missing(void **state)
{
	struct t_uio *u = t_uio_make();
	struct vmb_uio_options options = { .sys_root = u->tree.sys, .dev_root = u->tree.dev };
	char reason[VMB_PORT_WHY_BYTES];
	struct vmb_port *port;
	struct vmb_guid which;
	struct t_tree bare;

	(void)state;
	assert_true(uio_guid_parse(ECHO, &which));
	options.which = &which;
	assert_int_equal(vmb_uio_connect(&options, u->arena, &port, reason), VMB_E_NOT_FOUND);
	assert_non_null(strstr(reason, "no device"));
	t_tree_add(&u->tree, &(struct t_tree_device){ ECHO, ONE, 4, -1, NULL, -1, 0 });
	assert_int_equal(vmb_uio_connect(&options, u->arena, &port, reason), VMB_E_NOT_FOUND);
	assert_non_null(strstr(reason, "uio:bind="));
	t_tree_make(&bare, false);
	options.sys_root = bare.sys;
	options.which = NULL;
	assert_int_equal(vmb_uio_connect(&options, u->arena, &port, reason), VMB_E_NOT_FOUND);
	assert_non_null(strstr(reason, "modprobe"));
	t_tree_remove(&bare);
	assert_int_equal(vmb_uio_connect(&options, u->arena, &port, reason), VMB_E_NOT_FOUND);
	assert_non_null(strstr(reason, "no VMBus"));
	t_refuse(ENFILE, 1, 1);
	assert_int_equal(vmb_uio_connect(&options, u->arena, &port, reason), VMB_E_IO);
	assert_non_null(strstr(reason, "no descriptors"));
	t_refuse(0, 0, 0);
	t_uio_free(u);
}

static void
addresses_are_read(void **state)
{
	static const char *const wrong[] = { "uio:x", "uio:bind", "uio:bind=", "uio:bind=all", "uio:all " };
	char reason[VMB_PORT_WHY_BYTES], plain[] = "uio:" ECHO, bind[] = "uio:bind=" ECHO;
	struct t_uio *u = t_uio_make();
	struct vmb_port *port;

	(void)state;
	setenv("KMCL_RAM", "ordinary", 1);
	setenv("KMCL_UIO_SYS", u->tree.sys, 1);
	setenv("KMCL_UIO_DEV", u->tree.dev, 1);
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		assert_int_equal(vmb_guest_connect(wrong[i], &port, reason), VMB_E_INVALID);
		assert_non_null(strstr(reason, "uio:GUID"));
	}
	assert_int_equal(vmb_guest_connect("uio:", &port, reason), VMB_OK);
	assert_string_equal(port->ops->name, "uio");
	vmb_port_destroy(port);
	assert_int_equal(vmb_guest_connect("uio:all", &port, reason), VMB_OK);
	vmb_port_destroy(port);
	assert_int_equal(vmb_guest_connect(plain, &port, reason), VMB_E_NOT_FOUND);
	t_tree_add(&u->tree, &(struct t_tree_device){ ECHO, ONE, 4, -1, NULL, -1, 0 });
	/* Files do not bind, so it is still not bound afterwards; but it was asked. */
	assert_int_equal(vmb_guest_connect(bind, &port, reason), VMB_E_NOT_FOUND);
	assert_string_equal(t_tree_read(&u->tree, "bus/vmbus/drivers/" UIO_DRIVER "/bind"), ONE);
	t_tree_take(&u->tree, ONE);
	t_tree_add(&u->tree, &echo_one);
	assert_int_equal(vmb_guest_connect(plain, &port, reason), VMB_OK);
	{
		char why[VMB_PORT_WHY_BYTES];

		assert_true(vmb_port_why(port, 0, why));
		assert_non_null(strstr(why, "KMCL_RAM"));
	}
	vmb_port_destroy(port);
	/* Anything else is a socket. */
	assert_int_equal(vmb_guest_connect("/nowhere/at/all", &port, reason), VMB_E_NOT_FOUND);
	assert_string_equal(reason, "");
	u->fds_before = t_fd_count() - 1; /* the process's arena stays; ours goes below */
	t_uio_free(u);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(devices_are_offered),
		cmocka_unit_test(only_what_was_asked_for_is_offered),
		cmocka_unit_test(devices_that_come_are_offered_and_those_that_go_rescinded),
		cmocka_unit_test(id_is_not_offered_again_before_it_was_released),
		cmocka_unit_test(device_that_changes_hands_is_another_one),
		cmocka_unit_test(nothing_is_rescinded_for_lack_of_descriptors_or_memory),
		cmocka_unit_test(offers_come_when_the_shortage_ends),
		cmocka_unit_test(offers_are_complete_whatever_was_refused_once),
		cmocka_unit_test(unload_is_answered_and_a_new_contact_starts_afresh),
		cmocka_unit_test(unknown_version_is_refused),
		cmocka_unit_test(gpadls_are_refused_as_not_supported),
		cmocka_unit_test(open_with_user_data_is_refused),
		cmocka_unit_test(device_of_another_driver_is_seen_and_not_opened),
		cmocka_unit_test(pages_cannot_be_translated_without_a_physical_arena),
		cmocka_unit_test(open_brings_rings_and_signals),
		cmocka_unit_test(channel_can_be_opened_again_and_again),
		cmocka_unit_test(monitored_device_is_signalled_through_pages),
		cmocka_unit_test(failures_of_a_device_are_told),
		cmocka_unit_test(rings_outlive_a_rescind_and_an_unload),
		cmocka_unit_test(signal_to_a_dead_device_says_so),
		cmocka_unit_test(device_that_hangs_up_is_rescinded),
		cmocka_unit_test(port_can_be_destroyed_with_open_devices),
		cmocka_unit_test(closed_port_says_so_once),
		cmocka_unit_test(connect_says_what_is_missing),
		cmocka_unit_test(addresses_are_read),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
