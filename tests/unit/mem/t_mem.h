/* SPDX-License-Identifier: MIT */
/*
 * Shared by the tests of src/mem: ranges from lists of page numbers, regions over a memfd, a seeded
 * random source, children that are expected to die.
 */
#ifndef T_MEM_H
#define T_MEM_H

#include <endian.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "vmb/mem.h"

#define T_PAGE 4096u
#define T_PFNS_MAX 64u

struct t_range {
	uint8_t pfns[T_PFNS_MAX * 8 + 1];
	struct vmb_gpa_range range;
};

/* The list is put at an odd address: page numbers in a packet need not be aligned. */
static inline const struct vmb_gpa_range *
t_range_make(struct t_range *r, uint32_t offset, uint32_t bytes, const uint64_t *pfns,
             uint32_t count)
{
	assert_true(count <= T_PFNS_MAX);
	for (uint32_t i = 0; i < count; i++) {
		const uint64_t le = htole64(pfns[i]);

		memcpy(&r->pfns[1 + i * 8], &le, sizeof(le));
	}
	r->range = (struct vmb_gpa_range){ bytes, offset, count, &r->pfns[1] };
	return &r->range;
}

#define T_RANGE(r, offset, bytes, ...)                                                             \
	t_range_make(r, offset, bytes, (const uint64_t[]){ __VA_ARGS__ },                          \
	             (uint32_t)(sizeof((const uint64_t[]){ __VA_ARGS__ }) / sizeof(uint64_t)))

/* A region at `gpa` over a new memfd of that many pages. The space owns it once it was added. */
static inline struct vmb_region
t_region_make(uint64_t gpa, uint32_t pages)
{
	struct vmb_region r = { .gpa = gpa, .bytes = (uint64_t)pages * T_PAGE, .owned = true };

	r.fd = memfd_create("t", MFD_CLOEXEC);
	assert_true(r.fd >= 0);
	assert_int_equal(ftruncate(r.fd, (off_t)r.bytes), 0);
	r.host = mmap(NULL, r.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, r.fd, 0);
	assert_true(r.host != MAP_FAILED);
	return r;
}

static inline uint8_t *
t_region_add(struct vmb_mem *mem, uint64_t gpa, uint32_t pages)
{
	const struct vmb_region r = t_region_make(gpa, pages);

	assert_int_equal(vmb_mem_add_region(mem, &r), VMB_OK);
	return r.host;
}

static inline struct vmb_mem *
t_mem_new(void)
{
	struct vmb_mem *mem;

	assert_int_equal(vmb_mem_create(&mem), VMB_OK);
	return mem;
}

static inline struct vmb_arena *
t_arena_new(uint32_t pages)
{
	struct vmb_arena *arena;

	assert_int_equal(vmb_arena_create((uint64_t)pages * T_PAGE, &arena), VMB_OK);
	return arena;
}

static inline bool
t_is_filled(const void *p, int value, size_t bytes)
{
	const uint8_t *b = p;

	return bytes == 0 || (b[0] == (uint8_t)value && memcmp(b, b + 1, bytes - 1) == 0);
}

/* True if that byte is mapped for writing, as the kernel sees it. */
static inline bool
t_is_writable(const void *p)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512], access[5];
	unsigned long start, end;
	bool is_writable = false;

	assert_non_null(maps);
	while (fgets(line, sizeof(line), maps) != NULL) {
		if (sscanf(line, "%lx-%lx %4s", &start, &end, access) == 3 &&
		    start <= (uintptr_t)p && (uintptr_t)p < end)
			is_writable = access[1] == 'w';
	}
	fclose(maps);
	return is_writable;
}

static inline uint64_t
t_seed(void)
{
	const char *text = getenv("KMCL_SEED");

	return text != NULL && *text != '\0' ? strtoull(text, NULL, 0) : UINT64_C(0x6B6D636C);
}

/* splitmix64 */
static inline uint64_t
t_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9E3779B97F4A7C15);

	z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

static inline uint32_t
t_random_below(uint64_t *state, uint32_t bound)
{
	return (uint32_t)(t_random(state) % bound);
}

/* Run body in a child; what it wrote to stderr goes to `text`. Returns the wait status. */
static inline int
t_child_run(void (*body)(void *ctx), void *ctx, char *text, size_t text_bytes)
{
	const struct rlimit no_core = { 0, 0 };
	size_t used = 0;
	int ends[2], status;
	ssize_t got;
	pid_t pid;

	assert_int_equal(pipe(ends), 0);
	fflush(NULL);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		setrlimit(RLIMIT_CORE, &no_core);
		signal(SIGABRT, SIG_DFL);
		dup2(ends[1], STDERR_FILENO);
		close(ends[0]);
		close(ends[1]);
		body(ctx);
		_exit(0);
	}
	close(ends[1]);
	while (used + 1 < text_bytes &&
	       (got = read(ends[0], text + used, text_bytes - 1 - used)) > 0)
		used += (size_t)got;
	text[used] = '\0';
	close(ends[0]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return status;
}

/* body must abort after a message that contains `words`. */
static inline void
t_expect_abort(void (*body)(void *ctx), void *ctx, const char *words)
{
	char text[4096];
	const int status = t_child_run(body, ctx, text, sizeof(text));

	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
	assert_non_null(strstr(text, words));
}

#endif
