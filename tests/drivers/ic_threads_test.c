/* SPDX-License-Identifier: MIT */
/*
 * Everything at once: threads that ask every component for what they can, while guests open the channels, fall silent, and go.
 * Each request that was accepted ends exactly once.
 */
#include <initguid.h>

#include "heartbeat.h"
#include "kvp_daemon.h"
#include "shutdown.h"
#include "timesync.h"

#define ROUNDS 12u
#define THREADS 4u

struct all {
	struct conf_world *world;
	struct heartbeat *heartbeat;
	struct shutdown *shutdown;
	struct timesync *timesync;
	struct kvp *kvp;
	atomic_bool stop;
	atomic_uint_fast64_t accepted, ended, changes;
};

static VOID
shutdown_ended(VOID *ctx, NTSTATUS status, UINT32 guest_status)
{
	(void)status, (void)guest_status;
	atomic_fetch_add(&((struct all *)ctx)->ended, 1);
}

static VOID
kvp_ended(VOID *ctx, const struct kvp_result *result)
{
	(void)result;
	atomic_fetch_add(&((struct all *)ctx)->ended, 1);
}

static VOID
health_changed(VOID *ctx, const struct heartbeat_state *state)
{
	(void)state;
	atomic_fetch_add(&((struct all *)ctx)->changes, 1);
}

static VOID
ready_changed(VOID *ctx, BOOLEAN is_ready)
{
	(void)is_ready;
	atomic_fetch_add(&((struct all *)ctx)->changes, 1);
}

static void *
asker(void *ctx)
{
	const struct shutdown_request request = {
		.message = "soon", .reply_ms = 5, .done = shutdown_ended, .ctx = ctx
	};
	struct all *all = ctx;
	struct heartbeat_state beat;
	struct timesync_state time;
	struct kvp_state pairs;
	struct ic_state ic;

	for (uint32_t i = 0; !atomic_load(&all->stop); i++) {
		NTSTATUS status;

		if (NT_SUCCESS(shutdown_ask(all->shutdown, &request)))
			atomic_fetch_add(&all->accepted, 1);
		status = i % 3 == 0 ? kvp_set_u32(all->kvp, KVP_POOL_EXTERNAL, "key", i, kvp_ended,
		                                  all)
		         : i % 3 == 1
		                 ? kvp_get(all->kvp, KVP_POOL_EXTERNAL, "key", kvp_ended, all)
		                 : kvp_enumerate(all->kvp, KVP_POOL_EXTERNAL, 0, kvp_ended, all);
		if (NT_SUCCESS(status))
			atomic_fetch_add(&all->accepted, 1);
		timesync_set(all->timesync);
		heartbeat_query(all->heartbeat, &beat, &ic);
		timesync_query(all->timesync, &time, &ic);
		kvp_query(all->kvp, &pairs, &ic);
		shutdown_query(all->shutdown, &ic);
		sched_yield();
	}
	return NULL;
}

static void
serve_beat(struct ic_guest *g, uint8_t *packet, uint32_t bytes)
{
	(void)g, (void)bytes;
	wire_put64(packet + GUEST_BODY, wire_get64(packet + GUEST_BODY) + 1);
}

static struct ic_options
options_of(struct conf_world *w, const GUID *instance)
{
	struct ic_options options = guest_options(w, instance);

	options.reply_ms = 5;
	options.negotiate_ms = 10000;
	return options;
}

static void
requests_end_once_whatever_happens(struct conf_world *w)
{
	static const GUID *const types[4] = { &HEARTBEAT_INTERFACE_TYPE, &SHUTDOWN_INTERFACE_TYPE,
		                              &TIMESYNC_INTERFACE_TYPE, &KVP_INTERFACE_TYPE };
	static struct daemon d;
	struct all all = { .world = w };
	struct heartbeat_options heartbeat = { .period_ms = 1,
		                               .changed = health_changed,
		                               .ctx = &all };
	struct shutdown_options shutdown = { .ready = ready_changed, .ctx = &all };
	struct timesync_options timesync = { .period_ms = 1 };
	struct kvp_options kvp = { 0 };
	struct ic_guest guests[4];
	pthread_t threads[THREADS];
	GUID instances[4];

	for (uint32_t i = 0; i < 4; i++) {
		instances[i] = conf_new_guid();
		guests[i] = guest_new(w, types[i], &instances[i]);
	}
	guests[0].serve = serve_beat;
	guests[3].serve = daemon_serve;
	guests[3].ctx = &d;
	heartbeat.ic = options_of(w, &instances[0]);
	shutdown.ic = options_of(w, &instances[1]);
	timesync.ic = options_of(w, &instances[2]);
	kvp.ic = options_of(w, &instances[3]);
	assert_status(heartbeat_create(&heartbeat, &all.heartbeat), STATUS_SUCCESS);
	assert_status(shutdown_create(&shutdown, &all.shutdown), STATUS_SUCCESS);
	assert_status(timesync_create(&timesync, &all.timesync), STATUS_SUCCESS);
	assert_status(kvp_create(&kvp, &all.kvp), STATUS_SUCCESS);
	guest_options_done(&heartbeat.ic);
	guest_options_done(&shutdown.ic);
	guest_options_done(&timesync.ic);
	guest_options_done(&kvp.ic);
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, asker, &all), 0);
	for (uint32_t round = 0; round < ROUNDS; round++) {
		for (uint32_t i = 0; i < 4; i++) {
			atomic_store(&guests[i].silent, round % 4 == 3 && i % 2 == round / 4 % 2);
			guest_open(&guests[i]);
		}
		/* Something happens in each life, or it would show nothing. */
		for (uint32_t i = 0; i < 4; i++)
			(void)guest_await(&guests[i], atomic_load(&guests[i].silent) ? 1 : 5);
		for (uint32_t i = 4; i-- != 0;) {
			atomic_store(&guests[i].silent, round % 2 != 0);
			guest_close(&guests[i]);
		}
	}
	/* The end comes while a guest is there. */
	for (uint32_t i = 0; i < 4; i++) {
		atomic_store(&guests[i].silent, i % 2 == 0);
		guest_open(&guests[i]);
	}
	atomic_store(&all.stop, true);
	for (uint32_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(threads[i], NULL), 0);
	kvp_destroy(all.kvp);
	timesync_destroy(all.timesync);
	shutdown_destroy(all.shutdown);
	heartbeat_destroy(all.heartbeat);
	assert_true(atomic_load(&all.accepted) != 0);
	assert_true(atomic_load(&all.accepted) == atomic_load(&all.ended));
	assert_true(atomic_load(&all.changes) != 0);
	for (uint32_t i = 0; i < 4; i++)
		guest_close(&guests[i]);
}

static const struct conf_test tests[] = {
	CONF_TEST(requests_end_once_whatever_happens, NULL, CONF_BUSES),
};

int
main(void)
{
	return CONF_RUN("ic_threads", tests);
}
