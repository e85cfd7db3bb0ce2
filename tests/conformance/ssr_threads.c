/* SPDX-License-Identifier: MIT */
/*
 * Synchronous requests of many threads on one channel, against answers in any order, deadlines and
 * closes (SSR-11, SSR-40, SSR-56, SSR-59). Meant to be run under a thread sanitizer, too.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ssr.h"

#define THREADS 8u
#define ROUNDS 150u
#define UNTOUCHED 0xDEADBEEFu

static uint64_t
seed_of_run(void)
{
	const char *text = getenv("KMCL_SEED");
	uint64_t seed = text != NULL ? strtoull(text, NULL, 0) : conf_now();

	print_message("KMCL_SEED=%llu\n", (unsigned long long)seed);
	return seed | 1;
}

static uint32_t
random_below(uint64_t *state, uint32_t limit)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return (uint32_t)(*state >> 32) % limit;
}

/* One thread that makes requests and judges each by itself. */
struct requester {
	struct conf_channel *channel;
	uint32_t id, rounds;
	uint64_t random;
	bool short_times;       /* some timeouts that end about when the answer comes */
	bool may_be_removed;
	uint32_t answered, cancelled, removed, wrong;
	bool done;              /* under the world's lock */
	pthread_t thread;
};

static void
judge(struct requester *r, const struct ssr_call *call)
{
	uint64_t number = call->number[0];
	bool untouched = call->room[0] == UNTOUCHED && call->room_bytes == 8;

	if (call->status == STATUS_SUCCESS) {
		r->answered++;
		r->wrong += call->room[0] != ~number || call->room_bytes != 8;
	} else if (call->status == STATUS_CANCELLED && r->short_times) {
		r->cancelled++;
		r->wrong += !untouched;
	} else if ((call->status == STATUS_DEVICE_REMOVED ||
	            call->status == STATUS_INVALID_DEVICE_STATE) &&
	           r->may_be_removed) {
		r->removed++;
		r->wrong += !untouched;
	} else {
		r->wrong++;
	}
}

static void *
requester_thread(void *ctx)
{
	struct requester *r = ctx;
	bool stop = false;

	for (uint32_t i = 0; i < r->rounds && !stop; i++) {
		int64_t timeout = SSR_NO_LIMIT;
		struct ssr_call call;

		if (r->short_times)
			timeout = -(int64_t)random_below(&r->random, 2000) - 1;
		ssr_prepare(&call, r->channel, (uint64_t)r->id << 32 | i, CONF_WAIT, timeout);
		call.room[0] = UNTOUCHED;
		(void)ssr_run(&call);
		judge(r, &call);
		stop = r->may_be_removed && call.status != STATUS_SUCCESS;
	}
	conf_lock(r->channel->world);
	r->done = true;
	conf_unlock(r->channel->world);
	return NULL;
}

static void
start_requesters(struct requester rs[THREADS], const struct requester *like, uint64_t *random)
{
	for (uint32_t i = 0; i < THREADS; i++) {
		rs[i] = *like;
		rs[i].id = i + 1;
		rs[i].random = (*random << 8 | i) * 2654435761u + 1;
		assert_int_equal(pthread_create(&rs[i].thread, NULL, requester_thread, &rs[i]), 0);
	}
}

static bool
all_done(const struct requester rs[THREADS])
{
	bool done = true;

	for (uint32_t i = 0; i < THREADS; i++)
		done = done && rs[i].done;
	return done;
}

/* Sums into `sum`. */
static void
join_requesters(struct requester rs[THREADS], struct requester *sum)
{
	for (uint32_t i = 0; i < THREADS; i++) {
		assert_int_equal(pthread_join(rs[i].thread, NULL), 0);
		sum->answered += rs[i].answered;
		sum->cancelled += rs[i].cancelled;
		sum->removed += rs[i].removed;
		sum->wrong += rs[i].wrong;
	}
}

static void
answer(struct conf_packet *p)
{
	uint64_t number;

	memcpy(&number, p->payload, sizeof(number));
	number = ~number;
	(void)conf_complete(p, &number, sizeof(number));
}

/* Answer a random one of the held packets; false if there is none. */
static bool
answer_any(struct conf_channel *server, uint32_t *first, uint64_t *random)
{
	struct conf_packet *held[THREADS + 1] = { NULL };
	uint32_t count = 0;

	conf_lock(server->world);
	while (*first < server->packet_count && !server->packets[*first]->held)
		(*first)++;
	for (uint32_t i = *first; i < server->packet_count && count <= THREADS; i++) {
		if (server->packets[i]->held)
			held[count++] = server->packets[i];
	}
	conf_unlock(server->world);
	if (count == 0)
		return false;
	answer(held[random_below(random, count)]);
	return true;
}

static void
answer_until_done(struct conf_channel *server, struct requester rs[THREADS], uint64_t *random)
{
	struct conf_world *w = server->world;
	uint32_t first = 0;
	bool done = false;

	while (!done) {
		while (answer_any(server, &first, random))
			;
		conf_await(w, server->held != 0 || all_done(rs));
		conf_lock(w);
		done = all_done(rs);
		conf_unlock(w);
	}
	while (answer_any(server, &first, random))
		;
}

static void
calls_of_many_threads_are_independent(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct requester rs[THREADS], sum = { 0 };
	const struct requester like = { .channel = pair.client, .rounds = ROUNDS };
	uint64_t random = seed_of_run();

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	start_requesters(rs, &like, &random);
	answer_until_done(pair.server, rs, &random);
	join_requesters(rs, &sum);
	assert_int_equal(sum.wrong, 0);
	assert_int_equal(sum.answered, THREADS * ROUNDS);
}

/* Each transaction is ended by its answer or by its deadline, never by both and never by none. */
static void
answer_and_deadline_have_one_winner(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct requester rs[THREADS], sum = { 0 };
	const struct requester like = { .channel = pair.client, .rounds = ROUNDS,
		                        .short_times = true };
	uint64_t random = seed_of_run();
	struct kmcl_channel_stats stats;

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	start_requesters(rs, &like, &random);
	answer_until_done(pair.server, rs, &random);
	join_requesters(rs, &sum);
	/* The rest of the answers; then every one is accounted for. */
	conf_answer_with(pair.server, CONF_ECHO, NULL, 0);
	conf_complete_held(pair.server);
	conf_fence(pair);
	conf_complete_held(pair.server);
	conf_fence(pair);
	stats = conf_stats(pair.client);
	assert_int_equal(sum.wrong, 0);
	assert_int_equal(sum.answered + sum.cancelled, THREADS * ROUNDS);
	assert_int_equal(stats.completions_received, sum.answered + 2);
	assert_int_equal(stats.late_completions, sum.cancelled);
	assert_int_equal(stats.stray_completions, 0);
	assert_int_equal(stats.outgoing_in_flight, 0);
}

static void
answer_process(struct conf_channel *c, struct conf_packet *p)
{
	(void)c;
	for (UINT32 i = 0; i < p->bytes; i++)
		((uint8_t *)p->buffer)[i] = (uint8_t)~p->payload[i];
}

/*
 * A close in the midst: each call ends with its answer or with the removal, and none is left
 * inside.
 */
static void
close_and_answer_have_one_winner(struct conf_world *w)
{
	struct conf_pair pair = { conf_server(w, NULL), conf_client(w, NULL) };
	const struct requester like = { .channel = pair.client, .rounds = 100000,
		                        .may_be_removed = true };
	uint64_t random = seed_of_run();

	/* The echo of what on_packet made of the buffer. */
	conf_set(pair.server, on_packet, answer_process);
	conf_enable(pair.server);
	for (uint32_t i = 1; i <= 10; i++) {
		struct requester rs[THREADS], sum = { 0 };
		uint32_t sent;

		conf_enable(pair.client);
		conf_await_left(pair.client, CONF_POST_STARTED, i);
		conf_lock(w);
		sent = pair.server->packet_count;
		conf_unlock(w);
		start_requesters(rs, &like, &random);
		conf_await_packets(pair.server, sent + random_below(&random, 100) + 1);
		if (i % 2 != 0)
			VmbChannelPause(pair.client->handle);
		VmbChannelDisable(pair.client->handle);
		join_requesters(rs, &sum);
		assert_int_equal(sum.wrong, 0);
		assert_int_equal(sum.removed, THREADS);
		assert_int_equal(conf_stats(pair.client).outgoing_in_flight, 0);
		assert_int_equal(conf_stats(pair.client).outgoing_queued, 0);
	}
}

static const struct conf_test tests[] = {
	CONF_TEST(calls_of_many_threads_are_independent, "SSR-11", CONF_BUSES),
	CONF_TEST(answer_and_deadline_have_one_winner, "SSR-40, SSR-41", CONF_BUSES),
	CONF_TEST(close_and_answer_have_one_winner, "SSR-56, SSR-59", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("ssr_threads", tests);
}
