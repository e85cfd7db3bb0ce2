/* SPDX-License-Identifier: MIT */
/*
 * The transitions of a channel: one row per arrow, one test per row, role and transport. A channel is brought into the state that
 * the arrow comes from (stage.h), the trigger is pulled, and the callbacks that follow and the state that is reached are
 * those of the table.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kmcl/kmcl_channel.h"
#include "stage.h"

#define SERVER 0x1u
#define CLIENT 0x2u
#define BOTH (SERVER | CLIENT)
#define WITH_BUS 0x4u /* needs a bus that can be closed */

struct arrow {
	const char *name;
	enum stage_state from;
	unsigned who;
	void (*pull)(struct stage *s);
	/* Of a server and of a client. NULL = the callbacks are those of the other. */
	const char *events[2];
	enum kmcl_state to[2];
	bool failed;
	const char *clauses;
};

/* ---- triggers ------------------------------------------------------------------------------------------------ */

static void
enable(struct stage *s)
{
	assert_int_equal(VmbChannelEnable(s->subject->handle), STATUS_SUCCESS);
}

static void
enable_paused(struct stage *s)
{
	VmbChannelPause(s->subject->handle);
	enable(s);
	assert_int_equal(VmbChannelEnable(s->peer->handle), STATUS_SUCCESS);
}

static void
peer_comes(struct stage *s)
{
	assert_int_equal(VmbChannelEnable(s->peer->handle), STATUS_SUCCESS);
}

static NTSTATUS
refuse(struct conf_channel *c, enum conf_event event)
{
	(void)c;
	return event == CONF_OPENED ? STATUS_UNSUCCESSFUL : STATUS_SUCCESS;
}

static void
opened_fails(struct stage *s)
{
	s->subject->on_event = refuse;
	enable(s);
	peer_comes(s);
	conf_await_left(s->subject, CONF_OPENED, 1);
}

static void
opened_returns(struct stage *s)
{
	errand_let_go(s->subject);
}

static void
opened_returns_to_a_started_server(struct stage *s)
{
	VmbChannelStart(s->subject->handle);
	errand_let_go(s->subject);
}

static void
opened_returns_to_a_paused_client(struct stage *s)
{
	VmbChannelPause(s->subject->handle);
	errand_let_go(s->subject);
}

static void
start(struct stage *s)
{
	VmbChannelStart(s->subject->handle);
}

static void
started_returns(struct stage *s)
{
	errand_let_go(s->subject);
}

/* The subject has heard of it. */
static void
await_closing(struct stage *s)
{
	struct kmcl_channel *ch = kmcl_channel_from_handle(s->subject->handle);

	conf_poll_until(atomic_load(&ch->fsm.closing) || kmcl_channel_state(ch) <= KMCL_S_ENABLED);
}

/* What waits for the driver gets what it waits for. */
static void
run_to_the_end(struct stage *s, void (*run)(void *), struct conf_channel *c)
{
	struct errand e;

	errand_start(&e, run, c->handle);
	(void)errand_settle(&e);
	if (run == errand_disable)
		await_closing(s);
	errand_let_go(s->subject);
	conf_answer_with(s->subject, CONF_ECHO, NULL, 0);
	conf_complete_held(s->subject);
	errand_join(&e);
}

static void
pause_channel(struct stage *s)
{
	run_to_the_end(s, errand_pause, s->subject);
}

static void
last_packet_is_completed(struct stage *s)
{
	assert_true(conf_complete(s->held[0], NULL, 0));
	assert_int_equal(kmcl_channel_state(kmcl_channel_from_handle(s->subject->handle)),
	                 s->state == STAGE_U_PAUSE ? KMCL_S_SUSPENDING : KMCL_S_CLOSING);
	assert_true(conf_complete(s->held[1], NULL, 0));
	errand_join(&s->errand);
	s->errand_runs = false;
}

static void
disable(struct stage *s)
{
	run_to_the_end(s, errand_disable, s->subject);
}

static void
peer_closes(struct stage *s)
{
	run_to_the_end(s, errand_disable, s->peer);
}

static void
close_bus(void *bus)
{
	kmcl_bus_close(bus);
}

/* The other end's: for a server its guest, for a client its host. */
static void
bus_ends(struct stage *s)
{
	struct conf_world *w = s->subject->world;
	struct kmcl_bus **bus = s->subject->is_server ? &w->guest : &w->host;
	struct errand e;

	errand_start(&e, close_bus, *bus);
	await_closing(s);
	errand_let_go(s->subject);
	conf_answer_with(s->subject, CONF_ECHO, NULL, 0);
	conf_complete_held(s->subject);
	errand_join(&e);
	*bus = NULL;
}

static void
driver_fails_a_packet(struct stage *s)
{
	VmbChannelPacketFail(s->held[0]->handle);
	conf_lock(s->subject->world);
	s->held[0]->held = false;
	s->subject->held--;
	conf_unlock(s->subject->world);
}

static void
incoming_ring_is_corrupt(struct stage *s)
{
	static const uint8_t nonsense[16] = { 0x63, 0, 2, 0, 2, 0 };

	conf_wire_inject(s->peer, nonsense, sizeof(nonsense));
	conf_poll_until(conf_post(s->subject, 1) == STATUS_DEVICE_REMOVED);
}

/* The peer's reader, which is honest, overwrites the lie when it releases a packet: so it is told again for each packet. */
static NTSTATUS
post_over_a_corrupt_index(struct stage *s, UINT32 index)
{
	conf_wire_set_read_index(s->subject, index);
	return conf_post(s->subject, 1);
}

static void
outgoing_ring_is_corrupt(struct stage *s)
{
	struct conf_wire wire = conf_wire_read(s->subject);
	UINT32 beyond = wire.data_bytes + 8;

	conf_wire_free(&wire);
	conf_poll_until(post_over_a_corrupt_index(s, beyond) == STATUS_DEVICE_REMOVED);
	if (s->state == STAGE_S)
		errand_let_go(s->subject);
}

/* ---- the table ------------------------------------------------------------------------------------------------- */

#define OPEN "Opened Started PostStarted"

/* clang-format off */
static const struct arrow arrows[] = {
	{ "enable", STAGE_D, BOTH, enable, { "", NULL }, { KMCL_S_ENABLED, KMCL_S_ENABLED }, false, "STM-2, CHE-2" },
	{ "peer_comes", STAGE_E, BOTH, peer_comes, { "Opened", OPEN }, { KMCL_S_PAUSED, KMCL_S_ACTIVE }, false, "STM-3..4, EOP-1" },
	{ "enable_paused", STAGE_D, CLIENT, enable_paused, { NULL, "Opened" }, { 0, KMCL_S_PAUSED }, false, "STM-5, CHP-3" },
	{ "opened_fails", STAGE_D, BOTH, opened_fails, { "Opened", NULL }, { KMCL_S_ENABLED, KMCL_S_DISABLED }, false, "STM-8, EOP-2" },
	{ "opened_returns", STAGE_O, BOTH, opened_returns, { "Opened", OPEN }, { KMCL_S_PAUSED, KMCL_S_ACTIVE }, false, "STM-3..4" },
	{ "opened_returns_to_a_started_server", STAGE_O, SERVER, opened_returns_to_a_started_server, { OPEN, NULL }, { KMCL_S_ACTIVE, 0 }, false, "STM-3..4" },
	{ "opened_returns_to_a_paused_client", STAGE_O, CLIENT, opened_returns_to_a_paused_client, { NULL, "Opened" }, { 0, KMCL_S_PAUSED }, false, "STM-3" },
	{ "start", STAGE_P, BOTH, start, { "Started PostStarted", NULL }, { KMCL_S_ACTIVE, KMCL_S_ACTIVE }, false, "STM-3, CHS-1" },
	{ "started_returns", STAGE_S, BOTH, started_returns, { "PostStarted", NULL }, { KMCL_S_ACTIVE, KMCL_S_ACTIVE }, false, "STM-3, EST-1" },
	{ "pause", STAGE_A, BOTH, pause_channel, { "Suspend", NULL }, { KMCL_S_PAUSED, KMCL_S_PAUSED }, false, "CHP-1..2, STM-10, ESU-1" },
	{ "pause", STAGE_S, BOTH, pause_channel, { "Suspend", NULL }, { KMCL_S_PAUSED, KMCL_S_PAUSED }, false, "CHP-1" },
	{ "last_packet_is_completed", STAGE_U_PAUSE, BOTH, last_packet_is_completed, { "", NULL }, { KMCL_S_PAUSED, KMCL_S_PAUSED }, false, "STM-10" },
	{ "start", STAGE_U_PAUSE, BOTH, start, { "", NULL }, { KMCL_S_SUSPENDING, KMCL_S_SUSPENDING }, false, "CHS-1" },
	{ "last_packet_is_completed", STAGE_U_CLOSE, BOTH, last_packet_is_completed, { "Closed", NULL }, { KMCL_S_DISABLED, KMCL_S_DISABLED }, false, "STM-7, STM-10" },
	{ "disable", STAGE_E, BOTH, disable, { "", NULL }, { KMCL_S_DISABLED, KMCL_S_DISABLED }, false, "CHD-4" },
	{ "disable", STAGE_O, BOTH, disable, { "Closed", NULL }, { KMCL_S_DISABLED, KMCL_S_DISABLED }, false, "STM-13" },
	{ "disable", STAGE_P, BOTH, disable, { "Closed", NULL }, { KMCL_S_DISABLED, KMCL_S_DISABLED }, false, "STM-7, STM-13, ECL-1" },
	{ "disable", STAGE_S, BOTH, disable, { "Suspend Closed", NULL }, { KMCL_S_DISABLED, KMCL_S_DISABLED }, false, "STM-3, STM-13" },
	{ "disable", STAGE_A, BOTH, disable, { "Suspend Closed", NULL }, { KMCL_S_DISABLED, KMCL_S_DISABLED }, false, "STM-3, CHD-1..2" },
	{ "disable", STAGE_U_PAUSE, BOTH, disable, { "Closed", NULL }, { KMCL_S_DISABLED, KMCL_S_DISABLED }, false, "STM-13" },
	{ "disable", STAGE_F, BOTH, disable, { "Suspend Closed", NULL }, { KMCL_S_DISABLED, KMCL_S_DISABLED }, false, "STM-16" },
	{ "peer_closes", STAGE_P, BOTH, peer_closes, { "Closed", NULL }, { KMCL_S_ENABLED, KMCL_S_DISABLED }, false, "STM-7, ECL-1" },
	{ "peer_closes", STAGE_S, BOTH, peer_closes, { "Suspend Closed", NULL }, { KMCL_S_ENABLED, KMCL_S_DISABLED }, false, "STM-7, STM-17" },
	{ "peer_closes", STAGE_A, BOTH, peer_closes, { "Suspend Closed", NULL }, { KMCL_S_ENABLED, KMCL_S_DISABLED }, false, "STM-7, ECL-1" },
	{ "peer_closes", STAGE_U_PAUSE, BOTH, peer_closes, { "Closed", NULL }, { KMCL_S_ENABLED, KMCL_S_DISABLED }, false, "STM-7" },
	{ "peer_closes", STAGE_F, BOTH, peer_closes, { "Suspend Closed", NULL }, { KMCL_S_ENABLED, KMCL_S_DISABLED }, false, "STM-16" },
	{ "bus_ends", STAGE_P, BOTH | WITH_BUS, bus_ends, { "Closed", NULL }, { KMCL_S_ENABLED, KMCL_S_DISABLED }, false, "STM-7, ECL-1" },
	{ "bus_ends", STAGE_S, BOTH | WITH_BUS, bus_ends, { "Suspend Closed", NULL }, { KMCL_S_ENABLED, KMCL_S_DISABLED }, false, "STM-7" },
	{ "bus_ends", STAGE_A, BOTH | WITH_BUS, bus_ends, { "Suspend Closed", NULL }, { KMCL_S_ENABLED, KMCL_S_DISABLED }, false, "STM-7, STM-14" },
	{ "bus_ends", STAGE_F, BOTH | WITH_BUS, bus_ends, { "Suspend Closed", NULL }, { KMCL_S_ENABLED, KMCL_S_DISABLED }, false, "STM-16" },
	{ "driver_fails_a_packet", STAGE_A, BOTH, driver_fails_a_packet, { "", NULL }, { KMCL_S_ACTIVE, KMCL_S_ACTIVE }, true, "STM-16, PKF-1..3" },
	{ "incoming_ring_is_corrupt", STAGE_A, BOTH, incoming_ring_is_corrupt, { "", NULL }, { KMCL_S_ACTIVE, KMCL_S_ACTIVE }, true, "STM-16, GEN-12" },
	{ "outgoing_ring_is_corrupt", STAGE_A, BOTH, outgoing_ring_is_corrupt, { "", NULL }, { KMCL_S_ACTIVE, KMCL_S_ACTIVE }, true, "STM-16, GEN-12" },
	{ "outgoing_ring_is_corrupt", STAGE_S, BOTH, outgoing_ring_is_corrupt, { "PostStarted", NULL }, { KMCL_S_ACTIVE, KMCL_S_ACTIVE }, true, "STM-16, GEN-12" },
};
/* clang-format on */
#define ARROWS (sizeof(arrows) / sizeof(arrows[0]))

static const char *const event_names[CONF_EVENT_COUNT] = { "Opened", "Closed", "Suspend", "Started",
	                                                   "PostStarted", "PnpFailure" };

/* ---- one test per arrow, role and transport ------------------------------------------------------------------------ */

struct one_case {
	const struct arrow *arrow;
	enum conf_transport transport;
	bool server;
	char name[96];
};

/* The callbacks from the n-th on; those that a stage is held in count as after it. Locked. */
static void
events_from(const struct conf_channel *c, uint32_t first, char *text, size_t bytes)
{
	text[0] = '\0';
	for (uint32_t i = first; i < c->event_count; i++) {
		size_t used = strlen(text);

		(void)snprintf(text + used, bytes - used, "%s%s", used != 0 ? " " : "",
		               event_names[c->events[i]]);
	}
}

static void
arrow_leads_where_the_table_says(void **state)
{
	const struct one_case *c = *state;
	const struct arrow *a = c->arrow;
	struct conf_world *w = conf_world_new(c->transport);
	const char *expected = a->events[c->server ? 0 : 1];
	enum kmcl_state to = a->to[c->server ? 0 : 1];
	struct kmcl_channel *ch;
	char seen[160] = "";
	struct stage s;
	uint32_t first;
	int64_t limit = 0;

	if (expected == NULL)
		expected = a->events[c->server ? 1 : 0];
	stage_enter(&s, w, c->server, a->from, false);
	ch = kmcl_channel_from_handle(s.subject->handle);
	conf_lock(w);
	/* Opened is part of the arrow that begins inside it. */
	first = s.subject->event_count;
	if (a->from == STAGE_O && strncmp(expected, "Opened", 6) == 0)
		first--;
	conf_unlock(w);
	a->pull(&s);
	/* Both are levels that are reached and then stay. */
	do {
		conf_yield(&limit, a->name, __FILE__, __LINE__);
		conf_lock(w);
		events_from(s.subject, first, seen, sizeof(seen));
		conf_unlock(w);
	} while (strlen(seen) < strlen(expected) || kmcl_channel_state(ch) != to);
	assert_string_equal(seen, expected);
	assert_int_equal(atomic_load(&ch->fsm.failed), a->failed);
	assert_false(s.subject->callbacks_overlapped);
	stage_free(&s);
	conf_world_free(w);
}

int
main(void)
{
	static struct one_case cases[ARROWS * 4];
	static struct CMUnitTest units[ARROWS * 4];
	size_t count = 0;

	for (size_t i = 0; i < ARROWS * 4; i++) {
		const struct arrow *a = &arrows[i / 4];
		bool server = i % 2 == 0, on_unix = i / 2 % 2 != 0;
		struct one_case *c = &cases[count];

		if ((a->who & (server ? SERVER : CLIENT)) == 0 || ((a->who & WITH_BUS) != 0 && !on_unix))
			continue;
		*c = (struct one_case){ a, on_unix ? CONF_UNIX : CONF_LOOPBACK, server, "" };
		(void)snprintf(c->name, sizeof(c->name), "%s_of_%s_in_%s@%s", a->name,
		               server ? "server" : "client", stage_names[a->from],
		               on_unix ? "unix" : "loopback");
		units[count] = (struct CMUnitTest){ c->name, arrow_leads_where_the_table_says, NULL, NULL, c };
		(void)printf("clause-test: %s %s\n", c->name, a->clauses);
		count++;
	}
	return _cmocka_run_group_tests("transitions", units, count, NULL, NULL) == 0 ? EXIT_SUCCESS
	                                                                             : EXIT_FAILURE;
}
