/* SPDX-License-Identifier: MIT */
/* The uio port (src/port/uio_port.c, uio_device.c): what it answers, and what it does with a device. */
#include "uio_rig.h"

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
