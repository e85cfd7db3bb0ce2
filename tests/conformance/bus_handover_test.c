/* SPDX-License-Identifier: MIT */
/*
 * A bus that goes from one owner to another, here within one process: everything arrives and works, the guests are told
 * nothing, and whatever goes wrong on the way leaves it with the one who had it.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "errand.h"
#include "port/parcel.h"
#include "saver.h"

#define PATIENCE_NS 20000000000ull

/* ---- both ends ------------------------------------------------------------------------------------------- */

struct ends {
	int sender, receiver;
};

static struct ends
make_ends(void)
{
	int fds[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds), 0);
	return (struct ends){ fds[0], fds[1] };
}

static void
close_ends(struct ends *ends)
{
	close(ends->sender);
	if (ends->receiver >= 0)
		close(ends->receiver);
}

struct receiving {
	struct errand errand;
	int socket;
	struct kmcl_bus *bus;
	enum vmb_status status;
};

static void
run_receive(void *context)
{
	struct receiving *r = context;

	r->status = kmcl_bus_receive(r->socket, &r->bus);
}

static void
start_receiving(struct receiving *r, int socket)
{
	*r = (struct receiving){ .socket = socket, .status = VMB_E_IO };
	errand_start(&r->errand, run_receive, r);
}

/* The world's host bus changes hands; it is held before and after. */
static void
hand_over_bus(struct conf_world *w)
{
	struct ends ends = make_ends();
	struct receiving r;

	start_receiving(&r, ends.receiver);
	assert_int_equal(kmcl_bus_send(w->host, ends.sender), VMB_OK);
	errand_join(&r.errand);
	assert_int_equal(r.status, VMB_OK);
	kmcl_bus_close(w->host);
	w->host = r.bus;
	close_ends(&ends);
}

static struct saver *
open_saver(struct conf_world *w, struct conf_channel **client)
{
	struct saver *s = saver_new(conf_server(w, NULL));

	*client = conf_client(w, NULL);
	conf_open(s->channel, *client);
	return s;
}

static struct saver *
take_up(struct saver *s, struct state *state)
{
	struct saver *next = saver_successor(s, NULL);

	saver_enable(next);
	assert_int_equal(saver_restore(next->channel, state), STATUS_SUCCESS);
	VmbChannelStart(next->channel->handle);
	saver_state_free(state);
	return next;
}

/* After a handover that failed: here everything goes on. */
static struct saver *
expect_whole(struct saver *s, struct state *state, struct conf_channel *client)
{
	struct saver *next = take_up(s, state);

	assert_int_equal(kmcl_bus_release(s->channel->world->host), VMB_OK);
	conf_fence((struct conf_pair){ next->channel, client });
	conf_expect_events(client, "Opened Started PostStarted");
	return next;
}

/* ---- it arrives -------------------------------------------------------------------------------------------- */

static void
open_channel_goes_with_its_bus(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *s = open_saver(w, &client), *next;
	struct state state;

	assert_int_equal(kmcl_bus_hold(w->host), VMB_OK);
	state = saver_park(s);
	hand_over_bus(w);
	next = take_up(s, &state);
	conf_fence((struct conf_pair){ next->channel, client });
	assert_int_equal(kmcl_bus_release(w->host), VMB_OK);
	conf_fence((struct conf_pair){ next->channel, client });
	conf_await_left(next->channel, CONF_POST_STARTED, 1);
	conf_expect_events(next->channel, "Started PostStarted");
	conf_expect_events(client, "Opened Started PostStarted");
	/* The guest closes and opens again: messages, doorbells and GPADLs work. */
	VmbChannelDisable(client->handle);
	conf_await_left(next->channel, CONF_CLOSED, 1);
	conf_enable(client);
	conf_await_left(next->channel, CONF_POST_STARTED, 2);
	conf_await_left(client, CONF_POST_STARTED, 2);
	conf_fence((struct conf_pair){ next->channel, client });
	saver_free(next);
	saver_free(s);
}

static struct saver *
open_sub(struct saver *primary, struct conf_channel *client, struct conf_channel **sub_client)
{
	struct saver *sub = saver_new(conf_server(primary->channel->world, NULL));

	*sub_client = conf_client(client->world, NULL);
	assert_int_equal(VmbChannelInitSetPrimaryChannel(sub->channel->handle, primary->channel->handle),
	                 STATUS_SUCCESS);
	assert_int_equal(VmbChannelInitSetPrimaryChannel((*sub_client)->handle, client->handle),
	                 STATUS_SUCCESS);
	conf_open(sub->channel, *sub_client);
	return sub;
}

static struct saver *
take_up_sub(struct saver *s, struct saver *primary, struct state *state)
{
	struct saver *next = saver_successor(s, NULL);

	assert_int_equal(VmbChannelInitSetPrimaryChannel(next->channel->handle, primary->channel->handle),
	                 STATUS_SUCCESS);
	saver_enable(next);
	assert_int_equal(saver_restore(next->channel, state), STATUS_SUCCESS);
	VmbChannelStart(next->channel->handle);
	saver_state_free(state);
	return next;
}

/* Subchannels leave before their primary and come back after it; what was queued on them arrives. */
static void
family_goes_with_its_bus(struct conf_world *w)
{
	struct conf_channel *client, *sub_clients[2];
	struct saver *primary = open_saver(w, &client), *next, *subs[2], *next_subs[2];
	struct state state, sub_states[2];

	for (uint32_t i = 0; i < 2; i++)
		subs[i] = open_sub(primary, client, &sub_clients[i]);
	for (uint32_t life = 0; life < 2; life++) {
		assert_int_equal(kmcl_bus_hold(w->host), VMB_OK);
		for (uint32_t i = 0; i < 2; i++) {
			VmbChannelPause(subs[i]->channel->handle);
			saver_send(subs[i], 10 * life + i, 8, CONF_WAIT);
			sub_states[i] = saver_park(subs[i]);
		}
		state = saver_park(primary);
		hand_over_bus(w);
		next = take_up(primary, &state);
		for (uint32_t i = 0; i < 2; i++) {
			next_subs[i] = take_up_sub(subs[i], next, &sub_states[i]);
			conf_await_done(next_subs[i]->sends[0], 1);
			assert_int_equal(next_subs[i]->sends[0]->status, STATUS_SUCCESS);
			conf_fence((struct conf_pair){ next_subs[i]->channel, sub_clients[i] });
			saver_free(subs[i]);
			subs[i] = next_subs[i];
		}
		assert_int_equal(kmcl_bus_release(w->host), VMB_OK);
		conf_fence((struct conf_pair){ next->channel, client });
		saver_free(primary);
		primary = next;
	}
	for (uint32_t i = 0; i < 2; i++) {
		assert_int_equal(sub_clients[i]->packet_count, 2);
		conf_expect_events(sub_clients[i], "Opened Started PostStarted");
	}
	conf_expect_events(client, "Opened Started PostStarted");
	/* The new family is one: it closes with its primary's guest. */
	VmbChannelDisable(client->handle);
	for (uint32_t i = 0; i < 2; i++) {
		conf_await_left(subs[i]->channel, CONF_CLOSED, 1);
		conf_await_left(sub_clients[i], CONF_CLOSED, 1);
		saver_free(subs[i]);
	}
	conf_await_left(primary->channel, CONF_CLOSED, 1);
	saver_free(primary);
}

static void
bus_can_move_many_times(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *all[5];
	struct state state;

	all[0] = open_saver(w, &client);
	for (uint32_t i = 1; i < 5; i++) {
		assert_int_equal(kmcl_bus_hold(w->host), VMB_OK);
		state = saver_park(all[i - 1]);
		hand_over_bus(w);
		hand_over_bus(w);
		all[i] = take_up(all[i - 1], &state);
		assert_int_equal(kmcl_bus_release(w->host), VMB_OK);
		conf_fence((struct conf_pair){ all[i]->channel, client });
	}
	conf_expect_events(client, "Opened Started PostStarted");
	for (uint32_t i = 0; i < 5; i++)
		saver_free(all[i]);
}

static void
new_guests_come_to_the_new_owner(struct conf_world *w)
{
	struct kmcl_bus_stats before, after;
	struct kmcl_bus *guest;

	kmcl_bus_get_stats(w->host, &before);
	assert_int_equal(kmcl_bus_hold(w->host), VMB_OK);
	hand_over_bus(w);
	assert_int_equal(access(w->path, F_OK), 0);
	assert_int_equal(kmcl_bus_release(w->host), VMB_OK);
	assert_int_equal(kmcl_bus_connect(w->path, NULL, &guest), VMB_OK);
	kmcl_bus_get_stats(w->host, &after);
	assert_int_equal(after.guests, 2);
	assert_int_equal(after.guests_seen, before.guests_seen + 1);
	assert_true(after.messages_in > before.messages_in);
	kmcl_bus_close(guest);
	kmcl_bus_close(w->host);
	w->host = NULL;
	/* The socket file went with the listener. */
	assert_int_not_equal(access(w->path, F_OK), 0);
}

static void
messages_that_nobody_read_are_read_by_the_new_owner(struct conf_world *w)
{
	struct saver *s = saver_new(conf_server(w, NULL)), *next;
	struct conf_channel *client = conf_client(w, NULL);
	struct state state;

	saver_enable(s);
	assert_int_equal(kmcl_bus_hold(w->host), VMB_OK);
	assert_int_equal(VmbChannelEnable(client->handle), STATUS_SUCCESS);
	state = saver_park(s);
	hand_over_bus(w);
	next = take_up(s, &state);
	conf_expect_events(next->channel, "");
	assert_int_equal(kmcl_bus_release(w->host), VMB_OK);
	conf_await_left(client, CONF_POST_STARTED, 1);
	conf_await_left(next->channel, CONF_POST_STARTED, 1);
	conf_fence((struct conf_pair){ next->channel, client });
	saver_free(next);
	saver_free(s);
}

static void
every_guest_moves(struct conf_world *w)
{
	struct saver *s = saver_new(conf_server(w, NULL)), *next;
	struct kmcl_bus *guests[8];
	struct kmcl_bus_stats stats;
	struct state state;

	saver_enable(s);
	for (uint32_t i = 0; i < 8; i++)
		assert_int_equal(kmcl_bus_connect(w->path, NULL, &guests[i]), VMB_OK);
	assert_int_equal(kmcl_bus_hold(w->host), VMB_OK);
	state = saver_park(s);
	hand_over_bus(w);
	next = take_up(s, &state);
	kmcl_bus_get_stats(w->host, &stats);
	assert_int_equal(stats.guests, 9);
	assert_int_equal(kmcl_bus_release(w->host), VMB_OK);
	for (uint32_t i = 0; i < 8; i++) {
		struct kmcl_offer_info offers[4];

		assert_int_equal(kmcl_bus_offers(guests[i], offers, 4), 1);
		kmcl_bus_close(guests[i]);
	}
	conf_poll_until((kmcl_bus_get_stats(w->host, &stats), stats.guests == 1));
	saver_free(next);
	saver_free(s);
}

static void
what_nobody_takes_up_is_revoked_by_the_new_owner(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *s = open_saver(w, &client);
	struct kmcl_offer_info offers[2];
	struct state state;

	assert_int_equal(kmcl_bus_hold(w->host), VMB_OK);
	state = saver_park(s);
	hand_over_bus(w);
	conf_expect_events(client, "Opened Started PostStarted");
	assert_int_equal(kmcl_bus_release(w->host), VMB_OK);
	conf_await_left(client, CONF_CLOSED, 1);
	conf_poll_until(kmcl_bus_offers(w->guest, offers, 2) == 0);
	saver_state_free(&state);
	saver_free(s);
}

static void
offer_that_a_guest_has_yet_to_release_moves_too(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *s = open_saver(w, &client), *again;
	struct errand disable;

	/* Revoked while held: the client's release of the id waits in the socket. */
	assert_int_equal(kmcl_bus_hold(w->host), VMB_OK);
	VmbChannelDisable(s->channel->handle);
	conf_await_left(client, CONF_CLOSED, 1);
	hand_over_bus(w);
	again = saver_successor(s, NULL);
	saver_enable(again);
	VmbChannelStart(again->channel->handle);
	assert_int_equal(kmcl_bus_release(w->host), VMB_OK);
	errand_start(&disable, errand_disable, client->handle);
	errand_join(&disable);
	conf_enable(client);
	conf_await_left(again->channel, CONF_POST_STARTED, 1);
	conf_await_left(client, CONF_POST_STARTED, 2);
	conf_fence((struct conf_pair){ again->channel, client });
	saver_free(again);
	saver_free(s);
}

/* ---- who has what ------------------------------------------------------------------------------------------ */

static void
only_a_held_bus_without_channels_can_be_sent(struct conf_world *w)
{
	struct conf_channel *client;
	struct saver *s = open_saver(w, &client), *next;
	struct ends ends = make_ends();
	struct kmcl_bus *loopback, *none;
	struct state state;
	int other;

	assert_int_equal(kmcl_bus_send(w->host, ends.sender), VMB_E_STATE);
	assert_int_equal(kmcl_bus_hold(w->host), VMB_OK);
	assert_int_equal(kmcl_bus_send(w->host, ends.sender), VMB_E_STATE);
	assert_int_equal(kmcl_bus_send(w->guest, ends.sender), VMB_E_INVALID);
	assert_int_equal(kmcl_bus_send(NULL, ends.sender), VMB_E_INVALID);
	state = saver_park(s);
	assert_int_equal(kmcl_bus_send(w->host, -1), VMB_E_INVALID);
	assert_int_equal(kmcl_bus_receive(-1, &none), VMB_E_INVALID);
	other = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	assert_int_equal(kmcl_bus_send(w->host, other), VMB_E_INVALID);
	close(other);
	assert_int_equal(kmcl_bus_loopback_host(&loopback), VMB_OK);
	assert_int_equal(kmcl_bus_hold(loopback), VMB_OK);
	assert_int_equal(kmcl_bus_send(loopback, ends.sender), VMB_E_UNSUPPORTED);
	assert_int_equal(kmcl_bus_release(loopback), VMB_OK);
	close_ends(&ends);
	next = expect_whole(s, &state, client);
	saver_free(next);
	saver_free(s);
}

static void
bus_that_was_sent_can_only_be_closed(struct conf_world *w)
{
	struct conf_channel *late;
	struct ends ends = make_ends();
	struct kmcl_bus *old = w->host;
	struct kmcl_bus_stats stats;
	struct receiving r;

	late = conf_server(w, NULL);
	assert_int_equal(kmcl_bus_hold(old), VMB_OK);
	start_receiving(&r, ends.receiver);
	assert_int_equal(kmcl_bus_send(old, ends.sender), VMB_OK);
	errand_join(&r.errand);
	assert_int_equal(kmcl_bus_hold(old), VMB_E_STATE);
	assert_int_equal(kmcl_bus_release(old), VMB_E_STATE);
	assert_int_equal(kmcl_bus_send(old, ends.sender), VMB_E_STATE);
	assert_int_equal(VmbChannelEnable(late->handle), STATUS_NO_SUCH_DEVICE);
	kmcl_bus_get_stats(old, &stats);
	assert_int_equal(stats.guests, 0);
	/* The socket is as good as before for what else is to be said. */
	assert_int_equal(send(ends.sender, "more", 4, 0), 4);
	assert_int_equal(recv(ends.receiver, (char[8]){ 0 }, 8, 0), 4);
	/* It has the path and the guests already. */
	w->host = r.bus;
	assert_int_equal(kmcl_bus_release(w->host), VMB_OK);
	kmcl_bus_close(old);
	assert_int_equal(access(w->path, F_OK), 0);
	kmcl_bus_get_stats(w->host, &stats);
	assert_int_equal(stats.guests, 1);
	close_ends(&ends);
}

struct sending {
	struct errand errand;
	struct kmcl_bus *bus;
	int socket;
	enum vmb_status status;
};

static void
run_send(void *context)
{
	struct sending *s = context;

	s->status = kmcl_bus_send(s->bus, s->socket);
}

struct enabling {
	struct errand errand;
	VMBCHANNEL channel;
	NTSTATUS status;
};

static void
run_enable(void *context)
{
	struct enabling *e = context;

	e->status = VmbChannelEnable(e->channel);
}

/* A receiver that takes its time keeps nobody from looking at the bus, and nothing is changed under it. */
static void
bus_that_is_being_sent_can_be_looked_at(struct conf_world *w)
{
	struct conf_channel *client, *late = conf_server(w, NULL);
	struct saver *s = open_saver(w, &client);
	struct ends ends = make_ends();
	struct kmcl_bus_stats stats;
	struct sending sending = { .bus = w->host, .socket = ends.sender };
	struct enabling enabling = { .channel = late->handle };
	struct vmb_parcel parcel;
	struct state state;

	assert_int_equal(kmcl_bus_hold(w->host), VMB_OK);
	state = saver_park(s);
	errand_start(&sending.errand, run_send, &sending);
	vmb_parcel_init(&parcel, true);
	assert_int_equal(vmb_parcel_receive(&parcel, ends.receiver, conf_now() + PATIENCE_NS), VMB_OK);
	/* The sender waits for our word. */
	kmcl_bus_get_stats(w->host, &stats);
	assert_int_equal(stats.guests, 1);
	assert_int_equal(kmcl_bus_release(w->host), VMB_E_STATE);
	assert_int_equal(kmcl_bus_hold(w->host), VMB_E_STATE);
	assert_int_equal(kmcl_bus_send(w->host, ends.sender), VMB_E_STATE);
	errand_start(&enabling.errand, run_enable, &enabling);
	vmb_parcel_fini(&parcel);
	close(ends.receiver);
	ends.receiver = -1;
	errand_join(&sending.errand);
	assert_int_equal(sending.status, VMB_E_CLOSED);
	errand_join(&enabling.errand);
	assert_int_equal(enabling.status, STATUS_SUCCESS);
	assert_int_equal(kmcl_bus_release(w->host), VMB_OK);
	conf_await_left(client, CONF_CLOSED, 1);
	saver_state_free(&state);
	saver_free(s);
	close_ends(&ends);
}

/* ---- receivers that do not do as they should ------------------------------------------------------------------- */

enum fault {
	DIES_AT_ONCE,
	DIES_WITH_EVERYTHING,
	DIES_BEFORE_TAKEN,
	SAYS_ANOTHER_SUM,
	SAYS_ANOTHER_WORD,
	SAYS_NONSENSE,
	REFUSES,
	REFUSES_WITH_NOTHING,
	FAULTS
};

struct bad_receiver {
	struct errand errand;
	int socket;
	enum fault fault;
};

static void
run_bad_receiver(void *context)
{
	struct bad_receiver *bad = context;
	uint64_t until = conf_now() + PATIENCE_NS;
	struct vmb_parcel parcel;
	enum vmb_status status = VMB_OK;
	uint32_t ignored;

	vmb_parcel_init(&parcel, true);
	if (bad->fault != DIES_AT_ONCE)
		status = vmb_parcel_receive(&parcel, bad->socket, until);
	switch (status == VMB_OK ? bad->fault : FAULTS) {
	case DIES_BEFORE_TAKEN:
		VMB_IGNORE(vmb_parcel_say(bad->socket, VMB_PARCEL_HOLDS, vmb_parcel_crc(&parcel), until));
		VMB_IGNORE(vmb_parcel_hear(bad->socket, VMB_PARCEL_YOURS, &ignored, until));
		break;
	case SAYS_ANOTHER_SUM:
		VMB_IGNORE(vmb_parcel_say(bad->socket, VMB_PARCEL_HOLDS, 1 + vmb_parcel_crc(&parcel),
		                          until));
		break;
	case SAYS_ANOTHER_WORD:
		VMB_IGNORE(vmb_parcel_say(bad->socket, VMB_PARCEL_TAKEN, 0, until));
		break;
	case SAYS_NONSENSE:
		(void)!send(bad->socket, "thank you", 9, MSG_NOSIGNAL);
		break;
	case REFUSES:
		VMB_IGNORE(vmb_parcel_say(bad->socket, VMB_PARCEL_REFUSED, (uint32_t)-VMB_E_UNSUPPORTED,
		                          until));
		break;
	case REFUSES_WITH_NOTHING:
		VMB_IGNORE(vmb_parcel_say(bad->socket, VMB_PARCEL_REFUSED, 0, until));
		break;
	default:
		break;
	}
	vmb_parcel_fini(&parcel);
	close(bad->socket);
}

static void
receiver_that_fails_leaves_the_sender_whole(struct conf_world *w)
{
	static const enum vmb_status expected[FAULTS] = {
		[DIES_AT_ONCE] = VMB_E_CLOSED,
		[DIES_WITH_EVERYTHING] = VMB_E_CLOSED,
		[DIES_BEFORE_TAKEN] = VMB_E_CLOSED,
		[SAYS_ANOTHER_SUM] = VMB_E_MALFORMED,
		[SAYS_ANOTHER_WORD] = VMB_E_MALFORMED,
		[SAYS_NONSENSE] = VMB_E_MALFORMED,
		[REFUSES] = VMB_E_UNSUPPORTED,
		[REFUSES_WITH_NOTHING] = VMB_E_MALFORMED,
	};
	struct saver *all[FAULTS + 1];
	struct conf_channel *client;
	struct state state;

	all[0] = open_saver(w, &client);
	for (uint32_t i = 0; i < FAULTS; i++) {
		struct ends ends = make_ends();
		struct bad_receiver bad = { .socket = ends.receiver, .fault = (enum fault)i };

		assert_int_equal(kmcl_bus_hold(w->host), VMB_OK);
		state = saver_park(all[i]);
		errand_start(&bad.errand, run_bad_receiver, &bad);
		assert_int_equal(kmcl_bus_send(w->host, ends.sender), expected[i]);
		errand_join(&bad.errand);
		ends.receiver = -1;
		close_ends(&ends);
		all[i + 1] = expect_whole(all[i], &state, client);
	}
	for (uint32_t i = 0; i <= FAULTS; i++)
		saver_free(all[i]);
}

/* ---- senders that do not ------------------------------------------------------------------------------------------ */

/* A bus with an open channel, parked, as a parcel; everything is still the world's bus's. */
struct captured {
	struct vmb_parcel parcel;
	struct saver *saver;
	struct state state;
	struct conf_channel *client;
};

struct capturing {
	struct errand errand;
	int socket;
	struct vmb_parcel *parcel;
	enum vmb_status status;
};

static void
run_capture(void *context)
{
	struct capturing *c = context;

	c->status = vmb_parcel_receive(c->parcel, c->socket, conf_now() + PATIENCE_NS);
	(void)shutdown(c->socket, SHUT_RDWR);
}

static struct captured
capture(struct conf_world *w)
{
	struct ends ends = make_ends();
	struct captured c;
	struct capturing capturing = { .socket = ends.receiver, .parcel = &c.parcel };

	c.saver = open_saver(w, &c.client);
	vmb_parcel_init(&c.parcel, true);
	assert_int_equal(kmcl_bus_hold(w->host), VMB_OK);
	c.state = saver_park(c.saver);
	errand_start(&capturing.errand, run_capture, &capturing);
	assert_int_equal(kmcl_bus_send(w->host, ends.sender), VMB_E_CLOSED);
	errand_join(&capturing.errand);
	assert_int_equal(capturing.status, VMB_OK);
	close_ends(&ends);
	return c;
}

static void
captured_free(struct captured *c)
{
	struct saver *next;

	vmb_parcel_fini(&c->parcel);
	next = expect_whole(c->saver, &c->state, c->client);
	saver_free(next);
	saver_free(c->saver);
}

/* Send this to a receiver that nobody confirms anything to. What it says of it. */
static enum vmb_status
offer_parcel(const struct vmb_parcel *parcel)
{
	uint64_t until = conf_now() + PATIENCE_NS;
	struct ends ends = make_ends();
	enum vmb_status sent, answered;
	struct receiving r;
	uint32_t sum;

	start_receiving(&r, ends.receiver);
	sent = vmb_parcel_send(parcel, ends.sender, until);
	answered = sent == VMB_OK ? vmb_parcel_hear(ends.sender, VMB_PARCEL_HOLDS, &sum, until) : sent;
	close(ends.sender);
	errand_join(&r.errand);
	close(ends.receiver);
	assert_null(r.bus);
	/* It would have taken it, but it was never told so. */
	if (answered == VMB_OK)
		assert_int_equal(r.status, VMB_E_CLOSED);
	else
		assert_int_equal(r.status, answered);
	return answered;
}

static void
receiver_that_is_not_told_to_take_it_does_not(struct conf_world *w)
{
	struct captured c = capture(w);

	for (uint32_t i = 0; i < 3; i++)
		assert_int_equal(offer_parcel(&c.parcel), VMB_OK);
	captured_free(&c);
}

/* With the outermost checksum right, as somebody would send who altered it on purpose. */
static void
bus_with_any_byte_altered_is_refused(struct conf_world *w)
{
	struct captured c = capture(w);

	for (size_t i = 0; i < c.parcel.byte_count; i++) {
		enum vmb_status status;

		c.parcel.bytes[i] ^= 0x40;
		status = offer_parcel(&c.parcel);
		c.parcel.bytes[i] ^= 0x40;
		assert_true(status == VMB_E_MALFORMED || status == VMB_E_UNSUPPORTED);
	}
	assert_int_equal(offer_parcel(&c.parcel), VMB_OK);
	captured_free(&c);
}

static void
bus_that_is_cut_short_is_refused(struct conf_world *w)
{
	struct captured c = capture(w);
	size_t whole = c.parcel.byte_count;
	uint32_t fds = c.parcel.fd_count;

	for (c.parcel.byte_count = 0; c.parcel.byte_count < whole; c.parcel.byte_count++)
		assert_int_equal(offer_parcel(&c.parcel), VMB_E_MALFORMED);
	for (c.parcel.fd_count = 0; c.parcel.fd_count < fds; c.parcel.fd_count++)
		assert_int_equal(offer_parcel(&c.parcel), VMB_E_MALFORMED);
	assert_int_equal(offer_parcel(&c.parcel), VMB_OK);
	captured_free(&c);
}

static void
descriptors_in_wrong_places_are_refused(struct conf_world *w)
{
	struct captured c = capture(w);
	int *fds = c.parcel.fds;

	/* Listener, its directory, socket, memory, two doorbells. */
	assert_int_equal(c.parcel.fd_count, 6);
	for (uint32_t i = 0; i < 4; i++) {
		for (uint32_t k = i + 1; k < 6; k++) {
			int swapped = fds[i];

			fds[i] = fds[k];
			fds[k] = swapped;
			assert_int_equal(offer_parcel(&c.parcel), VMB_E_MALFORMED);
			fds[k] = fds[i];
			fds[i] = swapped;
		}
	}
	captured_free(&c);
}

/* The chunk of this kind, n-th, altered at an offset of its content, with its checksum right. */
static enum vmb_status
offer_forged(struct captured *c, uint16_t kind, uint32_t offset, uint8_t value)
{
	struct vmb_parcel *p = &c->parcel;
	uint32_t length, sum;
	size_t at = 0;
	uint8_t *chunk, kept;
	enum vmb_status status;

	for (;;) {
		assert_true(at < p->byte_count);
		chunk = p->bytes + at;
		memcpy(&length, chunk + 8, sizeof(length));
		if ((chunk[6] | chunk[7] << 8) == kind)
			break;
		at += VMB_CHUNK_HEADER_BYTES + length;
	}
	kept = chunk[VMB_CHUNK_HEADER_BYTES + offset];
	assert_int_not_equal(kept, value);
	for (unsigned i = 0; i < 2; i++) {
		chunk[VMB_CHUNK_HEADER_BYTES + offset] = i == 0 ? value : kept;
		sum = vmb_crc32(vmb_crc32(0, chunk, 12), chunk + VMB_CHUNK_HEADER_BYTES, length);
		memcpy(chunk + 12, &sum, sizeof(sum));
		if (i == 0)
			status = offer_parcel(p);
	}
	return status;
}

static void
forged_buses_are_refused(struct conf_world *w)
{
	struct captured c = capture(w);
	uint32_t path = (uint32_t)strlen(w->path), name = 3, who;
	/* The guest's text. */
	const uint8_t *guest = memmem(c.parcel.bytes, c.parcel.byte_count, "pid ", 4);

	assert_non_null(guest);
	who = guest[-1];
	/* The path: too long, no text. */
	assert_int_equal(offer_forged(&c, VMB_PARCEL_BUS, 0, 255), VMB_E_MALFORMED);
	assert_int_equal(offer_forged(&c, VMB_PARCEL_BUS, 1, '\n'), VMB_E_MALFORMED);
	/* An unknown version, no guest was ever there, flags, more and fewer guests. */
	assert_int_equal(offer_forged(&c, VMB_PARCEL_BUS, 1 + path, 99), VMB_E_MALFORMED);
	assert_int_equal(offer_forged(&c, VMB_PARCEL_BUS, 1 + path + 4, 0), VMB_E_MALFORMED);
	assert_int_equal(offer_forged(&c, VMB_PARCEL_BUS, 1 + path + 48, 5), VMB_E_MALFORMED);
	assert_int_equal(offer_forged(&c, VMB_PARCEL_BUS, 1 + path + 48, 0), VMB_E_MALFORMED);
	assert_int_equal(offer_forged(&c, VMB_PARCEL_BUS, 1 + path + 52, 2), VMB_E_MALFORMED);
	assert_int_equal(offer_forged(&c, VMB_PARCEL_BUS, 1 + path + 52, 0), VMB_E_MALFORMED);
	/* The listener: another file in that directory. */
	assert_int_equal(offer_forged(&c, VMB_PARCEL_UNIX_LISTENER, 41, 'x'), VMB_E_MALFORMED);
	assert_int_equal(offer_forged(&c, VMB_PARCEL_UNIX_LISTENER, 40, (uint8_t)(name + 1)),
	                 VMB_E_MALFORMED);
	/* The guest: no text, no number. */
	assert_int_equal(offer_forged(&c, VMB_PARCEL_GUEST, 1, 127), VMB_E_MALFORMED);
	assert_int_equal(offer_forged(&c, VMB_PARCEL_GUEST, 0, 64), VMB_E_MALFORMED);
	assert_int_equal(offer_forged(&c, VMB_PARCEL_GUEST, 1 + who, 0), VMB_E_MALFORMED);
	assert_int_equal(offer_forged(&c, VMB_PARCEL_GUEST, 1 + who, 2), VMB_E_MALFORMED);
	/* The machine's own checks have their own tests. */
	assert_int_equal(offer_forged(&c, VMB_PARCEL_MACHINE, 20, 1), VMB_E_MALFORMED);
	assert_int_equal(offer_parcel(&c.parcel), VMB_OK);
	captured_free(&c);
}

static void
receiver_notices_that_its_sender_is_gone(struct conf_world *w)
{
	struct ends ends = make_ends();
	struct receiving r;

	(void)w;
	start_receiving(&r, ends.receiver);
	close(ends.sender);
	errand_join(&r.errand);
	assert_int_equal(r.status, VMB_E_CLOSED);
	close(ends.receiver);
	ends = make_ends();
	start_receiving(&r, ends.receiver);
	assert_int_equal(send(ends.sender, "what?", 5, 0), 5);
	errand_join(&r.errand);
	assert_int_equal(r.status, VMB_E_MALFORMED);
	close_ends(&ends);
}

static const struct conf_test tests[] = {
	CONF_TEST(open_channel_goes_with_its_bus, "RFB-6, STM-3", CONF_UNIX),
	CONF_TEST(family_goes_with_its_bus, "V5-1, RFB-6", CONF_UNIX),
	CONF_TEST(bus_can_move_many_times, "RFB-6", CONF_UNIX),
	CONF_TEST(new_guests_come_to_the_new_owner, NULL, CONF_UNIX),
	CONF_TEST(messages_that_nobody_read_are_read_by_the_new_owner, NULL, CONF_UNIX),
	CONF_TEST(every_guest_moves, NULL, CONF_UNIX),
	CONF_TEST(what_nobody_takes_up_is_revoked_by_the_new_owner, NULL, CONF_UNIX),
	CONF_TEST(offer_that_a_guest_has_yet_to_release_moves_too, NULL, CONF_UNIX),
	CONF_TEST(only_a_held_bus_without_channels_can_be_sent, NULL, CONF_UNIX),
	CONF_TEST(bus_that_was_sent_can_only_be_closed, NULL, CONF_UNIX),
	CONF_TEST(bus_that_is_being_sent_can_be_looked_at, NULL, CONF_UNIX),
	CONF_TEST(receiver_that_fails_leaves_the_sender_whole, NULL, CONF_UNIX),
	CONF_TEST(receiver_that_is_not_told_to_take_it_does_not, NULL, CONF_UNIX),
	CONF_TEST(bus_with_any_byte_altered_is_refused, NULL, CONF_UNIX),
	CONF_TEST(bus_that_is_cut_short_is_refused, NULL, CONF_UNIX),
	CONF_TEST(descriptors_in_wrong_places_are_refused, NULL, CONF_UNIX),
	CONF_TEST(forged_buses_are_refused, NULL, CONF_UNIX),
	CONF_TEST(receiver_notices_that_its_sender_is_gone, NULL, CONF_UNIX),
};

int
main(void)
{
	return CONF_RUN("bus_handover", tests);
}
