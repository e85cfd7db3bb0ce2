/* SPDX-License-Identifier: MIT */
#include "bench_place.h"

#include <dirent.h>
#include <errno.h>
#include <sched.h>
#include <stdlib.h>

#include "bench_common.h"

static cpu_set_t at_start;

/* Before anything is placed. */
static __attribute__((constructor)) void
remember(void)
{
	if (sched_getaffinity(0, sizeof(at_start), &at_start) != 0)
		bench_die("sched_getaffinity");
}

unsigned int
bench_cpus(void)
{
	return (unsigned int)CPU_COUNT(&at_start);
}

static cpu_set_t
one_cpu(unsigned int index)
{
	unsigned int skip = index % bench_cpus();
	cpu_set_t one;

	CPU_ZERO(&one);
	for (unsigned int cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (CPU_ISSET(cpu, &at_start) && skip-- == 0) {
			CPU_SET(cpu, &one);
			break;
		}
	}
	return one;
}

static void
pin(pid_t tid, const cpu_set_t *set)
{
	/* A worker of a pool may have left since it was listed. */
	if (sched_setaffinity(tid, sizeof(*set), set) != 0 && errno != ESRCH)
		bench_die("sched_setaffinity");
}

void
bench_place_thread(unsigned int index)
{
	const cpu_set_t one = one_cpu(index);

	pin(0, &one);
}

void
bench_place(enum bench_placement placement, unsigned int index)
{
	struct dirent *entry;
	cpu_set_t one;
	DIR *tasks;

	if (placement == BENCH_ANYWHERE)
		return;
	one = one_cpu(placement == BENCH_TWO_CPUS ? index : 0);
	tasks = opendir("/proc/self/task");
	if (tasks == NULL)
		bench_die("/proc/self/task");
	while ((entry = readdir(tasks)) != NULL) {
		if (entry->d_name[0] != '.')
			pin((pid_t)strtol(entry->d_name, NULL, 10), &one);
	}
	(void)closedir(tasks);
}
