/* SPDX-License-Identifier: MIT */
/*
 * Deadlines of synchronous requests, on clocks that the test moves (SSR-21..27), and what wins
 * when an answer or a close meets a waiter that has not looked yet (SSR-40, SSR-56, SSR-59).
 */
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "ssr.h"
#include "ssr_clock.h"

#define SECOND INT64_C(1000000000)
#define SECONDS(n) (-10000000LL * (n))
#define EPOCH_1601 INT64_C(116444736000000000)
#define MAX_WAITS 64

/* A request that the server holds, with its caller asleep in the kernel. */
static void
start_held(struct ssr_call *call, struct conf_pair pair, uint64_t number, int64_t timeout)
{
	clock_reset();
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	ssr_prepare(call, pair.client, number, CONF_WAIT, timeout);
	call->room[0] = 77;
	ssr_start(call);
	conf_await(pair.client->world, pair.server->held == 1);
	clock_await_waiting(1);
}

static void
expect_cancelled(struct ssr_call *call, struct conf_pair pair)
{
	assert_int_equal(ssr_join(call), STATUS_CANCELLED);
	assert_int_equal(call->room[0], 77);
	conf_complete_held(pair.server);
	conf_fence(pair);
}

static void
expect_still_waiting(struct ssr_call *call)
{
	clock_await_waiting(1);
	assert_false(ssr_returned(call));
}

static void
timeout_is_that_of_a_kernel_wait(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct clock_wait waits[MAX_WAITS];
	int64_t before, after;
	struct ssr_call call;
	uint32_t count;

	/* NULL: no limit. */
	start_held(&call, pair, 1, SSR_NO_LIMIT);
	count = clock_waits(waits, MAX_WAITS);
	for (uint32_t i = 0; i < count; i++)
		assert_false(waits[i].limited);
	conf_complete_held(pair.server);
	assert_int_equal(ssr_join(&call), STATUS_SUCCESS);
	/* Negative: relative, 100 ns. */
	before = clock_read(CLOCK_MONOTONIC);
	start_held(&call, pair, 2, SECONDS(1000) - 7);
	after = clock_read(CLOCK_MONOTONIC);
	assert_true(clock_waits(waits, MAX_WAITS) >= 1);
	assert_true(waits[0].limited && !waits[0].realtime);
	assert_true(waits[0].deadline >= before + 1000 * SECOND + 700);
	assert_true(waits[0].deadline <= after + 1000 * SECOND + 700);
	conf_complete_held(pair.server);
	assert_int_equal(ssr_join(&call), STATUS_SUCCESS);
	/* Positive: absolute system time, 100 ns since 1601. */
	after = clock_read(CLOCK_REALTIME) / 100 + 1000 * (SECOND / 100);
	start_held(&call, pair, 3, after + EPOCH_1601);
	assert_true(clock_waits(waits, MAX_WAITS) >= 1);
	assert_true(waits[0].limited && waits[0].realtime);
	assert_int_equal(waits[0].deadline, after * 100);
	conf_complete_held(pair.server);
	assert_int_equal(ssr_join(&call), STATUS_SUCCESS);
	/* 0: no waiting at all. */
	clock_reset();
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	assert_int_equal(ssr_send(pair.client, 4, CONF_WAIT, 0), STATUS_CANCELLED);
	assert_int_equal(ssr_send(pair.client, 5, 0, 0), STATUS_SUCCESS);
	assert_int_equal(clock_waits(waits, MAX_WAITS), 0);
}

static void
timeout_is_read_once_and_never_written(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	LARGE_INTEGER *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
	                           0);
	struct ssr_call call;

	assert_ptr_not_equal(page, MAP_FAILED);
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	for (unsigned i = 0; i < 2; i++) {
		page->QuadPart = SECONDS(1000);
		assert_int_equal(mprotect(page, 4096, PROT_READ), 0);
		ssr_prepare(&call, pair.client, i, CONF_WAIT, 0);
		call.timeout = page;
		ssr_start(&call);
		conf_await_packets(pair.server, i + 1);
		clock_await_waiting(1);
		/* A second look, or a write, would fault. */
		assert_int_equal(mprotect(page, 4096, PROT_NONE), 0);
		if (i == 0)
			conf_complete_held(pair.server);
		else
			clock_jump(CLOCK_MONOTONIC, 1001 * SECOND);
		assert_int_equal(ssr_join(&call), i == 0 ? STATUS_SUCCESS : STATUS_CANCELLED);
		assert_int_equal(mprotect(page, 4096, PROT_READ | PROT_WRITE), 0);
	}
	assert_int_equal(munmap(page, 4096), 0);
}

static void
one_deadline_covers_queue_and_answer(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair_with(w, &ssr_small, &ssr_small);
	struct clock_wait waits[MAX_WAITS];
	struct ssr_call call;
	uint32_t count, filled;

	clock_reset();
	VmbChannelPause(pair.server->handle);
	filled = conf_fill_ring(pair.client, 8);
	ssr_prepare(&call, pair.client, 1, CONF_WAIT, SECONDS(1000));
	call.room[0] = 77;
	ssr_start(&call);
	ssr_await_queued(pair.client, 1);
	clock_await_waiting(1);
	clock_jump(CLOCK_MONOTONIC, 900 * SECOND);
	expect_still_waiting(&call);
	/* Into the ring, and to a server that is silent. */
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	VmbChannelStart(pair.server->handle);
	assert_int_equal(ssr_number(conf_await_packets(pair.server, filled + 1)), 1);
	expect_still_waiting(&call);
	count = clock_waits(waits, MAX_WAITS);
	assert_in_range(count, 1, MAX_WAITS);
	for (uint32_t i = 1; i < count; i++)
		assert_int_equal(waits[i].deadline, waits[0].deadline);
	/* One that had been started again would have 900 s left. */
	clock_jump(CLOCK_MONOTONIC, 100 * SECOND);
	expect_cancelled(&call, pair);
}

static void
relative_time_ignores_the_wall_clock(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct ssr_call call;

	start_held(&call, pair, 1, SECONDS(1000));
	clock_jump(CLOCK_REALTIME, 86400 * SECOND);
	expect_still_waiting(&call);
	clock_jump(CLOCK_REALTIME, -2 * 86400 * SECOND);
	expect_still_waiting(&call);
	/* Never shorter than asked for. */
	clock_jump(CLOCK_MONOTONIC, 900 * SECOND);
	expect_still_waiting(&call);
	clock_jump(CLOCK_MONOTONIC, 100 * SECOND);
	expect_cancelled(&call, pair);
	clock_jump(CLOCK_REALTIME, 86400 * SECOND);
}

static void
absolute_time_follows_the_wall_clock(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct ssr_call call;
	int64_t at = clock_read(CLOCK_REALTIME) / 100 + EPOCH_1601 - SECONDS(1000);

	start_held(&call, pair, 1, at);
	clock_jump(CLOCK_MONOTONIC, 86400 * SECOND);
	expect_still_waiting(&call);
	clock_jump(CLOCK_REALTIME, 900 * SECOND);
	expect_still_waiting(&call);
	/* Put back: it waits longer. */
	clock_jump(CLOCK_REALTIME, -500 * SECOND);
	clock_jump(CLOCK_REALTIME, 500 * SECOND);
	expect_still_waiting(&call);
	clock_jump(CLOCK_REALTIME, 100 * SECOND);
	expect_cancelled(&call, pair);
}

static void
times_beyond_the_range_of_the_clock_have_no_limit(struct conf_world *w)
{
	static const int64_t beyond[] = { INT64_MIN, INT64_MIN + 1, -INT64_C(0x7000000000000000),
		                          INT64_MAX - 1, INT64_C(0x7000000000000000) };
	struct conf_pair pair = conf_open_pair(w);
	struct clock_wait waits[MAX_WAITS];
	struct ssr_call call;
	uint32_t count;

	for (size_t i = 0; i < sizeof(beyond) / sizeof(beyond[0]); i++) {
		start_held(&call, pair, 1, beyond[i]);
		count = clock_waits(waits, MAX_WAITS);
		assert_in_range(count, 1, MAX_WAITS);
		for (uint32_t k = 0; k < count; k++)
			assert_false(waits[k].limited);
		clock_jump(CLOCK_MONOTONIC, 10 * 365 * 86400 * SECOND);
		expect_still_waiting(&call);
		conf_complete_held(pair.server);
		assert_int_equal(ssr_join(&call), STATUS_SUCCESS);
	}
}

/* ---- races, stopped at the decisive moment -------------------------------------------------- */

static void
answer_beats_a_deadline_that_passed_later(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct ssr_call call;

	start_held(&call, pair, 1, SECONDS(1000));
	clock_hold();
	assert_true(conf_complete(pair.server->packets[0], "answered", 8));
	clock_await_due(1);
	clock_jump(CLOCK_MONOTONIC, 2000 * SECOND);
	(void)clock_release();
	assert_int_equal(ssr_join(&call), STATUS_SUCCESS);
	assert_memory_equal(call.room, "answered", 8);
}

/*
 * The other way round: the deadline was seen first, and the answer comes before the caller
 * returned.
 */
static void
deadline_beats_an_answer_that_came_later(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct ssr_call call;

	start_held(&call, pair, 1, SECONDS(1000));
	clock_jump(CLOCK_MONOTONIC, 1000 * SECOND);
	assert_int_equal(ssr_join(&call), STATUS_CANCELLED);
	assert_true(conf_complete(pair.server->packets[0], "answered", 8));
	conf_fence(pair);
	assert_int_equal(conf_stats(pair.client).late_completions, 1);
	assert_int_equal(call.room[0], 77);
}

static void
claimed_answer_beats_a_close(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct ssr_task disable;
	struct ssr_call call;

	/* By the loop: the caller itself is held. */
	clock_words_only(true);
	start_held(&call, pair, 1, SSR_NO_LIMIT);
	clock_words_only(false);
	clock_hold();
	assert_true(conf_complete(pair.server->packets[0], "answered", 8));
	clock_await_due(1);
	ssr_task_start(&disable, pair.client, VmbChannelDisable);
	conf_await_left(pair.client, CONF_CLOSED, 1);
	(void)clock_release();
	assert_int_equal(ssr_join(&call), STATUS_SUCCESS);
	assert_memory_equal(call.room, "answered", 8);
	ssr_task_join(&disable);
}

static uint64_t disable_returned;

static VOID
disable_and_note(VMBCHANNEL channel)
{
	VmbChannelDisable(channel);
	disable_returned = clock_order();
}

static void
disable_waits_for_calls_inside(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct ssr_task disable;
	struct ssr_call call;
	uint64_t released;

	conf_set(pair.server, on_event, ssr_release_in_suspend);
	start_held(&call, pair, 1, SSR_NO_LIMIT);
	clock_hold();
	ssr_task_start(&disable, pair.client, disable_and_note);
	/* Everything else of the close is over: the channel can be configured again. */
	conf_await_left(pair.client, CONF_CLOSED, 1);
	clock_await_due(1);
	conf_poll_until(VmbChannelInitSetFlags(pair.client->handle, 0) == STATUS_SUCCESS);
	for (unsigned i = 0; i < 200; i++) {
		int64_t limit = 0;

		conf_yield(&limit, "nothing", __FILE__, __LINE__);
	}
	released = clock_release();
	assert_int_equal(ssr_join(&call), STATUS_DEVICE_REMOVED);
	ssr_task_join(&disable);
	assert_true(disable_returned > released);
}

static const struct conf_test tests[] = {
	CONF_TEST(timeout_is_that_of_a_kernel_wait, "SSR-21, SSR-25", CONF_BUSES),
	CONF_TEST(timeout_is_read_once_and_never_written, "SSR-22", CONF_BUSES),
	CONF_TEST(one_deadline_covers_queue_and_answer, "SSR-23", CONF_BUSES),
	CONF_TEST(relative_time_ignores_the_wall_clock, "SSR-24", CONF_BUSES),
	CONF_TEST(absolute_time_follows_the_wall_clock, "SSR-25", CONF_BUSES),
	CONF_TEST(times_beyond_the_range_of_the_clock_have_no_limit, "SSR-27", CONF_BUSES),
	CONF_TEST(answer_beats_a_deadline_that_passed_later, "SSR-40", CONF_BUSES),
	CONF_TEST(deadline_beats_an_answer_that_came_later, "SSR-40, SSR-41", CONF_BUSES),
	CONF_TEST(claimed_answer_beats_a_close, "SSR-56", CONF_BUSES),
	CONF_TEST(disable_waits_for_calls_inside, "SSR-59", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("ssr_time", tests);
}
