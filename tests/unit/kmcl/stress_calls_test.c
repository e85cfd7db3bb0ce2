/* SPDX-License-Identifier: MIT */
/*
 * Random programs of API calls from several threads that do not agree with each other: Enable, Disable, Start and Pause are
 * the caller's to serialise, but breaking that must neither corrupt memory nor hang (GEN-7).
 */
#include "t_kmcl.h"

#include <sched.h>

#define THREADS 4
#define CALLS 10000

struct program {
	struct t_channel *channels[2];
	uint64_t seed;
	pthread_t thread;
};

static void
call_something(struct t_channel *c, struct t_random *random)
{
	struct kmcl_channel_stats stats;
	uint8_t bytes[64] = { (uint8_t)t_random(random) };
	char text[64];

	switch (t_below(random, 14)) {
	case 0:
	case 1:
		if (VmbChannelEnable(c->handle) != STATUS_SUCCESS)
			sched_yield();
		break;
	case 2:
		VmbChannelDisable(c->handle);
		break;
	case 3:
	case 4:
		VmbChannelStart(c->handle);
		break;
	case 5:
		VmbChannelPause(c->handle);
		VmbChannelStart(c->handle);
		break;
	case 6:
		VmbChannelSetIncomingProcessingAtPassive(c->handle, t_below(random, 2) != 0);
		break;
	case 7:
		VmbChannelSetTransactionQuota(c->handle, 1 + t_below(random, 50));
		break;
	case 8:
		kmcl_channel_get_stats(c->handle, &stats);
		kmcl_channel_get_failure(c->handle, text, sizeof(text));
		break;
	case 9:
		if (!c->server)
			(void)t_ask(c, t_random(random), (int)t_below(random, 3));
		break;
	default:
		(void)t_send(c, bytes, t_below(random, 64),
		             t_below(random, 2) != 0 ? VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION
		                                     : 0,
		             NULL);
		break;
	}
}

static void *
run_program(void *ctx)
{
	struct program *p = ctx;
	struct t_random random = { p->seed };

	for (int i = 0; i < CALLS; i++)
		call_something(p->channels[t_below(&random, 2)], &random);
	return NULL;
}

static void
random_calls_from_several_threads_neither_hang_nor_lose_packets(void **state)
{
	struct t_random random = { t_seed(__func__) };
	struct t_target target = t_target(80);
	static struct t_channel server, client;

	(void)state;
	t_watchdog(90);
	for (int loopback = 0; loopback < 2; loopback++) {
		struct program programs[THREADS];
		struct t_bus bus;

		t_bus_open(&bus, loopback != 0);
		t_server_new(&server, &bus, &target);
		t_client_new(&client, &target);
		atomic_store(&server.answer, T_ANSWER_MIX);
		for (unsigned i = 0; i < THREADS; i++) {
			programs[i] = (struct program){ { &server, &client }, t_random(&random), 0 };
			assert_int_equal(pthread_create(&programs[i].thread, NULL, run_program,
			                                &programs[i]),
			                 0);
		}
		for (unsigned i = 0; i < THREADS; i++)
			pthread_join(programs[i].thread, NULL);
		t_channel_free(&client);
		t_channel_free(&server);
		t_bus_close(&bus);
	}
}

#define MEETINGS 1000

static pthread_barrier_t meeting;

static void *
pause_at_each_meeting(void *ctx)
{
	struct t_channel *c = ctx;

	for (int i = 0; i < MEETINGS; i++) {
		pthread_barrier_wait(&meeting);
		VmbChannelPause(c->handle);
		pthread_barrier_wait(&meeting);
	}
	return NULL;
}

/* The state context may come to it after both calls, and find nothing to do. */
static void
a_pause_ends_that_a_start_overtakes(void **state)
{
	struct t_target target = t_target(81);
	static struct t_channel server, client;
	struct t_bus bus;
	pthread_t thread;

	(void)state;
	t_watchdog(90);
	t_bus_open(&bus, true);
	t_server_new(&server, &bus, &target);
	t_client_new(&client, &target);
	assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
	assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
	assert_int_equal(pthread_barrier_init(&meeting, NULL, 2), 0);
	assert_int_equal(pthread_create(&thread, NULL, pause_at_each_meeting, &client), 0);
	for (int i = 0; i < MEETINGS; i++) {
		while (!atomic_load(&client.running))
			sched_yield();
		pthread_barrier_wait(&meeting);
		VmbChannelStart(client.handle);
		pthread_barrier_wait(&meeting);
		VmbChannelStart(client.handle);
	}
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&meeting);
	t_channel_free(&client);
	t_channel_free(&server);
	t_bus_close(&bus);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pause_ends_that_a_start_overtakes),
		cmocka_unit_test(random_calls_from_several_threads_neither_hang_nor_lose_packets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
