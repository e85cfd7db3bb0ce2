/* SPDX-License-Identifier: MIT */
/* The core of the integration components, with the heartbeat as its user. */
#include <initguid.h>

#include "heartbeat.h"
#include "ic_guest.h"

/* ---- heartbeat with a guest -------------------------------------------------------------------- */

static struct heartbeat *
beat_on(struct conf_world *w, const GUID *instance, struct heartbeat_options *options)
{
	struct heartbeat *heartbeat;

	options->ic.bus = guest_options(w, instance).bus;
	options->ic.instance = instance;
	assert_status(heartbeat_create(options, &heartbeat), STATUS_SUCCESS);
	guest_options_done(&options->ic);
	return heartbeat;
}

static struct heartbeat_state
beat_state(struct heartbeat *heartbeat)
{
	struct heartbeat_state state;

	heartbeat_query(heartbeat, &state, NULL);
	return state;
}

static struct ic_state
beat_ic(struct heartbeat *heartbeat)
{
	struct heartbeat_state state;
	struct ic_state ic;

	heartbeat_query(heartbeat, &state, &ic);
	return ic;
}

/* What hv_util does with a heartbeat. */
static void
serve_beat(struct ic_guest *g, uint8_t *packet, uint32_t bytes)
{
	uint64_t sequence;

	(void)g;
	if (bytes < GUEST_BODY + 8 || packet[GUEST_HEADER + 4] != IC_HEARTBEAT)
		abort();
	memcpy(&sequence, packet + GUEST_BODY, 8);
	sequence++;
	memcpy(packet + GUEST_BODY, &sequence, 8);
}

static struct ic_guest
beat_guest(struct conf_world *w, const GUID *instance)
{
	struct ic_guest g = guest_new(w, &HEARTBEAT_INTERFACE_TYPE, instance);

	g.serve = serve_beat;
	return g;
}

#define SLOW                         \
	{                            \
		.period_ms = 1000000 \
	}
#define FAST                   \
	{                      \
		.period_ms = 5 \
	}

/* ---- the offer, and every byte ------------------------------------------------------------------ */

static atomic_uint traced_good, traced_bad;

static void
trace_sink(void *ctx, const struct kmcl_trace_event *event)
{
	(void)ctx;
	if (event->kind != KMCL_TRACE_SEND && event->kind != KMCL_TRACE_FETCH)
		return;
	atomic_fetch_add(event->packet_type == 6 && !event->completion && event->transaction_id == 0
	                         ? &traced_good
	                         : &traced_bad,
	                 1);
}

static void
offer_is_a_message_pipe_for_software(struct conf_world *w)
{
	struct heartbeat_options options = SLOW;
	GUID instance = conf_new_guid();
	struct heartbeat *heartbeat = beat_on(w, &instance, &options);
	struct kmcl_offer_info offers[64];
	uint32_t count, found = 0;

	conf_poll_until((count = kmcl_bus_offers(w->guest, offers, 64)) != 0);
	for (uint32_t i = 0; i < count; i++) {
		if (memcmp(&offers[i].instance, &instance, sizeof(GUID)) != 0)
			continue;
		assert_memory_equal(&offers[i].type, &HEARTBEAT_INTERFACE_TYPE, sizeof(GUID));
		/* Pipe, device interface; the loopback bus says so, too. */
		assert_int_equal(offers[i].flags & ~0x100, 0x11);
		found++;
	}
	assert_int_equal(found, 1);
	heartbeat_destroy(heartbeat);
}

static void
every_byte_is_as_hv_util_wants_it(struct conf_world *w)
{
	static const uint8_t negotiate[] = {
		1, 0, 0, 0, 44, 0, 0, 0,              /* pipe: data, bytes */
		0, 0, 0, 0, 0,  0, 0, 0, 0, 0, 24, 0, /* versions, type, versions, size */
		0, 0, 0, 0, 1,  3, 0, 0,              /* status, id, transaction | request */
		2, 0, 2, 0, 0,  0, 0, 0,              /* counts */
		3, 0, 0, 0, 1,  0, 0, 0,              /* frameworks */
		3, 0, 0, 0, 1,  0, 0, 0,              /* messages */
		0, 0, 0, 0,                           /* up to a multiple of 8 */
	};
	static const uint8_t beat[] = {
		1, 0, 0, 0, 36, 0, 0, 0, 3, 0, 0, 0, 1, 0, 3, 0, 0, 0, 16, 0, 0, 0, 0, 0,
		2, 3, 0, 0, 0,  0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,  0, 0, 0, 0, 0,
	};
	struct heartbeat_options options = SLOW;
	GUID instance = conf_new_guid();
	struct heartbeat *heartbeat = beat_on(w, &instance, &options);
	struct ic_guest g = beat_guest(w, &instance);
	const struct conf_packet *p;

	atomic_store(&traced_good, 0);
	atomic_store(&traced_bad, 0);
	kmcl_set_trace(trace_sink, NULL);
	guest_open(&g);
	(void)guest_await(&g, 2);
	conf_poll_until(beat_state(heartbeat).beats == 1);
	kmcl_set_trace(NULL, NULL);
	p = guest_await(&g, 1);
	assert_int_equal(g.c->packets[0]->bytes, sizeof(negotiate));
	assert_memory_equal(g.c->packets[0]->payload, negotiate, sizeof(negotiate));
	p = g.c->packets[1];
	assert_int_equal(p->bytes, sizeof(beat));
	assert_memory_equal(p->payload, beat, sizeof(beat));
	/* Two packets and their answers, each sent and fetched. */
	assert_int_equal(atomic_load(&traced_good), 8);
	assert_int_equal(atomic_load(&traced_bad), 0);
	guest_close(&g);
	heartbeat_destroy(heartbeat);
}

/* ---- versions ----------------------------------------------------------------------------------- */

static void
every_pair_of_versions_is_agreed_on(struct conf_world *w)
{
	static const uint32_t frameworks[] = { GUEST_VERSION(3, 0), GUEST_VERSION(1, 0) };
	static const uint32_t versions[] = { GUEST_VERSION(3, 0), GUEST_VERSION(1, 0) };
	struct heartbeat_options options = SLOW;
	GUID instance = conf_new_guid();
	struct heartbeat *heartbeat = beat_on(w, &instance, &options);

	for (uint32_t i = 0; i < 4; i++) {
		struct ic_guest g = beat_guest(w, &instance);
		const uint8_t *header;
		struct ic_state ic;

		memset(g.frameworks, 0, sizeof(g.frameworks));
		memset(g.versions, 0, sizeof(g.versions));
		g.frameworks[0] = frameworks[i / 2];
		/* A guest that knows newer ones, too. */
		g.versions[0] = GUEST_VERSION(7, 0);
		g.versions[1] = versions[i % 2];
		guest_open(&g);
		header = guest_await(&g, 2)->payload + GUEST_HEADER;
		ic = beat_ic(heartbeat);
		assert_int_equal(ic.phase, IC_READY);
		assert_int_equal(GUEST_VERSION(ic.framework.major, ic.framework.minor),
		                 frameworks[i / 2]);
		assert_int_equal(GUEST_VERSION(ic.message.major, ic.message.minor),
		                 versions[i % 2]);
		/* Requests say what was agreed. */
		assert_int_equal(wire_get16(header), frameworks[i / 2] >> 16);
		assert_int_equal(wire_get16(header + 6), versions[i % 2] >> 16);
		conf_poll_until(beat_state(heartbeat).beats == 1);
		guest_close(&g);
		conf_poll_until(beat_ic(heartbeat).phase == IC_CLOSED);
	}
	assert_int_equal(beat_ic(heartbeat).opens, 4);
	heartbeat_destroy(heartbeat);
}

enum refusal {
	REFUSE_COUNTS,
	REFUSE_FRAMEWORK,
	REFUSE_MESSAGE,
	REFUSE_TWO,
	REFUSE_TWO_FRAMEWORKS,
	REFUSE_SHORT,
	REFUSE_STATUS,
	REFUSE_TYPE,
	REFUSE_SIZE,
	REFUSALS
};

static bool
alter_refusal(struct ic_guest *g, uint8_t *packet, uint32_t *bytes)
{
	uint8_t *header = packet + GUEST_HEADER, *body = packet + GUEST_BODY;

	(void)bytes;
	switch (*(enum refusal *)g->ctx) {
	case REFUSE_COUNTS:
		memset(body, 0, 4);
		break;
	case REFUSE_FRAMEWORK:
		wire_put16(body + 8, 2);
		break;
	case REFUSE_MESSAGE:
		wire_put16(body + 14, 1);
		break;
	case REFUSE_TWO:
		wire_put16(body + 2, 2);
		break;
	case REFUSE_TWO_FRAMEWORKS:
		wire_put16(body, 2);
		break;
	case REFUSE_SHORT:
		wire_put16(header + 10, 15);
		break;
	case REFUSE_STATUS:
		wire_put32(header + 12, IC_E_FAIL);
		break;
	case REFUSE_TYPE:
		wire_put16(header + 4, IC_HEARTBEAT);
		break;
	case REFUSE_SIZE:
		wire_put16(header + 10, 4000);
		break;
	case REFUSALS:
		break;
	}
	return true;
}

static void
guest_that_refuses_is_left_alone_until_it_opens_again(struct conf_world *w)
{
	struct heartbeat_options options = FAST;
	GUID instance = conf_new_guid();
	struct heartbeat *heartbeat = beat_on(w, &instance, &options);

	for (enum refusal how = 0; how <= REFUSALS; how++) {
		struct ic_guest g = beat_guest(w, &instance);

		g.alter = alter_refusal;
		g.ctx = &how;
		guest_open(&g);
		if (how == REFUSALS) {
			conf_poll_until(beat_state(heartbeat).beats >= 3);
		} else {
			conf_poll_until(beat_ic(heartbeat).phase == IC_REFUSED);
			/* A refusal is no health, and nothing more is sent. */
			assert_int_equal(beat_state(heartbeat).health,
			                 how == 0 ? HEARTBEAT_NEVER : beat_state(heartbeat).health);
			assert_int_equal(guest_count(&g), 1);
		}
		guest_close(&g);
		conf_poll_until(beat_ic(heartbeat).phase == IC_CLOSED);
	}
	assert_int_equal(beat_ic(heartbeat).malformed, 2);
	heartbeat_destroy(heartbeat);
}

static void
guest_without_common_version_refuses(struct conf_world *w)
{
	struct heartbeat_options options = SLOW;
	GUID instance = conf_new_guid();
	struct heartbeat *heartbeat = beat_on(w, &instance, &options);
	struct ic_guest g = beat_guest(w, &instance);

	memset(g.versions, 0, sizeof(g.versions));
	g.versions[0] = GUEST_VERSION(9, 9);
	guest_open(&g);
	conf_poll_until(beat_ic(heartbeat).phase == IC_REFUSED);
	guest_close(&g);
	heartbeat_destroy(heartbeat);
}

static void
slow_guest_is_offered_versions_again(struct conf_world *w)
{
	struct heartbeat_options options = SLOW;
	GUID instance = conf_new_guid();
	struct heartbeat *heartbeat;
	struct ic_guest g = beat_guest(w, &instance);
	uint8_t first[64];

	options.ic.negotiate_ms = 20;
	heartbeat = beat_on(w, &instance, &options);
	atomic_store(&g.silent, true);
	guest_open(&g);
	memcpy(first, guest_await(&g, 1)->payload, sizeof(first) < 56 ? sizeof(first) : 56);
	(void)guest_await(&g, 3);
	assert_true(beat_ic(heartbeat).timeouts >= 2);
	/* An answer to the first comes late, and is none. */
	first[GUEST_HEADER + 17] = 0x5;
	guest_send(&g, first, 56);
	conf_poll_until(beat_ic(heartbeat).stale == 1);
	assert_int_equal(beat_ic(heartbeat).phase, IC_NEGOTIATING);
	atomic_store(&g.silent, false);
	conf_poll_until(beat_state(heartbeat).beats == 1);
	guest_close(&g);
	heartbeat_destroy(heartbeat);
}

/* ---- hostile answers ---------------------------------------------------------------------------- */

static atomic_int wrong;

/* Instead of an answer to a heartbeat, a broken one. */
static bool
alter_wrong(struct ic_guest *g, uint8_t *packet, uint32_t *bytes)
{
	uint8_t *header = packet + GUEST_HEADER;

	(void)g;
	if (wire_get16(header + 4) != IC_HEARTBEAT)
		return true;
	switch (atomic_load(&wrong)) {
	case 1: /* of another request */
		header[16]++;
		break;
	case 2: /* not an answer */
		header[17] = 3;
		break;
	case 3:
		header[17] = 4;
		break;
	case 4: /* flagged as both */
		header[17] = 7;
		break;
	case 5: /* too short for a header: 19 bytes */
		wire_put32(packet + 4, 19);
		*bytes = 32;
		break;
	case 6: /* nothing behind the pipe header */
		wire_put32(packet + 4, 0);
		*bytes = 8;
		break;
	case 7: /* of another type */
		wire_put16(header + 4, IC_KVP);
		break;
	case 8: /* larger than what came */
		wire_put16(header + 10, 17);
		break;
	case 9:
		wire_put16(header + 10, 0xFFFF);
		break;
	case 10: /* the size is right, and larger than any heartbeat */
		wire_put32(packet + 4, 20 + 2000);
		wire_put16(header + 10, 2000);
		memset(packet + GUEST_BODY, 0xA5, 2000);
		*bytes = GUEST_BODY + 2000 + 4;
		break;
	case 11: /* no body */
		wire_put16(header + 10, 0);
		break;
	case 12: /* not increased */
		packet[GUEST_BODY]--;
		break;
	case 13: /* the driver failed */
		wire_put32(header + 12, IC_E_FAIL);
		break;
	case 14: /* a message type that is unknown; the library drops it */
		wire_put32(packet, 5);
		break;
	default:
		break;
	}
	return true;
}

static void
broken_answers_are_no_heartbeats_and_do_no_harm(struct conf_world *w)
{
	/* What each is counted as. */
	enum { NONE, STALE, MALFORMED, REPLY };
	static const int counted[] = { REPLY,     STALE,     STALE,     STALE,     STALE,
		                       MALFORMED, MALFORMED, MALFORMED, MALFORMED, MALFORMED,
		                       MALFORMED, REPLY,     REPLY,     REPLY,     NONE };
	struct heartbeat_options options = FAST;
	GUID instance = conf_new_guid();

	options.lost_after = 3;
	for (int how = 1; how <= 14; how++) {
		/* What ends no request needs a deadline; otherwise there must be none that a good answer may miss. */
		options.ic.reply_ms =
			counted[how] == STALE || counted[how] == NONE || how == 5 || how == 6
				? 10
				: 1000000;
		struct heartbeat *heartbeat = beat_on(w, &instance, &options);
		struct ic_guest g = beat_guest(w, &instance);
		struct ic_state before, after;
		uint32_t count;

		atomic_store(&wrong, 0);
		g.alter = alter_wrong;
		guest_open(&g);
		conf_poll_until(beat_state(heartbeat).health == HEARTBEAT_HEALTHY);
		before = beat_ic(heartbeat);
		atomic_store(&wrong, how);
		if (counted[how] == STALE)
			conf_poll_until(beat_ic(heartbeat).stale >= before.stale + 3);
		if (counted[how] == MALFORMED)
			conf_poll_until(beat_ic(heartbeat).malformed >= before.malformed + 3);
		conf_poll_until(beat_state(heartbeat).health == HEARTBEAT_LOST);
		after = beat_ic(heartbeat);
		assert_int_equal(after.phase, IC_READY);
		if (options.ic.reply_ms > 10)
			assert_int_equal(after.stale, before.stale);
		if (counted[how] != MALFORMED)
			assert_int_equal(after.malformed, before.malformed);
		/* As soon as it behaves it is healthy. */
		atomic_store(&wrong, 0);
		count = guest_count(&g);
		conf_poll_until(beat_state(heartbeat).health == HEARTBEAT_HEALTHY);
		assert_true(guest_count(&g) >= count);
		guest_close(&g);
		heartbeat_destroy(heartbeat);
	}
}

static void
packets_without_a_request_are_dropped(struct conf_world *w)
{
	struct heartbeat_options options = SLOW;
	GUID instance = conf_new_guid();
	struct heartbeat *heartbeat = beat_on(w, &instance, &options);
	struct ic_guest g = beat_guest(w, &instance);
	uint8_t packet[64] = { 0 };

	guest_open(&g);
	conf_poll_until(beat_state(heartbeat).beats == 1);
	memcpy(packet, guest_await(&g, 2)->payload, 48);
	packet[GUEST_HEADER + 17] = 0x5;
	/* The answer once more, and everything else that it may think of. */
	for (uint32_t i = 0; i < 256; i++) {
		packet[GUEST_HEADER + 16] = (uint8_t)i;
		guest_send(&g, packet, 48);
	}
	conf_poll_until(beat_ic(heartbeat).stale == 256);
	assert_int_equal(beat_state(heartbeat).beats, 1);
	assert_int_equal(beat_ic(heartbeat).phase, IC_READY);
	guest_close(&g);
	heartbeat_destroy(heartbeat);
}

/* One that breaks the rules of pipes loses its channel, and may come back. */
static void
guest_that_breaks_the_pipe_may_open_anew(struct conf_world *w)
{
	struct heartbeat_options options = FAST;
	GUID instance = conf_new_guid();
	struct heartbeat *heartbeat = beat_on(w, &instance, &options);

	for (uint32_t how = 0; how < 3; how++) {
		struct ic_guest g = beat_guest(w, &instance);
		uint8_t packet[GUEST_PACKET_MAX] = { 1 };
		static const struct {
			uint32_t announced, bytes;
		} rows[] = { { 100, 48 }, { 8000, 8008 }, { 0, 4 } };

		guest_open(&g);
		conf_poll_until(beat_state(heartbeat).health == HEARTBEAT_HEALTHY);
		if (rows[how].bytes >= 8)
			wire_put32(packet + 4, rows[how].announced);
		guest_send(&g, packet, rows[how].bytes);
		if (how != 2) {
			/* Nobody listens any more. */
			conf_poll_until(beat_state(heartbeat).health == HEARTBEAT_LOST);
		}
		guest_close(&g);
		conf_poll_until(beat_ic(heartbeat).phase == IC_CLOSED);
	}
	heartbeat_destroy(heartbeat);
}

/* ---- a guest's life ------------------------------------------------------------------------------ */

struct health_log {
	struct conf_world *world;
	enum heartbeat_health seen[32];
	uint32_t count;
};

static void
log_health(void *ctx, const struct heartbeat_state *state)
{
	struct health_log *log = ctx;

	conf_lock(log->world);
	if (log->count < 32)
		log->seen[log->count++] = state->health;
	conf_unlock(log->world);
}

static void
health_follows_the_guest(struct conf_world *w)
{
	struct health_log log = { .world = w };
	struct heartbeat_options options = FAST;
	GUID instance = conf_new_guid();
	struct heartbeat *heartbeat;
	struct ic_guest g = beat_guest(w, &instance);

	options.ic.reply_ms = 5000;
	options.changed = log_health;
	options.ctx = &log;
	heartbeat = beat_on(w, &instance, &options);
	assert_int_equal(beat_state(heartbeat).health, HEARTBEAT_NEVER);
	guest_open(&g);
	conf_await(w, log.count == 1);
	conf_poll_until(beat_state(heartbeat).beats >= 10);
	assert_true(beat_state(heartbeat).sequence >= 10);
	assert_true(beat_state(heartbeat).heard_100ns != 0);
	guest_close(&g);
	/* At once, without waiting for beats that fail. */
	conf_await(w, log.count == 2);
	assert_int_equal(beat_ic(heartbeat).phase, IC_CLOSED);
	guest_open(&g);
	conf_await(w, log.count == 4);
	conf_lock(w);
	assert_int_equal(log.seen[0], HEARTBEAT_HEALTHY);
	assert_int_equal(log.seen[1], HEARTBEAT_LOST);
	assert_int_equal(log.seen[2], HEARTBEAT_NEVER);
	assert_int_equal(log.seen[3], HEARTBEAT_HEALTHY);
	conf_unlock(w);
	heartbeat_destroy(heartbeat);
	guest_close(&g);
}

/* The guest's own word about its applications. */
static bool
alter_application(struct ic_guest *g, uint8_t *packet, uint32_t *bytes)
{
	(void)bytes;
	if (wire_get16(packet + GUEST_HEADER + 4) == IC_HEARTBEAT)
		wire_put32(packet + GUEST_BODY + 8, atomic_load((atomic_uint *)g->ctx));
	return true;
}

static void
application_state_is_told(struct conf_world *w)
{
	struct heartbeat_options options = FAST;
	GUID instance = conf_new_guid();
	struct heartbeat *heartbeat = beat_on(w, &instance, &options);
	struct ic_guest g = beat_guest(w, &instance);
	atomic_uint application = 1;

	g.alter = alter_application;
	g.ctx = &application;
	guest_open(&g);
	for (uint32_t i = 1; i <= 4; i++) {
		atomic_store(&application, i);
		conf_poll_until(beat_state(heartbeat).application == (i <= 3 ? i : 0));
	}
	guest_close(&g);
	heartbeat_destroy(heartbeat);
}

static void
guest_that_reads_nothing_is_lost(struct conf_world *w)
{
	struct heartbeat_options options = FAST;
	GUID instance = conf_new_guid();
	struct heartbeat *heartbeat;
	struct ic_guest g = beat_guest(w, &instance);

	options.ic.reply_ms = 5;
	heartbeat = beat_on(w, &instance, &options);
	guest_open(&g);
	conf_poll_until(beat_state(heartbeat).health == HEARTBEAT_HEALTHY);
	VmbChannelPause(g.c->handle);
	conf_poll_until(beat_state(heartbeat).health == HEARTBEAT_LOST);
	VmbChannelStart(g.c->handle);
	conf_poll_until(beat_state(heartbeat).health == HEARTBEAT_HEALTHY);
	guest_close(&g);
	heartbeat_destroy(heartbeat);
}

static void
component_ends_in_every_phase(struct conf_world *w)
{
	GUID instance = conf_new_guid();

	for (uint32_t phase = 0; phase < 4; phase++) {
		struct heartbeat_options options = FAST;
		struct heartbeat *heartbeat = beat_on(w, &instance, &options), *second;
		struct ic_guest g = beat_guest(w, &instance);

		/* There is one of a name. */
		options.ic = guest_options(w, &instance);
		assert_status(heartbeat_create(&options, &second), STATUS_OBJECT_NAME_COLLISION);
		assert_null(second);
		guest_options_done(&options.ic);
		atomic_store(&g.silent, phase == 1);
		if (phase != 0)
			guest_open(&g);
		if (phase == 1)
			(void)guest_await(&g, 1);
		else if (phase != 0)
			conf_poll_until(beat_state(heartbeat).beats >= 3);
		if (phase == 3)
			guest_close(&g);
		heartbeat_destroy(heartbeat);
		guest_close(&g);
	}
}

#define TEST(body) CONF_TEST(body, NULL, CONF_BUSES)

static const struct conf_test tests[] = {
	TEST(offer_is_a_message_pipe_for_software),
	TEST(every_byte_is_as_hv_util_wants_it),
	TEST(every_pair_of_versions_is_agreed_on),
	TEST(guest_that_refuses_is_left_alone_until_it_opens_again),
	TEST(guest_without_common_version_refuses),
	TEST(slow_guest_is_offered_versions_again),
	TEST(broken_answers_are_no_heartbeats_and_do_no_harm),
	TEST(packets_without_a_request_are_dropped),
	TEST(guest_that_breaks_the_pipe_may_open_anew),
	TEST(health_follows_the_guest),
	TEST(application_state_is_told),
	TEST(guest_that_reads_nothing_is_lost),
	TEST(component_ends_in_every_phase),
};

int
main(void)
{
	return CONF_RUN("ic", tests);
}
