/* SPDX-License-Identifier: MIT */
/*
 * Memory that a synchronous request allocates (SSR-17). The program is linked so that the
 * library's allocations end here, where those of one thread are counted and can be made to fail.
 */
#include <errno.h>
#include <stdlib.h>

#include "ssr.h"

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *block, size_t bytes);
void *__real_aligned_alloc(size_t alignment, size_t bytes);
void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *block, size_t bytes);
void *__wrap_aligned_alloc(size_t alignment, size_t bytes);

static _Thread_local uint32_t allocations;
static _Thread_local bool refuse;

static bool
refused(void)
{
	allocations++;
	if (refuse)
		errno = ENOMEM;
	return refuse;
}

void *
__wrap_malloc(size_t bytes)
{
	return refused() ? NULL : __real_malloc(bytes);
}

void *
__wrap_calloc(size_t count, size_t bytes)
{
	return refused() ? NULL : __real_calloc(count, bytes);
}

void *
__wrap_realloc(void *block, size_t bytes)
{
	return refused() ? NULL : __real_realloc(block, bytes);
}

void *
__wrap_aligned_alloc(size_t alignment, size_t bytes)
{
	return refused() ? NULL : __real_aligned_alloc(alignment, bytes);
}

static void
failed_allocation_sends_nothing(struct conf_world *w)
{
	static const struct {
		UINT32 flags;
		int64_t timeout;
	} forms[] = {
		{ CONF_WAIT, SSR_NO_LIMIT },
		{ CONF_WAIT, SSR_LONG },
		{ CONF_WAIT, 0 },
		{ 0, SSR_LONG },
	};
	struct conf_pair pair = conf_open_pair(w);
	struct ssr_call call;

	for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
		ssr_prepare(&call, pair.client, i, forms[i].flags, forms[i].timeout);
		refuse = true;
		(void)ssr_run(&call);
		refuse = false;
		assert_int_equal(call.status, STATUS_INSUFFICIENT_RESOURCES);
		assert_int_equal(call.room_bytes, 8);
	}
	assert_int_equal(conf_stats(pair.client).packets_sent, 0);
	assert_int_equal(conf_stats(pair.client).outgoing_in_flight, 0);
	conf_fence(pair);
	assert_int_equal(conf_packet_count(pair.server), 1);
}

static void
zero_timeout_without_wait_allocates_nothing(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	void *block = conf_pool(4096, 1);
	PMDL mdl = conf_mdl(block, 4096);
	struct ssr_call call;

	for (unsigned i = 0; i < 4; i++) {
		ssr_prepare(&call, pair.client, i, 0, 0);
		call.mdl = i % 2 != 0 ? mdl : NULL;
		call.irql = i / 2 != 0 ? DISPATCH_LEVEL : PASSIVE_LEVEL;
		allocations = 0;
		refuse = true;
		(void)ssr_run(&call);
		refuse = false;
		assert_int_equal(call.status, STATUS_SUCCESS);
		assert_int_equal(allocations, 0);
	}
	allocations = 0;
	refuse = true;
	(void)conf_post(pair.server, 1);
	refuse = false;
	assert_int_equal(allocations, 0);
	conf_await_packets(pair.client, 1);
	conf_await_packets(pair.server, 4);
	conf_mdl_free(mdl);
	conf_pool_free(block);
}

static const struct conf_test tests[] = {
	CONF_TEST(failed_allocation_sends_nothing, "SSR-17", CONF_BUSES),
	CONF_TEST(zero_timeout_without_wait_allocates_nothing, "SSR-17", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("ssr_resources", tests);
}
