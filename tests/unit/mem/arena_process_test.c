/* SPDX-License-Identifier: MIT */
/* The arena of the process: its size, its fallbacks, fork (src/mem/arena_process.c). */
#include "t_mem.h"

#include <pthread.h>

#include "mem/arena_internal.h"

#define MIB (UINT64_C(1) << 20)

struct setting {
	const char *ram_mib;            /* KMCL_RAM_MIB, or NULL */
	uint64_t file_limit_mib;        /* RLIMIT_FSIZE, or 0 */
	uint64_t expected_mib;          /* 0: the default */
};

static void
setting_apply(const struct setting *s)
{
	const struct rlimit limit = { s->file_limit_mib * MIB, s->file_limit_mib * MIB };

	unsetenv("KMCL_RAM_MIB");
	if (s->ram_mib != NULL)
		setenv("KMCL_RAM_MIB", s->ram_mib, 1);
	if (s->file_limit_mib != 0 && setrlimit(RLIMIT_FSIZE, &limit) != 0)
		_exit(2);
}

static void
check_size(void *ctx)
{
	const struct setting *s = ctx;
	const uint64_t mib = s->expected_mib != 0 ? s->expected_mib : arena_process_default_mib();
	struct vmb_arena *arena;

	setting_apply(s);
	arena = vmb_arena_process();
	if (vmb_arena_bytes(arena) != mib * MIB || vmb_arena_process() != arena)
		_exit(3);
	_exit(vmb_arena_alloc(arena, 1) != NULL ? 0 : 4);
}

static void
size_follows_the_environment_and_the_system(void **state)
{
	static const struct setting settings[] = {
		{ NULL, 0, 0 },     { "", 0, 0 },        { "1", 0, 1 },       { "100", 0, 100 },
		{ NULL, 300, 256 }, { NULL, 64, 64 },   { "100", 70, 64 },   { "65", 64, 64 },
		{ "48", 48, 48 },
	};
	char text[512];

	(void)state;
	for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
		struct setting s = settings[i];

		assert_int_equal(t_child_run(check_size, &s, text, sizeof(text)), 0);
		assert_string_equal(text, "");
	}
}

static void
senseless_size_is_reported_and_replaced(void **state)
{
	static const char *const texts[] = {
		"0", "-1", "lots", "12x", "99999999999999999999", "8388609",
	};
	char text[512];

	(void)state;
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct setting s = { texts[i], 0, 0 };

		assert_int_equal(t_child_run(check_size, &s, text, sizeof(text)), 0);
		assert_non_null(strstr(text, "is not a number from 1 to"));
		assert_non_null(strstr(text, texts[i]));
	}
}

static void
no_memory_at_all_says_so_and_aborts(void **state)
{
	struct setting below_floor = { NULL, 63, 0 }, below_wish = { "48", 47, 0 };

	(void)state;
	t_expect_abort(check_size, &below_floor, "cannot make guest memory");
	t_expect_abort(check_size, &below_wish, "cannot make guest memory");
}

static void
use_in_child(void *ctx)
{
	uint8_t *parents = ctx, *own;

	if (t_is_writable(parents))
		_exit(2);
	own = vmb_arena_alloc(vmb_arena_process(), 1);
	if (own == NULL)
		_exit(3);
	*own = 1;
	_exit(0);
}

static void
forked_child_gets_an_arena_of_its_own(void **state)
{
	struct vmb_arena *arena = vmb_arena_process();
	uint8_t *run = vmb_arena_alloc(arena, 1), *next;
	char text[512];

	(void)state;
	*run = 0x42;
	next = vmb_arena_alloc(arena, 1);
	vmb_arena_free(arena, next);
	assert_int_equal(t_child_run(use_in_child, run, text, sizeof(text)), 0);
	/* The child's first page would be this one if it shared the memory. */
	assert_int_equal(*run, 0x42);
	assert_int_equal(*next, 0);
	assert_ptr_equal(vmb_arena_process(), arena);
	vmb_arena_free(arena, run);
}

static void *
first_use(void *ctx)
{
	(void)ctx;
	return vmb_arena_process();
}

static void
race_for_first_use(void *ctx)
{
	pthread_t threads[4];
	void *seen[4];

	(void)ctx;
	for (size_t i = 0; i < 4; i++) {
		if (pthread_create(&threads[i], NULL, first_use, NULL) != 0)
			_exit(2);
	}
	for (size_t i = 0; i < 4; i++)
		pthread_join(threads[i], &seen[i]);
	_exit(seen[0] == seen[1] && seen[0] == seen[2] && seen[0] == seen[3] ? 0 : 1);
}

static void
threads_agree_on_one_arena(void **state)
{
	char text[512];

	(void)state;
	assert_int_equal(t_child_run(race_for_first_use, NULL, text, sizeof(text)), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(size_follows_the_environment_and_the_system),
		cmocka_unit_test(senseless_size_is_reported_and_replaced),
		cmocka_unit_test(no_memory_at_all_says_so_and_aborts),
		cmocka_unit_test(forked_child_gets_an_arena_of_its_own),
		cmocka_unit_test(threads_agree_on_one_arena),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
