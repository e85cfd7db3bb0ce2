/* SPDX-License-Identifier: MIT */
/*
 * The root never waits for a guest (SSR-18..20): what a server endpoint may not ask for, and the
 * one form that it has.
 */
#include <string.h>

#include "ssr.h"

static const int64_t waiting[] = { SSR_NO_LIMIT, CONF_MS(1), SSR_LONG, INT64_MIN, 1, INT64_MAX - 1 };

static void
root_may_not_ask_for_a_completion(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);

	for (size_t i = 0; i < sizeof(waiting) / sizeof(waiting[0]); i++)
		assert_int_equal(ssr_send(pair.server, 1, CONF_WAIT, waiting[i]),
		                 STATUS_INVALID_PARAMETER_5);
	assert_int_equal(ssr_send(pair.server, 1, CONF_WAIT, 0), STATUS_INVALID_PARAMETER_5);
	assert_int_equal(conf_post(pair.server, 2), STATUS_SUCCESS);
	assert_int_equal(ssr_number(conf_await_packets(pair.client, 1)), 2);
	assert_int_equal(conf_stats(pair.server).packets_sent, 1);
}

static void
root_may_not_wait(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);

	for (size_t i = 0; i < sizeof(waiting) / sizeof(waiting[0]); i++)
		assert_int_equal(ssr_send(pair.server, 1, 0, waiting[i]), STATUS_INVALID_PARAMETER_8);
	assert_int_equal(conf_post(pair.server, 2), STATUS_SUCCESS);
	assert_int_equal(ssr_number(conf_await_packets(pair.client, 1)), 2);
	assert_int_equal(conf_stats(pair.server).packets_sent, 1);
}

static void
root_may_post(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	uint8_t message[100];
	struct ssr_call call;

	conf_fill(message, sizeof(message), 7);
	ssr_prepare(&call, pair.server, 0, 0, 0);
	call.buffer = message;
	call.bytes = sizeof(message);
	for (uint32_t i = 1; i <= 20; i++) {
		struct conf_packet *p;

		call.irql = i % 2 != 0 ? PASSIVE_LEVEL : DISPATCH_LEVEL;
		assert_int_equal(ssr_run(&call), STATUS_SUCCESS);
		assert_int_equal(call.room_bytes, 0);
		call.room_bytes = 8;
		p = conf_await_packets(pair.client, i);
		assert_int_equal(p->bytes, 104);
		assert_memory_equal(p->payload, message, sizeof(message));
		assert_memory_equal(p->payload + 100, "\0\0\0\0", 4);
	}
	assert_int_equal(conf_stats(pair.client).completions_sent, 0);
}

static void
root_has_no_external_data(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	void *block = conf_pool(4096, 1);
	PMDL mdl = conf_mdl(block, 4096);
	struct ssr_call call;

	ssr_prepare(&call, pair.server, 0, 0, 0);
	call.mdl = mdl;
	assert_int_equal(ssr_run(&call), STATUS_INVALID_PARAMETER_4);
	assert_int_equal(conf_stats(pair.server).packets_sent, 0);
	conf_mdl_free(mdl);
	conf_pool_free(block);
}

static const struct conf_test tests[] = {
	CONF_TEST(root_may_not_ask_for_a_completion, "SSR-18", CONF_BUSES),
	CONF_TEST(root_may_not_wait, "SSR-19", CONF_BUSES),
	CONF_TEST(root_may_post, "SSR-20", CONF_BUSES),
	CONF_TEST(root_has_no_external_data, "OUT-13", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("ssr_root", tests);
}
