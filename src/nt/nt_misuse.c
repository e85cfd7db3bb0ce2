/* SPDX-License-Identifier: MIT */
/*
 * Misuse reports. A place is the chain of the nearest callers, so that two driver functions that
 * make the same mistake are both reported, and one that makes it in a loop is reported once.
 */
#include "nt/nt_misuse.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "nt/nt_dbg.h"
#include "nt/nt_thread.h"
#include "nt/nt_trace.h"

#define MISUSE_SITE_FRAMES 5
#define MISUSE_SITES 256u               /* further sites are only counted */
#define MISUSE_REPORT_BYTES 8192u

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

BOOLEAN
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
nt_set_checked(BOOLEAN checked)
{
	__atomic_store_n(&checked_mode, checked ? CHECKED_ON : CHECKED_OFF, __ATOMIC_RELAXED);
}

uint64_t
nt_misuse_count(void)
{
	return __atomic_load_n(&misuse_count, __ATOMIC_RELAXED);
}

static uint64_t
site_hash(const struct nt_trace *trace)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (int i = 0; i < trace->count && i < MISUSE_SITE_FRAMES; i++)
		hash = (hash ^ (uint64_t)(uintptr_t)trace->frames[i]) * UINT64_C(0x100000001b3);
	return hash != 0 ? hash : 1;
}

enum site_news {
	SITE_KNOWN,
	SITE_NEW,
	SITE_LAST,      /* new, and the table is full now */
};

/* Each site is news once. */
static enum site_news
site_enter(uint64_t hash)
{
	static unsigned used;

	for (unsigned i = 0; i < MISUSE_SITES; i++) {
		uint64_t *slot = &misuse_sites[(hash + i) % MISUSE_SITES];
		uint64_t expected = 0;

		if (__atomic_compare_exchange_n(slot, &expected, hash, false, __ATOMIC_RELAXED,
		                                __ATOMIC_RELAXED))
			return __atomic_add_fetch(&used, 1, __ATOMIC_RELAXED) == MISUSE_SITES
				       ? SITE_LAST
				       : SITE_NEW;
		if (expected == hash)
			return SITE_KNOWN;
	}
	return SITE_KNOWN;
}

/* The whole report as one text, so that reports of several threads do not mix. */
static size_t
report_write(char *report, size_t room, const struct nt_trace *trace, const char *format,
	     va_list args)
{
	char name[16] = "?";
	size_t used = 0;
	int length;

	length = snprintf(report, room, "kmcl: misuse: ");
	used += (size_t)length;
	length = vsnprintf(report + used, room / 2, format, args);
	if (length > 0)
		used += (size_t)length < room / 2 ? (size_t)length : room / 2 - 1;
	(void)pthread_getname_np(pthread_self(), name, sizeof(name));
	length = snprintf(report + used, room - used, "\nkmcl:   in thread %u '%s' at IRQL %u:\n",
			  nt_thread_id(), name, KeGetCurrentIrql());
	used += (size_t)length;
	return used + nt_trace_print(trace, report + used, room - used);
}

void
nt_misuse(const char *format, ...)
{
	const bool checked = nt_is_checked();
	char report[MISUSE_REPORT_BYTES];
	enum site_news news = SITE_NEW;
	struct nt_trace trace;
	va_list args;
	size_t bytes;

	nt_trace_take(&trace, __builtin_return_address(0));
	if (!checked) {
		__atomic_fetch_add(&misuse_count, 1, __ATOMIC_RELAXED);
		news = site_enter(site_hash(&trace));
		if (news == SITE_KNOWN)
			return;
	}

	va_start(args, format);
	bytes = report_write(report, sizeof(report), &trace, format, args);
	va_end(args);
	if (checked) {
		fwrite(report, 1, bytes, stderr);
		fflush(stderr);
		abort();
	}
	nt_dbg_write(report, bytes);
	if (news == SITE_LAST)
		nt_dbg_printf("kmcl: misuse: that was the %uth place; others are only counted\n",
			      MISUSE_SITES);
}
