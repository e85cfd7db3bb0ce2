/* SPDX-License-Identifier: MIT */
/*
 * Moves packets through one ring; compiled once for each ring (RING_HEADER, see ring_bench.h).
 *
 *	ring_... count PAYLOAD BATCH COUNT       one thread, untimed: for callgrind
 *	ring_... single PAYLOAD BATCH COUNT      the same, timed
 *	ring_... threads PAYLOAD BATCH COUNT     a producer and a consumer on two CPUs, timed
 *
 * The producer publishes after every BATCH packets. With one thread the consumer gives space back then too; with
 * two it does so as the library's dispatcher does, after 16 packets or when there are no more, and who
 * finds nothing to do pauses for a moment before it looks again: polling takes the line away from
 * the other one. Timed runs print a JSON object; ns_each is the median of blocks of BENCH_BLOCK
 * packets.
 */
#include "ring_bench.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench_common.h"
#include "bench_line.h"
#include "bench_place.h"

#include RING_HEADER

#define PAUSES 32
#define RELEASE_EVERY 16 /* as src/kmcl/kmcl_rx.c */

_Alignas(64) uint8_t ring_sent[RING_MAX_PAYLOAD];
_Alignas(64) uint8_t ring_read[RING_MAX_PAYLOAD];

/* Of ids and first payload bytes, as read. */
static uint64_t sum;

_Noreturn void
ring_die(const char *what)
{
	(void)fprintf(stderr, "ring_bench: %s\n", what);
	exit(EXIT_FAILURE);
}

/* What a consumer does with a packet at the least: look at its id and at its payload. */
static ALWAYS_INLINE void
consume(uint64_t id, const uint8_t *data)
{
	sum += id + data[0];
	/* The compiler must not keep anything back from one packet to the next, in any ring. */
	__asm__ volatile("" : : : "memory");
}

static ALWAYS_INLINE void
one_batch(uint64_t first, uint64_t end)
{
	for (uint64_t id = first; id < end; id++) {
		if (!ring_put(id))
			ring_die("no room");
		__asm__ volatile("" : : : "memory");
	}
	ring_publish();
	for (uint64_t i = first; i < end; i++) {
		const uint8_t *data;
		uint64_t id;

		if (!ring_get(&id, &data))
			ring_die("nothing to read");
		consume(id, data);
	}
	ring_release();
}

static __attribute__((noinline)) void
one_thread(uint64_t batch, uint64_t count)
{
	for (uint64_t first = 0; first < count; first += batch)
		one_batch(first, count - first < batch ? count : first + batch);
}

static void
one_thread_timed(uint64_t batch, uint64_t count, struct bench_blocks *blocks)
{
	one_thread(batch, BENCH_BLOCK);
	bench_blocks_begin(blocks);
	for (uint64_t done = 0; done < count; done += BENCH_BLOCK) {
		one_thread(batch, BENCH_BLOCK);
		bench_blocks_tick(blocks, done + BENCH_BLOCK);
	}
}

/* ---- two threads -------------------------------------------------------------------------- */

struct flow {
	uint64_t batch, count;
	struct bench_blocks *blocks;
};

static void
pause_a_moment(void)
{
	for (int i = 0; i < PAUSES; i++)
		bench_relax();
}

static void *
produce(void *ctx)
{
	const struct flow *flow = ctx;

	bench_place_thread(0);
	for (uint64_t id = 0; id < flow->count; id++) {
		while (!ring_put(id)) {
			/* What is there already makes the consumer give room. */
			ring_publish();
			pause_a_moment();
		}
		if ((id + 1) % flow->batch == 0)
			ring_publish();
	}
	ring_publish();
	return NULL;
}

static void
two_threads(struct flow *flow)
{
	uint64_t done = 0, unreleased = 0;
	pthread_t producer;

	bench_place_thread(1);
	bench_blocks_begin(flow->blocks);
	if (pthread_create(&producer, NULL, produce, flow) != 0)
		ring_die("cannot make a thread");
	while (done < flow->count) {
		const uint8_t *data;
		uint64_t id;

		if (!ring_get(&id, &data)) {
			if (unreleased != 0)
				ring_release();
			unreleased = 0;
			pause_a_moment();
			continue;
		}
		if (id != done)
			ring_die("a packet is out of order");
		consume(id, data);
		if (++unreleased == RELEASE_EVERY) {
			ring_release();
			unreleased = 0;
		}
		bench_blocks_tick(flow->blocks, ++done);
	}
	(void)pthread_join(producer, NULL);
}

/* ---- */

static bool
parse_number(const char *text, uint64_t least, uint64_t most, uint64_t *number)
{
	char *end;

	*number = strtoull(text, &end, 10);
	return *text != '\0' && *end == '\0' && *number >= least && *number <= most;
}

static void
timed(const char *mode, uint64_t batch, uint64_t count)
{
	bool threads = strcmp(mode, "threads") == 0;
	struct bench_blocks blocks = bench_blocks_new(count);
	double line_before = threads ? bench_line_ns() : 0;

	if (threads)
		two_threads(&(struct flow){ batch, count, &blocks });
	else
		one_thread_timed(batch, count, &blocks);
	(void)printf("{\"ns_each\": %.2f, \"blocks\": %" PRIu64, bench_blocks_median(&blocks),
	             blocks.count);
	if (threads)
		(void)printf(", \"line_before_ns\": %.0f, \"line_after_ns\": %.0f", line_before,
		             bench_line_ns());
	(void)printf("}\n");
	bench_blocks_free(&blocks);
}

int
main(int argc, char **argv)
{
	uint64_t payload, batch, count;

	if (argc != 5 || !parse_number(argv[2], 8, RING_MAX_PAYLOAD, &payload) ||
	    !parse_number(argv[3], 1, RING_MAX_BATCH, &batch) ||
	    !parse_number(argv[4], BENCH_BLOCK, UINT64_MAX / 2, &count) ||
	    (strcmp(argv[1], "count") != 0 && strcmp(argv[1], "single") != 0 &&
	     strcmp(argv[1], "threads") != 0)) {
		(void)fprintf(stderr,
		              "usage: %s count|single|threads PAYLOAD BATCH COUNT\n"
		              "PAYLOAD is 8 to %u bytes, BATCH 1 to %u, COUNT at least %u\n",
		              argv[0], RING_MAX_PAYLOAD, RING_MAX_BATCH, BENCH_BLOCK);
		return 2;
	}
	memset(ring_sent, 1, sizeof(ring_sent));
	ring_attach((uint32_t)payload, (uint32_t)batch);
	if (strcmp(argv[1], "count") == 0) {
		one_thread(batch, count);
		(void)printf("sum %" PRIu64 "\n", sum);
	} else {
		timed(argv[1], batch, count);
	}
	return EXIT_SUCCESS;
}
