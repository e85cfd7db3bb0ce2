/* SPDX-License-Identifier: MIT */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/personality.h>
#include <unistd.h>

#include "plant.h"
#include "runner.h"

static const char usage[] =
    "usage: sim [--seeds N] [--first N] [--jobs N]      run many programs, one made from each "
    "seed\n"
    "       sim --seed N | --program FILE               run one\n"
    "with --print     the program, instead of running it\n"
    "     --shrink    when it finds something: the shortest program that still does, on stdout\n"
    "     --trace     what happens, step by step, on stderr\n"
    "     --twice     run each twice and compare\n"
    "     --plant X   with a fault that must be found:\n";

/* Addresses decide where objects lie and with that some order: every process has the same. */
static void
fix_addresses(char **argv)
{
	int now = personality(0xffffffff);

	if (now < 0 || (now & ADDR_NO_RANDOMIZE) != 0)
		return;
	if (personality((unsigned long)now | ADDR_NO_RANDOMIZE) >= 0)
		(void)execv("/proc/self/exe", argv);
}

static uint64_t
number(const char *text)
{
	char *end;
	uint64_t value = strtoull(text, &end, 0);

	if (*end != '\0' || *text == '\0') {
		fprintf(stderr, "sim: %s is not a number\n", text);
		exit(2);
	}
	return value;
}

static void
load(struct sim_program *program, const char *path)
{
	FILE *in = fopen(path, "r");
	uint32_t line;

	if (in == NULL) {
		perror(path);
		exit(2);
	}
	if (!sim_program_read(program, in, &line)) {
		fprintf(stderr, "sim: %s, line %u: not what `sim --print` writes\n", path, line);
		exit(2);
	}
	fclose(in);
}

static int
run_one(struct sim_program *program, bool shrink, bool twice)
{
	struct sim_result result = sim_run_checked(program, twice);

	if (!result.found) {
		printf("nothing found; %llu steps, trace %016llx\n",
		       (unsigned long long)result.steps, (unsigned long long)result.hash);
		return 0;
	}
	if (shrink) {
		sim_shrink(program);
		result = sim_run(program);
		sim_program_print(program, stdout);
		for (char *line = strtok(result.report, "\n"); line != NULL;
		     line = strtok(NULL, "\n"))
			printf("# %s\n", line);
	} else {
		fputs(result.report, stdout);
	}
	return SIM_FOUND;
}

static int
run_many(uint64_t first, uint64_t seeds, uint32_t jobs, bool twice)
{
	struct sim_sum sum = sim_run_seeds(first, seeds, jobs, twice);

#define SIM_COUNT(name, text) printf("  %12llu %s\n", (unsigned long long)sum.counts.name, text);
	SIM_COUNTS(SIM_COUNT)
#undef SIM_COUNT
	printf("%llu seeds from %llu, %llu steps: %llu found something\n",
	       (unsigned long long)seeds, (unsigned long long)first, (unsigned long long)sum.steps,
	       (unsigned long long)sum.found);
	return sum.found == 0 ? 0 : SIM_FOUND;
}

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "seeds", required_argument, NULL, 'n' },
		{ "first", required_argument, NULL, 'f' },
		{ "jobs", required_argument, NULL, 'j' },
		{ "seed", required_argument, NULL, 's' },
		{ "program", required_argument, NULL, 'p' },
		{ "print", no_argument, NULL, 'o' },
		{ "shrink", no_argument, NULL, 'k' },
		{ "trace", no_argument, NULL, 't' },
		{ "twice", no_argument, NULL, '2' },
		{ "plant", required_argument, NULL, 'x' },
		{ NULL, 0, NULL, 0 },
	};
	static struct sim_program program;
	uint64_t seeds = 1000, first = 0;
	uint32_t jobs = (uint32_t)sysconf(_SC_NPROCESSORS_ONLN);
	bool one = false, print = false, shrink = false, twice = false;
	int option;

	fix_addresses(argv);
	while ((option = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		switch (option) {
		case 'n':
			seeds = number(optarg);
			break;
		case 'f':
			first = number(optarg);
			break;
		case 'j':
			jobs = (uint32_t)number(optarg);
			break;
		case 's':
			sim_program_make(&program, number(optarg));
			one = true;
			break;
		case 'p':
			load(&program, optarg);
			one = true;
			break;
		case 'o':
			print = true;
			break;
		case 'k':
			shrink = true;
			break;
		case 't':
			sim_trace_on = true;
			break;
		case '2':
			twice = true;
			break;
		case 'x':
			if (sim_plant_set(optarg))
				break;
			/* fall through */
		default:
			fputs(usage, stderr);
			sim_plant_list(stderr);
			return 2;
		}
	}
	if (one && print) {
		sim_program_print(&program, stdout);
		return 0;
	}
	if (one)
		return run_one(&program, shrink, twice);
	if (jobs == 0 || jobs > SIM_MOST_JOBS)
		jobs = 1;
	return run_many(first, seeds, jobs, twice);
}
