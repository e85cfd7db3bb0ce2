/* SPDX-License-Identifier: MIT */
/* The arena: memory and seals, runs, pins, hooks, reports (src/mem/arena.c). */
#include "t_mem.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "mem/arena_internal.h"

#define LARGE_PAGES 600u        /* long enough to go back to the system */

static struct vmb_arena_stats
stats_of(const struct vmb_arena *arena)
{
	struct vmb_arena_stats stats;

	vmb_arena_get_stats(arena, &stats);
	return stats;
}

static uint64_t
file_bytes_in_use(const struct vmb_arena *arena)
{
	struct stat st;

	assert_int_equal(fstat(vmb_arena_fd(arena), &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

/* ---- memory ---- */

static void
size_is_rounded_up_to_pages(void **state)
{
	struct vmb_arena *arena;

	(void)state;
	assert_int_equal(vmb_arena_create(3 * T_PAGE + 1, &arena), VMB_OK);
	assert_int_equal(vmb_arena_bytes(arena), 4 * T_PAGE);
	assert_int_equal(stats_of(arena).pages_total, 4);
	vmb_arena_destroy(arena);
}

static void
impossible_sizes_are_refused(void **state)
{
	struct vmb_arena *arena;

	(void)state;
	assert_int_equal(vmb_arena_create(0, &arena), VMB_E_INVALID);
	assert_null(arena);
	assert_int_equal(vmb_arena_create(UINT64_MAX, &arena), VMB_E_NO_MEMORY);
	assert_null(arena);
	assert_int_equal(vmb_arena_create(UINT64_C(1) << 44, &arena), VMB_E_NO_MEMORY);
	assert_null(arena);
}

static void
create_above_the_file_limit(void *ctx)
{
	const struct rlimit limit = { 16 * T_PAGE, 16 * T_PAGE };
	struct vmb_arena *arena;

	(void)ctx;
	if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
		_exit(2);
	if (vmb_arena_create(17 * T_PAGE, &arena) != VMB_E_NO_MEMORY)
		_exit(3);
	_exit(vmb_arena_create(16 * T_PAGE, &arena) == VMB_OK ? 0 : 4);
}

static void
file_size_limit_is_an_error_and_no_signal(void **state)
{
	char text[256];

	(void)state;
	assert_int_equal(t_child_run(create_above_the_file_limit, NULL, text, sizeof(text)), 0);
}

static uint64_t
address_space_bytes(void)
{
	unsigned long pages = 0;
	FILE *statm = fopen("/proc/self/statm", "re");

	if (statm == NULL || fscanf(statm, "%lu", &pages) != 1)
		_exit(10);
	fclose(statm);
	return pages * (uint64_t)T_PAGE;
}

/* The lowest free descriptor. */
static int
next_descriptor(void)
{
	const int fd = dup(STDERR_FILENO);

	close(fd);
	return fd;
}

/* Room for nothing, then for the pages but not for the books. */
static void
create_without_address_space(void *ctx)
{
	static const uint64_t rooms[] = { T_PAGE, (128u << 20) + 64 * T_PAGE };
	struct rlimit limit;
	const uint64_t before = address_space_bytes();
	const int descriptor = next_descriptor();
	struct vmb_arena *arena;

	(void)ctx;
	if (getrlimit(RLIMIT_AS, &limit) != 0)
		_exit(1);
	for (size_t i = 0; i < 2; i++) {
		limit.rlim_cur = before + rooms[i];
		if (setrlimit(RLIMIT_AS, &limit) != 0)
			_exit(2);
		if (vmb_arena_create(128u << 20, &arena) != VMB_E_NO_MEMORY || arena != NULL)
			_exit(3);
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_AS, &limit) != 0)
			_exit(4);
		if (next_descriptor() != descriptor || address_space_bytes() > before + (1u << 20))
			_exit(5);
	}
	_exit(0);
}

static void
no_address_space_is_no_memory_and_leaves_nothing_behind(void **state)
{
	char text[256];

	(void)state;
	assert_int_equal(t_child_run(create_without_address_space, NULL, text, sizeof(text)), 0);
}

static void
create_without_descriptors(void *ctx)
{
	struct vmb_arena *arena;
	struct rlimit limit;

	(void)ctx;
	if (getrlimit(RLIMIT_NOFILE, &limit) != 0)
		_exit(2);
	limit.rlim_cur = 64;
	if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
		_exit(3);
	while (dup(STDERR_FILENO) >= 0)
		;
	_exit(vmb_arena_create(T_PAGE, &arena) == VMB_E_IO ? 0 : 1);
}

static void
no_descriptor_left_is_an_io_error(void **state)
{
	char text[256];

	(void)state;
	assert_int_equal(t_child_run(create_without_descriptors, NULL, text, sizeof(text)), 0);
}

static void
file_is_sealed_but_still_writable(void **state)
{
	struct vmb_arena *arena = t_arena_new(8);
	const int fd = vmb_arena_fd(arena);
	const int seals = fcntl(fd, F_GET_SEALS);

	(void)state;
	assert_int_equal(seals & (F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL),
	                 F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	assert_int_equal(seals & F_SEAL_WRITE, 0);
	assert_int_equal(ftruncate(fd, T_PAGE), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(fd, 9 * T_PAGE), -1);
	assert_int_equal(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE), -1);
	assert_int_equal(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	vmb_arena_destroy(arena);
}

static void
page_number_is_the_offset_in_the_file(void **state)
{
	struct vmb_arena *arena = t_arena_new(8);
	uint8_t *run = vmb_arena_alloc(arena, 2), byte = 0;

	(void)state;
	run[T_PAGE + 5] = 0x77;
	assert_int_equal(pread(vmb_arena_fd(arena), &byte, 1,
	                       (off_t)vmb_arena_gpa(arena, run) + T_PAGE + 5), 1);
	assert_int_equal(byte, 0x77);
	assert_true(vmb_arena_gpa(arena, run) >= T_PAGE);
	assert_ptr_equal(vmb_arena_host(arena, vmb_arena_gpa(arena, run) + 5), run + 5);
	vmb_arena_free(arena, run);
	vmb_arena_destroy(arena);
}

static void
contains_is_exact_at_both_ends(void **state)
{
	struct vmb_arena *arena = t_arena_new(4);
	uint8_t *base = vmb_arena_host(arena, 0);

	(void)state;
	assert_true(vmb_arena_contains(arena, base, 4 * T_PAGE));
	assert_true(vmb_arena_contains(arena, base + 4 * T_PAGE - 1, 1));
	assert_false(vmb_arena_contains(arena, base, 4 * T_PAGE + 1));
	assert_false(vmb_arena_contains(arena, base + 4 * T_PAGE, 0));
	assert_false(vmb_arena_contains(arena, base - 1, 2));
	assert_false(vmb_arena_contains(arena, base + 8, UINT64_MAX));
	assert_false(vmb_arena_contains(arena, NULL, 1));
	assert_false(vmb_arena_contains(arena, &arena, 1));
	assert_null(vmb_arena_host(arena, 4 * T_PAGE));
	assert_null(vmb_arena_host(arena, UINT64_MAX));
	vmb_arena_destroy(arena);
}

static void
own_space_maps_scattered_arena_pages(void **state)
{
	struct vmb_arena *arena = t_arena_new(16);
	uint8_t *run = vmb_arena_alloc(arena, 4);
	const uint64_t pfn = vmb_arena_gpa(arena, run) / T_PAGE;
	struct vmb_segment segments[2];
	struct vmb_view v;
	struct t_range r;
	uint32_t count;

	(void)state;
	T_RANGE(&r, 10, T_PAGE + 10, pfn + 3, pfn);
	assert_int_equal(vmb_mem_map(vmb_arena_mem(arena), &r.range, true, &v), VMB_OK);
	memset(v.host, 0x31, v.bytes);
	assert_true(t_is_filled(run + 3 * T_PAGE + 10, 0x31, T_PAGE - 10));
	assert_true(t_is_filled(run, 0x31, 20));
	assert_int_equal(run[20], 0);
	assert_int_equal(vmb_mem_scatter(vmb_arena_mem(arena), &r.range, true, segments, 2, &count),
	                 VMB_OK);
	assert_ptr_equal(segments[0].host, run + 3 * T_PAGE + 10);
	assert_ptr_equal(vmb_mem_host(vmb_arena_mem(arena), pfn * T_PAGE, T_PAGE), run);
	vmb_mem_unmap(&v);
	vmb_arena_free(arena, run);
	vmb_arena_destroy(arena);
}

static void
memory_outlives_the_arena_while_its_space_is_referenced(void **state)
{
	struct vmb_arena *arena = t_arena_new(4);
	struct vmb_mem *mem = vmb_arena_mem(arena);
	uint8_t *base = vmb_arena_host(arena, 0);

	(void)state;
	vmb_mem_ref(mem);
	vmb_arena_destroy(arena);
	assert_true(t_is_writable(base));
	vmb_mem_unref(mem);
	assert_false(t_is_writable(base));
}

/* ---- runs ---- */

static void
full_arena_has_no_run_until_one_is_freed(void **state)
{
	struct vmb_arena *arena = t_arena_new(9);
	void *a, *b;

	(void)state;
	assert_null(vmb_arena_alloc(arena, 0));
	assert_null(vmb_arena_alloc(arena, 9));
	a = vmb_arena_alloc(arena, 5);
	b = vmb_arena_alloc(arena, 3);
	assert_non_null(a);
	assert_non_null(b);
	assert_null(vmb_arena_alloc(arena, 1));
	assert_int_equal(stats_of(arena).pages_used, 8);
	vmb_arena_free(arena, b);
	assert_null(vmb_arena_alloc(arena, 4));
	b = vmb_arena_alloc(arena, 3);
	assert_non_null(b);
	vmb_arena_free(arena, a);
	vmb_arena_free(arena, b);
	vmb_arena_free(arena, NULL);
	assert_int_equal(stats_of(arena).pages_used, 0);
	vmb_arena_destroy(arena);
}

static void
reused_pages_are_zero(void **state)
{
	static const uint32_t sizes[] = { 1, 3, 255, 256, 257, LARGE_PAGES };

	(void)state;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct vmb_arena *arena = t_arena_new(sizes[i] + 1);
		void *run = vmb_arena_alloc(arena, sizes[i]);

		memset(run, 0xFF, (size_t)sizes[i] * T_PAGE);
		vmb_arena_free(arena, run);
		run = vmb_arena_alloc(arena, sizes[i]);
		assert_true(t_is_filled(run, 0, (size_t)sizes[i] * T_PAGE));
		vmb_arena_free(arena, run);
		vmb_arena_destroy(arena);
	}
}

/* Old and untouched pages in turn inside one new run, and old ones enough to go to the system. */
static void
run_made_of_old_and_new_pages_is_zero(void **state)
{
	const uint32_t pages = 2000;
	struct vmb_arena *arena = t_arena_new(pages + 1);
	void *runs[16], *all;

	(void)state;
	for (size_t i = 0; i < 16; i++)
		runs[i] = vmb_arena_alloc(arena, 100);
	for (size_t i = 0; i < 16; i++) {
		if (i % 4 != 3)
			memset(runs[i], (int)i + 1, 100 * T_PAGE);
	}
	for (size_t i = 0; i < 16; i++)
		vmb_arena_free(arena, runs[i]);
	all = vmb_arena_alloc(arena, pages);
	assert_non_null(all);
	assert_true(t_is_filled(all, 0, (size_t)pages * T_PAGE));
	vmb_arena_free(arena, all);
	vmb_arena_destroy(arena);
}

static void
only_touched_pages_cost_memory(void **state)
{
	struct vmb_arena *arena;
	uint8_t *run;

	(void)state;
	assert_int_equal(vmb_arena_create(UINT64_C(1) << 30, &arena), VMB_OK);
	run = vmb_arena_alloc(arena, 100000);
	assert_int_equal(file_bytes_in_use(arena), 0);
	run[0] = 1;
	assert_in_range(file_bytes_in_use(arena), T_PAGE, 2 << 20);
	vmb_arena_free(arena, run);
	vmb_arena_destroy(arena);
}

static void
large_freed_run_returns_its_memory(void **state)
{
	struct vmb_arena *arena = t_arena_new(2 * LARGE_PAGES);
	void *run = vmb_arena_alloc(arena, LARGE_PAGES);

	(void)state;
	memset(run, 1, LARGE_PAGES * T_PAGE);
	assert_true(file_bytes_in_use(arena) >= LARGE_PAGES * T_PAGE);
	vmb_arena_free(arena, run);
	assert_int_equal(file_bytes_in_use(arena), 0);
	vmb_arena_destroy(arena);
}

/* A peer has all of this mapped: whatever it writes there, allocation goes on undisturbed. */
static void
scribbling_over_all_shared_memory_does_not_disturb_the_books(void **state)
{
	struct vmb_arena *arena = t_arena_new(64);
	uint8_t *peer = mmap(NULL, 64 * T_PAGE, PROT_READ | PROT_WRITE, MAP_SHARED,
	                     vmb_arena_fd(arena), 0);
	void *runs[21];

	(void)state;
	assert_true(peer != MAP_FAILED);
	for (int round = 0; round < 4; round++) {
		for (size_t i = 0; i < 21; i++) {
			runs[i] = vmb_arena_alloc(arena, 3);
			assert_non_null(runs[i]);
			memset(peer, 0xFF - round, 64 * T_PAGE);
		}
		assert_null(vmb_arena_alloc(arena, 1));
		for (size_t i = 0; i < 21; i++)
			vmb_arena_free(arena, runs[(i * 8) % 21]);
		assert_int_equal(stats_of(arena).pages_used, 0);
	}
	munmap(peer, 64 * T_PAGE);
	vmb_arena_destroy(arena);
}

/* ---- pins ---- */

static void
pinned_run_is_not_reused_before_its_last_unpin(void **state)
{
	struct vmb_arena *arena = t_arena_new(5);
	uint8_t *run = vmb_arena_alloc(arena, 4);

	(void)state;
	memset(run, 7, 4 * T_PAGE);
	vmb_arena_pin(arena, run, 4 * T_PAGE);
	vmb_arena_pin(arena, run + T_PAGE + 9, 1);
	vmb_arena_free(arena, run);
	assert_null(vmb_arena_alloc(arena, 1));
	assert_int_equal(stats_of(arena).runs_waiting, 1);
	assert_int_equal(stats_of(arena).pages_used, 4);
	assert_int_equal(stats_of(arena).pins, 2);
	vmb_arena_unpin(arena, run, 4 * T_PAGE);
	assert_null(vmb_arena_alloc(arena, 1));
	assert_true(vmb_arena_is_pinned(arena, run));
	assert_true(t_is_filled(run, 7, 4 * T_PAGE));
	vmb_arena_unpin(arena, run + T_PAGE + 9, 1);
	assert_int_equal(stats_of(arena).runs_waiting, 0);
	run = vmb_arena_alloc(arena, 4);
	assert_non_null(run);
	assert_true(t_is_filled(run, 0, 4 * T_PAGE));
	assert_false(vmb_arena_is_pinned(arena, run));
	vmb_arena_free(arena, run);
	vmb_arena_destroy(arena);
}

static void
pin_holds_every_run_that_the_range_touches(void **state)
{
	struct vmb_arena *arena = t_arena_new(16);
	uint8_t *runs[3];

	(void)state;
	for (size_t i = 0; i < 3; i++)
		runs[i] = vmb_arena_alloc(arena, (uint32_t)i + 1);
	assert_ptr_equal(runs[2], runs[0] + 3 * T_PAGE);
	/* Last byte of the first run to first byte of the third. */
	vmb_arena_pin(arena, runs[0] + T_PAGE - 1, 2 * T_PAGE + 2);
	for (size_t i = 0; i < 3; i++)
		assert_true(vmb_arena_is_pinned(arena, runs[i]));
	assert_int_equal(stats_of(arena).pins, 3);
	for (size_t i = 0; i < 3; i++)
		vmb_arena_free(arena, runs[i]);
	assert_int_equal(stats_of(arena).runs_waiting, 3);
	vmb_arena_unpin(arena, runs[0] + T_PAGE - 1, 2 * T_PAGE + 2);
	assert_int_equal(stats_of(arena).pages_used, 0);
	vmb_arena_destroy(arena);
}

static void
pages_are_pinned_by_their_numbers(void **state)
{
	struct vmb_arena *arena = t_arena_new(16);
	uint8_t *a = vmb_arena_alloc(arena, 2), *b = vmb_arena_alloc(arena, 1);
	uint64_t page = vmb_arena_gpa(arena, a) / T_PAGE;

	(void)state;
	assert_ptr_equal(b, a + 2 * T_PAGE);
	assert_true(vmb_arena_pin_pages(arena, page + 1, 2));
	assert_true(vmb_arena_is_pinned(arena, a));
	assert_true(vmb_arena_is_pinned(arena, b));
	assert_true(vmb_arena_unpin_pages(arena, page + 1, 2));
	assert_int_equal(stats_of(arena).pins, 0);
	vmb_arena_free(arena, a);
	vmb_arena_free(arena, b);
	vmb_arena_destroy(arena);
}

static void
no_pages_outside_are_pinned_by_number(void **state)
{
	struct vmb_arena *arena = t_arena_new(16);
	uint8_t *all = vmb_arena_alloc(arena, 15);
	uint64_t page = vmb_arena_gpa(arena, all) / T_PAGE, end = vmb_arena_bytes(arena) / T_PAGE;
	const struct {
		uint64_t first;
		uint32_t pages;
	} bad[] = { { page, 0 },       { end - 1, 2 },          { end, 1 },          { UINT64_MAX, 1 },
		    { UINT64_MAX, 2 }, { page, UINT32_MAX },    { 1ull << 32, 1 },   { (1ull << 32) + page, 1 },
		    { 1ull << 51, 1 }, { (1ull << 52) | page, 1 } };

	(void)state;
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		assert_false(vmb_arena_pin_pages(arena, bad[i].first, bad[i].pages));
		assert_false(vmb_arena_unpin_pages(arena, bad[i].first, bad[i].pages));
	}
	assert_int_equal(stats_of(arena).pins, 0);
	assert_true(vmb_arena_pin_pages(arena, end - 1, 1));
	assert_true(vmb_arena_unpin_pages(arena, end - 1, 1));
	vmb_arena_free(arena, all);
	vmb_arena_destroy(arena);
}

static void
pin_ends_with_the_last_byte_of_the_range(void **state)
{
	struct vmb_arena *arena = t_arena_new(16);
	uint8_t *a = vmb_arena_alloc(arena, 1), *b = vmb_arena_alloc(arena, 1);

	(void)state;
	assert_ptr_equal(b, a + T_PAGE);
	vmb_arena_pin(arena, a, T_PAGE);
	assert_true(vmb_arena_is_pinned(arena, a + T_PAGE - 1));
	assert_false(vmb_arena_is_pinned(arena, b));
	vmb_arena_unpin(arena, a, T_PAGE);
	vmb_arena_pin(arena, a, 0);
	assert_false(vmb_arena_is_pinned(arena, a));
	vmb_arena_unpin(arena, a, 0);
	vmb_arena_free(arena, a);
	vmb_arena_free(arena, b);
	vmb_arena_destroy(arena);
}

struct hook_log {
	struct vmb_arena *arena;
	void *run;
	int calls;
	bool was_pinned;
	bool frees;             /* what the hook does */
	bool takes_memory;
	void *taken;
};

static void
hook(void *ctx, void *run)
{
	struct hook_log *log = ctx;

	log->calls++;
	log->run = run;
	log->was_pinned = vmb_arena_is_pinned(log->arena, run);
	if (log->frees)
		vmb_arena_free(log->arena, run);
	if (log->takes_memory)
		log->taken = vmb_arena_alloc(log->arena, 4);
}

static void
hook_runs_each_time_the_last_pin_of_a_live_run_goes(void **state)
{
	struct vmb_arena *arena = t_arena_new(5);
	struct hook_log log = { .arena = arena };
	uint8_t *run = vmb_arena_alloc_hooked(arena, 4, hook, &log);

	(void)state;
	vmb_arena_pin(arena, run, 1);
	vmb_arena_pin(arena, run + 3 * T_PAGE, 1);
	vmb_arena_unpin(arena, run, 1);
	assert_int_equal(log.calls, 0);
	vmb_arena_unpin(arena, run + 3 * T_PAGE, 1);
	assert_int_equal(log.calls, 1);
	assert_ptr_equal(log.run, run);
	assert_false(log.was_pinned);
	vmb_arena_pin(arena, run, 1);
	vmb_arena_unpin(arena, run, 1);
	assert_int_equal(log.calls, 2);
	vmb_arena_free(arena, run);
	assert_int_equal(log.calls, 2);
	vmb_arena_destroy(arena);
}

static void
hook_does_not_run_for_a_freed_run(void **state)
{
	struct vmb_arena *arena = t_arena_new(5);
	struct hook_log log = { .arena = arena };
	uint8_t *run = vmb_arena_alloc_hooked(arena, 4, hook, &log);

	(void)state;
	vmb_arena_pin(arena, run, 1);
	vmb_arena_free(arena, run);
	vmb_arena_unpin(arena, run, 1);
	assert_int_equal(log.calls, 0);
	assert_int_equal(stats_of(arena).pages_used, 0);
	vmb_arena_destroy(arena);
}

static void
hook_may_free_its_run_which_returns_after_the_hook(void **state)
{
	struct vmb_arena *arena = t_arena_new(5);
	struct hook_log log = { .arena = arena, .frees = true, .takes_memory = true };
	uint8_t *run = vmb_arena_alloc_hooked(arena, 4, hook, &log);

	(void)state;
	vmb_arena_pin(arena, run, 1);
	vmb_arena_unpin(arena, run, 1);
	assert_int_equal(log.calls, 1);
	assert_null(log.taken);
	assert_int_equal(stats_of(arena).pages_used, 0);
	vmb_arena_destroy(arena);
}

static void
hook_of_a_former_owner_is_forgotten(void **state)
{
	struct vmb_arena *arena = t_arena_new(5);
	struct hook_log log = { .arena = arena };
	uint8_t *run = vmb_arena_alloc_hooked(arena, 4, hook, &log);

	(void)state;
	vmb_arena_free(arena, run);
	run = vmb_arena_alloc(arena, 4);
	vmb_arena_pin(arena, run, 1);
	vmb_arena_unpin(arena, run, 1);
	assert_int_equal(log.calls, 0);
	vmb_arena_free(arena, run);
	vmb_arena_destroy(arena);
}

/* ---- misuse and reports ---- */

static void
free_twice(void *ctx)
{
	void *run = vmb_arena_alloc(ctx, 2);

	vmb_arena_free(ctx, run);
	vmb_arena_free(ctx, run);
}

static void
free_twice_while_pinned(void *ctx)
{
	void *run = vmb_arena_alloc(ctx, 2);

	vmb_arena_pin(ctx, run, 1);
	vmb_arena_free(ctx, run);
	vmb_arena_free(ctx, run);
}

static void
free_inner_page(void *ctx)
{
	vmb_arena_free(ctx, (uint8_t *)vmb_arena_alloc(ctx, 2) + T_PAGE);
}

static void
free_unaligned(void *ctx)
{
	vmb_arena_free(ctx, (uint8_t *)vmb_arena_alloc(ctx, 2) + 8);
}

static void
free_outside(void *ctx)
{
	vmb_arena_free(ctx, &ctx);
}

static void
pin_free_pages(void *ctx)
{
	vmb_arena_pin(ctx, (uint8_t *)vmb_arena_alloc(ctx, 2) + 2 * T_PAGE, 1);
}

static void
pin_past_the_run(void *ctx)
{
	vmb_arena_pin(ctx, vmb_arena_alloc(ctx, 2), 2 * T_PAGE + 1);
}

static void
pin_page_zero(void *ctx)
{
	vmb_arena_pin(ctx, vmb_arena_host(ctx, 0), 1);
}

static void
pin_outside(void *ctx)
{
	vmb_arena_pin(ctx, (uint8_t *)vmb_arena_host(ctx, 0) + T_PAGE, vmb_arena_bytes(ctx));
}

static void
pin_freed_run(void *ctx)
{
	void *run = vmb_arena_alloc(ctx, 2);

	vmb_arena_free(ctx, run);
	vmb_arena_pin(ctx, run, 1);
}

static void
unpin_not_pinned(void *ctx)
{
	vmb_arena_unpin(ctx, vmb_arena_alloc(ctx, 2), 1);
}

static void
unpin_outside(void *ctx)
{
	vmb_arena_unpin(ctx, &ctx, 1);
}

static void
misuse_is_named_and_aborts(void **state)
{
	static const struct {
		void (*body)(void *ctx);
		const char *words;
	} cases[] = {
		{ free_twice, "not a run or was freed before" },
		{ free_twice_while_pinned, "freed before" },
		{ free_inner_page, "not a run" },
		{ free_unaligned, "not a run" },
		{ free_outside, "not a run of this arena" },
		{ pin_free_pages, "pin of" },
		{ pin_past_the_run, "pin of" },
		{ pin_page_zero, "in no run" },
		{ pin_outside, "outside" },
		{ pin_freed_run, "in no run" },
		{ unpin_not_pinned, "not pinned" },
		{ unpin_outside, "unpin of" },
	};
	struct vmb_arena *arena = t_arena_new(8);

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		t_expect_abort(cases[i].body, arena, cases[i].words);
	vmb_arena_destroy(arena);
}

static void
destroy_with_leftovers(void *ctx)
{
	struct vmb_arena *arena = t_arena_new(16);
	void *run = vmb_arena_alloc(arena, 3);

	(void)ctx;
	vmb_arena_pin(arena, run, 1);
	vmb_arena_pin(arena, run, 1);
	vmb_arena_free(arena, run);
	if (vmb_arena_alloc(arena, 2) == NULL)
		_exit(2);
	vmb_arena_destroy(arena);
}

static void
destroy_clean(void *ctx)
{
	struct vmb_arena *arena = t_arena_new(16);

	(void)ctx;
	vmb_arena_free(arena, vmb_arena_alloc(arena, 3));
	vmb_arena_destroy(arena);
	vmb_arena_destroy(NULL);
}

static void
destroy_reports_leftovers_in_one_line(void **state)
{
	char text[1024];

	(void)state;
	assert_int_equal(t_child_run(destroy_with_leftovers, NULL, text, sizeof(text)), 0);
	assert_string_equal(text, "kmcl: arena destroyed with 5 pages in use, 2 pins, "
	                          "1 freed runs still pinned\n");
}

static void
destroy_of_a_clean_arena_is_silent(void **state)
{
	char text[1024];

	(void)state;
	assert_int_equal(t_child_run(destroy_clean, NULL, text, sizeof(text)), 0);
	assert_string_equal(text, "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(size_is_rounded_up_to_pages),
		cmocka_unit_test(impossible_sizes_are_refused),
		cmocka_unit_test(file_size_limit_is_an_error_and_no_signal),
		cmocka_unit_test(no_address_space_is_no_memory_and_leaves_nothing_behind),
		cmocka_unit_test(no_descriptor_left_is_an_io_error),
		cmocka_unit_test(file_is_sealed_but_still_writable),
		cmocka_unit_test(page_number_is_the_offset_in_the_file),
		cmocka_unit_test(contains_is_exact_at_both_ends),
		cmocka_unit_test(own_space_maps_scattered_arena_pages),
		cmocka_unit_test(memory_outlives_the_arena_while_its_space_is_referenced),
		cmocka_unit_test(full_arena_has_no_run_until_one_is_freed),
		cmocka_unit_test(reused_pages_are_zero),
		cmocka_unit_test(run_made_of_old_and_new_pages_is_zero),
		cmocka_unit_test(only_touched_pages_cost_memory),
		cmocka_unit_test(large_freed_run_returns_its_memory),
		cmocka_unit_test(scribbling_over_all_shared_memory_does_not_disturb_the_books),
		cmocka_unit_test(pinned_run_is_not_reused_before_its_last_unpin),
		cmocka_unit_test(pin_holds_every_run_that_the_range_touches),
		cmocka_unit_test(pages_are_pinned_by_their_numbers),
		cmocka_unit_test(no_pages_outside_are_pinned_by_number),
		cmocka_unit_test(pin_ends_with_the_last_byte_of_the_range),
		cmocka_unit_test(hook_runs_each_time_the_last_pin_of_a_live_run_goes),
		cmocka_unit_test(hook_does_not_run_for_a_freed_run),
		cmocka_unit_test(hook_may_free_its_run_which_returns_after_the_hook),
		cmocka_unit_test(hook_of_a_former_owner_is_forgotten),
		cmocka_unit_test(misuse_is_named_and_aborts),
		cmocka_unit_test(destroy_reports_leftovers_in_one_line),
		cmocka_unit_test(destroy_of_a_clean_arena_is_silent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
