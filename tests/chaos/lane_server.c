/* SPDX-License-Identifier: MIT */
/*
 * Cycles of servers that one client connects to, one after another. They are killed and stopped, and hand their bus over to
 * each other, which the client must not notice unless one of the two is killed meanwhile.
 */
#include "director.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define INSTANCE 200u
#define EXIT_HANDED_OVER 3
#define EXIT_NOTHING_TAKEN 4
#define FIRST_OWN_FD 10

static const enum chaos_fate fates[] = {
	CHAOS_KILL,        CHAOS_KILL,          CHAOS_KILL,     CHAOS_KILL,
	CHAOS_STOP_AND_GO, CHAOS_STOP_AND_KILL, CHAOS_END,      CHAOS_HAND_OVER,
	CHAOS_KILL_OLD,    CHAOS_KILL_OLD,      CHAOS_KILL_NEW, CHAOS_KILL_NEW,
};
static const enum chaos_phase instants[] = {
	CHAOS_STARTED, CHAOS_CONNECTING, CHAOS_OPENING, CHAOS_TRAFFIC,
	CHAOS_TRAFFIC, CHAOS_TRAFFIC,    CHAOS_CLOSING,
};

struct stage {
	struct chaos_process server;
	int successor_socket; /* for the next one, to this one */
	struct chaos_place *place, *client;
	enum chaos_fate fate;
	enum chaos_phase at;
	uint32_t packets, events;
	uint32_t ready, closing;
	uint32_t idle, traffic, client_events;
	uint32_t client_before;
	char path[PATH_MAX];
};

static struct stage
make_plan(struct chaos_lane *lane)
{
	struct stage s = {
		.place = &chaos.places[CHAOS_SERVERS],
		.client = &chaos.places[CHAOS_NOMAD],
		.fate = fates[chaos_roll(lane, sizeof(fates) / sizeof(fates[0]))],
		.at = instants[chaos_roll(lane, sizeof(instants) / sizeof(instants[0]))],
		.packets = 50 + chaos_roll(lane, 500),
		.successor_socket = -1,
	};

	s.events = chaos_roll(lane, s.packets / 2);
	/* A client waits long for a server that is stopped in the middle of a close (10 s), so once is enough. */
	if (s.place->lives == 0)
		s.fate = CHAOS_STOP_AND_LEAVE;
	if (s.fate >= CHAOS_STOP_AND_LEAVE)
		s.at = CHAOS_TRAFFIC;
	s.ready = atomic_load(&s.place->journal->reached[CHAOS_READY]);
	s.closing = atomic_load(&s.place->journal->reached[CHAOS_CLOSING]);
	s.idle = atomic_load(&s.client->journal->reached[CHAOS_IDLE]);
	s.traffic = atomic_load(&s.client->journal->reached[CHAOS_TRAFFIC]);
	s.client_events = atomic_load(&s.client->journal->events);
	s.client_before = atomic_load(&s.client->journal->reached[s.at]);
	(void)snprintf(s.path, sizeof(s.path), "%s/servers", chaos.directory);
	(void)snprintf(lane->plan, sizeof(lane->plan), "fate %u at phase %u, %u packets, %u events",
	               s.fate, s.at, s.packets, s.events);
	return s;
}

/* A server with a socket for its successor; with a predecessor's socket it takes over. */
static bool
start(struct stage *s, struct chaos_process *process, int predecessor, int *successor_socket)
{
	int ends[2], high[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
		return false;
	/* Out of the way of what children are given. */
	for (unsigned i = 0; i < 2; i++) {
		high[i] = fcntl(ends[i], F_DUPFD_CLOEXEC, FIRST_OWN_FD);
		(void)close(ends[i]);
	}
	*successor_socket = high[1];
	return chaos_start_server(process, s->place, s->path, INSTANCE, 1, NULL, predecessor,
	                          high[0]);
}

static bool
until_traffic(struct stage *s)
{
	return chaos_until_reached(s->client, CHAOS_TRAFFIC, s->traffic, &s->server) &&
	       chaos_until_events(s->client, s->client_events, s->events, &s->server);
}

static void
wait_for_instant(struct chaos_lane *lane, struct stage *s)
{
	switch (s->at) {
	case CHAOS_STARTED:
		break;
	case CHAOS_TRAFFIC:
	case CHAOS_CLOSING:
		(void)until_traffic(s);
		if (s->at == CHAOS_TRAFFIC)
			break;
		chaos_order(&s->place->journal->stop, s->place);
		(void)chaos_until_reached(s->place, CHAOS_CLOSING, s->closing, &s->server);
		break;
	default:
		(void)chaos_until_reached(s->client, s->at, s->client_before, &s->server);
		break;
	}
	chaos_moment(lane);
}

/* ---- handing over --------------------------------------------------------------------------------------------- */

static void
close_socket(struct stage *s)
{
	if (s->successor_socket >= 0)
		(void)close(s->successor_socket);
	s->successor_socket = -1;
}

/* The old one is dead, or has handed over. What it gave is enough to go on with, or it gave nothing. */
static void
settle_new(struct chaos_lane *lane, struct stage *s, struct chaos_process *next, int next_socket)
{
	const bool serves = chaos_until_reached(s->place, CHAOS_READY, s->ready, next);
	int status;

	if (serves) {
		s->server = *next;
		s->successor_socket = next_socket;
		return;
	}
	(void)close(next_socket);
	status = chaos_wait_exit(next);
	if (status != EXIT_NOTHING_TAKEN)
		chaos_fail(lane, "the successor ended with %d", status);
}

/* The new one is dead: the old one kept its bus, or had given it away already. */
static void
settle_old(struct chaos_lane *lane, struct stage *s, uint32_t kept)
{
	int status;

	if (chaos_until_reached(s->place, CHAOS_KEPT, kept, &s->server))
		return;
	status = chaos_wait_exit(&s->server);
	if (status != EXIT_HANDED_OVER)
		chaos_fail(lane, "the predecessor ended with %d", status);
}

/* What it has ended by, if it has to have handed over. */
static void
expect_handed_over(struct chaos_lane *lane, struct stage *s, int status)
{
	if (status != EXIT_HANDED_OVER && status != -SIGKILL)
		chaos_fail(lane, "the predecessor ended with %d", status);
	if (status == -SIGKILL && s->fate == CHAOS_HAND_OVER)
		chaos_fail(lane, "the predecessor was killed by somebody else");
}

static void
hand_over(struct chaos_lane *lane, struct stage *s)
{
	struct chaos_journal *journal = s->place->journal;
	const uint32_t handing = atomic_load(&journal->reached[CHAOS_HANDING_OVER]);
	const uint32_t taking = atomic_load(&journal->reached[CHAOS_TAKING_OVER]);
	const uint32_t kept = atomic_load(&journal->reached[CHAOS_KEPT]);
	const int predecessor = s->successor_socket;
	struct chaos_process next;
	int next_socket;

	s->ready = atomic_load(&journal->reached[CHAOS_READY]);
	s->successor_socket = -1;
	chaos_order(&journal->hand_over, s->place);
	if (!start(s, &next, predecessor, &next_socket))
		return;
	switch (s->fate) {
	case CHAOS_KILL_OLD:
		(void)chaos_until_reached(s->place, CHAOS_HANDING_OVER, handing, &s->server);
		(void)chaos_until_reached(s->place, CHAOS_TAKING_OVER, taking, &next);
		chaos_moment(lane);
		expect_handed_over(lane, s, chaos_kill(&s->server, CHAOS_HANDING_OVER));
		settle_new(lane, s, &next, next_socket);
		break;
	case CHAOS_KILL_NEW:
		(void)chaos_until_reached(s->place, CHAOS_TAKING_OVER, taking, &next);
		chaos_moment(lane);
		(void)chaos_kill(&next, CHAOS_TAKING_OVER);
		(void)close(next_socket);
		settle_old(lane, s, kept);
		break;
	default:
		expect_handed_over(lane, s, chaos_wait_exit(&s->server));
		settle_new(lane, s, &next, next_socket);
		break;
	}
}

/* Nobody was killed: the channel is the same as before, and goes on. */
static void
hand_over_unnoticed(struct chaos_lane *lane, struct stage *s)
{
	const uint32_t closing = atomic_load(&s->client->journal->reached[CHAOS_CLOSING]);
	const uint32_t events = atomic_load(&s->client->journal->events);

	hand_over(lane, s);
	if (s->server.pid == 0)
		chaos_fail(lane, "nobody serves after a handover");
	chaos_grant(s->client, s->packets);
	(void)chaos_until_events(s->client, events, s->packets, &s->server);
	if (atomic_load(&s->client->journal->reached[CHAOS_CLOSING]) != closing)
		chaos_fail(lane, "the client noticed a handover");
}

/* ---- the cycle ------------------------------------------------------------------------------------------------ */

/* As in lane_worker.c: who was left while it was stopped does not go on. */
static void
leave(struct stage *s)
{
	const uint32_t closed = atomic_load(&s->client->journal->reached[CHAOS_CLOSED]);

	chaos_order(&s->client->journal->bounce, s->client);
	(void)chaos_until_reached(s->client, CHAOS_CLOSED, closed, NULL);
}

static int
end_server(struct stage *s)
{
	chaos_order(&s->place->journal->stop, s->place);
	return chaos_wait_exit(&s->server);
}

static int
meet_fate(struct chaos_lane *lane, struct stage *s)
{
	switch (s->fate) {
	case CHAOS_KILL:
		wait_for_instant(lane, s);
		return chaos_kill(&s->server, s->at);
	case CHAOS_STOP_AND_GO:
	case CHAOS_STOP_AND_KILL:
	case CHAOS_STOP_AND_LEAVE:
		wait_for_instant(lane, s);
		if (!chaos_stop(&s->server))
			break;
		chaos_bystander_goes_on();
		if (s->at == CHAOS_TRAFFIC)
			chaos_client_gives_up(s->client);
		if (s->fate == CHAOS_STOP_AND_LEAVE)
			leave(s);
		if (s->fate != CHAOS_STOP_AND_GO)
			return chaos_kill(&s->server, s->at);
		chaos_continue(&s->server);
		break;
	case CHAOS_HAND_OVER:
		if (!until_traffic(s))
			break;
		for (uint32_t left = 1 + chaos_roll(lane, 3); left != 0 && s->server.pid != 0;
		     left--)
			hand_over_unnoticed(lane, s);
		break;
	case CHAOS_KILL_OLD:
	case CHAOS_KILL_NEW:
		if (until_traffic(s))
			hand_over(lane, s);
		break;
	default:
		(void)until_traffic(s);
		break;
	}
	return s->server.pid != 0 ? end_server(s) : 0;
}

/* The client is back where it waits for the next server, and all its packets have ended. */
static void
bring_client_home(struct stage *s)
{
	struct chaos_journal *client = s->client->journal;

	if (atomic_load(&client->reached[CHAOS_TRAFFIC]) != s->traffic)
		(void)chaos_until_reached(s->client, CHAOS_CLOSED,
		                          atomic_load(&client->reached[CHAOS_TRAFFIC]) - 1, NULL);
	if (atomic_load(&client->reached[CHAOS_IDLE]) == s->idle)
		chaos_order(&client->bounce, s->client);
	(void)chaos_until_reached(s->client, CHAOS_IDLE, s->idle, NULL);
}

/* At times it comes before the server listens, finds nobody, and is told again. */
static void
tell_client(struct chaos_lane *lane, struct stage *s)
{
	const uint32_t opening = atomic_load(&s->client->journal->reached[CHAOS_OPENING]);
	const bool early = chaos_roll(lane, 8) == 0;

	if (!early && s->at != CHAOS_STARTED)
		(void)chaos_until_reached(s->place, CHAOS_READY, s->ready, &s->server);
	chaos_order(&s->client->journal->go, s->client);
	if (!early || s->at == CHAOS_STARTED)
		return;
	(void)chaos_until_reached(s->place, CHAOS_READY, s->ready, &s->server);
	if (chaos_until_either(s->client, CHAOS_OPENING, opening, CHAOS_IDLE, s->idle) ||
	    atomic_load(&s->client->journal->reached[CHAOS_IDLE]) == s->idle)
		return;
	s->idle = atomic_load(&s->client->journal->reached[CHAOS_IDLE]);
	chaos_order(&s->client->journal->go, s->client);
}

void
chaos_server_cycle(struct chaos_lane *lane)
{
	struct stage s = make_plan(lane);
	int status;

	atomic_store(&s.place->journal->stop, 0);
	atomic_store(&s.client->journal->impatient, s.fate == CHAOS_STOP_AND_GO ||
	                                                s.fate == CHAOS_STOP_AND_KILL ||
	                                                s.fate == CHAOS_STOP_AND_LEAVE);
	chaos_grant(s.client, s.packets);
	if (!start(&s, &s.server, -1, &s.successor_socket))
		return;
	tell_client(lane, &s);
	status = meet_fate(lane, &s);
	close_socket(&s);
	if (status != 0 && status != -SIGKILL && status != EXIT_HANDED_OVER)
		chaos_fail(lane, "the server ended with %d", status);
	bring_client_home(&s);
	atomic_fetch_add(&chaos.fates[s.fate], 1);
}
