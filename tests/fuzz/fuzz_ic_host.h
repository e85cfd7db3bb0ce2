/* SPDX-License-Identifier: MIT */
/*
 * The owner's side of fuzz_ic.c: the components, how an input sets one up, what their owner asks of them, and what must hold
 * whenever nothing is on its way.
 */
#ifndef FUZZ_IC_HOST_H
#define FUZZ_IC_HOST_H

#include "fuzz_ic_rig.h"
#include "heartbeat.h"
#include "keyboard.h"
#include "kvp.h"
#include "shutdown.h"
#include "timesync.h"

/* The largest that a guest may send. */
#define IC_PACKET_BYTES 4096u
#define KVP_PACKET_BYTES 7448u
#define KEYBOARD_PACKET_BYTES 256u

DEFINE_GUID(INSTANCE, 0x8d1e61a3, 0x11c6, 0x4c31, 0x9a, 0x5c, 0x3e, 0x2b, 0x7f, 0x90, 0x41, 0x6d);

struct setup {
	struct ic_options ic;
	bool callbacks, clock, reference, guest_stays;
	uint32_t period_ms, lost_after;
};

/* What there is one of. */
struct component {
	const GUID *type;
	enum ic_message message; /* 0: no integration component */
	uint32_t packet_bytes;
	void (*create)(const struct setup *setup);
	void (*destroy)(void);
	void (*ask)(struct fuzz *fuzz);
	void (*check)(void);
};
static const struct component *component;

static struct {
	struct heartbeat *heartbeat;
	struct shutdown *shutdown;
	struct timesync *timesync;
	struct kvp *kvp;
	struct keyboard *keyboard;
	uint64_t opens;
	uint64_t accepted;   /* requests */
	uint64_t to_be_told; /* of them */
	atomic_uint_fast64_t told;
	atomic_bool is_ready;
	bool pauses_at_clock, is_paused; /* the fuzzer's between settled steps, else the DPC's */
	uint8_t id;                      /* of the last message */
} host;

/* ---- text ------------------------------------------------------------------------------------------ */

#define TEXT_ROOM 20001u

/* NULL, or a text that may lie in `text`. */
static const char *
some_text(struct fuzz *fuzz, char *text)
{
	static const char *const repeated[] = { "x", "A", "\xc3\xa4", "\xf0\x9f\x98\x80" };
	uint32_t kind = fuzz_u8(fuzz), count = fuzz_u16(fuzz) % 5000;
	const char *what = repeated[kind / 16 % 4];

	switch (kind % 16) {
	case 10:
		return NULL;
	case 11:
		return "";
	case 12:
		return "\xff\xff";
	case 13:
	case 14:
		text[0] = 0;
		for (uint32_t i = 0, at = 0; i < count; i++, at += (uint32_t)strlen(what))
			memcpy(text + at, what, strlen(what) + 1);
		return text;
	case 15:
		return "a\tB\n\x1b\b~";
	default:
		memset(text, 0, 9);
		fuzz_bytes(fuzz, text, 1 + count % 8);
		if (text[0] == 0)
			text[0] = 'k';
		return text;
	}
}

/* It was so many bytes of UTF-16, a terminator among them. */
static void
check_text(const char *text, size_t bytes)
{
	FUZZ_CHECK(text != NULL && strlen(text) <= (bytes / 2 - 1) * 3);
}

/* ---- the components: heartbeat ------------------------------------------------------------------------ */

static VOID
on_health(VOID *ctx, const struct heartbeat_state *state)
{
	FUZZ_CHECK(ctx == &host && state->application <= HEARTBEAT_APPLICATION_STOPPED);
}

static void
heartbeat_make(const struct setup *setup)
{
	struct heartbeat_options options = { .ic = setup->ic,
		                             .period_ms = setup->period_ms,
		                             .lost_after = setup->lost_after,
		                             .changed = setup->callbacks ? on_health : NULL,
		                             .ctx = &host };

	MUST(heartbeat_create(&options, &host.heartbeat));
}

static void
heartbeat_end(void)
{
	heartbeat_destroy(host.heartbeat);
}

static void
ask_nothing(struct fuzz *fuzz)
{
	(void)fuzz;
}

/* What they have in common. */
static void
check_ic(const struct ic_state *ic)
{
	FUZZ_CHECK(ic->replies + ic->stale + ic->malformed == rig.processed);
	FUZZ_CHECK(ic->replies + ic->timeouts <= ic->requests);
	FUZZ_CHECK(ic->opens == host.opens);
	FUZZ_CHECK(rig.guest != NULL || ic->phase == IC_CLOSED);
}

static void
heartbeat_check(void)
{
	struct heartbeat_state state;
	struct ic_state ic;

	heartbeat_query(host.heartbeat, &state, NULL);
	heartbeat_query(host.heartbeat, &state, &ic);
	check_ic(&ic);
	FUZZ_CHECK(state.beats <= ic.replies && state.beats == state.sequence);
	FUZZ_CHECK((state.health == HEARTBEAT_NEVER) == (state.beats == 0));
	FUZZ_CHECK(state.health != HEARTBEAT_HEALTHY || ic.phase == IC_READY);
}

/* ---- shutdown ------------------------------------------------------------------------------------------- */

static VOID
on_ready(VOID *ctx, BOOLEAN is_ready)
{
	FUZZ_CHECK(ctx == &host && atomic_exchange(&host.is_ready, is_ready) != is_ready);
}

static void
shutdown_make(const struct setup *setup)
{
	struct shutdown_options options = { .ic = setup->ic,
		                            .ready = setup->callbacks ? on_ready : NULL,
		                            .ctx = &host };

	MUST(shutdown_create(&options, &host.shutdown));
}

static void
shutdown_end_of_it(void)
{
	shutdown_destroy(host.shutdown);
}

static VOID
on_shutdown(VOID *ctx, NTSTATUS status, UINT32 guest_status)
{
	FUZZ_CHECK(ctx == &host && (status != STATUS_SUCCESS || guest_status == IC_S_OK));
	atomic_fetch_add(&host.told, 1);
}

static void
shutdown_request(struct fuzz *fuzz)
{
	static char text[TEXT_ROOM];
	struct shutdown_request request = { 0 };
	uint32_t bits = fuzz_u8(fuzz), action = fuzz_u8(fuzz);

	request.action =
	    (enum shutdown_action)(action < 0xF0 ? action % (SHUTDOWN_HIBERNATE + 1) : action);
	request.force = (bits & 1) != 0;
	request.done = (bits & 2) == 0 ? on_shutdown : NULL;
	request.ctx = &host;
	request.reason = fuzz_u8(fuzz);
	request.guest_seconds = fuzz_u8(fuzz);
	request.reply_ms = fuzz_u16(fuzz);
	request.message = some_text(fuzz, text);
	if (shutdown_ask(host.shutdown, &request) == STATUS_SUCCESS)
		host.to_be_told += request.done != NULL;
}

static void
shutdown_check(void)
{
	uint64_t told = atomic_load(&host.told);
	struct ic_state ic;

	shutdown_query(host.shutdown, &ic);
	check_ic(&ic);
	FUZZ_CHECK(told == host.to_be_told || told + 1 == host.to_be_told);
}

/* ---- timesync ------------------------------------------------------------------------------------------- */

static void *
pause_host(void *unused)
{
	VmbChannelPause(rig.host);
	return unused;
}

/* Between a component's decision to send and its send, the channel may be suspended under its hands. */
static UINT64
tell_time(VOID *ctx)
{
	pthread_t thread;

	FUZZ_CHECK(ctx == &host);
	if (host.pauses_at_clock && !host.is_paused) {
		FUZZ_CHECK(pthread_create(&thread, NULL, pause_host, NULL) == 0);
		FUZZ_CHECK(pthread_join(thread, NULL) == 0);
		host.is_paused = true;
	}
	return atomic_load(&rig.now);
}

static void
timesync_make(const struct setup *setup)
{
	struct timesync_options options = { .ic = setup->ic,
		                            .period_ms = setup->period_ms,
		                            .clock = setup->clock ? tell_time : NULL,
		                            .reference = setup->reference ? tell_time : NULL,
		                            .ctx = &host };

	MUST(timesync_create(&options, &host.timesync));
}

static void
timesync_end(void)
{
	timesync_destroy(host.timesync);
}

static void
timesync_ask(struct fuzz *fuzz)
{
	(void)fuzz;
	timesync_set(host.timesync);
}

static void
timesync_check(void)
{
	struct timesync_state state;
	struct ic_state ic;

	timesync_query(host.timesync, &state, NULL);
	timesync_query(host.timesync, &state, &ic);
	check_ic(&ic);
	FUZZ_CHECK(state.sets + state.samples <= ic.requests && state.answered <= ic.replies);
}

/* ---- kvp -------------------------------------------------------------------------------------------------- */

static void
kvp_make(const struct setup *setup)
{
	struct kvp_options options = { .ic = setup->ic };

	MUST(kvp_create(&options, &host.kvp));
}

static void
kvp_end_of_it(void)
{
	kvp_destroy(host.kvp);
}

static VOID
on_kvp(VOID *ctx, const struct kvp_result *result)
{
	FUZZ_CHECK(ctx == &host);
	if (result->key != NULL)
		check_text(result->key, KVP_KEY_BYTES);
	if (result->text != NULL)
		check_text(result->text, KVP_VALUE_BYTES);
	if (result->ip != NULL) {
		FUZZ_CHECK(result->ip->family <= 3);
		check_text(result->ip->addresses, 2048);
		check_text(result->ip->subnets, 2048);
		check_text(result->ip->gateways, 1024);
		check_text(result->ip->dns, 2048);
	}
	FUZZ_CHECK(result->status == STATUS_SUCCESS ||
	           (result->key == NULL && result->text == NULL && result->ip == NULL));
	atomic_fetch_add(&host.told, 1);
}

static NTSTATUS
kvp_ask_once(uint32_t what, enum kvp_pool pool, const char *key, const char *value, uint64_t number,
             KVP_DONE *done)
{
	switch (what) {
	case 1:
		return kvp_set_string(host.kvp, pool, key, value, done, &host);
	case 2:
		return kvp_set_u32(host.kvp, pool, key, (UINT32)number, done, &host);
	case 3:
		return kvp_set_u64(host.kvp, pool, key, number, done, &host);
	case 4:
		return kvp_delete(host.kvp, pool, key, done, &host);
	case 5:
		return kvp_enumerate(host.kvp, pool, (UINT32)number, done, &host);
	case 6:
		return kvp_get_ip_info(host.kvp, key, done, &host);
	default:
		return kvp_get(host.kvp, pool, key, done, &host);
	}
}

static void
kvp_ask(struct fuzz *fuzz)
{
	static char key_text[TEXT_ROOM], value_text[TEXT_ROOM];
	uint32_t what = fuzz_below(fuzz, 7), pool = fuzz_u8(fuzz), bits = fuzz_u8(fuzz);
	uint32_t count = 1 + ((bits & 2) != 0 ? fuzz_u8(fuzz) * 2u : 0);
	KVP_DONE *done = (bits & 1) == 0 ? on_kvp : NULL;
	const char *key = some_text(fuzz, key_text), *value = some_text(fuzz, value_text);
	uint64_t number = fuzz_u32(fuzz);

	for (uint32_t i = 0; i < count; i++) {
		if (kvp_ask_once(what, (enum kvp_pool)(pool < 0xF0 ? pool % 4 : pool), key, value,
		                 number, done) != STATUS_SUCCESS)
			continue;
		host.accepted++;
		host.to_be_told += done != NULL;
	}
}

static void
kvp_check(void)
{
	struct kvp_state state;
	struct ic_state ic;

	kvp_query(host.kvp, &state, NULL);
	kvp_query(host.kvp, &state, &ic);
	check_ic(&ic);
	FUZZ_CHECK(state.requests + state.done + state.failed == host.accepted);
	FUZZ_CHECK(state.requests <= KVP_MAXIMUM_REQUESTS);
}

/* ---- the keyboard ------------------------------------------------------------------------------------------- */

static VOID
on_leds(VOID *ctx, UINT16 leds)
{
	(void)leds;
	FUZZ_CHECK(ctx == &host);
}

static void
keyboard_make(const struct setup *setup)
{
	struct keyboard_options options = { .instance = &INSTANCE,
		                            .ready = setup->callbacks ? on_ready : NULL,
		                            .leds = setup->callbacks ? on_leds : NULL,
		                            .ctx = &host };

	MUST(keyboard_create(&options, &host.keyboard));
}

static void
keyboard_end(void)
{
	keyboard_destroy(host.keyboard);
}

static void
keyboard_ask(struct fuzz *fuzz)
{
	uint32_t how = fuzz_u8(fuzz), code = fuzz_u8(fuzz), info = fuzz_u8(fuzz);
	static char room[TEXT_ROOM];
	const char *text = some_text(fuzz, room);
	struct keyboard_state before, after;
	uint64_t most = 0;

	keyboard_query(host.keyboard, &before);
	if (how < 0x80) {
		if (keyboard_key(host.keyboard, (UINT16)code, info) == STATUS_SUCCESS)
			most = 1;
	} else if (text != NULL && keyboard_type(host.keyboard, text) == STATUS_SUCCESS) {
		/* Down and up, and shift in between. */
		most = 4 * strlen(text);
	}
	keyboard_query(host.keyboard, &after);
	FUZZ_CHECK(after.strokes - before.strokes <= most);
	FUZZ_CHECK(most <= 1 || (after.strokes - before.strokes) * 2 >= most);
}

static void
keyboard_check(void)
{
	struct keyboard_state state;

	keyboard_query(host.keyboard, &state);
	FUZZ_CHECK(state.malformed + state.refused <= rig.processed);
	FUZZ_CHECK(state.waiting == rig.sent - rig.finished);
	FUZZ_CHECK(state.waiting <= KEYBOARD_MAXIMUM_STROKES + 16);
	FUZZ_CHECK(rig.guest != NULL || (state.phase == KEYBOARD_CLOSED && state.leds == 0));
}

static const struct component components[] = {
	{ &HEARTBEAT_INTERFACE_TYPE, IC_HEARTBEAT, IC_PACKET_BYTES, heartbeat_make, heartbeat_end,
	  ask_nothing, heartbeat_check },
	{ &SHUTDOWN_INTERFACE_TYPE, IC_SHUTDOWN, IC_PACKET_BYTES, shutdown_make, shutdown_end_of_it,
	  shutdown_request, shutdown_check },
	{ &TIMESYNC_INTERFACE_TYPE, IC_TIMESYNC, IC_PACKET_BYTES, timesync_make, timesync_end,
	  timesync_ask, timesync_check },
	{ &KVP_INTERFACE_TYPE, IC_KVP, KVP_PACKET_BYTES, kvp_make, kvp_end_of_it, kvp_ask,
	  kvp_check },
	{ &KEYBOARD_INTERFACE_TYPE, 0, KEYBOARD_PACKET_BYTES, keyboard_make, keyboard_end,
	  keyboard_ask, keyboard_check },
};

#endif
