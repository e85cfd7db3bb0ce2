/* SPDX-License-Identifier: MIT */
/* Where the library talks to people: log lines, misuse reports. */
#include "kmcl/kmcl_log.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "kmcl/kmcl_channel.h"
#include "nt/nt_misuse.h"
#include "nt/nt_symbol.h"

static pthread_mutex_t sink_lock = PTHREAD_MUTEX_INITIALIZER;
static void (*sink)(void *ctx, enum kmcl_log_level level, const char *line);
static void *sink_ctx;
static _Atomic int most_verbose_level = KMCL_LOG_WARNING;

void
kmcl_set_log(void (*new_sink)(void *ctx, enum kmcl_log_level level, const char *line), void *ctx,
             enum kmcl_log_level most_verbose)
{
	pthread_mutex_lock(&sink_lock);
	sink = new_sink;
	sink_ctx = ctx;
	atomic_store(&most_verbose_level, (int)most_verbose);
	pthread_mutex_unlock(&sink_lock);
}

void
kmcl_reports_without_files(void)
{
	nt_symbol_without_files();
}

void
kmcl_log(enum kmcl_log_level level, const char *format, ...)
{
	char line[512];
	va_list args;

	if ((int)level > atomic_load_explicit(&most_verbose_level, memory_order_relaxed))
		return;
	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	pthread_mutex_lock(&sink_lock);
	if (sink != NULL)
		sink(sink_ctx, level, line);
	else
		fprintf(stderr, "kmcl: %s\n", line);
	pthread_mutex_unlock(&sink_lock);
}

bool
kmcl_log_allowed(struct kmcl_log_limit *limit, unsigned burst, unsigned *suppressed)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	*suppressed = 0;
	if (now.tv_sec != limit->second) {
		limit->second = now.tv_sec;
		limit->printed = 0;
	}
	if (limit->printed >= burst) {
		limit->suppressed++;
		return false;
	}
	limit->printed++;
	*suppressed = limit->suppressed;
	limit->suppressed = 0;
	return true;
}

void
kmcl_misuse(struct kmcl_channel *ch, const char *format, ...)
{
	char text[320];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (ch != NULL)
		kmcl_count(&ch->stats.misuses, 1);
	nt_misuse("%s", text);
}
