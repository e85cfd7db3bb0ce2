/* SPDX-License-Identifier: MIT */
/*
 * Reports of misuse and leaks: what they say and how many there are (KE-5, RT-15). What checked
 * mode does is tried in child processes.
 */
#include "t_nt.h"

#include "nt/nt_dbg.h"
#include "nt/nt_pool.h"
#include "nt/nt_symbol.h"
#include "nt/nt_trace.h"

#define T_TAG 'tseT'

/* Loops stay loops, so that each call in them is one place. */
#ifdef __clang__
#define T_AS_WRITTEN __attribute__((noinline, optnone))
#else
#define T_AS_WRITTEN __attribute__((noinline, optimize("O0")))
#endif

static char t_heard[1 << 20];
static size_t t_heard_bytes;

static void
t_hear(void *context, const char *text, size_t bytes)
{
	(void)context;
	if (bytes > sizeof(t_heard) - 1 - t_heard_bytes)
		bytes = sizeof(t_heard) - 1 - t_heard_bytes;
	memcpy(t_heard + t_heard_bytes, text, bytes);
	t_heard_bytes += bytes;
	t_heard[t_heard_bytes] = '\0';
}

static void
t_listen(void)
{
	t_heard_bytes = 0;
	t_heard[0] = '\0';
	nt_set_debug_sink(t_hear, NULL);
	nt_set_checked(false);
}

static unsigned
t_count(const char *text)
{
	unsigned count = 0;

	for (const char *at = t_heard; (at = strstr(at, text)) != NULL; at++)
		count++;
	return count;
}

/* Run in a child in checked mode; what it wrote to stderr, good until the next call. */
static const char *
t_in_checked_child(void (*function)(void), int *status)
{
	static char said[1 << 20];
	size_t used = 0;
	int fds[2];
	ssize_t got;
	pid_t child;

	assert_int_equal(pipe(fds), 0);
	fflush(NULL);
	child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		signal(SIGABRT, SIG_DFL);
		dup2(fds[1], STDERR_FILENO);
		close(fds[0]);
		nt_set_checked(true);
		nt_set_debug_sink(NULL, NULL);
		function();
		_exit(0);
	}
	close(fds[1]);
	while (used < sizeof(said) - 1 &&
	       (got = read(fds[0], said + used, sizeof(said) - 1 - used)) > 0)
		used += (size_t)got;
	said[used] = '\0';
	close(fds[0]);
	assert_int_equal(waitpid(child, status, 0), child);
	return said;
}

static void
t_assert_says(const char *said, const char *text)
{
	if (strstr(said, text) == NULL)
		fail_msg("'%s' is not in:\n%s", text, said != NULL ? said : "");
}

/* ---- traces ---------------------------------------------------------------------------------- */

static __attribute__((noinline)) void
t_driver_unload(PVOID block)
{
	ExFreePoolWithTag(block, 'rehO');
	/* No tail call: the frame of this function stays. */
	__asm__ volatile("");
}

static void
ke_5_a_report_says_what_where_and_what_to_do(void **state)
{
	PVOID block = ExAllocatePool2(POOL_FLAG_NON_PAGED, 100, T_TAG);

	CONF_COVERS("KE-5");
	(void)state;
	t_listen();
	t_driver_unload(block);
	nt_set_debug_sink(NULL, NULL);
	t_assert_says(t_heard, "kmcl: misuse: ExFreePoolWithTag of ");
	t_assert_says(t_heard, "with tag 'Oher', allocated with 'Test'");
	t_assert_says(t_heard, "; nothing is freed, pass the tag of the allocation\n");
	t_assert_says(t_heard, " at IRQL 0:\nkmcl:   #0 ");
	ExFreePoolWithTag(block, T_TAG);
}

static void
ke_5_a_report_names_functions_files_and_lines(void **state)
{
	CONF_COVERS("KE-5");
	(void)state;
	/* The report of the test before; a place is told once. */
	if (!nt_symbol_has_lines())
		skip();
	t_assert_says(t_heard, " ExFreePoolWithTag (nt/nt_pool.c:");
	t_assert_says(t_heard, " t_driver_unload (nt/report_test.c:");
	t_assert_says(t_heard, " ke_5_a_report_says_what_where_and_what_to_do (nt/report_test.c:");
}

static void
ke_5_without_debug_information_modules_and_offsets_are_named(void **state)
{
	char text[256];

	CONF_COVERS("KE-5");
	(void)state;
	/* A function of another module, and none that a sanitizer takes the place of. */
	nt_symbol_describe_plain((const void *)(uintptr_t)div, text, sizeof(text));
	t_assert_says(text, "div (lib");
	nt_symbol_describe_plain((const void *)(uintptr_t)t_hear, text, sizeof(text));
	t_assert_says(text, "report_test+0x");
	nt_symbol_describe_plain((const void *)16, text, sizeof(text));
	assert_string_equal(text, "?+0x10");
	nt_symbol_describe((const void *)16, text, sizeof(text));
	assert_string_equal(text, "?+0x10");
	/* Cut, and terminated. */
	assert_int_equal(nt_symbol_describe_plain((const void *)16, text, 4), 3);
	assert_string_equal(text, "?+0");
}

static void
ke_5_a_trace_is_cut_at_whole_lines(void **state)
{
	struct nt_trace trace;
	char text[64];

	CONF_COVERS("KE-5");
	(void)state;
	nt_trace_take(&trace, NULL);
	assert_true(trace.count > 1);
	for (size_t room = 1; room < sizeof(text); room++) {
		const size_t used = nt_trace_print(&trace, text, room);

		assert_true(used < room);
		assert_int_equal(strlen(text), used);
		assert_true(used == 0 || text[used - 1] == '\n');
	}
}

/* ---- rate ------------------------------------------------------------------------------------ */

static void t_path_0(unsigned path, int depth);
static void t_path_1(unsigned path, int depth);
static void t_path_2(unsigned path, int depth);
static void t_path_3(unsigned path, int depth);

static inline __attribute__((always_inline)) void
t_path(unsigned path, int depth)
{
	static void (*const next[])(unsigned, int) = { t_path_0, t_path_1, t_path_2, t_path_3 };

	if (depth == 0)
		KeLowerIrql(HIGH_LEVEL);
	else
		next[path % 4](path / 4, depth - 1);
	__asm__ volatile("");
}

/* Functions that look the same must not become one, nor one part of another. */
#define T_PATH(n)                                                                                  \
	static __attribute__((noinline)) void t_path_##n(unsigned path, int depth)                 \
	{                                                                                          \
		__asm__ volatile("# " #n);                                                         \
		t_path(path, depth);                                                               \
		__asm__ volatile("# " #n);                                                         \
	}
T_PATH(0)
T_PATH(1)
T_PATH(2)
T_PATH(3)

static T_AS_WRITTEN void
t_paths(unsigned first, unsigned step, int count)
{
	for (int i = 0; i < count; i++, first += step)
		t_path_0(first, 1);
}

static void
ke_5_each_place_is_reported_once_and_all_are_counted(void **state)
{
	const uint64_t before = nt_misuse_count();

	CONF_COVERS("KE-5");
	(void)state;
	t_listen();
	t_paths(1, 0, 1000);
	assert_int_equal(t_count("kmcl: misuse: KeLowerIrql"), 1);
	t_paths(0, 1, 4);
	nt_set_debug_sink(NULL, NULL);
	assert_in_range(t_count("kmcl: misuse: KeLowerIrql"), 4, 5);
	assert_int_equal(nt_misuse_count(), before + 1004);
}

static void
ke_5_the_number_of_reports_has_an_end(void **state)
{
	const uint64_t before = nt_misuse_count();

	CONF_COVERS("KE-5");
	(void)state;
	t_listen();
	for (unsigned path = 0; path < 1024; path++)
		t_path(path, 5);
	nt_set_debug_sink(NULL, NULL);
	assert_in_range(t_count("kmcl: misuse: KeLowerIrql"), 100, 256);
	assert_int_equal(t_count("that was the 256th place; others are only counted"), 1);
	assert_int_equal(nt_misuse_count(), before + 1024);
}

/* ---- checked mode ---------------------------------------------------------------------------- */

static __attribute__((noinline)) PVOID
t_allocate(size_t bytes)
{
	PVOID block = ExAllocatePoolWithTag(NonPagedPool, bytes, T_TAG);

	__asm__ volatile("");
	return block;
}

static __attribute__((noinline)) void
t_release(PVOID block)
{
	ExFreePoolWithTag(block, T_TAG);
	__asm__ volatile("");
}

static void
t_free_twice_with_others_between(void)
{
	PVOID block = t_allocate(100);

	t_release(block);
	for (int i = 0; i < 100; i++) {
		if (t_allocate(100) == block)
			_exit(1);
	}
	ExFreePool(block);
}

static void
t_free_large_twice(void)
{
	PVOID block = t_allocate(20000);

	t_release(block);
	ExFreePool(block);
}

static void
rt_15_freeing_twice_names_the_first_time(void **state)
{
	void (*const ways[])(void) = { t_free_twice_with_others_between, t_free_large_twice };

	CONF_COVERS("RT-15, KE-5");
	(void)state;
	for (size_t i = 0; i < ARRAYSIZE(ways); i++) {
		int status;
		const char *said = t_in_checked_child(ways[i], &status);

		assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
		t_assert_says(said, "kmcl: misuse: ExFreePool of ");
		t_assert_says(said, "(tag 'Test', ");
		t_assert_says(said, "which was freed before; free a block once");
		t_assert_says(said, "kmcl:   it was freed by\nkmcl:   #0 ");
		if (nt_symbol_has_lines())
			t_assert_says(said, " t_release (nt/report_test.c:");
	}
}

static void
t_look_after_free(void)
{
	UCHAR *block = t_allocate(100);

	memset(block, 1, 100);
	t_release(block);
	for (int i = 0; i < 100; i++) {
		if (((volatile UCHAR *)block)[i] != 0xDD)
			_exit(1);
	}
}

static void
rt_15_freed_memory_is_poisoned(void **state)
{
	int status;

	CONF_COVERS("RT-15");
	(void)state;
	(void)t_in_checked_child(t_look_after_free, &status);
	assert_int_equal(status, 0);
}

static void
t_write_after_free(void)
{
	volatile UCHAR *block = t_allocate(100);

	t_release((PVOID)(ULONG_PTR)block);
	block[10] = 1;
	for (int i = 0; i < 600; i++)
		t_release(t_allocate(16));
}

/* It may have been the peer, so it is no misuse. */
static void
rt_15_a_write_after_the_release_is_told(void **state)
{
	int status;
	const char *said;

	CONF_COVERS("RT-15");
	(void)state;
	said = t_in_checked_child(t_write_after_free, &status);
	assert_int_equal(status, 0);
	t_assert_says(said, "(tag 'Test') was written to after it was freed");
	t_assert_says(said, "kmcl:   it was freed by\nkmcl:   #0 ");
}

static void
t_cycle_much(void)
{
	PVOID blocks[64];

	/* More than the quarantine holds, in blocks and in bytes, from slabs and runs. */
	for (int round = 0; round < 40; round++) {
		for (int i = 0; i < 64; i++)
			blocks[i] = t_allocate((size_t)(16 << i % 12));
		for (int i = 0; i < 64; i++) {
			memset(blocks[i], round, 16);
			t_release(blocks[i]);
		}
	}
	t_release(t_allocate(1 << 20));
	_exit(nt_pool_report() == 0 ? 0 : 1);
}

static void
rt_15_the_quarantine_gives_blocks_back(void **state)
{
	int status;
	const char *said;

	CONF_COVERS("RT-15");
	(void)state;
	said = t_in_checked_child(t_cycle_much, &status);
	assert_int_equal(status, 0);
	assert_string_equal(said, "");
}

/* ---- leaks ----------------------------------------------------------------------------------- */

static T_AS_WRITTEN void
t_leak(void)
{
	for (int i = 0; i < 3; i++)
		(void)!t_allocate(50);
	(void)!t_allocate(9000);
	_exit(nt_pool_report() == 4 ? 0 : 1);
}

static void
rt_15_leaks_are_told_by_tag_and_by_place_in_checked_mode(void **state)
{
	int status;
	const char *said;

	CONF_COVERS("RT-15");
	(void)state;
	said = t_in_checked_child(t_leak, &status);
	assert_int_equal(status, 0);
	t_assert_says(said, "kmcl: pool: tag 'Test' (0x74736554): 4 blocks, 9150 bytes\n");
	t_assert_says(said, "kmcl:   3 blocks, 150 bytes were allocated by\nkmcl:   #0 ");
	t_assert_says(said, "kmcl:   1 blocks, 9000 bytes were allocated by\n");
	if (nt_symbol_has_lines())
		t_assert_says(said, " t_allocate (nt/report_test.c:");
}

static void
t_leak_many(void)
{
	/* More tags than a report holds. */
	for (ULONG tag = 1; tag <= 600; tag++)
		(void)!ExAllocatePool2(POOL_FLAG_NON_PAGED, 16, 0x41414141 + tag);
	_exit(nt_pool_report() == 600 ? 0 : 1);
}

static void
rt_15_leaks_of_very_many_tags_are_still_counted(void **state)
{
	int status;
	const char *said;

	CONF_COVERS("RT-15");
	(void)state;
	nt_set_checked(false);
	said = t_in_checked_child(t_leak_many, &status);
	assert_int_equal(status, 0);
	/* The last words may be cut: the report is long. */
	t_assert_says(said, "(0x41414142): 1 blocks, 16 bytes");
}

static T_AS_WRITTEN void
t_keep_stacks(uint16_t *kept, int count)
{
	for (int i = 0; i < count; i++)
		kept[i] = nt_stack_keep(NULL);
}

static void
rt_15_equal_stacks_are_kept_once(void **state)
{
	struct nt_trace trace;
	uint16_t kept[3];

	CONF_COVERS("RT-15");
	(void)state;
	t_keep_stacks(kept, 3);
	assert_int_not_equal(kept[0], 0);
	assert_int_equal(kept[0], kept[1]);
	assert_int_equal(kept[0], kept[2]);
	assert_true(nt_stack_get(kept[0], &trace));
	assert_in_range(trace.count, 1, NT_STACK_FRAMES);
	assert_false(nt_stack_get(0, &trace));
	assert_false(nt_stack_get(NT_STACKS_MAX + 1, &trace));
	assert_int_equal(trace.count, 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ke_5_a_report_says_what_where_and_what_to_do),
		cmocka_unit_test(ke_5_a_report_names_functions_files_and_lines),
		cmocka_unit_test(ke_5_without_debug_information_modules_and_offsets_are_named),
		cmocka_unit_test(ke_5_a_trace_is_cut_at_whole_lines),
		cmocka_unit_test(rt_15_equal_stacks_are_kept_once),
		cmocka_unit_test(rt_15_freeing_twice_names_the_first_time),
		cmocka_unit_test(rt_15_freed_memory_is_poisoned),
		cmocka_unit_test(rt_15_a_write_after_the_release_is_told),
		cmocka_unit_test(rt_15_the_quarantine_gives_blocks_back),
		cmocka_unit_test(rt_15_leaks_are_told_by_tag_and_by_place_in_checked_mode),
		cmocka_unit_test(rt_15_leaks_of_very_many_tags_are_still_counted),
		cmocka_unit_test(ke_5_each_place_is_reported_once_and_all_are_counted),
		/* The last: no place is news afterwards. */
		cmocka_unit_test(ke_5_the_number_of_reports_has_an_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
