/* SPDX-License-Identifier: MIT */
/* The host's side of a SynIC: slots, event flags and registers, in plain memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "kvm_rig.h"

struct bench {
	struct synic synic;
	struct vmb_mem *memory;
	uint8_t *ram;
};

#define EVENTS (3ull << 12 | 1)
#define MESSAGES (2ull << 12 | 1)

static int
set_up(void **state)
{
	struct bench *b = calloc(1, sizeof(*b));

	assert_non_null(b);
	b->memory = rig_memory(&b->ram);
	memset(b->ram, 0x5A, RIG_RAM_BYTES);
	assert_int_equal(synic_init(&b->synic, b->memory, 2), VMB_OK);
	*state = b;
	return 0;
}

static int
tear_down(void **state)
{
	struct bench *b = *state;

	synic_fini(&b->synic);
	vmb_mem_unref(b->memory);
	free(b);
	return 0;
}

static uint64_t
raised(struct bench *b, uint32_t vp)
{
	eventfd_t count = 0;

	return eventfd_read(b->synic.vps[vp].raise_fd, &count) == 0 ? count : 0;
}

static enum vmb_status
post(struct bench *b, uint32_t vp, uint32_t bytes, uint32_t number)
{
	uint8_t message[VMB_MSG_MAX_BYTES];

	t_message_fill(message, bytes, VMB_MSG_OFFER_CHANNEL, number);
	return synic_post(&b->synic, vp, message, bytes);
}

static uint8_t *
slot(struct bench *b)
{
	return b->ram + 2 * 4096 + 2 * 256;
}

static void
message_is_in_the_slot_of_sint_2(void **state)
{
	struct bench *b = *state;
	uint8_t expected[VMB_MSG_MAX_BYTES];

	for (uint32_t bytes = VMB_MSG_HEADER_BYTES; bytes <= VMB_MSG_MAX_BYTES; bytes += 29) {
		synic_set_registers(&b->synic, 0, 1, EVENTS, MESSAGES);
		memset(slot(b) + 4, 0xEE, 252); /* what a guest left there */
		t_message_fill(expected, bytes, VMB_MSG_OFFER_CHANNEL, bytes);
		assert_int_equal(post(b, 0, bytes, bytes), VMB_OK);
		assert_int_equal(t_u32(slot(b), 0), 1);
		assert_int_equal(slot(b)[4], bytes);
		for (unsigned i = 5; i < 16; i++)
			assert_int_equal(slot(b)[i], 0);
		assert_memory_equal(slot(b) + 16, expected, bytes);
		for (uint32_t i = bytes; i < VMB_MSG_MAX_BYTES; i++)
			assert_int_equal(slot(b)[16 + i], 0);
		assert_int_equal(raised(b, 0), 1);
		assert_int_equal(raised(b, 1), 0);
		/* Its neighbours are as they were. */
		assert_int_equal(slot(b)[-1], 0);
		assert_int_equal(slot(b)[256], 0);
		memset(slot(b), 0, 4);
	}
}

static void
taken_slot_stays_and_says_that_more_waits(void **state)
{
	struct bench *b = *state;
	uint8_t before[256];

	synic_set_registers(&b->synic, 0, 1, EVENTS, MESSAGES);
	assert_int_equal(post(b, 0, 32, 1), VMB_OK);
	assert_int_equal(raised(b, 0), 1);
	memcpy(before, slot(b), sizeof(before));
	assert_int_equal(post(b, 0, 64, 2), VMB_E_BUSY);
	assert_int_equal(slot(b)[5], before[5] | 1);
	slot(b)[5] = before[5];
	assert_memory_equal(slot(b), before, sizeof(before));
	assert_int_equal(raised(b, 0), 0);
	/* KVM's own messages, of timers, take it as well. */
	memcpy(slot(b), &(uint32_t){ 0x80000010 }, 4);
	assert_int_equal(post(b, 0, 64, 2), VMB_E_BUSY);
	memset(slot(b), 0, 4);
	assert_int_equal(post(b, 0, 64, 3), VMB_OK);
	assert_int_equal(slot(b)[5], 0);
	assert_int_equal(t_u32(slot(b), 16 + 8), 3);
}

static void
page_is_cleared_when_it_is_new_and_only_then(void **state)
{
	struct bench *b = *state;

	synic_set_registers(&b->synic, 0, 1, EVENTS, MESSAGES);
	for (unsigned i = 0; i < 8192; i++)
		assert_int_equal(b->ram[2 * 4096 + i], 0);
	assert_int_equal(b->ram[2 * 4096 - 1], 0x5A);
	assert_int_equal(b->ram[4 * 4096], 0x5A);
	b->ram[2 * 4096] = b->ram[3 * 4096] = 7;
	synic_set_registers(&b->synic, 0, 1, EVENTS, MESSAGES);
	assert_int_equal(b->ram[2 * 4096], 7);
	assert_int_equal(b->ram[3 * 4096], 7);
	synic_set_registers(&b->synic, 0, 1, EVENTS, 0);
	synic_set_registers(&b->synic, 0, 1, EVENTS, MESSAGES);
	assert_int_equal(b->ram[2 * 4096], 0);
	assert_int_equal(b->ram[3 * 4096], 7);
}

static void
registers_that_are_off_have_no_pages(void **state)
{
	struct bench *b = *state;
	const struct {
		uint64_t control, events, messages;
	} off[] = {
		{ 0, EVENTS, MESSAGES },
		{ 1, EVENTS & ~1ull, MESSAGES & ~1ull },
		{ 2, EVENTS, MESSAGES },
	};

	for (unsigned i = 0; i < 3; i++) {
		synic_set_registers(&b->synic, 0, 1, EVENTS, MESSAGES);
		synic_set_registers(&b->synic, 0, off[i].control, off[i].events, off[i].messages);
		b->ram[3 * 4096 + 512] = 0;
		assert_int_equal(post(b, 0, 8, 1), VMB_E_STATE);
		synic_set_flag(&b->synic, 0, 0);
		assert_int_equal(b->ram[3 * 4096 + 512], 0);
		assert_int_equal(raised(b, 0), 0);
	}
	synic_set_registers(&b->synic, 0, 1, EVENTS, MESSAGES);
	synic_reset(&b->synic);
	assert_int_equal(post(b, 0, 8, 1), VMB_E_STATE);
}

/* In a hole, beyond everything, at the end of all addresses, in a ROM: as if it were off, and nothing is written. */
static void
pages_outside_ram_count_as_off(void **state)
{
	struct bench *b = *state;
	static const uint64_t pages[] = {
		RIG_RAM_BYTES / 4096, RIG_ROM / 4096, RIG_ROM / 4096 + 15, RIG_ROM / 4096 + 16, 0xFFFFF, 0xFFFFFFFFFFFFF,
	};
	const uint8_t *rom = vmb_mem_host(b->memory, RIG_ROM, RIG_ROM_BYTES);

	for (unsigned i = 0; i < sizeof(pages) / sizeof(pages[0]); i++) {
		synic_set_registers(&b->synic, 0, 1, pages[i] << 12 | 1, pages[i] << 12 | 1);
		assert_int_equal(post(b, 0, 8, 1), VMB_E_STATE);
		synic_set_flag(&b->synic, 0, 5);
	}
	for (unsigned i = 0; i < RIG_ROM_BYTES; i++)
		assert_int_equal(rom[i], 0);
	/* The last page of RAM is one. */
	synic_set_registers(&b->synic, 0, 1, EVENTS, (RIG_RAM_BYTES - 4096) | 1);
	assert_int_equal(post(b, 0, 240, 1), VMB_OK);
	/* Bits that are reserved say nothing about where it is. */
	synic_set_registers(&b->synic, 0, 1, EVENTS | 0xFFE, MESSAGES | 0xFFE);
	assert_int_equal(post(b, 0, 8, 1), VMB_OK);
	assert_int_equal(t_u32(slot(b), 0), 1);
}

static void
flag_interrupts_once_until_it_is_cleared(void **state)
{
	struct bench *b = *state;
	uint8_t *flags = b->ram + 3 * 4096 + 512;

	synic_set_registers(&b->synic, 0, 1, EVENTS, MESSAGES);
	for (uint32_t flag = 0; flag < SYNIC_EVENT_FLAGS; flag++) {
		synic_set_flag(&b->synic, 0, flag);
		assert_int_equal(flags[flag / 8] >> flag % 8 & 1, 1);
		assert_int_equal(raised(b, 0), 1);
		synic_set_flag(&b->synic, 0, flag);
		assert_int_equal(raised(b, 0), 0);
	}
	assert_int_equal(flags[-1], 0);
	assert_int_equal(flags[256], 0);
	flags[17] &= (uint8_t)~4u;
	synic_set_flag(&b->synic, 0, 17 * 8 + 2);
	assert_int_equal(raised(b, 0), 1);
	assert_int_equal(flags[17], 0xFF);
	assert_int_equal(b->synic.interrupts, SYNIC_EVENT_FLAGS + 1);
}

static void
processors_are_apart(void **state)
{
	struct bench *b = *state;

	synic_set_registers(&b->synic, 0, 1, EVENTS, MESSAGES);
	synic_set_registers(&b->synic, 1, 1, 5ull << 12 | 1, 4ull << 12 | 1);
	assert_int_equal(post(b, 1, 16, 9), VMB_OK);
	synic_set_flag(&b->synic, 1, 100);
	assert_int_equal(raised(b, 0), 0);
	assert_int_equal(raised(b, 1), 2);
	assert_int_equal(t_u32(slot(b), 0), 0);
	assert_int_equal(t_u32(b->ram, 4 * 4096 + 512), 1);
	assert_int_equal(b->ram[5 * 4096 + 512 + 12], 0x10);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(message_is_in_the_slot_of_sint_2, set_up, tear_down),
		cmocka_unit_test_setup_teardown(taken_slot_stays_and_says_that_more_waits, set_up, tear_down),
		cmocka_unit_test_setup_teardown(page_is_cleared_when_it_is_new_and_only_then, set_up, tear_down),
		cmocka_unit_test_setup_teardown(registers_that_are_off_have_no_pages, set_up, tear_down),
		cmocka_unit_test_setup_teardown(pages_outside_ram_count_as_off, set_up, tear_down),
		cmocka_unit_test_setup_teardown(flag_interrupts_once_until_it_is_cleared, set_up, tear_down),
		cmocka_unit_test_setup_teardown(processors_are_apart, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
