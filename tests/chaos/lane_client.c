/* SPDX-License-Identifier: MIT */
/* Cycles of short-lived clients of the one long-lived server: ended, killed or stopped at any instant of their lives. */
#include "director.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const enum chaos_fate fates[] = {
	CHAOS_KILL, CHAOS_KILL,        CHAOS_KILL,          CHAOS_KILL,
	CHAOS_KILL, CHAOS_STOP_AND_GO, CHAOS_STOP_AND_KILL, CHAOS_END,
};
static const enum chaos_phase instants[] = {
	CHAOS_STARTED, CHAOS_CONNECTING, CHAOS_OPENING, CHAOS_TRAFFIC,
	CHAOS_TRAFFIC, CHAOS_TRAFFIC,    CHAOS_CLOSING,
};

struct plan {
	enum chaos_fate fate;
	enum chaos_phase at;
	uint32_t packets, events;
};

static struct plan
make_plan(struct chaos_lane *lane)
{
	struct plan plan = {
		.fate = fates[chaos_roll(lane, sizeof(fates) / sizeof(fates[0]))],
		.at = instants[chaos_roll(lane, sizeof(instants) / sizeof(instants[0]))],
		.packets = 50 + chaos_roll(lane, 500),
	};

	plan.events = chaos_roll(lane, plan.packets);
	(void)snprintf(lane->plan, sizeof(lane->plan), "fate %u at phase %u, %u packets, %u events",
	               plan.fate, plan.at, plan.packets, plan.events);
	return plan;
}

void
chaos_client_cycle(struct chaos_lane *lane)
{
	struct chaos_place *place = &chaos.places[CHAOS_CLIENTS + lane->number];
	struct chaos_journal *journal = place->journal;
	const struct plan plan = make_plan(lane);
	const uint32_t before = atomic_load(&journal->reached[plan.at]);
	const uint32_t events = atomic_load(&journal->events);
	struct chaos_process client;
	char path[PATH_MAX];
	int status = INT_MIN;

	(void)snprintf(path, sizeof(path), "%s/host", chaos.directory);
	atomic_store(&journal->stop, 0);
	chaos_grant(place, plan.packets);
	if (!chaos_start_client(&client, place, path, 1 + lane->number, "once"))
		return;
	if (plan.fate != CHAOS_END) {
		(void)chaos_until_reached(place, plan.at, before, &client);
		if (plan.at == CHAOS_TRAFFIC)
			(void)chaos_until_events(place, events, plan.events, &client);
		chaos_moment(lane);
	}
	if (plan.fate == CHAOS_KILL) {
		status = chaos_kill(&client, plan.at);
	} else if (plan.fate != CHAOS_END && chaos_stop(&client)) {
		chaos_bystander_goes_on();
		if (plan.fate == CHAOS_STOP_AND_KILL)
			status = chaos_kill(&client, plan.at);
		else
			chaos_continue(&client);
	}
	if (client.pid != 0)
		status = chaos_wait_exit(&client);
	if (status != 0 && status != -SIGKILL)
		chaos_fail(lane, "the client ended with %d", status);
	if (status == -SIGKILL && plan.fate != CHAOS_KILL && plan.fate != CHAOS_STOP_AND_KILL)
		chaos_fail(lane, "the client was killed by somebody else");
	atomic_fetch_add(&chaos.fates[plan.fate], 1);
}
