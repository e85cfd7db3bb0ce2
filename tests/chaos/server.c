/* SPDX-License-Identifier: MIT */
/*
 * A server process of the chaos run: offers channels on a socket path until it is told to stop, to hand over, or killed.
 *
 *	chaos_server PATH FIRST_INSTANCE COUNT PLACE LIFE SEED listen|take SHARED_PATH|-
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <signal.h>

#include "server.h"

/* A host behind this one that owes an answer so long is given up. */
#define SHARE_ANSWER_MS 400u
#define SHARE_RETRY_MS 50u

static struct chaos_server server;

void
chaos_server_fail(struct chaos_server *s, const char *what, unsigned status)
{
	(void)fprintf(stderr, "%s: status 0x%08x\n", what, status);
	chaos_complain(s->journal, "%s: status 0x%08x", what, status);
	exit(EXIT_FAILURE);
}

static void
begin(const char *path, const char *shared)
{
	const struct kmcl_share_options options = {
		.size = sizeof(options),
		.answer_ms = SHARE_ANSWER_MS,
		.retry_ms = SHARE_RETRY_MS,
	};
	enum vmb_status status = kmcl_bus_listen(path, NULL, &server.bus);

	if (status != VMB_OK)
		chaos_server_fail(&server, "cannot listen", (unsigned)status);
	/* What a killed predecessor left open is nobody's. */
	for (unsigned i = 0; i < CHAOS_CHANNELS; i++)
		atomic_store(&server.journal->channels[i].stream, 0);
	chaos_serve(&server);
	if (strcmp(shared, "-") == 0)
		return;
	status = kmcl_bus_share(server.bus, shared, &options);
	if (status != VMB_OK)
		chaos_server_fail(&server, "cannot share", (unsigned)status);
}

/* What is there because of others: the director waits until it is only what lasts. */
static void
report(const char *shared)
{
	struct kmcl_share_stats share = { 0 };
	struct kmcl_bus_stats bus;

	kmcl_bus_get_stats(server.bus, &bus);
	if (strcmp(shared, "-") != 0)
		VMB_IGNORE(kmcl_bus_get_share_stats(server.bus, shared, &share));
	atomic_store(&server.journal->held, bus.guests + share.connections + share.offers);
}

/* Until it is told what to do. True: to hand over. */
static bool
wait_for_orders(const char *shared, uint32_t *handed_over)
{
	for (;;) {
		const uint32_t news = atomic_load(&server.journal->news);
		const uint32_t hand_over = atomic_load(&server.journal->hand_over);
		const uint32_t order = atomic_load(&server.journal->report);

		if (atomic_load(&server.journal->stop) != 0)
			return false;
		if (hand_over != *handed_over) {
			*handed_over = hand_over;
			return true;
		}
		if (order != atomic_load(&server.journal->reported)) {
			report(shared);
			atomic_store(&server.journal->reported, order);
			chaos_post(server.journal);
			continue;
		}
		chaos_wait(server.journal, news, 0);
	}
}

int
main(int argc, char **argv)
{
	struct chaos_journal *journal = chaos_journal_open();
	uint32_t handed_over = atomic_load(&journal->hand_over);
	unsigned first, place, life;
	uint64_t seed;

	chaos_reach(journal, CHAOS_STARTED);
	if (argc != 9 || prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
		return EXIT_FAILURE;
	server.journal = journal;
	first = (unsigned)strtoul(argv[2], NULL, 10);
	server.count = (unsigned)strtoul(argv[3], NULL, 10) % (CHAOS_CHANNELS + 1);
	place = (unsigned)strtoul(argv[4], NULL, 10);
	life = (unsigned)strtoul(argv[5], NULL, 10);
	seed = strtoull(argv[6], NULL, 10);
	for (unsigned i = 0; i < server.count; i++) {
		server.services[i] = (struct chaos_service){
			.journal = journal,
			.place = place,
			.life = life,
			.index = i,
			.instance = chaos_instance(first + i),
			.random = { seed + i },
		};
	}
	if (strcmp(argv[7], "take") == 0) {
		if (!chaos_take_over(&server))
			return CHAOS_EXIT_NOTHING_TAKEN;
	} else {
		begin(argv[1], argv[8]);
	}
	chaos_reach(journal, CHAOS_READY);
	while (wait_for_orders(argv[8], &handed_over)) {
		if (chaos_hand_over(&server))
			return CHAOS_EXIT_HANDED_OVER;
		chaos_reach(journal, CHAOS_KEPT);
	}
	chaos_reach(journal, CHAOS_CLOSING);
	chaos_retire(&server, false);
	kmcl_bus_close(server.bus);
	chaos_reach(journal, CHAOS_CLOSED);
	return EXIT_SUCCESS;
}
