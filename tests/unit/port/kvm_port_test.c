/* SPDX-License-Identifier: MIT */
/* Delivery to a machine's processors: order, waiting, changes of the processor, too much, and the end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "kvm_rig.h"

static int
set_up(void **state)
{
	*state = rig_make();
	return 0;
}

static int
tear_down(void **state)
{
	rig_free(*state);
	return 0;
}

static enum vmb_status
post(struct rig *rig, uint32_t vp, uint32_t number)
{
	uint8_t message[64];

	t_message_fill(message, sizeof(message), VMB_MSG_OFFER_CHANNEL, number);
	return vmb_port_post(rig->host.port, vp, message, sizeof(message));
}

static void
expect(struct rig *rig, uint32_t vp, uint32_t number)
{
	struct t_message message;

	assert_true(rig_take(rig, vp, &message));
	assert_int_equal(t_u32(message.data, 0), VMB_MSG_OFFER_CHANNEL);
	assert_int_equal(t_u32(message.data, 8), number);
}

static uint32_t
waiting(struct rig *rig)
{
	struct vmb_kvm_stats stats;

	vmb_kvm_get_stats(rig->kvm, &stats);
	return stats.messages_waiting;
}

/* Until the bus's thread has asked this processor to look again; no clock decides. */
static void
until_kicked(struct rig *rig, uint32_t vp)
{
	unsigned before = rig->kicks[vp];

	while (rig->kicks[vp] == before) {
		assert_true(t_readable(vmb_port_poll_fd(rig->host.port)) || usleep(1000) == 0);
		vmb_port_poll(rig->host.port);
	}
}

static void
message_waits_for_its_processor_to_come_around(void **state)
{
	struct rig *rig = *state;
	struct t_message message;

	rig_synic_on(rig, 0);
	rig_synic_on(rig, 1);
	assert_int_equal(post(rig, 1, 5), VMB_OK);
	/* Not from this thread: KVM writes into the same slots. */
	assert_false(rig_take(rig, 1, &message));
	assert_int_equal(rig->kicks[1], 1);
	rig_run(rig, 0);
	assert_false(rig_take(rig, 1, &message));
	rig_run(rig, 1);
	assert_int_equal(rig_raised(rig, 1), 1);
	assert_int_equal(rig_raised(rig, 0), 0);
	expect(rig, 1, 5);
	assert_int_equal(waiting(rig), 0);
}

static void
messages_come_in_order_each_when_the_slot_is_free(void **state)
{
	struct rig *rig = *state;
	struct t_message message;

	rig_synic_on(rig, 0);
	for (uint32_t i = 0; i < 100; i++)
		assert_int_equal(post(rig, 0, i), VMB_OK);
	for (uint32_t i = 0; i < 100; i++) {
		rig_run(rig, 0);
		/* Nothing changes as long as it is taken. */
		rig_run(rig, 0);
		assert_int_equal(waiting(rig), 99 - i);
		expect(rig, 0, i);
		if (i == 99)
			break;
		until_kicked(rig, 0); /* end of message */
	}
	assert_false(rig_take(rig, 0, &message));
	/* Nobody waits: acknowledgements, of timers say, wake nobody, and no clock runs. */
	t_run_idle(&rig->host);
	assert_int_equal(eventfd_write(rig->kvm->synic.vps[0].ack_fd, 1), 0);
	assert_false(t_readable(vmb_port_poll_fd(rig->host.port)));
}

static void
lost_interrupt_is_repeated(void **state)
{
	struct rig *rig = *state;

	rig_synic_on(rig, 0);
	assert_int_equal(post(rig, 0, 1), VMB_OK);
	assert_int_equal(post(rig, 0, 2), VMB_OK);
	rig_run(rig, 0);
	assert_int_equal(rig_raised(rig, 0), 1);
	/* The SINT was masked; the guest never acknowledges. */
	for (unsigned i = 0; i < 3; i++) {
		until_kicked(rig, 0);
		rig_run(rig, 0);
		assert_int_equal(rig_raised(rig, 0), 1);
	}
	/* It does look at last, and without saying so. */
	memset(rig_slot(rig, 0), 0, 4);
	until_kicked(rig, 0);
	rig_run(rig, 0);
	expect(rig, 0, 2);
}

static void
message_waits_for_the_message_page(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(post(rig, 0, 1), VMB_OK);
	rig_run(rig, 0);
	assert_int_equal(waiting(rig), 1);
	rig_synic(rig, 0, 1, 3ull << 12 | 1, 0);
	rig_run(rig, 0);
	rig_synic(rig, 0, 1, 3ull << 12 | 1, 0xFFFFull << 12 | 1);
	rig_run(rig, 0);
	assert_int_equal(waiting(rig), 1);
	rig_synic_on(rig, 0);
	rig_run(rig, 0);
	expect(rig, 0, 1);
	/* It is switched off and on again in between, at another place. */
	assert_int_equal(post(rig, 0, 2), VMB_OK);
	rig_synic(rig, 0, 0, 0, 0);
	rig_run(rig, 0);
	rig_synic(rig, 0, 1, 0, 0x80ull << 12 | 1);
	rig_run(rig, 0);
	assert_int_equal(t_u32(rig->ram, 0x80 * 4096 + 512 + 16 + 8), 2);
}

static void
order_holds_when_the_processor_changes(void **state)
{
	struct rig *rig = *state;
	struct t_message message;

	rig_synic_on(rig, 0);
	rig_synic_on(rig, 1);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(post(rig, 0, i), VMB_OK);
	assert_int_equal(post(rig, 1, 3), VMB_OK);
	assert_int_equal(post(rig, 0, 4), VMB_OK);
	for (uint32_t i = 0; i < 3; i++) {
		unsigned kicks = rig->kicks[0];

		rig_run(rig, 1);
		assert_false(rig_take(rig, 1, &message));
		/* Who finds the other's message first makes the other look. */
		assert_int_equal(rig->kicks[0], kicks + (i == 0));
		rig_run(rig, 0);
		if (i == 2)
			assert_int_equal(waiting(rig), 2);
		expect(rig, 0, i);
		if (i != 2)
			until_kicked(rig, 0);
	}
	assert_true(rig->kicks[1] > 0);
	rig_run(rig, 1);
	expect(rig, 1, 3);
	rig_run(rig, 0);
	expect(rig, 0, 4);
}

/* A guest names a processor that it does not have, or none; then one that it has. */
static void
absent_processor_blocks_nobody(void **state)
{
	struct rig *rig = *state;
	static const uint32_t absent[] = { RIG_VPS, 77, 0x80000000, VMB_VP_NONE };
	struct t_message message;

	rig_synic_on(rig, 0);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(post(rig, absent[i], i), VMB_OK);
	assert_int_equal(waiting(rig), 0);
	assert_int_equal(post(rig, 0, 9), VMB_OK);
	assert_int_equal(rig->kicks[0], 1);
	rig_run(rig, 0);
	expect(rig, 0, 9);
	assert_false(rig_take(rig, 0, &message));
}

/* The first one named is off, and stays so; the guest connects again, with one that is there to hear of it. */
static void
processor_that_takes_no_messages_is_given_up_for_another(void **state)
{
	struct rig *rig = *state;
	struct t_message message;

	rig_synic_on(rig, 0);
	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(post(rig, 1, i), VMB_OK);
	rig_run(rig, 1);
	assert_int_equal(waiting(rig), 3);
	assert_int_equal(post(rig, 0, 9), VMB_OK);
	rig_run(rig, 0);
	assert_false(rig_take(rig, 0, &message));
	rig_run(rig, 1);
	rig_run(rig, 0);
	expect(rig, 0, 9);
	assert_int_equal(waiting(rig), 0);
	rig_synic_on(rig, 1);
	rig_run(rig, 1);
	assert_false(rig_take(rig, 1, &message));
}

static void
nothing_is_taken_from_a_guest_that_does_not_read(void **state)
{
	struct rig *rig = *state;
	uint32_t taken;

	rig_synic_on(rig, 0);
	for (uint32_t i = 0; i < KVM_OUTBOX_BUSY; i++)
		assert_int_equal(post(rig, 0, i), VMB_OK);
	for (uint32_t i = 0; i < KVM_INBOX_MESSAGES; i++)
		assert_int_equal(rig_post(rig, 4, VMB_MSG_UNLOAD, i), 0);
	assert_int_equal(rig_post(rig, 4, VMB_MSG_UNLOAD, 1000), 0x13);
	t_run_idle(&rig->host);
	assert_int_equal(rig->host.messages, 0);
	/* It reads. */
	for (taken = 0; taken < KVM_OUTBOX_BUSY; taken++) {
		rig_run(rig, 0);
		expect(rig, 0, taken);
		if (taken + 1 != KVM_OUTBOX_BUSY)
			until_kicked(rig, 0);
	}
	t_run_until_messages(&rig->host, KVM_INBOX_MESSAGES);
	for (uint32_t i = 0; i < KVM_INBOX_MESSAGES; i++)
		assert_int_equal(t_u32(rig->host.log[i].data, 8), i);
}

static void
too_many_unread_messages_end_the_connection(void **state)
{
	struct rig *rig = *state;

	for (uint32_t i = 0; i < KVM_OUTBOX_MESSAGES; i++)
		assert_int_equal(post(rig, 0, i), VMB_OK);
	assert_int_equal(post(rig, 0, 0), VMB_E_LIMIT);
	assert_int_equal(post(rig, 0, 0), VMB_E_CLOSED);
	t_expect_closed(&rig->host, VMB_E_LIMIT, "unread");
	assert_int_equal(rig_post(rig, 4, VMB_MSG_UNLOAD, 1), 0x12);
	rig_synic_on(rig, 0);
	rig_run(rig, 0);
}

static void
cut_ends_it_for_both(void **state)
{
	struct rig *rig = *state;
	struct t_message message;

	rig_synic_on(rig, 0);
	assert_int_equal(post(rig, 0, 1), VMB_OK);
	assert_int_equal(rig_post(rig, 4, VMB_MSG_UNLOAD, 1), 0);
	vmb_port_cut(rig->host.port, VMB_E_TIMEOUT, "it took too long");
	vmb_port_cut(rig->host.port, VMB_E_IO, "a second reason");
	rig_run(rig, 0);
	assert_false(rig_take(rig, 0, &message));
	assert_int_equal(post(rig, 0, 1), VMB_E_CLOSED);
	assert_int_equal(post(rig, 77, 1), VMB_E_CLOSED);
	assert_int_equal(rig_post(rig, 4, VMB_MSG_UNLOAD, 1), 0x12);
	t_expect_closed(&rig->host, VMB_E_TIMEOUT, "it took too long");
	assert_int_equal(rig->host.messages, 0);
}

static void
only_messages_of_the_right_size_are_posted(void **state)
{
	struct rig *rig = *state;
	uint8_t message[VMB_MSG_MAX_BYTES + 1] = { 1 };

	assert_int_equal(vmb_port_post(rig->host.port, 0, message, VMB_MSG_HEADER_BYTES - 1), VMB_E_INVALID);
	assert_int_equal(vmb_port_post(rig->host.port, 0, message, VMB_MSG_MAX_BYTES + 1), VMB_E_INVALID);
	assert_int_equal(waiting(rig), 0);
}

static void
reset_ends_the_connection_and_the_next_one_is_new(void **state)
{
	struct rig *rig = *state;
	struct vmb_port *port;
	struct t_message message;

	rig_synic_on(rig, 0);
	assert_int_equal(post(rig, 0, 1), VMB_OK);
	assert_int_equal(vmb_kvm_port(rig->kvm, &port), VMB_E_BUSY);
	vmb_kvm_reset(rig->kvm);
	t_expect_closed(&rig->host, VMB_E_CLOSED, "reset");
	rig_run(rig, 0);
	assert_false(rig_take(rig, 0, &message));
	assert_int_equal(vmb_kvm_port(rig->kvm, &port), VMB_E_BUSY);
	t_end_fini(&rig->host);
	rig_open(rig);
	assert_int_equal(post(rig, 0, 2), VMB_OK);
	rig_run(rig, 0);
	assert_false(rig_take(rig, 0, &message)); /* its pages are off */
	rig_synic_on(rig, 0);
	rig_run(rig, 0);
	expect(rig, 0, 2);
}

static void
port_outlives_its_machine(void **state)
{
	struct rig *rig = *state;
	const struct vmb_port_route route = { .connection_id = 9, .target_vp = 0, .event_flag = 1,
		                               .monitor_id = VMB_MONITOR_NONE };
	struct vmb_doorbell doorbell;

	rig_synic_on(rig, 0);
	assert_int_equal(vmb_port_route(rig->host.port, 1, &route), VMB_OK);
	assert_int_equal(vmb_port_doorbell_open(rig->host.port, 1, &doorbell), VMB_OK);
	vmb_kvm_destroy(rig->kvm);
	/* Its descriptor may be anybody's by now. */
	close(rig_fake.vm_fd);
	rig_fake.is_gone = true;
	for (unsigned i = 0; i < RIG_VPS; i++)
		rig->kicks[i] = 1000;
	assert_int_equal(post(rig, 0, 1), VMB_E_CLOSED);
	assert_int_equal(vmb_port_ring(rig->host.port, &doorbell), VMB_E_CLOSED);
	vmb_port_doorbell_close(rig->host.port, 1);
	assert_int_equal(vmb_port_doorbell_open(rig->host.port, 1, &doorbell), VMB_E_CLOSED);
	t_expect_closed(&rig->host, VMB_E_CLOSED, "switched off");
	for (unsigned i = 0; i < RIG_VPS; i++)
		assert_int_equal(rig->kicks[i], 1000);
	rig->kvm = NULL;
	rig_fake.vm_fd = -1;
	memset(rig_fake.eventfds, 0, sizeof(rig_fake.eventfds));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(message_waits_for_its_processor_to_come_around, set_up, tear_down),
		cmocka_unit_test_setup_teardown(messages_come_in_order_each_when_the_slot_is_free, set_up, tear_down),
		cmocka_unit_test_setup_teardown(lost_interrupt_is_repeated, set_up, tear_down),
		cmocka_unit_test_setup_teardown(message_waits_for_the_message_page, set_up, tear_down),
		cmocka_unit_test_setup_teardown(order_holds_when_the_processor_changes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(absent_processor_blocks_nobody, set_up, tear_down),
		cmocka_unit_test_setup_teardown(processor_that_takes_no_messages_is_given_up_for_another, set_up,
		                                tear_down),
		cmocka_unit_test_setup_teardown(nothing_is_taken_from_a_guest_that_does_not_read, set_up, tear_down),
		cmocka_unit_test_setup_teardown(too_many_unread_messages_end_the_connection, set_up, tear_down),
		cmocka_unit_test_setup_teardown(cut_ends_it_for_both, set_up, tear_down),
		cmocka_unit_test_setup_teardown(only_messages_of_the_right_size_are_posted, set_up, tear_down),
		cmocka_unit_test_setup_teardown(reset_ends_the_connection_and_the_next_one_is_new, set_up, tear_down),
		cmocka_unit_test_setup_teardown(port_outlives_its_machine, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
