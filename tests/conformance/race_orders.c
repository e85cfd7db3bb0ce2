/* SPDX-License-Identifier: MIT */
/*
 * Races, taken apart: what each party does is a list of steps, both ends' loops are driven by hand, and every order in which the
 * steps can follow one another is a test of its own, on each transport. The test's name is the order. What must
 * come out is computed from the order.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "errand.h"
#include "kmcl/kmcl_packet.h"
#include "kmcl/kmcl_tx.h"

#define MOST_STEPS 8
#define MOST_CASES 512

struct race {
	const struct race_kind *kind;
	const char *order;              /* letters of the steps, in the order of this case */
	size_t at;                      /* the step that is being made */
	struct conf_world *world;
	struct conf_pair pair;
	struct kmcl_loop *server_loop, *client_loop;
	struct errand errands[2];
	bool runs[2];
	/* Of the kinds. */
	struct kmcl_packet *request;
	uint64_t answer;
	bool cancelled;
	struct conf_send *sends[2];
	NTSTATUS status[2];
};

struct race_kind {
	const char *name;
	const char *clauses;
	const char *actors[4];          /* the steps of each, a letter per step */
	bool closed;                    /* begins with channels that are not enabled */
	void (*begin)(struct race *r);
	void (*step)(struct race *r, char letter);
	void (*end)(struct race *r);
};

/* Whether the first step comes before the second in this order. */
static bool
before(const struct race *r, char first, char second)
{
	return strchr(r->order, first) < strchr(r->order, second);
}

/* Everything that is there, on this thread. */
static void
drive(struct kmcl_loop *loop)
{
	for (int i = 0; i < 4; i++)
		kmcl_loop_run(loop, 0);
}

static void
start(struct race *r, int n, void (*run)(void *), struct conf_channel *c)
{
	errand_start(&r->errands[n], run, c->handle);
	r->runs[n] = true;
}

static void
join(struct race *r, int n)
{
	if (r->runs[n])
		errand_join(&r->errands[n]);
	r->runs[n] = false;
}

/* ---- expiry against completion, and against the close ---------------------------------------------------------- */

static void
expiry_begin(struct race *r)
{
	static const uint64_t word = 1;
	struct kmcl_send send = { &word, sizeof(word), CONF_WAIT, NULL, false };

	conf_answer_with(r->pair.server, CONF_HOLD, NULL, 0);
	/* What a synchronous request does, without its thread. */
	r->request = kmcl_packet_get(kmcl_channel_from_handle(r->pair.client->handle));
	assert_non_null(r->request);
	r->request->sync.is_sync = true;
	r->request->sync.buffer = &r->answer;
	r->request->sync.capacity = sizeof(r->answer);
	assert_int_equal(kmcl_tx_send(r->request, &send), STATUS_SUCCESS);
}

static void
expiry_step(struct race *r, char letter)
{
	uint64_t answer = 0x5EEDu;

	switch (letter) {
	case 'i': /* the server indicates */
		drive(r->server_loop);
		break;
	case 'c': /* its driver completes, if it has the packet */
		if (r->pair.server->packet_count != 0)
			assert_true(conf_complete(r->pair.server->packets[0], &answer, sizeof(answer)));
		break;
	case 'p': /* the client processes the answer */
		drive(r->client_loop);
		break;
	case 'x': /* the time is over */
		r->cancelled = kmcl_tx_cancel(r->request);
		break;
	default: /* 'd': the client's driver closes */
		start(r, 0, errand_disable, r->pair.client);
		conf_await_left(r->pair.client, CONF_CLOSED, 1);
		break;
	}
}

static void
expiry_end(struct race *r)
{
	bool expired = before(r, 'x', 'p') && before(r, 'x', 'd');
	bool answered = before(r, 'p', 'x') && before(r, 'p', 'd');

	conf_answer_with(r->pair.server, CONF_ECHO, NULL, 0);
	conf_complete_held(r->pair.server);
	join(r, 0);
	assert_int_equal(r->cancelled, expired);
	assert_int_equal(conf_stats(r->pair.client).late_completions, expired && before(r, 'p', 'd'));
	assert_int_equal(conf_stats(r->pair.client).stray_completions, 0);
	/* Nothing is written for who has gone. */
	assert_true(r->answer == (answered ? 0x5EEDu : 0));
	if (r->cancelled)
		return; /* the library's, and gone with the channel */
	assert_int_equal(atomic_load(&r->request->sync.done), 2);
	assert_int_equal(r->request->sync.status, answered ? STATUS_SUCCESS : STATUS_DEVICE_REMOVED);
	kmcl_packet_put(r->request);
}

/* ---- disable against send ---------------------------------------------------------------------------------------- */

static void
disable_begin(struct race *r)
{
	for (int i = 0; i < 2; i++)
		r->sends[i] = conf_send_new(r->pair.client);
	errand_hold(r->pair.client, CONF_SUSPEND);
}

static void
disable_step(struct race *r, char letter)
{
	uint64_t word = (uint64_t)letter;

	switch (letter) {
	case '1':
	case '2':
		r->status[letter - '1'] = VmbPacketSend(r->sends[letter - '1']->packet, &word, sizeof(word),
		                                        NULL, CONF_WAIT);
		break;
	case 's': /* the server's loop reads and answers */
		drive(r->server_loop);
		break;
	case 'c': /* the client's loop */
		drive(r->client_loop);
		break;
	case 'd': /* Disable, up to inside Suspend */
		start(r, 0, errand_disable, r->pair.client);
		conf_await_entered(r->pair.client, CONF_SUSPEND, 1);
		break;
	default: /* 'e': and to its end */
		errand_let_go(r->pair.client);
		join(r, 0);
		break;
	}
}

static void
disable_end(struct race *r)
{
	for (int i = 0; i < 2; i++) {
		char send = (char)('1' + i);
		bool accepted = before(r, send, 'd');
		bool answered = accepted && before(r, send, 's') && before(r, 's', 'c') &&
		                before(r, 'c', 'd');

		assert_int_equal(r->status[i], accepted                ? STATUS_SUCCESS
		                               : before(r, send, 'e') ? STATUS_DEVICE_REMOVED
		                                                      : STATUS_INVALID_DEVICE_STATE);
		/* Once, or not at all. */
		assert_int_equal(r->sends[i]->done, accepted);
		if (accepted)
			assert_int_equal(r->sends[i]->status,
			                 answered ? STATUS_SUCCESS : STATUS_DEVICE_REMOVED);
		conf_send_free(r->sends[i]);
	}
}

/* ---- pause against completion -------------------------------------------------------------------------------------- */

static void
pause_begin(struct race *r)
{
	conf_answer_with(r->pair.server, CONF_HOLD, NULL, 0);
	for (uint32_t i = 0; i < 2; i++)
		assert_int_equal(conf_post(r->pair.client, i), STATUS_SUCCESS);
	drive(r->server_loop);
	assert_int_equal(conf_packet_count(r->pair.server), 2);
	/* In the ring, for whoever comes first. */
	assert_int_equal(conf_post(r->pair.client, 2), STATUS_SUCCESS);
}

static bool
done_so_far(const struct race *r, char letter)
{
	return (size_t)(strchr(r->order, letter) - r->order) <= r->at;
}

static void
pause_step(struct race *r, char letter)
{
	bool third = before(r, 'l', 'p') && done_so_far(r, 'l');

	switch (letter) {
	case 'p':
		start(r, 0, errand_pause, r->pair.server);
		conf_await_left(r->pair.server, CONF_SUSPEND, 1);
		break;
	case '1':
	case '2':
		assert_true(conf_complete(r->pair.server->packets[letter - '1'], NULL, 0));
		break;
	default: /* 'l': the loop */
		drive(r->server_loop);
		break;
	}
	assert_int_equal(conf_packet_count(r->pair.server), third ? 3 : 2);
	if (!done_so_far(r, 'p') || !r->runs[0])
		return;
	/* It waits for what is indicated, and for nothing else. */
	if (done_so_far(r, '1') && done_so_far(r, '2') && !third)
		join(r, 0);
	else
		assert_false(errand_settle(&r->errands[0]));
}

static void
pause_end(struct race *r)
{
	bool third = before(r, 'l', 'p');

	assert_int_equal(r->runs[0], third);
	conf_complete_held(r->pair.server);
	join(r, 0);
	assert_int_equal(conf_stats(r->pair.server).incoming_outstanding, 0);
	conf_answer_with(r->pair.server, CONF_ECHO, NULL, 0);
	VmbChannelStart(r->pair.server->handle);
	conf_await_left(r->pair.server, CONF_POST_STARTED, 2);
	drive(r->server_loop);
	assert_int_equal(conf_packet_count(r->pair.server), 3);
	conf_expect_events(r->pair.server, "Opened Started PostStarted Suspend Started PostStarted");
}

/* ---- rescind against open, and against the client's own Disable ----------------------------------------------------- */

static void
rescind_begin(struct race *r)
{
	errand_hold(r->pair.server, CONF_OPENED);
	errand_hold(r->pair.client, CONF_OPENED);
	conf_enable(r->pair.server);
}

/* It waits for somebody, or, with nobody there to wait for, it ends. */
static void
settle(struct race *r, int errand, bool ends)
{
	if (ends)
		join(r, errand);
	else
		(void)errand_settle(&r->errands[errand]);
}

static void
rescind_step(struct race *r, char letter)
{
	switch (letter) {
	case '1': /* the client opens: up to inside the server's Opened, if there is an offer */
		assert_int_equal(VmbChannelEnable(r->pair.client->handle), STATUS_SUCCESS);
		if (before(r, '1', 'r'))
			conf_await_entered(r->pair.server, CONF_OPENED, 1);
		break;
	case '2': /* the server accepts: up to inside the client's */
		errand_let_go(r->pair.server);
		if (before(r, '2', 'r') && (before(r, '2', 'd') || before(r, 'd', '1')))
			conf_await_entered(r->pair.client, CONF_OPENED, 1);
		break;
	case '3':
		errand_let_go(r->pair.client);
		if (before(r, '3', 'r') && (before(r, '3', 'd') || before(r, 'd', '1')))
			conf_await_left(r->pair.client, CONF_POST_STARTED, 1);
		break;
	case 'r': /* the server takes its offer back */
		start(r, 0, errand_disable, r->pair.server);
		settle(r, 0, before(r, 'r', '1'));
		break;
	default: /* 'd': the client gives up */
		start(r, 1, errand_disable, r->pair.client);
		settle(r, 1, before(r, 'd', '1'));
		break;
	}
}

static void
expect_pairs(struct conf_channel *c)
{
	assert_int_equal(c->entered[CONF_OPENED], c->entered[CONF_CLOSED]);
	assert_int_equal(c->entered[CONF_STARTED], c->entered[CONF_SUSPEND]);
	assert_true(c->entered[CONF_POST_STARTED] <= c->entered[CONF_STARTED]);
	assert_false(c->callbacks_overlapped);
	assert_int_equal(c->entered[CONF_PNP_FAILURE], 0);
}

static void
rescind_end(struct race *r)
{
	bool disabled = before(r, '1', 'd'); /* before Enable it does nothing */

	join(r, 0);
	join(r, 1);
	assert_true(errand_is_disabled(r->pair.server));
	if (disabled)
		assert_true(errand_is_disabled(r->pair.client));
	/* Open or not, the client is waiting again or through. */
	if (!disabled && before(r, '3', 'r'))
		conf_await_left(r->pair.client, CONF_CLOSED, 1);
	VmbChannelDisable(r->pair.client->handle);
	if (before(r, 'r', '1'))
		assert_int_equal(r->pair.client->event_count + r->pair.server->event_count, 0);
	if (before(r, '3', 'r') && !(disabled && before(r, 'd', '3')))
		conf_expect_events(r->pair.client, "Opened Started PostStarted Suspend Closed");
	expect_pairs(r->pair.server);
	expect_pairs(r->pair.client);
	/* Nothing is left over: the two can meet again. */
	errand_let_go(r->pair.server);
	errand_let_go(r->pair.client);
	VmbChannelStart(r->pair.client->handle);
	conf_open(r->pair.server, r->pair.client);
}

/* ---- all orders ------------------------------------------------------------------------------------------------------ */

static const struct race_kind kinds[] = {
	{ "expiry_completion_close", "SSR-39..41, SSR-43, SSR-54, TXN-3", { "icp", "x", "d" }, false,
	  expiry_begin, expiry_step, expiry_end },
	{ "disable_send", "STM-11, STM-18, CHD-2, OUT-8", { "12", "de", "s", "c" }, false, disable_begin,
	  disable_step, disable_end },
	{ "pause_completion", "STM-9..10, CHP-1..2, ESU-2", { "p", "1", "2", "l" }, false, pause_begin,
	  pause_step, pause_end },
	{ "rescind_open_disable", "STM-13..14, STM-17, CHD-1", { "123", "r", "d" }, true, rescind_begin,
	  rescind_step, rescind_end },
};

struct one_case {
	const struct race_kind *kind;
	char order[MOST_STEPS + 1];
	enum conf_transport transport;
	char name[96];
};
static struct one_case cases[MOST_CASES];
static size_t case_count;

static void
add_case(const struct race_kind *kind, const char *order)
{
	for (int i = 0; i < 2; i++) {
		struct one_case *c = &cases[case_count++];

		if (case_count > MOST_CASES)
			abort();
		c->kind = kind;
		(void)snprintf(c->order, sizeof(c->order), "%s", order);
		c->transport = i == 0 ? CONF_LOOPBACK : CONF_UNIX;
		(void)snprintf(c->name, sizeof(c->name), "%s_%s@%s", kind->name, order,
		               i == 0 ? "loopback" : "unix");
	}
}

/* Each actor's next step, in turn. */
static void
add_orders(const struct race_kind *kind, const char *left[4], char *order, size_t count)
{
	bool more = false;

	for (int i = 0; i < 4; i++) {
		const char *rest[4] = { left[0], left[1], left[2], left[3] };

		if (left[i] == NULL || *left[i] == '\0')
			continue;
		more = true;
		order[count] = *left[i];
		rest[i]++;
		add_orders(kind, rest, order, count + 1);
	}
	if (more)
		return;
	order[count] = '\0';
	add_case(kind, order);
}

static void
run_case(void **state)
{
	struct kmcl_loop_options driven = { .size = sizeof(driven), .host_driven = true,
		                            .spin_us = UINT32_MAX };
	const struct one_case *c = *state;
	struct race r = { .kind = c->kind, .order = c->order };
	struct conf_options options = { .loop = NULL };

	r.world = conf_world_new(c->transport);
	assert_int_equal(kmcl_loop_create(&driven, &r.server_loop), VMB_OK);
	assert_int_equal(kmcl_loop_create(&driven, &r.client_loop), VMB_OK);
	options.loop = r.server_loop;
	r.pair.server = conf_server(r.world, &options);
	options.loop = r.client_loop;
	r.pair.client = conf_client(r.world, &options);
	if (!c->kind->closed) {
		conf_open(r.pair.server, r.pair.client);
		drive(r.server_loop);
		drive(r.client_loop);
	}
	c->kind->begin(&r);
	for (r.at = 0; c->order[r.at] != '\0'; r.at++)
		c->kind->step(&r, c->order[r.at]);
	c->kind->end(&r);
	conf_channel_free(r.pair.client);
	conf_channel_free(r.pair.server);
	kmcl_loop_destroy(r.client_loop);
	kmcl_loop_destroy(r.server_loop);
	conf_world_free(r.world);
}

int
main(void)
{
	static struct CMUnitTest units[MOST_CASES];

	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		const char *left[4] = { kinds[i].actors[0], kinds[i].actors[1], kinds[i].actors[2],
			                kinds[i].actors[3] };
		char order[MOST_STEPS + 1];

		add_orders(&kinds[i], left, order, 0);
	}
	for (size_t i = 0; i < case_count; i++) {
		units[i] = (struct CMUnitTest){ cases[i].name, run_case, NULL, NULL, &cases[i] };
		(void)printf("clause-test: %s %s\n", cases[i].name, cases[i].kind->clauses);
	}
	return _cmocka_run_group_tests("race_orders", units, case_count, NULL, NULL) == 0
	               ? EXIT_SUCCESS
	               : EXIT_FAILURE;
}
