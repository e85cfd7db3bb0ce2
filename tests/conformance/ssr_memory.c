/* SPDX-License-Identifier: MIT */
/*
 * Pageable buffers, external data without an answer, and memory of the caller that takes long to write (SSR-40, SSR-59, SSR-60, SSR-61,
 * OUT-5, OUT-15, OUT-16).
 */
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "ssr.h"
#include "vmb/packet.h"

static void
pageable_buffer_is_captured_before_the_wait(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair_with(w, &ssr_small, &ssr_small);
	struct ssr_call call;
	uint32_t count;

	VmbChannelPause(pair.server->handle);
	count = conf_fill_ring(pair.client, 8);
	for (uint32_t i = 0; i < 2; i++) {
		ssr_prepare(&call, pair.client, 1000, CONF_WAIT | (i != 0 ? CONF_PAGED : 0), SSR_LONG);
		call.buffer = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		                   0);
		assert_ptr_not_equal(call.buffer, MAP_FAILED);
		memcpy(call.buffer, &call.number, 8);
		ssr_start(&call);
		ssr_await_queued(pair.client, 1);
		/* Queued, and the buffer is not needed any more. */
		assert_int_equal(munmap(call.buffer, 4096), 0);
		VmbChannelStart(pair.server->handle);
		assert_int_equal(ssr_join(&call), STATUS_SUCCESS);
		assert_int_equal(ssr_number(conf_await_packets(pair.server, count + 1)), 1000);
		VmbChannelPause(pair.server->handle);
		count += 1 + conf_fill_ring(pair.client, 8);
	}
	VmbChannelStart(pair.server->handle);
	conf_fence(pair);
}

static sigjmp_buf fault_jump;
static const void *fault_address;

static void
on_fault(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	fault_address = info->si_addr;
	siglongjmp(fault_jump, 1);
}

/* The second page of the buffer is not there. */
static void
caller_can_recover_from_a_fault_in_its_buffer(struct conf_world *w)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO }, segv, bus;
	struct conf_pair pair = conf_open_pair_with(w, NULL, NULL);
	uint8_t *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct kmcl_channel_stats stats;
	volatile unsigned faults = 0;
	static const int64_t timeouts[] = { SSR_NO_LIMIT, SSR_LONG, 0 };

	assert_ptr_not_equal(pages, MAP_FAILED);
	assert_int_equal(mprotect(pages + 4096, 4096, PROT_NONE), 0);
	assert_int_equal(sigaction(SIGSEGV, &action, &segv), 0);
	assert_int_equal(sigaction(SIGBUS, &action, &bus), 0);
	for (volatile unsigned i = 0; i < 6; i++) {
		struct ssr_call call;

		ssr_prepare(&call, pair.client, 0, CONF_PAGED | (i % 2 != 0 ? CONF_WAIT : 0),
		            timeouts[i / 2]);
		call.buffer = pages + 4000;
		call.bytes = 200;
		if (sigsetjmp(fault_jump, 1) == 0) {
			(void)ssr_run(&call);
			fail();
		}
		assert_ptr_equal(PAGE_ALIGN(fault_address), pages + 4096);
		faults++;
	}
	assert_int_equal(sigaction(SIGSEGV, &segv, NULL), 0);
	assert_int_equal(sigaction(SIGBUS, &bus, NULL), 0);
	assert_int_equal(faults, 6);
	stats = conf_stats(pair.client);
	assert_int_equal(stats.packets_sent, 0);
	assert_int_equal(stats.outgoing_in_flight, 0);
	assert_int_equal(stats.outgoing_queued, 0);
	/* No lock was held, and Disable does not wait for calls that will never return. */
	conf_fence(pair);
	assert_int_equal(conf_packet_count(pair.server), 1);
	VmbChannelDisable(pair.client->handle);
	assert_int_equal(munmap(pages, 8192), 0);
}

static void
pageable_buffer_at_dispatch_is_misuse(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct ssr_call call;

	ssr_prepare(&call, pair.client, 1, CONF_PAGED, 0);
	assert_int_equal(ssr_run(&call), STATUS_SUCCESS);
	assert_int_equal(conf_misuses(w), 0);
	call.irql = DISPATCH_LEVEL;
	call.room_bytes = 8;
	(void)ssr_run(&call);
	assert_int_equal(conf_misuses(w), 1);
	conf_expect_misuses(w, 1);
	/* The other flags are legal there. */
	call.flags = CONF_FORCE;
	call.room_bytes = 8;
	assert_int_equal(ssr_run(&call), STATUS_SUCCESS);
	assert_int_equal(conf_misuses(w), 1);
}

/* ---- external data without an answer -------------------------------------------------------- */

static void
external_data_without_wait_asks_for_no_answer(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	void *block = conf_pool(8192, 1);
	PMDL mdl = conf_mdl(block, 8192);
	uint64_t pins = conf_pins(w);
	struct conf_wire wire;
	struct ssr_call call;

	VmbChannelPause(pair.server->handle);
	for (unsigned i = 0; i < 3; i++) {
		ssr_prepare(&call, pair.client, i, 0,
		            i == 0   ? 0
		            : i == 1 ? SSR_LONG
		                     : SSR_NO_LIMIT);
		call.mdl = mdl;
		assert_int_equal(ssr_run(&call), STATUS_SUCCESS);
		/* It is in the ring: from here on the caller looks after the memory. */
		assert_int_equal(conf_pins(w), pins);
	}
	wire = conf_wire_read(pair.client);
	assert_int_equal(wire.count, 3);
	for (uint32_t i = 0; i < 3; i++) {
		assert_int_equal(wire.packets[i].type, VMB_PACKET_GPA_DIRECT);
		assert_int_equal(wire.packets[i].flags, 0);
		assert_int_equal(wire.packets[i].transaction_id, 0);
		assert_int_equal(wire.packets[i].data_offset, 16 + 8 + 8 + 2 * 8);
	}
	conf_wire_free(&wire);
	conf_set(pair.server, fetch_external, true);
	VmbChannelStart(pair.server->handle);
	conf_await_packets(pair.server, 3);
	for (uint32_t i = 0; i < 3; i++)
		assert_true(conf_is_filled(pair.server->packets[i]->external, 8192, 1));
	assert_int_equal(conf_stats(pair.server).completions_sent, 0);
	conf_mdl_free(mdl);
	conf_pool_free(block);
}

static void
pages_are_referenced_until_the_packet_is_in_the_ring(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair_with(w, &ssr_small, &ssr_small);
	void *block = conf_pool(4096, 1);
	PMDL mdl = conf_mdl(block, 4096);
	uint64_t pins = conf_pins(w);
	struct ssr_call call;

	VmbChannelPause(pair.server->handle);
	(void)conf_fill_ring(pair.client, 8);
	ssr_prepare(&call, pair.client, 1, 0, SSR_NO_LIMIT);
	call.mdl = mdl;
	ssr_start(&call);
	ssr_await_queued(pair.client, 1);
	assert_true(conf_pins(w) > pins);
	/* Nobody will read it. */
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	VmbChannelStart(pair.server->handle);
	assert_int_equal(ssr_join(&call), STATUS_SUCCESS);
	assert_int_equal(conf_pins(w), pins);
	/* Given up in the queue: no reference stays. */
	conf_answer_with(pair.server, CONF_ECHO, NULL, 0);
	conf_complete_held(pair.server);
	conf_fence(pair);
	VmbChannelPause(pair.server->handle);
	(void)conf_fill_ring(pair.client, 8);
	ssr_prepare(&call, pair.client, 1, 0, CONF_MS(2));
	call.mdl = mdl;
	assert_int_equal(ssr_run(&call), STATUS_CANCELLED);
	assert_int_equal(conf_pins(w), pins);
	VmbChannelStart(pair.server->handle);
	conf_mdl_free(mdl);
	conf_pool_free(block);
}

/* ---- an answer that is being written ---------------------------------------------------------- */

/* A page of the caller's. Who writes there stops, and somebody who must wait for the write has time to return too early. */
static struct {
	uint8_t *page;
	_Atomic uint64_t until_ns;
	atomic_bool is_written, has_returned, was_too_early, is_over;
} writing;

static uint64_t
clock_ns(void)
{
	struct timespec now;

	(void)clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void
on_write(int number, siginfo_t *info, void *context)
{
	const struct timespec moment = { .tv_nsec = 1000000 };

	(void)context;
	if ((uint8_t *)info->si_addr != writing.page) {
		(void)signal(number, SIG_DFL);
		return;
	}
	atomic_store(&writing.is_written, true);
	while (!atomic_load(&writing.has_returned) && clock_ns() < atomic_load(&writing.until_ns))
		(void)nanosleep(&moment, NULL);
	atomic_store(&writing.was_too_early, atomic_load(&writing.has_returned));
	atomic_store(&writing.is_over, true);
	(void)mprotect(writing.page, 4096, PROT_READ | PROT_WRITE);
}

static void
begin_writing(int protection, struct sigaction *old)
{
	struct sigaction action = { .sa_sigaction = on_write, .sa_flags = SA_SIGINFO };

	writing.page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	assert_ptr_not_equal(writing.page, MAP_FAILED);
	*(UINT32 *)(void *)writing.page = 8;
	assert_int_equal(mprotect(writing.page, 4096, protection), 0);
	assert_int_equal(sigaction(SIGSEGV, &action, old), 0);
	atomic_store(&writing.is_written, false);
	atomic_store(&writing.has_returned, false);
	atomic_store(&writing.is_over, false);
}

static void
end_writing(const struct sigaction *old)
{
	assert_true(atomic_load(&writing.is_written));
	assert_false(atomic_load(&writing.was_too_early));
	assert_int_equal(sigaction(SIGSEGV, old, NULL), 0);
	assert_int_equal(munmap(writing.page, 4096), 0);
}

static void *
ask_into_page(void *ctx)
{
	struct ssr_call *call = ctx;

	call->status = VmbChannelSendSynchronousRequest(call->channel->handle, call->buffer, call->bytes, NULL,
	                                                call->flags, call->answer, call->answer_bytes,
	                                                call->timeout);
	atomic_store(&writing.has_returned, true);
	return NULL;
}

static void
answer_that_is_being_written_is_waited_for(struct conf_world *w)
{
	struct sigaction old;
	const struct timespec until_it_sleeps = { .tv_nsec = 20000000 };
	struct conf_pair pair = conf_open_pair(w);
	struct ssr_call first, call;
	uint32_t packets = 0;

	begin_writing(PROT_NONE, &old);
	conf_answer_with(pair.server, CONF_HOLD, NULL, 0);
	/* Who waits alone takes its answer itself; this one waits for the peer's signals in its place. */
	ssr_prepare(&first, pair.client, 0, CONF_WAIT, SSR_NO_LIMIT);
	ssr_start(&first);
	(void)conf_await_packets(pair.server, ++packets);
	(void)nanosleep(&until_it_sleeps, NULL);
	/* Again, with more time, if the machine was too slow for an answer in time. */
	for (unsigned ms = 100; !atomic_load(&writing.is_written); ms *= 2) {
		struct conf_packet *p;

		atomic_store(&writing.has_returned, false);
		ssr_prepare(&call, pair.client, packets, CONF_WAIT, CONF_MS(ms));
		call.answer = writing.page;
		atomic_store(&writing.until_ns, clock_ns() + (ms + 300) * 1000000ull);
		assert_int_equal(pthread_create(&call.thread, NULL, ask_into_page, &call), 0);
		p = conf_await_packets(pair.server, ++packets);
		/* One that polls would take its answer itself. */
		(void)nanosleep(&until_it_sleeps, NULL);
		conf_await(w, pair.server->held == 2);
		assert_true(conf_complete(p, p->payload, p->bytes));
		assert_int_equal(pthread_join(call.thread, NULL), 0);
		conf_poll_until(!atomic_load(&writing.is_written) || atomic_load(&writing.is_over));
		assert_false(atomic_load(&writing.was_too_early));
		conf_fence(pair);
		packets++;
	}
	end_writing(&old);
	assert_int_equal(call.status, STATUS_SUCCESS);
	assert_int_equal(call.room_bytes, 8);
	conf_complete_held(pair.server);
	assert_int_equal(ssr_join(&first), STATUS_SUCCESS);
}

static VOID
disable(VMBCHANNEL channel)
{
	VmbChannelDisable(channel);
	atomic_store(&writing.has_returned, true);
}

/* It was answered and has not left: it still says how long the answer is. */
static void
disable_waits_for_a_request_that_is_inside(struct conf_world *w)
{
	struct conf_pair pair = conf_open_pair(w);
	struct ssr_task task;
	struct ssr_call call;
	struct sigaction old;

	begin_writing(PROT_READ, &old);
	atomic_store(&writing.until_ns, UINT64_MAX);
	ssr_prepare(&call, pair.client, 1, CONF_WAIT, SSR_LONG);
	call.answer_bytes = (PUINT32)(void *)writing.page;
	ssr_start(&call);
	conf_poll_until(atomic_load(&writing.is_written));
	ssr_task_start(&task, pair.client, disable);
	atomic_store(&writing.until_ns, clock_ns() + 300000000u);
	assert_int_equal(ssr_join(&call), STATUS_SUCCESS);
	ssr_task_join(&task);
	end_writing(&old);
}

static const struct conf_test tests[] = {
	CONF_TEST(pageable_buffer_is_captured_before_the_wait, "SSR-60, OUT-5", CONF_BUSES),
	CONF_TEST(caller_can_recover_from_a_fault_in_its_buffer, "SSR-60, OUT-16", CONF_BUSES),
	CONF_TEST(pageable_buffer_at_dispatch_is_misuse, "SSR-60, OUT-15", CONF_BUSES),
	CONF_TEST(external_data_without_wait_asks_for_no_answer, "SSR-61, TXN-1", CONF_BUSES),
	CONF_TEST(pages_are_referenced_until_the_packet_is_in_the_ring, "SSR-61", CONF_BUSES),
	CONF_TEST(answer_that_is_being_written_is_waited_for, "SSR-40", CONF_BUSES),
	CONF_TEST(disable_waits_for_a_request_that_is_inside, "SSR-59", CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("ssr_memory", tests);
}
