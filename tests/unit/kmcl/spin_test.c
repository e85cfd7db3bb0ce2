/* SPDX-License-Identifier: MIT */
/* How long a channel is polled (kmcl_spin.h), and programs that may run on one processor only. */
#include "t_kmcl.h"

#include <sched.h>
#include <stdlib.h>

#include "kmcl/kmcl_channel.h"
#include "kmcl/kmcl_spin.h"

#define LONGEST 50000u
#define TAKEN (KMCL_SPIN_TAKEN * LONGEST)

static void
time_follows_success(void **state)
{
	struct kmcl_spin spin;

	(void)state;
	kmcl_spin_init(&spin, LONGEST, false);
	assert_int_equal(kmcl_spin_begin(&spin), LONGEST);
	kmcl_spin_miss(&spin);
	assert_int_equal(kmcl_spin_begin(&spin), LONGEST); /* the first wait below the longest time is a try */
	assert_int_equal(kmcl_spin_begin(&spin), LONGEST / 2);
	while (atomic_load(&spin.ns) != 0)
		kmcl_spin_miss(&spin);
	for (unsigned i = 2; i < KMCL_SPIN_PROBE; i++)
		assert_int_equal(kmcl_spin_begin(&spin), 0);
	assert_int_equal(kmcl_spin_begin(&spin), LONGEST);
	kmcl_spin_hit(&spin, 1000);
	assert_int_equal(kmcl_spin_begin(&spin), 4 * 1000 + 8 * KMCL_SPIN_FLOOR_NS);
	kmcl_spin_hit(&spin, LONGEST);
	assert_int_equal(kmcl_spin_begin(&spin), LONGEST);
	assert_true(kmcl_spin_is_settled(&spin));
	/* Whoever never polls goes on so. */
	kmcl_spin_init(&spin, 0, false);
	kmcl_spin_hit(&spin, 1);
	assert_int_equal(kmcl_spin_begin(&spin), 0);
}

/* On one processor a packet that took long came in spite of the polling. */
static void
processor_that_is_gone_for_long_is_a_miss(void **state)
{
	struct kmcl_spin spin;
	uint32_t rounds = 0;

	(void)state;
	kmcl_spin_init(&spin, LONGEST, true);
	kmcl_spin_hit(&spin, TAKEN - 1);
	assert_int_equal(atomic_load(&spin.ns), LONGEST);
	assert_false(kmcl_spin_is_settled(&spin));
	kmcl_spin_hit(&spin, TAKEN);
	assert_int_equal(atomic_load(&spin.ns), LONGEST / 2);
	/* A turn of the others takes as long as it likes: the clock is due after each. */
	assert_true(kmcl_spin_relax(&spin, &rounds));
	kmcl_spin_init(&spin, LONGEST, false);
	kmcl_spin_hit(&spin, TAKEN);
	assert_int_equal(atomic_load(&spin.ns), LONGEST);
	for (unsigned i = 1; i < KMCL_SPIN_LOOKS; i++)
		assert_false(kmcl_spin_relax(&spin, &rounds));
	assert_true(kmcl_spin_relax(&spin, &rounds));
}

/* Requests, traffic beside them, and both ends on loops of their own. */
static void
one_processor_is_enough(void **state)
{
	static struct t_channel server, client;
	struct t_target target = t_target(40);
	_Atomic bool stop = false;
	struct t_traffic traffic = { .channel = &client, .stop = &stop, .seed = t_seed(__func__), .with_requests = true };
	struct kmcl_loop *loops[2];
	cpu_set_t before;
	struct t_bus bus;

	(void)state;
	t_watchdog(60);
	t_one_processor(&before);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(kmcl_loop_create(NULL, &loops[i]), VMB_OK);
	t_bus_open(&bus, false);
	t_server_new(&server, &bus, &target);
	t_client_new(&client, &target);
	atomic_store(&server.answer, T_ANSWER_MIX);
	assert_int_equal(kmcl_channel_set_loop(server.handle, loops[0]), STATUS_SUCCESS);
	assert_int_equal(kmcl_channel_set_loop(client.handle, loops[1]), STATUS_SUCCESS);
	assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
	VmbChannelStart(server.handle);
	assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
	t_traffic_start(&traffic);
	while (atomic_load(&client.completed) < 1000)
		assert_int_equal(t_ask(&client, 3, -1), STATUS_SUCCESS);
	atomic_store(&stop, true);
	t_traffic_join(&traffic);
	assert_true(kmcl_spin_yields(&kmcl_channel_from_handle(client.handle)->rx.spin));
	t_channel_free(&client);
	t_channel_free(&server);
	t_bus_close(&bus);
	for (unsigned i = 0; i < 2; i++)
		kmcl_loop_destroy(loops[i]);
	assert_int_equal(sched_setaffinity(0, sizeof(before), &before), 0);
}

static void
longest_poll_may_come_from_the_environment(void **state)
{
	static const struct {
		const char *text;
		uint32_t us;
	} values[] = { { "0", 0 },        { "2000", 2000 }, { "1000000", 1000000 }, { "1000001", 50 },
		       { "-1", 50 },      { "", 50 },       { "many", 50 },         { "7 us", 50 } };
	static struct t_channel server, client;
	struct t_target target = t_target(41);
	struct kmcl_loop *loop;
	struct t_bus bus;

	(void)state;
	t_watchdog(60);
	t_bus_open(&bus, false);
	for (unsigned i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
		assert_int_equal(setenv("KMCL_SPIN_US", values[i].text, 1), 0);
		assert_int_equal(kmcl_loop_create(NULL, &loop), VMB_OK);
		t_server_new(&server, &bus, &target);
		t_client_new(&client, &target);
		assert_int_equal(kmcl_channel_set_loop(client.handle, loop), STATUS_SUCCESS);
		assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
		VmbChannelStart(server.handle);
		assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
		assert_int_equal(t_ask(&client, 3, -1), STATUS_SUCCESS);
		assert_int_equal(atomic_load(&kmcl_channel_from_handle(client.handle)->rx.spin.longest_ns),
		                 values[i].us * 1000);
		t_channel_free(&client);
		t_channel_free(&server);
		kmcl_loop_destroy(loop);
	}
	assert_int_equal(unsetenv("KMCL_SPIN_US"), 0);
	t_bus_close(&bus);
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(time_follows_success),
		cmocka_unit_test(processor_that_is_gone_for_long_is_a_miss),
		cmocka_unit_test(one_processor_is_enough),
		cmocka_unit_test(longest_poll_may_come_from_the_environment),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
