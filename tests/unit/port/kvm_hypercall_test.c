/* SPDX-License-Identifier: MIT */
/* What HvPostMessage and HvSignalEvent say to every wrong input (vmbus-protocol 5.4). */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "kvm_rig.h"

#define POST 0x5Cu
#define SIGNAL 0x5Du
#define FAST 0x10000u

enum { OK, BAD_CODE = 2, BAD_INPUT = 3, BAD_ALIGNMENT = 4, BAD_PARAMETER = 5, BAD_CONNECTION = 0x12, NO_BUFFERS = 0x13 };

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

/* HvPostMessage with input at `gpa` that is right but for what the caller says. */
static uint64_t
post(struct rig *rig, uint64_t gpa, uint32_t connection, uint32_t reserved, uint32_t type, uint32_t bytes)
{
	const uint32_t header[4] = { connection, reserved, type, bytes };

	if (gpa + 256 <= RIG_RAM_BYTES) {
		memcpy(rig->ram + gpa, header, sizeof(header));
		t_message_fill(rig->ram + gpa + 16, VMB_MSG_MAX_BYTES, VMB_MSG_UNLOAD, 77);
	}
	return rig_hypercall(rig, POST, gpa);
}

static void
good_message_arrives_as_it_was(void **state)
{
	struct rig *rig = *state;
	uint8_t expected[VMB_MSG_MAX_BYTES];
	static const uint32_t sizes[] = { 8, 9, 100, 239, 240 };

	t_message_fill(expected, sizeof(expected), VMB_MSG_UNLOAD, 77);
	for (unsigned i = 0; i < 5; i++) {
		assert_int_equal(post(rig, RIG_INPUT, i % 2 != 0 ? 1 : 4, 0, 1, sizes[i]), OK);
		memset(rig->ram + RIG_INPUT, 0xFF, 256); /* it was copied */
		t_run_until_messages(&rig->host, i + 1);
		assert_int_equal(rig->host.log[i].connection_id, i % 2 != 0 ? 1 : 4);
		assert_int_equal(rig->host.log[i].bytes, sizes[i]);
		assert_memory_equal(rig->host.log[i].data, expected, sizes[i]);
	}
	/* Only 24 bits of a connection id count. */
	assert_int_equal(post(rig, RIG_INPUT, 0xFF000004, 0, 1, 8), OK);
	t_run_until_messages(&rig->host, 6);
	assert_int_equal(rig->host.log[5].connection_id, 4);
}

static void
post_says_what_is_wrong(void **state)
{
	struct rig *rig = *state;
	const struct {
		uint32_t connection, reserved, type, bytes;
		uint64_t status;
	} cases[] = {
		{ 4, 0, 1, 241, BAD_PARAMETER },
		{ 4, 0, 1, 0xFFFFFFFF, BAD_PARAMETER },
		{ 4, 0, 1, 7, BAD_PARAMETER },
		{ 4, 0, 1, 0, BAD_PARAMETER },
		{ 4, 1, 1, 8, BAD_PARAMETER },
		{ 4, 0, 0, 8, BAD_PARAMETER },
		{ 4, 0, 2, 8, BAD_PARAMETER },
		{ 4, 0, 0x80000001, 8, BAD_PARAMETER },
		{ 4, 0, 0x80000010, 8, BAD_PARAMETER },
		{ 0, 0, 1, 8, BAD_CONNECTION },
		{ 2, 0, 1, 8, BAD_CONNECTION },
		{ 3, 0, 1, 8, BAD_CONNECTION },
		{ 5, 0, 1, 8, BAD_CONNECTION },
		{ 0xFFFFFF, 0, 1, 8, BAD_CONNECTION },
		{ 0x104, 0, 1, 8, BAD_CONNECTION },
	};
	struct vmb_kvm_stats stats;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		assert_int_equal(post(rig, RIG_INPUT, cases[i].connection, cases[i].reserved, cases[i].type,
		                      cases[i].bytes), cases[i].status);
	t_run_idle(&rig->host);
	assert_int_equal(rig->host.messages, 0);
	vmb_kvm_get_stats(rig->kvm, &stats);
	assert_int_equal(stats.messages_refused, sizeof(cases) / sizeof(cases[0]));
	assert_int_equal(stats.messages_in, 0);
}

static void
input_is_aligned_within_a_page_and_in_memory(void **state)
{
	struct rig *rig = *state;
	static const uint64_t nowhere[] = {
		RIG_RAM_BYTES, RIG_ROM + RIG_ROM_BYTES, 0xFFFFFFFFFFFFF000, 0xFFFFFFFFFFFFFF00, 1ull << 52,
	};

	for (uint64_t off = 1; off < 8; off++) {
		assert_int_equal(post(rig, RIG_INPUT + off, 4, 0, 1, 8), BAD_ALIGNMENT);
		assert_int_equal(rig_hypercall(rig, SIGNAL, RIG_INPUT + off), BAD_ALIGNMENT);
	}
	assert_int_equal(post(rig, RIG_INPUT + 4096 - 256, 4, 0, 1, 8), OK);
	for (uint64_t left = 8; left < 256; left += 8)
		assert_int_equal(post(rig, RIG_INPUT + 4096 - left, 4, 0, 1, 8), BAD_ALIGNMENT);
	/* Also at the very end of memory, and of all addresses. */
	assert_int_equal(post(rig, RIG_RAM_BYTES - 256, 4, 0, 1, 8), OK);
	assert_int_equal(rig_hypercall(rig, POST, RIG_RAM_BYTES - 248), BAD_ALIGNMENT);
	assert_int_equal(rig_hypercall(rig, POST, UINT64_MAX - 7), BAD_ALIGNMENT);
	assert_int_equal(rig_hypercall(rig, SIGNAL, RIG_RAM_BYTES - 8), BAD_PARAMETER);
	assert_int_equal(rig_hypercall(rig, SIGNAL, UINT64_MAX - 7), BAD_PARAMETER);
	for (unsigned i = 0; i < sizeof(nowhere) / sizeof(nowhere[0]); i++) {
		assert_int_equal(rig_hypercall(rig, POST, nowhere[i]), BAD_PARAMETER);
		assert_int_equal(rig_hypercall(rig, SIGNAL, nowhere[i]), BAD_PARAMETER);
	}
	/* A ROM can be read; this one is all zero: no connection 0. */
	assert_int_equal(rig_hypercall(rig, POST, RIG_ROM), BAD_CONNECTION);
}

static void
control_has_a_code_and_nothing_else(void **state)
{
	struct rig *rig = *state;

	assert_int_equal(rig_hypercall(rig, POST | FAST, RIG_INPUT), BAD_INPUT);
	for (unsigned bit = 17; bit < 64; bit++) {
		assert_int_equal(rig_hypercall(rig, POST | 1ull << bit, RIG_INPUT), BAD_INPUT);
		assert_int_equal(rig_hypercall(rig, SIGNAL | 1ull << bit, RIG_INPUT), BAD_INPUT);
		assert_int_equal(rig_hypercall(rig, SIGNAL | FAST | 1ull << bit, 0), BAD_INPUT);
	}
	for (uint64_t code = 0; code < 0x10000; code++) {
		if (code != POST && code != SIGNAL)
			assert_int_equal(rig_hypercall(rig, code, RIG_INPUT), BAD_CODE);
	}
}

static void
signal_reaches_the_doorbell_of_its_connection(void **state)
{
	struct rig *rig = *state;
	const struct vmb_port_route route = { .connection_id = 0x1234, .target_vp = VMB_VP_NONE,
		                               .monitor_id = VMB_MONITOR_NONE };
	struct vmb_doorbell doorbell;
	eventfd_t count;

	assert_int_equal(rig_hypercall(rig, SIGNAL | FAST, 0x1234), BAD_CONNECTION);
	assert_int_equal(vmb_port_route(rig->host.port, 7, &route), VMB_OK);
	assert_int_equal(rig_hypercall(rig, SIGNAL | FAST, 0x1234), BAD_CONNECTION);
	assert_int_equal(vmb_port_doorbell_open(rig->host.port, 7, &doorbell), VMB_OK);
	/* KVM does this without us; what it leaves to us comes to the same end. */
	assert_int_equal(rig_hypercall(rig, SIGNAL | FAST, 0x1234), OK);
	memcpy(rig->ram + RIG_INPUT, &(uint64_t){ 0x1234 }, 8);
	assert_int_equal(rig_hypercall(rig, SIGNAL, RIG_INPUT), OK);
	assert_int_equal(eventfd_read(doorbell.wait_fd, &count), 0);
	assert_int_equal(count, 2);

	assert_int_equal(rig_hypercall(rig, SIGNAL | FAST, 0x1235), BAD_CONNECTION);
	assert_int_equal(rig_hypercall(rig, SIGNAL | FAST, 0), BAD_CONNECTION);
	/* Flags: there is the one. Reserved bits are zero. */
	assert_int_equal(rig_hypercall(rig, SIGNAL | FAST, 0x1234 | 1ull << 32), BAD_CONNECTION);
	assert_int_equal(rig_hypercall(rig, SIGNAL | FAST, 0x1234 | 2047ull << 32), BAD_CONNECTION);
	assert_int_equal(rig_hypercall(rig, SIGNAL | FAST, 0x1234 | 2048ull << 32), BAD_PARAMETER);
	assert_int_equal(rig_hypercall(rig, SIGNAL | FAST, 0x1234 | 1ull << 48), BAD_PARAMETER);
	assert_int_equal(eventfd_read(doorbell.wait_fd, &count), -1);
	vmb_port_doorbell_close(rig->host.port, 7);
	assert_int_equal(rig_hypercall(rig, SIGNAL | FAST, 0x1234), BAD_CONNECTION);
}

static void
full_inbox_is_back_pressure(void **state)
{
	struct rig *rig = *state;
	struct vmb_kvm_stats stats;

	for (unsigned i = 0; i < KVM_INBOX_MESSAGES; i++)
		assert_int_equal(rig_post(rig, 4, VMB_MSG_UNLOAD, i), OK);
	assert_int_equal(rig_post(rig, 4, VMB_MSG_UNLOAD, 1000), NO_BUFFERS);
	t_run_until_messages(&rig->host, KVM_INBOX_MESSAGES);
	assert_int_equal(rig_post(rig, 4, VMB_MSG_UNLOAD, KVM_INBOX_MESSAGES), OK);
	t_run_until_messages(&rig->host, KVM_INBOX_MESSAGES + 1);
	for (unsigned i = 0; i <= KVM_INBOX_MESSAGES; i++)
		assert_int_equal(t_u32(rig->host.log[i].data, 8), i);
	vmb_kvm_get_stats(rig->kvm, &stats);
	assert_int_equal(stats.messages_in, KVM_INBOX_MESSAGES + 1);
	assert_int_equal(stats.messages_refused, 1);
}

static void
without_a_port_no_connection_exists(void **state)
{
	struct rig *rig = *state;

	vmb_port_cut(rig->host.port, VMB_E_TIMEOUT, "enough");
	assert_int_equal(rig_post(rig, 4, VMB_MSG_UNLOAD, 1), BAD_CONNECTION);
	t_end_fini(&rig->host);
	rig->host.port = NULL;
	rig->host.log = NULL;
	assert_int_equal(rig_post(rig, 4, VMB_MSG_UNLOAD, 1), BAD_CONNECTION);
	assert_int_equal(rig_hypercall(rig, SIGNAL | FAST, 1), BAD_CONNECTION);
	rig_open(rig);
	assert_int_equal(rig_post(rig, 4, VMB_MSG_UNLOAD, 1), OK);
	t_run_until_messages(&rig->host, 1);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(good_message_arrives_as_it_was, set_up, tear_down),
		cmocka_unit_test_setup_teardown(post_says_what_is_wrong, set_up, tear_down),
		cmocka_unit_test_setup_teardown(input_is_aligned_within_a_page_and_in_memory, set_up, tear_down),
		cmocka_unit_test_setup_teardown(control_has_a_code_and_nothing_else, set_up, tear_down),
		cmocka_unit_test_setup_teardown(signal_reaches_the_doorbell_of_its_connection, set_up, tear_down),
		cmocka_unit_test_setup_teardown(full_inbox_is_back_pressure, set_up, tear_down),
		cmocka_unit_test_setup_teardown(without_a_port_no_connection_exists, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
