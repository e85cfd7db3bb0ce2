/* SPDX-License-Identifier: MIT */
#include "bench_line.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

#include "bench_common.h"
#include "bench_place.h"

#define TRIPS (20 * BENCH_BLOCK)

struct line {
	_Alignas(128) _Atomic uint64_t there;
	_Alignas(128) _Atomic uint64_t back;
	_Alignas(128) struct bench_blocks blocks;
};

static void *
answer(void *ctx)
{
	struct line *line = ctx;

	bench_place_thread(1);
	for (uint64_t trip = 1; trip <= TRIPS; trip++) {
		while (atomic_load_explicit(&line->there, memory_order_acquire) != trip)
			bench_relax();
		atomic_store_explicit(&line->back, trip, memory_order_release);
	}
	return NULL;
}

/* A thread of its own, so that the caller stays where it was. */
static void *
ask(void *ctx)
{
	struct line *line = ctx;

	bench_place_thread(0);
	bench_blocks_begin(&line->blocks);
	for (uint64_t trip = 1; trip <= TRIPS; trip++) {
		atomic_store_explicit(&line->there, trip, memory_order_release);
		while (atomic_load_explicit(&line->back, memory_order_acquire) != trip)
			bench_relax();
		bench_blocks_tick(&line->blocks, trip);
	}
	return NULL;
}

double
bench_line_ns(void)
{
	struct line line = { .blocks = bench_blocks_new(TRIPS) };
	pthread_t asking, answering;
	double ns;

	if (bench_cpus() > 1) {
		if (pthread_create(&answering, NULL, answer, &line) != 0 ||
		    pthread_create(&asking, NULL, ask, &line) != 0)
			bench_die("pthread_create");
		(void)pthread_join(asking, NULL);
		(void)pthread_join(answering, NULL);
	}
	ns = bench_blocks_median(&line.blocks);
	bench_blocks_free(&line.blocks);
	return ns;
}
