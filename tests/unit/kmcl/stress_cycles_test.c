/* SPDX-License-Identifier: MIT */
/*
 * Channels that are opened, paused, closed and lost while several threads send: every accepted packet ends once, state
 * callbacks keep their order, nothing hangs, and nothing is left behind.
 */
#include "t_kmcl.h"

#include <sched.h>

#define TRAFFIC 3

/* Who ends the connection in a cycle. */
enum ender {
	CLIENT_ENDS,
	SERVER_ENDS,
	BOTH_END,
};

static void *
disable_thread(void *ctx)
{
	struct t_channel *c = ctx;

	VmbChannelDisable(c->handle);
	return NULL;
}

static void
let_some_packets_pass(struct t_channel *c, struct t_random *random)
{
	uint64_t target = atomic_load(&c->completed) + t_below(random, 300);

	while (atomic_load(&c->completed) < target)
		sched_yield();
}

static void
cycle(bool loopback, enum ender who, unsigned cycles, int answer)
{
	struct t_random random = { t_seed(__func__) };
	struct t_target target = t_target(1);
	static struct t_channel server, client;
	struct t_traffic traffic[TRAFFIC];
	_Atomic bool stop = false;
	struct t_bus bus;
	unsigned before;

	t_watchdog(60);
	t_bus_open(&bus, loopback);
	t_server_new(&server, &bus, &target);
	t_client_new(&client, &target);
	atomic_store(&server.answer, answer);
	assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
	VmbChannelStart(server.handle);
	assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
	t_count_wait(&client.post_started, 1);
	before = t_open_descriptors();
	for (unsigned i = 0; i < TRAFFIC; i++) {
		traffic[i] = (struct t_traffic){ .channel = &client, .stop = &stop,
			.seed = t_random(&random), .with_requests = i != 0, .external = i == 2 };
		t_traffic_start(&traffic[i]);
	}
	for (unsigned i = 0; i < cycles; i++) {
		uint64_t closed = t_count_get(&client.closed);
		uint64_t ready = t_count_get(&client.post_started);
		pthread_t other;

		let_some_packets_pass(&client, &random);
		switch (who) {
		case CLIENT_ENDS:
			VmbChannelDisable(client.handle);
			break;
		case SERVER_ENDS:
			VmbChannelDisable(server.handle);
			t_count_wait(&client.closed, closed + 1);
			VmbChannelDisable(client.handle);
			break;
		case BOTH_END:
			assert_int_equal(pthread_create(&other, NULL, disable_thread, &server), 0);
			VmbChannelDisable(client.handle);
			pthread_join(other, NULL);
			break;
		}
		assert_int_equal(t_count_get(&client.closed), closed + 1);
		if (who != CLIENT_ENDS) {
			assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
			VmbChannelStart(server.handle);
		}
		assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
		t_count_wait(&client.post_started, ready + 1);
	}
	/* Those of an offer that was found just before it went are on their way out. */
	while (t_open_descriptors() < before - 2 || t_open_descriptors() > before + 2)
		sched_yield();
	atomic_store(&stop, true);
	for (unsigned i = 0; i < TRAFFIC; i++)
		t_traffic_join(&traffic[i]);
	t_channel_free(&client);
	t_channel_free(&server);
	t_bus_close(&bus);
}

static void
client_disables_under_traffic_on_loopback(void **state)
{
	(void)state;
	cycle(true, CLIENT_ENDS, 60, T_ANSWER_NOW);
}

static void
client_disables_under_traffic_on_unix(void **state)
{
	(void)state;
	cycle(false, CLIENT_ENDS, 60, T_ANSWER_MIX);
}

static void
server_disables_under_traffic_on_loopback(void **state)
{
	(void)state;
	cycle(true, SERVER_ENDS, 60, T_ANSWER_MIX);
}

static void
server_disables_under_traffic_on_unix(void **state)
{
	(void)state;
	cycle(false, SERVER_ENDS, 60, T_ANSWER_NOW);
}

static void
both_disable_at_once_under_traffic(void **state)
{
	(void)state;
	cycle(true, BOTH_END, 40, T_ANSWER_MIX);
	cycle(false, BOTH_END, 40, T_ANSWER_MIX);
}

/* Pauses on both sides, quota and PASSIVE switched meanwhile. */
static void
nothing_is_lost_over_pauses(void **state)
{
	struct t_random random = { t_seed(__func__) };
	struct t_target target = t_target(2);
	static struct t_channel server, client;
	struct t_traffic traffic[TRAFFIC];
	_Atomic bool stop = false;
	struct t_bus bus;

	(void)state;
	t_watchdog(60);
	t_bus_open(&bus, false);
	t_server_new(&server, &bus, &target);
	t_client_new(&client, &target);
	atomic_store(&server.answer, T_ANSWER_MIX);
	assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
	VmbChannelStart(server.handle);
	assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
	t_count_wait(&client.post_started, 1);
	for (unsigned i = 0; i < TRAFFIC; i++) {
		traffic[i] = (struct t_traffic){ .channel = &client, .stop = &stop,
			.seed = t_random(&random), .with_requests = true, .external = i == 2 };
		t_traffic_start(&traffic[i]);
	}
	for (unsigned i = 0; i < 150; i++) {
		struct t_channel *c = t_below(&random, 2) != 0 ? &server : &client;

		switch (t_below(&random, 4)) {
		case 0:
			VmbChannelPause(c->handle);
			VmbChannelStart(c->handle);
			break;
		case 1:
			VmbChannelSetIncomingProcessingAtPassive(c->handle, t_below(&random, 2) != 0);
			break;
		case 2:
			VmbChannelSetTransactionQuota(c->handle, 1 + t_below(&random, 20));
			break;
		default:
			VmbChannelSetTransactionQuota(c->handle, 0xFFFFFFFF);
			break;
		}
		let_some_packets_pass(&client, &random);
	}
	atomic_store(&stop, true);
	for (unsigned i = 0; i < TRAFFIC; i++)
		t_traffic_join(&traffic[i]);
	/* A fence: what was accepted before it is answered before it. */
	assert_int_equal(t_ask(&client, 5, -1), STATUS_SUCCESS);
	while (atomic_load(&client.accepted) != atomic_load(&client.completed))
		sched_yield();
	assert_int_equal(atomic_load(&client.removed), 0);
	t_channel_free(&client);
	t_channel_free(&server);
	t_bus_close(&bus);
}

/* The server goes and comes while the guest is anywhere between finding the offer and talking. */
static void
server_disables_while_a_guest_opens(void **state)
{
	struct t_random random = { t_seed(__func__) };
	struct t_target target = t_target(3);
	static struct t_channel server, client;

	(void)state;
	t_watchdog(60);
	for (int loopback = 0; loopback < 2; loopback++) {
		struct t_bus bus;

		t_bus_open(&bus, loopback != 0);
		t_server_new(&server, &bus, &target);
		t_client_new(&client, &target);
		atomic_store(&client.ask_in_post_started, true);
		for (unsigned i = 0; i < 300; i++) {
			uint32_t spins = t_below(&random, 2000);

			assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
			assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
			VmbChannelStart(server.handle);
			while (spins-- != 0 && t_count_get(&server.opened) == 0)
				sched_yield();
			if (t_below(&random, 2) != 0)
				VmbChannelDisable(client.handle);
			VmbChannelDisable(server.handle);
			VmbChannelDisable(client.handle);
		}
		/* And after all that it still works. */
		assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
		VmbChannelStart(server.handle);
		assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
		assert_int_equal(t_ask(&client, 9, -1), STATUS_SUCCESS);
		t_channel_free(&client);
		t_channel_free(&server);
		t_bus_close(&bus);
	}
}

static void
a_driver_that_refuses_to_open_can_be_asked_again(void **state)
{
	struct t_target target = t_target(4);
	static struct t_channel server, client;

	(void)state;
	t_seed(__func__);
	t_watchdog(60);
	for (int loopback = 0; loopback < 2; loopback++) {
		struct t_bus bus;

		t_bus_open(&bus, loopback != 0);
		t_server_new(&server, &bus, &target);
		t_client_new(&client, &target);
		assert_int_equal(VmbChannelEnable(server.handle), STATUS_SUCCESS);
		VmbChannelStart(server.handle);
		for (unsigned i = 0; i < 40; i++) {
			struct t_channel *refuser = i % 2 != 0 ? &server : &client;
			uint64_t failures = t_count_get(&client.failures);
			uint64_t opened = t_count_get(&client.opened);

			atomic_store(&refuser->refuse_open, true);
			assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
			if (refuser == &server)
				t_count_wait(&client.failures, failures + 1);
			else
				t_count_wait(&client.opened, opened + 1);
			VmbChannelDisable(client.handle);
			atomic_store(&refuser->refuse_open, false);
		}
		assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
		assert_int_equal(t_ask(&client, 9, -1), STATUS_SUCCESS);
		t_channel_free(&client);
		t_channel_free(&server);
		t_bus_close(&bus);
	}
}

int
main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(client_disables_under_traffic_on_loopback),
		cmocka_unit_test(client_disables_under_traffic_on_unix),
		cmocka_unit_test(server_disables_under_traffic_on_loopback),
		cmocka_unit_test(server_disables_under_traffic_on_unix),
		cmocka_unit_test(both_disable_at_once_under_traffic),
		cmocka_unit_test(nothing_is_lost_over_pauses),
		cmocka_unit_test(server_disables_while_a_guest_opens),
		cmocka_unit_test(a_driver_that_refuses_to_open_can_be_asked_again),
	};

	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
