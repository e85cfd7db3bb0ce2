/* SPDX-License-Identifier: MIT */
/*
 * The search. A case that reaches something new joins the corpus, from which later ones are made. Every so many cases the driver is
 * unloaded, which shows what it leaves behind, and loaded anew.
 */
#include "fuzz_campaign.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "commands.h"
#include "fuzz_direct.h"
#include "fuzz_files.h"
#include "fuzz_shrink.h"

/* Between lines about the progress. */
#define SECONDS_ON_TERMINAL 1.0
#define SECONDS_ELSEWHERE 30.0

struct search {
	const struct fuzz_campaign *campaign;
	struct fuzz_host *host;
	struct fuzz_mutator mutator;
	struct fuzz_case *corpus;
	uint32_t corpus_count, corpus_room;
	/* Members of the corpus before this one were tried the direct way. */
	uint32_t next_direct;
	struct fuzz_direct direct;
	/* What the worker was told since it began. */
	struct fuzz_case *told;
	uint32_t told_count;
	char (*known)[FUZZ_NAME_BYTES];
	uint32_t known_count;
	uint64_t runs, packets, again;
	double began, shown;
	bool stopped, broken;
};

static double
now(void)
{
	struct timespec time;

	(void)clock_gettime(CLOCK_MONOTONIC, &time);
	return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void *
grown(void *array, size_t count, size_t bytes)
{
	void *larger = realloc(array, count * bytes);

	if (larger == NULL) {
		fputs("kmcl fuzz: no memory\n", stderr);
		exit(EXIT_FAILED);
	}
	return larger;
}

/* ---- progress ------------------------------------------------------------------------------------------------- */

static void
print_counts(const struct search *s)
{
	const struct fuzz_coverage *coverage = &s->host->shared->coverage;

	printf("%" PRIu64 " cases, %" PRIu64 " packets, %.0f cases/s, ", s->runs, s->packets,
	       (double)s->runs / (now() - s->began + 1e-9));
	if (coverage->edges_total != 0)
		printf("%u of %u edges, ", coverage->edges, coverage->edges_total);
	else if (coverage->instrumented)
		printf("%u edges, ", coverage->edges);
	printf("corpus %u, findings %u", s->corpus_count, s->known_count);
}

static void
show_progress(struct search *s)
{
	const bool terminal = isatty(STDOUT_FILENO);

	if (now() - s->shown < (terminal ? SECONDS_ON_TERMINAL : SECONDS_ELSEWHERE))
		return;
	s->shown = now();
	print_counts(s);
	fputs(terminal ? "\033[K\r" : "\n", stdout);
	fflush(stdout);
}

static void
say_what_guides(const struct search *s)
{
	if (s->host->shared->coverage.instrumented)
		return;
	printf("the driver is not instrumented: guided by its answers only; build it with "
	       "clang -fsanitize-coverage=inline-8bit-counters,pc-table,trace-cmp or gcc "
	       "-fsanitize-coverage=trace-pc,trace-cmp\n");
	fflush(stdout);
}

/* ---- findings --------------------------------------------------------------------------------------------------- */

static void
forget_told(struct search *s)
{
	for (uint32_t i = 0; i < s->told_count; i++)
		fuzz_case_clear(&s->told[i]);
	s->told_count = 0;
}

static bool
is_known(const struct search *s, const char *name)
{
	for (uint32_t i = 0; i < s->known_count; i++) {
		if (strcmp(s->known[i], name) == 0)
			return true;
	}
	return false;
}

static void
add_known(struct search *s, const char *name)
{
	s->known = grown(s->known, s->known_count + 1, sizeof(*s->known));
	snprintf(s->known[s->known_count++], FUZZ_NAME_BYTES, "%s", name);
}

static void
announce(struct search *s, const struct fuzz_finding *finding, const struct fuzz_case *smallest,
         enum fuzz_shrunk shrunk)
{
	char path[4096], command[4096];

	printf("\nfound after %" PRIu64 " cases: %s: %s\n%s", s->runs,
	       fuzz_kind_name(finding->kind), finding->title, finding->report);
	if (shrunk != FUZZ_SHRUNK)
		puts("it did not happen again in a fresh worker; the file has all that this one "
		     "was sent");
	if (fuzz_files_report(s->campaign->directory, s->host, finding, shrunk, smallest, path,
	                      sizeof(path))) {
		fuzz_files_command(s->host, path, command, sizeof(command));
		printf("%s (%u steps)\nreplay: %s\n", path, smallest->count, command);
	}
	fflush(stdout);
}

static void
found(struct search *s, struct fuzz_finding *finding)
{
	struct fuzz_case smallest = { 0 };
	enum fuzz_shrunk shrunk;

	if (is_known(s, finding->name) || s->told_count == 0) {
		s->again++;
		/* Nothing was sent: the driver cannot live without being disturbed. */
		if (s->told_count == 0 && s->runs == 0) {
			printf("before any packet: %s: %s\n%s", fuzz_kind_name(finding->kind),
			       finding->title, finding->report);
			add_known(s, finding->name);
			s->broken = true;
		}
	} else {
		add_known(s, finding->name);
		shrunk = fuzz_shrink(s->host, s->told, s->told_count, s->campaign->tries, finding,
		                     &smallest);
		announce(s, finding, &smallest, shrunk);
		fuzz_case_clear(&smallest);
	}
	free(finding->report);
	forget_told(s);
}

/* True: the worker is as before. */
static bool
judge(struct search *s, enum fuzz_result result, struct fuzz_finding *finding)
{
	switch (result) {
	case FUZZ_FINE:
		return true;
	case FUZZ_FOUND:
		found(s, finding);
		break;
	case FUZZ_STOPPED:
		s->stopped = true;
		break;
	case FUZZ_IMPOSSIBLE:
		s->broken = true;
		break;
	}
	return false;
}

/* ---- cases ------------------------------------------------------------------------------------------------------ */

static void
end_worker(struct search *s)
{
	struct fuzz_finding finding;

	if (judge(s, fuzz_host_end(s->host, &finding), &finding))
		forget_told(s);
}

/* Takes the case. */
static void
run(struct search *s, struct fuzz_case *c, bool keep)
{
	struct fuzz_shared *shared = s->host->shared;
	struct fuzz_finding finding;

	if (s->host->pid == 0)
		forget_told(s);
	fuzz_case_copy(&s->told[s->told_count++], c);
	s->runs++;
	if (!judge(s, fuzz_host_run(s->host, c, &finding), &finding)) {
		fuzz_case_clear(c);
		return;
	}
	s->packets += shared->packets;
	s->mutator.channels = shared->offers;
	if (shared->too_large != 0 && shared->too_large <= s->mutator.packet_max)
		s->mutator.packet_max = shared->too_large - 1;
	if (keep || shared->news != 0) {
		if (shared->news != 0 && !keep)
			fuzz_files_keep(s->campaign->corpus, c);
		if (s->corpus_count == s->corpus_room) {
			s->corpus_room = s->corpus_room * 2 + 64;
			s->corpus = grown(s->corpus, s->corpus_room, sizeof(*s->corpus));
		}
		s->corpus[s->corpus_count++] = *c;
	} else {
		fuzz_case_clear(c);
	}
	if (s->host->cases >= s->campaign->restart || shared->worn)
		end_worker(s);
}

static bool
goes_on(const struct search *s)
{
	const struct fuzz_campaign *campaign = s->campaign;

	return !s->stopped && !s->broken && !*s->host->stop &&
	       s->known_count < campaign->findings &&
	       (campaign->runs == 0 || s->runs < campaign->runs) &&
	       (campaign->seconds == 0 || now() - s->began < campaign->seconds);
}

/* For who begins with nothing. */
static const char *const first_cases[] = {
	"packet 0 ask wait 00*8\n",
	"packet 0 ask wait 00*64\n",
	"packet 0 tell wait 00*32\n",
	"packet 0 ask wait 00*64\nrange 0 00*4096\n",
	"packet 0 ask wait 01000000,00*60\npacket 0 ask wait 02000000,00*60\nanswer 00*8\n",
};

static void
run_first(struct search *s)
{
	struct fuzz_case *cases, c;
	const uint32_t count = fuzz_files_read_all(s->campaign->corpus, &cases);
	char error[128];

	for (uint32_t i = 0; i < count; i++) {
		if (goes_on(s))
			run(s, &cases[i], true);
		else
			fuzz_case_clear(&cases[i]);
	}
	free(cases);
	for (size_t i = 0;
	     i < sizeof(first_cases) / sizeof(first_cases[0]) && count == 0 && goes_on(s); i++) {
		if (fuzz_case_parse(first_cases[i], &c, error))
			run(s, &c, true);
	}
}

/* The newest are more interesting than those that were changed in all ways already. */
static const struct fuzz_case *
choose_any(struct search *s)
{
	static const struct fuzz_case nothing;
	const uint32_t recent = 16;

	if (s->corpus_count == 0)
		return &nothing;
	if (s->corpus_count > recent && fuzz_below(&s->mutator.random, 2) == 0)
		return &s->corpus[s->corpus_count - 1 - fuzz_below(&s->mutator.random, recent)];
	return &s->corpus[fuzz_below(&s->mutator.random, s->corpus_count)];
}

/* The shorter of two: a change of something short hits what matters. */
static const struct fuzz_case *
choose(struct search *s)
{
	const struct fuzz_case *first = choose_any(s), *second = choose_any(s);

	return first->count <= second->count ? first : second;
}

/* The next case: straight at what the driver compares while there is something, or by chance, in turn. */
static void
make_case(struct search *s, struct fuzz_case *c)
{
	const bool by_chance = s->runs % 2 == 0;

	if (!by_chance && fuzz_direct_next(&s->direct, c))
		return;
	if (!by_chance && s->direct.left == 0 && s->next_direct < s->corpus_count &&
	    s->host->shared->coverage.instrumented) {
		struct fuzz_case again = { 0 };
		const struct fuzz_case *next = &s->corpus[s->next_direct++];

		fuzz_case_copy(c, next);
		fuzz_case_copy(&again, next);
		run(s, &again, false);
		fuzz_direct_begin(&s->direct, c, &s->host->shared->coverage);
		if (fuzz_direct_next(&s->direct, c))
			return;
	}
	fuzz_case_copy(c, choose(s));
	fuzz_mutate(&s->mutator, c, choose(s));
}

int
fuzz_campaign_run(const struct fuzz_campaign *campaign)
{
	struct search s = { .campaign = campaign,
		            .host = campaign->host,
		            .mutator = campaign->mutator };

	s.began = s.shown = now();
	s.mutator.coverage = &s.host->shared->coverage;
	s.mutator.channels = 1;
	s.told = calloc(campaign->restart, sizeof(*s.told));
	if (s.told == NULL)
		return EXIT_FAILED;
	printf("seed %" PRIu64 ", findings go to %s\n", campaign->seed, campaign->directory);
	fflush(stdout);
	run_first(&s);
	if (goes_on(&s))
		say_what_guides(&s);
	while (goes_on(&s)) {
		struct fuzz_case c = { 0 };

		make_case(&s, &c);
		run(&s, &c, false);
		show_progress(&s);
	}
	if (!s.stopped && !s.broken && s.known_count < campaign->findings)
		end_worker(&s);
	fuzz_host_kill(s.host);
	putchar('\n');
	print_counts(&s);
	printf(", seen again %" PRIu64 "\n", s.again);
	forget_told(&s);
	free(s.told);
	free(s.known);
	fuzz_direct_clear(&s.direct);
	for (uint32_t i = 0; i < s.corpus_count; i++)
		fuzz_case_clear(&s.corpus[i]);
	free(s.corpus);
	if (s.known_count != 0)
		return EXIT_FAILED;
	return s.broken ? EXIT_USAGE : EXIT_OK;
}

int
fuzz_campaign_replay(struct fuzz_host *host, const char *path)
{
	struct fuzz_finding finding = { 0 };
	enum fuzz_result result;
	struct fuzz_case c;

	if (!fuzz_files_read(path, &c))
		return EXIT_USAGE;
	result = fuzz_host_run(host, &c, &finding);
	if (result == FUZZ_FINE)
		result = fuzz_host_end(host, &finding);
	if (result == FUZZ_FINE)
		printf("nothing happened: %u steps, %u packets\n", c.count, host->shared->packets);
	else if (result == FUZZ_FOUND)
		printf("%s: %s\n%s", fuzz_kind_name(finding.kind), finding.title, finding.report);
	free(finding.report);
	fuzz_case_clear(&c);
	fuzz_host_kill(host);
	if (result == FUZZ_FINE)
		return EXIT_OK;
	return result == FUZZ_FOUND ? EXIT_FAILED : EXIT_USAGE;
}
