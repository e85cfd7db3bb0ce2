/* SPDX-License-Identifier: MIT */
/*
 * What is allocated from the pool, summed by tag, and in checked mode by the place that allocated
 * it.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "nt/nt_dbg.h"
#include "nt/nt_misuse.h"
#include "nt/nt_pool.h"
#include "nt/nt_pool_internal.h"
#include "nt/nt_trace.h"
#include "wdm.h"

#define REPORT_SUMS 512u
#define REPORT_STACKS_PER_TAG 8u

/* Blocks of one tag from one place. */
struct sum {
	uint32_t tag;
	uint16_t stack;                 /* 0 = unknown */
	bool printed;
	size_t blocks;
	uint64_t bytes;
};

struct report {
	FILE *file;                     /* NULL = the debug sink */
	struct sum sums[REPORT_SUMS];
	uint32_t count;
	struct sum others;              /* what found no room */
	size_t blocks;
};

/* ---- collecting ------------------------------------------------------------------------------ */

static void
report_add(struct report *report, uint32_t tag, uint16_t stack, uint64_t bytes)
{
	struct sum *sum = &report->others;
	uint32_t i = 0;

	while (i < report->count &&
	       (report->sums[i].tag != tag || report->sums[i].stack != stack))
		i++;
	if (i < REPORT_SUMS) {
		sum = &report->sums[i];
		if (i == report->count) {
			report->count++;
			*sum = (struct sum){ .tag = tag, .stack = stack };
		}
	}
	sum->blocks++;
	sum->bytes += bytes;
	report->blocks++;
}

static void
report_run(struct report *report, const struct pool_run *run)
{
	if (run->class_index == POOL_CLASS_LARGE) {
		if (!run->quarantined)
			report_add(report, run->tag, run->stack, run->bytes);
		return;
	}
	for (uint32_t i = 0; i < run->blocks; i++) {
		if (run->info[i].live)
			report_add(report, run->info[i].tag, run->info[i].stack,
				   run->info[i].bytes);
	}
}

static void
report_collect(struct report *report, struct pool *p)
{
	for (uint32_t i = 0; i < POOL_CLASSES; i++) {
		struct pool_class *const class = &p->classes[i];

		pthread_mutex_lock(&class->lock);
		for (PLIST_ENTRY at = class->all.Flink; at != &class->all; at = at->Flink)
			report_run(report, CONTAINING_RECORD(at, struct pool_run, all));
		pthread_mutex_unlock(&class->lock);
	}
}

/* ---- printing -------------------------------------------------------------------------------- */

static void __attribute__((format(printf, 2, 3)))
report_line(const struct report *report, const char *format, ...)
{
	char text[256];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (report->file != NULL)
		fputs(text, report->file);
	else
		nt_dbg_write(text, strlen(text));
}

static void
report_stack(const struct report *report, const struct sum *sum)
{
	struct nt_trace trace;
	char text[3072];
	size_t bytes;

	if (!nt_stack_get(sum->stack, &trace))
		return;
	report_line(report, "kmcl:   %zu blocks, %" PRIu64 " bytes were allocated by\n", sum->blocks,
		    sum->bytes);
	bytes = nt_trace_print(&trace, text, sizeof(text));
	if (report->file != NULL)
		fwrite(text, 1, bytes, report->file);
	else
		nt_dbg_write(text, bytes);
}

/* One tag, which begins at `first` of the sums. */
static void
report_tag(struct report *report, uint32_t first)
{
	struct sum total = { .tag = report->sums[first].tag };
	uint32_t stacks = 0;
	char text[5];

	for (uint32_t i = first; i < report->count; i++) {
		if (report->sums[i].tag != total.tag)
			continue;
		report->sums[i].printed = true;
		total.blocks += report->sums[i].blocks;
		total.bytes += report->sums[i].bytes;
	}
	report_line(report,
		    "kmcl: pool: tag '%s' (0x%08" PRIx32 "): %zu blocks, %" PRIu64 " bytes\n",
		    nt_pool_tag_text(total.tag, text), total.tag, total.blocks, total.bytes);
	for (uint32_t i = first; i < report->count && stacks < REPORT_STACKS_PER_TAG; i++) {
		if (report->sums[i].tag != total.tag || report->sums[i].stack == 0)
			continue;
		report_stack(report, &report->sums[i]);
		stacks++;
	}
}

static size_t
report_print(FILE *file)
{
	struct pool *const p = nt_pool_existing();
	struct report *report;
	size_t blocks;

	if (p == NULL)
		return 0;
	report = calloc(1, sizeof(*report));
	if (report == NULL)
		return 0;
	report->file = file;
	report_collect(report, p);
	for (uint32_t i = 0; i < report->count; i++) {
		if (!report->sums[i].printed)
			report_tag(report, i);
	}
	if (report->others.blocks != 0)
		report_line(report, "kmcl: pool: others: %zu blocks, %" PRIu64 " bytes\n",
			    report->others.blocks, report->others.bytes);
	blocks = report->blocks;
	free(report);
	return blocks;
}

size_t
nt_pool_report_leaks(FILE *out)
{
	return report_print(out);
}

SIZE_T
nt_pool_report(VOID)
{
	return report_print(NULL);
}

/* ---- at exit --------------------------------------------------------------------------------- */

enum exit_report {
	EXIT_REPORT_BY_DEFAULT,         /* the environment, else whether checked mode is on */
	EXIT_REPORT_OFF,
	EXIT_REPORT_ON,
};
static int exit_report;                 /* atomic */

VOID
nt_pool_report_at_exit(BOOLEAN report)
{
	__atomic_store_n(&exit_report, report ? EXIT_REPORT_ON : EXIT_REPORT_OFF,
			 __ATOMIC_RELAXED);
	/* Whose exit handler does it. */
	(void)nt_pool_get();
}

void
nt_pool_exit(void)
{
	const int wanted = __atomic_load_n(&exit_report, __ATOMIC_RELAXED);
	const char *text = getenv("KMCL_POOL_REPORT");

	if (wanted == EXIT_REPORT_OFF)
		return;
	if (wanted == EXIT_REPORT_ON || (text != NULL && strcmp(text, "1") == 0) ||
	    (text == NULL && nt_is_checked()))
		(void)report_print(NULL);
}

size_t
nt_pool_live_blocks(void)
{
	struct pool *const p = nt_pool_existing();
	struct report *report = p != NULL ? calloc(1, sizeof(*report)) : NULL;
	size_t blocks;

	if (report == NULL)
		return 0;
	report_collect(report, p);
	blocks = report->blocks;
	free(report);
	return blocks;
}
