/* SPDX-License-Identifier: MIT */
/*
 * Runs the table of hostile cases, each in a process of its own, so that a case that kills or hangs its
 * process is one that failed. One line for each in the order of the table, and a last line with the counts.
 *
 *   hostile [--list] [--jobs N] [NAME...]     NAME as in the output, or a pattern for fnmatch(3)
 *
 * KMCL_SEED repeats what was random.
 */
#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cases.h"

#define NAME_BYTES 128u
#define CASE_SECONDS 300u /* a case that hangs has failed; slow machines are slow */
#define DEFAULT_JOBS 8u   /* some cases wait for a time limit of the library */

static const struct case_list *const lists[] = {
	&ring_cases,  &descriptor_cases, &external_cases, &completion_cases, &memory_cases,
	&gpadl_cases, &message_cases,    &answer_cases,   &flood_cases,
};

struct run {
	const struct hostile_case *c;
	enum transport transport;
	char name[NAME_BYTES];
	pid_t pid; /* 0 = not started, or over */
	int output;
	bool over, good;
	int status;
};

static struct run *runs;
static size_t run_count;

/* ---- the table -------------------------------------------------------------------------------- */

static void
describe(const struct hostile_case *c, char *text, size_t bytes)
{
	const char *says = c->says != NULL ? c->says : "";

	switch (c->outcome) {
	case LIVES:
		(void)snprintf(
		    text, bytes,
		    c->says != NULL ? "nothing ends; the log says \"%s\"" : "nothing ends", says);
		break;
	case FAILS:
		(void)snprintf(text, bytes, "the channel fails, \"%s\", and can be opened again",
		               says);
		break;
	case CUT:
		(void)snprintf(text, bytes, "the connection is cut, \"%s\"", says);
		break;
	case BROKEN:
		(void)snprintf(text, bytes, "the message is dropped, \"%s\"; channels go on", says);
		break;
	case ANY:
		(void)snprintf(text, bytes, "the channel goes on or ends, and nothing else does");
		break;
	}
}

static bool
is_wanted(const char *name, char **patterns, int count)
{
	for (int i = 0; i < count; i++) {
		if (fnmatch(patterns[i], name, 0) == 0)
			return true;
	}
	return count == 0;
}

static void
add_runs(const struct hostile_case *c, char **patterns, int count)
{
	for (enum transport t = BY_SOCKET; t <= BY_LOOPBACK; t++) {
		struct run run = { .c = c, .transport = t, .output = -1 };

		if ((c->transports & t) == 0)
			continue;
		(void)snprintf(run.name, sizeof(run.name), "%s/%s@%s",
		               c->role == SERVER ? "server" : "client", c->name,
		               t == BY_SOCKET ? "socket" : "loopback");
		if (!is_wanted(run.name, patterns, count))
			continue;
		runs = realloc(runs, (run_count + 1) * sizeof(*runs));
		if (runs == NULL)
			abort();
		runs[run_count++] = run;
	}
}

/* ---- processes -------------------------------------------------------------------------------- */

static void
start(struct run *run, uint64_t seed)
{
	run->output = memfd_create("output", MFD_CLOEXEC);
	if (run->output < 0) {
		perror("hostile: memfd_create");
		exit(EXIT_FAILURE);
	}
	(void)fflush(NULL);
	run->pid = fork();
	if (run->pid < 0) {
		perror("hostile: fork (are there too many processes?)");
		exit(EXIT_FAILURE);
	}
	if (run->pid != 0)
		return;
	/* Nothing of the library has run in the parent: this process is a fresh one to it. */
	(void)dup2(run->output, STDERR_FILENO);
	(void)dup2(run->output, STDOUT_FILENO);
	(void)alarm(CASE_SECONDS);
	scene_play(run->c, run->transport, seed);
	exit(EXIT_SUCCESS);
}

static void
reap(void)
{
	int status;
	pid_t pid = wait(&status);

	for (size_t i = 0; pid > 0 && i < run_count; i++) {
		if (runs[i].pid != pid)
			continue;
		runs[i].pid = 0;
		runs[i].over = true;
		runs[i].status = status;
		runs[i].good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
	}
}

static void
show_output(const struct run *run)
{
	char text[4096];
	ssize_t got;

	(void)lseek(run->output, 0, SEEK_SET);
	while ((got = read(run->output, text, sizeof(text))) > 0)
		(void)fwrite(text, 1, (size_t)got, stderr);
}

static void
report(const struct run *run, size_t number, const char *program, uint64_t seed)
{
	char text[256];

	describe(run->c, text, sizeof(text));
	if (run->good) {
		printf("ok %zu - %s  %s\n", number, run->name, text);
		return;
	}
	printf("not ok %zu - %s  %s\n", number, run->name, text);
	(void)fflush(stdout);
	show_output(run);
	if (WIFSIGNALED(run->status))
		(void)fprintf(stderr, "  killed by signal %d (%s)\n", WTERMSIG(run->status),
		              strsignal(WTERMSIG(run->status)));
	(void)fprintf(stderr, "  again: KMCL_SEED=%" PRIu64 " %s '%s'\n", seed, program, run->name);
}

static uint64_t
choose_seed(void)
{
	const char *wanted = getenv("KMCL_SEED");
	uint64_t seed;

	if (wanted != NULL)
		return strtoull(wanted, NULL, 0);
	if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		abort();
	return seed;
}

static size_t
run_all(size_t jobs, const char *program)
{
	uint64_t seed = choose_seed();
	size_t started = 0, running = 0, reported = 0, failed = 0;

	printf("1..%zu\n", run_count);
	while (reported < run_count) {
		while (started < run_count && running < jobs) {
			start(&runs[started++], seed);
			running++;
		}
		reap();
		running--;
		for (; reported < run_count && runs[reported].over; reported++) {
			report(&runs[reported], reported + 1, program, seed);
			failed += !runs[reported].good;
			(void)close(runs[reported].output);
		}
		(void)fflush(stdout);
	}
	return failed;
}

int
main(int argc, char **argv)
{
	size_t jobs = DEFAULT_JOBS, failed;
	bool list = false;
	int first = 1;

	for (; first < argc && argv[first][0] == '-'; first++) {
		if (strcmp(argv[first], "--list") == 0) {
			list = true;
		} else if (strcmp(argv[first], "--jobs") == 0 && first + 1 < argc &&
		           strtoul(argv[first + 1], NULL, 10) != 0) {
			jobs = strtoul(argv[++first], NULL, 10);
		} else {
			(void)fprintf(stderr, "usage: %s [--list] [--jobs N] [NAME...]\n", argv[0]);
			return 2;
		}
	}
	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		for (size_t n = 0; n < lists[i]->count; n++)
			add_runs(&lists[i]->cases[n], argv + first, argc - first);
	}
	if (run_count == 0) {
		(void)fprintf(stderr, "%s: no case is called that; --list shows their names\n",
		              argv[0]);
		return 2;
	}
	for (size_t i = 0; list && i < run_count; i++) {
		char text[256];

		describe(runs[i].c, text, sizeof(text));
		printf("%-60s %s\n", runs[i].name, text);
	}
	if (list)
		return EXIT_SUCCESS;
	failed = run_all(jobs, argv[0]);
	printf("hostile: %zu passed, %zu failed\n", run_count - failed, failed);
	return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
