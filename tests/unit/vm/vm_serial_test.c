/* SPDX-License-Identifier: MIT */
/* The serial port, register by register, as a driver of 16550A finds it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "vm_rig.h"

enum { DATA, IER, IIR, LCR, MCR, LSR, MSR, SCR };
#define FCR IIR
#define OUT2 0x08u

static int
set_up(void **state)
{
	*state = vm_rig_make(1);
	return 0;
}

static int
tear_down(void **state)
{
	vm_rig_free(*state);
	return 0;
}

static void
output_goes_out_at_once(void **state)
{
	struct vm_rig *rig = *state;
	struct serial *serial = &rig->machine.serial;

	for (const char *c = "hello"; *c != '\0'; c++) {
		assert_int_equal(serial_read(serial, LSR) & 0x60, 0x60);
		serial_write(serial, DATA, (uint8_t)*c);
	}
	assert_int_equal(rig->console_count, 5);
	assert_memory_equal(rig->console, "hello", 5);
	assert_int_equal(rig->line_ups, 0);
}

static void
input_waits_in_order_and_is_bounded(void **state)
{
	struct vm_rig *rig = *state;
	struct serial *serial = &rig->machine.serial;
	uint8_t bytes[SERIAL_INPUT_BYTES + 10];

	for (unsigned i = 0; i < sizeof(bytes); i++)
		bytes[i] = (uint8_t)(i * 7);
	assert_int_equal(serial_read(serial, LSR), 0x60);
	assert_int_equal(serial_read(serial, DATA), 0);
	assert_int_equal(serial_type(serial, bytes, sizeof(bytes)), SERIAL_INPUT_BYTES);
	assert_int_equal(serial_type(serial, bytes, 1), 0);
	for (unsigned i = 0; i < SERIAL_INPUT_BYTES; i++) {
		assert_int_equal(serial_read(serial, LSR), 0x61);
		assert_int_equal(serial_read(serial, DATA), bytes[i]);
	}
	assert_int_equal(serial_read(serial, LSR), 0x60);
	/* Around the end of the buffer. */
	for (unsigned round = 0; round < 3; round++) {
		assert_int_equal(serial_type(serial, bytes, 3000), 3000);
		for (unsigned i = 0; i < 3000; i++)
			assert_int_equal(serial_read(serial, DATA), bytes[i]);
	}
}

static void
line_is_up_while_something_is_pending_and_wanted(void **state)
{
	struct vm_rig *rig = *state;
	struct serial *serial = &rig->machine.serial;

	assert_int_equal(serial_type(serial, "ab", 2), 2);
	assert_false(rig->line);
	serial_write(serial, IER, 1);
	assert_false(rig->line); /* OUT2 gates it */
	serial_write(serial, MCR, OUT2);
	assert_true(rig->line);
	assert_int_equal(serial_read(serial, IIR) & 0x0F, 4);
	assert_int_equal(serial_read(serial, DATA), 'a');
	assert_true(rig->line);
	assert_int_equal(serial_read(serial, DATA), 'b');
	assert_false(rig->line);
	assert_int_equal(serial_read(serial, IIR) & 0x0F, 1);
	assert_int_equal(serial_type(serial, "c", 1), 1);
	assert_true(rig->line);
	serial_write(serial, MCR, 0);
	assert_false(rig->line);
}

static void
transmitter_interrupts_once_until_it_is_used_again(void **state)
{
	struct vm_rig *rig = *state;
	struct serial *serial = &rig->machine.serial;

	serial_write(serial, MCR, OUT2);
	assert_int_equal(serial_read(serial, IIR) & 0x0F, 1);
	serial_write(serial, IER, 2);
	assert_true(rig->line);
	assert_int_equal(serial_read(serial, IIR) & 0x0F, 2); /* reading it is the acknowledgement */
	assert_false(rig->line);
	assert_int_equal(serial_read(serial, IIR) & 0x0F, 1);
	serial_write(serial, IER, 2); /* it is on already */
	assert_false(rig->line);
	serial_write(serial, DATA, 'x');
	assert_true(rig->line);
	serial_write(serial, IER, 0);
	assert_false(rig->line);
	serial_write(serial, IER, 3);
	assert_true(rig->line);
	/* Input comes first, and does not acknowledge output. */
	assert_int_equal(serial_type(serial, "y", 1), 1);
	assert_int_equal(serial_read(serial, IIR) & 0x0F, 4);
	assert_int_equal(serial_read(serial, DATA), 'y');
	assert_int_equal(serial_read(serial, IIR) & 0x0F, 2);
	assert_false(rig->line);
}

static void
registers_keep_what_they_keep(void **state)
{
	struct vm_rig *rig = *state;
	struct serial *serial = &rig->machine.serial;

	serial_write(serial, SCR, 0xA5);
	assert_int_equal(serial_read(serial, SCR), 0xA5);
	serial_write(serial, IER, 0xF0); /* what a 16550A does not have */
	assert_int_equal(serial_read(serial, IER), 0);
	serial_write(serial, LCR, 0x83);
	assert_int_equal(serial_read(serial, LCR), 0x83);
	serial_write(serial, 0, 0x01);
	serial_write(serial, 1, 0xC2);
	assert_int_equal(serial_read(serial, 0), 0x01);
	assert_int_equal(serial_read(serial, 1), 0xC2);
	assert_int_equal(rig->console_count, 0);
	serial_write(serial, LCR, 0x03);
	assert_int_equal(serial_read(serial, IER), 0);
	/* Read-only ones. */
	serial_write(serial, LSR, 0xFF);
	serial_write(serial, MSR, 0xFF);
	assert_int_equal(serial_read(serial, LSR), 0x60);
	assert_int_equal(serial_read(serial, MSR), 0xB0);
	serial_write(serial, MCR, 0x0B);
	assert_int_equal(serial_read(serial, MCR), 0x0B);
}

static void
fifo_says_that_it_is_one_and_can_be_cleared(void **state)
{
	struct vm_rig *rig = *state;
	struct serial *serial = &rig->machine.serial;

	assert_int_equal(serial_read(serial, IIR), 0x01);
	serial_write(serial, FCR, 0x01);
	assert_int_equal(serial_read(serial, IIR), 0xC1);
	serial_write(serial, MCR, OUT2);
	serial_write(serial, IER, 1);
	assert_int_equal(serial_type(serial, "abc", 3), 3);
	assert_true(rig->line);
	serial_write(serial, FCR, 0x03);
	assert_false(rig->line);
	assert_int_equal(serial_read(serial, LSR), 0x60);
	serial_write(serial, FCR, 0);
	assert_int_equal(serial_read(serial, IIR), 0x01);
}

/* How drivers tell what they have in front of them. */
static void
loop_back_stays_inside(void **state)
{
	struct vm_rig *rig = *state;
	struct serial *serial = &rig->machine.serial;
	static const uint8_t status[16] = { 0x00, 0x20, 0x10, 0x30, 0x40, 0x60, 0x50, 0x70,
		                            0x80, 0xA0, 0x90, 0xB0, 0xC0, 0xE0, 0xD0, 0xF0 };

	for (unsigned out = 0; out < 16; out++) {
		serial_write(serial, MCR, (uint8_t)(0x10 | out));
		assert_int_equal(serial_read(serial, MSR), status[out]);
	}
	serial_write(serial, DATA, 'q');
	assert_int_equal(rig->console_count, 0);
	assert_int_equal(serial_read(serial, LSR), 0x61);
	assert_int_equal(serial_read(serial, DATA), 'q');
	/* It fills up and no more. */
	for (unsigned i = 0; i < SERIAL_INPUT_BYTES + 5; i++)
		serial_write(serial, DATA, (uint8_t)i);
	assert_int_equal(serial->count, SERIAL_INPUT_BYTES);
	serial_write(serial, MCR, 0);
	serial_write(serial, DATA, 'r');
	assert_int_equal(rig->console_count, 1);
}

struct slow {
	struct serial serial;
	int go[2], at[2];
};

static void
slow_output(void *ctx, const void *bytes, uint32_t count)
{
	struct slow *slow = ctx;
	char c;

	(void)count;
	assert_int_equal(write(slow->at[1], bytes, 1), 1);
	assert_int_equal(read(slow->go[0], &c, 1), 1);
}

static void
no_line(void *ctx, bool up)
{
	(void)ctx;
	(void)up;
}

static void *
slow_writer(void *ctx)
{
	struct slow *slow = ctx;

	serial_write(&slow->serial, DATA, 'z');
	return NULL;
}

/* A console that nobody reads must not keep others from typing, or from finding out that the machine ends. */
static void
output_that_waits_holds_up_nobody_else(void **state)
{
	struct slow slow;
	pthread_t thread;
	char c;

	(void)state;
	serial_init(&slow.serial, slow_output, no_line, &slow);
	assert_int_equal(pipe(slow.go), 0);
	assert_int_equal(pipe(slow.at), 0);
	assert_int_equal(pthread_create(&thread, NULL, slow_writer, &slow), 0);
	assert_int_equal(read(slow.at[0], &c, 1), 1);
	assert_int_equal(serial_type(&slow.serial, "k", 1), 1);
	assert_int_equal(serial_read(&slow.serial, DATA), 'k');
	serial_write(&slow.serial, SCR, 3);
	assert_int_equal(write(slow.go[1], "g", 1), 1);
	assert_int_equal(pthread_join(thread, NULL), 0);
	for (unsigned i = 0; i < 2; i++) {
		close(slow.go[i]);
		close(slow.at[i]);
	}
	serial_fini(&slow.serial);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(output_goes_out_at_once, set_up, tear_down),
		cmocka_unit_test_setup_teardown(input_waits_in_order_and_is_bounded, set_up, tear_down),
		cmocka_unit_test_setup_teardown(line_is_up_while_something_is_pending_and_wanted, set_up, tear_down),
		cmocka_unit_test_setup_teardown(transmitter_interrupts_once_until_it_is_used_again, set_up, tear_down),
		cmocka_unit_test_setup_teardown(registers_keep_what_they_keep, set_up, tear_down),
		cmocka_unit_test_setup_teardown(fifo_says_that_it_is_one_and_can_be_cleared, set_up, tear_down),
		cmocka_unit_test_setup_teardown(loop_back_stays_inside, set_up, tear_down),
		cmocka_unit_test(output_that_waits_holds_up_nobody_else),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
