/* SPDX-License-Identifier: MIT */
/*
 * The answer of a synchronous request and how it reaches the caller (SSR-1, SSR-6, SSR-7,
 * SSR-46..50).
 */
#include <string.h>

#include "ssr.h"

static void
returns_only_with_the_answer_of_its_own_transaction(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct ssr_call first, second;
	const uint64_t answers[2] = { 111, 222 };

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	ssr_prepare(&first, pair.client, 1, CONF_WAIT, SSR_NO_LIMIT);
	ssr_start(&first);
	assert_int_equal(ssr_number(conf_await_packets(pair.server, 1)), 1);
	ssr_prepare(&second, pair.client, 2, CONF_WAIT, SSR_NO_LIMIT);
	ssr_start(&second);
	assert_int_equal(ssr_number(conf_await_packets(pair.server, 2)), 2);
	assert_true(conf_complete(pair.server->packets[1], &answers[1], 8));
	assert_int_equal(ssr_join(&second), STATUS_SUCCESS);
	assert_int_equal(second.room[0], 222);
	conf_fence(pair);
	assert_false(ssr_returned(&first));
	assert_int_equal(conf_stats(pair.client).outgoing_in_flight, 1);
	assert_true(conf_complete(pair.server->packets[0], &answers[0], 8));
	assert_int_equal(ssr_join(&first), STATUS_SUCCESS);
	assert_int_equal(first.room[0], 111);
}

/* Every capacity against every payload, in steps of 8. */
static void
answer_is_copied_as_far_as_it_fits(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint8_t payload[48], room[48];

	conf_fill(payload, sizeof(payload), 9);
	for (UINT32 sent = 0; sent <= sizeof(payload); sent += 8) {
		conf_answer_with(pair.server, CONF_GIVE, payload, sent);
		for (UINT32 capacity = 0; capacity <= sizeof(room); capacity += 8) {
			UINT32 copied = sent < capacity ? sent : capacity;
			struct ssr_call call;

			memset(room, 0xA5, sizeof(room));
			ssr_prepare(&call, pair.client, 1, CONF_WAIT, SSR_LONG);
			call.answer = room;
			call.room_bytes = capacity;
			assert_int_equal(ssr_run(&call), sent > capacity && capacity != 0
			                                         ? STATUS_BUFFER_TOO_SMALL
			                                         : STATUS_SUCCESS);
			assert_int_equal(call.room_bytes, copied);
			assert_memory_equal(room, payload, copied);
			for (UINT32 i = copied; i < sizeof(room); i++)
				assert_int_equal(room[i], 0xA5);
		}
	}
}

static void
answer_length_is_a_multiple_of_8(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint8_t payload[24], room[32];

	conf_fill(payload, sizeof(payload), 9);
	for (UINT32 sent = 1; sent <= sizeof(payload); sent++) {
		struct ssr_call call;

		conf_answer_with(pair.server, CONF_GIVE, payload, sent);
		ssr_prepare(&call, pair.client, 1, CONF_WAIT, SSR_LONG);
		call.answer = room;
		call.room_bytes = sizeof(room);
		assert_int_equal(ssr_run(&call), STATUS_SUCCESS);
		assert_int_equal(call.room_bytes, (sent + 7) & ~7u);
		assert_memory_equal(room, payload, sent);
		for (UINT32 i = sent; i < call.room_bytes; i++)
			assert_int_equal(room[i], 0);
	}
}

static void
answer_may_be_larger_than_any_packet(struct conf_world *w)
{
	const struct conf_options small = { .max_packet = 64 };
	struct conf_pair pair = conf_open_pair_with(w, NULL, &small);
	uint8_t payload[20000], room[20000];
	struct ssr_call call;

	conf_fill(payload, sizeof(payload), 10);
	conf_answer_with(pair.server, CONF_GIVE, payload, sizeof(payload));
	ssr_prepare(&call, pair.client, 1, CONF_WAIT, SSR_LONG);
	call.answer = room;
	call.room_bytes = sizeof(room);
	assert_int_equal(ssr_run(&call), STATUS_SUCCESS);
	assert_int_equal(call.room_bytes, sizeof(room));
	assert_memory_equal(room, payload, sizeof(room));
}

static void
answer_without_room_is_dropped(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint8_t payload[64];
	struct ssr_call call;

	conf_fill(payload, sizeof(payload), 9);
	conf_answer_with(pair.server, CONF_GIVE, payload, sizeof(payload));
	ssr_prepare(&call, pair.client, 1, CONF_WAIT, SSR_LONG);
	call.answer = NULL;
	call.answer_bytes = NULL;
	assert_int_equal(ssr_run(&call), STATUS_SUCCESS);
	ssr_prepare(&call, pair.client, 1, CONF_WAIT, SSR_LONG);
	call.answer = NULL;
	call.room_bytes = 64;
	assert_int_equal(ssr_run(&call), STATUS_SUCCESS);
	assert_int_equal(call.room_bytes, 0);
	ssr_prepare(&call, pair.client, 1, CONF_WAIT, SSR_LONG);
	call.room[0] = 77;
	call.room_bytes = 0;
	assert_int_equal(ssr_run(&call), STATUS_SUCCESS);
	assert_int_equal(call.room_bytes, 0);
	assert_int_equal(call.room[0], 77);
}

static void
nothing_received_is_size_0(struct conf_world *w)
{
	static const UINT32 flags[] = { 0, CONF_PAGED };
	static const int64_t timeouts[] = { 0, SSR_LONG, SSR_NO_LIMIT, 1 };
	struct conf_pair pair = conf_open_pair(w);
	struct ssr_call call;

	conf_answer_with(pair.server, CONF_GIVE, NULL, 0);
	ssr_prepare(&call, pair.client, 1, CONF_WAIT, SSR_LONG);
	call.room[0] = 77;
	assert_int_equal(ssr_run(&call), STATUS_SUCCESS);
	assert_int_equal(call.room_bytes, 0);
	assert_int_equal(call.room[0], 77);
	for (unsigned i = 0; i < 8; i++) {
		ssr_prepare(&call, pair.client, 1, flags[i % 2], timeouts[i / 2]);
		call.room[0] = 77;
		assert_int_equal(ssr_run(&call), STATUS_SUCCESS);
		assert_int_equal(call.room_bytes, 0);
		assert_int_equal(call.room[0], 77);
	}
}

/* Statuses of other groups too: none of them may touch the caller's room. */
static void
failure_leaves_room_and_size_alone(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair_with(w, &ssr_small, &ssr_small);
	struct ssr_call call;

#define EXPECT_UNTOUCHED(expected)                                                                 \
	do {                                                                                       \
		call.room[0] = 77;                                                                 \
		call.room_bytes = 8;                                                               \
		assert_int_equal(ssr_run(&call), expected);                                        \
		assert_int_equal(call.room[0], 77);                                                \
		assert_int_equal(call.room_bytes, 8);                                              \
	} while (0)

	VmbChannelPause(pair.server->handle);
	ssr_prepare(&call, pair.client, 1, CONF_WAIT, CONF_MS(1));
	EXPECT_UNTOUCHED(STATUS_CANCELLED);
	(void)conf_fill_ring(pair.client, 8);
	EXPECT_UNTOUCHED(STATUS_CANCELLED);
	call.limit.QuadPart = 0;
	EXPECT_UNTOUCHED(STATUS_BUFFER_OVERFLOW);
	call.flags = 0;
	EXPECT_UNTOUCHED(STATUS_BUFFER_OVERFLOW);
	call.flags = 0x40;
	EXPECT_UNTOUCHED(STATUS_INVALID_PARAMETER_5);
	/* A write index that cannot be: the client fails. */
	conf_wire_inject(pair.server, "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
	                 16);
	call.flags = CONF_WAIT;
	call.timeout = NULL;
	conf_poll_until(ssr_send(pair.client, 1, 0, 0) == STATUS_DEVICE_REMOVED);
	EXPECT_UNTOUCHED(STATUS_DEVICE_REMOVED);
	VmbChannelDisable(pair.client->handle);
	EXPECT_UNTOUCHED(STATUS_INVALID_DEVICE_STATE);
#undef EXPECT_UNTOUCHED
}

static const struct conf_test tests[] = {
	CONF_TEST(returns_only_with_the_answer_of_its_own_transaction, "SSR-1, SSR-6", CONF_BUSES),
	CONF_TEST(answer_is_copied_as_far_as_it_fits, "SSR-6, SSR-7, SSR-46..48", CONF_BUSES),
	CONF_TEST(answer_length_is_a_multiple_of_8, "SSR-46, TXN-4", CONF_BUSES),
	CONF_TEST(answer_may_be_larger_than_any_packet, "SSR-46", CONF_BUSES),
	CONF_TEST(answer_without_room_is_dropped, "SSR-48", CONF_BUSES),
	CONF_TEST(nothing_received_is_size_0, "SSR-49", CONF_BUSES),
	CONF_TEST(failure_leaves_room_and_size_alone, "SSR-50", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("ssr_answer", tests);
}
