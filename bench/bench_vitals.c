/* SPDX-License-Identifier: MIT */
#include "bench_vitals.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bench_common.h"

/* The number behind `name` in a file of lines "name: number"; 0 if the file has gone. */
static uint64_t
read_number(const char *path, const char *name)
{
	const size_t length = strlen(name);
	FILE *file = fopen(path, "re");
	uint64_t number = 0;
	char line[256];

	if (file == NULL)
		return 0;
	while (fgets(line, sizeof(line), file) != NULL) {
		if (strncmp(line, name, length) == 0 && line[length] == ':')
			number = strtoull(line + length + 1, NULL, 10);
	}
	(void)fclose(file);
	return number;
}

struct bench_vitals
bench_vitals_now(void)
{
	struct bench_vitals now = { 0 };
	struct dirent *entry;
	char path[300];
	DIR *tasks;

	now.anonymous_bytes = read_number("/proc/self/smaps_rollup", "Anonymous") * 1024;
	tasks = opendir("/proc/self/task");
	if (tasks == NULL)
		bench_die("/proc/self/task");
	while ((entry = readdir(tasks)) != NULL) {
		if (entry->d_name[0] == '.' || strtol(entry->d_name, NULL, 10) == (long)getpid())
			continue;
		(void)snprintf(path, sizeof(path), "/proc/self/task/%s/status", entry->d_name);
		now.switches += read_number(path, "voluntary_ctxt_switches");
	}
	(void)closedir(tasks);
	return now;
}
