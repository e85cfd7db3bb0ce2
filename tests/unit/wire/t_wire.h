/* SPDX-License-Identifier: MIT */
/*
 * Helpers of the wire tests: cmocka with what it needs, seeded random numbers, buffers of exactly
 * the size under test, so that the address sanitizer sees the first byte read past the end.
 */
#ifndef T_WIRE_H
#define T_WIRE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <cmocka.h>

#define T_COUNT(array) (sizeof(array) / sizeof((array)[0]))

struct t_random {
	uint64_t state;
};

/* From KMCL_SEED if set; printed, so that a failure can be replayed. */
static inline struct t_random
t_random_start(const char *test)
{
	const char *text = getenv("KMCL_SEED");
	struct t_random r = { 0 };

	if (text != NULL)
		r.state = strtoull(text, NULL, 0);
	else if (getrandom(&r.state, sizeof(r.state), 0) != (ssize_t)sizeof(r.state))
		r.state = 1;
	print_message("%s: KMCL_SEED=0x%llx\n", test, (unsigned long long)r.state);
	return r;
}

static inline uint64_t
t_random_u64(struct t_random *r)
{
	uint64_t z = r->state += 0x9E3779B97F4A7C15u;

	z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
	z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
	return z ^ (z >> 31);
}

static inline uint32_t
t_random_below(struct t_random *r, uint32_t limit)
{
	return (uint32_t)(t_random_u64(r) % limit);
}

static inline void
t_random_fill(struct t_random *r, void *dst, size_t bytes)
{
	uint8_t *p = dst;

	for (size_t i = 0; i < bytes; i++)
		p[i] = (uint8_t)t_random_u64(r);
}

/* A copy that ends where the allocation ends. */
static inline uint8_t *
t_exact_copy(const void *src, size_t bytes)
{
	/* malloc(0) may be NULL; one byte more only then. */
	uint8_t *copy = malloc(bytes != 0 ? bytes : 1);

	assert_non_null(copy);
	if (bytes != 0)
		memcpy(copy, src, bytes);
	return copy;
}

#endif
