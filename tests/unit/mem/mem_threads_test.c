/* SPDX-License-Identifier: MIT */
/*
 * Spaces and arenas used from several threads; meant for ThreadSanitizer. Threads do a fixed amount
 * of work, so nothing here depends on how they are scheduled.
 */
#include "t_mem.h"

#include <pthread.h>

#define THREADS 4u
#define REGIONS 200u
#define LOOKUPS 3000u
#define RUN_STEPS 2000u
#define MAILBOXES 16u

/* ---- regions are added while others translate ---- */

struct growing {
	struct vmb_mem *mem;
	uint8_t *file;                  /* page i belongs to the region at page 3 * i */
	int fd;
	uint32_t faults;                /* atomic */
};

/* Each thread has a sequence of its own, the same ones in each run. */
static uint64_t
thread_seed(void)
{
	static uint32_t next;

	return t_seed() + ((uint64_t)__atomic_fetch_add(&next, 1, __ATOMIC_RELAXED) << 32);
}

static void
fault_if(uint32_t *faults, bool is_wrong)
{
	if (is_wrong)
		__atomic_fetch_add(faults, 1, __ATOMIC_RELAXED);
}

/* A permutation, so that regions are inserted everywhere. */
static uint32_t
growing_region(uint32_t order)
{
	return (order * 77) % REGIONS;
}

static void *
growing_add(void *ctx)
{
	struct growing *g = ctx;

	for (uint32_t i = 0; i < REGIONS; i++) {
		const uint32_t page = growing_region(i);
		const struct vmb_region r = {
			.gpa = (uint64_t)page * 3 * T_PAGE,
			.bytes = T_PAGE,
			.host = g->file + (size_t)page * T_PAGE,
			.fd = g->fd,
			.fd_offset = (uint64_t)page * T_PAGE,
		};

		fault_if(&g->faults, vmb_mem_add_region(g->mem, &r) != VMB_OK);
	}
	return NULL;
}

/*
 * A page that is there stays there, at the right address; the pages between are never there. No
 * other synchronisation: the space itself must order what its readers see.
 */
static void
growing_look(struct growing *g, uint64_t *random)
{
	const uint32_t a = growing_region(t_random_below(random, REGIONS));
	const uint32_t b = growing_region(t_random_below(random, REGIONS));
	struct vmb_segment s[2];
	struct vmb_view v;
	struct t_range r;
	uint32_t count;
	uint8_t *host = vmb_mem_host(g->mem, (uint64_t)a * 3 * T_PAGE, T_PAGE);

	fault_if(&g->faults, host != NULL && host != g->file + (size_t)a * T_PAGE);
	fault_if(&g->faults, vmb_mem_host(g->mem, ((uint64_t)a * 3 + 1) * T_PAGE, 1) != NULL);

	r.range = (struct vmb_gpa_range){ 2 * T_PAGE, 0, 2, &r.pfns[0] };
	for (uint32_t i = 0; i < 2; i++) {
		const uint64_t le = htole64((uint64_t)(i == 0 ? a : b) * 3);

		memcpy(&r.pfns[i * 8], &le, sizeof(le));
	}
	if (!vmb_mem_has_pages(g->mem, r.range.pfns, 2, true))
		return;
	fault_if(&g->faults, vmb_mem_scatter(g->mem, &r.range, true, s, 2, &count) != VMB_OK);
	fault_if(&g->faults, s[0].host != g->file + (size_t)a * T_PAGE);
	if (vmb_mem_map(g->mem, &r.range, false, &v) != VMB_OK) {
		fault_if(&g->faults, true);
		return;
	}
	fault_if(&g->faults, *(uint8_t *)v.host != (uint8_t)a);
	fault_if(&g->faults, ((uint8_t *)v.host)[T_PAGE] != (uint8_t)b);
	vmb_mem_unmap(&v);
}

static void *
growing_read(void *ctx)
{
	struct growing *g = ctx;
	uint64_t random = thread_seed();

	for (uint32_t i = 0; i < LOOKUPS; i++)
		growing_look(g, &random);
	return NULL;
}

static void
regions_may_be_added_while_others_translate(void **state)
{
	const struct vmb_region file = t_region_make(0, REGIONS);
	struct growing g = { .mem = t_mem_new(), .file = file.host, .fd = file.fd };
	pthread_t threads[THREADS];

	(void)state;
	for (uint32_t i = 0; i < REGIONS; i++)
		g.file[(size_t)i * T_PAGE] = (uint8_t)i;
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL,
		                                i == 0 ? growing_add : growing_read, &g), 0);
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_int_equal(g.faults, 0);
	for (uint32_t i = 0; i < REGIONS; i++)
		assert_ptr_equal(vmb_mem_host(g.mem, (uint64_t)i * 3 * T_PAGE, T_PAGE),
		                 g.file + (size_t)i * T_PAGE);
	vmb_mem_unref(g.mem);
	munmap(file.host, file.bytes);
	close(file.fd);
}

/* ---- runs are freed by one thread and unpinned by another ---- */

struct exchange {
	struct vmb_arena *arena;
	uint8_t *mailboxes[MAILBOXES];  /* atomic: pinned runs, freed or about to be */
	uint32_t faults;                /* atomic */
};

/* The first bytes of a run say how long it is and what fills it. */
static void
parcel_fill(uint8_t *run, uint8_t pages, uint8_t tag)
{
	memset(run, tag, (size_t)pages * T_PAGE);
	run[0] = pages;
}

static void
parcel_take(struct exchange *x, uint8_t *run)
{
	const size_t bytes = (size_t)run[0] * T_PAGE;

	/* It was freed long ago, perhaps, and must be whole nevertheless. */
	fault_if(&x->faults, !t_is_filled(run + 1, run[1], bytes - 1));
	vmb_arena_unpin(x->arena, run, bytes);
}

static void *
exchange_work(void *ctx)
{
	struct exchange *x = ctx;
	uint64_t random = thread_seed();

	for (uint32_t i = 0; i < RUN_STEPS; i++) {
		const uint8_t pages = (uint8_t)(1 + t_random_below(&random, 6));
		uint8_t *run = vmb_arena_alloc(x->arena, pages), *other;
		const bool frees_first = (t_random(&random) & 1) != 0;

		if (run == NULL)
			continue;
		fault_if(&x->faults, !t_is_filled(run, 0, (size_t)pages * T_PAGE));
		parcel_fill(run, pages, (uint8_t)t_random(&random));
		vmb_arena_pin(x->arena, run, (uint64_t)pages * T_PAGE);
		if (frees_first)
			vmb_arena_free(x->arena, run);
		other = __atomic_exchange_n(&x->mailboxes[t_random_below(&random, MAILBOXES)], run,
		                            __ATOMIC_ACQ_REL);
		/* Races with the unpin of whoever takes it out. */
		if (!frees_first)
			vmb_arena_free(x->arena, run);
		if (other != NULL)
			parcel_take(x, other);
	}
	return NULL;
}

static void
runs_freed_here_and_unpinned_there_return_once(void **state)
{
	struct exchange x = { .arena = t_arena_new(256) };
	struct vmb_arena_stats stats;
	pthread_t threads[THREADS];

	(void)state;
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, exchange_work, &x), 0);
	for (uint32_t i = 0; i < THREADS; i++) {
		vmb_arena_get_stats(x.arena, &stats);
		assert_true(stats.pages_used <= stats.pages_total);
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	}
	for (uint32_t i = 0; i < MAILBOXES; i++) {
		if (x.mailboxes[i] != NULL)
			parcel_take(&x, x.mailboxes[i]);
	}
	assert_int_equal(x.faults, 0);
	vmb_arena_get_stats(x.arena, &stats);
	assert_int_equal(stats.pages_used, 0);
	assert_int_equal(stats.pins, 0);
	assert_int_equal(stats.runs_waiting, 0);
	vmb_arena_destroy(x.arena);
}

/* ---- hooks ---- */

struct shared_run {
	struct vmb_arena *arena;
	uint8_t *run;
	uint32_t calls;                 /* atomic */
};

static void
shared_hook(void *ctx, void *run)
{
	struct shared_run *s = ctx;

	if (run == s->run)
		__atomic_fetch_add(&s->calls, 1, __ATOMIC_RELAXED);
}

static void *
shared_pin_unpin(void *ctx)
{
	struct shared_run *s = ctx;

	for (uint32_t i = 0; i < RUN_STEPS; i++) {
		vmb_arena_pin(s->arena, s->run, 2 * T_PAGE);
		vmb_arena_unpin(s->arena, s->run, 2 * T_PAGE);
	}
	return NULL;
}

static void
hook_runs_at_least_once_and_at_most_once_per_unpin(void **state)
{
	struct shared_run s = { .arena = t_arena_new(8) };
	pthread_t threads[THREADS];

	(void)state;
	s.run = vmb_arena_alloc_hooked(s.arena, 2, shared_hook, &s);
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, shared_pin_unpin, &s), 0);
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	assert_in_range(s.calls, 1, THREADS * RUN_STEPS);
	assert_false(vmb_arena_is_pinned(s.arena, s.run));
	vmb_arena_free(s.arena, s.run);
	vmb_arena_destroy(s.arena);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(regions_may_be_added_while_others_translate),
		cmocka_unit_test(runs_freed_here_and_unpinned_there_return_once),
		cmocka_unit_test(hook_runs_at_least_once_and_at_most_once_per_unpin),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
