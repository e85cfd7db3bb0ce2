/* SPDX-License-Identifier: MIT */
/* What the director waits for: words in journals, with an end to its patience. */
#include "director.h"

#include <time.h>

#define MORE_THAN_IN_FLIGHT 100u
#define LOOK_MS 20u /* a process that ends says nothing */

static uint64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* False when it is over: the process ended, or the run failed, be it because this took too long. */
static bool
wait_more(struct chaos_place *place, uint32_t news, const struct chaos_process *unless_ended,
          uint64_t since, const char *what)
{
	if (chaos_failed() || (unless_ended != NULL && !chaos_is_running(unless_ended)))
		return false;
	if (now_ms() - since > CHAOS_PATIENCE_MS) {
		chaos_fail(NULL, "%s does not come to %s", place->name, what);
		return false;
	}
	chaos_wait(place->journal, news, LOOK_MS);
	return true;
}

static const char *const phase_names[CHAOS_PHASES] = {
	"start", "wait for a server", "connect",   "serve",     "open",     "have traffic",
	"close", "have closed",       "hand over", "take over", "serve on",
};

bool
chaos_until_reached(struct chaos_place *place, enum chaos_phase phase, uint32_t more_than,
                    const struct chaos_process *unless_ended)
{
	const uint64_t since = now_ms();

	for (;;) {
		const uint32_t news = atomic_load(&place->journal->news);

		/* Looked at after the process, which may reach it and end in between. */
		const bool ended = unless_ended != NULL && !chaos_is_running(unless_ended);

		if (atomic_load(&place->journal->reached[phase]) > more_than)
			return true;
		if (ended || !wait_more(place, news, unless_ended, since, phase_names[phase]))
			return atomic_load(&place->journal->reached[phase]) > more_than;
	}
}

bool
chaos_until_either(struct chaos_place *place, enum chaos_phase one, uint32_t one_more_than,
                   enum chaos_phase other, uint32_t other_more_than)
{
	struct chaos_journal *journal = place->journal;
	const uint64_t since = now_ms();

	for (;;) {
		const uint32_t news = atomic_load(&journal->news);

		if (atomic_load(&journal->reached[one]) > one_more_than)
			return true;
		if (atomic_load(&journal->reached[other]) > other_more_than ||
		    !wait_more(place, news, NULL, since, phase_names[one]))
			return false;
	}
}

bool
chaos_until_events(struct chaos_place *place, uint32_t since_events, uint32_t count,
                   const struct chaos_process *unless_ended)
{
	struct chaos_journal *journal = place->journal;
	const uint64_t since = now_ms();

	for (;;) {
		const uint32_t news = atomic_load(&journal->news);

		if (atomic_load(&journal->events) - since_events >= count ||
		    atomic_load(&journal->sent_count) >= atomic_load(&journal->budget))
			return true;
		if (!wait_more(place, news, unless_ended, since, "the end of its packets"))
			return false;
	}
}

void
chaos_order(_Atomic uint32_t *word, struct chaos_place *place)
{
	atomic_fetch_add(word, 1);
	chaos_post(place->journal);
}

void
chaos_grant(struct chaos_place *place, uint32_t packets)
{
	atomic_store(&place->journal->budget, atomic_load(&place->journal->sent_count) + packets);
	chaos_post(place->journal);
}

void
chaos_bystander_goes_on(void)
{
	struct chaos_place *place = &chaos.places[CHAOS_BYSTANDER];
	struct chaos_journal *journal = place->journal;
	const uint32_t goal = atomic_fetch_add(&journal->budget, 24) + 24;
	const uint64_t since = now_ms();

	chaos_post(journal);
	for (;;) {
		const uint32_t news = atomic_load(&journal->news);

		if (atomic_load(&journal->completed) >= goal ||
		    !wait_more(place, news, NULL, since, "go on while others are stopped"))
			return;
	}
}

void
chaos_client_gives_up(struct chaos_place *client)
{
	struct chaos_journal *journal = client->journal;
	const uint32_t before = atomic_load(&journal->cancelled);
	const uint64_t since = now_ms();

	chaos_grant(client, MORE_THAN_IN_FLIGHT);
	for (;;) {
		const uint32_t news = atomic_load(&journal->news);

		if (atomic_load(&journal->cancelled) != before ||
		    !wait_more(client, news, NULL, since, "the end of a request to who is stopped"))
			return;
	}
}

void
chaos_moment(struct chaos_lane *lane)
{
	const uint32_t turns = chaos_roll(lane, 1u << chaos_roll(lane, 20));

	for (uint32_t i = 0; i < turns; i++)
		atomic_signal_fence(memory_order_seq_cst);
}

void
chaos_check_complaints(void)
{
	for (unsigned i = 0; i < CHAOS_PLACES; i++) {
		struct chaos_place *place = &chaos.places[i];

		if (atomic_load(&place->journal->complaints) != 0 &&
		    !atomic_exchange(&place->complained, true))
			chaos_fail(NULL, "%s: %s", place->name, place->journal->complaint);
	}
}
