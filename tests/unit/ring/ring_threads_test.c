/* SPDX-License-Identifier: MIT */
/*
 * Producer and consumer in two threads that sleep in the kernel and wake each other exactly when
 * the ring says so, and never otherwise. Every packet must arrive once, in order, whole; and nobody
 * may sleep for ever: a lost wake-up shows as a wait that ends by its (long) time limit.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "port/local.h"
#include "ring_t.h"

#define PACKETS 60000u
#define RING_BYTES 0x1000u
#define LOST_WAKE_UP_MS 30000

enum pace {
	PACE_FREE,         /* both as fast as they can */
	PACE_MOSTLY_EMPTY, /* producer waits for the consumer: commits race with going to sleep */
	PACE_MOSTLY_FULL,  /* consumer releases each packet: releases race with asking for room */
};

struct world {
	enum pace pace;
	const struct vmb_ring_local *local; /* NULL = the VMBus rule */
	uint64_t seed;
	struct t_ring ring;
	int wake_reader, wake_writer;
	bool failed; /* atomic */
	uint32_t reader_signals, writer_signals;
};

static bool
world_failed(struct world *w)
{
	return __atomic_load_n(&w->failed, __ATOMIC_RELAXED);
}

/*
 * cmocka's assertions work in its own thread only; the first failure is told and ends both threads.
 */
static void
world_fail(struct world *w, const char *why)
{
	if (!__atomic_exchange_n(&w->failed, true, __ATOMIC_RELAXED))
		print_error("pace %d: %s\n", w->pace, why);
}

static void
event_signal(struct world *w, int fd)
{
	uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) != sizeof(one))
		world_fail(w, "cannot signal");
}

static void
event_wait(struct world *w, int fd, const char *who)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	uint64_t count;
	int ready;

	do {
		ready = poll(&pollfd, 1, LOST_WAKE_UP_MS);
	} while (ready < 0 && errno == EINTR);
	if (ready != 1)
		world_fail(w, who);
	else if (read(fd, &count, sizeof(count)) != sizeof(count))
		world_fail(w, "cannot consume a signal");
}

/* Sizes and bytes follow from the number alone, so that the consumer knows what to expect. */
static uint32_t
payload_bytes_of(uint64_t number)
{
	struct t_random random = { number, number };

	return t_random_below(&random, 8) == 0 ? t_random_below(&random, 2000)
					       : t_random_below(&random, 120);
}

static void
payload_fill(uint64_t number, uint8_t *payload, uint32_t bytes)
{
	for (uint32_t i = 0; i < bytes; i++)
		payload[i] = (uint8_t)(number + i);
}

/* Not a time to wait for anything: only moves one thread against the other. */
static void
a_moment(struct t_random *random, uint32_t most_spins)
{
	for (uint32_t spins = t_random_below(random, most_spins); spins > 0; spins--)
		__asm__ volatile("" : : : "memory");
}

static void
producer_commit(struct world *w, struct vmb_ring_tx *tx)
{
	bool signal;

	if (vmb_ring_tx_commit(tx, &signal) != VMB_OK)
		world_fail(w, "commit failed");
	w->reader_signals += signal;
	if (signal)
		event_signal(w, w->wake_reader);
}

/* Write one packet, sleeping while there is no room. */
static void
producer_send(struct world *w, struct vmb_ring_tx *tx, uint64_t number)
{
	uint8_t payload[2048];
	uint32_t bytes = payload_bytes_of(number);
	uint64_t descriptor[2] = { t_descriptor(T_IN_BAND, 2, (16 + bytes + 7) / 8, 0), number };
	struct vmb_iov iov[2] = { { descriptor, 16 }, { payload, bytes } };
	enum vmb_status st;
	bool wakes;

	payload_fill(number, payload, bytes);
	while ((st = vmb_ring_write(tx, iov, 2)) == VMB_E_FULL && !world_failed(w)) {
		producer_commit(w, tx);
		if (vmb_ring_tx_want(tx, w->ring.ctl, 16 + bytes, &wakes) == VMB_E_FULL)
			event_wait(w, w->wake_writer, "the writer waits for ever");
	}
	if (st != VMB_OK)
		world_fail(w, "write failed");
}

/* Until the consumer released everything: it is going to sleep within a moment then. */
static void
producer_await_drained(struct world *w, struct vmb_ring_tx *tx)
{
	for (uint32_t spins = 1; !vmb_ring_tx_drained(tx) && !world_failed(w); spins++)
		if (spins % 4096 == 0)
			sched_yield();
}

static void *
producer_main(void *context)
{
	struct world *w = context;
	struct t_random random = { w->seed, w->seed };
	struct vmb_ring_tx tx;

	if (vmb_ring_tx_init(&tx, w->ring.ctl, w->ring.data, w->ring.size) != VMB_OK)
		world_fail(w, "cannot attach as producer");
	if (w->local != NULL && !vmb_ring_tx_set_local(&tx, w->local))
		world_fail(w, "no fence");
	for (uint64_t number = 0; number < PACKETS && !world_failed(w);) {
		uint32_t batch = w->pace == PACE_MOSTLY_EMPTY ? 1 : 1 + t_random_below(&random, 8);

		for (; batch > 0 && number < PACKETS && !world_failed(w); batch--)
			producer_send(w, &tx, number++);
		producer_commit(w, &tx);
		if (w->pace == PACE_MOSTLY_EMPTY)
			producer_await_drained(w, &tx);
		if (w->pace == PACE_MOSTLY_EMPTY)
			a_moment(&random, 512);
	}
	return NULL;
}

static void
consumer_release(struct world *w, struct vmb_ring_rx *rx)
{
	bool signal;

	if (vmb_ring_rx_release(rx, &signal) != VMB_OK)
		world_fail(w, "release failed");
	w->writer_signals += signal;
	if (signal)
		event_signal(w, w->wake_writer);
}

/* Let the producer fill up. The look at its words brings their cache line here: only a store that
 * waits for the line while a load finds it can be overtaken, which is what the fence forbids. */
static void
consumer_linger(struct vmb_ring_rx *rx, struct t_random *random)
{
	a_moment(random, 8192);
	vmb_ring_writer_needs_signal(rx);
}

static void
consumer_check(struct world *w, struct vmb_ring_rx *rx, const struct vmb_ring_packet *packet,
	       uint64_t number)
{
	uint8_t expected[2048], copy[2048];
	uint32_t bytes = payload_bytes_of(number), padded = (bytes + 7) & ~7u;
	const void *in_place;

	if (packet->transaction_id != number || packet->body_bytes != 16 + padded) {
		world_fail(w, "a packet is lost, repeated or out of order");
		return;
	}
	memset(expected, 0, sizeof(expected));
	payload_fill(number, expected, bytes);
	in_place = vmb_ring_in_place(rx, packet, 16, padded);
	if (in_place == NULL || number % 2 == 0) {
		vmb_ring_copy(rx, packet, 16, copy, padded);
		in_place = copy;
	}
	if (memcmp(in_place, expected, padded) != 0)
		world_fail(w, "a packet is damaged");
}

static void *
consumer_main(void *context)
{
	struct world *w = context;
	struct t_random random = { ~w->seed, ~w->seed };
	uint64_t number = 0;
	struct vmb_ring_packet packet;
	struct vmb_ring_rx rx;
	enum vmb_status st;

	if (vmb_ring_rx_init(&rx, w->ring.ctl, w->ring.data, w->ring.size) != VMB_OK)
		world_fail(w, "cannot attach as consumer");
	if (w->local != NULL && !vmb_ring_rx_set_local(&rx, w->local))
		world_fail(w, "no fence");
	while (number < PACKETS && !world_failed(w)) {
		while ((st = vmb_ring_peek(&rx, &packet)) == VMB_OK) {
			consumer_check(w, &rx, &packet, number++);
			vmb_ring_advance(&rx, &packet);
			if (w->pace == PACE_MOSTLY_FULL)
				consumer_linger(&rx, &random);
			if (w->pace == PACE_MOSTLY_FULL || t_random_below(&random, 8) == 0)
				consumer_release(w, &rx);
		}
		if (st != VMB_EMPTY)
			world_fail(w, "peek failed");
		consumer_release(w, &rx);
		if (w->pace == PACE_MOSTLY_EMPTY)
			a_moment(&random, 4096);
		if (number == PACKETS || vmb_ring_rx_unmask(&rx) != VMB_EMPTY)
			continue;
		event_wait(w, w->wake_reader, "the reader waits for ever");
		vmb_ring_rx_mask(&rx);
	}
	return NULL;
}

/* The races need two processors; left alone, two young threads often share one for a while. */
static void
pin_to_processor(pthread_t thread, uint32_t number)
{
	cpu_set_t allowed, one;

	if (pthread_getaffinity_np(pthread_self(), sizeof(allowed), &allowed) != 0)
		return;
	for (size_t cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &allowed) || number-- != 0)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		pthread_setaffinity_np(thread, sizeof(one), &one);
		return;
	}
}

static void
run_pace(enum pace pace, uint64_t seed, const struct vmb_ring_local *local)
{
	struct world w = { .pace = pace, .seed = seed, .local = local };
	pthread_t producer, consumer;

	w.ring = t_ring_new(RING_BYTES, 0xFC0);
	w.wake_reader = eventfd(0, EFD_CLOEXEC);
	w.wake_writer = eventfd(0, EFD_CLOEXEC);
	assert_true(w.wake_reader >= 0 && w.wake_writer >= 0);
	assert_int_equal(pthread_create(&consumer, NULL, consumer_main, &w), 0);
	assert_int_equal(pthread_create(&producer, NULL, producer_main, &w), 0);
	pin_to_processor(consumer, 0);
	pin_to_processor(producer, 1);
	pthread_join(producer, NULL);
	pthread_join(consumer, NULL);
	print_message("pace %d: %u signals to the reader, %u to the writer\n", pace,
		      w.reader_signals, w.writer_signals);
	assert_false(w.failed);
	assert_int_equal(t_word(&w.ring, RING_IN), t_word(&w.ring, RING_OUT));
	close(w.wake_reader);
	close(w.wake_writer);
	t_ring_free(&w.ring);
}

static void
nothing_is_lost_when_both_run_freely(void **state)
{
	(void)state;
	run_pace(PACE_FREE, t_random_new(__func__).seed, NULL);
}

static void
reader_is_always_woken_when_it_goes_to_sleep_after_each_packet(void **state)
{
	(void)state;
	run_pace(PACE_MOSTLY_EMPTY, t_random_new(__func__).seed, NULL);
}

static void
writer_is_always_woken_when_the_ring_is_nearly_always_full(void **state)
{
	(void)state;
	run_pace(PACE_MOSTLY_FULL, t_random_new(__func__).seed, NULL);
}

/* Whoever goes to sleep was awake: no commit and no release has a barrier when it matters. */
static void
nothing_is_lost_when_who_sleeps_pays_for_the_barriers(void **state)
{
	const struct vmb_ring_local *of_process = port_local();
	struct vmb_ring_local local;

	(void)state;
	if (of_process == NULL)
		skip();
	local = (struct vmb_ring_local){ of_process->fence, 1 };
	for (enum pace pace = PACE_FREE; pace <= PACE_MOSTLY_FULL; pace++)
		run_pace(pace, t_random_new(__func__).seed, &local);
}

/* Between both rules, over and over. */
static void
nothing_is_lost_when_ends_are_awake_for_long_now_and_then(void **state)
{
	const struct vmb_ring_local *of_process = port_local();
	struct vmb_ring_local local;

	(void)state;
	if (of_process == NULL)
		skip();
	local = (struct vmb_ring_local){ of_process->fence, 3 };
	for (enum pace pace = PACE_FREE; pace <= PACE_MOSTLY_FULL; pace++)
		run_pace(pace, t_random_new(__func__).seed, &local);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_is_lost_when_both_run_freely),
		cmocka_unit_test(reader_is_always_woken_when_it_goes_to_sleep_after_each_packet),
		cmocka_unit_test(writer_is_always_woken_when_the_ring_is_nearly_always_full),
		cmocka_unit_test(nothing_is_lost_when_who_sleeps_pays_for_the_barriers),
		cmocka_unit_test(nothing_is_lost_when_ends_are_awake_for_long_now_and_then),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
