/* SPDX-License-Identifier: MIT */
/*
 * Server channels that go on under another driver which knows nothing of saving: kmcl_bus_save() and kmcl_bus_inherit(),
 * here within one process and under traffic.
 */
#include "t_kmcl.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_inherit.h"
#include "kmcl_state_interface.h"

static void
enable(struct t_channel *server, const struct t_bus *bus, const struct t_target *target)
{
	t_server_new(server, bus, target);
	assert_int_equal(VmbChannelEnable(server->handle), STATUS_SUCCESS);
}

/* The old driver goes; its channel is parked. */
static void
retire(struct t_channel *server)
{
	t_channel_free(server);
}

static void
drivers_follow_each_other_under_traffic(void **state)
{
	static struct t_channel servers[6], client;
	struct t_target target = t_target(81);
	struct t_traffic traffic[2];
	_Atomic bool stop = false;
	struct t_bus bus;

	(void)state;
	t_bus_open(&bus, false);
	enable(&servers[0], &bus, &target);
	VmbChannelStart(servers[0].handle);
	t_client_new(&client, &target);
	assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
	t_count_wait(&client.post_started, 1);
	for (unsigned i = 0; i < 2; i++) {
		traffic[i] = (struct t_traffic){ .channel = &client,
			                         .stop = &stop,
			                         .seed = 5 + i,
			                         .with_requests = i != 0,
			                         .external = true };
		t_traffic_start(&traffic[i]);
	}
	for (unsigned i = 1; i < 6; i++) {
		uint64_t goal = atomic_load(&client.completed) + 500;
		size_t bytes;
		void *saved;

		atomic_store(&servers[i - 1].answer, T_ANSWER_MIX);
		while (atomic_load(&client.completed) < goal)
			sched_yield();
		assert_int_equal(kmcl_bus_hold(bus.host), VMB_OK);
		assert_int_equal(kmcl_bus_save(bus.host, &saved, &bytes), VMB_OK);
		retire(&servers[i - 1]);
		if (i % 2 != 0)
			t_bus_move(&bus);
		assert_int_equal(kmcl_bus_inherit(bus.host, saved, bytes), VMB_OK);
		free(saved);
		enable(&servers[i], &bus, &target);
		/* It keeps no state, so it is told, and before Enable has returned. */
		assert_int_equal(t_count_get(&servers[i].opened), 1);
		VmbChannelStart(servers[i].handle);
		assert_int_equal(kmcl_bus_release(bus.host), VMB_OK);
		t_count_wait(&servers[i].post_started, 1);
	}
	for (uint64_t goal = atomic_load(&client.completed) + 500;
	     atomic_load(&client.completed) < goal;)
		sched_yield();
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 2; i++)
		t_traffic_join(&traffic[i]);
	assert_int_equal(t_ask(&client, 1, -1), STATUS_SUCCESS);
	assert_int_equal(t_count_get(&client.closed), 0);
	assert_int_equal(t_count_get(&client.started), 1);
	assert_int_equal(atomic_load(&client.removed), 0);
	t_channel_free(&client);
	t_channel_free(&servers[5]);
	t_bus_close(&bus);
}

/* ---- what drivers keep -------------------------------------------------------------------------------------- */

static void
what_was_agreed_goes_on(void **state)
{
	static struct t_channel first, second, client;
	static const char agreed[] = "version 6.0, two subchannels";
	struct t_target target = t_target(82);
	char known[KMCL_STATE_BYTES_MAX];
	uint32_t filled;
	struct t_bus bus;
	size_t bytes;
	void *saved;

	(void)state;
	t_bus_open(&bus, false);
	enable(&first, &bus, &target);
	VmbChannelStart(first.handle);
	assert_int_equal(kmcl_keep_state(first.handle, "old", 4), STATUS_SUCCESS);
	t_client_new(&client, &target);
	assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
	t_count_wait(&client.post_started, 1);
	/* An open begins with nothing. */
	assert_int_equal(kmcl_read_state(first.handle, known, sizeof(known), &filled),
	                 STATUS_NOT_FOUND);
	assert_int_equal(kmcl_keep_state(first.handle, "first", 6), STATUS_SUCCESS);
	assert_int_equal(kmcl_keep_state(first.handle, agreed, sizeof(agreed)), STATUS_SUCCESS);
	assert_int_equal(kmcl_bus_hold(bus.host), VMB_OK);
	assert_int_equal(kmcl_bus_save(bus.host, &saved, &bytes), VMB_OK);
	retire(&first);
	t_bus_move(&bus);
	assert_int_equal(kmcl_bus_inherit(bus.host, saved, bytes), VMB_OK);
	free(saved);
	enable(&second, &bus, &target);
	atomic_store(&second.is_open, true); /* the driver knows without being told */
	assert_int_equal(t_count_get(&second.opened), 0);
	assert_int_equal(kmcl_read_state(second.handle, known, 3, &filled),
	                 STATUS_BUFFER_TOO_SMALL);
	assert_int_equal(filled, sizeof(agreed));
	assert_int_equal(kmcl_read_state(second.handle, known, sizeof(known), &filled),
	                 STATUS_SUCCESS);
	assert_int_equal(filled, sizeof(agreed));
	assert_memory_equal(known, agreed, sizeof(agreed));
	VmbChannelStart(second.handle);
	assert_int_equal(kmcl_bus_release(bus.host), VMB_OK);
	assert_int_equal(t_ask(&client, 3, -1), STATUS_SUCCESS);
	/* Another open is another story. */
	t_channel_free(&client);
	t_client_new(&client, &target);
	assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
	t_count_wait(&client.post_started, 1);
	assert_int_equal(t_count_get(&second.opened), 1);
	assert_int_equal(kmcl_read_state(second.handle, known, sizeof(known), &filled),
	                 STATUS_NOT_FOUND);
	t_channel_free(&client);
	t_channel_free(&second);
	t_bus_close(&bus);
}

/* Subchannels are enabled by the new driver after their primary, and go on as it did. */
static void
family_goes_on(void **state)
{
	static struct t_channel primaries[2], subs[2], client, sub_client;
	struct t_target target = t_target(84), none = t_target(85);
	char known[8];
	uint32_t filled;
	struct t_bus bus;
	size_t bytes;
	void *saved;

	(void)state;
	t_bus_open(&bus, false);
	enable(&primaries[0], &bus, &target);
	VmbChannelStart(primaries[0].handle);
	t_client_new(&client, &target);
	assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
	t_count_wait(&client.post_started, 1);
	t_count_wait(&primaries[0].post_started, 1);
	assert_int_equal(kmcl_keep_state(primaries[0].handle, "1 sub", 6), STATUS_SUCCESS);
	for (unsigned i = 0; i < 2; i++) {
		if (i == 1) {
			assert_int_equal(kmcl_bus_hold(bus.host), VMB_OK);
			assert_int_equal(kmcl_bus_save(bus.host, &saved, &bytes), VMB_OK);
			/* As drivers do: a primary that ends takes its subchannels along. */
			VmbChannelDisable(primaries[0].handle);
			t_channel_free(&subs[0]);
			t_channel_free(&primaries[0]);
			t_bus_move(&bus);
			assert_int_equal(kmcl_bus_inherit(bus.host, saved, bytes), VMB_OK);
			free(saved);
			enable(&primaries[1], &bus, &target);
			atomic_store(&primaries[1].is_open, true);
			assert_int_equal(
			    kmcl_read_state(primaries[1].handle, known, sizeof(known), &filled),
			    STATUS_SUCCESS);
			VmbChannelStart(primaries[1].handle);
		}
		t_server_new(&subs[i], &bus, &none);
		assert_int_equal(
		    VmbChannelInitSetPrimaryChannel(subs[i].handle, primaries[i].handle),
		    STATUS_SUCCESS);
		assert_int_equal(VmbChannelEnable(subs[i].handle), STATUS_SUCCESS);
		VmbChannelStart(subs[i].handle);
		if (i == 1) {
			assert_int_equal(t_count_get(&subs[1].opened), 1);
			assert_int_equal(kmcl_bus_release(bus.host), VMB_OK);
			break;
		}
		t_client_new(&sub_client, &none);
		assert_int_equal(VmbChannelInitSetPrimaryChannel(sub_client.handle, client.handle),
		                 STATUS_SUCCESS);
		assert_int_equal(VmbChannelEnable(sub_client.handle), STATUS_SUCCESS);
		t_count_wait(&sub_client.post_started, 1);
	}
	assert_int_equal(t_ask(&client, 3, -1), STATUS_SUCCESS);
	assert_int_equal(t_ask(&sub_client, 4, -1), STATUS_SUCCESS);
	assert_int_equal(t_count_get(&client.closed), 0);
	assert_int_equal(t_count_get(&sub_client.closed), 0);
	t_channel_free(&sub_client);
	t_channel_free(&client);
	t_count_wait(&primaries[1].closed, 1);
	t_channel_free(&subs[1]);
	t_channel_free(&primaries[1]);
	t_bus_close(&bus);
}

static void *
pause_once_suspended(void *ctx)
{
	struct t_channel *c = ctx;

	t_count_wait(&c->suspended, 1);
	VmbChannelPause(c->handle);
	return NULL;
}

/* It goes on as if nobody had asked, and what the driver pauses meanwhile stays paused. */
static void
driver_that_keeps_packets_is_not_replaced(void **state)
{
	static struct t_channel server, client, other_server, other_client;
	struct t_target target = t_target(86), other = t_target(87);
	pthread_t pauses_other;
	uint8_t byte = 1;
	struct t_bus bus;
	size_t bytes;
	void *saved;

	(void)state;
	t_bus_open(&bus, false);
	/* The first one is paused while the save waits for the second. */
	enable(&other_server, &bus, &other);
	VmbChannelStart(other_server.handle);
	enable(&server, &bus, &target);
	VmbChannelStart(server.handle);
	t_client_new(&client, &target);
	t_client_new(&other_client, &other);
	assert_int_equal(VmbChannelEnable(client.handle), STATUS_SUCCESS);
	assert_int_equal(VmbChannelEnable(other_client.handle), STATUS_SUCCESS);
	t_count_wait(&client.post_started, 1);
	t_count_wait(&other_client.post_started, 1);
	t_count_wait(&other_server.post_started, 1);
	assert_int_equal(pthread_create(&pauses_other, NULL, pause_once_suspended, &other_server), 0);
	atomic_store(&server.keep_in_suspend, true);
	atomic_store(&server.answer, T_ANSWER_KEEP);
	assert_int_equal(
	    t_send(&client, &byte, 1, VMBUS_CHANNEL_FORMAT_FLAG_WAIT_FOR_COMPLETION, NULL),
	    STATUS_SUCCESS);
	t_count_wait(&server.received, 1);
	assert_int_equal(kmcl_bus_hold(bus.host), VMB_OK);
	assert_int_equal(kmcl_bus_save(bus.host, &saved, &bytes), VMB_E_TIMEOUT);
	assert_null(saved);
	pthread_join(pauses_other, NULL);
	assert_int_equal(kmcl_bus_release(bus.host), VMB_OK);
	atomic_store(&server.answer, T_ANSWER_NOW);
	t_channel_answer_kept(&server);
	assert_int_equal(t_ask(&client, 3, -1), STATUS_SUCCESS);
	assert_int_equal(t_ask(&other_client, 4, 50), STATUS_CANCELLED);
	VmbChannelStart(other_server.handle);
	assert_int_equal(t_ask(&other_client, 5, -1), STATUS_SUCCESS);
	atomic_store(&server.keep_in_suspend, false);
	t_channel_free(&other_client);
	t_channel_free(&other_server);
	t_channel_free(&client);
	t_channel_free(&server);
	t_bus_close(&bus);
}

static void
calls_that_cannot_be(void **state)
{
	static struct t_channel server, client;
	struct t_target target = t_target(83);
	char big[KMCL_STATE_BYTES_MAX + 1] = { 0 };
	struct t_bus bus;
	uint32_t filled;
	size_t bytes;
	void *saved;

	(void)state;
	t_bus_open(&bus, false);
	enable(&server, &bus, &target);
	t_client_new(&client, &target);
	assert_int_equal(kmcl_keep_state(NULL, big, 1), STATUS_INVALID_PARAMETER);
	assert_int_equal(kmcl_keep_state(client.handle, big, 1), STATUS_INVALID_PARAMETER);
	assert_int_equal(kmcl_keep_state(server.handle, NULL, 1), STATUS_INVALID_PARAMETER);
	assert_int_equal(kmcl_keep_state(server.handle, big, sizeof(big)),
	                 STATUS_INVALID_PARAMETER);
	assert_int_equal(kmcl_keep_state(server.handle, big, sizeof(big) - 1), STATUS_SUCCESS);
	assert_int_equal(kmcl_keep_state(server.handle, NULL, 0), STATUS_SUCCESS);
	assert_int_equal(kmcl_read_state(server.handle, big, 1, NULL), STATUS_INVALID_PARAMETER);
	assert_int_equal(kmcl_read_state(server.handle, big, 1, &filled), STATUS_NOT_FOUND);
	assert_int_equal(kmcl_bus_save(NULL, &saved, &bytes), VMB_E_STATE);
	assert_int_equal(kmcl_bus_save(bus.guest, &saved, &bytes), VMB_E_STATE);
	assert_int_equal(kmcl_bus_save(bus.host, &saved, &bytes), VMB_E_STATE);
	assert_int_equal(kmcl_bus_hold(bus.host), VMB_OK);
	assert_int_equal(kmcl_bus_save(bus.host, &saved, &bytes), VMB_OK);
	assert_int_equal(kmcl_bus_inherit(bus.host, NULL, 0), VMB_E_INVALID);
	/* Nothing but the whole is taken. */
	for (size_t cut = 0; cut < bytes; cut++) {
		if (cut != 8) /* a state of no channel */
			assert_int_equal(kmcl_bus_inherit(bus.host, saved, cut), VMB_E_MALFORMED);
	}
	((uint8_t *)saved)[4] ^= 1;
	assert_int_equal(kmcl_bus_inherit(bus.host, saved, bytes), VMB_E_UNSUPPORTED);
	((uint8_t *)saved)[0] ^= 1;
	assert_int_equal(kmcl_bus_inherit(bus.host, saved, bytes), VMB_E_MALFORMED);
	((uint8_t *)saved)[0] ^= 1;
	((uint8_t *)saved)[4] ^= 1;
	assert_int_equal(kmcl_bus_inherit(bus.host, saved, bytes), VMB_OK);
	free(saved);
	/* Nobody takes it. */
	assert_int_equal(kmcl_bus_release(bus.host), VMB_OK);
	assert_int_equal(kmcl_bus_inherit(bus.host, big, 8), VMB_E_STATE);
	t_channel_free(&client);
	t_channel_free(&server);
	t_bus_close(&bus);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(drivers_follow_each_other_under_traffic),
		cmocka_unit_test(what_was_agreed_goes_on),
		cmocka_unit_test(family_goes_on),
		cmocka_unit_test(driver_that_keeps_packets_is_not_replaced),
		cmocka_unit_test(calls_that_cannot_be),
	};

	t_watchdog(100);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
