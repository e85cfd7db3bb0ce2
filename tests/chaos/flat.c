/* SPDX-License-Identifier: MIT */
/*
 * What a process has, from /proc: descriptors, threads, resident memory. Threads of the library's pool leave when they had
 * nothing to do for a while, so a process is looked at when it is at rest: one thread of the pool is left.
 */
#include "director.h"

#include <dirent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_MS 20
#define POOL_THREAD "kmcl-worker"

static unsigned
count_entries(const char *path)
{
	DIR *dir = opendir(path);
	unsigned count = 0;

	if (dir == NULL)
		return 0;
	for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir))
		count += e->d_name[0] != '.';
	(void)closedir(dir);
	return count;
}

/* All that are there, and those of the pool among them: in one pass, because such a thread may leave between two. */
static void
count_threads(const char *path, unsigned *threads, unsigned *pool_threads)
{
	DIR *dir = opendir(path);

	*threads = *pool_threads = 0;
	if (dir == NULL)
		return;
	for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
		char file[PATH_MAX], name[32] = "";
		FILE *comm;

		(void)snprintf(file, sizeof(file), "%s/%s/comm", path, e->d_name);
		comm = fopen(file, "re");
		if (comm == NULL)
			continue;
		if (fgets(name, sizeof(name), comm) != NULL) {
			*threads += 1;
			*pool_threads += strcmp(name, POOL_THREAD "\n") == 0;
		}
		(void)fclose(comm);
	}
	(void)closedir(dir);
}

/* Pages of every mapping but the journal's. */
static unsigned long
count_resident(const char *path)
{
	FILE *maps = fopen(path, "re");
	unsigned long sum = 0, kib;
	bool journal = false;
	char line[512];

	if (maps == NULL)
		return 0;
	while (fgets(line, sizeof(line), maps) != NULL) {
		/* A mapping begins with its addresses, its figures with their names. */
		if (strchr(line, '-') != NULL && strchr(line, '-') < strchr(line, ' '))
			journal = strstr(line, CHAOS_JOURNAL_NAME) != NULL;
		else if (!journal && sscanf(line, "Rss: %lu kB", &kib) == 1)
			sum += kib;
	}
	(void)fclose(maps);
	return sum;
}

static void
look(const struct chaos_process *process, struct chaos_sample *sample, unsigned *pool_threads)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)process->pid);
	sample->descriptors = count_entries(path);
	(void)snprintf(path, sizeof(path), "/proc/%d/task", (int)process->pid);
	count_threads(path, &sample->threads, pool_threads);
	(void)snprintf(path, sizeof(path), "/proc/%d/smaps", (int)process->pid);
	sample->resident_kib = count_resident(path);
}

bool
chaos_await_rest(struct chaos_place *host, uint32_t held)
{
	struct chaos_journal *journal = host->journal;

	for (unsigned waited = 0; waited < CHAOS_PATIENCE_MS; waited += LOOK_MS) {
		const uint32_t order = atomic_fetch_add(&journal->report, 1) + 1;

		chaos_post(journal);
		for (uint32_t news = atomic_load(&journal->news);
		     atomic_load(&journal->reported) != order && waited < CHAOS_PATIENCE_MS;
		     news = atomic_load(&journal->news), waited += LOOK_MS)
			chaos_wait(journal, news, LOOK_MS);
		if (atomic_load(&journal->held) == held)
			return true;
		(void)poll(NULL, 0, LOOK_MS);
	}
	return false;
}

bool
chaos_sample(const struct chaos_process *process, struct chaos_sample *sample)
{
	unsigned pool_threads;

	for (unsigned waited = 0; waited < CHAOS_PATIENCE_MS; waited += LOOK_MS) {
		look(process, sample, &pool_threads);
		if (pool_threads <= 1)
			return true;
		(void)poll(NULL, 0, LOOK_MS);
	}
	return false;
}

bool
chaos_is_flat(const struct chaos_process *process, const struct chaos_sample *before,
              struct chaos_sample *after)
{
	unsigned pool_threads;

	for (unsigned waited = 0; waited < CHAOS_PATIENCE_MS; waited += LOOK_MS) {
		look(process, after, &pool_threads);
		if (pool_threads <= 1 && after->descriptors == before->descriptors &&
		    after->threads == before->threads)
			return true;
		(void)poll(NULL, 0, LOOK_MS);
	}
	return false;
}

void
chaos_print_holdings(const struct chaos_process *process)
{
	char command[160];

	(void)fflush(stdout);
	(void)snprintf(command, sizeof(command),
	               "ls -l /proc/%d/fd | sed 's/.* \\([0-9]* ->\\)/  \\1/'; cat "
	               "/proc/%d/task/*/comm | sed 's/^/  /'",
	               (int)process->pid, (int)process->pid);
	if (system(command) != 0)
		printf("  (nothing is to be seen)\n");
}
