/* SPDX-License-Identifier: MIT */
/*
 * What the uio port offers (src/port/uio_host.c, uio_worker.c): devices that come and go, and what cannot be looked at for a while.
 */
#include "uio_rig.h"

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
	expect_rescind(u, 4);
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
		expect_rescind(u, 4);
		t_tree_take(&u->tree, TWO);
		expect_rescind(u, 9);
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
