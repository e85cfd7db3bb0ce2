/* SPDX-License-Identifier: MIT */
#include "runner.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "plant.h"
#include "world.h"
#include "wrap.h"

/* Of a processor's time. It is far more than any program needs and ends one that never reaches a point. */
#define SECONDS_OF_A_RUN 60

/* By each process. */
#define MOST_SHOWN 20u

/* Where a child leaves its numbers. */
struct numbers {
	uint64_t hash, steps;
	struct sim_counts counts;
};

void
sim_run_here(const struct sim_program *program)
{
	const struct rlimit limit = { SECONDS_OF_A_RUN, SECONDS_OF_A_RUN };

	(void)setrlimit(RLIMIT_CPU, &limit);
	sim_tasks_begin();
	sim_begin(program->seed, &program->how);
	sim_world_run(program);
}

static void
read_all(int fd, char *text, size_t room)
{
	size_t used = 0;
	char rest[512];
	ssize_t got;

	do {
		got = used < room - 1 ? __real_read(fd, text + used, room - 1 - used)
		                      : __real_read(fd, rest, sizeof(rest));
		if (got > 0 && used < room - 1)
			used += (size_t)got;
	} while (got > 0 || (got < 0 && errno == EINTR));
	text[used] = '\0';
}

struct sim_result
sim_run(const struct sim_program *program)
{
	static struct numbers *shared;
	struct sim_result result = { 0 };
	int pipes[2], status;
	pid_t child;

	if (shared == NULL) {
		shared = __real_mmap64(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		if (shared == MAP_FAILED)
			abort();
	}
	fflush(stdout);
	if (pipe(pipes) != 0 || (child = fork()) < 0) {
		perror("fork");
		abort();
	}
	if (child == 0) {
		(void)dup2(pipes[1], 1);
		(void)__real_close(pipes[0]);
		sim_run_here(program);
		*shared = (struct numbers){ sim_trace_hash(), sim_steps(), sim_world.counts };
		_exit(0);
	}
	(void)__real_close(pipes[1]);
	read_all(pipes[0], result.report, sizeof(result.report));
	(void)__real_close(pipes[0]);
	if (waitpid(child, &status, 0) != child)
		abort();
	result.found = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
	result.hash = shared->hash;
	result.steps = shared->steps;
	result.counts = shared->counts;
	if (WIFSIGNALED(status)) {
		size_t used = strlen(result.report);

		snprintf(result.report + used, sizeof(result.report) - used,
		         "found: it died of signal %d (%s)\n", WTERMSIG(status),
		         strsignal(WTERMSIG(status)));
	}
	return result;
}

struct sim_result
sim_run_checked(const struct sim_program *program, bool twice)
{
	struct sim_result result = sim_run(program), again;

	if (!twice || result.found)
		return result;
	again = sim_run(program);
	if (again.found || again.hash != result.hash) {
		again.found = true;
		strcpy(again.report, "found: two runs of the same program differ\n");
	}
	return again;
}

/* ---- many ------------------------------------------------------------------------------------------------- */

/* Every jobs-th seed. */
static void
run_share(uint64_t first, uint64_t end, uint32_t step, bool twice, struct sim_sum *sum)
{
	static struct sim_program program;

	for (uint64_t seed = first; seed < end; seed += step) {
		struct sim_result result;

		sim_program_make(&program, seed);
		result = sim_run_checked(&program, twice);
		if (!result.found) {
			sim_sum_add(sum, &(struct sim_sum){ 0, result.steps, result.counts });
			continue;
		}
		if (sum->found++ < MOST_SHOWN)
			printf("seed %llu\n%srepeat it with: %s --seed %llu%s%s\n",
			       (unsigned long long)seed, result.report, program_invocation_name,
			       (unsigned long long)seed,
			       sim_plant_name()[0] == '\0' ? "" : " --plant ", sim_plant_name());
		fflush(stdout);
	}
}

void
sim_sum_add(struct sim_sum *sum, const struct sim_sum *more)
{
	sum->found += more->found;
	sum->steps += more->steps;
#define SIM_COUNT(name, text) sum->counts.name += more->counts.name;
	SIM_COUNTS(SIM_COUNT)
#undef SIM_COUNT
}

struct sim_sum
sim_run_seeds(uint64_t first, uint64_t count, uint32_t jobs, bool twice)
{
	struct sim_sum *shares = __real_mmap64(NULL, jobs * sizeof(*shares), PROT_READ | PROT_WRITE,
	                                       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct sim_sum all = { 0 };
	pid_t children[SIM_MOST_JOBS];

	if (shares == MAP_FAILED)
		abort();
	for (uint32_t i = 0; i < jobs; i++) {
		fflush(stdout);
		children[i] = fork();
		if (children[i] < 0) {
			perror("fork");
			abort();
		}
		if (children[i] == 0) {
			run_share(first + i, first + count, jobs, twice, &shares[i]);
			fflush(stdout);
			_exit(0);
		}
	}
	for (uint32_t i = 0; i < jobs; i++) {
		int status;

		if (waitpid(children[i], &status, 0) != children[i] || status != 0) {
			printf("a process that runs seeds has ended with status %d\n", status);
			all.found++;
		}
		sim_sum_add(&all, &shares[i]);
	}
	(void)munmap(shares, jobs * sizeof(*shares));
	return all;
}

/* ---- shorter ------------------------------------------------------------------------------------------------ */

static void
leave_out(struct sim_program *p, uint32_t at, uint32_t count)
{
	memmove(&p->operations[at], &p->operations[at + count],
	        (p->count - at - count) * sizeof(p->operations[0]));
	p->count -= count;
}

/* The same in words, whatever the numbers are. */
static bool
same_finding(const char *one, const char *other)
{
	for (; *one != '\0' && *one != '\n' && *other != '\0'; one++, other++) {
		const bool digit = *one >= '0' && *one <= '9';

		if (*one != *other && !(digit && *other >= '0' && *other <= '9'))
			return false;
	}
	return true;
}

/* Delta debugging: halves, quarters, ... down to single operations, again and again while something can go. */
void
sim_shrink(struct sim_program *program)
{
	static struct sim_program shorter;
	struct sim_result first = sim_run(program);
	bool again = first.found;

	while (again) {
		again = false;
		for (uint32_t size = program->count / 2 + 1; size != 0; size /= 2) {
			for (uint32_t at = 0; at + size <= program->count;) {
				struct sim_result result;

				shorter = *program;
				leave_out(&shorter, at, size);
				result = sim_run(&shorter);
				if (result.found && same_finding(first.report, result.report)) {
					*program = shorter;
					again = true;
				} else {
					at += size;
				}
			}
		}
	}
}
