/* SPDX-License-Identifier: MIT */
/* From Disabled to Active: Enable, Start and what opening calls, on both sides. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "errand.h"

static void
enable_only(struct conf_channel *c)
{
	assert_int_equal(VmbChannelEnable(c->handle), STATUS_SUCCESS);
}

static void
send_word(struct conf_send *send, uint64_t word, NTSTATUS expected)
{
	assert_int_equal(VmbPacketSend(send->packet, &word, sizeof(word), NULL, 0), expected);
}

static uint64_t
word_of(const struct conf_packet *p)
{
	uint64_t word;

	assert_true(p->bytes >= sizeof(word));
	memcpy(&word, p->payload, sizeof(word));
	return word;
}

/* ---- order ------------------------------------------------------------------------------------------ */

static void
open_and_close_call_back_in_order_on_both_sides(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_channel *sides[] = { pair.server, pair.client };

	for (int i = 0; i < 2; i++)
		conf_expect_events(sides[i], "Opened Started PostStarted");
	VmbChannelDisable(pair.client->handle);
	conf_await_left(pair.server, CONF_CLOSED, 1);
	for (int i = 0; i < 2; i++) {
		conf_expect_events(sides[i], "Opened Started PostStarted Suspend Closed");
		assert_false(sides[i]->callbacks_overlapped);
		for (int event = 0; event < CONF_PNP_FAILURE; event++)
			assert_int_equal(sides[i]->event_irql[event], PASSIVE_LEVEL);
	}
}

static void
enable_returns_before_any_peer_acts(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);

	/* The client has nothing to find, then the server has nobody to open it. */
	enable_only(client);
	assert_int_equal(VmbChannelEnable(client->handle), STATUS_INVALID_DEVICE_STATE);
	conf_expect_events(client, "");
	VmbChannelDisable(client->handle);
	enable_only(server);
	assert_int_equal(VmbChannelEnable(server->handle), STATUS_INVALID_DEVICE_STATE);
	conf_expect_events(server, "");
	enable_only(client);
	conf_await_left(server, CONF_OPENED, 1);
	conf_await_left(client, CONF_POST_STARTED, 1);
}

static void
client_runs_by_itself_and_server_only_when_started(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);

	enable_only(server);
	enable_only(client);
	conf_await_left(client, CONF_POST_STARTED, 1);
	conf_await_left(server, CONF_OPENED, 1);
	/* Paused already, so this does nothing, and nothing is under way when it returns. */
	VmbChannelPause(server->handle);
	conf_expect_events(server, "Opened");
	VmbChannelStart(server->handle);
	conf_await_left(server, CONF_POST_STARTED, 1);
	conf_expect_events(server, "Opened Started PostStarted");
}

static void
server_may_be_started_before_the_peer_opens(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);

	enable_only(server);
	VmbChannelStart(server->handle);
	conf_expect_events(server, "");
	enable_only(client);
	conf_await_left(server, CONF_POST_STARTED, 1);
	conf_expect_events(server, "Opened Started PostStarted");
}

static void
start_right_after_enable_changes_nothing_for_a_client(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);

	enable_only(client);
	VmbChannelStart(client->handle);
	conf_enable(server);
	conf_await_left(client, CONF_POST_STARTED, 1);
	VmbChannelStart(client->handle);
	VmbChannelStart(server->handle);
	conf_await_left(server, CONF_POST_STARTED, 1);
	conf_fence((struct conf_pair){ server, client });
	VmbChannelDisable(client->handle);
	conf_expect_events(client, "Opened Started PostStarted Suspend Closed");
}

static void
start_does_not_wait_for_its_callbacks(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct conf_channel *sides[] = { pair.server, pair.client };

	for (int i = 0; i < 2; i++) {
		VmbChannelPause(sides[i]->handle);
		errand_hold(sides[i], CONF_STARTED);
		/* A call that waited would never come back. */
		VmbChannelStart(sides[i]->handle);
		conf_await_entered(sides[i], CONF_STARTED, 2);
		errand_let_go(sides[i]);
		conf_await_left(sides[i], CONF_POST_STARTED, 2);
	}
}

/* ---- Opened ------------------------------------------------------------------------------------------- */

static NTSTATUS
note_whether_server_opened(struct conf_channel *c, enum conf_event event)
{
	struct conf_channel *server = c->ctx;

	if (event != CONF_OPENED)
		return STATUS_SUCCESS;
	conf_lock(c->world);
	c->answer_bytes = server->left[CONF_OPENED];
	conf_unlock(c->world);
	return STATUS_SUCCESS;
}

static void
client_opens_after_servers_opened_returned(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);

	client->ctx = server;
	client->on_event = note_whether_server_opened;
	errand_hold(server, CONF_OPENED);
	conf_enable(server);
	enable_only(client);
	conf_await_entered(server, CONF_OPENED, 1);
	errand_let_go(server);
	conf_await_left(client, CONF_POST_STARTED, 1);
	assert_int_equal(client->answer_bytes, 1);
}

static NTSTATUS
make_gpadl_in_opened(struct conf_channel *c, enum conf_event event)
{
	void **memory = c->ctx;
	UINT32 gpadl = 0;

	if (event != CONF_OPENED)
		return STATUS_SUCCESS;
	memory[1] = (void *)(ULONG_PTR)(ULONG)VmbChannelCreateGpadlFromBuffer(
	        c->handle, 0, memory[0], PAGE_SIZE, &gpadl);
	VmbChannelDeleteGpadl(c->handle, gpadl);
	return STATUS_SUCCESS;
}

static void
gpadl_can_be_made_inside_opened(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);
	void *memory[2] = { conf_pool(PAGE_SIZE, 1), client };

	client->ctx = memory;
	client->on_event = make_gpadl_in_opened;
	conf_open(server, client);
	assert_ptr_equal(memory[1], NULL); /* STATUS_SUCCESS */
	conf_channel_free(client);
	conf_pool_free(memory[0]);
}

static NTSTATUS
refuse_first_open(struct conf_channel *c, enum conf_event event)
{
	uint32_t opens;

	conf_lock(c->world);
	opens = c->entered[CONF_OPENED];
	conf_unlock(c->world);
	return event == CONF_OPENED && opens == 1 ? STATUS_UNSUCCESSFUL : STATUS_SUCCESS;
}

static void
server_that_refuses_an_open_can_be_opened_again(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);
	struct conf_send *queued = conf_send_new(server);

	server->on_event = refuse_first_open;
	conf_enable(server);
	send_word(queued, 0x1234, STATUS_SUCCESS);
	enable_only(client);
	conf_await_left(client, CONF_PNP_FAILURE, 1);
	conf_expect_events(server, "Opened");
	conf_expect_events(client, "PnpFailure");
	assert_int_equal(client->event_irql[CONF_PNP_FAILURE], PASSIVE_LEVEL);
	assert_false(NT_SUCCESS(client->pnp_status));
	assert_int_equal(VmbChannelEnable(server->handle), STATUS_INVALID_DEVICE_STATE);
	assert_int_equal(conf_stats(server).outgoing_queued, 1);

	enable_only(client);
	conf_await_left(client, CONF_POST_STARTED, 1);
	assert_int_equal(word_of(conf_await_packets(client, 1)), 0x1234);
	conf_await_done(queued, 1);
	assert_int_equal(queued->status, STATUS_SUCCESS);
	conf_await_left(server, CONF_POST_STARTED, 1);
	conf_expect_events(server, "Opened Opened Started PostStarted");
	conf_send_free(queued);
}

/* The host agreed, but this end cannot go on: here because its loop takes no doorbell. */
static void
client_that_cannot_take_its_open_tells_its_driver(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);
	struct kmcl_loop_options options = { .size = sizeof(options), .host_driven = true };
	struct kmcl_loop *broken;
	int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);

	assert_true(nothing >= 0);
	assert_int_equal(kmcl_loop_create(&options, &broken), VMB_OK);
	assert_true(dup2(nothing, kmcl_loop_fd(broken)) >= 0);
	close(nothing);
	conf_enable(server);
	assert_int_equal(kmcl_channel_set_loop(client->handle, broken), STATUS_SUCCESS);
	enable_only(client);
	conf_await_left(client, CONF_PNP_FAILURE, 1);
	conf_expect_events(client, "PnpFailure");
	assert_int_equal(client->pnp_status, STATUS_INSUFFICIENT_RESOURCES);

	VmbChannelDisable(client->handle);
	assert_int_equal(kmcl_channel_set_loop(client->handle, NULL), STATUS_SUCCESS);
	kmcl_loop_destroy(broken);
	enable_only(client);
	conf_await_left(client, CONF_POST_STARTED, 1);
	conf_await_left(server, CONF_POST_STARTED, 1);
}

static void
client_that_refuses_its_open_is_disabled(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);
	struct conf_send *queued = conf_send_new(client);

	client->on_event = refuse_first_open;
	conf_enable(server);
	errand_hold(server, CONF_OPENED);
	enable_only(client);
	conf_await_entered(server, CONF_OPENED, 1);
	send_word(queued, 1, STATUS_SUCCESS);
	errand_let_go(server);
	conf_await_done(queued, 1);
	assert_int_equal(queued->status, STATUS_DEVICE_REMOVED);
	conf_poll_until(errand_is_disabled(client));
	conf_expect_events(client, "Opened");
	conf_await_left(server, CONF_CLOSED, 1);
	assert_int_equal(conf_packet_count(server), 0);
	/* And another attempt finds the offer as it was. */
	enable_only(client);
	conf_await_left(client, CONF_POST_STARTED, 1);
	conf_expect_events(client, "Opened Opened Started PostStarted");
	conf_send_free(queued);
}

static void
missing_callbacks_count_as_success(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);
	struct conf_channel *sides[] = { server, client };
	VMB_CHANNEL_STATE_CHANGE_CALLBACKS none;

	VMB_CHANNEL_STATE_CHANGE_CALLBACKS_INIT(&none);
	for (int i = 0; i < 2; i++)
		assert_int_equal(VmbChannelInitSetStateChangeCallbacks(sides[i]->handle, &none),
		                 STATUS_SUCCESS);
	conf_enable(server);
	enable_only(client);
	conf_fence((struct conf_pair){ server, client });
	VmbChannelPause(client->handle);
	VmbChannelStart(client->handle);
	conf_fence((struct conf_pair){ server, client });
	VmbChannelDisable(client->handle);
	VmbChannelDisable(server->handle);
	conf_expect_events(server, "");
	conf_expect_events(client, "");
}

/* ---- Started and PostStarted --------------------------------------------------------------------------- */

static NTSTATUS
post_in_started(struct conf_channel *c, enum conf_event event)
{
	if (event == CONF_STARTED)
		c->answer_bytes = (UINT32)conf_post(c, 77);
	return STATUS_SUCCESS;
}

static void
packets_may_be_sent_inside_started(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);
	struct conf_channel *sides[] = { server, client };

	for (int i = 0; i < 2; i++)
		sides[i]->on_event = post_in_started;
	conf_open(server, client);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(sides[i]->answer_bytes, STATUS_SUCCESS);
		assert_int_equal((uint32_t)word_of(conf_await_packets(sides[i], 1)), 77);
	}
}

static void
queued_packets_leave_in_order_when_started_is_entered(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);
	struct conf_send *sends[6];

	for (int i = 0; i < 6; i++)
		sends[i] = conf_send_new(client);
	errand_hold(client, CONF_OPENED);
	enable_only(client);
	send_word(sends[0], 1, STATUS_SUCCESS);
	send_word(sends[1], 2, STATUS_SUCCESS);
	conf_enable(server);
	conf_await_entered(client, CONF_OPENED, 1);
	send_word(sends[2], 3, STATUS_SUCCESS);
	assert_int_equal(conf_stats(client).outgoing_queued, 3);
	errand_let_go(client);
	conf_await_packets(server, 3);
	conf_await_left(client, CONF_POST_STARTED, 1);

	VmbChannelPause(client->handle);
	errand_hold(client, CONF_STARTED);
	for (uint64_t i = 3; i < 6; i++)
		send_word(sends[i], i + 1, STATUS_SUCCESS);
	assert_int_equal(conf_stats(client).outgoing_queued, 3);
	VmbChannelStart(client->handle);
	/* They arrive while the callback is still running. */
	conf_await_packets(server, 6);
	conf_await_entered(client, CONF_STARTED, 2);
	assert_int_equal(client->left[CONF_STARTED], 1);
	errand_let_go(client);
	for (uint32_t i = 0; i < 6; i++) {
		assert_int_equal(word_of(server->packets[i]), i + 1);
		conf_await_done(sends[i], 1);
		assert_int_equal(sends[i]->status, STATUS_SUCCESS);
		conf_send_free(sends[i]);
	}
}

static void
packets_come_after_started_and_during_post_started(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);

	errand_hold(server, CONF_STARTED);
	conf_enable(server);
	enable_only(client);
	conf_await_left(client, CONF_POST_STARTED, 1);
	assert_int_equal(conf_post(client, 1), STATUS_SUCCESS);
	conf_await_entered(server, CONF_STARTED, 1);
	assert_int_equal(conf_packet_count(server), 0);
	errand_hold(server, CONF_POST_STARTED);
	conf_lock(w);
	server->ctx = (void *)((uintptr_t)1 << CONF_POST_STARTED);
	conf_unlock(w);
	conf_await_packets(server, 1);
	conf_await_entered(server, CONF_POST_STARTED, 1);
	assert_int_equal(conf_post(client, 2), STATUS_SUCCESS);
	conf_await_packets(server, 2);
	assert_int_equal(server->left[CONF_POST_STARTED], 0);
	errand_let_go(server);
	conf_await_left(server, CONF_POST_STARTED, 1);
	assert_int_equal(conf_post(client, 3), STATUS_SUCCESS);
	conf_await_packets(server, 3);
}

static NTSTATUS
ask_in_post_started(struct conf_channel *c, enum conf_event event)
{
	uint64_t word = 9, answer = 0;
	UINT32 bytes = sizeof(answer);

	if (event != CONF_POST_STARTED)
		return STATUS_SUCCESS;
	c->answer_bytes = (UINT32)VmbChannelSendSynchronousRequest(
	        c->handle, &word, sizeof(word), NULL, CONF_WAIT, &answer, &bytes, NULL);
	c->ctx = (void *)(uintptr_t)answer;
	return STATUS_SUCCESS;
}

static void
post_started_may_wait_for_an_answer(struct conf_world *w)
{
	struct conf_channel *server = conf_server(w, NULL);
	struct conf_channel *client = conf_client(w, NULL);

	client->on_event = ask_in_post_started;
	conf_open(server, client);
	assert_int_equal(client->answer_bytes, STATUS_SUCCESS);
	assert_int_equal((uintptr_t)client->ctx, 9); /* the server echoes */
}

static const struct conf_test tests[] = {
	CONF_TEST(open_and_close_call_back_in_order_on_both_sides,
	          "STM-3, STM-15, EOP-1, EST-1, EPS-1, ESU-1, ECL-1", CONF_BUSES),
	CONF_TEST(enable_returns_before_any_peer_acts, "STM-2, CHE-1..2", CONF_BUSES),
	CONF_TEST(client_runs_by_itself_and_server_only_when_started, "STM-4", CONF_BUSES),
	CONF_TEST(server_may_be_started_before_the_peer_opens, "STM-4, CHS-2", CONF_BUSES),
	CONF_TEST(start_right_after_enable_changes_nothing_for_a_client, "STM-20, CHS-2", CONF_BUSES),
	CONF_TEST(start_does_not_wait_for_its_callbacks, "CHS-1", CONF_BUSES),
	CONF_TEST(client_opens_after_servers_opened_returned, "EOP-3", CONF_BUSES),
	CONF_TEST(gpadl_can_be_made_inside_opened, "EOP-3, GPB-7, THR-2", CONF_BUSES),
	CONF_TEST(client_that_cannot_take_its_open_tells_its_driver, "CHE-7, EPF-1", CONF_BUSES),
	CONF_TEST(server_that_refuses_an_open_can_be_opened_again, "STM-8, EOP-2, CHE-7, EPF-1, CTP-3",
	          CONF_BUSES),
	CONF_TEST(client_that_refuses_its_open_is_disabled, "STM-8, EOP-2", CONF_BUSES),
	CONF_TEST(missing_callbacks_count_as_success, "SCB-3", CONF_BUSES),
	CONF_TEST(packets_may_be_sent_inside_started, "EST-2", CONF_BUSES),
	CONF_TEST(queued_packets_leave_in_order_when_started_is_entered, "STM-19, EOP-1", CONF_BUSES),
	CONF_TEST(packets_come_after_started_and_during_post_started, "STM-6, EST-1", CONF_BUSES),
	CONF_TEST(post_started_may_wait_for_an_answer, "EPS-1, THR-2", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("open", tests);
}
