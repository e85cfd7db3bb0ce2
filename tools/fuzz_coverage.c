/* SPDX-License-Identifier: MIT */
/*
 * The callbacks of -fsanitize-coverage, for the driver that a worker loads, and what they add up to. They run in whatever
 * thread the driver runs in; counters are bytes that may lose a count, which costs nothing but a count.
 */
#include "fuzz_coverage.h"

#include <dlfcn.h>
#include <stddef.h>
#include <string.h>

#define MODULES_MAX 16
/* Of the kinds of instrumentation that bring no counters of their own. */
#define OWN_COUNTERS (1u << 16)
/* A driver that answers what it was sent would have something new to say for ever. */
#define ANSWERS_MAX 200u

#define CALLBACK __attribute__((visibility("default"), used))
/* Where this very file is instrumented: what is called for each comparison makes some itself. */
#ifdef __clang__
#pragma clang attribute push(__attribute__((no_sanitize("coverage"))), apply_to = function)
#endif

static struct fuzz_coverage *coverage; /* NULL: this is no worker */

static struct {
	uint8_t *first, *end;
} modules[MODULES_MAX];
static unsigned module_count;

static uint8_t own_counters[OWN_COUNTERS];
static uint32_t guards;     /* given out */
static uintptr_t code_base; /* of the module that was traced first */
static uint32_t answers_new, distances_new;

/* ---- the callbacks ----------------------------------------------------------------------------------- */

CALLBACK void __sanitizer_cov_8bit_counters_init(uint8_t *first, uint8_t *end);
CALLBACK void __sanitizer_cov_pcs_init(const uintptr_t *first, const uintptr_t *end);
CALLBACK void __sanitizer_cov_trace_pc_guard_init(uint32_t *first, uint32_t *end);
CALLBACK void __sanitizer_cov_trace_pc_guard(uint32_t *guard);
CALLBACK void __sanitizer_cov_trace_pc(void);
CALLBACK void __sanitizer_cov_trace_pc_indir(uintptr_t callee);
CALLBACK void __sanitizer_cov_trace_switch(uint64_t value, void *table);

void
__sanitizer_cov_8bit_counters_init(uint8_t *first, uint8_t *end)
{
	if (module_count == MODULES_MAX || first == end || coverage == NULL)
		return;
	for (unsigned i = 0; i < module_count; i++) {
		if (modules[i].first == first)
			return;
	}
	modules[module_count].first = first;
	modules[module_count++].end = end;
	coverage->instrumented = true;
}

/* Who asks for a table of addresses has counters too, and those suffice. */
void
__sanitizer_cov_pcs_init(const uintptr_t *first, const uintptr_t *end)
{
	(void)first;
	(void)end;
}

void
__sanitizer_cov_trace_pc_guard_init(uint32_t *first, uint32_t *end)
{
	if (coverage == NULL || first == end || *first != 0)
		return;
	for (uint32_t *guard = first; guard < end; guard++)
		*guard = 1 + guards++ % (OWN_COUNTERS - 1);
	coverage->instrumented = true;
}

void
__sanitizer_cov_trace_pc_guard(uint32_t *guard)
{
	own_counters[*guard % OWN_COUNTERS]++;
}

/* Counted from the beginning of the image, so that it means the same in each worker. */
static uintptr_t
place_of(const void *at)
{
	uintptr_t base = __atomic_load_n(&code_base, __ATOMIC_RELAXED);
	Dl_info info;

	if (base == 0) {
		base = dladdr(at, &info) != 0 ? (uintptr_t)info.dli_fbase : 1;
		__atomic_store_n(&code_base, base, __ATOMIC_RELAXED);
	}
	return (uintptr_t)at - base;
}

void
__sanitizer_cov_trace_pc(void)
{
	if (coverage == NULL)
		return;
	coverage->instrumented = true;
	own_counters[place_of(__builtin_return_address(0)) * UINT64_C(0x9e3779b97f4a7c15) >> 48]++;
}

void
__sanitizer_cov_trace_pc_indir(uintptr_t callee)
{
	(void)callee;
}

static void
note(uint64_t value, uint64_t with, uint8_t bytes)
{
	const uint64_t at = (value + bytes) * UINT64_C(0x9e3779b97f4a7c15) >> 54;
	struct fuzz_comparison *entry;

	_Static_assert(FUZZ_COMPARISONS == 1u << 10, "the hash has ten bits");
	if (coverage == NULL)
		return;
	entry = &coverage->comparisons[at];
	if (entry->bytes != bytes || entry->value != value)
		*entry = (struct fuzz_comparison){ .value = value, .with = with, .bytes = bytes };
	if (value == with)
		entry->met = true;
	else
		entry->with = with;
}

/*
 * A length that is believed is no new edge, whether it is 0 or all that there is. So of two variables it also counts how far they
 * are apart; where one is a constant, the constant itself is tried.
 */
static void
note_distance(const void *at, uint64_t a, uint64_t b)
{
	const uint64_t distance = a > b ? a - b : b - a;
	const uint32_t bits = distance == 0 ? 0 : 64 - (uint32_t)__builtin_clzll(distance);
	uint64_t hash;

	if (coverage == NULL)
		return;
	hash = (place_of(at) * 130 + (a > b ? 65 : 0) + bits) * UINT64_C(0x9e3779b97f4a7c15) >> 48;
	if ((coverage->distances[hash / 8] & 1u << hash % 8) != 0)
		return;
	coverage->distances[hash / 8] |= (uint8_t)(1u << hash % 8);
	distances_new++;
}

#define COMPARE(bits, bytes)                                                                      \
	CALLBACK void __sanitizer_cov_trace_cmp##bytes(uint##bits##_t a, uint##bits##_t b);       \
	CALLBACK void __sanitizer_cov_trace_const_cmp##bytes(uint##bits##_t a, uint##bits##_t b); \
	void __sanitizer_cov_trace_cmp##bytes(uint##bits##_t a, uint##bits##_t b)                 \
	{                                                                                         \
		note(a, b, bytes);                                                                \
		note(b, a, bytes);                                                                \
		note_distance(__builtin_return_address(0), a, b);                                 \
	}                                                                                         \
	void __sanitizer_cov_trace_const_cmp##bytes(uint##bits##_t a, uint##bits##_t b)           \
	{                                                                                         \
		note(a, b, bytes);                                                                \
	}
COMPARE(8, 1)
COMPARE(16, 2)
COMPARE(32, 4)
COMPARE(64, 8)
#undef COMPARE

/* cases[0] is their number, cases[1] the bits of the value. */
void
__sanitizer_cov_trace_switch(uint64_t value, void *table)
{
	const uint64_t *cases = table;

	for (uint64_t i = 0; i < cases[0] && i < FUZZ_COMPARISONS; i++)
		note(cases[2 + i], value, (uint8_t)(cases[1] / 8));
}

/* ---- what they add up to --------------------------------------------------------------------------------- */

void
fuzz_coverage_start(struct fuzz_coverage *shared)
{
	coverage = shared;
}

void
fuzz_coverage_clear(void)
{
	for (unsigned i = 0; i < module_count; i++)
		memset(modules[i].first, 0, (size_t)(modules[i].end - modules[i].first));
	memset(own_counters, 0, sizeof(own_counters));
	answers_new = distances_new = 0;
}

void
fuzz_coverage_answer(const void *bytes, uint32_t count)
{
	uint32_t hash = (2166136261u ^ count) * 16777619u;
	uint8_t *said;

	/* Status codes come first; the rest may be anything. */
	for (uint32_t i = 0; i < count && i < 8; i++)
		hash = (hash ^ ((const uint8_t *)bytes)[i]) * 16777619u;
	hash = (hash ^ hash >> 16) % (8 * (uint32_t)sizeof(coverage->said));
	said = &coverage->said[hash / 8];
	if (coverage->instrumented || (*said & 1u << hash % 8) != 0 ||
	    coverage->answers == ANSWERS_MAX)
		return;
	coverage->answers++;
	*said |= (uint8_t)(1u << hash % 8);
	answers_new++;
}

static uint32_t
collect(const uint8_t *counters, uint32_t count, uint32_t first)
{
	uint32_t news = 0;

	for (uint32_t i = 0; i < count; i++) {
		static const uint8_t none[64];
		uint8_t *seen = &coverage->seen[(first + i) % FUZZ_FEATURES];
		const uint8_t n = counters[i];
		uint8_t bit;

		/* Most of them are, most of the time. */
		if (i % 64 == 0 && count - i >= 64 && memcmp(counters + i, none, 64) == 0) {
			i += 63;
			continue;
		}
		if (n == 0)
			continue;
		bit = (uint8_t)(1u << (n < 4     ? n - 1
		                       : n < 8   ? 3
		                       : n < 16  ? 4
		                       : n < 32  ? 5
		                       : n < 128 ? 6
		                                 : 7));
		if ((*seen & bit) != 0)
			continue;
		coverage->edges += *seen == 0;
		*seen |= bit;
		news++;
	}
	return news;
}

uint32_t
fuzz_coverage_collect(void)
{
	uint32_t first = OWN_COUNTERS, news = answers_new + distances_new;

	/* Edges do not move: modules are loaded in the same order by each worker. */
	for (unsigned i = 0; i < module_count; i++) {
		const uint32_t count = (uint32_t)(modules[i].end - modules[i].first);

		news += collect(modules[i].first, count, first);
		first += count;
	}
	news += collect(own_counters, OWN_COUNTERS, 0);
	coverage->edges_total = guards + first - OWN_COUNTERS;
	return news;
}

#ifdef __clang__
#pragma clang attribute pop
#endif
