/* SPDX-License-Identifier: MIT */
#include "stage.h"

#include <string.h>

const char *const stage_names[STAGE_STATES] = { "D",       "E",       "O", "P", "S", "A",
	                                        "U_pause", "U_close", "C", "F" };

struct conf_send *
stage_send(struct stage *s, struct conf_channel *c)
{
	assert_true(s->send_count < sizeof(s->sends) / sizeof(s->sends[0]));
	return s->sends[s->send_count++] = conf_send_new(c);
}

/* A client that is closed from the other side gives its GPADL up where it has to. */
static NTSTATUS
delete_in_closed(struct conf_channel *c, enum conf_event event)
{
	struct stage *s = c->ctx;

	if (event == CONF_CLOSED)
		VmbChannelDeleteGpadl(c->handle, s->gpadl);
	return STATUS_SUCCESS;
}

static void
make_gpadl(struct stage *s)
{
	PMDL mdl;

	assert_int_equal(VmbChannelCreateGpadlFromMdl(s->pair.client->handle, 0, s->mdl, 0, 0,
	                                              &s->gpadl),
	                 STATUS_SUCCESS);
	if (!s->subject->is_server)
		return;
	conf_lock(s->peer->world);
	s->peer->ctx = s;
	s->peer->on_event = delete_in_closed;
	conf_unlock(s->peer->world);
	assert_int_equal(VmbChannelMapGpadl(s->subject->handle, 0, s->gpadl, &mdl), STATUS_SUCCESS);
	s->mapped = true;
}

/* The last packet has external data if the peer may send that. */
static void
send_held(struct stage *s, uint32_t count)
{
	conf_answer_with(s->subject, CONF_HOLD, NULL, 0);
	for (uint32_t i = 0; i < count; i++) {
		PMDL mdl = i + 1 == count && !s->peer->is_server ? s->mdl : NULL;
		uint64_t word = i + 1;

		assert_int_equal(VmbPacketSend(stage_send(s, s->peer)->packet, &word, sizeof(word),
		                               mdl, CONF_WAIT),
		                 STATUS_SUCCESS);
	}
	for (uint32_t i = 0; i < 2; i++)
		s->held[i] = conf_await_packets(s->subject, count - 1 + i);
}

static void
start_errand(struct stage *s, void (*run)(void *), struct conf_channel *c)
{
	errand_start(&s->errand, run, c->handle);
	s->errand_runs = true;
}

/* Open, paused, with one packet behind it. */
static void
enter_paused(struct stage *s)
{
	struct conf_packet *p;

	conf_answer_with(s->subject, CONF_HOLD, NULL, 0);
	assert_int_equal(conf_post(s->peer, 1), STATUS_SUCCESS);
	p = conf_await_packets(s->subject, 1);
	s->stale = p->handle;
	assert_true(conf_complete(p, NULL, 0));
	VmbChannelPause(s->subject->handle);
}

static void
enter_open_state(struct stage *s, bool gpadl)
{
	conf_open(s->pair.server, s->pair.client);
	if (gpadl)
		make_gpadl(s);
	switch (s->state) {
	case STAGE_P:
		enter_paused(s);
		break;
	case STAGE_S:
		enter_paused(s);
		errand_hold(s->subject, CONF_STARTED);
		VmbChannelStart(s->subject->handle);
		conf_await_entered(s->subject, CONF_STARTED, 2);
		break;
	case STAGE_A:
		send_held(s, 2);
		break;
	case STAGE_U_PAUSE:
		send_held(s, 2);
		start_errand(s, errand_pause, s->subject);
		conf_await_left(s->subject, CONF_SUSPEND, 1);
		break;
	case STAGE_U_CLOSE:
		send_held(s, 2);
		start_errand(s, errand_disable, s->subject);
		conf_await_left(s->subject, CONF_SUSPEND, 1);
		break;
	case STAGE_C:
		errand_hold(s->subject, CONF_CLOSED);
		start_errand(s, errand_disable, s->peer);
		conf_await_entered(s->subject, CONF_CLOSED, 1);
		break;
	default:
		send_held(s, 3);
		VmbChannelPacketFail(s->subject->packets[0]->handle);
		conf_lock(s->subject->world);
		s->subject->packets[0]->held = false;
		s->subject->held--;
		conf_unlock(s->subject->world);
		break;
	}
}

void
stage_enter(struct stage *s, struct conf_world *w, bool server, enum stage_state state, bool gpadl)
{
	memset(s, 0, sizeof(*s));
	s->state = state;
	s->pair.server = conf_server(w, NULL);
	/* Asked for; given only where the bus has some. */
	assert_int_equal(VmbServerChannelInitSetMmioMegabytes(s->pair.server->handle, 2, 0),
	                 STATUS_SUCCESS);
	s->pair.client = conf_client(w, NULL);
	s->subject = server ? s->pair.server : s->pair.client;
	s->peer = server ? s->pair.client : s->pair.server;
	s->memory = conf_pool(2 * PAGE_SIZE, 1);
	s->mdl = conf_mdl(s->memory, 2 * PAGE_SIZE);
	switch (state) {
	case STAGE_D:
		break;
	case STAGE_E:
		assert_int_equal(VmbChannelEnable(s->subject->handle), STATUS_SUCCESS);
		break;
	case STAGE_O:
		errand_hold(s->subject, CONF_OPENED);
		assert_int_equal(VmbChannelEnable(s->pair.server->handle), STATUS_SUCCESS);
		assert_int_equal(VmbChannelEnable(s->pair.client->handle), STATUS_SUCCESS);
		conf_await_entered(s->subject, CONF_OPENED, 1);
		break;
	default:
		enter_open_state(s, gpadl);
		break;
	}
}

static void
let_go(struct stage *s)
{
	errand_let_go(s->subject);
	conf_answer_with(s->subject, CONF_ECHO, NULL, 0);
	conf_complete_held(s->subject);
	if (s->errand_runs)
		errand_join(&s->errand);
	s->errand_runs = false;
}

void
stage_release(struct stage *s)
{
	if (s->state == STAGE_E)
		assert_int_equal(VmbChannelEnable(s->peer->handle), STATUS_SUCCESS);
	let_go(s);
}

void
stage_free(struct stage *s)
{
	let_go(s);
	if (s->mapped)
		VmbChannelUnmapGpadl(s->subject->handle, s->gpadl);
	VmbChannelDisable(s->pair.client->handle);
	VmbChannelDisable(s->pair.server->handle);
	for (uint32_t i = 0; i < s->send_count; i++)
		conf_send_free(s->sends[i]);
	conf_channel_free(s->pair.client);
	conf_channel_free(s->pair.server);
	conf_mdl_free(s->mdl);
	conf_pool_free(s->memory);
}
