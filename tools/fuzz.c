/* SPDX-License-Identifier: MIT */
/* kmcl fuzz: the command line. */
#include <errno.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "commands.h"
#include "fuzz_campaign.h"
#include "fuzz_files.h"
#include "fuzz_sanitizer.h"

#define PARAMETERS_MAX 64
#define NO_LIMIT UINT32_MAX

struct options {
	struct fuzz_host host;
	struct fuzz_campaign campaign;
	const char *parameters[PARAMETERS_MAX];
	const char *replay, *dictionary;
	char directory[4096], corpus[4200];
	bool seeded;
};

static volatile sig_atomic_t stop;

static void
on_stop(int number)
{
	(void)number;
	stop = 1;
}

static void
print_usage(FILE *out)
{
	fputs("usage: kmcl fuzz [OPTION]... DRIVER.so\n"
	      "\n"
	      "Loads a server driver, opens what it offers, and sends it packets that nobody would: random\n"
	      "ones, made from those that reached something new. What crashes it, hangs it, or makes it misuse\n"
	      "the runtime is shortened and kept as a file. docs/fuzzing-drivers.md says more.\n"
	      "\n"
	      "  --time SECONDS  end after so long (default: on Ctrl-C)\n"
	      "  --runs N        end after so many cases\n"
	      "  --findings N    end after so many different findings (default 1)\n"
	      "  --seed N        begin the same random sequence again\n"
	      "  --out DIR       where findings go (default: DRIVER.fuzz in this directory)\n"
	      "  --corpus DIR    cases to begin with, and where new ones go (default: corpus in --out)\n"
	      "  --dict FILE     words to use, in the format of AFL and libFuzzer\n"
	      "  --set NAME=VALUE  a parameter of the driver, as for `kmcl run`; may be repeated\n"
	      "  --timeout SECONDS  what takes longer hangs (default 5; to load the driver at least 20)\n"
	      "  --pending MS    wait so long only for an answer: the driver may keep packets until their\n"
	      "                  channel closes\n"
	      "  --packet BYTES  of the largest packet (default 4096)\n"
	      "  --external BYTES  of the largest range of external data (default 65536; 0: none)\n"
	      "  --steps N       of the longest case (default 8)\n"
	      "  --restart N     unload the driver and load it anew after so many cases (default 1000)\n"
	      "  --tries N       workers spent on shortening a finding (default 400)\n"
	      "  --replay FILE   the case of this file, once\n"
	      "  --verbose       show what the driver prints\n"
	      "\n"
	      "Exit status: 0 nothing was found, 1 something was, 2 the command line is wrong or the driver\n"
	      "does not begin.\n",
	      out);
}

static bool
get_number(const char *option, const char *text, uint64_t least, uint64_t most, uint64_t *value)
{
	char *end;

	errno = 0;
	*value = strtoull(text, &end, 0);
	if (errno == 0 && end != text && *end == '\0' && *text != '-' && *value >= least &&
	    *value <= most)
		return true;
	fprintf(stderr, "kmcl fuzz: --%s expects a number from %llu to %llu, not '%s'\n", option,
	        (unsigned long long)least, (unsigned long long)most, text);
	return false;
}

static bool
get_small(const char *option, const char *text, uint32_t least, uint32_t most, uint32_t *value)
{
	uint64_t number;

	if (!get_number(option, text, least, most, &number))
		return false;
	*value = (uint32_t)number;
	return true;
}

static bool
get_seconds(const char *option, const char *text, double *seconds)
{
	char *end;

	*seconds = strtod(text, &end);
	if (end != text && *end == '\0' && *seconds >= 0.001 && *seconds <= 1e6)
		return true;
	fprintf(stderr, "kmcl fuzz: --%s expects seconds from 0.001 to 1000000, not '%s'\n", option,
	        text);
	return false;
}

static bool
get_parameter(struct options *o, const char *text)
{
	struct fuzz_driver *driver = &o->host.driver;

	if (driver->parameter_count == PARAMETERS_MAX || strchr(text, '=') == NULL) {
		fprintf(stderr, "kmcl fuzz: '%s' is no NAME=VALUE, or one too many\n", text);
		return false;
	}
	o->parameters[driver->parameter_count++] = text;
	return true;
}

static bool
get_text(const char *option, const char *text, char *copy, size_t room)
{
	if ((size_t)snprintf(copy, room, "%s", text) < room && *text != '\0')
		return true;
	fprintf(stderr, "kmcl fuzz: --%s expects a directory, not '%s'\n", option, text);
	return false;
}

enum {
	OPTION_TIME = 1,
	OPTION_RUNS,
	OPTION_FINDINGS,
	OPTION_SEED,
	OPTION_OUT,
	OPTION_CORPUS,
	OPTION_DICT,
	OPTION_SET,
	OPTION_TIMEOUT,
	OPTION_PENDING,
	OPTION_PACKET,
	OPTION_EXTERNAL,
	OPTION_STEPS,
	OPTION_RESTART,
	OPTION_TRIES,
	OPTION_REPLAY,
	OPTION_VERBOSE,
	OPTION_HELP,
};

static const struct option longs[] = {
	{ "time", required_argument, NULL, OPTION_TIME },
	{ "runs", required_argument, NULL, OPTION_RUNS },
	{ "findings", required_argument, NULL, OPTION_FINDINGS },
	{ "seed", required_argument, NULL, OPTION_SEED },
	{ "out", required_argument, NULL, OPTION_OUT },
	{ "corpus", required_argument, NULL, OPTION_CORPUS },
	{ "dict", required_argument, NULL, OPTION_DICT },
	{ "set", required_argument, NULL, OPTION_SET },
	{ "timeout", required_argument, NULL, OPTION_TIMEOUT },
	{ "pending", required_argument, NULL, OPTION_PENDING },
	{ "packet", required_argument, NULL, OPTION_PACKET },
	{ "external", required_argument, NULL, OPTION_EXTERNAL },
	{ "steps", required_argument, NULL, OPTION_STEPS },
	{ "restart", required_argument, NULL, OPTION_RESTART },
	{ "tries", required_argument, NULL, OPTION_TRIES },
	{ "replay", required_argument, NULL, OPTION_REPLAY },
	{ "verbose", no_argument, NULL, OPTION_VERBOSE },
	{ "help", no_argument, NULL, OPTION_HELP },
	{ 0 },
};

static bool
get_option(struct options *o, int option, const char *name, const char *text)
{
	struct fuzz_campaign *campaign = &o->campaign;
	struct fuzz_mutator *mutator = &campaign->mutator;
	double seconds;

	switch (option) {
	case OPTION_TIME:
		return get_seconds(name, text, &campaign->seconds);
	case OPTION_RUNS:
		return get_number(name, text, 1, UINT64_MAX, &campaign->runs);
	case OPTION_FINDINGS:
		return get_small(name, text, 1, NO_LIMIT, &campaign->findings);
	case OPTION_SEED:
		o->seeded = true;
		return get_number(name, text, 0, UINT64_MAX, &campaign->seed);
	case OPTION_OUT:
		return get_text(name, text, o->directory, sizeof(o->directory));
	case OPTION_CORPUS:
		return get_text(name, text, o->corpus, sizeof(o->corpus));
	case OPTION_DICT:
		o->dictionary = text;
		return true;
	case OPTION_SET:
		return get_parameter(o, text);
	case OPTION_TIMEOUT:
		if (!get_seconds(name, text, &seconds))
			return false;
		o->host.timeout_ms = (uint32_t)(seconds * 1000);
		return true;
	case OPTION_PENDING:
		return get_small(name, text, 1, 60000, &o->host.driver.pending_ms);
	case OPTION_PACKET:
		return get_small(name, text, 1, 65536, &mutator->packet_max);
	case OPTION_EXTERNAL:
		return get_small(name, text, 0, FUZZ_BYTES_MAX, &mutator->external_max);
	case OPTION_STEPS:
		return get_small(name, text, 1, 1000, &mutator->steps_max);
	case OPTION_RESTART:
		return get_small(name, text, 1, 100000, &campaign->restart);
	case OPTION_TRIES:
		return get_small(name, text, 0, NO_LIMIT, &campaign->tries);
	case OPTION_REPLAY:
		o->replay = text;
		return true;
	default:
		o->host.show_output = true;
		return true;
	}
}

static bool
complete(struct options *o, const char *driver)
{
	const char *slash = strrchr(driver, '/'), *base = slash != NULL ? slash + 1 : driver;

	o->host.driver.path = driver;
	o->host.driver.parameters = o->parameters;
	o->campaign.host = &o->host;
	if (o->directory[0] == '\0')
		snprintf(o->directory, sizeof(o->directory), "%.*s.fuzz", (int)strcspn(base, "."),
		         base);
	if (o->corpus[0] == '\0')
		snprintf(o->corpus, sizeof(o->corpus), "%s/corpus", o->directory);
	o->campaign.directory = o->directory;
	o->campaign.corpus = o->corpus;
	if (!o->seeded &&
	    getrandom(&o->campaign.seed, sizeof(o->campaign.seed), 0) != sizeof(o->campaign.seed)) {
		perror("kmcl fuzz: no random number for a seed; --seed gives one");
		return false;
	}
	/* The sequence stands still at 0. */
	o->campaign.mutator.random.state = o->campaign.seed * 2 + 1;
	return o->dictionary == NULL ||
	       fuzz_dictionary_read(&o->campaign.mutator.dictionary, o->dictionary);
}

static void
watch_signals(void)
{
	const struct sigaction action = { .sa_handler = on_stop, .sa_flags = (int)SA_RESETHAND };

	/* A second Ctrl-C ends the process at once. */
	(void)sigaction(SIGINT, &action, NULL);
	(void)sigaction(SIGTERM, &action, NULL);
}

int
fuzz_main(int argc, char **argv)
{
	static struct options o = {
		.host = { .timeout_ms = FUZZ_TIMEOUT_MS, .stop = &stop },
		.campaign = {
			.mutator = { .packet_max = 4096, .external_max = 65536, .steps_max = 8 },
			.findings = 1, .restart = 1000, .tries = 400,
		},
	};
	int option, index = 0;

	while ((option = getopt_long(argc, argv, "", longs, &index)) != -1) {
		if (option == OPTION_HELP) {
			print_usage(stdout);
			return EXIT_OK;
		}
		if (option == '?') {
			print_usage(stderr);
			return EXIT_USAGE;
		}
		if (!get_option(&o, option, longs[index].name, optarg))
			return EXIT_USAGE;
	}
	if (optind + 1 != argc) {
		fprintf(stderr, "kmcl fuzz: expected one driver\n");
		print_usage(stderr);
		return EXIT_USAGE;
	}
	if (!complete(&o, argv[optind]))
		return EXIT_USAGE;
	fuzz_sanitizer_prepare(argv[optind], argv);
	if (!fuzz_host_init(&o.host)) {
		perror("kmcl fuzz: no memory to share with workers");
		return EXIT_FAILED;
	}
	watch_signals();
	if (o.replay != NULL)
		return fuzz_campaign_replay(&o.host, o.replay);
	if (!fuzz_files_make(o.directory) || !fuzz_files_make(o.corpus))
		return EXIT_USAGE;
	return fuzz_campaign_run(&o.campaign);
}
