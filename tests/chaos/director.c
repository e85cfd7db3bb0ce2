/* SPDX-License-Identifier: MIT */
/*
 * `make chaos`: starts, loads, kills, stops and restarts client and server processes, with data between them, and asks
 * afterwards where every packet has gone and whether the processes that lived through it have more than at the beginning.
 *
 *	chaos [--cycles N] [--seed N] [--verbose]
 */
#include "director.h"

#include <getopt.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define LANES (CHAOS_CLIENT_LANES + 2)
#define LASTING 4

/*
 * Resident memory may grow by this between the end of the warm-up and the end of the run: stacks and heap arenas of threads
 * that happened not to be needed at once before. 1 MiB over 900 cycles is 1.1 KiB a cycle, less than any ring.
 */
#define RESIDENT_TOLERANCE_KIB 1024u

struct chaos_run chaos;

static bool verbose;

static const char *const phases[CHAOS_PHASES] = { "start",       "idle",   "connect",
	                                          "ready",       "open",   "traffic",
	                                          "close",       "closed", "handing over",
	                                          "taking over", "kept" };

/* ---- failures and chance -------------------------------------------------------------------------------------- */

static void
print_failure(const struct chaos_lane *lane, const char *format, va_list args)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

	pthread_mutex_lock(&lock);
	printf("FAIL %s%s%s%s", lane != NULL ? lane->name : "", lane != NULL ? " (" : "",
	       lane != NULL ? lane->plan : "", lane != NULL ? "): " : "");
	vprintf(format, args);
	printf("\n");
	fflush(stdout);
	pthread_mutex_unlock(&lock);
}

void
chaos_fail(const struct chaos_lane *lane, const char *format, ...)
{
	va_list args;

	/* What follows from the first failure is not told without end. */
	if (atomic_fetch_add(&chaos.failures, 1) >= 8)
		return;
	va_start(args, format);
	print_failure(lane, format, args);
	va_end(args);
}

bool
chaos_failed(void)
{
	return atomic_load(&chaos.failures) != 0;
}

uint32_t
chaos_roll(struct chaos_lane *lane, uint32_t limit)
{
	lane->random = lane->random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (uint32_t)(lane->random >> 33) % limit;
}

/* ---- lanes ---------------------------------------------------------------------------------------------------- */

static struct chaos_lane lanes[LANES];

static void
make_lanes(void)
{
	static const char *const names[LANES] = { "clients 1", "clients 2", "workers", "servers" };

	for (unsigned i = 0; i < LANES; i++) {
		lanes[i] =
		    (struct chaos_lane){ .name = names[i],
			                 .number = i,
			                 .random = chaos.seed + 0x100000001B3u * i,
			                 .cycle = i < CHAOS_CLIENT_LANES    ? chaos_client_cycle
			                          : i == CHAOS_CLIENT_LANES ? chaos_worker_cycle
			                                                    : chaos_server_cycle };
	}
}

static void *
run_lane(void *ctx)
{
	struct chaos_lane *lane = ctx;

	for (; lane->cycles != 0 && !chaos_failed(); lane->cycles--) {
		lane->cycle(lane);
		chaos_check_complaints();
		if (verbose)
			printf("%s: %s\n", lane->name, lane->plan);
		if (!chaos_failed())
			atomic_fetch_add(&chaos.cycles_passed, 1);
	}
	return NULL;
}

/* Each lane has the same number of cycles whatever the machine does, so that a seed means the same again. */
static void
run_cycles(unsigned cycles)
{
	pthread_t threads[LANES];

	for (unsigned i = 0; i < LANES; i++)
		lanes[i].cycles = cycles / LANES + (i < cycles % LANES);
	for (unsigned i = 0; i < LANES; i++) {
		if (pthread_create(&threads[i], NULL, run_lane, &lanes[i]) != 0)
			abort();
	}
	for (unsigned i = 0; i < LANES; i++)
		pthread_join(threads[i], NULL);
}

/* ---- processes that live from beginning to end ---------------------------------------------------------------- */

static struct lasting {
	enum chaos_place_number place;
	struct chaos_process process;
	struct chaos_sample before, after;
} lasting[LASTING] = {
	{ .place = CHAOS_BYSTANDER },
	{ .place = CHAOS_FAITHFUL },
	{ .place = CHAOS_NOMAD },
	{ .place = CHAOS_HOST },
};

static void
start_lasting(void)
{
	char host[PATH_MAX], workers[PATH_MAX], servers[PATH_MAX];
	struct chaos_place *places = chaos.places;

	(void)snprintf(host, sizeof(host), "%s/host", chaos.directory);
	(void)snprintf(workers, sizeof(workers), "%s/workers", chaos.directory);
	(void)snprintf(servers, sizeof(servers), "%s/servers", chaos.directory);
	(void)(chaos_start_server(&lasting[3].process, &places[CHAOS_HOST], host, 0,
	                          1 + CHAOS_CLIENT_LANES, workers, -1, -1) &&
	       chaos_until_reached(&places[CHAOS_HOST], CHAOS_READY, 0, &lasting[3].process) &&
	       chaos_start_client(&lasting[0].process, &places[CHAOS_BYSTANDER], host, 0,
	                          "reopen") &&
	       chaos_start_client(&lasting[1].process, &places[CHAOS_FAITHFUL], host, 100,
	                          "reopen") &&
	       chaos_start_client(&lasting[2].process, &places[CHAOS_NOMAD], servers, 200,
	                          "reconnect") &&
	       chaos_until_reached(&places[CHAOS_BYSTANDER], CHAOS_TRAFFIC, 0,
	                           &lasting[0].process) &&
	       chaos_until_reached(&places[CHAOS_NOMAD], CHAOS_IDLE, 0, &lasting[2].process));
}

static void
end_lasting(void)
{
	/* Its last packets are answered before it closes, so all of them are. */
	chaos_bystander_goes_on();
	for (unsigned i = 0; i < LASTING; i++) {
		struct lasting *l = &lasting[i];
		int status;

		if (l->process.pid == 0)
			continue;
		if (l->place == CHAOS_BYSTANDER &&
		    atomic_load(&l->process.place->journal->reached[CHAOS_CLOSING]) != 0)
			chaos_fail(NULL, "the bystander's channel was closed");
		chaos_order(&l->process.place->journal->stop, l->process.place);
		status = chaos_wait_exit(&l->process);
		if (status != 0)
			chaos_fail(NULL, "%s ended with %d", l->process.place->name, status);
	}
}

static void
sample_lasting(void)
{
	/* The bystander and the faithful are all that is left; and nothing of a worker, which the latter would hold too. */
	if (!chaos_failed() && !chaos_await_rest(&chaos.places[CHAOS_HOST], 2))
		chaos_fail(NULL, "the host does not let go of those that are gone");
	for (unsigned i = 0; i < LASTING && !chaos_failed(); i++) {
		if (!chaos_sample(&lasting[i].process, &lasting[i].before))
			chaos_fail(NULL, "%s is never at rest", lasting[i].process.place->name);
	}
}

static void
compare_lasting(void)
{
	if (!chaos_failed() && !chaos_await_rest(&chaos.places[CHAOS_HOST], 2))
		chaos_fail(NULL, "the host does not let go of those that are gone");
	for (unsigned i = 0; i < LASTING && !chaos_failed(); i++) {
		struct lasting *l = &lasting[i];
		const bool flat = chaos_is_flat(&l->process, &l->before, &l->after);

		printf("%-10s descriptors %u -> %u, threads %u -> %u, resident %lu -> %lu KiB\n",
		       l->process.place->name, l->before.descriptors, l->after.descriptors,
		       l->before.threads, l->after.threads, l->before.resident_kib,
		       l->after.resident_kib);
		if (!flat) {
			chaos_print_holdings(&l->process);
			chaos_fail(NULL,
			           "%s has other descriptors or threads than after the warm-up",
			           l->process.place->name);
		}
		if (l->after.resident_kib > l->before.resident_kib + RESIDENT_TOLERANCE_KIB)
			chaos_fail(NULL, "%s grew by more than %u KiB", l->process.place->name,
			           RESIDENT_TOLERANCE_KIB);
	}
}

/* ---- the run -------------------------------------------------------------------------------------------------- */

static void
set_up(void)
{
	static const char *const names[CHAOS_PLACES] = { "host",     "bystander", "faithful",
		                                         "workers",  "nomad",     "servers",
		                                         "clients1", "clients2" };
	const char *parent = getenv("TMPDIR");
	char program[PATH_MAX / 2] = "";
	char *slash;

	if (readlink("/proc/self/exe", program, sizeof(program) - 1) < 0)
		abort();
	slash = strrchr(program, '/');
	*slash = '\0';
	memcpy(chaos.programs, program, sizeof(program));
	(void)snprintf(chaos.directory, sizeof(chaos.directory), "%s/kmcl-chaos-XXXXXX",
	               parent != NULL && *parent != '\0' ? parent : "/tmp");
	if (mkdtemp(chaos.directory) == NULL) {
		perror(chaos.directory);
		exit(EXIT_FAILURE);
	}
	for (unsigned i = 0; i < CHAOS_PLACES; i++)
		chaos_place_make(&chaos.places[i], i, names[i]);
	make_lanes();
}

/* For who looks for the reason. */
static void
print_places(void)
{
	for (unsigned i = 0; i < CHAOS_PLACES; i++) {
		const struct chaos_place *place = &chaos.places[i];
		const struct chaos_journal *journal = place->journal;

		printf("%-10s life %u, reached", place->name, place->lives);
		for (unsigned p = 0; p < CHAOS_PHASES; p++)
			printf(" %s %u", phases[p], atomic_load(&journal->reached[p]));
		printf("; sent %u of %u, got %u, events %u\n", atomic_load(&journal->sent_count),
		       atomic_load(&journal->budget), atomic_load(&journal->got_count),
		       atomic_load(&journal->events));
	}
	for (unsigned i = 0; i < LANES; i++)
		printf("%-10s %s\n", lanes[i].name, lanes[i].plan);
}

/* What processes said stays when the run has failed. */
static void
clean_up(unsigned cycles)
{
	char command[PATH_MAX];

	if (!chaos_failed()) {
		(void)snprintf(command, sizeof(command), "rm -rf '%s'", chaos.directory);
		if (system(command) != 0)
			printf("%s is left\n", chaos.directory);
		return;
	}
	print_places();
	printf("what the processes said is in %s\n", chaos.directory);
	printf("again: make chaos CYCLES=%u SEED=%" PRIu64 "\n", cycles, chaos.seed);
}

static void
print_figures(const struct chaos_sums *sums)
{
	static const char *const fates[CHAOS_FATES] = {
		"killed", "stopped",     "stopped and killed",     "left while stopped",
		"ended",  "handed over", "old killed in handover", "new killed in handover"
	};

	printf("packets: %" PRIu64 " accepted, %" PRIu64 " delivered; %" PRIu64
	       " succeeded, %" PRIu64 " removed, %" PRIu64 " cancelled; %" PRIu64 " refused\n",
	       sums->accepted, sums->delivered, sums->succeeded, sums->removed, sums->cancelled,
	       sums->refused);
	printf("bytes: %" PRIu64 " inline, %" PRIu64 " external; channels opened: %" PRIu64
	       ", cut off by a kill: %" PRIu64 "\n",
	       sums->bytes, sums->external, sums->streams, sums->cut);
	printf("cycles:");
	for (unsigned i = 0; i < CHAOS_FATES; i++)
		printf("%s %u %s", i != 0 ? "," : "", atomic_load(&chaos.fates[i]), fates[i]);
	printf("\nkills at:");
	for (unsigned i = 0; i < CHAOS_PHASES; i++) {
		if (atomic_load(&chaos.killed[i]) != 0)
			printf(" %s %u", phases[i], atomic_load(&chaos.killed[i]));
	}
	printf("\n");
}

static void
parse(int argc, char **argv, unsigned *cycles)
{
	static const struct option options[] = {
		{ "cycles", required_argument, NULL, 'c' },
		{ "seed", required_argument, NULL, 's' },
		{ "verbose", no_argument, NULL, 'v' },
		{ 0 },
	};
	int option;

	if (getrandom(&chaos.seed, sizeof(chaos.seed), 0) != (ssize_t)sizeof(chaos.seed))
		abort();
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		if (option == 'c')
			*cycles = (unsigned)strtoul(optarg, NULL, 10);
		else if (option == 's')
			chaos.seed = strtoull(optarg, NULL, 10);
		else if (option == 'v')
			verbose = true;
		else
			exit(2);
	}
	if (*cycles == 0 || *cycles > 20000) {
		(void)fprintf(stderr, "chaos: --cycles wants a number from 1 to 20000\n");
		exit(2);
	}
}

int
main(int argc, char **argv)
{
	unsigned cycles = 1000, warm_up, checks, failures;
	struct chaos_sums sums;

	parse(argc, argv, &cycles);
	set_up();
	printf("chaos: %u cycles, seed %" PRIu64 "\n", cycles, chaos.seed);
	fflush(stdout);
	warm_up = cycles / 10 < 4 * LANES ? 4 * LANES : cycles / 10;
	if (warm_up > cycles)
		warm_up = cycles;
	start_lasting();
	run_cycles(warm_up);
	sample_lasting();
	run_cycles(cycles - warm_up);
	compare_lasting();
	end_lasting();
	/* The journals are whole when nobody writes any more. */
	checks = LASTING + chaos_account(&sums);
	chaos_check_complaints();
	print_figures(&sums);
	failures = atomic_load(&chaos.failures);
	clean_up(cycles);
	printf("chaos: %u passed, %u failed\n",
	       atomic_load(&chaos.cycles_passed) + (failures == 0 ? checks : 0), failures);
	return failures == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
