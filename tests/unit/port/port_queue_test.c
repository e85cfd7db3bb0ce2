/* SPDX-License-Identifier: MIT */
/*
 * The bounded message queue below both ports, and the doorbell tables where only the tables can be
 * reached.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cmocka.h>

#include "port/doorbells.h"
#include "port/queue.h"
#include "port_fixture.h"

static enum vmb_status
push(struct port_queue *queue, uint32_t number)
{
	uint8_t message[VMB_MSG_MAX_BYTES];

	t_message_fill(message, sizeof(message), VMB_MSG_OFFER_CHANNEL, number);
	return port_queue_push(queue, number + 1, message, sizeof(message), NULL, 0);
}

static void
queue_holds_its_limit_and_no_more(void **state)
{
	static const uint32_t limits[] = { 1, 2, 15, 16, 17, 31, 33, 100, 1000 };

	(void)state;
	for (unsigned i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
		struct port_queue queue;

		port_queue_init(&queue, limits[i]);
		for (uint32_t n = 0; n < limits[i]; n++)
			assert_int_equal(push(&queue, n), VMB_OK);
		assert_int_equal(push(&queue, 0), VMB_E_LIMIT);
		assert_int_equal(queue.count, limits[i]);
		port_queue_pop(&queue);
		assert_int_equal(push(&queue, 0), VMB_OK);
		assert_int_equal(push(&queue, 0), VMB_E_LIMIT);
		port_queue_clear(&queue);
		assert_null(port_queue_front(&queue));
	}
}

/* Random pushes and pops against two counters. Replay: KMCL_SEED=<seed>. */
static void
queue_keeps_order_however_it_grows(void **state)
{
	const char *text = getenv("KMCL_SEED");
	unsigned seed = text != NULL ? (unsigned)strtoul(text, NULL, 0) : (unsigned)getpid();
	unsigned random = seed;
	struct port_queue queue;
	uint32_t pushed = 0, popped = 0;

	(void)state;
	print_message("KMCL_SEED=%u\n", seed);
	port_queue_init(&queue, 300);
	for (unsigned step = 0; step < 20000; step++) {
		/* Phases that mostly fill and phases that mostly drain. */
		bool fills = step / 700 % 2 == 0;

		if (rand_r(&random) % 10 < (fills ? 7 : 3)) {
			enum vmb_status st = push(&queue, pushed);

			assert_int_equal(st, pushed - popped < 300 ? VMB_OK : VMB_E_LIMIT);
			pushed += st == VMB_OK;
		} else if (pushed > popped) {
			struct port_message *front = port_queue_front(&queue);

			assert_non_null(front);
			assert_int_equal(t_u32(front->data, 8), popped);
			assert_int_equal(front->connection_id, popped + 1);
			port_queue_pop(&queue);
			popped++;
		} else {
			assert_null(port_queue_front(&queue));
		}
	}
	port_queue_clear(&queue);
}

static void
queue_gives_its_memory_back_when_drained(void **state)
{
	struct port_queue queue;

	(void)state;
	port_queue_init(&queue, 1000);
	for (uint32_t n = 0; n < 500; n++)
		assert_int_equal(push(&queue, n), VMB_OK);
	while (queue.count > 0)
		port_queue_pop(&queue);
	assert_ptr_equal(queue.slots, queue.kept);
	assert_int_equal(push(&queue, 1), VMB_OK);
	port_queue_clear(&queue);
}

static void
queue_owns_duplicates_of_descriptors(void **state)
{
	unsigned before = t_fd_count();
	int fds[2] = { eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC) };
	uint8_t message[8] = { VMB_MSG_OPEN_CHANNEL };
	struct port_queue queue;

	(void)state;
	port_queue_init(&queue, 4);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(port_queue_push(&queue, 1, message, sizeof(message), fds, 2), VMB_OK);
	close(fds[0]);
	close(fds[1]);
	assert_int_equal(t_fd_count(), before + 6);
	assert_int_not_equal(fcntl(port_queue_front(&queue)->fds[0], F_GETFD) & FD_CLOEXEC, 0);
	port_queue_pop(&queue);
	assert_int_equal(t_fd_count(), before + 4);
	port_queue_clear(&queue);
	assert_int_equal(t_fd_count(), before);
}

static void
queue_takes_nothing_when_a_descriptor_cannot_be_duplicated(void **state)
{
	unsigned before = t_fd_count();
	int fds[2] = { eventfd(0, EFD_CLOEXEC), -1 };
	uint8_t message[8] = { VMB_MSG_OPEN_CHANNEL };
	struct port_queue queue;

	(void)state;
	port_queue_init(&queue, 4);
	assert_int_equal(port_queue_push(&queue, 1, message, sizeof(message), fds, 2), VMB_E_IO);
	assert_int_equal(queue.count, 0);
	close(fds[0]);
	port_queue_clear(&queue);
	assert_int_equal(t_fd_count(), before);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(queue_holds_its_limit_and_no_more),
		cmocka_unit_test(queue_keeps_order_however_it_grows),
		cmocka_unit_test(queue_gives_its_memory_back_when_drained),
		cmocka_unit_test(queue_owns_duplicates_of_descriptors),
		cmocka_unit_test(queue_takes_nothing_when_a_descriptor_cannot_be_duplicated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
