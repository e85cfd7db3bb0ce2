/* SPDX-License-Identifier: MIT */
/*
 * Life of a world: buses, locks, waits, and what must be back at its old value when the world ends.
 */
#include "world.h"

#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "nt/nt_misuse.h"
#include "nt/nt_pool.h"
#include "vmb/mem.h"

uint64_t
conf_now(void)
{
	struct timespec now;

	/* The system call itself: tests may put another clock under clock_gettime(). */
	(void)syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- waits ---------------------------------------------------------------------------------- */

void
conf_lock(struct conf_world *w)
{
	pthread_mutex_lock(&w->lock);
}

void
conf_unlock(struct conf_world *w)
{
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
}

static bool
limit_passed(int64_t *limit)
{
	int64_t now = (int64_t)conf_now();

	if (*limit == 0)
		*limit = now + CONF_LIMIT_SECONDS * INT64_C(1000000000);
	return now >= *limit;
}

void
conf_wait_locked(struct conf_world *w, int64_t *limit, const char *what, const char *file, int line)
{
	struct timespec until;

	if (limit_passed(limit)) {
		pthread_mutex_unlock(&w->lock);
		print_error("waited %d s for: %s\n", CONF_LIMIT_SECONDS, what);
		_fail(file, line);
	}
	until = (struct timespec){ *limit / 1000000000, *limit % 1000000000 };
	pthread_cond_timedwait(&w->changed, &w->lock, &until);
}

void
conf_yield(int64_t *limit, const char *what, const char *file, int line)
{
	if (limit_passed(limit)) {
		print_error("waited %d s for: %s\n", CONF_LIMIT_SECONDS, what);
		_fail(file, line);
	}
	sched_yield();
}

/* ---- what must not be left ------------------------------------------------------------------ */

static uint64_t
pins_now(void)
{
	struct vmb_arena_stats stats;

	vmb_arena_get_stats(vmb_arena_process(), &stats);
	return stats.pins;
}

/* The report is printed only when a test fails because of it. */
static uint64_t
blocks_now(FILE *out)
{
	FILE *null = out == NULL ? fopen("/dev/null", "w") : NULL;
	uint64_t blocks;

	assert_true(out != NULL || null != NULL);
	blocks = nt_pool_report_leaks(out != NULL ? out : null);
	if (null != NULL)
		fclose(null);
	return blocks;
}

uint64_t
conf_misuses(const struct conf_world *w)
{
	return nt_misuse_count() - w->misuses_before;
}

uint64_t
conf_pins(const struct conf_world *w)
{
	return pins_now() - w->pins_before;
}

void
conf_expect_misuses(struct conf_world *w, uint64_t count)
{
	w->expected_misuses += count;
}

GUID
conf_new_guid(void)
{
	GUID guid;

	assert_int_equal(getrandom(&guid, sizeof(guid), 0), sizeof(guid));
	return guid;
}

/* ---- life ----------------------------------------------------------------------------------- */

static void
make_unix_bus(struct conf_world *w)
{
	const char *parent = getenv("TMPDIR");

	(void)snprintf(w->directory, sizeof(w->directory), "%s/conf-XXXXXX",
	               parent != NULL && strlen(parent) < 40 ? parent : "/tmp");
	assert_non_null(mkdtemp(w->directory));
	(void)snprintf(w->path, sizeof(w->path), "%s/bus", w->directory);
	(void)snprintf(w->relay_path, sizeof(w->relay_path), "%s/relay", w->directory);
	assert_int_equal(kmcl_bus_listen(w->path, NULL, &w->host), VMB_OK);
}

static void
connect_guest(struct conf_world *w)
{
	assert_int_equal(kmcl_bus_connect(w->path, NULL, &w->guest), VMB_OK);
}

/* Returns when the relay knows what the host offers. */
static void
connect_guest_to_relay(struct conf_world *w)
{
	struct kmcl_share_stats stats;

	assert_int_equal(kmcl_bus_listen(w->relay_path, NULL, &w->relay), VMB_OK);
	assert_int_equal(kmcl_bus_share(w->relay, w->path, NULL), VMB_OK);
	assert_int_equal(kmcl_bus_connect(w->relay_path, NULL, &w->guest), VMB_OK);
	conf_poll_until((assert_int_equal(kmcl_bus_get_share_stats(w->relay, w->path, &stats), VMB_OK),
	                 stats.connections == 1));
}

void
conf_use_monitors(struct conf_world *w)
{
	struct kmcl_bus_options options = { .size = sizeof(options), .monitored_offers = true };

	kmcl_bus_close(w->guest);
	kmcl_bus_close(w->host);
	w->guest = w->host = NULL;
	assert_int_equal(kmcl_bus_listen(w->path, &options, &w->host), VMB_OK);
	assert_int_equal(kmcl_bus_connect(w->path, NULL, &w->guest), VMB_OK);
}

struct conf_world *
conf_world_new(enum conf_transport transport)
{
	struct conf_world *w = calloc(1, sizeof(*w));
	pthread_condattr_t attr;

	assert_non_null(w);
	/*
	 * A misuse must be counted here, whatever the environment says: tests commit some on
	 * purpose.
	 */
	nt_set_checked(false);
	w->transport = transport;
	w->type = conf_new_guid();
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&w->changed, &attr);
	pthread_condattr_destroy(&attr);
	assert_int_equal(kmcl_bus_loopback(transport == CONF_LOOPBACK ? &w->guest : NULL), VMB_OK);
	w->misuses_before = nt_misuse_count();
	w->pins_before = pins_now();
	w->blocks_before = blocks_now(NULL);
	if (transport == CONF_LOOPBACK)
		return w;
	make_unix_bus(w);
	if (getenv("KMCL_CONFORMANCE_RELAY") != NULL)
		connect_guest_to_relay(w);
	else
		connect_guest(w);
	return w;
}

void
conf_world_free(struct conf_world *w)
{
	uint64_t misuses, pins, blocks, expected = w->expected_misuses;

	/* A close waits for what either side still holds. */
	for (struct conf_channel *c = w->channels; c != NULL; c = c->next) {
		conf_answer_with(c, CONF_ECHO, NULL, 0);
		conf_complete_held(c);
	}
	/* Newest first: clients are made after their servers. */
	while (w->channels != NULL)
		conf_channel_free(w->channels);
	if (w->transport == CONF_UNIX) {
		/* A test may have closed one of them before. */
		if (w->guest != NULL)
			kmcl_bus_close(w->guest);
		if (w->relay != NULL)
			kmcl_bus_close(w->relay);
		if (w->host != NULL)
			kmcl_bus_close(w->host);
		(void)unlink(w->path);
		(void)rmdir(w->directory);
	}
	misuses = conf_misuses(w);
	pins = conf_pins(w);
	blocks = blocks_now(NULL);
	if (blocks != w->blocks_before)
		(void)blocks_now(stderr);
	blocks -= w->blocks_before;
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->lock);
	free(w);
	assert_int_equal(misuses, expected);
	assert_int_equal(pins, 0);
	assert_int_equal(blocks, 0);
}
