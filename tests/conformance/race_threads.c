/* SPDX-License-Identifier: MIT */
/*
 * The races of race_orders.c with real threads, for a tool that watches memory accesses and for orders that nobody thought
 * of. Two threads leave a barrier together, many times over.
 */
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "errand.h"

#define ROUNDS 150

/* Both sides of a race: `other` runs on a thread of its own, between the barrier and the join. */
struct duel {
	pthread_barrier_t line;
	void (*other)(void *ctx);
	void *ctx;
	pthread_t thread;
};

static void *
run_other(void *context)
{
	struct duel *d = context;

	pthread_barrier_wait(&d->line);
	d->other(d->ctx);
	return NULL;
}

static void
duel_begin(struct duel *d, void (*other)(void *), void *ctx)
{
	d->other = other;
	d->ctx = ctx;
	assert_int_equal(pthread_barrier_init(&d->line, NULL, 2), 0);
	assert_int_equal(pthread_create(&d->thread, NULL, run_other, d), 0);
	pthread_barrier_wait(&d->line);
}

static void
duel_end(struct duel *d)
{
	assert_int_equal(pthread_join(d->thread, NULL), 0);
	pthread_barrier_destroy(&d->line);
}

/* ---- expiry against completion --------------------------------------------------------------------------- */

static void
answer_next(void *ctx)
{
	struct conf_channel *server = ctx;
	uint64_t answer = 0x5EED;
	uint32_t next;

	conf_lock(server->world);
	next = (uint32_t)(uintptr_t)server->ctx;
	conf_unlock(server->world);
	(void)conf_complete(conf_await_packets(server, next + 1), &answer, sizeof(answer));
}

static void
expiry_and_completion_have_one_winner(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint64_t cancelled = 0;

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		/* From no time to about as long as it takes. */
		LARGE_INTEGER limit = { .QuadPart = -(LONGLONG)(1 + round % 50 * 20) };
		uint64_t word = round, answer = 7;
		UINT32 room = sizeof(answer);
		struct duel d;
		NTSTATUS status;

		conf_set(pair.server, ctx, (void *)(uintptr_t)round);
		duel_begin(&d, answer_next, pair.server);
		status = VmbChannelSendSynchronousRequest(pair.client->handle, &word, sizeof(word), NULL,
		                                          CONF_WAIT, &answer, &room, &limit);
		duel_end(&d);
		assert_int_equal(room, 8);
		if (status == STATUS_SUCCESS) {
			assert_int_equal(answer, 0x5EED);
		} else {
			assert_int_equal((unsigned)status, (unsigned)STATUS_CANCELLED);
			assert_int_equal(answer, 7);
			cancelled++;
		}
	}
	conf_answer_with(pair.server, CONF_ECHO, NULL, 0);
	conf_fence(pair);
	assert_int_equal(conf_stats(pair.client).late_completions, cancelled);
	assert_int_equal(conf_stats(pair.client).stray_completions, 0);
}

/* ---- disable against send ------------------------------------------------------------------------------------ */

struct tally {
	uint32_t done; /* atomic */
	struct conf_channel *client;
	uint32_t accepted;
};

static VOID
count_done(VMBPACKET packet, NTSTATUS status, PVOID buffer, UINT32 bytes)
{
	struct tally *t = VmbPacketGetPointer(packet);

	(void)buffer;
	(void)bytes;
	if (status == STATUS_SUCCESS || status == STATUS_DEVICE_REMOVED)
		__atomic_fetch_add(&t->done, 1, __ATOMIC_SEQ_CST);
	VmbPacketFree(packet);
}

#define MOST_IN_FLIGHT 4096u

static void
send_until_refused(void *ctx)
{
	struct tally *t = ctx;

	for (uint64_t word = 0;; word++) {
		VMBPACKET packet;
		NTSTATUS status;

		/* On a busy machine the other thread comes late: not all memory is to be packets by then. */
		while (t->accepted - __atomic_load_n(&t->done, __ATOMIC_SEQ_CST) > MOST_IN_FLIGHT)
			sched_yield();
		packet = VmbPacketAllocate(t->client->handle);
		VmbPacketSetPointer(packet, t);
		VmbPacketSetCompletionRoutine(packet, count_done);
		status = VmbPacketSend(packet, &word, sizeof(word), NULL, word % 2 != 0 ? CONF_WAIT : 0);
		if (status != STATUS_SUCCESS) {
			VmbPacketFree(packet);
			if (status != STATUS_DEVICE_REMOVED && status != STATUS_INVALID_DEVICE_STATE)
				abort();
			return;
		}
		t->accepted++;
	}
}

static void
accepted_packets_complete_once_across_a_disable(struct conf_world *w)
{
	for (uint32_t round = 0; round < ROUNDS / 5; round++) {
		struct conf_pair pair = conf_open_pair(w);
		struct tally tally = { 0, pair.client, 0 };
		struct duel d;

		duel_begin(&d, send_until_refused, &tally);
		for (uint32_t i = 0; i < round * 20; i++)
			sched_yield();
		VmbChannelDisable(pair.client->handle);
		duel_end(&d);
		assert_int_equal(__atomic_load_n(&tally.done, __ATOMIC_SEQ_CST), tally.accepted);
		conf_channel_free(pair.client);
		conf_channel_free(pair.server);
	}
}

/* ---- pause against completion --------------------------------------------------------------------------------- */

static void
complete_all(void *ctx)
{
	conf_complete_held(ctx);
}

static void
pause_ends_with_the_last_completion(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);

	for (uint32_t round = 0; round < ROUNDS; round++) {
		struct duel d;

		conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
		for (uint32_t i = 0; i < 3; i++)
			assert_int_equal(conf_post(pair.client, i), STATUS_SUCCESS);
		conf_await_packets(pair.server, 4 * round + 3);
		duel_begin(&d, complete_all, pair.server);
		VmbChannelPause(pair.server->handle);
		assert_int_equal(conf_stats(pair.server).incoming_outstanding, 0);
		duel_end(&d);
		conf_answer_with(pair.server, CONF_ECHO, NULL, 0);
		VmbChannelStart(pair.server->handle);
		conf_fence(pair);
	}
}

/* ---- rescind against open --------------------------------------------------------------------------------------- */

static void
enable_client(void *ctx)
{
	struct conf_channel *client = ctx;

	if (VmbChannelEnable(client->handle) != STATUS_SUCCESS)
		abort();
}

static void
expect_pairs(struct conf_channel *c)
{
	assert_int_equal(c->entered[CONF_OPENED], c->entered[CONF_CLOSED]);
	assert_int_equal(c->entered[CONF_STARTED], c->entered[CONF_SUSPEND]);
	assert_false(c->callbacks_overlapped);
}

static void
open_and_rescind_leave_nothing_half_done(struct conf_world *w)
{
	for (uint32_t round = 0; round < ROUNDS / 2; round++) {
		struct conf_channel *server = conf_server(w, NULL), *client = conf_client(w, NULL);
		struct duel d;

		conf_enable(server);
		duel_begin(&d, enable_client, client);
		for (uint32_t i = 0; i < round * 10; i++)
			sched_yield();
		VmbChannelDisable(server->handle);
		duel_end(&d);
		VmbChannelDisable(client->handle);
		expect_pairs(server);
		expect_pairs(client);
		conf_channel_free(client);
		conf_channel_free(server);
	}
}

static const struct conf_test tests[] = {
	CONF_TEST(expiry_and_completion_have_one_winner, "SSR-40..41, SSR-43", CONF_BUSES),
	CONF_TEST(accepted_packets_complete_once_across_a_disable, "OUT-8, STM-11", CONF_BUSES),
	CONF_TEST(pause_ends_with_the_last_completion, "STM-10, CHP-1..2", CONF_BUSES),
	CONF_TEST(open_and_rescind_leave_nothing_half_done, "STM-13, CHD-1", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("race_threads", tests);
}
