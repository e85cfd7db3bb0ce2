/* SPDX-License-Identifier: MIT */
/*
 * Cycles of servers behind the long-lived host, which shares what they offer. One client opens their channel again and
 * again over the same connection: it sees a rescind, and another offer of the same device.
 */
#include "director.h"

#include <signal.h>
#include <stdio.h>

#define INSTANCE 100u

static const enum chaos_fate fates[] = {
	CHAOS_KILL,        CHAOS_KILL,          CHAOS_KILL,           CHAOS_KILL,
	CHAOS_STOP_AND_GO, CHAOS_STOP_AND_KILL, CHAOS_STOP_AND_LEAVE, CHAOS_END,
};
static const enum chaos_phase instants[] = {
	CHAOS_STARTED, CHAOS_READY,   CHAOS_OPENING, CHAOS_TRAFFIC,
	CHAOS_TRAFFIC, CHAOS_TRAFFIC, CHAOS_CLOSING,
};

struct worker {
	struct chaos_process process;
	struct chaos_place *place, *client;
	enum chaos_fate fate;
	enum chaos_phase at;
	uint32_t packets, events;
	uint32_t reached[CHAOS_PHASES]; /* by the workers before */
	uint32_t traffic, closed, client_events;
};

static struct worker
make_plan(struct chaos_lane *lane)
{
	struct worker w = {
		.place = &chaos.places[CHAOS_WORKERS],
		.client = &chaos.places[CHAOS_FAITHFUL],
		.fate = fates[chaos_roll(lane, sizeof(fates) / sizeof(fates[0]))],
		.at = instants[chaos_roll(lane, sizeof(instants) / sizeof(instants[0]))],
		.packets = 50 + chaos_roll(lane, 500),
	};

	w.events = chaos_roll(lane, w.packets);
	/* Who leaves must have come. */
	if (w.fate == CHAOS_STOP_AND_LEAVE)
		w.at = CHAOS_TRAFFIC;
	for (unsigned i = 0; i < CHAOS_PHASES; i++)
		w.reached[i] = atomic_load(&w.place->journal->reached[i]);
	w.traffic = atomic_load(&w.client->journal->reached[CHAOS_TRAFFIC]);
	w.closed = atomic_load(&w.client->journal->reached[CHAOS_CLOSED]);
	w.client_events = atomic_load(&w.client->journal->events);
	(void)snprintf(lane->plan, sizeof(lane->plan), "fate %u at phase %u, %u packets, %u events",
	               w.fate, w.at, w.packets, w.events);
	return w;
}

static void
wait_for_instant(struct chaos_lane *lane, struct worker *w)
{
	switch (w->at) {
	case CHAOS_TRAFFIC:
	case CHAOS_CLOSING:
		(void)chaos_until_reached(w->client, CHAOS_TRAFFIC, w->traffic, &w->process);
		(void)chaos_until_events(w->client, w->client_events, w->events, &w->process);
		if (w->at == CHAOS_TRAFFIC)
			break;
		chaos_order(&w->place->journal->stop, w->place);
		(void)chaos_until_reached(w->place, CHAOS_CLOSING, w->reached[CHAOS_CLOSING],
		                          &w->process);
		break;
	default:
		(void)chaos_until_reached(w->place, w->at, w->reached[w->at], &w->process);
		break;
	}
	chaos_moment(lane);
}

/*
 * The client closes and returns although nobody answers it. The worker is killed then and does not go on: it would work on
 * memory that is not its own any more, which is what sharing trusts it with (ARCHITECTURE.md).
 */
static void
leave(struct worker *w)
{
	chaos_order(&w->client->journal->bounce, w->client);
	(void)chaos_until_reached(w->client, CHAOS_CLOSED, w->closed, NULL);
}

static int
meet_fate(struct chaos_lane *lane, struct worker *w)
{
	if (w->fate == CHAOS_END)
		(void)chaos_until_reached(w->client, CHAOS_TRAFFIC, w->traffic, &w->process);
	else
		wait_for_instant(lane, w);
	if (w->fate == CHAOS_KILL)
		return chaos_kill(&w->process, w->at);
	if (w->fate != CHAOS_END && chaos_stop(&w->process)) {
		chaos_bystander_goes_on();
		if (w->at == CHAOS_TRAFFIC)
			chaos_client_gives_up(w->client);
		if (w->fate == CHAOS_STOP_AND_LEAVE)
			leave(w);
		if (w->fate != CHAOS_STOP_AND_GO)
			return chaos_kill(&w->process, w->at);
		chaos_continue(&w->process);
	}
	if (w->fate == CHAOS_END)
		(void)chaos_until_events(w->client, w->client_events, w->events, &w->process);
	chaos_order(&w->place->journal->stop, w->place);
	return chaos_wait_exit(&w->process);
}

void
chaos_worker_cycle(struct chaos_lane *lane)
{
	struct worker w = make_plan(lane);
	struct chaos_journal *client = w.client->journal;
	char path[PATH_MAX];
	int status;

	(void)snprintf(path, sizeof(path), "%s/workers", chaos.directory);
	atomic_store(&w.place->journal->stop, 0);
	atomic_store(&client->impatient, w.fate == CHAOS_STOP_AND_GO ||
	                                     w.fate == CHAOS_STOP_AND_KILL ||
	                                     w.fate == CHAOS_STOP_AND_LEAVE);
	chaos_grant(w.client, w.packets);
	if (!chaos_start_server(&w.process, w.place, path, INSTANCE, 1, NULL, -1, -1))
		return;
	status = meet_fate(lane, &w);
	if (status != 0 && status != -SIGKILL)
		chaos_fail(lane, "the worker ended with %d", status);
	/* Whatever was open is closed, and every packet of it has ended. */
	if (atomic_load(&client->reached[CHAOS_TRAFFIC]) != w.traffic)
		(void)chaos_until_reached(w.client, CHAOS_CLOSED,
		                          atomic_load(&client->reached[CHAOS_TRAFFIC]) - 1, NULL);
	atomic_fetch_add(&chaos.fates[w.fate], 1);
}
