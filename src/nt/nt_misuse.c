/* SPDX-License-Identifier: MIT */
/*
 * Misuse reports. A call site is the chain of the nearest callers, so that two driver functions
 * that make the same mistake are both reported, and one that makes it in a loop is reported once.
 */
#include "nt/nt_misuse.h"

#include <execinfo.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "nt/nt_dbg.h"

#define MISUSE_SITE_FRAMES 5
#define MISUSE_TRACE_FRAMES 48
#define MISUSE_SITES 256u               /* further sites are only counted */

enum checked_mode {
	CHECKED_UNKNOWN = 0,
	CHECKED_OFF,
	CHECKED_ON,
};

/* All atomic. */
static int checked_mode;
static uint64_t misuse_count;
static uint64_t misuse_sites[MISUSE_SITES];

static int
checked_mode_default(void)
{
	const char *text = getenv("KMCL_CHECKED");

	if (text != NULL && strcmp(text, "1") == 0)
		return CHECKED_ON;
	if (text != NULL && strcmp(text, "0") == 0)
		return CHECKED_OFF;
#ifdef NT_CHECKED
	return CHECKED_ON;
#else
	return CHECKED_OFF;
#endif
}

bool
nt_is_checked(void)
{
	int mode = __atomic_load_n(&checked_mode, __ATOMIC_RELAXED);

	if (mode == CHECKED_UNKNOWN) {
		int expected = CHECKED_UNKNOWN;

		/* A mode that somebody set meanwhile stays. */
		mode = checked_mode_default();
		if (!__atomic_compare_exchange_n(&checked_mode, &expected, mode, false,
						 __ATOMIC_RELAXED, __ATOMIC_RELAXED))
			mode = expected;
	}
	return mode == CHECKED_ON;
}

void
nt_set_checked(bool checked)
{
	__atomic_store_n(&checked_mode, checked ? CHECKED_ON : CHECKED_OFF, __ATOMIC_RELAXED);
}

uint64_t
nt_misuse_count(void)
{
	return __atomic_load_n(&misuse_count, __ATOMIC_RELAXED);
}

static uint64_t
site_hash(void *const *frames, int count)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (int i = 0; i < count; i++)
		hash = (hash ^ (uint64_t)(uintptr_t)frames[i]) * UINT64_C(0x100000001b3);
	return hash != 0 ? hash : 1;
}

/* True once per site. */
static bool
site_is_new(uint64_t hash)
{
	for (unsigned i = 0; i < MISUSE_SITES; i++) {
		uint64_t *slot = &misuse_sites[(hash + i) % MISUSE_SITES];
		uint64_t expected = 0;

		if (__atomic_compare_exchange_n(slot, &expected, hash, false, __ATOMIC_RELAXED,
		                                __ATOMIC_RELAXED))
			return true;
		if (expected == hash)
			return false;
	}
	return false;
}

void
nt_misuse(const char *format, ...)
{
	void *frames[MISUSE_TRACE_FRAMES];
	const bool checked = nt_is_checked();
	char text[512];
	va_list args;
	int count;

	if (!checked) {
		__atomic_fetch_add(&misuse_count, 1, __ATOMIC_RELAXED);
		count = backtrace(frames, MISUSE_SITE_FRAMES);
		if (!site_is_new(site_hash(frames, count)))
			return;
	}

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (!checked) {
		nt_dbg_printf("kmcl: misuse: %s\n", text);
		return;
	}
	fprintf(stderr, "kmcl: misuse: %s\n", text);
	fflush(stderr);
	backtrace_symbols_fd(frames, backtrace(frames, MISUSE_TRACE_FRAMES), STDERR_FILENO);
	abort();
}
