/* SPDX-License-Identifier: MIT */
/* The time component, and a guest that keeps a clock as Linux does. */
#include <initguid.h>

#include <time.h>

#include "ic_guest.h"
#include "timesync.h"

#define FLAG_SET 1
#define FLAG_SAMPLE 2
#define EPOCH_100NS 116444736000000000u

/* Clocks of the test. */
struct clocks {
	atomic_ullong host, reference;
	atomic_uint reads;
};

static UINT64
read_clock(VOID *ctx)
{
	struct clocks *clocks = ctx;

	assert_int_equal(KeGetCurrentIrql(), DISPATCH_LEVEL);
	atomic_fetch_add(&clocks->reads, 1);
	return atomic_load(&clocks->host);
}

static UINT64
read_reference(VOID *ctx)
{
	return atomic_load(&((struct clocks *)ctx)->reference);
}

static struct timesync *
time_on(struct conf_world *w, const GUID *instance, struct timesync_options *options)
{
	struct timesync *timesync;

	options->ic.bus = guest_options(w, instance).bus;
	options->ic.instance = instance;
	assert_status(timesync_create(options, &timesync), STATUS_SUCCESS);
	guest_options_done(&options->ic);
	return timesync;
}

static struct timesync_state
time_state(struct timesync *timesync)
{
	struct timesync_state state;

	timesync_query(timesync, &state, NULL);
	return state;
}

static struct ic_state
time_ic(struct timesync *timesync)
{
	struct timesync_state state;
	struct ic_state ic;

	timesync_query(timesync, &state, &ic);
	return ic;
}

/* As hv_util does: what is too short for the version is not answered. */
static void
serve_time(struct ic_guest *g, uint8_t *packet, uint32_t bytes)
{
	if (packet[GUEST_HEADER + 4] != IC_TIMESYNC ||
	    bytes < GUEST_BODY + (g->version > GUEST_VERSION(3, 0) ? 22u : 25u))
		abort();
}

static struct ic_guest
time_guest(struct conf_world *w, const GUID *instance, uint32_t version)
{
	struct ic_guest g = guest_new(w, &TIMESYNC_INTERFACE_TYPE, instance);

	g.serve = serve_time;
	memset(g.versions, 0, sizeof(g.versions));
	g.versions[0] = version;
	return g;
}

/* Where the flags of a message are. */
static uint8_t
flags_of(const struct ic_guest *g, const struct conf_packet *p)
{
	return p->payload[GUEST_BODY + (g->version > GUEST_VERSION(3, 0) ? 16 : 24)];
}

static void
clock_is_set_once_and_then_sampled_in_every_version(struct conf_world *w)
{
	static const uint32_t versions[] = { GUEST_VERSION(4, 0), GUEST_VERSION(3, 0),
		                             GUEST_VERSION(1, 0) };
	GUID instance = conf_new_guid();

	for (uint32_t i = 0; i < 3; i++) {
		struct clocks clocks = { .host = 0x0123456789abcdef,
			                 .reference = 0xfedcba9876543210 };
		struct timesync_options options = { .period_ms = 5,
			                            .clock = read_clock,
			                            .reference = read_reference,
			                            .ctx = &clocks };
		struct timesync *timesync = time_on(w, &instance, &options);
		struct ic_guest g = time_guest(w, &instance, versions[i]);
		uint8_t expected[28] = { 0xef, 0xcd, 0xab, 0x89, 0x67, 0x45, 0x23, 0x01 };
		static const uint8_t reference[] = {
			0x10, 0x32, 0x54, 0x76, 0x98, 0xba, 0xdc, 0xfe
		};
		uint32_t body = i == 0 ? 24 : 28;

		guest_open(&g);
		(void)guest_await(&g, 5);
		conf_poll_until(time_state(timesync).answered >= 4);
		assert_int_equal(time_state(timesync).sets, 1);
		assert_true(time_state(timesync).samples >= 3);
		assert_int_equal(time_state(timesync).last_100ns, 0x0123456789abcdef);
		if (i == 0)
			memcpy(expected + 8, reference, 8);
		for (uint32_t k = 1; k < 5; k++) {
			const struct conf_packet *p;

			conf_lock(w);
			p = g.c->packets[k];
			conf_unlock(w);
			expected[i == 0 ? 16 : 24] = k == 1 ? FLAG_SET : FLAG_SAMPLE;
			assert_int_equal(wire_get32(p->payload + 4), 20 + body);
			assert_int_equal(wire_get16(p->payload + GUEST_HEADER + 10), body);
			/* A transaction and a request. */
			assert_int_equal(p->payload[GUEST_HEADER + 17], 3);
			assert_memory_equal(p->payload + GUEST_BODY, expected, body);
		}
		guest_close(&g);
		timesync_destroy(timesync);
	}
}

static void
without_reference_counter_version_4_is_not_offered(struct conf_world *w)
{
	struct timesync_options options = { .period_ms = 1000000 };
	GUID instance = conf_new_guid();
	struct timesync *timesync = time_on(w, &instance, &options);
	struct ic_guest g = time_guest(w, &instance, GUEST_VERSION(4, 0));
	const struct conf_packet *p;
	struct timespec now;
	uint64_t before, after, told;

	g.versions[1] = GUEST_VERSION(3, 0);
	(void)clock_gettime(CLOCK_REALTIME, &now);
	before = EPOCH_100NS + (uint64_t)now.tv_sec * 10000000 + (uint64_t)now.tv_nsec / 100;
	guest_open(&g);
	p = guest_await(&g, 2);
	(void)clock_gettime(CLOCK_REALTIME, &now);
	after = EPOCH_100NS + (uint64_t)now.tv_sec * 10000000 + (uint64_t)now.tv_nsec / 100;
	assert_int_equal(g.version, GUEST_VERSION(3, 0));
	/* The host's clock, as it was then. */
	told = wire_get64(p->payload + GUEST_BODY);
	assert_in_range(told, before, after);
	assert_int_equal(flags_of(&g, p), FLAG_SET);
	guest_close(&g);
	timesync_destroy(timesync);
}

static void
clock_can_be_set_at_any_time(struct conf_world *w)
{
	struct clocks clocks = { .host = 1000, .reference = 1 };
	struct timesync_options options = { .period_ms = 1000000,
		                            .clock = read_clock,
		                            .reference = read_reference,
		                            .ctx = &clocks };
	GUID instance = conf_new_guid();
	struct timesync *timesync = time_on(w, &instance, &options);
	struct ic_guest g = time_guest(w, &instance, GUEST_VERSION(4, 0));
	const struct conf_packet *p;

	/* Nobody there: the guest that comes is told once. */
	timesync_set(timesync);
	timesync_set(timesync);
	guest_open(&g);
	conf_poll_until(time_state(timesync).answered == 1);
	assert_int_equal(time_state(timesync).sets, 1);
	for (uint32_t i = 2; i <= 4; i++) {
		atomic_store(&clocks.host, 1000u * i);
		timesync_set(timesync);
		p = guest_await(&g, i + 1);
		assert_int_equal(wire_get64(p->payload + GUEST_BODY), 1000 * i);
		assert_int_equal(flags_of(&g, p), FLAG_SET);
		conf_poll_until(time_state(timesync).answered == i);
	}
	/* Those asked for while one is under way are one, with the time at which it is sent. */
	atomic_store(&g.silent, true);
	timesync_set(timesync);
	(void)guest_await(&g, 6);
	timesync_set(timesync);
	timesync_set(timesync);
	atomic_store(&clocks.host, 77777);
	atomic_store(&g.silent, false);
	guest_answer_last(&g);
	p = guest_await(&g, 7);
	assert_int_equal(wire_get64(p->payload + GUEST_BODY), 77777);
	conf_poll_until(time_state(timesync).answered == 6);
	assert_int_equal(time_state(timesync).sets, 6);
	guest_close(&g);
	/* Another guest, or the same after its restart, is told again. */
	guest_open(&g);
	p = guest_await(&g, 2);
	assert_int_equal(flags_of(&g, p), FLAG_SET);
	guest_close(&g);
	timesync_destroy(timesync);
}

static void
set_that_was_not_answered_is_repeated_and_a_sample_is_not(struct conf_world *w)
{
	struct clocks clocks = { .host = 1, .reference = 1 };
	struct timesync_options options = { .ic = { .reply_ms = 20 },
		                            .period_ms = 1000000,
		                            .clock = read_clock,
		                            .reference = read_reference,
		                            .ctx = &clocks };
	GUID instance = conf_new_guid();
	struct timesync *timesync = time_on(w, &instance, &options);
	struct ic_guest g = time_guest(w, &instance, GUEST_VERSION(4, 0));

	/* It negotiates, and then falls silent. */
	atomic_store(&g.silent, true);
	guest_open(&g);
	(void)guest_await(&g, 1);
	guest_answer_last(&g);
	for (uint32_t i = 2; i < 5; i++)
		assert_int_equal(flags_of(&g, guest_await(&g, i)), FLAG_SET);
	assert_true(time_ic(timesync).timeouts >= 2);
	atomic_store(&g.silent, false);
	conf_poll_until(time_state(timesync).answered == 1);
	guest_close(&g);
	timesync_destroy(timesync);
}

static bool
alter_status(struct ic_guest *g, uint8_t *packet, uint32_t *bytes)
{
	(void)g, (void)bytes;
	if (packet[GUEST_HEADER + 4] == IC_TIMESYNC)
		wire_put32(packet + GUEST_HEADER + 12, IC_E_FAIL);
	return true;
}

static void
guest_that_fails_is_told_on(struct conf_world *w)
{
	struct timesync_options options = { .period_ms = 5 };
	GUID instance = conf_new_guid();
	struct timesync *timesync = time_on(w, &instance, &options);
	struct ic_guest g = time_guest(w, &instance, GUEST_VERSION(3, 0));

	g.alter = alter_status;
	guest_open(&g);
	(void)guest_await(&g, 6);
	assert_int_equal(time_state(timesync).answered, 0);
	assert_int_equal(time_ic(timesync).phase, IC_READY);
	guest_close(&g);
	timesync_destroy(timesync);
}

#define TEST(body) CONF_TEST(body, NULL, CONF_BUSES)

static const struct conf_test tests[] = {
	TEST(clock_is_set_once_and_then_sampled_in_every_version),
	TEST(without_reference_counter_version_4_is_not_offered),
	TEST(clock_can_be_set_at_any_time),
	TEST(set_that_was_not_answered_is_repeated_and_a_sample_is_not),
	TEST(guest_that_fails_is_told_on),
};

int
main(void)
{
	return CONF_RUN("timesync", tests);
}
