/* SPDX-License-Identifier: MIT */
/* The library's log lines of one case: what was said, and how much of it. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "scene.h"

#define KEPT 256u

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char lines[KEPT][300];
static uint32_t line_count, warning_count;

static void
take_line(void *ctx, enum kmcl_log_level level, const char *line)
{
	(void)ctx;
	pthread_mutex_lock(&lock);
	if (line_count < KEPT)
		(void)snprintf(lines[line_count++], sizeof(lines[0]), "%s", line);
	if (level == KMCL_LOG_WARNING)
		warning_count++;
	pthread_mutex_unlock(&lock);
}

void
log_start(void)
{
	kmcl_set_log(take_line, NULL, KMCL_LOG_INFO);
}

bool
log_has(const char *words)
{
	bool found = false;

	pthread_mutex_lock(&lock);
	for (uint32_t i = 0; i < line_count && !found; i++)
		found = strstr(lines[i], words) != NULL;
	pthread_mutex_unlock(&lock);
	return found;
}

uint32_t
log_warnings(void)
{
	uint32_t count;

	pthread_mutex_lock(&lock);
	count = warning_count;
	pthread_mutex_unlock(&lock);
	return count;
}

void
log_print(void)
{
	pthread_mutex_lock(&lock);
	for (uint32_t i = 0; i < line_count; i++)
		(void)fprintf(stderr, "  log: %s\n", lines[i]);
	pthread_mutex_unlock(&lock);
}
