/* SPDX-License-Identifier: MIT */
/*
 * The arena against a model that knows the owner of every page: random allocations, frees and pins.
 * Runs never overlap, start zeroed, keep their bytes while anybody holds them; an allocation fails
 * exactly when no gap of that length exists.
 */
#include "t_mem.h"

#define PAGES 3000u
#define RUNS 200u
#define PINS_PER_RUN 4u
#define STEPS 20000u

struct pin {
	uint32_t offset, bytes;         /* bytes 0 = no pin */
};

struct run {
	uint8_t *host;                  /* NULL = slot is empty */
	uint32_t pages, first;
	uint8_t tag;
	bool is_freed;
	bool is_hooked;
	struct pin pins[PINS_PER_RUN];
	uint32_t pin_count;
};

struct model {
	struct vmb_arena *arena;
	uint64_t seed, random;
	uint32_t step;
	struct run runs[RUNS];
	bool page_taken[PAGES];
	uint32_t hooks_expected, hooks_seen;
};

#define CHECK(m, condition)                                                                        \
	do {                                                                                       \
		if (!(condition))                                                                  \
			fail_msg("step %u: %s; replay with KMCL_SEED=0x%llx", (m)->step,           \
			         #condition, (unsigned long long)(m)->seed);                       \
	} while (0)

static void
model_hook(void *ctx, void *run)
{
	struct model *m = ctx;

	(void)run;
	m->hooks_seen++;
}

static uint32_t
model_longest_gap(const struct model *m)
{
	uint32_t longest = 0, gap = 0;

	for (uint32_t page = 1; page < PAGES; page++) {
		gap = m->page_taken[page] ? 0 : gap + 1;
		if (gap > longest)
			longest = gap;
	}
	return longest;
}

/* Mostly short runs, sometimes one that goes back to the system, now and then a hopeless one. */
static uint32_t
model_random_pages(struct model *m)
{
	switch (t_random_below(&m->random, 40)) {
	case 0:
		return 200 + t_random_below(&m->random, 500);
	case 1:
		return 1 + t_random_below(&m->random, PAGES);
	case 2:
	case 3:
		return 1 + t_random_below(&m->random, 80);
	default:
		return 1 + t_random_below(&m->random, 8);
	}
}

static void
model_alloc(struct model *m, struct run *r)
{
	const uint32_t pages = model_random_pages(m);
	const bool is_hooked = t_random_below(&m->random, 3) == 0;
	uint8_t *host = is_hooked ? vmb_arena_alloc_hooked(m->arena, pages, model_hook, m) :
	                            vmb_arena_alloc(m->arena, pages);

	if (host == NULL) {
		CHECK(m, model_longest_gap(m) < pages);
		return;
	}
	CHECK(m, vmb_arena_contains(m->arena, host, (uint64_t)pages * T_PAGE));
	*r = (struct run){ .host = host, .pages = pages, .is_hooked = is_hooked };
	r->first = (uint32_t)(vmb_arena_gpa(m->arena, host) / T_PAGE);
	CHECK(m, r->first != 0);
	for (uint32_t i = 0; i < pages; i++) {
		CHECK(m, !m->page_taken[r->first + i]);
		m->page_taken[r->first + i] = true;
	}
	CHECK(m, t_is_filled(host, 0, (size_t)pages * T_PAGE));
	r->tag = (uint8_t)(1 + t_random_below(&m->random, 255));
	memset(host, r->tag, (size_t)pages * T_PAGE);
}

/* The model's view of "nobody holds it": its pages are free from now on. */
static void
model_forget(struct model *m, struct run *r)
{
	memset(&m->page_taken[r->first], 0, r->pages);
	r->host = NULL;
}

static void
model_free(struct model *m, struct run *r)
{
	CHECK(m, t_is_filled(r->host, r->tag, (size_t)r->pages * T_PAGE));
	vmb_arena_free(m->arena, r->host);
	r->is_freed = true;
	if (r->pin_count == 0)
		model_forget(m, r);
}

static void
model_pin(struct model *m, struct run *r)
{
	const uint32_t run_bytes = r->pages * T_PAGE;

	for (uint32_t i = 0; i < PINS_PER_RUN; i++) {
		struct pin *pin = &r->pins[i];

		if (pin->bytes != 0)
			continue;
		pin->offset = t_random_below(&m->random, run_bytes);
		pin->bytes = 1 + t_random_below(&m->random, run_bytes - pin->offset);
		vmb_arena_pin(m->arena, r->host + pin->offset, pin->bytes);
		r->pin_count++;
		CHECK(m, vmb_arena_is_pinned(m->arena, r->host));
		return;
	}
}

static void
model_unpin(struct model *m, struct run *r)
{
	for (uint32_t i = 0; i < PINS_PER_RUN; i++) {
		struct pin *pin = &r->pins[i];

		if (pin->bytes == 0)
			continue;
		CHECK(m, t_is_filled(r->host, r->tag, (size_t)r->pages * T_PAGE));
		vmb_arena_unpin(m->arena, r->host + pin->offset, pin->bytes);
		pin->bytes = 0;
		r->pin_count--;
		if (r->pin_count == 0 && !r->is_freed && r->is_hooked)
			m->hooks_expected++;
		CHECK(m, m->hooks_seen == m->hooks_expected);
		if (r->pin_count == 0 && r->is_freed)
			model_forget(m, r);
		return;
	}
}

static void
model_check_stats(const struct model *m)
{
	struct vmb_arena_stats stats;
	uint64_t pages = 0, pins = 0, waiting = 0;

	for (uint32_t i = 0; i < RUNS; i++) {
		const struct run *r = &m->runs[i];

		if (r->host == NULL)
			continue;
		pages += r->pages;
		pins += r->pin_count;
		waiting += r->is_freed;
	}
	vmb_arena_get_stats(m->arena, &stats);
	CHECK(m, stats.pages_used == pages);
	CHECK(m, stats.pins == pins);
	CHECK(m, stats.runs_waiting == waiting);
}

static void
model_step(struct model *m)
{
	struct run *r = &m->runs[t_random_below(&m->random, RUNS)];
	const uint32_t dice = t_random_below(&m->random, 8);

	if (r->host == NULL)
		model_alloc(m, r);
	else if (dice < 3 && !r->is_freed)
		model_free(m, r);
	else if (dice < 5 && !r->is_freed)
		model_pin(m, r);
	else
		model_unpin(m, r);
}

static void
model_end(struct model *m)
{
	for (uint32_t i = 0; i < RUNS; i++) {
		struct run *r = &m->runs[i];

		if (r->host != NULL && !r->is_freed)
			model_free(m, r);
		while (r->host != NULL)
			model_unpin(m, r);
	}
	model_check_stats(m);
}

static void
random_use_agrees_with_the_model(void **state)
{
	struct model *m = calloc(1, sizeof(*m));
	void *all;

	(void)state;
	assert_non_null(m);
	m->seed = m->random = t_seed();
	m->arena = t_arena_new(PAGES);
	for (m->step = 0; m->step < STEPS; m->step++) {
		model_step(m);
		if (m->step % 64 == 0)
			model_check_stats(m);
	}
	model_end(m);
	all = vmb_arena_alloc(m->arena, PAGES - 1);
	CHECK(m, all != NULL);
	CHECK(m, t_is_filled(all, 0, (size_t)(PAGES - 1) * T_PAGE));
	vmb_arena_free(m->arena, all);
	vmb_arena_destroy(m->arena);
	free(m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(random_use_agrees_with_the_model) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
