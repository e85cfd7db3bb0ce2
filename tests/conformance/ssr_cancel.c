/* SPDX-License-Identifier: MIT */
/*
 * The time elapses: what is cancelled, what the peer still sees, and what is not touched any more
 * (SSR-26, SSR-28, SSR-37..39, SSR-41, SSR-42).
 */
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#include "ssr.h"

static void
silent_peer_is_given_up(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct ssr_call call;

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	ssr_prepare(&call, pair.client, 1, CONF_WAIT, CONF_MS(20));
	assert_int_equal(ssr_run(&call), STATUS_CANCELLED);
	assert_true(call.ended - call.began >= 20000000);
	/* Not withdrawn: the peer has it. */
	assert_int_equal(ssr_number(conf_await_packets(pair.server, 1)), 1);
	assert_int_equal(conf_stats(pair.client).outgoing_in_flight, 1);
	conf_complete_held(pair.server);
	conf_fence(pair);
	assert_int_equal(conf_stats(pair.client).outgoing_in_flight, 0);
}

static void
request_in_the_queue_is_taken_out(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair_with(w, &ssr_small, &ssr_small);
	struct conf_send *sends[3];
	uint64_t numbers[3] = { 1, 3, 5 };
	uint32_t count;

	VmbChannelPause(pair.server->handle);
	count = conf_fill_ring(pair.client, 8);
	for (uint32_t i = 0; i < 3; i++) {
		sends[i] = conf_send_new(pair.client);
		assert_int_equal(VmbPacketSend(sends[i]->packet, &numbers[i], 8, NULL, 0),
		                 STATUS_SUCCESS);
		assert_int_equal(ssr_send(pair.client, numbers[i] + 1, i == 1 ? 0 : CONF_WAIT,
		                          CONF_MS(2)),
		                 STATUS_CANCELLED);
		assert_int_equal(conf_stats(pair.client).outgoing_queued, i + 1);
	}
	assert_int_equal(conf_stats(pair.client).outgoing_in_flight, 0);
	VmbChannelStart(pair.server->handle);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(ssr_number(conf_await_packets(pair.server, count + 1 + i)), numbers[i]);
		conf_await_done(sends[i], 1);
		conf_send_free(sends[i]);
	}
	conf_fence(pair);
	assert_int_equal(conf_packet_count(pair.server), count + 3 + 1);
	assert_int_equal(conf_stats(pair.client).late_completions, 0);
}

/*
 * A large request at the head of the queue leaves, and what fits without it goes into the ring at
 * once.
 */
static void
cancelled_head_lets_others_pass(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair_with(w, &ssr_small, &ssr_small);
	struct conf_send *send = conf_send_new(pair.client);
	uint8_t large[SSR_SMALL_PACKET] = { 0 };
	uint64_t number = 7;
	struct ssr_call call;

	VmbChannelPause(pair.server->handle);
	(void)conf_fill_ring(pair.client, sizeof(large));
	ssr_prepare(&call, pair.client, 0, CONF_WAIT, CONF_MS(100));
	call.buffer = large;
	call.bytes = sizeof(large);
	ssr_start(&call);
	conf_poll_until(conf_stats(pair.client).queued == 1);
	assert_int_equal(VmbPacketSend(send->packet, &number, 8, NULL, 0), STATUS_SUCCESS);
	assert_int_equal(ssr_join(&call), STATUS_CANCELLED);
	conf_await_done(send, 1);
	assert_int_equal(send->status, STATUS_SUCCESS);
	assert_int_equal(conf_stats(pair.client).outgoing_queued, 0);
	VmbChannelStart(pair.server->handle);
	conf_fence(pair);
	conf_send_free(send);
}

static void
time_in_the_past_is_one_attempt(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair_with(w, &ssr_small, &ssr_small);
	LARGE_INTEGER now;
	uint32_t count;

	KeQuerySystemTime(&now);
	assert_int_equal(ssr_send(pair.client, 1, 0, now.QuadPart - 1), STATUS_SUCCESS);
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	assert_int_equal(ssr_send(pair.client, 2, CONF_WAIT, now.QuadPart - 10000000),
	                 STATUS_CANCELLED);
	assert_int_equal(ssr_send(pair.client, 3, CONF_WAIT, 1), STATUS_CANCELLED);
	assert_int_equal(ssr_number(conf_await_packets(pair.server, 3)), 3);
	conf_complete_held(pair.server);
	conf_answer_with(pair.server, CONF_ECHO, NULL, 0);
	VmbChannelPause(pair.server->handle);
	count = conf_fill_ring(pair.client, 8);
	assert_int_equal(ssr_send(pair.client, 4, 0, 1), STATUS_CANCELLED);
	assert_int_equal(ssr_send(pair.client, 4, CONF_WAIT, now.QuadPart - 1), STATUS_CANCELLED);
	assert_int_equal(conf_stats(pair.client).outgoing_queued, 0);
	VmbChannelStart(pair.server->handle);
	conf_fence(pair);
	assert_int_equal(conf_packet_count(pair.server), 3 + count + 1);
}

/* ---- not alertable -------------------------------------------------------------------------- */

static atomic_uint signals_seen;

static void
on_signal(int number)
{
	(void)number;
	atomic_fetch_add(&signals_seen, 1);
}

/* A thread sanitizer runs handlers later, but its own interrupts the wait as well. */
#if defined(__SANITIZE_THREAD__)
#define HANDLERS_RUN_AT_ONCE false
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HANDLERS_RUN_AT_ONCE false
#endif
#endif
#ifndef HANDLERS_RUN_AT_ONCE
#define HANDLERS_RUN_AT_ONCE true
#endif

static void
interrupt_often(struct ssr_call *call)
{
	for (unsigned i = 0; i < 50; i++) {
		unsigned before = atomic_load(&signals_seen);

		assert_int_equal(pthread_kill(call->thread, SIGUSR1), 0);
		conf_poll_until(!HANDLERS_RUN_AT_ONCE || atomic_load(&signals_seen) != before ||
		                ssr_returned(call));
	}
}

static void
signals_do_not_end_a_wait(struct conf_world *w)
{
	struct sigaction action = { .sa_handler = on_signal }, old;
	struct conf_pair pair = conf_open_pair(w);
	struct ssr_call call;

	assert_int_equal(sigaction(SIGUSR1, &action, &old), 0);
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	ssr_prepare(&call, pair.client, 1, CONF_WAIT, SSR_NO_LIMIT);
	ssr_start(&call);
	conf_await_packets(pair.server, 1);
	interrupt_often(&call);
	assert_false(ssr_returned(&call));
	conf_complete_held(pair.server);
	assert_int_equal(ssr_join(&call), STATUS_SUCCESS);
	/* With the remaining time, not with less. */
	ssr_prepare(&call, pair.client, 2, CONF_WAIT, CONF_MS(200));
	ssr_start(&call);
	conf_await_packets(pair.server, 2);
	interrupt_often(&call);
	assert_int_equal(ssr_join(&call), STATUS_CANCELLED);
	assert_true(call.ended - call.began >= 200000000);
	assert_int_equal(sigaction(SIGUSR1, &old, NULL), 0);
}

static void *
cancelled_thread(void *ctx)
{
	struct ssr_call *call = ctx;

	(void)pthread_cancel(pthread_self());
	(void)VmbChannelSendSynchronousRequest(call->channel->handle, call->buffer, call->bytes, NULL, 0,
	                                       NULL, NULL, NULL);
	call->status = VmbChannelSendSynchronousRequest(call->channel->handle, call->buffer, call->bytes,
	                                                NULL, call->flags, call->answer,
	                                                call->answer_bytes, call->timeout);
	pthread_testcancel();
	return NULL;
}

static void
thread_cancellation_waits_for_the_end_of_the_call(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct ssr_call call;
	void *result = NULL;

	for (unsigned i = 0; i < 20; i++) {
		ssr_prepare(&call, pair.client, i, CONF_WAIT, SSR_LONG);
		call.status = STATUS_UNSUCCESSFUL;
		assert_int_equal(pthread_create(&call.thread, NULL, cancelled_thread, &call), 0);
		assert_int_equal(pthread_join(call.thread, &result), 0);
		assert_ptr_equal(result, PTHREAD_CANCELED);
		assert_int_equal(call.status, STATUS_SUCCESS);
		assert_int_equal(call.room[0], i);
	}
	conf_fence(pair);
}

/* ---- memory of the caller ------------------------------------------------------------------- */

static void
cancelled_call_writes_nothing_ever(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct ssr_call call;

	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	ssr_prepare(&call, pair.client, 1, CONF_WAIT, CONF_MS(5));
	call.room[0] = 77;
	assert_int_equal(ssr_run(&call), STATUS_CANCELLED);
	conf_await_packets(pair.server, 1);
	conf_complete_held(pair.server);
	conf_fence(pair);
	assert_int_equal(conf_stats(pair.client).late_completions, 1);
	assert_int_equal(call.room[0], 77);
	assert_int_equal(call.room_bytes, 8);
}

/* All that a caller passes, in one page that can be taken away. */
struct page {
	uint8_t buffer[512];
	uint8_t answer[512];
	UINT32 answer_bytes;
	LARGE_INTEGER timeout;
	MDL mdl;
	PFN_NUMBER pfns[2];
};

static struct page *
page_new(struct ssr_call *call, void *block, int64_t timeout)
{
	struct page *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	_Static_assert(sizeof(struct page) <= 4096, "one page");
	assert_ptr_not_equal(page, MAP_FAILED);
	MmInitializeMdl(&page->mdl, block, 4096);
	MmBuildMdlForNonPagedPool(&page->mdl);
	page->answer_bytes = 64;
	page->timeout.QuadPart = timeout;
	call->buffer = page->buffer;
	call->bytes = sizeof(page->buffer);
	call->mdl = &page->mdl;
	call->answer = page->answer;
	call->answer_bytes = &page->answer_bytes;
	call->timeout = &page->timeout;
	return page;
}

static void
caller_memory_is_left_alone_after_return(struct conf_world *w)
{
	enum { SUCCESS, NO_WAIT, TOO_SMALL, CANCELLED, CANCELLED_IN_QUEUE, OVERFLOW, REMOVED, FORMS };
	static const struct {
		UINT32 flags;
		int64_t timeout;
		NTSTATUS status;
	} forms[FORMS] = {
		[SUCCESS] = { CONF_WAIT, SSR_LONG, STATUS_SUCCESS },
		[NO_WAIT] = { 0, SSR_LONG, STATUS_SUCCESS },
		[TOO_SMALL] = { CONF_WAIT, SSR_LONG, STATUS_BUFFER_TOO_SMALL },
		[CANCELLED] = { CONF_WAIT, CONF_MS(1), STATUS_CANCELLED },
		[CANCELLED_IN_QUEUE] = { CONF_WAIT, CONF_MS(1), STATUS_CANCELLED },
		[OVERFLOW] = { 0, 0, STATUS_BUFFER_OVERFLOW },
		[REMOVED] = { CONF_WAIT, SSR_LONG, STATUS_DEVICE_REMOVED },
	};
	const struct conf_options options = { .max_packet = 512, .in_pages = 1, .out_pages = 1,
		                              .external_bytes = 4096, .external_mdls = 1 };
	struct conf_pair pair = conf_open_pair_with(w, &options, &options);
	void *block = conf_pool(4096, 1);
	struct ssr_task disable;
	struct page *pages[FORMS];
	struct ssr_call call;

	conf_set(pair.server, on_event, ssr_release_in_suspend);
	for (unsigned i = 0; i < FORMS; i++) {
		ssr_prepare(&call, pair.client, 0, forms[i].flags, 0);
		pages[i] = page_new(&call, block, forms[i].timeout);
		if (i == SUCCESS)
			conf_answer_with(pair.server, CONF_GIVE, NULL, 0);
		if (i == TOO_SMALL)
			conf_answer_with(pair.server, CONF_ECHO, NULL, 0);
		if (i == CANCELLED || i == REMOVED)
			conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
		if (i == CANCELLED_IN_QUEUE) {
			VmbChannelPause(pair.server->handle);
			(void)conf_fill_ring(pair.client, 512);
		}
		if (i == REMOVED) {
			VmbChannelStart(pair.server->handle);
			conf_poll_until(conf_post(pair.client, 0) == STATUS_SUCCESS);
			ssr_start(&call);
			conf_poll_until(conf_stats(pair.client).outgoing_in_flight == 1);
			ssr_task_start(&disable, pair.client, VmbChannelDisable);
			assert_int_equal(ssr_join(&call), forms[i].status);
			assert_int_equal(mprotect(pages[i], 4096, PROT_NONE), 0);
			ssr_task_join(&disable);
			continue;
		}
		assert_int_equal(ssr_run(&call), forms[i].status);
		/* From here on any access faults. */
		assert_int_equal(mprotect(pages[i], 4096, PROT_NONE), 0);
		if (i == CANCELLED) {
			conf_poll_until(conf_stats(pair.server).incoming_outstanding == 1);
			conf_await(w, pair.server->held == 1);
			conf_complete_held(pair.server);
			conf_poll_until(conf_stats(pair.client).late_completions == 1);
		}
	}
	for (unsigned i = 0; i < FORMS; i++)
		assert_int_equal(munmap(pages[i], 4096), 0);
	conf_pool_free(block);
}

static const struct conf_test tests[] = {
	CONF_TEST(silent_peer_is_given_up, "SSR-37, SSR-39", CONF_BUSES),
	CONF_TEST(request_in_the_queue_is_taken_out, "SSR-37, SSR-38", CONF_BUSES),
	CONF_TEST(cancelled_head_lets_others_pass, "SSR-38", CONF_BUSES),
	CONF_TEST(time_in_the_past_is_one_attempt, "SSR-26", CONF_BUSES),
	CONF_TEST(signals_do_not_end_a_wait, "SSR-28", CONF_BUSES),
	CONF_TEST(thread_cancellation_waits_for_the_end_of_the_call, "SSR-28", CONF_BUSES),
	CONF_TEST(cancelled_call_writes_nothing_ever, "SSR-41", CONF_BUSES),
	CONF_TEST(caller_memory_is_left_alone_after_return, "SSR-42, OUT-5, OUT-6", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("ssr_cancel", tests);
}
